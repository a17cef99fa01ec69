"""Counts per energy bin of power laws and lines, in closed form, with their derivatives.

Every function integrates a density [counts/keV] over each bin exactly: no quadrature enters a
likelihood. The loops are compiled (numba), and a line touches only the bins within its reach.

Shapes (E, mu, sigma, length in keV):

* power law ``K (E/piv)^index``;
* Gaussian ``F N(E; mu, sigma)``;
* Gaussian with a low-energy tail ``F [(1-fraction) N + fraction T]``, where T is the Gaussian
  convolved with an exponential towards low energies of mean `length`. T's density is
  ``1/(2 length) exp[y/length + sigma^2/(2 length^2)] erfc[y/(sqrt2 sigma) + sigma/(sqrt2 length)]``
  with ``y = E - mu`` (Phillips & Marlow 1976, NIM 137, 525, Eq. 5, without the step).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .spectrum import check_edges

#: Half-width of the energy range that a line touches in a fit, in sigma: beyond it a Gaussian
#: holds less than 1e-16 of its counts.
FIT_REACH = 8.3
#: The same for the public functions: beyond it exp(-z^2/2) underflows.
FULL_REACH = 38.6
#: How many tail lengths a tail reaches below FIT_REACH or FULL_REACH: exp(-37) = 1e-16.
_TAIL_FOLDS = {FIT_REACH: 37.0, FULL_REACH: 745.0}

_SQRT_HALF = math.sqrt(0.5)
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
_INV_SQRT_PI = 1.0 / math.sqrt(math.pi)
#: Bins narrower than this (in units over which the density changes by e) are integrated by
#: five-point Gauss-Legendre, exact to rounding there, where differences of erfc lose digits.
_NARROW = 0.25
_GL_X = np.polynomial.legendre.leggauss(5)[0]
_GL_W = np.polynomial.legendre.leggauss(5)[1] / 2.0


class EnergyGrid(NamedTuple):
    """Energy bins as the compiled loops want them.

    Attributes
    ----------
    edges : ndarray, shape (n_bins + 1,), keV
    log_mid : ndarray, shape (n_bins,)
        Natural logarithm of sqrt(low * high) / keV.
    log_width : ndarray, shape (n_bins,)
        ln(high / low).
    """

    edges: NDArray[np.float64]
    log_mid: NDArray[np.float64]
    log_width: NDArray[np.float64]

    @classmethod
    def from_edges(cls, edges: ArrayLike) -> EnergyGrid:
        """Precompute what depends on the bins alone; `edges` in keV, shape (n_bins + 1,)."""
        edges = check_edges(edges)
        low, high = edges[:-1], edges[1:]
        return cls(edges, 0.5 * (np.log(low) + np.log(high)), np.log1p((high - low) / low))


# --- power law ----------------------------------------------------------------------------------


@njit(cache=True)
def _powerlaw_bin(log_mid, log_width, log_piv, piv, index):
    """Integral over one bin of (E/piv)^index, and its derivatives to piv and index.

    With c = index + 1, m the logarithmic mid-point and x = c ln(high/low)/2 it is
    piv (m/piv)^c ln(high/low) sinh(x)/x, which knows no special case at index = -1.
    """
    c = index + 1.0
    x = 0.5 * c * log_width
    x2 = x * x
    if abs(x) < 0.1:
        shc = 1.0 + x2 / 6.0 * (1.0 + x2 / 20.0 * (1.0 + x2 / 42.0 * (1.0 + x2 / 72.0)))
        langevin = x / 3.0 * (1.0 - x2 / 15.0 * (1.0 - x2 * (2.0 / 21.0) * (1.0 - x2 / 10.0)))
    else:
        shc = math.sinh(x) / x
        langevin = 1.0 / math.tanh(x) - 1.0 / x
    log_ratio = log_mid - log_piv
    value = piv * math.exp(c * log_ratio) * log_width * shc
    return value, -index * value / piv, value * (log_ratio + 0.5 * log_width * langevin)


@njit(cache=True)
def _add_powerlaw(log_mid, log_width, K, piv, index, total, jac, slots, with_jac):
    log_piv = math.log(piv)
    for i in range(log_mid.size):
        value, d_piv, d_index = _powerlaw_bin(log_mid[i], log_width[i], log_piv, piv, index)
        total[i] += K * value
        if with_jac:
            jac[slots[0], i] += value
            jac[slots[1], i] += K * d_piv
            jac[slots[2], i] += K * d_index


# --- Gaussian -----------------------------------------------------------------------------------


@njit(cache=True)
def _gaussian_bin(z0, z1, dz, q0, q1, p0, p1):
    """Probability between z0 and z1 = z0 + dz, and d/dmu, d/dsigma of it times sigma.

    q = erfc(|z|/sqrt2)/2 is the probability outside z, p = exp(-z^2/2)/sqrt(2 pi); dz comes
    from the edges, since z1 - z0 has lost digits far out.
    """
    near = min(abs(z0), abs(z1))
    if dz * max(1.0, near) < _NARROW:
        value = 0.0
        for k in range(5):
            z = z0 + dz * 0.5 * (1.0 + _GL_X[k])
            value += _GL_W[k] * math.exp(-0.5 * z * z)
        value *= dz * _INV_SQRT_2PI
        dp = p0 * math.expm1(-0.5 * dz * (z0 + z1))
    else:
        if z0 >= 0.0:
            value = q0 - q1
        elif z1 <= 0.0:
            value = q1 - q0
        else:
            value = 1.0 - q0 - q1
        dp = p1 - p0
    return value, -dp, -(z0 * dp + dz * p1)


@njit(cache=True)
def bins_in_reach(edges, low, high):
    """First and one-past-last bin that overlap [low, high]."""
    first = np.searchsorted(edges, low, side="right") - 1
    last = np.searchsorted(edges, high, side="left")
    return max(first, 0), min(last, edges.size - 1)


@njit(cache=True)
def _add_gaussian(edges, F, mu, sigma, reach, total, jac, slots, with_jac):
    first, last = bins_in_reach(edges, mu - reach * sigma, mu + reach * sigma)
    if first >= last:
        return
    z0 = (edges[first] - mu) / sigma
    q0 = 0.5 * math.erfc(abs(z0) * _SQRT_HALF)
    p0 = _INV_SQRT_2PI * math.exp(-0.5 * z0 * z0)
    for i in range(first, last):
        z1 = (edges[i + 1] - mu) / sigma
        q1 = 0.5 * math.erfc(abs(z1) * _SQRT_HALF)
        p1 = _INV_SQRT_2PI * math.exp(-0.5 * z1 * z1)
        dz = (edges[i + 1] - edges[i]) / sigma
        value, d_mu, d_sigma = _gaussian_bin(z0, z1, dz, q0, q1, p0, p1)
        total[i] += F * value
        if with_jac:
            jac[slots[0], i] += value
            jac[slots[1], i] += F * d_mu / sigma
            jac[slots[2], i] += F * d_sigma / sigma
        z0, q0, p0 = z1, q1, p1


# --- Gaussian with a low-energy tail ------------------------------------------------------------


@njit(cache=True)
def _one_minus_s(a):
    """1 - sqrt(pi) a erfcx(a) for a >= 10, by its asymptotic series (relative error 1e-16)."""
    x = 0.5 / (a * a)
    term = x
    total = term
    for k in range(2, 14):
        term *= -(2 * k - 1) * x
        total += term
    return total


@njit(cache=True)
def _minus_erfcx_slope(u):
    """-d/du erfcx(u) = 2/sqrt(pi) - 2 u erfcx(u) for u >= 0."""
    if u < 10.0:
        return 2.0 * _INV_SQRT_PI - 2.0 * u * math.exp(u * u) * math.erfc(u)
    return 2.0 * _INV_SQRT_PI * _one_minus_s(u)


@njit(cache=True)
def _tail_edge(z, sigma, length):
    """Tail quantities at one energy, z = (E - mu)/sigma.

    Returns
    -------
    outside : probability of T below E (z < 0) or above E (z >= 0)
    density : T's density [1/keV]
    slope : sigma * d density / dE [1/keV], which is dCDF/dsigma (heat equation)
    d_length : dCDF/dlength [1/keV]
    """
    d = sigma * _SQRT_HALF / length
    x = z * _SQRT_HALF
    a = x + d
    gauss = math.exp(-0.5 * z * z)
    p = _INV_SQRT_2PI * gauss
    if a < 10.0:
        g = 0.5 * math.exp(2.0 * x * d + d * d) * math.erfc(a)
        density = g / length
        slope = (sigma * density - p) / length
        d_length = (d * _INV_SQRT_PI * gauss - 2.0 * d * a * g) / length
    else:
        # Far above the tail's own scale T is nearly a Gaussian: the differences that vanish
        # with it are taken from the series of erfcx.
        one_minus_s = _one_minus_s(a)
        g = 0.5 * gauss * _INV_SQRT_PI * (1.0 - one_minus_s) / a
        density = p * d / (a * sigma) * (1.0 - one_minus_s)
        slope = -p / sigma * (d / a) * (z + math.sqrt(2.0) * d * one_minus_s)
        d_length = d * _INV_SQRT_PI * gauss * one_minus_s / length
    if z < 0.0:
        outside = 0.5 * math.erfc(-x) + g
    elif d < 0.25:
        # Long tails barely reach above the line: erfcx(x) - erfcx(x + d) as an integral.
        total = 0.0
        for k in range(5):
            total += _GL_W[k] * _minus_erfcx_slope(x + d * 0.5 * (1.0 + _GL_X[k]))
        outside = 0.5 * gauss * d * total
    elif x >= 10.0:  # both by the same series, so that their difference keeps its digits
        upper = (1.0 - _one_minus_s(x)) / x - (1.0 - _one_minus_s(a)) / a
        outside = 0.5 * _INV_SQRT_PI * gauss * upper
    else:
        outside = 0.5 * math.erfc(x) - g
    return outside, density, slope, d_length


@njit(cache=True)
def _tail_density(z, sigma, length):
    d = sigma * _SQRT_HALF / length
    x = z * _SQRT_HALF
    a = x + d
    if a < 10.0:
        return 0.5 * math.exp(2.0 * x * d + d * d) * math.erfc(a) / length
    p = _INV_SQRT_2PI * math.exp(-0.5 * z * z)
    return p * d / (a * sigma) * (1.0 - _one_minus_s(a))


@njit(cache=True)
def _add_tailed(edges, F, mu, sigma, fraction, length, reach, folds, total, jac, slots, with_jac):
    below = max(reach * sigma, min(folds, reach + folds) * length)
    first, last = bins_in_reach(edges, mu - below - reach * sigma, mu + reach * sigma)
    if first >= last:
        return
    z0 = (edges[first] - mu) / sigma
    q0 = 0.5 * math.erfc(abs(z0) * _SQRT_HALF)
    p0 = _INV_SQRT_2PI * math.exp(-0.5 * z0 * z0)
    o0, t0, s0, l0 = _tail_edge(z0, sigma, length)
    for i in range(first, last):
        z1 = (edges[i + 1] - mu) / sigma
        q1 = 0.5 * math.erfc(abs(z1) * _SQRT_HALF)
        p1 = _INV_SQRT_2PI * math.exp(-0.5 * z1 * z1)
        o1, t1, s1, l1 = _tail_edge(z1, sigma, length)
        dz = (edges[i + 1] - edges[i]) / sigma
        gauss, g_mu, g_sigma = _gaussian_bin(z0, z1, dz, q0, q1, p0, p1)
        if dz * max(1.0, min(abs(z0), abs(z1))) < _NARROW:
            tail = 0.0
            for k in range(5):
                tail += _GL_W[k] * _tail_density(z0 + dz * 0.5 * (1.0 + _GL_X[k]), sigma, length)
            tail *= dz * sigma
        elif z0 >= 0.0:
            tail = o0 - o1
        elif z1 < 0.0:
            tail = o1 - o0
        else:
            tail = 1.0 - o0 - o1
        value = (1.0 - fraction) * gauss + fraction * tail
        total[i] += F * value
        if with_jac:
            jac[slots[0], i] += value
            jac[slots[1], i] += F * ((1.0 - fraction) * g_mu / sigma + fraction * (t0 - t1))
            jac[slots[2], i] += F * ((1.0 - fraction) * g_sigma / sigma + fraction * (s1 - s0))
            jac[slots[3], i] += F * (tail - gauss)
            jac[slots[4], i] += F * fraction * (l1 - l0)
        z0, q0, p0 = z1, q1, p1
        o0, t0, s0, l0 = o1, t1, s1, l1


# --- all components in one pass -----------------------------------------------------------------


@njit(cache=True)
def accumulate(
    edges, log_mid, log_width, theta, powerlaws, lines, reach, folds, total, jac, with_jac
):
    """Add every component's counts to `total`, and derivatives to `jac` if `with_jac`.

    Parameters
    ----------
    edges, log_mid, log_width : the fields of an `EnergyGrid`
    theta : ndarray, shape (n_slots,)
        Parameter values; several components may name the same slot (a shared sigma).
    powerlaws : ndarray of int64, shape (n_powerlaws, 3)
        Slots of K, piv, index.
    lines : ndarray of int64, shape (n_lines, 5)
        Slots of F, mu, sigma, fraction, length; fraction = -1 for a plain Gaussian.
    reach, folds : float
        `FIT_REACH` or `FULL_REACH`, and the tail lengths that go with it.
    total : ndarray, shape (n_bins,), counts, changed in place
    jac : ndarray, shape (n_slots, n_bins), counts per unit of the parameter, changed in place
    with_jac : bool
    """
    for k in range(powerlaws.shape[0]):
        s = powerlaws[k]
        _add_powerlaw(
            log_mid, log_width, theta[s[0]], theta[s[1]], theta[s[2]], total, jac, s, with_jac
        )
    for k in range(lines.shape[0]):
        s = lines[k]
        if s[3] < 0:
            _add_gaussian(
                edges, theta[s[0]], theta[s[1]], theta[s[2]], reach, total, jac, s, with_jac
            )
        else:
            _add_tailed(
                edges,
                theta[s[0]],
                theta[s[1]],
                theta[s[2]],
                theta[s[3]],
                theta[s[4]],
                reach,
                folds,
                total,
                jac,
                s,
                with_jac,
            )


def tail_folds(reach: float) -> float:
    """Tail lengths that a tail reaches below a line for one of the two reaches."""
    return _TAIL_FOLDS[reach]


_NO_LINES = np.empty((0, 5), np.int64)
_NO_POWERLAWS = np.empty((0, 3), np.int64)


def _run(edges, theta, powerlaws, lines, n_rows):
    grid = EnergyGrid.from_edges(edges)
    n_bins = grid.log_mid.size
    total, jac = np.zeros(n_bins), np.zeros((theta.size, n_bins))
    accumulate(*grid, theta, powerlaws, lines, FULL_REACH, tail_folds(FULL_REACH), total, jac, True)
    return total, jac[:n_rows]


def powerlaw_counts(
    edges: ArrayLike, K: float, piv: float, index: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts per bin of ``K (E/piv)^index``.

    Parameters
    ----------
    edges : array_like, shape (n_bins + 1,), keV
    K : float, counts/keV at the pivot
    piv : float, keV
    index : float

    Returns
    -------
    counts : ndarray, shape (n_bins,)
    derivatives : ndarray, shape (3, n_bins)
        To K, piv, index.
    """
    theta = np.array([K, piv, index], dtype=float)
    return _run(edges, theta, np.array([[0, 1, 2]]), _NO_LINES, 3)


