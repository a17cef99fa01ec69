"""Lines whose distributions differ: what is measured of it, and what it does to the sky's flux.

``python tests/studies/line_spread.py [n_seeds] [--write]`` prints the tables; with ``--write`` they
go into docs/validation.md. 40 data sets for each row of the first and twice as many of the second,
the default, take some six minutes. Set OMP_NUM_THREADS=1.

The data sets are the demo's at nside 8, with a 26Al sky that the joint fit finds to 0.93 %
(24,500 counts at full energy). Every line, the one at 1808.65 keV in the source range among them,
has a distribution along Phi of its own:

* "random": the demo's times 1 + d z, with z a Gaussian process of a correlation length of 30 deg,
  of mean 0 and rms 1 under the demo's distribution;
* "stretched": the demo's on a Phi axis that is stretched by the factor exp(d z), with a normal z.

So lines differ from each other as the one in the source range does from its tracers, and "lines" of
the template is off by more than d. The analysis knows neither law: it takes polynomials. The sky
norm is that of sky= and observed=, with a line ratio of 10 %.

The second table is of sets where all lines have the demo's distribution, which changes with energy
and holds features that move with it: the rate at which lines are said to differ.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from study import number_of_runs, publish

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import MASK, resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import (
    DEMO_LINE_RATIO,
    DEMO_LINES,
    LINE_SIGMA,
    SOURCE_RANGE,
    simulate,
)
from cosi_linebkg_plugin.errors import LineBackgroundWarning, TemplateError
from cosi_linebkg_plugin.histograms.axes import source_axis
from cosi_linebkg_plugin.histograms.write import make_histogram
from cosi_linebkg_plugin.spectrum.lineshapes import tailed_gaussian_counts
from cosi_linebkg_plugin.template.options import TemplateOptions
from cosi_linebkg_plugin.template.plan import plan_for_fit
from cosi_linebkg_plugin.template.spread import measured_spread

NSIDE = 8
SKY_COUNTS = 24500.0
RATIO_ERROR = 0.015
CASES = (("none", 0.0), ("random", 0.1), ("random", 0.3), ("stretched", 0.1), ("stretched", 0.3))
CORRELATION = 30.0  # deg
SCALES = {"1": 1.0, "1/10": 0.1, "1/100": 0.01}
OPTIONS: dict[str, dict[str, Any]] = {"no": {}, '`lines="spread"`': {"lines": "spread"}}


@lru_cache
def common() -> tuple[Any, np.ndarray, np.ndarray]:
    """An (almost empty) simulation; the lines' Phi distribution by slice, and their patterns."""
    blank = simulate(0, nside=NSIDE, exposure_scale=1e-6)
    bounds = zip(blank.slice_edges[:-1], blank.slice_edges[1:], strict=True)
    maps = [blank.expected_lines(low, high) for low, high in bounds]
    phi = np.array([m.sum(axis=1) / m.sum() for m in maps])
    return blank, phi, maps[0] / maps[0].sum(axis=1, keepdims=True)


