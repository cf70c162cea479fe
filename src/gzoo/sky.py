"""Place on the sky: which side of the split it is on, in which cell, and which sightings are of one galaxy.

The split is a pure function of position, so that a galaxy is on the same side in every campaign, whoever built it,
whatever galaxies are added. GUIDE.md describes the scheme so that it can be written anew in another language.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError

SIDES = ("train", "validation", "test")
BORDER = "border"
CHUNK = 1_000_000  # positions at a time, so that memory stays bounded
MOST_PAIRS = 50_000_000

Positions = npt.ArrayLike
Vectors = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SplitScheme:
    """How the sky is cut into train, validation and test. Other constants make another scheme, of another name.

    Attributes:
        name: What seeds the hash; it stands in the card of a dataset.
        nside: Of the HEALPix grid (nested order) whose cells go to one side as a whole.
        margin_arcsec: A position goes to `border` if a point this far from it is on another side.
        n_points: So many points are looked at, evenly around it, the first due north.
        train_percent: Share of the cells in train.
        validation_percent: In validation. The rest is test.
    """

    name: str
    nside: int
    margin_arcsec: float
    n_points: int
    train_percent: int
    validation_percent: int

    @property
    def test_percent(self) -> int:
        """Share of the cells in test."""
        return 100 - self.train_percent - self.validation_percent


GZOO_1 = SplitScheme(name="gzoo-1", nside=2048, margin_arcsec=1.5, n_points=8, train_percent=70, validation_percent=10)


def split(ra: Positions, dec: Positions, *, scheme: SplitScheme = GZOO_1) -> npt.NDArray[np.str_]:
    """The split of each position: "train", "validation", "test" or "border", shape (galaxy,).

    Two positions up to 2.7 arcsec apart are never on two different sides: one of them is in `border`, which is no
    side.

    >>> split([150.0, 150.002, 150.003, 150.004], [2.0, 2.0, 2.0, 2.0]).tolist()
    ['train', 'train', 'border', 'test']

    Args:
        ra: Right ascension in degrees, -180 to 360, shape (galaxy,).
        dec: Declination in degrees, -90 to 90, shape (galaxy,).
        scheme: Which cut of the sky.

    Raises:
        InputError: A position is missing or out of range.
    """
    ra, dec = _positions(ra, dec)
    sides = np.empty(ra.size, np.int8)
    for start in range(0, ra.size, CHUNK):
        part = slice(start, start + CHUNK)
        sides[part] = _sides(ra[part], dec[part], scheme)
    return np.array((*SIDES, BORDER))[sides]


def cells(ra: Positions, dec: Positions, *, nside: int = 64) -> Cells:
    """Number of each position's HEALPix cell (nested order), shape (galaxy,).

    The default's cells are 0.9 degrees wide.

    >>> cells([350.0, -10.0, 350.5], [20.0, 20.0, 21.0]).tolist()
    [20075, 20075, 20078]

    Args:
        ra: Right ascension in degrees, -180 to 360, shape (galaxy,).
        dec: Declination in degrees, -90 to 90, shape (galaxy,).
        nside: Cells along the side of each of the 12 base cells, a power of 2.

    Raises:
        InputError: A position is missing or out of range, or there is no such grid.
    """
    if nside < 1 or nside > 2**29 or nside & (nside - 1):
        raise InputError(f"There is no grid of nside {nside}.", "A power of 2, up to 2^29.", "Choose one, such as 64.")
    return _cells(*_positions(ra, dec), nside)


def separation_arcsec(
    ra: Positions, dec: Positions, other_ra: Positions, other_dec: Positions
) -> npt.NDArray[np.float64]:
    """Angle between positions and as many others, arcsec, shape (galaxy,); exact for the smallest and largest too.

    >>> separation_arcsec([359.9999], [0.0], [0.0001], [0.0]).round(6).tolist()
    [0.72]

    Raises:
        InputError: A position is missing or out of range, or there are not as many of one as of the other.
    """
    ones, others = _vectors(*_positions(ra, dec)), _vectors(*_positions(other_ra, other_dec))
    if len(ones) != len(others):
        raise InputError(
            f"There are {len(ones):,} positions and {len(others):,} others.", "As many.", "Give them pair by pair."
        )
    return _angle_arcsec(ones, others)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of positions that are near each other.

    Attributes:
        first: Index of one of them, shape (pair,).
        second: Index of the other, always larger.
        separation_arcsec: Angle between them.
    """

    first: Cells
    second: Cells
    separation_arcsec: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


