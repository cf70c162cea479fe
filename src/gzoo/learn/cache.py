"""A cache of decoded images on disk, for second and later epochs.

One file contains the images of one split at one size, row after row, after one checksum per image, which reveals
images that did not reach the disk completely. Processes may share the file: two of them write the same bytes to the
same position, because pixels depend only on the dataset and the size, which determine the file's name.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gzoo import files
from gzoo.errors import InputError
from gzoo.images.checks import Pixels
from gzoo.learn.decoding import RULE

CACHE_SIZE_BYTES = 50_000_000_000
_SUFFIX = ".images"
_ODD_FACTOR = 0x9E3779B97F4A7C15


class ImageCache:
    """Decoded images at one size in a memory-mapped file.

    Args:
        folder: Folder for cache files. It is created if needed.
        data: JSON value that identifies the images: the fingerprint of dataset and split.
        n_rows: Number of images in the split.
        size: Width and height in pixels.
        max_bytes: Maximum size of all files in the folder. The least recently used files are removed first; of this
            split, as many images are kept as fit.

    Raises:
        InputError: The folder is not writable.
    """

    def __init__(self, folder: Path, data: object, n_rows: int, size: int, max_bytes: int = CACHE_SIZE_BYTES) -> None:
        self._arguments = folder, data, n_rows, size, max_bytes
        image_bytes = size * size * 3
        self.n_kept = max(0, min(n_rows, max_bytes // (image_bytes + 8)))
        self.path = folder / f"{files.digest([RULE, data, n_rows, size, self.n_kept])[:32]}{_SUFFIX}"
        n_bytes = self.n_kept * (image_bytes + 8)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _make_room(folder, self.path, max_bytes - n_bytes)
            mapped = _map_file(self.path, n_bytes)
        except OSError as error:
            raise InputError(
                f"Cannot write the image cache in '{folder}': {error.strerror or error}.",
                "a writable folder on this machine.",
                "Choose another cache folder, or omit it.",
            ) from error
        self._checksums: npt.NDArray[np.uint64] = np.frombuffer(mapped, np.uint64, self.n_kept)
        self._images: Pixels = np.frombuffer(mapped, np.uint8, offset=self.n_kept * 8).reshape(-1, size, size, 3)

    def __reduce__(self) -> tuple[type[ImageCache], tuple[object, ...]]:
        """Map the same file in another process."""
        return ImageCache, self._arguments

    def get(self, row: int, out: Pixels) -> bool:
        """Copy an image to `out`, shape (size, size, 3), and return whether the cache contains it."""
        if row >= self.n_kept or not (known := self._checksums[row]):
            return False
        out[:] = self._images[row]
        return bool(_checksum(out) == known)

    def put(self, row: int, pixels: Pixels) -> None:
        """Store an image if there is room for it."""
        if row < self.n_kept:
            self._images[row] = pixels
            self._checksums[row] = _checksum(pixels)  # last, so that no process takes half an image for a complete one


def _map_file(path: Path, n_bytes: int) -> mmap.mmap | bytearray:
    """Map a file of that length, which is filled with zeros if it does not exist yet."""
    if not n_bytes:
        return bytearray()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
    try:
        if os.fstat(descriptor).st_size != n_bytes:  # another process may be doing the same
            try:
                if hasattr(os, "posix_fallocate"):  # missing on macOS
                    os.posix_fallocate(descriptor, 0, n_bytes)  # detects a full disk now: writes to a map cannot fail
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                    path.unlink(missing_ok=True)
                    raise
            os.ftruncate(descriptor, n_bytes)  # for file systems without preallocation
        os.utime(path)  # marks the file as recently used
        return mmap.mmap(descriptor, n_bytes)
    finally:
        os.close(descriptor)


def _checksum(pixels: Pixels) -> np.uint64:
    """Return a nonzero number that changes if a page of the file is missing."""
    flat = pixels.reshape(-1)
    n = len(flat) // 8 * 8
    total = flat[:n].view(np.uint64).sum(dtype=np.uint64) + flat[n:].sum(dtype=np.uint64)
    return np.uint64(int(total) * _ODD_FACTOR % 2**64 | 1)


def _make_room(folder: Path, keep: Path, n_bytes: int) -> None:
    """Remove the least recently used other caches until the rest takes at most `n_bytes`."""
    others: list[tuple[float, int, Path]] = []
    for path in folder.glob(f"*{_SUFFIX}"):
        if path != keep:
            with contextlib.suppress(FileNotFoundError):  # another process has removed it
                status = path.stat()
                others.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in others)
    for _, size, path in sorted(others):
        if total <= n_bytes:
            return
        path.unlink(missing_ok=True)  # processes that have the file open can go on reading it
        total -= size
