#!/usr/bin/env bash
# iminuit 2.33.0: in the cost of a binned fit (ExtendedBinnedNLL, BinnedNLL, poisson_chi2) the logarithm of an
# expectation that is exactly 0 counts as 0. A bin with one or two counts and none expected, which cannot be, then costs
# -2 or -1.2: less than the 0 of a perfect bin. A model that is 0 where single counts are wins against the right one.
#
# The guess that this refutes: such a bin costs infinity or a great deal, as it does where 1e-300 is expected; and a
# deviance is never negative.
#
# Seen: 100 counts in a line at 1809 keV, 33 of a continuum in 32 of 200 bins of 1 keV above 1800 keV. Line + continuum:
# cost 133. The line alone, whose integral is exactly 0 from 8 sigma on: 39, valid. By a likelihood ratio there is no
# continuum, and the line is 4.2 keV wide instead of 2.4, as it stretches to the counts where its wing is not yet 0.
#
# bash findings/iminuit_counts_without_expectation.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q iminuit==2.33.0 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import numpy as np
from iminuit import Minuit
from iminuit.cost import ExtendedBinnedNLL, poisson_chi2
from scipy.stats import norm

for counts in (1.0, 2.0, 10.0):
    costs = [float(poisson_chi2(np.array([counts]), np.array([mu]))) for mu in (counts, 1e-300, 0.0)]
    print(f"{counts:.0f} counts, expected as many, 1e-300, 0: cost", ", ".join(f"{x:.2f}" for x in costs))
    assert costs[0] == 0 and costs[1] > 1000 and np.isclose(costs[2], 2 * (counts * np.log(counts) - counts))

rng = np.random.default_rng(1)
edges = np.arange(1800.0, 2001.0)
line = np.histogram(rng.normal(1809.0, 3.0, 100), edges)[0]
scattered = rng.poisson(0.2, 200)


def line_alone(x, amount, mean, sigma):
    return amount * norm.cdf(x, mean, sigma)


def with_continuum(x, amount, mean, sigma, level):
    return line_alone(x, amount, mean, sigma) + level * (x - 1800.0)


def fit(integral, **continuum):
    """The least cost."""
    minuit = Minuit(ExtendedBinnedNLL(line + scattered, edges, integral), amount=100.0, mean=1809.0, sigma=3.0, **continuum)
    minuit.limits["amount", "sigma"] = (1e-3, None)
    minuit.migrad()
    assert minuit.valid
    values = ", ".join(f"{name} {value:.6g}" for name, value in minuit.values.to_dict().items())
    print(f"{integral.__name__}: cost {minuit.fval:.1f} at {values}")
    return minuit.fval


print(f"{line.sum()} counts of the line, {scattered.sum()} of the continuum in {np.sum(scattered > 0)} bins")
both, alone = fit(with_continuum, level=0.2), fit(line_alone)
assert both > 100 and alone < both - 80
EOF
