"""Votes: whole counts of volunteers, bound to a tree; and how they are read from a table.

Counts stay counts of people. What cannot be one (negative, fractional, missing, text) takes its row out of the
dataset, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.errors import InputError, TableError
from gzoo.trees.campaign import Campaign
from gzoo.trees.tree import FloatArray, IntArray, Tree
from gzoo.votes.columns import Columns
from gzoo.votes.tables import ReadTable, iter_rows

MAX_COUNT = 2**31 - 1
MAX_IDENTIFIER = 256
ROWS_IN_PART = 10_000  # of a table that is read part by part
SPLIT_NAMES = ("train", "validation", "test", "border")
SMALL_FRACTION = 0.05  # of rows whose fractions give no whole votes; more, and they are no plain fractions
WEIGHTED = re.compile("weight|debias", re.IGNORECASE)
KAGGLE = re.compile(r"Class\d{1,2}\.\d{1,2}")
CUMULATIVE_EXPECTED = (
    "Whole counts of people. Cumulative fractions are products of fractions along the walk through the tree: they do "
    "not say how many people answered a question."
)
CUMULATIVE_DO = "Get the counts of the same galaxies from the campaign's own published table."
PROPOSE = "Have a mapping file proposed with `gzoo mapping {path} {campaign}`, and pass it with --columns."
WELL_VOTED = 5
"""So many votes on a question are enough to say something of a galaxy."""
DROPPED_SCHEMA = {"id_str": pl.String, "row": pl.Int64, "image": pl.String, "reason": pl.String, "detail": pl.String}


@dataclass(frozen=True)
class Votes:
    """Counts of volunteers per galaxy and answer.

    Attributes:
        tree: The questions, which give the columns their meaning.
        counts: Shape (galaxy, answer), columns as `tree.columns`.
        totals: People asked, shape (galaxy, question); by default `tree.totals(counts)`.
        collected_questions: Questions whose votes are known; by default all.

    Raises:
        InputError: Shapes that do not fit the tree, counts that are negative or not whole, or totals that are not
            the sum of the votes (where several answers are allowed: below the votes of one answer).

    >>> import gzoo, numpy as np
    >>> votes = gzoo.Votes(gzoo.tree("gz_rings"), np.array([[3, 1], [0, 0]]))
    >>> votes.fractions
    array([[0.75, 0.25],
           [ nan,  nan]])
    """

    tree: Tree
    counts: IntArray
    totals: IntArray = field(default_factory=lambda: np.empty((0, 0), np.int64))
    collected_questions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts)
        if counts.ndim != 2 or counts.shape[1] != len(self.tree.columns):
            raise InputError(
                f"Votes have shape {counts.shape}.",
                f"Tree '{self.tree.name}' needs (galaxy, {len(self.tree.columns)}), a column for each answer.",
                "Put the columns in the order of tree.columns.",
            )
        if not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
            raise InputError(
                f"Votes of type {counts.dtype}{' hold negative numbers' if (counts < 0).any() else ''}.",
                "Votes are whole counts of people, 0 or more.",
                "Use the unweighted counts.",
            )
        counted = self.tree.totals(counts)
        totals = np.asarray(self.totals) if np.size(self.totals) else counted
        if (
            totals.shape != counted.shape
            or not np.issubdtype(totals.dtype, np.integer)
            or not self._fit(totals, counts, counted)
        ):
            raise InputError(
                "Totals do not fit the votes.",
                "One whole number per galaxy and question: the sum of its votes or, where several answers are "
                "allowed, at least the votes of each answer.",
                "Leave totals out to have them counted.",
            )
        object.__setattr__(self, "counts", counts.astype(np.int64, copy=False))
        object.__setattr__(self, "totals", totals.astype(np.int64, copy=False))

    def _fit(self, totals: IntArray, counts: IntArray, counted: IntArray) -> bool:
        return all(
            bool((totals[:, i, None] >= counts[:, self.tree.slice(question.name)]).all())
            if question.multiple
            else bool((totals[:, i] == counted[:, i]).all())
            for i, question in enumerate(self.tree.questions)
        )

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def fractions(self) -> FloatArray:
        """Votes as a share of those asked, shape (galaxy, answer); NaN where nobody was asked."""
        asked = self.totals[:, list(self.tree.question_of_answer)]
        return np.divide(self.counts, asked, out=np.full(self.counts.shape, np.nan), where=asked > 0)

    @cached_property
    def breaks(self) -> npt.NDArray[np.bool_]:
        """Where more people answered a question than gave the answers that lead to it, shape (galaxy, question).

        Never where an answer that leads to it was not collected. Raw counts break this rule in a few rows (lost
        clicks, changed trees); a table in which many rows break it has misnamed columns or another tree.
        """
        breaks = np.zeros(self.totals.shape, bool)
        questions = self.tree.questions
        for i, question in enumerate(questions):
            parents = self.tree.parents_of_question[i]
            owners = {questions[self.tree.question_of_answer[parent]].name for parent in parents}
            is_known = self.collected_questions is None or owners.issubset(self.collected_questions)
            if parents and len(parents) == len(question.parents) and is_known:
                breaks[:, i] = self.totals[:, i] > self.counts[:, list(parents)].sum(axis=1)
        return breaks

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Votes:
        """The votes of some galaxies."""
        return Votes(self.tree, self.counts[rows], self.totals[rows], self.collected_questions)

    def on(self, tree: Tree) -> Votes:
        """The votes on the questions of another tree, all of which this one has."""
        answers = [self.tree.columns.index(column) for column in tree.columns]
        names = [question.name for question in self.tree.questions]
        asked = [names.index(question.name) for question in tree.questions]
        return Votes(tree, self.counts[:, answers], self.totals[:, asked], self.collected_questions)


@dataclass(frozen=True)
class RowTable:
    """What a vote table says beside its votes.

    Attributes:
        rows: The rows that are used, one each: `row` (number in the table, the first is 1), `id_str`, `source_id`
            (the survey's own identifier, '' where absent), `dataset_name`, `image`, `ra`, `dec` (degrees, NaN where
            not known), `split` ('' where the table names none).
        dropped: The rows that are not used: columns `DROPPED_SCHEMA`.
        n_rows: Rows in the table.
        collected: Questions for which the table has votes.
        excluded: Columns of the table that play no part.
        unsummed: Question -> rows in which the people counted are not the sum of its answers; only of a table that
            was read although they are not.
    """

    rows: pl.DataFrame
    dropped: pl.DataFrame
    n_rows: int
    collected: tuple[str, ...]
    excluded: tuple[str, ...]
    unsummed: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class VoteTable:
    """A vote table that was read, checked and cleaned: a `RowTable` with the votes of its used rows."""

    votes: Votes
    rows: pl.DataFrame
    dropped: pl.DataFrame
    n_rows: int
    collected: tuple[str, ...]
    excluded: tuple[str, ...]
    unsummed: Mapping[str, int] = field(default_factory=dict[str, int])


def read_votes(
    path: Path | str, campaign: Campaign, columns: Path | str | None = None, *, is_summed: bool = True
) -> VoteTable:
    """Votes from a CSV, Parquet, FITS, VOTable or ECSV table.

    Args:
        path: The table, one row a galaxy, one column an answer: whole counts or, where the mapping says so,
            fractions of a total.
        campaign: Whose tree the votes belong to.
        columns: Mapping file (see `Columns`), for a table whose columns have names of their own.
        is_summed: Whether rows in which people are not the sum of the answers are left out, and a question none of
            whose answers has a vote is refused; without, such rows are used, with the sum in place of the total.

    Returns:
        The used rows, and the others with a reason each.

    Raises:
        NotFoundError: A file is not there.
        MissingExtraError: FITS, VOTable and ECSV need astropy.
        TableError: The table cannot be read, has no rows, lacks a column, has one that nobody accounts for, or
            holds fractions from which no whole counts follow.
    """
    kept: list[tuple[IntArray, IntArray]] = []

    def keep(counts: IntArray, totals: IntArray) -> None:
        kept.append((counts, totals))

    read = stream_votes(path, campaign, columns, keep, is_summed=is_summed)
    counts, totals = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    used = read.rows["row"].to_numpy() - 1
    votes = Votes(campaign.tree, counts[used], totals[used], read.collected)
    return VoteTable(votes, read.rows, read.dropped, read.n_rows, read.collected, read.excluded, read.unsummed)


def stream_votes(
    path: Path | str,
    campaign: Campaign,
    columns: Path | str | None,
    keep: Callable[[IntArray, IntArray], None],
    *,
    is_summed: bool = True,
    split_column: str = "",
) -> RowTable:
    """As `read_votes`, but the votes are handed over part by part, so that millions of rows need little memory.

    Args:
        path: As there.
        campaign: As there.
        columns: As there.
        keep: Called with counts, shape (row, answer), and people asked, shape (row, question), of each part of the
            table in turn. They hold *every* row of the table; those of rows that are not used mean nothing.
        is_summed: As there.
        split_column: Column of the table that names each galaxy's split, or "".

    Returns:
        The used rows, and the others with a reason each.

    Raises:
        NotFoundError: As there.
        MissingExtraError: As there.
        TableError: As there.
    """
    path = Path(path)
    given = Columns.read(Path(columns)) if columns else None
    if given and given.values == "concentrations":
        raise TableError(
            f"{given.source} says that {path} holds concentrations, which are predictions.",
            'values = "counts" or "fractions".',
            "Give a table of votes.",
        )
    mapping: Columns | None = None
    excluded: tuple[str, ...] = ()
    parts: list[_Part] = []
    n_rows = 0
    for start, read in iter_rows(path, n_rows=ROWS_IN_PART, table=given.table if given else ""):
        frame = read.frame
        if frame.height == 0:
            raise TableError(f"{path} has no rows.", "At least one galaxy.", "Check the file.")
        refuse_cumulative_names(path, frame)
        if mapping is None:
            mapping = given or Columns.by_name(frame.columns, campaign)
            if split_column:
                mapping = replace(mapping, split=split_column)
            excluded = _check_columns(path, frame, mapping, campaign)
        part, counts, totals = _part(path, read, start, mapping, campaign, is_summed)
        keep(counts, totals)
        parts.append(part)
        n_rows += frame.height
    assert mapping is not None
    rows = pl.concat([part.rows for part in parts])
    problems = [problem for part in parts for problem in part.problems]
    problems += _duplicates(rows, pl.concat(part.digest for part in parts), pl.concat(part.is_bad for part in parts))
    dropped = (
        pl.concat([pl.DataFrame(schema=DROPPED_SCHEMA), *problems])
        .group_by("row", maintain_order=True)
        .agg(pl.col("id_str", "image", "reason").first(), pl.col("detail").unique(maintain_order=True).str.join("; "))
        .select(DROPPED_SCHEMA.keys())
        .sort("row")
    )
    unsummed: dict[str, int] = {}
    for part in parts:
        for name, n in part.unsummed.items():
            unsummed[name] = unsummed.get(name, 0) + n
    collected = tuple(question.name for question in campaign.tree.questions if question.columns[0] in mapping.answers)
    used = rows.filter(~pl.col("row").is_in(dropped["row"].implode())) if dropped.height else rows
    return RowTable(used, dropped, n_rows, collected, excluded, unsummed)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of a table, before it is known which identifiers stand twice in it."""

    rows: pl.DataFrame
    problems: list[pl.DataFrame]
    is_bad: pl.Series
    digest: pl.Series  # of a row's votes
    unsummed: dict[str, int]


