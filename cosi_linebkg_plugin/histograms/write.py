"""Histograms made and written, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..io.atomic import whole_hdf5
from .axes import load_histpy

if TYPE_CHECKING:
    import h5py
    from histpy import Axes, Axis, Histogram


# ---------------------------------------------------------------------------- histograms, out


def make_histogram(
    axes: Axes | Sequence[Axis], contents: NDArray[Any], sumw2: NDArray[Any] | None = None
) -> Histogram:
    """A dense float64 histogram, without unit or overflow, the same in both histpy generations.

    Parameters
    ----------
    axes : histpy.Axes or list of histpy.Axis
        Taken over as they are.
    contents, sumw2 : ndarray, one value per cell
        Copied.
    """
    histpy = load_histpy()
    return histpy.Histogram(
        histpy.Axes(axes if isinstance(axes, histpy.Axes) else list(axes)),
        contents=np.asarray(contents, float),
        sumw2=None if sumw2 is None else np.asarray(sumw2, float),
        track_overflow=False,
    )


def sparse_histogram(
    axes: Axes, coords: NDArray[np.int64], counts: NDArray[Any], in_order: bool = False
) -> Histogram:
    """A sparse histogram, without unit or overflow, the same in both histpy generations.

    Parameters
    ----------
    axes : histpy.Axes
    coords : ndarray, shape (n_axes, n_filled)
        Bin numbers of the filled cells.
    counts : ndarray, shape (n_filled,)
    in_order : bool
        True if the cells are in C order, each once; then the arrays are taken over as they are
        (histpy 1 copies them).
    """
    import sparse

    shape = tuple(axis.nbins for axis in axes)
    contents = sparse.COO(coords, counts, shape=shape, sorted=in_order, has_duplicates=not in_order)
    histogram = load_histpy().Histogram
    as_it_is = "copy_contents" in signature(histogram).parameters
    options = {"copy_contents": False} if as_it_is else {}
    return histogram(axes, contents=contents, track_overflow=False, **options)


def write_histogram(
    path: str | os.PathLike[str],
    histogram: Histogram,
    name: str = "hist",
    extra: Callable[[h5py.File], None] | None = None,
) -> None:
    """Write a plain histpy file, whole or not at all; a file in its place is replaced.

    Parameters
    ----------
    extra : callable, optional
        Is given the open file, to put something beside the histogram.
    """
    import h5py

    with whole_hdf5(path) as whole:
        histogram.write(whole, name=name)
        if extra is not None:
            whole.check()
            with h5py.File(whole, "a") as file:
                extra(file)
