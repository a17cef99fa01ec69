"""Everything compiled: bin integrals, likelihood, scoring, the scan for lines.

All of it is one file on purpose. numba caches a compiled function by the time stamp of its own
file: a function that calls one of another file would go on using the old one after an update.

Shapes and their formulas are documented in `lineshapes`, the statistic in `statistic`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

Slots = NDArray[np.int64]

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: What `pack` makes for the compiled likelihood.
CompiledArguments = tuple[Array, Slots, Slots | None]

#: Half-width of the energy range that a line touches in a fit, in sigma: beyond it a Gaussian
#: holds less than 1e-16 of its counts.
FIT_REACH = 8.3

#: The same for the public functions: beyond it exp(-z^2/2) underflows.
FULL_REACH = 38.6

#: How many tail lengths a tail reaches below FIT_REACH or FULL_REACH: exp(-37) = 1e-16.
TAIL_FOLDS = {FIT_REACH: 37.0, FULL_REACH: 745.0}

_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)

_INV_SQRT_PI = 1.0 / math.sqrt(math.pi)

#: Bins narrower than this (in units over which the density changes by e) are integrated by
#: five-point Gauss-Legendre, exact to rounding there, where differences of erfc lose digits.
_NARROW = 0.25

_GL_X = np.polynomial.legendre.leggauss(5)[0]

_GL_W = np.polynomial.legendre.leggauss(5)[1] / 2.0

#: From here on erfcx(a) is taken from what it differs by from 1/(sqrt(pi) a).
_FAR = 2.0

#: Expected counts below this [counts] are lifted to it, so that the logarithm stays finite.
FLOOR = 1e-12

_MAX_CANDIDATES = 60

#: A line is scanned over this many sigma to either side: a start value needs no more.
_REACH = 4.0

#: In place of the gain of a line that is to be scanned (again), and of one that has its place.
_TO_SCAN, _PLACED = -1.0, -2.0

_SQRT_HALF = math.sqrt(0.5)

#: Variances of lines below this [keV^2] are lifted to it.
MIN_VARIANCE = 1e-12

#: exp is taken between these, far beyond what a float holds.
_FARTHEST = 1400.0

#: ln 2 in two parts: whole numbers below 2048 times the first are exact.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10

_LN2 = math.log(2.0)

#: The bits of 1, sqrt(1/2) and 2^52 as floats, and those of a float that hold its fraction.
_BITS_OF_ONE, _BITS_OF_ROOT, _BITS_OF_WHOLE = 0x3FF << 52, 0x3FE6A09E667F3BCD, 0x433 << 52
_FRACTION = 2**52 - 1

#: So few counts are none: their part of the statistic is smaller than a float can tell.
_NO_COUNTS = 1e-280

#: Leaves of a float's digits so many that its square is exact.
_SHORT = -(2**27)

#: Added to a float and taken off again it leaves the nearest whole number; added alone, that number
#: stands in the float's last bits.
_TO_WHOLE = 1.5 * 2.0**52

#: Kinds of component, as numbers in the tables that the compiled functions take.
POWERLAW, BROKEN, POLYNOMIAL, GAUSSIAN, TAILED, STEP, BROADENED = range(7)

#: Numbers in one row of such a table: the kind, and six slots.
ROW = 7

#: Decorator of what Python calls. Division by zero gives infinity, as numpy's does.
_called = njit(cache=True, error_model="numpy")


#: Nothing is compiled for calls from Python; numba's own stubs do not know of it.
_WITHOUT_WRAPPERS: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def _inner(function: _Function) -> _Function:
    """Decorator of what compiled functions alone call."""
    compiled: _Function = njit(cache=True, error_model="numpy", **_WITHOUT_WRAPPERS)(function)
    return compiled


def _vectorised(function: _Function) -> _Function:
    """Decorator of what is called in loops without branches: several turns at a time.

    A product and the sum it enters may be rounded once instead of twice.
    """
    options: Any = {**_WITHOUT_WRAPPERS, "fastmath": {"contract"}, "forceinline": True}
    compiled: _Function = njit(cache=True, error_model="numpy", **options)(function)
    return compiled


def _summing(function: _Function) -> _Function:
    """Decorator of a sum whose terms may be added in any order."""
    options: Any = {**_WITHOUT_WRAPPERS, "fastmath": {"contract", "reassoc", "nsz"}}
    compiled: _Function = njit(cache=True, error_model="numpy", **options)(function)
    return compiled


# --- functions for loops without branches ---------------------------------------------------------
#
# Calls of libm's functions are made one after the other; of these the compiler makes loops that
# take four or eight turns at a time.


@_vectorised
def _exp(x: float, more: float) -> float:
    """exp(x + more) to about 1 ulp, for small `more`: 2^n exp(r), |r| < ln(2)/2, by its series."""
    x = -_FARTHEST if x < -_FARTHEST else (_FARTHEST if x > _FARTHEST else x)
    shifted = x * 1.4426950408889634 + _TO_WHOLE
    n = shifted - _TO_WHOLE
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW + more
    r2 = r * r
    even = 1.0 / 479001600.0
    even = even * r2 + 1.0 / 3628800.0
    even = even * r2 + 1.0 / 40320.0
    even = even * r2 + 1.0 / 720.0
    even = even * r2 + 1.0 / 24.0
    even = even * r2 + 0.5
    odd = 1.0 / 6227020800.0
    odd = odd * r2 + 1.0 / 39916800.0
    odd = odd * r2 + 1.0 / 362880.0
    odd = odd * r2 + 1.0 / 5040.0
    odd = odd * r2 + 1.0 / 120.0
    odd = odd * r2 + 1.0 / 6.0
    value = 1.0 + (r + r2 * (even + r * odd))
    # 2^n in two steps, so that what is too small for a float ends at 0, not at something else
    half = 0.5 * n + _TO_WHOLE
    rest = (n - (half - _TO_WHOLE)) + _TO_WHOLE
    return value * _two_to_the(half) * _two_to_the(rest)


@_vectorised
def _two_to_the(shifted: float) -> float:
    """2^n, from n + `_TO_WHOLE`."""
    bits = np.float64(shifted).view(np.int64)
    return np.int64((bits + 1023) << 52).view(np.float64)


@_vectorised
def _exp_of_square(z: float) -> float:
    """exp(-z^2/2), whose exponent is kept to more digits than a float has."""
    short = np.int64(np.float64(z).view(np.int64) & _SHORT).view(np.float64)
    return _exp(-0.5 * short * short, -0.5 * (z - short) * (z + short))


@_vectorised
def _gaussian_at(z: float) -> tuple[float, float]:
    """Density of the unit Gaussian at z, and its probability on the far side of z.

    The latter is exp(-z^2/2) h(a) with a = |z| and h(a) = erfcx(a/sqrt2)/2; (1 + a) h(a) is a
    polynomial in t = (a - 4)/(a + 4) to 1e-16 for all a (the variable is that of Shepherd &
    Laframboise 1981, Math. Comp. 36, 249; its coefficients are of the Chebyshev series).
    """
    a = 1e3 if abs(z) > 1e3 else abs(z)
    gauss = _exp_of_square(a)
    over = 1.0 / ((a + 4.0) * (a + 1.0))
    t = (a - 4.0) * ((a + 1.0) * over)
    t2 = t * t
    even = -1.5456221598143852e-09
    even = even * t2 + 1.7442583764419795e-08
    even = even * t2 - 1.1022354013739079e-07
    even = even * t2 + 5.507747965364098e-07
    even = even * t2 - 2.6118464340168558e-06
    even = even * t2 + 1.3626315192600401e-05
    even = even * t2 - 8.785300442645791e-05
    even = even * t2 + 0.0006948970692570495
    even = even * t2 - 0.0050023785870514665
    even = even * t2 - 0.03219783742831453
    even = even * t2 + 0.013999634724430469
    even = even * t2 + 0.47205320650984467
    odd = -6.763267210562454e-10
    odd = odd * t2 + 5.474708632048689e-09
    odd = odd * t2 - 1.7932121916642413e-08
    odd = odd * t2 - 1.237153366992197e-09
    odd = odd * t2 + 4.0671730125154447e-07
    odd = odd * t2 - 3.433372216853275e-06
    odd = odd * t2 + 2.1250446856208376e-05
    odd = odd * t2 - 9.443033944152223e-05
    odd = odd * t2 - 0.00028562308680939413
    odd = odd * t2 + 0.01793609747886859
    odd = odd * t2 + 0.02860036405357749
    odd = odd * t2 - 0.09670347732652607
    return _INV_SQRT_2PI * gauss, gauss * ((even + t * odd) * ((a + 4.0) * over))


@_inner
def _outside(z: float) -> float:
    """Probability of the unit Gaussian on the far side of z."""
    return _gaussian_at(z)[1]


# --- power law ----------------------------------------------------------------------------------


@_inner
def _log_of_ratio(x: float, y: float) -> float:
    """ln(x/y), with all its digits where x is close to y."""
    r = (x - y) / y
    return math.log1p(r) if abs(r) < 0.5 else math.log(x / y)


@_inner
def _log_from(
    low: float, high: float, log_mid: float, log_width: float, pivot: float, log_pivot: float
) -> float:
    """ln(m/pivot) of a bin's logarithmic mid-point m, with all its digits near the pivot."""
    out = log_mid - log_pivot
    if abs(out) < 0.01 and log_width < 0.1:
        out = 0.5 * (math.log1p((low - pivot) / pivot) + math.log1p((high - pivot) / pivot))
    return out


