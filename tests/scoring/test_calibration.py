"""Calibration: calibrated predictions pass, others are found, for any number of votes."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import gzoo
from gzoo.errors import InputError
from gzoo.reports.calibration import calibration_section
from gzoo.scoring.bands import LEVELS, coverage_curve
from gzoo.scoring.bias import answer_biases
from gzoo.scoring.calibration import (
    FAMILYWISE_ERROR_RATE,
    TESTS,
    Calibration,
    Test,
    _largest_bias,
    calibration_of,
    describe,
    question_calibration,
    question_tests,
    reliability,
)
from gzoo.scoring.dispersion import dispersion
from gzoo.scoring.intervals import Blocks, as_value, holm
from gzoo.scoring.likelihood import mixed, question_nll
from gzoo.scoring.pit import QuestionPrediction, answer_ranks, draw_counts, sequential_pit
from gzoo.scoring.predictions import Predictions
from gzoo.trees.campaign import campaigns
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

TWO = Question("two", ("a", "b"), ("two_a", "two_b"))
THREE = Question("three", ("a", "b", "c"), ("three_a", "three_b", "three_c"))
SEVERAL = Question("several", ("a", "b", "c"), ("several_a", "several_b", "several_c"), multiple=True)


class Fixed:
    """Random generator that always returns the same number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self, n: int) -> FloatArray:
        return np.full(n, self.value)


def fixed(value: float) -> np.random.Generator:
    return cast(np.random.Generator, Fixed(value))


def galaxies(n: int) -> Blocks:
    return Blocks(np.arange(n), n, "galaxies")


def drawn(
    question: Question,
    n: int,
    seed: int,
    *,
    votes: tuple[int, int] = (1, 40),
    factor: float = 1.0,
    members: int = 1,
    is_concentration: bool = True,
) -> tuple[IntArray, IntArray, QuestionPrediction]:
    rng = np.random.default_rng(seed)
    volunteers = rng.integers(votes[0], votes[1] + 1, n)
    width = len(question.columns) * (2 if question.multiple and is_concentration else 1)
    values = np.exp(rng.normal(0.5, 1.0, (members, n, width)))
    if not is_concentration:
        values /= values.sum(axis=-1, keepdims=True)
    truth = QuestionPrediction(values * factor if is_concentration else values, is_concentration, question)
    return draw_counts(volunteers, truth, rng), volunteers, QuestionPrediction(values, is_concentration, question)


# ----------------------------------------------------------------------------------------------------
# Randomised PIT


concentrations = st.floats(1e-3, 1e6)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(concentrations, concentrations), min_size=1, max_size=3),
    st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    st.booleans(),
)
def test_ranks_are_those_of_the_predictive_distribution(
    members: list[tuple[float, float]], votes: tuple[int, int], is_concentration: bool
) -> None:
    volunteers, n = votes
    values = np.array(members)[:, None, :]
    if is_concentration:
        p = np.mean([stats.betabinom.pmf(np.arange(volunteers + 1), volunteers, a, b) for a, b in members], axis=0)
    else:
        values = values / values.sum(axis=-1, keepdims=True)
        p = np.mean([stats.binom.pmf(np.arange(volunteers + 1), volunteers, a / (a + b)) for a, b in members], axis=0)
    counts, prediction = np.array([[n, volunteers - n]]), QuestionPrediction(values, is_concentration, TWO)
    low, high = (answer_ranks(counts, np.array([volunteers]), prediction, fixed(end)) for end in (0.0, 1.0))
    assert low.pit[0, 0] == pytest.approx(p[:n].sum(), abs=1e-8)
    assert high.pit[0, 0] == pytest.approx(p[: n + 1].sum(), abs=1e-8)
    gaps = np.log(p + 1e-300) - np.log(p[n] + 1e-300)
    if (np.abs(gaps)[(np.arange(volunteers + 1) != n)] > 1e-4).all():  # nearly equal probabilities depend on rounding
        assert low.density[0, 0] == pytest.approx(p[gaps > 0].sum(), abs=1e-8)
        assert high.density[0, 0] == pytest.approx(p[gaps >= 0].sum(), abs=1e-8)


