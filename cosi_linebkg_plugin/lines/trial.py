"""The spectrum that a search fits at each of its steps: a power law and lines of one shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..fit.result import LineBackgroundFit
from ..model.spec import SIGMA_LIMITS, TAIL_LENGTHS
from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import Component, Parameter, SpectralModel
from ..spectrum.lineshapes import gaussian_counts, tailed_gaussian_counts
from ..units import to_kev

#: Share of the fitted bins that stays as degrees of freedom: 40 of 90.
FREE_SHARE = 4.0 / 9.0

#: The width is fitted, within this factor of its start value, once a line is this significant,
#: and the tail once one is this significant: weaker lines leave them undetermined.
WIDTH_FACTOR, WIDTH_FROM, TAIL_FROM = 3.0, 10.0, 30.0


@dataclass(frozen=True)
class Settings:
    """What a search was asked for, checked; energies in keV.

    Attributes
    ----------
    sigma : float, keV
        Expected width of the lines.
    tail : bool
    false_alarm : float
    max_lines : int
    pivot : float, keV
    asked : bool
        Whether max_lines is the user's.
    """

    sigma: float
    tail: bool
    false_alarm: float
    max_lines: int
    pivot: float
    asked: bool = False


@dataclass(frozen=True)
class TrialLine:
    """Start values of a line, and the energies that it may take."""

    energy: float
    counts: float
    window: tuple[float, float] = (0.0, 0.0)
    fixed: bool = False


@dataclass(frozen=True)
class Shape:
    """Width and tail that the lines share, and which of them are fitted."""

    sigma: float
    fraction: float = 0.0
    length: float = 1.0
    tail: bool = False
    free_sigma: bool = False
    free_tail: bool = False

    def counts(
        self, edges: NDArray[np.float64], energies: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Counts per bin of lines of unit amplitude, shape (n_energies, n_bins)."""
        if self.tail:
            shape = (self.sigma, self.fraction, self.length)
            return tailed_gaussian_counts(edges, 1.0, energies, *shape)[1][:, 0]
        return gaussian_counts(edges, 1.0, energies, self.sigma)[1][:, 0]


def trial_model(
    settings: Settings,
    continuum: tuple[float, float],
    lines: Sequence[TrialLine],
    shape: Shape,
) -> SpectralModel:
    """A power law and lines of one shape, with the names that `background_model` gives.

    Parameters
    ----------
    settings : Settings
    continuum : (float, float)
        K [1/keV] and index.
    lines : sequence of TrialLine, in order of energy
    shape : Shape
    """
    k, index = continuum
    parameters = [
        Parameter("K_1", k, "1/keV", 1e-10),
        Parameter("piv_1", settings.pivot, "keV", free=False),
        Parameter("index_1", index, "", -20.0, 20.0),
    ]
    components = [Component("powerlaw", (0, 1, 2))]
    limits = (
        max(settings.sigma / WIDTH_FACTOR, SIGMA_LIMITS[0]),
        min(settings.sigma * WIDTH_FACTOR, SIGMA_LIMITS[1]),
    )
    shared: list[Parameter] = [
        Parameter("sigma", shape.sigma, "keV", *limits, free=shape.free_sigma)
    ]
    if shape.tail:
        free = shape.free_tail
        shared += [
            Parameter("fraction", shape.fraction, "", 0.0, 1.0, free=free),
            Parameter("length", shape.length, "keV", *TAIL_LENGTHS, free=free),
        ]
    links: dict[str, str] = {}
    slots: tuple[int, ...] = ()
    for n, line in enumerate(lines, start=2):
        own = len(parameters)
        parameters.append(Parameter(f"F_{n}", line.counts, "", 0.0))
        parameters.append(
            Parameter(f"mu_{n}", line.energy, "keV", *line.window, free=not line.fixed)
        )
        if not slots:
            slots = tuple(range(own + 2, own + 2 + len(shared)))
            parameters += [replace(p, name=f"{p.name}_{n}") for p in shared]
        else:
            links |= {f"{p.name}_{n}": f"{p.name}_2" for p in shared}
        kind = "tailed_gaussian" if shape.tail else "gaussian"
        components.append(Component(kind, (own, own + 1, *slots)))
    return SpectralModel(tuple(parameters), tuple(components), links)


def lines_of(fit: LineBackgroundFit) -> list[TrialLine]:
    """The lines of a fit at their fitted values, in the order of the model."""
    found = []
    for i in fit.model.lines:
        line = fit.model.components[i]
        mu = fit.model.parameters[line.energy]
        energy, counts = (float(fit.theta[slot]) for slot in (line.energy, line.area))
        found.append(TrialLine(energy, counts, (mu.low, mu.high), not mu.free))
    return found


def fitted_shape(fit: LineBackgroundFit, shape: Shape) -> Shape:
    """`shape` with the fitted width and tail; as it is where there is no line."""
    for i in fit.model.lines:
        line = fit.model.components[i]
        shape = replace(shape, sigma=line.sigma(fit.theta))
        if line.tail_slots:
            fraction, length = (float(fit.theta[slot]) for slot in line.tail_slots)
            shape = replace(shape, fraction=fraction, length=length)
        return shape
    return shape


def checked_settings(
    spectrum: EnergySpectrum,
    sigma: Any,
    tail: bool,
    false_alarm: float,
    max_lines: int | None,
    pivot: Any,
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
            f"sigma= is the expected width of the lines, between {SIGMA_LIMITS[0]:g} and "
            f"{SIGMA_LIMITS[1]:g} keV, got {width:g} keV."
        )
    if not 0.0 < false_alarm < 0.5:
        raise ModelError(
            f"false_alarm= is a probability above 0 and below 0.5, got {false_alarm:g}."
        )
    middle = 0.5 * float(spectrum.edges[0] + spectrum.edges[-1])
    pivot = middle if pivot is None else to_kev(pivot, "pivot energy")
    if not (math.isfinite(pivot) and pivot > 0):
        raise ModelError(f"The pivot energy must be positive, got {pivot:g} keV.")
    n_used = int(spectrum.used.sum())
    shared = 2 + 1 + 2 * bool(tail)
    room = max((n_used - math.ceil(FREE_SHARE * n_used) - shared) // 2, 0)
    asked = max_lines is not None
    if max_lines is None:
        max_lines = room
    elif not 0 <= max_lines <= room:
        raise ModelError(
            f"max_lines={max_lines} is not possible: from 0 to {room} lines leave 4/9 of the "
            f"{n_used} fitted bins as degrees of freedom."
        )
    return Settings(width, bool(tail), false_alarm, max_lines, pivot, asked)
