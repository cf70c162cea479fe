"""Bias: whether the mean voted fraction of each answer is the predicted one."""

from __future__ import annotations

import math
from typing import TypedDict

from scipy import stats

from gzoo.scoring.bands import MIN_BLOCKS, t_quantile
from gzoo.scoring.intervals import Blocks
from gzoo.scoring.likelihood import giving
from gzoo.scoring.pit import QuestionPrediction
from gzoo.trees.tree import FloatArray, IntArray


class AnswerBias(TypedDict):
    """Mean of predicted minus voted fractions of one answer, over galaxies with votes on the question.

    value, low, high: The mean with its 95% confidence interval; no ends with fewer than 10 galaxies or sky cells.
    p_value: Test of no bias. Its standard error is the larger one of the predicted scatter and the observed one, so
        neither overconfidence nor rare answers look like a bias.
    """

    value: float
    low: float | None
    high: float | None
    p_value: float | None


def answer_biases(
    counts: IntArray, volunteers: IntArray, prediction: QuestionPrediction, blocks: Blocks
) -> dict[str, AnswerBias]:
    """Return the bias of each answer by column; of two answers only the first, because the other mirrors it.

    Args:
        counts: Vote counts, shape (galaxy, answer).
        volunteers: Total votes, at least 1, shape (galaxy,).
        prediction: The prediction for these galaxies.
        blocks: The independent units.
    """
    n, n_blocks = len(volunteers), blocks.n_blocks
    differences = prediction.fractions.mean(axis=0) - counts / volunteers[:, None]
    mean = differences.mean(axis=0)
    predicted = predicted_variance(volunteers, prediction).sum(axis=0)
    around_0 = (blocks.sums(differences) ** 2).sum(axis=0)
    around_mean = (blocks.sums(differences - mean) ** 2).sum(axis=0) * n_blocks / max(n_blocks - 1, 1)
    found: dict[str, AnswerBias] = {}
    for j, column in enumerate(prediction.question.columns[: 1 if prediction.is_mirrored else None]):
        variance = max(float(predicted[j]), float(around_0[j]))
        half = t_quantile(max(n_blocks - 1, 1)) * math.sqrt(float(around_mean[j])) / n
        is_known = n_blocks >= MIN_BLOCKS
        t = n * abs(float(mean[j])) / math.sqrt(variance) if variance > 0 else 0.0
        found[column] = AnswerBias(
            value=float(mean[j]),
            low=float(mean[j]) - half if is_known else None,
            high=float(mean[j]) + half if is_known else None,
            p_value=float(2 * stats.t.sf(t, n_blocks - 1)) if is_known else None,
        )
    return found


def predicted_variance(volunteers: IntArray, prediction: QuestionPrediction) -> FloatArray:
    """Return the predicted variance of the voted fraction of each answer, shape (galaxy, answer)."""
    each, n = prediction.fractions, volunteers[:, None]
    extra: FloatArray | float = 1.0
    if prediction.has_uncertainty:
        values = prediction.values
        total = sum(giving(values)) if prediction.question.multiple else values.sum(axis=-1, keepdims=True)
        extra = (total + n) / (total + 1)
    return (each * (1 - each) / n * extra + each**2).mean(axis=0) - each.mean(axis=0) ** 2
