"""The index of a shard: identifiers and votes of its rows in large row groups, and the byte offset of each image.

A shard with images has a row group for each hundred rows and up to hundreds of columns, so reading all votes from it is
slow. gzoo stores images uncompressed and without dictionary, so the bytes of an image are contiguous in the shard and
can be read by offset, without Parquet. Other programs do not write an index, so images of their shards are read through
Parquet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import files
from gzoo.dataset.schema import KEY, Record, array
from gzoo.errors import DatasetError, reason
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.votes import Votes

LOCATIONS = {"offset": pa.int64(), "length": pa.int32()}
"""Columns of an index that locate a row's image in its shard, in bytes."""
SHARD_BYTES = b"shard_bytes"
"""Metadata key of an index: the size of its shard."""
MAX_HEADER_BYTES = 256
"""Size of a page header, which is about 30 bytes because the column is written without statistics."""

Numbers = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """The locations of the images of a split, row by row.

    Attributes:
        paths: The shards.
        shard: Index into `paths`, shape (row,).
        offset: First byte of the image in that file, shape (row,).
        length: Size of the image in bytes, shape (row,).
    """

    paths: tuple[Path, ...]
    shard: npt.NDArray[np.int32]
    offset: Offsets
    length: Lengths

    def __len__(self) -> int:
        return len(self.shard)


def vote_columns(tree: Tree) -> list[str]:
    """Return the columns that votes are read from: all counts, and the totals of multiple-choice questions."""
    return [*tree.columns, *(question.total_column for question in tree.questions if question.multiple)]


def index_schema(record: Record, tree: Tree, shard_bytes: int) -> pa.Schema:
    """Return the columns of the index of a shard of `shard_bytes` bytes."""
    keys = [(name, pa.string()) for name in KEY if name in record.names]
    votes = [(name, pa.int32()) for name in vote_columns(tree)]
    return pa.schema([*keys, *LOCATIONS.items(), *votes], metadata={SHARD_BYTES: str(shard_bytes)})


def numbers_of(tree: Tree, votes: Votes) -> Numbers:
    """Return the values of `vote_columns(tree)`, shape (galaxy, column), of votes on at least these questions."""
    names = [*votes.tree.columns, *(question.total_column for question in votes.tree.questions)]
    columns = [names.index(name) for name in vote_columns(tree)]
    return np.hstack([votes.counts, votes.totals])[:, columns].astype(np.int32)


def write_index(
    path: Path,
    shard: Path,
    record: Record,
    tree: Tree,
    locations: tuple[Offsets, Lengths],
    keys: pl.DataFrame,
    numbers: Iterable[Numbers],
) -> None:
    """Write the index of a shard with images.

    Args:
        path: The index.
        shard: The shard, already written.
        record: The columns of the shard.
        tree: The questions of the shard.
        locations: Offset and length of each row's image; see `locate_images`.
        keys: Identifiers of its rows.
        numbers: Their votes in parts of some rows; see `numbers_of`.
    """
    schema = index_schema(record, tree, shard.stat().st_size)
    named = [array(keys[name], pa.string()) for name in KEY if name in schema.names]
    columns = [*named, *map(array, locations, LOCATIONS.values())]
    first = 0
    with files.write_parquet(path, schema, compression="snappy") as writer:
        for part in _joined(numbers, files.ROWS_IN_LARGE_GROUP):
            known = [column.slice(first, len(part)) for column in columns]
            votes = [array(column, pa.int32()) for column in np.ascontiguousarray(part.T)]
            writer.write_batch(pa.record_batch([*known, *votes], schema=schema))
            first += len(part)


def _joined(parts: Iterable[Numbers], n: int) -> Iterator[Numbers]:
    """Yield the same rows in parts of at least `n`; the last part may be smaller."""
    waiting: list[Numbers] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= n:
            joined, waiting = np.concatenate(waiting), []
            yield joined
    if waiting:
        yield np.concatenate(waiting)


def indices(folder: Path, shards: Sequence[Path]) -> list[Path] | None:
    """Return the index of each shard of a dataset folder; None unless all of them have one.

    Raises:
        DatasetError: An index cannot be read, or is of another shard.
    """
    paths = [folder / files.index_name(shard.name) for shard in shards]
    if not all(path.is_file() for path in paths):
        return None
    for path, shard in zip(paths, shards, strict=True):
        try:
            said = (pq.read_schema(path).metadata or {}).get(SHARD_BYTES, b"").decode()
        except Exception as error:  # readers raise arbitrary exceptions on corrupt files
            _refuse(f"Cannot read '{path}': {reason(error)}.", "an index written by gzoo.")
        n_bytes = shard.stat().st_size
        if said != str(n_bytes):
            of = f"{said[:40]} bytes" if said.isdecimal() else "unknown size"
            _refuse(
                f"'{path}' is the index of a shard of {of}, but '{shard}' has {n_bytes} bytes.",
                "a shard and the index written with it.",
            )
    return paths


