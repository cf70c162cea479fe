"""Batches of images and votes, made as fast as images can be decoded.

Threads read, decode, resize and augment the images of the next batches while a model works on the current one; all of
these steps release Python's global lock. Votes are one array in memory; images are read at known offsets in the shards.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, cast

import numpy as np
import numpy.typing as npt
import torch

from gzoo.dataset.open import Dataset
from gzoo.display import Sheet, Shown
from gzoo.errors import ImageError, InputError, choices
from gzoo.images.checks import Pixels, Scratch
from gzoo.learn.augmentation import Augmentation, Plan, augmentation
from gzoo.learn.buffers import BufferPool
from gzoo.learn.cache import CACHE_SIZE_BYTES
from gzoo.learn.dealing import START, Cursor
from gzoo.learn.decoding import decode_into, decode_on_device
from gzoo.learn.inputs import Input, SplitInput, StreamInput, check_integers, chosen_rows, open_input, sampled
from gzoo.learn.lightning_loops import training_loop
from gzoo.learn.requests import BatchRequest
from gzoo.trees.campaign import Campaign
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.votes import Votes

if TYPE_CHECKING:
    import datasets
    import polars as pl

MAX_CHUNK = 16  # images that a thread processes at a time


class Batch(TypedDict):
    """A batch of galaxies.

    image: uint8, shape (galaxy, 3, size, size), in channels-last memory order; augmented images are float32, 0 to 1.
    votes: Vote counts, int32, shape (galaxy, answer).
    totals: Total votes, int32, shape (galaxy, question).
    index: Row of each galaxy in the split, int64; for a stream, its position in this epoch.
    id_str: Identifier of each galaxy.
    seed: Seed of each galaxy's augmentation in this epoch, int64.
    label: Label of each galaxy, float64, where the loader has labels.
    """

    image: torch.Tensor
    votes: torch.Tensor
    totals: torch.Tensor
    index: torch.Tensor
    id_str: list[str]
    seed: torch.Tensor
    label: NotRequired[torch.Tensor]


def loader(
    dataset: Dataset | Path | str | datasets.Dataset | datasets.IterableDataset,
    batch_size: int,
    size: int,
    *,
    split: str = "train",
    augment: Augmentation | str | None = None,
    seed: int | None = None,
    sampling: Literal["proportional", "balanced"] = "proportional",
    rows: IntArray | npt.NDArray[np.bool_] | None = None,
    workers: int | None = None,
    cache_dir: Path | str | None = None,
    cache_size_bytes: int = CACHE_SIZE_BYTES,
    errors: Literal["raise", "skip"] = "raise",
    device: torch.device | str = "cpu",
    decode_on_device: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
    streaming: bool = False,
    campaign: Path | str | Campaign | None = None,
) -> Loader:
    """Return batches of images and votes for a PyTorch loop or for Lightning; iterate over them once per epoch.

    The same seed gives the same batches for any number of workers. In a distributed run each process gets a part of
    each epoch: together they see each galaxy once, in the same number of batches, whose sizes differ by at most one.
    `state_dict` and `load_state_dict` resume at any batch, exactly.

    Args:
        dataset: A dataset folder, a campaign's name, `owner/name` on the Hub, a result of `gzoo.open_dataset` or
            `gzoo.load`, or any `datasets.Dataset` or `IterableDataset` with the columns of a campaign.
        batch_size: Number of galaxies in a batch. Galaxies are distributed evenly, because batch normalisation cannot
            compute the variance of a last batch of one galaxy; of a stream, the last two batches share the rest. Only
            where a batch would be empty or have one galaxy otherwise, batches have one or two more.
        size: Width and height of the images in pixels.
        split: Name of the split, if `dataset` has several.
        augment: Augmentation of the images, or the name of a preset (see `gzoo.augmentation`). Each galaxy has its own
            seed, new in each epoch, which determines its augmentation wherever it is computed.
        seed: Seed of the order and the augmentation, which change each epoch. None keeps the order of the split and
            the same augmentation each time. Streams are shuffled by shards and in windows of about 2,000 galaxies.
        sampling: "proportional" shows each galaxy once in an epoch; "balanced" equally many galaxies of each campaign
            of a union, those of small ones several times. It needs a seed, and is not available for streams.
        rows: Rows of the split to use, or a mask of all rows; all when None. Not available for streams.
        workers: Number of threads; the number of available cores when None.
        cache_dir: Folder on this machine for decoded images, for later epochs and other processes; not for streams.
        cache_size_bytes: Maximum size of all files in the cache folder, in bytes.
        errors: "raise" an error that names an image that cannot be decoded, or "skip" it: `Loader.skipped` lists it.
        device: Device of the batches. Images are augmented there.
        decode_on_device: Decode JPEG images on the device too (nvJPEG on an NVIDIA GPU), to slightly other pixels.
        rank: Number of this process in a distributed run; taken from torch.distributed when None.
        world_size: Number of processes in a distributed run; taken from torch.distributed when None.
        streaming: Read a dataset on the Hub during iteration instead of downloading it first.
        campaign: Campaign of the columns of an object of `datasets` or a stream: its name, or the path of its TOML
            file. By default, campaigns of gzoo are recognised; dataset folders name their own.

    Raises:
        NotFoundError: The dataset or split does not exist.
        DatasetError: The folder is not a dataset, or a shard cannot be read.
        InputError: An argument is invalid.
        AccessError: The dataset on the Hub cannot be read.
        ImageError: While iterating: an image cannot be decoded; the message names the galaxy and the file.

    >>> batches = loader("gz2", batch_size=32, size=224, augment="train", seed=0)  # doctest: +SKIP
    >>> for batch in batches:  # doctest: +SKIP
    ...     batch["image"], batch["votes"]
    """
    check_integers(1, batch_size=batch_size, size=size, workers=1 if workers is None else workers)
    if errors not in {"raise", "skip"}:
        raise InputError(f"Invalid value for errors: '{errors}'.", choices(["raise", "skip"]))
    check_integers(0, 2**63 - 1, seed=seed or 0)
    if (rank is None) != (world_size is None) or (rank is not None and not 0 <= rank < (world_size or 0)):
        raise InputError(
            f"rank {rank} does not match world_size {world_size}.", "rank from 0 to world_size - 1, or neither."
        )
    data = sampled(open_input(dataset, split, rows, seed, streaming, campaign), sampling)
    augment = augmentation(augment) if isinstance(augment, str) else augment
    process = None if rank is None or world_size is None else (rank, world_size)
    skips, target, threads = errors == "skip", torch.device(device), workers or n_cores()
    made = Loader(data, batch_size, size, augment, threads, skips, target, decode_on_device, process)
    if cache_dir is not None:
        if not isinstance(data, SplitInput) or decode_on_device:
            raise InputError(
                "Images cannot be cached if they are streamed or decoded on the device.",
                hint="Omit `cache_dir`, or load a split without decode_on_device.",
            )
        data.use_cache(Path(cache_dir), made.decoded_size, cache_size_bytes)
    return made


@dataclass(frozen=True, slots=True)
class Position:
    """Where a loader is.

    Attributes:
        epoch: Number of the epoch of the next batch.
        batch: Number of batches of this process before it in the epoch.
        cursor: Position of the input.
        is_under_way: Whether a loop has begun this epoch; the next loop then begins another.
    """

    epoch: int
    batch: int = 0
    cursor: Cursor = field(default_factory=lambda: START)
    is_under_way: bool = False


@dataclass(slots=True)
class _PendingBatch:
    """A batch on which threads are working."""

    request: BatchRequest
    augment: Augmentation | None
    image: torch.Tensor
    plan: Future[Plan] | None = None
    work: list[Future[None]] = field(default_factory=list)
    encoded: dict[int, bytes] = field(default_factory=dict)
    errors: dict[int, ImageError] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class Loader(Shown):
    """Galaxies in batches; made by `gzoo.loader`.

    Attributes:
        input: Galaxies of the batches.
        batch_size: Maximum number of galaxies in a batch.
        size: Width and height of the images in pixels.
        augment: Augmentation of the images.
        workers: Number of threads.
        skips_errors: Whether images that cannot be decoded are skipped.
        device: Device of the batches.
        decodes_on_device: Whether images are decoded there.
        process: Number of this process and number of processes; those of torch.distributed when None.
        tree: Decision tree of the votes.
        decoded_size: Width and height before augmentation, which may zoom in. It is slightly larger than needed where
            the first image of the split can be decoded to that size without resizing.
        skipped: Reason for each skipped image, by identifier.
        labels: Label of each row of the split, for the batches, shape (row,); None for votes alone.
    """

    input: Input
    batch_size: int
    size: int
    augment: Augmentation | None
    workers: int
    skips_errors: bool
    device: torch.device
    decodes_on_device: bool
    process: tuple[int, int] | None

    def __post_init__(self) -> None:
        self.tree: Tree = self.input.tree
        limits = (self.size, self.size) if self.augment is None else self.augment.source_range(self.size)
        self.decoded_size = self.input.decoded_size(*limits) if isinstance(self.input, SplitInput) else limits[0]
        self.skipped: dict[str, str] = {}
        self.labels: torch.Tensor | None = None
        self._position, self._earlier = Position(0), deque[Position](maxlen=4)
        # enough batches to keep all threads busy while one is handed over
        self._n_ahead = 2 + 2 * self.workers * MAX_CHUNK // max(self.batch_size, MAX_CHUNK)
        self._begin_process()

    def _begin_process(self) -> None:
        """Make what belongs to one process: threads and memory."""
        self._process_id = os.getpid()
        self._threads: ThreadPoolExecutor | None = None
        self._buffers = BufferPool(is_pinned=self.device.type == "cuda", max_free=self._n_ahead + 2)
        self._thread = threading.local()
        self._sent: deque[tuple[torch.cuda.Event, torch.Tensor]] = deque()
        self._left: object = None

    def __getstate__(self) -> dict[str, object]:
        """Return what another process needs, such as one that Lightning starts."""
        own = {"_process_id", "_threads", "_buffers", "_thread", "_sent", "_left"}
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._begin_process()

    # --- facts --------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, object]:
        """Return the settings as JSON values; the numbers of galaxies and batches of a stream are null."""
        is_split = isinstance(self.input, SplitInput)
        return {
            "tree": self.tree.name,
            "n_galaxies": len(self.rows) if is_split else None,
            "n_batches": len(self) if is_split else None,
            "batch_size": self.batch_size,
            "size": self.size,
            "decoded_size": self.decoded_size,
            "augment": None if self.augment is None else self.augment.to_dict(),
            "workers": self.workers,
            "device": str(self.device),
            "decodes_on_device": self.decodes_on_device,
            "epoch": self.epoch,
            "skipped": dict(self.skipped),
        }

    def sheet(self) -> Sheet:
        """Return the settings, and the shapes of a batch."""
        facts = self.to_dict()
        augmented = facts["augment"] is not None
        return Sheet(
            "Loader of a stream"
            if facts["n_galaxies"] is None
            else f"Loader of {facts['n_galaxies']:,} galaxies in {facts['n_batches']:,} batches",
            {
                "tree": self.tree.name,
                "galaxies in a batch": f"at most {self.batch_size:,}",
                "augmented": augmented,
                "threads": self.workers,
                "device": str(self.device),
                "next epoch": self.epoch,
                "skipped": len(self.skipped) or None,
            },
            ("in a batch", "type", "shape"),
            [
                ("image", "float32" if augmented else "uint8", f"(galaxy, 3, {self.size}, {self.size})"),
                ("votes", "int32", f"(galaxy, {len(self.tree.columns)})"),
                ("totals", "int32", f"(galaxy, {len(self.tree.questions)})"),
                ("index, seed", "int64", "(galaxy,)"),
                ("id_str", "list of str", "(galaxy,)"),
            ],
        )

    # --- labels -------------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> pl.DataFrame:
        """`dataset_name` and `id_str` of all galaxies, in the order of `rows`; does not read images."""
        return self._split.keys

    @property
    def votes(self) -> Votes:
        """All votes, in the order of `rows`; does not read images."""
        return self._split.votes

    @property
    def rows(self) -> IntArray:
        """Rows of the split that the loader uses."""
        return self._split.rows

    @property
    def _split(self) -> SplitInput:
        if not isinstance(self.input, SplitInput):
            raise InputError(
                "The galaxies of a stream are not known in advance.", hint="Load the dataset without streaming=True."
            )
        return self.input

    def __len__(self) -> int:
        """Return the number of batches in an epoch, which is the same for every process.

        Raises:
            TypeError: The input is a stream, whose length is not known.
        """
        if isinstance(self.input, StreamInput):
            raise TypeError("the length of a stream is not known")
        return self.input.n_batches(self.batch_size, self._rank_and_world_size()[1])

    # --- position -----------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Number of the epoch of the next batch; the first is 0. Setting it restarts the epoch."""
        return self._position.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._move_to(Position(epoch))

    def state_dict(self) -> dict[str, object]:
        """Return the position after the last batch, from which a loader with the same arguments can resume.

        After the last batch of an epoch, that is the start of the next one. While Lightning trains, it is the position
        after the last batch on which the model was trained.
        """
        position, loop = self._position, training_loop(self)
        if loop is not None:
            position = self._before_unused(loop.n_unused)
            if loop.is_last and loop.is_done and position.is_under_way:
                position = Position(position.epoch + 1)
        return {
            "epoch": position.epoch,
            "batch": position.batch,
            "cursor": dict(position.cursor),
            "data": self.input.fingerprint,
            "batch_size": self.batch_size,
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Resume after the last batch of another loader, which may have had another number of processes.

        Raises:
            InputError: The state belongs to other data or another batch size.
        """
        for name, own in (("data", self.input.fingerprint), ("batch_size", self.batch_size)):
            if state.get(name) != own:
                raise InputError(
                    f"The state is of a loader with {name} {state.get(name)}; this one has {own}.",
                    hint="Pass the arguments of the first loader.",
                )
        cursor = cast("dict[str, object]", state["cursor"])
        self._move_to(Position(cast(int, state["epoch"]), cast(int, state["batch"]), dict(cursor)))

    def _move_to(self, position: Position) -> None:
        self._position = position
        self._earlier.clear()

    def _before_unused(self, n_unused: int) -> Position:
        """Return the position before the last `n_unused` batches."""
        return self._earlier[-n_unused] if 0 < n_unused <= len(self._earlier) else self._position

    # --- batches ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """Return the batches of a new epoch, or the rest of the epoch whose state was loaded."""
        loop = training_loop(self)
        if loop is not None and loop.n_unused:  # Lightning discards what it has fetched ahead, and asks again
            self._move_to(self._before_unused(loop.n_unused))
        return self._batches()

    def _batches(self) -> Iterator[Batch]:
        self._require_own_process()
        loop = training_loop(self, takes_state=True)
        if loop is not None and loop.unread_state is not None:
            self.load_state_dict(loop.unread_state)
        if self._position.is_under_way:  # an earlier loop was left before the end of its epoch
            self.epoch = self.epoch + 1
        epoch, n_done, cursor = self._position.epoch, self._position.batch, self._position.cursor
        rank, world_size = self._rank_and_world_size()
        requests = self.input.requests(epoch, cursor, self.batch_size, rank, world_size)
        pending: deque[_PendingBatch] = deque()
        is_checked = loop is None
        process_id = os.getpid()
        try:
            while True:
                if os.getpid() != process_id:
                    self._left = requests, pending  # to release them could wait for threads that are not here
                    raise InputError(
                        "This loop over a loader was begun in another process, whose threads are not in this one.",
                        hint="Start another loop in this process.",
                    )
                if not is_checked:
                    is_checked = self._is_where_training_is(n_done, cursor["world_size"], world_size)
                while len(pending) < self._n_ahead and (request := next(requests, None)):
                    pending.append(self._submit(request, self.augment))
                if not pending:
                    break
                request, batch = self._collect(pending.popleft())
                n_done += 1
                self._earlier.append(self._position)
                self._position = Position(epoch, n_done, request.cursor, True) if pending else Position(epoch + 1)
                yield batch
                del batch
        finally:
            for each in pending if os.getpid() == process_id else ():
                for future in each.work:
                    future.cancel()

    def _is_where_training_is(self, n_done: int, world_size_before: object, world_size: int) -> bool:
        """Check that the next batch is the one that Lightning expects, as soon as it asks for one to train on.

        Raises:
            InputError: It is another one.
        """
        loop = training_loop(self)
        if loop is None or not loop.is_training:
            return False
        n_done -= loop.is_ahead
        if loop.unread_state is not None:
            raise InputError(
                "Lightning fetched the first batch of the stream before it read the checkpoint, so the position in the "
                "stream is lost.",
                hint="Give the schedule a number of steps, instead of trainer.estimated_stepping_batches.",
            )
        is_there = n_done == loop.n_processed or (n_done == 0 and loop.is_last)
        if loop.is_resumed and not is_there:
            raise InputError(
                f"Lightning resumes after batch {loop.n_processed} of an epoch, but the loader after batch {n_done}.",
                "a checkpoint that was written with this loader and as many processes.",
                "Use the number of processes of the checkpoint, or a checkpoint at the end of an epoch.",
            )
        if n_done and world_size_before != world_size and isinstance(self.input, SplitInput):
            raise InputError(
                f"Lightning resumes within an epoch that {world_size_before} processes began with {world_size}, and "
                "would not train on all of its batches.",
                f"{world_size_before} processes, or a checkpoint at the end of an epoch.",
            )
        return True

    def take(self, rows: IntArray) -> Batch:
        """Return a batch of the galaxies at these positions in `rows`, without augmentation."""
        places = chosen_rows(rows, len(self.rows))
        return self._collect(self._submit(self._split.request(places, self.epoch), None))[1]

    def batches_of(self, parts: Iterable[IntArray]) -> Iterator[Batch]:
        """Yield batches of the galaxies at these positions in `rows`, without augmentation, in this order.

        A batch of which no image can be decoded is omitted if such images are skipped.
        """
        pending: deque[_PendingBatch] = deque()
        todo = iter(parts)
        while True:
            while len(pending) < self._n_ahead and (rows := next(todo, None)) is not None:
                pending.append(self._submit(self._split.request(rows, self.epoch), None))
            if not pending:
                return
            try:
                _, batch = self._collect(pending.popleft())
            except ImageError:
                if not self.skips_errors:
                    raise
            else:
                yield batch

    def _rank_and_world_size(self) -> tuple[int, int]:
        if self.process is not None:
            return self.process
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    @property
    def _pool(self) -> ThreadPoolExecutor:
        """The threads of this process."""
        if self._process_id != os.getpid():  # a fork has this object, but none of its threads
            self._begin_process()
        if self._threads is None:
            self._threads = self._start_threads()
        return self._threads

    def _require_own_process(self) -> None:
        """Check that this process can make all batches.

        Raises:
            InputError: It is a worker of a DataLoader, or a fork, in which Arrow cannot read a stream.
        """
        if torch.utils.data.get_worker_info() is not None:
            raise InputError(
                "A loader cannot be used in a worker of a DataLoader: each worker would show every galaxy.",
                "a loop over the loader itself, which makes batches in threads of its own.",
                "Use the loader without DataLoader, or pass num_workers=0.",
            )
        if self._process_id != os.getpid() and isinstance(self.input, StreamInput):
            raise InputError(
                "A stream cannot be read in a forked process, which lacks the threads that read it.",
                hint="Start processes with 'spawn' or 'forkserver', or make the loader in the new process.",
            )

    def _start_threads(self) -> ThreadPoolExecutor:
        """Start the threads. Each uses one core; torch would otherwise start more threads in each of them."""
        n_before, started = torch.get_num_threads(), threading.Barrier(self.workers + 1)

        def start() -> None:
            torch.set_num_threads(1)
            torch.get_num_threads()  # otherwise the thread adopts the number set below when it first uses torch
            started.wait()

        pool = ThreadPoolExecutor(self.workers, "gzoo-loader", start)
        for _ in range(self.workers):
            pool.submit(int)
        started.wait()
        torch.set_num_threads(n_before)  # threads started elsewhere adopt the number that was set last
        return pool

    def _submit(self, request: BatchRequest, augment: Augmentation | None) -> _PendingBatch:
        """Hand a batch to the threads."""
        n, pool = len(request.index), self._pool
        if self.decodes_on_device:
            image = torch.empty(0)
        elif augment is not None and self.device.type == "cpu":
            image = self._buffers.take((n, 3, self.size, self.size), torch.float32)
        else:
            image = self._buffers.take((n, self.decoded_size, self.decoded_size, 3), torch.uint8)
        pending = _PendingBatch(request, augment, image)
        if augment is not None and image.dtype == torch.float32:
            seeds = torch.from_numpy(request.seeds)
            pending.plan = pool.submit(augment.plan, seeds, self.decoded_size, self.size)
        work = self._read if self.decodes_on_device else self._fill
        step = max(1, min(MAX_CHUNK, -(-n // (2 * self.workers))))
        for start in range(0, n, step):
            places = range(start, min(start + step, n))
            pending.work.append(pool.submit(work, pending, places))
        return pending

    def _fill(self, pending: _PendingBatch, places: range) -> None:
        """Make some images of a batch; runs in a thread."""
        request, cache, size = pending.request, pending.request.cache, self.decoded_size
        if pending.plan is None:
            pixels = cast(Pixels, pending.image.numpy())[places.start : places.stop]
        else:
            n_bytes = len(places) * size * size * 3
            pixels = self._scratch("pixels").of(n_bytes)[:n_bytes].reshape(len(places), size, size, 3)
        missing = [i for i in places if cache is None or not cache.get(int(request.rows[i]), pixels[i - places.start])]
        if missing:
            for i, data in zip(missing, request.images.read([int(request.rows[i]) for i in missing]), strict=True):
                out = pixels[i - places.start]
                try:
                    decode_into(_require_image(data), out, self._scratch("decoding"))
                except ImageError as error:
                    out[:] = 0  # the image is removed from the batch at the end
                    self._handle_error(pending, i, error)
                else:
                    if cache is not None:
                        cache.put(int(request.rows[i]), out)
        if pending.plan is not None:
            plan, images = pending.plan.result(), torch.from_numpy(pixels).permute(0, 3, 1, 2)
            for place, image in zip(places, images.split(1), strict=True):
                plan.draw(place, image, pending.image[place : place + 1])

    def _read(self, pending: _PendingBatch, places: range) -> None:
        """Read some encoded images of a batch; runs in a thread."""
        request = pending.request
        for i, data in zip(places, request.images.read(request.rows[places.start : places.stop].tolist()), strict=True):
            try:
                pending.encoded[i] = _require_image(data)
            except ImageError as error:
                self._handle_error(pending, i, error)

    def _handle_error(self, pending: _PendingBatch, i: int, error: ImageError) -> None:
        """Note that an image cannot be decoded, or raise an error that names it."""
        request = pending.request
        located = ImageError(
            f"{request.images.location(int(request.rows[i]))}, galaxy '{request.id_str[i]}': {error.message}",
            error.expected,
            "Rebuild the dataset without it (`gzoo check` lists all corrupt images), or skip such images: "
            "errors='skip' of the loader, --corrupt skip of the commands.",
        )
        if not self.skips_errors:
            raise located from error
        pending.errors[i] = located

    def _scratch(self, purpose: str) -> Scratch:
        """Return a buffer of this thread."""
        return cast("dict[str, Scratch]", self._thread.__dict__).setdefault(purpose, Scratch())

    def _collect(self, pending: _PendingBatch) -> tuple[BatchRequest, Batch]:
        """Wait for the threads and return the batch."""
        for last in pending.work[-1:]:  # waiting once is faster than waiting for each
            last.exception()
        for future in pending.work:
            future.result()
        request, image = pending.request, pending.image
        if self.decodes_on_device:
            image = decode_on_device(
                pending.encoded,
                (len(request.index), self.decoded_size),
                self.device,
                self._scratch("decoding"),
                partial(self._handle_error, pending),
            )
        elif image.dtype == torch.uint8:
            image = image.permute(0, 3, 1, 2)
        keep = [i for i in range(len(request.index)) if i not in pending.errors]
        if pending.errors:
            self.skipped |= {request.id_str[i]: error.message for i, error in sorted(pending.errors.items())}
            if not keep:
                raise ImageError(
                    f"None of the {len(pending.errors)} images of a batch can be decoded; the first: "
                    f"{pending.errors[0].message}",
                    hint="Run `gzoo check` to list all corrupt images.",
                )
            image = image[keep]
        votes, totals, index, seeds = (
            torch.from_numpy(values[keep] if pending.errors else values)
            for values in (request.votes, request.totals, request.index, request.seeds)
        )
        ids = [request.id_str[i] for i in keep]
        batch = Batch(image=image, votes=votes, totals=totals, index=index, id_str=ids, seed=seeds)
        if self.device.type != "cpu":
            batch = self._move(batch)
        if self.labels is not None:
            batch["label"] = self.labels[index].to(self.device)
        if pending.augment is not None and batch["image"].dtype == torch.uint8:
            batch["image"] = pending.augment(batch["image"], batch["seed"], self.size)
        return request, batch

    def _move(self, batch: Batch) -> Batch:
        """Copy a batch to the device."""
        moved = {
            name: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }
        if self.device.type == "cuda":
            # Keep the pinned image until it has been copied: its memory is reused as soon as nothing refers to it.
            while self._sent and self._sent[0][0].query():
                self._sent.popleft()
            copied = torch.cuda.Event()
            copied.record()
            self._sent.append((copied, batch["image"]))
        return cast(Batch, moved)


def _require_image(data: bytes | ImageError | None) -> bytes:
    if isinstance(data, ImageError):
        raise data
    if data is None:
        raise ImageError("The image is missing.", "a JPEG or PNG image.")
    return data


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
