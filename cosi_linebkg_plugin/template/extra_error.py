"""The extra error that makes measurements of the same thing agree: the tau of random effects."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri, ndtr

from ..spectrum.roots import root

Array = NDArray[np.float64]

#: Of one standard deviation of the normal law.
_ONE_SIGMA = float(ndtr(1.0))

#: Chance that an extra error is said to be there where there is none.
_FALSE = 0.05


@dataclass(frozen=True)
class ExtraError:
    """A standard deviation beyond the known errors, with its uncertainty.

    Attributes
    ----------
    value : float
        0 where the known errors are enough.
    low, high : float
        68 % confidence limits, high not below what the known errors would give it; infinite where
        nothing was measured.
    n : int
        Degrees of freedom that it was measured with.
    least : float
        It is larger than this with a confidence of 95 %; 0 where there may be none.
    """

    value: float
    low: float
    high: float
    n: int
    least: float = 0.0


def extra_error(
    residuals: ArrayLike, variances: ArrayLike, scales: ArrayLike = 1.0, dof: int | None = None
) -> ExtraError:
    """The tau for which residuals of mean 0 have the variances v_i + (tau s_i)^2.

    Solves Q(tau) = sum r_i^2 / (v_i + tau^2 s_i^2) = dof, the moment estimator of Paule & Mandel
    for a mean that is known. Its limits are the tau where Q is a quantile of the chi-square law
    of these degrees of freedom (Q-profile).

    Parameters
    ----------
    residuals, variances : array_like, shape (n,)
        Their variances without the extra error, above 0.
    scales : array_like, shape (n,) or scalar
        What tau is a fraction of.
    dof : int, optional
        Default: n; fewer where totals were made equal.

    References
    ----------
    Paule & Mandel 1982, J. Res. Natl. Bur. Stand. 87, 377; DerSimonian & Kacker 2007, Contemp.
    Clin. Trials 28, 105, Sect. 2.4; Viechtbauer 2007, Stat. Med. 26, 37, Sect. 3.6.
    """
    r, v = np.asarray(residuals, float), np.asarray(variances, float)
    s = np.broadcast_to(np.asarray(scales, float), r.shape)
    n = r.size if dof is None else dof
    if n < 1:
        return ExtraError(0.0, 0.0, math.inf, max(n, 0))

    low, high = (float(chdtri(n, p)) for p in (1.0 - _ONE_SIGMA, _ONE_SIGMA))
    squares = r**2
    return ExtraError(
        _solve(squares, v, s, n),
        _solve(squares, v, s, low),
        # residuals that happen to be small do not make the measurement any better
        max(_solve(squares, v, s, high), _solve(v * n / r.size, v, s, high)),
        n,
        _solve(squares, v, s, float(chdtri(n, _FALSE))),
    )


def _solve(squares: Array, variances: Array, scales: Array, quantile: float) -> float:
    """The tau of sum squares / (variances + tau^2 scales^2) = quantile; 0 if there is none."""

    def excess(tau: float) -> float:
        return float(np.sum(squares / (variances + (tau * scales) ** 2))) - quantile

    if excess(0.0) <= 0.0:
        return 0.0
    # here the sum is below the quantile, whatever the variances
    reach = 1.01 * float(np.sqrt(np.sum(squares / scales**2) / quantile))
    return root(excess, 0.0, reach, 1e-9 * reach)
