"""Histograms made and written."""

from __future__ import annotations

import h5py
import histpy
import numpy as np
import pytest
from small_histograms import make_axis, make_events
from templates import axes, cells

from cosi_linebkg_plugin.errors import FileError
from cosi_linebkg_plugin.histograms import write
from cosi_linebkg_plugin.histograms.write import make_histogram, write_histogram, write_maps


@pytest.mark.parametrize("sumw2", [False, True])
def test_made_histograms_are_plain_and_come_back(tmp_path, sumw2):
    axes = make_events().axes
    contents = np.random.default_rng(5).random([axis.nbins for axis in axes])
    made = make_histogram(axes, contents, contents**2 if sumw2 else None)
    path = tmp_path / "template.hdf5"
    path.write_text("an older file in its place")
    write_histogram(path, made)
    for histogram in (made, histpy.Histogram.open(str(path))):
        assert histogram.axes == axes
        assert histogram.unit is None and not histogram.is_sparse
        assert not np.any(histogram.track_overflow())
        assert histogram.contents.dtype == np.float64
        np.testing.assert_array_equal(histogram.contents, contents)
        if sumw2:
            np.testing.assert_array_equal(histogram.sumw2.contents, contents**2)
        else:
            assert histogram.sumw2 is None
    assert list(tmp_path.iterdir()) == [path]


def test_made_histograms_do_not_share_memory():
    contents = np.ones(4)
    made = make_histogram([make_axis("Em")], contents)
    contents[0] = 9
    assert made.contents[0] == 1


def test_writing_into_a_missing_folder(tmp_path):
    with pytest.raises(FileError, match="Choose a folder that exists"):
        write_histogram(tmp_path / "none" / "a.hdf5", make_events())


@pytest.mark.parametrize("block", [1, 7, 72, 500, 1 << 18])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_scaled_maps_are_histpys_own(tmp_path, monkeypatch, block, order):
    blocks = write._blocks
    monkeypatch.setattr(write, "_blocks", lambda shape: blocks(shape, block))
    some = axes("Em", "Phi", "PsiChi")
    contents, sumw2 = cells(some), cells(some, seed=2)
    moved = [np.transpose(np.ascontiguousarray(np.transpose(a, order)), np.argsort(order))
             for a in (contents, sumw2)]  # fmt: skip
    path = tmp_path / "maps.h5"
    for name in ("a/one", "a/two"):
        write_maps(path, name, some, {"contents": (moved[0], 2.5), "sumw2": (moved[1], 0.3)})
    make_histogram(some, contents * 2.5, sumw2 * 0.3).write(path, name="plain")
    with h5py.File(path) as file:
        assert dict(file["a/two"].attrs) == dict(file["plain"].attrs)
        assert sorted(file["a/two"]) == sorted(file["plain"])
        for key in ("contents", "sumw2"):
            assert file["a/one"][key].dtype == float
            np.testing.assert_array_equal(file["a/one"][key], file["plain"][key])
    back = histpy.Histogram.open(str(path), name="a/one")
    assert back.axes == some and not back.is_sparse
    np.testing.assert_array_equal(np.asarray(back.contents), contents * 2.5)


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 4), (2, 3, 4), (1, 1, 6)])
@pytest.mark.parametrize("size", [1, 2, 5, 12, 100])
def test_blocks_cover_every_cell_once_and_are_no_larger(shape, size):
    times = np.zeros(shape, int)
    for block in write._blocks(shape, size):
        part = times[block]
        assert np.size(part) <= size
        times[block] += 1
    assert (times == 1).all()
