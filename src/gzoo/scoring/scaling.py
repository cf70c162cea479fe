"""Scaled predictions: concentrations with a factor, a temperature and a bias of each answer, and their likelihood.

Recalibration and the test of dispersion both look for the parameters that make the votes most probable. Parameters are
an array (log factor, log temperature, bias of each answer), so that all of them may be any real number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from gzoo.scoring.likelihood import giving, log_rising, log_rising_slope, mixed
from gzoo.trees.tree import FloatArray, IntArray, Question

SMALLEST = 1e-9  # fraction, odds or concentration
CERTAIN = 1e6  # a concentration that no votes can distinguish from an infinite one
LEAST_CONCENTRATION = 1e-2  # and one that no votes can distinguish from unanimous votes
N_GRID, N_FOR_GRID = 15, 500  # concentrations tried before the search, on so many galaxies
N_STARTS = 2

Penalty = Callable[[FloatArray], tuple[float, FloatArray]]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Votes on one question, and predictions to be scaled.

    Volunteers choose between alternatives: once between all answers or, where a question allows several, for each
    answer between giving it and not giving it. All arrays have an axis of such choices and one of their alternatives.

    Attributes:
        counts: Vote counts, shape (galaxy, choice, alternative).
        totals: Total votes, at least 1, shape (galaxy,).
        logs: Logarithms of the predicted fractions, shape (member, galaxy, choice, alternative).
        log_total: Logarithms of the total concentrations, shape (member, galaxy, choice, 1); 0 for predicted fractions.
        is_multiple: Whether a volunteer may give several answers.
    """

    counts: IntArray
    totals: IntArray
    logs: FloatArray
    log_total: FloatArray
    is_multiple: bool

    @classmethod
    def of(
        cls, counts: IntArray, totals: IntArray, values: FloatArray, question: Question, *, is_fraction: bool
    ) -> Scaling:
        """Return the votes and predictions of a question.

        Args:
            counts: Vote counts, shape (galaxy, answer).
            totals: Total votes, at least 1, shape (galaxy,).
            values: Concentrations, shape (member, galaxy, concentration), or fractions, shape (member, galaxy, answer).
            question: Question.
            is_fraction: Whether the values are fractions.
        """
        chosen = np.stack([counts, totals[:, None] - counts], axis=-1) if question.multiple else counts[:, None, :]
        return cls(chosen, totals, *_logs(values, question, is_fraction=is_fraction), question.multiple)

    def __len__(self) -> int:
        return len(self.totals)

    @property
    def n_parameters(self) -> int:
        """Number of parameters: log factor, log temperature, and the bias of each answer."""
        return 2 + self.logs.shape[2 if self.is_multiple else 3]

    @property
    def mean_log_total(self) -> float:
        """Mean logarithm of the total concentration."""
        return float(self.log_total.mean())

    def take(self, rows: npt.NDArray[np.integer] | slice) -> Scaling:
        """Return some galaxies."""
        return Scaling(
            self.counts[rows], self.totals[rows], self.logs[:, rows], self.log_total[:, rows], self.is_multiple
        )

    def cost(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the negative log probability of each galaxy's votes, and the gradient of their sum.

        The multinomial coefficient, which does not depend on the parameters, is left out.

        Args:
            parameters: Log factor, log temperature and biases, shape (2 + answers,).
        """
        each, slopes = [], []
        for logs, log_total in zip(self.logs, self.log_total, strict=True):
            cost, by_scale, by_log = self._of_member(logs, log_total, parameters)
            each.append(cost)
            slopes.append((by_scale, by_log, logs))
        together = mixed(each)
        gradient = np.zeros(len(parameters))
        for cost, (by_scale, by_log, logs) in zip(each, slopes, strict=True):
            weight = np.exp(together - cost) / len(each)  # of the member, given the votes
            weighted = weight[:, None, None] * by_log
            gradient[0] += weight @ by_scale
            gradient[1] -= (weighted * logs).sum() * math.exp(-parameters[1])
            sums = weighted.sum(axis=0)
            gradient[2:] += sums[:, 0] if self.is_multiple else sums[0]
        return together, gradient

    def _of_member(
        self, logs: FloatArray, log_total: FloatArray, parameters: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the cost and its derivatives by the log factor and by the scaled logs of the fractions."""
        fractions = _moved(logs, parameters, is_multiple=self.is_multiple)
        counts, totals = self.counts, self.totals[:, None, None]
        total = np.exp(log_total + parameters[0])
        alpha = np.maximum(total * fractions, SMALLEST)
        cost = log_rising(total, totals).sum(axis=(1, 2)) - log_rising(alpha, counts).sum(axis=(1, 2))
        slopes = alpha * log_rising_slope(alpha, counts)
        all_slopes = slopes.sum(axis=2, keepdims=True)
        by_scale = (total * log_rising_slope(total, totals) - all_slopes).sum(axis=(1, 2))
        return cost, by_scale, fractions * all_slopes - slopes

    def residuals(self, parameters: FloatArray) -> FloatArray:
        """Return voted minus predicted fractions, shape (galaxy, answer).

        Args:
            parameters: Log factor, log temperature and biases, shape (2 + answers,).
        """
        fractions = _moved(self.logs, parameters, is_multiple=self.is_multiple).mean(axis=0)
        differences = self.counts / self.totals[:, None, None] - fractions
        return differences[:, :, 0] if self.is_multiple else differences[:, 0]

    def fit(
        self,
        free: npt.NDArray[np.bool_],
        *,
        penalty: Penalty | None = None,
        start: FloatArray | None = None,
    ) -> tuple[FloatArray, float]:
        """Return the parameters of the smallest cost, plus the penalty if there is one, and this cost.

        The likelihood is flat where concentrations are far above the number of votes, so that a search which starts
        there ends there. Several concentrations are tried first, and the best ones begin the search. The resulting
        concentration is bounded, not the factor.

        Args:
            free: Which parameters are searched; the others stay where they start.
            penalty: Function of the parameters that returns a number to add to the cost, and its gradient.
            start: Parameters to start from; 0 by default.
        """
        begin = np.zeros(self.n_parameters) if start is None else start.copy()
        if not free.any():
            return begin, self._penalised(begin, penalty)[0]
        low = math.log(LEAST_CONCENTRATION) - float(self.log_total.max())
        high = math.log(CERTAIN) - float(self.log_total.min())
        limits = [(min(low, begin[0]), max(high, begin[0])), (-math.log(4.0), math.log(4.0))]
        bounds = [*limits, *[(-5.0, 5.0)] * (len(begin) - 2)]
        starts = self._starts(begin, bounds[0], penalty) if free[0] and start is None else [begin]
        best, least = begin, math.inf
        for at in starts:

            def objective(values: FloatArray, at: FloatArray = at) -> tuple[float, FloatArray]:
                whole = at.copy()
                whole[free] = values
                cost, slope = self._penalised(whole, penalty)
                return cost / len(self), slope[free] / len(self)

            found = optimize.minimize(
                objective,
                at[free],
                jac=True,
                method="L-BFGS-B",
                bounds=[bounds[i] for i in np.flatnonzero(free)],
                options={"ftol": 1e-9, "gtol": 1e-6},
            )
            if found.fun * len(self) < least - 1e-9:
                best, least = at.copy(), float(found.fun) * len(self)
                best[free] = found.x
        return best, least

    def _penalised(self, parameters: FloatArray, penalty: Penalty | None) -> tuple[float, FloatArray]:
        each, slope = self.cost(parameters)
        if penalty is None:
            return float(each.sum()), slope
        more, more_slope = penalty(parameters)
        return float(each.sum()) + more, slope + more_slope

    def _starts(self, begin: FloatArray, bounds: tuple[float, float], penalty: Penalty | None) -> list[FloatArray]:
        """Return the parameters with the best of a grid of concentrations, at most two."""
        some = self.take(slice(None, None, -(-len(self) // N_FOR_GRID)))
        grid = sorted({begin[0], *np.linspace(*bounds, N_GRID).tolist()})
        tried = [np.array([log_factor, *begin[1:]]) for log_factor in grid]
        costs = [
            float(some.cost(one)[0].sum()) * len(self) / len(some) + (penalty(one)[0] if penalty else 0.0)
            for one in tried
        ]
        padded = [math.inf, *costs, math.inf]
        lowest = [i for i in range(len(grid)) if costs[i] <= padded[i] and costs[i] < padded[i + 2]]
        return [tried[i] for i in sorted(lowest, key=lambda i: costs[i])[:N_STARTS]]


def scaled(values: FloatArray, parameters: FloatArray, question: Question, *, is_fraction: bool) -> FloatArray:
    """Return the scaled concentrations of one question, shape (member, galaxy, concentration).

    Args:
        values: Concentrations of this shape, or fractions, shape (member, galaxy, answer).
        parameters: Log factor, log temperature and biases, shape (2 + answers,).
        question: Question.
        is_fraction: Whether the values are fractions, whose concentration is then the factor.

    >>> import gzoo, numpy as np
    >>> ring = gzoo.tree("gz_rings").questions[0]
    >>> scaled(np.array([[[1.0, 3.0]]]), np.array([np.log(2), 0.0, 0.0, 0.0]), ring, is_fraction=False).round(6)
    array([[[2., 6.]]])
    """
    logs, log_total = _logs(values, question, is_fraction=is_fraction)
    fractions = _moved(logs, parameters, is_multiple=question.multiple)
    alpha = np.maximum(np.exp(log_total + parameters[0]) * fractions, SMALLEST)
    return np.concatenate([alpha[..., 0], alpha[..., 1]], axis=-1) if question.multiple else alpha[..., 0, :]


def _logs(values: FloatArray, question: Question, *, is_fraction: bool) -> tuple[FloatArray, FloatArray]:
    """Return the logs of fractions and of total concentrations, shapes as in `Scaling`."""
    if question.multiple:
        values = np.stack((values, 1 - values) if is_fraction else giving(values), axis=-1)
    else:
        values = values[..., None, :]
    total = values.sum(axis=-1, keepdims=True)
    logs = np.log(np.maximum(values / total, SMALLEST))
    return logs, np.zeros(total.shape) if is_fraction else np.log(total)


def _moved(logs: FloatArray, parameters: FloatArray, *, is_multiple: bool) -> FloatArray:
    """Return the fractions with temperature and biases, same shape."""
    bias = parameters[2:]
    moved = logs * math.exp(-parameters[1])
    if is_multiple:
        moved[..., 0] += bias
    else:
        moved += bias
    weights = np.exp(moved - moved.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
