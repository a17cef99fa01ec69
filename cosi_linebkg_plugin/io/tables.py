"""Results as tables: for notebooks as HTML, for papers and files as astropy tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astropy.table import Table

DASH = "\u2013"

#: Rows of a table that a notebook shows; `to_table` has them all.
SHOWN_ROWS = 40


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name : str
    values : sequence
        Numbers or text; None where there is none.
    unit : str
        As astropy spells it; empty for none.
    about : str
        What it holds.
    """

    name: str
    values: Sequence[Any]
    unit: str = ""
    about: str = ""


def make_table(columns: Sequence[Column], **meta: Any) -> Table:
    """An astropy table, whose ``write`` knows LaTeX, CSV, ECSV and others, and which prints whole.

    Parameters
    ----------
    columns : sequence of Column
        Of equal length; what is None in them is masked.
    **meta
        What else is known of the table, kept by formats that can.
    """
    from astropy.table import MaskedColumn

    from .result_table import ResultTable

    made = []
    for column in columns:
        missing = [value is None for value in column.values]
        text = all(isinstance(v, str) for v in column.values if v is not None) and any(
            isinstance(v, str) for v in column.values
        )
        filler: Any = "" if text else math.nan
        values = [filler if none else v for v, none in zip(column.values, missing, strict=True)]
        made.append(
            MaskedColumn(
                values,
                name=column.name,
                mask=missing if any(missing) else False,
                unit=column.unit or None,
                description=column.about or None,
                dtype=str if text or not values else None,
            )
        )
    return ResultTable(made, meta=meta)


def to_html(
    title: str,
    heads: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
    text: Sequence[str] = (),
) -> str:
    """A result as a notebook shows it: a title, a table, sentences; everything is escaped.

    Parameters
    ----------
    title : str
    heads, rows : sequences of str
        Of the table; rows beyond `SHOWN_ROWS` are counted, not shown.
    text : sequence of str
        Below the table.
    """
    parts = [f"<p><strong>{escape(title)}</strong></p>"]
    if rows:
        cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows[:SHOWN_ROWS]]
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        head = "".join(f"<th>{escape(name)}</th>" for name in heads)
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    if len(rows) > SHOWN_ROWS:
        parts.append(f"<p>... and {len(rows) - SHOWN_ROWS} more rows: to_table() has them all.</p>")
    parts += [f"<p>{escape(sentence)}</p>" for sentence in text]
    return f"<div>{''.join(parts)}</div>"


def format_value(value: float | None, error: float | None = None, digits: int = 7) -> str:
    """A number as text, to two significant digits of its error.

    Parameters
    ----------
    value : float or None
    error : float or None
        None, 0 or not finite: there is none to show.
    digits : int
        Significant digits if there is no error; digits before the point are always kept.

    Returns
    -------
    str
        Like "1778.967 ± 0.031", "22170 ± 120", "(1.234 ± 0.056)e-07"; a dash for no number.
    """
    if value is None or not math.isfinite(value):
        return DASH
    if error is None or not (math.isfinite(error) and error > 0):
        if value and not 1e-4 <= abs(value) < 1e9:
            return f"{value:.{digits}g}"
        before = 1 + math.floor(math.log10(abs(value))) if value else 1
        text = f"{value:.{max(digits - before, 0)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    largest = max(abs(value), error)
    if not 1e-3 <= largest < 1e9:
        power = math.floor(math.log10(largest))
        mantissa = format_value(value / 10.0**power, error / 10.0**power)
        return f"({mantissa})e{power:+03d}"
    decimals = 1 - int(f"{error:.1e}".split("e")[1])
    rounded = [round(x, decimals) + 0.0 for x in (value, error)]  # + 0.0: no negative zero
    return " ± ".join(f"{x:.{max(decimals, 0)}f}" for x in rounded)
