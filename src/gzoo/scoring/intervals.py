"""Confidence intervals of scores: the uncertainty that comes from the choice of galaxies, or of sky areas.

Nearly every score is a ratio of two sums over galaxies, so one function computes the intervals of all of them, many
columns at once.

**The interval.** With the residuals (numerator - ratio x denominator) of the galaxies, the error of a ratio divided by
its standard error is a t-statistic. Errors of vote fractions are skewed, and then neither the percentiles of bootstrap
ratios nor those of bootstrap t-statistics cover 95%. Therefore the skewness of t is removed first, by Hall's monotone
cubic transformation (1992, J. R. Stat. Soc. B 54, 221) with the term that a ratio adds; the bootstrap gives a quantile
of the result, which is transformed back. With fewer than 400 galaxies each end is the wider of that one and Student's
t, because small samples show too little of a long tail. With fewer than 50 the interval is
Student's t itself, with as many degrees of freedom as the data and the weights leave.
`benchmarks/score_coverage.py` measures the coverage.

**The resampling units.** Galaxies, or sky cells where positions are known: neighbours share the night, the depth and
the seeing, and therefore errors. How widely they share them is not known beforehand. Therefore standard errors are
compared over cells of increasing width and over separate fields, and each score is resampled in those with the largest
(reduced by half of its own standard deviation, because the largest of several is partly chance), with Student's t for
few of them. `benchmarks/sky_coverage.py` measures the coverage. More than `MAX_UNITS` units are merged at random into
`MAX_UNITS` groups, whose sums have the same mean, variance and third moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypedDict

import hpgeom
import numpy as np
import numpy.typing as npt
from scipy import sparse, stats
from scipy.sparse import csgraph
from scipy.spatial import KDTree

from gzoo.errors import InputError
from gzoo.sky import cells, is_position
from gzoo.trees.tree import FloatArray, IntArray

MIN_BLOCKS = 10  # with fewer the interval is null
MIN_WIDE = 5  # the fewest wider cells that show how much errors are shared
CAUTION = 0.5  # standard deviations by which a standard error must be larger to count
GAPS = (1.0, 3.0)  # degrees between fields that are separate
MIN_BOOTSTRAP = 50  # with fewer the interval is Student's t
MIN_NARROW = 400  # with fewer the interval is nowhere narrower than Student's t
MAX_UNITS = 4096
COARSEST, FINEST = 32, 1024  # HEALPix nside of the cells: 1.8 degrees to 3.4 arcmin
ENOUGH_CELLS = (
    200  # the coarsest cells that leave so many are used, because wide cells contain more of the shared errors
)
N_BOOTSTRAP = 1000
LEVEL = 0.95
COLUMNS_AT_ONCE = 128

Kind = Literal["galaxies", "sky cells"]
Numbers = float | npt.NDArray[np.floating]


class Value(TypedDict):
    """A number with its 95% confidence interval.

    All three are null without data, and the ends also with too few galaxies.
    """

    value: float | None
    low: float | None
    high: float | None


class Bootstrap(TypedDict):
    """What the intervals resample.

    unit: "galaxies" or "sky cells".
    n_units: Number of them.
    cell_arcmin: Width of a sky cell; 0 for galaxies.
    """

    unit: Kind
    n_units: int
    cell_arcmin: float


@dataclass(frozen=True, slots=True)
class Blocks:
    """Units that the bootstrap resamples: galaxies, or sky cells.

    Attributes:
        labels: Block of each galaxy, shape (galaxy,).
        n_blocks: Number of blocks.
        kind: What a block is.
        cell_arcmin: Width of the cells; 0 for galaxies.
        wider: For each set of wider cells, and last for separate fields, the cell of each block, shape (block,).
    """

    labels: IntArray
    n_blocks: int
    kind: Kind
    cell_arcmin: float = 0.0
    wider: tuple[IntArray, ...] = ()

    def sums(self, columns: FloatArray) -> FloatArray:
        """Return the sums over the galaxies of each block: (galaxy, column) -> (block, column)."""
        return columns if self.kind == "galaxies" else grouped_sums(self.labels, self.n_blocks, columns)

    def take(self, rows: IntArray) -> Blocks:
        """Return the blocks of some galaxies; cells keep their number, because empty ones do not matter."""
        if self.kind == "galaxies":
            return Blocks(np.arange(len(rows)), len(rows), "galaxies")
        return Blocks(self.labels[rows], self.n_blocks, self.kind, self.cell_arcmin, self.wider)

    def to_dict(self) -> Bootstrap:
        """Return the `bootstrap` part of the JSON output."""
        return Bootstrap(unit=self.kind, n_units=self.n_blocks, cell_arcmin=self.cell_arcmin)


def blocks(n_galaxies: int, ra: npt.ArrayLike | None = None, dec: npt.ArrayLike | None = None) -> Blocks:
    """Return sky cells if most positions are known, otherwise galaxies.

    The cells are the widest ones, between 3.4 arcmin and 1.8 degrees, of which about 200 are left (counted as if they
    were equally full). A galaxy without a position is a block of its own. Errors may be shared more widely, by a field
    or a season; therefore the blocks also know wider cells, of which at least 5 are left, and the separate fields that
    occupied cells form. The largest standard error of all widths counts (see `ratio`).

    Args:
        n_galaxies: Number of galaxies.
        ra: Right ascension in degrees, shape (galaxy,); NaN where unknown.
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
    nside = COARSEST
    while True:
        numbers, found, sizes = np.unique(
            cells(longitude[known], latitude[known], nside), return_inverse=True, return_counts=True
        )
        if nside == FINEST or sizes.sum() ** 2 / float(sizes @ sizes) >= ENOUGH_CELLS:
            break
        nside *= 2
    labels = np.empty(n_galaxies, np.int64)
    n_cells, n_alone = len(sizes), int((~known).sum())
    labels[known], labels[~known] = found, n_cells + np.arange(n_alone)
    wider: list[IntArray] = []
    for groups in (*_wider_cells(numbers, nside), *_fields(numbers, nside)):
        own = np.bincount(groups, weights=sizes)
        if len(own) < n_cells and own.sum() ** 2 / float(own @ own) >= MIN_WIDE:
            wider.append(np.concatenate([groups, len(own) + np.arange(n_alone)]))
    width = float(np.degrees(np.sqrt(np.pi / 3)) / nside * 60)
    return Blocks(labels, n_cells + n_alone, "sky cells", width, tuple(wider))


