"""Slices: the galaxies cut into parts by number of votes, brightness, redshift or any other column."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from gzoo.dataset.open import KEY, Dataset
from gzoo.errors import NotFoundError, TableError
from gzoo.trees.tree import IntArray
from gzoo.votes.tables import read_table
from gzoo.votes.votes import Votes

N_BINS = 4  # of numbers, each with as many galaxies
MAX_VALUES = 20  # of texts; the rest are taken together
VOTES = "number of votes"
UNKNOWN, OTHERS, NONE = "not known", "others", "none"


@dataclass(frozen=True, slots=True)
class Slicing:
    """One way to cut the galaxies.

    Attributes:
        column: What they are cut by.
        values: Of each galaxy; numbers or texts.
    """

    column: str
    values: pl.Series

    def parts(self) -> Iterator[tuple[str, IntArray]]:
        """What each slice is, in words, and its galaxies.

        >>> [(one, rows.tolist()) for one, rows in Slicing("x", pl.Series([3.0, 1.0, None, 3.0])).parts()]
        [('1', [1]), ('3', [0, 3]), ('not known', [2])]
        """
        values = self.values.fill_nan(None) if self.values.dtype.is_float() else self.values
        if values.dtype.is_numeric():
            yield from _bins(values.cast(pl.Float64))
        else:
            texts = values.cast(pl.String)
            common = texts.drop_nulls().value_counts(sort=True)[texts.name].head(MAX_VALUES).to_list()
            for one in sorted(common):
                yield one or NONE, _rows(texts == one)
            yield from _unless_empty(OTHERS, _rows(texts.is_not_null() & ~texts.is_in(common)))
        yield from _unless_empty(UNKNOWN, _rows(values.is_null()))


def slicings(
    dataset: Dataset, keys: pl.DataFrame, votes: Votes, columns: Sequence[str], table: Path | None
) -> list[Slicing]:
    """The ways to cut galaxies that are asked for, and by number of votes.

    Args:
        dataset: Whose columns may be named.
        keys: `dataset_name` and `id_str` of the galaxies.
        votes: Of them.
        columns: Names, of columns of the dataset or the table.
        table: Further columns, keyed by `id_str` (and `dataset_name`, if it has that).

    Raises:
        NotFoundError: There is no such table.
        TableError: The table cannot be read, has no `id_str` or a galaxy twice, or a column is nowhere.
    """
    found = [Slicing(VOTES, pl.Series(votes.totals.max(axis=1, initial=0)))]
    if table and not table.is_file():
        raise NotFoundError(f"There is no table {table}.", "A table of more columns, by id_str.", "Check --table.")
    more = read_table(table) if table else pl.DataFrame()
    if table and "id_str" not in more.columns:
        raise TableError(
            f"{table} has no column 'id_str'.", "The identifier of each galaxy.", "Rename the column that has it."
        )
    for column in columns:
        if table and column in more.columns:
            by = [name for name in KEY if name in more.columns]
            source = more.with_columns(pl.col(by).cast(pl.String)).select(*by, pl.col(column).alias("value"))
            twice = source.filter(source.select(by).is_duplicated())
            if twice.height:
                raise TableError(
                    f"{table} has galaxy '{twice['id_str'][0]}' more than once.", "A row a galaxy.", "Mend the table."
                )
        else:
            parts = [dataset.column(split, column) for split in dataset.splits]
            if not parts or any(part is None for part in parts):
                where = f"{dataset.folder}" + (f" nor {table}" if table else "")
                raise TableError(
                    f"Column '{column}' is not in {where}.",
                    "A column of the dataset, or of a table given with --table.",
                    "Check its name.",
                )
            by = list(KEY)
            source = pl.concat([part for part in parts if part is not None])
        joined = keys.select(KEY).join(source, on=by, how="left", maintain_order="left")
        found.append(Slicing(column, joined["value"]))
    return found


def _bins(values: pl.Series) -> Iterator[tuple[str, IntArray]]:
    known = values.drop_nulls().to_numpy()
    if not len(known):
        return
    different = np.unique(known)
    each = values.fill_null(float("nan")).to_numpy()
    if len(different) <= N_BINS:
        for one in different.tolist():
            yield f"{one:.4g}", np.flatnonzero(each == one)
        return
    edges = np.unique(np.quantile(known, np.linspace(0, 1, N_BINS + 1)))
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        is_last = i == len(edges) - 2
        inside = (each >= low) & ((each <= high) if is_last else (each < high))
        if inside.any():
            yield f"{low:.4g} to {high:.4g}", np.flatnonzero(inside)


def _rows(mask: pl.Series) -> IntArray:
    return np.flatnonzero(mask.fill_null(False).to_numpy())


def _unless_empty(name: str, rows: IntArray) -> Iterator[tuple[str, IntArray]]:
    if len(rows):
        yield name, rows
