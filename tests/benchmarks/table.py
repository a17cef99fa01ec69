"""All benchmarks in one table.

``python tests/benchmarks/table.py [--quick] [--only NAME ...] [--peers PYTHON ...] [--dir DIR]
[--write]`` prints it; with ``--write`` it goes into docs/benchmarks.md. A full run takes eleven
minutes on two quiet cores with the event lists in DIR; those that are missing are simulated first
(5 GB), and kept.

cosipy 0.3.4 needs numpy < 2 and 0.4.3 Python 3.12, so that they live in environments of their own:
``--peers`` are the Pythons of those. Each group of rows runs in a new process of one of them, from
this repository's code. A row that fails shows its error, the others go on, and the exit status
is 1.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from timing import DATA, EXPONENT, RATE, ROOT, Comparison, Row, environment

PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- benchmarks -->", "<!-- end -->"
PACKAGES = ("numpy", "numba", "histpy", "cosipy", "threeML", "iminuit", "numba-stats", "healpy",
            "emcee", "h5py", "isal")  # fmt: skip
#: Seconds after which a group is given up.
PATIENCE = 900
MILLION = 1_000_000
#: The versions of cosipy that rows run beside.
OLD, NEW = "0.3.4", "0.4.3"


@dataclass(frozen=True)
class Bench:
    """One function of the modules beside this one, and its arguments.

    Attributes
    ----------
    function : str
        "module:function"; it returns a Comparison, a Row, or rows.
    arguments : dict
    quick : dict or None
        Arguments that differ with ``--quick``; None leaves it out there.
    in_folder : bool
        Whether its first argument is the folder of the event lists.
    headline : bool
        Whether the summary on top shows its (first) row.
    """

    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    quick: dict[str, Any] | None = field(default_factory=dict)
    in_folder: bool = False
    headline: bool = False

    def rows(self, folder: Path, quick: bool) -> list[Row]:
        module, name = self.function.split(":")
        arguments = self.arguments | ((self.quick or {}) if quick else {})
        function = getattr(importlib.import_module(module), name)
        result = function(folder, **arguments) if self.in_folder else function(**arguments)
        if isinstance(result, Comparison):
            result = result.row()
        return [result] if isinstance(result, Row) else result

    def __str__(self) -> str:
        values = ", ".join(f"{k}={v}" for k, v in self.arguments.items() if k != "aim")
        return f"{self.function.split(':')[1]}({values})"


@dataclass(frozen=True)
class Group:
    """Rows that run in one process, beside the cosipy of that version where one is named."""

    title: str
    benches: tuple[Bench, ...]
    cosipy: str = ""


_listed = partial(Bench, in_folder=True)

# Aims are those set for the project, or what its prototypes reached; docs/benchmarks.md says so.
GROUPS = {
    "fit": Group(
        "Likelihood and fit",
        (
            Bench("bench_fit:likelihood_call", {"n_lines": 6, "aim": 13}, headline=True),
            Bench("bench_fit:likelihood_call", {"n_lines": 23, "aim": 21}, headline=True),
            Bench("bench_fit:direct_fit", {"n_lines": 6, "aim": 29}, headline=True),
            Bench("bench_fit:direct_fit", {"n_lines": 23, "aim": 38}, headline=True),
            Bench("bench_fit:joint_likelihood_fit", {"aim": 1}, headline=True),
        ),
    ),
    "fit-cosipy": Group(
        "Likelihood and fit",
        (Bench("bench_fit:cosipys_class", quick=None, headline=True),),
        cosipy=OLD,
    ),
    "sampling": Group(
        "Likelihood and fit",
        (Bench("bench_fit:sampling", {"aim": 35}, quick=None, headline=True),),
    ),
    "lines": Group(
        "Line search",
        (
            *(Bench("bench_lines:search", {"case": c}) for c in ("empty", "wide", "26Al")),
            Bench("bench_lines:search_many", {"n_lines": 100, "growing": True}),
            *(Bench("bench_lines:search_many", {"n_lines": n}) for n in (25, 50, 100, 200)),
            Bench("bench_lines:hand_fit"),
        ),
    ),
    "template": Group(
        "Templates",
        (
            Bench("bench_template:many_time_bins", {"aim": 11}, {"n_times": 9, "n_events": 2e6},
                  headline=True),
            Bench("bench_template:components", {"n_times": 1, "n_events": 2e6}),
            Bench("bench_template:components", {"n_times": 9, "n_events": 2e6}),
            Bench("bench_template:components", {"n_times": 90, "n_events": 2e7}, quick=None),
            Bench("bench_template:energy_bins", {"aim": 1 / 6}, {"n_events": 2e5, "repeats": 2}),
        ),
    ),
    "template-cosipy": Group(
        "Templates", (Bench("bench_template:one_time_bin", {"aim": 6}),), cosipy=OLD
    ),
    "unbinned": Group(
        "Unbinned background",
        (
            Bench("bench_unbinned:set_up_and_call", {"aims": (8, 2)},
                  {"n_events": MILLION // 10, "repeats": 1}, headline=True),
            Bench("bench_unbinned:memory_of_density", {}, {"n_events": MILLION // 10}),
        ),
        cosipy=NEW,
    ),
    "file": Group(
        "Templates",
        (
            _listed("bench_template:from_file", {"aims": (5.8, 10)},
                    {"n_events": 2e6, "n_times": 9, "repeats": 1}, headline=True),
            _listed("bench_template:template_run", {},
                    {"n_events": 2e6, "n_times": 9, "repeats": 1}),
        ),
    ),
    "filters": Group(
        "Filters",
        (
            Bench("bench_filters:low_pass", {"n_time": 1, "nside": 16, "repeats": 31, "aim": 44}),
            Bench("bench_filters:low_pass", {"n_time": 90, "nside": 16, "repeats": 3, "aim": 44},
                  quick=None, headline=True),
            Bench("bench_filters:low_pass", {"n_time": 1, "nside": 64, "repeats": 5, "aim": 44},
                  {"repeats": 1}),
            Bench("bench_filters:low_pass_matrix", {"nside": 16}),
            Bench("bench_filters:gaussian", {"n_time": 1, "nside": 16, "repeats": 31, "aim": 1}),
            Bench("bench_filters:automatic", {}, {"n_events": 2e5, "nside": 8}),
        ),
    ),
    "events": Group(
        "Event lists",
        (
            _listed("bench_events:against_histpy", {"kind": "gzip", "aim": 5}, {"n": MILLION},
                    headline=True),
            _listed("bench_events:against_histpy", {"kind": "plain", "aim": 5}, {"n": MILLION}),
            _listed("bench_events:against_histpy",
                    {"kind": "gzip", "energies": "all", "aim": 5, "repeats": 2}, {"n": MILLION}),
            _listed("bench_events:kinds_of_files", {}, {"n": MILLION // 10}),
        ),
    ),
    "events-cosipy": Group(
        "Event lists",
        (
            _listed("bench_events:against_cosipy", {"kind": "gzip", "aim": 45}, {"n": MILLION},
                    headline=True),
            _listed("bench_events:against_cosipy", {"kind": "plain", "aim": 45}, {"n": MILLION}),
        ),
        cosipy=OLD,
    ),
    "events-parallel": Group(
        "Event lists",
        (
            _listed("bench_events:in_parallel", {"repeats": 2},
                    {"n": MILLION // 10, "repeats": 1}),
        ),
    ),
    "events-memory": Group(
        "Event lists",
        (
            _listed("bench_events:peak_memory", {"n": 10 * MILLION}, {"n": MILLION}),
            _listed("bench_events:peak_memory", {"n": 100 * MILLION}, None),
            _listed("bench_events:peak_memory", {"n": 10 * MILLION, "energies": "all"},
                    {"n": MILLION}),
            _listed("bench_events:peak_memory", {"n": 100 * MILLION, "energies": "all"}, None),
        ),
    ),
    "start": Group(
        "Start",
        (
            Bench("bench_start:command_line", {}, {"repeats": 1}),
            Bench("bench_start:first_fit", {}, {"repeats": 1}),
        ),
    ),
    "growth": Group(
        "Growth: the exponent p of time ~ size^p",
        (
            Bench("bench_fit:growth_with_bins"),
            Bench("bench_fit:growth_with_lines"),
            Bench("bench_template:growth_with_events", {"aim": 1.1},
                  {"sizes": (2e4, 2e5, 2e6), "n_times": 1}),
            Bench("bench_filters:growth_with_slices", {"aim": 1.1}, {"n_times": (1, 3, 9)}),
            _listed("bench_events:growth_with_events", {"aim": 1.1},
                    {"sizes": (10_000, 100_000, MILLION)}),
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A row, or why there is none, and the environment that it was measured in."""

    title: str
    versions: str
    row: Row | None = None
    headline: bool = False
    what: str = ""
    problem: str = ""


