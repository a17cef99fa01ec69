"""Which events are taken: ranges, good times, a cone around a direction."""

from __future__ import annotations

import gzip
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..histograms.orientation import Pointing, merged
from ..io.guard import brief, listed, reading, require_file, shown
from ..io.time_header import time_reference
from ..units import in_unit

#: Good times are a few kB; a larger file, packed or not, is another one.
_MAX_BYTES = 100_000_000

#: Names of the columns of a table GTI: those of the OGIP standard, and cosipy's.
_GTI_COLUMNS = (("START", "STOP"), ("TSTART", "TSTOP"))

Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Selections:
    """What an event must fulfil; None is no condition. All ranges are [low, high).

    Attributes
    ----------
    energy : (float, float) or None, keV
    phi : (float, float) or None, deg
    distance : (float, float) or None, cm
    time : (float, float) or None, s, Unix time
    good_times : ndarray, shape (n, 2), or None, s, Unix time
        Sorted, without overlap.
    pointing : Pointing or None
        A cone that the z axis must lie in.
    """

    energy: Range | None = None
    phi: Range | None = None
    distance: Range | None = None
    time: Range | None = None
    good_times: NDArray[np.float64] | None = None
    pointing: Pointing | None = None


def good_times(source: Any) -> NDArray[np.float64]:
    """Good-time intervals from a list or a file: sorted, and merged where they overlap.

    Parameters
    ----------
    source : path; or array_like, shape (n, 2), s, Unix time, or pairs of quantities or times
        A text file holds a start and a stop a line, Unix times in s (``#`` begins a comment). A
        FITS file has a table GTI with the columns START and STOP, or TSTART and TSTOP, whose
        header says what they count (`io.time_header`). astropy times are pairs as well, and so is
        cosipy's GoodTimeInterval.

    Returns
    -------
    ndarray, shape (n, 2), s

    Raises
    ------
    FileError, DataError
        A file that cannot be read, or intervals that are none; names the first.
    """
    if isinstance(source, str | os.PathLike):
        where = str(source)
        intervals = _read_good_times(Path(source))
    else:
        where = "the list of good times"
        intervals = as_intervals(source)
    wrong = ~(intervals[:, 0] < intervals[:, 1]) | ~np.isfinite(intervals).all(axis=1)
    if len(intervals) == 0 or wrong.any():
        number = int(np.argmax(wrong)) if len(intervals) else 0
        got = f"interval {number} is {intervals[number].tolist()}" if len(intervals) else "none"
        raise DataError(f"Good times are [start, stop] with start < stop, in s; in {where} {got}.")
    return merged(intervals)


def as_intervals(source: Any) -> NDArray[np.float64]:
    """Unix times in s, shape (n, 2), from pairs of numbers, quantities or astropy times."""
    try:
        pairs = [[_seconds(time) for time in pair] for pair in source]
        values = np.asarray(pairs, np.float64)
        return values.reshape(-1, 2) if values.size == 0 else values.reshape(len(values), 2)
    except (TypeError, ValueError, DataError) as error:
        raise DataError(
            f"Good times are a list of [start, stop] in s, got {shown(source)} ({brief(error)})."
        ) from error


def _seconds(time: Any) -> float:
    if hasattr(time, "unix"):  # an astropy Time, of any system
        return float(time.utc.unix)
    return in_unit(time, "s", "time", DataError)


def within(intervals: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """The parts of the intervals in [low, high)."""
    cut = np.clip(intervals, low, high)
    return cut[cut[:, 0] < cut[:, 1]]


def _read_good_times(path: Path) -> NDArray[np.float64]:
    require_file(path, "give a file of good times.")
    cure = (
        "Give a start and a stop [s] a line, or a FITS table GTI with the columns START and STOP."
    )
    with reading(path, "cannot be read as good times", cure), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a file without lines; none is refused by the caller
        raw = _unpacked(path)
        if raw.startswith(b"SIMPLE  ="):
            return _read_gti_table(path, raw)
        lines = raw.decode("utf-8").splitlines()
        comma = any("," in line.split("#")[0] for line in lines)
        return np.loadtxt(lines, usecols=(0, 1), ndmin=2, delimiter="," if comma else None)


def _unpacked(path: Path) -> bytes:
    """What a file holds, through gzip where it is packed."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else open(path, "rb") as file:
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"it holds more than {_MAX_BYTES} bytes")
    return raw


def _read_gti_table(path: Path, raw: bytes) -> NDArray[np.float64]:
    from astropy.io import fits

    with fits.open(io.BytesIO(raw)) as hdus:
        table = hdus["GTI"]
        n_bytes = table.header["NAXIS1"] * table.header["NAXIS2"]
        if not 0 <= n_bytes <= len(raw):
            raise ValueError(f"its table says {n_bytes} bytes, but the file holds {len(raw)}")
        names = {name.upper(): name for name in table.columns.names}
        pair = next((p for p in _GTI_COLUMNS if set(p) <= names.keys()), None)
        if pair is None:
            raise ValueError(f"its table GTI has the columns {listed(names)}")
        bounds = []
        for name in (names[column] for column in pair):
            values = np.asarray(table.data[name])
            if values.ndim != 1 or values.dtype.kind not in "iuf":
                raise ValueError(f"{name} is no column of numbers")
            unit = table.columns[name].unit
            times = time_reference(table.header, unit, f"{path}: the column {name!r} of GTI")
            bounds.append(times.unix(values))
        return np.stack(bounds, axis=1)


def checked_range(value: Sequence[Any] | None, what: str, unit: str) -> Range | None:
    """A pair [low, high] in this unit, from numbers or quantities; None stays None."""
    if value is None:
        return None
    try:
        low, high = (float(getattr(x, "to_value", lambda _, x=x: x)(unit)) for x in value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be [low, high] in {unit}, got {value!r}.") from error
    if not low < high:
        raise DataError(f"{what} must be [low, high] in {unit} with low < high, got {value!r}.")
    return low, high
