"""The energy spectrum: what it takes, what it refuses, and when two are the same."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest

from cosi_linebkg_plugin.errors import BinningError, DataError
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum, check_edges, spaced_edges
from cosi_linebkg_plugin.spectrum.components import Component

EDGES = np.linspace(1500.0, 2000.0, 6)
COUNTS = np.arange(1.0, 6.0)


def test_two_spectra_are_equal_if_their_numbers_are():
    """It raised: the truth value of an array is ambiguous."""
    a = EnergySpectrum(EDGES, COUNTS)
    assert a == EnergySpectrum(EDGES.copy(), list(COUNTS)) and a != "a"
    assert a != EnergySpectrum(EDGES, COUNTS + 1) and a != EnergySpectrum(EDGES + 1, COUNTS)
    assert a != a.with_mask([(1600, 1650)]) and a in [a]
    assert a == EnergySpectrum(EDGES / 1000 * u.MeV, COUNTS * u.ct)
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)


def test_two_components_are_equal_if_their_tables_are():
    table = np.ones((2, 3, 8))
    a = Component("function", (0,), table=table)
    assert a == Component("function", (0,), table=table.copy())
    assert a != replace(a, table=2 * table) and a != replace(a, table=None)
    assert len({a, replace(a, table=table.copy())}) == 1


@pytest.mark.parametrize("unit", [u.MeV, u.eV, u.J])
def test_edges_in_any_energy_unit(unit):
    """Edges of 1.5 ... 2 MeV were taken for keV."""
    spectrum = EnergySpectrum((EDGES * u.keV).to(unit), COUNTS)
    assert np.allclose(spectrum.edges, EDGES, rtol=1e-12)


@pytest.mark.parametrize(
    ("edges", "counts", "error", "message"),
    [
        (EDGES, COUNTS / u.s, DataError, "the unit 1 / s, but counts are needed: raw numbers"),
        (EDGES, COUNTS / u.keV, DataError, "Multiply by livetime or bin width"),
        (EDGES, COUNTS * u.percent, DataError, "have the unit %"),
        (EDGES * u.s, COUNTS, BinningError, "energy edges must be energies"),
        (EDGES, np.ma.array(COUNTS, mask=COUNTS > 4), DataError, "1 of the counts are masked"),
        (np.ma.array(EDGES, mask=EDGES > 1990), COUNTS, BinningError, "1 of the energy edges"),
        ([0, *EDGES[1:]], COUNTS, BinningError,
         "edge 0 is 0 keV: start the axis at the first bin with a positive edge, 1600 keV"),
        ([-5, 0, 5, 10, 15, 20], COUNTS, BinningError, "edge 0 is -5 keV: start .*, 5 keV"),
        ([1, 2, 3, 4, 5, np.nan], COUNTS, BinningError, "edge 5 is nan keV\\."),
        (EDGES, COUNTS - 2, DataError, "bin 0 .* holds -1"),
        (EDGES, COUNTS[1:], DataError, "5 energy bins but counts of shape"),
    ],
)  # fmt: skip
def test_what_is_no_spectrum_is_refused(edges, counts, error, message):
    with pytest.raises(error, match=message):
        EnergySpectrum(edges, counts)


def test_the_cure_is_named_only_where_it_cures():
    with pytest.raises(BinningError) as caught:
        check_edges([-2, -1, 0])
    assert "start the axis" not in str(caught.value)


@pytest.mark.parametrize("text", ["1500:2000:100bins", "1500:2000:100 bins", " 1500 : 2000 : 5 "])
def test_edges_from_a_width_or_a_number_of_bins(text):
    np.testing.assert_allclose(spaced_edges(text), np.linspace(1500.0, 2000.0, 101))


def test_one_bin_is_a_number_of_bins():
    np.testing.assert_array_equal(spaced_edges("1803.5:1813:1bin"), [1803.5, 1813.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1500:2000:3", "does not divide the range; 1500:2000:167bins does"),
        ("1500:2000:900", "1500:2000:1bins does"),
        ("2000:1500:5", "is 1500:2000:5 meant"),
        ("2000:1500:10bins", "is 1500:2000:10bins meant"),
        ("2000:1500:-5", r"the width above 0\)"),
        ("1500:2000:0bins", "division|zero"),
        ("1500:2000:2000001bins", "at most 1000000"),
        ("1500:2000", '"low:high:width" in keV as in "1500:2000:5", or "low:high:Nbins"'),
        ("1500:2000:bins", '"low:high:Nbins" as in'),
        ("1500:2000:", '"low:high:Nbins" as in'),
    ],
)
def test_other_spacings_name_the_forms(text, message):
    with pytest.raises(BinningError, match=message) as raised:
        spaced_edges(text)
    assert "Nbins" in str(raised.value)
