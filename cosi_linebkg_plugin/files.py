"""Files are written whole or not at all: beside their place first, then renamed into it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import FileError


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it replaces `path` only if all goes well.

    Raises
    ------
    FileError
        If the folder does not exist or cannot be written; an existing `path` stays as it was.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.stem}.", suffix=target.suffix
        )
    except OSError as error:
        raise FileError(
            f"Cannot write {target}: {error.strerror}. Choose a folder that exists and is writable."
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes it private
        os.replace(temporary, target)
    except OSError as error:
        raise FileError(f"Cannot write {target}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_output(path: str | os.PathLike[str], inputs: Iterable[Path] = ()) -> None:
    """Refuse, before any work, a file that cannot be written or that is one of the inputs."""
    target = Path(path)
    if target.is_dir():
        raise FileError(f"{target} is a folder; give the path of a file to write.")
    if target.resolve() in {file.resolve() for file in inputs}:
        raise FileError(f"The output {target} would replace a file that is read; choose another.")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise FileError(
            f"Cannot write {target}: {error.strerror}. Choose a folder that exists and is writable."
        ) from error
