"""Cross-matching: pairs of positions that belong to one galaxy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError
from gzoo.sky.coordinates import (
    ARCSEC,
    BoolArray,
    FloatArray,
    IntArray,
    angle_arcsec,
    checked_positions,
    chunks,
    is_position,
    separation_arcsec,
    unit_vectors,
)

RADIUS_ARCSEC = 2.0
"""Positions up to this far apart belong to one galaxy, unless another radius is chosen."""
MAX_PAIRS = 50_000_000
"""A table with more pairs contains placeholders instead of positions, and its pairs would not fit into memory."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of positions that are close together.

    Attributes:
        first: Index of one position of each pair, shape `(pair,)`.
        second: Index of the other, always the larger.
        separation_arcsec: Angle between them, in arcsec.
    """

    first: IntArray
    second: IntArray
    separation_arcsec: FloatArray

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True)
class MutualBest:
    """For every row of two tables, its nearest row in the other.

    Attributes:
        partner: Row of the other table, where each is the nearest of the other and no second one is as near; -1 for
            others, shape `(row,)` for each table.
        nearest_arcsec: Angle to the nearest row of the other table within the radius, NaN without one.
        next_arcsec: Angle to the second nearest, likewise.
        n_near: Rows of the other table within the radius.
    """

    partner: tuple[IntArray, IntArray]
    nearest_arcsec: tuple[FloatArray, FloatArray]
    next_arcsec: tuple[FloatArray, FloatArray]
    n_near: tuple[IntArray, IntArray]


TIE_ARCSEC = 1e-6
"""Angles that differ by less are the same, because positions are rounded."""


def pairs_between(
    ra: npt.ArrayLike,
    dec: npt.ArrayLike,
    other_ra: npt.ArrayLike,
    other_dec: npt.ArrayLike,
    *,
    radius_arcsec: float = RADIUS_ARCSEC,
) -> Pairs:
    """Return all pairs of a position and one of some others at most `radius_arcsec` apart, ordered by their indices.

    Args:
        ra: Right ascension in degrees, -180 to 360, shape `(row,)`.
        dec: Declination in degrees, shape `(row,)`.
        other_ra: Right ascension of the others in degrees.
        other_dec: Declination of the others in degrees.
        radius_arcsec: Match radius in arcsec.

    Raises:
        InputError: A position is out of range, or so many are close together that they cannot be galaxies.

    >>> pairs = pairs_between([359.9999, 10], [0, 5], [0.0001, 10, 10], [0, 5, 6])
    >>> pairs.first.tolist(), pairs.second.tolist(), pairs.separation_arcsec.round(2).tolist()
    ([0, 1], [0, 1], [0.72, 0.0])
    """
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

    check_radius(radius_arcsec)
    one, other = checked_positions(ra, dec), checked_positions(other_ra, other_dec)
    if len(one[0]) < len(other[0]):  # the tree of the smaller one is kept, the other comes in parts
        swapped = pairs_between(*other, *one, radius_arcsec=radius_arcsec)
        order = np.lexsort((swapped.first, swapped.second))
        return Pairs(swapped.second[order], swapped.first[order], swapped.separation_arcsec[order])
    found: list[tuple[IntArray, IntArray, FloatArray]] = []
    n_pairs, chord = 0, _chord(radius_arcsec)
    vectors = unit_vectors(*other)
    tree = cKDTree(vectors, balanced_tree=False, compact_nodes=False) if len(vectors) else None
    for part in chunks(len(one[0])):
        if tree is None:
            break
        own = unit_vectors(one[0][part], one[1][part])
        few = cKDTree(own, balanced_tree=False, compact_nodes=False)
        n_pairs += int(few.count_neighbors(tree, chord))
        if n_pairs > MAX_PAIRS:
            _refuse_crowd(*other, n_pairs, radius_arcsec)
        near = few.sparse_distance_matrix(tree, chord, output_type="ndarray")
        first, second = near["i"], near["j"]
        angle = np.empty(len(first))
        for some in chunks(len(first)):
            angle[some] = angle_arcsec(own[first[some]], vectors[second[some]])
        kept = np.flatnonzero(angle <= radius_arcsec)
        kept = kept[np.lexsort((second[kept], first[kept]))]
        found.append((first[kept] + part.start, second[kept], angle[kept]))
    if not found:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    return Pairs(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def mutual_best(pairs: Pairs, n_first: int, n_second: int) -> MutualBest:
    """Return which rows of two tables are the nearest of each other.

    Args:
        pairs: All pairs within the radius.
        n_first: Rows of the first table.
        n_second: Rows of the second table.

    >>> found = mutual_best(pairs_between([10, 10, 50], [5, 5.0003, 0], [10.0], [5.0001]), 3, 1)
    >>> found.partner[0].tolist(), found.n_near[0].tolist(), found.nearest_arcsec[0].round(2).tolist()
    ([0, -1, -1], [1, 1, 0], [0.36, 0.72, nan])
    """
    ends = (pairs.first, n_first), (pairs.second, n_second)
    best = [_best(end, n, pairs.separation_arcsec) for end, n in ends]
    (first, *_), (second, *_) = best
    number = np.arange(len(pairs))
    is_mutual = (first[pairs.first] == number) & (second[pairs.second] == number)
    partner = np.full(n_first, -1, np.int64), np.full(n_second, -1, np.int64)
    partner[0][pairs.first[is_mutual]] = pairs.second[is_mutual]
    partner[1][pairs.second[is_mutual]] = pairs.first[is_mutual]
    n_near = (np.bincount(pairs.first, minlength=n_first), np.bincount(pairs.second, minlength=n_second))
    return MutualBest(partner, (best[0][1], best[1][1]), (best[0][2], best[1][2]), n_near)


def _best(end: IntArray, n: int, apart: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return the nearest pair of each row, -1 where two are as near, and the angles of the two nearest."""
    best, nearest, following = np.full(n, -1, np.int64), np.full(n, np.nan), np.full(n, np.nan)
    order = np.lexsort((apart, end))
    sorted_end = end[order]
    is_head = np.ones(len(order), bool)
    is_head[1:] = sorted_end[1:] != sorted_end[:-1]
    head = np.flatnonzero(is_head)
    best[sorted_end[head]], nearest[sorted_end[head]] = order[head], apart[order[head]]
    has_next = head[(head + 1 < len(order)) & ~np.append(is_head, True)[head + 1]]
    following[sorted_end[has_next]] = apart[order[has_next + 1]]
    best[following - nearest <= TIE_ARCSEC] = -1
    return best, nearest, following


