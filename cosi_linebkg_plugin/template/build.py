"""How a template is made: plan, weights, amounts, filter, sums, template.

`plan.check_template` decides and opens all that is needed, `steps` has the functions, `sky` what
is done about the source's own photons.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from ..errors import LineBackgroundWarning, TemplateError
from ..fit.result import LineBackgroundFit
from ..histograms.read import EventHistogram
from ..io.progress import Progress
from .bin_maps import template_maps
from .choice import choose_method
from .control import ControlRanges
from .filters import Filter
from .notes import (
    fitted_source,
    of_systematic_error,
    unknown_without_sky,
    unused_options,
)
from .options import AUTO, TemplateOptions
from .plan import TemplatePlan, plan_for_fit
from .record import MethodScore
from .sky import template_without_sky
from .spread import measured_spread
from .steps import Recipe, amounts_of, assemble, make_recipe
from .template import BackgroundTemplate
from .validation import control_ranges


def make_template(
    plan: TemplatePlan, fit: LineBackgroundFit, progress: Progress | None = None
) -> BackgroundTemplate:
    """Carry the distribution of adjacent energies into the source range.

    See `LineBackgroundLike.background_template`.

    Parameters
    ----------
    plan : TemplatePlan
        What `check_template` made of the options.
    fit : LineBackgroundFit
        Of the same events.
    progress : Progress, optional

    Raises
    ------
    TemplateError
        If the fit is not valid, or no fit of these events, or the template comes out empty.
    """
    if not fit.valid:
        raise TemplateError(
            f"The fit is not valid ({fit.message}); a template needs a valid spectrum. Fit again."
        )
    plan = plan.for_fit(fit)
    ladder: tuple[MethodScore, ...] = ()
    if plan.options.method == AUTO:
        plan, ladder = choose_method(plan, fit, progress)
    recipe = replace(make_recipe(plan, fit, progress), ladder=ladder)
    if plan.options.lines:
        recipe = replace(recipe, spread=measured_spread(plan, fit, recipe.weights.tracers))
    if plan.sky is None:
        template = _from_spectrum(plan, recipe, progress)
    else:
        template = template_without_sky(plan, recipe, progress)
    for note in template.notes:
        warnings.warn(note, LineBackgroundWarning, stacklevel=4)
    return template


def validate_template(
    events: EventHistogram, template: BackgroundTemplate, progress: Progress | None = None
) -> ControlRanges:
    """Try a template's recipe on control ranges; see `LineBackgroundLike.validate`.

    Raises
    ------
    TemplateError
        If it was not made from these events, or with sky=.
    """
    record = template.record
    if record.sky_norm is not None:
        raise TemplateError(
            "The template was made with sky=, which it does not hold; make it with validate=True."
        )
    if record.split:
        raise TemplateError(
            f"The template was split along {record.split}; validate it before that."
        )
    told = record.method != "sideband" and record.filter == Filter().describe()
    if not record.recipe and not told:
        raise TemplateError(
            "The template's file does not say how it was made; make it anew with validate=True."
        )
    options = TemplateOptions(
        method=record.method, line_ratio=record.line_ratio, **dict(record.recipe)
    )
    plan = plan_for_fit(events, template.fit, template.source_range, options)
    recipe = make_recipe(plan, template.fit, progress)
    control = control_ranges(plan, recipe, progress)
    # errors of norms that were fitted to counts are not the spectrum's
    amounts = amounts_of(plan, recipe, next(iter(template.counts.values())))
    known = amounts.with_measured(0.01 * record.measured_percent)
    known = known.with_hidden(0.01 * record.hidden_percent)
    from_spectrum = np.allclose(known.covariance, template.covariance, rtol=1e-6)
    template.set_control(control, amounts if from_spectrum else None)
    return control


def _from_spectrum(
    plan: TemplatePlan, recipe: Recipe, progress: Progress | None
) -> BackgroundTemplate:
    """The template with the amounts that the spectrum gives, or that are fitted to observed=."""
    # first, so that its sums are gone when the template's are made
    control = control_ranges(plan, recipe, progress) if plan.options.validate else None
    filtered = template_maps(plan, recipe, progress)
    amounts = amounts_of(plan, recipe, filtered.total)
    fit = recipe.fit
    notes = [*plan.events.notes, *unused_options(plan.options)]
    notes += fitted_source(plan, fit, recipe.weights.tracers)
    notes += unknown_without_sky(plan, fit, recipe.source, amounts.counts, recipe.weights.rows)
    if plan.observed is not None:
        notes.append(
            "The norms were fitted to observed= without sky=: the source's own photons in it count "
            "as background. Give sky=, or fit the norms together with your source."
        )
    notes += of_systematic_error(fit, included=True)
    template = assemble(plan, recipe, filtered, amounts, notes=notes)
    if control is not None:
        template.set_control(control, amounts)
    if plan.observed is not None:
        # the spectrum's knowledge of the continuum, and a line ratio, hold the norms
        template.fit_norms(plan.observed, constrain=True)
    return template
