"""What a user must know about the result of a search for lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..fit.result import LineBackgroundFit
from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import SpectralModel
from .trial import Form, Shape, TrialLine

#: A line this many times weaker than another within this many widths may be that one's shape.
_SATELLITE_RATIO, _SATELLITE_REACH = 20.0, 8.0

#: Lines closer than this many bins may take as many parameters as they have bins.
_CROWDED = 2.5


#: What helps where a parameter sits on its limit, by the start of its name.
_CURES = {"sigma": "; search again from another width (sigma)"}


def search_notes(
    fit: LineBackgroundFit,
    lines: Sequence[TrialLine],
    shape: Shape,
    asked: Form,
    bin_width: float,
    hidden: bool = False,
    vague: Sequence[float] = (),
) -> Iterator[str]:
    """One sentence for each.

    Parameters
    ----------
    fit : LineBackgroundFit
        The last fit of the search.
    lines : sequence of TrialLine, in order of energy
    shape : Shape
    asked : Form
        Where the search began.
    bin_width : float, keV
    hidden : bool
        The bins do not show the lines' width.
    vague : sequence of float, keV
        Energies that are not known well enough for names.
    """
    unknown = "no line is strong enough to tell"
    form, values = shape.form, shape.values
    taken = [form.continuum] if form.continuum != asked.continuum else []
    taken += ["a step under each line"] if form.step and not asked.step else []
    taken += ["a width that grows with energy"] if form.width != asked.width else []
    if taken:
        yield f"the data asked for more than was asked for: {', '.join(taken)}"
    middle = float(np.mean([x.energy for x in lines])) if lines else 1000.0
    sigma = float(shape.sigma(middle))
    width = math.hypot(sigma, bin_width / math.sqrt(12.0))
    if lines and not form.free_width:
        why = f"bins of {bin_width:.3g} keV do not show it" if hidden else unknown
        yield f"the width is held at {sigma:g} keV: {why}"
    if vague:
        yield (
            f"{', '.join(map('{:.0f}'.format, vague))} keV: known less well than the catalogue's "
            "lines are apart, so that they have no names; finer bins would tell"
        )
    if lines and form.tail and not form.free_tail and values["fraction"] == 0.0:
        yield "the lines have no tail"
    elif lines and form.tail and not form.free_tail:
        tail = f"a share of {values['fraction']:g} and a length of {values['length']:g} keV"
        yield f"the tail is held at {tail}: {unknown}"
    yield from no_tails(fit.model, asked.tail)
    if lines and form.step and not form.free_tail:
        yield f"the step is left out: {unknown}"
    for name in fit.at_limits:
        yield f"{name} sits on its limit, {fit.values[name]:.5g}{_CURES.get(name[:5], '')}"
    satellites = [
        f"{x.energy:.1f}"
        for x in lines
        if any(
            abs(x.energy - o.energy) < _SATELLITE_REACH * width
            and _SATELLITE_RATIO * x.counts < o.counts
            for o in lines
        )
    ]
    if satellites:
        yield (
            f"{', '.join(satellites)} keV: beside a line {_SATELLITE_RATIO:g} times as strong; "
            "the shape of that one may explain it"
        )
    energies = [x.energy for x in lines]
    crowds = [
        f"{low:.0f}-{high:.0f}" for low, high in _crowds(fit.spectrum, energies, width, bin_width)
    ]
    if crowds:
        yield (
            f"{', '.join(crowds)} keV: the lines have as many parameters as bins; residuals of "
            "0 say nothing there, and counts no larger than their error are known in sums alone"
        )


def no_tails(model: SpectralModel, asked: bool) -> Iterator[str]:
    """One sentence on the lines that get no tail although tails are asked for."""
    if not asked:
        return
    parts = [model.parameters[c.energy].value for c in model.components if c.broad_slots]
    if parts:
        where = ", ".join(f"{energy:.1f}" for energy in parts)
        yield (
            f"{where} keV: a narrow and a broad part take the place of the tail that is asked for; "
            "width: own gives the line a tail and one width"
        )


def _crowds(
    spectrum: EnergySpectrum, energies: Sequence[float], width: float, bin_width: float
) -> Iterator[tuple[float, float]]:
    """Ranges [keV] in which the lines leave no bins over."""
    crowd: list[float] = []
    for energy in [*energies, math.inf]:
        if crowd and energy - crowd[-1] > _CROWDED * bin_width:
            low, high = crowd[0] - width, crowd[-1] + width
            bins = (spectrum.edges[1:] > low) & (spectrum.edges[:-1] < high) & spectrum.used
            if len(crowd) > 1 and 2 * len(crowd) >= bins.sum():
                yield low, high
            crowd = []
        crowd.append(energy)