def _part(
    path: Path, read: ReadTable, start: int, mapping: Columns, campaign: Campaign, is_summed: bool
) -> tuple[_Part, IntArray, IntArray]:
    tree = campaign.tree
    frame = read.frame.with_row_index("gzoo row", offset=start + 1)
    row = frame["gzoo row"].cast(pl.Int64)
    ids = _text(frame, mapping.id_str)
    shown = ids.str.slice(0, MAX_IDENTIFIER)
    n = frame.height
    problems: list[pl.DataFrame] = []
    is_valid = pl.repeat(True, n, eager=True)
    if read.damaged.height:
        problems.append(
            read.damaged.join(pl.DataFrame({"row": row, "id_str": shown}), on="row", how="left")
            .with_columns(image=pl.lit(None, pl.String))
            .select(DROPPED_SCHEMA.keys())
        )
        is_valid = ~row.is_in(read.damaged["row"].implode())

    def report(bad: pl.Series, reason: str, details: Callable[[], pl.Series]) -> None:
        where = bad.fill_null(False) & is_valid
        if where.any():
            problems.append(_problem(row, shown, where, reason, details()))

    report(ids == "", "identifier missing", partial(_words, n, f"column {mapping.id_str} is empty"))
    report(ids.str.len_chars() > MAX_IDENTIFIER, "identifier too long", partial(_said, mapping.id_str, ids))
    take = _from_fractions if mapping.values == "fractions" else _from_counts
    unsummed: dict[str, int] = {}
    counts, totals = take(path, frame, mapping, tree, report, None if is_summed else unsummed)
    too_many = (totals > MAX_COUNT).any(axis=1)
    report(
        pl.Series(np.asarray(too_many)),
        "count too large",
        partial(_words, n, f"votes of one question add up to over {MAX_COUNT}"),
    )
    ra, dec = _degrees(frame, mapping.ra, 0.0, 360.0, report), _degrees(frame, mapping.dec, -90.0, 90.0, report)
    split = _text(frame, mapping.split) if mapping.split else _words(n, "")
    if mapping.split:
        wrong = ~split.is_in(SPLIT_NAMES)
        said = partial(_said, mapping.split, split, f", not one of {', '.join(SPLIT_NAMES)}")
        report(wrong, "split not known", said)
    rows = pl.DataFrame(
        {
            "row": row,
            "id_str": ids,
            "source_id": _text(frame, mapping.source_id) if mapping.source_id else _words(n, ""),
            "dataset_name": _text(frame, mapping.dataset_name) if mapping.dataset_name else _words(n, campaign.name),
            "image": _text(frame, mapping.image) if mapping.image else _words(n, ""),
            "ra": ra,
            "dec": dec,
            "split": split,
        }
    )
    bad_rows = pl.concat([pl.Series(dtype=pl.Int64), *(part["row"] for part in problems)])
    digest = pl.from_numpy(counts).hash_rows()
    return _Part(rows, problems, row.is_in(bad_rows.implode()), digest, unsummed), counts, totals


