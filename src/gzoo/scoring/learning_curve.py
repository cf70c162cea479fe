"""Learning curves: how the loss of a model falls with the number of galaxies it is trained on.

The loss is floor + scale * n^-exponent. Trainings scatter around it, because each has its own galaxies and its own
initial weights: the logarithm of what is above the floor has a normal error of the same standard deviation everywhere.
With a known floor, this is a straight line through logarithms, and all intervals are Student's. Otherwise the floor is
uncertain too; the same arithmetic then holds for each possible floor, and these are averaged, weighted by how well each
fits. Losses of votes are not negative, which bounds the floor from below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from gzoo.display import Sheet, Shown
from gzoo.errors import InputError
from gzoo.scoring.intervals import Value
from gzoo.trees.tree import FloatArray

N_DRAWS = 20_000
N_FLOORS, N_EXPONENTS = 240, 240
MIN_EXPONENT, MAX_EXPONENT = 0.01, 3.0
MAX_ERRORS = 1e3  # standard errors between the best exponent and the last that is tried
SMALLEST = 1e-12  # sum of squares, where losses lie on a curve exactly
NEAREST_FLOOR = 1e-4
"""Distance of the highest possible floor to the lowest loss, as a fraction of the range of losses."""
LEVEL = 0.95


@dataclass(frozen=True, repr=False)
class LearningCurve(Shown):
    """Loss as a function of the number of galaxies trained on: floor + scale * n^-exponent.

    Attributes:
        floor: Loss that is left with any number of galaxies, with its interval; the interval of a known floor is null.
        scale: What is above the floor at n = 1, with its interval.
        exponent: Exponent, with its interval.
        scatter: Standard deviation of the logarithm of what is above the floor, between trainings with the same n.
        n_galaxies: Number of galaxies of each training that it was fitted to.
        losses: Loss of each of them.
        level: Probability of all intervals.
    """

    floor: Value
    scale: Value
    exponent: Value
    scatter: float
    n_galaxies: tuple[int, ...]
    losses: tuple[float, ...]
    level: float
    _draws: FloatArray = field(compare=False)  # floor, log scale, exponent and scatter, shape (4, draw)

    def expected(self, n: float) -> Value:
        """Return the loss that is expected of a training on n galaxies, with the interval of the curve."""
        floor, log_scale, exponent, _ = self._draws
        return self._value(floor + np.exp(log_scale - exponent * math.log(n)))

    def training(self, n: float) -> Value:
        """Return the same with a prediction interval: where the loss of one more training on n galaxies will be."""
        floor, log_scale, exponent, scatter = self._draws
        noise = np.random.default_rng(1).standard_normal(len(scatter))
        return self._value(floor + np.exp(log_scale - exponent * math.log(n) + scatter * noise))

    def gain(self, n: float, factor: float = 10.0) -> Value:
        """Return by how much the loss is expected to fall with `factor` times n galaxies, with the curve's interval."""
        _, log_scale, exponent, _ = self._draws
        return self._value(np.exp(log_scale - exponent * math.log(n)) * -np.expm1(-exponent * math.log(factor)))

    def _value(self, draws: FloatArray) -> Value:
        return _value(draws, self.level)

    def to_dict(self) -> dict[str, object]:
        """Return all but the draws."""
        names = ("floor", "scale", "exponent", "scatter", "n_galaxies", "losses", "level")
        found = {name: getattr(self, name) for name in names}
        return {name: list(one) if isinstance(one, tuple) else one for name, one in found.items()}

    def sheet(self) -> Sheet:
        """Return the parameters, and what more galaxies are expected to bring."""
        most = max(self.n_galaxies)
        rows = [
            (
                f"{most * factor:,}",
                *(_text(one) for one in (self.expected(most * factor), self.training(most * factor))),
            )
            for factor in (1, 4, 10)
        ]
        return Sheet(
            f"Learning curve of {len(self.losses)} trainings on {min(self.n_galaxies):,} to {most:,} galaxies",
            {
                "floor": _text(self.floor),
                "scale": _text(self.scale),
                "exponent": _text(self.exponent),
                "scatter between trainings": f"{self.scatter:.1%} of the loss above the floor",
            },
            ("galaxies", "expected loss", "loss of one training"),
            rows,
            f"Loss: floor + scale * galaxies^-exponent. Brackets: {self.level:.0%} intervals.",
        )


