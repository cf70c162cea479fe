"""Training: from a dataset to a run folder with a model in it."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file, save
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from gzoo import files, hub
from gzoo.dataset.open import KEY, Dataset, open_dataset
from gzoo.display import Shown
from gzoo.errors import InputError, NonFiniteLossError, NotFoundError
from gzoo.files import Progress
from gzoo.learn.inputs import check_integers
from gzoo.learn.loader import Batch, Loader, loader
from gzoo.learn.losses import dirichlet_multinomial_nll
from gzoo.learn.model import Design, Model, fastest_device
from gzoo.learn.prediction import predict_concentrations
from gzoo.scoring import baseline as baselines
from gzoo.scoring import likelihood
from gzoo.scoring.recalibration import fit_recalibration
from gzoo.sky import identifier_split
from gzoo.trees.tree import FloatArray, IntArray, Tree

DEFAULT_ENCODER = "resnet18"
CHECKPOINT, METRICS, WEIGHTS = "last.ckpt", "metrics.csv", "model.safetensors"
PATIENCE = 10  # epochs without a lower validation loss
PACKAGES = ("gzoo", "torch", "timm", "numpy", "pyarrow", "polars", "pillow", "safetensors")


@dataclass(frozen=True, slots=True, repr=False)
class TrainResult(Shown):
    """Result of `gzoo.train`.

    Attributes:
        run: Run folder.
        n_train: Number of galaxies trained on.
        n_validation: Number of galaxies for validation.
        n_epochs: Number of epochs trained; the weights of the best one are kept.
        best_epoch: Epoch with the lowest validation loss; the first is 1.
        best_loss: Lowest validation loss, in nats per galaxy, summed over questions.
        baseline_loss: Validation loss of the baseline, which predicts the same for every galaxy.
        n_galaxies_by_question: Number of galaxies trained on that have votes on each question. The model predicts no
            question with fewer than 30.
    """

    run: Path
    n_train: int
    n_validation: int
    n_epochs: int
    best_epoch: int
    best_loss: float
    baseline_loss: float
    n_galaxies_by_question: Mapping[str, int]


def train(
    dataset: Path | str,
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
    cache_dir: Path | str | None = None,
    overwrite: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a model on the votes of a dataset.

    The model is a timm encoder with one head for all questions. It is trained on the train split with the
    Dirichlet-multinomial loss, AdamW and a one-cycle learning rate. Validation uses a moving average of the weights
    over about one epoch. Training stops when the validation loss has not improved for 10 epochs; the weights of the
    best epoch are kept. If the dataset lacks a validation split, an eighth of train is held out, by a hash of the
    identifiers.

    At the end, a recalibration (a factor, a temperature and biases per question) is fitted on the validation galaxies,
    which `predict` applies. Interrupted training resumes from the last complete epoch when the same command runs again.

    Args:
        dataset: Dataset with images: a folder, a campaign's name, or `owner/name` on the Hub.
        out: Run folder to write.
        encoder: Name of a timm model.
        size: Width and height in pixels of the images that the model sees.
        pretrained: Start from the encoder's published weights (from the Hub, safetensors only).
        epochs: Maximum number of epochs.
        batch_size: Images per training batch.
        learning_rate: Peak learning rate of the one-cycle schedule; by default 1e-3, or 1e-4 with `pretrained`.
        augment: Name of the augmentation preset for training images (`gzoo augmentations` draws them): by default one
            of the eight orientations; `train` does more, but requires longer training.
        seed: Seed of initial weights, order and augmentation.
        cache_dir: Folder on this machine for decoded images, up to 50 GB, which later epochs reuse.
        overwrite: Replace an earlier run.
        wait: Wait for another run that writes the same output to end, instead of stopping.
        progress: Function to call with (stage, epochs done, epochs in total).

    Raises:
        NotFoundError: The dataset or its train split does not exist.
        InputError: An argument is invalid, or the dataset has too few galaxies for validation.
        NonFiniteLossError: The loss is NaN or infinite; the message names the galaxies.
        OutputExistsError: `out` already exists.
        BusyError: Another run writes the same output, and `wait` is False.
        HubError: The pretrained weights cannot be downloaded.
    """
    check_integers(1, size=size, epochs=epochs, batch_size=batch_size)
    check_integers(0, 2**63 - 1, seed=seed)
    learning_rate = (1e-4 if pretrained else 1e-3) if learning_rate is None else learning_rate
    if not 0 < learning_rate < math.inf:
        raise InputError(f"learning_rate must be positive and finite, got {learning_rate}.")
    out = Path(out)
    files.refuse_occupied(out.absolute(), kind="run", overwrite=overwrite)
    opened = open_dataset(dataset, progress=progress)
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
    command = {"command": "train", "data": opened.digest, **settings}
    torch.manual_seed(seed)
    train_loader, validation_loader, held_out = _loaders(opened, size, batch_size, augment, seed, cache_dir)
    loaders = {"train": train_loader, "validation": validation_loader}
    n_train, n_validation = (len(each.rows) for each in loaders.values())
    n_galaxies_by_question = {
        question.name: int(n)
        for question, n in zip(opened.tree.questions, (train_loader.votes.totals > 0).sum(axis=0), strict=True)
    }
    baseline = likelihood.fit_baseline(train_loader.votes)
    mean, std = _colour_statistics(train_loader)
    model = Model(Design(encoder, size, opened.tree.concentrations, mean, std), baseline)
    if torch.cuda.is_available():
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  as the loader's images are
    origin = _load_published_weights(model, encoder) if pretrained else None
    with files.work(out, kind="run", begun=command, overwrite=overwrite, wait=wait, progress=progress) as work:
        weights = work / WEIGHTS
        if not (work / METRICS).exists():  # written at the end of training
            _fit(model, train_loader, validation_loader, work, settings, progress)
        losses: list[float] = pl.read_csv(work / METRICS, glob=False)["validation_loss"].to_list()
        best_epoch = int(np.argmin(losses)) + 1
        baseline_loss = _baseline_loss(validation_loader, baseline)
        best = Model(model.design)  # as `predict` will load it
        best.load_state_dict(load_file(weights))
        predicted = predict_concentrations(best, validation_loader)
        recalibration = fit_recalibration(validation_loader.votes, predicted[None])
        places = pl.concat([opened.positions(split) for split in opened.splits]).unique(KEY, keep="first")
        galaxies = [
            each.keys.with_columns(role=pl.lit(role)).join(
                places.select(*KEY, "ra", "dec"), on=KEY, how="left", maintain_order="left"
            )
            for role, each in loaders.items()
        ]
        with files.whole_file(work / "training_galaxies.parquet") as file:
            pl.concat(galaxies).sort("dataset_name", "id_str").write_parquet(file)
        metadata = {
            "format": "gzoo-run-2",
            "design": asdict(model.design),
            "settings": settings,
            "data": {
                **opened.campaign.to_manifest(),
                "manifest_sha256": opened.digest,
                "hub": dict(opened.origin) if opened.origin else None,
                "is_simulated": opened.is_simulated,
                "split_scheme": opened.split_scheme,
                "dataset_names": sorted(train_loader.keys["dataset_name"].unique().to_list()),
                "licence": "cc0-1.0" if opened.is_simulated else opened.campaign.hub.licence,
                "n_galaxies_by_question": n_galaxies_by_question,
                "validation": held_out,
            },
            "pretrained": origin,
            "n_train": n_train,
            "n_validation": n_validation,
            "n_epochs": len(losses),
            "best_epoch": best_epoch,
            "validation_loss": losses[best_epoch - 1],
            "baseline_validation_loss": baseline_loss,
            "baseline": baselines.to_dict(train_loader.votes, baseline),
            "recalibration": recalibration.to_dict(),
            "weights_sha256": files.sha256(weights),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        }
        files.write_json(work / "run.json", metadata)
        (work / CHECKPOINT).unlink(missing_ok=True)
    return TrainResult(
        out, n_train, n_validation, len(losses), best_epoch, min(losses), baseline_loss, n_galaxies_by_question
    )


