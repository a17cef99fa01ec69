"""An astromodels spectrum read into numbers, by reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astromodels import Model
from astromodels.core.parameter import Parameter as AstroParameter
from astromodels.functions.function import CompositeFunction, Function, Function1D
from numpy.typing import NDArray

from ..errors import ModelError
from ..spectrum.components import ROLES, Component, Parameter, SpectralModel
from ..spectrum.laws import FUNCTIONS as LAWS
from ..spectrum.laws import Law
from ..spectrum.priors import FUNCTIONS as PRIORS
from ..spectrum.priors import Prior
from .functions import FUNCTIONS
from .spec import UNITS

#: astromodels classes with a closed-form integral, by the kind of component that they become.
_CLOSED_FORMS = {function: kind for kind, function in FUNCTIONS.items()}

# --- reading a model ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Number:
    """A function of one number; a class, so that models can be pickled."""

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
    free_laws : list of str
        Parameters that follow others by a law with free parameters of its own, which cannot be
        parameters of `model`: the law is no function of `laws.FUNCTIONS`.
    """

    def __init__(
        self,
        shapes: Sequence[Function1D],
        substitutes: Mapping[int, AstroParameter] | None = None,
        prefixes: Sequence[str] | None = None,
    ) -> None:
        self._substitutes = substitutes or {}
        self._prefix = ""
        self.sources: list[AstroParameter] = []
        self._slots: dict[int, int] = {}
        self._names: list[str] = []
        self._units: dict[int, str] = {}
        self._links: dict[str, str] = {}
        self._derived: list[tuple[int, int, Law]] = []
        self.free_laws: list[str] = []
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

    def values(self) -> NDArray[np.float64]:
        """Current values of all parameters, shape (n_parameters,)."""
        return np.array([p.value for p in self.sources])

    def check_direct(self) -> None:
        """Refuse what a JointLikelihood varies and the direct fit would leave as it is."""
        if self.free_laws:
            raise ModelError(
                f"The law that {', '.join(self.free_laws)} follows has free parameters of its "
                "own, which only threeML's fits vary: fix them, use a JointLikelihood, or, for "
                'widths, background_model(..., width="linear").'
            )

    def current_model(self) -> SpectralModel:
        """`model` with the current values, limits, priors and fixed states as its start."""
        return SpectralModel(
            tuple(self._parameter(i) for i in range(len(self.sources))),
            self.model.components,
            self.model.links,
            tuple((slot, source, _as_it_is(law)) for slot, source, law in self.model.derived),
        )

    def set_values(self, theta: NDArray[np.float64]) -> None:
        """Write values back into the free astromodels parameters."""
        for parameter, value in zip(self.sources, theta, strict=True):
            if parameter.free and not parameter.has_auxiliary_variable:
                set_value(parameter, float(value))

    def set_upper_limits(self, model: SpectralModel) -> None:
        """Lower the upper limits of free parameters to those of a model like `model`."""
        for parameter, limited in zip(self.sources, model.parameters, strict=True):
            high = math.inf if parameter.bounds[1] is None else float(parameter.bounds[1])
            if limited.free and limited.high < high:
                parameter.max_value = max(limited.high, float(parameter.value))

    # --- construction -----------------------------------------------------------------------------

    def _components(self, shape: Function1D) -> list[Component]:
        parts = _summands(shape)
        components = []
        for part in parts:
            kind = _CLOSED_FORMS.get(type(part))
            if kind is not None:
                slots = tuple(self._slot(getattr(part, role)) for role in ROLES[kind])
                self._units.update(
                    (s, UNITS.get(role, "")) for s, role in zip(slots, ROLES[kind], strict=True)
                )
                components.append(Component(kind, slots))
            else:
                components.append(self._function(part))
        return components

    def _function(self, part: Function1D) -> Component:
        parameters = list(part.parameters.values())
        # a parameter that follows another one gets its value from there, by astromodels
        parameters += [p for p in map(self._source_of, parameters) if p is not None]
        slots = tuple(self._slot(p) for p in parameters)
        own = [self._resolve(p)[0] for p in parameters]

        def density(
            energies: NDArray[np.float64], values: NDArray[np.float64]
        ) -> NDArray[np.float64]:
            return _evaluate(part, own, energies, values)

        norms = [
            s for s, p in zip(slots, part.parameters.values(), strict=False) if p.is_normalization
        ]
        return Component("function", slots, density, norm=norms[0] if norms else None)

    def _slot(self, parameter: AstroParameter, name: str = "") -> int:
        """The slot of a parameter, by its own name or by another one."""
        own, own_name = parameter, self._prefix + (name or parameter.name)
        parameter, law = self._resolve(parameter)
        key = id(parameter)
        if key not in self._slots:
            self._slots[key] = len(self.sources)
            self.sources.append(self._substitutes.get(key, parameter))
            self._names.append(own_name if parameter is own else self._prefix + parameter.name)
        slot = self._slots[key]
        if law is None and own_name != self._names[slot]:
            self._links[own_name] = self._names[slot]
        return slot

    def _source_of(self, parameter: AstroParameter) -> AstroParameter | None:
        """What a parameter follows in the end by laws, or None."""
        parameter, law = self._resolve(parameter)
        if law is None:
            return None
        while parameter.has_auxiliary_variable:
            parameter = parameter.auxiliary_variable[0]
            if not isinstance(parameter, AstroParameter):
                return None
        return parameter

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
            name = type(law).__name__
            slots: tuple[int, ...] = ()
            if any(p.free for p in law.parameters.values()):
                names = LAWS.get(name, ((), None))[0]
                if isinstance(variable, AstroParameter) and _numbers_of(law, names):
                    slots = tuple(
                        self._slot(getattr(law, n), f"{parameter.name}.{name}.{n}") for n in names
                    )
                else:
                    self.free_laws.append(self._prefix + parameter.name)
            if isinstance(variable, AstroParameter):
                source = self._slot(variable)
                follows = Law(name, (), _Number(law), slots=slots)
                self._derived.append((self._slots[key], source, follows))
        return parameter

    def _parameter(self, slot: int) -> Parameter:
        p = self.sources[slot]
        derived = p.has_auxiliary_variable
        low, high = (None, None) if derived else p.bounds
        prior = _prior_of(p) if not derived and p.has_prior() else None
        return Parameter(
            self._names[slot],
            float(p.value),
            self._units.get(slot, str(p.unit)),
            -np.inf if low is None else float(low),
            np.inf if high is None else float(high),
            bool(p.free) and not derived,
            prior=prior,
        )


