"""The picture of docs/architecture.md: the path of the data through the folders.

``python docs/figures/data_path.py`` writes docs/images/data_path.png.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from cosi_linebkg_plugin.show.figure import BLUE, GREEN, GREY, ORANGE, VERMILLION, save_figure

PAGE = Path(__file__).resolve().parents[1] / "images" / "data_path.png"

#: name: (column, row, folder, what it does, colour); rows count downwards.
STEPS = {
    "files": (0, 0, "", "event lists", GREY),
    "events": (1, 0, "events/", "bins, selects,\ncounts the livetime", BLUE),
    "histograms": (2, 0, "histograms/", "reads histpy files,\nsums energy slices", BLUE),
    "spectrum": (1, 1, "spectrum/", "line shapes and\ncounts per bin", GREEN),
    "fit": (2, 1, "fit/", "Poisson fit, errors,\ndoes it describe?", GREEN),
    "model": (0, 1, "model/", "astromodels\nto numbers", GREEN),
    "lines": (0, 2, "lines/", "catalogue,\nsearch", GREEN),
    "template": (2, 2, "template/", "weights, amounts,\nfilters", VERMILLION),
    "consumers": (2, 3, "consumers/", "COSILike, cosipy 0.4,\nimages", VERMILLION),
    "show": (1, 3, "show/", "figures, report", ORANGE),
    "likelihood": (3, 3, "", "the likelihood\nof the sky", GREY),
    "session": (3, 1, "", "a threeML\nsession", GREY),
}
#: (from, to, what is handed over)
ARROWS = [
    ("files", "events", ""),
    ("events", "histograms", "histogram"),
    ("histograms", "fit", "spectrum"),
    ("model", "spectrum", ""),
    ("spectrum", "fit", ""),
    ("lines", "model", ""),
    ("fit", "session", "plugin.py"),
    ("fit", "template", "amounts"),
    ("template", "consumers", "maps, norms, errors"),
    ("template", "show", ""),
    ("consumers", "likelihood", ""),
]
WIDTH, HEIGHT, STEP_X, STEP_Y = 2.1, 0.92, 3.1, 1.55


def centre(name: str) -> tuple[float, float]:
    column, row, *_ = STEPS[name]
    return column * STEP_X, -row * STEP_Y


def arrow(panel, start: str, end: str, words: str) -> None:
    (x0, y0), (x1, y1) = centre(start), centre(end)
    side, up = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
    if side and not up:
        tail, head = (x0 + side * WIDTH / 2, y0), (x1 - side * WIDTH / 2, y1)
    elif up and not side:
        tail, head = (x0, y0 + up * HEIGHT / 2), (x1, y1 - up * HEIGHT / 2)
    else:
        tail, head = (x0 + side * WIDTH / 2, y0 - 0.2), (x1, y1 + HEIGHT / 2)
    style = {"arrowstyle": "-|>", "color": GREY, "lw": 1.3, "shrinkA": 2, "shrinkB": 2}
    panel.annotate("", xy=head, xytext=tail, arrowprops=style)
    if words:
        x, y = (tail[0] + head[0]) / 2, (tail[1] + head[1]) / 2
        place = {"ha": "center", "va": "bottom"} if not up else {"ha": "left", "va": "center"}
        panel.text(x + (0.08 if up else 0.1), y + 0.05 * (not up), words, fontsize=7.5, **place)


def slices(panel) -> None:
    """Templates are sums of the histogram's energy slices: an arrow past the fit."""
    (x, top), (_, bottom) = centre("histograms"), centre("template")
    edge, aside = x + WIDTH / 2, x + WIDTH / 2 + 0.22
    panel.plot([edge, aside, aside], [top, top, bottom], color=GREY, lw=1.3)
    style = {"arrowstyle": "-|>", "color": GREY, "lw": 1.3, "shrinkA": 0, "shrinkB": 2}
    panel.annotate("", xy=(edge, bottom), xytext=(aside, bottom), arrowprops=style)
    panel.text(aside + 0.08, top, "energy slices", fontsize=7.5, ha="left", va="center")


def main() -> None:
    figure = Figure(figsize=(8.6, 4.7), layout="constrained")
    panel = figure.subplots()
    for name, (_, _, folder, words, color) in STEPS.items():
        x, y = centre(name)
        box = FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2),
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=color if folder else "none",
            edgecolor=color,
            alpha=0.25 if folder else 1.0,
            linestyle="-" if folder else "--",
        )
        panel.add_patch(box)
        if folder:
            panel.text(x, y + 0.27, folder, ha="center", va="center", weight="bold", fontsize=9.5)
        panel.text(x, y - (0.13 if folder else 0), words, ha="center", va="center", fontsize=8)
    for step in ARROWS:
        arrow(panel, *step)
    slices(panel)
    panel.set(xlim=(-1.3, 3 * STEP_X + 1.3), ylim=(-3 * STEP_Y - 0.7, 0.7))
    panel.set_axis_off()
    panel.set_aspect("equal")
    save_figure(figure, PAGE)


if __name__ == "__main__":
    main()
