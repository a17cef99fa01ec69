#!/usr/bin/env bash
# astromodels 2.6.0: Latitude_galactic_diffuse, a disc in Galactic latitude from l_min to l_max, cannot lie across the
# Galactic centre with its right flux. From 330 to 30 deg its brightness is right, and its integral that of all 360 deg
# (l_max - l_max, where l_max - l_min is meant); from -30 to 30 deg the integral is right, and the sky holds the half
# from 0 to 30 deg, as longitudes are compared between 0 and 360.
#
# The guess that this refutes: 330 to 30 deg, and -30 to 30, is the inner Galaxy, and its flux is that of its sky.
#
# Seen: sigma_b 5 deg, K = 1: from 10 to 70 deg 0.228 on the sky, 0.229 by its integral; from 330 to 30 0.228 and 1.374;
# from -30 to 30 0.114 and 0.229. The flux of such a source (get_spatially_integrated_flux, and threeML's tables of
# fluxes with it) is six times what was fitted.
#
# bash findings/astromodels_disc_across_the_centre.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q astromodels==2.6.0 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import numpy as np
from astromodels import ExtendedSource, Latitude_galactic_diffuse, Powerlaw
from astropy.coordinates import SkyCoord

step = 0.25
l, b = np.meshgrid(np.arange(step / 2, 360, step), np.arange(-40 + step / 2, 40, step))
sky = SkyCoord(l.ravel(), b.ravel(), unit="deg", frame="galactic").icrs
area = np.radians(step) ** 2 * np.cos(np.radians(b.ravel()))
seen = {}
for low, high in ((10.0, 70.0), (330.0, 30.0), (-30.0, 30.0)):
    disc = Latitude_galactic_diffuse(K=1.0, sigma_b=5.0, l_min=low, l_max=high)
    source = ExtendedSource("disc", spatial_shape=disc, spectral_shape=Powerlaw(K=1.0, piv=1.0))
    on_sky = float((disc(sky.ra.deg, sky.dec.deg) * area).sum())
    said = float(source.get_spatially_integrated_flux(np.array([1.0]))[0])
    seen[low] = on_sky, said
    print(f"l from {low:g} to {high:g} deg: {on_sky:.3f} on the sky, {said:.3f} by its integral")
right = seen[10.0][0]
assert np.allclose(seen[10.0], right, rtol=0.01)
assert np.allclose(seen[330.0], [right, 6 * right], rtol=0.01)
assert np.allclose(seen[-30.0], [right / 2, right], rtol=0.01)
EOF
