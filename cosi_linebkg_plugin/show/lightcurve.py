"""The counts of a template's components in each time bin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import TemplateError
from .figure import BLUE, GREEN, GREY, VERMILLION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..template.template import BackgroundTemplate


def plot_light_curve(template: BackgroundTemplate, ax: Sequence[Axes] | None = None) -> Figure:
    """The rate of each component over its mean, by time.

    Parameters
    ----------
    template : BackgroundTemplate
        With several bins of Time.
    ax : sequence of Axes, optional
        One for each component; default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        Counts of each time bin over its width, 1 on average, with the errors of
        `BackgroundTemplate.project`.
    """
    from matplotlib.figure import Figure

    if "Time" not in template.event_axes.labels or template.event_axes["Time"].nbins < 2:
        raise TemplateError("A light curve needs a template with two or more bins of Time.")
    edges = np.asarray(template.event_axes["Time"].edges, dtype=float)
    middle, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * np.diff(edges)
    scale, unit = (86400.0, "d") if np.ptp(edges) > 2 * 86400.0 else (1.0, "s")
    if ax is None:
        figure: Any = Figure(figsize=(7.5, 1.0 + 1.8 * len(template.labels)), layout="constrained")
        made = figure.subplots(len(template.labels), 1, sharex=True, squeeze=False)
        ax = made[:, 0].tolist()
    else:
        figure = ax[0].figure
    for label, panel, color in zip(template.labels, ax, (BLUE, VERMILLION, GREEN), strict=False):
        counts, errors = template.project("Time", label)
        level = counts.sum() / np.ptp(edges) * 2 * half
        panel.errorbar(
            (middle - edges[0]) / scale, counts / level, errors / level, half / scale,
            fmt=".", ms=3, color=color, elinewidth=0.8,
        )  # fmt: skip
        panel.axhline(1.0, color=GREY, lw=0.8, zorder=0.5)
        panel.set_ylabel(f"{label} / mean")
        panel.tick_params(labelbottom=panel is ax[-1])
    ax[-1].set_xlabel(f"time since the start [{unit}]")
    drawn: Figure = figure
    return drawn
