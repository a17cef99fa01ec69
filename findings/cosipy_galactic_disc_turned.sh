#!/usr/bin/env bash
# cosipy 0.4.3: an extended source's brightness is asked for at Galactic longitude and latitude, whatever frame the
# spatial function works in. astromodels' functions that have a frame (Latitude_galactic_diffuse, SpatialTemplate_2D as
# it comes) take them for right ascension and declination: the Galactic plane is put where the Equator of the
# coordinates would have it.
#
# The guess that this refutes: a disc in the Galactic plane is in the Galactic plane of the sky map.
#
# Seen: a disc with sigma_b 3 deg from l = 1 to 359 deg: on cosipy's map 13 % of it lie within 10 deg of the plane,
# where 99.9 % belong, and bright pixels up to b = 62 deg. A template map of the centre is put at l, b = 266, -29 deg,
# its place in RA and Dec; with frame="galactic" it is right.
#
# bash findings/cosipy_galactic_disc_turned.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q cosipy==0.4.3 threeML==2.6.1 astromodels==2.6.0 histpy==2.0.7 scoords==0.0.3 \
  astropy==8.0.2 numpy==2.5.5 scipy==1.18.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import logging

import astropy.units as u
import numpy as np
from astromodels import ExtendedSource, Gaussian, Latitude_galactic_diffuse, SpatialTemplate_2D
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from cosipy.response.functions import get_integrated_extended_model
from histpy import Axis, HealpixAxis

logging.disable(logging.WARNING)
pixels = HealpixAxis(nside=32, coordsys="galactic", label="lb")
sky = pixels.pix2skycoord(np.arange(pixels.npix))
energies = Axis([500.0, 520.0] * u.keV, label="Ei")


def brightness(shape):
    source = ExtendedSource("sky", spatial_shape=shape, spectral_shape=Gaussian(F=1.0, mu=511.0, sigma=1.0))
    image = get_integrated_extended_model(source, pixels, energies).contents
    return np.asarray(getattr(image, "value", image))[:, 0]


disc = brightness(Latitude_galactic_diffuse(K=1.0, sigma_b=3.0, l_min=1.0, l_max=359.0))
plane = np.abs(sky.b.deg) < 10
share, brightest = disc[plane].sum() / disc.sum(), np.abs(sky.b.deg[disc > 0.99 * disc.max()]).max()
print(f"disc: {share:.3f} within 10 deg of the plane, brightest pixels up to |b| = {brightest:.0f} deg")
assert share < 0.3 and brightest > 55

wcs = WCS(naxis=2)
wcs.wcs.ctype, wcs.wcs.cunit = ["GLON-CAR", "GLAT-CAR"], ["deg", "deg"]
wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [0.0, 0.0], [11.0, 11.0], [-1.0, 1.0]
image = np.full((21, 21), 1 / (441 * np.radians(1.0) ** 2))
fits.PrimaryHDU(image, header=wcs.to_header()).writeto("map.fits")
centre = SkyCoord(0 * u.deg, 0 * u.deg, frame="galactic")
for options, right in (({"frame": "galactic"}, True), ({}, False)):
    bright = brightness(SpatialTemplate_2D(fits_file="map.fits", **options))
    x, y, z = (bright * sky.cartesian.xyz.value).sum(axis=1)
    mean = SkyCoord(np.arctan2(y, x) * u.rad, np.arctan2(z, np.hypot(x, y)) * u.rad, frame="galactic")
    print(f"template {options}: around l, b = {mean.l.deg:.0f}, {mean.b.deg:.0f} deg;", end=" ")
    print(f"{mean.separation(centre).deg:.0f} deg from the centre")
    assert (mean.separation(centre).deg < 2) == right
    if not right:
        there = centre.icrs.ra.deg, centre.icrs.dec.deg
        assert np.allclose([mean.l.deg, mean.b.deg], there, atol=2)
EOF
