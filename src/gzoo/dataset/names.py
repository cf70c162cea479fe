"""What the names in filter expressions mean, and which galaxies meet an expression.

    bar-gz2.yes              vote fraction: votes for the answer / total votes on the question
    bar-gz2.yes.n            votes for the answer
    bar-gz2.asked            total votes on the question
    bar-gz2.yes.model        predicted vote fraction; .low and .high are the ends of its interval
    bar-gz2.yes.posterior    posterior vote fraction, from prediction and votes
    bar-gz2.yes.gap          predicted minus voted fraction
    bar-gz2.proportion       predicted proportion of volunteers asked
    bar-gz2_yes_fraction     any column of the table by its own name

`bar.yes` is short for `bar-gz2.yes` where only one question is meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import polars as pl

from gzoo.dataset.expression import (
    Comparison,
    Constant,
    Containment,
    Membership,
    Missing,
    Name,
    Node,
    Test,
    combined,
    each_test,
    echoed,
    operands,
    quoted,
)
from gzoo.errors import MAX_CHOICES, ExpressionError, choices, suggestion
from gzoo.trees.tree import Tree

Kind = Literal[
    "fraction", "votes", "asked", "model", "low", "high", "posterior", "gap", "proportion", "number", "text", "other"
]
OF_ANSWER: Mapping[str, Kind] = {
    "": "fraction",
    ".n": "votes",
    ".model": "model",
    ".low": "low",
    ".high": "high",
    ".posterior": "posterior",
    ".gap": "gap",
}
OF_QUESTION: Mapping[str, Kind] = {".asked": "asked", ".proportion": "proportion"}
FRACTIONS = frozenset[Kind]({"fraction", "model", "low", "high", "posterior"})
"""Kinds of names that mean the vote fraction of an answer, as voted or as believed."""
PREDICTED = frozenset[Kind]({"model", "low", "high", "posterior", "gap", "proportion"})
EMPTY_IS_MISSING = ("summary", "source_id")  # columns of datasets in which '' means that the value is not known


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a name means.

    Attributes:
        name: The name in full.
        kind: What it is; `text` and `other` are not numbers.
        question: Its question, or "".
        answer: The column of its answer, or "".
    """

    name: str
    kind: Kind
    question: str = ""
    answer: str = ""

    @property
    def is_fraction(self) -> bool:
        """Whether it is the vote fraction of an answer, as voted or as believed."""
        return self.kind in FRACTIONS

    @property
    def is_text(self) -> bool:
        """Whether its values are text."""
        return self.kind == "text"

    def to_dict(self) -> dict[str, object]:
        """Return what an input with completion shows, with the name as an expression must spell it."""
        return {"name": quoted(self.name), "kind": self.kind, "question": self.question, "answer": self.answer}


