"""The spectrum as a figure that zooms and tells its numbers, for the report.

The page holds the numbers and a small script of its own (interactive.js) that draws them. A browser
that may not run scripts shows the picture of `show.spectrum` instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fit.result import LineBackgroundFit
from ..io.tables import format_value
from ..lines.identify import identify_lines
from .figure import BLUE, GREEN, GREY, LIGHT_GREY, RESIDUAL_REACH, VERMILLION


def interactive_spectrum(
    fit: LineBackgroundFit, source_range: Sequence[float] | None = None
) -> str:
    """The spectrum, its model, lines and residuals, as what interactive.js draws.

    Parameters
    ----------
    fit : LineBackgroundFit
    source_range : (low, high), keV, optional

    Returns
    -------
    str
        JSON, safe inside a script element. Counts, model and continuum are per keV; `text` holds
        what is said of each bin: counts, model and continuum in the bin, residual in sigma.
    """
    s = fit.spectrum
    continuum = fit.component_spectra[list(fit.model.continuum)].sum(axis=0)
    residuals = np.where(np.isfinite(fit.residuals), fit.residuals, 0.0)
    ranges = [(low, high, LIGHT_GREY) for low, high in fit.mask]
    if source_range is not None:
        ranges.append((source_range[0], source_range[1], GREEN))
    item = {
        "edges": s.edges.tolist(),
        "counts": _rounded(s.counts / s.widths),
        "model": _rounded(fit.expected_total / s.widths),
        "continuum": _rounded(continuum / s.widths),
        "residuals": _rounded(residuals),
        "masked": s.mask.tolist(),
        "text": [
            (format_value(n), format_value(m, digits=5), format_value(c, digits=5), f"{r:+.2f}")
            for n, m, c, r in zip(s.counts, fit.expected_total, continuum, residuals, strict=True)
        ],
        "lines": _lines(fit),
        "ranges": ranges,
        "reach": max(RESIDUAL_REACH, 1.15 * float(np.max(np.abs(residuals[s.used]), initial=0.0))),
        "blue": BLUE,
        "red": VERMILLION,
        "grey": GREY,
    }
    return json.dumps(item, separators=(",", ":")).replace("<", "\\u003c")


def _rounded(values: NDArray[np.float64]) -> list[float]:
    """To seven digits: more than a screen shows."""
    return [float(f"{x:.7g}") for x in values]


def _lines(fit: LineBackgroundFit) -> list[dict[str, Any]]:
    """What is said of each line."""
    areas = {
        fit.model.names[c.energy]: fit.model.names[c.area]
        for c in (fit.model.components[i] for i in fit.model.lines)
    }
    values, errors = fit.values, fit.errors
    return [
        {
            "energy": float(x.energy),
            "name": x.name or "no name",
            "place": format_value(x.energy, x.error),
            "counts": format_value(values[areas[x.parameter]], errors.get(areas[x.parameter])),
        }
        for x in identify_lines(fit)
    ]
