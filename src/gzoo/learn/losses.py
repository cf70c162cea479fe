"""The loss for vote counts, in torch."""

from __future__ import annotations

import torch

from gzoo.errors import InputError
from gzoo.trees import Tree


def dirichlet_multinomial_nll(
    votes: torch.Tensor, concentration: torch.Tensor, tree: Tree, totals: torch.Tensor | None = None
) -> torch.Tensor:
    """Negative log probability of the votes on each question, in nats; `gzoo.scoring` has the same in NumPy.

    Given that N people answered a question, their votes are Dirichlet-multinomial with the answers' concentrations;
    the multinomial coefficient is included. Where several answers are allowed at once, each answer is a binomial of
    the people asked, with odds equal to its concentration. A question that nobody was asked costs exactly 0 and has
    exactly zero gradient. Computed in float64, whatever the autocast.

    Args:
        votes: Whole counts, shape (galaxy, answer), columns as `tree.columns`.
        concentration: Positive, same shape.
        tree: The questions.
        totals: People asked, shape (galaxy, question); by default the sum of the votes, and where several answers
            are allowed the people who gave a parent answer.

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
    with torch.autocast(concentration.device.type, enabled=False):
        wide = torch.float32 if concentration.device.type == "mps" else torch.float64  # mps has no float64
        k = votes.to(wide)
        of = torch.tensor(tree.question_of_answer, device=k.device)
        several = torch.tensor([question.multiple for question in tree.questions], device=k.device)
        people = _totals(k, of, tree) if totals is None else totals.to(wide)
        asked = people > 0
        cell_asked = asked[:, of]
        # where nobody was asked, constants stand in: no value or gradient can come from there
        a = torch.where(cell_asked, concentration.to(wide), torch.ones_like(k))
        n = people[:, of]
        single = torch.lgamma(k + 1) - (torch.lgamma(a + k) - torch.lgamma(a))
        if bool(several.any()):
            rest = torch.where(several[of], n - k, torch.zeros_like(k))
            coefficient = torch.lgamma(k + 1) + torch.lgamma(rest + 1) - torch.lgamma(n + 1)
            binomial = coefficient + k * torch.log1p(1 / a) + rest * torch.log1p(a)
            single = torch.where(several[of], binomial, single)
        zeros = torch.zeros_like(people)
        a0 = zeros.index_add(1, of, a)
        whole = torch.lgamma(a0 + people) - torch.lgamma(a0) - torch.lgamma(people + 1)
        nll = zeros.index_add(1, of, single) + torch.where(several, zeros, whole)
        nll = torch.where(asked, nll, zeros)
    return nll.to(concentration.dtype if concentration.dtype == torch.float64 else torch.float32)


def _totals(k: torch.Tensor, of: torch.Tensor, tree: Tree) -> torch.Tensor:
    people = torch.zeros(len(k), len(tree.questions), dtype=k.dtype, device=k.device).index_add(1, of, k)
    for i, question in enumerate(tree.questions):
        if question.multiple:
            asked = k[:, list(tree.parents_of_question[i])].sum(dim=1)
            people[:, i] = torch.maximum(asked, k[:, tree.slice(question.name)].amax(dim=1))
    return people
