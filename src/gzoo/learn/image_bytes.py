"""Where the bytes of a split's images are read from."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

import pyarrow as pa

from gzoo.dataset.index import ImageIndex
from gzoo.errors import DatasetError
from gzoo.images.archives import MAX_FILE_BYTES

if TYPE_CHECKING:
    import datasets

MAX_OPEN_FILES = 256


class Images(Protocol):
    """Images of a split, row by row; read by several threads at once."""

    def read(self, rows: Sequence[int]) -> Sequence[bytes | None]:
        """The encoded images of some rows; None where a row has none."""
        ...

    def where(self, row: int) -> str:
        """The file that a row's image is in."""
        ...


class ShardImages:
    """Images read by their place in Parquet shards."""

    def __init__(self, index: ImageIndex) -> None:
        self._index = index
        self._files: dict[int, int] = {}
        self._lock = threading.Lock()
        self._close = weakref.finalize(self, _close, self._files)

    def read(self, rows: Sequence[int]) -> Sequence[bytes | None]:
        """The encoded images of some rows."""
        return [self._read(row) for row in rows]

    def where(self, row: int) -> str:
        """The shard that a row's image is in."""
        return str(self._index.paths[self._index.shard[row]])

    def _read(self, row: int) -> bytes:
        shard, length = int(self._index.shard[row]), int(self._index.length[row])
        try:
            file = self._files.get(shard)
            if file is None:
                file = self._open(shard)
            data = os.pread(file, length, int(self._index.offset[row]))
            if shard not in self._files:
                os.close(file)
        except OSError as error:
            raise DatasetError(
                f"{self.where(row)} cannot be read: {error.strerror or error}.",
                "A Parquet shard that can be read.",
                "Build or copy the dataset again.",
            ) from error
        if len(data) < length:
            raise DatasetError(
                f"{self.where(row)} is cut off.",
                "A Parquet shard that stays as it was opened.",
                "Build or copy the dataset again.",
            )
        return data

    def _open(self, shard: int) -> int:
        with self._lock:
            if shard not in self._files:
                file = os.open(self._index.paths[shard], os.O_RDONLY)
                if len(self._files) == MAX_OPEN_FILES:
                    return file
                self._files[shard] = file
            return self._files[shard]


def _close(files: dict[int, int]) -> None:
    for file in files.values():
        os.close(file)


class TableImages:
    """Images of a `datasets.Dataset`, whose Arrow table is on the disk or in memory."""

    def __init__(self, table: datasets.Dataset) -> None:
        self._table = table.select_columns(["image"]).with_format("arrow")
        self._name = ", ".join(sorted({str(file["filename"]) for file in table.cache_files})) or "a table in memory"

    def read(self, rows: Sequence[int]) -> Sequence[bytes | None]:
        """The encoded images of some rows."""
        return encoded(cast(pa.Table, self._table[list(rows)]), reads_files=True)

    def where(self, row: int) -> str:
        """The Arrow files."""
        return self._name


class HeldImages:
    """Encoded images in memory, of a stream."""

    def __init__(self, held: Sequence[bytes | None], name: str) -> None:
        self._held, self._name = held, name

    def read(self, rows: Sequence[int]) -> Sequence[bytes | None]:
        """The encoded images of some rows."""
        return [self._held[row] for row in rows]

    def where(self, row: int) -> str:
        """What is streamed."""
        return self._name


def encoded(table: pa.Table, *, reads_files: bool) -> list[bytes | None]:
    """Bytes of the images in a table's column `image`.

    Args:
        table: The table.
        reads_files: Where the table only names an image's file, read that; not what comes from another machine names.
    """
    rows = cast("list[dict[str, bytes | str | None] | None]", table["image"].to_pylist())
    found: list[bytes | None] = []
    for row in rows:
        data, path = cast("tuple[bytes | None, str | None]", (row["bytes"], row["path"]) if row else (None, None))
        if data is None and path and reads_files and os.path.isfile(path):  # noqa: PTH113  a pipe would never end
            with contextlib.suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
                data = file.read(MAX_FILE_BYTES)
        found.append(data)
    return found
