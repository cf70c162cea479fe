"""Identifiers of galaxies: one rule for vote tables, exports, predictions and labels in every format.

An identifier is text. Spreadsheets and programs that take it for a number change it: 587722981736906813 becomes
5.87722981736907e+17 or 587722981736906752.0, which is another galaxy or several. What was lost is refused; what can be
restored without doubt is restored, and said; where digits may have been lost, a warning says why.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl

from gzoo.errors import GZooWarning, TableError

MISSING = "identifier missing"
LOST = "identifier lost digits"
DECIMAL = "identifier is a decimal number"
QUOTE = "identifier contains a quote"
"""Reasons why an identifier is refused."""

MAX_EXACT = 2**53
"""From here on, double precision cannot represent every integer."""

_ENDED_IN_0 = "were numbers such as 12.0, and are read as integers"
_GUARDED = "were protected from a spreadsheet, and are read without the signs around them"
_INVISIBLE = "contained invisible characters, which are removed"
_BARE = "may be numbers in scientific notation, and are kept as text"
_NO_VALUE = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>", "inf", "+inf", "-inf", "#n/a", "#na",
                       "#name?", "#null!", "#num!", "#ref!", "#value!", "#div/0!", "--", "-"})  # fmt: skip
_REMOVED = re.compile("[\ufeff\u200b-\u200f\u2060-\u2064\u00ad\u180e\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SPACE = re.compile("[\u00a0\u2007\u202f]")
_GUARD = re.compile(r"""=?"([^"]*)"|=(\d+)|'(\d+)'?""")
_SCIENTIFIC = re.compile(r"(?=[+-]?[.,]?\d)[+-]?\d*(?P<point>[.,]?)\d*[eE](?P<sign>[+-]?)\d+")
_CUT_OR_FORTRAN = re.compile(r"[+-]?\d*[.,]\d*(?:[eE][+-]|[dD][+-]?\d+)")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3}){2,}")
_POINT = re.compile(r"(?=.*\d)(?P<integer>[+-]?(?:0|[1-9]\d*)?)(?P<point>[.,])(?P<rest>\d*)")
# A cell that matches is read by `identifier`; all others are identifiers as they are.
_SUSPECT = (
    r"""^$|^\s|\s$|[^ -~]|^['=#<-]|"|^[+-]?\d*[.,]\d*(?:[eE][+-]?\d+)?$|^[+-]?\d+[eE][+-]?\d+$"""
    r"""|^[+-]?\d*[.,]\d*(?:[eE][+-]|[dD][+-]?\d+)$|^[+-]?\d{1,3}(?:,\d{3}){2,}$"""
    r"""|(?i)^(?:na|n/a|nan|null|none|[+-]?inf)$"""
)
_CHANCE_BITS = 12  # a chance of 1 in 4096 that identifiers which lost nothing look as if they had
_EXPECTED = "identifiers as they were given, as text or integers."
_HINT = "Write the table again from its source, with this column as text: digits that were lost cannot be restored."


class Identifier(NamedTuple):
    """An identifier that was read.

    Attributes:
        text: The identifier, or the text of the cell if it is refused; "" if it is missing.
        problem: Why it is refused, or "".
        note: What was changed, or is doubtful, or "".
    """

    text: str
    problem: str = ""
    note: str = ""


def without_invisible(text: str) -> str:
    r"""Return text without spaces around it, byte order marks, zero-width and control characters.

    >>> without_invisible("\ufeff id\u200b_str\u00a0")
    'id_str'
    """
    return _SPACE.sub(" ", _REMOVED.sub("", text)).strip()


