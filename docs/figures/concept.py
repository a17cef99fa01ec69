"""The picture of docs/concepts.md: weights on the energy slices, for each method.

``python docs/figures/concept.py`` writes docs/images/concept.png from the simulation.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from matplotlib.figure import Figure

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import MASK, SIDEBANDS, resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, SOURCE_RANGE, simulate
from cosi_linebkg_plugin.show.figure import BLUE, GREEN, GREY, ORANGE, VERMILLION, save_figure

DOCS = Path(__file__).resolve().parents[1]
RATIO = {"line": 1808.65, "tracer": 1778.97, "value": DEMO_LINE_RATIO, "error": 0.015}


def main() -> None:
    warnings.simplefilter("ignore")
    plugin = LineBackgroundLike("bkg", simulated_events(simulate(1, nside=1)))
    plugin.set_mask(MASK)
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    spectrum, edges = fit.spectrum, fit.spectrum.edges
    rows = [
        ("sideband", dict(method="sideband", sidebands=SIDEBANDS)),
        ("interpolated", dict(method="interpolated", sidebands=SIDEBANDS)),
        ("components", dict(line_ratio=RATIO)),
    ]
    figure = Figure(figsize=(7.5, 7.2), layout="constrained")
    upper, *panels = figure.subplots(
        4, 1, sharex=True, gridspec_kw={"height_ratios": (1.8, 1, 1, 1.3)}
    )
    upper.stairs(spectrum.counts / 1e3, edges, color="k", lw=0.8)
    upper.set_ylabel("10³ counts per bin")
    upper.set_title(
        "the events: one slice of the data space per energy bin", fontsize=9, loc="left"
    )
    for panel, (name, options) in zip(panels, rows, strict=True):
        template = plugin.background_template(fit, SOURCE_RANGE, **options)
        for weights, label in zip(template.weights, template.labels, strict=True):
            shown = weights * (template.counts[label] if name == "components" else 1.0)
            color = {"continuum": BLUE, "lines": VERMILLION}.get(label, GREEN)
            style = "--" if label == "lines" else "-"
            text = label if name == "components" else None
            panel.stairs(shown, edges, baseline=None, color=color, ls=style, lw=1.4, label=text)
        panel.axhline(0.0, color=GREY, lw=0.7)
        panel.set_ylabel("weight")
        panel.set_title(name, fontsize=9, loc="left")
    panels[-1].legend(fontsize=8, frameon=False, loc="upper left")
    for panel in (upper, *panels):
        panel.axvspan(*SOURCE_RANGE, color=ORANGE, alpha=0.5, lw=0)
        panel.axvspan(*MASK, color=GREY, alpha=0.12, lw=0)
    panels[-1].set(xlabel="energy [keV]", xlim=(edges[0], edges[-1]))
    save_figure(figure, DOCS / "images" / "concept.png")


if __name__ == "__main__":
    main()
