"""A spectrum with posterior samples of two models, one of which lacks a line."""

from functools import cache

import numpy as np
from spectra import line_model, simulated_spectrum

from cosi_linebkg_plugin.fit.minimise import fit_spectrum

EDGES = np.linspace(1700.0, 1900.0, 61)
MASK = [(1800.0, 1820.0)]
SOURCE = (1805.0, 1812.0)
LINES = [(1764.0, 2000.0, (1755.0, 1772.0)), (1779.0, 6000.0, (1772.0, 1790.0))]


@cache
def drawn_spectrum():
    model = line_model(LINES, k=200.0)
    return simulated_spectrum(model, EDGES, np.random.default_rng(5), MASK)


def best_fit():
    return fit_spectrum(line_model(LINES, k=200.0), drawn_spectrum())


@cache
def right_posterior():
    return best_fit().sample(seed=1)


@cache
def wrong_posterior():
    """Of a model without the first line."""
    return fit_spectrum(line_model(LINES[1:], k=200.0), drawn_spectrum()).sample(seed=1)
