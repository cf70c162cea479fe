"""Filters, orders and summaries of the labels: what the page shows of all galaxies at once.

A filter is a conjunction; each of its parts is evaluated once and kept, so that moving one brush re-evaluates one part,
and a histogram can show the galaxies that meet all other parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.dataset.expression import And, Comparison, Constant, Name, Node, Or, parse
from gzoo.errors import ExpressionError, choices, suggestion
from gzoo.explorer.labels import BoolArray, Codes, Labels, Rows
from gzoo.explorer.measures import DISAGREEMENT, Kept, Measures

N_BINS = 25
MISSING = 255  # bin of missing values
MAX_HISTOGRAMS = 40
MAX_ROWS = 400  # in one answer
KEPT_PARTS, KEPT_BINS, KEPT_ORDERS = 48, 160, 8

Sums = npt.NDArray[np.int64]


class Limits(TypedDict):
    """A condition on one measure that a histogram can show: ends that are not given are None."""

    name: str
    low: float | None
    high: float | None


class Condition(TypedDict):
    """A part of a conjunction: its text, the measures that it names, and its limits if it is a range."""

    text: str
    names: list[str]
    limits: Limits | None


class HistogramView(TypedDict):
    """Histogram of a measure: all galaxies, and those that meet the other conditions."""

    name: str
    low: float
    high: float
    all: list[int]
    selected: list[int]
    n_missing: int


@dataclass(frozen=True)
class Filter:
    """What to show: an expression and the switches.

    Attributes:
        expression: Filter expression; '' for all galaxies.
        splits: Names of splits; () for all.
        campaigns: Names of campaigns; () for all.
        sort: Measure to sort by, with `-` before it for the largest first; '' for the order of the dataset.
    """

    expression: str = ""
    splits: tuple[str, ...] = ()
    campaigns: tuple[str, ...] = ()
    sort: str = ""


class Engine:
    """Answers questions about all galaxies; several threads may ask at once."""

    def __init__(self, labels: Labels) -> None:
        self.labels, self.measures = labels, Measures(labels)
        self._parts, self._bins, self._orders = Kept(KEPT_PARTS), Kept(KEPT_BINS), Kept(KEPT_ORDERS)

    # ------------------------------------------------------------------------------------------------
    # Filters

    def parts(self, expression: str) -> tuple[Node, ...]:
        """Return the parts of a conjunction.

        Raises:
            ExpressionError: The expression cannot be read, or names something unknown.
        """
        if not expression.strip():
            return ()
        node = parse(expression)
        self.measures.bound(node)
        return _flat(node)

    def conditions(self, expression: str) -> list[Condition]:
        """Return what the parts of an expression are about."""
        return [self._condition(part) for part in self.parts(expression)]

    def _condition(self, part: Node) -> Condition:
        found = self.measures.bound(part)
        names = list(dict.fromkeys(quantity.name for quantity in found.quantities.values()))
        return Condition(
            text=f"({part})" if isinstance(part, Or) else str(part), names=names, limits=self._limits(part)
        )

    def _limits(self, part: Node) -> Limits | None:
        if not isinstance(part, Comparison) or part.operator == "!=":
            return None
        left, right, operator = part.left, part.right, part.operator
        if isinstance(left, Constant):
            left, right = right, left
            operator = operator.translate(str.maketrans("<>", "><"))
        if not isinstance(left, Name) or not isinstance(right, Constant) or isinstance(right.value, str):
            return None
        number = float(right.value)
        return Limits(
            name=self.measures.canonical(left.text),
            low=number if operator[0] in ">=" else None,
            high=number if operator[0] in "<=" else None,
        )

    def rows(self, wanted: Filter, *, without: str = "") -> Rows | None:
        """Return the rows that meet a filter, ascending; None for all of them.

        Args:
            wanted: The filter.
            without: Measure whose conditions are left out; "split" and "campaign" leave out the switches.
        """
        masks = [
            self._mask(part)
            for part in self.parts(wanted.expression)
            if not without or self._condition(part)["names"] != [without]
        ]
        if wanted.splits and without != "split":
            masks.append(_member(self.labels.split, self.labels.dataset.splits, wanted.splits, "Split"))
        if wanted.campaigns and without != "campaign":
            masks.append(_member(self.labels.campaign, self.labels.campaigns, wanted.campaigns, "Campaign"))
        if not masks:
            return None
        mask = masks[0] if len(masks) == 1 else np.logical_and.reduce(masks)
        return np.flatnonzero(mask).astype(np.int32)

    def _mask(self, part: Node) -> BoolArray:
        return self._parts.get(str(part), lambda: self.measures.mask(part))

    # ------------------------------------------------------------------------------------------------
    # Summaries

    @cached_property
    def total(self) -> tuple[Sums, Sums]:
        """Votes for each answer and on each question, of all galaxies."""
        return self.labels.counts.sum(axis=0, dtype=np.int64), self.labels.totals.sum(axis=0, dtype=np.int64)

    def votes(self, rows: Rows | None) -> tuple[Sums, Sums]:
        """Return the votes for each answer and on each question, of some galaxies."""
        if rows is None:
            return self.total
        columns = self._narrow_columns
        sums = np.array([np.take(column, rows).sum(dtype=np.int64) for column in columns], np.int64)
        n = self.labels.counts.shape[1]
        counts, totals = sums[:n], np.empty(self.labels.totals.shape[1], np.int64)
        several = 0
        for i, question in enumerate(self.labels.tree.questions):
            if question.multiple:
                totals[i] = sums[n + several]
                several += 1
            else:
                totals[i] = counts[self.labels.tree.slice(question.name)].sum()
        return counts, totals

    @cached_property
    def _narrow_columns(self) -> list[npt.NDArray[np.integer]]:
        """Vote counts, and total votes of multiple-choice questions, in the narrowest type: memory limits sums."""
        labels = self.labels
        several = [i for i, question in enumerate(labels.tree.questions) if question.multiple]
        wide = [*labels.counts.T, *(labels.totals[:, i] for i in several)]
        return [column.astype(np.min_scalar_type(int(column.max(initial=0)))) for column in wide]

    def histogram(self, name: str, wanted: Filter, met: Rows | None) -> HistogramView:
        """Return the histogram of a measure.

        Args:
            name: The measure.
            wanted: The filter.
            met: Its rows, which are used where it has no condition on this measure alone.
        """
        name = self.measures.canonical(name)
        low, high, bins, everything = self._binned(name)
        has_own = any(one["names"] == [name] for one in self.conditions(wanted.expression))
        rows = self.rows(wanted, without=name) if has_own else met
        chosen = everything if rows is None else _counted(np.take(bins, rows))
        return HistogramView(
            name=name,
            low=low,
            high=high,
            all=everything[:N_BINS].tolist(),
            selected=chosen[:N_BINS].tolist(),
            n_missing=int(chosen[MISSING]),
        )

    def _binned(self, name: str) -> tuple[float, float, Codes, Sums]:
        def make() -> tuple[float, float, Codes, Sums]:
            numbers = self.measures.numbers(name)
            low, high = self.measures.limits(name, numbers)
            with np.errstate(invalid="ignore"):
                scaled = np.floor((numbers - low) * (N_BINS / (high - low)))
            known = np.isfinite(scaled)
            bins = np.full(len(numbers), MISSING, np.uint8)
            bins[known] = np.clip(scaled[known], 0, N_BINS - 1)
            return low, high, bins, _counted(bins)

        return self._bins.get(name, make)

    def n_by_split(self, wanted: Filter) -> dict[str, int]:
        """Return the number of galaxies in each split that meet all other conditions."""
        return self._n_by(self.labels.split, self.labels.dataset.splits, self.rows(wanted, without="split"))

    def n_by_campaign(self, wanted: Filter) -> dict[str, int]:
        """Return the number of galaxies in each campaign that meet all other conditions."""
        return self._n_by(self.labels.campaign, self.labels.campaigns, self.rows(wanted, without="campaign"))

    def _n_by(self, codes: Codes, names: Sequence[str], rows: Rows | None) -> dict[str, int]:
        counted = _counted(codes if rows is None else np.take(codes, rows))
        return {name: int(counted[i]) for i, name in enumerate(names[:255])}

    # ------------------------------------------------------------------------------------------------
    # Order

    def ordered(self, wanted: Filter, rows: Rows | None) -> Rows:
        """Return the rows that meet a filter in the order of its `sort`; missing values are last.

        Args:
            wanted: The filter.
            rows: Its rows.
        """
        n = len(self.labels)
        if not wanted.sort:
            return np.arange(n, dtype=np.int32) if rows is None else rows
        is_descending = wanted.sort.startswith("-")
        name = self.measures.canonical(wanted.sort.removeprefix("-"))
        rank = self._orders.get((name, is_descending), lambda: self._ranks(name, is_descending))
        if rows is None:
            order = np.empty(n, np.int32)
            order[rank] = np.arange(n, dtype=np.int32)
            return order
        return rows[np.argsort(np.take(rank, rows), kind="stable")]

    def first(self, wanted: Filter, rows: Rows | None, start: int, n: int) -> Rows:
        """Return some of the rows that meet a filter, in order, without sorting all of them.

        Args:
            wanted: The filter.
            rows: Its rows.
            start: Number of rows to leave out.
            n: Number of rows to return, at most `MAX_ROWS`.
        """
        n = min(n, MAX_ROWS)
        if not wanted.sort:
            few = np.arange(start, min(start + n, len(self.labels))) if rows is None else rows[start : start + n]
            return few.astype(np.int32)
        is_descending = wanted.sort.startswith("-")
        name = self.measures.canonical(wanted.sort.removeprefix("-"))
        rank = self._orders.get((name, is_descending), lambda: self._ranks(name, is_descending))
        chosen = np.arange(len(self.labels), dtype=np.int32) if rows is None else rows
        own = np.take(rank, chosen)
        end = min(start + n, len(own))
        if start >= end:
            return np.empty(0, np.int32)
        if end < len(own):  # only the part that is asked for is sorted
            near = np.argpartition(own, end - 1)[:end]
            chosen, own = chosen[near], own[near]
        return chosen[np.argsort(own)[start:end]]

    def neighbours(self, wanted: Filter, rows: Rows | None, row: int) -> tuple[int | None, int | None, int | None]:
        """Return the place of a row (from 1) in the order of a filter, the row before it and the row after it.

        All are None if the row does not meet the filter.
        """
        order = self.ordered(wanted, rows)
        found = np.flatnonzero(order == row)
        if not len(found):
            return None, None, None
        i = int(found[0])
        before = int(order[i - 1]) if i else None
        after = int(order[i + 1]) if i + 1 < len(order) else None
        return i + 1, before, after

    def _ranks(self, name: str, is_descending: bool) -> Rows:
        """Return the place of each row in the order by a measure."""
        column = self.measures.column(name)
        frame = pl.DataFrame({"value": column, "votes": self.measures.weight(name)})
        order = frame.with_row_index("row").sort(
            ["value", "votes", "row"], descending=[is_descending, True, False], nulls_last=True
        )["row"]
        rank = np.empty(len(order), np.int32)
        rank[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
        return rank


def _flat(node: Node) -> tuple[Node, ...]:
    return tuple(part for one in node.parts for part in _flat(one)) if isinstance(node, And) else (node,)


def _counted(codes: Codes) -> Sums:
    return np.bincount(codes, minlength=256)


def _member(codes: Codes, names: Sequence[str], wanted: Sequence[str], what: str) -> BoolArray:
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ExpressionError(
            f"{what} not found: '{unknown[0][:80]}'.", choices(names, unknown[0]), suggestion(names, unknown[0])
        )
    table = np.zeros(256, np.bool_)
    table[[names.index(name) for name in wanted]] = True
    return np.take(table, codes)


__all__ = ["DISAGREEMENT", "Condition", "Engine", "Filter", "HistogramView", "Limits"]
