"""Templates that take the background apart: weights, amounts, norms, the source's own photons."""

import warnings
from dataclasses import replace

import astropy.units as u
import histpy
import numpy as np
import pytest
import sparse
import yaml
from numpy.testing import assert_allclose
from scipy import stats
from templates import rebuilt

from cosi_linebkg_plugin import BackgroundTemplate, LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import demo_config, resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, SOURCE_RANGE, simulate
from cosi_linebkg_plugin.errors import LineBackgroundWarning, TemplateError
from cosi_linebkg_plugin.histograms.axes import source_axis
from cosi_linebkg_plugin.histograms.read import open_events
from cosi_linebkg_plugin.histograms.write import make_histogram
from cosi_linebkg_plugin.show.template import plot_filter_scores, plot_weights
from cosi_linebkg_plugin.template.norms import fit_poisson_norms
from cosi_linebkg_plugin.template.options import TemplateOptions
from cosi_linebkg_plugin.template.plan import check_template
from cosi_linebkg_plugin.template.record import FilterScore
from cosi_linebkg_plugin.template.weights import component_weights

RATIO = {"line": 1808.65, "tracer": 1778.97, "value": DEMO_LINE_RATIO, "error": 0.015}

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


# --- weights -------------------------------------------------------------------------------------


def mixture(n_bins=60):
    """A falling continuum and two lines, expected counts per bin."""
    edges = np.linspace(1700.0, 1900.0, n_bins + 1)
    energies = 0.5 * (edges[1:] + edges[:-1])
    continuum = 5000.0 * (energies / 1800.0) ** -2.0 * np.diff(edges) / 5.0
    shape = [np.diff(stats.norm.cdf(edges, mu, 3.0)) for mu in (1764.0, 1779.0)]
    return edges, energies, np.array([continuum, 9000.0 * shape[0] + 20000.0 * shape[1]])


