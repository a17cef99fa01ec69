"""method="auto": the method, order and energies that predict control ranges best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from ..errors import LineBackgroundError, TemplateError
from ..fit.adequacy import TOLERABLE
from ..fit.result import LineBackgroundFit
from ..histograms.read import EventHistogram
from ..io.progress import Progress, say
from .amounts import ExpectedAmounts, expected_amounts, sideband_amounts, source_amounts
from .comparison import COMPARED_AXES, pixel_groups
from .options import TemplateOptions
from .plan import TemplatePlan
from .record import MethodScore
from .validation import AT_ONCE, NSIDE, fitted_ranges
from .weights import slice_weights

Array = NDArray[np.float64]

#: How far from the source range energies are taken, in widths of the source range.
REACHES = (1.5, 3.0, 6.0, 12.0, 24.0)

#: Half-widths of the window of `components` [keV].
WINDOWS = (40.0, 80.0, 160.0)

#: `components` leans on the fitted lines, of which control ranges hold none. Where the fit needs a
#: larger systematic error of each energy bin than this, its score is `HANDICAP` lower; above
#: `TOLERABLE` it is no candidate.
LARGEST_MISFIT, HANDICAP = 0.005, 10.0

#: Control ranges are looked for with as many energies beside them, in widths of the source range.
_ROOM = 6.0

#: Beyond this ratio of mean^2 to variance the law of the counts is Poisson's.
_POISSON = 1e8

_NOTHING = "The recipe expects no counts here."


def choose_method(
    plan: TemplatePlan, fit: LineBackgroundFit, progress: Progress | None = None
) -> tuple[TemplatePlan, tuple[MethodScore, ...]]:
    """The plan of the recipe that predicts control ranges best, and the scores of all.

    The score is the log-likelihood of the counts of control ranges, which the recipe does not
    know: of the total, and of the distribution along each axis at the observed total. The
    counts follow Poisson's law with a mean that scatters by the template's own error (a gamma
    law), hence the negative binomial law. `components` has a handicap, or is no candidate, where
    the model misses the spectrum; see `LARGEST_MISFIT`.

    Parameters
    ----------
    plan : TemplatePlan
        With ``method="auto"``.
    fit : LineBackgroundFit

    Returns
    -------
    TemplatePlan
        With the options of the best recipe.
    scores : tuple of MethodScore
        The best first.

    Raises
    ------
    TemplateError
        If no recipe works, or there is no control range.
    """
    usable = _usable(plan, fit, candidates(plan, fit))
    fits = fitted_ranges(plan.with_options(_room(plan), fit), fit)
    if not fits:
        raise TemplateError(
            "method='auto' compares recipes on control ranges, of which there is none: widen the "
            "energy range of the events, or name a method."
        )
    say(progress, f"comparing {len(usable)} recipes on {len(fits)} control ranges")
    slices = slices_by_axis(plan.events)
    scores = np.array([_scores(own, refit, usable, slices) for own, refit in fits])
    scores = scores[np.isfinite(scores).any(axis=1)]
    if not len(scores):
        raise TemplateError("No recipe works on any control range; name a method.")
    # a recipe that fails on a range is as bad as the worst there
    totals = np.where(np.isnan(scores), np.nanmin(scores, axis=1, keepdims=True), scores).sum(0)
    if fit.systematic > LARGEST_MISFIT:
        totals -= [HANDICAP * (options.method == "components") for options in usable]
    order = np.argsort(-totals, kind="stable")
    ladder = tuple(
        MethodScore(describe(usable[i]), float(totals[i] - totals[order[0]])) for i in order
    )
    return plan.with_options(usable[order[0]], fit), ladder


def candidates(plan: TemplatePlan, fit: LineBackgroundFit) -> list[TemplateOptions]:
    """The recipes that are compared; energies that the options name are taken."""
    given = plan.options
    found = []
    width = plan.high - plan.low
    if fit.adequacy is not None and fit.systematic <= TOLERABLE:
        windows: list[dict[str, Any]] = [{"reach": reach} for reach in WINDOWS]
        if given.window is not None:
            windows = [{}]
        found += [
            replace(given, method="components", order=order, sidebands=None, **window)
            for window in windows
            for order in (1, 0, 2)
        ]
    energies: list[dict[str, Any]] = [
        {"reach": reach * width, "avoid_lines": avoid}
        for reach in REACHES
        for avoid in ((False, True) if fit.lines else (False,))
    ]
    if given.sidebands is not None:
        energies = [{}]
    return found + [
        replace(given, method=method, window=None, **chosen)
        for method in ("interpolated", "sideband")
        for chosen in energies
    ]


def describe(options: TemplateOptions) -> str:
    """A recipe in words."""
    parts = [options.method]
    if options.method == "components":
        parts.append(f"order {options.order}")
    if options.reach is not None:
        parts.append(f"{options.reach:.3g} keV to either side")
    if options.avoid_lines:
        parts.append("without lines")
    return ", ".join(parts)


def _room(plan: TemplatePlan) -> TemplateOptions:
    return replace(
        plan.options,
        method="interpolated",
        window=None,
        sidebands=None,
        reach=_ROOM * (plan.high - plan.low),
    )


def _usable(
    plan: TemplatePlan, fit: LineBackgroundFit, tried: Sequence[TemplateOptions]
) -> list[TemplateOptions]:
    """The recipes that work for the source range, each selection of energies once."""
    usable, seen, reason = [], set(), ""
    for options in tried:
        try:
            own = plan.with_options(options, fit)
            rows = slice_weights(own, fit, source_amounts(own, fit)).rows
            if not (rows @ plan.events.energy_counts() > 0.0).all():
                raise TemplateError("the weighted sum of the slices is not positive")
        except LineBackgroundError as error:
            reason = str(error)
            continue
        key = options.method, options.order, own.selected.tobytes()
        if key not in seen:
            usable.append(options)
        seen.add(key)
    if not usable:
        raise TemplateError(f"No method makes a template here: {reason}")
    return usable


@dataclass(frozen=True, eq=False)
class AxisSlices:
    """The energy slices along one axis.

    Attributes
    ----------
    counts, variances : ndarray, shape (n_em, n_groups), counts and counts^2
    """

    counts: Array
    variances: Array


def slices_by_axis(events: EventHistogram) -> dict[str, AxisSlices]:
    """Every energy slice along each axis that is compared; PsiChi down-graded.

    Unfiltered: the totals along Phi and Time are those of any filter.
    """
    n_em = events.energy_edges.size - 1
    labels = [str(axis.label) for axis in events.other_axes]
    parts: dict[str, list[tuple[Array, Array]]] = {}
    step = max(1, int(AT_ONCE / (16.0 * math.prod(events.other_shape))))
    for start in range(0, n_em, step):
        sums, variances = events.weighted_sums(np.eye(n_em)[start : start + step])
        assert variances is not None
        for i, label in enumerate(labels):
            if label in COMPARED_AXES:
                others = tuple(1 + j for j in range(len(labels)) if j != i)
                groups = pixel_groups(events.other_axes[i], NSIDE)
                if label == "PsiChi" and groups is None:
                    continue
                parts.setdefault(label, []).append(
                    (
                        _grouped(sums.sum(axis=others), groups),
                        _grouped(variances.sum(axis=others), groups),
                    )
                )
    return {
        label: AxisSlices(*(np.concatenate(arrays) for arrays in zip(*rows, strict=True)))
        for label, rows in parts.items()
    }


def _grouped(table: Array, groups: list[NDArray[np.int64]] | None) -> Array:
    if groups is None:
        return table
    return np.stack([table[:, group].sum(axis=1) for group in groups], axis=1)


def _scores(
    plan: TemplatePlan,
    fit: LineBackgroundFit,
    tried: Sequence[TemplateOptions],
    slices: dict[str, AxisSlices],
) -> Array:
    """The score of each recipe on one control range, shape (n_recipes,); NaN where it fails."""
    out = np.full(len(tried), np.nan)
    for i, options in enumerate(tried):
        try:
            own = replace(options, line_ratio=None, energy_edges=None)
            out[i] = _score(plan.with_options(own, fit), fit, slices)
        except LineBackgroundError:
            continue
    return out


def _score(plan: TemplatePlan, fit: LineBackgroundFit, slices: dict[str, AxisSlices]) -> float:
    """Log-likelihood of the counts of a control range."""
    counts = plan.events.energy_counts()
    observed = float(counts[plan.in_source].sum())
    source = source_amounts(plan, fit)
    weights = slice_weights(plan, fit, source)
    if plan.options.method == "sideband":
        amounts = sideband_amounts(plan, fit, source, float(weights.rows[0] @ counts))
    else:
        amounts = expected_amounts(plan, fit, source, weights.labels, lines_may_hide=False)
    total = sum(amounts.counts.values())
    if not total > 0:
        raise TemplateError(_NOTHING)
    score = log_predictive(
        np.array([observed]),
        np.array([total]),
        np.array([amounts.covariance.sum()]),
    )
    for part in slices.values() if observed > 0 else ():  # no counts have no distribution
        expected, variances = _mixture(weights.rows, amounts, part)
        scale = observed / expected.sum()
        score += log_predictive(
            part.counts[plan.in_source].sum(axis=0), scale * expected, scale**2 * variances
        )
    return score


def _mixture(rows: Array, amounts: ExpectedAmounts, part: AxisSlices) -> tuple[Array, Array]:
    """Expected counts along an axis, and their variances, at the amounts of the components."""
    expected, variances = np.zeros(part.counts.shape[1]), np.zeros(part.counts.shape[1])
    for row, counts in zip(rows, amounts.counts.values(), strict=True):
        shape = row @ part.counts
        if counts > 0 and shape.sum() > 0:
            factor = counts / shape.sum()
            expected += factor * shape
            variances += factor**2 * (row**2 @ part.variances)
    if not expected.sum() > 0:
        raise TemplateError(_NOTHING)
    # a bin where weights of both signs leave nothing, or less
    return np.maximum(expected, 1e-3 * expected.mean()), variances


def log_predictive(counts: Array, expected: Array, variances: Array) -> float:
    """Log-likelihood of counts whose Poisson mean is known to a variance: negative binomial.

    Parameters
    ----------
    counts, expected, variances : ndarray, shape (n,)
        Expected counts above 0; variances of them, 0 or more.

    References
    ----------
    Gelman et al. 2013, Bayesian Data Analysis (3rd ed.), Sect. 2.6: the predictive law of Poisson
    counts with a gamma-distributed mean.
    """
    shape = expected**2 / np.maximum(variances, expected**2 / _POISSON)
    total = shape + expected
    terms = (
        gammaln(counts + shape)
        - gammaln(shape)
        - gammaln(counts + 1.0)
        + shape * np.log(shape / total)
        + counts * np.log(expected / total)
    )
    return float(terms.sum())
