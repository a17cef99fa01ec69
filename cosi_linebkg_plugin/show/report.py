"""The report: one HTML file that needs nothing else, on a screen, a phone or paper."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from ..fit.numbers import installed_versions
from ..fit.result import LineBackgroundFit
from ..fit.words import chance, shown_parameters
from ..io.atomic import whole_file
from ..io.tables import DASH, format_value
from ..lines.identify import identify_lines
from ..units import in_kev
from .figure import rendered
from .interactive import TARGET, Interactive, has_bokeh, interactive_spectrum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..template.template import BackgroundTemplate

#: Bytes of a page that is still easy to mail; a spectrum that zooms is left out above it.
LARGEST_PAGE = 2_000_000

#: Captions of the figures that a run makes; any other name is its own caption.
CAPTIONS = {
    "spectrum": (
        "Energy spectrum, fitted model and residuals, which are in units of the standard deviation "
        "that the fit leaves each bin. Masked bins (hollow) take no part in the fit; triangles lie "
        "beyond the axis. The coloured band is the error of the model."
    ),
    "phi": (
        "The template and its components along the Compton scattering angle; the band is the error "
        "of the slices' counts, that of the norm is named. Observed counts, where they were given, "
        "hold the source as well; below, their distance from the template in standard deviations."
    ),
    "energies": (
        "The background's spectrum inside the source range, by component, in counts per keV; the "
        "bands are the errors of the amounts. Observed counts, where they were given, hold the "
        "source as well; below, their distance from the template in standard deviations."
    ),
    "phi_energy": (
        "Compton scattering angle against energy: the template, and beside it the observed counts "
        "where they were given. Curves: a photon of fixed energy leaves the first scatter "
        "(dashed), or is all of its first deposit (dotted)."
    ),
    "phi_truth": (
        "The template along the Compton scattering angle against the simulated truth, which has no "
        "noise: chi is in units of the template's own error."
    ),
    "maps": (
        "The template over the directions of the scattered photons, summed over other axes, and "
        "each component on a scale of its own; beside observed counts it is drawn at their total."
    ),
    "light_curve": (
        "Rate of each component over its mean, by time, from the spectra of the time bins with the "
        "shapes of the total fit held; the errors are those of each bin's share."
    ),
    "weights": "Weights of the energy slices that make up the template.",
    "filter_scores": (
        "Choice of the filter: log-likelihood of half of the counts under a template of the other "
        "half, above that without a filter; the best one is taken. Far worse ones reach "
        "beyond the axis."
    ),
    "control": (
        "The same recipe on control ranges, where the counts are known to be background. Above: "
        "pulls of the totals with the error of the fit alone (filled), and with the measured error "
        "added where there is one (open). Below: chi-square per degree of freedom along each axis "
        "with the template's own errors; hollow where that of a right template is as large with "
        "a chance below 1 %."
    ),
    "posterior": "Posterior of the continuum, the width and the counts in the source range.",
    "predictive": (
        "The data on the band in which the posterior expects them; below, each bin's rank among "
        "the drawn spectra, uniform if the model is right (grey: 68.3 %); masked bins are hollow."
    ),
}

#: What the page says of each of `template.options.METHODS`.
SAID_OF_METHODS = {
    "sideband": "sum of the sidebands, scaled by the fitted spectrum",
    "interpolated": "least-noise weights, right for a linear change with energy",
    "components": "decomposition into the fitted components",
}

_LISTED_SHARE = 1e-3  # of the counts in the source range; smaller components are not listed


def write_report(
    path: str | os.PathLike[str],
    *,
    fit: LineBackgroundFit,
    template: BackgroundTemplate | None = None,
    config_text: str | None = None,
    comparison: Sequence[Mapping[str, Any]] | None = None,
    figures: Mapping[str, Figure | bytes] | None = None,
    title: str = "Line background",
    notes: Sequence[str] = (),
    source_range: Sequence[Any] | None = None,
    interactive: bool = True,
) -> None:
    """Write the report, whole or not at all.

    Parameters
    ----------
    path : path
    fit : LineBackgroundFit
    template : BackgroundTemplate, optional
    config_text : str, optional
        The configuration that repeats the run.
    comparison : list of dict, optional
        Rows of a table, its columns named by the keys. A number goes with its error as
        ``(value, error)``, or as ``counts`` beside the key ``error``.
    figures : dict of str to Figure, optional
        In order; the names are captions, or keys of `CAPTIONS`. A figure may be the bytes of a PNG.
    title : str
    notes : sequence of str
        Shown below the summary.
    source_range : (low, high), optional
        Quantities, or keV; default: the template's.
    interactive : bool
        Let the figure "spectrum" zoom and tell its numbers, where bokeh is installed and the page
        stays below `LARGEST_PAGE`. The picture stays, for paper and for browsers without scripts.

    Raises
    ------
    FileError
        If `path` cannot be written; an existing report stays as it was.
    """
    page = _page("report.html.j2")
    if source_range is None and template is not None:
        source_range = template.source_range
    range_kev = None if source_range is None else in_kev(source_range)
    pictures = {name: _png(figure) for name, figure in (figures or {}).items()}
    unseen = range_kev and any(a < range_kev[1] and b > range_kev[0] for a, b in fit.mask)
    text = page.render(
        title=title,
        notes=(*notes, *(template.notes if template is not None else ())),
        fit=fit,
        parameters=shown_parameters(fit),
        headline=headline(fit),
        laws=", ".join(dict.fromkeys(fit.model.components[i].kind for i in fit.model.continuum)),
        template=template,
        method=SAID_OF_METHODS[template.method] if template else "",
        source_range=range_kev,
        lines=_lines(fit),
        source_counts=_source_counts(fit, range_kev) if range_kev else [],
        unseen=unseen,
        control=template.control_ranges if template else None,
        control_table=_comparison_table(control_rows(template)),
        comparison=_comparison_table(comparison or ()),
        figures=[(name, CAPTIONS.get(name, name), picture) for name, picture in pictures.items()],
        interactive=_zooming(fit, range_kev, pictures) if interactive else None,
        target=TARGET,
        config_text=config_text,
        versions=installed_versions() | dict(fit.versions),
        number=format_value,
        chance=chance,
        ranges=format_ranges,
    )
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _zooming(
    fit: LineBackgroundFit, source_range: tuple[float, float] | None, pictures: Mapping[str, str]
) -> Interactive | None:
    """The spectrum that zooms, if there is one, and the page has room for it."""
    if "spectrum" not in pictures or not has_bokeh():
        return None
    made = interactive_spectrum(fit, source_range)
    size = sum(map(len, pictures.values())) + len(made.item) + len(made.library)
    return made if size < LARGEST_PAGE else None


def write_regions_report(
    path: str | os.PathLike[str],
    results: Mapping[str, tuple[LineBackgroundFit, BackgroundTemplate | None]],
    *,
    title: str = "Line background",
) -> None:
    """Write the page that shows several regions side by side, whole or not at all.

    Parameters
    ----------
    path : path
    results : dict of str to (LineBackgroundFit, BackgroundTemplate or None)
        By name; each has a report of its own in the folder of that name beside `path`.
    title : str
    """
    from .spectrum import plot_spectrum

    table = region_rows(results)
    regions = [
        {
            "name": name,
            "link": f"{name}/report.html",
            "cells": list(row.values())[1:],
            "headline": headline(fit),
            "summary": fit.summary(),
            "notes": () if template is None else template.notes,
            "figure": _png(plot_spectrum(fit, template=template, names=True)),
        }
        for (name, (fit, template)), row in zip(results.items(), table, strict=True)
    ]
    text = _page("regions.html.j2").render(
        title=title,
        regions=regions,
        headings=list(table[0]),
        versions=installed_versions(),
    )
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def region_rows(
    results: Mapping[str, tuple[LineBackgroundFit, BackgroundTemplate | None]],
) -> list[dict[str, str]]:
    """The table of several regions, as text: one row each, headings to cells."""
    labels = ("continuum", "lines", "background")
    used = {label for _, t in results.values() if t is not None for label in t.labels}
    rows = []
    for name, (fit, template) in results.items():
        row = {
            "region": name,
            "source range": "none" if template is None else format_ranges([template.source_range]),
            **{label: _counts_text(template, label) for label in labels if label in used},
            "deviance / dof": f"{fit.deviance:.1f} / {fit.dof}",
            "its p": format_value(fit.p_value, None, 2),
            "p of all tests": format_value(
                None if fit.adequacy is None else fit.adequacy.p_value, None, 2
            ),
            "systematic [%]": f"{100.0 * fit.systematic:.2g}",
        }
        rows.append(row)
    return rows


def _counts_text(template: BackgroundTemplate | None, label: str) -> str:
    if template is None or label not in template.counts:
        return DASH
    error = template.errors[label]
    return format_value(template.counts[label], error) if math.isfinite(error) else "not known"


def _page(name: str) -> Any:
    """A page of this package, ready to be rendered."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    ).get_template(name)


