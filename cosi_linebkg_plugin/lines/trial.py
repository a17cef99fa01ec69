"""The spectrum that a search fits at each of its steps: a continuum, and lines of one shape."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtri
from scipy.special import erfcx, ndtr

from ..errors import DataError, ModelError
from ..fit.numbers import hides_width
from ..fit.objective import Objective, start_inside
from ..fit.restarts import LONGEST_TAIL
from ..fit.result import LineBackgroundFit
from ..model.spec import (
    ANNIHILATION,
    ANNIHILATION_REACH,
    CONTINUA,
    SIGMA_LIMITS,
    WIDTHS,
    growth_limit,
    is_annihilation,
    numerical_model,
    spectrum_parts,
)
from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import Parameter, SpectralModel
from ..spectrum.kernels import FIT_REACH
from ..spectrum.lineshapes import EnergyGrid
from ..units import in_kev, to_kev

Array = NDArray[np.float64]

#: Share of the fitted bins that stays as degrees of freedom: 40 of 90.
FREE_SHARE = 4.0 / 9.0

#: The width is fitted, within this factor of its start value, once a line is this significant,
#: and tail and step once one is this significant: weaker lines leave them undetermined.
WIDTH_FACTOR, WIDTH_FROM, TAIL_FROM = 3.0, 10.0, 30.0

#: Smallest eigenvalue of a scaled information matrix whose parameters the data tell apart.
_SINGULAR = 1e-7

#: Parameters that the lines share.
_OF_LINES = ("sigma", "a", "b", "fraction", "length", "step")


@dataclass(frozen=True)
class Form:
    """Of which functions a spectrum consists, and what of the lines' common shape is fitted.

    Attributes
    ----------
    continuum, width, tail, step
        As of `background_model`.
    free_width, free_tail : bool
        Whether width, and tail and step, are fitted.
    """

    continuum: str = "powerlaw"
    width: str = "constant"
    tail: bool = False
    step: bool = False
    free_width: bool = False
    free_tail: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of `background_model`."""
        return {
            "continuum": self.continuum, "width": self.width, "tail": self.tail, "step": self.step,
        }  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What a search was asked for, checked; energies in keV.

    Attributes
    ----------
    sigma : float, keV
        Expected width of the lines.
    form : Form
        Where the search begins.
    false_alarm : float
    max_lines : int
    pivot : float, keV
    bend : bool
        Whether the search may take other forms.
    asked : bool
        Whether max_lines is the user's.
    hidden : bool
        Whether the bins hide the lines' width.
    """

    sigma: float
    form: Form
    false_alarm: float
    max_lines: int
    pivot: float
    bend: bool = True
    asked: bool = False
    hidden: bool = False


@dataclass(frozen=True)
class TrialLine:
    """Start values of a line, and the energies that it may take.

    Attributes
    ----------
    energy : float, keV
    counts : float
    window : (float, float), keV
    fixed : bool
        Whether its energy is fixed.
    own : tuple of (str, float)
        Parameters of a shape of its own, by role: the width of a line at 511 keV.
    """

    energy: float
    counts: float
    window: tuple[float, float] = (0.0, 0.0)
    fixed: bool = False
    own: tuple[tuple[str, float], ...] = ()

    @property
    def is_annihilation(self) -> bool:
        """Whether it has a width of its own."""
        return is_annihilation(self.energy)


@dataclass(frozen=True)
class Shape:
    """What the lines share, and the continuum, as values by role: "K", "index", "sigma" ..."""

    values: Mapping[str, float]
    form: Form

    def sigma(self, energy: Any) -> Any:
        """Width at some energies, keV."""
        if self.form.width == "linear":
            variance = self.values["a"] + self.values["b"] * np.asarray(energy)
            return np.sqrt(np.maximum(variance, 1e-6))
        return np.full(np.shape(energy), self.values["sigma"])[()]

    def counts(self, edges: Array, energies: Array) -> Array:
        """Counts per bin of lines of unit amplitude, shape (n_energies, n_bins)."""
        sigma = np.broadcast_to(self.sigma(energies), energies.shape)
        if self.form.tail:
            return _unit_lines(
                edges, energies, sigma, self.values["fraction"], self.values["length"]
            )
        return _unit_lines(edges, energies, sigma)


def _unit_lines(
    edges: Array, energies: Array, sigma: Array, fraction: float = 0.0, length: float = math.inf
) -> Array:
    """Counts per bin of lines of unit area, shape (n_energies, n_bins).

    Around its energy that of a line is a difference of its distribution function, below it of the
    tail's exponential alone: many times faster than the functions of `lineshapes`, which keep
    every digit far down a tail and have derivatives.
    """
    fold = sigma / length
    reach = FIT_REACH * sigma
    first = np.maximum(np.searchsorted(edges, energies - reach - fold * sigma) - 1, 0)
    n_bins = np.searchsorted(edges, energies + reach) - first
    # beside the axis more bins, without an end, so that no line's bins are cut off
    width = max(int(n_bins.max(initial=0)), 0) + 1
    longer = np.concatenate([edges, np.full(width, np.inf)])
    place = first[:, None] + np.arange(width + 1)
    z = (longer[place] - energies[:, None]) / sigma[:, None]
    below = ndtr(z)
    out = np.zeros((energies.size, edges.size - 1 + width))
    if fraction:
        below += fraction * _share_of_tail(z, fold[:, None])
        exponent = (edges[1:] - energies[:, None]) / length + 0.5 * fold[:, None] ** 2
        tails = np.exp(np.minimum(exponent, 0.0)) * (-fraction * np.expm1(-np.diff(edges) / length))
        out[:, : edges.size - 1] = np.where(np.arange(edges.size - 1) < first[:, None], tails, 0.0)
    np.put_along_axis(out, place[:, :-1], np.diff(below, axis=1), axis=1)
    return out[:, : edges.size - 1]


def _share_of_tail(z: Array, fold: Array) -> Array:
    """By how much more of a tail than of its Gaussian lies below z, shape of `z`.

    It is exp(z f + f^2/2) Q(z + f), Q being the Gaussian's share above, `fold` f = sigma / length.
    """
    above = z + fold
    near = 0.5 * np.exp(-0.5 * z * z) * erfcx(np.maximum(above, -8.0) / math.sqrt(2.0))
    far = np.exp(np.minimum(z * fold + 0.5 * fold**2, 0.0)) if np.any(above < -8.0) else 0.0
    return np.where(above < -8.0, far, near)


@dataclass(frozen=True, eq=False)
class TrialFit:
    """The optimum of a model by scoring, from start values close to it.

    Attributes
    ----------
    model : SpectralModel
    theta : ndarray, shape (n_parameters,)
    deviance : float
    objective : Objective
    """

    model: SpectralModel
    theta: Array
    deviance: float
    objective: Objective = field(repr=False)

    @classmethod
    def of(cls, fit: LineBackgroundFit) -> TrialFit:
        """The same of a finished fit."""
        objective = Objective(fit.model, fit.spectrum)
        return cls(fit.model, fit.theta, 2.0 * objective.value(fit.theta), objective)

    @cached_property
    def _interior(self) -> NDArray[np.int64]:
        """Free parameters off their limits."""
        free, low, high = self.model.free, self.objective.low, self.objective.high
        slack = 1e-6 * np.maximum(np.abs(self.theta), 1e-3)
        inside: NDArray[np.bool_] = (self.theta > low + slack) & (self.theta < high - slack)
        return free[inside[free]]

    @cached_property
    def _information(self) -> tuple[Array, Array]:
        """Expected information off the limits, with a unit diagonal, and the diagonal's root."""
        _, _, information = self.objective.scoring(self.theta)
        slots = self._interior
        matrix = information[np.ix_(slots, slots)]
        root = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
        return matrix / np.outer(root, root), root

    @property
    def is_determined(self) -> bool:
        """Whether the data tell all parameters apart."""
        return float(np.linalg.eigvalsh(self._information[0])[0]) > _SINGULAR

    @cached_property
    def errors(self) -> dict[str, float]:
        """Standard errors by name, from the expected information; none on a limit."""
        matrix, root = self._information
        slots = self._interior
        try:
            half, _ = dtrtri(np.linalg.cholesky(matrix), lower=1)
            scaled = np.sum(half**2, axis=0)
        except np.linalg.LinAlgError:
            scaled = np.maximum(np.diag(np.linalg.pinv(matrix, hermitian=True)), 0.0)
        variance = scaled / root**2
        names = self.model.names
        return dict(zip([names[slot] for slot in slots], np.sqrt(variance).tolist(), strict=True))

    @cached_property
    def values(self) -> dict[str, float]:
        """Best values by name."""
        return dict(zip(self.model.names, self.theta.tolist(), strict=True))

    @property
    def at_limits(self) -> tuple[str, ...]:
        """Free parameters on a limit."""
        inside, names = set(self._interior.tolist()), self.model.names
        return tuple(names[slot] for slot in self.model.free.tolist() if slot not in inside)

    def counts_and_jacobian(self) -> tuple[Array, Array]:
        """Expected counts and derivatives, as of `BoundModel`."""
        return self.objective.bound.counts_and_jacobian(self.theta)

    def counts_of_lines(self) -> tuple[Array, Array]:
        """Expected counts, and those of the lines, shape (n_bins,) each."""
        expected = self.objective.bound.counts(self.theta)
        if not self.model.lines:
            return expected, np.zeros_like(expected)
        lines = self.model.select(self.model.lines).bind(self.objective.bound.grid)
        return expected, lines.counts(self.theta)

    @property
    def columns(self) -> list[int]:
        """Parameters that were free to move."""
        return [int(slot) for slot in self._interior]