def _problem(row: pl.Series, shown: pl.Series, where: pl.Series, reason: str, detail: pl.Series) -> pl.DataFrame:
    columns = {"row": row.filter(where), "id_str": shown.filter(where), "detail": detail.filter(where)}
    return (
        pl.DataFrame(columns)
        .with_columns(reason=pl.lit(reason), image=pl.lit(None, pl.String))
        .select(DROPPED_SCHEMA.keys())
    )


def _check_columns(path: Path, frame: pl.DataFrame, mapping: Columns, campaign: Campaign) -> tuple[str, ...]:
    """Every column of the table accounted for, and every column that is named there. Returns those left out."""
    where = mapping.source or "the dataset's own column names"
    tree = campaign.tree
    unknown = [name for name in mapping.answers if name not in tree.columns]
    unknown += [name for name in mapping.totals if name not in [question.name for question in tree.questions]]
    if unknown:
        raise TableError(
            f"{where} maps '{unknown[0]}', which is no answer or question of {campaign.name}.",
            f"Answers such as {tree.columns[0]}.",
            f"See `gzoo tree {campaign.name}`.",
        )
    named = list(mapping.named)
    missing = [name for name in named if name not in frame.columns]
    if missing:
        raise TableError(
            f"{path} has no column '{missing[0]}', which {where} asks for.",
            f"Its columns: {_some(frame.columns)}.",
            f"Mend {where}." if mapping.source else PROPOSE.format(path=path, campaign=campaign.name),
        )
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise TableError(
            f"{where} uses column '{twice[0]}' of {path} twice.", "Each column has one meaning.", "Mend the mapping."
        )
    if not mapping.answers:
        raise TableError(
            f"{path} has no column of votes that {where} knows.",
            f"Columns such as {tree.columns[0]}; it has {_some(frame.columns)}.",
            PROPOSE.format(path=path, campaign=campaign.name),
        )
    _refuse_weighted(path, mapping)
    for question in tree.questions:
        unavailable = [column for column in question.columns if column not in mapping.answers]
        if unavailable and len(unavailable) < len(question.columns):
            raise TableError(
                f"{path}: {where} gives some answers of {question.name}, but not '{unavailable[0]}'.",
                "All answers of a question or none: without one, every fraction of it is wrong.",
                "Map the missing answer, or leave the question out.",
            )
        if unavailable and question.name in mapping.totals:
            raise TableError(
                f"{path}: {where} gives the total of {question.name}, but not its answers.",
                "A total only with its answers.",
                "Map the answers, or list the total in a mapping file's `ignore`.",
            )
        if not unavailable and mapping.values == "fractions" and question.name not in mapping.totals:
            raise TableError(
                f"{path}: {where} gives fractions of {question.name}, but not how many people answered it.",
                "A total for each question: only with it do fractions say how many people voted.",
                "Name the column of its total under [totals], or leave the question out.",
            )
    for name in named:
        kind = frame.schema[name]
        if not kind.is_numeric() and kind.base_type() not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
            raise TableError(
                f"{path}: column '{name}' holds {kind}.", "Numbers or texts.", "Convert the column to one of these."
            )
    rest = [name for name in frame.columns if name not in named]
    excluded = [name for name in rest if any(fnmatchcase(name, pattern) for pattern in mapping.ignore)]
    strangers = [name for name in rest if name not in excluded]
    if strangers:
        raise TableError(
            f"{path} has {len(strangers)} column(s) that nothing accounts for: {_some(strangers)}.",
            f"Columns of the {campaign.name} record, or of the mapping.",
            "Name them in the mapping file given with --columns, or list them (patterns allowed) in its `ignore`."
            if mapping.source
            else PROPOSE.format(path=path, campaign=campaign.name),
        )
    return tuple(excluded)


