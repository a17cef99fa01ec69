"""What was chosen and found when a template was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..io import checks
from ..io.guard import listed
from .amounts import LineRatio
from .control import ControlRanges
from .line_spread import LineSpread
from .options import TemplateOptions
from .per_time import TimeCourse


@dataclass(frozen=True)
class FilterScore:
    """A filter that ``smoothing="auto"`` tried.

    Attributes
    ----------
    filter : str
        In words.
    score : float
        Gain in log-likelihood over no filter.
    """

    filter: str
    score: float


@dataclass(frozen=True)
class MethodScore:
    """A recipe that ``method="auto"`` tried on control ranges.

    Attributes
    ----------
    method : str
        With its order and energies, in words.
    score : float
        Log-likelihood of the counts that it predicts, below that of the best one.
    """

    method: str
    score: float


@dataclass(frozen=True)
class Record:
    """How a template was made, and what a user must know of it.

    Attributes
    ----------
    method : str
        "components", "interpolated" or "sideband".
    filter : str
        In words.
    filter_scores : tuple of FilterScore
        Of ``smoothing="auto"``, the unfiltered template first.
    method_scores : tuple of MethodScore
        Of ``method="auto"``, the best first.
    pooled_slices : int
        Slices whose total was not positive, and that were pooled with their neighbours.
    pooling_moved_percent : float
        By how much that changed the total of such a neighbour, at most.
    order : int or None
        Degree in energy of the continuum's change ("components").
    tracers : tuple of float, keV
        Lines that "lines" takes its distribution from.
    line_ratio : LineRatio or None
    line_share : float or None
        Share of the ratio's line that falls into the source range.
    shift : bool
        Whether features were moved along Phi.
    sky_norm : (float, float) or None
        Norm of the sky that was fitted with sky=, and its standard error.
    sky_norm_removed : float
        Norm of the sky that was taken out of the slices.
    systematic_percent : float
        Systematic error of the spectral fit, in percent of each energy bin, that the errors of
        the counts include.
    livetime_from : str
        "the events" where their file told the livetime; "" where it was given, or is not known.
    split : str
        The axes along which it was split; "" if it was not.
    recipe : mapping
        Options that make a template of the same kind elsewhere; see `TemplateOptions.recipe`.
    control : ControlRanges or None
        What control ranges said of it, where it was validated.
    measured_percent : float
        Systematic error of the first component that control ranges measured, where the errors of
        the counts include it: it is larger than that of the spectral fit.
    hidden_percent : float
        What lines that the mask hides may add, root mean square, where the errors of the counts
        include it.
    time_course : TimeCourse or None
        Of ``norms="per_time"``.
    line_spread : LineSpread or None
        Of ``lines="spread"``; none after a split.
    notes : tuple of str
    """

    method: str
    filter: str = "no filter"
    filter_scores: tuple[FilterScore, ...] = ()
    method_scores: tuple[MethodScore, ...] = ()
    pooled_slices: int = 0
    pooling_moved_percent: float = 0.0
    order: int | None = None
    tracers: tuple[float, ...] = ()
    line_ratio: LineRatio | None = None
    line_share: float | None = None
    shift: bool = False
    sky_norm: tuple[float, float] | None = None
    sky_norm_removed: float = 0.0
    systematic_percent: float = 0.0
    livetime_from: str = ""
    split: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    control: ControlRanges | None = None
    measured_percent: float = 0.0
    hidden_percent: float = 0.0
    time_course: TimeCourse | None = None
    line_spread: LineSpread | None = None
    notes: tuple[str, ...] = ()

    def with_control(self, control: ControlRanges, measured: float, hidden: float) -> Record:
        """The same with control ranges, and what the errors include of them, as fractions."""
        return replace(
            self,
            control=control,
            measured_percent=100.0 * measured,
            hidden_percent=100.0 * hidden,
        )

    def to_details(self) -> dict[str, Any]:
        """What a file holds of it beside method and notes; what does not apply is left out."""
        details: dict[str, Any] = {
            "filter": self.filter,
            "pooled_slices": self.pooled_slices,
            "systematic_percent": self.systematic_percent,
        }
        if self.line_ratio is not None:
            details["line_ratio"] = asdict(self.line_ratio) | {"share_in_range": self.line_share}
        if self.order is not None:
            details["order"] = self.order
        if self.control is not None:
            details["control_ranges"] = self.control.to_dict()
        if self.time_course is not None:
            details["time_course"] = self.time_course.to_dict()
        if self.line_spread is not None:
            details["line_spread"] = self.line_spread.to_dict()
        rest: dict[str, Any] = {
            name: [asdict(score) for score in getattr(self, name)]
            for name in ("filter_scores", "method_scores")
        }
        rest |= {"tracers": list(self.tracers), "sky_norm": list(self.sky_norm or ())}
        rest |= {"recipe": dict(self.recipe)}
        names = ("pooling_moved_percent", "shift", "sky_norm_removed", "livetime_from", "split")
        errors = ("measured_percent", "hidden_percent")
        rest |= {name: getattr(self, name) for name in (*names, *errors)}
        return details | {name: value for name, value in rest.items() if value}

    @classmethod
    def from_details(cls, method: str, details: Any, notes: Sequence[Any]) -> Record:
        """From what a file holds, which may be anything.

        Raises
        ------
        ValueError, KeyError, TypeError, TemplateError
            If that is not what `to_details` makes.
        """
        details = checks.mapping(details, "details")
        ratio, share = _ratio(details.get("line_ratio"))
        order = details.get("order")
        sky_norm = None
        if "sky_norm" in details:
            value, error = checks.numbers(details["sky_norm"], "sky_norm", (2,)).tolist()
            sky_norm = value, error
        return cls(
            method,
            filter=checks.text(details.get("filter", "no filter"), "filter"),
            filter_scores=tuple(_score(row) for row in details.get("filter_scores", ())),
            method_scores=tuple(
                MethodScore(
                    checks.text(row["method"], "a method"),
                    checks.number(row["score"], "the score of a method"),
                )
                for row in details.get("method_scores", ())
            ),
            pooled_slices=_whole(details.get("pooled_slices", 0), "pooled_slices"),
            pooling_moved_percent=checks.number(
                details.get("pooling_moved_percent", 0.0), "pooling_moved_percent", 0.0
            ),
            order=None if order is None else _whole(order, "order"),
            tracers=tuple(
                checks.numbers(list(details.get("tracers", ())), "tracers", (None,)).tolist()
            ),
            line_ratio=ratio,
            line_share=share,
            shift=checks.truth(details.get("shift", False), "shift"),
            sky_norm=sky_norm,
            sky_norm_removed=checks.number(
                details.get("sky_norm_removed", 0.0), "sky_norm_removed"
            ),
            systematic_percent=checks.number(
                details.get("systematic_percent", 0.0), "systematic_percent", 0.0
            ),
            livetime_from=checks.text(details.get("livetime_from", ""), "livetime_from"),
            split=checks.text(details.get("split", ""), "split"),
            recipe=_recipe(method, details.get("recipe", {})),
            control=(
                ControlRanges.from_dict(details["control_ranges"])
                if "control_ranges" in details
                else None
            ),
            measured_percent=checks.number(
                details.get("measured_percent", 0.0), "measured_percent", 0.0
            ),
            hidden_percent=checks.number(details.get("hidden_percent", 0.0), "hidden_percent", 0.0),
            time_course=(
                TimeCourse.from_dict(details["time_course"]) if "time_course" in details else None
            ),
            line_spread=(
                LineSpread.from_dict(details["line_spread"]) if "line_spread" in details else None
            ),
            notes=tuple(checks.text(note, "a note") for note in notes),
        )


def _recipe(method: str, value: Any) -> dict[str, Any]:
    """The options of a file, which must be such."""
    recipe = dict(checks.mapping(value, "recipe"))
    known = {option.name for option in fields(TemplateOptions)}
    if not set(recipe) <= known:
        raise ValueError(f"recipe has the options {listed(recipe)}")
    if method == "sideband" and not recipe.keys() & {"sidebands", "reach"}:
        return {}
    TemplateOptions(method=method, **recipe)
    return recipe


def _ratio(value: Any) -> tuple[LineRatio | None, float | None]:
    """The line ratio of a file, and its share in the source range."""
    if value is None:
        return None, None
    row: Mapping[str, Any] = checks.mapping(value, "line_ratio")
    line, tracer, error = (
        checks.number(row[name], f"{name} of line_ratio") for name in ("line", "tracer", "error")
    )
    ratio = None if row["value"] is None else checks.number(row["value"], "value of line_ratio")
    share = checks.number(row["share_in_range"], "share_in_range of line_ratio", 0.0, 1.0)
    return LineRatio(line, tracer, ratio, error), share


def _score(row: Any) -> FilterScore:
    row = checks.mapping(row, "a score")
    name = checks.text(row["filter"], "a filter")
    return FilterScore(name, checks.number(row["score"], f"the score of {name}"))


def _whole(value: Any, what: str) -> int:
    number = checks.number(value, what, 0.0)
    if number != int(number):
        raise ValueError(f"{what} is {number:g}, but must be a whole number")
    return int(number)
