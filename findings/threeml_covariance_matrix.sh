#!/usr/bin/env bash
# threeML 2.6.1: JointLikelihood.covariance_matrix is in the coordinates of the minimiser, which are
# log10 for parameters that astromodels transforms (K of a Powerlaw), without a word about it.
#
# The guess that this refutes: the root of the diagonal is the parameter's error, as the errors in
# the table of the same fit are.
#
# Seen: K = 100.58; the table says 0.9, the root of the matrix 0.00395. Times K ln(10) it is 0.91.
#
# bash findings/threeml_covariance_matrix.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q threeML==2.6.1 astromodels==2.6.0 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import logging

import numpy as np
from threeML import DataList, JointLikelihood, Model, PointSource, Powerlaw, XYLike

logging.disable(logging.WARNING)
x = np.linspace(1, 10, 30)
y = np.random.default_rng(1).normal(100 * x**-2.0, 1.0)
shape = Powerlaw(K=100.0, index=-2.0)
model = Model(PointSource("line", 0, 0, spectral_shape=shape))
session = JointLikelihood(model, DataList(XYLike("points", x, y, np.ones_like(x))))
table, _ = session.fit(quiet=True)
error = table["error"].iloc[0]
root = np.sqrt(np.diag(session.covariance_matrix))[0]
print(f"K = {shape.K.value:.2f}, error of the table {error:.3f}, root of the matrix {root:.5f}")
print(f"root * K * ln(10) = {root * shape.K.value * np.log(10):.3f}")
assert root < 0.01 * error
assert np.isclose(root * shape.K.value * np.log(10), error, rtol=0.1)
EOF
