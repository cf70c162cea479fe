"""The loss in torch: accuracy for all concentrations, questions without votes, devices and compilation.

`test_likelihood.py` tests what it shares with the likelihood in NumPy.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gzoo
from gzoo.learn.losses import MAX_TABLE, asked_questions, dirichlet_multinomial_nll
from gzoo.scoring import dirichlet_multinomial_nll as in_numpy
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree

GZ2 = gzoo.tree("gz2")  # one of its questions allows several answers
RINGS = gzoo.tree("gz_rings")
FOUR = Tree("four", (Question("q", tuple("abcd"), tuple("abcd")),))

seeds = st.integers(0, 10**6)


def votes_on(tree: Tree, seed: int, n: int = 8, largest: int = 60) -> IntArray:
    """Votes on about half of the questions."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, largest + 1, (n, len(tree.columns))) * rng.integers(0, 2, (n, len(tree.columns)))
    for question in tree.questions:
        counts[rng.random(n) < 0.5, tree.slice(question.name)] = 0
    return counts


def anywhere(shape: tuple[int, ...], seed: int, low: float = -7.0, high: float = 6.95) -> FloatArray:
    """Concentrations over the whole range of a model, rounded to float32."""
    return (10 ** np.random.default_rng(seed).uniform(low, high, shape)).astype(np.float32).astype(np.float64)


def concentrations(counts: IntArray, tree: Tree, seed: int) -> FloatArray:
    return anywhere((len(counts), len(tree.concentrations)), seed)


def question_of_concentration(tree: Tree) -> list[int]:
    sizes = [len(question.columns) * (1 + question.multiple) for question in tree.questions]
    return np.repeat(np.arange(len(sizes)), sizes).tolist()


def exactly(counts: list[int], alpha: list[float]) -> tuple[float, list[float]]:
    """Value and gradient for one question, computed with 40 digits."""
    with mpmath.workdps(40):
        a = [mpmath.mpf(one) for one in alpha]
        both = [*zip(a, counts, strict=True), (sum(a), sum(counts))]
        logs = [mpmath.loggamma(i + n) - mpmath.loggamma(i) - mpmath.loggamma(n + 1) for i, n in both]
        slopes = [mpmath.psi(0, i + n) - mpmath.psi(0, i) for i, n in both]
        return float(logs[-1] - sum(logs[:-1])), [float(slopes[-1] - one) for one in slopes[:-1]]


def hard_cases(largest: int) -> tuple[IntArray, FloatArray]:
    """Pairs of concentrations with pairs of counts, and votes that match their concentrations."""
    sizes, some = 10.0 ** np.arange(-3, 7, 1.5), [0, 1, 2, 3, 11, largest]
    rows = [
        ((i, j, 0, k), (a, b, c, d))
        for (a, b), (i, j) in itertools.product(
            itertools.combinations_with_replacement(sizes, 2), itertools.product(some, some)
        )
        for c, d, k in [(1.0, 0.3, 5)]
    ]
    rng = np.random.default_rng(0)
    counts, alpha = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    matched = np.outer(10 ** rng.uniform(-3, 6, 200), [0.1, 0.2, 0.3, 0.4]) * rng.uniform(0.9, 1, (200, 4))
    fractions = matched / matched.sum(axis=1, keepdims=True)
    counts = np.vstack([counts, rng.multinomial(largest, fractions)])
    return counts, np.vstack([alpha, matched]).astype(np.float32).astype(np.float64)


# --- Accuracy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values_and_gradients_match_a_calculation_with_40_digits(dtype: torch.dtype) -> None:
    counts, alpha = hard_cases(100)
    concentration = torch.tensor(alpha, dtype=dtype, requires_grad=True)
    found = dirichlet_multinomial_nll(torch.tensor(counts), concentration, FOUR)[:, 0]
    found.sum().backward()
    assert concentration.grad is not None
    exact = [exactly(k, a) for k, a in zip(counts.tolist(), alpha.tolist(), strict=True)]
    value, slope = np.array([one[0] for one in exact]), np.array([one[1] for one in exact])
    error = np.abs(found.detach().double().numpy() - value)
    of_slope = np.abs(concentration.grad.double().numpy() - slope).max(axis=1) / np.abs(slope).max(axis=1)
    narrow = dtype == torch.float32
    assert (error <= np.maximum(3e-4 if narrow else 1e-11, (1e-6 if narrow else 1e-13) * value)).all()
    assert of_slope.max() <= (3e-5 if narrow else 1e-11)
    if narrow:  # a plain difference of lgamma fails for these cases
        k, a = torch.tensor(counts).float(), torch.tensor(alpha).float()
        n, a0 = k.sum(dim=1), a.sum(dim=1)
        plain = (torch.lgamma(k + 1) - torch.lgamma(a + k) + torch.lgamma(a)).sum(dim=1)
        plain += torch.lgamma(a0 + n) - torch.lgamma(a0) - torch.lgamma(n + 1)
        assert np.abs(plain.numpy() - value).max() > 1


