"""The demo's instrument and sky in cosipy's terms: what the collaboration publishes for real data.

The demo's spacecraft is at rest in the Galactic frame, so the response of a sky direction is its
Compton cone itself. Phi and PsiChi are coarser than in the demo, which keeps the response at 94 MB.
"""

import itertools
from pathlib import Path

import astropy.units as u
import h5py
import healpy as hp
import histpy
import numpy as np
from astromodels import DiracDelta, ExtendedSource, LinearPolarization, Model, SpectralComponent
from astromodels.functions.function import Function2D, FunctionMeta

from cosi_linebkg_plugin.app.simulation import (
    DEMO_LIVETIME,
    DEMO_SKY,
    SKY_ENERGY,
    simulate,
    sky_response,
    sky_spectrum,
)

NSIDE = 8  # of PsiChi and of the sky's image
PHI_EDGES = np.linspace(0.0, 180.0, 21)  # deg
#: Effective area for events in the 26Al line, averaged over the exposure; DC3's 35,600 counts then
#: stand for the 1.7e-3 photons/cm2/s of the whole Galaxy.
EFFECTIVE_AREA = 2.7 * u.cm**2


def coarse_events(path):
    """The demo's events on 20 bins of Phi and PsiChi of nside 8, dense."""
    fine = histpy.Histogram.open(str(path))
    em, phi, pixel = fine.contents.coords
    fine_nside = fine.axes["PsiChi"].nside
    ratio = (fine_nside // NSIDE) ** 2
    pixel = hp.nest2ring(NSIDE, hp.ring2nest(fine_nside, pixel) // ratio)
    phi = phi * (PHI_EDGES.size - 1) // fine.axes["Phi"].nbins
    shape = (fine.axes["Em"].nbins, PHI_EDGES.size - 1, hp.nside2npix(NSIDE))
    contents = np.zeros(shape)
    np.add.at(contents, (em, phi, pixel), fine.contents.data)
    axes = [fine.axes["Em"], *_compton_axes()]
    return histpy.Histogram(axes, contents=contents, track_overflow=False)


def write_response(path, source_range):
    """A file that COSILike takes as ``dr`` and as ``precomputed_psr_file``: cm2 s per direction.

    Parameters
    ----------
    source_range : (low, high), keV
        The one bin of measured energy.
    """
    image = histpy.HealpixAxis(nside=NSIDE, scheme="ring", coordsys="galactic", label="NuLambda")
    energy = [histpy.Axis(np.array(source_range) * u.keV, label=name) for name in ("Ei", "Em")]
    # share of a full-energy photon's counts in the source range; those that lose more are outside
    share = sky_spectrum(1.0, 0.0, np.array(source_range)).sum()
    exposure = (EFFECTIVE_AREA * DEMO_LIVETIME * u.s).to_value("cm2 s")
    cones = np.zeros((hp.nside2npix(NSIDE), 1, 1, PHI_EDGES.size - 1, hp.nside2npix(NSIDE)))
    for i in range(len(cones)):
        direction = np.array([[*hp.pix2ang(NSIDE, i, lonlat=True), 1.0]])
        phi, pattern = sky_response(direction, PHI_EDGES, NSIDE)
        cones[i, 0, 0] = share * phi[:, None] * pattern
    Path(path).unlink(missing_ok=True)
    histpy.Histogram(
        [image, *energy, *_compton_axes()],
        contents=exposure * cones,
        unit=u.Unit("cm2 s"),
        track_overflow=False,
    ).write(str(path))
    with h5py.File(path, "a") as file:  # the layout of a detector response
        drm = file.create_group("DRM")
        drm.attrs["UNIT"], drm.attrs["SPARSE"] = "cm2", False
        drm["CONTENTS"] = EFFECTIVE_AREA.to_value("cm2") * cones
        table = drm.create_group("AXES", track_order=True)
        for axis in (image, *energy, *_compton_axes()):
            edges = axis.edges if axis.unit is None else axis.edges.to_value(axis.unit)
            table[axis.label] = np.asarray(edges)
            table[axis.label].attrs["UNIT"] = "" if axis.unit is None else str(axis.unit)
            is_healpix = isinstance(axis, histpy.HealpixAxis)
            table[axis.label].attrs["TYPE"] = "healpix" if is_healpix else "linear"
            if is_healpix:
                table[axis.label].attrs["NSIDE"] = NSIDE
                table[axis.label].attrs["SCHEME"] = "ring"


class DemoSky(Function2D, metaclass=FunctionMeta):
    r"""
    description :

        The demo's 26Al sky on the pixels of the response; its integral is K

    latex : $ K\,n(\ell,b) $

    parameters :

        K :

            desc : Integral over the sky
            initial value : 1
            fix : yes

    """

    def _set_units(self, x_unit, y_unit, z_unit):
        self.K.unit = z_unit

    def evaluate(self, x, y, K):
        """Density per steradian at longitude x and latitude y [deg]."""
        lon, lat, weight = DEMO_SKY.T
        pixel = hp.ang2pix(NSIDE, lon, lat, lonlat=True)
        image = np.bincount(pixel, weights=weight, minlength=hp.nside2npix(NSIDE))
        density = image / image.sum() / hp.nside2pixarea(NSIDE)
        return K * density[hp.ang2pix(NSIDE, x, y, lonlat=True)]

    def get_boundaries(self):
        """The whole sky [deg]."""
        return (0.0, 360.0), (-90.0, 90.0)


def sky_model(flux=1e-4):
    """A model with the source "al26" and its line flux [photons/cm2/s], which is free."""
    spectrum = DiracDelta(zero_point=SKY_ENERGY, value=flux)
    spectrum.value.bounds = (1e-7, 1e-1)
    spectrum.value.delta = 0.1 * flux
    polarization = LinearPolarization(0.0, 0.0)  # none; cosipy 0.4.3 asks for it
    polarization.degree.free = polarization.angle.free = False
    component = SpectralComponent("main", spectrum, polarization)
    source = ExtendedSource("al26", spatial_shape=DemoSky(), components=[component])
    return Model(source), spectrum.value


def sky_folding(data, response):
    """cosipy 0.4.3's model folding for the response file, and the data as its likelihood wants.

    A new one is needed for each model: cosipy's keeps the source of the first.
    """
    from cosipy.data_io import EmCDSBinnedData
    from cosipy.response import BinnedThreeMLExtendedSourceResponse, BinnedThreeMLModelFolding
    from cosipy.response.ExtendedSourceResponse import ExtendedSourceResponse

    held = EmCDSBinnedData(data)
    sky = BinnedThreeMLExtendedSourceResponse(held, ExtendedSourceResponse.open(str(response)))
    return held, BinnedThreeMLModelFolding(data=held, extended_source_response=sky)


def true_flux(sky_counts):
    """The flux that the demo's number of full-energy counts stands for [photons/cm2/s]."""
    return sky_counts / (EFFECTIVE_AREA * DEMO_LIVETIME * u.s).to_value("cm2 s")


def _compton_axes():
    return [
        histpy.Axis(PHI_EDGES * u.deg, label="Phi"),
        histpy.HealpixAxis(nside=NSIDE, scheme="ring", coordsys="galactic", label="PsiChi"),
    ]


# --- without bins --------------------------------------------------------------------------------


def demo_events(source_range, seed=1):
    """The demo's events of the source range one by one, as cosipy 0.4.3 holds them, in any order.

    The demo counts events in fine cells (slices of energy, Phi, PsiChi of nside 16); in them the
    events are even. The telescope is at rest, its axes are those of the Galactic frame.
    """
    from cosipy.data_io.EmCDSUnbinnedData import TimeTagEmCDSEventDataInSCFrameFromArrays

    simulation, rng = simulate(seed), np.random.default_rng(seed)
    slices = simulation.slice_edges
    slices = slices[(slices >= source_range[0] - 1e-6) & (slices <= source_range[1] + 1e-6)]
    columns = []
    for low, high in itertools.pairwise(slices.tolist()):
        counts = simulation.observed(low, high)
        phi, pixel = (np.repeat(i, counts.ravel().astype(int)) for i in _cells(counts.shape))
        n = phi.size
        nside = hp.npix2nside(counts.shape[1])
        part = hp.ring2nest(nside, pixel) * 4096 + rng.integers(0, 4096, n)
        lon, lat = hp.pix2ang(64 * nside, part, nest=True, lonlat=True)
        columns.append(
            [
                rng.uniform(low, high, n),
                np.radians(lon),
                np.radians(lat),
                (phi + rng.uniform(size=n)) * np.pi / counts.shape[0],
            ]
        )
    columns = np.concatenate(columns, axis=1)
    times = demo_history().obstime[0] + rng.uniform(0, DEMO_LIVETIME, columns.shape[1]) * u.s
    return TimeTagEmCDSEventDataInSCFrameFromArrays(times.jd1, times.jd2, *columns)


def demo_history():
    """cosipy's SpacecraftHistory of a telescope at rest, always live."""
    from astropy.coordinates import GCRS, CartesianRepresentation
    from astropy.time import Time
    from cosipy import SpacecraftHistory
    from scipy.spatial.transform import Rotation
    from scoords import Attitude

    times = Time("2028-03-01", scale="utc") + np.array([0.0, DEMO_LIVETIME]) * u.s
    place = GCRS(CartesianRepresentation(np.array([[7000.0] * 2, [0.0] * 2, [0.0] * 2]) * u.km))
    attitude = Attitude(Rotation.identity(2), "galactic")
    return SpacecraftHistory(times, attitude, place, np.array([DEMO_LIVETIME]) * u.s)


class DemoSkyDensity:
    """The sky's density at each event: what cosipy's unbinned model folding is for a real one.

    Parameters
    ----------
    events : TimeTagEmCDSEventDataInSCFrameFromArrays
        In the source range, which the exposure is cut to.
    source_range : (low, high), keV
    """

    def __init__(self, events, source_range):
        self.event_type = events.event_type
        phi, pattern = sky_response(DEMO_SKY, PHI_EDGES, NSIDE)
        row = (events.scattering_angle_rad / np.pi * phi.size).astype(int)
        lon, lat = np.degrees(events.scattered_lon_rad_sc), np.degrees(events.scattered_lat_rad_sc)
        pixel = hp.ang2pix(NSIDE, lon, lat, lonlat=True)
        cell = np.pi / phi.size * hp.nside2pixarea(NSIDE)
        # energies: counts in narrow steps around each event
        step = 0.01
        edges = np.linspace(*source_range, round((source_range[1] - source_range[0]) / step) + 1)
        spectrum = sky_spectrum(1.0, 0.0, edges)
        energy = np.interp(events.energy_keV, 0.5 * (edges[1:] + edges[:-1]), spectrum / step)
        area = EFFECTIVE_AREA.to_value("cm2")
        self._density = area * energy * phi[row] * pattern[row, pixel] / cell
        self._counts = area * DEMO_LIVETIME * spectrum.sum()

    def set_model(self, model):
        self._flux = model.sources["al26"].spectrum.main.shape.value

    def expected_counts(self):
        return self._flux.value * self._counts

    def expectation_density(self):
        return self._flux.value * self._density


def _cells(shape):
    return [i.ravel() for i in np.indices(shape)]
