"""Training and prediction: reproducible weights, exact resuming, complete metadata."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import gzoo
from gzoo import cli, files
from gzoo.dataset.build import build
from gzoo.dataset.open import open_dataset
from gzoo.errors import (
    DatasetError,
    GZooWarning,
    HubError,
    ImageError,
    InputError,
    NonFiniteLossError,
    NotFoundError,
    OutputExistsError,
    TableError,
    WriteError,
)
from gzoo.learn import checkpoints, fitting, heads, training
from gzoo.learn.loader import loader
from gzoo.learn.model import Design, Model, open_run
from gzoo.learn.prediction import predict
from gzoo.learn.training import TrainResult, train
from gzoo.scoring.prediction_files import write_prediction_table
from gzoo.scoring.predictions import read_predictions
from gzoo.scoring.recalibration import Recalibration, recalibrate
from gzoo.scoring.scores import score
from gzoo.simulator import SimulateResult, simulate
from gzoo.sky import identifier_split
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import Question, Tree
from real_galaxies import REAL_MAPPING

SMALL = "mobilenetv3_small_050"
FILES = {
    "model.safetensors",
    "run.json",
    "metrics.csv",
    "training_galaxies.parquet",
    "training_features.safetensors",
    "batch.png",
}


def quick(
    folder: Path, out: Path, *, encoder: str = SMALL, epochs: int = 4, seed: int = 5, **settings: object
) -> TrainResult:
    settings = {"size": 32, "crop": 1, "probe": False, **settings}
    return train(folder, out=out, encoder=encoder, epochs=epochs, seed=seed, **settings)  # type: ignore[arg-type]


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents(run: Path) -> dict[str, object]:
    """The content of a run folder, without what depends on the clock."""
    found: dict[str, object] = {name: (run / name).read_bytes() for name in FILES - {"metrics.csv"}}
    return {**found, "metrics.csv": pl.read_csv(run / "metrics.csv").drop("images_per_second", "seconds").to_dicts()}


@pytest.fixture(scope="session")
def predictions(run: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("predicted") / "predictions.parquet"
    predict(run, dataset, out=out)
    return out


def quicker(dataset: Path, out: Path, **settings: object) -> TrainResult:
    """Two epochs of three batches."""
    return quick(dataset, out, epochs=2, batch_size=16, **settings)


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The content of such a run."""
    return contents(quicker(dataset, tmp_path_factory.mktemp("undisturbed") / "run").run)


# ----------------------------------------------------------------------------------------------------
# Runs


def test_a_run_folder_contains_only_its_files_and_metadata(run: Path, dataset: Path) -> None:
    assert names(run) == FILES
    metadata = json.loads((run / "run.json").read_text("utf-8"))
    assert metadata["settings"] == {
        "encoder": SMALL,
        "size": 32,
        "crop": 1.0,
        "pretrained": False,
        "learn": "all",
        "warm_up": 0.2,
        "epochs": 4,
        "batch_size": 32,
        "accumulate": 1,
        "devices": 1,
        "learning_rate": 1e-3,
        "augment": "average",
        "sampling": "proportional",
        "views": 8,
        "seed": 5,
    }
    assert metadata["data"]["manifest_sha256"] == files.sha256(dataset / "manifest.json")
    assert metadata["data"]["is_simulated"] is True
    assert metadata["data"]["dataset_names"] == ["gz2_simulated"]
    assert metadata["data"]["validation"] == "validation split"
    assert metadata["weights_sha256"] == files.sha256(run / "model.safetensors")
    assert {"gzoo", "torch", "timm", "python", "numpy"} <= set(metadata["versions"])
    galaxies = pl.read_parquet(run / "training_galaxies.parquet")
    for role in ("train", "validation"):
        ids = set(galaxies.filter(pl.col("role") == role)["id_str"])
        assert ids == set(open_dataset(dataset).read_votes(role)[0]["id_str"])


