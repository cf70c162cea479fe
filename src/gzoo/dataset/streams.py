"""Rows of several datasets, read in the order of the merged dataset without loading all of them.

A folder that gzoo built has its rows in the right order already. A published copy has not, so it is first written as
sorted runs. A stream is either of these, and a merger reads some columns of all streams in the order of the plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gzoo import files
from gzoo.dataset import schema
from gzoo.dataset.finalize import IMAGES_ARROW, ordered, write_frame
from gzoo.dataset.index import vote_columns
from gzoo.dataset.members import Member
from gzoo.dataset.open import reading
from gzoo.dataset.shards import ROWS_IN_BLOCK
from gzoo.errors import DatasetError, ImageError
from gzoo.files import Progress
from gzoo.images.checks import check_image
from gzoo.trees.tree import IntArray
from gzoo.votes.reading import DROPPED_SCHEMA

RUN_BYTES = 100_000_000
"""Approximate size of a sorted run, which is sorted in memory."""
ROWS_IN_BATCH = 10
"""Rows of a run that are in memory at once; there may be many runs."""
KEYS = {"id_str": pl.String, "dataset_name": pl.String, "source_id": pl.String, "ra": pl.Float64, "dec": pl.Float64}
"""Columns that the plan needs of each row."""
IMAGE_COLUMNS = pa.schema([field for field in IMAGES_ARROW if field.name not in schema.KEY])
"""Columns of `images.parquet` without the identifiers."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows that are in the order of the merged dataset.

    Attributes:
        member: Index of the dataset that they belong to.
        rows: Parquet files, one after the other, or one Arrow file, with votes and images.
        images: Parquet file with `IMAGE_COLUMNS`; for a run it also has the columns that the plan needs.
    """

    member: int
    rows: tuple[Path, ...]
    images: Path


def streams_of(work: Path, number: int, member: Member, say: Progress) -> list[Stream]:
    """Return the streams of a dataset; a published copy is written as sorted runs, unless that was done before."""
    if member.manifest is None:
        return _sorted_runs(work, number, member, say)
    return [Stream(number, tuple(path for _, path in member.shards), member.folder / "images.parquet")]


def _sorted_runs(work: Path, number: int, member: Member, say: Progress) -> list[Stream]:
    finished = _runs_path(work, number)
    if not finished.is_file():
        lost = [pl.DataFrame(schema=DROPPED_SCHEMA)]
        n_runs = n_done = n_bytes = 0
        parts: list[tuple[pl.DataFrame, pa.Table]] = []
        for split, path in member.shards:
            for table in _tables(path):
                rows, is_valid = _described(table, path, split, member)
                bad = rows.filter(~is_valid)
                lost.append(
                    bad.select(
                        "id_str", pl.lit(None, pl.Int64).alias("row"), "image", reason=pl.lit("image unusable"),
                        detail="problem",
                    )
                )  # fmt: skip
                votes = pa.table(counts_of(table.select(vote_columns(member.dataset.tree)), path))
                if member.has_images:
                    votes = votes.append_column("image", _typed(table, "image", schema.IMAGE_TYPE, path))
                parts.append((rows.filter(is_valid), votes.filter(is_valid.to_arrow())))
                n_bytes += parts[-1][1].nbytes
                n_done += table.num_rows
                say(f"Reading {member.folder.name}", n_done, n_done)
                if n_bytes > RUN_BYTES:
                    _write_run(work, number, n_runs, parts)
                    parts, n_bytes, n_runs = [], 0, n_runs + 1
        if parts:
            _write_run(work, number, n_runs, parts)
            n_runs += 1
        write_frame(runs_dropped_path(work, number), pl.concat(lost))
        files.write_json(finished, {"n_runs": n_runs, "n_rows": n_done})
    runs = [_run_path(work, number, i) for i in range(cast(int, files.read_json(finished)["n_runs"]))]
    return [Stream(number, (path,), path.with_suffix(".parquet")) for path in runs]


def n_rows_read(work: Path, number: int) -> int:
    """Return the number of rows of a published copy."""
    return cast(int, files.read_json(_runs_path(work, number))["n_rows"])


def runs_dropped_path(work: Path, number: int) -> Path:
    """Return the path of the rows of a published copy that are not used."""
    return work / f"runs-{number}.dropped.parquet"


def _runs_path(work: Path, number: int) -> Path:
    return work / f"runs-{number}.json"


def _run_path(work: Path, number: int, i: int) -> Path:
    return work / f"run-{number}-{i:05d}.arrow"


def _write_run(work: Path, number: int, i: int, parts: Sequence[tuple[pl.DataFrame, pa.Table]]) -> None:
    path = _run_path(work, number, i)
    rows = ordered(pl.concat([rows for rows, _ in parts]).with_row_index("position"))
    table = pa.concat_tables([votes for _, votes in parts]).combine_chunks()
    each = ROWS_IN_BATCH if "image" in table.column_names else ROWS_IN_BLOCK
    with files.whole_file(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        for start in range(0, rows.height, each):
            writer.write_table(table.take(rows["position"][start : start + each].to_arrow()).combine_chunks())
    write_frame(path.with_suffix(".parquet"), rows.drop("position", "hash"))


def _described(table: pa.Table, path: Path, split: str, member: Member) -> tuple[pl.DataFrame, pl.Series]:
    """Return `KEYS` and `IMAGE_COLUMNS` of some rows of a published copy, and whether each image is valid."""
    rows = keys_of(table, path, member).with_columns(split_number=pl.lit(files.SPLITS.index(split), pl.UInt8))
    found: list[tuple[str, str, str, str, int, int, int, str]] = []
    if member.has_images:
        for image in _typed(table, "image", schema.IMAGE_TYPE, path).to_pylist():
            data, name = (image or {}).get("bytes") or b"", (image or {}).get("path") or ""
            sha256 = hashlib.sha256(data).hexdigest()
            width, height, problem = 0, 0, ""
            try:
                size = check_image(data, is_decoded=False)
                width, height = size.width, size.height
            except ImageError as error:
                problem = error.message
            found.append((name, path.name, sha256, sha256, len(data), width, height, problem))
    else:
        found = [("", "", "", "", 0, 0, 0, "")] * rows.height
    types = cast(pl.DataFrame, pl.from_arrow(IMAGE_COLUMNS.empty_table())).schema
    rows = rows.hstack(pl.DataFrame(found, schema={**types, "problem": pl.String}, orient="row"))
    return rows, rows["problem"] == ""


def _tables(path: Path) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file of unknown origin, about a hundred at a time if it contains images."""
    with reading(path):
        file = pq.ParquetFile(path, buffer_size=1 << 20, page_checksum_verification=True)
    each = files.ROWS_IN_GROUP if "image" in file.schema_arrow.names else files.ROWS_IN_LARGE_GROUP
    with file:
        for i in range(file.num_row_groups):  # separately, because a reader of several groups keeps their memory
            with reading(path):
                batches = file.iter_batches(each, row_groups=[i])
            while True:
                with reading(path):
                    batch = next(batches, None)
                if batch is None:
                    break
                yield pa.Table.from_batches([batch])


