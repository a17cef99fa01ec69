"""What the lines of a fit may be: the catalogue's rows near them, and whether these hold together.

Hardly an energy is without a row within a keV or two, so that nearness alone names nothing. A
nuclide has several lines in known ratios: a row is believed only if the nuclide's other lines of
like strength are there as well, wherever the spectrum would show them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .calibration import EnergyScale, fit_scale
from .catalogue import NEAR_REACH, CatalogueLine, instrumental_lines

if TYPE_CHECKING:
    from ..fit.result import LineBackgroundFit

#: A fitted line and a row agree within this many standard deviations of the two errors and
#: `SCALE_ERROR` [keV]: the energy scale and the line shape are not known better.
MATCH_SIGMAS, SCALE_ERROR = 3.0, 0.5

#: Rows within so many keV tell how close to each other the catalogue's rows are.
_SPACING_REACH = 50.0

#: In bins with as many rows as this a line cannot be told from a blend of several.
_ROWS_IN_BIN = 2.0

#: A line would have been found above this many standard deviations of what lies under it.
_SEEN_SIGMAS = 5.0
#: Other lines of a nuclide that are at least this strong, relative to the row's, may be missed.
_PARTNER = 0.3
#: Fainter ones are partners where they have the counts foretold within this factor.
_FAINT_WITHIN = 3.0
#: Share of the counts foretold by the row's line and the intensities that a line must have to be
#: a partner, and that it would be missed with: efficiencies and summing are known to a factor of
#: a few only.
_PARTNER_SHARE, _MISSED_SHARE = 0.3, 0.2
#: One line may be missing, hidden in another's shape, for this many partners.
_PARTNERS_PER_MISSING = 3
#: Below this energy [keV] shielding and thresholds hide lines.
_HIDDEN_BELOW = 150.0
#: What a row without an intensity is ranked as, percent.
_UNKNOWN_INTENSITY = 5.0
#: A row with another nuclide's this close in rank (less than a partner line, 100 times the
#: intensity, or 1.4 standard deviations) is no name unless a partner line speaks for it: at
#: 1377.7 keV 57Ni has 20 times the intensity of 214Bi, which says nothing of how much of each is
#: there.
_DECIDED_BY = 1.0


@dataclass(frozen=True)
class Match:
    """A fitted line against a row of the catalogue.

    Attributes
    ----------
    line : CatalogueLine
    difference : float, keV
        Fitted minus catalogue energy, after the energy scale if that is applied.
    sigmas : float
        The difference in standard deviations, `SCALE_ERROR` included.
    partners : tuple of float, keV
        Fitted lines at other energies of the same nuclide.
    missing : tuple of float, keV
        Where the nuclide has a line that the spectrum would show, and none is.
    known : bool
        Whether the fitted energy is known better than the catalogue's rows are apart; otherwise
        some row agrees with anything.
    """

    line: CatalogueLine
    difference: float
    sigmas: float
    partners: tuple[float, ...] = ()
    missing: tuple[float, ...] = ()
    known: bool = True

    @property
    def is_near(self) -> bool:
        """Whether the energies agree, and are known well enough to say so."""
        return self.known and abs(self.sigmas) <= MATCH_SIGMAS

    @property
    def agrees(self) -> bool:
        """Whether the line may be the row's: energy and the nuclide's other lines."""
        return self.is_near and len(self.missing) <= len(self.partners) // _PARTNERS_PER_MISSING

    @property
    def rank(self) -> float:
        """How likely the row is among those that agree: partner lines, intensity, distance."""
        intensity = self.line.intensity or _UNKNOWN_INTENSITY
        return (
            min(len(self.partners), 3)
            + 0.5 * math.log10(max(intensity, 0.1) / 100.0)
            - 0.5 * self.sigmas**2
        )


@dataclass(frozen=True)
class IdentifiedLine:
    """A line of a fit and the rows near it.

    Attributes
    ----------
    parameter : str
        The parameter that holds the energy, "mu_2".
    energy : float, keV
    error : float or None, keV
        None if the energy is fixed or sits on a limit.
    matches : tuple of Match
        Rows within `catalogue.NEAR_REACH`, the likeliest first.
    """

    parameter: str
    energy: float
    error: float | None
    matches: tuple[Match, ...]

    @property
    def match(self) -> Match | None:
        """The likeliest row; None if none agrees, or nothing tells it from another nuclide's."""
        if not self.matches or not self.matches[0].agrees or self.rivals:
            return None
        return self.matches[0]

    @property
    def rivals(self) -> tuple[Match, ...]:
        """Rows of other nuclides that agree as well as the likeliest one, by the energy alone.

        Parents of one level, which have the same mass number, make one line and are no rivals
        (52Mn and 52V, 60Co and 60Cu).
        """
        first = next(iter(self.matches), None)
        if first is None or not first.agrees or first.partners or _is_annihilation(first.line):
            return ()
        return tuple(
            m
            for m in self.matches[1:]
            if m.agrees
            and "doubtful" not in m.line.flags
            and _mass_number(m.line) != _mass_number(first.line)
            and first.rank - m.rank < _DECIDED_BY
        )

    @property
    def name(self) -> str:
        """The isotope, with a question mark for a doubtful row.

        "?" if rows agree with the energy, but not with the lines that are and are not there, or
        if nothing tells those of several nuclides apart; "" if no row is near.
        """
        if self.match is not None:
            return self.match.line.isotope + "?" * ("doubtful" in self.match.line.flags)
        return "?" if any(m.is_near for m in self.matches) else ""