def test_weights_are_the_sweights_of_the_package_sweights():
    sweights = pytest.importorskip("sweights")
    _, energies, parts = mixture(400)
    norm = 1.0 / (1 / 1700.0 - 1 / 1900.0)

    def line(x):
        return (9.0 * stats.norm.pdf(x, 1764, 3) + 20.0 * stats.norm.pdf(x, 1779, 3)) / 29.0

    def continuum(x):
        return norm * np.asarray(x, dtype=float) ** -2.0

    def total(x):
        return (counts[0] * continuum(x) + counts[1] * line(x)) / counts.sum()

    counts = parts.sum(axis=1)
    cow = sweights.Cow((1700.0, 1900.0), line, continuum, total)
    ours = component_weights(
        parts, parts.sum(axis=0), energies, np.ones(energies.size, bool), 1808.5, order=0
    )
    # ours are per count of the component, theirs per event of the sample
    assert_allclose(ours[1] * counts[1], cow.get_weight(0, energies), rtol=2e-3, atol=2e-3)
    assert_allclose(ours[0] * counts[0], cow.get_weight(1, energies), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_weights_take_the_components_apart(order):
    _, energies, parts = mixture()
    selected = (energies < 1790) | (energies > 1825)
    w = component_weights(parts, parts.sum(axis=0), energies, selected, 1808.5, order)
    assert_allclose(w @ parts.T, np.eye(2), atol=1e-12)
    assert not w[:, ~selected].any()
    x = energies - 1808.5
    for power in range(1, order + 1):  # what changes with energy is 0 at the source energy
        assert_allclose(w @ (parts[0] * x**power), 0.0, atol=1e-9 * np.abs(x**power).max())


def test_weights_have_the_least_variance():
    _, energies, parts = mixture()
    total = parts.sum(axis=0)
    everything = np.ones(energies.size, bool)
    w = component_weights(parts, total, energies, everything, 1808.5, order=1)
    constraints = np.array([parts[0], parts[0] * (energies - 1808.5), parts[1]])
    for direction in np.linalg.svd(constraints)[2][3::7]:
        for row in w:
            assert np.sum((row + 1e-6 * direction) ** 2 * total) > np.sum(row**2 * total)


def test_too_few_bins_are_refused():
    _, energies, parts = mixture()
    few = (energies > 1840) & (energies < 1850)
    with pytest.raises(TemplateError, match="3 energy bins cannot tell apart 3 distributions"):
        component_weights(parts, parts.sum(axis=0), energies, few, 1808.5, 1)


# --- on the simulation ---------------------------------------------------------------------------


class Trial:
    """One simulated data set, fitted."""

    def __init__(self, seed=3, **options):
        self.simulation = simulate(seed, nside=4, **options)
        self.events = simulated_events(self.simulation)
        self.plugin = LineBackgroundLike("bkg", self.events)
        self.plugin.set_mask((1790, 1825))
        self.fit = self.plugin.fit(background_model(resolved_lines(), pivot=1800))

    def template(self, **options):
        return self.plugin.background_template(self.fit, SOURCE_RANGE, **options)

    def in_range(self, contents):
        axes = list(self.events.axes)
        axes[0] = source_axis(axes[0], *SOURCE_RANGE)
        return make_histogram(axes, contents[None])

    @property
    def observed(self):
        return self.in_range(self.simulation.observed(*SOURCE_RANGE))

    @property
    def sky_in_range(self):
        return self.in_range(self.simulation.expected_sky(*SOURCE_RANGE))

    @property
    def sky(self):
        return make_histogram(
            self.events.axes, np.array(list(self.simulation.expected_sky_slices()))
        )


@pytest.fixture(scope="module")
def trial():
    return Trial(sky_counts=500.0)


@pytest.fixture(scope="module")
def bright():
    return Trial(sky_counts=35600.0)


def chi2_per_bin(template, label, truth):
    counts, errors = template.project("Phi", label)
    truth = truth.sum(axis=-1) * counts.sum() / truth.sum()
    return np.mean((counts - truth) ** 2 / (errors**2 + truth))


def test_components_recover_counts_and_distributions(trial):
    t = trial.template(line_ratio=RATIO, l_cut=4)
    s = trial.simulation
    truth = {
        "continuum": s.expected_continuum(*SOURCE_RANGE),
        "lines": s.expected_lines(*SOURCE_RANGE),
    }
    for label, expected in truth.items():
        # 4.5 sigma for either of two numbers of one seeded data set: false alarm 1e-5
        assert abs(t.counts[label] - expected.sum()) < 4.5 * t.errors[label]
    assert chi2_per_bin(t, "continuum", truth["continuum"]) < 1.5
    assert chi2_per_bin(t, "lines", truth["lines"]) < 2.5
    wrong = trial.template(method="sideband", sidebands=[(1680, 1710), (1735, 1750), (1820, 1875)])
    total = truth["continuum"] + truth["lines"]
    assert chi2_per_bin(wrong, None, total) > 3 * chi2_per_bin(t, None, total)
    assert t.record.tracers and all(1700 < e < 1930 for e in t.record.tracers)


def test_order_and_window_change_the_weights(trial):
    a = trial.template(line_ratio=RATIO)
    assert a.sidebands[0][0] >= 1728 and a.sidebands[-1][1] <= 1889
    wide = trial.template(line_ratio=RATIO, window=(1670, 1960))
    assert wide.sidebands[0][0] < 1675
    assert not np.allclose(a.weights, trial.template(line_ratio=RATIO, order=0).weights)
    for t in (a, wide):
        assert np.all(t.weights[:, trial.fit.spectrum.mask] == 0)


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


def test_the_size_of_the_contamination_is_said(bright, trial):
    notes = " ".join(bright.template().notes)
    assert "the source's own photons; sky= takes them out" in notes
    assert "own photons" not in " ".join(trial.template(line_ratio=RATIO).notes)


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


def test_a_template_without_its_sky_cannot_follow_a_spectrum_with_it(bright):
    t = bright.template(
        l_cut=4, line_ratio=RATIO, sky=(bright.sky, bright.sky_in_range), observed=bright.observed
    )
    with pytest.raises(TemplateError, match="made with sky= cannot follow"):
        t.component_mix(follow=bright.plugin)


def test_observed_and_sky_are_checked_before_a_fit(trial):
    used = trial.fit.spectrum.used
    flat = histpy.Histogram(trial.events.axes[:2], np.ones((99, 60)))
    for options in ({"observed": flat}, {"observed": trial.observed, "sky": flat}):
        with pytest.raises(TemplateError, match="axes"):
            check_template(
                open_events(trial.events), used, SOURCE_RANGE, TemplateOptions(**options)
            )
    whole = TemplateOptions(sky=trial.sky, observed=trial.observed)
    with pytest.raises(TemplateError, match="cuts through energy bins"):
        check_template(open_events(trial.events), used, SOURCE_RANGE, whole)
    no_maps = trial.events.project("Em", "Phi")
    with pytest.raises(TemplateError, match="rebin_phi= works on PsiChi"):
        check_template(open_events(no_maps), used, SOURCE_RANGE, TemplateOptions(rebin_phi=5))


def test_split_gives_each_part_its_own_norm(trial):
    t = trial.template(line_ratio=RATIO, l_cut=4)
    parts = t.split("Phi", 20)
    assert parts.labels == tuple(
        f"{label}_phi_{i}" for label in ("continuum", "lines") for i in range(3)
    )
    assert sum(parts.counts.values()) == pytest.approx(sum(t.counts.values()))
    assert_allclose(
        np.asarray(parts.histogram.contents), np.asarray(t.histogram.contents), rtol=1e-10
    )
    # cutting alone teaches nothing about the sum
    assert parts.total_error == pytest.approx(t.total_error, rel=1e-9)
    again = parts.split("Phi", 10)
    assert len(again.labels) == 12
    assert sum(again.counts.values()) == pytest.approx(sum(t.counts.values()))
    unknown = trial.template(l_cut=4).split("Phi", 30)
    assert np.isinf(np.diag(unknown.covariance)).sum() == 2
    assert np.isinf(unknown.covariance).sum() == 2
    with pytest.raises(TemplateError, match="must be in one group"):
        t.split("Phi", [[0, 1], [3]])
    with pytest.raises(TemplateError, match="no axis 'Time'"):
        t.split("Time", 1)


def test_filters_keep_each_slices_total(trial):
    raw, smooth = (
        trial.template(line_ratio=RATIO),
        trial.template(line_ratio=RATIO, smoothing_fwhm=20),
    )
    for label in raw.labels:
        assert_allclose(smooth.project("Phi", label)[0], raw.project("Phi", label)[0], rtol=1e-10)
    for t in (raw, smooth):
        assert np.all(np.asarray(t.histogram.contents) > 0)


def test_auto_smoothing_beats_no_filter(trial):
    auto = trial.template(line_ratio=RATIO, smoothing="auto")
    raw = trial.template(line_ratio=RATIO)
    truth = trial.simulation.expected_background(*SOURCE_RANGE)

    def predictive(template):
        contents = np.asarray(template.histogram.contents)[0]
        pattern = contents / contents.sum(axis=-1, keepdims=True)
        return np.sum(truth * np.log(pattern))

    assert predictive(auto) > predictive(raw)
    scores = auto.record.filter_scores
    assert max(s.score for s in scores) > 0 and scores[0] == FilterScore("no filter", 0)
    best = max(scores, key=lambda s: s.score)
    assert auto.record.filter == best.filter
    (axes,) = plot_filter_scores(auto).axes
    assert [t.get_text() for t in axes.get_yticklabels()] == [s.filter for s in scores]
    assert axes.get_xlabel() == "gain in log-likelihood over no filter"
    assert_allclose(axes.get_ylim(), (-0.7, len(scores) - 0.3))
    bars = {round(b.get_y() + 0.35): b.get_width() for c in axes.containers for b in c}
    assert [bars[k] for k in sorted(bars, reverse=True)] == [s.score for s in scores]
    with pytest.raises(TemplateError, match="no filter scores"):
        plot_filter_scores(raw)


def test_figure_of_the_weights(trial):
    template = trial.template(line_ratio=RATIO)
    (axes,) = plot_weights(template).axes
    power = int(np.floor(np.log10(np.abs(template.weights).max())))
    edges = template.fit.spectrum.edges
    curves = [p for p in axes.patches if p.get_label() in template.labels]
    assert [p.get_label() for p in curves] == list(template.labels)
    for curve, weights in zip(curves, template.weights, strict=True):
        assert_allclose(curve.get_data().values * 10.0**power, weights, rtol=1e-12)
        assert_allclose(curve.get_data().edges, edges)
    assert axes.get_ylabel() == f"weight of a slice [$10^{{{power}}}$]"
    assert axes.get_xlabel() == "energy [keV]" and axes.get_xlim() == (edges[0], edges[-1])


def test_auto_smoothing_needs_whole_counts(trial):
    weighted = trial.events * 0.5
    plugin = LineBackgroundLike("bkg", weighted)
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    with pytest.raises(TemplateError, match="needs whole numbers"):
        plugin.background_template(fit, SOURCE_RANGE, smoothing="auto")


def test_file_round_trip_keeps_an_unknown_amount(trial, tmp_path):
    t = trial.template(smoothing="auto")
    t.write(tmp_path / "t.h5")
    back = BackgroundTemplate.open(tmp_path / "t.h5")
    assert back.record == t.record and back.notes == t.notes
    assert np.isinf(back.errors["lines"]) and back.counts == pytest.approx(t.counts)
    back.set_parameters(lines=1000.0)
    t.set_parameters(lines=1000.0)
    assert_allclose(np.asarray(back.histogram.contents), np.asarray(t.histogram.contents))


def test_more_axes_and_nested_pixels_give_the_same(trial):
    import healpy as hp

    reference = trial.template(line_ratio=RATIO, l_cut=4)
    dense = trial.events.to_dense().contents
    axes = list(trial.events.axes)
    nested = histpy.HealpixAxis(nside=4, scheme="nested", coordsys="galactic", label="PsiChi")
    scatt = histpy.Axis([0, 1, 2], label="ScAtt")
    order = hp.nest2ring(4, np.arange(192))
    twice = np.stack([dense[..., order]] * 2)
    events = histpy.Histogram(
        histpy.Axes([scatt, axes[0], axes[1], nested]), contents=sparse.COO(twice),
        track_overflow=False,
    )  # fmt: skip
    plugin = LineBackgroundLike("bkg", events)
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    t = plugin.background_template(fit, SOURCE_RANGE, line_ratio=RATIO, l_cut=4)
    got = np.asarray(t.histogram.contents)
    assert_allclose(got[0], got[1], rtol=1e-9)
    expected = np.asarray(reference.histogram.contents)[..., order]
    assert_allclose(got[0], expected, rtol=1e-3, atol=1e-3 * expected.mean())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(line_ratio={**RATIO, "tracer": 1700}), "no fitted line lies within"),
        (dict(line_ratio={"line": 1808.65}), "line_ratio takes"),
        (dict(line_ratio={**RATIO, "value": -1}), "value > 0"),
        (dict(tracers=[1855.0]), "tracers names a line at 1855 keV"),
        (dict(line_ratio=RATIO, window=(1820, 1885), tracers=[1779]), "lend them its distribution"),
        (dict(line_ratio={**RATIO, "line": 1908.65}), "falls into the source range"),
        (dict(line_ratio={**RATIO, "line": 1779.0, "tracer": 1764}), "counted twice|falls into"),
        (dict(pool=2), "groups the bins of a Time or of a ScAtt axis; the events have neither"),
        (dict(shift="no"), "shift must be True or False"),
        (dict(sidebands=5), "sidebands must be a list"),
        (dict(order=3), "order must be 0, 1 or 2"),
        (dict(smoothing="yes"), "smoothing must be 'auto'"),
        (dict(smoothing="auto", l_cut=3), "chooses the filter itself"),
        (dict(window=(1795, 1820)), "No unmasked energy bin of the window is left"),
        (dict(window=(1780, 1828.3)), "cannot tell apart"),
        (dict(sky=1), "needs observed="),
        (dict(l_cut=4, smoothing_fwhm=10.0), "l_cut"),
    ],
)  # fmt: skip
def test_refusals(trial, options, message):
    with pytest.raises(TemplateError, match=message):
        trial.template(**options)


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


