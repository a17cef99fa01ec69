"""Everything compiled: bin integrals, likelihood, scoring, the scan for lines.

All of it is one file on purpose. numba caches a compiled function by the time stamp of its own
file: a function that calls one of another file would go on using the old one after an update.

Shapes and their formulas are documented in `lineshapes`, the statistic in `statistic`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

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
#: Expected counts below this [counts] are lifted to it, so that the logarithm stays finite.
FLOOR = 1e-12
#: Scoring stops when a step gains less than this in log-likelihood.
_SCORING_TOLERANCE = 1e-6
_MAX_SCORING_STEPS = 100
_MAX_CANDIDATES = 60
#: A line is scanned over this many sigma to either side: a start value needs no more.
_REACH = 4.0
_SQRT_HALF = math.sqrt(0.5)


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


@njit(cache=True)
def _add_broken(edges, log_mid, log_width, K, piv, alpha, xb, beta, total, jac, slots, with_jac):
    """K (E/piv)^alpha below xb, and K (xb/piv)^(alpha-beta) (E/piv)^beta above it."""
    log_piv, log_break = math.log(piv), math.log(xb / piv)
    factor = math.exp((alpha - beta) * log_break)
    for i in range(log_mid.size):
        below = above = d_alpha = d_beta = 0.0
        low, high = edges[i], edges[i + 1]
        if low < xb:
            end = min(high, xb)
            mid, width = log_mid[i], log_width[i]
            if end < high:
                mid, width = 0.5 * math.log(low * end), math.log1p((end - low) / low)
            below, _, d_alpha = _powerlaw_bin(mid, width, log_piv, piv, alpha)
        if high > xb:
            start = max(low, xb)
            mid, width = log_mid[i], log_width[i]
            if start > low:
                mid, width = 0.5 * math.log(start * high), math.log1p((high - start) / start)
            above, _, d_beta = _powerlaw_bin(mid, width, log_piv, piv, beta)
            above *= factor
            d_beta *= factor
        total[i] += K * (below + above)
        if with_jac:
            jac[slots[0], i] += below + above
            jac[slots[1], i] -= K * alpha / piv * (below + above)
            jac[slots[2], i] += K * (d_alpha + above * log_break)
            jac[slots[3], i] += K * above * (alpha - beta) / xb
            jac[slots[4], i] += K * (d_beta - above * log_break)


@njit(cache=True)
def _add_polynomial(log_mid, log_width, K, piv, index, c2, c3, total, jac, slots, with_jac):
    """K u^index (1 + c2 (u-1)^2 + c3 (u-1)^3) with u = E/piv, as a sum of four power laws."""
    log_piv = math.log(piv)
    second, third = (1.0, -2.0, 1.0, 0.0), (-1.0, 3.0, -3.0, 1.0)
    for i in range(log_mid.size):
        value = d_piv = d_index = d_c2 = d_c3 = 0.0
        for n in range(4):
            part, part_piv, part_index = _powerlaw_bin(
                log_mid[i], log_width[i], log_piv, piv, index + n
            )
            k = c2 * second[n] + c3 * third[n] + (1.0 if n == 0 else 0.0)
            value += k * part
            d_piv += k * part_piv
            d_index += k * part_index
            d_c2 += second[n] * part
            d_c3 += third[n] * part
        total[i] += K * value
        if with_jac:
            jac[slots[0], i] += value
            jac[slots[1], i] += K * d_piv
            jac[slots[2], i] += K * d_index
            jac[slots[3], i] += K * d_c2
            jac[slots[4], i] += K * d_c3


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
def _add_width(jac, slots, i, d_sigma, mu, sigma, slope):
    """Derivative to the width of a line; with sigma^2 = a + slope mu, to a, slope and mu."""
    if slots[5] < 0:
        jac[slots[2], i] += d_sigma
    else:
        d_variance = 0.5 * d_sigma / sigma
        jac[slots[2], i] += d_variance
        jac[slots[5], i] += d_variance * mu
        jac[slots[1], i] += d_variance * slope


@njit(cache=True)
def _add_gaussian(edges, F, mu, sigma, slope, reach, total, jac, slots, with_jac):
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
            _add_width(jac, slots, i, F * d_sigma / sigma, mu, sigma, slope)
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
def _add_tailed(
    edges, F, mu, sigma, slope, fraction, length, reach, folds, total, jac, slots, with_jac
):
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
            d_sigma = F * ((1.0 - fraction) * g_sigma / sigma + fraction * (s1 - s0))
            _add_width(jac, slots, i, d_sigma, mu, sigma, slope)
            jac[slots[3], i] += F * (tail - gauss)
            jac[slots[4], i] += F * fraction * (l1 - l0)
        z0, q0, p0 = z1, q1, p1
        o0, t0, s0, l0 = o1, t1, s1, l1


# --- all components in one pass -----------------------------------------------------------------


@njit(cache=True)
def line_sigma(theta, slots):
    """Width of a line [keV] from its row of slots: sigma, or sqrt(a + b mu)."""
    if slots[5] < 0:
        return theta[slots[2]]
    return math.sqrt(max(theta[slots[2]] + theta[slots[5]] * theta[slots[1]], 1e-12))


@njit(cache=True)
def accumulate(
    edges, log_mid, log_width, theta, continua, lines, reach, folds, total, jac, with_jac
):
    """Add every component's counts to `total`, and derivatives to `jac` if `with_jac`.

    Parameters
    ----------
    edges, log_mid, log_width : the fields of an `EnergyGrid`
    theta : ndarray, shape (n_slots,)
        Parameter values; several components may name the same slot (a shared sigma).
    continua : ndarray of int64, shape (n_continua, 6)
        Slots of K, piv, index; then -1, -1, 0 (power law), or xb, beta, 1 (broken), or
        c2, c3, 2 (times a polynomial).
    lines : ndarray of int64, shape (n_lines, 6)
        Slots of F, mu, sigma, fraction, length, and -1; fraction = -1 for a plain Gaussian. Where
        the last is a slot b, the third is a, and sigma^2 = a + b mu.
    reach, folds : float
        `FIT_REACH` or `FULL_REACH`, and the tail lengths that go with it.
    total : ndarray, shape (n_bins,), counts, changed in place
    jac : ndarray, shape (n_slots, n_bins), counts per unit of the parameter, changed in place
    with_jac : bool
    """
    for k in range(continua.shape[0]):
        s = continua[k]
        K, piv, index = theta[s[0]], theta[s[1]], theta[s[2]]
        if s[5] == 0:
            _add_powerlaw(log_mid, log_width, K, piv, index, total, jac, s, with_jac)
        elif s[5] == 1:
            _add_broken(
                edges, log_mid, log_width, K, piv, index, theta[s[3]], theta[s[4]], total, jac, s,
                with_jac,
            )  # fmt: skip
        else:
            _add_polynomial(
                log_mid, log_width, K, piv, index, theta[s[3]], theta[s[4]], total, jac, s,
                with_jac,
            )  # fmt: skip
    for k in range(lines.shape[0]):
        s = lines[k]
        F, mu, sigma = theta[s[0]], theta[s[1]], line_sigma(theta, s)
        slope = 0.0 if s[5] < 0 else theta[s[5]]
        if s[3] < 0:
            _add_gaussian(edges, F, mu, sigma, slope, reach, total, jac, s, with_jac)
        else:
            fraction, length = theta[s[3]], theta[s[4]]
            _add_tailed(
                edges, F, mu, sigma, slope, fraction, length, reach, folds, total, jac, s, with_jac
            )


@njit(cache=True)
def tail_densities(z, sigma, length):
    out = np.empty(z.size)
    for i in range(z.size):
        out[i] = _tail_density(z[i], sigma, length)
    return out


# --- statistic ----------------------------------------------------------------------------------


@njit(cache=True)
def half_deviance(counts, used, expected):
    """Sum over used bins of ``expected - counts + counts ln(counts / expected)``.

    Half of Baker & Cousins 1984 (NIM 221, 437), Eq. 13. Written around 1 so that it keeps its
    digits where model and data agree.

    Parameters
    ----------
    counts, expected : ndarray, shape (n_bins,), counts
    used : ndarray of bool, shape (n_bins,)
    """
    total = 0.0
    for i in range(counts.size):
        if used[i]:
            n, e = counts[i], max(expected[i], FLOOR)
            if n > 0.0:
                x = (e - n) / n
                total += n * (x - math.log1p(x))
            else:
                total += e
    return total


@njit(cache=True)
def score_residual(counts, used, expected):
    """d(half deviance)/d(expected) per bin: ``1 - counts/expected``, 0 where not used."""
    residual = np.zeros(counts.size)
    for i in range(counts.size):
        if used[i]:
            residual[i] = 1.0 - counts[i] / max(expected[i], FLOOR)
    return residual


# --- closed-form components: everything compiled -------------------------------------------------


@njit(cache=True)
def _add_penalty(gradient, information, theta, slots, means, weights):
    """Gaussian priors: their half chi-square; gradient and information changed in place."""
    value = 0.0
    for k in range(slots.size):
        difference = theta[slots[k]] - means[k]
        value += 0.5 * difference * difference * weights[k]
        gradient[slots[k]] += difference * weights[k]
        if information.size:
            information[slots[k], slots[k]] += weights[k]
    return value


@njit(cache=True)
def _expected(args, theta, with_jac):
    """Expected counts with the offset, and their Jacobian (of no rows without `with_jac`)."""
    data, kernel, _ = args
    total = data[2].copy()
    jac = np.zeros((theta.size if with_jac else 0, total.size))
    accumulate(
        kernel[0], kernel[1], kernel[2], theta, kernel[3], kernel[4], kernel[5], kernel[6],
        total, jac, with_jac,
    )  # fmt: skip
    return total, jac


@njit(cache=True)
def compiled_value(args, theta):
    """Half the deviance of closed-form components, plus penalties."""
    data, _, prior = args
    total, _ = _expected(args, theta, False)
    value = half_deviance(data[0], data[1], total)
    for k in range(prior[0].size):
        difference = theta[prior[0][k]] - prior[1][k]
        value += 0.5 * difference * difference * prior[2][k]
    return value


@njit(cache=True)
def compiled_gradient(args, theta):
    """Its gradient, shape (n_parameters,)."""
    data, _, prior = args
    total, jac = _expected(args, theta, True)
    gradient = _dot(jac, score_residual(data[0], data[1], total))
    _add_penalty(gradient, np.empty((0, 0)), theta, prior[0], prior[1], prior[2])
    return gradient


@njit(cache=True)
def compiled_scoring(args, theta):
    """Value, gradient and expected (Fisher) information."""
    data, _, prior = args
    total, jac = _expected(args, theta, True)
    return score_of(data[0], data[1], total, jac, theta, prior)


@njit(cache=True)
def score_of(counts, used, expected, jac, theta, prior):
    """Value, gradient and expected information from expected counts and their Jacobian."""
    n_parameters, n_bins = jac.shape
    value = half_deviance(counts, used, expected)
    gradient = _dot(jac, score_residual(counts, used, expected))
    information = np.zeros((n_parameters, n_parameters))
    weighted = np.empty(n_bins)
    for i in range(n_parameters):
        first, last = n_bins, 0
        for b in range(n_bins):
            weighted[b] = jac[i, b] / max(expected[b], FLOOR) if used[b] else 0.0
            if weighted[b] != 0.0:
                first, last = min(first, b), b + 1
        for j in range(i + 1):
            total = 0.0
            for b in range(first, last):
                total += weighted[b] * jac[j, b]
            information[i, j] = information[j, i] = total
    value += _add_penalty(gradient, information, theta, prior[0], prior[1], prior[2])
    return value, gradient, information


@njit(cache=True)
def _dot(jac, residual):
    out = np.zeros(jac.shape[0])
    for i in range(jac.shape[0]):
        for b in range(residual.size):
            out[i] += jac[i, b] * residual[b]
    return out


# --- damped scoring ------------------------------------------------------------------------------


@njit(cache=True)
def _damped_step(information, gradient, theta, slots, low, high, damping):
    """`theta` after one Levenberg-Marquardt step within limits; False if nothing can move.

    Parameters at a limit that the gradient pushes against stay; the matrix is scaled to
    correlations first, since a pivot flux and a line energy differ by a factor of a million.
    """
    n = 0
    moving = np.empty(slots.size, np.int64)
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
    factor = np.zeros((n, n))
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


# The two loops below are compiled for closed-form components, and run as they are where a
# component is a Python function.


def scoring_loop(value_of, scoring_of):
    """Levenberg-Marquardt on the expected information, within limits."""

    def minimise(args, theta, slots, low, high):
        damping = 1e-3
        value, gradient, information = scoring_of(args, theta)
        for _ in range(_MAX_SCORING_STEPS):
            gain = 0.0
            trial = theta
            while damping < 1e10:
                trial, moved = _damped_step(information, gradient, theta, slots, low, high, damping)
                if not moved:
                    break
                gain = value - value_of(args, trial)
                if gain > 0.0:
                    break
                damping *= 10.0
            if not gain > 0.0:
                break
            theta = trial
            damping = max(damping * 0.1, 1e-12)
            value, gradient, information = scoring_of(args, theta)
            if gain < _SCORING_TOLERANCE:
                break
        return theta, value

    return minimise


def hessian_loop(gradient_of):
    """Second derivatives from central differences of the analytic gradient."""

    def hessian(args, theta, slots, steps):
        rows = np.empty((slots.size, slots.size))
        shifted = theta.copy()
        for k in range(slots.size):
            shifted[slots[k]] = theta[slots[k]] + steps[k]
            up = gradient_of(args, shifted)
            shifted[slots[k]] = theta[slots[k]] - steps[k]
            down = gradient_of(args, shifted)
            shifted[slots[k]] = theta[slots[k]]
            for j in range(slots.size):
                rows[k, j] = (up[slots[j]] - down[slots[j]]) / (2.0 * steps[k])
        return 0.5 * (rows + rows.T)

    return hessian


compiled_minimise = njit(cache=True)(scoring_loop(compiled_value, compiled_scoring))
compiled_hessian = njit(cache=True)(hessian_loop(compiled_gradient))


# --- scan for lines ------------------------------------------------------------------------------


@njit(cache=True)
def place_lines(edges, counts, used, expected, slots, sigmas, windows, free, low, high, theta):
    """Put each line where it gains most, strongest first; `theta` is changed in place.

    `slots` are those of F and mu, shape (n_lines, 2); `sigmas` the widths [keV].
    """
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
                gain[k], best_mu[k], amplitude[k] = scan_window(
                    edges, residual, weight, windows[k, 0], windows[k, 1], sigmas[k]
                )
                stale[k] = False
            if best < 0 or gain[k] > gain[best]:
                best = k
        if gain[best] <= 0.0:
            break
        placed[best] = True
        f, sigma = slots[best, 0], sigmas[best]
        if free[f]:
            theta[f] = min(max(amplitude[best], low[f]), high[f])
        theta[slots[best, 1]] = best_mu[best]
        first, last = _line(edges, best_mu[best], sigma, shape)
        for b in range(first, last):
            residual[b] -= theta[f] * shape[b]
        for k in range(n_lines):
            near = _REACH * (sigma + sigmas[k])
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
def scan_window(edges, residual, weight, low, high, sigma):
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


@njit(cache=True)
def compiled_log_posterior(args, theta, free, low, high, points):
    """Log-posterior of each row of `points`, shape (n_points, n_free)."""
    out = np.empty(points.shape[0])
    values = theta.copy()
    for i in range(points.shape[0]):
        inside = True
        for k in range(free.size):
            x = points[i, k]
            values[free[k]] = x
            if not low[k] <= x <= high[k]:
                inside = False
        out[i] = -compiled_value(args, values) if inside else -np.inf
    return out


@njit(cache=True)
def _other(n, i, j):
    """A random walker of n that is neither i nor j."""
    while True:
        k = np.random.randint(n)
        if k != i and k != j:
            return k


@njit(cache=True)
def sweep_walkers(args, theta, free, low, high, scale, walkers, log_posterior, n_sweeps, seed):
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
            new = -compiled_value(args, values)
            if math.log(np.random.random()) < new - log_posterior[i] + log_factor:
                walkers[i] = trial
                log_posterior[i] = new
                moved[i] = True
    return moved
