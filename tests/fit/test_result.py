"""LineBackgroundFit: frozen, with words, and written only where its numbers can be."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from fits import TWO_LINES

from cosi_linebkg_plugin.errors import DataError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.toys import with_toys


@pytest.fixture(scope="module")
def fit(two_lines):
    return fit_spectrum(TWO_LINES, two_lines)


def test_a_result_is_frozen_and_compares_by_identity(fit):
    """`==` of results that hold arrays raised."""
    with pytest.raises(FrozenInstanceError):
        fit.valid = False
    assert fit == fit and fit != replace(fit) and len({fit, replace(fit)}) == 2
    counts = fit.expected_counts((1600, 1700))
    assert counts == counts and fit.adequacy == fit.adequacy


def test_a_fit_far_from_the_data_is_not_written(fit):
    """It ended in json's own ValueError."""
    theta = fit.theta.copy()
    theta[fit.model.names.index("K_1")] = -1e300
    with np.errstate(all="ignore"), pytest.raises(DataError, match="holds infinite numbers"):
        replace(fit, theta=theta).to_json()


def test_toys_of_the_best_fit_are_not_those_of_a_posterior(fit):
    """The p-value of another deviance was kept."""
    toyed = with_toys(fit, 3, rng=1)
    sampled = toyed.sample(seed=1, n_samples=500)
    assert toyed.toys is not None and sampled.toys is None
    assert sampled.p_value == sampled.adequacy.deviance_p_value
