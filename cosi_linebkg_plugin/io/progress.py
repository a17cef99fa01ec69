"""How work that takes time tells what it does."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Is told what is being done, and how much of it.

    Whatever takes one takes None as well: then nothing is told.
    """

    def say(self, text: str) -> None:
        """Say what is being done now."""

    def count(self, done: int, total: int, what: str = "") -> None:
        """Say how much is done of how many events, toys, steps ... (`what`)."""


def say(progress: Progress | None, text: str) -> None:
    """Tell `progress`, if there is one, what is being done."""
    if progress is not None:
        progress.say(text)


def count(progress: Progress | None, done: int, total: int, what: str = "") -> None:
    """Tell `progress`, if there is one, how much is done."""
    if progress is not None:
        progress.count(done, total, what)
