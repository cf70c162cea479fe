"""Votes: whole counts of volunteers, bound to a tree; and how they are read from a table.

Counts stay counts of people. What cannot be one (negative, fractional, missing, text) takes its row out of the
dataset, with the reason.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.campaign import Campaign
from gzoo.campaign import campaign as campaign_of
from gzoo.errors import InputError, MissingError, TableError
from gzoo.trees import FloatArray, IntArray, Tree

LARGEST_COUNT = 2**31 - 1
DROPPED_SCHEMA = {"id_str": pl.String, "row": pl.Int64, "picture": pl.String, "reason": pl.String, "detail": pl.String}


@dataclass(frozen=True)
class Votes:
    """Counts of volunteers per galaxy and answer.

    Attributes:
        tree: The questions, which give the columns their meaning.
        counts: Shape (galaxy, answer), columns as `tree.columns`.
        totals: People asked, shape (galaxy, question); by default `tree.totals(counts)`.
        collected: Questions whose votes are known; by default all.

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
    collected: tuple[str, ...] | None = None

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
            is_known = self.collected is None or owners.issubset(self.collected)
            if parents and len(parents) == len(question.parents) and is_known:
                breaks[:, i] = self.totals[:, i] > self.counts[:, list(parents)].sum(axis=1)
        return breaks

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Votes:
        """The votes of some galaxies."""
        return Votes(self.tree, self.counts[rows], self.totals[rows], self.collected)


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a table is which column of the dataset: the content of a mapping file.

    Attributes:
        id_str: Column of the identifier.
        image: Column of the picture's file name, or "" to look for `{id_str}.jpg`, `.jpeg` or `.png`.
        ra: Column of the right ascension in degrees, or "".
        dec: Column of the declination in degrees, or "".
        dataset_name: Column of the dataset's name, or "".
        answers: Dataset column -> table column.
        totals: Question -> table column with the people asked.
        ignore: Patterns (`t0*_fraction`) of table columns to leave out on purpose.
        source: Name of the mapping file, or "".
    """

    id_str: str = "id_str"
    image: str = ""
    ra: str = ""
    dec: str = ""
    dataset_name: str = ""
    answers: Mapping[str, str] = field(default_factory=dict[str, str])
    totals: Mapping[str, str] = field(default_factory=dict[str, str])
    ignore: tuple[str, ...] = ()
    source: str = ""

    @classmethod
    def read(cls, path: Path) -> Columns:
        """The mapping in a TOML file.

        Raises:
            MissingError: There is no such file.
            TableError: It is not TOML, or holds keys that are no part of a mapping.
        """
        if not path.is_file():
            raise MissingError(f"There is no mapping file {path}.", "A TOML file.", "Check --columns.")
        try:
            facts = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TableError(
                f"{path} is not TOML: {error}.", 'Lines such as `id_str = "objid"`.', "Mend the file."
            ) from error
        texts = {"id_str", "image", "ra", "dec", "dataset_name"}
        for key, value in facts.items():
            fits = (
                isinstance(value, str)
                if key in texts
                else isinstance(value, list) and all(isinstance(item, str) for item in cast(list[object], value))
                if key == "ignore"
                else key in {"answers", "totals"}
                and isinstance(value, dict)
                and all(isinstance(item, str) for item in cast(dict[str, object], value).values())
            )
            if not fits:
                raise TableError(
                    f"{path} has {key} = {value!r}.",
                    f"Texts for {', '.join(sorted(texts))}; a list of texts for ignore; tables of texts for "
                    "[answers] and [totals].",
                    "Mend or remove that line.",
                )
        ignore = tuple(cast(list[str], facts.pop("ignore", [])))
        return cls(**cast("dict[str, str]", facts), ignore=ignore, source=path.name)  # type: ignore[arg-type]

    @classmethod
    def by_name(cls, columns: list[str], campaign: Campaign) -> Columns:
        """The mapping of a table whose columns already bear the dataset's names."""
        questions = campaign.tree.questions
        return cls(
            image=next((name for name in ("filename", "file_name") if name in columns), ""),
            ra="ra" if "ra" in columns else "",
            dec="dec" if "dec" in columns else "",
            dataset_name="dataset_name" if "dataset_name" in columns else "",
            answers={name: name for question in questions for name in question.columns if name in columns},
            totals={question.name: question.total_column for question in questions if question.total_column in columns},
            ignore=("image", "summary", *(f"{name}_fraction" for name in campaign.tree.columns)),
        )


