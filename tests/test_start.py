"""docs/start.md: its configuration is accepted, its code runs, its table holds every key."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from cosi_linebkg_plugin import config as configuration
from cosi_linebkg_plugin.cli import main

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "start.md").read_text(encoding="utf-8")


def block(language, number=0):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)[number]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from cosi_linebkg_plugin.demo import simulated_events
    from cosi_linebkg_plugin.histograms import write_histogram
    from cosi_linebkg_plugin.simulation import simulate

    folder = tmp_path_factory.mktemp("start")
    write_histogram(folder / "total.hdf5", simulated_events(simulate(1, nside=4)))
    return folder


def test_configuration_runs_and_writes_what_is_said(folder, capsys):
    path = folder / "al26.yaml"
    path.write_text(block("yaml"), encoding="utf-8")
    assert main(["run", str(path), "--out", str(folder / "result")]) == 0
    printed = capsys.readouterr().out
    assert "The amount of lines in the masked source range is not known" in printed
    section = PAGE.split("## What is written")[1].split("## From Python")[0]
    named = set(re.findall(r"`([\w.]+\.(?:html|json|h5|hdf5|png|yaml))`", section))
    written = {p.name for p in (folder / "result").iterdir()}
    assert written <= named
    of_the_demo, of_smoothing_auto = (
        {"events.hdf5", "config.yaml", "phi_truth.png"},
        {"filter_scores.png"},
    )
    assert named - written == of_the_demo | of_smoothing_auto


def test_misspelt_key_is_told_as_shown(folder, capsys):
    path = folder / "al26.yaml"
    path.write_text(block("yaml").replace("l_cut", "l_cot"), encoding="utf-8")
    assert main(["run", str(path), "--out", str(folder / "other")]) == 2
    shown = "template.l_cot: unknown key; did you mean l_cut? Known here: method, "
    assert shown in PAGE and shown in capsys.readouterr().err


def test_python_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    with pytest.warns(UserWarning, match="amount of lines"):
        exec(compile(block("python"), "start.md", "exec"), names)
    assert names["template"].counts["continuum"] == pytest.approx(22269, rel=0.02)
    assert (folder / "spectrum.png").stat().st_size > 10_000
    shutil.rmtree(folder / "result", ignore_errors=True)


def test_table_explains_every_key():
    table = PAGE.split("## The configuration")[1].split("## What is written")[0]
    for name in dir(configuration):
        section = getattr(configuration, name)
        if isinstance(section, type) and issubclass(section, configuration._Section):
            for key in section.model_fields:
                assert re.search(rf"[`{{ ]{key}[`:,]", table), f"{key} of {name} is not explained"


def test_blocks_are_what_they_say():
    assert yaml.safe_load(block("yaml"))["model"] == {"lines": "auto"}
