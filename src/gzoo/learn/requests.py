"""What a batch is made of, and the labels of rows of `datasets`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.dataset.index import vote_columns
from gzoo.dataset.open import KEY, CampaignMatch
from gzoo.learn.cache import ImageCache
from gzoo.learn.dealing import Cursor
from gzoo.learn.image_bytes import ImageReader
from gzoo.trees.tree import IntArray

Counts = npt.NDArray[np.int32]


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


def votes_of(rows: pl.DataFrame, known: CampaignMatch) -> pl.DataFrame:
    """Return the vote columns of the questions for which votes were collected."""
    tree = known.campaign.published_tree
    not_known = {column for name in known.not_collected for column in tree.question(name).columns}
    return rows.select(name for name in vote_columns(tree) if name in rows.columns and name not in not_known)


def keys_of(rows: pl.DataFrame, known: CampaignMatch, prefix: str, first: int = 0) -> pl.DataFrame:
    """Return `dataset_name` and `id_str` of rows, generated from the row number where the table lacks them."""
    number = (first + pl.int_range(pl.len())).cast(pl.String).str.zfill(7)
    missing = {"dataset_name": pl.lit(known.campaign.name), "id_str": pl.lit(f"{prefix[:8]}-") + number}
    return rows.select(pl.col(name) if name in rows.columns else missing[name].alias(name) for name in KEY)