def versions() -> str:
    """Of Python and the packages that matter, in this process's environment."""
    found = [f"Python {sys.version.split()[0]}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def work(benches: Iterable[Bench], folder: Path, quick: bool, out: Path) -> None:
    """Run benches in this process; each line of `out` is what to tell the one that collects."""

    def tell(**entry: Any) -> None:
        with open(out, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    tell(versions=versions())
    for bench in benches:
        if quick and bench.quick is None:
            continue
        tell(what=str(bench))
        try:
            rows = bench.rows(folder, quick)
        except Exception as error:
            traceback.print_exc()
            tell(what=str(bench), problem=f"{type(error).__name__}: {error}")
        else:
            tell(rows=[asdict(row) for row in rows], headline=bench.headline)


def run_group(name: str, python: str, folder: Path, quick: bool) -> list[Result]:
    """Run a group in a new process of an environment."""
    title = GROUPS[name].title
    with tempfile.TemporaryDirectory() as scratch:
        out, log = Path(scratch) / "rows", Path(scratch) / "log"
        command = [python, __file__, "--work", name, "--out", str(out), "--dir", str(folder)]
        status: Any
        with open(log, "w", encoding="utf-8") as file:
            try:
                status = subprocess.run(
                    command + ["--quick"] * quick, env=environment(), stdout=file, stderr=file,
                    timeout=PATIENCE, check=False,
                ).returncode  # fmt: skip
            except (OSError, subprocess.TimeoutExpired) as error:
                status = str(error)
        told = [json.loads(line) for line in out.open(encoding="utf-8")] if out.exists() else []
        last_words = log.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
    results, known, begun = [], python, name
    for entry in told:
        if "versions" in entry:
            known = entry["versions"]
        elif "rows" in entry:
            results += [
                Result(title, known, Row(**row), headline=entry["headline"] and n == 0)
                for n, row in enumerate(entry["rows"])
            ]
            begun = ""
        elif "problem" in entry:
            results.append(Result(title, known, what=entry["what"], problem=entry["problem"]))
            begun = ""
        else:
            begun = entry["what"]
    if status != 0:
        problem = f"the process ended: {status}"
        results.append(Result(title, known, what=begun or name, problem=problem))
    if any(r.problem for r in results):
        print(f"--- {name}\n{last_words}\n---", file=sys.stderr)
    return results


def amount(value: float, unit: str) -> str:
    if unit == EXPONENT:
        return f"{value:.2f}"
    if unit == RATE:
        return f"{float(f'{value:.3g}'):,.0f}/s"
    if unit == "MB":
        return f"{value:,.0f} MB"
    for factor, name in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1 or name == "us":
            return f"{float(f'{value * factor:.3g}'):g} {name}"
    raise AssertionError


def markdown(results: list[Result]) -> str:
    """One table for each title, in the order of GROUPS; environments as letters, explained last."""
    letters: dict[str, str] = {}
    for result in results:
        letters.setdefault(result.versions, chr(ord("A") + len(letters)))
    lines = []
    for title in dict.fromkeys(result.title for result in results):
        lines += [f"### {title}", "", "| what | this package | peer | ratio | aim | in |",
                  "|---|---|---|---|---|---|"]  # fmt: skip
        for result in (r for r in results if r.title == title):
            letter = letters[result.versions]
            if result.row is None:
                problem = " ".join(result.problem.split()).replace("|", "/")[:300]
                lines.append(f"| {result.what} | **failed**: {problem} | | | | {letter} |")
            else:
                lines.append(f"{_cells(result.row)} {letter} |")
        lines.append("")
    lines += [f"* {letter}: {text}" for text, letter in letters.items()]
    return "\n".join(lines)


def headlines(results: list[Result]) -> str:
    """A few rows with their ratios, for readers in a hurry."""
    lines = ["| | peer | this package is |", "|---|---|---|"]
    for result in results:
        if result.headline and result.row is not None and result.row.ratio is not None:
            better = "smaller" if result.row.unit == "MB" else "faster"
            ratio = f"{float(f'{result.row.ratio:.2g}'):,g} times {better}"
            lines.append(f"| {result.row.what} | {result.row.peer} | {ratio} |")
    return "\n".join(lines)


def cosipy_of(python: str) -> str:
    """The version of cosipy in a Python's environment, or ""."""
    ask = "import importlib.metadata as m; print(m.version('cosipy'))"
    found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def write_between_marks(page: Path, text: str) -> None:
    head, rest = page.read_text(encoding="utf-8").split(BEGIN)
    tail = rest.split(END, 1)[1]
    page.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


def _cells(row: Row) -> str:
    peer = ratio = aim = ""
    if row.theirs is not None:
        peer = f"{row.peer}: {amount(row.theirs, row.unit)}"
        ratio = f"{float(f'{row.ratio:.3g}'):,g}"
    if row.aim is not None:
        sign = "≤" if row.unit == EXPONENT else "≥"
        aim = f"{sign} {row.aim:g}: {'met' if row.met else '**missed**'}"
    return f"| {row.what} | {amount(row.ours, row.unit)} | {peer} | {ratio} | {aim} |"


def machine() -> str:
    """The processor, and how busy it is."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = next(x.split(":")[1].strip() for x in text.splitlines() if "model name" in x)
    except (OSError, StopIteration):
        model = "unknown processor"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, load average at the start "
        f"{os.getloadavg()[0]:.1f}"
    )


def summary(results: list[Result]) -> str:
    failed = sum(r.row is None for r in results)
    aimed = [r.row for r in results if r.row is not None and r.row.aim is not None]
    missed = sum(not row.met for row in aimed)
    return (
        f"{len(results)} rows; {len(aimed) - missed} of {len(aimed)} aims met, {missed} missed; "
        f"{failed} rows failed"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, without the long rows")
    parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument(
        "--peers", nargs="+", default=[], metavar="PYTHON", help=f"beside cosipy {OLD} and {NEW}"
    )
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    parser.add_argument("--dir", type=Path, help="folder of the event lists, which are kept")
    parser.add_argument("--work", choices=GROUPS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    folder = (options.dir or Path(tempfile.gettempdir()) / "cosi_linebkg_benchmarks").resolve()
    if options.work:
        work(GROUPS[options.work].benches, folder, options.quick, options.out)
        return 0
    pythons = {cosipy_of(python): python for python in (*options.peers, sys.executable)}
    if options.write and options.only:
        parser.error("--write takes all rows, without --only")
    if options.write and not {OLD, NEW} <= set(pythons):
        parser.error(f"--write needs the rows beside cosipy {OLD} and {NEW}: give --peers")

    folder.mkdir(parents=True, exist_ok=True)
    began, start, of_machine = datetime.now(UTC), time.monotonic(), machine()
    results: list[Result] = []
    for name in options.only or GROUPS:
        needed = GROUPS[name].cosipy
        if needed and needed not in pythons:
            print(f"{name}: left out, it needs cosipy {needed} (--peers)", file=sys.stderr)
            continue
        python = pythons[needed] if needed else sys.executable
        since = time.monotonic()
        results += run_group(name, python, folder, options.quick)
        print(f"{name}: {time.monotonic() - since:.0f} s", file=sys.stderr, flush=True)
    flags = " --quick" * options.quick + " --write" * options.write
    flags += " --peers PYTHON ..." if options.peers else ""
    spectrum = "DC3's" if DATA.is_dir() else "simulated"
    minutes = (time.monotonic() - start) / 60
    text = (
        f"{began:%Y-%m-%d %H:%M} UTC, {minutes:.0f} minutes, `python tests/benchmarks/table.py"
        f"{flags}`; {of_machine}; the spectrum around 26Al is {spectrum}. {summary(results)}.\n\n"
        f"### In short\n\n{headlines(results)}\n\n{markdown(results)}"
    )
    print(text)
    if options.write:
        write_between_marks(PAGE, text)
    return int(any(r.row is None for r in results))


if __name__ == "__main__":
    sys.exit(main())
