"""The documents' code and commands run; their tables explain every key and quote what is said."""

import ast
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from event_lists import START, make_events, write_fits, write_hdf5, write_orientation
from line_regions import REGIONS, expected_spectra, write_region

from cosi_linebkg_plugin.app import config as configuration
from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.app.config import load_regions
from cosi_linebkg_plugin.errors import LineBackgroundWarning
from cosi_linebkg_plugin.model.spec import CONTINUA
from cosi_linebkg_plugin.template.template import BackgroundTemplate

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
    of_options |= {"background_threemlfit.hdf5", "energies.png", "phi_energy.png"}
    of_options |= {"light_curve.png"}
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
        if section is configuration.BinningSection:
            continue
        if isinstance(section, type) and issubclass(section, configuration._Section):
            for key in section.model_fields:
                assert re.search(rf"[`{{ ]{key}[`:,]", table), f"{key} of {name} is not explained"


def test_event_lists_explain_every_option():
    page = (DOCS / "events.md").read_text(encoding="utf-8")
    for key in configuration.BinningSection.model_fields:
        assert re.search(rf"[`{{ ]{key}[`:=]", page), f"{key} is not explained"


def test_every_continuum_is_explained():
    rows = (DOCS / "spectrum.md").read_text(encoding="utf-8").split("\n")
    for name in CONTINUA:
        assert any(row.startswith(f"| `{name}` | K ") for row in rows), f"no formula of {name}"
        assert f"`{name}`" in PAGE, f"start.md does not say {name}"


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


# --- recipes -------------------------------------------------------------------------------------

