"""Counts of continuum and lines in the source range."""

from dataclasses import replace

import astropy.units as u
import histpy
import numpy as np
import pytest
from scipy import stats
from spectra import line_model, simulated_spectrum
from trials import RATIO

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, SOURCE_RANGE
from cosi_linebkg_plugin.errors import LineBackgroundWarning, TemplateError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.histograms.read import open_events
from cosi_linebkg_plugin.histograms.write import make_histogram
from cosi_linebkg_plugin.lines.faint import marginalise_faint
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.template.amounts import LineRatio, SourceAmounts, _propagated
from cosi_linebkg_plugin.template.build import make_template
from cosi_linebkg_plugin.template.options import TemplateOptions
from cosi_linebkg_plugin.template.plan import plan_for_fit

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


@pytest.mark.parametrize(("energy", "refused"), [(1805.5, True), (1806.5, False)])
def test_a_ratio_does_not_count_a_fitted_line_twice(energy, refused):
    """They are one line within half of what a fitted line may be from the energy that is named."""
    window = (1700.0, 1900.0)
    model = line_model([(1779.0, 3e4, window), (1803.0, 1e3, window)])
    theta = np.array([p.value for p in model.parameters])
    ratio = LineRatio(line=energy, tracer=1779.0, value=0.15)
    edges = np.arange(1600.0, 2001.0, 5.0)
    if refused:
        with pytest.raises(TemplateError, match="has one at 1803.00 keV already.*counted twice"):
            SourceAmounts(model, theta, edges, (1800.0, 1815.0), ratio)
    else:
        SourceAmounts(model, theta, edges, (1800.0, 1815.0), ratio)


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


#: Energies [keV] of lines of the catalogue in 1600-2000 keV, and a model without them.
FAINT = (1661.0, 1729.6, 1757.5, 1838.4, 1847.4, 1919.0)
SEEN = line_model([(1779.0, 3000.0, (1770.0, 1790.0))], k=200.0)
HERE = (1805.0, 1812.0)
EDGES = np.arange(1600.0, 2001.0, 5.0)


def faint_data(counts, seed, mask=((1790.0, 1825.0),)):
    """A spectrum with lines below detection of some counts."""
    there = [(e, n, (e - 4, e + 4)) for e, n in zip(FAINT, counts, strict=True)]
    truth = line_model([(1779.0, 3000.0, (1770.0, 1790.0)), *there], k=200.0)
    return simulated_spectrum(truth, EDGES, np.random.default_rng(seed), mask)


def amount(fit, method="sideband", bins=None, **options):
    """Counts of a template's first component, and their error."""
    axis = histpy.Axis(fit.spectrum.edges * u.keV, label="Em")
    events = open_events(make_histogram([axis], fit.spectrum.counts))
    if method != "components":
        options |= {"sidebands": ((1700.0, 1770.0), (1825.0, 1950.0))}
    chosen = TemplateOptions(method=method, energy_edges=bins, validate=False, **options)
    template = make_template(plan_for_fit(events, fit, HERE, chosen), fit)
    return template.counts[template.labels[0]], template.covariance[0, 0] ** 0.5, template


@pytest.mark.parametrize("method", ["sideband", "interpolated", "components"])
@pytest.mark.parametrize("bins", [None, (1805.0, 1808.0, 1812.0)])
def test_faint_lines_are_in_every_methods_amount_and_error(method, bins):
    plain = fit_spectrum(SEEN, faint_data([110.0] * 6, seed=8))
    assert not plain.systematic
    faint = marginalise_faint(plain, True, HERE)
    before, after = (fit.expected_counts(HERE) for fit in (plain, faint))
    assert after.values[0] < before.values[0] - 0.5 * before.errors[0]
    (count, error, _), (other, wider, template) = (amount(x, method, bins) for x in (plain, faint))
    assert other < count and wider > 1.02 * error
    if method == "sideband":  # whose own noise comes on top
        assert wider > after.total_error
        return
    assert (other, wider) == pytest.approx((after.values.sum(), after.total_error), rel=1e-3)
    if bins:
        part = faint.expected_counts((1805.0, 1808.0))
        found = [x[0] for x in template.energy_counts(template.labels[0])]
        assert found == pytest.approx([part.values.sum(), part.total_error], rel=1e-3)


