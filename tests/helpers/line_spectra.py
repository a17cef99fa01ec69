"""Spectra for the line search: DC3's continuum around 26Al, and lines of one shape."""

import numpy as np

from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.lineshapes import powerlaw_counts, tailed_gaussian_counts

EDGES = np.linspace(1500.0, 2000.0, 100)


def expected(lines, edges=EDGES, fraction=0.0, sigma=2.9):
    """Counts per bin of DC3's continuum and some lines with a tail of 12.5 keV."""
    counts = powerlaw_counts(edges, 3376.0, 1750.0, -1.807)[0]
    for energy, number in lines:
        counts = counts + tailed_gaussian_counts(edges, number, energy, sigma, fraction, 12.5)[0]
    return counts


def draw(lines, seed, mask=(), **shape):
    counts = np.random.default_rng(seed).poisson(expected(lines, **shape)).astype(float)
    return EnergySpectrum(EDGES, counts).with_mask(mask)
