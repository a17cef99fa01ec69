"""The function that a fit minimises, with its derivatives, and damped Fisher scoring on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import BoundModel, SpectralModel
from ..spectrum.kernels import (
    FLOOR,
    CompiledArguments,
    damped_step,
    evaluate,
    pack,
)
from ..spectrum.lineshapes import EnergyGrid
from ..spectrum.statistic import half_deviance, score_residual
from .banded import score_banded

#: Scoring stops when a step gains less than this in log-likelihood.
_SCORING_TOLERANCE = 1e-6

_MAX_SCORING_STEPS = 100

#: A step of no more damping is taken by its word, within this factor.
_HARDLY, _FALLS = 1e-3, 6.0

_NO_GRADIENT, _NO_INFORMATION = np.empty(0), np.empty((0, 0))

Array = NDArray[np.float64]

#: Fewer parameters than this are moved one by one in a Hessian.
_MANY = 24
#: From this many parameters on their matrices are taken as bands.
_BANDED = 60
#: A parameter that acts on more than this share of the bins is moved alone.
_WIDE = 0.5
#: Shares of its largest derivative below which a parameter does not act on a bin.
_NOTHING = 1e-7


class Objective:
    """Half the deviance of a model on a spectrum plus the penalties of priors, with derivatives.

    Gaussian priors are compiled with the rest; others are added here.

    Parameters
    ----------
    model : SpectralModel
    spectrum : EnergySpectrum
    grid : EnergyGrid, optional
        That of the spectrum's bins, if it is at hand.
    offset : ndarray, shape (n_bins,), counts, optional
        Expected counts of something else (a known source), on top of the model's.

    Raises
    ------
    ModelError
        If part of the model was read from a file that could not hold it, or a prior lies outside
        its parameter's limits.
    """

    def __init__(
        self,
        model: SpectralModel,
        spectrum: EnergySpectrum,
        grid: EnergyGrid | None = None,
        offset: Array | None = None,
    ) -> None:
        model.require_functions()
        self.model, self.spectrum = model, spectrum
        self.offset = np.zeros(spectrum.n_bins) if offset is None else offset
        self.bound: BoundModel = model.bind(spectrum.edges if grid is None else grid)
        priors = [(i, p.prior) for i, p in enumerate(model.parameters) if p.prior is not None]
        normal = [(i, *prior.normal) for i, prior in priors if prior.normal is not None]
        #: Priors that are neither Gaussian nor flat, by slot.
        self.other_priors = [(i, x) for i, x in priors if x.normal is None and not x.is_flat]
        self._data = (spectrum.counts, spectrum.used, self.offset)
        self._prior = (
            np.array([p[0] for p in normal], dtype=np.int64),
            np.array([p[1] for p in normal], dtype=float),
            np.array([p[2] for p in normal], dtype=float) ** -2.0,
        )
        self._bind()
        self.low, self.high = _limits(model)

    def of(self, model: SpectralModel) -> Objective:
        """The same for a model that differs in its limits or start values."""
        return Objective(model, self.spectrum, self.bound.grid, self.offset)

    def _bind(self) -> None:
        self._last_hessian: tuple[tuple[NDArray[Any], ...], Array] = ((), _NO_INFORMATION)
        kernel = self.bound.kernel
        self._args: CompiledArguments | None = None
        if kernel is not None:
            self._args = pack(self._data, kernel, self._prior)

    def use(self, used: NDArray[np.bool_]) -> None:
        """Fit these bins instead of the spectrum's unmasked ones, shape (n_bins,)."""
        self._data = (self.spectrum.counts, used, self.offset)
        self._bind()

    @property
    def compiled_arguments(self) -> CompiledArguments | None:
        """What the compiled functions take as `args`; None if a component is not compiled.

        They know of Gaussian priors, not of `other_priors`.
        """
        return self._args

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled functions do all."""
        return self._args is not None and not self.other_priors

    def value(self, theta: Array) -> float:
        """Half the deviance plus penalties."""
        return self.evaluate(theta, _NO_GRADIENT, _NO_INFORMATION)

    def gradient(self, theta: Array) -> Array:
        """Derivatives to every parameter, shape (n_parameters,)."""
        gradient = np.empty(theta.size)
        self.evaluate(theta, gradient, _NO_INFORMATION)
        return gradient

    def scoring(self, theta: Array) -> tuple[float, Array, Array]:
        """Value, gradient and expected (Fisher) information at `theta`."""
        gradient, information = np.empty(theta.size), np.empty((theta.size, theta.size))
        value = self.evaluate(theta, gradient, information)
        return value, gradient, information

    def evaluate(
        self,
        theta: Array,
        gradient: Array,
        information: Array,
    ) -> float:
        """What `kernels.evaluate` does, for components of any kind."""
        if self._args is not None:
            value = float(evaluate(self._args, theta, gradient, information))
        else:
            value = self._evaluate_here(theta, gradient, information)
        for slot, prior in self.other_priors:
            value += float(prior.penalty(theta[slot]))
            slope, curvature = prior.slope_and_curvature(theta[slot])
            if gradient.size:
                gradient[slot] += slope
            if information.size:
                information[slot, slot] += max(curvature, 0.0)
        return value

    def _evaluate_here(self, theta: Array, gradient: Array, information: Array) -> float:
        """`evaluate` without other priors, where a component is not compiled."""
        counts, used, offset = self._data
        slots, means, weights = self._prior
        difference = theta[slots] - means
        penalty = 0.5 * float(np.sum(difference**2 * weights))
        if not gradient.size:
            return half_deviance(counts, used, self.bound.counts(theta) + offset) + penalty
        expected, jac = self.bound.counts_and_jacobian(theta)
        expected += offset
        gradient[:] = jac @ score_residual(counts, used, expected)
        np.add.at(gradient, slots, difference * weights)
        if information.size:
            weight = np.where(used, 1.0 / np.maximum(expected, FLOOR), 0.0)
            information[:] = (jac * weight) @ jac.T
            np.add.at(information, (slots, slots), weights)
        return half_deviance(counts, used, expected) + penalty

    @property
    def used(self) -> NDArray[np.bool_]:
        """The bins that take part, shape (n_bins,)."""
        return self._data[1]

    def expected(self, theta: Array, jac: Array) -> Array:
        """Expected counts, shape (n_bins,); derivatives are added to `jac`, as of `accumulate`."""
        total = self.offset.copy()
        self.bound.accumulate(theta, total, jac)
        return total

    def score_to_minimum(
        self, theta: Array, slots: NDArray[np.int64], enough: float | None = None
    ) -> tuple[Array, float]:
        """Damped Fisher scoring (Levenberg-Marquardt) of the parameters `slots` in their limits.

        Returns the best point and its value. If all that matters is whether this is below
        `enough`, it may end earlier: where it is, or where a step that is hardly damped promises
        less than a sixth of what that takes.
        """
        if slots.size == 0:
            return theta, self.value(theta)
        low, high = self.low[slots], self.high[slots]
        if slots.size >= _BANDED and self.is_compiled and not self._prior[0].size:
            return score_banded(self, theta, slots, low, high)
        damping = 1e-3
        here = self.scoring(theta)
        for _ in range(_MAX_SCORING_STEPS):
            value, gradient, information = here
            gain = 0.0
            while damping < 1e10:
                trial, moved = damped_step(information, gradient, theta, slots, low, high, damping)
                fall = float(gradient @ (theta - trial))
                if not moved or _is_decided(value, enough, fall, damping):
                    break
                here = self.scoring(trial)
                gain = value - here[0]
                if gain > 0.0:
                    break
                damping *= 10.0
            if not gain > 0.0:
                return theta, value
            theta = trial
            damping = max(damping * 0.1, 1e-12)
            if gain < _SCORING_TOLERANCE:
                break
        return theta, here[0]

    def hessian(self, theta: Array, slots: NDArray[np.int64], steps: Array) -> Array:
        """Second derivatives to the parameters `slots`, shape (n_slots, n_slots).

        Differences of the gradient. Parameters that act on bins far from each other are moved
        together: in no row of the matrix do two of them meet (Curtis, Powell & Reid 1974, J. Inst.
        Maths Applics 13, 117).

        Parameters
        ----------
        theta : ndarray, shape (n_parameters,)
        slots : ndarray of int, shape (n_slots,)
        steps : ndarray, shape (n_slots,)
            Half-widths of the differences.
        """
        if slots.size < _MANY:
            return self._dense_hessian(theta, slots, steps)
        known, matrix = self._last_hessian
        if len(known) and all(map(np.array_equal, known, (theta, slots, steps))):
            return matrix
        spans = self._spans(theta, slots)
        rows = np.zeros((slots.size, slots.size))
        up, down = np.empty((2, theta.size))
        shifted = theta.copy()
        for group in _apart(spans):
            moved = slots[group]
            shifted[moved] = theta[moved] + steps[group]
            self.evaluate(shifted, up, _NO_INFORMATION)
            shifted[moved] = theta[moved] - steps[group]
            self.evaluate(shifted, down, _NO_INFORMATION)
            shifted[moved] = theta[moved]
            change = (up - down)[slots]
            for i in group:
                met = slice(None)
                if len(group) > 1:
                    met = (spans[:, 0] < spans[i, 1]) & (spans[:, 1] > spans[i, 0])
                rows[i, met] = change[met] / (2.0 * steps[i])
        wide = spans[:, 1] - spans[:, 0] > _WIDE * self.spectrum.n_bins
        matrix = _symmetric(rows, wide)
        self._last_hessian = ((theta.copy(), slots, steps), matrix)
        return matrix

    def _dense_hessian(self, theta: Array, slots: NDArray[np.int64], steps: Array) -> Array:
        """The same, each parameter moved alone."""
        rows, down = np.empty((slots.size, theta.size)), np.empty(theta.size)
        shifted = theta.copy()
        for up, slot, step in zip(rows, slots.tolist(), steps.tolist(), strict=True):
            shifted[slot] = theta[slot] + step
            self.evaluate(shifted, up, _NO_INFORMATION)
            shifted[slot] = theta[slot] - step
            self.evaluate(shifted, down, _NO_INFORMATION)
            up -= down
            shifted[slot] = theta[slot]
        rows = rows[:, slots] / (2.0 * steps[:, None])
        return 0.5 * (rows + rows.T)

    def _spans(self, theta: Array, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """First and one-past-last bin that each parameter acts on, shape (n_slots, 2)."""
        n_bins = self.spectrum.n_bins
        spans = np.tile([0, n_bins], (slots.size, 1))
        jac = np.abs(self.bound.counts_and_jacobian(theta)[1][slots])
        acts = jac > _NOTHING * jac.max(axis=1, keepdims=True)
        some = acts.any(axis=1)
        spans[some, 0] = acts.argmax(axis=1)[some]
        spans[some, 1] = n_bins - acts[:, ::-1].argmax(axis=1)[some]
        return spans


def _apart(spans: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Parameters in groups of which no two meet a third one that acts on few bins."""
    wide = spans[:, 1] - spans[:, 0] > _WIDE * spans[:, 1].max(initial=1)
    groups = [[int(i)] for i in np.flatnonzero(wide)]
    narrow = np.flatnonzero(~wide)
    narrow = narrow[np.argsort(spans[narrow, 0], kind="stable")]
    open_groups: list[tuple[int, list[int]]] = []  # where the next one may begin
    for i in narrow:
        low, high = spans[i]
        met = (spans[narrow, 0] < high) & (spans[narrow, 1] > low)
        end = int(spans[narrow[met], 1].max())
        for k, (begin, members) in enumerate(open_groups):
            if begin <= low:
                members.append(int(i))
                open_groups[k] = (end, members)
                break
        else:
            open_groups.append((end, [int(i)]))
    return [np.array(g) for g in [*groups, *(members for _, members in open_groups)]]


