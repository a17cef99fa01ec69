#!/usr/bin/env bash
# cosipy 0.4.3: SpacecraftHistory.interp_attitude, and select_interval with it, raise "Found zero norm quaternions"
# between two samples of equal attitude whose unit quaternions have a product of exactly 1: the angle between
# them, 0, is divided by. Whether a telescope that points at one place has such samples is a matter of rounding.
#
# The guess that this refutes: between two samples of the same attitude the telescope has that attitude, and a
# history of a pointed observation can be cut in time.
#
# Seen: at rest in the axes of the Galactic frame it raises; at rest 20 degrees from them it does not; a turn by
# 1e-6 degrees a step raises, by 1e-3 degrees does not.
#
# bash findings/cosipy_attitude_at_rest.sh [PYTHON]
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
from astropy.coordinates import GCRS
from astropy.time import Time
from cosipy import SpacecraftHistory
from scipy.spatial.transform import Rotation
from scoords import Attitude

n = 5
times = Time("2027-01-01") + np.arange(n) * 10 * u.s
place = GCRS(ra=np.zeros(n) * u.deg, dec=np.zeros(n) * u.deg, distance=np.full(n, 7000.0) * u.km)


def tried(first, step):
    """What interp_attitude and select_interval do for turns about z, in degrees."""
    angles = (first + step * np.arange(n))[:, None]
    attitude = Attitude(Rotation.from_euler("z", angles, degrees=True), "galactic")
    history = SpacecraftHistory(times, attitude, place, livetime=np.full(n - 1, 10.0) * u.s)
    found = []
    for call in (
        lambda: history.interp_attitude(times[:1] + 5 * u.s),
        lambda: history.select_interval(times[0] + 10 * u.s, times[0] + 30 * u.s),
    ):
        try:
            call()
            found.append("works")
        except ValueError as error:
            assert "zero norm quaternions" in str(error)
            found.append("raises")
    return found


seen = {case: tried(*case) for case in ((0.0, 0.0), (20.0, 0.0), (0.0, 1e-6), (0.0, 1e-3))}
for (first, step), (between, cut) in seen.items():
    print(f"at {first:g} deg, {step:g} deg a step: interp_attitude {between}, select_interval {cut}")
assert list(seen.values()) == [["raises"] * 2, ["works"] * 2, ["raises"] * 2, ["works"] * 2]
EOF
