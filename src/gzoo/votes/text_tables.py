"""Tables in CSV files: a row has as many cells as the header, or it is reported and affects no other row."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from typing import NamedTuple

import polars as pl

from gzoo.errors import GZooWarning, TableError
from gzoo.votes.identifiers import without_invisible
from gzoo.votes.table_rows import Damage, check_unique

NAMELESS = "Unnamed: "
"""Start of the name of a column that has none; the number of the column follows, as in pandas."""

FEW, MANY = "row has too few cells", "row has too many cells"
UNPARSED, NOT_UTF8 = "row cannot be parsed", "text is not UTF-8"

_MAX_LINE = 1 << 20
_N_SAMPLED = 30
_MAX_LINES_IN_ROW = 200
_SEPARATORS = (";", "\t", "|")
_QUOTED = re.compile(r'(?:^|(?<=[,\n]))"(?:[^"]|"")*"(?=[,\r\n]|$)')
_NUMBER = re.compile(r"\s*[+-]?\d[\d.,eE+-]*\s*")


class Header(NamedTuple):
    """The names of the columns of a CSV file.

    Attributes:
        names: The names, without spaces around them; a column without one is called `Unnamed: 0`, by its number.
        line: Number of the line that they are in.
        start: Number of bytes before the first row.
    """

    names: list[str]
    line: int
    start: int


class _Line(NamedTuple):
    number: int
    content: bytes
    end: int

    @property
    def n_cells(self) -> int:
        text = self.content.decode("utf-8", "replace").strip("\r\n")
        return text.count(",") + 1 - sum(cell.count(",") for cell in _QUOTED.findall(text))

    @property
    def is_above_header(self) -> bool:
        """Whether the line can be a title or a comment."""
        text = self.content.removeprefix(codecs.BOM_UTF8)
        return text.startswith((b"#", b"sep=")) or self.n_cells == 1


def read_header(path: Path) -> Header:
    """Return the names of the columns; titles and comments above them are skipped with a warning.

    Raises:
        TableError: The file is empty, is not UTF-8, is not separated by commas or has a column name twice.
    """
    sampled = _first_lines(path)
    if not sampled or not sampled[0].content.strip(b"\xef\xbb\xbf\r\n \t"):
        raise TableError(f"'{path}' is empty.", "a header, and one row per galaxy.", "Check the file.")
    _decoded(path, sampled[0])
    _check_separator(path, sampled)
    chosen = _header_line(path, sampled)
    text = _decoded(path, chosen)
    if "\r" in text:
        raise TableError(
            f"'{path}' contains lines that end in a carriage return alone.",
            "lines that end in a line feed.",
            "Save the table again with Unix or Windows line ends.",
        )
    try:
        given = next(csv.reader([text.removeprefix("#").lstrip() if text.startswith("#") else text], strict=True))
    except csv.Error as error:
        raise TableError(
            f"'{path}', line {chosen.number}: "
            + ("a quote that begins a column name does not end in this line." if text.count('"') % 2 else f"{error}."),
            "column names separated by commas, in one line.",
            "Correct this line.",
        ) from error
    names = [without_invisible(name) for name in given]
    if text.startswith("#") or names != given:
        _warn(f"'{path}', line {chosen.number}: column names are read without '#', spaces or invisible characters.")
    names = [name or f"{NAMELESS}{i}" for i, name in enumerate(names)]
    check_unique(path, names)
    return Header(names, chosen.number, chosen.end)


def _first_lines(path: Path) -> list[_Line]:
    """Return the first lines that are not empty."""
    found: list[_Line] = []
    number = end = 0
    with path.open("rb") as file:
        while len(found) < _N_SAMPLED and (line := file.readline(_MAX_LINE)):
            number, end = number + 1, end + len(line)
            if line.strip():
                found.append(_Line(number, line, end))
    return found


def _decoded(path: Path, line: _Line) -> str:
    try:
        text = line.content.decode("utf-8-sig")
        at = text.find("\0")  # UTF-16 without a byte order mark
    except UnicodeDecodeError as error:
        text, at = "", error.start
    if at >= 0:
        raise TableError(
            f"'{path}' is not UTF-8: line {line.number}, byte {at + 1} is 0x{line.content[at]:02x}.",
            "text in UTF-8.",
            "Save the table again as 'CSV UTF-8'.",
        )
    return text.rstrip("\r\n")


def _check_separator(path: Path, sampled: list[_Line]) -> None:
    lines = [line.content.decode("utf-8", "replace") for line in sampled]
    for i, line in enumerate(lines[:3]):  # there may be a title above the header
        if "," in line:
            return
        sign = next((sign for sign in _SEPARATORS if sign in line), "")
        if sign and (i == 0 or len({line.count(sign) for line in lines[i:]}) == 1 < len(lines) - i):
            raise TableError(
                f"Columns of '{path}' are separated by {sign!r}.",
                "commas.",
                "Save the table with commas between columns, and points in numbers.",
            )


def _header_line(path: Path, sampled: list[_Line]) -> _Line:
    """Return the first line that has as many cells as most lines below it, if those above are titles or comments."""
    first, *below = sampled
    if not below:
        return first
    typical = Counter(line.n_cells for line in below).most_common(1)[0][0]
    if typical in (1, first.n_cells):
        return first
    i = next((i for i, line in enumerate(sampled) if line.n_cells == typical), 0)
    if i == 0 or not all(line.is_above_header for line in sampled[:i]):
        return first
    chosen = sampled[i]
    cells = chosen.content.decode("utf-8", "replace").split(",")
    if sum(bool(_NUMBER.fullmatch(cell)) for cell in cells) * 2 > len(cells):
        return first  # a row: the header lacks a name, which is reported
    title = first.content.decode("utf-8", "replace").strip()[:60]
    lines = f"line {first.number} ('{title}') is" if i == 1 else f"{i} lines ('{title}', ...) are"
    _warn(f"'{path}': {lines} no header; column names are read from line {chosen.number}.")
    return chosen


def read_csv(path: Path, damaged: list[Damage]) -> pl.DataFrame:
    """Read a CSV table as text, null where cells are empty, and append its damaged rows to `damaged`.

    Empty lines at the end are not rows.

    Raises:
        TableError: The header cannot be read, or no row has as many cells as it.
    """
    header = read_header(path)
    frame = _whole(path, header)
    return _by_line(path, header, damaged) if frame is None else frame


# ---- all rows at once ------------------------------------------------------------------------------------------------


class _Census(NamedTuple):
    n_commas: int
    n_quotes: int
    n_lines: int
    is_utf8: bool


def _census(path: Path, start: int) -> _Census:
    decoder = codecs.getincrementaldecoder("utf-8")()
    n_commas = n_quotes = n_lines = 0
    last = b"\n"
    try:
        with path.open("rb") as file:
            file.seek(start)
            while block := file.read(1 << 22):
                decoder.decode(block)
                n_commas, n_quotes, n_lines = (
                    n + block.count(sign) for n, sign in ((n_commas, b","), (n_quotes, b'"'), (n_lines, b"\n"))
                )
                last = block
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _Census(0, 0, 0, is_utf8=False)
    return _Census(n_commas, n_quotes, n_lines + (not last.endswith(b"\n")), is_utf8=True)


def _whole(path: Path, header: Header) -> pl.DataFrame | None:
    """Return all rows if each line is one row with all of its cells, otherwise None.

    polars fills a short row with nulls, so separators are counted: there are as many as the rows need only if no row is
    short, because a long one is an error.
    """
    seen = _census(path, header.start)
    schema = dict.fromkeys(header.names, pl.String)
    if not seen.is_utf8 or seen.n_quotes % 2:
        return None
    if seen.n_lines == 0:
        return pl.DataFrame(schema=schema)
    try:
        frame = pl.read_csv(
            path, glob=False, has_header=False, skip_lines=header.line, schema=schema, truncate_ragged_lines=False
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return None  # reading line by line finds the line at fault
    if frame.width != len(header.names) or frame.height != seen.n_lines:
        return None
    n_missing = frame.height * (frame.width - 1) - seen.n_commas
    if seen.n_quotes:
        n_missing += frame.select(pl.sum_horizontal(pl.all().str.count_matches(",", literal=True).sum())).item() or 0
        frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    if n_missing:
        with path.open("rb") as file:
            file.seek(header.start)
            is_empty = [not line.strip(b"\r\n") for line in file]
        n_at_end = sum(1 for _ in takewhile(bool, reversed(is_empty)))
        if n_missing != n_at_end * (frame.width - 1):
            return None
        frame = frame.head(frame.height - n_at_end)
    return frame


# ---- line by line ----------------------------------------------------------------------------------------------------


def _by_line(path: Path, header: Header, damaged: list[Damage]) -> pl.DataFrame:
    """Read line by line: rows that are whole are written again, so that polars reads them, and the others left empty.

    A line with an odd number of quotes continues to the next one if together they are one whole row.
    """
    n = len(header.names)
    with path.open("rb") as file:
        file.seek(header.start)
        lines = file.readlines()
    while lines and not lines[-1].strip():
        lines.pop()
    odd = [i for i, line in enumerate(lines) if line.count(b'"') % 2]
    next_odd = dict(pairwise(odd))
    empty = b"," * (n - 1) + b"\n" if n > 1 else b'""\n'
    kept: list[bytes] = []
    counts: list[int] = []

    def damage(i: int, reason: str, detail: str) -> None:
        kept.append(empty)
        damaged.append(Damage(len(kept), reason, f"line {header.line + 1 + i}{detail}"))

    i = 0
    while i < len(lines):
        line, here = lines[i], i
        i += 1
        if b'"' not in line and line.count(b",") == n - 1 and _is_utf8(line):
            kept.append(line.rstrip(b"\r\n") + b"\n")
            continue
        end = next_odd.get(here, 0)
        if 0 < end - here < _MAX_LINES_IN_ROW:
            whole = b"".join(lines[here : end + 1])
            row = _parsed(whole, n)
            if isinstance(row, bytes) and n > 1 and _is_two_rows(lines[here : end + 1], n):
                for one in range(here, end + 1):
                    damage(one, UNPARSED, f" is between two quotes that may not belong together (line {here + 1})")
                i = end + 1
                continue
            if isinstance(row, bytes):
                kept.append(row)
                i = end + 1
                continue
        row = _parsed(line, n)
        if isinstance(row, bytes):
            kept.append(row)
            continue
        damage(here, *row[:2])
        counts.append(row[2])
        n_commas = line.count(b",")
        # The rest of a row whose quotes are damaged is not a row, even if it has enough cells.
        while b'"' in line and n_commas < n - 1 and i < len(lines):
            n_commas += lines[i].count(b",")
            damage(i, UNPARSED, f" may belong to the row before it, in line {header.line + 1 + here}")
            i += 1
    if len(counts) == len(kept) > 1 and counts[0] and len(set(counts)) == 1:
        raise TableError(
            f"'{path}': each of the {len(kept):,} rows has {counts[0]} cells, but the header (line {header.line}) has "
            f"{n}: {', '.join(header.names)[:80]}.",
            "as many column names as cells.",
            "Remove a title above the header; give a column of row names or numbers a name.",
        )
    schema = dict.fromkeys(header.names, pl.String)
    frame = (
        pl.read_csv(io.BytesIO(b"".join(kept)), has_header=False, schema=schema)
        if kept
        else pl.DataFrame(schema=schema)
    )
    return frame.with_columns(pl.when(pl.all() != "").then(pl.all()))


def _is_two_rows(lines: Sequence[bytes], n: int) -> bool:
    """Return whether lines that quotes join to one row can be two: a quote that moved from one to the other joins them.

    Both parts have the separators of a whole row then. A long text with line breaks and many commas looks the same.
    """
    counts = [line.count(b",") for line in lines]
    return any(min(sum(counts[:i]), sum(counts[i:])) >= n - 1 for i in range(1, len(counts)))


def _is_utf8(line: bytes) -> bool:
    try:
        return line.isascii() or bool(line.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _parsed(line: bytes, n: int) -> bytes | tuple[str, str, int]:
    """Return a row written again, or why it is damaged: the reason, its detail, and the number of cells."""
    try:
        text = line.decode("utf-8").rstrip("\r\n")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError as error:
        return NOT_UTF8, f", byte {error.start + 1} is 0x{line[error.start]:02x}", 0
    except csv.Error as error:
        return UNPARSED, f": {error}", 0
    if '"' in _QUOTED.sub("", text):
        return UNPARSED, ": a quote inside a cell that is not quoted", 0
    cells = rows[0] if len(rows) == 1 else []
    if len(cells) != n:
        return (MANY if len(cells) > n else FEW), f" has {len(cells)} cells, the header has {n}", len(cells)
    written = (f'"{cell.replace(chr(34), chr(34) * 2)}"' if re.search('[",\r\n]', cell) else cell for cell in cells)
    return (",".join(written) + "\n").encode()


def _warn(message: str) -> None:
    warnings.warn(message, GZooWarning, stacklevel=2)
