#!/usr/bin/env bash
# threeML 2.6.1: the errors of a maximum-likelihood result are percentiles of random draws from the
# covariance, which are not saved: the same file gives other errors each time it is opened.
#
# The guess that this refutes: a saved result is a record, and reads the same tomorrow.
#
# Seen: the lower error of K from one file, opened four times: 0.933, 0.890, 0.886, 0.846: they scatter by
# some per cent, more than the digits that are printed.
#
# bash findings/threeml_errors_change_on_load.sh [PYTHON]
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
from threeML import load_analysis_results

logging.disable(logging.WARNING)
x = np.linspace(1, 10, 30)
y = np.random.default_rng(1).normal(100 * x**-2.0, 1.0)
model = Model(PointSource("line", 0, 0, spectral_shape=Powerlaw(K=100.0, index=-2.0)))
session = JointLikelihood(model, DataList(XYLike("points", x, y, np.ones_like(x))))
session.fit(quiet=True)
session.results.write_to("result.fits", overwrite=True)
tables = [load_analysis_results("result.fits").get_data_frame() for _ in range(4)]
values = [table["value"].iloc[0] for table in tables]
errors = [table["negative_error"].iloc[0] for table in tables]
print("K:", [round(float(v), 6) for v in values])
print("its lower error:", [round(float(e), 4) for e in errors])
assert len(set(values)) == 1
assert len(set(errors)) == 4
assert 0.001 < np.std(errors) / abs(np.mean(errors)) < 0.1
EOF
