"""Consistency of volunteers with each other, and rules that detect bots.

Consistency weights follow Willett et al. (2013, MNRAS 435, 2835, section 3.2). They do not silence bots: random answers
agree with the other volunteers by chance, and keep most of their weight. Bots are therefore detected by separate rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gzoo.trees.tree import FloatArray
from gzoo.zooniverse.classifications import BoolArray, Classifications

CONSISTENT, STEEPNESS, N_ITERATIONS = 0.6, 8.5, 3  # Willett et al. 2013, equations 1 and 2
MIN_CLASSIFICATIONS = 10
"""Volunteers with fewer classifications are not tested."""
MIN_SECONDS = 0.5  # per answer, and once for viewing the image: about the time that a hand movement takes
SAME_FRACTION, SAME_PROBABILITY = 0.9, 1e-6
CHANCE_FRACTION, N_DEVIATIONS = 0.5, 2.5
FAST, SAME, CHANCE = "implausibly fast", "repeated answers", "agreement at chance level"
RULES: Mapping[str, str] = {
    FAST: f"half of the classifications took less than {MIN_SECONDS} seconds per answer",
    SAME: f"at least {SAME_FRACTION:.0%} of the classifications have the same answers, more than chance explains",
    CHANCE: "the answers agree with other volunteers hardly better than answers to other galaxies would",
}
_CHUNK = 200_000


@dataclass(frozen=True, slots=True)
class Bots:
    """Volunteers that are probably automated accounts.

    Attributes:
        flags: Rule -> whether it flags a volunteer, shape (volunteer,).
        is_judged: Whether the volunteer has enough classifications to be tested, shape (volunteer,).
    """

    flags: Mapping[str, BoolArray]
    is_judged: BoolArray

    @property
    def any(self) -> BoolArray:
        """Whether any rule flags a volunteer, shape (volunteer,)."""
        return np.any(list(self.flags.values()), axis=0)


def consistency(classifications: Classifications, fractions: FloatArray) -> FloatArray:
    """Return how well each volunteer agrees with vote fractions: kappa of Willett et al. (2013), 0 to 1.

    For one answered question, kappa is the mean over its answers of f if the answer was given and 1 - f if it was not,
    where f is the vote fraction of the answer. A volunteer's kappa is the mean over all questions answered.

    Args:
        classifications: The classifications.
        fractions: Vote fractions of each galaxy, shape (galaxy, answer).

    Returns:
        Shape (volunteer,).
    """
    tree = classifications.tree
    n_answers = np.array([len(question.columns) for question in tree.questions])
    owner = np.zeros((len(tree.columns), len(tree.questions)))
    owner[np.arange(len(tree.columns)), list(tree.question_of_answer)] = 1.0
    known = np.nan_to_num(fractions)
    per_answer = n_answers[list(tree.question_of_answer)]
    missed = ((1.0 - known) / per_answer) @ owner  # if no answer was given: the sum of 1 - f over the answers
    gained = (2.0 * known - 1.0) / per_answer
    answers, questions = classifications.pattern_answers, classifications.pattern_questions
    total = np.zeros(len(classifications))
    for rows in _chunks(len(classifications)):
        galaxy, pattern = classifications.galaxy[rows], classifications.pattern[rows]
        total[rows] = (missed[galaxy] * questions[pattern]).sum(axis=1) + (gained[galaxy] * answers[pattern]).sum(
            axis=1
        )
    n_asked = questions.sum(axis=1)[classifications.pattern].astype(np.float64)
    return classifications.sum_by_volunteer(total) / np.maximum(classifications.sum_by_volunteer(n_asked), 1.0)


def consistency_weights(classifications: Classifications) -> FloatArray:
    """Return the weights of Willett et al. (2013): w = min(1, (kappa / 0.6)^8.5), iterated three times.

    Kappa (see `consistency`) is first computed from the plain vote fractions, then from fractions weighted with the
    weights found. Volunteers who answer as most others do have weight 1; no weight is larger.

    Args:
        classifications: The classifications.

    Returns:
        Shape (volunteer,).
    """
    weights = np.ones(len(classifications.names))
    for _ in range(N_ITERATIONS):
        fractions, _ = classifications.weighted(weights)
        weights = np.minimum(1.0, (consistency(classifications, fractions) / CONSISTENT) ** STEEPNESS)
    return weights


def bots(classifications: Classifications) -> Bots:
    """Detect bots by three rules; each needs `MIN_CLASSIFICATIONS` classifications.

    - *implausibly fast*: half of the classifications with a known duration took less than half a second per answer
      (plus once for viewing the image);
    - *repeated answers*: nearly all classifications have the same answers, more often than chance allows (binomial,
      with the fraction that these answers have among the other volunteers' classifications);
    - *agreement at chance level*: the fractions that other volunteers gave to this volunteer's answers, on these
      galaxies, are hardly above the means of those answers over all galaxies. A careful volunteer exceeds the means;
      answers that ignore the image do not, whichever answers are preferred.

    Args:
        classifications: The classifications.
    """
    n = classifications.n_of_volunteer
    is_judged = n >= MIN_CLASSIFICATIONS
    flags = {FAST: _is_fast(classifications), SAME: _is_same(classifications), CHANCE: _is_chance(classifications)}
    return Bots({name: flag & is_judged for name, flag in flags.items()}, is_judged)


def _is_fast(classifications: Classifications) -> BoolArray:
    pace = classifications.seconds_per_answer
    is_known = np.isfinite(pace) & (pace >= 0)
    n_known = classifications.sum_by_volunteer(is_known.astype(np.float64))
    n_fast = classifications.sum_by_volunteer((is_known & (pace < MIN_SECONDS)).astype(np.float64))
    return (n_known >= MIN_CLASSIFICATIONS) & (2 * n_fast > n_known)


def _is_same(classifications: Classifications) -> BoolArray:
    from scipy.special import bdtrc

    n, n_patterns = classifications.n_of_volunteer, len(classifications.pattern_answers)
    pair, times = np.unique(classifications.volunteer * n_patterns + classifications.pattern, return_counts=True)
    volunteer, pattern = pair // n_patterns, pair % n_patterns
    most = np.zeros(len(n), np.int64)
    np.maximum.at(most, volunteer, times)
    of_pattern = np.bincount(classifications.pattern, minlength=n_patterns)
    is_top = times == most[volunteer]
    # The fraction among the others' classifications, so that an active bot does not make its own answers look common.
    others = (of_pattern[pattern] - times + 1) / np.maximum(len(classifications) - n[volunteer] + 1, 1)
    fraction = np.zeros(len(n))
    np.maximum.at(fraction, volunteer[is_top], others[is_top])
    probability = bdtrc(np.maximum(most - 1, 0), n, np.minimum(fraction, 1.0))
    return (most >= SAME_FRACTION * n) & (probability < SAME_PROBABILITY)


def _is_chance(classifications: Classifications) -> BoolArray:
    gain, has_gain = _gains(classifications)
    total, square, n = (classifications.sum_by_volunteer(one) for one in (gain, gain**2, has_gain))
    mean = total / np.maximum(n, 1)
    spread = np.sqrt(np.maximum(square / np.maximum(n, 1) - mean**2, 0.0))
    # Answers of one classification are not independent, so the standard error counts classifications.
    error = spread / np.sqrt(np.maximum(classifications.n_of_volunteer, 1))
    usual = float(total.sum() / max(n.sum(), 1.0))
    return (n > 0) & (mean + N_DEVIATIONS * error < CHANCE_FRACTION * usual) & (usual > 0)


def _gains(classifications: Classifications) -> tuple[FloatArray, FloatArray]:
    """Return each classification's mean agreement above chance, and whether (1 or 0) it has any."""
    tree = classifications.tree
    votes = classifications.sum_by_galaxy(classifications.pattern_answers)
    asked = classifications.sum_by_galaxy(classifications.pattern_questions)
    of_question = list(tree.question_of_answer)
    fractions = np.divide(votes, asked[:, of_question], out=np.zeros(votes.shape), where=asked[:, of_question] > 0)
    usual = votes.sum(axis=0) / np.maximum(asked.sum(axis=0)[of_question], 1.0)
    gain, has_gain = np.zeros((2, len(classifications)))
    for rows in _chunks(len(classifications)):
        galaxy, given = classifications.galaxy[rows], classifications.pattern_answers[classifications.pattern[rows]]
        below = asked[galaxy][:, of_question]
        has_others = given & (below > 1.5)
        # The fraction without the volunteer's own vote: (f n - 1) / (n - 1).
        others = (fractions[galaxy] * below - 1.0) / np.maximum(below - 1.0, 1.0)
        n = has_others.sum(axis=1)
        gain[rows] = np.where(has_others, others - usual, 0.0).sum(axis=1) / np.maximum(n, 1)
        has_gain[rows] = n > 0
    return gain, has_gain


def _chunks(n: int) -> list[slice]:
    return [slice(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK)]


def gini(n: npt.NDArray[np.integer]) -> float:
    """Return the Gini coefficient of numbers of classifications: 0 if all are equal, near 1 if one volunteer made all.

    >>> round(gini(np.array([1, 1, 1, 1])), 3), round(gini(np.array([0, 0, 0, 8])), 3)
    (0.0, 0.75)
    """
    ordered = np.sort(n).astype(np.float64)
    total = len(ordered) * float(ordered.sum())
    return float((2 * np.arange(1, len(ordered) + 1) - len(ordered) - 1) @ ordered / total) if total else 0.0
