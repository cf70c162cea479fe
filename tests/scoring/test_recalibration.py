"""Recalibration: overconfident predictions become calibrated, on galaxies that it was not fitted on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gzoo
from gzoo.dataset.open import open_dataset
from gzoo.errors import DatasetError, InputError, OutputExistsError, TableError
from gzoo.scoring.dispersion import dispersion
from gzoo.scoring.intervals import Blocks
from gzoo.scoring.likelihood import dirichlet_multinomial_nll
from gzoo.scoring.pit import QuestionPrediction, draw_counts
from gzoo.scoring.prediction_files import prediction_table, write_prediction_table
from gzoo.scoring.predictions import Kind, read_predictions
from gzoo.scoring.recalibration import (
    QuestionRecalibration,
    Recalibration,
    best_parameters,
    fit_question,
    fit_recalibration,
    recalibrate,
)
from gzoo.scoring.scaling import Scaling, scaled
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

TWO = Question("two", ("a", "b"), ("two_a", "two_b"))
FOUR = Question("four", ("a", "b", "c", "d"), ("four_a", "four_b", "four_c", "four_d"))
SEVERAL = Question("several", ("a", "b"), ("several_a", "several_b"), multiple=True)


def changes(question: Question, factor: float = 1.0, temperature: float = 1.0) -> FloatArray:
    """The parameters of a scaling without biases."""
    return np.array([math.log(factor), math.log(temperature), *[0.0] * len(question.columns)])


def galaxies(
    question: Question, n: int, seed: int, *, factor: float = 1.0, temperature: float = 1.0, most: int = 40
) -> tuple[IntArray, IntArray, FloatArray]:
    """Vote counts, total votes, and predictions that `factor` and `temperature` would correct."""
    rng = np.random.default_rng(seed)
    volunteers = rng.integers(1, most + 1, n)
    stated = np.exp(rng.normal(0.5, 1.0, (1, n, len(question.columns))))
    truth = scaled(stated, changes(question, factor, temperature), is_fraction=False)
    return draw_counts(volunteers, QuestionPrediction(truth, True, question), rng), volunteers, stated


def check_dispersion(
    counts: IntArray, volunteers: IntArray, values: FloatArray, question: Question
) -> tuple[float, float]:
    n = len(volunteers)
    found = dispersion(
        counts, volunteers, QuestionPrediction(values, True, question), Blocks(np.arange(n), n, "galaxies")
    )["dispersion_factor"]
    assert found["low"] is not None
    assert found["high"] is not None
    return found["low"], found["high"]


@pytest.mark.parametrize("question", [TWO, FOUR])
@pytest.mark.parametrize(("factor", "temperature"), [(0.4, 1.0), (2.5, 1.0), (1.0, 1.5), (0.5, 0.7), (1.0, 1.0)])
def test_known_parameters_are_recovered(question: Question, factor: float, temperature: float) -> None:
    counts, volunteers, stated = galaxies(question, 6000, 1, factor=factor, temperature=temperature)
    found = fit_question(counts, volunteers, stated, question, "concentrations")
    assert found.factor == (pytest.approx(factor, rel=0.1),)
    assert found.temperature == (pytest.approx(temperature, rel=0.07),)
    assert found.n_galaxies == 6000


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_other_galaxies_are_calibrated_afterwards(factor: float) -> None:
    counts, volunteers, stated = galaxies(FOUR, 4000, 2, factor=factor, temperature=1.3)
    found = fit_question(counts, volunteers, stated, FOUR, "concentrations")
    counts, volunteers, stated = galaxies(FOUR, 4000, 3, factor=factor, temperature=1.3)
    low, high = check_dispersion(counts, volunteers, stated, FOUR)
    assert not low <= 1 <= high
    corrected = found.apply(stated, FOUR, "concentrations")
    low, high = check_dispersion(counts, volunteers, corrected, FOUR)
    assert 0.88 < low <= 1.03
    assert 0.97 <= high < 1.12


def test_fractions_get_the_right_concentration() -> None:
    rng = np.random.default_rng(4)
    fractions = rng.dirichlet([2.0, 1.0, 1.0, 3.0], 5000)
    volunteers = rng.integers(2, 41, 5000)
    counts = draw_counts(volunteers, QuestionPrediction(12 * fractions[None], True, FOUR), rng)
    found = fit_question(counts, volunteers, fractions[None], FOUR, "fractions")
    assert found.factor == (pytest.approx(12, rel=0.08),)
    assert found.temperature == (pytest.approx(1, rel=0.05),)
    assert found.gain is not None
    assert found.gain > 0.1


@pytest.mark.parametrize("kind", ["concentrations", "fractions"])
def test_each_of_several_answers_has_a_factor_and_a_temperature(kind: Kind) -> None:
    rng = np.random.default_rng(5)
    logits, total, temperature = rng.normal(0, 2, (1, 8000, 2)), np.array([6.0, 60.0]), np.array([2.0, 1.0])
    true, stated = (1 / (1 + np.exp(-one)) for one in (logits / temperature, logits))
    volunteers = rng.integers(5, 30, 8000)
    truth = np.concatenate([total * true, total * (1 - true)], axis=-1)
    counts = draw_counts(volunteers, QuestionPrediction(truth, True, SEVERAL), rng)
    values = stated if kind == "fractions" else 30 * np.concatenate([stated, 1 - stated], axis=-1)
    found = fit_question(counts, volunteers, values, SEVERAL, kind)
    expected = total if kind == "fractions" else total / 30
    assert found.factor == pytest.approx(expected.tolist(), rel=0.15)
    assert found.temperature == pytest.approx(temperature.tolist(), rel=0.05)
    made = found.apply(values, SEVERAL, kind)
    np.testing.assert_allclose(made, truth, rtol=0.3)
    np.testing.assert_allclose(made[..., :2] + made[..., 2:], np.broadcast_to(total, made[..., :2].shape), rtol=0.15)


def test_all_members_of_a_mixture_get_the_same_factor() -> None:
    rng = np.random.default_rng(6)
    stated = np.exp(rng.normal(0.5, 1.0, (3, 5000, 2)))
    volunteers = rng.integers(2, 30, 5000)
    counts = draw_counts(volunteers, QuestionPrediction(0.5 * stated, True, TWO), rng)
    assert fit_question(counts, volunteers, stated, TWO, "concentrations").factor == (pytest.approx(0.5, rel=0.15),)


# ----------------------------------------------------------------------------------------------------
# Overconfidence by any factor, biases, and what recalibration costs


def overconfident(n: int, n_votes: int, true: float, predicted: float, seed: int) -> Scaling:
    """Votes of a concentration, and predictions of another one with the same fractions."""
    rng = np.random.default_rng(seed)
    fractions, volunteers = rng.dirichlet([1.5] * 4, n)[None], np.full(n, n_votes)
    counts = draw_counts(volunteers, QuestionPrediction(true * fractions, True, FOUR), rng)
    return Scaling.of(counts, volunteers, predicted * fractions, is_fraction=False)


@pytest.mark.parametrize(
    ("n", "n_votes", "true", "predicted"),
    [*((3000, 12, 20.0, total) for total in (1e4, 1e5, 1e6, 2e8)), *((300, 5, 5.0, total) for total in (5e3, 5e7))],
)
def test_overconfidence_by_any_factor_is_corrected(n: int, n_votes: int, true: float, predicted: float) -> None:
    votes = overconfident(n, n_votes, true, predicted, 1)
    factor, temperature, *bias = best_parameters(votes)
    assert predicted * math.exp(factor) == pytest.approx(true, rel=0.1 if n == 3000 else 0.3)
    assert temperature == pytest.approx(0, abs=0.02)
    assert bias == [0.0] * 4


@pytest.mark.parametrize("wrong_by", [0.01, 10.0, 1e3, 1e7])
def test_recalibration_reaches_the_gain_of_the_best_factor_on_fresh_galaxies(wrong_by: float) -> None:
    fresh, best = overconfident(5000, 10, 5.0, 5 * wrong_by, 0), changes(FOUR, 1 / wrong_by)
    possible = (fresh.cost(changes(FOUR))[0] - fresh.cost(best)[0]).mean()
    fits = [best_parameters(overconfident(300, 10, 5.0, 5 * wrong_by, seed)) for seed in range(1, 6)]
    gain = np.mean([(fresh.cost(changes(FOUR))[0] - fresh.cost(fit)[0]).mean() for fit in fits])
    assert possible > 0.1
    assert gain > 0.95 * possible


def test_recalibration_reaches_most_of_a_small_gain() -> None:
    """300 galaxies estimate one number at a cost of 0.5 / 300 nats per galaxy, an eighth of what can be gained here."""
    fresh, best = overconfident(5000, 5, 25.0, 250.0, 0), changes(FOUR, 0.1)
    possible = (fresh.cost(changes(FOUR))[0] - fresh.cost(best)[0]).mean()
    fits = [best_parameters(overconfident(300, 5, 25.0, 250.0, seed)) for seed in range(1, 21)]
    gain = np.mean([(fresh.cost(changes(FOUR))[0] - fresh.cost(fit)[0]).mean() for fit in fits])
    assert 0.01 < possible < 0.02
    assert gain > 0.75 * possible


def test_a_calibrated_model_loses_little_at_50_galaxies() -> None:
    costs: list[float] = []
    for n_votes, true in ((1, 20.0), (5, 2.0), (5, 200.0), (40, 20.0)):
        fresh = overconfident(5000, n_votes, true, true, 0)
        fits = [best_parameters(overconfident(50, n_votes, true, true, seed)) for seed in range(1, 11)]
        costs.append(float(np.mean([(fresh.cost(fit)[0] - fresh.cost(changes(FOUR))[0]).mean() for fit in fits])))
    assert max(costs) < 0.05
    assert abs(costs[0]) < 1e-3  # single votes do not constrain concentrations


def test_a_calibrated_model_loses_little_at_20_galaxies() -> None:
    lost: list[float] = []
    for seed in range(20):
        fit = best_parameters(Scaling.of(*galaxies(TWO, 20, seed), is_fraction=False))
        fresh = Scaling.of(*galaxies(TWO, 500, 1000 + seed), is_fraction=False)
        lost.append(float((fresh.cost(fit)[0] - fresh.cost(changes(TWO))[0]).mean()))
    assert np.mean(lost) < 0.01


@pytest.mark.parametrize("question", [TWO, FOUR, SEVERAL])
def test_a_clear_bias_is_corrected_and_only_that(question: Question) -> None:
    rng = np.random.default_rng(9)
    volunteers, n_answers = rng.integers(5, 30, 4000), len(question.columns)
    stated = np.exp(rng.normal(0.5, 1, (1, 4000, n_answers * (1 + question.multiple))))
    shift = np.array([0.3, *[0.0] * (len(question.columns) - 1)])
    ones = (1.0,) * (n_answers if question.multiple else 1)
    truth = QuestionRecalibration(ones, ones, tuple(shift), 0, None).apply(stated, question, "concentrations")
    counts = draw_counts(volunteers, QuestionPrediction(truth, True, question), rng)
    found = fit_question(counts, volunteers, stated, question, "concentrations")
    expected = shift if question.multiple else shift - shift.mean()
    assert found.bias == pytest.approx(expected.tolist(), abs=0.06)
    assert found.temperature == pytest.approx(ones, abs=0.05)
    assert found.factor == pytest.approx(ones, abs=0.12)
    assert found.gain is not None
    assert found.gain > 0.005
    unbiased = draw_counts(volunteers, QuestionPrediction(stated, True, question), rng)
    assert not any(fit_question(unbiased, volunteers, stated, question, "concentrations").bias)


def test_the_gain_is_measured_on_galaxies_that_were_not_fitted() -> None:
    claimed: list[float] = []
    real: list[float] = []
    fresh = overconfident(5000, 5, 20.0, 20.0, 0)
    for seed in range(1, 21):  # of calibrated predictions every gain on the fitted galaxies is an illusion
        votes = overconfident(60, 5, 20.0, 20.0, seed)
        values = np.exp(votes.logs + votes.log_total)
        found = fit_question(votes.counts, votes.totals, values, FOUR, "concentrations")
        assert found.gain is not None
        claimed.append(found.gain)
        parameters = changes(FOUR, *found.factor, *found.temperature) + np.array([0, 0, *found.bias])
        real.append(float((fresh.cost(changes(FOUR))[0] - fresh.cost(parameters)[0]).mean()))
    assert np.mean(claimed) < 0.002
    assert np.mean(claimed) == pytest.approx(np.mean(real), abs=0.01)
    few = overconfident(9, 5, 20.0, 20.0, 1)
    assert fit_question(few.counts, few.totals, np.exp(few.logs), FOUR, "fractions").gain is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 30), st.integers(1, 3))
def test_few_votes_change_little(seed: int, n: int, most: int) -> None:
    counts, volunteers, stated = galaxies(FOUR, n, seed, most=most)
    found = fit_question(counts, volunteers, stated, FOUR, "concentrations")
    assert 0.05 < found.factor[0] < 20  # 30 galaxies with 3 votes contain little information
    assert 0.4 < found.temperature[0] < 2.5
    assert np.isfinite(found.apply(stated, FOUR, "concentrations")).all()


def test_one_vote_per_galaxy_does_not_change_the_concentration() -> None:
    counts, volunteers, stated = galaxies(FOUR, 3000, 7, factor=0.2, most=1)
    assert fit_question(counts, volunteers, stated, FOUR, "concentrations").factor == (pytest.approx(1.0, abs=1e-3),)


@pytest.mark.parametrize("kind", ["concentrations", "fractions"])
def test_extreme_predictions_stay_positive_and_finite(kind: Kind) -> None:
    values = np.array([[[1e-7, 9e6], [1e-300, 1.0], [3.0, 4.0]]])
    if kind == "fractions":
        values = values / values.sum(axis=-1, keepdims=True)
        values[0, 1] = (0.0, 1.0)
    counts, volunteers = np.array([[1, 5], [1, 0], [2, 2]]), np.array([6, 1, 4])
    found = fit_question(counts, volunteers, values, TWO, kind)
    new = found.apply(values, TWO, kind)
    assert np.isfinite(new).all()
    assert (new > 0).all()


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 100), st.integers(0, 1000))
def test_temperature_1_keeps_fractions_and_multiplies_concentrations(factor: float, seed: int) -> None:
    stated = np.exp(np.random.default_rng(seed).normal(0, 2, (2, 5, 4)))
    assert scaled(stated, changes(FOUR, factor), is_fraction=False) == pytest.approx(factor * stated)


def test_json_is_read_back_and_invalid_json_rejected() -> None:
    fitted = fit_recalibration(*trees_galaxies(Tree("t", (TWO, SEVERAL)), 50, 8))
    text = json.dumps(fitted.to_dict(), allow_nan=False)
    assert Recalibration.from_dict(json.loads(text), Path("run.json")) == fitted
    for invalid in (
        None,
        [],
        {},
        {"kind": "guesses", "questions": {}},
        json.loads(text.replace('"factor": [', '"factor": [-')),
        json.loads(text.replace('"bias": [', '"bias": [NaN, ')),
    ):
        with pytest.raises(DatasetError, match="read the recalibration"):
            Recalibration.from_dict(invalid, Path("run.json"))


def trees_galaxies(tree: Tree, n: int, seed: int) -> tuple[Votes, FloatArray]:
    rng = np.random.default_rng(seed)
    stated = np.exp(rng.normal(0.5, 1.0, (1, n, len(tree.concentrations))))
    counts, totals = np.zeros((n, len(tree.columns)), np.int64), np.zeros((n, len(tree.questions)), np.int64)
    for i, question in enumerate(tree.questions):
        own = tree.slice(question.name)
        totals[:, i] = rng.integers(0, 20, n)
        values = stated[..., tree.concentration_slice(question.name)]
        counts[:, own] = draw_counts(totals[:, i], QuestionPrediction(values, True, question), rng)
    return Votes(tree, counts, totals), stated


# ----------------------------------------------------------------------------------------------------
# The verb


@pytest.fixture(scope="module")
def files(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Overconfident predictions for the test and the validation split, and for both."""
    opened = open_dataset(dataset)
    folder = tmp_path_factory.mktemp("predictions")
    tables: dict[str, pl.DataFrame] = {}
    for split in ("test", "validation", "train"):
        keys, votes = opened.read_votes(split)
        fractions = np.nan_to_num(votes.fractions, nan=0.5)
        tables[split] = prediction_table(keys, 300 * (0.8 * fractions + 0.05), opened.tree)
        write_prediction_table(folder / f"{split}.parquet", tables[split], {})
    write_prediction_table(folder / "both.parquet", pl.concat([tables["test"], tables["validation"]]), {})
    return folder / "test.parquet", folder / "validation.parquet", folder / "both.parquet"


