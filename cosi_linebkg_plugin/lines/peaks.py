"""Peaks, told from what a bent continuum or an edge makes of a scan.

What a fit misses over a wide range makes every energy in it a candidate, and lines one after the
other would fill it like a comb. A candidate must therefore stand out of its neighbourhood alone:
the line's shape less all that a parabola (a slope, at an end) and a step can do is a filter of zero
area, of the kind of the second difference (Mariscotti 1967, NIM 50, 309), which sees neither a
level, nor a slope, nor a bend, nor a step.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc, ndtr

from ..spectrum.axis import EnergySpectrum
from ..spectrum.kernels import FLOOR
from ..spectrum.statistic import half_deviance

Array = NDArray[np.float64]

#: The neighbourhood of a line: widths to either side, and bins at least.
_WIDTHS, _BINS = 5.0, 4
#: A neighbourhood of fewer bins tells nothing.
_FEWEST = 6
#: The wider one in which a fit that describes the data is asked less of a peak.
_WIDE = 15.0
#: Chance of residuals as large as those of a fit that describes its data, at least.
_CHANCE = 0.01
#: Chance of residuals around a line below which its significance means nothing.
_CHANCE_OF_LINES = 1e-4
#: How well the shape of a line is known: share of its counts in each bin.
SHAPE_ERROR = 0.03
#: How far a peak stands out where the fit describes the data [standard deviations].
_LEAST = 1.5
#: Steps are tried this far from the line [widths].
_STEPS = np.arange(-3.0, 3.1, 0.5)
#: Of a line that the neighbourhood can make up to this share nothing is said.
_HIDDEN = 0.03


def is_peak(
    spectrum: tuple[Array, NDArray[np.bool_]],
    residual: Array,
    expected: tuple[Array, Array],
    line: Array,
    place: tuple[float, float],
    threshold: float,
) -> bool:
    """Whether a candidate is a peak, by its neighbourhood.

    Where the fit describes the wider neighbourhood it must stand out of a parabola by 1.5 standard
    deviations; elsewhere, where anything may look like a line, of a parabola and a step by the
    threshold of the search, and a step down, as photopeaks and Compton edges make it, must not do
    as well anywhere near. A share of other lines' counts is part of the error: that is how well
    their shape is known.

    Parameters
    ----------
    spectrum : (ndarray, shape (n_bins + 1,), keV; ndarray of bool, shape (n_bins,))
        Edges, and the fitted bins.
    residual : ndarray, shape (n_bins,), counts
        Data less fit, without the line in question.
    expected : (ndarray, ndarray), shape (n_bins,), counts
        The fit without the line in question, and what of it is other lines.
    line : ndarray, shape (n_bins,)
        Counts of the line, any amplitude.
    place : (float, float), keV
        Its energy, and its width as the bins show it.
    threshold : float
    """
    edges, used = spectrum
    energy, width = place
    near = _near(edges, used, energy, width, _WIDTHS)
    if near.size < _FEWEST:
        return True
    variance = np.maximum(expected[0] + (SHAPE_ERROR * expected[1]) ** 2, FLOOR)
    outside = np.setdiff1d(_near(edges, used, energy, width, _WIDE), near)
    misfit = float(np.sum(residual[outside] ** 2 / variance[outside]))
    fits = outside.size < 4 or gammaincc(0.5 * outside.size, 0.5 * misfit) > _CHANCE
    scale = 1.0 / np.sqrt(variance[near])
    bins = np.diff(edges)[near] * scale
    x = (0.5 * (edges[1:] + edges[:-1])[near] - energy) / width
    smooth = _basis(_parabola(bins, x))
    data, shape = residual[near] * scale, line[near] * scale
    least = _HIDDEN * float(shape @ shape)
    data, shape = (v - smooth @ (smooth.T @ v) for v in (data, shape))
    if shape @ shape <= least:
        return True
    z = float(shape @ data) / math.sqrt(float(shape @ shape))
    if fits:
        return z > min(_LEAST, threshold)
    steps = bins[:, None] * ndtr(_STEPS - x[:, None])
    steps -= smooth @ (smooth.T @ steps)
    steps /= np.sqrt(np.maximum(np.sum(steps**2, axis=0), 1e-300))
    if not z > float(np.max(data @ steps)):
        return False
    step = steps[:, _STEPS.size // 2]
    # only where the best step beside the line goes down
    if float((step - shape * float(shape @ step) / float(shape @ shape)) @ data) > 0.0:
        data, shape = (v - step * float(step @ v) for v in (data, shape))
    return bool(shape @ shape <= least or shape @ data > threshold * math.sqrt(shape @ shape))


def _parabola(bins: Array, x: Array) -> Array:
    """Columns of a parabola; at an end, where with a step it makes up a peak, of a slope."""
    both = min(int((x < -1.0).sum()), int((x > 1.0).sum())) >= 3 and x[0] < -3.0 and x[-1] > 3.0
    return np.stack([bins, bins * x, bins * x**2], axis=1)[:, : 3 if both else 2]


def described(
    spectrum: EnergySpectrum, expected: Array, place: tuple[float, float], *, wide: bool = False
) -> bool:
    """Whether residuals around a line are as small as a right model leaves them in 1 of 10,000.

    Parameters
    ----------
    spectrum : EnergySpectrum
    expected : ndarray, shape (n_bins,), counts
        All lines in it.
    place : (float, float), keV
        Energy and width of the line.
    wide : bool
        In the wider neighbourhood, and as small as in 1 of 100.
    """
    near = _near(spectrum.edges, spectrum.used, *place, _WIDE if wide else _WIDTHS)
    deviance = 2.0 * half_deviance(spectrum.counts[near], np.ones(near.size, bool), expected[near])
    chance = _CHANCE if wide else _CHANCE_OF_LINES
    return float(gammaincc(0.5 * near.size, 0.5 * deviance)) > chance


def _near(
    edges: Array, used: NDArray[np.bool_], energy: float, width: float, reach: float
) -> NDArray[np.intp]:
    """Fitted bins around an energy."""
    middle = int(np.clip(np.searchsorted(edges, energy) - 1, 0, used.size - 1))
    first = min(int(np.searchsorted(edges, energy - reach * width)) - 1, middle - _BINS)
    last = max(int(np.searchsorted(edges, energy + reach * width)), middle + _BINS + 1)
    first, last = max(first, 0), min(last, used.size)
    return first + np.flatnonzero(used[first:last])


def _basis(columns: Array) -> Array:
    """Orthonormal basis of what columns span, shape (n, rank)."""
    u, values, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(u[:, values > 1e-9 * max(float(values[0]), 1e-300)], dtype=float)