def test_equally_probable_counts_have_the_same_rank() -> None:
    counts, prediction = (
        np.array([[1, 3], [3, 1]]),
        QuestionPrediction(np.ones((1, 2, 2)), True, TWO),
    )  # all counts are equally probable
    for end in (0.0, 1.0):
        assert answer_ranks(counts, np.array([4, 4]), prediction, fixed(end)).density[:, 0] == pytest.approx([end, end])


@pytest.mark.parametrize("question", [TWO, THREE])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("is_concentration", [True, False])
def test_sequential_pit_divides_the_unit_cube_by_the_probabilities_of_the_votes(
    question: Question, members: int, is_concentration: bool
) -> None:
    volunteers, n_answers = 4, len(question.columns)
    combinations = itertools.product(range(volunteers + 1), repeat=n_answers)
    counts = np.array([one for one in combinations if sum(one) == volunteers])
    rng = np.random.default_rng(1)
    values = np.exp(rng.normal(0, 1, (members, 1, n_answers)))
    if not is_concentration:
        values = values / values.sum(axis=-1, keepdims=True)
    n = np.full(len(counts), volunteers)
    prediction = QuestionPrediction(np.repeat(values, len(counts), axis=1), is_concentration, question)
    low, high = (sequential_pit(counts, n, prediction, fixed(end)) for end in (0.0, 1.0))
    volume = np.where(np.isfinite(low), high - low, 1.0).prod(axis=1)
    stated = np.repeat(values * (1 if is_concentration else 1e7), len(counts), axis=1)
    p = np.exp(-mixed([question_nll(counts, n, one) for one in stated]))
    assert volume == pytest.approx(p, abs=1e-5)
    assert volume.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("votes", [(1, 1), (1, 5), (2, 40)])
@pytest.mark.parametrize(
    ("question", "members", "is_concentration"),
    [(TWO, 1, True), (THREE, 1, True), (THREE, 3, True), (THREE, 1, False), (SEVERAL, 1, True), (TWO, 2, True)],
)
def test_ranks_are_uniform_for_calibrated_predictions(
    question: Question, members: int, is_concentration: bool, votes: tuple[int, int]
) -> None:
    counts, volunteers, prediction = drawn(
        question, 3000, 2, votes=votes, members=members, is_concentration=is_concentration
    )
    rng = np.random.default_rng(3)
    ranks = answer_ranks(counts, volunteers, prediction, rng)
    sequence = sequential_pit(counts, volunteers, prediction, rng)
    for one in (*ranks.pit.T, *ranks.density.T, sequence[np.isfinite(sequence)]):
        assert stats.kstest(one, "uniform").pvalue > 1e-3
    if question.multiple:  # each answer by itself
        np.testing.assert_allclose(sequential_pit(counts, volunteers, prediction, rng, ranks), ranks.pit)
    elif sequence.shape[1] > 1:
        known = np.isfinite(sequence).all(axis=1)
        assert abs(np.corrcoef(sequence[known, 0], sequence[known, 1])[0, 1]) < 0.07


def test_ranks_of_extreme_predictions_are_between_0_and_1() -> None:
    counts = np.array([[10_000, 0], [0, 10_000], [5000, 5000], [1, 0], [3, 4]])
    values = np.array([[[1e7, 1e-3], [1e7, 1e-3], [1e7, 1e7], [1e-3, 1e-3], [1e-12, 1e12]]])
    volunteers = counts.sum(axis=1)
    for is_concentration in (True, False):
        ranks = answer_ranks(
            counts, volunteers, QuestionPrediction(values, is_concentration, TWO), np.random.default_rng(0)
        )
        for one in ranks:
            assert ((one >= 0) & (one <= 1)).all()


# ----------------------------------------------------------------------------------------------------
# Tests