def _wider_cells(numbers: IntArray, nside: int) -> Iterator[IntArray]:
    """Yield the cell of each cell, for cells of twice the width, four times the width and so on."""
    while nside > 1:
        nside, numbers = nside // 2, numbers >> 2  # nested numbering
        yield np.unique(numbers, return_inverse=True)[1]


def _fields(numbers: IntArray, nside: int) -> Iterator[IntArray]:
    """Yield the field of each cell: cells belong to one field if a chain of short gaps connects them."""
    places = np.stack(hpgeom.pixel_to_vector(nside, numbers), axis=-1)
    tree = KDTree(places)
    width = np.sqrt(np.pi / 3) / nside
    for gap in GAPS:
        near = tree.query_pairs(max(2 * width, np.radians(gap)), output_type="ndarray")
        linked = sparse.csr_array((np.ones(len(near)), (near[:, 0], near[:, 1])), shape=(len(numbers),) * 2)
        yield csgraph.connected_components(linked, directed=False)[1].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Intervals:
    """Ratios with confidence intervals, each array of shape (column,); NaN where the data are too few.

    Attributes:
        value: Ratios.
        low: Lower ends.
        high: Upper ends.
        standard_error: Standard errors, from the scatter of the blocks.
        n_effective: Number of independent galaxies of equal weight that would give the same precision.
        n_blocks: Number of blocks with data.
        degrees: Degrees of freedom of the standard error (Satterthwaite 1946): few if it comes from a few blocks.
        method: Method of each interval: "bootstrap"; "t" (Student's t) for few blocks; "" for too few.
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
        """Return the two-sided p-values of the hypothesis that the true ratio is 0; accurate far into the tails.

        The standard error is the one around 0, as the null hypothesis requires (a score test). Student's t has the
        degrees of freedom that the kurtosis leaves, so that long tails do not look like differences.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.abs(self.value / self.standard_error)
            return 2 * stats.t.sf(t / np.sqrt(1 + t**2 / (self.n_blocks - 1)), self.degrees)

    def of(self, column: int) -> Value:
        """Return one column for the JSON output."""
        return as_value(self.value[column], self.low[column], self.high[column])


