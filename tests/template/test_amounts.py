"""Counts of continuum and lines in the source range."""

from dataclasses import replace

import astropy.units as u
import histpy
import numpy as np
import pytest
from scipy import stats
from trials import RATIO

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, SOURCE_RANGE
from cosi_linebkg_plugin.errors import LineBackgroundWarning, TemplateError

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def test_an_unknown_amount_is_exported_free_with_a_warning(trial):
    with pytest.warns(LineBackgroundWarning, match="amount of lines in the masked"):
        t = trial.template()
    assert t.counts["lines"] == 0.0 and np.isinf(t.errors["lines"])
    assert np.asarray(t.components["lines"].contents).sum() == pytest.approx(1.0)


def test_line_ratio_amount_and_covariance(trial):
    t = trial.template(line_ratio=RATIO)
    p = trial.fit.parameters
    tracer = min((n for n in p if n.startswith("mu_")), key=lambda n: abs(p[n].value - 1778.97))
    f = p[tracer.replace("mu", "F")]
    share = np.diff(stats.norm.cdf(SOURCE_RANGE, 1808.65, p["sigma_2"].value))[0]
    assert t.counts["lines"] == pytest.approx(DEMO_LINE_RATIO * f.value * share, rel=1e-6)
    assert t.record.line_share == pytest.approx(share)
    expected = share * np.hypot(0.015 * f.value, DEMO_LINE_RATIO * f.error)
    assert t.errors["lines"] == pytest.approx(expected, rel=0.01)
    assert t.total_error < sum(t.errors.values())
    side = trial.template(method="sideband", sidebands=[(1820, 1875)], line_ratio=RATIO)
    total = sum(t.counts.values())
    assert side.counts["background"] == pytest.approx(total, rel=0.02)


def test_what_leaks_in_does_not_make_a_hidden_line_known(trial):
    """Tails of the fitted lines reach into the masked range: a count or so, and no knowledge."""
    plugin = LineBackgroundLike("tailed", trial.events)
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800, tail=True))
    theta = fit.theta.copy()
    slots = {p.name: i for i, p in enumerate(fit.model.parameters)}
    theta[slots["fraction_2"]], theta[slots["length_2"]] = 0.3, 30.0
    fit = replace(fit, theta=theta)
    t = plugin.background_template(fit, SOURCE_RANGE, l_cut=4)
    assert t.unknown == ("lines",) and np.isinf(t.errors["lines"])
    assert "amount of lines in the masked source range is not known" in " ".join(t.notes)
    mix = t.component_mix()
    norm = mix.parameters["norms_lines"]
    mix.constraint()
    assert norm.free
    reach = mix.counts["lines"] / norm.value * norm.max_value
    assert reach > trial.simulation.expected_lines(*SOURCE_RANGE).sum()
    free = t.fit_norms(trial.observed, constrain=True)
    assert free["lines"][0] > 1000.0  # the data decide
    with pytest.raises(TemplateError, match="nothing to constrain"):
        plugin.background_template(fit, SOURCE_RANGE, l_cut=4).norm_constraint()


@pytest.mark.parametrize("mask, known", [((1800, 1815), False), ((1805, 1810), True)])
def test_a_line_inside_the_mask_that_ends_at_its_limit_is_not_known(mask, known):
    """Its counts, 0, came with the error 0: known exactly, and without a word."""
    edges = np.arange(1600.0, 2001.0, 5.0)
    counts = 1000.0 + sum(
        area * np.diff(stats.norm.cdf(edges, energy, 3.0))
        for energy, area in ((1779.0, 3000.0), (1807.5, 3000.0))
    )
    if not known:  # what is seen of the line's wings is less than nothing
        counts[(edges[:-1] == 1795.0) | (edges[:-1] == 1815.0)] -= 60.0
    axes = [histpy.Axis(edges * u.keV, label="Em"), histpy.Axis([0, 180] * u.deg, label="Phi")]
    events = histpy.Histogram(histpy.Axes(axes), contents=np.round(counts)[:, None])
    plugin = LineBackgroundLike("hidden", events)
    plugin.set_mask(mask)
    fit = plugin.fit(background_model([1779, (1807.5, (1805, 1810))], pivot=1800))
    assert ("F_3" in fit.at_limits) != known
    template = plugin.background_template(fit, mask)
    said = "amount of lines in the masked source range is not known" in " ".join(template.notes)
    assert said != known
    assert np.isfinite(template.errors["lines"]) == known
    assert template.unknown == (() if known else ("lines",))
    assert (template.counts["lines"] > 500) == known


def test_amounts_on_the_real_spectrum(shared_data):
    """DC3 spread evenly over six Phi bins: the parts of the source-range counts make sense."""
    from spectra import dc3_spectrum

    spectrum = dc3_spectrum(shared_data)
    axes = [
        histpy.Axis(spectrum.edges * u.keV, label="Em"),
        histpy.Axis(np.linspace(0, 180, 7) * u.deg, label="Phi"),
    ]
    contents = np.repeat(spectrum.counts[:, None] / 6.0, 6, axis=1)
    events = histpy.Histogram(histpy.Axes(axes), contents=contents, track_overflow=False)
    plugin = LineBackgroundLike("bkg", events)
    plugin.set_mask((1790, 1825))
    lines = [1506, 1515, 1526, 1538, 1565, 1612, 1633, 1650, 1666, 1723, 1764, 1779, 1882, 1893,
             1904, 1920, 1928]  # fmt: skip
    fit = plugin.fit(background_model(lines, pivot=1800))
    t = plugin.background_template(fit, SOURCE_RANGE, line_ratio=RATIO)
    # the continuum in 7 of 5.05 keV of the bins beside the mask
    beside = spectrum.counts[(spectrum.edges[:-1] > 1828) & (spectrum.edges[1:] < 1860)].mean()
    falling = (1844.0 / 1808.5) ** 2  # with the fitted index
    assert t.counts["continuum"] == pytest.approx(beside * 7 / 5.05 * falling, rel=0.03)
    # 17 lines leave a scatter of 2.6 % in each bin, of which the source range holds 1.4
    assert t.record.systematic_percent == pytest.approx(2.6, abs=0.2)
    assert 0.015 < t.errors["continuum"] / t.counts["continuum"] < 0.026
    assert "systematic error 2.6 %" in repr(t) and "systematic error of 2.6 %" in " ".join(t.notes)
    # the ratio's 10.07 % dominates the line's error; the tracer's bins scatter too
    assert 3500 < t.counts["lines"] < 5000
    assert t.errors["lines"] / t.counts["lines"] == pytest.approx(0.1095, abs=0.003)
    # what is left of the peak is sky: far more than the background's error
    peak = spectrum.counts[(spectrum.edges[:-1] > 1802) & (spectrum.edges[1:] < 1816)].sum()
    assert peak - 14 / 7 * t.counts["continuum"] - t.counts["lines"] > 20 * t.total_error
