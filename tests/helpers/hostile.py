"""Files of every kind that the package reads, and what reads them; for tests of damaged ones."""

from __future__ import annotations

import json
import resource
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import astropy.units as u
import h5py
import histpy
import numpy as np
import sparse
from astropy.table import Table
from event_lists import make_events, write_fits, write_hdf5
from templates import FIT, axes, cells, template_of

from cosi_linebkg_plugin import BackgroundTemplate, LineBackgroundFit
from cosi_linebkg_plugin.app.config import load_regions
from cosi_linebkg_plugin.errors import LineBackgroundError, LineBackgroundWarning
from cosi_linebkg_plugin.events.binning import bin_events
from cosi_linebkg_plugin.events.cosipy_yaml import is_cosipy_config, read_cosipy_config
from cosi_linebkg_plugin.events.options import BinningOptions
from cosi_linebkg_plugin.events.selections import good_times
from cosi_linebkg_plugin.histograms.orientation import read_orientation
from cosi_linebkg_plugin.histograms.read import open_events
from cosi_linebkg_plugin.histograms.write import make_histogram, write_histogram
from cosi_linebkg_plugin.template.record import Record

#: What a reader may take beyond what the process has: far less than the bombs ask for.
MEMORY = 1 << 30
#: Nothing that is tried takes a tenth of this; it ends a hang.
PATIENCE = 60  # s

EM = np.linspace(1600.0, 2000.0, 41)
BINNING = {"energy_edges": [100.0, 1000.0, 5000.0], "phi_pix_size": 30.0, "nside": 1}
CONFIG = """\
events: events.hdf5
source_range: [1805, 1812]
mask: [[1790, 1825]]
model:
  pivot: 1800
  lines: [1635, {energy: 1779, window: [1770 keV, 1.79 MeV]}]
template:
  method: components
  line_ratio: {line: 1808.65, tracer: 1778.97, value: 0.149, error: 0.015}
binning: {energy_edges: "1500:2000:5", nside: 4, phi_pix_size: 6}
regions:
  - {name: a, source_range: [1805, 1812]}
"""
COSIPY = """\
data_file: events.hdf5
ori_file: NA
unbinned_output: hdf5
time_bins: 10
energy_bins: [1500., 1600., 2000.]
phi_pix_size: 6
nside: 4
scheme: ring
tmin: 0.0
tmax: 100.0
"""


def histogram_axes() -> histpy.Axes:
    return histpy.Axes(
        [
            histpy.Axis(np.array([0.0, 10.0, 30.0]) * u.s, label="Time"),
            histpy.Axis(EM * u.keV, label="Em"),
            histpy.Axis(np.linspace(0, 180, 7) * u.deg, label="Phi"),
            histpy.HealpixAxis(nside=1, scheme="ring", coordsys="galactic", label="PsiChi"),
        ]
    )


def write_histograms(folder: Path) -> None:
    """sparse.hdf5, dense.hdf5, packed.hdf5 (dense, in chunks) and gcxs.hdf5."""
    counts = np.random.default_rng(3).poisson(0.3, (2, 40, 6, 12)).astype(float)
    stored = histpy.Histogram(histogram_axes(), sparse.COO(counts), track_overflow=False)
    write_histogram(folder / "sparse.hdf5", stored)
    write_histogram(folder / "gcxs.hdf5", stored)
    with h5py.File(folder / "gcxs.hdf5", "r+") as file:
        packed = sparse.GCXS.from_numpy(counts, compressed_axes=[0])
        del file["hist/contents"]
        file["hist"].attrs["format"] = "gcxs"
        for key in ("data", "indices", "indptr", "shape", "fill_value", "compressed_axes"):
            file[f"hist/contents/{key}"] = getattr(packed, key)
    for name in ("dense.hdf5", "packed.hdf5"):
        write_histogram(folder / name, make_histogram(histogram_axes(), counts, counts))
    with h5py.File(folder / "packed.hdf5", "r+") as file:
        del file["hist/contents"]
        file.create_dataset("hist/contents", data=counts, chunks=(1, 20, 6, 12), compression=4)


def write_files(folder: Path) -> None:
    """One whole file of each kind in `READERS`."""
    write_histograms(folder)
    some_axes = axes()
    maps = {"continuum": cells(some_axes), "lines": cells(some_axes, seed=2)}
    record = Record("components", "none", systematic_percent=0.5)
    template_of(maps, some_axes, record=record).write(folder / "template.h5")
    FIT.to_json(folder / "fit.json", source_range=(1805, 1812))
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "cosipy.yaml").write_text(COSIPY)
    events = make_events(300)
    write_hdf5(folder / "events.hdf5", events)
    write_hdf5(folder / "plain.hdf5", events, compression=None)
    write_fits(folder / "events.fits.gz", events)
    write_fits(folder / "events.fits", events)
    (folder / "times.txt").write_text("# start stop\n0 10\n20 30.5\n")
    gti = Table({"START": [0.5, 9.0], "STOP": [2.0, 19.0]}, meta={"EXTNAME": "GTI"})
    gti.write(folder / "times.fits")
    rows = "".join(f"OG {t} 0 0 {t} 10 550 0 0 0.9\n" for t in range(5))
    (folder / "flight.ori").write_text(f"Type OrientationsGalactic\n{rows}EN\n")


def _use_histogram(path: Path) -> None:
    events = open_events(path)
    assert np.isfinite(events.energy_counts()).all()
    sums, variances = events.weighted_sums(np.eye(events.energy_edges.size - 1)[:2])
    assert np.isfinite(sums).all() and np.isfinite(variances).all()
    assert events.livetime is None or events.livetime.seconds > 0


