"""The grammar of filters, what names mean, and which rows meet an expression; DuckDB is the oracle."""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Callable

import duckdb
import numpy as np
import polars as pl
import pytest

import gzoo
from gzoo.dataset import expression
from gzoo.dataset.expression import MAX_DEPTH, And, Comparison, Constant, Name, Not, Or, parse
from gzoo.dataset.names import Names, bind
from gzoo.errors import ExpressionError
from gzoo.trees.tree import Question, Tree

TREE = gzoo.tree("gz2").published()
N_ROWS = 400


def votes_table(tree: Tree, n: int, rng: np.random.Generator) -> pl.DataFrame:
    """Votes of which a third of the galaxies has none on each question."""
    columns: dict[str, object] = {}
    for question in tree.questions:
        total = rng.integers(1, 6, n) * rng.choice([0, 1], n, p=[1 / 3, 2 / 3])
        counts = rng.multinomial(total, np.full(len(question.columns), 1 / len(question.columns)))
        for i, column in enumerate(question.columns):
            columns[column] = counts[:, i].astype(np.int32)
            with np.errstate(invalid="ignore"):
                columns[f"{column}_fraction"] = (counts[:, i] / total).astype(np.float32)
        columns[question.total_column] = total.astype(np.int32)
    return pl.DataFrame(columns)


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    some = rng.normal(size=N_ROWS).round(1)
    words = rng.choice(["smooth", "barred_spiral", "it's", 'a "b"', "ünï"], N_ROWS)
    made = votes_table(TREE, N_ROWS, rng).with_columns(
        ra=pl.Series(np.where(rng.random(N_ROWS) < 0.2, np.nan, some)),
        dec=pl.Series(np.where(rng.random(N_ROWS) < 0.2, np.nan, rng.normal(size=N_ROWS).round(1))),
        both=pl.Series([None if x < -1 else float("nan") if x < 0 else x for x in some]),
        whole=pl.Series([None if x < -1 else int(10 * x) for x in some], dtype=pl.Int64),
        big=pl.Series([None if x < -1 else 2**53 + int(10 * x) for x in some], dtype=pl.Int64),
        unsigned=pl.Series([None if x < -1 else 2**63 + abs(int(10 * x)) for x in some], dtype=pl.UInt64),
        flag=pl.Series([None if x < -1 else x > 0 for x in some]),
        word=pl.Series([None if x < -1 else w for x, w in zip(some, words, strict=True)]),
    )
    return made.rename({"word": "odd `word`"}).with_columns(word=pl.col("odd `word`"))


@pytest.fixture(scope="module")
def names(table: pl.DataFrame) -> Names:
    return Names(TREE, table.schema)


def rows_of(text: str, names: Names, table: pl.DataFrame) -> list[bool]:
    return bind(parse(text), names).mask(table).to_list()


# ----------------------------------------------------------------------------------------------------
# The same rows as DuckDB


