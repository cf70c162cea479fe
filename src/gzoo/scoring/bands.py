"""Curves with bands, and how the scatter between independent blocks makes them."""

from __future__ import annotations

import math
from typing import TypedDict

import numpy as np
from scipy.special import stdtrit

from gzoo.scoring.intervals import Blocks
from gzoo.trees.tree import FloatArray

LEVELS: FloatArray = np.array([*(np.arange(1, 20) / 20), 0.99])  # of the intervals whose coverage is measured
MIN_BLOCKS = 10  # below, no interval
CONFIDENCE = 0.95
N_SUPREMA = 4000


class Curve(TypedDict):
    """Share of counts that lie in the predicted intervals of each level.

    levels: 0.05 to 0.99.
    covered: What they hold of the counts, randomised; mean over the answers of the question. Equal to the levels
        where predictions hold.
    low, high: Pointwise 95 % interval at each level; null below 10 galaxies or sky cells.
    band_low, band_high: 95 % band that holds the whole curve at once.
    """

    levels: list[float]
    covered: list[float]
    low: list[float | None]
    high: list[float | None]
    band_low: list[float | None]
    band_high: list[float | None]


def coverage_curve(places: FloatArray, blocks: Blocks, rng: np.random.Generator) -> Curve:
    """Share of places at or below each level, with pointwise 95 % intervals and a 95 % band for the whole curve.

    Intervals are Wilson's, with the number of independent counts that the scatter between blocks amounts to; the band
    has the quantile of the largest deviation at any level. Below 50 blocks both follow Student's t.

    Args:
        places: Shape (galaxy, answer).
        blocks: What is independent of what.
        rng: For the quantile of the band.
    """
    levels = LEVELS
    within = np.column_stack([(places <= level).mean(axis=1) for level in levels.tolist()])
    covered = within.mean(axis=0)
    together, _ = covariance(within - covered, blocks)
    low, high = np.full(len(levels), np.nan), np.full(len(levels), np.nan)
    band_low, band_high = low.copy(), high.copy()
    if blocks.n_blocks >= MIN_BLOCKS:
        error = np.sqrt(np.diag(together))
        freedom = blocks.n_blocks - 1
        low, high = wilson(covered, error, t_quantile(freedom), blocks.n_blocks)
        factor = _largest_deviation(together, freedom, rng)
        band_low, band_high = wilson(covered, error, factor, blocks.n_blocks)
    return Curve(
        levels=rounded(levels),
        covered=rounded(covered),
        low=_known(low),
        high=_known(high),
        band_low=_known(band_low),
        band_high=_known(band_high),
    )


def t_quantile(freedom: float) -> float:
    """Half the width of a 95 % interval in standard errors."""
    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2))


def wilson(fraction: FloatArray, error: FloatArray, factor: float, n_least: int) -> tuple[FloatArray, FloatArray]:
    """Interval of shares by Wilson's score, from their standard errors.

    Args:
        share: 0 to 1.
        error: Standard errors; where one is 0, `n_least` independent cases are taken to be behind the share.
        factor: Half the interval's width, in standard errors: 1.96 for 95 %.
        n_least: Number of blocks.
    """
    variance = fraction * (1 - fraction)
    n = np.divide(variance, error**2, out=np.full(len(fraction), float(n_least)), where=error > 0)
    n = np.maximum(n, 1e-9)
    shrink = 1 + factor**2 / n
    middle = (fraction + factor**2 / (2 * n)) / shrink
    half = factor * np.sqrt(variance / n + factor**2 / (4 * n**2)) / shrink
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def covariance(deviations: FloatArray, blocks: Blocks) -> tuple[FloatArray, float]:
    """Covariance of means from the deviations of their cases, shape (galaxy, column); and its inflation by blocks."""
    n = len(deviations)
    alone = deviations.T @ deviations / n**2
    if blocks.kind == "galaxies":
        return alone * (n / max(n - 1, 1)), 1.0
    sums = block_sums(deviations, blocks)
    together = sums.T @ sums / n**2 * (blocks.n_blocks / max(blocks.n_blocks - 1, 1))
    has = np.diag(alone) > 0
    ratio = np.diag(together)[has] / np.diag(alone)[has]
    return together, max(1.0, float(ratio.mean())) if has.any() else 1.0


def block_sums(columns: FloatArray, blocks: Blocks) -> FloatArray:
    """Sums over the galaxies of each block, shape (block, column)."""
    if blocks.kind == "galaxies":
        return columns
    sums = np.zeros((blocks.n_blocks, columns.shape[1]))
    for j, column in enumerate(columns.T):
        sums[:, j] = np.bincount(blocks.labels, column, blocks.n_blocks)
    return sums


def _largest_deviation(together: FloatArray, freedom: int, rng: np.random.Generator) -> float:
    """95 % quantile of the largest of several correlated deviations, each in its own standard error."""
    error = np.sqrt(np.diag(together))
    has = error > 0
    if not has.any():
        return t_quantile(freedom)
    correlation = together[np.ix_(has, has)] / np.outer(error[has], error[has])
    values, vectors = np.linalg.eigh(correlation)
    draws = (rng.standard_normal((N_SUPREMA, len(values))) * np.sqrt(np.maximum(values, 0))) @ vectors.T
    draws /= np.sqrt(rng.chisquare(freedom, (N_SUPREMA, 1)) / freedom)
    return float(np.quantile(np.abs(draws).max(axis=1), CONFIDENCE))


def rounded(values: FloatArray) -> list[float]:
    """Numbers for JSON."""
    return np.round(values, 6).tolist()


def _known(values: FloatArray) -> list[float | None]:
    return [round(value, 6) if math.isfinite(value) else None for value in values.tolist()]
