"""The score test of one more line at every energy where one may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..fit.score import Residuals, global_significance, threshold
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


@dataclass(frozen=True)
class Trials:
    """How much a significance means, with all the energies that were looked at; see `fit.score`.

    Attributes
    ----------
    segments : int
    length : float, radians
    threshold : float, standard deviations
        What none reaches by chance, but for the given false-alarm probability.
    """

    segments: int
    length: float
    threshold: float

    @classmethod
    def of(cls, false_alarm: float, segments: int, length: float) -> Trials:
        """Those of a false-alarm probability."""
        return cls(segments, length, threshold(false_alarm, segments, length))

    def global_significance(self, u: float) -> float:
        """That of a local significance, standard deviations."""
        return global_significance(u, self.segments, self.length)


def scan(
    fit: TrialFit,
    spectrum: EnergySpectrum,
    shape: Shape,
    width: Callable[[Any], Any],
    allowed: list[tuple[float, float]],
    *,
    with_length: bool = True,
    near: tuple[float, float] | None = None,
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
    near : (float, float), keV, optional
        Leave out parts without any of these energies.
    """
    expected, jac = fit.counts_and_jacobian()
    continuum, columns = fit.model.continuum_slots, fit.columns
    none = np.zeros(0)
    z, places, amplitudes, length = [none], [none], [none], 0.0
    for energies in _parts(spectrum, width, allowed):
        if near is not None and not (energies[0] <= near[1] and energies[-1] >= near[0]):
            continue
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


class Scans:
    """The scans of a search: each fit once, and the threshold that goes with it.

    Parameters
    ----------
    spectrum : EnergySpectrum
    false_alarm : float
        Chance of a false line anywhere that gives the threshold.
    """

    def __init__(self, spectrum: EnergySpectrum, false_alarm: float) -> None:
        self._spectrum, self._false_alarm = spectrum, false_alarm
        self._known: WeakKeyDictionary[TrialFit, tuple[Scanned, Trials]] = WeakKeyDictionary()
        self._measure: list[float] = []
        self._length = 0.0

    def of(
        self,
        fit: TrialFit,
        shape: Shape,
        width: Callable[[Any], Any],
        allowed: list[tuple[float, float]],
        near: tuple[float, float] | None = None,
    ) -> tuple[Scanned, Trials]:
        """The scan of a fit, and what its significances are compared with.

        Parameters
        ----------
        fit, shape, width, allowed
            As of `scan`; all but the first follow from the fit.
        near : (float, float), keV, optional
            Energies elsewhere may be missing.
        """
        if fit in self._known:
            return self._known[fit]
        measure = [float(width(energy)) for x in allowed for energy in x]
        measure.append(shape.values["length"] if shape.form.tail else 0.0)
        last = self._measure
        changed = len(measure) != len(last) or not np.allclose(measure, last, rtol=0.01)
        near = None if changed else near
        found = scan(fit, self._spectrum, shape, width, allowed, with_length=changed, near=near)
        if changed:
            self._measure, self._length = measure, found.length
        scanned = (found, Trials.of(self._false_alarm, max(len(allowed), 1), self._length))
        if near is None:
            self._known[fit] = scanned
        return scanned


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
