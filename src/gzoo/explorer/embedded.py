"""Embeddings of the galaxies of a page: nearest neighbours, places on a map, and which of them are inside a shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.dataset.schema import KEY
from gzoo.embeddings.coordinates import MIN_GALAXIES, coordinates_of
from gzoo.embeddings.space import Space
from gzoo.embeddings.table import Embeddings, open_embeddings
from gzoo.errors import InputError, TableError
from gzoo.explorer.labels import BoolArray, Labels, Rows
from gzoo.explorer.measures import Kept
from gzoo.files import Progress

STEPS = 1000
"""Places in a shape are integers from 0 to this, which keeps addresses short."""
MAX_CORNERS = 200
MARGIN = 0.03  # of the map, on each side
TAIL, BEYOND = 0.02, 0.4
"""Galaxies that are far from all others are drawn on the edge, so that they do not squash the rest: an axis ends at 0.4
times the range of the inner 96% of galaxies beyond them."""
UNKNOWN = 65_535
"""Place of a galaxy without a vector."""
KEPT_SHAPES = 12


@dataclass(frozen=True)
class Embedded:
    """Embeddings of galaxies of a dataset.

    Attributes:
        found: The embedding file.
        row: Row of each vector in the labels, -1 for galaxies that are not in the dataset, shape (vector,).
        n: Number of galaxies in the labels.
    """

    found: Embeddings
    row: Rows
    n: int

    @cached_property
    def space(self) -> Space:
        """All vectors of the file as points."""
        return Space(self.found.vectors)

    @cached_property
    def vector_of(self) -> Rows:
        """Vector of each row of the labels, -1 for galaxies without one."""
        place = np.full(self.n, -1)
        known = np.flatnonzero(self.row >= 0)
        place[self.row[known]] = known
        return place

    @cached_property
    def outside(self) -> npt.NDArray[np.int64]:
        """Vectors of galaxies that are not in the dataset."""
        return np.flatnonzero(self.row < 0)

    @cached_property
    def map(self) -> tuple[npt.NDArray[np.float32], str]:
        """Place of each row of the labels, shape (row, 2), from 0 to 1 and NaN if unknown; and what the axes are."""
        found, source = self.found.coordinates, self.found.source
        method, variance = source.coordinates, source.variance
        if found is None:
            if len(self.found) < MIN_GALAXIES:
                return np.full((self.n, 2), np.nan, np.float32), ""
            found, variance = coordinates_of(self.found.vectors, "pca")
            method = "pca"
        places = np.full((self.n, 2), np.nan, np.float32)
        known = self.vector_of >= 0
        places[known] = found[self.vector_of[known]]
        first, last = (np.nanquantile(places, q, axis=0) for q in (TAIL, 1 - TAIL))
        low = np.maximum(np.nanmin(places, axis=0), first - BEYOND * (last - first))
        high = np.minimum(np.nanmax(places, axis=0), last + BEYOND * (last - first))
        scaled = MARGIN + (1 - 2 * MARGIN) * (places - low) / np.where(high > low, high - low, 1.0)
        return np.clip(scaled, 0, 1).astype(np.float32), _axes(method, variance)

    @cached_property
    def places(self) -> bytes:
        """The same as pairs of 16-bit integers, little-endian: x to the right and y upwards."""
        places, _ = self.map
        steps = np.full(places.shape, UNKNOWN, "<u2")
        known = np.isfinite(places).all(axis=1)
        steps[known] = np.round(places[known] * (UNKNOWN - 1)).astype("<u2")
        return steps.tobytes()

    def neighbours(self, row: int, k: int) -> list[tuple[int, float]]:
        """Return rows of the galaxies most like one of them, and the cosine similarity; none if it has no vector."""
        place = int(self.vector_of[row])
        k = min(k, len(self.found) - len(self.outside) - 1)
        if place < 0 or k < 1:
            return []
        without = np.append(self.outside, place)
        best = self.space.most_alike(self.space.points(np.array([place])), k, without)[0]
        return list(zip(self.row[best.rows].tolist(), best.scores.tolist(), strict=True))

    def within(self, shape: str) -> BoolArray:
        """Return whether each row of the labels is inside a shape.

        Args:
            shape: Corners `x.y.x.y...`, integers from 0 to 1000.

        Raises:
            InputError: The text is not a shape.
        """
        corners = read_shape(shape)
        return self._shapes.get(shape, lambda: inside(self.map[0], corners))

    @cached_property
    def _shapes(self) -> Kept:
        return Kept(KEPT_SHAPES)


def read_embedded(path: Path, labels: Labels, progress: Progress | None = None) -> Embedded:
    """Read an embedding file for a page.

    Raises:
        NotFoundError: The file does not exist.
        DatasetError: It is not an embedding file.
        TableError: It contains none of the galaxies of the dataset.
    """
    if progress:
        progress("Reading embeddings", 0, 1)
    found = open_embeddings(path)
    keys = found.keys
    by = list(KEY) if keys["dataset_name"].null_count() == 0 else ["id_str"]
    known = labels.frame.select(by).with_row_index("row").unique(by, keep="first")
    joined = keys.select(by).join(known, on=by, how="left", maintain_order="left")
    row = joined["row"].cast(pl.Int32).fill_null(-1).to_numpy()
    if not (row >= 0).any():
        raise TableError(
            f"'{path}' contains embeddings of {len(found):,} galaxies, none of which is in "
            f"'{labels.dataset.folder}'; its first is '{keys['id_str'][0]}'.",
            "embeddings of galaxies of this dataset.",
            "Run `gzoo embed` on this dataset.",
        )
    embedded = Embedded(found, row, len(labels))
    _ = embedded.places  # now, because the page asks for them at once
    if progress:
        progress("Reading embeddings", 1, 1)
    return embedded


def read_shape(text: str) -> npt.NDArray[np.float64]:
    """Return the corners of a shape on the map, shape (corner, 2), from 0 to 1.

    >>> read_shape("0.0.1000.0.1000.500").tolist()
    [[0.0, 0.0], [1.0, 0.0], [1.0, 0.5]]

    Raises:
        InputError: The text is not a shape.
    """
    numbers = text.split(".")
    is_valid = all(one.isdecimal() and len(one) <= 4 and int(one) <= STEPS for one in numbers)
    if not is_valid or len(numbers) % 2 or not 6 <= len(numbers) <= 2 * MAX_CORNERS:
        raise InputError(
            f"'{text[:60]}' is not a shape on the map.",
            f"x.y.x.y... of 3 to {MAX_CORNERS} corners, integers from 0 to {STEPS}.",
            "Pass a shape that was drawn on the map.",
        )
    return np.array([int(one) for one in numbers], np.float64).reshape(-1, 2) / STEPS


def inside(places: npt.NDArray[np.floating], corners: npt.NDArray[np.float64]) -> BoolArray:
    """Return which places are inside a shape, by the even-odd rule, by which the page fills it too.

    Args:
        places: Shape (place, 2); NaN is outside.
        corners: Shape (corner, 2).

    >>> inside(np.array([[0.5, 0.2], [0.1, 0.9]]), np.array([[0, 0], [1, 0], [1, 1.0]])).tolist()
    [True, False]
    """
    found = np.zeros(len(places), np.bool_)
    with np.errstate(invalid="ignore"):
        near = np.flatnonzero(((places >= corners.min(axis=0)) & (places <= corners.max(axis=0))).all(axis=1))
    x, y = places[near].T.astype(np.float64)
    is_odd = np.zeros(len(near), np.bool_)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 != y2:
            is_odd ^= ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) * ((x2 - x1) / (y2 - y1)))
    found[near] = is_odd
    return found


def _axes(method: str | None, variance: Sequence[float] | None) -> str:
    if method == "tsne":
        return "t-SNE: near galaxies are alike, distances of far ones have no meaning"
    parts = f", with {variance[0]:.0%} and {variance[1]:.0%} of the variance" if variance else ""
    return f"The first two principal components of the features{parts}"