class RandomExpression:
    """An expression and the same in SQL, made together so that neither comes from our parser."""

    def __init__(self, rng: np.random.Generator, table: pl.DataFrame) -> None:
        self.rng, self.table = rng, table

    def one_of(self, *makers: Callable[[], tuple[str, str]]) -> tuple[str, str]:
        return makers[self.rng.integers(len(makers))]()

    def number(self) -> tuple[str, str]:
        value = self.rng.choice(["0", "1", "2", "-3", ".5", "0.25", "0.2", "0.6", "1e0", "0.33333334", "+1.5", "6e-1"])
        sql = value if "e" not in value else str(float(value))  # DuckDB takes 6e-1 for a DOUBLE, and .6 for a DECIMAL
        return str(value), str(sql)

    def name(self) -> tuple[str, str]:
        kind = self.rng.integers(5)
        question = TREE.questions[self.rng.integers(len(TREE.questions))]
        i = self.rng.integers(len(question.columns))
        column, short = question.columns[i], f"{question.name}.{question.answers[i]}"
        if self.rng.random() < 0.3:
            short = short.replace("-gz2.", ".")
        total = f'"{question.total_column}"'
        if kind == 0:
            fraction = f'("{column}"::DOUBLE / {total})'
            return short, f"CASE WHEN {total} = 0 OR isnan({fraction}) THEN NULL ELSE {fraction} END"
        if kind == 1:
            return f"{short}.n", f'"{column}"'
        if kind == 2:
            return f"{question.name}.asked", total
        if kind == 3:
            return f"{column}_fraction", self.column(f"{column}_fraction")
        plain = str(self.rng.choice(["ra", "dec", "both", "whole", "big", "flag"]))
        return (f'"{plain}"' if self.rng.random() < 0.2 else plain), self.column(plain)

    def column(self, name: str) -> str:
        dtype = self.table.schema[name]
        if dtype.is_float():
            return f'CASE WHEN isnan("{name}") THEN NULL ELSE "{name}" END'
        return f'"{name}"::TINYINT' if dtype == pl.Boolean else f'"{name}"'

    def chain(self) -> tuple[str, str]:
        pieces = [self.one_of(self.name, self.number), *(self.one_of(self.name, self.number) for _ in range(2))]
        signs = self.rng.choice(["<", ">", "<=", ">=", "=", "==", "!=", "<>"], 2)
        n = 1 + (self.rng.random() < 0.2)
        text = pieces[0][0] + "".join(f" {signs[i]} {pieces[i + 1][0]}" for i in range(n))
        sql = [f"({pieces[i][1]}) {signs[i]} ({pieces[i + 1][1]})" for i in range(n)]
        return text, f"({' AND '.join(sql)})"

    def text(self) -> tuple[str, str]:
        left = "`odd ``word```" if self.rng.random() < 0.5 else "word"
        literal = "'" + str(self.rng.choice(["smooth", "it''s", 'a "b"', "ünï", "o"])) + "'"
        if self.rng.random() < 0.3:
            return f"{left} contains {literal}", f'(contains("word", {literal}))'
        sign = self.rng.choice(["<", "=", "!=", ">="])
        return f"{left} {sign} {literal}", f'("word" {sign} {literal})'

    def membership(self) -> tuple[str, str]:
        if self.rng.random() < 0.4:
            return "word in ('smooth', 'it''s')", "(\"word\" IN ('smooth', 'it''s'))"
        (left, left_sql), first, second = self.name(), self.number(), self.number()
        return f"{left} in ({first[0]},{second[0]})", f"(({left_sql}) = {first[1]} OR ({left_sql}) = {second[1]})"

    def missing(self) -> tuple[str, str]:
        (left, sql), word = self.name(), self.rng.choice(["", "not "])
        return f"{left} is {word}missing", f"(({sql}) IS {word.upper()}NULL)"

    def node(self, depth: int) -> tuple[str, str]:
        if depth == 0 or self.rng.random() < 0.3:
            return self.one_of(self.chain, self.chain, self.chain, self.text, self.membership, self.missing)
        kind = self.rng.integers(3)
        if kind == 0:
            text, sql = self.node(depth - 1)
            return f"not ({text})", f"(NOT {sql})"
        parts = [self.node(depth - 1) for _ in range(self.rng.integers(2, 4))]
        word = "and" if kind == 1 else "OR"
        return f"({f' {word} '.join(text for text, _ in parts)})", f"({f' {word} '.join(sql for _, sql in parts)})"


@pytest.mark.parametrize("n", [80, pytest.param(600, marks=pytest.mark.slow)])
def test_the_same_rows_as_duckdb(n: int, table: pl.DataFrame, names: Names) -> None:
    maker = RandomExpression(np.random.default_rng(2), table)
    made = [maker.node(3) for _ in range(n)]
    with duckdb.connect(config={"threads": 1}) as database:
        database.register("rows", table.to_arrow())
        answers = database.sql(
            f"SELECT {', '.join(f'COALESCE({sql}, FALSE) AS x{i}' for i, (_, sql) in enumerate(made))} FROM rows"
        ).pl()
    n_some = 0
    for i, (text, sql) in enumerate(made):
        expected = answers[f"x{i}"].to_list()
        assert rows_of(text, names, table) == expected, f"{text}\n{sql}"
        assert rows_of(str(parse(text)), names, table) == expected, text
        n_some += 0 < sum(expected) < N_ROWS
    assert n_some > n / 2


