"""Livetime: from orientation files, in histogram files, in templates."""

import gzip

import h5py
import numpy as np
import pytest
from event_lists import (
    START,
    make_events,
    rocking_orbit,
    write_fits_orientation,
    write_hdf5,
    write_orientation,
)
from numpy.testing import assert_allclose, assert_array_equal

from cosi_linebkg_plugin.errors import DataError, FileError, LineBackgroundWarning
from cosi_linebkg_plugin.events.binning import bin_event_files
from cosi_linebkg_plugin.events.options import BinningOptions
from cosi_linebkg_plugin.histograms.orientation import (
    Livetime,
    Pointing,
    livetime_of_sum,
    read_orientation,
    unit_vectors,
)
from cosi_linebkg_plugin.histograms.read import open_events

OPTIONS = dict(energy_edges=np.linspace(1500, 2000, 51), phi_pix_size=30, nside=2)


@pytest.fixture
def orientation(tmp_path):
    """Ten steps of 100 s with 90, 80 ... 0 s of livetime; the z axis goes along the equator."""
    times = START + 100.0 * np.arange(11)
    live = [*(90.0 - 10.0 * np.arange(10)), 0.0]
    return write_orientation(tmp_path / "o.ori", times, live, np.zeros(11), 10.0 * np.arange(11))


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    return write_hdf5(folder / "events.hdf5", make_events(5_000, duration=1000.0))


def test_livetime_is_that_of_the_intervals(orientation):
    read = read_orientation(orientation)
    whole = [START, START + 1000]
    assert read.livetime([whole]).seconds == pytest.approx(450)
    assert read.livetime([[START, START + 100]]).seconds == pytest.approx(90)
    parts = [[START + 50, START + 100], [START + 875, START + 925]]
    assert read.livetime(parts).seconds == pytest.approx(45 + 10 * 0.25 + 0 * 0.25)


def test_livetime_within_a_cone_counts_the_share_of_each_step(orientation):
    read = read_orientation(orientation)
    whole = [[START, START + 1000]]
    # the axis is within 25 deg of l = 0 during the first 2.5 steps
    inside = read.livetime(whole, Pointing(0, 0, 25)).seconds
    assert inside == pytest.approx(90 + 80 + 0.5 * 70, abs=1e-6)
    both = inside + read.livetime(whole, Pointing(180, 0, 155)).seconds
    assert both == pytest.approx(450)
    assert read.livetime(whole, Pointing(0, 90, 89)).seconds == 0
    assert read.livetime(whole, Pointing(0, 90, 91)).seconds == pytest.approx(450)


def test_cosipys_own_file(shared_data):
    read = read_orientation(shared_data / "cosipy" / "20280301_first_10sec.ori")
    assert read.livetime([[START, START + 10]]).seconds == 10
    assert read.livetime([[START + 0.5, START + 2]]).seconds == pytest.approx(1.5)
    assert_allclose(np.degrees(np.arcsin(read.z_axis[0, 2])), 16.85092253329064)


def test_times_that_the_file_does_not_cover_are_refused(orientation, events):
    read = read_orientation(orientation)
    with pytest.raises(DataError, match="covers the times"):
        read.livetime([[START, START + 1200]])
    with pytest.raises(DataError, match="covers the times"):
        options = BinningOptions(
            **OPTIONS, orientation=orientation, tmin=START - 500, tmax=START + 10
        )
        bin_event_files(events, options)
    dead = BinningOptions(**OPTIONS, orientation=orientation, tmin=START + 900, tmax=START + 1000)
    with pytest.raises(DataError, match="no livetime in the selected times"):
        bin_event_files(events, dead)


# ---------------------------------------------------------------------------- files

ROWS = [f"OG {START + i} 0 0 {i} {10 * i} 550 0 0 {0.5 + 0.1 * i}" for i in range(4)]


