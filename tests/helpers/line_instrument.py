"""Real templates of several energy bins, and an instrument in cosipy's terms to go with them.

The demo's background at low resolution, around 26Al. The telescope is at rest in the Galactic
frame, so that the response of a direction of the sky is its Compton cone; photons have one energy,
and what the detector makes of it is the line shape. cosipy 0.3.4 and 0.4.3 read the same file.
"""

import itertools
from functools import cache

import astropy.units as u
import h5py
import healpy as hp
import histpy
import numpy as np
from scipy.stats import norm

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import (
    DEMO_LINE_RATIO,
    DEMO_LIVETIME,
    SKY_ENERGY,
    simulate,
    sky_response,
    sky_spectrum,
)
from cosi_linebkg_plugin.histograms.write import make_histogram

NSIDE = 2
PHI_EDGES = np.linspace(0.0, 180.0, 13)  # deg
BINS = np.arange(1798.0, 1819.0, 4.0)  # keV: five bins, with 1808.65 keV in the third
ENERGY_EDGES = np.r_[1700.0:1791.0:5.0, BINS, 1825.0:1901.0:5.0]
RATIO = {"line": SKY_ENERGY, "tracer": 1778.97, "value": DEMO_LINE_RATIO, "error": 0.015}
AREA = 2.7  # cm2, for all events of the line
TRUE_FLUX = 2.5e-4  # photons/cm2/s, some 5000 events
PLACE = (20.0, 10.0)  # Galactic coordinates of the source, deg
SIZE = 15.0  # deg


class Flight:
    """Events without a source, their fitted spectrum, and templates of five energy bins."""

    def __init__(self, seed=4, extra_edges=()):
        self.simulation = simulate(
            seed,
            nside=NSIDE,
            sky_counts=0.0,
            energy_edges=ENERGY_EDGES,
            phi_edges=PHI_EDGES,
            extra_edges=extra_edges,
        )
        lines = [line for line in resolved_lines() if 1705 < line < 1895]
        spectrum = background_model(lines, pivot=1800)
        self.plugin = LineBackgroundLike(
            "linebkg", simulated_events(self.simulation), spectrum=spectrum
        )
        self.plugin.set_mask((1790, 1825))
        self.plugin.set_model(sky_model()[0])
        self.counts = np.array(
            [self.simulation.observed(a, b) for a, b in itertools.pairwise(BINS)]
        )

    def template(self, **options):
        self.fit = self.plugin.fit()
        known = {"energy_edges": BINS, "line_ratio": RATIO, "livetime": DEMO_LIVETIME, "l_cut": 4}
        return self.plugin.background_template(self.fit, (BINS[0], BINS[-1]), **(known | options))


@cache
def cones():
    """Effective area, cm2: shape (n_directions, 1, n_em, n_phi, n_pixels)."""
    directions = np.arange(hp.nside2npix(NSIDE))
    shares = sky_spectrum(1.0, 0.0, BINS)
    out = np.zeros((directions.size, 1, shares.size, PHI_EDGES.size - 1, directions.size))
    for i in directions:
        place = np.array([[*hp.pix2ang(NSIDE, i, lonlat=True), 1.0]])
        phi, pattern = sky_response(place, PHI_EDGES, NSIDE)
        out[i, 0] = AREA * shares[:, None, None] * phi[:, None] * pattern
    return out


def axes():
    """NuLambda, Ei, Em, Phi, PsiChi."""
    options = {"nside": NSIDE, "scheme": "ring", "coordsys": "galactic"}
    return [
        histpy.HealpixAxis(label="NuLambda", **options),
        histpy.Axis(BINS[[0, -1]] * u.keV, label="Ei"),
        histpy.Axis(BINS * u.keV, label="Em"),
        histpy.Axis(PHI_EDGES * u.deg, label="Phi"),
        histpy.HealpixAxis(label="PsiChi", **options),
    ]


def write_response(path):
    """A file that is a detector response, and one of the sky for the whole exposure, cm2 s."""
    unit = u.Unit("cm2 s")
    exposure = histpy.Histogram(
        axes(), contents=DEMO_LIVETIME * cones(), unit=unit, track_overflow=False
    )
    exposure.write(str(path))
    with h5py.File(path, "a") as file:
        drm = file.create_group("DRM")
        drm.attrs["UNIT"], drm.attrs["SPARSE"] = "cm2", False
        drm["CONTENTS"] = cones()
        table = drm.create_group("AXES", track_order=True)
        for axis in axes():
            edges = axis.edges if axis.unit is None else axis.edges.to_value(axis.unit)
            entry = table.create_dataset(axis.label, data=np.asarray(edges))
            healpix = isinstance(axis, histpy.HealpixAxis)
            entry.attrs["UNIT"] = "" if axis.unit is None else str(axis.unit)
            entry.attrs["TYPE"] = "healpix" if healpix else "linear"
            if healpix:
                entry.attrs["NSIDE"], entry.attrs["SCHEME"] = NSIDE, "ring"
    return path


def sky_model(flux=TRUE_FLUX):
    """A model with a round source of one photon energy, and its flux, which is free."""
    from astromodels import (
        DiracDelta,
        ExtendedSource,
        Gaussian_on_sphere,
        LinearPolarization,
        Model,
        SpectralComponent,
    )

    spectrum = DiracDelta(zero_point=SKY_ENERGY, value=flux)
    spectrum.value.bounds = (1e-7, 1e-1)
    spectrum.value.delta = 0.1 * flux
    polarization = LinearPolarization(0.0, 0.0)  # none; cosipy 0.4.3 asks for it
    polarization.degree.free = polarization.angle.free = False
    shape = Gaussian_on_sphere(lon0=PLACE[0], lat0=PLACE[1], sigma=SIZE)
    for parameter in shape.parameters.values():
        parameter.free = False
    component = SpectralComponent("main", spectrum, polarization)
    return Model(ExtendedSource("source", spatial_shape=shape, components=[component])), spectrum


def sky_counts():
    """Expected counts of the source at unit flux, shape (n_em, n_phi, n_pixels), without cosipy."""
    from astromodels import Gaussian_on_sphere

    lon, lat = hp.pix2ang(NSIDE, np.arange(hp.nside2npix(NSIDE)), lonlat=True)
    shape = Gaussian_on_sphere(lon0=PLACE[0], lat0=PLACE[1], sigma=SIZE)
    flux = shape(lon, lat) * hp.nside2pixarea(NSIDE)
    return DEMO_LIVETIME * np.tensordot(flux, cones()[:, 0], axes=1)


def amounts(fit, pair):
    """Counts of continuum and lines in a range, with the line of `RATIO`, by hand."""
    continuum, lines = fit.expected_counts(pair).values
    energies = {name: x for name, x in fit.values.items() if name.startswith("mu_")}
    tracer = min(energies, key=lambda name: abs(energies[name] - RATIO["tracer"]))
    area = fit.values[tracer.replace("mu", "F")] * RATIO["value"]
    share = np.diff(norm.cdf(pair, RATIO["line"], fit.values["sigma_2"]))[0]
    return {"continuum": continuum, "lines": lines + area * share}


def histogram(template, counts):
    """Counts on the axes of a template."""
    return make_histogram(template.axes, counts)
