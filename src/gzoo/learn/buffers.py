"""Memory that is used again, for to take it anew costs half as much as to decode an image into it."""

from __future__ import annotations

import math
import weakref

import numpy as np
import numpy.typing as npt
import torch


class Recycler:
    """Tensors whose memory comes back when nothing holds them or a view of them any more.

    Args:
        is_pinned: Whether to take memory that a GPU can read by itself.
    """

    def __init__(self, *, is_pinned: bool = False) -> None:
        self._is_pinned = is_pinned
        self._free: list[npt.NDArray[np.uint8]] = []

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor with anything in it."""
        n_bytes = math.prod(shape) * dtype.itemsize
        block = self._block(n_bytes)
        # the tensor's storage holds exactly this array, and lets go of it with its last view
        held = block[:n_bytes]
        weakref.finalize(held, self._free.append, block).atexit = False
        return torch.from_numpy(held).view(dtype).view(shape)

    def _block(self, n_bytes: int) -> npt.NDArray[np.uint8]:
        while self._free:
            block = self._free.pop()  # one that is too small is given up: batches grow once, if at all
            if len(block) >= n_bytes:
                return block
        if self._is_pinned:
            return torch.empty(n_bytes, dtype=torch.uint8, pin_memory=True).numpy()
        return np.empty(n_bytes, np.uint8)