@dataclass(frozen=True)
class VoteTable:
    """A vote table that was read, checked and cleaned.

    Attributes:
        votes: Of the rows that are used.
        rows: One row each: `row` (number in the table, the first is 1), `id_str`, `dataset_name`, `image`, `ra`,
            `dec` (degrees, NaN where not known).
        dropped: The rows that are not used: columns `DROPPED_SCHEMA`.
        n_rows: Rows in the table.
        collected: Questions for which the table has votes.
        left_out: Columns of the table that play no part.
    """

    votes: Votes
    rows: pl.DataFrame
    dropped: pl.DataFrame
    n_rows: int
    collected: tuple[str, ...]
    left_out: tuple[str, ...]


def read_votes(path: Path | str, campaign: Campaign, columns: Path | str | None = None) -> VoteTable:
    """Votes from a CSV or Parquet table.

    Args:
        path: The table, one row a galaxy, one column of whole counts an answer.
        campaign: Whose tree the counts belong to.
        columns: Mapping file (see `Columns`), for a table whose columns have names of their own.

    Returns:
        The used rows, and the others with a reason each.

    Raises:
        MissingError: A file is not there.
        TableError: The table cannot be read, has no rows, lacks a column, has one that nobody accounts for, or
            holds fractions where counts are needed.
    """
    path = Path(path)
    frame = _read_frame(path)
    if frame.height == 0:
        raise TableError(f"{path} has no rows.", "At least one galaxy.", "Check the file.")
    mapping = Columns.read(Path(columns)) if columns else Columns.by_name(frame.columns, campaign)
    left_out = _check_columns(path, frame, mapping, campaign)
    tree = campaign.tree

    problems: list[pl.DataFrame] = []
    frame = frame.with_row_index("gzoo row", offset=1)
    row = frame["gzoo row"].cast(pl.Int64)
    ids = _text(frame, mapping.id_str)
    n = frame.height

    def report(bad: pl.Series, reason: str, detail: pl.Series) -> None:
        where = bad.fill_null(False)
        if where.any():
            problems.append(
                pl.DataFrame({"row": row.filter(where), "id_str": ids.filter(where), "detail": detail.filter(where)})
                .with_columns(reason=pl.lit(reason), picture=pl.lit(None, pl.String))
                .select(DROPPED_SCHEMA.keys())
            )

    report(ids == "", "identifier missing", _words(n, f"column {mapping.id_str} is empty"))
    counts = np.zeros((n, len(tree.columns)), np.int64)
    n_fractional = pl.repeat(False, n, eager=True)
    for i, name in enumerate(tree.columns):
        if name in mapping.answers:
            counts[:, i], fractional = _counts(frame, mapping.answers[name], report)
            n_fractional = n_fractional | fractional
    if n_fractional.sum() * 2 > n:
        raise TableError(
            f"{path} holds fractions, not counts: {n_fractional.sum()} of {n} rows have a vote that is not whole.",
            "Whole numbers of people.",
            "Use the unweighted count columns; fractions say nothing of how many people voted.",
        )
    totals = tree.totals(counts)
    for i, question in enumerate(tree.questions):
        if question.name not in mapping.totals:
            continue
        column = mapping.totals[question.name]
        given, _ = _counts(frame, column, report)
        own = counts[:, tree.slice(question.name)]
        if question.multiple:
            wrong, totals[:, i] = given < own.max(axis=1), np.maximum(given, own.max(axis=1))
            rule = "below the votes of one answer"
        else:
            wrong, rule = given != totals[:, i], "not the sum of the answers"
        said = [f"{column} = {one}, {rule} ({two})" for one, two in zip(given, totals[:, i], strict=True)]
        report(pl.Series(wrong), "total does not fit", pl.Series(said))
    too_many = (totals > LARGEST_COUNT).any(axis=1)
    report(
        pl.Series(np.asarray(too_many)),
        "count too large",
        _words(n, f"votes of one question add up to over {LARGEST_COUNT}"),
    )
    ra, dec = _degrees(frame, mapping.ra, 0.0, 360.0, report), _degrees(frame, mapping.dec, -90.0, 90.0, report)
    rows = pl.DataFrame(
        {
            "row": row,
            "id_str": ids,
            "dataset_name": _text(frame, mapping.dataset_name) if mapping.dataset_name else _words(n, campaign.name),
            "image": _text(frame, mapping.image) if mapping.image else _words(n, ""),
            "ra": ra,
            "dec": dec,
        }
    )
    is_bad = row.is_in(pl.concat(part["row"] for part in problems).implode()) if problems else row < 0
    _report_duplicates(rows, counts, is_bad, report)

    dropped = (
        pl.concat([pl.DataFrame(schema=DROPPED_SCHEMA), *problems])
        .group_by("row", maintain_order=True)
        .agg(pl.col("id_str", "picture", "reason").first(), pl.col("detail").unique(maintain_order=True).str.join("; "))
        .select(DROPPED_SCHEMA.keys())
        .sort("row")
    )
    used = ~row.is_in(dropped["row"].implode())
    collected = tuple(question.name for question in tree.questions if question.columns[0] in mapping.answers)
    votes = Votes(tree, counts[used.to_numpy()], totals[used.to_numpy()], collected)
    return VoteTable(votes, rows.filter(used), dropped, n, collected, left_out)


