"""Figures of fits and templates: results go in, a matplotlib Figure comes out.

matplotlib is imported on use, and only its objects are: no backend is chosen, nothing is shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from scipy.special import gammaincinv

from .catalogue import identify_lines
from .errors import DataError, FileError, TemplateError
from .files import whole_file
from .result import LineBackgroundFit, in_kev
from .statistic import deviance_residuals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .comparison import Comparison
    from .template import BackgroundTemplate

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


def plot_projection(
    template: BackgroundTemplate,
    axis: str = "Phi",
    *,
    observed: ArrayLike | None = None,
    truth: ArrayLike | None = None,
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """The template along one of its axes, compared with what else is known about it.

    Parameters
    ----------
    template : BackgroundTemplate
    axis : str
    observed : array_like, shape (n_bins of the axis,), counts, optional
        The events of the source range.
    truth : array_like, shape (n_bins of the axis,), counts, optional
        Expected background counts, where a simulation knows them.
    ax : Axes or (Axes, Axes), optional
        With a single one the panel of chi is left out; default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        The band is the template's own error (sumw2). Below, if there is something to compare
        with: chi = (template - other) / error, where the error is the template's own, for
        `observed` with the Poisson error of the expected counts added in quadrature.
    """
    counts, errors = template.project(axis)
    edges, label = _axis_edges(template.axes[axis], axis)
    others = {
        name: _one_per_bin(values, counts.size, name, axis)
        for name, values in (("observed", observed), ("truth", truth))
        if values is not None
    }
    figure, axes = _panels(ax, 2 if others else 1)
    upper, *below = axes
    steps = partial(upper.stairs, edges=edges, baseline=None)
    band: dict[str, Any] = {"baseline": counts - errors, "fill": True, "alpha": 0.5, "lw": 0}
    upper.stairs(counts + errors, edges, color=SKY_BLUE, label=r"template $\pm$ 1 $\sigma$", **band)
    steps(counts, color=BLUE, lw=1.4, label="template")
    if truth is not None:
        steps(others["truth"], color=VERMILLION, ls="--", lw=1.2, label="truth")
    if observed is not None:
        x, y = 0.5 * (edges[1:] + edges[:-1]), others["observed"]
        bars = _poisson_errors(y)
        upper.errorbar(x, y, bars, fmt="o", ms=3, color=BLACK, elinewidth=0.8, label="observed")
    upper.set_ylabel("counts per bin")
    if all(np.all(y >= 0) for y in (counts - errors, *others.values())):
        upper.set_ylim(bottom=0)
    if others and below:
        _draw_chi(below[0], edges, counts, errors, others)
        upper.tick_params(labelbottom=False)
    for panel in axes:
        panel.set_xlim(edges[0], edges[-1])
    axes[-1].set_xlabel(label)
    _legend_above(upper, 4)
    return figure


def plot_comparison(
    comparisons: Sequence[Comparison], axis: str = "Phi", ax: Sequence[Axes] | None = None
) -> Figure:
    """Several templates along one axis against the observed counts of the source range.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Of the same observed counts; at most 6.
    axis : "Phi" or "PsiChi"
        PsiChi is down-graded as in the comparison.
    ax : sequence of Axes, optional
        One more than there are comparisons; default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        Above: observed counts, and the templates at the observed total. Below: chi of each.
    """
    parts = [c.projections[axis] for c in comparisons if axis in c.projections]
    if not parts or len(parts) != len(comparisons) or len(parts) > len(MANY_STYLES):
        raise TemplateError(
            f"Between 1 and {len(MANY_STYLES)} comparisons with the axis {axis} are needed, got "
            f"{len(parts)} of {len(comparisons)}."
        )
    figure, (upper, *below) = _panels(ax, 1 + len(parts))
    reach = max(RESIDUAL_REACH, *(1.15 * np.max(np.abs(p.chi)) for p in parts))
    for i, (c, p) in enumerate(zip(comparisons, parts, strict=True)):
        color, style = MANY_STYLES[i]
        x = np.arange(p.chi.size) + 0.5 if axis == "PsiChi" else _group_centers(p)
        if i == 0:
            bars = _poisson_errors(p.observed)
            upper.errorbar(
                x, p.observed, bars, fmt="o", ms=2.5, color=BLACK, elinewidth=0.7, label="observed",
                zorder=1,
            )  # fmt: skip
        upper.step(x, p.expected, where="mid", color=color, ls=style, lw=1.3, label=c.name)
        panel = below[i]
        panel.plot(x, p.chi, "o", ms=2.5, color=color)
        panel.axhspan(-1.0, 1.0, color=LIGHT_GREY, alpha=0.5, lw=0, zorder=0.2)
        panel.axhline(0.0, color=GREY, lw=0.8, zorder=0.5)
        panel.set(ylim=(-reach, reach), ylabel=r"$\chi$")
        p_text = f"= {p.p_value:.2g}" if p.p_value > 1e-99 else "< 1e-99"
        panel.set_title(
            f"{c.name}: total {c.difference_percent:+.1f} ± {c.difference_error_percent:.1f} %, "
            rf"$\chi^2$/dof = {p.chi2:.0f}/{p.dof}, p {p_text}",
            fontsize=LABEL_SIZE, loc="left", pad=2.0,
        )  # fmt: skip
    for panel in (upper, *below[:-1]):
        panel.tick_params(labelbottom=False)
    if ax is None:
        figure.set_size_inches(7.5, 3.4 + 1.25 * len(parts))
    upper.set(ylabel="counts per bin" if axis == "Phi" else "counts per pixel")
    upper.set_xlim((0, 180) if axis == "Phi" else (0, parts[0].chi.size))
    upper.set_ylim(bottom=0 if axis == "Phi" else None)
    pixel = rf"$\psi\chi$ [pixel, nside {parts[0].nside}]"
    below[-1].set_xlabel(r"$\phi$ [deg]" if axis == "Phi" else pixel)
    _legend_above(upper, 3)
    return figure


def plot_maps(
    template: BackgroundTemplate,
    *,
    observed: Any = None,
    phi_bins: Sequence[int] | None = None,
    label: str | None = None,
    nside: int = 4,
) -> Figure:
    """PsiChi maps in Mollweide projection, summed over all axes or one for each Phi bin.

    Parameters
    ----------
    template : BackgroundTemplate
    observed : histpy.Histogram or path, optional
        Counts of the source range, drawn beside it, and chi of the down-graded maps. Not with
        `phi_bins`.
    phi_bins : sequence of int, optional
        Draws a grid of maps of these Phi bins instead of the sum.
    label : str, optional
        One component; default: the sum at the current norms.
    nside : int
        Of the map of chi; see `comparison.compare`.

    Returns
    -------
    matplotlib.figure.Figure
        Longitude grows to the left.
    """
    from matplotlib.figure import Figure

    names = [str(axis.label) for axis in template.axes]
    if "PsiChi" not in names:
        raise TemplateError(f"The template has no PsiChi; its axes are {', '.join(names)}.")
    if label is not None and label not in template.labels:
        raise TemplateError(
            f"The template has no component {label!r}; it has {', '.join(template.labels)}."
        )
    chosen = template.histogram if label is None else template.components[label]
    contents = np.asarray(chosen.contents)
    axis = template.axes["PsiChi"]
    maps: list[tuple[str, NDArray[np.float64], Any, str]] = []
    if phi_bins is not None:
        n_phi = template.axes["Phi"].nbins if "Phi" in names else 0
        if not len(phi_bins) or not all(0 <= i < n_phi for i in phi_bins):
            raise TemplateError(
                f"phi_bins must be numbers of the template's {n_phi} Phi bins, got {phi_bins!r}."
            )
        edges, _ = _axis_edges(template.axes["Phi"], "Phi")
        slices = np.moveaxis(contents, names.index("Phi"), 0)
        rest = [n for n in names if n != "Phi"]
        for i in phi_bins:
            title = rf"$\phi$ = {edges[i]:g}-{edges[i + 1]:g}°"
            maps.append((title, _sum_to(slices[i], rest, "PsiChi"), axis, "counts"))
    else:
        maps.append((label or "template", _sum_to(contents, names, "PsiChi"), axis, "counts"))
        if observed is not None:
            counts = template.counts_on_axes(observed)
            maps.append(("observed", _sum_to(counts, names, "PsiChi"), axis, "counts"))
            part = template.compare(observed, nside=nside).projections["PsiChi"]
            coarse = f"chi, nside {part.nside}"
            maps.append((coarse, part.chi, part.nside, r"$\chi$"))
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(0.4 + 3.6 * columns, 2.7 * rows))
    figure.set_layout_engine("constrained", hspace=0.12)
    grid = figure.subplots(
        rows, columns, squeeze=False, subplot_kw={"projection": "mollweide"}
    ).ravel()
    for panel, (title, values, pixels, unit) in zip(grid, maps, strict=False):
        _draw_map(panel, values, pixels, title, unit)
    for panel in grid[len(maps) :]:
        panel.set_visible(False)
    return figure


def plot_weights(template: BackgroundTemplate, ax: Axes | None = None) -> Figure:
    """The weights on the energy slices, one curve per component of the template.

    Parameters
    ----------
    template : BackgroundTemplate
    ax : Axes, optional
        Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (axes,) = _panels(ax, 1)
    edges = template.fit.spectrum.edges
    axes.axhline(0.0, color=GREY, lw=0.8)
    largest = float(np.max(np.abs(template.weights), initial=1e-300))
    power = int(np.floor(np.log10(largest))) if not 0.01 < largest < 1000 else 0
    for i, (label, weights) in enumerate(zip(template.labels, template.weights, strict=True)):
        color, style = STYLES[i % len(STYLES)]
        axes.stairs(
            weights / 10.0**power, edges, baseline=None, color=color, ls=style, lw=1.4, label=label
        )
    _draw_ranges(axes, template.fit, template.source_range, ())
    unit = f" [$10^{{{power}}}$]" if power else ""
    axes.set(xlabel="energy [keV]", ylabel=f"weight of a slice{unit}")
    _legend_above(axes, 4)
    return figure


