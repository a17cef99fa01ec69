"""What is decided and opened before any event is summed: the plan of a template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BinningError, LineBackgroundError, TemplateError
from ..fit.result import LineBackgroundFit
from ..histograms.axes import axis_difference
from ..histograms.read import EventHistogram, open_events
from ..spectrum.axis import (
    EDGE_TOLERANCE,
    check_inside,
    check_range,
    overlapping_bins,
    whole_bins,
)
from ..units import in_kev, in_seconds
from .axes import Place, partial_sky, require_axes, rows_of_bins, target_axes
from .options import TemplateOptions

if TYPE_CHECKING:
    from ..histograms.axis import EventAxes

Array = NDArray[np.float64]

#: Half-width of the default energy window of `components` [keV]: near enough for the sharp
#: features to stay within their Phi bins, wide enough to hold lines (docs/validation.md).
DEFAULT_WINDOW = 80.0

#: Bins with this share of lines are left out with ``avoid_lines=``.
AVOIDED_SHARE = 0.05

#: Ends the message where one sky= is not enough.
SKY_OF_PARTS = (
    "give sky= as two histograms, on the events' axes and in the source range, or a source range "
    "on bin edges"
)


@dataclass(frozen=True, eq=False)
class TemplatePlan:
    """What a template is made from, checked, with its files opened; see `check_template`.

    Attributes
    ----------
    events : EventHistogram
    options : TemplateOptions
    low, high : float, keV
        The source range.
    selected : ndarray of bool, shape (n_em,)
        The energy bins that it is made from.
    place : Place
        Brings sums of slices onto the template's axes.
    livetime : float or None, s
    livetime_from : str
        "the events" if these told it.
    sky : EventHistogram or None
        Expected sky counts at unit norm, on the events' axes.
    sky_in_range : EventHistogram or None
        The same on the template's; None: the energy bins of `sky` in the source range.
    observed : EventHistogram or None
        Counts of the source range.
    """

    events: EventHistogram
    options: TemplateOptions
    low: float
    high: float
    selected: NDArray[np.bool_]
    place: Place
    livetime: float | None = None
    livetime_from: str = ""
    sky: EventHistogram | None = None
    sky_in_range: EventHistogram | None = None
    observed: EventHistogram | None = None

    @property
    def source_range(self) -> tuple[float, float]:
        """(low, high), keV."""
        return self.low, self.high

    @property
    def axes(self) -> EventAxes:
        """Of the template."""
        return self.place.axes

    @property
    def bins(self) -> Array:
        """Edges of the template's energy bins in the source range, shape (n_bins + 1,), keV."""
        return self.place.edges

    @property
    def n_bins(self) -> int:
        """How many they are."""
        return self.bins.size - 1

    @property
    def whole_bins(self) -> tuple[float, float] | None:
        """The energy bins of the events that the source range cuts through, whole [keV].

        None if it lies on their edges.
        """
        whole = self.edges[:-1][self.in_source][0], self.edges[1:][self.in_source][-1]
        slack = EDGE_TOLERANCE * np.diff(self.edges).min()
        cut = np.abs(np.subtract(whole, self.source_range)) > slack
        return (float(whole[0]), float(whole[1])) if cut.any() else None

    @property
    def middle(self) -> float:
        """Centre of the source range [keV]."""
        return 0.5 * (self.low + self.high)

    @property
    def edges(self) -> Array:
        """Of the events' energy bins, shape (n_em + 1,), keV."""
        return self.events.energy_edges

    @property
    def centers(self) -> Array:
        """Of the events' energy bins, shape (n_em,), keV."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def in_source(self) -> NDArray[np.bool_]:
        """True for the energy bins that overlap the source range, shape (n_em,)."""
        return overlapping_bins(self.edges, self.low, self.high)

    def for_fit(self, fit: LineBackgroundFit) -> TemplatePlan:
        """The plan for this fit's mask, after a look whether it is a fit of these events."""
        _check_same_data(self.events, fit)
        return self.with_options(self.options, fit)

    def with_options(self, options: TemplateOptions, fit: LineBackgroundFit) -> TemplatePlan:
        """The plan with another method or other energies, for a fit of its events."""
        used = fit.spectrum.used
        if options.avoid_lines and options.method != "components":
            lines = fit.component_spectra[list(fit.model.lines)].sum(axis=0)
            used = used & (lines < AVOIDED_SHARE * fit.expected)
        selected = _select_bins(self.edges, used, self.source_range, options)
        if options.reach is not None:
            selected &= _within(
                self.edges, fit.spectrum.mask | self.in_source, self.in_source, options.reach
            )
            if not selected.any():
                raise TemplateError(_nothing_left(f"within reach={options.reach:g} keV"))
        return replace(self, options=options, selected=selected)