def _loaders(
    dataset: Dataset, size: int, batch_size: int, augment: str, seed: int, cache_dir: Path | str | None
) -> tuple[Loader, Loader, str]:
    """Return loaders of training and validation galaxies, and a description of the latter."""
    if "train" not in dataset.splits:
        raise NotFoundError(f"Split 'train' not found in '{dataset.folder}'.", hint="Build a larger dataset.")
    rows: tuple[IntArray | None, IntArray | None] = (None, None)
    held_out_split, description = "validation", "validation split"
    if "validation" not in dataset.splits:
        keys, *_ = dataset.vote_arrays("train")
        is_held_out = np.array([identifier_split.is_held_out(id_str) for id_str in keys["id_str"]])
        if is_held_out.all() or not is_held_out.any():
            raise InputError(
                f"'{dataset.folder}' has only {len(keys)} galaxies in split 'train' and no split 'validation'.",
                "about 12 galaxies or more, so that some can be held out for validation.",
                "Build a larger dataset.",
            )
        rows = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
        held_out_split = "train"
        description = f"{identifier_split.HELD_OUT_FRACTION:.1%} of train, by hash of id (held-out-1)"
    open_loader = partial(loader, dataset, batch_size, size, cache_dir=cache_dir, device=fastest_device())
    train = open_loader(augment=augment, seed=seed, rows=rows[0])
    validation = open_loader(split=held_out_split, rows=rows[1])
    for name, each in (("training", train), ("validation", validation)):
        if not (each.votes.totals > 0).any():
            raise InputError(
                f"The {name} galaxies of '{dataset.folder}' do not have any votes.", hint="Rebuild it with other votes."
            )
    return train, validation, description


