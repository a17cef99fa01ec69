"""Whole commands, an old build beside this one: what a user waits for.

``python tests/benchmarks/bench_commands.py OLD [--repeats 5] [--events 1e6]`` prints a table in
Markdown. OLD is a checkout, the folder of an unpacked wheel, or a wheel. Every row is a new
process; old and new run in turns, each with a cache of compiled code of its own, as it leaves it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]

#: Runs a command of the package, and writes down what it took, as the process itself knows it.
RUNNER = """
import importlib, json, resource, sys
main = importlib.import_module(sys.argv[2]).main
try:
    code = main(sys.argv[3:])
except SystemExit as exit:
    code = exit.code
used = resource.getrusage(resource.RUSAGE_SELF)
status = open("/proc/self/status").read()
peak = next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM"))
with open(sys.argv[1], "w") as file:
    json.dump({"cpu": used.ru_utime + used.ru_stime, "peak": 1024e-6 * peak}, file)
sys.exit(code)
"""


@dataclass(frozen=True)
class Took:
    """What one process took: seconds by the clock, seconds of work, MB at most."""

    wall: float
    cpu: float
    peak: float


@dataclass(frozen=True)
class Build:
    """One of the two packages, with folders of its own for results and compiled code."""

    package: Path
    folder: Path

    @property
    def module(self) -> str:
        """Where the command line is: at the top of the package, before it had folders."""
        has_folders = (self.package / "cosi_linebkg_plugin" / "app").is_dir()
        return f"cosi_linebkg_plugin{'.app' if has_folders else ''}.cli"

    def run(self, *command: str, cache: Path | None = None) -> Took:
        """Run a command of the package in a new process."""
        env = os.environ | {
            "PYTHONPATH": str(self.package),
            "NUMBA_CACHE_DIR": str(cache or self.folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
        }
        took = self.folder / "took.json"
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, str(took), self.module, *command],
            env=env, cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        wall = time.perf_counter() - begin
        if done.returncode:
            raise RuntimeError(f"{self.package}: {' '.join(command)}: {done.stderr[-500:]}")
        return Took(wall, **json.loads(took.read_text(encoding="utf-8")))


def unpacked(old: Path, folder: Path) -> Path:
    """The folder that holds the package: of a wheel, where it is unpacked."""
    if old.suffix != ".whl":
        return old.resolve()
    with zipfile.ZipFile(old) as wheel:
        wheel.extractall(folder / "wheel")
    return folder / "wheel"


def make_data(folder: Path, n_events: int) -> dict[str, list[str]]:
    """The demo's events and configuration and an event list; the commands on them."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]
    from event_lists import make_events, write_fits

    from cosi_linebkg_plugin.app.demo import demo_config, simulated_events
    from cosi_linebkg_plugin.app.simulation import simulate
    from cosi_linebkg_plugin.histograms.write import write_histogram

    write_histogram(folder / "events.hdf5", simulated_events(simulate(1)))
    (folder / "config.yaml").write_text(demo_config(), encoding="utf-8")
    events, config = folder / "events.fits.gz", str(folder / "config.yaml")
    write_fits(events, make_events(n_events))
    binning = ["--energy-edges", "1500:2000:5", "--phi-pix-size", "3", "--nside", "16"]
    return {
        "--version": ["--version"],
        "--help": ["--help"],
        "lines": ["lines", "1500-2000"],
        "fit": ["fit", config, "--out", "fit", "--quiet"],
        "template": ["template", config, "--fit", "fit/fit.json", "--out", "made", "--quiet"],
        "run": ["run", config, "--out", "run", "--quiet"],
        f"bin, {n_events:.0e} events": ["bin", str(events), "--out", "binned.hdf5", *binning,
                                        "--quiet"],
    }  # fmt: skip


def check_equal(old: Build, new: Build) -> None:
    """Both sides found the same."""
    a, b = (
        json.loads((build.folder / "run" / "fit.json").read_text(encoding="utf-8"))
        for build in (old, new)
    )
    assert list(a["parameters"]) == list(b["parameters"]) and a["dof"] == b["dof"]
    np.testing.assert_allclose(a["deviance"], b["deviance"], rtol=1e-7)
    for label, row in a["source_counts"].items():
        np.testing.assert_allclose(row["value"], b["source_counts"][label]["value"], rtol=1e-6)


def table(old: Build, new: Build, commands: dict[str, list[str]], repeats: int) -> list[str]:
    """The rows: medians of commands in turns, the first of all with empty caches."""
    lines = [
        "| command | wall old [s] | new [s] | ratio | CPU old [s] | new [s] | ratio | "
        "peak old [MB] | new [MB] |",
        "|---|---|---|---|---|---|---|---|---|",
    ]

    def add(what: str, runs: list[tuple[Took, Took]]) -> None:
        cells = [what]
        for key, digits in (("wall", 2), ("cpu", 2), ("peak", 0)):
            a, b = (float(np.median([getattr(pair[k], key) for pair in runs])) for k in (0, 1))
            cells += [f"{a:.{digits}f}", f"{b:.{digits}f}"]
            cells += [f"{a / b:.1f}"] if key != "peak" else []
        lines.append(f"| {' | '.join(cells)} |")

    first = [tuple(build.run(*commands["run"]) for build in (old, new))]
    add("run, for the first time", first)
    check_equal(old, new)
    for what, command in commands.items():
        for build in (old, new):
            build.run(*command)
        runs = [tuple(build.run(*command) for build in (old, new)) for _ in range(repeats)]
        add(what, runs)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--events", type=float, default=1e6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        builds = []
        for side, package in (("old", unpacked(options.old, folder)), ("new", ROOT)):
            (folder / side).mkdir()
            builds.append(Build(package, folder / side))
        commands = make_data(folder, int(options.events))
        print("\n".join(table(*builds, commands, options.repeats)))


if __name__ == "__main__":
    main()
