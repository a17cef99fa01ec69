"""Figures of templates against observed counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from .figure import (
    BLACK,
    GREY,
    LABEL_SIZE,
    LIGHT_GREY,
    MANY_STYLES,
    RESIDUAL_REACH,
    legend_above,
    mark_suppressed_zero,
    panels,
    poisson_errors,
    short,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..template.comparison import Comparison, Projection


def plot_comparison(
    comparisons: Sequence[Comparison], axis: str = "Phi", ax: Sequence[Axes] | None = None
) -> Figure:
    """Several templates along one axis against the observed counts of the source range.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Of the same observed counts; at most 6.
    axis : "Phi", "PsiChi" or "Em"
        PsiChi is down-graded as in the comparison.
    ax : sequence of Axes, optional
        One more than there are comparisons; default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        Above: observed counts, and the templates scaled to the observed total. Below: chi of
        each, with its own total, the factor by which it was scaled, and how far off it was.
    """
    parts = [c.projections[axis] for c in comparisons if axis in c.projections]
    if not parts or len(parts) != len(comparisons) or len(parts) > len(MANY_STYLES):
        raise TemplateError(
            f"Between 1 and {len(MANY_STYLES)} comparisons with the axis {axis} are needed, got "
            f"{len(parts)} of {len(comparisons)}."
        )
    figure, (upper, *below) = panels(ax, 1 + len(parts))
    reach = max(RESIDUAL_REACH, *(1.15 * np.max(np.abs(p.chi)) for p in parts))
    for i, (c, p) in enumerate(zip(comparisons, parts, strict=True)):
        color, style = MANY_STYLES[i]
        x = _places(p)
        if i == 0:
            bars = poisson_errors(p.observed)
            upper.errorbar(
                x, p.observed, bars, fmt="o", ms=2.5, color=BLACK, elinewidth=0.7, label="observed",
                zorder=1,
            )  # fmt: skip
        upper.step(x, p.expected, where="mid", color=color, ls=style, lw=1.3, label=short(c.name))
        panel = below[i]
        panel.plot(x, p.chi, "o", ms=2.5, color=color)
        panel.axhspan(-1.0, 1.0, color=LIGHT_GREY, alpha=0.5, lw=0, zorder=0.2)
        panel.axhline(0.0, color=GREY, lw=0.8, zorder=0.5)
        panel.set(ylim=(-reach, reach), ylabel="χ")
        panel.set_title(_in_words(c, p), fontsize=LABEL_SIZE, loc="left", pad=2.0)
    for panel in (upper, *below[:-1]):
        panel.tick_params(labelbottom=False)
    if ax is None:
        figure.set_size_inches(7.5, 3.4 + 1.4 * len(parts))
    cell = "pixel" if axis == "PsiChi" else "bin"
    upper.set(ylabel=f"counts per {cell},\ntemplates scaled")
    edges = parts[0].edges
    whole = (0, parts[0].chi.size) if edges is None else (edges[0], edges[-1])
    upper.set_xlim((0, 180) if axis == "Phi" else whole)
    upper.set_ylim(bottom=None if axis == "PsiChi" else 0)
    mark_suppressed_zero(upper)
    pixel = f"ψχ [pixel, nside {parts[0].nside}]"
    below[-1].set_xlabel({"Phi": "φ [deg]", "Em": "energy [keV]"}.get(axis, pixel))
    legend_above(upper, 3)
    return figure


def _places(part: Projection) -> NDArray[np.float64]:
    """Where the groups of a projection lie along its axis."""
    if part.edges is None:
        return np.arange(part.chi.size, dtype=float) + 0.5
    centers: NDArray[np.float64] = 0.5 * (part.edges[1:] + part.edges[:-1])
    return centers


def _in_words(comparison: Comparison, part: Projection) -> str:
    """The template's own total against the observed one, and the test of its shape."""
    c = comparison
    p = f"= {part.p_value:.2g}" if part.p_value > 1e-99 else "< 1e-99"
    return (
        f"{short(c.name)}: its own total {c.counts:,.0f}, observed {c.observed:,.0f} "
        f"({c.difference_percent:+.1f} ± {c.difference_error_percent:.1f} %), drawn times "
        f"{c.observed / c.counts:.3g}\nshape: χ²/dof = {part.chi2:.0f}/{part.dof}, p {p}"
    )
