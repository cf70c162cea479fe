"""Exports of classifications, block by block, so that a damaged row costs only itself and memory stays small."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.errors import NotFoundError, TableError

NEEDED = ("classification_id", "user_name", "workflow_id", "workflow_version", "created_at", "metadata",
          "annotations", "subject_data", "subject_ids")  # fmt: skip
OPTIONAL = ("user_id", "user_ip", "workflow_name", "gold_standard", "expert")
COLUMNS = (*NEEDED, *OPTIONAL)
NEEDED_IN_LINES = ("classification_id", "workflow_id", "subject_id", "question", "response")

MAX_ROW = 4_000_000
BLOCK_BYTES = 1 << 24
MAX_LINES_IN_ROW = 200
_EXPECTED = (
    "A classification export of Zooniverse as CSV (Lab, 'Data exports'), or one response a line as JSON (.jsonl)."
)

R_UNREADABLE = "row unreadable"
R_LONG = "row too long"


@dataclass(frozen=True, slots=True)
class Damage:
    """A row that cannot be read: its number (the first after the header is 1), the rule, what is wrong."""

    row: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of an export.

    Attributes:
        frame: Columns `COLUMNS` as text (null where absent), and `row`.
        damaged: The rows that could not be read.
        n_bytes: Read for it.
    """

    frame: pl.DataFrame
    damaged: list[Damage] = field(default_factory=list[Damage])
    n_bytes: int = 0