def test_thousands_of_votes_are_accurate() -> None:
    counts, alpha = hard_cases(5000)
    found = dirichlet_multinomial_nll(torch.tensor(counts), torch.tensor(alpha).float(), FOUR)
    np.testing.assert_allclose(found.double().numpy(), in_numpy(counts, alpha, FOUR), rtol=1e-5, atol=1e-2)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_the_loss_equals_the_likelihood_in_numpy(seed: int) -> None:
    for tree in (GZ2, FOUR):
        counts = votes_on(tree, seed)
        alpha = concentrations(counts, tree, seed)
        for dtype, digits in ((torch.float32, 1e-3), (torch.float64, 1e-9)):
            found = dirichlet_multinomial_nll(torch.tensor(counts), torch.tensor(alpha, dtype=dtype), tree)
            assert found.dtype == dtype
            wanted = in_numpy(counts, alpha, tree)
            assert (np.abs(found.double().numpy() - wanted) <= np.maximum(digits, digits / 100 * wanted)).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.integers(1, 4), seeds)
def test_probabilities_of_all_outcomes_add_up_to_one(volunteers: int, answers: int, seed: int) -> None:
    names = tuple("abcd"[:answers])
    tree = Tree("any", (Question("q", names, names),))
    outcomes = [one for one in itertools.product(range(volunteers + 1), repeat=answers) if sum(one) == volunteers]
    alpha = torch.tensor(anywhere((answers,), seed, -3, 6)).float().expand(len(outcomes), -1)
    nll = dirichlet_multinomial_nll(torch.tensor(outcomes), alpha, tree)
    assert torch.exp(-nll.double()).sum().item() == pytest.approx(1, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(seeds, st.permutations(range(4)))
def test_the_order_of_answers_is_irrelevant(seed: int, order: list[int]) -> None:
    counts, alpha = votes_on(FOUR, seed), anywhere((8, 4), seed)
    both: list[tuple[torch.Tensor, torch.Tensor]] = []
    for k, a in ((counts, alpha), (counts[:, order], alpha[:, order])):
        concentration = torch.tensor(a, requires_grad=True)
        nll = dirichlet_multinomial_nll(torch.tensor(k), concentration, FOUR)
        nll.sum().backward()
        assert concentration.grad is not None
        both.append((nll.detach(), concentration.grad))
    (value, slope), (other, other_slope) = both
    torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope[:, order], other_slope, rtol=1e-10, atol=1e-12)


def test_counts_beyond_the_table_and_of_any_type() -> None:
    counts = np.array([[MAX_TABLE + 7, 3, 0, 20], [5, 0, 0, 1]])
    alpha = np.array([[2e4, 0.5, 3.0, 8.0]] * 2)
    wanted = in_numpy(counts, alpha, FOUR)
    for votes in (torch.tensor(counts), torch.tensor(counts).double(), torch.tensor(counts).int()):
        found = dirichlet_multinomial_nll(votes, torch.tensor(alpha), FOUR)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


def test_small_integer_types_do_not_overflow() -> None:
    counts = np.array([[120, 100, 90, 0]])
    alpha = torch.ones(1, 4, dtype=torch.float64)
    wanted = in_numpy(counts, np.ones((1, 4)), FOUR)
    for dtype in (torch.int8, torch.uint8, torch.int16):
        found = dirichlet_multinomial_nll(torch.tensor(counts, dtype=dtype), alpha, FOUR)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


# --- Questions without votes ------------------------------------------------------------------------------------------


def loss_and_gradient(
    loss: Callable[..., torch.Tensor], votes: torch.Tensor, alpha: torch.Tensor, *known: object
) -> tuple[torch.Tensor, torch.Tensor]:
    concentration = alpha.clone().requires_grad_()
    found = loss(votes, concentration, *known)
    found.sum().backward()
    assert concentration.grad is not None
    return found.detach(), concentration.grad


@pytest.mark.parametrize("tree", [GZ2, RINGS, FOUR], ids=lambda tree: tree.name)
def test_passing_totals_or_asked_questions_does_not_change_the_loss(tree: Tree) -> None:
    counts = votes_on(tree, 1)
    votes, alpha = torch.tensor(counts), torch.tensor(concentrations(counts, tree, 2)).float()
    totals = torch.tensor(tree.totals(counts))
    wanted = loss_and_gradient(dirichlet_multinomial_nll, votes, alpha, tree)
    everything = torch.stack([*map(torch.flatten, torch.meshgrid(*map(torch.arange, totals.shape), indexing="ij"))])
    for known in ((totals,), (totals, asked_questions(totals)), (totals, everything), (None, everything)):
        found = loss_and_gradient(dirichlet_multinomial_nll, votes, alpha, tree, *known)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
            assert torch.equal(one == 0, other == 0)


