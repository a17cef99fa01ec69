"""Event lists to histograms: bins, selections, reports, bad input, files."""

import json
import shutil
import signal
import subprocess
import sys
import time

import astropy.units as u
import h5py
import healpy
import numpy as np
import pytest
from event_lists import START, make_events, special_events, write_fits, write_hdf5
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from cosi_linebkg_plugin import bin_events
from cosi_linebkg_plugin.errors import (
    BinningError,
    DataError,
    FileError,
    LineBackgroundError,
    LineBackgroundWarning,
)
from cosi_linebkg_plugin.events.binning import bin_event_files
from cosi_linebkg_plugin.events.files import find_event_files, open_event_file
from cosi_linebkg_plugin.events.kernels import (
    add_bins,
    count_runs,
    keep_intervals,
    sort_cells,
    unravel,
)
from cosi_linebkg_plugin.events.options import BinningOptions
from cosi_linebkg_plugin.events.selections import Selections, good_times
from cosi_linebkg_plugin.events.sums import ColumnAxis, merge_sums, sum_events
from cosi_linebkg_plugin.histograms.read import open_events

EDGES = np.linspace(1500, 2000, 51)
COARSE = dict(energy_edges=[200.0, 1000.0, 5000.0], phi_pix_size=30, nside=2)
N = 20_000


@pytest.fixture(scope="module")
def columns():
    return make_events(N, duration=1000.0)


@pytest.fixture(scope="module")
def path(columns, tmp_path_factory):
    return write_hdf5(tmp_path_factory.mktemp("events") / "events.hdf5", columns)


def reference(columns, *, edges, n_phi, nside, scheme="ring", frame="galactic", times=None):
    """The histogram by numpy and healpy alone, dense."""
    if frame == "galactic":
        lon, lat = columns["Chi galactic"], columns["Psi galactic"]
        pixels = healpy.ang2pix(nside, lon, lat, lonlat=True, nest=scheme == "nested")
    else:
        theta, phi = columns["Psi local"], columns["Chi local"]
        pixels = healpy.ang2pix(nside, theta, phi, nest=scheme == "nested")
    phi_edges = np.linspace(0, 180, n_phi + 1)
    bins = [np.digitize(columns["Energies"], edges) - 1]
    bins += [np.digitize(np.degrees(columns["Phi"]), phi_edges) - 1, pixels]
    shape = [len(edges) - 1, n_phi, 12 * nside**2]
    if times is not None:
        bins.insert(0, np.digitize(columns["TimeTags"], times) - 1)
        shape.insert(0, len(times) - 1)
    inside = np.all([(b >= 0) & (b < n) for b, n in zip(bins, shape, strict=True)], axis=0)
    counts = np.zeros(shape)
    np.add.at(counts, tuple(b[inside] for b in bins), 1)
    return counts


def dense(histogram):
    return histogram.contents.todense()


# ---------------------------------------------------------------------------- the histogram


@pytest.mark.parametrize("scheme", ["ring", "nested"])
@pytest.mark.parametrize("frame", ["galactic", "spacecraftframe"])
@pytest.mark.parametrize("kind", ["hdf5", "plain hdf5", "fits", "fits.gz"])
def test_every_kind_of_file_gives_the_same_histogram(columns, tmp_path, kind, frame, scheme):
    if kind.endswith("hdf5"):
        gzipped = "gzip" if kind == "hdf5" else None
        file = write_hdf5(tmp_path / "events.h5", columns, compression=gzipped)
    else:
        file = write_fits(tmp_path / f"events.{kind}", columns)
    times = np.linspace(START, START + 1000, 5)
    histogram = bin_events(
        file, energy_edges=EDGES * u.keV, phi_pix_size=6, nside=4, scheme=scheme, frame=frame,
        time_bins=250, tmin=START, tmax=START + 1000,
    )  # fmt: skip
    expected = reference(
        columns, edges=EDGES, n_phi=30, nside=4, scheme=scheme, frame=frame, times=times
    )
    assert_array_equal(dense(histogram), expected)
    assert [axis.label for axis in histogram.axes] == ["Time", "Em", "Phi", "PsiChi"]
    assert [str(axis.unit) for axis in histogram.axes][:3] == ["s", "keV", "deg"]
    sky = histogram.axes["PsiChi"]
    assert (sky.nside, sky.scheme.lower(), sky.coordsys.name) == (4, scheme, frame)
    assert histogram.is_sparse and histogram.contents.dtype == float