def _colour_statistics(train: Loader) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation of each colour over some training images, 0 to 1."""
    images = train.take(np.arange(min(256, len(train.rows))))["image"].double() / 255
    mean, std = images.mean(dim=(0, 2, 3)).tolist(), images.std(dim=(0, 2, 3)).clamp(min=0.01).tolist()
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _load_published_weights(model: Model, encoder: str) -> dict[str, str]:
    """Load the encoder's weights from the Hub, and return where they come from."""
    path, origin = hub.pretrained_weights(encoder)
    missing, _ = model.encoder.load_state_dict(load_file(path), strict=False)  # ignores their classification head
    if missing:
        raise InputError(f"The published weights of '{encoder}' lack '{missing[0]}'.", hint="Choose another --encoder.")
    return {**origin, "sha256": files.sha256(Path(path))}


def _fit(
    model: Model, train: Loader, validation: Loader, work: Path, settings: Mapping[str, Any], progress: Progress | None
) -> None:
    """Train, from the checkpoint if there is one; write the best weights and, at the end, the losses of each epoch."""
    epochs, seed, peak = settings["epochs"], settings["seed"], settings["learning_rate"]
    device = torch.device("mps") if torch.backends.mps.is_available() else fastest_device()
    model.to(device)
    average = AveragedModel(model, avg_fn=get_ema_avg_fn(1 - 1 / max(10, min(len(train), 1000))), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.05)
    n_steps = epochs * len(train)
    rising = 0.2 if n_steps != 5 else 0.25  # a rise of exactly one step makes the schedule divide by 0
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=n_steps, pct_start=rising)
    stateful = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
    losses: list[list[float]] = []  # of train and validation
    if (work / CHECKPOINT).exists():
        state = torch.load(work / CHECKPOINT, map_location=device, weights_only=True)
        losses = state["losses"]
        for name, part in stateful.items():
            part.load_state_dict(state[name])
    while len(losses) < epochs and len(losses) - _best_epoch(losses) < PATIENCE:
        train.epoch = len(losses)
        torch.manual_seed(hash((seed, len(losses))) % 2**63)  # dropout is the same when training resumes
        model.train()
        average.eval()
        totals = [0.0, 0.0]
        for batch in train:
            loss = galaxy_losses(model, train.tree, batch, "train")
            optimizer.zero_grad()
            loss.mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            totals[0] += loss.sum().item()
        with torch.no_grad():
            for batch in validation:
                totals[1] += galaxy_losses(average, train.tree, batch, "validation").sum().item()
        losses.append([totals[0] / len(train.rows), totals[1] / len(validation.rows)])
        if _best_epoch(losses) == len(losses):
            weights = {name: value.cpu().contiguous() for name, value in average.module.state_dict().items()}
            files.write_bytes(work / WEIGHTS, save(weights))
        state = {"losses": losses, **{name: part.state_dict() for name, part in stateful.items()}}
        with files.whole_file(work / CHECKPOINT) as file:
            torch.save(state, file)
        if progress:
            progress(f"Training model (validation loss {losses[-1][1]:.3f})", len(losses), epochs)
    rows = [(epoch, *both) for epoch, both in enumerate(losses, 1)]
    table = pl.DataFrame(rows, ["epoch", "train_loss", "validation_loss"], orient="row")
    files.write_bytes(work / METRICS, table.write_csv().encode())


def galaxy_losses(model: torch.nn.Module, tree: Tree, batch: Batch, split: str) -> torch.Tensor:
    """Return the loss of each galaxy in a batch, in nats, summed over questions.

    Raises:
        NonFiniteLossError: A loss is NaN or infinite; the message names the galaxies.
    """
    device = next(model.parameters()).device
    image, votes, totals = (batch[name].to(device) for name in ("image", "votes", "totals"))
    # bfloat16 only for the model: the loss is computed in float32 in any case
    is_mixed = device.type == "cuda" and torch.cuda.is_bf16_supported()
    with torch.autocast(device.type, torch.bfloat16, enabled=is_mixed):
        concentration = model(image)
    losses = dirichlet_multinomial_nll(votes, concentration, tree, totals).sum(dim=1)
    is_finite = torch.isfinite(losses)
    if not is_finite.all():
        ids = [id_str for id_str, finite in zip(batch["id_str"], is_finite, strict=True) if not finite]
        raise NonFiniteLossError(
            f"The loss is NaN or infinite for {len(ids)} galaxies of {split}: {', '.join(ids[:10])}.",
            hint="Lower --learning-rate, or check the images and votes of these galaxies.",
        )
    return losses


def _best_epoch(losses: list[list[float]]) -> int:
    """Return the first epoch with the lowest validation loss, counted from 1; 0 before the first epoch."""
    return int(np.argmin([validation for _, validation in losses])) + 1 if losses else 0


def _baseline_loss(validation: Loader, baseline: FloatArray) -> float:
    votes = validation.votes
    concentrations = np.broadcast_to(baseline, (len(votes), len(baseline)))
    nll = likelihood.dirichlet_multinomial_nll(votes.counts, concentrations, validation.tree, votes.totals)
    return float(nll.sum(axis=1).mean())
