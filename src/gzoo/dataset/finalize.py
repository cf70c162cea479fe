"""What build and union share: rows are ordered and divided into shards, and written shards become a dataset folder."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import files
from gzoo.dataset import card, croissant
from gzoo.dataset.shards import Layout, Shard
from gzoo.dataset.tally import Spread
from gzoo.files import Progress
from gzoo.sky import identifier_split
from gzoo.trees.tree import IntArray
from gzoo.votes.reading import DROPPED_SCHEMA

SHARD_BYTES = 450_000_000
"""Approximate size of the images in a shard."""
ROWS_IN_SHARD = 1_000_000
"""Maximum number of rows in a shard."""
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

Plan = tuple[tuple[Shard, ...], Mapping[str, object]]
"""The shards of a dataset, and metadata of its rows."""


def silent(stage: str, done: int, total: int) -> None:
    """Report no progress."""


@contextlib.contextmanager
def dataset_work(out: Path, begun: Mapping[str, object], overwrite: bool, wait: bool, say: Progress) -> Generator[Path]:
    """Create a folder for a dataset in progress as `files.work` does, with a sub-folder for temporary files."""
    with (
        files.disk_errors(out),
        files.work(out, kind="dataset", begun=begun, overwrite=overwrite, wait=wait, progress=say) as partial,
    ):
        work = partial / files.WORK
        work.mkdir(exist_ok=True)
        yield partial
        # renamed first, so that an interrupted removal is never mistaken for complete temporary files
        gone = work.with_name(f"{work.name}.gone")
        if work.exists():
            shutil.rmtree(gone, ignore_errors=True)
            work.replace(gone)
        if gone.exists():
            shutil.rmtree(gone)


def ordered(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows in the order of every dataset folder: by split, then by a hash of `id_str`, which is added."""
    if "hash" not in rows.columns:
        hashes = pl.Series("hash", [identifier_split.place(one) for one in rows["id_str"]], pl.Float64)
        rows = rows.with_columns(hashes)
    return rows.sort("split_number", "hash", "dataset_name", "id_str")


def write_plan(work: Path, rows: pl.DataFrame, **metadata: object) -> Plan:
    """Write `plan.parquet`, the rows of a dataset in their final order, and `plan.json`, the shards and metadata."""
    write_frame(work / "plan.parquet", rows)
    shards = _cut(rows)
    files.write_json(work / "plan.json", {"shards": [asdict(one) for one in shards], **metadata})
    return shards, metadata


def read_plan(work: Path) -> Plan | None:
    """Return what `write_plan` returned before an interruption; None if it did not finish."""
    if not (work / "plan.json").is_file():
        return None
    metadata = files.read_json(work / "plan.json")
    shards = cast("list[dict[str, object]]", metadata.pop("shards"))
    return tuple(Shard(**one) for one in shards), metadata  # type: ignore[arg-type]


