"""The direct fit: the optimum, its errors, limits, links, priors, failures."""

from dataclasses import replace

import numpy as np
import pytest
from fits import EDGES, TWO_LINES, function_model, scattered
from iminuit import Minuit
from numpy.testing import assert_allclose
from scipy import stats
from scipy.special import xlogy
from spectra import dc3_spectrum, line_model, simulated_spectrum, tutorial_model

from cosi_linebkg_plugin.errors import DataError, FitError, ModelError
from cosi_linebkg_plugin.fit.guess import guess_values
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.objective import Objective
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.lines.search import find_lines
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.components import Component, Parameter, SpectralModel
from cosi_linebkg_plugin.spectrum.priors import Prior


def reference_minimum(model, spectrum):
    """Migrad and Hesse, tightly converged, on a likelihood written with scipy alone."""
    free = [p for p in model.parameters if p.free]
    lines = [c for c in model.components if c.kind == "gaussian"]
    slot = {p.name: i for i, p in enumerate(free)}
    n, used = spectrum.counts, spectrum.used

    def cost(x):
        k, index = x[slot["K_1"]], x[slot["index_1"]]
        total = k * 1800.0 / (index + 1) * (spectrum.edges / 1800.0) ** (index + 1)
        for line in lines:
            f, mu, sigma = (x[slot[model.parameters[s].name]] for s in line.slots)
            total = total + f * stats.norm.cdf(spectrum.edges, mu, sigma)
        expected = np.maximum(np.diff(total), 1e-9)
        return 2.0 * np.sum((expected - n + xlogy(n, n / expected))[used])

    minuit = Minuit(cost, [p.value for p in free], name=[p.name for p in free])
    minuit.errordef = Minuit.LEAST_SQUARES  # of the deviance: twice the log-likelihood
    minuit.limits = [(p.low, p.high) for p in free]
    minuit.tol = 1e-6
    minuit.strategy = 2
    for _ in range(3):
        minuit.migrad()
    minuit.hesse()
    return minuit


def test_optimum_and_errors_agree_with_a_tightly_converged_migrad(two_lines):
    fit = fit_spectrum(TWO_LINES, two_lines)
    reference = reference_minimum(TWO_LINES, two_lines)
    assert fit.deviance <= reference.fval + 1e-6
    for name, error in fit.errors.items():
        assert abs(fit.values[name] - reference.values[name]) < 2e-3 * error
        assert error == pytest.approx(reference.errors[name], rel=0.02)


def test_gradient_vanishes_at_the_optimum_to_1e_4_sigma(two_lines):
    fit = fit_spectrum(TWO_LINES, two_lines)
    free = TWO_LINES.free
    gradient = Objective(TWO_LINES, two_lines).gradient(fit.theta)[free]
    newton = fit.covariance @ gradient
    assert np.all(np.abs(newton) < 1e-4 * np.sqrt(np.diag(fit.covariance)))


def test_truth_is_recovered_with_honest_errors(two_lines):
    fit = fit_spectrum(TWO_LINES, two_lines)
    pulls = [(fit.values[p.name] - p.value) / fit.errors[p.name]
             for p in TWO_LINES.parameters if p.free]  # fmt: skip
    # seven pulls of one seeded data set: |pull| > 4 has a false-alarm rate of 4e-4
    assert max(map(abs, pulls)) < 4
    assert fit.valid and fit.p_value > 1e-3
    assert fit.dof == int(two_lines.used.sum()) - 7


@pytest.mark.parametrize("start", range(6))
def test_random_starts_reach_the_same_optimum(two_lines, start):
    rng = np.random.default_rng(start)
    best = fit_spectrum(TWO_LINES, two_lines).deviance
    fit = fit_spectrum(scattered(TWO_LINES, rng), two_lines)
    assert fit.deviance == pytest.approx(best, abs=1e-4)