_Report = Callable[[pl.Series, str, Callable[[], pl.Series]], None]
"""Takes rows out of a table: which rows, the reason, and what tells the detail of each row."""


def _from_counts(
    path: Path,
    frame: pl.DataFrame,
    mapping: Columns,
    tree: Tree,
    report: _Report,
    unsummed: dict[str, int] | None,
) -> tuple[IntArray, IntArray]:
    """Counts and totals of a table of counts."""
    n = frame.height
    counts = np.zeros((n, len(tree.columns)), np.int64)
    is_any_fractional = pl.repeat(False, n, eager=True)
    for i, name in enumerate(tree.columns):
        if name in mapping.answers:
            counts[:, i], _, is_fractional = _counts(frame, mapping.answers[name], report)
            is_any_fractional = is_any_fractional | is_fractional
    if is_any_fractional.sum() * 2 > n:
        _refuse_cumulative(path, frame, mapping, tree)
        raise TableError(
            f"{path} holds fractions, not counts: {is_any_fractional.sum()} of {n} rows have a vote that is not whole.",
            "Whole numbers of people.",
            "Use the unweighted count columns; or, if these are plain fractions and the table says how many people "
            'answered each question, put `values = "fractions"` and [totals] into the mapping file.',
        )
    totals = tree.totals(counts)
    for i, question in enumerate(tree.questions):
        if question.name not in mapping.totals:
            continue
        column = mapping.totals[question.name]
        given, _, _ = _counts(frame, column, report)
        own = counts[:, tree.slice(question.name)]
        if question.multiple:
            wrong, totals[:, i] = given < own.max(axis=1), np.maximum(given, own.max(axis=1))
            rule = "below the votes of one answer"
        else:
            wrong, rule = given != totals[:, i], "not the sum of the answers"
        if unsummed is not None:
            unsummed[question.name] = int(wrong.sum())
            continue
        report(pl.Series(wrong), "total does not fit", partial(_compared, f"{column} = ", given, rule, totals[:, i]))
    return counts, totals


