"""Event lists in parallel: dask's threads or processes, or any dask.distributed cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import LineBackgroundError
from .files import EventFile
from .sums import Binning, Sums, Told, add_results, sum_task, tasks_of

#: dask's own schedulers; what is neither is the address of a cluster.
LOCAL_SCHEDULERS = ("threads", "processes")


def sum_in_parallel(
    binning: Binning,
    files: list[EventFile],
    scheduler: Any,
    workers: int | None = None,
    told: Told = lambda n: None,
) -> Sums:
    """`sum_events` as tasks whose sparse sums are added in a tree.

    Parameters
    ----------
    binning : Binning
    files : list of EventFile
        Paths must lead to the files on every worker.
    scheduler : str or dask.distributed.Client
        "threads", "processes", or the address of a cluster ("tcp://host:8786").
    workers : int, optional
        How many threads or processes; None is one per processor.
    told : callable
        Is told of each finished task how many events it had.
    """
    try:
        import dask
    except ImportError as error:
        raise LineBackgroundError(
            f"scheduler={scheduler!r} needs dask: pip install 'cosi-linebkg-plugin[dask]'; "
            "without scheduler one process does it all."
        ) from error
    tasks = tasks_of(files)
    if isinstance(scheduler, str) and scheduler in LOCAL_SCHEDULERS:
        leaves = [dask.delayed(sum_task, pure=False)(binning, *task) for task in tasks]
        sizes = {
            leaf.key: stop - start for leaf, (_, start, stop) in zip(leaves, tasks, strict=True)
        }
        (total,) = _compute(
            _tree(leaves, dask.delayed(add_results)), scheduler, workers, sizes, told
        )
    else:
        if workers is not None:
            raise LineBackgroundError(
                f"workers={workers} is for {' and '.join(LOCAL_SCHEDULERS)}; a cluster has its own."
            )
        total = _on_cluster(binning, tasks, scheduler, told)
    if isinstance(total, Exception):
        raise total
    return total


def _tree(parts: list, add: Callable[[Any, Any], Any]) -> Any:
    """The sum of many in pairs, pairs of pairs ..."""
    while len(parts) > 1:
        pairs = [add(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0]


def _compute(
    total: Any, scheduler: str, workers: int | None, sizes: dict[str, int], told: Told
) -> tuple[Any, ...]:
    import dask
    from dask.callbacks import Callback

    def finished(key: Any, *_: Any) -> None:
        told(sizes.get(key, 0))

    with Callback(posttask=finished):
        return dask.compute(total, scheduler=scheduler, num_workers=workers, optimize_graph=False)


def _on_cluster(binning: Binning, tasks: list, scheduler: Any, told: Told) -> Any:
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise LineBackgroundError(
            "A cluster needs dask.distributed: pip install 'cosi-linebkg-plugin[dask]'."
        ) from error
    if not isinstance(scheduler, str | Client):
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
        client = (
            Client(scheduler, set_as_default=False) if isinstance(scheduler, str) else scheduler
        )
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
        for leaf in as_completed(leaves, loop=client.loop):
            told(sizes[leaf.key])
        return total.result()
    finally:
        if client is not scheduler:
            client.close()