def fit_quickly(
    model: SpectralModel,
    spectrum: EnergySpectrum,
    grid: EnergyGrid,
    offset: Array | None = None,
    *,
    enough: float | None = None,
) -> TrialFit | None:
    """Scoring from the model's own values; None if the continuum ends below 0.

    Parameters
    ----------
    model : SpectralModel
    spectrum : EnergySpectrum
    grid : EnergyGrid
        Of the spectrum's bins.
    offset : ndarray, shape (n_bins,), counts, optional
        As of `fit_spectrum`.
    enough : float, optional
        A deviance: the fit may end where it is reached, or seen to be out of reach.
    """
    objective = Objective(model, spectrum, grid, offset)
    half = None if enough is None else 0.5 * enough
    theta, value = objective.score_to_minimum(start_inside(model), model.free, half)
    if not math.isfinite(value):
        return None
    polynomial = any(model.components[i].kind == "powerlaw_polynomial" for i in model.continuum)
    if polynomial and model.select(model.continuum).bind(grid).counts(theta).min() < 0.0:
        return None
    return TrialFit(model, theta, 2.0 * value, objective)


def expected_fall(
    model: SpectralModel, spectrum: EnergySpectrum, grid: EnergyGrid
) -> tuple[float, float]:
    """By how much one step of scoring lowers the deviance, and the deviance before it.

    Parameters
    ----------
    model, spectrum, grid
        As of `fit_quickly`.
    """
    objective = Objective(model, spectrum, grid)
    value, gradient, information = objective.scoring(start_inside(model))
    free = model.free
    root = np.sqrt(np.maximum(np.diag(information)[free], 1e-300))
    matrix = information[np.ix_(free, free)] / np.outer(root, root)
    acting = np.diag(matrix) > 0.5
    slope = (gradient[free] / root)[acting]
    matrix = matrix[np.ix_(acting, acting)] + 1e-9 * np.eye(int(acting.sum()))
    return float(slope @ np.linalg.solve(matrix, slope)), 2.0 * value


