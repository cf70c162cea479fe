"""Galaxies as points in the space of their standardised features: exact nearest neighbours, by blocks.

Each feature is standardised over all galaxies of a file, because the features of an encoder differ in scale and most
of them are positive: without it, all galaxies would lie in nearly the same direction.

The vectors stay as they are, in float16. A search converts a block of them at a time and multiplies it in float32, with
a bound on the rounding; galaxies that the bound cannot tell apart are compared again in float64. So a result is that of
float64 arithmetic, in a third of the time and an eighth of the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError
from gzoo.files import Progress
from gzoo.trees.tree import FloatArray, IntArray

ROWS = 1024  # of a block: it stays in the cache of a core
QUERIES = 16  # that are searched for at once
SAMPLE = 50_000  # galaxies whose principal components stand for those of all
_ROUNDING = 2.0**-24  # relative, of a float32
_MIN_STD = 1e-3  # of the largest standard deviation: less is noise of float16


@dataclass(frozen=True, slots=True)
class Found:
    """Galaxies that a search found, best first.

    Attributes:
        rows: Their rows.
        scores: Their scores.
    """

    rows: IntArray
    scores: FloatArray


class Space:
    """The galaxies of a set of embeddings as points.

    Attributes:
        vectors: Vectors, float16, shape (galaxy, feature).
        mean: Mean of each feature.
        scale: What each feature is multiplied by after the mean is subtracted: 0 for those that do not vary.
    """

    def __init__(self, vectors: npt.NDArray[np.float16]) -> None:
        """Compute mean and scale of each feature.

        Args:
            vectors: Finite vectors, shape (galaxy, feature), at least one.
        """
        self.vectors = vectors
        n, width = vectors.shape
        first = vectors[0].astype(np.float64)  # as a shift, so that squares do not cancel
        total, squares = np.zeros(width), np.zeros(width)
        self._norms = np.empty(n, np.float32)  # of the vectors as stored, for the bounds on rounding
        for rows, block in self._blocks():
            self._norms[rows] = np.sqrt(np.einsum("ij,ij->i", block, block))
            moved = block - first.astype(np.float32)
            total += moved.sum(axis=0, dtype=np.float64)
            squares += np.einsum("ij,ij->j", moved, moved).astype(np.float64)
        self.mean: FloatArray = first + total / n
        std = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0))
        self.scale: FloatArray = np.divide(1, std, out=np.zeros(width), where=std > _MIN_STD * std.max(initial=0))

    def __len__(self) -> int:
        return len(self.vectors)

    def points(self, rows: IntArray | slice) -> FloatArray:
        """Return standardised features of galaxies, shape (galaxy, feature)."""
        return self.standardised(self.vectors[rows])

    def standardised(self, vectors: npt.NDArray[np.floating[Any]]) -> FloatArray:
        """Return standardised features of vectors of any galaxies, shape (galaxy, feature)."""
        return (vectors.astype(np.float64) - self.mean) * self.scale

    @cached_property
    def lengths(self) -> FloatArray:
        """Distance of each galaxy from the mean of all, shape (galaxy,)."""
        lengths = np.empty(len(self))
        for rows, block in self._blocks():
            points = (block - self.mean) * self.scale  # in float64, because differences of float32 may cancel
            lengths[rows] = np.sqrt(np.einsum("ij,ij->i", points, points))
        return lengths

    def most_alike(self, points: FloatArray, k: int, without: IntArray | None = None) -> list[Found]:
        """Return the galaxies most like each point: those of the largest cosine of the angle as seen from the mean.

        Args:
            points: Standardised features, shape (point, feature).
            k: Number of galaxies to return for each.
            without: Rows that are not returned.
        """
        lengths = np.linalg.norm(points, axis=1, keepdims=True)
        return self._best(
            np.divide(points, lengths, out=np.zeros_like(points), where=lengths > 0), k, without, "cosine"
        )

    def nearest(self, points: FloatArray, k: int, without: IntArray | None = None) -> list[Found]:
        """Return the galaxies nearest to each point, with their distances as scores; see `most_alike`."""
        return self._best(points, k, without, "distance")

    def highest(self, weights: FloatArray, k: int, without: IntArray | None = None) -> Found:
        """Return the galaxies with the highest weighted sum of standardised features.

        Args:
            weights: Weight of each feature, shape (feature,).
            k: Number of galaxies to return.
            without: Rows that are not returned.
        """
        return self._best(weights[None], k, without, "sum")[0]

    def neighbour_distances(self, rank: int, references: IntArray, progress: Progress | None = None) -> FloatArray:
        """Return the distance of each galaxy to its `rank`-th neighbour among some galaxies, shape (galaxy,).

        A galaxy is not its own neighbour.

        Args:
            rank: 1 for the nearest neighbour, at most the number of references less one.
            references: Rows of the galaxies that may be neighbours.
            progress: Function to call with (stage, galaxies done, galaxies in total).
        """
        if not 1 <= rank < len(references):
            raise InputError(f"rank must be from 1 to {len(references) - 1:,}, got {rank}.")
        others = self.points(references).astype(np.float32).T.copy()
        squares = np.einsum("ij,ij->j", others, others)
        column_of = np.full(len(self), -1)
        column_of[references] = np.arange(len(references))
        distances = np.empty(len(self))
        for rows, block in self._standard_blocks(ROWS // 2):
            apart = block @ others
            apart *= -2
            apart += squares
            own = column_of[rows]
            apart[np.flatnonzero(own >= 0), own[own >= 0]] = np.inf
            apart.partition(rank - 1, axis=1)
            squared = apart[:, rank - 1] + np.einsum("ij,ij->i", block, block)
            distances[rows] = np.sqrt(np.maximum(squared, 0))
            if progress:
                progress("Measuring distances", rows.stop, len(self))
        return distances

    @cached_property
    def principal_components(self) -> tuple[FloatArray, FloatArray]:
        """Variances along the principal components, the largest first, and directions, shape (component, feature).

        They are those of the standardised features; of more than 50,000 galaxies, of a random sample of so many.
        """
        variances, directions = np.linalg.eigh(self._covariance())
        chosen = directions[:, ::-1].T
        largest = np.abs(chosen).argmax(axis=1)  # eigenvectors have no sign of their own
        return variances[::-1], chosen * np.sign(chosen[np.arange(len(chosen)), largest])[:, None]

    def _covariance(self) -> FloatArray:
        """Return the covariance matrix of the standardised features, shape (feature, feature)."""
        if len(self) > SAMPLE:
            drawn = np.sort(np.random.default_rng(0).choice(len(self), SAMPLE, replace=False, shuffle=False))
            points = self.points(drawn).astype(np.float32)
            points -= points.mean(axis=0)
            return (points.T @ points).astype(np.float64) / SAMPLE
        total = np.zeros((len(self.mean), len(self.mean)))
        for _, block in self._standard_blocks():
            total += block.T @ block
        return total / len(self)

    def projected(self, directions: FloatArray) -> npt.NDArray[np.float32]:
        """Return the components of each galaxy along some directions, shape (galaxy, direction)."""
        return np.concatenate([block @ directions.T.astype(np.float32) for _, block in self._standard_blocks()])

    # --- search -------------------------------------------------------------------------------------------------------

    def _best(self, points: FloatArray, k: int, without: IntArray | None, by: str) -> list[Found]:
        excluded = np.unique(without) if without is not None else np.empty(0, np.int64)
        if not 1 <= k <= len(self) - len(excluded):
            raise InputError(f"k must be from 1 to {len(self) - len(excluded):,}, the number of galaxies, got {k}.")
        found: list[Found] = []
        for start in range(0, len(points), QUERIES):
            found += self._best_of_few(points[start : start + QUERIES], k, excluded, by)
        return found

    def _best_of_few(self, points: FloatArray, k: int, excluded: IntArray, by: str) -> list[Found]:
        """Return the best galaxies of each query.

        A score is a (w.x - w.m) + b, where x is the vector as stored, m the mean, and w the query in the units of the
        vectors; a and b depend on the galaxy. Only w.x is rounded to float32, by at most its bound.
        """
        weights = points * self.scale
        narrow = weights.astype(np.float32).T.copy()
        offset = weights @ self.mean
        size = np.linalg.norm(weights, axis=1) * (self.vectors.shape[1] + 4) * _ROUNDING
        scores, bounds = np.empty((len(points), len(self))), np.empty((len(points), len(self)), np.float32)
        for rows, block in self._blocks():
            product = (block @ narrow).T
            factor, term = self._factor_and_term(rows, by)
            scores[:, rows] = factor * (product - offset[:, None]) + term
            bounds[:, rows] = factor * self._norms[rows] * size[:, None] * (1 + 1e-3)
        scores[:, excluded] = -np.inf
        return [self._compared_again(points[i], scores[i], bounds[i], k, by) for i in range(len(points))]

    def _compared_again(
        self, point: FloatArray, scores: FloatArray, bounds: npt.NDArray[np.float32], k: int, by: str
    ) -> Found:
        """Return the best galaxies, of those that may be among them within the bounds, by float64 arithmetic."""
        least = np.partition(scores - bounds, len(scores) - k)[len(scores) - k]
        rows = np.flatnonzero(scores + bounds >= least)
        exact = np.concatenate(
            [_exact(self.points(rows[start : start + ROWS]), point, by) for start in range(0, len(rows), ROWS)]
        )
        order = np.lexsort((rows, -exact))[:k]
        return Found(rows[order], -exact[order] if by == "distance" else exact[order])

    def _factor_and_term(self, rows: slice, by: str) -> tuple[FloatArray | float, FloatArray | float]:
        if by == "sum":
            return 1.0, 0.0
        lengths = self.lengths[rows]
        if by == "cosine":
            return np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0), 0.0
        return 1.0, -(lengths**2) / 2

    def _standard_blocks(self, n: int = ROWS) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Yield blocks of standardised features in float32, each in the same memory."""
        mean, scale = self.mean.astype(np.float32), self.scale.astype(np.float32)
        for rows, block in self._blocks(n):
            np.subtract(block, mean, out=block)
            np.multiply(block, scale, out=block)
            yield rows, block

    def _blocks(self, n: int = ROWS) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Yield blocks of vectors in float32, each in the same memory."""
        memory = np.empty((min(n, len(self)), self.vectors.shape[1]), np.float32)
        for start in range(0, len(self), n):
            part = self.vectors[start : start + n]
            block = memory[: len(part)]
            _widen(part, block)
            yield slice(start, start + len(part)), block


def _exact(points: FloatArray, query: FloatArray, by: str) -> FloatArray:
    """Return scores by float64 arithmetic; of distances, the negative ones."""
    if by == "distance":
        return -np.sqrt(((points - query) ** 2).sum(axis=1))
    product = (points * query).sum(axis=1)
    if by == "sum":
        return product
    lengths = np.sqrt((points**2).sum(axis=1))
    return np.divide(product, lengths, out=np.zeros_like(product), where=lengths > 0)


def _widen(vectors: npt.NDArray[np.float16], out: npt.NDArray[np.float32]) -> None:
    """Convert finite numbers to float32 exactly, six times as fast as numpy.

    Sign, exponent and mantissa are moved to their places in a float32, whose exponents are then 112 too small.
    """
    bits = out.view(np.int32)
    np.copyto(bits, vectors.view(np.int16))  # which repeats the sign in the upper half
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, np.int32(-0x70002000), out=bits)
    np.multiply(out, np.float32(2.0**112), out=out)
