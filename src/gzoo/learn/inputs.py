"""Inputs of a loader: a split on this machine, a table of `datasets`, or a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo import files
from gzoo.dataset.open import Dataset, load, match_campaign, open_dataset, quietly, votes_in
from gzoo.errors import DatasetError, InputError, NotFoundError, choices, suggestion
from gzoo.learn.cache import ImageCache
from gzoo.learn.dealing import Cursor, augmentation_seeds, deal, n_batches, resumed
from gzoo.learn.decoding import fast_size
from gzoo.learn.image_bytes import ImageReader, MemoryReader, ShardReader, TableReader
from gzoo.learn.requests import BatchRequest, Counts, keys_of, votes_of
from gzoo.learn.sampling import SAMPLINGS, balanced_order, groups_of
from gzoo.learn.stream_input import THE_STREAM, StreamInput, columns_of
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.votes import Votes

if TYPE_CHECKING:
    import datasets

ROWS_TOGETHER = 2048  # gathering the labels of many rows at once is faster


class SplitInput:
    """Galaxies whose number and votes are known, and whose images can be read in any order.

    Args:
        tree: Decision tree.
        keys: `dataset_name` and `id_str` of all rows of the split.
        counts: Vote counts, shape (galaxy, answer).
        totals: Total votes, shape (galaxy, question).
        images: Reader of the images.
        fingerprint: String that identifies the data.
        rows: Rows of the split to use, or a mask; all when None.
        seed: Seed of the order, which changes each epoch. None keeps the order of the split.
    """

    def __init__(
        self,
        tree: Tree,
        keys: pl.DataFrame,
        counts: Counts,
        totals: Counts,
        images: ImageReader,
        fingerprint: str,
        rows: IntArray | npt.NDArray[np.bool_] | None,
        seed: int | None,
    ) -> None:
        n = self._n_all = len(counts)
        self.rows: IntArray = np.arange(n) if rows is None else chosen_rows(rows, n)
        self.tree = tree
        self.keys = keys if rows is None else keys[self.rows]
        self._counts = counts if rows is None else counts[self.rows]
        self._totals = totals if rows is None else totals[self.rows]
        self._images, self._seed, self._data = images, seed, fingerprint
        self._cache: ImageCache | None = None
        self._groups: IntArray | None = None
        chosen = 0 if rows is None else files.digest(self.rows.tolist())
        self.fingerprint = files.digest([fingerprint, len(self.rows), chosen, seed])

    @property
    def votes(self) -> Votes:
        """All votes, in the order of `rows`."""
        return Votes(self.tree, self._counts.astype(np.int64), self._totals.astype(np.int64))

    def use_cache(self, folder: Path, size: int, max_bytes: int) -> None:
        """Keep decoded images of that size in a folder."""
        self._cache = ImageCache(folder, self._data, self._n_all, size, max_bytes)

    def balance(self) -> None:
        """Show equally many galaxies of each campaign in an epoch; see `gzoo.learn.sampling`."""
        if self._seed is None:
            raise InputError("Balanced sampling needs a seed.", hint="Pass a seed, or sampling='proportional'.")
        self._groups = groups_of(self.keys)
        self.fingerprint = files.digest([self.fingerprint, "balanced"])

    def decoded_size(self, min_size: int, max_size: int) -> int:
        """Return the smallest size within limits to which images like the first are decoded without resizing."""
        first = self._images.read([0])[0] if min_size < max_size and self._n_all else None
        return fast_size(first, min_size, max_size) if isinstance(first, bytes) else min_size

    def n_batches(self, batch_size: int, world_size: int) -> int:
        """Return the number of batches of each process in an epoch."""
        return n_batches(len(self.rows), batch_size, world_size)

    def requests(
        self, epoch: int, cursor: Cursor, batch_size: int, rank: int, world_size: int
    ) -> Iterator[BatchRequest]:
        """Yield the batches of one process in an epoch, from a cursor on."""
        order = np.arange(len(self.rows))
        if self._seed is not None:
            generator = np.random.default_rng([self._seed, epoch])
            if self._groups is None:
                generator.shuffle(order)
            else:
                order = balanced_order(self._groups, generator)
        dealt_from, n_done = resumed(cursor, world_size)
        ends, n_shown = deal(len(order) - dealt_from, batch_size, rank, world_size, n_before=dealt_from)
        batches = [order[first:end] for first, end in (ends + dealt_from).tolist()]
        after: list[Cursor] = [
            {"dealt_from": dealt_from, "batch": batch, "n_shown": dealt_from + n, "world_size": world_size}
            for batch, n in enumerate(n_shown.tolist(), 1)
        ]
        n_together = max(1, ROWS_TOGETHER // batch_size)
        for first in range(n_done, len(batches), n_together):
            part = slice(first, first + n_together)
            yield from self._gather(batches[part], epoch, after[part])

    def request(self, places: IntArray, epoch: int) -> BatchRequest:
        """Return a batch of the galaxies at these places in `rows`."""
        return next(self._gather([places], epoch, [{}]))

    def _gather(self, batches: list[IntArray], epoch: int, after: list[Cursor]) -> Iterator[BatchRequest]:
        """Yield batches of the galaxies at these places in `rows`, each with the cursor after it."""
        places = np.concatenate(batches)
        rows = self.rows[places]
        ids = self.keys["id_str"][places].to_list()
        counts, totals = self._counts[places], self._totals[places]
        seeds = augmentation_seeds(self._seed, epoch, rows)
        end = 0
        for batch, cursor in zip(batches, after, strict=True):
            part = slice(end, end := end + len(batch))
            own = rows[part]
            yield BatchRequest(
                ids[part], own, counts[part], totals[part], seeds[part], self._images, own, self._cache, cursor
            )


Input = SplitInput | StreamInput


def sampled(data: Input, sampling: str) -> Input:
    """Return galaxies whose epochs sample the campaigns of a union in this way."""
    if sampling not in SAMPLINGS:
        raise InputError(f"Invalid value for sampling: '{sampling}'.", choices(SAMPLINGS))
    if sampling == "balanced":
        if not isinstance(data, SplitInput):
            hint = "Pass sampling='proportional', or download the dataset first."
            raise InputError("A stream cannot be balanced.", hint=hint)
        data.balance()
    return data


def open_input(
    dataset: Dataset | Path | str | datasets.Dataset | datasets.IterableDataset | datasets.DatasetDict,
    split: str,
    rows: IntArray | npt.NDArray[np.bool_] | None,
    seed: int | None,
    streaming: bool,
    campaign: Path | str | Campaign | None = None,
) -> Input:
    """Return the galaxies of a split, for each kind of dataset that `gzoo.loader` accepts."""
    among = (campaign_of(campaign),) if campaign else ()
    if not isinstance(dataset, Dataset | Path | str):
        return _from_datasets(dataset, split, rows, seed, THE_STREAM, among)
    if streaming:
        path = dataset.folder if isinstance(dataset, Dataset) else dataset
        if not among and Path(path).is_dir():
            among = (open_dataset(path).campaign,)
        digest = open_dataset(path).digest if Path(path).is_dir() else ""
        return _from_datasets(load(path, split=split, streaming=True), split, rows, seed, str(path), among, digest)
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
    dataset: object,
    split: str,
    rows: IntArray | npt.NDArray[np.bool_] | None,
    seed: int | None,
    name: str,
    among: Sequence[Campaign],
    digest: str = "",
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
    is_stream = isinstance(dataset, datasets.IterableDataset)
    columns = columns_of(dataset, name) if is_stream else dataset.column_names or []
    known = match_campaign(set(columns), among)
    if known is None or "image" not in columns:
        raise DatasetError(
            f"Columns do not match any campaign: {', '.join(columns[:6])}, ...",
            "`image` and the vote columns of a campaign.",
            "Run `gzoo campaigns` to list the campaigns, or pass `campaign`, the path of a TOML file.",
        )
    if is_stream:
        if rows is not None:
            raise InputError("Rows of a stream cannot be chosen.", hint="Omit `rows`, or pass streaming=False.")
        return StreamInput(dataset, known, name, seed, files.digest([digest, split]) if digest else "")
    frame = cast(pl.DataFrame, dataset.remove_columns(["image"]).with_format("polars")[:])
    tree = known.campaign.published_tree
    counts, totals = votes_in(votes_of(frame, known), tree, "the table")
    fingerprint = dataset._fingerprint  # pyright: ignore[reportPrivateUsage]  covers the data and its transforms
    keys = keys_of(frame, known, fingerprint)
    return SplitInput(tree, keys, counts, totals, TableReader(dataset), fingerprint, rows, seed)


def chosen_rows(rows: object, n: int, name: str = "rows") -> IntArray:
    """Return row numbers from row numbers or a mask.

    Args:
        rows: Whole numbers from 0 to n - 1, or n truth values.
        n: Number of rows to choose from.
        name: Name of the argument, for messages.

    Raises:
        InputError: They are neither, or out of range.

    >>> chosen_rows([True, False, True], 3).tolist()
    [0, 2]
    """
    given = np.asarray(rows)
    if given.dtype == np.bool_:
        if given.shape != (n,):
            raise InputError(f"The mask `{name}` has shape {given.shape}.", f"a truth value for each of {n} rows.")
        return np.flatnonzero(given)
    if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size):
        raise InputError(
            f"`{name}` is an array of type {given.dtype} and shape {given.shape}.",
            f"row numbers from 0 to {n - 1}, or a mask of {n} truth values.",
        )
    outside = given[(given < 0) | (given >= n)]
    if len(outside):
        raise InputError(f"Row {outside[0]} not found in the split.", f"rows from 0 to {n - 1}.")
    return given.astype(np.int64)


def check_integers(low: int, high: int | None = None, /, **values: int) -> None:
    """Check that arguments are within limits.

    Raises:
        InputError: A value is out of range.
    """
    limits = f"at least {low}" if high is None else f"from {low} to {high:,}"
    for name, value in values.items():
        if value < low or (high is not None and value > high):
            raise InputError(f"{name} must be {limits}, got {value}.")