def trial_model(settings: Settings, lines: Sequence[TrialLine], shape: Shape) -> SpectralModel:
    """The model of `background_model` with these values, and the search's own limits.

    Parameters
    ----------
    settings : Settings
    lines : sequence of TrialLine, in order of energy
    shape : Shape

    Raises
    ------
    ModelError
        If two lines have the same energy.
    """
    form, at = shape.form, [x.is_annihilation for x in lines]
    if any(a.energy >= b.energy for a, b in itertools.pairwise(lines)):
        raise ModelError("Two lines of a search have the same energy.")
    first = at.index(True) if any(at) else len(at)
    layout = _layout(form, settings.sigma, settings.pivot, (first, sum(at), len(at)))
    parameters = list(layout.model.parameters)
    for line, (area, energy, own) in zip(lines, layout.lines, strict=True):
        parameters[area] = _with(parameters[area], line.counts)
        parameters[energy] = _with(
            parameters[energy], line.energy, line.window, free=not line.fixed
        )
        for slot, role in own:
            p = parameters[slot]
            free = p.free and not settings.hidden
            parameters[slot] = _with(p, dict(line.own).get(role, p.value), free=free)
    held = set() if form.free_width else {"sigma", "a", "b"}
    held |= set() if form.free_tail else {"fraction", "length", "step"}
    for slot, role in layout.shared:
        p = parameters[slot]
        value, (low, high) = shape.values.get(role, p.value), (p.low, p.high)
        if role == "sigma":
            low, high = _sigma_limits(settings)
        if role == "b":
            high = growth_limit(next(x.energy for x in lines if not x.is_annihilation))
        if role == "length":  # as the last fit limits it
            high = max(min(high, LONGEST_TAIL * float(shape.sigma(settings.pivot))), 2.0 * low)
            value = min(value, high)
        parameters[slot] = _with(p, value, (low, high), free=p.free and role not in held)
    return replace(layout.model, parameters=tuple(parameters))