def test_unit_vectors_are_healpys_to_the_last_bit():
    """The simulated data sets rest on it."""
    import healpy

    longitudes, latitudes = np.array([0.0, 120.0, 359.5, -40.0]), np.array([90.0, -27.3, 0.0, 8.0])
    expected = healpy.ang2vec(longitudes, latitudes, lonlat=True)
    assert_array_equal(unit_vectors(np.radians(longitudes), np.radians(latitudes)), expected)


@pytest.mark.parametrize(
    "lines",
    [
        ["Type OrientationsGalactic", *ROWS, "EN"],
        ["Type OrientationsGalactic ", *ROWS, "EN", ""],
        ["Geo time lat_x lon_x lat_z lon_z altitude Earth_lat Earth_lon SAA", *ROWS, "EN"],
        ["", *ROWS, "EN"],
        ["# made on \xe9", *ROWS, "EN"],
        [*ROWS, "EN"],
        ["anything", "", "# a comment", ROWS[0], "  ", *ROWS[1:], "#", "EN", "rest"],
        ["anything", *(row + " # said" for row in ROWS)],
        ["anything", *(f"\t{row.replace(' ', '  ')} " for row in ROWS), "EN"],
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_lines_of_text(tmp_path, lines, packed):
    raw = "\n".join(lines).encode("utf-8")
    path = tmp_path / "a.ori"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    read = read_orientation(path)
    assert read.times.tolist() == [START + i for i in range(4)]
    assert_allclose(read.livetimes, [0.5, 0.6, 0.7])
    angles = np.radians([[0, 0], [1, 10], [2, 20], [3, 30]])
    assert_allclose(read.z_axis, unit_vectors(angles[:, 1], angles[:, 0]))


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.anything"])
def test_fits_as_cosipy_writes_it(tmp_path, orientation, name):
    path = tmp_path / name
    times, live = START + 100.0 * np.arange(11), [*(90.0 - 10.0 * np.arange(10)), 0.0]
    z = np.stack([10.0 * np.arange(11), np.zeros(11)], axis=1)
    write_fits_orientation(path, times, live, z)
    read, text = read_orientation(path), read_orientation(orientation)
    assert_allclose(read.times, text.times)
    assert_allclose(read.livetimes, text.livetimes)
    assert_allclose(read.z_axis, text.z_axis, atol=1e-15)
    assert read.livetime([[START + 50, START + 250]]).seconds == pytest.approx(45 + 80 + 35)


def test_units_and_times_of_fits_are_followed(tmp_path, orientation):
    times, live = START + 100.0 * np.arange(11), np.append(90.0 - 10.0 * np.arange(10), 0.0)
    z = np.radians(np.stack([10.0 * np.arange(11), np.zeros(11)], axis=1))
    path, text = tmp_path / "a.fits", read_orientation(orientation)
    units = {"LiveTime": "ms", "ZPointings": "rad"}
    for cards, stamps in (
        (dict(TIMEZERO=START), times - START),
        (dict(MJDREFI=51910, MJDREFF=7.428703703703703e-4, TIMESYS="TT"), times - 978307200 + 5),
    ):
        write_fits_orientation(path, stamps, live * 1000, z, units, **cards)
        read = read_orientation(path)
        assert_allclose(read.times, text.times, rtol=0, atol=1e-6)
        assert_allclose(read.livetimes, text.livetimes)
        assert_allclose(read.z_axis, text.z_axis, atol=1e-15)


def test_fits_that_is_no_orientation(tmp_path):
    from astropy.table import Table

    path = tmp_path / "a.fits"
    Table({"TimeStamp": [1.0, 2.0]}).write(path)
    with pytest.raises(FileError, match=r"a\.fits is no orientation file: .* holds TimeStamp"):
        read_orientation(path)
    times, z = np.arange(3.0), np.zeros((3, 2))
    for units, message in (
        ({"LiveTime": "keV"}, "cannot be read as an orientation"),
        ({"TimeStamp": "keV"}, "'TimeStamp': .*no unit of time"),
    ):
        write_fits_orientation(path, times, np.ones(3), z, units)
        with pytest.raises((FileError, DataError), match=rf"a\.fits.*{message}"):
            read_orientation(path)
    write_fits_orientation(path, times, np.ones(3), np.zeros((3, 3)))
    with pytest.raises(FileError, match=r"ZPointings holds >f8 of shape \(3,\)"):
        read_orientation(path)
    write_fits_orientation(path, times, np.ones(3), z)
    whole = path.read_bytes()
    for size, message in ((5000, "holds no table"), (5800, "cannot be read as an orientation")):
        path.write_bytes(whole[:size])
        with pytest.raises(FileError, match=message):
            read_orientation(path)


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("nonsense\n", FileError, "no orientation file"),
        ("Type OrientationsGalactic\nOG 1 2 3\n", FileError, "nine"),
        ("Type OrientationsGalactic\nOL 1 0 0 0 0 0 0 0 0\n", FileError, "line 2 begins"),
        ("a\nOG 1 0 0 0 0 0 0 0 0\nmore\n", FileError, "line 3 begins with 'more'"),
        ("a\nOG 1 0 0 0 0 0 0 0\nOG 2 0 0 0 0 0 0 0\nEN", FileError, "nine"),
        ("Type OrientationsGalactic\nOG 1 0 0 0 0 0 0 0 0\nEN\n", DataError, "needs two"),
        (
            "Type OrientationsGalactic\nOG 1 0 0 0 0 0 0 0 1\nOG 2 0 0 0 0 0 0 0 1\n"
            "OG 2 0 0 0 0 0 0 0 1\n", DataError, "times must increase, and do not at 2",
        ),
        (
            "Type OrientationsGalactic\nOG 1 0 0 0 0 0 0 0 1.5\nOG 2 0 0 0 0 0 0 0 1\n",
            DataError, "livetime at 1 s is 1.5 s, but its step is 1 s",
        ),
    ],
)  # fmt: skip
def test_bad_orientation_files_are_refused(tmp_path, text, error, message):
    path = tmp_path / "bad.ori"
    path.write_text(text)
    with pytest.raises(error, match=message):
        read_orientation(path)
    with pytest.raises(FileError, match="none.ori does not exist"):
        read_orientation(tmp_path / "none.ori")


