"""Which side of the split a galaxy is on, from its identifier alone.

The scheme is named and versioned: the same identifier is on the same side in every build, on every machine, whatever
galaxies are added. Scheme `id-1`: 70 % train, 10 % validation, 20 % test.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

SCHEME = "id-1"
PUBLISHED = "published"
"""What stands for a scheme where a dataset keeps the splits that others gave it."""
WITHOUT_VALIDATION = "-train-test"
"""How the name of a scheme goes on where its validation split has joined train."""
TRAIN_FRACTION, VALIDATION_FRACTION = 0.7, 0.1
# where a published dataset has no validation split, this share of its train split is held out
HELD_OUT_FRACTION = 0.125


def place(id_str: str, scheme: str = SCHEME) -> float:
    """A number in [0, 1) that is spread evenly over identifiers.

    >>> place("57314") == place("57314") != place("57315")
    True
    """
    return int.from_bytes(hashlib.sha256(f"gzoo {scheme} {id_str}".encode()).digest()[:7], "big") / 2**56


def split_of(id_str: str) -> str:
    """The split of a galaxy: "train", "validation" or "test".

    >>> split_of("57314")
    'train'
    """
    return str(split_at(np.array([place(id_str)]))[0])


def split_at(places: npt.NDArray[np.float64]) -> npt.NDArray[np.str_]:
    """The split of each place, shape (galaxy,)."""
    names = np.array(["train", "validation", "test"])
    return names[np.searchsorted([TRAIN_FRACTION, TRAIN_FRACTION + VALIDATION_FRACTION], places, side="right")]


def is_held_out(id_str: str) -> bool:
    """Whether a galaxy of a train split without a validation split beside it is held out for validation."""
    return place(id_str, "held-out-1") < HELD_OUT_FRACTION
