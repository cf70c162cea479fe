"""Catalogues in FITS, VOTable, ECSV, Parquet and CSV files, written a batch of rows at a time.

Each format is one function in `FORMATS`. What it says of its columns and origin is in `Content`; rows arrive as Arrow
batches, in which unknown numbers are null.
"""

from __future__ import annotations

import base64
import contextlib
import json
import textwrap
from collections.abc import Callable, Generator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from gzoo import files
from gzoo.catalogs.columns import HEALPIX, Column, Kind
from gzoo.catalogs.origin import Content, ascii_text
from gzoo.errors import InputError, MissingExtraError

Write = Callable[[pa.RecordBatch], None]
MAX_FITS_COLUMNS = 999
ARROW: Mapping[Kind, pa.DataType] = {
    "string": pa.string(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}
_FITS = {"bool": "L", "int32": "J", "int64": "K", "float32": "E", "float64": "D"}
_VOTABLE = {"bool": "boolean", "int32": "int", "int64": "long", "float32": "float", "float64": "double"}
_BIG_ENDIAN = {"bool": "S1", "int32": ">i4", "int64": ">i8", "float32": ">f4", "float64": ">f8"}
_LINE = 16_384  # characters of a line of base64


def schema(columns: tuple[Column, ...]) -> pa.Schema:
    """Return the Arrow schema of the batches that the writers take."""
    return pa.schema([(column.name, ARROW[column.kind]) for column in columns])


@contextlib.contextmanager
def writer(out: Path, content: Content) -> Generator[Write]:
    """Yield a function that writes one batch; the file appears only when it is complete.

    Args:
        out: The file, whose suffix is a key of `FORMATS`.
        content: What it contains.

    Raises:
        InputError: The format cannot hold the catalogue; see `refuse_content`.
    """
    refuse_content(out, content)
    with files.whole_file(out) as file, FORMATS[out.suffix](file, content) as write:
        yield write


def refuse_columns(out: Path, columns: tuple[Column, ...]) -> None:
    """Check that the format of a file can hold so many columns.

    Raises:
        MissingExtraError: FITS needs astropy.
        InputError: FITS holds 999 columns.
    """
    if out.suffix != ".fits":
        return
    try:
        import_module("astropy")
    except ImportError as error:
        raise MissingExtraError(
            f"Cannot write '{out}': FITS needs astropy, which is not installed.",
            "the extra 'tables'.",
            "Run `pip install 'gzoo[tables]'`.",
        ) from error
    if len(columns) > MAX_FITS_COLUMNS:
        raise InputError(
            f"The catalogue has {len(columns):,} columns, too many for '{out}'.",
            f"at most {MAX_FITS_COLUMNS} columns in a FITS file.",
            "Choose questions with --questions, or write Parquet or VOTable.",
        )


def refuse_content(out: Path, content: Content) -> None:
    """Check that the format of a file can hold a catalogue.

    Raises:
        MissingExtraError: FITS needs astropy.
        InputError: FITS holds 999 columns, whose names are ASCII.
    """
    refuse_columns(out, content.columns)
    strange = [column.name for column in content.columns if not column.name.isascii()]
    if out.suffix == ".fits" and strange:
        raise InputError(
            f"The column name '{strange[0]}' cannot be written to '{out}'.",
            "names of ASCII characters in a FITS file.",
            "Omit --names, or write Parquet or VOTable.",
        )


def refuse_text(out: Path, name: str, texts: pl.Series) -> None:
    """Check that the format of a file can hold some texts.

    Raises:
        InputError: FITS holds ASCII only.
    """
    if out.suffix != ".fits":
        return
    strange = texts.filter(~texts.str.contains(r"^[ -~]*$"))
    if len(strange):
        raise InputError(
            f"Column '{name}' cannot be written to '{out}': '{strange[0]}' is not ASCII ({len(strange):,} values).",
            "printable ASCII characters in a FITS file.",
            "Write Parquet, VOTable or ECSV.",
        )


# ----------------------------------------------------------------------------------------------------
# Text and Parquet


def _header(content: Content) -> dict[str, object]:
    """Return columns and origin in the form that astropy writes and reads, in ECSV and Parquet."""
    columns: list[dict[str, object]] = []
    for column in content.columns:
        one: dict[str, object] = {"name": column.name}
        if column.unit:
            one["unit"] = column.unit
        about = {"ucd": column.ucd} | ({"missing": column.missing} if column.missing else {})
        columns.append({**one, "datatype": column.kind, "description": column.description, "meta": about})
    return {"meta": {**content.facts, "gzoo": dict(content.about)}, "datatype": columns}


def _yaml(value: object) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(value, Dumper=dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)


@contextlib.contextmanager
def _parquet(file: BinaryIO, content: Content) -> Generator[Write]:
    with pq.ParquetWriter(file, parquet_schema(content), **parquet_options(content.columns)) as made:
        yield made.write_batch


def parquet_schema(content: Content) -> pa.Schema:
    """Return the Arrow schema of a catalogue with metadata for gzoo, astropy, TOPCAT and pyarrow."""
    fields = [
        pa.field(
            column.name,
            ARROW[column.kind],
            metadata={"unit": column.unit, "ucd": column.ucd, "description": column.description},
        )
        for column in content.columns
    ]
    metadata = {
        "gzoo": json.dumps(content.about, sort_keys=True),
        "table_meta_yaml": _yaml(_header(content)),
        "IVOA.VOTable-Parquet.version": "1.0",
        "IVOA.VOTable-Parquet.content": f"{_votable_start(content)}</TABLE>\n</RESOURCE>\n</VOTABLE>\n",
        **{f"table::len::{name}": str(width) for name, width in content.widths.items()},
    }
    return pa.schema(fields, metadata)


def parquet_options(columns: tuple[Column, ...]) -> dict[str, Any]:
    """Return how columns are stored.

    Numbers between 0 and 1 hardly repeat, so that a dictionary of them takes time and saves nothing; with their bytes
    in separate streams they are compressed to two thirds. Only columns that rows are sorted by have statistics that let
    readers skip rows.
    """
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [column.name for column in columns if column.kind in {"int32", "bool"} or column.name in
                           {"dataset_name", "split"}],
        "use_byte_stream_split": [column.name for column in columns if column.kind == "float32"],
        "write_statistics": [HEALPIX, "ra", "dec", "dataset_name", "id_str"],
        "write_page_checksum": True,
    }  # fmt: skip


