"""Posterior: a model's prediction and the votes it has not seen, multiplied; `combine` writes a catalogue of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import optimize

from gzoo.dataset.open import KEY, Dataset
from gzoo.errors import InputError, TableError
from gzoo.scoring.betas import mixture_quantile, quantile
from gzoo.scoring.likelihood import beta_binomial_nll, dirichlet_multinomial_nll, mixed
from gzoo.scoring.predictions import BoolArray, Predictions, match, read_predictions
from gzoo.trees.tree import FloatArray, Tree
from gzoo.votes.votes import Votes

Progress = Callable[[str, int, int], None]

N_AT_ONCE = 20_000
MIN = 1e-300  # of a concentration, for a question with a single answer
N_TO_FIT = 20_000
"""So many galaxies are enough to say what an odds-only prediction is worth."""
WORTH, SPREAD_OF_LOG_WORTH = 2.0, 2.0  # in votes, before any are seen: even odds then are a uniform distribution
LOG_MIN_WORTH, LOG_MAX_WORTH = float(np.log(1e-2)), float(np.log(1e6))


@dataclass(frozen=True)
class Posterior:
    """What is believed of the share of people who give each answer, once their votes are in.

    The shares of a question are a Dirichlet distribution, or a mixture of them; here each answer by itself, as Beta
    distributions. Shapes (member, galaxy, answer).

    Attributes:
        tree: The questions.
        alpha: Concentration of each answer: the prediction's plus the votes.
        beta: The same of all other answers together; of not giving it, where several answers are allowed.
        weights: Of the members of a mixture; those of an answer add up to 1.
    """

    tree: Tree
    alpha: FloatArray
    beta: FloatArray
    weights: FloatArray

    @cached_property
    def fractions(self) -> FloatArray:
        """Expected share of those asked, shape (galaxy, answer)."""
        return (self.weights * self.alpha / (self.alpha + self.beta)).sum(axis=0)

    def interval(self, level: float) -> tuple[FloatArray, FloatArray]:
        """The equal-tailed interval that holds each share with probability `level`, two of shape (galaxy, answer)."""
        tail = (1 - level) / 2
        low, high = (mixture_quantile(self.weights, self.alpha, self.beta, q) for q in (tail, 1 - tail))
        return low, high

    @cached_property
    def proportion_asked(self) -> FloatArray:
        """Expected probability of being asked, shape (galaxy, question); NaN where the tree cannot tell.

        Exact: shares of different questions are independent, given the votes.
        """
        return self.tree.proportion_asked(self.fractions)

    def proportion_asked_interval(self, level: float) -> tuple[FloatArray, FloatArray]:
        """About `level` of the probability of being asked, two of shape (galaxy, question).

        Mean and variance are exact; of all distributions that have them a Beta is taken. That is rough where the
        members of a mixture contradict each other and no votes decide.
        """
        mean, variance = self.proportion_asked, self.proportion_asked_variance
        # below rounding there is nothing to know: everybody is asked, or nobody
        is_open = (variance > 1e-14) & (variance < mean * (1 - mean))
        m, v = mean[is_open], variance[is_open]
        worth = m * (1 - m) / v - 1
        low, high = mean.copy(), mean.copy()
        tail = (1 - level) / 2
        low[is_open] = quantile(m * worth, (1 - m) * worth, tail)
        high[is_open] = quantile(m * worth, (1 - m) * worth, 1 - tail)
        return low, high

    @cached_property
    def proportion_asked_variance(self) -> FloatArray:
        """Variance of the probability of being asked, shape (galaxy, question); exact, NaN as in `proportion_asked`.

        The probability is a sum over parent answers, so its square is one over pairs of them; of two answers, that of
        the later question is independent of all that came before it.
        """
        tree = self.tree
        rank = {question.name: i for i, question in enumerate(tree.ordered)}
        ranks = [rank[question.name] for question in tree.questions]
        known: dict[tuple[int, int], FloatArray] = {}

        def square(question: int) -> FloatArray:
            parents = tree.parents_of_question[question]
            if not parents:
                return np.ones(len(self.fractions))
            return sum((both(one, other) for one in parents for other in parents), np.zeros(len(self.fractions)))

        def both(one: int, other: int) -> FloatArray:
            """Expected P(one) x P(other), each with its question's reach."""
            first, second = tree.question_of_answer[one], tree.question_of_answer[other]
            if ranks[first] > ranks[second] or (first == second and one > other):
                return both(other, one)
            if (one, other) not in known:
                if first == second:
                    known[one, other] = square(first) * self.product(one, other)
                else:
                    parents = tree.parents_of_question[second]
                    there = self.proportion_asked[:, first] * self.fractions[:, one]
                    met = sum((both(one, parent) for parent in parents), np.zeros(len(there))) if parents else there
                    known[one, other] = met * self.fractions[:, other]
            return known[one, other]

        squares = np.full(self.proportion_asked.shape, np.nan)
        for i, question in enumerate(tree.questions):
            if question.name not in tree.unreachable:
                squares[:, i] = square(i)
        return np.maximum(squares - self.proportion_asked**2, 0.0)

    def product(self, one: int, other: int) -> FloatArray:
        """Expected product of the shares of two answers to one question, or of one with itself; shape (galaxy,)."""
        if one != other and self.tree.questions[self.tree.question_of_answer[one]].multiple:
            return self.fractions[:, one] * self.fractions[:, other]
        alpha, total = self.alpha[:, :, one], self.alpha[:, :, one] + self.beta[:, :, one]
        then = alpha + 1 if one == other else self.alpha[:, :, other]
        return (self.weights[:, :, one] * alpha / total * then / (total + 1)).sum(axis=0)