@dataclass(frozen=True)
class Names:
    """The names that expressions on a table may contain.

    Attributes:
        tree: Questions of the table.
        schema: Columns of the table and their types. Names that cannot be computed from votes, such as
            `bar-gz2.yes.model`, exist if the table has a column of that very name.

    >>> import gzoo
    >>> from gzoo.dataset.expression import parse
    >>> table = pl.DataFrame({"ring-or-not_ring": [8, 0], "ring-or-not_no": [2, 0], "ra": [10.0, float("nan")]})
    >>> names = Names(gzoo.Tree("own", (gzoo.Question("ring-or-not", ("ring", "no"), tuple(table.columns[:2])),)),
    ...               table.schema)
    >>> [quantity.name for quantity in names.known][:4]
    ['ring-or-not.asked', 'ring-or-not.ring', 'ring-or-not.ring.n', 'ring-or-not.no']
    >>> bind(parse("ring-or-not.ring > .5"), names).mask(table).to_list()
    [True, False]
    >>> bind(parse("not ra > 5"), names).mask(table).to_list()
    [False, False]
    """

    tree: Tree
    schema: Mapping[str, pl.DataType]

    @cached_property
    def known(self) -> tuple[Quantity, ...]:
        """All names: those of each question in the order of the tree, then the columns of the table."""
        return tuple(self._by_name.values())

    def find(self, name: Name) -> Quantity:
        """Return what a name means.

        Raises:
            ExpressionError: It means nothing, or several things.
        """
        known, text = self._by_name, name.text
        if text in known:
            return known[text]
        stem, dot, end = text.partition(".")
        meant = [full + dot + end for full in self._by_stem.get(stem, ()) if full + dot + end in known]
        if len(meant) == 1:
            return known[meant[0]]
        where = f"at character {name.position + 1}"
        if meant:
            raise ExpressionError(f"'{echoed(text)}' {where} is ambiguous.", choices(meant), position=name.position)
        full = (
            text
            if text in self._possible
            else next(
                (one for stems in self._by_stem.get(stem, ()) if (one := stems + dot + end) in self._possible), ""
            )
        )
        if full and self._possible[full].kind in PREDICTED:
            raise ExpressionError(
                f"'{echoed(text)}' {where} needs predictions.",
                "prediction files with concentrations for this question, or a name that needs votes only.",
                "Pass a prediction file that `gzoo predict` wrote.",
                name.position,
            )
        if full:
            raise ExpressionError(f"The dataset has no votes for '{echoed(text)}' {where}.", position=name.position)
        nearest = self._nearest(echoed(text))
        raise ExpressionError(
            f"Unknown name '{echoed(text)}' {where}.",
            choices(map(quoted, nearest)),
            suggestion(map(quoted, nearest[:3]), echoed(text)),
            name.position,
        )

    def column(self, quantity: Quantity) -> pl.Expr:
        """Return the values of a quantity as an expression on the table; missing ones are null."""
        if quantity.name in self.schema:
            found = self._stored(quantity)
        elif quantity.kind == "asked":
            found = self._total(quantity.question)
        elif quantity.kind == "votes":
            found = pl.col(quantity.answer)
        elif quantity.kind == "gap":
            fraction = self._by_name[quantity.name.removesuffix(".gap")]
            found = pl.col(f"{fraction.name}.model") - self.column(fraction)
        elif quantity.answer in self.schema:
            found = pl.col(quantity.answer) / self._total(quantity.question)  # NaN without votes
        else:
            found = pl.col(f"{quantity.answer}_fraction")
        return found.fill_nan(None) if self.is_decimal(quantity) else found

    def _stored(self, quantity: Quantity) -> pl.Expr:
        values, dtype = pl.col(quantity.name), self.schema[quantity.name]
        if dtype == pl.Boolean:
            return values.cast(pl.Int8)
        if dtype == pl.UInt64:  # polars compares it with other integers as float64
            return values.cast(pl.Int128)
        if not quantity.is_text:
            return values
        text = values.cast(pl.String)
        return text.replace("", None) if quantity.name in EMPTY_IS_MISSING else text

    def columns(self, quantity: Quantity) -> frozenset[str]:
        """Return the columns of the table that a quantity is computed from."""
        return frozenset(self.column(quantity).meta.root_names())

    def is_decimal(self, quantity: Quantity) -> bool:
        """Return whether values are floating-point numbers, of which NaN is missing."""
        dtype = self.schema.get(quantity.name)
        return dtype.is_float() if dtype is not None else quantity.kind in {"fraction", "gap"}

    def is_float32(self, quantity: Quantity) -> bool:
        """Return whether values are rounded to float32, so that what they are compared with must be, too."""
        return self.schema.get(quantity.name) == pl.Float32

    def _total(self, question: str) -> pl.Expr:
        found = self.tree.question(question)
        if found.total_column in self.schema:
            return pl.col(found.total_column)
        return pl.sum_horizontal(pl.col(column).cast(pl.Int64) for column in found.columns)

    @cached_property
    def _possible(self) -> dict[str, Quantity]:
        """Every name that the tree gives, whether or not the table has what it is computed from."""
        names: dict[str, Quantity] = {}
        for question in self.tree.questions:
            for end, kind in OF_QUESTION.items():
                names[question.name + end] = Quantity(question.name + end, kind, question.name)
            for answer, column in zip(question.answers, question.columns, strict=True):
                for end, kind in OF_ANSWER.items():
                    name = f"{question.name}.{answer}{end}"
                    names[name] = Quantity(name, kind, question.name, column)
        return names

    @cached_property
    def _by_name(self) -> dict[str, Quantity]:
        names = {name: one for name, one in self._possible.items() if name in self.schema or self._is_computed(one)}
        own: dict[str, tuple[Kind, str, str]] = {}
        for question in self.tree.questions:
            own[question.total_column] = ("asked", question.name, "")
            for column in question.columns:
                own[column] = ("votes", question.name, column)
                own[f"{column}_fraction"] = ("fraction", question.name, column)
        for column, dtype in self.schema.items():
            if column in names:
                continue
            kind, question, answer = own.get(column, ("number", "", ""))
            if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
                kind = "text"
            elif not dtype.is_numeric() and dtype != pl.Boolean:
                kind = "other"
            names[column] = Quantity(column, kind, question, answer)
        return names

    def _is_computed(self, one: Quantity) -> bool:
        """Return whether the table has the columns of votes that a quantity is computed from."""
        if one.kind == "gap":
            fraction = one.name.removesuffix(".gap")
            return f"{fraction}.model" in self.schema and self._is_computed(self._possible[fraction])
        if one.kind in PREDICTED:
            return False
        question = self.tree.question(one.question)
        is_counted = question.total_column in self.schema or (
            not question.multiple and all(column in self.schema for column in question.columns)
        )
        if one.kind == "asked":
            return is_counted
        if one.kind == "votes":
            return one.answer in self.schema
        return (one.answer in self.schema and is_counted) or f"{one.answer}_fraction" in self.schema

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """Name of a question without the suffix of its tree -> the questions in full."""
        # a suffix such as "gz2" ends the names of all questions of a tree, of which one is asked of everyone
        suffixes = {one.name.rpartition("-")[2] for one in self.tree.questions if not one.parents}
        stems: dict[str, list[str]] = {}
        for question in self.tree.questions:
            stem, _, suffix = question.name.rpartition("-")
            if stem and suffix in suffixes:
                stems.setdefault(stem, []).append(question.name)
        return stems

    @cached_property
    def _parts(self) -> list[tuple[str, frozenset[str]]]:
        return [(name, _trigrams(name)) for name in self._by_name]

    def _nearest(self, wrong: str) -> list[str]:
        """Return the names that share most with a wrong one, in a twentieth of the time of comparing all in full."""
        parts = _trigrams(wrong)
        return [name for name, _ in sorted(self._parts, key=lambda one: len(one[1] ^ parts))[:MAX_CHOICES]]