def test_files_folders_and_patterns_are_the_sum_of_their_files(columns, tmp_path):
    thirds = [{key: values[i::3] for key, values in columns.items()} for i in range(3)]
    for i, third in enumerate(thirds):
        write_hdf5(tmp_path / f"part_{i}.hdf5", third)
    expected = reference(columns, edges=[200, 1000, 5000], n_phi=6, nside=2)
    for paths in (
        tmp_path,
        str(tmp_path / "part_*.hdf5"),
        [tmp_path / "part_0.hdf5", str(tmp_path / "part_[12].hdf5")],
    ):
        assert_array_equal(dense(bin_events(paths, **COARSE)), expected)


def test_blocks_of_any_size_and_start_give_every_event_once(columns, tmp_path):
    for file in (
        write_hdf5(tmp_path / "a.hdf5", columns),
        write_hdf5(tmp_path / "b.hdf5", columns, compression=None),
        write_fits(tmp_path / "c.fits", columns),
    ):
        opened = open_event_file(file)
        for start, stop, size in ((0, None, 7_001), (123, 19_000, 2_500), (19_999, None, 10)):
            blocks = list(opened.blocks(("Energies", "Zpointings"), start, stop, size))
            assert max(len(block["Energies"]) for block in blocks) <= size
            for name in ("Energies", "Zpointings"):
                joined = np.concatenate([block[name] for block in blocks])
                assert_array_equal(joined, columns[name][start:stop])


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


@pytest.mark.parametrize("nside", [1, 8, 128])
@pytest.mark.parametrize("scheme", ["ring", "nested"])
@pytest.mark.parametrize("frame", ["galactic", "spacecraftframe"])
def test_pixels_are_those_of_histpy_to_the_last_bit(tmp_path, nside, scheme, frame):
    from astropy.coordinates import SkyCoord
    from histpy import HealpixAxis
    from scoords import SpacecraftFrame

    columns = special_events(nside, [100.0, 1000.0], [START, START + 1])
    columns["Energies"][:], columns["Phi"][:] = 500.0, 1.0
    file = write_hdf5(tmp_path / "events.hdf5", columns)
    axis = HealpixAxis(
        nside=nside, scheme=scheme, label="PsiChi",
        coordsys="galactic" if frame == "galactic" else SpacecraftFrame(),
    )  # fmt: skip
    if frame == "galactic":
        lon, lat = columns["Chi galactic"] * u.deg, columns["Psi galactic"] * u.deg
        directions = SkyCoord(l=lon, b=lat, frame="galactic")
    else:
        lon, lat = columns["Chi local"] * u.rad, (np.pi / 2 - columns["Psi local"]) * u.rad
        directions = SkyCoord(lon=lon, lat=lat, frame=SpacecraftFrame())
    expected = np.bincount(axis.find_bin(directions), minlength=axis.npix)
    histogram = bin_events(
        file, energy_edges=[100, 1000], phi_edges=[0, 180], nside=nside, scheme=scheme, frame=frame
    )
    assert_array_equal(dense(histogram)[0, 0], expected)


