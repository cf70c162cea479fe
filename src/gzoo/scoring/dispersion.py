"""Dispersion: whether votes are spread wider or narrower than predicted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypedDict, cast

import numpy as np
from scipy import optimize
from scipy.special import ndtr

from gzoo.scoring.bands import MIN_BLOCKS, block_sums, covariance, t_quantile
from gzoo.scoring.intervals import Blocks, Value
from gzoo.scoring.likelihood import beta_binomial_nll, mixed, question_nll
from gzoo.scoring.pit import Belief
from gzoo.trees.tree import FloatArray, IntArray

LOG_LIMIT = math.log(1000.0)  # of the factor, either way
LOG_ENDLESS = math.log(1e7)  # a concentration that no votes can tell from certainty
STEP = 0.01  # of the log scale, for derivatives: costs are accurate to 1e-9 and smooth over a factor of 2

Cost = Callable[[float], FloatArray]


class Dispersion(TypedDict):
    """Whether votes of similar galaxies are spread wider or narrower than predicted.

    n_galaxies: With at least 2 votes; one vote says nothing of it.
    has_uncertainty: Whether the prediction has a concentration: shares alone have none, nor do answers of which several
        may be given.
    factor: By which concentrations must be multiplied to fit the votes best (maximum likelihood): below 1 the
        prediction is too sure. Without a value or an upper end where any larger factor fits too.
    concentration: Of predictions that state no doubt, instead: the total concentration that the votes show. Without
        a value or an upper end where no doubt needs to be stated.
    spread: Squared differences of votes and predictions, divided by what is predicted for them; 1 is right.
    p_value: Of the factor being 1 (of no doubt being needed), by the likelihood ratio.
    """

    n_galaxies: int
    has_uncertainty: bool
    factor: Value
    concentration: Value
    spread: Value
    p_value: float | None


def dispersion(counts: IntArray, volunteers: IntArray, belief: Belief, blocks: Blocks) -> Dispersion:
    """Whether the votes are spread wider or narrower than predicted; see `Dispersion`.

    The factor's interval is that of its profile likelihood, scaled by the scatter between blocks, so that it holds
    where expected shares are off too. The test is the likelihood ratio's: no test finds a wrong factor more often.
    """
    rows = np.flatnonzero(volunteers >= 2)
    result = no_dispersion(len(rows), belief.has_uncertainty)
    if not len(rows):
        return result
    labels = np.unique(blocks.labels[rows], return_inverse=True)[1]
    blocks = Blocks(labels, int(labels.max()) + 1, blocks.kind)
    counts, volunteers = counts[rows], volunteers[rows]
    belief = Belief(belief.values[:, rows], belief.is_concentration, belief.question)
    result["spread"] = _spread(counts, volunteers, belief, blocks)
    cost, start, limits = _scaled(counts, volunteers, belief)
    fit = _fit(cost, start, limits)
    low, high = _profile(fit, cost, limits, blocks)
    scale = Value(
        value=math.exp(fit.best) if fit.best < limits[1] else None,
        low=None if low is None else math.exp(low),
        high=None if high is None else math.exp(high),
    )
    stated = 0.0 if belief.has_uncertainty else limits[1]
    inflation = 1.0
    if blocks.kind == "sky cells":
        slope = _slope(cost, stated if belief.has_uncertainty else fit.best)
        inflation = covariance(slope[:, None], blocks)[1]
    gain = max(0.0, 2 * (float(cost(stated).sum()) - fit.cost)) / inflation
    if belief.has_uncertainty:
        result["factor"] = scale
        result["p_value"] = float(2 * ndtr(-math.sqrt(gain)))
    else:  # no doubt is the end of the scale: only less can be found
        result["concentration"] = scale
        result["p_value"] = float(ndtr(-math.sqrt(gain))) if gain > 0 else 1.0
    return result


def no_dispersion(n_galaxies: int, has_uncertainty: bool) -> Dispersion:
    """What is known of the dispersion without votes."""
    return Dispersion(
        n_galaxies=n_galaxies,
        has_uncertainty=has_uncertainty,
        factor=nothing(),
        concentration=nothing(),
        spread=nothing(),
        p_value=None,
    )


def nothing() -> Value:
    """A number that is not known."""
    return Value(value=None, low=None, high=None)


def _scaled(counts: IntArray, volunteers: IntArray, belief: Belief) -> tuple[Cost, float, tuple[float, float]]:
    """Cost of each galaxy as a function of the log of the scale of its concentrations; a start, and limits."""
    if belief.has_uncertainty:

        def of_factor(log_factor: float) -> FloatArray:
            factor = math.exp(log_factor)
            return mixed([question_nll(counts, volunteers, factor * member) for member in belief.values])

        return of_factor, 0.0, (-LOG_LIMIT, LOG_LIMIT)
    fractions = np.clip(belief.fractions, 1e-6, 1 - 1e-6)

    def of_concentration(log_concentration: float) -> FloatArray:
        total = math.exp(log_concentration)
        if not belief.question.multiple:
            return mixed([question_nll(counts, volunteers, total * member) for member in fractions])
        answers = range(counts.shape[1])
        each = [
            sum(
                (beta_binomial_nll(counts[:, j], volunteers, total * m[:, j], total * (1 - m[:, j])) for j in answers),
                start=np.zeros(len(volunteers)),
            )
            for m in fractions
        ]
        return mixed(each)

    return of_concentration, math.log(20.0), (-math.log(100.0), LOG_ENDLESS)


class _Fit(NamedTuple):
    """The best log scale, its cost, and the second derivative of the cost there."""

    best: float
    cost: float
    curvature: float


def _fit(cost: Cost, start: float, limits: tuple[float, float]) -> _Fit:
    """Newton's method; from the best of a few places where the cost is not convex or the steps go astray."""
    at = start
    for _ in range(20):
        at = min(max(at, limits[0]), limits[1])
        middle, before, after = (float(cost(at + move).sum()) for move in (0.0, -STEP, STEP))
        slope, curvature = (after - before) / (2 * STEP), (after - 2 * middle + before) / STEP**2
        if (at == limits[0] and slope > 0) or (at == limits[1] and slope < 0):
            return _Fit(at, middle, curvature)
        if curvature <= 0:
            break
        move = -slope / curvature
        if abs(move) * math.sqrt(curvature) < 0.01:  # of its standard error
            return _Fit(at, middle, curvature)
        at += min(max(move, -1.0), 1.0)

    def total(at: float) -> float:
        return float(cost(at).sum())

    tried = np.linspace(*limits, 15).tolist()
    i = int(np.argmin([total(one) for one in tried]))
    around = (tried[max(i - 1, 0)], tried[min(i + 1, 14)])
    best = float(cast(float, optimize.fminbound(total, *around, xtol=1e-4)))
    least = total(best)
    for end in limits:
        if total(end) <= least + 1e-6:
            best, least = end, total(end)
    middle, before, after = (float(cost(best + move).sum()) for move in (0.0, -STEP, STEP))
    return _Fit(best, middle, (after - 2 * middle + before) / STEP**2)


