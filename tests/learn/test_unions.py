"""Unions of campaigns: how an epoch samples them, and the losses of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gzoo.dataset.build import build
from gzoo.dataset.merge import union
from gzoo.errors import InputError
from gzoo.learn.loader import loader
from gzoo.learn.sampling import balanced_order
from gzoo.learn.training import train
from gzoo.simulator import simulate


@pytest.fixture(scope="module")
def merged(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 galaxies of one campaign and 40 of another."""
    folder = tmp_path_factory.mktemp("union")
    other = simulate("gz_hubble", n_galaxies=40, seed=2, workers=1, out=folder / "sky")
    build("gz_hubble", votes=other.votes, images=other.images, out=folder / "hubble")
    union([dataset, folder / "hubble"], out=folder / "union")
    return folder / "union"


def test_groups_come_equally_often_and_change_with_the_epoch() -> None:
    groups = np.repeat([0, 1, 2], [70, 20, 9])
    orders = [balanced_order(groups, np.random.default_rng([0, epoch])) for epoch in range(20)]
    for order in orders:
        assert np.bincount(groups[order]).tolist() == [33, 33, 33]
        times = np.bincount(order, minlength=len(groups))
        assert (times[:70] <= 1).all()
        assert set(times[70:90]) == {1, 2}
        assert set(times[90:]) == {3, 4}
    assert not np.array_equal(orders[0], orders[1])
    assert set(np.concatenate(orders)) == set(range(99))  # nobody is left out for ever


def test_a_balanced_loader_shows_campaigns_equally_often(merged: Path) -> None:
    def shown(sampling: str, skip: int = 0) -> list[int]:
        made = loader(merged, 8, 16, seed=3, sampling=sampling)  # type: ignore[arg-type]
        indices: list[int] = []
        for i, batch in enumerate(made):
            if i == skip - 1:
                state = made.state_dict()
                made = loader(merged, 8, 16, seed=3, sampling=sampling)  # type: ignore[arg-type]
                made.load_state_dict(state)
                return indices + batch["index"].tolist() + [one for rest in made for one in rest["index"].tolist()]
            indices += batch["index"].tolist()
        return indices

    names = loader(merged, 8, 16).keys["dataset_name"].to_numpy()
    n = len(names)
    assert sorted(shown("proportional")) == list(range(n))
    balanced = shown("balanced")
    counts = np.unique(names[balanced], return_counts=True)[1]
    assert counts.sum() == n
    assert abs(int(counts[0]) - int(counts[1])) <= 1
    assert shown("balanced", skip=3) == balanced  # resumed
    state = loader(merged, 8, 16, seed=3).state_dict()
    with pytest.raises(InputError, match="The state is of a loader with data"):
        loader(merged, 8, 16, seed=3, sampling="balanced").load_state_dict(state)


def test_balanced_sampling_needs_a_seed_and_a_name(merged: Path) -> None:
    with pytest.raises(InputError, match="Balanced sampling needs a seed"):
        loader(merged, 8, 16, sampling="balanced")
    with pytest.raises(InputError, match="Invalid value for sampling: 'equal'"):
        loader(merged, 8, 16, sampling="equal")  # type: ignore[arg-type]


def test_losses_of_each_campaign_are_logged(merged: Path, tmp_path: Path) -> None:
    made = train(
        merged,
        out=tmp_path / "run",
        encoder="test_resnet",
        size=32,
        epochs=2,
        sampling="balanced",
        probe=False,
    )
    table = pl.read_csv(made.run / "metrics_by_campaign.csv")
    epochs = pl.read_csv(made.run / "metrics.csv")
    assert table.columns == ["epoch", "dataset_name", "n_galaxies", "validation_loss", "gain"]
    assert table.height == 4
    for name in ("validation_loss", "gain"):
        total = table.group_by("epoch", maintain_order=True).agg((pl.col(name) * pl.col("n_galaxies")).sum())[name]
        assert (total / made.n_validation).to_list() == pytest.approx(epochs[name].to_list(), rel=1e-5, abs=1e-5)