def _as_it_is(law: Law) -> Law:
    """A law with the present values of its parameters."""
    if law.slots:
        return Law(law.name, slots=law.slots)
    if not isinstance(law.function, _Number):
        return law
    values = _numbers_of(law.function.function, LAWS.get(law.name, ((), None))[0])
    return Law(law.name, values) if values else law


def _prior_of(parameter: AstroParameter) -> Prior:
    prior = parameter.prior
    name = type(prior).__name__
    values = _numbers_of(prior, PRIORS.get(name, ()))
    if values:
        return Prior(name, values)
    return Prior(f"{name} of your own" if name in PRIORS else name, (), _Number(prior))


def _numbers_of(function: Function1D, names: Sequence[str]) -> tuple[float, ...]:
    """Values of the parameters of a function of astromodels itself; none of another one."""
    if not type(function).__module__.startswith("astromodels."):
        return ()
    return tuple(float(getattr(function, name).value) for name in names)


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


def _evaluate(
    part: Function1D,
    own: Sequence[AstroParameter],
    energies: NDArray[np.float64],
    values: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Density at `energies` [keV] with the given parameter values, which are then put back."""
    before = [p.value for p in own]
    settable = [not p.has_auxiliary_variable for p in own]
    try:
        for p, value, ok in zip(own, values, settable, strict=True):
            if ok and p.value != value:
                set_value(p, float(value))
        density: NDArray[np.float64] = np.asarray(part(energies.ravel()), dtype=float)
        return density.reshape(energies.shape)
    finally:
        for p, value, ok in zip(own, before, settable, strict=True):
            if ok and p.value != value:
                set_value(p, value)


def set_value(parameter: AstroParameter, value: float) -> None:
    """Set a value within its bounds, which a rounding error may have left."""
    low, high = parameter.bounds
    value = value if low is None else max(value, float(low))
    parameter.value = value if high is None else min(value, float(high))
