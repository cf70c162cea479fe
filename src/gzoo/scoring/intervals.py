"""Intervals of ratios of sums over galaxies: nearly every score is one.

Galaxies (or, where neighbours may share errors, cells of the sky) are drawn anew with replacement, and each draw tells
how far its ratio is from that of all galaxies, in units of its own standard error. The interval reaches as far to both
sides as 95 % of the draws do, and never less than Student's t with the degrees of freedom that the data have for their
standard error (Satterthwaite's approximation): where a few galaxies make most of an error there are far fewer of them
than galaxies. Percentiles of the draws, and studentised draws alone, cover too seldom (`benchmarks/score_coverage.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
from scipy import sparse, stats

from gzoo.sky import cells, is_position
from gzoo.trees import FloatArray, IntArray

CELL_NSIDE = 64  # cells of 0.9 degrees: wider than a survey's single pictures, whose seeing and depth galaxies share
FEWEST_BLOCKS = 10  # of fewer nothing is said
FEWEST_TO_DRAW = 50  # of fewer an interval rests on Student's t alone
MOST_UNITS = 4096  # beyond which units are drawn in groups, put together at random: of that many sums are normal
N_BOOTSTRAP = 1000

Kind = Literal["galaxies", "sky cells"]


class Value(TypedDict):
    """A number with its 95 % interval; all null where there is nothing to compute it from."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Blocks:
    """What is drawn: galaxies, or cells of the sky.

    Attributes:
        labels: The block of each galaxy, shape (galaxy,).
        n_blocks: How many there are.
        kind: What a block is.
    """

    labels: IntArray
    n_blocks: int
    kind: Kind

    def take(self, rows: IntArray) -> Blocks:
        """Those of some galaxies."""
        found, labels = np.unique(self.labels[rows], return_inverse=True)
        return Blocks(labels.astype(np.int64), len(found), self.kind)

    def sums(self, columns: FloatArray) -> FloatArray:
        """Sums over the galaxies of each block: (galaxy, column) -> (block, column)."""
        if self.kind == "galaxies":
            return columns
        return _sums(self.labels, self.n_blocks, columns)


def blocks(n_galaxies: int, ra: FloatArray | None = None, dec: FloatArray | None = None) -> Blocks:
    """Cells of the sky where all positions are known and there are enough cells, else galaxies.

    Args:
        n_galaxies: How many.
        ra: Right ascension in degrees, shape (galaxy,); NaN where it is not known.
        dec: Declination in degrees.

    >>> blocks(3).kind
    'galaxies'
    >>> blocks(20, np.arange(20) * 15.0, np.zeros(20)).kind
    'sky cells'
    """
    if ra is not None and dec is not None and n_galaxies and is_position(ra, dec).all():
        found, labels = np.unique(cells(ra, dec, CELL_NSIDE), return_inverse=True)
        if len(found) >= FEWEST_BLOCKS:
            return Blocks(labels.astype(np.int64), len(found), "sky cells")
    return Blocks(np.arange(n_galaxies), n_galaxies, "galaxies")


@dataclass(frozen=True, slots=True)
class Intervals:
    """Ratios with their intervals, each of shape (column,); NaN where there is nothing to say.

    Attributes:
        value: The ratios.
        low: Lower ends.
        high: Upper ends.
        standard_error: As the blocks differ.
        n_effective: As many galaxies, each by itself and of equal weight, would tell as much.
        degrees: Of freedom of the standard error.
        method: How each interval was found: "bootstrap", "t" of few blocks, or "" of too few.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    standard_error: FloatArray
    n_effective: FloatArray
    degrees: FloatArray
    method: tuple[str, ...]

    def p_values(self) -> FloatArray:
        """Two-sided probability of a ratio as far from 0, if the true one is 0; by Student's t, far into its tails."""
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.abs(self.value / self.standard_error)
        return 2 * stats.t.sf(t, self.degrees)

    def of(self, column: int) -> Value:
        """One of them, as JSON has it."""
        return Value(value=_number(self.value[column]), low=_number(self.low[column]), high=_number(self.high[column]))