def _cut(rows: pl.DataFrame) -> tuple[Shard, ...]:
    """Divide rows in their final order into shards.

    Args:
        rows: Columns `split_number` (index into `files.SPLITS`) and, if there are images, `bytes`.
    """
    min_bytes = -(-SHARD_BYTES // ROWS_IN_SHARD)
    shards: list[Shard] = []
    start = 0
    for i, split in enumerate(files.SPLITS):
        part = rows.filter(pl.col("split_number") == i)
        if part.height:
            sizes = part["bytes"].to_numpy() if "bytes" in rows.columns else np.zeros(part.height, np.int64)
            pieces = _pieces(np.maximum(sizes, min_bytes))
            shards += [Shard(split, start + first, start + last) for first, last in pieces]
        start += part.height
    return tuple(shards)


def _pieces(sizes: IntArray) -> list[tuple[int, int]]:
    """Return ranges whose sizes sum to about `SHARD_BYTES`."""
    n = max(1, -(-int(sizes.sum()) // SHARD_BYTES))
    ends = np.searchsorted(np.cumsum(sizes), np.linspace(0, int(sizes.sum()), n + 1)[1:-1]) + 1
    borders = [0, *sorted({int(end) for end in ends} - {len(sizes)}), len(sizes)]
    return list(itertools.pairwise(borders))


@dataclass(frozen=True)
class WrittenShards:
    """The shards of a dataset after all of them were written.

    Attributes:
        job: The shards.
        results: The result of each shard; see `write_result`.
    """

    job: Layout
    results: tuple[dict[str, object], ...]

    @classmethod
    def of(cls, job: Layout) -> Self:
        """Read the results of all shards."""
        return cls(job, tuple(files.read_json(job.result_path(number)) for number in range(len(job.shards))))

    def n_of(self, number: int) -> int:
        """Return the number of rows of a shard."""
        return cast(int, self.results[number]["n_rows"])

    @property
    def n_rows(self) -> int:
        """The number of rows of all shards."""
        return sum(self.n_of(number) for number in range(len(self.results)))

    def numbers(self, split: str) -> list[int]:
        """Return the numbers of the non-empty shards of a split."""
        return [i for i, shard in enumerate(self.job.shards) if shard.split == split and self.n_of(i)]

    @property
    def splits(self) -> tuple[str, ...]:
        """The non-empty splits."""
        return tuple(split for split in files.SPLITS if self.numbers(split))

    def names(self) -> dict[int, str]:
        """Return the final names of the non-empty shards."""
        named: dict[int, str] = {}
        for split in self.splits:
            numbers = self.numbers(split)
            named |= {number: files.shard_name(split, i, len(numbers)) for i, number in enumerate(numbers)}
        return named

    def checksums(self) -> dict[str, Mapping[str, object]]:
        """Return checksum and size of the shards by final name."""
        return {name: cast("Mapping[str, object]", self.results[i]["file"]) for i, name in self.names().items()}

    def image_bytes(self, number: int) -> int:
        """Return the size of all images of a shard."""
        return cast(int, self.results[number]["image_bytes"])

    def bytes_of(self, number: int) -> IntArray:
        """Return the size of each image of a shard, shape (row,)."""
        if not self.job.has_images:
            return np.zeros(self.n_of(number), np.int64)
        found = pl.scan_parquet(self.job.images_path(number), glob=False)
        return found.filter(pl.col("problem") == "").select("bytes").collect()["bytes"].to_numpy()

    def images(self, number: int) -> pl.DataFrame:
        """Return the columns `IMAGES_ARROW` and `problem` of a shard, one row for each image."""
        return pl.read_parquet(self.job.images_path(number), glob=False)


def write_images(written: WrittenShards) -> list[list[int]]:
    """Write `images.parquet`, the source and checksum of each image in the order of the rows.

    Returns:
        Each width and height that occurs; nothing is written and the list is empty for a dataset without images.
    """
    sizes: set[tuple[int, int]] = set()
    if written.job.has_images:
        with files.write_parquet(written.job.folder / "images.parquet", IMAGES_ARROW) as writer:
            for number in written.names():
                valid = written.images(number).filter(pl.col("problem") == "")
                sizes.update(valid.select("width", "height").unique().iter_rows())
                table = valid.select(IMAGES_ARROW.names).to_arrow(compat_level=pl.CompatLevel.oldest())
                writer.write_table(table.cast(IMAGES_ARROW).combine_chunks())
    return sorted([int(width), int(height)] for width, height in sizes)


def write_dropped(folder: Path, dropped: pl.DataFrame, schema: pa.Schema = DROPPED_ARROW) -> dict[str, int]:
    """Write `dropped.parquet`, the rows and images that are not used; return their number by reason."""
    dropped = dropped.select(schema.names)
    with files.write_parquet(folder / "dropped.parquet", schema) as writer:
        writer.write_table(dropped.to_arrow().cast(schema))
    return count_reasons(dropped)


def count_reasons(dropped: pl.DataFrame) -> dict[str, int]:
    """Return the number of dropped rows by reason, sorted by reason."""
    return dict(dropped["reason"].value_counts(sort=False).sort("reason").iter_rows())


def galaxies_by_question(manifest: Mapping[str, object]) -> dict[str, int]:
    """Return the number of galaxies with votes on each question."""
    questions = cast("Mapping[str, Mapping[str, int]]", manifest["questions"])
    return {name: one["n_galaxies"] for name, one in questions.items()}


def assemble(written: WrittenShards) -> dict[str, object]:
    """Give shards their final names and write the config `tiny`; return the manifest keys that describe the rows."""
    folder, campaign = written.job.folder, written.job.campaign
    (folder / "data").mkdir(exist_ok=True)
    (folder / "tiny").mkdir(exist_ok=True)
    for number, name in written.names().items():
        if not (folder / name).exists():  # otherwise it was moved before an interruption
            written.job.shard_path(number).replace(folder / name)
        index = folder / files.index_name(name)
        if written.job.has_images and not index.exists():
            index.parent.mkdir(exist_ok=True)
            written.job.index_path(number).replace(index)
    tiny = {split: _write_tiny(written, split) for split in written.splits}
    n_rows = {split: sum(map(written.n_of, written.numbers(split))) for split in written.splits}
    n_bytes = {split: sum(map(written.image_bytes, written.numbers(split))) for split in written.splits}
    found = [cast("dict[str, list[int]]", result["questions"]) for result in written.results]
    questions: dict[str, dict[str, int]] = {}
    for question in campaign.published_tree.questions:
        sums = map(sum, zip(*(one[question.name] for one in found), strict=True))
        spread = Spread(1)
        for result in written.results:
            spread.merge(0, cast("dict[str, list[list[int]]]", result["spread"])[question.name])
        names = ("n_votes", "n_galaxies", "n_breaks", "n_well_voted", "median_votes")
        questions[question.name] = dict(zip(names, (*sums, *spread.figures(0)), strict=True))
    return {
        **campaign.to_manifest(),
        "has_images": written.job.has_images,
        "n_rows_breaking_tree": sum(cast(int, result["n_breaking"]) for result in written.results),
        "splits": {"default": n_rows, "tiny": {split: n for split, (n, _) in tiny.items()}},
        "image_bytes": {"default": n_bytes, "tiny": {split: n for split, (_, n) in tiny.items()}},
        "questions": questions,
        "proportion_asked_not_known": list(campaign.published_tree.unreachable),
        "columns": list(written.job.record.names),
        "pyarrow": pa.__version__,
    }


def write_documents(written: WrittenShards, manifest: Mapping[str, object]) -> None:
    """Write what describes a dataset with complete tables: card, image of the tree, `croissant.json`, manifest.

    Args:
        written: The shards.
        manifest: The manifest without its list of files.
    """
    folder, campaign = written.job.folder, written.job.campaign
    files.remove_left_overs(folder)
    files.write_bytes(folder / "README.md", card.text(campaign, manifest, folder).encode())
    if campaign.tree.questions:
        files.write_bytes(folder / card.TREE, card.tree_image(campaign).encode())
    contents = files.listing(folder, written.checksums(), without={croissant.NAME})
    files.write_json(folder / croissant.NAME, croissant.facts(campaign, manifest, contents))
    files.write_manifest(folder, manifest, contents)


def n_tiny(n_all: int) -> int:
    """Return the number of rows that the config `tiny` has of a split with `n_all` rows."""
    return min(n_all, max(TINY_MIN, round(n_all * TINY_FRACTION)))


def _write_tiny(written: WrittenShards, split: str) -> tuple[int, int]:
    """Write the first rows of a split, a random sample because of their order; return their number and image size."""
    folder, schema, names = written.job.folder, written.job.record.arrow(), written.names()
    numbers = written.numbers(split)
    n = n_left = n_tiny(sum(map(written.n_of, numbers)))
    groups: list[tuple[Path, pq.FileMetaData, int, int]] = []  # file, footer, row group, number of its rows
    sizes: list[int] = []
    for number in numbers:
        if not n_left:
            break
        each, first = written.bytes_of(number), 0
        footer = pq.read_metadata(folder / names[number])
        for i in range(footer.num_row_groups):
            size = footer.row_group(i).num_rows
            n_rows = min(size, n_left)
            if n_rows:
                groups.append((folder / names[number], footer, i, n_rows))
                sizes.append(int(each[first : first + n_rows].sum()))
            first, n_left = first + size, n_left - n_rows
    pieces = _pieces(np.array(sizes, np.int64))
    for i, (start, stop) in enumerate(pieces):
        path = folder / files.shard_name(split, i, len(pieces), "tiny")
        with files.write_parquet(path, schema) as writer:
            for source, footer, group, n_rows in groups[start:stop]:
                with pq.ParquetFile(source, metadata=footer, memory_map=True) as file:
                    table = file.read_row_group(group).slice(0, n_rows)
                columns = [contiguous(column) for column in table.columns]
                del table  # frees the memory of the row group before the next one is read
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    return n, sum(sizes)


def contiguous(column: pa.ChunkedArray) -> pa.Array:
    """Return a copy without offsets, so that the same rows give the same bytes."""
    return pa.concat_arrays([*column.chunks, pa.nulls(0, column.type)])


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write a temporary table in row groups, so that some rows can be read without the others."""
    with files.whole_file(path) as file:
        frame.write_parquet(file, row_group_size=files.ROWS_IN_LARGE_GROUP)