def posterior(votes: Votes, concentrations: FloatArray, worth: FloatArray | None = None) -> Posterior:
    """What follows from predictions and votes that their model has not seen.

    A Dirichlet distribution of concentrations c becomes one of c + votes. The members of a mixture do so each by
    itself, and then count, question by question, by how probable they held the votes. Where several answers are
    allowed at once, a concentration is only the odds o of an answer and says nothing of how sure it is: it is taken
    for Beta(s o / (1 + o), s / (1 + o)), worth s votes.

    Args:
        votes: Of the galaxies.
        concentrations: Predicted, shape (member, galaxy, answer).
        worth: For each answer of the questions that allow several, what their prediction is worth in votes, as
            `fit_worth` says; 2 by default. Other answers do not use it.

    >>> import gzoo, numpy as np
    >>> votes = gzoo.Votes(gzoo.tree("gz_rings"), np.array([[3, 1], [0, 0]]))
    >>> found = posterior(votes, np.array([[[1.0, 1.0], [1.0, 1.0]]]))
    >>> found.fractions.round(4)
    array([[0.6667, 0.3333],
           [0.5   , 0.5   ]])
    >>> found.interval(0.9)[0].round(3)
    array([[0.343, 0.076],
           [0.05 , 0.05 ]])
    """
    tree = votes.tree
    alpha = concentrations.astype(np.float64)
    beta = np.empty_like(alpha)
    log_weights = np.zeros_like(alpha)
    is_mixture = len(alpha) > 1
    if is_mixture:
        each = [-dirichlet_multinomial_nll(votes.counts, one, tree, votes.totals) for one in concentrations]
        log_weights = np.stack(each)[:, :, list(tree.question_of_answer)]
    for i, question in enumerate(tree.questions):
        own = tree.slice(question.name)
        counts, volunteers = votes.counts[:, own], votes.totals[:, i, None]
        if question.multiple:
            odds = alpha[:, :, own]
            votes_worth = np.full(odds.shape[2], WORTH) if worth is None else worth[own]
            alpha[:, :, own], beta[:, :, own] = _of_odds(odds, votes_worth)
            if is_mixture:
                asked = np.broadcast_to(volunteers, counts.shape)
                for m in range(len(alpha)):
                    cost = beta_binomial_nll(counts, asked, alpha[m, :, own], beta[m, :, own])
                    log_weights[m, :, own] = -cost
            beta[:, :, own] += volunteers - counts
            alpha[:, :, own] += counts
        else:
            alpha[:, :, own] += counts
            beta[:, :, own] = _others(alpha[:, :, own])
    weights = np.exp(log_weights - log_weights.max(axis=0))
    weights /= weights.sum(axis=0)
    return Posterior(tree, alpha, beta, weights)


