"""Objects that show themselves: one screen of text, escaped HTML, and the JSON that commands print."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass, fields
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gzoo
from gzoo.display import MAX_LINES, MAX_WIDTH, Sheet, Shown, as_text, interval, json_value, table_of
from gzoo.scoring.classification import compute_classification, decals_confident, gz_evo
from gzoo.scoring.comparison import compute as comparison_of
from gzoo.scoring.intervals import blocks
from gzoo.scoring.predictions import Predictions
from gzoo.scoring.scores import compute
from gzoo.votes.votes import Votes

HOSTILE = "<script>alert(1)</script>\x1b[31m\n\t\"'&\u202e"
VOID = {"br", "hr", "img", "path", "line", "rect", "circle"}


class Page(HTMLParser):
    """Elements and text of a page, which fails if an element is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.names: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.opened == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def check_shown(found: Shown) -> None:
    """What must hold for everything that shows itself."""
    lines = repr(found).split("\n")
    assert 0 < len(lines) <= MAX_LINES, "\n".join(lines)
    assert max(map(len, lines)) <= MAX_WIDTH, "\n".join(lines)
    assert all(line.isprintable() for line in lines)
    page = Page(found._repr_html_())
    assert page.names[0] == "div"
    assert "script" not in page.names
    assert page.names.count("tr") <= MAX_LINES
    json.dumps(found.to_dict(), allow_nan=False)
    if hasattr(found, "to_polars"):
        assert found.to_polars().width
    with pytest.raises(FrozenInstanceError):
        setattr(found, fields(found)[0].name, 1)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, repr=False)
class Example(Shown):
    name: str
    heading: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    n_galaxies: float = math.nan

    def sheet(self) -> Sheet:
        return Sheet(
            self.name, {self.name: self.name * 9, "n": self.n_galaxies}, self.heading, self.rows, self.name * 3
        )


@dataclass(frozen=True, slots=True, repr=False)
class ExampleResult(Shown):
    folder: str
    n_galaxies: dict[str, int]


def test_an_object_of_facts_shows_its_fields() -> None:
    found = ExampleResult(HOSTILE, {"train": 1200, HOSTILE: 3})
    check_shown(found)
    assert repr(found).split("\n")[0] == "Example"
    assert "galaxies  train 1,200, " in repr(found)
    assert found.to_dict() == {"folder": HOSTILE, "n_galaxies": {"train": 1200, HOSTILE: 3}}


text = st.sampled_from([HOSTILE, "", "a" * 500, "word " * 99]) | st.text(max_size=40)
cell = text | st.none() | st.booleans() | st.integers() | st.floats()


tables = st.integers(1, 14).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[cell] * n), max_size=4), st.integers(1, 20))
)


@settings(max_examples=40, deadline=None)
@given(text, tables)
def test_a_table_fits_on_a_screen(name: str, table: tuple[int, list[tuple[object, ...]], int]) -> None:
    n, rows, times = table
    check_shown(Example(name, (name,) * n, tuple(rows * times)))


def test_every_row_is_shown_or_counted() -> None:
    for n in range(60):
        found = Example("Rows", ("number", "name"), tuple((i, f"row-{i}") for i in range(n)))
        for shown in (repr(found), found._repr_html_()):
            listed = sum(f"row-{i}" in shown for i in range(n))
            assert listed == n or f"... and {n - listed} more" in shown
            assert listed >= min(n, 15)


def test_numbers_are_aligned() -> None:
    sheet = Sheet("T", {}, ["name", "n"], [["a", 1000], ["b", None], ["c", 0.5]])
    assert sheet.to_text().split("\n")[2:] == ["  name      n", "  a     1,000", "  b         -", "  c       0.5"]
    assert sheet.to_html().count('<td class="gzoo-number">') == 3


def test_values_become_json() -> None:
    value = {"a": np.array([1.5, np.nan]), "b": np.int64(3), "c": {"y", "x"}, "d": ExampleResult("f", {}), 5: (None,)}
    assert json_value(value) == {
        "a": [1.5, None],
        "b": 3,
        "c": ["x", "y"],
        "d": {"folder": "f", "n_galaxies": {}},
        "5": [None],
    }


def test_values_become_text() -> None:
    assert as_text([True, None, 12345, 1e-9]) == "yes, -, 12,345, 1e-09"
    assert interval({"value": None, "low": None, "high": None}) == "-"
    assert interval({"value": 0.5, "low": None, "high": None}, 1, "+") == "+0.5"
    assert as_text({"gain": {"value": 0.5, "low": 0.25, "high": 0.75}}) == "gain 0.500 [0.250, 0.750]"


def test_tables_are_flat() -> None:
    rows = [{"x": {"value": None, "low": None, "high": None}, "more": {}}, {"x": {"value": 1, "low": 0, "high": 2.5}}]
    assert table_of(rows).to_dict(as_series=False) == {"x": [None, 1.0], "x_low": [None, 0.0], "x_high": [None, 2.5]}


@pytest.mark.parametrize("name", ["gz2", "gz_desi", "gz_rings", "gz_evo"])
def test_scores_show_themselves(name: str) -> None:
    tree = gzoo.tree(name).published()
    chance = np.random.default_rng(0)
    shape = (50, len(tree.columns))
    votes = Votes(tree, chance.integers(0, 60, shape))
    alpha = chance.uniform(0.1, 9, shape)
    scores = compute(votes, alpha, np.ones(shape[1]))
    check_shown(scores)
    table = scores.to_polars()
    assert table["name"].to_list()[0] == "overall"
    assert table.filter(kind="question")["name"].to_list() == list(scores.questions)
    assert table["log_likelihood_gain_low"][0] == scores.overall["log_likelihood_gain"]["low"]
    models = {f"{HOSTILE}{i}": Predictions.of_concentrations(alpha + i, tree) for i in range(3)}
    compared = comparison_of(models, votes, [question.name for question in tree.questions], blocks(50))
    check_shown(compared)
    assert compared.to_polars().filter(kind="overall").height == 3 * 2
    fractions = votes.fractions[::-1]
    for protocol in (gz_evo(fractions, votes, blocks(50)), decals_confident(fractions, votes, blocks(50))):
        check_shown(protocol)


@pytest.mark.parametrize("n", [2, 40])
def test_classifications_show_themselves(n: int) -> None:
    classes = tuple(f"{HOSTILE}-{i}" for i in range(n))
    true = np.random.default_rng(0).choice(classes, 99)
    found = compute_classification(true, np.where(true == classes[0], "", true[::-1]), classes, blocks(99))
    check_shown(found)
    assert found.to_polars()["n"].sum() == 99