def test_a_recalibrated_file_scores_better(files: tuple[Path, Path, Path], dataset: Path, tmp_path: Path) -> None:
    test, validation, _ = files
    made = recalibrate(test, dataset, validation=validation, out=tmp_path / "new.parquet")
    opened = open_dataset(dataset)
    _, votes = opened.read_votes("test")

    def cost(path: Path) -> float:
        values = read_predictions(path, opened.tree).concentrations[0]
        return float(dirichlet_multinomial_nll(votes.counts, values, opened.tree, votes.totals).sum())

    assert cost(made.path) < cost(test)
    assert not pl.read_parquet(made.path)["in_training_set"].any()
    about = json.loads(pq.read_schema(made.path).metadata[b"gzoo"])
    assert about["recalibration"] == json.loads(json.dumps(made.recalibration.to_dict()))
    gzoo.score(made.path, dataset)
    with pytest.raises(OutputExistsError, match="already contains a finished set of predictions"):
        recalibrate(test, dataset, validation=validation, out=tmp_path / "new.parquet")
    for one in (test, validation):
        content = one.read_bytes()
        with pytest.raises(InputError, match="is also an input"):
            recalibrate(test, dataset, validation=validation, out=one, overwrite=True)
        assert one.read_bytes() == content


def test_galaxies_used_for_the_fit_are_marked_and_not_scored(
    files: tuple[Path, Path, Path], dataset: Path, tmp_path: Path
) -> None:
    _, validation, both = files
    made = recalibrate(both, dataset, validation=validation, out=tmp_path / "new.parquet")
    marked = pl.read_parquet(made.path).filter("in_training_set")["id_str"].to_list()
    assert sorted(marked) == sorted(pl.read_parquet(validation)["id_str"].to_list())
    with pytest.raises(TableError, match="trained on"):
        gzoo.score(made.path, dataset)


