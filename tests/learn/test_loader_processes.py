"""A loader in other processes and modes: forked, pickled, in a DataLoader, under inference mode; and its memory."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from loader_processes import Wrapped

from gzoo.errors import InputError
from gzoo.learn.loader import Loader, loader


def ids_of(batches: Loader) -> list[str]:
    return [id_str for batch in batches for id_str in batch["id_str"]]


def in_a_fork(work: Callable[[], str], tmp_path: Path) -> str:
    """Return what a function returns in a forked process, which is ended after 60 seconds."""
    out = tmp_path / "said"
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        try:
            out.write_text(work())
        except BaseException as error:
            out.write_text(f"{type(error).__name__}: {error}")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "the fork hangs"
    return out.read_text()


def given_as(way: str, folder: Path) -> Any:
    return folder if way == "folder" else datasets.load_dataset(str(folder), split="train", streaming=way == "stream")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:os.fork:RuntimeWarning")  # the latter of JAX
@pytest.mark.parametrize("way", ["folder", "table", "stream"])
def test_a_loader_that_was_used_can_be_used_in_a_fork(dataset: Path, tmp_path: Path, way: str) -> None:
    batches = loader(given_as(way, dataset), 8, 16, seed=1, workers=2, augment="train")
    ids = ids_of(batches)
    batches.epoch = 0
    said = in_a_fork(lambda: " ".join(ids_of(batches)), tmp_path)
    if way == "stream":
        assert said.startswith("InputError: A stream cannot be read in a forked process")
    else:
        assert said.split() == ids
    steps = iter(batches)
    next(steps)
    assert in_a_fork(lambda: str(next(steps)), tmp_path).startswith("InputError: This loop over a loader was begun")


@pytest.mark.parametrize("way", ["folder", "table", "stream"])
def test_a_loader_can_be_pickled_within_an_epoch(dataset: Path, tmp_path: Path, way: str) -> None:
    cache = tmp_path if way == "folder" else None
    batches = loader(given_as(way, dataset), 8, 16, seed=1, augment="train", cache_dir=cache)
    steps = iter(batches)
    next(steps)
    state = batches.state_dict()
    other = pickle.loads(pickle.dumps(batches))
    other.load_state_dict(state)
    for mine, theirs in zip(steps, other, strict=True):
        assert mine["id_str"] == theirs["id_str"]
        assert torch.equal(mine["image"], theirs["image"])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:os.fork:RuntimeWarning")  # the latter of JAX
def test_a_data_loader_with_workers_is_refused(dataset: Path) -> None:
    batches = loader(dataset, 8, 16)
    alone = torch.utils.data.DataLoader(Wrapped(batches), batch_size=None)
    assert [batch["id_str"] for batch in alone] == [batch["id_str"] for batch in batches]
    with pytest.raises(InputError, match="cannot be used in a worker of a DataLoader"):
        list(torch.utils.data.DataLoader(Wrapped(batches), batch_size=None, num_workers=2))


def test_images_are_augmented_under_inference_mode(dataset: Path) -> None:
    batches, same = (loader(dataset, 8, 16, seed=1, augment="train") for _ in range(2))
    with torch.inference_mode():
        found = list(batches)
        taken = batches.take([0, 1])["image"]  # type: ignore[arg-type]
    assert torch.equal(taken, same.take([0, 1])["image"])  # type: ignore[arg-type]
    for there, here in zip(found, same, strict=True):
        assert torch.equal(there["image"], here["image"])
    again = found[0]["image"]
    del found
    again.mul_(2)  # what remains can be used outside


def test_memory_of_released_batches_is_given_back(dataset: Path) -> None:
    batches = loader(dataset, 1, 16, workers=1)
    held = list(batches)
    n = len(held)
    del held
    free = batches._buffers._free  # pyright: ignore[reportPrivateUsage]
    assert 0 < len(free) < n / 2
