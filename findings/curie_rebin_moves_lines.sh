#!/usr/bin/env bash
# curie 0.3.1: Spectrum.rebin, which adjusts the energy calibration "to match the new bin length", scales the gain and
# leaves the offset, although a channel's energy is that of its middle: every line moves down by half a new channel less
# half an old one. Of a cubic calibration it drops the quadratic and the cubic term.
#
# The guess that this refutes: rebinning changes the widths of the channels, not where the lines are.
#
# Seen: 60Co's line at 1332.50 keV in 16384 channels of 0.18 keV; rebinned to 2048 it is at 1331.87 keV. With the cubic
# calibration of a bent gain (1e-7 and -1e-12) it goes from 1332.50 to 1326.83 keV. A search among known lines finds
# others, or none.
#
# bash findings/curie_rebin_moves_lines.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q curie==0.3.1 numpy==2.4.6 scipy==1.17.1 pandas==2.3.3
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import curie
import numpy as np

lines = np.random.default_rng(1).normal(1332.5, 0.8, 100_000)


def means(calibration):
    """The line's mean energy by curie's own calibration, before and after rebinning by 8."""
    spectrum = curie.Spectrum()
    spectrum.cb.engcal = calibration
    edges = spectrum.cb.eng(np.arange(-0.5, 16384.5))  # eng(i) is the middle of channel i
    spectrum.hist = np.histogram(lines, edges)[0]

    def mean():
        assert spectrum.hist.sum() == lines.size
        return float((spectrum.cb.eng(np.arange(spectrum.hist.size)) * spectrum.hist).sum() / lines.size)

    before = mean()
    spectrum.rebin(2048)
    print(f"{calibration}: {before:.2f} -> {mean():.2f} keV with {spectrum.cb.engcal}")
    return before, mean()


assert np.allclose(means([0.0, 0.18]), [1332.5, 1332.5 - 3.5 * 0.18], atol=0.01)
assert np.allclose(means([0.0, 0.18, 1e-8]), [1332.5, 1332.5 - 3.5 * 0.18], atol=0.01)
assert np.allclose(means([0.0, 0.18, 1e-7, -1e-12]), [1332.5, 1326.83], atol=0.02)
EOF
