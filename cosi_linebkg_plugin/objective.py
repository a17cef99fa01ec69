"""The function that a fit minimises, with its derivatives, and damped Fisher scoring on it."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .components import BoundModel, SpectralModel
from .lineshapes import EnergyGrid, accumulate
from .spectrum import EnergySpectrum
from .statistic import FLOOR, half_deviance, score_residual

#: Scoring stops when a step gains less than this in log-likelihood.
_SCORING_TOLERANCE = 1e-6
_MAX_SCORING_STEPS = 100


# --- closed-form components: everything compiled -------------------------------------------------


@njit(cache=True)
def _add_penalty(gradient, information, theta, slots, means, weights):
    """Gaussian priors: their half chi-square; gradient and information changed in place."""
    value = 0.0
    for k in range(slots.size):
        difference = theta[slots[k]] - means[k]
        value += 0.5 * difference * difference * weights[k]
        gradient[slots[k]] += difference * weights[k]
        if information.size:
            information[slots[k], slots[k]] += weights[k]
    return value


@njit(cache=True)
def compiled_value(args, theta):
    """Half the deviance of closed-form components, plus penalties."""
    data, kernel, prior = args
    counts, used = data
    total = np.zeros(counts.size)
    accumulate(
        kernel[0], kernel[1], kernel[2], theta, kernel[3], kernel[4], kernel[5], kernel[6],
        total, np.empty((0, 0)), False,
    )  # fmt: skip
    value = half_deviance(counts, used, total)
    for k in range(prior[0].size):
        difference = theta[prior[0][k]] - prior[1][k]
        value += 0.5 * difference * difference * prior[2][k]
    return value


@njit(cache=True)
def compiled_gradient(args, theta):
    """Its gradient, shape (n_parameters,)."""
    data, kernel, prior = args
    counts, used = data
    total = np.zeros(counts.size)
    jac = np.zeros((theta.size, counts.size))
    accumulate(
        kernel[0], kernel[1], kernel[2], theta, kernel[3], kernel[4], kernel[5], kernel[6],
        total, jac, True,
    )  # fmt: skip
    gradient = _dot(jac, score_residual(counts, used, total))
    _add_penalty(gradient, np.empty((0, 0)), theta, prior[0], prior[1], prior[2])
    return gradient


@njit(cache=True)
def compiled_scoring(args, theta):
    """Value, gradient and expected (Fisher) information."""
    data, kernel, prior = args
    counts, used = data
    total = np.zeros(counts.size)
    jac = np.zeros((theta.size, counts.size))
    accumulate(
        kernel[0], kernel[1], kernel[2], theta, kernel[3], kernel[4], kernel[5], kernel[6],
        total, jac, True,
    )  # fmt: skip
    return score_of(counts, used, total, jac, theta, prior)


@njit(cache=True)
def score_of(counts, used, expected, jac, theta, prior):
    """Value, gradient and expected information from expected counts and their Jacobian."""
    n_parameters, n_bins = jac.shape
    value = half_deviance(counts, used, expected)
    gradient = _dot(jac, score_residual(counts, used, expected))
    information = np.zeros((n_parameters, n_parameters))
    weighted = np.empty(n_bins)
    for i in range(n_parameters):
        first, last = n_bins, 0
        for b in range(n_bins):
            weighted[b] = jac[i, b] / max(expected[b], FLOOR) if used[b] else 0.0
            if weighted[b] != 0.0:
                first, last = min(first, b), b + 1
        for j in range(i + 1):
            total = 0.0
            for b in range(first, last):
                total += weighted[b] * jac[j, b]
            information[i, j] = information[j, i] = total
    value += _add_penalty(gradient, information, theta, prior[0], prior[1], prior[2])
    return value, gradient, information


@njit(cache=True)
def _dot(jac, residual):
    out = np.zeros(jac.shape[0])
    for i in range(jac.shape[0]):
        for b in range(residual.size):
            out[i] += jac[i, b] * residual[b]
    return out


# --- damped scoring ------------------------------------------------------------------------------


@njit(cache=True)
def _damped_step(information, gradient, theta, slots, low, high, damping):
    """`theta` after one Levenberg-Marquardt step within limits; False if nothing can move.

    Parameters at a limit that the gradient pushes against stay; the matrix is scaled to
    correlations first, since a pivot flux and a line energy differ by a factor of a million.
    """
    n = 0
    moving = np.empty(slots.size, np.int64)
    for k in range(slots.size):
        s = slots[k]
        held = (theta[s] <= low[k] and gradient[s] > 0.0) or (
            theta[s] >= high[k] and gradient[s] < 0.0
        )
        if information[s, s] > 0.0 and not held:
            moving[n] = k
            n += 1
    out = theta.copy()
    if n == 0:
        return out, False
    root = np.empty(n)
    for i in range(n):
        root[i] = math.sqrt(information[slots[moving[i]], slots[moving[i]]])
    # Cholesky factor of the damped correlation matrix, then two triangular solves.
    factor = np.zeros((n, n))
    step = np.empty(n)
    for i in range(n):
        si = slots[moving[i]]
        for j in range(i + 1):
            total = information[si, slots[moving[j]]] / (root[i] * root[j])
            if i == j:
                total += damping
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            if i == j:
                factor[i, i] = math.sqrt(max(total, 1e-14))
            else:
                factor[i, j] = total / factor[j, j]
        total = -gradient[si] / root[i]
        for k in range(i):
            total -= factor[i, k] * step[k]
        step[i] = total / factor[i, i]
    for i in range(n - 1, -1, -1):
        total = step[i]
        for k in range(i + 1, n):
            total -= factor[k, i] * step[k]
        step[i] = total / factor[i, i]
    for i in range(n):
        k = moving[i]
        out[slots[k]] = min(max(theta[slots[k]] + step[i] / root[i], low[k]), high[k])
    return out, True


# The two loops below are compiled for closed-form components, and run as they are where a
# component is a Python function.


def _scoring_loop(value_of, scoring_of):
    """Levenberg-Marquardt on the expected information, within limits."""

    def minimise(args, theta, slots, low, high):
        damping = 1e-3
        value, gradient, information = scoring_of(args, theta)
        for _ in range(_MAX_SCORING_STEPS):
            gain = 0.0
            trial = theta
            while damping < 1e10:
                trial, moved = _damped_step(information, gradient, theta, slots, low, high, damping)
                if not moved:
                    break
                gain = value - value_of(args, trial)
                if gain > 0.0:
                    break
                damping *= 10.0
            if not gain > 0.0:
                break
            theta = trial
            damping = max(damping * 0.1, 1e-12)
            value, gradient, information = scoring_of(args, theta)
            if gain < _SCORING_TOLERANCE:
                break
        return theta, value

    return minimise


def _hessian_loop(gradient_of):
    """Second derivatives from central differences of the analytic gradient."""

    def hessian(args, theta, slots, steps):
        rows = np.empty((slots.size, slots.size))
        shifted = theta.copy()
        for k in range(slots.size):
            shifted[slots[k]] = theta[slots[k]] + steps[k]
            up = gradient_of(args, shifted)
            shifted[slots[k]] = theta[slots[k]] - steps[k]
            down = gradient_of(args, shifted)
            shifted[slots[k]] = theta[slots[k]]
            for j in range(slots.size):
                rows[k, j] = (up[slots[j]] - down[slots[j]]) / (2.0 * steps[k])
        return 0.5 * (rows + rows.T)

    return hessian


_compiled_minimise = njit(cache=True)(_scoring_loop(compiled_value, compiled_scoring))
_compiled_hessian = njit(cache=True)(_hessian_loop(compiled_gradient))


class Objective:
    """Half the deviance of a model on a spectrum, plus Gaussian penalties, with derivatives.

    Parameters
    ----------
    model : SpectralModel
    spectrum : EnergySpectrum
    """

    def __init__(
        self, model: SpectralModel, spectrum: EnergySpectrum, grid: EnergyGrid | None = None
    ):
        self.model, self.spectrum = model, spectrum
        self.bound: BoundModel = model.bind(spectrum.edges if grid is None else grid)
        priors = [(i, *p.prior) for i, p in enumerate(model.parameters) if p.prior]
        self._data = (spectrum.counts, spectrum.used)
        self._prior = (
            np.array([p[0] for p in priors], dtype=np.int64),
            np.array([p[1] for p in priors], dtype=float),
            np.array([p[2] for p in priors], dtype=float) ** -2.0,
        )
        self._bind()
        self.low = np.array([p.low for p in model.parameters])
        self.high = np.array([p.high for p in model.parameters])

    def _bind(self) -> None:
        kernel = self.bound.kernel
        self._args = None if kernel is None else (self._data, kernel, self._prior)

    def use(self, used: NDArray[np.bool_]) -> None:
        """Fit these bins instead of the spectrum's unmasked ones, shape (n_bins,)."""
        self._data = (self.spectrum.counts, used)
        self._bind()

    @property
    def compiled_arguments(self) -> tuple | None:
        """What the compiled functions take as `args`; None if a component is not compiled."""
        return self._args

    def value(self, theta: NDArray[np.float64]) -> float:
        """Half the deviance plus penalties."""
        if self._args is not None:
            return compiled_value(self._args, theta)
        slots, means, weights = self._prior
        penalty = 0.5 * np.sum((theta[slots] - means) ** 2 * weights)
        return float(half_deviance(*self._data, self.bound.counts(theta)) + penalty)

    def gradient(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Derivatives to every parameter, shape (n_parameters,)."""
        if self._args is not None:
            return compiled_gradient(self._args, theta)
        return self.scoring(theta)[1]

    def scoring(
        self, theta: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Value, gradient and expected (Fisher) information at `theta`."""
        if self._args is not None:
            return compiled_scoring(self._args, theta)
        expected, jac = self.bound.counts_and_jacobian(theta)
        return score_of(*self._data, expected, jac, theta, self._prior)

    def score_to_minimum(
        self, theta: NDArray[np.float64], slots: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], float]:
        """Damped Fisher scoring of the parameters `slots` within their limits.

        Returns the best point and its value.
        """
        if slots.size == 0:
            return theta, self.value(theta)
        limits = (self.low[slots], self.high[slots])
        if self._args is not None:
            return _compiled_minimise(self._args, theta, slots, *limits)
        return _python_minimise(self, theta, slots, *limits)

    def hessian(
        self, theta: NDArray[np.float64], slots: NDArray[np.int64], steps: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Second derivatives to the parameters `slots`, shape (n_slots, n_slots).

        `steps` are the half-widths of the differences of the gradient.
        """
        if self._args is not None:
            return _compiled_hessian(self._args, theta, slots, steps)
        return _python_hessian(self, theta, slots, steps)


_python_minimise = _scoring_loop(Objective.value, Objective.scoring)
_python_hessian = _hessian_loop(Objective.gradient)


def amplitude_slots(model: SpectralModel) -> NDArray[np.int64]:
    """Free parameters in which the expected counts are linear (K, F)."""
    slots = {c.slots[0] for c in model.components if c.kind != "function"}
    return np.array(sorted(s for s in slots if model.parameters[s].free), dtype=np.int64)


def start_inside(model: SpectralModel) -> NDArray[np.float64]:
    """Start values moved inside the limits, shape (n_parameters,)."""
    low = np.array([p.low for p in model.parameters])
    high = np.array([p.high for p in model.parameters])
    return np.clip(model.values, low, high)
