"""The function that a fit minimises, with its derivatives, and damped Fisher scoring on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import BoundModel, SpectralModel
from ..spectrum.kernels import (
    FLOOR,
    compiled_gradient,
    compiled_hessian,
    compiled_minimise,
    compiled_scoring,
    compiled_value,
    pack,
    python_hessian,
    python_minimise,
)
from ..spectrum.lineshapes import EnergyGrid
from ..spectrum.statistic import half_deviance, score_residual


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
        if self._args is not None:
            return compiled_value(self._args, theta)
        counts, used, offset = self._data
        value = half_deviance(counts, used, self.bound.counts(theta) + offset)
        return value + self._penalty(theta)

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
        counts, used, offset = self._data
        expected += offset
        gradient = jac @ score_residual(counts, used, expected)
        information = (jac * np.where(used, 1.0 / np.maximum(expected, FLOOR), 0.0)) @ jac.T
        slots, means, weights = self._prior
        np.add.at(gradient, slots, (theta[slots] - means) * weights)
        np.add.at(information, (slots, slots), weights)
        value = half_deviance(counts, used, expected) + self._penalty(theta)
        return value, gradient, information

    def _penalty(self, theta: NDArray[np.float64]) -> float:
        slots, means, weights = self._prior
        return 0.5 * float(np.sum((theta[slots] - means) ** 2 * weights))

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
        if self._args is not None:
            return compiled_hessian(self._args, theta, slots, steps)
        return python_hessian(self, theta, slots, steps)


def amplitude_slots(model: SpectralModel) -> NDArray[np.int64]:
    """Free parameters in which the expected counts are linear (K, F)."""
    slots = {c.amplitude for c in model.components if c.amplitude is not None}
    return np.array(sorted(s for s in slots if model.parameters[s].free), dtype=np.int64)


def start_inside(model: SpectralModel) -> NDArray[np.float64]:
    """Start values moved inside the limits, shape (n_parameters,)."""
    low = np.array([p.low for p in model.parameters])
    high = np.array([p.high for p in model.parameters])
    return np.clip(model.values, low, high)
