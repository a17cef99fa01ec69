"""Histograms made and written."""

from __future__ import annotations

import histpy
import numpy as np
import pytest
from small_histograms import make_axis, make_events

from cosi_linebkg_plugin.errors import FileError
from cosi_linebkg_plugin.histograms.write import make_histogram, write_histogram


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
