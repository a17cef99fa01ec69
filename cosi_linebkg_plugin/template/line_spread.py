"""How much the distributions of lines differ: what was measured, and the patterns of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..io import checks
from .control import error_of, error_to_dict
from .extra_error import ExtraError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pattern:
    """A way in which the line in the source range may differ from its tracers.

    Attributes
    ----------
    axis : str
        "Phi" or "PsiChi".
    values : tuple of float
        By bin of this axis of the template: the relative difference at one standard error.
    """

    axis: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class LineSpread:
    """How much the distributions of fitted lines differ, beyond noise and a trend with energy.

    Attributes
    ----------
    lines : tuple of float, keV
        Those that it was measured with; lines that overlap are one, at their mean.
    axes : mapping of str to ExtraError
        By axis: the standard deviation, over bins and lines, of a line's relative difference from
        the mean of all. `least` is above 0 where there is one with a confidence of 95 %.
    patterns : tuple of Pattern
        Of the axes on which there is one. The amplitudes are independent, 0 +- 1.
    """

    lines: tuple[float, ...]
    axes: Mapping[str, ExtraError]
    patterns: tuple[Pattern, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the patterns' amplitudes: "lines_spread_1" ..."""
        return tuple(f"lines_spread_{i}" for i in range(1, len(self.patterns) + 1))

    def differences(self, lines: Array, labels: Sequence[str | None]) -> list[Array]:
        """The patterns on the axes of a map, as relative differences that keep its sum.

        Parameters
        ----------
        lines : ndarray
            The map of "lines", of any sum.
        labels : sequence of str
            Of its axes.

        Returns
        -------
        list of ndarray, each with the axes of `lines`, of one bin but for the pattern's own
        """
        out = []
        for pattern in self.patterns:
            position = list(labels).index(pattern.axis)
            own = lines.sum(axis=tuple(i for i in range(lines.ndim) if i != position))
            values = np.array(pattern.values)
            if values.shape != own.shape:
                raise TemplateError(
                    f"The template has {own.size} bins of {pattern.axis}, but a pattern of how "
                    f"lines differ has {values.size}: its file is damaged. Make it anew."
                )
            values -= own @ values / own.sum()
            out.append(values.reshape([-1 if i == position else 1 for i in range(lines.ndim)]))
        return out

    def __str__(self) -> str:
        parts = []
        for axis, e in self.axes.items():
            limits = f"68 %: {100 * e.low:.2g} to {100 * e.high:.2g}"
            seen = f"by {100 * e.value:.2g} %" if e.least > 0 else "not beyond noise"
            parts.append(f"along {axis} {seen} ({limits})")
        return f"The distributions of {len(self.lines)} lines differ {', '.join(parts)}."

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {
            "summary": str(self),
            "lines": list(self.lines),
            "axes": {axis: error_to_dict(error) for axis, error in self.axes.items()},
            "patterns": [{"axis": p.axis, "values": list(p.values)} for p in self.patterns],
        }

    @classmethod
    def from_dict(cls, data: Any) -> LineSpread:
        """From what a file holds, which may be anything.

        Raises
        ------
        ValueError, KeyError, TypeError
            If that is not what `to_dict` makes.
        """
        data = checks.mapping(data, "line_spread")
        axes = checks.mapping(data["axes"], "axes of line_spread")
        return cls(
            tuple(checks.numbers(data["lines"], "lines of line_spread", (None,)).tolist()),
            {
                checks.text(axis, "an axis", ("Phi", "PsiChi")): error_of(e)
                for axis, e in axes.items()
            },
            tuple(
                Pattern(
                    checks.text(p["axis"], "the axis of a pattern", tuple(axes)),
                    tuple(checks.numbers(p["values"], "a pattern", (None,)).tolist()),
                )
                for p in data["patterns"]
            ),
        )


def line_differences(
    spread: LineSpread | None, maps: Mapping[str, Array], axes: Sequence[str | None]
) -> list[Array]:
    """Ways in which "lines" may differ from its map; see `LineSpread.differences`.

    Parameters
    ----------
    spread : LineSpread or None
        None for none.
    maps : mapping of label to ndarray
        Of a template's components.
    axes : sequence of str
        Labels of their axes.
    """
    return spread.differences(maps["lines"], axes) if spread and "lines" in maps else []


def spread_errors(
    spread: LineSpread | None, maps: Mapping[str, Array], axes: Sequence[str | None]
) -> Array:
    """Errors of the cells, in counts, by what the line may differ from "lines"; 0 for no pattern.

    Not in sumw2, which is that of the slices' counts: a pattern moves all cells together.

    Parameters
    ----------
    spread, maps, axes
        As of `line_differences`; the maps in counts.
    """
    total = np.zeros(next(iter(maps.values())).shape)
    for difference in line_differences(spread, maps, axes):
        total += difference**2
    return np.sqrt(total) * maps["lines"] if total.any() else total