def test_calibrated_predictions_pass_for_all_questions_of_all_campaigns() -> None:
    questions = {question.name: question for one in campaigns() for question in one.tree.questions}
    assert len(questions) > 100
    for repetition in range(2):
        p_values: list[tuple[float, float]] = []
        for i, question in enumerate(questions.values()):
            votes = ((1, 1), (1, 5), (2, 40))[(i + repetition) % 3]
            counts, volunteers, prediction = drawn(question, 60, 1000 * repetition + i, votes=votes)
            tests = question_tests(counts, volunteers, prediction, galaxies(60), np.random.default_rng(i))
            p_values += [(p, weight) for test, weight in TESTS.items() if (p := tests[test]) is not None]
        assert min(holm(*zip(*p_values, strict=True))) > FAMILYWISE_ERROR_RATE


def wrong_total(true: float, factor: float, seed: int, n: int = 500, votes: int = 10) -> tuple[IntArray, FloatArray]:
    """Vote counts of a total concentration, and predictions of `factor` times as much."""
    rng = np.random.default_rng([seed, round(true)])
    fractions = rng.dirichlet([1.5] * 3, n)[None]
    return draw_counts(
        np.full(n, votes), QuestionPrediction(true * fractions, True, THREE), rng
    ), factor * true * fractions


@pytest.mark.parametrize("true", [2.0, 5.0])
@pytest.mark.parametrize("factor", [3.0, 1e3, 2e6, 1e9])
def test_overconfidence_by_any_factor_is_found(true: float, factor: float) -> None:
    for seed in range(4):
        counts, values = wrong_total(true, factor, seed)
        found = calibrated({THREE: (counts, counts.sum(axis=1), QuestionPrediction(values, True, THREE))})
        one = found["questions"]["three"]
        assert one["verdict"] == "overconfident"
        assert one["tests"]["dispersion"] is not None
        assert one["tests"]["dispersion"] < 1e-10
        value = one["dispersion"]["dispersion_factor"]["value"]
        assert value is not None
        assert value == pytest.approx(1 / factor, rel=0.25)
        low, high = (one["dispersion"]["dispersion_factor"][end] for end in ("low", "high"))
        assert low is not None
        assert high is not None
        assert low < value < high < 1


def test_calibrated_predictions_are_rarely_accused_at_any_concentration() -> None:
    n_accused = 0
    for seed, true in itertools.product(range(25), (2.0, 20.0, 1e4, 1e9)):
        counts, values = wrong_total(true, 1.0, seed, n=200)
        prediction = QuestionPrediction(values, True, THREE)
        tests = question_tests(counts, counts.sum(axis=1), prediction, galaxies(200), np.random.default_rng(seed))
        known: dict[Test, float] = {test: p for test in TESTS if (p := tests[test]) is not None}
        n_accused += min(holm(list(known.values()), [TESTS[test] for test in known])) <= FAMILYWISE_ERROR_RATE
    assert n_accused <= 5  # of 100, with a probability of 99.9%


@pytest.mark.parametrize("true", [20.0, 100.0])
@pytest.mark.parametrize("question", [TWO, THREE, SEVERAL])
def test_a_bias_is_called_bias_and_nothing_else(question: Question, true: float) -> None:
    rng, n = np.random.default_rng(3), 8000
    if question.multiple:
        fractions = rng.beta(2, 2, (n, 3))
        stated = fractions.copy()
        truth = np.concatenate([fractions, 1 - fractions], axis=1)
    else:
        truth = fractions = rng.dirichlet([1.5] * len(question.columns), n)
        more = np.minimum(0.04, 0.9 * (1 - fractions[:, 0]))
        stated = fractions * ((1 - fractions[:, 0] - more) / (1 - fractions[:, 0]))[:, None]
    stated[:, 0] = np.minimum(fractions[:, 0] + 0.04, 1 - 0.1 * (1 - fractions[:, 0]))
    if question.multiple:
        stated = np.concatenate([stated, 1 - stated], axis=1)
    counts = draw_counts(np.full(n, 40), QuestionPrediction(true * truth[None], True, question), rng)
    prediction = QuestionPrediction(true * stated[None], True, question)
    one = calibrated({question: (counts, np.full(n, 40), prediction)})["questions"][question.name]
    assert one["verdict"] == "biased"
    found = one["bias"][question.columns[0]]
    assert found["value"] == pytest.approx(0.04, abs=0.006)
    assert found["low"] is not None
    assert found["high"] is not None
    assert found["low"] < found["value"] < found["high"]
    assert f"predicted minus voted fraction of {question.columns[0]} is +0.0" in one["description"]
    factor = one["dispersion"]["dispersion_factor"]
    assert factor["value"] == pytest.approx(1, abs=0.2)
    assert one["dispersion"]["variance_ratio"]["value"] == pytest.approx(1, abs=0.08)


