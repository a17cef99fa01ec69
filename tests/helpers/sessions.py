"""Stand-ins for cosipy's likelihoods, and sessions without a sky, for tests of consumers."""

from typing import Any, Protocol, runtime_checkable

import astropy.units as u
import histpy
import numpy as np
from astromodels import Model, Parameter, ParticleSource, Powerlaw
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


@runtime_checkable
class BinnedBackgroundInterface(Protocol):
    """As cosipy 0.4.3 has it in cosipy.interfaces, written down here: it needs Python 3.12."""

    @property
    def axes(self) -> histpy.Axes: ...

    def expectation(self, copy: bool) -> histpy.Histogram: ...

    def set_parameters(self, **parameters: u.Quantity) -> None: ...

    @property
    def parameters(self) -> dict[str, u.Quantity]: ...


class Signal:
    """A ``BinnedExpectationInterface`` of sky counts: a map of its own that callers may change."""

    def __init__(self, contents):
        self.contents = contents

    def expectation(self, copy: bool) -> histpy.Histogram:
        assert copy, "with a background, the caller adds it in place"
        return histogram_of(axes(), self.contents.copy())


class PoissonPlugin(PluginPrototype):
    """The calls of cosipy 0.4.3: ThreeMLPluginInterface around PoissonLikelihood.

    As in its threeml_plugin_interface.py and likelihood_functions.py: norms come as parameters
    without limits, are set by bare name as quantities at each call, and the background's own
    histogram is added in place to the signal's.
    """

    def __init__(self, name: str, data: Any, bkg: BinnedBackgroundInterface, sky: float = 0.0):
        super().__init__(name, {})
        self.data, self.bkg, self.response = data, bkg, Signal(np.full_like(data, sky))
        self.own = {
            f"{name}_{label}": Parameter(label, norm.value, unit=norm.unit)
            for label, norm in bkg.parameters.items()
        }
        self.bkg_parameter = {key[len(name) + 1 :]: p for key, p in self.own.items()}

    @property
    def nuisance_parameters(self):
        return self.own

    def set_model(self, model):
        pass

    def get_number_of_data_points(self):
        return self.data.size

    def get_log_like(self):
        start = len(self.name) + 1
        self.bkg.set_parameters(**{key[start:]: p.as_quantity for key, p in self.own.items()})
        expectation = self.response.expectation(copy=True)
        expectation += self.bkg.expectation(copy=False)
        contents = expectation.contents
        return float(np.nansum(self.data * np.log(contents) - contents))

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
