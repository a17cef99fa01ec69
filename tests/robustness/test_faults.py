"""Full disks, lost folders, kills, signals, two runs at once: what is left is whole, and known.

Faults are real where that is possible: limits of the system, file systems of some kilobytes,
signals, and forked processes that kill themselves at a chosen step of writing.
"""

import errno
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import h5py
import matplotlib
import numpy as np
import pytest
import yaml
from event_lists import make_events, write_hdf5
from progress import Told
from spectra import line_model, simulated_spectrum

from cosi_linebkg_plugin import BackgroundTemplate, LineBackgroundFit
from cosi_linebkg_plugin.app import pipeline
from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.app.demo import simulated_events
from cosi_linebkg_plugin.app.simulation import simulate
from cosi_linebkg_plugin.errors import FileError, FitInterrupted
from cosi_linebkg_plugin.events.binning import bin_event_files
from cosi_linebkg_plugin.events.options import BinningOptions
from cosi_linebkg_plugin.fit import posterior
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.toys import with_toys
from cosi_linebkg_plugin.histograms.read import EventHistogram, open_events
from cosi_linebkg_plugin.histograms.write import write_histogram
from cosi_linebkg_plugin.io import atomic as files
from cosi_linebkg_plugin.show.figure import save_figure
from cosi_linebkg_plugin.show.report import write_regions_report, write_report

CONFIG = {
    "events": "events.hdf5",
    "source_range": [1805, 1812],
    "mask": [[1500, 1700], [1790, 1825], [1880, 2000]],
    "model": {"pivot": 1800, "lines": [1723, 1757.5, 1764, 1779]},
    "template": {"method": "interpolated"},
}
SIDEBAND = {"method": "sideband", "sidebands": [[1830, 1880]]}
HIDDEN = ".cosi-linebkg-partial-"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Events, configurations, a fit, and results of an older run (with other sidebands)."""
    work = tmp_path_factory.mktemp("faults")
    write_histogram(work / "events.hdf5", simulated_events(simulate(1, nside=1)))
    regions = [{"name": name, "source_range": [1805, 1812]} for name in ("a", "b")]
    for name, changes in (
        ("new", {}),
        ("old", {"template": SIDEBAND}),
        ("sampled", {"engine": "bayesian"}),
        ("auto", {"template": {"method": "sideband", "sidebands": [[1830, 1880]],
                               "smoothing": "auto"}}),
        ("regions", {"source_range": None, "regions": regions}),
    ):  # fmt: skip
        config = {k: v for k, v in (CONFIG | changes).items() if v is not None}
        (work / f"{name}.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", str(work / "old.yaml"), "--out", str(work / "old"), "--quiet"]) == 0
    shutil.copy(work / "old" / "fit.json", work / "fit.json")
    observed = BackgroundTemplate.open(work / "old" / "template.h5").histogram
    write_histogram(work / "observed.hdf5", observed)
    write_hdf5(work / "list.hdf5", make_events(2000, duration=1000.0))
    return work


COMMANDS = {
    "template": lambda work: ["template", str(work / "new.yaml"), "--fit", str(work / "fit.json")],
    "fit": lambda work: ["fit", str(work / "new.yaml")],
    "run": lambda work: ["run", str(work / "new.yaml")],
    "regions": lambda work: ["run", str(work / "regions.yaml")],
    "compare": lambda work: [
        "compare", str(work / "old" / "template.h5"), str(work / "observed.hdf5"), "--nside", "1",
    ],
}  # fmt: skip


SLOW_COMPARE = pytest.param("compare", marks=pytest.mark.slow)
BINNING = ["--energy-edges", "1500:2000:5", "--phi-pix-size", "30", "--nside", "1"]


def run(name, work, out):
    return main([*COMMANDS[name](work), "--out", str(out), "--quiet"])


@pytest.fixture
def out(work, tmp_path):
    """A folder with the results of the older run."""
    shutil.copytree(work / "old", tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def signals_are_heard():
    """A job in the background is started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def contents(folder):
    return {str(p.relative_to(folder)): content(p) for p in folder.rglob("*") if p.is_file()}


