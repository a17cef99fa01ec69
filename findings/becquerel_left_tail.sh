#!/usr/bin/env bash
# becquerel 0.7.0: expgauss (the model "expgauss" of a Fitter) with a negative gamma, "a left tail", is not the mirror
# image of the one with a positive gamma: the sign of gamma sigma^2 inside erfc is not turned. Its integral is no longer
# amp, but grows with |gamma| sigma, and so does its shift to the right.
#
# The guess that this refutes: amp is the line's counts for either tail, and tails to the left pull the mean to the left.
#
# Seen: amp 1, sigma 3 keV, and the integral of the tail to the right 1 always; to the left 1.09 for gamma = -0.1 / keV,
# 1.43 for -0.2, 9.49 for -0.5, whose mean is 7.0 keV above mu instead of 2.0 below.
#
# bash findings/becquerel_left_tail.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q becquerel==0.7.0 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import numpy as np
from becquerel.core.fitting import ExpGaussModel, expgauss
from scipy.stats import exponnorm

assert "negative" in ExpGaussModel.__doc__ and "left tail" in ExpGaussModel.__doc__
x = np.linspace(-300.0, 300.0, 60_001)
step, sigma = x[1] - x[0], 3.0
seen = []
for gamma in (0.1, 0.2, 0.5):
    right, left = expgauss(x, 1.0, 0.0, sigma, gamma), expgauss(x, 1.0, 0.0, sigma, -gamma)
    textbook = exponnorm.pdf(x, 1 / (gamma * sigma), 0.0, sigma)
    assert np.allclose(right, textbook, atol=1e-9 * textbook.max())
    means = [float((x * y).sum() / y.sum()) for y in (right, left)]
    seen.append(float(left.sum() * step))
    print(f"gamma {gamma}: integral {right.sum() * step:.3f}, mean {means[0]:.1f};", end=" ")
    print(f"gamma {-gamma}: integral {seen[-1]:.3f}, mean {means[1]:.1f}")
    assert np.isclose(right.sum() * step, 1.0) and np.isclose(means[0], 1 / gamma, rtol=1e-3)
assert np.allclose(seen, [1.094, 1.433, 9.488], rtol=1e-3) and means[1] > 6
EOF
