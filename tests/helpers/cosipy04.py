"""Data, responses and backgrounds of cosipy 0.4.3, made from its own test files."""

from functools import cache

import astropy.units as u
import numpy as np
from astromodels import Band, Model, PointSource
from cosipy import SpacecraftHistory, test_data
from cosipy.data_io import EmCDSBinnedData
from cosipy.interfaces import ThreeMLPluginInterface
from cosipy.response import (
    BinnedInstrumentResponse,
    BinnedThreeMLModelFolding,
    BinnedThreeMLPointSourceResponse,
    FullDetectorResponse,
)
from cosipy.statistics import PoissonLikelihood
from histpy import Axes, HealpixAxis, Histogram
from scoords import SpacecraftFrame
from templates import template_of

FILES = test_data.path
RESPONSE = FILES / "test_full_detector_response.h5"
ORIENTATION = FILES / "20280301_2s.ori"
#: Of the whole response.
ALL_ENERGIES = (100.0, 10000.0)
SKY_POSITION = {"l": 50.0, "b": -45.0}


@cache
def detector():
    return FullDetectorResponse.open(RESPONSE)


@cache
def history():
    return SpacecraftHistory.open(ORIENTATION)


def livetime():
    return history().cumulative_livetime().to_value(u.s)


def axes_in(frame):
    """Em, Phi and PsiChi of the response; frame "local" or "galactic"."""
    own = detector().measurement_axes
    coordsys = SpacecraftFrame() if frame == "local" else "galactic"
    psichi = HealpixAxis(
        nside=own["PsiChi"].nside, scheme="ring", coordsys=coordsys, label="PsiChi"
    )
    return Axes([own["Em"], own["Phi"], own["PsiChi"] if frame == "local" else psichi])


def counts_of(axes, contents):
    return Histogram(axes, contents=np.asarray(contents, float))


def components(axes, seed=1):
    """Two backgrounds of different energies and angles, in counts."""
    shape = tuple(axis.nbins for axis in axes)
    rng = np.random.default_rng(seed)
    em, phi = (np.arange(n) + 0.5 for n in shape[:2])
    continuum = np.exp(-em / 3)[:, None] * np.exp(-(((phi - 8) / 6) ** 2))
    lines = np.exp(-(((em - 4) / 1.5) ** 2))[:, None] * np.exp(-(((phi - 18) / 5) ** 2))
    maps = {}
    for label, shape_of, total in (("continuum", continuum, 3000.0), ("lines", lines, 900.0)):
        pattern = rng.uniform(0.5, 1.5, shape[2])
        cells = (shape_of + 1e-3 * shape_of.mean())[:, :, None] * pattern
        maps[label] = total * cells / cells.sum()
    return maps


def template_on(axes, maps=None, **options):
    """A template of `components`, 5 % uncertain, in the livetime of the history."""
    known = {"source_range": ALL_ENERGIES, "livetime": livetime()}
    return template_of(components(axes) if maps is None else maps, axes, **(known | options))


def sky(norm=1.0):
    """A bright point source with a free norm."""
    spectrum = Band(K=norm, alpha=-1.0, beta=-2.0, xp=500.0, piv=500.0)
    spectrum.K.bounds = (1e-3, 1e2)
    for p in (spectrum.alpha, spectrum.beta, spectrum.xp):
        p.free = False
    source = PointSource("source", **SKY_POSITION, spectral_shape=spectrum)
    return Model(source), spectrum


def folding(data, instrument=None, flight=None):
    """A fresh one for each model: one that has seen a model keeps its source."""
    instrument = instrument or detector()
    response = BinnedThreeMLPointSourceResponse(
        data=data,
        instrument_response=BinnedInstrumentResponse(instrument, data),
        sc_history=flight or history(),
        energy_axis=instrument.axes["Ei"],
        nside=2 * data.axes["PsiChi"].nside,
    )
    return BinnedThreeMLModelFolding(data=data, point_source_response=response)


@cache
def sky_counts(frame):
    """Expected counts of the source at K = 1, on the response's axes."""
    axes = axes_in(frame)
    made = folding(EmCDSBinnedData(counts_of(axes, np.zeros([a.nbins for a in axes]))))
    made.set_model(sky()[0])
    expected = np.array(made.expectation(copy=True).to_dense().contents)
    expected.flags.writeable = False
    return expected


def plugin(data, background, name="cosi"):
    """cosipy's own likelihood and threeML plugin, with a background."""
    response = folding(data)
    likelihood = PoissonLikelihood(data, response, background)
    return ThreeMLPluginInterface(name, likelihood, response, background)