@_inner
def _powerlaw_bin(
    log_ratio: float, log_width: float, piv: float, index: float
) -> tuple[float, float]:
    """Integral over one bin of (E/piv)^index, and its derivative to index.

    With c = index + 1, m the logarithmic mid-point, ``log_ratio`` = ln(m/piv), and
    x = c ln(high/low)/2 it is piv (m/piv)^c ln(high/low) sinh(x)/x, which knows no special case
    at index = -1.
    """
    c = index + 1.0
    x = 0.5 * c * log_width
    x2 = x * x
    if abs(x) < 0.1:
        shc = 1.0 + x2 / 6.0 * (1.0 + x2 / 20.0 * (1.0 + x2 / 42.0 * (1.0 + x2 / 72.0)))
        last = 1.0 - x2 * 0.1 * (1.0 - x2 * (10.0 / 99.0))
        langevin = x / 3.0 * (1.0 - x2 / 15.0 * (1.0 - x2 * (2.0 / 21.0) * last))
    else:
        shc = math.sinh(x) / x
        langevin = 1.0 / math.tanh(x) - 1.0 / x
    value = piv * math.exp(c * log_ratio) * log_width * shc
    return value, value * (log_ratio + 0.5 * log_width * langevin)


@_vectorised
def _short_powerlaw_bin(
    low: float,
    high: float,
    log_mid: float,
    log_width: float,
    piv: float,
    over_piv: float,
    log_piv: float,
    index: float,
) -> tuple[float, float]:
    """`_powerlaw_bin` where x < 0.1, of a bin whose middle may be near the pivot."""
    c = index + 1.0
    below, above = low - piv, high - piv
    ratio = below + above + below * (above * over_piv)  # low high / piv - piv
    r = ratio / (2.0 * piv + ratio)
    r2 = r * r
    near = 1.0 / 9.0 + r2 * (1.0 / 11.0)
    near = r * (1.0 + r2 * (1.0 / 3.0 + r2 * (1.0 / 5.0 + r2 * (1.0 / 7.0 + r2 * near))))
    far = log_mid - log_piv
    log_ratio = near if abs(r) < 0.01 else far
    x = 0.5 * c * log_width
    x2 = x * x
    shc = 1.0 / 5040.0 + x2 * (1.0 / 362880.0)
    shc = 1.0 + x2 * (1.0 / 6.0 + x2 * (1.0 / 120.0 + x2 * shc))
    last = 1.0 - x2 * 0.1 * (1.0 - x2 * (10.0 / 99.0))
    langevin = x * (1.0 / 3.0) * (1.0 - x2 * (1.0 / 15.0) * (1.0 - x2 * (2.0 / 21.0) * last))
    value = piv * _exp(c * log_ratio, 0.0) * log_width * shc
    return value, value * (log_ratio + 0.5 * log_width * langevin)


@_inner
def _add_powerlaw(
    edges: Array,
    log_mid: Array,
    log_width: Array,
    K: float,
    piv: float,
    index: float,
    total: Array,
    jac: Array,
    slots: Slots,
) -> None:
    n_bins = log_mid.size
    log_piv = math.log(piv)
    work = np.empty((2, n_bins))
    value, d_index = work[0], work[1]
    wide = 0
    for i in range(n_bins):
        value[i], d_index[i] = _short_powerlaw_bin(
            edges[i], edges[i + 1], log_mid[i], log_width[i], piv, 1.0 / piv, log_piv, index
        )
        wide += abs(0.5 * (index + 1.0) * log_width[i]) >= 0.1
    if wide > 0:
        for i in range(n_bins):
            log_ratio = _log_from(edges[i], edges[i + 1], log_mid[i], log_width[i], piv, log_piv)
            value[i], d_index[i] = _powerlaw_bin(log_ratio, log_width[i], piv, index)
    for i in range(n_bins):
        total[i] += K * value[i]
    if jac.size:
        for i in range(n_bins):
            jac[slots[0], i] += value[i]
            jac[slots[1], i] -= K * index / piv * value[i]
            jac[slots[2], i] += K * d_index[i]


@_inner
def _add_broken(
    edges: Array,
    log_mid: Array,
    log_width: Array,
    K: float,
    piv: float,
    alpha: float,
    xb: float,
    beta: float,
    total: Array,
    jac: Array,
    slots: Slots,
) -> None:
    """K (E/piv)^alpha below xb, and K (xb/piv)^alpha (E/xb)^beta above it.

    The upper part has its pivot at the break: there it has no derivative to beta.
    """
    log_piv, log_xb, log_break = math.log(piv), math.log(xb), _log_of_ratio(xb, piv)
    factor = math.exp(alpha * log_break)
    for i in range(log_mid.size):
        below = above = d_alpha = d_beta = 0.0
        low, high = edges[i], edges[i + 1]
        if low < xb:
            end = min(high, xb)
            mid, width = log_mid[i], log_width[i]
            if end < high:
                mid, width = 0.5 * (math.log(low) + log_xb), math.log1p((end - low) / low)
            log_ratio = _log_from(low, end, mid, width, piv, log_piv)
            below, d_alpha = _powerlaw_bin(log_ratio, width, piv, alpha)
        if high > xb:
            if low < xb:
                width = math.log1p((high - xb) / xb)
                log_ratio = 0.5 * width
            else:
                width = log_width[i]
                log_ratio = _log_from(low, high, log_mid[i], width, xb, log_xb)
            above, d_beta = _powerlaw_bin(log_ratio, width, xb, beta)
            above *= factor
        total[i] += K * (below + above)
        if jac.size:
            jac[slots[0], i] += below + above
            jac[slots[1], i] -= K * alpha / piv * (below + above)
            jac[slots[2], i] += K * (d_alpha + above * log_break)
            jac[slots[3], i] += K * above * (alpha - beta) / xb
            jac[slots[4], i] += K * factor * d_beta


