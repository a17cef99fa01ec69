"""Nuisance parameters of a plugin, and those of the data sets that are simulated from it."""

from __future__ import annotations

from astromodels.core.parameter import Parameter
from astromodels.functions.function import Function1D

from .read import SpectrumReader


class NuisanceParameter(Parameter):  # type: ignore[misc]
    """A parameter that a plugin brings into the session.

    Attributes
    ----------
    stands_for : str
        The parameter of the original plugin, where this one belongs to a simulated data set.
        threeML wants a plugin's name in those of its parameters, and a simulated data set has a
        name of its own; what constrains the original parameter finds this one by `stands_for`.
    """

    stands_for: str = ""


def originals(name: str, shape: Function1D) -> dict[str, Parameter]:
    """A function's parameters, by the names that their copies have in a plugin of this name.

    What follows another parameter has no copy.
    """
    reader = SpectrumReader([shape])
    return {
        f"{name}_{own}".replace(".", "_"): p
        for own, p in zip(reader.model.names, reader.sources, strict=True)
        if not p.has_auxiliary_variable
    }


def nuisance_parameters(name: str, shape: Function1D) -> dict[str, NuisanceParameter]:
    """Copies of a function's parameters under a plugin's name; linked ones have none."""
    return {key: _copy(p, key) for key, p in originals(name, shape).items()}


def simulated_parameters(
    parameters: dict[str, NuisanceParameter], originals: dict[str, NuisanceParameter]
) -> None:
    """Make a simulated plugin's parameters equal to the original's, and stand for them.

    Parameters
    ----------
    parameters, originals : mapping of str to NuisanceParameter
        In the same order.
    """
    for key, original in zip(parameters, originals.values(), strict=True):
        parameters[key] = _copy(original, key)
        parameters[key].stands_for = original.name


def _copy(original: Parameter, name: str) -> NuisanceParameter:
    copy = NuisanceParameter(
        name,
        original.value,
        min_value=original.min_value,
        max_value=original.max_value,
        delta=original.delta,
        desc=original.description,
        free=original.free,
        unit=original.unit,
        is_normalization=original.is_normalization,
        transformation=original.transformation if original.has_transformation() else None,
    )
    if original.has_prior():
        copy.prior = original.prior
    return copy
