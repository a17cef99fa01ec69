"""What the 2016 balloon flight's spectrum shows of 69mZn's line at 438.6 keV, for docs/lines.md.

``python tests/studies/flight_438.py [--write]`` (seconds; the spectra in COSI_LINEBKG_DATA). A line
of free area, energy held at 438.634 keV, width 3 keV, on three continua in ever wider windows: the
deviance with and without it. Bins are 10 keV wide.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from study import publish, published_data

from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.components import SpectralModel

ENERGY, SIGMA = 438.634, 3.0
WINDOWS = ((400.0, 480.0), (380.0, 490.0), (350.0, 490.0), (290.0, 490.0))
CONTINUA = ("powerlaw", "broken_powerlaw", "powerlaw_polynomial")


def model(continuum: str, *, with_line: bool, pivot: float) -> SpectralModel:
    """The continuum, and the line with everything but its area held."""
    lines = [ENERGY] if with_line else []
    parts = spectrum_parts(lines, sigma=SIGMA, pivot=pivot, continuum=continuum)
    whole = numerical_model(parts)
    held = tuple(
        replace(p, free=p.free and not p.name.startswith(("mu_", "sigma_")))
        for p in whole.parameters
    )
    return SpectralModel(held, whole.components)


def rows(spectrum: EnergySpectrum) -> list[str]:
    """Rows of the table, in Markdown."""
    table = [
        "| window [keV] | continuum | deviance/dof without | with the line | counts | sqrt(TS) |",
        "|---|---|---|---|---|---|",
    ]
    for low, high in WINDOWS:
        inside = (spectrum.edges[:-1] >= low - 4) & (spectrum.edges[1:] <= high + 4)
        first, last = np.flatnonzero(inside)[[0, -1]]
        part = EnergySpectrum(spectrum.edges[first : last + 2], spectrum.counts[inside])
        for continuum in CONTINUA:
            fits = [
                fit_spectrum(model(continuum, with_line=x, pivot=0.5 * (low + high)), part)
                for x in (False, True)
            ]
            area = next(k for k in fits[1].values if k.startswith("F_"))
            gain = math.sqrt(max(fits[0].deviance - fits[1].deviance, 0.0))
            of = " | ".join(f"{f.deviance:.0f} / {f.dof}" for f in fits)
            error = fits[1].errors.get(area)
            counts = f"{fits[1].values[area]:.0f}" + (f" ± {error:.0f}" if error else "")
            table.append(
                f"| {part.edges[0]:.0f}-{part.edges[-1]:.0f} | `{continuum}` | {of} "
                f"| {counts} | {gain:.1f} |"
            )
    return table


def main() -> None:
    folder = published_data() / "spectra"
    low, high, counts = np.loadtxt(
        folder / "cosi_balloon2016_143_600.csv", delimiter=",", skiprows=1
    ).T
    spectrum = EnergySpectrum(np.append(low, high[-1]), counts)
    publish("438 table", "\n".join(rows(spectrum)), "lines.md")


if __name__ == "__main__":
    main()
