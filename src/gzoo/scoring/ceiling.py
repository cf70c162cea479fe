"""The accuracy that is possible on labels made of votes, whose noise makes even the best prediction wrong at times."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gzoo.scoring.intervals import Blocks, Value, ratio
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

N_DRAWN = 200_000  # galaxies drawn in total, so that the Monte Carlo error of an accuracy is about 0.001
MAX_DRAWS = 400

Labels = npt.NDArray[np.str_]
Labelling = Callable[[Votes], Labels]
Classing = Callable[[FloatArray], Labels]


class Possible(NamedTuple):
    """Accuracies if the predicted distributions are right.

    Attributes:
        if_calibrated: Expected accuracy of the predicted classes.
        ceiling: Expected accuracy of the classes that follow from the true vote fractions.
    """

    if_calibrated: Value
    ceiling: Value


def possible_accuracy(
    members: FloatArray,
    votes: Votes,
    called: Labels,
    units: Blocks,
    *,
    label_of: Labelling,
    class_of: Classing,
    seed: int = 0,
    n_drawn: int = N_DRAWN,
) -> Possible:
    """Return the accuracies that votes as many as those given allow, by Monte Carlo.

    True fractions are drawn from the predicted distributions, votes from the fractions, question by question down the
    tree, and labels are made of these votes. Drawn galaxies without a label are left out, as are those of the dataset.

    Args:
        members: Concentrations, shape (member, galaxy, concentration); members are equally probable.
        votes: Votes of the galaxies, of which only the totals of the questions asked of everyone are used.
        called: Predicted class of each galaxy.
        units: Bootstrap units.
        label_of: Labels of votes, "" for none.
        class_of: Classes of vote fractions, shape (galaxy, answer).
        seed: Seed of the draws.
        n_drawn: Number of drawn galaxies: each is drawn equally often, at least once and at most `MAX_DRAWS` times.
    """
    rng, n = np.random.default_rng(seed), len(votes)
    n_draws = min(-(-n_drawn // n), MAX_DRAWS)
    right, best, labelled = (np.zeros(n) for _ in range(3))
    for _ in range(n_draws):
        fractions = draw_fractions(members, votes.tree, rng)
        labels = label_of(draw_votes(fractions, votes, rng))
        is_labelled = labels != ""
        labelled += is_labelled
        right += is_labelled & (labels == called)
        best += is_labelled & (labels == class_of(fractions))
    found = ratio(np.column_stack([right, best]) / n_draws, labelled[:, None] / n_draws, units)
    return Possible(found.of(0), found.of(1))


def draw_fractions(members: FloatArray, tree: Tree, rng: np.random.Generator) -> FloatArray:
    """Return vote fractions drawn from predicted distributions, shape (galaxy, answer).

    The member is drawn for each galaxy and question, as in the log-likelihood of a mixture.
    """
    n = members.shape[1]
    out = np.empty((n, len(tree.columns)))
    for question in tree.questions:
        member = rng.integers(len(members), size=n)
        alpha = members[member, np.arange(n), tree.concentration_slice(question.name)]
        out[:, tree.slice(question.name)] = _drawn(alpha, question, rng)
    return out


def _drawn(alpha: FloatArray, question: Question, rng: np.random.Generator) -> FloatArray:
    if question.multiple:
        k = len(question.columns)
        return rng.beta(alpha[:, :k], alpha[:, k:])
    gamma = rng.standard_gamma(alpha)
    total = gamma.sum(axis=1, keepdims=True)
    return np.divide(gamma, total, out=np.full_like(gamma, 1 / gamma.shape[1]), where=total > 0)


def draw_votes(fractions: FloatArray, votes: Votes, rng: np.random.Generator) -> Votes:
    """Return votes drawn from fractions, with the totals of `votes` on the questions that everyone is asked."""
    tree = votes.tree
    counts: IntArray = np.zeros(fractions.shape, np.int64)
    number = {question.name: i for i, question in enumerate(tree.questions)}
    for question in tree.ordered:
        i, own = number[question.name], tree.slice(question.name)
        parents = list(tree.parents_of_question[i])
        asked = counts[:, parents].sum(axis=1) if parents else votes.totals[:, i]
        given = fractions[:, own]
        counts[:, own] = rng.binomial(asked[:, None], given) if question.multiple else rng.multinomial(asked, given)
    return Votes(tree, counts)
