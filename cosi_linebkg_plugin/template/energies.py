"""How the energies of a template's components are distributed inside the source range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..histograms.axes import ENERGY_LABEL, axis_in_kev
from ..spectrum.components import Parameter, SpectralModel, range_counts
from ..spectrum.kernels import FULL_REACH
from .amounts import nearest_line

if TYPE_CHECKING:
    from .template import BackgroundTemplate

Array = NDArray[np.float64]

#: Steps of a table in one width of the narrowest line: linear interpolation is right to 1e-4 then,
#: in the tails too.
_STEPS_PER_SIGMA = 200

_FEWEST_STEPS, _MOST_STEPS = 256, 200_000
#: Of a function read back from a file, whose integrals cost more.
_STEPS_OF_TABLES = 64


@dataclass(frozen=True)
class EnergyDensity:
    """Densities of the components in equal steps across one energy bin of the template.

    Attributes
    ----------
    low, high : float, keV
        What the source range covers of the bin.
    density : ndarray, shape (n_labels, n_steps), 1/keV
        At the middle of each step; the integral over the bin is 1.
    """

    low: float
    high: float
    density: Array


def energy_densities(template: BackgroundTemplate) -> list[EnergyDensity | None]:
    """The distribution of each component's energies, from the fitted spectrum.

    "continuum" and "lines" have those of their part of the fitted model, with the line that a
    ratio adds; "background" that of the sum. An amount that is not known without a ratio is of a
    line that the fit does not see: its energies are taken as even.

    Parameters
    ----------
    template : BackgroundTemplate

    Returns
    -------
    list of EnergyDensity or None, one per energy bin
        None for bins outside the source range.
    """
    edges = axis_in_kev(template.axes[ENERGY_LABEL])
    low, high = template.source_range
    densities: list[EnergyDensity | None] = []
    for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        a, b = max(a, low), min(b, high)
        densities.append(None if a >= b else EnergyDensity(a, b, _density(template, a, b)))
    return densities


def _density(template: BackgroundTemplate, low: float, high: float) -> Array:
    fit = template.fit
    bins = np.linspace(low, high, _n_steps(fit.model, fit.theta, high - low) + 1)
    lines = set(fit.model.lines)
    parts = {
        "continuum": _counts(template, bins, [i for i in range(len(fit.model.components))
                                              if i not in lines]),
        "lines": _counts(template, bins, sorted(lines)) + _ratio_counts(template, bins),
    }  # fmt: skip
    rows = []
    for label in template.labels:
        kind = label.split("_")[0]  # split() appends the axis and a number
        row = parts.get(kind, parts["continuum"] + parts["lines"])
        hidden = label in template.unknown and template.record.line_ratio is None
        if hidden or not row.sum() > 0:
            row = np.ones(bins.size - 1)
        rows.append(row / (row.sum() * (bins[1] - bins[0])))
    return np.array(rows)


def _n_steps(model: SpectralModel, theta: Array, width: float) -> int:
    if any(c.table is not None for c in model.components):
        return _STEPS_OF_TABLES
    widths = [model.components[i].sigma(theta) for i in model.lines]
    steps = np.ceil(_STEPS_PER_SIGMA * width / min(widths)) if widths else 0
    return int(np.clip(steps, _FEWEST_STEPS, _MOST_STEPS))


def _counts(template: BackgroundTemplate, bins: Array, components: Sequence[int]) -> Array:
    """Expected counts of some of the fitted components, shape (n_steps,)."""
    fit = template.fit
    total = np.zeros(bins.size - 1)
    direct = [i for i in components if fit.model.components[i].table is None]
    if direct:
        total += fit.model.select(direct).bind(bins, FULL_REACH).counts(fit.theta)
    for i in set(components) - set(direct):
        one = fit.model.select([i])
        for k in range(total.size):
            a, b = float(bins[k]), float(bins[k + 1])
            total[k] += range_counts(one, fit.theta, a, b, fit.spectrum.edges)[0][0]
    return total


def _ratio_counts(template: BackgroundTemplate, bins: Array) -> Array:
    """What a line ratio adds: a line with the shape of its tracer."""
    ratio = template.record.line_ratio
    if ratio is None:
        return np.zeros(bins.size - 1)
    model, theta = template.fit.model, template.fit.theta
    tracer = model.components[nearest_line(model, theta, ratio.tracer, "line_ratio")]
    n = len(model.parameters)
    line = replace(tracer, slots=(n, n + 1, *tracer.slots[2:]))
    parameters = (*model.parameters, Parameter("F", 1.0), Parameter("mu", ratio.line))
    alone = SpectralModel(parameters, (line,), derived=model.derived)
    values = np.append(theta, [ratio.value * theta[tracer.area], ratio.line])
    return alone.bind(bins, FULL_REACH).counts(values)
