"""Training in several processes: the same model as one process with a larger batch, and no galaxy twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import torch
from torch import distributed

from gzoo import files
from gzoo.errors import GZooError, GZooWarning, InputError
from gzoo.learn import fitting, processes
from gzoo.learn.processes import Processes
from gzoo.learn.training import TrainResult, train

WITHOUT_BATCH_NORM = "convnext_atto"


def trained(dataset: Path, out: Path, **settings: object) -> TrainResult:
    return train(dataset, out=out, encoder=WITHOUT_BATCH_NORM, size=32, epochs=3, probe=False, **settings)  # type: ignore[arg-type]


def curve(run: Path) -> list[float]:
    return pl.read_csv(run / "metrics.csv")["validation_loss"].to_list()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of torch.distributed with this process alone."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_what_processes_exchange(alone: None) -> None:
    assert processes.current() == Processes(0, 1, 1)
    group = Processes(0, 2, 2)  # asks torch.distributed, where the only process is the first
    assert group.of_first({"a": 1}) == {"a": 1}
    assert group.sums(2, 0.5, True) == [2, 0.5, 1]
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    group.share_state(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_gradients_are_those_of_all_batches_together() -> None:
    weight = torch.ones(1, requires_grad=True)
    given = torch.tensor([1.0, 5.0, 3.0])
    parts = given[:2], given[2:]
    for part in parts:  # torch averages the gradients of the processes
        (Processes(0, 2, 2).mean(part * weight, len(given)) / 2).backward()
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(given.mean().item())


@pytest.mark.parametrize("devices", [0, -1])
def test_numbers_of_devices_are_checked(dataset: Path, tmp_path: Path, devices: int) -> None:
    with pytest.raises(InputError, match="devices must be at least 1"):
        trained(dataset, tmp_path / "run", devices=devices)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_learn_as_one_with_twice_the_batch(dataset: Path, tmp_path: Path) -> None:
    one = trained(dataset, tmp_path / "one", batch_size=16)
    two = trained(dataset, tmp_path / "two", batch_size=8, devices=2)
    assert curve(two.run) == pytest.approx(curve(one.run), abs=1e-3)
    assert two.best_loss == pytest.approx(one.best_loss, abs=1e-3)
    assert (two.n_train, two.n_validation, two.n_corrupt) == (one.n_train, one.n_validation, 0)
    assert files.read_json(two.run / "run.json")["settings"]["devices"] == 2  # type: ignore[index]
    assert pl.read_csv(two.run / "metrics.csv")["train_loss"].to_list() == pytest.approx(
        pl.read_csv(one.run / "metrics.csv")["train_loss"].to_list(), abs=1e-3
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_training_of_two_processes_resumes_exactly(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    whole = trained(dataset, tmp_path / "whole", batch_size=8, devices=2)

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("Training") and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(dataset, tmp_path / "run", batch_size=8, devices=2, progress=stop)
    seen: list[int] = []
    made = trained(
        dataset, tmp_path / "run", batch_size=8, devices=2, progress=lambda stage, done, total: seen.append(done)
    )
    assert min(seen) == 5
    assert (made.run / "model.safetensors").read_bytes() == (whole.run / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_batch_normalisation_is_warned_of_and_an_error_of_any_process_is_raised(dataset: Path, tmp_path: Path) -> None:
    settings = {
        "encoder": "mobilenetv3_small_050",
        "size": 32,
        "epochs": 1,
        "batch_size": 8,
        "devices": 2,
        "probe": False,
    }
    with pytest.warns(GZooWarning, match="batch normalisation, which each of the 2 processes computes from its own 8"):
        made = train(dataset, out=tmp_path / "run", **settings)  # type: ignore[arg-type]
    assert made.best_loss == pytest.approx(curve(made.run)[0])
    with pytest.warns(GZooWarning), pytest.raises(GZooError, match="NaN or infinite for"):
        train(dataset, out=tmp_path / "nan", learning_rate=1e30, **{**settings, "epochs": 3})  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_torchrun_starts_the_same_training(dataset: Path, tmp_path: Path) -> None:
    words = ["train", dataset, "--out", tmp_path / "run", "--encoder", WITHOUT_BATCH_NORM, "--size", 32, "--epochs", 3,
             "--batch-size", 8, "--no-probe"]  # fmt: skip
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "gzoo", *words]
    done = subprocess.run([str(word) for word in start], check=True, timeout=1000, capture_output=True, text=True)
    assert done.stdout.count("Next: gzoo predict") + done.stderr.count("Next: gzoo predict") == 1
    one = trained(dataset, tmp_path / "one", batch_size=16)
    assert curve(tmp_path / "run") == pytest.approx(curve(one.run), abs=1e-3)
