"""What cosipy's TS map and image deconvolution take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import TemplateError
from ..histograms.axes import ENERGY_LABEL, axis_in_kev
from ..histograms.write import make_histogram
from ..spectrum.axis import whole_bins
from .cells import COMPTON_AXES, ConsumerCells, histogram_of, own_order
from .rates import labels_in

if TYPE_CHECKING:
    from histpy import Histogram

    from ..template.template import BackgroundTemplate

#: In front of Em, Phi and PsiChi, if there.
_LEADING = ("Time", "ScAtt")


def ts_map_input(template: BackgroundTemplate, data: Any) -> dict[str, Histogram]:
    """Data and background for cosipy's ``FastTSMap(**these, response_path=..., ...)``.

    Its fits take ``energy_channel=template.energy_channel(data)``; MOCTSMap takes the same.

    Parameters
    ----------
    template : BackgroundTemplate
    data : EmCDSBinnedData or histpy.Histogram
        On Em, Phi, PsiChi; the background comes on these axes, which cosipy does not compare.
        Where Em has more bins than the source range, make the template with ``like=data``: it is
        0 in the others.

    Returns
    -------
    dict
        ``data``, the histogram given, and ``bkg_model``, a histpy.Histogram of expected counts.
        It is positive in every cell of the source range: without that the TS is NaN in cosipy
        0.3.4, and 0.4.3 leaves out the cell's data in silence.
    """
    histogram = histogram_of(data)
    cells = ConsumerCells.of(template, histogram, None, own_order(histogram))
    return {"data": histogram, "bkg_model": _sum(cells)}


def energy_channel(template: BackgroundTemplate, data: Any) -> list[int]:
    """The energy bins of the source range, as the fits of cosipy's TS maps take them.

    Parameters
    ----------
    template : BackgroundTemplate
    data : EmCDSBinnedData or histpy.Histogram
        On Em, Phi, PsiChi.

    Returns
    -------
    list of two int
        The first bin of the source range in the data, and the one behind its last.
    """
    edges = axis_in_kev(histogram_of(data).axes[ENERGY_LABEL])
    low, high = template.source_range
    inside = np.flatnonzero(whole_bins(edges, low, high, "source range"))
    return [int(inside[0]), int(inside[-1]) + 1]


def deconvolution_input(
    template: BackgroundTemplate, event_histogram: Histogram, *, components: bool = False
) -> dict[str, Histogram]:
    """The background for cosipy's ``DataIF_COSI_DC2.load(name, event, this, rsp, ccm)``.

    Parameters
    ----------
    template : BackgroundTemplate
    event_histogram : histpy.Histogram
        The events, on [Time or ScAtt,] Em, Phi, PsiChi in this order; its axes are taken over.
    components : bool
        Whether each component comes under a key of its own, with a norm of its own in the
        deconvolution; the sum otherwise, under "bkg".

    Returns
    -------
    dict of str to histpy.Histogram
        Expected counts, made anew: the loader changes what it is given. A component of which the
        amount is 0 or not known comes at the counts of all.
    """
    event_histogram = histogram_of(event_histogram)
    order = [axis.label for axis in event_histogram.axes]
    leading = order[:1] if order and order[0] in _LEADING else []
    cells = ConsumerCells.of(template, event_histogram, "raise", (*leading, *COMPTON_AXES))
    if not components:
        return {"bkg": _sum(cells)}
    own = np.eye(len(cells.labels))
    return {
        label: make_histogram(cells.axes, cells.sum(row))
        for label, row in zip(cells.labels, own, strict=True)
    }


def deconvolution_ranges(
    template: BackgroundTemplate, keys: str | Sequence[str], *, n_sigma: float = 5.0
) -> dict[str, list[float]]:
    """What ``background_normalization_optimization: {range: ...}`` of cosipy 0.4.3 takes.

    Its deconvolution keeps each norm, relative to what it was given, within a range.

    Parameters
    ----------
    template : BackgroundTemplate
    keys : str or sequence of str
        Those of `deconvolution_input`: "bkg", or the labels.
    n_sigma : float
        How many standard errors of the amount are allowed.

    Returns
    -------
    dict of str to [low, high]
        From 0 on; up to 100 where nothing is known.

    Raises
    ------
    TemplateError
        For another key, and for a number of errors that is not above 0.
    """
    if not (np.isfinite(n_sigma) and n_sigma > 0):
        raise TemplateError(f"n_sigma must be a number above 0, got {n_sigma:g}.")
    keys = labels_in(keys, ("bkg", *template.labels))
    total = sum(template.counts.values())
    ranges = {}
    for key in keys:
        counts = total if key == "bkg" else template.counts[key]
        error = template.total_error if key == "bkg" else template.errors[key]
        if not np.isfinite(error) or counts == 0:
            ranges[key] = [0.0, 100.0]
        else:
            width = n_sigma * error / counts
            ranges[key] = [max(0.0, 1.0 - width), 1.0 + width]
    return ranges


def _sum(cells: ConsumerCells) -> Histogram:
    return make_histogram(cells.axes, cells.sum(cells.counts / cells.units))
