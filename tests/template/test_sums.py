"""Sums of slices whose features are moved along Phi."""

import astropy.units as u
import histpy
import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose, assert_array_equal
from trials import RATIO

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import (
    compare_with_truth,
    demo_config,
    resolved_lines,
    simulated_events,
)
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE, simulate
from cosi_linebkg_plugin.histograms.read import open_events
from cosi_linebkg_plugin.show.template import plot_projection
from cosi_linebkg_plugin.template.sums import sum_slices

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def test_shift_helps_sidebands_far_away_and_keeps_the_counts(trial):
    bands = dict(method="sideband", sidebands=[(1680, 1710), (1940, 1990)])
    plain, shifted = trial.template(**bands), trial.template(**bands, shift=True)
    truth = trial.simulation.expected_continuum(*SOURCE_RANGE)
    assert sum(shifted.counts.values()) == pytest.approx(sum(plain.counts.values()), rel=1e-12)
    assert chi2_per_bin(shifted, None, truth) < 0.9 * chi2_per_bin(plain, None, truth)
    for angle in (73.6, 27.3):  # where the 511 keV features are at the source energy
        phi = int(angle // 3)
        expected = truth.sum(axis=-1)[phi] / truth.sum()
        at = [t.project("Phi")[0][phi] / t.project("Phi")[0].sum() for t in (plain, shifted)]
        assert abs(at[1] - expected) < abs(at[0] - expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_moved_sums_are_those_of_the_formula(weighted):
    """Counts are their own variances; weighted histograms bring theirs, which move as well."""
    rng = np.random.default_rng(4)
    counts, sumw2 = rng.poisson(5.0, (2, 4, 6, 12)).astype(float)
    edges = np.arange(1600.0, 1621.0, 5.0), np.radians(np.arange(0.0, 37.0, 6.0))
    axes = histpy.Axes(
        [
            histpy.Axis(edges[0] * u.keV, label="Em"),
            histpy.Axis(edges[1] * u.rad, label="Phi"),
            histpy.HealpixAxis(nside=1, scheme="ring", label="PsiChi"),
        ]
    )
    given = {"sumw2": histpy.Histogram(axes, contents=sumw2)} if weighted else {}
    events = open_events(histpy.Histogram(axes, contents=counts, **given))
    weights = np.array([[0.5, 0.0, -1.0, 2.0], [1.0, 0.0, 1.0, 0.25]])
    shifts = {2: rng.uniform(0.0, 1.0, (6, 6)), 3: np.eye(6)[::-1]}
    moves = np.stack([shifts.get(e, np.eye(6)) for e in range(4)])
    sums, variances, products = sum_slices(events, weights, shifts, [(0, 1)])
    noise = sumw2 if weighted else counts
    assert_allclose(sums, np.einsum("ke,epq,eqx->kpx", weights, moves, counts), atol=1e-12)
    assert_allclose(variances, np.einsum("ke,epq,eqx->kpx", weights**2, moves, noise), atol=1e-12)
    both = np.einsum("e,epq,eqx->px", weights[0] * weights[1], moves, noise)
    assert_allclose(products[0], both, rtol=1e-5, atol=1e-5)
    assert_array_equal(events.counts_along("Phi"), counts.sum(axis=2).T)
    own, noise = events.energy_slice(2)
    assert (own is noise) is not weighted  # Poisson counts are their own variances


def test_the_demos_template_has_the_right_phi_distribution():
    """Against the noiseless truth, with the template's own error: 60 bins, 5 sigma allow 115."""
    simulation = simulate(1, nside=1)
    plugin = LineBackgroundLike("bkg", simulated_events(simulation))
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    truth = simulation.expected_background(*SOURCE_RANGE).sum(axis=-1)

    def chi2(**options):
        template = plugin.background_template(fit, SOURCE_RANGE, line_ratio=RATIO, **options)
        counts, errors = template.project("Phi")
        value = np.sum(((counts - truth * counts.sum() / truth.sum()) / errors) ** 2)
        row = compare_with_truth(template, simulation)  # what table and figure show is the same
        assert row["phi_chi2_per_bin"] == pytest.approx(value / counts.size)
        figure = plot_projection(template, "Phi", truth=truth)
        texts = [t.get_text() for ax in figure.axes for t in ax.get_legend().get_texts()]
        assert any(t.endswith(f"= {value:.1f} / {counts.size}") for t in texts)
        return value

    settings = yaml.safe_load(demo_config())["template"]
    assert chi2(window=settings["window"], shift=settings["shift"]) < 115
    assert chi2() > 300  # what features that move with energy do in the default window


def chi2_per_bin(template, label, truth):
    counts, errors = template.project("Phi", label)
    truth = truth.sum(axis=-1) * counts.sum() / truth.sum()
    return np.mean((counts - truth) ** 2 / (errors**2 + truth))
