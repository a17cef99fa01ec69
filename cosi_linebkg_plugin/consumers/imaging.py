"""What cosipy's TS map and image deconvolution take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..histograms.axes import ENERGY_LABEL, axis_in_kev
from ..histograms.write import make_histogram
from ..spectrum.axis import whole_bins
from .cells import COMPTON_AXES, ConsumerCells

if TYPE_CHECKING:
    from histpy import Histogram


Array = NDArray[np.float64]

# ---------------------------------------------------------------------------- TS map, imaging


def ts_map_input(template: Any, data: Histogram) -> dict[str, Histogram]:
    """Data and background for cosipy 0.3's ``FastTSMap(**these, response_path=..., ...)``.

    Its fits take ``energy_channel=template.energy_channel(data)``.

    Parameters
    ----------
    template : BackgroundTemplate
    data : histpy.Histogram
        On Em, Phi, PsiChi; the background comes on these axes. Where Em has more bins than the
        source range, make the template with ``like=data``: it is 0 in the others.

    Returns
    -------
    dict
        ``data``, as it was given, and ``bkg_model``, a histpy.Histogram of expected counts,
        positive in every cell of the source range, without which the TS would be NaN.
    """
    cells = ConsumerCells.of(template, data, None)  # 0 outside the range is right here
    return {
        "data": data,
        "bkg_model": make_histogram(cells.axes, cells.sum(cells.counts / cells.units)),
    }


def energy_channel(template: Any, data: Histogram) -> list[int]:
    """The energy bins of the source range, as the fits of cosipy 0.3's FastTSMap take them.

    Parameters
    ----------
    template : BackgroundTemplate
    data : histpy.Histogram
        On Em, Phi, PsiChi.

    Returns
    -------
    list of two int
        The first bin of the source range in the data, and the one behind its last.
    """
    edges = axis_in_kev(data.axes[ENERGY_LABEL])
    low, high = template.source_range
    inside = np.flatnonzero(whole_bins(edges, low, high, "source range"))
    return [int(inside[0]), int(inside[-1]) + 1]


def deconvolution_input(template: Any, event_histogram: Histogram) -> dict[str, Histogram]:
    """The background for cosipy 0.3's ``DataIF_COSI_DC2.load(name, event, this, rsp, ccm)``.

    Parameters
    ----------
    template : BackgroundTemplate
    event_histogram : histpy.Histogram
        The events, on [Time or ScAtt,] Em, Phi, PsiChi in this order; its axes are taken over.

    Returns
    -------
    dict
        ``{"bkg": histpy.Histogram}``, made anew: the loader changes what it is given.
    """
    order = [axis.label for axis in event_histogram.axes]
    leading = order[:1] if order and order[0] in ("Time", "ScAtt") else []
    cells = ConsumerCells.of(template, event_histogram, "refuse", (*leading, *COMPTON_AXES))
    return {"bkg": make_histogram(cells.axes, cells.sum(cells.counts / cells.units))}