def test_the_sentence_on_a_bias_has_minus_signs_only_in_numbers() -> None:
    bias = {"bar-gz2_yes": {"value": -0.02, "low": -0.03, "high": -0.01, "p_value": 0.001}}
    assert _largest_bias(bias) == (  # type: ignore[arg-type]
        "predicted minus voted fraction of bar-gz2_yes is \N{MINUS SIGN}0.020, "
        "95% CI \N{MINUS SIGN}0.030 to \N{MINUS SIGN}0.010"
    )


def test_a_clear_small_bias_is_not_called_consistent() -> None:
    rng, n = np.random.default_rng(5), 4000
    fractions = rng.dirichlet([1.5] * 2, n)
    stated = fractions + np.array([0.012, -0.012])
    stated = np.clip(stated, 1e-3, 1 - 1e-3)
    counts = draw_counts(np.full(n, 40), QuestionPrediction(20 * fractions[None], True, TWO), rng)
    one = calibrated({TWO: (counts, np.full(n, 40), QuestionPrediction(20 * stated[None], True, TWO))})
    one = one["questions"]["two"]
    assert one["tests"]["bias"] is not None
    assert 1e-16 < one["tests"]["bias"] < 1e-6  # 5 to 8 standard errors
    assert one["verdict"] == "biased"
    assert one["description"].startswith("Biased: predicted minus voted fraction of two_a is +0.01")


def test_overconfidence_and_rare_answers_do_not_look_like_a_bias() -> None:
    p_values: list[float] = []
    for seed in range(60):
        counts, values = wrong_total(2.0, 1e9, seed, n=100)
        found = answer_biases(counts, counts.sum(axis=1), QuestionPrediction(values, True, THREE), galaxies(100))
        p_values += [one["p_value"] for one in found.values() if one["p_value"] is not None]
    assert stats.binomtest(sum(p < 0.05 for p in p_values), len(p_values), 0.05).pvalue > 1e-3
    rng = np.random.default_rng(0)
    values = np.broadcast_to([0.02, 10.0], (1, 40, 2))
    p_values = []
    for _ in range(400):
        counts = draw_counts(np.full(40, 5), QuestionPrediction(values, True, TWO), rng)
        found = answer_biases(counts, np.full(40, 5), QuestionPrediction(values, True, TWO), galaxies(40))
        p_values.append(found["two_a"]["p_value"] or 0.0)
    assert min(p_values) > 0.001


def test_sentences_agree_with_their_intervals() -> None:
    none = as_value(None, None, None)
    counts, values = wrong_total(5.0, 1.0, 0)
    prediction = QuestionPrediction(values, True, THREE)
    one = question_calibration(counts, np.full(500, 10), prediction, galaxies(500), np.random.default_rng(0))
    one["verdict"] = "consistent"
    for (low, high), words in {
        (0.1, 0.9): "in isolation, votes look overdispersed",
        (0.05, 0.9): "in isolation, votes look overdispersed",
        (None, 0.9): "in isolation, votes look overdispersed",
        (1.1, None): "in isolation, votes look underdispersed",
        (1.1, 9.0): "in isolation, votes look underdispersed",
        (0.1, 9.0): "hardly constrain",
        (None, 9.0): "hardly constrain",
        (0.9, 1.1): "votes vary as predicted",
    }.items():
        one["dispersion"]["dispersion_factor"] = {**none, "value": 1.0, "low": low, "high": high}
        assert words in describe(one)
        assert ("hardly" in describe(one)) == (words == "hardly constrain")


