"""Splits that depend on sky position alone.

The split of a position is the same in every campaign and every build: adding galaxies never changes it, and two images
of one galaxy are never in train and in test, whoever published them.

**The scheme `gzoo-1`**, complete, so that it can be implemented without this program:

1. The sky is divided into HEALPix cells (Gorski et al. 2005), nside 2048, nested numbering, right ascension as
   longitude and declination as latitude (ICRS or J2000; the two agree within 0.03 arcsec). A cell is 103 arcsec wide.
2. The split of a cell depends on its number alone. In integers modulo 2**64, with `seed` the first eight bytes
   (big-endian) of the SHA-256 of the scheme's name:

       x = seed + (cell + 1) * 0x9E3779B97F4A7C15
       x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
       x = (x ^ (x >> 27)) * 0x94D049BB133111EB
       x = x ^ (x >> 31)
       percent = ((x >> 32) * 100) >> 32

   which is value number `cell` of the generator SplitMix64 (Steele, Lea and Flood 2014) started at `seed`. Cells below
   70 are `train`, below 80 `validation`, the others `test`.
3. A position has the split of its cell, unless one of 16 points around it, 1.5 arcsec away at position angles
   0, 22.5, 45, ... degrees from north through east, lies in a cell of another split: then it is `border`. At a pole,
   right ascension counts as 0.

Why this suffices: let the 16 points around A be in one split and the 16 around B in another. Wherever the two 16-gons
overlap, a corner of one is inside the other, or one crosses an edge of the other, by 0.06 arcsec at most. So A and B
are at least 1.5 (cos 11.25 deg + 1 - sin 11.25 deg tan 11.25 deg) = 2.91 arcsec apart, for every rotation of the two,
near the poles too. Cells are convex at scales of 3 arcsec, and none of their corners is sharp enough (57 degrees at
least) to pass between two of the points on both sides of a crossing.

The name covers all of it: other fractions, cells or margins are another scheme with another name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import hpgeom
import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError
from gzoo.sky.coordinates import ARCSEC, FloatArray, IntArray, checked_positions, chunks

SPLITS = ("train", "validation", "test")
BORDER = "border"
N_RING = 16
_FROZEN = {"gzoo-1": ((70, 10, 20), 2048, 1.5)}
"""Schemes in use: never change a line, add another."""
_NARROWEST = 0.6
"""Lower bound on the width of a HEALPix cell, in square roots of its area. The narrowest cells, where base cells meet
in the polar caps, have 0.67."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """Named rule that assigns a split to every position.

    Attributes:
        name: Permanent name of the rule: no two rules may share it. It also seeds the hash.
        split_fractions: Percentages of the cells that are `train`, `validation` and `test`; together 100.
        nside: HEALPix nside of the cells, a power of two.
        margin_arcsec: Distance to another split within which a position is `border`.

    Raises:
        InputError: The fractions are not percentages that add up to 100, nside is not a power of two, the margin does
            not fit the cells, or the name belongs to another scheme.
    """

    name: str
    split_fractions: tuple[int, int, int]
    nside: int
    margin_arcsec: float

    def __post_init__(self) -> None:
        fractions = self.split_fractions
        if len(fractions) != len(SPLITS) or min(fractions) < 0 or sum(fractions) != 100:
            raise InputError(
                f"Split fractions of scheme '{self.name}' are {fractions}.",
                f"integer percentages of {', '.join(SPLITS)} that add up to 100.",
                "Pass three such numbers.",
            )
        if self.nside < 1 or self.nside & (self.nside - 1) or self.nside > 1 << 24:
            raise InputError(
                f"nside of scheme '{self.name}' must be a power of two, got {self.nside}.",
                "",
                "Pass 2048, for example.",
            )
        if not 0 < self.margin_arcsec <= self.cell_arcsec / 8:
            raise InputError(
                f"The margin of scheme '{self.name}' is {self.margin_arcsec} arcsec.",
                f"more than 0, and at most an eighth of the cell width of {self.cell_arcsec:.0f} arcsec.",
                "Choose a smaller margin or larger cells.",
            )
        settings = fractions, self.nside, self.margin_arcsec
        if _FROZEN.get(self.name, settings) != settings:
            raise InputError(
                f"The name '{self.name}' belongs to another scheme.", "", f"Name it '{self.name}-mine', for example."
            )

    @property
    def cell_arcsec(self) -> float:
        """Width of a cell: the square root of its area, in arcsec."""
        return float(np.sqrt(np.pi / 3) / self.nside / ARCSEC)

    def assign(self, cells: IntArray) -> npt.NDArray[np.uint8]:
        """Return the index in `SPLITS` of each cell's split."""
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
    """Return the split of each position: "train", "validation", "test" or "border", shape `(galaxy,)`.

    `border` is a buffer between the splits: two positions up to 2.9 arcsec apart are never in two different splits.

    Args:
        ra: Right ascension in degrees, -180 to 360, shape `(galaxy,)`.
        dec: Declination in degrees, shape `(galaxy,)`.
        scheme: The rule.

    Raises:
        InputError: A position is not a number or out of range. Galaxies without a valid position
            (see `gzoo.sky.is_position`) need another rule.

    >>> split([150.1, 150.1 + 0.1 / 3600], [2.2, 2.2]).tolist()
    ['train', 'train']
    """
    longitude, latitude = checked_positions(ra, dec)
    codes = np.empty(len(longitude), np.uint8)
    for part in chunks(len(longitude)):
        codes[part] = _split_codes(longitude[part], latitude[part], scheme)
    return np.array([*SPLITS, BORDER])[codes]


def _split_codes(ra: FloatArray, dec: FloatArray, scheme: Scheme) -> npt.NDArray[np.uint8]:
    """Return indices in (*SPLITS, BORDER)."""
    # Divide cells into sub-cells that are wider than the margin: only positions in an outer one can be near a border.
    fineness = int(np.log2(scheme.cell_arcsec * _NARROWEST / scheme.margin_arcsec))
    part = hpgeom.angle_to_pixel(scheme.nside << fineness, ra, dec)
    codes = scheme.assign(part >> 2 * fineness)
    # Nested numbers interleave the bits of the two coordinates in the cell: all 0 or all 1 is an outer sub-cell.
    every = (1 << 2 * fineness) - 1
    is_outer = np.zeros(len(part), bool)
    for mask in (every // 3, every // 3 * 2):
        bits = part & mask
        is_outer |= (bits == 0) | (bits == mask)
    outer = np.flatnonzero(is_outer)
    own, is_border = codes[outer], np.zeros(len(outer), bool)
    for x, y, z in _ring(ra[outer], dec[outer], scheme.margin_arcsec):
        is_border |= scheme.assign(hpgeom.vector_to_pixel(scheme.nside, x, y, z)) != own
    codes[outer[is_border]] = len(SPLITS)
    return codes


def _ring(ra: FloatArray, dec: FloatArray, radius_arcsec: float) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
    """Yield unit vectors of the points around each position, one position angle after the other."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    sin_ra, cos_ra, sin_dec, cos_dec = np.sin(longitude), np.cos(longitude), np.sin(latitude), np.cos(latitude)
    near, far = np.cos(radius_arcsec * ARCSEC), np.sin(radius_arcsec * ARCSEC)
    for angle in np.arange(N_RING) * (2 * np.pi / N_RING):
        north, east = far * np.cos(angle), far * np.sin(angle)
        outward = near * cos_dec - north * sin_dec
        yield outward * cos_ra - east * sin_ra, outward * sin_ra + east * cos_ra, near * sin_dec + north * cos_dec