@dataclass(frozen=True, eq=False)
class _Layout:
    """What all models of a form with so many lines have in common.

    Attributes
    ----------
    model : SpectralModel
        Its values, and the limits of energies, mean nothing.
    lines : tuple
        Of each line the slots of its area and energy, and (slot, role) of what it has for itself.
    shared : tuple of (int, str)
        Slot and role of the other parameters.
    """

    model: SpectralModel
    lines: tuple[tuple[int, int, tuple[tuple[int, str], ...]], ...]
    shared: tuple[tuple[int, str], ...]


@lru_cache(maxsize=64)
def _layout(form: Form, sigma: float, pivot: float, places: tuple[int, int, int]) -> _Layout:
    """Of a form: lines below 511 keV, lines there, and lines in all; a search asks for few."""
    below, at, n_lines = places
    energies = np.arange(n_lines) * 1e-6 + 1.0
    energies[below : below + at] += ANNIHILATION - 1.0
    energies[below + at :] += ANNIHILATION + ANNIHILATION_REACH
    parts = spectrum_parts(energies, pivot=pivot, sigma=sigma, **form.options)
    model = numerical_model(parts)
    own, lines = _own_roles(model), []
    for i in model.lines:
        component = model.components[i]
        lines.append((component.area, component.energy, tuple(own.get(i, {}).items())))
    taken = {slot for area, energy, of_it in lines for slot in (area, energy, *dict(of_it))}
    shared = [(i, _role(name)) for i, name in enumerate(model.names) if i not in taken]
    return _Layout(model, tuple(lines), tuple(shared))


def _with(
    p: Parameter, value: float, limits: tuple[float, float] | None = None, *, free: bool = True
) -> Parameter:
    """A parameter with another value; several times faster than `dataclasses.replace`."""
    low, high = (p.low, p.high) if limits is None else limits
    return Parameter(p.name, value, p.unit, low, high, free, p.prior)


def _sigma_limits(settings: Settings) -> tuple[float, float]:
    low, high = settings.sigma / WIDTH_FACTOR, settings.sigma * WIDTH_FACTOR
    return max(low, SIGMA_LIMITS[0]), min(high, SIGMA_LIMITS[1])


def _role(name: str) -> str:
    """What stands before the number: "sigma" of "sigma_2"."""
    head, _, tail = name.rpartition("_")
    return head if head and tail.isdigit() else name


def _own_roles(model: SpectralModel) -> dict[int, dict[int, str]]:
    """By component, slots and roles of what a line's shape has for itself."""
    users: dict[int, int] = {}
    lines = model.lines
    for i in lines:
        for slot in model.components[i].slots[2:]:
            users[slot] = users.get(slot, 0) + 1
    own = {}
    for i in lines:
        component = model.components[i]
        energy = model.parameters[component.energy].value
        if is_annihilation(energy):
            names = {s: _role(model.names[s]) for s in component.slots[2:]}
            own[i] = {s: r for s, r in names.items() if users[s] == 1 and _is_own(r)}
    return own


def _is_own(role: str) -> bool:
    return role == "sigma" or role not in _OF_LINES


