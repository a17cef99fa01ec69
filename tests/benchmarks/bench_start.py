"""What a newcomer waits for: the command line's start, and the first fit; rows for table.py."""

from __future__ import annotations

import json
import tempfile
import time

import numpy as np
from timing import Row, environment, in_new_process, in_turns, measured_in_new_process


def command_line(repeats: int = 3, aim: float | None = None) -> list[Row]:
    """``cosi-linebkg --version`` and ``--help``, as processes, against importing threeML."""
    from cosi_linebkg_plugin import __version__

    said = {"--version": __version__, "--help": "usage: cosi-linebkg"}
    calls = []
    for option, start in said.items():
        arguments = "-m", "cosi_linebkg_plugin.app.cli", option
        assert start in in_new_process(*arguments)
        calls.append(lambda arguments=arguments: in_new_process(*arguments))
    in_new_process("-c", "import threeML")
    *ours, theirs = in_turns(
        *calls, lambda: in_new_process("-c", "import threeML"), repeats=repeats
    )
    return [
        Row(
            f"cosi-linebkg {option}, the whole process", seconds, "s", "import threeML", theirs, aim
        )
        for option, seconds in zip(said, ours, strict=True)
    ]


def first_fit(repeats: int = 2) -> list[Row]:
    """A process that imports, makes a spectrum and fits 6 lines; numba's cache empty and filled."""
    times: dict[str, list[float]] = {"empty": [], "filled": []}
    deviances = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            for of_state in times.values():  # the first run fills the cache
                begin = time.perf_counter()
                result = measured_in_new_process(
                    "bench_start.py", env=environment(NUMBA_CACHE_DIR=cache)
                )
                of_state.append(time.perf_counter() - begin)
                deviances.append(result["deviance"])
    np.testing.assert_allclose(deviances, deviances[0], rtol=1e-9)
    return [
        Row(f"first fit, the whole process, numba's cache {state}", float(np.median(of_state)))
        for state, of_state in times.items()
    ]


def _fit() -> float:
    """The deviance of the tutorial's model on a simulated spectrum."""
    from spectra import TUTORIAL_MASK, simulated_spectrum, tutorial_model

    from cosi_linebkg_plugin.fit.minimise import fit_spectrum

    edges, rng = np.linspace(1500.0, 2000.0, 100), np.random.default_rng(1)
    truth = tutorial_model(index=-2.0, sigma=2.96)
    spectrum = simulated_spectrum(truth, edges, rng, [TUTORIAL_MASK])
    return fit_spectrum(tutorial_model(), spectrum).deviance


if __name__ == "__main__":
    print(json.dumps({"deviance": _fit()}))
