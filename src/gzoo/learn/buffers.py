"""A pool of image buffers: allocating a new buffer costs half as much as decoding an image into it."""

from __future__ import annotations

import math
import weakref

import numpy as np
import numpy.typing as npt
import torch


class BufferPool:
    """Tensors whose memory is reused once neither they nor any view of them exist.

    Args:
        is_pinned: Whether to allocate page-locked memory, which a GPU can read directly.
        max_free: Number of unused buffers to keep at most; more are given back to the system.
    """

    def __init__(self, *, is_pinned: bool = False, max_free: int = 4) -> None:
        self._is_pinned, self._max_free = is_pinned, max_free
        self._free: list[npt.NDArray[np.uint8]] = []

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return an uninitialised tensor."""
        n_bytes = math.prod(shape) * dtype.itemsize
        block = self._block(n_bytes)
        # The storage of the tensor references exactly this array, and releases it with the last view.
        owned = block[:n_bytes]
        weakref.finalize(owned, self._release, block).atexit = False
        with torch.inference_mode(False):  # threads write into it, and none of them is in the mode of the caller
            return torch.from_numpy(owned).view(dtype).view(shape)

    def _release(self, block: npt.NDArray[np.uint8]) -> None:
        if len(self._free) < self._max_free:
            self._free.append(block)

    def _block(self, n_bytes: int) -> npt.NDArray[np.uint8]:
        while self._free:
            block = self._free.pop()  # blocks that are too small are discarded: the batch size grows once, if at all
            if len(block) >= n_bytes:
                return block
        if self._is_pinned:
            return torch.empty(n_bytes, dtype=torch.uint8, pin_memory=True).numpy()
        return np.empty(n_bytes, np.uint8)
