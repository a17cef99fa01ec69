"""The demo's instrument and sky in cosipy's terms: what the collaboration publishes for real data.

The demo's spacecraft is at rest in the Galactic frame, so the response of a sky direction is its
Compton cone itself. Phi and PsiChi are coarser than in the demo, which keeps the response at 94 MB.
"""

from pathlib import Path

import astropy.units as u
import h5py
import healpy as hp
import histpy
import numpy as np
from astromodels import DiracDelta, ExtendedSource, Model
from astromodels.functions.function import Function2D, FunctionMeta

from cosi_linebkg_plugin.app.simulation import (
    DEMO_LIVETIME,
    DEMO_SKY,
    SKY_ENERGY,
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
    source = ExtendedSource("al26", spatial_shape=DemoSky(), spectral_shape=spectrum)
    return Model(source), spectrum.value


def true_flux(sky_counts):
    """The flux that the demo's number of full-energy counts stands for [photons/cm2/s]."""
    return sky_counts / (EFFECTIVE_AREA * DEMO_LIVETIME * u.s).to_value("cm2 s")


def _compton_axes():
    return [
        histpy.Axis(PHI_EDGES * u.deg, label="Phi"),
        histpy.HealpixAxis(nside=NSIDE, scheme="ring", coordsys="galactic", label="PsiChi"),
    ]