def test_tutorial_model_on_the_real_spectrum(shared_data):
    """Reference: the same model in iminuit's ExtendedBinnedNLL on this spectrum."""
    fit = fit_spectrum(tutorial_model(index=-1.0, sigma=1.0), dc3_spectrum(shared_data))
    assert fit.valid and not fit.at_limits
    assert fit.values["sigma_2"] == pytest.approx(2.96, abs=0.005)
    assert fit.values["index_1"] == pytest.approx(-2.03, abs=0.005)
    assert fit.values["F_4"] == pytest.approx(7.35e4, rel=0.01)
    assert fit.values["mu_4"] == pytest.approx(1665.4, abs=0.1)
    assert fit.deviance / fit.dof == pytest.approx(58.0, abs=0.1)
    assert "does NOT describe the data" in fit.summary()
    assert 0 <= fit.p_value < 1e-100


def test_random_starts_on_the_real_spectrum(shared_data):
    """At least 99 % of random starts within the limits end in the best optimum."""
    spectrum = dc3_spectrum(shared_data)
    best = fit_spectrum(tutorial_model(), spectrum).deviance
    rng = np.random.default_rng(5)
    ends = []
    for _ in range(200):
        try:
            ends.append(fit_spectrum(scattered(tutorial_model(), rng), spectrum).deviance)
        except FitError:
            ends.append(np.inf)
    assert np.min(ends) > best - 1e-3
    assert np.mean(np.array(ends) < best + 0.01) >= 0.99


def test_a_start_in_the_false_minimum_of_narrow_lines_is_left(two_lines):
    """With bins of 5 keV a shared sigma of 0.3 keV used to be a trap for migrad."""
    narrow = replace(
        TWO_LINES,
        parameters=tuple(
            replace(p, value=0.3) if p.name == "sigma_2" else p for p in TWO_LINES.parameters
        ),
    )
    assert fit_spectrum(narrow, two_lines).deviance == pytest.approx(
        fit_spectrum(TWO_LINES, two_lines).deviance, abs=1e-4
    )


def test_fixed_and_linked_parameters(two_lines):
    fixed = replace(
        TWO_LINES,
        parameters=tuple(
            replace(p, free=False, value=3.3) if p.name == "sigma_2" else p
            for p in TWO_LINES.parameters
        ),
    )
    fit = fit_spectrum(fixed, two_lines)
    assert fit.parameters["sigma_2"].value == 3.3
    assert fit.parameters["sigma_2"].error is None and not fit.parameters["sigma_2"].free
    assert fit.parameters["sigma_3"].link == "sigma_2" and fit.parameters["sigma_3"].value == 3.3
    assert fit.dof == fit_spectrum(TWO_LINES, two_lines).dof + 1


def test_a_line_that_is_not_there_ends_at_its_limit(two_lines):
    """The data of a line of negative amplitude: remove counts where a third line would be."""
    counts = two_lines.counts.copy()
    counts[(EDGES[:-1] >= 1700) & (EDGES[1:] <= 1710)] *= 0.97
    spectrum = replace(two_lines, counts=counts)
    lines = [(1633.0, 8e3, (1623.0, 1643.0)), (1705.0, 50.0, (1702.0, 1708.0)),
             (1778.9, 5e3, (1768.0, 1790.0))]  # fmt: skip
    fit = fit_spectrum(line_model(lines), spectrum)
    assert fit.valid and "F_3" in fit.at_limits
    assert fit.parameters["F_3"].value == 0.0 and fit.parameters["F_3"].error is None
    assert "F_3" not in fit.covariance_names


