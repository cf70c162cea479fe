"""Dispersion: whether votes vary more or less between similar galaxies than predicted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypedDict, cast

import numpy as np
from scipy import optimize
from scipy.special import ndtr

from gzoo.scoring.bands import MIN_BLOCKS, covariance, subset, t_quantile
from gzoo.scoring.bias import predicted_variance
from gzoo.scoring.intervals import Blocks, Value, as_value
from gzoo.scoring.likelihood import giving, mixed, question_nll
from gzoo.scoring.pit import MIN_FRACTION, QuestionPrediction
from gzoo.scoring.scaling import LEAST_CONCENTRATION
from gzoo.trees.tree import FloatArray, IntArray

LOG_LIMIT = math.log(1000.0)  # of the dispersion factor; below 1 it may be smaller if the concentration is large
MIN_GROUP, MAX_GROUPS = 100, 20  # galaxies with similar predictions, and the number of such groups, to remove a bias
N_SWEEPS = 2  # over the groups of all answers
BIASED_INFLATION = 2.0  # of the variance that the test allows for where a bias was removed, which it is approximately
GRID_STEP, N_FOR_GRID = 1.5, 500  # of the log scales tried before the search, and the galaxies that they are tried on
LOG_MAX_CONCENTRATION = math.log(1e7)  # votes cannot distinguish such a concentration from certainty
STEP = 0.01  # for derivatives on the log scale: costs are accurate to 1e-9 and smooth over a factor of 2

Cost = Callable[[float], FloatArray]


class Dispersion(TypedDict):
    """Dispersion of the votes on one question, relative to the prediction.

    n_galaxies: Galaxies with at least 2 votes; single votes contain no information on dispersion.
    has_uncertainty: Whether the prediction has concentrations. Fractions alone have none.
    dispersion_factor: Factor on the concentrations that fits the votes best (maximum likelihood); below 1 the votes
        are overdispersed and the prediction is overconfident. No value or no upper end where any larger factor fits
        as well.
    concentration: For point predictions instead: the total concentration that fits the votes best. No value or no
        upper end where point predictions fit as well.
    variance_ratio: Squared differences of voted and predicted fractions, divided by their predicted mean; 1 if
        calibrated.
    p_value: Likelihood ratio test of a factor of 1, or of certainty for point predictions. Where a question allows
        several answers, the smallest of the answers times their number.
    """

    n_galaxies: int
    has_uncertainty: bool
    dispersion_factor: Value
    concentration: Value
    variance_ratio: Value
    p_value: float | None


def dispersion(
    counts: IntArray,
    volunteers: IntArray,
    prediction: QuestionPrediction,
    blocks: Blocks,
    *,
    is_biased: bool = False,
) -> Dispersion:
    """Return the dispersion of the votes relative to the prediction; see `Dispersion`.

    The interval of the factor is a profile likelihood interval, scaled by the scatter between blocks. The likelihood
    ratio test is the most powerful test of the factor.

    Args:
        counts: Vote counts, shape (galaxy, answer).
        volunteers: Total votes, shape (galaxy,).
        prediction: The prediction for these galaxies.
        blocks: The independent units.
        is_biased: Whether the predicted fractions are known to be biased. The votes are then compared with the mean
            votes of galaxies with similar predictions, because a bias would look like overdispersion.
    """
    rows = np.flatnonzero(volunteers >= 2)
    result = no_dispersion(len(rows), prediction.has_uncertainty)
    if not len(rows):
        return result
    blocks, counts, volunteers = subset(blocks, rows), counts[rows], volunteers[rows]
    prediction = QuestionPrediction(prediction.values[:, rows], prediction.is_concentration, prediction.question)
    if prediction.question.multiple:  # the answers of one volunteer may depend on each other
        each = [
            dispersion(
                np.column_stack([votes, volunteers - votes]),
                volunteers,
                prediction.answer(j),
                blocks,
                is_biased=is_biased,
            )["p_value"]
            for j, votes in enumerate(counts.T)
        ]
        result["p_value"] = min(1.0, len(each) * min(p or 0.0 for p in each))
    if is_biased:
        prediction = _unbiased(counts, volunteers, prediction)
    result["variance_ratio"] = _variance_ratio(counts, volunteers, prediction, blocks)
    cost, start, limits = _scaled(counts, volunteers, prediction)
    fit = _fit(cost, start, limits)
    low, high = _profile(fit, cost, limits, blocks)
    best = fit.best if fit.best < limits[1] else None
    scale = as_value(*(None if end is None else math.exp(end) for end in (best, low, high)))
    result["dispersion_factor" if prediction.has_uncertainty else "concentration"] = scale
    if prediction.question.multiple:
        return result
    stated = 0.0 if prediction.has_uncertainty else limits[1]
    inflation = BIASED_INFLATION if is_biased else 1.0
    if blocks.kind == "sky cells":
        slope = _slope(cost, stated if prediction.has_uncertainty else fit.best)
        inflation *= covariance(slope[:, None], blocks)[1]
    gain = max(0.0, 2 * (float(cost(stated).sum()) - fit.cost)) / inflation
    if prediction.has_uncertainty:
        result["p_value"] = float(2 * ndtr(-math.sqrt(gain)))
    else:  # one-sided, because certainty is the end of the scale
        result["p_value"] = float(ndtr(-math.sqrt(gain))) if gain > 0 else 1.0
    return result


def _unbiased(counts: IntArray, volunteers: IntArray, prediction: QuestionPrediction) -> QuestionPrediction:
    """Return the prediction with the mean voted fractions of galaxies with similar predictions, and its uncertainty."""
    fractions = prediction.fractions
    mean, shift = fractions.mean(axis=0), np.zeros(counts.shape)
    n_groups = min(max(len(counts) // MIN_GROUP, 1), MAX_GROUPS)
    off = counts / volunteers[:, None] - mean
    groups = [np.array_split(np.argsort(column, kind="stable"), n_groups) for column in mean.T]
    for rows in [rows for of_answer in groups for rows in of_answer] * N_SWEEPS:
        shift[rows] += (off[rows] - shift[rows]).mean(axis=0)
    n_means = 1 + (1 if prediction.is_mirrored else counts.shape[1]) * (n_groups - 1)
    shift = off - (off - shift) * math.sqrt(len(counts) / max(len(counts) - n_means, 1))  # means fit their own galaxies
    moved = np.clip(fractions + shift, MIN_FRACTION, 1 - MIN_FRACTION)
    if prediction.question.multiple:
        moved = np.concatenate([moved, 1 - moved], axis=-1) if prediction.has_uncertainty else moved
    else:
        moved /= moved.sum(axis=-1, keepdims=True)
    if prediction.has_uncertainty:
        values = prediction.values
        total = sum(giving(values)) if prediction.question.multiple else values.sum(axis=-1, keepdims=True)
        moved *= np.concatenate([total, total], axis=-1) if prediction.question.multiple else total
    return QuestionPrediction(moved, prediction.is_concentration, prediction.question)


def no_dispersion(n_galaxies: int, has_uncertainty: bool) -> Dispersion:
    """Return the dispersion of votes that contain no information on it."""
    unknown = as_value(None, None, None)
    return Dispersion(
        n_galaxies=n_galaxies,
        has_uncertainty=has_uncertainty,
        dispersion_factor=unknown,
        concentration=unknown,
        variance_ratio=unknown,
        p_value=None,
    )


def _scaled(
    counts: IntArray, volunteers: IntArray, prediction: QuestionPrediction
) -> tuple[Cost, float, tuple[float, float]]:
    """Return the cost of each galaxy as a function of the log scale of its concentrations, a start and the limits."""
    is_multiple = prediction.question.multiple
    members, start = prediction.values, 0.0
    largest = math.log(float(members.sum(axis=-1).max())) if prediction.has_uncertainty else 0.0
    limits = (min(-LOG_LIMIT, math.log(LEAST_CONCENTRATION) - largest), LOG_LIMIT)
    if not prediction.has_uncertainty:
        members, start = np.clip(prediction.fractions, 1e-6, 1 - 1e-6), math.log(20.0)
        members = np.concatenate([members, 1 - members], axis=-1) if is_multiple else members
        limits = (-math.log(100.0), LOG_MAX_CONCENTRATION)

    def cost(log_scale: float) -> FloatArray:
        scale = math.exp(log_scale)
        return mixed([question_nll(counts, volunteers, scale * one, is_multiple=is_multiple) for one in members])

    # far above the number of votes the likelihood is flat, so a search that starts there ends there
    some = slice(None, None, -(-len(counts) // N_FOR_GRID))

    def roughly(log_scale: float) -> float:
        few = [math.exp(log_scale) * one[some] for one in members]
        return float(
            mixed([question_nll(counts[some], volunteers[some], one, is_multiple=is_multiple) for one in few]).sum()
        )

    tried = [start, *np.arange(*limits, GRID_STEP).tolist()]
    return cost, min(tried, key=roughly), limits


class _Fit(NamedTuple):
    """The best log scale, its total cost, and the second derivative of the cost there."""

    best: float
    cost: float
    curvature: float


def _fit(cost: Cost, start: float, limits: tuple[float, float]) -> _Fit:
    """Minimise the cost: by Newton's method or, where the cost is not convex or that diverges, by a bounded search."""

    def total(at: float) -> float:
        return float(cost(at).sum())

    def derivatives(at: float) -> tuple[float, float, float]:
        middle, before, after = total(at), total(at - STEP), total(at + STEP)
        return middle, (after - before) / (2 * STEP), (after - 2 * middle + before) / STEP**2

    at = start
    for _ in range(20):
        at = min(max(at, limits[0]), limits[1])
        middle, slope, curvature = derivatives(at)
        if (at == limits[0] and slope > 0) or (at == limits[1] and slope < 0):
            return _Fit(at, middle, curvature)
        if curvature <= 0:
            break
        move = -slope / curvature
        if abs(move) * math.sqrt(curvature) < 0.01:  # of its standard error
            return _Fit(at, middle, curvature)
        at += min(max(move, -1.0), 1.0)
    tried = np.linspace(*limits, 15).tolist()
    i = int(np.argmin([total(one) for one in tried]))
    around = (tried[max(i - 1, 0)], tried[min(i + 1, 14)])
    best = float(cast(float, optimize.fminbound(total, *around, xtol=1e-4)))
    least = total(best)
    for end in limits:
        if total(end) <= least + 1e-6:
            best, least = end, total(end)
    middle, _, curvature = derivatives(best)
    return _Fit(best, middle, curvature)


