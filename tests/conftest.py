"""Galaxies to test with: simulated ones, made once a session, and the real ones where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports datasets: a test that needs a network is no test
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side, a process for each core

import polars as pl
import pytest
from hypothesis import settings

from gzoo.dataset.build import build
from gzoo.simulator import SimulateResult, simulate
from loopback_hub import Client, LoopbackHub

SHARED = Path(__file__).parents[2] / "shared"

# The same examples in every run, so that a change is judged by what it changes. New ones: --hypothesis-profile=search
settings.register_profile("same", derandomize=True)
settings.register_profile("search", max_examples=1000, deadline=None)
settings.load_profile("same")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """`datasets` keeps what it opens in a folder that goes away."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")  # pyright: ignore[reportAttributeAccessIssue]
    datasets.disable_progress_bars()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Facts and real data that are not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("the folder shared/ with facts and real data is not beside this repository")
    return SHARED


@pytest.fixture(scope="session")
def shared_data(shared: Path) -> Path:
    return shared / "data"


@pytest.fixture(scope="session")
def sky(tmp_path_factory: pytest.TempPathFactory) -> SimulateResult:
    """60 simulated galaxies; look, do not touch."""
    return simulate("gz2", n_galaxies=60, seed=1, workers=1, out=tmp_path_factory.mktemp("sky") / "sky")


@pytest.fixture(scope="session")
def dataset(sky: SimulateResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset folder of `sky`; look, do not touch."""
    folder = tmp_path_factory.mktemp("built") / "dataset"
    build("gz2", votes=sky.votes, images=sky.images, out=folder)
    return folder


@pytest.fixture(scope="session")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest model, trained on `dataset` for one epoch; look, do not touch."""
    from gzoo.learn.training import train

    out = tmp_path_factory.mktemp("trained") / "run"
    return train(dataset, out=out, encoder="mobilenetv3_small_050", size=32, crop=1, epochs=1, probe=False).run


@pytest.fixture(scope="session")
def published(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as others publish them: shards of train and test, with no manifest and no validation split."""
    folder = tmp_path_factory.mktemp("published") / "gz2"
    (folder / "data").mkdir(parents=True)
    for split, sources in {"train": ("train", "validation"), "test": ("test",)}.items():
        parts = [pl.read_parquet(dataset / "data" / f"{source}-00000-of-00001.parquet") for source in sources]
        pl.concat(parts).write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """A Hugging Face Hub on this machine, empty."""
    with LoopbackHub() as started:
        yield started


@pytest.fixture
def client(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """This process as a user of `hub`, with empty caches and no login."""
    return Client(hub, tmp_path / "huggingface", monkeypatch)
