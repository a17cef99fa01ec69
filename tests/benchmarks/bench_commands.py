"""Whole commands, an old build beside this one: what a user waits for.

``python tests/benchmarks/bench_commands.py OLD [--repeats 5] [--only NAME ...] [--keep FILE]
[--write]`` prints a table in Markdown; with ``--write`` it goes into docs/benchmarks.md. OLD is a
checkout, the folder of an unpacked wheel, or a wheel. Every turn is a new process; old and new run
in turns, each with a cache of compiled code of its own, as it leaves it. ``--keep`` holds the data
that are made and the turns so far, so that rows can be measured one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- commands -->", "<!-- end of commands -->"

#: Runs what is asked for, and writes down what a part of it took, as the process itself knows it.
RUNNER = """
import importlib, json, resource, sys, time
took = {}

def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    status = open("/proc/self/status").read()
    memory = {name: 1024e-6 * int(value.split()[0]) for name, value in
              (line.split(":") for line in status.splitlines()) if name in ("VmHWM", "VmRSS")}
    return time.perf_counter(), usage.ru_utime + usage.ru_stime, memory["VmHWM"], memory["VmRSS"]

def command(module, *arguments):
    try:
        code = importlib.import_module(module).main(list(arguments))
    except SystemExit as exit:
        code = exit.code
    took.update(peak=used()[2])  # the system's own number may be that of what started the process
    return code

def plugin():
    import threeML
    before = used()
    from cosi_linebkg_plugin import LineBackgroundLike
    after = used()
    took.update(wall=after[0] - before[0], cpu=after[1] - before[1], peak=after[2] - before[2])

def components(path, small, out):
    import astropy.units as u
    from cosi_linebkg_plugin import LineBackgroundLike, background_model
    for source in (small, path):  # the first compiles what has to be compiled
        before = used()
        plugin = LineBackgroundLike("linebkg", source)
        plugin.set_mask((1790, 1825) * u.keV)
        model = background_model([1778.97], pivot=1800)
        plugin.guess(model)
        ratio = {"line": 1808.65, "tracer": 1778.97, "value": 0.149, "error": 0.015}
        fit = plugin.fit(model)
        template = plugin.background_template(fit, (1805, 1812) * u.keV, line_ratio=ratio)
        template.write(out)
        after = used()
    took.update(wall=after[0] - before[0], cpu=after[1] - before[1], peak=after[2] - before[3])

code = globals()[sys.argv[2]](*sys.argv[3:])
with open(sys.argv[1], "w") as file:
    json.dump(took, file)
sys.exit(code)
"""


@dataclass(frozen=True)
class Took:
    """What one process took, start and end included: seconds by the clock, of work, MB at most."""

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

    def run(self, task: str, *arguments: str, empty: bool = False) -> Took:
        """Run a task of `RUNNER` in a new process; `empty` does so without compiled code."""
        cache = self.folder / ("empty" if empty else "cache")
        if empty:
            shutil.rmtree(cache, ignore_errors=True)
        env = os.environ | {
            "PYTHONPATH": str(self.package),
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(self.folder / "pycache"),
            "NUMBA_CACHE_DIR": str(cache),
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
        }
        took = self.folder / "took.json"
        module = [self.module] if task == "command" else []
        errors = self.folder / "errors.txt"
        begin = time.perf_counter()
        with errors.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", RUNNER, str(took), task, *module, *arguments],
                env=env, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=file,
            )  # fmt: skip
            _, status, used = os.wait4(process.pid, 0)
        whole = {
            "wall": time.perf_counter() - begin,
            "cpu": used.ru_utime + used.ru_stime,
        }
        if os.waitstatus_to_exitcode(status):
            text = errors.read_text(encoding="utf-8")
            raise RuntimeError(f"{self.package}: {task} {arguments}: {text[-500:]}")
        return Took(**whole | json.loads(took.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    what : str
    task : tuple of str
        Of `RUNNER`, with its arguments.
    aims : dict of str to float
        How many times smaller than in the old build: "wall", "cpu" and "peak".
    empty : bool
        Whether there is no compiled code at the start of each turn.
    """

    what: str
    task: tuple[str, ...]
    aims: dict[str, float]
    empty: bool = False


def unpacked(old: Path, folder: Path) -> Path:
    """The folder that holds the package: of a wheel, where it is unpacked."""
    if old.suffix != ".whl":
        return old.resolve()
    with zipfile.ZipFile(old) as wheel:
        wheel.extractall(folder / "wheel")
    return folder / "wheel"


