"""Time and memory of spectrum and template from event histograms, against cosipy and histpy.

Each function asserts equal results and returns rows for table.py.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from timing import Comparison, Row, growth, in_turns, measured_in_new_process, memory

#: The tutorial's energies and sidebands, keV.
EDGES = np.linspace(1500, 2000, 100)
SOURCE = (1805, 1812)
SIDEBANDS = [(1680, 1710), (1735, 1750), (1820, 1875), (1940, 1990)]


def sideband_bins() -> np.ndarray:
    """True for the whole bins in the sidebands, shape (99,)."""
    low, high = EDGES[:-1], EDGES[1:]
    return np.logical_or.reduce([(a <= low) & (high <= b) for a, b in SIDEBANDS])


def make_histogram(n_times: int, n_events: float, nside: int = 16):
    """A sparse histogram (Time, Em, Phi, PsiChi): a power law and a line, elsewhere uniform."""
    import astropy.units as u
    import histpy
    import sparse

    from cosi_linebkg_plugin.spectrum.lineshapes import gaussian_counts, powerlaw_counts

    axes = [
        histpy.Axis(np.arange(n_times + 1) * 86400.0 * u.s, label="Time"),
        histpy.Axis(EDGES * u.keV, label="Em"),
        histpy.Axis(np.linspace(0, 180, 61) * u.deg, label="Phi"),
        histpy.HealpixAxis(nside=nside, coordsys="galactic", label="PsiChi"),
    ]
    shape = tuple(axis.nbins for axis in axes)
    spectrum = powerlaw_counts(EDGES, 1.0, 1800.0, -2.0)[0]
    spectrum += gaussian_counts(EDGES, np.array([20.0]), np.array([1778.97]), 3.0)[0]
    rng = np.random.default_rng(1809)
    time_and_energy = np.outer(np.full(n_times, 1 / n_times), spectrum / spectrum.sum()).ravel()
    rows = rng.multinomial(int(n_events), time_and_energy)
    pixels = shape[2] * shape[3]
    cells = np.repeat(np.arange(rows.size) * pixels, rows)
    cells += rng.integers(0, pixels, cells.size)
    cells, counts = np.unique(cells, return_counts=True)
    coords = np.array(np.unravel_index(cells, shape))
    contents = sparse.COO(coords, counts.astype(float), shape, has_duplicates=False, sorted=True)
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


def one_time_bin(n_events: float = 2e6, repeats: int = 31, aim: float | None = None) -> Row:
    """Against cosipy 0.3.4's own method."""
    import astropy.units as u
    from cosipy.background_estimation import LineBackgroundEstimation

    from cosi_linebkg_plugin.histograms.read import open_events

    histogram = make_histogram(1, n_events)
    cosipy = LineBackgroundEstimation(histogram)
    cosipy.set_bkg_energy_spectrum_model(lambda energy, level: level + 0 * energy, [5.0])
    ranges = [sideband * u.keV for sideband in SIDEBANDS]
    events = open_events(histogram)
    bins = sideband_bins()
    weights = bins * (SOURCE[1] - SOURCE[0]) / np.diff(EDGES)[bins].sum()

    def theirs():
        return cosipy.generate_bkg_model_histogram(SOURCE * u.keV, ranges)

    def ours():
        return events.weighted_sums(weights, variances=False)

    np.testing.assert_allclose(ours()[0][0], theirs().contents[:, 0], rtol=1e-9)
    np.testing.assert_allclose(events.energy_counts(), cosipy.energy_spectrum.contents)
    what = f"sideband sum, 1 time bin, {n_events:.0e} events"
    return Comparison(what, "cosipy 0.3.4's method", ours, theirs, aim, repeats).row()


def many_time_bins(
    n_times: int = 90, n_events: float = 2e7, repeats: int = 5, aim: float | None = None
) -> list[Row]:
    """Against cosipy's loop written out, and the same with variances."""
    from cosi_linebkg_plugin.histograms.read import open_events

    histogram = make_histogram(n_times, n_events)
    events = open_events(histogram)
    weights = sideband_bins().astype(float)
    sums, _ = events.weighted_sums(weights)
    np.testing.assert_allclose(sums[0], summed_slices(histogram), rtol=1e-12)
    ours, with_variances, theirs = in_turns(
        lambda: events.weighted_sums(weights, variances=False),
        lambda: events.weighted_sums(weights),
        lambda: summed_slices(histogram),
        repeats=repeats,
    )
    what = f"sideband sum, {n_times} time bins, {n_events:.0e} events"
    peer = "cosipy's loop over slices"
    return [
        Row(what, ours, "s", peer, theirs, aim),
        Row(f"{what}, with variances", with_variances, "s", f"{peer}, without", theirs),
    ]


