"""Times of a table as Unix times, by what its header says of them.

Keywords are those of the FITS standard (Rots et al. 2015, A&A 574, A36): TIMESYS, TIMEUNIT, and
MJDREF, JDREF or DATEREF with TIMEZERO; and cosipy's TIMEFORMAT (unix or mjd). Without any of them
times are Unix times. astropy.time converts between systems, leap seconds included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..units import factor
from .guard import brief, plain_unit

if TYPE_CHECKING:
    from astropy.time import Time

Floats = NDArray[np.float64]

#: Names of time systems to those of astropy.time. UT1 and its like are left out: they need tables
#: of the Earth's rotation.
_SCALES = {
    "UTC": "utc", "GMT": "utc", "TT": "tt", "TDT": "tt", "ET": "tt", "TAI": "tai", "IAT": "tai",
    "TDB": "tdb", "TCG": "tcg", "TCB": "tcb",
}  # fmt: skip

#: cosipy's formats, which are astropy's, and the unit of each.
_FORMATS = {"unix": "s", "mjd": "d", "jd": "d"}

#: Keywords that say where times count from, each a number or its whole and its fraction.
_REFERENCES = (("MJDREF", 0.0), ("JDREF", 2400000.5))

#: The modified Julian date of the Unix epoch.
_UNIX_MJD = 40587.0

#: Unix times are known to 2.4e-7 s as floats.
_SAME = 2e-6

#: All keywords that matter.
KEYWORDS = frozenset(
    [
        "TIMESYS",
        "TIMEUNIT",
        "TIMEFORMAT",
        "TIMEZERO",
        "TIMEZERI",
        "TIMEZERF",
        "TIMEOFFS",
        "TIMEREF",
        "TREFPOS",
        "MJDREF",
        "MJDREFI",
        "MJDREFF",
        "JDREF",
        "JDREFI",
        "JDREFF",
        "DATEREF",
    ]
)


@dataclass(frozen=True)
class TimeReference:
    """What takes the numbers of a column of times to Unix times.

    Attributes
    ----------
    where : str
        File and column, for messages.
    unit : str
        Of the numbers.
    scale : str
        The time system, as astropy calls it.
    format : str
        "unix", "mjd", "jd", or "since": counted from `reference`.
    reference : tuple of (float, float), or None
        Modified Julian date, in two parts whose sum it is, in `scale`.
    zero : float, in `unit`
        Is added to the numbers first.
    """

    where: str
    unit: str = "s"
    scale: str = "utc"
    format: str = "unix"
    reference: tuple[float, float] | None = None
    zero: float = 0.0

    @property
    def changes_nothing(self) -> bool:
        """True if the numbers are Unix times in s."""
        return self.format == "unix" and self.unit == "s" and self.zero == 0.0

    def unix(self, values: NDArray[Any]) -> Floats:
        """Unix times of the numbers, same shape, s; NaN stays.

        Raises
        ------
        DataError
            If seconds in UTC are counted across leap seconds: it is not known whether these are
            among them.
        """
        numbers = np.asarray(values, np.float64) + self.zero
        if self.format == "unix":
            return numbers * factor(self.unit, "s")
        finite = np.isfinite(numbers)
        if not finite.any():
            return numbers
        # leap seconds apart, all are as far from the first as the numbers say
        low, high = numbers[finite].min(), numbers[finite].max()
        second = factor(self.unit, "s")
        first, last = self._exact(np.array([low, high]))
        if abs(last - first - second * (high - low)) <= _SAME:
            apart: Floats = first + second * (numbers - low)
            return apart
        converted = np.full_like(numbers, np.nan)
        converted[finite] = self._exact(numbers[finite])
        return converted

    def _exact(self, numbers: Floats) -> Floats:
        from astropy.time import Time, TimeDelta

        if self.reference is None:
            days = numbers * factor(self.unit, "d")
            whole = np.floor(days)
            return _unix(Time(whole, days - whole, format=self.format, scale=self.scale))
        seconds = numbers * factor(self.unit, "s")
        start = Time(*self.reference, format="mjd", scale=self.scale)
        times = _unix(start + TimeDelta(seconds, format="sec"))
        if self.scale == "utc":
            without = _unix(start) + seconds
            if np.abs(times - without).max() > 0.5:
                raise DataError(
                    f"{self.where}: its times count seconds in UTC from MJD "
                    f"{sum(self.reference):.10g}, across {np.abs(times - without).max():.0f} leap "
                    "seconds, and it is not said whether these are counted. Write the times in "
                    "TIMESYS = 'TT' or 'TAI', or as Unix times."
                )
        return times


def _unix(time: Time) -> Floats:
    return np.asarray(time.utc.unix, np.float64)


def time_reference(header: Mapping[str, Any], unit: object, where: str) -> TimeReference:
    """How a column of times counts.

    Parameters
    ----------
    header : Mapping
        What the file says; only `KEYWORDS` matter.
    unit : str or None
        The column's own unit, which comes before TIMEUNIT.
    where : str
        File and column, for messages.

    Raises
    ------
    DataError
        If the header says what cannot be converted, or contradicts itself.
    """
    known = {key: header[key] for key in KEYWORDS if header.get(key) not in (None, "")}
    scale = _scale(known, where)
    unit = _unit(unit or known.get("TIMEUNIT") or None, where)
    zero = sum(_number(known, key, where) for key in ("TIMEZERO", "TIMEZERI", "TIMEZERF"))
    zero += _number(known, "TIMEOFFS", where)
    reference = _reference(known, scale, where)
    given = str(known.get("TIMEFORMAT", "")).strip().lower()
    if given and given not in _FORMATS:
        raise DataError(
            f"{where}: its times are in TIMEFORMAT {brief(given)!r}; known are "
            f"{', '.join(_FORMATS)}. Write it again in one of these."
        )
    if given and reference is not None:
        raise DataError(
            f"{where}: its header says TIMEFORMAT {given!r} and a reference date as well; remove "
            "one of them."
        )
    if given:
        return TimeReference(where, unit or _FORMATS[given], scale, given, None, zero)
    if reference is None or (scale == "utc" and reference == (_UNIX_MJD, 0.0)):
        if scale != "utc":
            raise DataError(
                f"{where}: its header says TIMESYS {known['TIMESYS']!r}, but not where times count "
                "from. Add MJDREF, or TIMEFORMAT."
            )
        return TimeReference(where, unit or "s", "utc", "unix", None, zero)
    return TimeReference(where, unit or "s", scale, "since", reference, zero)


def _scale(known: Mapping[str, Any], where: str) -> str:
    given = str(known.get("TIMESYS", "UTC")).strip().upper()
    given = given.partition("(")[0]  # TT(TAI), UTC(NIST): a realisation
    if given not in _SCALES:
        raise DataError(
            f"{where}: its times are in the time system {brief(given)!r}; known are "
            f"{', '.join(_SCALES)}. Convert them to one of these."
        )
    for key in ("TIMEREF", "TREFPOS"):
        place = str(known.get(key, "")).strip().upper()
        if place.startswith(("SOLARSYS", "BARYCENT", "HELIOCEN")):
            raise DataError(
                f"{where}: its times are those at the {key} {place}, not those of the telescope. "
                "Give the times before that correction."
            )
    return _SCALES[given]


def _unit(given: object, where: str) -> str | None:

    if given is None or given == "s":
        return None if given is None else "s"
    try:
        name = plain_unit(given)
        factor(name, "s")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: its times have the unit {brief(given)!r}, which is no unit of time. Correct "
            "it."
        ) from error
    return name


def _number(known: Mapping[str, Any], key: str, where: str) -> float:
    try:
        value = float(known.get(key, 0.0))
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise DataError(f"{where}: {key} is {brief(known[key])!r}, but must be a number.")
    return value


def _reference(known: Mapping[str, Any], scale: str, where: str) -> tuple[float, float] | None:
    """The modified Julian date that times count from, in two parts; None if none is given."""
    from_day_zero = [key for key, _ in _REFERENCES if {key, f"{key}I", f"{key}F"} & known.keys()]
    if len(from_day_zero) + ("DATEREF" in known) > 1:
        names = ", ".join([*from_day_zero, *(["DATEREF"] if "DATEREF" in known else [])])
        raise DataError(f"{where}: its header says {names}; keep one of them.")
    for key, first_day in _REFERENCES:
        if key in from_day_zero:
            if f"{key}I" in known or f"{key}F" in known:
                whole, fraction = (_number(known, key + part, where) for part in "IF")
            else:
                whole, fraction = _number(known, key, where), 0.0
            return whole - first_day, fraction
    if "DATEREF" in known:
        from astropy.time import Time

        try:
            date = Time(str(known["DATEREF"]), scale=scale)
        except ValueError as error:
            raise DataError(
                f"{where}: DATEREF is {brief(known['DATEREF'])!r}, which is no date."
            ) from error
        return date.jd1 - 2400000.5, float(date.jd2)
    return None