def test_priors_are_penalties(two_lines):
    def with_prior(sd):
        return replace(
            TWO_LINES,
            parameters=tuple(
                replace(p, prior=Prior.gaussian(2.0, sd)) if p.name == "sigma_2" else p
                for p in TWO_LINES.parameters
            ),
        )

    free = fit_spectrum(TWO_LINES, two_lines)
    s, e = free.values["sigma_2"], free.errors["sigma_2"]
    for sd in (0.01, 0.1):
        fit = fit_spectrum(with_prior(sd), two_lines)
        expected = (s / e**2 + 2.0 / sd**2) / (1 / e**2 + 1 / sd**2)
        assert fit.values["sigma_2"] == pytest.approx(expected, abs=0.2 * e)
        assert fit.errors["sigma_2"] < min(e, sd) * 1.05


def test_minos_brackets_the_symmetric_error(two_lines):
    fit = fit_spectrum(TWO_LINES, two_lines, minos=True)
    assert set(fit.minos) == set(fit.free_names)
    for name, (low, high) in fit.minos.items():
        assert low < 0 < high
        assert 0.5 * (high - low) == pytest.approx(fit.errors[name], rel=0.1)


def test_minos_leaves_the_best_values_alone(two_lines):
    # this used to give back the last point that MINOS tried
    fit, plain = (fit_spectrum(TWO_LINES, two_lines, minos=minos) for minos in (True, False))
    np.testing.assert_array_equal(fit.theta, plain.theta)
    assert fit.deviance == plain.deviance


def test_a_fit_without_a_minimum_raises_with_the_result(two_lines):
    # a second power law of the same shape: only the sum of the two amplitudes is determined
    parameters = (*TWO_LINES.parameters, Parameter("K_9", 1500.0, "1/keV", 1e-10))
    _k, piv, index = TWO_LINES.components[0].slots
    same = Component("powerlaw", (len(parameters) - 1, piv, index))
    model = SpectralModel(parameters, (*TWO_LINES.components, same), TWO_LINES.links)
    with pytest.raises(FitError, match="covariance matrix is not positive definite") as caught:
        fit_spectrum(model, two_lines)
    result = caught.value.result
    assert isinstance(result, LineBackgroundFit) and not result.valid
    assert "not valid" in result.summary()


def test_more_parameters_than_bins_is_refused(two_lines):
    spectrum = two_lines.with_mask([(1500.0, 1970.0)])
    with pytest.raises(ModelError, match="7 free parameters but only 6 of 100"):
        fit_spectrum(TWO_LINES, spectrum)


def test_a_function_by_quadrature_gives_the_closed_forms_fit(two_lines):
    closed, quadrature = (fit_spectrum(m, two_lines) for m in (TWO_LINES, function_model()))
    assert quadrature.deviance == pytest.approx(closed.deviance, abs=1e-6)
    for name, error in closed.errors.items():
        assert abs(quadrature.values[name] - closed.values[name]) < 1e-3 * error
        assert quadrature.errors[name] == pytest.approx(error, rel=1e-3)


# --- this used to go wrong ------------------------------------------------------------------------


def test_a_line_inside_the_mask_is_refused(two_lines):
    """It was "fitted" to the 1e-16 of it outside the mask, up to 1000 times too high."""
    lines = [(1633.0, 8e3, (1623.0, 1643.0)), (1805.0, 4e3, (1797.0, 1815.0))]
    with pytest.raises(ModelError, match=r"line at 1805 keV \(mu_3\) lies in the mask"):
        fit_spectrum(line_model(lines), two_lines)
    outside = [(1633.0, 8e3, (1623.0, 1643.0)), (3000.0, 4e3, (2990.0, 3010.0))]
    with pytest.raises(ModelError, match="line at 3000 keV .* outside the energy axis"):
        fit_spectrum(line_model(outside), two_lines)


