"""Time and memory of the spectrum and the sideband template, against cosipy and histpy.

Run as ``python tests/benchmarks/bench_template.py`` in an environment with cosipy 0.3.4, or in
one with histpy alone, where the comparison with cosipy's class is left out. Set
OMP_NUM_THREADS=1. Each comparison asserts equal results, runs both sides warm and in turns, and
prints medians.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from timing import in_turns

#: The tutorial's energies and sidebands, keV.
EDGES = np.linspace(1500, 2000, 100)
SOURCE = (1805, 1812)
SIDEBANDS = [(1680, 1710), (1735, 1750), (1820, 1875), (1940, 1990)]


def sideband_bins() -> np.ndarray:
    """True for the whole bins in the sidebands, shape (99,)."""
    low, high = EDGES[:-1], EDGES[1:]
    return np.logical_or.reduce([(a <= low) & (high <= b) for a, b in SIDEBANDS])


def make_histogram(n_times: int, n_filled: float, nside: int = 16):
    """A sparse histogram (Time, Em, Phi, PsiChi) with about n_filled cells in random places."""
    import astropy.units as u
    import histpy
    import sparse

    axes = [
        histpy.Axis(np.arange(n_times + 1) * 86400.0 * u.s, label="Time"),
        histpy.Axis(EDGES * u.keV, label="Em"),
        histpy.Axis(np.linspace(0, 180, 61) * u.deg, label="Phi"),
        histpy.HealpixAxis(nside=nside, coordsys="galactic", label="PsiChi"),
    ]
    shape = tuple(axis.nbins for axis in axes)
    rng = np.random.default_rng(1809)
    cells = np.unique(rng.integers(0, np.prod(shape), int(n_filled)))
    counts = 1.0 + rng.poisson(1.0, cells.size)
    coords = np.array(np.unravel_index(cells, shape))
    contents = sparse.COO(coords, counts, shape, has_duplicates=False, sorted=True)
    return histpy.Histogram(axes, contents, track_overflow=False)


def summed_slices(histogram) -> np.ndarray:
    """cosipy's loop over the slices of a histogram with many time bins.

    generate_bkg_model_histogram itself crashes there: it adds these slices, which have a time
    axis, to the contents of a histogram whose energy axis has one bin.
    """
    total = 0.0
    for i in np.flatnonzero(sideband_bins()):
        total = total + histogram[:, i].todense()
    return total


def bench_one_time_bin(repeats: int = 31) -> dict[str, float]:
    """Against cosipy 0.3.4's own method, 2e6 filled cells."""
    import astropy.units as u
    from cosipy.background_estimation import LineBackgroundEstimation

    from cosi_linebkg_plugin.histograms import open_events

    histogram = make_histogram(1, 2e6)
    cosipy = LineBackgroundEstimation(histogram)
    cosipy.set_bkg_energy_spectrum_model(lambda energy, level: level + 0 * energy, [5.0])
    ranges = [sideband * u.keV for sideband in SIDEBANDS]
    events = open_events(histogram)
    bins = sideband_bins()
    weights = bins * (SOURCE[1] - SOURCE[0]) / np.diff(EDGES)[bins].sum()

    def theirs():
        return cosipy.generate_bkg_model_histogram(SOURCE * u.keV, ranges)

    def ours(variances: bool = False):
        return events.weighted_sums(weights, variances=variances)

    np.testing.assert_allclose(ours()[0][0], theirs().contents[:, 0], rtol=1e-9)
    np.testing.assert_allclose(events.energy_counts(), cosipy.energy_spectrum.contents)
    return _compared(*in_turns(theirs, ours, lambda: ours(True), repeats=repeats))


def bench_many_time_bins(repeats: int = 7) -> dict[str, float]:
    """Against cosipy's loop written out, 90 time bins, 2e7 filled cells."""
    from cosi_linebkg_plugin.histograms import open_events

    histogram = make_histogram(90, 2e7)
    events = open_events(histogram)
    weights = sideband_bins().astype(float)
    np.testing.assert_allclose(
        events.weighted_sums(weights)[0][0], summed_slices(histogram), rtol=1e-12
    )
    return _compared(
        *in_turns(
            lambda: summed_slices(histogram),
            lambda: events.weighted_sums(weights, variances=False),
            lambda: events.weighted_sums(weights),
            repeats=repeats,
        )
    )