def test_the_best_epoch_is_kept(trained: TrainResult, dataset: Path) -> None:
    rows = list(csv.DictReader((trained.run / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    losses = [float(row["validation_loss"]) for row in rows]
    assert trained.best_loss == min(losses)
    assert trained.best_epoch == int(np.argmin(losses)) + 1
    model, _ = open_run(trained.run)
    opened = open_dataset(dataset)
    total = 0.0
    with torch.inference_mode():
        for batch in loader(opened, 100, 32, split="validation"):
            nll = heads.dirichlet_multinomial_nll(batch["votes"], model(batch["image"]), opened.tree, batch["totals"])
            total += float(nll.sum())
    assert total / trained.n_validation == pytest.approx(trained.best_loss, rel=1e-5)


def test_a_training_reaches_its_lowest_learning_rates_even_if_the_first_epochs_were_the_best(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def trained_on() -> TrainResult:
        return quick(dataset, tmp_path / "run", epochs=15, learning_rate=0.3)

    with monkeypatch.context() as patched:
        patched.setattr(training, "load_file", stop)  # after the last epoch
        with pytest.raises(KeyboardInterrupt):
            trained_on()
    before = pl.read_csv(files.partial_name(tmp_path / "run") / "metrics.csv")
    assert before.height == 15
    assert before["validation_loss"][:11].arg_min() == 0, "this training does not show anything"
    made = trained_on()  # which finds that all epochs were trained
    assert made.n_epochs == 15
    assert made.best_epoch == int(before["validation_loss"].arg_min() or 0) + 1
    assert pl.read_csv(made.run / "metrics.csv").equals(before)


def test_the_same_seed_gives_the_same_run(run: Path, dataset: Path, tmp_path: Path) -> None:
    again, other = quick(dataset, tmp_path / "again").run, quick(dataset, tmp_path / "other", seed=6).run
    assert contents(again) == contents(run)
    assert (other / "model.safetensors").read_bytes() != (run / "model.safetensors").read_bytes()


def test_five_steps_are_enough(dataset: Path, tmp_path: Path) -> None:
    made = train(dataset, out=tmp_path / "run", encoder=SMALL, size=32, epochs=5, batch_size=1_000)
    assert made.n_epochs == 5


def stop_at(n_batches: int) -> Callable[[str, int, int], None]:
    """Return a function that interrupts a training after so many batches."""

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("Training") and done == n_batches:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize(("seconds", "n_done"), [(300.0, 1), (300.0, 4), (0.0, 5)])
def test_a_resumed_run_equals_an_uninterrupted_one(
    undisturbed: object, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, n_done: int
) -> None:
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", seconds)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        quicker(dataset, out, progress=stop_at(n_done))
    assert not out.exists()
    assert pl.read_csv(files.partial_name(out) / "metrics.csv").height == 1 if n_done > 3 else True
    seen: list[int] = []
    quicker(dataset, out, progress=lambda stage, done, total: seen.extend([done] * stage.startswith("Training")))
    n_kept = n_done - 1 if not seconds else n_done - n_done % 3  # batches before the last checkpoint
    assert seen[0] == n_kept + 1
    assert contents(out) == undisturbed


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_used(
    undisturbed: object, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    for n_damaged, damage in ((1, flip), (2, truncate)):
        out = tmp_path / damage.__name__
        with pytest.raises(KeyboardInterrupt):
            quicker(dataset, out, progress=stop_at(5))
        work = files.partial_name(out)
        assert {checkpoints.LAST, checkpoints.PREVIOUS} <= names(work)
        for name in (checkpoints.LAST, checkpoints.PREVIOUS)[:n_damaged]:
            damage(work / name)
        seen: list[tuple[str, int]] = []
        with pytest.warns(GZooWarning, match=r"\.ckpt' is damaged"):
            quicker(dataset, out, progress=lambda stage, done, total, seen=seen: seen.append((stage, done)))
        assert contents(out) == undisturbed
        first = next(done for stage, done in seen if stage.startswith("Training"))
        assert (first == 1) == (n_damaged == 2)  # from the start where both are damaged


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5_000])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_full_disk_keeps_the_checkpoint(
    undisturbed: object, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoints.save

    def fail(folder: Path, state: dict[str, object]) -> None:
        if len(cast("list[object]", state["epochs"])) == 2:
            with files.whole_file(folder / checkpoints.LAST) as file:
                file.write(b"half")
                raise OSError(errno.ENOSPC, "No space left on device")
        save(folder, state)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", fail)
        with pytest.raises(WriteError, match=r"Cannot write the run to .*: the disk is full"):
            quicker(dataset, tmp_path / "run")
    assert checkpoints.LAST in names(files.partial_name(tmp_path / "run"))
    assert contents(quicker(dataset, tmp_path / "run").run) == undisturbed


KILLED = """
import os, signal, sys
import torch
from gzoo.learn import fitting
from gzoo.learn.heads import VoteHead
from gzoo.learn.training import train

torch.set_num_threads(1)
fitting.CHECKPOINT_SECONDS = 0.0
folder, dataset, *moments = sys.argv[1:]
forward = VoteHead.forward
VoteHead.forward = lambda self, given: forward(self, torch.nn.functional.dropout(given, 0.2, self.training))

def run(out, kill_at):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    def report(stage, done, total):
        if stage.startswith("Training") and done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    train(dataset, out=out, encoder="mobilenetv3_small_050", size=32, epochs=3, batch_size=8, augment="train",
          progress=report)
    os._exit(0)

assert run(f"{folder}/whole", 0) == 0
for moment in moments:
    assert run(f"{folder}/{moment}", int(moment)) == -9
    assert run(f"{folder}/{moment}", 0) == 0
"""

KILLED_AT_ANY_TIME = """
import os, signal, sys, threading, time
import numpy as np
import torch
from gzoo.learn import fitting
from gzoo.learn.training import train

torch.set_num_threads(1)
fitting.CHECKPOINT_SECONDS = 0.0
folder, dataset, n_runs, n_kills, n_steps = *sys.argv[1:3], *map(int, sys.argv[3:])
chance, n_killed = np.random.default_rng(0), 0

def run(out, at=None, delay=0.0):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = []
    def report(stage, done, total):
        seen.append(time.monotonic())
        if stage.startswith("Training") and at is not None and done >= at and len(seen) > 2:
            seconds = delay * (seen[-1] - seen[-2])  # that a batch and its checkpoint take
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    train(dataset, out=out, encoder="mobilenetv3_small_050", size=32, epochs=3, batch_size=8, progress=report)
    os._exit(0)

assert run(f"{folder}/whole") == 0
for i in range(n_runs):
    for at in sorted(chance.integers(1, n_steps, n_kills)):
        n_killed += run(f"{folder}/{i}", at, chance.uniform(0, 1.5)) == -9
    assert os.path.exists(f"{folder}/{i}") or run(f"{folder}/{i}") == 0
print(n_killed)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_training_killed_at_any_batch_ends_with_the_same_weights(dataset: Path, tmp_path: Path) -> None:
    n_steps = 3 * -(-len(open_dataset(dataset).read_votes("train")[0]) // 8)
    moments = np.random.default_rng(0).choice(np.arange(1, n_steps + 1), 10, replace=False)
    words = [sys.executable, "-c", KILLED, tmp_path, dataset, *moments]
    subprocess.run([str(word) for word in words], check=True, timeout=1100)
    for moment in moments:
        assert contents(tmp_path / str(moment)) == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_training_killed_at_any_time_ends_with_the_same_weights_wherever_the_temporary_folder_is(
    dataset: Path, tmp_path: Path
) -> None:
    memory = Path("/dev/shm")  # another file system, to which nothing can be renamed
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system for the temporary folder")
    n_steps = 3 * -(-len(open_dataset(dataset).read_votes("train")[0]) // 8)
    words = [sys.executable, "-c", KILLED_AT_ANY_TIME, tmp_path, dataset, 10, 3, n_steps]
    done = subprocess.run(
        [str(word) for word in words],
        env={**os.environ, "TMPDIR": str(memory)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=3500,
    )
    assert int(done.stdout) == 30
    for i in range(10):
        assert contents(tmp_path / str(i)) == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_training_on_a_full_disk_ends_with_the_same_weights_when_there_is_space(
    undisturbed: object, dataset: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here: that needs root")
    try:
        for i, megabytes in enumerate((1, 4, 9, 13, 17)):  # weights or checkpoints, or some of them, do not fit
            subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(folder)], check=True)
            with pytest.raises(WriteError, match="the disk is full"):
                quicker(dataset, folder / f"run{i}")
            subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)
            made = quicker(dataset, folder / f"run{i}").run
            assert contents(made) == undisturbed
            shutil.rmtree(made)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("function", ["predict_concentrations", "version"])
def test_a_run_interrupted_after_training_is_not_trained_again(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, function, stop)
        with pytest.raises(KeyboardInterrupt):
            quick(dataset, tmp_path / "run")
    monkeypatch.setattr(fitting, "galaxy_losses", stop)
    quick(dataset, tmp_path / "run")
    assert names(tmp_path / "run") == FILES
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_ctrl_c_interrupts_training(dataset: Path, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        signal.raise_signal(signal.SIGINT)

    # a shell that runs tests in the background may ignore Ctrl-C
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            quick(dataset, tmp_path / "run", progress=interrupt)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_settings_do_not_resume(dataset: Path, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(dataset, tmp_path / "run", progress=stop)
    with pytest.raises(OutputExistsError, match="unfinished"):
        quick(dataset, tmp_path / "run", seed=6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite, got nan"),
        ({"seed": -1}, "seed must be from 0"),
        ({"encoder": "resnet19"}, "'resnet19' not found in timm"),
        ({"encoder": "vit_tiny_patch16_224"}, "32 x 32 pixels"),
        ({"encoder": "resnet18.no_such_weights"}, "resnet18.no_such_weights"),
    ],
)
def test_invalid_settings_are_rejected(dataset: Path, tmp_path: Path, settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        quick(dataset, tmp_path / "run", **settings)
    assert not list(tmp_path.iterdir())


def test_pretrained_weights_need_a_network(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="timm/resnet18"):
        quick(dataset, tmp_path / "run", encoder="resnet18", pretrained=True)


def test_a_non_finite_loss_raises_an_error_with_the_galaxies(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, votes = open_dataset(dataset).read_votes("train")
    marked = torch.from_numpy(votes.counts[7])
    forward = heads.dirichlet_multinomial_nll

    def corrupt(k: torch.Tensor, *rest: object, **named: bool) -> torch.Tensor:
        nll = forward(k, *rest, **named)  # type: ignore[arg-type]
        return torch.where((k == marked).all(dim=1, keepdim=True), torch.nan, nll)

    monkeypatch.setattr(heads, "dirichlet_multinomial_nll", corrupt)
    same = [one for one, row in zip(keys["id_str"], votes.counts, strict=True) if (row == votes.counts[7]).all()]
    with pytest.raises(NonFiniteLossError, match=f"{len(same)} galaxies of train: {same[0]}") as raised:
        quick(dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert "Lower --learning-rate and pass --overwrite" in str(raised.value)
    monkeypatch.setattr(heads, "dirichlet_multinomial_nll", forward)
    quick(dataset, tmp_path / "run", epochs=1, learning_rate=1e-5, overwrite=True)


def test_batches_of_one_galaxy_are_refused_where_batches_are_normalised(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch_size is 1, and encoder 'mobilenetv3_small_050' has batch norm"):
        quick(dataset, tmp_path / "run", batch_size=1)
    assert not list(tmp_path.iterdir())


def test_damaged_images_are_refused_or_left_out_with_a_count(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "gz2")
    path = files.shards(tmp_path / "gz2", "train")[0]
    table = pl.read_parquet(path)
    images = table["image"].to_list()
    ids = table["id_str"].to_list()
    held_out = next(row for row, one in enumerate(ids) if row and identifier_split.is_held_out(one))
    for row in (0, held_out):
        images[row] = {**images[row], "bytes": images[row]["bytes"][:200]}
    table.with_columns(image=pl.Series(images, dtype=table.schema["image"])).write_parquet(path)
    with pytest.raises(ImageError, match=f"galaxy '{table['id_str'][0]}': The image is corrupt"):
        quick(tmp_path / "gz2", tmp_path / "run", epochs=1)
    with pytest.warns(GZooWarning, match="2 images cannot be decoded"):
        made = quick(tmp_path / "gz2", tmp_path / "run", epochs=1, corrupt="skip", overwrite=True)
    assert made.n_corrupt == files.read_json(made.run / "run.json")["n_corrupt"] == 2


def test_a_training_shows_what_learned_and_whether_it_paid(trained: TrainResult) -> None:
    shown = " ".join(repr(trained).split())
    assert trained.floors.description in shown
    assert f"{trained.n_epochs}, the best is {trained.best_epoch}" in shown
    assert f"{trained.best_loss:.3f} nats per galaxy; baseline {trained.baseline_loss:.3f}" in shown
    assert "parts, peak learning rate" in shown
    assert "encoder." not in shown  # names of hundreds of parameters


def test_metrics_say_what_the_model_gains_and_how_fast_it_learns(trained: TrainResult) -> None:
    rows = pl.read_csv(trained.run / "metrics.csv")
    assert (trained.baseline_loss - rows["validation_loss"]).to_numpy() == pytest.approx(rows["gain"].to_numpy())
    assert (rows["images_per_second"] > 0).all()
    assert (rows["seconds"] > 0).all()
    assert rows["learning_rate"].is_between(0, 1e-3).all()


def test_training_needs_a_train_split(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "gz2")
    files.shards(tmp_path / "gz2", "train")[0].unlink()
    with pytest.raises(NotFoundError, match="Split 'train' not found"):
        quick(tmp_path / "gz2", tmp_path / "run")


def test_validation_is_held_out_by_hash_of_id_if_there_is_no_split(published: Path, tmp_path: Path) -> None:
    made = quick(published, tmp_path / "run", epochs=1)
    metadata = files.read_json(made.run / "run.json")
    assert metadata["data"]["validation"] == "12.5% of train, by hash of id (held-out-1)"  # type: ignore[index]
    assert metadata["data"]["is_simulated"] is True  # type: ignore[index]
    roles = dict(pl.read_parquet(made.run / "training_galaxies.parquet").select("id_str", "role").iter_rows())
    ids = open_dataset(published).read_votes("train")[0]["id_str"]
    assert roles == {one: "validation" if identifier_split.is_held_out(one) else "train" for one in ids}
    assert 0 < made.n_validation < made.n_train
    out = tmp_path / "predictions.parquet"
    assert predict(made.run, published, out=out).n_trained_on == 0
    assert score(out, published).n_galaxies == len(open_dataset(published).read_votes("test")[0])


# ----------------------------------------------------------------------------------------------------
# Predictions


def learned(run: Path, tree: Tree) -> list[Question]:
    """The questions on which at least 30 of the galaxies trained on have votes, according to the run."""
    return [
        one
        for one in tree.questions
        if files.read_json(run / "run.json")["data"]["n_galaxies_by_question"][one.name] >= 30
    ]  # type: ignore[index]


def test_predictions_have_the_documented_columns(run: Path, predictions: Path, dataset: Path) -> None:
    table, tree = pl.read_parquet(predictions), campaign("gz2").published_tree
    wanted = ["dataset_name", "id_str"]
    for column in tree.columns:
        wanted += [f"{column}_concentration", f"{column}_fraction"]
    wanted += [f"{question.name}_proportion_volunteers_asked" for question in tree.questions] + ["in_training_set"]
    assert table.columns == wanted
    assert table["id_str"].to_list() == open_dataset(dataset).read_votes("test")[0]["id_str"].to_list()
    assert not table["in_training_set"].any()
    for question in learned(run, tree):
        assert table.select(f"{column}_concentration" for column in question.columns).null_count().row(0) == (0,) * len(
            question.columns
        )
        assert not question.multiple
        total = table.select(pl.sum_horizontal(f"{column}_fraction" for column in question.columns)).to_series()
        assert total.to_numpy() == pytest.approx(1)
        assert table[f"{question.name}_proportion_volunteers_asked"].is_between(0, 1).all()
    smooth = table["smooth-or-featured-gz2_smooth_fraction"].to_numpy()
    assert table["how-rounded-gz2_proportion_volunteers_asked"].to_numpy() == pytest.approx(smooth)
    about = json.loads(pq.read_schema(predictions).metadata[b"gzoo"])
    assert about["is_simulated"] is True
    assert about["split"] == "test"


def test_questions_that_few_galaxies_have_votes_on_are_not_predicted(
    run: Path, predictions: Path, dataset: Path, tmp_path: Path
) -> None:
    opened = open_dataset(dataset)
    tree = opened.tree
    keys, votes = opened.read_votes("train")
    trained_on = pl.read_parquet(run / "training_galaxies.parquet").filter(pl.col("role") == "train")
    is_in = keys["id_str"].is_in(trained_on["id_str"].to_list()).to_numpy()
    n_of = dict(zip([one.name for one in tree.questions], (votes.totals[is_in] > 0).sum(axis=0).tolist(), strict=True))
    assert files.read_json(run / "run.json")["data"]["n_galaxies_by_question"] == n_of  # type: ignore[index]
    few = {name for name, n in n_of.items() if n < 30}
    assert 0 < len(few) < len(n_of)
    table = pl.read_parquet(predictions)
    for question in tree.questions:
        for column in question.columns:
            n_null = 0 if question.name not in few else table.height
            assert table[f"{column}_concentration"].null_count() == n_null
            assert table[f"{column}_fraction"].null_count() == n_null
    made = predict(run, dataset, out=tmp_path / "again.parquet")
    assert set(made.not_predicted) == few
    read = read_predictions(predictions, tree)
    assert few.isdisjoint(read.questions)
    scores = score(predictions, dataset)
    assert set(scores.questions_missing) == few
    gzoo.catalog([predictions], dataset, out=tmp_path / "catalogue.parquet")
    catalogue = pl.read_parquet(tmp_path / "catalogue.parquet")
    for name in few:
        columns = [column for column in catalogue.columns if column.startswith(f"{name}_")]
        assert all(catalogue[column].is_nan().all() for column in columns if "total-votes" not in column)
    ranking = gzoo.prioritize([predictions], dataset)
    assert few.isdisjoint(ranking.table["question"])


def test_predictions_may_be_averaged_over_orientations(run: Path, dataset: Path, tmp_path: Path) -> None:
    predict(run, dataset, out=tmp_path / "averaged.parquet", views=8, recalibrate=False)
    found = pl.read_parquet(tmp_path / "averaged.parquet")
    model, _ = open_run(run)
    tree = open_dataset(dataset).tree
    batch = next(iter(loader(dataset, 1000, 32, split="test")))
    with torch.inference_mode():
        image = batch["image"]
        eight = [torch.rot90(one, turn, (2, 3)) for one in (image, image.flip(3)) for turn in range(4)]
        wanted = torch.stack([model(one).log() for one in eight]).mean(0).exp()
    where = [tree.columns.index(column) for question in learned(run, tree) for column in question.columns]
    columns = [f"{tree.columns[i]}_concentration" for i in where]
    assert found.select(columns).to_numpy() == pytest.approx(wanted.numpy()[:, where], rel=1e-4)


@pytest.mark.parametrize("views", [0, 9])
def test_other_numbers_of_views_are_rejected(run: Path, dataset: Path, tmp_path: Path, views: int) -> None:
    with pytest.raises(InputError, match=f"views must be from 1 to 8, got {views}"):
        predict(run, dataset, out=tmp_path / "predictions.parquet", views=views)


def test_predictions_do_not_depend_on_the_batch_size(
    run: Path, dataset: Path, predictions: Path, tmp_path: Path
) -> None:
    predict(run, dataset, out=tmp_path / "p.parquet", batch_size=3)
    one, other = pl.read_parquet(predictions), pl.read_parquet(tmp_path / "p.parquet")
    numbers = [name for name in one.columns if name.endswith("_concentration")]
    assert other.select(numbers).to_numpy() == pytest.approx(one.select(numbers).to_numpy(), rel=1e-4, nan_ok=True)


def test_galaxies_trained_on_are_marked_and_not_scored(run: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "train.parquet"
    made = predict(run, dataset, split="train", out=out)
    assert made.n_trained_on == made.n_galaxies > 0
    assert pl.read_parquet(out)["in_training_set"].all()
    with pytest.raises(TableError, match=f"{made.n_galaxies} galaxies that the model was trained on"):
        score(out, dataset)
    assert score(out, dataset, include_trained_on=True).n_trained_on == made.n_galaxies
    held_out = predict(run, dataset, split="validation", out=tmp_path / "validation.parquet")
    assert held_out.n_trained_on == held_out.n_galaxies


def test_models_trained_by_another_split_scheme_are_not_scored(
    run: Path, dataset: Path, published: Path, tmp_path: Path
) -> None:
    out = tmp_path / "published.parquet"
    predict(run, published, split="test", out=out)
    with pytest.raises(TableError, match=r"'gzoo-1' for the model of .* 'published' for "):
        score(out, published)
    assert score(out, published, include_trained_on=True).n_trained_on == 0
    predict(run, dataset, split="test", out=tmp_path / "own.parquet")
    score(tmp_path / "own.parquet", dataset)


def test_predictions_of_other_galaxies_are_not_scored(predictions: Path, dataset: Path, tmp_path: Path) -> None:
    strange = pl.read_parquet(predictions).with_columns(id_str=pl.lit("from elsewhere ") + pl.col("id_str"))
    strange.write_parquet(tmp_path / "strange.parquet")
    with pytest.raises(TableError, match="that are not in "):
        score(tmp_path / "strange.parquet", dataset)


def test_predictions_replace_only_predictions(run: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.parquet"
    predict(run, dataset, out=out)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        predict(run, dataset, out=out)
    predict(run, dataset, out=out, overwrite=True)
    pl.DataFrame({"a": [1]}).write_parquet(out)
    with pytest.raises(OutputExistsError, match="gzoo"):
        predict(run, dataset, out=out, overwrite=True)
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(OutputExistsError, match="gzoo"):
        predict(run, dataset, out=tmp_path / "folder.parquet", overwrite=True)
    with pytest.raises(InputError, match=r"Expected a name that ends in \.parquet"):
        predict(run, dataset, out=tmp_path / "predictions")


@dataclass(frozen=True)
class Hubble:
    folder: Path
    run: Path


@pytest.fixture(scope="session")
def hubble(tmp_path_factory: pytest.TempPathFactory) -> Hubble:
    """A dataset with random votes that lacks an answer that leads to one of its questions, and a run."""
    folder = tmp_path_factory.mktemp("hubble")
    rng = np.random.default_rng(0)
    tree = campaign("gz_hubble").tree
    ids = [f"h{i}" for i in range(60)]
    votes: dict[str, object] = {"id_str": ids}
    votes |= {column: rng.integers(0, 20, len(ids)) for column in tree.columns}
    votes |= {question.total_column: np.full(len(ids), 20) for question in tree.questions if question.multiple}
    pl.DataFrame(votes).write_parquet(folder / "votes.parquet")
    (folder / "images").mkdir()
    for one in ids:
        noise = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{one}.png")
    build("gz_hubble", votes=folder / "votes.parquet", images=folder / "images", out=folder / "dataset")
    return Hubble(folder / "dataset", quick(folder / "dataset", folder / "run", epochs=1).run)


def test_proportion_asked_is_null_where_it_cannot_be_known(hubble: Hubble, tmp_path: Path) -> None:
    predict(hubble.run, hubble.folder, out=tmp_path / "p.parquet")
    table, tree = pl.read_parquet(tmp_path / "p.parquet"), campaign("gz_hubble").published_tree
    unknown = {
        name.removesuffix("_proportion_volunteers_asked")
        for name in table.columns
        if table[name].null_count() == table.height and name.endswith("_proportion_volunteers_asked")
    }
    assert "bulge-size-hubble" in unknown
    assert unknown == set(tree.unreachable)
    for question in tree.questions:
        proportion_asked = table[f"{question.name}_proportion_volunteers_asked"]
        assert proportion_asked.null_count() in (0, table.height)
        assert proportion_asked.drop_nulls().is_between(0, 1).all()
    assert files.read_json(hubble.run / "run.json")["data"]["is_simulated"] is False  # type: ignore[index]
    scores = score(tmp_path / "p.parquet", hubble.folder)
    assert scores.questions["bulge-size-hubble"]["n_galaxies"] > 0


def test_a_model_of_another_campaign_is_rejected(hubble: Hubble, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"questions of gz_hubble, but .* has those of gz2"):
        predict(hubble.run, dataset, out=tmp_path / "p.parquet")


def remove_weights(run: Path) -> None:
    (run / "model.safetensors").unlink()


def truncate_weights(run: Path) -> None:
    (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:5000])


def corrupt_metadata(run: Path) -> None:
    (run / "run.json").write_text("{")


def remove_design(run: Path) -> None:
    (run / "run.json").write_text("{}")


def change_metadata(run: Path, key: str, value: object) -> None:
    files.write_json(run / "run.json", {**files.read_json(run / "run.json"), key: value})


def remove_data(run: Path) -> None:
    change_metadata(run, "data", None)


def remove_numbers_of_galaxies(run: Path) -> None:
    data = cast("dict[str, object]", files.read_json(run / "run.json")["data"])
    change_metadata(run, "data", {key: value for key, value in data.items() if key != "n_galaxies_by_question"})


@pytest.mark.parametrize(
    "change",
    [remove_weights, truncate_weights, corrupt_metadata, remove_design, remove_data, remove_numbers_of_galaxies],
)
def test_corrupt_runs_are_rejected(run: Path, dataset: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    shutil.copytree(run, tmp_path / "run")
    change(tmp_path / "run")
    with pytest.raises(DatasetError):
        predict(tmp_path / "run", dataset, out=tmp_path / "p.parquet")
    assert not (tmp_path / "p.parquet").exists()


def test_a_model_that_has_not_learned_any_question_predicts_nothing(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "run")
    data = cast("dict[str, object]", files.read_json(run / "run.json")["data"])
    few = dict.fromkeys(cast("dict[str, int]", data["n_galaxies_by_question"]), 29)
    change_metadata(tmp_path / "run", "data", {**data, "n_galaxies_by_question": few})
    monkeypatch.setattr("gzoo.learn.prediction.predict_concentrations", None)  # it is told before the work
    with pytest.raises(InputError, match="has not learned any question: fewer than 30"):
        predict(tmp_path / "run", dataset, out=tmp_path / "p.parquet")
    assert not (tmp_path / "p.parquet").exists()


def test_an_untrained_model_predicts_the_baseline() -> None:
    tree = campaign("gz2").published_tree
    baseline = np.linspace(0.05, 30, len(tree.columns))
    model = Model(Design(SMALL, 32, tree.columns, (0.1, 0.1, 0.1), (0.1, 0.1, 0.1)), baseline).eval()
    torch.nn.init.zeros_(model.head.weight)
    predicted = model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).detach().numpy()
    assert predicted == pytest.approx(np.broadcast_to(baseline, predicted.shape), rel=1e-4)


def test_the_weights_file_contains_only_the_model(run: Path) -> None:
    assert set(load_file(run / "model.safetensors")) == set(open_run(run)[0].state_dict())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_model_of_real_galaxies_beats_the_baseline(shared_data: Path, tmp_path: Path) -> None:
    sample = shared_data / "gz2_sample"
    (tmp_path / "columns.toml").write_text(REAL_MAPPING)
    folder, out = tmp_path / "dataset", tmp_path / "predictions.parquet"
    columns = tmp_path / "columns.toml"
    build("gz2", votes=sample / "votes.csv", images=sample / "images", mapping=columns, out=folder)
    run = train(folder, out=tmp_path / "run").run
    predict(run, folder, out=out)
    log_likelihood_gain = score(out, folder).questions["smooth-or-featured-gz2"]["log_likelihood_gain"]
    print(log_likelihood_gain)  # noqa: T201
    assert log_likelihood_gain["low"] is not None
    assert log_likelihood_gain["low"] > 0


def test_predict_applies_the_recalibration_of_the_run(
    run: Path, dataset: Path, predictions: Path, tmp_path: Path
) -> None:
    metadata = files.read_json(run / "run.json")
    tree = open_dataset(dataset).tree
    recalibration = Recalibration.from_dict(metadata["recalibration"], run)
    assert set(recalibration.questions) == {question.name for question in tree.questions}
    raw = predict(run, dataset, out=tmp_path / "raw.parquet", recalibrate=False).path
    uncalibrated = read_predictions(raw, tree).concentrations
    wanted = recalibration.apply(uncalibrated, tree)
    assert read_predictions(predictions, tree).concentrations == pytest.approx(wanted, nan_ok=True)
    for path, is_recalibrated in ((raw, False), (predictions, True)):
        about = json.loads((pq.read_schema(path).metadata or {})[b"gzoo"])
        assert about["is_recalibrated"] is is_recalibrated


def test_a_run_without_recalibration_predicts_raw_output(run: Path, dataset: Path, tmp_path: Path) -> None:
    older = tmp_path / "run"
    shutil.copytree(run, older)
    metadata = files.read_json(older / "run.json")
    del metadata["recalibration"]
    (older / "run.json").write_text(json.dumps(metadata))
    made = [predict(older, dataset, out=tmp_path / f"{flag}.parquet", recalibrate=flag).path for flag in (True, False)]
    assert pl.read_parquet(made[0]).equals(pl.read_parquet(made[1]))


# ----------------------------------------------------------------------------------------------------
# Other people's test sets


def only_test(folder: Path, votes: Path, images: Path) -> Path:
    """Build a dataset whose galaxies are all in its test split, with identifiers of its own."""
    theirs = [(pl.lit("theirs-") + pl.col(name)).alias(name) for name in ("id_str", "filename")]
    table = pl.read_parquet(votes).with_columns(*theirs, split=pl.lit("test"))
    table.write_parquet(folder.with_suffix(".parquet"))
    (folder.with_suffix(".images")).mkdir()
    for image in images.iterdir():
        shutil.copy(image, folder.with_suffix(".images") / f"theirs-{image.name}")
    build("gz2", votes=folder.with_suffix(".parquet"), images=folder.with_suffix(".images"), out=folder,
          split_column="split")  # fmt: skip
    return folder


def test_a_model_is_scored_on_a_dataset_with_only_a_test_split(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = simulate("gz2", n_galaxies=40, seed=77, workers=1, out=tmp_path / "sky")
    theirs = only_test(tmp_path / "theirs", made.votes, made.images)
    assert open_dataset(theirs).splits == ("test",)
    predicted = predict(run, theirs, out=tmp_path / "p.parquet")
    assert (predicted.n_galaxies, predicted.n_trained_on) == (40, 0)
    page = tmp_path / "report.html"
    monkeypatch.setattr(
        "sys.argv", ["gzoo", "score", str(predicted.path), str(theirs), "--json", "--report", str(page)]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    gain = found["overall"]["log_likelihood_gain"]
    assert gain["low"] < gain["value"] < gain["high"]
    n_train = files.read_json(run / "run.json")["n_train"]
    own = {"fitted_on": "training galaxies", "source": predicted.path.name, "n_galaxies": n_train}
    assert found["baseline"] == own
    assert f"{n_train} training galaxies of the model of" in page.read_text("utf-8")
    given = score(predicted.path, theirs, baseline=dataset)
    assert given.baseline == {"fitted_on": "train split", "source": dataset.name, "n_galaxies": n_train}
    assert given.to_dict()["overall"] == found["overall"]  # the model was trained on that split
    new = recalibrate(predicted.path, theirs, validation=predicted.path, out=tmp_path / "new.parquet").path
    with pytest.raises(TableError, match="trained on"):  # the galaxies that the recalibration was fitted on
        score(new, theirs)
    assert score(new, theirs, include_trained_on=True).baseline == {**own, "source": new.name}


def test_without_any_baseline_one_must_be_given(run: Path, dataset: Path, tmp_path: Path) -> None:
    made = simulate("gz2", n_galaxies=20, seed=78, workers=1, out=tmp_path / "sky")
    theirs = only_test(tmp_path / "theirs", made.votes, made.images)
    predicted = predict(run, theirs, out=tmp_path / "p.parquet").path
    pl.read_parquet(predicted).write_csv(tmp_path / "p.csv")  # without metadata, as of another program
    with pytest.raises(NotFoundError, match=r"(?s)does not contain a baseline.*--baseline"):
        score(tmp_path / "p.csv", theirs)
    assert score(tmp_path / "p.csv", theirs, baseline=dataset).n_galaxies == 20
    with pytest.raises(NotFoundError, match="Split 'train' not found"):
        score(tmp_path / "p.csv", theirs, baseline=theirs)
    with pytest.raises(InputError, match="exclude each other"):
        score(predicted, theirs, baseline=dataset, label="summary")  # type: ignore[call-overload]
    about = json.loads(pq.read_schema(predicted).metadata[b"gzoo"])
    for kept in ({"n_galaxies": 3, "concentrations": {}}, [], {**about["baseline"], "n_galaxies": None}):
        write_prediction_table(tmp_path / "bad.parquet", pl.read_parquet(predicted), {**about, "baseline": kept})
        with pytest.raises(TableError, match="read the baseline in"):
            score(tmp_path / "bad.parquet", theirs)


def test_galaxies_trained_on_are_recognised_by_position_under_other_names(
    run: Path, dataset: Path, sky: SimulateResult, tmp_path: Path
) -> None:
    theirs = only_test(tmp_path / "theirs", sky.votes, sky.images)
    out = predict(run, theirs, out=tmp_path / "p.parquet").path
    trained_on = pl.read_parquet(run / "training_galaxies.parquet")["id_str"]
    found = pl.read_parquet(out)
    assert found["in_training_set"].to_list() == found["id_str"].str.strip_prefix("theirs-").is_in(trained_on).to_list()
    assert 0 < found["in_training_set"].sum() < found.height
    with pytest.raises(TableError, match=f"contains {found['in_training_set'].sum()} galaxies that the model was"):
        score(out, theirs)


def test_a_model_of_real_galaxies_is_scored_on_simulated_ones(shared_data: Path, tmp_path: Path) -> None:
    sample = shared_data / "gz2_sample"
    (tmp_path / "columns.toml").write_text(REAL_MAPPING)
    pl.read_csv(sample / "votes.csv", infer_schema_length=None)[::12].write_csv(tmp_path / "votes.csv")
    folder = build("gz2", votes=tmp_path / "votes.csv", images=sample / "images", mapping=tmp_path / "columns.toml",
                   out=tmp_path / "real").folder  # fmt: skip
    run = quick(folder, tmp_path / "run", epochs=1).run
    made = simulate("gz2", n_galaxies=30, seed=79, workers=1, out=tmp_path / "sky")
    theirs = only_test(tmp_path / "theirs", made.votes, made.images)
    out = predict(run, theirs, out=tmp_path / "p.parquet").path
    found = score(out, theirs)
    first = found.questions["smooth-or-featured-gz2"]["log_likelihood_gain"]
    assert first["low"] is not None
    assert found.baseline is not None
    assert found.baseline["fitted_on"] == "training galaxies"
