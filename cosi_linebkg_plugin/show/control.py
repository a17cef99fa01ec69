"""The figure of a template's control ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import TemplateError
from ..units import in_kev
from .figure import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LABEL_SIZE,
    PURPLE,
    SOURCE_RANGE,
    VERMILLION,
    legend_above,
    panels,
    sigma_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..template.control import ControlRanges

#: Colour and marker of each axis.
AXIS_STYLES = {"Phi": (BLUE, "o"), "PsiChi": (VERMILLION, "s"), "Time": (GREEN, "^")}

#: Tests that a right template would fail with a smaller chance are drawn hollow.
POOR = 0.01


def plot_control_ranges(
    control: ControlRanges,
    source_range: Sequence[float] | None = None,
    ax: Sequence[Axes] | None = None,
) -> Figure:
    """The control ranges of a template, by energy.

    Parameters
    ----------
    control : ControlRanges
    source_range : (low, high), optional
        Drawn as a band; quantities, or keV.
    ax : (Axes, Axes), optional
        Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        Above: pulls of the totals with the errors from the spectrum (filled), and with the
        measured error where it is larger (open). Below: chi2 over degrees of freedom along each
        axis, with the template's own errors; hollow where the p-value is below 1 %.
    """
    if not control.ranges:
        raise TemplateError("No control range was found; there is nothing to draw.")
    figure, (upper, lower) = panels(ax, 2)
    low = np.array([r.low for r in control.ranges])
    high = np.array([r.high for r in control.ranges])
    middle = 0.5 * (low + high)
    pulls = control.pulls
    upper.plot(middle, pulls, "o", ms=4, color=BLACK, label="with the error of the fit alone")
    upper.hlines(pulls, low, high, color=BLACK, lw=1.0)
    wider = np.array([r.pull(control.amount.value) for r in control.ranges])
    if not np.allclose(wider, pulls):
        label = f"and the measured {100.0 * control.amount.value:.2g} % as well"
        upper.plot(middle, wider, "D", ms=4, mfc="none", color=PURPLE, label=label)
    sigma_axis(upper, pulls, "pull of the total")
    highest, any_poor = 1.0, False
    for axis in control.shapes:
        color, marker = AXIS_STYLES.get(axis, (GREY, "v"))
        tests = [r.shapes[axis] for r in control.ranges]
        ratio = np.array([t.chi2 / max(t.dof, 1) for t in tests])
        poor = np.array([t.p_value < POOR for t in tests])
        lower.plot(middle[~poor], ratio[~poor], marker, ms=4, color=color, label=axis)
        lower.plot(middle[poor], ratio[poor], marker, ms=4, color=color, mfc="none")
        highest, any_poor = max(highest, ratio.max()), any_poor or bool(poor.any())
    lower.axhline(1.0, color=GREY, lw=0.8, zorder=0.5)
    lower.set(ylim=(0.0, 1.15 * highest), ylabel="χ²/dof", xlabel="energy [keV]")
    if source_range is not None:
        for n, panel in enumerate((upper, lower)):
            name = None if n else "source range"
            panel.axvspan(*in_kev(source_range), **SOURCE_RANGE, zorder=0.1, label=name)
    upper.tick_params(labelbottom=False)
    if any_poor:
        what = f"hollow: a right template is as far off with a chance below {100 * POOR:g} %"
        lower.set_title(what, fontsize=LABEL_SIZE, loc="right", pad=2.0)
    legend_above(upper, 3)
    if control.shapes:
        lower.legend(
            loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, frameon=False, fontsize=8.5,
            borderaxespad=0.1,
        )  # fmt: skip
    return figure
