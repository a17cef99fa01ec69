"""Figures of a template."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import TemplateError
from .figure import (
    BLACK,
    BLUE,
    GREY,
    LABEL_SIZE,
    LIGHT_GREY,
    MANY_STYLES,
    RESIDUAL_REACH,
    SKY_BLUE,
    STYLES,
    VERMILLION,
    _legend_above,
    _panels,
    _sigma_axis,
)
from .spectrum import _draw_ranges, _poisson_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..template.comparison import Comparison
    from ..template.template import BackgroundTemplate


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
        edges = np.arange(p.chi.size + 1.0) if p.edges is None else p.edges
        x = 0.5 * (edges[1:] + edges[:-1])
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
    scores = template.record.filter_scores
    if not scores:
        raise TemplateError("The template has no filter scores; make it with smoothing='auto'.")
    figure, (axes,) = _panels(ax, 1)
    if ax is None:
        figure.set_size_inches(figure.get_figwidth(), 0.19 * len(scores) + 1.0)
    rows = np.arange(len(scores))[::-1]
    values = np.array([s.score for s in scores])
    best = values == values.max()
    for chosen, color, label in ((best, VERMILLION, "chosen"), (~best, BLUE, "tried")):
        axes.barh(rows[chosen], values[chosen], color=color, height=0.7, label=label)
    axes.axvline(0.0, color=GREY, lw=0.8)
    # far worse ones would hide the differences among the good ones
    axes.set_xlim(left=max(values.min(), -2.0 * max(values.max(), 1.0)))
    axes.set_yticks(rows, [s.filter for s in scores], fontsize=LABEL_SIZE)
    axes.set_ylim(-0.7, len(scores) - 0.3)
    axes.set_xlabel("gain in log-likelihood over no filter")
    axes.legend(loc="lower left", fontsize=LABEL_SIZE)
    return figure


# --- comparisons and maps -------------------------------------------------------------------------


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