def identifier(value: object) -> Identifier:
    """Return an identifier from a cell of a table or a value of JSON.

    >>> identifier("587722981736906813").text, identifier("007").text, identifier(57314.0).text, identifier("12.0").text
    ('587722981736906813', '007', '57314', '12')
    >>> identifier("5.87722981736907e+17").problem, identifier(587722981736906813.0).problem, identifier("NA").problem
    ('identifier lost digits', 'identifier lost digits', 'identifier missing')
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return Identifier("", MISSING)
    if isinstance(value, str):
        return _of_text(value)
    return Identifier(str(value)) if isinstance(value, int) else _of_float(value)


def _of_float(value: float) -> Identifier:
    if not math.isfinite(value):
        return Identifier("", MISSING)
    problem = "" if value.is_integer() and abs(value) < MAX_EXACT else LOST if value.is_integer() else DECIMAL
    return Identifier(str(value), problem) if problem else Identifier(str(int(value)), "", _ENDED_IN_0)


def _of_text(value: str) -> Identifier:
    text = without_invisible(value)
    note = _INVISIBLE if text != value.strip(" \t\r\n") else ""
    if guard := _GUARD.fullmatch(text):
        text, note = without_invisible(next(part for part in guard.groups() if part is not None)), _GUARDED
    if text.casefold() in _NO_VALUE:
        return Identifier("", MISSING)
    if '"' in text:
        return Identifier(text, QUOTE)
    if scientific := _SCIENTIFIC.fullmatch(text):
        return Identifier(text, LOST) if scientific["point"] or scientific["sign"] else Identifier(text, "", _BARE)
    if _CUT_OR_FORTRAN.fullmatch(text):
        return Identifier(text, LOST)
    if _THOUSANDS.fullmatch(text):
        return Identifier(text, DECIMAL)
    point = _POINT.fullmatch(text)
    return _of_decimal(text, point) if point else Identifier(text, "", note)


def _of_decimal(text: str, point: re.Match[str]) -> Identifier:
    integer, rest = point["integer"], point["rest"]
    is_thousands = len(rest) == 3 or (point["point"] == "," and len(rest) > 3)  # 1,000 and 1.000 are 1000
    if not integer.strip("+-") or rest.strip("0") or is_thousands:
        return Identifier(text, DECIMAL)
    return Identifier(text, LOST) if abs(int(integer)) >= MAX_EXACT else Identifier(integer, "", _ENDED_IN_0)


def whole_number(text: pl.Expr) -> pl.Expr:
    """Return text in which a number below 2^53 that a program wrote as `12.0` is `12` again."""
    return text.str.replace(r"^(\d{1,15})\.0+$", "$1")


class Cells(NamedTuple):
    """Identifiers of some rows.

    Attributes:
        text: The identifiers; "" where they are missing, the cell as it is where they are refused.
        given: The cells as they are.
        problem: Why each is refused, or "".
    """

    text: pl.Series
    given: pl.Series
    problem: pl.Series


@dataclass(slots=True)
class IdentifierReader:
    """Reads identifiers of one kind, part by part, and remembers what was changed or is doubtful.

    Attributes:
        what: Where they are, to start a sentence: "Column 'id_str' of 'votes.csv'".
    """

    what: str
    _notes: Counter[str] = field(default_factory=Counter[str])
    _examples: dict[str, str] = field(default_factory=dict[str, str])
    _n_large: int = 0
    _largest: str = ""
    _divisors: dict[int, bool] = field(default_factory=lambda: dict.fromkeys((1000, 100, 64), True))
    _is_exact: bool = True
    _bits: float = 0.0

    def one(self, value: object) -> Identifier:
        """Return one identifier, which is not looked at for rounding."""
        found = identifier(value)
        self._note(found, str(value), 1)
        return found

    def read(self, cells: pl.Series) -> Cells:
        """Return the identifiers of a column.

        Raises:
            TableError: The column has a type that cannot hold identifiers, or digits were lost in most of its rows.
        """
        kind = cells.dtype
        if not (kind.is_numeric() or isinstance(kind, pl.String | pl.Null | pl.Categorical | pl.Enum)):
            raise TableError(f"{self.what} has type {kind}.", "strings or integers.", "Convert it to one of these.")
        if kind.is_float():
            self._refuse_large(cells)
        given = cells.cast(pl.String).fill_null("")
        if kind.is_decimal():  # which is exact
            given = given.str.replace(r"\.0+$", "")
        text, problem = given, pl.repeat("", len(cells), dtype=pl.String, eager=True)
        if not kind.is_integer() or cells.null_count():
            changed = given.filter(given.str.contains(_SUSPECT)).value_counts()
            counts = dict(changed.iter_rows())
            found = {one: identifier(float(one) if kind.is_float() and one else one) for one in counts}
            for one, read in found.items():
                self._note(read, one, counts[one])
            if found:
                text = given.replace({one: read.text for one, read in found.items()})
                problem = given.replace_strict(
                    {one: read.problem for one, read in found.items()}, default="", return_dtype=pl.String
                )
                self._refuse_most(given, problem)
        self.look_for_rounding(text.filter(problem == ""))
        return Cells(text, given, problem)

    def read_all(self, cells: pl.Series) -> pl.Series:
        """Return the identifiers of a whole column, and warn of what was changed or is doubtful.

        Raises:
            TableError: One of them is missing or refused.
        """
        read = self.read(cells)
        bad = read.problem != ""
        if bad.any():
            row = int(bad.arg_max() or 0)
            if read.problem[row] == MISSING:
                message = f"{self.what}, row {row + 1}: identifier missing."
                raise TableError(message, "an identifier in each row.", "Add it, or remove the row.")
            raise TableError(
                f"{self.what}, row {row + 1}: {read.problem[row]} ({read.given[row][:80]!r}).", _EXPECTED, _HINT
            )
        self.warn()
        return read.text

    def warnings(self) -> list[str]:
        """Return what was changed or is doubtful in all identifiers read so far."""
        found = [f"{self.what}: {n:,} identifiers {note} ({self._examples[note]})." for note, n in self._notes.items()]
        divisor = next((one for one, divides in self._divisors.items() if divides), 0)
        if self._n_large >= 2 and (divisor or (self._is_exact and self._bits >= _CHANCE_BITS)):
            of = f"multiples of {divisor}" if divisor else "numbers that floating point represents exactly"
            found.append(
                f"{self.what}: all {self._n_large:,} integers above 2^53 are {of} (such as {self._largest}), so they "
                "may have been rounded: compare them with the source, because a rounded identifier is another galaxy's."
            )
        return found

    def warn(self) -> list[str]:
        """Warn of what was changed or is doubtful, and return it."""
        found = self.warnings()
        for message in found:
            warnings.warn(message, GZooWarning, stacklevel=2)
        return found

    def _note(self, read: Identifier, given: str, n: int) -> None:
        if read.note and not read.problem:
            self._notes[read.note] += n
            self._examples.setdefault(
                read.note, f"first: {given!r}" + (f" as '{read.text}'" if read.text != given else "")
            )

    def _refuse_large(self, cells: pl.Series) -> None:
        finite = cells.filter(cells.is_finite()).to_numpy()
        largest = float(np.abs(finite).max(initial=0.0))
        if largest >= 2.0 ** (np.finfo(finite.dtype).nmant + 1):  # it cannot represent all integers from here on
            raise TableError(
                f"{self.what} contains {cells.dtype} numbers up to {largest:.0f}, so digits were lost.",
                _EXPECTED,
                _HINT,
            )

    def _refuse_most(self, given: pl.Series, problem: pl.Series) -> None:
        is_refused = problem.is_in([LOST, DECIMAL])
        n, n_known = int(is_refused.sum()), int((problem != MISSING).sum())
        if n * 2 > n_known:
            first = int(is_refused.arg_max() or 0)
            raise TableError(
                f"{self.what} went through floating point or a spreadsheet: {n:,} of {n_known:,} identifiers are like "
                f"'{given[first][:80]}' (row {first + 1}).",
                _EXPECTED,
                _HINT,
            )

    def look_for_rounding(self, text: pl.Series) -> None:
        """Remember whether all large integers among some identifiers look as if they had been rounded."""
        if not self._is_exact and not any(self._divisors.values()):
            return
        large = text.filter(text.str.contains(r"^[1-9]\d{15,18}$")).cast(pl.UInt64)
        large = large.filter(large > MAX_EXACT)
        if not len(large):
            return
        self._n_large += len(large)
        self._largest = str(large.max())
        for divisor in self._divisors:
            self._divisors[divisor] &= bool((large % divisor == 0).all())
        spacing = 2.0 ** (large.cast(pl.Float64).log(2).floor() - 52)
        self._is_exact &= bool((large % spacing.cast(pl.UInt64) == 0).all())
        self._bits += float(spacing.log(2).sum())
