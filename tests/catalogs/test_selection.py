"""Purity and completeness of selections, compared with simulations and with files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import gzoo
from gzoo.dataset.expression import And, Node, parse
from gzoo.dataset.names import Filter, Names, bind
from gzoo.dataset.open import open_dataset
from gzoo.errors import ExpressionError, GZooWarning, OutputExistsError
from gzoo.scoring.posterior import posterior
from gzoo.scoring.prediction_files import prediction_table, write_prediction_table
from gzoo.scoring.selection import Truth, against_votes, divided, on_votes, quality
from gzoo.trees.tree import FloatArray
from gzoo.votes.votes import Votes

TREE = gzoo.tree("gz2").published()
N = 40
TYPES = {f"{question.name}.{answer}.model": pl.Float64() for question in TREE.questions for answer in question.answers}
COUNTS = {column: pl.Int32() for column in TREE.columns}
NAMES = Names(TREE, {**COUNTS, **TYPES, "ra": pl.Float64()})

uncalibrated = pytest.mark.filterwarnings(
    "ignore:The predictions do not agree with held-out votes:gzoo.errors.GZooWarning"
)


def bound(text: str) -> Filter:
    return bind(parse(text), NAMES)


# ----------------------------------------------------------------------------------------------------
# Probabilities


@pytest.fixture(scope="module")
def concentrations() -> FloatArray:
    return np.exp(np.random.default_rng(1).normal(0.5, 1, (2, N, len(TREE.columns))))


@pytest.mark.parametrize(
    "text",
    [
        "bar.yes > 0.5",
        "not 0.3 < bar.yes.model <= 0.6",
        "bar.yes > 0.4 and disk-edge-on.no.model > 0.6",
        "bar.yes > 0.4 or not (disk-edge-on.no > 0.6 and smooth-or-featured.smooth < 0.3)",
        "smooth-or-featured.smooth > 0.3 and smooth-or-featured.featured-or-disk > 0.3",
        "spiral-winding.tight > spiral-winding.loose",
        "(bar.yes > 0.5 and ra < 180) or bar.yes > 0.8",
        "not (bar.yes > 0.5 or ra < 180) and has-spiral-arms.yes > 0.3",
        "(bar.yes > 0.5 and has-spiral-arms.yes > 0.5) or (bar.yes < 0.2 and has-spiral-arms.yes < 0.5)",
        "bar.yes = 0.5 or bar.yes in (0.2, 0.3)",
    ],
)
def test_the_probability_is_that_of_drawn_fractions(text: str, concentrations: FloatArray) -> None:
    rng = np.random.default_rng(2)
    found = bound(text)
    believed = posterior(Votes(TREE, rng.poisson(2, (N, len(TREE.columns)))), concentrations)
    table = pl.DataFrame({"ra": np.where(np.arange(N) % 3, np.linspace(0, 360, N), np.nan)})
    table = table.with_columns(**{column: pl.lit(0, pl.Int32) for column in TREE.columns})

    def mask(node: Node) -> np.ndarray:
        return bind(node, NAMES).mask(table).to_numpy()

    probability = Truth(found.node, found.quantities, believed, mask, n_draws=600).probability
    n_draws, total = 600, np.zeros(N)
    plain = bind(on_votes(found.node, found.quantities), Names(TREE, {"ra": pl.Float64(), **FRACTIONS}))
    for _ in range(n_draws // 20):  # 20 draws of each galaxy at once
        drawn = pl.concat([draw(believed, rng).with_columns(table["ra"]) for _ in range(20)])
        total += plain.mask(drawn).to_numpy().reshape(20, N).sum(axis=0)
    # two independent estimates from 600 draws each; 40 galaxies
    np.testing.assert_allclose(probability, total / n_draws, atol=5.5 * np.sqrt(0.25 * 2 / n_draws))
    assert 0 <= probability.min() <= probability.max() <= 1


FRACTIONS = {f"{question.name}.{answer}": pl.Float64() for question in TREE.questions for answer in question.answers}


def draw(believed: object, rng: np.random.Generator) -> pl.DataFrame:
    """One draw of all fractions: a member of the mixture for each question, then a Dirichlet distribution."""
    columns: dict[str, FloatArray] = {}
    for question in TREE.questions:
        own = TREE.slice(question.name)
        alpha, weights = believed.alpha[:, :, own], believed.weights[:, :, own.start]  # type: ignore[attr-defined]
        member = (rng.random(N) > weights[0]).astype(int)
        drawn = rng.standard_gamma(alpha[member, np.arange(N)])
        drawn /= drawn.sum(axis=1, keepdims=True)
        columns |= {f"{question.name}.{answer}": drawn[:, i] for i, answer in enumerate(question.answers)}
    return pl.DataFrame(columns)


def test_tests_on_fractions_define_the_truth_and_others_the_population() -> None:
    found = bound("bar.yes > 0.5 and ra < 9 and (bar.no < 0.5 or ra > 3) and bar.asked > 2 and bar.yes.model > bar.yes")
    truth, population = divided(found.node, found.quantities)
    assert str(truth) == "bar.yes > 0.5 and (bar.no < 0.5 or ra > 3)"
    assert str(population) == "ra < 9 and bar.asked > 2 and bar.yes.model > bar.yes"
    assert isinstance(truth, And)
    assert divided(parse("ra < 9"), bound("ra < 9").quantities) == (None, parse("ra < 9"))
    assert str(on_votes(truth, found.quantities)) == "bar-gz2.yes > 0.5 and (bar-gz2.no < 0.5 or ra > 3)"


def test_intervals_are_those_of_drawn_numbers() -> None:
    rng = np.random.default_rng(3)
    for n, a, b in ((2000, 0.3, 2.0), (30, 1.0, 1.0), (500, 0.02, 2.0)):
        probability = rng.beta(a, b, n)
        selected = probability > 0.3
        found = quality(probability, selected)
        true = rng.random((20_000, n)) < probability
        for one, ratios in (
            (found.purity, true[:, selected].mean(axis=1)),
            (found.completeness, (true[:, selected].sum(axis=1) / np.maximum(true.sum(axis=1), 1))[true.any(axis=1)]),
        ):
            assert one["low"] == pytest.approx(np.quantile(ratios, 0.05), abs=0.1 / np.sqrt(n))
            assert one["high"] == pytest.approx(np.quantile(ratios, 0.95), abs=0.1 / np.sqrt(n))
            assert one["value"] == pytest.approx(ratios.mean(), abs=0.1 / np.sqrt(n))


def test_nothing_selected_has_no_purity() -> None:
    found = quality(np.array([0.5, 0.2]), np.array([False, False]))
    assert found.purity == {"value": None, "low": None, "high": None}
    assert found.completeness["value"] == 0
    assert quality(np.zeros(2), np.array([True, False])).completeness["value"] is None
    assert quality(np.ones(0), np.ones(0, bool)).purity["value"] is None


def test_votes_taken_for_the_truth() -> None:
    true, known, selected = np.array([1, 1, 0, 0, 1]) > 0, np.array([1, 1, 1, 1, 0]) > 0, np.array([1, 0, 1, 0, 1]) > 0
    assert against_votes(true, known, selected) == (0.5, 0.5)
    assert against_votes(true, ~known, ~selected) == (None, 0.0)


# ----------------------------------------------------------------------------------------------------
# The verb


@pytest.fixture(scope="module")
def predictions(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    opened = open_dataset(dataset)
    keys = pl.concat([opened.read_votes(split)[0] for split in opened.splits])
    values = np.random.default_rng(4).uniform(0.5, 5, (keys.height, len(opened.tree.columns)))
    path = tmp_path_factory.mktemp("predicted") / "predictions.parquet"
    marked = prediction_table(keys, values, opened.tree).with_columns(in_training_set=pl.lit(False))
    write_prediction_table(path, marked, {"trained_by_scheme": opened.split_scheme})
    return path


@uncalibrated
def test_the_selected_galaxies_and_their_table(dataset: Path, predictions: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    text = "bar.yes.model > 0.5 and bar.yes.posterior > 0.2 and bar.yes.high > 0.5 and ra < 300 and split != 'border'"
    found = gzoo.select([predictions], dataset, where=text, out=out)
    table = pl.read_parquet(out)
    assert table.equals(found.to_polars())
    assert table.columns == [
        *("dataset_name", "id_str", "split", "bar-gz2.yes.model", "bar-gz2.yes.posterior", "bar-gz2.yes.high", "ra"),
        "truth_probability",
    ]
    values = pl.read_parquet(predictions)
    model = pl.col("bar-gz2_yes_concentration") / (
        pl.col("bar-gz2_yes_concentration") + pl.col("bar-gz2_no_concentration")
    )
    by_hand = table.join(values.with_columns(model=model), on=["dataset_name", "id_str"], how="left")
    np.testing.assert_allclose(by_hand["bar-gz2.yes.model"], by_hand["model"], rtol=1e-5)
    facts = json.loads(json.dumps(found.to_dict()))
    assert facts["n_selected"] == table.height > 0
    assert facts["population"] == "ra < 300 and split != 'border'"
    assert facts["truth"] == "bar-gz2.yes > 0.5 and bar-gz2.yes > 0.2 and bar-gz2.yes > 0.5"
    assert facts["purity"]["value"] == pytest.approx(table["truth_probability"].mean(), abs=0.01)
    assert facts["purity"]["low"] <= facts["purity"]["value"] <= facts["purity"]["high"]
    assert 0 < facts["against_votes"]["n_galaxies"] <= facts["n_population"]
    with pytest.raises(OutputExistsError):
        gzoo.select([predictions], dataset, where=text, out=out)


def test_without_predictions_only_galaxies_are_selected(dataset: Path) -> None:
    with pytest.warns(GZooWarning, match="compares a number of votes"):
        found = gzoo.select(
            None, dataset, where="smooth-or-featured.smooth >= .5 and smooth-or-featured-gz2_smooth > .6"
        )
    opened = open_dataset(dataset)
    votes = [opened.read_votes(split)[1] for split in opened.splits]
    column = opened.tree.columns.index("smooth-or-featured-gz2_smooth")
    assert found.n_selected == sum(int((one.fractions[:, column] >= 0.5).sum()) for one in votes)
    assert found.purity["value"] is None
    with pytest.raises(ExpressionError, match="needs predictions"):
        gzoo.select(None, dataset, where="bar.yes.model > 0.5")


def test_the_report_marks_what_is_not_calibrated(dataset: Path, predictions: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    with pytest.warns(GZooWarning, match="as wrong as the predictions"):
        found = gzoo.select([predictions], dataset, where="smooth-or-featured.smooth.model > 0.3", report=page)
    assert found.is_calibrated is False
    text = page.read_text()
    assert "NOT CALIBRATED" in text
    assert "smooth-or-featured.smooth.model &gt; 0.3" in text
    assert found.curves[0].thresholds[0] < 0.3 < found.curves[0].thresholds[-1]
    chosen = found.curves[0].qualities[found.curves[0].thresholds.index(0.3)]
    assert chosen.purity == found.purity
