"""The axes of a histogram as numbers and names, and the same as histpy's objects.

Reading and writing histograms needs no more of an axis than what its file says. histpy takes a
second to import: its objects are made when somebody asks for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import histpy

#: The kinds of axes that are held as numbers; others, of times, stay histpy's.
PLAIN, HEALPIX = "Axis", "HealpixAxis"


@dataclass(frozen=True, eq=False)
class EventAxis:
    """One axis of a histogram.

    Attributes
    ----------
    label : str or None
    edges : ndarray, shape (nbins + 1,), read-only
        In `unit`; pixel numbers of a HealpixAxis; s since the first edge for an axis of times.
    unit : str or None
        As astropy writes it.
    scale : str
        "linear", "symmetric" or "log": where histpy sees the centres of its bins.
    kind : str
        Name of its class in histpy: "Axis", "HealpixAxis", "TimeAxis" or "TimeDeltaAxis".
    nside : int or None
    scheme : str or None
        "RING" or "NESTED".
    frame : str or None
        Name of the frame of its directions: "galactic", "spacecraftframe" ...
    original : histpy.Axis or None
        What it was made from, if that is in memory.
    """

    label: str | None
    edges: NDArray[Any]
    unit: str | None = None
    scale: str = "linear"
    kind: str = PLAIN
    nside: int | None = None
    scheme: str | None = None
    frame: str | None = None
    original: histpy.Axis | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        edges = np.asarray(self.edges).view()
        edges.flags.writeable = False
        object.__setattr__(self, "edges", edges)

    @property
    def nbins(self) -> int:
        """How many bins it has."""
        return self.edges.size - 1

    @property
    def is_plain(self) -> bool:
        """False for what only histpy can hold and write: times, and classes made from its own."""
        if self.original is None:
            return True
        return self.kind in (PLAIN, HEALPIX) and type(self.original).__module__.startswith(
            "histpy."
        )

    @classmethod
    def of_directions(cls, nside: int, scheme: str, frame: str) -> EventAxis:
        """PsiChi: all pixels of the sphere, in the order of `scheme`."""
        pixels = np.arange(12 * nside**2 + 1)
        return cls("PsiChi", pixels, kind=HEALPIX, nside=nside, scheme=scheme, frame=frame)

    @classmethod
    def from_histpy(cls, axis: histpy.Axis) -> EventAxis:
        """What a histpy axis says of itself; it is kept, and given back by `to_histpy`."""
        edges, unit = axis.edges, axis.unit
        if hasattr(edges, "jd1"):  # astropy times
            edges, unit = (edges - edges[0]).to_value("s"), "s"
        elif hasattr(edges, "unit"):
            edges = edges.value
        frame = getattr(getattr(axis, "coordsys", None), "name", None)
        nside = getattr(axis, "nside", None)
        return cls(
            axis.label,
            np.array(edges),
            None if unit is None else str(unit),
            axis.axis_scale,
            type(axis).__name__,
            None if nside is None else int(nside),
            getattr(axis, "scheme", None),
            None if frame is None else str(frame),
            axis,
        )

    def to_histpy(self) -> histpy.Axis:
        """The same as a histpy axis."""
        if self.original is not None:
            return self.original
        histpy = load_histpy()
        if self.kind == HEALPIX:
            return histpy.HealpixAxis(
                nside=self.nside,
                scheme=self.scheme,
                edges=self.edges,
                coordsys=self.frame,
                label=self.label,
                scale=self.scale,
            )
        import astropy.units as u

        values = self.edges if self.unit is None else self.edges * u.Unit(self.unit)
        return histpy.Axis(values, label=self.label, scale=self.scale)


@dataclass(frozen=True, eq=False)
class EventAxes:
    """The axes of a histogram, found by number or label.

    Raises
    ------
    ValueError
        If two have one label.
    """

    axes: tuple[EventAxis, ...]

    def __post_init__(self) -> None:
        labels = [axis.label for axis in self.axes if axis.label is not None]
        if len(set(labels)) < len(labels):
            raise ValueError(f"two axes have one label: {', '.join(labels)}")

    def __iter__(self) -> Iterator[EventAxis]:
        return iter(self.axes)

    def __len__(self) -> int:
        return len(self.axes)

    def __getitem__(self, key: int | str) -> EventAxis:
        return self.axes[self.labels.index(key) if isinstance(key, str) else key]

    @property
    def labels(self) -> tuple[str | None, ...]:
        """The names of the axes."""
        return tuple(axis.label for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The bins of each."""
        return tuple(axis.nbins for axis in self.axes)

    @cached_property
    def histpy(self) -> histpy.Axes:
        """The same as histpy's."""
        return load_histpy().Axes([axis.to_histpy() for axis in self.axes])


def event_axes(axes: EventAxes | Iterable[Any]) -> EventAxes:
    """Axes of histpy, or a mixed list of histpy's and ours, as `EventAxes`."""
    return axes if isinstance(axes, EventAxes) else EventAxes(tuple(map(event_axis, axes)))


def event_axis(axis: Any) -> EventAxis:
    """One axis of histpy or ours, as an `EventAxis`."""
    return axis if isinstance(axis, EventAxis) else EventAxis.from_histpy(axis)


def load_histpy() -> ModuleType:
    """histpy, imported on use, with the spacecraft frame that its files name."""
    import histpy
    import scoords  # noqa: F401  # registers the spacecraft frame, which files name

    return cast(ModuleType, histpy)
