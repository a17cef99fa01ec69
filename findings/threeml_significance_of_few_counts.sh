#!/usr/bin/env bash
# threeML 2.6.1: Significance.li_and_ma, which SpectrumLike's significances are, is 0 where no count was seen, however
# many were expected, and NaN where the background has none. known_background takes the probability of more
# counts than were seen, not of as many.
#
# The guess that this refutes: the formula's limits are taken (0 log 0 = 0), and a one-sided significance counts what
# was seen.
#
# Seen: 0 counts beside 100: 0 sigma (1 beside 100: -11.3; the limit at 0 is -11.8); 5 beside 0: NaN (2.6). With 0.1
# counts known to be background, 1 count is 2.60 sigma, where P(1 or more) is 1.31.
#
# bash findings/threeml_significance_of_few_counts.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q threeML==2.6.1 astromodels==2.6.0 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import numpy as np
from scipy.special import xlogy
from scipy.stats import norm, poisson
from threeML.utils.statistics.stats_tools import Significance

on, off = np.array([0.0, 1.0, 5.0, 5.0]), np.array([100.0, 100.0, 1.0, 0.0])
found = Significance(on, off, alpha=1.0).li_and_ma()
# Li & Ma (1983), equation 17, with alpha = 1 and 0 log 0 = 0
total = on + off
limits = np.sign(on - off) * np.sqrt(2 * (xlogy(on, 2 * on / total) + xlogy(off, 2 * off / total)))
for n, m, ours, right in zip(on, off, found, limits):
    print(f"{n:.0f} counts beside {m:.0f}: {ours:.2f} sigma, by equation 17 {right:.2f}")
assert found[0] == 0 and np.isnan(found[3]) and np.allclose(found[1:3], limits[1:3])
for n, expected in ((1, 0.1), (12, 5.0)):
    sigma = Significance(np.array([n]), np.array([expected])).known_background()[0]
    as_many, more = (norm.isf(poisson.sf(k, expected)) for k in (n - 1, n))
    print(f"{n} where {expected} are known: {sigma:.2f}; P(>= {n}) is {as_many:.2f}, P(> {n}) {more:.2f}")
    assert np.isclose(sigma, more) and sigma > as_many + 0.3
EOF
