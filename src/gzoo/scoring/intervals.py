"""Intervals: how far a score may be off because other galaxies, or another part of the sky, could have been looked at.

Nearly every score is a ratio of two sums over galaxies, so one function gives the intervals of all of them, many
columns at once.

**The interval.** With residuals (numerator - ratio x denominator) of galaxies, the error of a ratio divided by its own
standard error is a t-statistic. Errors of vote fractions are skewed, and then neither percentiles of drawn ratios nor
those of drawn t cover 95 %. So t is first freed from skewness by Hall's increasing cubic (1992, J. R. Stat. Soc. B 54,
221), with the term that a ratio adds; the bootstrap says how far the outcome reaches, and the interval is transformed
back. With fewer than 400 galaxies each end is that one or Student's t, whichever is farther out: so few show too little
of a long tail. With fewer than 50 nothing is drawn: Student's t says how far, with as many degrees of freedom as data
and weights leave.
`benchmarks/score_coverage.py` measures what it covers.

**What is drawn.** Galaxies; or cells of the sky where positions are known, for neighbours share the night, the depth
and the seeing, and so their errors. Of more than `MAX_UNITS`, groups put together at random are drawn: their sums have
the mean, variance and third moment that sums of as many single ones have.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from gzoo.errors import InputError
from gzoo.sky import cells, is_position
from gzoo.trees.tree import FloatArray, IntArray

FEWEST_BLOCKS = 10  # of fewer nothing is said
FEWEST_TO_DRAW = 50  # of fewer none are drawn: Student's t says how far
FEWEST_TO_TRUST = 400  # of fewer an interval is nowhere narrower than Student's t
MAX_UNITS = 4096
COARSEST, FINEST = 32, 1024  # HEALPix nside of the cells of the sky: 1.8 degrees to 3.4 arcmin
ENOUGH_CELLS = 200  # the coarsest cells are taken that leave so many: the wider, the more of shared errors they hold
N_BOOTSTRAP = 1000
COLUMNS_AT_ONCE = 128

Kind = Literal["galaxies", "sky cells"]


class Value(TypedDict):
    """A number with its 95 % interval: all null where there is nothing to compute, the ends of too few galaxies."""

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
        cell_arcmin: How wide the cells are; 0 of galaxies.
    """

    labels: IntArray
    n_blocks: int
    kind: Kind
    cell_arcmin: float = 0.0

    def sums(self, columns: FloatArray) -> FloatArray:
        """Sums over the galaxies of each block: (galaxy, column) -> (block, column)."""
        return columns if self.kind == "galaxies" else _sums(self.labels, self.n_blocks, columns)


def blocks(n_galaxies: int, ra: npt.ArrayLike | None = None, dec: npt.ArrayLike | None = None) -> Blocks:
    """Cells of the sky where most positions are known, else galaxies.

    Cells are as wide as leaves 200 of them (if they were equally full), between 3.4 arcmin and 1.8 degrees. A galaxy
    without a position is a block of its own. Errors that whole fields share are not seen where there are few fields.

    Args:
        n_galaxies: How many.
        ra: Right ascension in degrees, shape (galaxy,); NaN where it is not known.
        dec: Declination in degrees.

    >>> blocks(3).kind
    'galaxies'
    >>> blocks(20, np.arange(20) * 15.0, np.zeros(20)).kind
    'sky cells'
    """
    by_galaxy = Blocks(np.arange(n_galaxies), n_galaxies, "galaxies")
    if ra is None or dec is None or not n_galaxies:
        return by_galaxy
    longitude, latitude = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    known = is_position(longitude, latitude)
    if known.mean() <= 0.5:
        return by_galaxy
    nside, n_cells = COARSEST, 0
    while True:
        own = cells(longitude[known], latitude[known], nside)
        _, found, sizes = np.unique(own, return_inverse=True, return_counts=True)
        n_cells = len(sizes)
        if nside == FINEST or sizes.sum() ** 2 / float(sizes @ sizes) >= ENOUGH_CELLS:
            break
        nside *= 2
    labels = np.empty(n_galaxies, np.int64)
    n_alone = int((~known).sum())
    labels[known], labels[~known] = found, n_cells + np.arange(n_alone)
    return Blocks(labels, n_cells + n_alone, "sky cells", float(np.degrees(np.sqrt(np.pi / 3)) / nside * 60))


