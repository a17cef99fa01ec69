"""Times by their header: systems, references, units, what is refused."""

import numpy as np
import pytest
from astropy.time import Time
from numpy.testing import assert_allclose

from cosi_linebkg_plugin.errors import DataError
from cosi_linebkg_plugin.io.time_header import time_reference

UNIX = 1835478000.25  # in 2028
TT_MINUS_UTC = 32.184 + 37  # s, since 2017


def unix(values, unit=None, **header):
    return time_reference(header, unit, "a.fits").unix(np.atleast_1d(values))


def since(reference, scale, unit="s"):
    """The count of UNIX from a date, by astropy."""
    now = getattr(Time(UNIX, format="unix"), scale)
    return (now - Time(reference, scale=scale)).to_value(unit)


def test_times_without_keywords_are_unix_times():
    assert unix(UNIX)[0] == UNIX
    assert time_reference({}, None, "").changes_nothing
    assert time_reference({"TIMESYS": "UTC", "MJDREF": 40587}, "s", "").changes_nothing
    assert unix(UNIX * 1e3, "ms")[0] == pytest.approx(UNIX, abs=1e-6)
    assert unix(UNIX / 86400, TIMEUNIT="d")[0] == pytest.approx(UNIX, abs=1e-6)
    assert unix(UNIX - 5, TIMEZERO=5)[0] == UNIX
    assert unix(UNIX / 86400 - 1, "d", TIMEZERO=1)[0] == pytest.approx(UNIX, abs=1e-6)
    assert unix(UNIX * 1e3, "ms", TIMEUNIT="d")[0] == pytest.approx(UNIX, abs=1e-6)


@pytest.mark.parametrize(
    ("scale", "name"), [("tt", "TT"), ("tt", "TDT"), ("tai", "TAI"), ("tdb", "TDB"), ("tt", "tt")]
)
def test_seconds_from_a_reference_in_uniform_systems(scale, name):
    value = since("2001-01-01", scale)
    header = dict(MJDREFI=51910, MJDREFF=0.0, TIMESYS=name)
    assert unix(value, **header)[0] == pytest.approx(UNIX, abs=1e-6)
    assert unix(value / 86400, "d", **header)[0] == pytest.approx(UNIX, abs=1e-5)
    assert unix(value, JDREF=2451910.5, TIMESYS=name)[0] == pytest.approx(UNIX, abs=1e-6)
    assert unix(value, DATEREF="2001-01-01", TIMESYS=name)[0] == pytest.approx(UNIX, abs=1e-6)


def test_the_reference_of_fermi_is_2001_in_utc():
    """MJDREFF = 64.184 s / 86400 s: the reference is midnight in UTC, counted in TT."""
    header = dict(MJDREFI=51910, MJDREFF=7.428703703703703e-4, TIMESYS="TT")
    assert unix(0.0, **header)[0] == pytest.approx(978307200.0, abs=1e-6)
    assert unix(1.0, TIMEZERO=4, **header)[0] == pytest.approx(978307205.0, abs=1e-6)


def test_utc_and_tt_differ_by_69_seconds():
    mjd = 61833.5
    utc = unix(mjd, TIMEFORMAT="mjd", TIMESYS="UTC")[0]
    assert utc == pytest.approx((mjd - 40587) * 86400, abs=1e-5)
    tt = unix(mjd, TIMEFORMAT="mjd", TIMESYS="TT")[0]
    assert utc - tt == pytest.approx(TT_MINUS_UTC, abs=1e-5)
    assert unix(mjd + 2400000.5, TIMEFORMAT="jd")[0] == pytest.approx(utc, abs=1e-4)
    # Unix times are in UTC whatever system cosipy's object was in
    assert unix(UNIX, TIMEFORMAT="unix", TIMESYS="TT")[0] == UNIX


def test_leap_seconds_inside_a_column():
    """2016 ended with one, which Unix times do not count."""
    header = dict(DATEREF="2016-12-30", TIMESYS="TAI")
    start = unix(0.0, **header)[0]
    values = np.array([0.0, 3600.0, 3 * 86400.0, np.nan])
    converted = unix(values, **header)
    assert_allclose(converted[:3] - start, [0, 3600, 3 * 86400 - 1], atol=2e-6)
    assert np.isnan(converted[3])


def test_seconds_in_utc_are_refused_only_where_leap_seconds_matter():
    later = since("2020-01-01", "utc")
    assert unix(later, DATEREF="2020-01-01")[0] == pytest.approx(UNIX, abs=1e-6)
    with pytest.raises(DataError, match="a.fits: .* MJD 51544, across 5 leap seconds"):
        unix(UNIX - 946684800, MJDREF=51544.0, TIMESYS="UTC")
    with pytest.raises(DataError, match="TIMESYS = 'TT'"):
        unix(UNIX - 946684800, MJDREFI=51544)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (dict(TIMESYS="UT1", MJDREF=51910), "time system 'UT1'"),
        (dict(TIMESYS="LOCAL"), "time system 'LOCAL'"),
        (dict(TIMESYS="TT"), "not where times count from"),
        (dict(TIMESYS="TDB", TIMEREF="SOLARSYSTEM", MJDREF=51910), "not those of the telescope"),
        (dict(TIMESYS="TDB", TREFPOS="BARYCENTER", MJDREF=51910), "not those of the telescope"),
        (dict(TIMEUNIT="keV"), "no unit of time"),
        (dict(TIMEUNIT="s**99999"), "no unit of time"),
        (dict(MJDREF=51910, JDREF=2451910.5), "MJDREF, JDREF; keep one"),
        (dict(MJDREF="yesterday"), "MJDREF is 'yesterday', but must be a number"),
        (dict(TIMEZERO=float("inf")), "must be a number"),
        (dict(DATEREF="yesterday"), "no date"),
        (dict(TIMEFORMAT="gps"), "TIMEFORMAT 'gps'"),
        (dict(TIMEFORMAT="mjd", MJDREF=51910), "as well; remove one"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_refused(header, message):
    with pytest.raises(DataError, match=message):
        unix(UNIX, **header)
