"""Measures: what filter expressions name, as columns that are made from the labels when they are first asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.dataset.expression import Comparison, Constant, Name, Node, quoted
from gzoo.dataset.names import Filter, Names, Quantity, bind
from gzoo.errors import ExpressionError
from gzoo.explorer.labels import LEVEL, BoolArray, Labels, Numbers, Predicted, Rows
from gzoo.scoring.posterior import Posterior, posterior
from gzoo.trees.tree import FloatArray, Question, Tree
from gzoo.votes.votes import WELL_VOTED, Votes

DISAGREEMENT = "disagreement"
"""Order by the largest difference between votes and prediction of any answer, in standard deviations of the votes."""
OF_ANSWER = (".model", ".low", ".high", ".posterior")
KEPT_COLUMNS = 64

OF_PREDICTIONS = {"model", "low", "high", "posterior", "proportion"}
MAX_PLAIN = 2**24  # up to which 32-bit floats contain every integer

T = TypeVar("T")


class Limit(NamedTuple):
    """A comparison of one measure with one number: the measure, `<`, `>`, `<=`, `>=` or `=`, and the number."""

    name: str
    operator: str
    number: float


def limits_of(node: Node) -> Limit | None:
    """Return an expression as a comparison of one measure with one number, or None."""
    if not isinstance(node, Comparison) or node.operator == "!=":
        return None
    left, right, operator = node.left, node.right, node.operator
    if isinstance(left, Constant):
        left, right = right, left
        operator = operator.translate(str.maketrans("<>", "><"))
    if not isinstance(left, Name) or not isinstance(right, Constant) or isinstance(right.value, str):
        return None
    return Limit(left.text, operator, float(right.value)) if abs(right.value) <= MAX_PLAIN else None


Plain = Numbers | FloatArray | npt.NDArray[np.int32]

_COMPARE: Mapping[str, Callable[[Plain, np.floating], BoolArray]] = {
    "<": np.less,
    ">": np.greater,
    "<=": np.less_equal,
    ">=": np.greater_equal,
    "=": np.equal,
}


class Kept:
    """Results that are kept for the next request: the latest ones, of a limited number."""

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, threading.Lock()
        self._found: OrderedDict[Hashable, Any] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under a key, made if it is not; threads that ask for the same wait for the first."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return cast(T, self._found[key])
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._found:
                    return cast(T, self._found[key])
            try:
                made = make()
                with self._lock:
                    self._found[key] = made
                    while len(self._found) > self._size:
                        self._found.popitem(last=False)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return made


class Measures:
    """The columns that expressions name; several threads may ask at once."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self._kept = Kept(KEPT_COLUMNS)
        self.names = Names(labels.tree, self._schema())

    def _schema(self) -> dict[str, pl.DataType]:
        labels, dataset = self.labels, self.labels.dataset
        schema: dict[str, pl.DataType] = dict(labels.frame.schema)
        schema["split"] = pl.String()
        for question in labels.tree.questions:
            if question.name in dataset.not_collected:
                continue
            schema[question.total_column] = pl.Int32()
            for column in question.columns:
                schema[column] = pl.Int32()
                schema[f"{column}_fraction"] = pl.Float32()
        predicted = labels.predicted
        for question in map(labels.tree.question, predicted.read.questions if predicted else ()):
            endings = OF_ANSWER if predicted and predicted.read.kind == "concentrations" else OF_ANSWER[:1]
            schema |= {f"{question.name}.{answer}{end}": pl.Float32() for answer in question.answers for end in endings}
            schema[f"{question.name}.proportion"] = pl.Float32()
        return schema

    # ------------------------------------------------------------------------------------------------
    # Names

    def find(self, text: str) -> Quantity:
        """Return what a name means.

        Raises:
            ExpressionError: It means nothing, or several things.
        """
        return self.names.find(Name(text))

    def canonical(self, text: str) -> str:
        """Return a name in full."""
        return text if text == DISAGREEMENT and self.labels.predicted else self.find(text).name

    def spelling(self, name: str) -> str:
        """Return the shortest spelling of a name in an expression."""
        quantity = self.find(name)
        stem = quantity.question.rpartition("-")[0]
        short = stem + name.removeprefix(quantity.question)
        try:
            is_short = (
                bool(stem) and name.startswith(f"{quantity.question}.") and self.canonical(short) == quantity.name
            )
        except ExpressionError:
            is_short = False
        return quoted(short if is_short else name)

    def bound(self, node: Node) -> Filter:
        """Return an expression with what its names mean.

        Raises:
            ExpressionError: A name is unknown or ambiguous, or a number is compared with text.
        """
        return bind(node, self.names)

    def mask(self, node: Node) -> BoolArray:
        """Return whether each galaxy meets an expression."""
        found = self.bound(node)
        limits = limits_of(node)
        if limits and (values := self.plain(limits.name)) is not None:
            # decimal numbers are rounded as the column is: see `gzoo.dataset.names`; a missing value meets no condition
            number = np.float32(limits.number) if values.dtype == np.float32 else np.float64(limits.number)
            with np.errstate(invalid="ignore"):
                return _COMPARE[limits.operator](values, number)
        table = pl.DataFrame({name: self._source(name) for name in found.columns})
        if not table.width:  # an expression on constants alone
            table = pl.DataFrame({"row": np.empty(len(self.labels), np.bool_)})
        return found.mask(table).to_numpy()

    def plain(self, name: str) -> Plain | None:
        """Return a measure as an array that NumPy compares as a query would, NaN where missing; None for all others.

        A query starts threads, which several users at once wait for.
        """
        if name == DISAGREEMENT:
            return self._disagreement
        quantity = self.find(name)
        if quantity.kind in {"votes", "asked"}:
            (name, *others) = self.names.columns(quantity)
            source = self._source(name)
            return source.to_numpy() if not others and source.dtype == pl.Int32 else None
        if quantity.kind in OF_PREDICTIONS and self.names.is_float32(quantity):
            return self._source(quantity.name).to_numpy()
        if quantity.kind == "fraction" and quantity.answer in self.labels.tree.columns:
            answer = self.labels.answer(quantity.answer)
            with np.errstate(invalid="ignore", divide="ignore"):
                totals = self.labels.totals[:, self.labels.tree.question_of_answer[answer]]
                return self.labels.counts[:, answer] / totals
        return None

    def answer_of(self, name: str) -> int | None:
        """Return the index of the answer that a measure is about, or None."""
        if name == DISAGREEMENT:
            return None
        quantity = self.find(name)
        return self.labels.answer(quantity.answer) if quantity.answer else None

    # ------------------------------------------------------------------------------------------------
    # Values

    def column(self, name: str) -> pl.Series:
        """Return the values of a measure under its full name; missing ones are null."""
        if name == DISAGREEMENT:
            return pl.Series(self._disagreement).fill_nan(None)
        quantity = self.find(name)
        expression = self.names.column(quantity)
        table = pl.DataFrame({one: self._source(one) for one in expression.meta.root_names()})
        return table.select(expression.alias("value")).to_series()

    def numbers(self, name: str) -> Numbers:
        """Return the values of a measure as numbers, NaN where missing.

        Raises:
            ExpressionError: They are not numbers.
        """
        if (plain := self.plain(name)) is not None:
            return plain.astype(np.float32)
        column = self.column(name)
        if not column.dtype.is_numeric():
            raise ExpressionError(f"'{name}' does not contain numbers.", "a measure with numbers.")
        return column.cast(pl.Float32).fill_null(float("nan")).to_numpy()

    def limits(self, name: str, numbers: Numbers) -> tuple[float, float]:
        """Return the ends of the axis of a measure's histogram."""
        kind = self.find(name).kind if name != DISAGREEMENT else "number"
        if kind in {"fraction", "model", "low", "high", "posterior", "proportion"}:
            return 0.0, 1.0
        if kind == "gap":
            return -1.0, 1.0
        known = numbers[np.isfinite(numbers)]
        if not len(known):
            return 0.0, 1.0
        low, high = float(known.min()), float(known.max())
        low = 0.0 if kind in {"votes", "asked"} else low
        return low, high if high > low else low + 1

    def weight(self, name: str) -> pl.Series:
        """Return the number of votes behind a measure, which decides between equal values."""
        answer = self.answer_of(name)
        if answer is None:
            return pl.zeros(len(self.labels), dtype=pl.Int32, eager=True)
        return pl.Series(self.labels.totals[:, self.labels.tree.question_of_answer[answer]])

    def texts(self, name: str, rows: Rows) -> list[Any]:
        """Return the values of a measure of some galaxies as JSON values."""
        values = self._kept.get(("column", name), lambda: self.column(name)).gather(rows).to_list()
        return [
            round(one, 4) if isinstance(one, float) else one if one is None or isinstance(one, int) else str(one)[:80]
            for one in values
        ]

    def predicted_of(self, answer: int, rows: Rows) -> Numbers | None:
        """Return the predicted fraction of an answer for some galaxies, NaN where there is none."""
        predicted = self.labels.predicted
        if predicted is None:
            return None
        places = [predicted.place.get(row, -1) for row in rows.tolist()]
        found = predicted.fractions[places, answer].copy()
        found[np.array(places) < 0] = np.nan
        return found

    def _source(self, name: str) -> pl.Series:
        return self._kept.get(name, lambda: self._made(name))

    def _made(self, name: str) -> pl.Series:
        labels, tree = self.labels, self.labels.tree
        if name in labels.frame.columns:
            return labels.frame[name]
        if name == "split":
            codes = pl.Series(labels.split).cast(pl.UInt32)
            return codes.replace_strict(dict(enumerate(labels.dataset.splits)), return_dtype=pl.String)
        if name in tree.columns:
            return pl.Series(labels.counts[:, labels.answer(name)])
        for i, question in enumerate(tree.questions):
            if name == question.total_column:
                return pl.Series(labels.totals[:, i])
        if name.removesuffix("_fraction") in tree.columns:
            answer = labels.answer(name.removesuffix("_fraction"))
            with np.errstate(invalid="ignore", divide="ignore"):
                return pl.Series(
                    (labels.counts[:, answer] / labels.totals[:, tree.question_of_answer[answer]]).astype(np.float32)
                )
        return self._of_predictions(name)

    # ------------------------------------------------------------------------------------------------
    # Predictions

    def _of_predictions(self, name: str) -> pl.Series:
        predicted = cast(Predicted, self.labels.predicted)
        stem, _, end = name.rpartition(".")
        tree = self.labels.tree
        if end == "proportion":
            values = tree.proportion_asked(predicted.read.fractions)[:, self.labels.question(stem)]
        else:
            quantity = self.names.find(Name(name))
            question = tree.question(quantity.question)
            i = question.columns.index(quantity.answer)
            if end == "model":
                values = predicted.fractions[:, self.labels.answer(quantity.answer)]
            elif end == "posterior":
                values = self._distribution(question, with_votes=True).fractions[:, i]
            else:
                found = self._distribution(question, with_votes=False)
                alone = Posterior(
                    found.tree,
                    *(one[:, :, i : i + 1] for one in (found.alpha, found.beta, found.weights)),
                )
                values = alone.interval(LEVEL)[end == "high"][:, 0]
        full = np.full(len(self.labels), np.nan, np.float32)
        full[predicted.row] = values
        return pl.Series(full).fill_nan(None)

    def _distribution(self, question: Question, *, with_votes: bool) -> Posterior:
        """Return the distribution of one question's fractions for all predictions."""
        predicted = cast(Predicted, self.labels.predicted)
        labels, tree = self.labels, self.labels.tree
        alone = Tree(tree.name, (question,), frozenset(question.parents))
        n = len(predicted.row)
        counts = np.zeros((n, len(question.columns)), np.int64)
        totals = np.zeros((n, 1), np.int64)
        if with_votes:
            counts[:] = labels.counts[predicted.row, tree.slice(question.name)]
            totals[:, 0] = labels.totals[predicted.row, labels.question(question.name)]
        values = predicted.read.values[:, :, tree.concentration_slice(question.name)]
        return posterior(Votes(alone, counts, totals), values)

    @cached_property
    def _precision(self) -> Numbers:
        """Sum of the predicted concentrations, shape (prediction, answer); infinite for predicted fractions."""
        predicted, tree = cast(Predicted, self.labels.predicted), self.labels.tree
        found = np.full((len(predicted.row), len(tree.columns)), np.inf, np.float32)
        if predicted.read.kind != "concentrations":
            return found
        for question in map(tree.question, predicted.read.questions):
            own = predicted.read.values[:, :, tree.concentration_slice(question.name)]
            total = own.mean(axis=0).sum(axis=1)
            # a question that allows several answers has a distribution for each of them
            found[:, tree.slice(question.name)] = total[:, None] / (len(question.columns) if question.multiple else 1)
        return found

    def standardized(self, k: FloatArray, n: FloatArray, p: npt.NDArray[np.floating], place: Rows) -> FloatArray:
        """Return voted minus predicted fractions in standard deviations of the predicted votes.

        The noise of few votes, and the uncertainty that the prediction states, make a difference small.

        Args:
            k: Votes for each answer, shape (galaxy, answer).
            n: Total votes on its question, same shape.
            p: Predicted fractions, same shape.
            place: Index of each prediction.
        """
        return _standardized(k, n, p, self._precision[place])

    def standardized_of(self, answer: int, k: FloatArray, n: FloatArray, p: FloatArray, place: Rows) -> FloatArray:
        """Return the same for one answer; arrays have the shape (galaxy,)."""
        return _standardized(k, n, p, self._precision[place, answer])

    @cached_property
    def _disagreement(self) -> Numbers:
        labels, predicted = self.labels, cast(Predicted, self.labels.predicted)
        full = np.full(len(labels), np.nan, np.float32)
        worst = np.full(len(predicted.row), np.nan)
        for i, question in enumerate(labels.tree.question_of_answer):
            n = labels.totals[predicted.row, question].astype(np.float64)
            k, p = (
                labels.counts[predicted.row, i].astype(np.float64),
                predicted.fractions[:, i].astype(np.float64),
            )
            z = np.abs(self.standardized_of(i, k, n, p, np.arange(len(p))))
            z[n < WELL_VOTED] = np.nan
            worst = np.fmax(worst, z)
        full[predicted.row] = worst
        return full


def _standardized(
    k: FloatArray,
    n: FloatArray,
    p: npt.NDArray[np.floating],
    precision: npt.NDArray[np.floating],
) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        edge = 0.5 / (n + 1)  # a prediction of 0 does not make one vote infinitely surprising
        inside = np.clip(p, edge, 1 - edge)
        variance = inside * (1 - inside) / n * (1 + (n - 1) / (precision + 1))
        return (k / n - p) / np.sqrt(variance)