def fit_learning_curve(
    n_galaxies: Sequence[int] | npt.NDArray[np.integer],
    losses: Sequence[float] | FloatArray,
    *,
    floor: float | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> LearningCurve:
    """Return the learning curve of some trainings.

    Several trainings for each number of galaxies, each with other galaxies and another seed, show how much trainings
    scatter. A curve is trustworthy a few times beyond the largest number: far beyond, other things limit a model, such
    as the resolution of its images or the size of its encoder.

    Args:
        n_galaxies: Number of galaxies of each training, shape (training,).
        losses: Loss of each on the same galaxies, which it was not trained on, in nats per galaxy; same shape.
        floor: Loss that cannot be undercut, if it is known: of simulated galaxies that of their truth. By default it
            is fitted, between 0 and the lowest loss.
        level: Probability of the intervals.
        seed: Seed of the draws that the intervals are computed from.

    Raises:
        InputError: There are fewer than 4 trainings (5 without a floor) or 2 different numbers of galaxies (3), a
            value is not finite, or a loss is not above the floor.

    >>> n = [100, 100, 400, 400, 1600, 1600]
    >>> curve = fit_learning_curve(n, [3.0, 3.1, 2.5, 2.54, 2.25, 2.26], floor=2.0)
    >>> round(curve.exponent["value"], 2), round(curve.expected(6400)["value"], 2)
    (0.51, 2.13)
    """
    n, y = np.asarray(n_galaxies, np.float64), np.asarray(losses, np.float64)
    _check(n, y, floor, level)
    rng = np.random.default_rng(seed)
    if floor is None:
        # floors below the lowest loss, densely where they are close to it
        reach, lowest = float(np.ptp(y)), float(y.min())
        below = np.geomspace(NEAREST_FLOOR * reach, lowest, N_FLOORS)
        floors, log_prior = lowest - below, np.log(below)  # of a uniform prior, because of the spacing
    else:
        floors, log_prior = np.array([floor]), np.zeros(1)
    draws = _draws(np.log(n), y, floors, log_prior, rng)
    known = Value(value=floor, low=None, high=None)
    return LearningCurve(
        floor=_value(draws[0], level) if floor is None else known,
        scale=_value(np.exp(draws[1]), level),
        exponent=_value(draws[2], level),
        scatter=float(np.median(draws[3])),
        n_galaxies=tuple(int(one) for one in n),
        losses=tuple(y.tolist()),
        level=level,
        _draws=draws,
    )


def _draws(
    x: FloatArray, y: FloatArray, floors: FloatArray, log_prior: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Return draws of floor, log scale, exponent and scatter from their posterior, shape (4, draw).

    For each floor and exponent, the logarithms of what is above the floor have a normal distribution around a line,
    whose height and scatter are integrated analytically (flat prior on the height, 1/scatter on the scatter).
    """
    z = np.log(y[None] - floors[:, None])  # (floor, training)
    centred, xc = z - z.mean(axis=1, keepdims=True), x - x.mean()
    slope = -(centred @ xc) / (xc @ xc)
    least = np.maximum((centred**2).sum(axis=1) - slope**2 * (xc @ xc), SMALLEST)
    # exponents around the best of each floor, densely where they are close to it: the tails are those of Student's t
    error = np.sqrt(least / (len(x) - 2) / (xc @ xc))
    steps = np.linspace(-1, 1, N_EXPONENTS) * math.asinh(MAX_ERRORS)
    exponents = slope[:, None] + error[:, None] * np.sinh(steps)
    spacing = error[:, None] * np.cosh(steps)
    squares = least[:, None] + (exponents - slope[:, None]) ** 2 * (xc @ xc)
    log_weight = -(len(x) - 1) / 2 * np.log(squares) + np.log(spacing) - z.sum(axis=1)[:, None] + log_prior[:, None]
    log_weight[(exponents < MIN_EXPONENT) | (exponents > MAX_EXPONENT)] = -np.inf
    weight = np.exp(log_weight - log_weight.max()).ravel()
    chosen = rng.choice(weight.size, N_DRAWS, p=weight / weight.sum())
    i, j = np.divmod(chosen, exponents.shape[1])
    exponent = exponents[i, j]
    scatter = np.sqrt(squares[i, j] / rng.chisquare(len(x) - 1, N_DRAWS))
    height = z.mean(axis=1)[i] + scatter / math.sqrt(len(x)) * rng.standard_normal(N_DRAWS)
    return np.array([floors[i], height + exponent * x.mean(), exponent, scatter])


def _check(n: FloatArray, y: FloatArray, floor: float | None, level: float) -> None:
    if n.shape != y.shape or n.ndim != 1:
        raise InputError(f"Shapes differ: n_galaxies {n.shape}, losses {y.shape}.", "one loss for each training.")
    if not (np.isfinite(y).all() and np.isfinite(n).all() and (n >= 1).all()):
        raise InputError("A loss or a number of galaxies is not valid.", "finite losses, and at least one galaxy.")
    trainings, numbers = (4, 2) if floor is not None else (5, 3)
    if len(y) < trainings or len(np.unique(n)) < numbers:
        raise InputError(
            f"There are {len(y)} trainings on {len(np.unique(n))} different numbers of galaxies.",
            f"at least {trainings} trainings and {numbers} numbers"
            + ("." if floor is not None else " to fit a floor."),
        )
    lowest = float(y.min())
    if lowest <= (floor if floor is not None else 0.0):
        raise InputError(
            f"A loss is {lowest:g}, which is not above the floor, {floor or 0:g}.",
            "losses above the floor." if floor is not None else "losses above 0, such as those of votes or classes.",
            "Pass the loss of the truth as floor."
            if floor is not None
            else "Pass floor, where losses may be negative.",
        )
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, got {level}.")


def _value(draws: FloatArray, level: float) -> Value:
    low, middle, high = cast("list[float]", np.quantile(draws, [(1 - level) / 2, 0.5, (1 + level) / 2]).tolist())
    return Value(value=middle, low=low, high=high)


def _text(one: Value) -> str:
    value, low, high = one["value"], one["low"], one["high"]
    return f"{value:.4g}" + ("" if low is None or high is None else f" [{low:.4g}, {high:.4g}]")
