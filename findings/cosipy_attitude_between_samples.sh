#!/usr/bin/env bash
# cosipy 0.4.3: between two samples whose quaternions differ in sign (q and -q are one attitude, and
# conversions change the sign now and then), SpacecraftHistory.interp_attitude turns the long way
# round; so do the cuts and the exposures that use it.
#
# The guess that this refutes: an attitude in the middle of two neighbours lies between them.
#
# Seen: a spacecraft that turns about its z axis by 20 degrees a step. In 17 of 18 intervals x is in
# the middle; between l = 260 and 280 deg it is at 90 deg, which is 180 deg off.
#
# bash findings/cosipy_attitude_between_samples.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q cosipy==0.4.3 threeML==2.6.1 astromodels==2.6.0 histpy==2.0.7 scoords==0.0.3 \
  astropy==8.0.2 numpy==2.5.5 scipy==1.18.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import astropy.units as u
import numpy as np
from astropy.coordinates import GCRS, SkyCoord
from astropy.time import Time
from cosipy import SpacecraftHistory
from scoords import Attitude

angles = np.arange(0.0, 361.0, 20.0)
n = angles.size
attitude = Attitude.from_axes(
    x=SkyCoord(l=angles * u.deg, b=np.zeros(n) * u.deg, frame="galactic"),
    z=SkyCoord(l=np.zeros(n) * u.deg, b=np.full(n, 90.0) * u.deg, frame="galactic"),
    frame="galactic",
)
times = Time("2027-01-01") + np.arange(n) * 10 * u.s
place = GCRS(ra=np.zeros(n) * u.deg, dec=np.zeros(n) * u.deg, distance=np.full(n, 7000.0) * u.km)
history = SpacecraftHistory(times, attitude, place, livetime=np.full(n - 1, 10.0) * u.s)
middle = 0.5 * (angles[1:] + angles[:-1])
found = history.interp_attitude(times[:-1] + 5 * u.s).as_axes()[0].l.deg
off = np.abs((found - middle + 180) % 360 - 180)
for i in np.flatnonzero(off > 1):
    print(f"between {angles[i]:g} and {angles[i + 1]:g} deg: {found[i]:.1f}, {off[i]:.1f} deg off")
assert np.sum(off > 1) == 1 and off.max() > 179
assert np.all(np.sort(off)[:-1] < 1e-6)
EOF