def ratio(
    numerator: FloatArray,
    denominator: FloatArray,
    blocks: Blocks,
    *,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
    level: float = 0.95,
) -> Intervals:
    """sum(numerator) / sum(denominator) of each column, with an interval.

    Args:
        numerator: Shape (galaxy, column).
        denominator: Shape (galaxy, column) or (galaxy, 1), none below 0. Galaxies with 0 take no part: there the
            numerator is 0 too.
        blocks: What is drawn.
        n_bootstrap: How often.
        seed: Of the draws.
        level: Of the interval.

    >>> found = ratio(np.arange(100.0)[:, None], np.ones((100, 1)), blocks(100))
    >>> found.value.round(1), found.low.round(0), found.high.round(0)
    (array([49.5]), array([44.]), array([55.]))
    """
    weight = np.broadcast_to(denominator, numerator.shape)
    total = weight.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = numerator.sum(axis=0) / total
    rest = numerator - np.nan_to_num(value) * weight
    x, w = blocks.sums(rest), blocks.sums(weight) if blocks.kind != "galaxies" else weight
    n = np.count_nonzero(w, axis=0).astype(np.float64)
    m2 = (x**2).sum(axis=0)
    m4 = (x**4).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(n / (n - 1) * m2) / total
        spread = m4 - m2**2 / n
        degrees = np.clip(np.where(spread > 0, 2 * m2**2 / spread, np.inf), 1, np.maximum(n - 1, 1))
        alone = np.sqrt((rest**2).sum(axis=0)) / total
        kish = total**2 / (weight**2).sum(axis=0)
        n_effective = np.where(error > 0, kish * np.minimum((alone / error) ** 2 * n / (n - 1), 1), kish)
    reach = stats.t.ppf(0.5 + level / 2, degrees)
    is_drawn = n >= FEWEST_TO_DRAW
    if is_drawn.any() and n_bootstrap:
        drawn = _reach(x[:, is_drawn], w[:, is_drawn], n_bootstrap, seed, level)
        reach[is_drawn] = np.maximum(reach[is_drawn], drawn)
    enough = n >= FEWEST_BLOCKS
    error = np.where(enough, error, np.nan)
    half = reach * error
    method = tuple(("bootstrap" if one else "t") * bool(ok) for one, ok in zip(is_drawn, enough, strict=True))
    return Intervals(value, value - half, value + half, error, n_effective, degrees, method)


def _reach(x: FloatArray, w: FloatArray, n_bootstrap: int, seed: int, level: float) -> FloatArray:
    """How far the draws are from the ratio, in their own standard errors: the quantile of that at the level.

    Args:
        x: Numerators less ratio times denominators, shape (unit, column).
        w: Denominators, same shape.
        n_bootstrap: Draws.
        seed: Of the draws.
        level: Of the quantile.
    """
    rng = np.random.default_rng(seed)
    if len(x) > MOST_UNITS:
        group = rng.permutation(len(x)) % MOST_UNITS
        x, w = _sums(group, MOST_UNITS, x), _sums(group, MOST_UNITS, w)
    n, n_columns = x.shape
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap).astype(np.float32)
    flat = np.concatenate([x, w, x * x, x * w, w * w], axis=1)
    scale = np.abs(flat).max(axis=0)
    scale[scale == 0] = 1
    sums = (drawn @ (flat / scale).astype(np.float32)).astype(np.float64) * scale
    sx, sw, sxx, sxw, sww = (sums[:, i * n_columns : (i + 1) * n_columns] for i in range(5))
    with np.errstate(invalid="ignore", divide="ignore"):
        off = sx / sw
        error = np.sqrt(np.maximum(sxx - 2 * off * sxw + off**2 * sww, 0)) / sw
        far = np.abs(off / error)
    far[~np.isfinite(far)] = 0
    return np.quantile(far, level, axis=0)


def _sums(labels: IntArray, n: int, columns: FloatArray) -> FloatArray:
    """Sums of rows with the same label: (row, column) -> (label, column)."""
    gather = sparse.csr_array((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=(n, len(labels)))
    return np.asarray(gather @ columns)


def _number(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
