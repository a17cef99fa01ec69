"""Weights on energy slices: what distinguishes one template method from another.

A template is ``T = w @ M``, where M is the histogram seen as a matrix (energy bin x cell).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..units import to_kev
from .amounts import SourceAmounts, nearest_line
from .plan import too_little

if TYPE_CHECKING:
    from ..fit.result import LineBackgroundFit
    from .plan import TemplatePlan

#: Lines within this distance of the source range [keV] lend the component "lines" its shape.
TRACER_REACH = 100.0

#: Lines closer than this [keV] overlap: with ``lines="spread"`` they count as one.
APART = 12.0

#: A line has a distribution of its own if its counts are this many times their noise.
SEEN = 10.0


@dataclass(frozen=True, eq=False)
class SliceWeights:
    """Weights on the energy slices, one row for each component of the template.

    Attributes
    ----------
    labels : tuple of str
    rows : ndarray, shape (n_labels, n_em)
        At the middle of the source range.
    seen : ndarray, shape (n_labels,)
        Counts of each component in the selected bins (1 for a single one), which filters are
        scored on.
    tracers : tuple of float, keV
        Lines that "lines" takes its distribution from.
    terms : tuple of ndarray, each of shape (n_terms, n_em)
        By label: at x, the weights are ``sum_p x^p terms[p]``. A component with one term has the
        same distribution at each energy. Empty for a template of one energy bin.
    x : ndarray, shape (n_bins,)
        Where the middles of the template's energy bins are.
    """

    labels: tuple[str, ...]
    rows: NDArray[np.float64]
    seen: NDArray[np.float64]
    tracers: tuple[float, ...] = ()
    terms: tuple[NDArray[np.float64], ...] = ()
    x: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def slice_weights(
    plan: TemplatePlan, fit: LineBackgroundFit, amounts: SourceAmounts
) -> SliceWeights:
    """The weights of a plan's method for a fitted spectrum.

    Raises
    ------
    TemplateError
        If the method cannot be used on these bins.
    """
    if plan.options.method == "components":
        labels, table, tracers = component_table(plan, fit)
        expected = np.maximum(table.sum(axis=0), 1e-12)
        counts = table[: len(labels), plan.selected].sum(axis=1)
        shares = np.ones(1)
        if plan.options.lines and "lines" in labels:
            table, shares = _lines_apart(plan, fit, tracers, table)
        terms, others, scale = _separated(
            table, expected, plan.centers, plan.selected, plan.middle, plan.options.order
        )
        rows = terms[:1]
        if len(labels) > 1:
            rows = np.vstack([rows, shares @ others[: shares.size]])
        of_bins = (terms, *(row[None] for row in rows[1:]))
        return SliceWeights(labels, rows, counts, tracers, *_of_bins(plan, of_bins, scale))
    total = amounts.counts_and_jacobian(fit.theta)[0].sum()
    if not total > 0:
        raise TemplateError(
            f"The model expects no background in the source range {plan.low:g}-{plan.high:g} keV."
        )
    if plan.options.method == "sideband":
        rows, scale = sideband_weights(fit.expected, plan.selected, total)[None], 1.0
    else:
        scale = plan.high - plan.low
        here, beyond = (
            interpolated_weights(fit.expected, plan.centers, plan.selected, total, energy)
            for energy in (plan.middle, plan.middle + scale)
        )
        rows = np.array([here, beyond - here])  # they are linear in the source energy
    return SliceWeights(("background",), rows[:1], np.ones(1), (), *_of_bins(plan, (rows,), scale))


def _of_bins(
    plan: TemplatePlan, terms: tuple[NDArray[np.float64], ...], scale: float
) -> tuple[tuple[NDArray[np.float64], ...], NDArray[np.float64]]:
    """`terms` and `x` of `SliceWeights`; `scale` [keV] is where x is 1."""
    if plan.n_bins == 1:
        return (), np.zeros(0)
    middles = 0.5 * (plan.bins[1:] + plan.bins[:-1])
    return terms, (middles - plan.middle) / scale


def component_table(
    plan: TemplatePlan, fit: LineBackgroundFit
) -> tuple[tuple[str, ...], NDArray[np.float64], tuple[float, ...]]:
    """Labels, expected counts per bin of continuum, tracer lines, other lines; tracers' energies.

    The rows behind the labels keep lines that are no tracers out of the components; rows without
    counts in the selected bins are left out.
    """
    spectra, selected = fit.component_spectra, plan.selected
    is_line = np.array([c.is_line for c in fit.model.components])
    continuum = spectra[~is_line].sum(axis=0)
    if not continuum[selected].sum() > 0:
        raise TemplateError("method='components' needs a continuum in the model.")
    tracers = _tracers(plan, fit)
    traced = spectra[tracers].sum(axis=0)
    others = spectra[is_line].sum(axis=0) - traced
    # a line that adds less than a thousandth of the noise needs no row of its own
    enough = 1e-3 * np.sqrt(fit.expected[selected].sum())
    rest = [others] if others[selected].sum() > enough else []
    if traced[selected].sum() > enough:
        lines = [fit.model.components[i] for i in np.flatnonzero(tracers)]
        energies = tuple(round(float(fit.theta[line.energy]), 3) for line in lines)
        return ("continuum", "lines"), np.array([continuum, traced, *rest]), energies
    return ("continuum",), np.array([continuum, *rest]), ()


@dataclass(frozen=True, eq=False)
class LineGroup:
    """Fitted lines that overlap, and count as one.

    Attributes
    ----------
    energies : tuple of float, keV
    spectrum : ndarray, shape (n_em,), counts
    """

    energies: tuple[float, ...]
    spectrum: NDArray[np.float64]

    def seen(self, expected: NDArray[np.float64], bins: NDArray[np.bool_]) -> float:
        """Its counts in these bins over their noise, where everything else is known."""
        return float(np.sqrt(np.sum(self.spectrum[bins] ** 2 / expected[bins])))


def line_groups(fit: LineBackgroundFit) -> list[LineGroup]:
    """The fitted lines by energy, those that overlap together."""
    runs: list[list[tuple[float, int]]] = []
    components, spectra = fit.model.components, fit.component_spectra
    for line in sorted((float(fit.theta[components[i].energy]), i) for i in fit.model.lines):
        if runs and line[0] - runs[-1][-1][0] < APART:
            runs[-1].append(line)
        else:
            runs.append([line])
    return [
        LineGroup(
            tuple(round(energy, 3) for energy, _ in run), spectra[[i for _, i in run]].sum(axis=0)
        )
        for run in runs
    ]


def _lines_apart(
    plan: TemplatePlan,
    fit: LineBackgroundFit,
    tracers: tuple[float, ...],
    table: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The table with a row for each tracer that is seen, and their shares in "lines".

    If their distributions differ, one row for all leaks into the continuum.
    """
    expected = np.maximum(table.sum(axis=0), 1e-12)
    own = [
        g.spectrum
        for g in line_groups(fit)
        if set(g.energies) & set(tracers) and g.seen(expected, plan.selected) > SEEN
    ]
    if len(own) < 2:
        return table, np.ones(1)
    rows, counts = np.array(own), np.array([spectrum[plan.selected].sum() for spectrum in own])
    rest = np.maximum(table[1:].sum(axis=0) - rows.sum(axis=0), 0.0)
    enough = rest[plan.selected].sum() > 1e-3 * np.sqrt(expected[plan.selected].sum())
    return np.vstack([table[:1], rows, *([rest] if enough else [])]), counts / counts.sum()


