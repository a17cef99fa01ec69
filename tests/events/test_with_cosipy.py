"""Event lists, orientation and good times against the real cosipy, 0.3.4 or 0.4.3, cell by cell."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import yaml
from event_lists import (
    START,
    make_events,
    rocking_orbit,
    special_events,
    write_fits,
    write_hdf5,
    write_orientation,
)
from numpy.testing import assert_allclose, assert_array_equal

from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.events.binning import bin_event_files
from cosi_linebkg_plugin.events.options import BinningOptions
from cosi_linebkg_plugin.events.selections import good_times
from cosi_linebkg_plugin.histograms.orientation import Pointing, read_orientation
from cosi_linebkg_plugin.histograms.read import open_events

cosipy = pytest.importorskip("cosipy")
#: 0.4 has SpacecraftHistory, FITS orientation, good time intervals, programs, and test data.
NEW = hasattr(cosipy, "SpacecraftHistory")
FOLDER = Path(cosipy.__file__).parent / "test_data"
FRAMES = {"galactic": "galactic", "local": "spacecraftframe"}


def binned_by_cosipy(folder, path, psichi_binning, **settings):
    """The histogram of cosipy's BinnedData for a configuration, which is left in `folder`.

    Without event_range cosipy leaves out the last event.
    """
    from cosipy import BinnedData

    kind = "hdf5" if path.suffix == ".hdf5" else "fits"
    settings = {
        "data_file": "none.tra.gz", "ori_file": "none.ori", "unbinned_output": kind, **settings
    }  # fmt: skip
    (folder / "inputs.yaml").write_text(yaml.safe_dump(settings))
    analysis = BinnedData(str(folder / "inputs.yaml"))
    options = {}
    if "event_range" in inspect.signature(analysis.get_binned_data).parameters:
        options["event_range"] = [0, len(analysis.get_dict(str(path))["TimeTags"])]
    analysis.get_binned_data(
        str(path), str(folder / f"cosipy_{psichi_binning}"), psichi_binning=psichi_binning,
        **options,
    )  # fmt: skip
    return analysis.binned_data


def assert_same(ours, theirs):
    """The same axes and contents, cell by cell, without making them dense."""
    assert [axis.label for axis in ours.axes] == [axis.label for axis in theirs.axes]
    for a, b in zip(ours.axes, theirs.axes, strict=True):
        assert type(a) is type(b)
        assert a.unit == b.unit
        assert_array_equal(a.edges, b.edges)
    for name in ("nside", "scheme", "coordsys"):
        assert getattr(ours.axes["PsiChi"], name) == getattr(theirs.axes["PsiChi"], name)
    contents = theirs.contents.asformat("coo")  # without overflow
    assert ours.contents.dtype == contents.dtype
    assert_array_equal(ours.contents.coords, contents.coords)
    assert_array_equal(ours.contents.data, contents.data)


def options_of(frame, **settings):
    settings["energy_edges"] = settings.pop("energy_bins")
    return BinningOptions(frame=FRAMES[frame], **settings)


@pytest.mark.parametrize("frame", FRAMES)
def test_on_cosipys_own_file(request, tmp_path, frame):
    folder = FOLDER if NEW else request.getfixturevalue("shared_data") / "cosipy"
    settings = yaml.safe_load((folder / "inputs_crab.yaml").read_text())
    for key in ("data_file", "ori_file", "unbinned_output"):
        del settings[key]
    events = folder / "unbinned_data_MEGAlib_calc.hdf5"
    theirs = binned_by_cosipy(tmp_path, events, frame, **settings)
    binned = bin_event_files(events, options_of(frame, **settings))
    assert_same(binned.histogram, theirs)
    read, not_a_number = (621, 0) if NEW else (4677, 1)
    assert binned.report.read == read and binned.report.not_a_number["Phi"] == not_a_number


@pytest.mark.parametrize("kind", ["hdf5", "fits", "fits.gz"])
@pytest.mark.parametrize("frame", FRAMES)
def test_on_each_kind_of_file(tmp_path, frame, kind):
    events = make_events(30_000, duration=100.0)
    for name in ("Energies", "TimeTags"):  # the last event is inside
        assert events[name][-1] < {"Energies": 5000.0, "TimeTags": START + 100}[name]
    path = tmp_path / f"events.{kind}"
    (write_hdf5 if kind == "hdf5" else write_fits)(path, events)
    settings = dict(
        time_bins=10, energy_bins=[200.0, 1000.0, 5000.0], phi_pix_size=6, nside=8, scheme="ring",
        tmin=START, tmax=START + 100,
    )  # fmt: skip
    theirs = binned_by_cosipy(tmp_path, path, frame, **settings)
    binned = bin_event_files(path, options_of(frame, **settings))
    assert_same(binned.histogram, theirs)
    assert binned.report.kept == theirs.contents.sum() > 29_000


@pytest.fixture(scope="module")
def many_events(tmp_path_factory):
    return write_hdf5(tmp_path_factory.mktemp("events") / "many.hdf5", make_events(2_000_000))


@pytest.mark.parametrize("frame", FRAMES)
def test_on_two_million_events(many_events, tmp_path, frame):
    settings = dict(
        time_bins=10000, energy_bins=np.linspace(1500, 2000, 100).tolist(), phi_pix_size=3,
        nside=8, scheme="ring", tmin=START, tmax=START + 86400,
    )  # fmt: skip
    theirs = binned_by_cosipy(tmp_path, many_events, frame, **settings)
    binned = bin_event_files(many_events, options_of(frame, **settings))
    assert_same(binned.histogram, theirs)
    assert binned.report.kept == theirs.contents.sum()


@pytest.mark.parametrize("scheme", ["ring", "nested"])
@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("nside", [1, 16, 256])
def test_on_edges_poles_and_borders_of_pixels(tmp_path, nside, frame, scheme):
    energies = [100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]
    times = [START, START + 1, START + 5, START + 10]
    events = special_events(nside, energies, times)
    path = write_hdf5(tmp_path / "events.hdf5", events)
    settings = dict(
        time_bins=times, energy_bins=energies, phi_pix_size=7, nside=nside, scheme=scheme,
        tmin=times[0], tmax=times[-1],
    )  # fmt: skip
    theirs = binned_by_cosipy(tmp_path, path, frame, **settings)
    assert_same(bin_event_files(path, options_of(frame, **settings)).histogram, theirs)


def test_edges_of_time_that_reach_beyond_tmin_and_tmax(tmp_path):
    from histpy import Histogram

    path = write_hdf5(tmp_path / "events.hdf5", make_events(2_000, duration=100.0))
    settings = dict(
        time_bins=[START, START + 30, START + 100], energy_bins=[200.0, 5000.0], phi_pix_size=60,
        nside=1, scheme="ring", tmin=START + 10, tmax=START + 90,
    )  # fmt: skip
    theirs = binned_by_cosipy(tmp_path, path, "galactic", **settings)
    out = tmp_path / "ours.hdf5"
    assert main(["bin", str(tmp_path / "inputs.yaml"), str(path), "--out", str(out)]) == 0
    assert_same(Histogram.open(out), theirs)
    assert theirs.contents.sum() > 1_900


def test_on_fits_and_from_the_command_line(tmp_path):
    from histpy import Histogram

    path = write_fits(tmp_path / "events.fits.gz", make_events(20_000, duration=100.0))
    settings = dict(
        time_bins=7, energy_bins=[200.0, 1000.0, 5000.0], phi_pix_size=6, nside=4, scheme="nested",
        tmin=START, tmax=START + 100,
    )  # fmt: skip
    theirs = binned_by_cosipy(tmp_path, path, "galactic", **settings)
    out = tmp_path / "ours.hdf5"
    command = ["bin", str(tmp_path / "inputs.yaml"), str(path), "--out", str(out), "--quiet"]
    assert main(command) == 0
    assert_same(Histogram.open(out), theirs)
    assert_same(Histogram.open(out), Histogram.open(tmp_path / "cosipy_galactic.hdf5"))


# ---------------------------------------------------------------------------- only 0.4

if NEW:
    ORIENTATIONS = sorted(p.name for p in FOLDER.iterdir() if p.name.endswith((".ori", ".fits")))

    def random_times(history, n, seed=1):
        rng = np.random.default_rng(seed)
        first, last = history.tstart.unix, history.tstop.unix
        return np.sort(rng.uniform(first, last, n))

    def unix(times):
        from astropy.time import Time

        return Time(times, format="unix")

    def test_the_orientation_files_are_there():
        assert len(ORIENTATIONS) >= 8 and {p[-4:] for p in ORIENTATIONS} == {".ori", "fits"}

    @pytest.mark.parametrize("name", ORIENTATIONS)
    def test_the_livetime_of_any_range_is_cosipys(name):
        from cosipy import SpacecraftHistory

        history = SpacecraftHistory.open(FOLDER / name)
        ours = read_orientation(FOLDER / name)
        total = history.cumulative_livetime().to_value("s")
        assert total > 0
        whole = [[history.tstart.unix, history.tstop.unix]]
        assert ours.livetime(whole).seconds == pytest.approx(total, abs=1e-6)
        times = random_times(history, 200)
        expected = history.cumulative_livetime(unix(times)).to_value("s")
        for _ in range(100):
            i, j = sorted(np.random.default_rng(len(name)).choice(200, 2, replace=False))
            found = ours.livetime([[times[i], times[j]]]).seconds
            assert found == pytest.approx(expected[j] - expected[i], abs=1e-6)

    @pytest.mark.parametrize("scale", ["utc", "tt", "tai"])
    @pytest.mark.parametrize("form", ["unix", "mjd"])
    @pytest.mark.parametrize("name", ORIENTATIONS)
    def test_good_times_and_their_livetime_are_cosipys(tmp_path, name, form, scale):
        from cosipy import SpacecraftHistory
        from cosipy.event_selection import GoodTimeInterval

        history = SpacecraftHistory.open(FOLDER / name)
        pairs = random_times(history, 6, seed=2).reshape(3, 2)
        starts, stops = (getattr(unix(column), scale) for column in pairs.T)
        gti = GoodTimeInterval(starts, stops)
        gti.save_as_fits(tmp_path / "gti.fits", output_format=form)
        assert_allclose(good_times(gti), pairs, rtol=0, atol=1e-6)
        from_file = good_times(tmp_path / "gti.fits")
        read_back = GoodTimeInterval.from_fits(tmp_path / "gti.fits")
        assert_allclose(from_file[:, 0], read_back.tstart_list.unix, rtol=0, atol=1e-6)
        assert_allclose(from_file[:, 1], read_back.tstop_list.unix, rtol=0, atol=1e-6)
        assert_allclose(from_file, pairs, rtol=0, atol=1e-6 if form == "unix" else 1e-5)
        found = read_orientation(FOLDER / name).livetime(from_file).seconds
        until = history.cumulative_livetime
        starts, stops = read_back.tstart_list, read_back.tstop_list
        expected = (until(stops) - until(starts)).to_value("s").sum()
        assert found == pytest.approx(expected, abs=1e-6)
        # apply_gti takes the days of any time system for those of UTC, and its quaternions vanish
        # where the attitude does not change
        if not name.startswith("polarization"):
            masked = history.apply_gti(GoodTimeInterval(starts.utc, stops.utc))
            assert found == pytest.approx(masked.cumulative_livetime().to_value("s"), abs=1e-6)

    @pytest.mark.parametrize("form", ["unix", "mjd"])
    @pytest.mark.parametrize("frame", FRAMES)
    def test_events_in_good_times_are_cosipys(tmp_path, frame, form):
        """Beside its TimeSelector, BinnedData and apply_gti."""
        from cosipy import SpacecraftHistory
        from cosipy.data_io.EmCDSUnbinnedData import TimeTagEmCDSEventDataInSCFrameFromDC3Fits
        from cosipy.event_selection import GoodTimeInterval
        from cosipy.event_selection.time_selection import TimeSelector

        times = START + 10.0 * np.arange(115)
        x, z = rocking_orbit(times - START)
        (lat_x, lon_x), (lat, lon) = (
            np.degrees([np.arcsin(v[:, 2]), np.arctan2(v[:, 1], v[:, 0])]) for v in (x, z)
        )
        live = np.append(np.linspace(3.0, 9.0, 114), 0)
        orientation = tmp_path / "o.ori"
        write_orientation(orientation, times, live, lat, lon, lat_x, lon_x)
        events = make_events(20_000, duration=1140.0)
        path = write_fits(tmp_path / "events.fits", events)
        bounds = START + np.array([[15.0, 333.3], [400.0, 404.0], [777.7, 1100.0]])
        gti = GoodTimeInterval(*(unix(column) for column in bounds.T))
        gti.save_as_fits(tmp_path / "gti.fits", output_format=form)

        read_back = GoodTimeInterval.from_fits(tmp_path / "gti.fits")
        unbinned = TimeTagEmCDSEventDataInSCFrameFromDC3Fits(path)
        selector = TimeSelector.from_gti(read_back)
        chosen = np.fromiter(selector.select(unbinned), bool, unbinned.nevents)
        assert 10_000 < chosen.sum() < 15_000
        selected = {name: values[chosen] for name, values in events.items()}
        settings = dict(
            time_bins=[START, START + 300.0, START + 1140.0], energy_bins=[200.0, 1000.0, 5000.0],
            phi_pix_size=6, nside=4, scheme="ring", tmin=START, tmax=START + 1140,
        )  # fmt: skip
        theirs = binned_by_cosipy(
            tmp_path, write_fits(tmp_path / "selected.fits", selected), frame, **settings
        )
        good = {"good_times": tmp_path / "gti.fits", "orientation": orientation}
        binned = bin_event_files(path, options_of(frame, **settings, **good))
        assert_same(binned.histogram, theirs)
        masked = SpacecraftHistory.open(orientation).apply_gti(read_back)
        expected = masked.cumulative_livetime().to_value("s")
        assert binned.events.livetime.seconds == pytest.approx(expected, abs=1e-6)

    def test_written_by_cosipy_is_read_here(tmp_path):
        from cosipy import SpacecraftHistory

        text = read_orientation(FOLDER / "DC3-3mo-arbitrary-10s.ori")
        history = SpacecraftHistory.open(FOLDER / "DC3-3mo-arbitrary-10s.ori")
        history.write_fits(tmp_path / "o.fits", compress=True)
        read = read_orientation(tmp_path / "o.fits.gz")
        assert_allclose(read.times, text.times, rtol=0, atol=1e-6)
        assert_allclose(read.livetimes, text.livetimes)
        assert_allclose(read.z_axis, text.z_axis, rtol=0, atol=1e-9)

    def test_pointings_between_samples_where_quaternions_change_sign(tmp_path):
        """Against rotations of 0.4.3's own samples, of which scipy's Slerp takes the short way."""
        from cosipy import SpacecraftHistory
        from scipy.spatial.transform import Slerp

        times = START + 10.0 * np.arange(1141)
        x, z = rocking_orbit(times - START)
        (lat_x, lon_x), (lat, lon) = (
            np.degrees([np.arcsin(v[:, 2]), np.arctan2(v[:, 1], v[:, 0])]) for v in (x, z)
        )
        live = np.append(np.full(1140, 7.0), 0)
        path = write_orientation(tmp_path / "o.ori", times, live, lat, lon, lat_x, lon_x)
        history = SpacecraftHistory.open(path)
        quaternions = history.attitude.as_quat()
        assert np.any(np.einsum("ij,ij->i", quaternions[1:], quaternions[:-1]) < 0)
        between = START + 0.05 * (np.arange(228_000) + 0.5)
        z_axis = Slerp(times, history.attitude.rot)(between).apply([0.0, 0.0, 1.0])
        _, truth = rocking_orbit(between - START)
        assert np.abs(z_axis - truth).max() < 1e-4
        for pointing in (Pointing(0, 0, 20), Pointing(90, 60, 33)):
            expected = 0.7 * 0.05 * np.count_nonzero(z_axis @ pointing.axis >= pointing.cosine)
            found = read_orientation(path).livetime([[START, START + 11400]], pointing).seconds
            assert found == pytest.approx(expected, abs=0.2)
            assert expected > 200

    CONFIGURATIONS = sorted(
        p.name
        for p in FOLDER.glob("*.yaml")
        if "energy_bins" in (yaml.safe_load(p.read_text()) or {})
    )

    @pytest.mark.parametrize("name", CONFIGURATIONS)
    @pytest.mark.parametrize("frame", FRAMES)
    def test_cosipys_own_configurations(tmp_path, capsys, name, frame):
        """`cosi-linebkg bin inputs.yaml EVENTS`, for events of the time that each asks for."""
        from histpy import Histogram

        settings = yaml.safe_load((FOLDER / name).read_text())
        start, stop = settings["tmin"], settings["tmax"]
        events = make_events(5_000, duration=stop - start, start=start)
        path = write_hdf5(tmp_path / "events.hdf5", events)
        out = tmp_path / "ours.hdf5"
        named = ("data_file", "ori_file", "unbinned_output")
        rest = {key: value for key, value in settings.items() if key not in named}
        command = ["bin", str(FOLDER / name), str(path), "--frame", FRAMES[frame]]
        command += ["--out", str(out)]
        if settings["time_bins"] > 2 * (stop - start):  # 3600 s in 100 s: cosipy divides by zero
            with pytest.raises(ZeroDivisionError):
                binned_by_cosipy(tmp_path, path, frame, **rest)
            assert main(command) == 2
            assert "time_bins must be a width [s] up to tmax - tmin" in capsys.readouterr().err
            return
        assert main(command) == 0
        said = capsys.readouterr().out
        theirs = binned_by_cosipy(tmp_path, path, frame, **rest)
        assert_same(Histogram.open(out), theirs)
        assert theirs.contents.sum() > 1_000
        livetime = open_events(out).livetime
        if (FOLDER / settings["ori_file"]).exists():
            history = cosipy.SpacecraftHistory.open(FOLDER / settings["ori_file"])
            expected = history.cumulative_livetime().to_value("s")
            assert livetime.seconds == pytest.approx(expected, abs=1e-6)
        else:
            assert livetime is None and "so that the histogram has no livetime" in said

    def test_on_cosipys_own_configuration_and_events(tmp_path):
        from histpy import Histogram

        out = tmp_path / "ours.hdf5"
        events = FOLDER / "unbinned_data_MEGAlib_calc.hdf5"
        command = ["bin", str(FOLDER / "inputs_crab.yaml"), str(events), "--out", str(out)]
        assert main([*command, "--quiet"]) == 0
        settings = yaml.safe_load((FOLDER / "inputs_crab.yaml").read_text())
        for key in ("data_file", "ori_file", "unbinned_output"):
            del settings[key]
        assert_same(Histogram.open(out), binned_by_cosipy(tmp_path, events, "galactic", **settings))
        assert open_events(out).livetime.seconds == pytest.approx(10.0, abs=1e-6)

    @pytest.mark.parametrize("limits", [True, False])
    @pytest.mark.parametrize("frame", FRAMES)
    def test_what_cosi_bindata_leaves_behind(tmp_path, frame, limits):
        """Its bin.yaml, as it is, gives its own histogram (but for the last event)."""
        from cosipy.pipeline.task.task import cosi_bindata
        from histpy import Histogram

        events = make_events(5_000, duration=10.0)
        # cosipy leaves out the last event, of its time selection as well: it is outside here
        for last in (-1, np.flatnonzero(events["TimeTags"] < START + 9)[-1]):
            events["Energies"][last] = 1e9
        path = write_fits(tmp_path / "events.fits.gz", events)
        config = {
            "bindata": {
                "unbinned_data_file": str(path),
                "response": {"args": [str(FOLDER / "test_full_detector_response.h5")]},
                "sc_file": str(FOLDER / "20280301_first_10sec.fits"),
                "coo_sys": frame,
                "dt": 2.0,
            }
        }
        if limits:
            config["bindata"] |= {"tmin": START + 1, "tmax": START + 9}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        cosi_bindata(["--config", str(tmp_path / "config.yaml"), "-o", str(tmp_path)])
        left = next(tmp_path.glob(f"*binned_data_{frame}.hdf5"))
        out = tmp_path / "ours.hdf5"
        command = ["bin", str(tmp_path / "bin.yaml"), "--frame", FRAMES[frame], "--quiet"]
        assert main([*command, "--out", str(out)]) == 0
        assert_same(Histogram.open(out), Histogram.open(left))
        assert open_events(out).energy_counts().sum() > 1_000