@contextlib.contextmanager
def _csv(file: BinaryIO, content: Content) -> Generator[Write]:
    file.write((",".join(column.name for column in content.columns) + "\n").encode())

    def write(batch: pa.RecordBatch) -> None:
        _table(batch).write_csv(file, include_header=False)

    yield write


@contextlib.contextmanager
def _ecsv(file: BinaryIO, content: Content) -> Generator[Write]:
    header = _header(content)
    lines = ["%ECSV 1.0", "---", *_yaml({"delimiter": ",", **header, "schema": "astropy-2.0"}).splitlines()]
    file.write("".join(f"# {line}\n" for line in lines).encode())
    file.write((",".join(column.name for column in content.columns) + "\n").encode())
    is_truth = [column.name for column in content.columns if column.kind == "bool"]
    words = [pl.when(name).then(pl.lit("True")).otherwise(pl.lit("False")).alias(name) for name in is_truth]

    def write(batch: pa.RecordBatch) -> None:
        _table(batch).with_columns(words).write_csv(file, include_header=False)

    yield write


def _table(batch: pa.RecordBatch) -> pl.DataFrame:
    return cast(pl.DataFrame, pl.from_arrow(batch))


# ----------------------------------------------------------------------------------------------------
# FITS and VOTable: rows of big-endian bytes