def check_radius(radius_arcsec: float) -> None:
    """Check that a match radius is an angle between galaxies.

    Raises:
        InputError: It is not above 0, or over a degree.
    """
    if not 0 < radius_arcsec <= 3600:
        raise InputError(
            f"The match radius is {radius_arcsec} arcsec.", "more than 0 and at most 3600.", "Pass a few arcsec."
        )


def _chord(radius_arcsec: float) -> float:
    """Return slightly more than the length of the chord of a radius, because the angle decides in the end."""
    return float(2 * np.sin(radius_arcsec * ARCSEC / 2) * (1 + 1e-9))


def _refuse_crowd(longitude: FloatArray, latitude: FloatArray, n_pairs: int, radius_arcsec: float) -> NoReturn:
    positions, n = np.unique(np.stack([longitude, latitude]), axis=1, return_counts=True)
    most = int(n.argmax())
    raise InputError(
        f"{n_pairs:,} pairs of positions are within {radius_arcsec:g} arcsec of each other; {n[most]:,} positions "
        f"are ra {positions[0, most]:g}, dec {positions[1, most]:g}.",
        f"positions of galaxies, with at most {MAX_PAIRS:,} such pairs.",
        "Set unknown positions to NaN, or pass a smaller radius.",
    )


def same_galaxies(ra: npt.ArrayLike, dec: npt.ArrayLike, *, radius_arcsec: float = RADIUS_ARCSEC) -> Pairs:
    """Return all pairs of positions at most `radius_arcsec` apart, ordered by their indices.

    To match datasets with each other, concatenate their positions.

    Args:
        ra: Right ascension in degrees, -180 to 360, shape `(galaxy,)`.
        dec: Declination in degrees, shape `(galaxy,)`.
        radius_arcsec: Match radius in arcsec.

    Raises:
        InputError: A position is out of range, or so many are close together that they cannot be galaxies
            (more than `MAX_PAIRS` pairs).

    >>> pairs = same_galaxies([10, 359.9999, 0.0001, 10], [5, 0, 0, 6])
    >>> pairs.first.tolist(), pairs.second.tolist(), pairs.separation_arcsec.round(2).tolist()
    ([1], [2], [0.72])
    """
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

    check_radius(radius_arcsec)
    longitude, latitude = checked_positions(ra, dec)
    vectors = unit_vectors(longitude, latitude)
    tree = cKDTree(vectors, balanced_tree=False, compact_nodes=False)
    chord = _chord(radius_arcsec)
    n_pairs = (int(tree.count_neighbors(tree, chord)) - len(vectors)) // 2
    if n_pairs > MAX_PAIRS:
        _refuse_crowd(longitude, latitude, n_pairs, radius_arcsec)
    pairs: IntArray = tree.query_pairs(chord, output_type="ndarray").astype(np.int64, copy=False)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    angle = np.empty(len(pairs))
    for part in chunks(len(pairs)):
        angle[part] = angle_arcsec(vectors[pairs[part, 0]], vectors[pairs[part, 1]])
    is_near = angle <= radius_arcsec
    return Pairs(pairs[is_near, 0], pairs[is_near, 1], angle[is_near])


