"""`cosi-linebkg init`: a configuration from the axes of the events, that passes all checks."""

import os
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import yaml
from event_lists import make_events, write_hdf5
from histpy import Axis, HealpixAxis

from cosi_linebkg_plugin.app.check import check_regions
from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.app.config import load_config, load_regions
from cosi_linebkg_plugin.app.new_config import propose
from cosi_linebkg_plugin.histograms.write import make_histogram, write_histogram


def histogram(path, edges, *more):
    axes = [Axis(edges, label="Em"), *more]
    rng = np.random.default_rng(1)
    counts = rng.poisson(100.0, [axis.nbins for axis in axes]).astype(float)
    write_histogram(path, make_histogram(axes, counts))
    return path


@pytest.mark.parametrize(
    ("edges", "line", "source_range", "mask"),
    [
        (np.linspace(1500, 2000, 101) * u.keV, 1808.65, [1805, 1815], [[1791, 1826]]),
        (np.linspace(1.5, 2.0, 51) * u.MeV, 1808.65, [1800, 1820], [[1791, 1826]]),
        (np.linspace(400, 650, 126) * u.keV, 510.99895, [504, 516], []),
        (np.linspace(1000, 1250, 51) * u.keV, 1157.022, [1150, 1160], [[1140, 1175]]),
        (np.linspace(700, 900, 101) * u.keV, 800.0, [796, 804], [[782, 818]]),  # no line of the sky
        (np.geomspace(100, 10_000, 1000) * u.keV, 1808.65, [1799.928507, 1816.599788],
         [[100, 1559], [1791, 1826], [2059, 10_000]]),
        (np.linspace(1500, 2000, 26) * u.keV, 1808.65, [1800, 1820], [[1791, 1826]]),
    ],
)  # fmt: skip
def test_it_is_good_as_it_is(tmp_path, monkeypatch, edges, line, source_range, mask):
    monkeypatch.chdir(tmp_path)
    histogram(tmp_path / "my events.hdf5", edges, HealpixAxis(nside=2, label="PsiChi"))
    assert main(["init", "my events.hdf5", "--quiet"]) == 0
    text = (tmp_path / "config.yaml").read_text()
    config = yaml.safe_load(text)
    assert config["events"] == "my events.hdf5" and config["model"]["lines"] == "auto"
    assert config["source_range"] == source_range and config["mask"] == mask
    assert f"{line:g} keV" in text.splitlines()[0]
    assert check_regions(load_regions("config.yaml"))[-1].startswith("the configuration is good")


def test_what_the_axes_do_not_allow_is_left_out(tmp_path):
    edges = np.linspace(1500, 2000, 101) * u.keV
    for name, axes in {"alone": (), "plain": (Axis(np.arange(5), label="PsiChi"),)}.items():
        path, out = histogram(tmp_path / f"{name}.hdf5", edges, *axes), tmp_path / f"{name}.yaml"
        assert main(["init", str(path), "--out", str(out), "--quiet"]) == 0
        assert load_config(out).template.l_cut is None
        check_regions(load_regions(out))


def test_paths_are_relative_to_the_configuration_and_several_are_summed(tmp_path):
    edges = np.linspace(1500, 2000, 101) * u.keV
    paths = [str(histogram(tmp_path / f"{x}.hdf5", edges)) for x in "ab"]
    (tmp_path / "sub").mkdir()
    out = tmp_path / "sub" / "c.yaml"
    assert main(["init", *paths, "--out", str(out), "--quiet"]) == 0
    assert yaml.safe_load(out.read_text())["events"] == ["../a.hdf5", "../b.hdf5"]
    assert len(load_config(out).events) == 2


def test_event_lists_get_a_binning(tmp_path, capsys):
    events = make_events(2000)
    events["Energies"] = np.random.default_rng(2).uniform(1400, 2100, 2000)
    write_hdf5(tmp_path / "list.hdf5", events)
    out = tmp_path / "c.yaml"
    assert main(["init", str(tmp_path / "list.hdf5"), "--out", str(out), "--quiet"]) == 0
    assert load_config(out).binning.energy_edges == "1560:2060:5"
    assert main(["check", str(out)]) == 0
    assert "fit: 92 of 100 energy bins, 1560-2060 keV" in capsys.readouterr().out


def test_without_events_the_name_is_left_to_fill_in(tmp_path, capsys):
    out = tmp_path / "c.yaml"
    assert main(["init", "--out", str(out), "--line", "1157", "--quiet"]) == 0
    config = yaml.safe_load(out.read_text())
    assert config["events"] == "total.hdf5" and config["source_range"] == [1150, 1160]
    assert "44Ti" in out.read_text()
    assert main(["check", str(out)]) == 2
    assert "total.hdf5" in capsys.readouterr().err


def test_nothing_is_ever_overwritten(tmp_path, capsys):
    out = tmp_path / "c.yaml"
    out.write_text("mine")
    assert main(["init", "--out", str(out)]) == 2
    assert "is there already and stays" in capsys.readouterr().err and out.read_text() == "mine"
    link = tmp_path / "link.yaml"
    os.symlink(tmp_path / "nowhere", link)
    assert main(["init", "--out", str(link)]) == 2 and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["missing.hdf5"], "missing.hdf5"),
        (["text.hdf5"], "text.hdf5"),
        (["wide.hdf5"], "The energy bin at 1808.65 keV is 523.9 keV wide"),  # as in DC2
        (["good.hdf5", "--line", "511"], "511 keV is outside the energy axis"),
        (["--line", "13C"], "or one of 26Al, 44Ti, 60Fe, 22Na, 7Be; got '13C'"),
        (["--line", "5"], "an energy from 50 to 10000 keV, got 5"),
        (["--line", "nan"], "an energy from 50 to 10000 keV, got nan"),
        (["good.hdf5", "--line", "nan"], "an energy from 50 to 10000 keV, got nan"),
    ],
)
def test_bad_input_is_one_line_and_no_file(tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    histogram(tmp_path / "good.hdf5", np.linspace(1500, 2000, 101) * u.keV)
    histogram(tmp_path / "wide.hdf5", np.geomspace(200, 5000, 11) * u.keV)
    (tmp_path / "text.hdf5").write_text("no histogram")
    assert main(["init", *more]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "config.yaml").exists()


def test_a_line_of_the_sky_goes_by_its_nuclide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in ("44Ti", "1157.022"):
        assert main(["init", "--line", line, "--out", f"{line}.yaml", "--quiet"]) == 0
    assert "44Ti, 1157.02 keV" in Path("44Ti.yaml").read_text()
    assert Path("44Ti.yaml").read_text() == Path("1157.022.yaml").read_text()


def test_a_given_energy_near_a_line_of_the_sky_is_that_line():
    edges = np.arange(300.0, 2101.0, 5.0)
    found = propose(edges, 511.0)
    assert found.line == 510.99895 and found.source_range == (505, 515)
    assert 1808.65 in found.others and 510.99895 not in found.others
    assert propose(edges, 1000.0).name == ""


def test_a_short_axis_with_a_line_in_it_is_for_that_line():
    assert propose(np.linspace(480.0, 518.0, 77)).line == 510.99895
    assert propose(np.linspace(480.0, 512.0, 77)).line == 496.0  # too little above it
