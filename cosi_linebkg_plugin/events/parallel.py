"""Event lists in parallel: dask's threads or processes, or any dask.distributed cluster."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import LineBackgroundError
from .files import EventFile
from .rules import Binning
from .sums import Sums, add_results, sum_task, tasks_of

if TYPE_CHECKING:
    from distributed import Client

#: A file with the range of its events that a task bins.
Task = tuple[EventFile, int, int]

#: dask's own schedulers; what is neither is the address of a cluster.
LOCAL_SCHEDULERS = ("threads", "processes")


def sum_in_parallel(
    binning: Binning,
    files: list[EventFile],
    scheduler: str | Client,
    workers: int | None = None,
    done: Callable[[int], None] = lambda n: None,
) -> Sums:
    """`sum_blocks` as tasks whose sparse sums are added in a tree.

    Parameters
    ----------
    binning : Binning
    files : list of EventFile
        Paths must lead to the files on every worker.
    scheduler : str or dask.distributed.Client
        "threads", "processes", or the address of a cluster ("tcp://host:8786").
    workers : int, optional
        How many threads or processes; None is one per processor.
    done : callable
        Is called after each task with the number of its events.
    """
    dask = _library("dask")
    tasks = tasks_of(files)
    if isinstance(scheduler, str) and scheduler in LOCAL_SCHEDULERS:
        leaves = [dask.delayed(sum_task, pure=False)(binning, *task) for task in tasks]
        sizes = {
            leaf.key: stop - start for leaf, (_, start, stop) in zip(leaves, tasks, strict=True)
        }
        total = _compute(_tree(leaves, dask.delayed(add_results)), scheduler, workers, sizes, done)
    else:
        if workers is not None:
            raise LineBackgroundError(
                f"workers={workers} is for {' and '.join(LOCAL_SCHEDULERS)}; a cluster has its own."
            )
        total = _on_cluster(binning, tasks, scheduler, done)
    if isinstance(total, Exception):
        raise total
    return total


def _library(name: str) -> Any:
    """A module of dask, which is an optional dependency (and has few types)."""
    try:
        return import_module(name)
    except ImportError as error:
        raise LineBackgroundError(
            f"A scheduler needs {name}: pip install 'cosi-linebkg-plugin[dask]'; without scheduler "
            "one process does it all."
        ) from error


def _tree(parts: list[Any], add: Callable[[Any, Any], Any]) -> Any:
    """The sum of many in pairs, pairs of pairs ..."""
    while len(parts) > 1:
        pairs = [add(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0]


def _compute(
    total: Any,
    scheduler: str,
    workers: int | None,
    sizes: dict[str, int],
    done: Callable[[int], None],
) -> Sums | Exception:
    dask = _library("dask")

    def finished(key: Any, *_: Any) -> None:
        done(sizes.get(key, 0))

    with _library("dask.callbacks").Callback(posttask=finished):
        sums: tuple[Sums | Exception] = dask.compute(
            total, scheduler=scheduler, num_workers=workers, optimize_graph=False
        )
    return sums[0]


def _on_cluster(
    binning: Binning, tasks: list[Task], scheduler: str | Client, done: Callable[[int], None]
) -> Sums | Exception:
    distributed = _library("distributed")
    if not isinstance(scheduler, str | distributed.Client):
        raise LineBackgroundError(
            f"scheduler must be one of {LOCAL_SCHEDULERS}, the address of a dask.distributed "
            f"cluster, or its Client; got {scheduler!r}."
        )
    if isinstance(scheduler, str) and ":" not in scheduler:
        raise LineBackgroundError(
            f"scheduler must be one of {LOCAL_SCHEDULERS}, or an address as its scheduler says "
            f"(tcp://host:8786), got {scheduler!r}."
        )
    try:
        client = scheduler
        if isinstance(scheduler, str):
            client = distributed.Client(scheduler, set_as_default=False)
    except (OSError, ValueError) as error:
        raise LineBackgroundError(
            f"There is no dask.distributed cluster at {scheduler!r} ({error}); give 'threads', "
            "'processes' or the address that its scheduler says (tcp://host:8786)."
        ) from error
    try:
        leaves = [client.submit(sum_task, binning, *task, pure=False) for task in tasks]
        sizes = {
            leaf.key: stop - start for leaf, (_, start, stop) in zip(leaves, tasks, strict=True)
        }
        total = _tree(leaves, lambda a, b: client.submit(add_results, a, b, pure=False))
        for leaf in distributed.as_completed(leaves, loop=client.loop):
            done(sizes[leaf.key])
        sums: Sums | Exception = total.result()
        return sums
    finally:
        if client is not scheduler:
            client.close()
