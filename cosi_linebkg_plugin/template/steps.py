"""The steps of a template, each a function: recipe, filtered maps, amounts, template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..fit.result import LineBackgroundFit
from ..io.progress import Progress
from ..spectrum.axis import bins_to_ranges
from .amounts import (
    ExpectedAmounts,
    SourceAmounts,
    expected_amounts,
    sideband_amounts,
    source_amounts,
)
from .filters import Filter
from .per_time import TimeCourse, fit_time_course
from .plan import TemplatePlan
from .record import FilterScore, MethodScore, Record
from .smoothing import choose_filter, filter_sums
from .sums import phi_shifts, sum_slices
from .template import BackgroundTemplate
from .weights import SliceWeights, component_table, slice_weights

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Recipe:
    """All that is known before events are summed.

    Attributes
    ----------
    fit : LineBackgroundFit
    source : SourceAmounts
    weights : SliceWeights
    amounts : ExpectedAmounts
    filter : Filter
    scores : tuple of FilterScore
        Of the filters that were tried.
    shifts : ndarray, shape (n_em, n_phi, n_phi), or None
        How the slices are moved along Phi.
    ladder : tuple of MethodScore
        Of the methods that were tried.
    """

    fit: LineBackgroundFit
    source: SourceAmounts
    weights: SliceWeights
    amounts: ExpectedAmounts
    filter: Filter
    scores: tuple[FilterScore, ...]
    shifts: Array | None
    ladder: tuple[MethodScore, ...] = ()

    def for_fit(self, plan: TemplatePlan, fit: LineBackgroundFit) -> Recipe:
        """The same filter and shifts with the weights and amounts of another fit."""
        source, weights, amounts = _from_fit(plan, fit)
        return replace(self, fit=fit, source=source, weights=weights, amounts=amounts)


def _from_fit(
    plan: TemplatePlan, fit: LineBackgroundFit
) -> tuple[SourceAmounts, SliceWeights, ExpectedAmounts]:
    source = source_amounts(plan, fit)
    weights = slice_weights(plan, fit, source)
    return source, weights, expected_amounts(plan, fit, source, weights.labels)


def make_recipe(plan: TemplatePlan, fit: LineBackgroundFit, progress: Progress | None) -> Recipe:
    """Weights, amounts, filter and shifts for a fitted spectrum."""
    source, weights, amounts = _from_fit(plan, fit)
    chosen: Filter = plan.options.filter
    scores: tuple[FilterScore, ...] = ()
    if plan.options.smoothing == "auto":  # before the sums: it needs as much memory
        chosen, scores = choose_filter(plan.events, weights.rows, weights.seen, progress)
    shifts = phi_shifts(plan) if plan.options.shift else None
    return Recipe(fit, source, weights, amounts, chosen, scores, shifts)


@dataclass(frozen=True, eq=False)
class FilteredMaps:
    """The components' maps on the template's axes.

    Attributes
    ----------
    maps : dict of label to (map, variances)
    total : float
        Of the first component's map.
    n_pooled : int
        Slices whose total was not positive.
    moved : float
        Largest relative change of the total of a slice that they were pooled with.
    course : TimeCourse or None
        Which the totals of time bins follow.
    """

    maps: dict[str, tuple[Array, Array]]
    total: float
    n_pooled: int
    moved: float
    course: TimeCourse | None = None


def filtered_maps(
    plan: TemplatePlan, recipe: Recipe, progress: Progress | None, sky: Array | None = None
) -> FilteredMaps:
    """The weighted sums of the slices, filtered.

    Parameters
    ----------
    sky : ndarray, shape (n_labels, *events.other_shape), counts, optional
        What is taken off the sums: the source's own photons.
    """
    sums, variances = sum_slices(plan.events, recipe.weights.rows, recipe.shifts)
    if sky is not None:
        sums -= sky
    filtered = maps_of_sums(plan, recipe, sums, variances, progress)
    return filtered if plan.options.norms is None else _on_course(plan, recipe, filtered)


def _on_course(plan: TemplatePlan, recipe: Recipe, filtered: FilteredMaps) -> FilteredMaps:
    """The maps with the totals of their time bins as the spectra of these say; in place."""
    events, selected = plan.events, plan.selected
    counts = events.counts_along("Time")
    labels, table, _ = component_table(plan, recipe.fit)
    edges = np.asarray(events.axes["Time"].edges, dtype=float)
    live = counts.sum(axis=1) > 0
    course = fit_time_course(counts[:, selected], table[:, selected], edges, labels, live)
    position = plan.axes.labels.index("Time")
    others = tuple(i for i in range(len(plan.axes)) if i != position)
    for share, (contents, variances) in zip(course.shares, filtered.maps.values(), strict=True):
        own = contents.sum(axis=others)
        wanted = share * own.sum()
        factor = np.expand_dims(wanted / np.where(own > 0, own, 1.0), others)
        contents *= factor
        variances *= factor**2
    return replace(filtered, course=course)


def maps_of_sums(
    plan: TemplatePlan,
    recipe: Recipe,
    sums: Array,
    variances: Array,
    progress: Progress | None = None,
) -> FilteredMaps:
    """Filter sums of slices and bring them onto the template's axes.

    Parameters
    ----------
    sums, variances : ndarray, shape (n_labels, *events.other_shape), counts and counts^2
        Overwritten.
    """
    maps, n_pooled, moved = {}, 0, 0.0
    for k, label in enumerate(recipe.weights.labels):
        contents, variance = sums[k, ...], variances[k, ...]
        if not contents.sum() > 0:
            raise TemplateError(
                f"The weighted sum of the slices for {label!r} is not positive "
                f"({contents.sum():.3g}); widen the sidebands or the window, or leave the "
                "weakest lines out of the model."
            )
        filtered = filter_sums(
            plan.events, contents, variance, recipe.filter, progress, overwrite=True
        )
        n_pooled, moved = n_pooled + filtered.n_pooled, max(moved, filtered.moved)
        maps[label] = plan.place(contents), plan.place(variance)
    return FilteredMaps(maps, float(sums[0].sum()), n_pooled, moved)


def amounts_of(plan: TemplatePlan, recipe: Recipe, total: float) -> ExpectedAmounts:
    """The amounts of the recipe, or for a sideband sum what its slices hold.

    Parameters
    ----------
    total : float
        Of the first component's map, before it is given an amount.
    """
    if plan.options.method != "sideband":
        return recipe.amounts
    # what the slices hold, not what the fit expects of them
    return sideband_amounts(plan, recipe.fit, recipe.source, total)


def assemble(
    plan: TemplatePlan,
    recipe: Recipe,
    filtered: FilteredMaps,
    amounts: ExpectedAmounts,
    *,
    notes: Sequence[str],
    sky_norm: tuple[float, float] | None = None,
    sky_norm_removed: float = 0.0,
    systematic: bool = True,
) -> BackgroundTemplate:
    """The template, with a record of all steps.

    Parameters
    ----------
    amounts : ExpectedAmounts
    notes, sky_norm, sky_norm_removed
        As of `Record`.
    systematic : bool
        Whether the covariance includes the systematic error of the fit.
    """
    ratio, fit = plan.options.line_ratio, recipe.fit
    record = Record(
        plan.options.method,
        filter=recipe.filter.describe(),
        filter_scores=recipe.scores,
        method_scores=recipe.ladder,
        pooled_slices=filtered.n_pooled,
        pooling_moved_percent=100.0 * filtered.moved,
        order=plan.options.order if plan.options.method == "components" else None,
        tracers=recipe.weights.tracers,
        line_ratio=ratio,
        line_share=None if ratio is None else recipe.source.ratio_share(fit.theta),
        shift=plan.options.shift,
        sky_norm=sky_norm,
        sky_norm_removed=sky_norm_removed,
        systematic_percent=100.0 * fit.systematic if systematic else 0.0,
        livetime_from=plan.livetime_from,
        recipe=plan.options.recipe(recipe.filter),
        time_course=filtered.course,
        notes=(*notes, *(filtered.course.notes() if filtered.course else ())),
    )
    return BackgroundTemplate(
        plan.axes,
        filtered.maps,
        amounts.counts,
        amounts.covariance,
        fit=fit,
        source_range=plan.source_range,
        sidebands=bins_to_ranges(plan.edges, plan.selected),
        weights=recipe.weights.rows,
        livetime=plan.livetime,
        record=record,
    )
