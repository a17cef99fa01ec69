"""Figures of a fitted spectrum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from ..fit.result import LineBackgroundFit
from ..lines.identify import identify_lines
from ..spectrum.statistic import deviance_residuals
from ..units import in_kev
from .figure import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LABEL_SIGNIFICANCE,
    LABEL_SIZE,
    LIGHT_GREY,
    ORANGE,
    SKY_BLUE,
    VERMILLION,
    _legend_above,
    _panels,
    _sigma_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..template.template import BackgroundTemplate


def plot_spectrum(
    fit: LineBackgroundFit,
    *,
    template: BackgroundTemplate | None = None,
    source_range: Sequence[Any] | None = None,
    sidebands: Sequence[Sequence[Any]] | None = None,
    names: bool = True,
    ax: Sequence[Axes] | None = None,
) -> Figure:
    """The energy spectrum with the fitted model, and the residuals below.

    Parameters
    ----------
    fit : LineBackgroundFit
    template : BackgroundTemplate, optional
        Gives the source range and the sidebands unless they are named.
    source_range : (low, high), optional
        Quantities, or keV.
    sidebands : list of (low, high), optional
    names : bool
        Put the isotope to the energy of a line where a row of the catalogue agrees with it.
    ax : (Axes, Axes), optional
        For the spectrum and for the residuals; default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        Above: counts with the central 68.3 % interval of a Poisson mean (Garwood 1936). Below:
        signed deviance residuals; masked bins are hollow, triangles lie beyond the axis.
    """
    if template is not None:
        source_range = template.source_range if source_range is None else source_range
        sidebands = template.sidebands if sidebands is None else sidebands
    figure, (upper, lower) = _panels(ax, 2)
    _draw_counts(upper, fit, names)
    _draw_ranges(upper, fit, source_range, sidebands or ())
    _draw_residuals(lower, fit)
    _draw_ranges(lower, fit, source_range, ())
    upper.tick_params(labelbottom=False)
    lower.set_xlabel("energy [keV]")
    _legend_above(upper, 5 if len(upper.get_legend_handles_labels()[0]) <= 5 else 4)
    return figure


# --- parts of the spectrum ------------------------------------------------------------------------


def _draw_ranges(ax, fit, source_range, sidebands) -> None:
    """Mask and source range over the full height, sidebands as a strip at the bottom."""
    ax.set_xlim(fit.spectrum.edges[0], fit.spectrum.edges[-1])
    mask = {"facecolor": "#f2f2f2", "edgecolor": LIGHT_GREY, "hatch": "///", "lw": 0}
    strip = {"facecolor": SKY_BLUE, "edgecolor": BLUE, "lw": 0.8, "ymax": 0.035}
    source = {"facecolor": f"{GREEN}40", "edgecolor": GREEN, "lw": 1.0}
    for name, ranges, style in (
        ("masked", fit.mask, mask),
        ("source range", () if source_range is None else (source_range,), source),
        ("sidebands", sidebands, strip),
    ):
        for i, energy_range in enumerate(ranges):
            ax.axvspan(*in_kev(energy_range), zorder=0.1, label=None if i else name, **style)


def _draw_counts(ax: Axes, fit: LineBackgroundFit, names: bool) -> None:
    spectrum = fit.spectrum
    edges, widths = spectrum.edges, spectrum.widths
    equal = np.ptp(widths) < 1e-4 * widths.mean()
    scale = np.ones(widths.size) if equal else 1.0 / widths
    ax.set_ylabel(f"counts per {widths.mean():.3g} keV bin" if equal else "counts / keV")

    parts = fit.component_spectra
    is_line = np.array([c.label == "lines" for c in fit.model.components])
    continuum, total = scale * parts[~is_line].sum(axis=0), scale * parts.sum(axis=0)
    data, errors = scale * spectrum.counts, scale * _poisson_errors(spectrum.counts)
    steps = partial(ax.stairs, edges=edges, baseline=None)
    steps(data, color=BLACK, lw=0.8, zorder=4, label="data")
    ax.errorbar(spectrum.centers, data, errors, fmt="none", ecolor=GREY, elinewidth=0.6, zorder=2)
    steps(total, color=VERMILLION, lw=2.4, zorder=3, label="model")
    if is_line.any():
        area = {"baseline": continuum, "fill": True, "alpha": 0.45, "lw": 0}
        ax.stairs(total, edges, color=ORANGE, zorder=1, label="lines (energies in keV)", **area)
        steps(continuum, color=BLUE, ls="--", lw=1.2, zorder=3.5, label="continuum")
    heights = np.concatenate([data - errors[0], data + errors[1], continuum, total])
    low, high = heights.min(), max(heights.max(), heights.min() + 1e-9)
    labels = _line_labels(fit, names)
    room = 0.94 if any(name for *_, name in labels) else 0.6  # inches, for labels
    share = min(room / _inches(ax)[1], 0.5) if is_line.any() else 0.06  # of the height
    ax.set_ylim(low - 0.1 * (high - low), high + share / (1.0 - share) * (high - low))
    _label_lines(ax, fit, total, labels)


def _draw_residuals(ax: Axes, fit: LineBackgroundFit) -> None:
    spectrum = fit.spectrum
    residuals = deviance_residuals(spectrum.counts, fit.expected_total)
    limit = _sigma_axis(ax, residuals[spectrum.used], r"residual [$\sigma$]")
    beyond = np.sign(residuals) * (np.abs(residuals) > 0.95 * limit)
    for marker, chosen, face in (
        ("o", spectrum.used, BLACK),
        ("o", spectrum.mask & (beyond == 0), "white"),
        ("^", spectrum.mask & (beyond > 0), "white"),
        ("v", spectrum.mask & (beyond < 0), "white"),
    ):
        shown = np.clip(residuals[chosen], -0.93 * limit, 0.93 * limit)
        ax.plot(spectrum.centers[chosen], shown, marker, ms=3.5, color=BLACK, mfc=face, mew=0.8)


def _line_labels(fit: LineBackgroundFit, names: bool) -> list[tuple[float, float, str]]:
    """Significance, energy [keV] and isotope ("" if unknown) of the strong lines."""
    edges, expected = fit.spectrum.edges, np.maximum(fit.expected_total, 1e-9)
    known = {x.parameter: x.name for x in identify_lines(fit)} if names else {}
    found = []
    for component, counts in zip(fit.model.components, fit.component_spectra, strict=True):
        if component.label != "lines":
            continue
        significance = float(np.sqrt(np.sum(counts**2 / expected)))
        energy = float(fit.theta[component.slots[1]])
        if significance > LABEL_SIGNIFICANCE and edges[0] < energy < edges[-1]:
            name = known.get(fit.model.names[component.slots[1]], "")
            found.append((significance, energy, name))
    return found


def _isotope(name: str) -> str:
    """The name "26Al" with its mass number raised, and a space after it."""
    parts = re.fullmatch(r"(\d+m?)([A-Z][a-z]?\??)", name)
    if parts:
        return f"$^{{\\mathrm{{{parts[1]}}}}}${parts[2]} "
    return f"{name} ".replace("e+e-", "$e^+e^-$") if name else ""


def _label_lines(
    ax: Axes,
    fit: LineBackgroundFit,
    heights: NDArray[np.float64],
    labels: list[tuple[float, float, str]],
) -> None:
    """Names and energies of lines, upright in a row above the data, moved apart where needed."""
    edges = fit.spectrum.edges
    step = 1.35 * LABEL_SIZE / 72.0 / _inches(ax)[0] * (edges[-1] - edges[0])  # keV
    room = int((edges[-1] - edges[0]) / step) - 1
    chosen = sorted((energy, name) for _, energy, name in sorted(labels)[::-1][:room])
    if not chosen:
        return
    energies = np.array([energy for energy, _ in chosen])
    offsets = step * np.arange(energies.size)
    from scipy.optimize import isotonic_regression

    places = isotonic_regression(energies - offsets).x
    places = np.clip(places, edges[0] + 0.7 * step, edges[-1] - 0.7 * step - offsets[-1]) + offsets
    bins = np.searchsorted(edges, energies, side="right") - 1
    arrow = {"arrowstyle": "-", "lw": 0.5, "color": GREY, "shrinkB": 3, "relpos": (0.5, 0)}
    frame = ax.get_xaxis_transform()
    for (x, name), place, y in zip(chosen, places, heights[bins], strict=True):
        text = f"{_isotope(name)}{x:.1f}"
        label = ax.annotate(
            text, (x, y), (place, 0.985), textcoords=frame, arrowprops=arrow, rotation=90
        )
        label.set(ha="center", va="top", fontsize=LABEL_SIZE, zorder=5)


def _inches(ax: Axes) -> NDArray[np.float64]:
    """Width and height of the axes, before a layout engine changes them a little."""
    return np.array(ax.get_window_extent().size) / ax.figure.dpi


def _poisson_errors(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Down and up, shape (2, n): the central 68.3 % interval of a Poisson mean (Garwood 1936)."""
    down = counts - gammaincinv(np.maximum(counts, 1e-9), 0.158655)
    up = gammaincinv(counts + 1.0, 0.841345) - counts
    return np.maximum([np.where(counts > 0, down, 0.0), up], 0.0)