def check_template(
    events: EventHistogram,
    used: NDArray[np.bool_],
    source_range: Sequence[Any],
    options: TemplateOptions,
) -> TemplatePlan:
    """Refuse what cannot be made, before there is a fit; what is left is what to make.

    Parameters
    ----------
    events : EventHistogram
    used : ndarray of bool, shape (n_em,)
        The unmasked bins.
    source_range : (low, high)
    options : TemplateOptions

    Returns
    -------
    TemplatePlan
        What `make_template` takes.

    Raises
    ------
    LineBackgroundError
        Naming what is wrong.
    """
    edges = events.energy_edges
    low, high = check_inside(edges, *in_kev(source_range, "source range"))
    selected = _select_bins(edges, used, (low, high), options)
    place = target_axes(events, low, high, options.like, options.energy_edges)
    _check_axes(events, options)
    if options.norms:
        _check_times(events, place)
    if options.lines:
        _check_same_axes(events, place)
    _check_enough(events, int(selected.sum()), options)
    livetime, livetime_from = _in_seconds(options.livetime), ""
    if livetime is None and events.livetime is not None:
        livetime, livetime_from = events.livetime.seconds, "the events"
    sky, sky_in_range = _open_sky(events, place, options.sky)
    observed = None if options.observed is None else open_events(options.observed)
    if observed is not None:
        require_axes(observed, place.axes, "observed", (low, high))
    return TemplatePlan(
        events,
        options,
        low,
        high,
        selected,
        place,
        livetime,
        livetime_from,
        sky,
        sky_in_range,
        observed,
    )


def plan_for_fit(
    events: EventHistogram,
    fit: LineBackgroundFit,
    source_range: Sequence[Any],
    options: TemplateOptions,
) -> TemplatePlan:
    """As `check_template`, where there is a fit of these events already; its mask is taken."""
    _check_same_data(events, fit)
    plan = check_template(events, fit.spectrum.used, source_range, options)
    return plan.with_options(options, fit)


def _check_axes(events: EventHistogram, options: TemplateOptions) -> None:
    """Refuse what works on an axis that the events do not have."""
    axes = ", ".join(map(str, events.labels))
    if "PsiChi" not in events.labels:
        spatial = options.smoothing or options.smoothing_fwhm or options.l_cut is not None
        if spatial or options.filter.rebin_phi is not None:
            raise TemplateError(
                f"{'Smoothing' if spatial else 'rebin_phi='} works on PsiChi, which the events do "
                f"not have; their axes are {axes}."
            )
    else:
        spatial = options.smoothing_fwhm or options.l_cut is not None
        reason = partial_sky(events.axes["PsiChi"])
        if spatial and reason:
            raise TemplateError(
                "smoothing_fwhm= and l_cut= need the whole sphere, but PsiChi of the events is "
                f"{reason}. Leave them out; rebin_phi= and pool= work on any PsiChi."
            )
        if options.l_cut is not None and not reason:
            _check_l_cut(events.axes["PsiChi"], options.l_cut)
    times = [name for name in ("Time", "ScAtt") if name in events.labels]
    if options.pool is not None and len(times) != 1:
        raise TemplateError(
            "pool= groups the bins of a Time or of a ScAtt axis; the events have "
            f"{' and '.join(times) or 'neither'}."
        )
    if options.shift and "Phi" not in events.labels:
        raise TemplateError(
            f"shift= moves features along Phi, which the events do not have; their axes are {axes}."
        )


