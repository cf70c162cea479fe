"""Where counts stand in their predicted distributions.

Counts are whole numbers, so their place is drawn evenly from the step that they stand on: then it is exactly uniform
where the prediction holds, down to one vote a galaxy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gzoo.scoring.likelihood import beta_binomial_nll, log_factorial, log_rising
from gzoo.trees.tree import FloatArray, IntArray, Question

ROWS_AT_ONCE = 8192  # so that what a step of the sum works on stays in the processor's cache
TIE = 1e-8  # two counts are equally probable if the logs differ by less
MIN_FRACTION = 1e-9


@dataclass(frozen=True, slots=True)
class Belief:
    """What is predicted of one question, for galaxies that were asked it.

    Attributes:
        values: Concentrations or shares, shape (member, galaxy, answer).
        is_concentration: Which of the two.
        question: The question.
    """

    values: FloatArray
    is_concentration: bool
    question: Question

    @property
    def has_uncertainty(self) -> bool:
        """Whether a share is itself uncertain: a Dirichlet, not a plain share."""
        return self.is_concentration and not self.question.multiple

    @property
    def is_mirrored(self) -> bool:
        """Whether the second answer says nothing that the first has not said."""
        return len(self.question.columns) == 2 and not self.question.multiple

    @property
    def fractions(self) -> FloatArray:
        """Expected shares of each member, shape (member, galaxy, answer)."""
        if not self.is_concentration:
            return self.values
        if self.question.multiple:
            return self.values / (1 + self.values)
        return self.values / self.values.sum(axis=-1, keepdims=True)

    def pair(self, answer: int, among: slice) -> tuple[FloatArray, FloatArray]:
        """Weights of an answer and of the others it is set against, each (member, galaxy).

        They are the two parameters of a Beta distribution, or add up to 1 where shares are stated without doubt.
        """
        if self.question.multiple:
            fraction = np.clip(self.fractions[..., answer], MIN_FRACTION, 1 - MIN_FRACTION)
            return fraction, 1 - fraction
        own = self.values[..., answer]
        others = self.values[..., among].sum(axis=-1) - own
        if self.has_uncertainty:
            return own, np.maximum(others, np.finfo(float).tiny)
        with np.errstate(invalid="ignore", divide="ignore"):
            fraction = own / (own + others)
        fraction = np.clip(np.nan_to_num(fraction, nan=0.5), MIN_FRACTION, 1 - MIN_FRACTION)
        return fraction, 1 - fraction


class Places(NamedTuple):
    """Uniform from 0 to 1 where predictions hold; shape (galaxy, answer), of two answers only the first.

    pit: Probability of fewer votes, and a random part of that of as many.
    density: Probability of counts that are likelier, and a random part of that of counts equally likely.
    """

    pit: FloatArray
    density: FloatArray


def answer_places(counts: IntArray, volunteers: IntArray, belief: Belief, rng: np.random.Generator) -> Places:
    """Where each answer's count stands in its own predicted distribution (beta-binomial, binomial or mixtures)."""
    n_answers = 1 if belief.is_mirrored else counts.shape[1]
    pit, density = np.empty((len(volunteers), n_answers)), np.empty((len(volunteers), n_answers))
    for j in range(n_answers):
        first, second = belief.pair(j, slice(None))
        step = _step(counts[:, j], volunteers, first, second, is_certain=not belief.has_uncertainty)
        pit[:, j] = step.below + rng.random(len(volunteers)) * step.at
        density[:, j] = step.denser + rng.random(len(volunteers)) * step.tied
    return Places(np.clip(pit, 0, 1), np.clip(density, 0, 1))


def sequential_pit(
    counts: IntArray, volunteers: IntArray, belief: Belief, rng: np.random.Generator, first: FloatArray | None = None
) -> FloatArray:
    """Where each answer's count stands, given the counts of the answers before it (Rosenblatt's transform).

    Where predictions hold, all are independent and uniform: those of one galaxy too. NaN where nobody is left who
    could have given the answer; the last answer follows from the others, unless several may be given at once.

    Args:
        counts: Shape (galaxy, answer).
        volunteers: Asked, shape (galaxy,).
        belief: What was predicted.
        rng: For the draws.
        first: Those of the first answer, where they are known already.
    """
    n, n_answers = counts.shape
    is_multiple = belief.question.multiple
    n_places = n_answers if is_multiple else n_answers - 1
    out = np.full((n, max(n_places, 1)), np.nan)
    if not n_places:  # a question with one answer, which all give
        return out
    log_weight = np.zeros((len(belief.values), n))
    for j in range(n_places):
        left = volunteers if is_multiple else volunteers - counts[:, :j].sum(axis=1)
        rows = np.flatnonzero(left > 0)
        among = slice(None) if is_multiple else slice(j, None)
        a, b = (one[:, rows] for one in belief.pair(j, among))
        said, asked = counts[rows, j], left[rows]
        if j == 0 and first is not None:
            out[:, 0] = first
        else:
            step = _step(said, asked, a, b, is_certain=not belief.has_uncertainty, log_weight=log_weight[:, rows])
            out[rows, j] = np.clip(step.below + rng.random(len(rows)) * step.at, 0, 1)
        if len(log_weight) > 1 and j + 1 < n_places:  # what this answer says of which member is right
            log_weight[:, rows] += _log_probability(said, asked, a, b, is_certain=not belief.has_uncertainty)
    return out


