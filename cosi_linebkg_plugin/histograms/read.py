"""Event histograms from files and from memory, and weighted sums of their energy slices."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, FileError, TemplateError
from ..io.guard import brief, is_plain, listed, reading, require_file, require_memory
from ..io.hdf5 import opened, read_whole, require_stored, unit_attribute
from ..spectrum.axis import EDGE_TOLERANCE, bins_to_ranges, check_inside, overlapping_bins
from .axes import HISTOGRAM, axis_difference, axis_in_kev, find_energy_axis, read_axes, read_only
from .axis import EventAxes, EventAxis, event_axes, load_histpy
from .orientation import Livetime, livetime_of_sum, read_livetime

if TYPE_CHECKING:
    import h5py
    from histpy import Histogram

    from .slices import Contents, EnergyRuns


# ---------------------------------------------------------------------------- events, in


def open_events(
    source: str | os.PathLike[str] | Histogram | EventHistogram | list[Any] | tuple[Any, ...],
    name: str = HISTOGRAM,
) -> EventHistogram:
    """Events from a file, from memory, or the sum of several.

    Parameters
    ----------
    source : path, histpy.Histogram, or a list of these
        A text file is a spectrum, see `spectrum_text.read_spectrum`. An HDF5 file is read when sums
        are asked for, block by block, and never held in memory.
    name : str
        The group that holds the histogram in each file.

    Returns
    -------
    EventHistogram

    Raises
    ------
    FileError
        A file that is missing, damaged, or holds no histogram.
    DataError
        Histograms that cannot be used, or whose axes differ.
    """
    if isinstance(source, EventHistogram):
        return source
    sources = list(source) if isinstance(source, list | tuple) else [source]
    if not sources:
        raise DataError("No events given: the list is empty. Give one path or histogram at least.")
    parts = [part for item in sources for part in _open_parts(item, name)]
    for part in parts[1:]:
        _require_same_axes(parts[0], part)
    return EventHistogram(tuple(parts))


#: A mean weight between these changes errors by half a percent at most.
_WHOLE_EVENTS = 0.99, 1.01


class EventHistogram:
    """Binned events, read-only: their energy spectrum and weighted sums of energy slices.

    Made by `open_events`. The variance of a cell is its counts (Poisson), unless the histogram
    carries ``sumw2``. Underflow and overflow cells of any axis are left out.
    """

    def __init__(self, parts: tuple[_Part, ...]) -> None:
        self._parts = parts

    def __repr__(self) -> str:
        bins = ", ".join(
            f"{label} {axis.nbins}" for label, axis in zip(self.labels, self.axes, strict=True)
        )
        return f"EventHistogram({bins}; {self.description})"

    @property
    def axes(self) -> EventAxes:
        """The events' own axes (those of the first histogram of a list)."""
        return self._parts[0].axes

    @property
    def labels(self) -> tuple[str | None, ...]:
        """The names of the axes."""
        return self.axes.labels

    @property
    def energy_axis_index(self) -> int:
        """Which axis is Em."""
        return self._parts[0].energy_axis

    @cached_property
    def energy_edges(self) -> NDArray[np.float64]:
        """Shape (n_em + 1,), keV."""
        return read_only(axis_in_kev(self.axes[self.energy_axis_index]))

    @property
    def other_axes(self) -> list[EventAxis]:
        """The axes without Em, in the events' order."""
        return [axis for i, axis in enumerate(self.axes) if i != self.energy_axis_index]

    @property
    def other_shape(self) -> tuple[int, ...]:
        """The bins of `other_axes`."""
        return tuple(axis.nbins for axis in self.other_axes)

    @property
    def is_sparse(self) -> bool:
        """True if every histogram of the list is."""
        return all(part.is_sparse for part in self._parts)

    @cached_property
    def _has_sumw2(self) -> bool:
        for part in self._parts:
            with part.open() as (_, sumw2):
                if sumw2 is not None:
                    return True
        return False

    @property
    def description(self) -> str:
        """Where the events come from: paths, or "in memory"."""
        return " + ".join(part.description for part in self._parts)

    def energy_counts(self) -> NDArray[np.float64]:
        """The energy spectrum, computed once and kept.

        Returns
        -------
        ndarray, shape (n_em,), counts, read-only

        Raises
        ------
        DataError
            If cells are negative or not finite; says how many, and names one.
        """
        return self._energy_counts_and_variances[0]

    def energy_variances(self) -> NDArray[np.float64]:
        """The variances of `energy_counts`, shape (n_em,), counts^2, read-only."""
        return self._energy_counts_and_variances[1]

    @cached_property
    def _energy_counts_and_variances(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        counts = np.zeros(self.energy_edges.size - 1)
        variances = np.zeros_like(counts)
        for part in self._parts:
            with part.open() as (contents, sumw2):
                part_counts = self._count(part, contents, "counts")
                counts += part_counts
                variances += part_counts if sumw2 is None else self._count(part, sumw2, "sumw2")
        return read_only(counts), read_only(variances)

    def _count(self, part: _Part, cells: Contents, what: str) -> NDArray[np.float64]:
        counts, bad = cells.energy_counts()
        if bad is not None:
            where = ", ".join(
                f"{label} bin {index}" for label, index in zip(self.labels, bad.bins, strict=True)
            )
            raise DataError(
                f"The histogram ({part.description}) must hold finite {what}, none negative, but "
                f"{bad.number} cell(s) do not, for example {bad.value:g} in {where}. "
                "Give the raw counts, before any subtraction."
            )
        return counts

    def weighted_sums(
        self, weights: ArrayLike, variances: bool = True, squares: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Sums of the energy slices with weights, for K sets of weights in one pass.

        Parameters
        ----------
        weights : array_like, shape (K, n_em) or (n_em,)
            Slices whose weights are all 0 are not read.
        variances : bool
            Also sum weights^2 times the variance of each cell.
        squares : array_like, shape (L, n_em), optional
            In place of weights^2: products of the weights of two sets, say.

        Returns
        -------
        sums : ndarray, shape (K, *other_shape), counts
        variances : ndarray, shape (K, *other_shape), counts^2, or None
            Shape (L, *other_shape) with `squares`.
        """
        weights = self._checked(weights)
        squared = weights**2 if squares is None else np.atleast_2d(np.asarray(squares, float))
        # one weight for all slices, and Poisson counts: the variance is that weight times the sum
        level = weights.max(axis=1, keepdims=True)
        alike = squares is None and bool(np.all((weights == 0) | (weights == level)))
        if variances and alike and not self._has_sumw2:
            sums = self._summed(weights, weights[:0])[0]
            return sums, sums * level.reshape(-1, *[1] * (sums.ndim - 1))
        sums, found, _ = self._summed(weights, squared if variances else weights[:0])
        return sums, found if variances else None

    def sums_with_products(
        self, weights: ArrayLike, pairs: Sequence[tuple[int, int]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """`weighted_sums`, and in the same pass the covariances of pairs of these sums.

        Parameters
        ----------
        weights : array_like, shape (K, n_em)
        pairs : sequence of (int, int)
            Rows of `weights`.

        Returns
        -------
        sums, variances : ndarray, shape (K, *other_shape), counts and counts^2
        products : ndarray of float32, shape (n_pairs, *other_shape), counts^2
            The product of a pair's weights times the variance, summed. In single precision, which
            halves their memory and is far better than what a variance is known to.
        """
        if not pairs:
            sums, variances = self.weighted_sums(weights)
            assert variances is not None
            return sums, variances, np.zeros((0, *self.other_shape), np.float32)
        weights = self._checked(weights)
        products = np.array([weights[k] * weights[m] for k, m in pairs])
        return self._summed(weights, weights**2, products)

    def _checked(self, weights: ArrayLike) -> NDArray[np.float64]:
        counts = self.energy_counts()  # refuses impossible contents before they reach a sum
        weights = np.atleast_2d(np.asarray(weights, float))
        if weights.shape[1:] != counts.shape or not np.isfinite(weights).all():
            raise TemplateError(
                f"Weights must be finite, one for each of the {counts.size} energy bins, "
                f"got shape {weights.shape}."
            )
        return weights

    def _summed(
        self,
        weights: NDArray[np.float64],
        squared: NDArray[np.float64],
        products: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """Sums of counts with weights, and of variances with `squared` and with `products`."""
        from .slices import new_sums

        n_sets, n_cells = len(weights), math.prod(self.other_shape)
        n_products = 0 if products is None else len(products)
        rows = np.concatenate([weights, squared])
        require_memory(
            (8.0 * len(rows) + 4.0 * n_products) * n_cells,
            f"A map of {' x '.join(map(str, self.other_shape))} bins ({self.description})",
            "Bin the events coarser.",
        )
        out, single = new_sums(len(rows), n_cells), np.zeros((n_products, n_cells), np.float32)
        more = None if products is None else (products, single)
        for part in self._parts:
            with part.open() as (contents, sumw2):
                if len(squared) and sumw2 is not None:
                    contents.add(weights, out[:n_sets])
                    sumw2.add(squared, out[n_sets:], more)
                else:
                    contents.add(rows, out, more)
        out = out.reshape(len(rows), *self.other_shape)
        return out[:n_sets], out[n_sets:], single.reshape(n_products, *self.other_shape)

    def energy_slice(self, energy_bin: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Counts and variances of one energy slice, of shape `other_shape`; one array if alike."""
        only = np.zeros(self.energy_edges.size - 1)
        only[energy_bin] = 1.0
        (counts,), variances = self.weighted_sums(only, variances=self._has_sumw2)
        return counts, counts if variances is None else variances[0]

    def counts_along(self, label: str) -> NDArray[np.float64]:
        """Counts along an axis and the energy, shape (n_bins, n_em), read once and kept."""
        if label not in self._spectra_along:
            self.energy_counts()  # refuses impossible contents
            axis = self.labels.index(label)
            total = np.zeros((self.axes[label].nbins, self.energy_edges.size - 1))
            for part in self._parts:
                with part.open() as (contents, _):
                    contents.add_along(axis, total)
            self._spectra_along[label] = read_only(total)
        return self._spectra_along[label]

    @cached_property
    def _spectra_along(self) -> dict[str, NDArray[np.float64]]:
        return {}

    @cached_property
    def livetime(self) -> Livetime | None:
        """The livetime that the events' files hold, if it can be told; see `livetime_of_sum`."""
        return livetime_of_sum([part.livetime for part in self._parts])

    @property
    def mean_weight(self) -> float:
        """Sum of all variances over that of all counts: 1 where whole events are counted."""
        counts = self.energy_counts().sum()
        return float(self.energy_variances().sum() / counts) if counts > 0 else 1.0

    @property
    def weight_note(self) -> str:
        """What events with weights do to a fit; empty where whole events are counted."""
        weight = self.mean_weight
        if _WHOLE_EVENTS[0] < weight < _WHOLE_EVENTS[1]:
            return ""
        too, off = ("small", weight) if weight > 1 else ("large", 1 / max(weight, 1e-300))
        return (
            f"the variances of the events' counts (sumw2) are {weight:.4g} times the counts, as of "
            "events with weights. A fit takes counts for whole events: its errors are too "
            f"{too} by a factor of {off**0.5:.3g}, its p-values and searches for lines are wrong. "
            f"Divide the counts by {weight:.4g}, and sumw2 by its square"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must know of these events, and of how they were binned."""
        notes = [note for part in self._parts for note in part.notes]
        if self.weight_note:
            notes.append(self.weight_note)
        with_livetime = sum(part.livetime is not None for part in self._parts)
        if with_livetime and self.livetime is None:
            why = "their times overlap"
            if with_livetime < len(self._parts):
                why = f"only {with_livetime} of {len(self._parts)} say one"
            notes.append(
                f"the livetime of the sum cannot be told from its histograms, since {why}: it is "
                "what livetime (template: livetime) says, in s"
            )
        return tuple(notes)

    def annotated(
        self, livetime: Livetime | None, notes: Sequence[str], description: str
    ) -> EventHistogram:
        """The same events of one histogram with this livetime, notes and description."""
        (part,) = self._parts
        changed = replace(part, livetime=livetime, notes=tuple(notes), description=description)
        return EventHistogram((changed,))

    @property
    def has_whole_counts(self) -> bool:
        """Whether each energy bin holds a whole number, as events do, which `halves` splits."""
        counts = self.energy_counts()
        return bool(np.all(counts == np.round(counts)))

    def halves(self, seed: int) -> tuple[EventHistogram, EventHistogram]:
        """Two independent halves of Poisson counts, split at random; whole numbers only."""
        from .slices import halves

        def half(part: _Part, number: int, which: int) -> _Part:
            @contextmanager
            def open_cells() -> Iterator[tuple[Contents, Contents | None]]:
                with part.open() as (contents, _):
                    yield halves(contents, seed + number)[which], None

            return replace(part, open=open_cells)

        first, second = (
            EventHistogram(tuple(half(p, i, which) for i, p in enumerate(self._parts)))
            for which in (0, 1)
        )
        return first, second


# ---------------------------------------------------------------------------- contents


@dataclass(frozen=True)
class _Part:
    """One histogram: its axes, and how to get at its contents and sumw2."""

    description: str
    axes: EventAxes
    energy_axis: int
    is_sparse: bool
    open: Callable[[], AbstractContextManager[tuple[Contents, Contents | None]]]
    livetime: Livetime | None = None
    notes: tuple[str, ...] = ()


def _open_parts(source: Any, name: str) -> tuple[_Part, ...]:
    if isinstance(source, EventHistogram):
        return source._parts
    if isinstance(source, str | os.PathLike):
        return (_file_part(Path(source), name),)
    # what is no histpy object is not worth importing it
    if hasattr(source, "full_contents") and isinstance(source, load_histpy().Histogram):
        return (_memory_part(source, "in memory"),)
    raise DataError(
        f"Events must be a path, a histpy.Histogram or a list of these, got "
        f"{type(source).__name__}. Bin an event list with bin_events first."
    )


def events_of_cells(
    axes: EventAxes, coords: NDArray[np.int64], counts: NDArray[Any]
) -> EventHistogram:
    """Events from the filled cells of a sparse histogram, as arrays in memory.

    Parameters
    ----------
    axes : EventAxes
    coords : ndarray, shape (n_axes, n_filled)
        Bin numbers.
    counts : ndarray, shape (n_filled,)
    """
    from .slices import Layout, SparseContents

    where = "in memory"
    energy_axis = find_energy_axis(axes, where)
    layout = Layout.of_stored(axes.shape, energy_axis, axes.shape, where)
    cells = _InMemory(SparseContents(layout, coords, counts), None)
    return EventHistogram((_Part(where, axes, energy_axis, True, cells),))


def _memory_part(histogram: Histogram, description: str) -> _Part:
    axes = event_axes(histogram.axes)
    energy_axis = find_energy_axis(axes, description)
    _require_counts(None if histogram.unit is None else str(histogram.unit), description)

    def cells(values: Any) -> Contents:
        from .slices import DenseContents, Layout, SparseContents

        layout = Layout.of_stored(axes.shape, energy_axis, values.shape, description)
        if not histogram.is_sparse:
            return DenseContents(layout, np.asarray(values))
        values = values.asformat("coo")
        _require_empty_zero(values.fill_value, description)
        return SparseContents(layout, values.coords, values.data)

    contents = cells(histogram.full_contents)
    sumw2 = None if histogram.sumw2 is None else cells(histogram.sumw2.full_contents)
    is_sparse = bool(histogram.is_sparse)
    opened = _InMemory(contents, sumw2)
    return _Part(description, axes, energy_axis, is_sparse, opened)


@dataclass(frozen=True)
class _InMemory:
    """Opens contents that are in memory; a class, so that plugins can be pickled."""

    contents: Contents
    sumw2: Contents | None

    def __call__(self) -> AbstractContextManager[tuple[Contents, Contents | None]]:
        return nullcontext((self.contents, self.sumw2))


def _text_part(path: Path) -> _Part:
    """A spectrum as text: events with Em alone."""
    from .slices import DenseContents, Layout
    from .spectrum_text import read_spectrum

    spectrum, notes = read_spectrum(path)
    axes = EventAxes((EventAxis("Em", spectrum.edges, "keV"),))
    layout = Layout.of_stored(axes.shape, 0, axes.shape, str(path))
    cells = _InMemory(DenseContents(layout, np.array(spectrum.counts)), None)
    return _Part(str(path), axes, 0, False, cells, notes=notes)


def _file_part(path: Path, name: str) -> _Part:
    if _is_spectrum_text(path):
        return _text_part(path)
    with _open_group(path, name) as group:
        axes = read_axes(group, path)
        energy_axis = find_energy_axis(axes, str(path))
        _require_counts(unit_attribute(group.attrs), str(path))
        stored_as = str(group.attrs.get("format", "dense"))  # files before sparse do not say
        livetime = read_livetime(group.file)
        if stored_as == "gcxs":  # written by early histpy only: left to histpy
            for key in ("contents", "sumw2"):
                if key in group:
                    _require_compressed(group[key], path)
            histogram = load_histpy().Histogram.open(str(path), name)
            return replace(_memory_part(histogram, str(path)), livetime=livetime)
    if stored_as not in ("coo", "dense"):
        raise FileError(
            f"{path}: the histogram is stored in the format {brief(stored_as)!r}; known are 'coo', "
            "'dense' and 'gcxs'. Write it again with histpy 1.1 or newer."
        )
    cells = _InFile(path, name, axes.shape, energy_axis, stored_as, _stamp(path))
    with cells():  # what is wrong with a file shows when it is opened
        pass
    return _Part(str(path), axes, energy_axis, stored_as == "coo", cells, livetime)


def _is_spectrum_text(path: Path) -> bool:
    """Whether a file is text, which no histogram is."""
    import h5py

    from .spectrum_text import is_text

    if not is_plain(path):
        return False
    with reading(path, "cannot be read", "Give a file that can be."):
        return is_text(path) and not h5py.is_hdf5(path)


def _require_compressed(group: h5py.Group, path: Path) -> None:
    """Refuse compressed sparse contents whose indices lead out of the array.

    What `sparse` makes of them is compiled, and checks nothing.
    """
    shape = [int(n) for n in read_whole(group["shape"], path)]
    rows = read_whole(group["compressed_axes"], path).ravel().tolist()
    data, indices, starts = (read_whole(group[k], path) for k in ("data", "indices", "indptr"))
    if set(rows) - set(range(len(shape))) or len(set(rows)) < len(rows) or min(shape) < 0:
        raise ValueError(f"compressed axes {rows} of an array of shape {shape}")
    n_rows = math.prod(shape[axis] for axis in rows)
    n_columns = math.prod(n for axis, n in enumerate(shape) if axis not in rows)
    good = (
        data.shape == indices.shape == (data.size,)
        and starts.shape == (n_rows + 1,)
        and indices.dtype.kind == starts.dtype.kind == "i"
        and starts[0] == 0
        and starts[-1] == data.size
        and bool(np.all(starts[1:] >= starts[:-1]))
        and (data.size == 0 or (indices.min() >= 0 and indices.max() < n_columns))
    )
    if not good:
        raise ValueError("compressed indices outside the array")


@dataclass(frozen=True)
class _InFile:
    """Opens contents that are in a file; a class, so that plugins can be pickled."""

    path: Path
    name: str
    n_bins: tuple[int, ...]
    energy_axis: int
    stored_as: str
    stamp: tuple[int, int]
    runs: dict[str, dict[int, EnergyRuns]] = field(default_factory=dict, compare=False, repr=False)

    @contextmanager
    def __call__(self) -> Iterator[tuple[Contents, Contents | None]]:
        if _stamp(self.path) != self.stamp:
            raise FileError(
                f"{self.path} has changed since it was opened; make the plugin anew, and fit again."
            )
        kept = _KEPT.get()
        if kept is not None and self in kept.cells:
            with reading(self.path, *_DAMAGED):
                yield kept.cells[self]
            return
        with _open_group(self.path, self.name) as group:
            sumw2 = self._cells(group["sumw2"]) if "sumw2" in group else None
            cells = self._cells(group["contents"]), sumw2
            if kept is not None:
                kept.cells[self] = cells
            yield cells

    def _cells(self, group: h5py.Group) -> Contents:
        from .slices import DenseContents, Layout, SparseContents

        if self.stored_as == "dense":
            require_stored(group, self.path)
            layout = Layout.of_stored(self.n_bins, self.energy_axis, group.shape, self.path)
            return DenseContents(layout, group)
        shape = read_whole(group["shape"], self.path).ravel().tolist()
        layout = Layout.of_stored(self.n_bins, self.energy_axis, shape, self.path)
        _require_empty_zero(read_whole(group["fill_value"], self.path), str(self.path))
        coords, data = group["coords"], group["data"]
        for dataset in (coords, data):
            require_stored(dataset, self.path)
        if coords.dtype.kind not in "iu" or data.shape != (data.size,):
            raise OSError(f"coordinates of type {coords.dtype} for cells of shape {data.shape}")
        if coords.shape != (len(self.n_bins), data.size):
            raise OSError(f"coordinates of shape {coords.shape} for {data.size} cells")
        return SparseContents(layout, coords, data, self.runs.setdefault(group.name, {}))


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is written again; (0, 0) if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def _require_counts(unit: str | None, where: str) -> None:
    if unit in (None, "", "ct"):
        return
    import astropy.units as u

    if u.Unit(unit) not in (u.dimensionless_unscaled, u.ct):
        raise DataError(
            f"The contents of the histogram ({where}) have the unit {unit}, but counts have none. "
            "Give event counts, not rates, fluxes or parts."
        )


def _require_empty_zero(fill_value: Any, where: str) -> None:
    if fill_value != 0:
        raise DataError(
            f"The sparse histogram ({where}) holds {fill_value} in every cell that it does not "
            "store; it must be 0. Convert it with to_dense() first."
        )


# ---------------------------------------------------------------------------- files


_DAMAGED = "is damaged", "Copy or write it again."


@dataclass(frozen=True)
class _Kept:
    """Files that are kept open, by path and stamp, and the contents that were found in them."""

    stack: ExitStack
    files: dict[tuple[Path, tuple[int, int]], h5py.File] = field(default_factory=dict)
    cells: dict[_InFile, tuple[Contents, Contents | None]] = field(default_factory=dict)


#: Within `files_kept_open`.
_KEPT: ContextVar[_Kept | None] = ContextVar("kept", default=None)


@contextmanager
def files_kept_open() -> Iterator[None]:
    """Within it, each HDF5 file is opened and looked through once, and stays open to its end.

    A file that was written anew meanwhile is opened anew.
    """
    if _KEPT.get() is not None:  # within another
        yield
        return
    stack = ExitStack()
    token = _KEPT.set(_Kept(stack))
    try:
        yield
    finally:
        _KEPT.reset(token)
        stack.close()  # what failed here is no fault of the files


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """An HDF5 file for reading; whatever fails in reading it names the file."""
    kept = _KEPT.get()
    if kept is None:
        with _open_once(path) as file:
            yield file
        return
    key = Path(path).absolute(), _stamp(Path(path))
    if key not in kept.files:
        kept.files[key] = kept.stack.enter_context(_open_once(path))
    with reading(path, *_DAMAGED):
        yield kept.files[key]


@contextmanager
def _open_once(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    import h5py

    path = require_file(path, "give the path of a binned HDF5 file.")
    if path.stat().st_size and not h5py.is_hdf5(path):
        kind = "is not an HDF5 file, or cannot be read"
        cure = "Give a histogram written by histpy; bin an event list with bin_events first."
    else:
        kind, cure = "is truncated or damaged", _DAMAGED[1]
    with ExitStack() as stack:
        with reading(path, kind, cure):
            file = stack.enter_context(opened(path))
        with reading(path, *_DAMAGED):
            yield file


def _is_histogram(item: object) -> bool:
    import h5py

    return isinstance(item, h5py.Group) and "axes" in item and "contents" in item


@contextmanager
def _open_group(path: Path, name: str) -> Iterator[h5py.Group]:
    """The group of a histpy histogram."""
    with open_file(path) as file:
        group = file.get(name)
        if not _is_histogram(group):
            others = [key for key in file if _is_histogram(file.get(key))]
            cure = "Give a file written by histpy's Histogram.write()."
            if "Energies" in file:
                cure = (
                    "These are unbinned events: bin them with bin_events first, or add a section "
                    "binning to the configuration."
                )
            elif others:
                cure = (
                    f"{others[0]!r} is one, by another name: copy it with histpy's "
                    f"Histogram.open(path, {others[0]!r}).write(new_path)."
                )
            raise FileError(f"{path} holds no histogram {name!r}; it holds: {listed(file)}. {cure}")
        yield group


def _require_same_axes(first: _Part, other: _Part) -> None:
    labels = [list(part.axes.labels) for part in (first, other)]
    difference = f"has axes {labels[1]}, not {labels[0]}"
    if labels[0] == labels[1]:
        found = (
            f"differs in the axis {a.label}: {axis_difference(a, b)}"
            for a, b in zip(first.axes, other.axes, strict=True)
            if axis_difference(a, b)
        )
        difference = next(found, "")
    if difference:
        raise DataError(
            f"Histograms can be summed only on the same axes, but {other.description} "
            f"{difference} (compared with {first.description}). Bin them alike."
        )


def bins_of_range(
    events: EventHistogram, low: float, high: float, cure: str, what: str = "source range"
) -> NDArray[np.bool_]:
    """The energy bins of a range that cuts through none, shape (n_em,).

    Parameters
    ----------
    low, high : float, keV
    cure, what : str
        The end of the message, and what the range is called in it.

    Raises
    ------
    TemplateError
        If it cuts through bins, whose events cannot be told apart.
    """
    edges = events.energy_edges
    inside = overlapping_bins(edges, *check_inside(edges, low, high, what))
    ((first, last),) = bins_to_ranges(edges, inside)
    slack = EDGE_TOLERANCE * float(np.diff(edges).min())
    if abs(first - low) > slack or abs(last - high) > slack:
        raise TemplateError(
            f"The {what} {low:g}-{high:g} keV cuts through energy bins "
            f"({first:.6g}-{last:.6g} keV); {cure}."
        )
    return inside
