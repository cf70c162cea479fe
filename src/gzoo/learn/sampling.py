"""Which galaxies an epoch shows, and in which order."""

from __future__ import annotations

import numpy as np
import polars as pl

from gzoo.trees.tree import IntArray

SAMPLINGS = ("proportional", "balanced")


def groups_of(keys: pl.DataFrame) -> IntArray:
    """Return the number of each galaxy's campaign, counted from 0 in the order of their names.

    Args:
        keys: `dataset_name` and `id_str` of the galaxies.
    """
    return keys["dataset_name"].rank("dense").to_numpy().astype(np.int64) - 1


def balanced_order(groups: IntArray, generator: np.random.Generator) -> IntArray:
    """Return as many places as there are galaxies, shuffled, with equally many of each group.

    The galaxies of a group come equally often, to within one time: a small group is repeated as a whole, and of a large
    one some are left out until another epoch.

    Args:
        groups: Group of each galaxy, counted from 0.
        generator: Source of chance.

    >>> order = balanced_order(np.array([0, 0, 0, 0, 1, 1]), np.random.default_rng(0))
    >>> np.bincount(np.array([0, 0, 0, 0, 1, 1])[order]).tolist()
    [3, 3]
    """
    n, n_groups = len(groups), int(groups.max()) + 1
    ends = np.arange(n_groups + 1) * n // n_groups
    parts: list[IntArray] = []
    for group, n_wanted in enumerate(np.diff(ends).tolist()):
        own = np.flatnonzero(groups == group)
        n_whole, n_rest = divmod(n_wanted, len(own))
        parts += [np.tile(own, n_whole), generator.permutation(own)[:n_rest]]
    return generator.permutation(np.concatenate(parts))
