"""Options declared once: the fields of a dataclass, with what is known of each.

`events.options.BinningOptions` and `template.options.TemplateOptions` are such dataclasses. The
section of the configuration (``app.config``), the arguments of the command line
(``app.bin_command``) and the keyword arguments of the Python functions (`takes_options`) are made
from their fields: a new option is a new field, and nothing else.
"""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

#: What each kind of value is called in a docstring; None: what the option itself says.
KINDS: Mapping[str, str | None] = {
    "choice": None,  # one of several words
    "cone": "(l, b, radius)",
    "count": "int",
    "duration": "float",
    "edges": "array_like, shape (n + 1,)",
    "energies": "list of energies",
    "file": "path",
    "files": "path, or a pair of these",
    "flag": "bool",
    "intervals": "array_like, shape (n, 2)",  # or a file that holds them
    "number": "float",
    "python": None,  # an object, which neither a file nor a command line can give
    "range": "(low, high)",
    "ranges": "list of (low, high)",
    "ratio": "mapping",
    "scheduler": None,
    "spaced": "array_like, shape (n + 1,)",  # edges, or "low:high:width"
    "text": "str",
    "width": "float",
}


@dataclass(frozen=True)
class Option:
    """What is known of one option.

    Attributes
    ----------
    name : str
    default : object
        `dataclasses.MISSING` for one that must be given.
    about : str
        What it does: one or two sentences, for the docstring, the configuration and ``--help``.
    kind : str
        A key of `KINDS`: what values it takes, and how text becomes one.
    unit : str
        Of bare numbers; empty if there is none.
    accepts : str
        What the docstring says that it takes, where its kind does not say it.
    choices : tuple of str
        The words that an option of kind "choice" may be.
    limits : (int, int)
        Smallest and largest value of an option of kind "count"; None: no limit.
    """

    name: str
    default: Any
    about: str
    kind: str
    unit: str
    accepts: str
    choices: tuple[str, ...]
    limits: tuple[int, int | None]

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def line(self) -> str:
        """What it does, and its unit, on one line."""
        return self.about if not self.unit else f"{self.about.removesuffix('.')} [{self.unit}]."

    @property
    def type_text(self) -> str:
        """What it takes, as a docstring says it."""
        choices = "{" + ", ".join(f'"{choice}"' for choice in self.choices) + "}"
        text = self.accepts or KINDS[self.kind] or choices
        if self.accepts:
            return text
        parts = [text, self.unit, "optional" if self.default is None else ""]
        return ", ".join(part for part in parts if part)


def about(
    text: str,
    kind: str,
    unit: str = "",
    *,
    accepts: str = "",
    choices: tuple[str, ...] = (),
    limits: tuple[int, int | None] = (0, None),
) -> dict[str, Any]:
    """The metadata of a field that is an option; see `Option`."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}.")
    known = {"about": text, "kind": kind, "unit": unit, "accepts": accepts}
    return known | {"choices": choices, "limits": limits}


def options_of(declared: type) -> dict[str, Option]:
    """The options that a dataclass declares, by name and in order."""
    return {
        field.name: Option(name=field.name, default=field.default, **field.metadata)
        for field in fields(declared)
        if field.metadata and field.init
    }


# --- keyword arguments ----------------------------------------------------------------------------

_P = ParamSpec("_P")
_O = TypeVar("_O", covariant=True)
_R = TypeVar("_R")
_A = TypeVar("_A")
_B = TypeVar("_B")
_C = TypeVar("_C")


class _TakesOptions(Protocol[_P, _O]):
    """What `takes_options` does to the type of a function: the options become keywords."""

    @overload
    def __call__(self, function: Callable[[_A, _O], _R]) -> Callable[Concatenate[_A, _P], _R]: ...

    @overload
    def __call__(
        self, function: Callable[[_A, _B, _C, _O], _R]
    ) -> Callable[Concatenate[_A, _B, _C, _P], _R]: ...


def takes_options(declared: Callable[_P, _O]) -> _TakesOptions[_P, _O]:
    """Let a function, whose last argument is the dataclass `declared`, take its fields as keywords.

    Signature and docstring name all options; a line of the docstring that says ``{options}`` is
    where their descriptions go.
    """
    assert isinstance(declared, type)
    options = options_of(declared).values()

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_keywords(*arguments: Any, **keywords: Any) -> Any:
            try:
                bound = signature.bind(*arguments, **keywords).arguments
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            others = [bound.pop(name) for name in positional]
            return function(*others, declared(**bound))

        before = inspect.signature(function)
        *positional, _ = before.parameters
        signature = before.replace(
            parameters=[
                *(before.parameters[name] for name in positional),
                *(_keyword(option) for option in options),
            ]
        )
        with_keywords.__signature__ = signature  # type: ignore[attr-defined]
        with_keywords.__doc__ = with_options(function.__doc__ or "", declared)
        return with_keywords

    return decorate


def with_options(docstring: str, declared: type) -> str:
    """A docstring with the options described where it says ``{options}``."""
    lines: list[str] = []
    for line in docstring.splitlines():
        if line.strip() != "{options}":
            lines.append(line)
            continue
        margin = line[: len(line) - len(line.lstrip())]
        for option in options_of(declared).values():
            lines.append(f"{margin}{option.name} : {option.type_text}")
            room = max(100 - len(margin) - 4, 40)
            lines += [f"{margin}    {text}" for text in textwrap.wrap(option.about, room)]
    return "\n".join(lines)


def _keyword(option: Option) -> inspect.Parameter:
    default = inspect.Parameter.empty if option.required else option.default
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=default)