def components(n_times: int, n_events: float, repeats: int = 5) -> Row:
    """Two components with variances in one pass."""
    from cosi_linebkg_plugin.histograms.read import open_events

    weights = np.random.default_rng(1).normal(size=(2, EDGES.size - 1))
    weights[:, ~((EDGES[:-1] > 1728) & (EDGES[1:] < 1890))] = 0.0  # the default window
    events = open_events(make_histogram(n_times, n_events))
    both, _ = events.weighted_sums(weights)
    for row, one in zip(weights, both, strict=True):
        np.testing.assert_allclose(events.weighted_sums(row)[0][0], one, rtol=1e-12, atol=1e-12)
    (ours,) = in_turns(lambda: events.weighted_sums(weights), repeats=repeats)
    times = f"{n_times} time bin" + "s" * (n_times > 1)
    return Row(f"two components with variances, {times}, {n_events:.0e} events", ours)


def energy_bins(
    n_bins: int = 25, n_events: float = 2e6, repeats: int = 9, aim: float | None = None
) -> list[Row]:
    """A template of several energy bins beside one of one bin: CPU time, peak of numpy's memory."""
    import tracemalloc
    import warnings

    from cosi_linebkg_plugin import LineBackgroundLike, background_model

    low, high = 1796, 1796 + n_bins
    plugin = LineBackgroundLike("linebkg", make_histogram(1, n_events))
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model([1778.97], pivot=1800))
    ratio = {"line": 1808.65, "tracer": 1778.97, "value": 0.149, "error": 0.015}

    def made(edges=None):
        with warnings.catch_warnings(action="ignore"):
            return plugin.background_template(
                fit, (low, high), line_ratio=ratio, energy_edges=edges
            )

    edges = f"{low}:{high}:1"
    one, many = made(), made(edges)
    np.testing.assert_allclose(many.energy_counts()[0].sum(), one.energy_counts()[0][0], rtol=1e-9)
    size = 16.0 * many.expected().size * len(many.labels)
    seconds, peaks = [], []
    for _ in range(repeats):
        for each in (None, edges):
            start = time.process_time()
            made(each)
            seconds.append(time.process_time() - start)
    for each in (None, edges):
        tracemalloc.start()
        made(each)
        peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    alone, ours = np.median(np.reshape(seconds, (repeats, 2)), axis=0)
    what = f"template of {n_bins} energy bins, 1 time bin, {n_events:.0e} events"
    return [
        Row(f"{what}, CPU time", float(ours), "s", "one energy bin", float(alone), aim),
        Row(f"{what}: peak memory, maps of {size / 1e6:.0f} MB", peaks[1], "MB"),
    ]


def growth_with_events(
    sizes: tuple[float, ...] = (2e5, 2e6, 2e7),
    n_times: int = 9,
    repeats: int = 5,
    aim: float | None = None,
) -> Row:
    """The sideband sum, the shape of the template fixed; sizes are filled cells."""
    from cosi_linebkg_plugin.histograms.read import open_events

    histograms = [make_histogram(n_times, size) for size in sizes]
    weights, calls = sideband_bins().astype(float), []
    for histogram in histograms:
        events = open_events(histogram)
        calls.append(lambda events=events: events.weighted_sums(weights, variances=False))
    filled = [histogram.contents.nnz for histogram in histograms]
    return growth("sideband sum with filled cells", filled, in_turns(*calls, repeats=repeats), aim)


