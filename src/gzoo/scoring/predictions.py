"""Predictions from anyone: concentrations, fractions or class probabilities, from any table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from gzoo.dataset.open import KEY, Dataset
from gzoo.errors import InputError, NotFoundError, TableError
from gzoo.scoring.likelihood import expected_fractions
from gzoo.trees.tree import FloatArray, Question, Tree
from gzoo.votes.columns import Columns
from gzoo.votes.tables import read_table
from gzoo.votes.votes import Votes

Kind = Literal["concentrations", "fractions"]
BoolArray = npt.NDArray[np.bool_]

# how an answer's column may end, and what it then holds; "" may be either, and the sums decide
ENDINGS: tuple[tuple[str, Kind | None], ...] = (
    ("_concentration", "concentrations"),
    ("_pred", "concentrations"),  # as Zoobot writes CSV: a JSON list of concentrations, one for each forward pass
    ("_fraction", "fractions"),
    ("", None),
)
SUM_TOLERANCE = 0.01  # how far the fractions of a question may be from adding up to 1, before they are scaled
CLASS_ENDINGS = ("_probability", "_prob", "")


@dataclass(frozen=True)
class Predictions:
    """What somebody expects volunteers to say, checked, in the order of the file.

    Attributes:
        tree: The questions, which give the columns their meaning.
        keys: `dataset_name` (null where the file has none) and `id_str`, a row a galaxy.
        kind: What `values` holds: "concentrations" (a Dirichlet a question, or a mixture of them) or "fractions".
        values: Shape (member, galaxy, answer): one member, or one for each part of a mixture with equal weights
            (an ensemble, several heads or forward passes); fractions have one. NaN for questions not in `questions`.
        questions: Names of the questions that are predicted, in the order of the tree.
        in_training_set: Galaxies that the file says the model was trained or validated on, shape (galaxy,).
        source: The file.
        says_trained_on: Whether the file says it at all.
    """

    tree: Tree
    keys: pl.DataFrame
    kind: Kind
    values: FloatArray
    questions: tuple[str, ...]
    in_training_set: BoolArray
    source: Path
    says_trained_on: bool = False

    def __len__(self) -> int:
        return self.keys.height

    @property
    def concentrations(self) -> FloatArray:
        """Shape (member, galaxy, answer).

        Raises:
            TableError: The file has fractions only, which say nothing of how sure they are.
        """
        if self.kind != "concentrations":
            raise TableError(
                f"{self.source} holds fractions only.",
                "Concentrations, which also say how sure the prediction is.",
                "Write {column}_concentration for each answer.",
            )
        return self.values

    @property
    def fractions(self) -> FloatArray:
        """Expected share of the people asked, shape (galaxy, answer); the mean over the members of a mixture."""
        if self.kind == "fractions":
            return self.values[0]
        total = expected_fractions(self.values[0], self.tree)
        for member in self.values[1:]:
            total += expected_fractions(member, self.tree)
        total /= len(self.values)
        return total

    def take(self, rows: npt.NDArray[np.integer] | BoolArray) -> Predictions:
        """Those of some galaxies."""
        return Predictions(
            self.tree,
            self.keys[np.flatnonzero(rows) if rows.dtype == bool else rows],
            self.kind,
            self.values[:, rows],
            self.questions,
            self.in_training_set[rows],
            self.source,
            self.says_trained_on,
        )


@dataclass(frozen=True)
class ClassPredictions:
    """Probabilities of classes, checked, in the order of the file.

    Attributes:
        keys: `dataset_name` (null where the file has none) and `id_str`, a row a galaxy.
        classes: Names, in the order of the columns of `probabilities`.
        probabilities: Shape (galaxy, class); each row adds up to 1.
        in_training_set: As of `Predictions`.
        source: The file.
    """

    keys: pl.DataFrame
    classes: tuple[str, ...]
    probabilities: FloatArray
    in_training_set: BoolArray
    source: Path


def read_predictions(path: Path | str, tree: Tree, columns: Path | str | None = None) -> Predictions:
    """A prediction file, checked.

    An answer's column bears the answer's name and `_concentration`, `_pred` (as Zoobot writes it), `_fraction` or
    nothing: then fractions if those of each question add up to 1, else concentrations. A cell may be a list of numbers
    (in CSV: JSON), one for each member of a mixture. All answers of a question, or none. The key is `dataset_name` and
    `id_str`, or `id_str` alone.

    Args:
        path: Parquet, CSV, FITS, VOTable or ECSV.
        tree: The questions.
        columns: Mapping file (see `Columns`) for columns with names of their own: `id_str`, `dataset_name`, `table`,
            [answers], and `values = "fractions"` or `"concentrations"`.

    Raises:
        NotFoundError: There is no such file.
        TableError: It cannot be read, lacks columns, holds a galaxy twice, or numbers that are no concentrations or
            fractions.
    """
    path = Path(path)
    mapping = Columns.read(Path(columns)) if columns else Columns()
    table = _read(path, mapping.table)
    keys = _keys(path, table, mapping)
    kind, names = _named(path, table, tree, mapping)
    members = [_numbers(path, table, keys, column, name) for column, name in names.items()]
    n_members = max(len(one) for one in members)
    for (_, name), one in zip(names.items(), members, strict=True):
        if len(one) != n_members:
            raise TableError(
                f"{path}: column '{name}' has {len(one)} numbers a galaxy, others have {n_members}.",
                "The same number of members in every column.",
                "Write them again.",
            )
    values = np.full((n_members, table.height, len(tree.columns)), np.nan)
    place = {column: i for i, column in enumerate(tree.columns)}
    for column, one in zip(names, members, strict=True):
        values[:, :, place[column]] = one
    questions = tuple(question.name for question in tree.questions if question.columns[0] in names)
    if kind is None:
        kind = "fractions" if _are_fractions(values, tree, questions) else "concentrations"
    if kind == "fractions" and n_members > 1:
        values = values.mean(axis=0, keepdims=True)
    _check(path, values, kind, keys, names, tree, questions)
    says = "in_training_set" in table.columns
    return Predictions(tree, keys, kind, values, questions, _trained_on(table), path, says)


def read_class_predictions(path: Path | str, classes: Sequence[str]) -> ClassPredictions:
    """A file of class probabilities: a column a class, named by the class, with `_probability`, `_prob` or nothing.

    Raises:
        NotFoundError: There is no such file.
        TableError: It cannot be read, lacks a class, holds a galaxy twice, or numbers that are no probabilities.
    """
    path = Path(path)
    table = _read(path, "")
    keys = _keys(path, table, Columns())
    names: dict[str, str] = {}
    for one in classes:
        found = [f"{one}{ending}" for ending in CLASS_ENDINGS if f"{one}{ending}" in table.columns]
        if not found:
            raise TableError(
                f"{path} has no column '{one}_probability'.",
                f"A probability for each class: {', '.join(classes)}.",
                "Write them all, or give the file of vote predictions instead.",
            )
        names[one] = found[0]
    values = np.column_stack([_numbers(path, table, keys, one, name)[0] for one, name in names.items()])
    sums = values.sum(axis=1)
    bad = ~((values >= 0).all(axis=1) & (np.abs(sums - 1) < SUM_TOLERANCE))
    if bad.any():
        row = int(np.argmax(bad))
        raise TableError(
            f"{path}, row {row + 1}, galaxy '{keys['id_str'][row]}': the probabilities add up to {sums[row]:.4g}.",
            "Numbers from 0 to 1 that add up to 1.",
            "If they are logits, pass them through a softmax once.",
        )
    return ClassPredictions(keys, tuple(classes), values / sums[:, None], _trained_on(table), path)


# ----------------------------------------------------------------------------------------------------
# Reading


def _read(path: Path, table: str) -> pl.DataFrame:
    if not path.is_file():
        raise NotFoundError(
            f"There is no prediction file {path}.", "A Parquet, CSV or FITS table.", "Make one with `gzoo predict`."
        )
    frame = read_table(path, table=table)
    if frame.height == 0:
        raise TableError(f"{path} has no rows.", "At least one galaxy.", "Predict again.")
    return frame


def _keys(path: Path, table: pl.DataFrame, mapping: Columns) -> pl.DataFrame:
    """`dataset_name` and `id_str` as texts, no galaxy twice."""
    if mapping.id_str not in table.columns:
        raise TableError(
            f"{path} has no column '{mapping.id_str}' ({table.width} columns: {', '.join(table.columns[:5])}, ...).",
            "The identifier of each galaxy.",
            "Rename it to id_str, or say in a mapping file which column it is.",
        )
    named = mapping.dataset_name or ("dataset_name" if "dataset_name" in table.columns else "")
    columns: dict[str, pl.Series] = {}
    for name, source in (("dataset_name", named), ("id_str", mapping.id_str)):
        if not source:
            columns[name] = pl.Series([None] * table.height, dtype=pl.String)
            continue
        if source not in table.columns:
            raise TableError(f"{path} has no column '{source}'.", "A column that is there.", "Mend the mapping file.")
        series = table[source]
        if not (series.dtype == pl.String or series.dtype.is_integer()):
            raise TableError(
                f"{path}: column '{source}' holds {series.dtype}.",
                "Texts or whole numbers: other numbers lose the digits of an identifier.",
                "Write it as text.",
            )
        missing = series.is_null()
        if missing.any():
            raise TableError(
                f"{path}, row {int(missing.arg_max() or 0) + 1}: {source} is missing.",
                "The key of each galaxy.",
                "Remove that row.",
            )
        columns[name] = series.cast(pl.String)
    keys = pl.DataFrame(columns).select(KEY)
    twice = keys.is_duplicated()
    if twice.any():
        row = int(twice.arg_max() or 0)
        raise TableError(
            f"{path}, row {row + 1}: galaxy '{keys['id_str'][row]}' is there more than once.",
            "Once each.",
            "Remove the others, or put several predictions of a galaxy into one cell, as a list.",
        )
    return keys


def _named(path: Path, table: pl.DataFrame, tree: Tree, mapping: Columns) -> tuple[Kind | None, dict[str, str]]:
    """What the columns hold (None: their sums will tell), and answer -> column of the table."""
    if mapping.answers:
        unknown = [column for column in mapping.answers if column not in tree.columns]
        unavailable = [name for name in mapping.answers.values() if name not in table.columns]
        if unknown or unavailable:
            what = f"{mapping.source} names '{unknown[0]}'" if unknown else f"{path} has no column '{unavailable[0]}'"
            raise TableError(
                f"{what}.",
                f"An answer of tree '{tree.name}' = a column of the table.",
                "Mend [answers] in the mapping file.",
            )
        _refuse_half_questions(path, tree, dict(mapping.answers))
        return (None if mapping.values == "counts" else cast(Kind, mapping.values)), dict(mapping.answers)
    have = set(table.columns)
    for ending, kind in ENDINGS:
        names = {column: f"{column}{ending}" for column in tree.columns if f"{column}{ending}" in have}
        if names:
            _refuse_half_questions(path, tree, names, ending)
            return kind, names
    first = f"{tree.columns[0]}{ENDINGS[0][0]}"
    raise TableError(
        f"{path} has no column '{first}' ({len(tree.columns)} missing).",
        f"A concentration or a fraction for each answer of tree '{tree.name}'.",
        "Predict with a model of this campaign, or say in a mapping file which column is which answer.",
    )


def _refuse_half_questions(path: Path, tree: Tree, names: dict[str, str], ending: str = "") -> None:
    for question in tree.questions:
        missing = [column for column in question.columns if column not in names]
        if 0 < len(missing) < len(question.columns):
            raise TableError(
                f"{path} has no column '{missing[0]}{ending}', but others of question '{question.name}'.",
                "All answers of a question, or none.",
                "Predict again, or mend the mapping file.",
            )


def _numbers(path: Path, table: pl.DataFrame, keys: pl.DataFrame, answer: str, name: str) -> FloatArray:
    """A column as numbers, shape (member, galaxy)."""
    series = table[name]
    expected = f"Numbers, or lists of numbers, of answer {answer}."
    if series.dtype == pl.String and series.drop_nulls().str.strip_chars().str.starts_with("[").any():
        series = _from_json(path, series, name)
    if isinstance(series.dtype, pl.List | pl.Array):
        lengths = series.list.len() if isinstance(series.dtype, pl.List) else pl.Series([series.dtype.shape[0]])
        n_members = cast(int, lengths.max() or 0)
        if lengths.min() != n_members or series.null_count() or not n_members:
            raise TableError(
                f"{path}: column '{name}' has lists of different lengths.", "One number a member.", "Predict again."
            )
        flat = series.explode(empty_as_null=True, keep_nulls=True)
        if not flat.dtype.is_numeric():
            raise TableError(f"{path}: column '{name}' holds {series.dtype}.", expected, "Predict again.")
        return flat.cast(pl.Float64).to_numpy().reshape(len(series), n_members).T
    if series.dtype == pl.String:
        series = series.cast(pl.Float64, strict=False)
        bad = series.is_null()
        if bad.any():
            row = int(bad.arg_max() or 0)
            raise TableError(
                f"{path}, row {row + 1}, galaxy '{keys['id_str'][row]}': {name} is {table[name][row]!r}.",
                expected,
                "Mend the table.",
            )
    if not series.dtype.is_numeric():
        raise TableError(f"{path}: column '{name}' holds {series.dtype}.", expected, "Predict again.")
    return series.cast(pl.Float64).to_numpy()[None, :]  # null becomes NaN, and is refused with the others


def _from_json(path: Path, series: pl.Series, name: str) -> pl.Series:
    cells: list[list[float]] = []
    for row, cell in enumerate(series.to_list(), 1):
        try:
            found = json.loads(cell or "")
            cells.append([float(number) for number in found])
        except (ValueError, TypeError, RecursionError) as error:
            raise TableError(
                f"{path}, row {row}: {name} is {str(cell)[:60]!r}.", "A list such as [1.5, 2.0].", "Mend the table."
            ) from error
    return pl.Series(name, cells, pl.List(pl.Float64))


def _trained_on(table: pl.DataFrame) -> BoolArray:
    if "in_training_set" not in table.columns:
        return np.zeros(table.height, bool)
    said = table["in_training_set"]
    if said.dtype == pl.String:
        said = said.str.to_lowercase().is_in(["true", "t", "yes", "1"])
    return said.cast(pl.Boolean).fill_null(False).to_numpy()


# ----------------------------------------------------------------------------------------------------
# Checking


def _are_fractions(values: FloatArray, tree: Tree, questions: Sequence[str]) -> bool:
    single = [name for name in questions if not tree.question(name).multiple]
    if not single or not ((values >= 0) & (values <= 1) | np.isnan(values)).all():
        return False
    return all((np.abs(values[..., tree.slice(name)].sum(axis=-1) - 1) < SUM_TOLERANCE).all() for name in single)


def _check(
    path: Path,
    values: FloatArray,
    kind: Kind,
    keys: pl.DataFrame,
    names: dict[str, str],
    tree: Tree,
    questions: Sequence[str],
) -> None:
    """Refuses numbers that are no concentrations or fractions; scales fractions to add up to 1."""
    for question in (tree.question(name) for name in questions):
        own = values[..., tree.slice(question.name)]
        good = np.isfinite(own) & (own > 0 if kind == "concentrations" else (own >= 0) & (own <= 1))
        if not good.all():
            _, row, answer = np.argwhere(~good)[0].tolist()
            found = float(own[np.argwhere(~good)[0][0], row, answer])
            expected = "A positive, finite number." if kind == "concentrations" else "A number from 0 to 1."
            raise TableError(
                f"{path}, row {row + 1}, galaxy '{keys['id_str'][row]}': {names[question.columns[answer]]} is {found}.",
                expected,
                "Predict again.",
            )
        if kind == "fractions" and not question.multiple:
            _scale_to_one(path, own, keys, question)


def _scale_to_one(path: Path, own: FloatArray, keys: pl.DataFrame, question: Question) -> None:
    sums = own.sum(axis=-1, keepdims=True)
    off = np.abs(sums - 1) > SUM_TOLERANCE
    if off.any():
        row = int(np.argwhere(off)[0][1])
        raise TableError(
            f"{path}, row {row + 1}, galaxy '{keys['id_str'][row]}': the fractions of question '{question.name}' add "
            f"up to {float(sums[0, row, 0]):.4g}.",
            "Shares of those asked this question, which add up to 1.",
            "If they are shares of all volunteers (cumulative), divide by the question's own sum.",
        )
    own /= sums


# ----------------------------------------------------------------------------------------------------
# Predictions and the votes they are for


@dataclass(frozen=True)
class Matched:
    """The dataset's side of some predictions, in their order.

    Attributes:
        keys: `dataset_name`, `id_str` and `split` of each galaxy, as the dataset has them.
        votes: Of each galaxy.
        is_seen: Galaxies of the train split, or that the file says the model was trained on; shape (galaxy,).
    """

    keys: pl.DataFrame
    votes: Votes
    is_seen: BoolArray


def match(dataset: Dataset, keys: pl.DataFrame, source: Path, in_training_set: BoolArray | None = None) -> Matched:
    """Votes of the predicted galaxies.

    Args:
        dataset: Where the votes are.
        keys: `dataset_name` and `id_str`; where the first is null, `id_str` alone must be unique in the dataset.
        source: The prediction file, for messages.
        in_training_set: Galaxies that the file says were trained on.

    Raises:
        TableError: A galaxy is not in the dataset, or its `id_str` stands for several.
    """
    by = list(KEY) if keys["dataset_name"].null_count() == 0 else ["id_str"]
    wanted = keys.select(by)
    parts: list[tuple[pl.DataFrame, Votes]] = []
    for split in dataset.splits:
        theirs, votes = dataset.read_votes(split)
        rows = theirs.with_row_index("row").join(wanted, on=by, how="semi", maintain_order="left")["row"].to_numpy()
        parts.append((theirs[rows].with_columns(split=pl.lit(split)), votes.take(rows)))
    held = pl.concat([theirs for theirs, _ in parts]).with_row_index("place")
    twice = held.select(by).is_duplicated()
    if twice.any():
        row = held.row(int(twice.arg_max() or 0), named=True)
        raise TableError(
            f"{source}: '{row['id_str']}' is the id_str of several galaxies in {dataset.folder}.",
            "The dataset_name of each galaxy beside its id_str.",
            "Add the column dataset_name, or name it in a mapping file.",
        )
    joined = wanted.join(held, on=by, how="left", maintain_order="left")
    strangers = joined.with_row_index("row").filter(pl.col("place").is_null())
    if strangers.height:
        raise TableError(
            f"{source} holds {strangers.height} of {len(keys)} galaxies that {dataset.folder} does not have, such as "
            + " of ".join(f"'{strangers[name][0]}'" for name in reversed(by))
            + f" (row {strangers['row'][0] + 1}).",
            "Predictions for galaxies of the dataset they are scored against.",
            "Check that the two belong together.",
        )
    place = joined["place"].to_numpy()
    counts = np.concatenate([votes.counts for _, votes in parts])[place]
    totals = np.concatenate([votes.totals for _, votes in parts])[place]
    is_seen = (joined["split"] == "train").to_numpy()
    if in_training_set is not None:
        is_seen = is_seen | in_training_set
    return Matched(joined.select(*KEY, "split"), Votes(dataset.tree, counts, totals), is_seen)


def refuse_seen(matched: Matched, source: Path, option: str = "") -> None:
    """Check that the model has seen none of the galaxies: their votes would count twice.

    Args:
        matched: The galaxies.
        source: The prediction file, for the message.
        option: Of the command, to go on all the same.

    Raises:
        TableError: It was trained on some of them.
    """
    n_seen = int(matched.is_seen.sum())
    if not n_seen:
        return
    names = ", ".join(matched.keys["id_str"].filter(pl.Series(matched.is_seen)).head(5))
    otherwise = f", or pass {option} to use them all the same" if option else ""
    raise TableError(
        f"{source}: the model was trained on {n_seen} of its {matched.keys.height} galaxies ({names}, ...).",
        "Galaxies that the model has not seen: their votes would count twice.",
        f"Predict the test split{otherwise}.",
    )


def refuse_other_scheme(source: Path, dataset: Dataset, option: str = "") -> None:
    """Check that the model was trained on a dataset split as this one is, where the prediction file says how.

    Args:
        source: The prediction file.
        dataset: What it is scored against.
        option: Of the command, to go on all the same.

    Raises:
        TableError: By another scheme.
    """
    scheme = _about(source).get("trained_by_scheme")
    if not scheme or scheme == dataset.split_scheme:
        return
    otherwise = f", or pass {option} to use them all the same" if option else ""
    raise TableError(
        f"{source}: the model was trained on a dataset split by '{scheme}', and {dataset.folder} is split by "
        f"'{dataset.split_scheme}'.",
        "One scheme: by another, galaxies of this test split may have been trained on, in other images too.",
        f"Build both by one scheme{otherwise}.",
    )


def _about(source: Path) -> dict[str, object]:
    """What gzoo wrote into a prediction file's metadata; empty where there is none."""
    try:
        told: object = json.loads((pq.read_schema(source).metadata or {}).get(b"gzoo", b"{}"))
    except (OSError, ValueError):  # no Parquet, or damaged: that is told where it is read
        return {}
    return cast("dict[str, object]", told) if isinstance(told, dict) else {}


def positions(dataset: Dataset, keys: pl.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Right ascension and declination of each galaxy in degrees, NaN where not known.

    Args:
        dataset: Where they are.
        keys: `dataset_name` and `id_str`.
    """
    known = pl.concat([dataset.positions(split) for split in dataset.splits]).unique(KEY)
    found = keys.select(KEY).join(known, on=KEY, how="left", maintain_order="left")
    return found["ra"].fill_null(np.nan).to_numpy(), found["dec"].fill_null(np.nan).to_numpy()


def same_questions(predictions: Sequence[Predictions]) -> tuple[str, ...]:
    """Questions that all of them predict, in the order of the tree.

    Raises:
        InputError: There is none.
    """
    shared = [name for name in predictions[0].questions if all(name in one.questions for one in predictions[1:])]
    if not shared:
        raise InputError(
            "The prediction files have no question in common.", "At least one that all predict.", "Choose other files."
        )
    return tuple(shared)
