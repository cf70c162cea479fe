"""Batches for a model: pictures at the training size, votes as one matrix."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np
import polars as pl
import torch
from PIL import Image

from gzoo.dataset import Dataset, load, quietly
from gzoo.errors import PictureError
from gzoo.trees import IntArray
from gzoo.votes import Votes

if TYPE_CHECKING:
    import datasets


class Batch(TypedDict):
    """Some galaxies.

    image: uint8, shape (galaxy, 3, height, width).
    votes: int64, shape (galaxy, answer).
    totals: People asked, int64, shape (galaxy, question).
    id_str: Identifier of each galaxy.
    """

    image: torch.Tensor
    votes: torch.Tensor
    totals: torch.Tensor
    id_str: list[str]


class Loader:
    """Galaxies of one split in batches; iterate over it once an epoch.

    Args:
        dataset: The dataset folder.
        split: Which split.
        size: Width and height of the pictures in pixels.
        batch_size: Galaxies in a batch, at most: they are dealt out evenly, for a last batch of one galaxy would
            have no variance to normalise by.
        rows: Which galaxies of the split; all when None.
        seed: Of the order, which is new each epoch; in the order of the split when None.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        size: int,
        batch_size: int,
        rows: IntArray | None = None,
        seed: int | None = None,
    ) -> None:
        keys, votes = dataset.galaxies(split)
        self.rows = np.arange(len(votes)) if rows is None else rows
        self.keys: pl.DataFrame = keys[self.rows]
        self.votes: Votes = votes.take(self.rows)
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.epoch = 0
        self._pictures = _pictures(dataset, split)

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = np.arange(len(self.rows))
        if self.seed is not None:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        self.epoch += 1
        for rows in np.array_split(order, max(1, len(self))):
            yield self.take(rows)

    def take(self, rows: IntArray) -> Batch:
        """The batch of some of the loader's galaxies, in that order."""
        encoded = self._pictures[self.rows[rows].tolist()]["image"].combine_chunks().field("bytes").to_pylist()
        pictures = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        for i, (row, data) in enumerate(zip(rows, cast("Sequence[bytes]", encoded), strict=True)):
            try:
                pictures[i] = decode(data, self.size)
            except (OSError, ValueError, SyntaxError) as error:
                raise PictureError(
                    f"The picture of galaxy '{self.keys['id_str'][int(row)]}' cannot be decoded: {error}.",
                    "A dataset whose pictures are whole.",
                    "Build the dataset again.",
                ) from error
        return Batch(
            image=torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(),
            votes=torch.from_numpy(self.votes.counts[rows]),
            totals=torch.from_numpy(self.votes.totals[rows]),
            id_str=self.keys["id_str"][rows].to_list(),
        )


def _pictures(dataset: Dataset, split: str) -> datasets.Dataset:
    """The pictures of a split, whose encoded bytes are read straight from a memory map."""
    with quietly():
        opened = cast("datasets.Dataset", load(dataset.folder, split=split))
    return opened.select_columns(["image"]).with_format("arrow")


def decode(data: bytes, size: int) -> np.ndarray:
    """A picture as uint8 of shape (size, size, 3), scaled down while it is decoded where the format allows."""
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
        picture.draft("RGB", (size, size))
        return np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0))


def augment(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pictures turned by a multiple of 90 degrees and mirrored, each its own way: the sky has no up.

    Args:
        pictures: Shape (galaxy, 3, size, size).
        generator: Source of chance, on the CPU.
    """
    turns = torch.randint(0, 8, (len(pictures),), generator=generator)
    out = torch.empty_like(pictures)
    for turn in range(8):
        where = (turns == turn).to(pictures.device)
        turned = torch.rot90(pictures[where], turn % 4, (2, 3))
        out[where] = turned.flip(3) if turn >= 4 else turned
    return out