def _check_times(events: EventHistogram, place: Place) -> None:
    """Refuse amounts per time bin where there are no such bins."""
    if "Time" not in events.labels:
        raise TemplateError(
            "norms='per_time' needs a Time axis, which the events do not have; their axes are "
            f"{', '.join(map(str, events.labels))}. Bin them with one, or leave norms= out."
        )
    if events.axes["Time"].nbins < 2:
        raise TemplateError(
            "norms='per_time' needs two or more bins of Time, but the events have 1; bin them "
            "finer, or leave norms= out."
        )
    if place.edges.size > 2:
        raise TemplateError(
            "norms='per_time' gives amounts for the whole source range, but the template would "
            f"have {place.edges.size - 1} energy bins there; leave out energy_edges= (or give "
            "like= with one bin), or leave norms= out."
        )


def _check_same_axes(events: EventHistogram, place: Place) -> None:
    """Refuse to compare the distributions of lines along axes that there are not."""
    own = [a for a in events.other_axes if a.label == "Phi" or (a.label == "PsiChi" and a.nside)]
    if not own:
        raise TemplateError(
            "lines='spread' compares lines along Phi and along a PsiChi of the whole sphere; the "
            f"events have neither, their axes are {', '.join(map(str, events.labels))}."
        )
    for axis in own:
        difference = axis_difference(axis, place.axes[str(axis.label)])
        if difference:
            raise TemplateError(
                f"lines='spread' needs the events' own {axis.label} in like=, which differs: "
                f"{difference}. Leave like= or lines= out."
            )


def _check_l_cut(axis: Any, l_cut: int) -> None:
    """Refuse a cut that cuts nothing: a map of this nside holds no such multipoles."""
    highest = 3 * axis.nside - 1
    if l_cut >= highest:
        raise TemplateError(
            f"l_cut={l_cut} smooths nothing: PsiChi of nside {axis.nside} holds multipoles up to "
            f"l = {highest} alone. Give a lower one (4 keeps what is wider than some 45 deg), or "
            "leave it out for a template without a filter."
        )


def too_little(n_unknown: int, n_bins: int) -> str:
    """What is said where the energy bins are too few for `components`."""
    bins = "1 energy bin" if n_bins == 1 else f"{n_bins} energy bins"
    return (
        f"{bins} cannot tell apart {n_unknown} distributions (the continuum, its "
        "changes with energy, the lines); widen window=, lower order=, or use "
        "method='interpolated'."
    )


def _check_enough(events: EventHistogram, n_bins: int, options: TemplateOptions) -> None:
    """Refuse what no fit can mend: too few bins for the weights, counts that have no halves."""
    if options.method == "components" and n_bins < options.order + 1:
        raise TemplateError(too_little(options.order + 1, n_bins))
    if options.method == "interpolated" and n_bins < 2:
        raise TemplateError(
            "An interpolation needs two or more energy bins outside the source range that are not "
            f"masked, but {n_bins} is left; widen sidebands=, or shorten the mask."
        )
    if options.chooses_filter and not events.has_whole_counts:
        counts = events.energy_counts()
        raise TemplateError(
            "smoothing='auto' splits the counts into halves at random, which needs whole numbers, "
            f"but an energy bin holds {counts[counts != np.round(counts)][0]:g}; choose a filter."
        )


def _select_bins(
    edges: Array,
    used: NDArray[np.bool_],
    source_range: tuple[float, float],
    options: TemplateOptions,
) -> NDArray[np.bool_]:
    """True for the energy bins that a template is made from."""
    in_source = overlapping_bins(edges, *source_range)
    if options.method == "components":
        selected = used & ~in_source
        if options.reach is None:
            selected &= _window(edges, source_range, options.window)
        where = "of the window"
    elif options.sidebands is None:
        selected = used & ~in_source
        where = "outside the source range"
    else:
        return _sideband_bins(edges, in_source, source_range, options.sidebands)
    if not selected.any():
        raise TemplateError(_nothing_left(where))
    return selected


def _nothing_left(where: str) -> str:
    return f"No unmasked energy bin {where} is left; shorten the mask or widen the range."


