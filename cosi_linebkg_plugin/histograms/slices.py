"""Weighted sums of energy slices, T = w @ M: the numerics beneath every template.

M is the histogram seen as a matrix: one row per energy bin, one column per cell of the other
axes ("cells" below, in C order). Contents come in blocks, so that a file can be streamed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..errors import FileError, TemplateError

if TYPE_CHECKING:
    import h5py

Floats = NDArray[np.float64]

Singles = NDArray[np.float32]

#: Weights, shape (L, n_energies), and what their sums are added to, shape (L, n_cells).
Products = tuple[Floats, Singles]

Indices = NDArray[np.int64]

#: Stored indices along some axes, each of shape (n,).
Rows = tuple[Indices, ...]

#: Cell indices by axis: an array of shape (n_axes, n), or only the axes that are needed.
Coordinates = Mapping[int, NDArray[np.integer]] | NDArray[np.integer]

#: Stored cells read at once: 4 MB per row of coordinates.
BLOCK = 1 << 19

#: Runs of equal energies in a block that are remembered: it is sorted by energy, or nearly.
_FEW_RUNS = BLOCK // 64

#: Cells handled at once: their flat indices stay in the first-level cache.
_SPAN = 2048

#: Marks a stored cell outside the axes' ranges; stays negative whatever is added to it.
_OUTSIDE = -(1 << 60)


@dataclass(frozen=True)
class Layout:
    """How stored cells map to energies and to the other axes.

    Parameters
    ----------
    n_bins : tuple of int
        Bins per axis, without overflow.
    energy_axis : int
        Which axis is the energy.
    offsets : tuple of int
        Per axis 1 where underflow and overflow are stored as first and last bin, else 0.
    """

    n_bins: tuple[int, ...]
    energy_axis: int
    offsets: tuple[int, ...]

    @classmethod
    def of_stored(
        cls, n_bins: tuple[int, ...], energy_axis: int, stored_shape: Sequence[int], where: object
    ) -> Layout:
        """The layout of contents of this shape; `where` they come from is for the message."""
        extra = [int(stored) - n for n, stored in zip(n_bins, stored_shape, strict=False)]
        if len(stored_shape) != len(n_bins) or not set(extra) <= {0, 2}:
            raise FileError(
                f"{where}: contents of shape {tuple(map(int, stored_shape))} do not fit axes with "
                f"{n_bins} bins (two more where overflow is tracked). Write the histogram again."
            )
        return cls(n_bins, energy_axis, tuple(n // 2 for n in extra))

    @property
    def n_energies(self) -> int:
        """Energy bins, without overflow."""
        return self.n_bins[self.energy_axis]

    @property
    def other_axes(self) -> tuple[int, ...]:
        """The axes other than the energy."""
        return tuple(axis for axis in range(len(self.n_bins)) if axis != self.energy_axis)

    @property
    def other_shape(self) -> tuple[int, ...]:
        """Their bins."""
        return tuple(self.n_bins[axis] for axis in self.other_axes)

    @property
    def cell_axes(self) -> tuple[int, ...]:
        """Axes other than the energy that tell cells apart: those of one stored bin do not."""
        return tuple(a for a in self.other_axes if self.n_bins[a] > 1 or self.offsets[a])

    @property
    def single_axes(self) -> tuple[int, ...]:
        """The axes that `cell_axes` leaves out."""
        return tuple(a for a in self.other_axes if self.n_bins[a] == 1 and not self.offsets[a])

    @property
    def overflow_axes(self) -> tuple[int, ...]:
        """Axes other than the energy on which a stored cell can lie outside the range."""
        return tuple(axis for axis in self.other_axes if self.offsets[axis])

    def strides(self) -> dict[int, int]:
        """The step of each other axis in the flat cell index."""
        strides, step = {}, 1
        for axis in reversed(self.other_axes):
            strides[axis] = step
            step *= self.n_bins[axis]
        return strides

    def with_overflow(self, rows: Floats) -> Floats:
        """Rows over the energy bins, with zeros where the overflow bins are stored."""
        offset = self.offsets[self.energy_axis]
        return np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(offset, offset)])


@dataclass(frozen=True)
class BadCells:
    """Cells that cannot be counts: how many, and the value and bins of one of them."""

    number: int
    value: float
    bins: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class EnergyRuns:
    """Runs of stored cells of one energy.

    Attributes
    ----------
    starts : ndarray of int, shape (n + 1,)
        Where they start, and the end.
    energies : ndarray of int, shape (n,)
    """

    starts: NDArray[np.int64]
    energies: NDArray[np.integer]

    def part(self, first: int, stop: int) -> EnergyRuns:
        """Some of the runs that follow each other."""
        return EnergyRuns(self.starts[first : stop + 1], self.energies[first:stop])


@dataclass(frozen=True, eq=False)
class SparseContents:
    """Sparse contents, as arrays in memory or as HDF5 datasets that are read in blocks.

    Parameters
    ----------
    layout : Layout
    coords : array or dataset of int, shape (n_axes, n)
        Stored indices, overflow included, in any order.
    data : array or dataset, shape (n,), counts
        Cells that appear twice add up.
    runs : dict of int to EnergyRuns
        Those of blocks of a dataset by their start, filled as they are read: whoever opens the
        same datasets again hands it on.
    """

    layout: Layout
    coords: NDArray[Any] | h5py.Dataset
    data: NDArray[Any] | h5py.Dataset
    runs: dict[int, EnergyRuns] = field(default_factory=dict, repr=False)

    def energy_counts(self) -> tuple[Floats, BadCells | None]:
        """Counts per energy bin, shape (n_energies,), and the cells left out as impossible."""
        layout = self.layout
        # axes of one bin are read here alone, to check them
        axes = dict.fromkeys((layout.energy_axis, *layout.overflow_axes, *layout.single_axes))
        counts, bad = np.zeros(layout.n_energies), None
        for block in self._blocks():
            data = self.data[block]
            n_bad, first = count_sparse(layout, self._rows(tuple(axes), block), data, counts)
            if n_bad and bad is None:
                stored = self.coords[:, block.start + first]
                bins = tuple(int(i) for i in stored - np.array(layout.offsets))
                bad = BadCells(0, float(data[first]), bins)
            if bad is not None:
                bad = replace(bad, number=bad.number + n_bad)
        return counts, bad

    def add(self, weights: Floats, out: Floats, products: Products | None = None) -> None:
        """Add the sums with weights (K, n_energies) to `out`, shape (K, n_cells).

        The weights of `products` are 0 where those are.
        """
        layout = self.layout
        used = layout.with_overflow(np.asarray(weights.any(axis=0), dtype=float))
        for block in self._blocks():
            runs = self._runs_of(block)
            wanted = np.flatnonzero(used[runs.energies])
            if not wanted.size:  # nothing more of this block is read
                continue
            if not isinstance(self.data, ThinnedCounts):  # whose split is that of a whole block
                runs = runs.part(int(wanted[0]), int(wanted[-1]) + 1)
            cells = slice(block.start + int(runs.starts[0]), block.start + int(runs.starts[-1]))
            rows = self._rows(layout.cell_axes, cells)
            rows[layout.energy_axis] = (
                np.repeat(runs.energies, np.diff(runs.starts))
                if self._on_disk
                else self.coords[layout.energy_axis, cells]
            )
            starts, data = runs.starts - runs.starts[0], self.data[cells]
            add_sparse(layout, rows, data, weights, out, starts)
            if products is not None:
                add_sparse(layout, rows, data, *products, starts)

    def add_along(self, axis: int, out: Floats) -> None:
        """Add the counts along an axis and the energy to `out`, shape (n_bins, n_energies)."""
        layout = self.layout
        axes = tuple(dict.fromkeys((axis, layout.energy_axis, *layout.overflow_axes)))
        for whole in self._blocks():
            for start in range(whole.start, whole.stop, BLOCK):
                block = slice(start, min(start + BLOCK, whole.stop))
                rows = self._rows(axes, block)
                inside = np.ones(block.stop - block.start, bool)
                bins = {}
                for a, row in rows.items():
                    bins[a] = row.astype(np.int64) - layout.offsets[a]
                    inside &= (bins[a] >= 0) & (bins[a] < layout.n_bins[a])
                flat = (bins[axis] * layout.n_energies + bins[layout.energy_axis])[inside]
                data = np.asarray(self.data[block], float)[inside]
                out += np.bincount(flat, data, minlength=out.size).reshape(out.shape)

    @property
    def _on_disk(self) -> bool:
        return not isinstance(self.coords, np.ndarray)

    def _runs_of(self, block: slice) -> EnergyRuns:
        known = self.runs.get(block.start)
        if known is None:
            axis = self.layout.energy_axis
            energies = self._rows((axis,), block)[axis]
            starts = energy_runs(energies)
            known = EnergyRuns(starts, energies[starts[:-1]])
            if not self._on_disk or starts.size < _FEW_RUNS:
                self.runs[block.start] = known
        return known

    def _blocks(self) -> Iterator[slice]:
        """Slices of the stored cells: all of them in memory, whole chunks of a dataset."""
        if not self._on_disk:
            return iter([slice(0, self.data.size)])
        chunks = getattr(self.coords, "chunks", None)
        chunk = chunks[1] if chunks else 1
        step = max(BLOCK // chunk, 1) * chunk
        size = self.data.size
        return (slice(start, min(start + step, size)) for start in range(0, size, step))

    def _rows(self, axes: Sequence[int], block: slice) -> dict[int, NDArray[Any]]:
        """The coordinates along these axes; a file may hold anything, so they are checked."""
        rows = {axis: self.coords[axis, block] for axis in axes}
        if self._on_disk:
            for axis, row in rows.items():
                size = self.layout.n_bins[axis] + 2 * self.layout.offsets[axis]
                if row.min() < 0 or row.max() >= size:
                    raise IndexError(f"cells outside the {size} stored bins of axis {axis}")
        return rows


@dataclass(frozen=True, eq=False)
class DenseContents:
    """Dense contents, as an array in memory or as an HDF5 dataset that is read in blocks.

    Parameters
    ----------
    layout : Layout
    values : array or dataset, counts
        Overflow cells included.
    """

    layout: Layout
    values: NDArray[Any] | h5py.Dataset

    def energy_counts(self) -> tuple[Floats, BadCells | None]:
        """Counts per energy bin, shape (n_energies,), and the cells that are impossible."""
        layout = self.layout
        counts, bad = np.zeros(layout.n_energies), None
        for where in self._blocks():
            block = self._read(where)
            if not (block.min() >= 0 and block.max() < np.inf):  # NaN fails both
                wrong = np.argwhere(~(np.isfinite(block) & (block >= 0)))
                if bad is None:
                    bins = tuple(s.start + int(i) for s, i in zip(where, wrong[0], strict=True))
                    bad = BadCells(0, float(block[tuple(wrong[0])]), bins)
                bad = replace(bad, number=bad.number + len(wrong))
            counts[where[layout.energy_axis]] += block.sum(axis=layout.other_axes, dtype=float)
        return counts, bad

    def add(self, weights: Floats, out: Floats, products: Products | None = None) -> None:
        """Add the sums with weights (K, n_energies) to `out`, shape (K, n_cells).

        The weights of `products` are 0 where those are.
        """
        layout = self.layout
        sums: list[tuple[Floats, NDArray[Any]]] = [(weights, out)]
        sums += [] if products is None else [products]
        sums = [(rows, cells.reshape(-1, *layout.other_shape)) for rows, cells in sums]
        for where in self._blocks():
            energies = where[layout.energy_axis]
            if weights[:, energies].any():
                target = (slice(None), *(where[axis] for axis in layout.other_axes))
                block = self._read(where)
                for rows, cells in sums:
                    cells[target] += dense_sums(block, layout.energy_axis, rows[:, energies])

    def add_along(self, axis: int, out: Floats) -> None:
        """Add the counts along an axis and the energy to `out`, shape (n_bins, n_energies)."""
        energy = self.layout.energy_axis
        others = tuple(a for a in self.layout.other_axes if a != axis)
        for where in self._blocks():
            part = self._read(where).sum(axis=others, dtype=float)
            out[where[axis], where[energy]] += part if axis < energy else part.T

    def _blocks(self) -> Iterator[tuple[slice, ...]]:
        """Blocks of whole chunks, grown from the last axis, as slices of bins per axis."""
        shape = self.layout.n_bins
        chunks = getattr(self.values, "chunks", None) or (1,) * len(shape)
        steps = list(chunks)
        for axis in reversed(range(len(shape))):
            chunks_that_fit = max(BLOCK // math.prod(steps), 1)
            steps[axis] = min(chunks_that_fit * chunks[axis], shape[axis])
        return itertools.product(
            *(
                [slice(start, min(start + step, size)) for start in range(0, size, step)]
                for size, step in zip(shape, steps, strict=True)
            )
        )

    def _read(self, where: tuple[slice, ...]) -> NDArray[Any]:
        stored = zip(where, self.layout.offsets, strict=True)
        return self.values[tuple(slice(s.start + offset, s.stop + offset) for s, offset in stored)]


Contents = SparseContents | DenseContents


class ThinnedCounts:
    """One half of integer counts, split at random, in place of an array or dataset.

    Each count goes to the first or the second half with even odds, so that the halves of Poisson
    counts are independent. The split of a block depends on the seed and the block alone: both
    halves add up to the counts.

    Parameters
    ----------
    values : array or dataset of counts
    seed : int
    first : bool
        Which half.
    """

    def __init__(self, values: NDArray[Any] | h5py.Dataset, seed: int, first: bool) -> None:
        self._values, self._seed, self._first = values, seed, first
        self.size, self.shape = values.size, values.shape
        self.chunks = getattr(values, "chunks", None)

    def __getitem__(self, where: slice | tuple[slice, ...]) -> NDArray[Any]:
        block = self._values[where]
        counts = block.astype(np.int64)
        if not np.array_equal(counts, block):
            raise TemplateError(
                "smoothing='auto' splits the counts into halves at random, which needs whole "
                "numbers; these are weighted. Choose a filter yourself."
            )
        starts = [s.start or 0 for s in (where if isinstance(where, tuple) else (where,))]
        kept = np.random.default_rng([self._seed, *starts]).binomial(counts, 0.5)
        return kept if self._first else counts - kept


def halves(contents: Contents, seed: int) -> tuple[Contents, Contents]:
    """Two independent halves of Poisson counts; see `ThinnedCounts`."""
    name = "data" if isinstance(contents, SparseContents) else "values"
    values = getattr(contents, name)
    first, second = (
        replace(contents, **{name: ThinnedCounts(values, seed, part)})  # type: ignore[arg-type]
        for part in (True, False)
    )
    return first, second


def new_sums(n_rows: int, n_cells: int) -> Floats:
    """Zeros of shape (n_rows, n_cells) to add to."""
    # np.zeros maps memory page by page on first touch, np.empty takes huge pages at once:
    # filling it is several times faster than what the page faults cost.
    sums = np.empty((n_rows, n_cells))
    sums.fill(0.0)
    return sums


def energy_runs(energies: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where runs of equal energies begin, and the end: shape (n_runs + 1,).

    Contents are mostly sorted, so that few runs hold all cells and most can be passed over.
    """
    if energies.size == 0:
        return np.zeros(1, np.int64)
    changes = np.flatnonzero(energies[1:] != energies[:-1]) + 1
    return np.concatenate(([0], changes, [energies.size]))


