"""Likelihoods in NumPy and torch: equal to SciPy's, to each other, and 0 for questions without votes."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import gammaln

import gzoo
from gzoo.errors import InputError
from gzoo.learn.losses import dirichlet_multinomial_nll as torch_nll
from gzoo.scoring import dirichlet_multinomial_nll, expected_fractions, fit_baseline
from gzoo.scoring.likelihood import beta_binomial_nll, mixture_nll, question_log_coefficient
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

GZ2 = gzoo.tree("gz2")
ONE = Tree("one", (Question("q", ("a", "b", "c"), ("q_a", "q_b", "q_c")),))
SMALL = Tree(
    "small",
    (
        Question("q", ("a", "b", "c"), ("q_a", "q_b", "q_c")),
        Question("m", ("x", "y"), ("m_x", "m_y"), ("q_a", "q_b"), multiple=True),
        Question("r", ("s", "t"), ("r_s", "r_t"), ("q_a",)),
    ),
)
ROOT_OF_BOXES = Tree("boxes", (Question("m", ("x", "y"), ("m_x", "m_y"), multiple=True),))

seeds = st.integers(0, 10**6)


def random_case(tree: Tree, seed: int, n: int = 8, largest: int = 100) -> tuple[IntArray, FloatArray]:
    """Votes from 0 to `largest`, some questions without votes, not bound to the tree; concentrations 1e-3..100."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, largest + 1, (n, len(tree.columns))) * rng.integers(0, 2, (n, len(tree.columns)))
    for question in tree.questions:
        counts[rng.random(n) < 0.3, tree.slice(question.name)] = 0
    return counts, np.exp(rng.uniform(math.log(1e-3), math.log(100), (n, len(tree.concentrations))))


def by_concentration(of_question: npt.NDArray[np.bool_], tree: Tree) -> npt.NDArray[np.bool_]:
    """The value of each concentration's question, from shape (galaxy, question)."""
    sizes = [len(question.columns) * (1 + question.multiple) for question in tree.questions]
    return np.repeat(of_question, sizes, axis=1)


def log_rising(a: float, k: int) -> float:
    """log a (a + 1) ... (a + k - 1), one factor after the other."""
    return math.fsum(math.log(a + i) for i in range(k))


def in_torch(counts: IntArray, alpha: FloatArray, tree: Tree, dtype: torch.dtype = torch.float64) -> FloatArray:
    return torch_nll(torch.tensor(counts), torch.tensor(alpha, dtype=dtype), tree).double().numpy()


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_one_answer_equals_scipy(seed: int) -> None:
    counts, alpha = random_case(SMALL, seed)
    nll = dirichlet_multinomial_nll(counts, alpha, SMALL)
    for i, name in ((0, "q"), (2, "r")):
        k, a = counts[:, SMALL.slice(name)], alpha[:, SMALL.concentration_slice(name)]
        expected = [
            -stats.dirichlet_multinomial.logpmf(votes, own, votes.sum()) if votes.sum() else 0.0
            for votes, own in zip(k, a, strict=True)
        ]
        np.testing.assert_allclose(nll[:, i], expected, rtol=0, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_several_answers_are_one_beta_binomial_each(seed: int) -> None:
    counts, alpha = random_case(SMALL, seed)
    k, a = counts[:, SMALL.slice("m")], alpha[:, SMALL.concentration_slice("m")]
    asked = np.maximum(counts[:, [0, 1]].sum(axis=1), k.max(axis=1))
    for volunteers in (asked, asked + 7):
        totals = SMALL.totals(counts)
        totals[:, 1] = volunteers
        expected = -stats.betabinom.logpmf(k, volunteers[:, None], a[:, :2], a[:, 2:]).sum(axis=1)
        given_totals = dirichlet_multinomial_nll(counts, alpha, SMALL, totals)
        np.testing.assert_allclose(given_totals[:, 1], expected, rtol=0, atol=1e-9)
        same = torch_nll(torch.tensor(counts), torch.tensor(alpha), SMALL, torch.tensor(totals))
        np.testing.assert_allclose(same.numpy(), given_totals, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(
        dirichlet_multinomial_nll(counts, alpha, SMALL),
        dirichlet_multinomial_nll(counts, alpha, SMALL, SMALL.totals(counts)),
    )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6, 1e9, 1e12, 1e15])
