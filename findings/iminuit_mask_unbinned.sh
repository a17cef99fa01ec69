#!/usr/bin/env bash
# iminuit 2.33.0: under a mask, BinnedNLL normalises the model to what is left of the data; UnbinnedNLL drops the
# masked events and leaves the density normalised to the whole range. Of the same data and the same mask one
# fit is right, the other wrong by many of its own errors.
#
# The guess that this refutes: mask does the same in both ("only values selected by the mask are considered"), and
# masking a line's energies fits the continuum beside it.
#
# Seen: an exponential of 40 keV on 0 to 100 keV, of which 40 to 60 are masked: binned 40.0 +- 0.5, unbinned 32.5 +-
# 0.3, valid. Divided by its integral over what is left, the density gives 40.0 +- 0.5 too.
#
# bash findings/iminuit_mask_unbinned.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q iminuit==2.33.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import numpy as np
from iminuit import Minuit
from iminuit.cost import BinnedNLL, UnbinnedNLL

LOW, HIGH, END = 40.0, 60.0, 100.0


def cdf(x, tau):
    return np.expm1(-x / tau) / np.expm1(-END / tau)


def density(x, tau):
    return np.exp(-x / tau) / tau / -np.expm1(-END / tau)


def beside(x, tau):
    """The density of what the mask leaves."""
    return density(x, tau) / (1 - cdf(HIGH, tau) + cdf(LOW, tau))


energies = np.random.default_rng(1).exponential(40.0, 22_000)
energies = energies[energies < END]
edges = np.arange(0.0, END + 1, 2.0)
counts = np.histogram(energies, edges)[0]
middles = 0.5 * (edges[1:] + edges[:-1])


def fit(cost, x):
    cost.mask = (x < LOW) | (x > HIGH)
    minuit = Minuit(cost, tau=50.0)
    minuit.limits["tau"] = (5.0, 500.0)
    minuit.migrad()
    assert minuit.valid
    return minuit.values["tau"], minuit.errors["tau"]


binned = fit(BinnedNLL(counts, edges, cdf), middles)
unbinned = fit(UnbinnedNLL(energies, density), energies)
mended = fit(UnbinnedNLL(energies, beside), energies)
print("tau (40 is true): binned {:.1f} +- {:.1f}".format(*binned), end=", ")
print("unbinned {:.1f} +- {:.1f}, with the density of the rest {:.1f} +- {:.1f}".format(*unbinned, *mended))
for value, error in (binned, mended):
    assert abs(value - 40.0) < 3 * error
assert unbinned[0] < 40.0 - 15 * unbinned[1]
EOF
