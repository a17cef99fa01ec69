"""Axes: units, source ranges, embedding."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from small_histograms import EDGES, make_axis

from cosi_linebkg_plugin.errors import BinningError, TemplateError
from cosi_linebkg_plugin.histograms.axes import axis_in_kev, bins_of_source, source_axis


@pytest.mark.parametrize("unit", [u.keV, u.MeV, None])
def test_source_axis_keeps_unit_label_scale_and_edges(unit):
    like = make_axis("Em", unit)
    axis = source_axis(like, 1505.0, 1520.0).to_histpy()
    assert (axis.label, axis.unit, axis.axis_scale) == ("Em", unit, "log")
    assert list(axis.edges) == [like.edges[1], like.edges[3]]  # to the last digit
    between = source_axis(like, 1506.0, 1511.0)
    np.testing.assert_allclose(axis_in_kev(between), [1506, 1511], rtol=1e-14)
    with pytest.raises(BinningError, match="low < high"):
        source_axis(like, 1511, 1506)


@pytest.mark.parametrize(
    ("low", "high", "bins"),
    [(1505.0000001, 1512.5, (1, 2)), (1505, 1520, (1, 3)), (1500, 1540, (0, 4))],
)
def test_bins_of_source(low, high, bins):
    found = bins_of_source(EDGES, low, high)
    assert (found.start, found.stop) == bins


@pytest.mark.parametrize(
    ("low", "high", "nearest"),
    [
        (1506, 1520, "are 1505-1512.5, 1512.5-1520 keV"),
        (1506, 1511, "are 1505-1512.5 keV"),
        (1400, 1450, "are 1500-1505 keV"),
        (2400, 2450, "are 1520-1540 keV"),
    ],
)
def test_bins_that_cut_the_source_range(low, high, nearest):
    with pytest.raises(TemplateError, match=nearest):
        bins_of_source(EDGES, low, high)
