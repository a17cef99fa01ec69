#!/usr/bin/env bash
# astromodels 2.6.0: a Broken_powerlaw that is called with energies that carry a unit takes alpha for beta: it goes on
# above the break as below it. Called with numbers, as fits do, it has its break.
#
# The guess that this refutes: 500 keV as a Quantity and 500 as a number in keV give one value, as they do for each of
# the other spectra (and PointSource and Model hand the unit on to the function).
#
# Seen: break at 200 keV, indices -1 and -3, 1 / (keV cm2 s) at 100 keV: at 1000 keV 0.004 by numbers, 0.1 with a unit.
# A model of a continuum that was fitted is drawn, or folded by hand, 25 times too bright there. Nine other spectra
# agree.
#
# bash findings/astromodels_broken_power_law_with_units.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q astromodels==2.6.0 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import astromodels
import astropy.units as u
import numpy as np
from astromodels import Model, PointSource

energies = np.array([30.0, 100.0, 300.0, 1000.0])
shape = astromodels.Broken_powerlaw(K=1.0, xb=200.0, alpha=-1.0, beta=-3.0, piv=100.0)
model = Model(PointSource("source", 0, 0, spectral_shape=shape))
numbers = shape(energies)
ways = {
    "keV": shape(energies * u.keV),
    "MeV": shape(energies * 1e-3 * u.MeV),
    "of the model": model.get_point_source_fluxes(0, energies * u.keV),
}
print("energies [keV]:", energies, "by numbers:", numbers)
for name, values in ways.items():
    print(f"with a unit, {name}:", values)
    assert np.allclose(values.value, (energies / 100.0) ** -1)  # without a break
assert np.allclose(numbers[-1], 2.0**-1 * (1000 / 200) ** -3)

others = [
    "Band", "Cutoff_powerlaw", "DoubleSmoothlyBrokenPowerlaw", "Gaussian", "Line", "Log_parabola", "Powerlaw",
    "SmoothlyBrokenPowerLaw", "Super_cutoff_powerlaw",
]  # fmt: skip
for name in others:
    other = getattr(astromodels, name)()
    PointSource("source", 0, 0, spectral_shape=other)
    assert np.allclose(other(energies * u.keV).value, other(energies), rtol=1e-9), name
print("with a unit as by numbers:", ", ".join(others))
EOF
