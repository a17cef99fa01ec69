"""The function that a fit minimises, with its derivatives, and damped Fisher scoring on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import BoundModel, SpectralModel
from ..spectrum.kernels import (
    compiled_gradient,
    compiled_hessian,
    compiled_minimise,
    compiled_scoring,
    compiled_value,
    half_deviance,
    hessian_loop,
    pack,
    score_of,
    scoring_loop,
)
from ..spectrum.lineshapes import EnergyGrid

Array = NDArray[np.float64]

#: Numbers and whole numbers, as `kernels.pack` gives them.
CompiledArguments = tuple[Array, NDArray[np.int64]]


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
        self.low, self.high = np.array([p.limits for p in model.parameters]).reshape(-1, 2).T.copy()

    def _bind(self) -> None:
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
        extra = sum(float(prior.penalty(theta[i])) for i, prior in self.other_priors)
        if self._args is not None:
            return float(compiled_value(self._args, theta)) + extra
        slots, means, weights = self._prior
        penalty = 0.5 * np.sum((theta[slots] - means) ** 2 * weights)
        counts, used, offset = self._data
        deviance = half_deviance(counts, used, self.bound.counts(theta) + offset)
        return float(deviance + penalty) + extra

    def gradient(self, theta: Array) -> Array:
        """Derivatives to every parameter, shape (n_parameters,)."""
        if self._args is None:
            return self.scoring(theta)[1]
        gradient: Array = compiled_gradient(self._args, theta)
        for i, prior in self.other_priors:
            gradient[i] += prior.slope_and_curvature(theta[i])[0]
        return gradient

    def scoring(self, theta: Array) -> tuple[float, Array, Array]:
        """Value, gradient and expected (Fisher) information at `theta`."""
        if self._args is not None:
            value, gradient, information = compiled_scoring(self._args, theta)
        else:
            expected, jac = self.bound.counts_and_jacobian(theta)
            counts, used, offset = self._data
            value, gradient, information = score_of(
                counts, used, expected + offset, jac, theta, self._prior
            )
        for i, prior in self.other_priors:
            slope, curvature = prior.slope_and_curvature(theta[i])
            value += float(prior.penalty(theta[i]))
            gradient[i] += slope
            information[i, i] += max(curvature, 0.0)
        return float(value), gradient, information

    def score_to_minimum(self, theta: Array, slots: NDArray[np.int64]) -> tuple[Array, float]:
        """Damped Fisher scoring of the parameters `slots` within their limits.

        Returns the best point and its value.
        """
        if slots.size == 0:
            return theta, self.value(theta)
        limits = (self.low[slots], self.high[slots])
        if self.is_compiled:
            best, value = compiled_minimise(self._args, theta, slots, *limits)
        else:
            best, value = _python_minimise(self, theta, slots, *limits)
        return best, float(value)

    def hessian(self, theta: Array, slots: NDArray[np.int64], steps: Array) -> Array:
        """Second derivatives to the parameters `slots`, shape (n_slots, n_slots).

        `steps` are the half-widths of the differences of the gradient.
        """
        found: Array
        if self.is_compiled:
            found = compiled_hessian(self._args, theta, slots, steps)
        else:
            found = _python_hessian(self, theta, slots, steps)
        return found


_python_minimise = scoring_loop(Objective.value, Objective.scoring)

_python_hessian = hessian_loop(Objective.gradient)


def amplitude_slots(model: SpectralModel) -> NDArray[np.int64]:
    """Free parameters in which the expected counts are linear (K, F)."""
    slots = {c.amplitude for c in model.components if c.amplitude is not None}
    return np.array(sorted(s for s in slots if model.parameters[s].free), dtype=np.int64)


def start_inside(model: SpectralModel) -> Array:
    """Start values moved inside the limits, shape (n_parameters,)."""
    low, high = np.array([p.limits for p in model.parameters]).reshape(-1, 2).T
    return model.resolve(np.clip(model.values, low, high))
