"""Where else a fit may start, once it has ended: weak lines elsewhere, other lengths of a tail.

A weak line beside a strong one often fits in two places of its window, a tail with two lengths.
Both are looked at from the optimum, where that is cheap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ..spectrum.components import Component, SpectralModel
from ..spectrum.kernels import FLOOR
from .objective import Objective

Array = NDArray[np.float64]
Slots = NDArray[np.int64]

#: Widths tried for free widths, in median bin widths.
TRIAL_WIDTHS = np.array([0.3, 0.6, 1.2, 3.0])

#: A line of fewer standard errors than this may fit as well elsewhere in its window.
WEAK = 8.0

#: Another place is tried where a line gains as much as here, to within this in the deviance.
_TRIED_BELOW = 4.0

#: A line's counts are looked for within this many widths of its energy.
_REACH = 5.0

#: Energies of one window, at most; and the share of a line that the others must leave.
_MOST_PLACES, _LEAST_OWN = 200, 1e-3

#: Lengths of a tail that are tried, and the longest that a fit may find, in widths of the line.
#: Tails that were measured have 1 to 4.3.
_TRIED_LENGTHS, LONGEST_TAIL = (0.7, 2.0, 4.0), 6.0

#: A length that is tried differs at least by this factor from the fitted one, or the fraction was
#: not within these limits.
_ANOTHER_LENGTH, _TRIED_FRACTIONS = 1.4, (0.02, 0.6)


#: Widths of a broad part over those of the narrow one that are tried, with this share of counts.
_TRIED_RATIOS, _TRIED_SHARE = (1.5, 2.5, 5.0), 0.4

#: Limits on a tail that agree to this fraction are the same.
SAME_LENGTH = 1e-3


class Optimum(NamedTuple):
    """Where a fit ended.

    Attributes
    ----------
    theta : ndarray, shape (n_parameters,)
    interior : ndarray of int
        The free slots that sit on no limit and that the data constrain.
    covariance : ndarray, shape (n_interior, n_interior)
    problem : str
        What is wrong with it as a minimum, or "".
    """

    theta: Array
    interior: Slots
    covariance: Array
    problem: str


def tails_within(model: SpectralModel, theta: Array, asked: SpectralModel) -> SpectralModel | None:
    """The model with tails limited to `LONGEST_TAIL` widths where they are longer, or None.

    A longer one is none: it takes the place of a step, or of the continuum's curvature, and the
    line's counts grow by these. Limits follow the width: `asked` has those from before.
    """
    parameters = list(model.parameters)
    for slot, width in tail_widths(model, theta).items():
        p = parameters[slot]
        longest = min(max(LONGEST_TAIL * width, p.low), asked.parameters[slot].high)
        near = 1.0 + SAME_LENGTH
        wider = p.high * near < longest and theta[slot] * near > p.high
        if theta[slot] > longest * near or wider:
            parameters[slot] = replace(p, high=longest, value=longest)
    changed = any(a is not b for a, b in zip(parameters, model.parameters, strict=True))
    return replace(model, parameters=tuple(parameters)) if changed else None


def tail_widths(model: SpectralModel, theta: Array) -> dict[int, float]:
    """Width [keV] of the widest line of each free length of a tail, by the length's slot."""
    widths: dict[int, float] = {}
    for c in (model.components[i] for i in model.lines):
        if c.tail_slots and model.parameters[c.tail_slots[1]].free:
            slot = c.tail_slots[1]
            widths[slot] = max(widths.get(slot, 0.0), c.sigma(theta))
    return widths


def other_lengths(objective: Objective, theta: Array) -> Iterator[Array]:
    """Starts with other lengths of a tail, and no extreme fraction, than a fit has found."""
    model = objective.model
    for slot, width in tail_widths(model, theta).items():
        fractions = [c.tail_slots[0] for c in model.components if slot in c.tail_slots]
        free = [s for s in dict.fromkeys(fractions) if model.parameters[s].free]
        for ratio in _TRIED_LENGTHS:
            start = theta.copy()
            start[slot] = ratio * width
            start[free] = np.clip(theta[free], *_TRIED_FRACTIONS)
            start = np.clip(start, objective.low, objective.high)
            change = max(start[slot] / theta[slot], theta[slot] / start[slot])
            if change > _ANOTHER_LENGTH or np.any(start[free] != theta[free]):
                yield start


def other_ratios(objective: Objective, theta: Array) -> Iterator[Array]:
    """Starts with other widths of the broad part of annihilation lines than a fit has found."""
    model = objective.model
    for c in (model.components[i] for i in model.lines):
        if not c.broad_slots or not model.parameters[c.broad_slots[1]].free:
            continue
        broad, ratio = c.broad_slots
        for tried in _TRIED_RATIOS:
            start = theta.copy()
            start[ratio] = tried
            if model.parameters[broad].free:
                start[broad] = _TRIED_SHARE
            yield np.clip(start, objective.low, objective.high)


def other_places(objective: Objective, end: Optimum) -> Iterator[Array]:
    """Starts with a weak line where the score test, all else free, likes it as much as here.

    A line that a neighbour has swallowed on the way, and that ended at 0 counts, is one of these.
    """
    model, theta = objective.model, end.theta
    if end.problem:
        _, _, information = objective.scoring(theta)
        inverse = _inverse(information[np.ix_(end.interior, end.interior)])
        end = Optimum(theta, end.interior, inverse, end.problem)
    lines = _weak_lines(model, end)
    if not lines:
        return
    expected, jac = objective.bound.counts_and_jacobian(theta)
    expected = np.maximum(expected + objective.offset, FLOOR)
    users = Counter(slot for c in model.components for slot in c.slots)
    for c in lines:
        own = np.array([s for s in c.slots if users[s] == 1])
        without = np.maximum(expected - theta[c.area] * jac[c.area], FLOOR)
        for width in _widths(objective, c, own, theta):
            yield from _places_of(objective, end, c, own, width, without, jac)


