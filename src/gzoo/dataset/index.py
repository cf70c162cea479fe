"""Indexing: identifiers and votes of a shard's rows without their images, and where each image lies.

A shard with images has a row group for each hundred rows, and up to hundreds of columns: reading all votes from it
takes long. Its index has them once more in large groups. gzoo stores images as they are: not compressed, without
dictionary. The bytes of one image then stand in the shard in one piece, and are read by position, without Parquet.
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

from gzoo import files
from gzoo.dataset.schema import KEY, Record, array
from gzoo.errors import DatasetError
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.votes import Votes

PLACES = {"offset": pa.int64(), "length": pa.int32()}
"""Columns of an index that say where a row's image lies in its shard."""
SHARD_BYTES = b"shard_bytes"
"""Metadata of an index: how large the shard is that it is of."""
COLUMN = "image.bytes"
MAX_HEADER = 1 << 24
"""Bytes of a page's header, which may hold the least and largest value of the page."""
MAX_VALUES = 1_000  # in such a header, which has some 20
MAX_FOOTER = 1 << 28
_WHOLE, _TEXT, _LIST, _STRUCT = (4, 5, 6), 8, 9, 12  # kinds of values in Thrift's compact protocol
_QUICK = (*_WHOLE, _TEXT, _STRUCT)
_BYTE_ARRAY = 6
_REPEATED = 1_000  # a level that none else comes to
_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 1, 2, 3
_PLAIN, _RLE = 0, 3

Numbers = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """Where the images of a split lie, row by row.

    Attributes:
        paths: Its shards.
        shard: In which of them each image is.
        offset: Where in that file its bytes begin.
        length: How many they are.
    """

    paths: tuple[Path, ...]
    shard: npt.NDArray[np.int32]
    offset: Offsets
    length: Lengths

    def __len__(self) -> int:
        return len(self.shard)


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
    places: tuple[Offsets, Lengths],
    keys: pl.DataFrame,
    numbers: Iterable[Numbers],
) -> None:
    """Write the index of a shard with images.

    Args:
        path: The index.
        shard: The shard, which is written.
        record: What a row of it holds.
        tree: The questions that it carries.
        places: Offset and length of each row's image; see `images_in`.
        keys: Identifiers of its rows.
        numbers: Their votes (see `numbers_of`), some rows at a time.
    """
    schema = index_schema(record, tree, shard.stat().st_size)
    named = [array(keys[name], pa.string()) for name in KEY if name in schema.names]
    columns = [*named, *map(array, places, PLACES.values())]
    first = 0
    with files.write_parquet(path, schema, packing="snappy") as writer:
        for part in _joined(numbers, files.ROWS_IN_LARGE_GROUP):
            known = [column.slice(first, len(part)) for column in columns]
            votes = [array(column, pa.int32()) for column in np.ascontiguousarray(part.T)]
            writer.write_batch(pa.record_batch([*known, *votes], schema=schema))
            first += len(part)


def _joined(parts: Iterable[Numbers], n: int) -> Iterator[Numbers]:
    """The same rows, so many at a time or somewhat more; of the last what is left."""
    waiting: list[Numbers] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= n:
            joined, waiting = np.concatenate(waiting), []
            yield joined
    if waiting:
        yield np.concatenate(waiting)


def indices(folder: Path, shards: Sequence[Path]) -> list[Path] | None:
    """The index of each shard of a dataset folder; None where they do not all have one.

    Raises:
        DatasetError: One cannot be read, or is of another shard.
    """
    paths = [folder / files.index_name(shard.name) for shard in shards]
    if not all(path.is_file() for path in paths):
        return None
    for path, shard in zip(paths, shards, strict=True):
        try:
            said = (pq.read_schema(path).metadata or {}).get(SHARD_BYTES, b"").decode()
        except Exception as error:  # whatever a damaged file brings a reader to raise
            _refuse(path, f"cannot be read: {_said(error)}", "A table as gzoo wrote it.")
        n_bytes = shard.stat().st_size
        if said != str(n_bytes):
            what = f"of {said} bytes" if said.isdecimal() else "of unknown size"
            _refuse(
                path, f"is of a shard {what[:40]}, and {shard} has {n_bytes}", "A shard and the index written with it."
            )
    return paths


