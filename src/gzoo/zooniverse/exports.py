"""Exports of classifications, read in blocks, so that a corrupt row excludes only itself and memory stays small."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.errors import NotFoundError, TableError
from gzoo.votes.identifiers import identifier, whole_number
from gzoo.votes.text_tables import read_header
from gzoo.zooniverse.values import parsed, record

NEEDED = ("classification_id", "user_name", "workflow_id", "workflow_version", "created_at", "metadata",
          "annotations", "subject_data", "subject_ids")  # fmt: skip
OPTIONAL = ("user_id", "user_ip", "workflow_name", "gold_standard", "expert")
COLUMNS = (*NEEDED, *OPTIONAL)
NEEDED_IN_LINES = ("classification_id", "workflow_id", "subject_id", "question", "response")
_COPIED_FROM_LINES = ("classification_id", "workflow_id", "workflow_version", "created_at", "user_name", "user_id",
                      "user_ip")  # fmt: skip

NUMBERS = ("classification_id", "workflow_id", "subject_ids", "user_id")
"""Columns of numbers that a program may write with a decimal point where some of them are missing."""

MAX_ROW = 4_000_000
BLOCK_BYTES = 1 << 24
MAX_LINES_IN_ROW = 200
_EXPECTED = "a Zooniverse classification export as CSV (Lab, 'Data exports'), or JSON lines with one response per line."
_EXPORT_AGAIN = "Export it again from the Zooniverse Lab."

R_UNREADABLE = "row unreadable"
R_LONG = "row too long"


class BadRow(NamedTuple):
    """A row that cannot be read: its number (the first after the header is 1), the rule, and the cause."""

    row: int
    reason: str
    detail: str


class Block(NamedTuple):
    """Some rows of an export.

    Attributes:
        frame: Columns `COLUMNS` as strings (null if missing), and `row`.
        bad_rows: The rows that could not be read.
        n_bytes: Bytes read for this block.
        n_decimal: Numbers of classifications, workflows, subjects and users that were written with a decimal point, as
            `1000000.0`, and are integers in the frame.
    """

    frame: pl.DataFrame
    bad_rows: list[BadRow]
    n_bytes: int
    n_decimal: int = 0


def is_json_lines(path: Path) -> bool:
    """Return whether a file contains one JSON object per line."""
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return True
    with path.open("rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def blocks(path: Path) -> Iterator[Block]:
    """Yield the rows of a classification export, CSV or JSON lines, in order.

    Raises:
        NotFoundError: The file does not exist.
        TableError: The file is empty, is not a classification export, or has a duplicate column.
    """
    if not path.is_file():
        raise NotFoundError(
            f"Classification export not found: '{path}'.", _EXPECTED, "Check the path passed to --classifications."
        )
    if path.stat().st_size == 0:
        raise TableError(f"'{path}' is empty.", _EXPECTED, _EXPORT_AGAIN)
    for block in _json_lines(path) if is_json_lines(path) else _csv(path):
        numbers = block.frame.with_columns(whole_number(pl.col(name).str.strip_chars()) for name in NUMBERS)
        is_decimal = [pl.col(name).str.contains(r"^\s*\d{1,15}\.0+\s*$") for name in NUMBERS]
        n_decimal = block.frame.select(pl.sum_horizontal(one.sum() for one in is_decimal)).item() if len(numbers) else 0
        yield block._replace(frame=numbers, n_decimal=n_decimal)


# --- CSV ----------------------------------------------------------------------------------------------------------


def _csv(path: Path) -> Iterator[Block]:
    header, start = _header(path)
    with path.open("rb") as file:
        file.seek(start)
        row = 0
        for data, n_bytes in _line_blocks(file):
            frame = _parse_all(data, header)
            if frame is None:
                block, row = _parse_lines(data, n_bytes, header, row)
            else:
                block = Block(frame.with_columns(row=pl.int_range(row + 1, row + 1 + frame.height)), [], n_bytes)
                row += frame.height
            yield block


def _header(path: Path) -> tuple[list[str], int]:
    """Return the names of the columns, and the number of bytes before the first row."""
    names, _, start = read_header(path)
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise TableError(
            f"'{path}' lacks the column {', '.join(map(repr, missing))}; it has {', '.join(names)[:300]}.",
            _EXPECTED,
            "Check that it is the classification export; pass a table with one row per galaxy to --votes.",
        )
    return names, start


def _line_blocks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield blocks of complete lines. Only the start is kept of a line that is longer than any valid row."""
    while data := file.read(BLOCK_BYTES):
        end = file.readline(MAX_ROW + 1)
        data += end
        n_bytes = len(data)
        while end and not end.endswith(b"\n"):
            end = file.readline(MAX_ROW + 1)
            n_bytes += len(end)
        yield data if data.endswith(b"\n") else data + b"\n", n_bytes


