"""The background spectrum in astromodels: the composite, and its reading into numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from astromodels import Gaussian, Model, ParticleSource, Powerlaw
from astromodels.core.parameter import Parameter as AstroParameter
from astromodels.functions.function import CompositeFunction, Function, Function1D, FunctionMeta

from .components import ROLES, Component, Parameter, SpectralModel
from .errors import ModelError
from .result import in_kev, to_kev
from .spectrum import check_range

#: A line without a window may move this far from its energy [keV], but not past half the
#: distance to its neighbour.
DEFAULT_WINDOW = 10.0
SIGMA_LIMITS = (0.1, 50.0)
DEFAULT_SOURCE = "linebkg"


class TailedGaussian(Function1D, metaclass=FunctionMeta):
    r"""
    description :

        A Gaussian line of which a fraction has an exponential low-energy tail

    latex : $ F\left[(1-f)\,N(x;\mu,\sigma)+\frac{f}{2\ell}e^{y/\ell+\sigma^2/2\ell^2}\,{\rm erfc}\left(\frac{y}{\sqrt2\sigma}+\frac{\sigma}{\sqrt2\ell}\right)\right],\ y=x-\mu $

    parameters :

        F :

            desc : Integral between -inf and +inf
            initial value : 1

        mu :

            desc : Energy of the line
            initial value : 0.0

        sigma :

            desc : Standard deviation of the Gaussian
            initial value : 1.0
            min : 1e-12

        fraction :

            desc : Share of the counts in the tail
            initial value : 0.2
            min : 0
            max : 1

        length :

            desc : Mean energy loss in the tail
            initial value : 10.0
            min : 1e-6

    tests :
        - { x : 0.0, function value: 0.328403400, tolerance: 1e-8}

    """  # noqa: E501

    def _set_units(self, x_unit, y_unit):
        self.F.unit = y_unit * x_unit
        self.mu.unit = x_unit
        self.sigma.unit = x_unit
        self.fraction.unit = ""
        self.length.unit = x_unit

    def evaluate(self, x, F, mu, sigma, fraction, length):
        """Density at x; see `lineshapes` for the formula."""
        from .lineshapes import tailed_gaussian_density

        return F * tailed_gaussian_density(x, mu, sigma, fraction, length)


#: astromodels classes with a closed-form integral, by the kind of component that they become.
_CLOSED_FORMS: dict[type, str] = {
    Powerlaw: "powerlaw",
    Gaussian: "gaussian",
    TailedGaussian: "tailed_gaussian",
}


def background_model(
    lines: Iterable[Any] = (),
    *,
    pivot: Any = None,
    sigma: Any = 3.0,
    tail: bool = False,
    source: str = DEFAULT_SOURCE,
) -> Model:
    """A power law plus lines of one width, on a `ParticleSource`.

    Parameters
    ----------
    lines : iterable
        Energies; or ``(energy, (low, high))`` with the range in which the fit may move the line;
        or mappings with the key "energy" and optionally "window". Quantities, or numbers in keV.
        Without a window a line may move by 10 keV, but not past half the distance to its
        neighbour. No lines gives the continuum alone.
    pivot : Quantity or float, optional
        Pivot energy of the power law; default: the mean line energy, or 1000 keV.
    sigma : Quantity or float
        Start value of the width that all lines share (keV).
    tail : bool
        Give the lines a shared exponential low-energy tail.
    source : str
        Name of the source, which a `LineBackgroundLike` looks for.

    Returns
    -------
    astromodels.Model
        Parameters ``K_1, piv_1, index_1, F_2, mu_2, sigma_2, F_3 ...``; sigma_3, sigma_4 ... are
        linked to sigma_2. K in counts/keV, F in counts, energies in keV.

    Raises
    ------
    ModelError
        Naming the line that cannot be used.
    """
    table = _line_table(lines)
    width = to_kev(sigma)
    if not SIGMA_LIMITS[0] < width < SIGMA_LIMITS[1]:
        raise ModelError(
            f"The start value of sigma is {width:g} keV; it must lie between "
            f"{SIGMA_LIMITS[0]:g} and {SIGMA_LIMITS[1]:g} keV."
        )
    if pivot is None:
        pivot = np.mean([energy for energy, _ in table]) if table else 1000.0
    pivot = to_kev(pivot)
    if not (np.isfinite(pivot) and pivot > 0):
        raise ModelError(f"The pivot energy must be positive, got {pivot:g} keV.")

    shape = _powerlaw(pivot)
    for energy, window in table:
        shape = shape + _line(energy, window, width, tail)
    model = Model(ParticleSource(source, distribution_shape=shape))
    parameters = getattr(model, source).spectrum.main.shape.parameters
    for role in ("sigma", "fraction", "length")[: 3 if tail else 1]:
        shared = [parameters[f"{role}_{n}"] for n in range(2, len(table) + 2)]
        if len(shared) > 1:
            model.link(shared[1:], shared[0])
    return model


def _powerlaw(pivot: float) -> Powerlaw:
    shape = Powerlaw()
    # Bounds before the value: astromodels' default maximum of K is 1e3; a minimum of 1e3 or
    # more breaks clone_model.
    shape.K.min_value, shape.K.max_value = 1e-10, None
    shape.K.value = 1000.0
    shape.K.delta = 100.0
    shape.piv.value = pivot
    shape.index.bounds = (-20.0, 20.0)
    shape.index.value = -2.0
    return shape


def _line(energy: float, window: tuple[float, float], sigma: float, tail: bool) -> Function1D:
    shape = TailedGaussian() if tail else Gaussian()
    shape.F.bounds = (0.0, None)
    shape.F.value = 1000.0
    shape.F.delta = 100.0
    shape.mu.value = energy
    shape.mu.bounds = window
    shape.mu.delta = 0.1
    shape.sigma.bounds = SIGMA_LIMITS
    shape.sigma.value = sigma
    if tail:
        shape.fraction.value = 0.2
        shape.length.bounds = (0.5, 200.0)
        shape.length.value = 10.0
    return shape


def _line_table(lines: Iterable[Any]) -> list[tuple[float, tuple[float, float]]]:
    """Energies and windows [keV] in order of energy."""
    rows: list[tuple[float, tuple[float, float] | None]] = []
    if isinstance(lines, str) or not isinstance(lines, Iterable):
        raise ModelError(f"lines must be a list of energies, got {lines!r}.")
    for i, line in enumerate(lines, start=1):
        energy, window = _split_line(line, i)
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
        rows.append((energy, window))
    rows.sort(key=lambda row: row[0])
    energies = [row[0] for row in rows]
    for a, b in itertools.pairwise(energies):
        if a == b:
            raise ModelError(f"Two lines have the same energy {a:g} keV; give each line once.")
    table = []
    for i, (energy, window) in enumerate(rows):
        below = min(DEFAULT_WINDOW, (energy - energies[i - 1]) / 2) if i else DEFAULT_WINDOW
        above = (
            min(DEFAULT_WINDOW, (energies[i + 1] - energy) / 2)
            if i + 1 < len(rows)
            else DEFAULT_WINDOW
        )
        table.append((energy, window or (energy - below, energy + above)))
    return table


def _split_line(line: Any, number: int) -> tuple[Any, Any]:
    """Energy and window (or None) of one line, as it was given."""
    if isinstance(line, Mapping):
        unknown = set(line) - {"energy", "window"}
        if unknown or "energy" not in line:
            raise ModelError(
                f"Line {number} has the keys {', '.join(map(str, line))}; it takes energy and "
                "window."
            )
        return line["energy"], line.get("window")
    if hasattr(line, "energy"):
        return line.energy, getattr(line, "window", None)
    if isinstance(line, Sequence) and not isinstance(line, str):
        if len(line) != 2 or not np.iterable(line[1]):
            raise ModelError(f"Line {number} is {line!r}; give an energy or (energy, (low, high)).")
        return line[0], line[1]
    return line, None


# --- reading a model ------------------------------------------------------------------------------


class SpectrumReader:
    """A spectrum held by reference: its parameters, and the numbers that they stand for.

    Parameters
    ----------
    shapes : sequence of astromodels Function1D
        Summed. Power laws, Gaussians and tailed Gaussians that are added up are integrated in
        closed form, anything else by Gauss-Legendre quadrature over each bin.
    prefixes : sequence of str, optional
        Put in front of the parameters' names, one per shape, where there are several.
    substitutes : mapping, optional
        Parameters that stand in for the shapes' own (the nuisance parameters of a plugin), by
        the identity of the original.

    Attributes
    ----------
    model : SpectralModel
        At the values that the parameters had on construction, without priors: in a session
        these are threeML's.
    sources : list of astromodels Parameter
        One per parameter of `model`.
    """

    def __init__(
        self,
        shapes: Sequence[Function1D],
        substitutes: Mapping[int, AstroParameter] | None = None,
        prefixes: Sequence[str] | None = None,
    ):
        self._substitutes = substitutes or {}
        self._prefix = ""
        self.sources: list[AstroParameter] = []
        self._slots: dict[int, int] = {}
        self._names: list[str] = []
        self._links: dict[str, str] = {}
        self._derived: list[tuple[int, int, Any]] = []
        components = []
        for i, shape in enumerate(shapes):
            self._prefix = f"{prefixes[i]}_" if prefixes else ""
            components += self._components(shape)
        self.model = SpectralModel(
            tuple(replace(self._parameter(i), prior=None) for i in range(len(self.sources))),
            tuple(components),
            dict(self._links),
            tuple(self._derived),
        )

    def values(self) -> np.ndarray:
        """Current values of all parameters, shape (n_parameters,)."""
        return np.array([p.value for p in self.sources])

    def current_model(self) -> SpectralModel:
        """`model` with the current values, limits, priors and fixed states as its start."""
        return SpectralModel(
            tuple(self._parameter(i) for i in range(len(self.sources))),
            self.model.components,
            self.model.links,
            self.model.derived,
        )

    def set_values(self, theta: np.ndarray) -> None:
        """Write values back into the free astromodels parameters."""
        for parameter, value in zip(self.sources, theta, strict=True):
            if parameter.free and not parameter.has_auxiliary_variable:
                _set_value(parameter, float(value))

    # --- construction -----------------------------------------------------------------------------

    def _components(self, shape: Function1D) -> list[Component]:
        parts = _summands(shape)
        components = []
        for part in parts:
            kind = _CLOSED_FORMS.get(type(part))
            if kind is not None:
                slots = tuple(self._slot(getattr(part, role)) for role in ROLES[kind])
                components.append(Component(kind, slots))
            else:
                components.append(self._function(part))
        return components

    def _function(self, part: Function1D) -> Component:
        slots = tuple(self._slot(p) for p in part.parameters.values())
        own = [self._resolve(p)[0] for p in part.parameters.values()]

        def density(energies: np.ndarray, values: np.ndarray) -> np.ndarray:
            return _evaluate(part, own, energies, values)

        return Component("function", slots, density)

    def _slot(self, parameter: AstroParameter) -> int:
        own_name = self._prefix + parameter.name
        parameter, law = self._resolve(parameter)
        key = id(parameter)
        if key not in self._slots:
            self._slots[key] = len(self.sources)
            self.sources.append(self._substitutes.get(key, parameter))
            self._names.append(self._prefix + parameter.name)
        slot = self._slots[key]
        if law is None and own_name != self._names[slot]:
            self._links[own_name] = self._names[slot]
        return slot

    def _resolve(self, parameter: AstroParameter) -> tuple[AstroParameter, Any]:
        """Follow identity links to the parameter that is really there."""
        while parameter.has_auxiliary_variable:
            variable, law = parameter.auxiliary_variable
            if not _is_identity(law) or not isinstance(variable, AstroParameter):
                return self._follow(parameter, variable, law), law
            parameter = variable
        return parameter, None

    def _follow(self, parameter: AstroParameter, variable: Any, law: Any) -> AstroParameter:
        """Register a parameter that follows another one by a law."""
        key = id(parameter)
        if key not in self._slots:
            self._slots[key] = len(self.sources)
            self.sources.append(parameter)
            self._names.append(self._prefix + parameter.name)
            if isinstance(variable, AstroParameter):
                source = self._slot(variable)
                self._derived.append((self._slots[key], source, lambda x, law=law: float(law(x))))
        return parameter

    def _parameter(self, slot: int) -> Parameter:
        p = self.sources[slot]
        derived = p.has_auxiliary_variable
        low, high = (None, None) if derived else p.bounds
        prior = None
        if not derived and p.has_prior() and isinstance(p.prior, Gaussian):
            prior = (float(p.prior.mu.value), float(p.prior.sigma.value))
        return Parameter(
            self._names[slot],
            float(p.value),
            str(p.unit),
            -np.inf if low is None else float(low),
            np.inf if high is None else float(high),
            bool(p.free) and not derived,
            prior=prior,
        )


def spectrum_of(model: Model, source: str) -> SpectrumReader:
    """Read the source of this name out of a model.

    Raises
    ------
    ModelError
        If the model has no such source; names those it has.
    """
    if not isinstance(model, Model):
        raise ModelError(f"A model must be an astromodels Model, got {type(model).__name__}.")
    if source not in model.sources:
        found = ", ".join(model.sources) or "no source at all"
        raise ModelError(
            f"The model has no source named {source!r}; it has {found}. Build it with "
            f"background_model(..., source={source!r}), or give the plugin source=... ."
        )
    components = getattr(model.sources[source], "components", None)
    if not components:
        raise ModelError(f"The source {source!r} has no spectrum.")
    shapes = [c.shape for c in components.values()]
    return SpectrumReader(shapes, prefixes=list(components) if len(shapes) > 1 else None)


def shape_of(spectrum: Any) -> Function1D:
    """The spectral function of a model with one source, or the function itself."""
    if isinstance(spectrum, Model):
        sources = list(spectrum.sources.values())
        if len(sources) != 1 or len(sources[0].components) != 1:
            raise ModelError(
                f"spectrum= takes a function or a model with one source, got {len(sources)}."
            )
        return next(iter(sources[0].components.values())).shape
    if not isinstance(spectrum, Function):
        raise ModelError(
            "spectrum= takes an astromodels function, or a model from background_model, got "
            f"{type(spectrum).__name__}."
        )
    return spectrum


def _summands(shape: Function1D) -> list[Function1D]:
    """The functions that a composite adds up; anything but a sum is one function."""
    if isinstance(shape, CompositeFunction):
        operation, first, second = shape._calling_sequence
        if operation == "+" and isinstance(first, Function) and isinstance(second, Function):
            return _summands(first) + _summands(second)
    return [shape]


def _is_identity(law: Any) -> bool:
    return (
        type(law).__name__ == "Line"
        and law.a.value == 0
        and law.b.value == 1
        and not (law.a.free or law.b.free)
    )


def _evaluate(part, own, energies, values):
    """Density at `energies` [keV] with the given parameter values, which are then put back."""
    before = [p.value for p in own]
    settable = [not p.has_auxiliary_variable for p in own]
    try:
        for p, value, ok in zip(own, values, settable, strict=True):
            if ok and p.value != value:
                _set_value(p, float(value))
        return np.asarray(part(energies.ravel()), dtype=float).reshape(energies.shape)
    finally:
        for p, value, ok in zip(own, before, settable, strict=True):
            if ok and p.value != value:
                _set_value(p, value)


def _set_value(parameter, value):
    """Set a value within its bounds, which a rounding error may have left."""
    low, high = parameter.bounds
    value = value if low is None else max(value, float(low))
    parameter.value = value if high is None else min(value, float(high))