def content(path):
    """The bytes; of an HDF5 file all that it holds, since histpy 1 writes the time into it."""
    try:
        file = h5py.File(path)
    except OSError:
        return path.read_bytes()
    items = []

    def add(name, item):
        items.append((name, sorted((k, repr(v)) for k, v in item.attrs.items())))
        if isinstance(item, h5py.Dataset):
            items.append((item.shape, item.dtype.str, np.asarray(item[()]).tobytes()
                          if item.dtype.kind != "O" else item[()]))  # fmt: skip

    try:
        with file:
            add("/", file)
            file.visititems(add)
    except OSError:  # of a temporary file that was being written
        return path.read_bytes()
    return repr(items).encode()


def loads(path):
    """Whether a result can be read."""
    readers = {
        ".json": lambda: json.loads(path.read_text()),
        ".png": lambda: matplotlib.image.imread(path),
        ".html": lambda: path.read_text().rstrip().endswith("</html>"),
        ".hdf5": lambda: open_events(path),
        ".h5": lambda: BackgroundTemplate.open(path),
    }
    return readers[path.suffix]() is not False


@contextmanager
def largest_file(size):
    """No file may grow beyond this: "file too large", where a full disk says "no space left"."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(folder, options):
    """A file system of its own; skipped where it may not be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def in_child(function):
    """Run in a forked process; its exit code (negative: signal) and what it printed as errors."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
        os.dup2(writing, 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        code = 99
        try:
            code = function() or 0
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


# ------------------------------------------------------------------------------- full disks


def a_fit():
    model = line_model([(1779.0, 6000.0, (1772.0, 1790.0))], k=200.0)
    edges = np.linspace(1700.0, 1900.0, 61)
    rng = np.random.default_rng(5)
    return fit_spectrum(model, simulated_spectrum(model, edges, rng, [(1800.0, 1820.0)]))


@pytest.fixture(scope="module")
def writers(work):
    """Everything in Python that writes a file, by a name for it."""
    template = BackgroundTemplate.open(work / "old" / "template.h5")
    binned = bin_event_files(
        work / "list.hdf5", BinningOptions(energy_edges="1500:2000:5", phi_pix_size=30, nside=1)
    )
    figure = matplotlib.figure.Figure()
    figure.subplots().plot(np.arange(9))
    results = {"a": (template.fit, template), "b": (template.fit, None)}
    return {
        "fit.json": template.fit.to_json,
        "template.h5": template.write,
        "background.hdf5": template.write_histogram,
        "dense.hdf5": lambda path: write_histogram(path, template.histogram),
        "sparse.hdf5": lambda path: write_histogram(path, template.histogram.to_sparse()),
        "binned.hdf5": binned.write,
        "figure.png": lambda path: save_figure(figure, path),
        "figure.pdf": lambda path: save_figure(figure, path),
        "report.html": lambda path: write_report(path, fit=template.fit, template=template),
        "regions.html": lambda path: write_regions_report(path, results),
    }


WRITERS = ["fit.json", "template.h5", "background.hdf5", "dense.hdf5", "sparse.hdf5",
           "binned.hdf5", "figure.png", "figure.pdf", "report.html", "regions.html"]  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_is_said(writers, tmp_path, name):
    """At no byte, at some, within HDF5's closing, and at the last."""
    path = tmp_path / name
    writers[name](path)
    size = path.stat().st_size
    path.write_bytes(b"old")
    rooms = (size - 1,)
    if path.suffix in (".h5", ".hdf5"):
        rooms = (0, 1, 97, size // 3, 2 * size // 3, size - 100, size - 1)
    for room in rooms:
        with largest_file(room), pytest.raises(FileError) as caught:
            writers[name](path)
        assert f"Cannot write {path}: File too large. Make room" in str(caught.value)
        assert contents(tmp_path) == {name: b"old"} and os.listdir(tmp_path) == [name]
    writers[name](path)
    assert len(path.read_bytes()) >= size - 200


def test_writers_are_all(writers):
    """Who writes files is in the list above, or goes through the command line below."""
    assert list(writers) == WRITERS
    package = Path(files.__file__).parents[1]
    modules = [p for p in package.rglob("*.py") if p != Path(files.__file__)]
    calls = {
        str(p.relative_to(package)): len(re.findall(r"with whole_(?:file|hdf5)\(", p.read_text()))
        for p in modules
    }
    assert {k: v for k, v in calls.items() if v} == {
        "fit/result.py": 1, "template/template.py": 2, "histograms/write.py": 1,
        "show/figure.py": 1, "show/report.py": 2, "app/pipeline.py": 2, "app/compare.py": 1,
        "app/demo.py": 2, "app/new_config.py": 1, "events/binning.py": 1,
    }  # fmt: skip
    direct = r"\.write_(text|bytes)\(|open\([^)]*[\"'][wax]b?\+?[\"']|savefig\((?!buffer)"
    for module in modules:
        for line in module.read_text().splitlines():
            if re.search(direct, line):
                assert "temporary." in line or "h5py.File(whole" in line, (module.stem, line)


CRASH = """
import faulthandler, os, resource, sys
faulthandler.enable()
from cosi_linebkg_plugin import BackgroundTemplate
from cosi_linebkg_plugin.errors import FileError
from cosi_linebkg_plugin.histograms.write import write_histogram
template = BackgroundTemplate.open(sys.argv[1])
histograms = [template.histogram, template.histogram.to_sparse()]
os.dup2(2, 1)
for size in map(int, sys.argv[3:]):
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            template.write(sys.argv[2])
        except FileError:
            pass
        for histogram in histograms:
            try:
                write_histogram(sys.argv[2], histogram)
            except FileError:
                pass
        sys.exit(3)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    if code != 3:
        print(size, code)
"""


def test_hdf5_on_a_full_disk_does_not_crash_the_process_when_it_ends(work, tmp_path):
    """h5py alone prints tracebacks and ends with a segmentation fault here."""
    sizes = ["2000", "20000"]
    given = [str(work / "old" / "template.h5"), str(tmp_path / "x.h5"), *sizes]
    ended = subprocess.run([sys.executable, "-c", CRASH, *given], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("name", ["template", "fit", SLOW_COMPARE, "run"])
def test_a_command_on_a_full_disk_changes_nothing(work, out, tmp_path, capsys, monkeypatch, name):
    """Whichever file is the first that does not fit."""
    figure = matplotlib.figure.Figure(figsize=(1, 1))
    monkeypatch.setattr(pipeline, "_figures", lambda *_: [("spectrum", figure)])
    assert run(name, work, tmp_path / "alone") == 0
    sizes = sorted({p.stat().st_size for p in (tmp_path / "alone").rglob("*") if p.is_file()})
    before = contents(out)
    for room in [size - 1 for size in (sizes if name == "template" else sizes[-1:])]:
        with largest_file(room):
            assert run(name, work, out) == 2
        text = capsys.readouterr().err
        assert re.fullmatch(r"cosi-linebkg: Cannot write \S+/out/\S+: .* Make room, .*\n", text)
        assert contents(out) == before and len(os.listdir(out)) == len(before)
        if name == "template":
            with largest_file(room):
                assert run(name, work, tmp_path / "fresh") == 2
            assert not (tmp_path / "fresh").exists()
            capsys.readouterr()


def test_bin_on_a_full_disk(work, tmp_path, capsys):
    path = tmp_path / "out.hdf5"
    path.write_bytes(b"old")
    with largest_file(5000):
        code = main(["bin", str(work / "list.hdf5"), "--out", str(path), *BINNING])
    assert code == 2 and "out.hdf5: File too large. Make room" in capsys.readouterr().err
    assert contents(tmp_path) == {"out.hdf5": b"old"} and len(os.listdir(tmp_path)) == 1


def test_a_disk_that_is_really_full(work, tmp_path, capsys):
    with small_disk(tmp_path / "disk", "size=72k") as disk:
        assert run("template", work, disk / "out") == 2
        assert "No space left on device. Make room" in capsys.readouterr().err
        assert os.listdir(disk) == []
        code = main(["bin", str(work / "list.hdf5"), "--out", str(disk / "x.hdf5"), *BINNING])
        assert code == 0 and os.listdir(disk) == ["x.hdf5"]
    with small_disk(tmp_path / "other", "size=1m") as disk:
        (disk / "most").write_bytes(bytes(900_000))
        assert main(["demo", "--out", str(disk / "demo"), "--quiet"]) == 2
        text = capsys.readouterr().err
        assert "demo/events.hdf5: No space left on device. Make room" in text
        assert os.listdir(disk) == ["most"]


def test_a_disk_that_says_so_only_at_the_end(writers, tmp_path, monkeypatch):
    """Network file systems report lost bytes when they are asked to be on the disk."""

    def lost(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name, write in writers.items():
        (tmp_path / name).write_bytes(b"old")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lost)
            with pytest.raises(FileError, match=f"Cannot write .*{name}: Input/output error"):
                write(tmp_path / name)
    assert contents(tmp_path) == dict.fromkeys(WRITERS, b"old")


def test_a_full_disk_under_the_caches_is_not_called_a_damaged_file(
    work, tmp_path, monkeypatch, capsys
):
    def no_room(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as numba does in compiling

    monkeypatch.setattr(EventHistogram, "_count", no_room)
    assert run("fit", work, tmp_path / "out") == 2
    text = capsys.readouterr().err
    assert "No space left on device; make room for caches (NUMBA_CACHE_DIR)" in text


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("lines > /dev/full", 1, "Cannot print: No space left on device"),
        ("lines | head -n 1", 0, ""),
    ],
)
def test_what_is_printed_may_not_get_through(command, code, said):
    if "full" in command and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    shell = f"set -o pipefail; {sys.executable} -m cosi_linebkg_plugin.app.cli {command}"
    ended = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert ended.returncode == code and said in ended.stderr
    assert len(ended.stderr.splitlines()) == (1 if said else 0)


# ------------------------------------------------------------------------- folders and files


@pytest.fixture
def no_work(monkeypatch):
    """Reading the events, the first work, fails the test."""

    def prepare(*_):
        raise AssertionError("work was done before the output was checked")

    monkeypatch.setattr(pipeline, "prepare", prepare)


def refused(capsys, work, out, *parts):
    for name in ("run", "fit", "template"):
        assert run(name, work, out) == 2
        text = capsys.readouterr().err
        assert all(part in text for part in parts) and text.count("\n") == 1, text


def test_an_output_that_cannot_be_is_refused_before_work(work, tmp_path, capsys, no_work):
    (tmp_path / "file").write_text("x")
    cure = "Choose a folder that exists and is writable"
    refused(capsys, work, tmp_path / "file", f"{tmp_path / 'file'}: File exists", cure)
    refused(capsys, work, tmp_path / "file" / "out", "Not a directory", cure)
    out = tmp_path / "out"
    (out / "fit.json").mkdir(parents=True)
    refused(capsys, work, out, f"{out / 'fit.json'} is a folder")
    (out / "fit.json").rmdir()
    os.mkfifo(out / "fit.json")
    refused(capsys, work, out, f"{out / 'fit.json'} is no ordinary file")


def test_a_device_is_not_replaced(work, capsys):
    code = main(["bin", str(work / "list.hdf5"), "--out", "/dev/null", *BINNING])
    assert code == 2 and "/dev/null is no ordinary file" in capsys.readouterr().err


@contextmanager
def immutable(path):
    """Root too cannot change it; skipped where that is not permitted."""
    if (
        shutil.which("chattr") is None
        or subprocess.run(["chattr", "+i", str(path)], capture_output=True).returncode
    ):
        pytest.skip("chattr is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(path)], check=True)


def test_a_protected_file_is_refused_before_work(work, out, capsys, no_work):
    before = contents(out)
    with immutable(out / "report.html"):
        refused(capsys, work, out, f"Cannot write {out / 'report.html'}: it is write-protected")
    assert contents(out) == before


def test_a_protected_folder_is_refused_before_work(work, out, tmp_path, capsys, no_work):
    before = contents(out)
    with immutable(out):
        refused(capsys, work, out, f"output folder {out}: Operation not permitted")
        refused(capsys, work, out / "deeper", "Operation not permitted")
    assert contents(out) == before
    with small_disk(tmp_path / "disk", "ro") as disk:
        refused(capsys, work, disk, "Read-only file system")


def test_permissions_count_for_users_who_are_not_root(work, out, tmp_path, capsys):
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    mine = tmp_path / "mine"
    mine.mkdir()
    mine.chmod(0o777)
    (mine / "fit.json").write_text("{}")
    (mine / "fit.json").chmod(0o644)

    def as_nobody():
        for parent in (tmp_path, *tmp_path.parents):  # pytest makes them private
            if parent.stat().st_mode & 0o001 == 0:
                parent.chmod(parent.stat().st_mode | 0o011)
        os.setgid(65534)
        os.setuid(65534)
        for folder in (out, out / "deeper", mine):
            try:
                with files.output_folder(folder, ["fit.json"]):
                    raise AssertionError(folder)
            except FileError as error:
                print(error, file=sys.stderr)
            with pytest.raises(FileError):
                a_fit().to_json(folder / "fit.json")
        return 0

    code, text = in_child(as_nobody)
    lines = text.splitlines()
    assert code == 0 and len(lines) == 3, text
    assert "Permission denied" in lines[0] and "Permission denied" in lines[1]
    assert lines[2].startswith(f"Cannot write {mine / 'fit.json'}: it is write-protected")


def test_a_folder_that_vanishes_in_the_middle_is_made_again(work, out, monkeypatch):
    make = pipeline.template_config

    def vanishing(*arguments):
        shutil.rmtree(out)
        return make(*arguments)

    monkeypatch.setattr(pipeline, "template_config", vanishing)
    assert run("template", work, out) == 0
    assert {p.name for p in out.iterdir()} == {
        "fit.json", "template.h5", "background.hdf5", "background_background.hdf5",
        "control_ranges.json",
    }  # fmt: skip


def test_a_full_disk_leaves_no_first_configuration(work, tmp_path, capsys):
    path = tmp_path / "first.yaml"
    with largest_file(100):
        assert main(["init", str(work / "events.hdf5"), "--out", str(path), "--quiet"]) == 2
    assert f"Cannot write {path}: File too large. Make room" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_a_folder_that_vanishes_for_good_is_said(work, tmp_path, monkeypatch, capsys):
    out = tmp_path / "parent" / "out"
    make = pipeline.template_config

    def vanishing(*arguments):
        shutil.rmtree(out.parent)
        out.parent.write_text("a file in its place")
        return make(*arguments)

    monkeypatch.setattr(pipeline, "template_config", vanishing)
    assert run("template", work, out) == 2
    assert f"output folder {out}: Not a directory" in capsys.readouterr().err


# ---------------------------------------------------------------------------------- kills


def stop_at(step, number, *, hdf5=True):
    """Have this process stopped by a signal at the n-th step of writing, from here on."""
    count = 0

    def tick():
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), number)

    def before(owner, name):
        original = getattr(owner, name)

        def stopped(*arguments, **options):
            tick()
            return original(*arguments, **options)

        setattr(owner, name, stopped)

    def half(name):
        original = getattr(Path, name)

        def stopped(self, data, **options):
            original(self, data[: len(data) // 2], **options)
            tick()
            return original(self, data, **options)

        setattr(Path, name, stopped)

    for name in ("replace", "unlink", "rmdir", "fsync", "mkdir"):
        before(os, name)
    if hdf5:  # of its many small writes each tenth
        write, calls = files.ForgivingFile.write, []

        def tenth(self, data):
            calls.append(1)
            if len(calls) % 10 == 0:
                tick()
            return write(self, data)

        files.ForgivingFile.write = tenth
    half("write_text")
    half("write_bytes")


def consistent(out, old, new):
    """All old, or all new; or every file is one of them, and a note names those that changed."""
    found = contents(out)
    text = found.pop(files.UNFINISHED, b"").decode()
    found = {k: v for k, v in found.items() if HIDDEN not in k}
    for name, data in found.items():
        assert data in (old.get(name), new.get(name)), f"{name} is damaged"
    if found in (old, new):
        return "old" if found == old else "new"
    differ = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    assert differ <= set(text.splitlines()), "a mix of two runs, and nothing says so"
    return "mixed"


def stopped_everywhere(work, tmp_path, name, number, *, start=1, step=1, hdf5=True):
    """Stop a command at each step of writing; the states that were found."""
    small = tmp_path / "old"
    assert main(["template", str(work / "old.yaml"), "--fit", str(work / "fit.json"),
                 "--out", str(small), "--quiet"]) == 0  # fmt: skip
    shutil.copy(work / "old" / "report.html", small)
    old = contents(small)
    shutil.copytree(small, tmp_path / "undisturbed")
    assert run(name, work, tmp_path / "undisturbed") == 0
    new = contents(tmp_path / "undisturbed")
    assert old != new and all(loads(p) for p in (tmp_path / "undisturbed").iterdir())
    states, at, codes = [], start, set()
    while True:
        out = tmp_path / "out"
        shutil.copytree(small, out)

        def stopped(at=at, out=out):
            stop_at(at, number, hdf5=hdf5)
            return run(name, work, out)

        code, text = in_child(stopped)
        if code == 0:
            break
        codes.add(code)
        if number != signal.SIGKILL:
            assert re.fullmatch(r"cosi-linebkg: interrupted .*; every file .* is whole\n", text)
            assert not [p for p in out.iterdir() if p.name.startswith(HIDDEN)]
            (out / "fit_interrupted.json").unlink(missing_ok=True)
        states.append(consistent(out, old, new))
        if states[-1] == "mixed" or at % 20 == 0:  # whatever is there, the next run cures it
            assert run(name, work, out) == 0
            assert contents(out) == new and len(os.listdir(out)) == len(new)
        shutil.rmtree(out)
        at += step
    assert codes == {-number if number == signal.SIGKILL else 128 + number}
    return states


def test_killed_at_any_step_of_writing(work, tmp_path):
    states = stopped_everywhere(work, tmp_path, "template", signal.SIGKILL)
    assert len(states) > 30 and set(states) == {"old", "mixed", "new"}
    assert states == sorted(states, key=["old", "mixed", "new"].index)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stopped_at_any_step_of_writing(work, tmp_path, number):
    """A signal never leaves a mix: it waits until the files are in place."""
    step = 3 if number == signal.SIGTERM else 13
    states = stopped_everywhere(work, tmp_path, "template", number, step=step)
    assert len(states) > 30 / step and set(states) == {"old", "new"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fit", "run"])
def test_other_commands_killed_at_any_step_of_writing(work, tmp_path, name, monkeypatch):
    figure = matplotlib.figure.Figure(figsize=(1, 1))
    monkeypatch.setattr(pipeline, "_figures", lambda *_: [("spectrum", figure), ("phi", figure)])
    monkeypatch.setattr("cosi_linebkg_plugin.show.spectrum.plot_spectrum", lambda *_, **__: figure)
    states = stopped_everywhere(work, tmp_path, name, signal.SIGKILL, hdf5=False)
    assert {"old", "mixed", "new"} == set(states)


def test_regions_that_are_killed_leave_a_page_that_is_known_to_be_old(work, tmp_path, monkeypatch):
    out = tmp_path / "out"
    figure = matplotlib.figure.Figure(figsize=(1, 1))
    monkeypatch.setattr(pipeline, "_figures", lambda *_: [("spectrum", figure)])
    assert run("regions", work, out) == 0
    assert not (out / files.UNFINISHED).exists() and (out / "report.html").exists()

    def killed():
        write = pipeline.write_results

        def second(folder, *rest):
            if folder.name == "b":
                os.kill(os.getpid(), signal.SIGKILL)
            return write(folder, *rest)

        pipeline.write_results = second
        return run("regions", work, out)

    assert in_child(killed)[0] == -signal.SIGKILL
    assert not (out / "report.html").exists()
    assert "report.html" in (out / files.UNFINISHED).read_text().splitlines()
    assert run("regions", work, out) == 0
    assert sorted(os.listdir(out)) == ["a", "b", "report.html"]
    assert not [p for p in out.rglob("*") if HIDDEN in p.name]


@pytest.mark.slow
def test_a_demo_that_is_killed_says_that_its_results_are_of_other_data(tmp_path, monkeypatch):
    from cosi_linebkg_plugin.app import demo

    monkeypatch.setattr(demo, "simulate", lambda seed: simulate(seed, nside=2))
    out = tmp_path / "demo"
    command = ["demo", "--out", str(out), "--quiet"]
    assert main(command) == 0
    assert not (out / files.UNFINISHED).exists()

    def killed():
        demo.run = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        return main([*command, "--seed", "2"])

    assert in_child(killed)[0] == -signal.SIGKILL
    named = set((out / files.UNFINISHED).read_text().splitlines())
    assert {"fit.json", "template.h5", "report.html"} <= named and "events.hdf5" not in named
    assert main([*command, "--seed", "2"]) == 0
    assert not (out / files.UNFINISHED).exists()


def test_what_a_killed_writer_left_goes_with_the_next_and_that_of_a_living_one_stays(tmp_path):
    fit = a_fit()
    read, write = os.pipe()
    living = os.fork()
    if living == 0:  # pragma: no cover
        with files.whole_file(tmp_path / "living.json"):
            os.write(write, b"x")
            time.sleep(60)
    os.read(read, 1)

    def killed():
        with files.whole_file(tmp_path / "killed.json") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        in_child(killed)
        assert len(list(tmp_path.glob(f"{HIDDEN}*"))) == 2
        fit.to_json(tmp_path / "fit.json")
        assert len(list(tmp_path.glob(f"{HIDDEN}*"))) == 1
    finally:
        os.kill(living, signal.SIGKILL)
        os.waitpid(living, 0)
    fit.to_json(tmp_path / "fit.json")
    assert os.listdir(tmp_path) == ["fit.json"]


# --------------------------------------------------------------------------- two at a time


def test_a_second_run_is_refused_before_work_until_the_first_ends(work, out, monkeypatch, capsys):
    before = contents(out)
    read, write = os.pipe()
    first = os.fork()
    if first == 0:  # pragma: no cover
        with files.output_folder(out):
            os.write(write, b"x")
            time.sleep(60)
    try:
        os.read(read, 1)
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "prepare", None)
            refused(capsys, work, out, f"Another run writes to the output folder {out}; wait")
        assert LineBackgroundFit.from_json(out / "fit.json").valid  # readers are not affected
        assert contents(out) == before
    finally:
        os.kill(first, signal.SIGKILL)  # and a crash does not block it for ever
        os.waitpid(first, 0)
    assert run("template", work, out) == 0


def test_a_region_that_another_run_writes_is_refused_before_work(
    work, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    monkeypatch.setattr(pipeline, "prepare", None)
    seen = []

    def other_thread():
        seen.append(run("regions", work, out))

    with files.output_folder(out / "b"):
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
    assert seen == [2] and f"output folder {out / 'b'}" in capsys.readouterr().err


def test_where_there_are_no_locks_a_run_goes_on_and_says_so(work, out, monkeypatch, caplog):
    def flock(*_):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # NFS, for a folder

    monkeypatch.setattr(fcntl, "flock", flock)
    assert run("template", work, out) == 0
    assert "knows no locks: start no second run in it" in caplog.text
    assert not [p for p in out.iterdir() if p.name.startswith(HIDDEN)]


def test_two_writers_of_one_file_leave_it_whole(tmp_path):
    path = tmp_path / "x.json"

    def write_often(value):
        for _ in range(50):
            with files.whole_file(path) as temporary:
                temporary.write_text(value * 1000)

    children = []
    for value in "ab":
        child = os.fork()
        if child == 0:  # pragma: no cover
            try:
                write_often(value)
            finally:
                os._exit(0 if sys.exc_info()[0] is None else 1)
        children.append(child)
    seen = set()
    for child in children:
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if path.exists():
                seen.add(path.read_text())
    assert seen <= {"a" * 1000, "b" * 1000} and seen
    assert os.listdir(tmp_path) == ["x.json"]


# ------------------------------------------------------------------------------ interrupted


def interrupting(monkeypatch, owner, name, at, number=signal.SIGINT):
    """Have a real signal come during the n-th call of a function."""
    original, calls = getattr(owner, name), []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), number)
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize("calls", [190, 350])
def test_interrupted_sampling_keeps_its_samples(monkeypatch, calls):
    fit = a_fit()
    interrupting(monkeypatch, posterior, "sweep_walkers", calls)
    monkeypatch.setattr(posterior, "LENGTH_IN_TIMES", 1000)  # go on for long
    with pytest.raises(FitInterrupted, match=r"interrupted after \d+ steps") as caught:
        fit.sample(n_samples=10**6, seed=1)
    result = caught.value.result
    steps = int(re.search(r"after (\d+) steps", result.message)[1])
    assert 9 * calls < steps < 11 * calls  # ten steps a call
    assert not result.valid and result.engine == "bayesian"
    assert result.samples.shape[1] == len(fit.free_names) and len(result.samples) > steps
    for name, error in fit.errors.items():
        assert abs(result.values[name] - fit.values[name]) < error
        assert result.errors[name] == pytest.approx(error, rel=0.5)
    again = LineBackgroundFit.from_json(result.to_json())
    assert not again.valid and again.message == result.message
    assert "not valid: interrupted after" in result.summary()


def test_sampling_that_has_hardly_begun_is_not_kept(monkeypatch):
    fit = a_fit()
    interrupting(monkeypatch, posterior, "sweep_walkers", 10)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit.sample(seed=1)
    assert not isinstance(caught.value, FitInterrupted)


@pytest.mark.parametrize("name", ["run", "fit"])
def test_an_interrupted_sampling_is_written_under_its_own_name(
    work, out, monkeypatch, capsys, name
):
    before = contents(out)
    interrupting(monkeypatch, posterior, "sweep_walkers", 150)
    assert main([name, str(work / "sampled.yaml"), "--out", str(out), "--quiet"]) == 130
    text = capsys.readouterr().err
    path = out / "fit_interrupted.json"
    assert text == (
        f"cosi-linebkg: interrupted (SIGINT); the fit so far is in {path}; every file that is "
        "there is whole\n"
    )
    kept = LineBackgroundFit.from_json(path)
    assert not kept.valid and kept.samples is not None and "interrupted after" in kept.message
    assert contents(out) == before | {path.name: path.read_bytes()}
    command = ["template", str(work / "new.yaml"), "--fit", str(path), "--out", str(out)]
    assert main(command) == 2 and "interrupted after" in capsys.readouterr().err
    assert run("fit", work, out) == 0 and not path.exists()


def test_interrupted_toys_keep_the_fit_and_the_toys():
    fit = a_fit()

    def interrupt(done, total):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(FitInterrupted) as caught:
        with_toys(fit, 50, rng=1, progress=Told(interrupt))
    kept = caught.value.result
    assert kept.valid and kept.values == fit.values
    assert kept.toys == with_toys(fit, 7, rng=1).toys
    assert kept.message == "interrupted after 7 of 50 simulated spectra"


def test_an_interrupted_choice_of_the_filter_keeps_the_fit(work, out, monkeypatch, capsys):
    from cosi_linebkg_plugin.template import smoothing

    before = contents(out)
    interrupting(monkeypatch, smoothing, "filter_sums", 3, signal.SIGTERM)
    assert main(["run", str(work / "auto.yaml"), "--out", str(out), "--quiet"]) == 143
    assert "interrupted (SIGTERM); the fit so far is in" in capsys.readouterr().err
    path = out / "fit_interrupted.json"
    assert LineBackgroundFit.from_json(path).valid
    assert contents(out) == before | {path.name: path.read_bytes()}
