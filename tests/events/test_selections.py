"""Which events are taken; good times."""

import astropy.units as u
import numpy as np
import pytest
from binned import COARSE, N, dense, reference
from event_lists import START
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from cosi_linebkg_plugin.errors import (
    DataError,
    FileError,
)
from cosi_linebkg_plugin.events.binning import bin_event_files
from cosi_linebkg_plugin.events.kernels import (
    keep_intervals,
)
from cosi_linebkg_plugin.events.options import BinningOptions
from cosi_linebkg_plugin.events.selections import good_times


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), min_size=1, max_size=8),
    st.lists(st.integers(-5, 60), min_size=1, max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_good_times_keep_what_is_in_any_interval(pairs, times):
    intervals = [(float(a), float(a + n)) for a, n in pairs]
    kept = good_times(intervals)
    assert np.all(np.diff(kept.ravel()) > 0)
    times = np.array(times, float)
    fate = np.zeros(times.size, np.uint8)
    keep_intervals(times, kept.ravel(), fate, 1)
    assert_array_equal(fate == 0, [any(a <= t < b for a, b in intervals) for t in times])


def test_good_times_from_files(tmp_path):
    from astropy.table import Table

    expected = [[1.5, 3.0], [10.0, 20.0]]
    (tmp_path / "a.txt").write_text("# start stop\n10 20\n1.5 3 # a comment\n")
    (tmp_path / "b.csv").write_text("10,15\n12,20\n1.5,3\n")
    table = Table(
        {"START": [0.5, 9.0], "STOP": [2.0, 19.0]}, meta={"EXTNAME": "GTI", "TIMEZERO": 1.0}
    )
    table.write(tmp_path / "c.fits")
    for name in ("a.txt", "b.csv", "c.fits"):
        assert good_times(tmp_path / name).tolist() == expected
    table.meta["MJDREF"] = 51544.0
    table.write(tmp_path / "d.fits")
    with pytest.raises(DataError, match="count from MJD 51544"):
        good_times(tmp_path / "d.fits")
    (tmp_path / "e.txt").write_text("a b\n")
    with pytest.raises(FileError, match=r"e\.txt cannot be read as good times"):
        good_times(tmp_path / "e.txt")
    with pytest.raises(DataError, match=r"interval 1 is \[5.0, 5.0\]"):
        good_times([[1, 2], [5, 5]])


def test_each_selection_keeps_what_it_says_and_reports_the_rest(columns, path):
    z_lon, z_lat = columns["Zpointings"].T
    cosine = np.sin(z_lat) * np.sin(np.radians(-5))
    cosine += np.cos(z_lat) * np.cos(np.radians(-5)) * np.cos(z_lon - np.radians(30))
    times, energy, phi = columns["TimeTags"], columns["Energies"], np.degrees(columns["Phi"])
    cases = {
        "energy": (dict(energy_range=(300, 900)), (energy >= 300) & (energy < 900)),
        "phi": (dict(phi_range=(20, 100) * u.deg), (phi >= 20) & (phi < 100)),
        "distance": (dict(distance_range=(0.5, np.inf)), columns["Distance"] >= 0.5),
        "time": (dict(tmin=START + 10), times >= START + 10),
        "good_times": (
            dict(good_times=[[START, START + 100], [START + 500, START + 600]]),
            (times < START + 100) | ((times >= START + 500) & (times < START + 600)),
        ),
        "pointing": (dict(pointing=(30, -5, 15)), cosine >= np.cos(np.radians(15))),
    }  # fmt: skip
    for name, (option, kept) in cases.items():
        binned = bin_event_files(path, BinningOptions(**COARSE, **option))
        assert 0 < kept.sum() < N
        assert binned.report.removed == {name: N - kept.sum()}
        own = {key: values[kept] for key, values in columns.items()}
        expected = reference(own, edges=[200, 1000, 5000], n_phi=6, nside=2)
        assert_array_equal(dense(binned.histogram), expected)
