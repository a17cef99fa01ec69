"""The maps of a template of several energy bins, made bin by bin into the output."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..histograms.axes import ENERGY_LABEL
from ..io.progress import Progress, say
from .plan import TemplatePlan
from .products import filter_product, pairs_of, pixel_axis, slice_correlations
from .smoothing import filter_sums
from .steps import FilteredMaps, Recipe, filtered_maps
from .sums import TermSums, phi_shifts, sum_slices, sum_terms

Array = NDArray[np.float64]


def template_maps(
    plan: TemplatePlan, recipe: Recipe, progress: Progress | None = None, sky_norm: float = 0.0
) -> FilteredMaps:
    """The components' maps on the template's axes, filtered; of one energy bin or several.

    Parameters
    ----------
    sky_norm : float
        Norm of the plan's sky that is taken off the sums: the source's own photons.
    """
    make = filtered_maps if plan.n_bins == 1 else filtered_bins
    return make(plan, recipe, progress, sky_norm)


def filtered_bins(
    plan: TemplatePlan, recipe: Recipe, progress: Progress | None = None, sky_norm: float = 0.0
) -> FilteredMaps:
    """The components' maps, each energy bin with the distribution at its middle.

    A component's bins are to each other as its expected counts in them.

    Parameters
    ----------
    plan : TemplatePlan
        Of several energy bins.
    sky_norm : float
        Norm of the plan's sky that is taken off the slices.

    Raises
    ------
    TemplateError
        If a component's sum in a bin is not positive.
    """
    maps, totals, made = {}, [], []
    labels = recipe.weights.labels
    for k, label in enumerate(labels):
        slices = _BinSlices(plan, recipe, k, sky_norm)
        say(progress, f"making {plan.n_bins} energy bins of {label}")
        maps[label], filtered = _maps_of(plan, recipe, slices)
        totals.append(slices.total)
        made.append(_Made(slices.factors, filtered))
        del slices  # as large as some maps of one bin
    pooled = [row for part in made for row in part.filtered]
    return FilteredMaps(
        maps,
        totals[0],
        sum(row.n_pooled for row in pooled),
        max((row.moved for row in pooled), default=0.0),
        {
            (labels[k], labels[m]): _covariances(plan, recipe, (k, m), made, maps)
            for k, m in pairs_of(len(labels))
        },
    )


@dataclass(frozen=True, eq=False)
class _Filtered:
    """What a filter did to the sums of an energy.

    Attributes
    ----------
    n_pooled : int
        Slices that it pooled.
    moved : float
        How far that moved the totals of others.
    untouched : ndarray of bool, shape of the events' other axes with 1 for PsiChi
    """

    n_pooled: int
    moved: float
    untouched: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Made:
    """What the covariances of a component's maps need of how these were made.

    Attributes
    ----------
    factors : ndarray, shape (n_bins,)
        What each bin's sum was multiplied with.
    filtered : list of _Filtered
        Of each bin, or of the energies that all bins lie between.
    """

    factors: Array
    filtered: list[_Filtered]

    def untouched(self, b: int) -> NDArray[np.bool_]:
        """The slices of a bin that are as the sums were."""
        if len(self.filtered) == self.factors.size:
            return self.filtered[b].untouched
        return np.asarray(np.logical_and.reduce([row.untouched for row in self.filtered]))


def _covariances(
    plan: TemplatePlan,
    recipe: Recipe,
    pair: tuple[int, int],
    made: Sequence[_Made],
    maps: Mapping[str, tuple[Array, Array]],
) -> NDArray[np.float32]:
    """Covariances of the cells of two components' maps, on the template's axes, counts^2.

    Bin by bin: beside the result it takes no more than some maps of one bin.
    """
    k, m = pair
    place, weights = plan.place, recipe.weights
    out = np.zeros(plan.axes.shape, np.float32)
    em = plan.axes.labels.index(ENERGY_LABEL)
    pixels = pixel_axis([str(x) for x in plan.axes.labels if x != ENERGY_LABEL])
    noises = [np.moveaxis(maps[weights.labels[i]][1], em, 0) for i in pair]
    sums = _ProductSums(plan, recipe, pair)
    factors = made[k].factors * made[m].factors
    for b in np.flatnonzero(factors > 0).tolist():
        place.put(out, b, factors[b] * sums.at(b))
        row = place.inside.start + b
        own = np.moveaxis(out, em, 0)[row, ...]
        v1, v2 = (noise[row, ...] for noise in noises)
        kept = place.all_of(made[k].untouched(b) & made[m].untouched(b))
        # a filter keeps the total of a slice's variances
        correlation = slice_correlations([v1, v2], [own], [(0, 1)], pixels)[0]
        filter_product(own, correlation, v1, v2, kept, pixels)
    return out


class _ProductSums:
    """The sums of the slices' variances times the weights of two components, by energy bin."""

    def __init__(self, plan: TemplatePlan, recipe: Recipe, pair: tuple[int, int]) -> None:
        first, second = (recipe.weights.terms[i] for i in pair)
        self._plan, self._x = plan, recipe.weights.x
        self._shifted = recipe.shifts is not None
        self._terms = first, second
        if self._shifted:
            return
        # of the powers of x in the product of two polynomials
        rows = np.zeros((len(first) + len(second) - 1, first.shape[1]))
        for p, q in np.ndindex(len(first), len(second)):
            rows[p + q] += first[p] * second[q]
        found = plan.events.weighted_sums(rows[:0], squares=rows)[1]
        assert found is not None
        self._sums = found

    def at(self, b: int) -> Array:
        """Of a bin, shape of the events' other axes, counts^2."""
        x = float(self._x[b])
        if not self._shifted:
            powers = x ** np.arange(len(self._sums))
            return np.asarray(np.tensordot(powers, self._sums, axes=1))
        rows = np.array([x ** np.arange(len(terms)) @ terms for terms in self._terms])
        plan = self._plan
        matrices = phi_shifts(plan, 0.5 * float(plan.bins[b] + plan.bins[b + 1]))
        return np.asarray(sum_slices(plan.events, rows, matrices, [(0, 1)])[2][0], float)


