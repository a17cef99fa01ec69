"""What every reader of a file needs: plain files alone, one boundary for damage, short messages."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import NO_ROOM, DataError, FileError, LineBackgroundError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Of what a file says, so much is repeated in a message.
_SHOWN = 200


def require_file(path: str | os.PathLike[str], cure: str) -> Path:
    """Refuse what is no plain file: a pipe would wait for ever, a device never ends.

    Raises
    ------
    FileError
        Ends with `cure`.
    """
    path = Path(path)
    if is_plain(path):
        return path
    what = "does not exist"
    try:
        if path.is_dir():
            what = "is a folder"
        elif path.exists():
            what = "is no plain file (a pipe or a device)"
    except (OSError, ValueError) as error:  # no possible name, or a loop of links
        what = f"cannot be read ({brief(error)})"
    raise FileError(f"{brief(path, 1000)} {what}; {cure}")


def is_plain(path: Path) -> bool:
    """True of a plain file, or a link to one; what is no possible name is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextmanager
def reading(path: object, what: str, cure: str) -> Iterator[None]:
    """The one place where whatever fails in reading a file becomes a `FileError` that names it.

    Libraries answer a damaged file with nearly any exception. Ours keep their class, and name the
    file as well.
    """
    try:
        yield
    except Warning:
        raise
    except LineBackgroundError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error
    except MemoryError as error:
        raise FileError(
            f"{path} does not fit into memory ({brief(error) or 'no more can be had'}). {cure}"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise  # of numba's cache: no reading ends so
        raise FileError(f"{path} {what} ({brief(error)}). {cure}") from error


def brief(text: object, length: int = _SHOWN) -> str:
    """What a file or a library says, short, on one line, without control characters."""
    if isinstance(text, KeyError) and text.args:
        name = str(text.args[0])  # h5py has a sentence there
        text = name if " " in name else f"{name!r} is missing"
    elif isinstance(text, BaseException):
        text = getattr(text, "strerror", None) or str(text) or type(text).__name__
    shown = str(text)
    if len(shown) > length:
        shown = f"{shown[: length - 3]}..."
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in shown)


def shown(value: object) -> str:
    """A value as Python writes it, as short as `brief` makes it."""
    return brief(repr(value))


def listed(names: Iterable[object], most: int = 20) -> str:
    """Names from a file for a message: the first few, or "nothing"."""
    shown: list[str] = []
    for name in names:
        if len(shown) == most:
            shown.append("...")
            break
        shown.append(brief(name, 60))
    return ", ".join(shown) or "nothing"


def parse_json(text: str) -> Any:
    """JSON as this package writes it: no NaN or infinity, no repeated key.

    Raises
    ------
    ValueError, RecursionError
        Anything else.
    """
    import json

    return json.loads(text, parse_constant=_no_number, object_pairs_hook=_no_repeats)


def finite_or_null(matrix: NDArray[np.float64]) -> list[list[float | None]]:
    """A matrix as lists for JSON, which knows neither NaN nor infinity."""
    return [[number_or_null(x) for x in row] for row in matrix.tolist()]


def number_or_null(value: float | None) -> float | None:
    """A number for JSON; None of NaN and infinity."""
    return value if value is not None and math.isfinite(value) else None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {brief(key)!r} is there twice")
        found[key] = value
    return found


#: A power with so many digits is computed to the end before a unit is found wrong.
_HUGE_POWER = re.compile(r"[*^+(-]\s*\d{4,}")


def plain_unit(text: object) -> str:
    """The name of a unit that a file says, if parsing it is safe.

    Raises
    ------
    ValueError
        Anything else.
    """
    if isinstance(text, bytes):
        text = text.decode("ascii")
    if not isinstance(text, str) or len(text) > 64 or _HUGE_POWER.search(text):
        raise ValueError(f"{brief(text)!r} is no unit")
    return text


def require_memory(n_bytes: float, what: str, cure: str) -> None:
    """Refuse, before it is asked for, more memory than this machine has or this process may take.

    Raises
    ------
    DataError
        `what` needs it; ends with `cure`.
    """
    most = _memory()
    if n_bytes > most:
        raise DataError(
            f"{what} takes {n_bytes / 2**30:.3g} GB of memory, but there are {most / 2**30:.3g} "
            f"GB. {cure}"
        )


def _memory() -> float:
    limits = [math.inf]
    with suppress(AttributeError, ValueError, OSError):  # not every system tells
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(ImportError):
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        limits.append(math.inf if soft == resource.RLIM_INFINITY else soft)
    return min(limits)
