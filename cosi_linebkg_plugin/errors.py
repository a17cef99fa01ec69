"""The exceptions of the package; each message says what is wrong, what was got, and the cure."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_AT = "in the configuration, at "

#: Numbers of the system's errors that say that there is no room.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LineBackgroundError(Exception):
    """Base class of everything that the package raises on purpose."""


class BinningError(LineBackgroundError):
    """Energy edges, ranges or masks that do not fit the data."""


class DataError(LineBackgroundError):
    """Counts or histograms that cannot be used."""


class FileError(LineBackgroundError):
    """A file that is missing, damaged, of the wrong kind, or cannot be written."""


class ModelError(LineBackgroundError):
    """A spectral model that cannot be evaluated, or a source that the model lacks."""


class FitError(LineBackgroundError):
    """A fit that did not end in a valid minimum.

    Attributes
    ----------
    result : LineBackgroundFit or None
        What the fit reached, for inspection; its ``valid`` is False.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class FitInterrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal to end, while a fit had something to show already.

    Attributes
    ----------
    result : LineBackgroundFit
        What there was at that time; its ``message`` says how far it came.
    """

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result


class TemplateError(LineBackgroundError):
    """A background template that cannot be made, or does not fit its consumer."""


class ConfigError(LineBackgroundError):
    """A configuration file with an unknown key, a wrong type or an impossible value."""


class LineBackgroundWarning(UserWarning):
    """Something that a user must know, but that stops nothing."""


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Note on an error of this package at which file, region or key of a configuration it came up.

    An empty name notes nothing.
    """
    try:
        yield
    except LineBackgroundError as error:
        if key:
            error.add_note(f"{_AT}{key}")
        raise


def one_line(error: BaseException) -> str:
    """The message of an error, behind the keys that `naming` noted on it."""
    notes = getattr(error, "__notes__", ())
    keys = [note.removeprefix(_AT) for note in reversed(notes) if note.startswith(_AT)]
    return " ".join(": ".join([*keys, str(error)]).split())
