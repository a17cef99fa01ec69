"""Event lists to histograms: what `bin_events` and ``cosi-linebkg bin`` do."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, LineBackgroundError, LineBackgroundWarning
from ..histograms.axes import HISTOGRAM
from ..histograms.axis import EventAxes
from ..histograms.orientation import (
    Livetime,
    write_binning,
)
from ..histograms.read import EventHistogram, events_of_cells
from ..histograms.write import sparse_histogram, write_cells
from ..io.atomic import whole_hdf5
from ..io.progress import Progress, count
from ..options import options_of, takes_options
from .files import EventFile, Paths, ReadAhead, find_event_files, open_event_file
from .options import BinningJob, BinningOptions
from .rules import GALACTIC, Binning

if TYPE_CHECKING:
    from distributed import Client
    from histpy import Histogram

    from .sums import Sums

#: Galactic angles of many events that all lie within this many degrees are radians by mistake:
#: the whole sphere in radians does.
_RADIANS = 2 * math.pi

_ENOUGH_EVENTS = 1000


@dataclass(frozen=True)
class BinningReport:
    """What became of the events; every event that was read is counted once.

    Tests run in the order of the attributes, and the first that an event fails counts it.

    Attributes
    ----------
    files : tuple of str
    read, kept : int
        Events read, and in the histogram.
    not_a_number : dict of str to int
        Column: events that hold NaN there.
    removed : dict of str to int
        Selection: events that it removed.
    outside : dict of str to (int, int)
        Axis: events below its first edge, and on or above its last.
    impossible : int
        Events whose direction is none: a latitude beyond a pole, or an infinite angle.
    notes : tuple of str
        What a user must know.
    """

    files: tuple[str, ...]
    read: int
    kept: int
    not_a_number: Mapping[str, int]
    removed: Mapping[str, int]
    outside: Mapping[str, tuple[int, int]]
    impossible: int
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """In one line: how many events were read, and how many are in the histogram."""
        return f"{self.read} events read from {len(self.files)} file(s), {self.kept} binned"

    @property
    def left_out(self) -> list[tuple[str, int]]:
        """What became of the events that are not in the histogram: (what, how many)."""
        rows = [(f"{column} is not a number", n) for column, n in self.not_a_number.items() if n]
        rows += [(f"removed by the selection of {name}", n) for name, n in self.removed.items()]
        for axis, (below, above) in self.outside.items():
            rows += [(f"below the {axis} axis", below)] * (below > 0)
            rows += [(f"on or above the last edge of the {axis} axis", above)] * (above > 0)
        return rows + [("without a possible direction", self.impossible)] * (self.impossible > 0)

    def __str__(self) -> str:
        return "\n".join([self.summary, *(f"  {n:>12} {what}" for what, n in self.left_out)])


@dataclass(frozen=True)
class BinnedEvents:
    """A histogram with what is known of it, made by `bin_event_files`.

    Attributes
    ----------
    axes : EventAxes
    coords : ndarray, shape (n_axes, n_filled)
        Bin numbers of the filled cells, in C order.
    counts : ndarray, shape (n_filled,)
    report : BinningReport
    livetime : Livetime or None
    options : BinningOptions
    """

    axes: EventAxes
    coords: NDArray[np.int64]
    counts: NDArray[np.float64]
    report: BinningReport
    livetime: Livetime | None
    options: BinningOptions

    @cached_property
    def histogram(self) -> Histogram:
        """The same as a sparse histpy.Histogram."""
        return sparse_histogram(self.axes, self.coords, self.counts, in_order=True)

    @property
    def events(self) -> EventHistogram:
        """What the plugin takes, with the livetime and the notes of the report."""
        report = self.report
        events = events_of_cells(self.axes, self.coords, self.counts)
        return events.annotated(self.livetime, report.notes, str(report))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a histpy file, whole or not at all, with livetime and report beside it."""
        from .. import __version__

        record = {
            "report": asdict(self.report),
            "options": {
                name: _plain(getattr(self.options, name)) for name in options_of(BinningOptions)
            },
            "version": __version__,
        }
        import h5py

        with whole_hdf5(path) as whole:
            write_cells(whole, HISTOGRAM, self.axes, self.coords, self.counts)
            whole.check()
            with h5py.File(whole, "a") as file:
                write_binning(file, self.livetime, record)


@takes_options(BinningJob)
def bin_events(paths: Paths, job: BinningJob) -> Histogram:
    """Bin unbinned events, exactly as cosipy does, in little memory.

    Bins are [low, high): an edge belongs to the bin above it, so that an event on the last edge
    (a Phi of exactly 180 deg, a time of exactly tmax) is outside.

    Parameters
    ----------
    paths : path, glob, folder, or a list of these
        FITS (.fits, .fits.gz) or HDF5 files in cosipy's layouts.
    {options}

    Returns
    -------
    histpy.Histogram
        Sparse, float64, without overflow. Axes [Time or ScAtt,] Em, Phi, PsiChi.

    Raises
    ------
    BinningError
        Options that cannot be.
    DataError
        Columns that are missing (with those found), events that cannot be used, or none that is
        inside the axes and selections.
    FileError
        A file that is missing, truncated or damaged; names it, and how far it was read.

    Warns
    -----
    LineBackgroundWarning
        If columns hold NaN or directions that are none, or a bin differs from what was asked for.

    See Also
    --------
    bin_event_files : the same with a report of every event left out, and the livetime.
    """
    binned = bin_event_files(
        paths, job, scheduler=job.scheduler, workers=job.workers, progress=job.progress
    )
    for note in binned.report.notes:
        warnings.warn(note, LineBackgroundWarning, stacklevel=3)
    return binned.histogram


