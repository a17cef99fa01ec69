"""The maps of a template of several energy bins, made bin by bin into the output."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..io.progress import Progress, say
from .plan import TemplatePlan
from .smoothing import FilteredSums, filter_sums
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
    maps, totals, pooled = {}, [], []
    for k, label in enumerate(recipe.weights.labels):
        slices = _BinSlices(plan, recipe, k, sky_norm)
        say(progress, f"making {plan.n_bins} energy bins of {label}")
        maps[label], found = _maps_of(plan, recipe, slices)
        totals.append(slices.total)
        pooled += found
    n_pooled = sum(filtered.n_pooled for filtered in pooled)
    moved = max((filtered.moved for filtered in pooled), default=0.0)
    return FilteredMaps(maps, totals[0], n_pooled, moved)


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
        self._x, self._rows = x, x[:, None] ** np.arange(len(terms)) @ terms
        self.total = float(weights.rows[k] @ counts)
        sums = self._rows @ counts
        _require_positive(plan, weights.labels[k], sums)
        #: What each bin's sum is multiplied with.
        self.factors = recipe.amounts.bins.shares[k] * self.total / sums
        self._shifted = recipe.shifts is not None
        #: Whether the distribution is the same in each bin.
        self.alike = len(terms) == 1 and not self._shifted
        self._terms: TermSums | None = None if self._shifted else self._summed(terms)

    def _summed(self, terms: Array) -> TermSums:
        found = sum_terms(self._plan.events, terms)
        if self._sky_norm:
            assert self._plan.sky is not None
            sky = self._plan.sky.weighted_sums(terms, variances=False)[0]
            found.sums[...] -= self._sky_norm * sky
        return found

    def fill(self, b: int, factor: float, contents: Array, variances: Array) -> None:
        """Put the sum of bin b and its variance, times a factor, into arrays of a map's shape."""
        if self._terms is not None:
            self._terms.fill(float(self._x[b]), factor, contents, variances)
            return
        plan, row = self._plan, self._rows[b : b + 1]
        matrices = phi_shifts(plan, 0.5 * float(plan.bins[b] + plan.bins[b + 1]))
        sums, noise = sum_slices(plan.events, row, matrices)
        if self._sky_norm:
            assert plan.sky is not None
            sums -= self._sky_norm * sum_slices(plan.sky, row, matrices)[0]
        np.multiply(sums[0], factor, out=contents)
        np.multiply(noise[0], factor**2, out=variances)


def _maps_of(
    plan: TemplatePlan, recipe: Recipe, slices: _BinSlices
) -> tuple[tuple[Array, Array], list[FilteredSums]]:
    """Contents and variances of a component on the template's axes, and what the filter did."""
    out = _Output(plan)
    found = []
    if slices.alike:
        one = np.empty(plan.events.other_shape), np.empty(plan.events.other_shape)
        slices.fill(0, 1.0, *one)
        found.append(filter_sums(plan.events, *one, recipe.filter, overwrite=True))
    for b, factor in enumerate(slices.factors.tolist()):
        target = out.target(b)
        if slices.alike:
            for array, base, scale in zip(target, one, (factor, factor**2), strict=True):
                np.multiply(base, scale, out=array)
        elif factor > 0:
            slices.fill(b, factor, *target)
            found.append(filter_sums(plan.events, *target, recipe.filter, overwrite=True))
        else:  # no counts are expected there
            for array in target:
                array.fill(0.0)
        out.put(b, target)
    return out.maps(), found


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
        return (self._arrays[0][b], self._arrays[1][b]) if self._whole else self._one

    def put(self, b: int, target: tuple[Array, Array]) -> None:
        """Take over what was put there."""
        if not self._whole:
            for array, part in zip(self._arrays, target, strict=True):
                self._place.put(array, b, part)

    def maps(self) -> tuple[Array, Array]:
        """The arrays on the template's axes."""
        if not self._whole:
            return self._arrays
        contents, variances = (np.moveaxis(a, 0, self._place.energy_axis) for a in self._arrays)
        return contents, variances


def _require_positive(plan: TemplatePlan, label: str, sums: Array) -> None:
    for (low, high), total in zip(itertools.pairwise(plan.bins), sums, strict=True):
        if not total > 0:
            raise TemplateError(
                f"The weighted sum of the slices for {label!r} is not positive in the energy bin "
                f"{low:g}-{high:g} keV ({total:.3g}); widen the sidebands or the window, lower "
                "order=, or leave the weakest lines out of the model."
            )
