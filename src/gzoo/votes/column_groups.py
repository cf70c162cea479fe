"""Groups of table columns that look like the answers of one question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.trees.labels import answer_likeness, likeness, tokens
from gzoo.trees.tree import IntArray, Question, Tree
from gzoo.votes.cells import floats, numbers
from gzoo.votes.column_checks import WEIGHTED

_SUFFIX = re.compile(
    r"[_\-. ](?P<suffix>(?:un)?weighted[_\-. ]fraction|debiased(?:[_\-. ]\w+)?|weight(?:ed|s)?|fractions?|fracs?|"
    r"total[_\-. ]votes|totals?|counts?|votes|flag)$",
    re.IGNORECASE,
)
_TASK = re.compile(r"^(?P<question>t(?P<task>\d{1,2})(?:[_\-. ].*?)??)[_\-. ]a\d{1,2}(?:[_\-. ](?P<answer>.+))?$", re.I)
_TASK_NUMBER = re.compile(r"t(\d{1,2})(?:[_\-. ]|$)", re.IGNORECASE)
_UNINFORMATIVE = re.compile(r"|[a-z]{0,8}[\W_]*\d+", re.IGNORECASE)  # names of groups such as none, q3, task_3
# Task numbers of the Galaxy Zoo 2 lineage of trees (Willett et al. 2013, 2017), without the campaign's suffix
_TASKS = {
    1: "smooth-or-featured", 2: "disk-edge-on", 3: "bar", 4: "has-spiral-arms", 5: "bulge-size", 6: "something-odd",
    7: "how-rounded", 8: "odd-features", 9: "bulge-shape", 10: "spiral-winding", 11: "spiral-arm-count",
    14: "clumpy-appearance", 16: "one-clump-brightest", 17: "brightest-clump-central", 18: "clump-configuration",
    19: "clump-count", 20: "galaxy-symmetrical", 21: "clumps-embedded-larger-object",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class VoteColumn:
    """Column that may contain votes; `stem` is its name without a suffix, `kind` "count", "fraction", "total" or ""."""

    name: str
    position: int
    stem: str
    kind: str


@dataclass(frozen=True, eq=False)
class Group:
    """Columns of a table that look like the answers of one question.

    Attributes:
        start: The part of the names that the columns have in common.
        columns: Names of the columns.
        labels: The other part of each name, as tokens.
        kind: "count", "fraction" or "total".
        counts: Vote counts, shape (row, column).
        total: Column of the total votes that fractions were multiplied by, or "".
    """

    start: str
    columns: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    kind: str
    counts: IntArray = field(repr=False)
    total: str = ""

    @property
    def is_uninformative(self) -> bool:
        """Whether the common part of the names does not describe a question."""
        return _UNINFORMATIVE.fullmatch(self.start) is not None

    @property
    def with_votes(self) -> list[int]:
        """Indices of the columns with a vote in any row."""
        return np.flatnonzero(self.counts.any(axis=0)).tolist()

    def topic_likeness(self, question: Question, tree: Tree) -> float:
        """Return how well the common part of the names matches a question's name, 0 to 1."""
        plain = _plain_name(question, tree)
        task = _TASK_NUMBER.match(self.start)
        start = self.start[task.end() :] if task else self.start
        like = likeness(tokens(start), tokens(plain)) if start else 0.0
        if self.start.lower() == question.name.lower():
            like = 1.0
        return max(like, 0.7) if task and _TASKS.get(int(task[1])) == plain else like

    def name_score(self, question: Question, tree: Tree, *, has_votes: bool = True) -> float:
        """Return how well the names match a question, 0 to 1; -1 if the numbers of answers differ."""
        n, k = len(self.columns), len(question.columns)
        if n < k or (n > k and has_votes and len(self.with_votes) > k):
            return -1.0
        _, alike = matched(self.labels, question, tree)
        return 0.5 * self.topic_likeness(question, tree) + 0.5 * float(np.mean(alike)) - 0.1 * (n - k)