def places(path: Path, shard: Path) -> tuple[Offsets, Lengths]:
    """What an index says of where each row's image lies.

    Raises:
        DatasetError: It cannot be read, or names places outside of the shard.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(list(PLACES), use_threads=False)
            # by polars: pyarrow's own way first imports pandas, which takes a quarter of a second
            columns = [pl.Series(name, table.column(name).cast(kind)).to_numpy() for name, kind in PLACES.items()]
            offset, length = (cast(IntArray, one) for one in columns)
            is_valid = table.column(0).null_count + table.column(1).null_count == 0
    except Exception as error:  # whatever a damaged file brings a reader to raise
        _refuse(path, f"cannot be read: {_said(error)}", "A table as gzoo wrote it.")
    n_bytes = shard.stat().st_size
    if not is_valid or ((offset < 4) | (length < 0) | (offset > n_bytes - length)).any():
        _refuse(path, f"has images outside of {shard}", "Places in the shard.")
    return offset, cast(Lengths, length)


def images_in(
    path: Path, *, footer: pq.FileMetaData | None = None, lengths: IntArray | None = None
) -> tuple[Offsets, Lengths] | None:
    """Offset and length of each row's image in a Parquet file.

    Args:
        path: The file, with a column `image` of bytes and path.
        footer: What the file's footer says, from whoever wrote it just now. That of a file that came from elsewhere is
            read here, for pyarrow ends the process when it is asked about columns of a damaged one.
        lengths: The images' lengths, where they are known: then only the headers of pages are read.

    Returns:
        None where there are no images, or images are not stored plainly: compressed, in a dictionary, some missing.

    Raises:
        DatasetError: The file cannot be read, or is damaged.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return _Pages(path, file.fileno()).images(footer, lengths)
    except DatasetError:
        raise
    except Exception as error:  # whatever a damaged file brings a reader to raise
        _refuse(path, f"cannot be read: {_said(error)}")


