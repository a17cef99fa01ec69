"""The DC3 spectrum around 26Al with the lines that the search finds, as a figure and a table.

``PYTHONPATH=tests/helpers python tests/studies/dc3_lines.py [--write]`` prints the table; with
``--write`` the figure goes into docs/images/dc3_lines.png and the table into docs/lines.md. It
takes seconds, and needs the published spectrum (dc3_al26_total_spectrum.csv in the folder
COSI_LINEBKG_DATA).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from matplotlib.figure import Figure
from spectra import dc3_spectrum

from cosi_linebkg_plugin import find_lines
from cosi_linebkg_plugin.lines.found import LineSearch
from cosi_linebkg_plugin.show.figure import save_figure
from cosi_linebkg_plugin.show.spectrum import plot_spectrum

DOCS = Path(__file__).resolve().parents[2] / "docs"


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


def main() -> None:
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    search = find_lines(dc3_spectrum(Path(os.environ.get("COSI_LINEBKG_DATA", beside))), tail=True)
    print(table(search), f"\n\n{search}")
    if "--write" in sys.argv:
        figure = Figure(figsize=(9.5, 5.6), layout="constrained")
        axes = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (2.6, 1)})
        save_figure(plot_spectrum(search.fit, ax=axes), DOCS / "images" / "dc3_lines.png")
        text = (DOCS / "lines.md").read_text(encoding="utf-8")
        start, end = "<!-- dc3 table -->\n", "\n<!-- end -->"
        head, rest = text.split(start)
        tail = rest.split(end, 1)[1]
        (DOCS / "lines.md").write_text(f"{head}{start}{table(search)}{end}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
