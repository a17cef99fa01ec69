"""What the tests of fits share."""

import numpy as np
import pytest
from fits import EDGES, TWO_LINES
from spectra import simulated_spectrum


@pytest.fixture(scope="session")
def two_lines():
    """A power law and two lines, with a mask beside them."""
    return simulated_spectrum(TWO_LINES, EDGES, np.random.default_rng(11), [(1790.0, 1825.0)])
