"""The loss for vote counts in torch."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from gzoo.errors import InputError
from gzoo.scoring.likelihood import checked_votes
from gzoo.trees.tree import Tree

__all__ = ["asked_questions", "dirichlet_multinomial_nll"]

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)  # B2, B4, ... in Stirling's series
MAX_TABLE = 65_536


def dirichlet_multinomial_nll(
    votes: torch.Tensor,
    concentration: torch.Tensor,
    tree: Tree,
    totals: torch.Tensor | None = None,
    asked: torch.Tensor | None = None,
    *,
    check: bool | None = None,
) -> torch.Tensor:
    """Return the negative log-likelihood of the votes on each question, in nats.

    Given the total votes N on a question, the vote counts are Dirichlet-multinomial with the answers' concentrations;
    the multinomial coefficient is included. Where a question allows several answers at once, each answer is
    beta-binomial among the N volunteers, with concentrations of giving it and of not giving it. A question without
    votes costs exactly 0 and has exactly zero gradient. The result can be differentiated once. `gzoo.scoring` has the
    same likelihood in NumPy.

    Computation is in float32 under any autocast, and in float64 for float64 concentrations; it is accurate for
    concentrations of any size (`benchmarks/loss_speed.py`). On the CPU, only questions with votes are computed. On
    other devices and under `torch.compile`, all are computed and masked, because counting those with votes would make
    the host wait for the device. Pass `asked` to compute only those there too.

    What `gzoo.scoring.dirichlet_multinomial_nll` refuses is refused in the same words: votes that are not counts,
    totals that contradict them, and concentrations of 0 or less. A NaN or infinite concentration does not raise an
    error, but makes the loss of its question NaN or infinite, which gradient scalers and training loops watch for.
    The check takes up to a fifth of the time of the loss. Batches of `gzoo.loader` were checked when the dataset was
    opened: pass `check=False` for them.

    Args:
        votes: Vote counts of any type, shape (galaxy, answer), columns as `tree.columns`.
        concentration: Positive concentrations, shape (galaxy, concentration), columns as `tree.concentrations`.
        tree: Decision tree.
        totals: Total votes, shape (galaxy, question); by default the sum of the vote counts, or, where a question
            allows several answers, the number of volunteers who gave a parent answer.
        asked: Result of `asked_questions(totals)`, if it is already known.
        check: Whether to check votes, totals and concentrations; by default on a CPU alone, because the host would
            wait for another device. `torch.compile` omits the check.

    Returns:
        Loss, shape (galaxy, question), in the type of the concentrations (at least float32).

    Raises:
        InputError: The shapes do not match the tree, votes are not counts, totals contradict them, or a concentration
            is not positive.

    >>> import gzoo, torch
    >>> one = torch.ones(1, 2, dtype=torch.float64)
    >>> dirichlet_multinomial_nll(torch.tensor([[1, 0]]), one, gzoo.tree("gz_rings"))
    tensor([[0.6931]], dtype=torch.float64)
    """
    questions = tree.questions
    n_answers = sum(len(each.columns) for each in questions)
    n_concentrations = sum(_n_concentrations(tree))
    if votes.ndim != 2 or votes.shape[1] != n_answers or concentration.shape != (len(votes), n_concentrations):
        raise InputError(
            f"Votes have shape {tuple(votes.shape)} and concentrations {tuple(concentration.shape)}.",
            f"shapes (galaxy, {n_answers}) and (galaxy, {n_concentrations}), with the columns of tree '{tree.name}'.",
        )
    votes, totals = _without_half(votes), None if totals is None else _without_half(totals)
    if (check or (check is None and _is_eager_on_cpu(concentration))) and not torch.compiler.is_compiling():
        _check(votes, totals, concentration, tree)
    device, n_questions = concentration.device, len(questions)
    with torch.autocast(device.type, enabled=False):
        if totals is None:
            totals = _totals(votes, tree)
        if asked is None:
            asked = asked_questions(totals) if _is_eager_on_cpu(totals) else _all_questions(totals)
        galaxy, question = asked.unbind(0)
        # a column for each question of a galaxy; a row for each of its answers, padded to the longest question
        sizes = tuple(len(each.columns) for each in questions)
        is_several = tuple(each.multiple for each in questions)
        size = _constant(sizes, device).index_select(0, question)
        slot = torch.arange(max(sizes), device=device).unsqueeze(1)
        offset = torch.minimum(slot, size - 1)
        place = (galaxy * n_answers + _constant(_starts(sizes), device).index_select(0, question) + offset).view(-1)
        place_of_a = place
        if any(is_several):
            start = _constant(_starts(_n_concentrations(tree)), device).index_select(0, question)
            place_of_a = (galaxy * n_concentrations + start + offset).view(-1)
        concentration = concentration if concentration.dtype == torch.float64 else concentration.float()
        a = concentration.reshape(-1).index_select(0, place_of_a).view(len(slot), -1)
        k = votes.reshape(-1).index_select(0, place).view(len(slot), -1)
        row = galaxy * n_questions + question
        volunteers = totals.reshape(-1).index_select(0, row)
        is_answer = (slot < size) & (volunteers > 0)
        if any(is_several):
            volunteers = volunteers * (1 - _constant(is_several, device).index_select(0, question)).to(volunteers.dtype)
            is_answer = is_answer & (volunteers > 0)
        n = torch.cat([k * is_answer, volunteers.unsqueeze(0)])
        cost = cast(torch.Tensor, _SingleAnswer.apply(a, n, is_answer))
        cost = cost.new_zeros(totals.numel()).index_copy(0, row, cost).view(totals.shape)
        if any(is_several):
            where = tuple(i for i, several in enumerate(is_several) if several)
            cost = cost.index_copy(1, _constant(where, device), _several_answers(votes, concentration, totals, tree))
        return cost


def asked_questions(totals: torch.Tensor) -> torch.Tensor:
    """Return the questions that have votes.

    Args:
        totals: Total votes, shape (galaxy, question).

    Returns:
        Row of the galaxy and of the question, shape (2, questions with votes).

    >>> asked_questions(torch.tensor([[3, 0], [2, 1]]))
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    if not _is_eager_on_cpu(totals):
        return (totals > 0).nonzero().t()
    place = np.flatnonzero(totals.numpy() > 0)  # NumPy takes half the time of torch
    galaxy = place // max(1, totals.shape[1])
    return torch.from_numpy(np.stack([galaxy, place - galaxy * totals.shape[1]]))


