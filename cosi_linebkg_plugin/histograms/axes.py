"""Axes of histograms: energies in keV, comparison, the axes of a source range."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FileError, TemplateError
from ..io.guard import brief, reading
from ..io.hdf5 import read_whole, unit_attribute
from ..spectrum.axis import (
    EDGE_TOLERANCE,
    check_edges,
    check_range,
)

if TYPE_CHECKING:
    import h5py
    from histpy import Axes, Axis


#: The axis classes that a file may name; no other name found in a file is looked up.
_AXIS_CLASSES = ("Axis", "HealpixAxis", "TimeAxis", "TimeDeltaAxis")
_MAX_AXES = 16
#: The axis of measured energy.
ENERGY_LABEL = "Em"


def read_axes(group: h5py.Group, path: Path) -> Axes:
    """The axes of a histpy group; classes other than histpy's own are refused."""
    histpy = load_histpy()
    axes = []
    cure = "Write the file again with histpy."
    with reading(f"{path}:", "its axes cannot be read", cure):
        if len(group["axes"]) > _MAX_AXES:
            raise ValueError(f"there are {len(group['axes'])}, at most {_MAX_AXES}")
        for key in sorted(group["axes"], key=int):
            dataset = group["axes"][key]
            module, kind = dataset.attrs.get("__class__", ("histpy.axis", "Axis"))
            known = str(module).split(".")[0] == "histpy" and kind in _AXIS_CLASSES
            if not known or not hasattr(histpy, kind):
                raise FileError(
                    f"{path}: axis {key} is a {brief(module, 60)}.{brief(kind, 60)}, which this "
                    f"histpy ({histpy.__version__}) does not have; known are "
                    f"{', '.join(_AXIS_CLASSES)} (the time axes from histpy 2 on). Write the file "
                    "with histpy's own axes."
                )
            _require_edges(read_whole(dataset, path), dataset, key)
            axes.append(getattr(histpy, kind)._open(dataset))
        return histpy.Axes(axes)


def _require_edges(edges: NDArray[Any], dataset: h5py.Dataset, key: str) -> None:
    """What histpy takes on trust."""
    unit_attribute(dataset.attrs)
    if edges.ndim not in (1, 2) or not np.isfinite(edges).all():
        raise ValueError(f"axis {key} has edges that are not finite, or of shape {edges.shape}")
    if edges.ndim == 1 and not (edges.size > 1 and np.all(edges[1:] > edges[:-1])):
        raise ValueError(f"the edges of axis {key} do not increase")
    label = dataset.attrs.get("label", "")
    if not isinstance(label, str) or brief(label, 60) != label:
        raise ValueError(f"axis {key} has the label {brief(label)!r}")


def load_histpy() -> ModuleType:
    """histpy, imported on use, with the spacecraft frame that its files name."""
    import histpy
    import scoords  # noqa: F401  # registers the spacecraft frame, which files name

    return cast(ModuleType, histpy)


# ---------------------------------------------------------------------------- axes


def axis_in_kev(axis: Axis) -> NDArray[np.float64]:
    """The edges of an energy axis, shape (n + 1,), keV; an axis without unit is in keV.

    Raises
    ------
    DataError
        If the unit is not one of energy.
    BinningError
        If the edges are not energies.
    """
    import astropy.units as u

    if axis.unit is None:
        return check_edges(np.asarray(axis.edges))
    if not axis.unit.is_equivalent(u.keV):
        raise DataError(
            f"The {axis.label} axis has the unit {axis.unit}, which is no energy. "
            "Give it keV, MeV or another unit of energy."
        )
    return check_edges(axis.edges.to_value(u.keV))


def find_energy_axis(axes: Axes, where: str) -> int:
    """Which axis is the measured energy; `where` the histogram is from is for the message."""
    labels = [axis.label for axis in axes]
    if ENERGY_LABEL not in labels:
        raise DataError(
            f"The histogram ({where}) has no axis {ENERGY_LABEL!r}; its axes are {labels}. "
            f"Label the measured energy {ENERGY_LABEL!r}."
        )
    index = labels.index(ENERGY_LABEL)
    axis_in_kev(axes[index])
    return index


