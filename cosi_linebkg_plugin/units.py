"""Energies with or without a unit, as floats in keV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import BinningError

if TYPE_CHECKING:
    pass


def in_kev(energy_range: Any, what: str = "energy range") -> tuple[float, float]:
    """(low, high) in keV from quantities in any energy unit, or from bare numbers in keV.

    Raises
    ------
    BinningError
        If it is not two energies.
    """
    try:
        low, high = energy_range
    except (TypeError, ValueError):
        raise BinningError(
            f"The {what} must be (low, high), two energies, got {energy_range!r}."
        ) from None
    return to_kev(low, what), to_kev(high, what)


def to_kev(energy: Any, what: str = "energy") -> float:
    """An energy in keV from a quantity, or from a bare number in keV."""
    try:
        return float(energy.to_value("keV") if hasattr(energy, "to_value") else energy)
    except (TypeError, ValueError) as error:  # astropy's UnitConversionError is a TypeError
        raise BinningError(
            f"The {what} must be an energy, a quantity or a number in keV, got {energy!r}."
        ) from error
