"""Train: a dataset folder becomes a run folder with a model in it."""

from __future__ import annotations

import logging
import math
import platform
import signal
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

import lightning as L
import numpy as np
import polars as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging
from safetensors.torch import load_file, save

from gzoo import files, hub
from gzoo.dataset.open import Dataset, open_dataset
from gzoo.errors import InputError, NonFiniteLossError, NotFoundError
from gzoo.learn.loader import Batch, Loader, loader
from gzoo.learn.losses import dirichlet_multinomial_nll
from gzoo.learn.model import Design, Model, design_to
from gzoo.learn.prediction import concentrations
from gzoo.scoring.likelihood import fit_baseline
from gzoo.scoring.recalibration import fit_recalibration
from gzoo.sky import identifier_split
from gzoo.trees.tree import FloatArray, IntArray, Tree

DEFAULT_ENCODER = "resnet18"
LAST = "last.ckpt"
PATIENCE = 10  # epochs without a better validation loss
PACKAGES = ("gzoo", "torch", "timm", "lightning", "numpy", "pyarrow", "polars", "pillow", "safetensors")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What training made.

    Attributes:
        run: The run folder.
        n_train: Galaxies trained on.
        n_validation: Galaxies held out to decide when to stop.
        n_epochs: Epochs trained; the best one's weights are kept.
        best_epoch: The epoch with the lowest validation loss, the first is 1.
        best_loss: That loss, nats per galaxy summed over questions.
        baseline_loss: The same for a model that knows only the training votes.
    """

    run: Path
    n_train: int
    n_validation: int
    n_epochs: int
    best_epoch: int
    best_loss: float
    baseline_loss: float


def train(
    folder: Path | str,
    *,
    out: Path | str,
    encoder: str = DEFAULT_ENCODER,
    size: int = 128,
    pretrained: bool = False,
    epochs: int = 30,
    batch_size: int = 32,
    learning_rate: float | None = None,
    augment: str = "average",
    seed: int = 0,
    cache: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> TrainResult:
    """A model of a dataset's votes.

    A timm encoder with one head for all questions, trained with the Dirichlet-multinomial loss on the train split by
    AdamW, its learning rate rising and falling once over the epochs. What is validated and kept is a running average
    of the weights over about an epoch. Stops when the validation loss has not improved for 10 epochs, and keeps the
    best epoch. Where the dataset has no validation split, an eighth of train is held out by hash of id. On the same
    galaxies two numbers a question are fitted at the end, which make predictions as sure as they should be; `predict`
    applies them. Stopped half way, the same command goes on from the last whole epoch.

    Args:
        folder: The dataset: a folder, a campaign's name or `owner/name` on the Hub.
        out: The run folder to make.
        encoder: Name of a timm model.
        size: Width and height of the images it sees, in pixels.
        pretrained: Start from the encoder's published weights (from the Hub, safetensors only).
        epochs: At most this many.
        batch_size: Galaxies in a step.
        learning_rate: The largest; by default 1e-3 for a fresh encoder, 1e-4 for a pretrained one.
        augment: What happens to training images, by the name of a preset, which `gzoo augmentations` draws: by
            default one of their eight orientations; `train` does more, for which training has to be long.
        seed: Of weights, order and augmentation.
        cache: Folder on this machine to keep decoded images in, for later epochs; it takes up to 50 GB.
        overwrite: Replace an earlier run.
        progress: Called as (stage, epochs done, epochs).

    Raises:
        NotFoundError: The folder or its train split is not there.
        InputError: An argument cannot be used, or there is nothing to validate on.
        NonFiniteLossError: The loss is not a number; the message names the galaxies.
        OutputExistsError: `out` is taken.
        HubError: The pretrained weights cannot be had.
    """
    for name, value in (("size", size), ("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"{name} is {value}.", "At least 1.", f"Give a larger --{name.replace('_', '-')}.")
    if learning_rate is None:
        learning_rate = 1e-4 if pretrained else 1e-3
    if not 0 < learning_rate < math.inf:
        raise InputError(f"learning_rate is {learning_rate}.", "A positive number.", "Give another --learning-rate.")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}.", "A whole number from 0 to 2**63 - 1.", "Give another --seed.")
    out = Path(out)
    files.refuse_occupied(out.absolute(), kind="run", overwrite=overwrite)
    dataset = open_dataset(folder, progress=progress)
    settings: dict[str, object] = {
        "encoder": encoder,
        "size": size,
        "pretrained": pretrained,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "augment": augment,
        "patience": PATIENCE,
        "seed": seed,
    }
    begun = {"command": "train", "data": dataset.digest, **settings}
    torch.manual_seed(seed)
    train_loader, validation_loader, held_out = _loaders(dataset, size, batch_size, augment, seed, cache)
    tree = dataset.tree
    baseline = fit_baseline(train_loader.votes)
    mean, std = _colours(train_loader)
    model = Model(Design(encoder, size, tree.columns, mean, std), baseline)
    if torch.cuda.is_available():
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  as the loader's images are
    origin: dict[str, str] | None = None
    if pretrained:
        origin = _start_from_published(model, encoder)
    with files.work(out, kind="run", begun=begun, overwrite=overwrite) as partial:
        metrics, weights = partial / "metrics.csv", partial / "model.safetensors"
        if not metrics.exists():  # it is written when training is over
            task = _Task(model, tree, learning_rate, seed)
            history = _fit(task, train_loader, validation_loader, partial, epochs, progress)
            files.write_bytes(metrics, history.write_csv().encode())
        losses = cast("list[float]", pl.read_csv(metrics, glob=False)["validation_loss"].to_list())
        best_epoch = int(np.argmin(losses)) + 1
        baseline_loss = _baseline_loss(validation_loader, baseline, tree)
        best = Model(model.design)  # as `predict` will see it
        best.load_state_dict(load_file(weights))
        held_out_says = concentrations(best, validation_loader)
        recalibration = fit_recalibration(validation_loader.votes, held_out_says[None])
        _write_galaxies(partial / "training_galaxies.parquet", train_loader, validation_loader)
        facts = {
            "format": "gzoo-run-2",
            "design": design_to(model.design),
            "settings": settings,
            "data": {
                "campaign": dataset.campaign.name,
                "manifest_sha256": dataset.digest,
                "hub": dict(dataset.origin) if dataset.origin else None,
                "is_simulated": dataset.is_simulated,
                "split_scheme": dataset.split_scheme,
                "dataset_names": sorted(train_loader.keys["dataset_name"].unique().to_list()),
                "licence": "cc0-1.0" if dataset.is_simulated else dataset.campaign.hub.licence,
                "not_collected": list(dataset.not_collected),
                "validation": held_out,
            },
            "pretrained": origin,
            "n_train": len(train_loader.rows),
            "n_validation": len(validation_loader.rows),
            "n_epochs": len(losses),
            "best_epoch": best_epoch,
            "validation_loss": losses[best_epoch - 1],
            "baseline_validation_loss": baseline_loss,
            "recalibration": recalibration.to_dict(),
            "weights_sha256": files.sha256(weights),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        }
        files.write_json(partial / "run.json", facts)
        (partial / LAST).unlink(missing_ok=True)
    return TrainResult(
        out, len(train_loader.rows), len(validation_loader.rows), len(losses), best_epoch, min(losses), baseline_loss
    )


def _loaders(
    dataset: Dataset, size: int, batch_size: int, augment: str, seed: int, cache: Path | str | None
) -> tuple[Loader, Loader, str]:
    """Loaders of training and validation galaxies, and where the latter are from."""
    if "train" not in dataset.splits:
        raise NotFoundError(f"{dataset.folder} has no train split.", "One to train on.", "Build a larger dataset.")
    rows: tuple[IntArray | None, IntArray | None] = (None, None)
    if "validation" in dataset.splits:
        held_in, where = "validation", "validation split"
    else:
        keys, *_ = dataset.vote_arrays("train")
        held_out = np.array([identifier_split.is_held_out(one) for one in keys["id_str"]])
        if held_out.all() or not held_out.any():
            raise InputError(
                f"{dataset.folder} has {len(keys)} galaxies to train on, too few to hold some out for validation.",
                "A dozen or more.",
                "Build a larger dataset.",
            )
        rows = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        held_in, where = "train", f"{identifier_split.HELD_OUT_FRACTION:.1%} of train, by hash of id (held-out-1)"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train = loader(dataset, batch_size, size, augment=augment, seed=seed, rows=rows[0], cache=cache, device=device)
    validation = loader(dataset, batch_size, size, split=held_in, rows=rows[1], cache=cache, device=device)
    for name, one in (("train", train), ("validation", validation)):
        if not (one.votes.totals > 0).any():
            raise InputError(
                f"No galaxy of {dataset.folder} has votes in {name}.", "Votes to learn from.", "Build with other votes."
            )
    return train, validation, where


def _colours(train: Loader) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of each colour over some training images, 0 to 1."""
    images = train.take(np.arange(min(256, len(train.rows))))["image"].double() / 255
    mean, std = images.mean(dim=(0, 2, 3)).tolist(), images.std(dim=(0, 2, 3)).clamp(min=0.01).tolist()
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _start_from_published(model: Model, encoder: str) -> dict[str, str]:
    path, origin = hub.pretrained_weights(encoder)
    weights = load_file(path)
    missing, _ = model.encoder.load_state_dict(weights, strict=False)  # their classifier head has no place here
    if missing:
        raise InputError(
            f"The published weights of '{encoder}' lack {missing[0]}.", "Weights of this encoder.", "Choose another."
        )
    return {**origin, "sha256": files.sha256(Path(path))}


