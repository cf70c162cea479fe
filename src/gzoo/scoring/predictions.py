"""Predictions from any source: concentrations, fractions or class probabilities, read from a table and checked."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.dataset.schema import KEY
from gzoo.errors import GZooWarning, InputError, NotFoundError, TableError, choices, suggestion
from gzoo.scoring.likelihood import expected_fractions, members_nll, question_fractions
from gzoo.trees.tree import FloatArray, IntArray, Tree
from gzoo.votes.identifiers import IdentifierReader
from gzoo.votes.mapping_file import MappingFile
from gzoo.votes.table_rows import unreadable
from gzoo.votes.tables import read_table
from gzoo.votes.votes import Votes

Kind = Literal["concentrations", "fractions"]
BoolArray = npt.NDArray[np.bool_]

# How the column of an answer may end, and what it then contains; for None the sums of the columns decide.
ENDINGS: tuple[tuple[str, Kind | None], ...] = (
    ("_concentration", "concentrations"),
    ("_pred", None),  # Zoobot's CSV files: a JSON list of concentrations, one for each forward pass; others: fractions
    ("_fraction", "fractions"),
    ("", None),
)
SUM_TOLERANCE = 0.01  # how far the sum of a question's fractions may be from 1 before they are normalised
CLASS_ENDINGS = ("_probability", "_prob", "")
NUMBERS = "numbers, or lists of numbers."
TRUTH_VALUES = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0"), False),
}


@dataclass(frozen=True)
class Predictions:
    """Validated predictions of the votes, in the order of the file.

    Attributes:
        tree: Decision tree.
        keys: `dataset_name` (null if the file has none) and `id_str` of each galaxy.
        kind: Content of `values`: "concentrations" (of a Dirichlet per question, or a mixture of them) or "fractions".
        values: Concentrations, shape (member, galaxy, concentration) with columns as in `tree.concentrations`: one
            member, or one for each component of a mixture with equal weights (an ensemble, several heads or forward
            passes). Fractions have the shape (1, galaxy, answer). NaN for questions not in `questions`.
        questions: Names of the predicted questions, in the order of the tree.
        in_training_set: Whether the model was trained or validated on each galaxy according to the file; null where
            it does not say.
        source: Path of the file.
        how_read: What the columns of the file were read as, and why: a phrase such as "fractions from columns that end
            in _fraction".
    """

    tree: Tree
    keys: pl.DataFrame
    kind: Kind
    values: FloatArray
    questions: tuple[str, ...]
    in_training_set: pl.Series
    source: Path
    how_read: str = ""

    def __len__(self) -> int:
        return self.keys.height

    @classmethod
    def of_concentrations(cls, values: FloatArray, tree: Tree) -> Predictions:
        """Return predictions of all questions.

        Args:
            values: Concentrations, shape (galaxy, concentration) or (member, galaxy, concentration).
            tree: Decision tree.
        """
        members = np.asarray(values, np.float64)
        members = members if members.ndim == 3 else members[None]
        n = members.shape[1]
        keys = pl.select(dataset_name=pl.lit(""), id_str=pl.int_range(n).cast(pl.String))
        questions = tuple(question.name for question in tree.questions)
        return cls(
            tree, keys, "concentrations", members, questions, pl.repeat(None, n, dtype=pl.Boolean, eager=True), Path()
        )

    @property
    def concentrations(self) -> FloatArray:
        """Concentrations, shape (member, galaxy, concentration).

        Raises:
            TableError: The file contains only fractions, without uncertainty.
        """
        if self.kind != "concentrations":
            raise TableError(
                f"'{self.source}' contains only fractions.",
                "concentrations, which also state the uncertainty of a prediction.",
                "Write a column {column}_concentration for each answer.",
            )
        return self.values

    @property
    def fractions(self) -> FloatArray:
        """Predicted vote fractions, shape (galaxy, answer); the mean over the members of a mixture."""
        if self.kind == "fractions":
            return self.values[0]
        total = expected_fractions(self.values[0], self.tree)
        for member in self.values[1:]:
            total += expected_fractions(member, self.tree)
        total /= len(self.values)
        return total

    def question_fractions(self, i: int, rows: IntArray) -> FloatArray:
        """Return the predicted vote fractions of question `i` for some galaxies, shape (galaxy, answer)."""
        members = self.of_question(i, rows)
        if self.kind == "concentrations":
            members = question_fractions(members, is_multiple=self.tree.questions[i].multiple)
        return members.mean(axis=0)

    def of_question(self, i: int, rows: IntArray) -> FloatArray:
        """Return the values of question `i` for some galaxies: (member, galaxy, concentration), or answer."""
        return self.values[:, rows, _places(self.tree, self.kind, self.tree.questions[i].name)]

    def log_likelihood(self, votes: Votes, i: int, rows: IntArray) -> FloatArray:
        """Return the log probability of the votes on question `i` for some galaxies with votes, shape (galaxy,).

        Minus infinity where an answer with votes has a predicted fraction of 0.

        Args:
            votes: Votes of all galaxies.
            i: Index of the question in the tree.
            rows: Indices of the galaxies.
        """
        question = self.tree.questions[i]
        return -members_nll(
            votes.counts[rows, self.tree.slice(question.name)],
            votes.totals[rows, i],
            self.of_question(i, rows),
            is_fraction=self.kind == "fractions",
            is_multiple=question.multiple,
        )

    def take(self, rows: npt.NDArray[np.integer] | BoolArray) -> Predictions:
        """Return the predictions for some galaxies."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(
            self, keys=self.keys[rows], values=self.values[:, rows], in_training_set=self.in_training_set[rows]
        )


