"""Posterior vote fractions: predictions combined with the votes of held-out galaxies."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from gzoo.dataset.open import KEY, Dataset
from gzoo.errors import GZooWarning, InputError, TableError
from gzoo.scoring.betas import mixture_quantile, quantile
from gzoo.scoring.likelihood import beta_binomial_nll, giving, question_nll
from gzoo.scoring.matching import Matched, match, refuse_other_scheme, refuse_seen
from gzoo.scoring.predictions import Predictions, read_predictions
from gzoo.trees.tree import FloatArray, IntArray, Tree
from gzoo.votes.votes import Votes

N_AT_ONCE = 20_000
MIN_CONCENTRATION = 1e-300  # of the alternatives to the only answer of a question


@dataclass(frozen=True)
class Posterior:
    """Posterior distribution of the vote fractions, given predictions and votes.

    The fractions of a question follow a Dirichlet distribution or a mixture of them; this class has the marginal
    beta distributions of the answers. Arrays have the shape (member, galaxy, answer).

    Attributes:
        tree: Decision tree.
        alpha: Concentration of each answer: predicted concentration plus votes.
        beta: Concentration of all other answers to the question together; of not giving the answer, for questions
            that allow several answers.
        weights: Weights of the members of a mixture; those of an answer sum to 1.
    """

    tree: Tree
    alpha: FloatArray
    beta: FloatArray
    weights: FloatArray

    @cached_property
    def fractions(self) -> FloatArray:
        """Posterior mean vote fractions, shape (galaxy, answer)."""
        return (self.weights * self.alpha / (self.alpha + self.beta)).sum(axis=0)

    def interval(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Return the ends of credible intervals of the vote fractions, each of shape (galaxy, answer).

        They are equal-tailed, and contain the mean: where nearly all probability is at 0, a quantile may be far below
        the mean, and the interval then extends to the mean.

        Args:
            level: Probability mass of the intervals.
        """
        tail = (1 - level) / 2
        low, high = (mixture_quantile(self.weights, self.alpha, self.beta, q) for q in (tail, 1 - tail))
        return np.minimum(low, self.fractions), np.maximum(high, self.fractions)

    @cached_property
    def proportion_asked(self) -> FloatArray:
        """Posterior mean proportion of volunteers asked, shape (galaxy, question); NaN if the tree leaves it open.

        The mean is exact, because the fractions of different questions are independent given the votes.
        """
        return self.tree.proportion_asked(self.fractions)

    def proportion_asked_interval(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Return approximate credible intervals of the proportion of volunteers asked, shape (galaxy, question) each.

        They are the intervals of a beta distribution with the exact mean and variance. This is a poor approximation
        where the members of a mixture disagree and votes are absent.

        Args:
            level: Probability mass of the intervals.
        """
        mean, variance = self.proportion_asked, self.proportion_asked_variance
        # Below rounding errors, every volunteer is asked, or none.
        is_open = (variance > 1e-14) & (variance < mean * (1 - mean))
        m, v = mean[is_open], variance[is_open]
        total = m * (1 - m) / v - 1
        low, high = mean.copy(), mean.copy()
        tail = (1 - level) / 2
        low[is_open] = quantile(m * total, (1 - m) * total, tail)
        high[is_open] = quantile(m * total, (1 - m) * total, 1 - tail)
        return np.minimum(low, mean), np.maximum(high, mean)

    @cached_property
    def proportion_asked_variance(self) -> FloatArray:
        """Variance of the proportion of volunteers asked, shape (galaxy, question); NaN as in `proportion_asked`.

        The proportion is a sum over parent answers, so its square is a sum over pairs of them. Of two answers, the
        one to the later question is independent of all that precedes it, which makes the variance exact.
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
            """Return the mean of P(one) P(other), each multiplied by the proportion asked its question."""
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
        """Return the mean product of the fractions of two answers to one question, shape (galaxy,).

        Args:
            one: Index of an answer.
            other: Index of another answer to the same question, or of the same one.
        """
        if one != other and self.tree.questions[self.tree.question_of_answer[one]].multiple:
            return self.fractions[:, one] * self.fractions[:, other]
        alpha, total = self.alpha[:, :, one], self.alpha[:, :, one] + self.beta[:, :, one]
        then = alpha + 1 if one == other else self.alpha[:, :, other]
        return (self.weights[:, :, one] * alpha / total * then / (total + 1)).sum(axis=0)


def posterior(votes: Votes, concentrations: FloatArray) -> Posterior:
    """Return the posterior of predictions and the votes of held-out galaxies.

    A Dirichlet distribution with concentrations c becomes one with c + votes. The members of a mixture are updated
    separately; their weights, question by question, are the probabilities that they assigned to the votes. A question
    that allows several answers has a beta distribution, and weights, per answer.

    Args:
        votes: Votes of the galaxies.
        concentrations: Predicted concentrations, shape (member, galaxy, concentration).

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
    alpha = np.empty((*concentrations.shape[:2], len(tree.columns)))
    beta = np.empty_like(alpha)
    log_weights = np.zeros_like(alpha)
    is_mixture = len(alpha) > 1
    for i, question in enumerate(tree.questions):
        own = tree.slice(question.name)
        values = concentrations[:, :, tree.concentration_slice(question.name)].astype(np.float64, copy=False)
        counts, volunteers = votes.counts[:, own], votes.totals[:, i, None]
        rest = volunteers - counts
        if question.multiple:
            yes, no = giving(values)
            if is_mixture:
                log_weights[:, :, own] = [
                    -beta_binomial_nll(counts, np.broadcast_to(volunteers, counts.shape), *member)
                    for member in zip(yes, no, strict=True)
                ]
            alpha[:, :, own], beta[:, :, own] = yes + counts, no + rest
        else:
            if is_mixture:
                each = [-question_nll(counts, volunteers[:, 0], member) for member in values]
                log_weights[:, :, own] = np.stack(each)[:, :, None]
            alpha[:, :, own] = values + counts
            beta[:, :, own] = _others(alpha[:, :, own])
    weights = np.exp(log_weights - log_weights.max(axis=0))
    weights /= weights.sum(axis=0)
    return Posterior(tree, alpha, beta, weights)


def _others(alpha: FloatArray) -> FloatArray:
    """Return the sum over all other answers, without subtracting nearly equal numbers."""
    before, after = np.zeros_like(alpha), np.full_like(alpha, MIN_CONCENTRATION)
    before[..., 1:] = np.cumsum(alpha[..., :-1], axis=-1)
    after[..., :-1] += np.cumsum(alpha[..., :0:-1], axis=-1)[..., ::-1]
    return before + after


# ----------------------------------------------------------------------------------------------------
# Predictions and votes that may be combined


@dataclass(frozen=True)
class HeldOut:
    """Predictions and votes of galaxies that the model was not trained on.

    Attributes:
        keys: `dataset_name`, `id_str` and `split` of each galaxy.
        votes: Votes on the predicted questions.
        concentrations: Predicted concentrations, shape (member, galaxy, concentration).
        source: The prediction file.
        in_training_set: Whether every model was trained on these galaxies. Their concentrations are then a prior that
            is the same for all of them, so that their votes count once.
    """

    keys: pl.DataFrame
    votes: Votes
    concentrations: FloatArray
    source: Path
    in_training_set: bool = False

    def __len__(self) -> int:
        return len(self.votes)

    def on(self, questions: Sequence[str]) -> HeldOut:
        """Return the predictions and votes of some of the predicted questions."""
        own = self.votes.tree
        tree = _predicted(own, questions)
        columns = [own.concentrations.index(name) for name in tree.concentrations]
        return replace(self, votes=self.votes.on(tree), concentrations=self.concentrations[:, :, columns])

    def posteriors(self) -> Iterator[tuple[slice, Posterior]]:
        """Yield posteriors of some galaxies at a time, with their rows."""
        for start in range(0, len(self), N_AT_ONCE):
            rows = slice(start, min(start + N_AT_ONCE, len(self)))
            yield rows, self.posterior(np.arange(rows.start, rows.stop))

    def posterior(self, rows: IntArray) -> Posterior:
        """Return the posterior of some galaxies, in the order of their rows."""
        return posterior(self.votes.take(rows), self.concentrations[:, rows])


def read_held_out(
    predictions: Sequence[Path | str], dataset: Dataset, *, prior: FloatArray | None = None
) -> list[HeldOut]:
    """Read prediction files, and keep the galaxies that their models were not trained on.

    What a model was trained on is decided as by `gzoo score` (see `Matched.is_seen`). Together, the files must predict
    each galaxy exactly once. Questions that one of them does not predict are omitted, with a warning.

    Args:
        predictions: Prediction files.
        dataset: Dataset with the votes.
        prior: Concentrations, shape (concentration,), in place of the predictions for galaxies that all models were
            trained on. Without it, such galaxies are refused.

    Raises:
        InputError: No file is given.
        NotFoundError: A file does not exist.
        TableError: A file is not a prediction file for this dataset, or contains only fractions; files have no
            question in common; a galaxy is predicted by several held-out models, or only by models trained on it; a
            model was trained with another split scheme.
    """
    if not predictions:
        raise InputError("At least one prediction file is required.")
    kept: list[HeldOut] = []
    read_from: list[tuple[Path, Matched]] = []
    for path in map(Path, predictions):
        read = read_predictions(path, dataset.tree)
        if read.kind != "concentrations":
            raise TableError(
                f"'{path}' contains only fractions, which cannot be combined with votes.",
                "concentrations, which also carry the uncertainty of the fractions: {column}_concentration for each "
                "answer.",
                "Predict with a model that writes concentrations, such as `gzoo predict`.",
            )
        refuse_other_scheme(path, dataset)
        tree = _predicted(dataset.tree, read.questions)
        matched = match(dataset, read.keys, path, read.in_training_set, tree=tree)
        read_from.append((path, matched))
        is_unseen = ~matched.is_seen
        votes = matched.votes if is_unseen.all() else matched.votes.take(is_unseen)
        kept.append(HeldOut(matched.keys.filter(pl.Series(is_unseen)), votes, _values(read, tree, is_unseen), path))
    known = pl.concat([one.keys.select(KEY) for one in kept]).unique().with_columns(is_known=pl.lit(True))
    for path, matched in read_from:  # a galaxy that one model was trained on may be predicted by another
        is_known = matched.keys.join(known, on=KEY, how="left", maintain_order="left")["is_known"].is_not_null()
        is_left = matched.is_seen & ~is_known.to_numpy()
        if prior is None:
            refuse_seen(replace(matched, is_seen=is_left), path)
        elif is_left.any():
            keys = matched.keys.filter(pl.Series(is_left))
            kept.append(of_votes(keys, matched.votes.take(is_left), dataset.tree, prior, path))
            known = pl.concat([known, keys.select(*KEY, is_known=pl.lit(True))])
    _refuse_twice(kept)
    return _on_shared_questions([one for one in kept if len(one)], dataset.tree)


def of_votes(keys: pl.DataFrame, votes: Votes, tree: Tree, prior: FloatArray, source: Path) -> HeldOut:
    """Return votes whose posterior follows from a prior that is the same for all galaxies.

    Args:
        keys: `dataset_name`, `id_str` and `split` of each galaxy.
        votes: Their votes.
        tree: The tree of the prior; that of the votes is a part of it.
        prior: Concentrations, shape (concentration,).
        source: The prediction file or dataset that lists the galaxies.
    """
    own = prior[[tree.concentrations.index(name) for name in votes.tree.concentrations]]
    values = np.broadcast_to(own, (1, len(votes), len(own)))
    return HeldOut(keys, votes, values, source, in_training_set=True)


def _on_shared_questions(kept: Sequence[HeldOut], tree: Tree) -> list[HeldOut]:
    """Return the predictions and votes of the questions that are in all of them; a warning names the others."""
    each = [{question.name for question in one.votes.tree.questions} for one in kept]
    shared, known = set.intersection(*each), set.union(*each)
    if not shared:
        raise TableError(
            f"'{kept[0].source}' and the other files do not have a question in common.",
            "the same questions in every file.",
            "Write separate catalogues of them.",
        )
    if shared == known:
        return list(kept)
    left_out = [question.name for question in tree.questions if question.name in known - shared]
    warnings.warn(
        f"Not every prediction file predicts {', '.join(left_out)}. These questions are omitted.",
        GZooWarning,
        stacklevel=3,
    )
    return [one.on(tuple(shared)) for one in kept]


def _predicted(tree: Tree, questions: Sequence[str]) -> Tree:
    """Return the tree of the predicted questions; without the others, some of them may be unreachable."""
    excluded = [question for question in tree.questions if question.name not in questions]
    if not excluded:
        return tree
    unavailable = tree.unavailable | {column for question in excluded for column in question.columns}
    return Tree(tree.name, tuple(question for question in tree.questions if question.name in questions), unavailable)


def _values(read: Predictions, tree: Tree, wanted: np.ndarray) -> FloatArray:
    values = read.concentrations
    if tree is not read.tree:
        values = values[:, :, [read.tree.concentrations.index(name) for name in tree.concentrations]]
    return values if wanted.all() else values[:, wanted]


def _refuse_twice(kept: Sequence[HeldOut]) -> None:
    keys = pl.concat([one.keys.select(*KEY, file=pl.lit(str(one.source))) for one in kept])
    twice = keys.filter(pl.struct(KEY).is_duplicated())
    if twice.height:
        first = twice.join(twice.head(1).select(KEY), on=KEY, how="semi")
        raise TableError(
            f"Galaxy '{first['id_str'][0]}' has several held-out predictions: in {', '.join(first['file'])} "
            f"({twice.n_unique(KEY):,} galaxies in total).",
            "one prediction of each galaxy.",
            "Remove it from all but one file, or store the predictions of an ensemble as lists in one file.",
        )