def plot_filter_scores(template: BackgroundTemplate, ax: Axes | None = None) -> Figure:
    """How well each filter's template of half of the counts predicts the other half.

    Parameters
    ----------
    template : BackgroundTemplate
        Made with smoothing="auto".
    ax : Axes, optional
        Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        Filters that do far worse than none reach beyond the axis.

    Raises
    ------
    TemplateError
        If the template's filter was not chosen from the data.
    """
    scores = template.details.get("filter_scores")
    if not scores:
        raise TemplateError("The template has no filter scores; make it with smoothing='auto'.")
    figure, (axes,) = _panels(ax, 1)
    if ax is None:
        figure.set_size_inches(figure.get_figwidth(), 0.19 * len(scores) + 1.0)
    rows = np.arange(len(scores))[::-1]
    values = np.array([s["score"] for s in scores])
    best = values == values.max()
    for chosen, color, label in ((best, VERMILLION, "chosen"), (~best, BLUE, "tried")):
        axes.barh(rows[chosen], values[chosen], color=color, height=0.7, label=label)
    axes.axvline(0.0, color=GREY, lw=0.8)
    # far worse ones would hide the differences among the good ones
    axes.set_xlim(left=max(values.min(), -2.0 * max(values.max(), 1.0)))
    axes.set_yticks(rows, [s["filter"] for s in scores], fontsize=LABEL_SIZE)
    axes.set_ylim(-0.7, len(scores) - 0.3)
    axes.set_xlabel("gain in log-likelihood over no filter")
    axes.legend(loc="lower left", fontsize=LABEL_SIZE)
    return figure


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
    """
    import corner
    from matplotlib.figure import Figure

    samples, free = fit.thinned_samples(), fit.free_names
    if names is None:
        names = [n for n in free if not n.startswith(("F_", "mu_"))]
    unknown = [n for n in names if n not in free]
    if unknown:
        raise DataError(
            f"{', '.join(unknown)} is no free parameter of the fit; these are {', '.join(free)}."
        )
    units = {n: fit.parameters[n].unit for n in names}
    labels = [f"{n} [{units[n].replace(' ', '')}]" if units[n] else n for n in names]
    columns = [samples[:, free.index(n)] for n in names]
    marks = None if reference is None else [reference.values.get(n) for n in names]
    if source_range is not None:
        known = None if reference is None else reference.expected_counts(source_range)
        counts = fit.expected_counts(source_range)
        for label, column in zip(counts.labels, fit.sampled_counts(source_range).T, strict=True):
            if np.std(column) > 0.1:  # counts; the tails of far lines are left out
                columns.append(column)
                labels.append(f"{label} [counts]")
                if marks is not None and known is not None:
                    has = label in known.labels
                    marks.append(known.values[known.labels.index(label)] if has else None)
    if not columns:
        raise DataError("Nothing is left to draw: name a free parameter, or give source_range=.")
    size = 1.2 + 1.5 * len(columns)
    figure = Figure(figsize=(size, size))
    figure.subplots(len(columns), len(columns), squeeze=False)
    thin = {"linewidth": 1.0}
    corner.corner(
        np.column_stack(columns),
        labels=labels,
        quantiles=(0.1587, 0.5, 0.8413),
        label_kwargs={"fontsize": 8},
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
        axes.tick_params(labelsize=7, width=0.8)
        for line in axes.lines:
            line.set_linewidth(1.0)
    for label, column, axes in zip(labels, columns, figure.axes[:: len(columns) + 1], strict=True):
        low, middle, high = np.quantile(column, (0.1587, 0.5, 0.8413))
        digits = max(0, 1 - int(np.floor(np.log10(max(0.5 * (high - low), 1e-300)))))
        plus, minus = f"{high - middle:.{digits}f}", f"{middle - low:.{digits}f}"
        name = label.partition(" [")[0]
        axes.set_title(f"{name}\n${middle:.{digits}f}^{{+{plus}}}_{{-{minus}}}$", fontsize=8)
    return figure


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
    from .posterior import posterior_predictive

    predictive = posterior_predictive(fit, seed=seed)
    spectrum = fit.spectrum
    figure, (upper, lower) = _panels(ax, 2)
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
        _draw_ranges(panel, fit, None, ())
    upper.tick_params(labelbottom=False)
    _legend_above(upper, 3)
    return figure


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
    buffer = BytesIO()  # Pillow does not say why it could not write
    figure.savefig(buffer, format=kind, dpi=150)
    with whole_file(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


# --- comparisons and maps -------------------------------------------------------------------------


def _group_centers(part: Any) -> NDArray[np.float64]:
    """Centres of merged Phi bins [deg], from their names' edges."""
    edges = [[float(x) for x in name.removesuffix(" deg").split("-")] for name in part.names]
    return np.mean(edges, axis=1)