@dataclass(frozen=True)
class ClassPredictions:
    """Validated class probabilities, or values with their spread, in the order of the file.

    Attributes:
        keys: `dataset_name` (null if the file has none) and `id_str` of each galaxy.
        probabilities: Shape (galaxy, class); each row sums to 1. Of `read_value_predictions`: mean and standard
            deviation, shape (galaxy, 2).
        in_training_set: Whether the model was trained or validated on each galaxy according to the file; null where
            it does not say.
    """

    keys: pl.DataFrame
    probabilities: FloatArray
    in_training_set: pl.Series


def read_predictions(path: Path | str, tree: Tree, mapping: Path | str | None = None) -> Predictions:
    """Return the content of a prediction file, validated.

    The column of an answer has the name of the answer followed by `_concentration`, `_pred` (Zoobot), `_fraction` or
    nothing. With `_pred` and without an ending, the columns are fractions if those of each question sum to 1 in every
    row, otherwise concentrations; `Predictions.how_read` says what was found. An answer to a question that allows
    several also needs the concentration of not giving it, in a column with `_no` at the end:
    `{column}_concentration_no`. A cell may be a list of numbers (JSON in CSV files), one for each member of a mixture.
    A question needs all of its answers; one whose cells are all missing is not predicted. The key is `dataset_name` and
    `id_str`, or `id_str` alone.

    Args:
        path: Prediction file: Parquet, CSV, FITS, VOTable or ECSV.
        tree: Decision tree.
        mapping: Mapping file (see `MappingFile`) for tables with other column names: `id_str`, `dataset_name`, `table`,
            [answers], and `values = "fractions"` or `"concentrations"`. In [answers], the concentration of not giving
            an answer is `{column}_no`.

    Raises:
        NotFoundError: The file does not exist.
        TableError: The file cannot be read, lacks columns, lists a galaxy twice, or contains invalid numbers.
    """
    path = Path(path)
    if not tree.questions:
        raise InputError(
            f"'{tree.name}' is a dataset of labels, without votes that '{path}' could be compared with.",
            "a dataset of votes.",
            "Predict one of its labels with a run of `gzoo train --target`, and score or compare these predictions.",
        )
    columns = MappingFile.read(Path(mapping)) if mapping else MappingFile()
    table = _read(path, columns.table)
    keys = _keys(path, table, columns)
    kind, names, ending = _value_columns(path, table, tree, columns)
    names = _without_empty_questions(path, table, tree, names)
    order = tree.columns if kind == "fractions" else tree.concentrations
    values = np.empty((0, 0, 0))
    for name, column in names.items():  # one at a time, so that a large file is not in memory twice
        one = _numbers(path, table, keys, column)
        if not values.size:
            values = np.full((len(one), table.height, len(order)), np.nan)
        if len(one) != len(values):
            raise TableError(
                f"'{path}': column '{column}' has {len(one)} numbers per galaxy, others have {len(values)}.",
                "the same number of members in every column.",
            )
        values[:, :, order.index(name)] = one
    n_members = len(values)
    questions = tuple(question.name for question in tree.questions if question.columns[0] in names)
    why = ""
    if kind is None:
        kind, why = _kind_by_sums(path, values, tree, questions)
        if kind == "fractions":
            values = values[..., [tree.concentrations.index(column) for column in tree.columns]]
    _check_complete(path, tree, kind, names, ending)
    if kind == "fractions" and n_members > 1:
        values = values.mean(axis=0, keepdims=True)
    is_seen, how_read = _in_training_set(path, keys, table), f"{kind} from {_which_columns(columns, ending)}{why}"
    read = Predictions(tree, keys, kind, values, questions, is_seen, path, how_read)
    _validate(read, names)
    return read


