"""Training: from a dataset to a run folder with a model in it."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file

from gzoo import files, hub
from gzoo.dataset.open import KEY, Dataset, open_dataset
from gzoo.display import Shown
from gzoo.errors import InputError, NotFoundError
from gzoo.files import Progress
from gzoo.learn import checkpoints
from gzoo.learn.fitting import WEIGHTS, Recipe, fit
from gzoo.learn.heads import VoteLoss
from gzoo.learn.inputs import check_integers
from gzoo.learn.loader import Loader, loader
from gzoo.learn.model import Design, Model, fastest_device
from gzoo.learn.prediction import predict_concentrations
from gzoo.scoring import baseline as baselines
from gzoo.scoring import likelihood
from gzoo.scoring.recalibration import fit_recalibration
from gzoo.sky import identifier_split
from gzoo.trees.tree import FloatArray, IntArray

DEFAULT_ENCODER = "resnet18"
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
        progress: Function to call with (stage, batches done, batches in total).

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
    recipe = Recipe(
        encoder=encoder,
        size=size,
        pretrained=pretrained,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        augment=augment,
        patience=PATIENCE,
        seed=seed,
    )
    command = {"command": "train", "data": opened.digest, **asdict(recipe)}
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
        baseline_loss = _baseline_loss(validation_loader, baseline)
        epochs_done = fit(
            model, VoteLoss(opened.tree), train_loader, validation_loader, work, recipe, baseline_loss, progress
        )
        losses = [each.validation_loss for each in epochs_done]
        best_epoch = int(np.argmin(losses)) + 1
        weights = work / WEIGHTS
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
            "settings": asdict(recipe),
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
        checkpoints.remove(work)
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


def _baseline_loss(validation: Loader, baseline: FloatArray) -> float:
    votes = validation.votes
    concentrations = np.broadcast_to(baseline, (len(votes), len(baseline)))
    nll = likelihood.dirichlet_multinomial_nll(votes.counts, concentrations, validation.tree, votes.totals)
    return float(nll.sum(axis=1).mean())
