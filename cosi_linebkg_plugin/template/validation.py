"""A template's recipe, tried on control ranges: pseudo source ranges that hold no strong line."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import LineBackgroundError, TemplateError
from ..fit.faint import refit
from ..fit.minimise import from_best
from ..fit.result import LineBackgroundFit
from ..io.progress import Progress, say
from ..spectrum.axis import bins_to_ranges, overlapping_bins
from ..spectrum.components import SpectralModel
from ..units import in_kev
from .amounts import ExpectedAmounts, expected_amounts, source_amounts
from .axes import partial_sky
from .comparison import COMPARED_AXES, Projection, project_counts
from .control import ControlRange, ControlRanges, ShapeTest, measured_amount
from .extra_error import ExtraError, extra_error
from .hidden import hidden_lines, line_spectra, margins_of_mask, runs_as_wide
from .options import TemplateOptions
from .per_time import TimeCourse
from .plan import TemplatePlan, plan_for_fit
from .products import pairs_of, variance_of_sum
from .steps import Recipe, amounts_of, maps_of_sums, on_course
from .sums import phi_shifts, sum_slices
from .weights import slice_weights

Array = NDArray[np.float64]

_T = TypeVar("_T")

#: Control ranges at most: half of them on either side of the source range, where they fit.
MOST_RANGES = 12

#: All lines, with the tails of those beside it, may hold this share of a control range's counts;
#: lines inside it no more than this many standard errors of its counts, where a line in the source
#: range would be known.
SEEN_LINES, HIDDEN_LINES = 0.1, 1.0

#: A line with this share of its counts in a range is one of its lines; with this one, its alone.
_INSIDE_SHARE, _ALONE_SHARE = 0.1, 0.9

#: A line with less than this share of its counts in fitted bins keeps its values in a refit.
_SEEN_SHARE = 0.5

#: PsiChi is down-graded to this nside.
NSIDE = 4

#: Sums of this many bytes are made at once.
AT_ONCE = 2.5e8

#: A component with a smaller share of a control range's counts needs no map there.
_LEAST_SHARE = 1e-3


@dataclass(frozen=True, eq=False)
class Trial:
    """What is known of a control range before events are summed.

    Attributes
    ----------
    plan : TemplatePlan
        Of its template.
    recipe : Recipe
    labels : tuple of str
        The components that it needs maps of.
    """

    plan: TemplatePlan
    recipe: Recipe
    labels: tuple[str, ...]

    @property
    def rows(self) -> Array:
        """Weights of the slices of its components, shape (n_labels, n_em)."""
        known = self.recipe.weights.labels
        return self.recipe.weights.rows[[known.index(label) for label in self.labels]]

    @property
    def inside(self) -> Array:
        """1 for the energy bins of the range, 0 elsewhere, shape (n_em,)."""
        return self.plan.in_source.astype(float)


def control_ranges(
    plan: TemplatePlan, recipe: Recipe, progress: Progress | None = None, sky_norm: float = 0.0
) -> ControlRanges:
    """Try the recipe of a template on control ranges.

    Parameters
    ----------
    plan : TemplatePlan
        Of the real template.
    recipe : Recipe
        Its own, with its fit and the filter that it got.
    progress : Progress, optional
    sky_norm : float
        Norm of the plan's sky that was taken out of spectrum and slices.
    """
    trials, skipped = prepare_trials(plan, recipe)
    ranges: list[ControlRange] = []
    projections: dict[str, list[Projection]] = {}
    say(progress, f"trying the template on {len(trials)} control ranges")
    for batch in _batches(plan, trials):
        for trial, sums in zip(batch, _summed(plan, batch, sky_norm), strict=True):
            try:
                result, parts = _tried(trial, sums, sky_norm)
            except LineBackgroundError as error:
                skipped.append((*trial.plan.source_range, str(error)))
                continue
            ranges.append(result)
            for axis, part in parts.items():
                projections.setdefault(axis, []).append(part)
    ranges.sort(key=lambda r: r.low)
    return ControlRanges(
        tuple(ranges),
        measured_amount(ranges),
        {axis: _measured_shape(parts) for axis, parts in projections.items()},
        tuple(skipped),
        _source_ratio(plan, recipe),
        recipe.fit.systematic,
        hidden_lines(plan, recipe.fit),
    )


def fitted_ranges(
    plan: TemplatePlan, fit: LineBackgroundFit
) -> list[tuple[TemplatePlan, LineBackgroundFit]]:
    """Control ranges with fits that do not know them; the plans have the options of `plan`."""
    plain = replace(
        plan.options, like=None, energy_edges=None, sky=None, observed=None, line_ratio=None
    )

    def planned(
        refit: LineBackgroundFit, own: tuple[float, float]
    ) -> tuple[TemplatePlan, LineBackgroundFit]:
        return plan_for_fit(plan.events, refit, own, plain), refit

    return _made_of_refits(plan, fit, planned)[0]


def prepare_trials(
    plan: TemplatePlan, recipe: Recipe
) -> tuple[list[Trial], list[tuple[float, float, str]]]:
    """Fits and weights of the control ranges, and those that have none, with the reason."""
    return _made_of_refits(plan, recipe.fit, lambda fit, own: _trial(plan, recipe, fit, own))


def _made_of_refits(
    plan: TemplatePlan,
    fit: LineBackgroundFit,
    make: Callable[[LineBackgroundFit, tuple[float, float]], _T],
) -> tuple[list[_T], list[tuple[float, float, str]]]:
    """What is made of fits that do not know a control range, and where that fails, and why.

    Parameters
    ----------
    make : callable
        Given a fit and its range.
    """
    made: list[_T] = []
    skipped: list[tuple[float, float, str]] = []
    margins = margins_of_mask(plan, fit)
    for low, high in choose_ranges(plan, fit):
        if len(made) == MOST_RANGES:
            break
        try:
            hidden = (low - margins[0], high + margins[1])
            made.append(
                make(refit_without(fit, (low, high), hidden, plan.source_range), (low, high))
            )
        except LineBackgroundError as error:
            skipped.append((low, high, str(error)))
    return made, skipped


def choose_ranges(plan: TemplatePlan, fit: LineBackgroundFit) -> list[tuple[float, float]]:
    """Pseudo source ranges [keV], the nearest first, left and right in turn.

    They are as wide as the source range, on whole fitted bins, do not overlap, hold no strong line
    of the fit, and have energies that a template is made from on both sides, half as far as the
    source range has them.
    """
    edges, width = plan.edges, plan.high - plan.low
    usable = fit.spectrum.used & ~plan.in_source
    if not usable.any():
        return []
    centers = plan.centers[plan.selected]
    reach = [
        0.5 * max(plan.middle - centers.min(), 0.0),
        0.5 * max(centers.max() - plan.middle, 0.0),
    ]
    first, last = edges[:-1][usable].min(), edges[1:][usable].max()
    sides: list[list[tuple[float, float]]] = [[], []]
    runs = runs_as_wide(edges, usable, width)
    for side, order in enumerate((runs[::-1], runs)):
        edge = plan.low if side == 0 else plan.high
        for i, j in order:
            low, high = float(edges[i]), float(edges[j])
            beyond = high <= edge if side == 0 else low >= edge
            far = 0.5 * (low + high) - first < reach[0] or last - 0.5 * (low + high) < reach[1]
            if not beyond or far or _holds_lines(plan, fit, low, high):
                continue
            sides[side].append((low, high))
            edge = low if side == 0 else high
    return [r for pair in itertools.zip_longest(*sides) for r in pair if r is not None]


def _holds_lines(plan: TemplatePlan, fit: LineBackgroundFit, low: float, high: float) -> bool:
    """Whether a control range would hold too much of the fit's lines."""
    inside = overlapping_bins(plan.edges, low, high)
    spectra = line_spectra(fit)[1][:, inside].sum(axis=1)
    total = float(fit.expected[inside].sum())
    if spectra.sum() > SEEN_LINES * total:
        return True
    own, alone = _lines_inside(fit, inside)
    told = own & ~(alone & _covers_lines(plan, fit))
    return bool(spectra[told].sum() > HIDDEN_LINES * total**0.5)