def test_the_livetime_belongs_to_the_selected_times(orientation, events):
    def livetime(**options):
        return bin_event_files(
            events, BinningOptions(**OPTIONS, orientation=orientation, **options)
        ).livetime

    everything = livetime()
    assert everything.seconds == pytest.approx(450)  # the file's own times are the limits
    assert everything.intervals.tolist() == [[START, START + 1000]]
    assert livetime(tmax=START + 100).seconds == pytest.approx(90)
    assert livetime(time_edges=[START, START + 50, START + 200]).seconds == pytest.approx(170)
    good = [[START - 1000, START + 100], [START + 200, START + 300]]
    assert livetime(good_times=good, tmin=START, tmax=START + 250).seconds == pytest.approx(125)
    assert livetime(pointing=(0, 0, 25)).seconds == pytest.approx(205)
    binned = bin_event_files(events, BinningOptions(**OPTIONS, orientation=orientation))
    assert binned.report.removed == {"time": 0}


def test_events_outside_the_orientation_file_are_removed(orientation, tmp_path):
    columns = make_events(1_000, duration=2000.0)
    path = write_hdf5(tmp_path / "longer.hdf5", columns)
    binned = bin_event_files(path, BinningOptions(**OPTIONS, orientation=orientation))
    assert binned.report.removed["time"] == np.count_nonzero(columns["TimeTags"] >= START + 1000)


