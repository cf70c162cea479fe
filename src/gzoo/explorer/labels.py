"""Labels of a dataset in memory: votes, identifiers, positions and predictions of every galaxy, in one order of rows.

Label columns are read once. Everything the page asks for afterwards is arithmetic on these arrays: no database is
involved, and nothing is read again except images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from gzoo import files
from gzoo.dataset.open import Dataset, reading
from gzoo.dataset.schema import KEY
from gzoo.errors import TableError
from gzoo.files import Progress
from gzoo.scoring.posterior import Posterior, posterior
from gzoo.scoring.predictions import Predictions, read_predictions
from gzoo.trees.tree import Question, Tree
from gzoo.votes.votes import Votes

LEVEL = 0.9
"""Probability mass of all intervals on the page."""

Counts = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Predicted:
    """Predictions for some of the galaxies.

    Attributes:
        read: The predictions, in the order of their file.
        row: Row of each prediction in the labels, shape (prediction,).
        is_seen: Whether the model was trained on the galaxy of each prediction, shape (prediction,).
    """

    read: Predictions
    row: Rows
    is_seen: BoolArray

    @cached_property
    def place(self) -> dict[int, int]:
        """Row of the labels -> prediction."""
        return {row: i for i, row in enumerate(self.row.tolist())}

    @cached_property
    def fractions(self) -> Numbers:
        """Predicted vote fractions, shape (prediction, answer); NaN for questions that are not predicted."""
        return np.asfortranarray(self.read.fractions, np.float32)

    def beta(self, i: int, votes: Votes | None = None) -> Posterior | None:
        """Return the distribution of the underlying vote fractions of one prediction.

        Args:
            i: Index of the prediction.
            votes: Votes of that galaxy, which make the result the posterior; None for the prediction alone.

        Returns:
            None if the file contains only fractions, without uncertainty.
        """
        if self.read.kind != "concentrations":
            return None
        tree = self.read.tree
        none = Votes(tree, np.zeros((1, len(tree.columns)), np.int64))
        with np.errstate(invalid="ignore"):  # questions that are not predicted are NaN
            return posterior(votes or none, self.read.values[:, i : i + 1])


@dataclass(frozen=True)
class Labels:
    """Labels of all galaxies of a dataset; arrays have one entry for each row.

    Attributes:
        dataset: The dataset.
        frame: `id_str`, `dataset_name`, `ra`, `dec` and all other columns that are neither images nor votes. NaN is
            null.
        counts: Vote counts, shape (galaxy, answer), in column-major order.
        totals: Total votes, shape (galaxy, question), in column-major order.
        split: Index into `dataset.splits`, shape (galaxy,).
        predicted: Predictions, or None.
    """

    dataset: Dataset
    frame: pl.DataFrame
    counts: Counts
    totals: Counts
    split: Codes
    predicted: Predicted | None = None

    def __len__(self) -> int:
        return self.frame.height

    @property
    def tree(self) -> Tree:
        """The questions of the dataset."""
        return self.dataset.tree

    @cached_property
    def campaigns(self) -> tuple[str, ...]:
        """The values of `dataset_name`, sorted."""
        return tuple(sorted(self.frame["dataset_name"].unique().drop_nulls().to_list()))

    @cached_property
    def campaign(self) -> Codes:
        """Index into `campaigns`, shape (galaxy,); all campaigns after the 254th share one."""
        known = pl.Enum(list(self.campaigns))
        return self.frame["dataset_name"].cast(known).to_physical().clip(0, 254).cast(pl.UInt8).to_numpy()

    @cached_property
    def position(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Right ascension and declination in degrees, NaN where unknown."""
        ra, dec = (self.frame[name].fill_null(np.nan).to_numpy() for name in ("ra", "dec"))
        return ra, dec

    @cached_property
    def collected(self) -> tuple[Question, ...]:
        """Questions with known votes, in the order of asking."""
        return tuple(one for one in self.tree.ordered if one.name not in self.dataset.not_collected)

    def answer(self, column: str) -> int:
        """Return the index of an answer's column of votes."""
        return self.tree.columns.index(column)

    def question(self, name: str) -> int:
        """Return the index of a question."""
        return [one.name for one in self.tree.questions].index(name)

    def votes_of(self, rows: Sequence[int] | Rows) -> Votes:
        """Return the votes of some galaxies."""
        chosen = np.asarray(rows)
        return Votes(self.tree, self.counts[chosen].astype(np.int64), self.totals[chosen].astype(np.int64))

    @cached_property
    def row_of_id(self) -> dict[str, list[int]]:
        """Identifier -> its rows; several where campaigns share an identifier."""
        found: dict[str, list[int]] = {}
        for row, name in enumerate(self.frame["id_str"].to_list()):
            found.setdefault(str(name), []).append(row)
        return found


