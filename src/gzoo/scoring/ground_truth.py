"""Errors against the ground truth of a simulation, where the probabilities of the votes are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from gzoo.dataset.open import open_dataset
from gzoo.errors import NotFoundError, TableError
from gzoo.scoring.matching import match
from gzoo.scoring.predictions import read_predictions


def true_rmse(predictions: Path, dataset: Path, truth: Path) -> dict[str, float]:
    """Return the RMSE of predicted fractions against the underlying vote fractions, for each question.

    It is computed over the same galaxies as `rmse_noise_corrected` (those with at least 2 votes on the question), so
    that the two can be compared: they should agree within the interval.

    Args:
        predictions: Prediction file.
        dataset: Simulated dataset.
        truth: `truth.parquet` of the simulation, with `id_str` and `{column}_probability` for each answer: the
            underlying vote fraction among the volunteers who are asked the question.

    Returns:
        RMSE by question, and over all questions under "overall"; questions on which no galaxy has 2 votes are omitted.

    Raises:
        NotFoundError: A file does not exist.
        TableError: The ground truth lacks columns or galaxies.
    """
    opened = open_dataset(dataset)
    tree = opened.tree
    read = read_predictions(predictions, tree)
    if not truth.is_file():
        raise NotFoundError(f"Ground truth not found: '{truth}'.", "a Parquet file written by `gzoo simulate`.")
    known = pl.read_parquet(truth, glob=False)
    columns = [f"{column}_probability" for column in tree.columns]
    missing = [column for column in ("id_str", *columns) if column not in known.columns]
    if missing:
        raise TableError(f"Column '{missing[0]}' not found in '{truth}'.", "a file written by `gzoo simulate`.")
    matched = read.keys.select("id_str").join(known, on="id_str", how="inner", maintain_order="left")
    if matched.height != len(read):
        raise TableError(
            f"'{truth}' contains {matched.height:,} of {len(read):,} predicted galaxies.",
            hint="Pass the ground truth of the simulation that was predicted.",
        )
    totals = match(opened, read.keys, predictions).votes.totals
    squared = (read.fractions - matched.select(columns).to_numpy()) ** 2
    squared = np.where(totals[:, list(tree.question_of_answer)] >= 2, squared, np.nan)
    parts = {question.name: squared[:, tree.slice(question.name)] for question in tree.questions} | {"overall": squared}
    return {name: float(np.sqrt(np.nanmean(part))) for name, part in parts.items() if np.isfinite(part).any()}
