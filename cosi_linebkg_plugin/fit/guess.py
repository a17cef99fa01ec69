"""Start values from the data: a continuum, then lines placed one by one in their windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..spectrum.axis import EnergySpectrum, require_counts
from ..spectrum.components import Component, SpectralModel
from ..spectrum.kernels import place_lines
from .objective import Objective, amplitude_slots, start_inside
from .restarts import TRIAL_WIDTHS

Array = NDArray[np.float64]
Slots = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: Where a broken power law may break, as shares of the fitted bins.
_TRIAL_BREAKS = (0.25, 0.5, 0.75)


def guess_values(model: SpectralModel, spectrum: EnergySpectrum) -> NDArray[np.float64]:
    """Values of all parameters to start a fit from; fixed ones and limits are respected.

    The continuum is fitted to the bins that no line window touches (to all bins where these are
    too few), dropping bins that stand out. Lines are then added greedily, each time the one with
    the largest gain at its best energy within its limits; the free widths are those of a short
    list that gain most.

    Returns
    -------
    ndarray, shape (n_parameters,)

    Raises
    ------
    DataError
        No counts in the unmasked bins.
    """
    require_counts(spectrum)
    return guess_start(Objective(model, spectrum))


def guess_start(objective: Objective) -> NDArray[np.float64]:
    """`guess_values` for a model and spectrum that are already bound together."""
    model, spectrum = objective.model, objective.spectrum
    theta = start_inside(model)
    low, high = objective.low, objective.high
    lines = [model.components[i] for i in model.lines]
    bin_width = (spectrum.edges[-1] - spectrum.edges[0]) / spectrum.n_bins
    slots = np.array([(c.area, c.energy) for c in lines], dtype=np.int64).reshape(-1, 2)
    free = np.array([p.free for p in model.parameters])
    areas = slots[free[slots[:, 0]], 0]
    theta[areas] = np.maximum(low[areas], 0.0)
    windows = _windows(objective, theta, free, slots, bin_width)
    theta = _guess_continuum(objective, theta, windows, bin_width)
    if not lines:
        return theta
    any_free = any(free[s] for c in lines for s in c.width_slots)
    expected = objective.bound.counts(theta) + objective.offset
    best, best_value = theta, np.inf
    for width in TRIAL_WIDTHS * bin_width if any_free else (0.0,):
        trial = _with_width(lines, theta, width, free, low, high)
        sigmas = np.array([c.sigma(trial) for c in lines])
        place_lines(
            objective.bound.grid.edges, spectrum.counts, spectrum.used, expected, slots, sigmas,
            windows, free, low, high, trial,
        )  # fmt: skip
        value = objective.value(trial)
        if value < best_value:
            best, best_value = trial, value
    return best


def _with_width(
    lines: list[Component], theta: Array, width: float, free: Flags, low: Array, high: Array
) -> Array:
    """`theta` with every free width [keV] set; a and b share the variance at the mean energy."""
    theta = theta.copy()
    groups: dict[tuple[int, ...], list[float]] = {}
    for c in lines:
        groups.setdefault(c.width_slots, []).append(float(theta[c.energy]))
    for slots, energies in groups.items():
        wanted = [width]
        if len(slots) == 2:
            energy, (a, b) = float(np.mean(energies)), slots
            share = 0.5 * width**2 if free[b] else width**2 - theta[b] * energy
            wanted = [share, (width**2 - (share if free[a] else theta[a])) / energy]
        for slot, value in zip(slots, wanted, strict=True):
            if free[slot]:
                theta[slot] = min(max(value, low[slot]), high[slot])
    return theta


def _windows(
    objective: Objective, theta: Array, free: Flags, slots: Slots, bin_width: float
) -> Array:
    """Energies that each line may take, shape (n_lines, 2), keV.

    Two bins around its start where a line is unlimited.
    """
    low, high, spectrum = objective.low, objective.high, objective.spectrum
    mu = slots[:, 1]
    start = theta[mu]
    below = np.where(np.isfinite(low[mu]), low[mu], start - 2 * bin_width)
    above = np.where(np.isfinite(high[mu]), high[mu], start + 2 * bin_width)
    below = np.where(free[mu], np.maximum(below, spectrum.edges[0]), start)
    above = np.where(free[mu], np.minimum(above, spectrum.edges[-1]), start)
    return np.column_stack([below, np.maximum(above, below)])


def _guess_continuum(objective: Objective, theta: Array, windows: Array, bin_width: float) -> Array:
    """Fit the continuum alone, away from the lines and without the bins that stand out."""
    model, spectrum = objective.model, objective.spectrum
    free = np.intersect1d(model.free, model.continuum_slots).astype(np.int64)
    if free.size == 0:
        return theta
    enough = max(2 * free.size, 6)
    reach = 2.0 * bin_width
    used = spectrum.used.copy()
    for low, high in windows:
        used &= (spectrum.edges[1:] < low - reach) | (spectrum.edges[:-1] > high + reach)
    if used.sum() < enough:
        used = spectrum.used.copy()
    only = Objective(
        model.select(model.smooth_continuum), spectrum, objective.bound.grid, objective.offset
    )
    amplitudes = amplitude_slots(only.model)
    breaks = []
    for c in only.model.components:
        # A wild index, in slot 2, makes the amplitude at the pivot meaningless: start gently.
        broken = c.kind == "broken_powerlaw"
        for slot in (c.slots[2], c.slots[4]) if broken else c.slots[2:3]:
            if c.kind != "function" and model.parameters[slot].free:
                theta[slot] = min(max(-1.0, only.low[slot]), only.high[slot])
        if broken and model.parameters[c.slots[3]].free:
            breaks.append(c.slots[3])
    if not breaks:
        return _fit_continuum(only, theta, free, amplitudes, used, enough)
    energies = spectrum.centers[spectrum.used]
    trials = []
    for share in _TRIAL_BREAKS:
        trial = theta.copy()
        trial[breaks] = energies[int(share * energies.size)]
        trial = np.clip(trial, only.low, only.high)
        trials.append(_fit_continuum(only, trial, free, amplitudes, used, enough))
    only.use(used)
    return min(trials, key=only.value)


def _fit_continuum(
    only: Objective, theta: Array, free: Slots, amplitudes: Slots, used: Flags, enough: int
) -> Array:
    """Fit the continuum to the bins `used`, dropping those that stand out."""
    spectrum = only.spectrum
    for _ in range(3):
        only.use(used)
        level = only.bound.counts(theta)[used].sum()
        wanted = (spectrum.counts - only.offset)[used].sum()
        if amplitudes.size and level > 0 and wanted > 0:
            theta[amplitudes] *= wanted / level
            theta = np.clip(theta, only.low, only.high)
        theta, _ = only.score_to_minimum(theta, free)
        expected = np.maximum(only.bound.counts(theta) + only.offset, 0.0)
        standing_out = used & (spectrum.counts > expected + 4.0 * np.sqrt(expected + 1.0))
        if not standing_out.any() or (used & ~standing_out).sum() < enough:
            break
        used = used & ~standing_out
    return theta
