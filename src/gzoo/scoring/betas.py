"""Quantiles of Beta distributions and of mixtures of them, for a hundred million at a time."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage
from scipy.optimize import elementwise
from scipy.special import betainc, betaincinv

from gzoo.trees.tree import FloatArray

# The table's range, in log a and log b, and its step. Where both are below SMALL nearly all probability lies at 0 and
# at 1, the quantile jumps between them, and no table will do.
LOG_MIN, LOG_MAX, STEP = float(np.log(1e-7)), float(np.log(2e7)), 0.125
SMALL = 0.25
TOLERANCE = {"xatol": 1e-6, "xrtol": 0.0, "fatol": 1e-4, "frtol": 0.0}
MAX_STEPS = 60


def quantile(a: FloatArray, b: FloatArray, q: float) -> FloatArray:
    """The quantile `q` of Beta(a, b), by a table: to 1e-4 of what `scipy.special.betaincinv` says, ten times as fast.

    The table holds the angle asin sqrt x, as a distance from that of the mean in units of its standard deviation:
    a smooth function of log a and log b, for which cubic splines do.

    Args:
        a: Above 0.
        b: Above 0, same shape.
        q: Between 0 and 1.

    >>> import numpy as np
    >>> quantile(np.array([1.0, 30.0]), np.array([1.0, 10.0]), 0.05).round(4)
    array([0.05  , 0.6318])
    """
    log_a, log_b = np.log(a).ravel(), np.log(b).ravel()
    places = (np.stack([log_a, log_b]) - LOG_MIN) / STEP
    distance = ndimage.map_coordinates(_table(q), places, order=3, prefilter=False, mode="nearest").reshape(a.shape)
    angle = np.arctan2(np.sqrt(a), np.sqrt(b)) + distance / (2 * np.sqrt(a + b + 1))
    found = np.sin(np.clip(angle, 0, np.pi / 2)) ** 2
    least, most = np.minimum(a, b), np.maximum(a, b)
    outside = (most < SMALL) | (most > np.exp(LOG_MAX)) | (least < np.exp(LOG_MIN))
    if outside.any():
        found[outside] = betaincinv(a[outside], b[outside], q)
    return found


@cache
def _table(q: float) -> FloatArray:
    log = LOG_MIN + STEP * np.arange(int(np.ceil((LOG_MAX - LOG_MIN) / STEP)) + 1)
    a, b = np.exp(log)[:, None], np.exp(log)[None, :]
    # 1 - x by itself, for near 1 it has digits that x has not
    angle = np.arctan2(np.sqrt(betaincinv(a, b, q)), np.sqrt(betaincinv(b, a, 1 - q)))
    distance = (angle - np.arctan2(np.sqrt(a), np.sqrt(b))) * 2 * np.sqrt(a + b + 1)
    return ndimage.spline_filter(distance, order=3, mode="nearest")


def mixture_quantile(weights: FloatArray, a: FloatArray, b: FloatArray, q: float) -> FloatArray:
    """The quantile `q` of mixtures of Beta distributions: where the cumulated probability is `q`, to 1e-4.

    Args:
        weights: Of the members, shape (member, ...); their sum is 1.
        a: Same shape.
        b: Same shape.
        q: Between 0 and 1.

    Returns:
        Shape (...).

    >>> import numpy as np
    >>> weights, a, b = np.full((2, 1), 0.5), np.array([[1.0], [30.0]]), np.array([[30.0], [1.0]])
    >>> mixture_quantile(weights, a, b, 0.5).round(2), mixture_quantile(weights, a, b, 0.25).round(3)
    (array([0.5]), array([0.023]))
    """
    each = np.stack([quantile(*member, q) for member in zip(a, b, strict=True)])
    if len(each) == 1:
        return each[0]
    counts = weights > 1e-9
    low = np.where(counts, each, 1.0).min(axis=0)  # the quantile lies between those of the members
    high = np.where(counts, each, 0.0).max(axis=0)
    found = (low + high) / 2
    open_ = high - low > TOLERANCE["xatol"]
    if not open_.any():
        return found
    n = len(weights)

    def excess(x: FloatArray, *parts: FloatArray) -> FloatArray:
        total = -q * np.ones_like(x)
        for weight, one, other in zip(parts[:n], parts[n : 2 * n], parts[2 * n :], strict=True):
            total += weight * betainc(one, other, x)
        return total

    parts = [part[open_] for parts in (weights, a, b) for part in parts]
    # a little wider, for the ends are a table's
    ends = np.clip(low[open_] - 1e-5, 0, 1), np.clip(high[open_] + 1e-5, 0, 1)
    solved = elementwise.find_root(excess, ends, args=tuple(parts), tolerances=TOLERANCE, maxiter=MAX_STEPS)
    found[open_] = np.where(solved.success, solved.x, found[open_])
    return found