def add_sparse(
    layout: Layout,
    coords: Coordinates,
    data: NDArray[Any],
    weights: Floats,
    out: Floats | Singles,
    runs: NDArray[np.int64],
) -> None:
    """Add the weighted sums of a block of sparse contents, in one pass for all weights.

    Parameters
    ----------
    layout : Layout
    coords : array of int, shape (n_axes, n), or mapping axis -> array of shape (n,)
        Stored indices, overflow included, in any order; within the stored shape (unchecked).
        Needed are the energy axis and ``layout.cell_axes``.
    data : array, shape (n,), counts
        Cells that appear twice add up.
    weights : ndarray, shape (K, n_energies)
        Energies where every weight is 0 are skipped.
    out : ndarray, shape (K, n_cells)
        Added to in place. Overflow cells of any axis are left out.
    runs : ndarray of int
        The `energy_runs` of the block.
    """
    weights = layout.with_overflow(weights)
    strides = layout.strides()
    axes = layout.cell_axes
    others = tuple(_row(coords[axis]) for axis in axes)
    places = [(strides[axis], layout.offsets[axis], layout.n_bins[axis]) for axis in axes]
    energies = _row(coords[layout.energy_axis])
    if not axes:  # numba cannot index an empty tuple
        others, places = (energies,), [(0, 0, np.iinfo(np.int64).max)]
    data = np.ascontiguousarray(data, np.float64)
    _add(runs, energies, others, data, np.array(places, np.int64), weights, out)


