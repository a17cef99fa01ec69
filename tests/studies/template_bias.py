"""Bias and coverage of the template methods on simulated data, as a table and a figure.

``python tests/studies/template_bias.py [n_seeds] [--write]`` prints the table; with ``--write`` it
goes into docs/validation.md and docs/images/template_bias.png. Thirty seeds take three minutes. Set
OMP_NUM_THREADS=1.

Each data set is the demo's simulation at nside 8 with the 26Al sky of DC3: 35,600 counts at full
energy, a quarter of all its events degraded by 120 keV on average; continuum and lines have Phi and
PsiChi patterns of their own, and five features at fixed photon energies. The source range is
1805-1812 keV. For each method a Poisson fit of the sky norm and of the template's norms to the
counts of the source range gives the sky norm (1 is right), with the sky's own expected map, which
has no Monte Carlo noise.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
from study import DOCS, number_of_runs, publish

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import MASK, SIDEBANDS, resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, SOURCE_RANGE, simulate
from cosi_linebkg_plugin.errors import LineBackgroundWarning
from cosi_linebkg_plugin.histograms.axes import source_axis
from cosi_linebkg_plugin.histograms.write import make_histogram

SKY_COUNTS = 35600.0
RATIO_ERROR = 0.015
METHODS = {
    "sideband, raw": dict(method="sideband", sidebands=SIDEBANDS),
    "sideband, 20 deg": dict(method="sideband", sidebands=SIDEBANDS, smoothing_fwhm=20.0),
    "sideband, l <= 4": dict(method="sideband", sidebands=SIDEBANDS, l_cut=4),
    "interpolated, l <= 4": dict(method="interpolated", sidebands=SIDEBANDS, l_cut=4),
    "components, raw": {},
    "components, l <= 4": dict(l_cut=4),
    "components, auto": dict(smoothing="auto"),
    "method auto, l <= 4": dict(method="auto", l_cut=4),
    "components, l <= 4, sky=": dict(l_cut=4, sky=True),
}


def trial(seed: int, methods=METHODS) -> dict[str, dict[str, float]]:
    """One data set: per method the sky norm, its error, the chi2 of Phi, and pulls of counts."""
    simulation = simulate(seed, nside=8, sky_counts=SKY_COUNTS)
    events = simulated_events(simulation)
    plugin = LineBackgroundLike("linebkg", events)
    plugin.set_mask(MASK)
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))

    def in_range(contents):
        axes = list(events.axes)
        axes[0] = source_axis(axes[0], *SOURCE_RANGE)
        return make_histogram(axes, contents[None])

    observed = in_range(simulation.observed(*SOURCE_RANGE))
    sky = in_range(simulation.expected_sky(*SOURCE_RANGE))
    all_sky = make_histogram(events.axes, np.array(list(simulation.expected_sky_slices())))
    continuum = simulation.expected_continuum(*SOURCE_RANGE)
    lines = simulation.expected_lines(*SOURCE_RANGE)
    rng = np.random.default_rng(1000 + seed)
    ratio = {"line": 1808.65, "tracer": 1778.97, "error": RATIO_ERROR,
             "value": rng.normal(DEMO_LINE_RATIO, RATIO_ERROR)}  # fmt: skip
    rows = {}
    for name, options in methods.items():
        row = {}
        if options.get("sky"):
            options = options | {"sky": (all_sky, sky), "observed": observed}
        template = plugin.background_template(fit, SOURCE_RANGE, **options)
        if name.startswith("components"):
            # the amounts that spectrum and line ratio give, before any norm is fitted
            amounts = plugin.background_template(template.fit, SOURCE_RANGE, line_ratio=ratio)
            for label, truth in (("continuum", continuum.sum()), ("lines", lines.sum())):
                row[f"pull_{label}"] = (amounts.counts[label] - truth) / amounts.errors[label]
        row["sky"], row["sky_error"] = template.fit_norms(observed, sky=[sky])["sky_1"]
        row["phi_chi2"] = phi_chi2(template, (continuum + lines).sum(axis=-1))
        rows[name] = row
    return rows


def phi_chi2(template, truth) -> float:
    """chi2 per bin of the Phi projection against the truth, the norms free.

    The variance is that of the template plus the truth: what an observation would show.
    """
    parts = [template.project("Phi", label) for label in template.labels]
    variance = sum(errors**2 for _, errors in parts) + truth
    shapes = np.array([counts for counts, _ in parts if counts.sum() > 0])
    weighted = shapes / np.sqrt(variance)
    norms = np.linalg.lstsq(weighted.T, truth / np.sqrt(variance), rcond=None)[0]
    return float(np.mean((norms @ shapes - truth) ** 2 / variance))


def summary(trials: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Per method: mean sky norm and its error, its pulls and the share of data sets in which the
    truth lies within one and two of its standard errors, chi2, pulls of the counts.
    """
    out = {}
    for name in trials[0]:
        rows = [t[name] for t in trials]
        sky, error = (np.array([r[k] for r in rows]) for k in ("sky", "sky_error"))
        pulls = (sky - 1) / error
        out[name] = {
            "sky_percent": 100 * (sky.mean() - 1),
            "sky_percent_error": 100 * sky.std(ddof=1) / np.sqrt(len(sky)),
            "error_percent": 100 * float(error.mean()),
            "pull_mean": float(pulls.mean()),
            "pull_width": float(pulls.std(ddof=1)),
            "covered_68": float(np.mean(np.abs(pulls) < 1)),
            "covered_95": float(np.mean(np.abs(pulls) < 2)),
            "phi_chi2": float(np.mean([r["phi_chi2"] for r in rows])),
        }
        for label in ("continuum", "lines"):
            if f"pull_{label}" in rows[0]:
                pulls = np.array([r[f"pull_{label}"] for r in rows])
                out[name][f"{label}_mean"] = float(pulls.mean())
                out[name][f"{label}_width"] = float(pulls.std(ddof=1))
    return out


