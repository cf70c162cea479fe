"""Checks of a vote table's columns: all are accounted for, and none contains what cannot be vote counts."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import polars as pl

from gzoo.errors import GZooWarning, TableError
from gzoo.trees.campaign import Campaign
from gzoo.trees.tree import Tree
from gzoo.votes.cells import floats, numbers
from gzoo.votes.mapping_file import MappingFile

WEIGHTED = re.compile("weight|debias", re.IGNORECASE)
_INDEX = re.compile(r"Unnamed: \d+|__index_level_\d+__")  # as pandas writes its index, and columns without a name
_KAGGLE = re.compile(r"Class\d{1,2}\.\d{1,2}")
_CUMULATIVE = (
    "vote counts. Cumulative fractions are products of fractions along the decision tree, so they do not contain the "
    "number of volunteers who answered a question.",
    "Use the counts of the same galaxies from the campaign's published table.",
)
_PROPOSE = "Run `gzoo mapping {path} {campaign}` to propose a mapping file, and pass it with `--mapping`."


def check_columns(path: Path, frame: pl.DataFrame, mapping: MappingFile, campaign: Campaign) -> tuple[str, ...]:
    """Check the columns of a vote table, and return those that are ignored.

    Raises:
        TableError: A column is missing, used twice, weighted, of a wrong type or not accounted for, or the answers of a
            question are incomplete.
    """
    where = f"mapping file '{mapping.source}'" if mapping.source else f"campaign '{campaign.name}'"
    fix = f"Correct {where}." if mapping.source else _PROPOSE.format(path=path, campaign=campaign.source)
    tree = campaign.tree
    unknown = [name for name in mapping.answers if name not in tree.columns]
    unknown += [name for name in mapping.totals if name not in [question.name for question in tree.questions]]
    if unknown:
        raise TableError(
            f"'{path}': {where} maps '{unknown[0]}', which is not an answer or question of '{campaign.name}'.",
            f"answers such as {tree.columns[0]}.",
            f"Run `gzoo tree {campaign.source}` to list them.",
        )
    named = mapping.named
    missing = [name for name in named if name not in frame.columns]
    if missing:
        raise TableError(
            f"Column '{missing[0]}', which {where} requires, not found in '{path}'.",
            f"a table with this column; it has {listed(frame.columns)}.",
            fix,
        )
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise TableError(f"'{path}': {where} uses column '{twice[0]}' twice.", "one meaning for each column.", fix)
    if not mapping.answers:
        raise TableError(
            f"'{path}' does not contain a column of votes for {where}.",
            f"columns such as {tree.columns[0]}; it has {listed(frame.columns)}.",
            fix,
        )
    _check_weights(path, mapping)
    _check_questions(path, mapping, tree, where)
    for name in named:
        kind = frame.schema[name]
        if not kind.is_numeric() and kind.base_type() not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
            raise TableError(
                f"Column '{name}' of '{path}' has type {kind}.",
                "numbers or strings.",
                "Convert the column to one of these.",
            )
    rest = [name for name in frame.columns if name not in named]
    ignored = [name for name in rest if any(fnmatchcase(name, pattern) for pattern in mapping.ignore)]
    indices = [name for name in rest if name not in ignored and _INDEX.fullmatch(name)]
    if indices:
        ignored += indices
        first = str(frame[indices[0]].head(1).to_list()[0])[:40] if frame.height else ""
        warnings.warn(
            f"'{path}': columns without a name of their own, such as the index of pandas, are not used: "
            f"{', '.join(indices)} (first value: '{first}').",
            GZooWarning,
            stacklevel=2,
        )
    unexpected = [name for name in rest if name not in ignored]
    if unexpected:
        raise TableError(
            f"'{path}' contains unexpected columns ({len(unexpected)}): {listed(unexpected)}.",
            f"columns that {where} lists.",
            "Add them to the mapping file, or to its `ignore` list (patterns are allowed)." if mapping.source else fix,
        )
    return tuple(ignored)


def _check_questions(path: Path, mapping: MappingFile, tree: Tree, where: str) -> None:
    """Check that the answers of each question are complete, and that fractions and totals come together."""
    for question in tree.questions:
        missing = [column for column in question.columns if column not in mapping.answers]
        if missing and len(missing) < len(question.columns):
            raise TableError(
                f"'{path}': {where} maps some answers of '{question.name}', but not '{missing[0]}'.",
                "all answers of a question or none: without one, every fraction of it is wrong.",
                "Add the missing answer, or omit the question.",
            )
        if missing and question.name in mapping.totals:
            raise TableError(
                f"'{path}': {where} maps the total of '{question.name}', but not its answers.",
                "totals of questions whose answers are mapped.",
                "Add the answers, or move the total to the mapping file's `ignore` list.",
            )
        if not missing and mapping.values == "fractions" and question.name not in mapping.totals:
            raise TableError(
                f"'{path}': {where} maps fractions of '{question.name}', but not its total votes.",
                "a total for each question, because vote counts cannot be computed from fractions alone.",
                "Add the column of its total under [totals], or omit the question.",
            )


def _check_weights(path: Path, mapping: MappingFile) -> None:
    """Check for weighted fractions, which resemble counts when multiplied by a total."""
    for name, column in [*mapping.answers.items(), *mapping.totals.items()]:
        if WEIGHTED.search(column):
            kind = "debiased" if "debias" in column.lower() else "weighted"
            raise TableError(
                f"Column '{column}' of '{path}', mapped to '{name}', is {kind}.",
                "vote counts. They cannot be recovered from weighted or debiased votes, not even with a total.",
                "Use the columns of plain counts, or of plain fractions together with totals; if there are none, omit "
                "the question.",
            )


def check_names_not_cumulative(path: Path, frame: pl.DataFrame) -> None:
    """Check that a table is not the one of the Galaxy Zoo challenge on Kaggle, by its column names.

    Raises:
        TableError: It is.
    """
    names = [name for name in frame.columns if _KAGGLE.fullmatch(name)]
    if len(names) >= 3 and any(numbers(frame, name)[1].is_between(0, 1, "none").any() for name in names):
        raise TableError(
            f"'{path}' contains cumulative fractions, as in the Galaxy Zoo challenge on Kaggle: {listed(names, 3)}.",
            *_CUMULATIVE,
        )


def check_values_not_cumulative(path: Path, frame: pl.DataFrame, answers: Mapping[str, str], tree: Tree) -> None:
    """Check that the answers of a question do not add up to the fraction that leads to it, instead of to 1.

    Raises:
        TableError: They do.
    """
    fractions = {name: floats(frame, column) for name, column in answers.items()}
    for question in tree.questions:
        if not question.parents or not {*question.columns, *question.parents} <= set(fractions):
            continue
        parents = np.sum([fractions[name] for name in question.parents], axis=0)
        own = np.sum([fractions[name] for name in question.columns], axis=0)
        differs = (parents > 0.02) & (parents < 0.95)  # elsewhere the two sums agree anyway
        if differs.sum() >= 3 and (np.abs(own - parents) < 0.005)[differs].mean() > 0.8:
            raise TableError(
                f"'{path}' contains cumulative fractions: the answers of '{question.name}' add up to the fraction of "
                f"its parent answers ({' + '.join(answers[name] for name in question.parents)}), not to 1.",
                *_CUMULATIVE,
            )


def listed(names: Sequence[str], limit: int = 8) -> str:
    """Return the first names, and how many more there are."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
