"""The command ``lines``, and ``lines: auto`` in every step of a run."""

import json

import astropy.units as u
import histpy
import numpy as np
import pytest
import yaml

from cosi_linebkg_plugin import BackgroundTemplate, LineBackgroundFit
from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.spectrum.lineshapes import powerlaw_counts, tailed_gaussian_counts

EDGES = np.linspace(1500.0, 2000.0, 100)
LINES = ((1633.6, 40900.0), (1666.0, 82200.0), (1778.99, 39500.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Events (Em, Phi) with three tailed lines, and a configuration that looks for them."""
    folder = tmp_path_factory.mktemp("auto")
    mean = powerlaw_counts(EDGES, 3376.0, 1750.0, -1.807)[0]
    for energy, counts in LINES:
        mean += tailed_gaussian_counts(EDGES, counts, energy, 2.9, 0.23, 12.5)[0]
    axes = [
        histpy.Axis(EDGES * u.keV, label="Em"),
        histpy.Axis([0.0, 60.0, 180.0] * u.deg, label="Phi"),
    ]
    counts = np.random.default_rng(8).poisson(np.outer(mean, [0.7, 0.3])).astype(float)
    histpy.Histogram(histpy.Axes(axes), contents=counts).write(str(folder / "events.hdf5"))
    config = {
        "events": "events.hdf5",
        "source_range": [1805, 1812],
        "mask": [[1790, 1825]],
        "model": {"lines": "auto", "tail": True},
        "template": {"method": "sideband", "sidebands": [[1830, 1900]]},
    }
    (folder / "auto.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", str(folder / "auto.yaml"), "--out", str(folder / "run"), "--quiet"]) == 0
    return folder


def changed(folder, name, **model):
    config = yaml.safe_load((folder / "auto.yaml").read_text())
    config["engine"] = model.pop("engine", "minuit")
    config["model"] |= model
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def test_run_finds_the_lines_and_uses_them(folder):
    data = json.loads((folder / "run" / "fit.json").read_text())
    found = data["line_search"]["lines"]
    assert [x["name"] for x in found] == ["20F", "", "28Al"]
    for x, (energy, counts) in zip(found, LINES, strict=True):
        assert abs(x["energy"] - energy) < 4 * x["error"]
        assert abs(x["counts"] - counts) < 4 * x["counts_error"]
        # the same lines in the model that was fitted
        assert data["parameters"][x["parameter"]]["value"] == pytest.approx(x["energy"], abs=0.01)
    assert data["valid"] and data["p_value"] > 1e-3
    assert data["parameters"]["fraction_2"]["value"] == pytest.approx(0.23, abs=0.05)
    fit = LineBackgroundFit.from_json(folder / "run" / "fit.json")
    assert fit.line_search == data["line_search"]
    assert json.loads(fit.to_json())["line_search"] == data["line_search"]
    report = (folder / "run" / "report.html").read_text()
    assert "28Al 1778.99" in report and "lines: auto" in report
    assert f"{found[2]['significance']:.1f}" in report
    assert BackgroundTemplate.open(folder / "run" / "template.h5").counts["background"] > 0


def test_what_was_found_is_printed(folder, capsys):
    assert main(["fit", str(folder / "auto.yaml"), "--out", str(folder / "fit")]) == 0
    out = capsys.readouterr().out
    assert "3 lines found above" in out and "28Al   28Al 1778.99" in out
    saved = str(folder / "fit" / "fit.json")
    out = str(folder / "template")
    assert main(["template", str(folder / "auto.yaml"), "--fit", saved, "--out", out]) == 0
    assert "3 lines found above" in capsys.readouterr().out
    a, b = (BackgroundTemplate.open(folder / d / "template.h5") for d in ("run", "template"))
    assert a.counts == pytest.approx(b.counts)


def test_other_engines_keep_the_search(folder):
    path = changed(folder, "joint", engine="joint_likelihood")
    assert main(["fit", path, "--out", str(folder / "joint"), "--quiet"]) == 0
    direct, joint = (LineBackgroundFit.from_json(folder / d / "fit.json") for d in ("run", "joint"))
    assert joint.engine == "joint_likelihood" and joint.line_search == direct.line_search
    for name, error in direct.errors.items():
        assert abs(direct.values[name] - joint.values[name]) < 0.1 * error


def test_options_of_the_search_arrive(folder, capsys):
    path = changed(
        folder, "fixed", search={"false_alarm": 0.001, "max_lines": 2, "fix_to_catalogue": True}
    )
    assert main(["fit", path, "--out", str(folder / "fixed"), "--quiet"]) == 0
    data = json.loads((folder / "fixed" / "fit.json").read_text())
    assert [x["name"] for x in data["line_search"]["lines"]] in (["20F", ""], ["", "28Al"])
    assert data["line_search"]["false_alarm"] == 0.001
    known = next(x for x in data["line_search"]["lines"] if x["name"])
    row = data["parameters"][known["parameter"]]
    assert not row["free"] and row["error"] is None and row["value"] in (1633.602, 1778.987)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"search": {"max_lines": 60}}, "model: max_lines=60 is not possible: from 0 to 22"),
        ({"sigma": 60}, "model: sigma= is the expected width"),
        ({"lines": [1612], "search": {}}, "model.search: got a mapping; a search needs lines"),
    ],
)
def test_bad_searches_are_refused_before_any_work(folder, capsys, model, message):
    path = changed(folder, "bad", **model)
    assert main(["run", path, "--out", str(folder / "bad")]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "bad").exists()


# --- the command lines ----------------------------------------------------------------------------


def energies(text):
    return [float(line.split()[0]) for line in text.splitlines() if line.split()[0][:1].isdigit()]


@pytest.mark.parametrize(
    "words",
    [["1770-1790"], ["1.77-1.79", "MeV"], ["1770", "keV", "-", "1.79", "MeV"], ["1770keV-1790keV"]],
)
def test_catalogue_of_a_range(capsys, words):
    assert main(["lines", *words]) == 0
    out = capsys.readouterr().out
    assert energies(out)[:-1] == [1770.228, 1771.357, 1775.8, 1778.987, 1785.54]
    assert "28Al" in out and "ENSDF: 28Al decay" in out and "2.245 min" in out
    assert out.strip().endswith("5 lines")


def test_catalogue_in_full_and_where_it_is_empty(capsys):
    from cosi_linebkg_plugin import instrumental_lines

    assert main(["lines"]) == 0
    assert len(energies(capsys.readouterr().out)) == len(instrumental_lines()) + 1
    assert main(["lines", "6200-7000"]) == 0
    assert "no line there" in capsys.readouterr().out


def test_match_compares_a_fit_with_the_catalogue(folder, capsys):
    saved = str(folder / "run" / "fit.json")
    assert main(["lines", "--match", saved]) == 0
    out = capsys.readouterr().out
    (al,) = (line.split() for line in out.splitlines() if " 1778.987" in line)
    fit = LineBackgroundFit.from_json(saved)
    energy, error = fit.values["mu_4"], fit.errors["mu_4"]
    assert al[:4] == [f"{energy:.2f}", f"{error:.2f}", "28Al", "1778.987"]
    assert float(al[4]) == pytest.approx(energy - 1778.987, abs=0.006)
    sigmas = (energy - 1778.987) / np.sqrt(error**2 + 0.015**2 + 0.5**2)
    assert float(al[5]) == pytest.approx(sigmas, abs=0.06)
    assert "2 of 3 fitted lines have a counterpart" in out
    assert f"without: {fit.values['mu_3']:.2f} keV" in out
    assert main(["lines", "1.7-1.8 MeV", "--match", saved]) == 0
    assert "1 of 1 fitted lines" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["2000-1500"], "got '2000-1500': the first energy must be below the second"),
        (["1500-1500"], "must be below the second"),
        (["abc"], "got 'abc': this is no energy range; give 1500-2000 (keV)"),
        (["1500"], "this is no energy range"),
        (["1500-"], "this is no energy range"),
        (["1-2 GHz"], "the unit 'GHz' is not known"),
        (["--sigma", "1"], "give --find EVENTS too"),
        (["--find", "missing.csv", "--sigma", "1"], "missing.csv"),
        (["--match", "missing.json"], "missing.json"),
        (["--match", __file__], "is not JSON"),
    ],
)
def test_bad_input_exits_2_with_one_line(capsys, words, message):
    assert main(["lines", *words]) == 2
    output = capsys.readouterr()
    assert message in output.err and "\n" not in output.err.strip() and output.out == ""


def test_a_search_takes_the_continuum_and_the_width_asked_for(folder):
    options = {"continuum": "powerlaw_polynomial", "width": "linear"}
    path = changed(folder, "other", **options, search={"fix_to_catalogue": True})
    assert main(["fit", path, "--out", str(folder / "other"), "--quiet"]) == 0
    fit = LineBackgroundFit.from_json(folder / "other" / "fit.json")
    assert {"c2_1", "a_2", "b_2"} <= set(fit.free_names)
    found = fit.line_search["lines"]
    assert [x["name"] for x in found] == ["20F", "", "28Al"]
    for x in found:  # 20F and 28Al stand in the catalogue
        assert fit.parameters[x["parameter"]].free == (x["name"] == "")


def test_names_may_be_compared_on_the_lines_own_scale(folder, capsys):
    saved = str(folder / "run" / "fit.json")
    assert main(["lines", "--match", saved, "--calibrate"]) == 0
    assert "no energy scale: too few lines agree with the catalogue" in capsys.readouterr().out
    assert main(["lines", "--calibrate"]) == 2
    assert "give --match fit.json too" in capsys.readouterr().err
    path = changed(folder, "calibrated", search={"calibrate": True})
    assert main(["fit", path, "--out", str(folder / "calibrated"), "--quiet"]) == 0
    notes = json.loads((folder / "calibrated" / "fit.json").read_text())["line_search"]["notes"]
    assert "no energy scale" in notes[-1]
    path = changed(folder, "both", search={"calibrate": True, "fix_to_catalogue": True})
    assert main(["fit", path, "--out", str(folder / "both"), "--quiet"]) == 2
    assert "choose one of them" in capsys.readouterr().err
