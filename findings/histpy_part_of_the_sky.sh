#!/usr/bin/env bash
# histpy 2.0.7: a HealpixAxis of some of the pixels interpolates across its border with pixels that it has not. Those
# before its first one become bin -1, which numpy takes for the last bin: contents of the far end of the map leak in
# without a word. (Those after its last one raise an IndexError.)
#
# The guess that this refutes: what is outside counts as 0, as the nearest pixel, or as an error, on every side.
#
# Seen: five rings of nside 8, with 1 in each pixel and 1000 in the last, at b = -9.6 deg: at b = 11.6 deg, in a pixel of
# the first ring and 24 degrees away, the histogram is 410.
#
# bash findings/histpy_part_of_the_sky.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q histpy==2.0.7 mhealpy==0.3.7 healpy==1.20.1 astropy==8.0.2 numpy==2.5.5
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import astropy.units as u
import healpy as hp
import numpy as np
from astropy.coordinates import SkyCoord
from histpy import HealpixAxis, Histogram

NSIDE, FIRST, STOP = 8, 304, 464  # five rings of 32 pixels
axis = HealpixAxis(nside=NSIDE, edges=np.arange(FIRST, STOP + 1), label="PsiChi", coordsys="galactic")
lon, lat = hp.pix2ang(NSIDE, FIRST, lonlat=True)
print(f"{axis.nbins} pixels, centres from b = {lat:.2f} to {-lat:.2f} deg")


def value_at(b, contents):
    """The interpolated contents in a pixel of the first or last ring."""
    there = SkyCoord(l=lon * u.deg, b=b * u.deg, frame="galactic")
    assert 0 <= axis.find_bin(there) < axis.nbins
    return float(Histogram(axis, contents=contents).interp(there))


flat, hot = np.ones(axis.nbins), np.ones(axis.nbins)
hot[-1] = 1000.0  # 24 degrees away
north = [value_at(lat + 2, contents) for contents in (flat, hot)]
print(f"b = {lat + 2:.2f}: {north[0]:.1f} where all are 1; {north[1]:.1f} where the last pixel is 1000")
try:
    south = value_at(-lat - 2, flat)
except IndexError as error:
    south = None
    print(f"b = {-lat - 2:.2f}: IndexError: {error}")
assert np.isclose(north[0], 1.0) and north[1] > 100 and south is None
EOF
