"""Amounts per time bin and the sky flux on a background that swings in time, as tables.

``PYTHONPATH=tests/helpers python tests/studies/per_time.py [n_seeds] [--write]`` prints them; with
``--write`` they go into docs/validation.md. Set OMP_NUM_THREADS=1.

The data sets are the demo's simulation at nside 4 with 90 time bins: the continuum swings by 15 %,
the lines build up from 0.6 of their final rate. Each is made at its full counts and at a tenth of
them, and at full counts with both rates steady. The pulls are those of each bin's share of a
component's counts in the source range, with the errors of `BackgroundTemplate.project`. The sky
norm is fitted together with those of the components to the counts of the source range, 1 is right;
also to counts and templates of the same events without their Time axis.
"""

from __future__ import annotations

import warnings

import numpy as np
from histpy import Histogram
from study import number_of_runs, publish

from cosi_linebkg_plugin import BackgroundTemplate, LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import MASK, resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import (
    DEMO_COURSE,
    DEMO_LINE_RATIO,
    SOURCE_RANGE,
    DemoCourse,
    simulate,
)
from cosi_linebkg_plugin.errors import LineBackgroundWarning
from cosi_linebkg_plugin.histograms.write import make_histogram

RATIO = {"line": 1808.65, "tracer": 1778.97, "value": DEMO_LINE_RATIO, "error": 0.015}
KINDS = {"norms=None": {}, 'norms="per_time"': {"norms": "per_time"}}
NO_AXIS, SWING, STEADY = "no Time axis", "15 % swing", "steady"
#: Factor on the counts, and how the background varies in time.
CASES = {
    SWING: (1.0, DEMO_COURSE),
    STEADY: (1.0, DemoCourse(0.0, 0.0)),
    f"{SWING}, a tenth of the counts": (0.1, DEMO_COURSE),
}

Row = dict[str, dict[str, np.ndarray]]


def templates(events: Histogram) -> dict[str, BackgroundTemplate]:
    """By kind, from one fit of the events, and of the events without their Time axis."""
    made = {}
    for axes in (("Time", "Em", "Phi", "PsiChi"), ("Em", "Phi", "PsiChi")):
        with_time = axes[0] == "Time"
        plugin = LineBackgroundLike("linebkg", events if with_time else events.project(axes))
        plugin.set_mask(MASK)
        fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
        for name, options in (KINDS if with_time else {NO_AXIS: {}}).items():
            made[name] = plugin.background_template(
                fit, SOURCE_RANGE, l_cut=4, line_ratio=RATIO, **options
            )
    return made


def trial(seed: int, scale: float, course: DemoCourse) -> Row:
    """One data set: per kind the pulls of each bin's share, and the sky norm."""
    simulation = simulate(
        seed, nside=4, n_time=90, sky_counts=35600.0, exposure_scale=scale, course=course
    )
    found = {}
    for name, template in templates(simulated_events(simulation)).items():
        maps = simulation.observed(*SOURCE_RANGE), simulation.expected_sky(*SOURCE_RANGE)
        row = {}
        if name == NO_AXIS:
            contents = [m.sum(axis=0)[None] for m in maps]
        else:
            contents = [m[:, None] for m in maps]
            for label in template.labels:
                known = getattr(simulation, f"expected_{label}")(*SOURCE_RANGE).sum(axis=(1, 2))
                counts, errors = template.project("Time", label)
                shares = counts / counts.sum() - known / known.sum()
                row[label] = shares / (errors / counts.sum())
        observed, sky = (make_histogram(template.axes, m) for m in contents)
        row["sky"] = np.array(template.fit_norms(observed, sky=[sky])["sky_1"])
        found[name] = row
    return found


def markdown(trials: dict[str, list[Row]]) -> str:
    """The tables: pulls of the shares, and the sky."""
    pulls = [
        "| background | template | continuum: pulls, mean and width | lines |",
        "|---|---|---|---|",
    ]
    skies = ["| background | template | sky flux, bias [%] |", "|---|---|---|"]
    for case, rows in trials.items():
        for name in (*KINDS, NO_AXIS):
            sky = _sky(rows, name)
            error = sky.std(ddof=1) / np.sqrt(sky.size)
            kind = f"`{name}`" if name in KINDS else name
            skies.append(f"| {case} | {kind} | {sky.mean():+.2f} ± {error:.2f} |")
            if name == NO_AXIS:
                continue
            cells = []
            for label in ("continuum", "lines"):
                of_label = np.array([row[name][label] for row in rows])
                width = np.sqrt(np.mean(of_label**2))
                cells.append(f"{of_label.mean():+.2f}, {width:.2f}")
            pulls.append(f"| {case} | {kind} | {cells[0]} | {cells[1]} |")
    for name in KINDS:
        moved = _sky(trials[SWING], name) - _sky(trials[STEADY], name)
        error = moved.std(ddof=1) / np.sqrt(moved.size)
        skies.append(
            f"| {SWING} less {STEADY}, set by set | `{name}` | {moved.mean():+.2f} ± {error:.2f} |"
        )
    return "\n".join([*pulls, "", *skies])


def _sky(rows: list[Row], name: str) -> np.ndarray:
    """Fitted over true flux of each data set, less 1 [%]."""
    return np.array([row[name]["sky"][0] for row in rows]) * 100 - 100


def main() -> None:
    warnings.simplefilter("ignore", LineBackgroundWarning)
    n = number_of_runs(20)
    table = {name: [trial(i, *case) for i in range(1, n + 1)] for name, case in CASES.items()}
    text = f"{n} data sets each:\n\n{markdown(table)}"
    publish("per_time", text)


if __name__ == "__main__":
    main()
