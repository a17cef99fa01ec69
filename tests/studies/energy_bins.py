"""Sky flux, line shift and hidden line from several energy bins of the source range, as a table.

``PYTHONPATH=tests/helpers python tests/studies/energy_bins.py [n_seeds] [--write]`` prints the
table; with ``--write`` it goes into docs/validation.md. Thirty seeds, the default, take two
minutes. Set OMP_NUM_THREADS=1.

The data sets are the demo's at nside 4, their sky line shifted by the rotation of the Galaxy
(`DEMO_VELOCITY`); 1790-1825 keV are masked. The counts of the source range are fitted by their
Poisson likelihood in bins of 1 keV, Phi and PsiChi: free are the norms of continuum (held by what
the spectrum knows of it), instrumental line and sky, and one energy shift of the whole sky line on
top of those of the rotation, 0 in truth. The instrument's line at 1808.65 keV hides under the
sky's; nothing tells its amount but its own energies and directions.

In the second set-up the background's distributions are the true ones: what is left there is no
fault of the template.
"""

from __future__ import annotations

import itertools
import sys
import warnings

import numpy as np
from interval_coverage import write_section

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import MASK, resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import DEMO_VELOCITY, simulate
from cosi_linebkg_plugin.errors import LineBackgroundWarning

EDGES = np.arange(1795.0, 1823.0)  # keV
NARROW = np.array([1805.0, 1812.0])
HIDDEN = {"line": 1808.65, "tracer": 1778.97}
RECIPE = {"l_cut": 4, "shift": True, "window": (1750, 1870)}
OWN = "27 bins, 1795-1822 keV"
TRUE = "the same, with the true background"
AT_REST = "the same, a sky at rest fitted"
EVEN = "the same, the hidden line's energies taken as even"
ONE = "one bin, 1805-1812 keV"
SETUPS = {
    OWN: (EDGES, HIDDEN),
    TRUE: (EDGES, HIDDEN),
    AT_REST: (EDGES, HIDDEN),
    EVEN: (EDGES, None),
    ONE: (NARROW, None),
}
SKY_COUNTS = 5000.0


class Sky:
    """Expected sky counts at unit flux on energy bins, Phi and PsiChi, for a shift in keV."""

    def __init__(self, data, edges):
        self.data, self.edges = data, edges

    def __call__(self, shift):
        bins = itertools.pairwise(self.edges - shift)
        return np.array([self.data.expected_sky(a, b).ravel() for a, b in bins])


def fit(observed, background, sky, known, error, with_shift):
    """Norms of continuum, lines and sky, and the shift, with their standard errors.

    Fisher scoring; `known` and `error` are what the spectrum says of the continuum.
    """
    theta = np.array([known, 0.05 * known, 1.0, 0.0])[: 4 if with_shift else 3]
    constraint = np.zeros((theta.size, theta.size))
    constraint[0, 0] = error**-2
    for _ in range(100):
        shift = theta[3] if with_shift else 0.0
        own = sky(shift)
        rows = [*background, own]
        if with_shift:
            rows.append(theta[2] * (sky(shift + 0.01) - sky(shift - 0.01)) / 0.02)
        slopes = np.array([row.ravel() for row in rows])
        expected = np.maximum(theta[:3] @ slopes[:3], 1e-12)
        gradient = slopes @ (observed / expected - 1.0)
        gradient[0] -= (theta[0] - known) / error**2
        information = (slopes / expected) @ slopes.T + constraint
        step = np.linalg.solve(information, gradient)
        theta = theta + step
        theta[:3] = np.maximum(theta[:3], 1e-3 * np.array([known, known, 1.0]))
        if abs(step @ gradient) < 1e-8:
            break
    return theta, np.sqrt(np.diag(np.linalg.inv(information)))


def trial(seed, setups=SETUPS):
    """By set-up: deviations and standard errors of sky flux, shift [keV] and hidden line."""
    options = {"nside": 4, "sky_counts": SKY_COUNTS, "extra_edges": EDGES}
    data = simulate(seed, sky_velocity=DEMO_VELOCITY, **options)
    still = simulate(seed, **options) if AT_REST in setups else data
    plugin = LineBackgroundLike("bkg", simulated_events(data))
    plugin.set_mask(MASK)
    result = plugin.fit(background_model(resolved_lines(), pivot=1800))
    out = {}
    for name, (edges, ratio) in setups.items():
        several = {"energy_edges": edges} if edges.size > 2 else {}
        template = plugin.background_template(
            result, (edges[0], edges[-1]), line_ratio=ratio, **several, **RECIPE
        )
        bins = list(itertools.pairwise(edges))
        observed = np.array([data.observed(a, b).ravel() for a, b in bins]).ravel()
        maps = [
            template.component(label).contents.reshape(len(bins), -1) for label in template.labels
        ]
        if name == TRUE:
            maps = [
                np.array([expected(a, b).ravel() for a, b in bins])
                for expected in (data.expected_continuum, data.expected_lines)
            ]
        shapes = [m / m.sum() for m in maps]
        sky = Sky(still if name == AT_REST else data, edges)
        known = template.counts["continuum"], template.errors["continuum"]
        found, errors = fit(observed, shapes, sky, *known, edges.size > 2)
        line = data.expected_lines(edges[0], edges[-1]).sum()
        truth = np.array([data.expected_continuum(edges[0], edges[-1]).sum(), line, 1.0, 0.0])
        out[name] = np.array([found - truth[: found.size], errors, truth[: found.size]])
    return out


def summary(trials):
    """Rows of the table: by set-up, mean deviation, its error, mean error, pulls."""
    table = {}
    for name in trials[0]:
        runs = np.array([t[name] for t in trials])  # seed, (deviation, error, truth), parameter
        n = len(runs)
        row = {}
        for key, i, scale in (("sky", 2, 100.0), ("shift", 3, 1.0), ("line", 1, 100.0)):
            if i >= runs.shape[2]:
                continue
            size = scale / np.where(key == "shift", 1.0, runs[:, 2, i])
            off, error = runs[:, 0, i] * size, runs[:, 1, i] * size
            pulls = runs[:, 0, i] / runs[:, 1, i]
            row[key] = (
                off.mean(),
                off.std(ddof=1) / n**0.5,
                error.mean(),
                pulls.mean(),
                pulls.std(ddof=1),
            )
        table[name] = row
    return table


def markdown(table):
    """The table."""
    lines = [
        "| fit | | bias | standard error | pulls: mean, width |",
        "|---|---|---|---|---|",
    ]
    units = {"sky": ("sky flux", "%"), "shift": ("shift", "keV"), "line": ("hidden line", "%")}
    for name, row in table.items():
        for key, (bias, error, typical, mean, width) in row.items():
            what, unit = units[key]
            lines.append(
                f"| {name} | {what} | {bias:+.2f} ± {error:.2f} {unit} | {typical:.2f} {unit} | "
                f"{mean:+.2f}, {width:.2f} |"
            )
            name = ""
    return "\n".join(lines)


def main() -> None:
    warnings.simplefilter("ignore", LineBackgroundWarning)
    numbers = [a for a in sys.argv[1:] if a.isdigit()]
    n = int(numbers[0]) if numbers else 30
    text = markdown(summary([trial(seed) for seed in range(1, n + 1)]))
    print(text)
    if "--write" in sys.argv:
        write_section("energy_bins", text)


if __name__ == "__main__":
    main()
