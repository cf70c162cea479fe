"""The ranked probability score, for questions whose answers are steps of one quantity."""

from __future__ import annotations

import numpy as np

from gzoo.trees.tree import FloatArray, IntArray, Question


def ranked_probability_score(fractions: FloatArray, counts: IntArray, question: Question) -> FloatArray:
    """Return the mean ranked probability score of the votes for ordered answers (Epstein 1969), shape (galaxy,).

    The score of one vote is the sum over k of (F_k - V_k)^2, where F_k is the predicted fraction of the first k answers
    in order, and V_k is 1 if the vote is for one of them, else 0. Fractions are divided by their sum over the ordered
    answers; where that is 0, all ordered answers have the same. The mean over votes does not depend on their number.

    Args:
        fractions: Predicted fractions of all answers to the question, shape (galaxy, answer).
        counts: Vote counts, same shape.
        question: Question with ordered answers.

    Returns:
        From 0 (perfect) to the number of ordered answers minus 1; 0 without a vote for an ordered answer.

    >>> import numpy as np
    >>> arms = Question("arms", ("1", "2", "3", "unclear"), tuple("abcd"), ordered=("1", "2", "3"))
    >>> ranked_probability_score(np.array([[0.5, 0.25, 0.25, 0.0]]), np.array([[0, 0, 1, 5]]), arms)
    array([0.8125])
    """
    places = question.ordered_places
    own, n = fractions[:, places], ordered_votes(counts, question)
    total = own.sum(axis=1, keepdims=True)
    own = np.divide(own, total, out=np.full(own.shape, 1 / len(places)), where=total > 0)
    predicted = own.cumsum(axis=1)[:, :-1]
    voted = counts[:, places].cumsum(axis=1)[:, :-1] / np.maximum(n, 1)[:, None]
    return np.where(n > 0, (predicted**2 - 2 * predicted * voted + voted).sum(axis=1), 0.0)


def ordered_votes(counts: IntArray, question: Question) -> IntArray:
    """Return the number of votes for ordered answers to a question, shape (galaxy,), from all of its counts."""
    return counts[:, question.ordered_places].sum(axis=1)
