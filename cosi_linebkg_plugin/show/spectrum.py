"""Figures of a fitted spectrum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..fit.result import LineBackgroundFit
from ..lines.identify import identify_lines
from .figure import (
    BLACK,
    BLUE,
    GREY,
    LABEL_SIGNIFICANCE,
    LABEL_SIZE,
    ORANGE,
    PURPLE,
    VERMILLION,
    draw_ranges,
    legend_above,
    mark_suppressed_zero,
    panels,
    poisson_errors,
    raised,
    sigma_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..template.template import BackgroundTemplate


#: What the marks of the residuals mean.
MARKS = "hollow: masked; triangles: beyond the axis"


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
        Above: counts with the central 68.3 % interval of a Poisson mean (Garwood 1936), and the
        model with its standard error, systematic error included. Below: signed deviance
        residuals, those of fitted bins over the standard deviation that the fit leaves them, as
        in `LineBackgroundFit.residuals`; masked bins are hollow, triangles lie beyond the axis. The
        coloured band is the model's error over the Poisson error of a bin.
    """
    used_name = "sidebands"
    if template is not None:
        source_range = template.source_range if source_range is None else source_range
        if sidebands is None:
            sidebands = template.sidebands
            used_name = "sidebands" if template.method == "sideband" else "energies used"
    figure, (upper, lower) = panels(ax, 2)
    _draw_counts(upper, fit, names)
    draw_ranges(upper, fit, source_range, sidebands or (), used_name)
    _draw_residuals(lower, fit)
    if fit.spectrum.mask.any():
        lower.set_title(MARKS, fontsize=LABEL_SIZE, loc="right", pad=2.0)
    draw_ranges(lower, fit, source_range)
    upper.tick_params(labelbottom=False)
    lower.set_xlabel("energy [keV]")
    legend_above(upper, 5 if len(upper.get_legend_handles_labels()[0]) <= 5 else 4)
    return figure


# --- parts of the spectrum ------------------------------------------------------------------------


def _draw_counts(ax: Axes, fit: LineBackgroundFit, names: bool) -> None:
    spectrum = fit.spectrum
    edges, widths = spectrum.edges, spectrum.widths
    equal = np.ptp(widths) < 1e-4 * widths.mean()
    scale = np.ones(widths.size) if equal else 1.0 / widths
    ax.set_ylabel(f"counts per {widths.mean():.3g} keV bin" if equal else "counts / keV")

    parts = fit.component_spectra
    continuum = scale * parts[list(fit.model.continuum)].sum(axis=0)
    background, total = scale * fit.expected, scale * fit.expected_total
    error = scale * _model_error(fit)
    data, bars = scale * spectrum.counts, scale * poisson_errors(spectrum.counts)
    steps = partial(ax.stairs, edges=edges, baseline=None)
    steps(data, color=BLACK, lw=1.1, zorder=4, label="data")
    ax.errorbar(spectrum.centers, data, bars, fmt="none", ecolor=GREY, elinewidth=0.6, zorder=2)
    steps(total, color=VERMILLION, lw=3.0, alpha=0.8, zorder=3, label="model")
    band: dict[str, Any] = {"baseline": total - error, "fill": True, "alpha": 0.35, "lw": 0}
    ax.stairs(total + error, edges, color=VERMILLION, zorder=2.5, label="its error (1 σ)", **band)
    area: dict[str, Any] = {"fill": True, "alpha": 0.45, "lw": 0, "zorder": 1}
    if fit.model.lines:
        label = "lines (energies in keV)"
        ax.stairs(background, edges, baseline=continuum, color=ORANGE, label=label, **area)
        steps(continuum, color=BLUE, ls="--", lw=1.2, zorder=3.5, label="continuum")
    if fit.offset is not None:
        ax.stairs(total, edges, baseline=background, color=PURPLE, label="known source", **area)
    heights = np.concatenate([data - bars[0], data + bars[1], continuum, total])
    low, high = heights.min(), max(heights.max(), heights.min() + 1e-9)
    labels = _line_labels(fit, names)
    room = 0.94 if any(name for *_, name in labels) else 0.6  # inches, for labels
    share = min(room / _inches(ax)[1], 0.5) if fit.model.lines else 0.06  # of the height
    foot = low - 0.1 * (high - low)
    if low >= 0 and foot < 0.25 * high:  # 0 costs little of the height
        foot = 0.0
    ax.set_ylim(foot, high + share / (1.0 - share) * (high - foot))
    mark_suppressed_zero(ax)
    _label_lines(ax, fit, total, labels)


