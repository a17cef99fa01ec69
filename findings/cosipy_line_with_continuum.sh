#!/usr/bin/env bash
# cosipy 0.4.3: a Gaussian, a power law and others are integrated over the response's energy bins by their formulas, but
# their sum by scipy's quad from edge to edge, which looks at 21 energies first and stops there if it sees no line. Of a
# narrow line in a wide bin nothing is left; quad gives no warning, as all that it saw is smooth.
#
# The guess that this refutes: line + continuum has the counts of both, as it has where the line happens to lie near one
# of the 21 energies.
#
# Seen: in the test response, whose bin is 1585 to 2512 keV, a line at 1808.65 keV, sigma 1.5 keV, F = 1 / (cm2 s): 375
# counts; with a continuum that has 32 by itself 32. As two components of one source 407. At 2048.4 keV, the bin's
# middle, the sum has both.
#
# bash findings/cosipy_line_with_continuum.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q cosipy==0.4.3 threeML==2.6.1 astromodels==2.6.0 histpy==2.0.7 scoords==0.0.3 \
  astropy==8.0.2 numpy==2.5.5 scipy==1.18.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import logging

import numpy as np
from astromodels import Gaussian, LinearPolarization, PointSource, Powerlaw, SpectralComponent
from cosipy import SpacecraftHistory, test_data
from cosipy.data_io import EmCDSBinnedData
from cosipy.response import FullDetectorResponse
from cosipy.response.instrument_response import BinnedInstrumentResponse
from cosipy.response.threeml_point_source_response import BinnedThreeMLPointSourceResponse
from histpy import Histogram

logging.disable(logging.WARNING)
matrix = FullDetectorResponse.open(test_data.path / "test_full_detector_response.h5")
data = EmCDSBinnedData(Histogram([matrix.axes[name] for name in ("Em", "Phi", "PsiChi")]))
response = BinnedThreeMLPointSourceResponse(
    data,
    BinnedInstrumentResponse(matrix, data),
    SpacecraftHistory.open(test_data.path / "20280301_first_10sec.ori"),
    matrix.axes["Ei"],
    nside=matrix.axes["NuLambda"].nside,
)


def counts(**shapes):
    """Expected counts of a source with these components."""
    parts = [SpectralComponent(name, x, LinearPolarization(0, 0)) for name, x in shapes.items()]
    of_source = response.copy()
    of_source.set_source(PointSource("source", l=184.56, b=-5.78, components=parts))
    return float(of_source.expectation().contents.sum())


def line(place):
    return Gaussian(F=1.0, mu=place, sigma=1.5)


def continuum():
    return Powerlaw(K=1e-5, piv=1000.0, index=-2.0)


edges = matrix.axes["Ei"].edges.to_value("keV")
print("bins of the response [keV]:", " ".join(f"{x:.0f}" for x in edges))
alone = counts(a=continuum())
for place, lost in ((1808.65, True), (1157.0, True), (0.5 * (edges[6] + edges[7]), False)):
    one, whole = counts(a=line(place)), counts(a=line(place) + continuum())
    parts = counts(a=line(place), b=continuum())
    print(f"{place:.1f} keV: line {one:.1f}, continuum {alone:.1f}, their sum {whole:.1f}, two components {parts:.1f}")
    assert np.isclose(parts, one + alone) and one > 5 * alone
    assert np.isclose(whole, alone if lost else one + alone, rtol=1e-3)
EOF
