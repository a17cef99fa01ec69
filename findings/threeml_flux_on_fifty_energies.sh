#!/usr/bin/env bash
# threeML 2.6.1: get_flux of a result integrates by trapezoids over 50 energies, evenly spaced as long as the range is
# no wider than a factor 100, whatever the function and its own integral. Of a steep continuum that is far too much; a
# line counts for what it has at the next energies, which is too much, too little or nothing.
#
# The guess that this refutes: the flux of a power law is its integral, and that of a line its F, in any range around
# it.
#
# Seen: a line of F = 100 / (cm2 s) at 1809 keV, sigma 3 keV, with a continuum of index -2, fitted from 1700 to 1900
# keV. In that range 100.4 and 196; from 1 to 3 MeV the line is 27.6; from 0.1 to 10 MeV 0.0, and the continuum there
# 46,400 instead of 31,340 / (cm2 s). From 99 keV to 10 MeV, where the energies are spaced by their logarithm, it is
# 31,800. With the method quad (threeML_config.point_source.integrate_flux_method) the continuum is right, and the line
# still 0.0.
#
# bash findings/threeml_flux_on_fifty_energies.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q threeML==2.6.1 astromodels==2.6.0 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import logging

import astropy.units as u
import numpy as np
from astromodels import Gaussian, Model, PointSource, Powerlaw
from threeML import DataList, JointLikelihood, XYLike, threeML_config
from threeML.utils.fitted_objects.fitted_point_sources import IntegrateMethod

logging.disable(logging.WARNING)
shape = Gaussian(F=100.0, mu=1809.0, sigma=3.0) + Powerlaw(K=1.0, piv=1800.0, index=-2.0)
shape.mu_1.bounds, shape.F_1.bounds, shape.index_2.fix = (1800.0, 1820.0), (1.0, 1000.0), True
energies = np.arange(1700.0, 1900.0, 2.0)
observed = np.random.default_rng(1).normal(shape(energies), 0.3)
model = Model(PointSource("source", 0, 0, spectral_shape=shape))
session = JointLikelihood(model, DataList(XYLike("points", energies, observed, np.full(100, 0.3))))
session.fit(quiet=True)
line, amplitude = shape.F_1.value, shape.K_2.value


def ratios(low, high):
    """The line's and the continuum's flux in this range, by what they should be."""
    np.random.seed(1)
    table = session.results.get_flux(
        low * u.keV, high * u.keV, flux_unit="1/(cm2 s)", use_components=True
    )
    found = [float(table["flux"][f"source: {name}"].value) for name in ("Gaussian", "Powerlaw")]
    true = line, amplitude * 1800.0**2 * (1 / low - 1 / high)
    print(f"{low} to {high} keV: line {found[0]:.1f} ({true[0]:.1f}), continuum {found[1]:.0f} ({true[1]:.0f})")
    return np.divide(found, true)


assert np.allclose(ratios(1700, 1900), 1, atol=0.01)  # median of draws against the best place
assert np.allclose(ratios(1000, 3000), [0.28, 1], atol=0.03)
assert np.allclose(ratios(100, 10_000), [0, 1.48], atol=0.02)
assert np.allclose(ratios(99, 10_000), [0, 1], atol=0.03)
print("integrate_flux_method quad:")
threeML_config.point_source.integrate_flux_method = IntegrateMethod.quad
assert np.allclose(ratios(100, 10_000), [0, 1], atol=0.01)
EOF
