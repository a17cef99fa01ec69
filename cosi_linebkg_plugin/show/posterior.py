"""Figures of a posterior."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, LineBackgroundError
from ..fit.result import LineBackgroundFit
from .figure import (
    BLACK,
    BLUE,
    LIGHT_GREY,
    SKY_BLUE,
    VERMILLION,
    draw_ranges,
    legend_above,
    mark_suppressed_zero,
    panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _drawn_names(fit: LineBackgroundFit, names: Sequence[str] | None) -> Sequence[str]:
    """The free parameters asked for; by default those of no single line."""
    free = fit.free_names
    if names is None:
        lines = [fit.model.components[i] for i in fit.model.lines]
        of_lines = {fit.model.names[slot] for c in lines for slot in (c.area, c.energy)}
        return [n for n in free if n not in of_lines]
    unknown = [n for n in names if n not in free]
    if unknown:
        raise DataError(
            f"{', '.join(unknown)} is no free parameter of the fit; these are {', '.join(free)}."
        )
    return names


def _range_columns(
    fit: LineBackgroundFit, source_range: Sequence[Any], reference: LineBackgroundFit | None
) -> Iterator[tuple[str, NDArray[np.float64], float | None]]:
    """Label, sampled counts in the source range, and those of the reference."""
    known = None if reference is None else reference.expected_counts(source_range)
    labels = fit.expected_counts(source_range).labels
    for label, column in zip(labels, fit.sampled_counts(source_range).T, strict=True):
        if np.std(column) > 0.1:  # counts; the tails of far lines are left out
            mark = None
            if known is not None and label in known.labels:
                mark = float(known.values[known.labels.index(label)])
            yield label, column, mark


def plot_corner(
    fit: LineBackgroundFit,
    names: Sequence[str] | None = None,
    *,
    source_range: Sequence[Any] | None = None,
    reference: LineBackgroundFit | None = None,
) -> Figure:
    """Posterior distributions of parameters, and of pairs of them.

    Parameters
    ----------
    fit : LineBackgroundFit
        With posterior samples.
    names : sequence of str, optional
        Free parameters; default: those of the continuum and the shared width.
    source_range : (low, high), optional
        Adds the expected counts there of continuum and lines.
    reference : LineBackgroundFit, optional
        Another fit, whose values are marked, e.g. that of maximum likelihood.

    Returns
    -------
    matplotlib.figure.Figure
        Contours of 0.5, 1, 1.5 and 2 standard deviations; the dashed lines are the median and the
        central 68.3 %.

    Raises
    ------
    DataError
        If the fit has no samples, or no free parameter of a name.
    LineBackgroundError
        If the package corner (the extra "figures") is not installed.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    corner = _corner()

    samples, free = fit.thinned_samples(), fit.free_names
    names = _drawn_names(fit, names)
    units = {n: fit.parameters[n].unit for n in names}
    labels = [f"{n} [{units[n].replace(' ', '')}]" if units[n] else n for n in names]
    columns = [samples[:, free.index(n)] for n in names]
    marks = None if reference is None else [reference.values.get(n) for n in names]
    if source_range is not None:
        for label, column, mark in _range_columns(fit, source_range, reference):
            columns.append(column)
            labels.append(f"{label} [counts]")
            if marks is not None:
                marks.append(mark)
    if not columns:
        raise DataError("Nothing is left to draw: name a free parameter, or give source_range=.")
    size = 1.6 + 1.7 * len(columns)
    figure = Figure(figsize=(size, size))
    figure.subplots(len(columns), len(columns), squeeze=False)
    thin = {"linewidth": 1.0}
    corner.corner(
        np.column_stack(columns),
        labels=labels,
        quantiles=(0.1587, 0.5, 0.8413),
        label_kwargs={"fontsize": 9},
        labelpad=0.02,
        truths=marks,
        truth_color=VERMILLION,
        color=BLUE,
        smooth=1.0,
        max_n_ticks=3,
        hist_kwargs=thin,
        contour_kwargs={"linewidths": 0.8},
        fig=figure,
    )
    for axes in figure.axes:
        axes.tick_params(labelsize=7.5, width=0.8)
        for ticks in (axes.xaxis.get_major_formatter(), axes.yaxis.get_major_formatter()):
            if isinstance(ticks, ScalarFormatter):
                ticks.set_useOffset(False)
        for line in axes.lines:
            line.set_linewidth(1.0)
    for label, column, axes in zip(labels, columns, figure.axes[:: len(columns) + 1], strict=True):
        low, middle, high = np.quantile(column, (0.1587, 0.5, 0.8413))
        digits = max(0, 1 - int(np.floor(np.log10(max(0.5 * (high - low), 1e-300)))))
        plus, minus = f"{high - middle:.{digits}f}", f"{middle - low:.{digits}f}"
        name = label.partition(" [")[0]
        axes.set_title(f"{name}\n${middle:.{digits}f}^{{+{plus}}}_{{-{minus}}}$", fontsize=8)
    return figure