@_inner
def _add_polynomial(
    edges: Array,
    log_width: Array,
    K: float,
    piv: float,
    index: float,
    c2: float,
    c3: float,
    total: Array,
    jac: Array,
    slots: Slots,
) -> None:
    """K u^index (1 + c2 (u-1)^2 + c3 (u-1)^3) with u = E/piv.

    A sum of power laws loses its digits near the pivot, where u - 1 is small. The integrand is
    smooth: five-point Gauss-Legendre on bins, or parts of them, so narrow that the rule is exact
    to rounding.
    """
    for i in range(log_width.size):
        value = d_piv = d_index = d_c2 = d_c3 = 0.0
        parts = math.ceil(5.0 * log_width[i] * (abs(index) + 4.0))
        ratio = math.exp(log_width[i] / parts)
        low = edges[i]
        for n in range(parts):
            high = low * ratio if n < parts - 1 else edges[i + 1]
            middle, half = 0.5 * ((low - piv) + (high - piv)), 0.5 * (high - low)
            for k in range(5):
                y = (middle + half * _GL_X[k]) / piv
                log_u = math.log1p(y) if y > -0.5 else math.log((low + half * (1 + _GL_X[k])) / piv)
                part = 2.0 * half * _GL_W[k] * math.exp(index * log_u)
                y2 = y * y
                shape = 1.0 + y2 * (c2 + c3 * y)
                value += part * shape
                d_piv -= part * (index * shape + (1.0 + y) * y * (2.0 * c2 + 3.0 * c3 * y)) / piv
                d_index += part * shape * log_u
                d_c2 += part * y2
                d_c3 += part * y2 * y
            low = high
        total[i] += K * value
        if jac.size:
            jac[slots[0], i] += value
            jac[slots[1], i] += K * d_piv
            jac[slots[2], i] += K * d_index
            jac[slots[3], i] += K * d_c2
            jac[slots[4], i] += K * d_c3


# --- Gaussian -----------------------------------------------------------------------------------


@_inner
def _is_narrow(z0: float, z1: float, dz: float) -> bool:
    return dz < _NARROW and (dz * abs(z0) < _NARROW or dz * abs(z1) < _NARROW)


@_inner
def _probability(z0: float, z1: float, dz: float, q0: float, q1: float) -> float:
    """Probability of a unit Gaussian between z0 and z1 = z0 + dz.

    q = erfc(|z|/sqrt2)/2 is the probability outside z; dz comes from the edges, since z1 - z0
    has lost digits far out.
    """
    if _is_narrow(z0, z1, dz):
        return _narrow_probability(z0, dz)
    if z0 >= 0.0:
        return q0 - q1
    if z1 <= 0.0:
        return q1 - q0
    return 1.0 - q0 - q1


@_inner
def _narrow_probability(z0: float, dz: float) -> float:
    value = 0.0
    for k in range(5):
        z = z0 + dz * 0.5 * (1.0 + _GL_X[k])
        value += _GL_W[k] * math.exp(-0.5 * z * z)
    return value * dz * _INV_SQRT_2PI


@_inner
def _probability_slopes(
    z0: float, z1: float, dz: float, p0: float, p1: float
) -> tuple[float, float]:
    """d/dmu and d/dsigma of `_probability`, times sigma; p = exp(-z^2/2)/sqrt(2 pi)."""
    if _is_narrow(z0, z1, dz):
        dp = p0 * math.expm1(-0.5 * dz * (z0 + z1))
        return -dp, -(z0 * dp + dz * p1)
    return p0 - p1, z0 * p0 - z1 * p1


@_inner
def bins_in_reach(edges: Array, low: float, high: float) -> tuple[int, int]:
    """First and one-past-last bin that overlap [low, high]."""
    n_bins = edges.size - 1
    first = last = 0
    left = n_bins
    while left > 1:  # without branches: nobody can foretell them
        half = left // 2
        first += half if edges[first + half] <= low else 0
        last += half if edges[last + half] < high else 0
        left -= half
    # edges[first] <= low, unless that is below them all; edges[last] is the last one below high
    return first, last + (1 if edges[last] < high else 0)


@_inner
def _add_width(
    jac: Array,
    mean: int,
    width: int,
    growth: int,
    i: int,
    d_sigma: float,
    mu: float,
    sigma: float,
    slope: float,
) -> None:
    """Derivative to the width of a line; with sigma^2 = a + slope mu, to a, slope and mu."""
    if growth < 0:
        jac[width, i] += d_sigma
    else:
        d_variance = 0.5 * d_sigma / sigma
        jac[width, i] += d_variance
        jac[growth, i] += d_variance * mu
        jac[mean, i] += d_variance * slope


@_inner
def _add_gaussians(
    edges: Array, theta: Array, table: Slots, reach: float, total: Array, jac: Array
) -> None:
    """Add the Gaussian lines of a table; what takes time is done for all of them in one loop.

    No views of arrays are made for a line: counting their references would take longer.
    """
    n_lines = table.size // ROW
    bins = np.empty((n_lines, 3), np.int64)  # the first, the one past the last, place in `work`
    n_edges = 0
    for line in range(n_lines):
        row = line * ROW
        bins[line, 0], bins[line, 1], bins[line, 2] = 0, 0, n_edges
        if table[row] == GAUSSIAN:
            mu, sigma = theta[table[row + 2]], _line_sigma(theta, table, row)
            first, last = bins_in_reach(edges, mu - reach * sigma, mu + reach * sigma)
            if first < last:
                bins[line, 0], bins[line, 1] = first, last
                n_edges += last + 1 - first
    work = np.empty((7, n_edges))
    z, dz, width, value = work[0], work[1], work[2], work[4]
    for line in range(n_lines):
        first, last, at = bins[line, 0], bins[line, 1], bins[line, 2]
        if first < last:
            row = line * ROW
            mu, sigma = theta[table[row + 2]], _line_sigma(theta, table, row)
            for i in range(first, last):
                z[at], dz[at], width[at] = edges[i] - mu, edges[i + 1] - edges[i], sigma
                at += 1
            z[at], dz[at], width[at] = edges[last] - mu, sigma, sigma  # from here goes no bin
    _probabilities(work)
    for line in range(n_lines):
        first, last, at = bins[line, 0], bins[line, 1], bins[line, 2]
        if first < last:
            row = line * ROW
            F = theta[table[row + 1]]
            for i in range(first, last):
                total[i] += F * value[at + i - first]
            if jac.size:
                _add_slopes(theta, table, row, first, last, work, at, jac)