def question_tokens(question: Question, tree: Tree) -> tuple[str, ...]:
    """Return the tokens of a question's name, without the campaign's suffix."""
    return tokens(_plain_name(question, tree))


def _plain_name(question: Question, tree: Tree) -> str:
    """Return `bar` for `bar-gz2`: the name without a suffix that many questions have."""
    start, _, end = question.name.rpartition("-")
    return start if start and sum(one.name.endswith(f"-{end}") for one in tree.questions) > 2 else question.name


def matched(labels: Sequence[tuple[str, ...]], question: Question, tree: Tree) -> tuple[tuple[int, ...], list[float]]:
    """Return the label that matches each answer best (each label once), and how well it does."""
    from scipy.optimize import linear_sum_assignment

    about = question_tokens(question, tree)
    alike = np.array([[answer_likeness(label, answer, about) for label in labels] for answer in question.answers])
    tie = 1e-3 * np.abs(np.subtract.outer(np.arange(len(question.answers)), np.arange(len(labels))))  # keep the order
    _, chosen = linear_sum_assignment(tie - alike)
    order = tuple(int(i) for i in chosen)
    return order, [float(alike[answer, label]) for answer, label in enumerate(order)]


def vote_columns(frame: pl.DataFrame, free: Collection[str]) -> tuple[list[VoteColumn], dict[str, str]]:
    """Return the columns that may contain votes, and why the others do not."""
    found: list[VoteColumn] = []
    rejected: dict[str, str] = {}
    for position, name in enumerate(frame.columns):
        if name not in free:
            continue
        end = _SUFFIX.search(name)
        suffix = end["suffix"].lower() if end else ""
        kind = "count" if suffix else ""
        kind = "fraction" if suffix.startswith("frac") else "total" if suffix.startswith("total") else kind
        content = _content(frame, name)
        if WEIGHTED.search(name):
            rejected[name] = "weighted or debiased: vote counts cannot be recovered"
        elif not content or suffix == "flag":
            rejected[name] = "a flag" if suffix == "flag" else "not vote counts"
        elif content == "fraction" and kind in {"count", "total"}:
            rejected[name] = "named a count, but contains fractions"
        else:
            stem = name[: end.start()] if end else name
            found.append(VoteColumn(name, position, stem, kind or ("fraction" if content == "fraction" else "")))
    return found, rejected


def _content(frame: pl.DataFrame, name: str) -> str:
    """Return what the cells of a column are: "count", "fraction", "either" or ""."""
    if not (frame.schema[name].is_numeric() or frame.schema[name] == pl.String):
        return ""
    _, number, is_missing = numbers(frame, name)
    known = number.fill_nan(None).drop_nulls().to_numpy()
    is_text = (number.is_null() & ~is_missing).to_numpy()
    if not len(known) or (known < 0).any() or is_text.mean() > 0.2:
        return ""
    is_small = bool((known <= 1.0 + 1e-6).all())
    if (known == np.round(known)).mean() >= 0.9 and (known < 2**31).all():
        return "either" if is_small else "count"
    return "fraction" if is_small else ""


def values_of(frame: pl.DataFrame, name: str) -> npt.NDArray[np.float64]:
    """Return the numbers of a column that may contain votes, 0 if missing."""
    return floats(frame, name).clip(0, 2.0**31)