def test_errors_through_a_fit_with_faint_lines():
    """Against matrices of all that varies: noise in each bin, and the faint lines' counts."""
    expected = line_model(
        [(1779.0, 3000.0, (1770.0, 1790.0)), (1838.4, 60.0, (1834.0, 1842.0))], k=200.0
    )
    counts = expected.bind(EDGES).counts(expected.values)
    data = EnergySpectrum(EDGES, counts).with_mask([(1790.0, 1825.0)])
    fit = marginalise_faint(fit_spectrum(SEEN, data), [], HERE)
    used, mu = data.used, fit.expected
    jac = np.where(used, fit.bin_jacobian[fit.columns], 0.0)
    n_faint = len(fit.model.faint)
    # a Gaussian prior of the posterior's mean that gives its covariance
    own = fit.covariance_parts[1].T @ jac
    precision = np.linalg.inv(fit.covariance[-n_faint:, -n_faint:]) - own / mu @ own.T
    source = SourceAmounts(fit.model, fit.theta, EDGES, HERE).counts_and_jacobian(fit.theta)
    source = source[1].sum(axis=0)
    direct = np.zeros((2, data.n_bins))
    direct[0, 46:49], direct[1, 25:28] = 0.3, 0.3  # around lines
    slope = source - direct @ fit.bin_jacobian.T
    found, response = _propagated(fit, slope, direct)
    estimate = direct + slope[:, fit.columns] @ fit.covariance @ (jac / mu)
    np.testing.assert_allclose(response, estimate, rtol=1e-6, atol=1e-12)
    off = estimate @ jac[-n_faint:].T - source[fit.columns][-n_faint:]
    true = (estimate * mu) @ estimate.T + off @ np.linalg.inv(precision) @ off.T
    # the fit's covariance is of the observed information
    np.testing.assert_allclose(found, true, rtol=0.02)


def test_no_variance_is_negative():
    """Where a line may as well be there as not its counts vary by more than noise alone."""
    fit = marginalise_faint(fit_spectrum(SEEN, faint_data([0, 200.0, 0, 0, 0, 0], 9)), [], HERE)
    noise, response, of_faint = fit.covariance_parts
    jac = fit.bin_jacobian[fit.columns]
    np.testing.assert_allclose(noise + response @ of_faint @ response.T, fit.covariance)
    own = np.where(fit.spectrum.used, response.T @ jac, 0.0)
    assert np.linalg.eigvals(of_faint @ (own / fit.expected) @ own.T).real.max() > 2.0
    for weights in own / fit.expected:
        direct = np.outer([-1.0, 1.0], weights)
        slope = np.outer([3.0, 0.5], -weights @ fit.bin_jacobian.T)
        assert np.linalg.eigvalsh(_propagated(fit, slope, direct)[0]).min() > -1e-9


def test_faint_lines_in_the_source_range_are_counted_to_the_continuum():
    """No line of the fit lends them a distribution, and none is missed."""
    alone = line_model([], k=200.0)
    rng = np.random.default_rng(6)
    data = simulated_spectrum(line_model([(1808.5, 60.0, HERE)], k=200.0), EDGES, rng)
    plain = fit_spectrum(alone, data)
    faint = marginalise_faint(plain, [1808.5], HERE)
    inside = faint.expected_counts(HERE)
    assert inside.labels == ("continuum", "lines") and inside.values[1] > 2.0
    counts, error, template = amount(faint, "components")
    assert template.labels == ("continuum",)
    assert (counts, error) == pytest.approx((inside.values.sum(), inside.total_error), rel=1e-6)
