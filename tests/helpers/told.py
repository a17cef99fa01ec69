"""A `Progress` that remembers what it was told."""


class Told:
    """What was said, and counted: (done, total, what)."""

    def __init__(self):
        self.said, self.counted = [], []

    def say(self, text):
        self.said.append(text)

    def count(self, done, total, what=""):
        self.counted.append((done, total, what))
