"""What a background spectrum consists of: lines, parameters, start values and limits, in numbers.

One place for all of it. `background_model` makes the astromodels composite of it, and
`numerical_model` the model that the direct fit takes, without astromodels; names, limits, start
values and links are those of the composite.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..errors import ModelError
from ..spectrum.axis import check_range
from ..spectrum.components import BENT_CONTINUA, ROLES, Component, Parameter, SpectralModel
from ..units import in_kev, to_kev

#: A line without a window may move this far from its energy [keV], but not past half the
#: distance to its neighbour.
DEFAULT_WINDOW = 10.0

SIGMA_LIMITS = (0.1, 50.0)

#: Start of a low-energy tail, share of the counts and length [keV], and limits of the length [keV].
TAIL_START, TAIL_LENGTHS = (0.2, 10.0), (0.5, 200.0)

CONTINUA = ("powerlaw", *BENT_CONTINUA)

WIDTHS = ("constant", "linear")

#: What the width of one line may be.
OF_A_LINE = ("shared", "own", "annihilation")

#: Start of the broad part of an annihilation line: share of the counts, and width over that of the
#: narrow part, with its limits.
BROAD_START, BROAD_RATIOS = (0.5, 2.0), (1.2, 4.0)

#: Height of the step under a line over the line's area, at most [1/keV].
MAX_STEP = 0.1

#: A line this close to 511 keV is positron annihilation, partly Doppler-broadened [keV].
ANNIHILATION, ANNIHILATION_REACH = 511.0, 2.0

#: Its two parts are told apart where lines are expected to be narrower than this [keV]: the broad
#: one has 1.5 to 3 keV.
SHOWS_PARTS = 2.0

#: Parameters that lines and steps have in common, unless a line's width is its own.
SHARED = ("sigma", "a", "b", "fraction", "length", "step")

#: What the parameters of each role are measured in; those that are not here are numbers. Not
#: astromodels' units: it takes them from the source, and lines on a PointSource would be in
#: 1/(s cm2).
UNITS = {
    **dict.fromkeys(("piv", "xb", "mu", "sigma", "b", "length"), "keV"),
    **{"K": "counts / keV", "F": "counts", "a": "keV2", "step": "1 / keV"},
}


class Line(NamedTuple):
    """One line as it was asked for: energy and window [keV], and its width, one of `OF_A_LINE`."""

    energy: float
    window: tuple[float, float]
    width: str

    @property
    def own_width(self) -> bool:
        """Whether it shares no width with the others."""
        return self.width != "shared"


class Part(NamedTuple):
    """One function of the sum.

    Attributes
    ----------
    kind : str
        A key of `spectrum.components.ROLES`.
    parameters : tuple of Parameter
        In the order of its roles, which are their names here.
    shared : tuple of str
        The roles in which it follows the first part that shares them.
    behind : int
        Of a step: how many parts ahead its line is, which it takes the rest of its roles from.
    """

    kind: str
    parameters: tuple[Parameter, ...]
    shared: tuple[str, ...] = ()
    behind: int = 0

    @property
    def taken(self) -> tuple[str, ...]:
        """The roles in which it follows its line."""
        own = (p.name for p in self.parameters if p.name not in self.shared)
        return tuple(own) if self.behind else ()


def spectrum_parts(
    lines: Iterable[Any] = (),
    *,
    pivot: Any = None,
    sigma: Any = 3.0,
    width: str = "constant",
    tail: bool = False,
    step: bool = False,
    continuum: str | None = "powerlaw",
) -> tuple[Part, ...]:
    """The continuum, if it is one of `CONTINUA`, the lines in order of energy, and their steps.

    Parameters
    ----------
    lines, pivot, sigma, width, tail, step
        See `background_model`.
    continuum : str or None
        None: the lines alone.

    Raises
    ------
    ModelError
        Naming the line or the option that cannot be used.
    """
    start = to_kev(sigma)
    table = line_table(lines, start)
    if not SIGMA_LIMITS[0] < start < SIGMA_LIMITS[1]:
        raise ModelError(
            f"The start value of sigma is {start:g} keV; it must lie between "
            f"{SIGMA_LIMITS[0]:g} and {SIGMA_LIMITS[1]:g} keV."
        )
    if width not in WIDTHS:
        raise ModelError(f"width must be one of {', '.join(WIDTHS)}, got {width!r}.")
    if pivot is None:
        pivot = np.mean([line.energy for line in table]) if table else 1000.0
    pivot = to_kev(pivot)
    if not (np.isfinite(pivot) and pivot > 0):
        raise ModelError(f"The pivot energy must be positive, got {pivot:g} keV.")
    if continuum is not None and continuum not in CONTINUA:
        raise ModelError(
            f"continuum must be one of {', '.join(CONTINUA)}, or an astromodels function, got "
            f"{continuum!r}."
        )
    parts = [] if continuum is None else [_continuum(continuum, pivot)]
    parts += [_line(x, start, width == "linear" and not x.own_width, tail) for x in table]
    if step:
        parts += [_step(part, len(table)) for part in parts[len(parts) - len(table) :]]
    return tuple(parts)


def numerical_model(parts: Sequence[Part]) -> SpectralModel:
    """The sum of the parts as numbers: what `SpectrumReader` reads out of the composite."""
    parameters: list[Parameter] = []
    components: list[Component] = []
    links: dict[str, str] = {}
    first: dict[str, int] = {}
    own: list[dict[str, int]] = []
    for number, part in enumerate(parts, start=1):
        suffix = f"_{number}" if len(parts) > 1 else ""
        slots = []
        for parameter in part.parameters:
            role, name = parameter.name, f"{parameter.name}{suffix}"
            known = first.get(role) if role in part.shared else None
            if role in part.taken:
                known = own[-part.behind][role]
            if known is not None:
                slots.append(known)
                links[name] = parameters[known].name
                continue
            if role in part.shared:
                first[role] = len(parameters)
            slots.append(len(parameters))
            parameters.append(replace(parameter, name=name))
        own.append(dict(zip(ROLES[part.kind], slots, strict=True)))
        components.append(Component(part.kind, tuple(slots)))
    return SpectralModel(tuple(parameters), tuple(components), links)


def _part(
    kind: str, parameters: Mapping[str, Parameter], shared: Iterable[str] = (), behind: int = 0
) -> Part:
    roles = ROLES[kind]
    named = tuple(replace(parameters[role], name=role, unit=UNITS.get(role, "")) for role in roles)
    return Part(kind, named, tuple(role for role in roles if role in shared), behind)


def _continuum(kind: str, pivot: float) -> Part:
    index = Parameter("", -2.0, low=-20.0, high=20.0)
    return _part(
        kind,
        {
            "K": Parameter("", 1000.0, low=1e-10),
            "piv": Parameter("", pivot, free=False),
            "index": index,
            "alpha": index,
            "xb": Parameter("", pivot, low=0.5 * pivot, high=2.0 * pivot),
            "beta": index,
            "c2": Parameter("", 0.0),
            "c3": Parameter("", 0.0),
        },
    )


def _line(line: Line, sigma: float, linear: bool, tail: bool) -> Part:
    kind = f"{'linear_' if linear else ''}{'tailed_' if tail else ''}gaussian"
    if line.width == "annihilation":
        kind = "annihilation"
    low, high = SIGMA_LIMITS
    parameters = {
        "F": Parameter("", 1000.0, low=0.0),
        "mu": Parameter("", line.energy, "", *line.window),
        "sigma": Parameter("", sigma, "", low, high),
        # half of the variance from either term, in limits that hold sigma within its own
        "a": Parameter("", max(0.5 * sigma**2, 1.01 * low**2), "", low**2, high**2),
        "b": Parameter("", 0.5 * sigma**2 / line.energy, "", 0.0, growth_limit(line.energy)),
        "fraction": Parameter("", TAIL_START[0], "", 0.0, 1.0),
        "length": Parameter("", TAIL_START[1], "", *TAIL_LENGTHS),
        "broad": Parameter("", BROAD_START[0], "", 0.0, 1.0),
        "ratio": Parameter("", BROAD_START[1], "", *BROAD_RATIOS),
    }
    return _part(kind, parameters, [r for r in SHARED if not (r == "sigma" and line.own_width)])


def _step(line: Part, behind: int) -> Part:
    """The step under a line, `behind` parts after it."""
    kind = "linear_step" if line.kind.startswith("linear") else "step"
    parameters = {p.name: p for p in line.parameters}
    parameters["step"] = Parameter("step", 1e-3, "", 0.0, MAX_STEP)
    return _part(kind, parameters, (*line.shared, "step"), behind)


def line_table(lines: Iterable[Any], sigma: float) -> list[Line]:
    """The lines in order of energy; `sigma` is their expected width [keV]."""
    rows: list[tuple[float, tuple[float, float] | None, str]] = []
    if isinstance(lines, str) or not isinstance(lines, Iterable):
        raise ModelError(f"lines must be a list of energies, got {lines!r}.")
    for i, line in enumerate(lines, start=1):
        energy, window, width = _split_line(line, i)
        energy = to_kev(energy, f"energy of line {i}")
        if window is not None:
            window = check_range(*in_kev(window, f"window of line {i}"), f"window of line {i}")
        if not (np.isfinite(energy) and energy > 0):
            raise ModelError(f"Line {i} has the energy {energy:g} keV; it must be positive.")
        if window is not None and not window[0] <= energy <= window[1]:
            raise ModelError(
                f"Line {i} at {energy:g} keV lies outside its window "
                f"{window[0]:g}-{window[1]:g} keV; widen the window or move the line."
            )
        width = _width_of(width, energy, sigma, i)
        rows.append((energy, window, width))
    rows.sort(key=lambda row: row[0])
    energies = [row[0] for row in rows]
    for a, b in itertools.pairwise(energies):
        if a == b:
            raise ModelError(f"Two lines have the same energy {a:g} keV; give each line once.")
    table = []
    for i, (energy, window, width) in enumerate(rows):
        below = min(DEFAULT_WINDOW, (energy - energies[i - 1]) / 2) if i else DEFAULT_WINDOW
        above = (
            min(DEFAULT_WINDOW, (energies[i + 1] - energy) / 2)
            if i + 1 < len(rows)
            else DEFAULT_WINDOW
        )
        table.append(Line(energy, window or (energy - below, energy + above), width))
    return table


def growth_limit(energy: float) -> float:
    """The largest b of sigma^2 = a + b mu where the first line has this energy, keV."""
    return SIGMA_LIMITS[1] ** 2 / energy


def is_annihilation(energy: float) -> bool:
    """Whether a line of this energy [keV] is that of annihilating positrons."""
    return abs(energy - ANNIHILATION) <= ANNIHILATION_REACH


def _width_of(width: Any, energy: float, sigma: float, number: int) -> str:
    """The width of a line, one of `OF_A_LINE`, by default by its energy [keV]."""
    if width is None:
        if not is_annihilation(energy):
            return "shared"
        return "annihilation" if sigma < SHOWS_PARTS else "own"
    if width not in OF_A_LINE:
        raise ModelError(
            f"The width of line {number} must be one of {', '.join(OF_A_LINE)}, got {width!r}."
        )
    return str(width)


def _split_line(line: Any, number: int) -> tuple[Any, Any, Any]:
    """Energy, window and width (or None) of one line, as it was given."""
    if isinstance(line, Mapping):
        unknown = set(line) - {"energy", "window", "width"}
        if unknown or "energy" not in line:
            raise ModelError(
                f"Line {number} has the keys {', '.join(map(str, line))}; it takes energy, window "
                "and width."
            )
        return line["energy"], line.get("window"), line.get("width")
    if hasattr(line, "energy"):
        return line.energy, getattr(line, "window", None), getattr(line, "width", None)
    if isinstance(line, Sequence) and not isinstance(line, str):
        if len(line) != 2 or not np.iterable(line[1]):
            raise ModelError(f"Line {number} is {line!r}; give an energy or (energy, (low, high)).")
        return line[0], line[1], None
    return line, None, None
