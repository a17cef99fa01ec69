"""What is installed, and with which versions."""

import ast
import configparser
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

import yaml
from packaging.version import Version

import cosi_linebkg_plugin

ROOT = Path(__file__).resolve().parents[1]


def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirements(text):
    return dict(
        re.match(r"([\w-]+)(?:\[\w+\])?(?:>=([\d.]+))?", line).groups()
        for line in text.split("\n")
        if line
    )


def test_the_lowest_versions_tested_are_those_claimed():
    """Those that everybody needs, and those of the optional parts that the package imports."""
    extras = setup()["options.extras_require"]
    claimed = requirements(setup()["options"]["install_requires"])
    claimed |= requirements(extras["figures"])
    lines = (ROOT / ".ci" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert set(tested) == set(claimed)
    for name, version in claimed.items():
        assert Version(tested[name]) == Version(version), name


def test_the_tests_have_what_is_optional():
    """So that nothing is skipped for want of it."""
    extras = setup()["options.extras_require"]
    for extra in ("completion", "interactive", "figures", "dask"):
        assert set(extras[extra].split("\n")) <= set(extras["test"].split("\n"))


def test_everything_that_is_imported_is_declared():
    declared = requirements(setup()["options"]["install_requires"])
    extras = setup()["options.extras_require"]
    for extra in ("completion", "interactive", "figures", "dask", "samplers"):
        declared |= requirements(extras[extra])
    known = {name.lower().replace("-", "_") for name in declared}
    # under other names: PyYAML, dask[distributed], and what pydantic brings along
    known |= set(sys.stdlib_module_names) | {"yaml", "distributed", "pydantic_core"}
    folder = Path(cosi_linebkg_plugin.__file__).parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                assert name.split(".")[0].lower() in known, f"{path.name} imports {name}"


def test_links_of_the_pages_lead_somewhere_in_what_is_installed():
    """README, docs and examples lie in one folder, as in the repository: relative links hold."""
    start = "share/doc/cosi-linebkg-plugin"
    installed = set()
    for folder, patterns in setup()["options.data_files"].items():
        inside = folder.removeprefix(start).lstrip("/")
        for pattern in patterns.split():
            found = [path for path in ROOT.glob(pattern) if path.is_file()]
            assert found, pattern
            assert all(path.parent == ROOT / inside for path in found)
            installed |= {path.resolve() for path in found}
    pages = [path for path in installed if path.suffix == ".md"]
    assert len(pages) > 15
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            target = link.partition("#")[0]
            if not target or target.startswith(("http", "mailto")):
                continue
            path = (page.parent / target).resolve()
            assert path in installed or any(path in x.parents for x in installed), (page, link)


def test_all_data_files_are_installed():
    patterns = setup()["options.package_data"]
    folder = Path(cosi_linebkg_plugin.__file__).parent
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    files = [p for p in files if p.suffix not in (".nbi", ".nbc")]  # numba's cache
    assert len(files) > 3
    for path in files:
        package = ".".join(("cosi_linebkg_plugin", *path.relative_to(folder).parts[:-1]))
        known = patterns.get(package, "").split(",")
        assert any(fnmatch(path.name, pattern.strip()) for pattern in known), path


def test_the_citation_names_the_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["version"] == setup()["metadata"]["version"]


#: Names on conda-forge that differ from those on PyPI.
CONDA_NAMES = {"matplotlib": "matplotlib-base", "isal": "python-isal"}


def test_the_conda_recipe_says_what_setup_cfg_says():
    recipe = yaml.safe_load((ROOT / ".ci" / "recipe.yaml").read_text(encoding="utf-8"))
    declared = setup()
    assert recipe["context"]["version"] == declared["metadata"]["version"]
    assert recipe["context"]["name"] == declared["metadata"]["name"]
    assert recipe["about"]["license"] == declared["metadata"]["license"]
    scripts = declared["options.entry_points"]["console_scripts"].split()
    assert recipe["build"]["python"]["entry_points"] == [" ".join(scripts)]
    needed = requirements(declared["options"]["install_requires"])
    expected = {CONDA_NAMES.get(name, name).lower(): low for name, low in needed.items()}
    expected["python"] = declared["options"]["python_requires"].removeprefix(">=")
    found = dict(row.split(" >=") for row in recipe["requirements"]["run"])
    assert found == expected