def same_galaxies(ra: Positions, dec: Positions, *, radius_arcsec: float = 2.0) -> Pairs:
    """All pairs of positions within a radius of each other, ordered by index: sightings of the same galaxy.

    To match two catalogues, put one after the other.

    >>> pairs = same_galaxies([10.0, 20.0, 10.0], [0.0, 0.0, 0.0002])
    >>> pairs.first.tolist(), pairs.second.tolist(), pairs.separation_arcsec.round(3).tolist()
    ([0], [2], [0.72])

    Args:
        ra: Right ascension in degrees, -180 to 360, shape (galaxy,).
        dec: Declination in degrees, -90 to 90, shape (galaxy,).
        radius_arcsec: Pairs up to this far apart, at most a degree.

    Raises:
        InputError: A position is missing or out of range, or so many are in one place that there are more than 50
            million pairs.
    """
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

    ra, dec = _positions(ra, dec)
    if not 0 < radius_arcsec <= 3600:
        raise InputError(f"The radius is {radius_arcsec} arcsec.", "More than 0, up to 3600.", "Choose another.")
    # a little further than asked, and cut to measure below: the tree's own arithmetic is not the last word
    reach = 2 * np.sin(np.radians(radius_arcsec / 3600) / 2) * (1 + 1e-9) + 1e-15
    tree = cKDTree(_vectors(ra, dec), balanced_tree=False, compact_nodes=False)
    found = tree.count_neighbors(tree, reach) - ra.size
    if found > 2 * MOST_PAIRS:
        raise InputError(
            f"{found // 2:,} pairs of positions are within {radius_arcsec:g} arcsec of each other.",
            f"At most {MOST_PAIRS:,}.",
            "Choose a smaller radius, or look whether positions are real.",
        )
    pairs = np.sort(tree.query_pairs(reach, output_type="ndarray").astype(np.int64), axis=1)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    vectors = np.asarray(tree.data)
    apart = _angle_arcsec(vectors[pairs[:, 0]], vectors[pairs[:, 1]])
    is_near = apart <= radius_arcsec
    return Pairs(pairs[is_near, 0], pairs[is_near, 1], apart[is_near])


def is_position(ra: Positions, dec: Positions) -> npt.NDArray[np.bool_]:
    """Whether each is a place on the sky: finite, ra -180 to 360 and dec -90 to 90, shape (galaxy,)."""
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    return (ra >= -180) & (ra <= 360) & (np.abs(dec) <= 90)  # NaN is none of these


def _positions(ra: Positions, dec: Positions) -> tuple[Vectors, Vectors]:
    """Checked positions, each place spelled in one way: ra in [0, 360), and 0 at the poles."""
    try:
        ra, dec = np.array(ra, np.float64), np.array(dec, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"Positions are no numbers: {error}.", "Degrees.", "Give ra and dec as numbers.") from error
    if ra.ndim != 1 or ra.shape != dec.shape:
        raise InputError(
            f"ra has shape {ra.shape} and dec {dec.shape}.", "One of each per galaxy.", "Give two equally long lists."
        )
    is_good = is_position(ra, dec)
    if not is_good.all():
        i = int(np.argmin(is_good))
        raise InputError(
            f"{np.count_nonzero(~is_good):,} of {ra.size:,} positions are no place on the sky; the first, number "
            f"{i} counted from 0, is ra {ra[i]}, dec {dec[i]}.",
            "Degrees: ra from -180 to 360, dec from -90 to 90, none missing.",
            "Leave such rows out; galaxies without a position are split by their identifier.",
        )
    ra = np.where(ra < 0, ra + 360, ra)
    ra[(ra >= 360) | (np.abs(dec) == 90)] = 0.0
    return ra, dec


