#!/usr/bin/env bash
# threeML 2.6.1: SpectrumLike.significance scales a background with Gaussian errors to the observation's exposure, but
# not its error. The longer the background was measured, the less significant is the same source.
#
# The guess that this refutes: the same background counts, given with their Poisson errors as Gaussian ones, give
# the same significance, to a per cent or so.
#
# Seen: 2001 counts in 100 s beside 18204 in 1000 s: 3.97 sigma with Poisson counts; with the same counts +- their roots
# 1.27. With the error scaled, in the same formula, 3.97.
#
# bash findings/threeml_significance_gaussian_background.sh [PYTHON]
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
from threeML import SpectrumLike
from threeML.utils.spectrum.binned_spectrum import BinnedSpectrum, ChannelSet
from threeML.utils.statistics.stats_tools import Significance

logging.disable(logging.WARNING)
channels = ChannelSet.from_list_of_edges(np.arange(500.0, 521.0))
rng = np.random.default_rng(1)
counts = rng.poisson(100.0, 20) * 1.0
beside = rng.poisson(900.0, 20) * 1.0
observed = BinnedSpectrum(counts, 100.0, channels, is_poisson=True)
poisson = BinnedSpectrum(beside, 1000.0, channels, is_poisson=True)
gaussian = BinnedSpectrum(
    beside, 1000.0, channels, is_poisson=False, count_errors=np.sqrt(beside)
)
seen = [
    float(SpectrumLike("spectrum", observed, background=background, verbose=False).significance)
    for background in (poisson, gaussian)
]
formula = Significance(counts.sum(), beside.sum(), alpha=0.1)
scaled, not_scaled = (
    float(formula.li_and_ma_equivalent_for_gaussian_background(a * np.sqrt(beside.sum()))[0])
    for a in (0.1, 1.0)
)
print(f"{counts.sum():.0f} counts in 100 s, {beside.sum():.0f} of background in 1000 s")
print("sigma: Poisson background {:.2f}, the same with Gaussian errors {:.2f};".format(*seen), end=" ")
print(f"by the formula with the error scaled {scaled:.2f}, not scaled {not_scaled:.2f}")
assert np.isclose(seen[0], scaled, rtol=0.01)
assert np.isclose(seen[1], not_scaled, rtol=1e-6) and seen[1] < 0.5 * scaled
EOF
