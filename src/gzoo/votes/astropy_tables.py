"""Tables in FITS, VOTable and ECSV files, read with astropy."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, cast
from xml.parsers import expat

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.errors import MissingExtraError, TableError
from gzoo.votes.table_rows import Damage, check_unique, is_utf8, unreadable

MAX_FIELD = 100_000  # values in one cell of a VOTable; the reader allocates that much for each row

_Array = npt.NDArray[Any]
_Column = tuple[str, _Array, npt.NDArray[np.bool_] | None]
"""Name, values, and where they are missing."""


def read_astropy_table(path: Path, kind: str, table: str, damaged: list[Damage], units: dict[str, str]) -> pl.DataFrame:
    """Read a table of kind "FITS", "VOTable" or "ECSV".

    Args:
        path: The file.
        kind: Its kind.
        table: Name of the table in the file, "" for the first with rows.
        damaged: List to which damaged rows are appended.
        units: Mapping to which the unit of each column is added that has one.

    Raises:
        MissingExtraError: astropy is not installed.
        TableError: The file cannot be read.
    """
    try:
        import_module("astropy")
    except ImportError as error:
        raise MissingExtraError(
            f"astropy, which reads {kind} files, is not installed: cannot read '{path}'.",
            "the extra 'tables'.",
            "Run `pip install 'gzoo[tables]'`.",
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they report departures from the standards that change no value
            columns = list({"FITS": _fits, "VOTable": _votable, "ECSV": _ecsv}[kind](path, table, units))
    except TableError:
        raise
    except Exception as error:  # readers raise arbitrary exceptions on corrupt files
        raise unreadable(path, kind, error) from error
    check_unique(path, [name for name, _, _ in columns])
    if not columns:
        raise TableError(f"'{path}' does not contain any columns.", "a table of votes.", "Check the file.")
    return pl.DataFrame([_series(name, values, mask, damaged) for name, values, mask in columns])


def _fits(path: Path, table: str, units: dict[str, str]) -> Iterator[_Column]:
    with path.open("rb") as file:
        if file.read(9) != b"SIMPLE  =":
            raise TableError(f"'{path}' is not a FITS file.", "a file that starts with SIMPLE.", "Check the file.")
    fits = import_module("astropy.io.fits")
    size = path.stat().st_size
    with fits.open(
        path, mode="readonly", memmap=False, character_as_bytes=True, disable_image_compression=True
    ) as file:
        names: list[str] = []
        for hdu in file:  # no further than needed, so that a corrupt header after the table does not matter
            if isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
                names.append(str(hdu.name))
                if names[-1].lower() == table.lower() if table else int(hdu.header["NAXIS2"]) > 0:
                    break
        else:
            raise _no_table(path, table, names)
        n_bytes = int(hdu.header["NAXIS1"]) * int(hdu.header["NAXIS2"])
        if int(hdu.fileinfo()["datLoc"]) + n_bytes > size:
            raise TableError(
                f"'{path}' is truncated: its table needs {n_bytes:,} bytes, the file has {size:,}.",
                "a complete file.",
                "Download the file again.",
            )
        check_unique(path, [str(name) for name in hdu.columns.names])
        raw = hdu.data.view(np.ndarray)
        if isinstance(hdu, fits.TableHDU):
            yield from _fits_text(hdu.columns, raw)
            return
        for column in hdu.columns:
            name = str(column.name)
            if column.unit:
                units[name] = str(column.unit)
            code = str(column.format)
            if "P" in code or "Q" in code:  # variable-length arrays, whose descriptors may request any amount of memory
                yield name, np.empty((len(raw), 0), object), None
                continue
            stored = raw[name]
            mask = None
            if column.null is not None and np.issubdtype(stored.dtype, np.integer):
                mask = stored == int(column.null)
            elif code.endswith("L"):
                mask = stored == 0
            yield name, np.asarray(hdu.data.field(name)), mask


def _fits_text(columns: Any, raw: _Array) -> Iterator[_Column]:
    """Yield the columns of an ASCII table as text, because astropy reads empty cells as 0."""
    for column in columns:
        cells = np.char.strip(raw[str(column.name)].astype("S"))
        mask = cells == b""
        if column.null is not None:
            mask |= cells == str(column.null).strip().encode()
        if str(column.format)[:1] in "DEF":
            cells = np.array([cell.upper().replace(b"D", b"E") for cell in cells.tolist()], "S")  # as Fortran writes
        scale, zero = float(column.bscale or 1), float(column.bzero or 0)
        if (scale, zero) != (1.0, 0.0):
            cells = np.where(mask, b"0", cells).astype(np.float64) * scale + zero
        yield str(column.name), cells, mask


def _no_table(path: Path, table: str, names: Sequence[str]) -> TableError:
    listed = ", ".join(repr(name) for name in names) or "none"
    return TableError(
        f"Table '{table}' not found in '{path}'." if table else f"'{path}' does not contain a table with rows.",
        f"one of its tables: {listed}." if table else f"a table with rows; it has: {listed}.",
        "Correct `table` in the mapping file." if table else "Check the file.",
    )


def _votable(path: Path, table: str, units: dict[str, str]) -> Iterator[_Column]:
    _check_votable(path)
    votable = import_module("astropy.io.votable")
    parsed = votable.parse(str(path), verify="ignore")
    tables = list(parsed.iter_tables())
    names = [str(one.name or one.ID or "") for one in tables]
    chosen = [one for one, name in zip(tables, names, strict=True) if (name == table if table else len(one.array) > 0)]
    if not chosen:
        raise _no_table(path, table, names)
    array, fields = chosen[0].array, list(chosen[0].fields)
    for key, one in zip(array.dtype.names, fields, strict=True):
        column = array[key]
        if one.unit is not None:
            units[str(one.name or one.ID)] = str(one.unit)
        yield str(one.name or one.ID), np.asarray(column.data), _mask_of(column)


def _check_votable(path: Path) -> None:
    """Check that reading the file neither fetches data from elsewhere nor allocates more than its size suggests."""
    size = path.stat().st_size
    parser = expat.ParserCreate()

    def refuse(problem: str) -> NoReturn:
        raise TableError(
            f"'{path}', line {parser.CurrentLineNumber}: {problem}.",
            "a VOTable that contains its own data (TABLEDATA, or BINARY in base64).",
            "Write the table again with its data inside.",
        )

    def element(name: str, raw: dict[str, str]) -> None:
        tag = name.rpartition(":")[2].upper()
        attributes = {key.rpartition(":")[2].lower(): value.strip() for key, value in raw.items()}
        if tag == "FITS":
            refuse("the data are in an embedded FITS file")
        if tag == "STREAM" and "href" in attributes:
            refuse(f"the data are stored elsewhere, at '{attributes['href'][:100]}'")
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
        refuse("it contains a DOCTYPE, which may define entities")

    parser.StartElementHandler = element
    parser.StartDoctypeDeclHandler = doctype
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise unreadable(path, "VOTable", error) from error


def _ecsv(path: Path, table: str, units: dict[str, str]) -> Iterator[_Column]:
    with path.open("rb") as file:
        start = file.read(8)
    if not start.startswith(b"# %ECSV"):
        raise TableError(f"'{path}' is not an ECSV file.", "a file that starts with '# %ECSV'.", "Check the file.")
    if not is_utf8(path):
        raise TableError(f"'{path}' is not UTF-8.", "text in UTF-8.", "Save the table again in UTF-8.")
    with path.open("rb") as file:
        is_header = True
        for number, line in enumerate(file, 1):
            is_header &= line.startswith(b"#")
            if line.startswith(b"#") and not is_header:
                raise TableError(
                    f"'{path}', line {number} starts with '#': it is a row or a comment.",
                    "no comments between rows, and quotes around text that starts with '#'.",
                    "Remove the comment, or put the text in quotes.",
                )
    read = import_module("astropy.table").Table.read(str(path), format="ascii.ecsv")
    for name in read.colnames:
        column = read[name]
        if getattr(column, "unit", None) is not None:
            units[str(name)] = str(column.unit)
        values = getattr(column, "data", None)
        if not isinstance(values, np.ndarray):  # a time or coordinate, neither a number nor a string
            yield str(name), np.empty((len(read), 0), object), None
            continue
        yield str(name), np.asarray(cast(_Array, np.ma.getdata(values))), _mask_of(column)


def _mask_of(column: object) -> npt.NDArray[np.bool_] | None:
    mask = getattr(column, "mask", None)
    return None if mask is None else np.broadcast_to(np.asarray(mask, bool), np.shape(cast(_Array, column)))


def _series(name: str, values: _Array, mask: npt.NDArray[np.bool_] | None, damaged: list[Damage]) -> pl.Series:
    kind = values.dtype.kind
    if kind in "biuf" and values.ndim == 1:
        series = pl.Series(name, _native(values))
        return series if mask is None else series.set(pl.Series(mask), None)
    if kind in "iuf":
        return pl.Series(name, np.ascontiguousarray(_native(values)))
    cells: list[object] = values.tolist() if values.ndim == 1 and kind in "SUO" else [values]
    if any(not isinstance(cell, str | bytes) and cell is not None for cell in cells):
        return pl.Series(name, [None] * len(values), dtype=pl.Object)
    texts: list[object] = []
    for row, cell in enumerate(cells, 1):
        try:
            texts.append(cell.rstrip(b"\0 ").decode("utf-8") if isinstance(cell, bytes) else cell)
        except UnicodeDecodeError as error:
            byte = f"byte {error.start + 1} is 0x{error.object[error.start]:02x}"
            damaged.append(Damage(row, "text is not UTF-8", f"column {name}, {byte}"))
            texts.append(None)
    series = pl.Series(name, texts, pl.String)
    return series if mask is None else series.set(pl.Series(mask), None)


def _native(values: _Array) -> _Array:
    """Return values in the native byte order and in a type that polars supports."""
    wanted = values.dtype.newbyteorder("=")
    if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
        wanted = np.dtype(np.float64)
    return values.astype(wanted)
