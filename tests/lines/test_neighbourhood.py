"""The part of a spectrum in which a change of one line is fitted."""

import numpy as np
import pytest

from cosi_linebkg_plugin.lines.neighbourhood import Neighbourhood
from cosi_linebkg_plugin.lines.trial import (
    Form,
    Settings,
    Shape,
    TrialLine,
    fit_quickly,
    lines_of,
    trial_model,
)
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.lineshapes import EnergyGrid

EDGES = np.linspace(500.0, 1500.0, 1001)
ENERGIES, COUNTS = (600.0, 800.0, 830.0, 1400.0), (3e3, 3e3, 1e3, 3e3)


@pytest.mark.parametrize("step", [False, True])
def test_a_line_is_worth_as_much_around_it_as_in_the_whole(step):
    form = Form(step=step, free_width=True, free_tail=True)
    shape = Shape({"K": 300.0, "index": -1.5, "sigma": 2.0, "step": 2e-3}, form)
    settings = Settings(2.0, form, 0.05, 20, 1000.0)
    lines = [TrialLine(e, n, (e - 5.0, e + 5.0)) for e, n in zip(ENERGIES, COUNTS, strict=True)]
    model = trial_model(settings, lines, shape)
    counts = np.random.default_rng(1).poisson(model.bind(EDGES).counts(model.values))
    spectrum = EnergySpectrum(EDGES, counts.astype(float)).with_mask([(700.0, 720.0)])
    grid = EnergyGrid.from_edges(EDGES)
    fit = fit_quickly(model, spectrum, grid)
    around = Neighbourhood.of(fit, (spectrum, grid), 830.0, 2.0)
    assert around.lines == [1, 2] and not around.is_whole
    assert around.spectrum.edges[[0, -1]].tolist() == [730.0, 930.0]
    # the lines in it and the continuum there are the fit's, the others are the offset
    lines = lines_of(fit)
    here = trial_model(settings, [lines[i] for i in around.lines], Shape(fit_values(fit), form))
    total = here.bind(around.grid).counts(here.values) + around.offset
    np.testing.assert_allclose(total, fit.counts_and_jacobian()[0][230:430], rtol=1e-9)
    gains = []
    for part, kept in ((around, [1]), (around, [1, 2]), (None, [0, 1, 3]), (None, [0, 1, 2, 3])):
        own = trial_model(settings, [lines[i] for i in kept], Shape(fit_values(fit), form))
        found = part.fit(own) if part else fit_quickly(own, spectrum, grid)
        gains.append(found.deviance)
    assert gains[0] - gains[1] == pytest.approx(gains[2] - gains[3], rel=0.1)


def fit_values(fit):
    return {name.rpartition("_")[0]: value for name, value in reversed(fit.values.items())}


def test_a_short_axis_is_all_of_it():
    form = Form()
    settings, grid = Settings(2.0, form, 0.05, 20, 1000.0), EnergyGrid.from_edges(EDGES[:150])
    shape = Shape({"K": 300.0, "index": -1.5, "sigma": 2.0}, form)
    model = trial_model(settings, [TrialLine(600.0, 3e3, (595.0, 605.0))], shape)
    spectrum = EnergySpectrum(EDGES[:150], np.round(model.bind(grid).counts(model.values)))
    fit = fit_quickly(model, spectrum, grid)
    around = Neighbourhood.of(fit, (spectrum, grid), 600.0, 2.0)
    assert around.is_whole and around.spectrum is spectrum and around.offset is None
    narrow = Neighbourhood.of(fit, (spectrum, grid), 510.0, 0.1)
    assert narrow.spectrum.n_bins == 110 and narrow.lines == [0]