@_inner
def _probabilities(work: Array) -> None:
    """Probabilities of a unit Gaussian between neighbouring edges, and their slopes.

    Parameters
    ----------
    work : ndarray, shape (7, n_edges), changed in place
        Edges, and their distances to the next one; these are given. Densities, probabilities
        outside, `_probability` and both of `_probability_slopes`; where there is no next edge these
        three mean nothing.
    """
    z, dz, p, q = work[0], work[1], work[2], work[3]
    value, d_mu, d_sigma = work[4], work[5], work[6]
    n = z.size - 1
    for k in range(z.size):
        sigma = p[k]
        z[k] /= sigma
        dz[k] /= sigma
        p[k], q[k] = _gaussian_at(z[k])
    narrow = 0
    for k in range(n):
        inner = q[k] - q[k + 1] if z[k] >= 0.0 else q[k + 1] - q[k]
        value[k] = inner if z[k] >= 0.0 or z[k + 1] <= 0.0 else 1.0 - q[k] - q[k + 1]
        d_mu[k], d_sigma[k] = p[k] - p[k + 1], z[k] * p[k] - z[k + 1] * p[k + 1]
        narrow += _is_narrow(z[k], z[k + 1], dz[k])
    if narrow > 0:
        for k in range(n):
            if _is_narrow(z[k], z[k + 1], dz[k]):
                value[k] = _narrow_probability(z[k], dz[k])
                d_mu[k], d_sigma[k] = _probability_slopes(z[k], z[k + 1], dz[k], p[k], p[k + 1])


@_inner
def _add_slopes(
    theta: Array, table: Slots, row: int, first: int, last: int, work: Array, at: int, jac: Array
) -> None:
    """Derivatives of the line of a row of the table, whose first edge is number `at` of `work`."""
    area, mean, width, growth = table[row + 1], table[row + 2], table[row + 3], table[row + 4]
    mu, sigma = theta[mean], _line_sigma(theta, table, row)
    slope = 0.0 if growth < 0 else theta[growth]
    scale = theta[area] / sigma
    for i in range(first, last):
        k = at + i - first
        jac[area, i] += work[4, k]
        jac[mean, i] += scale * work[5, k]
        _add_width(jac, mean, width, growth, i, scale * work[6, k], mu, sigma, slope)


# --- Gaussian with a low-energy tail ------------------------------------------------------------
#
# With z = (E - mu)/sigma, x = z/sqrt2, d = sigma/(sqrt2 length), a = x + d, n the Gaussian's and
# t the tail's density T:
#   length t = g = exp(y/length + d^2) erfc(a)/2,    t - length dt/dE = n,
# so that the counts of T in a bin are those of the Gaussian plus the change of g, and
#   d/dmu = -change of t,  d/dsigma = change of sigma dt/dE (heat equation),
#   d/dlength = change of 2 d (d n - a t).
# Every difference is taken where it keeps its digits; which that is depends on a and d.


@_inner
def _erfcx_rest(a: float) -> tuple[float, float]:
    """1 - s and 1 - 2 a^2 (1 - s), of s = sqrt(pi) a erfcx(a), for a >= _FAR.

    Both vanish with a Gaussian-like tail. Asymptotic series, or below 10 the continued fraction
    of erfc (Abramowitz & Stegun 7.1.14): sums of positive terms, so that no digits are lost.
    """
    if a >= 10.0:
        x = 0.5 / (a * a)
        term = 3.0 * x
        total = term
        for k in range(2, 14):
            term *= -(2 * k + 1) * x
            total += term
        return x * (1.0 - total), total
    p, q, half = 0.0, 1.0, 4.0 + 0.5 * int(250.0 / (a * a))
    while half > 0.75:
        p, q = half * q, a * q + p
        half -= 0.5
    k2 = p / q
    k1 = 0.5 / (a + k2)
    return k1 / (a + k1), (a * (k1 + k2) + k1 * k2) / ((a + k1) * (a + k2))


@_inner
def _tail_at(
    y: float, z: float, sigma: float, length: float, d: float
) -> tuple[float, float, float, float, float]:
    """a, n [1/keV], g, and two more at mu + y.

    These are from _FAR on those of `_erfcx_rest`, below it exp(y/length + d^2) and erfc(|a|)/2.
    """
    a = z * _SQRT_HALF + d
    gauss = math.exp(-0.5 * z * z)
    n = _INV_SQRT_2PI * gauss / sigma
    if a >= _FAR:
        rest, second = _erfcx_rest(a)
        return a, n, 0.5 * gauss * _INV_SQRT_PI * (1.0 - rest) / a, rest, second
    # the two exponents are one number, each with less rounding than the other
    rise = gauss * math.exp(a * a) if a > 0.0 and d >= _FAR else math.exp(y / length + d * d)
    outer = 0.5 * math.erfc(abs(a))
    return a, n, rise * (outer if a >= 0.0 else 1.0 - outer), rise, outer


@_inner
def _tail_slopes(
    z: float, a: float, n: float, g: float, rest: float, sigma: float, length: float, d: float
) -> tuple[float, float]:
    """Sigma dt/dE and d(length t)/dlength [1/keV] from `_tail_at`."""
    if a >= _FAR:
        change = z * _SQRT_HALF + d * rest
        return -sigma * n * change / (a * length), 2.0 * n * d * d * rest
    return sigma * (g / length - n) / length, 2.0 * d * (d * n - a * g / length)


@_inner
def _beyond_one_fold(y: float, length: float, d: float) -> float:
    """2 a d + 1, with its digits where a tail's density does not depend on its length."""
    return (y + length) / length + 2.0 * d * d


@_inner
def _narrow_tail(
    y0: float, dy: float, sigma: float, length: float, d: float, with_slopes: bool
) -> tuple[float, float, float, float]:
    """Counts of T in a narrow bin, and the changes of t, sigma dt/dE and d(length t)/dlength."""
    tail = d_t = d_slope = d_length = 0.0
    for k in range(5):
        y = y0 + dy * 0.5 * (1.0 + _GL_X[k])
        a, n, g, rest, second = _tail_at(y, y / sigma, sigma, length, d)
        w = dy * _GL_W[k]
        t = g / length
        tail += w * t
        if with_slopes:
            x = y / sigma * _SQRT_HALF
            if a >= _FAR:
                d_t -= w * n * (x + d * rest) / (a * length)
                d_slope += w * sigma * n * (x * x - d * d * rest) / (a * d * length * length)
                change = 0.5 * (1.0 - second) / a - x - d * second
                d_length += w * n * d * change / (a * a * length)
            else:
                d_t += w * (t - n) / length
                d_slope += w * sigma * (t - n * (1.0 - x / d)) / (length * length)
                d_length += w * (2.0 * d * d * n - _beyond_one_fold(y, length, d) * t) / length
    return tail, d_t, d_slope, d_length


