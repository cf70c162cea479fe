"""Predict: a run folder and a dataset become a Parquet file of predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import torch

from gzoo import files
from gzoo.dataset.open import KEY, open_dataset
from gzoo.errors import DatasetError, InputError
from gzoo.learn.augmentation import augmentation
from gzoo.learn.loader import Loader, loader
from gzoo.learn.model import Model, open_run
from gzoo.scoring.prediction_files import prediction_table, refuse_occupied, write_predictions
from gzoo.scoring.recalibration import Recalibration
from gzoo.trees.tree import FloatArray

MAX_VIEWS = 8  # orientations of an image

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class PredictResult:
    """What prediction made.

    Attributes:
        path: The file.
        n_galaxies: Its rows.
        n_trained_on: How many of them the run trained on or validated with.
    """

    path: Path
    n_galaxies: int
    n_trained_on: int


def predict(
    run: Path | str,
    folder: Path | str,
    *,
    split: str = "test",
    out: Path | str,
    batch_size: int = 64,
    recalibrate: bool = True,
    views: int = 1,
    cache: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PredictResult:
    """What a model expects volunteers to say of each galaxy of a split.

    The file has `dataset_name` and `id_str` (together the key); for each answer `{column}_concentration` and
    `{column}_fraction`, its expected fraction; for each question `{question}_proportion_volunteers_asked`, the probability of being asked,
    null where the dataset does not carry an answer that leads to it; and `in_training_set`.

    Args:
        run: The run folder.
        folder: The dataset with the images: a folder, a campaign's name or `owner/name` on the Hub.
        split: Which of its splits.
        out: The Parquet file to write.
        batch_size: Images at once.
        recalibrate: Make the model as sure as its validation split says that it should be; otherwise as it comes.
        views: How many orientations of each image to average over, up to 8, in logarithms of concentrations.
        cache: Folder on this machine to keep decoded images in, for other models; it takes up to 50 GB.
        overwrite: Replace an earlier prediction file.
        progress: Called as (stage, galaxies done, galaxies).

    Raises:
        NotFoundError: The run, the dataset or the split is not there.
        DatasetError: The model answers other questions than the dataset has.
        InputError: The number of views is not from 1 to 8.
        ImageError: An image cannot be decoded; the message names galaxy and file.
        OutputExistsError: `out` is taken.
    """
    if not 1 <= views <= MAX_VIEWS:
        raise InputError(f"views is {views}.", f"From 1 to {MAX_VIEWS}.", "Give another --views.")
    run, out = Path(run), Path(out)
    refuse_occupied(out, overwrite)
    model, facts = open_run(run)
    dataset = open_dataset(folder, progress=progress)
    dataset.require(split)
    tree = dataset.tree
    if model.design.columns != tree.columns:
        campaign = cast("dict[str, object]", facts["data"])["campaign"]
        raise DatasetError(
            f"The model in {run} answers the questions of {campaign}; {folder} has those of {dataset.campaign.name}.",
            "A model and a dataset with the same questions.",
            "Train on a dataset of this campaign.",
        )
    galaxies = loader(dataset, batch_size, model.design.size, split=split, cache=cache)
    values = concentrations(model, galaxies, progress, views=views)
    if recalibrate and "recalibration" in facts:
        values = Recalibration.from_json(facts["recalibration"], run / "run.json").apply(values[None], tree)[0]
    seen = pl.read_parquet(run / "training_galaxies.parquet", glob=False).select(*KEY, in_training_set=pl.lit(True))
    table = prediction_table(galaxies.keys, values, tree).join(seen, on=KEY, how="left", maintain_order="left")
    table = table.with_columns(pl.col("in_training_set").fill_null(False))
    about = {
        "kind": "predictions",
        "run_sha256": files.sha256(run / "run.json"),
        "data_sha256": dataset.digest,
        "hub": dict(dataset.origin) if dataset.origin else None,
        "split": split,
        "is_simulated": dataset.is_simulated,
        "views": views,
        "is_recalibrated": recalibrate and "recalibration" in facts,
        "trained_by_scheme": cast("dict[str, object]", facts["data"]).get("split_scheme"),
    }
    write_predictions(out, table, about)
    return PredictResult(out, table.height, int(table["in_training_set"].sum()))


def concentrations(model: Model, galaxies: Loader, progress: Progress | None = None, *, views: int = 1) -> FloatArray:
    """What a model says of a loader's galaxies, shape (galaxy, answer)."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()
    turned = augmentation("average")
    parts: list[FloatArray] = []
    done = 0
    with torch.inference_mode():
        for batch in galaxies:
            image, seed = batch["image"].to(device), batch["seed"].to(device)
            shown = [image] if views == 1 else (turned(image, seed, view=view) for view in range(views))
            logs = torch.stack([model(one).double().log() for one in shown])
            parts.append(logs.mean(0).exp().cpu().numpy())
            done += len(parts[-1])
            if progress:
                progress("predicting", done, len(galaxies.rows))
    return np.concatenate(parts)
