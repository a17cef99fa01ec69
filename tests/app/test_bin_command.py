"""Event lists on the command line and in configurations."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from event_lists import START, make_events, write_fits, write_hdf5, write_orientation
from numpy.testing import assert_array_equal

from cosi_linebkg_plugin import BackgroundTemplate, bin_events
from cosi_linebkg_plugin.app import pipeline
from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.app.config import load_config, parse_config
from cosi_linebkg_plugin.errors import BinningError, ConfigError, FileError, one_line
from cosi_linebkg_plugin.histograms.read import open_events

BINNING = {"energy_edges": "1500:2000:5", "phi_pix_size": 30, "nside": 2}
COSIPY = {
    "data_file": "events.hdf5", "ori_file": "o.ori", "unbinned_output": "hdf5", "time_bins": 500,
    "energy_bins": [1500.0, 1700.0, 2000.0], "phi_pix_size": 30, "nside": 2, "scheme": "ring",
    "tmin": START, "tmax": START + 1000,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    write_hdf5(folder / "events.hdf5", make_events(20_000, duration=1000.0))
    (folder / "more").mkdir()
    write_fits(folder / "more" / "more.fits.gz", make_events(5_000, seed=2, duration=1000.0))
    times = START + 100.0 * np.arange(11)
    write_orientation(folder / "o.ori", times, np.full(11, 90.0), np.zeros(11), np.zeros(11))
    return folder


def write(folder, name, mapping):
    (folder / name).write_text(yaml.safe_dump(mapping))
    return str(folder / name)


def contents(histogram):
    return histogram.contents.todense()


def opened(path):
    from histpy import Histogram

    return Histogram.open(str(path))


# ---------------------------------------------------------------------------- bin


def test_options_are_those_of_bin_events(folder, tmp_path, capsys):
    (tmp_path / "good.txt").write_text(f"{START} {START + 800}\n")
    out = tmp_path / "out.hdf5"
    command = f"""bin {folder}/events.hdf5 {folder}/more --out {out} --energy-edges 1500,1700,2000
        --nside 4 --phi-edges 0,60,180 --scheme nested --frame spacecraftframe --tmin {START}
        --tmax {START + 1000} --time-bins 250 --energy-range 1550 1990 --phi-range 10 170
        --distance-range 0.5 30 --good-times {tmp_path}/good.txt --pointing 0 0 170
        --orientation {folder}/o.ori"""
    assert main(command.split()) == 0
    expected = bin_events(
        [folder / "events.hdf5", folder / "more"], energy_edges=[1500, 1700, 2000], nside=4,
        phi_edges=[0, 60, 180], scheme="nested", frame="spacecraftframe", tmin=START,
        tmax=START + 1000, time_bins=250, energy_range=(1550, 1990), phi_range=(10, 170),
        distance_range=(0.5, 30), good_times=[[START, START + 800]], pointing=(0, 0, 170),
    )  # fmt: skip
    assert_array_equal(contents(opened(out)), contents(expected))
    assert open_events(out).livetime.seconds == pytest.approx(720)
    printed = capsys.readouterr().out
    assert "25000 events read from 2 file(s)" in printed
    assert "removed by the selection of good_times" in printed
    assert "livetime 720 s" in printed
    assert f"written: {out}" in printed


def test_scatt_bins_and_time_edges(folder, tmp_path):
    columns = make_events(100)
    path = write_hdf5(tmp_path / "a.hdf5", columns | {"index": np.arange(100) % 2})
    out = str(tmp_path / "out.hdf5")
    command = ["bin", str(path), "--out", out, "--energy-edges", "200:5000:4800", "--nside", "1"]
    command += ["--phi-pix-size", "180"]
    assert main([*command, "--scatt-bins", "2", "--scatt-column", "index"]) == 0
    assert contents(opened(out)).sum(axis=(1, 2, 3)).tolist() == [50, 50]
    assert main([*command, "--time-edges", f"{START},{START + 1e5}"]) == 0
    assert [axis.label for axis in opened(out).axes] == ["Time", "Em", "Phi", "PsiChi"]


def test_cosipys_configuration(folder, tmp_path, capsys):
    config = write(folder, "inputs.yaml", COSIPY)
    out = tmp_path / "out.hdf5"
    assert main(["bin", config, "--out", str(out)]) == 0
    expected = bin_events(
        folder / "events.hdf5", energy_edges=[1500, 1700, 2000], phi_pix_size=30, nside=2,
        time_bins=500, tmin=START, tmax=START + 1000,
    )  # fmt: skip
    assert_array_equal(contents(opened(out)), contents(expected))
    assert open_events(out).livetime.seconds == pytest.approx(900)
    assert main(["bin", config, "--out", str(out), "--nside", "1"]) == 0  # options come first
    assert opened(out).axes["PsiChi"].nside == 1
    capsys.readouterr()
    config = write(folder, "edges.yaml", COSIPY | {"time_bins": [START + 1, START + 1000]})
    assert main(["bin", config, "--out", str(out)]) == 2
    assert "edges.yaml: time_bins: these edges do not cover" in capsys.readouterr().err
    config = write(folder, "tra.yaml", COSIPY | {"data_file": "x.tra.gz", "ori_file": "NA"})
    assert main(["bin", config, "--out", str(out)]) == 2
    assert "data_file is no event list" in capsys.readouterr().err
    assert main(["bin", config, str(folder / "events.hdf5"), "--out", str(out)]) == 0
    assert "note: ori_file NA does not exist" in capsys.readouterr().out
    assert open_events(out).livetime is None


def test_bad_input_is_one_line_and_exit_code_2(folder, tmp_path, capsys):
    events, out = str(folder / "events.hdf5"), ["--out", str(tmp_path / "out.hdf5")]
    some = ["--energy-edges", "1500:2000:5", "--nside", "2", "--phi-pix-size", "30"]
    no_section = write(folder, "no.yaml", {"events": "events.hdf5"})
    incomplete = write(folder, "less.yaml", {"energy_bins": [1, 2]})
    cases = [
        (["bin", events, *out], "--energy-edges is required"),
        (["bin", events, *out, *some, "--energy-edges", "a,b"], "--energy-edges are numbers"),
        (["bin", events, *out, *some, "--nside", "3"], "nside must be a power of 2"),
        (["bin", events, "--out", events, *some], "would replace a file that is read"),
        (["bin", events, "--out", str(tmp_path), *some], "is a folder"),
        (["bin", events, "--out", str(tmp_path / "no" / "a.hdf5"), *some], "Cannot write"),
        (["bin", no_section, *out], "it has no section binning"),
        (["bin", incomplete, events, *out], "time_bins: this key is required"),
        (["bin", no_section, incomplete, *out], "Give one YAML file"),
        (["bin", "none.hdf5", *out, *some], "none.hdf5 does not exist"),
        (["bin", events, *out, *some, "--orientation", "no.ori"], "no.ori does not exist"),
    ]
    for command, message in cases:
        assert main(command) == 2, command
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out.hdf5").exists()


@pytest.mark.parametrize(
    "selection",
    [["--tmin", "1", "--tmax", "2"], ["--energy-range", "1", "2"], ["--phi-range", "500", "600"]],
)
def test_a_histogram_without_events_is_not_written(folder, tmp_path, capsys, selection):
    command = ["bin", str(folder / "events.hdf5"), "--out", str(tmp_path / "out.hdf5")]
    command += ["--energy-edges", "1500:2000:5", "--nside", "2", "--phi-pix-size", "30"]
    assert main([*command, *selection]) == 2
    error = capsys.readouterr().err
    assert "None of the 20000 events is in the histogram" in error and error.count("\n") == 1
    assert not (tmp_path / "out.hdf5").exists()


def test_options_replace_their_rivals_in_a_file(folder, tmp_path, capsys):
    config = write(folder, "rivals.yaml", {"events": "events.hdf5", "binning": BINNING})
    out = tmp_path / "out.hdf5"
    assert main(["bin", config, "--out", str(out), "--phi-edges", "0,90,180"]) == 0
    assert opened(out).axes["Phi"].nbins == 2
    capsys.readouterr()
    rivals = ["--phi-edges", "0,90", "--phi-pix-size", "30"]
    assert main(["bin", config, "--out", str(out), *rivals]) == 2
    assert "Give only one of --phi-edges and --phi-pix-size" in capsys.readouterr().err


def test_regions_share_the_binning(folder, tmp_path):
    regions = [
        {"name": "a", "source_range": [1800, 1815]},
        {"name": "b", "source_range": [1600, 1615]},
    ]
    mapping = {"events": "events.hdf5", "binning": BINNING, "regions": regions}
    config = write(folder, "regions.yaml", mapping)
    out = tmp_path / "out.hdf5"
    assert main(["bin", config, "--out", str(out)]) == 0
    assert_array_equal(
        contents(opened(out)), contents(bin_events(folder / "events.hdf5", **BINNING))
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("tmin", "abc"), ("tmin", True), ("time_bins", [1, "x"]), ("phi_pix_size", True),
     ("phi_pix_size", "abc"), ("energy_bins", [True, 5000])],
)  # fmt: skip
def test_numbers_of_cosipys_configuration(folder, tmp_path, capsys, key, value):
    config = write(folder, "number.yaml", COSIPY | {key: value})
    assert main(["bin", config, "--out", str(tmp_path / "out.hdf5")]) == 2
    assert f"number.yaml: {key}: got" in capsys.readouterr().err


# ---------------------------------------------------------------------------- configurations


def test_run_takes_event_lists(folder, tmp_path, capsys):
    config = write(folder, "run.yaml", {
        "events": ["events.hdf5", "more"],
        "binning": BINNING | {"orientation": "o.ori"},
        "source_range": [1850, 1860],
        "model": {"lines": [1779]},
        "template": {"method": "sideband", "sidebands": [[1600, 1700]]},
    })  # fmt: skip
    assert main(["run", config, "--out", str(tmp_path / "results")]) == 0
    assert "25000 events read from 2 file(s)" in capsys.readouterr().out
    template = BackgroundTemplate.open(tmp_path / "results" / "template.h5")
    assert template.livetime == pytest.approx(900)
    assert template.record.livetime_from == "the events"
    expected = bin_events(
        [folder / "events.hdf5", folder / "more" / "more.fits.gz"],
        energy_edges="1500:2000:5", phi_pix_size=30, nside=2, tmin=START, tmax=START + 1000,
    )  # fmt: skip
    plugin = pipeline.prepare(load_config(config))
    assert_array_equal(plugin.events.energy_counts(), contents(expected).sum(axis=(1, 2)))
    assert main(["bin", config, "--out", str(tmp_path / "binned.hdf5"), "--quiet"]) == 0
    assert_array_equal(contents(opened(tmp_path / "binned.hdf5")), contents(expected))
    assert main(["fit", config, "--out", str(tmp_path / "fit")]) == 0
    assert "25000 events read" in capsys.readouterr().out


def test_binning_section_survives_yaml(folder):
    mapping = {
        "events": "*.hdf5",
        "binning": BINNING | {"good_times": [[1, 2], [5, 6]], "orientation": "o.ori", "tmin": 5},
    }
    config = parse_config(mapping, folder)
    assert [path.name for path in config.events] == ["events.hdf5"]
    again = parse_config(yaml.safe_load(config.to_yaml()), folder)
    assert again == config
    with_file = parse_config(
        {"events": "events.hdf5", "binning": BINNING | {"good_times": "o.ori"}}, folder
    )
    assert parse_config(yaml.safe_load(with_file.to_yaml()), folder) == with_file


@pytest.mark.parametrize(
    "change, message",
    [
        ({"events": "*.nothing"}, "events: got '\\*.nothing'; No file matches"),
        ({"events": []}, "events: got \\[\\]"),
        ({"events": [3]}, "events\\[0\\]: got 3"),
        ({"binning": BINNING | {"nsid": 3}}, "binning.nsid: unknown key; did you mean nside"),
        ({"binning": {"nside": 3}}, "binning.energy_edges"),
        ({"binning": BINNING | {"energy_edges": ["a"]}}, r"energy_edges\[0\]: got 'a'"),
        ({"binning": BINNING | {"tmin": "soon"}}, "binning.tmin: got 'soon'; a number is needed"),
        ({"binning": BINNING | {"pointing": 5}}, "binning.pointing: got 5; a list of numbers"),
        ({"binning": BINNING | {"orientation": "none.ori"}}, "none.ori' is no file"),
        ({"binning": BINNING | {"good_times": "none.txt"}}, "none.txt' is no file"),
    ],
)
def test_bad_configurations_are_refused(folder, change, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({"events": "events.hdf5", "binning": BINNING} | change, folder)


def test_bad_binning_is_named_before_any_work(folder):
    config = parse_config({"events": "events.hdf5", "binning": BINNING | {"nside": 3}}, folder)
    with pytest.raises(BinningError, match="nside must be a power of 2") as caught:
        pipeline.prepare(config)
    assert one_line(caught.value).startswith("binning: nside must be")
    config = parse_config({"events": "events.hdf5"}, folder)
    with pytest.raises(FileError, match="unbinned events.*binning") as caught:
        pipeline.prepare(config)
    assert one_line(caught.value).startswith("events: ")


def test_readmes_commands(tmp_path, monkeypatch):
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", readme, flags=re.DOTALL)
    (commands,) = (block for block in blocks if block.startswith("cosi-linebkg bin"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events").mkdir()
    for i in range(2):
        write_fits(tmp_path / "events" / f"{i}.fits.gz", make_events(20_000, seed=i, duration=99.0))
    write_orientation(
        tmp_path / "flight.ori", START + np.array([0, 100]), [80.0, 0.0], [0, 0], [0, 0]
    )
    for command in commands.splitlines():
        program, *arguments = shlex.split(command, comments=True)
        assert program == "cosi-linebkg"
        assert main(arguments) == 0
    template = BackgroundTemplate.open(tmp_path / "results" / "template.h5")
    assert template.livetime == pytest.approx(80)
    assert opened(tmp_path / "results" / "background.hdf5").axes["Phi"].nbins == 60
