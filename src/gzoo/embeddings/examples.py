"""A query by examples: the direction in feature space that leads from random galaxies to the ones that are wanted.

A logistic regression on standardised features tells the examples from random other galaxies and, where there are any,
from galaxies that are not wanted. Wanted galaxies are rare, so few of the random ones are wanted too. The penalty is
strong, because there are more features than examples.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from gzoo.embeddings.space import Space
from gzoo.trees.tree import FloatArray, IntArray

N_OTHERS = 1000
"""Random galaxies that examples are compared with."""
PENALTY = 0.3
"""Weight of half the squared length of the direction, per feature, where each class has a weight of 1 in the loss."""
UNLIKE = 0.5
"""Fraction of the weight of all that is not wanted that the galaxies named by the user have; others have the rest."""


def direction(space: Space, like: FloatArray, unlike: FloatArray, known: IntArray, seed: int) -> FloatArray:
    """Return the weight of each standardised feature, shape (feature,): wanted galaxies have a high weighted sum.

    Args:
        space: All galaxies.
        like: Standardised features of the examples, shape (example, feature).
        unlike: The same of galaxies that are not wanted; may be empty.
        known: Rows of examples and unwanted galaxies, which are not drawn as others.
        seed: Seed of the draw of the others.
    """
    drawn = np.random.default_rng(seed).choice(len(space), min(N_OTHERS + len(known), len(space)), replace=False)
    others = space.points(np.sort(drawn[~np.isin(drawn, known)][:N_OTHERS]))
    groups = [(like, 1.0, 1.0), (unlike, -1.0, UNLIKE), (others, -1.0, 1 - UNLIKE if len(unlike) else 1.0)]
    points = np.concatenate([group for group, _, _ in groups])
    sign = np.concatenate([np.full(len(group), sign) for group, sign, _ in groups])
    weight = np.concatenate([np.full(len(group), total / max(len(group), 1)) for group, _, total in groups])
    return _solve(points / points.shape[1] ** 0.5, sign, weight)


def _solve(points: FloatArray, sign: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the weights of a logistic regression with an intercept, which is not penalised."""

    def loss(found: FloatArray) -> tuple[float, FloatArray]:
        slope, intercept = found[:-1], found[-1]
        margin = sign * (points @ slope + intercept)
        pull = -weight * sign * expit(-margin)
        value = -(weight * log_expit(margin)).sum() + 0.5 * PENALTY * slope @ slope
        return value, np.append(points.T @ pull + PENALTY * slope, pull.sum())

    start = np.zeros(points.shape[1] + 1)
    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x[:-1]
