"""Positions on the sky: checks, unit vectors, HEALPix cells and separations."""

from __future__ import annotations

from collections.abc import Iterator

import hpgeom
import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

ARCSEC = np.pi / 180 / 3600
"""One arcsecond in radians."""
_CHUNK = 1 << 18
"""Positions processed at once, which bounds the memory for intermediate arrays."""


def is_position(ra: npt.ArrayLike, dec: npt.ArrayLike) -> BoolArray:
    """Return whether each pair is a valid position: numbers, ra from -180 to 360, dec from -90 to 90 degrees.

    >>> is_position([0, 360, float("nan"), 10], [0, -90, 0, 91]).tolist()
    [True, True, False, False]
    """
    longitude, latitude = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    return (longitude >= -180) & (longitude <= 360) & (np.abs(latitude) <= 90)


def checked_positions(ra: npt.ArrayLike, dec: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return valid positions with 0 <= ra < 360, and ra = 0 at the poles, where all right ascensions are the same.

    Raises:
        InputError: The shapes differ, or a position is out of range.
    """
    longitude, latitude = (np.atleast_1d(np.asarray(one, np.float64)) for one in (ra, dec))
    if longitude.shape != latitude.shape or longitude.ndim != 1:
        raise InputError(
            f"ra has shape {longitude.shape} and dec has shape {latitude.shape}.",
            "one value of each per galaxy, shape (galaxy,).",
            "Pass two arrays of the same length.",
        )
    invalid = np.flatnonzero(~is_position(longitude, latitude))
    if len(invalid):
        i = int(invalid[0])
        raise InputError(
            f"Position {i} is out of range: ra {longitude[i]:g}, dec {latitude[i]:g} "
            f"(out of range: {len(invalid):,} of {len(longitude):,}).",
            "ra from -180 to 360 degrees and dec from -90 to 90 degrees.",
            "Correct the positions, or select the valid ones with `gzoo.sky.is_position`.",
        )
    longitude = np.where(longitude < 0, longitude + 360, longitude)
    longitude[(longitude == 360) | (np.abs(latitude) == 90)] = 0
    return longitude, latitude


def unit_vectors(ra: FloatArray, dec: FloatArray) -> FloatArray:
    """Return unit vectors of positions in degrees, shape `(galaxy, 3)`."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    vectors = np.empty((len(ra), 3))
    vectors[:, 0] = vectors[:, 1] = np.cos(latitude)
    vectors[:, 0] *= np.cos(longitude)
    vectors[:, 1] *= np.sin(longitude)
    vectors[:, 2] = np.sin(latitude)
    return vectors


def chunks(n: int) -> Iterator[slice]:
    """Return slices that cover `n` positions, each small enough to process at once."""
    return (slice(begin, begin + _CHUNK) for begin in range(0, n, _CHUNK))


def cells(ra: npt.ArrayLike, dec: npt.ArrayLike, nside: int = 64) -> IntArray:
    """Return the HEALPix cell (nested numbering) that contains each position, shape `(galaxy,)`.

    Args:
        ra: Right ascension in degrees, -180 to 360.
        dec: Declination in degrees.
        nside: Resolution, a power of two. The default of 64 divides the sky into 49,152 cells of 0.92 degrees;
            doubling it halves their width.

    Raises:
        InputError: A position is out of range, or nside is not a power of two.

    >>> cells([0, 360, 10], [90, 90, 0]).tolist()
    [4095, 4095, 18069]
    """
    if nside < 1 or nside & (nside - 1) or nside > 1 << 29:
        raise InputError(f"nside must be a power of two up to 2**29, got {nside}.", "", "Pass 64, for example.")
    return hpgeom.angle_to_pixel(nside, *checked_positions(ra, dec))


def separation_arcsec(
    ra: npt.ArrayLike, dec: npt.ArrayLike, other_ra: npt.ArrayLike, other_dec: npt.ArrayLike
) -> FloatArray:
    """Return the angle between positions, pair by pair, in arcsec, shape `(galaxy,)`.

    It is accurate for the smallest and the largest angles.

    Raises:
        InputError: A position is out of range.

    >>> separation_arcsec([0, 0], [90, 0], [180, 359], [90, 0]).round(9).tolist()
    [0.0, 3600.0]
    """
    return angle_arcsec(*(unit_vectors(*checked_positions(*one)) for one in ((ra, dec), (other_ra, other_dec))))


def shifted(ra: FloatArray, dec: FloatArray, bearing: float, distance: float) -> tuple[FloatArray, FloatArray]:
    """Return positions at a distance from others, in degrees.

    Args:
        ra: Right ascension in degrees.
        dec: Declination in degrees.
        bearing: Direction in degrees, from north to east.
        distance: Distance in degrees.

    >>> [one.round(6).tolist() for one in shifted(np.array([10.0]), np.array([0.0]), 90.0, 1.0)]
    [[11.0], [0.0]]
    """
    latitude, angle, arc = np.radians(dec), np.radians(bearing), np.radians(distance)
    sine = np.sin(latitude) * np.cos(arc) + np.cos(latitude) * np.sin(arc) * np.cos(angle)
    across = np.arctan2(
        np.sin(angle) * np.sin(arc) * np.cos(latitude), np.cos(arc) - np.sin(latitude) * np.clip(sine, -1, 1)
    )
    return (ra + np.degrees(across)) % 360, np.degrees(np.arcsin(np.clip(sine, -1, 1)))


def angle_arcsec(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return the angle between unit vectors of shape `(galaxy, 3)`, in arcsec."""
    half = np.linalg.norm(one - other, axis=-1), np.linalg.norm(one + other, axis=-1)
    return 2 * np.arctan2(*half) / ARCSEC
