"""Time of the line search.

Run as ``python tests/benchmarks/bench_lines.py`` with OMP_NUM_THREADS=1; prints the median CPU time
of five warm runs each. The DC3 spectrum (folder COSI_LINEBKG_DATA) is left out where it is missing.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from spectra import dc3_spectrum

from cosi_linebkg_plugin import find_lines
from cosi_linebkg_plugin.lineshapes import gaussian_counts, powerlaw_counts
from cosi_linebkg_plugin.spectrum import EnergySpectrum


def wide() -> EnergySpectrum:
    """300-2500 keV in 1100 bins, 60 lines from 500 to 30,000 counts."""
    rng, edges = np.random.default_rng(3), np.arange(300.0, 2501.0, 2.0)
    energies = np.arange(330.0, 2480.0, 36.0) + rng.uniform(-6, 6, 60)
    lines = gaussian_counts(edges, 10 ** rng.uniform(2.7, 4.5, 60), energies, 2.5)[0]
    mean = powerlaw_counts(edges, 3000.0, 1750.0, -1.8)[0] + lines
    return EnergySpectrum(edges, rng.poisson(mean).astype(float))


def main() -> None:
    edges = np.linspace(1500.0, 2000.0, 100)
    mean = powerlaw_counts(edges, 3376.0, 1750.0, -1.807)[0]
    empty = EnergySpectrum(edges, np.random.default_rng(1).poisson(mean).astype(float))
    cases = {"no lines, 99 bins": (empty, False), "60 lines, 1100 bins": (wide(), False)}
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("COSI_LINEBKG_DATA", beside))
    if folder.is_dir():
        cases["DC3, 99 bins, tail"] = (dc3_spectrum(folder), True)
    for name, (spectrum, tail) in cases.items():
        times = []
        for _ in range(6):
            start = time.process_time()
            found = find_lines(spectrum, tail=tail)
            times.append(time.process_time() - start)
        print(f"{name}: {np.median(times[1:]):.3g} s of CPU, {len(found.lines)} lines found")


if __name__ == "__main__":
    main()
