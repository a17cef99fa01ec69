"""What control ranges say of a template: its recipe, tried at energies where counts are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from ..fit.adequacy import TOLERABLE
from ..io import checks
from ..io.tables import Column, format_value, make_table, to_html
from .extra_error import ExtraError, extra_error
from .hidden import HiddenLines

if TYPE_CHECKING:
    from astropy.table import Table

    from .amounts import ExpectedAmounts

Array = NDArray[np.float64]

#: Fewer control ranges than this say nothing of others.
LEAST_RANGES = 4

#: A template that needs a larger extra error than this describes the background too poorly to be
#: used: of its amount; of the counts in a bin along an axis. An error of 5 % along Phi goes with a
#: bias of a bright sky line below 1 %, one of 13 to 16 % with 2 % (docs/validation.md).
LARGEST_AMOUNT, LARGEST_SHAPE = 0.05, 0.1

#: With more counts than this many times the template's, the source range is dominated by something
#: that control ranges, which hold no strong line, do not stand for.
LARGEST_RATIO = 3.0


@dataclass(frozen=True)
class ShapeTest:
    """The template of a control range along one axis, scaled to the observed total.

    Attributes
    ----------
    chi2 : float
        With the template's own errors (sumw2) and the Poisson errors.
    dof : int
        Groups of bins, less 1 for the total.
    """

    chi2: float
    dof: int

    @property
    def p_value(self) -> float:
        """Chance of a larger chi2 (chi-square law)."""
        return float(chdtrc(self.dof, self.chi2)) if self.dof > 0 else math.nan


@dataclass(frozen=True)
class ControlRange:
    """One pseudo source range.

    Attributes
    ----------
    low, high : float, keV
    expected : float
        Counts of its template.
    error : float
        Of the template's counts, as the real one gets it from the spectrum.
    systematic : float
        What of it is the systematic error of the spectral fit.
    observed : float
    noise : float
        Poisson error of as many counts as are expected.
    shapes : mapping of str to ShapeTest
        By axis.
    """

    low: float
    high: float
    expected: float
    error: float
    systematic: float
    observed: float
    noise: float
    shapes: Mapping[str, ShapeTest]

    @property
    def difference_percent(self) -> float:
        """(observed - expected) / expected."""
        return 100.0 * (self.observed / self.expected - 1.0)

    def pull(self, extra: float = 0.0) -> float:
        """Difference of the totals over its error, with an extra fractional one.

        `extra` takes the place of the systematic error of the spectral fit where it is larger.
        """
        systematic = max(extra * self.expected, self.systematic)
        variance = self.error**2 - self.systematic**2 + systematic**2 + self.noise**2
        return (self.observed - self.expected) / math.sqrt(variance)


@dataclass(frozen=True, repr=False)
class ControlRanges:
    """A recipe for templates, tried at energies where the counts are known to be background.

    Attributes
    ----------
    ranges : tuple of ControlRange
        By energy.
    amount : ExtraError
        Of the totals, as a fraction, beyond their statistical errors.
    shapes : mapping of str to ExtraError
        Of the counts along an axis, as a fraction, beyond the template's errors and Poisson noise.
    skipped : tuple of (float, float, str)
        Ranges, keV, that no template could be made for, and why.
    source_ratio : float or None
        Observed counts of the source range over those of the template, where they can be told.
    systematic : float
        Systematic error of the spectral fit, as a fraction of each energy bin.
    hidden : HiddenLines or None
        What lines that the mask hides may add, which control ranges cannot show; None where no
        line can hide, or nothing tells its strength.
    """

    ranges: tuple[ControlRange, ...]
    amount: ExtraError
    shapes: Mapping[str, ExtraError]
    skipped: tuple[tuple[float, float, str], ...] = ()
    source_ratio: float | None = None
    systematic: float = 0.0
    hidden: HiddenLines | None = None

    @property
    def pulls(self) -> Array:
        """Pulls of the totals with the errors from the spectrum, shape (n_ranges,)."""
        return np.array([r.pull() for r in self.ranges])

    def widened(self, amounts: ExpectedAmounts) -> tuple[Array, float, float]:
        """The covariance of a template's amounts with the errors that were found here.

        The measured error of the amount takes the place of the systematic error of the spectral
        fit where it is larger; what a mask may hide comes on top.

        Parameters
        ----------
        amounts : ExpectedAmounts
            As the spectrum says.

        Returns
        -------
        covariance : ndarray, shape (n_labels, n_labels), counts^2
        measured, hidden : float
            What it includes: the measured error of the amount, and the root mean square of lines
            that the mask hides.
        """
        measured = amounts.with_measured(self.amount.value)
        rms = self.hidden.rms if self.hidden else 0.0
        both = measured.with_hidden(rms)
        return (
            both.covariance.copy(),
            self.amount.value if measured is not amounts else 0.0,
            rms if both is not measured else 0.0,
        )

    @property
    def objections(self) -> tuple[str, ...]:
        """Why the template should not be used; empty if nothing speaks against it."""
        found = [
            f"{name} are off by {_percent(error.value)}, more than {_percent(limit)}"
            for name, error, limit in self._too_large
            if error.least > 0.0
        ]
        if self.source_ratio is not None and self.source_ratio > LARGEST_RATIO:
            found.append(
                f"the source range holds {self.source_ratio:.3g} times the template's counts: if "
                "that is not your source, it is a background line that the template lacks"
            )
        if self.systematic > TOLERABLE:
            found.append(
                f"the model is off by {_percent(self.systematic)} in each bin of the spectrum, "
                f"more than {_percent(TOLERABLE)}"
            )
        return tuple(found)

    @property
    def _too_large(self) -> list[tuple[str, ExtraError, float]]:
        """Errors above what a template may have, and that limit; chance makes some of few counts.

        None with too few ranges.
        """
        errors = [("totals", self.amount, LARGEST_AMOUNT)]
        errors += [(f"bins of {axis}", e, LARGEST_SHAPE) for axis, e in self.shapes.items()]
        enough = len(self.ranges) >= LEAST_RANGES
        return [row for row in errors if enough and row[1].value > row[2]]

    @property
    def tested(self) -> bool:
        """Whether there are enough control ranges, and counts in them, for a statement."""
        enough = len(self.ranges) >= LEAST_RANGES
        return enough and all(error.least > 0.0 for _, error, _ in self._too_large)

    @property
    def usable(self) -> bool:
        """Whether it was tested, and nothing speaks against the template."""
        return self.tested and not self.objections

    def summary(self) -> str:
        """The result in a sentence."""
        n = len(self.ranges)
        text = f"tested on {n} control range{'' if n == 1 else 's'}"
        if n:
            parts = [f"totals agree {_agreement(self.amount)}"]
            parts += [f"{axis} {_agreement(error)}" for axis, error in self.shapes.items()]
            text += ": " + ", ".join(parts)
        if self.objections:
            return f"{text}; should not be used: {'; '.join(self.objections)}"
        if n < LEAST_RANGES:
            return f"{text}; that is no test, {LEAST_RANGES} are needed"
        if not self.tested:
            names = ", ".join(name for name, _, _ in self._too_large)
            return f"{text}; that is no test, the counts are too few: {names}"
        return f"{text}; may be used"

    def rows(self) -> list[dict[str, Any]]:
        """A row of a table for each range: text, and numbers with their errors."""
        table = []
        for r in self.ranges:
            row: dict[str, Any] = {
                "range [keV]": f"{r.low:g}-{r.high:g}",
                "expected": (r.expected, r.error),
                "observed": r.observed,
                "off by [%]": f"{r.difference_percent:+.2f}",
                "pull": f"{r.pull():+.2f}",
            }
            for axis, test in r.shapes.items():
                row[f"{axis}_chi2"] = f"{test.chi2:.1f} / {test.dof}"
                row[f"{axis}_p"] = f"{test.p_value:.2g}"
            table.append(row)
        return table

    def __repr__(self) -> str:
        n = len(self.ranges)
        state = "may be used" if self.usable else "is not tested"
        state = "should not be used" if self.objections else state
        return f"ControlRanges({n} range{'' if n == 1 else 's'}, the template {state})"

    def _repr_html_(self) -> str:
        axes = list(self.shapes)
        heads = ("range [keV]", "expected", "observed", "pull", *(f"{a} chi2/dof, p" for a in axes))
        rows = [
            (f"{r.low:g}-{r.high:g}", format_value(r.expected, r.error), format_value(r.observed),
             f"{r.pull():+.2f}",
             *(f"{t.chi2:.1f}/{t.dof}, {t.p_value:.2g}" for t in (r.shapes[a] for a in axes)))
            for r in self.ranges
        ]  # fmt: skip
        return to_html(repr(self), heads, rows, [f"{self.summary()}."])

    def to_table(self) -> Table:
        """An astropy table of the ranges, whose ``write`` knows LaTeX, CSV and ECSV."""
        r = self.ranges
        columns = [
            Column("low", [x.low for x in r], "keV"),
            Column("high", [x.high for x in r], "keV"),
            Column("expected", [x.expected for x in r], "ct", "counts of the range's template"),
            Column("error", [x.error for x in r], "ct", "standard error, from the spectrum"),
            Column("observed", [x.observed for x in r], "ct"),
            Column("difference", [x.difference_percent for x in r], "percent"),
            Column("pull", [x.pull() for x in r], "", "observed - expected over its error"),
        ]
        for axis in self.shapes:
            tests = [x.shapes[axis] for x in r]
            columns.append(Column(f"{axis}_chi2", [t.chi2 for t in tests]))
            columns.append(Column(f"{axis}_dof", [t.dof for t in tests]))
            columns.append(Column(f"{axis}_p", [t.p_value for t in tests]))
        return make_table(columns, summary=self.summary())

    def __str__(self) -> str:
        """The table, and the sentence."""
        axes = list(self.shapes)
        head = f"{'range [keV]':>15} {'expected':>10} {'error':>7} {'observed':>10} {'pull':>6}"
        lines = [head + "".join(f" {f'{a} chi2/dof':>16} {'p':>7}" for a in axes)]
        for r in self.ranges:
            line = f"{f'{r.low:g}-{r.high:g}':>15} {r.expected:10.1f} {r.error:7.1f}"
            line += f" {r.observed:10.6g} {r.pull():+6.2f}"
            for axis in axes:
                test = r.shapes[axis]
                line += f" {f'{test.chi2:.1f}/{test.dof}':>16} {test.p_value:7.2g}"
            lines.append(line)
        lines += [f"{f'{low:g}-{high:g}':>15} left out: {why}" for low, high, why in self.skipped]
        return "\n".join([*lines, self.summary()])

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {
            "summary": self.summary(),
            "usable": self.usable,
            "amount": error_to_dict(self.amount),
            "shapes": {axis: error_to_dict(error) for axis, error in self.shapes.items()},
            "source_ratio": self.source_ratio,
            "systematic": self.systematic,
            "hidden_lines": None if self.hidden is None else self.hidden.to_dict(),
            "ranges": [
                {
                    "range": [r.low, r.high],
                    **{name: getattr(r, name) for name in _NUMBERS},
                    "shapes": {
                        axis: {"chi2": test.chi2, "dof": test.dof}
                        for axis, test in r.shapes.items()
                    },
                }
                for r in self.ranges
            ],
            "skipped": [{"range": [low, high], "why": why} for low, high, why in self.skipped],
        }

    @classmethod
    def from_dict(cls, data: Any) -> ControlRanges:
        """From what a file holds, which may be anything.

        Raises
        ------
        ValueError, KeyError, TypeError
            If that is not what `to_dict` makes.
        """
        data = checks.mapping(data, "control_ranges")
        shapes = checks.mapping(data["shapes"], "shapes")
        ratio, hidden = data["source_ratio"], data.get("hidden_lines")
        return cls(
            tuple(_range_of(row) for row in data["ranges"]),
            error_of(data["amount"]),
            {str(axis): error_of(error) for axis, error in shapes.items()},
            tuple(
                (*_limits(row["range"]), checks.text(row["why"], "why")) for row in data["skipped"]
            ),
            None if ratio is None else checks.number(ratio, "source_ratio", 0.0),
            checks.number(data.get("systematic", 0.0), "systematic", 0.0),
            None if hidden is None else HiddenLines.from_dict(hidden),
        )


#: Attributes of a range that are plain numbers, and never below 0.
_NUMBERS = ("expected", "error", "systematic", "observed", "noise")


def measured_amount(ranges: Sequence[ControlRange]) -> ExtraError:
    """The extra fractional error of the totals, beyond their statistical errors.

    Ranges share slices, and each lies among the energies of the others' fits: their differences
    are correlated by about minus the leverage of a range, which is neglected.
    """
    return extra_error(
        [r.observed - r.expected for r in ranges],
        [r.error**2 - r.systematic**2 + r.noise**2 for r in ranges],
        [r.expected for r in ranges],
    )


def _percent(fraction: float) -> str:
    percent = 100.0 * fraction
    return f"{percent:.2g} %" if percent < 100.0 else f"{percent:.0f} %"


def _agreement(error: ExtraError) -> str:
    if error.n < 1:
        return "not tested"
    if error.value > 0.0:
        return f"to {_percent(error.value)}"
    return f"within their errors (below {_percent(error.high)})"


def error_to_dict(error: ExtraError) -> dict[str, Any]:
    """A measured error, for JSON."""
    high = error.high if math.isfinite(error.high) else None
    limits = {"fraction_range": [error.low, high], "fraction_least": error.least}
    return {"fraction": error.value, **limits, "dof": error.n}


def error_of(data: Any) -> ExtraError:
    """From what a file holds, which may be anything."""
    data = checks.mapping(data, "a measured error")
    low, high = data["fraction_range"]
    return ExtraError(
        checks.number(data["fraction"], "a measured error", 0.0),
        checks.number(low, "its lower limit", 0.0),
        math.inf if high is None else checks.number(high, "its upper limit", 0.0),
        int(checks.number(data["dof"], "its degrees of freedom", 0.0)),
        checks.number(data["fraction_least"], "its least value", 0.0),
    )


def _range_of(data: Any) -> ControlRange:
    data = checks.mapping(data, "a control range")
    tests = {
        str(axis): ShapeTest(
            checks.number(test["chi2"], "chi2", 0.0), int(checks.number(test["dof"], "dof"))
        )
        for axis, test in checks.mapping(data["shapes"], "shapes").items()
    }
    values = {name: checks.number(data[name], name, 0.0) for name in _NUMBERS}
    return ControlRange(*_limits(data["range"]), **values, shapes=tests)


def _limits(value: Any) -> tuple[float, float]:
    low, high = checks.numbers(value, "a control range", (2,)).tolist()
    return low, high
