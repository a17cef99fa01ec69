"""Does the model describe the fitted bins? Tests, where it fails, and the error that it implies.

Three tests, each sensitive to another failure: the deviance to any, the runs of the residuals'
signs to a slow drift, the largest residual to a single bin. A model is adequate if the smallest of
their p-values, times their number (Bonferroni), is not below `LEVEL`.

The systematic error s is the fraction by which the true content of each bin scatters about the
model, independently of the other bins: variance ``mu + (s mu)^2`` in place of mu. With residuals
r = (n - mu)/sqrt(mu), the Poisson fit's projection H = Q Q^T (Q an orthonormal basis of the
Jacobian over sqrt(mu)), and v = 1 + s^2 mu, the residuals have the covariance
``R = (1 - H) diag(v) (1 - H)``, and s solves ``sum r^2/v = tr(R/v)``: the right side is the number
of degrees of freedom at s = 0. What the fit absorbs is thereby accounted for. Where other spectra
tell the same parameters, with the covariance C, H is A C A^T (A the Jacobian over sqrt(mu)), and R
has H - H^2 on top: the other spectra's noise.

References
----------
Baker & Cousins 1984, NIM 221, 437 (deviance). Wald & Wolfowitz 1940, Ann. Math. Stat. 11, 147
(runs). Sidak 1967, JASA 62, 626 (the largest of many residuals). Paule & Mandel 1982, J. Res. NBS
87, 377 (a common extra variance that makes chi-square equal its expectation). Further lines:
`cosi_linebkg_plugin.fit.score`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainccinv, gammaln, ndtr, ndtri, pdtr, pdtrc

from ..spectrum.axis import EnergySpectrum, bins_to_ranges
from ..spectrum.kernels import FLOOR
from ..spectrum.roots import falls_to_zero
from ..spectrum.statistic import CHI2_MIN_EXPECTED, chi2_p_value, deviance_residuals, half_deviance
from .score import Residuals, log_chance

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
        With the energies that were looked at counted (`score.log_chance`).
    """

    energy: float
    z: float
    p_value: float


@dataclass(frozen=True)
class GoodnessTest:
    """One test of a fit, as texts, tables and figures name it.

    Attributes
    ----------
    name : str
        "deviance", "runs of equal signs" or "largest residual".
    result : str
        What was found: "214.6 for 226 degrees of freedom".
    p_value : float or None
        Chance of a worse result if the model is right.
    law : str
        Where the p-value comes from, or why there is none.
    """

    name: str
    result: str
    p_value: float | None
    law: str


