"""Offset and gain of an energy scale, from the lines that the catalogue knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .catalogue import instrumental_lines

Array = NDArray[np.float64]

#: Scales are looked for in which no energy is off by more than this [keV].
REACH = 4.0
#: Fewer lines than this that agree with the catalogue fix no scale.
LEAST_LINES = 4
#: Lines that span less than this share of their energy tell an offset alone.
_SPAN = 0.2
#: How well lines agree with the right scale [keV].
_SPREAD = 0.25
_STEP = 0.1
#: Rows weaker than this [percent] are too many to guide the search.
_STRONG = 5.0
#: Only lines above this significance guide it.
_SIGNIFICANT = 8.0


@dataclass(frozen=True)
class EnergyScale:
    """Fitted energy = offset + (1 + gain) x true energy.

    Attributes
    ----------
    offset : float, keV
    gain : float
    offset_error, gain_error : float
        Standard errors, from the scatter of the lines.
    n_lines : int
        Lines that agree with the catalogue on this scale.
    scatter : float, keV
        Root mean square of their distances from it.
    """

    offset: float
    gain: float
    offset_error: float
    gain_error: float
    n_lines: int
    scatter: float

    def corrected(self, energy: Array) -> Array:
        """True energies [keV] of fitted ones."""
        return (np.asarray(energy) - self.offset) / (1.0 + self.gain)

    def original(self, energy: float) -> float:
        """The fitted energy [keV] of a true one."""
        return self.offset + (1.0 + self.gain) * energy

    def __str__(self) -> str:
        return (
            f"energy scale: offset {self.offset:+.3f} +- {self.offset_error:.3f} keV, gain "
            f"{1e3 * self.gain:+.3f} +- {1e3 * self.gain_error:.3f} per mille "
            f"({self.n_lines} lines, scatter {self.scatter:.2f} keV)"
        )


def scale_notes(scale: EnergyScale | None, asked: bool) -> list[str]:
    """What to say of the scale that names go by."""
    if scale is not None:
        return [f"{scale}, applied to the names alone"]
    few = "no energy scale: too few lines agree with the catalogue; names are as they are"
    return [few] if asked else []


def fit_scale(energies: Array, significance: Array) -> EnergyScale | None:
    """Fit offset and gain to the lines that agree with strong rows of the catalogue.

    Every straight line of shifts within `REACH` is scored by how many lines it brings onto strong
    rows; the best one is refined by least squares on the lines within three spreads, which leaves
    out what is named wrongly.

    Parameters
    ----------
    energies, significance : ndarray, shape (n_lines,)
        Of the fitted lines: keV, standard deviations.

    Returns
    -------
    EnergyScale or None
        None where fewer than `LEAST_LINES` agree.
    """
    rows = np.array(
        [
            row.energy
            for row in instrumental_lines()
            if (row.intensity or 0.0) >= _STRONG and not {"broad", "sum", "escape"} & set(row.flags)
        ]
    )
    strong = np.isfinite(significance) & (significance >= _SIGNIFICANT)
    measured = np.asarray(energies, float)[strong]
    if measured.size < LEAST_LINES:
        return None
    middle, half = 0.5 * (measured.max() + measured.min()), 0.5 * np.ptp(measured)
    with_gain = 2 * half > _SPAN * middle
    place = (measured - middle) / half if with_gain else np.zeros(measured.size)
    differences = measured[:, None] - rows
    line, row = np.nonzero(np.abs(differences) <= REACH)
    shift = differences[line, row]
    grid = np.arange(-REACH, REACH + _STEP / 2, _STEP)
    best, found = -np.inf, (0.0, 0.0)
    for low in grid:  # shifts at the lowest and the highest line
        for high in grid if with_gain else [low]:
            expected = 0.5 * (low + high) + 0.5 * (high - low) * place[line]
            weight = np.exp(-0.5 * ((shift - expected) / _SPREAD) ** 2)
            of_lines = np.zeros(measured.size)
            np.maximum.at(of_lines, line, weight)
            # of two scales that do equally well the smaller shift is the likelier one
            score = of_lines.sum() - 0.1 * (abs(low) + abs(high)) / REACH
            if score > best:
                best, found = score, (low, high)
    low, high = found
    for _ in range(3):
        expected = 0.5 * (low + high) + 0.5 * (high - low) * place
        nearest = np.abs(differences - expected[:, None]).argmin(axis=1)
        off = differences[np.arange(measured.size), nearest]
        inside = np.abs(off - expected) <= 3 * _SPREAD
        if inside.sum() < LEAST_LINES:
            return None
        n_lines = int(inside.sum())
        design = np.stack([np.ones(n_lines), rows[nearest[inside]]], axis=1)[:, : 1 + with_gain]
        fitted, *_ = np.linalg.lstsq(design, off[inside], rcond=None)
        offset, gain = (*fitted.tolist(), 0.0)[:2]
        low, high = offset + gain * (middle - half), offset + gain * (middle + half)
    residuals = off[inside] - design @ fitted
    covariance = np.linalg.inv(design.T @ design) * float(residuals @ residuals)
    errors = np.sqrt(np.diag(covariance) / max(n_lines - len(fitted), 1)).tolist()
    offset_error, gain_error = (*errors, 0.0)[:2]
    scatter = float(np.sqrt(np.mean(residuals**2)))
    return EnergyScale(offset, gain, offset_error, gain_error, n_lines, scatter)
