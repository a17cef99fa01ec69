"""What a template's file holds besides its text: formats, maps, energy bins; checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..io import checks
from ..io.hdf5 import read_whole
from ..spectrum.axis import check_range
from .energy_bins import EnergyBins

if TYPE_CHECKING:
    import h5py

Array = NDArray[np.float64]

#: The second is that of templates with several energy bins in the source range.
FORMATS = ("cosi-linebkg template 1", "cosi-linebkg template 2")

#: The datasets of `EnergyBins`.
_FIELDS = ("edges", "shares", "response", "spread")


def format_of(bins: EnergyBins | None) -> str:
    """The format of a template's file."""
    return FORMATS[0] if bins is None else FORMATS[1]


def write_energy_bins(group: h5py.Group, bins: EnergyBins) -> None:
    """Write to a group of an HDF5 file."""
    for name in _FIELDS:
        group.create_dataset(name, data=getattr(bins, name), track_times=False)


def read_energy_bins(group: Any, n_labels: int, path: object) -> EnergyBins:
    """What `write_energy_bins` wrote, nothing of it taken on trust.

    Raises
    ------
    ValueError
        If shapes do not fit, or numbers are not finite.
    """
    edges = read_whole(group["edges"], path)
    n = edges.size - 1
    shapes = ((n + 1,), (n_labels, n), (n_labels, n, n_labels), (n_labels, n, n_labels, n))
    found = []
    for name, shape in zip(_FIELDS, shapes, strict=True):
        values = read_whole(group[name], path)
        if n < 1 or values.shape != shape or values.dtype.kind != "f":
            raise ValueError(f"{name} of its energy bins has shape {values.shape}, not {shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} of its energy bins is not finite")
        found.append(values)
    if not np.all(np.diff(edges) > 0) or found[1].min() < 0:
        raise ValueError("the edges of its energy bins do not increase, or shares are below 0")
    return EnergyBins(*found)


def read_maps(group: Any, axes: Any, path: object) -> tuple[Array, Array]:
    """Contents and sumw2 of a component in a file: finite, not negative, not all 0."""
    shape = axes.shape
    found = []
    for name in ("contents", "sumw2"):
        if getattr(group[name], "shape", None) != shape:
            raise ValueError(f"{name} do not fit axes of {' x '.join(map(str, shape))} bins")
        values = read_whole(group[name], path)
        if not (np.isfinite(values).all() and values.min() >= 0):
            raise ValueError(f"{name} are not finite, or below 0")
        found.append(values.astype(float, copy=False))
    total = found[0].sum()
    if not 0 < total < np.inf:
        raise ValueError(f"contents have the sum {total}")
    return found[0], found[1]


def read_range(value: Any, what: str) -> tuple[float, float]:
    """A range [keV] in its metadata."""
    low, high = checks.numbers(value, what, (2,)).tolist()
    return check_range(low, high, what)
