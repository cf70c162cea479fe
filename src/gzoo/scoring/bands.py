"""Coverage curves with confidence bands, computed from the scatter between independent blocks of galaxies."""

from __future__ import annotations

import math
from typing import TypedDict

import numpy as np
from scipy.special import stdtrit

from gzoo.scoring.intervals import CAUTION, Blocks, grouped_sums, wilson_interval
from gzoo.trees.tree import FloatArray, IntArray

LEVELS: FloatArray = np.array([*(np.arange(1, 20) / 20), 0.99])  # of the prediction intervals
MIN_BLOCKS = 10  # the fewest blocks for which an interval is given
CONFIDENCE = 0.95
N_SUPREMA = 4000  # draws for the quantile of the largest deviation


class Curve(TypedDict):
    """Coverage of the prediction intervals of each level.

    levels: Nominal levels, 0.05 to 0.99.
    coverage: Fraction of the (randomised) counts inside the intervals, averaged over the answers of the question;
        equal to the levels for a calibrated prediction.
    low, high: Pointwise 95% confidence interval at each level; null below 10 galaxies or sky cells.
    band_low, band_high: 95% confidence band for the whole curve at once.
    """

    levels: list[float]
    coverage: list[float]
    low: list[float | None]
    high: list[float | None]
    band_low: list[float | None]
    band_high: list[float | None]


def coverage_curve(values: FloatArray, blocks: Blocks, rng: np.random.Generator) -> Curve:
    """Return the fraction of values at or below each level, with pointwise 95% intervals and a simultaneous 95% band.

    The intervals are Wilson score intervals, for the number of independent counts that the scatter between blocks
    implies. The band uses the quantile of the largest deviation over all levels. Both follow Student's t with
    `n_blocks` - 1 degrees of freedom.

    Args:
        values: Level of the smallest interval that contains each count, 0 to 1, shape (galaxy, answer).
        blocks: The independent units: galaxies or sky cells.
        rng: Random generator for the quantile of the band.
    """
    within = np.column_stack([(values <= level).mean(axis=1) for level in LEVELS.tolist()])
    coverage = within.mean(axis=0)
    together, _ = covariance(within - coverage, blocks)
    ends = np.full((4, len(LEVELS)), np.nan)
    if blocks.n_blocks >= MIN_BLOCKS:
        error, freedom = np.sqrt(np.diag(together)), blocks.n_blocks - 1
        ends[:2] = wilson(coverage, error, t_quantile(freedom), blocks.n_blocks)
        ends[2:] = wilson(coverage, error, _largest_deviation(together, freedom, rng), blocks.n_blocks)
    low, high, band_low, band_high = (
        [round(end, 6) if math.isfinite(end) else None for end in row] for row in ends.tolist()
    )
    return Curve(
        levels=rounded(LEVELS),
        coverage=rounded(coverage),
        low=low,
        high=high,
        band_low=band_low,
        band_high=band_high,
    )


def subset(blocks: Blocks, rows: IntArray) -> Blocks:
    """Return the blocks of some galaxies, numbered without gaps."""
    kept, labels = np.unique(blocks.labels[rows], return_inverse=True)
    wider = tuple(np.unique(groups[kept], return_inverse=True)[1] for groups in blocks.wider)
    return Blocks(labels, len(kept), blocks.kind, blocks.cell_arcmin, wider)


def t_quantile(freedom: float) -> float:
    """Return half the width of a 95% interval, in standard errors."""
    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2))


def wilson(fraction: FloatArray, error: FloatArray, factor: float, n_blocks: int) -> tuple[FloatArray, FloatArray]:
    """Return the ends of Wilson score intervals of fractions whose standard errors are known.

    Args:
        fraction: Fractions, 0 to 1.
        error: Standard errors. Where one is 0, the fraction counts as based on `n_blocks` independent cases.
        factor: Half the width of the interval, in standard errors: 1.96 for 95%.
        n_blocks: Number of blocks.
    """
    variance = fraction * (1 - fraction)
    n = np.divide(variance, error**2, out=np.full(len(fraction), float(n_blocks)), where=error > 0)
    return wilson_interval(fraction, np.maximum(n, 1e-9), factor)


def covariance(deviations: FloatArray, blocks: Blocks) -> tuple[FloatArray, float]:
    """Return the covariance of column means, and its inflation by the correlation within blocks.

    Of several widths of the blocks, the one with the largest variances counts.

    Args:
        deviations: Deviations from the means, shape (galaxy, column).
        blocks: The independent units.
    """
    n = len(deviations)
    alone = deviations.T @ deviations / n**2
    if blocks.kind == "galaxies":
        return alone * (n / max(n - 1, 1)), 1.0
    sums = blocks.sums(deviations)
    together, most = alone, -1.0
    for groups in (np.arange(blocks.n_blocks), *blocks.wider):
        n_groups = int(groups.max(initial=-1)) + 1
        if n_groups < MIN_BLOCKS and n_groups < blocks.n_blocks:
            continue
        own = sums if n_groups == blocks.n_blocks else grouped_sums(groups, n_groups, sums)
        one = own.T @ own / n**2 * (n_groups / max(n_groups - 1, 1))
        sure = float(np.trace(one)) * (1 - CAUTION / np.sqrt(2 * max(n_groups - 1, 1))) ** 2
        if sure > most:
            together, most = one, sure
    has = np.diag(alone) > 0
    ratio = np.diag(together)[has] / np.diag(alone)[has]
    return together, max(1.0, float(ratio.mean())) if has.any() else 1.0


def _largest_deviation(together: FloatArray, freedom: int, rng: np.random.Generator) -> float:
    """Return the 95% quantile of the largest of several correlated deviations, each in units of its standard error."""
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
    """Return numbers for JSON, rounded to six decimals."""
    return np.round(values, 6).tolist()
