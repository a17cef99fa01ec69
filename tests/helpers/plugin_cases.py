"""Plugins and models for tests of LineBackgroundLike."""

import astropy.units as u
import numpy as np
from astromodels import Model, PointSource, Powerlaw

from cosi_linebkg_plugin import LineBackgroundLike, background_model

EDGES = np.linspace(1700.0, 1900.0, 41)


def make_model(source="linebkg", lines=(1779.0,)):
    model = background_model(lines, pivot=1800, sigma=3.0, source=source)
    parameters = getattr(model, source).spectrum.main.shape.parameters
    parameters["K_1" if lines else "K"].value = 300.0
    if lines:
        parameters["F_2"].value = 2000.0
    return model


def draw(seed=1):
    model = make_model()
    plugin = LineBackgroundLike("truth", (EDGES, np.zeros(40)))
    plugin.set_model(model)
    return np.random.default_rng(seed).poisson(plugin.get_model()).astype(float)


def masked_plugin():
    p = LineBackgroundLike("bkg", (EDGES * u.keV, draw()))
    p.set_mask((1.8, 1.82) * u.MeV)
    p.seed(3)
    return p


def nuisance_plugin(name="nui", seed=1):
    p = LineBackgroundLike(name, (EDGES, draw(seed)), spectrum=make_model())
    p.set_mask((1800, 1820))
    p.seed(3)
    return p


def point_source_model():
    law = Powerlaw()
    law.K.value = 1.0
    return Model(PointSource("star", 0.0, 0.0, spectral_shape=law))
