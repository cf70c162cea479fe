"""How far images are from those that a model was trained on, in the space of its encoder's features.

A run keeps a few numbers of the features of its training images: their mean, their main directions with the scatter
along each, and the scatter beside them. The distance of an image is that of a normal distribution of this shape
(probabilistic principal components; Tipping and Bishop 1999). It is fitted to one half of the images, and the distance
that 99% of them do not exceed is measured on the other half: distances of the images of a fit are too small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from scipy import stats

from gzoo import files
from gzoo.errors import DatasetError, reason

FILE = "training_features.safetensors"
MAX_GALAXIES = 2_000
MIN_GALAXIES = 40
"""With fewer training galaxies, no distance is large."""
N_DIRECTIONS = 16
LEVEL = 0.99
SURE = 1e-3
"""Probability at most that a warning is due to chance."""


@dataclass(frozen=True, slots=True)
class FeatureDistance:
    """Distance of features from those of the training images.

    Attributes:
        mean: Mean feature, shape (feature,).
        directions: Main directions, shape (direction, feature), each of length 1.
        scatter: Standard deviation along each, shape (direction,).
        rest: Standard deviation along each of all other directions, shape ().
        largest: Distance that 99% of the training images do not exceed, shape ().
        n_judged: Number of training images on which that was measured, shape ().
    """

    mean: torch.Tensor
    directions: torch.Tensor
    scatter: torch.Tensor
    rest: torch.Tensor
    largest: torch.Tensor
    n_judged: torch.Tensor

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return distances, shape (galaxy,), from features of shape (galaxy, feature)."""
        own = features.double() - self.mean
        along = own @ self.directions.T
        beside = (own.square().sum(dim=1) - along.square().sum(dim=1)).clamp(min=0)
        return ((along / self.scatter).square().sum(dim=1) + beside / self.rest**2).sqrt()

    def is_far(self, features: torch.Tensor) -> torch.Tensor:
        """Return which galaxies are farther from the training images than 99% of those, shape (galaxy,)."""
        return self(features) > self.largest

    def is_surprising(self, n_far: int, n: int) -> bool:
        """Return whether more galaxies are far than chance explains, if they were like the training images.

        The number beyond a rank of others of their kind has a beta-binomial distribution, whatever that of distances.
        """
        n_judged = int(self.n_judged)
        rank = _rank(n_judged)
        return bool(stats.betabinom.sf(n_far - 1, n, n_judged + 1 - rank, rank) < SURE)

    def write(self, folder: Path) -> None:
        """Write the numbers to a run folder."""
        files.write_bytes(folder / FILE, save({name: getattr(self, name).contiguous() for name in _NAMES}))


_NAMES = ("mean", "directions", "scatter", "rest", "largest", "n_judged")


def fit_distance(features: torch.Tensor) -> FeatureDistance | None:
    """Return the distance from these features, shape (galaxy, feature); None if there are fewer than 40."""
    if len(features) < MIN_GALAXIES:
        return None
    values = features.double()
    fitted, judged = values[::2], values[1::2]
    mean = fitted.mean(dim=0)
    _, spread, directions = torch.linalg.svd(fitted - mean, full_matrices=False)
    variance = spread.square() / (len(fitted) - 1)
    n = min(N_DIRECTIONS, len(fitted) // 2, len(mean))
    # directions that the images of the fit do not span count too, with a scatter that is not 0
    rest = variance[n:].sum() / max(len(mean) - n, 1)
    floor = 1e-12 + 1e-6 * variance[0]
    distance = FeatureDistance(
        mean,
        directions[:n],
        variance[:n].clamp(min=float(floor)).sqrt(),
        rest.clamp(min=float(floor)).sqrt(),
        torch.tensor(0.0, dtype=torch.float64),
        torch.tensor(len(judged)),
    )
    largest = distance(judged).sort().values[_rank(len(judged)) - 1]
    return FeatureDistance(*(largest if name == "largest" else getattr(distance, name) for name in _NAMES))


def _rank(n: int) -> int:
    """Return which of n sorted distances 99% of others do not exceed."""
    return min(n, math.ceil(LEVEL * (n + 1)))


def read_distance(run: Path, n_features: int) -> FeatureDistance | None:
    """Return the distance that a run keeps; None if it had too few galaxies.

    Raises:
        DatasetError: The file does not fit the model.
    """
    path = run / FILE
    if not path.exists():
        return None
    try:
        numbers = load_file(path)
        found = FeatureDistance(*(numbers[name] for name in _NAMES))
        if found.mean.shape != (n_features,) or found.directions.shape != (len(found.scatter), n_features):
            raise ValueError(f"it does not have {n_features} features")
    except (SafetensorError, KeyError, ValueError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else reason(error)
        raise DatasetError(f"Cannot read '{path}': {why}.", hint="Copy the run again, or train it again.") from error
    return found
