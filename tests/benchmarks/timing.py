"""Timing for benchmarks: calls in turns, medians."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def in_turns(*calls: Callable[[], object], repeats: int) -> list[float]:
    """Median seconds of each call, run in turns so that a busy machine slows all alike."""
    times = []
    for _ in range(repeats):
        times.append([])
        for call in calls:
            start = time.perf_counter()
            call()
            times[-1].append(time.perf_counter() - start)
    return list(np.median(times, axis=0))
