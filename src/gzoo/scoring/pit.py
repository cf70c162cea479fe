"""Randomised PIT: the rank of each vote count in its predictive distribution.

Vote counts are integers, so their cumulative probability is drawn uniformly from the step of the distribution
function at the count. It is then exactly uniform for a calibrated prediction, down to one vote per galaxy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gzoo.scoring.likelihood import beta_binomial_nll, giving, log_factorial, log_rising, question_fractions
from gzoo.trees.tree import FloatArray, IntArray, Question

ROWS_AT_ONCE = 8192  # the working set of one step of the sum then fits into the processor's cache
TIE = 1e-8  # counts are equally probable if their log probabilities differ by less
MIN_FRACTION = 1e-9


@dataclass(frozen=True, slots=True)
class QuestionPrediction:
    """Prediction for one question, for the galaxies with votes on it.

    Attributes:
        values: Concentrations, shape (member, galaxy, concentration), or fractions, shape (member, galaxy, answer).
        is_concentration: Whether the values are concentrations.
        question: The question.
    """

    values: FloatArray
    is_concentration: bool
    question: Question

    @property
    def has_uncertainty(self) -> bool:
        """Whether the prediction is a distribution of vote fractions, not a point prediction."""
        return self.is_concentration

    @property
    def is_mirrored(self) -> bool:
        """Whether the second answer follows from the first."""
        return len(self.question.columns) == 2 and not self.question.multiple

    @property
    def fractions(self) -> FloatArray:
        """Predicted vote fractions of each member, shape (member, galaxy, answer)."""
        if not self.is_concentration:
            return self.values
        return question_fractions(self.values, is_multiple=self.question.multiple)

    def answer(self, j: int) -> QuestionPrediction:
        """Return the prediction of one answer to a question that allows several, as a question of yes or no."""
        name = self.question.columns[j]
        alone = Question(name, ("yes", "no"), (name, f"{name}_no"))
        yes, no = giving(self.values) if self.is_concentration else (self.values, 1 - self.values)
        return QuestionPrediction(np.stack([yes[..., j], no[..., j]], axis=-1), self.is_concentration, alone)

    def pair(self, answer: int, among: slice) -> tuple[FloatArray, FloatArray]:
        """Return the weights of an answer and of the alternatives, each of shape (member, galaxy).

        They are the two parameters of a beta distribution or, for point predictions, sum to 1.
        """
        if self.question.multiple:
            if self.has_uncertainty:
                yes, no = giving(self.values)
                return yes[..., answer], no[..., answer]
            fraction = self.fractions[..., answer]
        else:
            own = self.values[..., answer]
            others = self.values[..., among].sum(axis=-1) - own
            if self.has_uncertainty:
                return own, np.maximum(others, np.finfo(float).tiny)
            with np.errstate(invalid="ignore", divide="ignore"):
                fraction = np.nan_to_num(own / (own + others), nan=0.5)
        fraction = np.clip(fraction, MIN_FRACTION, 1 - MIN_FRACTION)
        return fraction, 1 - fraction


class Ranks(NamedTuple):
    """Values that are uniform from 0 to 1 for a calibrated prediction.

    Shape (galaxy, answer); of two answers only the first.

    pit: Probability of fewer votes, plus a random part of the probability of the observed count.
    density: Probability of more probable counts, plus a random part of the probability of equally probable ones.
    """

    pit: FloatArray
    density: FloatArray


def answer_ranks(
    counts: IntArray, volunteers: IntArray, prediction: QuestionPrediction, rng: np.random.Generator
) -> Ranks:
    """Return the ranks of the counts of each answer in their own predictive distributions.

    The distributions are beta-binomials, binomials or mixtures of them.
    """
    n_answers = 1 if prediction.is_mirrored else counts.shape[1]
    pit, density = np.empty((len(volunteers), n_answers)), np.empty((len(volunteers), n_answers))
    for j in range(n_answers):
        first, second = prediction.pair(j, slice(None))
        mass = _mass(counts[:, j], volunteers, first, second, is_certain=not prediction.has_uncertainty)
        pit[:, j] = mass.below + rng.random(len(volunteers)) * mass.at
        density[:, j] = mass.denser + rng.random(len(volunteers)) * mass.tied
    return Ranks(np.clip(pit, 0, 1), np.clip(density, 0, 1))


def sequential_pit(
    counts: IntArray,
    volunteers: IntArray,
    prediction: QuestionPrediction,
    rng: np.random.Generator,
    ranks: Ranks | None = None,
) -> FloatArray:
    """Return the PIT of the count of each answer, given the counts of the answers before it (Rosenblatt transform).

    For a calibrated prediction all values are independent and uniform, those of one galaxy included. Values are NaN
    where no volunteer is left who could have given the answer. The last answer follows from the others and is
    omitted.

    Where a question allows several answers, predictions do not say how these depend on each other. Each count is then
    compared with its own distribution alone, and the values of one galaxy may be dependent.

    Args:
        counts: Vote counts, shape (galaxy, answer).
        volunteers: Total votes on the question, shape (galaxy,).
        prediction: The prediction.
        rng: Random generator for the randomised PIT.
        ranks: Ranks of the answers, if they have been computed already.
    """
    n, n_answers = counts.shape
    is_certain = not prediction.has_uncertainty
    if prediction.question.multiple:
        return (ranks or answer_ranks(counts, volunteers, prediction, rng)).pit
    n_columns = n_answers - 1
    out = np.full((n, max(n_columns, 1)), np.nan)
    if not n_columns:  # every volunteer gives the only answer
        return out
    log_weight = np.zeros((len(prediction.values), n))
    for j in range(n_columns):
        left = volunteers - counts[:, :j].sum(axis=1)
        rows = np.flatnonzero(left > 0)
        a, b = (one[:, rows] for one in prediction.pair(j, slice(j, None)))
        votes, asked = counts[rows, j], left[rows]
        if j == 0 and ranks is not None:
            out[:, 0] = ranks.pit[:, 0]
        else:
            mass = _mass(votes, asked, a, b, is_certain=is_certain, log_weight=log_weight[:, rows])
            out[rows, j] = np.clip(mass.below + rng.random(len(rows)) * mass.at, 0, 1)
        if len(log_weight) > 1 and j + 1 < n_columns:  # the votes for this answer update the weights of the members
            log_weight[:, rows] += _log_probability(votes, asked, a, b, is_certain=is_certain)
    return out


class _Mass(NamedTuple):
    """Probabilities of fewer votes, of as many, of more probable counts and of equally probable ones, (galaxy,)."""

    below: FloatArray
    at: FloatArray
    denser: FloatArray
    tied: FloatArray


def _mass(
    votes: IntArray,
    volunteers: IntArray,
    first: FloatArray,
    second: FloatArray,
    *,
    is_certain: bool,
    log_weight: FloatArray | None = None,
) -> _Mass:
    """Return probabilities around each count in mixtures of beta-binomials or, for point predictions, binomials.

    Args:
        votes: Votes for the answer.
        volunteers: Total votes.
        first: Weight of the answer, shape (member, galaxy).
        second: Weight of the alternatives.
        is_certain: Whether the distributions are binomials, with `first` + `second` = 1.
        log_weight: Unnormalised log weights of the members, shape (member, galaxy); equal by default.
    """
    order = np.argsort(-volunteers, kind="stable")
    out = np.empty((4, len(volunteers)))
    for start in range(0, len(order), ROWS_AT_ONCE):
        rows = order[start : start + ROWS_AT_ONCE]
        weight = None if log_weight is None else log_weight[:, rows]
        out[:, rows] = _sum_up(votes[rows], volunteers[rows], first[:, rows], second[:, rows], is_certain, weight)
    return _Mass(*out)


def _sum_up(
    votes: IntArray,
    volunteers: IntArray,
    first: FloatArray,
    second: FloatArray,
    is_certain: bool,
    weight: FloatArray | None,
) -> FloatArray:
    """Return the same as `_mass`, for galaxies in descending order of total votes.

    The sum runs over the counts. In this order, the galaxies for which it has not ended yet are always the first.
    """
    own = 0.0 if is_certain else 1.0  # how much each vote adds to the weight of its answer
    log_p = (
        volunteers * np.log(second)
        if is_certain
        else log_rising(second, volunteers) - log_rising(first + second, volunteers)
    )
    observed = _log_probability(votes, volunteers, first, second, is_certain=is_certain)
    if len(first) > 1:
        log_fraction = np.zeros(first.shape) if weight is None else weight
        log_fraction = log_fraction - np.logaddexp.reduce(log_fraction, axis=0)
        log_p, observed = log_p + log_fraction, np.logaddexp.reduce(observed + log_fraction, axis=0)
    else:
        observed = observed[0]
    out = np.zeros((4, len(volunteers)))
    below, at, denser, tied = out
    at[:] = np.exp(observed)
    n_live = np.searchsorted(-volunteers, -np.arange(volunteers[0] + 2), side="right")  # galaxies with k or more votes
    for k in range(int(volunteers[0]) + 1):
        live = slice(0, int(n_live[k]))
        now = log_p[0, live] if len(log_p) == 1 else np.logaddexp.reduce(log_p[:, live], axis=0)
        p, gap = np.exp(now), now - observed[live]
        below[live] += p * (votes[live] > k)
        denser[live] += p * (gap > TIE)
        tied[live] += p * (np.abs(gap) <= TIE)
        rest = slice(0, int(n_live[k + 1]))
        left = volunteers[rest] - k
        ratio = left * (first[:, rest] + own * k) / ((k + 1) * (second[:, rest] + own * (left - 1)))
        log_p[:, rest] += np.log(ratio)
    return out


def _log_probability(
    votes: IntArray, volunteers: IntArray, first: FloatArray, second: FloatArray, *, is_certain: bool
) -> FloatArray:
    """Return the log probability of each count by each member, shape (member, galaxy)."""
    if not is_certain:
        return np.stack([-beta_binomial_nll(votes, volunteers, a, b) for a, b in zip(first, second, strict=True)])
    rest = volunteers - votes
    coefficient = log_factorial(volunteers) - log_factorial(votes) - log_factorial(rest)
    return coefficient + votes * np.log(first) + rest * np.log(second)


def draw_counts(volunteers: IntArray, prediction: QuestionPrediction, rng: np.random.Generator) -> IntArray:
    """Draw vote counts from the prediction, shape (galaxy, answer).

    Args:
        volunteers: Total votes on the question, shape (galaxy,).
        prediction: The prediction. For a mixture, one member is drawn for each galaxy.
        rng: Random generator for the draws.
    """
    n = len(volunteers)
    values = prediction.values[rng.integers(0, len(prediction.values), n), np.arange(n)]
    if prediction.question.multiple:
        one = QuestionPrediction(values[None], prediction.is_concentration, prediction.question)
        each = [draw_counts(volunteers, one.answer(j), rng)[:, 0] for j in range(len(prediction.question.columns))]
        return np.column_stack(each)
    if prediction.is_concentration:  # in logs, because gamma variates of small concentrations underflow to 0
        logs = np.log(rng.standard_gamma(values + 1)) + np.log1p(-rng.random(values.shape)) / values
        values = np.exp(logs - logs.max(axis=1, keepdims=True))
    return rng.multinomial(volunteers, values / values.sum(axis=1, keepdims=True))