def _trigrams(name: str) -> frozenset[str]:
    padded = f"  {name.casefold()} "
    return frozenset(padded[i : i + 3] for i in range(len(padded) - 2))


@dataclass(frozen=True)
class Filter:
    """An expression whose names are found.

    Attributes:
        node: The expression.
        names: What its names may mean.
        quantities: Each name in it -> what it means.
        notes: Sentences on what is probably not meant.
    """

    node: Node
    names: Names
    quantities: Mapping[str, Quantity] = field(repr=False)
    notes: tuple[str, ...] = ()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that are needed, sorted."""
        found = [self.names.columns(quantity) for quantity in self.quantities.values()]
        return tuple(sorted(frozenset[str]().union(*found)))

    @cached_property
    def condition(self) -> pl.Expr:
        """The condition as an expression on the table; null where a missing value decides."""
        return combined(self.node, self._of_test)

    def mask(self, table: pl.DataFrame) -> pl.Series:
        """Return whether each row meets the condition; rows where a missing value decides do not.

        Args:
            table: A table with at least `columns`.
        """
        met = table.lazy().select(self.condition.fill_null(False).alias("is_met")).collect().to_series()
        return met if len(met) == table.height else pl.repeat(met[0], table.height, eager=True).alias("is_met")

    def _of_test(self, test: Test) -> pl.Expr:
        quantity = {value: self.quantities[value.text] for value in operands(test) if isinstance(value, Name)}
        columns = {value: self.names.column(one) for value, one in quantity.items()}
        if isinstance(test, Missing):
            is_missing = columns[test.name].is_null()
            return ~is_missing if test.negated else is_missing
        if isinstance(test, Containment):
            left = columns[test.value] if isinstance(test.value, Name) else pl.lit(test.value.value)
            return left.str.contains(str(test.part.value), literal=True)
        # decimal numbers are rounded as the column is: otherwise 3 of 5 votes as float32 are more than 0.6
        kinds = [self.names.is_float32(one) for one in quantity.values()]
        decimal = pl.Float32 if kinds and all(kinds) else pl.Float64

        def literal(value: float | str) -> pl.Expr:
            if isinstance(value, str):
                return pl.lit(value)
            if isinstance(value, float):
                return pl.lit(value, dtype=decimal)
            return pl.lit(value, dtype=pl.Int64 if abs(value) < 2**63 else pl.Int128)

        if isinstance(test, Membership):
            return self._membership(test, columns, decimal)
        sides = [columns[side] if isinstance(side, Name) else literal(side.value) for side in (test.left, test.right)]
        return _COMPARE[test.operator](*sides)

    def _membership(self, test: Membership, columns: Mapping[Name, pl.Expr], decimal: type[pl.DataType]) -> pl.Expr:
        left = columns[test.value] if isinstance(test.value, Name) else pl.lit(test.value.value)
        texts = [one.value for one in test.choices if isinstance(one.value, str)]
        numbers = [one.value for one in test.choices if not isinstance(one.value, str)]
        quantity = self.quantities[test.value.text] if isinstance(test.value, Name) else None
        if texts:
            return left.is_in(pl.Series(texts, dtype=pl.String).implode())
        if quantity is None or self.names.is_decimal(quantity):
            return left.cast(decimal).is_in(pl.Series(list(map(float, numbers)), dtype=decimal).implode())
        whole = [int(one) for one in numbers if one == int(one) and abs(one) < 2**126]
        return left.cast(pl.Int128).is_in(pl.Series(whole, dtype=pl.Int128).implode())


_COMPARE = {
    "<": pl.Expr.lt,
    ">": pl.Expr.gt,
    "<=": pl.Expr.le,
    ">=": pl.Expr.ge,
    "=": pl.Expr.eq,
    "!=": pl.Expr.ne,
}


def bind(node: Node, names: Names) -> Filter:
    """Return an expression with what its names mean.

    Args:
        node: Expression, from `gzoo.dataset.expression.parse`.
        names: The names of a table.

    Raises:
        ExpressionError: A name is unknown or ambiguous, or a number is compared with text.
    """
    found: dict[str, Quantity] = {}
    notes: dict[str, None] = {}  # in order, each once
    for test in each_test(node):
        for value in operands(test):
            if isinstance(value, Name) and value.text not in found:
                found[value.text] = names.find(value)
        _check_kinds(test, found)
        notes |= dict.fromkeys(_notes(test, found))
    return Filter(node, names, found, tuple(notes))


def _check_kinds(test: Test, found: Mapping[str, Quantity]) -> None:
    if isinstance(test, Missing):
        return
    first, *others = operands(test)
    for value in (first, *others):
        if isinstance(value, Name) and found[value.text].kind == "other":
            raise ExpressionError(
                f"'{echoed(value.text)}' at character {value.position + 1} contains neither numbers nor text.",
                "a column of numbers or text; other columns can only be compared with `is missing`.",
                position=value.position,
            )

    def is_text(value: Name | Constant) -> bool:
        return found[value.text].is_text if isinstance(value, Name) else isinstance(value.value, str)

    for other in others:
        if is_text(first) != is_text(other):
            kinds = ["text" if is_text(value) else "a number" for value in (first, other)]
            raise ExpressionError(
                f"{echoed(str(first))} is {kinds[0]} and {echoed(str(other))} is {kinds[1]} "
                f"(character {other.position + 1}).",
                "two numbers or two texts."
                if not isinstance(test, Containment)
                else "text on both sides of `contains`.",
                "Put text between 'single quotation marks'.",
                other.position,
            )


def _notes(test: Test, found: Mapping[str, Quantity]) -> Iterable[str]:
    numbers = [one.value for one in operands(test) if isinstance(one, Constant)]
    if not isinstance(test, Comparison) or not any(isinstance(one, float) and 0 < one < 1 for one in numbers):
        return
    for value in operands(test):
        if isinstance(value, Name) and (quantity := found[value.text]).kind in {"votes", "asked"}:
            instead = f"; the vote fraction is {_fraction_of(quantity)}" if quantity.kind == "votes" else ""
            yield f"'{echoed(str(test))}' compares a number of votes{instead}."


def _fraction_of(quantity: Quantity) -> str:
    return f"{quantity.question}.{quantity.answer.removeprefix(f'{quantity.question}_')}"
