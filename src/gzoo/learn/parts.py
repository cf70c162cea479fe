"""Results for many galaxies, written in parts: by this process or by Dask workers, and resumed after an interruption.

A part depends on its rows alone, not on the process that writes it. A worker makes what it writes with from a request,
which is small and can be sent, and keeps it for the next part.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np

from gzoo import cluster
from gzoo.errors import DatasetError
from gzoo.files import Progress
from gzoo.trees.tree import IntArray

PART_ROWS = 4096
"""Galaxies that are written together: what an interrupted command computes again at most."""
PACKAGES = ("gzoo", "torch", "timm", "pyarrow", "polars")
"""Packages whose versions may change what is written."""


class PartWriter(Protocol):
    """What writes the parts of a result.

    Attributes:
        n_rows: Number of galaxies.
        digest: Checksum of all that the parts depend on.
        stage: What it does, for the progress bar.
    """

    @property
    def n_rows(self) -> int: ...  # noqa: D102
    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def stage(self) -> str: ...  # noqa: D102

    def write(self, path: Path, rows: IntArray, progress: Progress | None) -> None:
        """Write a part to a file, completely or not at all."""
        ...


class Request(Hashable, Protocol):
    """Arguments from which any process makes the same writer; they can be pickled."""

    def writer(self) -> PartWriter:
        """Return the writer."""
        ...


def write_parts(
    request: Request, writer: PartWriter, work: Path, *, scheduler: str | None = None, progress: Progress | None = None
) -> list[Path]:
    """Write the parts that do not exist yet, and return all of them in order.

    Args:
        request: Arguments that `writer` was made from.
        writer: Writer of this process.
        work: Folder for the parts.
        scheduler: Address of a Dask scheduler whose workers write the parts; they must be able to read the same files.
        progress: Function to call with (stage, galaxies done, galaxies in total).

    Raises:
        DatasetError: A worker reads other data than this process.
        MissingExtraError: Dask is not installed, or a worker has other versions of packages.
        NotFoundError: No scheduler answers at that address.
    """
    starts = range(0, writer.n_rows, PART_ROWS)
    paths = [work / f"part-{i:05d}.parquet" for i in range(len(starts))]
    rows = {
        path: np.arange(start, min(start + PART_ROWS, writer.n_rows)) for path, start in zip(paths, starts, strict=True)
    }
    missing = [path for path in paths if not path.exists()]
    if not scheduler:
        for path in missing:
            writer.write(path, rows[path], progress)
        return paths
    n_done = writer.n_rows - sum(len(rows[path]) for path in missing)

    def report(path: Path) -> None:
        nonlocal n_done
        n_done += len(rows[path])
        if progress:
            progress(writer.stage, n_done, writer.n_rows)

    versions = {name: version(name) for name in PACKAGES}
    tasks = {path: (request, writer.digest, versions, path.absolute(), rows[path]) for path in missing}
    if missing:
        cluster.run_on_workers(_write_on_worker, tasks, scheduler=scheduler, done=report)
    return paths


_lock = threading.Lock()


def _write_on_worker(request: Request, digest: str, versions: dict[str, str], path: Path, rows: IntArray) -> None:
    """Write a part on a worker, one at a time, because its threads would share a model."""
    cluster.require_versions(versions)
    with _lock:
        if not path.exists():
            _writer_of(request, digest).write(path, rows, None)


@lru_cache(maxsize=1)  # a worker opens runs and dataset once, which takes seconds
def _writer_of(request: Request, digest: str) -> PartWriter:
    writer = request.writer()
    if writer.digest != digest:
        raise DatasetError(
            "A Dask worker reads another run or other data than this process.",
            "the same files under the same paths on all machines.",
            "Copy the files to the machine of the worker, or omit --scheduler.",
        )
    return writer
