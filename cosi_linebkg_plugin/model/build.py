"""The background spectrum as an astromodels model: a continuum plus lines."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
from astromodels import Model, ParticleSource
from astromodels.core.parameter import Parameter as AstroParameter
from astromodels.functions.function import CompositeFunction, Function, Function1D

from ..errors import ModelError
from .copies import drop_words_on_defaults
from .functions import FUNCTIONS
from .spec import Part, spectrum_parts

DEFAULT_SOURCE = "linebkg"

#: First steps of threeML's minimisers.
_STEPS = {"K": 100.0, "F": 100.0, "mu": 0.1}


def background_model(
    lines: Iterable[Any] = (),
    *,
    pivot: Any = None,
    sigma: Any = 3.0,
    width: str = "constant",
    tail: bool = False,
    step: bool = False,
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
        to its neighbour. The width is "shared", the line's "own", or "annihilation": a narrow and
        a broad part (see `lineshapes`), without a tail. By default it is shared, except within
        2 keV of 511 keV, where positrons annihilate: "annihilation" where `sigma` is below 2 keV,
        so that the parts show, else "own". No lines gives the continuum alone.
    pivot : Quantity or float, optional
        Pivot energy of the continuum; default: the mean line energy, or 1000 keV.
    sigma : Quantity or float
        Start value of the width (keV).
    width : "constant" or "linear"
        How the shared width changes with energy: not at all, or ``sigma^2 = a + b E``, for
        windows over which the resolution changes.
    tail : bool
        Give the lines a shared exponential low-energy tail.
    step : bool
        Put a step under each line, where photons of the line that were scattered on their way
        end: ``F step erfc[(E - mu)/(sqrt2 sigma)]/2``, the one `step` (1/keV) shared by all
        lines. It belongs to the continuum, and F stays the area of the peak.
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
        in keV. Steps come last, after n lines the first of them as number n + 2: step_(n+2), to
        which those of the other steps are linked, and F, mu and sigma linked to those of the line.

    Raises
    ------
    ModelError
        Naming the line or the option that cannot be used.
    """
    drop_words_on_defaults()
    own = isinstance(continuum, Function)
    parts = spectrum_parts(
        lines, pivot=pivot, sigma=sigma, width=width, tail=tail, step=step,
        continuum=None if own else continuum,
    )  # fmt: skip
    if not (isinstance(source, str) and source.isidentifier()):
        raise ModelError(f"source must be a name of letters, digits and _, got {source!r}.")
    functions = [_function(part) for part in parts]
    shape = functools.reduce(operator.add, [continuum, *functions] if own else functions)
    model = Model(ParticleSource(source, distribution_shape=shape))
    parameters = getattr(model, source).spectrum.main.shape.parameters
    before = len(continuum.functions) if isinstance(continuum, CompositeFunction) else int(own)
    shared: dict[str, list[AstroParameter]] = {}
    for number, part in enumerate(parts, start=1 + before):
        for role in part.shared:
            shared.setdefault(role, []).append(parameters[f"{role}_{number}"])
        for role in part.taken:
            model.link(parameters[f"{role}_{number}"], parameters[f"{role}_{number - part.behind}"])
    for group in shared.values():
        if len(group) > 1:
            model.link(group[1:], group[0])
    return model


def _function(part: Part) -> Function1D:
    """The astromodels function of a part."""
    shape = FUNCTIONS[part.kind]()
    for wanted in part.parameters:
        parameter = getattr(shape, wanted.name)
        limits = [None if np.isinf(x) else x for x in (wanted.low, wanted.high)]
        # Limits before the value: astromodels' default maximum of K is 1e3; a minimum of 1e3 or
        # more breaks clone_model. A line's energy, which starts at 0, goes the other way round.
        if wanted.low <= parameter.value <= wanted.high:
            parameter.min_value, parameter.max_value = limits
            parameter.value = wanted.value
        else:
            parameter.value = wanted.value
            parameter.min_value, parameter.max_value = limits
        parameter.free = wanted.free
        if wanted.name in _STEPS:
            parameter.delta = _STEPS[wanted.name]
    return shape
