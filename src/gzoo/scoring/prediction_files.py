"""Prediction files that gzoo writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import files
from gzoo.dataset.schema import KEY
from gzoo.errors import OutputExistsError
from gzoo.scoring.likelihood import expected_fractions
from gzoo.trees.tree import FloatArray, Tree

# With fewer galaxies to learn a question from, what a model says of it is little more than where its training started.
MIN_GALAXIES_WITH_VOTES = 30


def prediction_table(
    keys: pl.DataFrame, concentration: FloatArray, tree: Tree, questions: Sequence[str] | None = None
) -> pl.DataFrame:
    """Return the table of a prediction file.

    Args:
        keys: `dataset_name` and `id_str` of each galaxy.
        concentration: Concentrations, shape (galaxy, concentration) or (member, galaxy, concentration), columns as in
            `tree.concentrations`; with several members, cells are lists; with one, NaN becomes null.
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
        return pl.Series(members[:, :, i].T.tolist(), dtype=pl.List(pl.Float64))

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


def write_predictions(out: Path, table: pl.DataFrame, metadata: Mapping[str, object]) -> None:
    """Write a complete prediction file or none, with metadata in the Parquet schema."""
    arrow = table.to_arrow()
    arrow = arrow.cast(
        pa.schema([pa.field(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type) for f in arrow.schema])
    )
    arrow = arrow.replace_schema_metadata({"gzoo": json.dumps(metadata, sort_keys=True)})
    out.parent.mkdir(parents=True, exist_ok=True)
    with files.whole_file(out) as file:
        pq.write_table(arrow, file, write_page_checksum=True)


def read_metadata(path: Path) -> Mapping[str, object]:
    """Return what a prediction file says about its origin; nothing for files of other programs."""
    try:
        metadata: object = json.loads((pq.read_schema(path).metadata or {}).get(b"gzoo", b"{}"))
    except (OSError, ValueError) as error:  # not a Parquet file, or a corrupt one, which its reader reports
        files.raise_passing(path, error)
        return {}
    return cast("Mapping[str, object]", metadata) if isinstance(metadata, dict) else {}


def refuse_occupied(out: Path, overwrite: bool) -> None:
    """Check that a prediction file may be written to a path.

    Raises:
        OutputExistsError: The path contains something that gzoo did not write, or that must not be replaced.
    """
    if not out.exists():
        return
    try:
        is_ours = b"gzoo" in (pq.read_schema(out).metadata or {})
    except (OSError, pa.ArrowInvalid):
        is_ours = False
    if not is_ours:
        raise OutputExistsError(f"'{out}' already exists and is not a gzoo file.", hint="Choose another --out.")
    if not overwrite:
        raise OutputExistsError(
            f"'{out}' already contains predictions.", hint="Choose another --out, or pass --overwrite to replace it."
        )