def is_apart(identifier: IntArray, ra: FloatArray, dec: FloatArray, radius_arcsec: float = RADIUS_ARCSEC) -> BoolArray:
    """Return the rows whose identifier stands for several galaxies, because its positions are too far apart.

    Args:
        identifier: Number of each row's identifier, shape (row,).
        ra: Right ascension in degrees; NaN where unknown, shape (row,).
        dec: Declination in degrees, shape (row,).
        radius_arcsec: Largest distance from the first position of the identifier.

    >>> is_apart(np.array([7, 7, 8, 8, 8]), np.array([1.0, 1.0, 1.0, np.nan, 91.0]), np.zeros(5)).tolist()
    [False, False, True, True, True]
    """
    known = np.flatnonzero(is_position(ra, dec))
    _, first, number = np.unique(identifier[known], return_index=True, return_inverse=True)
    head = known[first[number]]
    is_far = separation_arcsec(ra[known], dec[known], ra[head], dec[head]) > radius_arcsec
    return np.isin(identifier, identifier[known[is_far]])


def is_near(
    ra: npt.ArrayLike,
    dec: npt.ArrayLike,
    other_ra: npt.ArrayLike,
    other_dec: npt.ArrayLike,
    *,
    radius_arcsec: float = RADIUS_ARCSEC,
) -> BoolArray:
    """Return which positions are at most `radius_arcsec` from one of some others, shape `(galaxy,)`.

    Args:
        ra: Right ascension in degrees, shape `(galaxy,)`; NaN where unknown, which is near to nothing.
        dec: Declination in degrees, shape `(galaxy,)`.
        other_ra: Right ascension of the others in degrees.
        other_dec: Declination of the others in degrees.
        radius_arcsec: Match radius in arcsec.

    >>> is_near([10, 359.9999, float("nan")], [5, 0, 0], [0.0001, 50], [0, 5]).tolist()
    [False, True, False]
    """
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

    own, others = (
        (np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in ((ra, dec), (other_ra, other_dec))
    )
    is_known, is_other = is_position(*own), is_position(*others)
    found = np.zeros(len(own[0]), bool)
    if is_known.any() and is_other.any():
        tree = cKDTree(unit_vectors(*checked_positions(*(one[is_other] for one in others))))
        apart, _ = tree.query(
            unit_vectors(*checked_positions(*(one[is_known] for one in own))),
            distance_upper_bound=_chord(radius_arcsec),
        )
        found[is_known] = np.isfinite(apart)
    return found
