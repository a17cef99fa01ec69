"""Where a function of one number is 0; `scipy.optimize` takes longer to load than a fit takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable


def root(function: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Where a continuous function is 0, to within `tolerance`.

    Parameters
    ----------
    function : callable
        Of opposite signs at `low` and `high`, or 0 at one of them.
    low, high : float
    tolerance : float

    References
    ----------
    Dowell & Jarratt 1971, BIT 11, 168: the "Illinois" method
    """
    a, b = low, high
    at_a, at_b = function(a), function(b)
    if at_a * at_b > 0.0:
        raise ValueError(f"the function has one sign at {low:g} and {high:g}: {at_a:g}, {at_b:g}")
    for step in itertools.count(1):
        if abs(b - a) <= tolerance or at_b == 0.0:
            break
        x = b - at_b * (b - a) / (at_b - at_a)
        if step % 4 == 0:  # where the method hardly moves, near a multiple root say
            x = 0.5 * (a + b)
        if x in (a, b):  # no number lies between
            return x
        at_x = function(x)
        if at_x * at_b < 0.0:
            a, at_a = b, at_b
        else:  # the other end stays: less of it, so that it moves soon
            at_a *= 0.5
        b, at_b = x, at_x
    return b
