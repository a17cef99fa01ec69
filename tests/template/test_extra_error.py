"""The extra error that makes measurements agree: against a closed form, and over many draws."""

import math

import numpy as np
import pytest
from scipy.stats import chi2

from cosi_linebkg_plugin.template.extra_error import extra_error


def test_equal_variances_have_a_closed_form():
    r = np.array([3.0, -4.0, 1.0, 2.0])
    found = extra_error(r, np.full(4, 2.0), 10.0)
    # sum r^2 / (v + tau^2 s^2) = n
    assert found.value == pytest.approx(math.sqrt((30.0 / 4 - 2.0) / 100.0), rel=1e-6)
    quantile = chi2(4).ppf(0.8413447)
    assert found.low == pytest.approx(math.sqrt(max(30.0 / quantile - 2.0, 0.0) / 100.0), rel=1e-5)
    at_least = (30.0 / chi2(4).ppf(0.95) - 2.0) / 100.0
    assert found.least == pytest.approx(math.sqrt(at_least), rel=1e-5)
    assert extra_error(0.7 * r, np.full(4, 2.0), 10.0).least == 0.0  # 7.4, of four squares


def test_known_errors_that_are_enough_leave_nothing_but_a_limit():
    found = extra_error([0.1, -0.2, 0.1], [1.0, 1.0, 1.0], 5.0)
    assert found.value == found.low == 0.0
    # not below what residuals of just these errors give
    assert found.high == pytest.approx(extra_error([1.0, 1.0, 1.0], [1.0] * 3, 5.0).high)
    assert found.high > 0.1


def test_nothing_measured_has_no_limit():
    assert extra_error([], []).high == math.inf
    assert extra_error([1.0], [1.0], dof=0).high == math.inf


@pytest.mark.parametrize("tau", [0.0, 0.02, 0.1])
def test_it_is_recovered_and_its_limits_cover(tau):
    """2,000 sets of 12: the limits cover 68 %, or, for none, the upper one 84 % and more.

    A right coverage scatters by 1.04 %; 4.5 of that is a chance of 10^-5.
    """
    rng = np.random.default_rng(7)
    scale = rng.uniform(50, 200, 12)
    variances = scale * rng.uniform(0.5, 2.0, 12)
    draws = rng.normal(size=(2000, 12)) * np.sqrt(variances + (tau * scale) ** 2)
    found = [extra_error(r, variances, scale) for r in draws]
    squares = np.mean([f.value**2 for f in found])
    covered = np.mean([f.low <= tau <= f.high for f in found])
    # 95 %, with a scatter of 0.49 %
    assert np.mean([f.least <= tau for f in found]) == pytest.approx(0.95, abs=0.022)
    if tau == 0.1:  # well above the errors: unbiased
        assert squares == pytest.approx(tau**2, rel=0.2)
        assert abs(covered - 0.6827) < 0.047
    else:
        assert covered > 0.6827 - 0.047
