"""Amounts of the components in each time bin: shapes held, log amounts on walks of unknown size.

The spectrum of time bin t is n_te ~ Poisson(mu_te), mu_te = u_t sum_k exp(x_tk) s_ke, with the
component shapes s_k of the total fit, and u_t the bin's share of the time (plus a known sky).
x_k is a random walk (order m = 1), or one integrated once or twice (m = 2, 3), of size r: the
standard deviation of its change over all times. With L the distance of the first bin's centre and
the last's, its m-th derivative by time is white noise of the power (2m-1) (m-1)!^2 r^2 / L^(2m-1),
and lower ones, the j-th, begin as N(0, (j! r / L^j)^2). The first x is N(0, 2^2).

Orders and sizes are averaged over by their marginal likelihood in Laplace's approximation, whose
matrices are banded (Rue & Held 2005, Gaussian Markov Random Fields); each integration is half as
likely beforehand, and sizes have a half-Cauchy prior of scale 1 (Gelman 2006, Bayesian Analysis 1,
515). One size alone has errors too small where it comes out as 0, and one order has them too large
or too small where a course is smoother or rougher.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.special import ndtr

from ..errors import TemplateError
from ..io import checks

Array = NDArray[np.float64]

#: Standard deviation of the first log amount: the total fit tells the mean.
_FIRST = 2.0

#: Of walks: 1 plain, 2 and 3 integrated once and twice.
ORDERS = (1, 2, 3)

#: log10 of the size of a walk: at the lower one the course is constant, at the upper free.
_SIZES = (-3.5, 3.0)

#: Steps of the lattice of log10 of sizes: the posterior's width, within these.
_STEPS = (0.1, 0.5)

#: Nodes of the average: at most, and how much less likely than the best (natural logarithm).
_MOST_NODES, _CUT = 100, 3.5

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
    weights : ndarray, shape (n_nodes,)
        Of the orders and sizes that are averaged over; they add up to 1.
    orders : ndarray of int, shape (n_nodes, n_components)
    sizes : ndarray, shape (n_nodes, n_components)
    log_amounts : ndarray, shape (n_nodes, n_live, n_components)
        x + log(u): of the counts of the bin over those of all.
    information : ndarray, shape (n_live, n_components, n_components)
        Fisher's, of the spectrum of each live bin, at the mean.
    gaps : ndarray, shape (n_live - 1,)
        d.
    chi2 : ndarray, shape (n_live,)
        Pearson's, of the spectrum of each live bin.
    chi2_spread : ndarray, shape (n_live,)
        Its standard deviation for Poisson counts.
    dof : int
        Of each.
    """

    labels: tuple[str, ...]
    live: NDArray[np.bool_]
    weights: Array
    orders: NDArray[np.int64]
    sizes: Array
    log_amounts: Array
    information: Array
    gaps: Array
    chi2: Array
    chi2_spread: Array
    dof: int

    @cached_property
    def _node_shares(self) -> Array:
        """Shares of the live bins at each node, shape (n_nodes, n_labels, n_live)."""
        amounts = np.exp(self.log_amounts[:, :, : len(self.labels)]).transpose(0, 2, 1)
        return np.asarray(amounts / amounts.sum(axis=2, keepdims=True))

    @cached_property
    def shares(self) -> Array:
        """Share of each component's counts in each time bin, shape (n_labels, n_t)."""
        shares = np.full((len(self.labels), self.live.size), DEAD_SHARE)
        shares[:, self.live] = np.tensordot(self.weights, self._node_shares, 1)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    @cached_property
    def covariance(self) -> Array:
        """Of the shares, flat, shape (n_labels * n_t, n_labels * n_t).

        The mean of the nodes' own, plus that of their shares about the mean.
        """
        n_live, k = self.log_amounts.shape[1:]
        n, n_t = len(self.labels), self.live.size
        own = np.arange(n_live * k).reshape(n_live, k)[:, :n].T.ravel()
        unit = np.zeros((n_live * k, own.size))
        unit[own, np.arange(own.size)] = 1.0
        data = _blocks_as_bands(self.information)
        of_logs = np.zeros((own.size, own.size))
        for weight, orders, sizes in zip(self.weights, self.orders, self.sizes, strict=True):
            prior = walk_precision(self.gaps, orders.tolist(), sizes.tolist())[0]
            factor = cholesky_banded(prior + data, lower=True)
            of_logs += weight * cho_solve_banded((factor, True), unit)[own]
        jac = np.zeros((own.size, own.size))
        for i, share in enumerate(self.shares[:, self.live]):
            block = slice(i * n_live, (i + 1) * n_live)
            jac[block, block] = np.diag(share) - np.outer(share, share)
        off = self._node_shares.reshape(len(self.weights), -1)
        off = off - self.weights @ off
        out = np.zeros((n * n_t, n * n_t))
        where = (np.arange(n)[:, None] * n_t + np.flatnonzero(self.live)).ravel()
        out[np.ix_(where, where)] = jac @ of_logs @ jac.T + (self.weights * off.T) @ off
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
        arrays = {name: getattr(self, name).tolist() for name in ("live", "orders", *_NUMBERS)}
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
        logs = checks.numbers(row["log_amounts"], "log_amounts", (None, None, None))
        n_nodes, n_live, k = logs.shape
        live = np.array([checks.truth(x, "a live bin") for x in row["live"]])
        if live.sum() != n_live or not 0 < len(labels) <= k:
            raise ValueError("time_course holds other bins or components than it says")
        shapes: dict[str, tuple[int, ...]] = {
            "weights": (n_nodes,),
            "sizes": (n_nodes, k),
            "log_amounts": logs.shape,
            "information": (n_live, k, k),
            "gaps": (n_live - 1,),
            "chi2": (n_live,),
            "chi2_spread": (n_live,),
        }
        arrays = {name: checks.numbers(row[name], name, shapes[name]) for name in _NUMBERS}
        orders = checks.numbers(row["orders"], "orders", (n_nodes, k))
        positive = (arrays[name].min() > 0 for name in ("weights", "sizes", "gaps"))
        if not all(positive) or not np.isin(orders, ORDERS).all():
            raise ValueError("time_course holds walks of no such kind")
        dof = int(checks.number(row["dof"], "dof", 0.0))
        return cls(tuple(labels), live, orders=orders.astype(np.int64), dof=dof, **arrays)


