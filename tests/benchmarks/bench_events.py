"""Time and memory of binning event lists, against cosipy and histpy.

Run as ``python tests/benchmarks/bench_events.py NAME ... [--events 1e7] [--dir DIR]`` with
OMP_NUM_THREADS=1. Names: ``histpy`` (reading and filling with the installed histpy), ``cosipy``
(in an environment with cosipy 0.3.4), ``memory``, ``scaling``, ``kinds`` of files, ``parallel``
(needs dask). Event lists are simulated into DIR once. Comparisons assert equal histograms, run all
sides warm and in turns, and print medians.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from timing import in_turns

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from event_lists import START, make_events, write_fits, write_hdf5

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
                file.create_dataset(name, (n,), "f8", chunks=(10_000,))
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


def bench_histpy(folder: Path, n: int, repeats: int = 5) -> None:
    """Against reading the same columns with h5py and Histogram.fill."""
    import astropy.units as u
    import h5py
    import histpy
    from astropy.coordinates import SkyCoord

    from cosi_linebkg_plugin.events import BinningOptions, bin_event_files

    gzipped, plain = event_list(folder, n), long_list(folder, n)
    for label, energies, path in (
        ("gzip, 1500-2000 keV", LINE, gzipped),
        ("plain, 1500-2000 keV", LINE, plain),
        ("gzip, 200-5000 keV", ALL, gzipped),
    ):
        options = BinningOptions(**energies, **AXES)

        def theirs(options=options, path=path):
            histogram = histpy.Histogram(options.axes(), sparse=True)
            with h5py.File(path) as file:
                lon, lat = (file[f"{name} galactic"][:] * u.deg for name in ("Chi", "Psi"))
                histogram.fill(
                    file["TimeTags"][:] * u.s,
                    file["Energies"][:] * u.keV,
                    np.rad2deg(file["Phi"][:]) * u.deg,
                    SkyCoord(l=lon, b=lat, frame="galactic"),
                )
            return histogram

        def ours(options=options, path=path):
            return bin_event_files(path, options).histogram

        assert_same(ours(), theirs())
        mine, other = in_turns(ours, theirs, repeats=repeats)
        print(
            f"{label}: {n:.0e} events, {ours().contents.nnz:.2e} cells: {mine:.2f} s; "
            f"histpy {histpy.__version__} {other:.2f} s, {other / mine:.1f} times longer",
            flush=True,
        )


def bench_cosipy(folder: Path, n: int, repeats: int = 3) -> None:
    """Against BinnedData.get_binned_data, which reads the same file."""
    import yaml
    from cosipy import BinnedData

    from cosi_linebkg_plugin.events import BinningOptions, bin_event_files

    settings = {
        "data_file": "", "ori_file": "", "unbinned_output": "hdf5", "time_bins": DAY / 4,
        "energy_bins": LINE["energy_edges"].tolist(), "phi_pix_size": 3, "nside": 16,
        "scheme": "ring", "tmin": START, "tmax": START + DAY,
    }  # fmt: skip
    (folder / "inputs.yaml").write_text(yaml.safe_dump(settings))
    options = BinningOptions(**LINE, **AXES)
    result = {}
    for kind, path in (("gzip", event_list(folder, n)), ("plain", long_list(folder, n))):

        def theirs(path=path):
            analysis = BinnedData(str(folder / "inputs.yaml"))
            analysis.get_binned_data(str(path))
            result["theirs"] = analysis.binned_data

        def ours(path=path):
            result["ours"] = bin_event_files(path, options).histogram

        ours()
        mine, other = in_turns(ours, theirs, repeats=repeats)
        assert_same(result["ours"], result["theirs"])
        print(
            f"{kind}, 1500-2000 keV: {n:.0e} events: {mine:.2f} s; cosipy 0.3.4 {other:.1f} s, "
            f"{other / mine:.0f} times longer",
            flush=True,
        )


MEMORY = """
import json, sys, time
import h5py, healpy, histpy, numpy, scoords, sparse
from cosi_linebkg_plugin.events import BinningOptions, bin_event_files
path, low, high, n_bins, nside, out = json.loads(sys.argv[1])
options = BinningOptions(
    energy_edges=numpy.geomspace(low, high, n_bins + 1), phi_pix_size=3, nside=nside,
    time_bins=21600, tmin=1835478000.0, tmax=1835478000.0 + 86400,
)
options.axes()
def memory(what):  # ru_maxrss would begin with that of the parent
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith(what))
def peak():
    return memory("VmHWM")
