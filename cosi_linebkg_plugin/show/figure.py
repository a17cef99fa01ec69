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
from ..histograms.axes import edges_in
from ..io.atomic import whole_file
from ..units import in_kev

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..fit.result import LineBackgroundFit
    from ..histograms.axis import EventAxis


# Okabe & Ito (2008), told apart by colour-blind readers; line styles differ as well.
BLACK, GREY, LIGHT_GREY = "#000000", "#666666", "#bbbbbb"

BLUE, VERMILLION, ORANGE = "#0072B2", "#D55E00", "#E69F00"

SKY_BLUE, GREEN, PURPLE = "#56B4E9", "#009E73", "#CC79A7"

MANY_STYLES = (
    (BLUE, "-"), (VERMILLION, "--"), (GREEN, "-."), (PURPLE, ":"), (ORANGE, "-"), (SKY_BLUE, "--"),
)  # fmt: skip

STYLES = ((BLUE, "-"), (VERMILLION, "--"), (GREEN, "-."), (PURPLE, ":"))

#: How a source range is drawn, the same in each figure.
SOURCE_RANGE: dict[str, Any] = {"facecolor": f"{GREEN}40", "edgecolor": GREEN, "lw": 1.0}

LABEL_SIGNIFICANCE = 5.0  # standard deviations above which a line gets a label

LABEL_SIZE = 7.5  # points

_DPI = 200  # of pictures

RESIDUAL_REACH = 3.5  # standard deviations, at least


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure whole or not at all: PNG (200 dpi), or what the suffix of `path` says.

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
    """A figure as the bytes of a file of this kind, at 200 dpi."""
    buffer, layout = BytesIO(), figure.get_layout_engine()
    if layout is not None and kind == "png":  # savefig would draw the whole figure for it, twice
        shown, figure.dpi = figure.dpi, _DPI
        layout.execute(figure)
        figure.dpi = shown
        figure.set_layout_engine(None)
    try:
        # to pack twice as hard takes a tenth of the time that a figure does
        options: dict[str, Any] = {}
        if kind == "png":
            options["pil_kwargs"] = {"compress_level": 3}
        figure.savefig(buffer, format=kind, dpi=_DPI, **options)
    finally:
        if layout is not None:
            figure.set_layout_engine(layout)
    return buffer.getvalue()


# --- panels ---------------------------------------------------------------------------------------


def panels(ax: Axes | Sequence[Axes] | None, number: int) -> tuple[Figure, tuple[Axes, ...]]:
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


def legend_above(ax: Axes, columns: int) -> None:
    """A legend outside of the data."""
    place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
    ax.legend(ncols=columns, frameon=False, fontsize=8.5, columnspacing=1.4, **place)


def sigma_axis(ax: Axes, shown: NDArray[np.float64], label: str) -> float:
    """Zero line, band of 1 sigma and symmetric limits that hold `shown`; returns the limit."""
    limit = max(RESIDUAL_REACH, 1.15 * np.max(np.abs(shown), initial=0.0))
    ax.axhspan(-1.0, 1.0, color=LIGHT_GREY, alpha=0.5, lw=0, zorder=0.2)
    ax.axhline(0.0, color=GREY, lw=0.8, zorder=0.5)
    ax.set(ylim=(-limit, limit), ylabel=label)
    return float(limit)


def draw_ranges(
    ax: Axes,
    fit: LineBackgroundFit,
    source_range: Sequence[Any] | None,
    used: Sequence[Sequence[Any]] = (),
    used_name: str = "energies used",
) -> None:
    """Mask and source range over the full height; energies of a template as a strip below.

    Parameters
    ----------
    ax : Axes
        Its x axis becomes the fit's energy axis.
    fit : LineBackgroundFit
    source_range : (low, high) or None
    used : list of (low, high)
        Energies that a template was made from.
    used_name : str
        What the legend calls them.
    """
    ax.set_xlim(fit.spectrum.edges[0], fit.spectrum.edges[-1])
    mask: dict[str, Any] = {
        "facecolor": "#f2f2f2",
        "edgecolor": LIGHT_GREY,
        "hatch": "///",
        "lw": 0,
    }
    strip: dict[str, Any] = {"facecolor": SKY_BLUE, "edgecolor": BLUE, "lw": 0.8, "ymax": 0.035}
    for name, ranges, style in (
        ("masked", fit.mask, mask),
        ("source range", () if source_range is None else (source_range,), SOURCE_RANGE),
        (used_name, used, strip),
    ):
        for i, energy_range in enumerate(ranges):
            ax.axvspan(*in_kev(energy_range), zorder=0.1, label=None if i else name, **style)


def mark_suppressed_zero(ax: Axes) -> None:
    """Two strokes across the foot of the y axis, and its label, where it does not start at 0."""
    low, _ = ax.get_ylim()
    if low <= 0:
        return
    style: dict[str, Any] = {"transform": ax.transAxes, "color": BLACK, "lw": 1.0, "clip_on": False}
    for y in (0.02, 0.04):
        ax.plot((-0.008, 0.008), (y - 0.012, y + 0.012), **style)
    ax.set_ylabel(f"{ax.get_ylabel()}, zero suppressed")


def poisson_errors(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Down and up, shape (2, n): the central 68.3 % interval of a Poisson mean (Garwood 1936)."""
    from scipy.special import gammaincinv, ndtr  # astropy.stats has it too, and loads scipy.stats

    n = np.asarray(counts, dtype=float)
    tail = ndtr(-1.0)
    low = np.where(n > 0, gammaincinv(np.maximum(n, 1e-9), tail), 0.0)
    high = gammaincinv(n + 1.0, 1.0 - tail)
    errors: NDArray[np.float64] = np.maximum([n - low, high - n], 0.0)
    return errors


def short(name: str, most: int = 30) -> str:
    """The end of a long name, which is often a path, so that it leaves room for the figure."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


def raised(text: str) -> str:
    """Digits, signs and "m" as superscripts.

    Characters of the font: matplotlib's mathematics takes longer to set up than a figure to draw.
    """
    return text.translate(str.maketrans("0123456789+-m", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵐ"))


def axis_edges(axis: EventAxis, name: str) -> tuple[NDArray[np.float64], str]:
    """Edges as numbers, and the label of the axis with its unit."""
    if name == "Time":  # without unit in s
        edges = np.asarray(edges_in(axis, "s"), dtype=float)
        return (edges - edges[0]) / 86400.0, "time since start [d]"
    if name == "PsiChi":
        return np.arange(axis.nbins + 1, dtype=float), "ψχ [pixel]"
    title, unit = {"Phi": ("φ", "deg"), "Em": ("energy", "keV")}.get(name, (name, axis.unit))
    values = axis.edges if unit is None else edges_in(axis, unit)
    return np.asarray(values, dtype=float), f"{title} [{unit}]" if unit else title


def sum_to(contents: NDArray[np.float64], names: Sequence[str], axis: str) -> NDArray[np.float64]:
    """Contents summed over all axes (their `names`) but one."""
    others = tuple(i for i, name in enumerate(names) if name != axis)
    total: NDArray[np.float64] = contents.sum(axis=others)
    return total
