"""The spectrum as a figure that zooms and tells its numbers, for the report; needs bokeh.

Everything is inside the page: bokeh's own script is packed by gzip, and unpacked by the browser. A
browser that cannot, or may not run scripts, shows the picture of `show.spectrum` instead.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..fit.result import LineBackgroundFit
from ..io.tables import format_value
from ..lines.identify import identify_lines
from .figure import BLACK, BLUE, GREEN, GREY, LIGHT_GREY, RESIDUAL_REACH, VERMILLION

if TYPE_CHECKING:
    from bokeh.models import ColumnDataSource

#: The element that the figure is put into.
TARGET = "interactive-spectrum"

_HEIGHTS = (340, 170)  # pixels

_TOOLS = "xpan,xwheel_zoom,box_zoom,reset,save"


class Interactive(NamedTuple):
    """What a page needs.

    Attributes
    ----------
    item : str
        The figure as JSON, safe inside a script element.
    library : str
        bokeh's script, gzip in base64.
    """

    item: str
    library: str


def has_bokeh() -> bool:
    """Whether the package bokeh is installed (the extra "interactive")."""
    return find_spec("bokeh") is not None


def interactive_spectrum(
    fit: LineBackgroundFit, source_range: Sequence[float] | None = None
) -> Interactive:
    """The spectrum, its model, lines and residuals; hovering names bin, counts, model and line.

    Parameters
    ----------
    fit : LineBackgroundFit
    source_range : (low, high), keV, optional
    """
    import bokeh
    from bokeh.embed import json_item
    from bokeh.layouts import column

    bins, rows = _bins(fit), _lines(fit)
    upper, lower = _panel(fit, _HEIGHTS[0]), _panel(fit, _HEIGHTS[1])
    lower.x_range = upper.x_range
    _draw_ranges((upper, lower), fit, source_range)
    _draw_counts(upper, bins)
    _draw_lines(upper, rows, float(np.max(bins.data["counts"])))
    _draw_residuals(lower, bins)
    upper.yaxis.axis_label = "counts / keV"
    lower.yaxis.axis_label, lower.xaxis.axis_label = "residual [sigma]", "energy [keV]"
    item = json_item(column(upper, lower, sizing_mode="stretch_width"), TARGET)
    script = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"
    packed = gzip.compress(script.read_bytes(), mtime=0)
    return Interactive(_numbered(item), base64.b64encode(packed).decode("ascii"))


def _numbered(item: Any) -> str:
    """The figure as JSON; bokeh counts its objects on from one figure to the next, here from 1."""
    known: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        return known.setdefault(found[0], f'"p{len(known) + 1}"')

    return re.sub(r'"p\d+"', name, json.dumps(item)).replace("<", "\\u003c")


def _bins(fit: LineBackgroundFit) -> ColumnDataSource:
    """A row for each energy bin."""
    from bokeh.models import ColumnDataSource

    s, scale = fit.spectrum, 1.0 / fit.spectrum.widths
    continuum = fit.component_spectra[list(fit.model.continuum)].sum(axis=0)
    residuals = fit.residuals
    return ColumnDataSource(
        {
            "low": s.edges[:-1].tolist(),
            "high": s.edges[1:].tolist(),
            "middle": s.centers.tolist(),
            "counts": (scale * s.counts).tolist(),
            "model": (scale * fit.expected_total).tolist(),
            "continuum": (scale * continuum).tolist(),
            "foot": np.zeros(s.n_bins).tolist(),
            "in_bin": [format_value(x) for x in s.counts],
            "of_model": [format_value(x, digits=5) for x in fit.expected_total],
            "of_continuum": [format_value(x, digits=5) for x in continuum],
            "residual": [float(x) if np.isfinite(x) else 0.0 for x in residuals],
            "in_sigma": [f"{x:+.2f}" for x in residuals],
            "state": ["masked" if masked else "fitted" for masked in s.mask],
            "face": ["white" if masked else BLACK for masked in s.mask],
        }
    )


def _lines(fit: LineBackgroundFit) -> dict[str, list[Any]]:
    """A row for each line."""
    areas = {
        fit.model.names[c.energy]: fit.model.names[c.area]
        for c in (fit.model.components[i] for i in fit.model.lines)
    }
    values, errors = fit.values, fit.errors
    rows: dict[str, list[Any]] = {"energy": [], "name": [], "place": [], "counts": []}
    for x in identify_lines(fit):
        area = areas[x.parameter]
        rows["energy"].append(float(x.energy))
        rows["name"].append(x.name or "no name")
        rows["place"].append(format_value(x.energy, x.error))
        rows["counts"].append(format_value(values[area], errors.get(area)))
    return rows


def _panel(fit: LineBackgroundFit, height: int) -> Any:
    from bokeh.models import Range1d
    from bokeh.plotting import figure

    edges = fit.spectrum.edges
    panel = figure(
        height=height, sizing_mode="stretch_width", tools=_TOOLS, active_scroll=None,
        active_drag="box_zoom", toolbar_location="above" if height == _HEIGHTS[0] else None,
        x_range=Range1d(float(edges[0]), float(edges[-1]), bounds="auto"),
    )  # fmt: skip
    panel.toolbar.logo = None
    return panel


def _draw_ranges(
    panels: Sequence[Any], fit: LineBackgroundFit, source_range: Sequence[float] | None
) -> None:
    from bokeh.models import BoxAnnotation

    ranges = [(low, high, LIGHT_GREY) for low, high in fit.mask]
    if source_range is not None:
        ranges.append((source_range[0], source_range[1], GREEN))
    for panel in panels:
        for low, high, color in ranges:
            panel.add_layout(
                BoxAnnotation(
                    left=low,
                    right=high,
                    fill_color=color,
                    fill_alpha=0.3,
                    line_width=0,
                    level="underlay",
                )
            )


def _draw_counts(panel: Any, bins: ColumnDataSource) -> None:
    area = panel.quad(
        left="low", right="high", bottom="foot", top="counts", source=bins, fill_color=BLUE,
        fill_alpha=0.1, line_color=BLACK, line_width=0.8, hover_fill_alpha=0.35,
        legend_label="data",
    )  # fmt: skip
    for name, color, dash in (("model", VERMILLION, "solid"), ("continuum", BLUE, "dashed")):
        panel.step(
            "middle", name, mode="center", source=bins, color=color, line_width=1.6, line_dash=dash,
            legend_label=name,
        )  # fmt: skip
    panel.legend.orientation, panel.legend.click_policy = "horizontal", "hide"
    panel.legend.padding, panel.legend.border_line_width = 0, 0
    panel.add_layout(panel.legend[0], "above")
    panel.y_range.start = 0
    panel.add_tools(_hover(area))


def _draw_lines(panel: Any, rows: dict[str, list[Any]], top: float) -> None:
    """Marks at the energies of the lines, above the data."""
    from bokeh.models import ColumnDataSource, HoverTool

    source = ColumnDataSource(rows | {"top": [1.06 * top] * len(rows["energy"])})
    marks = panel.scatter(
        "energy", "top", source=source, marker="inverted_triangle", size=9, color=GREY
    )
    tips = [("line", "@name"), ("energy", "@place keV"), ("counts", "@counts")]
    panel.add_tools(HoverTool(renderers=[marks], tooltips=tips))


def _draw_residuals(panel: Any, bins: ColumnDataSource) -> None:
    from bokeh.models import BoxAnnotation

    panel.add_layout(
        BoxAnnotation(
            bottom=-1, top=1, fill_color=LIGHT_GREY, fill_alpha=0.4, line_width=0, level="underlay"
        )
    )
    marks = panel.scatter(
        "middle", "residual", source=bins, size=5, line_color=BLACK, fill_color="face"
    )
    used = [
        abs(r)
        for r, state in zip(bins.data["residual"], bins.data["state"], strict=True)
        if state == "fitted"
    ]
    limit = max(RESIDUAL_REACH, 1.15 * max(used, default=0.0))
    panel.y_range.start, panel.y_range.end = -limit, limit
    panel.add_tools(_hover(marks))


def _hover(renderer: Any) -> Any:
    """What a bin says of itself."""
    from bokeh.models import HoverTool

    tips = [
        ("bin", "@low{0.00} to @high{0.00} keV, @state"),
        ("counts", "@in_bin"),
        ("model", "@of_model"),
        ("continuum", "@of_continuum"),
        ("residual", "@in_sigma sigma"),
    ]
    return HoverTool(renderers=[renderer], tooltips=tips)
