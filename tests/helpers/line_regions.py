"""Simulated events around the lines of the recipes: 511 keV, 44Ti, 60Fe.

The spectra are made here; in Phi and PsiChi the components are spread as in the demo's simulation.
"""

import astropy.units as u
import histpy
import numpy as np

from cosi_linebkg_plugin.app.simulation import simulate
from cosi_linebkg_plugin.histograms.write import write_histogram
from cosi_linebkg_plugin.spectrum.lineshapes import gaussian_counts, powerlaw_counts, step_counts

#: Axis [keV], K [1/keV] and index of the continuum at the middle, and lines (energy, counts).
#: 511 keV is broad, and stands on a step; sky lines are photons of the source.
REGIONS = {
    "511": {
        "edges": np.arange(400.0, 650.1, 2.5),
        "continuum": (20_000.0, -1.2),
        "lines": [(438.63, 3e4), (477.6, 2e4), (583.19, 3e4), (609.31, 4e4)],
        "broad": (510.999, 6e5, 3.2),  # with its width [keV]
        "step": 2e-3,  # 1/keV, of the counts of the broad line
        "sky": [(510.999, 9e3)],
    },
    "ti44": {
        "edges": np.arange(1000.0, 1300.1, 5.0),
        "continuum": (6000.0, -1.7),
        "lines": [(1077.34, 9e3), (1115.54, 1.5e4), (1173.23, 8e3), (1238.29, 1.2e4)],
        "sky": [(1157.02, 700.0)],
    },
    "fe60": {
        "edges": np.arange(1050.0, 1450.1, 5.0),
        "continuum": (5000.0, -1.7),
        "lines": [
            (1115.54, 1.5e4),
            (1173.23, 2e3),
            (1238.29, 1.2e4),
            (1332.49, 2e3),
            (1368.63, 2e4),
        ],
        "sky": [(1173.23, 900.0), (1332.49, 900.0)],
    },
}


def expected_spectra(name, edges=None, sigma=2.5):
    """Expected counts per bin of "continuum", "lines" and "sky", shape (n_bins,)."""
    region = REGIONS[name]
    middle = 0.5 * (region["edges"][0] + region["edges"][-1])
    edges = region["edges"] if edges is None else np.asarray(edges, dtype=float)
    k, index = region["continuum"]
    parts = {"continuum": powerlaw_counts(edges, k, middle, index)[0]}
    for kind in ("lines", "sky"):
        energies, counts = np.array(region[kind]).T
        parts[kind] = gaussian_counts(edges, counts, energies, sigma)[0]
    if "broad" in region:
        energy, counts, width = region["broad"]
        parts["lines"] = parts["lines"] + gaussian_counts(edges, counts, energy, width)[0]
        step = step_counts(edges, counts, energy, width, region["step"])[0]
        parts["continuum"] = parts["continuum"] + step
    return parts


def write_region(name, path, seed=1, nside=4):
    """Draw the events of a region, and write them as a histogram (Em, Phi, PsiChi)."""
    demo = simulate(1, nside=nside)
    maps = {
        "continuum": demo.expected_continuum(1700.0, 1800.0),
        "lines": demo.expected_lines(1700.0, 1800.0),
        "sky": demo.expected_sky(1790.0, 1830.0),
    }
    rng, counts = np.random.default_rng(seed), 0.0
    for kind, spectrum in expected_spectra(name).items():
        shape = maps[kind] / maps[kind].sum()
        counts = counts + rng.poisson(spectrum[:, None, None] * shape)
    axes = [
        histpy.Axis(REGIONS[name]["edges"] * u.keV, label="Em"),
        histpy.Axis(demo.phi_edges * u.deg, label="Phi"),
        histpy.HealpixAxis(nside=nside, scheme="ring", coordsys="galactic", label="PsiChi"),
    ]
    histogram = histpy.Histogram(axes, contents=counts.astype(float), track_overflow=False)
    write_histogram(path, histogram)
    return path