def bin_event_files(
    paths: Paths,
    options: BinningOptions,
    *,
    scheduler: str | Client | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> BinnedEvents:
    """`bin_events` with a report of what was left out, and the livetime.

    Parameters
    ----------
    paths, scheduler, workers, progress
        As for `bin_events`.
    options : BinningOptions

    Returns
    -------
    BinnedEvents
    """
    files = open_event_files(paths, options)
    livetime = options.livetime
    if options.orientation is not None and livetime is None:
        raise DataError(
            "A livetime needs a limited time: give tmin and tmax, good_times or a Time axis."
        )
    if workers is not None and (type(workers) is not int or workers < 1):
        raise LineBackgroundError(f"workers must be a whole number above 0, got {workers!r}.")
    if workers is not None and scheduler is None:
        raise LineBackgroundError(
            f"workers={workers} needs a scheduler: 'threads' or 'processes' (with dask)."
        )
    n_events = sum(file.n_events for file in files)
    n_done = 0

    def done(n: int) -> None:
        nonlocal n_done
        n_done += n
        count(progress, n_done, n_events, "events")

    binning = options.binning
    if scheduler is None:
        with ReadAhead(files, binning.columns) as blocks:
            # loaded while the first blocks are read; h5py is for writing
            import h5py  # noqa: F401

            from .sums import sum_blocks

            sums = sum_blocks(binning, blocks, done)
    else:
        from .parallel import sum_in_parallel

        sums = sum_in_parallel(binning, files, scheduler, workers, done)
    report = _report(options, files, sums)
    if report.kept == 0:
        raise DataError(_why_none(report, binning, files))
    from .kernels import unravel

    # The flat cells are taken apart in the memory of the result, which is most of all memory.
    cells, counts, *_ = sums
    del sums
    coords = np.empty((len(binning.shape), cells.size), np.int64)
    coords[0] = cells
    del cells
    unravel(coords, np.array(binning.shape))
    return BinnedEvents(options.axes(), coords, counts, report, livetime, options)


def open_event_files(paths: Paths, options: BinningOptions) -> list[EventFile]:
    """Read the headers of all files, and refuse them before any work if a column is missing."""
    files = [open_event_file(path) for path in find_event_files(paths)]
    for file in files:
        file.require(options.binning.columns)
    return files


def _report(options: BinningOptions, files: list[EventFile], sums: Sums) -> BinningReport:
    binning = options.binning
    fates = dict(zip(binning.reasons, sums.fates[1:].tolist(), strict=True))
    by_kind: dict[str, dict[str, int]] = {}
    for reason, n in fates.items():
        by_kind.setdefault(reason.what, {})[reason.name] = n
    impossible = sum(by_kind["impossible"].values())
    kept = int(sums.fates[0])
    notes = list(options.notes)
    notes += [
        f"{n} event(s) hold NaN in the column {column!r} and are not binned"
        for column, n in by_kind["nan"].items()
        if n
    ]
    if impossible:
        notes.append(
            f"{impossible} event(s) have a direction that is none (a latitude beyond a pole, or an "
            "infinite angle) and are not binned"
        )
    if binning.frame == GALACTIC and kept >= _ENOUGH_EVENTS and sums.extent <= _RADIANS:
        notes.append(
            f"no galactic angle is larger than {sums.extent:.3g} deg: the columns 'Chi galactic' "
            "and 'Psi galactic' seem to be in radians, but cosipy's are in degrees, and are binned "
            "so"
        )
    return BinningReport(
        files=tuple(str(file.path) for file in files),
        read=int(sums.fates.sum()),
        kept=kept,
        not_a_number=by_kind["nan"],
        removed=by_kind.get("selection", {}),
        outside={
            axis.label: (by_kind["below"][axis.label], by_kind["above"][axis.label])
            for axis in binning.axes
        },
        impossible=impossible,
        notes=tuple(notes),
    )


def _why_none(report: BinningReport, binning: Binning, files: list[EventFile]) -> str:
    """Why no event is in the histogram, and the cure."""
    names = ", ".join(report.files[:3])
    if len(report.files) > 3:
        names += f" and {len(report.files) - 3} more"
    if report.read == 0:
        return f"{names}: there are no events at all. Give lists that hold some."
    most = sorted(report.left_out, key=lambda row: -row[1])[:3]
    text = f"{names}: None of the {report.read} events is in the histogram: "
    text += ", ".join(f"{n} {what}" for what, n in most if n) + "."
    limits = _time_limits(binning)
    if limits is not None:
        first = next(files[0].blocks(("TimeTags",), 0, 1))["TimeTags"][0]
        text += (
            f" Times from {limits[0]:.10g} to {limits[1]:.10g} s are selected; the first event is "
            f"at {first:.10g} s (Unix times)."
        )
    return f"{text} Correct the axes and selections, or give other events."


def _time_limits(binning: Binning) -> tuple[float, float] | None:
    """Between which times events are taken; None if nothing limits them."""
    chosen = [np.array(binning.selections.time)] if binning.selections.time else []
    if binning.selections.good_times is not None:
        chosen.append(binning.selections.good_times.ravel())
    chosen += [axis.edges for axis in binning.axes if axis.label == "Time"]
    if not chosen:
        return None
    return max(float(c[0]) for c in chosen), min(float(c[-1]) for c in chosen)


def _plain(value: Any) -> Any:
    """An option as JSON can hold it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return str(Path(value))
    if hasattr(value, "unix"):
        return np.asarray(value.unix).tolist()
    if hasattr(value, "unit"):
        return {"value": np.asarray(value.value).tolist(), "unit": str(value.unit)}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_plain(item) for item in value]
