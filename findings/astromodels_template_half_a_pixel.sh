#!/usr/bin/env bash
# astromodels 2.6.0: SpatialTemplate_2D looks a place up in the map by cutting its pixel coordinates off to integers. An
# integer is a pixel's middle, so that the whole map is moved by half a pixel on both axes; and as -0.9 is cut off to 0,
# the first row and the first column are twice as wide.
#
# The guess that this refutes: a place has the brightness of the pixel that it lies in.
#
# Seen: a map of 1 deg a pixel, with a source in the pixel around l, b = 0, 0: found around -0.5, 0.5. In the map's
# first corner it covers 4 square degrees, and has four times its flux. Its log says that large regions are inaccurate,
# and nothing of this; a map of a line's sky with pixels of 3 deg is 2.1 deg off.
#
# bash findings/astromodels_template_half_a_pixel.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q astromodels==2.6.0 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import numpy as np
from astromodels import SpatialTemplate_2D
from astropy.io import fits
from astropy.wcs import WCS

wcs = WCS(naxis=2)
wcs.wcs.ctype, wcs.wcs.cunit = ["GLON-CAR", "GLAT-CAR"], ["deg", "deg"]
wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [0.0, 0.0], [11.0, 11.0], [-1.0, 1.0]
step = 0.05


def found(row, column):
    """The map's own place of this pixel; the mean place and the area of what the template makes of it."""
    image = np.zeros((21, 21))
    image[row, column] = 1 / np.radians(1.0) ** 2
    fits.PrimaryHDU(image, header=wcs.to_header()).writeto("map.fits", overwrite=True)
    place = [float(x) for x in wcs.pixel_to_world_values(column, row)]
    place[0] = (place[0] + 180) % 360 - 180
    near = np.arange(-3 + step / 2, 3, step)
    l, b = (x.ravel() for x in np.meshgrid(place[0] + near, place[1] + near))
    values = SpatialTemplate_2D(fits_file="map.fits", frame="galactic")(l % 360, b)
    mean = [float((x * values).sum() / values.sum()) for x in (l, b)]
    area = float((values > 0).sum() * step**2)
    print(f"pixel around {place}: found around {np.round(mean, 2)}, on {area:.2f} square degrees")
    return np.subtract(mean, place), area


shift, area = found(10, 10)
assert np.allclose(shift, [-0.5, 0.5], atol=0.01) and np.isclose(area, 1)
shift, area = found(0, 0)
assert np.allclose(shift, 0, atol=0.01) and np.isclose(area, 4)
EOF
