"""Prediction files that gzoo writes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from gzoo import files
from gzoo.dataset.schema import KEY
from gzoo.errors import InputError, raise_passing
from gzoo.scoring.likelihood import expected_fractions
from gzoo.trees.tree import FloatArray, Tree

KIND = "set of predictions"
# With fewer galaxies to learn a question from, what a model says of it is little more than where its training started.
MIN_GALAXIES_WITH_VOTES = 30


def prediction_table(
    keys: pl.DataFrame, concentration: FloatArray, tree: Tree, questions: Sequence[str] | None = None
) -> pl.DataFrame:
    """Return the table of a prediction file.

    Args:
        keys: `dataset_name` and `id_str` of each galaxy.
        concentration: Concentrations, shape (galaxy, concentration) or (member, galaxy, concentration), columns as in
            `tree.concentrations`; with several members, cells are lists; a cell with NaN becomes null.
        tree: Decision tree.
        questions: Names of the predicted questions; by default all.
    """
    members = concentration if concentration.ndim == 3 else concentration[None]
    fractions = np.mean([expected_fractions(one, tree) for one in members], axis=0)
    proportion_asked = tree.proportion_asked(fractions)
    names = {question.name for question in tree.questions} if questions is None else set(questions)
    columns: dict[str, pl.Series] = {}

    def cells(i: int) -> pl.Series:
        if len(members) == 1:
            return pl.Series(members[0, :, i], dtype=pl.Float64).fill_nan(None)
        rows = members[:, :, i].T.tolist()
        # a mixture needs all of its members
        return pl.Series([row if all(map(math.isfinite, row)) else None for row in rows], dtype=pl.List(pl.Float64))

    for i, column in enumerate(tree.columns):
        question = tree.questions[tree.question_of_answer[i]]
        if question.name in names:
            columns[f"{column}_concentration"] = cells(tree.concentrations.index(column))
            if question.multiple:
                columns[f"{column}_concentration_no"] = cells(tree.concentrations.index(f"{column}_no"))
            columns[f"{column}_fraction"] = pl.Series(fractions[:, i], dtype=pl.Float64).fill_nan(None)
    for i, question in enumerate(tree.questions):
        if question.name in names:
            proportion = pl.Series(proportion_asked[:, i], dtype=pl.Float64).fill_nan(None)
            columns[f"{question.name}_proportion_volunteers_asked"] = proportion
    known = [name for name in KEY if keys[name].null_count() == 0]  # files of other programs may have only id_str
    return keys.select(known).with_columns(**columns)


def write_predictions(
    path: Path | str,
    keys: pl.DataFrame,
    concentrations: FloatArray,
    tree: Tree,
    *,
    questions: Sequence[str] | None = None,
    in_training_set: bool | Sequence[bool] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the predictions of a model of one's own as a file that `gzoo score` and the other verbs read.

    Args:
        path: Parquet file to write.
        keys: `dataset_name` and `id_str` of each galaxy, such as `loader.keys`.
        concentrations: Predicted concentrations, shape (galaxy, concentration), columns as in `tree.concentrations`;
            or (member, galaxy, concentration) for an ensemble. For predicted fractions, write a table with the columns
            `{column}_fraction` instead.
        tree: Decision tree, such as `loader.tree`.
        questions: Names of the predicted questions; by default all.
        in_training_set: Whether the model was trained on these galaxies: one answer for all, or one for each. Without
            it, galaxies of the train split count as trained on.
        overwrite: Replace an earlier prediction file.

    Returns:
        The path.

    Raises:
        InputError: The shape does not match, a concentration is not positive and finite, or a question is unknown.
        NotFoundError: The folder of `path` does not exist.
        OutputExistsError: `path` already exists.

    >>> import gzoo, numpy as np, polars as pl, tempfile
    >>> keys = pl.DataFrame({"dataset_name": ["gz_rings"], "id_str": ["1"]})
    >>> path = gzoo.write_predictions(
    ...     tempfile.mkdtemp() + "/predictions.parquet", keys, np.array([[3.0, 1.0]]), gzoo.tree("gz_rings")
    ... )
    >>> pl.read_parquet(path)["ring_yes_fraction"].to_list()
    [0.75]
    """
    path, values = Path(path), np.asarray(concentrations, np.float64)
    refuse_predictions(path, overwrite)
    shape = (keys.height, len(tree.concentrations))
    if values.ndim not in (2, 3) or values.shape[-2:] != shape:
        raise InputError(
            f"The concentrations have shape {values.shape}.",
            f"{shape}, galaxies and concentrations of tree '{tree.name}', or several of them.",
        )
    names = [tree.question(name).name for name in questions] if questions is not None else None
    named = [question for question in tree.questions if names is None or question.name in names]
    if in_training_set is not None and not isinstance(in_training_set, bool) and len(in_training_set) != keys.height:
        raise InputError(f"in_training_set has {len(in_training_set):,} values.", f"{keys.height:,}, one per galaxy.")
    for question in named:
        wrong = ~(values[..., tree.concentration_slice(question.name)] > 0)
        wrong |= ~np.isfinite(values[..., tree.concentration_slice(question.name)])
        if wrong.any():
            row = int(wrong.reshape(-1, *wrong.shape[-2:]).any(axis=(0, 2)).argmax())
            raise InputError(
                f"Galaxy '{keys['id_str'][row]}': a concentration of question '{question.name}' is not valid.",
                "positive, finite numbers.",
                "Pass network outputs through softplus or exp.",
            )
    table = prediction_table(keys, values, tree, [question.name for question in named])
    if in_training_set is not None:
        marks = pl.lit(in_training_set) if isinstance(in_training_set, bool) else pl.Series(in_training_set)
        table = table.with_columns(in_training_set=marks)
    write_prediction_table(path, table, {})
    return path


def write_prediction_table(out: Path, table: pl.DataFrame, metadata: Mapping[str, object]) -> None:
    """Write a complete prediction file or none, with metadata in the Parquet schema."""
    files.write_table(out, table, KIND, metadata)


def join_prediction_tables(out: Path, tables: Iterable[pl.DataFrame], metadata: Mapping[str, object]) -> None:
    """Write a complete prediction file or none from its parts, of which only one is in memory at a time."""
    files.write_tables(out, tables, KIND, metadata)


def read_metadata(path: Path) -> Mapping[str, object]:
    """Return what a prediction file says about its origin; nothing for files of other programs."""
    try:
        metadata: object = json.loads((pq.read_schema(path).metadata or {}).get(b"gzoo", b"{}"))
    except (OSError, ValueError) as error:  # not a Parquet file, or a corrupt one, which its reader reports
        raise_passing(path, error)
        return {}
    return cast("Mapping[str, object]", metadata) if isinstance(metadata, dict) else {}


def refuse_predictions(out: Path, overwrite: bool, inputs: Iterable[Path | str | None] = ()) -> None:
    """Check that a prediction file may be written; see `gzoo.files.refuse_file`."""
    files.refuse_file(out, KIND, (".parquet",), overwrite=overwrite, inputs=inputs)
