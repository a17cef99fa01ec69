"""Default priors: proper, inside the bounds, and usable by every kind of sampler."""

import numpy as np
import pytest
from astromodels import Gaussian, Uniform_prior
from threeML import BayesianAnalysis, DataList

from cosi_linebkg_plugin import LineBackgroundLike, background_model, default_priors
from cosi_linebkg_plugin.errors import ModelError

EDGES = np.linspace(1700.0, 1800.0, 41)


@pytest.fixture
def plugin():
    energies = 0.5 * (EDGES[1:] + EDGES[:-1])
    line = 3000 * np.exp(-0.5 * ((energies - 1764) / 3) ** 2) * 2.5 / (3 * np.sqrt(2 * np.pi))
    counts = np.random.default_rng(1).poisson(500 + line)
    return LineBackgroundLike("linebkg", (EDGES, counts))


def test_every_free_parameter_gets_a_prior_inside_its_bounds(plugin):
    model = background_model([1720, 1764], tail=True, pivot=1750)
    plugin.guess(model)
    model.linebkg.spectrum.main.shape.F_2.value = 0.0
    default_priors(model)
    for p in model.free_parameters.values():
        low, high = p.bounds
        bottom, top = p.prior.lower_bound.value, p.prior.upper_bound.value
        assert bottom <= p.value <= top and p.value != 0, p.path
        assert low is None or bottom >= low
        assert high is None or top <= high
        assert np.isfinite(p.prior(p.value)) and p.prior(p.value) > 0
        for u in (0.0, 0.5, 1.0):  # unit-cube samplers
            assert bottom <= p.prior.from_unit_cube(u) <= top * (1 + 1e-12)


def test_own_priors_are_kept_or_refused(plugin):
    model = background_model([1764], pivot=1750)
    plugin.guess(model)
    shape = model.linebkg.spectrum.main.shape
    own = Gaussian(F=1.0, mu=1764.0, sigma=0.5)
    shape.mu_2.prior = own
    default_priors(model)
    assert shape.mu_2.prior is own
    shape.sigma_2.prior = Uniform_prior(lower_bound=0.0, upper_bound=60.0, value=1 / 60)
    with pytest.raises(ModelError, match=r"sigma_2 reaches from 0 to 60, beyond"):
        default_priors(model)


def test_a_parameter_without_a_scale_is_named(plugin):
    model = background_model([], pivot=1750)
    model.linebkg.spectrum.main.shape.index.bounds = (None, None)
    with pytest.raises(ModelError, match=r"index: its bounds are None and None"):
        default_priors(model)
    assert not model.linebkg.spectrum.main.shape.K.has_prior()  # refused before any is set


@pytest.mark.parametrize("sampler", ["emcee", "dynesty_nested"])
def test_samplers_take_them(plugin, sampler):
    np.random.seed(1)  # noqa: NPY002  # what threeML's samplers draw from
    pytest.importorskip(sampler.removesuffix("_nested"))
    model = background_model([1764], pivot=1750)
    fit = plugin.fit(model)
    default_priors(model)
    session = BayesianAnalysis(model, DataList(plugin))
    session.set_sampler(sampler)
    if sampler == "emcee":
        session.sampler.setup(n_iterations=400, n_burn_in=300, n_walkers=20, seed=1)
    else:
        session.sampler.setup(nlive=100)
    session.sample(quiet=True)
    posterior = plugin.result(session)
    # some 200 independent samples: a third of an error, and a quarter of its size
    for name, error in fit.errors.items():
        assert abs(posterior.values[name] - fit.values[name]) < 0.5 * error
        assert posterior.errors[name] == pytest.approx(error, rel=0.3)
