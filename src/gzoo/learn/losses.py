"""The loss for vote counts, in torch."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from gzoo.errors import InputError
from gzoo.trees.tree import Tree

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)  # B2, B4, ...: of Stirling's series
MAX_TABLE = 65_536


def dirichlet_multinomial_nll(
    votes: torch.Tensor,
    concentration: torch.Tensor,
    tree: Tree,
    totals: torch.Tensor | None = None,
    asked: torch.Tensor | None = None,
) -> torch.Tensor:
    """Negative log probability of the votes on each question, in nats; `gzoo.scoring` has the same in NumPy.

    Given that N people answered a question, their votes are Dirichlet-multinomial with the answers' concentrations;
    the multinomial coefficient is included. Where several answers are allowed at once, each answer is a binomial of
    the people asked, with odds equal to its concentration. A question that nobody was asked costs exactly 0 and has
    exactly zero gradient. It can be differentiated once.

    Computed in float32, whatever the autocast, and in float64 for concentrations of that type; right to the last
    digits for concentrations of any size (`benchmarks/loss_speed.py`). On the CPU only questions that were asked are
    computed. On other devices, and under `torch.compile`, all are, and masked: to count those that were asked, the
    host would have to wait for the device. Give `asked` to have them computed alone there too.

    Args:
        votes: Whole counts, shape (galaxy, answer), columns as `tree.columns`.
        concentration: Positive, same shape.
        tree: The questions.
        totals: People asked, shape (galaxy, question); by default the sum of the votes, and where several answers
            are allowed the people who gave a parent answer.
        asked: `asked_questions(totals)`, where it is known beforehand.

    Returns:
        Shape (galaxy, question), of the concentration's type (float32 where that is narrower).

    Raises:
        InputError: Shapes that do not fit the tree.

    >>> import gzoo, torch
    >>> one = torch.ones(1, 2, dtype=torch.float64)
    >>> dirichlet_multinomial_nll(torch.tensor([[1, 0]]), one, gzoo.tree("gz_rings"))
    tensor([[0.6931]], dtype=torch.float64)
    """
    if votes.shape != concentration.shape or votes.ndim != 2 or votes.shape[1] != len(tree.columns):
        raise InputError(
            f"Votes of shape {tuple(votes.shape)} with concentrations of shape {tuple(concentration.shape)}.",
            f"Both (galaxy, {len(tree.columns)}) for tree '{tree.name}'.",
            "Put the columns in the order of tree.columns.",
        )
    device, n_questions, n_answers = concentration.device, len(tree.questions), len(tree.columns)
    with torch.autocast(device.type, enabled=False):
        if totals is None:
            totals = _totals(votes, tree)
        if asked is None:
            asked = asked_questions(totals) if _is_eager_on_cpu(totals) else _all_questions(totals)
        galaxy, question = asked.unbind(0)
        # a column for each question; a row for each of its answers, as many as the longest question has
        sizes = tuple(len(each.columns) for each in tree.questions)
        every_size = _constant(sizes, device)
        size = every_size.index_select(0, question)
        first = galaxy * n_answers + (every_size.cumsum(0) - every_size).index_select(0, question)
        slot = torch.arange(max(sizes), device=device).unsqueeze(1)
        place = (first + torch.minimum(slot, size - 1)).view(-1)
        a = concentration.reshape(-1).index_select(0, place).view(len(slot), -1)
        a = a if a.dtype == torch.float64 else a.float()
        k = votes.reshape(-1).index_select(0, place).view(len(slot), -1)
        row = galaxy * n_questions + question
        volunteers = totals.reshape(-1).index_select(0, row)
        is_answer = (slot < size) & (volunteers > 0)
        n = torch.cat([k * is_answer, volunteers.unsqueeze(0)])
        cost = cast(torch.Tensor, _OneAnswer.apply(a, n, is_answer))
        if any(each.multiple for each in tree.questions):
            several = _constant(tuple(int(each.multiple) for each in tree.questions), device)
            is_several = several.index_select(0, question) > 0
            cost = torch.where(is_several, _several_answers(a, n, is_answer & is_several), cost)
        return cost.new_zeros(totals.numel()).index_copy(0, row, cost).view(totals.shape)


def asked_questions(totals: torch.Tensor) -> torch.Tensor:
    """Which questions somebody was asked.

    Args:
        totals: People asked, shape (galaxy, question).

    Returns:
        The galaxy and the question of each, shape (2, asked).

    >>> asked_questions(torch.tensor([[3, 0], [2, 1]]))
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    if not _is_eager_on_cpu(totals):
        return (totals > 0).nonzero().t()
    place = np.flatnonzero(totals.numpy() > 0)  # NumPy takes half the time of torch
    galaxy = place // max(1, totals.shape[1])
    return torch.from_numpy(np.stack([galaxy, place - galaxy * totals.shape[1]]))


def _all_questions(totals: torch.Tensor) -> torch.Tensor:
    each = [torch.arange(size, device=totals.device) for size in totals.shape]
    return torch.stack(torch.meshgrid(*each, indexing="ij")).flatten(1)


def _totals(votes: torch.Tensor, tree: Tree) -> torch.Tensor:
    """As `tree.totals`, in torch; the compiler cannot look into what a tree works out when first asked."""
    votes = votes if votes.is_floating_point() else votes.long()
    of = _constant(tuple(i for i, question in enumerate(tree.questions) for _ in question.columns), votes.device)
    volunteers = votes.new_zeros(len(votes), len(tree.questions)).index_add(1, of, votes)
    for i, question in enumerate(tree.questions):
        if question.multiple:
            parents, own = (
                _constant(tuple(tree.columns.index(one) for one in columns if one in tree.columns), votes.device)
                for columns in (question.parents, question.columns)
            )
            asked = votes.index_select(1, parents).sum(dim=1)
            volunteers[:, i] = torch.maximum(asked, votes.index_select(1, own).amax(dim=1))
    return volunteers