def _without_half(counts: torch.Tensor) -> torch.Tensor:
    """Return counts in a type in which they can be added."""
    return counts.float() if counts.dtype in {torch.float16, torch.bfloat16} else counts


def _check(votes: torch.Tensor, totals: torch.Tensor | None, concentration: torch.Tensor, tree: Tree) -> None:
    """Refuse what the likelihood in NumPy refuses."""
    checked_votes(votes.cpu().numpy(), tree, None if totals is None else totals.cpu().numpy())
    lowest = concentration.detach().min() if concentration.numel() else 1
    if lowest <= 0:
        row, column = (concentration <= 0).nonzero()[0].tolist()
        raise InputError(
            f"The prediction for galaxy {row}, {tree.concentrations[column]} is {concentration[row, column].item()}.",
            "positive numbers.",
            "Use softplus or exp as the last step of the model, and add a small number.",
        )


def _all_questions(totals: torch.Tensor) -> torch.Tensor:
    each = [torch.arange(size, device=totals.device) for size in totals.shape]
    return torch.stack(torch.meshgrid(*each, indexing="ij")).flatten(1)


def _totals(votes: torch.Tensor, tree: Tree) -> torch.Tensor:
    """Return `tree.totals` in torch; `torch.compile` cannot trace the cached properties of a tree."""
    votes = votes if votes.is_floating_point() else votes.long()
    question_of_answer = tuple(i for i, question in enumerate(tree.questions) for _ in question.columns)
    volunteers = votes.new_zeros(len(votes), len(tree.questions))
    volunteers = volunteers.index_add(1, _constant(question_of_answer, votes.device), votes)

    def counts(columns: tuple[str, ...]) -> torch.Tensor:
        places = tuple(tree.columns.index(column) for column in columns if column in tree.columns)
        return votes.index_select(1, _constant(places, votes.device))

    for i, question in enumerate(tree.questions):
        if question.multiple:
            volunteers[:, i] = torch.maximum(counts(question.parents).sum(dim=1), counts(question.columns).amax(dim=1))
    return volunteers