@pytest.mark.parametrize("votes", [3, 40])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_power_against_a_wrong_concentration_is_nearly_optimal(votes: int, factor: float) -> None:
    n = {3: 700, 40: 60}[votes]
    n_found, best, null = 0, [], []
    for seed in range(60):
        counts, volunteers, prediction = drawn(THREE, n, seed, votes=(votes, votes), factor=factor)
        p = dispersion(counts, volunteers, prediction, galaxies(n))["p_value"]
        n_found += p is not None and p < 0.01
        for sums, true in ((best, factor), (null, 1.0)):
            counts, volunteers, prediction = drawn(THREE, n, 1000 + seed, votes=(votes, votes), factor=true)
            alpha = prediction.values[0]
            sums.append(
                float(
                    (question_nll(counts, volunteers, alpha) - question_nll(counts, volunteers, factor * alpha)).sum()
                )
            )
    threshold = np.mean(null) + stats.norm.ppf(0.995) * np.std(null)
    n_best = int((np.array(best) > threshold).sum())
    assert n_best > 40  # the difference is detectable at all
    assert n_found > 0.8 * n_best


def test_single_votes_do_not_constrain_dispersion() -> None:
    counts, volunteers, prediction = drawn(TWO, 2000, 1, votes=(1, 1), factor=0.1)
    found = calibrated({TWO: (counts, volunteers, prediction)})["questions"]["two"]
    assert found["verdict"] == "insufficient data"
    assert found["description"].startswith("Insufficient data: every galaxy has only one vote")
    assert found["dispersion"]["dispersion_factor"]["value"] is None
    assert found["tests"]["dispersion"] is None


def calibrated(
    questions: dict[Question, tuple[IntArray, IntArray, QuestionPrediction]], blocks: Blocks | None = None
) -> Calibration:
    tree = Tree("t", tuple(questions))
    counts = np.column_stack([one[0] for one in questions.values()])
    totals = np.column_stack([one[1] for one in questions.values()])
    values = np.concatenate([one[2].values for one in questions.values()], axis=-1)
    kind = "concentrations" if next(iter(questions.values()))[2].is_concentration else "fractions"
    n = len(counts)
    keys = pl.DataFrame({"dataset_name": ["x"] * n, "id_str": [str(i) for i in range(n)]})
    names = tuple(question.name for question in tree.questions)
    predictions = Predictions(tree, keys, kind, values, names, np.zeros(n, bool), Path("p.parquet"))
    return calibration_of(Votes(tree, counts, totals), predictions, blocks or galaxies(n))


def test_verdicts_name_the_direction_of_an_error() -> None:
    biased = drawn(SEVERAL, 2000, 4)
    biased = (biased[0], biased[1], QuestionPrediction(biased[2].values * [2, 2, 2, 1, 1, 1], True, SEVERAL))
    found = calibrated(
        {TWO: drawn(TWO, 2000, 1, factor=0.4), THREE: drawn(THREE, 2000, 2, factor=2.5), SEVERAL: biased}
    )
    results = {name: (one["verdict"], one["description"]) for name, one in found["questions"].items()}
    assert results["two"][0] == "overconfident"
    assert "Overconfident: votes are overdispersed" in results["two"][1]
    assert results["three"][0] == "underconfident"
    assert results["several"][0] in ("biased", "overconfident")
    held = calibrated({TWO: drawn(TWO, 2000, 1), THREE: drawn(THREE, 2000, 2), SEVERAL: drawn(SEVERAL, 2000, 3)})
    assert {one["verdict"] for one in held["questions"].values()} == {"consistent"}


