#!/usr/bin/env bash
# threeML 2.6.1: the seed of the sampler emcee seeds its steps alone; where the walkers start is drawn from numpy's
# global generator. Two runs with one seed are two chains.
#
# The guess that this refutes: session.sampler.setup(..., seed=1) makes a run that can be repeated.
#
# Seen: a line through 30 points, 100 steps, seed=1, twice: a = 0.391, then 0.406 (other numbers each time). With
# np.random.seed before each run both are equal, with the sampler's seed and without.
#
# bash findings/threeml_seed_of_emcee.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q threeML==2.6.1 astromodels==2.6.0 numpy==2.4.6 scipy==1.17.1 emcee==3.1.6
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import logging

import numpy as np
from threeML import BayesianAnalysis, DataList, Line, Model, PointSource, Uniform_prior, XYLike

logging.disable(logging.WARNING)
x = np.linspace(1, 10, 30)
y = np.random.default_rng(1).normal(2 * x, 1.0)


def sampled(seed):
    """The table's value of a."""
    shape = Line(a=0.1, b=2.0)
    for parameter in (shape.a, shape.b):
        parameter.bounds = (-10.0, 10.0)
        parameter.prior = Uniform_prior(lower_bound=-5.0, upper_bound=5.0)
    model = Model(PointSource("line", 0, 0, spectral_shape=shape))
    session = BayesianAnalysis(model, DataList(XYLike("points", x, y, np.ones(30))))
    session.set_sampler("emcee")
    session.sampler.setup(n_iterations=100, n_burn_in=20, n_walkers=10, seed=seed)
    session.sample(quiet=True)
    return float(session.results.get_data_frame()["value"].iloc[0])


def after_numpy(seed):
    np.random.seed(3)
    return sampled(seed)


same_seed = sampled(1), sampled(1)
numpy_too = after_numpy(1), after_numpy(1)
numpy_alone = after_numpy(None), after_numpy(None)
print("a with seed=1: {:.4f}, then {:.4f}".format(*same_seed))
print("after np.random.seed: {:.4f}, then {:.4f}; without seed: {:.4f}, then {:.4f}".format(*numpy_too, *numpy_alone))
assert same_seed[0] != same_seed[1]
assert numpy_too[0] == numpy_too[1] and numpy_alone[0] == numpy_alone[1]
EOF
