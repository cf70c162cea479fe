"""Positions: which split a place on the sky belongs to, which positions are one galaxy, which cell a position is in.

A split by place is the same for every campaign and every build: adding galaxies moves none, and two images of one
galaxy are never one in train and one in test, whoever published them.

**The scheme `gzoo-1`**, complete, so that anyone can follow it without this program:

1. The sky is cut into HEALPix cells (Gorski et al. 2005), nside 2048, nested numbering, right ascension as longitude
   and declination as latitude (ICRS or J2000; the two agree within 0.03 arcsec). A cell is 103 arcsec wide.
2. A cell is on a side by its number alone. In whole numbers modulo 2**64, `seed` being the first eight bytes
   (big-endian) of the SHA-256 of the scheme's name:

       x = seed + (cell + 1) * 0x9E3779B97F4A7C15
       x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
       x = (x ^ (x >> 27)) * 0x94D049BB133111EB
       x = x ^ (x >> 31)
       percent = ((x >> 32) * 100) >> 32

   which is value number `cell` of the generator SplitMix64 (Steele, Lea and Flood 2014) begun at `seed`. Below 70 the
   cell is `train`, below 80 `validation`, else `test`.
3. A position is on the side of its cell, unless one of 16 points around it, 1.5 arcsec away at position angles
   0, 22.5, 45, ... degrees from north through east, lies in a cell on another side: then it is `border`. At a pole,
   right ascension counts as 0.

Why this suffices: let 16 points around A be on one side and 16 around B on another. Wherever the two 16-gons overlap,
a corner of one is inside the other, or one pokes through an edge of the other, which it can do by 0.06 arcsec at most.
So A and B are at least 1.5 (cos 11.25 deg + 1 - sin 11.25 deg tan 11.25 deg) = 2.91 arcsec apart, however the two are
turned, near the poles too. Cells are convex as far as 3 arcsec can tell, and none of their corners is sharp enough
(57 degrees at least) to pass between two of the points on both sides of a crossing.

The name covers all of it: other shares, cells or margins are another scheme with another name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import hpgeom
import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SPLITS = ("train", "validation", "test")
BORDER = "border"
ARCSEC = np.pi / 180 / 3600
"""One second of arc in radians."""
N_RING = 16
MAX_PAIRS = 50_000_000
"""More neighbours than that are a table whose positions are not positions, and would not fit into memory."""
_FROZEN = {"gzoo-1": ((70, 10, 20), 2048, 1.5)}
"""Schemes in use: never change a line, add another."""
_CHUNK = 1 << 18
"""Positions worked on at once."""
_NARROWEST = 0.6
"""No HEALPix cell is narrower than this many square roots of its area: the narrowest have 0.67, where base cells meet
in the caps."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A named rule that says which split a place on the sky belongs to.

    Attributes:
        name: Names the rule for good: no two rules may share it. It also seeds the hash.
        split_fractions: Percent of the cells that are `train`, `validation` and `test`; together 100.
        nside: HEALPix nside of the cells, a power of two.
        margin_arcsec: How near to another side a position is `border`.

    Raises:
        InputError: The shares are not percents of 100, nside is no power of two, the margin does not fit the cells, or
            the name is that of another scheme.
    """

    name: str
    split_fractions: tuple[int, int, int]
    nside: int
    margin_arcsec: float

    def __post_init__(self) -> None:
        if (
            len(self.split_fractions) != len(SPLITS)
            or min(self.split_fractions) < 0
            or sum(self.split_fractions) != 100
        ):
            raise InputError(
                f"Scheme '{self.name}' has the shares {self.split_fractions}.",
                f"Whole percents of {', '.join(SPLITS)} that add up to 100.",
                "Give three such numbers.",
            )
        if self.nside < 1 or self.nside & (self.nside - 1) or self.nside > 1 << 24:
            raise InputError(f"Scheme '{self.name}' has nside {self.nside}.", "A power of two.", "Give 2048, say.")
        if not 0 < self.margin_arcsec <= self.cell_arcsec / 8:
            raise InputError(
                f"Scheme '{self.name}' has a margin of {self.margin_arcsec} arcsec.",
                f"More than 0, and at most an eighth of a cell's {self.cell_arcsec:.0f} arcsec.",
                "Choose a smaller margin or larger cells.",
            )
        mine = self.split_fractions, self.nside, self.margin_arcsec
        if _FROZEN.get(self.name, mine) != mine:
            raise InputError(
                f"'{self.name}' is the name of another scheme.",
                "A name of its own.",
                f"Name it '{self.name}-mine', say.",
            )

    @property
    def cell_arcsec(self) -> float:
        """Width of a cell: the square root of its area."""
        return float(np.sqrt(np.pi / 3) / self.nside / ARCSEC)

    def assign(self, cells: IntArray) -> npt.NDArray[np.uint8]:
        """Index in `SPLITS` of each cell's side."""
        seed = int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8], "big")
        x = cells.astype(np.uint64)
        x += np.uint64(1)
        x *= np.uint64(0x9E3779B97F4A7C15)
        x += np.uint64(seed)
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
        percent = ((x >> np.uint64(32)) * np.uint64(100)) >> np.uint64(32)
        train, validation, _ = self.split_fractions
        return (percent >= train).astype(np.uint8) + (percent >= train + validation)