def _is_eager_on_cpu(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _constant(values: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """The values as a tensor, kept: to copy them to a device the host would wait for it, each time."""
    if torch.compiler.is_compiling():  # which keeps it by itself
        return torch.tensor(values, dtype=torch.int64, device=device)
    return _kept(values, device)


@lru_cache
def _kept(values: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)


# ----------------------------------------------------------------------------------------------------
# Questions: a column each, a row for each answer. In `n` the people asked stand below the votes.


class _OneAnswer(torch.autograd.Function):
    """Questions with one answer a person; the gradient is found together with the value."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, n: torch.Tensor, is_answer: torch.Tensor) -> torch.Tensor:
        is_asked = n[-1] > 0
        a = torch.where(is_answer, a, 1.0)  # a stand-in where there is no such answer or nobody was asked
        a0 = torch.where(is_asked, (a * is_answer).sum(0), 1.0)
        a, steps = torch.cat([a, a0.unsqueeze(0)]), n.to(a.dtype)
        rest, slope = _rising(a, steps)
        rest = rest - _factorial_rest(n, a.dtype)
        # logs of ratios: in a difference of logs the last digits would be lost
        ratio = (a + (steps + _shift(a.dtype))) / (steps + (1 + _shift(a.dtype)))
        cost = rest[-1] - (steps[:-1] * torch.log(ratio[:-1] / ratio[-1]) + rest[:-1]).sum(0)
        ctx.save_for_backward((slope[-1] - slope[:-1]) * is_answer)
        return torch.where(is_asked, cost, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        (slope,) = ctx.saved_tensors
        return slope * grad_outputs[0], None, None


def _several_answers(a: torch.Tensor, n: torch.Tensor, is_answer: torch.Tensor) -> torch.Tensor:
    """Questions with several answers a person: a binomial for each answer."""
    a = torch.where(is_answer, a, 1.0)
    n = n * torch.cat([is_answer, is_answer.any(0, keepdim=True)])
    counts = torch.stack([n[:-1], n[-1] - n[:-1], n[-1].expand_as(n[:-1])])
    yes, no, volunteers = counts.to(a.dtype)
    of_yes, of_no, of_volunteers = _factorial_rest(counts, a.dtype)
    past = 1 + _shift(a.dtype)
    coefficient = yes * torch.log((volunteers + past) / (yes + past)) + no * torch.log(
        (volunteers + past) / (no + past)
    )
    coefficient = coefficient + (of_volunteers - of_yes - of_no)
    return ((yes * torch.log1p(1 / a) + no * torch.log1p(a) - coefficient) * is_answer).sum(0)


# ----------------------------------------------------------------------------------------------------
# Stirling's series, the first factors taken out, so that a few terms do wherever a begins


def _shift(dtype: torch.dtype) -> int:
    """How many factors are taken out."""
    return 8 if dtype == torch.float64 else 2


def _terms(dtype: torch.dtype) -> tuple[list[float], list[float]]:
    """The series of log gamma and of its derivative; how many terms are needed goes with the shift."""
    bernoulli = BERNOULLI if dtype == torch.float64 else BERNOULLI[:3]
    of_value = [b / (2 * i * (2 * i - 1)) for i, b in enumerate(bernoulli, 1)]
    return of_value, [b / (2 * i) for i, b in enumerate(bernoulli, 1)]


def _rising(a: torch.Tensor, n: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The log of a (a + 1) ... (a + n - 1) less n log(a + n + shift) - n, and the derivative of the whole log in a."""
    low = a + _shift(a.dtype)
    u, v = low.reciprocal(), (low + n).reciprocal()
    u2, v2 = u * u, v * v
    log = torch.log1p(n * u)
    of_value, of_slope = _terms(a.dtype)
    rest = (low - 0.5) * log + v * _series(v2, of_value) - u * _series(u2, of_value)
    slope = log + 0.5 * (u - v) + u2 * _series(u2, of_slope) - v2 * _series(v2, of_slope)
    product = torch.ones_like(a)
    for i in range(_shift(a.dtype)):
        first, last = a + i, a + i + n
        product *= first / last
        slope += n / (first * last)
    return rest + torch.log(product), slope


def _series(x: torch.Tensor, terms: list[float]) -> torch.Tensor:
    total = x * terms[-1]
    for term in terms[-2:0:-1]:
        total += term
        total *= x
    total += terms[0]
    return total


def _factorial_rest(n: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The log of n! less n log(n + 1 + shift) - n; from a table where it costs nothing to look at the numbers."""
    if n.numel() and _is_eager_on_cpu(n) and not n.is_floating_point():
        largest = int(n.max())
        if largest < MAX_TABLE:
            return _table(1 << largest.bit_length(), dtype).index_select(0, n.reshape(-1)).view(n.shape)
    return _factorial_series(n.to(dtype))


@lru_cache
def _table(size: int, dtype: torch.dtype) -> torch.Tensor:
    return _factorial_series(torch.arange(size, dtype=dtype))


def _factorial_series(n: torch.Tensor) -> torch.Tensor:
    shift = _shift(n.dtype)
    past = n + (1 + shift)
    product = past.sqrt()
    for i in range(1, shift + 1):
        product *= past / (n + i)
    v = past.reciprocal()
    value_terms, _ = _terms(n.dtype)
    return torch.log(product) + v * _series(v * v, value_terms) + (0.5 * math.log(2 * math.pi) - 1 - shift)
