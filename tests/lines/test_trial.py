"""The spectrum that a search fits at each step."""

import numpy as np
import pytest
from line_spectra import EDGES

from cosi_linebkg_plugin.errors import ModelError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.lines.trial import (
    Settings,
    Shape,
    TrialLine,
    checked_settings,
    fitted_shape,
    lines_of,
    trial_model,
)
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

SETTINGS = Settings(3.0, True, 0.05, 20, 1750.0)
LINES = [
    TrialLine(1633.6, 4e4, (1625.0, 1640.0)),
    TrialLine(1778.99, 4e4, (1770.0, 1790.0), fixed=True),
]


@pytest.mark.parametrize("tail", [False, True])
def test_names_are_those_of_the_model_that_is_handed_on(tail):
    shape = Shape(3.0, 0.2, 10.0, tail=tail, free_sigma=True, free_tail=True)
    own = trial_model(SETTINGS, (3376.0, -1.8), LINES, shape)
    model = numerical_model(spectrum_parts([1633.6, 1778.99], pivot=1750, tail=tail))
    assert (own.names, own.links) == (model.names, model.links)
    assert [(c.kind, c.slots) for c in own.components] == [
        (c.kind, c.slots) for c in model.components
    ]
    free = {p.name for p in own.parameters if p.free}
    assert "mu_2" in free and "mu_3" not in free


@pytest.mark.parametrize("tail", [False, True])
def test_lines_and_shape_are_read_out_of_a_fit(tail):
    shape = Shape(2.5, 0.3, 12.0, tail=tail, free_sigma=True, free_tail=tail)
    model = trial_model(SETTINGS, (3376.0, -1.8), LINES, shape)
    spectrum = EnergySpectrum(EDGES, np.round(model.bind(EDGES).counts(model.values)))
    fit = fit_spectrum(model, spectrum)
    for got, line in zip(lines_of(fit), LINES, strict=True):
        assert got.energy == pytest.approx(line.energy, abs=0.1)
        assert got.counts == pytest.approx(line.counts, rel=0.02)
        assert (got.window, got.fixed) == (line.window, line.fixed)
    found = fitted_shape(fit, shape)
    assert found.sigma == pytest.approx(2.5, abs=0.1)
    assert (found.free_sigma, found.free_tail, found.tail) == (True, tail, tail)
    if tail:
        assert found.fraction == pytest.approx(0.3, abs=0.05)
    no_line = fit_spectrum(trial_model(SETTINGS, (3376.0, -1.8), [], shape), spectrum)
    assert lines_of(no_line) == [] and fitted_shape(no_line, shape) is shape


@pytest.mark.parametrize("tail", [False, True])
def test_shapes_hold_one_count_each(tail):
    shape = Shape(2.5, 0.3, 12.0, tail=tail)
    counts = shape.counts(EDGES, np.array([1700.0, 1750.0, 1800.0]))
    assert counts.shape == (3, EDGES.size - 1)
    assert counts.sum(axis=1) == pytest.approx(1.0, abs=1e-6)


def test_what_was_asked_for_is_checked():
    spectrum = EnergySpectrum(EDGES, np.full(99, 1e4))
    settings = checked_settings(spectrum, 3.0, False, 0.05, None, None)
    assert (settings.pivot, settings.asked) == (1750.0, False)
    assert settings.max_lines == (99 - 44 - 3) // 2  # 4/9 of the bins stay
    for wrong, message in (
        (dict(sigma=0.01), "sigma= is the expected width of the lines"),
        (dict(false_alarm=0.5), "false_alarm= is a probability"),
        (dict(max_lines=40), "max_lines=40 is not possible"),
        (dict(pivot=-1.0), "pivot energy must be positive"),
    ):
        options = dict(sigma=3.0, tail=False, false_alarm=0.05, max_lines=None, pivot=None)
        with pytest.raises(ModelError, match=message):
            checked_settings(spectrum, **(options | wrong))
