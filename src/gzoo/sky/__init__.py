"""Positions on the sky: splits, cross-matching and HEALPix cells.

- `gzoo.sky.splits`: the split of a position (scheme `gzoo-1`, described there in full).
- `gzoo.sky.matching`: which positions belong to one galaxy.
- `gzoo.sky.coordinates`: checks, cells and separations.
- `gzoo.sky.identifier_split`: the split of a galaxy without a position.
"""

from gzoo.sky.coordinates import BoolArray, FloatArray, IntArray, cells, is_position, separation_arcsec
from gzoo.sky.matching import MAX_PAIRS, Pairs, same_galaxies
from gzoo.sky.splits import BORDER, SCHEME, SCHEMES, SPLITS, Scheme, split

__all__ = [
    "BORDER", "MAX_PAIRS", "SCHEME", "SCHEMES", "SPLITS", "BoolArray", "FloatArray", "IntArray", "Pairs", "Scheme",
    "cells", "is_position", "same_galaxies", "separation_arcsec", "split",
]  # fmt: skip
