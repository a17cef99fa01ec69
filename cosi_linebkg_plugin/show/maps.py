"""Maps of a template over the directions of the scattered photons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..consumers.rates import labels_in
from ..errors import TemplateError
from ..histograms.healpix import ang2pix
from ..template.axes import partial_sky
from .figure import LABEL_SIZE, axis_edges, sum_to

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..template.template import BackgroundTemplate

#: Names of a frame and of its coordinates, by that of astropy's frame.
_FRAMES = {
    "galactic": ("Galactic", "l", "b"),
    "icrs": ("ICRS", "RA", "Dec"),
    "spacecraftframe": ("spacecraft", "lon", "lat"),
}

#: Pixels of the picture of a map, from south to north.
_ROWS = 320

_COUNTS, _CHI = "counts per pixel", "χ, observed - template"


def plot_maps(
    template: BackgroundTemplate,
    *,
    observed: Any = None,
    phi_bins: Sequence[int] | None = None,
    label: str | None = None,
    nside: int = 4,
) -> Figure:
    """PsiChi maps in Mollweide projection: the sum and its components, or one for each Phi bin.

    Parameters
    ----------
    template : BackgroundTemplate
    observed : histpy.Histogram or path, optional
        Counts of the source range: they, the template at their total, and chi are drawn beside
        it, all down-graded. Not with `phi_bins`.
    phi_bins : sequence of int, optional
        Draws a grid of maps of these Phi bins instead of the sum.
    label : str, optional
        One component; default: the sum at the current norms, and each component beside it.
    nside : int
        Of the maps beside the template's; see `comparison.compare`.

    Returns
    -------
    matplotlib.figure.Figure
        Longitude grows to the left; maps with pixels of one size share one scale, but for
        components, which have their own.
    """
    from matplotlib.figure import Figure

    names = [str(axis.label) for axis in template.event_axes]
    if "PsiChi" not in names:
        raise TemplateError(f"The template has no PsiChi; its axes are {', '.join(names)}.")
    reason = partial_sky(template.event_axes["PsiChi"])
    if reason:
        raise TemplateError(f"Maps need the whole sphere, but PsiChi of the template is {reason}.")
    labels_in(label, template.labels)
    maps = _phi_maps(template, label, phi_bins) if phi_bins is not None else []
    if phi_bins is None:
        total = sum_to(template.expected(label), names, "PsiChi")
        maps.append(_Map(label or "template", total, template.event_axes["PsiChi"], _COUNTS))
        if label is None and len(template.labels) > 1:
            maps += _component_maps(template, names)
        if observed is not None:
            maps += _observed_maps(template, observed, nside)
    columns = min(3, len(maps))
    if phi_bins is None and len(maps) > 3:
        columns = 2
    figure = Figure()
    frame = template.event_axes["PsiChi"].frame or ""
    for (panel, below), drawn in zip(_panels(figure, len(maps), columns), maps, strict=True):
        unit = drawn.unit
        alike = [m.values for m in maps if m.unit == unit and unit != _CHI]
        span = (min(v.min() for v in alike), max(v.max() for v in alike)) if alike else None
        image = _draw_map(panel, drawn.values, drawn.pixels, span)
        panel.set_title(drawn.title, fontsize=9)
        _label_frame(panel, frame, "white" if alike else "black")
        bar = figure.colorbar(image, cax=below, orientation="horizontal")
        bar.set_label(unit, fontsize=LABEL_SIZE)
        bar.ax.tick_params(labelsize=LABEL_SIZE)
    return figure


class _Map(NamedTuple):
    """One map: `pixels` is its axis, or the nside of a RING map in the same frame."""

    title: str
    values: NDArray[np.float64]
    pixels: Any
    unit: str


def _component_maps(template: BackgroundTemplate, names: Sequence[str]) -> list[_Map]:
    """A map of each component, on a scale of its own; of one without counts, its shape.

    One that has all counts is the sum, which is drawn already.
    """
    pixels, total = template.event_axes["PsiChi"], sum(template.counts.values())
    found = []
    for name, counts in template.counts.items():
        if counts == total > 0:
            continue
        values = sum_to(template.expected(name), names, "PsiChi")
        if counts > 0:
            found.append(_Map(name, values, pixels, f"{_COUNTS}, {name}"))
        else:
            values = values / values.mean()
            found.append(_Map(f"{name}, amount not known", values, pixels, "share, 1 if even"))
    return found


def _phi_maps(
    template: BackgroundTemplate, label: str | None, phi_bins: Sequence[int]
) -> list[_Map]:
    """A map of each of some Phi bins."""
    names = [str(axis.label) for axis in template.event_axes]
    n_phi = template.event_axes["Phi"].nbins if "Phi" in names else 0
    if not len(phi_bins) or not all(0 <= i < n_phi for i in phi_bins):
        raise TemplateError(
            f"phi_bins must be numbers of the template's {n_phi} Phi bins, got {phi_bins!r}."
        )
    edges, _ = axis_edges(template.event_axes["Phi"], "Phi")
    slices = np.moveaxis(template.expected(label), names.index("Phi"), 0)
    rest = [n for n in names if n != "Phi"]
    return [
        _Map(
            f"φ = {edges[i]:g}-{edges[i + 1]:g}°",
            sum_to(slices[i], rest, "PsiChi"),
            template.event_axes["PsiChi"],
            _COUNTS,
        )
        for i in phi_bins
    ]


def _observed_maps(template: BackgroundTemplate, observed: Any, nside: int) -> list[_Map]:
    """The template at the observed total, the observed counts, and chi, all down-graded."""
    part = template.compare(observed, nside=nside).projections["PsiChi"]
    coarse = int(part.nside or nside)
    unit = f"{_COUNTS}, nside {coarse}"
    return [
        _Map("template at the observed total", part.expected, coarse, unit),
        _Map("observed", part.observed, coarse, unit),
        _Map(f"chi, nside {coarse}", part.chi, coarse, _CHI),
    ]


def _panels(figure: Figure, number: int, columns: int) -> list[tuple[Any, Any]]:
    """Axes for maps in rows, and for the scale below each, from the left and from the top.

    What surrounds them has one size: to let matplotlib measure it takes as long as to draw it.
    """
    wide = 5.6 if number == 1 else 3.2  # inches: one alone fills a page
    left, right, top, between, scale, bottom = 0.45, 0.1, 0.3, 0.28, 0.09, 0.42
    high = 0.5 * wide
    cell = np.array([left + wide + right, top + high + between + scale + bottom])
    rows = -(-number // columns)
    size = cell * (columns, rows)
    figure.set_size_inches(*size)

    def axes(x: float, y: float, width: float, height: float, projection: str | None) -> Any:
        place = np.array([x, y, width, height]) / np.tile(size, 2)
        return figure.add_axes(tuple(place.tolist()), projection=projection)

    found = []
    for i in range(number):
        row, column = divmod(i, columns)
        x, y = cell * (column, rows - 1 - row) + (left, bottom)
        panel = axes(x, y + scale + between, wide, high, "mollweide")
        found.append((panel, axes(x + 0.1 * wide, y, 0.8 * wide, scale, None)))
    return found


def _draw_map(
    panel: Any, values: NDArray[np.float64], pixels: Any, span: tuple[float, float] | None
) -> Any:
    """A healpix map on Mollweide axes, longitude growing to the left as on the sky.

    `pixels` is the axis, or the nside of a RING map in the frame of a figure beside it. Without a
    `span` the map is one of chi, whose scale is symmetric.
    """
    from matplotlib.image import BboxImage

    nside = pixels if isinstance(pixels, int) else pixels.nside
    nest = not isinstance(pixels, int) and str(pixels.scheme).upper() == "NESTED"
    latitudes, longitudes = mollweide(_ROWS)
    shown = values[ang2pix(nside, np.pi / 2 - latitudes, -longitudes, nest=nest)]
    limit = max(3.0, float(np.abs(values).max()))
    # an image of the projected sphere: a mesh of its cells takes several times as long to draw
    image = BboxImage(
        panel.bbox, cmap="cividis" if span else "RdBu_r", interpolation="nearest", origin="lower"
    )
    image.set_data(shown)
    image.set_clim(*(span or (-limit, limit)))
    panel.add_artist(image)  # which cuts it at the edge of the sphere
    return image


def mollweide(rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitudes and longitudes [rad] of the pixels of a map in Mollweide projection.

    Parameters
    ----------
    rows : int
        From the south to the north; the columns, from -pi to pi, are twice as many.

    Returns
    -------
    latitudes, longitudes : ndarray, shape (rows, 2 rows)
        Pixels outside of the sphere have the longitude of its edge.

    References
    ----------
    Snyder 1987, Map Projections (USGS Professional Paper 1395), Eqs. 31-4 to 31-6
    """
    y, x = ((np.arange(n) + 0.5) * 2.0 / n - 1.0 for n in (rows, 2 * rows))
    theta = np.arcsin(y)[:, None]
    latitudes = np.arcsin((2.0 * theta + np.sin(2.0 * theta)) / np.pi)
    longitudes = np.clip(np.pi * x / np.cos(theta), -np.pi, np.pi)
    return np.broadcast_to(latitudes, longitudes.shape), longitudes


def _label_frame(panel: Any, frame: str, color: str) -> None:
    """Grid, its longitudes and latitudes in degrees, and the name of the frame."""
    name, lon, lat = _FRAMES.get(frame.lower(), (frame or "frame not known", "lon", "lat"))
    panel.grid(visible=True, color=color, lw=0.4, alpha=0.5)
    longitudes = np.array([-120, -60, 0, 60, 120])
    panel.set_xticks(np.radians(longitudes), [f"{-x % 360}°" for x in longitudes])
    latitudes = np.array([-60, -30, 0, 30, 60])
    panel.set_yticks(np.radians(latitudes), [f"{x}°" for x in latitudes])
    panel.tick_params(labelsize=6)
    for label in panel.get_xticklabels():
        label.set(color=color, alpha=0.9)
    panel.set_xlabel(f"{lon} ({name})", fontsize=LABEL_SIZE)
    panel.set_ylabel(lat, fontsize=LABEL_SIZE, labelpad=1)
