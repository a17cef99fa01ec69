"""`bin_events` against the real cosipy 0.3.4, cell by cell."""

import numpy as np
import pytest
import yaml
from event_lists import START, make_events, special_events, write_fits, write_hdf5
from numpy.testing import assert_array_equal

from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.events.binning import bin_event_files
from cosi_linebkg_plugin.events.options import BinningOptions

cosipy = pytest.importorskip("cosipy")

FRAMES = {"galactic": "galactic", "local": "spacecraftframe"}


def binned_by_cosipy(folder, path, psichi_binning, **settings):
    """The histogram of cosipy's BinnedData for a configuration, which is left in `folder`."""
    from cosipy import BinnedData

    kind = "hdf5" if path.suffix == ".hdf5" else "fits"
    settings = {
        "data_file": "none.tra.gz", "ori_file": "none.ori", "unbinned_output": kind, **settings
    }  # fmt: skip
    (folder / "inputs.yaml").write_text(yaml.safe_dump(settings))
    analysis = BinnedData(str(folder / "inputs.yaml"))
    analysis.get_binned_data(
        str(path), str(folder / f"cosipy_{psichi_binning}"), psichi_binning=psichi_binning
    )
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
def test_on_cosipys_own_file(shared_data, tmp_path, frame):
    folder = shared_data / "cosipy"
    settings = yaml.safe_load((folder / "inputs_crab.yaml").read_text())
    for key in ("data_file", "ori_file", "unbinned_output"):
        del settings[key]
    events = folder / "unbinned_data_MEGAlib_calc.hdf5"
    theirs = binned_by_cosipy(tmp_path, events, frame, **settings)
    binned = bin_event_files(events, options_of(frame, **settings))
    assert_same(binned.histogram, theirs)
    assert binned.report.read == 4677
    assert binned.report.not_a_number["Phi"] == 1


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