before = memory("VmRSS")
start = time.perf_counter()
binned = bin_event_files(path, options)
seconds = time.perf_counter() - start
after = peak()
if out:
    binned.write(out)
cells = binned.histogram.contents.nnz
print(json.dumps([before, after, peak(), cells, seconds, binned.report.read]))
"""


def measured(path: Path, low: float, high: float, n_bins: int, nside: int, out: str = "") -> list:
    """Peaks of memory [bytes] after the imports, binning, writing; cells, seconds, events."""
    arguments = json.dumps([str(path), low, high, n_bins, nside, out])
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, arguments], capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


def bench_memory(folder: Path, n: int) -> None:
    """Peak memory above the imports, less 40 bytes for each filled cell."""
    for factor in (1, 10):
        path = long_list(folder, factor * n)
        for low, high, n_bins, nside in (
            (1500, 2000, 99, 16),
            (200, 5000, 99, 16),
            (200, 5000, 10, 4),
        ):
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                out = str(Path(scratch) / "out.hdf5")
                before, after, written, cells, seconds, read = measured(
                    path, low, high, n_bins, nside, out
                )
            above = (after - before - 40 * cells) / 1e6
            print(
                f"{read:.0e} events, {low}-{high} keV in {n_bins} bins, nside {nside}: "
                f"{cells:.2e} cells, {above:.0f} MB above imports and 40 bytes a cell "
                f"(written: {(written - before - 40 * cells) / 1e6:.0f} MB); "
                f"{1e9 * seconds / read:.0f} ns an event",
                flush=True,
            )


def bench_scaling(folder: Path, n: int) -> None:
    """Cost per event from n/10 to 10 n."""
    from cosi_linebkg_plugin.events import BinningOptions, bin_event_files

    options = BinningOptions(**LINE, **AXES)
    bin_event_files(event_list(folder, 10_000), options)
    for size in (n // 10, n, 10 * n):
        path = long_list(folder, size)
        seconds = in_turns(lambda path=path: bin_event_files(path, options), repeats=3)[0]
        print(f"{size:.0e} events: {1e9 * seconds / size:.0f} ns an event", flush=True)


def bench_kinds(folder: Path, n: int) -> None:
    """Cost per event of each kind of file, a tenth of the events."""
    from cosi_linebkg_plugin.events import BinningOptions, bin_event_files

    options = BinningOptions(**LINE, **AXES)
    columns = make_events(n // 10)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        paths = [
            write_hdf5(Path(scratch) / "plain.hdf5", columns, compression=None),
            write_hdf5(Path(scratch) / "gzip.hdf5", columns),
            write_fits(Path(scratch) / "plain.fits", columns),
            write_fits(Path(scratch) / "gzip.fits.gz", columns),
        ]
        bin_event_files(paths, options)
        calls = [lambda path=path: bin_event_files(path, options) for path in paths]
        for path, seconds in zip(paths, in_turns(*calls, repeats=5), strict=True):
            print(f"{path.name}: {1e9 * seconds / (n // 10):.0f} ns an event", flush=True)


def bench_parallel(folder: Path, n: int, repeats: int = 3) -> None:
    """Four files: one process, dask's threads and processes, a local cluster."""
    from distributed import LocalCluster

    from cosi_linebkg_plugin.events import BinningOptions, bin_event_files

    options = BinningOptions(**LINE, **AXES)
    files = [event_list(folder, n, part) for part in range(4)]
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        ways = {
            "one process": {},
            "threads": {"scheduler": "threads", "workers": 2},
            "processes": {"scheduler": "processes", "workers": 2},
            "a local cluster": {"scheduler": cluster.scheduler_address},
        }
        first = bin_event_files(files, options)
        for how in ways.values():
            assert_same(bin_event_files(files, options, **how).histogram, first.histogram)
        calls = [lambda how=how: bin_event_files(files, options, **how) for how in ways.values()]
        for name, seconds in zip(ways, in_turns(*calls, repeats=repeats), strict=True):
            print(f"4 files of {n:.0e} events, {name}: {seconds:.2f} s", flush=True)


BENCHMARKS = {
    "histpy": bench_histpy,
    "cosipy": bench_cosipy,
    "memory": bench_memory,
    "scaling": bench_scaling,
    "kinds": bench_kinds,
    "parallel": bench_parallel,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(BENCHMARKS))
    parser.add_argument("--events", type=float, default=1e7)
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    for name in options.names:
        BENCHMARKS[name](options.dir, int(options.events))


if __name__ == "__main__":
    main()
