"""Which lines may be there although the counts do not show them: the catalogue's rows, merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ModelError
from ..fit.faint import with_faint_lines
from ..fit.numbers import DEFAULT_WIDTH, FaintLine
from ..fit.result import LineBackgroundFit
from ..spectrum.axis import EnergySpectrum
from ..units import array_in
from .catalogue import CatalogueLine, instrumental_lines
from .identify import foretold, identify_lines

#: At most so many nuclides are named for one line.
_NAMED = 3


def marginalise_faint(
    fit: LineBackgroundFit,
    faint_lines: bool | Sequence[Any],
    where: tuple[float, float] | None = None,
) -> LineBackgroundFit:
    """The fit with the catalogue's lines that its counts do not show marginalised.

    Parameters
    ----------
    fit : LineBackgroundFit
        Valid; see `fit.faint.with_faint_lines`.
    faint_lines : bool or sequence of energies
        False gives the fit as it is, True takes the catalogue's lines, energies (keV, or
        quantities) are taken as well as these.
    where : (low, high), keV, optional
        Where the result tells what they do; see `fit.faint.with_faint_lines`.

    Raises
    ------
    ModelError
        As of `asked_energies`.
    DataError, FitError
        As of `fit.faint.with_faint_lines`.
    """
    energies = asked_energies(fit.spectrum, faint_lines)
    return fit if energies is None else with_faint_lines(fit, candidates(fit, energies), where)


def asked_energies(
    spectrum: EnergySpectrum, faint_lines: bool | Sequence[Any]
) -> tuple[float, ...] | None:
    """Energies [keV] of lines besides the catalogue's; None if no faint lines are asked for.

    Raises
    ------
    ModelError
        For what is neither True, False nor energies, and for an energy outside the axis.
    """
    if isinstance(faint_lines, bool | np.bool_):
        return () if faint_lines else None
    energies = array_in(faint_lines, "keV", "energies of faint_lines=", ModelError)
    low, high = spectrum.edges[0], spectrum.edges[-1]
    for energy in energies.ravel().tolist():
        if not low < energy < high:
            raise ModelError(
                f"The faint line at {energy:g} keV lies outside the energy axis, {low:g}-{high:g} "
                "keV; leave it out."
            )
    return tuple(energies.ravel().tolist())


def candidates(fit: LineBackgroundFit, energies: Sequence[float] = ()) -> tuple[FaintLine, ...]:
    """Lines that may be there: the catalogue's, and those of given energies, in order of energy.

    Left out are what is looked for in the sky, and what is closer to a fitted line than a width
    (bins included); those closer to each other make one line at their mean energy.

    Parameters
    ----------
    fit : LineBackgroundFit
    energies : sequence of float, keV
        Of further lines.

    Returns
    -------
    tuple of FaintLine
        With the counts that the strongest seen line of the same nuclide foretells, where partner
        lines speak for that nuclide (`identify.Match.partners`).
    """
    edges = fit.spectrum.edges
    known = _foretold(fit)
    rows = [
        (row.energy, row.isotope, known.get(row))
        for row in instrumental_lines((float(edges[0]), float(edges[-1])))
        if "sky" not in row.flags
    ]
    rows += [(energy, "", None) for energy in energies]
    groups: list[list[tuple[float, str, float | None]]] = []
    for row in sorted(rows, key=lambda row: row[0]):
        width = _width(fit, row[0])
        if any(abs(row[0] - energy) < width for energy, _ in fit.lines):
            continue
        if groups and row[0] - groups[-1][0][0] < width:
            groups[-1].append(row)
        else:
            groups.append([row])
    return tuple(_merged(group) for group in groups)


def _width(fit: LineBackgroundFit, energy: float) -> float:
    """Width [keV] within which lines are one: that of the nearest line, and of the bin."""
    edges = fit.spectrum.edges
    i = min(max(int(np.searchsorted(edges, energy)) - 1, 0), fit.spectrum.n_bins - 1)
    sigma = min(fit.lines, key=lambda x: abs(x[0] - energy), default=(0.0, DEFAULT_WIDTH))[1]
    return float(np.hypot(sigma, fit.spectrum.widths[i] / np.sqrt(12.0)))


def _foretold(fit: LineBackgroundFit) -> dict[CatalogueLine, float]:
    """Counts of the catalogue's rows, from the strongest seen line of each nuclide."""
    model = fit.model
    counts = {
        model.names[model.components[i].energy]: float(fit.theta[model.components[i].area])
        for i in model.lines
    }
    found: dict[CatalogueLine, float] = {}
    for line in sorted(identify_lines(fit), key=lambda x: counts[x.parameter]):
        if line.match is not None and line.match.partners:
            for row, expected, _ in foretold(line.match.line, counts[line.parameter]):
                found[row] = expected
    return found


def _merged(group: Sequence[tuple[float, str, float | None]]) -> FaintLine:
    """One line for several; its foretold counts are the sum of those that are."""
    energies, names, counts = zip(*group, strict=True)
    several = list(dict.fromkeys(name for name in names if name))
    name = ", ".join([*several[:_NAMED], *(["..."] if len(several) > _NAMED else [])])
    known = [x for x in counts if x is not None]
    return FaintLine(float(np.mean(energies)), name, sum(known) if known else None)
