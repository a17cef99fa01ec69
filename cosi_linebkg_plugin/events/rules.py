"""Into which cell an event goes, or why into none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .selections import Selections

GALACTIC, LOCAL = "galactic", "spacecraftframe"

#: Columns of the scattered photon's direction: longitude, latitude; azimuth, colatitude.
DIRECTIONS = {
    GALACTIC: ("Chi galactic", "Psi galactic"),
    LOCAL: ("Chi local", "Psi local"),
}

PIXELS = "PsiChi"

#: As numpy.rad2deg has it.
DEGREES = 180.0 / np.pi

#: Of each field of `Selections` the column, and what takes it to the unit of the limits. Tests are
#: made in this order, and the first that an event fails counts it.
SELECTIONS = {
    "time": ("TimeTags", 1.0),
    "good_times": ("TimeTags", 1.0),
    "energy": ("Energies", 1.0),
    "phi": ("Phi", DEGREES),
    "distance": ("Distance", 1.0),
    "pointing": ("Zpointings", 1.0),
}


@dataclass(frozen=True, eq=False)
class ColumnAxis:
    """An axis whose bin is that of a column.

    Attributes
    ----------
    label, column : str
    factor : float
        Takes the column to the unit of the edges.
    edges : ndarray, shape (n_bins + 1,)
    """

    label: str
    column: str
    factor: float
    edges: NDArray[np.float64]

    @cached_property
    def guesses(self) -> NDArray[np.int64]:
        """In which bin each of many equal steps begins; for `add_bins`."""
        n_bins = self.edges.size - 1
        with np.errstate(over="ignore", invalid="ignore"):  # a guess may be anything
            steps = np.linspace(self.edges[0], self.edges[-1], 8 * n_bins + 1)[:-1]
        return np.clip(np.searchsorted(self.edges, steps, side="right") - 1, 0, n_bins - 1)


def phi_axis(edges: NDArray[np.float64]) -> ColumnAxis:
    """The axis of the Compton scattering angle; edges in deg."""
    return ColumnAxis("Phi", "Phi", DEGREES, edges)


@dataclass(frozen=True)
class Reason:
    """Why an event is not in the histogram: `what` is nan, selection, below, above, impossible."""

    what: str
    name: str


@dataclass(frozen=True)
class Binning:
    """What becomes of an event: selections, then axes in their order, PsiChi the last.

    Attributes
    ----------
    axes : tuple of ColumnAxis
    nside : int
    nest : bool
    frame : str
        GALACTIC or LOCAL.
    selections : Selections
    """

    axes: tuple[ColumnAxis, ...]
    nside: int
    nest: bool
    frame: str
    selections: Selections

    @property
    def shape(self) -> tuple[int, ...]:
        """Bins of each axis, PsiChi the last."""
        return (*(axis.edges.size - 1 for axis in self.axes), 12 * self.nside**2)

    @property
    def n_cells(self) -> int:
        """Bins of all axes together."""
        n = 1
        for size in self.shape:  # beyond int64 it is Python that counts
            n *= size
        return n

    @cached_property
    def selected_by(self) -> tuple[str, ...]:
        """The selections that there are, in the order of the tests."""
        return tuple(name for name in SELECTIONS if getattr(self.selections, name) is not None)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that are needed, each once."""
        names = [axis.column for axis in self.axes] + list(DIRECTIONS[self.frame])
        names += [SELECTIONS[name][0] for name in self.selected_by]
        return tuple(dict.fromkeys(names))

    @cached_property
    def reasons(self) -> tuple[Reason, ...]:
        """Why an event may be left out, in the order of the tests; its fate is the place + 1."""
        return (
            *(Reason("nan", column) for column in self.columns),
            *(Reason("selection", name) for name in self.selected_by),
            *(Reason(side, a.label) for a in self.axes for side in ("below", "above")),
            Reason("impossible", PIXELS),
        )

    def fate(self, what: str, name: str) -> int:
        """The fate of events that are left out for this reason."""
        return self.reasons.index(Reason(what, name)) + 1