def test_large_and_small_concentrations_keep_all_digits(scale: float) -> None:
    """At large concentrations the votes are multinomial; a difference of two gammaln would be rounding noise."""
    counts, alpha = np.array([[20, 0, 30]]), np.array([[1.0, 2.0, 3.0]]) * scale
    expected = log_rising(alpha.sum(), 50) - math.lgamma(51)
    expected += sum(math.lgamma(k + 1) - log_rising(a, k) for k, a in zip(counts[0], alpha[0], strict=True))
    assert dirichlet_multinomial_nll(counts, alpha, ONE)[0, 0] == pytest.approx(expected, rel=1e-9)
    if scale >= 1e9:
        multinomial = -stats.multinomial.logpmf(counts[0], 50, alpha[0] / alpha.sum())
        assert expected == pytest.approx(multinomial, abs=1e-5)


def test_probabilities_of_all_outcomes_add_up_to_one() -> None:
    alpha = [0.3, 2.0, 7.0]
    outcomes = np.array([[a, b, 6 - a - b] for a in range(7) for b in range(7 - a)])
    nll = dirichlet_multinomial_nll(outcomes, np.broadcast_to(alpha, outcomes.shape), ONE)
    assert np.exp(-nll).sum() == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_torch_equals_numpy(seed: int) -> None:
    for tree in (SMALL, GZ2, ROOT_OF_BOXES):
        counts, alpha = random_case(tree, seed)
        np.testing.assert_allclose(
            in_torch(counts, alpha, tree), dirichlet_multinomial_nll(counts, alpha, tree), rtol=0, atol=1e-9
        )
        narrow = alpha.astype(np.float32)
        np.testing.assert_allclose(
            in_torch(counts, narrow, tree, torch.float32),
            dirichlet_multinomial_nll(counts, narrow, tree),
            rtol=0,
            atol=1e-3,
        )


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_inconsistent_votes_have_finite_likelihoods(seed: int) -> None:
    """More votes on a question than on the answers that lead to it, and the reverse."""
    counts, alpha = random_case(GZ2, seed)
    nll = dirichlet_multinomial_nll(counts, alpha, GZ2)
    assert np.isfinite(nll).all()
    assert (nll >= -1e-12).all()
    assert ((nll == 0) | (GZ2.totals(counts) > 0)).all()
    concentration = torch.tensor(alpha, requires_grad=True)
    torch_nll(torch.tensor(counts), concentration, GZ2).sum().backward()
    assert concentration.grad is not None
    assert torch.isfinite(concentration.grad).all()


@pytest.mark.parametrize("tree", [SMALL, ROOT_OF_BOXES, GZ2], ids=lambda tree: tree.name)
def test_gradients_equal_finite_differences(tree: Tree) -> None:
    counts, alpha = random_case(tree, 3, n=3, largest=20)
    votes, at = torch.tensor(counts), torch.tensor(np.clip(alpha, 0.05, None), requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: torch_nll(votes, a, tree), (at,), eps=1e-6, atol=1e-6, rtol=1e-5)


def test_autocast_changes_neither_loss_nor_gradient() -> None:
    counts, alpha = random_case(GZ2, 5)
    votes = torch.tensor(counts)

    def loss_and_gradient(is_cast: bool) -> tuple[torch.Tensor, torch.Tensor]:
        logits = torch.tensor(np.log(alpha), dtype=torch.float32, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_cast):
            loss = torch_nll(votes, logits.exp(), GZ2)
        loss.sum().backward()
        assert logits.grad is not None
        return loss, logits.grad

    (plain, plain_grad), (cast, cast_grad) = loss_and_gradient(False), loss_and_gradient(True)
    assert plain.dtype == cast.dtype == torch.float32
    assert torch.equal(plain, cast)
    assert torch.equal(plain_grad, cast_grad)


