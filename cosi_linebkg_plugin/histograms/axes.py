"""Axes of histograms: energies in keV, comparison, the axes of a source range."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from ..units import factor
from .axis import HEALPIX, PLAIN, EventAxes, EventAxis, event_axis, load_histpy

if TYPE_CHECKING:
    import h5py
    from histpy import Axis

#: The axis classes that a file may name; no other name found in a file is looked up.
_AXIS_CLASSES = ("Axis", "HealpixAxis", "TimeAxis", "TimeDeltaAxis")
_MAX_AXES = 16
#: Attributes of axes that are read without histpy.
_UNITS = ("keV", "MeV", "deg", "rad", "s")
_SCALES = ("linear", "symmetric", "log")
_SCHEMES = ("RING", "NESTED")
_NSIDES = tuple(2**k for k in range(30))
_FRAMES = ("galactic", "spacecraftframe", "icrs")
#: The axis of measured energy.
ENERGY_LABEL = "Em"

#: The group of a file that holds its histogram, as histpy and cosipy name it.
HISTOGRAM = "hist"


def read_axes(group: h5py.Group, path: Path) -> EventAxes:
    """The axes of a histpy group; classes other than histpy's own are refused."""
    cure = "Write the file again with histpy."
    with reading(f"{path}:", "its axes cannot be read", cure):
        if len(group["axes"]) > _MAX_AXES:
            raise ValueError(f"there are {len(group['axes'])}, at most {_MAX_AXES}")
        keys = sorted(group["axes"], key=int)
        return EventAxes(tuple(_read_axis(group["axes"][key], key, path) for key in keys))


def _read_axis(dataset: h5py.Dataset, key: str, path: Path) -> EventAxis:
    module, kind = dataset.attrs.get("__class__", ("histpy.axis", PLAIN))
    known = str(module).split(".")[0] == "histpy" and kind in _AXIS_CLASSES
    if known:
        edges = read_whole(dataset, path)
        _require_edges(edges, dataset, key)
        axis = _plain_axis(str(kind), edges, dataset.attrs)
        if axis is not None:
            return axis
    histpy = load_histpy()
    if not known or not hasattr(histpy, kind):
        raise FileError(
            f"{path}: axis {key} is a {brief(module, 60)}.{brief(kind, 60)}, which this "
            f"histpy ({histpy.__version__}) does not have; known are "
            f"{', '.join(_AXIS_CLASSES)} (the time axes from histpy 2 on). Write the file "
            "with histpy's own axes."
        )
    return EventAxis.from_histpy(getattr(histpy, kind)._open(dataset))


def _plain_axis(kind: str, edges: NDArray[Any], found: Mapping[str, Any]) -> EventAxis | None:
    """An axis whose attributes are all well known; None leaves it to histpy to read or refuse."""
    label, unit, scale = (found.get(name) for name in ("label", "unit", "scale"))
    if edges.ndim != 1 or scale not in (*_SCALES, None) or (scale == "log" and edges[0] <= 0):
        return None
    scale = scale or "linear"  # files of histpy 1 do not say that of a HealpixAxis
    if kind == PLAIN and (unit is None or (unit in _UNITS and edges.dtype == float)):
        return EventAxis(label, edges, unit, scale)
    nside, scheme = found.get("nside"), str(found.get("scheme")).upper()
    frame = found.get("coordsys")
    if not isinstance(nside, int | np.integer) or nside not in _NSIDES:
        return None
    nside = int(nside)
    good = (
        kind == HEALPIX
        and unit is None
        and edges.dtype.kind in "iu"
        and 0 <= edges[0] <= edges[-1] <= 12 * nside**2
        and scheme in _SCHEMES
        and frame in (*_FRAMES, None)
    )
    return EventAxis(label, edges, None, scale, kind, nside, scheme, frame) if good else None


def write_axes(group: h5py.Group, axes: EventAxes) -> None:
    """The axes as a new group "axes", as histpy writes them."""
    in_order = group.create_group("axes", track_order=True)  # histpy 1 reads them in this order
    for i, axis in enumerate(axes):
        if not axis.is_plain:
            axis.to_histpy()._write(in_order, str(i))
            continue
        dataset = in_order.create_dataset(str(i), data=axis.edges, track_times=False)
        module = "healpix_axis" if axis.kind == HEALPIX else "axis"
        attributes = {
            "__class__": (f"histpy.{module}", axis.kind),
            "scale": axis.scale,
            "label": None if axis.label is None else str(axis.label),
            "unit": axis.unit,
            "nside": axis.nside,
            "scheme": axis.scheme,
            "coordsys": axis.frame,
        }
        dataset.attrs.update({name: v for name, v in attributes.items() if v is not None})


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


# ---------------------------------------------------------------------------- axes


def axis_in_kev(axis: EventAxis | Axis) -> NDArray[np.float64]:
    """The edges of an energy axis, shape (n + 1,), keV; an axis without unit is in keV.

    Raises
    ------
    DataError
        If the unit is not one of energy.
    BinningError
        If the edges are not energies.
    """
    axis = event_axis(axis)
    try:
        edges = edges_in(axis, "keV")
    except (TypeError, ValueError):
        raise DataError(
            f"The {axis.label} axis has the unit {axis.unit}, which is no energy. "
            "Give it keV, MeV or another unit of energy."
        ) from None
    return check_edges(edges)