def _tracers(plan: TemplatePlan, fit: LineBackgroundFit) -> NDArray[np.bool_]:
    """True for the components that "lines" takes its distribution from.

    A line in the source range lends its own only where there is no other: beside the range it is
    seen by its wings, and with them those of a source.
    """
    model, theta = fit.model, fit.theta
    chosen = np.zeros(len(model.components), bool)
    if plan.options.tracers is None:
        inside = chosen.copy()
        for i in model.lines:
            line = model.components[i]
            energy = float(theta[line.energy])
            distance = max(plan.low - energy, energy - plan.high)
            chosen[i] = distance <= TRACER_REACH and theta[line.area] > 0
            inside[i] = distance <= 0
        beside = chosen & ~inside
        return beside if beside.any() else chosen
    for wanted in plan.options.tracers:
        chosen[nearest_line(model, theta, to_kev(wanted), "tracers")] = True
    return chosen


def sideband_weights(
    expected: NDArray[np.float64], selected: NDArray[np.bool_], source_counts: float
) -> NDArray[np.float64]:
    """One weight for all sidebands: model counts of the source range over those of the sidebands.

    Parameters
    ----------
    expected : ndarray, shape (n_em,), counts
        The fitted model per energy bin.
    selected : ndarray of bool, shape (n_em,)
        The sidebands' bins.
    source_counts : float
        Expected background counts in the source range.

    Returns
    -------
    ndarray, shape (n_em,)

    References
    ----------
    cosipy, LineBackgroundEstimation.generate_bkg_model_histogram.
    """
    total = expected[selected].sum()
    if not total > 0:
        raise TemplateError(
            "The model expects no counts in the sidebands; choose others or check the fit."
        )
    return np.where(selected, source_counts / total, 0.0)


