"""Everything compiled for event lists: bins, selections, sorting, sums of equal cells.

One file on purpose, as `spectrum.kernels` says. Nothing here holds the interpreter's lock, so that
the next events are read meanwhile.

An event's *fate* is 0 while it is kept, and otherwise the number of the reason why it is not;
reasons are numbered by `events.rules`. Its *cell* is its bin number in the flattened histogram.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Indices = NDArray[np.int64]

#: What became of each event, see above.
Fates = NDArray[np.uint8]

#: Bits of a key that one pass of the sort looks at: its counters stay in the first-level cache.
_DIGIT = 11

_DEGREE = math.pi / 180.0

_RADIAN = 180.0 / math.pi

# --- selections and bins ------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def refuse_nan(values: Floats, fate: Fates, reason: int) -> None:
    """Give every event that is kept so far, and has NaN here, this fate."""
    for i in range(values.size):
        if fate[i] == 0 and math.isnan(values[i]):
            fate[i] = reason


@njit(cache=True, nogil=True)
def keep_range(
    values: Floats, factor: float, low: float, high: float, fate: Fates, reason: int
) -> None:
    """Keep values in [low, high) after multiplying with a factor."""
    for i in range(values.size):
        if fate[i] == 0 and not low <= values[i] * factor < high:
            fate[i] = reason


@njit(cache=True, nogil=True)
def keep_intervals(times: Floats, bounds: Floats, fate: Fates, reason: int) -> None:
    """Keep times in the intervals [bounds[0], bounds[1]), [bounds[2], bounds[3]) ..."""
    # Times mostly come in order: the last interval is tried before a search.
    low, high, good = 0.0, 0.0, False
    for i in range(times.size):
        if fate[i] != 0:
            continue
        time = times[i]
        if not low <= time < high:
            right = np.searchsorted(bounds, time, side="right")
            low = bounds[right - 1] if right > 0 else -np.inf
            high = bounds[right] if right < bounds.size else np.inf
            good = right % 2 == 1
        if not good:
            fate[i] = reason


@njit(cache=True, nogil=True)
def keep_cone(
    longitudes: Floats, latitudes: Floats, axis: Floats, cosine: float, fate: Fates, reason: int
) -> None:
    """Keep directions [rad] whose angle to a unit vector has at least this cosine."""
    for i in range(longitudes.size):
        if fate[i] != 0:
            continue
        c = math.cos(latitudes[i])
        x = c * math.cos(longitudes[i])
        y = c * math.sin(longitudes[i])
        product = axis[0] * x + axis[1] * y + axis[2] * math.sin(latitudes[i])
        if not product >= cosine:
            fate[i] = reason


@njit(cache=True, nogil=True)
def add_bins(
    values: Floats,
    factor: float,
    edges: Floats,
    guesses: Indices,
    fate: Fates,
    below: int,
    above: int,
    cells: Indices,
) -> None:
    """Append a bin number to each cell: cell = cell * n_bins + bin, bins are [low, high).

    Parameters
    ----------
    values : ndarray, shape (n,)
    factor : float
        Takes `values` to the unit of `edges`.
    edges : ndarray, shape (n_bins + 1,), increasing
    guesses : ndarray of int64, shape (m,)
        The bins where m equal steps from the first to the last edge begin. It is the edges that
        decide: a guess that is off costs time, nothing else.
    fate : ndarray of uint8, shape (n,)
    below, above : int
        The fates of values below the first edge, and on or above the last.
    cells : ndarray of int64, shape (n,)
        Changed in place where the fate is 0.
    """
    n_bins = edges.size - 1
    first, last = edges[0], edges[n_bins]
    per_step = guesses.size / (last - first)
    for i in range(values.size):
        if fate[i] != 0:
            continue
        value = values[i] * factor
        if value < first:
            fate[i] = below
        elif value >= last:
            fate[i] = above
        else:
            place = (value - first) * per_step  # NaN or infinite for edges at the limits of floats
            k = guesses[int(place) if place < guesses.size else guesses.size - 1]
            while value < edges[k]:
                k -= 1
            while value >= edges[k + 1]:
                k += 1
            cells[i] = cells[i] * n_bins + k


@njit(cache=True, nogil=True)
def count_fates(fate: Fates, fates: Indices) -> None:
    """Add the number of each fate to `fates`, in place; numpy's bincount copies to int64 first."""
    for i in range(fate.size):
        fates[fate[i]] += 1