SCHEMES = {name: Scheme(name, *settings) for name, settings in _FROZEN.items()}
SCHEME = SCHEMES["gzoo-1"]
"""The scheme of every dataset that gzoo builds from positions."""


def split(ra: npt.ArrayLike, dec: npt.ArrayLike, scheme: Scheme = SCHEME) -> npt.NDArray[np.str_]:
    """The split of each position: "train", "validation", "test" or "border", shape `(galaxy,)`.

    `border` is no side: two positions up to 2.9 arcsec apart are never on two different sides.

    Args:
        ra: Right ascension in degrees, -180 to 360, shape `(galaxy,)`.
        dec: Declination in degrees, shape `(galaxy,)`.
        scheme: The rule.

    Raises:
        InputError: A position is not a number, or not on the sky. Those are to be split by another rule
            (`gzoo.sky.is_position` tells them apart).

    >>> split([150.1, 150.1 + 0.1 / 3600], [2.2, 2.2]).tolist()
    ['train', 'train']
    """
    longitude, latitude = _checked(ra, dec)
    codes = np.empty(len(longitude), np.uint8)
    for part in _chunks(len(longitude)):
        codes[part] = _split_codes(longitude[part], latitude[part], scheme)
    return np.array([*SPLITS, BORDER])[codes]


def _split_codes(ra: FloatArray, dec: FloatArray, scheme: Scheme) -> npt.NDArray[np.uint8]:
    """Index in (*SPLITS, BORDER)."""
    # cells are cut so often that a part is wider than the margin: only what lies in an outer part can be near a side
    fineness = int(np.log2(scheme.cell_arcsec * _NARROWEST / scheme.margin_arcsec))
    part = hpgeom.angle_to_pixel(scheme.nside << fineness, ra, dec)
    codes = scheme.assign(part >> 2 * fineness)
    # nested numbers interleave the bits of a part's two places in its cell: all 0 or all 1 is an outer part
    every = (1 << 2 * fineness) - 1
    one, other = every // 3, every // 3 * 2
    is_outer = np.zeros(len(part), bool)
    for mask in (one, other):
        place = part & mask
        is_outer |= (place == 0) | (place == mask)
    outer = np.flatnonzero(is_outer)
    mine, is_border = codes[outer], np.zeros(len(outer), bool)
    for x, y, z in _ring(ra[outer], dec[outer], scheme.margin_arcsec):
        is_border |= scheme.assign(hpgeom.vector_to_pixel(scheme.nside, x, y, z)) != mine
    codes[outer[is_border]] = len(SPLITS)
    return codes


