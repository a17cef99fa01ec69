"""The YAML configuration of ``cosi-linebkg run``: read, checked, and given back in full."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar

import pydantic
import yaml
from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from ..errors import ConfigError, FileError
from ..events.options import BinningJob
from ..io.yaml_file import read_yaml, spelled
from ..options import Option, options_of
from ..template.options import TemplateOptions
from ..units import factor

Engine = Literal["minuit", "joint_likelihood", "bayesian"]

#: What a region of a configuration with several may set for itself.
REGION_KEYS = ("name", "source_range", "mask", "model", "template")

_REGION_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")

#: Energies closer than this, relatively, are the same: units convert with rounding errors.
SAME_ENERGY = 1e-9

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([^\W\d_]*)\s*")

#: Characters of an energy or a time; what it takes to see that a long text is none grows as its
#: square.
_MAX_QUANTITY = 64

_ENERGY = 'an energy is a finite number above 0, in keV or with its unit ("1.8 MeV")'

_DURATION = 'a time is a finite number above 0, in s or with its unit ("90 d")'

_RANGE = "a range is [low, high], two energies with low < high"

_RANGES = "a list of ranges [[low, high], ...] is needed"

_ABOVE_ZERO = 5e-324  # the smallest number that is

_UNKNOWN = ("extra_forbidden", "invalid_key")


def _refuse(got: Any, allowed: str, *where: str | int) -> NoReturn:
    """Fail at the key under validation, or below it at `where`."""
    reason = f"got {spelled(got)}; {allowed}"
    raise PydanticCustomError("refused", "{reason}", {"reason": reason, "where": where})


def _in_unit(value: Any, unit: str, allowed: str, *where: int) -> float:
    """A positive number in `unit`, from a number or a string with or without a unit."""
    number, scale = value, 1.0
    is_short = isinstance(value, str) and len(value) <= _MAX_QUANTITY
    if is_short and (match := _QUANTITY.fullmatch(value)):
        number = float(match[1])
        try:
            scale = factor(match[2], unit)
        except ValueError:
            _refuse(value, f"{match[2]} does not convert to {unit}: {allowed}", *where)
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    result = number * scale if is_number and abs(number) < 1e99 else 0.0
    if not result > 0:
        _refuse(value, allowed, *where)
    return result


def _range(value: Any) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        _refuse(value, _RANGE)
    low, high = (_in_unit(item, "keV", _ENERGY, i) for i, item in enumerate(value))
    if not low < high:
        _refuse(value, _RANGE)
    return low, high


def _number(lowest: float, highest: float = 1e99, whole: bool = False) -> Any:
    """A validator of plain numbers in [lowest, highest]; above 0 alone for lowest = 0+."""
    kind = "a whole number" if whole else "a number"
    limits = f"from {lowest:g} to {highest:g}" if highest < 1e99 else f"of {lowest:g} or more"
    if lowest == _ABOVE_ZERO:
        limits = "above 0"

    def check(value: Any) -> float | int:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not lowest <= value <= highest or (whole and value != int(value)):
            _refuse(value, f"{kind} {limits} is needed")
        return int(value) if whole else float(value)

    return pydantic.PlainValidator(check)


def _listed(allowed: str) -> pydantic.BeforeValidator:
    def check(value: Any) -> Any:
        return value if isinstance(value, list | tuple) else _refuse(value, allowed)

    return pydantic.BeforeValidator(check)


def _file(value: Any, info: ValidationInfo) -> Path:
    """The absolute path of an existing file; the context remembers how it was written."""
    context = info.context or {"folder": Path(), "given": {}}
    if not isinstance(value, str):
        _refuse(value, "a file is a path, relative to the configuration file")
    path: Path = context["folder"] / value
    try:
        path = path.resolve()
        exists = path.is_file()
    except (OSError, ValueError, RuntimeError):  # no possible name, or a loop of links
        exists = False
    if not exists:
        _refuse(value, f"{spelled(str(path))} is no file; give the path of an existing one")
    context["given"][path] = value
    return path


def _files(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and _file(value, info):
        return [value]
    needed = "events are a path, a pattern, a folder, or a list of these"
    return value if value and isinstance(value, list | tuple) else _refuse(value, needed)


def _event_files(value: Any, info: ValidationInfo) -> Any:
    """Paths, patterns and folders as a list of paths."""
    folder: Path = (info.context or {"folder": Path()})["folder"]
    if isinstance(value, str):
        found = _expanded(value, folder)
        return found if found is not None else _files(value, info)
    files: list[Any] = []
    for i, item in enumerate(_files(value, info)):
        found = _expanded(item, folder, i)
        files += [item] if found is None else found
    return files


def _expanded(item: Any, folder: Path, *where: int) -> list[str] | None:
    """The files of a pattern or folder; None for what is neither."""
    from ..events.files import find_event_files

    try:
        if not isinstance(item, str) or (folder / item).is_file():
            return None
        if not (has_magic(item) or (folder / item).is_dir()):
            return None
        return [str(path) for path in find_event_files(folder / item)]
    except FileError as error:
        reason = str(error).rstrip(".")
        _refuse(item, reason if reason.isprintable() else "no file matches this pattern", *where)
    except (OSError, ValueError):  # no possible name: left to _file
        return None


def _a_number(value: Any) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e99
    return float(value) if good else _refuse(value, "a number is needed")


def _some_numbers(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or not value:
        _refuse(value, "a list of numbers is needed")
    return tuple(_a_number(item) for item in value)


def _file_or_list(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_some_numbers(pair) for pair in value)
    return value if value is None else _file(value, info)


Energy = Annotated[float, pydantic.PlainValidator(lambda value: _in_unit(value, "keV", _ENERGY))]

Duration = Annotated[float, pydantic.PlainValidator(lambda value: _in_unit(value, "s", _DURATION))]

Range = Annotated[tuple[float, float], pydantic.PlainValidator(_range)]

Energies = Annotated[tuple[Energy, ...], _listed("a list of energies is needed")]


def _faint_lines(value: Any) -> bool | tuple[float, ...]:
    if isinstance(value, bool):
        return value
    if not isinstance(value, list | tuple):
        _refuse(value, "true, false or a list of energies is needed")
    return tuple(_in_unit(x, "keV", _ENERGY, i) for i, x in enumerate(value))


FaintLines = Annotated[bool | tuple[float, ...], pydantic.PlainValidator(_faint_lines)]

Positive = Annotated[float, _number(_ABOVE_ZERO)]

NotNegative = Annotated[float, _number(0.0)]

Count = Annotated[int, _number(0, whole=True)]

Ranges = Annotated[tuple[Range, ...], _listed(_RANGES)]

_as_given = pydantic.PlainSerializer(
    lambda x, info: (info.context or {}).get(x, str(x)) if isinstance(x, Path) else x
)

InputFile = Annotated[Path, pydantic.PlainValidator(_file), _as_given]

InputFiles = Annotated[tuple[InputFile, ...], pydantic.BeforeValidator(_files)]

EventFiles = Annotated[tuple[InputFile, ...], pydantic.BeforeValidator(_event_files)]

Number = Annotated[float, pydantic.PlainValidator(_a_number)]

Numbers = Annotated[tuple[float, ...], pydantic.PlainValidator(_some_numbers)]


def _edges_or_text(value: Any) -> str | tuple[float, ...]:
    """Edges in keV, or the text that `spectrum.axis.spaced_edges` reads."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple) or not value:
        _refuse(value, 'a list of energies, "low:high:width" or "low:high:Nbins" is needed')
    return tuple(_in_unit(x, "keV", _ENERGY, i) for i, x in enumerate(value))


