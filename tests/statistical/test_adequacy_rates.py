"""How often a right model is called inadequate, and how well the systematic error is found."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest
from spectra import line_model, simulated_spectrum

from cosi_linebkg_plugin import background_model
from cosi_linebkg_plugin.errors import FitError
from cosi_linebkg_plugin.fit.adequacy import LEVEL
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.toys import with_toys
from cosi_linebkg_plugin.model.read import spectrum_of

pytestmark = pytest.mark.slow

EDGES = np.linspace(1500.0, 2000.0, 101)
FINE = np.linspace(1500.0, 2000.0, 501)
MASK = [(1790.0, 1825.0)]
ENERGIES = [1633.0, 1712.0, 1779.0]
OPTIONS = {
    "5 keV": (EDGES, {}),
    "1 keV": (FINE, {}),
    "tail": (EDGES, {"tail": True}),
    "linear": (EDGES, {"width": "linear"}),
    "broken": (EDGES, {"continuum": "broken_powerlaw"}),
    "polynomial": (EDGES, {"continuum": "powerlaw_polynomial"}),
}


def truth_of(options, scale=1.0):
    numbers = spectrum_of(background_model(ENERGIES, pivot=1750, **options), "linebkg")
    values = {"K_1": 3000.0 * scale, "alpha_1": -1.0, "beta_1": -3.0, "xb_1": 1680.0, "c2_1": 10.0}
    return replace(
        numbers.model,
        parameters=tuple(
            replace(
                p, value=3e4 * scale if p.name.startswith("F_") else values.get(p.name, p.value)
            )
            for p in numbers.current_model().parameters
        ),
    )


def rate_is_at_most(bad, trials, level):
    """4 standard deviations above the stated rate: false-alarm rate 3e-5 to 5e-4."""
    return bad <= trials * level + 4 * np.sqrt(trials * level * (1 - level))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_right_model_is_called_inadequate_no_more_often_than_stated(name):
    edges, options = OPTIONS[name]
    truth, rng, trials = truth_of(options), np.random.default_rng(1), 1500
    p_values = []
    for _ in range(trials):
        p_values.append(
            fit_spectrum(truth, simulated_spectrum(truth, edges, rng, MASK)).adequacy.p_value
        )
    for level in (0.05, LEVEL):
        bad = int(np.sum(np.array(p_values) < level))
        print(f"{name}: {bad} of {trials} called inadequate at {level:g}")
        assert rate_is_at_most(bad, trials, level)


def test_a_right_model_with_few_counts_is_judged_by_toys_no_more_often_than_stated():
    truth, rng = truth_of({}, scale=1e-4), np.random.default_rng(2)
    p_values, deviance_p_values = [], []
    truth = truth.select([0])  # a continuum of 1.5 counts a bin
    free = {"K_1", "index_1"}
    truth = replace(
        truth, parameters=tuple(replace(p, free=p.name in free) for p in truth.parameters)
    )
    while len(p_values) < 150:
        try:
            fit = fit_spectrum(truth, simulated_spectrum(truth, EDGES, rng, MASK))
        except FitError:
            continue
        assert fit.p_value is None
        judged = with_toys(fit, 200, rng)
        p_values.append(judged.adequacy.p_value)
        deviance_p_values.append(judged.p_value)
    bad = int(np.sum(np.array(p_values) < 0.05))
    print(f"few counts: {bad} of 150 called inadequate at 0.05")
    assert rate_is_at_most(bad, 150, 0.05)
    # steps of 1/201 apart they are flat: Kolmogorov-Smirnov, false alarm 1e-3
    assert kstest(deviance_p_values, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("s", [0.003, 0.01, 0.05])
def test_an_injected_scatter_is_recovered_within_its_error(s):
    lines = [(e, 5e5, (e - 10, e + 10)) for e in ENERGIES]  # of lines that a scatter cannot hide
    model = line_model(lines, k=20000.0, sigma=2.9)
    expected = model.bind(EDGES).counts(model.values)
    blank = simulated_spectrum(model, EDGES, np.random.default_rng(0), MASK)
    rng, found, inside, trials = np.random.default_rng(3), [], 0, 600
    for _ in range(trials):
        true = expected * (1.0 + s * rng.standard_normal(expected.size))
        data = replace(blank, counts=rng.poisson(true).astype(float))
        a = fit_spectrum(model, data).adequacy
        found.append(a.systematic)
        inside += a.systematic_range[0] <= s <= a.systematic_range[1]
    spread = np.std(found) / np.sqrt(trials)
    print(f"s = {s:g}: mean {np.mean(found):.5f} +- {spread:.5f}, "
          f"spread {np.std(found):.5f}, in the 68 % limits {inside / trials:.3f}")  # fmt: skip
    # its square is what has no bias: s itself is low by half its relative variance
    assert np.mean(np.square(found)) == pytest.approx(
        s**2, abs=4 * np.std(np.square(found)) / np.sqrt(trials) + 0.02 * s**2
    )
    # binomial, 4 standard deviations
    assert abs(inside / trials - 0.683) < 4 * np.sqrt(0.683 * 0.317 / trials)
