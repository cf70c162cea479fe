"""Training: from a dataset to a run folder with a model in it."""

from __future__ import annotations

import logging
import math
import platform
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal, cast

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file

from gzoo import files, hub
from gzoo.dataset.open import KEY, Dataset, open_dataset
from gzoo.dataset.targets import Labels, read_labels
from gzoo.display import Sheet, Shown, field_values
from gzoo.errors import GZooWarning, InputError, NotFoundError
from gzoo.files import Progress
from gzoo.learn import adaptation, checkpoints, familiarity, floors, processes
from gzoo.learn.adaptation import FEW_LABELS, HEAD, Part, freeze, parts_of, read_learn
from gzoo.learn.by_campaign import CampaignLosses
from gzoo.learn.contact_sheet import batch_sheet
from gzoo.learn.encoders import Design, image_size, read_crop
from gzoo.learn.fitting import WEIGHTS, Epoch, Recipe, fit, write_metrics, write_weights
from gzoo.learn.floors import Floors
from gzoo.learn.inputs import check_integers
from gzoo.learn.loader import Loader, loader, n_cores
from gzoo.learn.loggers import epoch_logger, require_logger
from gzoo.learn.model import Model, fastest_device
from gzoo.learn.prediction import predict_concentrations
from gzoo.learn.probe import VIEWS, HeldOut, features_of, fit_probe
from gzoo.learn.processes import Processes
from gzoo.learn.starting import StartingEncoder, open_encoder, open_pretrained
from gzoo.learn.tasks import TargetTask, Task, VoteTask
from gzoo.scoring.intervals import Blocks, blocks
from gzoo.sky import identifier_split
from gzoo.trees.tree import IntArray

DEFAULT_ENCODER, DEFAULT_SIZE, DEFAULT_CROP = "resnet10t", 64, 0.7
"""Chosen on real galaxies by benchmarks/real_recipe.py."""
PRETRAINED_SIZE = 128  # of encoders whose published weights know photographs, without crop
LEARNING_RATE, AUGMENT = 1e-3, "average"
BATCH = "batch.png"
"""The first training batch as the model sees it."""
WARM_UP = 0.2  # fraction of the steps in which learning rates rise
NOTICES = logging.getLogger("gzoo")
"""What is worth knowing before the training ends; commands print it."""
PACKAGES = ("gzoo", "torch", "timm", "numpy", "pyarrow", "polars", "pillow", "safetensors")


