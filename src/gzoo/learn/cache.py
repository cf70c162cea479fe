"""Decoded images kept in a file, for second and later epochs.

One file holds the images of one split at one size, row after row, behind a number for each: the sum of its pixels,
with which an image that did not reach the disk whole is known for what it is. Processes may share it: what two of them
write in the same place are the same bytes, for pixels follow from the dataset and the size, which the file's name says.
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
from gzoo.learn.decoding import RULE, Pixels

CACHE_BYTES = 50_000_000_000
_SUFFIX = ".images"
_ODD = 0x9E3779B97F4A7C15


class ImageCache:
    """Images at one size, memory-mapped.

    Args:
        folder: Where caches are kept; it is made if need be.
        data: What names the images: digest of the dataset and split.
        n_rows: How many there are.
        size: Their width and height in pixels.
        max_bytes: What all files in the folder may take together: older ones are removed first, those least recently
            used; of this one only as many images are kept as fit.

    Raises:
        InputError: The folder cannot be written to.
    """

    def __init__(self, folder: Path, data: object, n_rows: int, size: int, max_bytes: int = CACHE_BYTES) -> None:
        each = size * size * 3
        self.n_kept = max(0, min(n_rows, max_bytes // (each + 8)))
        self.path = folder / f"{files.digest([RULE, data, n_rows, size, self.n_kept])[:32]}{_SUFFIX}"
        n_bytes = self.n_kept * (each + 8)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _make_room(folder, self.path, max_bytes - n_bytes)
            mapped = _mapped(self.path, n_bytes)
        except OSError as error:
            raise InputError(
                f"Images cannot be kept in {folder}: {error.strerror or error}.",
                "A folder on this machine that can be written to.",
                "Give another folder for the cache, or none.",
            ) from error
        self._sums: npt.NDArray[np.uint64] = np.frombuffer(mapped, np.uint64, self.n_kept)
        self._images: Pixels = np.frombuffer(mapped, np.uint8, offset=self.n_kept * 8).reshape(-1, size, size, 3)

    def get(self, row: int, out: Pixels) -> bool:
        """Copy an image to `out`, shape (size, size, 3); False where it is not there."""
        if row >= self.n_kept or not (known := self._sums[row]):
            return False
        out[:] = self._images[row]
        return bool(_sum(out) == known)

    def put(self, row: int, pixels: Pixels) -> None:
        """Keep an image, if there is room for it."""
        if row < self.n_kept:
            self._images[row] = pixels
            self._sums[row] = _sum(pixels)  # last, so that another process never takes half an image for a whole


def _mapped(path: Path, n_bytes: int) -> mmap.mmap | bytearray:
    """A file of that length, made of zeros if it is not there yet."""
    if not n_bytes:
        return bytearray()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if os.fstat(descriptor).st_size != n_bytes:  # another process may do just the same just now
            try:
                if hasattr(os, "posix_fallocate"):  # not on macOS
                    os.posix_fallocate(descriptor, 0, n_bytes)  # a full disk must show here: a map has no errors
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                    path.unlink(missing_ok=True)
                    raise
            os.ftruncate(descriptor, n_bytes)  # where room cannot be taken ahead
        os.utime(descriptor)  # used now
        return mmap.mmap(descriptor, n_bytes)
    finally:
        os.close(descriptor)


def _sum(pixels: Pixels) -> np.uint64:
    """A number, not 0, that changes if a page of the file is missing."""
    flat = pixels.reshape(-1)
    n = len(flat) // 8 * 8
    total = flat[:n].view(np.uint64).sum(dtype=np.uint64) + flat[n:].sum(dtype=np.uint64)
    return np.uint64(int(total) * _ODD % 2**64 | 1)


def _make_room(folder: Path, keep: Path, n_bytes: int) -> None:
    """Remove caches, those longest unused first, until the others take no more than so many bytes."""
    others: list[tuple[float, int, Path]] = []
    for path in folder.glob(f"*{_SUFFIX}"):
        if path != keep:
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                facts = path.stat()
                others.append((facts.st_mtime, facts.st_size, path))
    taken = sum(size for _, size, _ in others)
    for _, size, path in sorted(others):
        if taken <= n_bytes:
            return
        path.unlink(missing_ok=True)  # processes that have it open keep it until they are done
        taken -= size
