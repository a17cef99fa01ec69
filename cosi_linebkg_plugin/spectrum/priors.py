"""Priors on parameters, as astromodels has them, evaluated without it where that is possible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Priors that need no astromodels: its functions by name, with the parameters that matter here
#: (norms do not).
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "Gaussian": ("mu", "sigma"),
    "Truncated_gaussian": ("mu", "sigma", "lower_bound", "upper_bound"),
    "Uniform_prior": ("lower_bound", "upper_bound"),
    "Log_uniform_prior": ("lower_bound", "upper_bound"),
    "Log_normal": ("mu", "sigma", "piv"),
}

#: Standard deviations at which a normal density is below the smallest float.
_FAR = 38.0


@dataclass(frozen=True)
class Prior:
    """A prior density of one parameter.

    Attributes
    ----------
    name : str
        That of the astromodels function.
    values : tuple of float
        In the order of `FUNCTIONS`; empty if it is none of these.
    density : callable or None
        Density at a value, for a function that is not one of `FUNCTIONS`; None after reading
        such a one from a file, which cannot hold it.
    """

    name: str
    values: tuple[float, ...] = ()
    density: Callable[[float], float] | None = None

    @classmethod
    def gaussian(cls, mean: float, sd: float) -> Prior:
        """A Gaussian prior of this mean and standard deviation."""
        return cls("Gaussian", (float(mean), float(sd)))

    @property
    def is_known(self) -> bool:
        """Whether it can be evaluated."""
        return self.name in FUNCTIONS or self.density is not None

    @property
    def normal(self) -> tuple[float, float] | None:
        """Mean and standard deviation, if it is a Gaussian inside its `support`."""
        if self.name in ("Gaussian", "Truncated_gaussian"):
            return self.values[0], self.values[1]
        return None

    @property
    def support(self) -> tuple[float, float]:
        """Where the density is not 0 (as a float, which knows none below 1e-308)."""
        if self.name == "Log_normal":
            mu, sigma, piv = self.values
            middle, spread = mu / piv, _FAR * sigma / piv
            return piv * math.exp(middle - spread), piv * math.exp(middle + spread)
        names = FUNCTIONS.get(self.name, ())
        if "lower_bound" in names:
            low = names.index("lower_bound")
            return self.values[low], self.values[low + 1]
        return -math.inf, math.inf

    @property
    def is_flat(self) -> bool:
        """Whether the density is constant inside its support."""
        return self.name == "Uniform_prior"

    def penalty(self, x: Array) -> Array:
        """-ln of the density, but for a constant; shape of `x`. Infinite outside the support."""
        x = np.asarray(x, dtype=float)
        low, high = self.support
        inside = (x >= low) & (x <= high)
        if self.name in ("Log_uniform_prior", "Log_normal"):
            inside &= x > 0
        safe = np.where(inside, x, 1.0)
        if self.normal is not None:
            mean, sd = self.normal
            value = 0.5 * ((safe - mean) / sd) ** 2
        elif self.is_flat:
            value = np.zeros_like(safe)
        elif self.name == "Log_uniform_prior":
            value = np.log(safe)
        elif self.name == "Log_normal":
            mu, sigma, piv = self.values
            value = np.log(safe) + 0.5 * ((np.log(safe / piv) - mu / piv) * piv / sigma) ** 2
        else:
            assert self.density is not None
            with np.errstate(divide="ignore"):
                value = -np.log([max(self.density(v), 0.0) for v in np.ravel(x)]).reshape(x.shape)
            return np.where(np.isnan(value), np.inf, value)
        return np.where(inside, value, np.inf)

    def slope_and_curvature(self, x: float) -> tuple[float, float]:
        """First and second derivative of `penalty` inside the support."""
        if self.normal is not None:
            mean, sd = self.normal
            return (x - mean) / sd**2, 1.0 / sd**2
        if self.is_flat:
            return 0.0, 0.0
        if self.name == "Log_uniform_prior":
            x = max(x, 1e-100)
            return 1.0 / x, -1.0 / x**2
        if self.name == "Log_normal":
            mu, sigma, piv = self.values
            weight = (piv / sigma) ** 2
            d = (math.log(x / piv) - mu / piv) * weight
            return (1.0 + d) / x, (weight - 1.0 - d) / x**2
        step = 1e-4 * max(abs(x), 1e-3)
        below, here, above = self.penalty(np.array([x - step, x, x + step]))
        if not math.isfinite(below + here + above):
            return 0.0, 0.0
        return (above - below) / (2 * step), (above - 2 * here + below) / step**2