def axis_difference(a: Axis, b: Axis) -> str | None:
    """What tells two axes of the same label apart, if anything."""
    for what, found_a, found_b in (
        ("kind", type(a).__name__, type(b).__name__),
        ("number of bins", a.nbins, b.nbins),
        ("nside", getattr(a, "nside", None), getattr(b, "nside", None)),
        ("scheme", getattr(a, "scheme", None), getattr(b, "scheme", None)),
        ("frame", *(getattr(getattr(x, "coordsys", None), "name", None) for x in (a, b))),
    ):
        if found_a != found_b:
            return f"{what} {found_b}, not {found_a}"
    try:
        edges_a, edges_b = _comparable_edges(a, b)
    except ValueError:  # astropy's UnitConversionError is one
        return f"unit {b.unit}, not {a.unit}"
    far = np.flatnonzero(np.abs(edges_a - edges_b) > EDGE_TOLERANCE * np.diff(edges_a).min())
    if far.size:
        i = far[0]
        return f"edge {i} at {edges_b[i]:.10g}, not {edges_a[i]:.10g}"
    return None


def _comparable_edges(a: Axis, b: Axis) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if a.label == ENERGY_LABEL:
        return axis_in_kev(a), axis_in_kev(b)
    if hasattr(a.edges, "jd1"):  # astropy times, whose differences have a unit
        start = a.edges[0]
        return (a.edges - start).to_value("s"), (b.edges - start).to_value("s")
    if a.unit is None or b.unit is None:
        if a.unit is not b.unit:
            raise ValueError("only one axis has a unit")
        return np.asarray(a.edges, float), np.asarray(b.edges, float)
    return np.asarray(a.edges.value, float), b.edges.to_value(a.unit)


def source_axis(like_axis: Axis, low: float, high: float) -> Axis:
    """A one-bin energy axis in the unit, label and scale of another.

    Parameters
    ----------
    like_axis : histpy.Axis
        The events' energy axis.
    low, high : float, keV
        An edge of `like_axis` that is the same energy is taken over to the last digit.
    """
    edges = axis_in_kev(like_axis)
    own = np.asarray(like_axis.edges if like_axis.unit is None else like_axis.edges.value, float)
    slack = EDGE_TOLERANCE * np.diff(edges).min()
    bounds = []
    for energy in check_range(low, high, "source range"):
        nearest = int(np.argmin(np.abs(edges - energy)))
        same = abs(edges[nearest] - energy) <= slack
        bounds.append(own[nearest] if same else energy * own[nearest] / edges[nearest])
    values = np.array(bounds)
    if like_axis.unit is not None:
        values = values * like_axis.unit
    return load_histpy().Axis(values, label=like_axis.label, scale=like_axis.axis_scale)


def embed(
    contents: NDArray[Any],
    energy_axis_index: int,
    energy_edges: NDArray[Any],
    low: float,
    high: float,
) -> NDArray[np.float64]:
    """Put contents of one energy bin into an energy axis of several; its other bins hold 0.

    Parameters
    ----------
    contents : ndarray, shape (..., 1, ...)
    energy_axis_index : int
        Where the one energy bin is.
    energy_edges : ndarray, shape (n_em + 1,), keV
    low, high : float, keV
        The energy bin of `contents`; one bin of `energy_edges` must equal it.

    Returns
    -------
    ndarray, shape (..., n_em, ...)

    Raises
    ------
    TemplateError
        If no bin equals the range; names the nearest.
    """
    edges = check_edges(energy_edges)
    if contents.shape[energy_axis_index] != 1:
        raise TemplateError(
            f"Contents of shape {contents.shape} have more than one bin on axis "
            f"{energy_axis_index}; give them with one energy bin."
        )
    slack = EDGE_TOLERANCE * np.diff(edges)
    equal = (np.abs(edges[:-1] - low) <= slack) & (np.abs(edges[1:] - high) <= slack)
    if not equal.any():
        overlap = np.flatnonzero((edges[:-1] < high) & (edges[1:] > low))
        if overlap.size == 0:
            overlap = np.array([0 if high <= edges[0] else edges.size - 2])
        bins = ", ".join(f"{edges[i]:.6g}-{edges[i + 1]:.6g}" for i in overlap[:3])
        raise TemplateError(
            f"No energy bin of the consumer equals the source range {low:g}-{high:g} keV; the "
            f"nearest are {bins} keV. Make the template for one of its bins, or bin its data alike."
        )
    place = equal.reshape((-1,) + (1,) * (contents.ndim - 1 - energy_axis_index))
    return np.where(place, contents, 0.0)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The same array, which cannot be written to from now on."""
    array.flags.writeable = False
    return array
