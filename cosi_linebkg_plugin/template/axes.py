"""The axes of a template: the events' own or a consumer's, and counts that must lie on them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..histograms.axes import (
    ENERGY_LABEL,
    axis_difference,
    axis_in_kev,
    bins_of_source,
    edges_in,
    source_axis,
)
from ..histograms.axis import EventAxes, EventAxis
from ..histograms.read import EventHistogram, bins_of_range, open_events
from ..spectrum.axis import EDGE_TOLERANCE, check_inside
from ..units import in_kev
from .options import checked_bins

if TYPE_CHECKING:
    from histpy import Histogram

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Place:
    """Where sums of slices go on a template's axes.

    Attributes
    ----------
    edges : ndarray, shape (n_bins + 1,), keV
        Of the template's energy bins in the source range.
    axes : EventAxes
        Of the template.
    energy_axis : int
        Which of the events' axes is the energy.
    order : tuple of int
        Where each of the template's axes is among the events'.
    coarser : mapping of int to ndarray of int
        By axis of the template, the first of the events' bins that each of its bins holds.
    inside : slice
        The bins of the source range on the template's energy axis.
    """

    edges: Array
    axes: EventAxes
    energy_axis: int
    order: tuple[int, ...]
    coarser: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    inside: slice = field(default_factory=lambda: slice(0, 1))

    def __call__(self, sums: Array) -> Array:
        """Bring a sum of slices onto the template's axes; an array of their shape.

        Parameters
        ----------
        sums : ndarray, of the shape of the events' other axes
            Of the one energy bin.
        """
        if self.is_view:
            return np.moveaxis(sums[None], 0, self.energy_axis)
        contents = np.zeros(self.axes.shape)
        self.put(contents, 0, sums)
        return contents

    @property
    def source_range(self) -> tuple[float, float]:
        """(low, high), keV."""
        return float(self.edges[0]), float(self.edges[-1])

    @property
    def is_view(self) -> bool:
        """Whether the sums of all energy bins are the template's array but for its axes' order."""
        em = self.order.index(self.energy_axis)
        in_order = self.order == tuple(range(len(self.order)))
        whole = self.axes[em].nbins == self.edges.size - 1
        return in_order and whole and not self.coarser

    def all_of(self, slices: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What is so of all slices of the events that one of the template holds.

        Parameters
        ----------
        slices : ndarray of bool, of the shape of the events' other axes, or 1 along some

        Returns
        -------
        ndarray of bool, of the template's other axes, or 1 along some
        """
        part = np.expand_dims(slices, self.energy_axis).transpose(self.order)
        for axis, starts in self.coarser.items():
            if part.shape[axis] > 1:
                part = np.logical_and.reduceat(part, starts, axis=axis)
        return np.asarray(part.take(0, axis=self.order.index(self.energy_axis)))

    def put(self, contents: NDArray[Any], number: int, sums: Array) -> None:
        """Put the sum of one energy bin into an array on the template's axes."""
        em = self.order.index(self.energy_axis)
        part = np.expand_dims(sums, self.energy_axis).transpose(self.order)
        for axis, starts in self.coarser.items():
            part = np.add.reduceat(part, starts, axis=axis)
        np.moveaxis(contents, em, 0)[self.inside.start + number] = part.take(0, axis=em)


def target_axes(
    events: EventHistogram, low: float, high: float, like: Any, edges: Sequence[float] | None = None
) -> Place:
    """The axes of a template, and what brings sums of slices onto them.

    Parameters
    ----------
    low, high : float, keV
        The source range.
    like : histpy.Histogram, path or None
        Whose axes to take over; default: the events' own, Em replaced by `edges`.
    edges : sequence of float, keV, optional
        Of the energy bins, from `low` to `high`; default: one bin.

    Raises
    ------
    TemplateError
        If `like` differs from the events in more than the order of axes, Em and coarser Phi bins,
        or the energy bins are not those of the source range.
    """
    k = events.energy_axis_index
    own = list(events.axes)
    if like is None:
        bins = np.array([low, high]) if edges is None else _bins_in_range(edges, low, high)
        own[k] = source_axis(own[k], *bins.tolist())
        order = tuple(range(len(own)))
        return Place(bins, EventAxes(tuple(own)), k, order, inside=slice(0, bins.size - 1))
    target = open_events(like)
    names = [str(a.label) for a in target.axes]
    if sorted(names) != sorted(str(a.label) for a in own):
        raise TemplateError(
            f"The histogram given as like= has the axes {', '.join(names)}, the events have "
            f"{', '.join(str(a.label) for a in own)}; they must be the same, in any order."
        )
    order = tuple([str(a.label) for a in own].index(name) for name in names)
    coarser: dict[int, Any] = {}
    for j, (axis, i) in enumerate(zip(target.axes, order, strict=True)):
        if i != k:
            difference = axis_difference(own[i], axis)
            if difference and axis.label == "Phi":
                coarser[j] = _bins_of_coarser(own[i], axis)
            if difference and coarser.get(j) is None:
                raise TemplateError(
                    f"Axis {axis.label} of the histogram given as like= differs from the "
                    f"events': {difference}. Bin both alike."
                )
    found = axis_in_kev(target.axes[target.energy_axis_index])
    inside = bins_of_source(found, low, high)
    bins = checked_bins(found[inside.start : inside.stop + 1].copy(), "like=")
    bins[[0, -1]] = low, high
    return Place(bins, target.axes, k, order, coarser, inside)


