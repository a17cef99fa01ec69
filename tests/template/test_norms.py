"""Norms fitted to observed counts."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from templates import rebuilt
from trials import RATIO

from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.errors import FitError, TemplateError
from cosi_linebkg_plugin.template import norms
from cosi_linebkg_plugin.template.norms import fit_component_norms, fit_poisson_norms

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def test_fit_norms_finds_components_and_sky(bright):
    t = bright.template(l_cut=4)
    result = t.fit_norms(bright.observed, sky=[bright.sky_in_range])
    assert result.labels == ("continuum", "lines", "sky_1")
    value, error = result["sky_1"]
    # the sky norm is biased by half a percent: 5 sigma of its own error allow for it
    assert abs(value - 1.0) < 5 * error and error < 0.02
    s = bright.simulation
    assert t.counts["continuum"] == pytest.approx(
        s.expected_continuum(*SOURCE_RANGE).sum(), rel=0.1
    )
    assert t.errors["lines"] == pytest.approx(result["lines"][1])
    total = np.asarray(t.histogram.contents).sum() + value * s.expected_sky(*SOURCE_RANGE).sum()
    assert total == pytest.approx(s.observed(*SOURCE_RANGE).sum(), rel=1e-6)


@pytest.mark.parametrize("mean", [500.0, 1000.0, 1700.0])
@pytest.mark.parametrize("error", [3.0, 30.0, 300.0])
def test_the_norm_of_one_component_is_the_root_of_its_quadratic(mean, error):
    """1 - n/a + (a - m)/s^2 = 0 of a thousand counts."""
    root = 0.5 * (mean - error**2 + np.sqrt((mean - error**2) ** 2 + 4.0 * 1000.0 * error**2))
    fit = fit_component_norms(
        np.full((1, 50), 20.0),
        {"b": np.ones((1, 50))},
        {"b": mean},
        np.array([[error**2]]),
        [],
        True,
    )
    deviation = (1000.0 / root**2 + error**-2) ** -0.5
    assert fit["b"] == pytest.approx((root, deviation), abs=1e-4 * deviation)


def test_a_constraint_keeps_the_norms_near_the_spectrums(bright):
    free, held = (
        bright.template(l_cut=4, line_ratio=RATIO),
        bright.template(l_cut=4, line_ratio=RATIO),
    )
    before, error = held.counts["continuum"], held.errors["continuum"]
    free.fit_norms(bright.observed, sky=[bright.sky_in_range])
    held.fit_norms(bright.observed, sky=[bright.sky_in_range], constrain=True)
    assert abs(held.counts["continuum"] - before) < 3 * error
    assert held.errors["continuum"] < free.errors["continuum"] / 2


def test_fitted_norms_no_longer_include_the_systematic_error(trial):
    given = trial.template(l_cut=4)
    t = rebuilt(given, record=replace(given.record, systematic_percent=3.0))
    assert "systematic error 3 %" in repr(t)
    t.fit_norms(trial.observed, constrain=True)
    assert "systematic" in repr(t)
    t.fit_norms(trial.observed)
    assert "systematic" not in repr(t)


def test_an_amount_without_an_error_stays_where_it_is(trial):
    given = trial.template(l_cut=4, line_ratio=RATIO)
    known = given.counts["continuum"]
    covariance = given.covariance.copy()
    covariance[0], covariance[:, 0] = 0.0, 0.0
    t = rebuilt(given, covariance=covariance)
    t.fit_norms(trial.observed, constrain=True)
    assert t.counts["continuum"] == pytest.approx(known, rel=1e-4)


def test_no_counts_have_no_norms(trial):
    t = trial.template(l_cut=4)
    with pytest.raises(TemplateError, match="counts are all 0"):
        t.fit_norms(trial.observed * 0)


def test_norms_are_fitted_to_observed_counts_on_the_way(bright):
    spectral = bright.template(l_cut=4)
    t = bright.template(l_cut=4, observed=bright.observed)
    assert t.counts["lines"] > 0 and np.isfinite(t.errors["lines"])
    # the spectrum's knowledge of the continuum holds it; what is left goes to the lines
    free = bright.template(l_cut=4)
    free.fit_norms(bright.observed)
    held, unheld = (x.counts["continuum"] - spectral.counts["continuum"] for x in (t, free))
    assert abs(held) < 0.2 * abs(unheld)
    assert "observed= without sky=" in " ".join(t.notes)


def test_norm_fit_pulls():
    rng = np.random.default_rng(5)
    shapes = rng.uniform(0.1, 1.0, (3, 2000))
    shapes /= shapes.sum(axis=1, keepdims=True)
    truth = np.array([20000.0, 5000.0, 9000.0])
    pulls = []
    for _ in range(200):
        fit = fit_poisson_norms(rng.poisson(truth @ shapes), shapes, "abc")
        pulls.append((fit.values - truth) / fit.errors)
    # 200 trials: mean within 4/sqrt(200), width within 4/sqrt(400) of 1: false alarm 4e-4
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 0.3)
    assert np.all(np.abs(np.std(pulls, axis=0) - 1) < 0.2)


def test_norm_fit_stays_at_zero():
    rng = np.random.default_rng(6)
    shapes = np.array([np.linspace(1, 2, 500), np.linspace(2, 1, 500)])
    fit = fit_poisson_norms(rng.poisson(5 * shapes[0] - 0.5 * shapes[1]), shapes, ["a", "b"])
    assert fit.values[1] == 0.0 and fit.values[0] > 0 and fit.errors[1] > 0.0


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e7, 1e12])
def test_norm_fit_does_not_mind_the_scale_of_a_template(scale):
    """It stopped at its start values, and said converged, for a sky map per unit flux."""
    rng = np.random.default_rng(8)
    shapes = rng.uniform(0.1, 1.0, (2, 500))
    shapes /= shapes.sum(axis=1, keepdims=True)
    counts = rng.poisson(3e5 * shapes[0] + 3e4 * shapes[1])
    reference = fit_poisson_norms(counts, shapes, "ab")
    fit = fit_poisson_norms(counts, [shapes[0], shapes[1] * scale], "ab")
    assert_allclose(fit.values * [1, scale], reference.values, rtol=1e-6)
    assert_allclose(fit.errors * [1, scale], reference.errors, rtol=1e-6)


def test_norm_fit_names_cells_without_a_template():
    with pytest.raises(TemplateError, match="2 cells with 7 observed counts hold 0 in every"):
        fit_poisson_norms([3.0, 4.0, 5.0], [[0.0, 0.0, 1.0]], ["a"])


def test_norms_that_do_not_settle_beside_amplitudes_are_no_result(monkeypatch):
    """The amplitudes' prior is relative to the lines' counts, which must be those of the fit."""
    rng = np.random.default_rng(3)
    maps = {"continuum": np.ones(40), "lines": np.linspace(0.5, 1.5, 40)}
    observed = rng.poisson(100.0 * maps["continuum"] + 50.0 * maps["lines"]).astype(float)
    counts, covariance = {"continuum": 4000.0, "lines": 2000.0}, np.diag([60.0, 200.0]) ** 2
    way = np.where(np.arange(40) % 2, 0.1, -0.1)

    def fitted():
        return fit_component_norms(observed, maps, counts, covariance, [], True, [way])

    assert fitted().labels[-1] == "lines_spread_1"
    calls = []

    def restless(*args, **options):
        calls.append(1)
        fit = fit_poisson_norms(*args, **options)
        return replace(fit, values=fit.values * (1.0 + len(calls) % 2))

    monkeypatch.setattr(norms, "fit_poisson_norms", restless)
    with pytest.raises(FitError, match="lines_spread_1 did not converge"):
        fitted()
