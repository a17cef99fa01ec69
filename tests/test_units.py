"""Numbers with units: converted, or refused with the cure."""

import astropy.units as u
import numpy as np
import pytest
from astropy.utils.masked import Masked

from cosi_linebkg_plugin.errors import BinningError, DataError, TemplateError
from cosi_linebkg_plugin.units import (
    array_in,
    counts_in,
    in_kev,
    in_seconds,
    in_unit,
    ranges_in_kev,
    to_kev,
)


def test_bare_numbers_are_kev_and_seconds():
    assert to_kev(1809) == 1809.0 and to_kev(1.809 * u.MeV) == pytest.approx(1809.0)
    assert in_kev((1.8, 1.82) * u.MeV) == pytest.approx((1800.0, 1820.0))
    assert in_seconds(90) == 90.0 and in_seconds(1.5 * u.min) == 90.0
    assert in_seconds("90 d") == 90 * 86400.0 and in_seconds("90") == 90.0
    assert in_unit(1 * u.rad, "deg", "angle") == pytest.approx(180 / np.pi)


def test_ranges_may_come_in_a_list():
    one, two = (1790, 1825), (1.9 * u.MeV, 1910 * u.keV)
    both = [(1790.0, 1825.0), (1900.0, 1910.0)]
    assert ranges_in_kev((one, two), "mask") == ranges_in_kev(([one, two],), "mask") == both
    assert ranges_in_kev((two,), "mask") == ranges_in_kev(((two,),), "mask") == both[1:]
    assert ranges_in_kev(([one, one] * u.keV,), "mask") == [both[0]] * 2
    assert ranges_in_kev((), "mask") == ranges_in_kev(([],), "mask") == []
    with pytest.raises(BinningError, match="mask must be an energy, .*'a'"):
        ranges_in_kev((("a", "b"),), "mask")
    with pytest.raises(BinningError, match=r"mask must be \(low, high\), two energies, got 1790"):
        ranges_in_kev((1790, 1825), "mask")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: to_kev(3 * u.s), BinningError, "energy must be an energy, .* got <Quantity 3. s>"),
        (lambda: to_kev("high"), BinningError, "a quantity or a number in keV, got 'high'"),
        (lambda: in_kev(5.0, "mask"), BinningError, r"mask must be \(low, high\), two energies"),
        (lambda: in_seconds("soon", "livetime"), BinningError, 'livetime must be a time.*"soon"'),
        (lambda: in_seconds(3 * u.keV, "livetime", TemplateError), TemplateError, "be a time"),
        (lambda: array_in([1, 2] * u.s, "keV", "edges"), BinningError, "edges must be energies"),
        (lambda: array_in(["a"], "deg", "angles"), BinningError, "must be angles, a quantity or"),
        (lambda: array_in([1 * u.keV, 2], "keV", "edges"), BinningError, "must be energies"),
        (lambda: array_in(np.ma.array([1, 2], mask=[0, 1]), "keV", "edges"), BinningError, "1 of"),
    ],
)
def test_other_units_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "counts",
    [[1, 2], np.array([1, 2]) * u.ct, [1 * u.ct, 2 * u.ct], [1, 2] * u.dimensionless_unscaled,
     np.ma.array([1, 2]), Masked([1, 2])],
)  # fmt: skip
def test_counts_may_be_numbers_or_ct(counts):
    assert np.array_equal(counts_in(counts), [1.0, 2.0])


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2] / u.s, "have the unit 1 / s, but counts are needed"),
        ([1, 2] * u.ct / u.keV, "have the unit ct / keV"),
        ([1, 2] * u.percent, "have the unit %"),
        ([1, 2] * u.kg, "have the unit kg"),
        (np.ma.array([1, 2], mask=[True, False]), "1 of the counts are masked"),
        (Masked([1, 2], mask=[True, False]), "leave energies out of the fit with"),
        (["a", "b"], r"must be numbers, got \['a', 'b'\]"),
        ([1j, 2], "must be numbers"),
        (None, "must be numbers, got None"),
        ([1 * u.ct, 2], "must be numbers, got .<Quantity 1. ct>, 2"),
        ([1 * u.ct, 2 / u.s], "must be numbers, got .<Quantity 1. ct>, <Quantity 2. 1 / s>"),
    ],
)
def test_what_is_no_number_of_counts_is_refused(counts, message):
    with pytest.raises(DataError, match=message):
        counts_in(counts)


def test_an_array_is_copied():
    edges = np.array([1.0, 2.0])
    array_in(edges, "keV", "edges")[0] = 5.0
    counts_in(edges)[0] = 5.0
    assert edges[0] == 1.0
