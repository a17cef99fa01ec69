"""Distributions of the components' energies in the source range."""

import astropy.units as u
import histpy
import numpy as np
import pytest
from fits import EDGES as FINE_EDGES
from fits import TWO_LINES, function_model
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.integrate import quad
from spectra import line_model, simulated_spectrum

from cosi_linebkg_plugin.errors import LineBackgroundWarning, TemplateError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.template.amounts import LineRatio, SourceAmounts
from cosi_linebkg_plugin.template.energies import energy_densities

LOW, HIGH = 1800.0, 1820.0
LABELS = ("continuum", "lines")
RATIO = LineRatio(1809.0, 1779.0, 0.15, 0.015)
MODEL = line_model([(1779.0, 20000.0, (1770.0, 1790.0))], k=300.0)
EDGES = np.linspace(1600.0, 2000.0, 41)


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(1)
    return fit_spectrum(MODEL, simulated_spectrum(MODEL, EDGES, rng, mask=[(LOW, HIGH)]))


def unfitted(model, edges=EDGES):
    """A result at the model's start values."""
    spectrum = EnergySpectrum(edges, model.bind(edges).counts(model.values))
    return LineBackgroundFit(model, spectrum, model.values, (), np.zeros((0, 0)))


def densities_of(fit, edges=(LOW, HIGH), labels=LABELS, unknown=(), ratio=RATIO, unit=u.keV):
    axes = histpy.Axes([histpy.Axis(np.array(edges) * unit, label="Em")])
    return energy_densities(fit, axes, (LOW, HIGH), labels, unknown, ratio)


def middles(density):
    n = density.density.shape[1]
    return density.low + (np.arange(n) + 0.5) * (density.high - density.low) / n


def integrals(density):
    return density.density.mean(axis=1) * (density.high - density.low)


def lines_pdf(fit, energies, low=LOW, high=HIGH):
    """The fitted line's tail and its partner, by scipy's normal distribution."""
    v, pdf, total = fit.values, 0.0, 0.0
    for center, weight in ((v["mu_2"], 1.0), (RATIO.line, RATIO.value)):
        line = stats.norm(center, v["sigma_2"])
        pdf = pdf + weight * line.pdf(energies)
        total += weight * (line.cdf(high) - line.cdf(low))
    return pdf / total


def powerlaw_pdf(fit, energies, low=LOW, high=HIGH):
    index = fit.values["index_1"]
    norm, _ = quad(lambda e: e**index, low, high)
    return energies**index / norm


def test_each_row_has_the_integral_1_over_the_source_range(fit):
    labels = ("continuum", "lines", "background")
    (density,) = densities_of(fit, labels=labels)
    assert (density.low, density.high) == (LOW, HIGH)
    assert density.density.shape[0] == 3 and (density.density >= 0).all()
    assert_allclose(integrals(density), 1.0, rtol=1e-10)


def test_continuum_and_lines_are_those_of_the_fitted_model(fit):
    (density,) = densities_of(fit)
    energies = middles(density)
    # the table holds means over steps of 0.015 keV: their curvature is 4e-6 of the middle
    assert_allclose(density.density[0], powerlaw_pdf(fit, energies), rtol=1e-7)
    expected = lines_pdf(fit, energies)
    assert_allclose(density.density[1], expected, rtol=1e-4, atol=1e-7 * expected.max())


def test_linear_interpolation_is_right_to_a_part_in_ten_thousand(fit):
    (density,) = densities_of(fit)
    energies = np.random.default_rng(2).uniform(LOW + 0.1, HIGH - 0.1, 5000)
    got = np.interp(energies, middles(density), density.density[1])
    assert_allclose(got, lines_pdf(fit, energies), rtol=1e-4, atol=1e-9)


def test_the_whole_is_the_sum_weighted_by_counts(fit):
    (density,) = densities_of(fit, labels=(*LABELS, "background"))
    continuum, own = fit.expected_counts((LOW, HIGH)).values
    v = fit.values
    share = np.diff(stats.norm.cdf((LOW, HIGH), RATIO.line, v["sigma_2"]))[0]
    lines = own + RATIO.value * v["F_2"] * share
    expected = (continuum * density.density[0] + lines * density.density[1]) / (continuum + lines)
    assert_allclose(density.density[2], expected, rtol=1e-6)


def test_bins_of_the_axis_are_cut_by_the_source_range(fit):
    outside, first, second, above = densities_of(fit, (1700.0, 1790.0, 1806.0, 1830.0, 1900.0))
    assert outside is None and above is None
    assert (first.low, first.high, second.low, second.high) == (LOW, 1806.0, 1806.0, HIGH)
    for part in (first, second):
        assert_allclose(integrals(part), 1.0, rtol=1e-10)
        energies = middles(part)
        expected = lines_pdf(fit, energies, part.low, part.high)
        assert_allclose(part.density[1], expected, rtol=1e-4, atol=1e-7 * expected.max())
        expected = powerlaw_pdf(fit, energies, part.low, part.high)
        assert_allclose(part.density[0], expected, rtol=1e-7)


def test_bins_that_touch_the_source_range_are_outside(fit):
    below, inside, above = densities_of(fit, (1790.0, LOW, HIGH, 1830.0))
    assert below is None and above is None and inside is not None


def test_an_axis_in_mev_gives_the_same(fit):
    (kev,), (mev,) = densities_of(fit), densities_of(fit, (0.001 * LOW, 0.001 * HIGH), unit=u.MeV)
    assert (mev.low, mev.high) == pytest.approx((LOW, HIGH))
    assert_allclose(mev.density, kev.density, rtol=1e-9)


