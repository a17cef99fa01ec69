"""Background of gamma-ray lines with COSI: spectral fit in threeML, templates for likelihoods."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from .errors import (
        BinningError,
        ConfigError,
        DataError,
        FileError,
        FitError,
        FitInterrupted,
        LineBackgroundError,
        LineBackgroundWarning,
        ModelError,
        TemplateError,
    )
    from .events.binning import bin_events
    from .fit.result import LineBackgroundFit
    from .lines.catalogue import instrumental_lines
    from .lines.search import find_lines
    from .model.build import background_model
    from .model.functions import (
        LinearGaussian,
        LinearLineStep,
        LinearTailedGaussian,
        LineStep,
        PowerlawPolynomial,
        TailedGaussian,
    )
    from .model.priors import default_priors
    from .plugin import LineBackgroundLike
    from .template.template import BackgroundTemplate

# Where each public name lives; imported on first use, since threeML takes seconds.
_HOME = {
    "BackgroundTemplate": "template.template",
    "BinningError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "FileError": "errors",
    "FitError": "errors",
    "FitInterrupted": "errors",
    "LineBackgroundError": "errors",
    "LineBackgroundFit": "fit.result",
    "LineBackgroundLike": "plugin",
    "LineBackgroundWarning": "errors",
    "LineStep": "model.functions",
    "LinearGaussian": "model.functions",
    "LinearLineStep": "model.functions",
    "LinearTailedGaussian": "model.functions",
    "ModelError": "errors",
    "PowerlawPolynomial": "model.functions",
    "TailedGaussian": "model.functions",
    "TemplateError": "errors",
    "background_model": "model.build",
    "bin_events": "events.binning",
    "default_priors": "model.priors",
    "find_lines": "lines.search",
    "instrumental_lines": "lines.catalogue",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cosi-linebkg-plugin")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0"


def __dir__() -> list[str]:
    return sorted([*globals(), "__version__", *__all__])
