"""Fits that figures are drawn of, and what is found in the drawings."""

import numpy as np
from spectra import line_model

from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

EDGES = np.linspace(1600.0, 1900.0, 61)
MASK = [(1790.0, 1825.0)]
SOURCE = (1805.0, 1812.0)
BANDS = [(1700.0, 1750.0), (1830.0, 1880.0)]
MODEL = line_model(
    [(1666.0, 9e3, (1656.0, 1676.0)), (1779.0, 6e3, (1770.0, 1788.0))], k=300.0, sigma=3.0
)


def bare_fit(counts, edges, model=None, mask=()):
    """A result that was not fitted: the model's start values on these counts."""
    model = model or line_model([], k=0.01)
    spectrum = EnergySpectrum(edges, counts)
    spectrum = spectrum.with_mask(mask) if mask else spectrum
    return LineBackgroundFit(model, spectrum, model.values, (), np.zeros((0, 0)))


def curve(axes, label):
    """Values of the steps with this label in the legend."""
    return next(p for p in axes.patches if p.get_label() == label).get_data().values


def spans(axes, label):
    """(low, high) of the ranges drawn like the one with this label."""
    first = next(p for p in axes.patches if p.get_label() == label)
    same = [p for p in axes.patches if p.get_facecolor() == first.get_facecolor()]
    return [
        p.get_patch_transform().transform_path(p.get_path()).get_extents().intervalx for p in same
    ]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]