def _slope(cost: Cost, at: float) -> FloatArray:
    return (cost(at + STEP) - cost(at - STEP)) / (2 * STEP)


def _profile(fit: _Fit, cost: Cost, limits: tuple[float, float], blocks: Blocks) -> tuple[float | None, float | None]:
    """Return the ends of the 95% interval of the log scale; None for an end outside the limits."""
    if blocks.n_blocks < MIN_BLOCKS:
        return None, None
    factor = t_quantile(blocks.n_blocks - 1)
    inflation = 1.0
    if limits[0] < fit.best < limits[1] and fit.curvature > 0:
        scatter = blocks.sums(_slope(cost, fit.best)[:, None])
        inflation = float((scatter**2).sum()) / fit.curvature * blocks.n_blocks / (blocks.n_blocks - 1)
        error = math.sqrt(inflation / fit.curvature)
        if error < 0.1:  # the cost is then a parabola between the ends
            return fit.best - factor * error, fit.best + factor * error
    allowed = fit.cost + max(inflation, 1e-6) * factor**2 / 2

    def excess(at: float) -> float:
        return float(cost(at).sum()) - allowed

    def end(limit: float) -> float | None:
        if limit == fit.best or excess(limit) <= 0:
            return None
        return float(cast(float, optimize.brentq(excess, fit.best, limit, xtol=1e-3)))

    return end(limits[0]), end(limits[1])


def _variance_ratio(counts: IntArray, volunteers: IntArray, prediction: QuestionPrediction, blocks: Blocks) -> Value:
    """Return the squared deviations of voted from predicted fractions, divided by their expectation."""
    n, mean = volunteers[:, None], prediction.fractions.mean(axis=0)
    variance = predicted_variance(volunteers, prediction)
    observed = ((counts / n - mean) ** 2).sum(axis=1)
    expected = variance.sum(axis=1)
    if expected.sum() <= 0:
        return as_value(None, None, None)
    ratio = float(observed.sum() / expected.sum())
    if blocks.n_blocks < MIN_BLOCKS:
        return as_value(ratio, None, None)
    sums = blocks.sums((observed - ratio * expected)[:, None])
    error = math.sqrt(float((sums**2).sum()) * blocks.n_blocks / (blocks.n_blocks - 1)) / float(expected.sum())
    half = t_quantile(blocks.n_blocks - 1) * error
    return as_value(ratio, max(0.0, ratio - half), ratio + half)
