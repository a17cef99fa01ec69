"""Figures of a template of several energy bins: its spectrum, and Phi against energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import TemplateError
from ..histograms.axes import ENERGY_LABEL, axis_in_kev
from ..template.axes import phi_degrees
from ..template.kinematics import FEATURES, FIRST_DEPOSITS, feature_angle
from .figure import (
    BLACK,
    BLUE,
    LABEL_SIZE,
    SKY_BLUE,
    legend_above,
    panels,
    poisson_errors,
    sigma_axis,
)
from .template import COMPONENT_STYLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..template.template import BackgroundTemplate

Array = NDArray[np.float64]

#: A component of unknown amount is drawn with this share of the template's counts.
DRAWN_SHARE = 0.1


def plot_energies(
    template: BackgroundTemplate,
    *,
    observed: ArrayLike | None = None,
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """The background's spectrum inside the source range, by component.

    Parameters
    ----------
    template : BackgroundTemplate
    observed : array_like, shape of the template's axes, counts, optional
        The events of the source range.
    ax : Axes or (Axes, Axes), optional
        With a single one the panel of chi is left out; default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        Counts per keV; the bands are the errors of the amounts (spectral fit, line ratio, or
        fitted norms); a component of unknown amount is drawn with `DRAWN_SHARE` of all counts.
        Below, with observed counts: (observed - template) / error, with the Poisson error of the
        expected counts added in quadrature; the source stands out there.
    """
    edges = _bins(template)
    widths = np.diff(edges)
    figure, axes = panels(ax, 1 if observed is None else 2)
    upper, *below = axes
    counts, errors = template.energy_counts()
    _band(upper, edges, counts / widths, errors / widths, SKY_BLUE)
    upper.stairs(counts / widths, edges, baseline=None, color=BLUE, lw=1.4, label="template")
    if len(template.labels) > 1:
        for i, name in enumerate(template.labels):
            color, style = COMPONENT_STYLES[i % len(COMPONENT_STYLES)]
            own, own_errors = (values / widths for values in template.energy_counts(name))
            unknown = not np.isfinite(own_errors).all()
            title = f"{name} (amount not known)" if unknown else name
            if unknown and template.energy_bins is not None:
                own = DRAWN_SHARE * counts.sum() * template.energy_bins.shares[i] / widths
                title = f"{name} (amount not known, drawn as {DRAWN_SHARE:.0%})"
            upper.stairs(own, edges, baseline=None, color=color, ls=style, lw=1.1, label=title)
            if not unknown:
                _band(upper, edges, own, own_errors, color)
    if observed is not None:
        seen = _along(template, observed, (ENERGY_LABEL,))
        x = 0.5 * (edges[1:] + edges[:-1])
        upper.errorbar(
            x, seen / widths, poisson_errors(seen) / widths, fmt="o", ms=3, color=BLACK,
            elinewidth=0.8, label="observed",
        )  # fmt: skip
        if below:
            noise = np.where(np.isfinite(errors), errors, 0.0)
            chi = (seen - counts) / np.sqrt(np.maximum(noise**2 + counts, 1e-300))
            below[0].plot(x, chi, "o", ms=3, color=BLACK)
            sigma_axis(below[0], chi, "χ")
            upper.tick_params(labelbottom=False)
    upper.set_ylabel("counts / keV")
    upper.set_ylim(bottom=0)
    axes[-1].set(xlabel="energy [keV]", xlim=(edges[0], edges[-1]))
    legend_above(upper, 4)
    return figure


def plot_phi_against_energy(
    template: BackgroundTemplate, *, observed: ArrayLike | None = None
) -> Figure:
    """Compton angle against energy as an image, and where the 511 keV features are.

    Parameters
    ----------
    template : BackgroundTemplate
        With a Phi axis and several energy bins.
    observed : array_like, shape of the template's axes, counts, optional
        Drawn beside it, on the same scale.

    Returns
    -------
    matplotlib.figure.Figure
        Counts per keV and degree. Curves: where a photon of the first Compton scatter has a fixed
        energy (`template.kinematics`).
    """
    from matplotlib.figure import Figure

    if "Phi" not in template.event_axes.labels:
        raise TemplateError("The template has no Phi axis; this figure needs one.")
    edges, phi = _bins(template), phi_degrees(template.event_axes["Phi"])
    area = np.outer(np.diff(edges), np.diff(phi))
    images = {"template": _along(template, template.expected(), (ENERGY_LABEL, "Phi")) / area}
    if observed is not None:
        images["observed"] = _along(template, observed, (ENERGY_LABEL, "Phi")) / area
    figure = Figure(figsize=(3.9 + 3.2 * len(images), 4.6), layout="constrained")
    axes = figure.subplots(1, len(images), sharey=True, squeeze=False)[0]
    highest = max(float(image.max()) for image in images.values())
    for panel, (name, image) in zip(axes, images.items(), strict=True):
        drawn = panel.pcolormesh(
            edges, phi, image.T, cmap="cividis", vmin=0.0, vmax=highest, rasterized=True
        )
        _draw_features(panel, edges, phi)
        panel.set(xlabel="energy [keV]", xlim=(edges[0], edges[-1]), ylim=(phi[0], phi[-1]))
        panel.set_title(name, fontsize=9, loc="left")
    axes[0].set_ylabel("φ [deg]")
    figure.colorbar(drawn, ax=list(axes), label="counts / (keV deg)", pad=0.02)
    return figure


def _draw_features(panel: Axes, edges: Array, phi: Array) -> None:
    """Curves of the features that the kinematics allow, each named at its right end."""
    energies = np.linspace(edges[0], edges[-1], 200)
    style: dict[str, Any] = {"color": "white", "lw": 0.7, "alpha": 0.6}
    for feature in FEATURES + FIRST_DEPOSITS:
        angles = feature_angle(energies, feature.photon, feature.scattered)
        if not np.isfinite(angles).any():
            continue
        panel.plot(energies, angles, ls="--" if feature.scattered else ":", **style)
        last = float(angles[np.isfinite(angles)][-1])
        if phi[0] < last < phi[-1]:
            panel.annotate(
                feature.name, (edges[-1], last), (-3, 1.5), textcoords="offset points",
                ha="right", va="bottom", fontsize=LABEL_SIZE - 1.5, color="white",
            )  # fmt: skip


def _band(ax: Axes, edges: Array, values: Array, errors: Array, color: str) -> None:
    if np.isfinite(errors).all():
        band: dict[str, Any] = {"baseline": values - errors, "fill": True, "alpha": 0.35, "lw": 0}
        ax.stairs(values + errors, edges, color=color, **band)


def _bins(template: BackgroundTemplate) -> Array:
    """Edges of the energy bins in the source range, keV."""
    inside = template.bins_inside
    edges = axis_in_kev(template.event_axes[ENERGY_LABEL])
    return edges[inside[0] : inside[-1] + 2]


def _along(template: BackgroundTemplate, contents: ArrayLike, kept: Sequence[str]) -> Array:
    """Contents summed over all axes but those of `kept`, in this order, in the source range."""
    values, labels = np.asarray(contents, float), list(template.event_axes.labels)
    if values.shape != template.event_axes.shape:
        raise TemplateError(
            f"The counts have the shape {values.shape}, the template {template.event_axes.shape}; "
            "give them on its axes (template.counts_on_axes)."
        )
    others = tuple(i for i, label in enumerate(labels) if label not in kept)
    left = [label for label in labels if label in kept]
    summed = values.sum(axis=others).transpose([left.index(label) for label in kept])
    return np.asarray(summed[template.bins_inside])