def _rows(batch: pa.RecordBatch, content: Content, wide: Mapping[str, str], *, has_flags: bool) -> bytes:
    """Return rows as FITS and BINARY2 hold them.

    Args:
        batch: The rows.
        content: The catalogue.
        wide: Type of each column of text.
        has_flags: Whether a bit for each column, which says whether its value is unknown, precedes each row.
    """
    kinds = [(column.name, wide.get(column.name) or _BIG_ENDIAN[column.kind]) for column in content.columns]
    n_flags = -(-len(kinds) // 8) if has_flags else 0
    lead = [(" flags", f"V{n_flags}")] if has_flags else []
    rows = np.zeros(batch.num_rows, np.dtype(lead + kinds))
    for i, (column, (name, _)) in enumerate(zip(content.columns, kinds, strict=True)):
        values = batch.column(i)
        if column.kind == "string":
            code = "utf-16-be" if column.name in content.not_ascii else "ascii"
            rows[name] = [(one or "").encode(code) for one in values.to_pylist()]
        elif column.kind == "bool":
            rows[name] = np.where(values.to_numpy(zero_copy_only=False), b"T", b"F")
        else:
            rows[name] = values.to_numpy(zero_copy_only=False)
    if has_flags:
        is_null = [np.zeros(batch.num_rows, bool) if not one.null_count else one.is_null().to_numpy(False)
                   for one in batch.columns]  # fmt: skip
        flags = np.packbits(np.column_stack(is_null), axis=1)
        rows[" flags"] = flags.view(f"V{n_flags}")[:, 0]
    return rows.tobytes()


@contextlib.contextmanager
def _fits(file: BinaryIO, content: Content) -> Generator[Write]:
    fits = import_module("astropy.io.fits")
    primary = fits.PrimaryHDU().header
    facts = {name: " ".join(ascii_text(value).split()) for name, value in content.facts.items()}
    keywords = {
        "CREATOR": (facts["creator"], ""),
        "ORIGIN": (f"gzoo {facts['gzoo_version']}", "software that wrote the file"),
        "SIMULATE": (bool(content.about["is_simulated"]), "whether the galaxies are simulated"),
        "LICENSE": (facts["licence"], ""),
        "CAMPAIGN": (facts["campaign"], ""),
    }
    for name, value in keywords.items():
        primary[name] = value
    wide = {name: f"S{max(width, 1)}" for name, width in content.widths.items()}
    sizes = [
        int(wide[one.name][1:]) if one.name in wide else np.dtype(_BIG_ENDIAN[one.kind]).itemsize
        for one in content.columns
    ]
    cards: list[tuple[Any, ...]] = [
        ("XTENSION", "BINTABLE", "binary table extension"),
        ("BITPIX", 8),
        ("NAXIS", 2),
        ("NAXIS1", sum(sizes), "bytes of a row"),
        ("NAXIS2", content.n_rows, "number of rows"),
        ("PCOUNT", 0),
        ("GCOUNT", 1),
        ("TFIELDS", len(content.columns), "number of columns"),
        ("EXTNAME", "CATALOGUE"),
        ("RADESYS", "ICRS", "frame of the positions"),
        *((name, *value) for name, value in keywords.items()),
    ]
    for i, (column, size) in enumerate(zip(content.columns, sizes, strict=True), 1):
        cards += [(f"TTYPE{i}", column.name), (f"TFORM{i}", _FITS.get(column.kind) or f"{size}A")]
        if column.unit:
            cards.append((f"TUNIT{i}", column.unit))
        cards += [(f"TCOMM{i}", ascii_text(column.description)), (f"TUCD{i}", column.ucd)]
    cards.append(("GZOO", ascii_text(json.dumps(content.about, sort_keys=True)), ""))
    said = [line for name in ("simulated", "posterior", "citation") for line in textwrap.wrap(facts.get(name, ""), 72)]
    cards += [("COMMENT", line) for line in (*said, *_for_astropy(content))]
    header = fits.Header([fits.Card(*card) for card in cards])
    file.write(primary.tostring().encode("ascii"))
    file.write(header.tostring().encode("ascii"))
    n_bytes = 0

    def write(batch: pa.RecordBatch) -> None:
        nonlocal n_bytes
        n_bytes += file.write(_rows(batch, content, wide, has_flags=False))

    yield write
    file.write(b"\0" * (-n_bytes % 2880))


def _for_astropy(content: Content) -> list[str]:
    """Return the comments in which astropy keeps descriptions and metadata of columns, which FITS has no place for."""
    text = ascii_text(_yaml({**_header(content), "meta": content.facts}))
    lines: list[str] = ["--BEGIN-ASTROPY-SERIALIZED-COLUMNS--"]
    for line in text.splitlines():
        pieces = [line[i : i + 70] for i in range(0, len(line), 70)] or [""]
        lines += [f"{piece}\\" for piece in pieces[:-1]] + [pieces[-1]]
    return [*lines, "--END-ASTROPY-SERIALIZED-COLUMNS--"]


def _votable_start(content: Content) -> str:
    """Return a VOTable up to its data."""

    def element(tag: str, /, **given: object) -> str:
        attributes = "".join(f" {key}={quoteattr(str(value))}" for key, value in given.items() if value != "")
        return f"<{tag}{attributes}"

    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">',
        '<RESOURCE type="results">',
        f"<DESCRIPTION>{escape(content.description)}</DESCRIPTION>",
        *(element("INFO", name=name, value=value) + "/>" for name, value in content.facts.items()),
        element("INFO", name="gzoo", value=json.dumps(content.about, sort_keys=True)) + "/>",
        '<COOSYS ID="icrs" system="ICRS"/>',
        element("TABLE", name="catalogue", nrows=content.n_rows) + ">",
        f"<DESCRIPTION>{escape(content.title)}</DESCRIPTION>",
    ]
    for column in content.columns:
        is_text = column.kind == "string"
        kind = ("unicodeChar" if column.name in content.not_ascii else "char") if is_text else _VOTABLE[column.kind]
        size = _width(content, column.name) if is_text else ""
        frame = "icrs" if column.name in {"ra", "dec"} else ""
        field = element(
            "FIELD", name=column.name, datatype=kind, arraysize=size, unit=column.unit, ucd=column.ucd, ref=frame
        )
        lines.append(f"{field}><DESCRIPTION>{escape(column.description)}</DESCRIPTION></FIELD>")
    return "\n".join(lines) + "\n"


