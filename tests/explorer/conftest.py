"""A page over the simulated galaxies, with predictions of half of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from filter_oracle import ODD
from starlette.testclient import TestClient

import gzoo
from gzoo.dataset.images import Images
from gzoo.dataset.open import open_dataset
from gzoo.explorer.labels import Labels, read_labels
from gzoo.explorer.server import Server, hosts_of


@pytest.fixture(scope="session")
def predicted(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of the train and test splits: votes, blurred by chance."""
    opened, chance = open_dataset(dataset), np.random.default_rng(2)
    keys, values, seen = [], [], []
    for split in ("train", "test"):
        names, votes = opened.read_votes(split)
        keys.append(names)
        values.append(0.3 + 0.1 * votes.counts + chance.gamma(1.0, 1.0, votes.counts.shape))
        seen += [split == "train"] * names.height
    path = tmp_path_factory.mktemp("predicted") / "predictions.parquet"
    return gzoo.write_predictions(path, pl.concat(keys), np.concatenate(values), opened.tree, in_training_set=seen)


@pytest.fixture(scope="session")
def labels(dataset: Path, predicted: Path) -> Labels:
    return read_labels(open_dataset(dataset), predicted)


@pytest.fixture(scope="session")
def client(labels: Labels) -> Iterator[TestClient]:
    """Who asks the page as a browser on this machine does."""
    server = Server(labels, Images(labels.dataset))
    with TestClient(server.application(hosts_of("127.0.0.1")), base_url="http://127.0.0.1:8642") as one:
        yield one


@pytest.fixture(scope="session")
def odd(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset as others publish them, whose identifiers might be taken for something else."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "data").mkdir()
    train = pl.read_parquet(published / "data" / "train-00000-of-00001.parquet")
    names = pl.Series("id_str", [*ODD, *train["id_str"].to_list()[len(ODD) :]])
    train.with_columns(names).write_parquet(folder / "data" / "train-00000-of-00001.parquet")
    return folder
