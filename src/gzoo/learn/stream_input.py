"""Galaxies that arrive one after the other: a stream of `datasets` as input of a loader."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import pyarrow as pa

from gzoo import files, hub
from gzoo.dataset.open import CampaignMatch, votes_in
from gzoo.errors import DatasetError, GZooWarning, InputError, reason
from gzoo.learn.dealing import Cursor, augmentation_seeds, deal, resumed
from gzoo.learn.image_bytes import MemoryReader, encoded_images
from gzoo.learn.requests import BatchRequest, Counts, keys_of, votes_of
from gzoo.trees.tree import IntArray

if TYPE_CHECKING:
    import datasets

WINDOW_ROWS = 2048
THE_STREAM = "the stream"
"""Name of an object of `datasets` in messages."""

# Steps of a stream that treat each row by itself, whatever comes before it. `take`, `skip`, `shuffle` and others do
# not: `datasets` would apply them to each shard, which gives other rows than without shards.
_ROW_BY_ROW = frozenset({"SelectColumnsIterable", "RebatchedArrowExamplesIterable", "FormattedExamplesIterable"})
_SOURCES = frozenset({"ArrowExamplesIterable", "ExamplesIterable"})
_FUNCTIONS = frozenset({"MappedExamplesIterable", "FilteredExamplesIterable"})
_RAW = "stream.cast_column('image', datasets.Image(decode=False))"


@dataclass(frozen=True, slots=True)
class _Window:
    """Consecutive rows of a stream, in memory.

    Attributes:
        start: Number of rows before it.
        state: State of the stream before it; None if the stream must be read from its start.
        order: Order of the rows, from 0.
    """

    start: int
    state: object
    order: IntArray
    id_str: list[str]
    votes: Counts
    totals: Counts
    images: list[bytes | None]

    @property
    def end(self) -> int:
        """Number of rows up to its end."""
        return self.start + len(self.order)


class StreamInput:
    """Galaxies that arrive one after the other.

    Each process of a distributed run reads the whole stream and uses its part. The order of the shards changes each
    epoch, and galaxies are shuffled in windows, so that resuming needs only the state at the start of a window. The
    order depends neither on the batch size nor on the number of processes.

    Args:
        stream: Stream of `datasets`.
        known: Campaign of its columns.
        name: Name of the stream for error messages.
        seed: Seed of the order, which changes each epoch. None keeps the order of the stream.
        digest: Digest of the data, if it is known; otherwise that of the files that the stream names.
    """

    def __init__(
        self, stream: datasets.IterableDataset, known: CampaignMatch, name: str, seed: int | None, digest: str = ""
    ) -> None:
        self._known, self._name, self._seed = known, name, seed
        self.tree = known.campaign.published_tree
        steps = list(_steps(stream))
        if any(_decodes_images(step) for step in steps):
            warnings.warn(
                f"{_said(name)} decodes its images and compresses them again before the loader sees them, as `map`, "
                f"`filter` and `rename_column` of `datasets` do. To keep their pixels, start from {_RAW}.",
                GZooWarning,
                stacklevel=5,
            )
        # the state of other streams does not tell exactly where they are: they are read again from their start
        self._is_plain = all(type(step).__name__ in _SOURCES | {"SelectColumnsIterable"} for step in steps)
        self._has_shards = all(map(_is_row_by_row, steps))
        columns = columns_of(stream, name)
        wanted = {"image", "dataset_name", "id_str", *self.tree.columns}
        wanted |= {question.total_column for question in self.tree.questions}
        self._stream = stream.select_columns([name for name in columns if name in wanted]).with_format("arrow")
        contents = [digest] if digest else [_description(step) for step in steps]
        self.fingerprint = files.digest([name, sorted(columns), seed, WINDOW_ROWS, contents])

    def requests(
        self, epoch: int, cursor: Cursor, batch_size: int, rank: int, world_size: int
    ) -> Iterator[BatchRequest]:
        """Yield the batches of one process in an epoch, from a cursor on.

        All batches have `batch_size` galaxies, except the last two of each process, which share the rest evenly.
        """
        at, n_done = resumed(cursor, world_size)  # galaxies before the batches to come
        together = batch_size * world_size
        windows: deque[_Window] = deque()

        def request(first: int, end: int, dealt_from: int, batch: int, n_shown: int) -> BatchRequest:
            while windows[0].end <= at and len(windows) > 1:
                windows.popleft()
            place = {"window": windows[0].start, "stream": windows[0].state}
            after = {"dealt_from": dealt_from, "batch": batch, "n_shown": n_shown, "world_size": world_size, **place}
            return self._request(windows, first, end, epoch, after)

        for window in self._windows(epoch, cursor):
            windows.append(window)
            while window.end - at >= 2 * together:  # so many are left that the last batches will not be too small
                first = at + rank * batch_size
                yield request(first, first + batch_size, at + together, 0, at + together)
                at += together
        n_rest = windows[-1].end - at if windows else 0
        if n_rest:
            ends, n_shown = deal(n_rest, batch_size, rank, world_size, n_before=at)
            for number in range(n_done, len(ends)):
                first, end = (ends[number] + at).tolist()
                yield request(first, end, at, number + 1, at + int(n_shown[number]))

    def _request(self, windows: deque[_Window], first: int, end: int, epoch: int, after: Cursor) -> BatchRequest:
        """Return the galaxies from `first` to `end` of the epoch's order, which lie in these windows."""
        parts: list[tuple[_Window, IntArray]] = []
        for window in windows:
            places = window.order[max(0, first - window.start) : max(0, end - window.start)]
            if len(places):
                parts.append((window, places))
        index = np.concatenate([window.start + places for window, places in parts])
        images = [window.images[i] for window, places in parts for i in places]
        return BatchRequest(
            id_str=[window.id_str[i] for window, places in parts for i in places],
            index=index,
            votes=np.concatenate([window.votes[places] for window, places in parts]),
            totals=np.concatenate([window.totals[places] for window, places in parts]),
            seeds=augmentation_seeds(self._seed, epoch, index),
            images=MemoryReader(images, self._name),
            rows=np.arange(len(images)),
            cache=None,
            cursor=after,
        )

    def _windows(self, epoch: int, cursor: Cursor) -> Iterator[_Window]:
        """Yield the windows of an epoch from the one of the cursor on."""
        stream, start = self._shuffled(epoch), cast(int, cursor.get("window", 0))
        state = cursor.get("stream")
        n_read = start if state is not None else 0
        if state is not None:
            stream.load_state_dict(cast("dict[str, object]", state))
        # a stream that was given a state still tells that of its start, until it is read
        before = state or (stream.state_dict() if self._is_plain else None)
        for table in cast("Iterator[pa.Table]", stream.iter(batch_size=WINDOW_ROWS)):
            after = stream.state_dict() if self._is_plain else None
            if n_read >= start:
                yield self._window(table, n_read, before, epoch)
            n_read, before = n_read + table.num_rows, after

    def _window(self, table: pa.Table, start: int, state: object, epoch: int) -> _Window:
        order = np.arange(table.num_rows)
        if self._seed is not None:
            np.random.default_rng([self._seed, epoch, start]).shuffle(order)
        labels = cast(pl.DataFrame, pl.from_arrow(table.drop_columns(["image"]).combine_chunks()))
        votes, totals = votes_in(votes_of(labels, self._known), self.tree, self._name)
        ids = keys_of(labels, self._known, self.fingerprint, start)["id_str"].to_list()
        column = table["image"].type
        if not pa.types.is_struct(column) or {"bytes", "path"} - {column.field(i).name for i in range(len(column))}:
            raise DatasetError(
                f"Column 'image' of {_said(self._name)} has type {column}.",
                "images as `datasets` stores them, with `bytes` and `path`.",
                "Omit the step that changes images: the loader decodes, resizes and augments them.",
            )
        return _Window(start, state, order, ids, votes, totals, encoded_images(table, reads_files=False))

    def _shuffled(self, epoch: int) -> datasets.IterableDataset:
        """Return the stream from its start, with its shards in the order of the epoch.

        Its own `shuffle` has a buffer that its state does not contain.
        """
        import datasets

        if self._seed is None or not self._has_shards:
            # a copy: a stream remembers the state that it was given
            return datasets.concatenate_datasets([self._stream])
        n = self._stream.num_shards
        order = np.random.default_rng([self._seed, epoch]).permutation(n)
        return datasets.concatenate_datasets([self._stream.shard(n, int(i)) for i in order])


