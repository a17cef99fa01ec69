"""Fluxes of 511 keV and of its positronium continuum from several energy bins, as a table.

``PYTHONPATH=tests/helpers python tests/studies/positronium.py [n_seeds] [--write]`` prints the
table; with ``--write`` it goes into docs/validation.md. Thirty seeds, the default, take some three
minutes. Set OMP_NUM_THREADS=1.

The data sets are three months of the demo's continuum carried on to 410-630 keV, five instrumental
lines, and a bulge of 20 deg FWHM with a line at 510.999 keV on the three-photon continuum of
positronium (Ore & Powell 1949), a step of the sky: with 97 % of the positrons forming positronium
it holds 4.0 counts for each one of the line. The features in Phi of annihilation photons, which
begin at 511 keV itself, are left out. 490-530 keV are masked.

The counts of 497-525 keV are fitted by their Poisson likelihood in bins of 1 keV, Phi and PsiChi.
Free are the counts of the continuum (held by what the spectrum knows of it) and of the hidden
instrumental line at 511 keV, the fluxes of the sky's line and of its positronium, and one energy
shift of both. The template is made with sky=, the sky at unit fluxes, since positronium is in the
sidebands below the line: the spectrum is then the one without it.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
from study import number_of_runs, poisson_fit, publish

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import simulated_events
from cosi_linebkg_plugin.app.simulation import (
    DEMO_CONTINUUM,
    LINE_SIGMA,
    DemoContinuum,
    DemoLine,
    SkyLine,
    simulate,
)
from cosi_linebkg_plugin.errors import LineBackgroundWarning
from cosi_linebkg_plugin.histograms.axes import source_axis
from cosi_linebkg_plugin.histograms.write import make_histogram

FIRST_SEED = 31  # the ones before served to choose the filters
EDGES = np.arange(497.0, 526.0)  # keV
MASK = (490.0, 530.0)
LINES = ((438.6, 60e3), (472.2, 80e3), (511.0, 60e3), (583.2, 50e3), (609.3, 40e3))
HIDDEN = {"line": 511.0, "tracer": 472.2}
FRACTION = 0.97  # of the positrons: 9 f / (8 - 6 f) photons of three for each one of the line
RECIPE = {"window": (410, 630), "line_ratio": HIDDEN, "energy_edges": EDGES}
OWN = "l <= 4"
POOLED = "l <= 4, patterns of 5 Phi bins pooled"
QUIET = "l <= 2, patterns of 10 Phi bins pooled"
KNOWN = "l <= 4, with the true map of the hidden line"
TRUE = "the true background"
SETUPS = {
    OWN: {"l_cut": 4},
    POOLED: {"l_cut": 4, "rebin_phi": 5},
    QUIET: {"l_cut": 2, "rebin_phi": 10},
    KNOWN: {"l_cut": 4},
    TRUE: {"l_cut": 4},
}
NAMES = ("continuum", "hidden line", "line flux", "positronium flux", "shift")


def bulge():
    """Longitude, latitude [deg], weight: a Gaussian of 20 deg FWHM."""
    lon, lat = (x.ravel() for x in np.meshgrid(*2 * [np.arange(-10.0, 11.0, 5.0)]))
    return np.stack([lon % 360, lat, np.exp(-0.5 * (lon**2 + lat**2) / 8.5**2)], axis=1)


def data_set(seed):
    """Three months of background and the bulge."""
    continuum = DEMO_CONTINUUM.K * (511.0 / DEMO_CONTINUUM.piv) ** DEMO_CONTINUUM.index
    return simulate(
        seed,
        nside=4,
        energy_edges=np.r_[410.0:490.0:5.0, 490.0:530.0:1.0, 530.0:631.0:5.0],
        extra_edges=[],
        sky_counts=35600.0,
        continuum=DemoContinuum(continuum, 511.0, DEMO_CONTINUUM.index),
        lines=[DemoLine(*line) for line in LINES],
        sky=bulge(),
        sky_line=SkyLine(
            510.999, float(np.hypot(LINE_SIGMA, 1.1)), positronium=9 * FRACTION / (8 - 6 * FRACTION)
        ),
        ridges=(),
    )


def sky_maps(data, part, shift):
    """Expected counts per energy bin at unit flux, `shift` keV from rest, flat."""
    expected = getattr(data, f"expected_{part}")
    return np.array([expected(a, b) for a, b in itertools.pairwise(EDGES - shift)]).ravel()


def fit(observed, background, data, start, known, error):
    """Values and standard errors of `NAMES`.

    Parameters
    ----------
    observed : ndarray, shape (n_cells,)
    background : two ndarray of that shape, each of sum 1
    start : sequence of float
        Counts of the two.
    known, error : float
        What the spectrum says of the first.
    """

    def slopes(theta):
        shift, parts, slope = theta[4], [], 0.0
        for flux, part in zip(theta[2:4], ("sky", "positronium"), strict=True):
            parts.append(sky_maps(data, part, shift))
            up, down = (sky_maps(data, part, shift + d) for d in (0.01, -0.01))
            slope = slope + flux * (up - down) / 0.02
        return np.array([*background, *parts, slope])

    first = np.array([*start, 1.0, 1.0, 0.0])
    theta, covariance = poisson_fit(observed, slopes, first, 4, (known, error))
    return theta, np.sqrt(np.diag(covariance))


def sky_in(data, axes, edges):
    """Line and positronium at unit fluxes, as a histogram."""
    parts = (data.expected_sky, data.expected_positronium)
    counts = [sum(part(a, b) for part in parts) for a, b in itertools.pairwise(edges)]
    return make_histogram(axes, np.array(counts))


def trial(seed, setups=SETUPS):
    """By set-up: (deviation, standard error, truth) of each of `NAMES`, shape (3, n_names)."""
    data = data_set(seed)
    events = simulated_events(data)
    plugin = LineBackgroundLike("bkg", events)
    plugin.set_mask(MASK)
    lines = [line for line, _ in LINES if line != HIDDEN["line"]]
    result = plugin.fit(background_model(lines, pivot=511.0))
    bins = list(itertools.pairwise(EDGES))
    observed = np.array([data.observed(a, b) for a, b in bins])
    inside = [source_axis(events.axes[0], *EDGES), *events.axes[1:]]
    known = {
        "sky": (sky_in(data, events.axes, data.energy_edges), sky_in(data, inside, EDGES)),
        "observed": make_histogram(inside, observed),
    }
    parts = (data.expected_continuum, data.expected_lines)
    true = [np.array([part(a, b) for a, b in bins]) for part in parts]
    counts = [m.sum() for m in true]
    truth = np.array([*counts, 1.0, 1.0, 0.0])
    out, made = {}, {}
    for name, options in setups.items():
        key = str(options)
        if key not in made:
            made[key] = plugin.background_template(
                result, (EDGES[0], EDGES[-1]), **known, **RECIPE, **options
            )
        template = made[key]
        maps = [template.component(label).contents for label in ("continuum", "lines")]
        if name == TRUE:
            maps = true
        if name == KNOWN:
            maps[1] = true[1]
        shapes = [np.ravel(m) / np.sum(m) for m in maps]
        amounts = template.fit.expected_counts((EDGES[0], EDGES[-1]))
        spectrum = amounts.values[0], amounts.covariance[0, 0] ** 0.5
        found, errors = fit(observed.ravel(), shapes, data, counts, *spectrum)
        out[name] = np.array([found - truth, errors, truth])
    return out


def markdown(trials):
    """The table of many trials."""
    lines = [
        "| template | | bias | standard error | pulls: mean, width |",
        "|---|---|---|---|---|",
    ]
    for name in trials[0]:
        off, error, truth = np.array([t[name] for t in trials]).transpose(1, 2, 0)
        where = name
        for i in (2, 3, 4, 1):
            unit, digits = ("keV", 3) if NAMES[i] == "shift" else ("%", 2)
            scale = np.ones(len(trials)) if unit == "keV" else 100.0 / truth[i]
            bias, pulls = off[i] * scale, off[i] / error[i]
            lines.append(
                f"| {where} | {NAMES[i]} | {bias.mean():+.{digits}f} ± "
                f"{bias.std(ddof=1) / len(trials) ** 0.5:.{digits}f} {unit} | "
                f"{np.mean(error[i] * scale):.{digits}f} {unit} | "
                f"{pulls.mean():+.2f}, {pulls.std(ddof=1):.2f} |"
            )
            where = ""
    return "\n".join(lines)


def main() -> None:
    warnings.simplefilter("ignore", LineBackgroundWarning)
    n = number_of_runs(30)
    seeds = range(FIRST_SEED, FIRST_SEED + n)
    publish("positronium", markdown([trial(seed) for seed in seeds]))


if __name__ == "__main__":
    main()
