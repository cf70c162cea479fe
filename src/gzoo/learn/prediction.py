"""Prediction: from a run folder and a dataset to a Parquet file of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import torch

from gzoo import files
from gzoo.dataset.open import KEY, open_dataset
from gzoo.display import Shown
from gzoo.errors import DatasetError, InputError
from gzoo.files import Progress
from gzoo.learn.augmentation import augmentation
from gzoo.learn.inputs import check_integers
from gzoo.learn.loader import Loader, loader
from gzoo.learn.model import Model, fastest_device, open_run
from gzoo.scoring.prediction_files import (
    MIN_GALAXIES_WITH_VOTES,
    prediction_table,
    refuse_predictions,
    write_prediction_table,
)
from gzoo.scoring.recalibration import Recalibration
from gzoo.sky import is_near
from gzoo.trees.campaign import of_manifest
from gzoo.trees.tree import FloatArray, Tree

MAX_VIEWS = 8  # orientations of an image


@dataclass(frozen=True, slots=True, repr=False)
class PredictResult(Shown):
    """Result of `gzoo.predict`.

    Attributes:
        path: Prediction file.
        n_galaxies: Number of galaxies in it.
        n_trained_on: Number of galaxies that the run used for training or validation.
        not_predicted: Questions that are null in the file, because too few galaxies of the training data have votes on
            them.
    """

    path: Path
    n_galaxies: int
    n_trained_on: int
    not_predicted: tuple[str, ...]


def predict(
    run: Path | str,
    dataset: Path | str,
    *,
    split: str = "test",
    out: Path | str,
    batch_size: int = 64,
    recalibrate: bool = True,
    views: int = 1,
    cache_dir: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PredictResult:
    """Predict the vote fractions of each galaxy of a split.

    The file has `dataset_name` and `id_str` (together the key); for each answer `{column}_concentration` and
    `{column}_fraction`, the predicted vote fraction; where a question allows several answers, also
    `{column}_concentration_no`: both concentrations are those of a beta distribution of the fraction; for each
    question `{question}_proportion_volunteers_asked`, null where the dataset lacks an answer that leads to it; and
    `in_training_set`. Questions on which fewer than 30 of the galaxies trained on have votes are null: the model has
    not learned them.

    Args:
        run: Run folder, written by `gzoo train`.
        dataset: Dataset with images: a folder, a campaign's name, or `owner/name` on the Hub.
        split: Split of the dataset to predict.
        out: Parquet file to write.
        batch_size: Images per batch.
        recalibrate: Apply the recalibration fitted on the validation split, or write raw model output.
        views: Number of orientations of each image to average over (test-time augmentation), 1 to 8.
        cache_dir: Folder on this machine for decoded images, up to 50 GB, which later runs reuse.
        overwrite: Replace an earlier prediction file.
        progress: Function to call with (stage, galaxies done, galaxies in total).

    Raises:
        NotFoundError: The run, the dataset or the split does not exist.
        DatasetError: The model and the dataset have different questions.
        InputError: `views` is not from 1 to 8, or the model has not learned any question.
        ImageError: An image cannot be decoded; the message names the galaxy and the file.
        OutputExistsError: `out` already exists.
    """
    check_integers(1, MAX_VIEWS, views=views)
    run, out = Path(run), Path(out)
    refuse_predictions(out, overwrite, [dataset])
    model, metadata = open_run(run)
    opened = open_dataset(dataset, progress=progress)
    opened.require(split)
    tree = opened.tree
    training_data = cast("dict[str, object]", metadata["data"])
    trained_on = of_manifest(training_data, run / "run.json")
    if model.design.columns != tree.concentrations or trained_on.published_tree.questions != tree.questions:
        other = "another definition of it" if trained_on.name == opened.campaign.name else opened.campaign.name
        raise DatasetError(
            f"The model in '{run}' predicts the questions of {trained_on.name}, but '{dataset}' has those of {other}.",
            hint=f"Train a model on a dataset of {opened.campaign.name}, for example this one.",
        )
    not_predicted = _unlearned_questions(run, training_data, tree)
    if len(not_predicted) == len(tree.questions):
        raise InputError(
            f"The model in '{run}' has not learned any question: fewer than {MIN_GALAXIES_WITH_VOTES} of the galaxies "
            "that it was trained on have votes on each.",
            hint="Train it on more galaxies.",
        )
    galaxies = loader(opened, batch_size, model.design.size, split=split, cache_dir=cache_dir)
    values = predict_concentrations(model, galaxies, progress, views=views)
    is_recalibrated = recalibrate and "recalibration" in metadata
    if is_recalibrated:
        values = Recalibration.from_dict(metadata["recalibration"], run / "run.json").apply(values[None], tree)[0]
    for name in not_predicted:
        values[:, tree.concentration_slice(name)] = np.nan
    trained_on = pl.read_parquet(run / "training_galaxies.parquet", glob=False)
    is_same = training_data["manifest_sha256"] == opened.digest
    is_seen = _is_among(trained_on, galaxies.keys if is_same else opened.positions(split))
    table = prediction_table(galaxies.keys, values, tree).with_columns(in_training_set=is_seen)
    about = {
        "run_sha256": files.sha256(run / "run.json"),
        "data_sha256": opened.digest,
        "hub": dict(opened.origin) if opened.origin else None,
        "split": split,
        "is_simulated": opened.is_simulated,
        "views": views,
        "is_recalibrated": is_recalibrated,
        "not_predicted": list(not_predicted),
        "trained_by_scheme": training_data.get("split_scheme"),
        "baseline": metadata.get("baseline"),
    }
    write_prediction_table(out, table, about)
    return PredictResult(out, table.height, int(table["in_training_set"].sum()), not_predicted)


def _unlearned_questions(run: Path, training_data: Mapping[str, object], tree: Tree) -> tuple[str, ...]:
    """Return the questions that a model is not asked to predict, since it saw too few galaxies with votes on them."""
    try:
        n_of = cast("Mapping[str, int]", training_data["n_galaxies_by_question"])
        return tuple(one.name for one in tree.questions if n_of[one.name] < MIN_GALAXIES_WITH_VOTES)
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"'{run / 'run.json'}' does not say how many galaxies have votes on each question.",
            "data.n_galaxies_by_question, an integer for each question.",
            "Train the model again.",
        ) from error


def _is_among(trained_on: pl.DataFrame, galaxies: pl.DataFrame) -> pl.Series:
    """Return which galaxies a model was trained on.

    Args:
        trained_on: `dataset_name`, `id_str`, `ra` and `dec` of the training galaxies.
        galaxies: The same of other galaxies. With positions, a galaxy is recognised in another dataset too, where it
            may have another identifier; within one dataset, the splits decide.
    """
    known = trained_on.select(*KEY, in_training_set=pl.lit(True))
    is_seen = galaxies.select(KEY).join(known, on=KEY, how="left", maintain_order="left")["in_training_set"]
    found = is_seen.is_not_null().to_numpy()
    if "ra" in galaxies.columns:
        found |= is_near(*(one[name].to_numpy() for one in (galaxies, trained_on) for name in ("ra", "dec")))
    return pl.Series("in_training_set", found)


def predict_concentrations(
    model: Model, galaxies: Loader, progress: Progress | None = None, *, views: int = 1
) -> FloatArray:
    """Return the predicted concentrations of a loader's galaxies, shape (galaxy, concentration).

    Args:
        model: Model to apply.
        galaxies: Loader of the images.
        progress: Function to call with (stage, galaxies done, galaxies in total).
        views: Number of orientations of each image; the logarithms of the concentrations are averaged.
    """
    device = fastest_device()
    model.to(device).eval()
    turned = augmentation("average")
    parts: list[FloatArray] = []
    done = 0
    with torch.inference_mode():
        for batch in galaxies:
            image, seed = batch["image"].to(device), batch["seed"].to(device)
            shown = [image] if views == 1 else (turned(image, seed, view=view) for view in range(views))
            logs = torch.stack([model(view).double().log() for view in shown])
            parts.append(logs.mean(0).exp().cpu().numpy())
            done += len(parts[-1])
            if progress:
                progress("Predicting galaxies", done, len(galaxies.rows))
    return np.concatenate(parts)
