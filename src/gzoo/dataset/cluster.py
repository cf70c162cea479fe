"""Shards written by many processes or machines, through Dask; the only module that talks to a Dask scheduler."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from gzoo.dataset.shards import Job, write_shard
from gzoo.errors import MissingExtraError, NotFoundError

CONNECT_SECONDS = 30


def write_shards(
    job: Job, numbers: Sequence[int], *, scheduler: str, workers: int, done: Callable[[int], None]
) -> None:
    """Write shards, wherever there is a worker. One that dies has its shard written by another.

    Args:
        job: All shards. Its folder and its images must be reached by the same name from every worker.
        numbers: Those to write.
        scheduler: Address of a Dask scheduler ("tcp://host:8786"), or "" to start one on this machine.
        workers: Processes to start where there is no scheduler.
        done: Called with the number of each shard that is written.

    Raises:
        MissingExtraError: Dask is not installed.
        NotFoundError: There is no scheduler at that address.
        GZooError: As `write_shard`.
    """
    with _client(scheduler, workers) as client:
        as_completed: Any = import_module("distributed").as_completed
        tasks = {client.submit(write_shard, _for(job, number), number, pure=False): number for number in numbers}
        for task in as_completed(tasks):
            task.result()
            done(tasks[task])


def _for(job: Job, number: int) -> Job:
    """What one task must know: of archives with millions of images, the places of its own."""
    names: dict[int, list[str]] = {}
    if job.sources:
        for source, name in job.plan(number).select("source", "image").iter_rows():
            names.setdefault(source, []).append(name)
    return replace(job, sources=tuple(one.only(names.get(i, [])) for i, one in enumerate(job.sources)))


@contextlib.contextmanager
def _client(scheduler: str, workers: int) -> Generator[Any]:
    try:
        distributed: Any = import_module("distributed")
        dask: Any = import_module("dask")
    except ImportError as error:
        raise MissingExtraError(
            "Dask, which lends a build its workers, is not installed.",
            "The extra 'cluster'.",
            "Type: pip install 'gzoo[cluster]'",
        ) from error
    if scheduler:
        try:
            client = distributed.Client(scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise NotFoundError(
                f"There is no Dask scheduler at {scheduler}: {error}.",
                "The address that `dask scheduler` shows, like tcp://host:8786.",
                "Start one, or pass --workers instead.",
            ) from error
        with client:
            yield client
        return
    # a worker may use what memory there is, and no page of figures is served
    with (
        dask.config.set({"distributed.admin.low-level-log-length": 0}),
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
