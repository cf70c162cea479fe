"""Predictions and the votes of the galaxies that they are for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl

from gzoo.dataset.open import Dataset, Matrix
from gzoo.dataset.schema import KEY
from gzoo.errors import TableError
from gzoo.scoring.intervals import Blocks, blocks
from gzoo.scoring.prediction_files import read_metadata
from gzoo.scoring.predictions import BoolArray, ClassPredictions, Predictions
from gzoo.trees.tree import FloatArray, IntArray, Tree
from gzoo.votes.votes import Votes

INCLUDE = "`gzoo score` and `gzoo compare` accept them with --include-trained-on"


@dataclass(frozen=True)
class Matched:
    """The galaxies of a dataset that some predictions are for, in the order of the predictions.

    Attributes:
        keys: `dataset_name`, `id_str` and `split` of each galaxy, as in the dataset.
        votes: Votes of each galaxy.
        is_seen: Galaxies that the model was trained on, shape (galaxy,): those that the file marks. Where it does not
            say, those of the train split; out-of-fold predictions of that split are marked as unseen.
    """

    keys: pl.DataFrame
    votes: Votes
    is_seen: BoolArray


def match(
    dataset: Dataset,
    keys: pl.DataFrame,
    source: Path,
    in_training_set: pl.Series | None = None,
    *,
    tree: Tree | None = None,
) -> Matched:
    """Return the votes of the predicted galaxies.

    Args:
        dataset: Dataset with the votes.
        keys: `dataset_name` and `id_str`; if the first has nulls, `id_str` alone must be unique in the dataset.
        source: Prediction file, for error messages.
        in_training_set: Whether each galaxy is in the training set according to the file, null where it does not say.
        tree: A part of the tree of the dataset, whose votes are then 32-bit integers: half the memory, for millions.

    Raises:
        TableError: A galaxy is not in the dataset, or its `id_str` is ambiguous.
    """
    by = list(KEY) if keys["dataset_name"].null_count() == 0 else ["id_str"]
    wanted = keys.select(by)
    parts: list[tuple[pl.DataFrame, Matrix, Matrix]] = []
    for split in dataset.splits:
        theirs, counts, totals = dataset.vote_arrays(split, tree)
        rows = theirs.with_row_index("row").join(wanted, on=by, how="semi", maintain_order="left")["row"].to_numpy()
        if len(rows) < theirs.height:
            counts, totals = counts[rows], totals[rows]
        parts.append((theirs[rows].with_columns(split=pl.lit(split)), counts, totals))
    found = pl.concat([theirs for theirs, _, _ in parts]).with_row_index("place")
    repeated = found.select(by).is_duplicated()
    if repeated.any():
        name = found["id_str"][int(repeated.arg_max() or 0)]
        raise TableError(
            f"'{source}': id_str '{name}' is ambiguous, because several galaxies in '{dataset.folder}' have it.",
            "the dataset_name of each galaxy in addition to its id_str.",
            "Add a column dataset_name, or name it in a mapping file (--mapping).",
        )
    joined = wanted.join(found, on=by, how="left", maintain_order="left")
    unknown = joined.with_row_index("row").filter(pl.col("place").is_null())
    if unknown.height:
        first = " of ".join(f"'{unknown[name][0]}'" for name in reversed(by))
        raise TableError(
            f"'{source}' contains {unknown.height} galaxies (of {len(keys)}) that are not in '{dataset.folder}', "
            f"first {first} (row {unknown['row'][0] + 1}).",
            "predictions for galaxies of this dataset.",
        )
    place = joined["place"].to_numpy()
    kind = np.dtype(np.int64 if tree is None else np.int32)
    counts = _gathered([counts for _, counts, _ in parts], place, kind)
    totals = _gathered([totals for _, _, totals in parts], place, kind)
    is_train = joined["split"] == "train"
    is_seen = is_train if in_training_set is None else in_training_set.zip_with(in_training_set.is_not_null(), is_train)
    return Matched(joined.select(*KEY, "split"), Votes(tree or dataset.tree, counts, totals), is_seen.to_numpy())


def _gathered(parts: Sequence[Matrix], place: np.ndarray, kind: np.dtype[np.signedinteger]) -> IntArray:
    """Return rows of the concatenation of some matrices, without concatenating them."""
    found = cast(IntArray, np.empty((len(place), parts[0].shape[1]), kind, order="F"))
    start = 0
    for one in parts:
        is_here = (place >= start) & (place < start + len(one))
        rows = place[is_here] - start
        for i in range(found.shape[1]):
            found[is_here, i] = one[rows, i]
        start += len(one)
    return found


def match_held_out(
    dataset: Dataset, read: Predictions | ClassPredictions, source: Path, *, include_trained_on: bool
) -> tuple[Matched, Blocks]:
    """Return the votes of the predicted galaxies and the bootstrap units; reject galaxies of the training set.

    Args:
        dataset: Dataset with the votes.
        read: Predictions.
        source: Prediction file.
        include_trained_on: Accept galaxies that the model was trained on, and models trained with another split scheme.

    Raises:
        TableError: A galaxy is not in the dataset, the model was trained on some galaxies, or with another scheme.
    """
    matched = match(dataset, read.keys, source, read.in_training_set)
    if not include_trained_on:
        refuse_other_scheme(source, dataset)
        refuse_seen(matched, source)
    return matched, blocks(len(matched.votes), *positions(dataset, matched.keys))


def refuse_seen(matched: Matched, source: Path) -> None:
    """Check that the model was trained on none of the galaxies.

    Args:
        matched: Galaxies.
        source: Prediction file, for the error message.

    Raises:
        TableError: The model was trained on some of them.
    """
    n_seen = int(matched.is_seen.sum())
    if n_seen:
        first = matched.keys["id_str"].filter(pl.Series(matched.is_seen))[0]
        raise TableError(
            f"'{source}' contains {n_seen:,} galaxies that the model was trained on "
            f"(of {matched.keys.height:,}; first: '{first}').",
            "held-out galaxies only.",
            f"Predict the test split, or remove these galaxies; {INCLUDE}.",
        )


def other_scheme(source: Path, dataset: Dataset) -> object:
    """Return the split scheme that a model was trained with, if it differs from that of a dataset; None otherwise.

    Args:
        source: Prediction file.
        dataset: Dataset to score against.
    """
    scheme = read_metadata(source).get("trained_by_scheme")
    return scheme if scheme and scheme != dataset.split_scheme and "train" in dataset.splits else None


def refuse_other_scheme(source: Path, dataset: Dataset) -> None:
    """Check that the model was trained with the split scheme of a dataset, if the prediction file names a scheme.

    A dataset without a train split is a test set as a whole, so it does not have a scheme that may differ.

    Args:
        source: Prediction file.
        dataset: Dataset to score against.

    Raises:
        TableError: The schemes differ.
    """
    if scheme := other_scheme(source, dataset):
        raise TableError(
            f"Split schemes differ: '{scheme}' for the model of '{source}', '{dataset.split_scheme}' for "
            f"'{dataset.folder}'.",
            "one scheme, because otherwise the model may have been trained on galaxies of this test split.",
            f"Build both datasets with one scheme; {INCLUDE}.",
        )


def positions(dataset: Dataset, keys: pl.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Return right ascension and declination of each galaxy in degrees, NaN where unknown.

    Args:
        dataset: Dataset with the positions.
        keys: `dataset_name` and `id_str` of each galaxy.
    """
    known = pl.concat([dataset.positions(split) for split in dataset.splits]).unique(KEY)
    found = keys.select(KEY).join(known, on=KEY, how="left", maintain_order="left")
    return found["ra"].fill_null(np.nan).to_numpy(), found["dec"].fill_null(np.nan).to_numpy()