@_inner
def _tail_above(z: float, q: float, a: float, g: float, rest: float, d: float) -> float:
    """Counts of T above z >= 0."""
    x = z * _SQRT_HALF
    if x >= 4.0 or (x >= _FAR and d < 0.1):  # both from what is left of 1/x: no digits are lost
        upper = d / (x * a) - (_erfcx_rest(x)[0] / x - rest / a)
        return 0.5 * _INV_SQRT_PI * math.exp(-0.5 * z * z) * upper
    if d < 0.02:
        # Long tails barely reach above the line: erfcx(x) - erfcx(a) as an integral.
        total = 0.0
        for k in range(5):
            u = x + d * 0.5 * (1.0 + _GL_X[k])
            total += _GL_W[k] * (_INV_SQRT_PI - u * math.exp(u * u) * math.erfc(u))
        return math.exp(-0.5 * z * z) * d * total
    return q - g


@_inner
def _between(a0: float, outer0: float, a1: float, outer1: float) -> float:
    """(erfc(a0) - erfc(a1))/2 without loss on either side of 0, from erfc(|a|)/2."""
    if a0 >= 0.0:
        return outer0 - outer1
    return outer1 - outer0 if a1 <= 0.0 else 1.0 - outer0 - outer1


@_inner
def _change_of_fold(h: float) -> float:
    """1 - (1 + h) exp(-h)."""
    if h > 0.05:
        return -math.expm1(-h) - h * math.exp(-h)
    high = 1.0 / 144.0 - h * (1.0 / 840.0 - h * (1.0 / 5760.0 - h / 45360.0))
    return h * h * (0.5 - h * (1.0 / 3.0 - h * (1.0 / 8.0 - h * (1.0 / 30.0 - h * high))))


@_inner
def _tail_density(z: float, sigma: float, length: float) -> float:
    return _tail_at(z * sigma, z, sigma, length, sigma * _SQRT_HALF / length)[2] / length


@_inner
def _add_tailed(
    edges: Array,
    F: float,
    mu: float,
    sigma: float,
    slope: float,
    fraction: float,
    length: float,
    reach: float,
    folds: float,
    total: Array,
    jac: Array,
    slots: Slots,
) -> None:
    below = max(reach * sigma, folds * length)
    first, last = bins_in_reach(edges, mu - below - reach * sigma, mu + reach * sigma)
    if first >= last:
        return
    area, mean, width, growth, share, scale = (
        slots[0], slots[1], slots[2], slots[3], slots[4], slots[5]
    )  # fmt: skip
    with_jac = jac.size > 0
    d = sigma * _SQRT_HALF / length
    y0 = edges[first] - mu
    z0 = y0 / sigma
    q0 = _outside(z0)
    a0, n0, g0, r0, w0 = _tail_at(y0, z0, sigma, length, d)
    o0 = -1.0  # counts of T above the bin's low edge, where known
    for i in range(first, last):
        y1, dy = edges[i + 1] - mu, edges[i + 1] - edges[i]
        z1, dz = y1 / sigma, dy / sigma
        q1 = _outside(z1)
        a1, n1, g1, r1, w1 = _tail_at(y1, z1, sigma, length, d)
        gauss = _probability(z0, z1, dz, q0, q1)
        d_t = d_slope = d_length = 0.0
        o1 = -1.0
        if _is_narrow(z0, z1, dz):
            tail, d_t, d_slope, d_length = _narrow_tail(y0, dy, sigma, length, d, with_jac)
        else:
            # below _FAR: g changes by rising * g1 - leaving, the tail's counts by the sum of
            # rising * g1 and gauss - leaving, which are both positive
            rising = leaving = 0.0
            if a1 < _FAR and (with_jac or z0 < 0.0):
                rising, leaving = -math.expm1(-dy / length), r0 * _between(a0, w0, a1, w1)
            if z1 > 0.0:
                o1 = _tail_above(z1, q1, a1, g1, r1, d)
            if z0 >= 0.0:
                if o0 < 0.0:
                    o0 = _tail_above(z0, q0, a0, g0, r0, d)
                tail = o0 - o1
            elif z1 <= 0.0:
                tail = g1 * rising + (gauss - leaving) if a1 < _FAR else q1 + g1 - (q0 + g0)
            elif d >= _FAR:
                tail = 1.0 - o1 - (q0 + g0)
            else:  # the same two ways on either side of the line's energy
                _, _, g, r, w = _tail_at(0.0, 0.0, sigma, length, d)
                tail = -g * math.expm1(y0 / length) + 0.5 * math.erf(-z0 * _SQRT_HALF)
                tail += _tail_above(0.0, 0.5, d, g, r, d) - o1 - r0 * _between(a0, w0, d, w)
            if with_jac and a1 < _FAR:
                d_t = (g1 * rising - leaving) / length
                d_slope = sigma * (d_t - (n1 - n0)) / length
                h = dy / length
                d_length = (g1 * _change_of_fold(h) - leaving * (1.0 + h)) / length
                d_length += 2.0 * d * d * (n1 - n0) - _beyond_one_fold(y1, length, d) * d_t
            elif with_jac:
                d_t = (g1 - g0) / length
                s0, l0 = _tail_slopes(z0, a0, n0, g0, r0, sigma, length, d)
                s1, l1 = _tail_slopes(z1, a1, n1, g1, r1, sigma, length, d)
                d_slope, d_length = s1 - s0, l1 - l0
        value = (1.0 - fraction) * gauss + fraction * tail
        total[i] += F * value
        if with_jac:
            g_mu, g_sigma = _probability_slopes(z0, z1, dz, n0 * sigma, n1 * sigma)
            jac[area, i] += value
            jac[mean, i] += F * ((1.0 - fraction) * g_mu / sigma - fraction * d_t)
            d_sigma = F * ((1.0 - fraction) * g_sigma / sigma + fraction * d_slope)
            _add_width(jac, mean, width, growth, i, d_sigma, mu, sigma, slope)
            jac[share, i] += F * length * d_t
            jac[scale, i] += F * fraction * d_length
        y0, z0, q0, o0 = y1, z1, q1, o1
        a0, n0, g0, r0, w0 = a1, n1, g1, r1, w1


# --- step under a line ---------------------------------------------------------------------------
#
# With Q(z) = erfc(z/sqrt2)/2 the density is F step Q(z). The integral of Q from z on is
# G(z) = p - z Q, with p the unit Gaussian; G(-z) = z + G(z). The derivative of the counts to mu is
# F step times the probability of the Gaussian in the bin, that to sigma F step (p0 - p1).


@_inner
def _beyond(z: float, p: float, q: float) -> float:
    """Integral of Q from abs(z) on; p and q as in `_probability`."""
    x = abs(z) * _SQRT_HALF
    return p * _erfcx_rest(x)[0] if x >= _FAR else p - abs(z) * q


@_inner
def _below_step(z0: float, z1: float, dz: float, g0: float, g1: float) -> float:
    """Integral of Q between z0 and z1 = z0 + dz, from `_beyond` at both."""
    if _is_narrow(z0, z1, dz):
        value = 0.0
        for k in range(5):
            value += _GL_W[k] * math.erfc((z0 + dz * 0.5 * (1.0 + _GL_X[k])) * _SQRT_HALF)
        return 0.5 * dz * value
    if z0 >= 0.0:
        return g0 - g1
    if z1 <= 0.0:
        return dz - (g1 - g0)
    return -z0 + (g0 - g1)


