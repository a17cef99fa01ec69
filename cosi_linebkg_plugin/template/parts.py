"""The covariance of the parts that a template is split into."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def split_covariance(covariance: Array, rows: Array, shares: Array, noise: Array) -> Array:
    """Covariance of the parts of components.

    The norms' covariance is shared out; the slices' noise (D, diagonal) moves counts between the
    parts of one component whose total is given: D - p (D1)^T - (D1) p^T + p p^T 1^T D 1.

    Parameters
    ----------
    covariance : ndarray, shape (n_labels, n_labels)
    rows : ndarray of int, shape (n_parts,)
        The component of each part.
    shares, noise : ndarray, shape (n_parts,)
    """
    unknown = np.isinf(np.diag(covariance))
    finite = np.where(np.isfinite(covariance), covariance, 0.0)
    out: Array = finite[np.ix_(rows, rows)] * np.outer(shares, shares)
    for row in np.unique(rows):
        own = np.flatnonzero(rows == row)
        p, d = shares[own], noise[own]
        block = np.diag(d) - np.outer(p, d) - np.outer(d, p) + np.outer(p, p) * d.sum()
        out[np.ix_(own, own)] += block
    out[np.diag_indices_from(out)] = np.where(unknown[rows], np.inf, np.diag(out))
    return out


def sums_covariance(covariance: Array, n_t: int, groups: Sequence[Sequence[int]]) -> Array:
    """Covariance of sums over groups of time bins, component after component.

    Parameters
    ----------
    covariance : ndarray, shape (n_labels * n_t, n_labels * n_t)
        Infinite variances make those of the sums infinite.
    """
    members = np.array([np.isin(np.arange(n_t), list(group)) for group in groups], dtype=float)
    sums = np.kron(np.eye(len(covariance) // n_t), members)
    unknown = sums @ np.isinf(np.diag(covariance)) > 0
    out: Array = sums @ np.where(np.isinf(covariance), 0.0, covariance) @ sums.T
    out[np.diag_indices_from(out)] = np.where(unknown, np.inf, np.diag(out))
    return out
