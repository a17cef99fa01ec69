"""Numbers with or without a unit, as plain floats: the one place where units are converted.

A bare number has the unit that the package works in (keV, s, deg ...). Everything else is
converted, or refused with a message that names what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BinningError, DataError, LineBackgroundError

#: What a quantity of each unit is called in messages, one and several.
_KINDS = {
    "keV": ("an energy", "energies"),
    "s": ("a time", "times"),
    "deg": ("an angle", "angles"),
    "Hz": ("a rate", "rates"),
}
_NUMBERS = ("a number", "numbers")


def in_unit(
    value: Any, unit: str, name: str, error: type[LineBackgroundError] = BinningError
) -> float:
    """One number in `unit`, from a quantity, or from a bare number in that unit.

    Parameters
    ----------
    value : Quantity or float
    unit : str
        As astropy writes it: "keV", "s", "deg" ...
    name : str
        What the message calls the value.
    error : class
        Of the exception.

    Raises
    ------
    LineBackgroundError
        Of the class `error`, if it is no number, or of a unit that does not convert.
    """
    try:
        return float(value.to_value(unit) if hasattr(value, "to_value") else value)
    except (TypeError, ValueError) as problem:  # astropy's UnitConversionError is a TypeError
        kind = _KINDS.get(unit, _NUMBERS)[0]
        raise error(
            f"The {name} must be {kind}, a quantity or a number in {unit}, got {value!r}."
        ) from problem


def factor(given: str | None, unit: str) -> float:
    """What takes numbers in the unit `given` to `unit`; None and "" are `unit` itself.

    The name of a unit from a file goes through `io.guard.plain_unit` first.

    Raises
    ------
    ValueError, TypeError
        astropy's, where it is no unit or does not convert.
    """
    if given in (None, "", unit):
        return 1.0
    from astropy.units import Unit

    return float(Unit(given).to(unit))


def to_kev(energy: Any, what: str = "energy") -> float:
    """An energy in keV from a quantity, or from a bare number in keV."""
    return in_unit(energy, "keV", what)


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


def ranges_in_kev(ranges: Sequence[Any], what: str) -> list[tuple[float, float]]:
    """Ranges as `in_kev` makes them, also where the only one given is a list of them.

    Raises
    ------
    BinningError
        If one of them is not two energies.
    """
    if len(ranges) == 1 and np.iterable(ranges[0]):
        inner: Sequence[Any] = list(ranges[0])
        listed = all(np.iterable(x) and not isinstance(x, str) for x in inner)
        ranges = inner if listed else ranges
    return [in_kev(x, what) for x in ranges]


def in_seconds(
    value: Any, name: str = "time", error: type[LineBackgroundError] = BinningError
) -> float:
    """A duration in s from a quantity, a text with a unit ("90 d"), or a bare number in s."""
    if isinstance(value, str):
        from astropy.units import Quantity

        try:
            value = Quantity(value)
        except (TypeError, ValueError) as problem:
            raise error(
                f'The {name} must be a time, a quantity or a number in s, got "{value}".'
            ) from problem
        if str(value.unit) == "":
            value = float(value)
    return in_unit(value, "s", name, error)


def array_in(
    values: Any, unit: str, name: str, error: type[LineBackgroundError] = BinningError
) -> NDArray[np.float64]:
    """An array of floats in `unit`, from a quantity or from bare numbers in that unit.

    Parameters
    ----------
    values : array_like or Quantity
        A list of quantities as well. Of a masked array nothing may be masked.
    unit, name, error
        As of `in_unit`.

    Returns
    -------
    ndarray
        A copy.
    """
    _refuse_masked(values, name, error)
    try:
        values = _joined(values)
        if hasattr(values, "to_value"):
            values = values.to_value(unit)
        return np.array(values, dtype=float)
    except (TypeError, ValueError) as problem:
        kind = _KINDS.get(unit, _NUMBERS)[1]
        raise error(
            f"The {name} must be {kind}, a quantity or numbers in {unit}, got {_brief(values)}."
        ) from problem


def counts_in(values: Any, name: str = "counts") -> NDArray[np.float64]:
    """Counts as floats, refused if they have a unit that is none of counts.

    Parameters
    ----------
    values : array_like or Quantity
        Without a unit, dimensionless, or in ct (count). Rates, densities and percentages are
        refused: their Poisson noise is not that of the number. Of a masked array nothing may be
        masked.
    name : str
        What the message calls them.

    Returns
    -------
    ndarray
        A copy.

    Raises
    ------
    DataError
    """
    _refuse_masked(values, name, DataError)
    try:
        values = _joined(values)
    except (TypeError, ValueError) as problem:
        raise DataError(f"The {name} must be numbers, got {_brief(values)}.") from problem
    unit = getattr(values, "unit", None)
    if unit is not None and hasattr(values, "to_value"):
        if str(unit) not in ("", "ct"):
            raise DataError(
                f"The {name} have the unit {unit}, but counts are needed: raw numbers of events, "
                "whose Poisson noise the fit uses. Multiply by livetime or bin width, and give "
                "them without a unit (or in ct)."
            )
        values = values.to_value(unit)
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"their type is {array.dtype}")
        return np.array(array, dtype=float)
    except (TypeError, ValueError) as problem:
        raise DataError(f"The {name} must be numbers, got {_brief(values)}.") from problem


def _joined(values: Any) -> Any:
    """A list of quantities as one quantity; anything else as it is."""
    if isinstance(values, list | tuple) and any(hasattr(x, "to_value") for x in values):
        from astropy.units import Quantity

        return Quantity(values)
    return values


def _refuse_masked(values: Any, name: str, error: type[LineBackgroundError]) -> None:
    """Refuse a masked array (numpy's or astropy's) of which something is masked."""
    is_masked = isinstance(values, np.ma.MaskedArray) or hasattr(values, "unmasked")
    masked = int(np.count_nonzero(np.ma.getmaskarray(values))) if is_masked else 0
    if hasattr(values, "unmasked"):
        masked = int(np.count_nonzero(values.mask))
    if masked:
        raise error(
            f"{masked} of the {name} are masked, which says nothing about energies. Give plain "
            "numbers (array.filled(0) for counts), and leave energies out of the fit with "
            "mask=, set_mask or with_mask."
        )


def _brief(values: Any) -> str:
    text = " ".join(repr(values).split())
    return text if len(text) <= 100 else f"{text[:97]}..."
