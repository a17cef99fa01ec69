"""Livetime of a histogram: from an orientation file, in a file beside the histogram, and back."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, FileError
from ..io.guard import brief, listed, plain_unit, reading, require_file
from ..io.hdf5 import DEFLATE, read_whole
from ..io.time_header import time_reference
from ..units import factor

if TYPE_CHECKING:
    import h5py

#: The group beside the histogram that holds its livetime and how it was binned.
GROUP = "binning"

#: Bounds of times that differ by less [s] are the same: Unix times are known to 2.4e-7 s.
_SAME_TIME = 1e-5

#: A pointing that turns by less [rad] stands still, and one that turns by half a circle has no
#: great circle of its own.
_STILL = 1e-7

#: Columns of a FITS file: times, longitude and latitude of the z axis, livetimes.
_COLUMNS = _TIME, _POINTING, _LIVETIME = "TimeStamp", "ZPointings", "LiveTime"

_GZIP, _FITS = b"\x1f\x8b", b"SIMPLE  ="

#: A livetime may exceed its interval by this factor: files keep few digits.
_ROUNDING = 1.0 + 1e-6


@dataclass(frozen=True, eq=False)
class Livetime:
    """Seconds during which events could be registered.

    Attributes
    ----------
    seconds : float, s
    intervals : ndarray, shape (n, 2), s, Unix time
        The time that it belongs to; sorted, without overlap.
    """

    seconds: float
    intervals: NDArray[np.float64]


@dataclass(frozen=True)
class Pointing:
    """A cone around a direction that the z axis must lie in.

    Attributes
    ----------
    longitude, latitude : float, deg, galactic
    radius : float, deg
    """

    longitude: float
    latitude: float
    radius: float

    @property
    def axis(self) -> NDArray[np.float64]:
        """The direction as a unit vector, shape (3,)."""
        return unit_vectors(np.radians(self.longitude), np.radians(self.latitude))

    @property
    def cosine(self) -> float:
        """Of the radius."""
        return float(np.cos(np.radians(self.radius)))


@dataclass(frozen=True, eq=False)
class Orientation:
    """An orientation file: where the telescope points, and its livetime.

    Attributes
    ----------
    path : Path
    times : ndarray, shape (n,), s, Unix time
    livetimes : ndarray, shape (n - 1,), s
        Between one time and the next.
    z_axis : ndarray, shape (n, 3)
        Unit vectors, galactic.
    """

    path: Path
    times: NDArray[np.float64]
    livetimes: NDArray[np.float64]
    z_axis: NDArray[np.float64]

    def livetime(self, intervals: ArrayLike, pointing: Pointing | None = None) -> Livetime:
        """The livetime in some intervals; that of a step that is cut is shared out evenly.

        Parameters
        ----------
        intervals : array_like, shape (n, 2), s, Unix time
            Sorted, without overlap.
        pointing : Pointing, optional
            Only while the z axis is in this cone. Between two times it goes along a great circle.

        Raises
        ------
        DataError
            If an interval reaches beyond the file by more than a step.
        """
        intervals = np.asarray(intervals, float).reshape(-1, 2)
        steps = np.diff(self.times)
        first, last = self.times[0], self.times[-1]
        beyond = (intervals[:, 0] < first - steps[0]) | (intervals[:, 1] > last + steps[-1])
        if beyond.any():
            low, high = intervals[np.argmax(beyond)]
            raise DataError(
                f"{self.path} covers the times {first:.9g} to {last:.9g} s, but the livetime of "
                f"{low:.9g} to {high:.9g} s is asked for. Give the orientation file of these "
                "events, or select the times that it covers."
            )
        share = self._share_in_cone(pointing)
        total = np.concatenate(([0.0], np.cumsum(self.livetimes * share)))
        at_bounds = np.interp(intervals, self.times, total)
        return Livetime(float((at_bounds[:, 1] - at_bounds[:, 0]).sum()), intervals)

    def _share_in_cone(self, pointing: Pointing | None) -> NDArray[np.float64]:
        """The share of each step during which the z axis is in the cone, shape (n - 1,).

        Along a great circle from one direction to the next, at a constant rate, the cosine of the
        angle to the cone's axis is R cos(theta - phi).
        """
        if pointing is None:
            return np.ones(self.times.size - 1)
        cosines = self.z_axis @ pointing.axis
        start, stop = cosines[:-1], cosines[1:]
        chord = np.linalg.norm(self.z_axis[1:] - self.z_axis[:-1], axis=1)
        turn = 2.0 * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0))
        still = np.minimum(turn, np.pi - turn) < _STILL
        with np.errstate(divide="ignore", invalid="ignore"):
            sideways = (stop - start * np.cos(turn)) / np.sin(turn)
            ratio = pointing.cosine / np.hypot(start, sideways)
            phi = np.arctan2(sideways, start)
            half = np.arccos(np.clip(ratio, -1.0, 1.0))  # inside where |theta - phi| <= half
            inside = np.zeros(turn.size)
            for full_turn in (-2.0 * np.pi, 0.0, 2.0 * np.pi):
                low = np.maximum(phi - half + full_turn, 0.0)
                high = np.minimum(phi + half + full_turn, turn)
                inside += np.clip(high - low, 0.0, None)
            share = np.clip(inside / turn, 0.0, 1.0)
        return np.where(still, np.where(start >= pointing.cosine, 1.0, 0.0), share)


def unit_vectors(longitude: ArrayLike, latitude: ArrayLike) -> NDArray[np.float64]:
    """Unit vectors, shape (..., 3), of angles in rad; the same bits as healpy's ang2vec."""
    phi, theta = np.asarray(longitude, float), np.pi / 2.0 - np.asarray(latitude, float)
    sine = np.sin(theta)
    return np.stack([sine * np.cos(phi), sine * np.sin(phi), np.cos(theta)], axis=-1)


