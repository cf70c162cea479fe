"""How the galaxies of an epoch are dealt out to batches and processes, and the seed of each galaxy's augmentation.

Step by step, all processes together take the next galaxies of one order. A position in an epoch is therefore a number
of galaxies, which any number of processes can start from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError
from gzoo.trees.tree import IntArray

Cursor = Mapping[str, object]
"""Position within an epoch, as JSON values.

`dealt_from`: number of galaxies before those that were dealt out together. `batch`: number of batches of each process
since. `n_shown`: number of galaxies before the position. `world_size`: number of processes among which they were dealt.
"""
START: Cursor = {"dealt_from": 0, "batch": 0, "n_shown": 0, "world_size": 1}


def resumed(cursor: Cursor, world_size: int) -> tuple[int, int]:
    """Return from which galaxy on to deal, and how many batches of each process to leave out then.

    Another number of processes deals the rest of the epoch again.
    """
    if cursor["world_size"] == world_size:
        return cast(int, cursor["dealt_from"]), cast(int, cursor["batch"])
    return cast(int, cursor["n_shown"]), 0


def n_batches(n: int, batch_size: int, world_size: int) -> int:
    """Return the number of batches of each process.

    No batch is empty, and none has a single galaxy unless `batch_size` is 1: neither has a variance, which batch
    normalisation needs. Where that is impossible otherwise, batches have a galaxy or two more than `batch_size`.

    >>> [n_batches(n, 2, 1) for n in (4, 5, 6, 1)]
    [2, 2, 3, 1]
    """
    return max(1, min(math.ceil(n / (batch_size * world_size)), n // (min(batch_size, 2) * world_size)))


def deal(n: int, batch_size: int, rank: int, world_size: int, *, n_before: int = 0) -> tuple[IntArray, IntArray]:
    """Deal out `n` galaxies.

    Args:
        n: Number of galaxies.
        batch_size: Number of galaxies in a batch.
        rank: Number of the process.
        world_size: Number of processes.
        n_before: Number of galaxies of the epoch that were shown before, for the message.

    Returns:
        First galaxy and end of each batch of the process, shape (batch, 2), and the number of galaxies that all
        processes have together after each batch. Sizes of batches differ by at most one.

    Raises:
        InputError: There are more processes than galaxies.
    """
    if n < world_size:
        rest = " that are left of an epoch" if n_before else ""
        raise InputError(
            f"Cannot divide {n} galaxies{rest} among {world_size} processes.",
            "at least one galaxy for each process.",
            "Use fewer processes to resume." if n_before else "Use fewer processes or a larger dataset.",
        )
    n_parts = n_batches(n, batch_size, world_size) * world_size
    ends = np.arange(n_parts + 1) * n // n_parts
    return np.stack([ends[rank:-1:world_size], ends[rank + 1 :: world_size]], 1), ends[world_size::world_size]


def augmentation_seeds(seed: int | None, epoch: int, rows: IntArray) -> IntArray:
    """Return a seed for each galaxy in an epoch; without `seed`, the same in all epochs."""
    start = np.array([0 if seed is None else seed + 1, 0 if seed is None else epoch + 1], np.uint64)
    with np.errstate(over="ignore"):
        mixed = _splitmix(_splitmix(start[:1]) + start[1:])
        return (_splitmix(mixed + rows.astype(np.uint64)) >> np.uint64(1)).astype(np.int64)


def _splitmix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the numbers of SplitMix64 at these positions (Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