def _parse_all(data: bytes, header: list[str]) -> pl.DataFrame | None:
    """Parse all lines at once, if each line is one row: a stray quote would join several lines into one row."""
    try:
        frame = pl.read_csv(io.BytesIO(data), has_header=False, schema=dict.fromkeys(header, pl.String))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    if frame.height != data.count(b"\n") or frame.width != len(header) or frame[header[-1]].has_nulls():
        return None
    is_long = frame.select(pl.sum_horizontal(pl.all().str.len_bytes()).max()).item() > MAX_ROW
    return None if is_long else _needed(frame)


def _needed(frame: pl.DataFrame) -> pl.DataFrame:
    missing = [pl.lit(None, pl.String).alias(name) for name in COLUMNS if name not in frame.columns]
    return frame.with_columns(missing).select(COLUMNS)


def _lines(data: bytes) -> list[tuple[int, int]]:
    """Return the start and end of each line that is not empty, without its line ending."""
    signs = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(signs == 10)
    starts: npt.NDArray[np.int64] = np.concatenate([[0], ends[:-1] + 1])
    is_empty = (ends - starts == 0) | ((ends - starts == 1) & (signs[starts] == 13))
    return list(zip(starts[~is_empty].tolist(), ends[~is_empty].tolist(), strict=True))


def _parse_lines(data: bytes, n_bytes: int, header: list[str], row: int) -> tuple[Block, int]:
    """Parse line by line. A line with an odd number of quotes may continue, if the result is one valid row."""
    lines = _lines(data)
    odd = [i for i, (a, b) in enumerate(lines) if b - a <= MAX_ROW and data.count(b'"', a, b) % 2 == 1]
    next_odd = dict(pairwise(odd))
    kept: list[list[str]] = []
    numbers: list[int] = []
    bad_rows: list[BadRow] = []
    i = 0
    while i < len(lines):
        row, last = row + 1, i
        start, end = lines[i]
        if end - start > MAX_ROW:
            bad_rows.append(BadRow(row, R_LONG, f"over {MAX_ROW:,} bytes"))
        else:
            cells = _cells(data[start:end], len(header))
            after = next_odd.get(i)
            if after is not None and after - i < MAX_LINES_IN_ROW:
                joined = _cells(data[start : lines[after][1]], len(header))
                cells, last = (joined, after) if isinstance(joined, list) else (cells, i)
            if isinstance(cells, list):
                kept.append(cells)
                numbers.append(row)
            else:
                bad_rows.append(BadRow(row, R_UNREADABLE, cells))
        i = last + 1
    frame = pl.DataFrame(kept, schema=dict.fromkeys(header, pl.String), orient="row")
    filled = _needed(frame.with_columns(pl.when(pl.all() != "").then(pl.all())))
    return Block(filled.with_columns(row=pl.Series(numbers, dtype=pl.Int64)), bad_rows, n_bytes), row


def _cells(line: bytes, n: int) -> list[str] | str:
    """Return the cells of a row, or why it is not valid."""
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
    """Yield one row for each response, with that response alone in `annotations`."""
    row = 0
    schema = {**dict.fromkeys(COLUMNS, pl.String), "row": pl.Int64}
    with path.open("rb") as file:
        for data, n_bytes in _line_blocks(file):
            rows: list[dict[str, object]] = []
            bad_rows: list[BadRow] = []
            for start, end in _lines(data):
                row += 1
                if end - start > MAX_ROW:
                    bad_rows.append(BadRow(row, R_LONG, f"over {MAX_ROW:,} bytes"))
                    continue
                facts = _response(data[start:end], is_first=row == 1)
                if isinstance(facts, str):
                    bad_rows.append(BadRow(row, R_UNREADABLE, facts))
                    continue
                answer = json.dumps([{"task": facts["question"], "value": facts["response"]}])
                copied = {key: facts.get(key) for key in _COPIED_FROM_LINES}
                rows.append({**copied, "row": row, "annotations": answer, "subject_ids": facts["subject_id"]})
            yield Block(pl.DataFrame(rows, schema=schema), bad_rows, n_bytes)
    if row == 0:
        raise TableError(f"'{path}' is empty.", _EXPECTED, _EXPORT_AGAIN)


def _response(line: bytes, *, is_first: bool) -> dict[str, str] | str:
    """Return the values of a line, or why it is not valid."""
    try:
        value, problem = parsed(line.decode("utf-8-sig" if is_first else "utf-8"))
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}"
    if problem:
        return f"not JSON: {problem}"
    if not isinstance(value, dict):
        return f"a JSON {type(value).__name__}, not an object"
    facts = record(value)
    for name in NEEDED_IN_LINES:
        if name in ("question", "response"):
            if not isinstance(facts.get(name), str | int) or isinstance(facts.get(name), bool) or facts[name] == "":
                return f"no {name}"
            continue
        number = identifier(facts.get(name))
        if number.problem:
            return f"no {name}" if not number.text else f"{name} = {number.text[:80]}: {number.problem}"
        facts[name] = number.text
    return {key: str(one) for key, one in facts.items() if isinstance(one, str | int | float)}
