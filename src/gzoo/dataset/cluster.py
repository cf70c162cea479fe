"""Writing shards on several processes or machines with Dask; the only module that uses a Dask scheduler."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from gzoo.dataset.shards import Job, write_shard
from gzoo.errors import MissingExtraError, NotFoundError, reason

CONNECT_SECONDS = 30


def write_shards(
    job: Job, numbers: Sequence[int], *, scheduler: str, workers: int, done: Callable[[int], None]
) -> None:
    """Write shards on Dask workers; if a worker dies, another one writes its shard.

    Args:
        job: All shards. Every worker must be able to read its folder and images under the same paths.
        numbers: Numbers of the shards to write.
        scheduler: Address of a Dask scheduler, such as "tcp://host:8786"; "" starts one on this machine.
        workers: Number of processes to start without a scheduler.
        done: Called with the number of each shard after it was written.

    Raises:
        MissingExtraError: Dask is not installed.
        NotFoundError: No scheduler answers at that address.
        GZooError: See `write_shard`.
    """
    with _client(scheduler, workers) as client:
        as_completed: Any = import_module("distributed").as_completed
        tasks = {client.submit(write_shard, _for(job, number), number, pure=False): number for number in numbers}
        for task in as_completed(tasks):
            task.result()
            done(tasks[task])


def _for(job: Job, number: int) -> Job:
    """Return a job that locates only the images of one shard, because archives may list millions."""
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
            "Building with several workers needs Dask, which is not installed.",
            "the extra 'cluster'.",
            "Run `pip install 'gzoo[cluster]'`, or omit --workers and --scheduler.",
        ) from error
    if scheduler:
        try:
            client = distributed.Client(scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise NotFoundError(
                f"Cannot connect to a Dask scheduler at '{scheduler}': {reason(error)}.",
                "the address that `dask scheduler` prints, such as tcp://host:8786.",
                "Start a scheduler, or pass --workers instead of --scheduler.",
            ) from error
        with client:
            yield client
        return
    # without a memory limit for workers, and without the port of a dashboard
    with (
        dask.config.set({"distributed.admin.low-level-log-length": 0}),
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