def read_labels(dataset: Dataset, predictions: Path | None = None, progress: Progress | None = None) -> Labels:
    """Read the labels of a dataset, and predictions for its galaxies.

    Args:
        dataset: The dataset.
        predictions: Prediction file.
        progress: Called with (stage, splits done, splits in total).

    Raises:
        DatasetError: A shard or its index cannot be read.
        TableError: The predictions cannot be read, or are of galaxies that are not in the dataset.
    """
    frames: list[pl.DataFrame] = []
    counts: list[Counts] = []
    totals: list[Counts] = []
    splits: list[Codes] = []
    for i, split in enumerate(dataset.splits):
        if progress:
            progress("Reading labels", i, len(dataset.splits))
        keys, own_counts, own_totals = dataset.vote_arrays(split)
        frames.append(_others(dataset, split, keys))
        counts.append(own_counts)
        totals.append(own_totals)
        splits.append(np.full(keys.height, i, np.uint8))
    if progress:
        progress("Reading labels", len(dataset.splits), len(dataset.splits))
    frame = pl.concat(frames, how="diagonal_relaxed").rechunk()
    labels = Labels(
        dataset,
        frame.with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None)),
        np.asfortranarray(np.concatenate(counts)),
        np.asfortranarray(np.concatenate(totals)),
        np.concatenate(splits),
    )
    if predictions is None:
        return labels
    return Labels(
        dataset, labels.frame, labels.counts, labels.totals, labels.split, _predicted(labels, Path(predictions))
    )


def _others(dataset: Dataset, split: str, keys: pl.DataFrame) -> pl.DataFrame:
    """Return the keys of a split with all columns that are neither images nor derived from votes."""
    shards = files.shards(dataset.folder, split)
    derived = {"image", *KEY, *dataset.tree.columns, *(f"{column}_fraction" for column in dataset.tree.columns)}
    derived |= {question.total_column for question in dataset.tree.questions}
    parts: list[pl.DataFrame] = []
    for shard in shards:
        with reading(shard):
            names = [name for name in pq.read_schema(shard).names if name not in derived]
            if names:
                parts.append(pl.read_parquet(shard, columns=names, glob=False))
    others = pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame()
    frame = keys.hstack(others.get_columns()) if others.width else keys
    absent = [name for name in ("ra", "dec") if name not in frame.columns]
    return frame.with_columns(pl.lit(None, pl.Float64).alias(name) for name in absent)


def _predicted(labels: Labels, path: Path) -> Predicted:
    read = read_predictions(path, labels.tree)
    by = list(KEY) if read.keys["dataset_name"].null_count() == 0 else ["id_str"]
    known = labels.frame.select(by).with_row_index("row")
    joined = read.keys.select(by).join(known.unique(by, keep="first"), on=by, how="left", maintain_order="left")
    unknown = joined["row"].is_null()
    if unknown.any():
        first = read.keys["id_str"][int(unknown.arg_max() or 0)]
        raise TableError(
            f"'{path}' contains {unknown.sum():,} galaxies (of {len(read):,}) that are not in "
            f"'{labels.dataset.folder}', first '{first}'.",
            "predictions for galaxies of this dataset.",
        )
    row = joined["row"].cast(pl.Int64).to_numpy()
    is_train = np.zeros(len(labels), np.bool_)
    with contextlib.suppress(ValueError):
        is_train = labels.split == labels.dataset.splits.index("train")
    said = read.in_training_set
    is_seen = said.zip_with(said.is_not_null(), pl.Series(is_train[row])).to_numpy()
    return Predicted(read, cast(Rows, row), cast(BoolArray, is_seen))
