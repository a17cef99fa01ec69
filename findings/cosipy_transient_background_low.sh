#!/usr/bin/env bash
# cosipy 0.4.3: TransientBackgroundEstimation leaves out the first time bin of a background window that begins at a bin's
# edge, and divides by the window's whole length: the background is too low by one bin in each window.
#
# The guess that this refutes: windows that are made of whole bins are the exact ones; the background of a constant rate
# is that rate.
#
# Seen: 5 counts a second and energy bin, bins of 1 s; windows 10-20 and 40-50 s, burst 25-35 s: 45 counts instead of
# 50. With windows 10.5-20.5 and 40.5-50.5 s, which cut bins, 50.
#
# bash findings/cosipy_transient_background_low.sh [PYTHON]
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
from cosipy.background_estimation.TransientBackgroundEstimation import TransientBackgroundEstimation
from histpy import Axis, Histogram

time = Axis(np.arange(101.0) * u.s, label="Time")
energy = Axis(np.array([100.0, 200.0, 300.0]) * u.keV, label="Em")
data = Histogram([time, energy], contents=np.full((100, 2), 5.0))
true = data.slice[25:35].project("Em").contents


def background(*windows):
    estimate = TransientBackgroundEstimation(data)
    estimate.add_bkg_windows(*windows)
    estimate.add_burst_windows([25.0, 35.0])
    return estimate.make_background_model().contents


at_edges = background([10.0, 20.0], [40.0, 50.0])
inside = background([10.5, 20.5], [40.5, 50.5])
used = TransientBackgroundEstimation(data).slice_by_timetags(10.0, 20.0).axes["Time"].edges
print(f"counts in the burst's time: {true}; from windows at edges {at_edges}, inside bins {inside}")
print(f"of the window 10-20 s the bins from {used[0]:g} to {used[-1]:g} are used")
assert np.allclose(at_edges, 0.9 * true) and np.allclose(inside, true)
EOF