def read_class_predictions(path: Path | str, classes: Sequence[str]) -> ClassPredictions:
    """Return the content of a file of class probabilities, validated.

    Args:
        path: Table with one column per class: the name of the class followed by `_probability`, `_prob` or nothing.
        classes: Names of the classes.

    Raises:
        NotFoundError: The file does not exist.
        TableError: The file cannot be read, lacks a class, lists a galaxy twice, or contains invalid probabilities.
    """
    path = Path(path)
    table = _read(path, "")
    keys = _keys(path, table, MappingFile())
    parts: list[FloatArray] = []
    for one in classes:
        name = next((f"{one}{ending}" for ending in CLASS_ENDINGS if f"{one}{ending}" in table.columns), None)
        if name is None:
            raise TableError(
                f"Column '{one}_probability' not found in '{path}'.",
                f"a probability for each class: {', '.join(classes)}.",
                "Add the missing columns, or pass a file of vote predictions instead.",
            )
        parts.append(_numbers(path, table, keys, name)[0])
    values = np.column_stack(parts)
    sums = values.sum(axis=1)
    bad = ~((values >= 0).all(axis=1) & (np.abs(sums - 1) < SUM_TOLERANCE))
    if bad.any():
        row = int(np.argmax(bad))
        raise TableError(
            f"{_at(path, keys, row)}: the probabilities sum to {sums[row]:.4g}.",
            "numbers from 0 to 1 that sum to 1.",
            "Apply a softmax if the numbers are logits.",
        )
    return ClassPredictions(keys, values / sums[:, None], _in_training_set(path, keys, table))


