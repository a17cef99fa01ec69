"""The background file of cosipy's program cosi-threemlfit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..histograms.axes import ENERGY_LABEL, axis_in_kev
from ..histograms.axis import EventAxes, EventAxis, event_axes
from ..histograms.write import make_histogram
from ..spectrum.axis import EDGE_TOLERANCE
from ..units import factor, in_unit
from .cells import COMPTON_AXES, ConsumerCells, axis_order

if TYPE_CHECKING:
    from histpy import Axes, Histogram

    from ..template.template import BackgroundTemplate

_TIME = "Time"


def threemlfit_background(
    template: BackgroundTemplate, time_range: Sequence[Any] | None = None
) -> Histogram:
    """The sum of the components with a Time axis, as cosi-threemlfit reads it.

    The program cuts the orientation to the Time axis for the background's livetime, and fits one
    rate between 0 and 20 Hz to data and response of the same energies: the whole Em axis of the
    response, so that the source range must be all of it.

    Parameters
    ----------
    template : BackgroundTemplate
    time_range : (start, stop), optional
        Of the events, Unix seconds, or quantities: one bin of Time. Default: the template's own
        Time axis, with all its bins.

    Returns
    -------
    histpy.Histogram
        Expected counts on Time [s], Em, Phi, PsiChi.

    Raises
    ------
    TemplateError
        As of `program_axes`, or if a cell has no expectation.
    """
    time, order = program_axes(template.event_axes, template.source_range, time_range)
    cells = ConsumerCells.of(template, None, "raise", order)
    total = cells.sum(cells.counts / cells.units)
    axes = [time, *(cells.axes[label] for label in COMPTON_AXES)]
    return make_histogram(axes, total.reshape([axis.nbins for axis in axes]))


def program_axes(
    axes: Axes | EventAxes, source_range: Sequence[float], time_range: Sequence[Any] | None = None
) -> tuple[EventAxis, tuple[str, ...]]:
    """The Time axis [s] of the program's background, and the template's axes that it is made of.

    Parameters
    ----------
    axes : EventAxes or histpy.Axes
        Of a template, which need not be made yet.
    source_range : (low, high), keV
    time_range : (start, stop), optional
        As of `threemlfit_background`.

    Raises
    ------
    TemplateError
        If the times are not known, axes are missing, or there are others; if the Em axis has
        energies outside the source range.
    """
    axes = event_axes(axes)
    own = axes[_TIME] if _TIME in axes.labels else None
    order: tuple[str, ...] = COMPTON_AXES
    if time_range is not None:
        start, stop = _two_times(time_range)
        if not (np.isfinite([start, stop]).all() and start < stop):
            raise TemplateError(f"The time range must increase, got {start:g} to {stop:g} s.")
        if own is not None and own.nbins > 1:
            raise TemplateError(
                f"The template has {own.nbins} bins of Time of its own; leave out the time range."
            )
        edges = np.array([start, stop])
    elif own is None:
        raise TemplateError(
            "cosi-threemlfit reads a background with a Time axis, which the template does not "
            "have; give the time range (start, stop) of its events, Unix times in s."
        )
    else:
        edges, order = _unix_edges(own), (_TIME, *COMPTON_AXES)
    axis_order(axes, order)
    low, high = source_range
    em = axis_in_kev(axes[ENERGY_LABEL])
    room = EDGE_TOLERANCE * np.diff(em).min()
    if em[0] < low - room or em[-1] > high + room:
        raise TemplateError(
            f"cosi-threemlfit uses the whole energy axis, {em[0]:g}-{em[-1]:g} keV, but the "
            f"template is empty outside its source range {low:g}-{high:g} keV. Make them equal."
        )
    return EventAxis(_TIME, edges, "s"), order


def _two_times(time_range: Any) -> tuple[float, float]:
    """Start and stop [s]."""
    try:
        start, stop = time_range
    except (TypeError, ValueError):
        raise TemplateError(
            f"The time range must be (start, stop), two Unix times in s, got {time_range!r}."
        ) from None
    return in_unit(start, "s", "time", TemplateError), in_unit(stop, "s", "time", TemplateError)


def _unix_edges(axis: EventAxis) -> NDArray[np.float64]:
    """Edges of a Time axis as Unix times [s]."""
    times: Any = None if axis.original is None else axis.original.edges
    if hasattr(times, "unix"):  # astropy times
        return np.asarray(times.unix, dtype=np.float64)
    try:
        if not axis.unit or hasattr(times, "jd1"):  # differences of times
            raise ValueError
        return np.asarray(axis.edges, float) * factor(axis.unit, "s")
    except (TypeError, ValueError):  # astropy's
        raise TemplateError(
            f"The Time axis must hold Unix times with a unit, got {axis.kind} [{axis.unit}]: "
            "cosi-threemlfit cuts the orientation to it. Bin the events with time_edges or "
            "time_bins."
        ) from None