def columns_of(stream: datasets.IterableDataset, name: str) -> list[str]:
    """Return the columns of a stream; those of its first row where `datasets` does not know them, as after `map`.

    Raises:
        DatasetError: The first row cannot be read.
        InputError: The stream is one process's part of another.
    """
    if getattr(stream, "_distributed", None) is not None:
        raise InputError(
            f"{_said(name)} was divided among processes by `split_dataset_by_node`.",
            "the whole stream: the loader gives each process its part.",
            "Omit `split_dataset_by_node` of `datasets`.",
        )
    if stream.column_names is not None:
        return list(stream.column_names)
    if any(map(_decodes_images, _steps(stream))):
        raise DatasetError(
            f"{_said(name)} has images that `map` decodes, in columns that `datasets` does not know.",
            "columns with known features, or images as they are stored.",
            f"Start from {_RAW}, which also keeps the pixels, or pass `features` to `map`.",
        )
    try:
        first = cast("pa.Table | None", next(iter(stream.with_format("arrow").iter(batch_size=1)), None))
    except (pa.ArrowException, TypeError, ValueError, KeyError) as error:
        raise DatasetError(
            f"Cannot read the first row of {_said(name)}: {reason(error)}.",
            "rows that Arrow can represent.",
            f"Pass `features` to `map`, and start from {_RAW}.",
        ) from error
    return [] if first is None else first.column_names