def headline(fit: LineBackgroundFit) -> tuple[str, str]:
    """The summary in a few words, and its kind: "good", "bad" or "open"."""
    if not fit.valid:
        return "The fit is not valid", "bad"
    if fit.adequacy is not None and not fit.adequacy.is_adequate():
        return "The model does not describe the fitted bins", "bad"
    if fit.p_value is None:
        return "The goodness of fit is open", "open"
    return "The model describes the fitted bins", "good"


def format_ranges(ranges: Sequence[Sequence[float]]) -> str:
    """Energy ranges as text, in keV."""
    if not ranges:
        return "none"
    return ", ".join(f"{low:.6g}{DASH}{high:.6g}" for low, high in ranges) + " keV"


def _lines(fit: LineBackgroundFit) -> list[dict[str, Any]]:
    """The fitted lines, and what the catalogue has near them."""
    values, errors = fit.values, fit.errors
    found = {x["parameter"]: x for x in fit.line_search["lines"]} if fit.line_search else {}
    areas = {
        fit.model.names[c.energy]: fit.model.names[c.area]
        for c in (fit.model.components[i] for i in fit.model.lines)
    }
    rows = []
    for x in identify_lines(fit):
        counts = areas[x.parameter]
        search = found.get(x.parameter, {})
        levels = [search.get(key) for key in ("significance", "global_significance")]
        agreeing = [m for m in x.matches if m.agrees]
        rows.append(
            {
                "energy": x.energy,
                "error": x.error,
                "counts": values[counts],
                "counts_error": errors.get(counts),
                "significances": [DASH if v is None else f"{v:.1f}" for v in levels],
                "near": ", ".join(
                    f"{m.line.isotope} {m.line.energy:.2f} ({m.difference:+.2f})" for m in agreeing
                ),
            }
        )
    return rows