def test_bfloat16_concentrations_give_a_float32_loss() -> None:
    counts, alpha = random_case(GZ2, 6)
    narrow = torch.tensor(alpha, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = torch_nll(torch.tensor(counts), narrow, GZ2)
    assert loss.dtype == torch.float32
    expected = dirichlet_multinomial_nll(counts, narrow.double().numpy(), GZ2)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=0, atol=1e-3)


EXTREMES = [1e-30, 1e30, 0.0, -1.0, math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("value", EXTREMES)
def test_questions_without_votes_cost_exactly_0(value: float, dtype: torch.dtype) -> None:
    counts, alpha = random_case(GZ2, 7)
    asked = GZ2.totals(counts) > 0
    cell_asked = by_concentration(asked, GZ2)
    assert not asked.all()
    extreme = torch.tensor(np.where(cell_asked, alpha, value), dtype=dtype, requires_grad=True)
    plain = torch.tensor(alpha, dtype=dtype, requires_grad=True)
    loss, same = (torch_nll(torch.tensor(counts), each, GZ2, check=False) for each in (extreme, plain))
    assert torch.equal(loss, same)
    assert (loss.detach().numpy()[~asked] == 0).all()
    loss.sum().backward()
    same.sum().backward()
    assert extreme.grad is not None
    assert plain.grad is not None
    assert (extreme.grad.numpy()[~cell_asked] == 0).all()
    assert (extreme.grad.numpy()[cell_asked] != 0).any()
    assert torch.equal(extreme.grad, plain.grad)


def test_no_votes_at_all() -> None:
    nothing = np.zeros((2, len(GZ2.columns)), np.int64)
    alpha = torch.full((2, len(GZ2.concentrations)), 1e-30, requires_grad=True)
    loss = torch_nll(torch.tensor(nothing), alpha, GZ2)
    loss.sum().backward()
    assert (loss == 0).all()
    assert alpha.grad is not None
    assert (alpha.grad == 0).all()
    assert (dirichlet_multinomial_nll(nothing, np.full(alpha.shape, 1e-30), GZ2) == 0).all()
    empty = torch_nll(torch.zeros(0, 2), torch.zeros(0, 2), gzoo.tree("gz_rings"))
    assert empty.shape == (0, 1)


@pytest.mark.parametrize(
    ("votes", "alpha", "totals", "words"),
    [
        ([[1, 2]], [[1.0, 1.0]], None, "[Ss]hape"),
        ([1, 2, 3], [1.0, 1.0, 1.0], None, "[Ss]hape"),
        ([[1, 2, 3]], [[1.0, 1.0]], None, "[Ss]hape"),
        ([[1, 2, 3], [1, 2, 3]], [[1.0] * 3, [1.0, 0.0, 1.0]], None, r"galaxy 1, q_b is 0\.0"),
        ([[1, 2, 3]], [[1.0, -1.0, 1.0]], None, r"galaxy 0, q_b is -1\.0"),
        ([[0.5, 0.5, 0.0]], [[1.0, 1.0, 1.0]], None, r"vote count of galaxy 0, q_a is 0\.5"),
        ([[-1, 2, 3]], [[1.0, 1.0, 1.0]], None, "vote count of galaxy 0, q_a is -1"),
        ([[1, 2, math.nan]], [[1.0, 1.0, 1.0]], None, "vote count of galaxy 0, q_c is nan"),
        ([[1, math.inf, 3]], [[1.0, 1.0, 1.0]], None, "vote count of galaxy 0, q_b is inf"),
        ([[1, 2, 3]], [[1.0, 1.0, 1.0]], [[7]], r"total of galaxy 0, q is 7, but its votes are \[1, 2, 3\]"),
        ([[1, 2, 3]], [[1.0, 1.0, 1.0]], [[6, 6]], "[Ss]hape"),
        ([[1, 2, 3]], [[1.0, 1.0, 1.0]], [[6], [6]], "votes of 1 galaxies and totals of 2"),
        ([[1, 2, 3]], [[1.0, 1.0, 1.0]], [[math.nan]], "total of galaxy 0, q is nan"),
    ],
)
def test_invalid_arguments_are_rejected_alike(
    votes: list[object], alpha: list[object], totals: list[object] | None, words: str
) -> None:
    with pytest.raises(InputError, match=words) as in_numpy:
        dirichlet_multinomial_nll(votes, alpha, ONE, totals)
    with pytest.raises(InputError, match=words) as in_torch:
        torch_nll(torch.tensor(votes), torch.tensor(alpha), ONE, None if totals is None else torch.tensor(totals))
    if words.startswith("vote count"):
        assert in_torch.value.message == in_numpy.value.message


def test_a_total_below_a_vote_count_of_several_answers_is_rejected_alike() -> None:
    counts = np.zeros((2, len(GZ2.columns)), int)
    question = next(one for one in GZ2.questions if one.multiple)
    counts[1, GZ2.slice(question.name)] = 5
    totals = GZ2.totals(counts)
    alpha = np.ones((2, len(GZ2.concentrations)))
    i = GZ2.questions.index(question)
    for more in (0, 3):  # volunteers who gave no answer
        totals[1, i] = 5 + more
        found = torch_nll(torch.tensor(counts), torch.tensor(alpha), GZ2, torch.tensor(totals)).numpy()
        assert found == pytest.approx(dirichlet_multinomial_nll(counts, alpha, GZ2, totals))
    totals[1, i] = 4
    words = f"total of galaxy 1, {question.name} is 4, but its votes are"
    with pytest.raises(InputError, match=words):
        dirichlet_multinomial_nll(counts, alpha, GZ2, totals)
    with pytest.raises(InputError, match=words):
        torch_nll(torch.tensor(counts), torch.tensor(alpha), GZ2, torch.tensor(totals))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_concentrations_that_are_not_finite_are_an_error_in_numpy_and_a_loss_in_torch(value: float) -> None:
    alpha = [[1.0, value, 1.0]]
    with pytest.raises(InputError, match=f"galaxy 0, q_b is {value}"):
        dirichlet_multinomial_nll([[1, 2, 3]], alpha, ONE)
    assert not torch.isfinite(torch_nll(torch.tensor([[1, 2, 3]]), torch.tensor(alpha), ONE)).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_votes_in_half_precision_are_taken(dtype: torch.dtype) -> None:
    counts = np.array([[3, 0, 250], [0, 0, 0], [1, 2, 3]])
    alpha = torch.tensor([[0.5, 2.0, 7.0]] * 3)
    votes = torch.tensor(counts)
    for totals in (None, votes.sum(dim=1, keepdim=True)):
        known = None if totals is None else totals.to(dtype)
        found = torch_nll(votes.to(dtype), alpha, ONE, known)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, torch_nll(votes, alpha, ONE, totals))


