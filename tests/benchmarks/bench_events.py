"""Time and memory of binning event lists, against cosipy and histpy.

Each function asserts equal histograms and returns rows for table.py. Event lists are simulated
into a folder once.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from event_lists import START, make_events, write_fits, write_hdf5
from timing import Row, growth, in_turns, measured_in_new_process, memory

DAY = 86400.0
#: The tutorial's energies, and energies that take in nearly every event.
LINE = {"energy_edges": np.linspace(1500, 2000, 100)}
ALL = {"energy_edges": np.geomspace(200, 5000, 100)}
AXES = {"phi_pix_size": 3, "nside": 16, "time_bins": DAY / 4, "tmin": START, "tmax": START + DAY}


def event_list(folder: Path, n: int, part: int = 0) -> Path:
    """An event list as cosipy writes it (gzip), made once."""
    path = folder / f"events_{n}_{part}.hdf5"
    if not path.exists():
        half = path.with_suffix(".making")
        write_hdf5(half, make_events(n, seed=part + 1))
        half.rename(path)
    return path


def long_list(folder: Path, n: int, block: int = 10_000_000) -> Path:
    """One uncompressed list of many events, written block by block; only the needed columns."""
    import h5py

    path = folder / f"long_{n}.hdf5"
    if not path.exists():
        names = ("Energies", "TimeTags", "Phi", "Chi galactic", "Psi galactic")
        half = path.with_suffix(".making")
        with h5py.File(half, "w") as file:
            for name in names:
                file.create_dataset(name, (n,), "f8", chunks=(min(n, 10_000),))
            for low in range(0, n, block):
                columns = make_events(min(block, n - low), seed=low // block)
                for name in names:
                    file[name][low : low + block] = columns[name]
        half.rename(path)
    return path


def assert_same(ours, theirs) -> None:
    contents = theirs.contents.asformat("coo")
    np.testing.assert_array_equal(ours.contents.coords, contents.coords)
    np.testing.assert_array_equal(ours.contents.data, contents.data)


def against_histpy(
    folder: Path, kind: str, energies: str = "line", n: int = 10_000_000, repeats: int = 3,
    aim: float | None = None,
) -> Row:  # fmt: skip
    """Against reading the same columns with h5py and Histogram.fill."""
    import astropy.units as u
    import h5py
    import histpy
    from astropy.coordinates import SkyCoord

    from cosi_linebkg_plugin.events.binning import bin_event_files
    from cosi_linebkg_plugin.events.options import BinningOptions

    path = FILES[kind](folder, n)
    options = BinningOptions(**ENERGIES[energies], **AXES)

    def theirs():
        histogram = histpy.Histogram(options.axes().histpy, sparse=True)
        with h5py.File(path) as file:
            lon, lat = (file[f"{name} galactic"][:] * u.deg for name in ("Chi", "Psi"))
            histogram.fill(
                file["TimeTags"][:] * u.s,
                file["Energies"][:] * u.keV,
                np.rad2deg(file["Phi"][:]) * u.deg,
                SkyCoord(l=lon, b=lat, frame="galactic"),
            )
        return histogram

    def ours():
        return bin_event_files(path, options).histogram

    first = ours()
    assert_same(first, theirs())
    mine, other = in_turns(ours, theirs, repeats=repeats)
    low, high = options.energy_edges[0], options.energy_edges[-1]
    what = f"binning {n:.0e} events, {low:.0f}-{high:.0f} keV, {first.contents.nnz:.1e} cells"
    return Row(f"{what}, {NAMES[kind]}", mine, "s", "h5py + histpy fill", other, aim)


def against_cosipy(
    folder: Path, kind: str, n: int = 10_000_000, repeats: int = 1, aim: float | None = None
) -> Row:
    """Against BinnedData.get_binned_data, which reads the same file; each repeat takes a minute."""
    import yaml
    from cosipy import BinnedData

    from cosi_linebkg_plugin.events.binning import bin_event_files
    from cosi_linebkg_plugin.events.options import BinningOptions

    path, options = FILES[kind](folder, n), BinningOptions(**ENERGIES["line"], **AXES)
    settings = {
        "data_file": "", "ori_file": "", "unbinned_output": "hdf5", "time_bins": DAY / 4,
        "energy_bins": options.energy_edges.tolist(), "phi_pix_size": 3, "nside": 16,
        "scheme": "ring", "tmin": START, "tmax": START + DAY,
    }  # fmt: skip
    result, times = {}, []

    def ours():
        result["ours"] = bin_event_files(path, options).histogram

    ours()
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch) / "inputs.yaml"
        inputs.write_text(yaml.safe_dump(settings), encoding="utf-8")

        def theirs():
            analysis = BinnedData(str(inputs))
            analysis.get_binned_data(str(path))
            result["theirs"] = analysis.binned_data

        for _ in range(repeats):
            # three quick ones before and after each slow one
            mine = in_turns(ours, repeats=3)
            other = in_turns(theirs, repeats=1)
            times.append((*mine, *other, *in_turns(ours, repeats=3)))
    assert_same(result["ours"], result["theirs"])
    before, other, after = np.median(times, axis=0)
    what = f"binning {n:.0e} events, 1500-2000 keV, {NAMES[kind]}"
    runs = "one run" if repeats == 1 else f"{repeats} runs"
    return Row(what, (before + after) / 2, "s", f"cosipy 0.3.4 BinnedData ({runs})", other, aim)


def peak_memory(
    folder: Path, n: int, energies: str = "line", n_bins: int = 99, nside: int = 16
) -> list[Row]:
    """Peak above the imports, the histogram's own cells included; a fresh process."""
    path = long_list(folder, n)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        out = Path(scratch) / "out.hdf5"
        low, high = ENERGIES[energies]["energy_edges"][[0, -1]]
        run = measured_in_new_process("bench_events.py", path, low, high, n_bins, nside, out)
    assert run["read"] == n
    what = f"binning {n:.0e} events, {low:.0f}-{high:.0f} keV"
    cells = 40e-6 * run["cells"]
    return [
        Row(f"{what}: peak memory above imports, {cells:.0f} MB of cells", run["peak"], "MB"),
        Row(f"{what}: seconds, first run in its process", run["s"]),
    ]


