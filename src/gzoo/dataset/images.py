"""Images of a dataset by row: as they are stored, and small ones for the grid."""

from __future__ import annotations

import os
import threading
import weakref
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import simplejpeg
from PIL import Image

from gzoo import files
from gzoo.dataset.index import ImageIndex
from gzoo.dataset.open import Dataset, reading
from gzoo.errors import DatasetError, ImageError, NotFoundError, raise_passing, reason
from gzoo.images.checks import READER_ERRORS, corrupt, is_jpeg, jpeg_header, jpeg_orientation, png_pixels, upright

THUMBNAIL_PIXELS = 320  # twice the width of a tile, of which the page shows the central 62%
MAX_AS_STORED = 32_768  # bytes; smaller images are shown as they are stored
QUALITY = 88
MAX_OPEN_FILES = 128
KEPT_GROUPS = 4  # row groups of shards without an index
COPY_AGAIN = "Rebuild the dataset or copy it again."


class Images:
    """Reads images by row; several threads may do so at once."""

    def __init__(self, dataset: Dataset) -> None:
        self._starts: list[int] = []
        self._splits: list[ImageIndex | list[tuple[Path, int, int, int]] | None] = []
        start = 0
        for split in dataset.splits:
            index = dataset.image_index(split)
            self._starts.append(start)
            if index is not None and len(index):
                self._splits.append(index)
            else:
                self._splits.append(_row_groups(dataset, split))
            start += dataset.n_galaxies[split]
        self.n_rows = start
        self.are_there = any(one is not None for one in self._splits)
        self._files: OrderedDict[Path, int] = OrderedDict()
        self._groups: OrderedDict[tuple[Path, int], list[bytes | None]] = OrderedDict()
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._files)

    def read(self, row: int) -> bytes:
        """Return the image of a row as it is stored.

        Raises:
            NotFoundError: The row does not exist or does not have an image.
            DatasetError: The shard cannot be read, or is not the one that was opened.
        """
        if not 0 <= row < self.n_rows:
            raise NotFoundError(f"Row {row} not found.", f"0 to {self.n_rows - 1:,}.")
        i = bisect_right(self._starts, row) - 1
        where, own = self._splits[i], row - self._starts[i]
        data = None
        if isinstance(where, ImageIndex):
            data = self._at(where.paths[where.shard[own]], int(where.offset[own]), int(where.length[own]))
        elif where:
            path, group, first, _ = next(one for one in where if own < one[2] + one[3])
            data = self._group(path, group)[own - first]
        if not data:
            raise NotFoundError(f"Row {row} does not have an image.")
        return data

    def thumbnail(self, row: int) -> bytes:
        """Return a small image of a row: as it is stored if that is small, otherwise reduced.

        Raises:
            ImageError: The image cannot be decoded.
        """
        data = self.read(row)
        return data if len(data) <= MAX_AS_STORED else reduced(data)

    def _at(self, path: Path, offset: int, length: int) -> bytes:
        try:
            with self._lock:
                file = self._files.get(path)
                if file is None:
                    while len(self._files) >= MAX_OPEN_FILES:
                        os.close(self._files.popitem(last=False)[1])
                    file = self._files[path] = os.open(path, files.READ_ONLY)
                file = os.dup(file)  # so that no other thread closes it meanwhile
            try:
                data = files.read_at(file, length, offset)
            finally:
                os.close(file)
        except OSError as error:
            raise_passing(path, error)
            raise DatasetError(f"Cannot read '{path}': {error.strerror or error}.", hint=COPY_AGAIN) from error
        if len(data) < length:
            raise DatasetError(f"Shard '{path}' is truncated.", hint=COPY_AGAIN)
        return data

    def _group(self, path: Path, group: int) -> list[bytes | None]:
        with self._lock:
            if (path, group) in self._groups:
                self._groups.move_to_end((path, group))
                return self._groups[path, group]
        with reading(path):
            cells = cast(
                "list[dict[str, Any] | None]",
                pq.ParquetFile(path).read_row_group(group, columns=["image"])["image"].to_pylist(),
            )
        found = [one["bytes"] if one else None for one in cells]
        with self._lock:
            self._groups[path, group] = found
            while len(self._groups) > KEPT_GROUPS:
                self._groups.popitem(last=False)
        return found


def _close(opened: OrderedDict[Path, int]) -> None:
    for file in opened.values():
        os.close(file)


def _row_groups(dataset: Dataset, split: str) -> list[tuple[Path, int, int, int]] | None:
    """Return path, number, first row and number of rows of each row group with images; None without images."""
    found: list[tuple[Path, int, int, int]] = []
    start = 0
    for shard in files.shards(dataset.folder, split):
        with reading(shard):
            footer = pq.read_metadata(shard)
        if not any(name.startswith("image.") for name in footer.schema.names) and "image" not in _top(shard):
            return None
        for group in range(footer.num_row_groups):
            n = footer.row_group(group).num_rows
            found.append((shard, group, start, n))
            start += n
    return found


def _top(shard: Path) -> list[str]:
    return pq.read_schema(shard).names


def content_type(data: bytes) -> str:
    """Return the media type of an image."""
    return "image/jpeg" if is_jpeg(data) else "image/png"


def reduced(data: bytes) -> bytes:
    """Return an image as a JPEG whose shorter side has about `THUMBNAIL_PIXELS` pixels.

    Raises:
        ImageError: The image cannot be decoded.
    """
    size = THUMBNAIL_PIXELS
    try:
        if is_jpeg(data):
            height, width, _ = jpeg_header(data)
            part = next(n for n in (8, 4, 2, 1) if n == 1 or min(height // n, width // n) >= size)
            pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=-(-height // part), min_width=-(-width // part))
            pixels = upright(pixels, jpeg_orientation(data))
        else:
            pixels = png_pixels(data)
        factor = size / min(pixels.shape[:2])
        if factor < 1:
            shape = (max(round(pixels.shape[1] * factor), 1), max(round(pixels.shape[0] * factor), 1))
            pixels = np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.BILINEAR, reducing_gap=2.0))
        return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), QUALITY, "RGB", "420"))
    except ImageError:
        raise
    except READER_ERRORS as error:
        raise corrupt(reason(error)) from error
