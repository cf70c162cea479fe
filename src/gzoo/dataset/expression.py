"""Filter expressions: conditions on the columns of a dataset, such as `bar-gz2.yes > 0.5 and ra < 180`.

    filter = or ;  or = and {"or" and} ;  and = not {"and" not}
    not    = "not" not | "(" or ")" | test
    test   = value op value {op value}           0.4 < bar-gz2.yes <= 0.6
           | value "in" "(" literal {"," literal} ")"  |  value "contains" 'text'  |  name "is" ["not"] "missing"
    op     = < > <= >= = == != <>
    value  = number | 'text' | name              without arithmetic, so that a hyphen always belongs to a name

`parse` turns text into a frozen tree, `gzoo.dataset.names.Names` says what names mean, and both together give the rows
that meet the condition. Text of a user never becomes SQL or Python: names are looked up, values are compared.

Missing is missing: a test on a missing value (null or NaN) is false, and so is its `not`.
"""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from gzoo.errors import ExpressionError

MAX_CHARACTERS, MAX_COMPARISONS, MAX_DEPTH = 2_000, 100, 30
MAX_ECHO = 80  # characters of user text in a message
KEYWORDS = ("and", "or", "not", "in", "contains", "is")
OPERATORS = {"<": "<", ">": ">", "<=": "<=", ">=": ">=", "=": "=", "==": "=", "!=": "!=", "<>": "!="}
Operator = Literal["<", ">", "<=", ">=", "=", "!="]

_NUMBER = re.compile(r"[+-]?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?(?![\w.])")
_WORD = re.compile(r"\w[\w.-]*")
_SYMBOL = re.compile(r"<=|>=|==|!=|<>|[<>=(),]")
_QUOTED = {mark: re.compile(f"{mark}((?:[^{mark}]|{mark}{mark})*){mark}") for mark in "'\"`"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Name:
    """A name in an expression."""

    text: str
    position: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return quoted(self.text)


@dataclass(frozen=True, slots=True)
class Constant:
    """A number or text in an expression."""

    value: int | float | str
    position: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return _marked(self.value, "'") if isinstance(self.value, str) else repr(self.value)


Value = Name | Constant


@dataclass(frozen=True, slots=True)
class Comparison:
    """`left operator right`."""

    left: Value
    operator: Operator
    right: Value

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True, slots=True)
class Membership:
    """`value in (choices)`."""

    value: Value
    choices: tuple[Constant, ...]

    def __str__(self) -> str:
        return f"{self.value} in ({', '.join(map(str, self.choices))})"


@dataclass(frozen=True, slots=True)
class Containment:
    """`value contains 'part'`."""

    value: Value
    part: Constant

    def __str__(self) -> str:
        return f"{self.value} contains {self.part}"


@dataclass(frozen=True, slots=True)
class Missing:
    """`name is missing`, or `name is not missing`."""

    name: Name
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.name} is {'not ' * self.negated}missing"


@dataclass(frozen=True, slots=True)
class Not:
    """`not part`."""

    part: Node

    def __str__(self) -> str:
        return f"not {_inside(self.part)}"


@dataclass(frozen=True, slots=True)
class And:
    """`part and part and ...`."""

    parts: tuple[Node, ...]

    def __str__(self) -> str:
        return " and ".join(map(_inside, self.parts))


@dataclass(frozen=True, slots=True)
class Or:
    """`part or part or ...`."""

    parts: tuple[Node, ...]

    def __str__(self) -> str:
        return " or ".join(map(_inside, self.parts))


Test = Comparison | Membership | Containment | Missing
Node = Test | Not | And | Or