_EdgesOrText = pydantic.PlainValidator(_edges_or_text)

_FileOrList = pydantic.PlainValidator(_file_or_list)


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Line(_Section):
    """A line of the model; a bare energy is a line without a window."""

    energy: Energy = Field(description="Start value [keV].")
    window: Range | None = Field(default=None, description="Limits of the energy [keV].")
    width: Literal["own", "shared", "annihilation"] | None = Field(
        default=None,
        description="Of the line alone, that of all, or two parts; none: two parts at 511 keV (its "
        "own with a sigma of 2 keV or more), else that of all.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_energy(cls, value: Any) -> Any:
        is_line = isinstance(value, Mapping | Line)
        return value if is_line else {"energy": _in_unit(value, "keV", _ENERGY)}

    @model_validator(mode="after")
    def _energy_in_window(self) -> Line:
        if self.window and not self.window[0] < self.energy < self.window[1]:
            _refuse(self.window, f"the line's {spelled(self.energy)} keV must lie inside", "window")
        return self


class SearchSection(_Section):
    """How `lines: auto` looks for lines."""

    false_alarm: Annotated[float, _number(1e-9, 0.49)] = Field(
        default=0.05, description="Chance of a false line where none is left to find."
    )
    max_lines: Count | None = Field(default=None, description="None: as many as the bins allow.")
    fix_to_catalogue: pydantic.StrictBool = Field(
        default=False, description="Fix the energies of lines that the catalogue knows."
    )
    calibrate: pydantic.StrictBool = Field(
        default=False, description="Compare names on the energy scale that the lines tell."
    )
    bend: pydantic.StrictBool = Field(
        default=True, description="Whether continuum, step and width may become what BIC asks for."
    )


#: The kind of a list of lines in the locations of errors, where no key can be named like this.
_LISTED = "\0listed"

_Listed = Annotated[tuple[Line, ...], _listed("lines are a list of energies, or auto")]

Lines = Annotated[
    Annotated[Literal["auto"], pydantic.Tag("auto")] | Annotated[_Listed, pydantic.Tag(_LISTED)],
    pydantic.Discriminator(lambda value: "auto" if value == "auto" else _LISTED),
]


class ModelSection(_Section):
    """The spectral model: a continuum and lines of a common width."""

    pivot: Energy | None = Field(default=None, description="Pivot [keV]; none: the source range.")
    sigma: Energy = Field(default=3.0, description="Start value of the shared width [keV].")
    width: Literal["constant", "linear"] = Field(
        default="constant", description="Of the lines; linear: sigma^2 = a + b E."
    )
    tail: pydantic.StrictBool = Field(default=False, description="Lines with a low-energy tail.")
    step: pydantic.StrictBool = Field(default=False, description="A step under each line.")
    continuum: Literal["powerlaw", "broken_powerlaw", "powerlaw_polynomial"] = Field(
        default="powerlaw", description="Under the lines."
    )
    lines: Lines = Field(default=(), description="The lines, or auto; none is the continuum alone.")
    search: SearchSection | None = Field(
        default=None, description="Of `lines: auto`.", validate_default=True
    )
    faint_lines: FaintLines = Field(
        default=False,
        description="Marginalise lines that the counts do not show: the catalogue's, and those at "
        "the energies of a list.",
    )

    @field_validator("search", mode="before")
    @classmethod
    def _only_for_auto(cls, value: Any, info: ValidationInfo) -> Any:
        auto = info.data.get("lines", "auto") == "auto"
        if value is not None and not auto:
            _refuse(value, "a search needs lines: auto; leave out one of them")
        return {} if value is None and info.data.get("lines") == "auto" else value

    @field_validator("lines")
    @classmethod
    def _distinct(cls, lines: Any) -> Any:
        if lines == "auto":
            return lines
        seen: dict[str, int] = {}
        for i, line in enumerate(lines):
            first = seen.setdefault(f"{line.energy:.9g}", i)
            if first != i:
                _refuse(line.energy, f"lines[{first}] has this energy; give each line once", i)
        return lines


class RatioSection(_Section):
    """The amount of a line in the source range, from a fitted line of the same origin."""

    line: Energy = Field(description="The line [keV].")
    tracer: Energy = Field(description="The fitted line [keV].")
    value: Positive | None = Field(
        default=None,
        description="Ratio of their counts; without it the amount is not known, but the "
        "distribution of the line's energies is.",
    )
    error: NotNegative = Field(default=0.0, description="Its standard error.")


class OptionsSection(_Section):
    """A section whose keys are the options that a dataclass declares."""

    if TYPE_CHECKING:  # its fields are made by `_section_of`

        def __getattr__(self, name: str) -> Any: ...

    def values(self) -> dict[str, Any]:
        """The options as keyword arguments of the dataclass."""
        own = {name: getattr(self, name) for name in type(self).model_fields}
        return {k: v.model_dump() if isinstance(v, _Section) else v for k, v in own.items()}


_S = TypeVar("_S", bound=OptionsSection)

#: What a value of each kind must be in a configuration; see `options.KINDS`.
_TYPES: dict[str, Any] = {
    "cone": Numbers,
    "duration": Duration,
    "edges": Numbers,
    "energies": Energies,
    "file": InputFile,
    "files": InputFiles,
    "flag": pydantic.StrictBool,
    "intervals": Annotated[Any, _FileOrList, _as_given],
    "number": Number,
    "range": Numbers,
    "ranges": Ranges,
    "ratio": RatioSection,
    "spaced": Annotated[str | tuple[float, ...], _EdgesOrText],
    "text": str,
    "width": Positive,
}


def _type_of(option: Option) -> Any:
    """The type of an option's value; none is a value where it is the default."""
    kind: Any
    if option.choices:
        kind = Literal.__getitem__(option.choices)
    elif option.kind == "count":
        low, high = option.limits
        kind = Annotated[int, _number(low, 1e99 if high is None else high, whole=True)]
    elif option.kind in ("range", "width") and option.unit == "keV":
        kind = Range if option.kind == "range" else Energy
    else:
        kind = _TYPES[option.kind]
    return kind | None if option.default is None and kind is not Any else kind


def _section_of(declared: type, **defaults: Any) -> Callable[[type[_S]], type[_S]]:
    """Give a section a key for each option that a file can hold.

    Parameters
    ----------
    declared : type
    **defaults
        Where a file's differ from those of a call.
    """

    def decorate(section: type[_S]) -> type[_S]:
        keys: dict[str, Any] = {}
        for option in options_of(declared).values():
            if option.kind != "python":
                default = defaults.get(option.name, ... if option.required else option.default)
                keys[option.name] = (
                    _type_of(option), Field(default=default, description=option.line)
                )  # fmt: skip
        with warnings.catch_warnings():
            # an option may be named like an old method of pydantic's (validate)
            warnings.filterwarnings("ignore", "Field name .* shadows an attribute", UserWarning)
            return pydantic.create_model(
                section.__name__,
                __base__=section,
                __doc__=section.__doc__,
                __module__=__name__,
                **keys,
            )

    return decorate


@_section_of(TemplateOptions, validate=True)
class TemplateSection(OptionsSection):
    """How the background template of the source range is made."""


@_section_of(BinningJob)
class BinningSection(OptionsSection):
    """How event lists are binned: the options of `bin_events`, with the same names."""


class OutputSection(_Section):
    """What is written beside the usual files."""

    pipeline: pydantic.StrictBool = Field(
        default=False, description="background_threemlfit.hdf5, for cosipy's cosi-threemlfit."
    )


#: Stands for the mask that is not given.
_SOURCE_RANGE: Any = object()


class Config(_Section):
    """The configuration of a run; energies in keV, times in s, paths absolute.

    Made by `load_config` or `parse_config`. `template` is None exactly if `source_range` is:
    then only a fit is wanted.
    """

    events: EventFiles = Field(description="The data; several files are summed.")
    binning: BinningSection | None = Field(default=None, description="Where events are lists.")
    source_range: Range | None = Field(default=None, description="Energies [keV] of the source.")
    mask: Ranges = Field(
        default=_SOURCE_RANGE,
        validate_default=True,
        description="Energies [keV] that the fit leaves out; default: the source range. [] is no "
        "mask.",
    )
    model: ModelSection = ModelSection()
    engine: Engine = Field(default="minuit", description="What fits the model.")
    template: TemplateSection | None = Field(default=None, validate_default=True)
    output: OutputSection = OutputSection()

    _given: dict[Path, str] = pydantic.PrivateAttr(default_factory=dict)
    _file: str = pydantic.PrivateAttr(default="")

    def __eq__(self, other: object) -> bool:
        """By their values, wherever they were read from."""
        same_kind = isinstance(other, Config)
        return same_kind and all(getattr(self, x) == getattr(other, x) for x in Config.model_fields)

    @property
    def file(self) -> str:
        """The file that it was read from, for messages; empty if it was none."""
        return self._file

    @field_validator("events")
    @classmethod
    def _distinct(cls, events: tuple[Path, ...]) -> tuple[Path, ...]:
        for i, path in enumerate(events):
            if path in events[:i]:
                _refuse(str(path), f"events[{events.index(path)}] is this file already", i)
        return events

    @field_validator("mask", mode="before")
    @classmethod
    def _source_range_by_default(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not _SOURCE_RANGE:
            return value
        source_range = info.data.get("source_range")
        return () if source_range is None else (source_range,)

    @property
    def masks_source_by_default(self) -> bool:
        """Whether the source range is masked because no mask was given."""
        return "mask" not in self.model_fields_set and bool(self.mask)

    @field_validator("template", mode="before")
    @classmethod
    def _with_source_range(cls, value: Any, info: ValidationInfo) -> Any:
        source_range = info.data.get("source_range", ())
        if value is not None and source_range is None:
            _refuse(value, "a template needs source_range; leave out both for a fit alone")
        return {} if value is None and source_range else value

    @model_validator(mode="after")
    def _faint_lines_on_top_of_an_optimum(self) -> Config:
        if self.model.faint_lines is not False and self.engine == "bayesian":
            allowed = "faint lines are marginalised on top of engine minuit or joint_likelihood"
            _refuse(self.model.faint_lines, allowed, "model", "faint_lines")
        return self

    @model_validator(mode="after")
    def _sidebands_beside_source(self) -> Config:
        if self.template is None or self.source_range is None:
            return self
        where, sidebands = ("template", "sidebands"), self.template.sidebands
        needed = self.template.method == "sideband" and self.template.reach is None
        if sidebands == () or (sidebands is None and needed):
            _refuse(sidebands, f"for method {self.template.method}, {_RANGES}", *where)
        for i, (low, high) in enumerate(sidebands or ()):
            overlap = min(high, self.source_range[1]) - max(low, self.source_range[0])
            if overlap > SAME_ENERGY * high:
                allowed = f"a sideband must not overlap source_range {spelled(self.source_range)}"
                _refuse((low, high), allowed, *where, i)
        return self

    def with_pipeline(self) -> Config:
        """The same with ``output: {pipeline: true}``."""
        return self.model_copy(update={"output": OutputSection(pipeline=True)})

    def to_yaml(self) -> str:
        """The whole configuration with its defaults, in keV and s, paths as they were given."""
        values = self.model_dump(context=self._given)
        return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, allow_unicode=True)


def _unknown_key(where: tuple[str | int, ...]) -> str:
    """What to say of a key that its section does not know."""
    sections: dict[str, type[_Section]] = {"": Config, "model": ModelSection, "lines": Line}
    sections |= {"template": TemplateSection, "line_ratio": RatioSection, "search": SearchSection}
    sections |= {"binning": BinningSection, "output": OutputSection}
    names = {section: list(model.model_fields) for section, model in sections.items()}
    names[""].append("regions")
    section = next((part for part in reversed(where[:-1]) if isinstance(part, str)), "")
    key = str(where[-1])
    near = get_close_matches(key, names[section], 1)
    near += [f"{other}.{key}" for other in ("model", "template") if key in names[other]]
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"unknown key{hint} Known here: {', '.join(names[section])}"


def _explain(error: ErrorDetails) -> str:
    """One line on a validation error: where, what was got, what is allowed."""
    context = error.get("ctx", {})
    loc = tuple(part for part in error["loc"] if part != _LISTED)
    where = ""
    for part in (*loc, *context.get("where", ())):
        name = part if str(part).isidentifier() and len(str(part)) < 60 else spelled(part)
        where += f"[{part}]" if isinstance(part, int) else f".{name}" if where else str(name)
    if error["type"] in _UNKNOWN:
        return f"{where}: {_unknown_key(loc)}"
    needed = {
        "missing": "this key is required",
        "model_type": "a mapping of keys to values is needed",
    }.get(error["type"], error["msg"].replace("Input should be", "allowed is"))
    got = "nothing" if error["type"] == "missing" else spelled(error["input"])
    return f"{where}: {context.get('reason', f'got {got}; {needed}')}"


def parse_config(mapping: Any, folder: str | Path, name: str = "configuration") -> Config:
    """Check a configuration that has been read already; messages call it `name`.

    Parameters
    ----------
    mapping : Mapping of str to values
    folder : path
        What relative paths are relative to.

    Raises
    ------
    ConfigError
        On one line: `name`, the key, what was got and what is allowed. Of several mistakes the
        first is named, unknown keys before the others, as a misspelt key causes further ones.
    """
    if not isinstance(mapping, Mapping):
        is_data = isinstance(mapping, str) and any(c.isdigit() for c in mapping)
        hint = " For data, cosi-linebkg init writes a configuration." * is_data
        raise ConfigError(
            f"{name}: got {spelled(mapping)}; a mapping of keys to values is needed.{hint}"
        )
    context: dict[str, Any] = {"folder": Path(folder), "given": {}}
    try:
        config = Config.model_validate(dict(mapping), context=context)
    except pydantic.ValidationError as error:
        first = min(error.errors(include_url=False), key=lambda e: e["type"] not in _UNKNOWN)
        raise ConfigError(f"{name}: {_explain(first)}.") from None
    config._given.update(context["given"])
    return config


def load_config(path: str | Path, region: str | None = None) -> Config:
    """Read and check a YAML file in UTF-8; paths in it are relative to its folder.

    Parameters
    ----------
    path : path
    region : str, optional
        One of its regions, where it has any.

    Raises
    ------
    ConfigError
        On one line, naming the file and the line or the key; see `parse_config`.
    """
    configs = load_regions(path)
    if region is None and "" in configs:
        return configs[""]
    known = ", ".join(configs) if "" not in configs else "none"
    if region not in configs:
        what = (
            "it must be said which of its regions" if region is None else f"got {spelled(region)}"
        )
        raise ConfigError(f"{path}: {what}; its regions are: {known}. Name one with --region.")
    return configs[region]


def load_regions(path: str | Path) -> dict[str, Config]:
    """The configurations of all regions of a YAML file, by name; "" where it has no regions.

    A region takes every key that it does not give from the top of the file.

    Raises
    ------
    ConfigError
        As of `load_config`.
    """
    name, mapping = read_yaml(path)
    folder = Path(path).parent
    if not isinstance(mapping, Mapping) or "regions" not in mapping:
        config = parse_config(mapping, folder, name)
        config._file = name
        return {"": config}
    rows = mapping["regions"]
    if not isinstance(rows, list) or not rows:
        raise ConfigError(
            f"{name}: regions: got {spelled(rows)}; a list of mappings with the keys "
            f"{', '.join(REGION_KEYS)} is needed."
        )
    shared = {key: value for key, value in mapping.items() if key != "regions"}
    configs: dict[str, Config] = {}
    for i, row in enumerate(rows):
        where = f"{name}: regions[{i}]"
        region = _region_name(row, where, configs)
        own = {key: value for key, value in row.items() if key != "name"}
        configs[region] = parse_config(shared | own, folder, f"{where} ({region})")
        configs[region]._file = name
    return configs


def _region_name(row: Any, where: str, others: Mapping[str, Config]) -> str:
    """The name of a region, which is that of its folder."""
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where}: got {spelled(row)}; a mapping of keys to values is needed.")
    unknown = [key for key in row if key not in REGION_KEYS]
    if unknown:
        near = get_close_matches(str(unknown[0]), REGION_KEYS, 1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ConfigError(
            f"{where}.{unknown[0]}: unknown key{hint} Known here: {', '.join(REGION_KEYS)}."
        )
    region = row.get("name")
    if not isinstance(region, str) or not _REGION_NAME.fullmatch(region):
        raise ConfigError(
            f"{where}.name: got {spelled(region)}; a name of letters, digits, _ and - is needed."
        )
    if region.casefold() in {other.casefold() for other in others}:
        raise ConfigError(f"{where}.name: {region} is there already; give each region its own.")
    return region