def _others(alpha: FloatArray) -> FloatArray:
    """Sum over all other answers, without taking a large number from a larger one."""
    before, after = np.zeros_like(alpha), np.full_like(alpha, MIN)
    before[..., 1:] = np.cumsum(alpha[..., :-1], axis=-1)
    after[..., :-1] += np.cumsum(alpha[..., :0:-1], axis=-1)[..., ::-1]
    return before + after


def _of_odds(odds: FloatArray, worth: FloatArray) -> tuple[FloatArray, FloatArray]:
    return worth * odds / (1 + odds), worth / (1 + odds)


def fit_worth(votes: Votes, concentrations: FloatArray) -> FloatArray:
    """What the predicted odds of each answer are worth in votes, where several answers are allowed.

    The number under which the votes are most probable, the same for all galaxies: predictions that votes bear out
    are worth many. Before any are seen it is taken for 2, give or take a factor of e^2.

    Args:
        votes: Of galaxies that the model has not seen.
        concentrations: Predicted, shape (member, galaxy, answer).

    Returns:
        Shape (answer,); NaN for questions that allow one answer.
    """
    tree = votes.tree
    fitted = np.full(len(tree.columns), np.nan)
    for i, question in enumerate(tree.questions):
        if not question.multiple:
            continue
        asked = votes.totals[:, i] > 0
        volunteers = votes.totals[asked, i]
        for column in range(tree.starts[i], tree.starts[i] + len(question.columns)):
            odds, said = concentrations[:, asked, column], votes.counts[asked, column]

            def cost(
                log_worth: float, odds: FloatArray = odds, said: Any = said, volunteers: Any = volunteers
            ) -> float:
                pairs = zip(*_of_odds(odds, np.exp(np.array(log_worth))), strict=True)
                each = [beta_binomial_nll(said, volunteers, alpha, beta) for alpha, beta in pairs]
                doubt = (log_worth - np.log(WORTH)) ** 2 / (2 * SPREAD_OF_LOG_WORTH**2)
                return float(mixed(each).sum()) + float(doubt)

            bounds = (LOG_MIN_WORTH, LOG_MAX_WORTH)
            found: Any = optimize.minimize_scalar(cost, bounds=bounds, method="bounded")
            fitted[column] = np.exp(found.x)
    return fitted


# ----------------------------------------------------------------------------------------------------
# Predictions and votes that may be multiplied