def _within(
    edges: Array, masked: NDArray[np.bool_], in_source: NDArray[np.bool_], reach: float
) -> NDArray[np.bool_]:
    """True for the whole bins up to `reach` keV beyond the masked run around the source range."""
    inside = np.flatnonzero(in_source)
    first, last = inside[0], inside[-1]
    while first > 0 and masked[first - 1]:
        first -= 1
    while last < masked.size - 1 and masked[last + 1]:
        last += 1
    slack = EDGE_TOLERANCE * np.diff(edges).min()
    low, high = edges[first] - reach - slack, edges[last + 1] + reach + slack
    return np.asarray((edges[:-1] >= low) & (edges[1:] <= high))


def _window(edges: Array, source_range: tuple[float, float], window: Any) -> NDArray[np.bool_]:
    if window is None:
        middle = 0.5 * sum(source_range)
        low = max(middle - DEFAULT_WINDOW, edges[0])
        high = min(middle + DEFAULT_WINDOW, edges[-1])
    else:
        low, high = check_inside(edges, *check_range(*in_kev(window, "window"), "window"), "window")
    return whole_bins(edges, low, high, "window")


def _sideband_bins(
    edges: Array,
    in_source: NDArray[np.bool_],
    source_range: tuple[float, float],
    sidebands: Sequence[Sequence[Any]],
) -> NDArray[np.bool_]:
    selected = np.zeros(edges.size - 1, bool)
    for i, band in enumerate(sidebands):
        what = f"sideband {i + 1}"
        low, high = check_inside(edges, *check_range(*in_kev(band, what), what), what)
        bins = whole_bins(edges, low, high, what)
        if np.any(bins & in_source):
            raise TemplateError(
                f"{what.capitalize()} {low:g}-{high:g} keV overlaps the source range "
                f"{source_range[0]:g}-{source_range[1]:g} keV; its events would be counted as "
                "background. Move it away from the source range."
            )
        selected |= bins
    if not selected.any():
        raise TemplateError("sidebands is an empty list; give one or more (low, high).")
    return selected


def _open_sky(
    events: EventHistogram, place: Place, sky: Any
) -> tuple[EventHistogram | None, EventHistogram | None]:
    """Sky on the events' axes, and in the source range if it is given apart."""
    if sky is None:
        return None, None
    slices, in_range = sky if isinstance(sky, tuple) and len(sky) == 2 else (sky, None)
    opened = open_events(slices)
    _require_own_axes(events, opened)
    if in_range is None:
        rows_of_bins(events, place.edges, SKY_OF_PARTS)
        return opened, None
    opened_in_range = open_events(in_range)
    require_axes(opened_in_range, place.axes, "sky template 1", place.source_range)
    return opened, opened_in_range


def _require_own_axes(events: EventHistogram, sky: EventHistogram) -> None:
    found, own = ", ".join(map(str, sky.labels)), ", ".join(map(str, events.labels))
    if found != own:
        raise TemplateError(f"sky= must have the events' own axes, {own}; it has {found}.")
    for a, b in zip(events.axes, sky.axes, strict=True):
        difference = axis_difference(a, b)
        if difference:
            raise TemplateError(f"sky= differs from the events in the axis {a.label}: {difference}")


def _check_same_data(events: EventHistogram, fit: LineBackgroundFit) -> None:
    edges, fitted = events.energy_edges, fit.spectrum.edges
    same = edges.shape == fitted.shape and np.all(
        np.abs(edges - fitted) <= EDGE_TOLERANCE * np.diff(fitted).min()
    )
    if not same:
        raise BinningError(
            f"The fit was made on {fitted.size - 1} energy bins from {fitted[0]:g} to "
            f"{fitted[-1]:g} keV, the events have {edges.size - 1} from {edges[0]:g} to "
            f"{edges[-1]:g} keV; fit these events."
        )
    counts, of_fit = events.energy_counts(), fit.spectrum.counts
    if not np.allclose(counts, of_fit, rtol=1e-9):
        raise TemplateError(
            f"The fit was made on other counts ({of_fit.sum():.6g} in all) than these events "
            f"({counts.sum():.6g}); fit these events."
        )


def _in_seconds(livetime: Any) -> float | None:
    if livetime is None:
        return None
    seconds = in_seconds(livetime, "livetime", TemplateError)
    if not (np.isfinite(seconds) and seconds > 0):
        raise LineBackgroundError(f"The livetime must be positive, got {seconds:g} s.")
    return seconds
