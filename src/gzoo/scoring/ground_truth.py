"""The referee: simulated galaxies have known probabilities, so an error can be measured against the truth itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from gzoo.dataset.open import open_dataset
from gzoo.errors import NotFoundError, TableError
from gzoo.scoring.predictions import match, read_predictions


def true_rmse(predictions: Path, folder: Path, truth: Path) -> dict[str, float]:
    """Root mean square of predicted fraction minus true probability, for each question.

    Over the same galaxies as `rmse_noise_corrected` (those with at least 2 votes on the question) and over its answers, so
    that the two can be compared: votes' noise rightly removed, they agree within the interval.

    Args:
        predictions: Prediction file.
        folder: The simulated dataset.
        truth: The simulation's `truth.parquet`, with `id_str` and `{column}_probability` for each answer: what the
            population of volunteers says, given that the question is asked.

    Returns:
        By question, and under "overall" over all of them; questions that no galaxy has 2 votes on are left out.

    Raises:
        NotFoundError: A file is not there.
        TableError: The truth lacks columns or galaxies.
    """
    dataset = open_dataset(folder)
    tree = dataset.tree
    read = read_predictions(predictions, tree)
    keys = read.keys.select("id_str")
    if not truth.is_file():
        raise NotFoundError(f"There is no truth {truth}.", "A Parquet file made by `gzoo simulate`.", "Check the path.")
    columns = [f"{column}_probability" for column in tree.columns]
    known = pl.read_parquet(truth, glob=False)
    missing = [column for column in ("id_str", *columns) if column not in known.columns]
    matched = keys.join(known, on="id_str", how="inner", maintain_order="left") if not missing else keys.clear()
    if missing or matched.height != keys.height:
        what = f"lacks column {missing[0]}" if missing else f"knows {matched.height} of {keys.height} galaxies"
        raise TableError(f"{truth} {what}.", "The truth of the predicted galaxies.", "Give the simulation they are of.")
    totals = match(dataset, read.keys, predictions).votes.totals
    squared = (read.fractions - matched.select(columns).to_numpy()) ** 2
    squared = np.where(totals[:, list(tree.question_of_answer)] >= 2, squared, np.nan)
    parts = {question.name: squared[:, tree.slice(question.name)] for question in tree.questions} | {"overall": squared}
    return {name: float(np.sqrt(np.nanmean(part))) for name, part in parts.items() if np.isfinite(part).any()}