def test_torch_rejects_different_shapes() -> None:
    for votes, alpha in ((torch.zeros(1, 2), torch.ones(1, 2)), (torch.zeros(2, 3), torch.ones(1, 3))):
        with pytest.raises(InputError):
            torch_nll(votes, alpha, ONE)


def test_expected_fractions_are_the_mean_of_the_likelihood() -> None:
    alpha = np.array([[1.0, 2.0, 5.0, 3.0, 0.5, 1.0, 2.0, 4.0, 4.0]])
    np.testing.assert_allclose(expected_fractions(alpha, SMALL), [[1 / 8, 2 / 8, 5 / 8, 3 / 4, 1 / 5, 1 / 2, 1 / 2]])


# --- the baseline -------------------------------------------------------------------------------------------------


def simulated(alpha: FloatArray, n: int, volunteers: int, seed: int = 0) -> Votes:
    rng = np.random.default_rng(seed)
    return Votes(ONE, np.array([rng.multinomial(volunteers, p) for p in rng.dirichlet(alpha, n)]))


@pytest.mark.parametrize("alpha", [[0.5, 1.0, 2.0], [8.0, 3.0, 0.3], [20.0, 40.0, 10.0]])
def test_the_baseline_finds_known_concentrations(alpha: list[float]) -> None:
    fitted = fit_baseline(simulated(np.array(alpha), 6000, 40))
    np.testing.assert_allclose(fitted, alpha, rtol=0.12)
    np.testing.assert_allclose(fitted / fitted.sum(), np.array(alpha) / sum(alpha), atol=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_the_baseline_is_an_optimum(seed: int) -> None:
    votes = simulated(np.array([0.7, 2.0, 4.0]), 300, 25, seed)
    fitted = fit_baseline(votes)

    def cost(alpha: FloatArray) -> float:
        return float(dirichlet_multinomial_nll(votes.counts, np.broadcast_to(alpha, votes.counts.shape), ONE).sum())

    best = cost(fitted)
    rng = np.random.default_rng(seed)
    for size in (0.01, 0.05, 0.3):
        for _ in range(20):
            assert cost(fitted * np.exp(rng.normal(0, size, 3))) >= best - 1e-4


def test_the_baseline_where_several_answers_are_allowed() -> None:
    rng = np.random.default_rng(0)
    volunteers = rng.integers(1, 40, 4000)
    ticks = rng.binomial(volunteers[:, None], rng.beta([1.0, 7.0], [4.0, 3.0], (4000, 2)))
    fitted = fit_baseline(Votes(ROOT_OF_BOXES, ticks, volunteers[:, None]))
    np.testing.assert_allclose(fitted, [1.0, 7.0, 4.0, 3.0], rtol=0.1)
    alone = fit_baseline(Votes(ROOT_OF_BOXES, rng.binomial(volunteers[:, None], [0.2, 0.7]), volunteers[:, None]))
    np.testing.assert_allclose(expected_fractions(alone[None], ROOT_OF_BOXES), [[0.2, 0.7]], atol=0.01)
    assert alone[:2].sum() + alone[2:].sum() > 100  # votes without a spread of their own


UNUSUAL_VOTES = {
    "always the same answer": np.tile([[30, 0, 0]], (50, 1)),
    "one vote each": np.eye(3, dtype=np.int64)[[0, 0, 0, 1, 2, 0, 1, 0]],
    "one galaxy": np.array([[3, 2, 1]]),
    "one vote": np.array([[0, 1, 0]]),
    "always the same fractions": np.tile([[10, 20, 30]], (50, 1)),
    "unanimous but divided": np.array([[40, 0, 0], [0, 40, 0], [0, 0, 40]] * 20),
}


@pytest.mark.parametrize("counts", UNUSUAL_VOTES.values(), ids=UNUSUAL_VOTES)
def test_the_baseline_of_unusual_votes_is_finite(counts: IntArray) -> None:
    fitted = fit_baseline(Votes(ONE, counts))
    assert np.isfinite(fitted).all()
    assert ((fitted >= 1e-3 * (1 - 1e-9)) & (fitted <= 1e5 * (1 + 1e-9))).all()
    assert np.isfinite(dirichlet_multinomial_nll(counts, np.broadcast_to(fitted, counts.shape), ONE)).all()
    fractions = counts.sum(axis=0) / counts.sum()
    np.testing.assert_allclose(fitted / fitted.sum(), fractions, atol=0.2 if counts.sum() < 10 else 0.02)


def test_the_baseline_without_votes_is_uniform() -> None:
    for n in (0, 3):
        assert fit_baseline(Votes(GZ2, np.zeros((n, len(GZ2.columns)), np.int64))).tolist() == [1.0] * len(
            GZ2.concentrations
        )


def test_the_reference_equals_gammaln() -> None:
    assert log_rising(2.5, 7) == pytest.approx(gammaln(9.5) - gammaln(2.5), abs=1e-12)


# --- accuracy -----------------------------------------------------------------------------------------------------


def exactly(counts: list[int], alpha: list[float]) -> tuple[mpmath.mpf, mpmath.mpf]:
    """Negative log probability and log coefficient of one question's votes, with 60 digits."""
    with mpmath.workdps(60):
        k, a = [mpmath.mpf(one) for one in counts], [mpmath.mpf(one) for one in alpha]
        rising = [mpmath.loggamma(i + j) - mpmath.loggamma(i) for i, j in zip(a, k, strict=True)]
        whole = mpmath.loggamma(sum(a) + sum(k)) - mpmath.loggamma(sum(a))
        coefficient = mpmath.loggamma(sum(k) + 1) - sum(mpmath.loggamma(j + 1) for j in k)
        return whole - sum(rising) - coefficient, coefficient


def grid(seed: int) -> tuple[IntArray, FloatArray]:
    """Concentrations of 1e-3 to 1e7 and counts of 0 to 10,000: each pair of magnitudes, and all at random."""
    rng = np.random.default_rng(seed)
    sizes, votes = 10.0 ** np.arange(-3, 8), np.array([0, 1, 2, 3, 9, 10, 11, 40, 100, 999, 10_000])
    alpha = np.stack(np.meshgrid(sizes, sizes), axis=-1).reshape(-1, 2)
    rows = [np.column_stack([alpha, rng.choice(sizes, len(alpha))]) for _ in range(4)]
    counts = [rng.choice(votes, rows[0].shape) for _ in range(4)]
    rows.append(10 ** rng.uniform(-3, 7, (400, 3)))
    counts.append(rng.integers(0, 10 ** rng.integers(1, 5, (400, 1)) + 1, (400, 3)))
    rows.append(9.5 + rng.random((100, 3)))  # where Stirling's series begins
    counts.append(rng.integers(0, 50, (100, 3)))
    return np.concatenate(counts), np.concatenate(rows)


def test_likelihoods_are_accurate_over_the_whole_range() -> None:
    """At most 1e-9 nats or 1e-9 of the value, whichever is larger."""
    counts, alpha = grid(0)
    assert len(counts) > 900
    assert (counts.max(), alpha.max(), alpha.min()) == (10_000, 1e7, 1e-3)
    found = dirichlet_multinomial_nll(counts, alpha, ONE)[:, 0]
    coefficients = question_log_coefficient(counts, counts.sum(axis=1))
    worst = worst_coefficient = 0.0
    for k, a, nll, coefficient in zip(counts.tolist(), alpha.tolist(), found, coefficients, strict=True):
        true, true_coefficient = exactly(k, a)
        worst = max(worst, float(abs(nll - true) / max(1, abs(true))))
        worst_coefficient = max(
            worst_coefficient, float(abs(coefficient - true_coefficient) / max(1, true_coefficient))
        )
    assert worst <= 1e-9
    assert worst_coefficient <= 1e-9
    # a difference of two gammaln would fail this test
    plain = gammaln(alpha + counts) - gammaln(alpha)
    naive = gammaln((alpha + counts).sum(axis=1)) - gammaln(alpha.sum(axis=1)) - plain.sum(axis=1) - coefficients
    assert (np.abs(naive - found) / np.maximum(1, np.abs(found))).max() > 1e-9


def test_mixtures_and_several_answers_are_as_accurate() -> None:
    counts, alpha = grid(1)
    counts, alpha = counts[::5], alpha[::5]
    other = 10 ** np.random.default_rng(2).uniform(-3, 7, alpha.shape)
    mixed = mixture_nll(counts, np.stack([alpha, other]), ONE)[:, 0]
    said, volunteers = counts[:, 0], counts[:, 0] + counts[:, 1]
    two = beta_binomial_nll(said, volunteers, alpha[:, 0], alpha[:, 1])
    both = np.column_stack([alpha[:, :2], other[:, :2]])
    boxes = dirichlet_multinomial_nll(counts[:, :2], both, ROOT_OF_BOXES, volunteers[:, None])[:, 0]
    for i, k in enumerate(counts.tolist()):
        with mpmath.workdps(60):
            members = [exactly(k, each[i].tolist())[0] for each in (alpha, other)]
            wanted = [
                (mixed[i], -mpmath.log(sum(mpmath.exp(-one) for one in members) / 2)),
                (two[i], exactly(k[:2], alpha[i, :2].tolist())[0]),
                (boxes[i], sum(exactly([k[j], k[1 - j]], [alpha[i, j], other[i, j]])[0] for j in (0, 1))),
            ]
        for got, true in wanted:
            assert abs(got - true) <= 1e-9 * max(1, abs(true))
