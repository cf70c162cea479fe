"""The training loop: optimiser, schedule, averaged weights, checkpoints, epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from time import monotonic as clock
from typing import Any, cast

import polars as pl
import torch
from safetensors.torch import save
from torch.optim.swa_utils import AveragedModel

from gzoo import files
from gzoo.errors import NonFiniteLossError
from gzoo.files import Progress
from gzoo.learn import checkpoints
from gzoo.learn.adaptation import Part, parameter_groups
from gzoo.learn.by_campaign import CampaignLosses
from gzoo.learn.loader import Batch, Loader
from gzoo.learn.model import Model, fastest_device
from gzoo.learn.processes import ALONE, Processes

METRICS, WEIGHTS = "metrics.csv", "model.safetensors"
CHECKPOINT_SECONDS = 300.0  # between checkpoints within an epoch
MAX_GRADIENT_NORM = 5.0

Loss = Callable[[torch.Tensor, Mapping[str, Any]], torch.Tensor]
"""What a prediction costs, per galaxy, given (what the model's head returns, batch on its device)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained; the `settings` of run.json.

    Attributes:
        encoder: Name of a timm model.
        size: Width and height in pixels of the images that the encoder sees.
        crop: Width of that central part of each image, as a fraction of the image's.
        pretrained: Whether training starts from the encoder's published weights.
        learn: What learns: "all", "head", or the number of the encoder's last blocks that learn with the head.
        warm_up: Fraction of the steps in which learning rates rise to their peaks.
        epochs: Number of epochs.
        batch_size: Maximum number of images in a batch of each process.
        accumulate: Number of batches whose gradients are averaged for one step.
        devices: Number of processes, each on its own device.
        learning_rate: Peak learning rate of the one-cycle schedule, for the head; run.json lists the rates of the
            encoder's parts under `learning`.
        augment: Name of the augmentation preset.
        sampling: How an epoch samples the campaigns of a union: "proportional" or "balanced".
        views: Number of orientations of each image that predictions average over.
        seed: Seed of initial weights, order and augmentation.
    """

    encoder: str
    size: int
    crop: float
    pretrained: bool
    learn: str | int
    warm_up: float
    epochs: int
    batch_size: int
    accumulate: int
    devices: int
    learning_rate: float
    augment: str
    sampling: str
    views: int
    seed: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of metrics.csv where only the head learns: a penalty that was tried.

    Attributes:
        penalty: Factor of half the sum of squared weights, relative to the mean loss.
        train_loss: Mean loss of the training galaxies, in nats.
        validation_loss: Mean loss of the validation galaxies, in nats.
    """

    penalty: float
    train_loss: float
    validation_loss: float


@dataclass(frozen=True, slots=True)
class Epoch:
    """A row of metrics.csv.

    Attributes:
        epoch: Number of the epoch; the first is 1.
        train_loss: Mean loss of the training galaxies while the model learned from them, in nats.
        validation_loss: Mean loss of the validation galaxies by the averaged weights, in nats.
        gain: Validation loss of the baseline minus that of the model, in nats per galaxy.
        learning_rate: Learning rate at the end of the epoch.
        images_per_second: Training images per second.
        seconds: Duration of training and validation.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    gain: float
    learning_rate: float
    images_per_second: float
    seconds: float


def fit(
    model: Model,
    loss: Loss,
    train: Loader,
    validation: Loader,
    work: Path,
    recipe: Recipe,
    learning: Sequence[Part],
    baseline_loss: float,
    progress: Progress | None = None,
    *,
    by_campaign: CampaignLosses,
    group: Processes = ALONE,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train, from the checkpoint if there is one, and write the weights of the best epoch and the metrics of all.

    Of several processes, each trains and validates on its own part of the galaxies, and the first one writes.

    Args:
        model: Model to train.
        loss: Loss of a batch.
        train: Loader of the training galaxies.
        validation: Loader of the validation galaxies.
        work: Folder to write to: checkpoints, `model.safetensors` and `metrics.csv`.
        recipe: Settings.
        learning: Parts of the model, with their learning rates.
        baseline_loss: Validation loss of the baseline, in nats per galaxy.
        progress: Function to call with (stage, batches done, batches in total).
        by_campaign: Collects the validation losses of each campaign.
        group: Processes that train together.
        on_epoch: Function to call after each epoch.

    Returns:
        All epochs.

    Raises:
        NonFiniteLossError: A loss is NaN or infinite; the message names the galaxies.
    """
    device = torch.device("mps") if torch.backends.mps.is_available() else fastest_device()
    model.to(device)
    together = group.with_shared_gradients(model)
    average = AveragedModel(
        model, avg_fn=_moving_average(max(10, min(-(-len(train) // recipe.accumulate), 1000))), use_buffers=True
    )
    optimizer = torch.optim.AdamW(parameter_groups(model, learning), lr=recipe.learning_rate)
    # sized by the loader, because a schedule that counts what is left would differ after resuming
    n_together = recipe.accumulate
    n_steps_each = -(-len(train) // n_together)
    n_steps = recipe.epochs * n_steps_each
    rising = recipe.warm_up
    if math.isclose(rising * n_steps, 1):  # a rise of exactly one step makes the schedule divide by 0
        rising *= 1.25
    peaks = [group["lr"] for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=n_steps, pct_start=rising)
    parts = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
    epochs: list[Epoch] = []
    n_done, n_seen, total, spent = 0, 0, 0.0, 0.0  # batches, galaxies, their losses and seconds of the current epoch

    def save_checkpoint() -> None:
        n, sum_of_losses = group.sums(n_seen, total)
        random = group.of_all({"cpu": torch.get_rng_state(), "cuda": _cuda_random_state()})
        skipped = group.of_all([dict(each.skipped) for each in (train, validation)])
        for each, *of_all in zip((train, validation), *skipped, strict=True):
            each.skipped |= {name: why for one in of_all for name, why in one.items()}
        if group.is_first:
            state = {name: part.state_dict() for name, part in parts.items()}
            position = {"n_done": n_done, "n_seen": int(n), "total": sum_of_losses, "spent": spent}
            tables = {"epochs": [asdict(each) for each in epochs], "by_campaign": by_campaign.state()}
            lost = [dict(each.skipped) for each in (train, validation)]
            state |= {**position, **tables, "loader": train.state_dict(), "random": random, "skipped": lost}
            checkpoints.save(work, state)

    state = group.of_first(checkpoints.load(work, group.meeting_place(device)) if group.is_first else None)
    if state is not None:
        for name, part in parts.items():
            part.load_state_dict(state[name])
        epochs = [Epoch(**each) for each in state["epochs"]]
        by_campaign.resume(state["by_campaign"])
        n_done, n_seen, total, spent = (state[name] for name in ("n_done", "n_seen", "total", "spent"))
        n_seen, total = (n_seen, total) if group.is_first else (0, 0.0)  # which the checkpoint has of all
        for each, skipped in zip((train, validation), state["skipped"], strict=True):
            each.skipped |= skipped
        if n_done:
            train.load_state_dict(state["loader"])
            random = state["random"][group.rank]
            torch.set_rng_state(random["cpu"].cpu())
            if random["cuda"] is not None:
                torch.cuda.set_rng_state(random["cuda"].cpu())
    # never ended earlier: a one-cycle schedule gains most in its last epochs, at the lowest learning rates
    while len(epochs) < recipe.epochs:
        if not n_done:
            train.epoch = len(epochs)
            key = (recipe.seed, len(epochs), group.rank) if group.rank else (recipe.seed, len(epochs))
            torch.manual_seed(hash(key) % 2**63)  # dropout is the same when training resumes
        model.train()
        average.eval()
        stage = _stage(epochs, recipe.epochs)
        started = saved = clock()
        before = spent
        for batch in train:
            each = galaxy_losses(together, loss, batch, "train")
            n_of_all, is_due = group.sums(len(each), group.is_first and clock() - saved > CHECKPOINT_SECONDS)
            first = n_done - n_done % n_together  # of the batches of this step, of which the last may have fewer
            (group.mean(each, n_of_all) / min(n_together, len(train) - first)).backward()
            is_step = (n_done + 1) % n_together == 0 or n_done + 1 == len(train)
            if is_step:
                torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                average.update_parameters(model)
            n_done, n_seen, total = n_done + 1, n_seen + len(each), total + each.sum().item()
            spent = before + clock() - started
            if progress:
                progress(stage, len(epochs) * len(train) + n_done, recipe.epochs * len(train))
            if is_step and is_due and n_done < len(train):
                save_checkpoint()
                saved = clock()
        n, sum_of_losses = group.sums(n_seen, total)
        rate, train_loss = n / max(spent, 1e-9), sum_of_losses / n
        group.share_state(average)  # batch normalisation saw other galaxies in each process
        with torch.no_grad():
            judged = [(batch["index"], galaxy_losses(average, loss, batch, "validation")) for batch in validation]
        judged = group.all_batches(judged)
        spent = before + clock() - started
        validation_loss = torch.cat([each for _, each in judged]).double().mean().item()
        last_rate = cast(float, schedule.get_last_lr()[0])
        gain = baseline_loss - validation_loss
        by_campaign.add(len(epochs) + 1, judged)
        epochs.append(Epoch(len(epochs) + 1, train_loss, validation_loss, gain, last_rate, rate, spent))
        n_done, n_seen, total, spent = 0, 0, 0.0, 0.0
        if progress:
            progress(_stage(epochs, recipe.epochs), len(epochs) * len(train), recipe.epochs * len(train))
        if on_epoch:
            on_epoch(epochs[-1])
        if group.is_first and _best_epoch(epochs) == len(epochs):
            write_weights(work, average.module)
        save_checkpoint()
        if group.is_first:
            write_metrics(work, epochs)
            by_campaign.write(work)
    if group.is_first:  # again, if the process was killed between checkpoint and metrics
        by_campaign.write(work)
        write_metrics(work, epochs)
    return epochs


def _cuda_random_state() -> torch.Tensor | None:
    return torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def write_weights(work: Path, model: torch.nn.Module) -> None:
    """Write model.safetensors."""
    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    files.write_bytes(work / WEIGHTS, save(weights))


def write_metrics(work: Path, rows: Sequence[Epoch] | Sequence[Attempt]) -> None:
    """Write metrics.csv."""
    names = [one.name for one in fields(rows[0])]
    table = pl.DataFrame([astuple(each) for each in rows], names, orient="row")
    files.write_bytes(work / METRICS, table.write_csv().encode())


def galaxy_losses(model: torch.nn.Module, loss: Loss, batch: Batch, split: str) -> torch.Tensor:
    """Return the loss of each galaxy in a batch, in nats.

    Raises:
        NonFiniteLossError: A loss is NaN or infinite; the message names the galaxies.
    """
    device = next(model.parameters()).device
    moved = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    # bfloat16 only for the model in training: losses, and all that is kept of them, are computed in float32
    is_mixed = split == "train" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    with torch.autocast(device.type, torch.bfloat16, enabled=is_mixed):
        prediction = model(moved["image"])
    losses = loss(prediction, moved)
    is_finite = torch.isfinite(losses)
    if not is_finite.all():
        ids = [id_str for id_str, finite in zip(batch["id_str"], is_finite, strict=True) if not finite]
        raise NonFiniteLossError(
            f"The loss is NaN or infinite for {len(ids)} galaxies of {split}: {', '.join(ids[:10])}.",
            hint="Lower --learning-rate and pass --overwrite, or check the images and votes of these galaxies.",
        )
    return losses


def _moving_average(n_steps: int) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | int], torch.Tensor]:
    """Return the function that `AveragedModel` calls with an average, a new value and the number of values so far.

    Two equal values are averaged to the same value, to the last bit, so that what does not learn stays as it is.
    """

    def averaged(average: torch.Tensor, value: torch.Tensor, _: torch.Tensor | int) -> torch.Tensor:
        return average.lerp(value, 1 / n_steps) if average.is_floating_point() else value

    return averaged


def _best_epoch(epochs: list[Epoch]) -> int:
    """Return the first epoch with the lowest validation loss; 0 before the first epoch."""
    return min(epochs, key=lambda each: each.validation_loss).epoch if epochs else 0


def _stage(epochs: list[Epoch], n_epochs: int) -> str:
    """Return what is being done, with the results of the last epoch."""
    if not epochs:
        return "Training model"
    last = epochs[-1]
    return (
        f"Training model (epoch {last.epoch} of {n_epochs}: validation loss {last.validation_loss:.3f}, gain "
        f"{last.gain:+.3f}, {last.images_per_second:,.0f} images/s)"
    )
