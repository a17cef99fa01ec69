"""Histograms made and written, whole or not at all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..io.atomic import ForgivingFile, whole_hdf5
from .axes import HISTOGRAM, write_axes
from .axis import EventAxes, event_axes, load_histpy

if TYPE_CHECKING:
    import h5py
    from histpy import Axes, Histogram


# ---------------------------------------------------------------------------- histograms, out


def make_histogram(
    axes: Axes | EventAxes | Sequence[Any],
    contents: NDArray[Any],
    sumw2: NDArray[Any] | None = None,
) -> Histogram:
    """A dense float64 histogram, without unit or overflow, the same in both histpy generations.

    Parameters
    ----------
    axes : histpy.Axes, EventAxes, or list of axes of either kind
        Taken over as they are.
    contents, sumw2 : ndarray, one value per cell
        Copied.
    """
    histpy = load_histpy()
    return histpy.Histogram(
        axes if isinstance(axes, histpy.Axes) else event_axes(axes).histpy,
        contents=np.asarray(contents, float),
        sumw2=None if sumw2 is None else np.asarray(sumw2, float),
        track_overflow=False,
    )


def sparse_histogram(
    axes: Axes | EventAxes, coords: NDArray[np.int64], counts: NDArray[Any], in_order: bool = False
) -> Histogram:
    """A sparse histogram, without unit or overflow, the same in both histpy generations.

    Parameters
    ----------
    axes : histpy.Axes or EventAxes
    coords : ndarray, shape (n_axes, n_filled)
        Bin numbers of the filled cells.
    counts : ndarray, shape (n_filled,)
    in_order : bool
        True if the cells are in C order, each once; then the arrays are taken over as they are
        (histpy 1 copies them).
    """
    import sparse

    axes = event_axes(axes)
    contents = sparse.COO(
        coords, counts, shape=axes.shape, sorted=in_order, has_duplicates=not in_order
    )
    histogram = load_histpy().Histogram
    as_it_is = "copy_contents" in signature(histogram).parameters
    options = {"copy_contents": False} if as_it_is else {}
    return histogram(axes.histpy, contents=contents, track_overflow=False, **options)


def write_maps(
    filename: str | os.PathLike[str] | ForgivingFile,
    name: str,
    axes: EventAxes | Axes,
    maps: Mapping[str, tuple[NDArray[Any], float]],
) -> None:
    """Write a dense histpy histogram of scaled arrays, a part at a time, without a copy of them.

    Parameters
    ----------
    filename : path, or what `whole_hdf5` yields
        The file is made, or added to.
    name : str
        The histogram's group.
    axes : EventAxes or histpy.Axes
    maps : mapping of "contents" and, where known, "sumw2" to (ndarray, float)
        An array of one value per cell, and the factor on it.
    """
    import h5py

    with h5py.File(filename, "a") as file:
        group = file.create_group(name)
        group.attrs["format"] = "dense"
        write_axes(group, event_axes(axes))
        for key, (array, factor) in maps.items():
            write_array(group, key, array, factor)


def write_array(
    group: h5py.Group, name: str, array: NDArray[Any], factor: float, kind: type = float
) -> None:
    """Write a scaled array as a dataset of this kind of number, a part at a time."""
    dataset = group.create_dataset(name, array.shape, kind, track_times=False)
    for block in _blocks(array.shape):
        dataset[block] = array[block] * factor


def write_cells(
    filename: str | os.PathLike[str] | ForgivingFile,
    name: str,
    axes: EventAxes | Axes,
    coords: NDArray[np.int64],
    counts: NDArray[np.float64],
) -> None:
    """Write a sparse histpy histogram from its filled cells, in C order, each once.

    Parameters
    ----------
    filename, name, axes
        As of `write_maps`.
    coords : ndarray, shape (n_axes, n_filled)
        Bin numbers.
    counts : ndarray, shape (n_filled,)
    """
    import h5py

    axes = event_axes(axes)
    with h5py.File(filename, "a") as file:
        group = file.create_group(name)
        group.attrs["format"] = "coo"
        write_axes(group, axes)
        contents = group.create_group("contents")
        for key, cells in (("coords", coords), ("data", counts)):
            contents.create_dataset(key, data=cells, compression="gzip", track_times=False)
        for key, value in (("shape", axes.shape), ("fill_value", 0.0)):
            contents.create_dataset(key, data=value, track_times=False)


def _blocks(shape: tuple[int, ...], cells: int = 1 << 18) -> Iterator[tuple[slice | int, ...]]:
    """Blocks of an array that follow each other in memory, of so many cells or fewer."""
    whole = len(shape)
    while whole and math.prod(shape[whole - 1 :]) <= cells:
        whole -= 1
    if not whole:
        yield ()
        return
    step = max(cells // math.prod(shape[whole:]), 1)
    for outer in np.ndindex(*shape[: whole - 1]):
        for start in range(0, shape[whole - 1], step):
            yield (*outer, slice(start, start + step))


def write_histogram(
    path: str | os.PathLike[str], histogram: Histogram, name: str = HISTOGRAM
) -> None:
    """Write a histpy histogram, whole or not at all; a file in its place is replaced."""
    with whole_hdf5(path) as whole:
        histogram.write(whole, name=name)