def keys_of(table: pa.Table, path: Path, member: Member) -> pl.DataFrame:
    """Return the columns `KEYS` of some rows, with defaults where the table lacks one."""
    missing = {"dataset_name": member.dataset.campaign.name, "source_id": "", "id_str": ""}
    columns: dict[str, pl.Series] = {}
    for name, dtype in KEYS.items():
        blank = missing.get(name, float("nan"))
        if name not in table.column_names:
            columns[name] = pl.Series([blank], dtype=dtype).new_from_index(0, table.num_rows)
            continue
        arrow = pa.string() if dtype == pl.String else pa.float64()
        columns[name] = cast(pl.Series, pl.from_arrow(_typed(table, name, arrow, path))).cast(dtype).fill_null(blank)
    return pl.DataFrame(columns)


def _typed(table: pa.Table, name: str, dtype: pa.DataType, path: Path) -> pa.ChunkedArray:
    try:
        return table.column(name).cast(dtype)
    except pa.ArrowException as error:
        raise DatasetError(
            f"Column '{name}' of '{path}' has type {table.schema.field(name).type}.",
            f"type {dtype}.",
            "Rebuild the dataset or copy it again.",
        ) from error


def counts_of(table: pa.Table, path: Path) -> dict[str, pa.ChunkedArray]:
    """Return columns of vote counts as 32-bit integers, with 0 for null.

    Raises:
        DatasetError: A count is negative or not an integer.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        columns[name] = pc.fill_null(_typed(table, name, pa.int32(), path), 0)
        if table.num_rows and (least := columns[name].to_numpy().min()) < 0:
            raise DatasetError(
                f"Column '{name}' of '{path}' contains the negative count {least}.",
                "vote counts of 0 or more.",
                "Rebuild the dataset or copy it again.",
            )
    return columns


def planned_rows(number: int, stream: Stream, member: Member) -> pl.DataFrame:
    """Return what the plan contains of each row of a stream: `KEYS`, `split_number`, `bytes`, `stream` and `row`."""
    if member.manifest is None:
        rows = pl.read_parquet(stream.images, columns=[*KEYS, "split_number", "bytes"], glob=False)
    else:
        parts: list[pl.DataFrame] = []
        for split, path in member.shards:
            with reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
                table = file.read([name for name in KEYS if name in file.schema_arrow.names])
            split_number = pl.lit(files.SPLITS.index(split), pl.UInt8)
            parts.append(keys_of(table, path, member).with_columns(split_number=split_number))
        rows = pl.concat(parts).with_columns(bytes=pl.lit(0, pl.Int64))
        if member.has_images:
            with reading(stream.images):
                known = pq.read_schema(stream.images).names
                found = cast(pl.DataFrame, pl.from_arrow(pq.read_table(stream.images, columns=["id_str", "bytes"])))
            if not set(IMAGES_ARROW.names) <= set(known) or not found["id_str"].equals(rows["id_str"]):
                raise DatasetError(
                    f"'{stream.images}' does not list the images of the shards.",
                    "one row for each row of the shards, in the same order.",
                    "Rebuild the dataset or copy it again.",
                )
            rows = rows.with_columns(found["bytes"])
    return rows.with_columns(stream=pl.lit(number, pl.UInt32)).with_row_index("row")


class _Cursor:
    """Some columns of a stream, read from the first row to the last."""

    def __init__(self, paths: Sequence[Path], columns: Sequence[str], n_skipped: int) -> None:
        self._tables = _row_groups(paths, columns, n_skipped)
        self._rest: list[pa.Table] = []

    def take(self, n: int) -> pa.Table:
        """Return the next `n` rows."""
        taken: list[pa.Table] = []
        while n:
            table = self._rest.pop() if self._rest else next(self._tables)
            if table.num_rows > n:
                self._rest.append(table.slice(n))
                table = table.slice(0, n)
            taken.append(table)
            n -= table.num_rows
        return pa.concat_tables(taken)


def _row_groups(paths: Sequence[Path], columns: Sequence[str], n_skipped: int) -> Iterator[pa.Table]:
    """Yield one row group after the other, without the first `n_skipped` rows.

    Files are open only while one row group is read, because there may be more streams than a process may open files.
    """
    if paths[0].suffix == ".arrow":
        yield from _batches_of_run(paths[0], columns, n_skipped)
        return
    for path in paths:
        with reading(path):
            footer = pq.read_metadata(path)
        for i in range(footer.num_row_groups):
            n_rows = footer.row_group(i).num_rows
            if n_rows > n_skipped:
                with reading(path), pq.ParquetFile(path, metadata=footer, page_checksum_verification=True) as file:
                    table = file.read_row_group(i, columns)
                yield table.slice(n_skipped)
            n_skipped = max(0, n_skipped - n_rows)


def _batches_of_run(path: Path, columns: Sequence[str], n_skipped: int) -> Iterator[pa.Table]:
    i, n = 0, 1
    while i < n:
        with reading(path), pa.OSFile(str(path)) as source:
            file = pa.ipc.open_file(source)
            n = file.num_record_batches
            if n_skipped:  # all batches except the last have the same number of rows
                n_rows = file.get_batch(0).num_rows
                i, n_skipped = n_skipped // n_rows, n_skipped % n_rows
            table = pa.Table.from_batches([file.get_batch(i)] if i < n else [], file.schema).select(columns)
        yield table.slice(n_skipped)
        i, n_skipped = i + 1, 0


class Merger:
    """Some columns of all streams, read in the order of the plan.

    Args:
        streams: The streams.
        n_before: Number of rows of each stream to skip, shape (stream,).
        columns: Function that returns the files of a stream and the columns to read.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        n_before: IntArray,
        columns: Callable[[Stream], tuple[Sequence[Path], Sequence[str]]],
    ) -> None:
        self._cursors = [_Cursor(*columns(stream), int(n)) for stream, n in zip(streams, n_before, strict=True)]

    def take(self, streams: IntArray) -> Iterator[tuple[IntArray, int, pa.Table]]:
        """Read the next rows.

        Args:
            streams: The stream of each row, shape (row,).

        Yields:
            For each stream that occurs: the positions of its rows in `streams`, its number, and the rows.
        """
        for number in np.unique(streams):
            where = np.flatnonzero(streams == number)
            yield where, int(number), self._cursors[number].take(len(where))

    def table(self, streams: IntArray, schema: pa.Schema) -> pa.Table:
        """Return the next rows in order; `streams` as for `take`, `schema` of the columns."""
        wheres: list[IntArray] = []
        tables: list[pa.Table] = []
        for where, _, table in self.take(streams):
            wheres.append(where)
            tables.append(table.select(schema.names).cast(schema))
        order = pa.array(np.argsort(np.concatenate(wheres)))
        return pa.concat_tables(tables).combine_chunks().take(order)
