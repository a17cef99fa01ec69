"""Filters that take noise out of a template and make every cell of it positive.

A slice is one (Time or ScAtt, Phi) bin: a map over PsiChi. Each slice is treated in this order:

1. **Total.** Its own sum, kept whatever follows. Slices without a positive total are pooled with
   their neighbours in Phi: a group of slices keeps its total, and shares it out by the rule of
   step 4, with p the group's own Phi distribution and q that of all times (equal shares where
   that one is empty). A time bin without any counts is first pooled with its neighbours in time.
2. **Pattern.** The slice's map, or the sum of the maps of its group (`Filter.rebin_phi`,
   `Filter.pool`), smoothed in spherical harmonics.
3. **No negative cells.** They are set to 0, and the pattern renormalised.
4. **No empty cells.** A pattern p with an empty cell is shrunk towards a pooled pattern q, to
   ``(1 - λ) p + λ q`` with the James-Stein intensity for proportions::

       λ = min(1, Σ var(p_i) / Σ (p_i - q_i)²),   at least 1 / (1 + n),
       Σ var(p_i) = f n / (n - 1) (V - 2 Σ p_i v_i + V Σ p_i²) / N²

   (Hausser & Strimmer 2009, JMLR 10, 1469, Eq. 8, which this is for unweighted counts). N and V
   are the total of the unfiltered pattern and its variance (V = N where that is 0), p_i and v_i
   of the second line its cells, n = N²/V its effective number of counts, f the share of white
   noise that the filter lets through, Σ (2l+1) b_l² / n_pix. λ = 1 for n <= 1, and where N is not
   positive. The lower limit gives an empty cell what one prior count, spread like q, would. After
   smoothing, which leaves tails but no zeros, a cell below mean / (1 + n) is as good as empty.
   q is the sum of all filtered slices of the same time (group of times); if that has empty cells,
   of all times; if that has some too, the latter averaged over ever larger pixels until none is
   (over all cells at once, where these are not the pixels of a whole sphere).
   Patterns without empty cells are not shrunk.
5. **Variances.** The variance of a slice's total is its own, apportioned like its counts (so that
   projections onto Phi and Time keep their errors; cells are correlated after a filter). Slices
   whose counts did not change keep the variances of their cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..histograms.healpix import (
    alm2map,
    degrees_of,
    map2alm,
    nside_of,
    pix2vec,
    position_of,
    reordered,
    vec2pix,
)
from ..io.progress import Progress, say

Array = NDArray[np.float64]

#: Type, lowest and highest value of each option, and what it does.
OPTIONS: dict[str, tuple[type, float, float, str]] = {
    "smoothing_fwhm": (Real, 0.1, 180.0, "Gaussian smoothing, {:g} deg FWHM"),
    "l_cut": (Integral, 0, np.inf, "multipoles up to l = {}"),
    "rebin_phi": (Integral, 1, np.inf, "one pattern per {} Phi bins"),
    "pool": (Integral, 1, np.inf, "one pattern per {} Time or ScAtt bins"),
}

#: Up to this l and size, low-pass filters are matrices; beyond, these cost too much to build.
MATRIX_L_CUT, MATRIX_SIZE = 8, 4_000_000

#: Relative to the other cells: what may be left of a zero after rounding.
ROUNDING = 1e-12

#: Totals of so few counts cannot be spread over a sphere in double precision: they count as 0.
SMALLEST_TOTAL = 1e-280


@dataclass(frozen=True)
class Filter:
    """How the patterns of a template are smoothed and pooled. The default does neither.

    Parameters
    ----------
    smoothing_fwhm : float, deg, optional
        Full width at half maximum of a Gaussian on the sphere, as in healpy's ``smoothing``.
    l_cut : int, optional
        Keeps the multipoles up to this l alone, as healpy's ``map2alm`` / ``alm2map`` do.
    rebin_phi : int, optional
        Number of Phi bins that share one pattern; a leftover is a last, smaller group.
    pool : int, optional
        The same for Time or ScAtt bins.
    """

    smoothing_fwhm: float | None = None
    l_cut: int | None = None
    rebin_phi: int | None = None
    pool: int | None = None

    def __post_init__(self) -> None:
        for name, (kind, low, high, _) in OPTIONS.items():
            value = getattr(self, name)
            right_type = isinstance(value, kind) and not isinstance(value, bool)
            if value is not None and not (right_type and low <= value <= high):
                need = "a whole number" if kind is Integral else "a number of degrees"
                limits = f">= {low:g}" if np.isinf(high) else f"from {low:g} to {high:g}"
                raise TemplateError(f"{name} must be {need} {limits}, got {value!r}.")
        if self.smoothing_fwhm is not None and self.l_cut is not None:
            raise TemplateError(
                f"Give smoothing_fwhm ({self.smoothing_fwhm}) or l_cut ({self.l_cut}), not both."
            )

    def describe(self) -> str:
        """In words, for reports."""
        values = [(getattr(self, name), row[3]) for name, row in OPTIONS.items()]
        return "; ".join(text.format(n) for n, text in values if n is not None) or "no filter"

    def window(self, nside: int) -> Array | None:
        """Factor b_l on the multipoles up to healpy's l_max, shape (3 nside,), or None."""
        degree = np.arange(3 * nside)
        if self.smoothing_fwhm is not None:
            sigma = np.radians(self.smoothing_fwhm) / np.sqrt(8 * np.log(2))
            return np.asarray(np.exp(-0.5 * degree * (degree + 1) * sigma**2))
        return None if self.l_cut is None else np.where(degree <= self.l_cut, 1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Filtered:
    """What `apply_filter` made.

    Attributes
    ----------
    maps, variances : ndarray, shape (n_time, n_phi, n_pix), counts and counts^2
        All cells of `maps` are positive.
    pooled : tuple of (int, int)
        Time and Phi index of the slices whose total was not positive. Theirs, and that of the
        neighbours they were pooled with, changed; no other.
    moved : float
        Largest relative change of the total of such a neighbour; 0 if nothing was pooled.
    shrinkage : ndarray, shape (n_time, n_phi)
        λ, between 0 (left alone) and 1 (the pooled pattern).
    clipped : ndarray, shape (n_time, n_phi)
        Sum of the negative cells that were set to 0 over that of the positive ones; 1 where the
        pattern was not used because its total was not positive.
    untouched : ndarray of bool, shape (n_time, n_phi)
        Slices whose cells, and their variances, are those given.
    """

    maps: Array
    variances: Array
    pooled: tuple[tuple[int, int], ...]
    moved: float
    shrinkage: Array
    clipped: Array
    untouched: NDArray[np.bool_]


def apply_filter(
    maps: Array,
    variances: Array,
    options: Filter,
    *,
    nest: bool = False,
    sphere: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Filtered:
    """Filter a template slice by slice; the module's docstring says how.

    Parameters
    ----------
    maps, variances : ndarray, shape (n_time, n_phi, n_pix), counts and counts^2
        Weighted sums of counts, and of their squared weights; cells of `maps` may be negative.
    options : Filter
    nest : bool
        Whether pixels are in NESTED order, not RING.
    sphere : bool
        Whether the pixels are those of a whole sphere, which smoothing needs.
    overwrite : bool
        Put the result into `maps` and `variances`, of float64, instead of new arrays.
    progress : Progress, optional

    Returns
    -------
    Filtered
        The sum, and that of every slice that is not pooled, is the input's.

    Raises
    ------
    TemplateError
        If the arrays are no maps with variances, or add up to no positive number of counts.
    """
    nside = _nside(maps, variances, nest, sphere)
    if not sphere and options.window(1) is not None:
        raise TemplateError(f"This filter needs maps of the whole sphere: {options.describe()}.")
    own, own_variances = both = _slice_totals(maps, variances)
    totals, total_variances = _positive_totals(own, own_variances)
    n_time, n_phi, n_pix = maps.shape
    rebin, pool = options.rebin_phi or 1, options.pool or 1
    starts = np.arange(0, n_phi, rebin)
    group: Any = slice(None) if rebin == 1 else np.arange(n_phi) // rebin
    time_groups = [slice(i, min(i + pool, n_time)) for i in range(0, n_time, pool)]
    window = options.window(nside)
    untouched = (totals == own) & (window is None and rebin == pool == 1)
    let_through = 1.0 if window is None else (2 * np.arange(window.size) + 1) @ window**2 / n_pix
    filtered, overall = maps if overwrite else np.empty(maps.shape), np.zeros(n_pix)
    buffer = np.empty((starts.size, n_pix))  # fresh memory takes longer than what is done in it
    noise, shrinkage, clipped = np.zeros((3, *own.shape))

    for times in time_groups:
        say(progress, f"filtering the template, bin {times.stop} of {n_time}")
        counts, spread = np.add.reduceat(both[:, times].sum(axis=1), starts, axis=1)
        raw = _group_sums(maps[times], starts)
        linear = smooth(raw, options, nest=nest, out=buffer) if window is not None else raw
        before, patterns = linear.sum(axis=1), np.maximum(linear, 0.0, out=buffer)
        sums, known, empty = _empty_patterns(patterns, counts, spread, window is not None)
        least, group_noise = 1.0 - known, np.zeros(starts.size)
        if (empty & known).any():
            rows = _where(empty & known)
            cells = _group_sums(variances[times], starts)[rows]
            group_noise[rows], least[rows] = _noise(raw[rows], cells, counts[rows], spread[rows])
        noise[times], shrinkage[times] = let_through * group_noise[group], least[group]
        clipped[times] = np.maximum(1.0 - before / sums, 0.0)[group]
        untouched[times] &= ~empty[group]
        for t in range(times.start, times.stop):
            factor = np.where(untouched[t], 1.0, totals[t] / sums[group])
            _multiples(patterns, group, factor, filtered[t])
            overall += np.add.reduceat(factor, starts) @ patterns

    if not overall.sum() > 0:
        raise TemplateError(
            f"No pattern has a positive total ({options.describe()}); widen the energy ranges."
        )
    overall = overall if _all_positive(overall) else _coarser(overall, nside, nest)
    for times in (group for group in time_groups if shrinkage[group].any()):
        _fill_empty(filtered[times], totals[times], noise[times], shrinkage[times], overall)
    spread_out = variances if overwrite else np.empty(maps.shape)
    _spread_variances(filtered, total_variances / totals, untouched, variances, spread_out)
    pooled, moved = _pooled(own, totals)
    return Filtered(filtered, spread_out, pooled, moved, shrinkage, clipped, untouched)


def _pooled(own: Array, totals: Array) -> tuple[tuple[tuple[int, int], ...], float]:
    """Slices without a positive total, and the largest relative change of another's."""
    positive = own > SMALLEST_TOTAL
    moved = np.abs(totals[positive] / own[positive] - 1.0).max(initial=0.0)
    return tuple((t, phi) for t, phi in np.argwhere(~positive).tolist()), float(moved)


def _empty_patterns(
    patterns: Array, counts: Array, spread: Array, smoothed: bool
) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Which patterns have empty cells; shape (n_groups,) each.

    Parameters
    ----------
    patterns : ndarray, shape (n_groups, n_pix)
        Without negative cells.
    counts, spread : ndarray, shape (n_groups,)
        Totals before the filter, and their variances.

    Returns
    -------
    sums : ndarray
        Of the patterns; infinite where a pattern is not used, to give 0 counts until it gets
        those of q.
    known : ndarray of bool
        Whether a pattern is used.
    empty : ndarray of bool
        Whether it has cells that are empty, or as good as that, or is not used.
    """
    sums = patterns.sum(axis=1)
    known = (counts > SMALLEST_TOTAL) & (sums > 0)
    tail = spread / np.maximum(spread + counts**2, SMALLEST_TOTAL) if smoothed else 0.0
    least = np.maximum(tail, ROUNDING) * sums / patterns.shape[1]
    empty = ~known | (patterns.min(axis=1) <= least)
    sums[~known] = np.inf
    return sums, known, empty


def _multiples(patterns: Array, group: Any, factor: Array, out: Array) -> None:
    """Fill `out`, shape (n_phi, n_pix), with each bin's multiple of the pattern of its group."""
    if isinstance(group, slice):
        np.multiply(patterns, factor[:, None], out=out)
        return
    np.take(patterns, group, axis=0, out=out, mode="clip")  # "raise" would make a copy
    out *= factor[:, None]


def _spread_variances(
    filtered: Array, per_count: Array, untouched: NDArray[np.bool_], variances: Array, out: Array
) -> None:
    """Step 5, into `out`, which may be `variances` itself.

    Parameters
    ----------
    filtered, variances, out : ndarray, shape (n_times, n_phi, n_pix)
    per_count : ndarray, shape (n_times, n_phi)
        Variance of a slice's total over that total.
    untouched : ndarray of bool, shape (n_times, n_phi)
    """
    for t, kept in enumerate(untouched):
        if kept.any() and out is not variances:
            out[t] = variances[t]
        changed = ~kept[:, None] if kept.any() else True
        np.multiply(filtered[t], per_count[t, :, None], out=out[t], where=changed)


def _where(flags: NDArray[np.bool_]) -> Any:
    """Index of the rows that are true: all of them as a slice, which copies nothing."""
    return slice(None) if flags.all() else np.flatnonzero(flags)


def _fill_empty(
    filtered: Array, totals: Array, noise: Array, shrinkage: Array, overall: Array
) -> None:
    """Step 4 for the slices of one group of times, in place.

    Parameters
    ----------
    filtered : ndarray, shape (n_times, n_phi, n_pix), counts
    totals, noise, shrinkage : ndarray, shape (n_times, n_phi)
        `shrinkage` holds the least λ of each slice, 0 where nothing is empty; becomes λ.
    overall : ndarray, shape (n_pix,)
        Pooled pattern of all times.
    """
    q = filtered.sum(axis=(0, 1))
    q = q if _all_positive(q) else overall
    for t in range(len(filtered)):
        rows = _where(shrinkage[t] > 0)
        scale, p = totals[t, rows, None], filtered[t, rows]
        p /= scale
        p, shrinkage[t, rows] = _shrink(p, q / q.sum(), noise[t, rows], shrinkage[t, rows])
        p *= scale
        filtered[t, rows] = p


def smooth(maps: Array, options: Filter, *, nest: bool = False, out: Any = None) -> Array:
    """Multiply the multipoles of maps by the filter's window; cells may come out negative.

    Parameters
    ----------
    maps, out : ndarray, shape (n_maps, n_pix)

    Returns
    -------
    ndarray, shape (n_maps, n_pix)
        What healpy's ``map2alm`` (iter=3), ``almxfl`` and ``alm2map`` give; `out` if that is given.
    """
    n_pix, result = maps.shape[1], np.empty(maps.shape) if out is None else out
    nside = nside_of(n_pix)
    if nest:
        order = reordered(nside, np.arange(n_pix), to_nest=True)
        result[:, order] = smooth(maps[:, order], options)
        return result
    l_cut = MATRIX_L_CUT + 1 if options.l_cut is None else min(int(options.l_cut), 3 * nside - 1)
    if l_cut <= MATRIX_L_CUT and (l_cut + 1) ** 2 * n_pix < MATRIX_SIZE:
        analysis, synthesis = low_pass_matrices(nside, l_cut)
        return np.matmul(maps @ analysis.T, synthesis, out=result)
    window = options.window(nside)
    assert window is not None  # with neither option nothing is smoothed
    window = window[degrees_of(3 * nside - 1)]
    for one, smoothed in zip(maps, result, strict=True):
        smoothed[:] = alm2map(map2alm(one, iterations=3) * window, nside)
    return result


@lru_cache(maxsize=4)
def low_pass_matrices(nside: int, l_cut: int) -> tuple[Array, Array]:
    """Healpy's low-pass filter as two matrices: ``maps @ analysis.T @ synthesis``.

    Returns
    -------
    analysis, synthesis : ndarray, shape ((l_cut + 1)^2, n_pix), RING, read-only

    Notes
    -----
    In the real orthonormal basis up to l = 3 nside - 1, with Y the synthesis, healpy's analysis
    without iterations is A = c Yᵀ, c = 4 pi / n_pix. An iteration adds A (map - Y alm), so three
    give (1 + K + K² + K³) A, with K = 1 - A Y symmetric. The row of one (l, m), with y = Y e its
    map, is thus c Y (1 + K + K² + K³) e = c (1 + L + L² + L³) y, where L = 1 - Y A is a round trip.
    """
    n_pix, l_max = 12 * nside**2, 3 * nside - 1
    analysis, synthesis = np.empty((2, (l_cut + 1) ** 2, n_pix))
    # of a real map: with m > 0, the real and the imaginary part are basis functions of their own
    parts = [1.0], [np.sqrt(0.5), 1j * np.sqrt(0.5)]
    basis = [(k, m, part) for k in range(l_cut + 1) for m in range(k + 1) for part in parts[m > 0]]
    for i, (degree, m, part) in enumerate(basis):
        alm = np.zeros((l_max + 1) * (l_max + 2) // 2, complex)
        alm[position_of(l_max, degree, m)] = part
        term = synthesis[i] = analysis[i] = alm2map(alm, nside)
        for _ in range(3):
            term = term - alm2map(map2alm(term, iterations=0), nside)
            analysis[i] += term
    analysis *= 4 * np.pi / n_pix
    analysis.flags.writeable = synthesis.flags.writeable = False
    return analysis, synthesis


def _nside(maps: Array, variances: Array, nest: bool, sphere: bool) -> int:
    """The nside of the maps; 0 if they are not of a whole sphere."""
    shape = np.shape(maps)
    if len(shape) == 3 and np.shape(variances) == shape and 0 not in shape:
        if not sphere:
            return 0
        nside = nside_of(shape[2])
        if nside and not (nest and nside & (nside - 1)):
            return nside
    raise TemplateError(
        "maps and variances must be arrays of one shape (n_time, n_phi, 12 nside^2), with nside a "
        f"power of 2 for NESTED pixels; got {shape} and {np.shape(variances)}, nest={nest}."
    )


def _slice_totals(maps: Array, variances: Array) -> Array:
    """Sum of each slice and its variance, shape (2, n_time, n_phi)."""
    both = np.stack([maps.sum(axis=2, dtype=float), variances.sum(axis=2, dtype=float)])
    total, error = both[0].sum(axis=1).sum(), np.sqrt(np.abs(both[1].sum()))
    if not (np.isfinite(total) and np.isfinite(error) and variances.min() >= 0):
        raise TemplateError(
            "The template holds counts or variances that are not finite, or negative variances "
            f"(total: {total:g} +- {error:g}); check the events and weights that it is made from."
        )
    if not total > both[0].size * SMALLEST_TOTAL:
        raise TemplateError(
            f"The template's cells add up to {total:.6g} +- {error:.2g} counts, which is not "
            "positive; widen the energy ranges that it is made from."
        )
    return both


def _positive_totals(totals: Array, variances: Array) -> tuple[Array, Array]:
    """Step 1: totals that are all positive, and their variances."""
    of_time, of_phi = totals.sum(axis=1), np.maximum(totals.sum(axis=0), 0.0)
    result = []
    pooled = _pool_neighbours(of_time, variances.sum(axis=1), np.ones(of_time.size))
    for array, new in zip((totals, variances), pooled, strict=True):
        old = array.sum(axis=1, keepdims=True)
        own = (of_time[:, None] > SMALLEST_TOTAL) & (old > 0)
        factor = np.divide(new[:, None], old, out=np.zeros_like(old), where=own)
        result.append(np.where(own, array * factor, np.outer(new, of_phi / of_phi.sum())))
    for t in np.flatnonzero((result[0] <= SMALLEST_TOTAL).any(axis=1)):
        result[0][t], result[1][t] = _pool_neighbours(result[0][t], result[1][t], of_phi)
    return result[0], result[1]


def _pool_neighbours(totals: Array, variances: Array, target: Array) -> tuple[Array, Array]:
    """Share each total that is not positive with the larger of its neighbours; shape (n,) each."""
    groups, sums = [slice(i, i + 1) for i in range(totals.size)], totals.tolist()
    i = 0
    while i < len(groups):
        if sums[i] > SMALLEST_TOTAL or len(groups) == 1:
            i += 1
            continue
        i -= i > 0 and (i + 1 == len(groups) or sums[i - 1] >= sums[i + 1])
        groups[i] = slice(groups[i].start, groups.pop(i + 1).stop)
        sums[i : i + 2] = [totals[groups[i]].sum()]
    new, new_variances = totals.copy(), variances.copy()
    for group in groups:
        if group.stop - group.start > 1:
            total, variance = totals[group].sum(), variances[group].sum()
            q = target[group] if (target[group] > 0).all() else np.ones_like(target[group])
            p = np.maximum(totals[None, group], 0.0)
            noise, least = _noise(totals[None, group], variances[None, group], total, variance)
            shares = _shrink(p / p.sum(), q / q.sum(), noise, least)[0][0]
            new[group], new_variances[group] = total * shares, variance * shares
    return new, new_variances


def _group_sums(maps: Array, starts: NDArray[np.int64]) -> Array:
    """Sum over the times, and of each group of Phi bins, shape (n_groups, n_pix)."""
    total = maps[0].astype(float, copy=False) if len(maps) == 1 else maps.sum(axis=0, dtype=float)
    return total if starts.size == len(total) else np.add.reduceat(total, starts, axis=0)


def _noise(raw: Array, variances: Array, counts: Any, spread: Any) -> tuple[Array, Array]:
    """Σ var(p_i) of step 4 without f, and the least λ; shape (n,) each."""
    spread = np.where(spread > 0, spread, counts)
    effective = np.atleast_1d(counts / spread * counts)
    p = raw / np.reshape(counts, (-1, 1))
    covered, squares = np.einsum("gx,gx->g", p, variances), np.einsum("gx,gx->g", p, p)
    sum_var = np.maximum(spread - 2 * covered + spread * squares, 0.0) / counts / counts
    noise = np.full_like(effective, np.inf)
    np.divide(sum_var * effective, effective - 1, out=noise, where=effective > 1)
    return noise, 1 / (1 + effective)


def _shrink(p: Array, q: Array, noise: Array, least: Array) -> tuple[Array, Array]:
    """Patterns (1 - λ) p + λ q, shape (n, n_pix), and λ, shape (n,); `p` is overwritten."""
    work = p - q
    distance = np.einsum("gx,gx->g", work, work)
    ratio = np.divide(noise, distance, out=np.ones_like(noise), where=distance > 0)
    intensity = np.clip(ratio, least, 1.0)
    np.multiply(intensity[:, None], q, out=work)
    p *= (1 - intensity)[:, None]
    work += p
    return work, intensity


def _all_positive(pattern: Array) -> bool:
    return bool(pattern.min() > ROUNDING * pattern.mean())


def _coarser(pattern: Array, nside: int, nest: bool) -> Array:
    """The pattern averaged over the smallest larger pixels that are all positive.

    Over all of it where nside is 0: its cells are not the pixels of a whole sphere.
    """
    if not nside:
        return np.full(pattern.size, pattern.mean())
    centres = pix2vec(nside, np.arange(pattern.size), nest=nest)
    while nside > 1:
        nside //= 2
        parent = vec2pix(nside, *centres)
        coarse = np.bincount(parent, pattern) / np.bincount(parent)
        if _all_positive(coarse):
            return np.asarray(coarse[parent])
    return np.full(pattern.size, pattern.mean())  # fewer counts than the sphere has faces
