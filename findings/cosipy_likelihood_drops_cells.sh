#!/usr/bin/env bash
# cosipy 0.4.3: PoissonLikelihood sums with nansum, so that a cell whose expectation is negative or
# NaN is left out, and its counts with it. With few counts a cell that is left out makes the
# likelihood better: a background that is impossible wins against the right one.
#
# The guess that this refutes: an expectation that cannot be gives -inf, an error, or at least a
# worse likelihood.
#
# Seen: 4 cells with 1, 0, 1, 1 counts and 0.8 expected in each: -3.87. With -5 expected in one of
# them -2.85, with NaN in all but one -0.80.
#
# bash findings/cosipy_likelihood_drops_cells.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q cosipy==0.4.3 threeML==2.6.1 astromodels==2.6.0 histpy==2.0.7 scoords==0.0.3 \
  astropy==8.0.2 numpy==2.5.5 scipy==1.18.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
from cosipy.statistics import PoissonLikelihood
from histpy import Axis, Histogram


def histogram(counts):
    return Histogram([Axis(np.arange(5.0), label="x")], contents=np.array(counts, float))


class Expectation:
    def __init__(self, counts):
        self.histogram = histogram(counts)

    def expectation(self, copy=True):
        return deepcopy(self.histogram) if copy else self.histogram


data = SimpleNamespace(data=histogram([1, 0, 1, 1]))
sky = Expectation([0.1] * 4)


def log_likelihood(background):
    return PoissonLikelihood(data, sky, Expectation(background)).get_log_like()


right = log_likelihood([0.7] * 4)
negative = log_likelihood([0.7, 0.7, 0.7, -5.0])
not_a_number = log_likelihood([np.nan, 0.7, np.nan, np.nan])
print(f"right {right:.2f}, one cell negative {negative:.2f}, three cells NaN {not_a_number:.2f}")
assert np.isclose(right, 3 * np.log(0.8) - 3.2)
assert right < negative < not_a_number
EOF
