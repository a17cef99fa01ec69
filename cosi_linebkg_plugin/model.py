"""The background spectrum in astromodels: the composite, and its reading into numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from astromodels import Broken_powerlaw, Gaussian, Model, ParticleSource, Powerlaw
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
CONTINUA = ("powerlaw", "broken_powerlaw", "powerlaw_polynomial")
WIDTHS = ("constant", "linear")
#: A line this close to 511 keV is Doppler-broadened positron annihilation [keV].
ANNIHILATION, ANNIHILATION_REACH = 511.0, 2.0


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


class LinearGaussian(Function1D, metaclass=FunctionMeta):
    r"""
    description :

        A Gaussian line with a variance that is linear in its energy

    latex : $ F\,N(x;\mu,\sigma),\ \sigma^2 = a + b\mu $

    parameters :

        F :

            desc : Integral between -inf and +inf
            initial value : 1

        mu :

            desc : Energy of the line
            initial value : 0.0

        a :

            desc : Variance of the width at energy 0
            initial value : 1.0
            min : 0

        b :

            desc : Growth of the variance with energy
            initial value : 0.0
            min : 0

    tests :
        - { x : 0.0, function value: 0.3989422804, tolerance: 1e-8}

    """

    def _set_units(self, x_unit, y_unit):
        self.F.unit = y_unit * x_unit
        self.mu.unit = x_unit
        self.a.unit = x_unit**2
        self.b.unit = x_unit

    def evaluate(self, x, F, mu, a, b):
        """Density at x."""
        variance = a + b * mu
        return F * np.exp(-0.5 * (x - mu) ** 2 / variance) / np.sqrt(2.0 * np.pi * variance)


class LinearTailedGaussian(Function1D, metaclass=FunctionMeta):
    r"""
    description :

        A line with an exponential low-energy tail and a variance that is linear in its energy

    latex : $ {\rm TailedGaussian}(F,\mu,\sigma,f,\ell),\ \sigma^2 = a + b\mu $

    parameters :

        F :

            desc : Integral between -inf and +inf
            initial value : 1

        mu :

            desc : Energy of the line
            initial value : 0.0

        a :

            desc : Variance of the width at energy 0
            initial value : 1.0
            min : 0

        b :

            desc : Growth of the variance with energy
            initial value : 0.0
            min : 0

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

    """

    def _set_units(self, x_unit, y_unit):
        self.F.unit = y_unit * x_unit
        self.mu.unit = x_unit
        self.a.unit = x_unit**2
        self.b.unit = x_unit
        self.fraction.unit = ""
        self.length.unit = x_unit

    def evaluate(self, x, F, mu, a, b, fraction, length):
        """Density at x."""
        from .lineshapes import tailed_gaussian_density

        return F * tailed_gaussian_density(x, mu, np.sqrt(a + b * mu), fraction, length)


class PowerlawPolynomial(Function1D, metaclass=FunctionMeta):
    r"""
    description :

        A power law times a polynomial without a linear term, which is the index

    latex : $ K u^{\rm index} \left[1 + c_2 (u-1)^2 + c_3 (u-1)^3\right],\ u = x/{\rm piv} $

    parameters :

        K :

            desc : Density at the pivot
            initial value : 1.0
            is_normalization : True
            transformation : log10
            min : 1e-30

        piv :

            desc : Pivot energy
            initial value : 1.0
            fix : yes

        index :

            desc : Index at the pivot
            initial value : -2.0
            min : -20
            max : 20

        c2 :

            desc : Quadratic coefficient
            initial value : 0.0

        c3 :

            desc : Cubic coefficient
            initial value : 0.0

    tests :
        - { x : 1.0, function value: 1.0, tolerance: 1e-12}

    """

    def _set_units(self, x_unit, y_unit):
        self.K.unit = y_unit
        self.piv.unit = x_unit
        self.index.unit = ""
        self.c2.unit = ""
        self.c3.unit = ""

    def evaluate(self, x, K, piv, index, c2, c3):
        """Density at x."""
        t = x / piv - 1.0
        return K * (x / piv) ** index * (1.0 + t**2 * (c2 + c3 * t))


#: astromodels classes with a closed-form integral, by the kind of component that they become.
_CLOSED_FORMS: dict[type, str] = {
    Powerlaw: "powerlaw",
    Gaussian: "gaussian",
    TailedGaussian: "tailed_gaussian",
    LinearGaussian: "linear_gaussian",
    LinearTailedGaussian: "linear_tailed_gaussian",
    Broken_powerlaw: "broken_powerlaw",
    PowerlawPolynomial: "powerlaw_polynomial",
}


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


# --- reading a model ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Law:
    """The law of a functional link; a class, so that models can be pickled."""

    function: Function1D

    def __call__(self, x: float) -> float:
        return float(self.function(x))


class SpectrumReader:
    """A spectrum held by reference: its parameters, and the numbers that they stand for.

    Parameters
    ----------
    shapes : sequence of astromodels Function1D
        Summed. The continua and lines of `background_model` that are added up are integrated in
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
        self._free_laws: list[str] = []
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

    def check_direct(self) -> None:
        """Refuse what a JointLikelihood varies and the direct fit would leave as it is."""
        if self._free_laws:
            raise ModelError(
                f"The law that {', '.join(self._free_laws)} follows has free parameters of its "
                "own, which only threeML's fits vary: fix them, use a JointLikelihood, or, for "
                'widths, background_model(..., width="linear").'
            )

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

        norms = [
            s for s, p in zip(slots, part.parameters.values(), strict=True) if p.is_normalization
        ]
        return Component("function", slots, density, norm=norms[0] if norms else None)

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
            if any(p.free for p in law.parameters.values()):
                self._free_laws.append(self._prefix + parameter.name)
            if isinstance(variable, AstroParameter):
                source = self._slot(variable)
                self._derived.append((self._slots[key], source, _Law(law)))
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
