"""The fitted spectrum: what is drawn is what was fitted."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from figures import BANDS, EDGES, MODEL, SOURCE, bare_fit, curve, legend, spans
from numpy.testing import assert_allclose, assert_array_equal
from spectra import line_model, simulated_spectrum

from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.show.figure import LABEL_SIZE, save_figure
from cosi_linebkg_plugin.show.spectrum import isotope_label, plot_spectrum
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.components import SpectralModel
from cosi_linebkg_plugin.spectrum.statistic import deviance_residuals

pytestmark = pytest.mark.usefixtures("no_warnings")


def test_spectrum_shows_data_model_and_components(fit):
    figure = plot_spectrum(fit)
    upper, _ = figure.axes
    assert_allclose(curve(upper, "data"), fit.spectrum.counts)
    assert_allclose(curve(upper, "model"), fit.expected)
    assert_allclose(curve(upper, "continuum"), fit.component_spectra[0])
    lines = next(p for p in upper.patches if p.get_label() == "lines (energies in keV)").get_data()
    assert_allclose(lines.values - lines.baseline, fit.component_spectra[1:].sum(axis=0), atol=1e-9)
    assert legend(upper) == [
        "data", "model", "its error (1 σ)", "lines (energies in keV)", "continuum", "masked"
    ]  # fmt: skip
    assert figure.axes[1].get_title(loc="right") == "hollow: masked; triangles: beyond the axis"
    assert upper.get_ylabel() == "counts per 5 keV bin"
    assert upper.get_xlim() == (1600.0, 1900.0)
    low, high = upper.get_ylim()
    assert low == 0 and high > fit.spectrum.counts.max()


def test_the_band_is_the_error_of_the_model(fit):
    upper, lower = plot_spectrum(fit).axes
    band = next(p for p in upper.patches if p.get_label().startswith("its error")).get_data()
    half = 0.5 * (band.values - band.baseline)
    assert_allclose(0.5 * (band.values + band.baseline), fit.expected)
    for i in (3, 40):  # by the errors of expected counts, which know nothing of this figure
        counts = fit.expected_counts((EDGES[i], EDGES[i + 1]))
        assert half[i] == pytest.approx(counts.total_error, rel=1e-6)
    shares = next(p.get_data() for p in lower.patches if hasattr(p, "get_data"))
    assert_allclose(shares.values, half / np.sqrt(fit.expected))


def test_a_zero_that_is_left_out_is_marked():
    edges = np.linspace(1600.0, 1900.0, 61)
    flat = simulated_spectrum(line_model([], k=2e4), edges, np.random.default_rng(5))
    upper, _ = plot_spectrum(fit_spectrum(line_model([], k=2e4), flat)).axes
    assert upper.get_ylim()[0] > 0
    assert upper.get_ylabel() == "counts per 5 keV bin, zero suppressed"


def test_a_known_source_is_part_of_the_model(fit):
    """The model was drawn without it, far below the data that it was fitted to."""
    offset = 500.0 * np.exp(-0.5 * ((fit.spectrum.centers - 1700.0) / 5.0) ** 2)
    spectrum = replace(fit.spectrum, counts=fit.spectrum.counts + np.round(offset))
    with_source = fit_spectrum(MODEL, spectrum, offset=offset)
    upper, _ = plot_spectrum(with_source).axes
    assert_allclose(curve(upper, "model"), with_source.expected + offset)
    area = next(p for p in upper.patches if p.get_label() == "known source").get_data()
    assert_allclose(area.values - area.baseline, offset, atol=1e-9)


def test_spectrum_residuals_are_signed_deviances_and_masked_bins_hollow(fit):
    lower = plot_spectrum(fit).axes[1]
    residuals = deviance_residuals(fit.spectrum.counts, fit.expected)
    pulls = fit.adequacy.residuals
    filled, hollow = (line for line in lower.lines if line.get_marker() == "o")
    assert_array_equal(filled.get_xdata(), fit.spectrum.centers[fit.spectrum.used])
    # one definition for figure, summary and report: over what the fit leaves of a bin's noise
    assert_allclose(filled.get_ydata(), pulls[fit.spectrum.used])
    assert np.abs(filled.get_ydata()).max() == abs(fit.adequacy.worst)
    shown = residuals[fit.spectrum.mask]
    assert_allclose(hollow.get_ydata(), shown)
    assert_array_equal(hollow.get_xdata(), fit.spectrum.centers[fit.spectrum.mask])
    assert hollow.get_markerfacecolor() == "white" != filled.get_markerfacecolor()
    assert lower.get_xlabel() == "energy [keV]"
    assert lower.get_ylabel() == "residual [σ]"


def test_ranges_come_from_the_template_unless_named(fit, template):
    upper, lower = plot_spectrum(fit, template=template).axes
    for axes in (upper, lower):
        assert_allclose(spans(axes, "masked"), fit.mask)
        assert_allclose(spans(axes, "source range"), [SOURCE])
    assert_allclose(spans(upper, "energies used"), BANDS)
    figure = plot_spectrum(
        fit, template=template, source_range=(1.8, 1.81) * u.MeV, sidebands=[(1610, 1620)]
    )
    assert_allclose(spans(figure.axes[0], "source range"), [(1800.0, 1810.0)])
    assert_allclose(spans(figure.axes[0], "sidebands"), [(1610.0, 1620.0)])


def test_unequal_bins_are_drawn_per_kev():
    edges = np.array([1600.0, 1601.0, 1604.0, 1610.0])
    upper = plot_spectrum(bare_fit([5.0, 9.0, 12.0], edges)).axes[0]
    assert upper.get_ylabel() == "counts / keV"
    assert_allclose(curve(upper, "data"), [5.0, 3.0, 2.0])


def test_error_bars_are_the_central_poisson_interval():
    # Garwood intervals at 68.27 % for n = 0, 1, 5: Gehrels 1986 (ApJ 303, 336), Tables 1 and 2;
    # at n = 0 its one-sided 84.13 % upper limit.
    upper = plot_spectrum(bare_fit([0.0, 1.0, 5.0], [1600.0, 1605.0, 1610.0, 1615.0])).axes[0]
    segments = upper.collections[0].get_segments()
    assert_allclose([s[0, 1] for s in segments], [0.0, 0.173, 2.840], atol=1e-3)
    assert_allclose([s[1, 1] for s in segments], [1.841, 3.300, 8.382], atol=1e-3)


def test_strong_lines_are_labelled_weak_ones_are_not(fit):
    lines = [(1666.0, 9e3, (1656.0, 1676.0)), (1850.0, 1.0, (1840.0, 1860.0))]
    upper = plot_spectrum(bare_fit(fit.spectrum.counts, EDGES, line_model(lines))).axes[0]
    assert [text.get_text() for text in upper.texts] == ["1666.0"]


def test_lines_that_the_catalogue_knows_are_named(fit):
    lines = [(energy, 9e3, (energy - 5, energy + 5)) for energy in (1666.0, 1764.2, 1779.0, 1565.3)]
    named = bare_fit(fit.spectrum.counts, EDGES, line_model(lines))
    texts = [text.get_text() for text in plot_spectrum(named).axes[0].texts]
    # 205Bi or 214Bi: nothing in the window tells them apart
    al, bi = "²⁸Al 1779.0", "? 1764.2"
    assert texts[-3:] == ["1666.0", bi, al]
    texts = [text.get_text() for text in plot_spectrum(named, names=False).axes[0].texts]
    assert texts[-3:] == ["1666.0", "1764.2", "1779.0"]


def test_isotopes_are_written_as_such():
    names = ["24mNa", "206Bi?", "e+e-", ""]
    assert [isotope_label(name) for name in names] == [
        "²⁴ᵐNa ", "²⁰⁶Bi? ", "e⁺e⁻ ", ""
    ]  # fmt: skip


@pytest.mark.parametrize("named", [True, False])
def test_labels_stay_above_the_data(fit, named):
    energies = [1764.3, 1778.99] if named else [1800.0]
    lines = [(energy, 9e3, (energy - 5, energy + 5)) for energy in energies]
    figure = plot_spectrum(bare_fit(fit.spectrum.counts, EDGES, line_model(lines)))
    figure.canvas.draw()
    upper = figure.axes[0]
    top = upper.transData.transform((0.0, fit.spectrum.counts.max()))[1]
    for text in upper.texts:
        assert text.get_text()
        assert top < text.get_window_extent().y0 and text.get_window_extent().y1 < upper.bbox.y1


def test_labels_of_crowded_lines_do_not_overlap():
    energies = np.arange(1601.0, 1899.0, 4.0)
    model = line_model([(e, 1e4, (e - 1, e + 1)) for e in energies])
    figure = plot_spectrum(bare_fit(np.full(60, 2e4), EDGES, model))
    figure.canvas.draw()
    upper = figure.axes[0]
    places = upper.transData.transform([(text.xyann[0], 0.0) for text in upper.texts])[:, 0]
    width = LABEL_SIZE / 72.0 * figure.dpi  # of an upright label
    assert 20 < places.size < energies.size  # as many as fit
    assert np.all(np.diff(places) >= width)
    frame = upper.get_window_extent()
    assert frame.x0 + width / 2 <= places[0] and places[-1] <= frame.x1 - width / 2


def test_masked_bins_far_off_do_not_set_the_scale(fit):
    counts = fit.spectrum.counts.copy()
    counts[fit.spectrum.mask] *= 50.0
    spectrum = EnergySpectrum(EDGES, counts, fit.spectrum.mask)
    far = LineBackgroundFit(fit.model, spectrum, fit.theta, (), np.zeros((0, 0)))
    lower = plot_spectrum(far).axes[1]
    assert lower.get_ylim()[1] < 6.0
    triangles = next(line for line in lower.lines if line.get_marker() == "^")
    assert_array_equal(triangles.get_xdata(), spectrum.centers[spectrum.mask])
    assert np.all(np.abs(triangles.get_ydata()) < lower.get_ylim()[1])


@pytest.mark.parametrize(
    ("counts", "edges"),
    [(np.zeros(4), np.linspace(1600, 1620, 5)), ([3.0], [1600.0, 1605.0]), ([0.0], [1.0, 2.0])],
)
def test_empty_and_single_bins_draw_without_warnings(counts, edges, tmp_path):
    figure = plot_spectrum(bare_fit(counts, edges))
    save_figure(figure, tmp_path / "figure.png")
    assert np.all(np.isfinite([axes.get_ylim() for axes in figure.axes]))


def test_lines_without_a_continuum_can_be_drawn(fit):
    model = SpectralModel(MODEL.parameters, MODEL.components[1:], MODEL.links)
    upper = plot_spectrum(bare_fit(fit.spectrum.counts, EDGES, model)).axes[0]
    assert_array_equal(curve(upper, "continuum"), np.zeros(60))


def test_labels_move_apart_as_little_as_the_pool_of_violators_allows():
    from scipy.optimize import isotonic_regression

    from cosi_linebkg_plugin.show.spectrum import _rising

    rng = np.random.default_rng(7)
    for n in (1, 2, 5, 40):
        values = rng.normal(0.1 * np.arange(n), 1.0)
        np.testing.assert_allclose(_rising(values), isotonic_regression(values).x, atol=1e-12)
