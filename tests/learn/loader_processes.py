"""Work of the processes that `test_loader.py` starts: a module of its own, so that they import little else."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from gzoo.learn.cache import ImageCache
from gzoo.learn.loader import Loader, loader


def run_together(work: Callable[..., None], arguments: Iterable[tuple[object, ...]]) -> None:
    """Run a function in several processes at once, forked from one that has imported torch already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gzoo.learn.loader"])
    processes = [context.Process(target=work, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
        assert process.exitcode == 0


def read_epoch(folder: str, rank: int, world_size: int, rendezvous: str, out: str) -> None:
    """Read one process's part of an epoch, and write its identifiers and the summed batch sizes of all processes."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    found: list[tuple[list[str], int]] = []
    for batch in loader(folder, 5, 16, seed=4, augment="train", workers=1):
        n = torch.tensor([len(batch["id_str"])])
        torch.distributed.all_reduce(n)  # blocks if a process has a batch more than another
        found.append((batch["id_str"], int(n)))
    Path(out).write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def fill_cache(folder: str, seed: int) -> None:
    """Read 200 images from a cache, in random order, and write those that are missing."""
    cache = ImageCache(Path(folder), "x", 200, 16)
    out = np.empty((16, 16, 3), np.uint8)
    for row in np.random.default_rng(seed).permutation(200):
        wanted = np.full((16, 16, 3), row, np.uint8)
        if cache.get(int(row), out):
            assert np.array_equal(out, wanted)
        else:
            cache.put(int(row), wanted)


class Wrapped(torch.utils.data.IterableDataset[object]):
    """A loader as a data set of torch."""

    def __init__(self, batches: Loader) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[object]:
        return iter(self.batches)
