"""What is installed, and with which versions."""

import configparser
import re
from fnmatch import fnmatch
from pathlib import Path

from packaging.version import Version

import cosi_linebkg_plugin

ROOT = Path(__file__).resolve().parents[1]


def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_the_lowest_versions_tested_are_those_claimed():
    claimed = dict(
        re.match(r"([\w-]+)>=([\d.]+)", line).groups()
        for line in setup()["options"]["install_requires"].split("\n")
        if line
    )
    lines = (ROOT / ".ci" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert set(tested) == set(claimed)
    for name, version in claimed.items():
        assert Version(tested[name]) == Version(version), name


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
