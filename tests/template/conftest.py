"""Data sets that the tests of templates share; they are not changed by them."""

import pytest
from trials import Trial


@pytest.fixture(scope="session")
def trial():
    return Trial(sky_counts=500.0)


@pytest.fixture(scope="session")
def bright():
    return Trial(sky_counts=35600.0)