def _covers_lines(plan: TemplatePlan, fit: LineBackgroundFit) -> bool:
    """Whether the template's error must cover a faint line in the source range.

    It is masked, no ratio tells its counts, and there is no component for it.
    """
    masked = bool(fit.spectrum.mask[plan.in_source].all())
    return masked and not plan.options.knows_hidden_line and plan.options.method != "components"


def _lines_inside(
    fit: LineBackgroundFit, inside: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The lines of some bins, and those of these bins alone, shape (n_lines,) each."""
    spectra = line_spectra(fit)[1]
    shares = spectra[:, inside].sum(axis=1) / np.maximum(spectra.sum(axis=1), 1e-300)
    return shares > _INSIDE_SHARE, shares > _ALONE_SHARE


def refit_without(
    fit: LineBackgroundFit, control: tuple[float, float], *hidden: tuple[float, float]
) -> LineBackgroundFit:
    """The same model fitted as if a control range were the source range.

    Lines stay at their energies: free, a faint one moves to where nothing sees it. Lines of the
    control range alone are left out, as nobody would know of them; others that the mask hides keep
    their values.

    Parameters
    ----------
    fit : LineBackgroundFit
    control : (low, high), keV
    *hidden : (low, high), keV
        Further ranges to mask.

    Raises
    ------
    LineBackgroundError
        If there is no valid minimum.
    """
    spectrum = fit.spectrum.with_mask([*fit.mask, control, *hidden])
    inside = overlapping_bins(spectrum.edges, *control)
    seen = fit.model.without_faint().components
    uses = Counter(itertools.chain.from_iterable(c.slots for c in seen))
    held = {fit.model.components[i].energy for i in fit.model.lines}
    absent: set[int] = set()
    for line, counts in zip(*line_spectra(fit), strict=True):
        if counts[spectrum.used].sum() < _SEEN_SHARE * counts.sum():
            held |= {slot for slot in line.slots if uses[slot] == 1}
        if counts[inside].sum() > _ALONE_SHARE * counts.sum():
            absent.add(line.area)
    return refit(fit, _start(fit, held, absent), spectrum, offset=fit.offset)


def _start(fit: LineBackgroundFit, held: Container[int], absent: Container[int]) -> SpectralModel:
    """The model at its best values, with some parameters fixed, and some fixed at 0."""
    model = from_best(fit)
    parameters = tuple(
        replace(
            p,
            value=0.0 if slot in absent else p.value,
            free=p.free and slot not in held and slot not in absent,
        )
        for slot, p in enumerate(model.parameters)
    )
    return replace(model, parameters=parameters)


def _trial(
    plan: TemplatePlan, recipe: Recipe, fit: LineBackgroundFit, hidden: tuple[float, float]
) -> Trial:
    """The recipe for a control range, which `fit` does not know."""
    low, high = hidden
    own = plan_for_fit(plan.events, fit, (low, high), _options_for(plan, fit, low, high, recipe))
    own = replace(own, sky=plan.sky)
    source = source_amounts(own, fit)
    weights = slice_weights(own, fit, source)
    amounts = expected_amounts(own, fit, source, weights.labels, lines_may_hide=False)
    total = sum(amounts.counts.values())
    labels = tuple(k for k, n in amounts.counts.items() if n > _LEAST_SHARE * total)
    shifts = phi_shifts(own) if own.options.shift else None
    return Trial(own, Recipe(fit, source, weights, amounts, recipe.filter, (), shifts), labels)


def _options_for(
    plan: TemplatePlan, fit: LineBackgroundFit, low: float, high: float, recipe: Recipe
) -> TemplateOptions:
    """The options of the real template, for a control range."""
    options, edges = plan.options, plan.edges
    window = options.window
    if window is not None:
        shift = 0.5 * (low + high) - plan.middle
        a, b = in_kev(window, "window")
        window = max(a + shift, edges[0]), min(b + shift, edges[-1])
    sidebands = options.sidebands
    if sidebands is not None:  # chosen by hand: they stay where they are
        newly = fit.spectrum.mask & ~recipe.fit.spectrum.mask
        sidebands = bins_to_ranges(edges, plan.selected & ~newly)
    return options.elsewhere(recipe.filter, window=window, sidebands=sidebands)


def _batches(plan: TemplatePlan, trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Trials whose sums are made in one pass over the events."""
    per_row = 16.0 * math.prod(plan.events.other_shape)
    batch: list[Trial] = []
    for trial in trials:
        rows = sum(len(_rows(t)) for t in (*batch, trial))
        alone = trial.recipe.shifts is not None  # its slices are read one by one in any case
        if batch and (alone or rows * per_row > AT_ONCE):
            yield batch
            batch = []
        batch.append(trial)
    if batch:
        yield batch


@dataclass(frozen=True, eq=False)
class _Sums:
    """What the events hold for a control range.

    Attributes
    ----------
    sums, variances : ndarray, shape (n_labels, *other_shape), counts and counts^2
    products : ndarray, shape (n_pairs, *other_shape), counts^2
        Covariances of pairs of sums.
    observed, noise : ndarray, shape other_shape
        Counts of the range and their variances.
    """

    sums: Array
    variances: Array
    products: NDArray[np.float32]
    observed: Array
    noise: Array


def _summed(plan: TemplatePlan, batch: Sequence[Trial], sky_norm: float) -> Iterator[_Sums]:
    """All sums that the trials of a batch need, in one pass but for slices that are moved."""
    rows = np.concatenate([_rows(trial) for trial in batch])
    pairs: list[tuple[int, int]] = []
    start = 0
    for trial in batch:
        last = start + len(_rows(trial)) - 1
        pairs += [(start + k, start + m) for k, m in pairs_of(last - start)]
        start = last + 1
    sums, variances, products = plan.events.sums_with_products(rows, pairs)
    if plan.sky is not None and sky_norm:
        sums -= sky_norm * plan.sky.weighted_sums(rows, variances=False)[0]
    start = pair = 0
    for trial in batch:
        last = start + len(_rows(trial)) - 1
        next_pair = pair + len(pairs_of(last - start))
        own, noise, both = sums[start:last], variances[start:last], products[pair:next_pair]
        if trial.recipe.shifts is not None:
            of_trial = pairs_of(len(trial.labels))
            own, noise, both = sum_slices(plan.events, trial.rows, trial.recipe.shifts, of_trial)
            if plan.sky is not None and sky_norm:
                own -= sky_norm * sum_slices(plan.sky, trial.rows, trial.recipe.shifts)[0]
        yield _Sums(own, noise, both, sums[last], variances[last])
        start, pair = last + 1, next_pair


def _rows(trial: Trial) -> Array:
    """Weights of the sums that a trial has of the common pass: its components, and its range."""
    own = trial.rows if trial.recipe.shifts is None else trial.rows[:0]
    return np.vstack([own, trial.inside])


def _tried(
    trial: Trial, found: _Sums, sky_norm: float
) -> tuple[ControlRange, dict[str, Projection]]:
    """The template of a control range against the counts there."""
    recipe, plan = trial.recipe, trial.plan
    weights = replace(recipe.weights, labels=trial.labels, rows=trial.rows)
    filtered = maps_of_sums(
        plan, replace(recipe, weights=weights), found.sums, found.variances, found.products
    )
    filtered = on_course(plan, recipe, filtered, sky_norm)
    amounts = amounts_of(plan, recipe, filtered.total)
    observed = plan.place(found.observed)
    total, own = float(observed.sum()), sum(amounts.counts[label] for label in trial.labels)
    error = float(np.sqrt(np.maximum(amounts.covariance.sum(), 0.0)))
    if not np.isfinite(error):
        raise TemplateError("the spectrum says nothing of the error of its counts")
    factors = {
        label: amounts.counts[label] / float(contents.sum()) * total / own
        for label, (contents, _) in filtered.maps.items()
    }
    parts = {}
    for axis in plan.axes:
        if axis.label in COMPARED_AXES and not (axis.label == "PsiChi" and partial_sky(axis)):
            others = tuple(i for i, a in enumerate(plan.axes) if a.label != axis.label)
            expected = np.zeros(axis.nbins)
            for label, factor in factors.items():
                expected += factor * filtered.maps[label][0].sum(axis=others)
            noise = variance_of_sum(filtered.maps, filtered.products, factors, others)
            if axis.label == "Time" and filtered.course is not None:
                noise = _noise_of_course(filtered.course, trial, amounts, total / own)
            parts[str(axis.label)] = project_counts(
                axis, observed.sum(axis=others), expected, noise, expected, NSIDE
            )
    expected_total = sum(amounts.counts.values())
    result = ControlRange(
        plan.low,
        plan.high,
        expected_total,
        error,
        amounts.systematic,
        total,
        math.sqrt(_event_weight(plan, found) * max(expected_total, 0.0)),
        {axis: ShapeTest(p.chi2, p.dof if total > 0 else 0) for axis, p in parts.items()},
    )
    return result, parts if total > 0 else {}  # no counts have no distribution


def _noise_of_course(
    course: TimeCourse, trial: Trial, amounts: ExpectedAmounts, factor: float
) -> Array:
    """Variances of the counts in each time bin, from the errors of the spectra's shares."""
    counts = dict.fromkeys(course.labels, 0.0)
    counts |= {label: factor * amounts.counts[label] for label in trial.labels}
    variances: Array = course.project(course.labels, counts, None)[1] ** 2
    return variances


def _event_weight(plan: TemplatePlan, found: _Sums) -> float:
    """Mean weight of the events of a control range; 1 where they are counted.

    Times expected counts it is their Poisson variance. Errors from the observed counts would give
    the largest weight to ranges that happen to hold few.
    """
    counts, variances = found.observed.sum(), found.noise.sum()
    return float(variances / counts) if counts > 0 else plan.events.mean_weight


def _measured_shape(parts: Sequence[Projection]) -> ExtraError:
    """The extra fractional error of the groups of an axis."""
    observed, expected, variances = (
        np.concatenate([getattr(p, name) for p in parts])
        for name in ("observed", "expected", "variances")
    )
    return extra_error(observed - expected, variances, expected, sum(p.dof for p in parts))


def _source_ratio(plan: TemplatePlan, recipe: Recipe) -> float | None:
    """Observed counts over expected ones in the source range; None where bins are cut."""
    edges, inside = plan.edges, plan.in_source
    cut = not np.isclose(np.diff(edges)[inside].sum(), plan.high - plan.low, rtol=1e-6)
    expected = sum(recipe.amounts.counts.values())
    if cut or not expected > 0:
        return None
    return float(plan.events.energy_counts()[inside].sum() / expected)
