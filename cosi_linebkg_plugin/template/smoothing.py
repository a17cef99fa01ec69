"""Filters on sums of event slices, and their choice from the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..histograms.read import EventHistogram
from ..io.progress import Progress, say
from .axes import partial_sky
from .filters import Filter, apply_filter
from .record import FilterScore

Array = NDArray[np.float64]

#: What `smoothing="auto"` tries: widths [deg], cuts in l, and Phi bins pooled for the pattern.
WIDTHS = (5.0, 10.0, 20.0, 30.0)

CUTS = (2, 4, 8)

POOLED_PHI = (None, 5, 10, 20, 60)

_SEED = 1809


@dataclass(frozen=True, eq=False)
class FilteredSums:
    """A filtered sum of slices, in the events' order of axes without Em.

    Attributes
    ----------
    maps, variances : ndarray
    n_pooled : int
        Slices whose total was not positive and was pooled with its neighbours.
    moved : float
        Largest relative change of the total of such a neighbour.
    untouched : ndarray of bool, shape events.other_shape with 1 for PsiChi
        Slices whose cells, and their variances, are those given.
    """

    maps: Array
    variances: Array
    n_pooled: int
    moved: float
    untouched: NDArray[np.bool_]


def filter_sums(
    events: EventHistogram,
    contents: Array,
    variances: Array,
    chosen: Filter,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
) -> FilteredSums:
    """Apply a filter to a weighted sum of energy slices.

    Axes other than Phi and PsiChi (Time, ScAtt) are slices of their own.

    Parameters
    ----------
    contents, variances : ndarray, shape events.other_shape
    overwrite : bool
        Put the result into these arrays instead of new ones.
    progress : Progress, optional
    """
    labels = [str(axis.label) for axis in events.other_axes]
    others = [i for i, label in enumerate(labels) if label not in ("Phi", "PsiChi")]
    order = others + [labels.index(name) for name in ("Phi", "PsiChi") if name in labels]
    n_phi = contents.shape[labels.index("Phi")] if "Phi" in labels else 1
    spatial = "PsiChi" in labels
    n_pix = contents.shape[labels.index("PsiChi")] if spatial else 1

    def to_slices(array: Array) -> Array:
        slices = array.transpose(order).reshape(-1, n_phi, n_pix)
        # without PsiChi a slice is a number: an isotropic map of the smallest size
        return slices if spatial else np.repeat(slices / 12.0, 12, axis=2)

    def back(array: Array) -> Array:
        if not spatial:
            array = array.sum(axis=2)
        moved = array.reshape([contents.shape[i] for i in order])
        return moved.transpose(np.argsort(order))

    axis = events.other_axes[labels.index("PsiChi")] if spatial else None
    nest = axis is not None and axis.scheme == "NESTED"
    filtered = apply_filter(
        to_slices(contents),
        to_slices(variances),
        chosen,
        nest=nest,
        sphere=axis is None or partial_sky(axis) is None,
        overwrite=overwrite,
        progress=progress,
    )
    result = [back(filtered.maps), back(filtered.variances)]
    if overwrite:
        for given, array in zip((contents, variances), result, strict=True):
            if not np.may_share_memory(given, array):  # the order of axes asked for copies
                given[...] = array
        result = [contents, variances]
    slices = [1 if labels[i] == "PsiChi" else contents.shape[i] for i in order]
    untouched = filtered.untouched.reshape(slices).transpose(np.argsort(order))
    return FilteredSums(result[0], result[1], len(filtered.pooled), filtered.moved, untouched)


def ladder(n_phi: int, sphere: bool = True) -> list[Filter]:
    """The filters that `choose_filter` tries on one map, the unfiltered one first.

    Without a whole sphere nothing is smoothed.
    """
    filters = []
    for pooled in dict.fromkeys(p if p is None else min(p, n_phi) for p in POOLED_PHI):
        if pooled == 1:
            continue
        filters.append(Filter(rebin_phi=pooled))
        if sphere:
            filters += [Filter(width, None, pooled) for width in WIDTHS]
            filters += [Filter(None, cut, pooled) for cut in CUTS]
    return filters


def choose_filter(
    events: EventHistogram,
    weights: Array,
    seen: Sequence[float] | Array,
    progress: Progress | None = None,
) -> tuple[Filter, tuple[FilterScore, ...]]:
    """The filter whose template of one half of the counts predicts the other half best.

    Poisson counts are split at random into independent halves. One makes the template; its
    spatial pattern in each (Time, Phi) slice is scored by the Poisson log-likelihood of the other
    half's counts in the same energies, given each slice's total.

    With several Time (or ScAtt) bins the whole ladder is tried on their sum. The best of it is then
    tried in each bin, with one pattern for all of them and with their own, beside no filter and the
    cuts in l; so that the work is that of a few filters of all bins.

    Parameters
    ----------
    events : EventHistogram
        Of whole counts.
    weights : ndarray, shape (n_components, n_em)
    seen : array_like, shape (n_components,)
        Expected counts of each component in the energies with weights: the mixture that the
        other half is drawn from.
    progress : Progress, optional

    Returns
    -------
    Filter
    scores : tuple of FilterScore
        Of those tried on all bins.
    """
    first, second = events.halves(_SEED)
    halves = _Halves.of(events, first, second, weights, np.asarray(seen, dtype=float))
    labels = [str(axis.label) for axis in events.other_axes]
    shape = halves.target.shape
    n_phi = shape[labels.index("Phi")] if "Phi" in labels else 1
    sphere = partial_sky(events.other_axes[labels.index("PsiChi")]) is None
    times = [i for i, label in enumerate(labels) if label in ("Time", "ScAtt") and shape[i] > 1]
    candidates = ladder(n_phi, sphere)
    if len(times) == 1:
        best, _ = halves.summed(times[0]).best(candidates, progress)
        cuts = CUTS if sphere else ()
        own = [Filter(None, cut, phi) for phi in (best.rebin_phi, n_phi) for cut in cuts]
        together = replace(best, pool=shape[times[0]])
        candidates = list(dict.fromkeys([Filter(), best, together, *own]))
    best, scores = halves.best(candidates, progress)
    return best, tuple(
        FilterScore(f.describe(), score - scores[0])
        for f, score in zip(candidates, scores, strict=True)
    )


@dataclass(frozen=True, eq=False)
class _Halves:
    """Weighted sums of one half of the counts, and what they are to predict.

    Attributes
    ----------
    events : EventHistogram
        Whose axes they have.
    sums, variances : ndarray, shape (n_components, ...)
    seen : ndarray, shape (n_components,)
    target : ndarray, shape (...)
        Counts of the other half.
    """

    events: EventHistogram
    sums: Array
    variances: Array
    seen: Array
    target: Array

    @classmethod
    def of(
        cls, events: EventHistogram, first: Any, second: Any, weights: Array, seen: Array
    ) -> _Halves:
        sums, variances = first.weighted_sums(weights)
        used = weights.any(axis=0).astype(float)
        target = second.weighted_sums(used, variances=False)[0][0]
        return cls(events, np.asarray(sums), np.asarray(variances), seen, target)

    def summed(self, axis: int) -> _Halves:
        """With the bins of an axis added up."""
        sums, variances = (x.sum(axis=axis + 1, keepdims=True) for x in (self.sums, self.variances))
        target = self.target.sum(axis=axis, keepdims=True)
        return _Halves(self.events, sums, variances, self.seen, target)

    def best(
        self, candidates: Sequence[Filter], progress: Progress | None
    ) -> tuple[Filter, list[float]]:
        """The candidate with the highest log-likelihood, and those of all of them."""
        pixels = [str(axis.label) for axis in self.events.other_axes].index("PsiChi")
        hit = np.nonzero(self.target)
        counts = self.target[hit]
        scores = []
        for number, candidate in enumerate(candidates, start=1):
            say(progress, f"trying filter {number} of {len(candidates)}: {candidate.describe()}")
            mixture = np.zeros(self.target.shape)
            for part, variance, seen in zip(self.sums, self.variances, self.seen, strict=True):
                if seen > 0 and part.sum() > 0:
                    shape = filter_sums(self.events, part, variance, candidate).maps
                    mixture += seen / shape.sum() * shape
            totals = np.broadcast_to(mixture.sum(axis=pixels, keepdims=True), mixture.shape)
            scores.append(float(counts @ np.log(mixture[hit] / totals[hit])))
        return candidates[int(np.argmax(scores))], scores
