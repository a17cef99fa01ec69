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
    ORANGE,
    PURPLE,
    SKY_BLUE,
    STYLES,
    VERMILLION,
    axis_edges,
    draw_ranges,
    legend_above,
    panels,
    poisson_errors,
    raised,
    sigma_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..template.template import BackgroundTemplate

#: Of the components of a template, beside its sum.
COMPONENT_STYLES = ((PURPLE, "--"), (ORANGE, "-."), (GREY, ":"))


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
        The band is the template's own error (sumw2); that of its norm is named in the legend, and
        components are drawn where several have counts. Below, if there is something to compare
        with: chi = (template - other) / error. The error is the template's own, for `observed`
        with the Poisson error of the expected counts added in quadrature; the truth is scaled to
        the template's total.
    """
    counts, errors = template.project(axis)
    edges, label = axis_edges(template.event_axes[axis], axis)
    others = {
        name: _one_per_bin(values, counts.size, name, axis)
        for name, values in (("observed", observed), ("truth", truth))
        if values is not None
    }
    figure, axes = panels(ax, 2 if others else 1)
    upper, *below = axes
    steps = partial(upper.stairs, edges=edges, baseline=None)
    band: dict[str, Any] = {"baseline": counts - errors, "fill": True, "alpha": 0.5, "lw": 0}
    own = f"template ± 1 σ of the slices' counts; {_norm_error(template)}"
    upper.stairs(counts + errors, edges, color=SKY_BLUE, label=own, **band)
    steps(counts, color=BLUE, lw=1.4, label="template")
    amounts = [name for name in template.labels if template.counts[name] > 0]
    if len(amounts) > 1:
        for i, name in enumerate(amounts):
            color, style = COMPONENT_STYLES[i % len(COMPONENT_STYLES)]
            steps(template.project(axis, name)[0], color=color, ls=style, lw=1.0, label=name)
    if truth is not None:
        steps(others["truth"], color=VERMILLION, ls="--", lw=1.2, label="truth")
    if observed is not None:
        x, y = 0.5 * (edges[1:] + edges[:-1]), others["observed"]
        bars = poisson_errors(y)
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
    legend_above(upper, 2)
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
        Of the energies that have weights, and a tenth of their span to either side.
    """
    figure, (axes,) = panels(ax, 1)
    edges = template.fit.spectrum.edges
    axes.axhline(0.0, color=GREY, lw=0.8)
    largest = float(np.max(np.abs(template.weights), initial=1e-300))
    power = int(np.floor(np.log10(largest))) if not 0.01 < largest < 1000 else 0
    for i, (label, weights) in enumerate(zip(template.labels, template.weights, strict=True)):
        color, style = STYLES[i % len(STYLES)]
        axes.stairs(
            weights / 10.0**power, edges, baseline=None, color=color, ls=style, lw=1.4, label=label
        )
    draw_ranges(axes, template.fit, template.source_range)
    axes.set_xlim(*_where_weighted(template))
    unit = f" [10{raised(str(power))}]" if power else ""
    axes.set(xlabel="energy [keV]", ylabel=f"weight of a slice{unit}")
    legend_above(axes, 4)
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
    figure, (axes,) = panels(ax, 1)
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
    legend_above(axes, 2)
    return figure


def _where_weighted(template: BackgroundTemplate) -> tuple[float, float]:
    """Energies that have weights, the source range, and what is beside them, in keV."""
    edges = template.fit.spectrum.edges
    bins = np.flatnonzero(np.any(template.weights != 0.0, axis=0))
    low = min([template.source_range[0], *edges[bins]])
    high = max([template.source_range[1], *edges[bins + 1]])
    beside = 0.1 * (high - low)
    return max(low - beside, edges[0]), min(high + beside, edges[-1])


def _norm_error(template: BackgroundTemplate) -> str:
    """The error of the template's total, in words."""
    total = sum(template.counts.values())
    if template.unknown:
        return f"the amount of {', '.join(template.unknown)} is not known"
    if not total > 0:
        return "norm 0"
    return f"norm ± {100.0 * template.total_error / total:.2g} %"


def _draw_chi(
    ax: Axes,
    edges: NDArray[np.float64],
    counts: NDArray[np.float64],
    errors: NDArray[np.float64],
    others: dict[str, NDArray[np.float64]],
) -> None:
    """(template - other) / error per bin; bins without an error are left out.

    The truth, which has no noise of its own, is compared at the template's total with the
    template's error alone.
    """
    centers, shown = 0.5 * (edges[1:] + edges[:-1]), [np.zeros(1)]
    noise = {"observed": np.sqrt(errors**2 + np.maximum(counts, 0.0)), "truth": errors}
    styles: dict[str, dict[str, Any]] = {
        "observed": {"marker": "o", "color": BLACK},
        "truth": {"marker": "s", "color": VERMILLION, "mfc": "none"},
    }
    for name, values in others.items():
        known, title = noise[name] > 0, name
        if name == "truth" and values.sum() > 0:
            values, title = values * counts.sum() / values.sum(), "truth at the template's total"
        chi = (counts - values)[known] / noise[name][known]
        label = f"{title}: χ² / bins = {np.sum(chi**2):.1f} / {chi.size}"
        ax.plot(centers[known], chi, ls="none", ms=3, label=label, **styles[name])
        shown.append(chi)
    sigma_axis(ax, np.concatenate(shown), "χ")
    legend_above(ax, 2)


def _one_per_bin(values: ArrayLike, n_bins: int, name: str, axis: str) -> NDArray[np.float64]:
    if np.shape(values) != (n_bins,):
        raise TemplateError(
            f"The {name} counts have the shape {np.shape(values)}, the template has {n_bins} bins "
            f"along {axis}; give one number of counts per bin."
        )
    return np.asarray(values, dtype=float)
