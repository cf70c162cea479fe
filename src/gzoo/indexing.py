"""Indexing: identifiers and votes of a shard's rows without their pictures, and where each picture lies.

A shard with pictures has a row group for each hundred rows, and up to hundreds of columns: reading all votes from it
takes long. Its index has them once more in large groups. gzoo stores pictures as they are: not compressed, without
dictionary. The bytes of one picture then stand in the shard in one piece, and are read by position, without Parquet.
They are found by walking the headers of the pages around them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import store
from gzoo.errors import DatasetError
from gzoo.schema import KEY, Record
from gzoo.trees import IntArray, Tree
from gzoo.votes import Votes

COLUMN = "image.bytes"
LARGEST_HEADER = 1 << 24
"""Bytes of a page's header, which may hold the least and largest value of the page."""
_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 1, 2, 3
_PLAIN, _RLE = 0, 3

Numbers = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PictureIndex:
    """Where the pictures of a split lie, row by row.

    Attributes:
        paths: Its shards.
        shard: In which of them each picture is.
        offset: Where in that file its bytes begin.
        length: How many they are.
    """

    paths: tuple[Path, ...]
    shard: npt.NDArray[np.int32]
    offset: Offsets
    length: Lengths

    def __len__(self) -> int:
        return len(self.shard)


PLACES = {"offset": pa.int64(), "length": pa.int32()}
"""Columns of an index that say where a row's picture lies in its shard."""
SHARD_BYTES = b"shard_bytes"
"""Metadata of an index: how large the shard is that it is of."""


def vote_columns(tree: Tree) -> list[str]:
    """The columns that votes are made of: all counts, and people asked where several answers are allowed."""
    return [*tree.columns, *(question.total_column for question in tree.questions if question.multiple)]


def index_schema(record: Record, tree: Tree, shard_bytes: int) -> pa.Schema:
    """Columns of the index of a shard of so many bytes."""
    keys = [(name, pa.string()) for name in KEY if name in record.names]
    votes = [(name, pa.int32()) for name in vote_columns(tree)]
    return pa.schema([*keys, *PLACES.items(), *votes], metadata={SHARD_BYTES: str(shard_bytes)})


def numbers_of(tree: Tree, votes: Votes) -> Numbers:
    """The numbers in the vote columns of a tree, of votes on its questions at least."""
    names = [*votes.tree.columns, *(question.total_column for question in votes.tree.questions)]
    places = [names.index(name) for name in vote_columns(tree)]
    return np.hstack([votes.counts, votes.totals])[:, places].astype(np.int32)


def write_index(
    path: Path,
    shard: Path,
    record: Record,
    tree: Tree,
    footer: pq.FileMetaData,
    keys: pl.DataFrame,
    numbers: Iterable[Numbers],
    lengths: IntArray | None = None,
) -> None:
    """Write the index of a shard with pictures.

    Args:
        path: The index.
        shard: The shard, which is written.
        record: What a row of it holds.
        tree: The questions that it carries.
        footer: What its footer says.
        keys: Identifiers of its rows.
        numbers: Their votes (see `numbers_of`), some rows at a time.
        lengths: Of their pictures, where they are known.
    """
    found = pictures_in(shard, footer=footer, lengths=lengths)
    assert found
    schema = index_schema(record, tree, shard.stat().st_size)
    named = [keys[name].to_arrow().cast(pa.string()) for name in KEY if name in schema.names]
    columns = [*named, *map(pa.array, found)]
    first = 0
    with store.write_parquet(path, schema, packing="snappy") as writer:
        for part in _joined(numbers, store.ROWS_IN_LARGE_GROUP):
            known = [column.slice(first, len(part)) for column in columns]
            votes = [pa.array(column) for column in np.ascontiguousarray(part.T)]
            writer.write_batch(pa.record_batch([*known, *votes], schema=schema))
            first += len(part)