def read_value_predictions(path: Path | str, name: str) -> ClassPredictions:
    """Return the content of a file of predicted values, validated.

    Args:
        path: Table with the columns `{name}_mean` and `{name}_std`.
        name: Name of the value.

    Returns:
        Mean and standard deviation in place of probabilities, shape (galaxy, 2).

    Raises:
        NotFoundError: The file does not exist.
        TableError: The file cannot be read, lacks a column, lists a galaxy twice, or contains invalid numbers.
    """
    path = Path(path)
    table = _read(path, "")
    keys = _keys(path, table, MappingFile())
    missing = [column for column in (f"{name}_mean", f"{name}_std") if column not in table.columns]
    if missing:
        raise TableError(
            f"Column '{missing[0]}' not found in '{path}'.",
            f"mean and standard deviation of each galaxy: {name}_mean, {name}_std.",
            "Add the missing column.",
        )
    values = np.column_stack([_numbers(path, table, keys, f"{name}_{end}")[0] for end in ("mean", "std")])
    bad = ~(np.isfinite(values).all(axis=1) & (values[:, 1] > 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise TableError(
            f"{_at(path, keys, row)}: mean {values[row, 0]:g}, standard deviation {values[row, 1]:g}.",
            "finite numbers, and a positive standard deviation.",
        )
    return ClassPredictions(keys, values, _in_training_set(path, keys, table))


# ----------------------------------------------------------------------------------------------------
# Reading


def _at(path: Path, keys: pl.DataFrame, row: int) -> str:
    return f"{path}, row {row + 1}, galaxy '{keys['id_str'][row]}'"


class _Columns:
    """Columns of a table. Those of a Parquet file are read when they are asked for, and not kept."""

    def __init__(self, path: Path, table: str) -> None:
        self._path, self._frame = path, pl.DataFrame()
        self._is_lazy = path.suffix.lower() == ".parquet" and path.stat().st_size > 0
        if self._is_lazy:
            self.columns = list(self._collect(lambda scan: scan.head(0)).columns)
            self.height = int(self._collect(lambda scan: scan.select(pl.len())).item())
        else:
            self._frame = read_table(path, table=table)
            self.columns, self.height = self._frame.columns, self._frame.height
        self.width = len(self.columns)

    def __getitem__(self, name: str) -> pl.Series:
        return (self._collect(lambda scan: scan.select(name)) if self._is_lazy else self._frame)[name]

    def _collect(self, of: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
        try:
            return of(pl.scan_parquet(self._path, glob=False)).collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise unreadable(self._path, "Parquet", error) from error


def _read(path: Path, table: str) -> _Columns:
    if not path.is_file():
        raise NotFoundError(f"Prediction file not found: '{path}'.", hint="Create one with `gzoo predict`.")
    columns = _Columns(path, table)
    if columns.height == 0:
        raise TableError(f"Prediction file '{path}' has 0 rows.", "at least one galaxy.")
    return columns


def _keys(path: Path, table: _Columns, mapping: MappingFile) -> pl.DataFrame:
    """Return `dataset_name` and `id_str` as strings, unique."""
    named = mapping.dataset_name or ("dataset_name" if "dataset_name" in table.columns else "")
    columns = {"dataset_name": pl.Series([None] * table.height, dtype=pl.String)}
    for name, source in (("dataset_name", named), ("id_str", mapping.id_str)):
        if not source:
            continue
        if source not in table.columns:
            raise TableError(
                f"Column '{source}' not found in '{path}'.",
                f"the {name} of each galaxy; the {table.width} columns are {', '.join(table.columns[:5])}, ....",
                f"Rename the column to {name}, or name it in a mapping file and pass that with --mapping.",
            )
        columns[name] = IdentifierReader(f"Column '{source}' of '{path}'").read_all(table[source])
    keys = pl.DataFrame(columns).select(KEY)
    repeated = keys.is_duplicated()
    if repeated.any():
        row = int(repeated.arg_max() or 0)
        raise TableError(
            f"{_at(path, keys, row)}: the galaxy is listed more than once.",
            "one row per galaxy.",
            "Remove the other rows, or put several predictions of a galaxy into one cell, as a list.",
        )
    return keys


def _places(tree: Tree, kind: Kind | None, question: str) -> slice:
    """Return the positions of a question's values."""
    return tree.slice(question) if kind == "fractions" else tree.concentration_slice(question)


def _column(tree: Tree, name: str, ending: str) -> str:
    """Return the column of a concentration or fraction: `ring_concentration`, `ring_concentration_no`."""
    return f"{name}{ending}" if name in tree.columns else f"{name.removesuffix('_no')}{ending}_no"


def _value_columns(
    path: Path, table: _Columns, tree: Tree, mapping: MappingFile
) -> tuple[Kind | None, dict[str, str], str]:
    """Return what the columns contain (None if their sums decide), name -> column of the table, and their ending.

    Names are those of `tree.columns` for fractions, otherwise of `tree.concentrations`.
    """
    if mapping.answers:
        hint = "Fix [answers] in the mapping file."
        kind = None if mapping.values == "counts" else cast(Kind, mapping.values)
        for answer, name in mapping.answers.items():
            if answer not in (tree.columns if kind == "fractions" else tree.concentrations):
                message = f"Answer '{answer}' of '{mapping.source}' not found in tree '{tree.name}'."
                raise TableError(message, choices(tree.columns, answer), hint)
            if name not in table.columns:
                hint = suggestion(table.columns, name, hint)
                raise TableError(f"Column '{name}' not found in '{path}'.", f"a column for answer '{answer}'.", hint)
        names, ending = dict(mapping.answers), ""
    else:
        columns = set(table.columns)
        for ending, kind in ENDINGS:
            wanted = tree.columns if kind == "fractions" else tree.concentrations
            names = {name: column for name in wanted if (column := _column(tree, name, ending)) in columns}
            if names:
                break
        else:
            raise TableError(
                f"Column '{tree.columns[0]}{ENDINGS[0][0]}' not found in '{path}', nor any other prediction.",
                f"a concentration or fraction for each answer of tree '{tree.name}'.",
                "Predict with a model of this campaign, or name the columns in a mapping file (--mapping).",
            )
    return kind, names, ending


def _which_columns(mapping: MappingFile, ending: str) -> str:
    if mapping.answers:
        return f"the columns named in '{mapping.source}'"
    return f"columns that end in {ending}" if ending else "columns with the names of the answers"


def _check_complete(path: Path, tree: Tree, kind: Kind, names: dict[str, str], ending: str) -> None:
    order = tree.columns if kind == "fractions" else tree.concentrations
    for question in tree.questions:
        needed = order[_places(tree, kind, question.name)]
        missing = [name for name in needed if name not in names]
        if not 0 < len(missing) < len(needed):
            continue
        column = _column(tree, missing[0], ending)
        if missing[0] in tree.columns:
            raise TableError(
                f"Column '{column}' not found in '{path}', which has other answers of question '{question.name}'.",
                "all answers of a question, or none.",
            )
        raise TableError(
            f"Column '{column}' not found in '{path}': question '{question.name}' allows several answers.",
            "for each of its answers, a concentration of giving it and one of not giving it.",
            f"Add the columns {{column}}{ending}_no, or write fractions, and fit their spread with `gzoo recalibrate`.",
        )


def _without_empty_questions(path: Path, table: _Columns, tree: Tree, names: Mapping[str, str]) -> dict[str, str]:
    """Return name -> column without the questions of which no cell has a value."""
    predicted = dict(names)
    for question in tree.questions:
        own = {name for one in question.columns for name in (one, f"{one}_no")} & names.keys()
        if all(_is_empty(table[names[name]]) for name in sorted(own)):
            predicted = {name: column for name, column in predicted.items() if name not in own}
    if not predicted:
        raise TableError(f"'{path}' contains no predictions: every cell of its {len(names)} columns is missing.")
    return predicted


def _is_empty(series: pl.Series) -> bool:
    known = series.fill_nan(None) if series.dtype.is_float() else series  # FITS has no other missing value
    return known.null_count() == len(series)


def _numbers(path: Path, table: _Columns, keys: pl.DataFrame, name: str) -> FloatArray:
    """Return a column as numbers, shape (member, galaxy)."""
    series = table[name]
    if series.dtype == pl.String and series.drop_nulls().str.strip_chars().str.starts_with("[").any():
        series = _from_json(path, keys, series)
    flat, n_members = series, 1
    if isinstance(series.dtype, pl.List | pl.Array):
        lengths = series.list.len() if isinstance(series.dtype, pl.List) else pl.Series([series.dtype.shape[0]])
        n_members = cast(int, lengths.max() or 0)
        if lengths.min() != n_members or series.null_count() or not n_members:
            raise TableError(
                f"'{path}': column '{name}' contains lists of different lengths.", "one number for each member."
            )
        flat = series.explode(empty_as_null=True, keep_nulls=True)
    elif series.dtype == pl.String:
        flat = series.cast(pl.Float64, strict=False)
        if flat.null_count():
            row = int(flat.is_null().arg_max() or 0)
            raise TableError(f"{_at(path, keys, row)}: {name} is {series[row]!r}.", NUMBERS)
    if not flat.dtype.is_numeric():
        raise TableError(f"'{path}': column '{name}' has type {series.dtype}.", NUMBERS)
    return flat.cast(pl.Float64).to_numpy().reshape(len(series), n_members).T  # null becomes NaN, rejected later


def _from_json(path: Path, keys: pl.DataFrame, series: pl.Series) -> pl.Series:
    cells: list[list[float]] = []
    for row, cell in enumerate(series.to_list()):
        try:
            cells.append([float(number) for number in json.loads(cell or "")])
        except (ValueError, TypeError, RecursionError) as error:
            raise TableError(
                f"{_at(path, keys, row)}: {series.name} is {str(cell)[:60]!r}.", "a list such as [1.5, 2.0]."
            ) from error
    return pl.Series(series.name, cells, pl.List(pl.Float64))


def _in_training_set(path: Path, keys: pl.DataFrame, table: _Columns) -> pl.Series:
    """Return whether the model was trained on each galaxy; null where the file does not say."""
    if "in_training_set" not in table.columns:
        return pl.repeat(None, table.height, dtype=pl.Boolean, eager=True)
    given = table["in_training_set"]
    words = given.cast(pl.String).str.strip_chars().str.to_lowercase()
    said = words.replace_strict(TRUTH_VALUES, default=None, return_dtype=pl.Boolean)
    unknown = said.is_null() & (words.fill_null("") != "")
    if unknown.any():  # a flag that is not understood must not make a galaxy of the training set look held out
        row = int(unknown.arg_max() or 0)
        raise TableError(
            f"{_at(path, keys, row)}: in_training_set is {given[row]!r}.", "true, false, or an empty cell if unknown."
        )
    return said


# ----------------------------------------------------------------------------------------------------
# Validation


def _kind_by_sums(path: Path, values: FloatArray, tree: Tree, questions: Sequence[str]) -> tuple[Kind, str]:
    """Return whether numbers are fractions, and why; those of each question then sum to 1 in every row."""
    single = [name for name in questions if not tree.question(name).multiple]
    if not ((values >= 0) & (values <= 1) | np.isnan(values)).all():
        return "concentrations", ", which are not all from 0 to 1"
    off = {
        name: np.abs(values[..., tree.concentration_slice(name)].sum(axis=-1) - 1) >= SUM_TOLERANCE for name in single
    }
    n, n_off = sum(one.size for one in off.values()), sum(int(one.sum()) for one in off.values())
    if n and not n_off:
        return "fractions", ", which sum to 1 in every row"
    if n_off < n / 2:  # concentrations would sum to 1 only by chance
        name, row = next((name, int(one.any(axis=0).argmax())) for name, one in off.items() if one.any())
        warnings.warn(
            f"'{path}': {1 - n_off / n:.1%} of the questions have numbers from 0 to 1 that sum to 1, but not '{name}' "
            f"in row {row + 1:,}. All are read as concentrations. If they are fractions, pass a mapping file with "
            '`values = "fractions"`.',
            GZooWarning,
            stacklevel=2,
        )
    return "concentrations", ", which do not sum to 1 in every row" if n else ""


def _validate(read: Predictions, names: dict[str, str]) -> None:
    """Reject invalid concentrations and fractions; normalise fractions to a sum of 1 in place."""
    is_fraction = read.kind == "fractions"
    for question in map(read.tree.question, read.questions):
        places = _places(read.tree, read.kind, question.name)
        own = read.values[..., places]
        is_valid = np.isfinite(own) & ((own >= 0) & (own <= 1) if is_fraction else own > 0)
        if not is_valid.all():
            member, row, i = np.argwhere(~is_valid)[0].tolist()
            name = (read.tree.columns if is_fraction else read.tree.concentrations)[places][i]
            raise TableError(
                f"{_at(read.source, read.keys, row)}: {names[name]} is {float(own[member, row, i])}.",
                "numbers from 0 to 1." if is_fraction else "positive, finite numbers.",
            )
        if not is_fraction or question.multiple:
            continue
        sums = own.sum(axis=-1, keepdims=True)
        off = np.abs(sums - 1) > SUM_TOLERANCE
        if off.any():
            row = int(np.argwhere(off)[0][1])
            raise TableError(
                f"{_at(read.source, read.keys, row)}: the predicted fractions of question '{question.name}' sum to "
                f"{float(sums[0, row, 0]):.4g}.",
                "vote fractions of each question, which sum to 1.",
                "Convert cumulative fractions: divide them by the proportion of volunteers asked.",
            )
        own /= sums


# ----------------------------------------------------------------------------------------------------
# Predictions and their votes


def same_questions(predictions: Sequence[Predictions]) -> tuple[str, ...]:
    """Return the questions that all files predict, in the order of the tree.

    Raises:
        InputError: The files do not have a question in common.
    """
    shared = [name for name in predictions[0].questions if all(name in one.questions for one in predictions[1:])]
    if not shared:
        raise InputError("The prediction files do not have a question in common.")
    return tuple(shared)
