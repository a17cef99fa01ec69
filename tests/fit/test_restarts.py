"""Several minima, and tails that would run away: a fit ends in the lowest, with a short tail."""

from dataclasses import replace

import numpy as np
import pytest
from spectra import real_spectrum, simulated_spectrum

from cosi_linebkg_plugin.app.simulation import simulate
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.objective import Objective
from cosi_linebkg_plugin.fit.restarts import LONGEST_TAIL, Optimum, other_places, tails_within
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

#: The lines of README's example in Python.
README_LINES = [1506, 1515, 1526, 1538, 1565, 1612, 1634, 1652, 1666, 1675, 1723, 1757.5, 1764,
                1779, 1893, 1903, 1920, 1928]  # fmt: skip


def built(lines, values=None, **options):
    model = numerical_model(spectrum_parts(lines, **options))
    values = values or {}
    return replace(
        model,
        parameters=tuple(replace(p, value=values.get(p.name, p.value)) for p in model.parameters),
    )


@pytest.fixture(scope="module")
def demo():
    simulation = simulate(1, nside=1)
    return simulation.energy_edges, sum(simulation.expected_spectrum().values())


def demo_draw(demo, seed):
    counts = np.random.default_rng(seed).poisson(demo[1]).astype(float)
    return EnergySpectrum(demo[0], counts).with_mask([(1790.0, 1825.0)])


def best_of_random_energies(model, spectrum, rng, n):
    """The lowest deviance that n starts with lines anywhere in their windows find."""
    lines = {model.components[i].energy for i in model.lines}
    found = []
    for _ in range(n):
        parameters = tuple(
            replace(p, value=rng.uniform(p.low, p.high)) if i in lines else p
            for i, p in enumerate(model.parameters)
        )
        found.append(fit_spectrum(replace(model, parameters=parameters), spectrum).deviance)
    return min(found)


@pytest.mark.parametrize(
    ("seeds", "n"),
    [((0, 25, 69, 80, 111, 140, 159), 12), pytest.param(range(200), 3, marks=pytest.mark.slow)],
    ids=["two places", "200 draws"],
)
def test_a_weak_line_ends_in_the_better_of_two_places(demo, seeds, n):
    """Up to 10 above the minimum, from one start, where it sat on the other side of a line."""
    model = built(README_LINES)
    for seed in seeds:
        spectrum = demo_draw(demo, seed)
        deviance = fit_spectrum(model, spectrum).deviance
        best = best_of_random_energies(model, spectrum, np.random.default_rng(seed), n)
        assert deviance < best + 0.01, seed


@pytest.mark.parametrize(
    ("name", "sigma", "lines"),
    [
        ("osiris_2570_2660", 1.7, [2614.5]),
        ("cave_bg_1700_1900", 0.7, [1729.6, 1764.5, 1847.4]),
        ("kelp_1700_1860", 0.8, [1729.6, 1764.5, 1847.4]),
    ],
)
def test_starts_that_differ_end_in_one_minimum(shared_data, name, sigma, lines):
    """They ended at 1845 or 1660, with a short tail or with a long one."""
    spectrum = real_spectrum(shared_data, name)
    ends = [
        fit_spectrum(
            built([e + shift for e in lines], sigma=factor * sigma, tail=True), spectrum
        ).deviance
        for shift in np.linspace(-0.2, 0.2, 7)
        for factor in (0.8, 1.0, 1.4)
    ]
    assert max(ends) - min(ends) < 0.01


@pytest.mark.parametrize("length", [0.5, 5.0, 30.0, 200.0])
def test_both_lengths_of_a_tail_are_tried(shared_data, length):
    spectrum = real_spectrum(shared_data, "kelp_1700_1860")
    model = built([1729.6, 1764.5, 1847.4], {"length_2": length}, sigma=0.8, tail=True)
    assert fit_spectrum(model, spectrum).deviance == pytest.approx(418.2, abs=0.05)


def test_places_are_those_of_the_score_test():
    """A weak line on the wrong side of a strong one: the right side is among the starts."""
    truth = built([1700, 1713], {"K_1": 300, "F_2": 3e4, "F_3": 900, "mu_3": 1709.0})
    edges = np.linspace(1600.0, 1800.0, 81)
    spectrum = EnergySpectrum(edges, truth.bind(edges).counts(truth.values))
    wrong = built([1700, (1713, (1706.5, 1723))], {"K_1": 300, "F_2": 3e4, "F_3": 100})
    objective = Objective(wrong, spectrum)
    theta = wrong.values
    theta[wrong.slots(["mu_3"])] = 1719.0
    held = [s for s in wrong.free if wrong.names[s] != "mu_3"]
    theta, _ = objective.score_to_minimum(theta, np.array(held))
    _, _, information = objective.scoring(theta)
    covariance = np.linalg.inv(information[np.ix_(held, held)])
    starts = list(other_places(objective, Optimum(theta, np.array(held), covariance, "")))
    (mu,) = wrong.slots(["mu_3"])
    assert any(abs(start[mu] - 1709.0) < 1.5 for start in starts)
    assert all(abs(start[mu] - theta[mu]) > 3.0 for start in starts)
    assert fit_spectrum(wrong, spectrum).values["mu_3"] == pytest.approx(1709.0, abs=0.1)


# --- tails ----------------------------------------------------------------------------------------


def step_spectrum():
    """One line on a step, as laboratory spectra have it."""
    truth = built([1461.0], {"K_1": 400, "F_2": 2e5, "step_3": 2e-3}, sigma=0.8, step=True)
    edges = np.arange(1441.0, 1481.0, 0.4)
    return simulated_spectrum(truth, edges, np.random.default_rng(5))


