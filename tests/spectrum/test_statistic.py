"""Poisson statistics against scipy, and their limits."""

import mpmath as mp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from cosi_linebkg_plugin.spectrum import statistic
from cosi_linebkg_plugin.spectrum.kernels import FLOOR, half_deviances


def test_log_likelihood_is_scipys_poisson():
    rng = np.random.default_rng(1)
    expected = rng.uniform(0.1, 5e4, 200)
    counts = rng.poisson(expected)
    assert statistic.log_likelihood(counts, expected) == pytest.approx(
        stats.poisson.logpmf(counts, expected).sum(), rel=1e-12
    )


def test_deviance_is_twice_the_likelihood_ratio_to_the_saturated_model():
    rng = np.random.default_rng(2)
    expected = rng.uniform(0.5, 300, 50)
    counts = rng.poisson(expected)
    saturated = stats.poisson.logpmf(counts, counts).sum()
    ratio = saturated - stats.poisson.logpmf(counts, expected).sum()
    assert statistic.deviance(counts, expected) == pytest.approx(2 * ratio, rel=1e-10)
    residuals = statistic.deviance_residuals(counts, expected)
    assert np.sum(residuals**2) == pytest.approx(2 * ratio, rel=1e-10)
    assert np.array_equal(np.sign(residuals), np.sign(counts - expected))


def test_deviance_keeps_its_digits_where_model_and_data_agree():
    counts = np.full(10, 1e8)
    value = statistic.deviance(counts, counts + 1.0)
    assert_allclose(value, 10 * 1e-8, rtol=1e-6)


def _exact_half_deviance(n, e):
    n, e = mp.mpf(n), mp.mpf(e)
    return e - n + (n * mp.log(n / e) if n else 0)


@pytest.mark.parametrize("counts", [0.0, 0.3, 1.0, 7.0, 1e4, 123456789.0, 1e12])
def test_each_bin_agrees_with_mpmath(counts):
    """The statistic and its derivative, around the data, at zero counts and at the floor."""
    near = [10.0**-k for k in (14, 12, 9, 6, 4, 3, 2)]
    factors = [1 + s * x for x in (*near, 0.0999, 0.1001, 0.3, 0.499, 0.501, 0.9) for s in (1, -1)]
    factors += [1.0, 2.0, 1e3, 1e9, 1e-3, 1e-9, 1e-12]
    expected = np.maximum(np.array(factors) * (counts or 3.0), FLOOR)
    n, used = np.full(expected.size, counts), np.ones(expected.size, bool)
    got, slopes = half_deviances(n, expected), statistic.score_residual(n, used, expected)
    with mp.workdps(60):
        exact = [_exact_half_deviance(counts, e) for e in expected]
        exact_slopes = [1 - mp.mpf(counts) / mp.mpf(e) for e in expected]
        total = float(sum(exact))
    # the smallest are 1e-28 of the counts
    assert_allclose(got, [float(x) for x in exact], rtol=2e-15, atol=0)
    assert_allclose(slopes, [float(x) for x in exact_slopes], rtol=5e-16, atol=0)
    assert statistic.deviance(n, expected) == pytest.approx(2 * total, rel=1e-14, abs=0)
    residuals = statistic.deviance_residuals(n, expected)
    assert_allclose(residuals**2, [2 * float(x) for x in exact], rtol=1e-14, atol=0)


def test_nothing_expected_where_much_is_seen_stays_finite():
    """Once n is 1e16 times the floor, (e - n)/n rounds to -1, whose log1p is -inf."""
    exact = _exact_half_deviance(1e5, FLOOR)
    assert statistic.deviance([1e5], [0.0]) == pytest.approx(2 * float(exact), rel=1e-14)


def test_zero_counts_and_zero_expectation_stay_finite():
    assert statistic.deviance([0, 0], [2.0, 3.0]) == pytest.approx(10.0)
    assert np.isfinite(statistic.deviance([5.0], [0.0]))
    assert np.isfinite(statistic.deviance([5.0], [-3.0]))
    assert statistic.deviance([0.0], [0.0]) == pytest.approx(0.0, abs=1e-11)


def test_p_value_is_chi_square_only_where_it_holds():
    assert statistic.chi2_p_value(10.0, 10, np.full(12, 5.0)) == pytest.approx(
        stats.chi2.sf(10, 10)
    )
    assert statistic.chi2_p_value(10.0, 10, [4.9, 100.0]) is None
    assert statistic.chi2_p_value(10.0, 0, [100.0]) is None
