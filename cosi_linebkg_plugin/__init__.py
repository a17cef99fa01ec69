"""Background of gamma-ray lines with COSI: spectral fit in threeML, templates for likelihoods."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .events.binning import bin_events
    from .fit.result import LineBackgroundFit
    from .lines.catalogue import instrumental_lines
    from .lines.search import find_lines
    from .model.build import background_model
    from .model.functions import (
        LinearGaussian,
        LinearTailedGaussian,
        PowerlawPolynomial,
        TailedGaussian,
    )
    from .model.priors import default_priors
    from .plugin import LineBackgroundLike
    from .template.template import BackgroundTemplate

try:
    __version__ = version("cosi-linebkg-plugin")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0"

# Where each public name lives; imported on first use, since threeML takes seconds.
_HOME = {
    "BackgroundTemplate": "template.template",
    "LineBackgroundFit": "fit.result",
    "LineBackgroundLike": "plugin",
    "LinearGaussian": "model.functions",
    "LinearTailedGaussian": "model.functions",
    "PowerlawPolynomial": "model.functions",
    "TailedGaussian": "model.functions",
    "background_model": "model.build",
    "bin_events": "events.binning",
    "default_priors": "model.priors",
    "find_lines": "lines.search",
    "instrumental_lines": "lines.catalogue",
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