def _from_fractions(
    path: Path,
    frame: pl.DataFrame,
    mapping: Columns,
    tree: Tree,
    report: _Report,
    unsummed: dict[str, int] | None,
) -> tuple[IntArray, IntArray]:
    """Counts and totals of a table of plain fractions of totals, each count whole and all adding up."""
    n = frame.height
    counts = np.zeros((n, len(tree.columns)), np.int64)
    totals = np.zeros((n, len(tree.questions)), np.int64)
    for i, question in enumerate(tree.questions):
        if question.name not in mapping.totals:
            continue
        total_column = mapping.totals[question.name]
        volunteers, is_total, _ = _counts(frame, total_column, report)
        is_asked = is_total.to_numpy() & (volunteers > 0)
        places = range(tree.slice(question.name).start, tree.slice(question.name).stop)
        is_known, is_wrong = is_total.to_numpy().copy(), np.zeros(n, bool)
        for place, name in zip(places, question.columns, strict=True):
            column = mapping.answers[name]
            text, number, is_missing = _numbers(frame, column)
            said = partial(_said, column, text)
            is_text = (number.is_null() & ~is_missing).to_numpy()
            is_gap = is_missing.to_numpy() & is_asked
            fraction = number.fill_nan(None).fill_null(0.0).to_numpy()
            is_outside = (fraction < 0) | (fraction > 1 + 1e-6)
            fractions = np.asarray(np.where(is_outside | is_text, 0.0, fraction), np.float64)
            votes = fractions * volunteers.astype(np.float64)
            counts[:, place] = np.round(votes)
            is_off = ~is_outside & (np.abs(votes - counts[:, place]) > mapping.tolerance)
            report(pl.Series(is_gap), "fraction missing", said)
            report(pl.Series(is_text), "fraction is not a number", said)
            report(pl.Series(is_outside), "fraction not within 0 to 1", said)
            report(pl.Series(is_off), "fraction x total not whole", partial(_not_whole, said, volunteers, votes))
            is_nobody = is_total.to_numpy() & (volunteers == 0) & (fraction > 0) & ~is_outside
            report(
                pl.Series(is_nobody), "fraction of nobody", partial(_said, column, text, f", but {total_column} = 0")
            )
            is_known &= ~(is_gap | is_text)
            is_wrong |= is_outside | is_off | is_nobody
        own = counts[:, tree.slice(question.name)]
        summed = own.sum(axis=1)
        is_short = np.zeros(n, bool) if question.multiple else is_known & ~is_wrong & (summed != volunteers)
        if unsummed is not None:
            is_empty = is_asked & (summed == 0) if question.multiple else is_short
            unsummed[question.name] = int((is_short | is_empty).sum())
            totals[:, i] = volunteers if question.multiple else summed
            continue
        details = partial(_compared, f"{total_column} = ", volunteers, "not what the answers add up to", summed)
        report(pl.Series(is_short), "fractions do not add up to the total", details)
        n_asked, n_wrong = int(is_asked.sum()), int((is_wrong | is_short).sum())
        if n_wrong > max(1, SMALL_FRACTION * max(n_asked, n_wrong)):
            _refuse_cumulative(path, frame, mapping, tree)
            raise TableError(
                f"{path}: fraction x total gives no whole votes that add up to the total of {question.name} in "
                f"{n_wrong:,} of {n_asked:,} rows with votes on it: {_first_fault(is_wrong | is_short, own, volunteers)}.",
                f"Plain fractions of {total_column}, whole to {mapping.tolerance} votes. Weighted or rounded fractions "
                "are no counts of people, nor are fractions of another total.",
                "Use the table of counts, name the right column under [totals], or leave the question out.",
            )
        if n_asked > 1 and not own.any():
            raise TableError(
                f"{path}: {total_column} counts people in {n_asked:,} rows, but no answer of {question.name} has a "
                "vote in any row.",
                "Votes where people were asked.",
                "The votes of this question are not in the table: leave it out and list its columns in `ignore`.",
            )
        totals[:, i] = volunteers
    return counts, totals