@dataclass(frozen=True, slots=True)
class Audit:
    """How well a table's votes fit the campaign's tree.

    Attributes:
        n_rows: Rows in the table.
        n_used: Rows with an identifier and whole counts.
        n_dropped: The others, by reason.
        n_breaks: Used rows in which some question has more votes than the answers that lead to it.
        n_breaks_of: The same for each question that the table has votes for.
        n_asked_of: Rows with votes on each of these questions.
        rows_breaking: Numbers of the rows that break the tree's rule, the first row of the table is 1.
    """

    n_rows: int
    n_used: int
    n_dropped: Mapping[str, int]
    n_breaks: int
    n_breaks_of: Mapping[str, int]
    n_asked_of: Mapping[str, int]
    rows_breaking: tuple[int, ...]


def audit(table: Path | str, campaign: str, *, columns: Path | str | None = None) -> Audit:
    """How many rows of a vote table break the rule of the campaign's tree.

    The rule: no question has more votes than the answers that lead to it. Raw clicks break it in a few rows; a table
    that breaks it in many has misnamed columns, or is of another tree.

    Args:
        table: CSV or Parquet table of whole counts.
        campaign: Name of the campaign.
        columns: Mapping file, for a table with column names of its own.

    Raises:
        MissingError: A file or the campaign is not there.
        TableError: The table cannot be used.
    """
    read = read_votes(table, campaign_of(campaign), columns)
    reasons = read.dropped["reason"].value_counts().sort("reason")
    breaks = read.votes.breaks
    is_breaking = pl.Series(np.asarray(breaks.any(axis=1)))
    is_collected = [(i, q.name) for i, q in enumerate(read.votes.tree.questions) if q.name in read.collected]
    return Audit(
        n_rows=read.n_rows,
        n_used=len(read.votes),
        n_dropped=dict(reasons.iter_rows()),
        n_breaks=int(is_breaking.sum()),
        n_breaks_of={name: int(breaks[:, i].sum()) for i, name in is_collected},
        n_asked_of={name: int((read.votes.totals[:, i] > 0).sum()) for i, name in is_collected},
        rows_breaking=tuple(read.rows["row"].filter(is_breaking).to_list()),
    )