def ratio(
    numerator: FloatArray,
    denominator: FloatArray,
    blocks: Blocks,
    *,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
    level: float = LEVEL,
    min_blocks: int = MIN_BLOCKS,
) -> Intervals:
    """Return sum(numerator) / sum(denominator) of each column, with a confidence interval.

    Args:
        numerator: Numerators, shape (galaxy, column).
        denominator: Denominators, shape (galaxy, column) or (galaxy, 1), 0 or more. A galaxy with 0 is ignored, and
            its numerator must be 0.
        blocks: Resampling units.
        n_bootstrap: Number of bootstrap samples; 0 for Student's t.
        seed: Seed of the bootstrap.
        level: Confidence level.
        min_blocks: The fewest blocks for an interval.

    Raises:
        InputError: The shapes differ.

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
            f"Shapes differ: numerator {numerator.shape}, denominator {denominator.shape}, {n_galaxies} galaxies.",
            "numerators (galaxy, column) and denominators of the same shape or (galaxy, 1).",
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
        design = np.einsum("ij,ij->j", rest, rest) / m2  # below 1 if neighbours share errors
        n_effective = np.where((m2 > 0) & (blocks.kind == "sky cells"), kish * np.minimum(design, 1), kish)
        by_weight = np.maximum(kish_of_blocks - 1, 1)
        freedom = np.where(kish_of_blocks > MIN_BOOTSTRAP - 0.5, by_weight, np.minimum(by_weight, degrees))
        limit = stats.t.ppf(0.5 + level / 2, freedom)
        below, above = limit * error, limit * error
    enough = n >= min_blocks
    error = np.where(enough, error, np.nan)
    is_drawn = enough & (kish_of_blocks > MIN_BOOTSTRAP - 0.5) & np.isfinite(x).all(axis=0) & (n_bootstrap > 0)
    differ = np.flatnonzero(enough & np.isfinite(m2) & (m2 > 0))
    for some in np.array_split(differ, max(1, -(-len(differ) // COLUMNS_AT_ONCE))):
        u, v = x[:, some] / np.sqrt(m2[some]), w[:, some] / total[some]
        is_ours = is_drawn[some]
        if is_ours.any():
            limit[some[is_ours]] = _limit(u[:, is_ours], v[:, is_ours], n_bootstrap, seed, level)
        ends = [each * plain[some] for each in _transformed_back(limit[some], *_skewness_of(u, v))]
        is_trusted = kish_of_blocks[some] >= MIN_NARROW
        for wide, own in zip((below, above), ends, strict=True):
            wide[some] = np.where(is_trusted & np.isfinite(own), own, np.fmax(wide[some], own))
    with np.errstate(invalid="ignore"):  # the ends of an infinite ratio are undefined
        low, high = value - below, value + above
    low[~enough], high[~enough] = np.nan, np.nan
    method = tuple(("bootstrap" if one else "t") * bool(ok) for one, ok in zip(is_drawn, enough, strict=True))
    found = Intervals(value, low, high, error, n_effective, n, degrees, method)
    if not blocks.wider:
        return found
    return _widened(found, x, w, blocks, n_bootstrap=n_bootstrap, seed=seed, level=level)


def errors_by_width(x: FloatArray, w: FloatArray, blocks: Blocks) -> tuple[FloatArray, FloatArray]:
    """Return the standard error of ratios at each width, and the number of blocks; NaN where too few cells are left.

    Both have the shape (width, column).

    Args:
        x: Numerators minus ratio times denominators, summed over each block, shape (block, column).
        w: Denominators, same shape.
        blocks: Resampling units.
    """
    out, counts = np.full((2, 1 + len(blocks.wider), x.shape[1]), np.nan)
    for i in range(len(out)):
        groups = np.arange(blocks.n_blocks) if i == 0 else blocks.wider[i - 1]
        n_groups = int(groups.max(initial=-1)) + 1
        own, weight = (x, w) if i == 0 else (grouped_sums(groups, n_groups, one) for one in (x, w))
        n, total = np.count_nonzero(weight, axis=0), weight.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            is_enough = (total**2 / np.einsum("ij,ij->j", weight, weight) >= MIN_WIDE) | (i == 0)
            error = np.sqrt(n / (n - 1) * np.einsum("ij,ij->j", own, own)) / total
        out[i], counts[i] = np.where(is_enough, error, np.nan), n
    return out, counts


def _widened(
    found: Intervals, x: FloatArray, w: FloatArray, blocks: Blocks, *, n_bootstrap: int, seed: int, level: float
) -> Intervals:
    """Return the intervals at the width at which the standard error of each column is largest."""
    errors, n = errors_by_width(x, w, blocks)
    # the largest of several errors is partly chance, above all of those that come from few blocks
    with np.errstate(invalid="ignore", divide="ignore"):
        sure = errors * (1 - CAUTION / np.sqrt(2 * (n - 1)))
    widest = np.argmax(np.where(np.isfinite(sure), sure, -1.0), axis=0)
    widest[~np.isfinite(found.low)] = 0  # null for too few blocks
    changed = {name: getattr(found, name).copy() for name in ("low", "high", "standard_error", "n_blocks", "degrees")}
    n_effective, method = found.n_effective.copy(), list(found.method)
    for i in np.unique(widest[widest > 0]).tolist():
        some = np.flatnonzero(widest == i)
        groups = blocks.wider[i - 1]
        units = Blocks(groups, int(groups.max()) + 1, "sky cells")
        # residuals have the ratio 0, around which the interval is that of the ratio
        own = ratio(x[:, some], w[:, some], units, n_bootstrap=n_bootstrap, seed=seed, level=level, min_blocks=MIN_WIDE)
        for name, values in changed.items():
            shift = found.value[some] if name in ("low", "high") else 0.0
            values[some] = getattr(own, name) + shift
        n_effective[some] *= np.minimum((errors[0, some] / errors[i, some]) ** 2, 1.0)
        for column, how in zip(some.tolist(), own.method, strict=True):
            method[column] = how
    return replace(found, **changed, n_effective=n_effective, method=tuple(method))


def growth(numerator: FloatArray, denominator: FloatArray, blocks: Blocks) -> tuple[int, float] | None:
    """Return how few wide cells the standard error of a ratio still grows up to, and by which factor.

    None if it does not grow beyond what chance explains in one of 20 cases. Otherwise errors are shared as widely as
    the galaxies reach, and no interval knows how different another part of the sky would be.

    Args:
        numerator: Numerators, shape (galaxy,).
        denominator: Denominators, shape (galaxy,).
        blocks: Resampling units.

    >>> rng = np.random.default_rng(0)
    >>> ra, dec = rng.uniform(0, 360, 2000), np.degrees(np.arcsin(rng.uniform(-1, 1, 2000)))
    >>> growth(np.cos(np.radians(ra)), np.ones(2000), blocks(2000, ra, dec)) is None
    False
    >>> growth(rng.normal(size=2000), np.ones(2000), blocks(2000, ra, dec)) is None
    True
    """
    if not blocks.wider or not denominator.sum() > 0 or not np.isfinite(numerator).all():
        return None
    rest = numerator - numerator.sum() / denominator.sum() * denominator
    each = errors_by_width(blocks.sums(rest[:, None]), blocks.sums(denominator[:, None]), blocks)
    error, n = (one[:, 0] for one in each)
    known = np.flatnonzero(np.isfinite(error) & (error > 0))
    if not len(known):
        return None
    widest = known[np.lexsort((-error[known], n[known]))[0]]
    others = known[n[known] >= 4 * n[widest]]
    if not len(others):
        return None
    factor = float(error[widest] / error[others].max())
    limit = 1 + stats.norm.ppf(LEVEL) / np.sqrt(2 * (n[widest] - 1))
    return (int(n[widest]), factor) if factor > limit else None


def holm(p: npt.ArrayLike, weights: npt.ArrayLike = 1.0) -> FloatArray:
    """Return p-values adjusted for multiple tests (Holm 1979); NaN stays NaN and is not counted as a test.

    If all hypotheses hold, some adjusted p-value is below 5% in at most 5% of cases, however the tests depend on each
    other.

    Args:
        p: P-values.
        weights: Part of the allowed error of each test, relative to the others; equal by default.

    >>> holm([0.01, 0.04, float("nan"), 0.03]).tolist()
    [0.03, 0.06, nan, 0.06]
    >>> holm([0.01, 0.02], weights=[4, 1]).round(4).tolist()
    [0.0125, 0.02]
    """
    given = np.asarray(p, dtype=np.float64)
    weight = np.broadcast_to(np.asarray(weights, dtype=np.float64), given.shape)
    out = np.full(given.shape, np.nan)
    known = np.flatnonzero(np.isfinite(given))
    order = known[np.argsort(given[known] / weight[known], kind="stable")]
    left = np.cumsum(weight[order][::-1])[::-1]
    steps = given[order] * left / weight[order]
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return out


def wilson_interval(fraction: Numbers, n: Numbers, z: float = 1.959963984540054) -> tuple[FloatArray, FloatArray]:
    """Return Wilson's interval of a fraction (1927), which has a width even for fractions of 0 and 1.

    Args:
        fraction: Observed fractions, 0 to 1.
        n: Number of independent cases behind each fraction.
        z: Half-width in standard deviations: 1 for 68%, 1.96 for 95%.

    >>> low, high = wilson_interval(0.0, 40)
    >>> float(low), float(high.round(3))
    (0.0, 0.088)
    """
    f, n = np.asarray(fraction, np.float64), np.asarray(n, np.float64)
    stretch = 1 + z * z / n
    centre = (f + z * z / (2 * n)) / stretch
    half = z / stretch * np.sqrt(f * (1 - f) / n + z * z / (4 * n * n))
    # rounding must not move the ends of 0 and 1 beyond these numbers themselves
    return np.clip(centre - half, 0.0, f), np.clip(centre + half, f, 1.0)


def mean_value(column: FloatArray, blocks: Blocks) -> Value:
    """Return the mean over galaxies of a column of shape (galaxy,), with its interval."""
    return ratio(column[:, None], np.ones((len(column), 1)), blocks).of(0)


def root(square: Value) -> Value:
    """Return the square root of a mean square and of the ends of its interval; negative numbers become 0."""
    return as_value(*(None if end is None else max(end, 0.0) ** 0.5 for end in square.values()))  # type: ignore[type-var]


def as_value(*ends: float | np.floating | None) -> Value:
    """Return a value and its ends for the JSON output, null where they are not finite."""
    value, low, high = (float(one) if one is not None and np.isfinite(one) else None for one in ends)
    return Value(value=value, low=low, high=high)


# ----------------------------------------------------------------------------------------------------
# Hall's transformation, calibrated by the bootstrap


def _limit(u: FloatArray, v: FloatArray, n_bootstrap: int, seed: int, level: float) -> FloatArray:
    """Return the quantile of |transformed t| over the bootstrap; infinite if all samples are alike.

    Args:
        u: Numerators minus ratio times denominators, shape (unit, column); the sums are 0, the sums of squares 1.
        v: Denominators, same shape; the sums are 1.
        n_bootstrap: Number of bootstrap samples.
        seed: Seed of the bootstrap.
        level: Confidence level.
    """
    if len(u) > MAX_UNITS:
        group = np.random.default_rng(seed).permutation(len(u)) % MAX_UNITS
        u, v = grouped_sums(group, MAX_UNITS, u), grouped_sums(group, MAX_UNITS, v)
    uu, uv, vv = u * u, u * v, v * v
    powers = np.concatenate([u, v, uu, uv, vv, u * uu, u * uv, u * vv, v * vv], axis=1)  # u**3 is many times slower
    scale = np.abs(powers).max(axis=0)
    scale[scale == 0] = 1
    times = _resamples(len(u), n_bootstrap, seed)
    sums = (times @ (powers / scale).astype(np.float32)).astype(np.float64) * scale
    su, sv, suu, suv, svv, suuu, suuv, suvv, svvv = np.split(sums, 9, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = su / sv  # the residuals of a sample are about the ratio of that sample
        square = np.maximum(suu - 2 * off * suv + off**2 * svv, 0)
        cube = suuu - 3 * off * suuv + 3 * off**2 * suvv - off**3 * svvv
        t = su / np.sqrt(square)
        bend, shift = _skewness(np.sqrt(square), cube, suv - off * svv, sv)
        far = np.abs(t + bend * t**2 + bend**2 / 3 * t**3 + shift)
    far[~np.isfinite(far)] = np.inf  # the sample contains none of the galaxies that differ
    return np.quantile(far, level, axis=0, method="lower")


def _skewness_of(u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return bend and shift of the ratios themselves, from residuals and weights as in `_limit`."""
    ones = np.ones(u.shape[1])
    return _skewness(ones, np.einsum("ij,ij->j", u * u, u), np.einsum("ij,ij->j", u, v), ones)