def edges_in(axis: EventAxis, unit: str) -> NDArray[Any]:
    """The edges of an axis in another unit; one without unit is in that already.

    Raises
    ------
    TypeError, ValueError
        astropy's, if that is no unit of the same kind.
    """
    if axis.unit in (None, unit):
        return axis.edges
    if axis.original is not None and hasattr(axis.original.edges, "to_value"):
        values: NDArray[Any] = axis.original.edges.to_value(unit)
        return values
    return axis.edges * factor(axis.unit or "1", unit)


def find_energy_axis(axes: EventAxes, where: str) -> int:
    """Which axis is the measured energy; `where` the histogram is from is for the message."""
    if ENERGY_LABEL not in axes.labels:
        raise DataError(
            f"The histogram ({where}) has no axis {ENERGY_LABEL!r}; its axes are "
            f"{list(axes.labels)}. Label the measured energy {ENERGY_LABEL!r}."
        )
    index = axes.labels.index(ENERGY_LABEL)
    axis_in_kev(axes[index])
    return index


def axis_difference(a: EventAxis | Axis, b: EventAxis | Axis) -> str | None:
    """What tells two axes of the same label apart, if anything."""
    a, b = event_axis(a), event_axis(b)
    for what, found_a, found_b in (
        ("kind", a.kind, b.kind),
        ("number of bins", a.nbins, b.nbins),
        ("nside", a.nside, b.nside),
        ("scheme", a.scheme, b.scheme),
        ("frame", a.frame, b.frame),
    ):
        if found_a != found_b:
            return f"{what} {found_b}, not {found_a}"
    try:
        edges_a, edges_b = _comparable_edges(a, b)
    except (TypeError, ValueError):
        return f"unit {b.unit}, not {a.unit}"
    far = np.flatnonzero(np.abs(edges_a - edges_b) > EDGE_TOLERANCE * np.diff(edges_a).min())
    if far.size:
        i = far[0]
        return f"edge {i} at {edges_b[i]:.10g}, not {edges_a[i]:.10g}"
    return None


def _comparable_edges(
    a: EventAxis, b: EventAxis
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if a.label == ENERGY_LABEL:
        return axis_in_kev(a), axis_in_kev(b)
    times_a: Any = a.original and a.original.edges
    times_b: Any = b.original and b.original.edges
    if hasattr(times_a, "jd1"):  # astropy times, whose differences have a unit
        start = times_a[0]
        return (times_a - start).to_value("s"), (times_b - start).to_value("s")
    if (a.unit is None) != (b.unit is None):
        raise ValueError("only one axis has a unit")
    return np.asarray(a.edges, float), np.asarray(edges_in(b, a.unit or ""), float)


def source_axis(like_axis: EventAxis | Axis, *energies: float) -> EventAxis:
    """An energy axis of one bin, or some, in the unit, label and scale of another.

    Parameters
    ----------
    like_axis : EventAxis or histpy.Axis
        The events' energy axis.
    *energies : float, keV
        The edges, in increasing order. An edge of `like_axis` that is the same energy is taken
        over to the last digit.
    """
    like = event_axis(like_axis)
    edges, own = axis_in_kev(like), np.asarray(like.edges, float)
    slack = EDGE_TOLERANCE * np.diff(edges).min()
    check_range(energies[0], energies[-1], "source range")
    bounds = []
    for energy in energies:
        nearest = int(np.argmin(np.abs(edges - energy)))
        same = abs(edges[nearest] - energy) <= slack
        bounds.append(own[nearest] if same else energy * own[nearest] / edges[nearest])
    return EventAxis(like.label, np.array(bounds), like.unit, like.scale)


def bins_of_source(energy_edges: NDArray[Any], low: float, high: float) -> slice:
    """The energy bins of a consumer that together are the source range.

    Parameters
    ----------
    energy_edges : ndarray, shape (n_em + 1,), keV
    low, high : float, keV

    Raises
    ------
    TemplateError
        If the range cuts through bins, or lies outside; names the nearest.
    """
    edges = check_edges(energy_edges)
    slack = EDGE_TOLERANCE * np.diff(edges)
    first = np.flatnonzero(np.abs(edges[:-1] - low) <= slack)
    last = np.flatnonzero(np.abs(edges[1:] - high) <= slack)
    if not (first.size and last.size):
        overlap = np.flatnonzero((edges[:-1] < high) & (edges[1:] > low))
        if overlap.size == 0:
            overlap = np.array([0 if high <= edges[0] else edges.size - 2])
        bins = ", ".join(f"{edges[i]:.6g}-{edges[i + 1]:.6g}" for i in overlap[:3])
        raise TemplateError(
            f"The energy bins of the histogram given as like= cut the source range {low:g}-{high:g}"
            f" keV, which must begin and end on their edges; the nearest are {bins} keV. Make the "
            "template for whole bins, or bin the consumer's data alike."
        )
    return slice(int(first[0]), int(last[-1]) + 1)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The same array, which cannot be written to from now on."""
    array.flags.writeable = False
    return array