def _joined(parts: Iterable[Numbers], n: int) -> Iterator[Numbers]:
    """The same rows, so many at a time or somewhat more; of the last what is left."""
    waiting: list[Numbers] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= n:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def indices(folder: Path, shards: Sequence[Path]) -> list[Path] | None:
    """The index of each shard of a dataset folder; None where they do not all have one.

    Raises:
        DatasetError: One cannot be read, or is of another shard.
    """
    paths = [folder / store.index_name(shard.name) for shard in shards]
    if not all(path.is_file() for path in paths):
        return None
    for path, shard in zip(paths, shards, strict=True):
        try:
            said = (pq.read_schema(path).metadata or {}).get(SHARD_BYTES, b"").decode()
        except Exception as error:  # whatever a damaged file brings a reader to raise
            _refuse(path, f"cannot be read: {_said(error)}", "A table as gzoo wrote it.")
        if said != str(shard.stat().st_size):
            _refuse(path, f"is not the index of {shard}, which has another size", "What was built with that shard.")
    return paths


def places(path: Path, shard: Path) -> tuple[Offsets, Lengths]:
    """What an index says of where each row's picture lies.

    Raises:
        DatasetError: It cannot be read, or names places outside of the shard.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(list(PLACES), use_threads=False)
            columns = [table.column(name).cast(kind).to_numpy() for name, kind in PLACES.items()]
            offset, length = (cast(IntArray, one) for one in columns)
            is_sound = table.column(0).null_count + table.column(1).null_count == 0
    except Exception as error:  # whatever a damaged file brings a reader to raise
        _refuse(path, f"cannot be read: {_said(error)}", "A table as gzoo wrote it.")
    n_bytes = shard.stat().st_size
    if not is_sound or ((offset < 4) | (length < 0) | (offset > n_bytes - length)).any():
        _refuse(path, f"has pictures outside of {shard}", "Places in the shard.")
    return offset, cast(Lengths, length)


def pictures_in(
    path: Path, *, footer: pq.FileMetaData | None = None, lengths: IntArray | None = None
) -> tuple[Offsets, Lengths] | None:
    """Offset and length of each row's picture in a Parquet file.

    Args:
        path: The file, with a column `image` of bytes and path.
        footer: What the file's footer says, where that is known.
        lengths: The pictures' lengths, where they are known: then only the headers of pages are read.

    Returns:
        None where there are no pictures, or pictures are not stored plainly: compressed, in a dictionary, some missing.

    Raises:
        DatasetError: The file cannot be read, or is damaged.
    """
    try:
        with path.open("rb", buffering=0) as file:
            footer = footer or pq.read_metadata(path)
            return _Pages(path, file.fileno(), footer).pictures(lengths)
    except DatasetError:
        raise
    except Exception as error:  # whatever a damaged file brings a reader to raise
        _refuse(path, f"cannot be read: {_said(error)}")


def _said(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _refuse(path: Path, problem: str, expected: str = "A Parquet shard with the dataset's columns.") -> NoReturn:
    raise DatasetError(f"{path} {problem}.", expected, "Build or copy it again.") from None


class _NotPlainError(Exception):
    """The pictures are stored in another way than plainly."""


@dataclass(frozen=True, slots=True)
class _Page:
    """Values that stand one after the other, each its length (32 bits) and then its bytes."""

    start: int
    stop: int
    n: int


class _Pages:
    """The pages of one file's pictures. No number in the file is believed that leads out of what it belongs to."""

    def __init__(self, path: Path, file: int, footer: pq.FileMetaData) -> None:
        self._path, self._file, self._footer = path, file, footer
        self._size = os.fstat(file).st_size

    def pictures(self, lengths: IntArray | None) -> tuple[Offsets, Lengths] | None:
        n_rows = self._footer.num_rows
        if lengths is not None and len(lengths) != n_rows:
            self._refuse(f"holds {n_rows:,} rows, and {len(lengths):,} pictures are known")
        offsets, found = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
        n = 0
        try:
            for page in self._walk():
                each = self._lengths(page) if lengths is None else lengths[n : n + page.n]
                ends = page.start + np.cumsum(4 + each.astype(np.int64))
                if ends[-1] != page.stop:
                    self._refuse("holds pictures of other sizes than are known")
                offsets.append(ends - each)
                found.append(each.astype(np.int32))
                n += page.n
        except _NotPlainError:
            return None
        if n != n_rows:
            self._refuse(f"holds {n:,} pictures in {n_rows:,} rows")
        return np.concatenate(offsets), np.concatenate(found)

    def _columns(self) -> list[str]:
        schema = self._footer.schema
        return [str(schema.column(i).path) for i in range(len(schema))]

    def _walk(self) -> Iterator[_Page]:
        """Every page with values, in order."""
        columns = self._columns()
        if columns.count(COLUMN) != 1:
            raise _NotPlainError
        number = columns.index(COLUMN)
        column = self._footer.schema.column(number)
        if column.physical_type != "BYTE_ARRAY" or column.max_repetition_level:
            raise _NotPlainError
        n_left = self._size
        for i in range(self._footer.num_row_groups):
            group = self._footer.row_group(i)
            chunk = group.column(number)
            if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
                raise _NotPlainError
            if chunk.num_values != group.num_rows:
                self._refuse("is damaged: a row group has pictures and rows in different numbers")
            if not chunk.num_values:  # its pages need not be anywhere
                continue
            start, n_bytes = chunk.data_page_offset, chunk.total_compressed_size
            if start < 4 or n_bytes < 0 or start + n_bytes > self._size:
                self._refuse("is damaged: a row group leads out of the file")
            n_left -= n_bytes
            if n_left < 0:  # else a small file could take for ever
                self._refuse("is damaged: row groups overlap")
            yield from self._pages_of(start, start + n_bytes, chunk.num_values, column.max_definition_level)

    def _pages_of(self, start: int, stop: int, n_values: int, deepest: int) -> Iterator[_Page]:
        """The pages of one column of one row group, which lies from `start` to `stop`."""
        while n_values:
            facts, n_header = self._header(start, stop)
            kind, n_bytes = facts.get(1), facts.get(3)
            data = start + n_header
            if not isinstance(n_bytes, int) or not 0 <= n_bytes <= stop - data:
                self._refuse("is damaged: a page leads out of its row group")
            start = data + n_bytes
            if kind == _INDEX_PAGE:
                continue
            if kind == _DICTIONARY_PAGE:
                raise _NotPlainError
            said = facts.get({_DATA_PAGE: 5, _DATA_PAGE_V2: 8}.get(cast(int, kind), 0))
            if not isinstance(said, dict):
                self._refuse("is damaged: a page is of no known kind")
            page = _numbers(cast("dict[int, object]", said))
            n, encoding = page.get(1, -1), page.get(2 if kind == _DATA_PAGE else 4)
            if not 0 <= n <= n_values:
                self._refuse("is damaged: a page has more values than its row group")
            if encoding != _PLAIN:
                raise _NotPlainError
            data += self._levels(kind == _DATA_PAGE, page, data, start, n, deepest)
            if 4 * n > start - data:
                self._refuse("is damaged: a page has more values than room for them")
            if n:
                yield _Page(data, start, n)
            n_values -= n

    def _levels(self, is_first: bool, page: dict[int, int], start: int, stop: int, n: int, deepest: int) -> int:
        """How many bytes say which values are there; all must be."""
        if is_first:
            if not deepest:
                return 0
            if page.get(3) != _RLE:
                raise _NotPlainError
            n_length = 4
            n_bytes = self._number(start, stop)
        else:
            n_length, n_bytes = 0, page.get(5, 0)
            if page.get(6, 0):  # of repetition, which such a column has none of
                raise _NotPlainError
        if not 0 <= n_bytes <= stop - start - n_length:
            self._refuse("is damaged: the levels of a page lead out of it")
        if n_bytes > 5 * n + 5:  # what is longer than a run for each value is not read into memory
            self._refuse("is damaged: a page has more levels than values")
        if deepest and not _are_all(self._bytes(start + n_length, n_bytes), deepest, n):
            raise _NotPlainError
        return n_length + n_bytes

    def _lengths(self, page: _Page) -> IntArray:
        lengths = np.empty(page.n, np.int64)
        at = page.start
        for i in range(page.n):
            lengths[i] = n_bytes = self._number(at, page.stop)
            at += 4 + n_bytes
        if at != page.stop:
            self._refuse("is damaged: a page is not as long as its pictures")
        return lengths

    def _number(self, at: int, stop: int) -> int:
        """The 32 bits at a place, which must lie before `stop`."""
        if at + 4 > stop:
            self._refuse("is damaged: a page is shorter than its pictures")
        return int.from_bytes(self._bytes(at, 4), "little")

    def _header(self, start: int, stop: int) -> tuple[dict[int, object], int]:
        """What the header of a page says, by the numbers of its fields; and how many bytes it takes."""
        n_bytes = 128
        while True:
            n_bytes = min(n_bytes, stop - start, LARGEST_HEADER)
            reader = _Compact(self._bytes(start, n_bytes))
            try:
                return reader.struct(), reader.at
            except IndexError:  # it goes on
                if n_bytes in (stop - start, LARGEST_HEADER):
                    self._refuse("is damaged: the header of a page leads out of its row group")
                n_bytes *= 8
            except ValueError as error:
                self._refuse(f"is damaged: the header of a page {error}")

    def _bytes(self, at: int, n: int) -> bytes:
        data = os.pread(self._file, n, at)
        if len(data) != n:
            self._refuse("is cut off")
        return data

    def _refuse(self, problem: str) -> NoReturn:
        _refuse(self._path, problem)


