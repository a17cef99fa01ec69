"""How events are binned and selected: the options, checked and in numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BinningError, DataError
from ..histograms.axis import EventAxes, EventAxis
from ..histograms.orientation import (
    Livetime,
    Orientation,
    Pointing,
    read_orientation,
)
from ..io.guard import require_memory, shown
from ..options import options_of
from ..spectrum.axis import MOST_BINS, check_edges, spaced_edges
from ..units import array_in, in_unit
from .rules import GALACTIC, LOCAL, Binning, ColumnAxis, phi_axis
from .selections import Range, Selections, checked_range, good_times, within

if TYPE_CHECKING:
    from .options import BinningOptions

#: How far edges that are given by a width may miss the end of their range, in widths.
_MISS = 1e-6


@dataclass(frozen=True)
class BinningPlan:
    """The options of a binning in numbers; refuses those that cannot be.

    Attributes
    ----------
    given : BinningOptions
    """

    given: BinningOptions

    @cached_property
    def binning(self) -> Binning:
        """The same, checked and in numbers."""
        nside = self.given.nside
        is_whole = isinstance(nside, int | np.integer) and not isinstance(nside, bool)
        if not is_whole or not 1 <= nside <= 8192 or nside & (nside - 1):
            raise BinningError(f"nside must be a power of 2 from 1 to 8192, got {shown(nside)}.")
        scheme, frame = self._chosen("scheme"), self._chosen("frame")
        require_memory(
            8.0 * 3 * 12 * int(nside) ** 2,
            f"A PsiChi axis of nside {nside}",
            "Use a smaller nside.",
        )
        first = self._first_axis
        energy = ColumnAxis("Em", "Energies", 1.0, self._energy_edges)
        axes = (*([first] if first else []), energy, phi_axis(self._phi_edges))
        binning = Binning(axes, int(nside), scheme == "nested", frame, self._selections)
        if binning.n_cells >= 1 << 62:
            raise BinningError(
                f"{' x '.join(map(str, binning.shape))} bins are more than 2^62 cells; use fewer."
            )
        return binning

    def _chosen(self, name: str) -> str:
        """The word that an option is, in lower case."""
        given = getattr(self.given, name)
        choices = options_of(type(self.given))[name].choices
        if str(given).lower() not in choices:
            hint = f"; the frame of the local angles is {LOCAL!r}" if name == "frame" else ""
            raise BinningError(
                f"{name} must be one of {', '.join(choices)}, got {shown(given)}{hint}."
            )
        return str(given).lower()

    @property
    def _energy_edges(self) -> NDArray[np.float64]:
        edges = self.given.energy_edges
        if isinstance(edges, str):
            return check_edges(spaced_edges(edges))
        return check_edges(_numbers(edges, "keV", "energy_edges"))

    @property
    def _phi_edges(self) -> NDArray[np.float64]:
        if (self.given.phi_edges is None) == (self.given.phi_pix_size is None):
            raise BinningError("Give either phi_edges or phi_pix_size, in deg.")
        if self.given.phi_edges is not None:
            edges = _edges(self.given.phi_edges, "deg", "phi_edges")
            if edges[0] < 0 or edges[-1] > 180:
                raise BinningError(
                    f"phi_edges must lie in 0-180 deg, got {edges[0]:g}-{edges[-1]:g}."
                )
            return edges
        size = _number(self.given.phi_pix_size, "deg", "phi_pix_size")
        if not 0 < size <= 180:
            raise BinningError(f"phi_pix_size must be above 0 and at most 180 deg, got {size:g}.")
        return np.linspace(0, 180, int(_few(180.0 / size, "phi_pix_size")) + 1)

    @cached_property
    def _time_limits(self) -> tuple[float | None, float | None]:
        low, high = (
            None if t is None else _number(t, "s", name)
            for t, name in ((self.given.tmin, "tmin"), (self.given.tmax, "tmax"))
        )
        if low is not None and high is not None and not low < high:
            raise BinningError(f"tmin must be below tmax, got {low:.10g} and {high:.10g} s.")
        return low, high

    @property
    def _first_axis(self) -> ColumnAxis | None:
        """The axis before Em: Time, ScAtt, or none."""
        chosen = [
            name
            for name in ("time_edges", "time_bins", "scatt_bins")
            if getattr(self.given, name) is not None
        ]
        if len(chosen) > 1:
            raise BinningError(f"Give only one of {', '.join(chosen)}: there is one first axis.")
        if not chosen:
            return None
        if chosen == ["scatt_bins"]:
            n = self.given.scatt_bins
            if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
                raise BinningError(f"scatt_bins must be a whole number above 0, got {shown(n)}.")
            _few(n, "scatt_bins")
            return ColumnAxis("ScAtt", self.given.scatt_column, 1.0, np.arange(n + 1.0))
        return ColumnAxis("Time", "TimeTags", 1.0, self._edges_of_time)

    @property
    def _edges_of_time(self) -> NDArray[np.float64]:
        low, high = self._time_limits
        given = self.given.time_bins if self.given.time_edges is None else self.given.time_edges
        if self.given.time_edges is not None or np.ndim(getattr(given, "value", given)) > 0:
            edges = _edges(given, "s", "time_edges")
            if (low is not None and low < edges[0]) or (high is not None and high > edges[-1]):
                raise BinningError(
                    f"The time edges {edges[0]:.10g} to {edges[-1]:.10g} s do not cover tmin and "
                    "tmax; leave these out, or give edges that do."
                )
            return edges
        if low is None or high is None:
            raise BinningError("time_bins, the width of a time bin, needs tmin and tmax.")
        width = _number(given, "s", "time_bins")
        n_bins = round(_few((high - low) / width, "time_bins")) if width > 0 else 0
        if n_bins < 1:
            raise BinningError(
                f"time_bins must be a width [s] up to tmax - tmin = {high - low:g}, got {width:g}."
            )
        return np.linspace(low, high, n_bins + 1)

    @cached_property
    def _orientation(self) -> Orientation | None:
        return None if self.given.orientation is None else read_orientation(self.given.orientation)

    @property
    def _selections(self) -> Selections:
        times = None if self.given.good_times is None else good_times(self.given.good_times)
        return Selections(
            energy=checked_range(self.given.energy_range, "energy_range", "keV"),
            phi=checked_range(self.given.phi_range, "phi_range", "deg"),
            distance=checked_range(self.given.distance_range, "distance_range", "cm"),
            time=self._time_selection,
            good_times=times,
            pointing=_pointing(self.given.pointing),
        )

    @property
    def _time_selection(self) -> Range | None:
        """The range of times where no Time axis sets it, or where it is narrower than the axis.

        With an orientation file its range is the limit: a livetime is that of a known time.
        """
        low, high = self._time_limits
        first = self._first_axis
        if first is not None and first.label == "Time":
            edges = first.edges
            low = edges[0] if low is None else low
            high = edges[-1] if high is None else high
            cut = low > edges[0] or high < edges[-1]
            return (low, high) if cut else None
        if self._orientation is not None and self.given.good_times is None:
            low = float(self._orientation.times[0]) if low is None else low
            high = float(self._orientation.times[-1]) if high is None else high
        if low is None and high is None:
            return None
        return (-math.inf if low is None else low, math.inf if high is None else high)

    @cached_property
    def intervals(self) -> NDArray[np.float64] | None:
        """The times that are selected, shape (n, 2), s; None if nothing limits them."""
        low, high = self.binning.selections.time or (-math.inf, math.inf)
        first = self.binning.axes[0]
        if first.label == "Time":
            low, high = max(low, first.edges[0]), min(high, first.edges[-1])
        chosen = self.binning.selections.good_times
        if chosen is None:
            return np.array([[low, high]]) if math.isfinite(high - low) else None
        chosen = within(chosen, low, high)
        if len(chosen) == 0:
            raise DataError(
                f"No good time lies between {low:.10g} and {high:.10g} s, the times that are "
                "binned; times are Unix times in s."
            )
        return chosen

    @cached_property
    def livetime(self) -> Livetime | None:
        """From the orientation file, for the selected times."""
        if self._orientation is None or self.intervals is None:
            return None
        livetime = self._orientation.livetime(self.intervals, self.binning.selections.pointing)
        if not livetime.seconds > 0:
            raise DataError(
                f"{self.given.orientation} has no livetime in the selected times; select others."
            )
        return livetime

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Where the bins differ from what was asked for, as they do in cosipy."""
        notes = []
        if self.given.phi_pix_size is not None:
            size = _number(self.given.phi_pix_size, "deg", "phi_pix_size")
            n = self._phi_edges.size - 1
            if abs(180 / n - size) > _MISS * size:
                notes.append(
                    f"phi_pix_size {size:g} deg does not divide 180: bins are {180 / n:g} deg"
                )
        first = self._first_axis
        if (
            first is not None
            and self.given.time_bins is not None
            and np.ndim(self.given.time_bins) == 0
        ):
            asked = _number(self.given.time_bins, "s", "time_bins")
            width = float(first.edges[1] - first.edges[0])
            if abs(width - asked) > _MISS * asked:
                notes.append(
                    f"time_bins {asked:g} s does not divide tmax - tmin: bins are {width:g} s"
                )
        return tuple(notes)

    def axes(self) -> EventAxes:
        """As cosipy makes them: [Time or ScAtt,] Em, Phi, PsiChi."""
        units = {"Time": "s", "Em": "keV", "Phi": "deg"}
        axes = [
            EventAxis(axis.label, axis.edges, units[axis.label])
            if axis.label in units
            else EventAxis(axis.label, axis.edges.astype(int))
            for axis in self.binning.axes
        ]
        frame = "galactic" if self.binning.frame == GALACTIC else "spacecraftframe"
        scheme = "NESTED" if self.binning.nest else "RING"
        axes.append(EventAxis.of_directions(self.binning.nside, scheme, frame))
        return EventAxes(tuple(axes))


