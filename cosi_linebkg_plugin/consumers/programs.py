"""The background file of cosipy's program cosi-threemlfit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import TemplateError
from ..histograms.write import make_histogram
from ..units import in_unit
from .cells import COMPTON_AXES, ConsumerCells

if TYPE_CHECKING:
    from histpy import Histogram

    from ..template.template import BackgroundTemplate


def threemlfit_background(template: BackgroundTemplate, time_range: Sequence[Any]) -> Histogram:
    """The sum of the components with a Time axis, as cosi-threemlfit reads it.

    The program cuts the orientation to the Time axis for the background's livetime, and fits one
    rate between 0 and 20 Hz to data and response of the same energies: the whole Em axis of the
    response, so that the source range must be all of it.

    Parameters
    ----------
    template : BackgroundTemplate
        A Time axis of one bin is dropped, one of several bins is refused.
    time_range : (start, stop)
        Of the events, Unix seconds, or quantities.

    Returns
    -------
    histpy.Histogram
        Expected counts on Time [s], Em, Phi, PsiChi.

    Raises
    ------
    TemplateError
        If a time range is no range, or a cell has no expectation.
    """
    import astropy.units as u
    import histpy

    start, stop = (in_unit(t, "s", "time", TemplateError) for t in time_range)
    if not (np.isfinite([start, stop]).all() and start < stop):
        raise TemplateError(f"The time range must increase, got {start:g} to {stop:g} s.")
    cells = ConsumerCells.of(template, None, "raise", COMPTON_AXES)
    total = cells.sum(cells.counts / cells.units)
    axes = [histpy.Axis(np.array([start, stop]) * u.s, label="Time"), *cells.axes]
    return make_histogram(axes, total[None])
