"""What every benchmark returns, and how it is timed: calls in turns, medians, fresh processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
#: Of the published data sets, as for the tests; where it is missing, spectra are simulated.
DATA = Path(os.environ.get("COSI_LINEBKG_DATA", ROOT.parent / "shared" / "data"))
#: Units in which more is better, or which are no amount: an exponent has an upper limit as its aim.
RATE, EXPONENT = "1/s", "exponent"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    what : str
    ours, theirs : float
        Medians in `unit`; `theirs` is None where there is no peer.
    unit : str
        "s", "MB" (1e6 bytes), "1/s" or "exponent".
    peer : str
    aim : float, optional
        Of the ratio at least; of an exponent at most.
    """

    what: str
    ours: float
    unit: str = "s"
    peer: str = ""
    theirs: float | None = None
    aim: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer."""
        if self.theirs is None:
            return None
        return self.ours / self.theirs if self.unit == RATE else self.theirs / self.ours

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None without one."""
        if self.aim is None:
            return None
        if self.unit == EXPONENT:
            return self.ours <= self.aim
        return self.ratio is not None and self.ratio >= self.aim


@dataclass(frozen=True)
class Comparison:
    """Two calls whose results were found equal, ready to be timed; each makes `calls` calls.

    Neither waits nor uses threads, so that CPU time is theirs even on a busy machine.
    """

    what: str
    peer: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    aim: float | None = None
    repeats: int = 15
    calls: int = 1

    def row(self) -> Row:
        both = in_turns(self.ours, self.theirs, repeats=self.repeats, clock=time.process_time)
        ours, theirs = both
        return Row(self.what, ours / self.calls, "s", self.peer, theirs / self.calls, self.aim)


def in_turns(
    *calls: Callable[[], object],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Median seconds of each call, run in turns so that a busy machine slows all alike."""
    times = []
    for _ in range(repeats):
        times.append([])
        for call in calls:
            start = clock()
            call()
            times[-1].append(clock() - start)
    return [float(t) for t in np.median(times, axis=0)]


def growth(
    what: str, sizes: Sequence[float], seconds: Sequence[float], aim: float | None = None
) -> Row:
    """The exponent p of seconds ~ size^p: the slope of a line through the logarithms."""
    slope = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return Row(f"{what}, {sizes[0]:.3g} to {sizes[-1]:.3g}", slope, EXPONENT, aim=aim)


def environment(**changes: str) -> dict[str, str]:
    """Of child processes: this repository's package and helpers, one thread for linear algebra."""
    helpers = str(ROOT / "tests" / "helpers")
    path = os.pathsep.join(p for p in (str(ROOT), helpers, os.environ.get("PYTHONPATH")) if p)
    fixed = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    return os.environ | fixed | changes


def in_new_process(*arguments: str, env: dict[str, str] | None = None) -> str:
    """What ``python ARGUMENTS`` prints; a failure raises with the end of its messages."""
    command, env = [sys.executable, *arguments], env or environment()
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"exit status {run.returncode}: {run.stderr.strip()[-500:]}")
    return run.stdout


def measured_in_new_process(
    script: str, *arguments: Any, env: dict[str, str] | None = None
) -> dict[str, Any]:
    """The JSON object on the last line that a script beside this one prints."""
    path = str(Path(__file__).with_name(script))
    return json.loads(in_new_process(path, *map(str, arguments), env=env).splitlines()[-1])


def memory(what: str = "VmHWM") -> float:
    """Peak (VmHWM) or present (VmRSS) memory of this process in MB; Linux.

    The peak of getrusage would begin with that of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024e-6 * next(int(x.split()[1]) for x in status.splitlines() if x.startswith(what))
