"""Objects that show themselves: one screen of text, escaped HTML, and the JSON that commands print."""

from __future__ import annotations

import inspect
import json
import math
import typing
import warnings
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gzoo
from gzoo import cli
from gzoo.display import MAX_LINES, MAX_WIDTH, Sheet, Shown, as_text, interval, json_value, table_of
from gzoo.errors import GZooWarning
from gzoo.scoring.classification import compute_classification, decals_confident, gz_evo
from gzoo.scoring.comparison import compute as comparison_of
from gzoo.scoring.intervals import blocks
from gzoo.scoring.predictions import Predictions
from gzoo.scoring.scores import compute
from gzoo.simulator import SimulateResult
from gzoo.trees.campaign import names as campaign_names
from gzoo.trees.tree import Question, Tree
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


@settings(max_examples=20, deadline=None)
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


@pytest.mark.parametrize("name", ["gz2", "gz_desi", "gz_rings"])
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
    n_measures = 3 if any(question.ordered for question in tree.questions) else 2
    assert compared.to_polars().filter(kind="overall").height == 3 * n_measures  # pairs
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


# --- everything that is public -----------------------------------------------------------------------------------


def shown_classes(of: type = Shown) -> set[type]:
    return set().union(
        *({one, *shown_classes(one)} for one in of.__subclasses__() if one.__module__.startswith("gzoo"))
    )


def test_every_command_returns_something_that_shows_itself() -> None:
    for verb in (verb for verbs in cli.GROUPS.values() for verb in verbs):
        returned = inspect.signature(getattr(gzoo, verb), eval_str=True).return_annotation
        kinds = typing.get_args(returned) or (returned,)
        if verb in {"cite", "augmentations"}:  # a text, and a path
            assert kinds in {(str,), (Path,)}
            continue
        assert all(issubclass(kind, Shown) for kind in kinds), verb
        assert ("as_json" in inspect.signature(cli.command(verb)).parameters) == (verb not in {"tree", "explore"}), verb
    for name in ("Augmentation", "Campaign", "Question", "Tree", "Votes"):
        assert issubclass(getattr(gzoo, name), Shown)
    assert len(shown_classes()) > 25
    for one in shown_classes():
        assert one.__repr__ is Shown.__repr__, f"{one} needs repr=False"


@pytest.mark.parametrize("name", campaign_names())
def test_campaigns_and_trees_show_themselves(name: str) -> None:
    campaign = gzoo.campaign(name)
    for found in (campaign, campaign.tree, campaign.published_tree, *campaign.tree.questions):
        check_shown(found)
    assert json.loads(campaign.tree.to_json()) == json.loads(json.dumps(campaign.tree.to_dict()))
    assert campaign.to_dict()["tree"] == campaign.tree.to_dict()
    assert campaign.title in repr(campaign)


def test_all_campaigns_are_listed() -> None:
    found = gzoo.campaigns()
    check_shown(found)
    assert [one.name for one in found] == found.to_polars()["name"].to_list() == list(campaign_names())
    assert all(one.name in repr(found) for one in found)


def test_hostile_names_are_escaped() -> None:
    column = f"{HOSTILE}_{HOSTILE}"
    tree = Tree(HOSTILE, (Question(HOSTILE, (HOSTILE, "no"), (column, "no")), Question("q", ("a",), ("a",), (column,))))
    votes = Votes(tree, np.array([[1, 2, 1]] * 3))
    campaign = replace(gzoo.campaign("gz2"), name=HOSTILE, title=HOSTILE, description=HOSTILE, tree=tree)
    for found in (tree, *tree.questions, votes, campaign):
        check_shown(found)


@pytest.mark.parametrize("n", [0, 1, 2_000])
def test_votes_show_themselves(n: int) -> None:
    for name in ("gz_rings", "gz2", "gz_evo"):
        tree = gzoo.tree(name)
        votes = Votes(tree, np.random.default_rng(0).integers(0, 9, (n, len(tree.columns))))
        check_shown(votes)
        table = votes.to_polars()
        assert table.select(tree.columns).to_numpy().tolist() == votes.counts.tolist()
        totals = [question.total_column for question in tree.questions]
        assert table.select(totals).to_numpy().tolist() == votes.totals.tolist()


