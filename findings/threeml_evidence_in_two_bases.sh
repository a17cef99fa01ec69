#!/usr/bin/env bash
# threeML 2.6.1: log(Z) of a BayesianAnalysis is a decimal logarithm with the samplers dynesty and
# ultranest, and a natural one with nautilus; the table of a session calls both log(Z). (The session's
# own attribute log_marginal_likelihood raises an AttributeError in this version.)
#
# The guess that this refutes: one session gives one log(Z), whichever sampler it is, and the
# difference between two models is the logarithm of their Bayes factor to one base.
#
# Seen: one model and three points, whose ln Z by integration is -5.13: dynesty says -2.22, which is
# ln Z / ln 10, nautilus -5.14.
#
# bash findings/threeml_evidence_in_two_bases.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q threeML==2.6.1 astromodels==2.6.0 numpy==2.4.6 scipy==1.17.1 \
  dynesty==3.0.0 nautilus-sampler==1.0.5
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import logging

import numpy as np
from threeML import BayesianAnalysis, DataList, Line, Model, PointSource, Uniform_prior, XYLike

logging.disable(logging.WARNING)
x, errors = np.array([1.0, 2.0, 3.0]), np.full(3, 0.5)
y = np.array([1.2, 1.9, 3.1])


def log_evidence(sampler, **options):
    shape = Line(a=0.0, b=1.0)
    for parameter in (shape.a, shape.b):
        parameter.bounds = (-10.0, 10.0)
        parameter.prior = Uniform_prior(lower_bound=-5.0, upper_bound=5.0)
    model = Model(PointSource("line", 0, 0, spectral_shape=shape))
    session = BayesianAnalysis(model, DataList(XYLike("points", x, y, errors)))
    session.set_sampler(sampler)
    session.sampler.setup(**options)
    session.sample(quiet=True)
    table = session.results.get_statistic_measure_frame()
    return float(table.loc["log(Z)"].iloc[0])


a, b = np.meshgrid(*2 * [np.linspace(-5, 5, 1001)], indexing="ij")
chi2 = sum(((p - a - b * q) / s) ** 2 for p, q, s in zip(y, x, errors))
true = np.log(np.exp(-0.5 * chi2).mean())  # as XYLike, without the constant
print(f"ln Z by integration: {true:.2f}, log10 Z: {true / np.log(10):.2f}")
found = {
    "dynesty_nested": log_evidence("dynesty_nested", nlive=300),
    "nautilus": log_evidence("nautilus", n_live=500),
}
print(", ".join(f"{name}: {value:.2f}" for name, value in found.items()))
assert abs(found["dynesty_nested"] - true / np.log(10)) < 0.3
assert abs(found["nautilus"] - true) < 0.3
EOF
