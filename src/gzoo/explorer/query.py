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

from gzoo.dataset.expression import And, Node, Or, parse
from gzoo.errors import ExpressionError, InputError, choices, suggestion
from gzoo.explorer.embedded import Embedded
from gzoo.explorer.labels import BoolArray, Codes, Labels, Rows
from gzoo.explorer.measures import DISAGREEMENT, Kept, Measures, limits_of

N_BINS = 25
MAX_HISTOGRAMS = 40
MAX_ROWS = 400  # in one answer
KEPT_EXPRESSIONS, KEPT_PARTS, KEPT_BINS, KEPT_TOGETHER, KEPT_ORDERS = 64, 48, 160, 24, 8
TOGETHER = 3  # histograms that are counted at once: the product of their bins fits 16 bits
FEW = 0.01  # of all galaxies: below this it is quicker to add up the chosen ones than to mask the others

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
        shape: Corners of a shape on the map (see `Embedded.within`); '' for all galaxies.
    """

    expression: str = ""
    splits: tuple[str, ...] = ()
    campaigns: tuple[str, ...] = ()
    sort: str = ""
    shape: str = ""


class Engine:
    """Answers questions about all galaxies; several threads may ask at once."""

    def __init__(self, labels: Labels, embedded: Embedded | None = None) -> None:
        self.labels, self.measures, self.embedded = labels, Measures(labels), embedded
        self._expressions, self._parts = Kept(KEPT_EXPRESSIONS), Kept(KEPT_PARTS)
        self._bins, self._together, self._orders = (
            Kept(KEPT_BINS),
            Kept(KEPT_TOGETHER),
            Kept(KEPT_ORDERS),
        )

    # ------------------------------------------------------------------------------------------------
    # Filters

    def parts(self, expression: str) -> tuple[Node, ...]:
        """Return the parts of a conjunction.

        Raises:
            ExpressionError: The expression cannot be read, or names something unknown.
        """
        return tuple(part for part, _ in self._read(expression))

    def conditions(self, expression: str) -> list[Condition]:
        """Return what the parts of an expression are about."""
        return [condition for _, condition in self._read(expression)]

    def _read(self, expression: str) -> list[tuple[Node, Condition]]:
        def read() -> list[tuple[Node, Condition]]:
            node = parse(expression)
            self.measures.bound(node)
            return [(part, self._condition(part)) for part in _flat(node)]

        return self._expressions.get(expression, read) if expression.strip() else []

    def _condition(self, part: Node) -> Condition:
        found = self.measures.bound(part)
        names = list(dict.fromkeys(quantity.name for quantity in found.quantities.values()))
        return Condition(
            text=f"({part})" if isinstance(part, Or) else str(part),
            names=names,
            limits=self._limits(part),
        )

    def _limits(self, part: Node) -> Limits | None:
        found = limits_of(part)
        if found is None:
            return None
        return Limits(
            name=self.measures.canonical(found.name),
            low=found.number if found.operator[0] in ">=" else None,
            high=found.number if found.operator[0] in "<=" else None,
        )

    def rows(self, wanted: Filter, *, without: str = "") -> Rows | None:
        """Return the rows that meet a filter, ascending; None for all of them.

        Args:
            wanted: The filter.
            without: Measure whose conditions are left out; "split" and "campaign" leave out the switches.
        """
        masks = [
            self._mask(part)
            for part, condition in self._read(wanted.expression)
            if not without or condition["names"] != [without]
        ]
        if wanted.splits and without != "split":
            masks.append(
                _member(
                    self.labels.split,
                    self.labels.dataset.splits,
                    wanted.splits,
                    "Split",
                )
            )
        if wanted.campaigns and without != "campaign":
            masks.append(
                _member(
                    self.labels.campaign,
                    self.labels.campaigns,
                    wanted.campaigns,
                    "Campaign",
                )
            )
        if wanted.shape:
            if self.embedded is None:
                raise InputError(
                    "A shape is given, but the page has no map.", hint="Run `gzoo explore` with --embeddings."
                )
            masks.append(self.embedded.within(wanted.shape))
        if not masks:
            return None
        mask = masks[0] if len(masks) == 1 else np.logical_and.reduce(masks)
        return np.flatnonzero(mask)

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
        sums = self._sums(rows)
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

    def _sums(self, rows: Rows) -> Sums:
        """Return the sums of `_summed` over some rows."""
        if len(rows) < FEW * len(self.labels):
            return np.array([np.take(column, rows).sum(dtype=np.int64) for column in self._summed], np.int64)
        chosen = _packed(self._is_in(rows))
        sums = (np.bitwise_count(bits & chosen).sum(axis=1, dtype=np.int64) for bits in self._bits)
        return np.array([int(one @ (1 << np.arange(len(one)))) for one in sums], np.int64)

    @cached_property
    def _summed(self) -> list[npt.NDArray[np.int32]]:
        """Vote counts, and total votes of multiple-choice questions; the totals of others are sums of counts."""
        labels = self.labels
        several = [i for i, question in enumerate(labels.tree.questions) if question.multiple]
        return [*labels.counts.T, *(labels.totals[:, i] for i in several)]

    @cached_property
    def _bits(self) -> list[npt.NDArray[np.uint64]]:
        """Binary digits of each column of `_summed`, the lowest first, shape (digit, block of 64 galaxies).

        Votes are small numbers: the digits take less memory than bytes, and memory limits the speed of sums.
        """
        digits = [int(column.max(initial=0)).bit_length() for column in self._summed]
        return [
            np.array([_packed((column >> i) & 1) for i in range(n)], np.uint64).reshape(n, -(-len(column) // 64))
            for column, n in zip(self._summed, digits, strict=True)
        ]

    def histograms(self, names: Sequence[str], wanted: Filter, met: Rows | None) -> list[HistogramView]:
        """Return the histograms of some measures.

        Args:
            names: The measures.
            wanted: The filter.
            met: Its rows, which are used where it has no condition on the measure alone.
        """
        names = [self.measures.canonical(name) for name in names]
        own = {
            condition["names"][0] for condition in self.conditions(wanted.expression) if len(condition["names"]) == 1
        }
        # the same names are together whatever the conditions are, so that their bins are combined once
        groups = [names[i : i + TOGETHER] for i in range(0, len(names), TOGETHER)]
        counted: dict[str, Sums] = {}
        rest = self._rest(met)
        for group in groups:
            if not own.issuperset(group):
                counted |= dict(zip(group, self._counted(group, met, rest), strict=True))
            for name in own.intersection(group):
                rows = self.rows(wanted, without=name)
                counted |= dict(
                    zip(
                        [name],
                        self._counted([name], rows, self._rest(rows)),
                        strict=True,
                    )
                )
        return [self._histogram(name, counted[name]) for name in names]

    def _histogram(self, name: str, chosen: Sums) -> HistogramView:
        low, high, _, everything = self._binned(name)
        return HistogramView(
            name=name,
            low=low,
            high=high,
            all=everything[:N_BINS].tolist(),
            selected=chosen[:N_BINS].tolist(),
            n_missing=int(chosen[N_BINS]),
        )

    def _rest(self, rows: Rows | None) -> Rows | None:
        """Return the other rows where these are fewer, and counting them is less work; otherwise None."""
        n = len(self.labels)
        if rows is None or len(rows) <= n / 2:
            return None
        is_other = np.ones(n, np.bool_)
        is_other[rows] = False
        return np.flatnonzero(is_other)

    def _counted(self, names: Sequence[str], rows: Rows | None, rest: Rows | None) -> list[Sums]:
        """Return the number of galaxies in each bin of some measures, the last for missing values."""
        everything = [self._binned(name)[3] for name in names]
        if rows is None:
            return everything
        codes = self._combined(tuple(names))
        counts = np.bincount(
            np.take(codes, rows if rest is None else rest),
            minlength=(N_BINS + 1) ** len(names),
        )
        cube = counts.reshape([N_BINS + 1] * len(names))
        sums = [cube.sum(axis=tuple(j for j in range(len(names)) if j != i)) for i in range(len(names))]
        return sums if rest is None else [all - one for all, one in zip(everything, sums, strict=True)]

    def _combined(self, names: tuple[str, ...]) -> npt.NDArray[np.integer]:
        """Return one code for the bins of several measures, so that all are counted in one pass."""

        def make() -> npt.NDArray[np.integer]:
            codes = np.zeros(len(self.labels), np.uint16)
            for name in names:
                codes = codes * np.uint16(N_BINS + 1) + self._binned(name)[2]
            return codes

        return self._binned(names[0])[2] if len(names) == 1 else self._together.get(names, make)

    def _binned(self, name: str) -> tuple[float, float, Codes, Sums]:
        def make() -> tuple[float, float, Codes, Sums]:
            numbers = self.measures.numbers(name)
            low, high = self.measures.limits(name, numbers)
            scaled = (numbers - low) * (N_BINS / (high - low))
            np.clip(scaled, 0, N_BINS - 1, out=scaled)
            scaled[~np.isfinite(numbers)] = N_BINS  # the last bin is that of missing values
            bins = scaled.astype(np.uint8)
            return low, high, bins, np.bincount(bins, minlength=N_BINS + 1)

        return self._bins.get(name, make)

    def n_by_split(self, wanted: Filter, met: Rows | None) -> dict[str, int]:
        """Return the number of galaxies in each split that meet all other conditions; `met` are the rows of all."""
        rows = self.rows(wanted, without="split") if wanted.splits else met
        return self._n_by(self.labels.split, self.labels.dataset.splits, rows)

    def n_by_campaign(self, wanted: Filter, met: Rows | None) -> dict[str, int]:
        """Return the number of galaxies in each campaign that meet all other conditions; `met` are the rows of all."""
        rows = self.rows(wanted, without="campaign") if wanted.campaigns else met
        return self._n_by(self.labels.campaign, self.labels.campaigns, rows)

    def _n_by(self, codes: Codes, names: Sequence[str], rows: Rows | None) -> dict[str, int]:
        counted = np.bincount(codes if rows is None else np.take(codes, rows), minlength=256)
        return {name: int(counted[i]) for i, name in enumerate(names[:255])}

    # ------------------------------------------------------------------------------------------------
    # Order

    def ordered(self, wanted: Filter, rows: Rows | None) -> Rows:
        """Return the rows that meet a filter in the order of its `sort`; missing values are last.

        Args:
            wanted: The filter.
            rows: Its rows.
        """
        if not wanted.sort:
            return np.arange(len(self.labels)) if rows is None else rows
        order = self._order(wanted.sort)
        return order if rows is None else order[np.take(self._is_in(rows), order)]

    def first(self, wanted: Filter, rows: Rows | None, start: int, n: int) -> Rows:
        """Return some of the rows that meet a filter, in order.

        Args:
            wanted: The filter.
            rows: Its rows.
            start: Number of rows to leave out.
            n: Number of rows to return, at most `MAX_ROWS`.
        """
        n_all, end = len(self.labels), start + min(n, MAX_ROWS)
        if not wanted.sort:
            return np.arange(start, min(end, n_all)) if rows is None else rows[start:end]
        if not start and (found := self._top(wanted.sort, rows, end)) is not None:
            return found
        order = self._order(wanted.sort)
        if rows is None or not len(rows):
            return order[start:end] if rows is None else rows
        is_in, size = self._is_in(rows), 2 * n_all * end // len(rows) + 1000
        while True:  # from the top of the order, as far as it takes to find enough
            top = order[:size]
            found = top[np.take(is_in, top)]
            if len(found) >= end or size >= n_all:
                return found[start:end]
            size *= 4

    def _top(self, sort: str, rows: Rows | None, n: int) -> Rows | None:
        """Return the first rows of an order, which are found without it in a tenth of the time; None if not numbers."""
        key = self._sort_key(sort)
        if key is None:
            return None
        values, votes = key
        if rows is not None:
            values, votes = np.take(values, rows), np.take(votes, rows)
        if n < len(values):
            last = np.partition(values, n - 1)[n - 1]
            near = np.flatnonzero(~(values > last))  # every row if that one has no value
        else:
            near = np.arange(len(values))
        top = near[np.lexsort((~votes[near], values[near]))[:n]]
        return top if rows is None else rows[top]

    def _is_in(self, rows: Rows) -> BoolArray:
        is_in = np.zeros(len(self.labels), np.bool_)
        is_in[rows] = True
        return is_in

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

    def _order(self, sort: str) -> Rows:
        """Return all rows in the order by a measure; of equal values, the one with more votes comes first."""
        is_descending = sort.startswith("-")
        name = self.measures.canonical(sort.removeprefix("-"))

        def make() -> Rows:
            if (key := self._sort_key(sort)) is not None:
                values, votes = key
                by_votes = np.argsort(~votes, kind="stable")
                return by_votes[np.argsort(values[by_votes], kind="stable")]
            frame = pl.DataFrame({"value": self.measures.column(name), "votes": self.measures.weight(name)})
            order = frame.with_row_index("row").sort(
                ["value", "votes", "row"],
                descending=[is_descending, True, False],
                nulls_last=True,
            )
            return order["row"].to_numpy().astype(np.intp)

        return self._orders.get((name, is_descending), make)

    def _sort_key(self, sort: str) -> tuple[npt.NDArray[np.number], npt.NDArray[np.uint16]] | None:
        """Return numbers that increase in an order, NaN where missing, and the votes of each; None if not numbers."""
        name = self.measures.canonical(sort.removeprefix("-"))
        votes = self.measures.weight(name)
        if int(votes.max() or 0) >= 2**16:  # type: ignore[arg-type]
            return None
        values = self.measures.plain(name)
        if values is None:
            column = self.measures.column(name)
            if not isinstance(column.dtype, pl.Float32 | pl.Float64 | pl.Int32):
                return None
            values = column.cast(pl.Float64).to_numpy()
        return -values if sort.startswith("-") else values, votes.to_numpy().astype(np.uint16)


def _flat(node: Node) -> tuple[Node, ...]:
    return tuple(part for one in node.parts for part in _flat(one)) if isinstance(node, And) else (node,)


def _packed(is_set: npt.NDArray[np.integer] | BoolArray) -> npt.NDArray[np.uint64]:
    """Return one bit for each galaxy, in whole words."""
    found = np.zeros(-(-len(is_set) // 64) * 8, np.uint8)
    found[: -(-len(is_set) // 8)] = np.packbits(is_set)
    return found.view(np.uint64)


def _member(codes: Codes, names: Sequence[str], wanted: Sequence[str], what: str) -> BoolArray:
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ExpressionError(
            f"{what} not found: '{unknown[0][:80]}'.",
            choices(names, unknown[0]),
            suggestion(names, unknown[0]),
        )
    table = np.zeros(256, np.bool_)
    table[[names.index(name) for name in wanted]] = True
    return np.take(table, codes)


__all__ = ["DISAGREEMENT", "Condition", "Engine", "Filter", "HistogramView", "Limits"]
