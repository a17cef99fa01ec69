"""Warm rows of an older checkout beside this one: is anything slower than it was?

    python tests/benchmarks/bench_builds.py OLD [--only GROUP ...] [--turns 3] [--quick]

Each checkout runs the groups of its own ``table.py`` in a new process, the two in turns; of rows
that both have, the medians over the turns are printed, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("fit", "template", "filters", "events")


def rows(checkout: Path, group: str, folder: Path, quick: bool) -> dict[str, tuple[float, str]]:
    """What a checkout measures of a group: value and unit by row."""
    out = folder / "rows"
    out.unlink(missing_ok=True)
    path = [checkout, checkout / "tests" / "helpers", checkout / "tests"]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
    }
    table = checkout / "tests" / "benchmarks" / "table.py"
    command = [sys.executable, str(table), "--work", group, "--out", str(out), "--dir", str(folder)]
    subprocess.run(command + ["--quick"] * quick, env=env, check=True, stdout=subprocess.DEVNULL)
    told = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    found = [row for entry in told for row in entry.get("rows", ())]
    return {row["what"]: (row["ours"], row.get("unit", "s")) for row in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout of the older build")
    parser.add_argument("--only", nargs="+", default=GROUPS, metavar="GROUP")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for group in options.only:
            turns: dict[Path, list[dict[str, tuple[float, str]]]] = {options.old: [], ROOT: []}
            for _ in range(options.turns):
                for checkout, seen in turns.items():
                    seen.append(rows(checkout.resolve(), group, Path(scratch), options.quick))
            for what, (_, unit) in turns[ROOT][0].items():
                if what not in turns[options.old][0] or unit == "exponent":
                    continue
                old, new = (
                    statistics.median(seen[what][0] for seen in turns[checkout])
                    for checkout in (options.old, ROOT)
                )
                print(f"| {what} | {old:.4g} {unit} | {new:.4g} {unit} | {new / old:.2f} |")


if __name__ == "__main__":
    main()
