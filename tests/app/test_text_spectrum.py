"""A spectrum as text on the command line: lines, init, check, fit."""

import json

import numpy as np
import pytest
import yaml

from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.app.config import load_config
from cosi_linebkg_plugin.spectrum.lineshapes import gaussian_counts, powerlaw_counts


def write(path, low, high, line):
    edges = np.arange(low, high + 0.5, 1.0)
    mean = powerlaw_counts(edges, 100.0, 0.5 * (low + high), -1.5)[0]
    mean = mean + gaussian_counts(edges, 5000.0, line, 1.5)[0]
    counts = np.random.default_rng(4).poisson(mean)
    np.savetxt(path, np.c_[0.5 * (edges[1:] + edges[:-1]), counts], "%.1f,%d")
    return path


@pytest.fixture
def spectrum(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "lab.csv", 1400.0, 1520.0, 1460.82)


def test_the_lines_of_a_spectrum_are_searched_and_named(spectrum, capsys):
    assert main(["lines", "--find", "lab.csv"]) == 0
    out = capsys.readouterr().out
    assert "40K 1460.82" in out and "1 line found" in out and "middles of the bins" in out
    assert main(["lines", "--find", "lab.csv", "1400-1440"]) == 0
    assert "no line found" in capsys.readouterr().out
    # found within a factor 3 of what the search begins with
    assert main(["lines", "--find", "lab.csv", "--sigma", "0.4"]) == 0
    assert "sits on its limit, 1.2; search again from another width" in capsys.readouterr().out
    assert main(["lines", "--find", "lab.csv", "100-200"]) == 2
    assert "reaches outside the energy axis" in capsys.readouterr().err


def test_whoever_gives_the_file_alone_is_told_what_to_do(spectrum, capsys):
    assert main(["lines", "lab.csv"]) == 2
    assert "a file is searched for lines with --find lab.csv" in capsys.readouterr().err
    assert main(["fit", "lab.csv", "--out", "results"]) == 2
    assert "For data, cosi-linebkg init writes a configuration." in capsys.readouterr().err


def test_init_makes_a_fit_of_a_spectrum_without_a_line_of_the_sky(spectrum, capsys):
    assert main(["init", "lab.csv", "--out", "lab.yaml", "--quiet"]) == 0
    config = load_config("lab.yaml")
    assert config.source_range is None and config.template is None and config.mask == ()
    assert main(["check", "lab.yaml"]) == 0
    assert "fit: 120 of 120 energy bins, 1400-1520 keV" in capsys.readouterr().out
    assert main(["fit", "lab.yaml", "--out", "results"]) == 0
    assert "middles of the bins" in capsys.readouterr().out
    fit = json.loads((spectrum.parent / "results" / "fit.json").read_text())
    assert fit["valid"] and [x["name"] for x in fit["line_search"]["lines"]] == ["40K"]


def test_init_takes_the_line_that_it_is_told_and_that_of_the_sky(spectrum, tmp_path):
    assert main(["init", "lab.csv", "--line", "1461", "--out", "a.yaml", "--quiet"]) == 0
    assert load_config("a.yaml").source_range == (1457, 1464)
    write(tmp_path / "al.txt", 1700.0, 1900.0, 1779.0)
    assert main(["init", "al.txt", "--out", "b.yaml", "--quiet"]) == 0
    assert load_config("b.yaml").source_range == (1805, 1812)


def test_what_cannot_be_read_is_one_line(spectrum, tmp_path, capsys):
    (tmp_path / "lab.csv").write_text("energy,cps\n1400,0.1\n1401,0.2\n")
    (tmp_path / "lab.yaml").write_text("events: lab.csv\n")
    for arguments in (["lines", "--find", "lab.csv"], ["init", "lab.csv"], ["check", "lab.yaml"]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert "cps holds rates; give counts" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("lines", "tail", "said"),
    [
        ([511.0], True, True),
        ([511.0], False, False),
        ([{"energy": 511.0, "width": "own"}], True, False),
        ([505.0], True, False),
    ],
)
def test_a_tail_that_511_kev_does_not_get_is_told(tmp_path, capsys, lines, tail, said):
    write(tmp_path / "lab.csv", 480.0, 540.0, 511.0)
    config = {"events": "lab.csv", "model": {"lines": lines, "tail": tail, "sigma": 1.2}}
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(config))
    assert main(["check", str(tmp_path / "lab.yaml")]) == 0
    out = capsys.readouterr().out
    text = "model: tail: 511.0 keV: a narrow and a broad part take the place of the tail"
    assert (text in out) == said