def _ring(ra: FloatArray, dec: FloatArray, radius_arcsec: float) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
    """Unit vectors of the points around each position, one position angle after the other."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    sin_ra, cos_ra, sin_dec, cos_dec = np.sin(longitude), np.cos(longitude), np.sin(latitude), np.cos(latitude)
    near, far = np.cos(radius_arcsec * ARCSEC), np.sin(radius_arcsec * ARCSEC)
    for angle in np.arange(N_RING) * (2 * np.pi / N_RING):
        north, east = far * np.cos(angle), far * np.sin(angle)
        outward = near * cos_dec - north * sin_dec
        yield outward * cos_ra - east * sin_ra, outward * sin_ra + east * cos_ra, near * sin_dec + north * cos_dec


def cells(ra: npt.ArrayLike, dec: npt.ArrayLike, nside: int = 64) -> IntArray:
    """The HEALPix cell (nested) that each position is in, shape `(galaxy,)`.

    Args:
        ra: Right ascension in degrees, -180 to 360.
        dec: Declination in degrees.
        nside: A power of two. 64, the default, cuts the sky into 49,152 cells 0.92 degrees wide; twice the number
            halves the width.

    Raises:
        InputError: A position is not on the sky, or nside is no power of two.

    >>> cells([0, 360, 10], [90, 90, 0]).tolist()
    [4095, 4095, 18069]
    """
    if nside < 1 or nside & (nside - 1) or nside > 1 << 29:
        raise InputError(f"nside is {nside}.", "A power of two, up to 2**29.", "Give 64, say.")
    longitude, latitude = _checked(ra, dec)
    return hpgeom.angle_to_pixel(nside, longitude, latitude)


def separation_arcsec(
    ra: npt.ArrayLike, dec: npt.ArrayLike, other_ra: npt.ArrayLike, other_dec: npt.ArrayLike
) -> FloatArray:
    """Angle between positions, one by one, in arcsec, shape `(galaxy,)`; exact for the smallest and the largest.

    Raises:
        InputError: A position is not on the sky.

    >>> separation_arcsec([0, 0], [90, 0], [180, 359], [90, 0]).round(9).tolist()
    [0.0, 3600.0]
    """
    one, other = (_vectors(*_checked(*position)) for position in ((ra, dec), (other_ra, other_dec)))
    return _angle_arcsec(one, other)


def _angle_arcsec(one: FloatArray, other: FloatArray) -> FloatArray:
    half = np.linalg.norm(one - other, axis=-1), np.linalg.norm(one + other, axis=-1)
    return 2 * np.arctan2(*half) / ARCSEC


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of positions that lie close together.

    Attributes:
        first: Index of one position of each pair, shape `(pair,)`.
        second: Index of the other, always the larger.
        separation_arcsec: How far apart they are.
    """

    first: IntArray
    second: IntArray
    separation_arcsec: FloatArray

    def __len__(self) -> int:
        return len(self.first)