def count_sparse(
    layout: Layout, coords: Coordinates, data: NDArray[Any], counts: Floats
) -> tuple[int, int]:
    """Add the energy spectrum of a block of sparse contents, and look for impossible counts.

    Parameters
    ----------
    layout, coords, data
        As for `add_sparse`; needed are the energy axis and ``layout.overflow_axes``.
    counts : ndarray, shape (n_energies,), counts
        Added to in place. Cells in the overflow of any axis are left out.

    Returns
    -------
    n_bad, first_bad : int
        How many cells inside the ranges are negative or not finite (they are not added), and
        the position of the first in `data`, or -1.
    """
    data = np.asarray(data, np.float64)
    left_out = np.zeros(data.size, bool)
    for axis in (layout.energy_axis, *layout.overflow_axes):
        first, last = layout.offsets[axis], layout.offsets[axis] + layout.n_bins[axis] - 1
        if data.size and not (coords[axis].min() >= first and coords[axis].max() <= last):
            left_out |= (coords[axis] < first) | (coords[axis] > last)
    bad = np.zeros(0, np.int64)
    if data.size and not (data.min() >= 0 and data.max() < np.inf):  # NaN fails both
        bad = np.flatnonzero(~(np.isfinite(data) & (data >= 0) | left_out))
        left_out[bad] = True
    if left_out.any():
        data = np.where(left_out, 0.0, data)
    first = layout.offsets[layout.energy_axis]
    stop = first + layout.n_energies
    counts += np.bincount(_row(coords[layout.energy_axis]), data, minlength=stop)[first:stop]
    return bad.size, int(bad[0]) if bad.size else -1