def test_a_test_on_a_missing_value_is_false_and_so_is_its_not(table: pl.DataFrame, names: Names) -> None:
    without = table["bar-gz2_total-votes"] == 0
    for test in (
        "bar-gz2.yes > 0.6",
        "bar-gz2.yes <= .6",
        "bar.yes != 2",
        "bar-gz2_yes_fraction > 0.6",
        "bar.yes in (1, 0)",
    ):
        for text in (test, f"not {test}"):
            met = bind(parse(text), names).mask(table)
            assert not met.filter(without).any(), text
            assert met.any() or "!=" in text
    assert not any(a and b for a, b in zip(rows_of("ra > 0", names, table), table["ra"].is_nan(), strict=True))
    assert not any(rows_of("both is missing and not both is missing", names, table))


def test_three_of_five_votes_are_not_more_than_the_literal(table: pl.DataFrame, names: Names) -> None:
    is_three = (table["bar-gz2_yes"] == 3) & (table["bar-gz2_total-votes"] == 5)
    assert is_three.any()
    for name in ("bar-gz2.yes", "bar-gz2_yes_fraction"):
        assert not bind(parse(f"{name} > 0.6"), names).mask(table).filter(is_three).any()
        assert bind(parse(f"{name} = 0.6"), names).mask(table).filter(is_three).all()


def test_integers_are_compared_exactly(table: pl.DataFrame, names: Names) -> None:
    for name in ("big", "unsigned"):
        value = table[name].drop_nulls()[0]
        for text in (f"{name} = {value}", f"{name} in ({value}, 0.5)"):
            assert rows_of(text, names, table) == (table[name] == value).fill_null(False).to_list()
    assert not any(rows_of(f"unsigned > {10**30}", names, table))


# ----------------------------------------------------------------------------------------------------
# Names


@pytest.mark.parametrize("campaign", [one.name for one in gzoo.campaigns()])
def test_names_of_every_campaign_parse(campaign: str) -> None:
    tree = gzoo.campaign(campaign).tree
    schema: dict[str, pl.DataType] = {}
    for question in tree.questions:
        schema[question.total_column] = pl.Int32()
        schema[f"{question.name}.proportion"] = pl.Float32()
        for answer, column in zip(question.answers, question.columns, strict=True):
            schema |= {column: pl.Int32(), f"{column}_fraction": pl.Float32()}
            schema |= {f"{question.name}.{answer}.{end}": pl.Float32() for end in ("model", "low", "high", "posterior")}
    names = Names(tree, schema)
    assert len(names.known) == 3 * len(tree.questions) + 9 * len(tree.columns)
    for quantity in names.known:
        spelt = quantity.to_dict()["name"]
        node = parse(f"not {spelt}<=0.5")
        assert node == Not(Comparison(Name(quantity.name), "<=", Constant(0.5)))
        assert names.find(Name(quantity.name)) == quantity
        assert spelt == quantity.name, "names of campaigns are plain words"


def test_a_short_name_means_one_question_or_lists_the_choices(names: Names) -> None:
    assert names.find(Name("bar.yes")).name == "bar-gz2.yes"
    assert names.find(Name("bar.asked")).name == "bar-gz2.asked"
    tree = gzoo.tree("gz_evo")
    evo = Names(tree, votes_table(tree, 1, np.random.default_rng(3)).schema)
    with pytest.raises(ExpressionError, match=r"'bar.yes' at character 7 is ambiguous.\n.*bar-gz2.yes") as error:
        bind(parse("1 < 2 and bar.yes > 0.5".replace("1 < 2 and", "not  ")), evo)
    assert error.value.position == 6
    assert evo.find(Name("something-odd-gz2.yes")).answer == "something-odd-gz2_yes"


def test_a_column_goes_before_a_computed_name(table: pl.DataFrame) -> None:
    own = table.with_columns(pl.lit(0.75).alias("bar-gz2.yes"), pl.lit(0.5).alias("bar-gz2.yes.model"))
    names = Names(TREE, own.schema)
    assert all(rows_of("bar-gz2.yes = 0.75", names, own))
    assert all(rows_of("bar-gz2.yes.gap = -0.25", names, own))
    assert names.find(Name("bar.yes.model")).kind == "model"


