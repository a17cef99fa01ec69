"""Figures of a posterior."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

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

    corner = _corner()
    drawn = _parameters(fit, names, reference)
    if source_range is not None:
        drawn += _source_counts(fit, source_range, reference)
    if not drawn:
        raise DataError("Nothing is left to draw: name a free parameter, or give source_range=.")
    size = 1.6 + 1.7 * len(drawn)
    figure = Figure(figsize=(size, size))
    figure.subplots(len(drawn), len(drawn), squeeze=False)
    corner.corner(
        np.column_stack([quantity.samples for quantity in drawn]),
        labels=[quantity.label for quantity in drawn],
        quantiles=(0.1587, 0.5, 0.8413),
        label_kwargs={"fontsize": 9},
        labelpad=0.02,
        truths=None if reference is None else [quantity.mark for quantity in drawn],
        truth_color=VERMILLION,
        color=BLUE,
        smooth=1.0,
        max_n_ticks=3,
        hist_kwargs={"linewidth": 1.0},
        contour_kwargs={"linewidths": 0.8},
        fig=figure,
    )
    for axes in figure.axes:
        _thin(axes)
    for quantity, axes in zip(drawn, figure.axes[:: len(drawn) + 1], strict=True):
        axes.set_title(quantity.title, fontsize=8)
    return figure


class _Quantity(NamedTuple):
    """One row of a corner figure: its name, unit, samples, and a value to be marked."""

    name: str
    unit: str
    samples: NDArray[np.float64]
    mark: float | None

    @property
    def label(self) -> str:
        return f"{self.name} [{self.unit.replace(' ', '')}]" if self.unit else self.name

    @property
    def title(self) -> str:
        """Median and central 68.3 %, to two digits of the error."""
        low, middle, high = np.quantile(self.samples, (0.1587, 0.5, 0.8413))
        digits = max(0, 1 - int(np.floor(np.log10(max(0.5 * (high - low), 1e-300)))))
        plus, minus = f"{high - middle:.{digits}f}", f"{middle - low:.{digits}f}"
        return f"{self.name}\n${middle:.{digits}f}^{{+{plus}}}_{{-{minus}}}$"


def _parameters(
    fit: LineBackgroundFit, names: Sequence[str] | None, reference: LineBackgroundFit | None
) -> list[_Quantity]:
    """The named free parameters; by default those of no single line."""
    samples, free = fit.thinned_samples(), fit.free_names
    if names is None:
        lines = [fit.model.components[i] for i in fit.model.lines]
        of_lines = {fit.model.names[slot] for c in lines for slot in (c.area, c.energy)}
        names = [n for n in free if n not in of_lines]
    unknown = [n for n in names if n not in free]
    if unknown:
        raise DataError(
            f"{', '.join(unknown)} is no free parameter of the fit; these are {', '.join(free)}."
        )
    units = {p.name: p.unit for p in fit.model.parameters}
    marks = {} if reference is None else reference.values
    return [_Quantity(n, units[n], samples[:, free.index(n)], marks.get(n)) for n in names]


def _source_counts(
    fit: LineBackgroundFit, source_range: Sequence[Any], reference: LineBackgroundFit | None
) -> list[_Quantity]:
    """Expected counts in a range; the tails of far lines are left out."""
    known: dict[str, float] = {}
    if reference is not None:
        counts = reference.expected_counts(source_range)
        known = dict(zip(counts.labels, counts.values.tolist(), strict=True))
    labels = fit.expected_counts(source_range).labels
    columns = fit.sampled_counts(source_range).T
    return [
        _Quantity(label, "counts", column, known.get(label))
        for label, column in zip(labels, columns, strict=True)
        if np.std(column) > 0.1
    ]


def _thin(axes: Axes) -> None:
    """Thin lines, and ticks without an offset."""
    from matplotlib.ticker import ScalarFormatter

    axes.tick_params(labelsize=7.5, width=0.8)
    for ticks in (axes.xaxis.get_major_formatter(), axes.yaxis.get_major_formatter()):
        if isinstance(ticks, ScalarFormatter):
            ticks.set_useOffset(False)
    for line in axes.lines:
        line.set_linewidth(1.0)


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
