"""Compiled loops over single events: directions on the sky, densities in a template's cells."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Singles = NDArray[np.float32]

#: Two orientations closer than this are interpolated linearly: 1 - cos of half the angle.
_PARALLEL = 1e-10

#: Events that are summed at a time.
_BLOCK = 2048

#: Densities whose logarithm is taken together, and the range in which their product is a number.
_TOGETHER = 16
_LOWEST, _HIGHEST = 1e-18, 1e18


@njit(cache=True, nogil=True)
def place_in_time(times: Array, samples: Array, interval: Integers, fraction: Array) -> None:
    """The interval between samples that each time lies in, and where in it.

    Parameters
    ----------
    times : ndarray, shape (n,)
    samples : ndarray, shape (n_samples,), not decreasing, in the unit of `times`
    interval : ndarray of int64, shape (n,)
        Filled; -1 before the first sample or behind the last. The last sample itself belongs to
        the last interval.
    fraction : ndarray, shape (n,)
        Filled, 0 to 1.
    """
    last = samples.size - 1
    k = 0
    for i in range(times.size):
        t = times[i]
        if not samples[0] <= t <= samples[last]:
            interval[i] = -1
            fraction[i] = 0.0
            continue
        if not samples[k] <= t < samples[k + 1]:  # events are mostly in order of time
            if k + 2 <= last and samples[k + 1] <= t < samples[k + 2]:
                k += 1
            else:
                k = min(np.searchsorted(samples, t, side="right") - 1, last - 1)
        width = samples[k + 1] - samples[k]
        interval[i] = k
        fraction[i] = (t - samples[k]) / width if width > 0.0 else 0.0


@njit(cache=True, nogil=True)
def sky_vectors(
    longitudes: Array,
    latitudes: Array,
    quaternions: Array,
    interval: Integers,
    fraction: Array,
    out: Array,
) -> None:
    """Directions in the spacecraft's frame, turned into the frame of its orientations.

    Spherical linear interpolation of unit quaternions (Shoemake 1985, SIGGRAPH 19, 245). q and -q
    are the same orientation: of the two ways between samples the short one is taken.

    Parameters
    ----------
    longitudes, latitudes : ndarray, shape (n,), rad
    quaternions : ndarray, shape (n_samples, 4)
        Scalar last; they turn the spacecraft's frame into the other.
    interval : ndarray of int64, shape (n,)
    fraction : ndarray, shape (n,)
    out : ndarray, shape (3, n)
        Filled with unit vectors; those without an interval are left alone.
    """
    for i in range(longitudes.size):
        k = interval[i]
        if k < 0:
            continue
        dot = 0.0
        for j in range(4):
            dot += quaternions[k, j] * quaternions[k + 1, j]
        sign = 1.0 if dot >= 0.0 else -1.0
        dot = min(abs(dot), 1.0)
        w0, w1 = 1.0 - fraction[i], fraction[i]
        if 1.0 - dot > _PARALLEL:
            angle = math.acos(dot)
            w0, w1 = math.sin(w0 * angle), math.sin(w1 * angle)
        a = w0 * quaternions[k, 0] + sign * w1 * quaternions[k + 1, 0]
        b = w0 * quaternions[k, 1] + sign * w1 * quaternions[k + 1, 1]
        c = w0 * quaternions[k, 2] + sign * w1 * quaternions[k + 1, 2]
        d = w0 * quaternions[k, 3] + sign * w1 * quaternions[k + 1, 3]
        norm = math.sqrt(a * a + b * b + c * c + d * d)
        a, b, c, d = a / norm, b / norm, c / norm, d / norm
        cosine = math.cos(latitudes[i])
        u = cosine * math.cos(longitudes[i])
        v = cosine * math.sin(longitudes[i])
        w = math.sin(latitudes[i])
        # v' = v + 2 q x (q x v + d v)
        p = b * w - c * v + d * u
        q = c * u - a * w + d * v
        r = a * v - b * u + d * w
        out[0, i] = u + 2.0 * (b * r - c * q)
        out[1, i] = v + 2.0 * (c * p - a * r)
        out[2, i] = w + 2.0 * (a * q - b * p)


@njit(cache=True, nogil=True)
def fill_densities(
    cells: Integers,
    energy_bins: Integers,
    energies: Array,
    factors: Array,
    maps: Array,
    grid: Array,
    tables: Array,
    out: Singles,
) -> None:
    """Density of each component at each event.

    Parameters
    ----------
    cells : ndarray of int64, shape (n,)
        Flat cells of the maps.
    energy_bins : ndarray of int64, shape (n,)
    energies : ndarray, shape (n,), keV
    factors : ndarray, shape (n,)
        On all densities of an event.
    maps : ndarray, shape (n_labels, n_cells)
        Share of a component in a cell, per rad and sr.
    grid : ndarray, shape (2, n_em), keV
        Where the table of each energy bin begins, and its step.
    tables : ndarray, shape (n_labels, n_em, n_steps), 1/keV
        At the middle of each step; linear between them, and to the ends.
    out : ndarray of float32, shape (n_labels, n)
        Filled.
    """
    n_steps = tables.shape[2]
    for i in range(cells.size):
        e = energy_bins[i]
        place = (energies[i] - grid[0, e]) / grid[1, e] - 0.5
        k = min(max(math.floor(place), 0), n_steps - 2)
        weight = place - k
        for label in range(maps.shape[0]):
            left, right = tables[label, e, k], tables[label, e, k + 1]
            density = max(left + weight * (right - left), 0.0)
            out[label, i] = maps[label, cells[i]] * density * factors[i]


@njit(cache=True, nogil=True)
def weighted_densities(rates: Array, densities: Singles, out: Array) -> None:
    """Out = rates @ densities, summed in double precision.

    Parameters
    ----------
    rates : ndarray, shape (n_labels,)
    densities : ndarray of float32, shape (n_labels, n)
        Single precision is half the memory to read; a likelihood of a million events moves by
        some 1e-5 only.
    out : ndarray, shape (n,)
        Filled.
    """
    for start in range(0, out.size, _BLOCK):  # stays in the processor's cache
        _weigh(rates, densities, start, out[start : start + _BLOCK])


@njit(cache=True, nogil=True)
def _weigh(rates: Array, densities: Singles, start: int, out: Array) -> None:
    """`weighted_densities` of the events from `start` on, as many as `out` holds."""
    row, rate = densities[0, start : start + out.size], rates[0]
    for i in range(out.size):
        out[i] = rate * row[i]
    for label in range(1, rates.size):
        row, rate = densities[label, start : start + out.size], rates[label]
        for i in range(out.size):
            out[i] += rate * row[i]


@njit(cache=True, nogil=True)
def sum_of_logs(rates: Array, densities: Singles, others: Array) -> float:
    """Sum over events of log(rates @ densities + others); -inf where a density is not positive.

    One logarithm for the product of 16 densities, where none is extreme: the same to some 1e-15.

    Parameters
    ----------
    rates : ndarray, shape (n_labels,)
    densities : ndarray of float32, shape (n_labels, n)
    others : ndarray, shape (n,) or (0,)
        Densities of what is not the background; none where it is empty.
    """
    n = densities.shape[1]
    total = 0.0
    block = np.empty(_BLOCK)
    products = np.empty(_BLOCK // _TOGETHER)
    for start in range(0, n, _BLOCK):
        values = block[: min(_BLOCK, n - start)]
        _weigh(rates, densities, start, values)
        if others.size:
            part = others[start : start + values.size]
            for i in range(values.size):
                values[i] += part[i]
        extreme = 0
        for i in range(values.size):
            extreme += not _LOWEST < values[i] < _HIGHEST
        if values.size == _BLOCK and not extreme:
            _multiply(values, products)
            values = products
        for i in range(values.size):
            if values[i] <= 0.0:
                return -math.inf
            total += math.log(values[i])
    return total


@njit(cache=True, nogil=True)
def _multiply(values: Array, products: Array) -> None:
    """Products of equal numbers of values, shape (products.size,)."""
    n = products.size
    products[:] = values[:n]
    for start in range(n, values.size, n):
        part = values[start : start + n]
        for i in range(n):
            products[i] *= part[i]
