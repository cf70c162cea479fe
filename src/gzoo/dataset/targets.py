"""Targets: one column to learn and to predict instead of the votes, of the dataset or of a table beside it.

Text and yes or no are classes, a float is a value. What could be either is refused, and the error says how to ask.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import polars as pl

from gzoo.dataset.open import Dataset
from gzoo.dataset.schema import KEY
from gzoo.errors import GZooWarning, InputError, NotFoundError, TableError, choices, suggestion
from gzoo.trees.tree import FloatArray
from gzoo.votes.identifiers import IdentifierReader
from gzoo.votes.label_tables import MAX_CLASSES, label_of
from gzoo.votes.tables import read_table

Kind = Literal["classes", "value"]
_ASKED = re.compile(r"(.+):(classes|value)")


@dataclass(frozen=True, slots=True)
class Target:
    """What a model predicts of each galaxy instead of votes.

    Attributes:
        name: Column of the labels.
        kind: "classes", or "value" for a number with a spread.
        classes: Names of the classes, in the order of their numbers; empty for a value.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of a prediction: a probability for each class, or mean and standard deviation.

        >>> Target("ring", "classes", ("no", "yes")).columns
        ('ring_no_probability', 'ring_yes_probability')
        >>> Target("redshift", "value").columns
        ('redshift_mean', 'redshift_std')
        """
        if self.kind == "value":
            return f"{self.name}_mean", f"{self.name}_std"
        return tuple(f"{self.name}_{one}_probability" for one in self.classes)

    def to_dict(self) -> dict[str, object]:
        """Return the entry `target` of `run.json` and of the metadata of predictions."""
        return {"name": self.name, "kind": self.kind, "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, entry: object, source: Path) -> Target:
        """Return a target from such an entry.

        Raises:
            InputError: The entry is not valid.
        """
        try:
            known = cast("Mapping[str, Any]", entry)
            found = cls(str(known["name"]), known["kind"], tuple(map(str, known["classes"])))
            if found.kind not in ("classes", "value") or (found.kind == "classes") != bool(found.classes):
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"Cannot read the target in '{source}'.", "name, kind and classes.") from error
        return found


@dataclass(frozen=True)
class Labels:
    """The labels of the galaxies of some splits.

    Attributes:
        target: What they are.
        values: Split -> label of each of its galaxies in the order of `Dataset.read_votes`: the number of the class or
            the value; NaN where it is unknown. Shape (galaxy,).
        source: Where they come from, for messages: a phrase such as "column 'ring' of 'rings'".
    """

    target: Target
    values: Mapping[str, FloatArray]
    source: str


def read_labels(dataset: Dataset, target: str, table: Path | str | None = None) -> Labels:
    """Return the labels of all galaxies of a dataset.

    Args:
        dataset: The dataset.
        target: Column of the dataset or of `table`; with `:classes` or `:value` at the end where its values could be
            either.
        table: Table with the column and `id_str`, and `dataset_name` where the dataset has several.

    Raises:
        NotFoundError: The table or the column does not exist.
        TableError: The table lists a galaxy twice with different labels, or none of the dataset.
        InputError: The column contains neither classes nor values, or it is not clear which.
    """
    if table is not None:
        return _of_table(dataset, target, Path(table))
    parts: dict[str, pl.Series] = {}
    names = _columns(dataset)
    name, wanted = _name(target, names)
    for split in dataset.splits:
        found = dataset.column(split, name) if name in names else None
        if found is None:
            raise NotFoundError(
                f"Column '{name}' not found in '{dataset.folder}'.",
                choices(names, name),
                suggestion(names, name, "Pass --labels with a table that has this column."),
            )
        parts[split] = found["value"]
    source = f"column '{name}' of '{dataset.folder}'"
    known = next((one for one in dataset.campaign.labels if one.name == name), None)
    whole = pl.concat(parts.values())
    if known and known.classes and wanted == "value":
        raise InputError(
            f"The values of {source} are classes, such as '{known.classes[0]}'.", "numbers.", f"Pass --target {name}."
        )
    if known and known.classes:
        numbers = whole.to_numpy().astype(np.float64)
        outside = (numbers < -1) | (numbers >= len(known.classes))
        if outside.any():
            raise InputError(
                f"Class {numbers[outside][0]:.0f} of {source} does not exist.", "classes as it lists them."
            )
        numbers[numbers < 0] = np.nan
        found_target, values = _classes(name, known.classes, numbers)
    else:
        found_target, values = _typed(name, whole, wanted, source)
    ends = np.cumsum([len(one) for one in parts.values()])[:-1]
    return Labels(found_target, dict(zip(parts, np.split(values, ends), strict=True)), source)


def _columns(dataset: Dataset) -> list[str]:
    """Return the columns of a dataset that can be targets."""
    labels = [one.name for one in dataset.campaign.labels]
    return labels or sorted(name for name in dataset.column_types if name not in KEY)


def _name(target: str, names: list[str]) -> tuple[str, Kind | None]:
    """Return the column that a target names, and what it is said to contain."""
    asked = None if target in names else _ASKED.fullmatch(target)
    return (asked[1], cast(Kind, asked[2])) if asked else (target, None)


def _of_table(dataset: Dataset, target: str, path: Path) -> Labels:
    table = read_table(path)
    name, wanted = _name(target, table.columns)
    for column in ("id_str", name):
        if column not in table.columns:
            raise NotFoundError(
                f"Column '{column}' not found in '{path}'.",
                "a column id_str with identifiers of the dataset, and one with labels; it has "
                f"{', '.join(table.columns[:8])}.",
                suggestion(table.columns, column, "Check --target and the header of the table."),
            )
    key = [one for one in KEY if one in table.columns]
    what = f"Column '{{}}' of '{path}'"
    ids = {one: IdentifierReader(what.format(one)).read_all(table[one]) for one in key}
    source = f"column '{name}' of '{path}'"
    found, values = _typed(name, table[name], wanted, source)
    rows = pl.DataFrame(ids).with_columns(value=pl.Series(values)).unique(maintain_order=True)
    twice = rows.filter(rows.select(key).is_duplicated())
    if twice.height:
        raise TableError(
            f"Galaxy '{twice['id_str'][0]}' has different labels in {source}.",
            "one label for each galaxy.",
            "Remove the other rows.",
        )
    keys = {split: dataset.positions(split).select(KEY) for split in dataset.splits}
    whole = pl.concat(keys.values())
    if "dataset_name" not in key and whole["id_str"].is_duplicated().any():
        raise TableError(
            f"'{dataset.folder}' has the same identifier in several datasets, but '{path}' has no dataset_name.",
            "columns dataset_name and id_str.",
            "Add the column dataset_name to the table.",
        )
    n_unknown = rows.join(whole, on=key, how="anti").height
    if n_unknown == rows.height:
        raise TableError(
            f"None of the {rows.height:,} galaxies of '{path}' is in '{dataset.folder}'.",
            f"identifiers such as '{whole['id_str'][0]}'.",
            "Check that the table is that of this dataset.",
        )
    if n_unknown:
        warnings.warn(
            GZooWarning(f"{n_unknown:,} of {rows.height:,} galaxies of '{path}' are not in '{dataset.folder}'."),
            stacklevel=3,
        )
    labels = {
        split: one.join(rows, on=key, how="left", maintain_order="left")["value"].fill_null(np.nan).to_numpy()
        for split, one in keys.items()
    }
    return Labels(found, labels, source)


def _typed(name: str, column: pl.Series, wanted: Kind | None, source: str) -> tuple[Target, FloatArray]:
    """Return what a column contains, and its labels as numbers, NaN where they are unknown."""
    found = label_of(Path(source), column.alias(name))
    if found is None:
        raise InputError(f"No galaxy has a label in {source}.", hint="Choose another --target.")
    label, values = found
    if label.kind == "class" and wanted == "value":
        raise InputError(
            f"The values of {source} are text, such as '{label.classes[0]}'.", "numbers.", f"Pass --target {name}."
        )
    if label.kind == "string":
        n = values.filter(values != "").n_unique()
        raise InputError(
            f"The {n:,} different texts of {source} are not classes.",
            f"at most {MAX_CLASSES} classes that repeat, or numbers.",
            "Choose another --target.",
        )
    if label.kind == "class":
        numbers = values.to_numpy().astype(np.float64)
        numbers[numbers < 0] = np.nan
        return _classes(name, label.classes, numbers)
    numbers = values.cast(pl.Float64).to_numpy().copy()
    if np.isinf(numbers).any():
        row = int(np.isinf(numbers).argmax())
        raise InputError(f"Row {row + 1} of {source} is infinite.", "finite numbers, or NaN if unknown.")
    distinct = np.unique(numbers[~np.isnan(numbers)])
    is_yes_or_no = distinct.tolist() == [0.0, 1.0] and label.kind == "integer"
    if wanted is None and not is_yes_or_no and (label.kind == "integer" or len(distinct) <= 2):
        raise InputError(
            f"The {len(distinct)} different numbers of {source} may be classes or values.",
            "text for classes, decimal numbers for values.",
            f"Pass --target {name}:classes or --target {name}:value.",
        )
    if wanted == "classes" or (wanted is None and is_yes_or_no):
        if len(distinct) > MAX_CLASSES:
            raise InputError(f"The {len(distinct):,} different numbers of {source} are too many for classes.",
                             f"at most {MAX_CLASSES} classes.", f"Pass --target {name}:value.")  # fmt: skip
        classes = tuple(f"{one:g}" for one in distinct.tolist())
        return _classes(name, classes, np.where(np.isnan(numbers), np.nan, np.searchsorted(distinct, numbers)))
    return Target(name, "value"), numbers


def _classes(name: str, classes: tuple[str, ...], numbers: FloatArray) -> tuple[Target, FloatArray]:
    """Return a target of the classes that occur, and their numbers among these."""
    known = ~np.isnan(numbers)
    used, places = np.unique(numbers[known].astype(np.int64), return_inverse=True)
    values = np.full(len(numbers), np.nan)
    values[known] = places
    if len(used) < 2:
        raise InputError(
            f"Column '{name}' contains {len(used)} classes.", "two classes or more.", "Choose another --target."
        )
    return Target(name, "classes", tuple(classes[i] for i in used)), values
