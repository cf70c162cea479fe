"""Tables in CSV, Parquet, FITS, VOTable or ECSV files as polars frames.

Missing values (empty cells, masked values, FITS TNULL) are null. Cells of CSV stay text. A cell that cannot be read, or
a cell too few or too many, invalidates its row; what makes every row doubtful (a missing header, a duplicate name, a
truncated file) is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from gzoo.errors import NotFoundError, TableError
from gzoo.votes.table_rows import Damage, unreadable
from gzoo.votes.text_tables import read_csv

KINDS = {
    ".csv": "CSV",
    ".parquet": "Parquet",
    ".fits": "FITS",
    ".fit": "FITS",
    ".vot": "VOTable",
    ".votable": "VOTable",
    ".xml": "VOTable",
    ".ecsv": "ECSV",
}
_EXPECTED = "a CSV, Parquet, FITS, VOTable or ECSV file (.csv, .parquet, .fits, .vot, .ecsv)."
_HEADER_EXPECTED = "a header, and one row per galaxy."
_MASK = ".mask"
"""End of the name of a column that astropy writes into Parquet beside one with masked values."""
_DAMAGED_SCHEMA = {"row": pl.Int64, "reason": pl.String, "detail": pl.String}


@dataclass(frozen=True, slots=True)
class ReadTable:
    """Table, and its rows that could not be read.

    Attributes:
        frame: All rows; a damaged one contains null where it could not be read.
        damaged: Columns `row` (the first row of the table is 1), `reason`, `detail`.
        units: Column -> the unit that the file declares for it; only columns with one.
    """

    frame: pl.DataFrame
    damaged: pl.DataFrame
    units: Mapping[str, str] = field(default_factory=dict[str, str])


def read_table(path: Path | str, *, table: str = "") -> pl.DataFrame:
    """Read a table all rows of which are intact.

    Args:
        path: File: `.csv`, `.parquet`, `.fits`, `.vot` (`.votable`, `.xml`) or `.ecsv`.
        table: Name of the table in FITS and VOTable files with several; by default the first with rows.

    Returns:
        The rows. Cells of CSV are text, null if empty; the other formats keep their types, with null for masked values.
        A column of vectors becomes an array column.

    Raises:
        NotFoundError: The file does not exist.
        MissingExtraError: astropy, which reads FITS, VOTable and ECSV, is not installed.
        TableError: The file or one of its rows cannot be read.
    """
    read = read_rows(path, table=table)
    if read.damaged.height:
        row, reason, detail = read.damaged.row(0)
        raise TableError(f"'{path}', row {row}: {reason} ({detail}).", "", "Correct this row.")
    return read.frame


def read_rows(path: Path | str, *, table: str = "", columns: Sequence[str] | None = None) -> ReadTable:
    """Read a table as `read_table` does, but report damaged rows instead of raising an error.

    Args:
        path: See `read_table`.
        table: See `read_table`.
        columns: Columns to read from a Parquet file, by default all. Other formats are read whole.

    Raises:
        NotFoundError: The file does not exist.
        MissingExtraError: astropy, which reads FITS, VOTable and ECSV, is not installed.
        TableError: The file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"Table not found: '{path}'.", _EXPECTED, "Check the path.")
    kind = KINDS.get(path.suffix.lower(), "")
    if not kind:
        raise TableError(f"Unsupported table format '{path.suffix}': '{path}'.", _EXPECTED, "Convert the table first.")
    if path.stat().st_size == 0:
        raise TableError(f"'{path}' is empty.", _HEADER_EXPECTED, "Check the file.")
    damaged: list[Damage] = []
    units: dict[str, str] = {}
    if kind == "CSV":
        frame = read_csv(path, damaged)
    elif kind == "Parquet":
        try:
            schema = pq.read_schema(path)
            chosen = [name for name in schema.names if name.removesuffix(_MASK) in columns] if columns else None
            frame = _without_masked(pl.read_parquet(path, columns=chosen, glob=False))
            units = _parquet_units(schema)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError) as error:
            raise unreadable(path, kind, error) from error
    else:
        from gzoo.votes.astropy_tables import read_astropy_table

        frame = read_astropy_table(path, kind, table, damaged, units)
    return ReadTable(frame, pl.DataFrame(damaged, schema=_DAMAGED_SCHEMA, orient="row"), units)


def iter_rows(path: Path | str, *, n_rows: int, table: str = "") -> Iterator[tuple[int, ReadTable]]:
    """Read a table as `read_rows` does, in parts, so that large Parquet files need little memory.

    Args:
        path: See `read_table`.
        n_rows: Maximum number of rows of a part.
        table: See `read_table`.

    Yields:
        The number of rows before the part, and the part, whose damaged rows are numbered as in the whole table. A table
        without rows gives one part without rows.
    """
    path = Path(path)
    if path.suffix.lower() != ".parquet" or not path.is_file() or path.stat().st_size == 0:
        read = read_rows(path, table=table)
        for start in range(0, max(read.frame.height, 1), n_rows):
            is_here = (pl.col("row") > start) & (pl.col("row") <= start + n_rows)
            yield start, ReadTable(read.frame.slice(start, n_rows), read.damaged.filter(is_here), read.units)
        return
    none = pl.DataFrame(schema=_DAMAGED_SCHEMA)
    start = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            units = _parquet_units(file.schema_arrow)
            for batch in file.iter_batches(n_rows):
                yield start, ReadTable(_without_masked(cast(pl.DataFrame, pl.from_arrow(batch))), none, units)
                start += batch.num_rows
            if start == 0:
                yield 0, ReadTable(cast(pl.DataFrame, pl.from_arrow(file.schema_arrow.empty_table())), none)
    except (Exception, pl.exceptions.PanicException) as error:  # readers raise arbitrary exceptions on corrupt files
        raise unreadable(path, "Parquet", error) from error


def _without_masked(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table in which what the columns mask beside others, as astropy writes them, is null."""
    masked = [name for name in frame.columns if frame.schema.get(f"{name}{_MASK}") == pl.Boolean]
    values = (pl.when(~pl.col(f"{name}{_MASK}").fill_null(True)).then(pl.col(name)).alias(name) for name in masked)
    return frame.with_columns(values).drop(f"{name}{_MASK}" for name in masked)


def _parquet_units(schema: pa.Schema) -> dict[str, str]:
    """Return the units in a schema: those of its fields, and those that astropy writes beside it."""
    found = {field.name: (field.metadata or {}).get(b"unit", b"").decode("utf-8", "replace") for field in schema}
    try:
        about = yaml.safe_load((schema.metadata or {}).get(b"table_meta_yaml", b""))
        listed = cast("list[dict[str, object]]", about["datatype"]) if about else []
        found |= {str(one["name"]): str(one["unit"]) for one in listed if "unit" in one}
    except (yaml.YAMLError, TypeError, KeyError, UnicodeDecodeError):
        pass  # not written by astropy, or with objects that only astropy knows
    return {name: unit for name, unit in found.items() if unit}
