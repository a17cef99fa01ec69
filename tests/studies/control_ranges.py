"""Control ranges on simulated data, where the truth is known: their errors, what they cost.

``python tests/studies/control_ranges.py [n_seeds] [--write]`` prints the tables; with ``--write``
they go into docs/validation.md. A hundred seeds, the default, take some three minutes. Set
OMP_NUM_THREADS=1.

The data sets are the demo's simulation without a source at nside 1, 1790-1825 keV masked. For the
rows with an extra error, the counts of each energy bin are thinned by a factor of its own, the same
for all its cells, that scatters by so much: an error that the spectrum does not know.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
from study import number_of_runs, publish

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import MASK, resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, SOURCE_RANGE, simulate
from cosi_linebkg_plugin.errors import LineBackgroundWarning
from cosi_linebkg_plugin.histograms.write import make_histogram

RATIO = {"line": 1808.65, "tracer": 1778.97, "value": DEMO_LINE_RATIO, "error": 0.015}
EXTRA = (0.0, 0.01, 0.03)
#: The mean of the factors that thin the counts: none comes near 1.
KEPT = 0.85


def events_with(seed, extra):
    """Simulated events whose energy bins scatter by a fraction beyond Poisson's law."""
    histogram = simulated_events(simulate(seed, nside=1)).to_dense()
    rng = np.random.default_rng(seed)
    factors = np.clip(KEPT * (1 + extra * rng.normal(size=histogram.contents.shape[0])), 0, 1)
    counts = rng.binomial(np.asarray(histogram.contents).astype(int), factors[:, None, None])
    return make_histogram(histogram.axes, counts.astype(float))


def trial(seed, extra):
    """The control ranges of one data set, and the systematic error of its spectrum."""
    plugin = LineBackgroundLike("linebkg", events_with(seed, extra))
    plugin.set_mask(MASK)
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    template = plugin.background_template(fit, SOURCE_RANGE, line_ratio=RATIO)
    return plugin.validate(template), fit.systematic


def summary(n):
    """By extra error: pulls of the totals without systematic errors, and what was measured."""
    table = {}
    for extra in EXTRA:
        found = [trial(seed, extra) for seed in range(1, n + 1)]
        controls = [control for control, _ in found]
        pulls = np.concatenate([control.pulls for control in controls])
        values = np.array([control.amount.value for control in controls])
        inside = [control.amount.low <= extra <= control.amount.high for control in controls]
        table[extra] = {
            "n": pulls.size,
            "mean": pulls.mean(),
            "width": pulls.std(),
            "measured": 100 * float(np.sqrt(np.mean(values**2))),
            "none": float(np.mean(values == 0)),
            "covered": float(np.mean(inside)),
            "systematic": 100 * float(np.median([s for _, s in found])),
        }
    return table


def markdown(table):
    lines = [
        "| extra error of each bin | control ranges | pulls: mean, width | measured: rms | none | "
        "68 % limits cover | of the spectrum, median |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {100 * extra:.0f} % | {row['n']} | {row['mean']:+.2f}, {row['width']:.2f} | "
        f"{row['measured']:.2f} % | {100 * row['none']:.0f} % | {100 * row['covered']:.0f} % | "
        f"{row['systematic']:.2f} % |"
        for extra, row in table.items()
    ]
    return "\n".join(lines)


def cost(nside, n_times):
    """CPU times [s] of a template and of its control ranges: medians of five in turns."""
    simulation = simulate(1, nside=nside, n_time=n_times)
    plugin = LineBackgroundLike("linebkg", simulated_events(simulation))
    plugin.set_mask(MASK)
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    times = []
    for _ in range(6):  # the first compiles
        begin = time.process_time()
        template = plugin.background_template(fit, SOURCE_RANGE, line_ratio=RATIO, l_cut=4)
        between = time.process_time()
        plugin.validate(template)
        times.append((between - begin, time.process_time() - between))
    return np.median(times[1:], axis=0)


def main():
    warnings.simplefilter("ignore", LineBackgroundWarning)
    costs = [
        f"{control / one:.1f} times as much as the template {what} ({control:.2f} and {one:.2f} s)"
        for what, (one, control) in (
            ("at nside 8", cost(8, None)), ("at nside 16 with 10 bins of time", cost(16, 10)),
        )
    ]  # fmt: skip
    text = markdown(summary(number_of_runs(100)))
    text += f"\n\nTwelve control ranges cost {' and '.join(costs)} of CPU."
    publish("control_ranges", text)


if __name__ == "__main__":
    main()
