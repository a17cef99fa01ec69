"""Energy spectra in text files: CSV, columns, ECSV, as laboratories have them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BinningError, DataError, FileError
from ..io.guard import brief, listed, plain_unit, reading
from ..spectrum.axis import EnergySpectrum, check_edges
from ..units import factor

if TYPE_CHECKING:
    from astropy.table import Table

#: A spectrum takes some 20 bytes a bin in a few columns; whatever is larger, or has longer lines,
#: is another file given by mistake.
MAX_BYTES, MAX_LINE = 5_000_000, 1_000

#: Counts over something else, but for those of a bin.
_RATE = re.compile(r"(count|cts|events|^n|^1)[^/]*(/|\bper\b)(?!\s*(bin|ch))")

#: What a word in the name of a column says of it, tried in this order.
_ROLES = {
    "rate": r"rates?|cps|flux",
    "error": r"err|errors?|unc|uncertaint(y|ies)|sigma|std",
    "low": r"e?(low|lower|lo|min)|left|start",
    "high": r"e?(high|higher|upper|hi|max)|right|stop",
    "counts": r"counts?|cts|events|n",
    "channel": r"chan|channels?|ch|bin",
    "energy": r"energ(y|ies|ie)|e|[kmg]?ev|cent(er|re)s?|mid|middle",
}

_UNIT = re.compile(r"(?<![a-z])(ev|kev|mev|gev)(?![a-z])", re.IGNORECASE)

_UNITS = {"ev": "eV", "kev": "keV", "mev": "MeV", "gev": "GeV"}

#: Columns without names, by what they can be; see `_unnamed`.
_FORMS = (
    "A spectrum is text with the columns low, high, counts (edges of bins), or energy, counts "
    "(middles of bins), in keV unless the name of a column, as in energy_MeV, says otherwise"
)

#: Edges of neighbouring bins that differ by less than this share of a bin are one edge, rounded.
_ROUNDED = 0.01

#: Errors that differ by more than this, relatively, from the root of the counts are not theirs.
_NOT_POISSON = 0.02

#: No gamma-ray line of use is below this: energies that end here are in MeV [keV].
_LEAST_END = 15.0


def is_text(path: Path) -> bool:
    """Whether a file begins as text does, and not as FITS, whose header is text."""
    with open(path, "rb") as file:
        start = file.read(4096)
    if start.startswith(b"SIMPLE  ="):
        return False
    return bool(start.strip()) and not re.search(rb"[\x00-\x08\x0e-\x1f]", start)


def read_spectrum(path: Path) -> tuple[EnergySpectrum, tuple[str, ...]]:
    """The energy spectrum of a text file, and what a user must know of how it was read.

    Parameters
    ----------
    path : path
        Columns apart by commas, semicolons (with decimal points or commas), tabs or blanks, with or
        without a line of names; ECSV; comments begin with #. Either low, high, counts: the edges of
        each bin; or low, counts; or energy, counts: the middle of each bin, whose edges are then
        half-way between neighbours. Channel numbers are passed over, errors must be those of
        counts. Energies are in keV unless a unit stands in ECSV or in the name of the column.

    Returns
    -------
    spectrum : EnergySpectrum
    notes : tuple of str

    Raises
    ------
    FileError, DataError, BinningError
        Naming the file, and the row or column that cannot be used.
    """
    table = _table(path)
    with reading(path, "cannot be read as a spectrum", f"{_FORMS}."):
        columns, unit, unknown = _columns(table)
        notes = [f"{path.name}: not used: the columns {listed(unknown)}"] if unknown else []
        if "high" in columns:
            edges = _edges_of_bins(columns["low"], columns["high"])
        elif "low" in columns:
            low = columns["low"]
            _require_increasing(low)
            edges = np.append(low, 2 * low[-1] - low[-2])
        else:
            edges = _edges_around(columns["energy"])
            notes.append(
                f"{path.name}: energies are the middles of the bins, whose edges lie half-way "
                "between them; if they are lower edges, name the column low"
            )
        if not unit and edges[-1] < _LEAST_END:
            raise BinningError(
                f"The energies end at {edges[-1]:g} keV. If they are in MeV, call their column "
                "energy_MeV (or low_MeV and high_MeV)."
            )
        edges, counts = edges * factor(unit or "keV", "keV"), columns["counts"]
        first = int(np.searchsorted(edges, 0.0, side="right"))
        if 0 < first < edges.size - 1:
            notes.append(
                f"{path.name}: {first} bin{'s' * (first > 1)} from {edges[0]:.6g} keV on, with "
                f"{counts[:first].sum():g} counts, begin{'s' * (first == 1)} at or below 0 keV and "
                f"{'are' if first > 1 else 'is'} left out"
            )
            edges, counts = edges[first:], counts[first:]
        return EnergySpectrum(check_edges(edges), counts), tuple(notes)


def _table(path: Path) -> Table:
    """The file as an astropy table."""
    if path.stat().st_size > MAX_BYTES:
        raise FileError(
            f"{path} is not an HDF5 file, and with more than {MAX_BYTES} bytes too large for a "
            "spectrum as text. Give a histogram written by histpy."
        )
    kind = "is not an HDF5 file, and cannot be read as a spectrum"
    with reading(path, kind, f"{_FORMS}."):
        from astropy.io import ascii as tables

        # letters of another encoding stand in names and comments alone
        lines = path.read_bytes().decode("utf-8-sig", errors="replace").splitlines()
        longest = max(map(len, lines), default=0)
        if longest > MAX_LINE:
            raise ValueError(f"a line of {longest} characters")
        data = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if data and data[0].lstrip().startswith("<"):
            raise ValueError("it is HTML or XML")
        if data and ";" in data[-1]:  # a comma is then that of a decimal number
            lines = [line.replace(",", ".").replace(";", ",") for line in lines]
        try:
            is_ecsv = bool(lines) and lines[0].startswith("# %ECSV")
            table = tables.read(lines, format="ecsv") if is_ecsv else tables.read(lines)
        except tables.InconsistentTableError as error:  # it lists all that it tried
            raise ValueError("no table with one number in each column of each row") from error
        if len(table.colnames) < 2 or len(table) < 2:
            raise ValueError(f"{len(table.colnames)} column(s) of {len(table)} row(s)")
    return table


def _names(table: Table) -> list[str]:
    """The names of the columns: their own, or those in the last line of comments; else none."""
    names = list(table.colnames)
    if names != [f"col{i + 1}" for i in range(len(names))]:
        return names
    last = re.split(r"[,;\s]+", (table.meta.get("comments") or [""])[-1].strip())
    return last if len(last) == len(names) and all(map(_role, last)) else []


def _columns(table: Table) -> tuple[dict[str, NDArray[np.float64]], str, list[str]]:
    """The columns by what they are, the unit of energies, if one is said, and unknown columns."""
    names = _names(table)
    shown = f"its columns are {listed(names)}" if names else f"{len(table.colnames)} columns"
    columns = list(table.columns.values())
    if names:
        roles = [_role(name) for name in names]
        if "rate" in roles:
            bad = names[roles.index("rate")]
            raise DataError(f"The column {brief(bad)} holds rates; give counts in each bin.")
    else:
        roles = _unnamed([_numbers(column, f"column {i + 1}") for i, column in enumerate(columns)])
    found = {role: i for i, role in reversed(list(enumerate(roles))) if role}
    usable = {"low", "counts"} <= found.keys() or {"energy", "counts"} <= found.keys()
    if not usable or any(roles.count(role) > 1 for role in ("low", "high", "energy", "counts")):
        raise DataError(f"It is not said which column is what ({shown}). {_FORMS}.")
    values = {
        role: _numbers(columns[i], brief(names[i]) if names else f"column {i + 1}")
        for role, i in found.items()
        if role != "channel"
    }
    _check_errors(values)
    if str(columns[found["counts"]].unit or "") not in ("", "ct"):
        raise DataError(
            f"The counts have the unit {columns[found['counts']].unit}; give counts in each bin."
        )
    where = found.get("low", found.get("energy", 0))
    unit, said = columns[where].unit, _UNIT.search(" ".join(names).replace("_", " "))
    unknown = [name for name, role in zip(names, roles, strict=False) if not role]
    if unit is not None:
        return values, plain_unit(str(unit)), unknown
    return values, _UNITS[said[1].lower()] if said else "", unknown


def _role(name: str) -> str:
    """What a column of this name is; empty if that is not known."""
    name = name.lower().strip()
    if _RATE.search(name):
        return "rate"
    words = re.findall("[a-z]+", name)
    known = (r for r, pattern in _ROLES.items() if any(re.fullmatch(pattern, w) for w in words))
    return next(known, "")


def _unnamed(values: Sequence[NDArray[np.float64]]) -> list[str]:
    """What columns without names are, where that cannot be mistaken."""
    first, second = values[:2]
    if len(values) == 2:
        if first[0] in (0, 1) and np.all(np.diff(first) == 1):
            raise DataError(
                "The first column counts 1, 2, 3: channel numbers? Give energies; if they are "
                "energies in keV, name the columns energy, counts in the first line."
            )
        return ["energy", "counts"]
    if len(values) == 3:
        if np.all(second > first) and np.allclose(second[:-1], first[1:], rtol=1e-6):
            return ["low", "high", "counts"]
        if _is_poisson(second, values[2]):
            return ["energy", "counts", "error"]
    return [""] * len(values)


def _numbers(column: Any, name: str) -> NDArray[np.float64]:
    """A column as finite numbers."""
    values = np.ma.asarray(column)
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        bad = next((x for x in values.ravel() if not _is_number(x)), values.ravel()[0])
        raise DataError(f"{name} holds {brief(bad, 40)!r}, which is no number.")
    bad_rows = np.flatnonzero(np.ma.getmaskarray(values) | ~np.isfinite(np.ma.filled(values, 0)))
    if bad_rows.size:
        raise DataError(f"{name} has no finite number in row {bad_rows[0] + 1} of the data.")
    return np.asarray(values, np.float64)


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def _is_poisson(counts: NDArray[np.float64], errors: NDArray[np.float64]) -> bool:
    """Whether errors are the roots of counts; those of few counts are given in several ways."""
    many = counts >= 10
    roots = np.sqrt(counts[many])
    return bool(many.any() and np.allclose(errors[many], roots, rtol=_NOT_POISSON, atol=0.06))


def _check_errors(values: dict[str, NDArray[np.float64]]) -> None:
    errors, counts = values.get("error"), values["counts"]
    if errors is not None and np.any(counts >= 10) and not _is_poisson(counts, errors):
        raise DataError(
            "The errors are not the roots of the counts, so these are no counts as they were "
            "registered. Give the raw counts, before any subtraction or scaling; if they are, "
            "leave out the column of errors."
        )


def _require_increasing(energies: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(np.diff(energies) <= 0)
    if bad.size:
        i = bad[0] + 1
        raise BinningError(
            f"Energies must increase, but {energies[i]:g} (row {i + 1} of the data) follows "
            f"{energies[i - 1]:g}."
        )


def _edges_of_bins(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of bins that touch."""
    _require_increasing(low)
    empty = np.flatnonzero(high <= low)
    if empty.size:
        i = empty[0]
        raise BinningError(f"Row {i + 1} of the data has the bin {low[i]:g} to {high[i]:g}.")
    apart = np.flatnonzero(np.abs(low[1:] - high[:-1]) > _ROUNDED * np.diff(low))
    if apart.size:
        i = apart[0]
        raise BinningError(
            f"Bins must touch, but one ends at {high[i]:.10g} and the next (row {i + 2} of the "
            f"data) begins at {low[i + 1]:.10g}. Give every bin; a mask leaves energies out of a "
            "fit."
        )
    return np.append(low, high[-1])


def _edges_around(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges half-way between the middles of bins; the outer ones as far out as the inner ones."""
    _require_increasing(energies)
    inner = 0.5 * (energies[1:] + energies[:-1])
    return np.concatenate(([2 * energies[0] - inner[0]], inner, [2 * energies[-1] - inner[-1]]))
