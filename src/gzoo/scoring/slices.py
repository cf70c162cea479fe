"""Slices: the galaxies divided into parts by total votes, magnitude, redshift or any other column."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from gzoo.dataset.open import Dataset
from gzoo.dataset.schema import KEY
from gzoo.errors import NotFoundError, TableError, suggestion
from gzoo.trees.tree import IntArray
from gzoo.votes.identifiers import IdentifierReader
from gzoo.votes.tables import read_table
from gzoo.votes.votes import Votes

N_BINS = 4  # for numbers, with equal numbers of galaxies
MAX_VALUES = 20  # for strings; the rest becomes one slice
VOTES = "total votes"
UNKNOWN, OTHERS, NONE = "unknown", "others", "none"


@dataclass(frozen=True, slots=True)
class Slicing:
    """One way to divide the galaxies.

    Attributes:
        column: Name of the column that divides them.
        values: Value of each galaxy: numbers or strings.
    """

    column: str
    values: pl.Series

    def parts(self) -> Iterator[tuple[str, IntArray]]:
        """Yield the description and the galaxies of each slice.

        >>> [(name, rows.tolist()) for name, rows in Slicing("x", pl.Series([3.0, 1.0, None, 3.0])).parts()]
        [('1', [1]), ('3', [0, 3]), ('unknown', [2])]
        """
        values = self.values.fill_nan(None) if self.values.dtype.is_float() else self.values
        if values.dtype.is_numeric():
            parts = _bins(values.cast(pl.Float64))
        else:
            strings = values.cast(pl.String)
            common = strings.drop_nulls().value_counts(sort=True)[strings.name].head(MAX_VALUES).to_list()
            parts = [(one or NONE, strings == one) for one in sorted(common)]
            parts.append((OTHERS, strings.is_not_null() & ~strings.is_in(common)))
        for name, mask in (*parts, (UNKNOWN, values.is_null())):
            rows = np.flatnonzero(mask.fill_null(False).to_numpy())
            if len(rows):
                yield name, rows


def _bins(values: pl.Series) -> list[tuple[str, pl.Series]]:
    known = values.drop_nulls().to_numpy()
    if not len(known):
        return []
    different = np.unique(known)
    if len(different) <= N_BINS:
        names = _distinct(different.tolist())
        return [(name, values == one) for name, one in zip(names, different.tolist(), strict=True)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, N_BINS + 1))).tolist()
    pairs = zip(itertools.pairwise(edges), itertools.pairwise(_distinct(edges)), strict=True)
    return [
        (" to ".join(names), values.is_between(low, high, closed="both" if high == edges[-1] else "left"))
        for (low, high), names in pairs
    ]


def _distinct(numbers: Sequence[float]) -> list[str]:
    """Return numbers as text with four digits, or as many as it takes for different numbers to differ.

    >>> _distinct([2.0, 2.00001])
    ['2', '2.00001']
    """
    return next(
        names for digits in range(4, 18) if len(set(names := [f"{one:.{digits}g}" for one in numbers])) == len(numbers)
    )


def slicings(
    dataset: Dataset, keys: pl.DataFrame, votes: Votes, columns: Sequence[str], table: Path | None
) -> list[Slicing]:
    """Return the requested ways to divide galaxies, and the one by total votes.

    Args:
        dataset: Dataset whose columns may be named.
        keys: `dataset_name` and `id_str` of the galaxies.
        votes: Votes of the galaxies.
        columns: Names of columns of the dataset or the table.
        table: Table with more columns, with a key `id_str` (and `dataset_name`, if it has that).

    Raises:
        NotFoundError: The table does not exist.
        TableError: The table cannot be read, lacks `id_str`, or lists a galaxy twice; or a column is not found.
    """
    found = [Slicing(VOTES, pl.Series(votes.totals.max(axis=1, initial=0)))]
    if table and not table.is_file():
        raise NotFoundError(f"Table not found: '{table}'.", hint="Check the path passed to --table.")
    more = read_table(table) if table else pl.DataFrame()
    if table and "id_str" not in more.columns:
        raise TableError(
            f"Column 'id_str' not found in '{table}'.",
            "the identifier of each galaxy.",
            "Rename the column with the identifiers to id_str.",
        )
    by = [name for name in KEY if name in more.columns]
    known = [IdentifierReader(f"Column '{name}' of '{table}'").read_all(more[name]).alias(name) for name in by]
    for column in columns:
        if column in more.columns:
            source = more.with_columns(known).select(*by, pl.col(column).alias("value"))
            repeated = source.filter(source.select(by).is_duplicated())
            if repeated.height:
                raise TableError(
                    f"'{table}' lists galaxy '{repeated['id_str'][0]}' more than once.", "one row per galaxy."
                )
        else:
            parts = [part for split in dataset.splits if (part := dataset.column(split, column)) is not None]
            if not parts or len(parts) != len(dataset.splits):
                raise TableError(
                    f"Column '{column}' not found in '{dataset.folder}'{f' or {str(table)!r}' if table else ''}.",
                    hint=suggestion(more.columns, column, "Pass a table that contains the column with --table."),
                )
            source = pl.concat(parts)
        shared = [name for name in KEY if name in source.columns]
        joined = keys.select(KEY).join(source, on=shared, how="left", maintain_order="left")
        found.append(Slicing(column, joined["value"]))
    return found