def dependent(n: int, seed: int, factor: float = 1.0) -> tuple[IntArray, IntArray, QuestionPrediction]:
    """Votes of volunteers who give all answers or none, and predictions that know everything but this."""
    rng = np.random.default_rng(seed)
    volunteers = rng.integers(2, 41, n)
    yes, no = np.exp(rng.normal(0.5, 1.0, (2, n)))
    votes = rng.binomial(volunteers, rng.beta(factor * yes, factor * no))
    values = np.stack([yes, yes, yes, no, no, no], axis=-1)[None]
    return np.stack([votes] * 3, axis=-1), volunteers, QuestionPrediction(values, True, SEVERAL)


@pytest.mark.parametrize("blocks", ["galaxies", pytest.param("sky cells", marks=pytest.mark.slow)])
def test_perfectly_dependent_answers_do_not_reject_a_perfect_predictor(blocks: str) -> None:
    units = galaxies(400) if blocks == "galaxies" else Blocks(np.arange(400) // 4, 100, "sky cells")
    p_values: list[float] = []
    outside = 0
    for seed in range(60):
        counts, volunteers, prediction = dependent(400, seed)
        found = question_calibration(counts, volunteers, prediction, units, np.random.default_rng(seed))
        p_values += [min(1.0, 4 * min(p for p in found["tests"].values() if isinstance(p, float)))]
        assert found["pit"] is not None
        outside += max(found["pit"]["density"]) > found["pit"]["high"]
    assert np.mean(np.array(p_values) < 0.05) < 0.12  # 5% of 60, and three standard errors
    assert min(p_values) > 1e-4
    assert outside < 8
    counts, volunteers, prediction = dependent(400, 0, factor=0.4)
    wrong = question_tests(counts, volunteers, prediction, units, np.random.default_rng(0))
    assert wrong["dispersion"] is not None
    assert wrong["dispersion"] < 1e-4


def test_the_spread_of_several_answers_is_tested() -> None:
    for factor, verdict in ((0.4, "overconfident"), (2.5, "underconfident")):
        found = calibrated({SEVERAL: drawn(SEVERAL, 1000, 2, factor=factor)})["questions"]["several"]
        assert found["verdict"] == verdict
        assert found["dispersion"]["dispersion_factor"]["value"] == pytest.approx(factor, rel=0.15)


def test_point_predictions_are_overconfident_for_overdispersed_votes() -> None:
    counts, volunteers, prediction = drawn(THREE, 1500, 5)
    fractions = QuestionPrediction(prediction.fractions, False, THREE)
    found = calibrated({THREE: (counts, volunteers, fractions)})["questions"]["three"]
    assert found["verdict"] == "overconfident"
    assert found["dispersion"]["dispersion_factor"]["value"] is None
    assert found["dispersion"]["concentration"]["high"] is not None
    counts, volunteers, prediction = drawn(THREE, 1500, 6, is_concentration=False)
    found = calibrated({THREE: (counts, volunteers, prediction)})["questions"]["three"]
    assert found["verdict"] == "consistent"
    assert found["dispersion"]["concentration"]["high"] is None


# ----------------------------------------------------------------------------------------------------
# Dispersion, curves, reliability


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.5, 1.0, 3.0]), st.integers(2, 20), st.integers(1, 2))
def test_the_dispersion_factor_maximises_the_likelihood(seed: int, factor: float, most: int, members: int) -> None:
    counts, volunteers, prediction = drawn(THREE, 150, seed, votes=(2, most), factor=factor, members=members)
    found = dispersion(counts, volunteers, prediction, galaxies(150))

    def cost(scale: float) -> float:
        return float(mixed([question_nll(counts, volunteers, scale * one) for one in prediction.values]).sum())

    grid = np.exp(np.linspace(math.log(1e-3), math.log(1e3), 200))
    least = min(cost(one) for one in grid.tolist())
    value = found["dispersion_factor"]["value"]
    assert cost(1e3 if value is None else value) <= least + 1e-3
    gain = 2 * max(0.0, cost(1.0) - cost(1e3 if value is None else value))
    assert found["p_value"] == pytest.approx(2 * stats.norm.sf(math.sqrt(gain)), abs=1e-3)


