"""The options of a template, checked among themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import TemplateError
from .amounts import LineRatio
from .filters import Filter

#: How energies may be weighted; the first is the default.
METHODS = ("components", "interpolated", "sideband")


@dataclass(frozen=True)
class TemplateOptions:
    """The options of `LineBackgroundLike.background_template`, checked among themselves."""

    method: str = "components"
    sidebands: Sequence[Sequence[Any]] | None = None
    window: Sequence[Any] | None = None
    order: int = 1
    tracers: Sequence[Any] | None = None
    line_ratio: Any = None
    smoothing: str | None = None
    smoothing_fwhm: float | None = None
    l_cut: int | None = None
    rebin_phi: int | None = None
    pool: int | None = None
    like: Any = None
    sky: Any = None
    observed: Any = None
    livetime: Any = None
    shift: bool = False
    filter: Filter = field(init=False)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise TemplateError(
                f"There is no method {self.method!r}; choose one of {', '.join(METHODS)}."
            )
        if self.order not in (0, 1, 2):
            raise TemplateError(f"order must be 0, 1 or 2, got {self.order!r}.")
        if self.smoothing not in (None, "auto"):
            raise TemplateError(
                f"smoothing must be 'auto' or nothing, got {self.smoothing!r}; a width in degrees "
                "is smoothing_fwhm=."
            )
        chosen = Filter(self.smoothing_fwhm, self.l_cut, self.rebin_phi, self.pool)
        if self.smoothing == "auto" and chosen != Filter():
            raise TemplateError(
                f"smoothing='auto' chooses the filter itself, but {chosen.describe()} is given "
                "too; leave one of them out."
            )
        if not isinstance(self.shift, bool):
            raise TemplateError(f"shift must be True or False, got {self.shift!r}.")
        for name in ("sidebands", "tracers"):
            value = getattr(self, name)
            if value is not None and not np.iterable(value):
                raise TemplateError(f"{name} must be a list, got {value!r}.")
        if self.sky is not None and self.observed is None:
            raise TemplateError(
                "sky= needs observed=, the counts of the source range that its norm is fitted to."
            )
        if self.method == "sideband" and self.sidebands is None:
            raise TemplateError(
                "method='sideband' needs sidebands=[(low, high), ...]: the energies to add up."
            )
        object.__setattr__(self, "filter", chosen)
        object.__setattr__(self, "line_ratio", LineRatio.of(self.line_ratio))
