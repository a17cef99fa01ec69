#!/usr/bin/env bash
# threeML 2.6.1: SpectrumLike.significance is that of the whole spectrum, whatever energies set_active_measurements has
# chosen; significance_per_channel, the likelihood and the counts beside it keep to them.
#
# The guess that this refutes: the significance of a plugin is that of the data it uses, such as the line's window.
#
# Seen: a line of 300 counts on 100 counts a keV: 5.26 sigma in its window of 11 keV, 0.33 in the whole spectrum of
# 200 keV. With the window chosen the property still says 0.33.
#
# bash findings/threeml_significance_of_selection.sh [PYTHON]
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
edges = np.arange(400.0, 601.0)
channels = ChannelSet.from_list_of_edges(edges)
rng = np.random.default_rng(1)
line = np.histogram(rng.normal(511.0, 2.0, 300), edges)[0]
counts = rng.poisson(100.0, 200) + line * 1.0
beside = rng.poisson(100.0, 200) * 1.0
observed, background = (
    BinnedSpectrum(n, 100.0, channels, is_poisson=True) for n in (counts, beside)
)
plugin = SpectrumLike("spectrum", observed, background=background, verbose=False)
whole = float(plugin.significance)
plugin.set_active_measurements("506-516")
chosen = float(plugin.significance)
use = plugin.mask
window = float(Significance(counts[use].sum(), beside[use].sum(), alpha=1.0).li_and_ma()[0])
print(f"whole spectrum {whole:.2f} sigma; {use.sum()} of {use.size} channels chosen: {chosen:.2f};", end=" ")
print(f"of the counts in these {window:.2f}; per channel {plugin.significance_per_channel.size} values")
assert chosen == whole and plugin.significance_per_channel.size == use.sum() < use.size
assert window > whole + 3
EOF