@dataclass(frozen=True, eq=False)
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
        Deviance residuals over the standard deviation that the fit leaves them, in sigma (where
        a bin expects few counts, those of the exact Poisson law); NaN in masked bins.
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
    step_z : float or None
        Significance of a step under the lines by the score test, in sigma; None where the model
        has one, or no line.
    long_tails : tuple of str
        Lengths of tails that are as long as a fit lets them be (`fit.restarts.LONGEST_TAIL`): such
        a tail does the work of something else, whatever the tests say.
    tail_widths : float or None
        Where the fit fails and its lines have no tail: the length, in widths of the lines, of the
        tail that the score test likes best; above `fit.restarts.LONGEST_TAIL` a tail would end at
        that limit. None where no tail gains anything.
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
    step_z: float | None = None
    long_tails: tuple[str, ...] = ()
    tail_widths: float | None = None

    @property
    def tests(self) -> tuple[GoodnessTest, ...]:
        """The three tests, for texts and tables: each p-value with what it is of."""
        few = "counts too low for the chi-square law, use toys"
        law = f"{self.n_toys} toys" if self.n_toys else "chi-square law"
        low, high = self.worst_range
        return (
            GoodnessTest(
                "deviance",
                f"{self.deviance:.1f} for {self.dof} degrees of freedom",
                self.deviance_p_value,
                few if self.deviance_p_value is None else law,
            ),
            GoodnessTest(
                "runs of equal signs",
                f"{self.runs}, {self.expected_runs:.0f} expected",
                self.runs_p_value,
                "counts too low" if self.runs_p_value is None else "exact, given the signs",
            ),
            GoodnessTest(
                "largest residual",
                f"{self.worst:+.1f} sigma at {low:.6g}-{high:.6g} keV",
                self.worst_p_value,
                "the largest of all fitted bins",
            ),
        )

    @property
    def p_value(self) -> float:
        """Of all tests together: the smallest times their number (Bonferroni)."""
        usable = [t.p_value for t in self.tests if t.p_value is not None]
        return min(1.0, len(usable) * min(usable))

    @property
    def combination(self) -> str:
        """What `p_value` is, in words."""
        names = [t.name for t in self.tests if t.p_value is not None]
        if len(names) == 1:
            return f"{names[0]} alone"
        return f"{len(names)} times the smallest of {', '.join(names[:-1])} and {names[-1]}"

    def is_adequate(self, level: float = LEVEL) -> bool:
        """True unless a right model would look as bad with a chance below `level`.

        Not with a tail at its longest.
        """
        return self.p_value >= level and not self.long_tails

    @property
    def applied(self) -> float:
        """The systematic error that expected counts get: 0 if the fit passes the tests.

        Where it is not although its bins scatter no more than Poisson noise (a drift, a single
        bin), the upper limit.
        """
        if self.p_value >= LEVEL:
            return 0.0
        high = self.systematic_range[1]
        return self.systematic or (high if math.isfinite(high) else 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {
            "adequate": self.is_adequate(),
            "p_value": self.p_value,
            "p_value_of": self.combination,
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
            "step_z": self.step_z,
            "long_tails": list(self.long_tails),
            "tail_widths": self.tail_widths,
        }


def deviance_p_value(
    deviance: float, dof: int, expected: Array, toys: tuple[float, int] | None
) -> float | None:
    """Chance of a larger deviance: from toys, else by the chi-square law where that holds.

    Parameters
    ----------
    expected : ndarray, shape (n_used,), counts
        Of the fitted bins.
    toys : (p-value, their number) or None
    """
    return chi2_p_value(deviance, dof, expected) if toys is None else toys[0]


def judge(
    spectrum: EnergySpectrum,
    expected: Array,
    fitted: Residuals,
    continuum: Array,
    line_width: Callable[[Array], Array] | None,
    *,
    dof: int,
    toys: tuple[float, int] | None = None,
    step: Array | None = None,
) -> Adequacy:
    """Judge a fit by its numbers.

    Parameters
    ----------
    spectrum : EnergySpectrum
    expected : ndarray, shape (n_bins,), counts
    fitted : Residuals
        Of the fitted bins, with all parameters that were free to move.
    continuum : ndarray, shape (n, n_bins)
        Derivatives of the expected counts to those of the continuum alone.
    line_width : callable
        Width [keV] of a line at each of some energies [keV]. None for `Adequacy.applied` alone:
        no search for further lines, and no systematic error of a fit that passes the tests.
    dof : int
    toys : (float, int), optional
        p-value of the deviance from simulated spectra, and their number.
    step : ndarray, shape (n_bins,), optional
        A step under the lines that the model lacks, of any height.
    """
    edges, counts, used = spectrum.edges, spectrum.counts, spectrum.used
    deviance = 2.0 * float(half_deviance(counts, used, expected))
    n, mu = counts[used], np.maximum(expected[used], FLOOR)
    q = fitted.basis
    spread = np.sqrt(np.maximum(1.0 - np.sum(q**2, axis=1), LEAST_VARIANCE))
    pulls = poisson_pulls(n, mu, spread)
    residuals = np.full(counts.size, np.nan)
    residuals[used] = pulls
    k = int(np.argmax(np.abs(pulls)))
    bin_index = int(np.flatnonzero(used)[k])
    few = mu.min() < CHI2_MIN_EXPECTED
    runs, expected_runs, runs_p = runs_test(n - mu)
    tested = Adequacy(
        deviance,
        dof,
        deviance_p_value(deviance, dof, expected[used], toys),
        0 if toys is None else toys[1],
        residuals,
        runs,
        expected_runs,
        None if few else runs_p,
        float(pulls[k]),
        (float(edges[bin_index]), float(edges[bin_index + 1])),
        _of_many(2.0 * float(ndtr(-abs(pulls[k]))), n.size),
        0.0,
        (0.0, math.inf),
        (),
        None if step is None else _step_z(fitted, step[used]),
    )
    if line_width is None and tested.p_value >= LEVEL:
        return tested
    systematic, limits = _systematic(fitted.values, mu, q)
    tested = replace(tested, systematic=systematic, systematic_range=limits)
    if few or line_width is None:
        return tested
    alone = Residuals.of(n, mu, continuum[:, used])
    return replace(tested, excesses=_excesses(edges, used, fitted, alone, line_width))


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
    """Logarithm of C(n, k), minus infinity outside 0 <= k <= n."""
    inside = (k >= 0) & (k <= n)
    safe = np.where(inside, k, 0)
    value = gammaln(n + 1) - gammaln(safe + 1) - gammaln(n - safe + 1)
    return np.asarray(np.where(inside, value, -np.inf), dtype=float)


def poisson_pulls(n: Array, mu: Array, spread: Array | float = 1.0) -> Array:
    """Residuals in sigma; at few counts those of the exact Poisson tail probability.

    Parameters
    ----------
    n, mu : ndarray, shape (n,), counts
        Observed and expected, the latter above 0.
    spread : ndarray, shape (n,), or float
        Standard deviation that a fit leaves deviance residuals.
    """
    pulls: Array = deviance_residuals(n, mu) / spread
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


def _step_z(residuals: Residuals, step: Array) -> float:
    """Significance of a shape of counts in the fitted bins, by the score test."""
    return float(score_of_shapes(residuals, step[None, :])[0])


def score_of_shapes(residuals: Residuals, shapes: Array) -> Array:
    """Significance of shapes of counts in the fitted bins, each by the score test.

    Parameters
    ----------
    shapes : ndarray, shape (n, n_used)
        Of any height.

    Returns
    -------
    ndarray, shape (n,), sigma
        0 for a shape that the fit has already.
    """
    scaled = shapes * residuals.scale
    explained, full = scaled @ residuals.basis, np.sum(scaled**2, axis=1)
    size = full - np.sum(explained**2, axis=1)
    known = size <= 1e-6 * full
    gains = scaled @ residuals.values - explained @ residuals.of_basis
    z = gains / np.sqrt(np.where(known, 1.0, size))
    return np.asarray(np.where(known, 0.0, z), dtype=float)


def _of_many(p: float, n: float) -> float:
    """Chance that the smallest of n independent p-values is below p (Sidak 1967)."""
    return -math.expm1(n * math.log1p(-min(p, 1.0 - 1e-16)))


def _systematic(r: Array, mu: Array, q: Array) -> tuple[float, tuple[float, float]]:
    """The fraction s that makes the fit adequate, and its 68 % limits; see the module."""
    n, rank = q.shape
    if n <= rank:
        return 0.0, (0.0, math.inf)
    one, own = np.eye(rank), q.T @ q

    def excess(s: float, quantile: float | None = None) -> float:
        """The sum of r^2/v minus its expectation, or minus a quantile of its distribution."""
        v = 1.0 + s * s * mu
        weighted = q.T @ (q / v[:, None])
        # R = v - Q (vQ)^T - (vQ) Q^T + Q (Q^T v Q + 1 - Q^T Q) Q^T: traces from matrices of size
        # 2 rank; other data scatter by their Poisson noise, which is 1 - Q^T Q
        inner = q.T @ (q * v[:, None])
        product = np.block([[inner + one - own, -one], [-one, np.zeros_like(one)]]) @ np.block(
            [[weighted, own], [own, inner]]
        )
        mean = n + float(np.trace(product))
        variance = 2.0 * (n + 2.0 * float(np.trace(product)) + float(np.sum(product * product.T)))
        found = float(np.sum(r * r / v))
        if quantile is None:
            return float(found - mean)
        # the law of a sum of squares: a scaled chi-square of the same mean and variance
        shape, scale = mean**2 / variance, variance / mean
        return float(found - scale * float(gammainccinv(shape, 1.0 - quantile)))

    def solve(quantile: float | None) -> float:
        if excess(0.0, quantile) <= 0.0:
            return 0.0
        high = 1e-3
        while excess(high, quantile) > 0.0:
            high *= 4.0
            if high > _LARGEST_SYSTEMATIC:
                return math.inf
        return falls_to_zero(lambda s: excess(s, quantile), high, 24)

    return solve(None), (solve(_ONE_SIGMA), solve(1.0 - _ONE_SIGMA))


def _excesses(
    edges: Array,
    used: NDArray[np.bool_],
    residuals: Residuals,
    continuum: Residuals,
    line_width: Callable[[Array], Array],
) -> tuple[Excess, ...]:
    """Significant places for a further line: the score test at each energy of a grid."""

    def shapes(energies: Array) -> Array:
        width = line_width(energies)[:, None]
        below: Array = ndtr((edges - energies[:, None]) / width)
        return np.diff(below, axis=1)[:, used]

    grids, finest = [], float(np.median(np.diff(edges)))
    for low, high in bins_to_ranges(edges, used):
        grid = _energies(low, high, finest, line_width)
        # a line that is mostly in the mask is nothing that the data know of
        grid = grid[shapes(grid).sum(axis=1) > 0.5]
        if grid.size:
            grids.append(grid)
    if not grids:
        return ()
    length = sum(continuum.curve_length(shapes, grid) for grid in grids)
    energy = np.concatenate(grids)
    width = line_width(energy)
    z, _ = residuals.score(shapes, energy)
    found: list[Excess] = []
    left = np.ones(z.size, bool)
    while left.any() and len(found) < _MAX_PLACES:
        best = int(np.argmax(np.where(left, z, -np.inf)))
        chance = log_chance(float(z[best]), len(grids), length)
        if chance >= math.log(LEVEL):
            break
        found.append(Excess(float(energy[best]), float(z[best]), math.exp(chance)))
        left &= np.abs(energy - energy[best]) > 5.0 * width[best]
    return tuple(found)


def _energies(
    low: float, high: float, finest: float, line_width: Callable[[Array], Array]
) -> Array:
    """Energies from `low` to `high` keV, half a line's width, or half a bin, apart."""
    energies = [low + 0.5 * finest]
    while energies[-1] < high:
        width = float(line_width(np.array(energies[-1:]))[0])
        energies.append(energies[-1] + 0.5 * max(width, finest))
    return np.asarray(np.minimum(energies, high), dtype=float)
