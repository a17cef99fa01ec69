"""Covariances of the cells of two components, which come from the same slices.

Per cell, cov(T_k, T_m) = sum_i w_ki w_mi n_i. With a_k expected counts per unit of map k the
variance of the sum is then exact, sum_i (sum_k a_k w_ki)^2 n_i. Continuum and lines are
anticorrelated: without it the sum's variance would be up to a half too large.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .parts import Parts

Array = NDArray[np.float64]

#: Covariances of the cells of two maps, counts^2, by their labels.
Products = Mapping[tuple[str, str], NDArray[Any]]


def pairs_of(n: int) -> list[tuple[int, int]]:
    """All pairs of n components, by number."""
    return list(itertools.combinations(range(n), 2))


def pixel_axis(labels: Sequence[str]) -> int | None:
    """Which axis the filters work along; None where there is no PsiChi."""
    return labels.index("PsiChi") if "PsiChi" in labels else None


def slice_correlations(
    variances: Sequence[Array] | Array,
    products: Sequence[NDArray[Any]] | NDArray[Any],
    pairs: Sequence[tuple[int, int]],
    pixels: int | None,
) -> list[Array]:
    """Correlation of the totals of two components in each slice, before a filter.

    Parameters
    ----------
    variances : ndarray, shape (n_labels, *shape), counts^2
    products : ndarray, shape (n_pairs, *shape), counts^2
    pairs : sequence of (int, int)
    pixels : int or None
        Which axis of `shape` is PsiChi.

    Returns
    -------
    list of ndarray, shape `shape` with 1 for PsiChi
        From -1 to 1; 0 where a slice holds nothing.
    """
    if not pairs:
        return []
    totals = [_totals(v, pixels) for v in variances]
    out = []
    for product, (k, m) in zip(products, pairs, strict=True):
        scale = np.sqrt(totals[k] * totals[m])
        ratio = np.divide(
            _totals(product, pixels), scale, out=np.zeros_like(scale), where=scale > 0
        )
        out.append(np.clip(ratio, -1.0, 1.0))
    return out


def filter_product(
    product: NDArray[Any],
    correlation: Array,
    first: Array,
    second: Array,
    kept: NDArray[np.bool_],
    pixels: int | None,
) -> None:
    """Bring the covariance of two components up to date with their filtered variances, in place.

    A filter is linear but for empty, negative and pooled cells, and the variances after it are a
    model: that of the slice's total, apportioned like the counts. The covariance follows them: the
    correlation of the totals stays, and is shared out like sqrt(v_1 v_2), so that projections onto
    the other axes are as exact as those of the variances. A cell whose correlation would be beyond
    +-1 gets +-1. Slices that no filter touched keep the exact covariances of their cells.

    Parameters
    ----------
    product : ndarray, shape `shape`, counts^2
        Overwritten.
    correlation : ndarray, shape `shape` with 1 for PsiChi
        See `slice_correlations`.
    first, second : ndarray, shape `shape`, counts^2
        Variances after the filter.
    kept : ndarray of bool, shape `shape` with 1 for PsiChi
        Slices of both components that no filter touched.
    pixels : int or None
        Which axis of `shape` is PsiChi.
    """
    arrays: list[NDArray[Any]] = [product, correlation, first, second, kept]
    if pixels is not None:
        arrays = [np.moveaxis(a, pixels, -1) for a in arrays]
    # a part at a time: each array is as large as the template
    for part in np.ndindex(arrays[0].shape[:1] if product.ndim > 1 else ()):
        own, rho, v1, v2 = (a[(*part, ...)] for a in arrays[:4])
        touched = np.logical_not(arrays[4][(*part, ...)])
        if not touched.any():
            continue
        mean = np.sqrt(v1 * v2)
        if pixels is not None:
            whole = np.sqrt(v1.sum(axis=-1, keepdims=True) * v2.sum(axis=-1, keepdims=True))
            shared = mean.sum(axis=-1, keepdims=True)
            rho = rho * np.divide(whole, shared, out=np.ones_like(whole), where=shared > 0)
        np.copyto(own, np.clip(rho, -1.0, 1.0) * mean, where=touched, casting="same_kind")


def variance_of_sum(
    maps: Mapping[str, tuple[Array, Array]],
    products: Mapping[tuple[str, str], NDArray[Any]],
    factors: Mapping[str, float],
    summed: tuple[int, ...] = (),
    energy: int | None = None,
) -> Array:
    """Variance of sum_k a_k T_k in each cell, or of its projection.

    Energy bins are sums of the same slices, with weights that are alike but for a factor: summed
    over, their errors are added, not their variances. That is exact for a distribution that does
    not change within the source range, and an upper limit where it does.

    Parameters
    ----------
    maps : mapping of label to (map, variances)
    products : mapping of (label, label) to ndarray, counts^2
        Covariances of the maps of two labels; a pair that is left out has none.
    factors : mapping of label to float
        a_k.
    summed : tuple of int
        Axes to sum over.
    energy : int, optional
        Which axis is the energy.

    Returns
    -------
    ndarray, counts^2, not below 0
    """
    if energy in summed:
        n_bins = next(iter(maps.values()))[0].shape[energy]
        if n_bins > 1:
            errors = sum(
                np.sqrt(variance_of_sum(*_in_bin(maps, products, energy, b), factors))
                for b in range(n_bins)
            )
            others = tuple(axis - (axis > energy) for axis in summed if axis != energy)
            return np.asarray((np.asarray(errors) ** 2).sum(axis=others))

    def projected(array: NDArray[Any]) -> NDArray[Any]:
        return array.sum(axis=summed, dtype=float) if summed else array

    total: Array | None = None
    for label, factor in factors.items():
        part = projected(maps[label][1]) * factor**2
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    for (a, b), product in products.items():
        if a in factors and b in factors:
            total += projected(product) * (2.0 * factors[a] * factors[b])
    return np.maximum(total, 0.0, out=total)


def _in_bin(
    maps: Mapping[str, tuple[Array, Array]],
    products: Products,
    energy: int,
    b: int,
) -> tuple[dict[str, tuple[Array, Array]], dict[tuple[str, str], NDArray[Any]]]:
    """Views of one energy bin."""

    def view(array: NDArray[Any]) -> NDArray[Any]:
        return np.moveaxis(array, energy, 0)[b, ...]

    return (
        {label: (view(contents), view(noise)) for label, (contents, noise) in maps.items()},
        {pair: view(product) for pair, product in products.items()},
    )


def cut_products(
    products: Products, labels: Sequence[str], parts: Parts, position: int
) -> dict[tuple[str, str], NDArray[Any]]:
    """Those of the parts of components, along the axis at `position`: of parts of the same bins."""
    cut = {}
    names = [(name, labels[row]) for name, row in zip(parts.maps, parts.rows, strict=True)]
    for (a, own), inside in zip(names, parts.inside, strict=True):
        for (b, other), others in zip(names, parts.inside, strict=True):
            product = products.get((own, other))
            both = (inside * others).astype(np.float32)
            if product is not None and both.any():
                shape = [-1 if i == position else 1 for i in range(product.ndim)]
                cut[a, b] = product * both.reshape(shape)
    return cut


def _totals(array: NDArray[Any], pixels: int | None) -> Array:
    if pixels is None:
        return np.asarray(array, float)
    return np.asarray(array.sum(axis=pixels, keepdims=True, dtype=float))