def dense_sums(block: NDArray[Any], energy_axis: int, weights: Floats) -> Floats:
    """The weighted sums of a dense block without overflow cells.

    Parameters
    ----------
    block : array, shape (..., n_energies, ...), counts
    energy_axis : int
        Where the energies are among the block's axes.
    weights : ndarray, shape (K, n_energies)

    Returns
    -------
    ndarray, shape (K, ...)
        The block's other axes in their order.
    """
    before, after = block.shape[:energy_axis], block.shape[energy_axis + 1 :]
    matrix = np.asarray(block, np.float64).reshape(
        int(np.prod(before)), weights.shape[1], int(np.prod(after))
    )
    if matrix.shape[2] == 1:  # one product instead of one per cell
        sums = weights @ matrix[:, :, 0].T
    else:
        sums = np.matmul(weights, matrix).swapaxes(0, 1)
    return sums.reshape(len(weights), *before, *after)


def _row(indices: NDArray[Any]) -> NDArray[np.int64]:
    """Indices of the one type that the kernels are compiled for."""
    return np.ascontiguousarray(indices, np.int64)


@njit(cache=True)
def _flat_cells(
    others: Rows, start: int, stop: int, places: Indices, cells: NDArray[np.int64]
) -> None:
    """Flat indices of the stored cells start:stop, negative where one lies outside."""
    for axis in range(len(others)):
        row = others[axis][start:stop]
        stride, offset, size = places[axis, 0], places[axis, 1], places[axis, 2]
        if axis == 0:
            for i in range(row.size):
                index = row[i] - offset
                cells[i] = index * stride if 0 <= index < size else _OUTSIDE
        else:
            for i in range(row.size):
                index = row[i] - offset
                cells[i] += index * stride if 0 <= index < size else _OUTSIDE


@njit(cache=True)
def _add(
    runs: Indices, energies: Indices, others: Rows, data: Floats, places: Indices,
    weights: Floats, out: Floats | Singles,
) -> None:  # fmt: skip
    # Run by run of equal energy, then axis by axis: short loops over contiguous rows, which
    # compile to vector instructions, where a loop over axes for each cell does not.
    cells = np.empty(_SPAN, np.int64)
    for run in range(runs.size - 1):
        energy = energies[runs[run]]
        used = False
        for k in range(weights.shape[0]):
            used |= weights[k, energy] != 0.0
        if not used:
            continue
        for start in range(runs[run], runs[run + 1], _SPAN):
            stop = min(start + _SPAN, runs[run + 1])
            _flat_cells(others, start, stop, places, cells)
            values = data[start:stop]
            for k in range(weights.shape[0]):
                weight = weights[k, energy]
                if weight == 0.0:
                    continue
                for i in range(values.size):
                    if cells[i] >= 0:
                        out[k, cells[i]] += weight * values[i]
