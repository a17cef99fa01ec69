#!/usr/bin/env bash
# cosipy 0.4.3: SpecFromDat normalises the spectrum of a file by a sum of each value times the step to the next energy,
# and then interpolates it on straight lines. The two integrals are not the same: K is not the flux of what is used. It
# also skips five lines from the top, whatever is in them.
#
# The guess that this refutes: K is the integral of the spectrum, and the file may be as coarse as its interpolation
# allows; and comments may be left out.
#
# Seen: E^-2 from 0.1 to 10 MeV, K = 1: with 5 points a decade the flux is 0.70, with 10 0.82, with 20 0.90, with 50
# 0.96. A flux that is fitted with it is too high by as much. Of a file without comments the first points are missing,
# those with most of the photons, and what is left is normalised to 1 again: the first of 20 a decade is then at 158
# keV.
#
# bash findings/cosipy_spectrum_from_file.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q cosipy==0.4.3 threeML==2.6.1 astromodels==2.6.0 histpy==2.0.7 scoords==0.0.3 \
  astropy==8.0.2 numpy==2.5.5 scipy==1.18.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import logging
from pathlib import Path

import numpy as np
from cosipy.threeml.custom_functions import SpecFromDat

logging.disable(logging.WARNING)
fine = np.linspace(100.0, 10_000.0, 1_000_001)


def flux(points, header):
    """The integral of a spectrum from file with K = 1, and its first energy that is not 0."""
    energies = np.geomspace(100.0, 10_000.0, 2 * points + 1)
    rows = [f"DP {e:.6e} {(e / 1000.0) ** -2:.6e}" for e in energies]
    path = Path(f"{points}_{len(header)}.dat")
    path.write_text("\n".join([*header, *rows, "EN", ""]))
    values = SpecFromDat(K=1.0, dat=str(path))(fine)
    return float(np.trapezoid(values, fine)), float(fine[np.flatnonzero(values)[0]])


with_comments = ["# a spectrum", "#", "# keV, 1 / keV", "#", "IP LIN"]
seen = []
for points in (5, 10, 20, 50, 500):
    seen.append(flux(points, with_comments)[0])
    print(f"{points} points a decade: K = 1, flux {seen[-1]:.3f}")
assert np.allclose(seen, [0.699, 0.815, 0.897, 0.956, 0.995], atol=2e-3)
(_, first), (short, later) = (flux(20, header) for header in (with_comments, ["IP LIN"]))
print(f"first energy {first:.0f} keV; of a file without comments {later:.0f} keV, flux {short:.3f}")
assert first < 101 and later > 130 and short > 0.88
EOF
