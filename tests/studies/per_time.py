"""Amounts per time bin and the sky flux on a background that swings in time, as a table.

``python tests/studies/per_time.py [n_seeds] [--write]`` prints the table; with ``--write`` it goes
into docs/validation.md. Set OMP_NUM_THREADS=1.

The data sets are the demo's simulation at nside 4 with 90 time bins: the continuum swings by 15 %,
the lines build up from 0.6 of their final rate. Each is made at its full counts and at a tenth of
them. The pulls are those of each bin's share of a component's counts in the source range, with the
errors of `BackgroundTemplate.project`. The sky norm is fitted together with those of
the components to the counts of the source range, 1 is right.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
from interval_coverage import write_section

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import MASK, resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, SOURCE_RANGE, simulate
from cosi_linebkg_plugin.errors import LineBackgroundWarning
from cosi_linebkg_plugin.histograms.axes import source_axis
from cosi_linebkg_plugin.histograms.write import make_histogram

RATIO = {"line": 1808.65, "tracer": 1778.97, "value": DEMO_LINE_RATIO, "error": 0.015}
KINDS = {"norms=None": {}, 'norms="per_time"': {"norms": "per_time"}}


def trial(seed: int, scale: float) -> dict[str, dict[str, object]]:
    """One data set: per kind pulls of each bin's share, and the sky norm."""
    simulation = simulate(seed, nside=4, n_time=90, sky_counts=35600.0, exposure_scale=scale)
    events = simulated_events(simulation)
    plugin = LineBackgroundLike("linebkg", events)
    plugin.set_mask(MASK)
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    axes = list(events.axes)
    axes[1] = source_axis(axes[1], *SOURCE_RANGE)

    def in_range(contents):
        return make_histogram(axes, contents[:, None])

    observed = in_range(simulation.observed(*SOURCE_RANGE))
    sky = in_range(simulation.expected_sky(*SOURCE_RANGE))
    rows = {}
    for name, options in KINDS.items():
        template = plugin.background_template(
            fit, SOURCE_RANGE, l_cut=4, line_ratio=RATIO, **options
        )
        row: dict[str, object] = {}
        for label in template.labels:
            known = getattr(simulation, f"expected_{label}")(*SOURCE_RANGE).sum(axis=(1, 2))
            counts, errors = template.project("Time", label)
            pulls = (counts / counts.sum() - known / known.sum()) / (errors / counts.sum())
            row[label] = pulls
        row["sky"] = template.fit_norms(observed, sky=[sky])["sky_1"]
        rows[name] = row
    return rows


def markdown(trials: dict[float, list[dict[str, dict[str, object]]]]) -> str:
    lines = [
        "| counts | template | continuum per bin: pulls, mean and width | lines per bin | "
        "sky flux, bias [%] |",
        "|---|---|---|---|---|",
    ]
    for scale, rows in trials.items():
        for name in KINDS:
            cells = []
            for label in ("continuum", "lines"):
                pulls = np.array([row[name][label] for row in rows])
                width = np.sqrt(np.mean(pulls**2))
                cells.append(f"{pulls.mean():+.2f}, {width:.2f}")
            sky = np.array([row[name]["sky"][0] for row in rows]) * 100 - 100
            error = sky.std(ddof=1) / np.sqrt(sky.size)
            lines.append(
                f"| {scale:g} | `{name}` | {cells[0]} | {cells[1]} | "
                f"{sky.mean():+.2f} ± {error:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    warnings.simplefilter("ignore", LineBackgroundWarning)
    numbers = [a for a in sys.argv[1:] if a.isdigit()]
    n = int(numbers[0]) if numbers else 20
    table = {s: [trial(seed, s) for seed in range(1, n + 1)] for s in (1.0, 0.1)}
    text = f"{n} data sets each:\n\n{markdown(table)}"
    print(text)
    if "--write" in sys.argv:
        write_section("per_time", text)


if __name__ == "__main__":
    main()
