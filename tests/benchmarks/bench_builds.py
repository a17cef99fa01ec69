"""Warm rows of an older checkout beside this one: is anything slower than it was?

    python tests/benchmarks/bench_builds.py OLD [--only CALL ...] [--turns 15]
    python tests/benchmarks/bench_builds.py OLD --groups [GROUP ...] [--turns 3] [--quick]

The first keeps a process of each checkout and has them make the same calls in turns, a few
hundredths of a second each, so that a busy machine slows both alike: medians of CPU time, and of
the ratios of the turns. The second runs whole groups of each checkout's own ``table.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("fit", "template", "filters", "events")

#: CPU time of one turn of a process [s].
TURN = 0.02


# --- calls, in the process of a checkout ----------------------------------------------------------


def _objective(n_lines: int) -> Callable[[str], Callable[[], object]]:
    import bench_fit

    objective = bench_fit.Objective(
        bench_fit.tutorial_like(n_lines), bench_fit.spectrum_around_26al()
    )
    theta = objective.model.values
    return lambda method: lambda: getattr(objective, method)(theta)


def _log_like() -> Callable[[], object]:
    import bench_fit

    from cosi_linebkg_plugin import LineBackgroundLike, background_model

    plugin = LineBackgroundLike("linebkg", bench_fit.spectrum_around_26al())
    plugin.set_model(background_model([e for e, *_ in bench_fit.TUTORIAL_LINES], pivot=1800))
    return plugin.get_log_like


def _direct_fit(n_lines: int) -> Callable[[], object]:
    import bench_fit

    return bench_fit.direct_fit(n_lines).ours


def _joint_likelihood() -> Callable[[], object]:
    import bench_fit

    return bench_fit.joint_likelihood_fit().ours


def _filter(n_time: int, **options: Any) -> Callable[[], object]:
    import bench_filters
    import numpy as np

    shape = (n_time, bench_filters.N_PHI, 3072)
    maps = np.random.default_rng(1809).poisson(3.0, shape).astype(float)
    chosen = bench_filters.Filter(**options)
    return lambda: bench_filters.apply_filter(maps, maps, chosen)


def _sums(n_times: int, n_events: float, components: bool, variances: bool) -> Callable[[], object]:
    import bench_template
    import numpy as np

    from cosi_linebkg_plugin import histograms

    if not hasattr(histograms, "open_events"):
        from cosi_linebkg_plugin.histograms import read as histograms
    events = histograms.open_events(bench_template.make_histogram(n_times, n_events))
    weights = bench_template.sideband_bins().astype(float)
    if components:
        weights = np.random.default_rng(1).normal(size=(2, 1)) * weights
    return lambda: events.weighted_sums(weights, variances=variances)


CALLS: dict[str, Callable[[], Callable[[], object]]] = {
    **{
        f"{what}, {n} lines": lambda n=n, method=method: _objective(n)(method)
        for what, method in (
            ("likelihood call", "value"),
            ("gradient", "gradient"),
            ("scoring", "scoring"),
        )
        for n in (6, 23)
    },
    "get_log_like, 6 lines": _log_like,
    "fit with covariance, 6 lines": lambda: _direct_fit(6),
    "fit with covariance, 23 lines": lambda: _direct_fit(23),
    "threeML JointLikelihood.fit, 6 lines": _joint_likelihood,
    "sideband sum, 1 time bin": lambda: _sums(1, 2e5, False, False),
    "sideband sum with variances, 1 time bin": lambda: _sums(1, 2e5, False, True),
    "sideband sum, 9 time bins": lambda: _sums(9, 1e6, False, False),
    "sideband sum with variances, 9 time bins": lambda: _sums(9, 1e6, False, True),
    "two components with variances, 9 time bins": lambda: _sums(9, 1e6, True, True),
    "the whole filter, no smoothing, 60 slices": lambda: _filter(1),
    "the whole filter, l_cut = 4, 60 slices": lambda: _filter(1, l_cut=4),
    "the whole filter, l_cut = 4, 540 slices": lambda: _filter(9, l_cut=4),
    "the whole filter, 20 deg, 60 slices": lambda: _filter(1, smoothing_fwhm=20.0),
    "the whole filter, rebin_phi = 10, 60 slices": lambda: _filter(1, rebin_phi=10),
}


def serve() -> None:
    """Make the calls whose names and numbers come in, a line each; tell the CPU time of one."""
    made: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        name, number = json.loads(line)
        if name not in made:
            made[name] = CALLS[name]()
            made[name]()  # compiles
        start = time.process_time()
        for _ in range(number):
            made[name]()
        print("\n" + json.dumps({"s": (time.process_time() - start) / number}), flush=True)


# --- both checkouts -------------------------------------------------------------------------------


class Checkout:
    """A process that makes the calls of a checkout."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(root), "--serve"],  # not the modules beside it
            env=environment(root), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def time(self, name: str, number: int) -> float:
        """CPU seconds of a call, the mean of a number of them."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([name, number]) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith('{"s"'):
                return float(json.loads(line)["s"])
        raise RuntimeError(f"{' '.join(self.process.args)} ended at {name!r}")


def environment(root: Path) -> dict[str, str]:
    """Of processes of a checkout: its package, helpers and benchmarks, one thread."""
    path = [root, root / "tests" / "helpers", root / "tests" / "benchmarks", root / "tests"]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
    }


def compare_calls(old: Path, names: list[str], turns: int) -> None:
    """Print a row for each call: both medians, and the median ratio of a turn."""
    checkouts = [Checkout(root) for root in (old, ROOT)]
    for name in names:
        first = max(checkout.time(name, 1) for checkout in checkouts)
        number = max(1, int(TURN / max(first, 1e-7)))
        times = [[c.time(name, number) for c in checkouts] for _ in range(turns)]
        before, now = (1e6 * statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(new / old for old, new in times)
        print(f"| {name} | {before:.4g} us | {now:.4g} us | {ratio:.2f} |", flush=True)
    for checkout in checkouts:
        checkout.process.communicate()


def rows(checkout: Path, group: str, folder: Path, quick: bool) -> dict[str, tuple[float, str]]:
    """What a checkout measures of a group: value and unit by row."""
    out = folder / "rows"
    out.unlink(missing_ok=True)
    table = checkout / "tests" / "benchmarks" / "table.py"
    command = [sys.executable, str(table), "--work", group, "--out", str(out), "--dir", str(folder)]
    subprocess.run(
        command + ["--quick"] * quick, env=environment(checkout), check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    told = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    found = [row for entry in told for row in entry.get("rows", ())]
    return {row["what"]: (row["ours"], row.get("unit", "s")) for row in found}


def compare_groups(old: Path, groups: list[str], turns: int, quick: bool) -> None:
    """Print the rows that both checkouts have: medians over the turns, and their ratio."""
    with tempfile.TemporaryDirectory() as scratch:
        for group in groups:
            seen: dict[Path, list[dict[str, tuple[float, str]]]] = {old: [], ROOT: []}
            for _ in range(turns):
                for checkout, found in seen.items():
                    found.append(rows(checkout, group, Path(scratch), quick))
            for what, (_, unit) in seen[ROOT][0].items():
                if what not in seen[old][0] or unit == "exponent":
                    continue
                before, now = (
                    statistics.median(turn[what][0] for turn in seen[checkout])
                    for checkout in (old, ROOT)
                )
                print(f"| {what} | {before:.4g} {unit} | {now:.4g} {unit} | {now / before:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout of the older build")
    parser.add_argument("--only", nargs="+", default=list(CALLS), metavar="CALL", choices=CALLS)
    parser.add_argument("--groups", nargs="*", choices=GROUPS, help="whole groups of table.py")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="small sizes of groups")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    old = options.old.resolve()
    if options.serve:
        serve()
    elif options.groups is None:
        compare_calls(old, options.only, options.turns)
    else:
        compare_groups(old, options.groups or list(GROUPS), options.turns, options.quick)


if __name__ == "__main__":
    main()