def read_orientation(path: str | os.PathLike[str]) -> Orientation:
    """Read an orientation file: text (.ori), or FITS as cosipy 0.4 writes it.

    Lines of text are ``OG time latX lonX latZ lonZ altitude latEarth lonEarth livetime``, Unix
    times and angles in deg. Before them one line may be anything; ``#`` begins a comment, and
    ``EN`` ends them. A FITS file has a table with the columns TimeStamp, ZPointings (longitude,
    latitude) and LiveTime; their units are followed, and so is what its header says of times
    (`io.time_header`). Either may be packed by gzip. A livetime belongs to the step that its line
    begins, so that the last one is not used.

    Raises
    ------
    FileError
        If the file is missing, or is none.
    DataError
        If its times do not increase, or a livetime is longer than its step.
    """
    path = require_file(path, "give an orientation file (.ori, or FITS).")
    cure = (
        "Its lines are 'OG' and nine numbers: time, three directions with the altitude between, "
        f"livetime; or it is FITS with the columns {', '.join(_COLUMNS)}."
    )
    with reading(path, "cannot be read as an orientation file", cure):
        with open(path, "rb") as file:
            packed = file.read(2) == _GZIP
        with gzip.open(path) if packed else open(path, "rb") as stream:
            is_fits = stream.read(len(_FITS)) == _FITS
        rows = _read_table(path) if is_fits else _read_lines(path, packed)
    if len(rows) < 2:
        raise DataError(f"{path} holds {len(rows)} time(s); a livetime needs two at least.")
    times, livetimes = rows[:, 0], rows[:-1, 3]
    steps = np.diff(times)
    if not (np.isfinite(rows).all() and np.all(steps > 0)):
        row = int(np.argmin(np.isfinite(rows).all(axis=1) & np.append(steps > 0, True)))
        raise DataError(f"{path}: times must increase, and do not at {times[row]:.10g} s.")
    wrong = (livetimes < 0) | (livetimes > steps * _ROUNDING)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{path}: the livetime at {times[row]:.9g} s is {livetimes[row]:g} s, but its step is "
            f"{steps[row]:g} s long. A livetime is the seconds from one line to the next."
        )
    z_axis = unit_vectors(np.radians(rows[:, 2]), np.radians(rows[:, 1]))
    return Orientation(path, times, livetimes, z_axis)


def _read_lines(path: Path, packed: bool) -> NDArray[np.float64]:
    """Time, latitude and longitude of the z axis, livetime: shape (n, 4), of a text file."""
    with gzip.open(path) if packed else open(path, "rb") as raw:
        lines = _lines_of_data(line.decode("ascii", "replace") for line in raw)
        first = next(lines, None)
        if first is None:
            raise FileError(f"{path} is no orientation file: no line begins with 'OG'.")
        lines = itertools.chain([first], lines)
        return np.loadtxt(lines, usecols=(1, 4, 5, 9), comments=None, ndmin=2)


