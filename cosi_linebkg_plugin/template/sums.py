"""Weighted sums of energy slices, with features moved along Phi where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..histograms.read import EventHistogram
from ..spectrum.axis import bins_to_ranges
from .axes import phi_degrees
from .kinematics import shift_matrices
from .plan import TemplatePlan

Array = NDArray[np.float64]


def sum_slices(
    events: EventHistogram,
    weights: Array,
    matrices: Array | None = None,
    pairs: Sequence[tuple[int, int]] = (),
) -> tuple[Array, Array, NDArray[np.float32]]:
    """Weighted sums of the slices, their variances and covariances, moved along Phi by `matrices`.

    Parameters
    ----------
    events : EventHistogram
    weights : ndarray, shape (n_labels, n_em)
    matrices : ndarray, shape (n_em, n_phi, n_phi), optional
        See `phi_shifts`.
    pairs : sequence of (int, int)
        Rows of which the covariance in each cell is wanted.

    Returns
    -------
    sums, variances : ndarray, shape (n_labels, *events.other_shape), counts and counts^2
    products : ndarray of float32, shape (n_pairs, *events.other_shape), counts^2
    """
    if matrices is None:
        return events.sums_with_products(weights, pairs)
    position = _phi_position(events)
    sums = np.zeros((len(weights), *events.other_shape))
    variances = np.zeros_like(sums)
    products = np.zeros((len(pairs), *events.other_shape), np.float32)
    for e in np.flatnonzero(weights.any(axis=0)):
        slices = _slice(events, int(e))
        for total, values, power in zip((sums, variances), slices, (1, 2), strict=True):
            moved = np.tensordot(matrices[e], values, axes=(1, position))
            moved = np.moveaxis(moved, 0, position)
            total += np.multiply.outer(weights[:, e] ** power, moved)
        for product, (k, m) in zip(products, pairs, strict=True):
            product += weights[k, e] * weights[m, e] * moved  # of the variances
    return sums, variances, products


def phi_shifts(plan: TemplatePlan) -> Array:
    """How each energy slice is moved along Phi, shape (n_em, n_phi, n_phi).

    From the selected slices alone; the others stay.
    """
    events = plan.events
    position = _phi_position(events)
    others = tuple(i for i in range(len(events.other_shape)) if i != position)
    used = np.flatnonzero(plan.selected)
    in_phi = np.array([_slice(events, int(e))[0].sum(axis=others) for e in used])
    edges = phi_degrees(events.other_axes[position])
    n_phi = edges.size - 1
    matrices = np.broadcast_to(np.eye(n_phi), (plan.centers.size, n_phi, n_phi)).copy()
    # the selected slices in runs of adjacent bins, as the energies must be contiguous
    for low, high in bins_to_ranges(plan.edges, plan.selected):
        run = (plan.centers > low) & (plan.centers < high)
        own = plan.edges[(plan.edges >= low) & (plan.edges <= high)]
        matrices[run] = shift_matrices(own, edges, plan.middle, in_phi[run[used]])
    return matrices


def _phi_position(events: EventHistogram) -> int:
    return [str(a.label) for a in events.other_axes].index("Phi")


def _slice(events: EventHistogram, energy_bin: int) -> tuple[Array, Array]:
    """Counts and variances of one energy slice, one at a time to save memory."""
    only = np.zeros(events.energy_edges.size - 1)
    only[energy_bin] = 1.0
    counts, variances = events.weighted_sums(only)
    assert variances is not None
    return counts[0], variances[0]
