"""What a search for lines has found: as objects, as a model, as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scipy.special import log_ndtr

from ..errors import ModelError
from ..fit.result import LineBackgroundFit
from ..io.tables import DASH, Column, format_value, make_table, to_html
from ..model.spec import numerical_model, spectrum_parts
from ..spectrum.components import SpectralModel
from ..units import to_kev
from .calibration import EnergyScale, scale_notes
from .identify import IdentifiedLine

if TYPE_CHECKING:
    from astromodels import Model
    from astropy.table import Table


@dataclass(frozen=True)
class FoundLine(IdentifiedLine):
    """A line that `find_lines` found; it may stand among the lines of a `background_model`.

    Attributes
    ----------
    parameter, energy, error, matches
        See `IdentifiedLine`; the error is None for an energy fixed to the catalogue.
    counts, counts_error : float
    significance : float
        Square root of TS, the gain in deviance over the refit without this line: the significance
        at an energy known beforehand.
    global_significance : float
        The same with the chance counted that a candidate may turn up at any energy.
    window : (low, high), keV
        Where the last fit let the line move.
    described : bool
        Whether the fit describes the counts around the line; where it does not, significances say
        nothing, and tables and files leave them out.
    """

    counts: float
    counts_error: float | None
    significance: float
    global_significance: float
    window: tuple[float, float]
    described: bool = True

    @property
    def global_p_value(self) -> float:
        """Chance of such a line anywhere in a spectrum without it."""
        return math.exp(float(log_ndtr(-self.global_significance)))


@dataclass(frozen=True, repr=False)
class LineSearch:
    """What `find_lines` found.

    Attributes
    ----------
    lines : tuple of FoundLine
        In order of energy.
    fit : LineBackgroundFit
        The continuum and all lines.
    false_alarm : float
        Chance of a false line in a spectrum without further lines.
    threshold : float
        The local significance that this asks of a line.
    stopped : str
        Why no further line was added.
    notes : tuple of str
        What a user must know.
    form : dict
        The continuum and the lines' common shape, as arguments of `background_model`.
    scale : EnergyScale or None
        That the names go by, if they were asked to be calibrated and enough lines tell it.
    calibrated : bool
        Whether that was asked for.
    """

    lines: tuple[FoundLine, ...]
    fit: LineBackgroundFit
    false_alarm: float
    threshold: float
    stopped: str
    notes: tuple[str, ...] = ()
    form: Mapping[str, Any] = field(default_factory=dict)
    scale: EnergyScale | None = None
    calibrated: bool = False

    def model(self, *, pivot: Any = None, source: str | None = None) -> Model:
        """The astromodels model of the fit, its values set, ready for any threeML session.

        Parameters
        ----------
        pivot : Quantity or float, optional
            Pivot energy of the continuum (keV); default: that of the search, and the only one that
            a `powerlaw_polynomial` can have.
        source : str, optional
            See `background_model`.
        """
        from ..model.build import DEFAULT_SOURCE, background_model

        numbers = self.numerical_model(pivot=pivot)
        source = DEFAULT_SOURCE if source is None else source
        pivot = self._pivot(pivot)
        model = background_model(self._given(), pivot=pivot, source=source, **self.form)
        shape = getattr(model, source).spectrum.main.shape
        for parameter in numbers.parameters:
            target = shape.parameters[parameter.name]
            target.value, target.free = parameter.value, parameter.free
        return model

    def numerical_model(self, *, pivot: Any = None) -> SpectralModel:
        """The same model in numbers, which needs no astromodels.

        Parameters
        ----------
        pivot : Quantity or float, optional
            As of `model`.
        """
        values, found = self.fit.values, {p.name: p for p in self.fit.model.parameters}
        pivot = self._pivot(pivot)
        suffix = "_1" if self.lines else ""
        old = values[f"piv{suffix}"]
        if pivot != old:
            index = "alpha" if self.form.get("continuum") == "broken_powerlaw" else "index"
            values[f"K{suffix}"] *= (pivot / old) ** values[f"{index}{suffix}"]
            values[f"piv{suffix}"] = pivot
        model = numerical_model(spectrum_parts(self._given(), pivot=pivot, **self.form))
        parameters = tuple(
            replace(p, value=values[p.name], free=found[p.name].free) for p in model.parameters
        )
        return replace(model, parameters=parameters)

    def _given(self) -> list[dict[str, Any]]:
        """The lines as `background_model` takes them, with two parts where the fit has these."""
        kinds = [self.fit.model.components[i].kind for i in self.fit.model.lines]
        return [
            {
                "energy": line.energy,
                "window": line.window,
                "width": "annihilation" if kind == "annihilation" else None,
            }
            for line, kind in zip(self.lines, kinds, strict=True)
        ]

    def _pivot(self, pivot: Any) -> float:
        """The pivot [keV] of the model handed on.

        Raises
        ------
        ModelError
            If the continuum cannot be written with another one.
        """
        own = self.fit.values["piv_1" if self.lines else "piv"]
        pivot = own if pivot is None else to_kev(pivot)
        if pivot != own and self.form.get("continuum") == "powerlaw_polynomial":
            raise ModelError(
                f"A polynomial about {own:g} keV is none about {pivot:g} keV; give pivot= to "
                "find_lines."
            )
        return float(pivot)

    def to_dict(self) -> dict[str, Any]:
        """What was found as plain Python types, ready for JSON."""
        return {
            "false_alarm": self.false_alarm,
            "threshold": self.threshold,
            "stopped": self.stopped,
            "notes": [*self.notes, *scale_notes(self.scale, self.calibrated)],
            "lines": [
                {
                    "parameter": x.parameter,
                    "energy": x.energy,
                    "error": x.error,
                    "counts": x.counts,
                    "counts_error": x.counts_error,
                    "significance": x.significance if x.described else None,
                    "global_significance": x.global_significance if x.described else None,
                    "name": x.name,
                    "catalogue": [
                        {"isotope": m.line.isotope, "energy": m.line.energy}
                        for m in x.matches
                        if m.agrees
                    ],
                }
                for x in self.lines
            ],
        }

    def __repr__(self) -> str:
        n = len(self.lines)
        return (
            f"LineSearch({n} line{'' if n == 1 else 's'} above {self.threshold:.2f} sigma, chance "
            f"of a false one {self.false_alarm:.2g})"
        )

    def __str__(self) -> str:
        return f"{search_table(self.to_dict())}\n{self.fit.summary()}"

    def _repr_html_(self) -> str:
        rows = [
            (
                format_value(x.energy, x.error),
                format_value(x.counts, x.counts_error),
                f"{x.significance:.1f}" if x.described else DASH,
                f"{x.global_significance:.1f}" if x.described else DASH,
                x.name or DASH,
            )
            for x in self.lines
        ]
        heads = ("energy [keV]", "counts", "local [sigma]", "global [sigma]", "name")
        return to_html(repr(self), heads, rows, [f"{self.stopped}.", *self.to_dict()["notes"]])

    def to_table(self) -> Table:
        """The lines as an astropy table, whose ``write`` knows LaTeX, CSV and ECSV."""
        found, rows = self.lines, self.to_dict()["lines"]
        return make_table(
            [
                Column("parameter", [x.parameter for x in found], "", "that holds the energy"),
                Column("energy", [x.energy for x in found], "keV"),
                Column("energy_error", [x.error for x in found], "keV", "standard error"),
                Column("counts", [x.counts for x in found], "ct", "area of the peak"),
                Column("counts_error", [x.counts_error for x in found], "ct", "standard error"),
                Column("significance", [x["significance"] for x in rows], "", "local, sigma"),
                Column("global_significance", [x["global_significance"] for x in rows]),
                Column("name", [x.name for x in found], "", "of the likeliest nuclide"),
            ],
            false_alarm=self.false_alarm,
            threshold=self.threshold,
        )


def search_table(search: Mapping[str, Any]) -> str:
    """A search as text, from `LineSearch.to_dict` or the key "line_search" of a fit.json."""
    lines = search["lines"]
    text = []
    if lines:
        text.append(
            f"{'energy [keV]':<18} {'counts':>15} {'local':>6} {'global':>6}  {'name':<6} "
            "catalogue [keV]"
        )
    for x in lines:
        energy = f"{x['energy']:.2f} " + ("fixed" if x["error"] is None else f"± {x['error']:.2f}")
        counts = f"{x['counts']:.0f} ± {x['counts_error'] or 0.0:.0f}"
        rows = ", ".join(f"{m['isotope']} {m['energy']:.2f}" for m in x["catalogue"])
        local, overall = (
            "-" if x[key] is None else f"{x[key]:.1f}"
            for key in ("significance", "global_significance")
        )
        text.append(
            f"{energy:<18} {counts:>15} {local:>6} {overall:>6}  {x['name'] or '-':<6} "
            f"{rows or '-'}"
        )
    if any(x["significance"] is None for x in lines):
        text.append(
            "a dash in place of a significance: the fit does not describe what is around the line"
        )
    number = {0: "no line", 1: "1 line"}.get(len(lines), f"{len(lines)} lines")
    text.append(
        f"{number} found above {search['threshold']:.2f} sigma, the chance of a false one anywhere "
        f"being {search['false_alarm']:.2g}; {search['stopped']}."
    )
    return "\n".join([*text, *(f"note: {note}" for note in search["notes"])])
