"""Weighted sums of energy slices, with features moved along Phi where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..histograms.read import EventHistogram
from ..spectrum.axis import bins_to_ranges
from .axes import phi_degrees
from .kinematics import shift_matrices
from .plan import TemplatePlan

Array = NDArray[np.float64]

#: How energy slices are moved along Phi: matrices, shape (n_phi, n_phi), by the number of the bin.
Shifts = Mapping[int, Array]


def sum_slices(
    events: EventHistogram,
    weights: Array,
    shifts: Shifts | None = None,
    pairs: Sequence[tuple[int, int]] = (),
) -> tuple[Array, Array, NDArray[np.float32]]:
    """Weighted sums of the slices, their variances and covariances, moved along Phi by `shifts`.

    Parameters
    ----------
    events : EventHistogram
    weights : ndarray, shape (n_labels, n_em)
    shifts : mapping, optional
        See `phi_shifts`; slices that it lacks stay.
    pairs : sequence of (int, int)
        Rows of which the covariance in each cell is wanted.

    Returns
    -------
    sums, variances : ndarray, shape (n_labels, *events.other_shape), counts and counts^2
    products : ndarray of float32, shape (n_pairs, *events.other_shape), counts^2
    """
    if shifts is None:
        return events.sums_with_products(weights, pairs)
    position = _phi_position(events)
    sums = np.zeros((len(weights), *events.other_shape))
    variances = np.zeros_like(sums)
    products = np.zeros((len(pairs), *events.other_shape), np.float32)
    for e in np.flatnonzero(weights.any(axis=0)):
        counts, noise = events.energy_slice(int(e))
        moved = _moved(counts, shifts.get(int(e)), position)
        sums += np.multiply.outer(weights[:, e], moved)
        if noise is not counts:  # as Poisson counts are their own variances
            moved = _moved(noise, shifts.get(int(e)), position)
        variances += np.multiply.outer(weights[:, e] ** 2, moved)
        for product, (k, m) in zip(products, pairs, strict=True):
            product += (weights[k, e] * weights[m, e] * moved).astype(np.float32)
    return sums, variances, products


def _moved(values: Array, matrix: Array | None, position: int) -> Array:
    if matrix is None:
        return values
    return np.moveaxis(np.tensordot(matrix, values, axes=(1, position)), 0, position)


@dataclass(frozen=True, eq=False)
class TermSums:
    """Sums of slices from which those of any energy of the source range are made.

    At x the sum is ``sum_p x^p sums[p]``, its variance ``sum_p sum_q x^(p + q) variances[pq]``.

    Attributes
    ----------
    sums : ndarray, shape (n_terms, *events.other_shape), counts
    variances : ndarray, shape (n_pairs, *events.other_shape), counts^2
        Of the pairs p <= q, in the order of `numpy.triu_indices`.
    """

    sums: Array
    variances: Array

    def fill(self, x: float, factor: float, sums: Array, variances: Array) -> None:
        """Put the sum at x and its variance, times a factor, into arrays of one map's shape."""
        n = len(self.sums)
        powers = x ** np.arange(n)
        p, q = np.triu_indices(n)
        pairs = np.where(p == q, 1.0, 2.0) * powers[p] * powers[q]
        for rows, weights, out in (
            (self.sums, factor * powers, sums),
            (self.variances, factor**2 * pairs, variances),
        ):
            np.matmul(weights, rows.reshape(len(rows), -1), out=out.reshape(-1))
        if n > 1:  # a cell of one slice at which the weight is 0 may come out as -1e-17
            np.maximum(variances, 0.0, out=variances)


def sum_terms(events: EventHistogram, terms: Array) -> TermSums:
    """The sums of the terms of a component's weights, and those of the products of each two.

    Parameters
    ----------
    terms : ndarray, shape (n_terms, n_em)
    """
    p, q = np.triu_indices(len(terms))
    sums, variances = events.weighted_sums(terms, squares=terms[p] * terms[q])
    assert variances is not None
    return TermSums(sums, variances)


def phi_shifts(plan: TemplatePlan, energy: float | None = None) -> Shifts:
    """How the selected energy slices are moved along Phi.

    Parameters
    ----------
    energy : float, keV, optional
        To where features are at this energy; default: the middle of the source range.
    """
    events = plan.events
    edges = phi_degrees(events.other_axes[_phi_position(events)])
    target = plan.middle if energy is None else energy
    shifts: dict[int, Array] = {}
    # the selected slices in runs of adjacent bins, as the energies must be contiguous
    for low, high in bins_to_ranges(plan.edges, plan.selected):
        run = np.flatnonzero((plan.centers > low) & (plan.centers < high)).tolist()
        own = plan.edges[(plan.edges >= low) & (plan.edges <= high)]
        in_phi = events.counts_along("Phi").T[run]
        shifts |= zip(run, shift_matrices(own, edges, target, in_phi), strict=True)
    return shifts


def _phi_position(events: EventHistogram) -> int:
    return [str(a.label) for a in events.other_axes].index("Phi")