@_inner
def _add_step(
    edges: Array,
    F: float,
    mu: float,
    sigma: float,
    slope: float,
    step: float,
    reach: float,
    total: Array,
    jac: Array,
    slots: Slots,
) -> None:
    if mu + reach * sigma <= edges[0]:
        return
    first, last = bins_in_reach(edges, mu - reach * sigma, mu + reach * sigma)
    area, mean, width, growth, height = slots[0], slots[1], slots[2], slots[3], slots[4]
    with_jac = jac.size > 0
    for i in range(first):  # Q = 1
        dy = edges[i + 1] - edges[i]
        total[i] += F * step * dy
        if with_jac:
            jac[area, i] += step * dy
            jac[height, i] += F * dy
    z0 = (edges[first] - mu) / sigma
    q0 = _outside(z0)
    p0 = _INV_SQRT_2PI * math.exp(-0.5 * z0 * z0)
    g0 = _beyond(z0, p0, q0)
    for i in range(first, last):
        z1 = (edges[i + 1] - mu) / sigma
        q1 = _outside(z1)
        p1 = _INV_SQRT_2PI * math.exp(-0.5 * z1 * z1)
        g1 = _beyond(z1, p1, q1)
        dz = (edges[i + 1] - edges[i]) / sigma
        value = sigma * _below_step(z0, z1, dz, g0, g1)
        total[i] += F * step * value
        if with_jac:
            d_sigma, _ = _probability_slopes(z0, z1, dz, p0, p1)
            jac[area, i] += step * value
            jac[mean, i] += F * step * _probability(z0, z1, dz, q0, q1)
            _add_width(jac, mean, width, growth, i, F * step * d_sigma, mu, sigma, slope)
            jac[height, i] += F * value
        z0, q0, p0, g0 = z1, q1, p1, g1


@_inner
def _add_broadened(
    edges: Array,
    F: float,
    mu: float,
    sigma: float,
    broad: float,
    ratio: float,
    reach: float,
    total: Array,
    jac: Array,
    slots: Slots,
) -> None:
    """Two Gaussians of one energy: a share `broad` of the counts is `ratio` times as wide."""
    area, mean, width, share, stretch = slots[0], slots[1], slots[2], slots[4], slots[5]
    with_jac = jac.size > 0
    for part in range(2):
        weight, sign, factor = (broad, 1.0, ratio) if part else (1.0 - broad, -1.0, 1.0)
        own = sigma * factor
        first, last = bins_in_reach(edges, mu - reach * own, mu + reach * own)
        if first >= last:
            continue
        z0 = (edges[first] - mu) / own
        q0 = 0.5 * math.erfc(abs(z0) * _SQRT_HALF)
        p0 = p1 = _INV_SQRT_2PI * math.exp(-0.5 * z0 * z0)
        for i in range(first, last):
            z1 = (edges[i + 1] - mu) / own
            q1 = 0.5 * math.erfc(abs(z1) * _SQRT_HALF)
            dz = (edges[i + 1] - edges[i]) / own
            value = _probability(z0, z1, dz, q0, q1)
            total[i] += F * weight * value
            if with_jac:
                p1 = _INV_SQRT_2PI * math.exp(-0.5 * z1 * z1)
                d_mu, d_own = _probability_slopes(z0, z1, dz, p0, p1)
                jac[area, i] += weight * value
                jac[mean, i] += F * weight * d_mu / own
                jac[width, i] += F * weight * d_own / sigma
                jac[share, i] += sign * F * value
                if part:
                    jac[stretch, i] += F * weight * d_own / ratio
            z0, q0, p0 = z1, q1, p1


# --- all components in one pass -----------------------------------------------------------------


@_inner
def _line_sigma(theta: Array, table: Slots, row: int) -> float:
    """Width [keV] of the line of a row of a table: its sigma, or sqrt(a + b mu)."""
    width, growth = table[row + 3], table[row + 4]
    if growth < 0:
        return float(theta[width])
    return math.sqrt(max(theta[width] + theta[growth] * theta[table[row + 2]], MIN_VARIANCE))


@_called
def accumulate(
    edges: Array,
    log_mid: Array,
    log_width: Array,
    theta: Array,
    table: Slots,
    rest: Slots | None,
    reach: float,
    folds: float,
    total: Array,
    jac: Array,
) -> None:
    """Add every component's counts to `total`, and derivatives to `jac` unless it is empty.

    Parameters
    ----------
    edges, log_mid, log_width : the fields of an `EnergyGrid`
    theta : ndarray, shape (n_slots,)
        Parameter values; several components may name the same slot (a shared sigma).
    table : ndarray of int64, shape (ROW * n_components,)
        Power laws and Gaussian lines: of each its kind (`POWERLAW`, `GAUSSIAN`) and six slots: of a
        continuum in the order of its formula; of a line F, mu, sigma, -1 (or F, mu, a, b with
        sigma^2 = a + b mu), and those of its tail or step. -1 where
        there is none.
    rest : None, or ndarray as `table`
        Components of the other kinds. With None their code is not even compiled.
    reach, folds : float
        `FIT_REACH` or `FULL_REACH`, and the tail lengths that go with it.
    total : ndarray, shape (n_bins,), counts, changed in place
    jac : ndarray, shape (n_slots, n_bins), counts per unit of the parameter, changed in place
    """
    for row in range(0, table.size, ROW):
        if table[row] == POWERLAW:
            s = table[row + 1 : row + ROW]
            K, piv, index = theta[s[0]], theta[s[1]], theta[s[2]]
            _add_powerlaw(edges, log_mid, log_width, K, piv, index, total, jac, s)
    _add_gaussians(edges, theta, table, reach, total, jac)
    if rest is not None:
        _add_rest(edges, log_mid, log_width, theta, rest, reach, folds, total, jac)


@_inner
def _add_rest(
    edges: Array,
    log_mid: Array,
    log_width: Array,
    theta: Array,
    table: Slots,
    reach: float,
    folds: float,
    total: Array,
    jac: Array,
) -> None:
    for row in range(0, table.size, ROW):
        kind, s = table[row], table[row + 1 : row + ROW]
        first, second, third = theta[s[0]], theta[s[1]], theta[s[2]]
        if kind == BROKEN:
            _add_broken(
                edges, log_mid, log_width, first, second, third, theta[s[3]], theta[s[4]],
                total, jac, s,
            )  # fmt: skip
        elif kind == POLYNOMIAL:
            _add_polynomial(
                edges, log_width, first, second, third, theta[s[3]], theta[s[4]], total, jac, s
            )
        else:
            sigma = _line_sigma(theta, table, row)
            slope = 0.0 if s[3] < 0 else theta[s[3]]
            if kind == TAILED:
                _add_tailed(
                    edges, first, second, sigma, slope, theta[s[4]], theta[s[5]], reach, folds,
                    total, jac, s,
                )  # fmt: skip
            elif kind == BROADENED:
                _add_broadened(
                    edges, first, second, sigma, theta[s[4]], theta[s[5]], reach, total, jac, s
                )
            elif kind == STEP:
                _add_step(edges, first, second, sigma, slope, theta[s[4]], reach, total, jac, s)


def tables(rows: Iterable[Iterable[int]]) -> tuple[Slots, Slots | None]:
    """What `accumulate` takes as `table` and `rest`.

    Parameters
    ----------
    rows : iterable of (kind, slots), with six slots each
    """
    simple: list[int] = []
    rest: list[int] = []
    for kind, *slots in rows:
        (simple if kind in (POWERLAW, GAUSSIAN) else rest).extend((kind, *slots))
    return np.array(simple, np.int64), np.array(rest, np.int64) if rest else None