class _Task(L.LightningModule):
    """What happens in a step."""

    def __init__(self, model: Model, tree: Tree, learning_rate: float, seed: int) -> None:
        super().__init__()
        self.model, self.tree, self.learning_rate, self.seed = model, tree, learning_rate, seed

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        return self._loss("train", batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        return self._loss("validation", batch)

    def _loss(self, name: str, batch: Batch) -> torch.Tensor:
        nll = dirichlet_multinomial_nll(batch["votes"], self.model(batch["image"]), self.tree, batch["totals"])
        per_galaxy = nll.sum(dim=1)
        if not bool(torch.isfinite(per_galaxy).all()):
            ids = [one for one, finite in zip(batch["id"], torch.isfinite(per_galaxy), strict=True) if not finite]
            raise NonFiniteLossError(
                f"The loss is not a number for {len(ids)} galaxies of {name}: {', '.join(ids[:10])}.",
                "A finite loss.",
                "Lower --learning-rate, or look at these galaxies' images and votes.",
            )
        loss = per_galaxy.mean()
        self.log(f"{name}_loss", loss, on_step=False, on_epoch=True, batch_size=len(nll))
        return loss

    def configure_optimizers(self) -> dict[str, object]:  # pyright: ignore[reportIncompatibleMethodOverride]
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=0.05)
        n_steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=n_steps, pct_start=0.2
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Watch(Callback):
    """Keeps the best weights, each epoch's losses and a checkpoint, and tells the caller of `train` how far it is.

    Lightning's own checkpoints change their names where a folder was used before or was moved: a resumed run could
    then not tell which one is the best.
    """

    def __init__(self, task: _Task, loader: Loader, partial: Path, progress: Progress | None, epochs: int) -> None:
        self.task, self.loader, self.partial, self.progress, self.epochs = task, loader, partial, progress, epochs
        self.losses: list[tuple[float, float]] = []  # of train and validation

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.loader.epoch = trainer.current_epoch
        torch.manual_seed(hash((self.task.seed, trainer.current_epoch)) % 2**63)  # of dropout, the same when resumed

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loss = float(trainer.callback_metrics["validation_loss"])
        if loss < min((validation for _, validation in self.losses), default=math.inf):
            weights = {name: value.cpu().contiguous() for name, value in self.task.model.state_dict().items()}
            files.write_bytes(self.partial / "model.safetensors", save(weights))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        train, validation = (float(trainer.callback_metrics[f"{name}_loss"]) for name in ("train", "validation"))
        self.losses.append((train, validation))
        trainer.save_checkpoint(self.partial / LAST, weights_only=False)
        if self.progress:
            self.progress(f"training (validation loss {validation:.3f})", len(self.losses), self.epochs)

    def state_dict(self) -> dict[str, object]:
        return {"losses": [list(one) for one in self.losses]}

    def load_state_dict(self, state_dict: Mapping[str, object]) -> None:
        self.losses = [(one[0], one[1]) for one in cast("list[list[float]]", state_dict["losses"])]