def _draw_residuals(ax: Axes, fit: LineBackgroundFit) -> None:
    spectrum = fit.spectrum
    residuals = fit.residuals
    share = _model_error(fit) / np.sqrt(np.maximum(fit.expected_total, 1.0))
    band: dict[str, Any] = {"fill": True, "alpha": 0.3, "lw": 0, "zorder": 0.3}
    ax.stairs(share, spectrum.edges, baseline=-share, color=VERMILLION, **band)
    limit = sigma_axis(ax, residuals[spectrum.used], "residual [σ]")
    beyond = np.sign(residuals) * (np.abs(residuals) > 0.95 * limit)
    for marker, chosen, face in (
        ("o", spectrum.used, BLACK),
        ("o", spectrum.mask & (beyond == 0), "white"),
        ("^", spectrum.mask & (beyond > 0), "white"),
        ("v", spectrum.mask & (beyond < 0), "white"),
    ):
        shown = np.clip(residuals[chosen], -0.93 * limit, 0.93 * limit)
        ax.plot(spectrum.centers[chosen], shown, marker, ms=3.5, color=BLACK, mfc=face, mew=0.8)


def _model_error(fit: LineBackgroundFit) -> NDArray[np.float64]:
    """Standard error of the expected counts of each bin, shape (n_bins,); 0 if not known."""
    jac = fit.bin_jacobian[fit.columns]
    variance = np.einsum("in,ij,jn->n", jac, fit.covariance, jac)
    if not np.isfinite(variance).all():
        return np.zeros(variance.size)
    variance = np.maximum(variance, 0.0) + (fit.systematic * fit.expected) ** 2
    return np.asarray(np.sqrt(variance), dtype=np.float64)


def _line_labels(fit: LineBackgroundFit, names: bool) -> list[tuple[float, float, str]]:
    """Significance, energy [keV] and isotope ("" if unknown) of the strong lines."""
    edges, expected = fit.spectrum.edges, np.maximum(fit.expected_total, 1e-9)
    known = {x.parameter: x.name for x in identify_lines(fit)} if names else {}
    found = []
    for i in fit.model.lines:
        slot = fit.model.components[i].energy
        significance = float(np.sqrt(np.sum(fit.component_spectra[i] ** 2 / expected)))
        energy = float(fit.theta[slot])
        if significance > LABEL_SIGNIFICANCE and edges[0] < energy < edges[-1]:
            name = known.get(fit.model.names[slot], "")
            found.append((significance, energy, name))
    return found


def isotope_label(name: str) -> str:
    """A name of the catalogue for a figure: "26Al" with its mass number raised, and a space."""
    parts = re.fullmatch(r"(\d+m?)([A-Z][a-z]?\??)", name)
    if parts:
        return f"{raised(parts[1])}{parts[2]} "
    return f"{name} ".replace("e+e-", f"e{raised('+')}e{raised('-')}") if name else ""


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
    places = _rising(energies - offsets)
    places = np.clip(places, edges[0] + 0.7 * step, edges[-1] - 0.7 * step - offsets[-1]) + offsets
    bins = np.searchsorted(edges, energies, side="right") - 1
    # from a little below the text; to cut lines off at the text would take longer than all else
    arrow: dict[str, Any] = {"arrowstyle": "-", "lw": 0.5, "color": GREY, "relpos": (0.5, -0.06)}
    arrow |= {"patchA": None, "shrinkA": 0, "shrinkB": 0}
    frame = ax.get_xaxis_transform()
    gap = 0.01 * np.ptp(ax.get_ylim())
    for (x, name), place, y in zip(chosen, places, heights[bins], strict=True):
        text = f"{isotope_label(name)}{x:.1f}"
        label = ax.annotate(
            text, (x, y + gap), (place, 0.985), textcoords=frame, arrowprops=arrow, rotation=90
        )
        # inside of the axes: nothing for the layout to measure
        label.set(ha="center", va="top", fontsize=LABEL_SIZE, zorder=5, in_layout=False)


def _rising(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The closest values that do not fall: neighbours that would are pooled."""
    means: list[float] = []
    sizes: list[int] = []
    for value in values.tolist():
        mean, size = value, 1
        while means and means[-1] > mean:
            size += sizes[-1]
            mean += (means.pop() - mean) * sizes.pop() / size
        means.append(mean)
        sizes.append(size)
    return np.repeat(means, sizes)


def _inches(ax: Axes) -> NDArray[np.float64]:
    """Width and height of the axes, before a layout engine changes them a little."""
    return np.array(ax.get_window_extent().size) / ax.figure.dpi
