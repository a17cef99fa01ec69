#!/usr/bin/env bash
# becquerel 0.7.0: Spectrum.rebin sets each bin's error to the root of its value, whatever error it had. A
# spectrum that was scaled, or is the mean of several, gets errors of another size.
#
# The guess that this refutes: errors go along; combine_bins, which makes the same bins, keeps them.
#
# Seen: 1000 +- 31.6 counts a bin, divided by 100: 10 +- 0.32; four bins out of eight by combine_bins: 20 +- 0.45, by
# rebin: 20 +- 4.47; times 100 instead: 200000 +- 4472 and 200000 +- 447.
#
# bash findings/becquerel_rebin_errors.sh [PYTHON]
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

edges = np.arange(500.0, 517.0, 2.0)
spectrum = bq.Spectrum(counts=np.full(8, 1000), bin_edges_kev=edges)
for factor in (0.01, 100):
    scaled = spectrum * factor
    combined, rebinned = scaled.combine_bins(2), scaled.rebin(edges[::2])
    for name, one in (("scaled", scaled), ("combine_bins", combined), ("rebin", rebinned)):
        print(f"times {factor:g}, {name}: {one.counts_vals[0]:.0f} +- {one.counts_uncs[0]:.2f}")
    assert np.allclose(combined.counts_vals, rebinned.counts_vals)
    assert np.allclose(combined.counts_uncs, factor * np.sqrt(2000))
    assert np.allclose(rebinned.counts_uncs, np.sqrt(factor * 2000))
EOF
