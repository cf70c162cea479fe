"""Resuming: whatever happens, each epoch shows each galaxy once, in the order and with the seeds of a quiet run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import lightning as L
import numpy as np
import pytest
import torch

from gzoo.errors import InputError
from gzoo.learn import stream_input
from gzoo.learn.loader import Batch, Loader, loader

Shown = list[tuple[str, int]]  # identifier and augmentation seed of each galaxy
BATCH_SIZE, SEED = 5, 9


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_input, "WINDOW_ROWS", 13)


def given_as(way: str, folder: Path) -> Any:
    if way == "folder":
        return folder
    stream = datasets.load_dataset(str(folder), split="train", streaming=True, cache_dir=str(folder.parent / "arrow"))
    assert isinstance(stream, datasets.IterableDataset)
    if way == "mapped":
        raw = stream.cast_column("image", datasets.Image(decode=False))
        return raw.filter(lambda row: row["ra"] > 0).map(lambda row: {**row, "more": 1})
    return stream.skip(3).take(30) if way == "part" else stream


WAYS = ["folder", "stream", "mapped", "part"]


@dataclass
class Run:
    """A run of several processes that step together, with checkpoints; they take turns in this process.

    Attributes:
        shown: What was shown in each epoch so far, process by process at each step.
        saved: The last checkpoint: the state, and what had been shown.
    """

    given: Any
    batch_size: int = BATCH_SIZE
    world_size: int = 1
    shown: dict[int, Shown] = field(default_factory=dict)
    loaders: list[Loader] = field(default_factory=list)
    steps: list[Iterator[Any]] = field(default_factory=list)
    saved: tuple[str, str] | None = None

    def start(self, world_size: int) -> None:
        """Start again from the last checkpoint, with so many processes."""
        self.world_size = world_size
        self.loaders = [
            loader(self.given, self.batch_size, 8, seed=SEED, workers=1, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        self.steps = []
        state, shown = self.saved or ("", "{}")
        self.shown = {
            int(epoch): [(id_str, seed) for id_str, seed in all_of] for epoch, all_of in json.loads(shown).items()
        }
        for each in self.loaders if state else ():
            each.load_state_dict(json.loads(state))

    def step(self) -> None:
        """Take a batch of each process."""
        [epoch] = {each.epoch for each in self.loaders}
        if not self.steps:
            self.steps = [iter(each) for each in self.loaders]
        batches = [next(each, None) for each in self.steps]
        assert len({batch is None for batch in batches}) == 1
        for batch in batches:
            if batch is None:
                self.steps = []
            else:
                assert len(batch["id_str"]) > 0
                self.shown.setdefault(epoch, []).extend(zip(batch["id_str"], batch["seed"].tolist(), strict=True))

    def refusal(self) -> str | None:
        """Take a batch of each process; return why that is impossible."""
        try:
            self.step()
        except InputError as error:
            return str(error)
        return None

    def save(self) -> None:
        states = {json.dumps(each.state_dict()) for each in self.loaders}
        assert len(states) == 1
        self.saved = (states.pop(), json.dumps(self.shown))


def quiet(given: Any, n_epochs: int) -> list[Shown]:
    """What one process shows without any disturbance."""
    batches = loader(given, BATCH_SIZE, 8, seed=SEED, workers=1)
    return [
        [pair for batch in batches for pair in zip(batch["id_str"], batch["seed"].tolist(), strict=True)]
        for _ in range(n_epochs)
    ]


def follow(given: Any, expected: list[Shown], chance: np.random.Generator) -> int:
    """Follow a random sequence of steps, checkpoints, kills and resumes; return the number of refusals."""
    run = Run(given)
    run.start(int(chance.integers(1, 5)))
    n_refused = 0
    for _ in range(40):
        what = chance.choice(["step", "steps", "epoch", "save", "kill"], p=[0.3, 0.2, 0.1, 0.25, 0.15])
        if what == "save":
            run.save()
        elif what == "kill":
            for world_size in (int(chance.integers(1, 5)), 1):
                run.start(world_size)
                message = run.refusal()
                assert "that are left of an epoch among" in (message or "that are left of an epoch among")
                if message is None:
                    break
                n_refused += 1  # three galaxies are left, and there are four processes
        else:
            epoch = run.loaders[0].epoch
            for _ in range({"step": 1, "steps": int(chance.integers(2, 6)), "epoch": 1000}[what]):
                run.step()
                if run.loaders[0].epoch > epoch and what == "epoch":
                    break
        if run.loaders[0].epoch >= len(expected) - 1:
            break
    last = run.loaders[0].epoch
    assert sorted(run.shown) in (list(range(last)), list(range(last + 1)))
    for epoch, shown in run.shown.items():
        assert shown == expected[epoch] if epoch < last else shown == expected[epoch][: len(shown)]
    return n_refused


@pytest.fixture(scope="module")
def expected(dataset: Path) -> dict[str, tuple[Any, list[Shown]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_input, "WINDOW_ROWS", 13)
        found = {way: given_as(way, dataset) for way in WAYS}
        return {way: (given, quiet(given, 4)) for way, given in found.items()}


@pytest.mark.parametrize("way", WAYS)
def test_random_sequences_of_steps_kills_and_numbers_of_processes(
    expected: dict[str, tuple[Any, list[Shown]]], way: str
) -> None:
    follow(*expected[way], np.random.default_rng([WAYS.index(way), 0]))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", WAYS)
def test_fifty_random_sequences(expected: dict[str, tuple[Any, list[Shown]]], way: str) -> None:
    for seed in range(50):
        follow(*expected[way], np.random.default_rng([WAYS.index(way), seed, 1]))


# --- Lightning's own loop ---------------------------------------------------------------------------------------------


class _KilledError(Exception):
    pass


class _Recorder(L.LightningModule):
    """A model that records the batches that it was trained on, and fails at one of them."""

    def __init__(self, fails_at: int | None = None, *, estimates_steps: bool = False) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.seen: list[Shown] = []
        self._fails_at, self._estimates_steps = fails_at, estimates_steps

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        if len(self.seen) == self._fails_at:
            raise _KilledError
        self.seen.append(list(zip(batch["id_str"], batch["seed"].tolist(), strict=True)))
        return self.layer(batch["image"].float().mean((2, 3))).mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self._estimates_steps:
            assert self.trainer.estimated_stepping_batches != 0
        return torch.optim.SGD(self.parameters(), 0.1)


class _Saver(L.Callback):
    """Saves a checkpoint at one moment, and notes how many batches the model was trained on."""

    def __init__(self, moment: str, at: int, path: Path) -> None:
        self.moment, self.at, self.path = moment, at, path
        self.n_seen: int | None = None

    def _save(self, trainer: L.Trainer, model: Any, now: int, moment: str) -> None:
        if (moment, now) == (self.moment, self.at):
            trainer.save_checkpoint(self.path)
            self.n_seen = len(model.seen)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: object) -> None:
        self._save(trainer, pl_module, len(pl_module.seen), "batch")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._save(trainer, pl_module, trainer.current_epoch, "epoch")

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._save(trainer, pl_module, -1 if trainer.sanity_checking else trainer.current_epoch, "validation")

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._save(trainer, pl_module, len(pl_module.seen), "failure")


def fit(
    data: Loader,
    model: _Recorder,
    *,
    validation: Loader | None = None,
    limit: int | None = None,
    saver: _Saver | None = None,
    checkpoint: Path | None = None,
) -> _Recorder:
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_train_batches=limit,
        callbacks=[saver] if saver else [],
    )
    with contextlib.suppress(_KilledError):
        trainer.fit(model, data, validation, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return model


def data_of(given: Any, world_size: int = 1) -> Loader:
    return loader(given, 12, 8, seed=SEED, workers=1, rank=0, world_size=world_size)


def resume(given: Any, folder: Path, dataset: Path, chance: np.random.Generator, *, estimates_steps: bool) -> str:
    """Stop a training at a random moment and resume it; return "exact", or why it was refused."""
    is_validated, limit = bool(chance.integers(2)), int(chance.integers(2, 4)) if chance.integers(3) == 0 else None
    ends = ("batch", "epoch", "failure", "validation")[: 4 if is_validated else 3]
    moment = str(chance.choice(ends))
    at = int(chance.integers(1, 7) if moment in {"batch", "failure"} else chance.integers(2))

    def trained(model: _Recorder, **how: Any) -> _Recorder:
        validation = loader(dataset, 12, 8, split="validation", workers=1) if is_validated else None
        return fit(data_of(given), model, validation=validation, limit=limit, **how)

    undisturbed = trained(_Recorder(estimates_steps=estimates_steps)).seen
    saver = _Saver(moment, at, folder / "stopped.ckpt")
    stopped = trained(_Recorder(at if moment == "failure" else None, estimates_steps=estimates_steps), saver=saver)
    assert saver.n_seen is not None
    resumed = _Recorder(estimates_steps=estimates_steps)
    try:
        trained(resumed, checkpoint=saver.path)
    except InputError as error:
        assert not resumed.seen
        return error.message
    assert stopped.seen[: saver.n_seen] + resumed.seen == undisturbed, (moment, at, is_validated, limit)
    return "exact"


@pytest.mark.filterwarnings("ignore:.*:Warning:lightning")
@pytest.mark.parametrize("way", ["folder", "stream"])
def test_lightning_resumes_exactly_wherever_it_was_stopped(
    expected: dict[str, tuple[Any, list[Shown]]], dataset: Path, tmp_path: Path, way: str
) -> None:
    for seed in range(2):
        chance = np.random.default_rng([3, WAYS.index(way), seed])
        assert resume(expected[way][0], tmp_path, dataset, chance, estimates_steps=False) == "exact"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:.*:Warning:lightning")
@pytest.mark.parametrize("way", ["folder", "stream", "mapped"])
@pytest.mark.parametrize("estimates_steps", [False, True])
def test_lightning_resumes_exactly_at_many_moments(
    expected: dict[str, tuple[Any, list[Shown]]], dataset: Path, tmp_path: Path, way: str, estimates_steps: bool
) -> None:
    found: list[str] = []
    for seed in range(20):
        chance = np.random.default_rng([4, WAYS.index(way), seed])
        found.append(resume(expected[way][0], tmp_path, dataset, chance, estimates_steps=estimates_steps))
    if way == "folder" or not estimates_steps:
        assert set(found) == {"exact"}
    else:  # Lightning fetches the first batch of a stream before it reads the checkpoint
        assert {one.partition(" the first batch")[0] for one in found} == {"exact", "Lightning fetched"}


@pytest.mark.filterwarnings("ignore:.*:Warning:lightning")
@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize(("moment", "at"), [("batch", 1), ("epoch", 0)])
def test_lightning_resumes_with_other_processes_only_between_epochs(
    dataset: Path, tmp_path: Path, moment: str, at: int, world_size: int
) -> None:
    saver = _Saver(moment, at, tmp_path / "stopped.ckpt")
    fit(data_of(dataset, world_size), _Recorder(), saver=saver)
    data, resumed = data_of(dataset, 3 - world_size), _Recorder()
    if moment == "batch":
        with pytest.raises(InputError, match=f"an epoch that {world_size} processes began with {3 - world_size}"):
            fit(data, resumed, checkpoint=saver.path)
        return
    fit(data, resumed, checkpoint=saver.path)
    same = data_of(dataset, 3 - world_size)
    same.epoch = 1
    both = [list(zip(batch["id_str"], batch["seed"].tolist(), strict=True)) for _ in range(2) for batch in same]
    assert resumed.seen == both


@pytest.mark.filterwarnings("ignore:.*:Warning:lightning")
def test_a_schedule_sized_by_estimated_steps_replays_no_batch(dataset: Path, tmp_path: Path) -> None:
    undisturbed = fit(data_of(dataset), _Recorder(estimates_steps=True)).seen
    saver = _Saver("batch", 2, tmp_path / "stopped.ckpt")
    fit(data_of(dataset), _Recorder(estimates_steps=True), saver=saver)
    resumed = fit(data_of(dataset), _Recorder(estimates_steps=True), checkpoint=saver.path)
    assert resumed.seen == undisturbed[2:]
    stream = data_of(given_as("stream", dataset))
    saver = _Saver("batch", 2, tmp_path / "stream.ckpt")
    fit(data_of(given_as("stream", dataset)), _Recorder(estimates_steps=True), saver=saver)
    with pytest.raises(InputError, match="before it read the checkpoint"):
        fit(stream, _Recorder(estimates_steps=True), checkpoint=saver.path)