def _source_counts(
    fit: LineBackgroundFit, source_range: tuple[float, float]
) -> list[tuple[str, float, float]]:
    """(name, value, error) of the components that matter in the source range, and their total."""
    counts = fit.expected_counts(source_range, by="component")
    rows = [
        (name, float(value), float(error))
        for name, value, error in zip(counts.labels, counts.values, counts.errors, strict=True)
        if value > _LISTED_SHARE * counts.total
    ]
    return [*rows, ("total", counts.total, counts.total_error)]


def control_rows(template: BackgroundTemplate | None) -> list[dict[str, Any]]:
    """The rows of a template's control ranges; none where it was not validated."""
    if template is None or template.control_ranges is None:
        return []
    return template.control_ranges.rows()


def _comparison_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells as text; the first column names the rows."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if "counts" in keys and "error" in keys:
        keys.remove("error")
    names = {"_percent": " [%]", "chi2": "\u03c7\u00b2", "_": " "}
    headings = keys.copy()
    for old, new in names.items():
        headings = [heading.replace(old, new) for heading in headings]
    return headings, [[_cell(row, key) for key in keys] for row in rows]


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if isinstance(value, tuple):
        return format_value(*value)
    if isinstance(value, Real):
        return format_value(float(value), row.get("error") if key == "counts" else None, digits=4)
    return DASH if value is None else str(value)


def _png(figure: Figure | bytes) -> str:
    """A figure, or the PNG that it was drawn as, in base64."""
    picture = figure if isinstance(figure, bytes) else rendered(figure)
    return base64.b64encode(picture).decode("ascii")