@dataclass(frozen=True, slots=True)
class Intervals:
    """Ratios with their intervals, each of shape (column,); NaN where there is nothing to say.

    Attributes:
        value: The ratios.
        low: Lower ends.
        high: Upper ends.
        standard_error: As the blocks differ.
        n_effective: As many galaxies, each by itself and of equal weight, would tell as much.
        n_blocks: That take part.
        degrees: Of freedom that the data have for the standard error (Satterthwaite 1946): few where a few blocks make
            most of it.
        method: How each interval was found: "bootstrap"; "t" of few blocks; "" of too few.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    standard_error: FloatArray
    n_effective: FloatArray
    n_blocks: FloatArray
    degrees: FloatArray
    method: tuple[str, ...]

    def p_values(self) -> FloatArray:
        """Two-sided probability of a ratio as far from 0, if the true one is 0, good far into the tails.

        The error is that around 0, as the null hypothesis has it (a score test), and Student's t has as many degrees
        of freedom as the kurtosis leaves, so that long tails do not look like differences.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.abs(self.value / self.standard_error)
            return 2 * stats.t.sf(t / np.sqrt(1 + t**2 / (self.n_blocks - 1)), self.degrees)

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
        n_bootstrap: How often; 0 for Student's t.
        seed: Of the draws.
        level: Of the interval.

    Raises:
        InputError: Shapes that do not fit.

    >>> found = ratio(np.arange(100.0)[:, None], np.ones((100, 1)), blocks(100))
    >>> found.value.round(1), found.low.round(0), found.high.round(0)
    (array([49.5]), array([44.]), array([55.]))
    """
    n_galaxies = len(blocks.labels)
    if (
        numerator.ndim != 2
        or len(numerator) != n_galaxies
        or denominator.shape not in (numerator.shape, (n_galaxies, 1))
    ):
        raise InputError(
            f"Numerators of shape {numerator.shape}, denominators of shape {denominator.shape}, {n_galaxies} galaxies.",
            "(galaxy, column) over the same, or over (galaxy, 1).",
            "Give a row a galaxy.",
        )
    weight = np.broadcast_to(denominator, numerator.shape)
    total = weight.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = numerator.sum(axis=0) / total
    rest = numerator - np.where(np.isfinite(value), value, 0) * weight
    x, w = blocks.sums(rest), blocks.sums(weight)
    n = np.count_nonzero(w, axis=0).astype(np.float64)
    square = x * x
    m2, m4 = square.sum(axis=0), np.einsum("ij,ij->j", square, square)
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = np.sqrt(m2) / total
        error = np.sqrt(n / (n - 1)) * plain
        spread = n * m4 - m2**2
        degrees = np.clip(np.where(spread > 0, 2 * n * m2**2 / spread, np.inf), 1, np.maximum(n - 1, 1))
        kish, kish_of_blocks = (total**2 / np.einsum("ij,ij->j", each, each) for each in (weight, w))
        design = np.einsum("ij,ij->j", rest, rest) / m2  # below 1 where neighbours share errors
        n_effective = np.where((m2 > 0) & (blocks.kind == "sky cells"), kish * np.minimum(design, 1), kish)
        by_weight = np.maximum(kish_of_blocks - 1, 1)
        freedom = np.where(kish_of_blocks > FEWEST_TO_DRAW - 0.5, by_weight, np.minimum(by_weight, degrees))
        proportion_asked = stats.t.ppf(0.5 + level / 2, freedom)
        below, above = proportion_asked * error, proportion_asked * error
    enough = n >= FEWEST_BLOCKS
    error = np.where(enough, error, np.nan)
    is_drawn = enough & (kish_of_blocks > FEWEST_TO_DRAW - 0.5) & np.isfinite(x).all(axis=0) & (n_bootstrap > 0)
    differ = np.flatnonzero(enough & np.isfinite(m2) & (m2 > 0))
    for some in np.array_split(differ, max(1, -(-len(differ) // COLUMNS_AT_ONCE))):
        u, v = x[:, some] / np.sqrt(m2[some]), w[:, some] / total[some]
        is_ours = is_drawn[some]
        if is_ours.any():
            proportion_asked[some[is_ours]] = _proportion_asked(u[:, is_ours], v[:, is_ours], n_bootstrap, seed, level)
        ends = [each * plain[some] for each in _unbent(proportion_asked[some], *_skewness_of(u, v))]
        is_trusted = kish_of_blocks[some] >= FEWEST_TO_TRUST
        for wide, own in zip((below, above), ends, strict=True):
            wide[some] = np.where(is_trusted & np.isfinite(own), own, np.fmax(wide[some], own))
    with np.errstate(invalid="ignore"):  # an infinite ratio has no ends
        low, high = value - below, value + above
    low[~enough], high[~enough] = np.nan, np.nan
    method = tuple(("bootstrap" if one else "t") * bool(ok) for one, ok in zip(is_drawn, enough, strict=True))
    return Intervals(value, low, high, error, n_effective, n, degrees, method)


def holm(p: npt.ArrayLike) -> FloatArray:
    """Probabilities corrected for having looked at all of them (Holm 1979); NaN stays NaN, and does not count.

    Calling what is below 5 % makes a false call at all in at most 5 % of cases, however they depend on each other.

    >>> holm([0.01, 0.04, float("nan"), 0.03]).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    given = np.asarray(p, dtype=np.float64)
    out = np.full(given.shape, np.nan)
    known = np.flatnonzero(np.isfinite(given))
    order = known[np.argsort(given[known], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return out


# ----------------------------------------------------------------------------------------------------
# Hall's transformation, calibrated by draws


def _proportion_asked(u: FloatArray, v: FloatArray, n_bootstrap: int, seed: int, level: float) -> FloatArray:
    """How far transformed t goes to both sides of 0: its quantile over the draws; infinite where draws are all alike.

    Args:
        u: Numerators less ratio times denominators, shape (unit, column); their sums are 0, those of their squares 1.
        v: Denominators, same shape; their sums are 1.
        n_bootstrap: Draws.
        seed: Of the draws.
        level: Of the interval.
    """
    if len(u) > MAX_UNITS:
        group = np.random.default_rng(seed).permutation(len(u)) % MAX_UNITS
        u, v = _sums(group, MAX_UNITS, u), _sums(group, MAX_UNITS, v)
    uu, uv, vv = u * u, u * v, v * v
    powers = np.concatenate([u, v, uu, uv, vv, u * uu, u * uv, u * vv, v * vv], axis=1)  # u**3 is many times slower
    scale = np.abs(powers).max(axis=0)
    scale[scale == 0] = 1
    times = _draws(len(u), n_bootstrap, seed)
    sums = (times @ (powers / scale).astype(np.float32)).astype(np.float64) * scale
    su, sv, suu, suv, svv, suuu, suuv, suvv, svvv = np.split(sums, 9, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = su / sv  # residuals of a draw are about the ratio of that draw
        square = np.maximum(suu - 2 * off * suv + off**2 * svv, 0)
        cube = suuu - 3 * off * suuv + 3 * off**2 * suvv - off**3 * svvv
        t = su / np.sqrt(square)
        bend, shift = _skewness(np.sqrt(square), cube, suv - off * svv, sv)
        far = np.abs(t + bend * t**2 + bend**2 / 3 * t**3 + shift)
    far[~np.isfinite(far)] = np.inf  # a draw without any of the galaxies that differ
    return np.quantile(far, level, axis=0, method="lower")


def _skewness_of(u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bend and shift of the ratios themselves, from residuals and weights as in `_proportion_asked`."""
    ones = np.ones(u.shape[1])
    return _skewness(ones, np.einsum("ij,ij->j", u * u, u), np.einsum("ij,ij->j", u, v), ones)


def _skewness(
    root: FloatArray, cube: FloatArray, product: FloatArray, total: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """How t is bent and shifted: by the skewness of residuals, and by what they share with the denominators.

    Args:
        root: Of the sum of their squares.
        cube: Sum of their cubes.
        product: Sum of residuals times denominators.
        total: Sum of the denominators.
    """
    skewness = cube / root**3
    return skewness / 3 - product / (root * total), skewness / 6


def _unbent(proportion_asked: FloatArray, bend: FloatArray, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How far t goes below and above 0 where its transform, t + bend t^2 + bend^2 t^3 / 3 + shift, goes so far."""
    some = np.where(np.abs(bend) < 1e-6, 1e-6, bend)
    with np.errstate(invalid="ignore"):
        most, least = (
            (np.cbrt(1 + 3 * some * (end - shift)) - 1) / some for end in (proportion_asked, -proportion_asked)
        )
        return np.where(np.isfinite(most), most, np.nan), np.where(np.isfinite(least), -least, np.nan)


@lru_cache(maxsize=2)
def _draws(n: int, n_bootstrap: int, seed: int) -> npt.NDArray[np.float32]:
    """How often each unit is in each draw with replacement, shape (draw, unit); kept, for many scores want the same."""
    rng = np.random.default_rng(seed)
    times = np.empty((n_bootstrap, n), np.float32)
    for one in times:
        one[:] = np.bincount(rng.integers(0, n, n), minlength=n)
    times.flags.writeable = False
    return times


def _sums(labels: IntArray, n: int, columns: FloatArray) -> FloatArray:
    """Sums of rows with the same label: (row, column) -> (label, column)."""
    gather = sparse.csr_array((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=(n, len(labels)))
    return np.asarray(gather @ columns)


def _number(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