@dataclass(frozen=True, slots=True, repr=False)
class TrainResult(Shown):
    """Result of `gzoo.train`.

    Attributes:
        run: Run folder.
        n_train: Number of galaxies trained on.
        n_validation: Number of galaxies for validation.
        n_corrupt: Number of these galaxies that were left out, because their image cannot be decoded.
        n_epochs: Number of epochs trained; the weights of the best one are kept. 0 if only the head learned.
        best_epoch: Epoch with the lowest validation loss; the first is 1.
        best_loss: Lowest validation loss, in nats per galaxy, summed over questions.
        baseline_loss: Validation loss of the baseline, which predicts the same for every galaxy.
        n_galaxies_by_question: Number of galaxies trained on that have votes on each question. The model predicts no
            question with fewer than 30.
        n_galaxies_by_class: Number of galaxies trained on of each class, if the target is classes.
        start: Where the weights of the encoder come from; None if they were random. For a run: `run_sha256`, the
            SHA-256 of its run.json, and `weights_sha256`, its campaign, licence and own start.
        learning: Parts of the model, with their learning rates.
        floors: What the model gains over a linear probe of the encoder it started from, and over the baseline.
        hub: Repository and commit of the data on the Hub; None for a folder.
    """

    run: Path
    n_train: int
    n_validation: int
    n_corrupt: int
    n_epochs: int
    best_epoch: int
    best_loss: float
    baseline_loss: float
    n_galaxies_by_question: Mapping[str, int]
    n_galaxies_by_class: Mapping[str, int]
    start: Mapping[str, object] | None
    learning: tuple[Part, ...]
    floors: Floors
    hub: Mapping[str, str] | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the object that `gzoo train --json` prints."""
        return {**field_values(self), "learning": [part.to_dict() for part in self.learning]}

    def sheet(self) -> Sheet:
        """Return what `repr` and notebooks show."""
        learns = [part for part in self.learning if part.rate]
        rates = [f"{rate:.1g}" for rate in sorted({part.rate for part in learns})]
        at = " to ".join(dict.fromkeys((rates[0], rates[-1]))) if rates else "0"
        learned = f"{len(learns)} of {len(self.learning)} parts, peak learning rate {at}"
        return Sheet(
            f"Training on {self.n_train:,} galaxies",
            {
                "run": self.run,
                "validation galaxies": self.n_validation,
                "corrupt images left out": self.n_corrupt or None,
                "start": self.start.get("name", "pretrained weights") if self.start else "random weights",
                "learned": learned if self.n_epochs else "the head, solved for",
                "epochs": f"{self.n_epochs}, the best is {self.best_epoch}" if self.n_epochs else None,
                "validation loss": f"{self.best_loss:.3f} nats per galaxy; baseline {self.baseline_loss:.3f}",
                "galaxies by question": self.n_galaxies_by_question,
                "galaxies by class": self.n_galaxies_by_class,
                "data": self.hub and f"{self.hub['repository']} at {self.hub['commit']}",
            },
            note=self.floors.description,
        )


def train(
    dataset: Path | str,
    *,
    out: Path | str,
    revision: str | None = None,
    target: str | None = None,
    labels: Path | str | None = None,
    encoder: str | None = None,
    size: int | None = None,
    crop: float | None = None,
    pretrained: bool = False,
    from_: Path | str | None = None,
    learn: str | int | None = None,
    probe: bool = True,
    epochs: int = 30,
    batch_size: int = 32,
    accumulate: int = 1,
    devices: int = 1,
    learning_rate: float | None = None,
    augment: str = AUGMENT,
    sampling: Literal["proportional", "balanced"] = "proportional",
    seed: int = 0,
    corrupt: Literal["raise", "skip"] = "raise",
    cache_dir: Path | str | None = None,
    logger: Literal["tensorboard", "wandb"] | None = None,
    overwrite: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a model on the votes, or another column, of a dataset.

    The model is a timm encoder with one head for all questions. It is trained on the train split with the
    Dirichlet-multinomial loss, AdamW and a one-cycle learning rate. Validation uses a moving average of the weights
    over about one epoch; the weights of the epoch with the lowest validation loss are kept. If the dataset lacks a
    validation split, an eighth of train is held out, by a hash of the identifiers.

    At the end, a recalibration (a factor, a temperature and biases per question) is fitted on the validation galaxies
    (and where only the head learns from at most 5,000 galaxies, on out-of-fold predictions of the training galaxies
    too), which `predict` applies. Predictions average over the eight orientations of an image. Interrupted training
    resumes from its last checkpoint when the same command runs again, to the same weights. There is a checkpoint after
    each epoch, and every five minutes within one.

    With several `devices`, or started by `torchrun` on one or several machines, one process for each device trains on
    its own part of every batch; a script must then protect its entry point with `if __name__ == "__main__":`.

    Args:
        dataset: Dataset with images: a folder, a campaign's name, or `owner/name` on the Hub.
        out: Run folder to write.
        revision: Branch, tag or commit of a dataset on the Hub. Pass the commit that is printed after a training to
            train on the same again. By default the newest, or the commit that an interrupted training began with.
        target: Column to predict instead of votes, of the dataset or of `labels`: text and yes or no are classes, a
            float is a value with a spread. Append `:classes` or `:value` where numbers could be either.
        labels: Table with the column of `target` and `id_str`.
        encoder: Name of a timm model; by default resnet10t.
        size: Width and height in pixels of the images that the encoder sees; by default 64, with `from` the size that
            the encoder was trained on, with `pretrained` 128.
        crop: Width of the central part of each image that the encoder sees, as a fraction of the image's: galaxies sit
            in the middle. By default 0.7; with `from` the part that the run's encoder saw; 1, all of the image, for
            other trained encoders.
        pretrained: Start from the encoder's own weights that timm lists (from the Hub, safetensors only).
        from_: Start from the encoder of a run, of a folder in the layout of timm (config.json and model.safetensors,
            colour or grey-scale), or of `hf_hub:OWNER/NAME`, either of them on the Hub.
        learn: What learns: `all`; `head`, a linear probe of an encoder that stays as it is; or the number of the
            encoder's last blocks that learn with the head. By default all, but only the head of a trained encoder with
            fewer than 200 labelled galaxies.
        probe: Compare the model with a linear probe of the encoder it started from, fitted to at most 5,000 galaxies.
        epochs: Number of epochs, over which the learning rate rises and falls to zero.
        batch_size: Images per training batch of each device.
        accumulate: Batches whose gradients are averaged for one step, where a larger batch does not fit into memory.
        devices: Number of GPUs, or of processes on a machine without one, that train together on this machine.
        learning_rate: Peak learning rate of the one-cycle schedule; by default 1e-3. A trained encoder learns at a
            tenth of it, and its earlier blocks at ever lower rates.
        augment: Name of the augmentation preset for training images (`gzoo augmentations` draws them): by default one
            of the eight orientations; `train` does more, but requires longer training.
        sampling: How an epoch samples the campaigns of a union: `proportional` shows each galaxy once, `balanced`
            equally many galaxies of each campaign.
        seed: Seed of initial weights, order and augmentation.
        corrupt: What to do with an image that cannot be decoded: "raise" an error that names it, or "skip" it and warn.
        cache_dir: Folder on this machine for decoded images, up to 50 GB, which later epochs reuse.
        logger: Where to log each epoch too, beside metrics.csv: "tensorboard", in the folder `tensorboard` of the run,
            or "wandb" (Weights & Biases). Each is an extra of gzoo.
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
    given = dict(locals())
    check_integers(1, size=1 if size is None else size, epochs=epochs, batch_size=batch_size, accumulate=accumulate)
    check_integers(1, devices=devices)
    require_logger(logger)
    check_integers(0, 2**63 - 1, seed=seed)
    learn = read_learn(learn)
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise InputError(f"learning_rate must be positive and finite, got {learning_rate}.")
    out = Path(out)
    group = processes.current()
    if group.is_first:
        files.refuse_occupied(out.absolute(), kind="run", overwrite=overwrite)
    if group.size > 1 and devices not in {1, group.size}:
        raise InputError(
            f"devices is {devices}, but torchrun has started {group.size} processes.",
            hint="Omit --devices under torchrun.",
        )
    if devices > 1 and group.size == 1:
        return processes.run_together(train, given, devices)
    start = _start(from_, encoder, pretrained, progress)
    if start is None and learn not in {None, "all"}:
        raise InputError(
            f"learn is '{learn}', but the encoder is not trained.",
            "a trained encoder, of which a part may stay as it is.",
            "Pass --from or --pretrained.",
        )
    size = size or (start.size if start and from_ else None) or (PRETRAINED_SIZE if start else DEFAULT_SIZE)
    crop = read_crop(crop if crop is not None else start.crop if start else DEFAULT_CROP)
    opened = open_dataset(dataset, revision=revision or _commit_begun(dataset, out, overwrite), progress=progress)
    if labels is not None and target is None:
        raise InputError(f"--labels '{labels}' requires --target.", hint="Pass --target with a column of this table.")
    known = read_labels(opened, target, labels) if target is not None else None
    train_loader, plain_loader, validation_loader, own_validation, held_out = _loaders(
        opened, image_size(size, crop), batch_size, augment, sampling, seed, cache_dir, known, corrupt, group
    )
    task = (
        TargetTask(known, train_loader, validation_loader)
        if known
        else VoteTask(opened, train_loader, validation_loader)
    )
    learn = learn or _default_learn(start, task.n_labelled)
    if learn == HEAD and (augment != AUGMENT or learning_rate is not None):
        warnings.warn(
            "Only the head learns, which is solved for: --augment and --learning-rate are not used.",
            GZooWarning,
            stacklevel=2,
        )
    learning_rate = LEARNING_RATE if learning_rate is None else learning_rate
    recipe = Recipe(
        encoder=start.encoder if start else encoder or DEFAULT_ENCODER,
        size=size,
        crop=crop,
        pretrained=pretrained,
        learn=learn,
        warm_up=adaptation.WARM_UP if start else WARM_UP,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        devices=group.size,
        learning_rate=learning_rate,
        augment=augment,
        sampling=sampling,
        views=VIEWS,
        seed=seed,
    )
    origin = dict(start.origin) if start else None
    weights_sha256 = origin["weights_sha256"] if origin else None
    command = {"command": "train", "data": opened.digest, "from": weights_sha256, "corrupt": corrupt}
    command |= asdict(recipe)
    if opened.origin:
        command["hub"] = dict(opened.origin)
    if known:
        values = {split: values.tolist() for split, values in known.values.items()}
        command |= {"target": known.target.to_dict(), "labels": files.digest(str(values))}
    loaders = {"train": train_loader, "validation": validation_loader}
    n_train, n_validation = (len(each.rows) for each in loaders.values())
    torch.manual_seed(seed)
    model = Model(_design(start, recipe, task, train_loader), task.baseline, task.label_range)
    if start:
        start.load_into(model)
    parts = parts_of(model, learn, learning_rate, is_trained=start is not None)
    freeze(model, parts)
    if learn != HEAD:
        _require_batches(model, n_train, batch_size, group)
    if torch.cuda.is_available():
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  as the loader's images are
    loss, baseline_loss = task.loss, task.baseline_loss

    def learn_together(work: Path, on_epoch: Callable[[Epoch], None] | None = None) -> list[Epoch]:
        return fit(
            model,
            loss,
            train_loader,
            own_validation,
            work,
            recipe,
            parts,
            baseline_loss,
            progress,
            by_campaign=CampaignLosses(validation_loader, task.baseline_losses),
            group=group,
            on_epoch=on_epoch,
        )

    if not group.is_first:
        if learn != HEAD:
            learn_together(out)
        return group.of_first(cast(TrainResult, None))
    if start:
        NOTICES.info("Starts from %s (%s), licence %s.", *(start.origin[key] for key in ("name", "kind", "licence")))
        NOTICES.info("%s", adaptation.rates(parts, is_solved=learn == HEAD))
    in_progress = files.work(out, kind="run", begun=command, overwrite=overwrite, wait=wait, progress=progress)
    with files.disk_errors(out, "run"), in_progress as work:
        if not (work / BATCH).exists():
            batch = next(iter(plain_loader if learn == HEAD else train_loader))
            files.write_bytes(work / BATCH, batch_sheet(model.central(batch["image"]), batch["id_str"]))
        begun = floors.probe_start(
            model,
            loss,
            plain_loader,
            validation_loader,
            wanted=probe and learn != HEAD,
            seed=seed,
            progress=progress,
        )
        out_of_fold: HeldOut | None = None
        if learn == HEAD:
            is_few = n_train + n_validation <= floors.MAX_GALAXIES
            solved = fit_probe(model, loss, plain_loader, validation_loader, progress, cross_predict=is_few)
            out_of_fold = solved.held_out
            model.head.load_state_dict(solved.head.state_dict())
            write_weights(work, model)
            write_metrics(work, solved.attempts)
            with epoch_logger(logger, work, out.name, command) as log:
                for i, attempt in enumerate(solved.attempts, 1):
                    log(i, asdict(attempt))
            losses, n_epochs, best_epoch = [each.validation_loss for each in solved.attempts], 0, 0
        else:
            with epoch_logger(logger, work, out.name, command) as log:
                epochs_done = learn_together(work, lambda each: log(each.epoch, asdict(each)))
            losses = [each.validation_loss for each in epochs_done]
            n_epochs, best_epoch = len(losses), int(np.argmin(losses)) + 1
        weights = work / WEIGHTS
        best = Model(model.design)  # as `predict` will load it
        best.load_state_dict(load_file(weights))
        predicted = predict_concentrations(best, validation_loader, views=recipe.views)
        loaders_used = (train_loader, plain_loader, validation_loader, own_validation)
        skipped = {name: why for each in loaders_used for name, why in each.skipped.items()}
        is_shown = ~validation_loader.keys["id_str"].is_in(list(skipped)).to_numpy()
        blocks_of = partial(_blocks, opened, validation_loader)
        judged = floors.judge(begun, best, loss, validation_loader, blocks_of, learn=learn,
                              is_trained=start is not None, progress=progress)  # fmt: skip
        some = floors.some(n_train, seed, familiarity.MAX_GALAXIES)
        shown = features_of(best, plain_loader, progress, views=1, stage="Computing distances", places=some)
        distance = familiarity.fit_distance(shown.values)
        if distance:
            distance.write(work)
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
                "n_galaxies_by_question": task.n_galaxies_by_question,
                "validation": held_out,
            },
            "from": origin,
            "learning": [part.to_dict() for part in parts],
            "n_train": n_train,
            "n_validation": n_validation,
            "n_corrupt": len(skipped),
            "n_epochs": n_epochs,
            "best_epoch": best_epoch,
            "validation_loss": min(losses),
            "baseline_validation_loss": baseline_loss,
            "floors": judged.to_dict(),
            **task.entries(predicted, is_shown, out_of_fold),
            "weights_sha256": files.sha256(weights),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        }
        files.write_json(work / "run.json", metadata)
        checkpoints.remove(work)
    if skipped:
        named = " ".join(list(skipped.values())[:5])
        message = f"{len(skipped):,} images cannot be decoded; these galaxies were left out. {named}"
        warnings.warn(GZooWarning(message), stacklevel=2)
    made = TrainResult(
        out,
        n_train,
        n_validation,
        len(skipped),
        n_epochs,
        best_epoch,
        min(losses),
        baseline_loss,
        task.n_galaxies_by_question,
        task.n_galaxies_by_class,
        origin,
        parts,
        judged,
        opened.origin,
    )
    return group.of_first(made)


def _blocks(dataset: Dataset, galaxies: Loader, places: IntArray) -> Blocks:
    """Return the resampling units of some galaxies of a loader."""
    positions = pl.concat([dataset.positions(split) for split in dataset.splits]).unique(KEY, keep="first")
    shown = galaxies.keys[places].filter(~pl.col("id_str").is_in(list(galaxies.skipped)))
    keys = shown.join(positions, on=KEY, how="left", maintain_order="left")
    return blocks(keys.height, *(keys[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("ra", "dec")))


def _require_batches(model: Model, n_train: int, batch_size: int, group: Processes) -> None:
    """Check that batch normalisation gets more than one galaxy at a time."""
    norms = torch.nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]  the base of all of them
    if not any(isinstance(part, norms) for part in model.modules()):
        return
    if min(n_train // group.size, batch_size) > 1:
        if group.size > 1 and group.is_first:
            warnings.warn(
                f"Encoder '{model.design.encoder}' has batch normalisation, which each of the {group.size} processes "
                f"computes from its own {batch_size} galaxies: the result differs from that of one process.",
                GZooWarning,
                stacklevel=3,
            )
        return
    if n_train == 1:
        raise InputError(
            f"There is one training galaxy, and encoder '{model.design.encoder}' has batch normalisation.",
            "several galaxies, because it divides by their variance.",
            "Build a larger dataset.",
        )
    raise InputError(
        f"batch_size is 1, and encoder '{model.design.encoder}' has batch normalisation.",
        "2 or more, because it divides by the variance of a batch.",
        "Pass a larger --batch-size.",
    )


def _commit_begun(dataset: Path | str, out: Path, overwrite: bool) -> str | None:
    """Return the commit that unfinished training on a dataset of the Hub began with, so that no run has two."""
    begun = files.partial_name(out.absolute()) / files.BEGUN
    if overwrite or "@" in str(dataset) or Path(dataset).exists() or not begun.is_file():
        return None
    command = cast("Mapping[str, object]", files.read_json(begun).get("begun") or {})
    origin = cast("Mapping[str, str]", command.get("hub") or {})
    found = hub.repository_of(str(dataset))
    return origin.get("commit") if found and origin.get("repository") == found[0] else None


def _start(
    from_: Path | str | None, encoder: str | None, pretrained: bool, progress: Progress | None
) -> StartingEncoder | None:
    """Return the trained encoder that training starts from, if any."""
    if from_ is not None:
        if pretrained or encoder:
            raise InputError(
                f"--from and {'--pretrained' if pretrained else '--encoder'} both name an encoder.",
                "one of them: --from also says which encoder it is.",
                "Omit one of them.",
            )
        return open_encoder(from_, progress)
    return open_pretrained(encoder or DEFAULT_ENCODER, progress) if pretrained else None


def _default_learn(start: StartingEncoder | None, n_labelled: int) -> str:
    if start is None or n_labelled >= FEW_LABELS:
        return "all"
    warnings.warn(
        f"Only {n_labelled} galaxies are labelled: only the head learns (--learn head), and the encoder stays as it "
        "is. Pass --learn all to train all.",
        GZooWarning,
        stacklevel=3,
    )
    return HEAD


def _design(start: StartingEncoder | None, recipe: Recipe, task: Task, train: Loader) -> Design:
    """Return the design of the model; images are normalised as the starting encoder knows them, if it says how."""
    mean, std = (start.mean, start.std) if start else (None, None)
    if mean is None or std is None:
        mean, std = _colour_statistics(train)
        if start and start.channels == 1:
            mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    arguments = start.arguments if start else {}
    return Design(recipe.encoder, recipe.size, task.columns, mean, std, arguments, task.target, recipe.crop)


def _loaders(
    dataset: Dataset,
    size: int,
    batch_size: int,
    augment: str,
    sampling: Literal["proportional", "balanced"],
    seed: int,
    cache_dir: Path | str | None,
    labels: Labels | None,
    corrupt: Literal["raise", "skip"],
    group: Processes,
) -> tuple[Loader, Loader, Loader, Loader, str]:
    """Return loaders of the training galaxies to learn from, of the same in order and as they are, of the validation
    galaxies, and of this process's part of them; and a description of these galaxies. Galaxies without a label are
    omitted if there are labels.
    """
    is_labelled = {split: ~np.isnan(values) for split, values in labels.values.items()} if labels else {}
    if "train" not in dataset.splits:
        raise NotFoundError(f"Split 'train' not found in '{dataset.folder}'.", hint="Build a larger dataset.")
    rows: tuple[IntArray | None, IntArray | None] = (None, None)
    held_out_split, description = "validation", "validation split"
    if labels and {"train", "validation"} <= set(dataset.splits):
        rows = np.flatnonzero(is_labelled["train"]), np.flatnonzero(is_labelled["validation"])
    if "validation" not in dataset.splits:
        keys, *_ = dataset.vote_arrays("train")
        is_held_out = np.array([identifier_split.is_held_out(id_str) for id_str in keys["id_str"]])
        if is_held_out.all() or not is_held_out.any():
            raise InputError(
                f"'{dataset.folder}' has only {len(keys)} galaxies in split 'train' and no split 'validation'.",
                "about 12 galaxies or more, so that some can be held out for validation.",
                "Build a larger dataset.",
            )
        is_used = is_labelled.get("train", np.ones(len(is_held_out), bool))
        rows = np.flatnonzero(~is_held_out & is_used), np.flatnonzero(is_held_out & is_used)
        held_out_split = "train"
        description = f"{identifier_split.HELD_OUT_FRACTION:.1%} of train, by hash of id (held-out-1)"
    for name, own in zip(("training", "validation"), rows, strict=True):
        if own is not None and not len(own):
            raise InputError(
                f"None of the {name} galaxies of '{dataset.folder}' has a label.",
                "training and validation galaxies with labels, about 12 or more.",
                "Add labels of more galaxies, or choose another --target.",
            )
    threads = max(1, n_cores() // group.size_here)
    open_loader = partial(
        loader, dataset, batch_size, size, cache_dir=cache_dir, errors=corrupt, device=fastest_device(), workers=threads
    )
    train = open_loader(
        augment=augment, sampling=sampling, seed=seed, rows=rows[0], rank=group.rank, world_size=group.size
    )
    plain = open_loader(rows=rows[0], rank=0, world_size=1)
    validation = own = open_loader(split=held_out_split, rows=rows[1], rank=0, world_size=1)
    if group.size > 1:
        own = open_loader(split=held_out_split, rows=rows[1], rank=group.rank, world_size=group.size)
    if labels:
        for each, split in ((train, "train"), (plain, "train"), (validation, held_out_split), (own, held_out_split)):
            each.labels = torch.tensor(labels.values[split])
    return train, plain, validation, own, description


def _colour_statistics(train: Loader) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation of each colour over some training images, 0 to 1."""
    images = train.take(np.arange(min(256, len(train.rows))))["image"].double() / 255
    mean, std = images.mean(dim=(0, 2, 3)).tolist(), images.std(dim=(0, 2, 3)).clamp(min=0.01).tolist()
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