@_called
def tail_densities(z: Array, sigma: float, length: float) -> Array:
    """The tail's density T [1/keV] at z = (E - mu)/sigma, shape of `z`."""
    out = np.empty(z.size)
    for i in range(z.size):
        out[i] = _tail_density(z[i], sigma, length)
    return out


# --- statistic ----------------------------------------------------------------------------------


@_vectorised
def _half_deviance_of_bin(n: float, e: float) -> float:
    """``e - n + n ln(n/e)``, written around e = n so that it keeps its digits there.

    With e/n = 2^k m, 1/sqrt(2) <= m < sqrt(2), and r = (e - n 2^k)/(e + n 2^k), ln m is
    2 (r + r^3/3 + r^5/5 ...). Where k = 0, e - n - 2 n r = r (e - n).
    """
    difference = e - n
    bits = np.float64(e / n).view(np.int64) + (_BITS_OF_ONE - _BITS_OF_ROOT)
    scaled = n * np.int64(bits & ~_FRACTION).view(np.float64)
    k = np.int64((bits >> 52) | _BITS_OF_WHOLE).view(np.float64) - (2.0**52 + 1023.0)
    r = (e - scaled) / (e + scaled)
    r2 = r * r
    series = 1.0 / 19.0 + r2 * (1.0 / 21.0)
    series = 1.0 / 15.0 + r2 * (1.0 / 17.0 + r2 * series)
    series = 1.0 / 11.0 + r2 * (1.0 / 13.0 + r2 * series)
    series = 1.0 / 7.0 + r2 * (1.0 / 9.0 + r2 * series)
    series = 1.0 / 3.0 + r2 * (1.0 / 5.0 + r2 * series)
    start = r * difference if k == 0.0 else difference - n * (k * _LN2 + 2.0 * r)
    return start - 2.0 * n * (r * (r2 * series)) if n > _NO_COUNTS else e


@_called
def half_deviances(counts: Array, expected: Array) -> Array:
    """Half the deviance of each bin, shape (n_bins,); see `half_deviance`."""
    out = np.empty(counts.size)
    for i in range(counts.size):
        out[i] = _half_deviance_of_bin(counts[i], max(expected[i], FLOOR))
    return out


# --- closed-form components: everything compiled -------------------------------------------------


def pack(
    data: tuple[Array, NDArray[np.bool_], Array],
    kernel: tuple[Any, ...],
    prior: tuple[Slots, Array, Array],
) -> CompiledArguments:
    """What the functions below take as `args`: few arrays are handed over faster than twelve.

    Parameters
    ----------
    data : counts, used and offset, each of shape (n_bins,)
    kernel : the arguments of `accumulate` without theta and what it changes
    prior : slots, means and inverse variances of Gaussian priors
    """
    counts, used, offset = data
    *grid, table, rest, reach, folds = kernel
    slots, means, weights = prior
    whole = ((len(counts), len(table), len(slots)), used, table, slots)
    reals = (*grid, counts, offset, means, weights, (reach, folds))
    return np.concatenate(reals), np.concatenate(whole, dtype=np.int64), rest


@_called
def evaluate(args: CompiledArguments, theta: Array, gradient: Array, information: Array) -> float:
    """Half the deviance of closed-form components plus penalties, and its derivatives.

    One function for all three, and no more: whatever calls it is compiled with a copy of all that
    it calls.

    Parameters
    ----------
    args : what `pack` returns
    theta : ndarray, shape (n_parameters,)
    gradient : ndarray, shape (n_parameters,), filled, or empty
    information : ndarray, shape (n_parameters, n_parameters)
        Filled with the expected (Fisher) information, or empty, as it must be where the gradient
        is.

    Returns
    -------
    float
        0 where the gradient alone is wanted.
    """
    reals, whole, rest = args
    n_bins = whole[0]
    table = 3 + n_bins
    slots = table + whole[1]
    mid = n_bins + 1
    width = mid + n_bins
    counts = width + n_bins
    offset = counts + n_bins
    means = offset + n_bins
    weights = means + whole[2]
    reach = weights + whole[2]
    expected = reals[offset:means].copy()
    jac = np.zeros((gradient.size, n_bins)) if gradient.size else information
    accumulate(
        reals[:mid], reals[mid:width], reals[width:counts], theta, whole[table:slots],
        rest, reals[reach], reals[reach + 1], expected, jac,
    )  # fmt: skip
    value = 0.0
    if information.size or not gradient.size:
        value = _half_deviance(reals[counts:offset], whole[3:table], expected)
    if gradient.size:
        _differentiate(reals[counts:offset], whole[3:table], expected, jac, gradient, information)
    for k in range(whole[2]):  # Gaussian priors
        s, weight = whole[slots + k], reals[weights + k]
        difference = theta[s] - reals[means + k]
        value += 0.5 * difference * difference * weight
        if gradient.size:
            gradient[s] += difference * weight
        if information.size:
            information[s, s] += weight
    return value


@_summing
def _half_deviance(counts: Array, used: Slots, expected: Array) -> float:
    total = 0.0
    for b in range(counts.size):
        term = _half_deviance_of_bin(counts[b], max(expected[b], FLOOR))
        total += term if used[b] else 0.0
    return total


@_summing
def _dot(x: Array, y: Array) -> float:
    total = 0.0
    for b in range(x.size):
        total += x[b] * y[b]
    return total


@_inner
def _differentiate(
    counts: Array, used: Slots, expected: Array, jac: Array, gradient: Array, information: Array
) -> None:
    """Gradient and, unless it is empty, information of half the deviance."""
    n_parameters, n_bins = jac.shape
    work = np.empty((3, n_bins))
    slope, weight, weighted = work[0], work[1], work[2]
    for b in range(n_bins):
        e = max(expected[b], FLOOR)
        weight[b] = 1.0 / e if used[b] else 0.0
        slope[b] = (e - counts[b]) / e if used[b] else 0.0
    for i in range(n_parameters):
        row = jac[i]
        gradient[i] = _dot(row, slope)
        if information.size:
            first, last = 0, n_bins  # a line touches few bins
            while first < last and row[first] == 0.0:
                first += 1
            while last > first and row[last - 1] == 0.0:
                last -= 1
            for b in range(n_bins):
                weighted[b] = row[b] * weight[b]
            for j in range(i + 1):
                product = _dot(weighted[first:last], jac[j, first:last])
                information[i, j] = information[j, i] = product


# --- damped scoring ------------------------------------------------------------------------------


