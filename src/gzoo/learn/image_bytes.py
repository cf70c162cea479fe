"""Readers of encoded images: from Parquet shards, from tables of `datasets`, and from memory.

`read` returns the encoded images of some rows, None where an image is missing; several threads may call it at once.
`location` returns the name of the file that contains a row's image.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import pyarrow as pa

from gzoo import files
from gzoo.dataset.index import ImageIndex
from gzoo.errors import DatasetError, ImageError, raise_passing
from gzoo.images.archives import MAX_FILE_BYTES

if TYPE_CHECKING:
    import datasets

MAX_OPEN_FILES = 256


class ShardReader:
    """Images that are read at known offsets in Parquet shards."""

    def __init__(self, index: ImageIndex) -> None:
        self._index = index
        self._files: dict[int, int] = {}
        weakref.finalize(self, _close_all, self._files)

    def read(self, rows: Sequence[int]) -> Sequence[bytes | None]:
        """Return the encoded images of some rows."""
        return [self._read(row) for row in rows]

    def location(self, row: int) -> str:
        """Return the path of the shard that contains a row's image."""
        return str(self._index.paths[self._index.shard[row]])

    def _read(self, row: int) -> bytes:
        shard, length = int(self._index.shard[row]), int(self._index.length[row])
        hint = "Rebuild the dataset or copy it again."
        try:
            file = self._files.get(shard)
            if file is None:
                file = self._open(shard)
            data = files.read_at(file, length, int(self._index.offset[row]))
            if shard not in self._files:
                os.close(file)
        except OSError as error:
            raise_passing(self.location(row), error)
            message = f"Cannot read '{self.location(row)}': {error.strerror or error}."
            raise DatasetError(message, hint=hint) from error
        if len(data) < length:
            raise DatasetError(f"Shard '{self.location(row)}' is truncated.", hint=hint)
        return data

    def _open(self, shard: int) -> int:
        file = os.open(self._index.paths[shard], files.READ_ONLY)
        if len(self._files) >= MAX_OPEN_FILES:
            return file
        kept = self._files.setdefault(shard, file)
        if kept != file:  # another thread was faster; a lock could stay locked for ever in a forked process
            os.close(file)
        return kept

    def __reduce__(self) -> tuple[type[ShardReader], tuple[ImageIndex]]:
        """Open the files again in another process."""
        return ShardReader, (self._index,)


def _close_all(files: dict[int, int]) -> None:
    for file in files.values():
        os.close(file)


class TableReader:
    """Images of a `datasets.Dataset`, whose Arrow table is on disk or in memory."""

    def __init__(self, table: datasets.Dataset) -> None:
        self._table = table.select_columns(["image"]).with_format("arrow")
        self._name = ", ".join(sorted({str(file["filename"]) for file in table.cache_files})) or "a table in memory"

    def read(self, rows: Sequence[int]) -> Sequence[bytes | None]:
        """Return the encoded images of some rows."""
        return encoded_images(cast(pa.Table, self._table[list(rows)]), reads_files=True)

    def location(self, row: int) -> str:
        """Return the paths of the Arrow files."""
        return self._name


@dataclass(frozen=True, slots=True)
class MemoryReader:
    """Encoded images in memory, from part of a stream."""

    images: Sequence[bytes | None]
    name: str

    def read(self, rows: Sequence[int]) -> Sequence[bytes | None]:
        """Return the encoded images of some rows."""
        return [self.images[row] for row in rows]

    def location(self, row: int) -> str:
        """Return the name of the stream."""
        return self.name


class ImageReader(Protocol):
    """Encoded images by their rows; several threads may read at once."""

    def read(self, rows: Sequence[int]) -> Sequence[bytes | ImageError | None]:
        """Return the encoded images of some rows; None where one is missing, or why it cannot be read."""
        ...

    def location(self, row: int) -> str:
        """Return the name of the file that contains a row's image."""
        ...


def encoded_images(table: pa.Table, *, reads_files: bool) -> list[bytes | None]:
    """Return the encoded images in a table's column `image`.

    Args:
        table: Table with a column `image`.
        reads_files: Whether to read the files of images that the table only names. Pass False for tables from another
            machine, which could name any file on this one.
    """
    images: list[bytes | None] = []
    for row in cast("list[dict[str, Any] | None]", table["image"].to_pylist()):
        data, path = (row["bytes"], row["path"]) if row else (None, None)
        if data is None and path and reads_files and os.path.isfile(path):  # noqa: PTH113  reading a pipe could block
            with contextlib.suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
                data = file.read(MAX_FILE_BYTES)
        images.append(data)
    return images