def parse(text: str) -> Node:
    """Return the tree of an expression; `str` of a tree is an expression with the same tree.

    Args:
        text: At most 2,000 characters, with at most 100 comparisons and 30 levels of parentheses and `not`.

    Raises:
        ExpressionError: The text is not an expression, or is longer, larger or deeper.

    >>> str(parse("0.4 < bar-gz2.yes <= .6 or not (`odd name` in (1, 2))"))
    '(0.4 < bar-gz2.yes and bar-gz2.yes <= 0.6) or not `odd name` in (1, 2)'
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(
            f"The expression has {len(text):,} characters.",
            f"at most {MAX_CHARACTERS:,} characters.",
            "",
            MAX_CHARACTERS,
        )
    return _Parser(text).whole()


def each_test(node: Node) -> Iterator[Test]:
    """Yield the tests of an expression, from left to right."""
    if isinstance(node, Not):
        yield from each_test(node.part)
    elif isinstance(node, And | Or):
        for part in node.parts:
            yield from each_test(part)
    else:
        yield node


def operands(test: Test) -> tuple[Value, ...]:
    """Return the names and constants that a test compares, from left to right."""
    if isinstance(test, Comparison):
        return test.left, test.right
    if isinstance(test, Membership):
        return (test.value, *test.choices)
    return (test.name,) if isinstance(test, Missing) else (test.value, test.part)


def combined(node: Node, of_test: Callable[[Test], T]) -> T:
    """Return the result of an expression from the results of its tests.

    Args:
        node: Expression.
        of_test: Gives the result of a test: anything that has `&`, `|` and `~`, such as Boolean arrays.
    """
    # `|` and `&` of T are what arrays, series and polars expressions have in common, which no type says
    if isinstance(node, Not):
        inverted: Any = combined(node.part, of_test)
        return ~inverted
    if isinstance(node, And | Or):
        parts: list[Any] = [combined(part, of_test) for part in node.parts]
        return functools.reduce(operator.and_ if isinstance(node, And) else operator.or_, parts)
    return of_test(node)


def replaced(node: Node, of_test: Callable[[Test], Node]) -> Node:
    """Return an expression in which other nodes take the place of its tests."""
    if isinstance(node, Not):
        return Not(replaced(node.part, of_test))
    if isinstance(node, And | Or):
        return type(node)(tuple(replaced(part, of_test) for part in node.parts))
    return of_test(node)


def quoted(name: str) -> str:
    """Return a name as an expression must spell it: between backticks where it is not a plain word.

    >>> quoted("bar-gz2.yes"), quoted("odd name"), quoted("or")
    ('bar-gz2.yes', '`odd name`', '`or`')
    """
    is_plain = _WORD.fullmatch(name) and not _NUMBER.match(name) and name.lower() not in KEYWORDS
    return name if is_plain else _marked(name, "`")


def echoed(text: str) -> str:
    """Return text of a user for a message: at most 80 characters, on one line."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return shown if len(shown) <= MAX_ECHO else f"{shown[: MAX_ECHO - 3]}..."


def _marked(text: str, mark: str) -> str:
    return f"{mark}{text.replace(mark, mark * 2)}{mark}"


def _inside(node: Node) -> str:
    return f"({node})" if isinstance(node, And | Or) else str(node)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["symbol", "keyword", "name", "number", "text", "end"]
    text: str  # without quotation marks
    position: int

    def __str__(self) -> str:
        return "the end of the expression" if self.kind == "end" else f"'{echoed(self.text)}'"


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        mark = text[at]
        if mark in _QUOTED:
            found = _QUOTED[mark].match(text, at)
            if not found:
                raise ExpressionError(
                    f"The quotation mark {mark} at character {at + 1} is not closed.",
                    "a second one; within quotation marks, write it twice.",
                    "",
                    at,
                )
            yield _Token("text" if mark == "'" else "name", found[1].replace(mark * 2, mark), at)
        elif found := _NUMBER.match(text, at):
            yield _Token("number", found[0], at)
        elif found := _WORD.match(text, at):
            yield _Token("keyword" if found[0].lower() in KEYWORDS else "name", found[0], at)
        elif found := _SYMBOL.match(text, at):
            yield _Token("symbol", found[0], at)
        else:
            raise ExpressionError(
                f"Unexpected character '{echoed(mark)}' at character {at + 1}.",
                "names, numbers, 'text', comparisons, and, or, not, and parentheses.",
                "Compare names without arithmetic." if mark in "+-*/%" else "Put odd names in `backticks`.",
                at,
            )
        at = found.end()
    yield _Token("end", "", len(text))


