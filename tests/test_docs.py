"""The documents' code runs; docs/start.md's table explains every key of a configuration."""

import ast
import re
from pathlib import Path

import pytest

from cosi_linebkg_plugin.app import config as configuration
from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.errors import LineBackgroundWarning

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "start.md").read_text(encoding="utf-8")


def block(language, page=PAGE):
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from cosi_linebkg_plugin.app.demo import simulated_events
    from cosi_linebkg_plugin.app.simulation import simulate
    from cosi_linebkg_plugin.histograms.write import write_histogram

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
    of_the_demo = {"events.hdf5", "config.yaml", "phi_truth.png"}
    of_options = {"filter_scores.png", "posterior.png", "predictive.png", "fit_interrupted.json"}
    of_options |= {"background_threemlfit.hdf5"}
    assert named - written == of_the_demo | of_options


def test_misspelt_key_is_told_as_shown(folder, capsys):
    path = folder / "al26.yaml"
    path.write_text(block("yaml").replace("l_cut", "l_cot"), encoding="utf-8")
    assert main(["run", str(path), "--out", str(folder / "other")]) == 2
    shown = "template.l_cot: unknown key; did you mean l_cut? Known here: method, "
    assert shown in PAGE and shown in capsys.readouterr().err


def test_python_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    with pytest.warns(LineBackgroundWarning) as said:
        exec(compile(block("python"), "start.md", "exec"), names)
    assert any("amount of lines" in str(warning.message) for warning in said)
    assert names["template"].counts["continuum"] == pytest.approx(22269, rel=0.02)
    assert (folder / "spectrum.png").stat().st_size > 10_000


def test_python_of_the_tables_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)  # with the result of the first test
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    exec(compile(block("python", page), "reference.md", "exec"), {})
    rows = (folder / "lines.tex").read_text().splitlines()
    assert any(row.startswith(r"mu_2 & 1506.") and row.endswith(r"\\") for row in rows)
    assert (folder / "lines.ecsv").read_text().startswith("# %ECSV")


def test_python_of_the_line_search_runs(folder, capsys):
    from cosi_linebkg_plugin import LineBackgroundLike

    plugin = LineBackgroundLike("linebkg", folder / "total.hdf5")
    plugin.set_mask((1790, 1825))
    page = (DOCS / "lines.md").read_text(encoding="utf-8")
    names = {"plugin": plugin}
    exec(compile(block("python", page), "lines.md", "exec"), names)
    assert "28Al" in capsys.readouterr().out and names["fit"].valid


def test_table_explains_every_key():
    table = PAGE.split("## The configuration")[1].split("## What is written")[0]
    for name in dir(configuration):
        section = getattr(configuration, name)
        if section is configuration.BinningSection:  # docs/events.md and the reference
            continue
        if isinstance(section, type) and issubclass(section, configuration._Section):
            for key in section.model_fields:
                assert re.search(rf"[`{{ ]{key}[`:,]", table), f"{key} of {name} is not explained"


#: Of cosipy 0.4.3; docs/consumers.md has a row for each.
INTERFACES = (
    "PoissonLikelihood, JointLikelihood", "BayesianAnalysis", "joint session",
    "FreeNormBinnedBackground", "UnbinnedLikelihood", "FastTSMap", "MOCTSMap", "RL", "MAP_RL",
    "BinnedData", "GTI", "orientation", "YAML", "cosi-bindata", "cosi-threemlfit",
)  # fmt: skip


def functions_of(path):
    tree = ast.parse((DOCS.parent / path).read_text(encoding="utf-8"))
    return {x.name: x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef)}


def test_each_interface_has_tests_in_both_frames():
    page = (DOCS / "consumers.md").read_text(encoding="utf-8")
    table = page.split("## The interfaces of cosipy 0.4.3")[1].split("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if "::" in line]
    for name in INTERFACES:
        assert any(re.search(rf"\b{name}\b", row[0]) for row in rows), f"no row for {name}"
    for interface, _, tests, beside in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        found = [functions_of(path)[name] for path, name in named]
        assert beside.strip() and not any("slow" in ast.dump(x) for x in found), interface
        in_frames = [x for x in found if "frame" in [a.arg for a in x.args.args]]
        assert in_frames, f"{interface} is not tested in both frames"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_the_tests_that_pages_name_exist(page):
    for path, name in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text(encoding="utf-8")):
        assert name in functions_of(path), f"{page.name} names {path}::{name}"
