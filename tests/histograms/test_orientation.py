"""Livetime: from orientation files, in histogram files, in templates."""

import h5py
import numpy as np
import pytest
from event_lists import START, make_events, write_hdf5, write_orientation
from numpy.testing import assert_allclose

from cosi_linebkg_plugin.errors import DataError, FileError, LineBackgroundWarning
from cosi_linebkg_plugin.events.binning import bin_event_files
from cosi_linebkg_plugin.events.options import BinningOptions
from cosi_linebkg_plugin.histograms.orientation import (
    Livetime,
    Pointing,
    livetime_of_sum,
    read_orientation,
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


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("nonsense\n", FileError, "no orientation file"),
        ("Type OrientationsGalactic\nOG 1 2 3\n", FileError, "nine"),
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


def test_files_of_different_times_add_up(events, orientation, tmp_path):
    paths = [tmp_path / "a.hdf5", tmp_path / "b.hdf5"]
    for path, (low, high) in zip(paths, [(0, 100), (100, 300)], strict=True):
        options = BinningOptions(
            **OPTIONS, orientation=orientation, tmin=START + low, tmax=START + high
        )
        bin_event_files(events, options).write(path)
    assert open_events(paths).livetime.seconds == pytest.approx(240)
