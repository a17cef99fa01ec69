"""The background spectrum as an astromodels model: a continuum plus lines."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from astromodels import Broken_powerlaw, Gaussian, Model, ParticleSource, Powerlaw
from astromodels.core.parameter import Parameter as AstroParameter
from astromodels.functions.function import CompositeFunction, Function, Function1D

from ..errors import ModelError
from ..spectrum.axis import check_range
from ..units import in_kev, to_kev
from .functions import LinearGaussian, LinearTailedGaussian, PowerlawPolynomial, TailedGaussian

#: A line without a window may move this far from its energy [keV], but not past half the
#: distance to its neighbour.
DEFAULT_WINDOW = 10.0

SIGMA_LIMITS = (0.1, 50.0)

DEFAULT_SOURCE = "linebkg"

CONTINUA = ("powerlaw", "broken_powerlaw", "powerlaw_polynomial")

WIDTHS = ("constant", "linear")

#: A line this close to 511 keV is Doppler-broadened positron annihilation [keV].
ANNIHILATION, ANNIHILATION_REACH = 511.0, 2.0


class _Line(NamedTuple):
    """One line as it was asked for: energy and window [keV], and whether its width is its own."""

    energy: float
    window: tuple[float, float]
    own_width: bool


def background_model(
    lines: Iterable[Any] = (),
    *,
    pivot: Any = None,
    sigma: Any = 3.0,
    width: str = "constant",
    tail: bool = False,
    continuum: Any = "powerlaw",
    source: str = DEFAULT_SOURCE,
) -> Model:
    """A continuum plus lines with a common width, on a `ParticleSource`.

    Parameters
    ----------
    lines : iterable
        Energies; or ``(energy, (low, high))`` with the range in which the fit may move the line;
        or mappings with the key "energy" and optionally "window" and "width". Quantities, or
        numbers in keV. Without a window a line may move by 10 keV, but not past half the distance
        to its neighbour. The width is "shared" or the line's "own"; by default it is shared,
        except within 2 keV of 511 keV, where annihilation is Doppler-broadened. No lines gives
        the continuum alone.
    pivot : Quantity or float, optional
        Pivot energy of the continuum; default: the mean line energy, or 1000 keV.
    sigma : Quantity or float
        Start value of the width (keV).
    width : "constant" or "linear"
        How the shared width changes with energy: not at all, or ``sigma^2 = a + b E``, for
        windows over which the resolution changes.
    tail : bool
        Give the lines a shared exponential low-energy tail.
    continuum : str or astromodels Function1D
        "powerlaw"; "broken_powerlaw"; "powerlaw_polynomial", a power law times
        ``1 + c2 t^2 + c3 t^3`` with ``t = E/pivot - 1``; or a function in counts/keV, which keeps
        its own start values and limits.
    source : str
        Name of the source, which a `LineBackgroundLike` looks for.

    Returns
    -------
    astromodels.Model
        Parameters ``K_1, piv_1, index_1, F_2, mu_2, sigma_2, F_3 ...``; sigma_3, sigma_4 ... are
        linked to sigma_2, or a_3, b_3 ... to a_2 and b_2. K in counts/keV, F in counts, energies
        in keV.

    Raises
    ------
    ModelError
        Naming the line or the option that cannot be used.
    """
    table = _line_table(lines)
    start = to_kev(sigma)
    if not SIGMA_LIMITS[0] < start < SIGMA_LIMITS[1]:
        raise ModelError(
            f"The start value of sigma is {start:g} keV; it must lie between "
            f"{SIGMA_LIMITS[0]:g} and {SIGMA_LIMITS[1]:g} keV."
        )
    if not (isinstance(source, str) and source.isidentifier()):
        raise ModelError(f"source must be a name of letters, digits and _, got {source!r}.")
    if width not in WIDTHS:
        raise ModelError(f"width must be one of {', '.join(WIDTHS)}, got {width!r}.")
    if pivot is None:
        pivot = np.mean([line.energy for line in table]) if table else 1000.0
    pivot = to_kev(pivot)
    if not (np.isfinite(pivot) and pivot > 0):
        raise ModelError(f"The pivot energy must be positive, got {pivot:g} keV.")

    shape = _continuum(continuum, pivot)
    first = len(shape.functions) + 1 if isinstance(shape, CompositeFunction) else 2
    for line in table:
        linear = width == "linear" and not line.own_width
        shape = shape + _line(line, start, linear, tail)
    model = Model(ParticleSource(source, distribution_shape=shape))
    parameters = getattr(model, source).spectrum.main.shape.parameters
    shared: dict[str, list[AstroParameter]] = {}
    for n, line in enumerate(table, start=first):
        for role in ("sigma", "a", "b", "fraction", "length"):
            if f"{role}_{n}" in parameters and not (role == "sigma" and line.own_width):
                shared.setdefault(role, []).append(parameters[f"{role}_{n}"])
    for group in shared.values():
        if len(group) > 1:
            model.link(group[1:], group[0])
    return model


def _continuum(continuum: Any, pivot: float) -> Function:
    if isinstance(continuum, Function):
        return continuum
    if continuum not in CONTINUA:
        raise ModelError(
            f"continuum must be one of {', '.join(CONTINUA)}, or an astromodels function, got "
            f"{continuum!r}."
        )
    if continuum == "powerlaw_polynomial":
        shape: Function1D = PowerlawPolynomial()
    else:
        shape = Powerlaw() if continuum == "powerlaw" else Broken_powerlaw()
    # Bounds before the value: astromodels' default maximum of K is 1e3; a minimum of 1e3 or
    # more breaks clone_model.
    shape.K.min_value, shape.K.max_value = 1e-10, None
    shape.K.value = 1000.0
    shape.K.delta = 100.0
    shape.piv.value = pivot
    if continuum == "broken_powerlaw":
        shape.xb.value = pivot
        shape.xb.min_value, shape.xb.max_value = 0.5 * pivot, 2.0 * pivot
    for name in ("alpha", "beta") if continuum == "broken_powerlaw" else ("index",):
        getattr(shape, name).bounds = (-20.0, 20.0)
        getattr(shape, name).value = -2.0
    return shape


def _line(line: _Line, sigma: float, linear: bool, tail: bool) -> Function1D:
    if linear:
        shape = LinearTailedGaussian() if tail else LinearGaussian()
        # half of the variance from either term, in limits that hold sigma within its own
        shape.a.bounds = (SIGMA_LIMITS[0] ** 2, SIGMA_LIMITS[1] ** 2)
        shape.a.value = max(0.5 * sigma**2, 1.01 * SIGMA_LIMITS[0] ** 2)
        shape.b.bounds = (0.0, SIGMA_LIMITS[1] ** 2 / line.energy)
        shape.b.value = 0.5 * sigma**2 / line.energy
    else:
        shape = TailedGaussian() if tail else Gaussian()
        shape.sigma.bounds = SIGMA_LIMITS
        shape.sigma.value = sigma
    shape.F.bounds = (0.0, None)
    shape.F.value = 1000.0
    shape.F.delta = 100.0
    shape.mu.value = line.energy
    shape.mu.bounds = line.window
    shape.mu.delta = 0.1
    if tail:
        shape.fraction.value = 0.2
        shape.length.bounds = (0.5, 200.0)
        shape.length.value = 10.0
    return shape


def _line_table(lines: Iterable[Any]) -> list[_Line]:
    """The lines in order of energy."""
    rows: list[tuple[float, tuple[float, float] | None, bool]] = []
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
        if width not in (None, "own", "shared"):
            raise ModelError(f"The width of line {i} must be own or shared, got {width!r}.")
        near = abs(energy - ANNIHILATION) <= ANNIHILATION_REACH
        rows.append((energy, window, width == "own" or (near and width is None)))
    rows.sort(key=lambda row: row[0])
    energies = [row[0] for row in rows]
    for a, b in itertools.pairwise(energies):
        if a == b:
            raise ModelError(f"Two lines have the same energy {a:g} keV; give each line once.")
    table = []
    for i, (energy, window, own) in enumerate(rows):
        below = min(DEFAULT_WINDOW, (energy - energies[i - 1]) / 2) if i else DEFAULT_WINDOW
        above = (
            min(DEFAULT_WINDOW, (energies[i + 1] - energy) / 2)
            if i + 1 < len(rows)
            else DEFAULT_WINDOW
        )
        table.append(_Line(energy, window or (energy - below, energy + above), own))
    return table


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
