"""Shards written by many processes or machines, through Dask; the only module that talks to a Dask scheduler."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

from gzoo.errors import MissingExtraError
from gzoo.shards import Job, write_shard


def write_shards(
    job: Job, numbers: Sequence[int], *, scheduler: str, workers: int, done: Callable[[int], None]
) -> None:
    """Write shards, wherever there is a worker. One that dies has its shard written by another.

    Args:
        job: All shards. Its folder and its pictures must be reached by the same name from every worker.
        numbers: Those to write.
        scheduler: Address of a Dask scheduler ("tcp://host:8786"), or "" to start one on this machine.
        workers: Processes to start where there is no scheduler.
        done: Called with the number of each shard that is written.

    Raises:
        MissingExtraError: Dask is not installed.
        GZooError: As `write_shard`.
    """
    with _client(scheduler, workers) as client:
        from distributed import as_completed

        tasks = {client.submit(write_shard, job, number, pure=False): number for number in numbers}
        for task in as_completed(tasks):
            task.result()
            done(tasks[task])


@contextlib.contextmanager
def _client(scheduler: str, workers: int) -> Generator[Any]:
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise MissingExtraError(
            "Dask, which lends a build its workers, is not installed.",
            "The extra 'cluster'.",
            "Type: pip install 'gzoo[cluster]'",
        ) from error
    if scheduler:
        with Client(scheduler) as client:
            yield client
        return
    # a worker may use what memory there is; no page of figures is served
    with (
        dask.config.set({"distributed.admin.low-level-log-length": 0}),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