def same_galaxies(ra: npt.ArrayLike, dec: npt.ArrayLike, *, radius_arcsec: float = 2.0) -> Pairs:
    """All pairs of positions at most `radius_arcsec` apart, ordered by their indexes.

    To match datasets with each other, pass their positions one after the other.

    Args:
        ra: Right ascension in degrees, -180 to 360, shape `(galaxy,)`.
        dec: Declination in degrees, shape `(galaxy,)`.
        radius_arcsec: The largest separation.

    Raises:
        InputError: A position is not on the sky, or so many are close together that they cannot be galaxies
            (`MAX_PAIRS` pairs).

    >>> pairs = same_galaxies([10, 359.9999, 0.0001, 10], [5, 0, 0, 6])
    >>> pairs.first.tolist(), pairs.second.tolist(), pairs.separation_arcsec.round(2).tolist()
    ([1], [2], [0.72])
    """
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

    if not 0 < radius_arcsec <= 3600:
        raise InputError(
            f"The radius is {radius_arcsec} arcsec.",
            "More than 0, at most 3600.",
            "Give a few arcsec, or leave it out.",
        )
    longitude, latitude = _checked(ra, dec)
    vectors = _vectors(longitude, latitude)
    tree = cKDTree(vectors, balanced_tree=False, compact_nodes=False)
    chord = 2 * np.sin(radius_arcsec * ARCSEC / 2) * (1 + 1e-9)  # a hair more: what counts is the angle, below
    n_pairs = (int(tree.count_neighbors(tree, chord)) - len(vectors)) // 2
    if n_pairs > MAX_PAIRS:
        raise _crowded(longitude, latitude, n_pairs, radius_arcsec)
    pairs: IntArray = tree.query_pairs(chord, output_type="ndarray").astype(np.int64, copy=False)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    angle = np.empty(len(pairs))
    for part in _chunks(len(pairs)):
        angle[part] = _angle_arcsec(vectors[pairs[part, 0]], vectors[pairs[part, 1]])
    is_near = angle <= radius_arcsec
    return Pairs(pairs[is_near, 0], pairs[is_near, 1], angle[is_near])


def _crowded(ra: FloatArray, dec: FloatArray, n_pairs: int, radius_arcsec: float) -> InputError:
    places, n = np.unique(np.stack([ra, dec]), axis=1, return_counts=True)
    most = int(n.argmax())
    return InputError(
        f"{n_pairs:,} pairs of positions are within {radius_arcsec:g} arcsec of each other; {n[most]:,} stand at ra "
        f"{places[0, most]:g}, dec {places[1, most]:g} alone.",
        f"Places of galaxies, with at most {MAX_PAIRS:,} such pairs.",
        "Give unknown positions as NaN, or a smaller radius.",
    )


def is_position(ra: npt.ArrayLike, dec: npt.ArrayLike) -> BoolArray:
    """Whether each is a place on the sky: numbers, ra from -180 to 360 and dec from -90 to 90 degrees.

    >>> is_position([0, 360, float("nan"), 10], [0, -90, 0, 91]).tolist()
    [True, True, False, False]
    """
    longitude, latitude = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    return (longitude >= -180) & (longitude <= 360) & (np.abs(latitude) <= 90)


def _checked(ra: npt.ArrayLike, dec: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Positions with ra from 0 to below 360, and 0 at the poles, where all are one."""
    longitude, latitude = (np.atleast_1d(np.asarray(one, np.float64)) for one in (ra, dec))
    if longitude.shape != latitude.shape or longitude.ndim != 1:
        raise InputError(
            f"ra has the shape {longitude.shape} and dec {latitude.shape}.",
            "One of each for every galaxy, shape (galaxy,).",
            "Pass two lists of one length.",
        )
    wrong = np.flatnonzero(~is_position(longitude, latitude))
    if len(wrong):
        i = int(wrong[0])
        raise InputError(
            f"Position {i} is ra {longitude[i]:g}, dec {latitude[i]:g}, one of {len(wrong):,} of {len(longitude):,} "
            "that are not on the sky.",
            "Degrees: ra from -180 to 360, dec from -90 to 90.",
            "Mend them, or leave out those that gzoo.sky.is_position says are none.",
        )
    longitude = np.where(longitude < 0, longitude + 360, longitude)
    longitude[(longitude == 360) | (np.abs(latitude) == 90)] = 0
    return longitude, latitude


def _vectors(ra: FloatArray, dec: FloatArray) -> FloatArray:
    """Unit vectors, shape `(galaxy, 3)`."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    vectors = np.empty((len(ra), 3))
    vectors[:, 0] = vectors[:, 1] = np.cos(latitude)
    vectors[:, 0] *= np.cos(longitude)
    vectors[:, 1] *= np.sin(longitude)
    vectors[:, 2] = np.sin(latitude)
    return vectors


def _chunks(n: int) -> Iterator[slice]:
    return (slice(begin, begin + _CHUNK) for begin in range(0, n, _CHUNK))