def interpolated_weights(
    expected: NDArray[np.float64],
    energies: NDArray[np.float64],
    selected: NDArray[np.bool_],
    source_counts: float,
    source_energy: float,
) -> NDArray[np.float64]:
    """Least-noise weights that are right for a distribution that changes linearly with energy.

    Minimises the variance sum(w^2 mu) subject to sum(w mu) = `source_counts` and
    sum(w mu (E - E0)) = 0. The solution is w = a + b (E - E0), by Lagrange multipliers.

    Parameters
    ----------
    expected : ndarray, shape (n_em,), counts
        mu, the fitted model per energy bin.
    energies : ndarray, shape (n_em,), keV
        Bin centres E.
    selected : ndarray of bool, shape (n_em,)
        The bins to take.
    source_counts : float
    source_energy : float, keV
        E0.

    Returns
    -------
    ndarray, shape (n_em,)
        May be negative far from the source range.
    """
    mu = np.where(selected, expected, 0.0)
    distance = energies - source_energy
    scale = np.max(np.abs(distance[selected]))
    x = distance / scale
    moments = np.array([np.sum(mu), np.sum(mu * x), np.sum(mu * x * x)])
    determinant = moments[0] * moments[2] - moments[1] ** 2
    if not determinant > 1e-9 * moments[0] ** 2:
        raise TemplateError(
            "An interpolation needs two or more energy bins with expected counts; "
            f"the sidebands hold {int(np.sum(mu > 0))}. Widen them, or use method='sideband'."
        )
    a, b = source_counts * np.array([moments[2], -moments[1]]) / determinant
    return np.where(selected, a + b * x, 0.0)


def component_weights(
    components: NDArray[np.float64],
    expected: NDArray[np.float64],
    energies: NDArray[np.float64],
    selected: NDArray[np.bool_],
    source_energy: float,
    order: int = 1,
) -> NDArray[np.float64]:
    """Weights that take the components of the spectrum apart, cell by cell.

    A slice is expected to hold ``M_i = sum_j c_i x_i^j C_j + sum_k l_ki L_k``: the continuum's
    distribution changes with energy as a polynomial in x = E - E0, each line component has one of
    its own. The weights are the least-squares solution with variances proportional to the model
    counts, which is optimal for Poisson slices: w = (G V^-1 G^T)^-1 G V^-1. For order 0 and one
    line component they are the sWeights; with the polynomial terms, custom orthogonal weight
    functions.

    Parameters
    ----------
    components : ndarray, shape (n_components, n_em), counts
        Expected counts per energy bin; the first row is the continuum.
    expected : ndarray, shape (n_em,), counts
        Their sum.
    energies : ndarray, shape (n_em,), keV
        Bin centres.
    selected : ndarray of bool, shape (n_em,)
        The bins to take.
    source_energy : float, keV
        E0, where the continuum's distribution is wanted.
    order : int
        Degree of the polynomial.

    Returns
    -------
    ndarray, shape (n_components, n_em)
        ``w @ M`` estimates the distribution of each component per count of it:
        w_k @ components_k = 1, w_k @ components_l = 0.

    Raises
    ------
    TemplateError
        If the selected bins cannot tell the components apart.

    References
    ----------
    Pivk & Le Diberder 2005, NIM A 555, 356, Eqs. 10-15; Dembinski, Kenzie, Langenbruch &
    Schmelling 2022, NIM A 1040, 167270, Sect. 3.
    """
    terms, others, _ = _separated(components, expected, energies, selected, source_energy, order)
    return np.vstack([terms[:1], others])


def _separated(
    components: NDArray[np.float64],
    expected: NDArray[np.float64],
    energies: NDArray[np.float64],
    selected: NDArray[np.bool_],
    source_energy: float,
    order: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The solution of `component_weights` for all its unknowns.

    Returns
    -------
    terms : ndarray, shape (order + 1, n_em)
        Of the continuum: at an energy E its weights are ``sum_p ((E - E0) / scale)^p terms[p]``.
    others : ndarray, shape (n_components - 1, n_em)
        Of the others, the same at each energy.
    scale : float, keV
    """
    scale = max(float(np.max(np.abs(energies[selected] - source_energy), initial=0.0)), 1e-9)
    x = (energies[selected] - source_energy) / scale
    chosen = components[:, selected]
    rows = [chosen[0] * x**power for power in range(order + 1)] + list(chosen[1:])
    design = np.array(rows)
    size = np.sqrt(np.sum(design**2 / expected[selected], axis=1))
    if np.any(size == 0.0) or len(rows) > selected.sum():
        raise TemplateError(too_little(len(rows), int(selected.sum())))
    scaled = design / size[:, None]
    information = (scaled / expected[selected]) @ scaled.T
    if np.linalg.eigvalsh(information)[0] < 1e-9:
        raise TemplateError(too_little(len(rows), int(selected.sum())))
    solution = np.linalg.solve(information, scaled / expected[selected]) / size[:, None]
    weights = np.zeros((len(rows), energies.size))
    weights[:, selected] = solution
    return weights[: order + 1], weights[order + 1 :], scale