def test_votes_without_variance_have_no_upper_limit_of_the_factor() -> None:
    volunteers = np.full(40, 10)
    counts = np.column_stack([np.full(40, 5), np.full(40, 5)])
    found = dispersion(counts, volunteers, QuestionPrediction(np.full((1, 40, 2), 3.0), True, TWO), galaxies(40))
    assert found["dispersion_factor"]["value"] is None
    assert found["dispersion_factor"]["high"] is None
    assert found["dispersion_factor"]["low"] is not None
    assert found["dispersion_factor"]["low"] > 1


def test_intervals_of_curves_cover_the_population() -> None:
    truth = np.array(coverage(5, 60_000)["coverage"])
    held = np.zeros((120, len(LEVELS)))
    whole = np.zeros(120)
    for seed in range(120):
        curve = coverage(100 + seed, 300)
        ends = [np.array(curve[end], float) for end in ("low", "high", "band_low", "band_high")]
        held[seed] = (ends[0] <= truth) & (truth <= ends[1])
        whole[seed] = ((ends[2] <= truth) & (truth <= ends[3])).all()
    assert 0.93 < held.mean() < 0.975
    assert 0.9 < whole.mean() < 0.99


def coverage(seed: int, n: int) -> dict[str, list[float]]:
    counts, volunteers, prediction = drawn(THREE, n, seed, votes=(2, 40), factor=0.5)
    rng = np.random.default_rng(seed)
    curve = coverage_curve(answer_ranks(counts, volunteers, prediction, rng).density, galaxies(n), rng)
    return cast("dict[str, list[float]]", curve)


def test_errors_common_to_cells_widen_intervals_and_weaken_tests() -> None:
    rng = np.random.default_rng(7)
    n, n_cells = 3000, 60
    labels = np.arange(n) % n_cells
    stated = np.exp(rng.normal(0.5, 1.0, (1, n, 2)))
    shared = np.exp(rng.normal(0, 0.6, (n_cells, 2)))[labels]
    volunteers = rng.integers(5, 40, n)
    counts = draw_counts(volunteers, QuestionPrediction(stated * shared, True, TWO), rng)
    prediction = QuestionPrediction(stated, True, TWO)
    alone = question_calibration(counts, volunteers, prediction, galaxies(n), np.random.default_rng(0))
    cells = question_calibration(
        counts, volunteers, prediction, Blocks(labels, n_cells, "sky cells"), np.random.default_rng(0)
    )

    def width(found: object) -> float:
        curve = cast("dict[str, list[float]]", found)
        return float(np.sum(np.array(curve["high"]) - np.array(curve["low"])))

    assert width(cells["central"]) > 1.3 * width(alone["central"])
    assert cells["central"] is not None
    assert alone["central"] is not None
    assert cells["central"]["coverage"] == alone["central"]["coverage"]
    assert cells["n_units"] == n_cells
    for test in ("pit", "central"):
        weaker, stronger = cells["tests"][test], alone["tests"][test]
        assert weaker is not None
        assert stronger is not None
        assert weaker > stronger


def test_the_noise_correction_removes_the_sampling_noise_of_votes() -> None:
    plain, corrected = [], []
    for seed in range(60):
        counts, volunteers, prediction = drawn(TWO, 400, seed, votes=(1, 5))
        found = reliability(counts[:, 0] / volunteers, prediction.fractions[0, :, 0], galaxies(400))
        plain.append(found["mse"])
        corrected.append(found["mse_noise_corrected"]["value"])
    error = np.std(corrected) / math.sqrt(len(corrected))
    assert abs(np.mean(corrected)) < 3 * error
    assert np.mean(plain) > 10 * error