def _first_fault(is_wrong: npt.NDArray[np.bool_], own: IntArray, volunteers: IntArray) -> str:
    row = int(np.argmax(is_wrong))
    return f"the first is row {row + 1}, with {volunteers[row]} people and about {int(own[row].sum())} votes"


def _refuse_weighted(path: Path, mapping: Columns) -> None:
    """Weighted fractions look like counts when multiplied by a total, and are none."""
    for name, column in [*mapping.answers.items(), *mapping.totals.items()]:
        if WEIGHTED.search(column):
            what = "debiased" if "debias" in column.lower() else "weighted"
            raise TableError(
                f"{path}: column '{column}', named for {name}, is {what} by its name.",
                "Whole counts of people. Weights and corrections for bias change how many people a vote stands for, so "
                "no number of people follows from such a column, not even with a total.",
                "Use the columns of plain counts, or of plain fractions together with totals; where there are none, "
                "leave the question out.",
            )


def refuse_cumulative_names(path: Path, frame: pl.DataFrame) -> None:
    """The table of the Galaxy Zoo challenge on Kaggle, known by its names."""
    names = [name for name in frame.columns if KAGGLE.fullmatch(name)]
    if len(names) < 3 or not any(_is_between(_numbers(frame, name)[1]) for name in names):
        return
    raise TableError(
        f"{path} is a table of cumulative fractions, as the Galaxy Zoo challenge had them: {_some(names, 3)}.",
        CUMULATIVE_EXPECTED,
        CUMULATIVE_DO,
    )


