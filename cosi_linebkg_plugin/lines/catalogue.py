"""Instrumental gamma-ray lines of germanium spectrometers in space, and what a fitted line may be.

The table is ``instrumental_lines.csv`` beside this file. Its sources: ENSDF, the Evaluated Nuclear
Structure Data File (https://www.nndc.bnl.gov/ensdf), by the parent of the decay; NUBASE2020 (Kondev
et al. 2021, Chin. Phys. C 45, 030001); CODATA 2018; K binding energies from the X-Ray Data Booklet
(https://xdb.lbl.gov). Energies that are sums of these say so in the row. The nuclei are those that
cosmic rays make in germanium, aluminium, copper and BGO, and natural radioactivity.

Flags of a row:

* ``sky``: within 4 keV of a line that is looked for in the sky (511 keV, 26Al, 44Ti, 60Fe, and 7Be
  and 22Na of novae): what a fit finds there is not the instrument alone;
* ``blend``: within 3 keV, one standard deviation of COSI's resolution, of another isotope's row;
* ``sum``: energies that add up in the detector (a photon and a K shell, or two photons);
* ``broad``: Doppler-broadened;
* ``doubtful``: energy and parent are known, but not that the line is seen in an instrument.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..errors import BinningError
from ..spectrum.axis import check_range
from ..units import in_kev, to_kev

if TYPE_CHECKING:
    from ..fit.result import LineBackgroundFit

#: How far from an energy `near` looks, keV.
NEAR_REACH = 10.0

#: A fitted line and a row agree within this many standard deviations of the two errors and
#: `SCALE_ERROR` [keV]: the energy scale and the line shape are not known better.
MATCH_SIGMAS, SCALE_ERROR = 3.0, 0.5

BLEND_REACH, SKY_REACH = 3.0, 4.0  # keV

#: Lines looked for in the sky, keV: 7Be, annihilation, 44Ti, 60Fe, 22Na, 60Fe, 26Al.
SKY_LINES = (477.6035, 510.99895, 1157.022, 1173.228, 1274.537, 1332.492, 1808.65)


@dataclass(frozen=True)
class CatalogueLine:
    """One line of the catalogue; it may stand among the lines of a `background_model`.

    Attributes
    ----------
    energy : float, keV
    uncertainty : float or None, keV
        Standard error; None where the source states none.
    isotope : str
        The decaying nucleus, "26Al"; "e+e-" for annihilation.
    process : str
    half_life : str
        With its unit, or "prompt".
    source : str
        Where the energy can be looked up.
    flags : tuple of str
        Of "sky", "blend", "sum", "broad", "doubtful".
    """

    energy: float
    uncertainty: float | None
    isotope: str
    process: str
    half_life: str
    source: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """A fitted line against a row of the catalogue.

    Attributes
    ----------
    line : CatalogueLine
    difference : float, keV
        Fitted minus catalogue energy.
    sigmas : float
        The difference in standard deviations, `SCALE_ERROR` included.
    """

    line: CatalogueLine
    difference: float
    sigmas: float

    @property
    def agrees(self) -> bool:
        """Whether the line may be the row's."""
        return abs(self.sigmas) <= MATCH_SIGMAS


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
        Rows within `NEAR_REACH`, the likeliest first.
    """

    parameter: str
    energy: float
    error: float | None
    matches: tuple[Match, ...]

    @property
    def match(self) -> Match | None:
        """The likeliest row, or None if none agrees."""
        return self.matches[0] if self.matches and self.matches[0].agrees else None

    @property
    def name(self) -> str:
        """The isotope, with a question mark for a doubtful row; "" without a match."""
        if self.match is None:
            return ""
        return self.match.line.isotope + "?" * ("doubtful" in self.match.line.flags)


def instrumental_lines(energy_range: Any = None, *, near: Any = None) -> tuple[CatalogueLine, ...]:
    """Rows of the catalogue.

    Parameters
    ----------
    energy_range : (low, high), optional
        Quantities, or numbers in keV; both ends belong to it. Default: all energies.
    near : Quantity or float, optional
        An energy: the rows within 10 keV of it, the nearest first.

    Returns
    -------
    tuple of CatalogueLine
        In order of energy, or of distance. Any of them may be a line of `background_model`.

    Raises
    ------
    BinningError
        For what is no energy, or no range.
    """
    rows = _table()
    if energy_range is not None:
        low, high = check_range(*in_kev(energy_range))
        rows = tuple(row for row in rows if low <= row.energy <= high)
    if near is not None:
        energy = to_kev(near)
        if not (math.isfinite(energy) and energy > 0):
            raise BinningError(f"near= takes an energy above 0 keV, got {energy:g} keV.")
        close = (row for row in rows if abs(row.energy - energy) <= NEAR_REACH)
        rows = tuple(sorted(close, key=lambda row: abs(row.energy - energy)))
    return rows


def match_energy(energy: float, error: float | None = None) -> tuple[Match, ...]:
    """Rows within `NEAR_REACH` of a fitted energy [keV], the likeliest first.

    Rows that agree come before others, among them those without doubt before doubtful ones, then
    by distance.
    """
    found = []
    for row in instrumental_lines(near=energy):
        spread = math.hypot(error or 0.0, row.uncertainty or 0.0, SCALE_ERROR)
        found.append(Match(row, energy - row.energy, (energy - row.energy) / spread))
    return tuple(sorted(found, key=lambda m: (not m.agrees, "doubtful" in m.line.flags)))


def identify_lines(fit: LineBackgroundFit) -> tuple[IdentifiedLine, ...]:
    """The lines of a fit with the catalogue's rows near them, in order of energy.

    Lines of zero amplitude are left out.
    """
    errors, lines = fit.errors, []
    for component in fit.model.components:
        if component.label != "lines" or not fit.theta[component.slots[0]] > 0.0:
            continue
        name, energy = fit.model.names[component.slots[1]], float(fit.theta[component.slots[1]])
        error = errors.get(name)
        lines.append(IdentifiedLine(name, energy, error, match_energy(energy, error)))
    return tuple(sorted(lines, key=lambda line: line.energy))


@cache
def _table() -> tuple[CatalogueLine, ...]:
    text = files(__package__).joinpath("instrumental_lines.csv").read_text(encoding="utf-8")
    rows = []
    for row in csv.DictReader(text.splitlines()):
        uncertainty = row["uncertainty_kev"]
        rows.append(
            CatalogueLine(
                float(row["energy_kev"]),
                float(uncertainty) if uncertainty else None,
                row["isotope"],
                row["process"],
                row["half_life"],
                row["source"],
                tuple(row["flags"].split()),
            )
        )
    return tuple(sorted(rows, key=lambda row: row.energy))