def test_the_livetime_goes_with_the_file_into_the_template(orientation, events, tmp_path):
    from cosi_linebkg_plugin import LineBackgroundLike, background_model

    path = tmp_path / "binned.hdf5"
    binned = bin_event_files(events, BinningOptions(**OPTIONS, orientation=orientation))
    binned.write(path)
    model = background_model([1778.97], pivot=1750)
    for source in (path, binned.events):
        plugin = LineBackgroundLike("bkg", source)
        plugin.set_mask((1800, 1820))
        fit = plugin.fit(model)
        sidebands = dict(method="sideband", sidebands=[(1600, 1700)])
        with pytest.warns(LineBackgroundWarning, match="The source range is masked"):
            template = plugin.background_template(fit, (1800, 1820), **sidebands)
        assert template.livetime == pytest.approx(450)
        assert template.record.livetime_from == "the events"
        with pytest.warns(LineBackgroundWarning, match="The source range is masked"):
            given = plugin.background_template(fit, (1800, 1820), livetime=5, **sidebands)
        assert given.livetime == 5
        assert given.record.livetime_from == ""
    assert "5000 events read from 1 file(s)" in plugin.events.description


def test_a_file_with_an_impossible_livetime_is_refused(orientation, events, tmp_path):
    path = tmp_path / "binned.hdf5"
    bin_event_files(events, BinningOptions(**OPTIONS, orientation=orientation)).write(path)
    with h5py.File(path, "a") as file:
        file["binning"].attrs["livetime"] = -3.0
    with pytest.raises(DataError, match="livetime of -3 s"):
        open_events(path)


def test_a_cone_that_is_crossed_between_two_samples(tmp_path):
    """The share of each step is that of many small steps, on great circles of any kind."""
    rng = np.random.default_rng(4)
    n = 200
    vectors = rng.normal(size=(n, 3))
    vectors[50] = vectors[49]  # at rest
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    lat, lon = (
        np.degrees(np.arcsin(vectors[:, 2])),
        np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])),
    )
    read = read_orientation(
        write_orientation(tmp_path / "o.ori", np.arange(n), np.append(np.ones(n - 1), 0), lat, lon)
    )
    for pointing in (Pointing(30, 20, 5), Pointing(200, -60, 90), Pointing(0, 90, 150)):
        fractions = (np.arange(2000) + 0.5) / 2000
        for i in range(n - 1):
            turn = np.arccos(np.clip(vectors[i] @ vectors[i + 1], -1, 1))
            path = vectors[i : i + 1]
            if turn > 1e-6:
                weights = [np.sin((1 - fractions) * turn), np.sin(fractions * turn)]
                path = np.stack(weights, axis=1) @ vectors[i : i + 2] / np.sin(turn)
            expected = np.mean(path @ pointing.axis >= pointing.cosine)
            assert read.livetime([[i, i + 1]], pointing).seconds == pytest.approx(
                expected, abs=2e-3
            )


def test_a_cone_on_an_orbit_whose_quaternions_change_sign(tmp_path):
    """A scan that rocks, in 10-s samples, against the same in steps of 10 ms."""
    coarse, fine = 10.0 * np.arange(1141), 0.01 * (np.arange(1_140_000) + 0.5)
    _, z = rocking_orbit(coarse)
    lat, lon = np.degrees(np.arcsin(z[:, 2])), np.degrees(np.arctan2(z[:, 1], z[:, 0]))
    live = np.append(np.full(1140, 7.0), 0)
    read = read_orientation(write_orientation(tmp_path / "o.ori", coarse, live, lat, lon))
    _, directions = rocking_orbit(fine)
    for pointing in (Pointing(0, 0, 20), Pointing(90, 60, 33), Pointing(270, -80, 60)):
        expected = 0.7 * 0.01 * np.count_nonzero(directions @ pointing.axis >= pointing.cosine)
        assert expected > 200
        found = read.livetime([[0, 11400]], pointing).seconds
        assert found == pytest.approx(expected, abs=0.05)


