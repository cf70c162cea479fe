"""Prediction files as gzoo writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo.dataset.open import KEY
from gzoo.errors import OutputExistsError
from gzoo.scoring.likelihood import expected_fractions
from gzoo.trees.tree import FloatArray, Tree


def prediction_table(
    keys: pl.DataFrame, concentration: FloatArray, tree: Tree, questions: Sequence[str] | None = None
) -> pl.DataFrame:
    """Concentrations as the columns of a prediction file.

    Args:
        keys: `dataset_name` and `id_str`, a row a galaxy.
        concentration: Shape (galaxy, answer), or (member, galaxy, answer): cells are then lists, if members are more
            than one.
        tree: The questions.
        questions: Names of those that are predicted; by default all.
    """
    members = concentration if concentration.ndim == 3 else concentration[None]
    fractions = np.mean([expected_fractions(one, tree) for one in members], axis=0)
    proportion_asked = tree.proportion_asked(fractions)
    predicted = [one for one in tree.questions if questions is None or one.name in questions]
    columns: dict[str, pl.Series] = {}
    for i, column in enumerate(tree.columns):
        if tree.questions[tree.question_of_answer[i]] not in predicted:
            continue
        if len(members) == 1:
            columns[f"{column}_concentration"] = pl.Series(members[0, :, i], dtype=pl.Float64)
        else:
            columns[f"{column}_concentration"] = pl.Series(members[:, :, i].T.tolist(), dtype=pl.List(pl.Float64))
        columns[f"{column}_fraction"] = pl.Series(fractions[:, i], dtype=pl.Float64)
    for i, question in enumerate(tree.questions):
        if question in predicted:
            columns[f"{question.name}_proportion_volunteers_asked"] = pl.Series(
                proportion_asked[:, i], dtype=pl.Float64
            ).fill_nan(None)
    known = [name for name in KEY if keys[name].null_count() == 0]  # files of others may have the identifier alone
    return keys.select(known).with_columns(**columns)


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


def refuse_occupied(out: Path, overwrite: bool) -> None:
    """Check that a prediction file may be written there.

    Raises:
        OutputExistsError: Something stands there that gzoo did not make, or that may not be replaced.
    """
    if not out.exists():
        return
    try:
        ours = b"gzoo" in (pq.read_schema(out).metadata or {})
    except (OSError, pa.ArrowInvalid):
        ours = False
    if not ours:
        raise OutputExistsError(f"{out} is something that gzoo did not make.", "A new name.", "Choose another --out.")
    if not overwrite:
        raise OutputExistsError(
            f"{out} holds finished predictions.", "A new name.", "Choose another --out, or --overwrite."
        )
