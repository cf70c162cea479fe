"""Audit of votes against a decision tree.

Whoever gives a parent answer of a question is asked it, so the total votes on a question are the votes for its parent
answers. Raw classifications break this rule in a few rows (lost classifications, changed trees). A table that breaks
it in many rows has another tree or misnamed columns, and the votes show which parent answers they agree with
(`gzoo.votes.parents`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gzoo.display import Sheet, Shown, field_values, json_value, table_of
from gzoo.errors import InputError, choices
from gzoo.trees.tree import IntArray, Question, Tree
from gzoo.votes.parents import AS_GOOD, CERTAIN_ROWS, BoolArray, ParentAnswers, agreement, fraction_of, infer_parents
from gzoo.votes.votes import Votes

MIN_CONSISTENT = 0.95
"""Fraction of rows from which parent answers are consistent; in Galaxy Zoo 2 the lowest is 96%."""
MIN_SWAP_GAIN = 0.05
"""Smallest improvement by other column names that is reported."""
N_LISTED = 20
N_SAMPLED = 200_000
"""Rows in which parent answers are searched; those of the tree are checked in all rows."""


@dataclass(frozen=True, slots=True)
class ColumnSwap:
    """Other names of a question's columns with which the votes agree with the tree.

    Attributes:
        answers: Column (as the table names it) -> the answer that it seems to contain.
        fraction: Smallest fraction of rows that agree with the parent answers among these columns after the swap.
        fraction_as_named: The same with the columns as they are named.
        next_fraction: The same for the next best swap.
        kind: "shift" (all names are moved by some positions) or "exchange" (of two names).
        offset: By how many positions the names are shifted.
        is_only: Whether no other swap of that kind fits as well.
    """

    answers: Mapping[str, str]
    fraction: float
    fraction_as_named: float
    next_fraction: float
    kind: str
    offset: int
    is_only: bool

    @property
    def description(self) -> str:
        """The swap as sentences."""
        pairs = ", ".join(f"{column} contains {answer.rpartition('_')[2]}" for column, answer in self.answers.items())
        what = "Two column names seem exchanged"
        if self.kind == "shift":
            what = f"Column names seem shifted by {self.offset} position{'s' if self.offset > 1 else ''}"
        only = f"the only {self.kind} that fits" if self.is_only else f"one of several {self.kind}s that fit"
        return (
            f"{what}: {pairs}. This is {only}: {percent(self.fraction)} of rows are then consistent, "
            f"{percent(self.fraction_as_named)} as named, {percent(self.next_fraction)} with the next best."
        )


@dataclass(frozen=True, slots=True, repr=False)
class QuestionAudit(Shown):
    """Agreement of the votes on one question with the tree.

    Attributes:
        question: Name of the question.
        verdict: "consistent"; "contradicted" (the votes clearly show other parent answers); "inconsistent" (too few
            rows agree with the tree, and no other parent answers are clearly better); "unknown" (too few rows, or a
            parent answer is not in the table).
        description: The verdict as a sentence.
        parents: Parent answers of the tree, () for everyone.
        fraction: Fraction of the checked rows whose total votes are the votes for the parent answers; checked are rows
            with votes on the question or for its parent answers.
        n_checked: Number of checked rows.
        n_inconsistent: Number of checked rows in which the two numbers differ.
        rows: The first of those rows: identifier, total votes, votes for the parent answers.
        inferred_parents: The best parent answers according to the votes, if there are any votes.
        inferred_fraction: Fraction of rows that agree with them.
        is_certain: Whether they are clearly better than any others.
        equivalents: Other parent answers that agree in as many rows, to within half a percentage point.
        n_total_mismatches: Rows whose total in the table is not the sum of the answers.
        swap: Other names of its columns that fit the votes, or None.
    """

    question: str
    verdict: str
    description: str
    parents: tuple[str, ...]
    fraction: float
    n_checked: int
    n_inconsistent: int
    rows: tuple[tuple[str, int, int], ...]
    inferred_parents: tuple[str, ...] | None
    inferred_fraction: float
    is_certain: bool
    equivalents: tuple[tuple[str, ...], ...]
    n_total_mismatches: int
    swap: ColumnSwap | None = None

    @property
    def is_consistent(self) -> bool:
        """Whether the votes agree with the tree here, and with the names of the columns."""
        has_totals = self.n_total_mismatches <= self.n_checked * (1 - MIN_CONSISTENT)
        return self.verdict in ("consistent", "unknown") and self.swap is None and has_totals

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON values, without the list of rows."""
        values = {key: value for key, value in field_values(self).items() if key != "rows"}
        return {**values, "is_consistent": self.is_consistent}

    def sheet(self) -> Sheet:
        """Return the verdict, and the first rows that are not consistent."""
        return Sheet(
            f"Audit of {self.question}: {self.verdict}",
            {"verdict": self.description, "rows checked": self.n_checked, "fraction consistent": self.fraction},
            ("row", "total votes", "expected") if self.rows else (),
            self.rows,
        )