def _said(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _refuse(path: Path, problem: str, expected: str = "A Parquet shard with the dataset's columns.") -> NoReturn:
    raise DatasetError(f"{path} {problem}.", expected, "Build or copy it again.") from None


class _NotPlainError(Exception):
    """The images are stored in another way than plainly."""


@dataclass(frozen=True, slots=True)
class _Page:
    """Values that stand one after the other, each its length (32 bits) and then its bytes."""

    start: int
    stop: int
    n: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The images of one row group: where their pages lie, and how many there are."""

    start: int
    n_bytes: int
    n_values: int
    n_rows: int
    is_plain: bool


@dataclass(frozen=True, slots=True)
class _Column:
    """The images of one file; `deepest` is the level of definition of a value that is there."""

    deepest: int
    chunks: Iterable[_Chunk]


class _Pages:
    """The pages of one file's images. No number in the file is believed that leads out of what it belongs to."""

    def __init__(self, path: Path, file: int) -> None:
        self._path, self._file = path, file
        self._size = os.fstat(file).st_size

    def images(self, footer: pq.FileMetaData | None, lengths: IntArray | None) -> tuple[Offsets, Lengths] | None:
        offsets, found = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
        n = 0
        try:
            for page in self._walk(_told(self._path, footer) if footer else self._read_footer()):
                each = self._lengths(page) if lengths is None else lengths[n : n + page.n]
                ends = page.start + np.cumsum(4 + each.astype(np.int64))
                if ends[-1] != page.stop:
                    self._refuse("holds images of other sizes than are known")
                offsets.append(ends - each)
                found.append(each.astype(np.int32))
                n += page.n
        except _NotPlainError:
            return None
        if lengths is not None and n != len(lengths):
            self._refuse(f"holds {n:,} images, and {len(lengths):,} are known")
        return np.concatenate(offsets), np.concatenate(found)

    def _read_footer(self) -> _Column:
        if self._size < 12:
            self._refuse("is cut off")
        tail = self._bytes(self._size - 8, 8)
        n_bytes = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or n_bytes > min(self._size - 12, MAX_FOOTER):
            self._refuse("is no Parquet file, or cut off")
        try:
            return _read_column(_Compact(self._bytes(self._size - 8 - n_bytes, n_bytes), n_bytes))
        except IndexError:
            self._refuse("is damaged: its footer leads out of the file")
        except ValueError as error:
            self._refuse(f"is damaged: its footer {error}")

    def _walk(self, column: _Column) -> Iterator[_Page]:
        """Every page with values, in order."""
        n_left = self._size
        for chunk in column.chunks:
            if not chunk.is_plain:
                raise _NotPlainError
            if chunk.n_values != chunk.n_rows:
                self._refuse("is damaged: a row group has images and rows in different numbers")
            if not chunk.n_values:  # its pages need not be anywhere
                continue
            if chunk.start < 4 or chunk.n_bytes < 0 or chunk.start + chunk.n_bytes > self._size:
                self._refuse("is damaged: a row group leads out of the file")
            n_left -= chunk.n_bytes
            if n_left < 0:  # else a small file could take for ever
                self._refuse("is damaged: row groups overlap")
            yield from self._pages_of(chunk.start, chunk.start + chunk.n_bytes, chunk.n_values, column.deepest)

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
            self._refuse("is damaged: a page is not as long as its images")
        return lengths

    def _number(self, at: int, stop: int) -> int:
        """The 32 bits at a place, which must lie before `stop`."""
        if at + 4 > stop:
            self._refuse("is damaged: a page is shorter than its images")
        return int.from_bytes(self._bytes(at, 4), "little")

    def _header(self, start: int, stop: int) -> tuple[dict[int, object], int]:
        """What the header of a page says, by the numbers of its fields; and how many bytes it takes."""
        n_bytes = 128
        while True:
            n_bytes = min(n_bytes, stop - start, MAX_HEADER)
            reader = _Compact(self._bytes(start, n_bytes), MAX_VALUES)
            try:
                return reader.struct(), reader.at
            except IndexError:  # it goes on
                if n_bytes in (stop - start, MAX_HEADER):
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


def _told(path: Path, footer: pq.FileMetaData) -> _Column:
    """What a sound footer says of the images.

    `footer.schema` is not asked: the two would hold each other, and millions of bytes stay until Python looks for such.

    Raises:
        _NotPlainError: There is no such column.
    """
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    if not groups:
        return _Column(0, [])
    paths = [groups[0].column(i).path_in_schema for i in range(footer.num_columns)]
    if paths.count(COLUMN) != 1:
        raise _NotPlainError
    number = paths.index(COLUMN)
    with pq.ParquetFile(path, metadata=footer) as file:
        field = file.schema_arrow.field(COLUMN.partition(".")[0])
    parts = (field, field.type.field(COLUMN.partition(".")[2]))
    chunks = (
        _Chunk(
            chunk.data_page_offset,
            chunk.total_compressed_size,
            chunk.num_values,
            group.num_rows,
            chunk.compression == "UNCOMPRESSED" and not chunk.has_dictionary_page,
        )
        for group in groups
        for chunk in [group.column(number)]
    )
    return _Column(sum(part.nullable for part in parts), chunks)


def _read_column(reader: _Compact) -> _Column:
    """What a footer of anyone's says of the images.

    Raises:
        _NotPlainError: There is no such column.
        IndexError: The footer ends too early.
        ValueError: It is none.
    """
    found: tuple[int, int] | None = None
    chunks: list[_Chunk] = []
    for field, kind in reader.fields():
        if field == 2:
            found = _place([reader.struct() for _ in range(reader.list_of(_STRUCT))])
        elif field == 4:
            if found is None:
                raise ValueError("has row groups before columns")
            chunks = [_read_chunk(reader, found[0]) for _ in range(reader.list_of(_STRUCT))]
        else:
            reader.skip(kind)
    if found is None:
        raise ValueError("names no columns")
    return _Column(found[1], chunks)


def _place(elements: Sequence[dict[int, object]]) -> tuple[int, int]:
    """Which of the columns holds images, and its level of definition, from the tree of columns in its flat form."""
    found: list[tuple[int, int]] = []
    open_: list[tuple[str, int, int]] = []  # of the structures around: path, level, and how many parts are to come
    n_columns = 0
    for element in elements[1:]:
        numbers = _numbers(element)
        name = element.get(4)
        path = (open_[-1][0] if open_ else "") + (name.decode("utf-8", "replace") if isinstance(name, bytes) else "")
        level = (open_[-1][1] if open_ else 0) + (numbers.get(3, 0) > 0) + _REPEATED * (numbers.get(3) == 2)
        if open_:
            open_[-1] = (*open_[-1][:2], open_[-1][2] - 1)
        if numbers.get(5, 0) > 0:
            open_.append((f"{path}.", level, numbers[5]))
        else:
            if path == COLUMN:
                is_plain = numbers.get(1) == _BYTE_ARRAY and level < _REPEATED
                found.append((n_columns, level if is_plain else -1))
            n_columns += 1
        while open_ and open_[-1][2] <= 0:
            open_.pop()
    if len(found) != 1 or found[0][1] < 0:
        raise _NotPlainError
    return found[0]


def _read_chunk(reader: _Compact, number: int) -> _Chunk:
    """What a row group says of one of its columns."""
    chunk: dict[int, object] = {}
    n_rows = -1
    for field, kind in reader.fields():
        if field == 1:
            for i in range(reader.list_of(_STRUCT)):
                if i == number:
                    chunk = reader.struct()
                else:
                    reader.skip(_STRUCT)
        elif field == 3 and kind in _WHOLE:
            n_rows = reader.zigzag()
        else:
            reader.skip(kind)
    said = chunk.get(3)
    facts = _numbers(cast("dict[int, object]", said)) if isinstance(said, dict) else {}
    is_elsewhere = 1 in chunk
    return _Chunk(
        facts.get(9, -1), facts.get(7, -1), facts.get(5, -1), n_rows,
        facts.get(4) == 0 and 11 not in facts and not is_elsewhere,
    )  # fmt: skip


def _numbers(facts: dict[int, object]) -> dict[int, int]:
    return {key: value for key, value in facts.items() if isinstance(value, int)}


def _are_all(data: bytes, level: int, n: int) -> bool:
    """Whether `n` levels, in the RLE and bit-packed hybrid of Parquet, are all `level`."""
    width = level.bit_length()
    in_run = -(-width // 8)
    reader = _Compact(data, 0)
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
    """Thrift's compact protocol, as far as Parquet needs it. What is read may be anything: it ends in any case.

    Raises:
        IndexError: The data end before what is read does.
        ValueError: They are something else.
    """

    _DEEPEST = 8

    def __init__(self, data: bytes, most: int) -> None:
        self._data, self._n_left = data, most  # values that may still be read
        self.at = 0

    def varint(self) -> int:
        """A number that is 0 or more."""
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

    def zigzag(self) -> int:
        """A number."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and kind of each field of a structure; whoever asks must read the field, or skip it."""
        number = 0
        while head := self._byte():
            step = head >> 4
            number = number + step if step else self.zigzag()
            yield number, head & 15

    def list_of(self, kind: int) -> int:
        """How many values follow in a list, which must be of one kind."""
        n, found = self._list_head()
        if n and found != kind:
            raise ValueError(f"has a list of kind {found}")
        return n

    def struct(self, depth: int = 0) -> dict[int, object]:
        """A structure: what its fields hold, by their numbers; lists are passed over."""
        return {number: self._value(kind, depth) for number, kind in self.fields()}

    def skip(self, kind: int, depth: int = 0) -> None:
        """Pass over a value."""
        if kind != _STRUCT or depth > self._DEEPEST or not self._n_left:
            self._value(kind, depth)
            return
        self._n_left -= 1
        data, at = self._data, self.at
        while head := data[at]:  # footers have hundreds of thousands of such, so this is made for speed
            at += 1
            if head < 16:  # the field's number is not told by how far it is from the last
                while data[at] > 127:
                    at += 1
                at += 1
            kind, n = head & 15, 1
            if kind == _LIST and data[at] < 240 and data[at] & 15 in _QUICK:
                kind, n = data[at] & 15, data[at] >> 4
                at += 1
            for _ in range(n):
                if 4 <= kind <= 6:
                    while data[at] > 127:
                        at += 1
                    at += 1
                elif kind == _TEXT and data[at] < 128:
                    at += data[at] + 1
                elif kind > 2:
                    self.at = at
                    self.skip(kind, depth + 1)
                    at = self.at
        self.at = at + 1

    def _value(self, kind: int, depth: int) -> object:
        self._n_left -= 1
        if depth > self._DEEPEST or self._n_left < 0:
            raise ValueError("holds values without end")
        value: object = None
        match kind:
            case 1 | 2:
                value = kind == 1
            case 3:
                value = self._byte()
            case 4 | 5 | 6:
                value = self.zigzag()
            case 7:
                self._bytes(8)
            case 8:
                value = self._bytes(self.varint())
            case 9 | 10:
                n, kind = self._list_head()
                for _ in range(n):
                    self.skip(3 if kind in (1, 2) else kind, depth + 1)  # in a list, truths take a byte
            case 12:
                value = self.struct(depth + 1)
            case _:
                raise ValueError(f"has a field of kind {kind}")
        return value

    def _list_head(self) -> tuple[int, int]:
        head = self._byte()
        return (self.varint() if head >> 4 == 15 else head >> 4), head & 15

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, n: int) -> bytes:
        if n > len(self._data) - self.at:
            raise IndexError
        self.at += n
        return self._data[self.at - n : self.at]
