"""Damped scoring for many lines: each couples to its neighbours, and to few common parameters.

Sorted by the bins that they act on, with what acts on most of them (continuum, common width) last,
the parameters have an information matrix that is a band with a border. Its Cholesky factor keeps
that profile (George & Liu 1981, Computer Solution of Large Sparse Positive Definite Systems), so
that time grows with the number of lines, not with its cube. Steps, damping, limits and the end are
those of `objective.Objective.score_to_minimum`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..spectrum.kernels import FIT_REACH, FLOOR

if TYPE_CHECKING:
    from ..spectrum.components import SpectralModel
    from .objective import Objective

Array = NDArray[np.float64]
Slots = NDArray[np.int64]

#: Scoring stops when a step gains less than this in log-likelihood.
_TOLERANCE = 1e-6
_MAX_STEPS = 100
#: A parameter that acts on more than this share of the bins stands in the border.
_WIDE = 0.5

_compiled = njit(cache=True, error_model="numpy")


def score_banded(
    objective: Objective, theta: Array, slots: Slots, low: Array, high: Array
) -> tuple[Array, float]:
    """Levenberg-Marquardt on the expected information, within limits: the point, and its value.

    Parameters
    ----------
    objective : Objective
        Of compiled components without priors.
    theta : ndarray, shape (n_parameters,)
    slots : ndarray of int, shape (n_slots,)
        What is free.
    low, high : ndarray, shape (n_slots,)
    """
    damping, value = 1e-3, objective.value(theta)
    lines = _Gaussians.of(objective.model)
    jac = np.zeros((theta.size, objective.spectrum.n_bins))
    for _ in range(_MAX_STEPS):
        within = lines.bins(theta, objective.spectrum.edges)
        gradient, matrix, start, moving = _normal_equations(
            objective, theta, (slots, low, high), jac, within[slots]
        )
        _clear(jac, within)
        if moving.size == 0:
            break
        places = slots[moving]
        gain, trial = 0.0, theta
        while damping < 1e10:
            step = _solve(matrix, start, -gradient, damping)
            trial = theta.copy()
            trial[places] = np.clip(theta[places] + step, low[moving], high[moving])
            gain = value - objective.value(trial)
            if gain > 0.0:
                break
            damping *= 10.0
        if not gain > 0.0:
            break
        theta, value = trial, value - gain
        damping = max(damping * 0.1, 1e-12)
        if gain < _TOLERANCE:
            break
    return theta, objective.value(theta)


@dataclass(frozen=True, eq=False)
class _Gaussians:
    """Slots of the lines that act on few bins, and how many parameters there are.

    Attributes
    ----------
    slots : ndarray of int, shape (n, 4)
        Area, energy, width (or a), and b, -1 where the width is its own parameter.
    n_parameters : int
    """

    slots: Slots
    n_parameters: int

    @classmethod
    def of(cls, model: SpectralModel) -> _Gaussians:
        """Those of a model; none if lines have steps, which act on all bins below."""
        rows: list[tuple[int, ...]] = []
        if not any(c.is_step for c in model.components):
            kinds = ("gaussian", "linear_gaussian")
            rows = [(*c.slots, -1)[:4] for c in model.components if c.kind in kinds]
        return cls(np.array(rows, np.int64).reshape(-1, 4), len(model.parameters))

    def bins(self, theta: Array, edges: Array) -> Slots:
        """First and one-past-last bin that a parameter may act on, shape (n_parameters, 2)."""
        spans = np.tile(np.array([0, edges.size - 1]), (self.n_parameters, 1))
        area, energy, width, growth = self.slots.T
        growing = np.where(growth < 0, 0.0, theta[growth])
        variance = np.where(growth < 0, theta[width] ** 2, theta[width] + growing * theta[energy])
        reach = FIT_REACH * np.sqrt(np.maximum(variance, 0.0))
        first = np.searchsorted(edges, theta[energy] - reach) - 2
        last = np.searchsorted(edges, theta[energy] + reach) + 2
        spans[area] = spans[energy] = np.clip(np.stack([first, last], axis=1), 0, edges.size - 1)
        return spans


def _normal_equations(
    objective: Objective,
    theta: Array,
    free: tuple[Slots, Array, Array],
    jac: Array,
    within: Slots,
) -> tuple[Array, Array, Slots, Slots]:
    """Gradient and information of what can move, in the order of the bins that it acts on.

    Parameters
    ----------
    objective : Objective
    theta : ndarray, shape (n_parameters,)
    free : slots, low and high, as of `score_banded`
    jac : ndarray, shape (n_parameters, n_bins)
        Zeros.
    within : ndarray of int, shape (n_slots, 2)
        Bins outside which a parameter does nothing.

    Returns
    -------
    gradient : ndarray, shape (n,)
    matrix : ndarray, shape (n, n)
        Lower triangle, within its profile.
    start : ndarray of int, shape (n,)
        First column of each row's profile.
    moving : ndarray of int, shape (n,)
        Places in `slots`.
    """
    slots, low, high = free
    expected = objective.expected(theta, jac)
    counts, used = objective.spectrum.counts, objective.used
    spans, gradient, size = _spans_and_gradient(jac, slots, within, counts, used, expected)
    x = theta[slots]
    held = ((x <= low) & (gradient > 0.0)) | ((x >= high) & (gradient < 0.0)) | ~(size > 0.0)
    wide = spans[:, 1] - spans[:, 0] > _WIDE * counts.size
    order = np.lexsort((spans[:, 1], spans[:, 0], wide))
    moving = order[~held[order]]
    matrix, start = _profile(jac, slots[moving], spans[moving], wide[moving], used, expected)
    return gradient[moving], matrix, start, moving


@_compiled
def _clear(jac: Array, within: Slots) -> None:
    """Zeros where a parameter may have acted."""
    for i in range(within.shape[0]):
        jac[i, within[i, 0] : within[i, 1]] = 0.0


@_compiled
def _spans_and_gradient(
    jac: Array,
    slots: Slots,
    within: Slots,
    counts: Array,
    used: NDArray[np.bool_],
    expected: Array,
) -> tuple[Slots, Array, Array]:
    """First and one-past-last bin of each parameter, gradient, and diagonal of the information."""
    spans = np.zeros((slots.size, 2), np.int64)
    gradient, size = np.zeros(slots.size), np.zeros(slots.size)
    for i in range(slots.size):
        row = jac[slots[i]]
        first, last = within[i, 0], within[i, 1]
        while first < last and row[first] == 0.0:
            first += 1
        while last > first and row[last - 1] == 0.0:
            last -= 1
        spans[i, 0], spans[i, 1] = first, last
        for b in range(first, last):
            if used[b]:
                e = max(expected[b], FLOOR)
                gradient[i] += row[b] * (e - counts[b]) / e
                size[i] += row[b] * row[b] / e
    return spans, gradient, size


@_compiled
def _profile(
    jac: Array,
    slots: Slots,
    spans: Slots,
    wide: NDArray[np.bool_],
    used: NDArray[np.bool_],
    expected: Array,
) -> tuple[Array, Slots]:
    """Lower triangle of the information within its profile, and where each row begins."""
    n = slots.size
    matrix, start = np.zeros((n, n)), np.zeros(n, np.int64)
    weighted = np.zeros(used.size)
    for i in range(n):
        first, last = spans[i, 0], spans[i, 1]
        for b in range(first, last):
            weighted[b] = jac[slots[i], b] / max(expected[b], FLOOR) if used[b] else 0.0
        start[i] = 0 if wide[i] else i
        for j in range(i + 1):
            low, high = max(first, spans[j, 0]), min(last, spans[j, 1])
            if low >= high:
                continue
            start[i] = min(start[i], j)
            total = 0.0
            row = jac[slots[j]]
            for b in range(low, high):
                total += weighted[b] * row[b]
            matrix[i, j] = total
    return matrix, start


@_compiled
def _solve(matrix: Array, start: Slots, right: Array, damping: float) -> Array:
    """Solution with a lower triangle and its profile, damped on the diagonal of correlations."""
    n = right.size
    root, step = np.zeros(n), np.zeros(n)
    factor = np.zeros((n, n))
    for i in range(n):
        root[i] = math.sqrt(matrix[i, i])
        for j in range(start[i], i + 1):
            total = matrix[i, j] / (root[i] * root[j])
            if i == j:
                total += damping
            for k in range(max(start[i], start[j]), j):
                total -= factor[i, k] * factor[j, k]
            factor[i, j] = math.sqrt(max(total, 1e-14)) if i == j else total / factor[j, j]
        total = right[i] / root[i]
        for k in range(start[i], i):
            total -= factor[i, k] * step[k]
        step[i] = total / factor[i, i]
    for i in range(n - 1, -1, -1):
        step[i] /= factor[i, i]
        for k in range(start[i], i):
            step[k] -= factor[i, k] * step[i]
    for i in range(n):
        step[i] /= root[i]
    return step