def test_a_tail_does_not_take_the_place_of_a_step():
    spectrum = step_spectrum()
    fit = fit_spectrum(built([1461.0], sigma=0.8, tail=True), spectrum)
    assert fit.valid and "length_2" in fit.at_limits
    ratio = fit.values["length_2"] / fit.values["sigma_2"]
    assert ratio == pytest.approx(LONGEST_TAIL, rel=2e-3)
    assert fit.adequacy.long_tails == ("length_2",) and not fit.adequacy.is_adequate()
    text = fit.summary()
    assert "the tail is as long as a tail may be (length_2: 6 widths)" in text
    assert "NOT be used for a template. Try a step under the lines (step: true)" in text
    assert "may be used" not in text.replace("NOT be used", "")
    assert fit.adequacy.to_dict()["long_tails"] == ["length_2"]
    with_step = fit_spectrum(built([1461.0], sigma=0.8, tail=True, step=True), spectrum)
    assert with_step.adequacy.is_adequate() and not with_step.adequacy.long_tails
    assert abs(with_step.values["F_2"] - 2e5) < 4.0 * with_step.errors["F_2"]


def windows_with_a_missing_tail(shared_data):
    """A line on a step, and real windows around strong lines: without step, and with."""
    yield step_spectrum(), [1461.0], 0.8
    for name, low, high, sigma, energy in (
        ("osiris_1400_1560", 1401, 1425, 1.1, 1408.0),
        ("osiris_1400_1560", 1440, 1482, 1.1, 1460.8),
        ("kelp_1400_1560", 1440, 1482, 0.8, 1460.8),
        ("trinitite_540_680", 640, 680, 0.75, 661.7),
    ):
        yield real_spectrum(shared_data, name, low, high), [energy], sigma


def test_a_tail_that_would_end_at_its_limit_is_not_proposed(shared_data):
    found = []
    for spectrum, energies, sigma in windows_with_a_missing_tail(shared_data):
        for step in (False, True):
            options = {"sigma": sigma, "step": step}
            fit = fit_spectrum(built(energies, **options), spectrum)
            proposed = "(tail: true)" in fit.summary()
            with_tail = fit_spectrum(built(energies, tail=True, **options), spectrum)
            found.append((proposed, bool(with_tail.adequacy.long_tails)))
            assert with_tail.adequacy.tail_widths is None
    # proposed or too long, never both; some of either, and some without an excess on the line
    assert (True, True) not in found and found.count((True, False)) >= 5
    assert found.count((False, True)) == 3


def test_the_limit_is_kept_by_what_comes_after():
    fit = fit_spectrum(built([1461.0], sigma=0.8, tail=True), step_spectrum())
    high = {p.name: p.high for p in fit.model.parameters}["length_2"]
    assert high == pytest.approx(fit.values["length_2"], rel=1e-6)
    back = LineBackgroundFit.from_json(fit.to_json())
    assert {p.name: p.high for p in back.model.parameters}["length_2"] == pytest.approx(high)
    assert back.adequacy.long_tails == ("length_2",)
    sampled = fit.sample(seed=1)
    assert np.quantile(sampled.samples[:, fit.free_names.index("length_2")], 1.0) <= high


def test_limits_follow_the_width_both_ways():
    model = built([1461.0], tail=True)
    theta = model.values
    sigma, length = model.slots(["sigma_2", "length_2"])
    theta[sigma], theta[length] = 1.0, 100.0
    limited = tails_within(model, theta, model)
    assert limited.parameters[length].high == LONGEST_TAIL
    theta[sigma], theta[length] = 1.5, LONGEST_TAIL
    wider = tails_within(limited, theta, model)
    assert wider.parameters[length].high == 1.5 * LONGEST_TAIL
    theta[length] = 4.0
    assert tails_within(wider, theta, model) is None
    theta[sigma] = 1.0
    assert tails_within(wider, theta, model) is None  # it may grow; when it does, it is limited


def test_a_length_that_is_fixed_stays():
    model = built([1461.0], {"length_2": 20.0}, sigma=0.8, tail=True)
    fixed = tuple(replace(p, free=p.free and p.name != "length_2") for p in model.parameters)
    fit = fit_spectrum(replace(model, parameters=fixed), step_spectrum())
    assert fit.values["length_2"] == 20.0 and not fit.adequacy.long_tails


def test_the_tails_of_dc3_are_possible():
    """12.5 keV at a width of 2.9 keV, measured on its own line at 1809 keV."""
    values = {"K_1": 3000, "sigma_2": 2.9, "fraction_2": 0.23, "length_2": 12.5}
    truth = built([1634, 1779], values | {"F_2": 5e4, "F_3": 8e4}, tail=True)
    spectrum = simulated_spectrum(truth, np.arange(1500.0, 2001.0, 5.0), np.random.default_rng(2))
    fit = fit_spectrum(built([1634, 1779], tail=True), spectrum)
    assert fit.values["length_2"] == pytest.approx(12.5, abs=4 * fit.errors["length_2"])
    assert fit.adequacy.is_adequate()


def test_a_tail_without_counts_says_nothing():
    """Its length is at the limit by chance: no reason to call the fit inadequate."""
    truth = built([1461.0], {"K_1": 400, "F_2": 2e4}, sigma=0.8)
    edges = np.arange(1441.0, 1481.0, 0.4)
    for seed in range(12):
        spectrum = simulated_spectrum(truth, edges, np.random.default_rng(seed))
        fit = fit_spectrum(built([1461.0], sigma=0.8, tail=True), spectrum)
        assert fit.valid
        assert abs(fit.values["F_2"] - 2e4) < 5.0 * max(fit.errors["F_2"], 150.0)
        assert not fit.adequacy.long_tails, seed