RECIPES = dict(
    re.findall(
        r"```yaml\n# (\S+)\n(.*?)```",
        (DOCS / "recipes.md").read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
)


def test_there_is_a_recipe_for_each_line():
    assert set(RECIPES) == {"al26.yaml", "511.yaml", "ti44.yaml", "fe60.yaml"}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_run_and_find_what_was_simulated(folder, name, capsys):
    kind = name.removesuffix(".yaml")
    if kind in REGIONS:
        write_region(kind, folder / f"{kind}.hdf5")
    path = folder / f"recipe_{name}"
    path.write_text(RECIPES[name], encoding="utf-8")
    assert main(["check", str(path)]) == 0
    out = folder / f"recipe_{kind}"
    assert main(["run", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "may be used for a template" in said and "NOT be used" not in said
    for region, config in load_regions(path).items():
        template = BackgroundTemplate.open(out / region / "template.h5")
        low, high = config.source_range
        truth = 22269.0  # of the demo's continuum: its DEMO_CONTINUUM
        if kind in REGIONS:
            spectra = expected_spectra(kind, [low, high])
            truth = float(spectra["continuum"][0])
            if kind == "511":  # the only one whose line is fitted; the sky's photons with it
                both = float(spectra["lines"][0] + spectra["sky"][0])
                assert abs(template.counts["lines"] - both) < 4 * template.errors["lines"]
            else:
                assert template.unknown == ("lines",)
        # 4 standard errors for one seeded data set: false alarm 6e-5
        assert abs(template.counts["continuum"] - truth) < 4 * template.errors["continuum"]


# --- commands ------------------------------------------------------------------------------------

PAGES = [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]

#: How the other commands of the documents begin, and who runs them.
ELSEWHERE = (
    "python3 -m venv",  # .ci/run
    ".venv/bin/",  # .ci/run: pip, pytest, ruff, mypy, sphinx
    "source .venv/bin/activate",
    "bash .ci/run",
    "OMP_NUM_THREADS=1 PYTHONPATH=tests/helpers python tests/benchmarks/table.py",
    "python tests/benchmarks/bench_commands.py",  # minutes
)

#: Inline: what is no whole command, but a part of one, or names one.
PARTS = {
    "bin --scheduler ADDRESS",
    "bin inputs.yaml",
    "bin bin.yaml",
    "demo | init | check | run | bin | fit | template | compare | lines",
}


def commands(page):
    """The commands of a page in its blocks, and those with arguments in its text."""
    text = page.read_text(encoding="utf-8")
    lines = [
        line.split("  #")[0].strip()
        for body in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
        for line in body.splitlines()
    ]
    ours = [line.removeprefix("cosi-linebkg ") for line in lines if line.startswith("cosi-linebkg")]
    inline = re.findall(r"`cosi-linebkg\s([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    inline = [" ".join(line.split()) for line in inline]
    ours += [line for line in inline if " " in line and line not in PARTS and line not in ours]
    return ours, [line for line in lines if line and not line.startswith("cosi-linebkg")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_run_here_or_in_ci(page):
    _, others = commands(page)
    assert [line for line in others if not line.startswith(ELSEWHERE)] == []


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)[0]], ids=lambda page: page.stem)
def test_commands_run(page, folder, tmp_path, monkeypatch):
    """In the order of the page, in a folder with the files that a reader has."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events").mkdir()
    events = make_events(100_000)
    write_fits(tmp_path / "events" / "a.fits.gz", events)
    write_fits(tmp_path / "events.fits.gz", events)
    write_hdf5(tmp_path / "events.hdf5", events)
    times = [START - 1.0, START + 43200.0, START + 86401.0]
    write_orientation(tmp_path / "flight.ori", times, [43201.0, 43201.0, 0.0], [0] * 3, [0] * 3)
    (tmp_path / "inputs.yaml").write_text(
        yaml.safe_dump(
            {"data_file": "events.hdf5", "time_bins": 86400, "energy_bins": [1500.0, 2000.0],
             "phi_pix_size": 6, "nside": 4, "scheme": "ring", "tmin": START, "tmax": START + 86400}
        )
    )  # fmt: skip
    (tmp_path / "total.hdf5").write_bytes((folder / "total.hdf5").read_bytes())
    (tmp_path / "al26.yaml").write_text(RECIPES["al26.yaml"])
    bins = np.arange(1650.0, 1950.0, 5.0)
    counts = np.random.default_rng(1).poisson(100.0, bins.size)
    rows = np.c_[bins, bins + 5.0, counts]
    np.savetxt(
        tmp_path / "spectrum.csv", rows, delimiter=",", header="low,high,counts", comments=""
    )
    if page.stem == "lines":
        assert main(["fit", "al26.yaml", "--out", ".", "--quiet"]) == 0
    for line in commands(page)[0]:
        (tmp_path / "al26.yaml").unlink() if line.startswith("init") else None
        assert main([*shlex.split(line), "--quiet"]) == 0, line


def test_what_the_architecture_names_is_there():
    """Files, and names in the text of a file: who follows them must find them."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    package = Path(configuration.__file__).parents[1]
    source = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    roots = (package, DOCS.parent, package / "show")
    paths = re.findall(r"`([\w/]+\.(?:py|md|j2|css|js))`", page)
    assert len(paths) > 60
    missing = [p for p in paths if not any((root / p).exists() for root in roots)]
    assert missing == ["consumers/NAME.py"]  # the one that is to be written
    names = re.findall(r"`(\w+)(?:\(\.*\))?`", page)
    assert len(names) > 50
    assert [x for x in names if not re.search(rf"\b{x}\b", source)] == []


# --- messages ------------------------------------------------------------------------------------


def texts_of_the_source():
    """Every string of the package; what is put into it is left open."""
    found = []
    for path in Path(configuration.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [x.value if isinstance(x, ast.Constant) else "\0" for x in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_the_sentences_of_the_page_are_those_of_the_package():
    page = (DOCS / "messages.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `([^`]+)`", page, flags=re.MULTILINE)
    assert len(quoted) > 30
    texts = texts_of_the_source()
    assert [text for text in quoted if not any(text in t for t in texts)] == []
