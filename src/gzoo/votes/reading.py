"""Reading vote tables: every row becomes votes, or is dropped with a reason."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from gzoo import sky
from gzoo.display import Sheet, Shown, json_value
from gzoo.errors import GZooWarning, TableError
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import FloatArray, IntArray, Tree
from gzoo.votes.cells import (
    MAX_COUNT,
    Counts,
    Details,
    Report,
    compared,
    counts,
    numbers,
    repeated,
    shown,
    strings,
)
from gzoo.votes.column_checks import check_columns, check_names_not_cumulative, check_values_not_cumulative
from gzoo.votes.identifiers import MISSING, IdentifierReader
from gzoo.votes.mapping_file import MappingFile
from gzoo.votes.tables import ReadTable, iter_rows
from gzoo.votes.votes import Votes

MAX_IDENTIFIER = 256
ROWS_IN_PART = 10_000  # of a table that is read part by part
SPLIT_NAMES = ("train", "validation", "test", "border")
MIN_ROWS_OF_GAPS = 10  # below, a table without any 0 is nothing special
MAX_INVALID_FRACTION = 0.05  # of rows whose fractions give no integer votes; more, and they are not plain fractions
DROPPED_SCHEMA = {"id_str": pl.String, "row": pl.Int64, "image": pl.String, "reason": pl.String, "detail": pl.String}


@dataclass(frozen=True, kw_only=True, repr=False)
class RowTable(Shown):
    """Rows of a vote table, without the votes.

    Attributes:
        rows: The used rows: `row` (number in the table, starting at 1), `id_str`, `source_id` (the survey's own
            identifier, '' if absent), `dataset_name`, `image`, `ra`, `dec` (degrees, NaN if not known), `split` ('' if
            the table does not contain it).
        dropped: The dropped rows: columns `DROPPED_SCHEMA`.
        n_rows: Number of rows in the table.
        collected: Names of the questions for which the table has votes.
        excluded: Columns of the table that are ignored.
        total_mismatches: Question -> number of rows whose total is not the sum of its answers, if totals were not
            checked.
        warnings: What was changed in identifiers and counts, or is doubtful.
        positions: How the positions of all rows were read; None if the table has none.
    """

    rows: pl.DataFrame
    dropped: pl.DataFrame
    n_rows: int
    collected: tuple[str, ...]
    excluded: tuple[str, ...]
    total_mismatches: Mapping[str, int] = field(default_factory=dict[str, int])

    def to_dict(self) -> dict[str, object]:
        """Return what became of the rows as JSON values."""
        names = ("n_rows", "collected", "excluded", "total_mismatches")
        facts = {name: json_value(getattr(self, name)) for name in names}
        return {**facts, "n_used": self.rows.height, "n_dropped": self._n_dropped}

    def to_polars(self) -> pl.DataFrame:
        """Return the used rows: the attribute `rows`."""
        return self.rows

    def sheet(self) -> Sheet:
        """Return what became of the rows."""
        return Sheet(
            f"Vote table: {self.rows.height:,} of {self.n_rows:,} rows are used",
            {
                "dropped": self._n_dropped,
                "questions with votes": len(self.collected),
                "columns ignored": self.excluded,
                "totals that differ": self.total_mismatches,
            },
        )

    @property
    def _n_dropped(self) -> dict[str, int]:
        return dict(self.dropped["reason"].value_counts().sort("reason").iter_rows())

    warnings: tuple[str, ...] = ()
    positions: sky.Positions | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class VoteTable(RowTable):
    """Rows of a vote table, and the votes of the used rows."""

    votes: Votes

    def to_dict(self) -> dict[str, object]:
        """Return what became of the rows, and the numbers of votes, as JSON values."""
        return {**super().to_dict(), "votes": self.votes.to_dict()}

    def to_polars(self) -> pl.DataFrame:
        """Return the used rows with their votes."""
        return pl.concat([self.rows, self.votes.to_polars()], how="horizontal")

    def sheet(self) -> Sheet:
        """Return what became of the rows, and the votes on each question."""
        return replace(self.votes.sheet(), title=super().sheet().title, facts=super().sheet().facts)


def read_votes(
    path: Path | str,
    campaign: Path | str | Campaign,
    mapping: Path | str | None = None,
    *,
    check_totals: bool = True,
    allow_bad_positions: bool = False,
) -> VoteTable:
    """Read votes from a CSV, Parquet, FITS, VOTable or ECSV table.

    Args:
        path: Table with one row per galaxy and one column per answer: vote counts or, if the mapping file says so,
            fractions of a total.
        campaign: Campaign that the votes belong to: its name, or the path of its TOML file.
        mapping: Mapping file (see `MappingFile`) for a table with other column names than the dataset's.
        check_totals: Whether to drop rows whose total is not the sum of the answers, and to reject a question with
            totals but without votes. Otherwise such rows are used, with the sum in place of the total.
        allow_bad_positions: Whether to read a table in which more than 10% of the positions cannot be read or are out
            of range.

    Returns:
        The used rows with their votes, and the dropped rows with the reason for each.

    Raises:
        NotFoundError: A file or the campaign does not exist.
        MissingExtraError: astropy, which reads FITS, VOTable and ECSV, is not installed.
        TableError: The table cannot be read, is empty, lacks a column, contains an unexpected one, contains fractions
            from which vote counts cannot be computed, or more than 10% of its positions cannot be used.
    """
    parts: list[tuple[IntArray, IntArray]] = []
    facts = campaign_of(campaign)
    read = stream_votes(
        path,
        facts,
        mapping,
        lambda counts, totals: parts.append((counts, totals)),
        check_totals=check_totals,
        allow_bad_positions=allow_bad_positions,
    )
    for text in read.warnings:
        warnings.warn(text, GZooWarning, stacklevel=2)
    counts, totals = (np.concatenate(part) for part in zip(*parts, strict=True))
    used = read.rows["row"].to_numpy() - 1
    return VoteTable(**vars(read), votes=Votes(facts.tree, counts[used], totals[used], read.collected))


def stream_votes(
    path: Path | str,
    campaign: Campaign,
    mapping: Path | str | None,
    keep: Callable[[IntArray, IntArray], None],
    *,
    check_totals: bool = True,
    split_column: str = "",
    allow_bad_positions: bool = False,
) -> RowTable:
    """Read votes as `read_votes` does, but part by part, so that millions of rows need little memory.

    Args:
        path: See `read_votes`.
        campaign: Campaign that the votes belong to.
        mapping: See `read_votes`.
        keep: Function that receives the counts, shape (row, answer), and total votes, shape (row, question), of each
            part of the table in turn. They contain *every* row of the table; those of dropped rows are meaningless.
        check_totals: See `read_votes`.
        split_column: Column of the table that contains each galaxy's split, or "".
        allow_bad_positions: See `read_votes`.

    Returns:
        The used rows, and the dropped rows with the reason for each.

    Raises:
        NotFoundError: A file does not exist.
        MissingExtraError: astropy, which reads FITS, VOTable and ECSV, is not installed.
        TableError: See `read_votes`.
    """
    path = Path(path)
    given = MappingFile.read(mapping) if mapping else None
    if given and given.values == "concentrations":
        raise TableError(
            f"Mapping file '{given.source}' declares '{path}' as concentrations, which are predictions.",
            'values = "counts" or "fractions".',
            "Pass a table of votes.",
        )
    names: MappingFile | None = None
    excluded: tuple[str, ...] = ()
    units: Mapping[str, str] = {}
    parts: list[RowPart] = []
    readers: dict[str, IdentifierReader] = {}
    n_rows = 0
    for start, read in iter_rows(path, n_rows=ROWS_IN_PART, table=given.table if given else ""):
        if read.frame.height == 0:
            raise TableError(f"'{path}' does not contain any rows.", "at least one galaxy.", "Check the file.")
        check_names_not_cumulative(path, read.frame)
        if names is None:
            names = given or MappingFile.by_name(read.frame.columns, campaign)
            if split_column:
                names = replace(names, split=split_column)
            excluded = check_columns(path, read.frame, names, campaign)
            units = read.units
            columns = {name: column for name in ("id_str", "source_id") if (column := getattr(names, name))}
            readers = {name: IdentifierReader(f"Column '{column}' of '{path}'") for name, column in columns.items()}
        part, counts, totals = _read_part(path, read, start, names, campaign, check_totals, readers)
        keep(counts, totals)
        parts.append(part)
        n_rows += read.frame.height
    assert names is not None
    rows, dropped, positions = join_parts(path, parts, names, units, allow_bad_positions=allow_bad_positions)
    mismatches: Counter[str] = Counter()
    gaps = _Gaps()
    for part in parts:
        mismatches.update(part.total_mismatches)
        gaps.add(part.gaps)
    doubts = [doubt for reader in readers.values() for doubt in reader.warnings()]
    doubts += gaps.doubts(path, n_rows)
    return RowTable(
        rows=rows,
        dropped=dropped,
        n_rows=n_rows,
        collected=tuple(one.name for one in campaign.tree.questions if one.columns[0] in names.answers),
        excluded=excluded,
        total_mismatches=dict(mismatches),
        warnings=(*doubts, *(positions.warnings if positions else ())),
        positions=positions,
    )


@dataclass(slots=True)
class _Gaps:
    """Counts that are missing in some rows of a table."""

    n_unasked: Counter[str] = field(default_factory=Counter[str])  # question -> rows where nobody was asked
    n_partial: int = 0  # rows with a count for some answers of a question but not for all
    has_zero: bool = False  # whether any count is 0

    def add(self, other: _Gaps) -> None:
        self.n_unasked.update(other.n_unasked)
        self.n_partial += other.n_partial
        self.has_zero |= other.has_zero

    def doubts(self, path: Path, n_rows: int) -> list[str]:
        """Return what was read as 0.

        Raises:
            TableError: The table seems to have gaps in place of 0, which are the same as lost counts.
        """
        if n_rows >= MIN_ROWS_OF_GAPS and self.n_partial * 2 > n_rows and not self.has_zero:
            raise TableError(
                f"'{path}': in {self.n_partial:,} of {n_rows:,} rows some answers of a question have no count (empty "
                "or NaN), and no count in the table is 0: there seem to be gaps where nobody gave an answer.",
                "0 where nobody gave an answer.",
                "Replace the gaps by 0 if that is what they mean.",
            )
        if not self.n_unasked:
            return []
        listed = ", ".join(f"{name} in {n:,} rows" for name, n in self.n_unasked.most_common(3))
        rest = f" and {len(self.n_unasked) - 3} more questions" if len(self.n_unasked) > 3 else ""
        return [
            f"'{path}': counts that are missing (empty or NaN) are read as 0 where the parent answers have no votes, "
            f"so that nobody was asked: {listed}{rest}."
        ]


def join_parts(
    path: Path,
    parts: Sequence[RowPart],
    mapping: MappingFile,
    units: Mapping[str, str],
    *,
    allow_bad_positions: bool,
) -> tuple[pl.DataFrame, pl.DataFrame, sky.Positions | None]:
    """Return the used rows of all parts of a table, the dropped rows, and how positions were read.

    Args:
        path: The table.
        parts: Its parts, in order.
        mapping: Which column is which.
        units: Column -> the unit that the file declares.
        allow_bad_positions: Whether to go on where more than 10% of the positions cannot be used.

    Raises:
        TableError: More than 10% of the positions cannot be used.
    """
    rows = pl.concat([part.rows for part in parts], how="vertical_relaxed")
    problems = [problem for part in parts for problem in part.problems]
    digest, given, is_bad, is_readable = (
        pl.concat(getattr(part, name) for part in parts) for name in ("digest", "given", "is_bad", "is_readable")
    )
    rows, positions, bad_positions = _placed(
        path, rows, mapping, units, is_readable=is_readable, allow_bad=allow_bad_positions
    )
    problems += bad_positions
    if positions:
        is_bad = is_bad | pl.Series(positions.is_bad)
    problems += _duplicates(rows, digest, given, is_bad)
    dropped = (
        pl.concat([pl.DataFrame(schema=DROPPED_SCHEMA), *problems])
        .group_by("row", maintain_order=True)
        .agg(pl.col("id_str", "image", "reason").first(), pl.col("detail").unique(maintain_order=True).str.join("; "))
        .select(DROPPED_SCHEMA.keys())
        .sort("row")
    )
    return rows.filter(~pl.col("row").is_in(dropped["row"].implode())) if dropped.height else rows, dropped, positions


def _placed(
    path: Path,
    rows: pl.DataFrame,
    mapping: MappingFile,
    units: Mapping[str, str],
    *,
    is_readable: pl.Series,
    allow_bad: bool,
) -> tuple[pl.DataFrame, sky.Positions | None, list[pl.DataFrame]]:
    """Return rows with positions in degrees instead of cells, how they were read, and the rows that are dropped."""
    columns = mapping.ra, mapping.dec
    if not all(columns):
        nowhere = pl.lit(float("nan"), pl.Float64)
        return rows.with_columns(ra=nowhere, dec=nowhere), None, []
    cells = rows["ra"], rows["dec"]
    found = sky.read_positions(
        *cells,
        source=f"'{path.name}'",  # not the whole path: the same inputs give the same manifest anywhere
        names=columns,
        unit=mapping.unit,
        file_units=(units.get(columns[0], ""), units.get(columns[1], "")),
        allow_bad=allow_bad,
    )
    problems: list[pl.DataFrame] = []
    ids = rows["id_str"].str.slice(0, MAX_IDENTIFIER)
    for is_bad, reason in (
        (found.is_unreadable, "position cannot be read"),
        (found.is_out_of_range, "position out of range"),
    ):
        if is_bad.any():
            where = pl.Series(is_bad) & is_readable
            texts = [
                pl.Series([str(cell) if is_in else "" for cell, is_in in zip(one, where, strict=True)], dtype=pl.String)
                for one in cells
            ]
            details = [shown(name, text) for name, text in zip(columns, texts, strict=True)]
            problems.append(_problem(rows["row"], ids, where, reason, details[0] + ", " + details[1]))
    return rows.with_columns(ra=pl.Series(found.ra), dec=pl.Series(found.dec)), found, problems


@dataclass(frozen=True, slots=True)
class RowPart:
    """Some rows of a table, before duplicate identifiers are known; see `read_part`."""

    rows: pl.DataFrame
    problems: list[pl.DataFrame]
    is_bad: pl.Series
    is_readable: pl.Series
    digest: pl.Series  # of a row's votes or labels
    given: pl.Series  # hash of the identifier as it is in the table
    total_mismatches: dict[str, int] = field(default_factory=dict[str, int])
    gaps: _Gaps = field(default_factory=_Gaps)


def _read_part(
    path: Path,
    read: ReadTable,
    start: int,
    mapping: MappingFile,
    campaign: Campaign,
    check_totals: bool,
    readers: Mapping[str, IdentifierReader],
) -> tuple[RowPart, IntArray, IntArray]:
    read_values = _from_fractions if mapping.values == "fractions" else _from_counts
    mismatches: dict[str, int] = {}
    gaps = _Gaps()
    found: list[IntArray] = []

    def values(report: Report) -> pl.Series:
        counts, totals = read_values(
            path, read.frame, mapping, campaign.tree, report, None if check_totals else mismatches, gaps
        )
        too_many = (totals > MAX_COUNT).any(axis=1)
        details = partial(repeated, len(totals), f"total votes above {MAX_COUNT}")
        report(pl.Series(np.asarray(too_many)), "count too large", details)
        found.extend((counts, totals))
        return pl.from_numpy(counts).hash_rows()

    part = read_part(read, start, mapping, campaign.name, readers, values)
    return replace(part, total_mismatches=mismatches, gaps=gaps), found[0], found[1]


def read_part(
    read: ReadTable,
    start: int,
    mapping: MappingFile,
    dataset_name: str,
    readers: Mapping[str, IdentifierReader],
    values: Callable[[Report], pl.Series],
) -> RowPart:
    """Return some rows of a table with identifiers, images, splits and cells of positions, and what is wrong with them.

    Args:
        read: The rows.
        start: Number of rows before them.
        mapping: Which column is which.
        dataset_name: Name of the dataset where the table has no column of it.
        readers: Readers of `id_str` and, if the table has it, `source_id`.
        values: Function that reads the other columns, reports bad rows, and returns a hash of the values of each row.
    """
    frame = read.frame
    row = pl.int_range(start + 1, start + 1 + frame.height, eager=True).alias("row")
    n = frame.height
    ids, given, problem = readers["id_str"].read(frame[mapping.id_str])
    short_ids = ids.str.slice(0, MAX_IDENTIFIER)
    source_ids = repeated(n, "")
    if "source_id" in readers:
        cells = readers["source_id"].read(frame[mapping.source_id])
        source_ids = cells.text.set(cells.problem != "", "")
    problems: list[pl.DataFrame] = []
    is_readable = pl.repeat(True, n, eager=True)
    if read.damaged.height:
        problems.append(
            read.damaged.join(pl.DataFrame({"row": row, "id_str": short_ids}), on="row", how="left")
            .with_columns(image=pl.lit(None, pl.String))
            .select(DROPPED_SCHEMA.keys())
        )
        is_readable = ~row.is_in(read.damaged["row"].implode())

    def report(bad: pl.Series, reason: str, details: Details) -> None:
        where = bad.fill_null(False) & is_readable
        if where.any():
            problems.append(_problem(row, short_ids, where, reason, details()))

    is_empty = (problem == MISSING) & (given.str.strip_chars() == "")
    report(is_empty, MISSING, partial(repeated, n, f"column {mapping.id_str} is empty"))
    for one in problem.filter((problem != "") & ~is_empty).unique(maintain_order=True):
        report((problem == one) & ~is_empty, one, partial(shown, mapping.id_str, given))
    report(ids.str.len_chars() > MAX_IDENTIFIER, "identifier too long", partial(shown, mapping.id_str, ids))
    digest = values(report)
    split = strings(frame, mapping.split)
    if mapping.split:
        details = partial(shown, mapping.split, split, f", not one of {', '.join(SPLIT_NAMES)}")
        report(~split.is_in(SPLIT_NAMES), "split not known", details)
    rows = pl.DataFrame(
        {
            "row": row,
            "id_str": ids,
            "source_id": source_ids,
            "dataset_name": strings(frame, mapping.dataset_name, dataset_name),
            "image": strings(frame, mapping.image),
            # as they are in the table: whether they can be positions is decided by all of them together
            "ra": frame[mapping.ra] if mapping.ra else repeated(n, ""),
            "dec": frame[mapping.dec] if mapping.dec else repeated(n, ""),
            "split": split,
        }
    )
    bad_rows = pl.concat([pl.Series(dtype=pl.Int64), *(part["row"] for part in problems)])
    is_bad = row.is_in(bad_rows.implode())
    return RowPart(rows, problems, is_bad, is_readable, digest, given.hash())


def _problem(row: pl.Series, ids: pl.Series, where: pl.Series, reason: str, detail: pl.Series) -> pl.DataFrame:
    columns = {"row": row.filter(where), "id_str": ids.filter(where), "detail": detail.filter(where)}
    return (
        pl.DataFrame(columns)
        .with_columns(reason=pl.lit(reason), image=pl.lit(None, pl.String))
        .select(DROPPED_SCHEMA.keys())
    )


def _from_counts(
    path: Path,
    frame: pl.DataFrame,
    mapping: MappingFile,
    tree: Tree,
    report: Report,
    mismatches: dict[str, int] | None,
    gaps: _Gaps,
) -> tuple[IntArray, IntArray]:
    """Return counts and totals from a table of counts."""
    n = frame.height
    votes = np.zeros((n, len(tree.columns)), np.int64)
    is_any_fractional = pl.repeat(False, n, eager=True)
    read: dict[str, Counts] = {}
    for i, name in enumerate(tree.columns):
        if name in mapping.answers:
            read[name] = counts(frame, mapping.answers[name], report)
            votes[:, i] = read[name].values
            is_any_fractional = is_any_fractional | read[name].is_fractional
    unasked = _unasked(tree, read, votes)
    for name, one in read.items():
        question = tree.questions[tree.question_of_answer[tree.columns.index(name)]].name
        report(one.is_missing & ~unasked[question], "count missing", one.details)
    gaps.n_unasked.update({name: int(where.sum()) for name, where in unasked.items() if where.any()})
    gaps.n_partial = int(_partial(tree, read, n).sum())
    gaps.has_zero = any(bool(((one.values == 0) & one.is_valid.to_numpy()).any()) for one in read.values())
    if is_any_fractional.sum() * 2 > n:
        check_values_not_cumulative(path, frame, mapping.answers, tree)
        raise TableError(
            f"'{path}' contains fractions: {is_any_fractional.sum()} of {n} rows have a vote count that is not an "
            "integer.",
            "vote counts as integers.",
            "Use the unweighted count columns; or, if these are plain fractions and the table contains the total votes "
            'on each question, add `values = "fractions"` and [totals] to the mapping file.',
        )
    totals = tree.totals(votes)
    for i, question in enumerate(tree.questions):
        if question.name not in mapping.totals:
            continue
        column = mapping.totals[question.name]
        total = counts(frame, column, report)
        given = total.values
        report(total.is_missing & ~unasked[question.name], "count missing", total.details)
        own = votes[:, tree.slice(question.name)]
        if question.multiple:
            wrong, totals[:, i] = given < own.max(axis=1), np.maximum(given, own.max(axis=1))
            rule = "below the votes for one answer"
        else:
            wrong, rule = given != totals[:, i], "not the sum of the answers"
        wrong &= ~(total.is_missing & unasked[question.name]).to_numpy()
        if mismatches is not None:
            mismatches[question.name] = int(wrong.sum())
        else:
            report(pl.Series(wrong), "total does not match", partial(compared, column, given, rule, totals[:, i]))
    return votes, totals


def _partial(tree: Tree, read: Mapping[str, Counts], n: int) -> pl.Series:
    """Return the rows in which some answers of a question have a count, and others are missing."""
    found = np.zeros(n, bool)
    for question in tree.questions:
        own = [read[name] for name in question.columns if name in read]
        if any(one.is_missing.any() for one in own):
            missing, valid = (np.any([getattr(one, what) for one in own], 0) for what in ("is_missing", "is_valid"))
            found |= missing & valid
    return pl.Series(found)


def _unasked(tree: Tree, read: Mapping[str, Counts], votes: IntArray) -> dict[str, pl.Series]:
    """Return for each question the rows without any count of it because its parent answers have no votes.

    Where nobody was asked, some tables have a gap in place of 0. A gap is 0 only if the parent answers are known.
    """
    found: dict[str, pl.Series] = {}
    n = len(votes)
    for question in tree.ordered:
        own = [read[name] for name in question.columns if name in read]
        is_gap = pl.repeat(bool(own), n, dtype=pl.Boolean, eager=True)
        for one in own:
            is_gap = is_gap & one.is_missing
        if not question.parents or not set(question.parents) <= set(read) or not is_gap.any():
            found[question.name] = pl.repeat(False, n, eager=True)
            continue
        for name in question.parents:
            place = tree.columns.index(name)
            parent = tree.questions[tree.question_of_answer[place]].name
            is_gap = is_gap & (read[name].is_valid | found[parent]) & pl.Series(votes[:, place] == 0)
        found[question.name] = is_gap
    return found


def _from_fractions(
    path: Path,
    frame: pl.DataFrame,
    mapping: MappingFile,
    tree: Tree,
    report: Report,
    mismatches: dict[str, int] | None,
    gaps: _Gaps,
) -> tuple[IntArray, IntArray]:
    """Return counts and totals from a table of plain fractions, if each count is an integer and all add up."""
    n = frame.height
    votes = np.zeros((n, len(tree.columns)), np.int64)
    totals = np.zeros((n, len(tree.questions)), np.int64)
    for i, question in enumerate(tree.questions):
        if question.name not in mapping.totals:
            continue
        total_column = mapping.totals[question.name]
        read = counts(frame, total_column, report)
        report(read.is_missing, "count missing", read.details)
        total, has_total = read.values, read.is_valid.to_numpy()
        has_votes = has_total & (total > 0)
        is_known, is_wrong = has_total.copy(), np.zeros(n, bool)
        for column_index, name in enumerate(question.columns, tree.slice(question.name).start):
            column = mapping.answers[name]
            text, number, is_missing = numbers(frame, column)
            details = partial(shown, column, text)
            is_text = (number.is_null() & ~is_missing).to_numpy()
            is_gap = is_missing.to_numpy() & has_votes
            fraction = number.fill_nan(None).fill_null(0.0).to_numpy()
            is_outside = (fraction < 0) | (fraction > 1 + 1e-6)
            exact = np.asarray(np.where(is_outside | is_text, 0.0, fraction), np.float64) * total.astype(np.float64)
            votes[:, column_index] = np.round(exact)
            is_off = ~is_outside & (np.abs(exact - votes[:, column_index]) > mapping.tolerance)
            is_nonzero = has_total & (total == 0) & (fraction > 0) & ~is_outside
            report(pl.Series(is_gap), "fraction missing", details)
            report(pl.Series(is_text), "fraction is not a number", details)
            report(pl.Series(is_outside), "fraction not within 0 to 1", details)
            report(pl.Series(is_off), "fraction x total not an integer", partial(_not_integer, details, total, exact))
            zero_details = partial(shown, column, text, f", but {total_column} = 0")
            report(pl.Series(is_nonzero), "fraction without votes", zero_details)
            is_known &= ~(is_gap | is_text)
            is_wrong |= is_outside | is_off | is_nonzero
        own = votes[:, tree.slice(question.name)]
        summed = own.sum(axis=1)
        is_short = np.zeros(n, bool) if question.multiple else is_known & ~is_wrong & (summed != total)
        if mismatches is not None:
            is_empty = has_votes & (summed == 0) if question.multiple else is_short
            mismatches[question.name] = int((is_short | is_empty).sum())
            totals[:, i] = total if question.multiple else summed
            continue
        details = partial(compared, total_column, total, "not the sum of the answers", summed)
        report(pl.Series(is_short), "fractions do not add up to the total", details)
        n_voted, n_wrong = int(has_votes.sum()), int((is_wrong | is_short).sum())
        if n_wrong > max(1, MAX_INVALID_FRACTION * max(n_voted, n_wrong)):
            check_values_not_cumulative(path, frame, mapping.answers, tree)
            row = int(np.argmax(is_wrong | is_short))
            raise TableError(
                f"'{path}': fraction x total does not give integer votes that add up to the total of '{question.name}' "
                f"in {n_wrong:,} of {n_voted:,} rows with votes (first: row {row + 1}, total {total[row]}, sum "
                f"{int(own[row].sum())}).",
                f"plain fractions of '{total_column}', to within {mapping.tolerance} votes. Weighted or rounded "
                "fractions, and fractions of another total, do not give vote counts.",
                "Use the table of counts, correct the column under [totals], or omit the question.",
            )
        if n_voted > 1 and not own.any():
            raise TableError(
                f"'{path}': '{total_column}' is above 0 in {n_voted:,} rows, but no answer of '{question.name}' has a "
                "vote in any row.",
                "votes where the total is above 0.",
                "Omit the question, and add its columns to the `ignore` list.",
            )
        totals[:, i] = total
    return votes, totals


def _not_integer(details: Details, total: IntArray, votes: FloatArray) -> pl.Series:
    return details() + pl.Series([f" of {one} votes is {two:.3f}" for one, two in zip(total, votes, strict=True)])


def _duplicates(rows: pl.DataFrame, digest: pl.Series, given: pl.Series, is_bad: pl.Series) -> list[pl.DataFrame]:
    """Keep the first of several equal rows; drop all rows that contradict each other, or of which some are bad.

    Identifiers that are equal only as they were read, such as 12 and 12.0, may be those of two galaxies.
    """
    is_several = rows.select(pl.struct("dataset_name", "id_str").is_duplicated()).to_series() & (rows["id_str"] != "")
    keyed = (
        rows.with_columns(is_bad=is_bad, votes=digest, given=given)
        .filter(is_several)
        .with_columns(key=pl.struct("dataset_name", "id_str").rank("dense"))
        .with_columns(
            first=pl.col("row").min().over("key"),
            n_kinds=pl.struct("votes", "image", "is_bad").n_unique().over("key"),
            n_given=pl.col("given").n_unique().over("key"),
            all_rows=pl.col("row").cast(pl.String).str.join(", ").over("key"),
        )
    )
    if keyed.height == 0:
        return []
    is_apart = pl.Series(sky.is_apart(keyed["key"].to_numpy(), keyed["ra"].to_numpy(), keyed["dec"].to_numpy()))
    row, ids = keyed["row"], keyed["id_str"].str.slice(0, MAX_IDENTIFIER)
    details = "id_str " + keyed["id_str"] + " is in rows " + keyed["all_rows"]
    is_written_otherwise = keyed["n_given"] > 1
    differ = (keyed["n_kinds"] > 1) & ~is_written_otherwise
    return [
        _problem(row, ids, is_written_otherwise, "identifier equal to another that is written otherwise", details),
        _problem(row, ids, differ, "duplicate identifier with different votes or images", details),
        _problem(
            row,
            ids,
            ~differ & ~is_written_otherwise & is_apart,
            "duplicate identifier at different positions",
            details
            + pl.select(pl.format(": ra {}, dec {} here", keyed["ra"].round(5), keyed["dec"].round(5))).to_series(),
        ),
        _problem(
            row,
            ids,
            ~differ & ~is_written_otherwise & ~is_apart & (row > keyed["first"]),
            "duplicate identifier with the same votes",
            details,
        ),
    ]
