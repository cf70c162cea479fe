"""Cross-matching: pairs of positions that belong to one galaxy."""

from __future__ import annotations

from dataclasses import dataclass

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

    if not 0 < radius_arcsec <= 3600:
        raise InputError(
            f"The match radius is {radius_arcsec} arcsec.", "more than 0 and at most 3600.", "Pass a few arcsec."
        )
    longitude, latitude = checked_positions(ra, dec)
    vectors = unit_vectors(longitude, latitude)
    tree = cKDTree(vectors, balanced_tree=False, compact_nodes=False)
    chord = 2 * np.sin(radius_arcsec * ARCSEC / 2) * (1 + 1e-9)  # slightly more, because the angle decides below
    n_pairs = (int(tree.count_neighbors(tree, chord)) - len(vectors)) // 2
    if n_pairs > MAX_PAIRS:
        positions, n = np.unique(np.stack([longitude, latitude]), axis=1, return_counts=True)
        most = int(n.argmax())
        raise InputError(
            f"{n_pairs:,} pairs of positions are within {radius_arcsec:g} arcsec of each other; {n[most]:,} positions "
            f"are ra {positions[0, most]:g}, dec {positions[1, most]:g}.",
            f"positions of galaxies, with at most {MAX_PAIRS:,} such pairs.",
            "Set unknown positions to NaN, or pass a smaller radius.",
        )
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
        chord = 2 * np.sin(radius_arcsec * ARCSEC / 2)
        apart, _ = tree.query(
            unit_vectors(*checked_positions(*(one[is_known] for one in own))), distance_upper_bound=chord * (1 + 1e-9)
        )
        found[is_known] = np.isfinite(apart)
    return found
