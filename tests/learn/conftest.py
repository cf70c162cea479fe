"""A small model, trained once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from gzoo.learn.training import TrainResult, train

SMALL = "mobilenetv3_small_050"


@pytest.fixture(scope="session")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A training of 4 epochs on `dataset`; look, do not touch."""
    out = tmp_path_factory.mktemp("trained") / "run"
    return train(dataset, out=out, encoder=SMALL, size=32, crop=1, epochs=4, seed=5, probe=False)


@pytest.fixture(scope="session")
def run(trained: TrainResult) -> Path:
    """Its run folder."""
    return trained.run
