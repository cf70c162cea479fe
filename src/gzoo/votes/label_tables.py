"""Reading tables of labels: a file and its labels in each row, without a campaign and without votes.

What a column contains follows from its values: text is a class, numbers are numbers. Identifiers, positions, damaged
rows and rows that contradict each other are treated as in vote tables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from gzoo.errors import TableError
from gzoo.images.checks import SUFFIXES
from gzoo.trees import campaign as campaigns_of
from gzoo.trees.campaign import TAKEN_LABELS, Campaign, of_labels
from gzoo.trees.definition import Label
from gzoo.votes.cells import Report, shown
from gzoo.votes.column_checks import listed
from gzoo.votes.identifiers import MISSING, Cells, IdentifierReader
from gzoo.votes.mapping_file import MappingFile
from gzoo.votes.reading import RowTable, join_parts, read_part
from gzoo.votes.tables import ReadTable, read_rows

MAX_CLASSES = 100
"""A column of text with more values does not contain classes."""
FEW_CLASSES = 20
"""More values contain classes only if each is that of two galaxies or more on average."""
FILE_COLUMNS = ("file", "file_name", "filename", "image")
_SUFFIX = re.compile(rf"({'|'.join(map(re.escape, SUFFIXES))})(\.gz)?$", re.IGNORECASE)
_NO_LABEL = ("", "nan", "na", "n/a", "null", "#n/a", "<na>")
_INTEGER, _DECIMAL, _CODE = r"^[+-]?\d{1,18}$", r"^[+-]?\d*[.,eE]", r"^[+-]?0\d"
_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, kw_only=True, repr=False)
class LabelTable(RowTable):
    """Rows of a table of labels.

    Attributes:
        campaign: Definition of the dataset: its columns of labels.
        labels: The labels of every row of the table, also of dropped ones: classes by their number (-1 if unknown),
            integers, numbers (NaN if unknown) and strings ('' if unknown).
    """

    campaign: Campaign
    labels: pl.DataFrame


def read_labels(
    path: Path | str,
    mapping: Path | str | None = None,
    *,
    split_column: str = "",
    allow_bad_positions: bool = False,
) -> LabelTable:
    """Read a table of labels.

    The image is in column `file` (or `file_name`, `filename`, `image`), the identifier in `id_str`; without `id_str` it
    is the name of the file without its ending. `ra` and `dec`, `source_id` and `dataset_name` are as in a vote table.
    Each other column is a label: text with at most 100 different values, which repeat, is a class, and so are true and
    false; numbers are integers or floats; other text is a string. A row whose labels are all missing is dropped.

    Args:
        path: CSV, Parquet, FITS, VOTable or ECSV table with a row for each galaxy.
        mapping: Mapping file for other names of these columns (see `MappingFile`), or with columns to `ignore`.
        split_column: Column that contains each galaxy's split, or "".
        allow_bad_positions: Whether to read a table in which more than 10% of the positions cannot be used.

    Raises:
        NotFoundError: A file does not exist.
        TableError: The table cannot be read, has no rows or no labels, lacks files and identifiers, or a column
            contains numbers and text.
    """
    path = Path(path)
    given = MappingFile.read(mapping) if mapping else None
    read = read_rows(path, table=given.table if given else "")
    if read.frame.height == 0:
        raise TableError(f"'{path}' does not contain any rows.", "at least one galaxy.", "Check the file.")
    names, frame = _names(path, read.frame, given, split_column)
    labels, columns, excluded = _labels(path, frame, names)

    def values(report: Report) -> pl.Series:
        is_missing = pl.DataFrame([_is_missing(one, columns[one.name]) for one in labels]).select(
            pl.all_horizontal(pl.all())
        )
        report(is_missing.to_series(), "label missing", lambda: pl.Series(["no label in this row"] * frame.height))
        for one in labels.select(pl.col(pl.Float64)).get_columns():
            report(one.is_infinite(), "label not finite", partial(shown, one.name, one.cast(pl.String)))
        return labels.hash_rows()

    name = _NAME.sub("_", path.stem.lower()).strip("_")[:40].strip("_") or "labels"
    if name in campaigns_of.names() or name in campaigns_of.RESERVED or name.endswith("_simulated"):
        name = f"{name[:33]}_labels"
    what = "Column '{}' of '{}'"
    readers: dict[str, IdentifierReader] = {
        "id_str": (IdentifierReader if names.id_str in read.frame.columns else _FileNames)(
            what.format(names.id_str, path)
        )
    }
    if names.source_id:
        readers["source_id"] = IdentifierReader(what.format(names.source_id, path))
    part = read_part(ReadTable(frame, read.damaged, read.units), 0, names, name, readers, values)
    rows, dropped, positions = join_parts(path, [part], names, read.units, allow_bad_positions=allow_bad_positions)
    doubts = [doubt for reader in readers.values() for doubt in reader.warnings()]
    if "split" in excluded and not split_column:
        doubts.append(f"'{path}': column 'split' is not used. Pass --split-column split to keep the splits in it.")
    campaign = of_labels(name, path.stem, f"Galaxies with labels: {', '.join(columns)}.", tuple(columns.values()))
    return LabelTable(
        rows=rows,
        dropped=dropped.with_columns(pl.col("reason").str.replace("votes", "labels", literal=True)),
        n_rows=frame.height,
        collected=(),
        excluded=excluded,
        warnings=(*doubts, *(positions.warnings if positions else ())),
        positions=positions,
        campaign=campaign,
        labels=labels,
    )


class _FileNames(IdentifierReader):
    """Identifiers that are names of files, which no program has taken for numbers."""

    def read(self, cells: pl.Series) -> Cells:
        """Return the names as they are."""
        text = cells.fill_null("")
        problem = pl.select(pl.when(text == "").then(pl.lit(MISSING)).otherwise(pl.lit(""))).to_series()
        return Cells(text, text, problem)


def _names(
    path: Path, frame: pl.DataFrame, given: MappingFile | None, split_column: str
) -> tuple[MappingFile, pl.DataFrame]:
    """Return which column is which, and the table with identifiers."""
    columns = frame.columns
    if given is None:
        same = {name: name for name in ("source_id", "ra", "dec", "dataset_name") if name in columns}
        image = next((name for name in FILE_COLUMNS if name in columns), "")
        given = MappingFile(**same, image=image)  # type: ignore[arg-type]
    elif given.answers or given.totals:
        raise TableError(
            f"Mapping file '{given.source}' names answers, but '{path}' is a table of labels.",
            "id_str, image, ra, dec and the like, and a list of columns to ignore.",
            "Remove [answers] and [totals].",
        )
    given = replace(given, split=split_column or given.split)
    if given.id_str not in columns and given.image in columns:
        found = (
            frame[given.image]
            .cast(pl.String, strict=False)
            .str.strip_chars()
            .map_elements(lambda name: _SUFFIX.sub("", name), pl.String)
        )
        free = "id_str" if "id_str" not in columns else f"id of {given.image}"
        given, frame = replace(given, id_str=free), frame.with_columns(found.alias(free))
    missing = [name for name in given.named if name not in frame.columns]
    if missing:
        raise TableError(
            f"Column '{missing[0]}' not found in '{path}'.",
            f"a column with the file of each image ({', '.join(FILE_COLUMNS)}) or with its identifier (id_str); it has "
            f"{listed(columns)}.",
            "Rename a column, or name it in a mapping file and pass that with --mapping.",
        )
    return given, frame


def _labels(
    path: Path, frame: pl.DataFrame, names: MappingFile
) -> tuple[pl.DataFrame, dict[str, Label], tuple[str, ...]]:
    """Return the labels of all rows, what each column contains, and the columns that are not used."""
    values: list[pl.Series] = []
    columns: dict[str, Label] = {}
    excluded: list[str] = []
    for series in frame.get_columns():
        if series.name in names.named:
            continue
        found = None
        is_ignored = any(fnmatchcase(series.name, pattern) for pattern in names.ignore)
        if not is_ignored and series.name not in TAKEN_LABELS and series.name.isprintable():
            found = label_of(path, series)
        if found is None:
            excluded.append(series.name)
        else:
            columns[series.name] = found[0]
            values.append(found[1])
    if not columns:
        raise TableError(
            f"'{path}' does not contain a column of labels.",
            f"a column beside {', '.join(dict.fromkeys(names.named))}, such as label; it has {listed(frame.columns)}.",
            "Add a column of labels.",
        )
    return pl.DataFrame(values), columns, tuple(excluded)


def label_of(path: Path, series: pl.Series) -> tuple[Label, pl.Series] | None:
    """Return what a column contains and its values as a dataset stores them; None if it has no label that can be.

    Args:
        path: The table, for error messages.
        series: The column.

    Raises:
        TableError: The column contains numbers and text.
    """
    name, kind = series.name, series.dtype
    if kind.is_integer() and not series.null_count() and (series <= 2**63 - 1).all():
        return Label(name=name, kind="integer"), series.cast(pl.Int64)
    if kind.is_numeric():
        numbers = series.cast(pl.Float64).fill_null(float("nan"))
        return None if numbers.is_nan().all() else (Label(name=name, kind="number"), numbers)
    if not isinstance(kind, pl.String | pl.Categorical | pl.Enum | pl.Boolean):
        return None
    text = series.cast(pl.String).str.replace_all(r"\s+", " ").str.strip_chars()
    text = text.set(text.str.to_lowercase().is_in(_NO_LABEL).fill_null(True), None)
    known = text.drop_nulls().unique().sort()
    return None if known.is_empty() else _of_text(path, text, known)


def _of_text(path: Path, text: pl.Series, known: pl.Series) -> tuple[Label, pl.Series]:
    """Return what a column of text contains; `text` is null where it is missing, `known` has its different values."""
    name = text.name
    numbers = known.cast(pl.Float64, strict=False)
    if not numbers.null_count() and not known.str.contains(_CODE).any():
        if not text.null_count() and known.str.contains(_INTEGER).all():
            return Label(name=name, kind="integer"), text.cast(pl.Int64)
        return Label(name=name, kind="number"), text.cast(pl.Float64).fill_null(float("nan"))
    is_decimal = known.str.contains(_DECIMAL) & numbers.is_not_null()
    if is_decimal.sum() * 2 > len(known):
        wrong = known.filter(numbers.is_null())[0] if numbers.null_count() else known[0]
        row = int((text == wrong).fill_null(False).arg_max() or 0)
        raise TableError(
            f"'{path}', row {row + 1}: {name} is '{wrong[:60]}', but most other values are numbers.",
            "numbers, or an empty cell where the label is unknown.",
            f"Correct this row, or add '{name}' to `ignore` in a mapping file.",
        )
    n_known = len(text) - text.null_count()
    is_unique = len(known) > FEW_CLASSES and len(known) * 2 > n_known  # names or remarks
    if len(known) > MAX_CLASSES or is_unique or not all(one.isprintable() for one in known):
        return Label(name=name, kind="string"), text.fill_null("")
    numbers_of = {one: i for i, one in enumerate(known)}
    values = text.replace_strict(numbers_of, default=-1, return_dtype=pl.Int64)
    return Label(name=name, kind="class", classes=tuple(known)), values


def _is_missing(values: pl.Series, label: Label) -> pl.Series:
    if label.kind == "class":
        return values == -1
    if label.kind == "number":
        return values.is_nan()
    return values == "" if label.kind == "string" else pl.Series(values.name, np.zeros(len(values), bool))
