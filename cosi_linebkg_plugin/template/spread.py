"""How much the distributions of the tracer lines differ among each other, beyond noise.

"lines" lends the line in the source range the mean distribution of its tracers. Whether lines of
one detector share a distribution can be seen on the tracers alone: each gets a component of its
own, and so an estimate of its distribution, p_t. Per bin g of an axis the estimates are

    p_tg = m_g (1 + tau e_tg) + noise,   cov(p_tg, p_ug) = sum_i w_ti w_ui v_ig,

with e of variance 1. The contrasts among the tracers, which m_g is not in, are made independent by
the eigenvectors of their covariance, and tau, the fractional spread of a line's bins, is what makes
them agree (`extra_error`).

The weights are taken as exact. Blended lines whose energies and widths the fit gets wrong, and
features in Phi that move with energy, let other components leak into a tracer's estimate, and count
as spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..histograms.read import EventHistogram
from .amounts import nearest_line
from .choice import AxisSlices, slices_by_axis
from .extra_error import ExtraError, extra_error
from .filters import Filter
from .options import TemplateOptions
from .plan import TemplatePlan, plan_for_fit
from .template import BackgroundTemplate
from .weights import component_weights

Array = NDArray[np.float64]

#: Tracers closer than this [keV] overlap, and count as one.
APART = 10.0

#: A tracer is used if its counts are this many times their noise.
SEEN = 10.0


@dataclass(frozen=True)
class LineSpread:
    """How much the distributions of tracer lines differ.

    Attributes
    ----------
    tracers : tuple of tuple of float, keV
        The lines of each distribution; lines that overlap are one.
    axes : mapping of str to ExtraError
        By axis ("Phi", "PsiChi"): the standard deviation of one line's share of a bin around the
        mean of all, as a fraction of it.
    """

    tracers: tuple[tuple[float, ...], ...]
    axes: Mapping[str, ExtraError]

    def __str__(self) -> str:
        parts = [
            f"{axis} {100 * e.value:.2g} % per bin (68 %: {100 * e.low:.2g} to {100 * e.high:.2g})"
            for axis, e in self.axes.items()
        ]
        return (
            f"{len(self.tracers)} tracer lines differ beyond noise by: {'; '.join(parts)}. The "
            "line in the source range may differ from their mean as much."
        )


def line_spread(events: EventHistogram, template: BackgroundTemplate) -> LineSpread:
    """Measure it for the tracers of a template; see `LineBackgroundLike.line_spread`.

    Parameters
    ----------
    events : EventHistogram
        Those that the template was made from.
    template : BackgroundTemplate
        By ``method="components"``.

    Raises
    ------
    TemplateError
        If it has fewer than two tracers that can be told apart.
    """
    if template.method != "components":
        raise TemplateError(
            "The spread of line patterns needs a template by method='components', which takes "
            f"lines apart; this one is by method={template.method!r}."
        )
    known = {k: v for k, v in template.record.recipe.items() if k not in Filter().__dict__}
    options = TemplateOptions(line_ratio=template.record.line_ratio, **known)
    plan = plan_for_fit(events, template.fit, template.source_range, options)
    groups = _groups(plan, template)
    if len(groups) < 2:
        raise TemplateError(
            f"The spread of line patterns needs two or more tracers, {APART:g} keV apart and each "
            f"{SEEN:g} times its noise in the energies used; the template has {len(groups)}. "
            "Widen window=, or name tracers=."
        )
    weights = _weights(plan, template, list(groups.values()))
    axes = {
        axis: spread_of_slices(weights, slices)
        for axis, slices in slices_by_axis(events).items()
        if axis in ("Phi", "PsiChi")
    }
    return LineSpread(tuple(groups), axes)


def spread_of_slices(weights: Array, slices: AxisSlices) -> ExtraError:
    """The fractional spread of distributions that rows of weights estimate.

    Parameters
    ----------
    weights : ndarray, shape (n_tracers, n_em)
        Per count of each tracer.
    slices : AxisSlices
    """
    estimates = weights @ slices.counts
    totals = estimates.sum(axis=1)
    if not np.all(totals > 0):
        raise TemplateError(
            "A tracer line's distribution is not positive; name others in tracers=."
        )
    estimates, weights = estimates / totals[:, None], weights / totals[:, None]
    n = len(weights)
    contrasts = np.linalg.svd(np.ones((1, n)))[2][1:]  # rows orthogonal to 1 and each other
    residuals, variances, scales = [], [], []
    for values, noise in zip(estimates.T, slices.variances.T, strict=True):
        covariance = (weights * noise) @ weights.T
        own, vectors = np.linalg.eigh(contrasts @ covariance @ contrasts.T)
        if noise.any() and own[0] > 0 and values.mean() > 0:
            residuals.append(vectors.T @ contrasts @ values)
            variances.append(own)
            scales.append(np.full(n - 1, values.mean()))
    if len(residuals) < 2:
        return extra_error([], [])
    # each distribution has the sum 1
    dof = (n - 1) * (len(residuals) - 1)
    return extra_error(
        np.concatenate(residuals), np.concatenate(variances), np.concatenate(scales), dof
    )


def _groups(plan: TemplatePlan, template: BackgroundTemplate) -> dict[tuple[float, ...], list[int]]:
    """The tracers' components by their energies, those that overlap together; seen ones alone."""
    fit, used = template.fit, plan.selected
    runs: list[list[float]] = []
    for energy in sorted(template.record.tracers):
        if runs and energy - runs[-1][-1] < APART:
            runs[-1].append(energy)
        else:
            runs.append([energy])
    groups = {}
    for run in runs:
        members = [nearest_line(fit.model, fit.theta, energy, "tracers") for energy in run]
        counts = fit.component_spectra[members].sum(axis=0)[used]
        if np.sum(counts**2 / np.maximum(fit.expected[used], 1e-12)) > SEEN**2:
            groups[tuple(run)] = members
    return groups


def _weights(plan: TemplatePlan, template: BackgroundTemplate, members: list[list[int]]) -> Array:
    """Weights for each group of tracers, shape (n_groups, n_em)."""
    fit = template.fit
    spectra = fit.component_spectra
    is_line = np.array([c.is_line for c in fit.model.components])
    rows = [spectra[~is_line].sum(axis=0), *(spectra[own].sum(axis=0) for own in members)]
    others = spectra.sum(axis=0) - np.sum(rows, axis=0)
    # as in the template: what adds less than a thousandth of the noise needs no row
    if others[plan.selected].sum() > 1e-3 * np.sqrt(fit.expected[plan.selected].sum()):
        rows.append(others)
    table = np.array(rows)
    expected = np.maximum(table.sum(axis=0), 1e-12)
    order = template.record.order if template.record.order is not None else 1
    weights = component_weights(table, expected, plan.centers, plan.selected, plan.middle, order)
    return weights[1 : 1 + len(members)]