def _sum_to(contents: NDArray[np.float64], names: Sequence[str], axis: str) -> NDArray[np.float64]:
    others = tuple(i for i, name in enumerate(names) if name != axis)
    return contents.sum(axis=others)


def _draw_map(panel: Any, values: NDArray[np.float64], pixels: Any, title: str, unit: str) -> None:
    """A healpix map on Mollweide axes, longitude growing to the left as on the sky.

    `pixels` is the axis, or the nside of a RING map in the frame of a figure beside it.
    """
    import healpy as hp

    nside = pixels if isinstance(pixels, int) else pixels.nside
    nest = not isinstance(pixels, int) and str(pixels.scheme).upper() == "NESTED"
    lon, lat = np.meshgrid(np.linspace(-180, 180, 721), np.linspace(-90, 90, 361))
    centers = 0.5 * (lon[:-1, 1:] + lon[:-1, :-1]), 0.5 * (lat[1:, :-1] + lat[:-1, :-1])
    shown = values[hp.ang2pix(nside, -centers[0], centers[1], nest=nest, lonlat=True)]
    signed = unit != "counts"
    limit = max(3.0, float(np.abs(values).max())) if signed else None
    image = panel.pcolormesh(
        np.radians(lon), np.radians(lat), shown, cmap="RdBu_r" if signed else "cividis",
        vmin=-limit if limit else None, vmax=limit, rasterized=True,
    )  # fmt: skip
    panel.grid(visible=True, color="white", lw=0.4, alpha=0.6)
    panel.set_xticklabels([])
    panel.set_yticklabels([])
    panel.set_title(title, fontsize=9)
    bar = panel.figure.colorbar(image, ax=panel, orientation="horizontal", shrink=0.6, pad=0.04)
    bar.set_label(unit, fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=LABEL_SIZE)


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


