"""Random draws of simulated data sets, which no two copies of a plugin share."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

#: What `numpy.random.default_rng` takes.
Seed = int | np.random.SeedSequence | np.random.BitGenerator | np.random.Generator | None


class Draws:
    """A random generator that stays behind when its owner is copied.

    A session on several processes sends each of them a copy of its plugins. If the state of the
    generator went along, every process would draw the same numbers. So a copy (pickle, dill,
    deepcopy) and a forked process start anew, from the operating system's entropy; only the
    original goes on with the sequence of its seed.

    Parameters
    ----------
    seed : int, SeedSequence, BitGenerator or Generator, optional
        As of `numpy.random.default_rng`.
    """

    def __init__(self, seed: Seed = None) -> None:
        self._process, self._generator = os.getpid(), np.random.default_rng(seed)

    def __reduce__(self) -> tuple[Callable[[], Draws], tuple[()]]:
        return Draws, ()

    @property
    def generator(self) -> np.random.Generator:
        """The generator of this copy in this process."""
        if self._process != os.getpid():
            self._process, self._generator = os.getpid(), np.random.default_rng()
        return self._generator

    def child(self) -> Draws:
        """Draws that are independent of these; the same ones for the same seed."""
        return Draws(np.random.SeedSequence(self.generator.integers(2**63, size=4).tolist()))
