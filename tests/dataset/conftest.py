"""Datasets that several test modules of this folder read."""

from __future__ import annotations

from pathlib import Path

import pytest

from gzoo import files
from gzoo.dataset import finalize
from gzoo.dataset.build import build
from gzoo.simulator import SimulateResult


@pytest.fixture(scope="session")
def sharded(sky: SimulateResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the dataset of `sky` in many small shards, which tests only read."""
    folder = tmp_path_factory.mktemp("sharded") / "dataset"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finalize, "SHARD_BYTES", 100_000)
        build("gz2", votes=sky.votes, images=sky.images, out=folder)
    assert len(files.shards(folder, "train")) > 2
    return folder
