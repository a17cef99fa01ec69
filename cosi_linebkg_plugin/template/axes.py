"""The axes of a template: the events' own or a consumer's, and counts that must lie on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..histograms.axes import (
    ENERGY_LABEL,
    axis_difference,
    axis_in_kev,
    edges_in,
    embed,
    source_axis,
)
from ..histograms.axis import EventAxes, EventAxis
from ..histograms.read import EventHistogram, bins_of_range, open_events
from ..spectrum.axis import EDGE_TOLERANCE, check_inside
from ..units import in_kev

if TYPE_CHECKING:
    from histpy import Histogram

Array = NDArray[np.float64]

#: Brings a sum of slices, of the shape of the events' other axes, onto the template's axes.
Place = Callable[[Array], Array]


def target_axes(
    events: EventHistogram, low: float, high: float, like: Any
) -> tuple[EventAxes, Place]:
    """The axes of a template, and what brings a sum of slices onto them.

    Parameters
    ----------
    low, high : float, keV
        The source range.
    like : histpy.Histogram, path or None
        Whose axes to take over; default: the events' own, Em replaced by one bin.

    Raises
    ------
    TemplateError
        If `like` differs from the events in more than the order of axes, Em and coarser Phi bins.
    """
    k = events.energy_axis_index
    own = list(events.axes)
    if like is None:
        own[k] = source_axis(own[k], low, high)
        return EventAxes(tuple(own)), lambda sums: np.expand_dims(sums, k)
    target = open_events(like)
    names = [str(a.label) for a in target.axes]
    if sorted(names) != sorted(str(a.label) for a in own):
        raise TemplateError(
            f"The histogram given as like= has the axes {', '.join(names)}, the events have "
            f"{', '.join(str(a.label) for a in own)}; they must be the same, in any order."
        )
    order = [[str(a.label) for a in own].index(name) for name in names]
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
    em = target.energy_axis_index
    edges = axis_in_kev(target.axes[em])
    # refused before any work if no bin of it is the source range
    embed(np.zeros([1] * len(names)), em, edges, low, high)

    def place(sums: Array) -> Array:
        contents = np.expand_dims(sums, k).transpose(order)
        for j, starts in coarser.items():
            contents = np.add.reduceat(contents, starts, axis=j)
        return embed(contents, em, edges, low, high)

    return target.axes, place


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
    axes, place = target_axes(events, low, high, None)
    sums, _ = events.weighted_sums(inside.astype(float), variances=False)
    return make_histogram(axes, place(sums[0]))


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
    if len(events.axes) != len(axes):
        raise TemplateError(
            f"The {what} histogram has the axes {', '.join(map(str, events.labels))}, the "
            f"template {', '.join(str(a.label) for a in axes)}; they must be the same."
        )
    n_em = events.energy_edges.size - 1
    whole = axes[ENERGY_LABEL].nbins == 1 and n_em > 1
    for own, other in zip(axes, events.axes, strict=True):
        if own.label == other.label == ENERGY_LABEL and whole:
            continue
        difference = axis_difference(own, other)
        if difference:
            raise TemplateError(
                f"The {what} histogram differs from the template in the axis {own.label}: "
                f"{difference}."
            )
    if not whole:
        return np.eye(n_em)
    cure = f"give the {what} counts of the source range alone"
    return bins_of_range(events, *source_range, cure)[None].astype(float)