def has_corner() -> bool:
    """Whether the package corner is installed, which `plot_corner` needs."""
    return find_spec("corner") is not None


def _corner() -> Any:
    if not has_corner():
        raise LineBackgroundError(
            "This figure needs the package corner: pip install 'cosi-linebkg-plugin[figures]'."
        )
    return import_module("corner")


def plot_predictive(
    fit: LineBackgroundFit, *, seed: Any = 1, ax: Sequence[Axes] | None = None
) -> Figure:
    """The spectrum on the band in which the posterior expects it, and each bin's rank below.

    Parameters
    ----------
    fit : LineBackgroundFit
        With posterior samples.
    seed : int or numpy Generator
        Of the Poisson draws.
    ax : (Axes, Axes), optional
        Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        Above: the central 68.3 and 95.4 % of the drawn spectra. Below: the data as a quantile of
        the draws, which is uniform between 0 and 1 if the model is right; masked bins are hollow.
    """
    from ..fit.posterior import posterior_predictive

    predictive = posterior_predictive(fit, seed=seed)
    spectrum = fit.spectrum
    figure, (upper, lower) = panels(ax, 2)
    edges = spectrum.edges
    bands = np.quantile(predictive.counts, (0.0228, 0.1587, 0.8413, 0.9772), axis=0)
    for low, high, alpha, name in ((0, 3, 0.25, "95.4 %"), (1, 2, 0.5, "68.3 %")):
        upper.stairs(
            bands[high], edges, baseline=bands[low], fill=True, color=SKY_BLUE, alpha=alpha, lw=0,
            label=f"posterior predictive, {name}",
        )  # fmt: skip
    upper.plot(spectrum.centers, spectrum.counts, "o", ms=2.5, color=BLACK, label="data")
    upper.set_ylabel("counts per bin")
    shown = np.concatenate([bands.ravel(), spectrum.counts[spectrum.used]])
    upper.set_ylim(0.97 * shown.min(), 1.03 * shown.max())
    mark_suppressed_zero(upper)
    below = (predictive.counts < spectrum.counts).mean(axis=0)
    equal = (predictive.counts == spectrum.counts).mean(axis=0)
    rank = below + 0.5 * equal
    for chosen, face in ((spectrum.used, BLACK), (spectrum.mask, "white")):
        lower.plot(
            spectrum.centers[chosen], rank[chosen], "o", ms=3.5, color=BLACK, mfc=face, mew=0.8
        )
    lower.axhspan(0.1587, 0.8413, color=LIGHT_GREY, alpha=0.5, lw=0, zorder=0.2)
    lower.set(ylim=(-0.05, 1.05), ylabel="rank", xlabel="energy [keV]")
    upper.plot([], [], " ", label=f"posterior predictive p = {predictive.p_value:.2g}")
    for panel in (upper, lower):
        draw_ranges(panel, fit, None)
    upper.tick_params(labelbottom=False)
    legend_above(upper, 3)
    return figure