def _numbers(facts: dict[int, object]) -> dict[int, int]:
    return {key: value for key, value in facts.items() if isinstance(value, int)}


def _are_all(data: bytes, level: int, n: int) -> bool:
    """Whether `n` levels, in the RLE and bit-packed hybrid of Parquet, are all `level`."""
    width = level.bit_length()
    in_run = -(-width // 8)
    reader = _Compact(data)
    while n > 0:
        try:
            head = reader.varint()
        except (IndexError, ValueError):
            return False
        if head & 1:  # so many times eight levels, each of `width` bits
            n_packed = min((head >> 1) * 8, n)
            packed = data[reader.at : reader.at + (head >> 1) * width]
            bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")[: n_packed * width]
            if len(bits) < n_packed * width or not n_packed:
                return False
            levels = bits.reshape(-1, width) @ (1 << np.arange(width))
            if (levels != level).any():
                return False
            reader.at += len(packed)
            n -= n_packed
        else:
            at = reader.at
            if not head >> 1 or int.from_bytes(data[at : at + in_run], "little") != level:
                return False
            reader.at += in_run
            n -= head >> 1
    return True


class _Compact:
    """Thrift's compact protocol, as far as headers of pages need it; of texts only the length is looked at."""

    _DEEPEST, _MOST = 8, 1_000

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._n_values = 0
        self.at = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("has a number without end")

    def struct(self, depth: int = 0) -> dict[int, object]:
        """The fields of a structure by their numbers.

        Raises:
            IndexError: The data end before it does.
            ValueError: It is none.
        """
        fields: dict[int, object] = {}
        number = 0
        while kind := self._byte():
            step = kind >> 4
            number = number + step if step else self._zigzag()
            fields[number] = self._value(kind & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> object:
        self._n_values += 1
        if depth > self._DEEPEST or self._n_values > self._MOST:  # a page's header has some 20, three deep
            raise ValueError("holds values without end")
        value: object = None
        match kind:
            case 1 | 2:
                value = kind == 1
            case 3:
                value = self._byte()
            case 4 | 5 | 6:
                value = self._zigzag()
            case 7:
                self._skip(8)
            case 8:
                self._skip(self.varint())
            case 9 | 10:
                self._list(depth)
            case 12:
                value = self.struct(depth + 1)
            case _:
                raise ValueError(f"has a field of kind {kind}")
        return value

    def _list(self, depth: int) -> None:
        head = self._byte()
        n = head >> 4
        if n == 15:
            n = self.varint()
        for _ in range(n):
            self._value(3 if head & 15 in (1, 2) else head & 15, depth + 1)  # in a list, truths take a byte

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, n: int) -> None:
        if n > len(self._data) - self.at:
            raise IndexError
        self.at += n