def test_energies_of_a_hidden_line_are_even(fit):
    with pytest.warns(LineBackgroundWarning, match="taken as even over the source range"):
        (density,) = densities_of(fit, unknown=("lines",), ratio=None)
    assert_array_equal(density.density[1], density.density[1, 0])
    assert density.density[1, 0] == pytest.approx(1 / (HIGH - LOW))
    # a ratio tells where it is
    (known,) = densities_of(fit, unknown=("lines",))
    assert_allclose(middles(known)[known.density[1].argmax()], RATIO.line, atol=0.1)
    # also where it does not tell how strong it is: there the tail of the tracer is not added
    alone = LineRatio(RATIO.line, RATIO.tracer)
    (shaped,) = densities_of(fit, unknown=("lines",), ratio=alone)
    line = stats.norm(RATIO.line, fit.values["sigma_2"])
    expected = line.pdf(middles(shaped)) / (line.cdf(HIGH) - line.cdf(LOW))
    assert_allclose(shaped.density[1], expected, rtol=1e-4, atol=1e-7 * expected.max())
    # without either the fitted line's tail is all there is
    (tail,) = densities_of(fit, ratio=None)
    assert np.all(np.diff(tail.density[1]) <= 0) and tail.density[1, 0] > 1 / (HIGH - LOW)


def test_a_model_without_lines_has_even_lines_and_its_continuum():
    flat = unfitted(line_model([], k=300.0))
    (density,) = densities_of(flat, ratio=None)
    assert_allclose(density.density[1], 1 / (HIGH - LOW))
    assert_allclose(density.density[0], powerlaw_pdf(flat, middles(density)), rtol=1e-6)


def test_parts_of_a_split_component_have_its_energies(fit):
    labels = ("continuum_Phi_1", "lines_Phi_1", "continuum_Phi_2", "background_Phi_1")
    (density,) = densities_of(fit, labels=labels)
    (whole,) = densities_of(fit, labels=(*LABELS, "background"))
    assert_array_equal(density.density, whole.density[[0, 1, 0, 2]])


@pytest.mark.parametrize("sigma", [0.2, 3.0, 40.0])
def test_steps_follow_the_narrowest_line(sigma):
    model = line_model([(1810.0, 5000.0, (1800.0, 1820.0))], sigma=sigma)
    (density,) = densities_of(unfitted(model), ratio=None)
    n = density.density.shape[1]
    assert n == max(256, np.ceil(200 * (HIGH - LOW) / sigma))
    assert middles(density)[density.density[1].argmax()] == pytest.approx(1810.0, abs=0.1)


def test_a_python_function_has_the_energies_of_the_power_law_that_it_is():
    expected, got = (
        densities_of(unfitted(model, FINE_EDGES), ratio=None)[0]
        for model in (TWO_LINES, function_model())
    )
    assert_allclose(got.density, expected.density, rtol=1e-6)


def test_a_function_read_back_has_its_table_in_fewer_steps():
    """Its code is not in the file; the table across each bin of the spectrum is."""
    fit = unfitted(function_model(), FINE_EDGES)
    again = LineBackgroundFit.from_json(fit.to_json())
    assert any(c.table is not None for c in again.model.components)
    (density,) = densities_of(again, ratio=None)
    assert density.density.shape[1] == 64
    assert_allclose(integrals(density), 1.0, rtol=1e-10)
    values = fit.values
    index = values["index_1"]
    expected = middles(density) ** index / quad(lambda e: e**index, LOW, HIGH)[0]
    assert_allclose(density.density[0], expected, rtol=1e-6)


def test_a_ratio_to_a_line_that_is_not_fitted_is_refused(fit):
    with pytest.raises(TemplateError, match="no fitted line"):
        densities_of(fit, ratio=LineRatio(1809.0, 1700.0, 0.15))


def test_densities_of_several_bins_join_at_their_edges(fit):
    """Times the counts of each bin they are the fitted spectrum: continuous in energy."""
    edges = np.linspace(LOW, HIGH, 6)
    amounts = SourceAmounts(fit.model, fit.theta, EDGES, (LOW, HIGH), RATIO)
    counts = amounts.in_energy_bins(fit.theta, edges).counts
    assert_allclose(amounts.counts_per_bin(fit.theta, edges), counts, rtol=1e-9)
    found = densities_of(fit, edges)
    for b in range(4):
        left = counts[:, b] * found[b].density[:, -1]
        right = counts[:, b + 1] * found[b + 1].density[:, 0]
        assert_allclose(left, right, rtol=0.02)


def test_a_line_that_is_not_seen_has_the_models_energies_in_several_bins():
    """With a line of the model in the source range, though masked: its own profile."""
    model = line_model(
        [(1779.0, 20000.0, (1770.0, 1790.0)), (1809.0, 10.0, (1805.0, 1812.0))], k=300.0
    )
    seen = unfitted(model)
    edges = [LOW, 1806.0, 1812.0, HIGH]
    found = densities_of(seen, edges, unknown=("lines",), ratio=None)
    sigma = seen.model.components[2].sigma(seen.theta)
    line = stats.norm(seen.theta[seen.model.components[2].energy], sigma)
    for density in found:
        share = line.cdf(density.high) - line.cdf(density.low)
        assert_allclose(
            density.density[1], line.pdf(middles(density)) / share, rtol=1e-2, atol=1e-6
        )
    with pytest.warns(LineBackgroundWarning, match="taken as even"):
        alone = densities_of(seen, unknown=("lines",), ratio=None)[0]
    assert_allclose(alone.density[1], 1.0 / (HIGH - LOW))  # one bin: even
