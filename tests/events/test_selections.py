"""Which events are taken; good times."""

import astropy.units as u
import numpy as np
import pytest
from binned import COARSE, N, dense, reference
from event_lists import START
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

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
    table["START"], table["STOP"] = table["START"] + 8e8, table["STOP"] + 8e8
    table.meta["MJDREF"] = 51544.0
    table.write(tmp_path / "d.fits")
    with pytest.raises(DataError, match="from MJD 51544, across 5 leap seconds"):
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


def gti(path, columns, unit, **cards):
    """A FITS file with a table GTI."""
    from astropy.io import fits

    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, "D", unit=unit, array=values) for name, values in columns.items()],
        name="GTI",
    )
    for key, value in cards.items():
        table.header[key if len(key) <= 8 else f"HIERARCH {key}"] = value
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


TIMES = np.array([START, START + 100.0])


@pytest.mark.parametrize("names", [("START", "STOP"), ("TSTART", "TSTOP"), ("Start", "Stop")])
@pytest.mark.parametrize(
    ("unit", "cards", "count"),
    [
        (None, {}, lambda t: t),
        ("s", dict(TIMESYS="UTC", TIMEUNIT="s", TIMEFORMAT="unix"), lambda t: t),
        ("s", dict(TIMESYS="TT", TIMEUNIT="s", TIMEFORMAT="unix"), lambda t: t),
        ("d", dict(TIMESYS="UTC", TIMEUNIT="d", TIMEFORMAT="mjd"), lambda t: t / 86400 + 40587),
        ("d", dict(TIMESYS="TT", TIMEFORMAT="mjd"), lambda t: (t + 69.184) / 86400 + 40587),
        ("d", {}, lambda t: t / 86400),
        ("ms", {}, lambda t: t * 1000),
        (None, dict(TIMEUNIT="d"), lambda t: t / 86400),
        ("s", dict(MJDREFI=51910, MJDREFF=7.428703703703703e-4, TIMESYS="TT"),
         lambda t: t - 978307200 + 5),
    ],
)  # fmt: skip
def test_good_times_are_converted_by_the_header(tmp_path, names, unit, cards, count):
    columns = dict(zip(names, (count(TIMES), count(TIMES + 50)), strict=True))
    found = good_times(gti(tmp_path / "a.fits", columns, unit, **cards))
    assert_allclose(found, np.stack([TIMES, TIMES + 50], axis=1), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("names", "unit", "cards", "error", "message"),
    [
        (("BEGIN", "END"), "s", {}, FileError, "GTI has the columns BEGIN, END"),
        (("START", "STOP"), "keV", {}, DataError, "'START' of GTI: .*no unit of time"),
        (("START", "STOP"), "s", dict(TIMESYS="UT1"), DataError, "time system 'UT1'"),
        (("TSTART", "TSTOP"), "s", dict(TIMESYS="TT"), DataError, "not where times count from"),
        (("START", "STOP"), "s", dict(MJDREF=51544.0), DataError, "leap seconds"),
    ],
)
def test_good_times_that_cannot_be_converted_are_refused(
    tmp_path, names, unit, cards, error, message
):
    columns = dict(zip(names, (TIMES, TIMES + 50), strict=True))
    with pytest.raises(error, match=rf"a\.fits.*{message}"):
        good_times(gti(tmp_path / "a.fits", columns, unit, **cards))


def test_good_times_of_any_type():
    from astropy.time import Time

    expected = [[START, START + 50], [START + 100, START + 150]]
    pairs = np.array(expected)
    for source in (
        pairs,
        pairs.tolist(),
        pairs * u.s,
        (pairs / 86400) * u.d,
        (pairs * 1000) * u.ms,
        [[start * u.s, stop / 86400 * u.d] for start, stop in pairs],
        Time(pairs, format="unix"),
        [tuple(Time(pair, format="unix").tt) for pair in pairs],  # as cosipy's GTI is iterated
    ):
        assert_allclose(good_times(source), expected, rtol=0, atol=2e-6)
    for wrong in (5, [[1, 2, 3]], [["a", "b"]], pairs * u.keV, [START, START + 1]):
        with pytest.raises(DataError, match=r"Good times are a list of \[start, stop\] in s"):
            good_times(wrong)