def _is_between(number: pl.Series) -> bool:
    return bool(((number > 0) & (number < 1)).any())


def _refuse_cumulative(path: Path, frame: pl.DataFrame, mapping: Columns, tree: Tree) -> None:
    """Fractions whose answers add up to the fraction that leads to their question, and not to one."""
    fractions = {
        name: _numbers(frame, column)[1].fill_nan(None).fill_null(0.0).to_numpy()
        for name, column in mapping.answers.items()
    }
    for question in tree.questions:
        if not question.parents or not {*question.columns, *question.parents} <= set(fractions):
            continue
        gate = np.sum([fractions[name] for name in question.parents], axis=0)
        own = np.sum([fractions[name] for name in question.columns], axis=0)
        tells = (gate > 0.02) & (gate < 0.95)  # elsewhere the two sums agree anyhow
        if tells.sum() >= 3 and (np.abs(own - gate) < 0.005)[tells].mean() > 0.8:
            raise TableError(
                f"{path} holds cumulative fractions: the answers of {question.name} add up to the fraction of the "
                f"answers that lead to it ({' + '.join(mapping.answers[name] for name in question.parents)}), "
                "not to 1.",
                CUMULATIVE_EXPECTED,
                CUMULATIVE_DO,
            )


def _numbers(frame: pl.DataFrame, column: str) -> tuple[pl.Series, pl.Series, pl.Series]:
    """The cells of a column as text and as numbers (null where they are none), and which are missing."""
    raw = frame[column]
    text = raw.cast(pl.String, strict=False).fill_null("").str.strip_chars()
    number = raw.cast(pl.Float64, strict=False) if raw.dtype.is_numeric() else text.cast(pl.Float64, strict=False)
    is_missing = (text == "") | (text.str.to_lowercase() == "nan") | number.is_nan().fill_null(False)
    return text, number, is_missing


def _said(column: str, text: pl.Series, end: str = "") -> pl.Series:
    """`column = text` for each cell, a giant one cut short."""
    cut = pl.when(pl.col("text").str.len_chars() > 80).then(pl.col("text").str.slice(0, 80) + " ...")
    said = pl.lit(f"{column} = ") + cut.otherwise(pl.col("text")) + pl.lit(end)
    return pl.DataFrame({"text": text}).select(said.alias("said"))["said"]


def _compared(start: str, given: IntArray, rule: str, own: IntArray) -> pl.Series:
    """`column = 5, not the sum of the answers (4)` for each row."""
    return pl.Series([f"{start}{one}, {rule} ({two})" for one, two in zip(given, own, strict=True)])


def _not_whole(said: Callable[[], pl.Series], volunteers: IntArray, votes: FloatArray) -> pl.Series:
    pairs = zip(volunteers, votes, strict=True)
    return said() + pl.Series([f" of {one} people, {two:.3f} votes" for one, two in pairs])