def from_file(
    folder: Path,
    n_events: float = 2e7,
    n_times: int = 90,
    repeats: int = 3,
    aims: tuple[float | None, float | None] = (None, None),
) -> list[Row]:
    """From an HDF5 file to spectrum and sideband sum, in fresh processes: time, peak of memory."""
    path = binned_file(folder, n_times, n_events)
    small = binned_file(folder, 2, 1e3, nside=1)
    runs: dict[str, list[dict]] = {"histpy": [], "ours": []}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(repeats):
            for how, of_how in runs.items():
                out = Path(scratch) / f"{how}.npz"
                of_how.append(measured_in_new_process("bench_template.py", how, path, small, out))
        results = [np.load(Path(scratch) / f"{how}.npz") for how in runs]
        for name in ("counts", "template"):
            np.testing.assert_allclose(results[0][name], results[1][name], rtol=1e-12)
    what = f"file of {n_events:.0e} events, {n_times} time bins, to spectrum and sideband sum"
    rows = []
    for unit, aim in zip(("s", "MB"), aims, strict=True):
        ours, theirs = (
            float(np.median([run[unit] for run in runs[h]])) for h in ("ours", "histpy")
        )
        name = what if unit == "s" else f"{what}: peak memory above imports"
        rows.append(Row(name, ours, unit, "opened with histpy, cosipy's loop", theirs, aim))
    return rows


def template_run(
    folder: Path, n_events: float = 2e7, n_times: int = 90, repeats: int = 3
) -> list[Row]:
    """File to written template: spectrum, fit, components, errors; in fresh processes."""
    path = binned_file(folder, n_times, n_events)
    small = binned_file(folder, 2, 1e5, nside=1)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "template.h5"
        runs = [
            measured_in_new_process("bench_template.py", "run", path, small, out)
            for _ in range(repeats)
        ]
    what = f"fit and components template of {n_events:.0e} events in a file, {n_times} time bins"
    seconds, peak, whole = (float(np.median([r[k] for r in runs])) for k in ("s", "MB", "whole"))
    return [
        Row(f"{what}, written", seconds),
        Row(f"{what}: peak memory above imports", peak, "MB"),
        Row(f"{what}: peak memory of the process", whole, "MB"),
    ]


def binned_file(folder: Path, n_times: int, n_events: float, nside: int = 16) -> Path:
    """The histogram in a file, made once, in a process of its own because of its memory."""
    path = folder / f"binned_{n_times}_{n_events:.0f}_{nside}.hdf5"
    if not path.exists():
        half = path.with_suffix(".making.hdf5")
        measured_in_new_process("bench_template.py", "make", half, n_times, n_events, nside)
        half.rename(path)
    return path


def _task(task: str, *arguments: str) -> dict[str, float]:
    """What the functions above start in new processes."""
    if task == "make":
        path, n_times, n_events, nside = arguments
        Path(path).unlink(missing_ok=True)
        make_histogram(int(n_times), float(n_events), int(nside)).write(path)
        return {}
    path, small, out = arguments
    run = _run if task == "run" else _sums
    run(task, small, out)  # compiles what has to be compiled
    before = memory("VmRSS")
    start = time.perf_counter()
    result = run(task, path, out)
    seconds = time.perf_counter() - start
    measured = {"s": seconds, "MB": memory() - before, "whole": memory()}
    if task == "run":
        fit, template = result
        expected = fit.expected_counts(SOURCE)
        counts = dict(zip(expected.labels, expected.values, strict=True))["continuum"]
        np.testing.assert_allclose(template.counts["continuum"], counts, rtol=1e-9)
    else:
        np.savez(out, counts=result[0], template=result[1])
    return measured


def _sums(how: str, path: str, out: str) -> tuple[np.ndarray, np.ndarray]:
    from histpy import Histogram

    from cosi_linebkg_plugin.histograms.read import open_events

    if how == "histpy":
        histogram = Histogram.open(path)
        return histogram.project("Em").contents.todense(), summed_slices(histogram)
    events = open_events(path)
    return events.energy_counts(), events.weighted_sums(sideband_bins(), variances=False)[0][0]


def _run(_: str, path: str, out: str):
    import astropy.units as u

    from cosi_linebkg_plugin import LineBackgroundLike, background_model

    plugin = LineBackgroundLike("linebkg", path)
    plugin.set_mask((1790, 1825) * u.keV)
    model = background_model([1778.97], pivot=1800)
    plugin.guess(model)
    fit = plugin.fit(model)
    ratio = {"line": 1808.65, "tracer": 1778.97, "value": 0.149, "error": 0.015}
    template = plugin.background_template(fit, SOURCE * u.keV, line_ratio=ratio)
    template.write(out)
    return fit, template


if __name__ == "__main__":
    print(json.dumps(_task(*sys.argv[1:])))