def _skewness(
    root: FloatArray, cube: FloatArray, product: FloatArray, total: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return bend and shift of t, from the skewness of the residuals and their covariance with the denominators.

    Args:
        root: Root of the sum of squared residuals.
        cube: Sum of cubed residuals.
        product: Sum of residuals times denominators.
        total: Sum of the denominators.
    """
    skewness = cube / root**3
    return skewness / 3 - product / (root * total), skewness / 6


def _transformed_back(limit: FloatArray, bend: FloatArray, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how far t extends below and above 0 where t + bend t^2 + bend^2 t^3 / 3 + shift extends to `limit`."""
    some = np.where(np.abs(bend) < 1e-6, 1e-6, bend)
    with np.errstate(invalid="ignore"):
        most, least = ((np.cbrt(1 + 3 * some * (end - shift)) - 1) / some for end in (limit, -limit))
        return np.where(np.isfinite(most), most, np.nan), np.where(np.isfinite(least), -least, np.nan)


@lru_cache(maxsize=2)
def _resamples(n: int, n_bootstrap: int, seed: int) -> npt.NDArray[np.float32]:
    """Return how often each bootstrap sample contains each unit, shape (sample, unit); cached, as scores share it."""
    rng = np.random.default_rng(seed)
    times = np.empty((n_bootstrap, n), np.float32)
    for one in times:
        one[:] = np.bincount(rng.integers(0, n, n), minlength=n)
    times.flags.writeable = False
    return times


def grouped_sums(labels: IntArray, n: int, columns: FloatArray) -> FloatArray:
    """Return the sums of rows with the same label: (row, column) -> (label, column)."""
    gather = sparse.csr_array((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=(n, len(labels)))
    return np.asarray(gather @ columns)
