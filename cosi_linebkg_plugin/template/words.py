"""What a template shows of itself in a session: a line, a short table, an astropy table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..io.tables import Column, format_value, make_table, to_html

if TYPE_CHECKING:
    from astropy.table import Table

    from .template import BackgroundTemplate


def in_a_line(template: BackgroundTemplate) -> str:
    """Method, range, and the counts of each component with their errors."""
    parts = ", ".join(
        f"{label} {template.counts[label]:.1f} +- {error:.1f}"
        if np.isfinite(error)
        else f"{label} not known"
        for label, error in template.errors.items()
    )
    low, high = template.source_range
    percent = template.record.systematic_percent
    systematic = f", systematic error {percent:.2g} % per bin included" if percent else ""
    if template.record.measured_percent:
        systematic += f", measured error {template.record.measured_percent:.2g} % included"
    if template.record.hidden_percent:
        systematic += f", lines that may hide {template.record.hidden_percent:.2g} % included"
    return (
        f"BackgroundTemplate({template.method}, {low:g}-{high:g} keV, counts: {parts}{systematic})"
    )


def as_html(template: BackgroundTemplate) -> str:
    """Components, their total and notes, as a table for a notebook."""
    rows = [
        (label, format_value(template.counts[label], e if np.isfinite(e) else None),
         "" if np.isfinite(e) else "not known")
        for label, e in template.errors.items()
    ]  # fmt: skip
    if not template.unknown:
        total = sum(template.counts.values())
        rows.append(("total", format_value(total, template.total_error), ""))
    low, high = template.source_range
    title = f"BackgroundTemplate({template.method}, {low:g}-{high:g} keV)"
    return to_html(title, ("component", "counts", ""), rows, template.notes)


def as_table(template: BackgroundTemplate) -> Table:
    """Counts, errors and rates; see `BackgroundTemplate.to_table`."""
    known = None if template.unknown else template.total_error
    counts = [*template.counts.values(), sum(template.counts.values())]
    errors = [e if np.isfinite(e) else None for e in template.errors.values()] + [known]
    columns = [
        Column("component", [*template.labels, "total"]),
        Column("counts", counts, "ct", "expected, at the current norms"),
        Column("error", errors, "ct", "standard error"),
    ]
    if template.livetime:
        t = template.livetime
        rate_errors = [None if e is None else e / t for e in errors]
        columns.append(Column("rate", [c / t for c in counts], "Hz"))
        columns.append(Column("rate_error", rate_errors, "Hz", "standard error"))
    return make_table(columns, source_range_kev=list(template.source_range), method=template.method)
