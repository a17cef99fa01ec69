#!/usr/bin/env bash
# becquerel 0.7.0: Fitter.calc_area_and_unc sums the fitted function over the bins and leaves out their width, although
# a fit with dx (bin widths) has made the function a density. The area of a line, and its error, is wrong by the
# bin width in keV.
#
# The guess that this refutes: the area of a line is its counts, in bins of any width.
#
# Seen: one spectrum of 22,000 counts, 10,000 in the line, in bins of 0.5, 1 and 2 keV: areas of the line
# 19860, 9931 and 4967; of all that is fitted 44001, 22000 and 11000.
#
# bash findings/becquerel_area_of_bins.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q becquerel==0.7.0 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import becquerel as bq
import numpy as np

rng = np.random.default_rng(1)
energies = np.concatenate([rng.normal(661.7, 3.0, 10_000), rng.uniform(600.0, 720.0, 12_000)])
for width in (0.5, 1.0, 2.0):
    spectrum, edges = np.histogram(energies, np.arange(600.0, 720.0 + width / 2, width))
    fitter = bq.Fitter(
        ["gauss", "constant"],
        x=0.5 * (edges[1:] + edges[:-1]),
        y=spectrum,
        y_unc=np.maximum(np.sqrt(spectrum), 1),
        dx=np.diff(edges),
    )
    fitter.fit(backend="minuit-pml")
    assert fitter.success
    line, whole = fitter.calc_area_and_unc("gauss"), fitter.calc_area_and_unc()
    amplitude = fitter.param_val("gauss_amp")
    print(f"bins of {width} keV, {spectrum.sum()} counts, gauss_amp {amplitude:.0f}: ", end="")
    print(f"area of the line {line.n:.0f} +- {line.s:.0f}, of all {whole.n:.0f} +- {whole.s:.0f}")
    assert np.isclose(amplitude, 10_000, rtol=0.05)
    assert np.isclose(line.n * width, amplitude, rtol=0.01)
    assert np.isclose(whole.n * width, spectrum.sum(), rtol=0.01)
EOF
