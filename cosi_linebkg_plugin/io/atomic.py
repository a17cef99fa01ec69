"""Files are written whole or not at all, and those of one run together.

What is written goes into a hidden folder beside its place first, to the disk, and from there into
place by renaming. Hidden folders and output folders are held by `flock`, which the kernel lets go
when a process ends, however it ends: what a killed run left is known by it, and removed.
"""

from __future__ import annotations

import errno
import fcntl
import io
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import NO_ROOM, FileError

#: In an output folder while files of two runs may stand side by side in it, and after a run that
#: was killed at that point; names these files.
UNFINISHED = "UNFINISHED.txt"

_UNFINISHED_TEXT = (
    "A run into this folder is not finished, or was killed. The following files may be of another\n"
    "run than the rest, or missing. Run it again; that removes this note.\n\n"
)

#: Start of the names of the hidden folders.
_PARTIAL = ".cosi-linebkg-partial-"

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_LOG = logging.getLogger(__package__)


@dataclass
class _Batch:
    """Files that are ready in a hidden folder, and go into place together."""

    folder: Path
    hidden: Path
    names: list[str] = field(default_factory=list)


_BATCH: ContextVar[_Batch | None] = ContextVar("batch", default=None)

#: Output folders that are held here (device, inode); other threads have a context of their own.
_HELD: ContextVar[frozenset[tuple[int, int]]] = ContextVar("held", default=frozenset())


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write to, in a hidden folder; the file takes the place of `path` at the end.

    It does so only if all goes well, and only when its bytes are on the disk; within `together`
    it waits for the others.

    Raises
    ------
    FileError
        If the folder does not exist or cannot be written, or writing fails; an existing `path`
        stays as it was.
    """
    target = Path(path)
    batch = _BATCH.get()
    with ExitStack() as stack:
        stack.enter_context(_naming(target))
        _check_target(target)
        waits = batch is not None and batch.folder == target.parent
        hidden = batch.hidden if batch and waits else stack.enter_context(_hidden(target.parent))
        temporary = hidden / target.name
        yield temporary
        _to_disk(temporary)
        if batch and waits:
            batch.names.append(target.name)
        else:
            os.replace(temporary, target)
            _to_disk(target.parent)


@contextmanager
def whole_hdf5(path: str | os.PathLike[str]) -> Iterator[ForgivingFile]:
    """As `whole_file`, for HDF5: yield what h5py and histpy open in place of a path.

    The HDF5 library does not survive a write that fails (its close fails as well, and the process
    crashes when it ends), so that it is not told: the rest goes nowhere, and the error comes here,
    or from `check`, which is to be called before the file is opened once more. Nor does it survive
    Ctrl-C, which waits for it.
    """
    with whole_file(path) as temporary, _signals_wait(), ForgivingFile(temporary, "w+") as file:
        try:
            yield file
        except Exception as error:  # of what it read back, which was not there
            raise file.error or error from error
        file.check()


class ForgivingFile(io.FileIO):
    """A file that keeps its first error, and takes no more from then on."""

    error: OSError | None = None

    def check(self) -> None:
        """Raise the error, if there was one."""
        if self.error is not None:
            raise self.error

    def write(self, data: Any) -> int:
        """Write all of it, or nothing more after an error."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while self.error is None and len(left):
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Change the size, unless an error came before."""
        try:
            return super().truncate(size) if self.error is None else size or 0
        except OSError as error:
            self.error = error
        return size or 0


@contextmanager
def together(
    folder: Path, *, stale: Iterable[str] = (), outdated: Iterable[str] = ()
) -> Iterator[None]:
    """Files that are written to `folder` inside go into place at the end, all of them or none.

    A kill in the instant of renaming, and nothing else, leaves some of them old and some new; then
    `UNFINISHED` stands in the folder, and names them.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    stale : iterable of str
        Names of files that are removed if they are not among those written.
    outdated : iterable of str
        Names of files that do not belong to the rest from now on, until they are written anew.
    """
    with ExitStack() as stack:
        with _naming(f"to the output folder {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            hidden = stack.enter_context(_hidden(folder))
        batch = _Batch(folder, hidden)
        token = _BATCH.set(batch)
        try:
            yield
        finally:
            _BATCH.reset(token)
        _put_in_place(batch, set(stale), set(outdated))


def _put_in_place(batch: _Batch, stale: set[str], outdated: set[str]) -> None:
    folder, note = batch.folder, batch.folder / UNFINISHED
    changed = {*batch.names, *stale}
    with _naming(f"to the output folder {folder}"), _signals_wait():
        text = note.read_text(encoding="utf-8") if note.exists() else ""
        known = set(text.partition("\n\n")[2].splitlines())
        _write_note(batch, known | outdated | changed)
        for name in batch.names:
            os.replace(batch.hidden / name, folder / name)
        for name in changed.difference(batch.names):
            (folder / name).unlink(missing_ok=True)
        _to_disk(folder)
        left = {name for name in (known | outdated) - changed if (folder / name).exists()}
        if left:
            _write_note(batch, left)
        else:
            note.unlink()


def _write_note(batch: _Batch, names: set[str]) -> None:
    temporary = batch.hidden / UNFINISHED
    temporary.write_text(_UNFINISHED_TEXT + "\n".join(sorted(names)) + "\n", encoding="utf-8")
    _to_disk(temporary)
    os.replace(temporary, batch.folder / UNFINISHED)
    _to_disk(batch.folder)


@contextmanager
def output_folder(path: str | os.PathLike[str], names: Iterable[str] = ()) -> Iterator[Path]:
    """Make a folder for results, and keep other runs out of it; refused before any work.

    What is made here goes again if nothing is written. Inside another `output_folder` of the same
    folder it does nothing. Readers are not affected.

    Parameters
    ----------
    path : path
    names : iterable of str
        Files that may be written to it; those that exist must be writable.

    Raises
    ------
    FileError
        If it cannot be written, or another run writes to it.
    """
    folder = Path(path)
    made = [p for p in (folder, *folder.absolute().parents) if not p.exists()]
    try:
        with ExitStack() as stack:
            with _naming(f"to the output folder {folder}"):
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_held(folder))
                with _hidden(folder):  # can be written; and what a killed run left goes
                    pass
                for name in names:
                    _check_target(folder / name)
            yield folder
    finally:
        for empty in made:  # the innermost first
            with suppress(OSError):
                empty.rmdir()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold an output folder against other runs."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        key = (status.st_dev, status.st_ino)
        if key not in _HELD.get():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FileError(
                    f"Another run writes to the output folder {folder}; wait until it ends, or "
                    "choose another folder."
                ) from error
            except OSError as error:
                _LOG.warning("%s knows no locks: start no second run in it (%s).", folder, error)
        token = _HELD.set(_HELD.get() | {key})
        try:
            yield
        finally:
            _HELD.reset(token)
    finally:
        os.close(descriptor)


@contextmanager
def _hidden(folder: Path) -> Iterator[Path]:
    """A hidden folder inside `folder`, held while it is used; those of dead processes go."""
    for left in folder.glob(f"{_PARTIAL}*"):
        _remove_if_dead(left)
    made: tuple[Path, int] | None = None
    try:
        with _signals_wait():
            made = _held_hidden(folder)
        yield made[0]
    finally:
        with _signals_wait():
            if made is not None:
                shutil.rmtree(made[0], ignore_errors=True)
                os.close(made[1])


def _held_hidden(folder: Path) -> tuple[Path, int]:
    while True:
        hidden = Path(tempfile.mkdtemp(dir=folder, prefix=_PARTIAL))
        with suppress(FileNotFoundError):
            descriptor = os.open(hidden, os.O_RDONLY)
            with suppress(OSError):  # no locks here
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if hidden.exists():
                return hidden, descriptor
            os.close(descriptor)  # another process removed it before it was locked


def _remove_if_dead(hidden: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(hidden, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if it is alive
            shutil.rmtree(hidden)
        finally:
            os.close(descriptor)


def check_output(path: str | os.PathLike[str], inputs: Iterable[Path] = ()) -> None:
    """Refuse, before any work, a file that cannot be written or that is one of the inputs."""
    target = Path(path)
    if target.resolve() in {file.resolve() for file in inputs}:
        raise FileError(f"The output {target} would replace a file that is read; choose another.")
    with _naming(target):
        _check_target(target)
        with _hidden(target.parent):
            pass


def _check_target(target: Path) -> None:
    """Refuse what cannot be replaced; a write-protected file could be, but somebody meant it."""
    if target.is_dir():
        raise FileError(f"{target} is a folder; give the path of a file to write.")
    if target.exists() and not target.is_file():
        raise FileError(f"{target} is no ordinary file; give the path of a file to write.")
    if target.exists() and not os.access(target, os.W_OK):
        raise FileError(
            f"Cannot write {target}: it is write-protected. Make it writable, or choose another."
        )


@contextmanager
def _naming(target: object) -> Iterator[None]:
    """Say of which file an error of the system is, and what can be done."""
    try:
        yield
    except OSError as error:
        cure = "Choose a folder that exists and is writable."
        if error.errno in NO_ROOM:
            cure = "Make room, or choose another folder; what was there before is unchanged."
        raise FileError(f"Cannot write {target}: {error.strerror or error}. {cure}") from error


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive the loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Let Ctrl-C and its like wait until the end of what must not be left half-way."""
    if threading.current_thread() is not threading.main_thread():
        yield  # it is the main thread that they interrupt
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda which, frame: came.append(which))
        for number in _SIGNALS
        if callable(signal.getsignal(number))
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
