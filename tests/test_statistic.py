"""Poisson statistics against scipy, and their limits."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from cosi_linebkg_plugin import statistic


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