@_called
def damped_step(
    information: Array,
    gradient: Array,
    theta: Array,
    slots: Slots,
    low: Array,
    high: Array,
    damping: float,
) -> tuple[Array, bool]:
    """`theta` after one Levenberg-Marquardt step within limits; False if nothing can move.

    Parameters at a limit that the gradient pushes against stay; the matrix is scaled to
    correlations first, since a pivot flux and a line energy differ by a factor of a million.
    """
    n = 0
    moving = slots.copy()  # the places in `slots` of those that are not held
    for k in range(slots.size):
        s = slots[k]
        held = (theta[s] <= low[k] and gradient[s] > 0.0) or (
            theta[s] >= high[k] and gradient[s] < 0.0
        )
        if information[s, s] > 0.0 and not held:
            moving[n] = k
            n += 1
    out = theta.copy()
    if n == 0:
        return out, False
    root = np.empty(n)
    for i in range(n):
        root[i] = math.sqrt(information[slots[moving[i]], slots[moving[i]]])
    # Cholesky factor of the damped correlation matrix, then two triangular solves.
    factor = np.empty((n, n))
    step = np.empty(n)
    for i in range(n):
        si = slots[moving[i]]
        for j in range(i + 1):
            total = information[si, slots[moving[j]]] / (root[i] * root[j])
            if i == j:
                total += damping
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            if i == j:
                factor[i, i] = math.sqrt(max(total, 1e-14))
            else:
                factor[i, j] = total / factor[j, j]
        total = -gradient[si] / root[i]
        for k in range(i):
            total -= factor[i, k] * step[k]
        step[i] = total / factor[i, i]
    for i in range(n - 1, -1, -1):
        total = step[i]
        for k in range(i + 1, n):
            total -= factor[k, i] * step[k]
        step[i] = total / factor[i, i]
    for i in range(n):
        k = moving[i]
        out[slots[k]] = min(max(theta[slots[k]] + step[i] / root[i], low[k]), high[k])
    return out, True


# --- scan for lines ------------------------------------------------------------------------------


@_called
def place_lines(
    edges: Array,
    counts: Array,
    used: NDArray[np.bool_],
    expected: Array,
    slots: Slots,
    sigmas: Array,
    windows: Array,
    free: NDArray[np.bool_],
    low: Array,
    high: Array,
    theta: Array,
) -> None:
    """Put each line where it gains most, strongest first; `theta` is changed in place.

    `slots` are those of F and mu, shape (n_lines, 2); `sigmas` the widths [keV].
    """
    n_lines = slots.shape[0]
    residual = counts - expected
    weight = np.empty(counts.size)
    for b in range(counts.size):
        weight[b] = 1.0 / max(max(expected[b], counts[b]), 1.0) if used[b] else 0.0
    gain, best_mu, amplitude = np.empty(n_lines), np.empty(n_lines), np.empty(n_lines)
    shape = np.empty(counts.size)
    for k in range(n_lines):
        gain[k] = _TO_SCAN
    for _ in range(n_lines):
        best = 0
        for k in range(n_lines):
            if gain[k] == _TO_SCAN:
                gain[k], best_mu[k], amplitude[k] = scan_window(
                    edges, residual, weight, windows[k, 0], windows[k, 1], sigmas[k]
                )
            if gain[k] > gain[best]:
                best = k
        if gain[best] <= 0.0:
            break
        gain[best] = _PLACED
        f, sigma = slots[best, 0], sigmas[best]
        if free[f]:
            theta[f] = min(max(amplitude[best], low[f]), high[f])
        theta[slots[best, 1]] = best_mu[best]
        first, last = _line(edges, best_mu[best], sigma, shape)
        for b in range(first, last):
            residual[b] -= theta[f] * shape[b]
        for k in range(n_lines):
            near = _REACH * (sigma + sigmas[k])
            if windows[k, 0] - near < best_mu[best] < windows[k, 1] + near and gain[k] != _PLACED:
                gain[k] = _TO_SCAN


@_inner
def _line(edges: Array, mu: float, sigma: float, out: Array) -> tuple[int, int]:
    """Fill `out` with the counts per bin of a Gaussian of unit amplitude; its first, last bin."""
    first, last = bins_in_reach(edges, mu - _REACH * sigma, mu + _REACH * sigma)
    below = 0.5 * math.erfc((mu - edges[first]) / sigma * _SQRT_HALF)
    for b in range(first, last):
        above = 0.5 * math.erfc((mu - edges[b + 1]) / sigma * _SQRT_HALF)
        out[b] = above - below
        below = above
    return first, last


@_called
def scan_window(
    edges: Array, residual: Array, weight: Array, low: float, high: float, sigma: float
) -> tuple[float, float, float]:
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


# --- posterior ------------------------------------------------------------------------------------


@_called
def compiled_log_posterior(
    args: CompiledArguments, theta: Array, free: Slots, low: Array, high: Array, points: Array
) -> Array:
    """Log-posterior of each row of `points`, shape (n_points, n_free)."""
    out = np.empty(points.shape[0])
    values, none, nothing = theta.copy(), theta[:0], np.zeros((0, 0))
    for i in range(points.shape[0]):
        inside = True
        for k in range(free.size):
            x = points[i, k]
            values[free[k]] = x
            if not low[k] <= x <= high[k]:
                inside = False
        out[i] = -evaluate(args, values, none, nothing) if inside else -np.inf
    return out


@_inner
def _other(n: int, i: int, j: int) -> int:
    """A random walker of n that is neither i nor j."""
    while True:
        k = np.random.randint(n)
        if k != i and k != j:
            return k


@_called
def sweep_walkers(
    args: CompiledArguments,
    theta: Array,
    free: Slots,
    low: Array,
    high: Array,
    scale: Array,
    walkers: Array,
    log_posterior: Array,
    n_sweeps: int,
    seed: int,
) -> NDArray[np.bool_]:
    """Move every walker n_sweeps times, in place; true for those that moved.

    Four of five moves are differential evolution (ter Braak 2006, Stat. Comput. 16, 239), the rest
    are snooker updates (ter Braak & Vrugt 2008, Stat. Comput. 18, 435), with their step sizes.

    Parameters
    ----------
    scale : ndarray, shape (n_free,)
        Lengths along which distances are measured in snooker updates.
    walkers : ndarray, shape (n_walkers, n_free)
    log_posterior : ndarray, shape (n_walkers,)
    """
    np.random.seed(seed)
    n, n_free = walkers.shape
    gamma = 2.38 / math.sqrt(2.0 * n_free)
    values, trial = theta.copy(), np.empty(n_free)
    none, nothing = theta[:0], np.zeros((0, 0))
    moved = np.zeros(n, np.bool_)
    for _ in range(n_sweeps):
        for i in range(n):
            a = _other(n, i, i)
            b = _other(n, i, a)
            x, first, second = walkers[i], walkers[a], walkers[b]
            log_factor = 0.0
            if np.random.random() < 0.8:
                step = gamma * (1.0 + 1e-5 * np.random.normal())
                for k in range(n_free):
                    trial[k] = x[k] + step * (first[k] - second[k])
            else:
                c = _other(n, i, a)
                while c == b:
                    c = _other(n, i, a)
                along = length = 0.0
                for k in range(n_free):
                    delta = (x[k] - walkers[c, k]) / scale[k]
                    along += delta * (first[k] - second[k]) / scale[k]
                    length += delta * delta
                if length == 0.0:
                    continue
                step = 1.7 * along / length
                if step == -1.0:
                    continue
                for k in range(n_free):
                    trial[k] = x[k] + step * (x[k] - walkers[c, k])
                log_factor = (n_free - 1) * math.log(abs(1.0 + step))
            inside = True
            for k in range(n_free):
                values[free[k]] = trial[k]
                inside = inside and low[k] <= trial[k] <= high[k]
            if not inside:
                continue
            new = -evaluate(args, values, none, nothing)
            if math.log(np.random.random()) < new - log_posterior[i] + log_factor:
                walkers[i] = trial
                log_posterior[i] = new
                moved[i] = True
    return moved