def _said(name: str) -> str:
    return name if name == THE_STREAM else f"'{name}'"


def _steps(stream: datasets.IterableDataset) -> Iterator[Any]:
    """Yield the steps by which `datasets` makes the rows of a stream, the last first."""
    waiting = [stream._ex_iterable]  # pyright: ignore[reportPrivateUsage]  public are only the rows
    while waiting:
        step: Any = waiting.pop()
        yield step
        waiting += [one for one in (getattr(step, "ex_iterable", None), *getattr(step, "ex_iterables", ())) if one]


def _is_row_by_row(step: Any) -> bool:
    kind = type(step).__name__
    if kind in _FUNCTIONS:
        return not (step.with_indices or step.batched)
    return kind in _ROW_BY_ROW | _SOURCES


def _decodes_images(step: Any) -> bool:
    if type(step).__name__ != "FormattedExamplesIterable" or getattr(step, "formatting", None) is not None:
        return False
    return bool(getattr((step.features or {}).get("image"), "decode", False))


def _description(step: Any) -> object:
    """Return what of a step determines its rows, as JSON values; functions are not compared."""
    kwargs = cast("Mapping[str, Any]", getattr(step, "kwargs", {}))
    named = [str(one) for one in cast("list[object]", kwargs.get("files") or [])]
    parts = cast("list[Any]", kwargs.get("shards") or [])
    generator = getattr(step, "generator", None)
    return {
        "kind": type(step).__name__,
        "numbers": {name: getattr(step, name, None) for name in ("n", "num_times", "step", "offset", "buffer_size")},
        "order": None if generator is None else repr(generator.bit_generator.state),
        "files": [[name, *(hub.identity_of(Path(name)) if Path(name).is_file() else ())] for name in named],
        "tables": [str(getattr(part, "_fingerprint", type(part).__name__)) for part in parts],
    }
