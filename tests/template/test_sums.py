"""Sums of slices whose features are moved along Phi."""

import numpy as np
import pytest
import yaml
from trials import RATIO

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import (
    compare_with_truth,
    demo_config,
    resolved_lines,
    simulated_events,
)
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE, simulate
from cosi_linebkg_plugin.show.template import plot_projection

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