def _vectors(ra: Vectors, dec: Vectors) -> Vectors:
    """Unit vectors, shape (galaxy, 3)."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    x, y = np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude)
    return np.stack([x, y, np.sin(latitude)], axis=1)


def _angle_arcsec(ones: Vectors, others: Vectors) -> Vectors:
    """Angle between unit vectors; the arccosine of their product would lose the small ones."""
    half = np.arctan2(np.linalg.norm(ones - others, axis=1), np.linalg.norm(ones + others, axis=1))
    return np.degrees(2 * half) * 3600


def _cells(ra: Vectors, dec: Vectors, nside: int) -> Cells:
    import hpgeom

    return np.asarray(hpgeom.angle_to_pixel(nside, ra, dec, nest=True, lonlat=True, degrees=True), np.int64)


def _side_of_cells(numbers: Cells, scheme: SplitScheme) -> npt.NDArray[np.int8]:
    """Index into SIDES for each cell: output number `cell`, counted from 0, of SplitMix64 seeded with the name."""
    seed = int.from_bytes(hashlib.sha256(scheme.name.encode()).digest()[:8], "big")
    mixed = np.uint64(seed) + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    percent = ((mixed >> np.uint64(32)) * np.uint64(100)) >> np.uint64(32)
    return np.searchsorted(
        [scheme.train_percent, scheme.train_percent + scheme.validation_percent], percent, side="right"
    ).astype(np.int8)


def _sides(ra: Vectors, dec: Vectors, scheme: SplitScheme) -> npt.NDArray[np.int8]:
    """Index into (*SIDES, BORDER) for each position."""
    import hpgeom

    # Only who is near the edge of a cell needs the points around it. Cells are cut into parts x parts sub-cells, no
    # narrower than the margin: HEALPix cells are nowhere narrower than 0.67 of the root of their area.
    width_arcsec = np.degrees(np.sqrt(np.pi / 3) / scheme.nside) * 3600
    order = max(0, int(np.floor(np.log2(0.6 * width_arcsec / scheme.margin_arcsec))))
    parts = 2**order
    sub_cells = _cells(ra, dec, scheme.nside * parts)
    sides = _side_of_cells(sub_cells >> (2 * order), scheme)
    column, row = np.zeros_like(sub_cells), np.zeros_like(sub_cells)
    for bit in range(order):
        column |= (sub_cells >> bit) & (1 << bit)
        row |= (sub_cells >> (bit + 1)) & (1 << bit)
    at_edge = np.flatnonzero((column % (parts - 1 or 1) == 0) | (row % (parts - 1 or 1) == 0))
    own, is_border = sides[at_edge], np.zeros(at_edge.size, bool)
    for points in _around(ra[at_edge], dec[at_edge], scheme):
        x, y, z = points.T
        near = np.asarray(hpgeom.vector_to_pixel(scheme.nside, x, y, z, nest=True), np.int64)
        is_border |= _side_of_cells(near, scheme) != own
    sides[at_edge[is_border]] = len(SIDES)
    return sides


def _around(ra: Vectors, dec: Vectors, scheme: SplitScheme) -> Generator[Vectors]:
    """For each of the scheme's points, its unit vector at each position, shape (galaxy, 3)."""
    longitude = np.radians(ra)
    centre = _vectors(ra, dec)
    east = np.stack([-np.sin(longitude), np.cos(longitude), np.zeros_like(longitude)], axis=1)
    north = np.cross(centre, east)
    margin = np.radians(scheme.margin_arcsec / 3600)
    for angle in np.arange(scheme.n_points) * 2 * np.pi / scheme.n_points:
        yield centre * np.cos(margin) + (north * np.cos(angle) + east * np.sin(angle)) * np.sin(margin)