def gaussian_counts(
    edges: ArrayLike, F: ArrayLike, mu: ArrayLike, sigma: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts per bin of Gaussian lines, all lines in one pass.

    Parameters
    ----------
    edges : array_like, shape (n_bins + 1,), keV
    F, mu, sigma : array_like, broadcast to shape (n_lines,)
        Counts, energy [keV], width [keV].

    Returns
    -------
    counts : ndarray, shape (n_bins,)
        Sum over the lines.
    derivatives : ndarray, shape (n_lines, 3, n_bins)
        To each line's F, mu, sigma.
    """
    table = _line_table(F, mu, sigma)
    n = len(table)
    slots = np.full((n, 5), -1)
    slots[:, :3] = np.arange(3 * n).reshape(n, 3)
    counts, jac = _run(edges, table.ravel(), _NO_POWERLAWS, slots, 3 * n)
    return counts, jac.reshape(n, 3, counts.size)


def tailed_gaussian_counts(
    edges: ArrayLike,
    F: ArrayLike,
    mu: ArrayLike,
    sigma: ArrayLike,
    fraction: ArrayLike,
    length: ArrayLike,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts per bin of Gaussian lines with an exponential low-energy tail.

    Parameters
    ----------
    edges : array_like, shape (n_bins + 1,), keV
    F, mu, sigma, fraction, length : array_like, broadcast to shape (n_lines,)
        Counts, energy [keV], width [keV], share of the counts in the tail (0 to 1), mean
        energy loss in the tail [keV].

    Returns
    -------
    counts : ndarray, shape (n_bins,)
    derivatives : ndarray, shape (n_lines, 5, n_bins)
        To each line's F, mu, sigma, fraction, length.

    References
    ----------
    Phillips & Marlow 1976, Nucl. Instrum. Methods 137, 525 (the tail of their Eq. 5).
    """
    table = _line_table(F, mu, sigma, fraction, length)
    n = len(table)
    slots = np.arange(5 * n).reshape(n, 5)
    counts, jac = _run(edges, table.ravel(), _NO_POWERLAWS, slots, 5 * n)
    return counts, jac.reshape(n, 5, counts.size)


def tailed_gaussian_density(
    energies: ArrayLike, mu: float, sigma: float, fraction: float, length: float
) -> NDArray[np.float64]:
    """Density [1/keV] of a Gaussian with a low-energy tail at `energies` [keV], any shape."""
    energies = np.asarray(energies, dtype=float)
    z = (energies.ravel() - mu) / sigma
    tail = _tail_densities(z, float(sigma), float(length))
    gauss = _INV_SQRT_2PI / sigma * np.exp(-0.5 * z * z)
    return ((1.0 - fraction) * gauss + fraction * tail).reshape(energies.shape)


@njit(cache=True)
def _tail_densities(z, sigma, length):
    out = np.empty(z.size)
    for i in range(z.size):
        out[i] = _tail_density(z[i], sigma, length)
    return out


def _line_table(*columns: ArrayLike) -> NDArray[np.float64]:
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(c, dtype=float)) for c in columns))
    return np.ascontiguousarray(np.stack(arrays, axis=-1))