def _draw_chi(ax, edges, counts, errors, others) -> None:
    """(template - other) / error per bin, where the error is that of the template and of an
    observation of the source range; bins without an error are left out."""
    centers, shown = 0.5 * (edges[1:] + edges[:-1]), [np.zeros(1)]
    noise = np.sqrt(errors**2 + np.maximum(counts, 0.0))
    styles = {
        "observed": {"marker": "o", "color": BLACK},
        "truth": {"marker": "s", "color": VERMILLION, "mfc": "none"},
    }
    for name, values in others.items():
        known = noise > 0
        chi = (counts - values)[known] / noise[known]
        label = f"{name}: $\\chi^2$ / bins = {np.sum(chi**2):.1f} / {chi.size}"
        ax.plot(centers[known], chi, ls="none", ms=3, label=label, **styles[name])
        shown.append(chi)
    _sigma_axis(ax, np.concatenate(shown), r"$\chi$")
    _legend_above(ax, 2)


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


def _axis_edges(axis: Any, name: str) -> tuple[NDArray[np.float64], str]:
    """Edges as numbers, and the label of the axis with its unit."""
    edges, unit = axis.edges, getattr(axis, "unit", None)
    if name == "Time":  # a time, or a quantity or number in seconds
        since = edges - edges[0]
        days = since.to_value("d") if hasattr(since, "to_value") else since / 86400.0
        return np.asarray(days, dtype=float), "time since start [d]"
    if name == "PsiChi":
        return np.arange(len(edges), dtype=float), r"$\psi\chi$ [pixel]"
    title, unit = {"Phi": (r"$\phi$", "deg"), "Em": ("energy", "keV")}.get(name, (name, unit))
    values = edges.to_value(unit) if hasattr(edges, "to_value") else edges
    return np.asarray(values, dtype=float), f"{title} [{unit}]" if unit else title


def _one_per_bin(values: ArrayLike, n_bins: int, name: str, axis: str) -> NDArray[np.float64]:
    if np.shape(values) != (n_bins,):
        raise TemplateError(
            f"The {name} counts have the shape {np.shape(values)}, the template has {n_bins} bins "
            f"along {axis}; give one number of counts per bin."
        )
    return np.asarray(values, dtype=float)
