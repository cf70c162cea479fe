"""Scaled predictions: concentrations with a factor, a temperature and a bias of each alternative, and their likelihood.

Recalibration looks for the parameters that make the votes most probable. They are an array (log factor, log
temperature, bias of each alternative), so that all of them may be any real number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from gzoo.scoring.likelihood import log_rising, log_rising_slope, mixed
from gzoo.trees.tree import FloatArray, IntArray

SMALLEST = 1e-9  # fraction, odds or concentration
CERTAIN = 1e6  # a concentration that no votes can distinguish from an infinite one
LEAST_CONCENTRATION = 1e-2  # and one that no votes can distinguish from unanimous votes
N_GRID, N_FOR_GRID = 15, 500  # concentrations tried before the search, on so many galaxies
N_STARTS = 2

Penalty = Callable[[FloatArray], tuple[float, FloatArray]]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Votes for alternatives of which each volunteer chooses one, and predictions to be scaled.

    The alternatives are the answers of a question or, where it allows several, giving and not giving one of them.

    Attributes:
        counts: Vote counts, shape (galaxy, alternative).
        totals: Total votes, at least 1, shape (galaxy,).
        logs: Logarithms of the predicted fractions, shape (member, galaxy, alternative).
        log_total: Logarithms of the total concentrations, shape (member, galaxy, 1); 0 for predicted fractions.
    """

    counts: IntArray
    totals: IntArray
    logs: FloatArray
    log_total: FloatArray

    @classmethod
    def of(cls, counts: IntArray, totals: IntArray, values: FloatArray, *, is_fraction: bool) -> Scaling:
        """Return votes and predictions.

        Args:
            counts: Vote counts, shape (galaxy, alternative).
            totals: Total votes, at least 1, shape (galaxy,).
            values: Concentrations, or fractions that sum to 1, shape (member, galaxy, alternative).
            is_fraction: Whether the values are fractions.
        """
        return cls(counts, totals, *_logs(values, is_fraction=is_fraction))

    def __len__(self) -> int:
        return len(self.totals)

    @property
    def n_parameters(self) -> int:
        """Number of parameters: log factor, log temperature, and the bias of each alternative."""
        return 2 + self.counts.shape[1]

    @property
    def mean_log_total(self) -> float:
        """Mean logarithm of the total concentration."""
        return float(self.log_total.mean())

    def take(self, rows: npt.NDArray[np.integer] | slice) -> Scaling:
        """Return some galaxies."""
        return Scaling(self.counts[rows], self.totals[rows], self.logs[:, rows], self.log_total[:, rows])

    def cost(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the negative log probability of each galaxy's votes, and the gradient of their sum.

        The multinomial coefficient, which does not depend on the parameters, is left out.

        Args:
            parameters: Log factor, log temperature and biases, shape (2 + alternatives,).
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
            weighted = weight[:, None] * by_log
            gradient[0] += weight @ by_scale
            gradient[1] -= (weighted * logs).sum() * math.exp(-parameters[1])
            gradient[2:] += weighted.sum(axis=0)
        return together, gradient

    def _of_member(
        self, logs: FloatArray, log_total: FloatArray, parameters: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the cost and its derivatives by the log factor and by the scaled logs of the fractions."""
        fractions = _moved(logs, parameters)
        counts, totals = self.counts, self.totals[:, None]
        total = np.exp(log_total + parameters[0])
        alpha = np.maximum(total * fractions, SMALLEST)
        cost = log_rising(total, totals)[:, 0] - log_rising(alpha, counts).sum(axis=1)
        slopes = alpha * log_rising_slope(alpha, counts)
        all_slopes = slopes.sum(axis=1, keepdims=True)
        by_scale = (total * log_rising_slope(total, totals) - all_slopes)[:, 0]
        return cost, by_scale, fractions * all_slopes - slopes

    def residuals(self, parameters: FloatArray) -> FloatArray:
        """Return voted minus predicted fractions, shape (galaxy, alternative).

        Args:
            parameters: Log factor, log temperature and biases, shape (2 + alternatives,).
        """
        return self.counts / self.totals[:, None] - _moved(self.logs, parameters).mean(axis=0)

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


def scaled(values: FloatArray, parameters: FloatArray, *, is_fraction: bool) -> FloatArray:
    """Return the scaled concentrations of alternatives, shape (member, galaxy, alternative).

    Args:
        values: Concentrations, or fractions that sum to 1, of this shape.
        parameters: Log factor, log temperature and biases, shape (2 + alternatives,).
        is_fraction: Whether the values are fractions, whose concentration is then the factor.

    >>> scaled(np.array([[[1.0, 3.0]]]), np.array([np.log(2), 0.0, 0.0, 0.0]), is_fraction=False).round(6)
    array([[[2., 6.]]])
    """
    logs, log_total = _logs(values, is_fraction=is_fraction)
    return np.maximum(np.exp(log_total + parameters[0]) * _moved(logs, parameters), SMALLEST)


def _logs(values: FloatArray, *, is_fraction: bool) -> tuple[FloatArray, FloatArray]:
    """Return the logs of fractions and of total concentrations, shapes as in `Scaling`."""
    total = values.sum(axis=-1, keepdims=True)
    logs = np.log(np.maximum(values / total, SMALLEST))
    return logs, np.zeros(total.shape) if is_fraction else np.log(total)


def _moved(logs: FloatArray, parameters: FloatArray) -> FloatArray:
    """Return the fractions with temperature and biases, same shape."""
    moved = logs * math.exp(-parameters[1]) + parameters[2:]
    weights = np.exp(moved - moved.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
