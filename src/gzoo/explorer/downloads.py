"""Tables of the galaxies that are shown: identifiers, CSV and Parquet, and the command that chooses the same ones."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator

import numpy as np
import polars as pl
from starlette.responses import Response, StreamingResponse

from gzoo.dataset.names import PREDICTED
from gzoo.explorer.labels import Labels, Rows
from gzoo.explorer.query import Engine, Filter

ROWS_AT_ONCE = 20_000
TYPES = {"txt": "text/plain", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


def download(labels: Labels, rows: Rows, format: str) -> Response:
    """Return a table of some galaxies, in their order.

    Args:
        labels: Labels of all galaxies.
        rows: The galaxies.
        format: "txt" (one identifier per line), "csv" or "parquet".
    """
    headers = {
        "content-disposition": f'attachment; filename="galaxies.{format}"',
        "cache-control": "no-store",
    }
    if format == "parquet":
        out = io.BytesIO()
        table(labels, rows).write_parquet(out)
        return Response(out.getvalue(), media_type=TYPES[format], headers=headers)
    return StreamingResponse(_lines(labels, rows, format), media_type=TYPES[format], headers=headers)


def _lines(labels: Labels, rows: Rows, format: str) -> Iterator[bytes]:
    for start in range(0, max(len(rows), 1), ROWS_AT_ONCE):
        few = rows[start : start + ROWS_AT_ONCE]
        if format == "txt":
            yield "".join(f"{name}\n" for name in labels.frame["id_str"].gather(few).to_list()).encode()
        else:
            yield table(labels, few).write_csv(include_header=start == 0).encode()


def table(labels: Labels, rows: Rows) -> pl.DataFrame:
    """Return identifiers, positions, split, votes and predicted fractions of some galaxies."""
    dataset = labels.dataset
    frame = labels.frame[rows]
    columns: dict[str, pl.Series] = {
        "split": pl.Series([dataset.splits[i] for i in labels.split[rows].tolist()], dtype=pl.String)
    }
    predicted = labels.predicted
    place = np.array([predicted.place.get(row, -1) for row in rows.tolist()], int) if predicted else np.empty(0, int)
    for question in labels.collected:
        total = labels.totals[rows, labels.question(question.name)]
        columns[question.total_column] = pl.Series(total)
        for column in question.columns:
            votes = labels.counts[rows, labels.answer(column)]
            with np.errstate(invalid="ignore", divide="ignore"):
                fraction = (votes / total).astype(np.float32)
            columns[column] = pl.Series(votes)
            columns[f"{column}_fraction"] = pl.Series(fraction).fill_nan(None)
            if predicted and question.name in predicted.read.questions:
                values = predicted.fractions[place, labels.answer(column)].copy()
                values[place < 0] = np.nan
                columns[f"{column}_predicted_fraction"] = pl.Series(values).fill_nan(None)
    return frame.with_columns(**columns)


def select_command(engine: Engine, wanted: Filter) -> str:
    """Return the `gzoo select` command that chooses the galaxies of a filter.

    With predictions, that command chooses among the predicted galaxies only, so they are named only where the filter
    needs them.
    """
    labels, parts = engine.labels, engine.parts(wanted.expression)
    conditions = [f"({wanted.expression})"] if parts else []
    for name, values in (("split", wanted.splits), ("dataset_name", wanted.campaigns)):
        if values:
            quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
            conditions.append(f"{name} in ({quoted})")
    where = wanted.expression if parts and len(conditions) == 1 else " and ".join(conditions)
    kinds = {quantity.kind for part in parts for quantity in engine.measures.bound(part).quantities.values()}
    words = ["gzoo", "select"]
    if labels.predicted is not None and not kinds.isdisjoint(PREDICTED):
        words.append(str(labels.predicted.read.source))
    words += [str(labels.dataset.folder), "--where", where or "id_str is not missing", "--out", "selected.parquet"]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """Return a word as a shell must spell it: within double quotes where that is easier to read."""
    is_plain = "'" in word and not any(one in word for one in '"$`\\!')
    return f'"{word}"' if is_plain else shlex.quote(word)
