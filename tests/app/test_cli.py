"""The command line as its user meets it: files, exit codes, one-line errors."""

import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import histpy
import numpy as np
import pytest
import yaml

from cosi_linebkg_plugin import BackgroundTemplate, LineBackgroundFit
from cosi_linebkg_plugin.app import cli
from cosi_linebkg_plugin.app.cli import _settings_of_python, main, version_table
from cosi_linebkg_plugin.app.demo import simulated_events
from cosi_linebkg_plugin.app.simulation import simulate
from cosi_linebkg_plugin.histograms.axes import source_axis
from cosi_linebkg_plugin.histograms.write import make_histogram, write_histogram

RESULTS = {
    "fit.json",
    "template.h5",
    "background.hdf5",
    "background_continuum.hdf5",
    "background_lines.hdf5",
    "report.html",
    "spectrum.png",
    "phi.png",
    "maps.png",
    "weights.png",
    "control.png",
    "control_ranges.json",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--out", str(folder), "--quiet"]) == 0
    return folder


def write_config(demo, folder, **changes):
    """The demo's configuration with other values, beside the demo's events."""
    import yaml

    config = yaml.safe_load((demo / "config.yaml").read_text())
    config["events"] = str(demo / "events.hdf5")
    for key, value in changes.items():
        section = config
        *path, last = key.split("__")
        for name in path:
            section = section[name]
        section[last] = value
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_demo_leaves_what_run_writes(demo):
    found = {p.name for p in demo.iterdir()}
    assert found >= RESULTS | {"events.hdf5", "config.yaml", "phi_truth.png"}
    data = json.loads((demo / "fit.json").read_text())
    assert data["valid"] and data["p_value"] > 1e-4
    assert data["mask"] == [[pytest.approx(1787.88, abs=0.01), pytest.approx(1828.28, abs=0.01)]]
    assert data["parameters"]["sigma_2"]["value"] == pytest.approx(2.9, abs=0.1)
    template = BackgroundTemplate.open(demo / "template.h5")
    # what the simulation puts there: see its DEMO_CONTINUUM and DEMO_LINES
    assert template.counts["continuum"] == pytest.approx(22269, abs=4.5 * 28)
    assert template.counts["lines"] == pytest.approx(4543, abs=4.5 * 60)
    control = json.loads((demo / "control_ranges.json").read_text())
    assert control["usable"] and len(control["ranges"]) == 12
    assert control == template.control_ranges.to_dict()
    total = histpy.Histogram.open(str(demo / "background.hdf5"))
    assert np.sum(total.contents) == pytest.approx(sum(template.counts.values()))
    report = (demo / "report.html").read_text()
    assert "http://" not in report and "https://" not in report
    assert control["summary"] in report
    assert "sideband" in report and "-16.9" in report.replace("\N{MINUS SIGN}", "-")


def test_run_repeats_the_demo(demo, tmp_path):
    assert main(["run", str(demo / "config.yaml"), "--out", str(tmp_path), "--quiet"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == RESULTS
    a, b = (LineBackgroundFit.from_json(d / "fit.json") for d in (demo, tmp_path))
    assert a.values == b.values


def test_fit_and_template_as_single_steps(demo, tmp_path):
    config = str(demo / "config.yaml")
    assert main(["fit", config, "--out", str(tmp_path / "fit"), "--quiet"]) == 0
    assert {p.name for p in (tmp_path / "fit").iterdir()} == {"fit.json", "spectrum.png"}
    saved = str(tmp_path / "fit" / "fit.json")
    out = str(tmp_path / "template")
    assert main(["template", config, "--fit", saved, "--out", out, "--quiet"]) == 0
    a, b = (BackgroundTemplate.open(d / "template.h5") for d in (demo, tmp_path / "template"))
    assert a.counts == pytest.approx(b.counts)


def test_a_missing_line_is_said_in_words(demo, tmp_path, capsys):
    import yaml

    lines = yaml.safe_load((demo / "config.yaml").read_text())["model"]["lines"]
    without = [line for line in lines if round(line) != 1634]
    assert len(without) == len(lines) - 1
    path = write_config(demo, tmp_path, model__lines=without)
    assert main(["run", str(path), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "should NOT be used for a template" in printed and "a line near 1633." in printed
    assert "per bin included" in printed  # the template
    report = (tmp_path / "report.html").read_text()
    data = json.loads((tmp_path / "fit.json").read_text())["adequacy"]
    assert "should NOT be used for a template" in report
    assert data["adequate"] is False and data["systematic_percent"] > 2
    assert abs(data["excesses"][0]["energy"] - 1633.6) < 1
    good, bad = (BackgroundTemplate.open(d / "template.h5") for d in (demo, tmp_path))
    assert bad.record.systematic_percent == pytest.approx(data["systematic_percent"])
    assert good.record.systematic_percent == 0
    assert bad.errors["continuum"] > 3 * good.errors["continuum"]


def test_a_list_of_event_files_is_summed(demo, tmp_path):
    events = histpy.Histogram.open(str(demo / "events.hdf5"))
    events.write(str(tmp_path / "again.hdf5"))
    path = write_config(
        demo, tmp_path, events=[str(demo / "events.hdf5"), str(tmp_path / "again.hdf5")]
    )
    assert main(["run", str(path), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    one, two = (
        BackgroundTemplate.open(d / "template.h5").counts["continuum"]
        for d in (demo, tmp_path / "out")
    )
    assert two == pytest.approx(2 * one, rel=1e-3)


@pytest.mark.parametrize("engine", ["joint_likelihood", "bayesian"])
def test_engines_agree(demo, tmp_path, engine):
    few = dict(model__lines=[1764.3, 1779.0], mask=[[1500, 1740], [1790, 1825], [1880, 2000]])
    fits = []
    for name in ("minuit", engine):
        path = write_config(
            demo, tmp_path, engine=name, **few,
            template={"method": "sideband", "sidebands": [[1820, 1875]]},
        )  # fmt: skip
        assert main(["run", str(path), "--out", str(tmp_path / name), "--quiet"]) == 0
        fits.append(LineBackgroundFit.from_json(tmp_path / name / "fit.json"))
    direct, other = fits
    assert other.engine == engine
    tolerance = 0.05 if engine == "joint_likelihood" else 0.4
    for name, error in direct.errors.items():
        assert abs(direct.values[name] - other.values[name]) < tolerance * error
        assert other.errors[name] == pytest.approx(error, rel=tolerance)
    assert (other.samples is None) == (engine == "joint_likelihood")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_range": [2100, 2200]}, "source range 2100-2200 keV reaches outside"),
        ({"mask": [[1000, 3000]]}, "excludes every energy bin"),
        ({"model__lines": list(range(1510, 1990, 10))}, "free parameters but only"),
        ({"template__window": [1796, 1798]}, "holds no whole energy bin; the nearest bin is"),
        ({"template__sidebands": [[1800, 1850]]}, "template.sidebands[0]"),
        ({"template__methode": "x"}, "template.methode: unknown key; did you mean method"),
        ({"events": "missing.hdf5"}, "events"),
    ],
)
def test_bad_input_exits_2_with_one_line_and_no_file(demo, tmp_path, capsys, changes, message):
    path = write_config(demo, tmp_path, **changes)
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_the_source_range_is_masked_by_default_and_it_is_said(demo, tmp_path, capsys):
    import yaml

    few = {"model": {"pivot": 1800, "lines": [1764.3, 1779.0]}, "template": {"order": 0}}
    path = write_config(demo, tmp_path, **few)
    config = yaml.safe_load(path.read_text())
    del config["mask"]
    said = "mask: the source range 1805-1812 keV is left out of the fit, as no mask is given"
    for mask, masked in ((None, [[1803.03, 1813.13]]), ([], [])):
        path.write_text(yaml.safe_dump(config if mask is None else config | {"mask": mask}))
        for command in ("fit", "run"):
            out = tmp_path / f"{command}-{mask}"
            assert main([command, str(path), "--out", str(out)]) == 0
            printed = capsys.readouterr().out
            assert (said in printed) == (mask is None)
            fitted = command == "run" and mask == []
            assert ("fit includes the energy bins 1803.03-1813.13 keV of" in printed) == fitted
            found = json.loads((out / "fit.json").read_text())["mask"]
            assert found == [pytest.approx(m, abs=0.01) for m in masked]
        page = (out / "report.html").read_text()
        assert (said in page) == (mask is None)
        assert ("fit includes the energy bins 1803.03-1813.13 keV of" in page) == (mask == [])
        assert ("- [1805.0, 1812.0]" in page) == (mask is None)


@pytest.mark.parametrize("command", ["run", "fit"])
def test_a_spectrum_without_counts_is_refused(demo, tmp_path, capsys, command):
    events = histpy.Histogram.open(str(demo / "events.hdf5"))
    nothing = make_histogram(events.axes, np.zeros([axis.nbins for axis in events.axes]))
    write_histogram(tmp_path / "events.hdf5", nothing)
    path = write_config(demo, tmp_path, events=str(tmp_path / "events.hdf5"))
    assert main([command, str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "events: There is no count from 1500 to 2000 keV" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    few = np.zeros([axis.nbins for axis in events.axes])
    few[60] = 1  # masked
    write_histogram(tmp_path / "events.hdf5", make_histogram(events.axes, few))
    assert main([command, str(path), "--out", str(tmp_path / "out")]) == 2
    assert "events: There is no count outside the mask" in capsys.readouterr().err


def test_a_damaged_event_file_is_named(demo, tmp_path, capsys):
    damaged = tmp_path / "events.hdf5"
    damaged.write_bytes((demo / "events.hdf5").read_bytes()[:20000])
    path = write_config(demo, tmp_path, events=str(damaged))
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "events.hdf5" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_written_is_named(demo, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    path = write_config(demo, tmp_path)
    assert main(["run", str(path), "--out", str(tmp_path / "file" / "out")]) == 2
    assert "Cannot write to the output folder" in capsys.readouterr().err


def test_a_fit_that_fails_exits_1(demo, tmp_path, capsys):
    # four lines of which the bins of 5 keV show one
    blend = [{"energy": e, "window": [e - 0.5, e + 0.5]} for e in range(1722, 1726)]
    path = write_config(demo, tmp_path, model__lines=blend, template={})
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "do not tell apart mu_2, F_3, F_4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_overwritten(demo, tmp_path, capsys):
    source = tmp_path / "background.hdf5"
    source.write_bytes((demo / "events.hdf5").read_bytes())
    path = write_config(demo, tmp_path, events=str(source))
    assert main(["run", str(path), "--out", str(tmp_path)]) == 2
    assert "would replace a file that is read" in capsys.readouterr().err
    assert source.read_bytes() == (demo / "events.hdf5").read_bytes()
    assert main(["demo", "--out", str(tmp_path)]) == 2  # its config.yaml is not the demo's
    assert "not from a demo" in capsys.readouterr().err


def test_results_of_an_earlier_run_do_not_stay_behind(demo, tmp_path):
    import yaml

    path = write_config(demo, tmp_path)
    out = tmp_path / "out"
    assert main(["run", str(path), "--out", str(out), "--quiet"]) == 0
    config = yaml.safe_load(path.read_text())
    del config["source_range"], config["template"]
    path.write_text(yaml.safe_dump(config))
    assert main(["run", str(path), "--out", str(out), "--quiet"]) == 0
    assert {p.name for p in out.iterdir()} == {"fit.json", "report.html", "spectrum.png"}


def test_help_loads_nothing_heavy_and_says_the_commands():
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cosi_linebkg_plugin.app.cli", "--help"],
        capture_output=True, text=True, check=True, env=dict(os.environ, COLUMNS="80"),
    )  # fmt: skip
    assert all(word in run.stdout for word in ("demo", "run", "fit", "template"))
    assert "numpy" not in run.stderr


def test_verbose_prints_the_steps_with_their_time(demo, tmp_path, capsys):
    path = write_config(demo, tmp_path)
    assert main(["fit", str(path), "--out", str(tmp_path / "out"), "--verbose"]) == 0
    steps = capsys.readouterr().err.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in steps)
    assert any("fitting the spectrum" in line for line in steps)
    assert main(["fit", str(path), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == ""  # nothing stays behind


def test_a_template_of_a_fit_with_another_mask_is_refused(demo, tmp_path, capsys):
    path = write_config(demo, tmp_path, mask=[[1590, 1605]])
    arguments = [str(path), "--fit", str(demo / "fit.json"), "--out", str(tmp_path / "out")]
    assert main(["template", *arguments]) == 2
    assert "mask: the fit was made with 1787.88-1828.28 keV masked" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_single_steps_leave_nothing_of_another_run(demo, tmp_path):
    out = tmp_path / "out"
    path = write_config(demo, tmp_path)
    assert main(["run", str(path), "--out", str(out), "--quiet"]) == 0
    assert (out / "background_lines.hdf5").exists()
    path = write_config(
        demo, tmp_path, template={"method": "sideband", "sidebands": [[1830, 1880]]}
    )
    assert main(["template", str(path), "--fit", str(out / "fit.json"), "--out", str(out)]) == 0
    assert {p.name for p in out.iterdir()} == {
        "fit.json", "template.h5", "background.hdf5", "background_background.hdf5", "spectrum.png",
        "control_ranges.json",
    }  # fmt: skip
    assert main(["fit", str(path), "--out", str(out), "--quiet"]) == 0
    assert {p.name for p in out.iterdir()} == {"fit.json", "spectrum.png"}


def test_nothing_is_written_if_the_figures_cannot_be_made(demo, tmp_path, capsys):
    from cosi_linebkg_plugin.histograms.write import make_histogram, write_histogram

    template = BackgroundTemplate.open(demo / "template.h5")
    nothing = make_histogram(template.axes, np.zeros([a.nbins for a in template.axes]))
    write_histogram(tmp_path / "none.hdf5", nothing)
    path = write_config(demo, tmp_path, template__observed=str(tmp_path / "none.hdf5"))
    out = tmp_path / "out"
    assert main(["run", str(path), "--out", str(out)]) == 2
    assert "holds no counts" in capsys.readouterr().err
    assert not out.exists() or not list(out.iterdir())


def test_with_few_counts_the_fit_beside_sky_gets_its_p_value_from_toys(tmp_path, capsys):
    simulation = simulate(3, nside=1, exposure_scale=2e-4)
    events = simulated_events(simulation)
    edges = simulation.energy_edges
    low, high = float(edges[60]), float(edges[62])
    axes = list(events.axes)
    axes[0] = source_axis(axes[0], low, high)
    slices = np.array(list(simulation.expected_sky_slices()))
    observed = np.asarray(events.to_dense().contents)[60:62].sum(axis=0)
    write_histogram(tmp_path / "events.hdf5", events)
    write_histogram(tmp_path / "sky.hdf5", make_histogram(events.axes, slices))
    write_histogram(tmp_path / "observed.hdf5", make_histogram(axes, observed[None]))
    config = {
        "events": "events.hdf5",
        "source_range": [low, high],
        "mask": [[1790, 1825]],
        "model": {"pivot": 1800, "lines": [1779]},
        "template": {"sky": "sky.hdf5", "observed": "observed.hdf5"},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out")]) == 0
    fit = LineBackgroundFit.from_json(tmp_path / "out" / "fit.json")
    assert fit.offset is not None and fit.toys is not None and fit.p_value is not None


def test_version_names_what_results_depend_on_without_importing_it(capsys):
    from importlib.metadata import version

    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    said = dict(re.split(r"  +", line) for line in capsys.readouterr().out.splitlines())
    for name in ("cosi-linebkg-plugin", "numpy", "histpy", "astromodels", "threeML", "iminuit"):
        assert said[name] == version(name)
    pages = Path(said["documentation"])
    assert (pages / "README.md").is_file() and (pages / "docs" / "start.md").is_file()
    assert said["Python"] == ".".join(map(str, sys.version_info[:3])) and "cosipy" in said


def test_version_of_what_was_installed_without_wheels(tmp_path, monkeypatch):
    folder = tmp_path / "cosipy.egg-info"
    folder.mkdir()
    (folder / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: cosipy\nVersion: 9.8.7\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [line.split() for line in version_table() if line.startswith("cosipy")] == [
        ["cosipy", "9.8.7"]
    ]


def test_settings_of_python_are_given_back():
    before = gc.get_threshold(), sys.getswitchinterval()
    with pytest.raises(ZeroDivisionError), _settings_of_python():
        assert sys.getswitchinterval() < before[1] and gc.get_threshold() != before[0]
        raise ZeroDivisionError
    assert (gc.get_threshold(), sys.getswitchinterval()) == before


def test_an_interrupt_amid_an_import_says_nothing_of_python(monkeypatch, capsys):
    def interrupted(options, progress):
        error = KeyboardInterrupt()
        error.add_note("Error calling __set_name__ on 'member' instance 'CameraOwnerName'")
        error.add_note("the fit so far is in fit.json")
        raise error

    monkeypatch.setattr(cli, "_lines", interrupted)
    assert main(["lines", "1800-1820"]) == 130
    said = "interrupted (SIGINT); the fit so far is in fit.json; every file that is there is whole"
    assert capsys.readouterr().err == f"cosi-linebkg: {said}\n"


@pytest.mark.parametrize(
    ("line", "found"),
    [("cosi-linebkg che", ["check "]), ("cosi-linebkg run --dr", ["--dry-run "])],
)
def test_shells_complete_commands_and_options(tmp_path, line, found):
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    asked = {
        "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_IFS": "\n",
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "cosi_linebkg_plugin.app.cli"], env=os.environ | asked, check=True
    )
    assert answer.read_text().split("\n") == found


def test_a_command_leaves_the_collection_of_unused_objects_as_it_was(capsys):
    """In its own process it looks for them less often, and not at the end."""
    import gc

    before = gc.get_threshold()
    assert main(["lines", "1800-1810"]) == 0
    assert gc.get_threshold() == before and gc.isenabled()
    code = """
import atexit, gc, sys
from cosi_linebkg_plugin.app import cli
atexit.register(lambda: print("frozen", gc.get_freeze_count()))  # runs after what main registers
def command(options, progress):
    print("threshold", gc.get_threshold()[0])
    return []
cli._lines = command
sys.exit(cli.main(["lines", "1800-1810"]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = dict(line.split() for line in run.stdout.splitlines())
    assert int(said["threshold"]) > before[0] and int(said["frozen"]) > 1000
