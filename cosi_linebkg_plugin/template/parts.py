"""Parts of a template's components along an axis, and the covariance of their counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Parts:
    """Components cut into parts along an axis.

    Attributes
    ----------
    maps : dict of label to (map, variances)
        ``<label>_<axis>_<number>``.
    rows : ndarray of int, shape (n_parts,)
        The component of each part.
    shares, noise : ndarray, shape (n_parts,)
        Of the sum of the component's map, and the sum of its variances.
    inside : ndarray, shape (n_parts, n_bins of the axis)
        1 for the bins of a part, 0 elsewhere.
    """

    maps: dict[str, tuple[Array, Array]]
    rows: NDArray[np.int64]
    shares: Array
    noise: Array
    inside: Array


def groups_of(axis: str, n_bins: int, groups: Any) -> list[list[int]]:
    """The bins of each part, from lists of them or their number; each must be in one part."""
    if isinstance(groups, Integral):
        groups = int(groups)
        if groups < 1:
            raise TemplateError(f"Groups must hold 1 bin or more, got {groups}.")
        return [list(range(i, min(i + groups, n_bins))) for i in range(0, n_bins, groups)]
    try:
        together = sorted(i for group in groups for i in group)
    except TypeError:
        raise TemplateError(
            f"Groups of bins of {axis} are a whole number of bins, or lists of bin numbers, got "
            f"{groups!r}."
        ) from None
    if together != list(range(n_bins)):
        raise TemplateError(
            f"Every one of the {n_bins} bins of {axis} must be in one group, got {groups!r}."
        )
    return [list(group) for group in groups]


def cut_maps(
    maps: Mapping[str, tuple[Array, Array]], axis: str, position: int, groups: list[list[int]]
) -> Parts:
    """Cut every component along an axis; parts that hold nothing are left out.

    Parameters
    ----------
    axis, position
        Label and place of the axis.
    groups : list of list of int
        Bins of each part.
    """
    out: dict[str, tuple[Array, Array]] = {}
    rows, shares, noise, inside = [], [], [], []
    for row, (label, both) in enumerate(maps.items()):
        n_bins, total = both[0].shape[position], float(both[0].sum())
        for number, group in enumerate(groups):
            if not np.moveaxis(both[0], position, 0)[group].any():
                continue  # a part of an earlier split
            # memory that is not written to is not taken
            part = np.zeros(both[0].shape), np.zeros(both[0].shape)
            for new, old in zip(part, both, strict=True):
                np.moveaxis(new, position, 0)[group] = np.moveaxis(old, position, 0)[group]
            out[f"{label}_{axis.lower()}_{number}"] = part
            rows.append(row)
            shares.append(float(part[0].sum()) / total)
            noise.append(float(part[1].sum()))
            inside.append(np.isin(np.arange(n_bins), group).astype(float))
    return Parts(out, np.array(rows), np.array(shares), np.array(noise), np.array(inside))


def covariance_of_groups(covariance: Array, rows: NDArray[np.int64], inside: Array) -> Array:
    """Covariance of parts, from that of the counts in each bin of the axis.

    Parameters
    ----------
    covariance : ndarray, shape (n_labels * n_bins, n_labels * n_bins)
        Infinite variances make those of the parts infinite.
    rows, inside : ndarray, shapes (n_parts,) and (n_parts, n_bins)
        As of `Parts`.
    """
    members = np.zeros((rows.size, len(covariance) // inside.shape[1], inside.shape[1]))
    members[np.arange(rows.size), rows] = inside
    sums = members.reshape(rows.size, -1)
    unknown = sums @ np.isinf(np.diag(covariance)) > 0
    out: Array = sums @ np.where(np.isinf(covariance), 0.0, covariance) @ sums.T
    out[np.diag_indices_from(out)] = np.where(unknown, np.inf, np.diag(out))
    return out


def split_covariance(
    covariance: Array, rows: NDArray[np.int64], shares: Array, noise: Array
) -> Array:
    """Covariance of the parts of components.

    The norms' covariance is shared out; the slices' noise (D, diagonal) moves counts between the
    parts of one component whose total is given: D - p (D1)^T - (D1) p^T + p p^T 1^T D 1.

    Parameters
    ----------
    covariance : ndarray, shape (n_labels, n_labels)
    rows : ndarray of int, shape (n_parts,)
        The component of each part.
    shares : ndarray, shape (n_parts,)
        Of its counts.
    noise : ndarray, shape (n_parts,), counts^2
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
