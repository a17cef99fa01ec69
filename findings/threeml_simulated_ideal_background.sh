#!/usr/bin/env bash
# threeML 2.6.1: where the background of a SpectrumLike is "ideal", simulated data sets hold the
# counts of the background's own exposure, while the likelihood scales them to the observation's; and their
# background is Poisson again. GoodnessOfFit and LikelihoodRatioTest draw their data sets that way.
#
# The guess that this refutes: data simulated from a model scatter about its expectation.
#
# Seen: 100 s of observation beside 1000 s of background: 2,020 counts expected, 18,209 simulated. With the
# noise model "poisson" 1,951 are.
#
# bash findings/threeml_simulated_ideal_background.sh [PYTHON]
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
from threeML import Model, PointSource, Powerlaw, SpectrumLike
from threeML.utils.spectrum.binned_spectrum import BinnedSpectrum, ChannelSet

logging.disable(logging.WARNING)
channels = ChannelSet.from_list_of_edges(np.arange(500.0, 521.0))
rng = np.random.default_rng(1)
observed = BinnedSpectrum(rng.poisson(100.0, 20) * 1.0, 100.0, channels, is_poisson=True)
background = BinnedSpectrum(rng.poisson(900.0, 20) * 1.0, 1000.0, channels, is_poisson=True)
shape = Powerlaw(K=0.1, piv=510.0, index=0.0)


def simulated(noise):
    """Expected and simulated counts, and the noise model of the simulated data."""
    plugin = SpectrumLike("spectrum", observed, background=background, verbose=False)
    plugin.background_noise_model = noise
    plugin.set_model(Model(PointSource("source", 0, 0, spectral_shape=shape)))
    expected = plugin.get_model().sum() + plugin.scale_factor * background.counts.sum()
    np.random.seed(1)
    new = plugin.get_simulated_dataset("simulated")
    return expected, int(new.observed_counts.sum()), new.background_noise_model


seen = {noise: simulated(noise) for noise in ("poisson", "ideal")}
for noise, (expected, counts, new) in seen.items():
    print(f"{noise}: {expected:.0f} counts expected, {counts} simulated, then {new}")
expected, counts, new = seen["poisson"]
assert abs(counts - expected) < 5 * np.sqrt(expected) and new == "poisson"
expected, counts, new = seen["ideal"]
assert counts > 8 * expected and new == "poisson"
EOF
