"""Lines that a masked source range may hide: how much the fit's lines add elsewhere.

No other energy shows them, and control ranges, which hold no strong line, do not stand for them.
What they may add is judged by the lines that the spectrum shows: each range as wide as the source
range is treated as if its lines were unknown, and the counts above the rest of the fit are
x = n / b - 1. Compared are the ranges that hold energies of the catalogue if the source range does,
those without if it does not.

The strengths of n seen lines tell the scale of the one that is hidden. For exponential strengths
of an unknown rate (flat prior) the predictive law of the next one is Lomax's of shape n + 1, whose
second moment is n / (n - 1) times that of the scale that was measured (Johnson, Kotz &
Balakrishnan 1994, Continuous Univariate Distributions 1, Sect. 20.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..io import checks
from ..lines.catalogue import instrumental_lines
from .amounts import hides_lines

if TYPE_CHECKING:
    from ..fit.result import LineBackgroundFit
    from ..spectrum.components import Component
    from .plan import TemplatePlan

Array = NDArray[np.float64]

#: A range is as wide as the source range to within this factor, on whole bins.
WIDTH_FACTOR = 2.0

#: A line with this share of its counts where a mask would be is unknown there; one with this share
#: in fitted bins is seen.
_HIDDEN_SHARE, _SEEN_SHARE = 0.5, 0.5

#: Fewer ranges that do not overlap say nothing.
_LEAST_RANGES = 4

#: With fewer lines the second moment is that of this many: below it is infinite.
_LEAST_LINES = 2

#: So many lines of the catalogue are named.
_NAMED = 3


@dataclass(frozen=True)
class HiddenLines:
    """What lines in the masked source range may add to a template that does not know them.

    Attributes
    ----------
    mean, rms : float
        Of their counts over those of everything else: mean, and root of the mean square, which
        is larger by what a few lines tell too little.
    n_ranges : int
        Ranges that it was judged by, as many as do not overlap.
    n_lines : int
        Lines that the fit shows.
    names : tuple of str
        Lines of the catalogue in the source range.
    """

    mean: float
    rms: float
    n_ranges: int
    n_lines: int
    names: tuple[str, ...] = ()

    def summary(self) -> str:
        """What it says, as a part of a sentence."""
        named = ", ".join(self.names[:_NAMED])
        more = len(self.names) - _NAMED
        named += f" and {more} more" if more > 0 else ""
        holds = f"of the catalogue ({named})" if named else "that the catalogue lacks"
        return (
            f"lines {holds} that the mask hides may add {100 * self.mean:.2g} % on average, rms "
            f"{100 * self.rms:.2g} %, as the lines of {self.n_ranges} other ranges do"
        )

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {
            "fraction_mean": self.mean,
            "fraction_rms": self.rms,
            "n_ranges": self.n_ranges,
            "n_lines": self.n_lines,
            "catalogue": list(self.names),
        }

    @classmethod
    def from_dict(cls, data: Any) -> HiddenLines:
        """From what a file holds, which may be anything.

        Raises
        ------
        ValueError, KeyError, TypeError
            If that is not what `to_dict` makes.
        """
        data = checks.mapping(data, "hidden_lines")
        mean, rms, n_ranges, n_lines = (
            checks.number(data[name], f"{name} of hidden_lines", 0.0)
            for name in ("fraction_mean", "fraction_rms", "n_ranges", "n_lines")
        )
        names = tuple(checks.text(name, "a line of hidden_lines") for name in data["catalogue"])
        return cls(mean, rms, int(n_ranges), int(n_lines), names)


def hidden_lines(plan: TemplatePlan, fit: LineBackgroundFit) -> HiddenLines | None:
    """What lines in the source range may add that nothing shows.

    Parameters
    ----------
    plan : TemplatePlan
    fit : LineBackgroundFit

    Returns
    -------
    HiddenLines or None
        None where the range is not masked, a line ratio tells the amount, the fit has a line there,
        or sky= has the norms fitted; and where the fit shows no line, or has too few ranges.
    """
    if plan.sky is not None or not hides_lines(plan, fit):
        return None
    lines, spectra = line_spectra(fit)
    used = fit.spectrum.used
    seen = spectra[:, used].sum(axis=1) > _SEEN_SHARE * spectra.sum(axis=1)
    n_lines = int(np.sum(seen & np.array([fit.theta[line.area] > 0 for line in lines], bool)))
    if not n_lines:
        return None

    edges = plan.edges
    runs = runs_as_wide(edges, used & ~plan.in_source, plan.high - plan.low)
    names = _catalogue(plan.low, plan.high)
    alike = [r for r in runs if bool(_catalogue(edges[r[0]], edges[r[1]])) == bool(names)]
    chosen = alike if _apart(alike) >= _LEAST_RANGES else runs
    if _apart(chosen) < _LEAST_RANGES:
        return None
    margins = margins_of_mask(plan, fit)
    found = np.array([_excess(plan, fit, spectra, run, margins) for run in chosen])
    mean = max(float(found[:, 0].mean()), 0.0)
    square = max(float((found[:, 0] ** 2 - found[:, 1]).mean()), 0.0)
    n = max(n_lines, _LEAST_LINES)
    rms = math.sqrt(square * n / (n - 1))
    return HiddenLines(mean, max(rms, mean), _apart(chosen), n_lines, names)


def _catalogue(low: float, high: float) -> tuple[str, ...]:
    """Lines of the catalogue in a range; those that most decays make come first."""
    rows = sorted(instrumental_lines((low, high)), key=lambda row: -(row.intensity or 0.0))
    return tuple(f"{row.energy:.1f} keV {row.isotope}" for row in rows)


def _apart(runs: list[tuple[int, int]]) -> int:
    """How many of the ranges do not overlap."""
    n, last = 0, -1
    for first, end in runs:
        if first >= last:
            n, last = n + 1, end
    return n


def _excess(
    plan: TemplatePlan,
    fit: LineBackgroundFit,
    spectra: Array,
    run: tuple[int, int],
    margins: tuple[float, float],
) -> tuple[float, float]:
    """Counts of a range over those that are known if it is masked, less 1, and their variance."""
    edges, inside = plan.edges, slice(*run)
    masked = (edges[1:] > edges[run[0]] - margins[0]) & (edges[:-1] < edges[run[1]] + margins[1])
    unknown = spectra[:, masked].sum(axis=1) > _HIDDEN_SHARE * spectra.sum(axis=1)
    known = float(fit.expected[inside].sum() - spectra[unknown, inside].sum())
    known = max(known, 1.0)
    counts = float(fit.spectrum.counts[inside].sum())
    variance = float(plan.events.energy_variances()[inside].sum())
    return counts / known - 1.0, variance / known**2


def runs_as_wide(edges: Array, usable: NDArray[np.bool_], width: float) -> list[tuple[int, int]]:
    """First and last edge of the runs of usable bins that are as wide as `width`, by energy."""
    runs: list[tuple[int, int]] = []
    for i in np.flatnonzero(usable).tolist():
        j = i + 1 + int(np.argmin(np.abs(edges[i + 1 :] - edges[i] - width)))
        alike = 1.0 / WIDTH_FACTOR <= (edges[j] - edges[i]) / width <= WIDTH_FACTOR
        if alike and usable[i:j].all():
            runs.append((i, j))
    return runs


def line_spectra(fit: LineBackgroundFit) -> tuple[list[Component], Array]:
    """The fit's lines and their counts per bin, shape (n_lines, n_bins)."""
    lines = list(fit.model.lines)
    return [fit.model.components[i] for i in lines], fit.component_spectra[lines]


def margins_of_mask(plan: TemplatePlan, fit: LineBackgroundFit) -> tuple[float, float]:
    """How far the fit's mask reaches beyond the source range to either side [keV]."""
    for low, high in fit.mask:
        if low <= plan.low and high >= plan.high:
            return plan.low - low, high - plan.high
    return 0.0, 0.0
