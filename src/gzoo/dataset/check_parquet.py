"""Reading of Parquet files that may be corrupt: whatever is wrong with them becomes a finding."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gzoo.dataset import schema
from gzoo.dataset.check_findings import MAX_EXAMPLES, FindingLog
from gzoo.dataset.check_folder import Shard
from gzoo.errors import reason

Hashes = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]


def open_shard(shard: Shard, log: FindingLog) -> pq.ParquetFile | None:
    """Open a shard; return None if its footer cannot be read."""
    try:
        file = pq.ParquetFile(shard.path, page_checksum_verification=True, pre_buffer=False)
        _ = file.schema_arrow
    except Exception as error:  # readers raise arbitrary exceptions on corrupt files
        log.add("unreadable shard", shard.name, examples=[reason(error)])
        return None
    return file


def read_batches(
    shard: Shard, file: pq.ParquetFile, columns: Sequence[str], size: int, log: FindingLog
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield rows of a shard, up to the first that cannot be read.

    Args:
        shard: The shard.
        file: Its open file.
        columns: Columns to read.
        size: Largest number of rows in a batch.
        log: Log of findings.

    Yields:
        Number (from 0) of the first row, and the rows.
    """
    n = 0
    try:
        for batch in file.iter_batches(size, columns=list(columns), use_threads=False):
            yield n, batch
            n += batch.num_rows
        if n != file.metadata.num_rows:
            raise ValueError(f"{n:,} rows found where the footer lists {file.metadata.num_rows:,}")
    except Exception as error:  # as above
        log.add("unreadable shard", shard.name, row=n + 1, examples=[reason(error)])


def read_table(
    path: Path, name: str, keys: Hashes, columns: Mapping[str, type[pl.DataType]], finding: str, log: FindingLog
) -> pl.DataFrame | None:
    """Read columns of a table beside the shards, which has a row for each row of the dataset, in the same order.

    Args:
        path: The table.
        name: Its name in the dataset folder.
        keys: Hashes of the identifiers of the dataset's rows; see `hash_keys`.
        columns: Regular expressions of the columns to read, each with the type to read them as.
        finding: Type of the finding to add if the table has other rows or cannot be read.
        log: Log of findings.

    Returns:
        The columns; None if there is a finding.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            patterns = "|".join([*schema.KEY, *columns])
            table = file.read([one for one in file.schema_arrow.names if re.fullmatch(patterns, one)])
        table.validate(full=True)
        frame = cast(pl.DataFrame, pl.from_arrow(table))
        found = hash_keys(*(frame[one].cast(pl.String) for one in schema.KEY))
        frame = frame.select(pl.col(pattern).cast(kind) for pattern, kind in columns.items())
    except Exception as error:  # readers raise arbitrary exceptions on corrupt files
        log.add(finding, name, examples=[reason(error)])
        return None
    n = min(len(found), len(keys))
    differs = np.flatnonzero(found[:n] != keys[:n])
    if len(differs):
        log.add(finding, name, "id_str", rows=differs + 1)
    if len(found) != len(keys):
        log.add(finding, name, examples=[f"{len(found):,} rows, not {len(keys):,}"])
    return None if len(differs) or len(found) != len(keys) else frame


def hash_keys(names: Sequence[str] | pl.Series, ids: Sequence[str] | pl.Series) -> Hashes:
    """Return a hash of each dataset_name and id_str, which is stable within one process."""
    columns = dict(zip(schema.KEY, (names, ids), strict=True))
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)).hash_rows().to_numpy()


class Rows:
    """Some rows of a shard, whose columns are checked as they are read.

    Args:
        log: Log of findings.
        file: Name of the shard.
        first: Number (from 0) of the first row in the shard.
        batch: The rows.
        dtypes: Type of each column, as in `gzoo.dataset.schema.Field`.
        is_strict: Whether gzoo wrote the shard, so that the types of its columns were compared and nulls are defects.
    """

    def __init__(
        self, log: FindingLog, file: str, first: int, batch: pa.RecordBatch, dtypes: Mapping[str, str], is_strict: bool
    ) -> None:
        self._log, self._file, self._first, self._batch = log, file, first, batch
        self._dtypes, self._is_strict = dtypes, is_strict
        self.columns = frozenset(batch.schema.names)

    def report(
        self, name: str, column: str, is_wrong: BoolArray, example: str = "", *values: Sequence[object] | AnyArray
    ) -> None:
        """Add a finding if any rows are wrong (shape (row,)); `example` is a format of the values of a row."""
        if is_wrong.any():
            rows = np.flatnonzero(is_wrong)
            examples = [example.format(*(one[i] for one in values)) for i in rows[:MAX_EXAMPLES]] if example else ()
            self._log.add(name, self._file, column, rows=rows + self._first + 1, examples=examples)

    def numbers(self, name: str) -> AnyArray | None:
        """Return a numeric column, integers as int64; None if it is missing."""
        array = self._column(name)
        if array is None:
            return None
        values = array.to_numpy(zero_copy_only=False)
        return values.astype(np.int64) if self._dtypes[name] == "int32" else values

    def strings(self, name: str) -> list[str] | None:
        """Return a column of strings; None if it is missing."""
        array = self._column(name)
        if array is None:
            return None
        try:
            return cast("list[str]", array.to_pylist())
        except UnicodeDecodeError:
            raw = cast("list[bytes]", array.cast(pa.binary()).to_pylist())
            strings = [one.decode("utf-8", "replace") for one in raw]
            is_wrong = [one.encode() != original for one, original in zip(strings, raw, strict=True)]
            self.report("invalid UTF-8", name, np.array(is_wrong, bool))
            return strings

    def is_null(self, name: str) -> BoolArray:
        """Return whether each value of a column is null, shape (row,)."""
        if name not in self.columns:
            return np.zeros(self._batch.num_rows, bool)
        return np.asarray(self._batch.column(name).is_null().to_numpy(zero_copy_only=False), bool)

    def _column(self, name: str) -> pa.Array | None:
        if name not in self.columns:
            return None
        array = self._batch.column(name)
        kind = schema.ARROW_TYPES[self._dtypes[name]]
        try:
            array = array.cast(kind) if array.type != kind else array
        except pa.ArrowException as error:
            if not self._is_strict:
                self._log.add("wrong type", self._file, name, examples=[reason(error)])
            return None
        if array.null_count:
            if self._is_strict or name == "id_str":
                self.report("null value", name, self.is_null(name))
            else:
                self._log.note("shards", "nulls, which gzoo never writes, were read as 0, NaN or ''")
            missing = {"string": "", "int32": 0}.get(self._dtypes[name], np.nan)
            array = cast(pa.Array, pc.fill_null(array, pa.scalar(missing, kind)))
        return array
