"""Laws that make one parameter follow another, as a functional link of astromodels does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

#: Laws that need no astromodels: its functions of one variable by their names, with the names of
#: their parameters in its own order.
FUNCTIONS: dict[str, tuple[tuple[str, ...], Callable[..., float]]] = {
    "Constant": (("k",), lambda x, k: k),
    "Line": (("a", "b"), lambda x, a, b: a + b * x),
    "Quadratic": (("a", "b", "c"), lambda x, a, b, c: a + x * (b + x * c)),
    "Cubic": (("a", "b", "c", "d"), lambda x, a, b, c, d: a + x * (b + x * (c + x * d))),
    "Powerlaw": (("K", "piv", "index"), lambda x, K, piv, index: K * (x / piv) ** index),
}


@dataclass(frozen=True)
class Law:
    """A function of one parameter that gives the value of another one.

    Attributes
    ----------
    name : str
        That of the astromodels function.
    values : tuple of float
        Values of the function's parameters; empty if it is not one of `FUNCTIONS`.
    function : callable or None
        What is evaluated: for a function that is not one of `FUNCTIONS`, or one whose parameters
        may still change.
    tangent : bool
        A law that a file cannot hold: its value and slope at the best fit, as a "Line".
    slots : tuple of int
        Where the function's parameters are parameters of the model: their slots, in place of
        `values`; see `at`.
    """

    name: str
    values: tuple[float, ...] = ()
    function: Callable[[float], float] | None = None
    tangent: bool = False
    slots: tuple[int, ...] = ()

    def at(self, theta: NDArray[np.float64]) -> Law:
        """The law with the values that its parameters have in `theta`, shape (n_parameters,)."""
        if not self.slots:
            return self
        return Law(self.name, tuple(float(theta[slot]) for slot in self.slots))

    def __call__(self, x: float) -> float:
        """The value of the parameter that follows."""
        if self.function is not None:
            return float(self.function(x))
        return float(FUNCTIONS[self.name][1](x, *self.values))

    def slope(self, x: float) -> float:
        """Its derivative, by central differences (exact to rounding for a line)."""
        step = 1e-6 * max(abs(x), 1e-3)
        return (self(x + step) - self(x - step)) / (2.0 * step)

    def slopes_of_values(self, x: float) -> tuple[float, ...]:
        """Derivatives to `values`, by central differences."""
        slopes = []
        for k, value in enumerate(self.values):
            step = 1e-6 * max(abs(value), 1e-3)
            up, down = (
                replace(self, values=(*self.values[:k], value + d, *self.values[k + 1 :]))(x)
                for d in (step, -step)
            )
            slopes.append((up - down) / (2.0 * step))
        return tuple(slopes)

    def for_a_file(self, x: float) -> Law:
        """The same law without Python functions; its tangent at x where there is no other way."""
        if self.slots:
            return Law(self.name, slots=self.slots)
        if self.function is None:
            return self
        if self.name in FUNCTIONS and self.values:
            return Law(self.name, self.values)
        slope = self.slope(x)
        return Law("Line", (self(x) - slope * x, slope), tangent=True)

    def describe(self, source: str) -> str:
        """In words: of which parameter it makes what, "Line(F_2; a = 0, b = 0.133)"."""
        if self.tangent:
            return (
                f"a law of {source}, near the best fit {self.values[0]:.4g} + "
                f"{self.values[1]:.4g} {source}"
            )
        names = FUNCTIONS[self.name][0] if self.values else ()
        values = ", ".join(f"{n} = {v:.6g}" for n, v in zip(names, self.values, strict=True))
        return f"{self.name}({source}{'; ' if values else ''}{values})"
