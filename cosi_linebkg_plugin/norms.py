"""Poisson fit of template norms to binned counts: a small convex problem with many cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import FitError, TemplateError
from .statistic import log_likelihood

_MAX_STEPS = 100


@dataclass(frozen=True)
class NormFit:
    """Norms fitted to observed counts.

    Attributes
    ----------
    labels : tuple of str
    values : ndarray, shape (n_labels,)
        Counts of background components; factors of sky templates.
    covariance : ndarray, shape (n_labels, n_labels)
        From the second derivatives; 0 for a norm that ended at 0.
    log_likelihood : float
        Poisson, with its constant term, without the constraint.
    """

    labels: tuple[str, ...]
    values: NDArray[np.float64]
    covariance: NDArray[np.float64]
    log_likelihood: float

    @property
    def errors(self) -> NDArray[np.float64]:
        return np.sqrt(np.diag(self.covariance))

    def __getitem__(self, label: str) -> tuple[float, float]:
        """Value and standard error of one norm."""
        i = self.labels.index(label)
        return float(self.values[i]), float(self.errors[i])

    def __str__(self) -> str:
        return "\n".join(
            f"{label:<14} {value:>12.5g} +- {error:.3g}"
            for label, value, error in zip(self.labels, self.values, self.errors, strict=True)
        )


def fit_poisson_norms(
    observed: ArrayLike,
    shapes: Sequence[ArrayLike],
    labels: Sequence[str],
    *,
    start: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    precision: ArrayLike | None = None,
) -> NormFit:
    """Maximise the Poisson likelihood of ``sum_k norm_k shape_k`` for norms >= 0.

    Newton steps with the observed information and step halving; the problem is convex. Cells
    without counts enter by the sums of the shapes alone.

    Parameters
    ----------
    observed : array_like, any shape, counts
    shapes : sequence of array_like, each of the shape of `observed`
    labels : sequence of str
    start : array_like, shape (n_shapes,), optional
    mean, precision : array_like, shapes (n_shapes,) and (n_shapes, n_shapes), optional
        A Gaussian constraint on the norms: its mean and inverse covariance.

    Raises
    ------
    TemplateError
        If counts are observed where every shape is 0; says in how many cells.
    FitError
        If it does not converge.
    """
    counts = np.asarray(observed, dtype=float).ravel()
    table = np.array([np.asarray(s, dtype=float).ravel() for s in shapes])
    filled = counts > 0
    n, t = counts[filled], table[:, filled]
    empty = ~(t > 0).any(axis=0)
    if empty.any():
        raise TemplateError(
            f"{int(empty.sum())} cells with {n[empty].sum():g} observed counts hold 0 in every "
            "template; make the template positive (a filter, or the default) before fitting norms."
        )
    sums = table.sum(axis=1)
    k = len(labels)
    m = np.zeros(k) if mean is None else np.asarray(mean, dtype=float)
    p = np.zeros((k, k)) if precision is None else np.asarray(precision, dtype=float)
    norms = n.sum() / k / np.maximum(sums, 1e-300) if start is None else np.array(start, float)
    norms = np.maximum(norms, 1e-6 * n.sum() / k / np.maximum(sums, 1e-300))

    def cost(a: NDArray[np.float64]) -> float:
        expected = a @ t
        if np.any(expected <= 0):
            return np.inf
        return float(a @ sums - n @ np.log(expected) + 0.5 * (a - m) @ p @ (a - m))

    value = cost(norms)
    for _ in range(_MAX_STEPS):
        ratio = n / (norms @ t)
        gradient = sums - t @ ratio + p @ (norms - m)
        free = ~((norms <= 0) & (gradient >= 0))
        hessian = (t * (ratio / (norms @ t))) @ t.T + p
        step = np.zeros(k)
        block = hessian[np.ix_(free, free)]
        if not free.any():
            break
        step[free] = -np.linalg.lstsq(block, gradient[free], rcond=1e-12)[0]
        decrement = -float(gradient @ step)
        if decrement < 1e-10:
            break
        size = 1.0
        while size > 1e-10:
            trial = np.maximum(norms + size * step, 0.0)
            trial_value = cost(trial)
            if trial_value < value:
                break
            size *= 0.5
        else:
            break  # rounding is all that is left
        norms, value = trial, trial_value
    else:
        raise FitError(
            f"The fit of the norms of {', '.join(labels)} did not converge in {_MAX_STEPS} steps; "
            "check that the templates differ from each other."
        )
    covariance = np.zeros((k, k))
    try:
        covariance[np.ix_(free, free)] = np.linalg.inv(block)
    except np.linalg.LinAlgError:
        raise FitError(
            f"The observed counts do not tell apart the templates {', '.join(labels)}; leave one "
            "of them out."
        ) from None
    return NormFit(tuple(labels), norms, covariance, log_likelihood(counts, norms @ table))
