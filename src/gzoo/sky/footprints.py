"""What positions of several datasets say together: the same place over and over, or no common part of the sky."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import hpgeom
import numpy as np
import polars as pl

from gzoo.sky.coordinates import (
    ARCSEC,
    FloatArray,
    IntArray,
    cells,
    checked_positions,
    chunks,
    is_position,
    unit_vectors,
)
from gzoo.sky.positions import read_positions

MANY_IDENTICAL = 0.01
"""Fraction of rows that share their exact position with another row, from which on a dataset is doubtful."""
MIN_PAIRS = 3
"""Positions that must coincide before a disguise is suspected."""
MIN_SAMPLED, MAX_SAMPLED = 10_000, 100_000
"""Of more positions a sample is looked at first, in which a hundredth of the fewer would give dozens of pairs."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """The positions of a dataset, to be compared with those of others.

    Attributes:
        name: The dataset, for messages.
        ra: Right ascension in degrees; NaN where unknown, shape (row,).
        dec: Declination in degrees, shape (row,).
        campaign: Name of the campaign of each row, if there are several.
    """

    name: str
    ra: FloatArray
    dec: FloatArray
    campaign: pl.Series | None = None

    @property
    def known(self) -> tuple[FloatArray, FloatArray]:
        """The positions that are known."""
        is_known = is_position(self.ra, self.dec)
        return self.ra[is_known], self.dec[is_known]


def read_datasets(
    names: Sequence[str],
    number: IntArray,
    ra: FloatArray,
    dec: FloatArray,
    campaign: pl.Series,
    *,
    allow_bad: bool = False,
) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
    """Return the positions of several datasets as `read_positions` reads each, and everything doubtful about them.

    Args:
        names: The datasets, for messages.
        number: Which dataset each row is of, shape (row,).
        ra: Right ascension, shape (row,).
        dec: Declination, shape (row,).
        campaign: Name of the campaign of each row, because a merged dataset has a galaxy once in each.
        allow_bad: Whether to go on with any number of positions that cannot be used.

    Returns:
        Right ascension and declination in degrees, NaN where unknown; and the warnings.

    Raises:
        TableError: More than a tenth of a dataset's positions cannot be used, and `allow_bad` is False.
    """
    read_ra, read_dec = np.full(len(ra), np.nan), np.full(len(ra), np.nan)
    warned: list[str] = []
    footprints: list[Footprint] = []
    for i, name in enumerate(names):
        rows = np.flatnonzero(number == i)
        found = read_positions(ra[rows], dec[rows], source=f"'{name}'", allow_bad=allow_bad)
        read_ra[rows], read_dec[rows] = found.ra, found.dec
        warned += found.warnings
        footprints.append(Footprint(name, found.ra, found.dec, campaign.gather(rows)))
    return read_ra, read_dec, (*warned, *compared_footprints(footprints))


def compared_footprints(datasets: Sequence[Footprint]) -> tuple[str, ...]:
    """Return warnings of datasets that cannot be compared by position: identical positions, no common part of the sky.

    Where two datasets share no part of the sky, or hardly any galaxy, but would share many if one of them had its
    columns exchanged, or were in radians or hours, the warning says so.

    Args:
        datasets: The datasets.

    >>> one = Footprint("one", np.array([10.0, 11.0]), np.array([1.0, 2.0]))
    >>> compared_footprints([one, Footprint("other", np.array([200.0, 201.0]), np.array([1.0, 2.0]))])
    ("The positions of 'one' and 'other' are nowhere near each other, so no galaxy can be matched.",)
    """
    found: list[str] = []
    for one in datasets:
        rows = pl.DataFrame({"ra": one.ra, "dec": one.dec})
        if one.campaign is not None:
            rows = rows.with_columns(one.campaign.alias("campaign"))
        rows = rows.filter(pl.Series(is_position(one.ra, one.dec)))
        _, times = np.unique(rows.hash_rows().to_numpy(), return_counts=True)
        n = int(times[times > 1].sum())
        if n > max(2, MANY_IDENTICAL * rows.height):
            found.append(
                f"{n:,} of {rows.height:,} positions of '{one.name}' are shared exactly with another of its rows: one "
                "galaxy several times, or a placeholder."
            )
    for i, one in enumerate(datasets):
        for other in datasets[i + 1 :]:
            found += _compared(one, other)
    return tuple(found)


def _compared(one: Footprint, other: Footprint) -> list[str]:
    ends = one.known, other.known
    n_fewer = min(len(ends[0][0]), len(ends[1][0]))
    if not n_fewer:
        return []
    for name, changed in _DISGUISES.items():
        for (first, known), (second, others) in (
            ((one, ends[0]), (other, ends[1])),
            ((other, ends[1]), (one, ends[0])),
        ):
            # a sample that would have many of the pairs shows whether it is worth while to look at all
            step = max(1, min(n_fewer // MIN_SAMPLED, len(known[0]) // MAX_SAMPLED))
            if not is_position(*changed(known[0][::step], known[1][::step])).all():
                continue
            if step > 1 and _n_near(changed(known[0][::step], known[1][::step]), others) * step < 0.005 * n_fewer:
                continue
            ra, dec = changed(*known)
            if not is_position(ra, dec).all():
                continue
            n, n_now = _n_near((ra, dec), others), _n_near(known, others)
            if n >= MIN_PAIRS and n > 10 * n_now and n > 0.01 * n_fewer:
                return [
                    f"{n:,} positions of '{first.name}' would be positions of '{second.name}' if {name}; as they are, "
                    f"{n_now:,} are."
                ]
    if _share_no_cell(*ends):
        return [
            f"The positions of '{one.name}' and '{other.name}' are nowhere near each other, so no galaxy can be "
            "matched."
        ]
    return []


_DISGUISES: Mapping[str, Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]] = {
    "ra and dec were exchanged": lambda ra, dec: (dec, np.where(ra > 180, ra - 360, ra)),
    "they were in radians": lambda ra, dec: (np.degrees(np.where(ra > 180, ra - 360, ra)), np.degrees(dec)),
    "ra were in hours": lambda ra, dec: (np.where(ra > 180, ra - 360, ra) * 15, dec),
}
Ends = tuple[FloatArray, FloatArray]


def _n_near(one: Ends, other: Ends) -> int:
    """Return the number of positions with one of the others within 2 arcsec."""
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

    tree = cKDTree(unit_vectors(*checked_positions(*other)), balanced_tree=False, compact_nodes=False)
    n = 0
    for part in chunks(len(one[0])):
        near, _ = tree.query(
            unit_vectors(*checked_positions(one[0][part], one[1][part])), distance_upper_bound=2 * ARCSEC
        )
        n += int(np.isfinite(near).sum())
    return n


def _share_no_cell(one: Ends, other: Ends, nside: int = 16) -> bool:
    """Return whether no position is in a cell of the other dataset or beside one; cells are 3.7 degrees wide."""
    first, second = np.unique(cells(*one, nside)), np.unique(cells(*other, nside))
    around = np.concatenate([first, hpgeom.neighbors(nside, first).ravel()])
    return not np.isin(around, second).any()
