"""The spectrum that a search fits at each step."""

import numpy as np
import pytest
from line_spectra import EDGES

from cosi_linebkg_plugin.errors import ModelError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.objective import Objective
from cosi_linebkg_plugin.lines.trial import (
    Form,
    Settings,
    Shape,
    TrialLine,
    checked_settings,
    expected_fall,
    fit_quickly,
    fitted_shape,
    lines_of,
    trial_model,
)
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.lineshapes import EnergyGrid, tailed_gaussian_counts

SETTINGS = Settings(3.0, Form(), 0.05, 20, 1750.0)


def shape_with(sigma, fraction=0.2, length=10.0, free=True, **form):
    values = {"K": 3376.0, "index": -1.8, "sigma": sigma, "fraction": fraction, "length": length}
    return Shape(values, Form(free_width=free, free_tail=free, **form))


LINES = [
    TrialLine(1633.6, 4e4, (1625.0, 1640.0)),
    TrialLine(1778.99, 4e4, (1770.0, 1790.0), fixed=True),
]


@pytest.mark.parametrize("tail", [False, True])
def test_names_are_those_of_the_model_that_is_handed_on(tail):
    own = trial_model(SETTINGS, LINES, shape_with(3.0, tail=tail))
    model = numerical_model(spectrum_parts([1633.6, 1778.99], pivot=1750, tail=tail))
    assert (own.names, own.links) == (model.names, model.links)
    assert [(c.kind, c.slots) for c in own.components] == [
        (c.kind, c.slots) for c in model.components
    ]
    free = {p.name for p in own.parameters if p.free}
    assert "mu_2" in free and "mu_3" not in free


@pytest.mark.parametrize("form", [{"width": "linear"}, {"width": "linear", "tail": True},
                                  {"step": True}, {"continuum": "broken_powerlaw"}])  # fmt: skip
@pytest.mark.parametrize("energies", [(490.0, 510.5, 512.0, 530.0), (511.0,), (600.0, 700.0), ()])
def test_limits_and_functions_are_those_of_the_model_that_is_handed_on(form, energies):
    """But for the search's own limits of the width and the tail's length."""
    settings = Settings(1.5, Form(), 0.05, 20, 600.0)
    lines = [TrialLine(e, 100.0, (e - 0.5, e + 0.5)) for e in energies]
    shape = shape_with(1.5, **form)
    shape = Shape({**shape.values, "a": 1.0, "b": 1.25 / 600.0}, shape.form)
    own = trial_model(settings, lines, shape)
    given = [(x.energy, x.window) for x in lines]
    model = numerical_model(spectrum_parts(given, pivot=600.0, sigma=1.5, **form))
    assert (own.components, own.links) == (model.components, model.links)
    # one line has names without the number of the part
    for mine, theirs in zip(own.parameters, model.parameters, strict=True):
        assert (mine.name, mine.unit, mine.free) == (theirs.name, theirs.unit, theirs.free)
        if mine.name.rpartition("_")[0] not in ("sigma", "length"):
            assert (mine.low, mine.high) == (theirs.low, theirs.high), mine.name


def test_two_lines_at_one_energy_are_refused():
    with pytest.raises(ModelError, match="the same energy"):
        trial_model(SETTINGS, [LINES[0], LINES[0]], shape_with(3.0))


@pytest.mark.parametrize("enough", [-50.0, 50.0])
def test_a_fit_may_end_where_enough_is_known(enough):
    """Whether a line is worth 50 is known long before the deviance without it."""
    model = trial_model(SETTINGS, LINES, shape_with(2.5, tail=True))
    counts = np.random.default_rng(4).poisson(model.bind(EDGES).counts(model.values))
    spectrum, grid = EnergySpectrum(EDGES, counts.astype(float)), EnergyGrid.from_edges(EDGES)
    start = trial_model(SETTINGS, LINES, shape_with(3.5, 0.4, 6.0, tail=True))
    full = fit_quickly(start, spectrum, grid)
    calls = []
    for goal in (None, full.deviance + enough):
        with pytest.MonkeyPatch.context() as patch:
            scoring, n = Objective.scoring, []
            patch.setattr(Objective, "scoring", lambda *a, s=scoring, n=n: n.append(1) or s(*a))
            fit = fit_quickly(start, spectrum, grid, enough=goal)
        calls.append(len(n))
    assert calls[1] < calls[0]
    assert full.deviance <= fit.deviance + 1e-9
    assert (fit.deviance < full.deviance + enough) == (enough > 0.0)