# --- values of options ---------------------------------------------------------------------------


def _numbers(values: Any, unit: str, name: str) -> NDArray[np.float64]:
    """Values as floats in this unit, from numbers, a Quantity, or an astropy Time."""
    if hasattr(values, "unix"):
        return np.asarray(values.unix, float)
    return array_in(values, unit, name)


def _number(value: Any, unit: str, name: str) -> float:
    number = _numbers(value, unit, name)
    if number.ndim or not np.isfinite(number):
        raise BinningError(f"{name} must be a number in {unit}, got {shown(value)}.")
    return float(number)


def _edges(values: Any, unit: str, name: str) -> NDArray[np.float64]:
    edges = _numbers(values, unit, name)
    if edges.ndim != 1 or edges.size < 2 or not np.isfinite(edges).all():
        raise BinningError(f"{name} must be two or more numbers in {unit}, got {shown(values)}.")
    wrong = np.flatnonzero(np.diff(edges) <= 0)
    if wrong.size:
        i = wrong[0]
        raise BinningError(
            f"{name} must increase, but edge {i + 1} is {edges[i + 1]:.10g} after {edges[i]:.10g}."
        )
    return edges


def _few(n: float, name: str) -> float:
    """A number of bins of one axis, if it is not more than can be of use."""
    if not n <= MOST_BINS:
        raise BinningError(f"{name} makes {n:.3g} bins, at most {MOST_BINS}; make them wider.")
    return n


def _pointing(value: Any) -> Pointing | None:
    if value is None:
        return None
    try:
        longitude, latitude, radius = (in_unit(x, "deg", "pointing") for x in value)
    except (TypeError, ValueError) as error:
        raise BinningError(
            f"pointing must be (l, b, radius) in deg, got {shown(value)}."
        ) from error
    if not (abs(longitude) <= 360 and abs(latitude) <= 90 and 0 < radius <= 180):
        raise BinningError(
            f"pointing must be (l, b, radius) in deg with b from -90 to 90 and a radius from 0 to "
            f"180, got {shown(value)}."
        )
    return Pointing(longitude, latitude, radius)
