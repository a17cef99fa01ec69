#!/usr/bin/env bash
# hist 2.12.1, boost-histogram 1.8.1: a histogram cut to a range of energies has moved what lies outside into its under-
# and overflow, which values and sum() leave out and project() counts: the projection of the cut is that of all
# energies.
#
# The guess that this refutes: a sideband's angular distribution is that of h[low:high, :] projected onto the angle, and
# a projection has the sum of what it projects.
#
# Seen: 1000 events in 0 to 100 keV, 89 of them in 50 to 60: the cut's sum is 89, its projection's 1000, the whole
# spectrum's. h[low:high:sum, :] gives 89.
#
# bash findings/hist_projection_of_a_cut.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q hist==2.12.1 boost-histogram==1.8.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import numpy as np
from hist import Hist, axis, loc

rng = np.random.default_rng(1)
energy, phi = rng.uniform(0, 100, 1000), rng.uniform(0, 180, 1000)
histogram = Hist(axis.Regular(10, 0, 100, name="Em"), axis.Regular(4, 0, 180, name="Phi"))
histogram.fill(energy, phi)
true = int(((energy >= 50) & (energy < 60)).sum())
cut = histogram[loc(50) : loc(60), :]
projected, summed = cut.project("Phi"), histogram[loc(50) : loc(60) : sum, :]
print(f"{true} of 1000 events from 50 to 60: the cut's values have {cut.values().sum():.0f}, its sum is {cut.sum():.0f},")
print(f"its projection {projected.values()}, {projected.sum():.0f}; cut with :sum {summed.values()}, {summed.sum():.0f}")
assert cut.sum() == cut.values().sum() == summed.sum() == true
assert projected.sum() == 1000 and np.array_equal(projected.values(), histogram.project("Phi").values())
EOF