def test_a_count_column_compared_with_a_fraction_is_noted(names: Names) -> None:
    found = bind(parse("bar-gz2_yes > 0.6 and bar-gz2_yes > 0.6 and bar-gz2.no > 0.6 and bar.asked >= 5"), names)
    assert found.notes == ("'bar-gz2_yes > 0.6' compares a number of votes; the vote fraction is bar-gz2.yes.",)


def test_unknown_text_of_datasets_is_missing(names: Names) -> None:
    table = pl.DataFrame({"summary": ["", "smooth", None], "other": ["", "smooth", None]})
    own = Names(TREE, table.schema)
    assert rows_of("summary != 'smooth'", own, table) == [False, False, False]
    assert rows_of("summary is missing", own, table) == [True, False, True]
    assert rows_of("other != 'smooth'", own, table) == [True, False, False]


def test_needed_columns(names: Names) -> None:
    assert bind(parse("bar.yes > 0.5 and ra < 3"), names).columns == ("bar-gz2_total-votes", "bar-gz2_yes", "ra")


def test_totals_of_tables_without_total_columns() -> None:
    columns = TREE.question("bar-gz2").columns
    table = pl.DataFrame({columns[0]: [3, 0], columns[1]: [1, 0]}, schema_overrides=dict.fromkeys(columns, pl.Int32))
    names = Names(TREE, table.schema)
    assert rows_of("bar.yes = 0.75 and bar.asked = 4", names, table) == [True, False]
    assert rows_of("not bar.yes = 0.75", names, table) == [False, False]
    with pytest.raises(ExpressionError, match=r"no votes for 'smooth-or-featured-gz2\.smooth'"):
        bind(parse("smooth-or-featured-gz2.smooth > 0.5"), names)


# ----------------------------------------------------------------------------------------------------
# Errors


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "Unexpected the end of the expression"),
        ("bar-gz2.yes >", 13, "the end of the expression at character 14"),
        ("bar-gz2.yes > 0.5 and", 21, "the end of the expression"),
        ("bar-gz2.yes > 0.5 ra < 3", 18, "Unexpected 'ra'"),
        ("bar-gz2.yse > 0.5", 0, "Did you mean 'bar-gz2.yes'"),
        ("(ra > 1", 7, "Expected '\\)'"),
        ("ra + 1 > 2", 3, "without arithmetic"),
        ("ra > -dec", 5, "without arithmetic"),
        ("ra; drop", 2, "Unexpected character ';'"),
        ("word = 'a", 7, "not closed"),
        ("word = 3", 7, "word is text and 3 is a number"),
        ("ra contains 'a'", 0, "ra is a number"),
        ("ra in (1, 'a')", 10, "'a' is text"),
        ("ra in ()", 7, "a number or 'text'"),
        ("ra in (dec)", 7, "a number or 'text'"),
        ("3 is missing", 0, "3 is not a name"),
        ("ra is null", 6, "missing"),
        ("ra > 1e999", 5, "too large"),
        ("bar-gz2.yes.model > 0.5", 0, "needs predictions"),
        ("bar.yes.posterior > 0.5", 0, "needs predictions"),
        ("ra < 1 and " + "x" * 500 + " > 2", 11, "x{77}\\.\\.\\.'"),
        ("ra < 1\nand y\x1b[31m > 2", 12, "Unexpected character '\N{REPLACEMENT CHARACTER}'"),
    ],
)
def test_errors_name_the_place(text: str, position: int, words: str, names: Names) -> None:
    with pytest.raises(ExpressionError, match=words) as error:
        bind(parse(text), names)
    assert error.value.position == position
    assert len(error.value.message) < 200
    copy = pickle.loads(pickle.dumps(error.value))
    assert (str(copy), copy.position) == (str(error.value), position)


def test_limits(names: Names) -> None:
    assert parse(" and ".join(["ra<1"] * 100)) == And((Comparison(Name("ra"), "<", Constant(1)),) * 100)
    with pytest.raises(ExpressionError, match="more than 100 comparisons"):
        parse(" or ".join(["ra<1"] * 101))
    for start, end in (("not ", ""), ("(", ")"), ("not(", ")")):
        n = MAX_DEPTH // (1 + (start == "not("))
        parse(start * n + "ra<1" + end * n)
        with pytest.raises(ExpressionError, match="30 levels"):
            parse(start * (n + 1) + "ra<1" + end * (n + 1))
    with pytest.raises(ExpressionError, match="2,001 characters"):
        parse("ra < 1" + " " * 1995)
    deepest = parse("not " * 29 + "0 < ra < 1")
    assert parse(str(deepest)) == deepest
    assert bind(parse("or".join([" ra<1 "] * 100)), names).mask(pl.DataFrame({"ra": [0.0]})).to_list() == [True]


