"""Finishing: rows are cut into shards, and shards that are all written become a dataset folder.

What a build and a union have in common: how many rows a shard takes, final names, the config `tiny`, and what the
manifest says of the rows.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import files
from gzoo.dataset import card, croissant
from gzoo.dataset.shards import Layout, Shard, Spread
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import IntArray
from gzoo.votes.votes import DROPPED_SCHEMA

SHARD_BYTES = 450_000_000
ROWS_IN_SHARD = 1_000_000  # where images do not fill it before
TINY_FRACTION, TINY_MIN = 0.01, 16
DROPPED_ARROW = pa.schema([(name, pa.int64() if name == "row" else pa.string()) for name in DROPPED_SCHEMA])
DROPPED_OF_UNION = DROPPED_ARROW.append(pa.field("dataset_name", pa.string()))
IMAGES_ARROW = pa.schema(
    [
        *((name, pa.string()) for name in ("id_str", "dataset_name", "image", "source", "sha256", "source_sha256")),
        ("bytes", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)


def cut(rows: pl.DataFrame, max_bytes: int) -> tuple[Shard, ...]:
    """Shards for rows that stand in their final order.

    Args:
        rows: Columns `side` (the split's place in `files.SPLITS`) and, where there are images, `bytes`.
        max_bytes: About what the images of a shard take.
    """
    least = -(-max_bytes // ROWS_IN_SHARD)
    shards: list[Shard] = []
    start = 0
    for i, split in enumerate(files.SPLITS):
        part = rows.filter(pl.col("side") == i)
        if part.height:
            sizes = part["bytes"].to_numpy() if "bytes" in rows.columns else np.zeros(part.height, np.int64)
            pieces = _pieces(np.maximum(sizes, least), max_bytes)
            shards += [Shard(split, start + first, start + last) for first, last in pieces]
        start += part.height
    return tuple(shards)


def _pieces(sizes: IntArray, most: int) -> list[tuple[int, int]]:
    """Ranges whose sizes come to `most`, about."""
    n = max(1, -(-int(sizes.sum()) // most))
    ends = np.searchsorted(np.cumsum(sizes), np.linspace(0, int(sizes.sum()), n + 1)[1:-1]) + 1
    borders = [0, *sorted({int(end) for end in ends} - {len(sizes)}), len(sizes)]
    return list(itertools.pairwise(borders))


@dataclass(frozen=True)
class Made:
    """What was found in writing the shards.

    Attributes:
        job: The shards.
        facts: What was found of each.
    """

    job: Layout
    facts: tuple[dict[str, object], ...]

    @classmethod
    def of(cls, job: Layout) -> Self:
        """What was found, once all shards are written."""
        return cls(job, tuple(files.read_json(job.facts_path(number)) for number in range(len(job.shards))))

    def n_of(self, number: int) -> int:
        """Rows of a shard."""
        return cast(int, self.facts[number]["n_rows"])

    @property
    def n_rows(self) -> int:
        """Rows of all shards."""
        return sum(self.n_of(number) for number in range(len(self.facts)))

    def numbers(self, split: str) -> list[int]:
        """Shards of a split that hold any row."""
        return [i for i, shard in enumerate(self.job.shards) if shard.split == split and self.n_of(i)]

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that hold any row."""
        return tuple(split for split in files.SPLITS if self.numbers(split))

    def names(self) -> dict[int, str]:
        """Final names of the shards."""
        named: dict[int, str] = {}
        for split in self.splits:
            numbers = self.numbers(split)
            named |= {number: files.shard_name(split, i, len(numbers)) for i, number in enumerate(numbers)}
        return named

    def digests(self) -> dict[str, Mapping[str, object]]:
        """Sha256 and size of the shards, by final name."""
        return {name: cast("Mapping[str, object]", self.facts[number]["file"]) for number, name in self.names().items()}

    def image_bytes(self, number: int) -> int:
        """Bytes of the images of a shard, together."""
        return cast(int, self.facts[number]["image_bytes"])

    def bytes_of(self, number: int) -> IntArray:
        """Bytes of the image of each row of a shard."""
        if not self.job.has_images:
            return np.zeros(self.n_of(number), np.int64)
        found = pl.scan_parquet(self.job.images_path(number), glob=False)
        return found.filter(pl.col("problem") == "").select("bytes").collect()["bytes"].to_numpy()


def settle(made: Made, max_bytes: int) -> dict[str, object]:
    """Give shards their final names and write the config `tiny`; what the manifest says of the rows.

    Args:
        made: The shards.
        max_bytes: About what the images of a shard take.
    """
    folder, campaign = made.job.folder, campaign_of(made.job.campaign)
    (folder / "data").mkdir(exist_ok=True)
    (folder / "tiny").mkdir(exist_ok=True)
    for number, name in made.names().items():
        if not (folder / name).exists():  # it was moved before the work was stopped
            made.job.shard_path(number).replace(folder / name)
        index = folder / files.index_name(name)
        if made.job.has_images and not index.exists():
            index.parent.mkdir(exist_ok=True)
            made.job.index_path(number).replace(index)
    tiny = {split: _write_tiny(made, split, max_bytes) for split in made.splits}
    n_rows = {split: sum(made.n_of(number) for number in made.numbers(split)) for split in made.splits}
    n_bytes = {split: sum(made.image_bytes(number) for number in made.numbers(split)) for split in made.splits}
    found = [cast("dict[str, list[int]]", facts["questions"]) for facts in made.facts]
    carried = campaign.published_tree.questions
    sums = {question.name: map(sum, zip(*(one[question.name] for one in found), strict=True)) for question in carried}
    spread = Spread(len(carried))
    for facts in made.facts:
        for i, question in enumerate(carried):
            spread.merge(i, cast("dict[str, list[list[int]]]", facts["spread"])[question.name])
    return {
        "campaign": campaign.name,
        "has_images": made.job.has_images,
        "n_rows_breaking_tree": sum(cast(int, facts["n_breaking"]) for facts in made.facts),
        "splits": {"default": n_rows, "tiny": {split: n for split, (n, _) in tiny.items()}},
        "image_bytes": {"default": n_bytes, "tiny": {split: n for split, (_, n) in tiny.items()}},
        "questions": {
            name: {
                **dict(zip(("n_votes", "n_galaxies", "n_breaks"), one, strict=True)),
                **dict(zip(("n_well_voted", "median_votes"), spread.figures(i), strict=True)),
            }
            for i, (name, one) in enumerate(sums.items())
        },
        "proportion_asked_not_known": list(campaign.published_tree.unreachable),
        "columns": list(made.job.record.names),
        "pyarrow": pa.__version__,
    }


def seal(made: Made, manifest: Mapping[str, object]) -> None:
    """Write what tells of a dataset whose tables all stand: card, image of the tree, `croissant.json`, manifest.

    Args:
        made: The shards.
        manifest: Facts of the dataset.
    """
    folder, campaign = made.job.folder, campaign_of(made.job.campaign)
    files.remove_left_overs(folder)
    files.write_bytes(folder / "README.md", card.text(campaign, manifest, folder).encode())
    files.write_bytes(folder / card.TREE, card.tree_image(campaign).encode())
    contents = files.listing(folder, made.digests(), without={croissant.NAME})
    files.write_json(folder / croissant.NAME, croissant.facts(campaign, manifest, contents))
    files.write_manifest(folder, manifest, contents)


def n_tiny(n_all: int) -> int:
    """How many rows of a split config `tiny` has."""
    return min(n_all, max(TINY_MIN, round(n_all * TINY_FRACTION)))


def _write_tiny(made: Made, split: str, max_bytes: int) -> tuple[int, int]:
    """The first rows of a split, which stand in the order of a hash: a fair sample. Their number and image bytes."""
    folder, schema, names = made.job.folder, made.job.record.arrow(), made.names()
    numbers = made.numbers(split)
    n_all = sum(made.n_of(number) for number in numbers)
    n = n_left = n_tiny(n_all)
    groups: list[tuple[Path, pq.FileMetaData, int, int]] = []  # the file, its row group, and how many of its rows
    sizes: list[int] = []
    for number in numbers:
        if not n_left:
            break
        each, first = made.bytes_of(number), 0
        footer = pq.read_metadata(folder / names[number])
        for i in range(footer.num_row_groups):
            size = footer.row_group(i).num_rows
            n_rows = min(size, n_left)
            if n_rows:
                groups.append((folder / names[number], footer, i, n_rows))
                sizes.append(int(each[first : first + n_rows].sum()))
            first, n_left = first + size, n_left - n_rows
    pieces = _pieces(np.array(sizes, np.int64), max_bytes)
    for i, (start, stop) in enumerate(pieces):
        path = folder / files.shard_name(split, i, len(pieces), "tiny")
        with files.write_parquet(path, schema) as writer:
            for source, footer, group, n_rows in groups[start:stop]:
                with pq.ParquetFile(source, metadata=footer, memory_map=True) as file:
                    table = file.read_row_group(group).slice(0, n_rows)
                columns = [contiguous(column) for column in table.columns]
                del table  # what a row group takes is taken often enough
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    return n, sum(sizes)


def contiguous(column: pa.ChunkedArray) -> pa.Array:
    """A copy without offsets, so that the same rows give the same bytes."""
    return pa.concat_arrays([*column.chunks, pa.nulls(0, column.type)])


def write_dropped(path: Path, dropped: pl.DataFrame) -> None:
    """Write `dropped.parquet`: what was left out, and why."""
    with files.write_parquet(path, DROPPED_ARROW) as writer:
        writer.write_table(dropped.to_arrow().cast(DROPPED_ARROW))


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write a table of the work in progress, of which some rows can be read without the others."""
    with files.whole_file(path, is_flushed=False) as file:
        frame.write_parquet(file, row_group_size=files.ROWS_IN_LARGE_GROUP)


def remove_work(work: Path) -> None:
    """Away with what was only needed on the way; by another name first, so that no half of it is taken for whole."""
    gone = work.with_name(f"{work.name}.gone")
    if work.exists():
        shutil.rmtree(gone, ignore_errors=True)
        work.replace(gone)
    if gone.exists():
        shutil.rmtree(gone)
