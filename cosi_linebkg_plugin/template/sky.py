"""The source's own photons, taken out of spectrum and slices at the norm that they imply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..fit.faint import refit
from ..fit.minimise import from_best
from ..fit.result import LineBackgroundFit
from ..io.progress import Progress
from .amounts import ExpectedAmounts
from .axes import counts_on_axes, rows_of_bins
from .bin_maps import template_maps
from .line_spread import line_differences
from .norms import fit_component_norms
from .notes import of_systematic_error, unused_options
from .plan import SKY_OF_PARTS, TemplatePlan
from .steps import Recipe, amounts_of, assemble
from .template import BackgroundTemplate
from .validation import control_ranges

Array = NDArray[np.float64]

#: Sky norm and template are iterated until the norm moves by less than this.
_TOLERANCE = 1e-4

_MAX_STEPS = 30


def template_without_sky(
    plan: TemplatePlan, recipe: Recipe, progress: Progress | None = None
) -> BackgroundTemplate:
    """The template of a plan with sky= and observed=.

    The sky's norm is fitted together with those of the components; spectrum and slices are then
    made anew without as much of the sky, until the norm stays.

    Parameters
    ----------
    plan : TemplatePlan
        With `sky` and `observed`.
    recipe : Recipe
        For the fit of the spectrum with the sky in it.
    progress : Progress, optional
    """
    assert plan.sky is not None and plan.observed is not None
    given, spectrum = recipe.fit, plan.sky.energy_counts()
    in_range = _sky_in_range(plan)
    observed = counts_on_axes(plan.observed, plan.axes, "observed", plan.source_range)
    # a ratio of lines, and with it the spectrum, hold the norms as they do without sky=
    constrain = plan.options.knows_hidden_line
    norm, notes = 0.0, [*plan.events.notes, *unused_options(plan.options)]
    for step in range(_MAX_STEPS):
        if norm:
            fit = refit(recipe.fit, from_best(recipe.fit), given.spectrum, offset=norm * spectrum)
            recipe = recipe.for_fit(plan, replace(fit, line_search=given.line_search))
        removed = norm
        filtered = template_maps(plan, recipe, progress, removed)
        amounts = amounts_of(plan, recipe, filtered.total)
        maps = {label: contents for label, (contents, _) in filtered.maps.items()}
        ways = line_differences(recipe.spread, maps, plan.axes.labels)
        norms = fit_component_norms(
            observed, maps, amounts.counts, amounts.covariance, [in_range], constrain, ways
        )
        norm, error = norms["sky_1"]
        moved = abs(norm - removed)
        if moved <= max(_TOLERANCE * abs(norm), 1e-3 * error):
            break
        if step + 1 < _MAX_STEPS:
            del filtered, maps  # as large as those of the next one
    else:
        notes.append(f"The sky norm still moved by {moved:.2g} in its last iteration.")
    control = None
    if plan.options.validate:
        control = control_ranges(plan, recipe, progress, sky_norm=removed)
        amounts = amounts.with_measured(control.amount.value)
        if constrain:
            norms = fit_component_norms(
                observed, maps, amounts.counts, amounts.covariance, [in_range], constrain, ways
            )
            norm, error = norms["sky_1"]
    labels = recipe.weights.labels
    counts = dict(zip(labels, norms.values[: len(labels)].tolist(), strict=True))
    notes += _of_what_was_found(given, counts)
    template = assemble(
        plan,
        recipe,
        filtered,
        ExpectedAmounts(counts, norms.covariance[: len(labels), : len(labels)], bins=amounts.bins),
        notes=[*notes, *of_systematic_error(recipe.fit, included=constrain)],
        sky_norm=(norm, error),
        sky_norm_removed=removed,
        systematic=constrain,
    )
    if control is not None:
        template.set_control(control)
    return template


def _of_what_was_found(given: LineBackgroundFit, counts: Mapping[str, float]) -> list[str]:
    """Notes on the fits without the sky, and on norms that came out as 0."""
    notes = []
    if given.samples is not None:
        notes.append(
            "The sky was taken out of the spectrum by fits: amounts and errors are those of "
            "maximum likelihood, not of the posterior."
        )
    if not any(counts.values()):
        notes.append(
            "sky= explains all observed counts: the background's norms came out as 0. Check "
            "that it is the expected sky at unit norm, and no background."
        )
    return notes


def _sky_in_range(plan: TemplatePlan) -> Array:
    """The sky in the source range at unit norm, shape of the template's axes."""
    if plan.sky_in_range is not None:
        return counts_on_axes(plan.sky_in_range, plan.axes, "sky template 1", plan.source_range)
    assert plan.sky is not None
    rows = rows_of_bins(plan.sky, plan.bins, SKY_OF_PARTS)
    contents = np.zeros(plan.axes.shape)
    for b, row in enumerate(rows):
        plan.place.put(contents, b, plan.sky.weighted_sums(row, variances=False)[0][0])
    return contents
