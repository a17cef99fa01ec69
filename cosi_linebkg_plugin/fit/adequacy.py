"""Does the model describe the fitted bins? Tests, where it fails, and the error that it implies.

Three tests, each sensitive to another failure: the deviance to any, the runs of the residuals'
signs to a slow drift, the largest residual to a single bin. A model is adequate if the smallest of
their p-values, times their number (Bonferroni), is not below `LEVEL`.

The systematic error s is the fraction by which the true content of each bin scatters about the
model, independently of the other bins: variance ``mu + (s mu)^2`` in place of mu. With residuals
r = (n - mu)/sqrt(mu), the Poisson fit's projection H = Q Q^T (Q an orthonormal basis of the
Jacobian over sqrt(mu)), and v = 1 + s^2 mu, the residuals have the covariance
``R = (1 - H) diag(v) (1 - H)``, and s solves ``sum r^2/v = tr(R/v)``: the right side is the number
of degrees of freedom at s = 0. What the fit absorbs is thereby accounted for.

References
----------
Baker & Cousins 1984, NIM 221, 437 (deviance). Wald & Wolfowitz 1940, Ann. Math. Stat. 11, 147
(runs). Sidak 1967, JASA 62, 626 (the largest of many residuals). Paule & Mandel 1982, J. Res. NBS
87, 377 (a common extra variance that makes chi-square equal its expectation). Rao 1948, Proc.
Camb. Phil. Soc. 44, 50 (the score test for a further line).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammainccinv, gammaln, ndtr, ndtri, pdtr, pdtrc

from ..spectrum.kernels import FLOOR
from ..spectrum.statistic import CHI2_MIN_EXPECTED, deviance_residuals

Array = NDArray[np.float64]

#: Chance of calling a right model inadequate.
LEVEL = 0.01

#: An inadequate fit whose systematic error is smaller may still be used: the error covers it.
TOLERABLE = 0.02

#: Of a residual, where the parameters follow a bin nearly everywhere: what little is left of such
#: a residual is not blown up. Away from the exact optimum (posterior medians) it means nothing.
LEAST_VARIANCE = 0.05

#: Bins that expect fewer counts are judged by the exact Poisson law.
_EXACT_BELOW = 25.0

#: The systematic error is looked for up to this fraction.
_LARGEST_SYSTEMATIC = 1e3

_ONE_SIGMA = float(ndtr(1.0))

#: An excess within this many widths of a line tells of the line's shape; below it and within this
#: many, perhaps of its tail.
_SAME_PLACE, _TAIL_REACH = 2.0, 6.0

#: How many places of a further line are named.
_MAX_PLACES = 3


@dataclass(frozen=True)
class Excess:
    """Where a further line would improve the fit most.

    Attributes
    ----------
    energy : float, keV
    z : float
        Significance at this energy, by the score test.
    p_value : float
        With the energies that were looked at counted.
    """

    energy: float
    z: float
    p_value: float


@dataclass(frozen=True)
class Adequacy:
    """How well a model describes the fitted bins.

    Attributes
    ----------
    deviance : float
    dof : int
    deviance_p_value : float or None
        From toys if `n_toys`, else by the chi-square law; None where neither holds.
    n_toys : int
    residuals : ndarray, shape (n_bins,)
        Pulls: deviance residuals over the standard deviation that the fit leaves them, in sigma;
        NaN in masked bins.
    runs, expected_runs : int, float
        Runs of equal signs of the residuals, and their expectation.
    runs_p_value : float or None
        Chance of so few runs; None where a bin expects fewer than 5 counts.
    worst : float
        The largest residual, in sigma.
    worst_range : (float, float), keV
        Its bin.
    worst_p_value : float
        Chance of one as large in any of the bins.
    systematic : float
        The fraction of each bin's counts that makes the fit adequate, whether it is or not.
    systematic_range : (float, float)
        68 % confidence limits.
    excesses : tuple of Excess
        Significant places for a further line, the most significant first; none where a bin
        expects fewer than 5 counts.
    """

    deviance: float
    dof: int
    deviance_p_value: float | None
    n_toys: int
    residuals: Array
    runs: int
    expected_runs: float
    runs_p_value: float | None
    worst: float
    worst_range: tuple[float, float]
    worst_p_value: float
    systematic: float
    systematic_range: tuple[float, float]
    excesses: tuple[Excess, ...]

    @property
    def p_value(self) -> float:
        """Of all tests together."""
        found = [self.deviance_p_value, self.runs_p_value, self.worst_p_value]
        usable = [p for p in found if p is not None]
        return min(1.0, len(usable) * min(usable))

    def is_adequate(self, level: float = LEVEL) -> bool:
        """True unless a right model would look as bad with a chance below `level`."""
        return self.p_value >= level

    @property
    def applied(self) -> float:
        """The systematic error that expected counts get: 0 if the fit is adequate.

        Where it is not although its bins scatter no more than Poisson noise (a drift, a single
        bin), the upper limit.
        """
        if self.is_adequate():
            return 0.0
        high = self.systematic_range[1]
        return self.systematic or (high if math.isfinite(high) else 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {
            "adequate": self.is_adequate(),
            "p_value": self.p_value,
            "deviance_p_value": self.deviance_p_value,
            "n_toys": self.n_toys,
            "runs": self.runs,
            "expected_runs": self.expected_runs,
            "runs_p_value": self.runs_p_value,
            "largest_residual": self.worst,
            "largest_residual_range": list(self.worst_range),
            "largest_residual_p_value": self.worst_p_value,
            "systematic_percent": 100.0 * self.applied,
            "systematic_percent_range": [
                100.0 * x if math.isfinite(x) else None for x in self.systematic_range
            ],
            "excesses": [{"energy": e.energy, "z": e.z} for e in self.excesses],
        }


def describe(
    adequacy: Adequacy,
    lines: Sequence[tuple[float, float]],
    tail: bool,
    at_limit: Sequence[float] = (),
) -> str:
    """In words: how well the model does, whether a template may use it, and what to try.

    Parameters
    ----------
    adequacy : Adequacy
    lines : sequence of (float, float), keV
        Energy and width of the fitted lines.
    tail : bool
        The lines have a low-energy tail.
    at_limit : sequence of float, keV
        Energies of lines at the end of their window.
    """
    a = adequacy
    text = f"deviance/dof = {a.deviance:.1f}/{a.dof} = {a.deviance / a.dof:.2f}, p "
    text += f"= {a.p_value:.2g}" if a.p_value > 1e-300 else "< 1e-300"
    if a.deviance_p_value is None:
        text += " by the largest residual alone (counts too low for the chi-square law, use toys)"
    elif a.n_toys:
        text += f" ({a.n_toys} toys)"
    if a.is_adequate():
        return f"{text}: the model describes the fitted bins. It may be used for a template."
    low, high = a.worst_range
    text += (
        f": the model does NOT describe the data. The largest residual is {a.worst:+.1f} sigma at "
        f"{low:.6g}-{high:.6g} keV"
    )
    if a.runs_p_value is not None and a.runs_p_value < LEVEL:
        text += f"; {a.runs} runs of equal signs, {a.expected_runs:.0f} expected"
    least, most = (100.0 * s for s in a.systematic_range)
    text += (
        f". The bins scatter by {100.0 * a.applied:.2g} % ({least:.2g}-{most:.2g}) beyond "
        "Poisson noise, which the errors of expected counts include. "
    )
    if a.applied <= TOLERABLE:
        text += "So small an error covers it: it may be used for a template"
    else:
        text += f"It should NOT be used for a template: above {100.0 * TOLERABLE:g} %"
        text += " the counts in the source range are a guess"
    return f"{text}. Try {', or '.join(_advice(a, lines, tail, at_limit))}."


def _advice(
    a: Adequacy, lines: Sequence[tuple[float, float]], tail: bool, at_limit: Sequence[float]
) -> list[str]:
    """What may make the model adequate, most promising first."""
    found = []
    for e in a.excesses:
        distance, line = min(
            ((abs(energy - e.energy) / width, energy) for energy, width in lines),
            default=(math.inf, 0.0),
        )
        stuck = line in at_limit
        same = distance < _SAME_PLACE and not stuck
        if stuck and distance < _TAIL_REACH:
            found.append(f"a wider window for the line at {line:.1f} keV, which is at its end")
        elif same or (distance < _TAIL_REACH and e.energy < line and not tail):
            shape = "a width of its own (width: own)" if tail else "a low-energy tail (tail: true)"
            found.append(f"{shape} for the line at {line:.1f} keV")
        if not same:
            found.append(f"a line near {e.energy:.1f} keV ({e.z:+.1f} sigma)")
    drifts = a.runs_p_value is not None and a.runs_p_value < LEVEL
    if drifts or not found:
        found.append("another continuum (broken_powerlaw, powerlaw_polynomial)")
    return [*dict.fromkeys(found), "fewer energies (mask)"]


def judge(
    edges: Array,
    counts: Array,
    used: NDArray[np.bool_],
    expected: Array,
    jacobian: Array,
    *,
    deviance: float,
    dof: int,
    deviance_p_value: float | None,
    n_toys: int = 0,
    line_width: Callable[[Array], Array],
) -> Adequacy:
    """Judge a fit by its numbers.

    Parameters
    ----------
    edges : ndarray, shape (n_bins + 1,), keV
    counts, expected : ndarray, shape (n_bins,)
    used : ndarray of bool, shape (n_bins,)
        The fitted bins.
    jacobian : ndarray, shape (n_free, n_bins)
        Derivatives of the expected counts to the parameters that were free to move.
    deviance, dof, deviance_p_value, n_toys
        As in `Adequacy`.
    line_width : callable
        Width [keV] of a line at each of some energies [keV].
    """
    n, mu = counts[used], np.maximum(expected[used], FLOOR)
    q = _basis(jacobian[:, used] / np.sqrt(mu))
    spread = np.sqrt(np.maximum(1.0 - np.sum(q**2, axis=1), LEAST_VARIANCE))
    pulls = _pulls(n, mu, spread)
    residuals = np.full(counts.size, np.nan)
    residuals[used] = pulls
    k = int(np.argmax(np.abs(pulls)))
    bin_index = int(np.flatnonzero(used)[k])
    few = mu.min() < CHI2_MIN_EXPECTED
    runs, expected_runs, runs_p = runs_test(n - mu)
    systematic, limits = _systematic((n - mu) / np.sqrt(mu), mu, q)
    return Adequacy(
        deviance,
        dof,
        deviance_p_value,
        n_toys,
        residuals,
        runs,
        expected_runs,
        None if few else runs_p,
        float(pulls[k]),
        (float(edges[bin_index]), float(edges[bin_index + 1])),
        _of_many(2.0 * float(ndtr(-abs(pulls[k]))), n.size),
        systematic,
        limits,
        () if few else _excesses(edges, used, n, mu, q, line_width),
    )


def runs_test(residuals: Array) -> tuple[int, float, float]:
    """Number of runs of equal signs, its expectation, and the chance of so few.

    Parameters
    ----------
    residuals : ndarray, shape (n,)
        0 counts as positive.

    Notes
    -----
    The exact distribution, given the numbers of either sign. The residuals of a fit are weakly
    anticorrelated, which makes the test conservative.

    References
    ----------
    Wald & Wolfowitz 1940, Ann. Math. Stat. 11, 147
    """
    positive = residuals >= 0
    a, b = int(positive.sum()), int((~positive).sum())
    runs = 1 + int(np.sum(positive[1:] != positive[:-1]))
    expected = 1.0 + 2.0 * a * b / (a + b)
    if not (a and b):  # one sign alone: one run, the only possibility
        return runs, expected, 1.0
    r = np.arange(2, runs + 1)
    half = r // 2
    even = math.log(2.0) + _log_binomial(a - 1, half - 1) + _log_binomial(b - 1, half - 1)
    odd = np.logaddexp(
        _log_binomial(a - 1, half) + _log_binomial(b - 1, half - 1),
        _log_binomial(a - 1, half - 1) + _log_binomial(b - 1, half),
    )
    log_p = np.where(r % 2 == 0, even, odd) - _log_binomial(a + b, np.array(a))
    return runs, expected, float(min(np.exp(log_p).sum(), 1.0))


def _log_binomial(n: int, k: NDArray[np.int64]) -> Array:
    """ln C(n, k), minus infinity outside 0 <= k <= n."""
    inside = (k >= 0) & (k <= n)
    safe = np.where(inside, k, 0)
    value = gammaln(n + 1) - gammaln(safe + 1) - gammaln(n - safe + 1)
    return np.where(inside, value, -np.inf)


def _basis(jacobian: Array) -> Array:
    """Orthonormal basis of what the fit absorbs, shape (n_bins, rank)."""
    size = np.sqrt(np.sum(jacobian**2, axis=1))
    scaled = jacobian[size > 0] / size[size > 0, None]
    if not scaled.size:
        return np.zeros((jacobian.shape[1], 0))
    u, values, _ = np.linalg.svd(scaled.T, full_matrices=False)
    return u[:, values > 1e-7 * values[0]]


def _pulls(n: Array, mu: Array, spread: Array) -> Array:
    """Residuals in sigma; at few counts those of the exact Poisson tail probability."""
    pulls = deviance_residuals(n, mu) / spread
    low = mu < _EXACT_BELOW
    if low.any():
        m, e = n[low], mu[low]
        above = pdtrc(np.maximum(m - 1.0, 0.0), e)  # P(N >= n)
        above = np.where(m > 0, above, 1.0)
        below = pdtr(m, e)  # P(N <= n)
        up = -ndtri(np.clip(above, 1e-300, 1.0))
        down = ndtri(np.clip(below, 1e-300, 1.0))
        # a discrete law leaves both tails above 1/2 near its middle: no residual
        pulls[low] = np.where(m >= e, np.maximum(up, 0.0), np.minimum(down, 0.0))
    return pulls


def _of_many(p: float, n: float) -> float:
    """Chance that the smallest of n independent p-values is below p (Sidak 1967)."""
    return -math.expm1(n * math.log1p(-min(p, 1.0 - 1e-16)))


def _systematic(r: Array, mu: Array, q: Array) -> tuple[float, tuple[float, float]]:
    """The fraction s that makes the fit adequate, and its 68 % limits; see the module."""
    n, rank = q.shape
    if n <= rank:
        return 0.0, (0.0, math.inf)

    def excess(s: float, quantile: float | None = None) -> float:
        """sum r^2/v minus its expectation, or minus a quantile of its distribution."""
        v = 1.0 + s * s * mu
        weighted = q.T @ (q / v[:, None])
        # R = v - Q (vQ)^T - (vQ) Q^T + Q (Q^T v Q) Q^T: traces from matrices of size 2 rank
        inner = q.T @ (q * v[:, None])
        one = np.eye(rank)
        product = np.block([[inner, -one], [-one, np.zeros_like(one)]]) @ np.block(
            [[weighted, one], [one, inner]]
        )
        mean = n + float(np.trace(product))
        variance = 2.0 * (n + 2.0 * float(np.trace(product)) + float(np.sum(product * product.T)))
        found = float(np.sum(r * r / v))
        if quantile is None:
            return found - mean
        # the law of a sum of squares: a scaled chi-square of the same mean and variance
        shape, scale = mean**2 / variance, variance / mean
        return found - scale * float(gammainccinv(shape, 1.0 - quantile))

    def solve(quantile: float | None) -> float:
        if excess(0.0, quantile) <= 0.0:
            return 0.0
        high = 1e-3
        while excess(high, quantile) > 0.0:
            high *= 4.0
            if high > _LARGEST_SYSTEMATIC:
                return math.inf
        return float(brentq(excess, 0.0, high, args=(quantile,), xtol=1e-7))

    return solve(None), (solve(_ONE_SIGMA), solve(1.0 - _ONE_SIGMA))


def _excesses(
    edges: Array,
    used: NDArray[np.bool_],
    n: Array,
    mu: Array,
    q: Array,
    line_width: Callable[[Array], Array],
) -> tuple[Excess, ...]:
    """Significant places for a further line: the score test at each energy of a grid."""
    centers = 0.5 * (edges[1:] + edges[:-1])[used]
    energies = [float(centers[0])]
    finest = float(np.median(np.diff(edges)))
    while energies[-1] < centers[-1]:
        here = float(line_width(np.array(energies[-1:]))[0])
        energies.append(energies[-1] + 0.5 * max(here, finest))
    energy = np.array(energies)
    width = line_width(energy)
    shape = np.diff(ndtr((edges - energy[:, None]) / width[:, None]), axis=1)[:, used]
    seen = shape.sum(axis=1) > 0.5  # a line in the mask is nothing that the data know of
    energy, width, shape = energy[seen], width[seen], shape[seen] / np.sqrt(mu)
    information = np.sum(shape**2, axis=1) - np.sum((shape @ q) ** 2, axis=1)
    enough = information > 1e-6 * np.sum(shape**2, axis=1)
    score = shape @ ((n - mu) / np.sqrt(mu))
    z = np.where(enough, score / np.sqrt(np.where(enough, information, 1.0)), 0.0)
    found: list[Excess] = []
    left = np.ones(z.size, bool)
    while left.any() and len(found) < _MAX_PLACES:
        best = int(np.argmax(np.where(left, z, -np.inf)))
        p = _of_many(float(ndtr(-z[best])), z.size)
        if p >= LEVEL:
            break
        found.append(Excess(float(energy[best]), float(z[best]), p))
        left &= np.abs(energy - energy[best]) > 5.0 * width[best]
    return tuple(found)
