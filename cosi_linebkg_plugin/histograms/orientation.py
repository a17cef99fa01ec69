"""Livetime of a histogram: from an orientation file, in a file beside the histogram, and back."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, FileError
from ..io.guard import reading, require_file
from ..io.hdf5 import read_whole

if TYPE_CHECKING:
    import h5py

#: The group beside the histogram that holds its livetime and how it was binned.
GROUP = "binning"

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
            Only while the z axis is in this cone. Its angle to the cone's axis is interpolated
            between the times.

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
        """The share of each step during which the z axis is in the cone, shape (n - 1,)."""
        if pointing is None:
            return np.ones(self.times.size - 1)
        angle = np.arccos(np.clip(self.z_axis @ pointing.axis, -1.0, 1.0))
        inside = np.radians(pointing.radius) - angle
        start, stop = inside[:-1], inside[1:]
        change = np.where(stop == start, 1.0, stop - start)
        crossing = np.clip(-start / change, 0.0, 1.0)
        share = np.where(stop > start, 1.0 - crossing, crossing)
        still: NDArray[np.float64] = (start >= 0).astype(float)
        return np.where(stop == start, still, share)


def unit_vectors(longitude: ArrayLike, latitude: ArrayLike) -> NDArray[np.float64]:
    """Unit vectors, shape (..., 3), of angles in rad."""
    longitude, latitude = np.asarray(longitude, float), np.asarray(latitude, float)
    c = np.cos(latitude)
    return np.stack([c * np.cos(longitude), c * np.sin(longitude), np.sin(latitude)], axis=-1)


def read_orientation(path: str | os.PathLike[str]) -> Orientation:
    """Read an orientation file (.ori).

    Its lines are ``OG time latX lonX latZ lonZ altitude latEarth lonEarth livetime``, angles in
    deg; a livetime belongs to the step that its line begins, so that the last one is not used.

    Raises
    ------
    FileError
        If the file is missing, or is none.
    DataError
        If its times do not increase, or a livetime is longer than its step.
    """
    path = require_file(path, "give an orientation file (.ori).")
    cure = (
        "Its lines are 'OG' and nine numbers: time, three directions with the altitude between, "
        "livetime."
    )
    with (
        reading(path, "cannot be read as an orientation file", cure),
        open(path, encoding="ascii") as file,
    ):
        first = file.readline(200)
        if not first.startswith("Type OrientationsGalactic"):
            raise FileError(
                f"{path} is no orientation file: it begins with {first[:40]!r}, not with "
                "'Type OrientationsGalactic'."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file without lines, which is refused below
            rows = np.loadtxt(file, usecols=(1, 4, 5, 9), comments=("#", "EN"), ndmin=2)
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

    Of the same time (a source and its background, say) it is the livetime of one; of times
    apart it is the sum.
    """
    known = [livetime for livetime in livetimes if livetime is not None]
    if not known or len(known) < len(livetimes):
        return None
    first = known[0]
    if all(
        np.array_equal(first.intervals, other.intervals) and first.seconds == other.seconds
        for other in known
    ):
        return first
    intervals = np.concatenate([livetime.intervals for livetime in known])
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    if np.any(intervals[1:, 0] < intervals[:-1, 1]):
        return None
    return Livetime(sum(livetime.seconds for livetime in known), intervals)