def line_distributions(kind: str, size: float, rng: np.random.Generator) -> np.ndarray:
    """Phi distributions of the lines by slice, shape (n_lines, n_slices, n_phi)."""
    blank, phi, _ = common()
    edges, n = blank.phi_edges, len(DEMO_LINES)
    if kind == "none":
        return np.repeat(phi[None], n, axis=0)
    if kind == "stretched":
        cumulative = np.pad(np.cumsum(phi, axis=1), ((0, 0), (1, 0)))
        factors = np.exp(size * rng.standard_normal(n))
        out = [[np.diff(np.interp(edges / f, edges, c)) for c in cumulative] for f in factors]
        return np.array(out) / np.sum(out, axis=-1, keepdims=True)
    center, mean = 0.5 * (edges[1:] + edges[:-1]), phi.mean(axis=0)
    kernel = np.exp(-0.5 * ((center[:, None] - center) / CORRELATION) ** 2)
    root = np.linalg.cholesky(kernel + 1e-9 * np.eye(center.size))
    z = rng.standard_normal((n, center.size)) @ root.T
    z = (z - (z @ mean)[:, None]) / np.sqrt(1.0 - mean @ kernel @ mean)
    out = phi * np.maximum(1.0 + size * z, 0.02)[:, None]
    return out / out.sum(axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class DataSet:
    """Events, counts of the source range, and the sky on the axes of both."""

    events: Any
    observed: Any
    sky: tuple[Any, Any]


def data_set(seed: int, kind: str, size: float, scale: float = 1.0) -> DataSet:
    """One data set whose lines differ."""
    blank, _, pattern = common()
    simulation = simulate(seed, nside=NSIDE, sky_counts=SKY_COUNTS, exposure_scale=scale, lines=())
    rng = np.random.default_rng([seed, 77])
    slices, table = blank.slice_edges, 0.0
    for line, phi in zip(DEMO_LINES, line_distributions(kind, size, rng), strict=True):
        counts = [scale * line.counts], [line.energy], LINE_SIGMA, 0.0, 10.0
        table = table + tailed_gaussian_counts(slices, *counts)[0][:, None] * phi
    drawn = rng.poisson(table[..., None] * pattern)
    other = simulated_events(simulation)
    contents = np.zeros(simulation.shape)
    contents[tuple(simulation.coords)] = simulation.counts
    np.add.at(contents, np.searchsorted(blank.energy_edges, slices[:-1], side="right") - 1, drawn)
    axes = list(other.axes)
    axes[0] = source_axis(axes[0], *SOURCE_RANGE)
    middle = 0.5 * (slices[1:] + slices[:-1])
    inside = (middle > SOURCE_RANGE[0]) & (middle < SOURCE_RANGE[1])
    observed = simulation.observed(*SOURCE_RANGE) + drawn[inside].sum(axis=0)
    return DataSet(
        make_histogram(other.axes, contents),
        make_histogram(axes, observed[None]),
        (
            make_histogram(other.axes, np.array(list(simulation.expected_sky_slices()))),
            make_histogram(axes, simulation.expected_sky(*SOURCE_RANGE)[None]),
        ),
    )


def fitted(events):
    """The plugin and its fit."""
    plugin = LineBackgroundLike("linebkg", events)
    plugin.set_mask(MASK)
    return plugin, plugin.fit(background_model(resolved_lines(), pivot=1800))


def trial(seed: int, kind: str, size: float) -> dict[str, tuple[float, float]]:
    """The sky norm and its error, with and without the option; the spread along Phi."""
    data = data_set(seed, kind, size)
    plugin, fit = fitted(data.events)
    value = np.random.default_rng(1000 + seed).normal(DEMO_LINE_RATIO, RATIO_ERROR)
    ratio = {"line": 1808.65, "tracer": 1778.97, "error": RATIO_ERROR, "value": value}
    row = {}
    for name, options in OPTIONS.items():
        template = plugin.background_template(
            fit, SOURCE_RANGE, l_cut=4, line_ratio=ratio, sky=data.sky, observed=data.observed,
            **options,
        )  # fmt: skip
        row[name] = template.record.sky_norm
    row["spread"] = template.record.line_spread.axes["Phi"].value, 0.0
    return row


def measured(seed: int, kind: str, size: float, scale: float):
    """The measured spread of one data set, or None where too few lines are seen."""
    events = data_set(seed, kind, size, scale).events
    plugin, fit = fitted(events)
    options = TemplateOptions(lines="spread")
    plan = plan_for_fit(plugin._events, fit, SOURCE_RANGE, options)
    try:
        return measured_spread(plan, fit, ())
    except TemplateError:
        return None


def flux(n: int) -> str:
    """The table of sky fluxes."""
    lines = [
        "| lines differ | measured along Phi [%] | option | sky flux, bias [%] | its scatter [%] | "
        "its standard error [%] | 68.27 % | 95.45 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, size in CASES:
        trials = [trial(seed, kind, size) for seed in range(1, n + 1)]
        spread = 100 * np.mean([t["spread"][0] for t in trials])
        for name in OPTIONS:
            sky, error = np.array([t[name] for t in trials]).T
            pulls = np.abs(sky - 1.0) / error
            scatter = 100 * sky.std(ddof=1)
            what = "not" if kind == "none" else f"{100 * size:.0f} %, {kind}"
            lines.append(
                f"| {what} | {spread:.1f} | {name} | {100 * (sky.mean() - 1):+.2f} ± "
                f"{scatter / np.sqrt(n):.2f} | {scatter:.2f} | {100 * error.mean():.2f} | "
                f"{100 * np.mean(pulls < 1):.0f} | {100 * np.mean(pulls < 2):.0f} |"
            )
    return "\n".join(lines)


def alarms(n: int) -> str:
    """The table of false alarms."""
    lines = [
        "| counts | lines seen | sets | called different along Phi [%] | along PsiChi [%] |",
        "|---|---|---|---|---|",
    ]
    for name, scale in SCALES.items():
        found = [measured(seed, "none", 0.0, scale) for seed in range(1001, 1001 + n)]
        found = [s for s in found if s is not None]
        chance = 100 * np.sqrt(0.05 * 0.95 / len(found))
        rates = [100 * np.mean([s.axes[a].least > 0 for s in found]) for a in ("Phi", "PsiChi")]
        lines.append(
            f"| {name} | {np.mean([len(s.lines) for s in found]):.1f} | {len(found)} | "
            + " | ".join(f"{rate:.1f} ± {chance:.1f}" for rate in rates)
            + " |"
        )
    return "\n".join(lines)


def main() -> None:
    warnings.simplefilter("ignore", LineBackgroundWarning)
    n = number_of_runs(40)
    publish("line_spread", f"{flux(n)}\n\n{alarms(2 * n)}")


if __name__ == "__main__":
    main()
