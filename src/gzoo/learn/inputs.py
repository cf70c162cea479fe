"""Where a loader's galaxies come from: a split on this machine, a table of `datasets`, or a stream of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from gzoo import files
from gzoo.dataset.index import vote_columns
from gzoo.dataset.open import KEY, Dataset, Recognised, load, open_dataset, quietly, recognised, votes_in
from gzoo.errors import DatasetError, InputError, NotFoundError
from gzoo.learn.cache import ImageCache
from gzoo.learn.decoding import quick_size
from gzoo.learn.image_bytes import HeldImages, Images, ShardImages, TableImages, encoded
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.votes import Votes

if TYPE_CHECKING:
    import datasets

ROWS_OF_WINDOW = 2048

Counts = npt.NDArray[np.int32]
At = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Task:
    """A batch to be made.

    Attributes:
        ids: Identifier of each galaxy.
        rows: Its row in the split, or its place in the stream.
        votes: Shape (galaxy, answer).
        totals: Shape (galaxy, question).
        seeds: Of augmentation.
        images: Where its image is read from.
        at: Which of those it is.
        cache: Where decoded images are kept.
        after: Where its source is when the batch has been given out.
    """

    ids: list[str]
    rows: IntArray
    votes: Counts
    totals: Counts
    seeds: IntArray
    images: Images
    at: IntArray
    cache: ImageCache | None
    after: At


class Split:
    """Galaxies whose number and votes are known, and whose images can be read in any order.

    Args:
        tree: The questions.
        keys: `dataset_name` and `id_str` of all rows of the split.
        counts: Their votes.
        totals: People asked.
        images: Their images.
        digest: Names the data.
        rows: Which of them to use; all when None.
        seed: Of the order, which is new each epoch; None: as they stand.
    """

    start: ClassVar[At] = {"batch": 0}

    def __init__(
        self,
        tree: Tree,
        keys: pl.DataFrame,
        counts: Counts,
        totals: Counts,
        images: Images,
        digest: str,
        rows: IntArray | None,
        seed: int | None,
    ) -> None:
        n = len(counts)
        self.rows: IntArray = np.arange(n) if rows is None else np.asarray(rows, np.int64)
        if rows is not None and n and len(rows) and not 0 <= self.rows.min() <= self.rows.max() < n:
            raise InputError(f"Row {self.rows.max()} of {n}.", f"Rows from 0 to {n - 1}.", "Choose others.")
        self.tree = tree
        self.keys = keys if rows is None else keys[self.rows]
        self._counts = counts if rows is None else counts[self.rows]
        self._totals = totals if rows is None else totals[self.rows]
        self._images, self._seed, self._n_all = images, seed, n
        self._cache: ImageCache | None = None
        self._data = digest
        self.digest = files.digest(
            [digest, len(self.rows), files.digest(self.rows.tolist()) if rows is not None else 0, seed]
        )

    @property
    def votes(self) -> Votes:
        """All votes."""
        return Votes(self.tree, self._counts.astype(np.int64), self._totals.astype(np.int64))

    def keep(self, folder: Path, size: int, max_bytes: int) -> None:
        """Keep decoded images of that size in a folder."""
        self._cache = ImageCache(folder, self._data, self._n_all, size, max_bytes)

    def decoded_size(self, least: int, most: int) -> int:
        """The least size within limits that images like the first of the split are decoded to without a resize."""
        first = self._images.read([0])[0] if least < most and self._n_all else None
        return least if first is None else quick_size(first, least, most)

    def n_batches(self, batch_size: int, n_ranks: int) -> int:
        """Batches of each process."""
        return math.ceil(len(self.rows) / (batch_size * n_ranks))

    def tasks(self, epoch: int, at: At, batch_size: int, rank: int, n_ranks: int) -> Iterator[Task]:
        """The batches of one process in an epoch, from where it is."""
        n, n_batches = len(self.rows), self.n_batches(batch_size, n_ranks)
        if n < n_ranks:
            raise InputError(f"{n} galaxies for {n_ranks} processes.", "At least one for each.", "Use fewer processes.")
        order = np.arange(n)
        if self._seed is not None:
            np.random.default_rng([self._seed, epoch]).shuffle(order)
        ends = np.arange(n_batches * n_ranks + 1) * n // max(1, n_batches * n_ranks)
        mine = [order[ends[part] : ends[part + 1]] for part in range(rank, n_batches * n_ranks, n_ranks)]
        begun = cast(int, at["batch"])
        n_together = max(1, ROWS_OF_WINDOW // batch_size)  # labels of many rows at once are gathered in less time
        for first in range(begun, n_batches, n_together):
            some = mine[first : first + n_together]
            yield from self._some(some, epoch, first)

    def task(self, places: IntArray, epoch: int) -> Task:
        """A batch of some galaxies, by their places among `rows`."""
        return next(self._some([places], epoch, 0))

    def _some(self, parts: list[IntArray], epoch: int, first: int) -> Iterator[Task]:
        """Batches that come one after the other."""
        places = np.concatenate(parts)
        rows = self.rows[places]
        ids = self.keys["id_str"][places].to_list()
        counts, totals, seeds = self._counts[places], self._totals[places], seeds_of(self._seed, epoch, rows)
        end = 0
        for batch, part in enumerate(parts, first + 1):
            of = slice(end, end := end + len(part))
            yield Task(
                ids[of],
                rows[of],
                counts[of],
                totals[of],
                seeds[of],
                self._images,
                rows[of],
                self._cache,
                {"batch": batch},
            )


class Stream:
    """Galaxies that come one after the other.

    Each process of a distributed run reads all of it and takes its share. Shards come in a new order each epoch, and
    galaxies are shuffled in windows: a window's beginning is all that must be known to go on inside it.

    Args:
        stream: What `datasets` streams.
        name: What to call it in errors.
        seed: Of the order, which is new each epoch; None: as they come.
    """

    start: ClassVar[At] = {"stream": None, "passed": 0, "rows": 0}

    def __init__(self, stream: datasets.IterableDataset, name: str, seed: int | None) -> None:
        columns = stream.column_names
        if not columns:
            raise DatasetError(f"{name} does not say its columns.", "A stream with named columns.", "Load it whole.")
        known = recognised(set(columns))
        if known is None:
            raise DatasetError(f"The columns of {name} are no campaign's.", "Those of one.", "See `gzoo campaigns`.")
        self._known, self._name, self._seed = known, name, seed
        self._columns = columns
        self.tree = known.campaign.published_tree
        wanted = {"image", *KEY, *self.tree.columns, *(question.total_column for question in self.tree.questions)}
        self._stream = stream.select_columns([name for name in columns if name in wanted]).with_format("arrow")
        self.digest = files.digest([name, sorted(columns), seed])

    def tasks(self, epoch: int, at: At, batch_size: int, rank: int, n_ranks: int) -> Iterator[Task]:
        """The batches of one process in an epoch, from where it is."""
        together = batch_size * n_ranks
        n_window = max(1, ROWS_OF_WINDOW // together) * together
        passed, n_before = cast(int, at["passed"]), cast(int, at["rows"])
        windows = self._windows(epoch, at["stream"], n_window, n_ranks)
        for number, (table, begun) in enumerate(windows):
            n = table.num_rows
            if n < n_ranks:
                raise InputError(
                    f"{n} galaxies for {n_ranks} processes.", "At least one for each.", "Use fewer processes."
                )
            order = np.arange(n)
            if self._seed is not None:
                np.random.default_rng([self._seed, epoch, n_before]).shuffle(order)
            n_batches = math.ceil(n / together)
            ends = np.arange(n_batches * n_ranks + 1) * n // (n_batches * n_ranks)
            labels = cast(pl.DataFrame, pl.from_arrow(table.drop_columns(["image"]).combine_chunks()))
            counts, totals = votes_in(_votes_of(labels, self._known), self.tree, self._name)
            ids = (
                labels["id_str"].to_list()
                if "id_str" in labels.columns
                else [f"{self.digest[:8]}-{n_before + i:07d}" for i in range(n)]
            )
            held = HeldImages(encoded(table, reads_files=False), self._name)
            for batch in range(passed if number == 0 else 0, n_batches):
                part = batch * n_ranks + rank
                places = order[ends[part] : ends[part + 1]]
                rows = n_before + places
                yield Task(
                    [ids[i] for i in places],
                    rows,
                    counts[places],
                    totals[places],
                    seeds_of(self._seed, epoch, rows),
                    held,
                    places,
                    None,
                    {"stream": begun, "passed": batch + 1, "rows": n_before},
                )
            n_before += n

    def _windows(self, epoch: int, state: object, n_window: int, n_ranks: int) -> Iterator[tuple[pa.Table, object]]:
        """Tables of so many rows, the last shorter or, by less than one for each process, longer.

        With each, the state of the stream before it.
        """
        stream = self._shuffled(epoch)
        if state is not None:
            stream.load_state_dict(cast("dict[str, object]", state))
        before: object = stream.state_dict()
        held: tuple[pa.Table, object] | None = None
        for table in cast("Iterator[pa.Table]", stream.iter(batch_size=n_window)):
            after = stream.state_dict()
            if held is not None and table.num_rows < n_ranks:
                held = (pa.concat_tables([held[0], table]), held[1])
                continue
            if held is not None:
                yield held
            held, before = (table, before), after
        if held is not None:
            yield held

    def _shuffled(self, epoch: int) -> datasets.IterableDataset:
        """The stream from its beginning, its shards in the order of the epoch.

        Its own way to shuffle has a buffer that no state holds.
        """
        import datasets

        n = self._stream.num_shards
        order = np.arange(n) if self._seed is None else np.random.default_rng([self._seed, epoch]).permutation(n)
        return datasets.concatenate_datasets([self._stream.shard(n, int(i)) for i in order])


Source = Split | Stream


def source_of(
    dataset: Dataset | Path | str | datasets.Dataset | datasets.IterableDataset | datasets.DatasetDict,
    split: str,
    *,
    rows: IntArray | None,
    seed: int | None,
    streaming: bool,
) -> Source:
    """The galaxies of a dataset, whatever it is given as."""
    if not isinstance(dataset, Dataset | Path | str):
        return _of_datasets(dataset, split, rows, seed)
    if streaming:
        if isinstance(dataset, Dataset):
            dataset = dataset.folder
        return _of_datasets(load(dataset, split=split, streaming=True), split, rows, seed, str(dataset))
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset)
    keys, counts, totals = dataset.vote_arrays(split)
    index = dataset.image_index(split)
    if index is not None:
        images: Images = ShardImages(index)
    else:
        import datasets

        # stored in another way; `datasets` makes an Arrow file of them, and knows these by path and time
        with quietly():
            table = datasets.Dataset.from_parquet([str(path) for path in files.shards(dataset.folder, split)])
        if "image" not in (table.column_names or ()):
            raise DatasetError(f"{dataset.folder} has no images.", "Some.", "Build it with --images.")
        images = TableImages(table)
    return Split(dataset.tree, keys, counts, totals, images, files.digest([dataset.digest, split]), rows, seed)


def _of_datasets(given: object, split: str, rows: IntArray | None, seed: int | None, name: str | None = None) -> Source:
    import datasets

    if isinstance(given, datasets.DatasetDict | datasets.IterableDatasetDict):
        if split not in given:
            raise NotFoundError(f"There is no split '{split}'.", f"One of {', '.join(map(str, given))}.", "Choose one.")
        given = given[split]
    if isinstance(given, datasets.IterableDataset):
        if rows is not None:
            raise InputError("Rows of a stream were chosen.", "All of them.", "Leave `rows` away, or do not stream.")
        return Stream(given, name or "the stream", seed)
    if not isinstance(given, datasets.Dataset):
        raise InputError(
            f"The dataset is a {type(given).__name__}.",
            "A folder, a name on the Hub, or what gzoo.open_dataset, gzoo.load or datasets.load_dataset returns.",
            "Give one of these.",
        )
    known = recognised(set(given.column_names))
    if known is None or "image" not in given.column_names:
        raise DatasetError(
            f"The columns of the table are no campaign's: {', '.join(given.column_names[:6])}, ...",
            "`image` and the columns of votes of a campaign.",
            "See `gzoo campaigns` and GUIDE.md, On disk.",
        )
    labels = given.remove_columns(["image"]).with_format("polars")[:]
    frame = cast(pl.DataFrame, labels)
    tree = known.campaign.published_tree
    counts, totals = votes_in(_votes_of(frame, known), tree, "the table")
    print_of = given._fingerprint  # pyright: ignore[reportPrivateUsage]  names the data and what was done to them
    number = pl.int_range(pl.len()).cast(pl.String).str.zfill(7)
    keys = frame.select(
        dataset_name=pl.col("dataset_name") if "dataset_name" in frame.columns else pl.lit(known.campaign.name),
        id_str=pl.col("id_str") if "id_str" in frame.columns else pl.lit(f"{print_of[:8]}-") + number,
    )
    return Split(tree, keys, counts, totals, TableImages(given), print_of, rows, seed)


def _votes_of(rows: pl.DataFrame, known: Recognised) -> pl.DataFrame:
    """The vote columns of the questions that were asked."""
    tree = known.campaign.published_tree
    not_known = {column for name in known.not_collected for column in tree.question(name).columns}
    return rows.select(name for name in vote_columns(tree) if name in rows.columns and name not in not_known)


def seeds_of(seed: int | None, epoch: int, rows: IntArray) -> IntArray:
    """A seed for each galaxy, of an epoch; without a seed the same in all epochs."""
    start = np.array([0 if seed is None else seed + 1, 0 if seed is None else epoch + 1], np.uint64)
    with np.errstate(over="ignore"):
        mixed = _mixed(_mixed(start[:1]) + start[1:])
        return (_mixed(mixed + rows.astype(np.uint64)) >> np.uint64(1)).astype(np.int64)


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's value at a place (Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