def test_scatt_bins_come_from_their_column(columns, tmp_path):
    index = np.arange(N) % 5 - 1  # -1 is none
    file = write_hdf5(tmp_path / "events.hdf5", columns | {"ScAtt": index})
    binned = bin_event_files(file, BinningOptions(scatt_bins=3, **COARSE))
    assert [axis.label for axis in binned.histogram.axes] == ["ScAtt", "Em", "Phi", "PsiChi"]
    assert_array_equal(binned.histogram.axes["ScAtt"].edges, [0, 1, 2, 3])
    for i in range(3):
        own = {key: values[index == i] for key, values in columns.items()}
        expected = reference(own, edges=[200, 1000, 5000], n_phi=6, nside=2)
        assert_array_equal(dense(binned.histogram)[i], expected)
    assert binned.report.outside["ScAtt"] == (N // 5, N // 5)


def test_units_in_a_file_are_converted(columns, tmp_path):
    from astropy.table import Table

    table = Table(dict(columns))
    table["Energies"] = columns["Energies"] / 1000
    table["Energies"].unit, table["Phi"].unit = "MeV", "deg"
    table["Phi"] = np.degrees(columns["Phi"])
    table["Phi"].unit = "deg"
    table.write(tmp_path / "events.fits")
    options = dict(energy_edges=[200, 1000.00005, 5000], phi_edges=[0, 60.000001, 180], nside=2)
    expected = write_hdf5(tmp_path / "events.hdf5", columns)
    assert_array_equal(
        dense(bin_events(tmp_path / "events.fits", **options)),
        dense(bin_events(expected, **options)),
    )
    table["Energies"].unit = "s"
    table.write(tmp_path / "wrong.fits")
    with pytest.raises(DataError, match="'Energies' has the unit 's'"):
        bin_events(tmp_path / "wrong.fits", **options)


def test_scaled_columns_of_fits_files(tmp_path):
    from astropy.io import fits

    n = 10
    stored = np.arange(n, dtype=np.int16)
    columns = [
        fits.Column("Energies", "I", array=stored),
        fits.Column("Phi", "E", array=np.full(n, 1.0, np.float32)),
        fits.Column("Chi galactic", "D", array=np.full(n, 10.0)),
        fits.Column("Psi galactic", "J", array=np.full(n, 5)),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    table.header["TSCAL1"], table.header["TZERO1"] = 100.0, 450.0
    table.writeto(tmp_path / "events.fits")
    histogram = bin_events(
        tmp_path / "events.fits", **(COARSE | {"energy_edges": [450, 950, 1350]})
    )
    assert_array_equal(dense(histogram).sum(axis=(1, 2)), [5, 4])


def test_no_event_inside_gives_an_empty_histogram(path):
    histogram = bin_events(path, energy_edges=[8000, 9000], phi_pix_size=30, nside=1)
    assert dense(histogram).sum() == 0
    assert dense(histogram).shape == (1, 6, 12)


# ---------------------------------------------------------------------------- properties


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


def test_phi_of_180_degrees_and_a_time_of_tmax_are_outside_and_reported(tmp_path):
    columns = make_events(6)
    columns["Energies"][:] = [200, 1000, 5000, 1000, 1000, 1000]
    columns["Phi"][:] = [0, 0.1, 0.1, np.pi, 0.1, 0.1]
    columns["TimeTags"][:] = START + np.array([0, 1, 1, 1, 10, 9.9])
    file = write_hdf5(tmp_path / "events.hdf5", columns)
    options = BinningOptions(time_bins=5, tmin=START, tmax=START + 10, **COARSE)
    binned = bin_event_files(file, options)
    assert binned.report.outside == {"Time": (0, 1), "Em": (0, 1), "Phi": (0, 1)}
    assert_array_equal(dense(binned.histogram).sum(axis=(2, 3)), [[1, 1], [0, 1]])
    assert "1 on or above the last edge of the Phi axis" in str(binned.report)


# ---------------------------------------------------------------------------- what is left out


def test_every_event_is_counted_once(columns, tmp_path):
    damaged = {key: values.copy() for key, values in columns.items()}
    damaged["Phi"][:10] = np.nan
    damaged["Energies"][5:30] = np.nan
    damaged["Chi galactic"][30:34] = np.inf
    damaged["Psi galactic"][34:40] = 91.0
    damaged["Zpointings"][40:43, 1] = np.nan
    damaged["Energies"][30:43], damaged["Phi"][30:43] = 500.0, 1.0
    file = write_hdf5(tmp_path / "events.hdf5", damaged)
    options = BinningOptions(**COARSE, pointing=(0, 0, 180))
    with pytest.warns(LineBackgroundWarning) as caught:
        bin_events(file, **COARSE, pointing=(0, 0, 180))
    assert any("25 event(s) hold NaN in the column 'Energies'" in str(w.message) for w in caught)
    assert any("10 event(s) have a direction that is none" in str(w.message) for w in caught)
    report = bin_event_files(file, options).report
    nan = {"Energies": 25, "Phi": 5, "Zpointings": 3}
    assert {key: n for key, n in report.not_a_number.items() if n} == nan
    assert report.impossible == 10
    assert report.read == N
    left_out = sum(report.not_a_number.values()) + sum(report.removed.values())
    left_out += sum(map(sum, report.outside.values())) + report.impossible
    assert report.kept + left_out == N
    assert "25 Energies is not a number" in str(report)


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


def test_angles_in_radians_are_noticed(columns, tmp_path):
    in_radians = columns | {
        "Chi galactic": np.radians(columns["Chi galactic"] - 180),
        "Psi galactic": np.radians(columns["Psi galactic"]),
    }
    file = write_hdf5(tmp_path / "events.hdf5", in_radians)
    with pytest.warns(LineBackgroundWarning, match="seem to be in radians"):
        bin_events(file, **COARSE)


# ---------------------------------------------------------------------------- bad input


def test_missing_columns_are_named_with_those_found(columns, tmp_path):
    some = {key: columns[key] for key in ("Energies", "Phi", "Chi local", "Psi local")}
    for file in (write_hdf5(tmp_path / "a.hdf5", some), write_fits(tmp_path / "b.fits", some)):
        message = r"lacks the column\(s\) 'Chi galactic', 'Psi galactic'; it has .*'Chi local'"
        with pytest.raises(DataError, match=message):
            bin_events(file, **COARSE)
        with pytest.raises(DataError, match="'Distance'"):
            bin_events(file, **COARSE, frame="spacecraftframe", distance_range=(1, 2))
        assert dense(bin_events(file, **COARSE, frame="spacecraftframe")).sum() > 0


@pytest.mark.parametrize("kept", [0.1, 0.6, 0.999])
@pytest.mark.parametrize("kind", ["fits", "fits.gz"])
def test_truncated_fits_says_how_far_it_was_read(columns, tmp_path, kind, kept):
    file = write_fits(tmp_path / f"events.{kind}", columns)
    raw = file.read_bytes()
    file.write_bytes(raw[: int(kept * len(raw))])
    with pytest.raises(
        FileError, match=rf"events\.{kind} is truncated or damaged: (\d+) of its"
    ) as e:
        bin_events(file, **COARSE)
    n_read = int(str(e.value).split("damaged: ")[1].split()[0])
    assert 0 <= n_read < N and (
        kind == "fits.gz" or n_read == pytest.approx(kept * N, abs=0.02 * N)
    )


def test_a_file_that_lacks_only_its_padding_is_whole(columns, tmp_path):
    file = write_fits(tmp_path / "events.fits", columns)
    rows = open_event_file(file)
    file.write_bytes(file.read_bytes()[: rows._table.offset + N * rows._table.dtype.itemsize])
    assert dense(bin_events(file, **COARSE)).sum() > 0


def test_damaged_gzip_and_hdf5(columns, tmp_path):
    file = write_fits(tmp_path / "a.fits.gz", columns)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 50] = bytes(50)
    file.write_bytes(raw)
    with pytest.raises(FileError, match=r"a\.fits\.gz is truncated or damaged: \d+ of its 20000"):
        bin_events(file, **COARSE)
    file = write_hdf5(tmp_path / "b.hdf5", columns)
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(FileError, match=r"b\.hdf5 is truncated or damaged: none of its events"):
        bin_events(file, **COARSE)
    file = write_hdf5(tmp_path / "c.hdf5", columns)
    with h5py.File(file) as opened:
        place = opened["Phi"].id.get_chunk_info(2)
        n_before = 2 * opened["Phi"].chunks[0]
    raw = bytearray(file.read_bytes())
    raw[place.byte_offset : place.byte_offset + 40] = bytes(40)
    file.write_bytes(raw)
    assert n_before < N
    with pytest.raises(FileError, match=r"c\.hdf5 is truncated or damaged: 0 of its 20000 events"):
        bin_events(file, **COARSE)


def test_files_that_are_no_event_lists(path, tmp_path, columns):
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.tra.gz").write_bytes(b"SE\n")
    with h5py.File(tmp_path / "c.hdf5", "w") as file:
        file["hist/axes"] = 1
    cases = {
        "a.txt": (FileError, "neither a FITS nor an HDF5 file"),
        "b.tra.gz": (FileError, "read_tra"),
        "c.hdf5": (DataError, "is a histogram already: it lacks the dataset 'Energies'"),
        "none.hdf5": (FileError, "does not exist"),
        "*.fits": (FileError, "No file matches"),
    }
    for name, (error, message) in cases.items():
        with pytest.raises(error, match=message):
            bin_events(tmp_path / name, **COARSE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="holds no file that ends in"):
        bin_events(tmp_path / "empty", **COARSE)
    with pytest.raises(FileError, match="given twice"):
        bin_events([path, path.parent], **COARSE)
    with pytest.raises(FileError, match="No event list is given"):
        find_event_files([])
    with pytest.raises(FileError, match="got 5"):
        bin_events([5], **COARSE)
    short = columns | {"Phi": columns["Phi"][:-1]}
    with pytest.raises(DataError, match="'Energies' has 20000 events, 'Phi' 19999"):
        bin_events(write_hdf5(tmp_path / "short.hdf5", short), **COARSE)


def test_every_file_is_looked_at_before_any_is_binned(path, columns, tmp_path):
    some = {key: columns[key] for key in ("Energies", "Phi")}
    told = []
    with pytest.raises(DataError, match="lacks the column"):
        bin_events(
            [path, write_hdf5(tmp_path / "b.hdf5", some)], **COARSE,
            progress=lambda *numbers: told.append(numbers),
        )  # fmt: skip
    assert told == []


@pytest.mark.parametrize(
    "option, message",
    [
        (dict(nside=3), "nside must be a power of 2"),
        (dict(nside=2.0), "nside must be a power of 2"),
        (dict(scheme="spiral"), "scheme must be one of ring, nested"),
        (dict(frame="local"), "'spacecraftframe'"),
        (dict(energy_edges=[3, 2]), "increas"),
        (dict(energy_edges="1500:2000:7"), "the width does not divide the range"),
        (dict(energy_edges="1500-2000"), "low:high:width"),
        (dict(energy_edges=[1, 2] * u.s), "keV"),
        (dict(phi_pix_size=0), "phi_pix_size must be above 0"),
        (dict(phi_edges=[0, 90]), "either phi_edges or phi_pix_size"),
        (dict(phi_pix_size=None, phi_edges=[0, 190]), "0-180 deg"),
        (dict(phi_pix_size=None, phi_edges=[0, 90, 90]), "edge 2 is 90 after 90"),
        (dict(time_bins=5), "needs tmin and tmax"),
        (dict(time_bins=50, tmin=0, tmax=10), "width"),
        (dict(time_bins=-1, tmin=0, tmax=10), "width"),
        (dict(tmin=5, tmax=5), "tmin must be below tmax"),
        (dict(time_edges=[0, 1], scatt_bins=4), "only one of"),
        (dict(time_edges=[3, 4], tmin=1), "do not cover"),
        (dict(scatt_bins=0), "scatt_bins"),
        (dict(energy_range=(5, 2)), "energy_range must be"),
        (dict(phi_range=5), "phi_range must be"),
        (dict(pointing=(0, 100, 3)), "pointing must be"),
        (dict(pointing=3), "pointing must be"),
        (dict(good_times=[[3, 4]], tmin=8), "No good time"),
        (dict(nside=8192, energy_edges=np.arange(1.0, 1e5), time_edges=np.arange(1e5)), "2\\^62"),
        (dict(workers=3), "needs a scheduler"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(path, option, message):
    with pytest.raises(LineBackgroundError, match=message):
        bin_events(path, **(COARSE | option))


def test_bins_that_differ_from_what_was_asked_for_are_said(path):
    with pytest.warns(LineBackgroundWarning, match="bins are 7.2 deg"):
        bin_events(path, energy_edges=EDGES, phi_pix_size=7, nside=1)
    with pytest.warns(LineBackgroundWarning, match="bins are 3.33333 s"):
        bin_events(path, **COARSE, time_bins=3, tmin=START, tmax=START + 10)


# ---------------------------------------------------------------------------- files


def test_a_written_histogram_is_plain_histpy_with_a_record(path, tmp_path):
    from histpy import Histogram

    options = BinningOptions(energy_edges=EDGES * u.keV, phi_pix_size=6, nside=2, tmax=START + 500)
    binned = bin_event_files(path, options)
    binned.write(tmp_path / "out.hdf5")
    opened = Histogram.open(str(tmp_path / "out.hdf5"))
    assert_array_equal(dense(opened), dense(binned.histogram))
    with h5py.File(tmp_path / "out.hdf5") as file:
        record = json.loads(file["binning"].attrs["record"])
    assert record["report"]["kept"] == binned.report.kept
    assert record["options"]["energy_edges"] == {"value": EDGES.tolist(), "unit": "keV"}
    events = open_events(tmp_path / "out.hdf5")
    assert events.energy_counts().sum() == binned.report.kept
    assert events.livetime is None


KILLED_WRITING = """
import os, signal, sys, histpy
from cosi_linebkg_plugin.app.cli import main
write = histpy.Histogram.write
def killed(self, *args, **options):
    write(self, *args, **options)
    os.kill(os.getpid(), signal.SIGKILL)
histpy.Histogram.write = killed
main(sys.argv[1:])
"""
KILLED_READING = """
import os, signal, sys
from cosi_linebkg_plugin.events import files as event_files
from cosi_linebkg_plugin.app.cli import main
def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)
event_files._doubles = killed
main(sys.argv[1:])
"""


@pytest.mark.parametrize("script", [KILLED_WRITING, KILLED_READING])
def test_killed_in_the_middle_leaves_the_old_output_as_it_was(path, tmp_path, script):
    out = tmp_path / "out.hdf5"
    out.write_bytes(b"what was there before")
    command = ["bin", str(path), "--out", str(out), "--energy-edges", "1500:2000:5"]
    command += ["--phi-pix-size", "6", "--nside", "4"]
    run = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert out.read_bytes() == b"what was there before"


def test_interrupted_leaves_nothing_behind(path, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bin_events(path, **COARSE, progress=interrupt)
    out = tmp_path / "folder" / "out.hdf5"
    binned = bin_event_files(path, BinningOptions(**COARSE))
    with pytest.raises(FileError, match="Cannot write"):
        binned.write(out)
    shutil.rmtree(tmp_path / "folder", ignore_errors=True)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_event(path, tmp_path, columns):
    second = write_fits(tmp_path / "b.fits.gz", columns)
    told = []
    bin_events([path, second], **COARSE, progress=lambda *numbers: told.append(numbers))
    assert told[-1] == (2 * N, 2 * N)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_ranges_of_events_sum_to_the_whole(path):
    binning = BinningOptions(**COARSE).binning
    assert binning.selections == Selections()
    file = open_event_file(path)
    parts = [sum_events(binning, [file], *ends) for ends in ((0, 7_000), (7_000, 20_000))]
    whole = sum_events(binning, [file])
    cells, counts = merge_sums(*parts[0][:2], *parts[1][:2])
    assert_array_equal(cells, whole.cells)
    assert_array_equal(counts, whole.counts)
    assert_array_equal(parts[0].fates + parts[1].fates, whole.fates)


def test_only_the_columns_that_are_needed_are_read():
    binning = BinningOptions(**COARSE).binning
    assert binning.columns == ("Energies", "Phi", "Chi galactic", "Psi galactic")


def test_bad_edges_are_binning_errors():
    with pytest.raises(BinningError):
        BinningOptions(energy_edges=[1.0], phi_pix_size=3, nside=1)


def test_selections_with_good_times_can_be_compared():
    """The truth value of two arrays is ambiguous."""
    a = Selections(energy=(1500.0, 2000.0), good_times=np.array([[0.0, 1.0], [2.0, 3.0]]))
    assert a == Selections(energy=(1500.0, 2000.0), good_times=a.good_times.copy())
    assert a != Selections(energy=(1500.0, 2000.0)) and Selections() == Selections()
    assert a != Selections(energy=(1500.0, 2000.0), good_times=a.good_times + 1)
