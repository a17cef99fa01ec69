"""Sky flux, line shift and hidden line from several energy bins of the source range, as a table.

``PYTHONPATH=tests/helpers python tests/studies/energy_bins.py [n_seeds] [--write]`` prints the
table; with ``--write`` it goes into docs/validation.md. Thirty seeds, the default, take three
minutes. Set OMP_NUM_THREADS=1.

The data sets are the demo's at nside 4, their sky line shifted by the rotation of the Galaxy
(`DEMO_VELOCITY`); 1790-1825 keV are masked. The counts of the source range are fitted by their
Poisson likelihood in bins of 1 keV, Phi and PsiChi: free are the norms of continuum (held by what
the spectrum knows of it), instrumental line and sky, and one energy shift of the whole sky line on
top of those of the rotation, 0 in truth. The instrument's line at 1808.65 keV hides under the
sky's; nothing tells its amount but its own energies and directions.

Set-ups with the true distributions of the background, and with a template of expected counts in
place of events (slices without noise), tell faults of the template and of its noise apart. Noise of
a template biases what is fitted with it (`bias_of_noise`); a template of half of the events tells
by how much.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
from study import number_of_runs, poisson_fit, publish

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import MASK, resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import DEMO_VELOCITY, simulate
from cosi_linebkg_plugin.errors import LineBackgroundWarning
from cosi_linebkg_plugin.histograms.write import make_histogram, sparse_histogram

EDGES = np.arange(1795.0, 1823.0)  # keV
NARROW = np.array([1805.0, 1812.0])
HIDDEN = {"line": 1808.65, "tracer": 1778.97}
RECIPE = {"l_cut": 4, "shift": True, "window": (1750, 1870)}
OWN = "27 bins, 1795-1822 keV"
POOLED = "the same, patterns of 10 Phi bins pooled"
LESS = "the same, less the bias that half of the events tells"
QUIET = "the same, slices without noise"
TRUE = "the same, with the true background"
AT_REST = "the same, a sky at rest fitted"
EVEN = "the same, the hidden line's energies taken as even"
ONE = "one bin, 1805-1812 keV"
SETUPS = {
    OWN: (EDGES, HIDDEN),
    POOLED: (EDGES, HIDDEN),
    LESS: (EDGES, HIDDEN),
    QUIET: (EDGES, HIDDEN),
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


def slopes(theta, background, sky):
    """Derivatives of the expected counts by continuum, line, sky, and the shift if there is one."""
    shift = theta[3] if theta.size > 3 else 0.0
    rows = [*background, sky(shift)]
    if theta.size > 3:
        rows.append(theta[2] * (sky(shift + 0.01) - sky(shift - 0.01)) / 0.02)
    return np.array([row.ravel() for row in rows])


def fit(observed, background, sky, known, error, with_shift):
    """Norms of continuum, lines and sky, and the shift, with their covariance.

    `known` and `error` are what the spectrum says of the continuum.
    """
    start = np.array([known, 0.05 * known, 1.0, 0.0])[: 4 if with_shift else 3]
    least = 1e-3 * np.array([known, known, 1.0])
    return poisson_fit(
        observed, lambda theta: slopes(theta, background, sky), start, 3, (known, error), least
    )


def bias_of_noise(theta, covariance, background, noise, sky):
    """By how much the noise of the background's maps moves `theta`, to second order.

    With the noise d_k of map k and d = sum_k theta_k d_k, independent of the counts, the mean of
    the score is sum_i (m_ki d_i^2 / e_i^2 - d_ki d_i / e_i).

    Parameters
    ----------
    noise : sequence of ndarray, of the shapes of `background`
        Drawn with its covariance.
    """
    rows = slopes(theta, background, sky)
    expected = theta[:3] @ rows[:3]
    of_maps = np.zeros(rows.shape)
    of_maps[: len(noise)] = [n.ravel() for n in noise]
    together = theta[: len(noise)] @ of_maps[: len(noise)]
    score = rows @ (together / expected) ** 2 - of_maps @ (together / expected)
    return covariance @ score


def half_of(data, axes, seed):
    """A random half of the events."""
    counts = np.random.default_rng(seed).binomial(data.counts.astype(int), 0.5).astype(float)
    return sparse_histogram(axes, data.coords[:, counts > 0], counts[counts > 0])


def fitted(events):
    """A plugin of events, and the fit of their spectrum."""
    plugin = LineBackgroundLike("bkg", events)
    plugin.set_mask(MASK)
    return plugin, plugin.fit(background_model(resolved_lines(), pivot=1800))


def without_noise(data, axes):
    """The expected counts of a simulation in place of its events."""
    bins = itertools.pairwise(data.energy_edges)
    counts = [data.expected_background(a, b) + data.expected_sky(a, b) for a, b in bins]
    return make_histogram(axes, np.array(counts))


def trial(seed, setups=SETUPS):
    """By set-up: deviations and standard errors of sky flux, shift [keV] and hidden line."""
    options = {"nside": 4, "sky_counts": SKY_COUNTS, "extra_edges": EDGES}
    data = simulate(seed, sky_velocity=DEMO_VELOCITY, **options)
    still = simulate(seed, **options) if AT_REST in setups else data
    drawn = simulated_events(data)
    own = fitted(drawn)
    out = {}
    for name, (edges, ratio) in setups.items():
        options = RECIPE | ({"energy_edges": edges} if edges.size > 2 else {})
        if name == POOLED:
            options["rebin_phi"] = 10
        bins = list(itertools.pairwise(edges))

        def template_of(plugin, result, edges=edges, ratio=ratio, options=options):
            return plugin.background_template(
                result, (edges[0], edges[-1]), line_ratio=ratio, **options
            )

        def shapes_of(template, bins=bins):
            maps = [template.component(x).contents.reshape(len(bins), -1) for x in template.labels]
            return [m / m.sum() for m in maps]

        quiet = name == QUIET
        template = template_of(*(fitted(without_noise(data, drawn.axes)) if quiet else own))
        shapes = shapes_of(template)
        if name == TRUE:
            parts = (data.expected_continuum, data.expected_lines)
            maps = [np.array([part(a, b).ravel() for a, b in bins]) for part in parts]
            shapes = [m / m.sum() for m in maps]
        observed = np.array([data.observed(a, b).ravel() for a, b in bins]).ravel()
        sky = Sky(still if name == AT_REST else data, edges)
        known = template.counts["continuum"], template.errors["continuum"]
        found, covariance = fit(observed, shapes, sky, *known, edges.size > 2)
        if name == LESS:
            # half of the events differs from all of them by as much as these from their mean
            half = shapes_of(template_of(*fitted(half_of(data, drawn.axes, seed))))
            noise = [h - s for h, s in zip(half, shapes, strict=True)]
            found = found - bias_of_noise(found, covariance, shapes, noise, sky)
        line = data.expected_lines(edges[0], edges[-1]).sum()
        truth = np.array([data.expected_continuum(edges[0], edges[-1]).sum(), line, 1.0, 0.0])
        out[name] = np.array([found - truth[: found.size], np.diag(covariance) ** 0.5,
                              truth[: found.size]])  # fmt: skip
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
    n = number_of_runs(30)
    publish("energy_bins", markdown(summary([trial(seed) for seed in range(1, n + 1)])))


if __name__ == "__main__":
    main()