# --- directions ---------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _wrapped(angle: float, turn: float) -> float:
    """An angle in [0, turn), rounded as astropy's Longitude does it."""
    if 0.0 <= angle < turn:
        return angle
    angle -= (angle // turn) * turn
    if angle >= turn:
        angle -= turn
    if angle < 0.0:
        angle += turn
    return angle


@njit(cache=True, nogil=True)
def galactic_angles(
    longitudes: Floats,
    latitudes: Floats,
    fate: Fates,
    impossible: int,
    cells: Indices,
    theta: Floats,
    phi: Floats,
    kept: Indices,
) -> tuple[int, float]:
    """Colatitude and longitude [rad] of the events that are kept, packed.

    Parameters
    ----------
    longitudes, latitudes : ndarray, shape (n,), deg
    fate : ndarray of uint8, shape (n,)
    impossible : int
        The fate of what is no direction.
    cells : ndarray of int64, shape (n,)
    theta, phi : ndarray, shape (n,), rad
    kept : ndarray of int64, shape (n,)
        Filled from the front with the cells of the events that are kept.

    Returns
    -------
    n_kept : int
    extent : float
        The largest absolute value of the angles that are kept, deg.
    """
    n = 0
    extent = 0.0
    for i in range(longitudes.size):
        if fate[i] != 0:
            continue
        lon, lat = longitudes[i], latitudes[i]
        if not abs(lat) <= 90.0 or not abs(lon) < np.inf:
            fate[i] = impossible
            continue
        extent = max(extent, abs(lon), abs(lat))
        theta[n] = math.pi / 2.0 - lat * _DEGREE
        phi[n] = _wrapped(lon, 360.0) * _DEGREE
        kept[n] = cells[i]
        n += 1
    return n, extent


@njit(cache=True, nogil=True)
def local_angles(
    azimuths: Floats,
    colatitudes: Floats,
    fate: Fates,
    impossible: int,
    cells: Indices,
    theta: Floats,
    phi: Floats,
    kept: Indices,
) -> tuple[int, float]:
    """The same in the spacecraft's frame; azimuths and colatitudes in rad.

    The detour over degrees and latitudes is cosipy's: a direction on the border of two pixels
    falls into the same one only with the same rounding.
    """
    n = 0
    for i in range(azimuths.size):
        if fate[i] != 0:
            continue
        lon, lat = azimuths[i], math.pi / 2.0 - colatitudes[i]
        if not abs(lat) <= math.pi / 2.0 or not abs(lon) < np.inf:
            fate[i] = impossible
            continue
        theta[n] = math.pi / 2.0 - (lat * _RADIAN) * _DEGREE
        phi[n] = (_wrapped(lon, 2.0 * math.pi) * _RADIAN) * _DEGREE
        kept[n] = cells[i]
        n += 1
    return n, 0.0


@njit(cache=True, nogil=True)
def add_pixels(cells: Indices, pixels: Indices, n_pixels: int) -> None:
    """Append a pixel number to each cell, in place."""
    for i in range(pixels.size):
        cells[i] = cells[i] * n_pixels + pixels[i]


# --- sums of equal cells ------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def sort_cells(cells: Indices, spare: Indices, n_cells: int) -> None:
    """Sort cells in [0, n_cells) by their digits; the result is in `cells`.

    A radix sort: its cost per event does not depend on how many there are.

    Parameters
    ----------
    cells, spare : ndarray of int64, shape (n,)
        `spare` is overwritten.
    n_cells : int
    """
    counters = np.empty(1 << _DIGIT, np.int64)
    source, target = cells, spare
    shift = 0
    while (n_cells - 1) >> shift > 0:
        counters[:] = 0
        for i in range(source.size):
            counters[(source[i] >> shift) & ((1 << _DIGIT) - 1)] += 1
        place = 0
        for digit in range(counters.size):
            number = counters[digit]
            counters[digit] = place
            place += number
        for i in range(source.size):
            digit = (source[i] >> shift) & ((1 << _DIGIT) - 1)
            target[counters[digit]] = source[i]
            counters[digit] += 1
        source, target = target, source
        shift += _DIGIT
    if (shift // _DIGIT) % 2 == 1:
        cells[:] = spare


@njit(cache=True, nogil=True)
def count_runs(cells: Indices, counts: Floats) -> int:
    """The distinct values of sorted cells, and how often each appears; both in place.

    Parameters
    ----------
    cells : ndarray of int64, shape (n,)
        Its first k elements become the distinct values.
    counts : ndarray of float64, shape (n,)
        Its first k elements become how often each appears.

    Returns
    -------
    k : int
    """
    k = 0
    for i in range(cells.size):
        if i == 0 or cells[i] != cells[k - 1]:
            cells[k] = cells[i]
            counts[k] = 0.0
            k += 1
        counts[k - 1] += 1.0
    return k


@njit(cache=True, nogil=True)
def count_merged(cells_a: Indices, cells_b: Indices) -> int:
    """How many distinct cells two sorted lists without repetition have together."""
    n = i = j = 0
    while i < cells_a.size and j < cells_b.size:  # no branches: which is next nobody can predict
        a, b = cells_a[i], cells_b[j]
        i += a <= b
        j += b <= a
        n += 1
    return n + cells_a.size - i + cells_b.size - j


@njit(cache=True, nogil=True)
def merge_into(
    cells_a: Indices,
    counts_a: Floats,
    cells_b: Indices,
    counts_b: Floats,
    cells: Indices,
    counts: Floats,
) -> None:
    """The sum of two sparse histograms, each sorted by cell without repetition.

    Parameters
    ----------
    cells, counts : ndarray, shape (count_merged(cells_a, cells_b),)
        Filled. The caller makes them, since numpy takes large pages for large arrays.
    """
    size_a, size_b = cells_a.size, cells_b.size
    i = j = k = 0
    while i < size_a and j < size_b:
        a, b = cells_a[i], cells_b[j]
        from_a, from_b = a <= b, b <= a
        cells[k] = min(a, b)
        counts[k] = from_a * counts_a[i] + from_b * counts_b[j]
        i += from_a
        j += from_b
        k += 1
    if i < size_a:
        cells[k:] = cells_a[i:]
        counts[k:] = counts_a[i:]
    else:
        cells[k:] = cells_b[j:]
        counts[k:] = counts_b[j:]


@njit(cache=True, nogil=True)
def unravel(coords: Indices, n_bins: Indices) -> None:
    """Flat cells in the first row of `coords` become bin numbers in all rows, in place.

    Parameters
    ----------
    coords : ndarray of int64, shape (n_axes, n)
        Of sorted cells, most differ from the one before on the last axis only, which saves
        dividing; any order is right.
    n_bins : ndarray of int64, shape (n_axes,)
    """
    last = n_bins.size - 1
    others = np.zeros(last, np.int64)
    first_cell = 0  # of the last axis, at the other axes' bins
    for i in range(coords.shape[1]):
        cell = coords[0, i]
        if not 0 <= cell - first_cell < n_bins[last]:
            rest = cell // n_bins[last]
            first_cell = rest * n_bins[last]
            for axis in range(last - 1, -1, -1):
                others[axis] = rest % n_bins[axis]
                rest //= n_bins[axis]
        for axis in range(last):
            coords[axis, i] = others[axis]
        coords[last, i] = cell - first_cell
