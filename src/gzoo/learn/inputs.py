"""Inputs of a loader: a split on this machine, a table of `datasets`, or a stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from gzoo import files
from gzoo.dataset.index import vote_columns
from gzoo.dataset.open import KEY, CampaignMatch, Dataset, load, match_campaign, open_dataset, quietly, votes_in
from gzoo.errors import DatasetError, InputError, NotFoundError, choices, suggestion
from gzoo.learn.cache import ImageCache
from gzoo.learn.decoding import fast_size
from gzoo.learn.image_bytes import ImageReader, MemoryReader, ShardReader, TableReader, encoded_images
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.votes import Votes

if TYPE_CHECKING:
    import datasets

WINDOW_ROWS = 2048

Counts = npt.NDArray[np.int32]
Cursor = Mapping[str, object]  # position within an epoch, as JSON values


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """All that is needed to make a batch.

    Attributes:
        id_str: Identifier of each galaxy.
        index: Row of each galaxy in the split, or its position in this epoch's stream.
        votes: Vote counts, shape (galaxy, answer).
        totals: Total votes, shape (galaxy, question).
        seeds: Seed of each galaxy's augmentation.
        images: Reader of the images.
        rows: Row of each galaxy's image in `images`.
        cache: Cache of decoded images.
        cursor: Position of the input after this batch.
    """

    id_str: list[str]
    index: IntArray
    votes: Counts
    totals: Counts
    seeds: IntArray
    images: ImageReader
    rows: IntArray
    cache: ImageCache | None
    cursor: Cursor


class SplitInput:
    """Galaxies whose number and votes are known, and whose images can be read in any order.

    Args:
        tree: Decision tree.
        keys: `dataset_name` and `id_str` of all rows of the split.
        counts: Vote counts, shape (galaxy, answer).
        totals: Total votes, shape (galaxy, question).
        images: Reader of the images.
        fingerprint: String that identifies the data.
        rows: Rows of the split to use; all when None.
        seed: Seed of the order, which changes each epoch. None keeps the order of the split.
    """

    start: ClassVar[Cursor] = {"batch": 0}

    def __init__(
        self,
        tree: Tree,
        keys: pl.DataFrame,
        counts: Counts,
        totals: Counts,
        images: ImageReader,
        fingerprint: str,
        rows: IntArray | None,
        seed: int | None,
    ) -> None:
        n = self._n_all = len(counts)
        self.rows: IntArray = np.arange(n) if rows is None else np.asarray(rows, np.int64)
        outside = self.rows[(self.rows < 0) | (self.rows >= n)]
        if len(outside):
            raise InputError(f"Row {outside[0]} not found in the split.", f"rows from 0 to {n - 1}.")
        self.tree = tree
        self.keys = keys if rows is None else keys[self.rows]
        self._counts = counts if rows is None else counts[self.rows]
        self._totals = totals if rows is None else totals[self.rows]
        self._images, self._seed, self._data = images, seed, fingerprint
        self._cache: ImageCache | None = None
        chosen = 0 if rows is None else files.digest(self.rows.tolist())
        self.fingerprint = files.digest([fingerprint, len(self.rows), chosen, seed])

    @property
    def votes(self) -> Votes:
        """All votes, in the order of `rows`."""
        return Votes(self.tree, self._counts.astype(np.int64), self._totals.astype(np.int64))

    def use_cache(self, folder: Path, size: int, max_bytes: int) -> None:
        """Keep decoded images of that size in a folder."""
        self._cache = ImageCache(folder, self._data, self._n_all, size, max_bytes)

    def decoded_size(self, min_size: int, max_size: int) -> int:
        """Return the smallest size within limits to which images like the first are decoded without resizing."""
        first = self._images.read([0])[0] if min_size < max_size and self._n_all else None
        return fast_size(first, min_size, max_size) if isinstance(first, bytes) else min_size

    def n_batches(self, batch_size: int, world_size: int) -> int:
        """Return the number of batches of each process."""
        return math.ceil(len(self.rows) / (batch_size * world_size))

    def requests(
        self, epoch: int, cursor: Cursor, batch_size: int, rank: int, world_size: int
    ) -> Iterator[BatchRequest]:
        """Yield the batches of one process in an epoch, from a cursor on."""
        key = None if self._seed is None else [self._seed, epoch]
        batches = _deal(len(self.rows), batch_size, rank, world_size, key)
        n_together = max(1, WINDOW_ROWS // batch_size)  # gathering the labels of many rows at once is faster
        for first in range(cast(int, cursor["batch"]), len(batches), n_together):
            yield from self._gather(batches[first : first + n_together], epoch, first)

    def request(self, places: IntArray, epoch: int) -> BatchRequest:
        """Return a batch of the galaxies at these places in `rows`."""
        return next(self._gather([places], epoch, 0))

    def _gather(self, batches: list[IntArray], epoch: int, first: int) -> Iterator[BatchRequest]:
        """Yield consecutive batches, the first of which has the number `first`."""
        places = np.concatenate(batches)
        rows = self.rows[places]
        ids = self.keys["id_str"][places].to_list()
        counts, totals = self._counts[places], self._totals[places]
        seeds = augmentation_seeds(self._seed, epoch, rows)
        end = 0
        for done, batch in enumerate(batches, first + 1):
            part = slice(end, end := end + len(batch))
            own = rows[part]
            yield BatchRequest(
                ids[part], own, counts[part], totals[part], seeds[part], self._images, own, self._cache, {"batch": done}
            )


class StreamInput:
    """Galaxies that arrive one after the other.

    Each process of a distributed run reads the whole stream and uses its part. The order of the shards changes each
    epoch, and galaxies are shuffled in windows, so that resuming needs only the state at the start of a window.

    Args:
        stream: Stream of `datasets`.
        known: Campaign of its columns.
        name: Name of the stream for error messages.
        seed: Seed of the order, which changes each epoch. None keeps the order of the stream.
    """

    start: ClassVar[Cursor] = {"stream": None, "n_done": 0, "n_before": 0}

    def __init__(self, stream: datasets.IterableDataset, known: CampaignMatch, name: str, seed: int | None) -> None:
        self._known, self._name, self._seed = known, name, seed
        self.tree = known.campaign.published_tree
        columns = stream.column_names or []
        wanted = {"image", *KEY, *self.tree.columns, *(question.total_column for question in self.tree.questions)}
        self._stream = stream.select_columns([name for name in columns if name in wanted]).with_format("arrow")
        self.fingerprint = files.digest([name, sorted(columns), seed])

    def requests(
        self, epoch: int, cursor: Cursor, batch_size: int, rank: int, world_size: int
    ) -> Iterator[BatchRequest]:
        """Yield the batches of one process in an epoch, from a cursor on."""
        together = batch_size * world_size
        n_window = max(1, WINDOW_ROWS // together) * together
        n_done, n_before = cast(int, cursor["n_done"]), cast(int, cursor["n_before"])
        for table, state in self._windows(epoch, cursor["stream"], n_window, world_size):
            key = None if self._seed is None else [self._seed, epoch, n_before]
            batches = _deal(table.num_rows, batch_size, rank, world_size, key)
            labels = cast(pl.DataFrame, pl.from_arrow(table.drop_columns(["image"]).combine_chunks()))
            counts, totals = votes_in(_votes_of(labels, self._known), self.tree, self._name)
            ids = _keys(labels, self._known, self.fingerprint, n_before)["id_str"].to_list()
            images = MemoryReader(encoded_images(table, reads_files=False), self._name)
            for number, places in enumerate(batches[n_done:], n_done + 1):
                own, index = [ids[i] for i in places], n_before + places
                seeds = augmentation_seeds(self._seed, epoch, index)
                cursor = {"stream": state, "n_done": number, "n_before": n_before}
                yield BatchRequest(own, index, counts[places], totals[places], seeds, images, places, None, cursor)
            n_before, n_done = n_before + table.num_rows, 0

    def _windows(self, epoch: int, state: object, n_window: int, world_size: int) -> Iterator[tuple[pa.Table, object]]:
        """Yield tables of `n_window` rows, each with the state of the stream before it.

        The last is shorter, or longer by fewer rows than there are processes.
        """
        stream = self._shuffled(epoch)
        if state is not None:
            stream.load_state_dict(cast("dict[str, object]", state))
        before: object = stream.state_dict()
        waiting: tuple[pa.Table, object] | None = None
        for table in cast("Iterator[pa.Table]", stream.iter(batch_size=n_window)):
            after = stream.state_dict()
            if waiting is not None and table.num_rows < world_size:
                waiting = (pa.concat_tables([waiting[0], table]), waiting[1])
            else:
                if waiting is not None:
                    yield waiting
                waiting, before = (table, before), after
        if waiting is not None:
            yield waiting

    def _shuffled(self, epoch: int) -> datasets.IterableDataset:
        """Return the stream from its start, with its shards in the order of the epoch.

        Its own `shuffle` has a buffer that its state does not contain.
        """
        import datasets

        n = self._stream.num_shards
        order = np.arange(n) if self._seed is None else np.random.default_rng([self._seed, epoch]).permutation(n)
        return datasets.concatenate_datasets([self._stream.shard(n, int(i)) for i in order])


Input = SplitInput | StreamInput


def open_input(
    dataset: Dataset | Path | str | datasets.Dataset | datasets.IterableDataset | datasets.DatasetDict,
    split: str,
    *,
    rows: IntArray | None,
    seed: int | None,
    streaming: bool,
    campaign: Path | str | Campaign | None = None,
) -> Input:
    """Return the galaxies of a split, for each kind of dataset that `gzoo.loader` accepts."""
    among = (campaign_of(campaign),) if campaign else ()
    if not isinstance(dataset, Dataset | Path | str):
        return _from_datasets(dataset, split, rows, seed, "the stream", among)
    if streaming:
        path = dataset.folder if isinstance(dataset, Dataset) else dataset
        if not among and Path(path).is_dir():
            among = (open_dataset(path).campaign,)
        return _from_datasets(load(path, split=split, streaming=True), split, rows, seed, str(path), among)
    dataset = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    keys, counts, totals = dataset.vote_arrays(split)
    index = dataset.image_index(split)
    if index is not None:
        images: ImageReader = ShardReader(index)
    elif keys.is_empty():  # `datasets` refuses files without rows
        images = MemoryReader([], str(dataset.folder))
    else:
        import datasets

        # The images are compressed, so `datasets` copies them to an Arrow file, which it finds by path and time.
        with quietly():
            table = datasets.Dataset.from_parquet([str(path) for path in files.shards(dataset.folder, split)])
        if "image" not in (table.column_names or ()):
            raise DatasetError(
                f"Dataset '{dataset.folder}' contains no images.", hint="Rebuild it with --images, without --no-images."
            )
        images = TableReader(table)
    return SplitInput(dataset.tree, keys, counts, totals, images, files.digest([dataset.digest, split]), rows, seed)


def _from_datasets(
    dataset: object, split: str, rows: IntArray | None, seed: int | None, name: str, among: Sequence[Campaign]
) -> Input:
    import datasets

    if isinstance(dataset, datasets.DatasetDict | datasets.IterableDatasetDict):
        if split not in dataset:
            names = list(map(str, dataset))
            raise NotFoundError(f"Split '{split}' not found.", choices(names, split), suggestion(names, split))
        dataset = dataset[split]
    if not isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
        raise InputError(
            f"Cannot load batches from an object of type {type(dataset).__name__}.",
            "a folder, a name on the Hub, or a result of gzoo.open_dataset, gzoo.load or datasets.load_dataset.",
        )
    columns = dataset.column_names or []
    known = match_campaign(set(columns), among)
    if known is None or "image" not in columns:
        raise DatasetError(
            f"Columns do not match any campaign: {', '.join(columns[:6])}, ...",
            "`image` and the vote columns of a campaign.",
            "Run `gzoo campaigns` to list the campaigns, or pass `campaign`, the path of a TOML file.",
        )
    if isinstance(dataset, datasets.IterableDataset):
        if rows is not None:
            raise InputError("Rows of a stream cannot be chosen.", hint="Omit `rows`, or pass streaming=False.")
        return StreamInput(dataset, known, name, seed)
    frame = cast(pl.DataFrame, dataset.remove_columns(["image"]).with_format("polars")[:])
    tree = known.campaign.published_tree
    counts, totals = votes_in(_votes_of(frame, known), tree, "the table")
    fingerprint = dataset._fingerprint  # pyright: ignore[reportPrivateUsage]  covers the data and its transforms
    keys = _keys(frame, known, fingerprint)
    return SplitInput(tree, keys, counts, totals, TableReader(dataset), fingerprint, rows, seed)


def _votes_of(rows: pl.DataFrame, known: CampaignMatch) -> pl.DataFrame:
    """Return the vote columns of the questions for which votes were collected."""
    tree = known.campaign.published_tree
    not_known = {column for name in known.not_collected for column in tree.question(name).columns}
    return rows.select(name for name in vote_columns(tree) if name in rows.columns and name not in not_known)


def _keys(rows: pl.DataFrame, known: CampaignMatch, prefix: str, first: int = 0) -> pl.DataFrame:
    """Return `dataset_name` and `id_str` of rows, generated from the row number where the table lacks them."""
    number = (first + pl.int_range(pl.len())).cast(pl.String).str.zfill(7)
    missing = {"dataset_name": pl.lit(known.campaign.name), "id_str": pl.lit(f"{prefix[:8]}-") + number}
    return rows.select(pl.col(name) if name in rows.columns else missing[name].alias(name) for name in KEY)


def _deal(n: int, batch_size: int, rank: int, world_size: int, key: list[int] | None) -> list[IntArray]:
    """Return the batches of one process as places from 0 to n - 1, shuffled unless `key` is None.

    All processes have the same number of batches, whose sizes differ by at most one.
    """
    if n < world_size:
        raise InputError(
            f"Cannot divide {n} galaxies among {world_size} processes.",
            "at least one galaxy for each process.",
            "Use fewer processes or a larger dataset.",
        )
    order = np.arange(n)
    if key is not None:
        np.random.default_rng(key).shuffle(order)
    n_parts = math.ceil(n / (batch_size * world_size)) * world_size
    ends = np.arange(n_parts + 1) * n // n_parts
    return [order[ends[part] : ends[part + 1]] for part in range(rank, n_parts, world_size)]


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


def check_integers(low: int, high: int | None = None, /, **values: int) -> None:
    """Check that arguments are within limits.

    Raises:
        InputError: A value is out of range.
    """
    limits = f"at least {low}" if high is None else f"from {low} to {high:,}"
    for name, value in values.items():
        if value < low or (high is not None and value > high):
            raise InputError(f"{name} must be {limits}, got {value}.")