@dataclass(frozen=True, slots=True, repr=False)
class Audit(Shown):
    """Agreement of the votes in a table or dataset with a decision tree.

    Attributes:
        source: Name of the table or folder.
        tree: Name of the tree.
        n_rows: Rows in the table.
        n_used: Rows with an identifier and valid counts.
        n_dropped: Reason -> number of other rows.
        n_breaks: Used rows in which a question has more votes than its parent answers.
        questions: Audit of each question that has votes.
        not_collected: Questions without a vote in any row.
    """

    source: str
    tree: str
    n_rows: int
    n_used: int
    n_dropped: Mapping[str, int]
    n_breaks: int
    questions: tuple[QuestionAudit, ...]
    not_collected: tuple[str, ...]

    @property
    def is_consistent(self) -> bool:
        """Whether the votes agree with the tree and with the names of the columns."""
        return all(one.is_consistent for one in self.questions)

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON values."""
        questions = [{**one.to_dict(), "rows": json_value(one.rows)} for one in self.questions]
        return {**field_values(self), "questions": questions, "is_consistent": self.is_consistent}

    def to_polars(self) -> pl.DataFrame:
        """Return a row for each question."""
        names = ("question", "verdict", "fraction", "n_checked", "n_inconsistent", "n_total_mismatches", "description")
        return table_of({name: getattr(one, name) for name in names} for one in self.questions)

    def sheet(self) -> Sheet:
        """Return the verdict on each question."""
        doubtful = [one.question for one in self.questions if not one.is_consistent]
        return Sheet(
            f"Audit of {self.source}: votes are {'' if self.is_consistent else 'not '}consistent with {self.tree}",
            {
                "rows used": f"{self.n_used:,} of {self.n_rows:,}",
                "not used": self.n_dropped,
                "review": doubtful,
                "without votes": self.not_collected,
            },
            ("question", "verdict", "rows checked", "consistent", "inconsistent"),
            [
                (one.question, one.verdict, one.n_checked, percent(one.fraction) if one.n_checked else None,
                 one.n_inconsistent)
                for one in sorted(self.questions, key=lambda one: one.is_consistent)
            ],
        )  # fmt: skip

    def of(self, question: str) -> QuestionAudit:
        """Return the audit of one question.

        Raises:
            InputError: It is without votes, or does not exist.
        """
        for one in self.questions:
            if one.question == question:
                return one
        names = [one.question for one in self.questions]
        raise InputError(f"Question '{question}' is not in the audit.", choices(names, question))


def audit_votes(
    votes: Votes,
    ids: Sequence[str] | pl.Series,
    *,
    total_mismatches: Mapping[str, int] | None = None,
    names: Mapping[str, str] | None = None,
) -> tuple[tuple[QuestionAudit, ...], tuple[str, ...]]:
    """Audit every question of a tree.

    Args:
        votes: Votes, bound to the tree in question.
        ids: Identifier of each galaxy.
        total_mismatches: Question -> number of rows whose total in the table is not the sum of its answers.
        names: Answer -> the table's own name of its column.

    Returns:
        The audits of the questions that have votes, and the names of the others.
    """
    tree = votes.tree
    voted = [question for i, question in enumerate(tree.questions) if votes.totals[:, i].any()]
    without_votes = tuple(question.name for question in tree.questions if question not in voted)
    if not voted:
        return (), without_votes
    rows = np.arange(len(votes))
    if len(votes) > N_SAMPLED:
        rows = np.sort(np.random.default_rng(0).permutation(len(votes))[:N_SAMPLED])
    counts, totals = votes.counts[rows], votes.totals[rows]
    indices = [tree.questions.index(question) for question in voted]
    inferred = infer_parents(counts, tree.columns, [(one.name, one.columns) for one in voted], totals[:, indices])
    swaps = column_swaps(tree, counts, totals, [one.name for one in voted], names or {})
    return tuple(
        _audited(votes, ids, question, found, swaps, (total_mismatches or {}).get(question.name, 0))
        for question, found in zip(voted, inferred, strict=True)
    ), without_votes


def _audited(
    votes: Votes,
    ids: Sequence[str] | pl.Series,
    question: Question,
    found: ParentAnswers,
    swaps: Mapping[str, ColumnSwap],
    n_mismatches: int,
) -> QuestionAudit:
    tree = votes.tree
    i = tree.questions.index(question)
    parents = list(tree.parents_of_question[i])
    owners = {tree.questions[tree.question_of_answer[one]].name for one in parents}
    is_known = len(parents) == len(question.parents) and (
        votes.collected_questions is None or owners.issubset(votes.collected_questions)
    )
    total = votes.totals[:, i]
    kept, checked = _agreement(votes, i) if is_known else (np.ones(len(votes), bool), total < 0)
    n_checked, fraction = int(checked.sum()), fraction_of(kept, checked)
    breaking = np.flatnonzero(checked & ~kept)
    led = votes.counts[:, parents].sum(axis=1) if parents else votes.totals.max(axis=1, initial=0)
    is_best = _is_among_best(question.parents, found, tree, fraction)
    has_totals = n_mismatches <= n_checked / 2
    is_swapped = not owners.isdisjoint(swaps)
    verdict = "unknown"
    if is_known and has_totals:
        verdict = _verdict(n_checked, fraction, found, is_best, is_swapped)
    description = _description(tree, question, verdict, fraction, found, is_known, is_swapped)
    if question.name in swaps:
        description += " " + swaps[question.name].description
    if n_mismatches:
        rows = f"{n_mismatches:,} rows" if n_mismatches > 1 else "one row"
        description = f"The total is not the sum of the answers in {rows}. " + (description if has_totals else "")
    return QuestionAudit(
        question=question.name,
        verdict=verdict,
        description=description.strip(),
        parents=question.parents,
        fraction=fraction,
        n_checked=n_checked,
        n_inconsistent=len(breaking),
        rows=tuple((str(ids[int(row)]), int(total[row]), int(led[row])) for row in breaking[:N_LISTED]),
        inferred_parents=found.answers if found.n_checked else None,
        inferred_fraction=found.fraction,
        is_certain=found.is_certain,
        equivalents=found.equivalents,
        n_total_mismatches=n_mismatches,
        swap=swaps.get(question.name),
    )


def _agreement(votes: Votes, i: int) -> tuple[BoolArray, BoolArray]:
    """Return the same as `agreement`, but compare root questions of merged campaigns within their own campaign."""
    tree = votes.tree
    parents = tree.parents_of_question[i]
    if parents:
        return agreement(votes.counts, votes.totals, i, parents)
    part = next(part for part in tree.parts.values() if tree.questions[i] in part)
    totals = votes.totals[:, [j for j, question in enumerate(tree.questions) if question in part]]
    return np.asarray(votes.totals[:, i] == totals.max(axis=1)), np.asarray(totals.any(axis=1))


def _is_among_best(parents: Sequence[str], found: ParentAnswers, tree: Tree, fraction: float) -> bool:
    """Return whether the tree's parent answers are among the best.

    All answers of a question are equivalent to the parent answers of that question.
    """
    lifted = dict.fromkeys(parents)
    for question in tree.questions:
        if question.parents and set(question.columns) <= set(lifted):
            lifted = {one: None for one in lifted if one not in question.columns} | dict.fromkeys(question.parents)
    best = [set(found.answers), *map(set, found.equivalents)]
    return set(parents) in best or set(lifted) in best or fraction >= found.fraction - AS_GOOD


def _verdict(n_checked: int, fraction: float, found: ParentAnswers, is_best: bool, is_swapped: bool) -> str:
    if n_checked < CERTAIN_ROWS:
        return "unknown"
    if fraction >= MIN_CONSISTENT and (is_best or not found.is_certain):
        return "consistent"
    return "contradicted" if found.is_certain and not is_best and not is_swapped else "inconsistent"


def _description(
    tree: Tree,
    question: Question,
    verdict: str,
    fraction: float,
    found: ParentAnswers,
    is_known: bool,
    is_swapped: bool,
) -> str:
    def after(answers: Sequence[str]) -> str:
        return f"asked after {_listed(tree, answers)}" if answers else "asked of everyone"

    rule = after(question.parents)
    rule = rule[0].upper() + rule[1:]
    if not is_known:
        return f"{rule}: cannot be checked, because a parent answer is not in the table."
    if verdict == "unknown":
        return f"{rule}: cannot be checked, because too few rows have votes."
    if verdict == "consistent":
        return f"{rule}, consistent with {percent(fraction)} of rows."
    text = f"{rule} according to the tree, consistent with only {percent(fraction)} of rows."
    if is_swapped:
        return f"{text} With the column names suggested for its parent question it would be consistent."
    if verdict == "contradicted":
        return f"{text} According to the votes: {after(found.answers)}, consistent with {percent(found.fraction)}."
    return f"{text} No other parent answers are clearly better."


def percent(fraction: float) -> str:
    """Return a fraction as a percentage with one decimal; "100%" only if it is exactly 1."""
    return "100%" if fraction == 1 else f"{min(100 * fraction, 99.9):.1f}%"


def _listed(tree: Tree, answers: Sequence[str]) -> str:
    """Return answers in the order of the tree, by question: "smooth-or-featured-gz2 = smooth / star"."""
    by_question: dict[str, list[str]] = {}
    for question in tree.questions:
        for answer, column in zip(question.answers, question.columns, strict=True):
            if column in answers:
                by_question.setdefault(question.name, []).append(answer)
    return " or ".join(f"{name} = {' / '.join(given)}" for name, given in by_question.items())


# --- misnamed columns ---------------------------------------------------------------------------------------------


def column_swaps(
    tree: Tree, counts: IntArray, totals: IntArray, voted: Collection[str], names: Mapping[str, str]
) -> dict[str, ColumnSwap]:
    """Find questions whose columns seem to have each other's names.

    Args:
        tree: The decision tree.
        counts: Vote counts, shape (galaxy, answer).
        totals: Total votes, shape (galaxy, question).
        voted: Names of the questions that have votes.
        names: Answer -> the table's own name of its column.

    Returns:
        Question -> the best swap of its columns, where it clearly improves the agreement with the tree.
    """
    swaps: dict[str, ColumnSwap] = {}
    for question in tree.questions:
        own = tree.slice(question.name)
        dependent = [
            i
            for i, one in enumerate(tree.questions)
            if one.name in voted
            and any(own.start <= parent < own.stop for parent in tree.parents_of_question[i])
            and len(tree.parents_of_question[i]) == len(one.parents)
        ]
        if not dependent or len(question.columns) < 2:
            continue
        as_named = _smallest_fraction(tree, counts, totals, dependent)
        if as_named >= MIN_CONSISTENT:
            continue
        for kind in ("shift", "exchange"):
            tried: list[tuple[float, tuple[int, ...], int]] = []
            for order, offset in column_orders(len(question.columns), kind):
                renamed = counts.copy()
                renamed[:, own] = counts[:, own][:, order]
                tried.append((_smallest_fraction(tree, renamed, totals, dependent), order, offset))
            tried.sort(key=lambda one: -one[0])
            fraction, order, offset = tried[0]
            following = tried[1][0] if len(tried) > 1 else as_named
            if fraction >= max(MIN_CONSISTENT, as_named + MIN_SWAP_GAIN):
                # answer k is in the column that is named for answer order[k]
                meant = {question.columns[source]: question.columns[k] for k, source in enumerate(order) if source != k}
                answers = {names.get(column, column): meant[column] for column in question.columns if column in meant}
                is_only = following < fraction - AS_GOOD
                swaps[question.name] = ColumnSwap(answers, fraction, as_named, following, kind, offset, is_only)
                break
    return swaps


def column_orders(n: int, kind: str) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield the column to read for each of `n` answers, and the offset, for every "shift" or "exchange" of names."""
    if kind == "shift":
        for offset in range(1, n):
            yield tuple((i - offset) % n for i in range(n)), min(offset, n - offset)
    else:
        for i in range(n):
            for j in range(i):
                order = list(range(n))
                order[i], order[j] = j, i
                yield tuple(order), 0


def _smallest_fraction(tree: Tree, counts: IntArray, totals: IntArray, questions: Sequence[int]) -> float:
    """Return the smallest agreement of some questions with their parent answers."""
    fractions: list[float] = []
    for i in questions:
        kept, checked = agreement(counts, totals, i, tree.parents_of_question[i])
        if checked.sum() >= CERTAIN_ROWS:
            fractions.append(fraction_of(kept, checked))
    return min(fractions, default=1.0)
