"""Morphology catalogues: posterior vote fractions with credible intervals, one row per galaxy."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa

from gzoo import files
from gzoo.catalogs.coverage import HeldOutCoverage, held_out_coverage
from gzoo.dataset.open import KEY, open_dataset
from gzoo.display import Shown
from gzoo.errors import GZooWarning, InputError, MissingExtraError
from gzoo.files import Progress, refuse_file
from gzoo.scoring.posterior import Posterior, read_held_out
from gzoo.trees.tree import FloatArray, Tree

KIND = "catalogue"
ENDINGS = (".parquet", ".csv", ".fits")


@dataclass(frozen=True, slots=True, repr=False)
class CatalogResult(Shown):
    """Summary of a catalogue that was written.

    Attributes:
        path: The catalogue.
        n_galaxies: Number of rows.
        n_with_votes: Galaxies with votes; for the others, the catalogue repeats the prediction.
        level: Probability mass of the credible intervals.
        not_predicted: Questions of the dataset that are neither predicted nor in the catalogue.
        proportion_asked_unknown: Questions whose proportion of volunteers asked cannot be computed from the predicted
            questions.
        calibration: What the held-out votes say about the intervals of each question; questions without votes are
            left out.
        is_simulated: Whether the dataset is simulated.
    """

    path: Path
    n_galaxies: int
    n_with_votes: int
    level: float
    not_predicted: tuple[str, ...]
    proportion_asked_unknown: tuple[str, ...]
    calibration: Mapping[str, HeldOutCoverage]
    is_simulated: bool


def catalog(
    predictions: Sequence[Path | str],
    dataset: Path | str,
    *,
    out: Path | str,
    level: float = 0.9,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CatalogResult:
    """Write a catalogue of posterior vote fractions.

    They combine predictions with votes. The catalogue contains one row per galaxy, with the columns

    - `dataset_name`, `id_str`, `ra`, `dec`, `source_id`;
    - for each question, `{question}_proportion_volunteers_asked`, its credible interval
      `{question}_proportion_asked_low` and `_high`, and `{question}_total-votes`;
    - for each answer, `{column}_posterior_mean`, `{column}_posterior_low` and `{column}_posterior_high`: the vote
      fraction among the volunteers who are asked the question.

    The proportion of volunteers asked is NaN where it is unknown. The column names differ from those of prediction
    files, because scoring a catalogue would use its votes twice.

    Args:
        predictions: Prediction files with concentrations. Several files are merged; of each, the galaxies that its
            model was not trained on are used.
        dataset: Dataset with the votes: a folder, a campaign's name or `owner/name` on the Hub.
        out: Catalogue to write: `.parquet`, `.csv` or `.fits`.
        level: Probability mass of the credible intervals, between 0 and 1.
        overwrite: Replace an earlier catalogue.
        progress: Called with (stage, galaxies done, galaxies in total).

    Raises:
        InputError: No file is given, `level` is not between 0 and 1, or `out` has another suffix.
        NotFoundError: A file or folder does not exist.
        MissingExtraError: FITS needs astropy.
        TableError: A file contains no predictions that can be combined with votes; see `read_held_out`.
        OutputExistsError: `out` already exists.
    """
    out = Path(out)
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, got {level}.")
    refuse_file(out, KIND, ENDINGS, overwrite=overwrite, inputs=[*predictions, dataset])
    if out.suffix == ".fits":
        _require_astropy(out)
    opened = open_dataset(dataset, progress=progress)
    held_out = read_held_out(predictions, opened)
    tree = held_out[0].votes.tree
    result = CatalogResult(
        path=out,
        n_galaxies=sum(map(len, held_out)),
        n_with_votes=sum(int((one.votes.totals > 0).any(axis=1).sum()) for one in held_out),
        level=level,
        not_predicted=tuple(one.name for one in opened.tree.questions if one not in tree.questions),
        proportion_asked_unknown=tree.unreachable,
        calibration=held_out_coverage(held_out, opened, level),
        is_simulated=opened.is_simulated,
    )
    off = [f"{name} ({one.verdict}: {one.coverage:.0%})" for name, one in result.calibration.items() if one.is_off]
    if off:
        warnings.warn(
            f"The predictions do not agree with held-out votes, of which their {level:.0%} intervals cover: "
            f"{', '.join(off)}. The credible intervals of the catalogue are as wrong as the predictions. "
            "`gzoo recalibrate` corrects predictions.",
            GZooWarning,
            stacklevel=2,
        )
    metadata = {
        "kind": KIND,
        "predictions": [{"file": one.source.name, "sha256": files.sha256(one.source)} for one in held_out],
        "data_sha256": opened.digest,
        "hub": dict(opened.origin) if opened.origin else None,
        "level": level,
        "calibration": {name: asdict(one) for name, one in result.calibration.items()},
        "is_simulated": opened.is_simulated,
    }
    positions = pl.concat([opened.positions(split) for split in opened.splits]).unique(KEY, keep="first")
    done = 0
    with _writer(out, _schema(tree), metadata) as write:
        for one in held_out:
            keys = one.keys.select(KEY).join(positions, on=KEY, how="left", maintain_order="left")
            for rows, found in one.posteriors():
                write(_batch(keys[rows], one.votes.totals[rows], found, level))
                done += rows.stop - rows.start
                if progress:
                    progress("Writing catalogue", done, result.n_galaxies)
    return result


def _schema(tree: Tree) -> pa.Schema:
    fields = {"dataset_name": pa.string(), "id_str": pa.string(), "ra": pa.float64(), "dec": pa.float64()}
    fields["source_id"] = pa.string()
    for question in tree.questions:
        for end in ("proportion_volunteers_asked", "proportion_asked_low", "proportion_asked_high"):
            fields[f"{question.name}_{end}"] = pa.float32()
        fields[question.total_column] = pa.int32()
        for column in question.columns:
            for end in ("posterior_mean", "posterior_low", "posterior_high"):
                fields[f"{column}_{end}"] = pa.float32()
    return pa.schema(list(fields.items()))


def _batch(keys: pl.DataFrame, totals: np.ndarray, found: Posterior, level: float) -> pa.RecordBatch:
    fractions = [_columns(one) for one in (found.fractions, *found.interval(level))]
    asked = [_columns(one) for one in (found.proportion_asked, *found.proportion_asked_interval(level))]
    arrays = [keys[name].to_arrow() for name in ("dataset_name", "id_str", "ra", "dec", "source_id")]
    for i, question in enumerate(found.tree.questions):
        arrays += [pa.array(proportion[i]) for proportion in asked]
        arrays.append(pa.array(totals[:, i].astype(np.int32)))
        for column in range(found.tree.starts[i], found.tree.starts[i] + len(question.columns)):
            arrays += [pa.array(fraction[column]) for fraction in fractions]
    schema = _schema(found.tree)
    return pa.RecordBatch.from_arrays(
        [one.cast(kind) for one, kind in zip(arrays, schema.types, strict=True)], schema=schema
    )


def _columns(matrix: FloatArray) -> np.ndarray:
    """Return the columns as contiguous rows, which Arrow takes without copying."""
    return np.ascontiguousarray(matrix.T, dtype=np.float32)


@contextlib.contextmanager
def _writer(
    out: Path, schema: pa.Schema, metadata: Mapping[str, object]
) -> Generator[Callable[[pa.RecordBatch], None]]:
    """Yield a function that writes one batch; the file appears only when it is complete."""
    text = json.dumps(metadata, sort_keys=True)
    if out.suffix == ".parquet":
        with files.write_parquet(out, schema.with_metadata({"gzoo": text})) as file:
            yield file.write_batch
    elif out.suffix == ".csv":
        with files.whole_file(out) as file:
            file.write((",".join(schema.names) + "\n").encode())

            def write(batch: pa.RecordBatch) -> None:  # more programs read an empty cell as missing than "nan"
                cast(pl.DataFrame, pl.from_arrow(batch)).fill_nan(None).write_csv(file, include_header=False)

            yield write
    else:
        batches: list[pa.RecordBatch] = []
        yield batches.append
        with files.whole_file(out) as file:
            _write_fits(file, pa.Table.from_batches(batches, schema), text)


def _require_astropy(out: Path) -> None:
    try:
        import_module("astropy")
    except ImportError as error:
        raise MissingExtraError(
            f"Cannot write '{out}': FITS needs astropy, which is not installed.",
            "the extra 'tables'.",
            "Run `pip install 'gzoo[tables]'`.",
        ) from error


def _write_fits(file: Any, table: pa.Table, metadata: str) -> None:
    columns = {name: table[name].to_numpy() for name in table.schema.names}
    for name, values in columns.items():
        if values.dtype == object:
            columns[name] = np.array([text.encode() for text in values.tolist()], dtype=np.bytes_)
    hdu = import_module("astropy.io.fits").table_to_hdu(import_module("astropy.table").Table(columns, copy=False))
    hdu.name = "CATALOGUE"
    hdu.header["GZOO"] = metadata
    hdu.header["CREATOR"] = files.mark(KIND)
    hdu.writeto(file)