def _lines_of_data(file: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        if line.startswith("OG ") and "#" not in line:  # nearly all
            yield line
            continue
        text = line.partition("#")[0].strip()
        if text == "EN":
            return
        if text.split(None, 1)[:1] == ["OG"]:
            yield text
        elif text and number > 1:
            raise ValueError(f"line {number} begins with {brief(text, 20)!r}")


def _read_table(path: Path) -> NDArray[np.float64]:
    """The same of a FITS table."""
    from astropy.io import fits

    with warnings.catch_warnings(), fits.open(path) as hdus:
        warnings.simplefilter("ignore")  # of damage, which is refused where it matters
        table = next((h for h in hdus if isinstance(h, fits.BinTableHDU)), None)
        if table is None or not set(_COLUMNS) <= set(table.columns.names):
            found = listed(table.columns.names) if table is not None else "no table"
            raise FileError(
                f"{path} is no orientation file: it needs the columns {', '.join(_COLUMNS)}, and "
                f"holds {found}."
            )
        n_bytes = table.header["NAXIS1"] * table.header["NAXIS2"]
        size = path.stat().st_size
        if not 0 <= n_bytes <= size * DEFLATE:
            raise ValueError(f"its table says {n_bytes} bytes, but the file has {size}")

        def column(name: str, unit: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
            values = np.asarray(table.data[name])
            if values.dtype.kind not in "iuf" or values.shape[1:] != shape:
                raise ValueError(f"{name} holds {values.dtype} of shape {values.shape[1:]}")
            given = table.columns[name].unit
            known = None if given is None else plain_unit(given)
            return values.astype(np.float64) * factor(known, unit)

        stamps = np.asarray(table.data[_TIME])
        if stamps.dtype.kind not in "iuf" or stamps.ndim != 1:
            raise ValueError(f"{_TIME} holds {stamps.dtype} of shape {stamps.shape[1:]}")
        known = {**hdus[0].header, **table.header}
        unit = table.columns[_TIME].unit
        reference = time_reference(known, unit, f"{path}: the column {_TIME!r}")
        longitude, latitude = column(_POINTING, "deg", (2,)).T
        times = reference.unix(stamps)
        return np.stack([times, latitude, longitude, column(_LIVETIME, "s", ())], axis=1)


# ---------------------------------------------------------------------------- in histogram files


def write_binning(file: h5py.File, livetime: Livetime | None, record: Mapping[str, Any]) -> None:
    """Put the livetime, and a record of how it was binned, beside a histogram.

    Parameters
    ----------
    file : h5py.File
        Open for writing; histpy ignores what is added.
    livetime : Livetime or None
    record : Mapping
        What JSON can hold.
    """
    group = file.create_group(GROUP)
    group.attrs["record"] = json.dumps(record)
    if livetime is not None:
        group.attrs["livetime"] = livetime.seconds
        group.create_dataset("intervals", data=livetime.intervals)


def read_livetime(file: h5py.File) -> Livetime | None:
    """The livetime of a histogram file, if it has one.

    Raises
    ------
    DataError
        If it is no positive time.
    """
    group = file.get(GROUP)
    if group is None or "livetime" not in getattr(group, "attrs", {}):
        return None
    intervals = read_whole(group["intervals"], file.filename).astype(float).reshape(-1, 2)
    seconds = float(group.attrs["livetime"])
    if not 0.0 < seconds < np.inf:
        raise DataError(
            f"{file.filename} says a livetime of {seconds:g} s; it must be positive. Bin the "
            "events again with their orientation file."
        )
    if not np.isfinite(intervals).all():
        raise DataError(
            f"{file.filename} says a livetime of times that are not finite. Bin the events again."
        )
    return Livetime(seconds, intervals)


def livetime_of_sum(livetimes: Sequence[Livetime | None]) -> Livetime | None:
    """The livetime of histograms that are summed; None if it cannot be told.

    Of the same time (a source and its background, say) it is the livetime of one; of times apart
    it is the sum. Histograms of parts of a time count as one of the whole, if their livetimes add
    up to its livetime.
    """
    known = [livetime for livetime in livetimes if livetime is not None]
    if not known or len(known) < len(livetimes):
        return None
    known.sort(key=lambda livetime: -float(np.ptp(livetime.intervals, axis=1).sum()))
    apart: list[Livetime] = []
    while known:
        whole = known.pop(0)
        inside = [other for other in known if _overlap(whole, other)]
        if not _same_time(whole, inside):
            return None
        known = [other for other in known if not any(other is one for one in inside)]
        apart.append(whole)
    intervals = np.concatenate([livetime.intervals for livetime in apart])
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    return Livetime(sum(livetime.seconds for livetime in apart), intervals)


def _overlap(a: Livetime, b: Livetime) -> bool:
    """True if they have some time in common; rounding of a bound is none."""
    low = np.maximum(a.intervals[:, None, 0], b.intervals[None, :, 0])
    high = np.minimum(a.intervals[:, None, 1], b.intervals[None, :, 1])
    return bool(np.any(high - low > _SAME_TIME))


def _same_time(whole: Livetime, parts: list[Livetime]) -> bool:
    """True if the parts, which overlap the whole, fall into sets that are the same time as it."""
    while parts:
        first = parts[0]
        layer = [first]
        for other in parts[1:]:
            if not any(_overlap(other, one) for one in layer):
                layer.append(other)
        intervals = merged(np.concatenate([livetime.intervals for livetime in layer]))
        ours = merged(whole.intervals)
        if (
            intervals.shape != ours.shape
            or np.abs(intervals - ours).max() > _SAME_TIME
            or not math.isclose(sum(p.seconds for p in layer), whole.seconds, rel_tol=_ROUNDING - 1)
        ):
            return False
        parts = [other for other in parts if not any(other is one for one in layer)]
    return True


def merged(intervals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sorted intervals, shape (n, 2); those that overlap or touch become one."""
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    ends = np.maximum.accumulate(intervals[:, 1])
    begins_new = np.append(True, intervals[1:, 0] > ends[:-1])
    last = np.append(np.flatnonzero(begins_new)[1:] - 1, len(intervals) - 1)
    return np.stack([intervals[begins_new, 0], ends[last]], axis=1)