def _symmetric(rows: Array, wide: NDArray[np.bool_]) -> Array:
    """Mean of a matrix and its transpose; between wide and narrow parameters the wide ones' row."""
    if not wide.all():
        rows[np.ix_(~wide, wide)] = rows[np.ix_(wide, ~wide)].T
    return 0.5 * (rows + rows.T)


def _is_decided(value: float, enough: float | None, fall: float, damping: float) -> bool:
    """Whether a value is below `enough`, or a step that is hardly damped promises too little.

    `fall` is that along the step's tangent, twice that along its parabola.
    """
    if enough is None or damping > _HARDLY:
        return False
    return bool(value < enough or value - 0.5 * _FALLS * fall > enough)


def amplitude_slots(model: SpectralModel) -> NDArray[np.int64]:
    """Free parameters in which the expected counts are linear (K, F)."""
    slots = {c.amplitude for c in model.components if c.amplitude is not None}
    return np.array(sorted(s for s in slots if model.parameters[s].free), dtype=np.int64)


def start_inside(model: SpectralModel) -> Array:
    """Start values moved inside the limits, shape (n_parameters,)."""
    low, high = _limits(model)
    return np.clip(model.values, low, high)


def _limits(model: SpectralModel) -> Array:
    """Lowest and highest values of the parameters, shape (2, n_parameters)."""
    limits = [limit for p in model.parameters for limit in p.limits]
    return np.array(limits, dtype=float).reshape(-1, 2).T.copy()
