"""Scoring of many lines: the same optimum as with whole matrices."""

import numpy as np
import pytest

from cosi_linebkg_plugin.fit import objective as objective_module
from cosi_linebkg_plugin.fit.banded import score_banded
from cosi_linebkg_plugin.fit.objective import Objective
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

EDGES = np.linspace(500.0, 1500.0, 1001)
ENERGIES = np.linspace(515.0, 1485.0, 50) + np.tile([0.0, 5.0], 25)


def problem(seed=1, mask=(), **options):
    """Lines of different strengths, and start values that are off."""
    model = numerical_model(spectrum_parts(ENERGIES, pivot=1000, sigma=2.0, **options))
    rng = np.random.default_rng(seed)
    theta = model.values
    areas = [model.components[i].area for i in model.lines]
    theta[areas] = 10 ** rng.uniform(2.5, 4.5, len(areas))
    truth = model.bind(EDGES).counts(theta)
    spectrum = EnergySpectrum(EDGES, rng.poisson(truth).astype(float)).with_mask(mask)
    start = theta.copy()
    start[areas] = 2e3
    start[model.names.index("K_1")] *= 1.5
    return model, Objective(model, spectrum), start


@pytest.mark.parametrize(
    "options",
    [{}, {"width": "linear"}, {"tail": True}, {"step": True}, {"continuum": "broken_powerlaw"},
     {"mask": [(800, 900)]}],
)  # fmt: skip
def test_the_optimum_is_that_of_whole_matrices(monkeypatch, options):
    model, objective, start = problem(**options)
    banded = objective.score_to_minimum(start, model.free)
    monkeypatch.setattr(objective_module, "_BANDED", 10**6)
    whole = objective.score_to_minimum(start, model.free)
    # along a break scoring crawls, and ends where a step gains next to nothing
    assert banded[1] == pytest.approx(whole[1], abs=2e-3 if "continuum" in options else 1e-4)
    assert banded[1] == pytest.approx(objective.value(banded[0]))
    seen = np.sqrt(np.diag(objective.scoring(whole[0])[2]))[model.free]
    distance = np.abs(banded[0] - whole[0])[model.free] * seen
    assert np.median(distance) < 0.01


def test_limits_hold_and_what_cannot_move_stays():
    model, objective, start = problem()
    low, high = objective.low[model.free].copy(), objective.high[model.free].copy()
    area = list(model.free).index(model.names.index("F_9"))
    high[area] = 100.0
    start[model.names.index("F_9")] = 50.0
    theta, value = score_banded(objective, start, model.free, low, high)
    assert theta[model.names.index("F_9")] == 100.0
    assert np.all((theta[model.free] >= low) & (theta[model.free] <= high))
    fixed = np.setdiff1d(np.arange(start.size), model.free)
    assert np.array_equal(theta[fixed], start[fixed])
    assert value < objective.value(start)


def test_nothing_to_move_is_where_it_was():
    model, objective, start = problem()
    slots = np.array([model.names.index("F_9")])
    at = np.array([start[slots[0]]])
    theta, value = score_banded(objective, start, slots, at, at)
    assert np.array_equal(theta, start) and value == objective.value(start)
