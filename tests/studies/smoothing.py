"""What the noise of a template and its filter do to the sky flux: fixed filters beside `auto`.

``python tests/studies/smoothing.py [n_seeds] [--write]``; with a hundred seeds, the default, a
quarter of an hour. With ``--write`` the tables go into docs/validation.md. Set OMP_NUM_THREADS=1.

The background is the demo's at nside 8, with DC3's counts, a tenth and a hundredth of them. The
template is made from its Poisson events at the other energies. It is then fitted, with a norm of
the sky, to counts of the source range without noise: those expected of the background and of a sky
with as many. What the sky's norm is off by comes from the template alone; one data set shows what
a hundred noisy ones would be needed for. The error is the standard error of the sky's norm.

The second table takes the causes apart, with the truth in the source range as the template: as it
is; with one pattern of PsiChi for all Phi, which is what slices with empty cells are shrunk
towards; and with the Poisson noise of some times the counts, as they are drawn (empty cells hold a
millionth of a count), or without a filter but shrunk.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from study import number_of_runs, publish
from template_bias import SKY_COUNTS

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import MASK, resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, SOURCE_RANGE, simulate
from cosi_linebkg_plugin.errors import LineBackgroundWarning
from cosi_linebkg_plugin.histograms.axes import source_axis
from cosi_linebkg_plugin.histograms.write import make_histogram
from cosi_linebkg_plugin.template.filters import Filter, apply_filter
from cosi_linebkg_plugin.template.norms import fit_component_norms

Array = NDArray[np.float64]

NSIDE = 8
SCALES = (1.0, 0.1, 0.01)
RATIO = {"line": 1808.65, "tracer": 1778.97, "value": DEMO_LINE_RATIO, "error": 0.015}
FILTERS: dict[str, dict[str, Any]] = {
    "none": {}, "l <= 8": {"l_cut": 8}, "l <= 4": {"l_cut": 4}, "l <= 2": {"l_cut": 2},
    "20 deg": {"smoothing_fwhm": 20.0}, "40 deg": {"smoothing_fwhm": 40.0},
    "3 bins of Phi": {"rebin_phi": 3}, "l <= 4, 3 bins of Phi": {"l_cut": 4, "rebin_phi": 3},
    "auto": {"smoothing": "auto"},
}  # fmt: skip


def source_range(scale: float) -> tuple[Array, Array]:
    """Expected background and sky, shape (n_phi, n_pix), counts."""
    simulation = simulate(1, nside=NSIDE, sky_counts=SKY_COUNTS, exposure_scale=scale)
    return simulation.expected_background(*SOURCE_RANGE), simulation.expected_sky(*SOURCE_RANGE)


def trial(seed: int, scale: float, truth: Array, sky: Array) -> dict[str, tuple[float, float]]:
    """What the sky's norm is off by, and its error, both in percent, for each filter."""
    events = simulated_events(simulate(seed, nside=NSIDE, sky_counts=0.0, exposure_scale=scale))
    plugin = LineBackgroundLike("linebkg", events)
    plugin.set_mask(MASK)
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    axes = list(events.axes)
    axes[0] = source_axis(axes[0], *SOURCE_RANGE)
    expected, of_sky = (make_histogram(axes, counts[None]) for counts in (truth + sky, sky))
    found = {}
    for name, options in FILTERS.items():
        template = plugin.background_template(fit, SOURCE_RANGE, line_ratio=RATIO, **options)
        norm, error = template.fit_norms(expected, sky=[of_sky], constrain=True)["sky_1"]
        found[name] = (100 * (norm - 1), 100 * error)
    return found


def table(scale: float, trials: list[dict[str, tuple[float, float]]]) -> list[str]:
    """A row for each filter: mean and scatter of what the sky's norm is off by."""
    rows = []
    for name in FILTERS:
        off, errors = np.array([t[name] for t in trials]).T
        rows.append(
            f"| {scale:g} | {name} | {off.mean():+.2f} ± {off.std(ddof=1) / off.size**0.5:.2f} | "
            f"{off.std(ddof=1):.2f} | {errors.mean():.2f} | {abs(off.mean()) / errors.mean():.2f} |"
        )
    return rows


def of_truth(n: int = 20) -> list[str]:
    """Rows of the second table."""
    truth, sky = source_range(1.0)
    pooled = truth.sum(axis=1, keepdims=True) * (truth.sum(axis=0) / truth.sum())
    rng = np.random.default_rng(1)

    def off(template: Array) -> float:
        unknown = np.array([[np.inf]])
        fit = fit_component_norms(
            truth + sky, {"background": template}, {"background": 1.0}, unknown, [sky], False
        )
        return 100 * (fit["sky_1"][0] - 1)

    rows = [f"| truth | {off(truth):+.2f} |", f"| one pattern for all Phi | {off(pooled):+.2f} |"]
    for times in (3, 10, 30):
        drawn, shrunk = [], []
        for _ in range(n):
            counts = rng.poisson(times * truth).astype(float)
            drawn.append(off(np.maximum(counts, 1e-6)))
            shrunk.append(off(apply_filter(counts[None], counts[None], Filter()).maps[0]))
        for name, all_off in (("as drawn", drawn), ("shrunk", shrunk)):
            error = np.std(all_off, ddof=1) / n**0.5
            rows.append(
                f"| {times} times the counts, {name} | {np.mean(all_off):+.2f} ± {error:.2f} |"
            )
    return rows


def main() -> None:
    warnings.simplefilter("ignore", LineBackgroundWarning)
    n = number_of_runs(100)
    lines = [
        "| counts | filter | sky flux off by [%] | its scatter [%] | error of the flux [%] | "
        "off by, in errors |",
        "|---|---|---|---|---|---|",
    ]
    for scale in SCALES:
        known = source_range(scale)
        lines += table(scale, [trial(seed, scale, *known) for seed in range(1, n + 1)])
        print("\n".join(lines[-len(FILTERS) :]), flush=True)
    lines += ["", "| template | sky flux off by [%] |", "|---|---|", *of_truth()]
    publish("smoothing", "\n".join(lines))


if __name__ == "__main__":
    main()