class _BinSlices:
    """The weighted sums of slices of one component, by energy bin."""

    def __init__(self, plan: TemplatePlan, recipe: Recipe, k: int, sky_norm: float) -> None:
        weights = recipe.weights
        terms, x = weights.terms[k], weights.x
        assert recipe.amounts.bins is not None
        counts = plan.events.energy_counts()
        if plan.sky is not None and sky_norm:
            counts = counts - sky_norm * plan.sky.energy_counts()
        self._plan, self._sky_norm = plan, sky_norm if plan.sky is not None else 0.0
        self.x, self._rows = x, x[:, None] ** np.arange(len(terms)) @ terms
        self.total = float(weights.rows[k] @ counts)
        sums = self._rows @ counts
        _require_positive(plan, weights.labels[k], sums)
        #: What each bin's sum is multiplied with.
        self.factors = recipe.amounts.bins.shares[k] * self.total / sums
        self._shifted = recipe.shifts is not None
        #: Of the polynomial in energy by which the distribution changes; 0 where it is no such.
        self.n_terms = 0 if self._shifted else len(terms)
        self._terms: TermSums | None = None if self._shifted else self._summed(terms)

    def _summed(self, terms: Array) -> TermSums:
        found = sum_terms(self._plan.events, terms)
        if self._sky_norm:
            assert self._plan.sky is not None
            sky = self._plan.sky.weighted_sums(terms, variances=False)[0]
            found.sums[...] -= self._sky_norm * sky
        return found

    def fill(self, x: float, factor: float, contents: Array, variances: Array) -> None:
        """Put the sum at x and its variance, times a factor, into arrays of a map's shape."""
        if self._terms is not None:
            self._terms.fill(x, factor, contents, variances)
            return
        b = int(np.argmin(np.abs(self.x - x)))
        plan, row = self._plan, self._rows[b : b + 1]
        matrices = phi_shifts(plan, 0.5 * float(plan.bins[b] + plan.bins[b + 1]))
        sums, noise, _ = sum_slices(plan.events, row, matrices)
        if self._sky_norm:
            assert plan.sky is not None
            sums -= self._sky_norm * sum_slices(plan.sky, row, matrices)[0]
        np.multiply(sums[0], factor, out=contents)
        np.multiply(noise[0], factor**2, out=variances)


def _maps_of(
    plan: TemplatePlan, recipe: Recipe, slices: _BinSlices
) -> tuple[tuple[Array, Array], list[_Filtered]]:
    """Contents and variances of a component on the template's axes; what the filter did."""
    out, nodes = _Output(plan), _Nodes(plan, recipe, slices)
    if nodes.usable:
        out.combine(
            slices.factors[:, None] * nodes.weights,
            slices.factors[:, None] ** 2 * nodes.squares,
            nodes,
        )
        return out.maps(), nodes.found
    del nodes
    found = []
    for b, factor in enumerate(slices.factors.tolist()):
        target = out.target(b)
        if factor > 0:
            slices.fill(float(slices.x[b]), factor, *target)
            found.append(_filter(plan, recipe, target))
        else:  # no counts are expected there
            for array in target:
                array.fill(0.0)
            found.append(_Filtered(0, 0.0, np.ones((1,) * target[0].ndim, bool)))
        out.put(b, target)
    return out.maps(), found