def _counts(frame: pl.DataFrame, column: str, report: _Report) -> tuple[IntArray, pl.Series, pl.Series]:
    """Whole counts of one column (0 where they are not), where they are sound, and where fractional."""
    raw = frame[column]
    ends = [end for end in (raw.min(), raw.max()) if isinstance(end, int)]
    if raw.dtype.is_integer() and not raw.null_count() and all(0 <= end <= MAX_COUNT for end in ends):  # mostly
        is_never = pl.repeat(False, frame.height, eager=True)
        return raw.cast(pl.Int64).to_numpy(), ~is_never, is_never
    text, number, is_missing = _numbers(frame, column)
    is_text = number.is_null() & ~is_missing
    number = number.fill_nan(None).fill_null(0.0)
    is_negative = number < 0
    is_large = number > MAX_COUNT
    is_fractional = ~is_large & (number != number.round())
    said = partial(_said, column, text)
    for bad, reason in (
        (is_missing, "count missing"),
        (is_text, "count is not a number"),
        (is_negative, "count negative"),
        (is_fractional, "count not whole"),
        (is_large, "count too large"),
    ):
        report(bad, reason, said)
    good = ~(is_missing | is_text | is_negative | is_fractional | is_large)
    return (number * good.cast(pl.Float64)).fill_nan(0.0).cast(pl.Int64).to_numpy(), good, is_fractional


def _degrees(frame: pl.DataFrame, column: str, low: float, high: float, report: _Report) -> pl.Series:
    """An angle in degrees, NaN where it is not given."""
    if not column:
        return pl.repeat(float("nan"), frame.height, dtype=pl.Float64, eager=True)
    text, value, is_missing = _numbers(frame, column)
    bad = ~is_missing & (value.is_null() | ~value.is_between(low, high))
    said = partial(_said, column, text)
    report(bad, f"position not within {low:g} to {high:g} degrees", said)
    return value.fill_null(float("nan"))


def _duplicates(rows: pl.DataFrame, digest: pl.Series, is_bad: pl.Series) -> list[pl.DataFrame]:
    """The first of several equal rows stays; rows that contradict each other, or of which some are bad, all go."""
    is_several = rows.select(pl.struct("dataset_name", "id_str").is_duplicated()).to_series() & (rows["id_str"] != "")
    keyed = (
        rows.with_columns(is_bad=is_bad, votes=digest)
        .filter(is_several)
        .with_columns(key=pl.struct("dataset_name", "id_str").rank("dense"))
        .with_columns(
            first=pl.col("row").min().over("key"),
            n_kinds=pl.struct("votes", "image", "is_bad").n_unique().over("key"),
            all_rows=pl.col("row").cast(pl.String).str.join(", ").over("key"),
        )
    )
    if keyed.height == 0:
        return []
    row, shown = keyed["row"], keyed["id_str"].str.slice(0, MAX_IDENTIFIER)
    said = "id_str " + keyed["id_str"] + " stands in rows " + keyed["all_rows"]
    differ = keyed["n_kinds"] > 1
    return [
        _problem(row, shown, differ, "identifier twice, with different votes or images", said),
        _problem(row, shown, ~differ & (row > keyed["first"]), "identifier twice, same votes", said),
    ]


def _text(frame: pl.DataFrame, column: str) -> pl.Series:
    series = frame[column]
    if series.dtype.is_float():  # identifiers that a spreadsheet turned into 57314.0
        numbers = series.filter(series.is_finite()).to_numpy()
        largest = float(np.abs(numbers).max(initial=0.0))
        if largest >= 2.0 ** (np.finfo(numbers.dtype).nmant + 1):  # from here on this type skips whole numbers
            raise TableError(
                f"Column '{column}' holds {series.dtype} numbers up to {largest:.0f}: digits were lost.",
                "Identifiers as text or whole numbers.",
                "Write the table again from its source with that column as text.",
            )
        whole = series.cast(pl.Int64, strict=False)
        if (whole.cast(pl.Float64) == series).all():
            series = whole
    return series.cast(pl.String, strict=False).fill_null("").str.strip_chars()


def _words(n: int, text: str) -> pl.Series:
    return pl.repeat(text, n, dtype=pl.String, eager=True)


def _some(names: list[str] | tuple[str, ...], limit: int = 8) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
