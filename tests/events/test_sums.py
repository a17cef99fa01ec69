"""Sums of equal cells: parts, order, columns."""

import time

import numpy as np
import pytest
from binned import COARSE, EDGES, dense, reference
from event_lists import make_events, write_hdf5
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from cosi_linebkg_plugin import bin_events
from cosi_linebkg_plugin.events.files import open_event_file
from cosi_linebkg_plugin.events.kernels import (
    count_runs,
    sort_cells,
)
from cosi_linebkg_plugin.events.options import BinningOptions
from cosi_linebkg_plugin.events.sums import merge_sums, sum_blocks


def test_more_events_than_are_sorted_at_once(tmp_path, monkeypatch):
    from cosi_linebkg_plugin.events import sums as event_sums

    columns = make_events(50_000)
    file = write_hdf5(tmp_path / "events.hdf5", columns)
    expected = reference(columns, edges=EDGES, n_phi=60, nside=16)
    for n_sorted in (3_000, 49_999):
        monkeypatch.setattr(event_sums, "_SORTED", n_sorted)
        histogram = bin_events(file, energy_edges=EDGES, phi_pix_size=3, nside=16)
        assert_array_equal(dense(histogram), expected)


def test_sums_that_are_slower_than_reading(tmp_path, monkeypatch):
    """The array that is being sorted is not filled meanwhile, and what goes wrong there is told."""
    from cosi_linebkg_plugin.events import sums as event_sums

    columns = make_events(50_000)
    file = write_hdf5(tmp_path / "events.hdf5", columns)
    sort_cells = event_sums.sort_cells

    def slowly(*arguments):
        time.sleep(0.03)
        sort_cells(*arguments)

    def in_vain(*arguments):
        raise MemoryError("no room to sort")

    monkeypatch.setattr(event_sums, "_SORTED", 500)
    monkeypatch.setattr(event_sums, "sort_cells", slowly)
    expected = reference(columns, edges=EDGES, n_phi=60, nside=16)
    histogram = bin_events(file, energy_edges=EDGES, phi_pix_size=3, nside=16)
    assert_array_equal(dense(histogram), expected)
    monkeypatch.setattr(event_sums, "sort_cells", in_vain)
    with pytest.raises(MemoryError, match="no room to sort"):
        bin_events(file, energy_edges=EDGES, phi_pix_size=3, nside=16)


@given(st.lists(st.lists(st.integers(0, 10**7), max_size=60), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_sums_of_parts_are_the_sum_of_all(parts):
    cells, counts = np.zeros(0, np.int64), np.zeros(0)
    for part in parts:
        part = np.array(part, np.int64)
        expected = np.sort(part)
        sort_cells(part, np.empty_like(part), 10**7 + 1)
        assert_array_equal(part, expected)
        numbers = np.empty(part.size)
        n = count_runs(part, numbers)
        cells, counts = merge_sums(cells, counts, part[:n], numbers[:n])
    joined = np.concatenate([np.array(part, np.int64) for part in parts])
    expected_cells, expected_counts = np.unique(joined, return_counts=True)
    assert_array_equal(cells, expected_cells)
    assert_array_equal(counts, expected_counts)


def test_ranges_of_events_sum_to_the_whole(path):
    binning = BinningOptions(**COARSE).binning
    assert binning.selected_by == ()
    file = open_event_file(path)
    names = binning.columns
    parts = [
        sum_blocks(binning, file.blocks(names, *ends)) for ends in ((0, 7_000), (7_000, 20_000))
    ]
    whole = sum_blocks(binning, file.blocks(names))
    cells, counts = merge_sums(*parts[0][:2], *parts[1][:2])
    assert_array_equal(cells, whole.cells)
    assert_array_equal(counts, whole.counts)
    assert_array_equal(parts[0].fates + parts[1].fates, whole.fates)