def test_notes_follow_the_norms(bright):
    t = bright.template(l_cut=4)
    assert "not known" in " ".join(t.notes)
    t.fit_norms(bright.observed, sky=[bright.sky_in_range])
    assert "not known" not in " ".join(t.notes)


def test_sky_on_other_axes_is_refused(trial):
    with pytest.raises(TemplateError, match="sky= must have the events' own axes, Em, Phi, PsiChi"):
        trial.template(sky=trial.events.project(["Em", "Phi"]), observed=trial.observed)


# --- norms ---------------------------------------------------------------------------------------


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


# --- features that move with energy ---------------------------------------------------------------


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


def test_like_may_have_a_coarser_phi_axis(trial):
    import astropy.units as u

    t = trial.template(line_ratio=RATIO)
    axes = list(t.axes)
    axes[1] = histpy.Axis(np.linspace(0, 180, 31) * u.deg, label="Phi")
    like = histpy.Histogram(histpy.Axes(axes), track_overflow=False)
    coarse = trial.template(line_ratio=RATIO, like=like)
    fine = np.asarray(t.histogram.contents)
    assert_allclose(
        np.asarray(coarse.histogram.contents), fine.reshape(1, 30, 2, -1).sum(axis=2), rtol=1e-10
    )
    axes[1] = histpy.Axis(np.linspace(0, 180, 42) * u.deg, label="Phi")
    with pytest.raises(TemplateError, match="Axis Phi of the histogram given as like= differs"):
        trial.template(
            line_ratio=RATIO, like=histpy.Histogram(histpy.Axes(axes), track_overflow=False)
        )