@pytest.mark.parametrize("tail", [False, True])
def test_lines_and_shape_are_read_out_of_a_fit(tail):
    shape = shape_with(2.5, 0.3, 12.0, tail=tail)
    model = trial_model(SETTINGS, LINES, shape)
    spectrum = EnergySpectrum(EDGES, np.round(model.bind(EDGES).counts(model.values)))
    fit = fit_spectrum(model, spectrum)
    for got, line in zip(lines_of(fit), LINES, strict=True):
        assert got.energy == pytest.approx(line.energy, abs=0.1)
        assert got.counts == pytest.approx(line.counts, rel=0.02)
        assert (got.window, got.fixed) == (line.window, line.fixed)
    found = fitted_shape(fit, shape)
    assert found.sigma(1700.0) == pytest.approx(2.5, abs=0.1) and found.form == shape.form
    if tail:
        assert found.values["fraction"] == pytest.approx(0.3, abs=0.05)
    no_line = fit_spectrum(trial_model(SETTINGS, [], shape), spectrum)
    assert lines_of(no_line) == []
    assert fitted_shape(no_line, shape).values["sigma"] == 2.5
    assert fitted_shape(no_line, shape).values["K"] == no_line.values["K"]


def test_a_line_at_511_keV_has_a_width_of_its_own():
    edges = np.linspace(450.0, 650.0, 201)
    lines = [
        TrialLine(511.0, 2e4, (509.0, 513.0), own=(("sigma", 2.9),)),
        TrialLine(574.0, 2e4, (570.0, 578.0)),
    ]
    settings = Settings(1.5, Form(), 0.05, 20, 550.0)
    model = trial_model(settings, lines, shape_with(1.5))
    counts = model.bind(edges).counts(model.values)
    fit = fit_quickly(model, EnergySpectrum(edges, np.round(counts)), EnergyGrid.from_edges(edges))
    (annihilation, other), shape = lines_of(fit), fitted_shape(fit, shape_with(1.0))
    assert dict(annihilation.own)["sigma"] == pytest.approx(2.9, abs=0.05)
    assert other.own == () and shape.sigma(574.0) == pytest.approx(1.5, abs=0.05)
    full = fit_spectrum(model, EnergySpectrum(edges, np.round(counts)))
    assert fit.deviance == pytest.approx(full.deviance, abs=1e-4)
    for name, error in full.errors.items():
        assert fit.errors[name] == pytest.approx(error, rel=0.01)


@pytest.mark.parametrize("continuum", ["powerlaw_polynomial", "broken_powerlaw"])
def test_a_growing_width_and_other_continua_are_read_out_of_a_fit(continuum):
    edges = np.linspace(500.0, 1500.0, 501)
    lines = [TrialLine(e, 5e4, (e - 8.0, e + 8.0)) for e in (600.0, 800.0, 1100.0, 1400.0)]
    form = Form(continuum, "linear", step=True, free_width=True, free_tail=True)
    values = {"K": 900.0, "index": -1.5, "c2": 0.4, "c3": -0.3, "alpha": -1.0, "xb": 1000.0,
              "beta": -2.5, "a": 1.0, "b": 0.004, "step": 2e-3}  # fmt: skip
    settings = Settings(2.0, form, 0.05, 20, 1000.0)
    model = trial_model(settings, lines, Shape(values, form))
    counts = np.round(model.bind(edges).counts(model.values))
    fit = fit_quickly(model, EnergySpectrum(edges, counts), EnergyGrid.from_edges(edges))
    assert fit.is_determined and fit.at_limits == ()
    found = fitted_shape(fit, Shape({}, form))
    assert found.sigma(1000.0) == pytest.approx(np.sqrt(5.0), abs=0.03)
    assert found.values["step"] == pytest.approx(2e-3, rel=0.05)
    for role in ("K", "c2", "c3") if continuum == "powerlaw_polynomial" else ("alpha", "beta"):
        assert found.values[role] == pytest.approx(values[role], rel=0.1)


