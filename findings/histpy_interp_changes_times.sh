#!/usr/bin/env bash
# histpy 2.0.7: to interpolate a histogram with a TimeAxis changes the array of times that it is asked for:
# those before the first or after the last bin centre are moved there, in the caller's own object.
#
# The guess that this refutes: asking for a value changes nothing; an axis of numbers (the same seconds without
# Time) leaves its argument alone.
#
# Seen: ten bins of 60 s from 0 to 600 s; asked for -100, 5, 300 and 1000 s, the array then holds 30, 30, 300
# and 570 s. Whatever comes next, such as a rate per event, is taken at other times.
#
# bash findings/histpy_interp_changes_times.sh [PYTHON]
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
from histpy import Axis, Histogram, TimeAxis

start = Time("2027-01-01")
edges = np.arange(11) * 60 * u.s
asked = np.array([-100.0, 5.0, 300.0, 1000.0]) * u.s
times, seconds = start + asked, asked.copy()
of_times = Histogram(TimeAxis(start + edges, label="Time"), contents=np.arange(10.0))
of_seconds = Histogram(Axis(edges, label="Time"), contents=np.arange(10.0))
same = of_times.interp(times), of_seconds.interp(seconds)
after = (times - start).to_value("s").round(6)
print("values:", same[0].round(6), same[1].round(6))
print("asked:", asked.value, "-> times", after, "-> seconds", seconds.value)
assert np.allclose(*same)
assert np.array_equal(seconds, asked)
assert np.allclose(after, [30, 30, 300, 570], atol=1e-5)
EOF
