"""Posterior samples: what they predict, and how they are drawn."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from progress import Told
from spectra import line_model, simulated_spectrum

from cosi_linebkg_plugin.errors import DataError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.posterior import posterior_predictive
from cosi_linebkg_plugin.fit.toys import with_toys
from cosi_linebkg_plugin.show.posterior import plot_corner, plot_predictive
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

EDGES = np.linspace(1700.0, 1900.0, 61)
MASK = [(1800.0, 1820.0)]
SOURCE = (1805.0, 1812.0)
LINES = [(1764.0, 2000.0, (1755.0, 1772.0)), (1779.0, 6000.0, (1772.0, 1790.0))]


def sampled(model, spectrum):
    return fit_spectrum(model, spectrum).sample(seed=1)


@pytest.fixture(scope="module")
def spectrum():
    model = line_model(LINES, k=200.0)
    return simulated_spectrum(model, EDGES, np.random.default_rng(5), MASK)


@pytest.fixture(scope="module")
def right(spectrum):
    return sampled(line_model(LINES, k=200.0), spectrum)


@pytest.fixture(scope="module")
def wrong(spectrum):
    return sampled(line_model(LINES[1:], k=200.0), spectrum)


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


def test_long_work_tells_how_much_is_done(spectrum):
    fit = fit_spectrum(line_model(LINES, k=200.0), spectrum)
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
    best = fit_spectrum(line_model(LINES, k=200.0), spectrum)
    edges = np.linspace(1700.0, 1900.0, 31)
    coarse = EnergySpectrum(edges, spectrum.counts.reshape(30, 2).sum(axis=1)).with_mask(MASK)
    few_bins = fit_spectrum(line_model(LINES, k=200.0), coarse)
    for fit in (best, few_bins):
        posterior = fit.sample(seed=3)
        assert fit.adequacy.is_adequate() and posterior.adequacy.is_adequate()
        assert abs(posterior.adequacy.worst) < abs(fit.adequacy.worst) + 1.0


def test_a_fit_without_samples_is_refused(spectrum):
    fit = fit_spectrum(line_model(LINES, k=200.0), spectrum)
    for use in (
        lambda: fit.sampled_counts(SOURCE),
        lambda: posterior_predictive(fit),
        lambda: plot_corner(fit),
        lambda: plot_predictive(fit),
    ):
        with pytest.raises(DataError, match="no posterior samples: sample it with"):
            use()


def test_the_corner_shows_medians_and_marks(right, spectrum):
    best = fit_spectrum(line_model(LINES, k=200.0), spectrum)
    figure = plot_corner(right, source_range=SOURCE, reference=best)
    assert isinstance(figure, Figure) and len(figure.axes) == 16  # K, index, sigma, counts
    titles = [axes.get_title() for axes in figure.axes[::5]]
    assert [t.split("\n")[0] for t in titles] == ["K_1", "index_1", "sigma_2", "continuum"]
    for title, name in zip(titles, ("K_1", "index_1", "sigma_2"), strict=False):
        shown = float(title.split("$")[1].split("^")[0])
        assert shown == pytest.approx(right.values[name], abs=0.1 * right.errors[name])
    bottom = figure.axes[12:]
    assert bottom[0].get_xlabel() == "K_1 [1/keV]"
    marked = [line.get_xdata()[0] for line in figure.axes[0].lines]
    assert best.values["K_1"] in marked
    with pytest.raises(DataError, match="nonsense is no free parameter"):
        plot_corner(right, ["nonsense"])
    with pytest.raises(DataError, match="Nothing is left to draw"):
        plot_corner(right, [])
    assert len(plot_corner(right, ["K_1"]).axes) == 1
    with pytest.raises(DataError, match="n_samples must be 1 or more"):
        best.sample(n_samples=0)
    with pytest.raises(DataError, match="n_draws must be 1 or more"):
        posterior_predictive(right, n_draws=0)


def test_the_predictive_figure_shows_band_and_ranks(right):
    figure = plot_predictive(right, seed=3)
    upper, lower = figure.axes
    band = next(p for p in upper.patches if p.get_label().endswith("68.3 %"))
    inside = (band.get_data().baseline <= right.expected) & (
        right.expected <= band.get_data().values
    )
    assert inside.all()
    ranks = lower.lines[0].get_ydata()
    assert ranks.size == right.spectrum.used.sum() and ranks.min() >= 0 and ranks.max() <= 1
    assert abs(ranks.mean() - 0.5) < 4.5 * np.sqrt(1 / 12 / ranks.size)  # uniform
    assert lower.get_xlabel() == "energy [keV]"
