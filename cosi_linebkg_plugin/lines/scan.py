"""The score test of one more line at every energy where one may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fit.score import Residuals
from ..spectrum.axis import EnergySpectrum
from ..spectrum.kernels import FIT_REACH
from .trial import Shape, TrialFit

Array = NDArray[np.float64]

#: Energies per width; the refit moves a line in between.
_STEPS_PER_WIDTH = 4

#: A long axis is taken in parts of about this many bins.
_PART = 300

#: A part reaches `FIT_REACH` widths, and this many tail lengths, beyond the energies scanned.
_LENGTHS = 10.0


@dataclass(frozen=True, eq=False)
class Scanned:
    """What a scan has found.

    Attributes
    ----------
    significance : ndarray, shape (n,), standard deviations
    energies : ndarray, shape (n,), keV
        Increasing.
    amplitudes : ndarray, shape (n,), counts
        Of a line there, to first order.
    length : float, radians
        Of the curve that the look-elsewhere rule needs, see `fit.score`; 0 if not asked for.
    """

    significance: Array
    energies: Array
    amplitudes: Array
    length: float


def scan(
    fit: TrialFit,
    spectrum: EnergySpectrum,
    shape: Shape,
    width: Callable[[Any], Any],
    allowed: list[tuple[float, float]],
    *,
    with_length: bool = True,
) -> Scanned:
    """Scan a spectrum for one more line.

    A long axis is taken in parts, each with the continuum and the lines that act on it free: time
    grows with the number of bins, not faster.

    Parameters
    ----------
    fit : TrialFit
    spectrum : EnergySpectrum
    shape : Shape
        Of the line.
    width : callable
        Its width, as the bins show it, at an energy [keV].
    allowed : list of (float, float), keV
        Where it may be.
    with_length : bool
    """
    expected, jac = fit.counts_and_jacobian()
    continuum, columns = fit.model.continuum_slots, fit.columns
    none = np.zeros(0)
    z, places, amplitudes, length = [none], [none], [none], 0.0
    for energies in _parts(spectrum, width, allowed):
        part = _reached(spectrum, shape, width, energies)
        used = spectrum.used[part]
        known = shape.counts(spectrum.edges[part.start : part.stop + 1], energies)[:, used]

        def shapes(some: Array, energies: Array = energies, known: Array = known) -> Array:
            return known[np.searchsorted(energies, some)]

        counts, mean = spectrum.counts[part][used], expected[part][used]
        rows = jac[:, part][:, used]
        if with_length:
            alone = Residuals.of(counts, mean, rows[continuum])
            length += alone.curve_length(shapes, energies)
        rows = rows[columns]
        rows = rows[np.abs(rows).max(axis=1, initial=0.0) > 0.0]
        score, amplitude = Residuals.of(counts, mean, rows).score(shapes, energies)
        z.append(score)
        places.append(energies)
        amplitudes.append(amplitude)
    return Scanned(np.concatenate(z), np.concatenate(places), np.concatenate(amplitudes), length)


def _parts(
    spectrum: EnergySpectrum, width: Callable[[Any], Any], allowed: list[tuple[float, float]]
) -> list[Array]:
    """Energies to scan, keV, in parts."""
    parts = []
    for low, high in allowed:
        finest = min(float(width(low)), float(width(high)))
        n = max(2, math.ceil((high - low) * _STEPS_PER_WIDTH / finest) + 1)
        first, last = np.searchsorted(spectrum.edges, [low, high])
        n_parts = max(1, round(int(last - first) / _PART))
        parts += np.array_split(np.linspace(low, high, n), n_parts)
    return parts


def _reached(
    spectrum: EnergySpectrum, shape: Shape, width: Callable[[Any], Any], energies: Array
) -> slice:
    """Bins that lines of these energies reach, or all if these are few."""
    n_bins = spectrum.n_bins
    if n_bins < 1.5 * _PART:
        return slice(0, n_bins)
    above = FIT_REACH * float(width(energies[-1]))
    below = above + (_LENGTHS * shape.values["length"] if shape.form.tail else 0.0)
    ends = np.searchsorted(spectrum.edges, [energies[0] - below, energies[-1] + above])
    return slice(max(int(ends[0]) - 1, 0), min(int(ends[1]), n_bins))


def maxima(z: Array) -> NDArray[np.bool_]:
    """Where values are not below their neighbours."""
    padded = np.concatenate(([-np.inf], z, [-np.inf]))
    return np.asarray((z >= padded[:-2]) & (z >= padded[2:]))
