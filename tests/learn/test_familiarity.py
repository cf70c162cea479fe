"""Distances of images from those of a training, in the space of features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gzoo.errors import DatasetError
from gzoo.learn.familiarity import FILE, FeatureDistance, fit_distance, read_distance


def features(n: int, seed: int, n_features: int = 60, shift: float = 0.0) -> torch.Tensor:
    """Features with a few strong directions, and heavy tails, as encoders have them."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(8, n_features))
    values = rng.standard_t(5, (n, 8)) @ mixing + 0.1 * rng.standard_t(5, (n, n_features))
    return torch.from_numpy(values + shift).float()


@pytest.mark.parametrize("n_training", [60, 400, 2000])
def test_one_in_a_hundred_of_the_same_kind_is_far(n_training: int) -> None:
    fractions, n_warnings = [], 0
    for seed in range(40):
        distance = fit_distance(features(n_training, 2 * seed + 1))
        assert distance is not None
        n_far = int(distance.is_far(features(500, 2 * seed + 2)).sum())
        fractions.append(n_far / 500)
        n_warnings += distance.is_surprising(n_far, 500)
    expected = max(0.01, 1 / (n_training // 2 + 1))  # that of the largest of a few distances
    assert np.mean(fractions) == pytest.approx(expected, abs=4 * np.std(fractions) / 40**0.5 + 1e-3)
    assert n_warnings <= 1  # of 40, with a probability of 1 in 1,000 each


def test_another_kind_is_far_and_surprising() -> None:
    distance = fit_distance(features(400, 1))
    assert distance is not None
    n_far = int(distance.is_far(features(20, 2, shift=1.0)).sum())  # off the directions of the training
    assert n_far == 20
    assert distance.is_surprising(n_far, 20)
    assert not distance.is_surprising(0, 20)
    assert not distance.is_surprising(0, 0)


def test_features_that_do_not_vary_and_few_galaxies() -> None:
    assert fit_distance(features(39, 1)) is None
    still = torch.ones(50, 20)
    distance = fit_distance(still)
    assert distance is not None
    assert not distance.is_far(still).any()
    assert distance.is_far(still + 1).all()


def test_a_run_keeps_its_distance(tmp_path: Path) -> None:
    distance = fit_distance(features(100, 1))
    assert distance is not None
    assert read_distance(tmp_path, 60) is None
    distance.write(tmp_path)
    kept = read_distance(tmp_path, 60)
    assert isinstance(kept, FeatureDistance)
    other = features(50, 3)
    assert torch.allclose(kept(other), distance(other))
    assert (tmp_path / FILE).stat().st_size < 20_000
    with pytest.raises(DatasetError, match="does not have 61 features"):
        read_distance(tmp_path, 61)
    (tmp_path / FILE).write_bytes(b"PK")
    with pytest.raises(DatasetError, match="Cannot read"):
        read_distance(tmp_path, 60)
