"""The public names, and what importing the package costs."""

import subprocess
import sys

import pytest

import cosi_linebkg_plugin

PUBLIC = [
    "BackgroundTemplate",
    "BinningError",
    "ConfigError",
    "DataError",
    "FileError",
    "FitError",
    "FitInterrupted",
    "LineBackgroundError",
    "LineBackgroundFit",
    "LineBackgroundLike",
    "LineBackgroundWarning",
    "LineStep",
    "LinearGaussian",
    "LinearLineStep",
    "LinearTailedGaussian",
    "ModelError",
    "PowerlawPolynomial",
    "TailedGaussian",
    "TemplateError",
    "background_model",
    "bin_events",
    "default_priors",
    "find_lines",
    "instrumental_lines",
]


def test_public_names_are_these():
    assert cosi_linebkg_plugin.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(cosi_linebkg_plugin, name).__name__ == name
        assert name in dir(cosi_linebkg_plugin)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        cosi_linebkg_plugin.nonsense  # noqa: B018


def test_importing_the_package_and_the_command_line_loads_nothing_heavy():
    code = (
        "import sys, cosi_linebkg_plugin.app.cli; "
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    heavy = {"numpy", "scipy", "numba", "threeML", "astromodels", "histpy", "matplotlib", "h5py"}
    assert not heavy & loaded
