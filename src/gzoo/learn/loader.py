"""Batches for a model, as fast as images can be decoded.

Threads read, decode, resize and augment the images of the next batches while a model works on this one; all of that
lets go of Python's lock. Votes are one matrix in memory; images are read by their place in the shards.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, cast

import numpy as np
import torch

from gzoo.dataset.open import Dataset
from gzoo.errors import ImageError, InputError
from gzoo.images.checks import Scratch
from gzoo.learn.buffers import Recycler
from gzoo.learn.cache import CACHE_BYTES
from gzoo.learn.decoding import Pixels, decode, decode_into
from gzoo.learn.inputs import Source, Split, Stream, Task, source_of
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.votes import Votes

if TYPE_CHECKING:
    import datasets
    import polars as pl

    from gzoo.learn.augmentation import Augmentation, Plan

MAX_AT_ONCE = 16  # images that a thread takes at a time


class Batch(TypedDict):
    """Some galaxies.

    image: uint8, shape (galaxy, 3, size, size), its memory in the order (galaxy, y, x, colour); augmented: float32, 0
        to 1.
    votes: int32, shape (galaxy, answer).
    totals: People asked, int32, shape (galaxy, question).
    row: Which row of the split, int64; of a stream, the place in this epoch's stream.
    id: Identifier of each galaxy.
    seed: Of its augmentation in this epoch, int64.
    """

    image: torch.Tensor
    votes: torch.Tensor
    totals: torch.Tensor
    row: torch.Tensor
    id: list[str]
    seed: torch.Tensor


def loader(
    dataset: Dataset | Path | str | datasets.Dataset | datasets.IterableDataset,
    batch_size: int,
    size: int,
    *,
    split: str = "train",
    augment: Augmentation | str | None = None,
    seed: int | None = None,
    rows: IntArray | None = None,
    workers: int | None = None,
    cache: Path | str | None = None,
    cache_bytes: int = CACHE_BYTES,
    corrupt: Literal["stop", "skip"] = "stop",
    device: torch.device | str = "cpu",
    decode_on_device: bool = False,
    rank: int | None = None,
    n_ranks: int | None = None,
    streaming: bool = False,
) -> Loader:
    """Batches of images and votes for a PyTorch loop or for Lightning; iterate over it once an epoch.

    The same seed gives the same batches whatever the number of workers. In a distributed run each process takes its
    share: together they see each galaxy once an epoch, all in the same number of batches, whose sizes differ by at
    most one. `state_dict` and `load_state_dict` go on at any batch with what would have come.

    Args:
        dataset: A folder, a campaign's name, `owner/name` on the Hub, what `gzoo.open_dataset` or `gzoo.load` returns,
            or any `datasets.Dataset` or `IterableDataset` with the columns of a campaign.
        batch_size: Galaxies in a batch, at most: they are dealt out evenly, for a last batch of one galaxy would have
            no variance to normalise by.
        size: Width and height of the images in pixels.
        split: Which split, where `dataset` has several.
        augment: What happens to images, or the name of a preset; see `gzoo.learn.augmentation`. Each galaxy has a
            seed of its own, new in each epoch, from which its augmentation follows wherever it is computed.
        seed: Of order and augmentation, which are new each epoch. None: the order of the split, and the same
            augmentation each time. Streams are shuffled in windows of about 2,000 galaxies, and across their shards.
        rows: Which rows of the split; all when None. Not for streams.
        workers: Threads; as many as there are cores when None.
        cache: Folder on this machine to keep decoded images in, for later epochs and other processes. Not for
            streams.
        cache_bytes: What the files there may take together.
        corrupt: What to do about an image that cannot be decoded: stop with an error that names it, or skip it, which
            `Loader.skipped` tells.
        device: Where batches go. Images are augmented there.
        decode_on_device: Decode JPEG there too (nvJPEG on an NVIDIA GPU), with small differences from other decoders.
        rank: Which of the processes of a distributed run this is; as torch.distributed says when None.
        n_ranks: How many there are.
        streaming: Read a dataset on the Hub as you go rather than first copying it all.

    Raises:
        NotFoundError: The dataset or split is not there.
        DatasetError: It is not a dataset, or a shard cannot be read.
        InputError: An argument cannot be used.
        AccessError: The Hub does not have it, does not give it, or cannot be reached.
        ImageError: While iterating: an image cannot be decoded; the message names galaxy and file.

    >>> batches = loader("gz2", batch_size=32, size=224, augment="train", seed=0)  # doctest: +SKIP
    >>> for batch in batches:  # doctest: +SKIP
    ...     batch["image"], batch["votes"]
    """
    for name, value in (("batch_size", batch_size), ("size", size), ("workers", 1 if workers is None else workers)):
        if value < 1:
            raise InputError(f"{name} is {value}.", "At least 1.", f"Give a larger {name}.")
    if corrupt not in {"stop", "skip"}:
        raise InputError(f"corrupt is '{corrupt}'.", "'stop' or 'skip'.", "Choose one.")
    if seed is not None and not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}.", "A whole number from 0 to 2**63 - 1.", "Give another seed.")
    if (rank is None) != (n_ranks is None) or (rank is not None and n_ranks is not None and not 0 <= rank < n_ranks):
        raise InputError(f"rank is {rank} of {n_ranks}.", "Both, rank from 0 to n_ranks - 1, or neither.", "Give both.")
    from gzoo.learn.augmentation import augmentation

    augment = augmentation(augment) if isinstance(augment, str) else augment
    source = source_of(dataset, split, rows=rows, seed=seed, streaming=streaming)
    made = Loader(
        source,
        batch_size,
        size,
        augment=augment,
        workers=workers,
        corrupt=corrupt,
        device=torch.device(device),
        decode_on_device=decode_on_device,
        ranks=None if rank is None or n_ranks is None else (rank, n_ranks),
    )
    if cache is not None:
        if not isinstance(source, Split) or decode_on_device:
            raise InputError(
                "Images of a stream, or decoded on the device, are not kept.", "No cache.", "Leave `cache` away."
            )
        source.keep(Path(cache), made.decoded_size, cache_bytes)
    return made


@dataclass(slots=True)
class _Underway:
    """A batch that is being made."""

    task: Task
    augment: Augmentation | None
    image: torch.Tensor
    plan: Future[Plan] | None = None
    work: list[Future[None]] = field(default_factory=list)
    encoded: dict[int, bytes] = field(default_factory=dict)
    bad: dict[int, ImageError] = field(default_factory=dict)


class Loader:
    """Galaxies in batches; made by `gzoo.loader`.

    Attributes:
        size: Width and height of the images in pixels.
        decoded_size: The same before augmentation, which may zoom in: a little more than it needs, where the first
            image of a split can be decoded to that without being resized.
        batch_size: Galaxies in a batch, at most.
        skipped: Why images that were passed over could not be decoded, by identifier.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        size: int,
        *,
        augment: Augmentation | None = None,
        workers: int | None = None,
        corrupt: Literal["stop", "skip"] = "stop",
        device: torch.device | None = None,
        decode_on_device: bool = False,
        ranks: tuple[int, int] | None = None,
    ) -> None:
        self.source, self.batch_size, self.size, self.augment = source, batch_size, size, augment
        least, most = (size, size) if augment is None else augment.source_range(size)
        self.decoded_size = source.decoded_size(least, most) if isinstance(source, Split) else least
        self.workers = workers or _n_cores()
        self.skipped: dict[str, str] = {}
        self._corrupt, self._ranks = corrupt, ranks
        self._device = device or torch.device("cpu")
        self._decodes_there = decode_on_device
        self._epoch, self._at, self._is_underway = 0, source.start, False
        self._memory = Recycler(is_pinned=self._device.type == "cuda")
        self._own = threading.local()
        self._sent: deque[tuple[torch.cuda.Event, torch.Tensor]] = deque()

    # --- what is in it ------------------------------------------------------------------------------------------------

    @property
    def tree(self) -> Tree:
        """The questions of the votes."""
        return self.source.tree

    @property
    def keys(self) -> pl.DataFrame:
        """`dataset_name` and `id_str` of its galaxies, in the order of the split, images untouched."""
        return self._split.keys

    @property
    def votes(self) -> Votes:
        """All votes, in the order of the split, images untouched."""
        return self._split.votes

    @property
    def rows(self) -> IntArray:
        """Which rows of the split it has."""
        return self._split.rows

    @property
    def _split(self) -> Split:
        if not isinstance(self.source, Split):
            raise InputError("Of a stream nothing is known ahead.", "A dataset on this machine.", "Do not stream it.")
        return self.source

    def __len__(self) -> int:
        """Batches in an epoch, the same for every process.

        Raises:
            TypeError: It is a stream, whose end is not known.
        """
        if isinstance(self.source, Stream):
            raise TypeError("a stream has no length")
        return self.source.n_batches(self.batch_size, self._rank()[1])

    # --- where it is --------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch under way, or else the next; the first is 0. It may be set, and then begins anew."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch, self._at, self._is_underway = epoch, self.source.start, False

    def state_dict(self) -> dict[str, object]:
        """Where it is: what `load_state_dict` of a loader with the same arguments goes on with."""
        return {"epoch": self._epoch, "at": dict(self._at), "data": self.source.digest, "batch_size": self.batch_size}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on where another loader was, with the batch behind the last that it gave.

        Raises:
            InputError: The state is that of other data or other batches.
        """
        for name, mine in (("data", self.source.digest), ("batch_size", self.batch_size)):
            if state.get(name) != mine:
                raise InputError(
                    f"The state is of a loader with {name} {state.get(name)}; this one has {mine}.",
                    "A loader with the same arguments.",
                    "Make it as the first was made.",
                )
        self._epoch = cast(int, state["epoch"])
        self._at, self._is_underway = dict(cast("dict[str, object]", state["at"])), False

    # --- batches ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """The batches of an epoch: the rest of the one whose state was loaded, else a new one."""
        if self._is_underway:  # and was left before its end
            self.epoch = self._epoch + 1
        epoch, rank = self._epoch, self._rank()
        tasks = self.source.tasks(epoch, self._at, self.batch_size, *rank)
        # enough of them that all threads have work while one is handed over
        n_ahead = 2 + 2 * self.workers * MAX_AT_ONCE // max(self.batch_size, MAX_AT_ONCE)
        waiting: deque[_Underway] = deque()
        self._is_underway = True
        try:
            while True:
                while len(waiting) < n_ahead and (task := next(tasks, None)):
                    waiting.append(self._begin(task, self.augment))
                if not waiting:
                    break
                task, batch = self._end(waiting.popleft())
                self._at = task.after
                yield batch
                del batch
            self.epoch = epoch + 1
        finally:
            for one in waiting:
                for future in one.work:
                    future.cancel()

    def take(self, rows: IntArray) -> Batch:
        """The batch of some of the galaxies, by their places among `rows`, not augmented."""
        return self._end(self._begin(self._split.task(rows, self._epoch), None))[1]

    def _rank(self) -> tuple[int, int]:
        if self._ranks is not None:
            return self._ranks
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """The threads, each of which uses one core: torch would else start more of them in each."""
        n_before, begun = torch.get_num_threads(), threading.Barrier(self.workers + 1)

        def begin() -> None:
            torch.set_num_threads(1)
            torch.get_num_threads()  # else the thread takes over what is set below when it first uses it
            begun.wait()

        pool = ThreadPoolExecutor(self.workers, "gzoo-loader", begin)
        for _ in range(self.workers):
            pool.submit(int)
        begun.wait()
        torch.set_num_threads(n_before)  # threads that others start take over what was set last
        return pool

    def _begin(self, task: Task, augment: Augmentation | None) -> _Underway:
        """Give a batch to the threads."""
        n, host = len(task.rows), self._device.type == "cpu"
        if self._decodes_there:
            image = torch.empty(0)
        elif augment is not None and host:
            image = self._memory.take((n, 3, self.size, self.size), torch.float32)
        else:
            image = self._memory.take((n, self.decoded_size, self.decoded_size, 3), torch.uint8)
        one = _Underway(task, augment, image)
        if augment is not None and image.dtype == torch.float32:
            seeds = torch.from_numpy(task.seeds)
            one.plan = self._pool.submit(augment.plan, seeds, self.decoded_size, self.size)
        step = max(1, min(MAX_AT_ONCE, -(-n // (2 * self.workers))))
        for start in range(0, n, step):
            places = range(start, min(start + step, n))
            one.work.append(self._pool.submit(self._read if self._decodes_there else self._fill, one, places))
        return one

    def _fill(self, one: _Underway, places: range) -> None:
        """Make some images of a batch; in a thread."""
        task, kept, size = one.task, one.task.cache, self.decoded_size
        if one.plan is None:
            pixels = cast(Pixels, one.image.numpy())[places.start : places.stop]
        else:
            n_bytes = len(places) * size * size * 3
            pixels = self._scratch("pixels").of(n_bytes)[:n_bytes].reshape(len(places), size, size, 3)
        missing = [i for i in places if kept is None or not kept.get(int(task.at[i]), pixels[i - places.start])]
        if missing:
            for i, data in zip(missing, task.images.read([int(task.at[i]) for i in missing]), strict=True):
                out = pixels[i - places.start]
                try:
                    decode_into(_there(data), out, self._scratch("decoding"))
                except ImageError as error:
                    out[:] = 0  # the batch ends without it
                    self._tell(one, i, error)
                else:
                    if kept is not None:
                        kept.put(int(task.at[i]), out)
        if one.plan is not None:
            plan, seen = one.plan.result(), torch.from_numpy(pixels).permute(0, 3, 1, 2)
            for place, image in zip(places, seen.split(1), strict=True):
                plan.draw(place, image, one.image[place : place + 1])

    def _read(self, one: _Underway, places: range) -> None:
        """Read some encoded images of a batch; in a thread."""
        for i, data in zip(places, one.task.images.read(one.task.at[places.start : places.stop].tolist()), strict=True):
            try:
                one.encoded[i] = _there(data)
            except ImageError as error:
                self._tell(one, i, error)

    def _tell(self, one: _Underway, i: int, error: ImageError) -> None:
        """Note that an image cannot be decoded, or stop."""
        said = ImageError(
            f"The image of galaxy '{one.task.ids[i]}' in {one.task.images.where(int(one.task.at[i]))} cannot be "
            f"decoded. {error.message}",
            error.expected,
            "Build the dataset again without it (`gzoo check` names all such), or pass corrupt='skip'.",
        )
        if self._corrupt == "stop":
            raise said from error
        one.bad[i] = said

    def _scratch(self, purpose: str) -> Scratch:
        """Memory of this thread."""
        mine = cast("dict[str, Scratch]", self._own.__dict__)
        if purpose not in mine:
            mine[purpose] = Scratch()
        return mine[purpose]

    def _end(self, one: _Underway) -> tuple[Task, Batch]:
        """A batch, when the threads are done with it."""
        for last in one.work[-1:]:  # to wait once costs less than to wait for each
            last.exception()
        for future in one.work:
            future.result()
        task, image = one.task, one.image
        if self._decodes_there:
            image = self._decoded_there(one)
        elif image.dtype == torch.uint8:
            image = image.permute(0, 3, 1, 2)
        keep = [i for i in range(len(task.rows)) if i not in one.bad]
        if one.bad:
            self.skipped |= {task.ids[i]: error.message for i, error in sorted(one.bad.items())}
            if not keep:
                raise ImageError(
                    f"None of the {len(one.bad)} images of a batch can be decoded; the first: "
                    f"{one.bad[min(one.bad)].message}",
                    "Some that can.",
                    "Check the dataset with `gzoo check`.",
                )
            image = image[keep]
        batch = Batch(
            image=image,
            votes=torch.from_numpy(task.votes[keep] if one.bad else task.votes),
            totals=torch.from_numpy(task.totals[keep] if one.bad else task.totals),
            row=torch.from_numpy(task.rows[keep] if one.bad else task.rows),
            id=[task.ids[i] for i in keep],
            seed=torch.from_numpy(task.seeds[keep] if one.bad else task.seeds),
        )
        if self._device.type != "cpu":
            batch = self._on_device(batch)
        if one.augment is not None and batch["image"].dtype == torch.uint8:
            batch["image"] = one.augment(batch["image"], batch["seed"], self.size)
        return task, batch

    def _on_device(self, batch: Batch) -> Batch:
        moved = cast("dict[str, torch.Tensor | list[str]]", {**batch})
        for name, value in moved.items():
            if isinstance(value, torch.Tensor) and value.device != self._device:
                moved[name] = value.to(self._device, non_blocking=True)
        if self._device.type == "cuda":
            # pinned memory is used again as soon as nobody holds it: not before it has been copied
            while self._sent and self._sent[0][0].query():
                self._sent.popleft()
            gone = torch.cuda.Event()
            gone.record()
            self._sent.append((gone, batch["image"]))
        return cast(Batch, moved)

    def _decoded_there(self, one: _Underway) -> torch.Tensor:
        """The images of a batch decoded on the device; all of them here, if that fails for one."""
        from torchvision.io import ImageReadMode, decode_jpeg

        n, size = len(one.task.rows), self.decoded_size
        image = torch.zeros(n, 3, size, size, dtype=torch.uint8, device=self._device)
        order = sorted(one.encoded)
        try:
            data = [torch.frombuffer(bytearray(one.encoded[i]), dtype=torch.uint8) for i in order]
            decoded = cast("list[torch.Tensor]", decode_jpeg(data, ImageReadMode.RGB, self._device))
            # what is cut short or damaged ends in one colour, or is told; what ends in one colour may be sound
            doubtful = torch.stack([_ends_flat(one) for one in decoded]).tolist()
            for i, pixels, is_doubtful in zip(order, decoded, doubtful, strict=True):
                if is_doubtful:
                    decode(one.encoded[i], size)
                wide = pixels[None]
                if wide.shape[2:] != (size, size):
                    wide = torch.nn.functional.interpolate(wide.float(), (size, size), mode="bilinear", antialias=True)
                    wide = wide.round_().clamp_(0, 255).to(torch.uint8)
                image[i] = wide[0]
        except (RuntimeError, ImageError):  # one of them is no JPEG image, or damaged
            pixels = np.zeros((size, size, 3), np.uint8)
            for i in order:
                try:
                    decode_into(one.encoded[i], pixels, self._scratch("decoding"))
                except ImageError as error:
                    self._tell(one, i, error)
                else:
                    image[i] = torch.from_numpy(pixels).permute(2, 0, 1).to(self._device)
        return image


def _there(data: bytes | None) -> bytes:
    if data is None:
        raise ImageError("There is none.", "A JPEG or PNG image.")
    return data


def _ends_flat(image: torch.Tensor) -> torch.Tensor:
    """Whether the last rows of an image, shape (3, y, x), are of one colour."""
    last = image[:, -8:].flatten(1)
    return (last.amax(1) == last.amin(1)).all()


def _n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