def test_a_line_swallowed_by_its_neighbour_is_found_again(two_lines):
    """Free widths: one wide line took both peaks, the other stayed at 0, called valid."""
    parameters = [*TWO_LINES.parameters, Parameter("sigma_3", 3.0, "keV", 0.1, 50.0)]
    first, second, third = TWO_LINES.components
    own = replace(third, slots=(*third.slots[:2], len(parameters) - 1))
    model = SpectralModel(tuple(parameters), (first, second, own))
    best = fit_spectrum(model, two_lines)
    trapped = {"F_2": 1e5, "mu_2": 1643.0, "sigma_2": 50.0, "F_3": 0.0, "sigma_3": 0.1}
    start = replace(
        model, parameters=tuple(replace(p, value=trapped.get(p.name, p.value)) for p in parameters)
    )
    assert fit_spectrum(start, two_lines).deviance == pytest.approx(best.deviance, abs=1e-3)


def test_minos_with_a_parameter_at_its_limit(two_lines):
    counts = two_lines.counts.copy()
    counts[(EDGES[:-1] >= 1700) & (EDGES[1:] <= 1710)] *= 0.97
    lines = [(1633.0, 8e3, (1623.0, 1643.0)), (1705.0, 50.0, (1702.0, 1708.0))]
    fit = fit_spectrum(line_model(lines), replace(two_lines, counts=counts), minos=True)
    assert "F_3" in fit.at_limits and "F_3" not in fit.minos
    assert set(fit.minos) == set(fit.covariance_names)


def test_an_offset_is_not_background(two_lines):
    extra = np.where((EDGES[:-1] >= 1850) & (EDGES[1:] <= 1900), 500.0, 0.0)
    data = replace(two_lines, counts=two_lines.counts + extra)
    fit = fit_spectrum(TWO_LINES, data, offset=extra)
    plain = fit_spectrum(TWO_LINES, two_lines)
    assert fit.values["K_1"] == pytest.approx(plain.values["K_1"], abs=plain.errors["K_1"])
    assert_allclose(fit.expected_total, fit.expected + extra)
    assert fit.p_value > 1e-4 > fit_spectrum(TWO_LINES, data).p_value
    assert LineBackgroundFit.from_json(fit.to_json()).deviance == pytest.approx(fit.deviance)


def test_a_spectrum_without_counts_is_refused(two_lines):
    """It ended in a foreign traceback, or in "may be used for a template"."""
    empty = replace(two_lines, counts=np.zeros(two_lines.n_bins))
    masked = replace(two_lines, counts=np.where(two_lines.mask, 5.0, 0.0))
    for data, message in ((empty, "hold no counts.*: check the selections"),
                          (masked, "counts lie in the mask; shorten it")):  # fmt: skip
        for use in (fit_spectrum, guess_values):
            with pytest.raises(DataError, match=message):
                use(TWO_LINES, data)
        with pytest.raises(DataError, match=message):
            find_lines(data)


@pytest.mark.parametrize("tail", [False, True])
def test_one_line_has_no_growing_width(tail):
    """It raised "the data do not tell apart a_2, b_2": the constant width says all there is."""
    linear, constant = (
        numerical_model(spectrum_parts([1778.9], sigma=2.5, width=width, tail=tail))
        for width in ("linear", "constant")
    )
    edges = np.arange(1730.0, 1830.0, 1.0)
    values = {"K_1": 100.0, "F_2": 3e4, "fraction_2": 0.2, "length_2": 8.0}
    truth = replace(
        constant,
        parameters=tuple(
            replace(p, value=values.get(p.name, p.value)) for p in constant.parameters
        ),
    )
    data = simulated_spectrum(truth, edges, np.random.default_rng(4))
    fit, right = fit_spectrum(linear, data), fit_spectrum(constant, data)
    assert fit.valid and fit.deviance == pytest.approx(right.deviance, abs=1e-4)
    assert fit.values["b_2"] == 0.0 and "b_2" not in fit.errors and fit.dof == right.dof
    assert fit.values["a_2"] == pytest.approx(right.values["sigma_2"] ** 2, rel=1e-4)
    assert "b_2 is held at 0, as the fit fails otherwise" in fit.message
    assert "do not tell apart a_2, b_2" in fit.summary()
