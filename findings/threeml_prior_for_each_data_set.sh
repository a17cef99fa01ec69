#!/usr/bin/env bash
# threeML 2.6.1: AIC, BIC and the column -log(posterior) of a BayesianAnalysis count the prior once
# for each data set of the session, and not once.
#
# The guess that this refutes: a data set without data changes none of them.
#
# Seen: 30 points, two parameters, priors of density exp(3.7) at the best place: AIC 17.3. With a
# second plugin that holds no points it is 10.0, and each further one takes 7.4 from it.
#
# bash findings/threeml_prior_for_each_data_set.sh [PYTHON]
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
from astromodels import Gaussian, Uniform_prior
from threeML import BayesianAnalysis, DataList, Model, PointSource, Powerlaw, XYLike

logging.disable(logging.WARNING)
x = np.linspace(1, 10, 30)
y = np.random.default_rng(1).normal(100 * x**-2.0, 1.0)


def criteria(n_empty):
    shape = Powerlaw(K=100.0, index=-2.0)
    shape.K.prior = Uniform_prior(lower_bound=50, upper_bound=200)
    shape.index.prior = Gaussian(mu=-2, sigma=0.01)
    model = Model(PointSource("line", 0, 0, spectral_shape=shape))
    nothing = np.zeros(0)
    empty = [XYLike(f"empty_{i}", nothing, nothing, nothing) for i in range(n_empty)]
    session = BayesianAnalysis(model, DataList(XYLike("points", x, y, np.ones(30)), *empty))
    session.set_sampler("emcee")
    session.sampler.setup(n_iterations=300, n_burn_in=100, n_walkers=20, seed=1)
    session.sample(quiet=True)
    table = session.results.get_statistic_measure_frame()["statistical measures"]
    return float(table["AIC"]), float(table["BIC"])


rows = [criteria(n) for n in (0, 1, 2)]
for n, (aic, bic) in enumerate(rows):
    print(f"{n} empty data sets: AIC {aic:.1f}, BIC {bic:.1f}")
for column in zip(*rows):
    steps = np.diff(column)
    assert np.allclose(steps, -7.4, atol=0.5), steps
EOF
