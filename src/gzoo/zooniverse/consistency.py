"""Volunteers: how consistent each one is with the others, and who clicks like a machine.

Consistency weights follow Willett et al. (2013, MNRAS 435, 2835, section 3.2). They do not silence a robot: who clicks
at random agrees with everybody by chance, and keeps most of a weight. So robots are found by rules of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gzoo.trees.tree import FloatArray, IntArray
from gzoo.zooniverse.classifications import BoolArray, Clicks

CONSISTENT, STEEPNESS, N_ITERATIONS = 0.6, 8.5, 3  # Willett et al. 2013, equations 1 and 2
MIN_CLICKS = 10
"""Of fewer classifications nothing can be said about a volunteer."""
SHORTEST_SECONDS = 0.5  # for each answer, and once for seeing the image; a hand needs about that to move and click
SAME_FRACTION, SAME_CHANCE = 0.9, 1e-6
CHANCE_FRACTION, N_DEVIATIONS = 0.5, 2.5
FAST, SAME, CHANCE = "impossible speed", "repeated answers", "agreement no better than chance"
RULES: Mapping[str, str] = {
    FAST: f"half of the classifications took under {SHORTEST_SECONDS} seconds an answer",
    SAME: f"at least {SAME_FRACTION:.0%} of the classifications are one and the same walk, which chance would not do",
    CHANCE: "answers fit the galaxies hardly better than if they had been given to other galaxies",
}
_CHUNK = 200_000


@dataclass(frozen=True, slots=True)
class Bots:
    """Who clicks like a machine.

    Attributes:
        flags: Rule -> whether it fits, shape (volunteer,).
        is_judged: Who has classified enough to be judged, shape (volunteer,).
    """

    flags: Mapping[str, BoolArray]
    is_judged: BoolArray

    @property
    def any(self) -> BoolArray:
        """Whether any rule fits, shape (volunteer,)."""
        return np.any(list(self.flags.values()), axis=0)


def consistency(clicks: Clicks, fractions: FloatArray) -> FloatArray:
    """How far each volunteer agrees with vote fractions: kappa of Willett et al. (2013), 0 to 1.

    For one answered question, kappa is the mean over its answers of f where the answer was given, and 1 - f where it
    was not, f being the answer's vote fraction; a volunteer's kappa is the mean over all questions answered.

    Args:
        clicks: The classifications.
        fractions: Of the votes on each galaxy, shape (galaxy, answer).

    Returns:
        Shape (volunteer,).
    """
    tree = clicks.tree
    n_answers = np.array([len(question.columns) for question in tree.questions])
    owner = np.zeros((len(tree.columns), len(tree.questions)))
    owner[np.arange(len(tree.columns)), list(tree.question_of_answer)] = 1.0
    known = np.nan_to_num(fractions)
    per_answer = n_answers[list(tree.question_of_answer)]
    missed = ((1.0 - known) / per_answer) @ owner  # nothing given: the sum of 1 - f over the answers
    gained = (2.0 * known - 1.0) / per_answer
    total = np.zeros(len(clicks))
    for rows in _chunks(len(clicks)):
        galaxy, walk = clicks.galaxy[rows], clicks.walk[rows]
        total[rows] = (missed[galaxy] * clicks.asked[walk]).sum(axis=1) + (gained[galaxy] * clicks.walks[walk]).sum(
            axis=1
        )
    n_asked = clicks.asked.sum(axis=1)[clicks.walk]
    of_volunteer = _sums(clicks, total)
    return of_volunteer / np.maximum(_sums(clicks, n_asked.astype(np.float64)), 1.0)


def consistency_weights(clicks: Clicks) -> FloatArray:
    """Weights of Willett et al. (2013): w = min(1, (kappa / 0.6)^8.5), iterated three times.

    Kappa (see `consistency`) is first taken against the plain vote fractions, then against those weighted with the
    weights found. Who answers as most others do has weight 1; nobody gains.

    Args:
        clicks: The classifications.

    Returns:
        Shape (volunteer,).
    """
    weights = np.ones(len(clicks.names))
    for _ in range(N_ITERATIONS):
        fractions, _ = clicks.weighted(weights)
        weights = np.minimum(1.0, (consistency(clicks, fractions) / CONSISTENT) ** STEEPNESS)
    return weights


def bots(clicks: Clicks) -> Bots:
    """Who clicks like a machine, by three rules; each needs `MIN_CLICKS` classifications.

    - *impossible speed*: half of the classifications with a known duration took less than half a second for each
      answer and for looking;
    - *repeated answers*: nearly always one and the same walk, more often than chance allows (binomial, with the share
      that this walk has among all classifications);
    - *agreement no better than chance*: the fractions that the other volunteers gave to the answers of this one, on
      these galaxies, are hardly above those answers' means over all galaxies. Against that a careful person gains,
      and anyone who answers without looking does not, whatever answers are preferred.

    Args:
        clicks: The classifications.
    """
    n_clicks = np.bincount(clicks.volunteer, minlength=len(clicks.names))
    is_judged = n_clicks >= MIN_CLICKS
    flags = {FAST: _is_fast(clicks), SAME: _is_same(clicks, n_clicks), CHANCE: _is_chance(clicks)}
    return Bots({name: flag & is_judged for name, flag in flags.items()}, is_judged)


def _is_fast(clicks: Clicks) -> BoolArray:
    n_answers = clicks.walks.sum(axis=1)[clicks.walk]
    pace = clicks.seconds / (1.0 + n_answers)
    is_known = np.isfinite(pace) & (pace >= 0)
    n_known = np.bincount(clicks.volunteer[is_known], minlength=len(clicks.names))
    fast = is_known & (np.nan_to_num(pace, nan=np.inf) < SHORTEST_SECONDS)
    n_fast = np.bincount(clicks.volunteer[fast], minlength=len(clicks.names))
    return (n_known >= MIN_CLICKS) & (2 * n_fast > n_known)


def _is_same(clicks: Clicks, n_clicks: IntArray) -> BoolArray:
    from scipy.special import bdtrc

    n_walks = len(clicks.walks)
    pair, times = np.unique(clicks.volunteer * n_walks + clicks.walk, return_counts=True)
    volunteer, walk = pair // n_walks, pair % n_walks
    most = np.zeros(len(clicks.names), np.int64)
    np.maximum.at(most, volunteer, times)
    of_walk = np.bincount(clicks.walk, minlength=n_walks)
    is_top = times == most[volunteer]
    # the share among the others' classifications: a busy robot must not make its own walk look usual
    others = (of_walk[walk] - times + 1) / np.maximum(len(clicks) - n_clicks[volunteer] + 1, 1)
    fraction = np.zeros(len(clicks.names))
    np.maximum.at(fraction, volunteer[is_top], others[is_top])
    return (most >= SAME_FRACTION * n_clicks) & (
        bdtrc(np.maximum(most - 1, 0), n_clicks, np.minimum(fraction, 1.0)) < SAME_CHANCE
    )


def _is_chance(clicks: Clicks) -> BoolArray:
    gain, square, n = _gains(clicks)
    mean = gain / np.maximum(n, 1)
    spread = np.sqrt(np.maximum(square / np.maximum(n, 1) - mean**2, 0.0))
    # answers of one classification are not independent: count classifications
    n_clicks = np.bincount(clicks.volunteer, minlength=len(clicks.names))
    error = spread / np.sqrt(np.maximum(n_clicks, 1))
    usual = float(gain.sum() / max(n.sum(), 1.0))
    return (n > 0) & (mean + N_DEVIATIONS * error < CHANCE_FRACTION * usual) & (usual > 0)


def _gains(clicks: Clicks) -> tuple[FloatArray, FloatArray, FloatArray]:
    """For each volunteer, over classifications: the sum of what they gain on chance, of its square, and how many."""
    tree = clicks.tree
    votes, asked = clicks.sums(clicks.walks), clicks.sums(clicks.asked)
    of_question = list(tree.question_of_answer)
    fractions = np.divide(votes, asked[:, of_question], out=np.zeros(votes.shape), where=asked[:, of_question] > 0)
    usual = votes.sum(axis=0) / np.maximum(asked.sum(axis=0)[of_question], 1.0)
    gain, square, count = np.zeros(len(clicks)), np.zeros(len(clicks)), np.zeros(len(clicks))
    for rows in _chunks(len(clicks)):
        galaxy, given = clicks.galaxy[rows], clicks.walks[clicks.walk[rows]]
        below = asked[galaxy][:, of_question]
        has_others = given & (below > 1.5)
        # the volunteer's own vote left out: (f n - 1) / (n - 1)
        others = (fractions[galaxy] * below - 1.0) / np.maximum(below - 1.0, 1.0)
        more = np.where(has_others, others - usual, 0.0)
        n = has_others.sum(axis=1)
        count[rows] = n > 0
        gain[rows] = more.sum(axis=1) / np.maximum(n, 1)
        square[rows] = gain[rows] ** 2
    return _sums(clicks, gain), _sums(clicks, square), _sums(clicks, count)


def _sums(clicks: Clicks, values: FloatArray) -> FloatArray:
    return np.bincount(clicks.volunteer, weights=values, minlength=len(clicks.names)).astype(np.float64)


def _chunks(n: int) -> list[slice]:
    return [slice(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK)]


def gini(n_clicks: npt.NDArray[np.integer]) -> float:
    """How unequal numbers of classifications are: 0 where all are equal, near 1 where one did everything.

    >>> round(gini(np.array([1, 1, 1, 1])), 3), round(gini(np.array([0, 0, 0, 8])), 3)
    (0.0, 0.75)
    """
    ordered = np.sort(n_clicks).astype(np.float64)
    n, total = len(ordered), float(ordered.sum())
    if not n or not total:
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))