def is_json_lines(path: Path) -> bool:
    """Whether a file holds one JSON object a line."""
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return True
    with path.open("rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def blocks(path: Path) -> Iterator[Block]:
    """The rows of a classification export, CSV or JSON lines, in order.

    Raises:
        NotFoundError: There is no such file.
        TableError: It is empty, is no such export, or has a column twice.
    """
    if not path.is_file():
        raise NotFoundError(f"There is no export {path}.", _EXPECTED, "Check --classifications.")
    if path.stat().st_size == 0:
        raise TableError(f"{path} is empty.", _EXPECTED, "Export it again.")
    yield from (_json_lines(path) if is_json_lines(path) else _csv(path))


# --- CSV ----------------------------------------------------------------------------------------------------------


def _csv(path: Path) -> Iterator[Block]:
    with path.open("rb") as file:
        header = _header(path, file)
        row = 0
        for data, n_bytes in _whole_lines(file):
            block, row = _rows(data, n_bytes, header, row)
            yield block


def _header(path: Path, file: BinaryIO) -> list[str]:
    first = file.readline(1 << 20)
    while first and not first.strip():
        first = file.readline(1 << 20)
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in first:
        raise TableError(f"{path} is not UTF-8 text.", _EXPECTED, "Save it again as 'CSV UTF-8'.")
    try:
        names = next(csv.reader([first.decode("utf-8-sig").rstrip("\r\n")], strict=True), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}, line 1: {error}.", "A header in UTF-8.", "Export it again.") from error
    names = [name.strip() for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        places = ", ".join(str(i) for i, name in enumerate(names, 1) if name == twice[0])
        raise TableError(
            f"{path} has the column '{twice[0]}' twice (columns {places}).",
            "Each column name once.",
            "Rename or remove one of them.",
        )
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise TableError(
            f"{path} has no column {', '.join(repr(name) for name in missing)}; it has "
            f"{', '.join(names)[:300] or 'none'}.",
            _EXPECTED,
            "Check that it is the classification export; a table with one row a galaxy goes to --votes.",
        )
    return names


def _whole_lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Blocks of whole lines. Of a line that is longer than any row only its start is kept."""
    rest, is_skipping = b"", False
    while True:
        piece = file.read(BLOCK_BYTES)
        n_bytes = len(piece)
        is_last = not piece
        if is_skipping:
            place = piece.find(b"\n")
            if place < 0 and not is_last:
                continue
            # the start of the long line goes on with this end, and is too long by itself
            piece, is_skipping = (piece[place:] if place >= 0 else b""), False
        data = rest + piece
        if is_last:
            if data:
                yield data if data.endswith(b"\n") else data + b"\n", n_bytes
            return
        end = data.rfind(b"\n") + 1
        if len(data) - end > MAX_ROW:
            rest, is_skipping = data[end : end + MAX_ROW + 1], True
        else:
            rest = data[end:]
        if end:
            yield data[:end], n_bytes


def _rows(data: bytes, n_bytes: int, header: list[str], row: int) -> tuple[Block, int]:
    """The rows in some whole lines; `row` counts those before."""
    frame = _fast(data, header)
    if frame is None:
        return _careful(data, n_bytes, header, row)
    numbered = frame.with_columns(row=pl.int_range(row + 1, row + 1 + frame.height))
    return Block(numbered, [], n_bytes), row + frame.height


def _fast(data: bytes, header: list[str]) -> pl.DataFrame | None:
    """All lines at once, if each of them is a row: a quote too many would make one row of several lines."""
    try:
        frame = pl.read_csv(
            io.BytesIO(data),
            has_header=False,
            new_columns=header,
            schema=dict.fromkeys(header, pl.String),
            truncate_ragged_lines=False,
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    if frame.height != data.count(b"\n") or frame.width != len(header) or frame[header[-1]].has_nulls():
        return None
    if frame.select(pl.sum_horizontal(pl.all().str.len_bytes()).max()).item() > MAX_ROW:
        return None
    return _needed(frame)


def _needed(frame: pl.DataFrame) -> pl.DataFrame:
    unavailable = [pl.lit(None, pl.String).alias(name) for name in COLUMNS if name not in frame.columns]
    return frame.with_columns(unavailable).select(COLUMNS)


@dataclass(frozen=True, slots=True)
class _Lines:
    """Whole lines of a file, without their ends; a line that is too long is None."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    is_long: npt.NDArray[np.bool_]


def _split(data: bytes) -> _Lines:
    signs = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(signs == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    is_empty = (ends - starts == 0) | ((ends - starts == 1) & (signs[starts] == 13))
    starts, ends = starts[~is_empty], ends[~is_empty]
    return _Lines(starts, ends, ends - starts > MAX_ROW)


def _careful(data: bytes, n_bytes: int, header: list[str], row: int) -> tuple[Block, int]:
    """Line by line. A line with an odd number of quotes may go on in the next, if what comes of it is one row."""
    lines = _split(data)
    n = len(lines.starts)
    texts = [data[start:end] for start, end in zip(lines.starts.tolist(), lines.ends.tolist(), strict=True)]
    is_odd = np.array([text.count(b'"') % 2 == 1 for text in texts], bool) & ~lines.is_long
    odd = np.flatnonzero(is_odd)
    kept: list[list[str]] = []
    numbers: list[int] = []
    damaged: list[Damage] = []
    i = 0
    while i < n:
        row += 1
        if lines.is_long[i]:
            damaged.append(Damage(row, R_LONG, f"over {MAX_ROW:,} bytes"))
            i += 1
            continue
        if is_odd[i]:
            after = odd[np.searchsorted(odd, i + 1) :][:1].tolist()
            if after and after[0] - i < MAX_LINES_IN_ROW:
                joined = _cells(data[lines.starts[i] : lines.ends[after[0]]], len(header))
                if isinstance(joined, list):
                    kept.append(joined)
                    numbers.append(row)
                    i = after[0] + 1
                    continue
        cells = _cells(texts[i], len(header))
        if isinstance(cells, list):
            kept.append(cells)
            numbers.append(row)
        else:
            damaged.append(Damage(row, R_UNREADABLE, cells))
        i += 1
    frame = pl.DataFrame(kept, schema=dict.fromkeys(header, pl.String), orient="row")
    filled = _needed(frame.with_columns(pl.when(pl.all() != "").then(pl.all())))
    return Block(filled.with_columns(row=pl.Series(numbers, dtype=pl.Int64)), damaged, n_bytes), row


def _cells(line: bytes, n: int) -> list[str] | str:
    """The cells of a row, or what is wrong with it."""
    csv.field_size_limit(MAX_ROW)
    try:
        rows = list(csv.reader(io.StringIO(line.decode("utf-8"), newline=""), strict=True))
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}"
    except csv.Error as error:
        return f"not CSV: {error}"
    if len(rows) != 1 or len(rows[0]) != n:
        return f"{len(rows[0]) if rows else 0} cells, the header has {n}"
    return rows[0]


# --- JSON lines ---------------------------------------------------------------------------------------------------


def _json_lines(path: Path) -> Iterator[Block]:
    """Each response a row of its own: `annotations` holds that one response."""
    row = 0
    is_first = True
    with path.open("rb") as file:
        for data, n_bytes in _whole_lines(file):
            lines = _split(data)
            cells: dict[str, list[object]] = {name: [] for name in (*COLUMNS, "row")}
            damaged: list[Damage] = []
            for start, end, is_long in zip(lines.starts, lines.ends, lines.is_long, strict=True):
                row += 1
                facts = f"over {MAX_ROW:,} bytes" if is_long else _facts(data[start:end], is_first)
                is_first = False
                if isinstance(facts, str):
                    damaged.append(Damage(row, R_LONG if is_long else R_UNREADABLE, facts))
                    continue
                answer = [{"task": facts["question"], "value": facts["response"]}]
                made = {
                    "classification_id": facts["classification_id"],
                    "user_name": facts.get("user_name"),
                    "user_id": facts.get("user_id"),
                    "user_ip": facts.get("user_ip"),
                    "workflow_id": facts["workflow_id"],
                    "workflow_version": facts.get("workflow_version"),
                    "created_at": facts.get("created_at"),
                    "subject_ids": facts["subject_id"],
                    "annotations": json.dumps(answer),
                }
                for name in COLUMNS:
                    cells[name].append(made.get(name))
                cells["row"].append(row)
            schema = {**dict.fromkeys(COLUMNS, pl.String), "row": pl.Int64}
            yield Block(pl.DataFrame(cells, schema=schema), damaged, n_bytes)
    if row == 0:
        raise TableError(f"{path} is empty.", _EXPECTED, "Export it again.")


def _facts(line: bytes, is_first: bool) -> dict[str, str] | str:
    try:
        value: object = json.loads(line.decode("utf-8-sig" if is_first else "utf-8"))
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {str(error)[:120]}"
    if not isinstance(value, dict):
        return f"a JSON {type(value).__name__}, not an object"
    facts = cast("dict[str, object]", value)
    for name in NEEDED_IN_LINES:
        if not isinstance(facts.get(name), str | int) or isinstance(facts.get(name), bool) or facts[name] == "":
            return f"no {name}"
    return {key: str(one) for key, one in facts.items() if isinstance(one, str | int | float)}