def test_galaxies_of_the_train_split_are_rejected_for_validation(
    files: tuple[Path, Path, Path], dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(TableError, match="train-split galaxies"):
        recalibrate(files[0], dataset, validation=files[0].with_name("train.parquet"), out=tmp_path / "new.parquet")
    assert not (tmp_path / "new.parquet").exists()


def test_both_files_must_have_the_same_questions_and_kind(
    files: tuple[Path, Path, Path], dataset: Path, tmp_path: Path
) -> None:
    test, validation, _ = files
    table = pl.read_parquet(validation)
    table.drop([name for name in table.columns if "bar-gz2" in name]).write_parquet(tmp_path / "less.parquet")
    with pytest.raises(InputError, match="predicts question 'bar-gz2'"):
        recalibrate(test, dataset, validation=tmp_path / "less.parquet", out=tmp_path / "new.parquet")
    table.select(pl.col("^.*(id_str|dataset_name|_fraction)$")).write_parquet(tmp_path / "fractions.parquet")
    with pytest.raises(InputError, match="predicts concentrations"):
        recalibrate(test, dataset, validation=tmp_path / "fractions.parquet", out=tmp_path / "new.parquet")


def test_mixtures_and_files_with_only_id_str_stay_so(
    files: tuple[Path, Path, Path], dataset: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / path.name for path in files[:2]]
    for path, source in zip(paths, files[:2], strict=True):
        table = pl.read_parquet(source)
        columns = [name for name in table.columns if name.endswith("_concentration")]
        table.select(
            "id_str", *(pl.concat_list([pl.col(name), 2 * pl.col(name)]).alias(name) for name in columns)
        ).write_parquet(path)
    made = recalibrate(paths[0], dataset, validation=paths[1], out=tmp_path / "new.parquet")
    read = read_predictions(made.path, open_dataset(dataset).tree)
    assert read.concentrations.shape[0] == 2
    assert read.keys["dataset_name"].null_count() == len(read)
