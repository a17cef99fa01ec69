"""What is told of long work, kept."""

from collections.abc import Callable


class Told:
    """A `Progress` that keeps all it is told; `on_count` is called with each count."""

    def __init__(self, on_count: Callable[[int, int], None] | None = None):
        self.said: list[str] = []
        self.counts: list[tuple[int, int]] = []
        self.what: set[str] = set()
        self._on_count = on_count

    def say(self, text: str) -> None:
        self.said.append(text)

    def count(self, done: int, total: int, what: str = "") -> None:
        self.counts.append((done, total))
        self.what.add(what)
        if self._on_count is not None:
            self._on_count(done, total)