@dataclass(frozen=True)
class _Seen:
    """The lines of a fit as numbers, each shape (n_lines,), and what else would be seen."""

    names: tuple[str, ...]
    energies: NDArray[np.float64]
    errors: tuple[float | None, ...]
    counts: NDArray[np.float64]
    widths: NDArray[np.float64]
    fit: LineBackgroundFit

    def bin_width(self, energy: float) -> float:
        """Of the bin at an energy, keV."""
        spectrum = self.fit.spectrum
        i = int(np.searchsorted(spectrum.edges, energy, side="right")) - 1
        return float(spectrum.widths[min(max(i, 0), spectrum.n_bins - 1)])

    def least(self, energy: float) -> float:
        """Counts of a line at `energy` [keV] that the spectrum would show; inf where it cannot."""
        spectrum = self.fit.spectrum
        nearest = int(np.abs(self.energies - energy).argmin())
        width = max(self.widths[nearest], 0.5 * float(np.median(spectrum.widths)))
        edges = spectrum.edges
        bins = (edges[1:] > energy - 1.2 * width) & (edges[:-1] < energy + 1.2 * width)
        covered = edges[0] <= energy - width and energy + width <= edges[-1]
        if not covered or not bins.any() or not spectrum.used[bins].all():
            return math.inf
        below = float(self.fit.expected_total[bins].sum())
        return _SEEN_SIGMAS * math.sqrt(below + _SEEN_SIGMAS**2) / 0.77

    def near(self, energy: float, spread: float) -> int | None:
        """The strongest line within `MATCH_SIGMAS` of an energy."""
        distance = np.abs(self.energies - energy)
        close = np.flatnonzero(distance <= MATCH_SIGMAS * spread)
        return int(close[np.argmax(self.counts[close])]) if close.size else None


def spacing(energy: float) -> float:
    """Mean distance [keV] of the catalogue's rows near an energy, at most `NEAR_REACH`."""
    near = (energy - _SPACING_REACH, energy + _SPACING_REACH)
    rows = sum(near[0] <= row.energy <= near[1] for row in instrumental_lines())
    return min(2.0 * _SPACING_REACH / max(rows, 1), NEAR_REACH)


def match_energy(
    energy: float, error: float | None = None, bin_width: float = 0.0
) -> tuple[Match, ...]:
    """Rows within `catalogue.NEAR_REACH` of a fitted energy [keV], the likeliest first.

    By the energy alone: rows that agree come before others, among them those without doubt before
    doubtful ones, then by distance. None agrees with an energy whose error exceeds `spacing`,
    nor with one from bins [keV] that hold `_ROWS_IN_BIN` rows on average: it may be of several
    lines. Annihilation, in every spectrum, agrees even there.
    """
    found = []
    apart = spacing(energy)
    known = (error is None or error <= apart) and bin_width < _ROWS_IN_BIN * apart
    for row in instrumental_lines(near=energy):
        spread = math.hypot(error or 0.0, row.uncertainty or 0.0, SCALE_ERROR)
        difference = energy - row.energy
        here = known or _is_annihilation(row)  # in any spectrum, whatever else is in the bin
        found.append(Match(row, difference, difference / spread, known=here))
    return tuple(sorted(found, key=lambda m: (not m.agrees, "doubtful" in m.line.flags)))


