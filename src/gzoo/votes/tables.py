"""Tables from elsewhere as polars frames: CSV, Parquet, FITS, VOTable, ECSV.

Missing values (empty cells, masked values, FITS TNULL) are null. Cells of CSV stay text. A cell that cannot be read
takes out its row; what makes every row doubtful (no header, a name twice, a file cut off) is an error.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from xml.parsers import expat

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from gzoo.errors import MissingExtraError, NotFoundError, TableError

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
EXPECTED = "A CSV, Parquet, FITS, VOTable or ECSV file (.csv, .parquet, .fits, .vot, .ecsv)."
MAX_FIELD = 100_000  # values in one cell of a VOTable; the reader sets that much aside for each row
_DAMAGED_SCHEMA = {"row": pl.Int64, "reason": pl.String, "detail": pl.String}


@dataclass(frozen=True, slots=True)
class ReadTable:
    """A table, and the rows of it that could not be read.

    Attributes:
        frame: All rows; a damaged one holds null where it could not be read.
        damaged: Columns `row` (the first row of the table is 1), `reason`, `detail`.
    """

    frame: pl.DataFrame
    damaged: pl.DataFrame


@dataclass(frozen=True, slots=True)
class _Damage:
    row: int
    reason: str
    detail: str


def read_table(path: Path | str, *, table: str = "") -> pl.DataFrame:
    """The table in a file, every row of it sound.

    Args:
        path: `.csv`, `.parquet`, `.fits`, `.vot` (`.votable`, `.xml`) or `.ecsv`.
        table: Name of the table, for FITS and VOTable files that hold several; by default the first with rows.

    Returns:
        One row a row. Cells of CSV are text, an empty one null; the other formats keep their types, with null for a
        masked value. A column of vectors becomes an array column.

    Raises:
        NotFoundError: There is no such file.
        MissingExtraError: FITS, VOTable and ECSV need astropy.
        TableError: The file cannot be read, or a row of it.
    """
    read = read_rows(path, table=table)
    if read.damaged.height:
        row, reason, detail = read.damaged.row(0)
        raise TableError(f"{path}, row {row}: {reason}: {detail}.", "Rows that can be read.", "Mend the file.")
    return read.frame


def read_rows(path: Path | str, *, table: str = "") -> ReadTable:
    """As `read_table`, but rows that cannot be read are told instead of refused.

    Raises:
        NotFoundError: There is no such file.
        MissingExtraError: FITS, VOTable and ECSV need astropy.
        TableError: The file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"There is no vote table {path}.", EXPECTED, "Check the path.")
    kind = KINDS.get(path.suffix.lower(), "")
    if not kind:
        raise TableError(f"{path} is a '{path.suffix}' file.", EXPECTED, "Convert the table first.")
    if path.stat().st_size == 0:
        raise TableError(f"{path} is empty.", "A header and one row a galaxy.", "Check the file.")
    damaged: list[_Damage] = []
    if kind == "CSV":
        frame = _csv(path, damaged)
    elif kind == "Parquet":
        frame = _parquet(path)
    else:
        frame = _astronomical(path, kind, table, damaged)
    rows = [(one.row, one.reason, one.detail) for one in damaged]
    return ReadTable(frame, pl.DataFrame(rows, schema=_DAMAGED_SCHEMA, orient="row"))


def iter_rows(path: Path | str, *, n_rows: int, table: str = "") -> Iterator[tuple[int, ReadTable]]:
    """As `read_rows`, a part at a time: Parquet without ever holding the whole table.

    Args:
        path: The table.
        n_rows: Most rows of a part.
        table: As there.

    Yields:
        Number of rows before the part, and the part, whose damaged rows are numbered as in the whole table. A table
        without rows gives one part without rows.
    """
    path = Path(path)
    if path.suffix.lower() != ".parquet" or not path.is_file() or path.stat().st_size == 0:
        read = read_rows(path, table=table)
        for start in range(0, max(read.frame.height, 1), n_rows):
            is_here = (pl.col("row") > start) & (pl.col("row") <= start + n_rows)
            yield start, ReadTable(read.frame.slice(start, n_rows), read.damaged.filter(is_here))
        return
    none = pl.DataFrame(schema=_DAMAGED_SCHEMA)
    start = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(n_rows):
                yield start, ReadTable(cast(pl.DataFrame, pl.from_arrow(batch)), none)
                start += batch.num_rows
            if start == 0:
                yield 0, ReadTable(cast(pl.DataFrame, pl.from_arrow(file.schema_arrow.empty_table())), none)
    except (Exception, pl.exceptions.PanicException) as error:  # whatever a damaged file brings a reader to raise
        raise _broken(path, "Parquet", error) from error


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _broken(path, "Parquet", error) from error


