"""Intervals of ratios of sums over galaxies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
from scipy import stats

from gzoo.trees import FloatArray, IntArray


class Value(TypedDict):
    """A number with its 95 % interval; all null where there is nothing to compute it from."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Blocks:
    """What is resampled: galaxies, or cells of the sky.

    Attributes:
        labels: Number of its block for each galaxy, shape (galaxy,).
        n_blocks: How many there are.
        kind: What a block is.
    """

    labels: IntArray
    n_blocks: int
    kind: Literal["galaxies", "sky cells"]


def blocks(n_galaxies: int, ra: FloatArray | None = None, dec: FloatArray | None = None) -> Blocks:
    """Each galaxy by itself."""
    return Blocks(np.arange(n_galaxies), n_galaxies, "galaxies")


@dataclass(frozen=True, slots=True)
class Intervals:
    """Ratios with their 95 % intervals, each of shape (column,); NaN where there is nothing."""

    value: FloatArray
    low: FloatArray
    high: FloatArray
    standard_error: FloatArray
    n_effective: FloatArray
    method: str

    def p_values(self) -> FloatArray:
        """Two-sided probability of so large a value if the true one is 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.abs(self.value / self.standard_error)
        return 2 * stats.t.sf(t, np.maximum(self.n_effective - 1, 1))


def ratio(
    numerator: FloatArray,
    denominator: FloatArray,
    blocks: Blocks,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Intervals:
    """sum(numerator) / sum(denominator) of each column, with an interval from its linearised error."""
    weight = np.broadcast_to(denominator, numerator.shape)
    if blocks.kind != "galaxies":
        sums = np.zeros((2, blocks.n_blocks, numerator.shape[1]))
        np.add.at(sums[0], blocks.labels, numerator)
        np.add.at(sums[1], blocks.labels, weight)
        numerator, weight = sums[0], sums[1]
    total = weight.sum(axis=0)
    n = (weight != 0).sum(axis=0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = numerator.sum(axis=0) / total
        rest = numerator - value * weight
        error = np.sqrt(n / (n - 1) * (rest**2).sum(axis=0)) / total
    half = stats.t.ppf(0.5 + level / 2, np.maximum(n - 1, 1)) * error
    return Intervals(value, value - half, value + half, error, n, "linearised")
