#!/usr/bin/env bash
# histpy 2.0.7: a TimeAxis compares the Julian dates of times as they stand: it does not look at their scale.
# Events in TT (as files with a mission's time have them) on edges in UTC are binned 69 s late.
#
# The guess that this refutes: a Time is an instant, whatever its scale, as it is for astropy's own comparisons
# and as the axis' docstring says (conversion to its scale is "performed automatically").
#
# Seen: bins of 60 s; an event 30 s after the first edge is in bin 0 as UTC, and the same instant (difference 0 s)
# as TT or TAI in bin 1.
#
# bash findings/histpy_time_scales.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q histpy==2.0.7 astropy==8.0.2 numpy==2.5.5
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import astropy.units as u
import numpy as np
from astropy.time import Time
from histpy import Histogram, TimeAxis

start = Time("2027-01-01", scale="utc")
axis = TimeAxis(start + np.arange(11) * 60 * u.s, label="Time")
event = start + 30 * u.s
for scale in ("utc", "tt", "tai"):
    same = getattr(event, scale)
    histogram = Histogram(axis)
    histogram.fill(same.reshape(1))
    apart = abs((same - event).to_value("s"))
    inside = bool((same >= axis.edges[0]) & (same < axis.edges[1]))
    print(f"{scale}: {apart:.3f} s apart, astropy has it in bin 0: {inside}, histpy in bin {axis.find_bin(same)}")
    assert apart < 1e-6 and inside
    assert axis.find_bin(same) == np.argmax(histogram.contents) == (0 if scale == "utc" else 1)
EOF
