#!/usr/bin/env bash
# threeML 2.6.1: DispersionSpectrumLike, and OGIPLike with it, integrate the spectrum over each true-energy bin of the
# response by Simpson's rule: its edges and its middle. A line narrower than half such a bin counts for what it has
# there: up to several times too much in the middle of a bin, nearly nothing beside it.
#
# The guess that this refutes: the expected counts of a line are its F times area and time wherever it lies in the bin,
# as they are for astromodels' own Gaussian integrated over the bin; and a fitted F is the line's flux.
#
# Seen: bins of 10 keV, no dispersion, 100 cm2, 1 s, F = 10 / (cm2 s), 1000 counts expected. A line of sigma 1 keV at a
# bin's edge has 1330, a quarter on 175, in the middle 2660; of sigma 2 keV 782, 915, 1388; of sigma 5 keV 995 to 1005.
# The other two methods of SpectrumLike that it offers move the factor and do not cure it.
#
# bash findings/threeml_line_in_a_response_bin.sh [PYTHON]
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
from astromodels import Gaussian, Model, PointSource
from threeML import DispersionSpectrumLike
from threeML.utils.OGIP.response import InstrumentResponse
from threeML.utils.spectrum.binned_spectrum import BinnedSpectrumWithDispersion

logging.disable(logging.WARNING)
edges = np.arange(1700.0, 1901.0, 10.0)
response = InstrumentResponse(
    matrix=100.0 * np.eye(edges.size - 1), ebounds=edges, monte_carlo_energies=edges
)
observed = BinnedSpectrumWithDispersion(np.zeros(edges.size - 1), 1.0, response, is_poisson=True)


def expected(sigma, place, method):
    """Counts expected of 1000, for a line at this place."""
    plugin = DispersionSpectrumLike("spectrum", observed, verbose=False)
    line = Gaussian(F=10.0, mu=place, sigma=sigma)
    plugin.set_model(Model(PointSource("line", 0, 0, spectral_shape=line)))
    if method is not None:
        plugin.model_integrate_method = method
    return float(plugin.get_model().sum())


places = (1800.0, 1802.5, 1805.0)  # a bin's edge, a quarter, its middle
print("expected of 1000 counts, at a bin's edge, a quarter and its middle")
seen = {}
for method in (None, "trapz", "riemann"):
    for sigma in (1.0, 2.0, 5.0):
        counts = seen[method, sigma] = [expected(sigma, place, method) for place in places]
        print(f"{method or 'as it comes'}, sigma {sigma:g} keV:", ", ".join(f"{n:.0f}" for n in counts))
assert np.allclose(seen[None, 1.0], [1330, 175, 2660], atol=1)
assert np.allclose(seen[None, 2.0], [782, 915, 1388], atol=1)
assert np.allclose(seen[None, 5.0], 1000, atol=6)
for method in ("trapz", "riemann"):
    assert np.ptp(seen[method, 1.0]) > 1000
EOF
