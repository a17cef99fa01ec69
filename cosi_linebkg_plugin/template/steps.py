"""The steps of a template, each a function: recipe, filtered maps, amounts, template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
from .line_spread import LineSpread
from .per_time import TimeCourse, TimeSpectra, fit_time_course
from .plan import TemplatePlan
from .products import filter_product, pairs_of, pixel_axis, slice_correlations
from .record import FilterScore, MethodScore, Record
from .smoothing import choose_filter, filter_sums
from .sums import Shifts, phi_shifts, sum_slices
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
    shifts : mapping of int to ndarray, shape (n_phi, n_phi), or None
        How the slices are moved along Phi.
    ladder : tuple of MethodScore
        Of the methods that were tried.
    spread : LineSpread or None
        How much the distributions of lines differ, with ``lines="spread"``.
    """

    fit: LineBackgroundFit
    source: SourceAmounts
    weights: SliceWeights
    amounts: ExpectedAmounts
    filter: Filter
    scores: tuple[FilterScore, ...]
    shifts: Shifts | None
    ladder: tuple[MethodScore, ...] = ()
    spread: LineSpread | None = None

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
    if plan.options.chooses_filter:  # before the sums: it needs as much memory
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
    products : dict of (label, label) to map
        Covariances of the cells of two maps.
    course : TimeCourse or None
        Which the totals of time bins follow.
    """

    maps: dict[str, tuple[Array, Array]]
    total: float
    n_pooled: int
    moved: float
    products: dict[tuple[str, str], NDArray[Any]] = field(default_factory=dict)
    course: TimeCourse | None = None


def filtered_maps(
    plan: TemplatePlan, recipe: Recipe, progress: Progress | None, sky_norm: float = 0.0
) -> FilteredMaps:
    """The weighted sums of the slices, filtered.

    Parameters
    ----------
    sky_norm : float
        Norm of the plan's sky that is taken off the sums: the source's own photons.
    """
    rows, shifts = recipe.weights.rows, recipe.shifts
    sums, variances, products = sum_slices(plan.events, rows, shifts, pairs_of(len(rows)))
    if plan.sky is not None and sky_norm:
        sums -= sky_norm * sum_slices(plan.sky, rows, shifts)[0]
    filtered = maps_of_sums(plan, recipe, sums, variances, products, progress)
    return on_course(plan, recipe, filtered, sky_norm)


def on_course(
    plan: TemplatePlan, recipe: Recipe, filtered: FilteredMaps, sky_norm: float = 0.0
) -> FilteredMaps:
    """With ``norms="per_time"``, maps whose time bins hold what the spectra of these say; in place.

    Parameters
    ----------
    sky_norm : float
        Norm of the plan's sky, which is known in the spectra.
    """
    if plan.options.norms is None:
        return filtered
    labels, table, _ = component_table(plan, recipe.fit)
    counts, selected = plan.events.counts_along("Time"), plan.selected
    known = np.zeros_like(counts)
    if plan.sky is not None and sky_norm:
        known = sky_norm * plan.sky.counts_along("Time")
    edges = np.asarray(plan.events.axes["Time"].edges, dtype=float)
    live = counts.sum(axis=1) > 0
    spectra = TimeSpectra(counts[:, selected], table[:, selected], known[:, selected], edges, live)
    course = fit_time_course(spectra, labels)
    position = plan.axes.labels.index("Time")
    others = tuple(i for i in range(len(plan.axes)) if i != position)
    factors = {}
    for label, (contents, variances) in filtered.maps.items():
        own = contents.sum(axis=others)
        wanted = course.shares[labels.index(label)] * own.sum()
        factors[label] = np.expand_dims(wanted / np.where(own > 0, own, 1.0), others)
        contents *= factors[label]
        variances *= factors[label] ** 2
    for (a, b), product in filtered.products.items():
        product *= factors[a] * factors[b]
    return replace(filtered, course=course)


def maps_of_sums(
    plan: TemplatePlan,
    recipe: Recipe,
    sums: Array,
    variances: Array,
    products: NDArray[np.float32],
    progress: Progress | None = None,
) -> FilteredMaps:
    """Filter sums of slices and bring them onto the template's axes.

    Parameters
    ----------
    sums, variances : ndarray, shape (n_labels, *events.other_shape), counts and counts^2
        Overwritten.
    products : ndarray, shape (n_pairs, *events.other_shape), counts^2
        Covariances of pairs of sums, in the order of `pairs_of`. Overwritten.
    """
    maps, n_pooled, moved = {}, 0, 0.0
    labels, untouched = recipe.weights.labels, []
    pixels = pixel_axis([str(axis.label) for axis in plan.events.other_axes])
    pairs = pairs_of(len(labels))
    before = slice_correlations(variances, products, pairs, pixels)
    for k, label in enumerate(labels):
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
        untouched.append(filtered.untouched)
        maps[label] = plan.place(contents), plan.place(variance)
    placed: dict[tuple[str, str], NDArray[Any]] = {}
    for product, of_slices, (k, m) in zip(products, before, pairs, strict=True):
        kept = untouched[k] & untouched[m]
        filter_product(product, of_slices, variances[k], variances[m], kept, pixels)
        placed[labels[k], labels[m]] = plan.place(product)
    return FilteredMaps(maps, float(sums[0].sum()), n_pooled, moved, placed)


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
        line_spread=recipe.spread,
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
        energy_bins=amounts.bins,
        record=record,
        products=filtered.products,
    )
