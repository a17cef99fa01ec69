"""README's Python code and the examples run as they stand."""

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
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
    strict = "import warnings\nwarnings.filterwarnings('error', module='cosi_linebkg_plugin')\n"
    result = run(folder, "-c", strict + code)
    assert result.returncode == 0, result.stderr
    assert "amount of lines in the masked source range is not known" in result.stderr
    template = BackgroundTemplate.open(folder / "background.h5")
    assert template.counts["continuum"] == pytest.approx(22269, rel=0.02)


def imports_cosipy(code):
    return re.search(r"^(from|import) cosipy\b", code, flags=re.MULTILINE)


def runs_here(path):
    """Beside one generation of cosipy the examples for the other are left out."""
    code = path.read_text(encoding="utf-8")
    try:
        generation = version("cosipy")[:3]
    except PackageNotFoundError:
        return True
    if not imports_cosipy(code) or re.search("^import cosipy$", code, flags=re.MULTILINE):
        return True  # either
    return generation == ("0.3" if "import COSILike" in code else "0.4")


EXAMPLES = sorted(p.name for p in (ROOT / "examples").glob("[!_]*.py") if runs_here(p))


#: Of the examples, the one that samples for long.
LONG = pytest.param("bayesian_background.py", marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "script", [LONG if name == "bayesian_background.py" else name for name in EXAMPLES]
)
def test_examples_run_and_end_in_a_figure(folder, script):
    path = ROOT / "examples" / script
    code = path.read_text(encoding="utf-8")
    if imports_cosipy(code):
        pytest.importorskip("cosipy")
    result = run(folder, str(path), "demo")
    assert result.returncode == 0, result.stderr
    figures = re.findall(r"example_\w+\.png", code)
    assert figures, "an example ends in a figure"
    for name in figures:
        assert (folder / "demo" / name).read_bytes().startswith(b"\x89PNG")
    flux = re.search(r"26Al: \((\S+) \+- (\S+)\) .* simulated: (\S+)", result.stdout)
    assert flux or "describes the fitted bins" in result.stdout
    image = re.search(r"the image holds (\S+) .* simulated: (\S+)", result.stdout)
    assert bool(image) == ("image" in script)
    if image:  # some tens of percent of the sky are background that the image takes
        assert 0.8 < float(image[1]) / float(image[2]) < 1.5
    if flux:
        value, error, truth = map(float, flux.groups())
        # 4 sigma for one seeded data set: false alarm 6e-5
        assert 0 < error < 0.05 * truth and abs(value - truth) < 4 * error


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_in_the_documents_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", text):
        if link == "tutorial.ipynb":  # copied from the examples when the site is built
            continue
        target = page.parent / link if link else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}#{anchor}"


def anchors(page):
    """As repositories make them: lower case, blanks become hyphens, punctuation goes."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", x.lower()).replace(" ", "-") for x in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_the_documents_name_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:tests|docs(?!/_build)|examples|findings)/[\w/]+\.\w+", text):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110
