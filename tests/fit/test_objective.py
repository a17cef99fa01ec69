"""What a fit minimises: value, gradient and information, compiled or not, with any priors."""

from dataclasses import replace

import numpy as np
import pytest
from fits import TWO_LINES, function_model

from cosi_linebkg_plugin.fit import objective as objective_module
from cosi_linebkg_plugin.fit.objective import Objective, amplitude_slots, start_inside
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.laws import Law
from cosi_linebkg_plugin.spectrum.priors import Prior


def with_prior(model, name, prior):
    parameters = tuple(replace(p, prior=prior) if p.name == name else p for p in model.parameters)
    return replace(model, parameters=parameters)


MODELS = {
    "plain": TWO_LINES,
    "gaussian": with_prior(TWO_LINES, "F_2", Prior.gaussian(7e3, 100.0)),
    "log-normal": with_prior(TWO_LINES, "F_2", Prior("Log_normal", (8.8, 0.05, 1.0))),
    "log-uniform": with_prior(TWO_LINES, "K_1", Prior("Log_uniform_prior", (1.0, 1e6))),
    "density": with_prior(TWO_LINES, "F_2", Prior("own", (), lambda x: 1 / (1 + (x - 7e3) ** 2))),
    "function": with_prior(function_model(), "F_2", Prior("Log_normal", (8.8, 0.05, 1.0))),
    "law": replace(
        with_prior(TWO_LINES, "F_2", Prior.gaussian(7e3, 100.0)),
        parameters=tuple(
            replace(p, free=False) if p.name == "F_3" else p for p in TWO_LINES.parameters
        ),
        derived=((TWO_LINES.names.index("F_3"), TWO_LINES.names.index("F_2"),
                  Law("Line", (0.0, 0.6))),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_derivatives_are_those_of_the_value(two_lines, kind):
    model = MODELS[kind]
    objective = Objective(model, two_lines)
    theta = model.values
    gradient, (value, again, information) = objective.gradient(theta), objective.scoring(theta)
    assert value == pytest.approx(objective.value(theta), rel=1e-12)
    assert np.allclose(gradient, again, rtol=1e-9, atol=1e-9)
    for i in model.free:
        step = 1e-6 * max(abs(theta[i]), 1.0)
        moved = []
        for sign in (1, -1):
            t = theta.copy()
            t[i] += sign * step
            moved.append(objective.value(t))
        slope = (moved[0] - moved[1]) / (2 * step)
        assert gradient[i] == pytest.approx(slope, rel=1e-3, abs=1e-5 * np.sqrt(information[i, i]))
    steps = 1e-3 / np.sqrt(np.diag(information)[model.free])
    hessian = objective.hessian(theta, model.free, steps)
    assert np.allclose(hessian, hessian.T) and np.all(np.diag(hessian) != 0)


def test_a_prior_costs_what_its_density_says(two_lines):
    plain, priors = (Objective(MODELS[k], two_lines) for k in ("plain", "log-normal"))
    prior = Prior("Log_normal", (8.8, 0.05, 1.0))
    a, b = TWO_LINES.values, TWO_LINES.values
    slot = TWO_LINES.names.index("F_2")
    b[slot] *= 1.1
    gain = (priors.value(b) - plain.value(b)) - (priors.value(a) - plain.value(a))
    assert gain == pytest.approx(float(prior.penalty(b[slot]) - prior.penalty(a[slot])))
    assert plain.is_compiled and not priors.is_compiled


def test_starts_lie_inside_limits_and_priors():
    model = with_prior(TWO_LINES, "F_2", Prior("Uniform_prior", (9e3, 1e4)))
    assert start_inside(model)[model.names.index("F_2")] == 9e3
    assert [model.names[i] for i in amplitude_slots(model)] == sorted(
        ["K_1", "F_2", "F_3"], key=model.names.index
    )


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({}, 0.25),
        ({"width": "linear"}, 0.25),
        ({"tail": True}, 0.7),
        ({"step": True}, 0.8),  # a step acts on all bins below its line
        ({"continuum": "powerlaw_polynomial"}, 0.25),
    ],
)
def test_parameters_far_apart_are_moved_together_in_a_hessian(monkeypatch, options, share):
    """Forty lines: the matrix of single moves, from fewer gradients."""
    energies = np.linspace(520.0, 1480.0, 40) + np.tile([0.0, 4.0], 20)
    model = numerical_model(spectrum_parts(energies, pivot=1000, sigma=2.0, **options))
    model = with_prior(model, "F_3", Prior.gaussian(900.0, 20.0))
    edges = np.linspace(500.0, 1500.0, 1001)
    counts = np.round(1.01 * model.bind(edges).counts(model.values))
    objective = Objective(model, EnergySpectrum(edges, counts))
    calls = []
    evaluate = Objective.evaluate
    monkeypatch.setattr(
        Objective, "evaluate", lambda self, *x: (calls.append(1), evaluate(self, *x))[1]
    )
    steps = 1e-2 / np.sqrt(np.diag(objective.scoring(model.values)[2])[model.free])
    calls.clear()
    together = objective.hessian(model.values, model.free, steps)
    n_together = len(calls)
    monkeypatch.setattr(objective_module, "_MANY", 10**6)
    alone = Objective(model, objective.spectrum).hessian(model.values, model.free, steps)
    n_alone = len(calls) - n_together
    assert n_alone == 2 * model.free.size
    assert n_together <= share * n_alone
    scale = np.sqrt(np.abs(np.diag(alone)))
    assert np.abs((together - alone) / np.outer(scale, scale)).max() < 1e-6
