"""Start values from the data: a continuum, then lines placed one by one in their windows."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .components import SpectralModel
from .lineshapes import bins_in_reach
from .objective import Objective, amplitude_slots, start_inside
from .spectrum import EnergySpectrum

#: Widths tried for free sigmas, in median bin widths.
_TRIAL_WIDTHS = np.array([0.3, 0.6, 1.2, 3.0])
_MAX_CANDIDATES = 60
#: A line is scanned over this many sigma to either side: a start value needs no more.
_REACH = 4.0
_SQRT_HALF = math.sqrt(0.5)


def guess_values(model: SpectralModel, spectrum: EnergySpectrum) -> NDArray[np.float64]:
    """Values of all parameters to start a fit from; fixed ones and limits are respected.

    The continuum is fitted to the bins that no line window touches (to all bins where these are
    too few), dropping bins that stand out. Lines are then added greedily, each time the one with
    the largest gain at its best energy within its limits; the free widths are those of a short
    list that gain most.

    Returns
    -------
    ndarray, shape (n_parameters,)
    """
    return guess_start(Objective(model, spectrum))


def guess_start(objective: Objective) -> NDArray[np.float64]:
    """`guess_values` for a model and spectrum that are already bound together."""
    model, spectrum = objective.model, objective.spectrum
    theta = start_inside(model)
    low, high = objective.low, objective.high
    lines = [c for c in model.components if c.label == "lines"]
    bin_width = (spectrum.edges[-1] - spectrum.edges[0]) / spectrum.n_bins
    slots = np.array([c.slots[:3] for c in lines], dtype=np.int64).reshape(-1, 3)
    free = np.array([p.free for p in model.parameters])
    fixed_line = free[slots[:, 0]]
    theta[slots[fixed_line, 0]] = np.maximum(low[slots[fixed_line, 0]], 0.0)
    windows = _windows(theta, low, high, free, slots, spectrum, bin_width)
    theta = _guess_continuum(objective, theta, windows, bin_width)
    if not lines:
        return theta
    free_widths = np.unique(slots[free[slots[:, 2]], 2])
    edges = spectrum.edges
    expected = objective.bound.counts(theta)
    best, best_value = theta, np.inf
    for width in _TRIAL_WIDTHS * bin_width if free_widths.size else (0.0,):
        trial = theta.copy()
        trial[free_widths] = np.clip(width, low[free_widths], high[free_widths])
        _place_lines(
            edges, spectrum.counts, spectrum.used, expected, slots, windows, free, low, high, trial
        )
        value = objective.value(trial)
        if value < best_value:
            best, best_value = trial, value
    return best


def _windows(theta, low, high, free, slots, spectrum, bin_width):
    """Energies that each line may take, shape (n_lines, 2), keV.

    Two bins around its start where a line is unlimited.
    """
    mu = slots[:, 1]
    start = theta[mu]
    below = np.where(np.isfinite(low[mu]), low[mu], start - 2 * bin_width)
    above = np.where(np.isfinite(high[mu]), high[mu], start + 2 * bin_width)
    below = np.where(free[mu], np.maximum(below, spectrum.edges[0]), start)
    above = np.where(free[mu], np.minimum(above, spectrum.edges[-1]), start)
    return np.column_stack([below, np.maximum(above, below)])


def _guess_continuum(objective, theta, windows, bin_width):
    """Fit the continuum alone, away from the lines and without the bins that stand out."""
    model, spectrum = objective.model, objective.spectrum
    continuum = [i for i, c in enumerate(model.components) if c.label == "continuum"]
    own = {s for i in continuum for s in model.components[i].slots}
    free = np.array([s for s in model.free if s in own], dtype=np.int64)
    if free.size == 0:
        return theta
    enough = max(2 * free.size, 6)
    reach = 2.0 * bin_width
    used = spectrum.used.copy()
    for low, high in windows:
        used &= (spectrum.edges[1:] < low - reach) | (spectrum.edges[:-1] > high + reach)
    if used.sum() < enough:
        used = spectrum.used.copy()
    only = Objective(model.select(continuum), spectrum, objective.bound.grid)
    amplitudes = amplitude_slots(only.model)
    for c in only.model.components:
        # A wild index makes the amplitude at the pivot meaningless: start gently.
        if c.kind == "powerlaw" and model.parameters[c.slots[2]].free:
            p = model.parameters[c.slots[2]]
            theta[c.slots[2]] = min(max(-1.0, p.low), p.high)
    for _ in range(3):
        only.use(used)
        level = only.bound.counts(theta)[used].sum()
        if amplitudes.size and level > 0:
            theta[amplitudes] *= spectrum.counts[used].sum() / level
            theta = np.clip(theta, only.low, only.high)
        theta, _ = only.score_to_minimum(theta, free)
        expected = only.bound.counts(theta)
        standing_out = used & (spectrum.counts > expected + 4.0 * np.sqrt(expected + 1.0))
        if not standing_out.any() or (used & ~standing_out).sum() < enough:
            break
        used = used & ~standing_out
    return theta


@njit(cache=True)
def _place_lines(edges, counts, used, expected, slots, windows, free, low, high, theta):
    """Put each line where it gains most, strongest first; `theta` is changed in place."""
    n_lines = slots.shape[0]
    residual = counts - expected
    weight = np.empty(counts.size)
    for b in range(counts.size):
        weight[b] = 1.0 / max(expected[b], counts[b], 1.0) if used[b] else 0.0
    gain, best_mu, amplitude = np.zeros(n_lines), np.zeros(n_lines), np.zeros(n_lines)
    shape = np.empty(counts.size)
    stale = np.ones(n_lines, np.bool_)
    placed = np.zeros(n_lines, np.bool_)
    for _ in range(n_lines):
        best = -1
        for k in range(n_lines):
            if placed[k]:
                continue
            if stale[k]:
                gain[k], best_mu[k], amplitude[k] = _scan(
                    edges, residual, weight, windows[k, 0], windows[k, 1], theta[slots[k, 2]]
                )
                stale[k] = False
            if best < 0 or gain[k] > gain[best]:
                best = k
        if gain[best] <= 0.0:
            break
        placed[best] = True
        f, sigma = slots[best, 0], theta[slots[best, 2]]
        if free[f]:
            theta[f] = min(max(amplitude[best], low[f]), high[f])
        theta[slots[best, 1]] = best_mu[best]
        first, last = _line(edges, best_mu[best], sigma, shape)
        for b in range(first, last):
            residual[b] -= theta[f] * shape[b]
        for k in range(n_lines):
            near = _REACH * (sigma + theta[slots[k, 2]])
            if windows[k, 0] - near < best_mu[best] < windows[k, 1] + near:
                stale[k] = True


@njit(cache=True)
def _line(edges, mu, sigma, out):
    """Fill `out` with the counts per bin of a Gaussian of unit amplitude; its first, last bin."""
    first, last = bins_in_reach(edges, mu - _REACH * sigma, mu + _REACH * sigma)
    below = 0.5 * math.erfc((mu - edges[first]) / sigma * _SQRT_HALF)
    for b in range(first, last):
        above = 0.5 * math.erfc((mu - edges[b + 1]) / sigma * _SQRT_HALF)
        out[b] = above - below
        below = above
    return first, last


@njit(cache=True)
def _scan(edges, residual, weight, low, high, sigma):
    """Largest weighted-least-squares gain of a positive line over the energies of a window.

    Nearly equal gains go to the energy closest to the middle of the window, so that of two
    lines that could take a peak the one it was meant for does.
    """
    middle, half = 0.5 * (low + high), max(0.5 * (high - low), 1e-9)
    n = min(math.ceil((high - low) / (0.5 * sigma)) + 1, _MAX_CANDIDATES)
    shape = np.empty(residual.size)
    best_gain, best_mu, best_amplitude = 0.0, middle, 0.0
    for i in range(n):
        mu = low + (high - low) * i / (n - 1) if n > 1 else middle
        first, last = _line(edges, mu, sigma, shape)
        num, den = 0.0, 0.0
        for b in range(first, last):
            num += shape[b] * residual[b] * weight[b]
            den += shape[b] * shape[b] * weight[b]
        if den > 0.0 and num > 0.0:
            gain = num * num / den * (1.0 - 0.02 * abs(mu - middle) / half)
            if gain > best_gain:
                best_gain, best_mu, best_amplitude = gain, mu, num / den
    return best_gain, best_mu, best_amplitude
