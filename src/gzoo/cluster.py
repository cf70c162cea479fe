"""Work on several processes or machines with Dask; the only module that uses a Dask scheduler."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any, TypeVar

from gzoo.errors import MissingExtraError, NotFoundError, reason

CONNECT_SECONDS = 30
Key = TypeVar("Key")


def run_on_workers(
    function: Callable[..., object],
    tasks: Mapping[Key, tuple[object, ...]],
    *,
    scheduler: str,
    workers: int = 1,
    done: Callable[[Key], None],
) -> None:
    """Call a function with the arguments of each task on Dask workers; if a worker dies, another one repeats its task.

    Args:
        function: Function of a module, which writes files. Every worker must see the same files under the same paths.
        tasks: Arguments of each call, which are sent to the worker.
        scheduler: Address of a Dask scheduler, such as "tcp://host:8786"; "" starts one on this machine.
        workers: Number of processes to start without a scheduler.
        done: Called with the key of each task after it was done.

    Raises:
        MissingExtraError: Dask is not installed.
        NotFoundError: No scheduler answers at that address.
        Exception: What the function raises.
    """
    with _client(scheduler, workers) as client:
        as_completed: Any = import_module("distributed").as_completed
        futures = {client.submit(function, *arguments, pure=False): key for key, arguments in tasks.items()}
        for future in as_completed(futures):
            future.result()
            done(futures[future])


def require_versions(wanted: Mapping[str, str]) -> None:
    """Check, on a worker, that it has the packages with which a command was started.

    Args:
        wanted: Version of each package.

    Raises:
        MissingExtraError: A version differs.
    """
    for name, expected in wanted.items():
        if (found := version(name)) != expected:
            raise MissingExtraError(
                f"A worker has {name} {found}, but the command was started with {name} {expected}.",
                "the same version on every machine.",
                f"Run `pip install {name}=={expected}` on the machine of the worker.",
            )


@contextlib.contextmanager
def _client(scheduler: str, workers: int) -> Generator[Any]:
    try:
        distributed: Any = import_module("distributed")
        dask: Any = import_module("dask")
    except ImportError as error:
        raise MissingExtraError(
            "Several workers need Dask, which is not installed.",
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
                "Start a scheduler, or omit --scheduler.",
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
