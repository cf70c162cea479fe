"""Predict: a run folder and a dataset become a Parquet file of predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gzoo import store
from gzoo.dataset import KEY, open_dataset
from gzoo.errors import DatasetError, OccupiedError
from gzoo.learn.batches import Loader
from gzoo.learn.model import open_run
from gzoo.scoring.likelihood import expected_fractions
from gzoo.trees import FloatArray, Tree

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Predicted:
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
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Predicted:
    """What a model expects volunteers to say of each galaxy of a split.

    The file has `dataset_name` and `id_str` (together the key); for each answer `{column}_concentration` and
    `{column}_fraction`, its expected fraction; for each question `{question}_reach`, the probability of being asked,
    null where the dataset does not carry an answer that leads to it; and `is_trained_on`.

    Args:
        run: The run folder.
        folder: The dataset with the pictures: a folder, a campaign's name or `owner/name` on the Hub.
        split: Which of its splits.
        out: The Parquet file to write.
        batch_size: Pictures at once.
        overwrite: Replace an earlier prediction file.
        progress: Called as (stage, galaxies done, galaxies).

    Raises:
        MissingError: The run, the dataset or the split is not there.
        DatasetError: The model answers other questions than the dataset has.
        OccupiedError: `out` is taken.
    """
    run, out = Path(run), Path(out)
    _refuse_occupied(out, overwrite)
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
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loader = Loader(dataset, split, size=model.design.size, batch_size=batch_size)
    model.to(device)
    parts: list[FloatArray] = []
    done = 0
    with torch.inference_mode():
        for batch in loader:
            parts.append(model(batch["image"].to(device)).double().cpu().numpy())
            done += len(parts[-1])
            if progress:
                progress("predicting", done, len(loader.rows))
    seen = pl.read_parquet(run / "galaxies.parquet", glob=False).select(*KEY, is_trained_on=pl.lit(True))
    table = prediction_table(loader.keys, np.concatenate(parts), tree).join(
        seen, on=KEY, how="left", maintain_order="left"
    )
    table = table.with_columns(pl.col("is_trained_on").fill_null(False))
    about = {
        "kind": "predictions",
        "run_sha256": store.sha256(run / "run.json"),
        "data_sha256": dataset.digest,
        "hub": dict(dataset.origin) if dataset.origin else None,
        "split": split,
        "is_simulated": dataset.is_simulated,
        "trained_by_scheme": cast("dict[str, object]", facts["data"]).get("split_scheme"),
    }
    write_predictions(out, table, about)
    return Predicted(out, table.height, int(table["is_trained_on"].sum()))


def prediction_table(keys: pl.DataFrame, concentration: FloatArray, tree: Tree) -> pl.DataFrame:
    """Concentrations as the columns of a prediction file.

    Args:
        keys: `dataset_name` and `id_str`, a row a galaxy.
        concentration: Shape (galaxy, answer).
        tree: The questions.
    """
    fractions = expected_fractions(concentration, tree)
    reach = tree.reach(fractions)
    columns: dict[str, pl.Series] = {}
    for i, column in enumerate(tree.columns):
        columns[f"{column}_concentration"] = pl.Series(concentration[:, i], dtype=pl.Float64)
        columns[f"{column}_fraction"] = pl.Series(fractions[:, i], dtype=pl.Float64)
    for i, question in enumerate(tree.questions):
        columns[f"{question.name}_reach"] = pl.Series(reach[:, i], dtype=pl.Float64).fill_nan(None)
    return keys.select(KEY).with_columns(**columns)


def write_predictions(out: Path, table: pl.DataFrame, about: Mapping[str, object]) -> None:
    """Write a prediction file that is whole or not there, with what it is in its metadata."""
    arrow = table.to_arrow()
    arrow = arrow.cast(
        pa.schema([pa.field(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type) for f in arrow.schema])
    )
    arrow = arrow.replace_schema_metadata({"gzoo": json.dumps(about, sort_keys=True)})
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.gzoo-partial")
    pq.write_table(arrow, temporary, write_page_checksum=True)
    temporary.replace(out)


def _refuse_occupied(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    try:
        ours = b"gzoo" in (pq.read_schema(out).metadata or {})
    except (OSError, pa.ArrowInvalid):
        ours = False
    if not ours:
        raise OccupiedError(f"{out} is something that gzoo did not make.", "A new name.", "Choose another --out.")
    if not overwrite:
        raise OccupiedError(
            f"{out} holds finished predictions.", "A new name.", "Choose another --out, or --overwrite."
        )