def read_locations(path: Path, shard: Path) -> tuple[Offsets, Lengths]:
    """Return offset and length of each row's image from the index of a shard.

    Raises:
        DatasetError: The index cannot be read, or an image would be outside of the shard.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(list(LOCATIONS), use_threads=False)
            # converted by polars, because pyarrow first imports pandas, which takes a quarter of a second
            columns = [pl.Series(name, table.column(name).cast(kind)).to_numpy() for name, kind in LOCATIONS.items()]
            offset, length = (cast(IntArray, one) for one in columns)
            is_valid = table.column(0).null_count + table.column(1).null_count == 0
    except Exception as error:  # readers raise arbitrary exceptions on corrupt files
        _refuse(f"Cannot read '{path}': {reason(error)}.", "an index written by gzoo.")
    n_bytes = shard.stat().st_size
    if not is_valid or ((offset < 4) | (length < 0) | (offset > n_bytes - length)).any():
        _refuse(f"'{path}' locates images outside of '{shard}'.", "offsets inside the shard.")
    return offset, cast(Lengths, length)


def _refuse(message: str, expected: str) -> NoReturn:
    raise DatasetError(message, expected, "Rebuild the dataset or copy it again.") from None


def locate_images(path: Path, footer: pq.FileMetaData, lengths: IntArray) -> tuple[Offsets, Lengths]:
    """Return offset and length of each row's image in a shard that gzoo has just written.

    The images are at the end of each page, each after its length in four bytes.

    Args:
        path: The shard.
        footer: Its footer. `footer.schema` is not used: the two would refer to each other, and the memory of large
            footers would not be freed before the next garbage collection.
        lengths: Size of each image in bytes, shape (row,).

    Raises:
        DatasetError: The pages are not as expected.
    """
    ends = np.cumsum(4 + lengths.astype(np.int64))  # as if all images were in one page
    offsets = ends - lengths
    n = 0
    with path.open("rb", buffering=0) as file:
        for i in range(footer.num_row_groups):
            group = footer.row_group(i)
            chunk = next(one for j in range(group.num_columns) if (one := group.column(j)).path_in_schema == _COLUMN)
            start, n_after = chunk.data_page_offset, n + group.num_rows
            while n < n_after:
                n_header, n_bytes, n_values = _page_header(files.read_at(file.fileno(), MAX_HEADER_BYTES, start))
                start += n_header + n_bytes
                page = slice(n, n + n_values)
                offsets[page] += start - ends[page][-1]
                if files.read_at(file.fileno(), 4, int(offsets[n]) - 4) != int(lengths[n]).to_bytes(4, "little"):
                    raise DatasetError(
                        f"Cannot locate the images in '{path}'.", "pages as pyarrow writes them.", "Report this bug."
                    )
                n += n_values
    return offsets, lengths.astype(np.int32)


_COLUMN = "image.bytes"
_INTEGERS, _STRUCT = (4, 5, 6), 12  # types in Thrift's compact protocol


def _page_header(data: bytes) -> tuple[int, int, int]:
    """Return the size of a page's header, of the page without it, and the number of its values."""
    fields, at = _read_struct(data, 0)
    return at, cast(int, fields[3]), cast("dict[int, int]", fields[5])[1]


def _read_struct(data: bytes, at: int) -> tuple[dict[int, object], int]:
    """Read a struct of integers and structs in Thrift's compact protocol: fields by number, and where it ends."""
    fields: dict[int, object] = {}
    number = 0
    while head := data[at]:
        number, kind = number + (head >> 4), head & 15
        if kind in _INTEGERS:
            value, shift, at = 0, 0, at + 1
            while True:
                value |= (data[at] & 0x7F) << shift
                shift, at = shift + 7, at + 1
                if data[at - 1] < 0x80:
                    break
            fields[number] = (value >> 1) ^ -(value & 1)
        elif kind == _STRUCT:
            fields[number], at = _read_struct(data, at + 1)
        else:  # a boolean is in the type
            at += 1
    return fields, at + 1
