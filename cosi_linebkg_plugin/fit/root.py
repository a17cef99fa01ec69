"""The root of a function of one number; scipy.optimize takes longer to import than this to run."""

from __future__ import annotations

from collections.abc import Callable


def root_between(function: Callable[[float], float], low: float, high: float, xtol: float) -> float:
    """Where a function that is above 0 at `low` and not above it at `high` falls to 0.

    Found by halving the interval, to within `xtol` or the last digit.

    Parameters
    ----------
    function : callable
        Continuous; of several roots one is found.
    low, high, xtol : float
    """
    while high - low > xtol:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if function(middle) > 0.0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
