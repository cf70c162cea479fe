"""Positions on the sky: splits, cross-matching and HEALPix cells.

- `gzoo.sky.splits`: the split of a position (scheme `gzoo-1`, described there in full).
- `gzoo.sky.matching`: which positions belong to one galaxy.
- `gzoo.sky.positions`: the one reader of positions, for every kind of table.
- `gzoo.sky.footprints`: what positions of several datasets say together.
- `gzoo.sky.coordinates`: checks, cells and separations.
- `gzoo.sky.identifier_split`: the split of a galaxy without a position.
"""

from gzoo.sky.coordinates import BoolArray, FloatArray, IntArray, cells, is_position, separation_arcsec, shifted
from gzoo.sky.footprints import Footprint, compared_footprints, read_datasets
from gzoo.sky.matching import (
    MAX_PAIRS,
    RADIUS_ARCSEC,
    MutualBest,
    Pairs,
    check_radius,
    is_apart,
    is_near,
    mutual_best,
    pairs_between,
    same_galaxies,
)
from gzoo.sky.positions import Positions, read_positions
from gzoo.sky.splits import BORDER, SCHEME, SCHEMES, SPLITS, Scheme, split

__all__ = [
    "BORDER", "MAX_PAIRS", "RADIUS_ARCSEC", "SCHEME", "SCHEMES", "SPLITS", "BoolArray", "FloatArray", "Footprint",
    "IntArray", "MutualBest", "Pairs", "Positions", "Scheme", "cells", "check_radius", "compared_footprints",
    "is_apart", "is_near", "is_position", "mutual_best", "pairs_between", "read_datasets", "read_positions",
    "same_galaxies", "separation_arcsec", "shifted", "split",
]  # fmt: skip