def markdown(table: dict[str, dict[str, float]]) -> str:
    lines = [
        "| template | sky flux, bias [%] | width of its pulls | Phi chi2 per bin | "
        "continuum counts, pulls | line counts, pulls |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in table.items():
        pulls = [
            f"{row[f'{k}_mean']:+.2f}, width {row[f'{k}_width']:.2f}" if f"{k}_mean" in row else ""
            for k in ("continuum", "lines")
        ]
        lines.append(
            f"| {name} | {row['sky_percent']:+.2f} ± {row['sky_percent_error']:.2f} | "
            f"{row['pull_width']:.2f} | {row['phi_chi2']:.2f} | {pulls[0]} | {pulls[1]} |"
        )
    return "\n".join(lines)


def figure(trials: list[dict[str, dict[str, float]]]):
    from matplotlib.figure import Figure

    chart = Figure(figsize=(7.5, 3.8), layout="constrained")
    ax = chart.add_subplot()
    names = list(trials[0])[::-1]
    for y, name in enumerate(names):
        sky = 100 * (np.array([t[name]["sky"] for t in trials]) - 1)
        ax.plot(sky, np.full(sky.size, y) + np.linspace(-0.2, 0.2, sky.size), "o", ms=2.5,
                color="#999999")  # fmt: skip
        ax.errorbar(sky.mean(), y, xerr=sky.std(ddof=1) / np.sqrt(sky.size), fmt="s", ms=6,
                    color="#0072B2", capsize=4)  # fmt: skip
    ax.axvspan(-1, 1, color="#009E73", alpha=0.12, lw=0)
    ax.axvline(0, color="black", lw=0.8)
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel="bias of the sky flux [%]")
    return chart


def main() -> None:
    warnings.simplefilter("ignore", LineBackgroundWarning)
    n_seeds = number_of_runs(30)
    trials = [trial(seed) for seed in range(1, n_seeds + 1)]
    publish("template_bias", markdown(summary(trials)))
    if "--write" in sys.argv:
        figure(trials).savefig(DOCS / "images" / "template_bias.png", dpi=150)


if __name__ == "__main__":
    main()
