"""Where a function of one number is zero.

The steps are those of `scipy.optimize.brentq`, and so are the results, to the last bit. Nothing
else of `scipy.optimize` is needed by a fit, and to load it takes longer than the fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

#: The least relative tolerance that makes sense: four times the spacing of floats at 1.
_RELATIVE = 2.0**-50


def find_root(function: Callable[[float], float], low: float, high: float, near: float) -> float:
    """A zero of a function that changes its sign, by Brent's method.

    Parameters
    ----------
    function : callable
        Continuous; of opposite signs at both ends, or zero at one.
    low, high : float, finite
    near : float
        How far the result may be from the zero, beside rounding.

    Raises
    ------
    ValueError
        If the function has the same sign at both ends, or an end is not finite.

    References
    ----------
    Brent 1973, Algorithms for Minimization Without Derivatives, ch. 4.
    """
    before, x = low, high
    f_before, f = function(before), function(x)
    if f_before == 0.0:
        return before
    if f == 0.0:
        return x
    if not (f_before < 0.0 < f or f < 0.0 < f_before) or not math.isfinite(high - low):
        raise ValueError(f"The function does not change its sign between {low:g} and {high:g}.")
    other, f_other = before, f_before  # the zero is between x and this
    step = last = x - before
    while True:
        if f_before != 0.0 and (f_before < 0.0) != (f < 0.0):
            other, f_other = before, f_before
            last = step = x - before
        if abs(f_other) < abs(f):
            before, x, other = x, other, x
            f_before, f, f_other = f, f_other, f
        least = (near + _RELATIVE * abs(x)) / 2.0
        half = (other - x) / 2.0
        if f == 0.0 or abs(half) < least:
            return x
        tried = math.inf
        if abs(last) > least and abs(f) < abs(f_before):
            tried = _interpolated((before, f_before), (x, f), (other, f_other))
        if 2.0 * abs(tried) < min(abs(last), 3.0 * abs(half) - least):
            last, step = step, tried
        else:
            last = step = half
        before, f_before = x, f
        x += step if abs(step) > least else math.copysign(least, half)
        f = function(x)


def _interpolated(
    before: tuple[float, float], now: tuple[float, float], other: tuple[float, float]
) -> float:
    """The step from `now` to the zero of the line, or the inverse parabola, through the points."""
    (a, fa), (x, f), (b, fb) = before, now, other
    if a == b:
        return -f * (x - a) / (f - fa)
    slope_a, slope_b = (fa - f) / (a - x), (fb - f) / (b - x)
    below = slope_b * slope_a * (fb - fa)
    return -f * (fb * slope_b - fa * slope_a) / below if below else math.inf