def lines_of(fit: LineBackgroundFit | TrialFit) -> list[TrialLine]:
    """The lines of a fit at their fitted values, in the order of the model."""
    model, found, own = fit.model, [], _own_roles(fit.model)
    for i in model.lines:
        line = model.components[i]
        mu = model.parameters[line.energy]
        energy, counts = (float(fit.theta[slot]) for slot in (line.energy, line.area))
        shape = tuple((role, float(fit.theta[slot])) for slot, role in own.get(i, {}).items())
        found.append(TrialLine(energy, counts, (mu.low, mu.high), not mu.free, shape))
    return found


def fitted_shape(fit: LineBackgroundFit | TrialFit, shape: Shape) -> Shape:
    """`shape` with what the fit has found; what it has no parameter for stays."""
    own = {slot for slots in _own_roles(fit.model).values() for slot in slots}
    per_line = {s for c in fit.model.components if c.is_line for s in (c.area, c.energy)}
    values = dict(shape.values)
    for slot, name in enumerate(fit.model.names):
        if slot not in own and slot not in per_line and _role(name) != "piv":
            values[_role(name)] = float(fit.theta[slot])
    return replace(shape, values=values)


def checked_settings(
    spectrum: EnergySpectrum,
    sigma: Any,
    form: Form,
    false_alarm: float,
    max_lines: int | None,
    pivot: Any,
    bend: bool = True,
) -> Settings:
    """What `find_lines` was asked for.

    Raises
    ------
    ModelError
        Naming the argument that this spectrum cannot be searched with.
    """
    width = to_kev(sigma, "width of the lines")
    if not SIGMA_LIMITS[0] < width < SIGMA_LIMITS[1]:
        raise ModelError(
            f"sigma= is the expected width of the lines, above {SIGMA_LIMITS[0]:g} and below "
            f"{SIGMA_LIMITS[1]:g} keV, got {width:g} keV."
        )
    for name, value, known in (
        ("continuum", form.continuum, CONTINUA),
        ("width", form.width, WIDTHS),
    ):
        if value not in known:
            raise ModelError(f"{name}= of a search is one of {', '.join(known)}, got {value!r}.")
    if not 0.0 < false_alarm < 0.5:
        raise ModelError(
            f"false_alarm= is a probability above 0 and below 0.5, got {false_alarm:g}."
        )
    middle = 0.5 * float(spectrum.edges[0] + spectrum.edges[-1])
    pivot = middle if pivot is None else to_kev(pivot, "pivot energy")
    if not (math.isfinite(pivot) and pivot > 0):
        raise ModelError(f"The pivot energy must be positive, got {pivot:g} keV.")
    n_used = int(spectrum.used.sum())
    shared = 2 + 1 + 2 * form.tail
    room = max((n_used - math.ceil(FREE_SHARE * n_used) - shared) // 2, 0)
    asked = max_lines is not None
    if max_lines is None:
        max_lines = room
    elif not 0 <= max_lines <= room:
        raise ModelError(
            f"max_lines={max_lines} is not possible: from 0 to {room} lines leave 4/9 of the "
            f"{n_used} fitted bins as degrees of freedom."
        )
    hidden = hides_width(float(np.median(spectrum.widths[spectrum.used])), width)
    return Settings(width, form, false_alarm, max_lines, pivot, bool(bend), asked, hidden)


def given_spectrum(spectrum: Any, mask: Any) -> EnergySpectrum:
    """The spectrum that `find_lines` was given, with the mask if there is one."""
    spectrum = getattr(spectrum, "spectrum", spectrum)
    if isinstance(spectrum, tuple) and len(spectrum) == 2:
        spectrum = EnergySpectrum(*spectrum)
    if not isinstance(spectrum, EnergySpectrum):
        raise DataError(
            "find_lines takes an EnergySpectrum, (edges, counts), or a LineBackgroundLike, got "
            f"{type(spectrum).__name__}."
        )
    if mask is None:
        return spectrum
    ranges = list(mask)
    if len(ranges) == 2 and all(np.ndim(x) == 0 for x in ranges):
        ranges = [mask]
    return spectrum.with_mask([in_kev(r, "mask") for r in ranges])


def check_scale_options(calibrate: bool, fix_to_catalogue: bool) -> None:
    """Refuse two options of `find_lines` that contradict each other.

    Raises
    ------
    ModelError
    """
    if calibrate and fix_to_catalogue:
        raise ModelError(
            "calibrate changes the scale that names go by, fix_to_catalogue the energies of the "
            "fit: on a scale that is off these would be wrong; choose one of them."
        )
