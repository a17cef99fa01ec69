"""Event lists on disk: blocks, units, times, damaged files."""

import gzip
import subprocess
import sys
import threading

import h5py
import numpy as np
import pytest
from binned import COARSE, N, dense, reference
from event_lists import START, make_events, write_fits, write_hdf5
from numpy.testing import assert_allclose, assert_array_equal

from cosi_linebkg_plugin import bin_events
from cosi_linebkg_plugin.errors import (
    DataError,
    FileError,
)
from cosi_linebkg_plugin.events import files
from cosi_linebkg_plugin.events.files import ReadAhead, find_event_files, open_event_file


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


def test_blocks_are_read_ahead_in_order_and_not_too_far():
    read = []

    class Counted:
        def __init__(self, first):
            self.first = first

        def blocks(self, names, start, stop):
            assert (names, start, stop) == (("Energies",), 3, 9)
            for i in range(self.first, self.first + 20):
                read.append(i)
                yield {"Energies": np.full(2, float(i))}
            if self.first:
                raise DataError("the end")

    taken = []
    with (
        pytest.raises(DataError, match="the end"),
        ReadAhead([Counted(0), Counted(20)], ("Energies",), 3, 9) as blocks,
    ):
        for block in blocks:
            taken.append(int(block["Energies"][0]))
            assert taken[-1] < len(read) <= taken[-1] + 1 + files._AHEAD
    assert taken == list(range(40))


def test_reading_ends_where_the_work_on_it_ends():
    closed = []

    class Endless:
        def blocks(self, names, start, stop):
            try:
                while True:
                    yield {"Energies": np.zeros(1)}
            finally:
                closed.append(threading.active_count())

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), ReadAhead([Endless()], ("Energies",)) as blocks:
        next(iter(blocks))
        raise ZeroDivisionError
    assert closed == [before]


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


def test_the_standard_library_unpacks_where_isal_is_missing(columns, tmp_path):
    files = [
        write_hdf5(tmp_path / "a.hdf5", columns),
        write_fits(tmp_path / "b.fits.gz", columns),
    ]
    code = (
        "import sys; sys.modules['isal'] = None\n"
        "import numpy as np\n"
        "from cosi_linebkg_plugin import bin_events\n"
        "from cosi_linebkg_plugin.events import files\n"
        "assert files.gzip.__name__ == 'gzip' and files.deflate.__name__ == 'zlib'\n"
        "options = dict(energy_edges=[200, 1000, 5000], phi_pix_size=30, nside=2)\n"
        "binned = [bin_events(path, **options).contents.todense() for path in sys.argv[2:]]\n"
        "np.save(sys.argv[1], binned)"
    )
    command = [sys.executable, "-c", code, tmp_path / "out.npy", *files]
    subprocess.run(command, check=True)
    expected = reference(columns, edges=[200, 1000, 5000], n_phi=6, nside=2)
    for found in np.load(tmp_path / "out.npy"):
        assert_array_equal(found, expected)


# ---------------------------------------------------------------------------- times


def rewritten(path, columns, *, unit="s", where=1, **cards):
    """A FITS event list whose header says more of its times."""
    from astropy.io import fits

    write_fits(path, columns)
    with fits.open(path, mode="update") as hdus:
        hdus[1].columns["TimeTags"].unit = unit
        for key, value in cards.items():
            hdus[where].header[key if len(key) <= 8 else f"HIERARCH {key}"] = value
    return path


@pytest.mark.parametrize(
    ("cards", "unit", "count"),
    [
        (dict(TIMEUNIT="d"), None, lambda t: t / 86400),
        ({}, "ms", lambda t: t * 1000),
        (dict(TIMEZERO=START), "s", lambda t: t - START),
        (dict(MJDREFI=40587, TIMESYS="UTC", TIMEZERO=START), "s", lambda t: t - START),
        # Fermi's reference: 2001 in UTC, with five leap seconds since then
        (
            dict(MJDREFI=51910, MJDREFF=7.428703703703703e-4, TIMESYS="TT"), "s",
            lambda t: t - 978307200 + 5,
        ),
        (dict(TIMEFORMAT="mjd", TIMESYS="UTC"), "d", lambda t: t / 86400 + 40587),
        (dict(TIMEFORMAT="mjd", TIMESYS="TT"), "d", lambda t: (t + 69.184) / 86400 + 40587),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["fits", "fits.gz", "primary", "hdf5"])
def test_times_are_converted_by_the_header(tmp_path, kind, cards, unit, count):
    columns = make_events(3_000, duration=1000.0)
    other = columns | {"TimeTags": count(columns["TimeTags"])}
    if kind == "hdf5":
        path = write_hdf5(tmp_path / "a.hdf5", other)
        with h5py.File(path, "a") as file:
            file.attrs.update(cards)
            if unit:
                file["TimeTags"].attrs["unit"] = unit
    else:
        where = 0 if kind == "primary" else 1
        path = rewritten(tmp_path / "a.fits", other, unit=unit, where=where, **cards)
        if kind == "fits.gz":
            path = tmp_path / "a.fits.gz"
            path.write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes()))
    blocks = open_event_file(path).blocks(("TimeTags",), size=1_000)
    times = np.concatenate([block["TimeTags"] for block in blocks])
    assert_allclose(times, columns["TimeTags"], rtol=0, atol=2e-6)
    edges = np.linspace(START, START + 1000, 6)
    histogram = bin_events(path, **COARSE, time_edges=edges)
    expected, _ = np.histogram(columns["TimeTags"], edges)
    far = np.abs(columns["TimeTags"][:, None] - edges).min(axis=1) > 1e-5
    assert far.sum() > 2_990
    found = dense(histogram).sum(axis=(1, 2, 3))
    assert_allclose(found, expected, atol=(~far).sum() + (columns["Energies"] >= 5000).sum())


@pytest.mark.parametrize(
    ("cards", "unit", "message"),
    [
        (dict(MJDREFI=51544, TIMESYS="UTC"), "s", "across . leap seconds"),
        (dict(TIMESYS="UT1", MJDREFI=51544), "s", "time system 'UT1'"),
        (dict(TIMESYS="TT"), "s", "not where times count from"),
        ({}, "keV", "no unit of time"),
        (dict(TIMEREF="SOLARSYSTEM", TIMESYS="TDB", MJDREFI=51544), "s", "not those of the tele"),
    ],
)  # fmt: skip
def test_times_that_cannot_be_converted_are_refused(columns, tmp_path, cards, unit, message):
    path = rewritten(tmp_path / "a.fits", columns, unit=unit, **cards)
    with pytest.raises(DataError, match=rf"a\.fits: the column 'TimeTags': .*{message}"):
        bin_events(path, **COARSE, tmin=START)