#: The fields of `TimeCourse` that are arrays of numbers.
_NUMBERS = (
    "weights",
    "sizes",
    "log_amounts",
    "information",
    "gaps",
    "chi2",
    "chi2_spread",
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
    gaps = np.diff(0.5 * (spectra.edges[1:] + spectra.edges[:-1])[live])
    model = _Posterior(counts[live], shapes, spectra.known[live], share, gaps)
    nodes, weights = model.average()
    logs = np.array([node.x for node in nodes])
    expected, information = model.expected(np.tensordot(weights, logs, 1))
    spread = np.where(expected > 0, 2.0 + 1.0 / np.maximum(expected, 1e-12), 0.0).sum(axis=1)
    off = (counts[live] - expected) ** 2 / np.maximum(expected, 1e-12)
    return TimeCourse(
        tuple(labels),
        live,
        weights,
        np.array([node.orders for node in nodes]),
        10.0 ** np.array([node.log_sizes for node in nodes]),
        logs + np.log(share)[:, None],
        information,
        gaps,
        off.sum(axis=1),
        np.sqrt(spread),
        n_energies - len(shapes),
    )


def _blocks_as_bands(blocks: Array) -> Array:
    """Blocks of each time bin, (n_t, K, K), as lower bands of all of them, shape (_, n_t K)."""
    n_t, k = blocks.shape[:2]
    out = np.zeros((ORDERS[-1] * k + 1, n_t, k))
    for j in range(k):
        for i in range(j, k):
            out[i - j, :, j] = blocks[:, i, j]
    return out.reshape(-1, n_t * k)


def walk_precision(
    gaps: Array, orders: Sequence[int], sizes: Sequence[float]
) -> tuple[Array, float]:
    """Precision of independent walks, in lower bands (_, n_t K), and its log determinant.

    The precision is a sum over derivatives, rows of a few coefficients, each of which is
    independent of those before it: its determinant is the product of their last coefficients
    squared and their own precisions.

    Parameters
    ----------
    gaps : ndarray, shape (n_t - 1,)
    orders, sizes : sequence, shape (K,)
        Of `ORDERS`, and r.
    """
    n_t, k = gaps.size + 1, len(orders)
    length, derivatives = gaps.sum(), _derivatives(gaps, max(orders))
    out = np.zeros((ORDERS[-1] * k + 1, n_t, k))
    out[0, 0] = _FIRST**-2
    log_det = -2.0 * k * np.log(_FIRST)
    for i, (order, size) in enumerate(zip(orders, sizes, strict=True)):
        terms = []
        for m, (rows, distances) in enumerate(derivatives[:order], start=1):
            of_noise = (2 * m - 1) * factorial(m - 1) ** 2 * length ** (1 - 2 * m) / distances
            first = np.full(min(1, distances.size), (factorial(m) / length**m) ** 2)
            terms.append((rows, of_noise) if m == order else (rows[:, :1], first))
        for rows, variances in terms:
            precisions = 1.0 / (size**2 * variances)
            log_det += np.sum(np.log(precisions) + 2.0 * np.log(rows[-1]))
            for one, other in itertools.combinations_with_replacement(range(len(rows)), 2):
                product = precisions * rows[one] * rows[other]
                out[k * (other - one), one : one + product.size, i] += product
    return out.reshape(-1, n_t * k), float(log_det)


def _derivatives(gaps: Array, highest: int) -> list[tuple[Array, Array]]:
    """Derivatives of x by time, as coefficients of neighbours.

    Returns
    -------
    list of (ndarray, ndarray), shapes (m + 1, n_t - m) and (n_t - m,)
        For m = 1, 2 ...: coefficients, and the distances between the derivatives below.
    """
    rows, places = np.ones((1, gaps.size + 1)), np.concatenate([[0.0], np.cumsum(gaps)])
    found = []
    for _ in range(highest):
        distances = np.diff(places)
        none = np.zeros((1, distances.size))
        later = np.concatenate([none, rows[:, 1:]])
        rows = (later - np.concatenate([rows[:, :-1], none])) / distances
        places = 0.5 * (places[1:] + places[:-1])
        found.append((rows, distances))
    return found


@dataclass(frozen=True, eq=False)
class _Node:
    """Orders and sizes of the walks, the most probable x for them, and how probable they are."""

    orders: tuple[int, ...]
    log_sizes: tuple[float, ...]
    x: Array
    log_probability: float


class _Posterior:
    """The posterior of the log amounts x, shape (n_t, K), and of the walks they are on."""

    def __init__(
        self, counts: Array, shapes: Array, known: Array, share: Array, gaps: Array
    ) -> None:
        self.n, self.s, self.known, self.u, self.gaps = counts, shapes, known, share, gaps
        self.size = counts.shape[0], shapes.shape[0]
        self._start = np.zeros(self.size)
        self._products = (shapes[:, None, :] * shapes).reshape(-1, shapes.shape[1])

    def expected(self, x: Array) -> tuple[Array, Array]:
        """Expected counts (n_t, n_em), and the information of x (n_t, K, K)."""
        amounts = np.exp(x) * self.u[:, None]
        mu = amounts @ self.s + self.known
        inverse = np.where(mu > 0, 1.0 / np.maximum(mu, 1e-300), 0.0)
        information = (inverse @ self._products.T).reshape(len(mu), *2 * self.size[1:])
        return mu, information * amounts[:, :, None] * amounts[:, None, :]

    def _prior_slope(self, x: Array, prior: Array) -> Array:
        """Q x; half of x Q x is the prior's part of the objective."""
        flat = x.ravel()
        out: Array = prior[0] * flat
        for i in range(x.shape[1], len(prior), x.shape[1]):
            out[i:] += prior[i, :-i] * flat[:-i]
            out[:-i] += prior[i, :-i] * flat[i:]
        return out.reshape(x.shape)

    def _objective(self, x: Array, prior: Array) -> float:
        mu = (np.exp(x) * self.u[:, None]) @ self.s + self.known
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(self.n > 0, self.n * np.log(mu), 0.0)
        return float(np.sum(mu - logs) + 0.5 * np.sum(x * self._prior_slope(x, prior)))

    def mode(self, prior: Array) -> tuple[Array, float, Array]:
        """Most probable x, the objective there, and the Cholesky factor of the precision."""
        x, value = self._start, self._objective(self._start, prior)
        for _ in range(100):
            mu, information = self.expected(x)
            ratio = np.where(mu > 0, self.n / np.maximum(mu, 1e-300), 0.0) - (mu > 0)
            slope = np.exp(x) * self.u[:, None] * (ratio @ self.s.T) - self._prior_slope(x, prior)
            factor = cholesky_banded(prior + _blocks_as_bands(information), lower=True)
            step = cho_solve_banded((factor, True), slope.ravel()).reshape(x.shape)
            step *= min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-300))
            gain = float(np.sum(step * slope))
            while True:
                trial = self._objective(x + step, prior)
                if trial <= value + 1e-12 * abs(value) or np.abs(step).max() < 1e-10:
                    break
                step = 0.5 * step
            x, value = x + step, trial
            if gain < 1e-6:
                break
        self._start = x
        factor = cholesky_banded(prior + _blocks_as_bands(self.expected(x)[1]), lower=True)
        return x, value, factor

    def node(self, orders: Sequence[int], log_sizes: Sequence[float]) -> _Node:
        """How probable walks are: marginal likelihood, and prior per log10 of the sizes."""
        sizes = 10.0 ** np.asarray(log_sizes, float)
        prior, log_det = walk_precision(self.gaps, orders, sizes.tolist())
        x, value, factor = self.mode(prior)
        evidence = -value + 0.5 * log_det - np.log(factor[0]).sum()
        of_walks = np.sum(np.log(sizes) - np.log1p(sizes**2)) - np.log(2.0) * sum(orders)
        return _Node(tuple(orders), tuple(log_sizes), x, float(evidence + of_walks))

    def _best_size(self, orders: Sequence[int], log_sizes: Sequence[float], k: int) -> float:
        """The most probable log10 size of one walk beside the others."""
        from scipy.optimize import minimize_scalar

        def cost(log_size: float) -> float:
            return -self.node(
                orders, [*log_sizes[:k], log_size, *log_sizes[k + 1 :]]
            ).log_probability

        found = minimize_scalar(cost, bounds=_SIZES, method="bounded", options={"xatol": 0.05})
        return float(found.x)

    def _step(self, orders: Sequence[int], log_sizes: Sequence[float], k: int) -> float:
        """The width of the posterior of one log10 size, within `_STEPS`."""
        values = [
            self.node(orders, [*log_sizes[:k], log_sizes[k] + off, *log_sizes[k + 1 :]])
            for off in (-0.1, 0.0, 0.1)
        ]
        low, middle, high = (node.log_probability for node in values)
        curvature = max((2.0 * middle - low - high) / 0.01, 1e-300)
        return float(np.clip(curvature**-0.5, *_STEPS))

    def average(self) -> tuple[list[_Node], Array]:
        """The walks that matter, and their weights.

        A lattice of log10 of the sizes for each combination of orders, of steps as wide as the
        posterior, is searched from the most probable node of each.
        """
        k = self.size[1]
        plain, start = [ORDERS[0]] * k, [-0.5] * k
        for _ in range(2):
            for i in range(k):
                start[i] = self._best_size(plain, start, i)
        best: dict[tuple[int, int], tuple[float, float]] = {}
        for i, order in itertools.product(range(k), ORDERS):
            orders = [*plain[:i], order, *plain[i + 1 :]]
            sizes = [*start[:i], self._best_size(orders, start, i), *start[i + 1 :]]
            best[i, order] = sizes[i], self._step(orders, sizes, i)
        found = self._lattice(best)
        top = max(value for value, _ in found)
        kept = [(value, node) for value, node in found if value > top - _CUT]
        weights = np.exp([value - top for value, _ in kept])
        return [node for _, node in kept], weights / weights.sum()

    def _lattice(
        self, best: Mapping[tuple[int, int], tuple[float, float]]
    ) -> list[tuple[float, _Node]]:
        """Nodes and their log weights, the most probable first, each found beside another.

        Parameters
        ----------
        best : mapping of (component, order) to (float, float)
            Where the lattice has its origin, and its step.
        """
        k = self.size[1]
        heap: list[tuple[float, tuple[int, ...], tuple[int, ...], _Node]] = []
        seen: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()

        def look(orders: tuple[int, ...], place: tuple[int, ...]) -> None:
            axes = [best[i, order] for i, order in enumerate(orders)]
            sizes = [o + step * j for (o, step), j in zip(axes, place, strict=True)]
            if (orders, place) in seen or min(sizes) < _SIZES[0] or max(sizes) > _SIZES[1]:
                return
            seen.add((orders, place))
            node = self.node(orders, sizes)
            volume = float(np.sum(np.log([step for _, step in axes])))
            heapq.heappush(heap, (-node.log_probability - volume, orders, place, node))

        for orders in itertools.product(ORDERS, repeat=k):
            look(orders, (0,) * k)
        found: list[tuple[float, _Node]] = []
        top = -heap[0][0]
        while heap and len(found) < _MOST_NODES:
            cost, orders, place, node = heapq.heappop(heap)
            top = max(top, -cost)
            if -cost < top - _CUT:
                break
            found.append((-cost, node))
            for i, off in itertools.product(range(k), (-1, 1)):
                look(orders, (*place[:i], place[i] + off, *place[i + 1 :]))
        return found
