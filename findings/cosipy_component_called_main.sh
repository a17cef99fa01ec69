#!/usr/bin/env bash
# cosipy 0.4.3: the expected counts of a point source are those of the spectral component called "main", if there is
# one; its other components are left out. Where none is called "main", the components are summed.
#
# The guess that this refutes: the counts of a source are the sum of its components, whatever their names; "main" is the
# name that astromodels gives to a single one, and a natural one for the continuum beside a line.
#
# Seen: one power law 3182 counts; two of them called a and b 6364; called main and b 3182.
#
# bash findings/cosipy_component_called_main.sh [PYTHON]
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
from astromodels import LinearPolarization, PointSource, Powerlaw, SpectralComponent
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


def counts(*names):
    """Expected counts of a source with one power law for each name."""
    parts = [
        SpectralComponent(name, Powerlaw(K=1e-3, piv=1000.0, index=-2.0), LinearPolarization(0, 0))
        for name in names
    ]
    of_source = response.copy()
    of_source.set_source(PointSource("crab", l=184.56, b=-5.78, components=parts))
    total = float(of_source.expectation().contents.sum())
    print(f"components {names}: {total:.0f} counts")
    return total


one = counts("a")
assert np.isclose(counts("a", "b"), 2 * one)
assert np.isclose(counts("main"), one)
assert np.isclose(counts("main", "b"), one) and np.isclose(counts("b", "main"), one)
EOF