def growth_with_events(
    folder: Path,
    sizes: tuple[int, ...] = (1_000_000, 10_000_000, 100_000_000),
    repeats: int = 3,
    aim: float | None = None,
) -> Row:
    from cosi_linebkg_plugin.events.binning import bin_event_files
    from cosi_linebkg_plugin.events.options import BinningOptions

    options = BinningOptions(**ENERGIES["line"], **AXES)
    paths = [long_list(folder, size) for size in sizes]
    for path, size in zip(paths, sizes, strict=True):
        assert bin_event_files(path, options).report.read == size
    calls = [lambda path=path: bin_event_files(path, options) for path in paths]
    return growth("binning with events", sizes, in_turns(*calls, repeats=repeats), aim)


def kinds_of_files(folder: Path, n: int = 1_000_000, repeats: int = 3) -> list[Row]:
    """The same events in each kind of file."""
    from cosi_linebkg_plugin.events.binning import bin_event_files
    from cosi_linebkg_plugin.events.options import BinningOptions

    options = BinningOptions(**ENERGIES["line"], **AXES)
    columns = make_events(n)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        paths = {
            "HDF5": write_hdf5(Path(scratch) / "plain.hdf5", columns, compression=None),
            "gzip HDF5": write_hdf5(Path(scratch) / "gzip.hdf5", columns),
            "FITS": write_fits(Path(scratch) / "plain.fits", columns),
            ".fits.gz": write_fits(Path(scratch) / "gzip.fits.gz", columns),
        }
        first = bin_event_files(paths["HDF5"], options).histogram
        for path in paths.values():
            assert_same(bin_event_files(path, options).histogram, first)
        calls = [lambda path=path: bin_event_files(path, options) for path in paths.values()]
        return [
            Row(f"binning {n:.0e} events, {kind}", seconds)
            for kind, seconds in zip(paths, in_turns(*calls, repeats=repeats), strict=True)
        ]


def in_parallel(folder: Path, n: int = 3_000_000, repeats: int = 3) -> list[Row]:
    """Four files: dask's threads and a local cluster that is running, against one process."""
    from distributed import LocalCluster

    from cosi_linebkg_plugin.events.binning import bin_event_files
    from cosi_linebkg_plugin.events.options import BinningOptions

    options = BinningOptions(**ENERGIES["line"], **AXES)
    files = [event_list(folder, n, part) for part in range(4)]
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        ways = {
            "one process": {},
            "dask's threads": {"scheduler": "threads", "workers": 2},
            "a local cluster": {"scheduler": cluster.scheduler_address},
        }
        first = bin_event_files(files, options).histogram
        for how in ways.values():
            assert_same(bin_event_files(files, options, **how).histogram, first)
        calls = [lambda how=how: bin_event_files(files, options, **how) for how in ways.values()]
        one, *others = in_turns(*calls, repeats=repeats)
    return [
        Row(f"binning 4 files of {n:.0e} events, {name}, 2 workers", seconds, "s",
            "this package, one process", one)
        for name, seconds in zip(list(ways)[1:], others, strict=True)
    ]  # fmt: skip


FILES = {"gzip": event_list, "plain": long_list}
NAMES = {"gzip": "gzip HDF5 as cosipy writes it", "plain": "HDF5"}
ENERGIES = {"line": LINE, "all": ALL}


def _binned(path: str, low: str, high: str, n_bins: str, nside: str, out: str) -> dict[str, float]:
    """What `peak_memory` starts in a new process."""
    import healpy  # noqa: F401  # imports are not what is measured
    import histpy  # noqa: F401
    import scoords  # noqa: F401
    import sparse  # noqa: F401

    from cosi_linebkg_plugin.events.binning import bin_event_files
    from cosi_linebkg_plugin.events.options import BinningOptions

    edges = np.geomspace(float(low), float(high), int(n_bins) + 1)
    options = BinningOptions(energy_edges=edges, **{**AXES, "nside": int(nside)})
    options.axes()
    before = memory("VmRSS")
    start = time.perf_counter()
    binned = bin_event_files(path, options)
    seconds = time.perf_counter() - start
    cells = binned.histogram.contents.nnz
    binned.write(out)
    return {"peak": memory() - before, "s": seconds, "cells": cells, "read": binned.report.read}


if __name__ == "__main__":
    print(json.dumps(_binned(*sys.argv[1:])))
