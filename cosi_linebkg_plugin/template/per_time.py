"""Amounts of the components in each time bin: shapes held, log amounts on a random walk.

The spectrum of time bin t is n_te ~ Poisson(mu_te), mu_te = u_t sum_k exp(x_tk) s_ke, with the
component shapes s_k of the total fit, and u_t the bin's share of the time (plus a known sky).
Steps of x_k are N(0, q_k d_t), d_t the distance of the bins' centres in units of its median; the
first is N(0, 2^2).
q maximises the marginal likelihood in Laplace's approximation (Rue & Held 2005, Gaussian Markov
Random Fields), whose matrices are banded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.optimize import minimize
from scipy.special import ndtr

from ..errors import TemplateError
from ..io import checks

Array = NDArray[np.float64]

#: Standard deviation of the first log amount: the total fit tells the mean.
_FIRST = 2.0

#: log10 of the variance of a step: at the lower one the course is constant, at the upper free.
_STRENGTHS = (-9.0, 0.5)

#: Share of a time bin without events: templates are positive.
DEAD_SHARE = 1e-12

#: Bins are called bad below this chance, times their number.
_BAD = 1e-3


@dataclass(frozen=True, eq=False)
class TimeCourse:
    """How the components are shared out over the time bins.

    Attributes
    ----------
    labels : tuple of str
        Of the first components; others have no map.
    live : ndarray of bool, shape (n_t,)
        Bins with events.
    log_amounts : ndarray, shape (n_live, n_components)
        x + log(u): of the counts of the bin over those of all.
    precision : ndarray, shape (n_components + 1, n_live * n_components)
        Of `log_amounts`, flat: lower bands.
    step_variances : ndarray, shape (n_components,)
        q, chosen by the marginal likelihood.
    chi2 : ndarray, shape (n_live,)
        Pearson's, of the spectrum of each live bin.
    chi2_spread : ndarray, shape (n_live,)
        Its standard deviation for Poisson counts.
    dof : int
        Of each.
    """

    labels: tuple[str, ...]
    live: NDArray[np.bool_]
    log_amounts: Array
    precision: Array
    step_variances: Array
    chi2: Array
    chi2_spread: Array
    dof: int

    @property
    def shares(self) -> Array:
        """Share of each component's counts in each time bin, shape (n_labels, n_t)."""
        amounts = np.exp(self.log_amounts[:, : len(self.labels)]).T
        shares = np.full((len(self.labels), self.live.size), DEAD_SHARE)
        shares[:, self.live] = amounts / amounts.sum(axis=1, keepdims=True)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    @property
    def covariance(self) -> Array:
        """Of the shares, flat, shape (n_labels * n_t, n_labels * n_t)."""
        n_live, k = self.log_amounts.shape
        n, n_t = len(self.labels), self.live.size
        factor = cholesky_banded(self.precision, lower=True)
        own = np.arange(n_live * k).reshape(n_live, k)[:, :n].T.ravel()
        unit = np.zeros((n_live * k, own.size))
        unit[own, np.arange(own.size)] = 1.0
        of_logs = cho_solve_banded((factor, True), unit)[own]
        jac = np.zeros((own.size, own.size))
        for i, share in enumerate(self.shares[:, self.live]):
            block = slice(i * n_live, (i + 1) * n_live)
            jac[block, block] = np.diag(share) - np.outer(share, share)
        out = np.zeros((n * n_t, n * n_t))
        where = (np.arange(n)[:, None] * n_t + np.flatnonzero(self.live)).ravel()
        out[np.ix_(where, where)] = jac @ of_logs @ jac.T
        return out

    def counts(self, totals: Sequence[float], covariance: Array) -> tuple[Array, Array]:
        """Counts of each component in each time bin, and their covariance.

        Parameters
        ----------
        totals : sequence of float, shape (n_labels,)
        covariance : ndarray, shape (n_labels, n_labels)
            Of these; infinite variances stay infinite.

        Returns
        -------
        counts : ndarray, shape (n_labels, n_t)
        covariance : ndarray, shape (n_labels * n_t, n_labels * n_t)
        """
        n_t, shares = self.live.size, self.shares
        total = np.repeat(np.asarray(totals, float), n_t)
        unknown = np.repeat(np.isinf(np.diag(covariance)), n_t)
        finite = np.where(np.isfinite(covariance), covariance, 0.0)
        out = np.kron(finite, np.ones((n_t, n_t))) * np.outer(shares.ravel(), shares.ravel())
        out += self.covariance * np.outer(total, total)
        out[np.diag_indices_from(out)] = np.where(unknown, np.inf, np.diag(out))
        return total.reshape(shares.shape) * shares, out

    def project(
        self, labels: Sequence[str], totals: Mapping[str, float], label: str | None
    ) -> tuple[Array, Array]:
        """Counts in each time bin and their errors as shares, of one component or the sum."""
        n_t, chosen = self.live.size, [1.0 if label in (None, name) else 0.0 for name in labels]
        counts = np.array([totals[name] or float(label == name) for name in labels]) * chosen
        weights = np.kron(counts, np.eye(n_t))  # (n_t, n_labels * n_t)
        variances = np.einsum("ij,jk,ik->i", weights, self.covariance, weights, optimize=True)
        return counts @ self.shares, np.sqrt(np.maximum(variances, 0.0))

    def notes(self) -> list[str]:
        """What a user must know: bins whose spectrum has another shape."""
        chance = ndtr(-(self.chi2 - self.dof) / self.chi2_spread)
        bad = chance < _BAD / chance.size
        if not bad.any():
            return []
        worst = int(np.argmax((self.chi2 - self.dof) / self.chi2_spread))
        return [
            f"norms='per_time' holds the shapes of the total spectrum, but {bad.sum()} of "
            f"{bad.size} time bins have another: chi2 {self.chi2[worst]:.4g} for {self.dof} "
            f"degrees of freedom in time bin {np.flatnonzero(self.live)[worst]}. A slope, or the "
            "ratios of lines, change with time: narrow window=, or fit such times apart."
        ]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TimeCourse) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.labels, self.live.tobytes(), self.log_amounts.tobytes()))

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it."""
        names = ("live", "log_amounts", "precision", "step_variances", "chi2", "chi2_spread")
        arrays = {name: getattr(self, name).tolist() for name in names}
        return {"labels": list(self.labels), "dof": self.dof} | arrays

    @classmethod
    def from_dict(cls, data: Any) -> TimeCourse:
        """From what a file holds.

        Raises
        ------
        ValueError, KeyError, TypeError
            If that is not what `to_dict` makes.
        """
        row: Mapping[str, Any] = checks.mapping(data, "time_course")
        labels = checks.texts(row["labels"], "labels of time_course")
        logs = checks.numbers(row["log_amounts"], "log_amounts", (None, None))
        n_live, k = logs.shape
        live = np.array([checks.truth(x, "a live bin") for x in row["live"]])
        if live.sum() != n_live or not 0 < len(labels) <= k:
            raise ValueError("time_course holds other bins or components than it says")
        return cls(
            tuple(labels),
            live,
            logs,
            checks.numbers(row["precision"], "precision", (k + 1, n_live * k)),
            checks.numbers(row["step_variances"], "step_variances", (k,)),
            checks.numbers(row["chi2"], "chi2", (n_live,)),
            checks.numbers(row["chi2_spread"], "chi2_spread", (n_live,)),
            int(checks.number(row["dof"], "dof", 0.0)),
        )


@dataclass(frozen=True, eq=False)
class TimeSpectra:
    """The spectra of time bins, and what is held in them.

    Attributes
    ----------
    counts : ndarray, shape (n_t, n_em)
        In the energy bins that are fitted.
    shapes : ndarray, shape (n_components, n_em), counts
        Expected of the components over all times.
    known : ndarray, shape (n_t, n_em), counts
        What else is expected: the sky.
    edges : ndarray, shape (n_t + 1,)
        Of the time bins.
    live : ndarray of bool, shape (n_t,)
        Bins with events.
    """

    counts: Array
    shapes: Array
    known: Array
    edges: Array
    live: NDArray[np.bool_]


def fit_time_course(spectra: TimeSpectra, labels: Sequence[str]) -> TimeCourse:
    """Fit the amounts of each time bin.

    Parameters
    ----------
    spectra : TimeSpectra
    labels : sequence of str
        Of the first components.

    Raises
    ------
    TemplateError
        With fewer than two live bins, or too few energies for the components.
    """
    counts, shapes, live = spectra.counts, spectra.shapes, spectra.live
    if live.sum() < 2:
        raise TemplateError(
            f"norms='per_time' needs events in two or more time bins, but {live.sum()} of "
            f"{live.size} hold any; leave norms= out."
        )
    n_energies = int((shapes.sum(axis=0) > 0).sum())
    if n_energies <= len(shapes):
        raise TemplateError(
            f"norms='per_time' cannot tell {len(shapes)} amounts apart in {n_energies} energy "
            "bin(s); widen window=."
        )
    share = np.diff(spectra.edges)[live]
    share = share / share.sum()
    centers = 0.5 * (spectra.edges[1:] + spectra.edges[:-1])[live]
    gaps = np.diff(centers)
    model = _Walk(counts[live], shapes, spectra.known[live], share, gaps / np.median(gaps))
    q, x = model.choose()
    expected, information = model.expected(x)
    spread = np.where(expected > 0, 2.0 + 1.0 / np.maximum(expected, 1e-12), 0.0).sum(axis=1)
    off = (counts[live] - expected) ** 2 / np.maximum(expected, 1e-12)
    return TimeCourse(
        tuple(labels),
        live,
        x + np.log(share)[:, None],
        model.precision(q) + model.bands(information),
        q,
        off.sum(axis=1),
        np.sqrt(spread),
        n_energies - len(shapes),
    )


class _Walk:
    """The posterior of the log amounts x, shape (n_t, K), given the variances of steps q."""

    def __init__(
        self, counts: Array, shapes: Array, known: Array, share: Array, gaps: Array
    ) -> None:
        self.n, self.s, self.known, self.u, self.gaps = counts, shapes, known, share, gaps
        self.size = counts.shape[0], shapes.shape[0]
        self._start = np.zeros(self.size)

    def expected(self, x: Array) -> tuple[Array, Array]:
        """Expected counts (n_t, n_em), and the information of x (n_t, K, K)."""
        amounts = np.exp(x) * self.u[:, None]
        mu = amounts @ self.s + self.known
        inverse = np.where(mu > 0, 1.0 / np.maximum(mu, 1e-300), 0.0)
        products = self.s[:, None, :] * self.s[None, :, :]
        information = np.einsum("te,jke->tjk", inverse, products, optimize=True)
        return mu, information * amounts[:, :, None] * amounts[:, None, :]

    def bands(self, blocks: Array) -> Array:
        """Blocks of each time bin as lower bands of the whole matrix, (K + 1, n_t K)."""
        n_t, k = self.size
        out = np.zeros((k + 1, n_t, k))
        for j in range(k):
            for i in range(j, k):
                out[i - j, :, j] = blocks[:, i, j]
        return out.reshape(k + 1, n_t * k)

    def precision(self, q: Array) -> Array:
        """Of the prior, lower bands."""
        n_t, k = self.size
        steps = 1.0 / (self.gaps[:, None] * q)
        out = np.zeros((k + 1, n_t, k))
        out[0, 0] = _FIRST**-2
        out[0, :-1] += steps
        out[0, 1:] += steps
        out[k, :-1] -= steps
        return out.reshape(k + 1, n_t * k)

    def _prior_slope(self, x: Array, q: Array) -> Array:
        """Q x; half of x Q x is the prior's part of the objective."""
        steps = np.diff(x, axis=0) / (self.gaps[:, None] * q)
        out = np.zeros_like(x)
        out[0] = x[0] / _FIRST**2
        out[:-1] -= steps
        out[1:] += steps
        return out

    def _objective(self, x: Array, q: Array) -> float:
        mu = (np.exp(x) * self.u[:, None]) @ self.s + self.known
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(self.n > 0, self.n * np.log(mu), 0.0)
        return float(np.sum(mu - logs) + 0.5 * np.sum(x * self._prior_slope(x, q)))

    def mode(self, q: Array) -> tuple[Array, float, Array]:
        """Most probable x, the objective there, and the Cholesky factor of the precision."""
        x, value = self._start, self._objective(self._start, q)
        prior = self.precision(q)
        for _ in range(100):
            mu, information = self.expected(x)
            ratio = np.where(mu > 0, self.n / np.maximum(mu, 1e-300), 0.0) - (mu > 0)
            slope = np.exp(x) * self.u[:, None] * (ratio @ self.s.T) - self._prior_slope(x, q)
            factor = cholesky_banded(prior + self.bands(information), lower=True)
            step = cho_solve_banded((factor, True), slope.ravel()).reshape(x.shape)
            step *= min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-300))
            gain = float(np.sum(step * slope))
            while True:
                trial = self._objective(x + step, q)
                if trial <= value + 1e-12 * abs(value) or np.abs(step).max() < 1e-10:
                    break
                step = 0.5 * step
            x, value = x + step, trial
            if gain < 1e-6:
                break
        self._start = x
        factor = cholesky_banded(prior + self.bands(self.expected(x)[1]), lower=True)
        return x, value, factor

    def _minus_log_evidence(self, log_q: Array) -> float:
        q = 10.0 ** np.clip(log_q, *_STRENGTHS)
        _, value, factor = self.mode(q)
        n_steps = self.size[0] - 1
        return float(value + 0.5 * n_steps * np.log(q).sum() + np.log(factor[0]).sum())

    def choose(self) -> tuple[Array, Array]:
        """The variances of steps that the data choose, and x for these."""
        k = self.size[1]
        starts = [np.full(k, -4.0), np.full(k, -2.0)]
        first = min(starts, key=self._minus_log_evidence)
        simplex = np.vstack([first, first + np.eye(k)])
        options = {"initial_simplex": simplex, "xatol": 0.05, "fatol": 0.01, "maxfev": 200 * k}
        bounds = [_STRENGTHS] * k
        found = minimize(
            self._minus_log_evidence, first, method="Nelder-Mead", bounds=bounds, options=options
        )
        q = 10.0 ** np.clip(found.x, *_STRENGTHS)
        return q, self.mode(q)[0]
