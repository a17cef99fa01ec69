"""Event lists in parallel give what one process gives."""

import numpy as np
import pytest
from event_lists import make_events, write_fits, write_hdf5
from numpy.testing import assert_array_equal
from progress import Told

from cosi_linebkg_plugin.errors import FileError, LineBackgroundError
from cosi_linebkg_plugin.events.binning import bin_event_files
from cosi_linebkg_plugin.events.files import open_event_file
from cosi_linebkg_plugin.events.options import BinningOptions
from cosi_linebkg_plugin.events.sums import tasks_of

pytest.importorskip("dask")

OPTIONS = BinningOptions(energy_edges=np.linspace(1500, 2000, 51), phi_pix_size=6, nside=8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    files = [write_hdf5(folder / f"{i}.hdf5", make_events(7_000, seed=i)) for i in range(3)]
    return [*files, write_fits(folder / "3.fits.gz", make_events(7_000, seed=3))]


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster


def assert_same(a, b):
    assert_array_equal(a.histogram.contents.coords, b.histogram.contents.coords)
    assert_array_equal(a.histogram.contents.data, b.histogram.contents.data)
    assert a.report == b.report


def check(files, scheduler, **options):
    told = Told()
    binned = bin_event_files(files, OPTIONS, scheduler=scheduler, progress=told, **options)
    assert_same(binned, bin_event_files(files, OPTIONS))
    assert told.counts[-1] == (28_000, 28_000) and told.what == {"events"}


def test_threads(files, monkeypatch):
    from cosi_linebkg_plugin.events import parallel as event_dask

    check(files, "threads", workers=2)
    monkeypatch.setattr(event_dask, "tasks_of", lambda files: tasks_of(files, 1_000))
    check(files, "threads")


def test_processes(files):
    check(files, "processes", workers=2)


def test_a_cluster_by_its_address_and_by_its_client(files, cluster):
    from distributed import Client

    check(files, cluster.scheduler_address)
    with Client(cluster, set_as_default=False) as client:
        check(files, client)
        assert client.status == "running"


def test_tasks_split_what_can_be_split(files):
    tasks = tasks_of([open_event_file(path) for path in files[2:]], 3_000)
    assert [(t[1], t[2]) for t in tasks] == [(0, 3_000), (3_000, 6_000), (6_000, 7_000), (0, 7_000)]


@pytest.mark.parametrize("scheduler", ["threads", "processes", "cluster"])
def test_errors_of_workers_are_those_of_one_process(files, tmp_path, request, scheduler):
    bad = tmp_path / "bad.fits.gz"
    raw = files[3].read_bytes()
    bad.write_bytes(raw[: len(raw) // 2])
    if scheduler == "cluster":
        scheduler = request.getfixturevalue("cluster").scheduler_address
    with pytest.raises(FileError, match=r"bad\.fits\.gz is truncated.*its 7000 events") as error:
        bin_event_files([*files, bad], OPTIONS, scheduler=scheduler)
    assert "Traceback" not in str(error.value)


def test_bad_schedulers_are_refused(files, cluster):
    with pytest.raises(LineBackgroundError, match="There is no dask.distributed cluster at"):
        bin_event_files(files, OPTIONS, scheduler="nowhere://here")
    with pytest.raises(LineBackgroundError, match="scheduler must be one of"):
        bin_event_files(files, OPTIONS, scheduler=5)
    with pytest.raises(LineBackgroundError, match="an address .* got 'thread'"):
        bin_event_files(files, OPTIONS, scheduler="thread")
    for workers in (0, -2, True, 1.5):
        with pytest.raises(LineBackgroundError, match="workers must be a whole number above 0"):
            bin_event_files(files, OPTIONS, scheduler="threads", workers=workers)
    with pytest.raises(LineBackgroundError, match="a cluster has its own"):
        bin_event_files(files, OPTIONS, scheduler=cluster.scheduler_address, workers=3)