def _is_eager_on_cpu(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _constant(values: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return the values as a cached tensor: copying them to a device would make the host wait each time."""
    if torch.compiler.is_compiling():  # the compiled graph contains the tensor
        return torch.tensor(values, dtype=torch.int64, device=device)
    return _cached_constant(values, device)


@lru_cache
def _cached_constant(values: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)


def _n_concentrations(tree: Tree) -> tuple[int, ...]:
    """Return the number of concentrations of each question."""
    return tuple(len(each.columns) * (2 if each.multiple else 1) for each in tree.questions)


def _starts(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sum(sizes[:i]) for i in range(len(sizes)))


# ----------------------------------------------------------------------------------------------------
# Arrays have a column for each question and a row for each answer. The last row of `n` contains the total votes.


class _SingleAnswer(torch.autograd.Function):
    """Questions with one answer per volunteer; the gradient is computed together with the value."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, n: torch.Tensor, is_answer: torch.Tensor) -> torch.Tensor:
        is_asked = n[-1] > 0
        a = torch.where(is_answer, a, 1.0)  # a placeholder for missing answers and questions without votes
        a0 = torch.where(is_asked, (a * is_answer).sum(0), 1.0)
        a, steps = torch.cat([a, a0.unsqueeze(0)]), n.to(a.dtype)
        rest, slope = _rising(a, steps)
        rest = rest - _factorial_rest(n, a.dtype)
        # logarithms of ratios, because a difference of logarithms would lose the last digits
        ratio = (a + (steps + _shift(a.dtype))) / (steps + (1 + _shift(a.dtype)))
        cost = rest[-1] - (steps[:-1] * torch.log(ratio[:-1] / ratio[-1]) + rest[:-1]).sum(0)
        ctx.save_for_backward((slope[-1] - slope[:-1]) * is_answer)
        return torch.where(is_asked, cost, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        (slope,) = ctx.saved_tensors
        return slope * grad_outputs[0], None, None


def _several_answers(
    votes: torch.Tensor, concentration: torch.Tensor, totals: torch.Tensor, tree: Tree
) -> torch.Tensor:
    """Return the loss of the questions that allow several answers, shape (galaxy, such question).

    Each answer is a question of its own with the answers yes and no.
    """
    device, n_galaxies = votes.device, len(votes)
    ends: list[int] = []
    answers: list[int] = []
    yes: list[int] = []
    question_of: list[int] = []
    sizes, n_concentrations = tuple(len(each.columns) for each in tree.questions), _n_concentrations(tree)
    places = zip(sizes, _starts(sizes), _starts(n_concentrations), strict=True)
    for i, (size, start, first) in enumerate(places):
        if tree.questions[i].multiple:
            answers += range(start, start + size)
            yes += range(first, first + size)
            question_of += [i] * size
            ends.append(len(answers))
    no = [place + sizes[i] for place, i in zip(yes, question_of, strict=True)]
    rows = None
    if _is_eager_on_cpu(totals):  # few galaxies are asked such questions
        rows = (totals.index_select(1, _constant(tuple(question_of), device)) > 0).any(1).nonzero().squeeze(1)
        votes, concentration, totals = (one.index_select(0, rows) for one in (votes, concentration, totals))
    k, n = (
        one.index_select(1, _constant(tuple(where), device)).reshape(-1)
        for one, where in ((votes, answers), (totals, question_of))
    )
    a = torch.stack([concentration.index_select(1, _constant(tuple(where), device)).reshape(-1) for where in (yes, no)])
    is_asked = n > 0
    k = k.to(n.dtype) * is_asked
    cost = cast(torch.Tensor, _SingleAnswer.apply(a, torch.stack([k, n - k, n]), is_asked.expand(2, -1)))
    each = cost.view(-1, len(answers))
    found = torch.stack([each[:, start:end].sum(1) for start, end in zip([0, *ends], ends, strict=False)], 1)
    return found if rows is None else found.new_zeros(n_galaxies, len(ends)).index_copy(0, rows, found)


# ----------------------------------------------------------------------------------------------------
# Stirling's series. The first factors are computed separately, so that a few terms suffice for any value of a.


def _shift(dtype: torch.dtype) -> int:
    """Return the number of factors that are computed separately."""
    return 8 if dtype == torch.float64 else 2


def _terms(dtype: torch.dtype) -> tuple[list[float], list[float]]:
    """Return the series of log gamma and of its derivative; the number of terms needed depends on the shift."""
    bernoulli = BERNOULLI if dtype == torch.float64 else BERNOULLI[:3]
    value_terms = [b / (2 * i * (2 * i - 1)) for i, b in enumerate(bernoulli, 1)]
    return value_terms, [b / (2 * i) for i, b in enumerate(bernoulli, 1)]


def _rising(a: torch.Tensor, n: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log of a (a + 1) ... (a + n - 1) minus n log(a + n + shift) - n, and the derivative of the log in a."""
    low = a + _shift(a.dtype)
    u, v = low.reciprocal(), (low + n).reciprocal()
    u2, v2 = u * u, v * v
    log = torch.log1p(n * u)
    value_terms, slope_terms = _terms(a.dtype)
    rest = (low - 0.5) * log + v * _series(v2, value_terms) - u * _series(u2, value_terms)
    slope = log + 0.5 * (u - v) + u2 * _series(u2, slope_terms) - v2 * _series(v2, slope_terms)
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
    """Return log n! minus n log(n + 1 + shift) - n, from a table where reading the counts is cheap."""
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