def test_livetime_of_summed_histograms():
    def of(seconds, *intervals):
        return Livetime(seconds, np.array(intervals, float))

    assert livetime_of_sum([of(5, [0, 10]), of(5, [0, 10])]).seconds == 5  # source, background
    later = livetime_of_sum([of(5, [20, 30]), of(7, [0, 10])])
    assert later.seconds == 12
    assert later.intervals.tolist() == [[0, 10], [20, 30]]
    assert livetime_of_sum([of(5, [0, 10]), of(4, [5, 15])]) is None
    assert livetime_of_sum([of(5, [0, 10]), None]) is None
    assert livetime_of_sum([None]) is None
    one, two = of(5, [0, 10]), of(7, [20, 30])
    for many in ([one, one, two], [two, one, one, two], [one, two, one]):  # source, background
        assert livetime_of_sum(many).seconds == 12
    # a source of all times, and a background day by day
    whole = of(12, [0, 10], [20, 30])
    for many in ([whole, one, two], [one, whole, two, one, two], [whole, whole]):
        total = livetime_of_sum(many)
        assert total.seconds == 12 and total.intervals.tolist() == [[0, 10], [20, 30]]
    touching = livetime_of_sum([of(12, [0, 20]), of(5, [0, 10]), of(7, [10, 20]), of(1, [30, 40])])
    assert touching.seconds == 13
    for many in (
        [one, of(4, [0, 10])],  # the same time, but another livetime
        [whole, one],  # a background that lacks a day
        [of(12, [0, 20]), of(5, [0, 10]), of(6, [10, 20])],
        [of(12, [0, 20]), of(5, [0, 11]), of(7, [10, 20])],
    ):
        assert livetime_of_sum(many) is None


def test_files_of_different_times_add_up(events, orientation, tmp_path):
    paths = [tmp_path / "a.hdf5", tmp_path / "b.hdf5"]
    for path, (low, high) in zip(paths, [(0, 100), (100, 300)], strict=True):
        options = BinningOptions(
            **OPTIONS, orientation=orientation, tmin=START + low, tmax=START + high
        )
        bin_event_files(events, options).write(path)
    assert open_events(paths).livetime.seconds == pytest.approx(240)
    assert open_events([*paths, paths[0]]).livetime.seconds == pytest.approx(240)


def test_a_livetime_that_cannot_be_told_is_said(events, orientation, tmp_path):
    paths = [tmp_path / "a.hdf5", tmp_path / "b.hdf5", tmp_path / "c.hdf5"]
    limits = [dict(tmax=START + 200), dict(tmin=START + 100), None]
    for path, limit in zip(paths, limits, strict=True):
        times = {} if limit is None else dict(orientation=orientation, **limit)
        bin_event_files(events, BinningOptions(**OPTIONS, **times)).write(path)
    for chosen, why in ((paths[:2], "their times overlap"), (paths[1:], "only 1 of 2 say one")):
        opened = open_events(chosen)
        assert opened.livetime is None
        (note,) = opened.notes
        assert why in note and "template: livetime" in note
    assert open_events(paths[2]).notes == ()
    assert open_events(paths[0]).notes == ()


def test_damaged_fits_is_read_or_refused_never_anything_else(tmp_path):
    path = tmp_path / "o.fits"
    times, z = START + np.arange(50.0), np.zeros((50, 2))
    whole = write_fits_orientation(path, times, np.full(50, 0.5), z).read_bytes()
    rng = np.random.default_rng(6)
    read = 0
    for number in range(120):
        raw = bytearray(whole)
        if number % 3 == 0:
            del raw[int(rng.integers(100, len(raw))) :]
        # cards of the table's header, and its rows
        for place in rng.integers(2880, min(len(raw), 8000), number % 5) if len(raw) > 2880 else ():
            raw[place] = int(rng.integers(32, 127)) if place < 5760 else int(rng.integers(256))
        path.write_bytes(raw)
        try:
            read_orientation(path).livetime([[START, START + 10]])
            read += 1
        except (FileError, DataError) as error:
            assert "o.fits" in str(error) and "\n" not in str(error)
    assert 10 < read < 110
