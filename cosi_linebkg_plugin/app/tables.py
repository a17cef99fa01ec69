"""What commands print: tables and summaries, as lines of text."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..fit.result import LineBackgroundFit
    from ..lines.catalogue import CatalogueLine
    from ..lines.identify import IdentifiedLine
    from ..template.comparison import Comparison
    from ..template.template import BackgroundTemplate
    from .pipeline import Outcome


def text_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Container[int]
) -> list[str]:
    """A table as lines of text, as wide as the terminal, or as it needs where there is none.

    Parameters
    ----------
    heads : sequence of str
    rows : iterable of sequences of str
    numbers : container of int
        The columns that hold numbers, which are aligned at the right.
    """
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i in numbers else "left", no_wrap=i < 2)
    for row in rows:
        table.add_row(*row)
    text = io.StringIO()
    width = None if sys.stdout.isatty() else 500
    Console(file=text, width=width, markup=False, highlight=False).print(table)
    return [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]


def regions_table(outcomes: Mapping[str, Outcome]) -> list[str]:
    """Regions side by side, and what each says of its fit."""
    from ..show.report import region_rows

    rows = region_rows({name: (o.fit, o.template) for name, o in outcomes.items()})
    lines = text_table(list(rows[0]), [list(row.values()) for row in rows], range(1, len(rows[0])))
    for name, outcome in outcomes.items():
        lines += ["", f"{name}: {outcome.fit.summary()}"]
        of_template = outcome.template.notes if outcome.template else ()
        lines += [f"note: {note}" for note in (*outcome.notes, *of_template)]
    return lines


def comparison_table(rows: Sequence[Comparison]) -> list[str]:
    """Templates against the observed counts."""
    axes = list(dict.fromkeys(axis for row in rows for axis in row.projections))
    heads = ["template", "counts", "observed", "difference", *(f"{a} chi2/dof, p" for a in axes)]
    cells = []
    for row in rows:
        projections = [row.projections.get(axis) for axis in axes]
        cells.append(
            [
                row.name,
                f"{row.counts:.0f} ± {row.error:.0f}",
                f"{row.observed:.0f}",
                f"{row.difference_percent:+.1f} ± {row.difference_error_percent:.1f} %",
                *(
                    "" if p is None else f"{p.chi2:.0f}/{p.dof}, {p.p_value:.2g}"
                    for p in projections
                ),
            ]
        )
    lines = text_table(heads, cells, range(1, len(heads)))
    for row in rows:
        if row.unknown:
            lines.append(
                f"note: {row.name}: the amount of {', '.join(row.unknown)} is not known; the error "
                "is without it"
            )
        for axis, p in row.projections.items():
            largest = "; ".join(f"{name}: {chi:+.1f}" for name, chi in p.largest())
            lines.append(f"{row.name}, largest deviations in {axis} [sigma]: {largest}")
    return lines


def catalogue_table(rows: Sequence[CatalogueLine]) -> list[str]:
    """Rows of the catalogue."""
    if not rows:
        return ["The catalogue has no line there."]
    cells = [
        (
            f"{r.energy:.3f}",
            "" if r.uncertainty is None else f"{r.uncertainty:.3g}",
            r.isotope,
            r.half_life,
            r.process,
            " ".join(r.flags),
            r.source,
        )
        for r in rows
    ]
    heads = ("energy [keV]", "error", "isotope", "half-life", "process", "flags", "source")
    return [*text_table(heads, cells, range(2)), f"{len(rows)} line{'s' * (len(rows) > 1)}"]


def match_table(found: Sequence[IdentifiedLine]) -> list[str]:
    """Fitted lines against the rows of the catalogue near them."""
    from ..lines.identify import MATCH_SIGMAS, SCALE_ERROR

    if not found:
        return ["The fit has no line there."]
    cells = []
    for x in found:
        energy = (f"{x.energy:.2f}", "none" if x.error is None else f"{x.error:.2f}")
        known = any(m.agrees for m in x.matches)
        if not known:
            cells.append((*energy, "no counterpart", "", "", "", ""))
        for k, m in enumerate(x.matches[:3]):
            first = energy if k == 0 and known else ("", "")
            name = m.line.isotope if m.agrees else f"({m.line.isotope})"
            cells.append(
                (*first, name, f"{m.line.energy:.3f}", f"{m.difference:+.2f}", f"{m.sigmas:+.1f}",
                 " ".join(m.line.flags))
            )  # fmt: skip
    alone = [f"{x.energy:.2f}" for x in found if not any(m.agrees for m in x.matches)]
    heads = ("fitted [keV]", "error", "isotope", "catalogue [keV]", "difference", "sigmas", "flags")
    return [
        *text_table(heads, cells, range(2)),
        f"{len(found) - len(alone)} of {len(found)} fitted lines have a counterpart within "
        f"{MATCH_SIGMAS:g} standard deviations (with {SCALE_ERROR:g} keV for the energy scale); "
        "isotopes in brackets do not agree.",
        *([f"without: {', '.join(alone)} keV"] if alone else []),
    ]


def demo_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Templates of each method against the simulated truth."""
    heads = ("template", "counts", "truth", "difference")
    cells = [
        (
            row["template"],
            f"{row['counts']:.0f}",
            f"{row['truth']:.0f}",
            f"{row['difference_percent']:+.1f} %",
        )
        for row in rows
    ]
    return text_table(heads, cells, range(1, len(heads)))


def summary(
    fit: LineBackgroundFit,
    template: BackgroundTemplate | None,
    files: Sequence[Path],
    notes: Sequence[str] = (),
) -> list[str]:
    """What a fit, and a template, say of themselves, and the files that they are in."""
    lines = [*(f"note: {note}" for note in notes), str(fit)]
    if fit.line_search is not None:
        from ..lines.found import search_table

        lines += ["", "line search:", search_table(fit.line_search), ""]
    if template is not None:
        lines.append(repr(template))
        if template.control_ranges is not None and template.control_ranges.usable:
            lines.append(template.control_ranges.summary())  # the others say it in a note
        lines += [f"note: {note}" for note in template.notes]
    return [*lines, "", f"written to {files[0].parent}: " + ", ".join(f.name for f in files)]