def _fit(
    task: _Task, train: Loader, validation: Loader, partial: Path, epochs: int, progress: Progress | None
) -> pl.DataFrame:
    """Train, from the last checkpoint if there is one, and leave the best weights in `model.safetensors`.

    Returns:
        The losses of each epoch.
    """
    watch = _Watch(task, train, partial, progress, epochs)
    average = EMAWeightAveraging(decay=1 - 1 / max(10, min(len(train), 1000)))
    # Lightning talks of matters that gzoo has settled; its warnings about data loaders do not fit ours
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # the watch stands behind the stopping, whose state its checkpoint holds, and before the averaging, which puts the
    # averaged weights back in their place after validation
    stop = EarlyStopping("validation_loss", patience=PATIENCE, check_finite=False, check_on_train_epoch_end=True)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        # the loss is computed in float32 all the same
        precision="bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true",
        logger=False,
        enable_checkpointing=False,
        callbacks=[stop, watch, average],
        gradient_clip_val=5.0,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,
    )
    last, on_interrupt = partial / LAST, signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning.*")
        try:
            trainer.fit(
                task,
                train_dataloaders=train,
                val_dataloaders=validation,
                ckpt_path=last if last.exists() else None,
                weights_only=True,
            )
        except SystemExit as end:  # Lightning's answer to Ctrl-C, to which it is deaf from then on
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from end
    return pl.DataFrame(
        [(i, *losses) for i, losses in enumerate(watch.losses, 1)],
        schema={"epoch": pl.Int64, "train_loss": pl.Float64, "validation_loss": pl.Float64},
        orient="row",
    )


def _baseline_loss(validation: Loader, baseline: FloatArray, tree: Tree) -> float:
    from gzoo.scoring.likelihood import dirichlet_multinomial_nll as nll

    votes = validation.votes
    return float(
        nll(votes.counts, np.broadcast_to(baseline, votes.counts.shape), tree, votes.totals).sum(axis=1).mean()
    )


def _write_galaxies(path: Path, train: Loader, validation: Loader) -> None:
    """Which galaxies the run has seen, and what for."""
    parts = [(train, "train"), (validation, "validation")]
    table = pl.concat([one.keys.with_columns(role=pl.lit(role)) for one, role in parts])
    table.sort("dataset_name", "id_str").write_parquet(path)
