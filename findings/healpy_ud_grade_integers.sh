#!/usr/bin/env bash
# healpy 1.20.1: ud_grade of a map of integers to a finer nside, with power=-2, which "keeps the sum of the map
# invariant", computes the shares as fractions and returns them as integers, cut off: a pixel with less than four counts
# becomes four with none, one with seven counts keeps four.
#
# The guess that this refutes: the sum is kept, as it is for the same counts as floats and as the docstring says; or the
# map turns into floats; or the shares are refused.
#
# Seen: 2162 counts at nside 16, as an event list fills them: at nside 32 as floats 2162, as integers 84. To nside 8
# both keep 2162, so that a round trip loses 96 %. A map in a finer grid, such as a template beside the data, is nearly
# empty.
#
# bash findings/healpy_ud_grade_integers.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q healpy==1.20.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import healpy as hp
import numpy as np

assert "power=-2 keeps the sum of the map invariant" in hp.ud_grade.__doc__
rng = np.random.default_rng(1)
events = rng.integers(0, hp.nside2npix(16), 2162)
counts = np.bincount(events, minlength=hp.nside2npix(16))
seen = {}
for kind in (float, int):
    for nside in (8, 32):
        graded = hp.ud_grade(counts.astype(kind), nside, power=-2)
        seen[kind, nside] = graded.sum()
        print(f"{counts.sum()} counts as {kind.__name__}, nside 16 -> {nside}: {graded.sum():g}, {graded.dtype}")
assert seen[float, 8] == seen[float, 32] == seen[int, 8] == counts.sum()
assert seen[int, 32] < 0.1 * counts.sum()
EOF
