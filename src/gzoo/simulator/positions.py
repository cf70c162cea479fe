"""Positions of simulated galaxies: inside the campaign's footprint, and partly clustered.

A fifth of the galaxies belong to clusters that are a few arcminutes wide. Some have a neighbour within a few arcseconds
that is also in the sample. Splits, cross-matches and confidence intervals must be correct for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gzoo.trees.tree import FloatArray

_CLUSTERED_FRACTION = 0.2
_N_CLUSTERS = 30  # in each set of clusters
_GALAXIES_PER_SET_OF_CLUSTERS = 4096
_CLUSTER_RADIUS_ARCSEC = (20.0, 180.0)
_PAIRED_FRACTION = 0.06
_PAIR_ARCSEC = (1.5, 12.0)
_SCATTER_ARCSEC = 0.15
"""Standard deviation of one coordinate between two surveys; about 0.2 arcsec for both together."""


@dataclass(frozen=True, slots=True)
class Field:
    """A box on the sky, in degrees; `ra_high` may exceed 360."""

    ra_low: float
    ra_high: float
    dec_low: float
    dec_high: float

    @property
    def area(self) -> float:
        """Relative area, for comparison with other fields."""
        return (self.ra_high - self.ra_low) * float(np.diff(np.sin(np.radians([self.dec_low, self.dec_high])))[0])


# Boxes around the surveys' fields: sufficient for splits and cross-matches, but not the surveys' own masks.
_SLOAN = (Field(110.0, 260.0, -2.0, 65.0), Field(310.0, 419.0, -1.25, 1.25))
_LEGACY = (Field(100.0, 290.0, -10.0, 80.0), Field(300.0, 450.0, -60.0, 32.0))
_COSMOS = Field(149.4, 150.8, 1.5, 2.9)
_GOODS_NORTH, _GOODS_SOUTH = Field(188.9, 189.6, 62.1, 62.4), Field(53.0, 53.25, -27.95, -27.65)
_EGS = Field(213.9, 215.7, 52.1, 53.4)
_EUCLID_NORTH, _EUCLID_SOUTH = Field(264.0, 275.0, 63.5, 68.5), Field(56.0, 66.0, -51.0, -46.0)
_FIELDS: dict[str, tuple[Field, ...]] = {
    "gz2": _SLOAN,
    "gz_ferengi": _SLOAN,
    "gz_ukidss": (Field(120.0, 236.0, -2.0, 16.0), Field(310.0, 419.0, -1.25, 1.25)),
    "gz_desi": _LEGACY,
    "gz_rings": _LEGACY,
    "gz_hubble": (_COSMOS, _EGS, Field(52.8, 53.4, -28.05, -27.55), _GOODS_NORTH, _GOODS_SOUTH),
    "gz_candels": (Field(149.95, 150.3, 2.15, 2.55), _GOODS_SOUTH, Field(34.2, 34.6, -5.3, -5.1)),
    "gz_jwst": (Field(214.6, 215.2, 52.65, 53.1),),
    "gz_jwst_cosmos": (Field(149.7, 150.5, 1.8, 2.6),),
    "gz_h2o": (_EUCLID_NORTH,),
    "gz_euclid": (_EUCLID_NORTH, _EUCLID_SOUTH, Field(50.5, 55.0, -30.0, -26.0)),
}


def draw_positions(campaign: str, key: list[int], block: int, size: int) -> tuple[FloatArray, FloatArray]:
    """Return the right ascension and declination of the galaxies of one block.

    Args:
        campaign: Campaign whose footprint is used.
        key: Seeds of the random numbers.
        block: Number of the block; its first galaxy is `block * size`.
        size: Number of galaxies in a block, even.

    Returns:
        Degrees, each of shape (galaxy,).

    >>> ra, dec = draw_positions("gz_jwst_cosmos", [0], 0, 64)
    >>> bool((abs(dec - 2.2) < 0.5).all())
    True
    """
    fields = _FIELDS.get(campaign, _SLOAN)
    rng = np.random.default_rng([*key, block])
    ra, dec = _spread(fields, rng, size)

    group = block * size // _GALAXIES_PER_SET_OF_CLUSTERS
    cluster_rng = np.random.default_rng([*key, group, 1])  # longer than the key of a block, so never equal to one
    centre_ra, centre_dec = _spread(fields, cluster_rng, _N_CLUSTERS)
    widths = cluster_rng.uniform(*_CLUSTER_RADIUS_ARCSEC, _N_CLUSTERS)
    is_clustered = rng.random(size) < _CLUSTERED_FRACTION
    cluster = (rng.random(size) ** 1.5 * _N_CLUSTERS).astype(np.int64)  # the first clusters are the richest
    east, north = rng.normal(size=(2, size)) * widths[cluster]
    in_ra, in_dec = shifted(centre_ra[cluster], centre_dec[cluster], east, north)
    ra, dec = np.where(is_clustered, in_ra, ra), np.where(is_clustered, in_dec, dec)

    is_paired = (rng.random(size) < _PAIRED_FRACTION) & (np.arange(size) % 2 == 1)  # with the galaxy before it
    distance, angle = rng.uniform(*_PAIR_ARCSEC, size), rng.uniform(0.0, 2 * np.pi, size)
    near_ra, near_dec = shifted(np.roll(ra, 1), np.roll(dec, 1), distance * np.cos(angle), distance * np.sin(angle))
    return np.where(is_paired, near_ra, ra), np.where(is_paired, near_dec, dec)


def scattered(ra: FloatArray, dec: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return positions as another survey measures them, about 0.2 arcsec away; degrees, shape (galaxy,)."""
    east, north = rng.normal(0.0, _SCATTER_ARCSEC, (2, len(ra)))
    return shifted(ra, dec, east, north)


def shifted(
    ra: FloatArray, dec: FloatArray, east_arcsec: FloatArray, north_arcsec: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return positions shifted by a few arcminutes at most, not near a pole; degrees, shape (galaxy,)."""
    return (ra + east_arcsec / 3600 / np.cos(np.radians(dec))) % 360, np.clip(dec + north_arcsec / 3600, -90, 90)


def _spread(fields: tuple[Field, ...], rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    """Return positions that are uniform on the sphere (not in declination) within the fields."""
    areas = np.array([field.area for field in fields])
    which = np.searchsorted(np.cumsum(areas / areas.sum())[:-1], rng.random(n), side="right")
    box = np.array([(field.ra_low, field.ra_high, field.dec_low, field.dec_high) for field in fields])[which].T
    low, high = np.sin(np.radians(box[2:]))
    ra = (box[0] + (box[1] - box[0]) * rng.random(n)) % 360
    return ra, np.degrees(np.arcsin(low + (high - low) * rng.random(n)))
