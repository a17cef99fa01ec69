"""The source's own photons, taken out with sky=."""

from dataclasses import replace

import numpy as np
import pytest
from trials import RATIO

from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.histograms.axes import source_axis
from cosi_linebkg_plugin.histograms.write import make_histogram
from cosi_linebkg_plugin.lines.faint import marginalise_faint

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def test_sky_takes_the_sources_own_photons_out(bright):
    plain = bright.template(l_cut=4, line_ratio=RATIO)
    clean = bright.template(
        l_cut=4, line_ratio=RATIO, sky=(bright.sky, bright.sky_in_range), observed=bright.observed
    )
    norm, error = clean.record.sky_norm
    assert abs(norm - 1.0) < 5 * error
    # the spectrum without the degraded photons fits, and better than with them
    assert clean.fit.p_value > 1e-3
    assert clean.fit.deviance < plain.fit.deviance - 16
    assert clean.fit.offset.sum() == pytest.approx(
        norm * bright.simulation.expected_spectrum()["sky"].sum(), rel=1e-3
    )
    truth = bright.simulation.expected_continuum(*SOURCE_RANGE).sum()
    spectral = clean.fit.expected_counts(SOURCE_RANGE)
    assert abs(spectral.values[0] - truth) < 4.5 * spectral.errors[0]


def test_faint_lines_are_marginalised_beside_the_sky(bright):
    fit = marginalise_faint(bright.fit, True, SOURCE_RANGE)
    sky = dict(l_cut=4, sky=(bright.sky, bright.sky_in_range), observed=bright.observed)
    plain, clean = (
        bright.plugin.background_template(x, SOURCE_RANGE, line_ratio=RATIO, **sky)
        for x in (bright.fit, fit)
    )
    assert clean.fit.faint.lines == fit.faint.lines and clean.fit.offset is not None
    assert clean.fit.faint.after != fit.faint.after
    assert clean.record.sky_norm[0] == pytest.approx(plain.record.sky_norm[0], abs=0.01)


def test_a_line_ratio_counts_beside_sky(bright):
    """Two ratios give two amounts of lines, and what the fit knows goes with the template."""
    sky = dict(l_cut=4, sky=(bright.sky, bright.sky_in_range), observed=bright.observed)
    fit = replace(bright.fit, line_search={"lines": []})
    free, one, more = (
        bright.plugin.background_template(fit, SOURCE_RANGE, line_ratio=ratio, **sky)
        for ratio in (None, RATIO, RATIO | {"value": 0.3, "error": 1e-4})
    )
    assert one.errors["lines"] < free.errors["lines"]
    assert more.counts["lines"] > one.counts["lines"] + 3 * one.errors["lines"]
    assert one.fit.line_search == {"lines": []}


def test_a_template_without_its_sky_cannot_follow_a_spectrum_with_it(bright):
    t = bright.template(
        l_cut=4, line_ratio=RATIO, sky=(bright.sky, bright.sky_in_range), observed=bright.observed
    )
    with pytest.raises(TemplateError, match="made with sky= cannot follow"):
        t.component_mix(follow=bright.plugin)


def test_sky_alone_needs_a_source_range_on_bin_edges(bright):
    with pytest.raises(TemplateError, match="cuts through energy bins .* two histograms"):
        bright.template(sky=bright.sky, observed=bright.observed)
    edges = bright.fit.spectrum.edges
    low, high = edges[60], edges[62]
    axes = list(bright.events.axes)
    axes[0] = source_axis(axes[0], low, high)
    counts = np.asarray(bright.events.to_dense().contents)[60:62].sum(axis=0)
    observed = make_histogram(axes, counts[None])
    t = bright.plugin.background_template(
        bright.fit, (low, high), l_cut=4, sky=bright.sky, observed=observed
    )
    norm, error = t.record.sky_norm
    assert abs(norm - 1.0) < 5 * error and error < 0.02


def test_a_sky_map_per_unit_flux_gives_the_same(bright):
    options = dict(l_cut=4, observed=bright.observed)
    reference = bright.template(sky=(bright.sky, bright.sky_in_range), **options)
    scaled = bright.template(sky=(bright.sky * 1e6, bright.sky_in_range * 1e6), **options)
    assert scaled.record.sky_norm[0] * 1e6 == pytest.approx(reference.record.sky_norm[0], rel=1e-3)
    assert scaled.counts["continuum"] == pytest.approx(reference.counts["continuum"], rel=1e-3)


def test_sky_on_other_axes_is_refused(trial):
    with pytest.raises(TemplateError, match="sky= must have the events' own axes, Em, Phi, PsiChi"):
        trial.template(sky=trial.events.project(["Em", "Phi"]), observed=trial.observed)
