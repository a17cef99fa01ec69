"""The function that a fit minimises, with its derivatives, and damped Fisher scoring on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import BoundModel, SpectralModel
from ..spectrum.kernels import (
    FLOOR,
    compiled_minimise,
    evaluate,
    pack,
    python_minimise,
)
from ..spectrum.lineshapes import EnergyGrid
from ..spectrum.statistic import half_deviance, score_residual

_NO_GRADIENT, _NO_INFORMATION = np.empty(0), np.empty((0, 0))


class Objective:
    """Half the deviance of a model on a spectrum, plus Gaussian penalties, with derivatives.

    Parameters
    ----------
    model : SpectralModel
    spectrum : EnergySpectrum
    grid : EnergyGrid, optional
        That of the spectrum's bins, if it is at hand.
    offset : ndarray, shape (n_bins,), counts, optional
        Expected counts of something else (a known source), on top of the model's.
    """

    def __init__(
        self,
        model: SpectralModel,
        spectrum: EnergySpectrum,
        grid: EnergyGrid | None = None,
        offset: NDArray[np.float64] | None = None,
    ):
        self.model, self.spectrum = model, spectrum
        self.offset = np.zeros(spectrum.n_bins) if offset is None else offset
        self.bound: BoundModel = model.bind(spectrum.edges if grid is None else grid)
        priors = [(i, *p.prior) for i, p in enumerate(model.parameters) if p.prior]
        self._data = (spectrum.counts, spectrum.used, self.offset)
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
        self._args = None if kernel is None else pack(self._data, kernel, self._prior)

    def use(self, used: NDArray[np.bool_]) -> None:
        """Fit these bins instead of the spectrum's unmasked ones, shape (n_bins,)."""
        self._data = (self.spectrum.counts, used, self.offset)
        self._bind()

    @property
    def compiled_arguments(self) -> tuple | None:
        """What the compiled functions take as `args`; None if a component is not compiled."""
        return self._args

    def value(self, theta: NDArray[np.float64]) -> float:
        """Half the deviance plus penalties."""
        return self.evaluate(theta, _NO_GRADIENT, _NO_INFORMATION)

    def gradient(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Derivatives to every parameter, shape (n_parameters,)."""
        gradient = np.empty(theta.size)
        self.evaluate(theta, gradient, _NO_INFORMATION)
        return gradient

    def scoring(
        self, theta: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Value, gradient and expected (Fisher) information at `theta`."""
        gradient, information = np.empty(theta.size), np.empty((theta.size, theta.size))
        value = self.evaluate(theta, gradient, information)
        return value, gradient, information

    def evaluate(
        self,
        theta: NDArray[np.float64],
        gradient: NDArray[np.float64],
        information: NDArray[np.float64],
    ) -> float:
        """What `kernels.evaluate` does, for components of any kind."""
        if self._args is not None:
            return evaluate(self._args, theta, gradient, information)
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
            return compiled_minimise(self._args, theta, slots, *limits)
        return python_minimise(self, theta, slots, *limits)

    def hessian(
        self, theta: NDArray[np.float64], slots: NDArray[np.int64], steps: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Second derivatives to the parameters `slots`, shape (n_slots, n_slots).

        `steps` are the half-widths of the differences of the gradient.
        """
        rows = np.empty((slots.size, slots.size))
        shifted = theta.copy()
        for row, slot, step in zip(rows, slots, steps, strict=True):
            shifted[slot] = theta[slot] + step
            row[:] = self.gradient(shifted)[slots]
            shifted[slot] = theta[slot] - step
            row -= self.gradient(shifted)[slots]
            shifted[slot] = theta[slot]
        rows /= 2.0 * steps[:, None]
        return 0.5 * (rows + rows.T)


def amplitude_slots(model: SpectralModel) -> NDArray[np.int64]:
    """Free parameters in which the expected counts are linear (K, F)."""
    slots = {c.amplitude for c in model.components if c.amplitude is not None}
    return np.array(sorted(s for s in slots if model.parameters[s].free), dtype=np.int64)


def start_inside(model: SpectralModel) -> NDArray[np.float64]:
    """Start values moved inside the limits, shape (n_parameters,)."""
    low = np.array([p.low for p in model.parameters])
    high = np.array([p.high for p in model.parameters])
    return np.clip(model.values, low, high)
