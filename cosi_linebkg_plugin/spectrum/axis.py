"""The energy spectrum: bin edges, counts and mask, checked once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BinningError, DataError
from ..io.guard import brief, shown
from ..units import array_in, counts_in

#: Two energies closer than this fraction of a bin are the same edge: edges written in MeV or
#: as float32 come back a rounding error away from where a range in keV says they are.
EDGE_TOLERANCE = 1e-6

#: Bins of an axis that is made from a width; far more than the telescope resolves.
MOST_BINS = 1_000_000

_N_BINS = re.compile(r"(\d{1,9}) *bins?")


@dataclass(frozen=True, eq=False, repr=False)
class EnergySpectrum:
    """Counts per energy bin, with the bins that a fit leaves out.

    Parameters
    ----------
    edges : array_like or Quantity, shape (n_bins + 1,)
        keV, or a quantity of any energy unit. Strictly increasing, positive.
    counts : array_like or Quantity, shape (n_bins,)
        Finite and not negative; a unit may be none but ct. Weighted (non-integer) counts are
        accepted.
    mask : array_like of bool, shape (n_bins,), optional
        True where a bin is excluded from the fit. Default: nothing is.

    Raises
    ------
    BinningError, DataError
        Naming the first offending bin.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.float64]
    mask: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        edges = check_edges(self.edges)
        counts = counts_in(self.counts)
        if counts.shape != (edges.size - 1,):
            raise DataError(
                f"The spectrum has {edges.size - 1} energy bins but counts of shape "
                f"{counts.shape}; give one number of counts per bin."
            )
        bad = np.flatnonzero(~np.isfinite(counts) | (counts < 0))
        if bad.size:
            i = bad[0]
            raise DataError(
                f"Counts must be finite and not negative, but bin {i} "
                f"({edges[i]:g}-{edges[i + 1]:g} keV) holds {counts[i]:g} "
                f"({bad.size} such bin(s) in all). Give the raw counts, before any subtraction."
            )
        given = np.array(self.mask, bool)
        mask = given if given.size else np.zeros(counts.size, bool)
        if mask.shape != counts.shape:
            raise BinningError(f"The mask has shape {mask.shape}, the spectrum {counts.shape}.")
        for name, array in (("edges", edges), ("counts", counts), ("mask", mask)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __repr__(self) -> str:
        return (
            f"EnergySpectrum({self.n_bins} bins, {self.edges[0]:.6g}-{self.edges[-1]:.6g} keV, "
            f"{self.counts.sum():.6g} counts, {int(self.mask.sum())} bins masked)"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EnergySpectrum):
            return NotImplemented
        names = ("edges", "counts", "mask")
        return all(np.array_equal(getattr(self, x), getattr(other, x)) for x in names)

    __hash__ = None  # type: ignore[assignment]

    @property
    def n_bins(self) -> int:
        """Number of energy bins, masked ones included."""
        return self.counts.size

    @property
    def widths(self) -> NDArray[np.float64]:
        """Bin widths, shape (n_bins,), keV."""
        return np.diff(self.edges)

    @property
    def centers(self) -> NDArray[np.float64]:
        """Bin centres, shape (n_bins,), keV."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def used(self) -> NDArray[np.bool_]:
        """True where a bin takes part in the fit, shape (n_bins,)."""
        return ~self.mask

    def with_mask(self, ranges: Iterable[Sequence[float]]) -> EnergySpectrum:
        """The same spectrum with these ranges [keV] masked, replacing the mask.

        A bin is excluded when it overlaps a range, not when it merely touches it.
        """
        mask = np.zeros(self.n_bins, bool)
        for low, high in ranges:
            overlap = overlapping_bins(self.edges, low, high)
            if not overlap.any():
                raise BinningError(
                    f"The mask {low:g}-{high:g} keV lies outside the energy axis "
                    f"({self.edges[0]:g}-{self.edges[-1]:g} keV); remove it or correct it."
                )
            mask |= overlap
        if mask.all():
            raise BinningError(
                "The mask excludes every energy bin "
                f"({self.edges[0]:g}-{self.edges[-1]:g} keV); leave bins to fit."
            )
        return replace(self, mask=mask)

    def masked_ranges(self) -> list[tuple[float, float]]:
        """The masked ranges as [low, high] in keV, merged, on bin edges."""
        return bins_to_ranges(self.edges, self.mask)


def check_edges(edges: Any) -> NDArray[np.float64]:
    """Energy edges in keV: finite, positive, strictly increasing, two or more.

    Parameters
    ----------
    edges : array_like or Quantity, shape (n_bins + 1,)
        keV, or a quantity of any energy unit.

    Returns
    -------
    ndarray, shape (n_bins + 1,), keV

    Raises
    ------
    BinningError
        Naming the first bad edge, and the cure.
    """
    array = array_in(edges, "keV", "energy edges")
    if array.ndim != 1 or array.size < 2:
        raise BinningError(f"Energy edges must be a list of two or more, got shape {array.shape}.")
    if array[0] > 0 and array[-1] < np.inf and (array[1:] > array[:-1]).all():
        return array
    bad = np.flatnonzero(~np.isfinite(array) | (array <= 0))
    if bad.size:
        positive = np.flatnonzero(np.isfinite(array) & (array > 0))
        first = positive[0] if positive.size else array.size
        start = (
            f": start the axis at the first bin with a positive edge, {array[first]:g} keV"
            if first > bad[-1] and array.size - first > 1
            else ""
        )
        raise BinningError(
            f"Energy edges must be finite and above 0 keV, but edge {bad[0]} is "
            f"{array[bad[0]]:g} keV{start}."
        )
    i = np.flatnonzero(np.diff(array) <= 0)[0]
    raise BinningError(
        f"Energy edges must increase, but edge {i + 1} ({array[i + 1]:g} keV) follows "
        f"edge {i} ({array[i]:g} keV)."
    )


def spaced_edges(text: str, most: int = MOST_BINS) -> NDArray[np.float64]:
    """Energy edges [keV] from "low:high:width", or from "low:high:Nbins".

    Parameters
    ----------
    text : str
    most : int
        More bins are refused.

    Raises
    ------
    BinningError
    """
    try:
        first, second, third = (part.strip() for part in text.split(":"))
        number = _N_BINS.fullmatch(third)
        low, high = float(first), float(second)
        width = (high - low) / int(number[1]) if number else float(third)
        if not (0 < low < high and width > 0):
            hint = (
                f"; is {second}:{first}:{third} meant?"
                if low > high > 0 and third[0] != "-"
                else ""
            )
            raise ValueError(f"low must be above 0, high above low, the width above 0{hint}")
        n = round((high - low) / width)
        if n > most:
            raise ValueError(f"{n} bins, at most {most}")
        if n < 1 or abs(n * width - (high - low)) > EDGE_TOLERANCE * width:
            n = max(n, 1)
            raise ValueError(f"the width does not divide the range; {first}:{second}:{n}bins does")
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise BinningError(
            'Energy edges are numbers, or "low:high:width" in keV as in "1500:2000:5", or '
            f'"low:high:Nbins" as in "1500:2000:100bins"; got {shown(text)} ({brief(error)}).'
        ) from error
    return np.linspace(low, high, n + 1)


def require_counts(spectrum: EnergySpectrum) -> None:
    """Refuse a spectrum without any counts in its unmasked bins: there is nothing to fit.

    Raises
    ------
    DataError
    """
    if spectrum.counts[spectrum.used].any():
        return
    rest = float(spectrum.counts.sum())
    cure = (
        f"all {rest:g} counts lie in the mask; shorten it"
        if rest
        else "check the selections and the energy range that the events were binned with"
    )
    raise DataError(
        f"The {int(spectrum.used.sum())} fitted energy bins "
        f"({spectrum.edges[0]:g}-{spectrum.edges[-1]:g} keV) hold no counts, so there is nothing "
        f"to fit: {cure}."
    )


def check_range(low: float, high: float, what: str = "energy range") -> tuple[float, float]:
    """A range [keV] with finite bounds in increasing order."""
    low, high = float(low), float(high)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise BinningError(
            f"The {what} must be (low, high) with low < high, got ({low:g}, {high:g}) keV."
        )
    return low, high


def overlapping_bins(edges: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    """True for bins that overlap [low, high] keV; sharing an edge alone is no overlap."""
    low, high = check_range(low, high)
    slack = EDGE_TOLERANCE * np.diff(edges)
    return (edges[:-1] < high - slack) & (edges[1:] > low + slack)


def whole_bins(
    edges: NDArray[np.float64], low: float, high: float, what: str = "energy range"
) -> NDArray[np.bool_]:
    """True for bins that lie entirely inside [low, high] keV; raises if there is none."""
    low, high = check_range(low, high, what)
    slack = EDGE_TOLERANCE * np.diff(edges)
    inside = (edges[:-1] >= low - slack) & (edges[1:] <= high + slack)
    if not inside.any():
        i = min(max(int(np.searchsorted(edges, low, side="right")) - 1, 0), edges.size - 2)
        raise BinningError(
            f"The {what} {low:g}-{high:g} keV holds no whole energy bin; the nearest bin is "
            f"{edges[i]:.6g}-{edges[i + 1]:.6g} keV, the axis runs from {edges[0]:.6g} to "
            f"{edges[-1]:.6g} keV."
        )
    return inside


def check_inside(
    edges: NDArray[np.float64], low: float, high: float, what: str = "source range"
) -> tuple[float, float]:
    """A range [keV] that lies inside the energy axis, wherever it falls within the bins."""
    low, high = check_range(low, high, what)
    slack = EDGE_TOLERANCE * np.diff(edges)
    if low < edges[0] - slack[0] or high > edges[-1] + slack[-1]:
        raise BinningError(
            f"The {what} {low:g}-{high:g} keV reaches outside the energy axis, which runs from "
            f"{edges[0]:.6g} to {edges[-1]:.6g} keV; choose a range inside it."
        )
    return max(low, float(edges[0])), min(high, float(edges[-1]))


def bins_to_ranges(
    edges: NDArray[np.float64], selected: NDArray[np.bool_]
) -> list[tuple[float, float]]:
    """Runs of selected bins as (low, high) in keV."""
    padded = np.concatenate(([False], selected, [False])).astype(np.int8)
    steps = np.diff(padded)
    starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return [(float(edges[a]), float(edges[b])) for a, b in zip(starts, stops, strict=True)]