def _slope(cost: Cost, at: float) -> FloatArray:
    return (cost(at + STEP) - cost(at - STEP)) / (2 * STEP)


def _profile(fit: _Fit, cost: Cost, limits: tuple[float, float], blocks: Blocks) -> tuple[float | None, float | None]:
    """Ends of the 95 % interval of the log scale; None where it has no end within the limits."""
    if blocks.n_blocks < MIN_BLOCKS:
        return None, None
    factor = t_quantile(blocks.n_blocks - 1)
    is_inside = limits[0] < fit.best < limits[1] and fit.curvature > 0
    inflation = 1.0
    if is_inside:
        scatter = block_sums(_slope(cost, fit.best)[:, None], blocks)
        inflation = float((scatter**2).sum()) / fit.curvature * blocks.n_blocks / (blocks.n_blocks - 1)
        error = math.sqrt(inflation / fit.curvature)
        if error < 0.1:  # then the cost is a parabola as far as the ends
            return fit.best - factor * error, fit.best + factor * error
    allowed = fit.cost + max(inflation, 1e-6) * factor**2 / 2

    def excess(at: float) -> float:
        return float(cost(at).sum()) - allowed

    ends: list[float | None] = []
    for limit in limits:
        if limit == fit.best or excess(limit) <= 0:
            ends.append(None)
        else:
            ends.append(float(cast(float, optimize.brentq(excess, fit.best, limit, xtol=1e-3))))
    return ends[0], ends[1]


def _spread(counts: IntArray, volunteers: IntArray, belief: Belief, blocks: Blocks) -> Value:
    """Squared deviations of the voted shares from the expected ones, by what is predicted for them."""
    each, n = belief.fractions, volunteers[:, None]
    mean = each.mean(axis=0)
    extra: FloatArray | float = 1.0
    if belief.has_uncertainty:
        total = belief.values.sum(axis=-1, keepdims=True)
        extra = (total + n) / (total + 1)
    variance = (each * (1 - each) / n * extra + each**2).mean(axis=0) - mean**2
    found = ((counts / n - mean) ** 2).sum(axis=1)
    wanted = variance.sum(axis=1)
    if wanted.sum() <= 0:
        return nothing()
    ratio = float(found.sum() / wanted.sum())
    if blocks.n_blocks < MIN_BLOCKS:
        return Value(value=ratio, low=None, high=None)
    sums = block_sums((found - ratio * wanted)[:, None], blocks)
    error = math.sqrt(float((sums**2).sum()) * blocks.n_blocks / (blocks.n_blocks - 1)) / float(wanted.sum())
    half = t_quantile(blocks.n_blocks - 1) * error
    return Value(value=ratio, low=max(0.0, ratio - half), high=ratio + half)