def _use_template(path: Path) -> None:
    template = BackgroundTemplate.open(path)
    assert np.isfinite(template.histogram.contents).all()
    assert repr(template) and template.notes is not None and template.counts
    _use(template.fit)
    template.write(path.with_name("again.h5"))


def _use(fit: LineBackgroundFit) -> None:
    edges = fit.spectrum.edges
    counts = fit.expected_counts((edges[0], edges[-1]))
    if fit.valid:
        assert np.isfinite(counts.values).all()
    assert str(fit)
    fit.to_json()


def _use_config(path: Path) -> None:
    for config in load_regions(path).values():
        config.to_yaml()


def _use_cosipy(path: Path) -> None:
    from cosi_linebkg_plugin.io.yaml_file import read_yaml

    if is_cosipy_config(read_yaml(path)[1]):
        BinningOptions(**read_cosipy_config(path).options)


def _use_events(path: Path) -> None:
    bin_events(path, **BINNING)


#: What opens a file and uses all that is in it.
READERS: dict[str, Callable[[Path], object]] = {
    **dict.fromkeys(("sparse.hdf5", "dense.hdf5", "packed.hdf5", "gcxs.hdf5"), _use_histogram),
    "template.h5": _use_template,
    "fit.json": lambda path: _use(LineBackgroundFit.from_json(path)),
    "config.yaml": _use_config,
    "cosipy.yaml": _use_cosipy,
    **dict.fromkeys(("events.hdf5", "plain.hdf5", "events.fits", "events.fits.gz"), _use_events),
    "times.txt": good_times,
    "times.fits": good_times,
    "flight.ori": read_orientation,
}
#: Values of options are not said to be those of a file by the class that checks them; the
#: command line adds the file.
NAMELESS = {"cosipy.yaml"}


#: How many files of each kind `refused` has been given.
tried: Counter[str] = Counter()


class Hang(BaseException):
    """What is tried did not end."""


@contextmanager
def limits() -> Iterator[None]:
    """Little memory and time; both are given back."""

    def hang(*_: object) -> None:
        raise Hang(f"no end after {PATIENCE} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(PATIENCE)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused(path: Path, reader: Callable[[Path], object] | None = None) -> str | None:
    """The message with which a file is refused, or None if it can be used.

    Whatever is wrong must be an error of ours on one line, which names the file, is short, and
    came before memory ran out; the folder holds no file more than before.
    """
    before = {p for p in path.parent.iterdir() if p.name != "again.h5"}
    tried[path.name] += 1
    try:
        with limits(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("ignore", LineBackgroundWarning)
            (reader or READERS[path.name])(path)
        return None
    except LineBackgroundError as error:
        message = str(error)
    finally:
        path.with_name("again.h5").unlink(missing_ok=True)
    assert path.name in message or path.name in NAMELESS, message
    assert "does not fit into memory" not in message, message
    assert message.isprintable() and 20 < len(message) < 1500, message
    assert message.rstrip().endswith((".", ")", "?")), message
    assert {p for p in path.parent.iterdir()} == before
    return message


# ---------------------------------------------------------------------------- values


#: What may stand in the place of any value.
STRANGE = (
    None, True, 0, -1, 1e308, -1e308, 5e-324, 10**30, 10**400, "", "1", "../../x", "/etc/passwd",
    "\x1b[31m", "\0", "x" * 5000, [], {}, [[]], [[1, 2], [3]], [None], {"a": 1}, [1e12], "nan",
    float("nan"), float("inf"),
)  # fmt: skip


def places(data: object, path: tuple = ()) -> list[tuple]:
    """The paths of all values in nested lists and mappings; of a long list the first and last."""
    found = [path] if path else []
    if isinstance(data, dict):
        for key, value in data.items():
            found += places(value, (*path, key))
    elif isinstance(data, list):
        for i in sorted({0, len(data) - 1}) if data else []:
            found += places(data[i], (*path, i))
    return found


def changed(data: object, path: tuple, value: object, how: str) -> object:
    """A copy in which the value at a path is replaced, removed, or doubled."""
    data = json.loads(json.dumps(data))
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    if how == "replace":
        inner[path[-1]] = value
    elif how == "remove":
        del inner[path[-1]]
    elif isinstance(inner, list):
        inner.append(inner[path[-1]])
    else:
        inner[f"{path[-1]}_"] = inner[path[-1]]
    return data


#: What may stand in the place of a dataset.
STRANGE_ARRAYS = (
    np.float64(1.0), np.zeros(0), np.zeros((2, 0)), np.array([np.nan, 1.0]), np.arange(5)[::-1],
    np.arange(3) * 1j, np.array([b"a", b"b"]), np.array([-1, 10**12]), np.full(12, 2**63 - 1),
    np.zeros((3, 3)), np.zeros((1,) * 20), np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
    np.array([1e300, 1.7e308]), np.array([0.0, np.inf]), np.array([True, False]), "text", "{}",
    np.array([2**64 - 1], dtype=np.uint64), h5py.Empty("f8"), np.zeros(12, "f2"),
)  # fmt: skip
#: What may stand in the place of an attribute.
STRANGE_ATTRIBUTES = (
    "", "x", "10**100000000", "\x1b[0m", b"\xff\xfe", np.nan, -1, 2**40, 1j, np.zeros((2, 2)),
    "x" * 5000, np.array(["os", "system"], dtype=object), h5py.Empty("f8"), True, "m" * 60,
)  # fmt: skip
