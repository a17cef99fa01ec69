"""How often fits of blended weak lines fail, with a width for each line and with a shared one.

``PYTHONPATH=tests/helpers python tests/studies/free_widths.py``: 100 spectra of 99 bins with 20
counts each from a power law, and four lines of 50 to 200 counts at random energies, two of them 6
to 15 keV apart. Each is fitted from its default start and from the truth; the better of the two is
the best fit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from spectra import simulated_spectrum

from cosi_linebkg_plugin import background_model
from cosi_linebkg_plugin.errors import FitError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.model.read import spectrum_of
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.components import SpectralModel

EDGES = np.linspace(1500.0, 2000.0, 100)
N_SPECTRA = 100


def deviance(model: SpectralModel, spectrum: EnergySpectrum) -> float:
    """Of the fit; infinite if it failed."""
    try:
        return fit_spectrum(model, spectrum).deviance
    except FitError:
        return np.inf


def study(width: str, tail: bool) -> tuple[int, int]:
    """Numbers of fits that fail, and that end more than 0.5 in ln L above the best."""
    failed = above = 0
    for seed in range(N_SPECTRA):
        rng = np.random.default_rng(seed)
        while True:
            energies = np.sort(rng.uniform(1520.0, 1980.0, 4))
            energies[1] = energies[0] + rng.uniform(6.0, 15.0)  # a blend
            if np.diff(np.sort(energies)).min() > 6.0:
                break
        lines = [{"energy": e, "width": width} for e in np.sort(energies)]
        built = background_model(lines, pivot=1750, tail=tail)
        start = spectrum_of(built, "linebkg").current_model()
        truth = replace(
            start,
            parameters=tuple(
                replace(
                    p,
                    value={"K": 20.0 * 99 / 500.0, "F": rng.uniform(50.0, 200.0)}.get(
                        p.name.split("_")[0], p.value
                    ),
                )
                for p in start.parameters
            ),
        )
        spectrum = simulated_spectrum(truth, EDGES, rng)
        found = deviance(start, spectrum)
        best = min(found, deviance(truth, spectrum))
        failed += not np.isfinite(found)
        above += bool(np.isfinite(found) and found - best > 1.0)
    return failed, above


def main() -> None:
    print("width   tail   failed   above the best")
    for width in ("own", "shared"):
        for tail in (False, True):
            failed, above = study(width, tail)
            print(f"{width:<7} {tail!s:<6} {failed:>6} {above:>16}   of {N_SPECTRA}")


if __name__ == "__main__":
    main()
