"""Instrumental gamma-ray lines of germanium spectrometers, from 80 to 6,130 keV.

The table is ``instrumental_lines.csv`` beside this file. Its sources: ENSDF, the Evaluated Nuclear
Structure Data File (https://www.nndc.bnl.gov/ensdf), by the parent of the decay; EGAF, the
Evaluated Gamma-ray Activation File of thermal neutron capture (https://www-nds.iaea.org/pgaa);
NUBASE2020 (Kondev et al. 2021, Chin. Phys. C 45, 030001); CODATA 2018; K binding energies from the
X-Ray Data Booklet (https://xdb.lbl.gov). Energies that are sums or differences of these say so in
the row. The nuclei are those that cosmic rays and neutrons make or excite in germanium, aluminium,
titanium, copper and BGO, and natural radioactivity.

Flags of a row:

* ``sky``: within 4 keV of a line that is looked for in the sky (511 keV, 26Al, 44Ti, 60Fe, and 7Be
  and 22Na of novae): what a fit finds there is not the instrument alone;
* ``blend``: within 3 keV, one standard deviation of COSI's resolution, of another isotope's row;
* ``sum``: energies that add up in the detector (a photon and a K shell, or two photons);
* ``escape``: one or both photons of a pair that a line makes leave the detector;
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
from ..io.tables import Column, format_value, make_table, to_html
from ..spectrum.axis import check_range
from ..units import in_kev, to_kev

if TYPE_CHECKING:
    from astropy.table import Table

#: How far from an energy `near` looks, keV.
NEAR_REACH = 10.0

BLEND_REACH, SKY_REACH = 3.0, 4.0  # keV

#: Lines looked for in the sky [keV], and what makes them; those looked for most come first.
SKY_LINES = {
    1808.65: "26Al",
    510.99895: "annihilation of positrons",
    1157.022: "44Ti",
    1332.492: "60Fe",
    1173.228: "60Fe",
    1274.537: "22Na",
    477.6035: "7Be",
}


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
        Of "sky", "blend", "sum", "escape", "broad", "doubtful".
    intensity : float or None, percent
        Photons per 100 decays; of neutron capture relative to the strongest line. None where the
        source states none.
    """

    energy: float
    uncertainty: float | None
    isotope: str
    process: str
    half_life: str
    source: str
    flags: tuple[str, ...] = ()
    intensity: float | None = None


class CatalogueLines(tuple[CatalogueLine, ...]):
    """Rows of the catalogue: a tuple that shows itself as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        n = len(self)
        if not n:
            return "CatalogueLines(none)"
        low, high = min(x.energy for x in self), max(x.energy for x in self)
        return f"CatalogueLines({n} line{'' if n == 1 else 's'}, {low:.6g}-{high:.6g} keV)"

    def _repr_html_(self) -> str:
        rows = [
            (
                format_value(x.energy, x.uncertainty),
                x.isotope,
                x.half_life,
                x.process,
                " ".join(x.flags),
                x.source,
            )
            for x in self
        ]
        heads = ("energy [keV]", "isotope", "half-life", "process", "flags", "source")
        return to_html(repr(self), heads, rows)

    def to_table(self) -> Table:
        """An astropy table, whose ``write`` knows LaTeX, CSV and ECSV."""
        return make_table(
            [
                Column("energy", [x.energy for x in self], "keV"),
                Column("uncertainty", [x.uncertainty for x in self], "keV", "standard error"),
                Column("isotope", [x.isotope for x in self]),
                Column("half_life", [x.half_life for x in self]),
                Column("process", [x.process for x in self]),
                Column("intensity", [x.intensity for x in self], "percent", "photons per decay"),
                Column("flags", [" ".join(x.flags) for x in self]),
                Column("source", [x.source for x in self]),
            ]
        )


def instrumental_lines(energy_range: Any = None, *, near: Any = None) -> CatalogueLines:
    """Rows of the catalogue.

    Parameters
    ----------
    energy_range : (low, high), optional
        Quantities, or numbers in keV; both ends belong to it. Default: all energies.
    near : Quantity or float, optional
        An energy: the rows within 10 keV of it, the nearest first.

    Returns
    -------
    CatalogueLines
        A tuple of `CatalogueLine`, in order of energy, or of distance. Any of them may be a line of
        `background_model`.

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
    return CatalogueLines(rows)


@cache
def _table() -> tuple[CatalogueLine, ...]:
    text = files(__package__).joinpath("instrumental_lines.csv").read_text(encoding="utf-8")
    rows = []
    for row in csv.DictReader(text.splitlines()):
        uncertainty, intensity = row["uncertainty_kev"], row["intensity_percent"]
        rows.append(
            CatalogueLine(
                float(row["energy_kev"]),
                float(uncertainty) if uncertainty else None,
                row["isotope"],
                row["process"],
                row["half_life"],
                row["source"],
                tuple(row["flags"].split()),
                float(intensity) if intensity else None,
            )
        )
    return tuple(sorted(rows, key=lambda row: row.energy))
