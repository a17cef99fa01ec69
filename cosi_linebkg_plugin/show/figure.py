"""What all figures share: panels, legends, saving."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from ..io.atomic import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Okabe & Ito (2008), told apart by colour-blind readers; line styles differ as well.
BLACK, GREY, LIGHT_GREY = "#000000", "#666666", "#bbbbbb"

BLUE, VERMILLION, ORANGE = "#0072B2", "#D55E00", "#E69F00"

SKY_BLUE, GREEN, PURPLE = "#56B4E9", "#009E73", "#CC79A7"

MANY_STYLES = (
    (BLUE, "-"), (VERMILLION, "--"), (GREEN, "-."), (PURPLE, ":"), (ORANGE, "-"), (SKY_BLUE, "--"),
)  # fmt: skip

STYLES = ((BLUE, "-"), (VERMILLION, "--"), (GREEN, "-."), (PURPLE, ":"))

LABEL_SIGNIFICANCE = 5.0  # standard deviations above which a line gets a label

LABEL_SIZE = 7.5  # points

RESIDUAL_REACH = 3.5  # standard deviations, at least


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure whole or not at all: PNG (150 dpi), or what the suffix of `path` says.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path

    Raises
    ------
    FileError
        For a suffix that matplotlib does not know, or a place that cannot be written.
    """
    kind = Path(path).suffix[1:].lower() or "png"
    known = figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise FileError(f"Cannot write a figure as {path}; known are {', '.join(known)}.")
    picture = rendered(figure, kind)  # Pillow does not say why it could not write
    with whole_file(path) as temporary:
        temporary.write_bytes(picture)


def rendered(figure: Figure, kind: str = "png") -> bytes:
    """A figure as the bytes of a file of this kind, at 150 dpi."""
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, dpi=150)
    return buffer.getvalue()


# --- panels ---------------------------------------------------------------------------------------


def _panels(ax: Axes | Sequence[Axes] | None, number: int) -> tuple[Figure, tuple[Axes, ...]]:
    """The given axes, or those of a new figure; a second panel is for residuals."""
    from matplotlib.figure import Figure

    if ax is not None:
        given: Any = (ax,) if hasattr(ax, "stairs") else tuple(ax)
        return given[0].figure, given
    figure = Figure(figsize=(7.5, 4.2 if number == 1 else 5.6), layout="constrained")
    ratios = (2.6, *[1.0] * (number - 1))
    axes = figure.subplots(
        number, 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios}
    )[:, 0]
    figure.align_ylabels(axes)
    return figure, tuple(axes)


def _legend_above(ax: Axes, columns: int) -> None:
    """A legend outside of the data."""
    place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
    ax.legend(ncols=columns, frameon=False, fontsize=8.5, columnspacing=1.4, **place)


def _sigma_axis(ax: Axes, shown: NDArray[np.float64], label: str) -> float:
    """Zero line, band of 1 sigma and symmetric limits that hold `shown`; returns the limit."""
    limit = max(RESIDUAL_REACH, 1.15 * np.max(np.abs(shown), initial=0.0))
    ax.axhspan(-1.0, 1.0, color=LIGHT_GREY, alpha=0.5, lw=0, zorder=0.2)
    ax.axhline(0.0, color=GREY, lw=0.8, zorder=0.5)
    ax.set(ylim=(-limit, limit), ylabel=label)
    return limit