class _Parser:
    """One pass over the tokens of an expression, from left to right."""

    def __init__(self, text: str) -> None:
        self.rest = _tokens(text)
        self.next = next(self.rest)
        self.depth = self.n_comparisons = 0

    def whole(self) -> Node:
        found = self.alternatives()
        if self.next.kind != "end":
            raise self.unexpected("and, or, or the end of the expression.")
        return found

    def alternatives(self) -> Node:
        parts = [self.conjunction()]
        while self.take("or"):
            parts.append(self.conjunction())
        return Or(tuple(parts)) if len(parts) > 1 else parts[0]

    def conjunction(self) -> Node:
        parts = [self.negation()]
        while self.take("and"):
            parts.append(self.negation())
        return And(tuple(parts)) if len(parts) > 1 else parts[0]

    def negation(self) -> Node:
        at = self.next.position
        if self.take("not"):
            return Not(self.deeper(self.negation, at))
        if self.take("("):
            found = self.deeper(self.alternatives, at)
            self.require(")")
            return found
        return self.test(at)

    def deeper(self, part: Callable[[], Node], at: int) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError(
                f"The expression has more than {MAX_DEPTH} levels at character {at + 1}.",
                f"at most {MAX_DEPTH} levels of parentheses and `not`.",
                "",
                at,
            )
        found = part()
        self.depth -= 1
        return found

    def test(self, at: int) -> Node:
        left = self.value("a test, such as bar-gz2.yes > 0.5.")
        if self.take("in"):
            self.count()
            return self.membership(left)
        if self.take("contains"):
            self.count()
            if self.next.kind != "text":
                raise self.unexpected("'text' between single quotation marks.")
            return Containment(left, Constant(self.pop().text, at))
        if self.take("is"):
            self.count()
            negated = self.take("not")
            if self.next.kind != "name" or self.next.text.lower() != "missing":
                raise self.unexpected("missing.")
            self.pop()
            if isinstance(left, Constant):
                raise ExpressionError(f"{echoed(str(left))} is not a name.", "a name before 'is'.", "", left.position)
            return Missing(left, negated)
        chain: list[Node] = []
        while self.next.text in OPERATORS and self.next.kind == "symbol":
            sign = OPERATORS[self.pop().text]
            self.count()
            right = self.value("a name, a number, or 'text' between single quotation marks.")
            chain.append(Comparison(left, sign, right))  # type: ignore[arg-type]
            left = right
        if not chain:
            raise self.unexpected("a comparison: <, >, <=, >=, =, !=, in, contains, or is missing.")
        return chain[0] if len(chain) == 1 else self.deeper(lambda: And(tuple(chain)), at)

    def membership(self, left: Value) -> Membership:
        self.require("(")
        choices: list[Constant] = []
        while not choices or self.take(","):
            one = self.value("a number or 'text'.") if self.next.kind in {"number", "text"} else None
            if not isinstance(one, Constant):
                raise self.unexpected("a number or 'text'.")
            choices.append(one)
        self.require(")")
        return Membership(left, tuple(choices))

    def value(self, expected: str) -> Value:
        if self.next.kind not in {"name", "number", "text"}:
            raise self.unexpected(expected)
        token = self.pop()
        if token.kind == "name":
            return Name(token.text, token.position)
        if token.kind == "text":
            return Constant(token.text, token.position)
        is_whole = token.text.lstrip("+-").isdecimal() and len(token.text) <= 38  # digits of a 128-bit integer
        number = int(token.text) if is_whole else float(token.text)
        if not math.isfinite(number):
            raise ExpressionError(
                f"The number {echoed(token.text)} at character {token.position + 1} is too large.",
                "a number below 1e308.",
                "",
                token.position,
            )
        return Constant(number, token.position)

    def count(self) -> None:
        self.n_comparisons += 1
        if self.n_comparisons > MAX_COMPARISONS:
            at = self.next.position
            raise ExpressionError(
                f"The expression has more than {MAX_COMPARISONS} comparisons at character {at + 1}.",
                f"at most {MAX_COMPARISONS} comparisons.",
                "",
                at,
            )

    def pop(self) -> _Token:
        token = self.next
        self.next = next(self.rest)
        return token

    def take(self, word: str) -> bool:
        is_next = self.next.kind in {"symbol", "keyword"} and self.next.text.lower() == word
        if is_next:
            self.pop()
        return is_next

    def require(self, symbol: str) -> None:
        if not self.take(symbol):
            raise self.unexpected(f"'{symbol}'.")

    def unexpected(self, expected: str) -> ExpressionError:
        at = self.next.position
        return ExpressionError(f"Unexpected {self.next} at character {at + 1}.", expected, "", at)