PIECES = [
    *"()<>=!,.+-*/%;:'\"`\\\n\t\x00 \u202e",
    *("and", "or", "not", "in", "is", "missing", "contains", "AND", "ra", "bar-gz2.yes", "bar.yes", "word", "dec"),
    *("0.5", "1e5", "-3", "1e999", "1.2.3", "9" * 50, "'text'", "`odd`", "<=", "!=", "<>", "==", "is not missing"),
    *(
        "é",
        "\U0001d538",
        "\u0661",
        "nan",
        "inf",
        "None",
        "True",
        "__import__",
        "SELECT",
        "--",
        "/*",
        "ra in (1, 2)",
        "COPY",
        "{}",
    ),
]
VALUES = ["ra", "dec", "bar.yes", "bar-gz2.no.n", "0.5", "-3", "word", "`odd ``word```", "'it''s'", "1e-3", "x", "("]


@pytest.mark.parametrize("n", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_hostile_text_raises_only_expression_errors(n: int, table: pl.DataFrame, names: Names) -> None:
    rng = np.random.default_rng(4)
    maker = RandomExpression(rng, table)
    valid = [maker.node(2)[0] for _ in range(200)]
    few, n_read, refused = table.head(3), 0, list[tuple[str, ExpressionError]]()
    draw = random.Random(5)  # faster than NumPy's for few values
    for i in range(n):
        if i % 4 == 0:
            text = "".join(chr(draw.randrange(0x3000)) for _ in range(draw.randrange(60)))
        elif i % 4 == 1:
            text = draw.choice(["", " "]).join(draw.choices(PIECES, k=draw.randrange(1, 12)))
        elif i % 4 == 2:
            text = draw.choice(["{} < {} and {} is missing", "not {}={}<{}", "{} in ({}, {})", "({} > {}) or {} < 3"])
            text = text.format(*draw.choices(VALUES, k=3))
        else:
            text = valid[i // 4 % 200]
            at = draw.randrange(len(text) + 1)
            text = text[:at] + draw.choice(PIECES) + text[at + draw.randrange(3) :]
        try:
            found = bind(parse(text), names)
        except ExpressionError as error:
            refused.append((text, error))
        else:
            n_read += 1
            assert parse(str(found.node)) == found.node
            if n_read % 20 == 0:
                assert len(found.mask(few)) == 3
    assert all(0 <= error.position <= len(text) and len(error.message) < 300 for text, error in refused)
    assert n_read > n / 20


def test_long_hostile_text_is_refused_at_once(names: Names) -> None:
    for text in (
        "(" * 2000,
        "not " * 500,
        "1" * 1999 + "x",
        "'" * 1999,
        "`a" * 900,
        "ra<" * 600,
        "a." * 1000,
        "x" * 2000,
    ):
        start = time.process_time()
        with pytest.raises(ExpressionError):
            bind(parse(text), names)
        assert time.process_time() - start < 0.1, text[:10]


def test_nodes_are_frozen_and_combine_anything() -> None:
    node = parse("a < 1 and not b < 2 or c < 3")
    assert isinstance(node, Or)
    known = {"a": np.array([True, True]), "b": np.array([True, False]), "c": np.array([False, False])}
    found = expression.combined(node, lambda test: known[str(expression.operands(test)[0])])
    assert found.tolist() == [False, True]
    with pytest.raises(AttributeError):
        node.parts = ()  # type: ignore[misc]


def test_short_names_need_a_suffix() -> None:
    tree = Tree("own", (Question("smooth", ("a", "b"), ("smooth_a", "smooth_b")),))
    names = Names(tree, {"smooth_a": pl.Int32(), "smooth_b": pl.Int32()})
    assert names.find(Name("smooth.a")).kind == "fraction"