def _read_frame(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise MissingError(f"There is no vote table {path}.", "A CSV or Parquet file.", "Check --votes.")
    kind = path.suffix.lower()
    if kind not in {".csv", ".parquet"}:
        raise TableError(f"{path} is a '{kind}' file.", "A .csv or .parquet file.", "Convert the table first.")
    try:
        if kind == ".parquet":
            return pl.read_parquet(path, glob=False)
        return pl.read_csv(path, glob=False, infer_schema=False, truncate_ragged_lines=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, pl.exceptions.NoDataError):
            raise TableError(f"{path} is empty.", "A header and one row a galaxy.", "Check the file.") from error
        said = (str(error).splitlines() or ["damaged"])[0]
        raise TableError(f"{path} cannot be read: {said}", f"A sound {kind} table.", "Mend the file.") from error


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
    named = [mapping.id_str, mapping.image, mapping.ra, mapping.dec, mapping.dataset_name]
    named += [*mapping.answers.values(), *mapping.totals.values()]
    missing = [name for name in named if name and name not in frame.columns]
    if missing:
        raise TableError(
            f"{path} has no column '{missing[0]}', which {where} asks for.",
            f"Its columns: {_some(frame.columns)}.",
            "Write a mapping file and pass it with --columns." if not mapping.source else f"Mend {where}.",
        )
    twice = sorted({name for name in named if name and named.count(name) > 1})
    if twice:
        raise TableError(
            f"{where} uses column '{twice[0]}' of {path} twice.", "Each column has one meaning.", "Mend the mapping."
        )
    if not mapping.answers:
        raise TableError(
            f"{path} has no column of votes that {where} knows.",
            f"Columns such as {tree.columns[0]}; it has {_some(frame.columns)}.",
            "Write a mapping file and pass it with --columns.",
        )
    for question in tree.questions:
        absent = [column for column in question.columns if column not in mapping.answers]
        if absent and len(absent) < len(question.columns):
            raise TableError(
                f"{path}: {where} gives some answers of {question.name}, but not '{absent[0]}'.",
                "All answers of a question or none: without one, every fraction of it is wrong.",
                "Map the missing answer, or leave the question out.",
            )
        if absent and question.name in mapping.totals:
            raise TableError(
                f"{path}: {where} gives the total of {question.name}, but not its answers.",
                "A total only with its answers.",
                "Map the answers, or list the total in a mapping file's `ignore`.",
            )
    for name in named:
        kind = frame.schema[name] if name else pl.String()
        if not kind.is_numeric() and kind.base_type() not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
            raise TableError(
                f"{path}: column '{name}' holds {kind}.", "Numbers or texts.", "Convert the column to one of these."
            )
    rest = [name for name in frame.columns if name not in named]
    left_out = [name for name in rest if any(fnmatchcase(name, pattern) for pattern in mapping.ignore)]
    strangers = [name for name in rest if name not in left_out]
    if strangers:
        raise TableError(
            f"{path} has {len(strangers)} column(s) that nothing accounts for: {_some(strangers)}.",
            f"Columns of the {campaign.name} record, or of the mapping.",
            "Name them in the mapping file given with --columns, or list them (patterns allowed) in its `ignore`.",
        )
    return tuple(left_out)


_Report = Callable[[pl.Series, str, pl.Series], None]
"""Takes rows out of a table: which rows, the reason, and the detail of each row."""


def _counts(frame: pl.DataFrame, column: str, report: _Report) -> tuple[IntArray, pl.Series]:
    """Whole counts of one column (0 where they are not), and where they are fractional."""
    raw = frame[column]
    text = raw.cast(pl.String, strict=False).fill_null("").str.strip_chars()
    number = raw.cast(pl.Float64, strict=False) if raw.dtype.is_numeric() else text.cast(pl.Float64, strict=False)
    is_missing = (text == "") | (text.str.to_lowercase() == "nan") | number.is_nan().fill_null(False)
    is_text = number.is_null() & ~is_missing
    number = number.fill_nan(None).fill_null(0.0)
    is_negative = number < 0
    is_large = number > LARGEST_COUNT
    is_fractional = ~is_large & (number != number.round())
    said = pl.Series([f"{column} = "]).extend_constant(f"{column} = ", len(text) - 1) + text
    for bad, reason in (
        (is_missing, "count missing"),
        (is_text, "count is not a number"),
        (is_negative, "count negative"),
        (is_fractional, "count not whole"),
        (is_large, "count too large"),
    ):
        report(bad, reason, said)
    good = ~(is_missing | is_text | is_negative | is_fractional | is_large)
    return (number * good.cast(pl.Float64)).fill_nan(0.0).cast(pl.Int64).to_numpy(), is_fractional


def _degrees(frame: pl.DataFrame, column: str, low: float, high: float, report: _Report) -> pl.Series:
    """An angle in degrees, NaN where it is not given."""
    if not column:
        return pl.repeat(float("nan"), frame.height, dtype=pl.Float64, eager=True)
    raw = frame[column]
    text = raw.cast(pl.String, strict=False).fill_null("").str.strip_chars()
    value = raw.cast(pl.Float64, strict=False) if raw.dtype.is_numeric() else text.cast(pl.Float64, strict=False)
    is_given = (text != "") & (text.str.to_lowercase() != "nan")
    bad = is_given & (value.is_null() | ~value.is_between(low, high))
    said = pl.Series([f"{column} = "]).extend_constant(f"{column} = ", len(text) - 1) + text
    report(bad, f"position not within {low:g} to {high:g} degrees", said)
    return value.fill_null(float("nan"))


def _report_duplicates(rows: pl.DataFrame, counts: IntArray, is_bad: pl.Series, report: _Report) -> None:
    """The first of several equal rows stays; rows that contradict each other, or of which some are bad, all go."""
    keyed = rows.with_columns(
        is_bad=is_bad,
        key=pl.struct("dataset_name", "id_str").rank("dense"),
        votes=pl.Series([one.tobytes() for one in counts]),
    ).with_columns(
        first=pl.col("row").min().over("key"),
        n=pl.len().over("key"),
        n_kinds=pl.struct("votes", "image", "is_bad").n_unique().over("key"),
        all_rows=pl.col("row").cast(pl.String).str.join(", ").over("key"),
    )
    is_named = keyed["id_str"] != ""
    said = "id_str " + keyed["id_str"] + " stands in rows " + keyed["all_rows"]
    report(is_named & (keyed["n_kinds"] > 1), "identifier twice, with different votes or pictures", said)
    report(is_named & (keyed["n_kinds"] == 1) & (keyed["row"] > keyed["first"]), "identifier twice, same votes", said)


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