def _bins_in_range(edges: Sequence[float], low: float, high: float) -> Array:
    """Edges of energy bins from one end of the source range to the other."""
    bins = np.array(edges, dtype=float)
    slack = EDGE_TOLERANCE * np.diff(bins).min()
    if abs(bins[0] - low) > slack or abs(bins[-1] - high) > slack:
        outside = bins[0] < low - slack or bins[-1] > high + slack
        raise TemplateError(
            f"energy_edges= runs from {bins[0]:.10g} to {bins[-1]:.10g} keV and "
            f"{'reaches outside' if outside else 'leaves out a part of'} the source range "
            f"{low:.10g}-{high:.10g} keV. It must begin and end with it: correct the edges, or the "
            "source range."
        )
    bins[[0, -1]] = low, high
    return bins


def _bins_of_coarser(own: EventAxis, coarse: EventAxis) -> NDArray[np.int64] | None:
    """First own bin of each coarser Phi bin; None if the edges are not among the own ones."""
    fine, wanted = phi_degrees(own), phi_degrees(coarse)
    slack = EDGE_TOLERANCE * np.diff(fine).min()
    nearest: NDArray[np.int64] = np.searchsorted(fine, wanted - slack)
    inside = nearest < fine.size
    if not inside.all() or np.any(np.abs(fine[nearest] - wanted) > slack):
        return None
    if nearest[0] != 0 or nearest[-1] != fine.size - 1:
        return None
    return np.asarray(nearest[:-1])


def phi_degrees(axis: EventAxis) -> Array:
    """Edges of a Phi axis in degrees; without unit they are degrees."""
    try:
        return np.array(edges_in(axis, "deg"), float)
    except (TypeError, ValueError):
        raise TemplateError(
            f"The Phi edges must be angles, a quantity or numbers in deg, got {axis.unit}."
        ) from None


def partial_sky(axis: EventAxis) -> str | None:
    """Why what needs the whole sphere does not work on a PsiChi axis; None if it covers it."""
    if axis.nside is None:
        return f"a plain axis of {axis.nbins} bins, of which it is not known where they lie"
    whole = 12 * axis.nside**2
    if axis.nbins == whole:
        return None
    return f"{axis.nbins} of the {whole} pixels of nside {axis.nside}"


def observed_counts(events: EventHistogram, source_range: Sequence[Any]) -> Histogram:
    """The events of a source range on edges of the energy axis, as a dense histpy.Histogram.

    See `LineBackgroundLike.observed_counts`.
    """
    from ..histograms.write import make_histogram

    low, high = check_inside(events.energy_edges, *in_kev(source_range, "source range"))
    inside = bins_of_range(events, low, high, "choose a source range on bin edges")
    place = target_axes(events, low, high, None)
    sums, _ = events.weighted_sums(inside.astype(float), variances=False)
    return make_histogram(place.axes, place(sums[0]))


def counts_on_axes(
    source: Any, axes: EventAxes, what: str, source_range: tuple[float, float]
) -> Array:
    """The contents of a histogram that must have these axes, shape of the axes, counts.

    Parameters
    ----------
    source : histpy.Histogram, path or EventHistogram
        May have the events' whole energy axis, where the source range lies on its edges.
    what : str
        Names it in messages.
    """
    events = open_events(source)
    rows = require_axes(events, axes, what, source_range)
    slices, _ = events.weighted_sums(rows, variances=False)
    return np.moveaxis(slices, 0, events.energy_axis_index)


def require_axes(
    events: EventHistogram, axes: EventAxes, what: str, source_range: tuple[float, float]
) -> Array:
    """Refuse a histogram whose axes are not these; it may have the events' whole energy axis.

    Returns
    -------
    ndarray, shape (n_em of the axes, n_em of the events)
        Which of its energy bins go into which of the axes'.
    """
    if list(events.labels) != list(axes.labels):
        raise TemplateError(
            f"The {what} histogram has the axes {', '.join(map(str, events.labels))}, the "
            f"template {', '.join(str(a.label) for a in axes)}; they must be the same, in this "
            "order. Project one of them onto the axes of the other."
        )
    edges, n_em = axis_in_kev(axes[ENERGY_LABEL]), events.energy_edges.size - 1
    inside = slice(*(int(np.argmin(np.abs(edges - energy))) for energy in source_range))
    several = inside.stop - inside.start > 1
    em = axis_difference(axes[ENERGY_LABEL], events.axes[events.energy_axis_index])
    summed = n_em > 1 and (edges.size == 2 or (several and em is not None))
    for own, other in zip(axes, events.axes, strict=True):
        if own.label == other.label == ENERGY_LABEL and summed:
            continue
        difference = axis_difference(own, other)
        if difference:
            raise TemplateError(
                f"The {what} histogram differs from the template in the axis {own.label}: "
                f"{difference}."
            )
    if not summed:
        return np.eye(n_em)
    cure = f"give the {what} counts of the source range alone"
    if several:
        cure = f"give the {what} counts in the template's own energy bins"
    rows = np.zeros((edges.size - 1, n_em))
    rows[inside] = rows_of_bins(events, edges[inside.start : inside.stop + 1], cure)
    return rows


def rows_of_bins(events: EventHistogram, bins: Array, cure: str) -> Array:
    """Which of a histogram's energy bins go into each of the template's, shape (n_bins, n_em).

    Parameters
    ----------
    bins : ndarray, shape (n_bins + 1,), keV
    cure : str
        Ends the message where a bin cuts through the histogram's.
    """
    what = "source range" if bins.size == 2 else "template's energy bin"
    pairs = itertools.pairwise(bins.tolist())
    return np.array([bins_of_range(events, a, b, cure, what) for a, b in pairs], dtype=float)


def axis_position(axes: EventAxes, axis: str) -> int:
    """Where a template has the axis of this label."""
    if axis not in axes.labels:
        raise TemplateError(
            f"The template has no axis {axis!r}; it has {', '.join(map(str, axes.labels))}."
        )
    return axes.labels.index(axis)