# --- the real spectrum ----------------------------------------------------------------------------


def test_amounts_on_the_real_spectrum(shared_data):
    """DC3 spread evenly over six Phi bins: the parts of the source-range counts make sense."""
    import astropy.units as u
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


def notes_of(plugin, fit, source_range=SOURCE_RANGE, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LineBackgroundWarning)
        return " ".join(plugin.background_template(fit, source_range, **options).notes)


def test_a_source_range_that_was_fitted_is_said(bright):
    """Without a mask the source's photons are in the fit, and count as background."""
    open_plugin = LineBackgroundLike("bkg", bright.events)
    model = background_model([*resolved_lines(), 1808.65], pivot=1800)
    fit = open_plugin.fit(model)
    edges = fit.spectrum.edges
    inside = np.flatnonzero((edges[:-1] < SOURCE_RANGE[1]) & (edges[1:] > SOURCE_RANGE[0]))
    bins = f"{edges[inside[0]]:.6g}-{edges[inside[-1] + 1]:.6g} keV"
    for options in (
        dict(),
        dict(method="interpolated"),
        dict(method="sideband", sidebands=[(1820, 1875)]),
    ):
        assert f"includes the energy bins {bins} of" in notes_of(open_plugin, fit, **options)
    assert "includes the energy bins" not in notes_of(bright.plugin, bright.fit)
    # half of it masked: the other half is named
    open_plugin.set_mask((edges[inside[0]], edges[inside[1]]))
    fit = open_plugin.fit(model)
    rest = f"{edges[inside[1]]:.6g}-{edges[inside[-1] + 1]:.6g} keV"
    assert f"includes the energy bins {rest} of" in notes_of(open_plugin, fit)


