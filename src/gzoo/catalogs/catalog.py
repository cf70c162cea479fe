"""Catalogues: what predictions and votes together say of each galaxy, in a table for other programs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa

from gzoo import files
from gzoo.dataset.open import KEY, open_dataset
from gzoo.errors import InputError
from gzoo.files import refuse_out
from gzoo.scoring.posterior import Posterior, Progress, read_unseen
from gzoo.trees.tree import FloatArray, Tree

ENDINGS = (".parquet", ".csv", ".fits")


@dataclass(frozen=True, slots=True)
class CatalogResult:
    """What combining made.

    Attributes:
        path: The catalogue.
        n_galaxies: Its rows.
        n_with_votes: How many of them have any votes; of the others the catalogue repeats the prediction.
        level: Of the intervals.
        not_predicted: Questions of the dataset that the predictions, and so the catalogue, lack.
        proportion_asked_unknown: Questions whose probability of being asked cannot be known from those that are there.
        worth: Votes that a prediction is worth, of each answer to a question that allows several, by file.
        is_simulated: Whether no telescope and no person was involved.
    """

    path: Path
    n_galaxies: int
    n_with_votes: int
    level: float
    not_predicted: tuple[str, ...]
    proportion_asked_unknown: tuple[str, ...]
    worth: Mapping[str, Mapping[str, float]]
    is_simulated: bool


def catalog(
    predictions: Sequence[Path | str],
    folder: Path | str,
    *,
    out: Path | str,
    level: float = 0.9,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CatalogResult:
    """A catalogue of what is known of each predicted galaxy: prediction and votes combined.

    A row a galaxy: `dataset_name`, `id_str`, `ra`, `dec`, `source_id`; for each question `{question}_proportion_volunteers_asked`, the
    probability of being asked, with `_low` and `_high`, and `{question}_total-votes`, the people asked; for each
    answer `{column}_posterior`, the expected share of those asked, with `{column}_low` and `{column}_high`. NaN where
    a reach cannot be known. The names are not those of a prediction file, for its votes would be scored twice.

    Args:
        predictions: Prediction files with concentrations; several are united, each with the galaxies that its model
            has not seen.
        folder: The dataset with the votes: a folder, a campaign's name or `owner/name` on the Hub.
        out: The catalogue to write: `.parquet`, `.csv` or `.fits`.
        level: Probability that an interval holds; equal tails.
        overwrite: Replace an earlier catalogue.
        progress: Called as (stage, galaxies done, galaxies).

    Raises:
        InputError: No file is given, `level` is not between 0 and 1, or `out` has another ending.
        NotFoundError: A file or folder is not there.
        MissingExtraError: FITS needs astropy.
        TableError: A file holds no predictions that can be combined with votes; see `read_unseen`.
        OutputExistsError: `out` is taken.
    """
    out = Path(out)
    if not 0 < level < 1:
        raise InputError(f"level is {level}.", "A number between 0 and 1, such as 0.9.", "Choose another --level.")
    refuse_out(out, "catalogue", ENDINGS, "_posterior_mean", overwrite)
    dataset = open_dataset(folder, progress=progress)
    united = read_unseen(predictions, dataset)
    tree = united[0].votes.tree
    worth = {
        one.source.name: {
            column: round(float(value), 4)
            for column, value in zip(tree.columns, one.worth, strict=True)
            if np.isfinite(value)
        }
        for one in united
    }
    worth = {name: values for name, values in worth.items() if values}
    made = CatalogResult(
        path=out,
        n_galaxies=sum(len(one) for one in united),
        n_with_votes=sum(int((one.votes.totals > 0).any(axis=1).sum()) for one in united),
        level=level,
        not_predicted=tuple(one.name for one in dataset.tree.questions if one not in tree.questions),
        proportion_asked_unknown=tree.unreachable,
        worth=worth,
        is_simulated=dataset.is_simulated,
    )
    about = {
        "kind": "catalogue",
        "predictions": [{"file": one.source.name, "sha256": files.sha256(one.source)} for one in united],
        "data_sha256": dataset.digest,
        "hub": dict(dataset.origin) if dataset.origin else None,
        "level": level,
        "worth_in_votes": worth,
        "is_simulated": dataset.is_simulated,
    }
    places = pl.concat([dataset.positions(split) for split in dataset.splits]).unique(KEY, keep="first")
    done = 0
    with _writer(out, _schema(tree), about) as write:
        for one in united:
            keys = one.keys.select(KEY).join(places, on=KEY, how="left", maintain_order="left")
            for rows, found in one.posteriors():
                write(_batch(keys[rows], one.votes.totals[rows], found, level))
                done += rows.stop - rows.start
                if progress:
                    progress("combining", done, made.n_galaxies)
    return made


def _schema(tree: Tree) -> pa.Schema:
    fields = [("dataset_name", pa.string()), ("id_str", pa.string()), ("ra", pa.float64()), ("dec", pa.float64())]
    fields.append(("source_id", pa.string()))
    for question in tree.questions:
        fields += [
            (f"{question.name}_{end}", pa.float32())
            for end in ("proportion_volunteers_asked", "proportion_asked_low", "proportion_asked_high")
        ]
        fields.append((question.total_column, pa.int32()))
        for column in question.columns:
            fields += [
                (f"{column}_{what}", pa.float32()) for what in ("posterior_mean", "posterior_low", "posterior_high")
            ]
    return pa.schema(fields)


def _batch(keys: pl.DataFrame, totals: np.ndarray, found: Posterior, level: float) -> pa.RecordBatch:
    keys = keys.with_columns(pl.col("ra", "dec").fill_null(np.nan), pl.col("source_id").fill_null(""))
    fractions = [_columns(one) for one in (found.fractions, *found.interval(level))]
    reaches = [_columns(one) for one in (found.proportion_asked, *found.proportion_asked_interval(level))]
    arrays = [keys[name].to_arrow() for name in ("dataset_name", "id_str", "ra", "dec", "source_id")]
    for i, question in enumerate(found.tree.questions):
        arrays += [pa.array(proportion_asked[i]) for proportion_asked in reaches]
        arrays.append(pa.array(totals[:, i].astype(np.int32)))
        for column in range(found.tree.starts[i], found.tree.starts[i] + len(question.columns)):
            arrays += [pa.array(fraction[column]) for fraction in fractions]
    schema = _schema(found.tree)
    return pa.RecordBatch.from_arrays(
        [one.cast(kind) for one, kind in zip(arrays, schema.types, strict=True)], schema=schema
    )


def _columns(matrix: FloatArray) -> np.ndarray:
    """Each column in one piece, as Arrow takes it."""
    return np.ascontiguousarray(matrix.T, dtype=np.float32)


@contextlib.contextmanager
def _writer(out: Path, schema: pa.Schema, about: Mapping[str, object]) -> Generator[Callable[[pa.RecordBatch], None]]:
    """What takes the catalogue part by part, and makes a file that is whole or not there."""
    said = json.dumps(about, sort_keys=True)
    if out.suffix == ".parquet":
        with files.write_parquet(out, schema.with_metadata({"gzoo": said})) as file:
            yield file.write_batch
    elif out.suffix == ".csv":
        with files.whole_file(out) as file:
            file.write((",".join(schema.names) + "\n").encode())

            def write(batch: pa.RecordBatch) -> None:  # an empty cell is read as missing by more programs than "nan"
                rows = cast(pl.DataFrame, pl.from_arrow(batch)).fill_nan(None)
                rows.write_csv(file, include_header=False)

            yield write
    else:
        batches: list[pa.RecordBatch] = []
        yield batches.append
        with files.whole_file(out) as file:
            _write_fits(file, pa.Table.from_batches(batches, schema), said)


def _write_fits(file: Any, table: pa.Table, said: str) -> None:
    fits = import_module("astropy.io.fits")
    columns: list[tuple[str, str]] = []
    values: list[np.ndarray] = []
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        column = table[name].to_numpy()
        if pa.types.is_string(kind):
            column = np.array([text.encode() for text in column.tolist()], dtype=np.bytes_)
        columns.append((name, column.dtype.newbyteorder(">").str if column.dtype.kind != "S" else column.dtype.str))
        values.append(column)
    rows = np.empty(table.num_rows, dtype=columns)
    for (name, _), column in zip(columns, values, strict=True):
        rows[name] = column
    hdu = fits.BinTableHDU(rows, name="CATALOGUE")
    hdu.header["GZOO"] = said
    hdu.writeto(file)
