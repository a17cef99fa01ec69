"""Where a function that falls is 0; `scipy.optimize` takes longer to load than a fit takes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable


def falls_to_zero(function: Callable[[float], float], high: float, bits: int) -> float:
    """Where a function that falls with its argument is 0, by bisection.

    Parameters
    ----------
    function : callable
        Above 0 at 0, and not at `high`.
    high : float
    bits : int
        It is found to within high / 2^bits, in as many calls.
    """
    step = high / 2.0**bits
    return step * bisect_left(range(1 << bits), True, key=lambda i: function(step * i) <= 0.0)
