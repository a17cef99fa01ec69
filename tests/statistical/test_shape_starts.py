"""Every line shape and continuum from its default start against the start at the truth."""

from dataclasses import replace

import numpy as np
import pytest
from spectra import simulated_spectrum

from cosi_linebkg_plugin import background_model
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.model.read import spectrum_of

pytestmark = pytest.mark.slow

NARROW = np.linspace(1500.0, 2000.0, 101)
WIDE = np.arange(100.0, 3000.0 + 1e-9, 4.0)
THREE = [1633, 1712, 1779]
TEN = [198, 472, 511, 585, 843, 1014, 1369, 1779, 2223, 2754]
CASES = {
    "bend": (NARROW, dict(lines=THREE, continuum="broken_powerlaw", pivot=1750),
             dict(alpha_1=-1.0, beta_1=-3.0, xb_1=1650.0)),
    "faint bend": (NARROW, dict(lines=THREE, continuum="broken_powerlaw", pivot=1750),
                   dict(alpha_1=-2.0, beta_1=-2.2, xb_1=1850.0)),
    "polynomial": (NARROW, dict(lines=THREE, continuum="powerlaw_polynomial", pivot=1750),
                   dict(c2_1=5.0, c3_1=-20.0)),
    "linear": (NARROW, dict(lines=THREE, width="linear", pivot=1750), dict(a_2=1.0, b_2=0.004)),
    "linear, tail": (NARROW, dict(lines=THREE, width="linear", tail=True, pivot=1750),
                     dict(a_2=1.0, b_2=0.004)),
    "wide": (WIDE, dict(lines=TEN, width="linear", tail=True, pivot=1000),
             dict(a_2=1.4, b_2=0.0035, K_1=400.0, index_1=-1.3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_default_start_ends_where_the_truth_does(name):
    edges, options, values = CASES[name]
    start = spectrum_of(background_model(**options), "linebkg").current_model()
    values = {"K_1": 3000.0} | values
    truth = replace(
        start,
        parameters=tuple(
            replace(p, value=3e4 if p.name.startswith("F_") else values.get(p.name, p.value))
            for p in start.parameters
        ),
    )
    trials, worse = 30 if name == "wide" else 100, 0
    for seed in range(trials):
        data = simulated_spectrum(truth, edges, np.random.default_rng(seed), [(1790.0, 1825.0)])
        gap = fit_spectrum(start, data).deviance - fit_spectrum(truth, data).deviance
        worse += gap > 0.01
    print(f"{name}: {worse} of {trials} end above the minimum near the truth")
    assert worse <= 0.05 * trials  # a kink in the model is a kink in its likelihood
