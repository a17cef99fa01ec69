"""Laws between parameters: values, slopes, and what a file holds of them."""

import astromodels
import numpy as np
import pytest

from cosi_linebkg_plugin.errors import ModelError
from cosi_linebkg_plugin.spectrum.components import (
    Component,
    Parameter,
    SpectralModel,
    range_counts,
    tabulate,
)
from cosi_linebkg_plugin.spectrum.laws import FUNCTIONS, Law

VALUES = {
    "Constant": (4.0,),
    "Line": (3.0, -0.2),
    "Quadratic": (1.0, 2.0, 0.3),
    "Cubic": (1.0, 2.0, 0.3, -0.01),
    "Powerlaw": (2.0, 3.0, -1.7),
}
EDGES = np.linspace(1500.0, 2000.0, 101)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_laws_are_those_of_astromodels(name):
    function = getattr(astromodels, name)()
    assert list(function.parameters) == list(FUNCTIONS[name][0])
    for parameter, value in zip(function.parameters.values(), VALUES[name], strict=True):
        parameter.bounds, parameter.value = (None, None), value
    for x in (0.7, 2.0, 31.0):
        law = Law(name, VALUES[name])
        assert law(x) == pytest.approx(float(function(x)), rel=1e-14)
        step = 1e-4
        slope = (float(function(x + step)) - float(function(x - step))) / (2 * step)
        assert law.slope(x) == pytest.approx(slope, rel=1e-6, abs=1e-9)
        assert law.for_a_file(x) is law


def test_a_law_that_a_file_cannot_hold_becomes_its_tangent():
    law = Law("Log_parabola", (), lambda x: np.log(x) ** 2)
    tangent = law.for_a_file(50.0)
    assert tangent.tangent and tangent.name == "Line"
    assert tangent(50.0) == pytest.approx(law(50.0)) and tangent.slope(50.0) == pytest.approx(
        2 * np.log(50.0) / 50.0, rel=1e-6
    )


def chain():
    """mu_3 = mu_2 + 20, F_3 = 0.5 F_2, and sigma follows F_3, which follows itself."""
    parameters = [
        Parameter("sigma_2", 9.0, free=False), Parameter("F_2", 1000.0, low=0.0),
        Parameter("mu_2", 1700.0), Parameter("F_3", 7.0, free=False),
        Parameter("mu_3", 1.0, free=False), Parameter("K_1", 100.0), Parameter("piv_1", 1700.0),
        Parameter("index_1", -2.0),
    ]  # fmt: skip
    return SpectralModel(
        tuple(parameters),
        (Component("powerlaw", (5, 6, 7)), Component("gaussian", (1, 2, 0)),
         Component("gaussian", (3, 4, 0))),
        derived=((4, 2, Law("Line", (20.0, 1.0))), (3, 1, Law("Line", (0.0, 0.5))),
                 (0, 3, Law("Powerlaw", (3.0, 500.0, 0.5)))),
    )  # fmt: skip


def test_derivatives_go_through_chains_of_laws():
    model = chain()
    theta = model.resolve(model.values)
    assert theta[[0, 3, 4]] == pytest.approx([3.0, 500.0, 1720.0])
    _, jac = model.bind(EDGES).counts_and_jacobian(model.values)
    _, in_range = range_counts(model, model.values, 1690.0, 1731.0, EDGES)
    for i in (1, 2, 5, 7):
        step = 1e-6 * abs(theta[i])
        up, down = theta.copy(), theta.copy()
        up[i] += step
        down[i] -= step
        counts = [model.bind(EDGES).counts(t) for t in (up, down)]
        assert np.allclose(jac[i], (counts[0] - counts[1]) / (2 * step), rtol=1e-4, atol=1e-5)
        counts = [range_counts(model, t, 1690.0, 1731.0, EDGES)[0] for t in (up, down)]
        slope = (counts[0] - counts[1]) / (2 * step)
        assert np.allclose(in_range[:, i], slope, rtol=1e-4, atol=1e-5)
        moved = (model.resolve(up) - model.resolve(down)) / (2 * step)
        assert np.allclose(model.slopes(theta)[:, i], moved, rtol=1e-5, atol=1e-9)


def test_a_tangent_is_for_the_best_fit_alone():
    model = chain()
    own = Law("Own", (), lambda x: 3.0 * (x / 500.0) ** 0.5)
    model = SpectralModel(
        model.parameters, model.components, derived=(*model.derived[:2], (0, 3, own))
    )
    model.require_functions()
    kept = tabulate(model, model.values, EDGES)
    theta = model.resolve(model.values)
    for a, b in zip(kept.bind(EDGES).counts_and_jacobian(theta),
                    model.bind(EDGES).counts_and_jacobian(theta), strict=True):  # fmt: skip
        assert np.allclose(a, b, rtol=1e-6, atol=1e-9)
    with pytest.raises(ModelError, match="keeps a law between parameters at the best fit alone"):
        kept.require_functions()