@pytest.fixture(scope="module")
def predictions(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two prediction files of the test split, and one of the validation split."""
    folder, paths = tmp_path_factory.mktemp("predicted"), []
    for name, split, prior in (("one", "test", 1.0), ("two", "test", 3.0), ("three", "validation", 1.0)):
        keys, votes = gzoo.open_dataset(dataset).read_votes(split)
        columns = {f"{answer}_concentration": votes.counts[:, i] + prior for i, answer in enumerate(votes.tree.columns)}
        paths.append(folder / f"{name}.parquet")
        keys.with_columns(
            pl.lit(value=False).alias("in_training_set"), **{key: pl.Series(one) for key, one in columns.items()}
        ).write_parquet(paths[-1])
    return paths


def test_to_dict_is_what_json_prints(
    sky: SimulateResult, dataset: Path, predictions: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, validation = predictions
    export = {"classifications": sky.classifications, "workflows": sky.workflows}
    overwrite = {"overwrite": True}
    calls: list[tuple[str, tuple[object, ...], dict[str, object]]] = [
        ("campaigns", (), {}),
        ("audit", (sky.votes, "gz2"), {}),
        ("mapping", (sky.votes, "gz2"), {}),
        ("mapping", (sky.classifications, "gz2"), {"workflows": sky.workflows}),
        ("count", ("gz2",), {**export, "out": tmp_path / "counted.parquet", **overwrite}),
        ("check", (dataset,), {"headers_only": True}),
        ("leaks", ([dataset],), {}),
        ("score", (one, dataset), {}),
        ("score", (one, dataset), {"label": "summary"}),
        ("score", (one, dataset), {"protocol": "gz-evo"}),
        ("compare", ([one, two], dataset), {}),
        ("recalibrate", (one, dataset), {"validation": validation, "out": tmp_path / "r.parquet", **overwrite}),
        ("prioritize", ([one], dataset), {"n": 3}),
        ("catalog", ([one], dataset), {"out": tmp_path / "c.parquet", **overwrite}),
        ("build", ("gz2",), {"votes": sky.votes, "images": sky.images, "out": tmp_path / "built", **overwrite}),
    ]
    for verb, arguments, named in calls:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GZooWarning)
            found = getattr(gzoo, verb)(*arguments, **named)
            check_shown(found)
            capsys.readouterr()
            # the command of catalog takes predictions and the dataset as one list of paths
            words = ([one, dataset],) if verb == "catalog" else arguments
            cli.command(verb)(*words, **named, as_json=True)
        printed = json.loads(capsys.readouterr().out)
        warned = printed.pop("warnings")
        assert isinstance(warned, list)
        assert printed == {key: value for key, value in found.to_dict().items() if key != "warnings"}, verb


def test_a_dataset_and_its_loader_show_themselves(dataset: Path) -> None:
    opened = gzoo.open_dataset(dataset)
    check_shown(opened)
    n = {split: len(opened.read_votes(split)[1]) for split in opened.splits}
    assert opened.n_galaxies == opened.to_dict()["n_galaxies"] == n
    assert "(simulated)" in repr(opened)
    for augment in (None, "train"):
        batches = gzoo.loader(dataset, 8, 32, augment=augment)
        lines = repr(batches).split("\n")
        assert max(map(len, lines)) <= MAX_WIDTH
        assert len(lines) <= MAX_LINES
        Page(batches._repr_html_())
        facts = json.loads(json.dumps(batches.to_dict(), allow_nan=False))
        assert (facts["n_galaxies"], facts["n_batches"]) == (n["train"], len(batches))
        image = next(iter(batches))["image"]
        assert f"(galaxy, {', '.join(map(str, image.shape[1:]))})" in repr(batches)
        assert str(image.dtype).removeprefix("torch.") in repr(batches)
    check_shown(gzoo.augmentation("train"))


def test_a_vote_table_shows_itself(sky: SimulateResult) -> None:
    table = gzoo.read_votes(sky.votes, "gz2")
    check_shown(table)
    assert table.to_polars().height == table.to_dict()["n_used"] == len(table.votes)