@dataclass(frozen=True)
class Unseen:
    """Predictions with the votes of their galaxies, none of which the model has seen.

    Attributes:
        keys: `dataset_name`, `id_str` and `split`, a row a galaxy.
        votes: Of each galaxy, on the predicted questions.
        concentrations: Shape (member, galaxy, answer).
        source: The prediction file.
    """

    keys: pl.DataFrame
    votes: Votes
    concentrations: FloatArray
    source: Path

    def __len__(self) -> int:
        return len(self.votes)

    @cached_property
    def worth(self) -> FloatArray:
        """`fit_worth` of these predictions, from a fair sample of the galaxies."""
        if not any(question.multiple for question in self.votes.tree.questions):
            return np.full(len(self.votes.tree.columns), np.nan)
        some = np.arange(0, len(self), -(-len(self) // N_TO_FIT))
        return fit_worth(self.votes.take(some), self.concentrations[:, some])

    def posteriors(self) -> Iterator[tuple[slice, Posterior]]:
        """Some galaxies at a time, with their rows."""
        for start in range(0, len(self), N_AT_ONCE):
            rows = slice(start, min(start + N_AT_ONCE, len(self)))
            few = self.votes.take(np.arange(rows.start, rows.stop))
            yield rows, posterior(few, self.concentrations[:, rows], self.worth)


def read_unseen(predictions: Sequence[Path | str], dataset: Dataset) -> list[Unseen]:
    """Predictions from one or several files, each galaxy once, by a model that has not seen its votes.

    Of each file those galaxies count that its model has not seen: as the file says (`in_training_set`), or, where it
    says nothing, those outside the train split.

    Args:
        predictions: The files.
        dataset: With the votes.

    Raises:
        InputError: No file is given.
        NotFoundError: A file is not there.
        TableError: One is no prediction file for this dataset; it holds fractions only; files predict different
            questions; a galaxy is predicted by no model that has not seen it, or by two.
    """
    if not predictions:
        raise InputError("There are no predictions.", "One or more prediction files.", "Name them.")
    united: list[Unseen] = []
    refused: list[pl.DataFrame] = []
    questions: tuple[str, ...] = ()
    for path in map(Path, predictions):
        read = read_predictions(path, dataset.tree)
        if read.kind != "concentrations":
            raise TableError(
                f"{path} holds fractions only, which cannot be combined with votes: they do not say how many votes "
                "they are worth.",
                "Concentrations, {column}_concentration for each answer.",
                "Predict with a model that gives them; `gzoo predict` does.",
            )
        if united and read.questions != questions:
            odd = sorted(set(read.questions) ^ set(questions))
            raise TableError(
                f"{path} and {united[0].source} predict different questions, such as {odd[0]}.",
                "The same questions in every file.",
                "Combine them apart, into catalogues of their own.",
            )
        questions = read.questions
        matched = match(dataset, read.keys, path)
        is_seen = read.in_training_set if read.says_trained_on else (matched.keys["split"] == "train").to_numpy()
        refused.append(matched.keys.filter(pl.Series(is_seen)).select(*KEY, file=pl.lit(str(path))))
        united.append(_unseen(read, matched.votes.on(_predicted(dataset.tree, questions)), matched.keys, ~is_seen))
    _refuse_seen(united, pl.concat(refused))
    _refuse_twice(united)
    return [one for one in united if len(one)]


def _predicted(tree: Tree, questions: Sequence[str]) -> Tree:
    """The tree of the predicted questions; those that are left out may make others unreachable."""
    excluded = [question for question in tree.questions if question.name not in questions]
    if not excluded:
        return tree
    unavailable = tree.unavailable | {column for question in excluded for column in question.columns}
    return Tree(tree.name, tuple(question for question in tree.questions if question.name in questions), unavailable)


def _unseen(read: Predictions, votes: Votes, keys: pl.DataFrame, wanted: BoolArray) -> Unseen:
    values = read.concentrations
    if votes.tree is not read.tree:
        values = values[:, :, [read.tree.columns.index(column) for column in votes.tree.columns]]
    if not wanted.all():
        keys, votes, values = keys.filter(pl.Series(wanted)), votes.take(wanted), values[:, wanted]
    return Unseen(keys, votes, values, read.source)


def _refuse_seen(united: Sequence[Unseen], refused: pl.DataFrame) -> None:
    known = pl.concat([one.keys.select(KEY) for one in united])
    left = refused.join(known, on=KEY, how="anti", maintain_order="left")
    if not left.height:
        return
    galaxies = left["id_str"].unique(maintain_order=True)
    raise TableError(
        f"{', '.join(left['file'].unique(maintain_order=True))}: the model was trained on {len(galaxies):,} galaxies "
        f"({', '.join(galaxies.head(5))}{', ...' if len(galaxies) > 5 else ''}), whose votes would count twice.",
        "Galaxies that a model has not seen: in_training_set is false or, where a file has no such column, they are "
        "outside of the train split.",
        "Predict another split or, for these galaxies, give more files, by models that were trained without them.",
    )


def _refuse_twice(united: Sequence[Unseen]) -> None:
    for i, one in enumerate(united):
        for other in united[:i]:
            both = one.keys.select(KEY).join(other.keys, on=KEY, how="semi", maintain_order="left")
            if both.height:
                raise TableError(
                    f"{other.source} and {one.source} both predict galaxy '{both['id_str'][0]}' "
                    f"({both.height:,} galaxies), by models that have not seen it.",
                    "Each galaxy once.",
                    "Remove it from one of them, or put the predictions of an ensemble into one file, as lists.",
                )


# ----------------------------------------------------------------------------------------------------
# The catalogue
