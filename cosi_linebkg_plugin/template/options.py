"""How a template is made: every option, declared once, and checked against the others.

The configuration's section ``template`` and the keywords of
`LineBackgroundLike.background_template` are made from these fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BinningError, TemplateError
from ..options import Option, about, options_of
from ..spectrum.axis import check_edges, spaced_edges
from ..units import in_kev, in_unit, to_kev

if TYPE_CHECKING:
    from .filters import Filter

#: How energies may be weighted; the first is the default.
METHODS = ("components", "interpolated", "sideband")

#: Energy bins of a template: at most, and how wide at least [keV]. In narrower ones the integrals
#: of the spectrum are differences of nearly equal numbers.
MOST_BINS, NARROWEST_BIN = 500, 1e-3

#: Stands for the one of them that predicts control ranges best.
AUTO = "auto"

#: Options of one source range and its data. All others are the recipe, which control ranges are
#: tried with; method and line ratio, and the filter that was chosen, are kept beside it.
OF_THE_RANGE = (
    "method", "line_ratio", "smoothing", "like", "energy_edges", "sky", "observed", "livetime",
    "validate",
)  # fmt: skip


@dataclass(frozen=True)
class TemplateOptions:
    """How a template is made; the fields are keywords of `LineBackgroundLike.background_template`.

    Energies are quantities, or numbers in keV. They are checked among themselves when it is made.
    """

    method: str = field(
        default=METHODS[0],
        metadata=about(
            '"components" takes the continuum and the instrumental lines apart, each with a norm '
            'of its own. "interpolated" takes the least-noise weights that are right for a '
            'distribution that changes linearly with energy. "sideband" adds up the sidebands (the '
            'tutorial\'s method). "auto" takes the method, order and energies that predict control '
            "ranges best.",
            "choice",
            choices=(*METHODS, AUTO),
        ),
    )
    sidebands: Sequence[Sequence[Any]] | None = field(
        default=None,
        metadata=about(
            'Energies to take, the whole bins inside each. "sideband" needs them; "interpolated" '
            "takes every unmasked bin outside the source range by default.",
            "ranges",
            "keV",
        ),
    )
    window: Sequence[Any] | None = field(
        default=None,
        metadata=about(
            'Energies from which "components" are taken; default: 80 keV to either side.',
            "range",
            "keV",
        ),
    )
    reach: float | None = field(
        default=None,
        metadata=about(
            "Take energies up to this far from the source range and the mask around it, for any "
            "method. Not with window or sidebands.",
            "width",
            "keV",
        ),
    )
    avoid_lines: bool = field(
        default=False,
        metadata=about(
            'Leave out energy bins of which fitted lines make up 5 % or more ("interpolated" and '
            '"sideband").',
            "flag",
        ),
    )
    order: int = field(
        default=1,
        metadata=about(
            'Degree in energy of the change of the continuum\'s distribution ("components").',
            "count",
            accepts="0, 1 or 2",
            limits=(0, 2),
        ),
    )
    tracers: Sequence[Any] | None = field(
        default=None,
        metadata=about(
            'Fitted lines that "lines" takes its distribution from; default: those within 100 keV '
            "of the source range.",
            "energies",
            "keV",
        ),
    )
    line_ratio: Any = field(
        default=None,
        metadata=about(
            "Keys line, tracer, value, error: counts of an instrumental line inside the source "
            "range, from a fitted line of the same origin. Without value the amount is not known, "
            "but the distribution of the line's energies is.",
            "ratio",
        ),
    )
    smoothing: str | None = field(
        default=None,
        metadata=about(
            "Half of the counts choose the filter that predicts the other half best (auto), or "
            "there is none. The commands run and template take auto where no filter is given.",
            "choice",
            choices=("auto", "none"),
        ),
    )
    smoothing_fwhm: float | None = field(
        default=None,
        metadata=about(
            "Full width at half maximum of a Gaussian that smooths PsiChi. Not with l_cut.",
            "width",
            "deg",
            accepts="Quantity or float, deg, optional",
        ),
    )
    l_cut: int | None = field(
        default=None,
        metadata=about("Keep the spherical harmonics of PsiChi up to this l.", "count"),
    )
    rebin_phi: int | None = field(
        default=None,
        metadata=about("Bins of Phi that share a spatial pattern; totals are kept.", "count"),
    )
    pool: int | None = field(
        default=None,
        metadata=about(
            "Bins of Time or ScAtt that share a spatial pattern; totals are kept.", "count"
        ),
    )
    like: Any = field(
        default=None,
        metadata=about(
            "A histogram whose axes (in any order) the template takes over; a bin of its Em axis, "
            "or several together, must be the source range, and the other Em bins of the template "
            "are 0. Its Phi axis may be coarser than the events'.",
            "file",
            accepts="histpy.Histogram or path, optional",
        ),
    )
    energy_edges: Any = field(
        default=None,
        metadata=about(
            "Edges of the energy bins of the template, finer or coarser than the events', from one "
            'end of the source range to the other: numbers, "low:high:width" or "low:high:Nbins"; '
            "default: one bin. Not with like.",
            "spaced",
            "keV",
            accepts='array_like, shape (n + 1,), keV; Quantity; "low:high:width", "low:high:Nbins"',
        ),
    )
    sky: Any = field(
        default=None,
        metadata=about(
            "Expected sky counts at unit norm on the events' own axes, and, as the second of a "
            "pair, on the template's: needed where the source range cuts through energy bins. The "
            "source's own photons are taken out of spectrum and slices. Needs observed.",
            "files",
            accepts="histpy.Histogram, path, or a pair of these, optional",
        ),
    )
    observed: Any = field(
        default=None,
        metadata=about(
            "Counts of the source range on the template's axes; the norms are fitted to them.",
            "file",
            accepts="histpy.Histogram or path, optional",
        ),
    )
    livetime: Any = field(
        default=None,
        metadata=about(
            'Of the events, in seconds or as "90 d"; makes the norms rates in Hz.',
            "duration",
            "s",
            accepts="Quantity or float, optional",
        ),
    )
    shift: bool = field(
        default=False,
        metadata=about(
            "Move the 511 keV features of each slice along Phi to where they are at the source "
            "energy (kinematics.shift_matrices): for sidebands far from the source range.",
            "flag",
        ),
    )

    norms: str | None = field(
        default=None,
        metadata=about(
            "The amounts of continuum and lines in each bin of the Time axis, from its spectrum "
            'with the shapes of the total fit held ("components").',
            "choice",
            choices=("per_time",),
        ),
    )

    lines: str | None = field(
        default=None,
        metadata=about(
            "Measure how much the distributions of fitted lines differ beyond noise, and let norms "
            "that are fitted with the template know that the line in the source range may differ "
            'as much ("components").',
            "choice",
            choices=("spread",),
        ),
    )

    validate: bool = field(
        default=False,
        metadata=about(
            "Try the same recipe on up to 12 control ranges, as wide as the source range, at "
            "energies left and right that hold no strong line: a measured systematic error, which "
            "the errors of the template include, and whether it may be used.",
            "flag",
        ),
    )

    @property
    def knows_hidden_line(self) -> bool:
        """Whether a line ratio tells the amount of a line in the source range."""
        return self.line_ratio is not None and self.line_ratio.value is not None

    @property
    def chooses_filter(self) -> bool:
        """Whether the filter is chosen from the data."""
        return self.smoothing == "auto"

    @cached_property
    def filter(self) -> Filter:
        """What smooths the template over PsiChi."""
        from .filters import Filter

        return Filter(self.smoothing_fwhm, self.l_cut, self.rebin_phi, self.pool)

    def elsewhere(self, chosen: Filter, **energies: Any) -> TemplateOptions:
        """The same method and recipe, with this filter and these energies, for another range."""
        changed: dict[str, Any] = {f.name: f.default for f in fields(self)}
        changed = {name: changed[name] for name in OF_THE_RANGE if name != "method"}
        return replace(self, **changed | asdict(chosen) | energies)

    def recipe(self, chosen: Filter) -> dict[str, Any]:
        """What makes a template of the same kind elsewhere, as JSON knows it; energies in keV.

        Options at their defaults are left out. The filter is the one that was chosen.
        """
        defaults = {f.name: f.default for f in fields(self)}
        names = defaults.keys() - set(OF_THE_RANGE)
        given: dict[str, Any] = {name: getattr(self, name) for name in names} | asdict(chosen)
        if self.window is not None:
            given["window"] = list(in_kev(self.window, "window"))
        if self.sidebands is not None:
            given["sidebands"] = [list(in_kev(band, "sideband")) for band in self.sidebands]
        if self.tracers is not None:
            given["tracers"] = [to_kev(energy, "tracer") for energy in self.tracers]
        return {key: given[key] for key in defaults if key in given and given[key] != defaults[key]}

    def __post_init__(self) -> None:
        from .amounts import LineRatio

        for option in options_of(type(self)).values():
            _check_type(option, getattr(self, option.name))
        if (
            type(self.order) is bool
            or not isinstance(self.order, Integral)
            or self.order not in (0, 1, 2)
        ):
            raise TemplateError(f"order must be 0, 1 or 2, got {self.order!r}.")
        if hasattr(self.smoothing_fwhm, "to_value"):
            width = in_unit(self.smoothing_fwhm, "deg", "smoothing_fwhm", TemplateError)
            object.__setattr__(self, "smoothing_fwhm", width)
        given = self.filter  # refuses what is no filter
        if self.smoothing is not None and given != type(given)():
            does = "chooses the filter itself" if self.chooses_filter else "means no filter"
            raise TemplateError(
                f"smoothing={self.smoothing!r} {does}, but {given.describe()} is given too; "
                "leave one of them out."
            )
        self._check_norms()
        if self.sky is not None and self.observed is None:
            raise TemplateError(
                "sky= needs observed=, the counts of the source range that its norm is fitted to."
            )
        self._check_energies()
        if self.method == "sideband" and self.sidebands is None and self.reach is None:
            raise TemplateError(
                "method='sideband' needs sidebands=[(low, high), ...]: the energies to add up."
            )
        object.__setattr__(self, "line_ratio", LineRatio.of(self.line_ratio))
        if self.line_ratio and not self.knows_hidden_line and self.method != METHODS[0]:
            raise TemplateError(
                "line_ratio without a value tells the energies of a line of unknown amount, which "
                f"needs a norm of its own: method='components', not {self.method!r}."
            )
        if self.energy_edges is not None:
            object.__setattr__(self, "energy_edges", _energy_edges(self.energy_edges, self.like))

    def _check_energies(self) -> None:
        """Refuse energies that are named twice, or in no way."""
        if self.reach is not None:
            reach = to_kev(self.reach, "reach")
            if not (np.isfinite(reach) and reach > 0):
                raise TemplateError(f"reach must be above 0 keV, got {reach:g}.")
            object.__setattr__(self, "reach", reach)
            if self.window is not None or self.sidebands is not None:
                raise TemplateError(
                    "reach= names the energies that window= and sidebands= name too; give one of "
                    "them."
                )
        if self.method == AUTO and self.shift:
            raise TemplateError("method='auto' cannot shift; leave out shift=, or name a method.")

    def _check_norms(self) -> None:
        """Refuse amounts per time bin, and a spread, of what is not taken apart."""
        if self.norms and self.method != METHODS[0]:
            raise TemplateError(
                "norms='per_time' takes continuum and lines apart, which method="
                f"{self.method!r} does not; use method='components'."
            )
        if self.lines and self.method != METHODS[0]:
            raise TemplateError(
                "lines='spread' needs lines apart from the continuum, which method="
                f"{self.method!r} does not take; use method='components'."
            )


def _check_type(option: Option, value: Any) -> None:
    """Refuse what an option of its kind cannot be."""
    name, optional = option.name, option.default is None
    if option.kind == "flag" and not isinstance(value, bool):
        raise TemplateError(f"{name} must be True or False, got {value!r}.")
    if optional and value is None:
        return
    if option.kind == "choice" and not (isinstance(value, str) and value in option.choices):
        *words, last = [repr(word) for word in option.choices] + ["nothing"] * optional
        cure = "; a width in degrees is smoothing_fwhm=" if name == "smoothing" else ""
        raise TemplateError(f"{name} must be {', '.join(words)} or {last}, got {value!r}{cure}.")
    if option.kind in ("ranges", "energies") and not isinstance(value, Iterable):
        raise TemplateError(f"{name} must be a list, got {value!r}.")


def _energy_edges(given: Any, like: Any) -> tuple[float, ...]:
    """Edges of a template's energy bins [keV]; the source range is compared with them later."""
    if like is not None:
        raise TemplateError(
            "energy_edges= and like= both name the energy bins of the template; leave out one of "
            "them."
        )
    try:
        edges = spaced_edges(given, MOST_BINS) if isinstance(given, str) else check_edges(given)
    except BinningError as error:
        raise TemplateError(f"energy_edges=: {error}") from error
    return tuple(checked_bins(edges, "energy_edges=").tolist())


def checked_bins(edges: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """The same edges [keV], if they are of bins that a template can have; `what` names them."""
    narrowest = int(np.argmin(np.diff(edges)))
    if edges.size - 1 > MOST_BINS:
        raise TemplateError(
            f"{what} makes {edges.size - 1} energy bins, at most {MOST_BINS}; make them wider."
        )
    if edges[narrowest + 1] - edges[narrowest] < NARROWEST_BIN:
        raise TemplateError(
            f"{what} has an energy bin of {edges[narrowest]:.10g}-{edges[narrowest + 1]:.10g} keV, "
            f"narrower than {NARROWEST_BIN:g} keV; leave out one of its edges."
        )
    return edges
