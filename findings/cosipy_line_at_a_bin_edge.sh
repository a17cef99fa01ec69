#!/usr/bin/env bash
# cosipy 0.4.3: a monochromatic line (astromodels' DiracDelta) whose energy is an edge of the energy axis is put into
# the bin above it and into the bin below it, with its whole flux in each.
#
# The guess that this refutes: a line lies in one bin, [low, high), as events do in histpy and in cosipy's own cuts.
#
# Seen: 1e-2 / (cm2 s) at 511 keV in bins of 1 keV from 500 keV on: 2e-2 in all; at 511.01 keV 1e-2. With the test
# response, which has an edge at 1000 keV, a line at 999.99 keV has 5.4 counts, at 1000.01 keV 4.7, at 1000 keV 10.0.
#
# bash findings/cosipy_line_at_a_bin_edge.sh [PYTHON]
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

import astropy.units as u
import numpy as np
from astromodels import DiracDelta, LinearPolarization, PointSource, SpectralComponent
from cosipy import SpacecraftHistory, test_data
from cosipy.data_io import EmCDSBinnedData
from cosipy.response import FullDetectorResponse
from cosipy.response.functions import get_integrated_spectral_model
from cosipy.response.instrument_response import BinnedInstrumentResponse
from cosipy.response.threeml_point_source_response import BinnedThreeMLPointSourceResponse
from histpy import Axis, Histogram

logging.disable(logging.WARNING)


def line(place):
    return DiracDelta(value=1e-2, zero_point=place)


def shape(place):
    one = line(place)
    PointSource("units", 0, 0, spectral_shape=one)  # gives the function its units
    return one


axis = Axis(np.arange(500.0, 521.0) * u.keV, label="Ei")
for place, times in ((510.99, 1), (511.0, 2), (511.01, 1)):
    flux = get_integrated_spectral_model(shape(place), axis).contents
    values = np.asarray(getattr(flux, "value", flux))
    print(f"{place} keV: {values.sum():g}, in {np.count_nonzero(values)} bins")
    assert np.isclose(values.sum(), times * 1e-2) and np.count_nonzero(values) == times

matrix = FullDetectorResponse.open(test_data.path / "test_full_detector_response.h5")
data = EmCDSBinnedData(Histogram([matrix.axes[name] for name in ("Em", "Phi", "PsiChi")]))
response = BinnedThreeMLPointSourceResponse(
    data,
    BinnedInstrumentResponse(matrix, data),
    SpacecraftHistory.open(test_data.path / "20280301_first_10sec.ori"),
    matrix.axes["Ei"],
    nside=matrix.axes["NuLambda"].nside,
)
edge = float(matrix.axes["Ei"].edges.to_value("keV")[5])
counts = []
for place in (edge - 0.01, edge, edge + 0.01):
    parts = [SpectralComponent("a", line(place), LinearPolarization(0, 0))]
    of_source = response.copy()
    of_source.set_source(PointSource("source", l=184.56, b=-5.78, components=parts))
    counts.append(float(of_source.expectation().contents.sum()))
    print(f"{place:.2f} keV: {counts[-1]:.1f} counts")
assert np.isclose(counts[1], counts[0] + counts[2]) and min(counts) > 1
EOF