def _width(content: Content, name: str) -> int:
    return max(content.widths[name], 2)  # an array of 1 is deprecated


@contextlib.contextmanager
def _votable(file: BinaryIO, content: Content) -> Generator[Write]:
    wide = {name: f"S{_width(content, name) * (2 if name in content.not_ascii else 1)}" for name in content.widths}
    file.write(_votable_start(content).encode())
    file.write(b'<DATA>\n<BINARY2>\n<STREAM encoding="base64">\n')
    rest = b""

    def encoded(data: bytes) -> None:
        text = base64.b64encode(data)
        file.writelines(text[i : i + _LINE] + b"\n" for i in range(0, len(text), _LINE))

    def write(batch: pa.RecordBatch) -> None:
        nonlocal rest
        data = rest + _rows(batch, content, wide, has_flags=True)
        n_whole = len(data) - len(data) % 3
        rest = data[n_whole:]
        encoded(data[:n_whole])

    yield write
    encoded(rest)
    file.write(b"</STREAM>\n</BINARY2>\n</DATA>\n</TABLE>\n</RESOURCE>\n</VOTABLE>\n")


FORMATS: Mapping[str, Callable[[BinaryIO, Content], contextlib.AbstractContextManager[Write]]] = {
    ".parquet": _parquet,
    ".fits": _fits,
    ".vot": _votable,
    ".ecsv": _ecsv,
    ".csv": _csv,
}
"""Suffix of a file -> what writes it."""
