"""Posterior samples: what they predict, and how they are drawn."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from posteriors import (
    LINES,
    MASK,
    SOURCE,
    best_fit,
    drawn_spectrum,
    right_posterior,
    wrong_posterior,
)
from progress import Told
from spectra import line_model

from cosi_linebkg_plugin.errors import DataError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.posterior import posterior_predictive
from cosi_linebkg_plugin.fit.toys import with_toys
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum


@pytest.fixture(scope="module")
def spectrum():
    return drawn_spectrum()


@pytest.fixture(scope="module")
def right():
    return right_posterior()


@pytest.fixture(scope="module")
def wrong():
    return wrong_posterior()


def test_predicted_spectra_have_the_spread_of_parameters_and_counts(right):
    predictive = posterior_predictive(right, n_draws=1000, seed=2)
    assert predictive.counts.shape == (1000, 60)
    mean, variance = predictive.counts.mean(axis=0), predictive.counts.var(axis=0)
    # errors of mean and variance over 1000 draws: 60 bins at 4.5 sigma, false alarm 4e-4 each
    assert np.all(np.abs(mean - right.expected) < 4.5 * np.sqrt(variance / 1000) + 0.02 * mean**0.5)
    ratio = variance / right.expected
    assert np.all(ratio > 1 - 4.5 * np.sqrt(2 / 1000))
    assert ratio.mean() > 1.02  # the parameters' own part


def test_the_predictive_p_value_tells_a_wrong_model(right, wrong):
    assert 0.01 < posterior_predictive(right, seed=1).p_value < 0.99
    assert posterior_predictive(wrong, seed=1).p_value < 1e-3


def test_counts_of_samples_are_those_of_the_fit(right):
    draws = right.sampled_counts(SOURCE)
    expected = right.expected_counts(SOURCE)
    assert draws.shape == (len(right.thinned_samples()), 2)
    assert_allclose(draws.mean(axis=0), expected.values)
    assert_allclose(np.cov(draws.T), expected.covariance)
    by_line = right.sampled_counts(SOURCE, by="component")
    assert_allclose(by_line[:, 1:].sum(axis=1), draws[:, 1])


def test_long_work_tells_how_much_is_done():
    fit = best_fit()
    toys, steps = Told(), Told()
    with_toys(fit, 5, rng=1, progress=toys)
    assert toys.counts == [(i, 5) for i in range(1, 6)] and toys.what == {"toys"}
    fit.sample(seed=1, progress=steps)
    assert steps.what == {"steps"}
    steps = steps.counts
    assert steps and all(done % 1000 == 0 and done <= total for done, total in steps)
    assert steps[-1][0] == steps[-1][1]


def test_a_posterior_is_judged_like_the_best_fit(right, spectrum):
    """Where a line's parameters follow its bins, a shift by part of an error is no residual."""
    best = best_fit()
    edges = np.linspace(1700.0, 1900.0, 31)
    coarse = EnergySpectrum(edges, spectrum.counts.reshape(30, 2).sum(axis=1)).with_mask(MASK)
    few_bins = fit_spectrum(line_model(LINES, k=200.0), coarse)
    for fit in (best, few_bins):
        posterior = fit.sample(seed=3)
        assert fit.adequacy.is_adequate() and posterior.adequacy.is_adequate()
        assert abs(posterior.adequacy.worst) < abs(fit.adequacy.worst) + 1.0


def test_a_fit_without_samples_is_refused():
    fit = best_fit()
    for use in (
        lambda: fit.sampled_counts(SOURCE),
        lambda: posterior_predictive(fit),
    ):
        with pytest.raises(DataError, match="no posterior samples: sample it with"):
            use()


def test_numbers_of_draws_are_checked(right):
    with pytest.raises(DataError, match="n_samples must be 1 or more"):
        best_fit().sample(n_samples=0)
    with pytest.raises(DataError, match="n_draws must be 1 or more"):
        posterior_predictive(right, n_draws=0)