def identify_lines(
    fit: LineBackgroundFit, *, scale: EnergyScale | None = None
) -> tuple[IdentifiedLine, ...]:
    """The lines of a fit with the catalogue's rows near them, in order of energy.

    Lines without counts are left out.

    Parameters
    ----------
    fit : LineBackgroundFit
    scale : EnergyScale, optional
        Compare with the energies that this makes of the fitted ones, `energy_scale` of the fit
        for example. The fit and its energies stay as they are.
    """
    seen = _seen_lines(fit)
    if scale is not None:
        seen = replace(seen, energies=scale.corrected(seen.energies))
    lines = []
    for i, name in enumerate(seen.names):
        energy = float(seen.energies[i])
        near = match_energy(energy, seen.errors[i], seen.bin_width(energy))
        matches = [_with_partners(m, i, seen) if m.is_near else m for m in near]
        matches.sort(key=_order)
        given = energy if scale is None else float(scale.original(energy))
        lines.append(IdentifiedLine(name, given, seen.errors[i], tuple(matches)))
    return tuple(sorted(lines, key=lambda line: line.energy))


def energy_scale(fit: LineBackgroundFit) -> EnergyScale | None:
    """Offset and gain of a fit's energies against the catalogue; None where lines are too few."""
    seen = _seen_lines(fit)
    return fit_scale(seen.energies, _significance(seen))


def _significance(seen: _Seen) -> NDArray[np.float64]:
    """Significance of each line, about."""
    least = np.array([seen.least(e) for e in seen.energies], dtype=float)
    return np.asarray(_SEEN_SIGMAS * seen.counts / least)


def _seen_lines(fit: LineBackgroundFit) -> _Seen:
    model, errors = fit.model, fit.errors
    present = [i for i in model.lines if fit.theta[model.components[i].area] > 0.0]
    slots = [model.components[i].energy for i in present]
    names = tuple(model.names[slot] for slot in slots)
    counts = [fit.theta[model.components[i].area] for i in present]
    return _Seen(
        names,
        fit.theta[slots].astype(float),
        tuple(errors.get(name) for name in names),
        np.array(counts, dtype=float),
        np.array([model.components[i].sigma(fit.theta) for i in present]),
        fit,
    )


def _with_partners(match: Match, line: int, seen: _Seen) -> Match:
    """The match with the nuclide's other lines looked up in the spectrum."""
    row = match.line
    partners: list[float] = []
    missing: list[float] = []
    for other, expected, faint in foretold(row, float(seen.counts[line])):
        spread = math.hypot(other.uncertainty or 0.0, SCALE_ERROR)
        found = seen.near(other.energy, spread)
        if found == line:
            continue
        counts = 0.0 if found is None else float(seen.counts[found])
        if faint:
            if expected / _FAINT_WITHIN <= counts <= expected * _FAINT_WITHIN:
                partners.append(float(seen.energies[found]))
        elif found is not None and counts >= expected * _PARTNER_SHARE:
            partners.append(float(seen.energies[found]))
        elif other.energy >= _HIDDEN_BELOW and expected * _MISSED_SHARE > seen.least(other.energy):
            missing.append(other.energy)
    return replace(match, partners=tuple(partners), missing=tuple(missing))


def foretold(row: CatalogueLine, counts: float) -> Sequence[tuple[CatalogueLine, float, bool]]:
    """The nuclide's other rows, the counts that they should have, and whether they are faint.

    The efficiency is taken to fall as 1/E above the row, and to be flat below it.
    """
    family = [
        other
        for other in instrumental_lines()
        if other.isotope == row.isotope and other.half_life == row.half_life and other != row
    ]
    if "escape" in row.flags:  # the line itself is stronger
        steps = (510.99895, 2 * 510.99895)
        whole = [
            other
            for other in family
            if any(abs(other.energy - row.energy - step) < 0.1 for step in steps)
            and "escape" not in other.flags
        ]
        return [(other, counts, False) for other in whole]
    if row.intensity is None:
        return []
    return [
        (
            other,
            counts * other.intensity / row.intensity * min(1.0, row.energy / other.energy),
            other.intensity < _PARTNER * row.intensity,
        )
        for other in family
        if other.intensity is not None
    ]


def _is_annihilation(row: CatalogueLine) -> bool:
    return row.process == "annihilation"


def _mass_number(row: CatalogueLine) -> str:
    """Digits that the isotope begins with."""
    return row.isotope[: len(row.isotope) - len(row.isotope.lstrip("0123456789"))]


def _order(match: Match) -> tuple[bool, bool, bool, float]:
    """Key that puts the likeliest match first.

    Annihilation, in every spectrum, goes before the nuclides with a line near 511 keV.
    """
    rank = -match.rank if match.is_near else abs(match.difference)
    return not match.agrees, "doubtful" in match.line.flags, not _is_annihilation(match.line), rank
