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
from embedded import SOURCE
from gzoo.dataset.images import Images
from gzoo.dataset.open import open_dataset
from gzoo.embeddings.table import embedding_table, write_embeddings
from gzoo.explorer.embedded import Embedded, read_embedded
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
def embeddings(labels: Labels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors of all galaxies of the dataset but three, in another order, and of two others."""
    chance = np.random.default_rng(7)
    known = labels.frame.select("dataset_name", "id_str")[chance.permutation(len(labels))[3:]]
    others = pl.DataFrame({"dataset_name": ["elsewhere"] * 2, "id_str": ["a", "b"]})
    keys = pl.concat([known, others])
    vectors = chance.normal([5, 0, 0, 0, 1], [3, 2, 1, 1, 0.5], (keys.height, 5))
    path = tmp_path_factory.mktemp("embedded") / "embeddings.parquet"
    write_embeddings(path, [embedding_table(keys, vectors)], SOURCE)
    return path


@pytest.fixture(scope="session")
def embedded(labels: Labels, embeddings: Path) -> Embedded:
    return read_embedded(embeddings, labels)


@pytest.fixture(scope="session")
def mapped(labels: Labels, embedded: Embedded) -> Iterator[TestClient]:
    """The same as `client`, of a page with a map."""
    server = Server(labels, Images(labels.dataset), embedded=embedded)
    with TestClient(server.application(hosts_of("127.0.0.1")), base_url="http://127.0.0.1:8642") as one:
        yield one


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
