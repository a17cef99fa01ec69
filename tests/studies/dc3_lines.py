"""The DC3 spectrum around 26Al with the lines that the search finds, as a figure and a table.

``PYTHONPATH=tests/helpers python tests/studies/dc3_lines.py [--write]`` prints the table; with
``--write`` the figure goes into docs/images/dc3_lines.png and the tables into docs/lines.md. It
takes seconds, and needs the published spectrum (dc3_al26_total_spectrum.csv in the folder
COSI_LINEBKG_DATA).

A second table judges candidates that the search leaves out: what each of them, and all together,
are worth to the fit, on both continua.
"""

from __future__ import annotations

import math
import sys
from functools import cache

import numpy as np
from matplotlib.figure import Figure
from spectra import dc3_spectrum
from study import DOCS, publish, published_data

from cosi_linebkg_plugin import find_lines, instrumental_lines
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.lines.found import LineSearch
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.show.figure import save_figure
from cosi_linebkg_plugin.show.spectrum import plot_spectrum
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

#: keV. A search that takes every significant candidate on a power law, peak or not, has these too.
LEFT_OUT = (1506.4, 1524.4, 1538.3, 1565.7, 1653.0, 1898.2, 1909.4, 1938.2, 1978.1)
GROUPS = {"the four below 1570": LEFT_OUT[:4], "the other five": LEFT_OUT[4:], "all nine": LEFT_OUT}
CONTINUA = ("powerlaw", "powerlaw_polynomial")


def table(search: LineSearch) -> str:
    """The lines as a table in Markdown."""
    rows = [
        "| energy [keV] | counts | local | global | catalogue: isotope energy (difference) [keV] |",
        "|---|---|---|---|---|",
    ]
    for x in search.lines:
        near = ", ".join(
            f"{m.line.isotope}{'?' * ('doubtful' in m.line.flags)} {m.line.energy:.2f} "
            f"({m.difference:+.2f})"
            for m in x.matches
            if m.agrees
        )
        significances = f"{x.significance:.1f} | {x.global_significance:.1f}"
        significances = significances if x.described else "- | -"
        rows.append(
            f"| {x.energy:.2f} ± {x.error:.2f} | {x.counts:.0f} ± {x.counts_error:.0f} "
            f"| {significances} | {near or '-'} |"
        )
    return "\n".join(rows)


def judged(spectrum: EnergySpectrum, search: LineSearch) -> str:
    """What candidates that were left out are worth, as a table in Markdown."""
    found = [x.energy for x in search.lines]

    @cache
    def fit(energies: frozenset[float], continuum: str) -> LineBackgroundFit:
        parts = spectrum_parts(
            sorted(energies), pivot=1750.0, sigma=2.6, tail=True, continuum=continuum
        )
        return fit_spectrum(numerical_model(parts), spectrum)

    some, every = frozenset(found), frozenset([*found, *LEFT_OUT])
    head = "".join(f" {continuum}: TS, added | TS, the last left out |" for continuum in CONTINUA)
    rows = [
        f"| energy [keV] | rows of the catalogue within 2 keV |{head}",
        "|---|---|" + "---|" * 4,
    ]
    named = {f"{energy:g}": (energy,) for energy in LEFT_OUT} | GROUPS
    for name, energies in named.items():
        near = [x for e in energies for x in instrumental_lines(near=e) if abs(x.energy - e) < 2.0]
        causes = (
            ", ".join(f"{x.isotope} {x.energy:.1f}" for x in near) if len(energies) == 1 else ""
        )
        cells = []
        for c in CONTINUA:
            added = fit(some, c).deviance - fit(some | set(energies), c).deviance
            last = fit(every - set(energies), c).deviance - fit(every, c).deviance
            cells += [f"{added:.0f}", f"{last:.0f}"]
        rows.append(f"| {name} | {causes or '-'} | {' | '.join(cells)} |")
    used = int(spectrum.used.sum())
    fits = [(f"{n.size} lines, `{c}`", fit(frozenset(n.tolist()), c))
            for n in map(np.array, (sorted(some), sorted(every))) for c in CONTINUA]  # fmt: skip
    rows += ["", "| model | deviance/dof | BIC |", "|---|---|---|"]
    for name, x in fits:
        bic = x.deviance + math.log(used) * (used - x.dof)
        rows.append(
            f"| {name} | {x.deviance:.0f} / {x.dof} = {x.deviance / x.dof:.1f} | {bic:.0f} |"
        )
    return "\n".join(rows)


def main() -> None:
    spectrum = dc3_spectrum(published_data())
    search = find_lines(spectrum, tail=True)
    publish("dc3 table", table(search), "lines.md")
    publish("dc3 left out", judged(spectrum, search), "lines.md")
    print(search)
    if "--write" in sys.argv:
        figure = Figure(figsize=(9.5, 5.6), layout="constrained")
        axes = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (2.6, 1)})
        save_figure(plot_spectrum(search.fit, ax=axes), DOCS / "images" / "dc3_lines.png")


if __name__ == "__main__":
    main()
