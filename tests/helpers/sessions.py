"""Stand-ins for cosipy's likelihoods, and sessions without a sky, for tests of consumers."""

import numpy as np
from astromodels import Model, ParticleSource, Powerlaw
from templates import axes, histogram_of
from threeML import DataList, JointLikelihood
from threeML.plugin_prototype import PluginPrototype


def data_on(some_axes=None, unit=None):
    some_axes = some_axes or axes()
    return histogram_of(some_axes, np.ones([a.nbins for a in some_axes]), unit)


class Counting(PluginPrototype):
    """A stand-in for COSILike: Poisson counts of `bkg` times its norm."""

    def __init__(self, name, data, bkg, nuisance_param=None):
        self.data, self.bkg = data, bkg
        super().__init__(name, {nuisance_param.name: nuisance_param} if nuisance_param else {})

    def set_model(self, model):
        pass

    def get_number_of_data_points(self):
        return self.data.size

    def get_log_like(self):
        norm = next((p.value for p in self.nuisance_parameters.values()), 1.0)
        expectation = norm * self.bkg.contents + 1e-12
        return float(np.nansum(self.data * np.log(expectation) - expectation))

    def inner_fit(self):
        return self.get_log_like()


def nothing():
    """A model without free parameters; threeML needs one."""
    source = ParticleSource("nothing", Powerlaw())
    for p in source.spectrum.main.shape.parameters.values():
        p.free = False
    return Model(source)


def fit_of(*plugins):
    session = JointLikelihood(nothing(), DataList(*plugins))
    return session, session.fit(quiet=True)