def bench_components(repeats: int = 5) -> dict[str, float]:
    """Two components with variances in one pass: the cost per filled cell in ns.

    With 1 time bin the maps (6 MB) stay in the cache; with 9 and 90 they take 53 and 531 MB.
    """
    from cosi_linebkg_plugin.histograms import open_events

    weights = np.random.default_rng(1).normal(size=(2, EDGES.size - 1))
    weights[:, ~((EDGES[:-1] > 1728) & (EDGES[1:] < 1890))] = 0.0  # the default window
    out = {}
    sizes = (("2e6_1_time", 1, 2e6), ("2e6_9_times", 9, 2e6), ("2e7_90_times", 90, 2e7))
    for name, n_times, n_filled in sizes:
        histogram = make_histogram(n_times, n_filled)
        events = open_events(histogram)
        both, _ = events.weighted_sums(weights)
        for row, one in zip(weights, both, strict=True):
            np.testing.assert_allclose(events.weighted_sums(row)[0][0], one, rtol=1e-12)
        seconds = in_turns(lambda e=events: e.weighted_sums(weights), repeats=repeats)[0]
        out[f"{name}_ms"] = 1e3 * seconds
        out[f"{name}_ns_per_filled_cell"] = 1e9 * seconds / histogram.contents.nnz
    return out


def _compared(theirs: float, ours: float, with_variances: float) -> dict[str, float]:
    return {
        "theirs_ms": 1e3 * theirs,
        "ours_ms": 1e3 * ours,
        "ours_with_variances_ms": 1e3 * with_variances,
        "ratio": theirs / ours,
        "ratio_with_variances": theirs / with_variances,
    }


def bench_from_file(repeats: int = 5) -> dict[str, float]:
    """From an HDF5 file with 1.9e7 filled cells to spectrum and template, in fresh processes."""
    runs: dict[str, list[dict]] = {"histpy": [], "ours": [], "ours_with_variances": []}
    with tempfile.TemporaryDirectory() as folder:
        # A new process starts with the peak of the one that starts it: this one stays small.
        _in_new_process("make", folder)
        for _ in range(repeats):
            for how in runs:
                runs[how].append(json.loads(_in_new_process(how, folder).splitlines()[-1]))
        results = [np.load(f"{folder}/{how}.npz") for how in runs]
        for result in results[1:]:
            for name in ("counts", "template"):
                np.testing.assert_allclose(result[name], results[0][name], rtol=1e-12)
    median = {
        f"{how}_{what}": float(np.median([run[what] for run in of_how]))
        for how, of_how in runs.items()
        for what in ("s", "MB")
    }
    for how in ("ours", "ours_with_variances"):
        for what in ("s", "MB"):
            median[f"ratio_{how}_{what}"] = median[f"histpy_{what}"] / median[f"{how}_{what}"]
    return median


def _in_new_process(task: str, folder: str) -> str:
    command = [sys.executable, __file__, task, folder]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _make_files(folder: str) -> None:
    make_histogram(90, 1.93e7).write(f"{folder}/events.hdf5")
    make_histogram(2, 1e3, nside=1).write(f"{folder}/small.hdf5")


def _from_file(how: str, folder: str) -> None:
    """One run, after a warm-up on a small file that compiles what has to be compiled."""
    from histpy import Histogram

    from cosi_linebkg_plugin.histograms import open_events

    def run(path: str) -> tuple[np.ndarray, np.ndarray]:
        if how == "histpy":
            histogram = Histogram.open(path)
            return histogram.project("Em").contents.todense(), summed_slices(histogram)
        events = open_events(path)
        counts = events.energy_counts()
        sums, _ = events.weighted_sums(sideband_bins(), variances=how != "ours")
        return counts, sums[0]

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    run(f"{folder}/small.hdf5")
    baseline = peak()
    start = time.perf_counter()
    counts, template = run(f"{folder}/events.hdf5")
    seconds = time.perf_counter() - start
    measured = {"s": seconds, "MB": peak() - baseline}
    if not Path(f"{folder}/{how}.npz").exists():
        np.savez(f"{folder}/{how}.npz", counts=counts, template=template)
    print(json.dumps(measured))


def main() -> None:
    if len(sys.argv) == 3:  # what _in_new_process asks for
        task, folder = sys.argv[1:]
        _make_files(folder) if task == "make" else _from_file(task, folder)
        return
    benches = [
        bench_from_file,
        bench_many_time_bins,
        bench_components,
    ]  # the first one before memory grows
    if importlib.util.find_spec("cosipy"):
        benches.append(bench_one_time_bin)
    else:
        print("cosipy is not installed: the comparison with its class is left out")
    for bench in benches:
        print(bench.__name__)
        for name, value in bench().items():
            print(f"  {name:28s} {value:10.4g}")


if __name__ == "__main__":
    main()
