"""A query by examples: the direction in feature space that leads from random galaxies to the ones that are wanted.

A logistic regression on the leading principal components tells the examples from random other galaxies and, where there
are any, from galaxies that are not wanted. Wanted galaxies are rare, so few of the random ones are wanted too. There
are more components than examples, so the penalty is strong. Each component is divided by the fourth root of its
variance: a rare kind may differ from the others along a component that varies little, and the last ones are noise.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from gzoo.embeddings.space import Space
from gzoo.trees.tree import FloatArray, IntArray

N_OTHERS = 1000
"""Random galaxies that examples are compared with."""
N_COMPONENTS = 100
"""Leading principal components that are compared."""
PENALTY = 0.1
"""Weight of half the squared length of the direction, per component, where each class has a weight of 1 in the loss."""
UNLIKE = 0.01
"""Weight of each galaxy that is not wanted, where all others together have a weight of 1."""


def direction(space: Space, like: FloatArray, unlike: FloatArray, known: IntArray, seed: int) -> FloatArray:
    """Return the weight of each standardised feature, shape (feature,): wanted galaxies have a high weighted sum.

    Args:
        space: All galaxies.
        like: Standardised features of the examples, shape (example, feature).
        unlike: The same of galaxies that are not wanted; may be empty.
        known: Rows of examples and unwanted galaxies, which are not drawn as others.
        seed: Seed of the draw of the others.
    """
    variances, directions = space.principal_components
    n = min(N_COMPONENTS, int((variances > 1e-6 * variances[0]).sum()))
    axes = directions[:n] / variances[:n, None] ** 0.25
    n_drawn = min(N_OTHERS + len(known), len(space))
    drawn = np.random.default_rng(seed).choice(len(space), n_drawn, replace=False)
    others = space.points(np.sort(drawn[~np.isin(drawn, known)][:N_OTHERS]))
    groups = [(like, 1.0, 1 / len(like)), (unlike, -1.0, UNLIKE), (others, -1.0, 1 / max(len(others), 1))]
    points = np.concatenate([group for group, _, _ in groups])
    sign = np.concatenate([np.full(len(group), sign) for group, sign, _ in groups])
    weight = np.concatenate([np.full(len(group), each) for group, _, each in groups])
    return axes.T @ _solve(points @ axes.T / n**0.5, sign, weight)


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
