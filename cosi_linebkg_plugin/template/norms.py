"""Poisson fit of template norms to binned counts: a small convex problem with many cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..consumers.rates import forbidden_norm
from ..errors import FitError, TemplateError
from ..spectrum.statistic import log_likelihood

_MAX_STEPS = 100


@dataclass(frozen=True, eq=False)
class NormFit:
    """Norms fitted to observed counts.

    Attributes
    ----------
    labels : tuple of str
    values : ndarray, shape (n_labels,)
        Counts of background components; factors of sky templates.
    covariance : ndarray, shape (n_labels, n_labels)
        From the second derivatives; that of a norm that ended at 0 from its own curvature.
    log_likelihood : float
        Poisson, with its constant term, without the constraint.
    """

    labels: tuple[str, ...]
    values: NDArray[np.float64]
    covariance: NDArray[np.float64]
    log_likelihood: float

    @property
    def errors(self) -> NDArray[np.float64]:
        """Standard errors, shape (n_labels,)."""
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
    mean: ArrayLike | None = None,
    precision: ArrayLike | None = None,
    signed: int = 0,
) -> NormFit:
    """Maximise the Poisson likelihood of ``sum_k norm_k shape_k`` for norms >= 0.

    Newton steps with the observed information and step halving; the problem is convex. Cells
    without counts enter by the sums of the shapes alone.

    Parameters
    ----------
    observed : array_like, any shape, counts
    shapes : sequence of array_like, each of the shape of `observed`
    labels : sequence of str
    mean, precision : array_like, shapes (n_shapes,) and (n_shapes, n_shapes), optional
        A Gaussian constraint on the norms: its mean and inverse covariance.
    signed : int
        The last so many shapes are differences, of any sign and any norm.

    Raises
    ------
    TemplateError
        If counts are observed where every shape is 0; says in how many cells. If none are
        observed, and nothing else holds the norms.
    FitError
        If it does not converge.
    """
    counts = np.asarray(observed, dtype=float).ravel()
    table = np.array([np.asarray(s, dtype=float).ravel() for s in shapes])
    filled = counts > 0
    n, t = counts[filled], table[:, filled]
    k = len(labels)
    plain = k - signed
    empty = ~(t[:plain] > 0).any(axis=0)
    if empty.any():
        raise TemplateError(
            f"{int(empty.sum())} cells with {n[empty].sum():g} observed counts hold 0 in every "
            "template; make the template positive (a filter, or the default) before fitting norms."
        )
    if not filled.any() and not np.any(precision):
        raise TemplateError("The observed counts are all 0; there is nothing to fit the norms to.")
    # Everything is fitted in counts: a sky map may be given per unit flux, 1e7 times another.
    sums = np.concatenate([table[:plain].sum(axis=1), np.abs(table[plain:]).sum(axis=1)])
    if np.any(sums <= 0):
        bad = ", ".join(label for label, x in zip(labels, sums, strict=True) if not x > 0)
        raise TemplateError(f"The template of {bad} holds nothing; leave it out.")
    m = np.zeros(k) if mean is None else np.asarray(mean, dtype=float) * sums
    p = (
        np.zeros((k, k))
        if precision is None
        else np.asarray(precision / np.outer(sums, sums), float)
    )
    whole = table.sum(axis=1) / sums  # 1 but for differences
    found = _maximise(n, t / sums[:, None], m, p, whole, plain)
    if found is None:
        raise _not_converged(labels)
    fitted, free, hessian = found
    covariance = np.diag(1.0 / np.maximum(np.diag(hessian), 1e-300))  # of norms that ended at 0
    block = np.ix_(free, free)
    root = np.sqrt(np.diag(hessian)[free])
    values, vectors = np.linalg.eigh(hessian[block] / np.outer(root, root))
    if values.size and values[0] < 1e-10:
        raise FitError(
            f"The observed counts do not tell apart the templates {', '.join(labels)}; leave one "
            "of them out."
        )
    covariance[block] = (vectors / values) @ vectors.T / np.outer(root, root)
    return NormFit(
        tuple(labels),
        fitted / sums,
        covariance / np.outer(sums, sums),
        log_likelihood(counts, fitted / sums @ table),
    )


def _maximise(
    n: NDArray[np.float64],
    t: NDArray[np.float64],
    m: NDArray[np.float64],
    p: NDArray[np.float64],
    whole: NDArray[np.float64],
    plain: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]] | None:
    """The optimum, which norms are off their limit there, and the second derivatives.

    Parameters
    ----------
    n : ndarray, shape (n_cells,)
        Counts, none 0.
    t : ndarray, shape (k, n_cells)
        Shapes in these cells, each a share of its sum over all cells.
    m, p : ndarray, shapes (k,) and (k, k)
        Mean and inverse covariance of the constraint.
    whole : ndarray, shape (k,)
        The sums of the shapes over all cells.
    plain : int
        The norms of so many are 0 or more.

    Returns
    -------
    tuple or None
        None if it does not converge.
    """
    k = m.size
    signed = np.arange(k) >= plain
    norms = np.where(signed, 0.0, n.sum() / plain)

    def cost(a: NDArray[np.float64]) -> float:
        expected = a @ t
        if np.any(expected <= 0):
            return np.inf
        return float(a @ whole - n @ np.log(expected) + 0.5 * (a - m) @ p @ (a - m))

    value = cost(norms)
    for _ in range(_MAX_STEPS):
        expected = norms @ t
        ratio = n / expected
        gradient = whole - t @ ratio + p @ (norms - m)
        hessian = (t * (ratio / expected)) @ t.T + p
        free = signed | ~((norms <= 0) & (gradient >= 0))
        step = np.zeros(k)
        step[free] = -_solve(hessian[np.ix_(free, free)], gradient[free])
        if -float(gradient @ step) < 1e-10:
            return norms, free, hessian
        size = 1.0
        while size > 1e-10:
            trial = norms + size * step
            trial[:plain] = np.maximum(trial[:plain], 0.0)
            trial_value = cost(trial)
            if trial_value < value:
                break
            size *= 0.5
        else:
            return norms, free, hessian  # rounding is all that is left
        norms, value = trial, trial_value
    return None


def fit_component_norms(
    observed: NDArray[np.float64],
    maps: Mapping[str, NDArray[np.float64]],
    counts: Mapping[str, float],
    covariance: NDArray[np.float64],
    skies: Sequence[NDArray[np.float64]],
    constrain: bool,
    differences: Sequence[NDArray[np.float64]] = (),
) -> NormFit:
    """The counts of a template's components, and the norms of skies, that observed counts imply.

    Parameters
    ----------
    observed : ndarray, counts
    maps : mapping of label to ndarray, of the shape of `observed`
        Of any sum.
    counts : mapping of label to float
    covariance : ndarray, shape (n_labels, n_labels), counts^2
        Of `counts`; infinite variance for what is not known.
    skies : sequence of ndarray, of the shape of `observed`, counts
    constrain : bool
        Whether `counts` and `covariance` are a Gaussian constraint; an amount without an error is
        then held to a millionth.
    differences : sequence of ndarray, that broadcast against the maps
        Ways in which "lines" may differ from its map, relative to it, each at an amplitude of
        0 +- 1.

    Returns
    -------
    NormFit
        Of the labels, "sky_1", "sky_2" ..., and the amplitudes "lines_spread_1" ...
    """
    labels = [*maps, *(f"sky_{i}" for i in range(1, len(skies) + 1))]
    shapes = [m * (1.0 / float(m.sum())) for m in maps.values()]
    k, n = len(maps), len(labels)
    mean, precision = np.zeros(n), np.zeros((n, n))
    if constrain:
        mean[:k] = [counts[label] for label in maps]
        variances = np.diag(covariance)
        known = np.flatnonzero(np.isfinite(variances))
        block = np.ix_(known, known)
        exact = np.where(variances == 0, (1e-6 * np.maximum(mean[:k], 1.0)) ** 2, 0.0)
        precision[block] = np.linalg.inv((covariance + np.diag(exact))[block])
    shapes += skies
    fit = fit_poisson_norms(observed, shapes, labels, mean=mean, precision=precision)
    if not differences:
        return fit
    # the amplitudes times the lines' counts, which their prior is relative to
    row, j = labels.index("lines"), len(differences)
    labels += [f"lines_spread_{i}" for i in range(1, j + 1)]
    shapes += [shapes[row] * difference for difference in differences]
    mean = np.concatenate([mean, np.zeros(j)])
    precision = np.pad(precision, (0, j))
    for _ in range(_MAX_STEPS):
        lines = max(float(fit.values[row]), 1.0)
        precision[n:, n:] = np.eye(j) / lines**2
        fit = fit_poisson_norms(observed, shapes, labels, mean=mean, precision=precision, signed=j)
        if abs(fit.values[row] - lines) <= 1e-4 * lines:
            break
    else:
        raise _not_converged(labels)
    factors = np.concatenate([np.ones(n), np.full(j, 1.0 / lines)])
    covariance = fit.covariance * np.outer(factors, factors)
    return replace(fit, values=fit.values * factors, covariance=covariance)


def _not_converged(labels: Sequence[str]) -> FitError:
    return FitError(
        f"The fit of the norms of {', '.join(labels)} did not converge in {_MAX_STEPS} steps; "
        "check that the templates differ from each other."
    )


def norm_in_counts(label: str, norm: Any, livetime: float | None) -> float:
    """A norm as counts.

    Parameters
    ----------
    label : str
        Of its component; named in messages.
    norm : Quantity or float
        A rate, or a bare number: the counts.
    livetime : float or None, s
    """
    import astropy.units as u

    if isinstance(norm, u.Quantity) and norm.unit != u.dimensionless_unscaled:
        if livetime is None:
            raise TemplateError(
                f"The norm of {label!r} is given as a rate ({norm}), but the template has no "
                "livetime; make it with livetime=, or give counts."
            )
        try:
            norm = norm.to_value(u.Hz) * livetime
        except u.UnitConversionError:
            raise TemplateError(
                f"The norm of {label!r} must be a rate or a number of counts, got {norm}."
            ) from None
    value = float(norm)
    if not (np.isfinite(value) and value >= 0):
        raise forbidden_norm(f"The norm of {label!r} must be finite and >= 0, got {value:g}.")
    return value


def _solve(matrix: NDArray[np.float64], rhs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve on the scale of a unit diagonal, where a constraint may be 1e8 times the data."""
    root = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    scaled = matrix / np.outer(root, root)
    return np.asarray(np.linalg.lstsq(scaled, rhs / root, rcond=1e-12)[0] / root)