def find_groups(frame: pl.DataFrame, columns: Sequence[VoteColumn], tree: Tree) -> list[Group]:
    """Group the columns of one question by the first parts of their names."""
    question_names = [question_tokens(question, tree) for question in tree.questions]
    exact = {column: (question.name, column.removeprefix(f"{question.name}_"))
             for question in tree.questions for column in question.columns}  # fmt: skip
    splits: dict[str, list[tuple[str, str]]] = {}
    for column in columns:
        stem = column.stem
        if stem in exact:
            splits[column.name] = [exact[stem]]
        elif task := _TASK.match(stem):
            splits[column.name] = [(task["question"], task["answer"] or "")]
        else:
            signs = [one.span() for one in re.finditer(r"[_\-. :]+", stem)]
            splits[column.name] = [(stem[:a], stem[b:]) for a, b in signs if a > 0 and b < len(stem)]
    n_with_start = Counter((start, column.kind) for column in columns for start, _ in splits[column.name])

    def worth(pair: tuple[str, str]) -> tuple[float, int]:
        like = max(likeness(tokens(pair[0]), name) for name in question_names)
        return (like if like >= 0.6 else 0.0), len(pair[0])

    members: dict[tuple[str, str], list[tuple[VoteColumn, str]]] = {}
    loose: list[VoteColumn] = []
    for column in columns:
        common = [pair for pair in splits[column.name] if n_with_start[pair[0], column.kind] > 1 and pair[1]]
        if common:
            start, label = max(common, key=worth)
            members.setdefault((start, column.kind), []).append((column, label))
        else:
            loose.append(column)
    groups = [_group(frame, start, kind, cells) for (start, kind), cells in members.items()]
    return groups + _adjacent_groups(frame, loose, tree)


def _adjacent_groups(frame: pl.DataFrame, loose: Sequence[VoteColumn], tree: Tree) -> list[Group]:
    """Group adjacent columns that are named for an answer alone (`smooth`, `yes`)."""
    found: list[Group] = []
    questions = sorted(tree.questions, key=lambda question: -len(question.columns))
    i = 0
    while i < len(loose):
        for question in questions:
            run = loose[i : i + len(question.columns)]
            labels = [tokens(column.stem) for column in run]
            is_run = len(run) == len(question.columns) and run[-1].position - run[0].position == len(run) - 1
            if is_run and min(matched(labels, question, tree)[1]) >= 0.8:
                found.append(_group(frame, "", run[0].kind, [(column, column.stem) for column in run]))
                i += len(run)
                break
        else:
            i += 1
    return found


def _group(frame: pl.DataFrame, start: str, kind: str, members: Sequence[tuple[VoteColumn, str]]) -> Group:
    values = np.stack([values_of(frame, column.name) for column, _ in members], axis=1)
    return Group(
        start=start,
        columns=tuple(column.name for column, _ in members),
        labels=tuple(tokens(label) for _, label in members),
        kind=kind or "count",
        counts=(np.zeros_like(values) if kind == "fraction" else np.round(values)).astype(np.int64),
    )


def with_totals(
    frame: pl.DataFrame, groups: Sequence[Group], columns: Sequence[VoteColumn], tolerance: float
) -> tuple[list[Group], list[Group]]:
    """Return the groups with counts, and those of fractions for which no column of totals gives integer counts."""
    used = {name for group in groups for name in group.columns}
    candidates = [column for column in columns if column.name not in used and column.kind != "fraction"]
    done = [group for group in groups if group.kind != "fraction"]
    rest: list[Group] = []
    for group in groups:
        if group.kind != "fraction":
            continue
        fractions = np.stack([values_of(frame, name) for name in group.columns], axis=1)
        for column in sorted(candidates, key=partial(_common_start_rank, group.columns[0]))[:3]:
            total = values_of(frame, column.name)
            votes = fractions * total[:, None]
            counts = np.round(votes)
            has_votes = total > 0
            is_good = (np.abs(votes - counts) <= tolerance).all(axis=1) & (counts.sum(axis=1) == total)
            if has_votes.any() and is_good[has_votes].mean() >= 0.95 and not fractions[~has_votes].any():
                done.append(replace(group, counts=counts.astype(np.int64), total=column.name))
                break
        else:
            rest.append(group)
    return done, rest


def _common_start_rank(name: str, column: VoteColumn) -> int:
    """Return the negative length of the common start, to sort the most similar names first."""
    return -sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(name, column.stem, strict=False)))
