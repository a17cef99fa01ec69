"""Poisson likelihood, deviance and goodness of fit of a binned spectrum."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, gammaln, xlogy

from .kernels import FLOOR, half_deviances

#: The chi-square law of the deviance is trusted when every fitted bin expects this many counts.
CHI2_MIN_EXPECTED = 5.0


def half_deviance(
    counts: NDArray[np.float64], used: NDArray[np.bool_], expected: NDArray[np.float64]
) -> float:
    """Sum over used bins of ``expected - counts + counts ln(counts / expected)``.

    Half of Baker & Cousins 1984 (NIM 221, 437), Eq. 13.

    Parameters
    ----------
    counts, expected : ndarray, shape (n_bins,), counts
    used : ndarray of bool, shape (n_bins,)
    """
    return float(half_deviances(*_arrays(counts, expected))[used].sum())


def score_residual(
    counts: NDArray[np.float64], used: NDArray[np.bool_], expected: NDArray[np.float64]
) -> NDArray[np.float64]:
    """d(half deviance)/d(expected) per bin: ``(expected - counts)/expected``, 0 where not used."""
    e = np.maximum(expected, FLOOR)
    return np.where(used, (e - counts) / e, 0.0)


def saturated_log_likelihood(counts: ArrayLike) -> float:
    """Log-likelihood of the model that equals the data: sum of n ln n - n - ln n!."""
    n = np.asarray(counts, dtype=float)
    return float(np.sum(xlogy(n, n) - n - gammaln(n + 1.0)))


def log_likelihood(counts: ArrayLike, expected: ArrayLike) -> float:
    """Poisson log-likelihood with its constant term, sum of n ln(e) - e - ln(n!).

    Parameters
    ----------
    counts, expected : array_like, shape (n_bins,), counts
        Weighted (non-integer) counts are accepted: n! is Gamma(n + 1).
    """
    n, e = _arrays(counts, expected)
    return saturated_log_likelihood(n) - float(half_deviances(n, e).sum())


def deviance(counts: ArrayLike, expected: ArrayLike) -> float:
    """Baker & Cousins 1984 (NIM 221, 437): twice the log-likelihood ratio to the saturated model.

    Parameters
    ----------
    counts, expected : array_like, shape (n_bins,), counts
    """
    n, e = _arrays(counts, expected)
    return 2.0 * float(half_deviances(n, e).sum())


def deviance_residuals(counts: ArrayLike, expected: ArrayLike) -> NDArray[np.float64]:
    """Signed square roots of each bin's deviance, in sigma, shape (n_bins,)."""
    n, e = _arrays(counts, expected)
    size: NDArray[np.float64] = np.sqrt(2.0 * half_deviances(n, e))
    return np.sign(n - np.maximum(e, FLOOR)) * size


def chi2_p_value(value: float, dof: int, expected: ArrayLike) -> float | None:
    """Probability of a larger deviance, or None where the chi-square law does not hold.

    Parameters
    ----------
    value : float
        The deviance.
    dof : int
    expected : array_like, shape (n_fitted_bins,), counts
        If any is below `CHI2_MIN_EXPECTED`, or dof < 1, the answer is None: use toys.
    """
    if dof < 1 or np.min(expected) < CHI2_MIN_EXPECTED:
        return None
    return float(chdtrc(dof, value))


def _arrays(
    counts: ArrayLike, expected: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # copies: to numba an array that cannot be written to is of another type, compiled anew
    n = np.array(counts, dtype=float, order="C")
    return n, np.array(np.broadcast_to(np.asarray(expected, dtype=float), n.shape), order="C")
