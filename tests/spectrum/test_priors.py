"""Priors as numbers, against astromodels."""

import astromodels
import numpy as np
import pytest

from cosi_linebkg_plugin.errors import ModelError
from cosi_linebkg_plugin.spectrum.components import Parameter
from cosi_linebkg_plugin.spectrum.priors import FUNCTIONS, Prior

VALUES = {
    "Gaussian": (600.0, 5.0),
    "Truncated_gaussian": (600.0, 5.0, 595.0, 650.0),
    "Uniform_prior": (590.0, 640.0),
    "Log_uniform_prior": (10.0, 1000.0),
    "Log_normal": (6.4, 0.1, 1.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_densities_and_slopes_are_those_of_astromodels(name):
    function = getattr(astromodels, name)()
    for key, value in zip(FUNCTIONS[name], VALUES[name], strict=True):
        getattr(function, key).bounds = (None, None)
        getattr(function, key).value = value
    prior = Prior(name, VALUES[name])
    x = np.array([596.0, 601.0, 611.0, 630.0])
    penalty = prior.penalty(x)
    density = -np.log(function(x))
    assert np.allclose(penalty - penalty[0], density - density[0], rtol=1e-9, atol=1e-9)
    h = 1e-2
    for at in x:
        slope, curvature = prior.slope_and_curvature(at)
        below, here, above = prior.penalty(np.array([at - h, at, at + h]))
        assert slope == pytest.approx((above - below) / (2 * h), rel=1e-4, abs=1e-9)
        assert curvature == pytest.approx((above - 2 * here + below) / h**2, rel=1e-3, abs=1e-8)
    low, high = prior.support
    outside = [v for v in (low - 1.0, high + 1.0) if np.isfinite(v)]
    assert np.isinf(prior.penalty(np.array(outside))).all()
    for v in outside:
        assert float(function(np.array([v]))[0]) < 1e-300


def test_any_density_will_do():
    prior = Prior("Cauchy", (), lambda x: 1.0 / (1.0 + (x - 3.0) ** 2))
    assert prior.slope_and_curvature(4.0)[0] == pytest.approx(1.0, rel=1e-6)
    assert prior.is_known and not Prior("Cauchy").is_known


def test_limits_are_those_of_parameter_and_prior():
    prior = Prior("Uniform_prior", (590.0, 640.0))
    assert Parameter("F_2", 1.0, low=0.0, prior=prior).limits == (590.0, 640.0)
    assert Parameter("F_2", 1.0, low=600.0, prior=prior).limits == (600.0, 640.0)
    with pytest.raises(ModelError, match="prior of F_2 reaches from 590 to 640, outside"):
        _ = Parameter("F_2", 1.0, high=500.0, prior=prior).limits
