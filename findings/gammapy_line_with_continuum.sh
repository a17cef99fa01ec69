#!/usr/bin/env bash
# gammapy 2.1: the sum of two spectral models is integrated with 100 points a decade, even where each of
# the two has an integral of its own. A line narrower than the step, 2.3 %, counts for what it has at the
# next points: nothing, or too much. (The pin of regions is for the import alone.)
#
# The guess that this refutes: the integral of line + continuum is the sum of both integrals.
#
# Seen: a line of 1e-3 photons / (cm2 s) at 1.809 MeV, sigma 3 keV: 1e-3. With a continuum of 1e-12 added,
# from 1.7 to 1.9 MeV: 8.6e-14; in twenty bins of 10 keV: 4.9e-4. No warning.
#
# bash findings/gammapy_line_with_continuum.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q gammapy==2.1 regions==0.10 astropy==8.0.2 numpy==2.5.5 scipy==1.18.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import warnings

import astropy.units as u
import numpy as np
from gammapy.modeling.models import GaussianSpectralModel, PowerLawSpectralModel

line = GaussianSpectralModel(amplitude="1e-3 cm-2 s-1", mean="1.809 MeV", sigma="3 keV")
continuum = PowerLawSpectralModel(amplitude="1e-12 cm-2 s-1 MeV-1", reference="1 MeV", index=2)
both = line + continuum
edges = np.linspace(1.7, 1.9, 21) * u.MeV


def flux(model):
    """In the whole range, and as the sum of bins, in photons / (cm2 s)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = model.integral(edges[0], edges[-1])
        bins = model.integral(edges[:-1], edges[1:]).sum()
    return [float(x.to_value("cm-2 s-1")) for x in (whole, bins)]


for name, model in (("line", line), ("continuum", continuum), ("line + continuum", both)):
    print("{}: whole range {:.3g}, sum of the bins {:.3g}".format(name, *flux(model)))
fine = np.linspace(1.7, 1.9, 20001) * u.MeV
true = float(np.sum(0.5 * (both(fine[1:]) + both(fine[:-1])) * np.diff(fine)).to_value("cm-2 s-1"))
print(f"line + continuum, by a fine sum: {true:.3g}")
assert np.isclose(true, 1e-3) and np.allclose(flux(line), 1e-3)
assert flux(both)[0] < 1e-12
assert not np.isclose(flux(both)[1], 1e-3, rtol=0.3)
EOF