def rows(folder: Path) -> dict[str, Row]:
    """The demo's events and configuration, an event list, a large histogram; the tasks on them."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers"), str(ROOT / "tests" / "benchmarks")]
    from bench_template import binned_file
    from event_lists import make_events, write_fits

    from cosi_linebkg_plugin.app.demo import demo_config, simulated_events
    from cosi_linebkg_plugin.app.simulation import simulate
    from cosi_linebkg_plugin.histograms.write import write_histogram

    events, config = folder / "events.fits.gz", folder / "config.yaml"
    if not config.exists():
        write_histogram(folder / "events.hdf5", simulated_events(simulate(1)))
        write_fits(events, make_events(1_000_000))
        config.write_text(demo_config(), encoding="utf-8")
    large, small = (str(binned_file(folder, *size)) for size in ((90, 2e7), (2, 1e5, 1)))
    binning = ["--energy-edges", "1500:2000:5", "--phi-pix-size", "3", "--nside", "16"]
    fit, run, template = (["command", name, str(config), "--out"] for name in
                          ("fit", "run", "template"))  # fmt: skip
    return {
        "first": Row("`run`, nothing compiled yet", (*run, "run", "--quiet"), {"cpu": 3}, True),
        "demo": Row("`demo`, nothing compiled yet", ("command", "demo", "--quiet"), {}, True),
        "run": Row("`run`, the demo's data", (*run, "run", "--quiet"), {"wall": 4, "peak": 2}),
        "fit": Row("`fit` of the same", (*fit, "fit", "--quiet"), {"wall": 5}),
        "template": Row("`template` of the same",
                        (*template, "made", "--fit", "fit/fit.json", "--quiet"), {}),
        "bin": Row("`bin` of 1e6 events, .fits.gz",
                   ("command", "bin", str(events), "--out", "binned.hdf5", *binning, "--quiet"),
                   {"wall": 3}),
        "components": Row("2e7 events, 90 time bins, file to template, warm",
                          ("components", large, small, "template.h5"), {"wall": 1.5}),
        "lines": Row("`lines`", ("command", "lines", "1500-2000"), {}),
        "version": Row("`--version`", ("command", "--version"), {"cpu": 0.9}),
        "help": Row("`--help`", ("command", "--help"), {"cpu": 0.9}),
        "plugin": Row("the plugin, after `import threeML`", ("plugin",), {}),
    }  # fmt: skip


def check_equal(old: Build, new: Build) -> None:
    """Both sides found the same, or the new one a lower minimum of the same counts."""
    a, b = (
        json.loads((build.folder / "run" / "fit.json").read_text(encoding="utf-8"))
        for build in (old, new)
    )
    assert list(a["parameters"]) == list(b["parameters"]) and a["dof"] == b["dof"]
    assert b["deviance"] <= a["deviance"] * (1 + 1e-7)
    for label, row in a["source_counts"].items():
        found = b["source_counts"][label]["value"]
        assert abs(found - row["value"]) <= 0.1 * (row["error"] or 0.0), (label, row, found)


def measure(row: Row, old: Build, new: Build, repeats: int, cold: bool) -> list[tuple[Took, Took]]:
    """Turns of one row; where it is `cold`, after one of each that fills the caches."""
    for build in (old, new):
        if cold:
            build.run(*row.task)
    both = [tuple(b.run(*row.task, empty=row.empty) for b in (old, new)) for _ in range(repeats)]
    if row.task[1:2] == ("run",):
        check_equal(old, new)
    return both


def table(known: dict[str, Row], turns: dict[str, list[tuple[Took, Took]]]) -> list[str]:
    """Medians of both sides and the ratio of each row that was measured; aims that are missed."""
    lines = [
        "| what | wall [s] | ratio | CPU [s] | ratio | peak [MB] | ratio | aim | turns |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in known.items():
        if name not in turns:
            continue
        cells, aims = [row.what], []
        for key, digits in (("wall", 2), ("cpu", 2), ("peak", 0)):
            a, b = (float(np.median([getattr(pair[k], key) for pair in turns[name]]))
                    for k in (0, 1))  # fmt: skip
            cells += [f"{a:.{digits}f} → {b:.{digits}f}", f"{a / max(b, 1e-9):.1f}"]
            if key in row.aims:
                met = "met" if a / max(b, 1e-9) >= row.aims[key] else "**missed**"
                aims.append(f"{key.replace('cpu', 'CPU')} ≥ {row.aims[key]:g}: {met}")
        lines.append(f"| {' | '.join([*cells, ', '.join(aims), str(len(turns[name]))])} |")
    return lines


def write_page(lines: list[str], load: float) -> None:
    """The table in its place in docs/benchmarks.md."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    when = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load average {load:.1f} on {os.cpu_count()} cores"
    )
    PAGE.write_text(
        f"{before}{BEGIN}\n{when}.\n\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", metavar="NAME")
    parser.add_argument("--keep", type=Path, metavar="DIR")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.keep or Path(name)).resolve()
        builds = []
        for side, package in (("old", unpacked(options.old, folder)), ("new", ROOT)):
            (folder / side).mkdir(parents=True, exist_ok=True)
            builds.append(Build(package, folder / side))
        known, kept = rows(folder), folder / "turns.json"
        stored = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        for what in options.only if options.only is not None else known:
            both = measure(known[what], *builds, options.repeats, what not in stored)
            stored.setdefault(what, []).extend([asdict(side) for side in pair] for pair in both)
            kept.write_text(json.dumps(stored), encoding="utf-8")
        turns = {k: [(Took(**a), Took(**b)) for a, b in pairs] for k, pairs in stored.items()}
        lines = table(known, turns)
        print("\n".join(lines))
        if options.write:
            write_page(lines, os.getloadavg()[0])


if __name__ == "__main__":
    main()
