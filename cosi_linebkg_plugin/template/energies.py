"""How the energies of a template's components are distributed inside the source range."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import LineBackgroundWarning
from ..histograms.axes import ENERGY_LABEL, axis_in_kev
from ..spectrum.axis import overlapping_bins
from ..spectrum.components import Parameter, SpectralModel, range_counts
from ..spectrum.kernels import FULL_REACH
from .amounts import LineRatio, SourceAmounts, nearest_line

if TYPE_CHECKING:
    from ..fit.result import LineBackgroundFit
    from ..histograms.axis import EventAxes

Array = NDArray[np.float64]

#: What is said where the energies of a hidden line are guessed.
EVEN = (
    "The energies of a line of unknown amount are taken as even over the source range: part of a "
    "line that peaks where the source's does would count as source (a fifth of the flux in 27 keV "
    "around 26Al). Make the template with line_ratio={'line': energy, 'tracer': energy of a fitted "
    "line}, without a value: the line then has its own energies, and its amount stays free."
)

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


def energy_densities(
    fit: LineBackgroundFit,
    axes: EventAxes,
    source_range: tuple[float, float],
    labels: Sequence[str],
    unknown: Sequence[str],
    ratio: LineRatio | None,
) -> list[EnergyDensity | None]:
    """The distribution of each component's energies, from the fitted spectrum.

    "continuum" and "lines" have those of their part of the fitted model, with the line that a
    ratio adds; "background" that of the sum. An amount that is not known without a ratio is of a
    line that the fit does not see: its energies are those of the line that a ratio without a value
    names; else taken as even, or with several energy bins as those of the model's lines in the
    source range (`SourceAmounts.hidden_shares`).

    Parameters
    ----------
    fit : LineBackgroundFit
    axes : EventAxes
        Of the template.
    source_range : (low, high), keV
    labels, unknown : sequence of str
        The template's components, and those of which the amount is not known.
    ratio : LineRatio, optional

    Returns
    -------
    list of EnergyDensity or None, one per energy bin of the axes
        None for bins outside the source range.
    """
    alone = ratio is None or ratio.value is None
    hidden = set(unknown) if alone else set()
    densities: list[EnergyDensity | None] = []
    edges = axis_in_kev(axes[ENERGY_LABEL])
    several = int(overlapping_bins(edges, *source_range).sum()) > 1
    if hidden and ratio is None and not several:
        warnings.warn(EVEN, LineBackgroundWarning, stacklevel=3)
    # as the template's bins share out the counts of a line that is not seen
    amounts = None
    if hidden and (several or ratio is not None):
        amounts = SourceAmounts(fit.model, fit.theta, fit.spectrum.edges, source_range, ratio)
    for a, b in itertools.pairwise(edges.tolist()):
        low, high = max(a, source_range[0]), min(b, source_range[1])
        if low >= high:
            densities.append(None)
            continue
        bins = np.linspace(low, high, _n_steps(fit, high - low) + 1)
        parts = _parts(fit, bins, None if alone else ratio)
        even = np.ones(bins.size - 1)
        unseen = even if amounts is None else amounts.hidden_shares(fit.theta, bins)
        rows = [unseen if x in hidden else _of_label(x, parts) for x in labels]
        density = np.array([row / (row.sum() * (bins[1] - bins[0])) for row in rows])
        densities.append(EnergyDensity(low, high, density))
    return densities


def _parts(fit: LineBackgroundFit, bins: Array, ratio: LineRatio | None) -> dict[str, Array]:
    """Counts of continuum and lines in each step."""
    lines = fit.model.lines
    others = [i for i in range(len(fit.model.components)) if i not in lines]
    of_lines = _counts(fit, bins, lines)
    if ratio is not None:
        of_lines += _ratio_counts(fit, bins, ratio)
    return {"continuum": _counts(fit, bins, others), "lines": of_lines}


def _of_label(label: str, parts: dict[str, Array]) -> Array:
    kind = label.split("_")[0]  # split() appends the axis and a number
    row = parts.get(kind, parts["continuum"] + parts["lines"])
    return row if row.sum() > 0 else np.ones(row.size)


def _n_steps(fit: LineBackgroundFit, width: float) -> int:
    model = fit.model
    if any(c.table is not None for c in model.components):
        return _STEPS_OF_TABLES
    widths = [model.components[i].sigma(fit.theta) for i in model.lines]
    steps = np.ceil(_STEPS_PER_SIGMA * width / min(widths)) if widths else 0
    return int(np.clip(steps, _FEWEST_STEPS, _MOST_STEPS))


def _counts(fit: LineBackgroundFit, bins: Array, components: Sequence[int]) -> Array:
    """Expected counts of some of the fitted components, shape (n_steps,)."""
    total = np.zeros(bins.size - 1)
    direct = [i for i in components if fit.model.components[i].table is None]
    if direct:
        total += fit.model.select(direct).bind(bins, FULL_REACH).counts(fit.theta)
    for i in set(components) - set(direct):
        one = fit.model.select([i])
        for k, (a, b) in enumerate(itertools.pairwise(bins.tolist())):
            total[k] += range_counts(one, fit.theta, a, b, fit.spectrum.edges)[0][0]
    return total


def _ratio_counts(fit: LineBackgroundFit, bins: Array, ratio: LineRatio) -> Array:
    """What a line ratio adds: a line with the shape of its tracer."""
    model, theta = fit.model, fit.theta
    tracer = model.components[nearest_line(model, theta, ratio.tracer, "line_ratio")]
    n = len(model.parameters)
    line = replace(tracer, slots=(n, n + 1, *tracer.slots[2:]))
    parameters = (*model.parameters, Parameter("F", 1.0), Parameter("mu", ratio.line))
    alone = SpectralModel(parameters, (line,), derived=model.derived)
    assert ratio.value is not None
    values = np.append(theta, [ratio.value * theta[tracer.area], ratio.line])
    return alone.bind(bins, FULL_REACH).counts(values)
