"""A fit as JSON: what is written, and the schema that a file is read by (imported on use only)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import ValidationInfo

from ..io import checks
from ..io.guard import brief, finite_or_null, number_or_null, parse_json, reading
from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import N_NODES, ROLES, Component, Parameter, SpectralModel, tabulate
from ..spectrum.laws import FUNCTIONS, Law
from ..spectrum.priors import FUNCTIONS as PRIORS
from ..spectrum.priors import Prior
from ..units import in_kev
from .numbers import FaintLine, FaintLines, FitNumbers

FORMAT = "cosi-linebkg fit 1"

#: Parameters times bins of a fit in a file: it is evaluated with derivatives, for each component
#: in turn. A fit of 100 lines to 4,000 bins has 8e5, and 200 components.
_MAX_VALUES = 20_000_000

_CURE = f'Give the fit.json of a run; its "format" should be "{FORMAT}".'

Fit = TypeVar("Fit", bound=FitNumbers)

# --- writing --------------------------------------------------------------------------------------


def to_dict(fit: FitNumbers, source_range: Sequence[Any] | None = None) -> dict[str, Any]:
    """A fit as plain Python types, ready for JSON; see `LineBackgroundFit.to_dict`."""
    spectrum = fit.spectrum
    model = tabulate(fit.model, fit.theta, spectrum.edges)
    out: dict[str, Any] = {
        "format": FORMAT,
        "valid": fit.valid,
        "message": fit.message,
        "engine": fit.engine,
        "deviance": fit.deviance,
        "dof": fit.dof,
        "p_value": fit.p_value,
        "log_likelihood": fit.log_likelihood,
        "adequacy": None if fit.adequacy is None else fit.adequacy.to_dict(),
        **({} if fit.toys is None else {"toys": list(fit.toys)}),
        **({"shared_with": list(fit.shared_with)} if fit.shared_with else {}),
        "mask": [list(r) for r in fit.mask],
        "parameters": _parameter_rows(fit, model),
        "covariance": {
            "names": list(fit.covariance_names),
            # JSON knows no NaN: what a failed fit could not find is null
            "matrix": finite_or_null(fit.covariance),
        },
        "at_limits": list(fit.at_limits),
        "n_calls": fit.n_calls,
        "components": _component_rows(model),
        "spectrum": {
            "energy_edges": spectrum.edges.tolist(),
            "counts": spectrum.counts.tolist(),
            "mask": spectrum.mask.tolist(),
            **({} if fit.offset is None else {"offset": fit.offset.tolist()}),
        },
        "versions": dict(fit.versions),
    }
    if fit.line_search is not None:
        out["line_search"] = dict(fit.line_search)
    if fit.faint is not None:
        out["faint_lines"] = _faint_row(fit.faint)
    if fit.samples is not None:
        out["samples"] = {"names": fit.free_names, "values": fit.samples.tolist()}
    if source_range is not None:
        low, high = in_kev(source_range)
        counts = fit.expected_counts((low, high))
        out["source_range"] = [low, high]
        out["source_counts"] = {
            label: {"value": float(v), "error": float(e)}
            for label, v, e in zip(counts.labels, counts.values, counts.errors, strict=True)
        }
    return out


def _parameter_rows(fit: FitNumbers, model: SpectralModel) -> dict[str, dict[str, Any]]:
    laws = {
        model.names[slot]: {
            "of": model.names[source],
            "function": law.name,
            "values": list(law.at(fit.theta).values),
            **({"tangent": True} if law.tangent else {}),
            **({"parameters": [model.names[i] for i in law.slots]} if law.slots else {}),
        }
        for slot, source, law in model.derived
    }
    return {
        name: {
            "value": p.value,
            "error": number_or_null(p.error),
            "unit": p.unit,
            "free": p.free,
            "limits": [number_or_null(p.low), number_or_null(p.high)],
            **({"link": p.link} if p.link else {}),
            **({"law": laws[name]} if name in laws else {}),
            **({"prior": _prior_row(p.prior)} if p.prior else {}),
            **({"minos": list(p.minos)} if p.minos else {}),
        }
        for name, p in fit.parameters.items()
    }


def _faint_row(faint: FaintLines) -> dict[str, Any]:
    return {
        "lines": [{"energy": x.energy, "name": x.name, "counts": x.counts} for x in faint.lines],
        "effective": faint.effective,
        "range": list(faint.where),
        "continuum_without": dict(zip(("value", "error"), faint.before, strict=True)),
        "continuum_with": dict(zip(("value", "error"), faint.after, strict=True)),
    }


def _prior_row(prior: Prior) -> dict[str, Any]:
    return {"function": prior.name, "values": [number_or_null(x) for x in prior.values]}


def _component_rows(model: SpectralModel) -> list[dict[str, Any]]:
    return [
        {
            "kind": c.kind,
            "label": c.label,
            "parameters": [model.parameters[i].name for i in c.slots],
            **({"table": c.table.tolist()} if c.table is not None else {}),
            **({"faint": True} if c.faint else {}),
        }
        for c in model.components
    ]


# --- reading --------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """The text of a file of a fit."""
    with reading(path, "cannot be read", _CURE):
        return path.read_text(encoding="utf-8")


def fit_from_text(kind: type[Fit], text: str, where: str) -> Fit:
    """A fit of the class `kind` from JSON text; `where` it comes from is for the message."""
    with reading(where, "is not JSON", _CURE):
        data = parse_json(text)
    with reading(where, "is no fit of this package, or damaged", _CURE), np.errstate(all="ignore"):
        fit = kind(**fields_of(data))
        if fit.valid and not np.isfinite([*fit.expected_total, fit.deviance]).all():
            raise ValueError("its parameters give no finite counts")
        if fit.adequacy is not None:  # a fit that cannot be judged in numbers is none
            json.dumps(fit.adequacy.to_dict(), allow_nan=False)
    return fit


def fields_of(data: Any) -> dict[str, Any]:
    """What `FitNumbers` takes, from what `to_dict` gives.

    Raises
    ------
    ValueError
        Naming the first value that is not what it must be.
    """
    if checks.mapping(data, "it").get("format") != FORMAT:
        raise ValueError(f'its format is "{brief(data.get("format"), 60)}"')
    try:
        file = FitFile.model_validate(dict(data))
    except pydantic.ValidationError as error:
        raise ValueError(_first_problem(error)) from None
    return file.fields() | {"line_search": data.get("line_search")}  # checked, and kept as it is


def _first_problem(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(brief(x, 60) for x in first["loc"])
    if first["type"] == "missing":
        return f"{where!r} is missing"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def _name(info: ValidationInfo) -> str:
    return str(info.field_name)


def _numbers(*shape: int | None) -> pydantic.PlainValidator:
    return pydantic.PlainValidator(lambda x, info: checks.numbers(x, _name(info), shape))


Number = Annotated[float, pydantic.PlainValidator(lambda x, info: checks.number(x, _name(info)))]
Chance = Annotated[
    float, pydantic.PlainValidator(lambda x, info: checks.number(x, _name(info), 0, 1))
]
Text = Annotated[str, pydantic.PlainValidator(lambda x, info: checks.text(x, _name(info)))]
Texts = Annotated[
    tuple[str, ...], pydantic.PlainValidator(lambda x, info: checks.texts(x, _name(info)))
]
Truth = Annotated[bool, pydantic.PlainValidator(lambda x, info: checks.truth(x, _name(info)))]
Vector = Annotated[NDArray[np.float64], _numbers(None)]
Pair = Annotated[NDArray[np.float64], _numbers(2)]


class _Row(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True, frozen=True)


class LawRow(_Row):
    """The law by which a parameter follows another one; `spectrum.laws.FUNCTIONS`."""

    of: Text
    function: Text
    values: list[Number]
    tangent: Truth = False
    parameters: list[Text] = []

    @property
    def follows(self) -> tuple[str, ...]:
        """All parameters whose values it takes."""
        return (self.of, *self.parameters)

    def law(self, slots: Mapping[str, int]) -> Law:
        """The law, evaluated without astromodels; `slots` of the parameters by name."""
        checks.text(self.function, "the function of a law", FUNCTIONS)
        if len(self.values) != len(FUNCTIONS[self.function][0]):
            raise ValueError(f"{self.function} has {len(FUNCTIONS[self.function][0])} values")
        if not self.parameters:
            return Law(self.function, tuple(self.values), tangent=self.tangent)
        if len(self.parameters) != len(self.values):
            raise ValueError(f"{self.function} has {len(self.values)} parameters")
        names = [checks.text(x, "a parameter of a law", slots) for x in self.parameters]
        return Law(self.function, slots=tuple(slots[name] for name in names))


class PriorRow(_Row):
    """A prior; one that is none of `spectrum.priors.FUNCTIONS` is known by its name alone."""

    function: Text
    values: list[Number | None]

    def prior(self) -> Prior:
        """The prior, evaluated without astromodels."""
        if brief(self.function, 100) != self.function:
            raise ValueError(f"a prior has the name {brief(self.function)!r}")
        names = PRIORS.get(self.function, ())
        if len(self.values) != len(names):
            raise ValueError(f"the prior {self.function} has {len(names)} values")
        limits = {"lower_bound": -math.inf, "upper_bound": math.inf}
        given = [
            limits.get(name, math.nan) if x is None else x
            for name, x in zip(names, self.values, strict=True)
        ]
        prior = Prior(self.function, tuple(given))
        widths = [x for name, x in zip(names, given, strict=True) if name in ("sigma", "piv")]
        low, high = prior.support
        if math.isnan(sum(widths)) or min(widths, default=1.0) <= 0 or not low < high:
            raise ValueError(f"the prior {self.function} has no width")
        return prior


class ParameterRow(_Row):
    """One of "parameters": free, fixed, linked to another one, or following it by a law."""

    value: Number
    unit: Text
    free: Truth
    limits: tuple[Number | None, Number | None]
    link: Text | None = None
    law: LawRow | None = None
    prior: PriorRow | None = None
    minos: Pair | None = None

    def parameter(self, name: str) -> Parameter:
        """The parameter of this name, which figures show."""
        if brief(name, 100) != name or "$" in name:
            raise ValueError(f"a parameter has the name {brief(name)!r}")
        low, high = self.limits
        return Parameter(
            name,
            self.value,
            self.unit,
            -math.inf if low is None else low,
            math.inf if high is None else high,
            self.free,
            None if self.prior is None else self.prior.prior(),
        )


class ComponentRow(_Row):
    """One of "components"; "table" is the density of a function, and its derivatives."""

    kind: Text
    parameters: list[Text]
    table: Any = None
    faint: Truth = False

    def component(self, slots: Mapping[str, int], n_bins: int) -> Component:
        """The component; `slots` are those of the parameters by name."""
        checks.text(self.kind, "the kind of a component", [*ROLES, "function"])
        own = tuple(
            slots[checks.text(name, f"a parameter of {self.kind}", slots)]
            for name in self.parameters
        )
        if self.kind == "function":
            shape = (1 + len(own), n_bins, N_NODES)
            return Component(self.kind, own, table=checks.numbers(self.table, "a table", shape))
        roles = ROLES[self.kind]
        if len(own) != len(roles) or self.table is not None:
            raise ValueError(f"{self.kind} has the parameters {', '.join(roles)}, and no table")
        component = Component(self.kind, own, faint=self.faint)
        if self.faint and not component.is_line:
            raise ValueError(f"{self.kind} is no line, and faint")
        return component


class CovarianceRow(_Row):
    """The covariance of the free parameters that sit on no limit."""

    names: Any
    matrix: Any


class SpectrumRow(_Row):
    """The energy spectrum and its mask."""

    energy_edges: Vector
    counts: Vector
    mask: list[Truth]
    offset: Any = None


class SamplesRow(_Row):
    """Posterior samples of the free parameters."""

    values: Any


class CatalogueRow(_Row):
    """A row of the catalogue that agrees with a found line."""

    isotope: Text
    energy: Number


class FoundLineRow(_Row):
    """One of the lines of "line_search"."""

    parameter: Text
    name: Text
    energy: Number
    counts: Number
    significance: Number | None
    global_significance: Number | None
    error: Number | None
    counts_error: Number | None
    catalogue: list[CatalogueRow]


class LineSearchRow(_Row):
    """A line search, as `LineSearch.to_dict` gives it."""

    false_alarm: Number
    threshold: Number
    stopped: Text
    notes: Texts
    lines: list[FoundLineRow]


class FaintLineRow(_Row):
    """One of the lines of "faint_lines"."""

    energy: Number
    name: Text
    counts: Number | None = None


class CountsRow(_Row):
    """Counts with their error."""

    value: Number
    error: Number


class FaintLinesRow(_Row):
    """Lines that may be there, and what they do."""

    lines: list[FaintLineRow]
    effective: Number
    range: Pair
    continuum_without: CountsRow
    continuum_with: CountsRow

    def faint(self, model: SpectralModel) -> FaintLines:
        """The record of the faint lines of a model."""
        if len(self.lines) < len(model.faint):
            raise ValueError(f"{len(self.lines)} faint lines, the model has {len(model.faint)}")
        for row in self.lines:
            if brief(row.name, 100) != row.name:
                raise ValueError(f"a faint line has the name {brief(row.name)!r}")
        if not 0 <= self.effective <= len(model.faint):
            raise ValueError("effective is no number of parameters")
        low, high = self.range.tolist()
        if not low < high:
            raise ValueError("the range of the faint lines is empty")
        without, within = self.continuum_without, self.continuum_with
        return FaintLines(
            tuple(FaintLine(x.energy, x.name, x.counts) for x in self.lines),
            self.effective,
            (low, high),
            (without.value, without.error),
            (within.value, within.error),
        )


class FitFile(_Row):
    """What a fit is made of in a file; deviance, adequacy ... are computed from it anew."""

    valid: Truth
    message: Text
    engine: Text
    parameters: dict[str, ParameterRow]
    covariance: CovarianceRow
    at_limits: Any
    n_calls: Number
    components: list[ComponentRow]
    spectrum: SpectrumRow
    versions: dict[str, Text]
    samples: SamplesRow | None = None
    toys: tuple[Chance, Number] | None = None
    shared_with: Any = []
    line_search: LineSearchRow | None = None
    faint_lines: FaintLinesRow | None = None

    def fields(self) -> dict[str, Any]:
        """What `FitNumbers` takes, but for the line search."""
        rows = self.parameters
        own = [name for name, row in rows.items() if row.link is None]
        links = {
            name: checks.text(row.link, f"the link of {name}", own)
            for name, row in rows.items()
            if row.link is not None
        }
        self._require_possible(len(own))
        n_bins = self.spectrum.counts.size
        slots = {name: i for i, name in enumerate(own)}
        model = SpectralModel(
            tuple(rows[name].parameter(name) for name in own),
            tuple(c.component(slots, n_bins) for c in self.components),
            links,
            self._derived(slots),
        )
        free = [p.name for p in model.parameters if p.free]
        faint = self._faint(model)
        areas = [model.names[model.components[i].area] for i in model.faint]
        names, covariance = self._covariance([*free, *areas])
        samples, offset = self.samples, self.spectrum.offset
        return {
            "model": model,
            "spectrum": EnergySpectrum(
                self.spectrum.energy_edges, self.spectrum.counts, np.array(self.spectrum.mask, bool)
            ),
            "theta": model.values,
            "covariance_names": names,
            "covariance": covariance,
            "valid": self.valid,
            "engine": self.engine,
            "message": self.message,
            "at_limits": checks.texts(self.at_limits, "at_limits", own),
            "minos": {
                name: tuple(row.minos.tolist())
                for name, row in rows.items()
                if row.minos is not None
            },
            "samples": None
            if samples is None
            else checks.numbers(samples.values, "samples", (None, len(free))),
            "n_calls": int(self.n_calls),
            "offset": None if offset is None else checks.numbers(offset, "the offset", (n_bins,)),
            "toys": None if self.toys is None else (self.toys[0], int(self.toys[1])),
            "faint": faint,
            "shared_with": tuple(checks.texts(self.shared_with, "shared_with")),
            "versions": dict(self.versions),
        }

    def _faint(self, model: SpectralModel) -> FaintLines | None:
        """The record of faint lines, whose parameters must be the model's last ones."""
        if self.faint_lines is None:
            if model.faint:
                raise ValueError("components are faint, and faint_lines is missing")
            return None
        areas = [model.components[i].area for i in model.faint]
        others = [slot for c in model.components if not c.faint for slot in c.slots]
        if areas and min(areas) <= max(others, default=-1):
            raise ValueError("the parameters of faint lines are not the last ones")
        if areas and any(p.free for p in model.parameters[min(areas) :]):
            raise ValueError("a parameter of a faint line is free")
        return self.faint_lines.faint(model)

    def _derived(self, slots: Mapping[str, int]) -> tuple[tuple[int, int, Law], ...]:
        """Which parameter follows which by a law; what others follow comes first."""
        laws = {name: row.law for name, row in self.parameters.items() if row.law is not None}
        found: list[tuple[int, int, Law]] = []
        waiting = dict(laws)
        while waiting:
            ready = [
                name for name, law in waiting.items() if waiting.keys().isdisjoint(law.follows)
            ]
            if not ready:
                raise ValueError(f"the laws of {', '.join(waiting)} follow each other")
            for name in ready:
                law = waiting.pop(name)
                checks.text(law.of, f"what {name} follows", slots)
                if name not in slots or self.parameters[name].free:
                    raise ValueError(f"{name} is free or linked, and follows a law")
                found.append((slots[name], slots[law.of], law.law(slots)))
        return tuple(found)

    def _require_possible(self, n_parameters: int) -> None:
        """Refuse what would unfold to gigabytes."""
        n_bins, n_components = self.spectrum.counts.size, len(self.components)
        n_values = n_parameters * n_bins
        if n_values > _MAX_VALUES or n_components * n_values > 50 * _MAX_VALUES:
            raise ValueError(
                f"{n_components} components, {n_parameters} parameters and {n_bins} bins are "
                "more derivatives than a fit has"
            )

    def _covariance(self, free: list[str]) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Names and matrix; of a fit that is not valid whatever was found."""
        names = checks.texts(self.covariance.names, "names of the covariance", free)
        n = len(names)
        if self.valid:
            return names, checks.covariance(self.covariance.matrix, "the covariance", n)
        return names, checks.numbers(self.covariance.matrix, "the covariance", (n, n), np.nan)