def test_one_step_tells_what_another_form_may_gain():
    edges = np.linspace(500.0, 1500.0, 501)
    values = {"K": 900.0, "index": -1.5, "sigma": 2.0, "c2": 0.0, "c3": 0.0}
    bent = Form("powerlaw_polynomial")
    settings, grid = Settings(2.0, bent, 0.05, 20, 1000.0), EnergyGrid.from_edges(edges)
    truth = trial_model(settings, [], Shape(values | {"c2": 0.15}, bent))
    spectrum = EnergySpectrum(edges, np.round(truth.bind(edges).counts(truth.values)))
    straight = fit_quickly(trial_model(settings, [], Shape(values, Form())), spectrum, grid)
    start = fitted_shape(straight, Shape(values, Form())).values
    model = trial_model(settings, [], Shape(start, bent))
    fall, deviance = expected_fall(model, spectrum, grid)
    assert deviance == pytest.approx(straight.deviance, rel=1e-9)
    gained = straight.deviance - fit_quickly(model, spectrum, grid).deviance
    assert gained > 20.0 and fall == pytest.approx(gained, rel=0.2)


@pytest.mark.parametrize("tail", [False, True])
def test_shapes_hold_one_count_each(tail):
    shape = shape_with(2.5, 0.3, 12.0, tail=tail)
    counts = shape.counts(EDGES, np.array([1700.0, 1750.0, 1800.0]))
    assert counts.shape == (3, EDGES.size - 1)
    assert counts.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    narrow = Shape({"sigma": 0.2, "fraction": 0.3, "length": 0.5}, shape.form)
    wide = Shape({"sigma": 40.0, "fraction": 0.3, "length": 0.5}, shape.form)
    for other in (narrow, wide):
        values = {k: v if tail or k != "fraction" else 0.0 for k, v in other.values.items()}
        given = tailed_gaussian_counts(EDGES, 1.0, [1611.1, 1750.0], **values)[1][:, 0]
        found = other.counts(EDGES, np.array([1611.1, 1750.0]))
        np.testing.assert_allclose(found, given, atol=1e-12)
    energies = np.array([1400.0, 1495.0, 1500.0, 1611.1, 1993.0, 2003.0, 2200.0])
    given = tailed_gaussian_counts(EDGES, 1.0, energies, 2.5, 0.3 if tail else 0.0, 12.0)[1][:, 0]
    np.testing.assert_allclose(shape.counts(EDGES, energies), given, atol=1e-12)
    assert shape.counts(EDGES, np.empty(0)).shape == (0, EDGES.size - 1)


def test_what_was_asked_for_is_checked():
    spectrum = EnergySpectrum(EDGES, np.full(99, 1e4))
    settings = checked_settings(spectrum, 3.0, Form(), 0.05, None, None)
    assert (settings.pivot, settings.asked) == (1750.0, False)
    assert settings.max_lines == (99 - 44 - 3) // 2  # 4/9 of the bins stay
    for wrong, message in (
        (dict(sigma=0.01), "sigma= is the expected width of the lines"),
        (dict(false_alarm=0.5), "false_alarm= is a probability"),
        (dict(max_lines=40), "max_lines=40 is not possible"),
        (dict(pivot=-1.0), "pivot energy must be positive"),
        (dict(form=Form("quadratic")), "continuum= of a search is one of powerlaw, .* 'quadratic'"),
        (dict(form=Form(width="own")), "width= of a search is one of constant, linear"),
    ):
        options = dict(sigma=3.0, form=Form(), false_alarm=0.05, max_lines=None, pivot=None)
        with pytest.raises(ModelError, match=message):
            checked_settings(spectrum, **(options | wrong))
