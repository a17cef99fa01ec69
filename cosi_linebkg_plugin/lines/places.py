"""Where lines of a search may be: apart from each other, from the mask and from the axis' ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.spec import ANNIHILATION, ANNIHILATION_REACH
from .trial import TrialLine

Array = NDArray[np.float64]

Ranges = list[tuple[float, float]]

#: Two lines are at least this many widths apart (the width with that of a bin in it).
SEPARATION = 2.0

#: A line is at least this many widths away from the mask and from the ends of the axis.
MARGIN = 1.0

#: A line moves by at most this many widths in one fit; its window then follows it.
_WINDOW = 2.0


def allowed_ranges(segments: Ranges, width: Callable[[Any], Any]) -> Ranges:
    """Where lines may be, keV.

    Parameters
    ----------
    segments : list of (low, high), keV
        What is fitted.
    width : callable
        Width of a line at an energy as the bins show it, keV.
    """
    inside = [
        (low + MARGIN * float(width(low)), high - MARGIN * float(width(high)))
        for low, high in segments
    ]
    return [(low, high) for low, high in inside if low < high]


def are_away(energies: Array, places: Sequence[float], least: Array) -> NDArray[np.bool_]:
    """Which energies are at least so far from all of some places, shape (n,).

    Parameters
    ----------
    energies : ndarray, shape (n,), keV
    places : sequence of float, keV
    least : ndarray, shape (n,), keV
    """
    if not places:
        return np.ones(energies.size, bool)
    known = np.sort(places)
    after = np.clip(np.searchsorted(known, energies), 1, max(known.size - 1, 1))
    near = np.minimum(
        np.abs(energies - known[after - 1]),
        np.abs(energies - known[np.minimum(after, known.size - 1)]),
    )
    return np.asarray(near >= least)


def in_windows(
    lines: Sequence[TrialLine], width: Callable[[Any], Any], allowed: Ranges
) -> list[TrialLine]:
    """Lines in order of energy, with windows that keep them apart and where they may be.

    Parameters
    ----------
    lines : sequence of TrialLine
    width, allowed
        As of `allowed_ranges`, and what that returns.
    """
    lines = sorted(lines, key=lambda x: x.energy)
    widths = np.asarray(width(np.array([x.energy for x in lines]))).tolist()
    windows = []
    for i, (line, own) in enumerate(zip(lines, widths, strict=True)):
        gap = 0.5 * SEPARATION * own
        low, high = _place(line.energy, allowed)
        low = max(low, line.energy - _WINDOW * own)
        high = min(high, line.energy + _WINDOW * own)
        if i:
            low = max(low, 0.5 * (lines[i - 1].energy + line.energy) + gap)
        if i + 1 < len(lines):
            high = min(high, 0.5 * (lines[i + 1].energy + line.energy) - gap)
        # a line at 511 keV has a width of its own: none becomes one, or ceases to be one
        for edge in (ANNIHILATION - ANNIHILATION_REACH, ANNIHILATION + ANNIHILATION_REACH):
            if line.energy > edge:
                low = max(low, edge + 1e-6)
            else:
                high = min(high, edge - 1e-6)
        # lines that a growing width has brought too close stay where they are
        slack = 1e-3 * own
        windows.append((min(low, line.energy - slack), max(high, line.energy + slack)))
    return [replace(x, window=w) for x, w in zip(lines, windows, strict=True)]


def _place(energy: float, allowed: Ranges) -> tuple[float, float]:
    """Where a line of this energy may be; nowhere else if the width has left no room."""
    beyond = [max(low - energy, energy - high) for low, high in allowed]
    return allowed[int(np.argmin(beyond))] if beyond else (energy, energy)