class _Step(NamedTuple):
    """Probabilities of fewer votes and of as many; of likelier counts and of equally likely ones; shape (galaxy,)."""

    below: FloatArray
    at: FloatArray
    denser: FloatArray
    tied: FloatArray


def _step(
    said: IntArray,
    volunteers: IntArray,
    first: FloatArray,
    second: FloatArray,
    *,
    is_certain: bool,
    log_weight: FloatArray | None = None,
) -> _Step:
    """Where counts stand in mixtures of beta-binomials or, where shares are certain, of binomials.

    Args:
        said: People who gave the answer.
        volunteers: People asked.
        first: Weight of the answer, shape (member, galaxy).
        second: Weight of the others.
        is_certain: Binomials, of share first / (first + second) with a sum of 1.
        log_weight: Of the members, in no scale; by default all alike.
    """
    order = np.argsort(-volunteers, kind="stable")
    out = np.empty((4, len(volunteers)))
    for start in range(0, len(order), ROWS_AT_ONCE):
        rows = order[start : start + ROWS_AT_ONCE]
        weight = None if log_weight is None else log_weight[:, rows]
        out[:, rows] = _sum_up(said[rows], volunteers[rows], first[:, rows], second[:, rows], is_certain, weight)
    return _Step(*out)


def _sum_up(
    said: IntArray,
    volunteers: IntArray,
    first: FloatArray,
    second: FloatArray,
    is_certain: bool,
    weight: FloatArray | None,
) -> FloatArray:
    """As `_step`, of galaxies in falling order of people: those who still have counts to come stand in front."""
    own = 0.0 if is_certain else 1.0  # how much each vote adds to the weight of its answer
    log_p = (
        volunteers * np.log(second)
        if is_certain
        else log_rising(second, volunteers) - log_rising(first + second, volunteers)
    )
    observed = _log_probability(said, volunteers, first, second, is_certain=is_certain)
    if len(first) > 1:
        fraction = np.zeros(first.shape) if weight is None else weight
        fraction = fraction - np.logaddexp.reduce(fraction, axis=0)
        log_p, observed = log_p + fraction, np.logaddexp.reduce(observed + fraction, axis=0)
    else:
        observed = observed[0]
    out = np.zeros((4, len(volunteers)))
    below, at, denser, tied = out
    at[:] = np.exp(observed)
    n_live = np.searchsorted(
        -volunteers, -np.arange(volunteers[0] + 2), side="right"
    )  # galaxies with at least k people
    for k in range(int(volunteers[0]) + 1):
        live = slice(0, int(n_live[k]))
        now = log_p[0, live] if len(log_p) == 1 else np.logaddexp.reduce(log_p[:, live], axis=0)
        p, gap = np.exp(now), now - observed[live]
        below[live] += p * (said[live] > k)
        denser[live] += p * (gap > TIE)
        tied[live] += p * (np.abs(gap) <= TIE)
        rest = slice(0, int(n_live[k + 1]))
        left = volunteers[rest] - k
        ratio = left * (first[:, rest] + own * k) / ((k + 1) * (second[:, rest] + own * (left - 1)))
        log_p[:, rest] += np.log(ratio)
    return out


def _log_probability(
    said: IntArray, volunteers: IntArray, first: FloatArray, second: FloatArray, *, is_certain: bool
) -> FloatArray:
    """Of a count, by each member, shape (member, galaxy)."""
    if not is_certain:
        return np.stack([-beta_binomial_nll(said, volunteers, a, b) for a, b in zip(first, second, strict=True)])
    rest = volunteers - said
    coefficient = log_factorial(volunteers) - log_factorial(said) - log_factorial(rest)
    return coefficient + said * np.log(first) + rest * np.log(second)


def draw_counts(volunteers: IntArray, belief: Belief, rng: np.random.Generator) -> IntArray:
    """Votes as they would come if the prediction held, shape (galaxy, answer).

    Args:
        volunteers: Asked, shape (galaxy,).
        belief: What is predicted. Of a mixture each galaxy gets a member of its own.
        rng: For the draws.
    """
    n = len(volunteers)
    values = belief.values[rng.integers(0, len(belief.values), n), np.arange(n)]
    if belief.question.multiple:
        return rng.binomial(volunteers[:, None], values / (1 + values) if belief.is_concentration else values)
    if belief.is_concentration:  # in logs, for gamma variates of small concentrations are 0 in floating point
        logs = np.log(rng.standard_gamma(values + 1)) + np.log1p(-rng.random(values.shape)) / values
        values = np.exp(logs - logs.max(axis=1, keepdims=True))
    return rng.multinomial(volunteers, values / values.sum(axis=1, keepdims=True))