def _broken(path: Path, kind: str, error: BaseException) -> TableError:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return TableError(
        f"{path} cannot be read: {said.rstrip('.')}.",
        f"A sound {kind} table.",
        "Write the table again, or get it again from where it came.",
    )


# --- CSV ----------------------------------------------------------------------------------------------------------


def _csv(path: Path, damaged: list[_Damage]) -> pl.DataFrame:
    header = _header(path)
    if _is_utf8(path):
        try:
            frame = pl.read_csv(path, glob=False, infer_schema=False, truncate_ragged_lines=False)
            if frame.width == len(header):
                frame.columns = header
                return frame
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            pass  # some line is at fault: which one, the reading line by line says
    return _csv_by_line(path, header, damaged)


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                decoder.decode(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _header(path: Path) -> list[str]:
    with path.open("rb") as file:
        first = file.readline(1 << 20)
        while first and not first.strip():
            first = file.readline(1 << 20)
    if not first.strip(b"\xef\xbb\xbf\r\n \t"):
        raise TableError(f"{path} is empty.", "A header and one row a galaxy.", "Check the file.")
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in first:
        raise TableError(
            f"{path} is not UTF-8: line 1 has {'a UTF-16 mark' if first[0] > 0x7F else 'zero bytes'}.",
            "Text in UTF-8.",
            "Save the table again as 'CSV UTF-8'.",
        )
    try:
        text = first.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(
            f"{path} is not UTF-8: line 1, byte {error.start + 1} is 0x{first[error.start]:02x}.",
            "Column names in UTF-8.",
            "Save the table again as 'CSV UTF-8'.",
        ) from error
    text = text.rstrip("\r\n")
    if "\r" in text:
        raise TableError(
            f"{path} has lines that end in a carriage return alone.",
            "Lines that end in a line feed.",
            "Save the table again, with Unix or Windows line ends.",
        )
    try:
        names = next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise TableError(
            f"{path}, line 1: {error}.", "A header: column names with commas between them.", "Mend the first line."
        ) from error
    other = next((sign for sign in (";", "\t", "|") if len(names) == 1 and sign in text), "")
    if other:
        raise TableError(
            f"{path} has {other!r} between its columns.", "Commas.", "Save the table with commas between columns."
        )
    _refuse_twice(path, names)
    return names


def _refuse_twice(path: Path, names: Sequence[str]) -> None:
    for name, n in Counter(names).items():
        if n > 1:
            places = [str(i) for i, other in enumerate(names, 1) if other == name]
            raise TableError(
                f"{path} has the column '{name}' twice (columns {', '.join(places)}).",
                "Each column name once.",
                "Rename or remove one of them.",
            )


def _csv_by_line(path: Path, header: list[str], damaged: list[_Damage]) -> pl.DataFrame:
    """Each line for itself, so that a damaged one costs no other."""
    rows: list[list[str | None]] = []
    empty: list[str | None] = [None] * len(header)
    with path.open("rb") as file:
        lines = iter(enumerate(file, 1))
        for _, line in lines:
            if line.strip():
                break  # the header
        for number, line in lines:
            place = len(rows) + 1
            try:
                text = line.decode("utf-8").rstrip("\r\n")
                cells = next(csv.reader([text], strict=True)) if text else []
                if len(cells) <= len(header):
                    rows.append([cell or None for cell in cells] + empty[len(cells) :])
                    continue
                said = f"line {number} has {len(cells)} cells, the header has {len(header)}"
                damaged.append(_Damage(place, "row has too many cells", said))
            except UnicodeDecodeError as error:
                said = f"line {number}, byte {error.start + 1} is 0x{line[error.start]:02x}"
                damaged.append(_Damage(place, "text is not UTF-8", said))
            except csv.Error as error:
                damaged.append(_Damage(place, "row cannot be read", f"line {number}: {error}"))
            rows.append(empty)
    return pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row")


# --- FITS, VOTable, ECSV ------------------------------------------------------------------------------------------


def _astronomical(path: Path, kind: str, table: str, damaged: list[_Damage]) -> pl.DataFrame:
    _require_astropy(path, kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they tell of departures from the standards that change no value
            columns = list({"FITS": _fits, "VOTable": _votable, "ECSV": _ecsv}[kind](path, table))
    except TableError:
        raise
    except Exception as error:  # whatever a damaged file brings a reader to raise: the file is at fault, and is named
        raise _broken(path, kind, error) from error
    _refuse_twice(path, [name for name, _, _ in columns])
    if not columns:
        raise TableError(f"{path} has no columns.", "A table of votes.", "Check the file.")
    return pl.DataFrame([_series(name, values, mask, damaged) for name, values, mask in columns])


def _require_astropy(path: Path, kind: str) -> None:
    try:
        import_module("astropy")
    except ImportError as error:
        raise MissingExtraError(
            f"{path} is a {kind} file, and astropy, which reads it, is not installed.",
            "The extra 'tables'.",
            "Type: pip install 'gzoo[tables]'",
        ) from error


_Array = npt.NDArray[Any]
_Column = tuple[str, _Array, npt.NDArray[np.bool_] | None]
"""Name, values and where they are missing."""


def _fits(path: Path, table: str) -> Iterator[_Column]:
    with path.open("rb") as file:
        if file.read(9) != b"SIMPLE  =":
            raise TableError(f"{path} is no FITS file: it does not begin with SIMPLE.", EXPECTED, "Check the file.")
    fits = _reader("astropy.io.fits")
    size = path.stat().st_size
    with fits.open(
        path, mode="readonly", memmap=False, character_as_bytes=True, disable_image_compression=True
    ) as file:
        names: list[str] = []
        for hdu in file:  # no further than needed: a broken header is no reason not to read what stands before it
            if isinstance(hdu, fits.BinTableHDU):
                names.append(str(hdu.name))
                if names[-1].lower() == table.lower() if table else int(hdu.header["NAXIS2"]) > 0:
                    break
        else:
            raise _no_table(path, table, names)
        n_bytes = int(hdu.header["NAXIS1"]) * int(hdu.header["NAXIS2"])
        if int(hdu.fileinfo()["datLoc"]) + n_bytes > size:
            raise TableError(
                f"{path} is cut off: its table needs {n_bytes:,} bytes, the file has {size:,}.",
                "A whole file.",
                "Get it again from where it came.",
            )
        _refuse_twice(path, [str(name) for name in hdu.columns.names])
        raw = hdu.data.view(np.ndarray)
        for column in hdu.columns:
            name = str(column.name)
            code = str(column.format)
            if "P" in code or "Q" in code:  # arrays of any length: their descriptors may ask for any amount of memory
                yield name, np.empty((len(raw), 0), object), None
                continue
            stored = raw[name]
            mask = None
            if column.null is not None and np.issubdtype(stored.dtype, np.integer):
                mask = stored == int(column.null)
            elif code.endswith("L"):
                mask = stored == 0
            yield name, np.asarray(hdu.data.field(name)), mask


def _no_table(path: Path, table: str, names: Sequence[str]) -> TableError:
    listed = ", ".join(repr(name) for name in names) or "none"
    return TableError(
        f"{path} has no table named '{table}'." if table else f"{path} has no table with rows.",
        f"A table; those in the file: {listed}.",
        "Correct `table` in the mapping file." if table else "Check the file.",
    )


def _votable(path: Path, table: str) -> Iterator[_Column]:
    _refuse_hostile_votable(path)
    votable = _reader("astropy.io.votable")
    parsed = votable.parse(str(path), verify="ignore")
    tables = list(parsed.iter_tables())
    names = [str(one.name or one.ID or "") for one in tables]
    chosen = [one for one, name in zip(tables, names, strict=True) if (name == table if table else len(one.array) > 0)]
    if not chosen:
        raise _no_table(path, table, names)
    array, fields = chosen[0].array, list(chosen[0].fields)
    for key, one in zip(array.dtype.names, fields, strict=True):
        column = array[key]
        yield str(one.name or one.ID), np.asarray(column.data), _mask_of(column)


def _refuse_hostile_votable(path: Path) -> None:
    """Nothing is fetched from elsewhere, nothing unfolds to more than the file holds."""
    size = path.stat().st_size
    parser = expat.ParserCreate()

    def refuse(what: str) -> None:
        raise TableError(
            f"{path}, line {parser.CurrentLineNumber}: {what}.",
            "A VOTable that holds its own data (TABLEDATA, or BINARY in base64).",
            "Write the table again, with the data in it.",
        )

    def element(name: str, given: dict[str, str]) -> None:
        tag = name.rpartition(":")[2].upper()
        attributes = {key.rpartition(":")[2].lower(): value.strip() for key, value in given.items()}
        if tag == "FITS":
            refuse("the data are a FITS file inside the VOTable")
        if tag == "STREAM" and "href" in attributes:
            refuse(f"the data lie elsewhere, at '{attributes['href'][:100]}'")
        if tag == "STREAM" and attributes.get("encoding", "base64").lower() != "base64":
            refuse(f"the data are encoded as '{attributes['encoding'][:20]}'")
        if tag == "TABLE" and not (attributes.get("nrows") or "0").isdecimal():
            refuse(f"nrows is '{attributes['nrows'][:20]}'")
        if tag == "TABLE" and float(attributes.get("nrows") or 0) > size:
            refuse(f"nrows is {attributes['nrows'][:20]}, in a file of {size:,} bytes")
        if tag in {"FIELD", "PARAM"}:
            sizes = [int(part) for part in re.findall(r"\d{1,15}", attributes.get("arraysize", ""))]
            if math.prod(sizes) > MAX_FIELD:
                refuse(f"arraysize is '{attributes['arraysize'][:40]}'")

    def doctype(*_: object) -> None:
        refuse("it has a DOCTYPE, which may define entities")

    parser.StartElementHandler = element
    parser.StartDoctypeDeclHandler = doctype
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise _broken(path, "VOTable", error) from error


def _ecsv(path: Path, table: str) -> Iterator[_Column]:
    with path.open("rb") as file:
        start = file.read(8)
    if not start.startswith(b"# %ECSV"):
        raise TableError(f"{path} is no ECSV file: it does not begin with '# %ECSV'.", EXPECTED, "Check the file.")
    if not _is_utf8(path):
        raise TableError(f"{path} is not UTF-8.", "Text in UTF-8.", "Save the table again in UTF-8.")
    read = _reader("astropy.table").Table.read(str(path), format="ascii.ecsv")
    for name in read.colnames:
        column = read[name]
        values = getattr(column, "data", None)
        if not isinstance(values, np.ndarray):  # a time, a coordinate: no number and no text
            yield str(name), np.empty((len(read), 0), object), None
            continue
        yield str(name), np.asarray(cast(_Array, np.ma.getdata(values))), _mask_of(column)


def _reader(module: str) -> ModuleType:
    return import_module(module)


def _mask_of(column: object) -> npt.NDArray[np.bool_] | None:
    mask = getattr(column, "mask", None)
    return None if mask is None else np.broadcast_to(np.asarray(mask, bool), np.shape(cast(_Array, column)))


def _series(name: str, values: _Array, mask: npt.NDArray[np.bool_] | None, damaged: list[_Damage]) -> pl.Series:
    kind = values.dtype.kind
    if values.ndim > 1 or kind not in "biufSUO":
        if values.ndim > 1 and kind in "iuf":
            return pl.Series(name, np.ascontiguousarray(_native(values)))
        return pl.Series(name, [None] * len(values), dtype=pl.Object)
    if kind == "O":
        cells: list[object] = values.tolist()
        if any(not isinstance(cell, str | bytes) and cell is not None for cell in cells):
            return pl.Series(name, [None] * len(values), dtype=pl.Object)
        texts = _texts(name, cast("list[str | bytes | None]", cells), damaged)
    elif kind in "SU":
        texts = _texts(name, cast("list[str | bytes | None]", values.tolist()), damaged)
    else:
        series = pl.Series(name, _native(values))
        return series if mask is None else series.set(pl.Series(mask), None)
    hidden = mask if mask is not None else np.zeros(len(texts), bool)
    return pl.Series(name, [None if gone else text for text, gone in zip(texts, hidden, strict=True)], pl.String)


def _native(values: _Array) -> _Array:
    """In this machine's byte order, and of a type that polars has."""
    wanted = values.dtype.newbyteorder("=")
    if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
        wanted = np.dtype(np.float64)
    return values.astype(wanted)


def _texts(name: str, cells: Sequence[str | bytes | None], damaged: list[_Damage]) -> list[str | None]:
    texts: list[str | None] = []
    for row, cell in enumerate(cells, 1):
        if isinstance(cell, bytes):
            try:
                texts.append(cell.rstrip(b"\0 ").decode("utf-8"))
            except UnicodeDecodeError as error:
                said = f"column {name}, byte {error.start + 1} is 0x{cell[error.start]:02x}"
                damaged.append(_Damage(row, "text is not UTF-8", said))
                texts.append(None)
        else:
            texts.append(cell)
    return texts
