"""Posterior vote fractions, compared with their definition and with simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaincinv, betaln

import gzoo
from gzoo.scoring.posterior import posterior
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import FloatArray, Question, Tree
from gzoo.votes.votes import Votes

RINGS = gzoo.tree("gz_rings")
GZ2 = campaign("gz2").published_tree
TICKS = Tree("ticks", (Question("q", ("a", "b"), ("q_a", "q_b"), multiple=True),))


def drawn(tree: Tree, concentrations: FloatArray, rng: np.random.Generator) -> FloatArray:
    fractions = rng.gamma(concentrations)
    for question in tree.questions:
        own = fractions[:, tree.slice(question.name)]
        own /= own.sum(axis=1, keepdims=True)
    return fractions


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_votes_add_to_concentrations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted = np.exp(rng.normal(0, 2, (1, 5, len(GZ2.columns))))
    counts = rng.poisson(3, predicted.shape[1:])
    found = posterior(Votes(GZ2, counts), predicted)
    for question in GZ2.questions:
        own = GZ2.slice(question.name)
        alpha = predicted[0, :, own] + counts[:, own]
        total = alpha.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found.fractions[:, own], alpha / total)
        low, high = np.minimum(betaincinv(alpha, total - alpha, 0.05), alpha / total), found.interval(0.5)[1][:, own]
        np.testing.assert_allclose(found.interval(0.9)[0][:, own], low, atol=2e-4)
        np.testing.assert_allclose(high, np.maximum(betaincinv(alpha, total - alpha, 0.75), alpha / total), atol=2e-4)
    np.testing.assert_allclose(found.proportion_asked, GZ2.proportion_asked(found.fractions))


def test_the_posterior_goes_from_the_prediction_to_the_votes() -> None:
    counts = np.array([[0, 0], [300_000, 700_000]])
    found = posterior(Votes(RINGS, counts), np.array([[[1.0, 3.0], [1.0, 3.0]]]))
    np.testing.assert_allclose(found.fractions, [[0.25, 0.75], [0.3, 0.7]], atol=1e-5)
    low, high = found.interval(0.9)
    assert high[0, 0] - low[0, 0] > 0.5
    assert high[1, 0] - low[1, 0] < 0.002


def test_small_concentrations_keep_their_precision_next_to_large_ones() -> None:
    found = posterior(Votes(RINGS, np.array([[0, 0]])), np.array([[[1e-7, 9e6]]]))
    np.testing.assert_allclose(found.beta, [[[9e6, 1e-7]]])


def test_members_of_a_mixture_are_weighted_by_the_probability_of_the_votes() -> None:
    predicted = np.array([[[8.0, 2.0]], [[1.0, 1.0]], [[2.0, 30.0]]])
    counts = np.array([[2, 5]])
    found = posterior(Votes(RINGS, counts), predicted)
    x = np.linspace(0, 1, 200_001)[1:-1]
    prior = np.mean(
        [np.exp((a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - betaln(a, b)) for a, b in predicted[:, 0]], axis=0
    )
    density = prior * x**2 * (1 - x) ** 5
    density /= density.sum()
    np.testing.assert_allclose(found.fractions[0, 0], (density * x).sum(), atol=1e-5)
    cumulated = np.cumsum(density)
    low, high = found.interval(0.9)
    np.testing.assert_allclose(low[0, 0], x[np.searchsorted(cumulated, 0.05)], atol=1e-3)
    np.testing.assert_allclose(high[0, 0], x[np.searchsorted(cumulated, 0.95)], atol=1e-3)


@pytest.mark.parametrize("name", ["gz2", "gz_desi", "gz_hubble"])
@pytest.mark.parametrize("n_members", [1, 2])
def test_the_proportion_asked_has_the_mean_and_variance_of_draws(name: str, n_members: int) -> None:
    tree = campaign(name).published_tree
    rng = np.random.default_rng(1)
    predicted = np.exp(rng.normal(0, 1, (n_members, 1, len(tree.columns))))
    found = posterior(Votes(tree, np.zeros((1, len(tree.columns)), np.int64)), predicted)
    member = rng.integers(n_members, size=(40_000, len(tree.questions)))
    each = [drawn(tree, np.repeat(one, 40_000, axis=0), rng) for one in predicted]
    of = list(tree.question_of_answer)
    draws = tree.proportion_asked(np.take_along_axis(np.stack(each), member[None][:, :, of], axis=0)[0])
    known = [question.name not in tree.unreachable for question in tree.questions]
    assert np.isnan(found.proportion_asked[0]).tolist() == [not one for one in known]
    np.testing.assert_allclose(found.proportion_asked[0, known], draws.mean(axis=0)[known], atol=0.005)
    np.testing.assert_allclose(found.proportion_asked_variance[0, known], draws.var(axis=0)[known], atol=0.003)
    if n_members > 1:  # two peaks, which no Beta distribution has
        return
    low, high = found.proportion_asked_interval(0.9)
    for bound, q in ((low, 0.05), (high, 0.95)):
        np.testing.assert_allclose(bound[0, known], np.quantile(draws[:, known], q, axis=0), atol=0.03)


@pytest.mark.parametrize("total", [1.0, 5.0, 40.0])
def test_intervals_of_several_answers_contain_the_truth(total: float) -> None:
    rng = np.random.default_rng(2)
    fraction = rng.uniform(0.05, 0.95, (4000, 2))
    volunteers = np.full((4000, 1), 20)
    truth = rng.beta(total * fraction, total * (1 - fraction))
    votes = Votes(TICKS, rng.binomial(volunteers, truth), volunteers)
    predicted = total * np.concatenate([fraction, 1 - fraction], axis=1)[None]
    for members in (predicted, np.concatenate([predicted, predicted])):
        low, high = posterior(votes, members).interval(0.9)
        assert abs(((low <= truth) & (truth <= high)).mean() - 0.9) < 0.015


def test_intervals_are_finite_and_contain_their_means() -> None:
    rng = np.random.default_rng(5)
    concentrations = 10 ** rng.uniform(-7, 17, (2, 4000, len(GZ2.concentrations)))
    counts = rng.integers(0, 2, (4000, len(GZ2.columns))) * (rng.random((4000, 1)) < 0.5)
    for members in (concentrations[:1], concentrations):
        found = posterior(Votes(GZ2, counts), members)
        known = [question.name not in GZ2.unreachable for question in GZ2.questions]
        for mean, (low, high) in (
            (found.fractions, found.interval(0.9)),
            (found.proportion_asked[:, known], [end[:, known] for end in found.proportion_asked_interval(0.9)]),
        ):
            assert np.isfinite([low, mean, high]).all()
            assert ((low <= mean) & (mean <= high)).all()
            assert (np.float32(low) <= np.float32(mean)).all()


def test_several_answers_without_votes_keep_their_predictions() -> None:
    votes = Votes(TICKS, np.zeros((3, 2), np.int64), np.zeros((3, 1), np.int64))
    found = posterior(votes, np.ones((1, 3, 4)))
    np.testing.assert_allclose(found.interval(0.9)[0], 0.05, atol=1e-4)  # as of a uniform distribution


@pytest.mark.parametrize(("n_answers", "n_members"), [(2, 1), (5, 1), (3, 2)])
def test_90_percent_of_intervals_contain_the_truth(n_answers: int, n_members: int) -> None:
    """A short version of benchmarks/posterior_coverage.py."""
    rng = np.random.default_rng(3)
    names = tuple("abcdef"[:n_answers])
    tree = Tree("one", (Question("q", names, tuple(f"q_{name}" for name in names)),))
    n = 6000
    predicted = np.exp(rng.uniform(0, np.log(100), (n_members, n, n_answers)))
    truth = drawn(tree, predicted[rng.integers(n_members, size=n), np.arange(n)], rng)
    counts = rng.multinomial(rng.integers(0, 41, n), truth)
    low, high = posterior(Votes(tree, counts), predicted).interval(0.9)
    column = rng.integers(n_answers, size=n)
    rows = np.arange(n)
    held = (low <= truth) & (truth <= high)
    assert abs(held[rows, column].mean() - 0.9) < 0.012  # 3 standard errors
    before = np.subtract(*reversed(posterior(Votes(tree, 0 * counts), predicted).interval(0.9)))
    assert (high - low).mean() < 0.95 * before.mean()  # votes narrow them
