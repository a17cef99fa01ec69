"""The compiled loops over events."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from cosi_linebkg_plugin.events.kernels import (
    add_bins,
    sort_cells,
    unravel,
)
from cosi_linebkg_plugin.events.rules import ColumnAxis


@st.composite
def edges_and_values(draw):
    edges = sorted(draw(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30, unique=True)))
    anything = st.floats(allow_nan=False)
    values = draw(st.lists(st.sampled_from(edges) | anything, min_size=1, max_size=50))
    return np.array(edges), np.array(values)


@given(edges_and_values())
@example((np.array([0.0, 5e-324]), np.array([0.0])))  # the steps between are infinite in number
@example((np.array([-1.7e308, 0.0, 1.7e308]), np.array([-1.7e308, 1e300])))
@settings(max_examples=300, deadline=None)
def test_edges_belong_to_the_upper_bin_and_the_last_is_outside(case):
    edges, values = case
    axis = ColumnAxis("Em", "Energies", 1.0, edges)
    fate, cells = np.zeros(values.size, np.uint8), np.zeros(values.size, np.int64)
    add_bins(values, 1.0, edges, axis.guesses, fate, 1, 2, cells)
    expected = np.digitize(values, edges) - 1
    assert_array_equal(fate == 1, expected < 0)
    assert_array_equal(fate == 2, expected == edges.size - 1)
    assert_array_equal(cells[fate == 0], expected[fate == 0])


@pytest.mark.parametrize("n_cells", [1, 2, 2**11, 2**11 + 1, 2**33, 2**62 - 1])
def test_cells_of_any_size_are_sorted_and_taken_apart(n_cells):
    cells = np.random.default_rng(3).integers(0, n_cells, 1000)
    expected = np.sort(cells)
    sort_cells(cells, np.empty_like(cells), n_cells)
    assert_array_equal(cells, expected)
    shape = (2**20, 2**12, 4, 2**28)
    coords = np.zeros((4, 1000), np.int64)
    coords[0] = cells
    unravel(coords, np.array(shape))
    assert_array_equal(coords, np.unravel_index(cells, shape))
