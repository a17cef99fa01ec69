"""Background of gamma-ray lines with COSI: spectral fit in threeML, templates for likelihoods."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catalogue import instrumental_lines
    from .events import bin_events
    from .linesearch import find_lines
    from .model import (
        LinearGaussian,
        LinearTailedGaussian,
        PowerlawPolynomial,
        TailedGaussian,
        background_model,
    )
    from .plugin import LineBackgroundLike
    from .priors import default_priors
    from .result import LineBackgroundFit
    from .template import BackgroundTemplate

try:
    __version__ = version("cosi-linebkg-plugin")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0"

# Where each public name lives; imported on first use, since threeML takes seconds.
_HOME = {
    "BackgroundTemplate": "template",
    "LineBackgroundFit": "result",
    "LineBackgroundLike": "plugin",
    "LinearGaussian": "model",
    "LinearTailedGaussian": "model",
    "PowerlawPolynomial": "model",
    "TailedGaussian": "model",
    "background_model": "model",
    "bin_events": "events",
    "default_priors": "priors",
    "find_lines": "linesearch",
    "instrumental_lines": "catalogue",
}

__all__ = [
    "BackgroundTemplate",
    "LineBackgroundFit",
    "LineBackgroundLike",
    "LinearGaussian",
    "LinearTailedGaussian",
    "PowerlawPolynomial",
    "TailedGaussian",
    "background_model",
    "bin_events",
    "default_priors",
    "find_lines",
    "instrumental_lines",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
