"""README's Python code and the examples run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cosi_linebkg_plugin import BackgroundTemplate
from cosi_linebkg_plugin.app.cli import main

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("newcomer")
    assert main(["demo", "--out", str(folder / "demo"), "--quiet"]) == 0
    return folder


def run(folder, *command):
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False,
        env=dict(os.environ, MPLBACKEND="Agg"),
    )  # fmt: skip


def blocks(language):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_readme_python_runs(folder):
    (code,) = blocks("python")
    result = run(folder, "-W", "error:::cosi_linebkg_plugin", "-c", code)
    assert result.returncode == 0, result.stderr
    template = BackgroundTemplate.open(folder / "background.h5")
    assert template.counts["continuum"] == pytest.approx(22269, rel=0.02)


def test_readme_configuration_is_accepted(folder):
    from cosi_linebkg_plugin.app.config import parse_config

    (text,) = blocks("yaml")
    import yaml

    (folder / "total.hdf5").touch()
    assert parse_config(yaml.safe_load(text), folder).engine == "minuit"


EXAMPLES = sorted(p.name for p in (ROOT / "examples").glob("[!_]*.py"))


#: Of the examples, the one that samples for long.
LONG = pytest.param("bayesian_background.py", marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "script", [LONG if name == "bayesian_background.py" else name for name in EXAMPLES]
)
def test_examples_run_and_end_in_a_figure(folder, script):
    path = ROOT / "examples" / script
    code = path.read_text(encoding="utf-8")
    if "cosipy import" in code:
        pytest.importorskip("cosipy")
    result = run(folder, str(path), "demo")
    assert result.returncode == 0, result.stderr
    figures = re.findall(r"example_\w+\.png", code)
    assert figures, "an example ends in a figure"
    for name in figures:
        assert (folder / "demo" / name).read_bytes().startswith(b"\x89PNG")
    flux = re.search(r"26Al: \((\S+) \+- (\S+)\) .* simulated: (\S+)", result.stdout)
    assert flux or "describes the fitted bins" in result.stdout
    if flux:
        value, error, truth = map(float, flux.groups())
        # 4 sigma for one seeded data set: false alarm 6e-5
        assert 0 < error < 0.05 * truth and abs(value - truth) < 4 * error


def test_links_in_the_documents_lead_somewhere():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
