"""Filters on sums of event slices, and their choice from the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def ladder(n_phi: int, n_time: int = 1, sphere: bool = True) -> list[Filter]:
    """The filters that `choose_filter` tries, the unfiltered template first.

    With several Time (or ScAtt) bins each is tried with and without pooling all of them; without
    a whole sphere nothing is smoothed.
    """
    filters = []
    for pool in (None, n_time) if n_time > 1 else (None,):
        for pooled in dict.fromkeys(p if p is None else min(p, n_phi) for p in POOLED_PHI):
            if pooled == 1:
                continue
            filters.append(Filter(None, None, pooled, pool))
            if sphere:
                filters += [Filter(width, None, pooled, pool) for width in WIDTHS]
                filters += [Filter(None, cut, pooled, pool) for cut in CUTS]
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
    """
    used = weights.any(axis=0).astype(float)
    first, second = events.halves(_SEED)
    sums, variances = first.weighted_sums(weights)
    assert variances is not None
    target = second.weighted_sums(used, variances=False)[0][0]
    labels = [str(axis.label) for axis in events.other_axes]
    n_phi = target.shape[labels.index("Phi")] if "Phi" in labels else 1
    pixels = labels.index("PsiChi")
    scores = []
    times = [i for i, label in enumerate(labels) if label in ("Time", "ScAtt")]
    n_time = target.shape[times[0]] if len(times) == 1 else 1
    candidates = ladder(n_phi, n_time, partial_sky(events.other_axes[pixels]) is None)
    for number, candidate in enumerate(candidates, start=1):
        say(progress, f"trying filter {number} of {len(candidates)}: {candidate.describe()}")
        mixture = np.zeros(target.shape)
        for part, variance, counts in zip(sums, variances, seen, strict=True):
            if counts > 0 and part.sum() > 0:
                shape = filter_sums(events, part, variance, candidate).maps
                mixture += counts * shape / shape.sum()
        pattern = mixture / mixture.sum(axis=pixels, keepdims=True)
        scores.append((float(np.sum(target * np.log(pattern))), candidate))
    best = max(scores, key=lambda row: row[0])[1]
    return best, tuple(FilterScore(f.describe(), s - scores[0][0]) for s, f in scores)
