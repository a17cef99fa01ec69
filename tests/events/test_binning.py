"""Event lists to histograms: bins, selections, reports, bad input, files."""

import json
import shutil
import signal
import subprocess
import sys

import astropy.units as u
import h5py
import numpy as np
import pytest
from binned import COARSE, EDGES, N, dense, reference
from event_lists import START, make_events, special_events, write_fits, write_hdf5
from numpy.testing import assert_array_equal
from progress import Told

from cosi_linebkg_plugin import bin_events
from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.errors import (
    DataError,
    FileError,
    LineBackgroundWarning,
)
from cosi_linebkg_plugin.events.binning import bin_event_files
from cosi_linebkg_plugin.events.options import BinningOptions
from cosi_linebkg_plugin.histograms.read import open_events

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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(energy_edges=[8000, 9000]), "None of the 20000 events .*: 20000 below the Em axis"),
        (dict(energy_edges=[0.1, 1]), "20000 on or above the last edge of the Em axis"),
        (dict(tmin=START + 5000), "20000 removed by the selection of time.* to inf s"),
        (dict(phi_range=(179.999999, 180)), "20000 removed by the selection of phi"),
        (
            dict(good_times=np.array([[START, START + 500]]) / 86400),
            "removed by the selection of good_times. Times from 21243.95833 to 21243.96412 s are "
            "selected; the first event is at 1835478000 s",
        ),
        (
            dict(good_times=np.array([[START, START + 500]]) * 1000),
            r"from 1.835478e\+12 to 1.8354785e\+12 s .* the first event is at 1835478000 s",
        ),
        (dict(time_edges=[0, 100]), "last edge of the Time axis.*Times from 0 to 100 s"),
    ],
)  # fmt: skip
def test_a_binning_that_keeps_no_event_is_an_error(path, options, message):
    with pytest.raises(DataError, match=f"{message}.*Correct the axes and selections"):
        bin_events(path, **(COARSE | options))


def test_bin_that_keeps_no_event_writes_nothing_and_exits_with_2(path, tmp_path, capsys):
    command = ["bin", str(path), "--out", str(tmp_path / "out.hdf5"), "--energy-edges", "1,2"]
    assert main([*command, "--phi-pix-size", "30", "--nside", "1"]) == 2
    error = capsys.readouterr().err
    assert "None of the 20000 events is in the histogram" in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_lists_without_events_are_refused(columns, tmp_path):
    empty = {name: values[:0] for name, values in columns.items()}
    for file in (
        write_hdf5(tmp_path / "a.hdf5", empty, compression=None),
        write_fits(tmp_path / "b.fits", empty),
    ):
        with pytest.raises(DataError, match="there are no events at all"):
            bin_events(file, **COARSE)
        some = write_hdf5(tmp_path / "some.hdf5", columns)
        assert dense(bin_events([file, some], **COARSE)).sum() > 0  # one empty list does no harm


def test_not_even_one_event_in_parallel(path):
    pytest.importorskip("dask")
    with pytest.raises(DataError, match="None of the 20000 events"):
        bin_events(path, **(COARSE | dict(energy_edges=[8000, 9000])), scheduler="threads")


# ---------------------------------------------------------------------------- properties


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


def test_angles_in_radians_are_noticed(columns, tmp_path):
    in_radians = columns | {
        "Chi galactic": np.radians(columns["Chi galactic"] - 180),
        "Psi galactic": np.radians(columns["Psi galactic"]),
    }
    file = write_hdf5(tmp_path / "events.hdf5", in_radians)
    with pytest.warns(LineBackgroundWarning, match="seem to be in radians"):
        bin_events(file, **COARSE)


# ---------------------------------------------------------------------------- bad input


def test_every_file_is_looked_at_before_any_is_binned(path, columns, tmp_path):
    some = {key: columns[key] for key in ("Energies", "Phi")}
    told = Told()
    with pytest.raises(DataError, match="lacks the column"):
        bin_events([path, write_hdf5(tmp_path / "b.hdf5", some)], **COARSE, progress=told)
    assert told.counts == []


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
import os, signal, sys
from cosi_linebkg_plugin.events import binning
from cosi_linebkg_plugin.app.cli import main
write = binning.write_cells
def killed(*args):
    write(*args)
    os.kill(os.getpid(), signal.SIGKILL)
binning.write_cells = killed
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
        bin_events(path, **COARSE, progress=Told(interrupt))
    out = tmp_path / "folder" / "out.hdf5"
    binned = bin_event_files(path, BinningOptions(**COARSE))
    with pytest.raises(FileError, match="Cannot write"):
        binned.write(out)
    shutil.rmtree(tmp_path / "folder", ignore_errors=True)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_event(path, tmp_path, columns):
    second = write_fits(tmp_path / "b.fits.gz", columns)
    told = Told()
    bin_events([path, second], **COARSE, progress=told)
    assert told.counts[-1] == (2 * N, 2 * N) and told.what == {"events"}
    assert [done for done, _ in told.counts] == sorted({done for done, _ in told.counts})
