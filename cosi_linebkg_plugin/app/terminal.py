"""What a command tells while it works: on a terminal, line by line, or nothing."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..io.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

#: The package's own; it has no handler unless a command is verbose.
_LOG = logging.getLogger(__package__.partition(".")[0])


class LogOnly:
    """A `Progress` that goes to the package's logger alone."""

    def say(self, text: str) -> None:
        """Log what is being done now."""
        _LOG.info(text)

    def count(self, done: int, total: int, what: str = "") -> None:
        """How much is done is for terminals alone."""


class OnTerminal:
    """A `Progress` that draws: what is being done, for how long, and how much of it.

    Parameters
    ----------
    bar : rich.progress.Progress
    """

    def __init__(self, bar: Bar) -> None:
        self._bar, self._task = bar, bar.add_task("starting", rate="")
        self._listens = False
        self.say("starting")

    def say(self, text: str) -> None:
        """Show, and log, what is being done now."""
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        _LOG.info(text)
        self._text = text
        if not self._listens and "numba" in sys.modules:
            self._listens = True
            _tell_compiling(self)
        self._bar.columns = (
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
        )  # fmt: skip
        self._bar.update(self._task, description=text)
        self._began = time.monotonic()

    def compiling(self, now: bool) -> None:
        """Show that a loop is compiled, which is done once, or that it no longer is."""
        why = " (compiling, once after installing)" if now else ""
        self._bar.update(self._task, description=self._text + why)

    def count(self, done: int, total: int, what: str = "") -> None:
        """Show how much is done of how much, and of events how many a second."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

        if len(self._bar.columns) == 3:
            spinner, text, elapsed = self._bar.columns
            rate = TextColumn("{task.fields[rate]}")
            self._bar.columns = (spinner, text, BarColumn(), MofNCompleteColumn(), rate, elapsed)
        if what == "events":
            per_second = done / max(time.monotonic() - self._began, 1e-3)
            what = f"events, {per_second:,.0f} events/s"
        self._bar.update(self._task, completed=done, total=total, rate=what)


def _tell_compiling(progress: OnTerminal) -> None:
    """From now on, tell when numba compiles what is not in its cache."""
    from numba.core import event

    class Telling(event.Listener):
        depth = 0  # one function makes others compile

        def on_start(self, event: object) -> None:
            self.depth += 1
            progress.compiling(True)

        def on_end(self, event: object) -> None:
            self.depth -= 1
            progress.compiling(self.depth > 0)

    event.register("numba:compile", Telling())  # type: ignore[no-untyped-call]


@contextmanager
def telling(*, quiet: bool, verbose: bool) -> Iterator[Progress]:
    """Yield a `Progress`: a terminal is drawn on; otherwise each step is a line, if verbose."""
    warnings.simplefilter("ignore")  # what a user must know is printed as notes
    if verbose:
        with _log_on_stderr():
            yield LogOnly()
        return
    if quiet or not sys.stderr.isatty():
        yield LogOnly()
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        yield OnTerminal(bar)


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Steps of this package as lines with their time, while a command runs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    level = _LOG.level
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
        _LOG.setLevel(level)


def quiet_threeml() -> None:
    """Silence the chatter of threeML and astromodels inside our own commands."""
    for name in ("threeML", "astromodels"):
        logging.getLogger(name).setLevel(logging.ERROR)