def _weak_lines(model: SpectralModel, end: Optimum) -> list[Component]:
    """Lines of less than `WEAK` errors, or at the end of their window."""
    errors = np.zeros(end.theta.size)
    errors[end.interior] = np.sqrt(np.maximum(np.diag(end.covariance), 0.0))
    free, inside = set(model.free.tolist()), set(end.interior.tolist())
    return [
        c
        for c in (model.components[i] for i in model.lines)
        if {c.area, c.energy} <= free
        and (c.energy not in inside or end.theta[c.area] < WEAK * errors[c.area])
    ]


def _widths(objective: Objective, line: Component, own: Slots, theta: Array) -> Array:
    """The line's width; for one of 0 counts with a free width of its own, several [keV]."""
    slots = line.width_slots
    alone = len(slots) == 1 and slots[0] in own and objective.model.parameters[slots[0]].free
    if theta[line.area] > 0.0 or not alone:
        return np.array([line.sigma(theta)])
    edges = objective.bound.grid.edges
    bin_width = (edges[-1] - edges[0]) / (edges.size - 1)
    low, high = objective.low[slots[0]], objective.high[slots[0]]
    return np.unique(np.clip(TRIAL_WIDTHS * bin_width, low, high))


def _places_of(
    objective: Objective,
    end: Optimum,
    line: Component,
    own: Slots,
    width: float,
    without: Array,
    jac: Array,
) -> Iterator[Array]:
    """Starts with a line of this width [keV] at the peaks of its score test."""
    theta, f, mu = end.theta, line.area, line.energy
    low, high = (float(limit[mu]) for limit in (objective.low, objective.high))
    edges = objective.bound.grid.edges
    low, high = max(low, float(edges[0])), min(high, float(edges[-1]))
    if high - low < width:
        return
    n = min(max(3, int((high - low) / (0.5 * width)) + 1), _MOST_PLACES)
    energies = np.append(np.linspace(low, high, n), theta[mu])
    z, amplitude = _score(objective, end, own, width, without, jac, energies)
    here, z = max(float(z[-1]), 0.0), z[:-1]
    peak = z >= np.maximum(np.append(z[1:], -np.inf), np.append(-np.inf, z[:-1]))
    if theta[f] > 0.0:
        peak &= np.abs(energies[:-1] - theta[mu]) > width
    peak &= (z > 0.0) & (z**2 > here**2 - _TRIED_BELOW)
    for k in np.flatnonzero(peak):
        start = theta.copy()
        start[[f, mu]] = min(float(amplitude[k]), float(objective.high[f])), energies[k]
        if len(line.width_slots) == 1:
            start[line.width_slots[0]] = width
        yield start


def _score(
    objective: Objective,
    end: Optimum,
    own: Slots,
    width: float,
    without: Array,
    jac: Array,
    energies: Array,
) -> tuple[Array, Array]:
    """Score test of a line, of `own` parameters, at each energy, all others free.

    Parameters
    ----------
    without : ndarray, shape (n_bins,), counts
        Expected without it.
    jac : ndarray, shape (n_parameters, n_bins)

    Returns
    -------
    significance, amplitude : ndarray, shape (n,)
        In standard deviations, and counts.
    """
    edges, reach = objective.bound.grid.edges, _REACH * width
    near = (edges[1:] > energies.min() - reach) & (edges[:-1] < energies.max() + reach)
    near &= objective.spectrum.used
    without = without[near]
    residual = objective.spectrum.counts[near] - without
    shapes = np.diff(ndtr((edges - energies[:, None]) / width), axis=1)[:, near] / without
    others, covariance = _without(end, own)
    local = jac[others][:, near]
    seen = np.any(local != 0.0, axis=1)
    local, covariance = local[seen], covariance[seen][:, seen]
    shared = shapes @ local.T  # what the others can explain of it
    numerator = shapes @ residual - shared @ (covariance @ (local @ (residual / without)))
    full = np.sum(shapes**2 * without, axis=1)
    size = full - np.sum((shared @ covariance) * shared, axis=1)
    usable = size > _LEAST_OWN * full
    numerator, size = np.where(usable, numerator, 0.0), np.where(usable, size, 1.0)
    return numerator / np.sqrt(size), numerator / size


def _without(end: Optimum, slots: Slots) -> tuple[Slots, Array]:
    """The other parameters, and their covariance with those of a line alone held fixed."""
    own = np.isin(end.interior, slots)
    rest, c = ~own, end.covariance
    covariance = c[rest][:, rest]
    if own.any():
        cross = c[rest][:, own]
        covariance = covariance - cross @ _inverse(c[own][:, own]) @ cross.T
    return end.interior[rest], covariance


def _inverse(matrix: Array) -> Array:
    """Of a symmetric matrix; of what is singular in it, 0."""
    root = np.sqrt(np.maximum(np.abs(np.diag(matrix)), 1e-300))
    scale = np.outer(root, root)
    return np.asarray(np.linalg.pinv(matrix / scale, 1e-10, hermitian=True) / scale, dtype=float)
