#!/usr/bin/env bash
# histpy 2.0.7: where the number of bins is no multiple of the factor, rebin leaves the rest of the
# axis out, contents and all, without a warning (overflow is not tracked by default).
#
# The guess that this refutes: rebinning keeps the counts: the last bin is narrower, the rest goes
# into the overflow, or the factor is refused.
#
# Seen: 7 bins with one count each, rebinned by 3: 6 counts in 2 bins, which end at 6 instead of 7.
#
# bash findings/histpy_rebin_leftover.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q histpy==2.0.7 astropy==8.0.2 numpy==2.5.5
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import warnings

import numpy as np
from histpy import Axis, Histogram

warnings.simplefilter("error")
histogram = Histogram([Axis(np.arange(8.0), label="x")], contents=np.ones(7))
coarse = histogram.rebin(3)
print("counts:", histogram.contents.sum(), "->", coarse.contents.sum())
print("edges:", coarse.axis.edges)
assert histogram.contents.sum() == 7
assert coarse.contents.sum() == 6 and coarse.axis.edges[-1] == 6
EOF