def test_asked_questions_are_those_with_votes() -> None:
    totals = torch.tensor(votes_on(GZ2, 3)[:, :11])
    torch.testing.assert_close(asked_questions(totals), (totals > 0).nonzero().T)
    assert asked_questions(torch.zeros(4, 3, dtype=torch.int32)).shape == (2, 0)
    assert asked_questions(torch.zeros(0, 3)).shape == (2, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_concentration_affects_only_its_question_and_galaxy(value: float) -> None:
    counts = votes_on(GZ2, 4)
    totals = GZ2.totals(counts)
    votes, plain = torch.tensor(counts), torch.tensor(concentrations(counts, GZ2, 5)).float()
    everything = torch.stack([*map(torch.flatten, torch.meshgrid(*map(torch.arange, totals.shape), indexing="ij"))])
    of = question_of_concentration(GZ2)
    galaxy = 3
    for question in np.flatnonzero(totals[galaxy] > 0).tolist():
        corrupt = plain.clone()
        corrupt[galaxy, of.index(question)] = value
        is_elsewhere = torch.ones(totals.shape, dtype=torch.bool)
        is_elsewhere[galaxy, question] = False
        for asked in (None, everything):
            known = (GZ2, torch.tensor(totals), asked)
            nll, slope = loss_and_gradient(dirichlet_multinomial_nll, votes, plain, *known)
            found, found_slope = loss_and_gradient(dirichlet_multinomial_nll, votes, corrupt, *known)
            assert not torch.isfinite(found[galaxy, question])
            assert torch.equal(found[is_elsewhere], nll[is_elsewhere])
            assert torch.equal(found_slope[is_elsewhere[:, of]], slope[is_elsewhere[:, of]])


def test_second_derivatives_are_rejected() -> None:
    concentration = torch.ones(1, 4, requires_grad=True)
    nll = dirichlet_multinomial_nll(torch.tensor([[3, 1, 0, 2]]), concentration, FOUR)
    weight = torch.ones(1, 1, requires_grad=True)
    (slope,) = torch.autograd.grad((weight * nll).sum(), concentration, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


# --- Autocast, other devices, compilation -----------------------------------------------------------------------------


def test_bfloat16_concentrations_are_converted_first() -> None:
    counts = votes_on(GZ2, 6)
    narrow = torch.tensor(concentrations(counts, GZ2, 7)).bfloat16()
    wide, wide_slope = loss_and_gradient(dirichlet_multinomial_nll, torch.tensor(counts), narrow.float(), GZ2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, slope = loss_and_gradient(dirichlet_multinomial_nll, torch.tensor(counts), narrow, GZ2)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, wide)
    assert torch.equal(slope, wide_slope.bfloat16())


def test_values_are_never_read_on_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device, tensors have no values: reading one raises an error."""

    def no_autocast(device: str, enabled: bool) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()

    monkeypatch.setattr(torch, "autocast", no_autocast)  # it does not support this device
    votes, totals = (
        torch.zeros(5, n, dtype=torch.int32, device="meta") for n in (len(GZ2.columns), len(GZ2.questions))
    )
    concentration = torch.ones(5, len(GZ2.concentrations), device="meta", requires_grad=True)
    for known in ((), (totals,)):
        nll = dirichlet_multinomial_nll(votes, concentration, GZ2, *known)
        nll.sum().backward()
        assert nll.shape == totals.shape
        assert concentration.grad is not None


BACKENDS = [
    "aot_eager",
    pytest.param(
        "inductor",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="No C++ compiler found."),
        ],
    ),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "is_known", [pytest.param(False, id="votes", marks=pytest.mark.slow), pytest.param(True, id="asked")]
)
def test_the_compiled_loss_is_the_same(backend: str, is_known: bool) -> None:
    tree = Tree(GZ2.name, GZ2.questions)  # without cached properties, because totals may be computed while compiling

    def loss(
        votes: torch.Tensor, a: torch.Tensor, totals: torch.Tensor | None, asked: torch.Tensor | None
    ) -> torch.Tensor:
        return dirichlet_multinomial_nll(votes, a, tree, totals, asked)

    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    for n in (8, 5, 11):  # batches differ in their votes, and the last one in size
        counts = votes_on(GZ2, n, n)
        totals = GZ2.totals(counts)
        is_asked = (totals > 0)[:, question_of_concentration(GZ2)]
        votes = torch.tensor(counts)
        alpha = torch.tensor(np.where(is_asked, concentrations(counts, GZ2, 9), math.nan)).float()
        known = (torch.tensor(totals), asked_questions(torch.tensor(totals))) if is_known else (None, None)
        found, found_slope = loss_and_gradient(compiled, votes, alpha, *known)
        nll, slope = loss_and_gradient(loss, votes, alpha, *known)
        torch.testing.assert_close(found, nll, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(found_slope, slope, rtol=1e-4, atol=1e-4)
        assert (found[torch.tensor(totals == 0)] == 0).all()
        assert (found_slope[torch.tensor(~is_asked)] == 0).all()
