"""Splits that depend on a galaxy's identifier alone, for galaxies without a position.

The scheme has a name and a version: an identifier has the same split in every build, on every machine, whatever
galaxies are added. Scheme `id-1`: 70% train, 10% validation, 20% test.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

SCHEME = "id-1"
PUBLISHED = "published"
"""Name in place of a scheme where a dataset keeps its published splits."""
WITHOUT_VALIDATION = "-train-test"
"""Suffix of a scheme's name where the validation split was merged into train."""
TRAIN_FRACTION, VALIDATION_FRACTION = 0.7, 0.1
HELD_OUT_FRACTION = 0.125
"""Fraction of the train split that is held out where a published dataset lacks a validation split."""


def place(id_str: str, scheme: str = SCHEME) -> float:
    """Return a number in [0, 1) that is uniformly distributed over identifiers.

    >>> place("57314") == place("57314") != place("57315")
    True
    """
    return int.from_bytes(hashlib.sha256(f"gzoo {scheme} {id_str}".encode()).digest()[:7], "big") / 2**56


def split_of(id_str: str) -> str:
    """Return the split of a galaxy: "train", "validation" or "test".

    >>> split_of("57314")
    'train'
    """
    return str(split_at(np.array([place(id_str)]))[0])


def split_at(places: npt.NDArray[np.float64]) -> npt.NDArray[np.str_]:
    """Return the split of each number that `place` returned, shape (galaxy,)."""
    names = np.array(["train", "validation", "test"])
    return names[np.searchsorted([TRAIN_FRACTION, TRAIN_FRACTION + VALIDATION_FRACTION], places, side="right")]


def is_held_out(id_str: str) -> bool:
    """Return whether a galaxy of the train split is held out where a dataset lacks a validation split."""
    return place(id_str, "held-out-1") < HELD_OUT_FRACTION
