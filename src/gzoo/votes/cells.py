"""Values of table columns: counts, fractions and angles, with a reason for every invalid cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import polars as pl

from gzoo.trees.tree import FloatArray, IntArray

MAX_COUNT = 2**31 - 1

Details = Callable[[], pl.Series]
Report = Callable[[pl.Series, str, Details], None]
"""Drops rows of a table: which rows, the reason, and a function that returns the detail of each row."""


def numbers(frame: pl.DataFrame, column: str) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Return the cells of a column as text and as floats (null if not a number), and which cells are empty."""
    raw = frame[column]
    text = raw.cast(pl.String, strict=False).fill_null("").str.strip_chars()
    number = raw.cast(pl.Float64, strict=False) if raw.dtype.is_numeric() else text.cast(pl.Float64, strict=False)
    is_missing = (text == "") | (text.str.to_lowercase() == "nan") | number.is_nan().fill_null(False)
    return text, number, is_missing


def floats(frame: pl.DataFrame, column: str) -> FloatArray:
    """Return the numbers of a column, 0 in cells without one."""
    return numbers(frame, column)[1].fill_nan(None).fill_null(0.0).to_numpy()


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of a column; all members have shape (row,).

    Attributes:
        values: The counts, 0 in invalid cells.
        is_valid: Cells with a count.
        is_fractional: Cells with a number that is not an integer.
        is_missing: Cells that are empty or NaN.
        details: Function that returns the content of each cell.
    """

    values: IntArray
    is_valid: pl.Series
    is_fractional: pl.Series
    is_missing: pl.Series
    details: Details


def counts(frame: pl.DataFrame, column: str, report: Report) -> Counts:
    """Return the counts of a column; invalid cells are reported, except those that are missing."""
    raw = frame[column]
    ends = [end for end in (raw.min(), raw.max()) if isinstance(end, int)]
    if raw.dtype.is_integer() and not raw.null_count() and all(0 <= end <= MAX_COUNT for end in ends):  # mostly
        is_never = pl.repeat(False, frame.height, eager=True)
        return Counts(raw.cast(pl.Int64).to_numpy(), ~is_never, is_never, is_never, lambda: shown(column, raw))
    text, number, is_missing = numbers(frame, column)
    is_text = number.is_null() & ~is_missing
    number = number.fill_nan(None).fill_null(0.0)
    is_negative = number < 0
    is_large = number > MAX_COUNT
    is_fractional = ~is_large & (number != number.round())
    details = partial(shown, column, text)
    for bad, reason in (
        (is_text, "count is not a number"),
        (is_negative, "count negative"),
        (is_fractional, "count not an integer"),
        (is_large, "count too large"),
    ):
        report(bad, reason, details)
    good = ~(is_missing | is_text | is_negative | is_fractional | is_large)
    values = (number * good.cast(pl.Float64)).fill_nan(0.0).cast(pl.Int64).to_numpy()
    return Counts(values, good, is_fractional, is_missing, details)


def strings(frame: pl.DataFrame, column: str, default: str = "") -> pl.Series:
    """Return the cells of a column as text without surrounding spaces; `default` if `column` is ""."""
    if not column:
        return repeated(frame.height, default)
    series = frame[column]
    if series.dtype.is_float():  # names that a spreadsheet turned into 57314.0
        integers = series.cast(pl.Int64, strict=False)
        series = integers if (integers.cast(pl.Float64) == series).all() else series
    return series.cast(pl.String, strict=False).fill_null("").str.strip_chars()


def repeated(n: int, text: str) -> pl.Series:
    """Return the same text `n` times."""
    return pl.repeat(text, n, dtype=pl.String, eager=True)


def shown(column: str, text: pl.Series, end: str = "") -> pl.Series:
    """Return `column = text` for each cell; very long cells are shortened."""
    cut = pl.when(pl.col("text").str.len_chars() > 80).then(pl.col("text").str.slice(0, 80) + " ...")
    made = pl.lit(f"{column} = ") + cut.otherwise(pl.col("text")) + pl.lit(end)
    return pl.DataFrame({"text": text}).select(made.alias("made"))["made"]


def compared(column: str, given: IntArray, rule: str, own: IntArray) -> pl.Series:
    """Return `column = 5, not the sum of the answers (4)` for each row."""
    return pl.Series([f"{column} = {one}, {rule} ({two})" for one, two in zip(given, own, strict=True)])
