"""Events to sums of equal cells: one pass over a file in blocks, and sums of such sums."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import LineBackgroundError
from ..histograms.healpix import ang2pix
from .files import BLOCK, Block, EventFile, ReadAhead
from .kernels import (
    add_bins,
    add_pixels,
    count_fates,
    count_merged,
    count_runs,
    galactic_angles,
    keep_cone,
    keep_intervals,
    keep_range,
    local_angles,
    merge_into,
    refuse_nan,
    sort_cells,
)
from .rules import DIRECTIONS, GALACTIC, PIXELS, SELECTIONS, Binning

#: Events of one task of a parallel run.
TASK = 1 << 23

#: Cells sorted at once: 4 MB, and as much to sort them.
_SORTED = 1 << 19

#: A sum is merged into one that is up to this many times larger: then all smaller sums together
#: take half the memory of the largest, and each count is moved a few times only.
_RATIO = 3


class Sums(NamedTuple):
    """A sparse histogram, and what became of the events.

    Attributes
    ----------
    cells : ndarray of int64, shape (n_filled,)
        Flat, sorted, each once.
    counts : ndarray of float64, shape (n_filled,)
    fates : ndarray of int64, shape (n_reasons + 1,)
        Events kept, and left out for each of `Binning.reasons`.
    extent : float
        The largest absolute value among the galactic angles that are kept, deg.
    """

    cells: NDArray[np.int64]
    counts: NDArray[np.float64]
    fates: NDArray[np.int64]
    extent: float


def _return_freed_memory() -> None:
    """Give what reading took back to the system, which glibc does not do by itself.

    The peak of 4e6 events in 3.6e6 cells is 242 MB with it and 280 MB without
    (tests/benchmarks/bench_events.py, `peak_memory`).
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def merge_sums(
    cells_a: NDArray[np.int64],
    counts_a: NDArray[np.float64],
    cells_b: NDArray[np.int64],
    counts_b: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The sum of two sparse histograms, each sorted by cell without repetition."""
    n = count_merged(cells_a, cells_b)
    cells, counts = np.empty(n, np.int64), np.empty(n, np.float64)
    merge_into(cells_a, counts_a, cells_b, counts_b, cells, counts)
    return cells, counts


def add_sums(a: Sums, b: Sums) -> Sums:
    """The sum of two."""
    cells, counts = merge_sums(a.cells, a.counts, b.cells, b.counts)
    return Sums(cells, counts, a.fates + b.fates, max(a.extent, b.extent))


def sum_blocks(
    binning: Binning, blocks: Iterable[Block], done: Callable[[int], None] = lambda n: None
) -> Sums:
    """Bin blocks one after the other.

    Parameters
    ----------
    binning : Binning
    blocks : iterable of dict
        Of at most `BLOCK` events each, with the columns of `binning`.
    done : callable
        Is called after each block with the number of its events.
    """
    with ThreadPoolExecutor(1) as summer:
        pass_ = _Pass(binning, summer)
        for block in blocks:
            done(pass_.add(block))
        return pass_.result()


class _Pass:
    """Takes blocks of events; holds the sums and the working arrays.

    Full arrays of cells are sorted and summed by `summer`, one at a time, while the next fills.
    """

    def __init__(self, binning: Binning, summer: Executor) -> None:
        self._binning, self._summer = binning, summer
        self._summing: Future[None] | None = None
        self._fates = np.zeros(len(binning.reasons) + 1, np.int64)
        self._extent = 0.0
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        self._waiting, self._sorting, self._spare = (np.empty(_SORTED, np.int64) for _ in range(3))
        self._n_waiting = 0
        self._cells, self._kept = (np.empty(BLOCK, np.int64) for _ in range(2))
        self._theta, self._phi = (np.empty(BLOCK, np.float64) for _ in range(2))
        self._fate = np.empty(BLOCK, np.uint8)

    def add(self, block: Block) -> int:
        """Bin a block of at most BLOCK events; returns how many."""
        b = self._binning
        n = len(block[b.columns[0]])
        fate, cells = self._fate[:n], self._cells[:n]
        fate[:], cells[:] = 0, 0
        for name in b.columns:
            for values in block[name].T if block[name].ndim > 1 else [block[name]]:
                refuse_nan(values, fate, b.fate("nan", name))
        self._select(block, fate)
        for axis in b.axes:
            below, above = (b.fate(side, axis.label) for side in ("below", "above"))
            values, factor = block[axis.column], axis.factor
            add_bins(values, factor, axis.edges, axis.guesses, fate, below, above, cells)
        self._add_directions(block, fate, cells)
        count_fates(fate, self._fates)
        return n

    def _select(self, block: Block, fate: NDArray[np.uint8]) -> None:
        b = self._binning
        for name in b.selected_by:
            limits, reason = getattr(b.selections, name), b.fate("selection", name)
            column, factor = SELECTIONS[name]
            values = block[column]
            if name in ("time", "good_times"):
                keep_intervals(values, np.ravel(limits), fate, reason)
            elif name == "pointing":
                longitudes, latitudes = np.ascontiguousarray(values.T)
                keep_cone(longitudes, latitudes, limits.axis, limits.cosine, fate, reason)
            else:
                low, high = limits
                keep_range(values, factor, low, high, fate, reason)

    def _add_directions(
        self,
        block: Block,
        fate: NDArray[np.uint8],
        cells: NDArray[np.int64],
    ) -> None:
        b = self._binning
        angles = galactic_angles if b.frame == GALACTIC else local_angles
        impossible = b.fate("impossible", PIXELS)
        first, second = (block[name] for name in DIRECTIONS[b.frame])
        theta, phi, kept = self._theta, self._phi, self._kept
        n, extent = angles(first, second, fate, impossible, cells, theta, phi, kept)
        self._extent = max(self._extent, extent)
        pixels = ang2pix(b.nside, theta[:n], phi[:n], nest=b.nest)
        add_pixels(kept, pixels, b.shape[-1])
        done = 0
        while done < n:
            room = min(n - done, _SORTED - self._n_waiting)
            self._waiting[self._n_waiting : self._n_waiting + room] = kept[done : done + room]
            self._n_waiting += room
            done += room
            if self._n_waiting == _SORTED:
                self._sum_waiting()

    def _sum_waiting(self) -> None:
        self._wait_for_sum()
        self._waiting, self._sorting = self._sorting, self._waiting
        self._summing = self._summer.submit(self._sum_cells, self._n_waiting)
        self._n_waiting = 0

    def _wait_for_sum(self) -> None:
        if self._summing is not None:
            self._summing.result()

    def _sum_cells(self, n: int) -> None:
        cells = self._sorting[:n]
        sort_cells(cells, self._spare[:n], self._binning.n_cells)
        counts = self._spare.view(np.float64)
        n = count_runs(cells, counts)
        self._parts.append((np.empty(n, np.int64), np.empty(n, np.float64)))
        for kept, found in zip(self._parts[-1], (cells, counts), strict=True):
            kept[:] = found[:n]
        self._merge(_RATIO)

    def _merge(self, ratio: float) -> None:
        parts = self._parts
        while len(parts) > 1 and len(parts[-1][0]) * ratio >= len(parts[-2][0]):
            later, earlier = parts.pop(), parts.pop()
            parts.append(merge_sums(*earlier, *later))

    def result(self) -> Sums:
        """The sums of everything added."""
        self._sum_waiting()
        self._wait_for_sum()
        del self._waiting, self._sorting, self._spare
        self._merge(np.inf)
        ((cells, counts),) = self._parts
        _return_freed_memory()
        return Sums(cells, counts, self._fates, self._extent)


# ---------------------------------------------------------------------------- parts of a run


def tasks_of(files: list[EventFile], size: int = TASK) -> list[tuple[EventFile, int, int]]:
    """Ranges of events that can be binned on their own: (file, start, stop)."""
    tasks = []
    for file in files:
        step = size if file.divisible else max(file.n_events, 1)
        for start in range(0, max(file.n_events, 1), step):
            tasks.append((file, start, min(start + step, file.n_events)))
    return tasks


def sum_task(binning: Binning, file: EventFile, start: int, stop: int) -> Sums | Exception:
    """`sum_blocks` of one task; errors of ours are handed on as results, with a clean message."""
    try:
        with ReadAhead([file], binning.columns, start, stop) as blocks:
            return sum_blocks(binning, blocks)
    except LineBackgroundError as error:
        return error


def add_results(a: Sums | Exception, b: Sums | Exception) -> Sums | Exception:
    """The sum of two tasks, or the first error."""
    if isinstance(a, Exception) or isinstance(b, Exception):
        return a if isinstance(a, Exception) else b
    return add_sums(a, b)