def test_reliability_shows_a_bias() -> None:
    counts, volunteers, prediction = drawn(TWO, 5000, 1)
    found = reliability(counts[:, 0] / volunteers, prediction.fractions[0, :, 0] * 0.8, galaxies(5000))
    assert (found["mse_noise_corrected"]["low"] or 0) > 0.005
    assert sum(group["n_galaxies"] for group in found["groups"]) == sum(found["histogram"]) == 5000
    assert all(group["low"] <= group["voted"] <= group["high"] for group in found["groups"])


# ----------------------------------------------------------------------------------------------------
# The result and its section of the report


@pytest.mark.parametrize("n", [0, 1, 2, 9, 10])
@pytest.mark.parametrize("is_concentration", [True, False])
def test_few_galaxies_are_accepted(n: int, is_concentration: bool) -> None:
    questions = {question: drawn(question, n, 1, is_concentration=is_concentration) for question in (TWO, THREE)}
    found = calibrated(questions)
    json.dumps(found, allow_nan=False)
    for one in found["questions"].values():
        assert one["description"]
        assert one["n_galaxies"] == n
        if n == 0:
            assert (one["verdict"], one["central"], one["pit"]) == ("insufficient data", None, None)
        elif one["central"]:
            assert (one["central"]["low"][0] is None) == (n < 10)
    str(calibration_section(found, Tree("t", (TWO, THREE))))


def test_the_same_seed_gives_the_same_result() -> None:
    first = calibrated({THREE: drawn(THREE, 100, 1)})
    assert first == calibrated({THREE: drawn(THREE, 100, 1)})


def test_different_numbers_of_galaxies_are_rejected() -> None:
    with pytest.raises(InputError, match="100 in the votes, 100 in the predictions, 99 in the blocks"):
        calibrated({THREE: drawn(THREE, 100, 1)}, galaxies(99))


def test_a_random_sample_is_used_of_very_many_galaxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gzoo.scoring.calibration.MAX_GALAXIES", 200)
    found = calibrated({THREE: drawn(THREE, 1000, 1, factor=0.2)})["questions"]["three"]
    assert (found["n_galaxies"], found["n_used"]) == (1000, 200)
    assert found["verdict"] == "overconfident"


def test_the_section_shows_every_question_and_escapes_names() -> None:
    hostile = Question("<script>alert(1)</script>", ("<b>", "b"), ("x_a", "x_b"))
    questions = {
        hostile: drawn(hostile, 100, 1),
        THREE: drawn(THREE, 100, 2, factor=0.1),
        SEVERAL: drawn(SEVERAL, 100, 3),
    }
    found = calibrated(questions)
    page = str(calibration_section(found, Tree("t", tuple(questions))))
    assert "<script" not in page
    assert "<b>" not in page
    parsed = ElementTree.fromstring(page.replace("&times;", "x"))
    figures = [one for one in parsed.iter() if one.tag.endswith("svg")]
    assert len(figures) == 2 + (2 + 1) + (2 + 3) + (2 + 3)  # dispersion factors for a laptop and for a phone
    for one in found["questions"].values():
        assert one["description"].split(" (")[0] in " ".join("".join(parsed.itertext()).split())


def test_a_part_of_a_tree_can_be_predicted() -> None:
    tree = gzoo.tree("gz2")
    n = 50
    keys = pl.DataFrame({"dataset_name": ["x"] * n, "id_str": [str(i) for i in range(n)]})
    values = np.full((1, n, len(tree.columns)), np.nan)
    values[..., tree.slice("bar-gz2")] = 2.0
    predictions = Predictions(tree, keys, "concentrations", values, ("bar-gz2",), np.zeros(n, bool), Path("p"))
    counts = np.ones((n, len(tree.columns)), np.int64)
    assert list(calibration_of(Votes(tree, counts), predictions, galaxies(n))["questions"]) == ["bar-gz2"]
