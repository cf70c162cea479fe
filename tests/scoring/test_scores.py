"""Scores: each number equals its definition, and the intervals have the stated coverage."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import gzoo
from gzoo.scoring import Scores, Value, dirichlet_multinomial_nll, expected_fractions, fit_baseline
from gzoo.scoring.ordered import ranked_probability_score
from gzoo.scoring.scores import compute
from gzoo.simulator import simulate
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

TREE = Tree(
    "small",
    (
        Question("q", ("a", "b", "c"), ("q_a", "q_b", "q_c")),
        Question("m", ("x", "y"), ("m_x", "m_y"), ("q_a", "q_b"), multiple=True),
        Question("r", ("s", "t"), ("r_s", "r_t"), ("q_a",)),
        Question("never", ("s", "t"), ("never_s", "never_t"), ("q_c",)),
    ),
)
RINGS = gzoo.tree("gz_rings")
KINDS = (
    "log_likelihood",
    "baseline_log_likelihood",
    "log_likelihood_gain",
    "rmse",
    "mse_noise_corrected",
    "rmse_noise_corrected",
)


def simulated(n: int, seed: int = 0, volunteers: int = 30) -> tuple[Votes, FloatArray]:
    """Galaxies with different concentrations, and votes drawn from them; question `never` has no votes."""
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2.0, 3.0, (n, len(TREE.concentrations))) + 0.1
    counts = np.zeros((n, len(TREE.columns)), np.int64)
    for row, own in zip(counts, truth, strict=True):
        row[:3] = rng.multinomial(rng.integers(0, volunteers + 1), rng.dirichlet(own[:3]))
        row[3:5] = rng.binomial(row[0] + row[1], rng.beta(own[3:5], own[5:7]))
        row[5:7] = rng.multinomial(row[0], rng.dirichlet(own[7:9]))
    return Votes(TREE, counts), truth


def value(scores: Scores, question: str, kind: str) -> Value:
    of = scores.overall if question == "overall" else scores.questions[question]
    return cast(Value, cast("dict[str, object]", of)[kind])


def number(scores: Scores, question: str, kind: str) -> float:
    found = value(scores, question, kind)["value"]
    assert found is not None
    return found


def baseline_of(alpha: FloatArray) -> FloatArray:
    return np.broadcast_to(alpha.mean(axis=0), alpha.shape)


# --- definitions --------------------------------------------------------------------------------------------------


def squared_errors(votes: Votes, alpha: FloatArray, questions: list[str]) -> tuple[list[float], list[float]]:
    """Over galaxies with at least 2 votes and all answers: (e - f)^2, and f (1 - f) / (N - 1)."""
    expected, square, noise = expected_fractions(alpha, TREE), [], []
    for i, question in enumerate(TREE.questions):
        for row in range(len(votes)):
            n = int(votes.totals[row, i])
            if question.name not in questions or n < 2:
                continue
            for answer in range(*TREE.slice(question.name).indices(len(TREE.columns))):
                f = votes.counts[row, answer] / n
                square.append((expected[row, answer] - f) ** 2)
                noise.append(f * (1 - f) / (n - 1))
    return square, noise


@pytest.mark.parametrize("question", ["q", "m", "r", "overall"])
def test_errors_equal_their_definitions(question: str) -> None:
    votes, truth = simulated(80)
    alpha = truth * np.random.default_rng(1).uniform(0.2, 5, truth.shape)
    scores = compute(votes, alpha, baseline_of(truth))
    square, noise = squared_errors(
        votes, alpha, [one.name for one in TREE.questions] if question == "overall" else [question]
    )
    assert len(square) > 100
    corrected = np.mean(square) - np.mean(noise)
    assert number(scores, question, "rmse") == pytest.approx(np.sqrt(np.mean(square)), rel=1e-12)
    assert number(scores, question, "mse_noise_corrected") == pytest.approx(corrected, rel=1e-10)
    assert number(scores, question, "rmse_noise_corrected") == pytest.approx(np.sqrt(max(corrected, 0)), rel=1e-10)


def test_a_negative_noise_corrected_error_keeps_its_sign() -> None:
    """Two different votes, predicted exactly: the error is smaller than the sampling noise."""
    votes = Votes(RINGS, np.array([[1, 1]] * 5))
    scores = compute(votes, np.ones((5, 2)), np.ones((5, 2)))
    assert number(scores, "ring", "mse_noise_corrected") == pytest.approx(-0.25)
    assert number(scores, "ring", "rmse_noise_corrected") == 0.0
    assert number(scores, "ring", "rmse") == 0.0


def test_one_vote_has_no_noise_estimate() -> None:
    alone = compute(Votes(RINGS, np.array([[1, 0], [0, 1]])), np.ones((2, 2)), np.ones((2, 2)))
    assert number(alone, "ring", "log_likelihood") == pytest.approx(np.log(0.5))
    assert (
        value(alone, "ring", "rmse")
        == value(alone, "ring", "mse_noise_corrected")
        == Value(value=None, low=None, high=None)
    )
    beside = compute(Votes(RINGS, np.array([[1, 0], [3, 1]])), np.ones((2, 2)), np.ones((2, 2)))
    assert number(beside, "ring", "rmse") == pytest.approx(0.25)


@pytest.mark.parametrize("question", ["q", "r"])
def test_the_log_likelihood_is_the_mean_log_probability_over_galaxies_with_votes(question: str) -> None:
    votes, truth = simulated(60)
    scores = compute(votes, truth, baseline_of(truth))
    alpha = truth[:, TREE.concentration_slice(question)]
    logs = [
        stats.dirichlet_multinomial.logpmf(k, a, k.sum())
        for k, a in zip(votes.counts[:, TREE.slice(question)], alpha, strict=True)
        if k.sum()
    ]
    assert len(logs) < 60
    assert scores.questions[question]["n_galaxies"] == len(logs)
    assert number(scores, question, "log_likelihood") == pytest.approx(np.mean(logs), abs=1e-9)


def test_the_log_likelihood_of_several_answers_is_beta_binomial() -> None:
    votes, truth = simulated(60)
    volunteers, k, a = votes.totals[:, 1], votes.counts[:, 3:5], truth[:, 3:7]
    logs = stats.betabinom.logpmf(k, volunteers[:, None], a[:, :2], a[:, 2:]).sum(axis=1)[volunteers > 0]
    assert number(compute(votes, truth, truth), "m", "log_likelihood") == pytest.approx(logs.mean(), abs=1e-9)


def test_overall_is_per_galaxy_the_sum_over_its_questions() -> None:
    votes, truth = simulated(60)
    scores = compute(votes, truth, baseline_of(truth))
    asked = (votes.totals > 0).any(axis=1)
    assert 0 < asked.sum() < 60
    logs = -dirichlet_multinomial_nll(votes.counts, truth, TREE).sum(axis=1)
    assert number(scores, "overall", "log_likelihood") == pytest.approx(logs[asked].mean(), abs=1e-9)
    parts = [number(scores, name, "log_likelihood") * scores.questions[name]["n_galaxies"] for name in ("q", "m", "r")]
    assert number(scores, "overall", "log_likelihood") * asked.sum() == pytest.approx(sum(parts))
    assert (scores.n_galaxies, scores.n_trained_on) == (60, 0)


def test_the_gain_is_the_paired_difference() -> None:
    votes, truth = simulated(120)
    scores = compute(votes, truth, baseline_of(truth))
    for name in ("q", "m", "r", "overall"):
        difference = number(scores, name, "log_likelihood") - number(scores, name, "baseline_log_likelihood")
        assert number(scores, name, "log_likelihood_gain") == pytest.approx(difference, abs=1e-9)
        assert difference > 0
    close = compute(votes, truth, truth * 1.05)
    gain, single = (value(close, "overall", kind) for kind in ("log_likelihood_gain", "log_likelihood"))
    width = cast(float, gain["high"]) - cast(float, gain["low"])
    assert width < 0.1 * (cast(float, single["high"]) - cast(float, single["low"]))  # the common part cancels
    same = compute(votes, truth, truth)
    assert value(same, "overall", "log_likelihood_gain") == Value(value=0.0, low=0.0, high=0.0)


def test_a_predictor_that_knows_only_the_training_votes_gains_nothing(tmp_path: Path) -> None:
    """On no question, that with several answers included. A short version of benchmarks/baseline_gain.py."""
    tree = gzoo.tree("gz_ferengi")
    table = pl.read_parquet(simulate("gz_ferengi", n_galaxies=800, images=False, out=tmp_path / "sky").votes)
    totals = tree.totals(table.select(tree.columns).to_numpy())
    several = [i for i, question in enumerate(tree.questions) if question.multiple]
    totals[:, several] = table.select(tree.questions[i].total_column for i in several).to_numpy()
    votes, part = Votes(tree, table.select(tree.columns).to_numpy(), totals), np.arange(800) % 4
    baseline, other = (fit_baseline(votes.take((part == i) | (part == i + 1))) for i in (0, 1))
    test = votes.take(part == 3)
    scores = compute(test, np.broadcast_to(other, (len(test), len(other))), baseline)
    gains = {name: one["log_likelihood_gain"]["value"] for name, one in scores.questions.items()}
    assert several
    assert sum(gain is not None for gain in gains.values()) > 15
    assert {name: gain for name, gain in gains.items() if gain is not None and abs(gain) > 0.1} == {}


def test_a_question_without_votes_has_no_scores() -> None:
    votes, truth = simulated(40)
    never = compute(votes, truth, truth).questions["never"]
    assert never["n_galaxies"] == 0
    assert all(cast("dict[str, Value]", never)[kind] == Value(value=None, low=None, high=None) for kind in KINDS)


@pytest.mark.parametrize("n", [0, 3])
def test_scores_without_any_votes_are_null(n: int) -> None:
    nothing = np.zeros((n, len(TREE.columns)), np.int64)
    ones = np.ones((n, len(TREE.concentrations)))
    scores = compute(Votes(TREE, nothing), ones, ones)
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False))["overall"]["rmse"]["value"] is None
    assert scores.n_galaxies == n


counts_of_a_galaxy = st.lists(st.integers(0, 5) | st.just(0), min_size=9, max_size=9)


@settings(max_examples=25, deadline=None)
@given(st.lists(counts_of_a_galaxy, min_size=1, max_size=6), st.integers(0, 10**6))
def test_scores_are_numbers_or_null(rows: list[list[int]], seed: int) -> None:
    counts: IntArray = np.array(rows, np.int64)
    alpha = np.exp(np.random.default_rng(seed).uniform(-7, 9, (len(counts), len(TREE.concentrations))))
    votes = Votes(TREE, counts)
    scores = compute(votes, alpha, np.ones(alpha.shape))
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False)) == asdict(scores)
    for i, question in enumerate(TREE.questions):
        assert scores.questions[question.name]["n_galaxies"] == (votes.totals[:, i] > 0).sum()
        assert (value(scores, question.name, "log_likelihood_gain")["value"] is None) == (not votes.totals[:, i].any())
        assert (value(scores, question.name, "rmse")["value"] is None) == (votes.totals[:, i].max() < 2)
        for kind in KINDS:
            one = value(scores, question.name, kind)
            assert (one["low"] is None) == (one["high"] is None)
            assert one["low"] is None or one["value"] is not None
            if one["low"] is not None:
                assert one["low"] <= cast(float, one["high"])


# --- intervals ----------------------------------------------------------------------------------------------------


def test_intervals_are_reproducible_and_depend_on_the_seed() -> None:
    votes, truth = simulated(300)
    base = baseline_of(truth)
    assert compute(votes, truth, base) == compute(votes, truth, base)
    assert (
        compute(votes, truth, base).overall["log_likelihood_gain"]
        != compute(votes, truth, base, seed=1).overall["log_likelihood_gain"]
    )


def test_perfect_predictions_have_a_noise_corrected_error_of_0() -> None:
    """Votes are binomial around the predicted fraction; the raw error is far from 0, the corrected one is not."""
    rng = np.random.default_rng(0)
    fraction, volunteers = rng.uniform(0.02, 0.98, 3000), rng.integers(2, 40, 3000)
    yes = rng.binomial(volunteers, fraction)
    alpha = np.column_stack([fraction, 1 - fraction]) * 1e4
    scores = compute(Votes(RINGS, np.column_stack([yes, volunteers - yes])), alpha, np.ones(alpha.shape))
    corrected = value(scores, "ring", "mse_noise_corrected")
    assert cast(float, corrected["low"]) < 0 < cast(float, corrected["high"])
    assert number(scores, "ring", "rmse") > 0.08
    assert number(scores, "ring", "rmse_noise_corrected") < 0.02


def test_the_noise_corrected_error_of_wrong_predictions_is_the_true_error() -> None:
    rng = np.random.default_rng(1)
    fraction, volunteers = rng.uniform(0.2, 0.8, 4000), rng.integers(2, 15, 4000)
    yes, off = rng.binomial(volunteers, fraction), fraction + rng.choice([-0.1, 0.1], 4000)
    scores = compute(
        Votes(RINGS, np.column_stack([yes, volunteers - yes])), np.column_stack([off, 1 - off]), np.ones((4000, 2))
    )
    found = value(scores, "ring", "mse_noise_corrected")
    assert cast(float, found["low"]) < 0.01 < cast(float, found["high"])
    assert number(scores, "ring", "rmse_noise_corrected") == pytest.approx(0.1, abs=0.01)


def test_the_interval_of_the_gain_covers_the_truth() -> None:
    """Of 100 test sets about 95 have an interval that contains the gain of a very large one."""

    def a_test_set(n: int, seed: int) -> Scores:
        rng = np.random.default_rng(seed)
        alpha = rng.gamma(2.0, 2.0, (n, 2)) + 0.2
        fraction = rng.beta(alpha[:, 0], alpha[:, 1])
        yes = rng.binomial(20, fraction)
        return compute(Votes(RINGS, np.column_stack([yes, 20 - yes])), alpha, baseline_of(alpha) * 0 + 1.5)

    truth = number(a_test_set(60_000, 10_000), "ring", "log_likelihood_gain")
    found = [value(a_test_set(150, seed), "ring", "log_likelihood_gain") for seed in range(100)]
    covered = sum(cast(float, one["low"]) <= truth <= cast(float, one["high"]) for one in found)
    assert 87 <= covered <= 99
    assert np.mean([cast(float, one["value"]) for one in found]) == pytest.approx(truth, abs=0.03)


def test_a_gain_that_no_image_is_needed_for_is_shown_beside_it() -> None:
    tree, rng = Tree("t", (Question("q", ("a", "b"), ("q_a", "q_b")),)), np.random.default_rng(0)
    counts = rng.multinomial(10, [0.8, 0.2], 400)
    votes = Votes(tree, counts)
    predicted = np.broadcast_to([80.0, 20.0], (400, 2))  # knows the votes that are scored, not the galaxies
    one = compute(votes, predicted, np.array([5.0, 5.0])).overall
    gain, constant, per_vote = (
        one[key]["value"] for key in ("log_likelihood_gain", "constant_gain", "log_likelihood_gain_per_vote")
    )
    assert gain is not None
    assert gain > 0.3
    assert constant == pytest.approx(gain, abs=0.02)
    assert per_vote == pytest.approx(gain / 10)
    fair = compute(votes, predicted, np.array([800.0, 200.0])).overall
    assert fair["constant_gain"]["value"] == pytest.approx(0, abs=0.01)


# --- the weighted error -------------------------------------------------------------------------------------------


def mixed_depth(n: int, seed: int) -> tuple[Votes, FloatArray, float]:
    """Galaxies with 2 or 40 votes, whose errors depend on the number of votes; with the error by its definition."""
    rng = np.random.default_rng(seed)
    depth = rng.choice([2, 40], n)
    predicted = rng.beta(4, 4, n)
    true = np.clip(predicted + np.where(depth == 2, 0.15, 0.1) * rng.standard_normal(n), 0, 1)
    yes = rng.binomial(depth, true)
    weight = (depth - 1) / (depth + 1)
    error = float(weight @ (predicted - true) ** 2 / weight.sum())
    return Votes(RINGS, np.column_stack([yes, depth - yes])), 10 * np.column_stack([predicted, 1 - predicted]), error


def test_the_weighted_error_is_unbiased_for_its_definition_and_more_precise() -> None:
    differences: list[float] = []
    for seed in range(30):
        votes, alpha, error = mixed_depth(1200, seed)
        scores = compute(votes, alpha, np.ones(2))
        differences.append(number(scores, "ring", "mse_weighted") - error)
        assert number(scores, "ring", "rmse_weighted") == number(scores, "overall", "rmse_weighted")
    standard_error = np.std(differences, ddof=1) / np.sqrt(len(differences))
    assert abs(np.mean(differences)) < 3 * standard_error
    assert standard_error < 0.0008  # the unweighted error is another quantity, 0.003 larger
    votes, alpha, _ = mixed_depth(20_000, 99)
    scores = compute(votes, alpha, np.ones(2))
    widths = [
        cast(float, one["high"]) - cast(float, one["low"])
        for one in (value(scores, "ring", kind) for kind in ("mse_noise_corrected", "mse_weighted"))
    ]
    assert widths[0] > 1.2 * widths[1]


def test_equal_votes_give_equal_errors_with_and_without_weights() -> None:
    votes, alpha, _ = mixed_depth(200, 0)
    deep = np.flatnonzero(votes.totals[:, 0] == 40)
    scores = compute(votes.take(deep), alpha[deep], np.ones(2))
    assert number(scores, "ring", "mse_weighted") == pytest.approx(number(scores, "ring", "mse_noise_corrected"))


@pytest.mark.slow
def test_the_interval_of_the_weighted_error_covers_its_estimand() -> None:
    truth = mixed_depth(4_000_000, 10_000)[2]
    found = [
        value(compute(votes, alpha, np.ones(2)), "ring", "mse_weighted")
        for votes, alpha, _ in (mixed_depth(300, seed) for seed in range(600))
    ]
    covered = np.mean([cast(float, one["low"]) <= truth <= cast(float, one["high"]) for one in found])
    assert 0.92 <= covered <= 0.97
    estimates = np.array([cast(float, one["value"]) for one in found])
    assert estimates.mean() == pytest.approx(truth, abs=4 * estimates.std() / np.sqrt(len(estimates)))


# --- ordered answers ----------------------------------------------------------------------------------------------

ARMS = next(one for one in gzoo.tree("gz2").questions if one.name == "spiral-arm-count-gz2")


@given(st.integers(0, 2**32 - 1), st.integers(3, 5))
@settings(max_examples=40, deadline=None)
def test_the_ranked_probability_score_equals_its_definition_vote_by_vote(seed: int, n_ordered: int) -> None:
    """The mean over single votes of the squared area between two step functions, in any order of the columns."""
    rng = np.random.default_rng(seed)
    answers = tuple("abcdef"[: n_ordered + 1])
    question = Question("q", answers, answers, ordered=tuple(rng.permutation(answers)[:n_ordered].tolist()))
    fractions, counts = rng.dirichlet(np.ones(len(answers)), 3), rng.integers(0, 4, (3, len(answers)))
    found = ranked_probability_score(fractions, counts, question)
    for own, votes, score in zip(fractions, counts, found, strict=True):
        predicted = {answer: own[answers.index(answer)] for answer in question.ordered}
        scores: list[float] = []
        for step, voted in enumerate(question.ordered):
            below = [sum(list(predicted.values())[: k + 1]) / sum(predicted.values()) for k in range(n_ordered)]
            one = sum((f - (k >= step)) ** 2 for k, f in enumerate(below))
            scores += [one] * int(votes[answers.index(voted)])
        assert score == pytest.approx(np.mean(scores) if scores else 0.0, abs=1e-12)


def test_answers_farther_away_cost_more_and_doubt_beside_the_order_nothing() -> None:
    truth = np.array([[0, 0, 1, 0, 0, 7]])  # one vote for 3 arms, seven for cant-tell
    near, rest = np.eye(6), np.array([0.05, 0.1, 0.25, 0.25, 0.35, 0.0])
    said = [(near[place] + rest)[None] / 2 for place in (2, 1, 0, 4)]  # 3, 2, 1, more than 4
    scores = [float(ranked_probability_score(one, truth, ARMS)[0]) for one in said]
    assert np.diff(scores).min() > 0.2
    assert len({float(one[0, 2]) for one in said[1:]}) == 1  # their log-likelihoods are alike
    unsure = said[1] * 0.2 + 0.8 * near[5]
    assert ranked_probability_score(unsure, truth, ARMS) == pytest.approx(scores[1])
    exact = [float(ranked_probability_score(near[[place]], truth, ARMS)[0]) for place in range(6)]
    assert exact == pytest.approx([2, 1, 0, 1, 2, 0.04 + 0.16 + 0.16 + 0.04])  # the last: all alike


def test_questions_with_ordered_answers_have_a_ranked_probability_score() -> None:
    question = Question("q", ("a", "b", "c"), ("q_a", "q_b", "q_c"), ordered=("c", "a", "b"))
    tree = Tree("one", (question, Question("r", ("s", "t"), ("r_s", "r_t"))))
    rng = np.random.default_rng(0)
    alpha = rng.gamma(2.0, 2.0, (300, 5)) + 0.1
    counts = np.column_stack(
        [np.array([rng.multinomial(5, rng.dirichlet(one[:3])) for one in alpha]), alpha[:, 3:] > 2]
    )
    votes = Votes(tree, counts.astype(np.int64))
    scores = compute(votes, alpha, alpha.mean(axis=0))
    own = ranked_probability_score(
        alpha[:, :3] / alpha[:, :3].sum(axis=1, keepdims=True), votes.counts[:, :3], question
    )
    assert number(scores, "q", "rps") == pytest.approx(own.mean())
    gain = value(scores, "q", "rps_gain")
    assert gain["low"] is not None
    assert gain["low"] > 0
    assert scores.questions["q"]["n_ordered"] == 300
    assert value(scores, "r", "rps") == Value(value=None, low=None, high=None)
    table = scores.to_polars().filter(name="q")
    assert table["rps"][0] == number(scores, "q", "rps")