@pytest.mark.parametrize(
    "source_range, window, said",
    [
        ((1150.0, 1164.0), (1100.0, 1220.0), "1173.23"),  # 44Ti beside 60Fe
        ((1166.0, 1180.0), (1100.0, 1340.0), "1157.02, 1274.54, 1332.49"),
        ((1325.0, 1340.0), (1290.0, 1380.0), None),  # its own line is none of its partners
        ((1200.0, 1210.0), (1190.0, 1240.0), None),
    ],
)
def test_a_sky_line_among_the_energies_used_is_said(source_range, window, said):
    edges = np.linspace(1050.0, 1450.0, 81)
    counts = np.round(np.linspace(9000.0, 7000.0, 80))
    events = make_histogram([histpy.Axis(edges * u.keV, label="Em")], counts)
    plugin = LineBackgroundLike("bkg", events)
    plugin.set_mask(source_range)
    fit = plugin.fit(background_model(pivot=1250))
    notes = notes_of(plugin, fit, source_range, window=window)
    assert ("looked for in the sky" in notes) == (said is not None)
    if said:
        assert f"hold {said} keV" in notes


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
        return np.sum(((counts - truth * counts.sum() / truth.sum()) / errors) ** 2)

    settings = yaml.safe_load(demo_config())["template"]
    assert chi2(window=settings["window"], shift=settings["shift"]) < 115
    assert chi2() > 300  # what features that move with energy do in the default window
