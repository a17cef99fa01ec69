"""What it costs that files are on the disk before they take their place, and take it together.

    python tests/benchmarks/bench_files.py [FOLDER]

writes the results of the demo's size to FOLDER (default: here) with `os.fsync` and without.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from cosi_linebkg_plugin.io.atomic import together, whole_file

#: bytes: what the demo writes.
SIZES = (3_000_000, 3_000_000, 3_000_000, 6_000_000, 66_000, 520_000, *[80_000] * 5)


def seconds(folder: Path) -> float:
    data = [os.urandom(size) for size in SIZES]
    began = time.perf_counter()
    with together(folder):
        for i, some in enumerate(data):
            with whole_file(folder / f"{i}.bin") as temporary:
                temporary.write_bytes(some)
    return time.perf_counter() - began


def main() -> None:
    fsync = os.fsync
    times: dict[str, list[float]] = {"with": [], "without": []}
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else ".") as folder:
        for _ in range(15):  # in turns
            for name in times:
                os.fsync = fsync if name == "with" else lambda descriptor: None
                times[name].append(seconds(Path(folder)))
    for name, values in times.items():
        print(
            f"{name} fsync: {1e3 * statistics.median(values):.0f} ms, {max(values):.2f} s at most"
        )


if __name__ == "__main__":
    main()