class _Nodes:
    """The filtered sums at the first and the last bin, between which the others lie.

    Where the distribution changes linearly with energy the others are interpolated: their cells
    are positive and each slice's total is kept, as at the ends, and the filter is paid for
    once or three times. Variances change quadratically: those in the middle are needed too.

    Attributes
    ----------
    usable : bool
        False where the change is not linear, or a slice's total was pooled at an end.
    contents, variances : list of ndarray, of the shape of the events' other axes
    weights, squares : ndarray, shapes (n_bins, len(contents)) and (n_bins, len(variances))
    found : list of _Filtered
        What the filter did at each node.
    """

    def __init__(self, plan: TemplatePlan, recipe: Recipe, slices: _BinSlices) -> None:
        x = slices.x
        self.found: list[_Filtered] = []
        self.usable = slices.n_terms == 1 or (slices.n_terms == 2 and x.size > 3)
        if not self.usable:
            return
        shape = plan.events.other_shape
        t = (x - x[0]) / (x[-1] - x[0])
        ends = float(x[0]), float(x[-1])
        places = ends[:1] if slices.n_terms == 1 else (ends[0], 0.5 * sum(ends), ends[1])
        nodes = np.empty((2, len(places), *shape))
        for i, place in enumerate(places):
            pair = nodes[0, i, ...], nodes[1, i, ...]
            slices.fill(place, 1.0, *pair)
            self.found.append(_filter(plan, recipe, pair))
        pooled = any(row.n_pooled for row in self.found)
        self.usable = len(places) == 1 or not pooled
        self.contents, self.variances = nodes[0, :: max(len(places) - 1, 1)], nodes[1]
        if len(places) == 1:
            self.weights = self.squares = np.ones((x.size, 1))
        else:
            self.weights = np.stack([1.0 - t, t], axis=1)
            self.squares = np.stack(
                [(1.0 - t) * (1.0 - 2.0 * t), 4.0 * t * (1.0 - t), t * (2.0 * t - 1.0)], axis=1
            )

    @property
    def may_be_negative(self) -> bool:
        """Whether a parabola through a cell's variances might fall below 0 between the ends.

        It cannot where the one in the middle is at least a quarter of each of the others.
        """
        if len(self.variances) == 1:
            return False
        first, middle, last = self.variances
        return bool((4.0 * middle < np.maximum(first, last)).any())


class _Output:
    """Contents and variances of a component, to be filled bin by bin."""

    def __init__(self, plan: TemplatePlan) -> None:
        self._place, shape = plan.place, plan.events.other_shape
        self._whole = self._place.is_view
        if self._whole:
            self._arrays = np.empty((plan.n_bins, *shape)), np.empty((plan.n_bins, *shape))
        else:
            self._arrays = np.zeros(plan.axes.shape), np.zeros(plan.axes.shape)
            self._one = np.empty(shape), np.empty(shape)

    def target(self, b: int) -> tuple[Array, Array]:
        """Where the sums of bin b go, of the shape of the events' other axes."""
        return (self._arrays[0][b, ...], self._arrays[1][b, ...]) if self._whole else self._one

    def put(self, b: int, target: tuple[Array, Array]) -> None:
        """Take over what was put there."""
        if not self._whole:
            for array, part in zip(self._arrays, target, strict=True):
                self._place.put(array, b, part)

    def combine(self, weights: Array, squares: Array, nodes: _Nodes) -> None:
        """Fill all bins with sums of the nodes' contents and variances.

        Parameters
        ----------
        weights, squares : ndarray, shape (n_bins, n_nodes)
        """
        rows = [part.reshape(len(part), -1) for part in (nodes.contents, nodes.variances)]
        if self._whole:
            for array, factors, row in zip(self._arrays, (weights, squares), rows, strict=True):
                multiply = np.matmul if len(row) > 1 else np.multiply
                multiply(factors, row, out=array.reshape(len(array), -1))
            if nodes.may_be_negative:
                np.maximum(self._arrays[1], 0.0, out=self._arrays[1])
            return
        for b, (weight, square) in enumerate(zip(weights, squares, strict=True)):
            contents, variances = (
                (factors @ row).reshape(self._one[0].shape)
                for factors, row in zip((weight, square), rows, strict=True)
            )
            self.put(b, (contents, np.maximum(variances, 0.0)))

    def maps(self) -> tuple[Array, Array]:
        """The arrays on the template's axes."""
        if not self._whole:
            return self._arrays
        contents, variances = (np.moveaxis(a, 0, self._place.energy_axis) for a in self._arrays)
        return contents, variances


def _filter(plan: TemplatePlan, recipe: Recipe, pair: tuple[Array, Array]) -> _Filtered:
    """Filter contents and variances in place."""
    filtered = filter_sums(plan.events, *pair, recipe.filter, overwrite=True)
    return _Filtered(filtered.n_pooled, filtered.moved, filtered.untouched)


def _require_positive(plan: TemplatePlan, label: str, sums: Array) -> None:
    for (low, high), total in zip(itertools.pairwise(plan.bins), sums, strict=True):
        if not total > 0:
            raise TemplateError(
                f"The weighted sum of the slices for {label!r} is not positive in the energy bin "
                f"{low:g}-{high:g} keV ({total:.3g}); widen the sidebands or the window, lower "
                "order=, or leave the weakest lines out of the model."
            )
