"""Audit: do the votes obey the tree? And if not, which of the two is wrong, as far as votes can tell.

Whoever gives an answer that leads to a question is asked it: the people on a question are the votes on the answers
that lead there. Raw clicks break this in a few rows (lost clicks, changed trees). A table that breaks it in many has
another tree or misnamed columns, and the votes themselves say which gates they obey (`gzoo.votes.parents`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import polars as pl

from gzoo.errors import InputError
from gzoo.trees.tree import IntArray, Question, Tree
from gzoo.votes.parents import AS_GOOD, CERTAIN_ROWS, BoolArray, ParentAnswers, fraction_of, holds, infer_parents
from gzoo.votes.votes import Votes

HOLDS = 0.95
"""Share of rows from which on a gate holds; in raw clicks of Galaxy Zoo 2 the worst holds in 96 %."""
SHIFT_GAIN = 0.05
"""By which other names of columns must do better than those given before they are spoken of."""
N_LISTED = 20
N_SAMPLED = 200_000
"""Rows that gates are searched in; the tree's own gates are judged in all."""


@dataclass(frozen=True, slots=True)
class ColumnSwap:
    """Names of a question's columns with which the votes would obey the tree.

    Attributes:
        holds: Column (as the table names it) -> the answer it seems to hold.
        fraction: Share of rows in which the gates that these answers form then hold, the least of them.
        fraction_as_named: The same with the columns as they are named.
        next_fraction: The same for the next best such renaming.
        kind: "shift" (all names moved along by some places) or "exchange" (of two names).
        places: By how many places the names are off, for a shift.
        is_only: Whether no other one of that kind fits as well.
    """

    holds: Mapping[str, str]
    fraction: float
    fraction_as_named: float
    next_fraction: float
    kind: str
    places: int
    is_only: bool


@dataclass(frozen=True, slots=True)
class QuestionAudit:
    """One question of a tree, judged by votes.

    Attributes:
        question: Its name.
        verdict: "holds"; "contradicted" (other answers lead there, and the votes are sure of it); "poor" (the tree's
            gate holds in too few rows, and no other is surely better); "unknown" (too few rows, or an answer that
            leads there is not in the table).
        says: The verdict as a sentence.
        gate: The tree's gate: answers that lead to the question, () for everyone.
        fraction: Share of the judged rows in which as many people answered it as gave those answers; judged are rows in
            which the question or its gate has votes.
        n_judged: How many rows those are.
        n_breaking: In how many the two numbers differ.
        rows: The first of those rows: identifier, people who answered, votes on the gate.
        found: The best gate that the votes show, where they show one.
        found_fraction: In what share of its rows it holds.
        is_certain: Whether it is clearly better than any other.
        equivalents: Other gates that hold in as many rows, within half a point.
        n_unsummed: Rows in which the table's number of people is not the sum of the question's answers.
        renaming: Other names for its columns that fit the votes, or None.
    """

    question: str
    verdict: str
    says: str
    gate: tuple[str, ...]
    fraction: float
    n_judged: int
    n_breaking: int
    rows: tuple[tuple[str, int, int], ...]
    found: tuple[str, ...] | None
    found_fraction: float
    is_certain: bool
    equivalents: tuple[tuple[str, ...], ...]
    n_unsummed: int
    renaming: ColumnSwap | None = None

    @property
    def is_doubtful(self) -> bool:
        """Whether the votes speak against the tree here, or against the names of the columns."""
        is_counted = self.n_unsummed <= self.n_judged * (1 - HOLDS)
        return self.verdict in ("contradicted", "poor") or self.renaming is not None or not is_counted

    def to_dict(self) -> dict[str, object]:
        """As JSON would have it, without the list of rows."""
        facts = {key: value for key, value in asdict(self).items() if key != "rows"}
        return {**facts, "is_doubtful": self.is_doubtful}


@dataclass(frozen=True, slots=True)
class Audit:
    """How votes and tree fit together.

    Attributes:
        source: Name of the table or folder.
        tree: Name of the tree.
        n_rows: Rows in the table.
        n_used: Rows with an identifier and whole counts.
        n_dropped: The others, by reason.
        n_breaks: Used rows in which some question has more votes than the answers that lead to it.
        judgements: One a question that has votes.
        not_collected: Questions without a vote in any row.
    """

    source: str
    tree: str
    n_rows: int
    n_used: int
    n_dropped: Mapping[str, int]
    n_breaks: int
    judgements: tuple[QuestionAudit, ...]
    not_collected: tuple[str, ...]

    @property
    def is_valid(self) -> bool:
        """Whether nothing speaks against the tree or the names of the columns."""
        return not any(one.is_doubtful for one in self.judgements)

    def to_dict(self) -> dict[str, object]:
        """As JSON would have it."""
        return {**asdict(self), "is_valid": self.is_valid}

    def of(self, question: str) -> QuestionAudit:
        """The judgement of one question.

        Raises:
            InputError: It has no votes, or there is no such question.
        """
        for one in self.judgements:
            if one.question == question:
                return one
        names = ", ".join(one.question for one in self.judgements)
        raise InputError(f"'{question}' was not judged.", f"One of {names}.", "Choose one of these.")


def audit_votes(
    votes: Votes,
    ids: Sequence[str] | pl.Series,
    *,
    unsummed: Mapping[str, int] | None = None,
    names: Mapping[str, str] | None = None,
) -> tuple[tuple[QuestionAudit, ...], tuple[str, ...]]:
    """Every question judged by the votes.

    Args:
        votes: Bound to the tree in question.
        ids: Identifier of each galaxy.
        unsummed: Question -> rows in which the table's number of people is not the sum of its answers.
        names: Answer -> the table's own name of its column.

    Returns:
        The judgements of the questions that have votes, and the names of the others.
    """
    tree = votes.tree
    asked = [question for i, question in enumerate(tree.questions) if votes.totals[:, i].any()]
    silent = tuple(question.name for question in tree.questions if question not in asked)
    if not asked:
        return (), silent
    rows = np.arange(len(votes))
    if len(votes) > N_SAMPLED:
        rows = np.sort(np.random.default_rng(0).permutation(len(votes))[:N_SAMPLED])
    places = [tree.questions.index(question) for question in asked]
    gates = infer_parents(
        votes.counts[rows], tree.columns, [(one.name, one.columns) for one in asked], votes.totals[rows][:, places]
    )
    found = dict(zip((question.name for question in asked), gates, strict=True))
    renamings = _renamings(tree, votes.counts[rows], votes.totals[rows], found, names or {})
    return tuple(
        _judged(votes, ids, question, found[question.name], renamings, (unsummed or {}).get(question.name, 0))
        for question in asked
    ), silent


def _judged(
    votes: Votes,
    ids: Sequence[str] | pl.Series,
    question: Question,
    found: ParentAnswers,
    renamings: Mapping[str, ColumnSwap],
    n_unsummed: int,
) -> QuestionAudit:
    tree = votes.tree
    i = tree.questions.index(question)
    parents = list(tree.parents_of_question[i])
    total = votes.totals[:, i]
    is_known = len(parents) == len(question.parents) and not (
        votes.collected_questions is not None
        and {tree.questions[tree.question_of_answer[one]].name for one in parents} - {*votes.collected_questions}
    )
    kept, judged = _holds(votes, i) if is_known else (np.ones(len(votes), bool), total < 0)
    fraction = fraction_of(kept, judged)
    breaking = np.flatnonzero(judged & ~kept)
    led = votes.counts[:, parents].sum(axis=1) if parents else votes.totals.max(axis=1, initial=0)
    listed = tuple((str(ids[int(row)]), int(total[row]), int(led[row])) for row in breaking[:N_LISTED])
    in_class = _same(question.parents, found, tree, fraction)
    touching = [renamings[name] for name in _owners(tree, question) if name in renamings]
    is_counted = n_unsummed <= judged.sum() / 2
    verdict = _verdict(is_known and is_counted, int(judged.sum()), fraction, found, in_class, bool(touching))
    said = _sentence(tree, question, verdict, fraction, found, is_known, touching)
    if question.name in renamings:
        said += " " + _renaming_sentence(renamings[question.name])
    if n_unsummed:
        where = f"{n_unsummed:,} rows" if n_unsummed > 1 else "one row"
        said = f"its number of people is not the sum of its answers in {where}. " + (
            f"It is {said}" if is_counted else ""
        )
    return QuestionAudit(
        question=question.name,
        verdict=verdict,
        says=said,
        gate=question.parents,
        fraction=fraction,
        n_judged=int(judged.sum()),
        n_breaking=len(breaking),
        rows=listed,
        found=found.answers if found.n_judged else None,
        found_fraction=found.fraction,
        is_certain=found.is_certain,
        equivalents=found.equivalents,
        n_unsummed=n_unsummed,
        renaming=renamings.get(question.name),
    )


def _holds(votes: Votes, i: int) -> tuple[BoolArray, BoolArray]:
    """As `holds`; a row may hold several campaigns, and "everyone" is then everyone in the question's own part."""
    tree = votes.tree
    parents = tree.parents_of_question[i]
    if parents:
        return holds(votes.counts, votes.totals, i, parents)
    part = next(part for part in tree.parts.values() if tree.questions[i] in part)
    totals = votes.totals[:, [j for j, question in enumerate(tree.questions) if question in part]]
    return np.asarray(votes.totals[:, i] == totals.max(axis=1)), np.asarray(totals.any(axis=1))


def _owners(tree: Tree, question: Question) -> list[str]:
    """Questions whose answers lead to a question."""
    i = tree.questions.index(question)
    return list(dict.fromkeys(tree.questions[tree.question_of_answer[one]].name for one in tree.parents_of_question[i]))


def _same(parents: Sequence[str], found: ParentAnswers, tree: Tree, fraction: float) -> bool:
    """Whether the tree's gate is among the best; all answers of a question stand for that question's own gate."""
    best = [set(found.answers), *map(set, found.equivalents)]
    return set(parents) in best or set(_lifted(parents, tree)) in best or fraction >= found.fraction - AS_GOOD


def _lifted(parents: Sequence[str], tree: Tree) -> tuple[str, ...]:
    given = dict.fromkeys(parents)
    for question in tree.questions:
        if question.parents and set(question.columns) <= set(given):
            given = {one: None for one in given if one not in question.columns} | dict.fromkeys(question.parents)
    return tuple(given)


def _verdict(
    is_known: bool, n_judged: int, fraction: float, found: ParentAnswers, in_class: bool, is_renamed: bool
) -> str:
    if not is_known or n_judged < CERTAIN_ROWS:
        return "unknown"
    if in_class and (fraction >= HOLDS or not found.is_certain):
        return "holds" if fraction >= HOLDS else "poor"
    if fraction >= HOLDS and not found.is_certain:
        return "holds"
    if is_renamed:
        return "poor"
    return "contradicted" if found.is_certain and not in_class else "poor" if fraction < HOLDS else "holds"


def _sentence(
    tree: Tree,
    question: Question,
    verdict: str,
    fraction: float,
    found: ParentAnswers,
    is_known: bool,
    touching: Sequence[ColumnSwap],
) -> str:
    tree_says = f"asked after {_words(tree, question.parents)}" if question.parents else "asked of everyone"
    if not is_known:
        return f"{tree_says}, which is not in the table: it cannot be judged."
    if verdict == "unknown":
        return f"{tree_says}: too few rows have votes to judge it."
    if verdict == "holds":
        return f"{tree_says}, which holds in {_percent(fraction)} of the rows."
    said = f"by the tree {tree_says}, which holds in {_percent(fraction)} of the rows only."
    if touching:
        return f"{said} With the columns named as said below it would hold."
    if verdict == "contradicted":
        where = f"after {_words(tree, found.answers)}" if found.answers else "of everyone"
        return f"{said} The votes say: asked {where}, which holds in {_percent(found.fraction)}."
    return f"{said} The votes show no gate that is surely better."


def _renaming_sentence(one: ColumnSwap) -> str:
    pairs = ", ".join(f"{column} holds {answer.rpartition('_')[2]}" for column, answer in one.holds.items())
    if one.kind == "shift":
        what = f"Its columns look named {_places(one.places)} off"
        only = "the only shift that fits" if one.is_only else "one of the shifts that fit"
    else:
        what = "Two of its columns look exchanged"
        only = "the only exchange that fits" if one.is_only else "one of the exchanges that fit"
    return (
        f"{what}: {pairs}. It is {only}: {_percent(one.fraction)} of the rows obey the tree then, "
        f"{_percent(one.fraction_as_named)} as named, {_percent(one.next_fraction)} with the next best."
    )


def _places(n: int) -> str:
    return {1: "one place", 2: "two places", 3: "three places"}.get(n, f"{n} places")


def _percent(fraction: float) -> str:
    text = f"{100 * fraction:.1f} %"
    return "99.9 %" if text == "100.0 %" and fraction < 1 else text.replace(".0 %", " %") if fraction == 1 else text


def _words(tree: Tree, answers: Sequence[str]) -> str:
    """Answers in the order of the tree, those of one question together: "smooth-or-featured-gz2 = smooth / star"."""
    by_question: dict[str, list[str]] = {}
    for question in tree.questions:
        for answer, column in zip(question.answers, question.columns, strict=True):
            if column in answers:
                by_question.setdefault(question.name, []).append(answer)
    return " or ".join(f"{name} = {' / '.join(given)}" for name, given in by_question.items())


# --- misnamed columns ---------------------------------------------------------------------------------------------


def _renamings(
    tree: Tree, counts: IntArray, totals: IntArray, found: Mapping[str, ParentAnswers], names: Mapping[str, str]
) -> dict[str, ColumnSwap]:
    """Questions whose columns seem to bear each other's names."""
    renamings: dict[str, ColumnSwap] = {}
    for question in tree.questions:
        own = tree.slice(question.name)
        gated = [
            i
            for i, one in enumerate(tree.questions)
            if one.name in found
            and any(own.start <= parent < own.stop for parent in tree.parents_of_question[i])
            and len(tree.parents_of_question[i]) == len(one.parents)
        ]
        if not gated or len(question.columns) < 2:
            continue
        as_named = _least_fraction(tree, counts, totals, gated)
        if as_named >= HOLDS:
            continue
        best = _best_renaming(tree, counts, totals, gated, question, as_named)
        if best is not None:
            held = {names.get(column, column): answer for column, answer in best.holds.items()}
            renamings[question.name] = replace(best, holds=held)
    return renamings


def _best_renaming(
    tree: Tree, counts: IntArray, totals: IntArray, gated: Sequence[int], question: Question, as_named: float
) -> ColumnSwap | None:
    own = tree.slice(question.name)
    for kind in ("shift", "exchange"):
        tried: list[tuple[float, tuple[int, ...], int]] = []
        for order, places in _orders(len(question.columns), kind):
            renamed = counts.copy()
            renamed[:, own] = counts[:, own][:, order]
            tried.append((_least_fraction(tree, renamed, totals, gated), order, places))
        if not tried:
            continue
        tried.sort(key=lambda one: -one[0])
        fraction, order, places = tried[0]
        following = tried[1][0] if len(tried) > 1 else as_named
        if fraction >= HOLDS and fraction >= as_named + SHIFT_GAIN:
            # answer k is in the column that is named for answer order[k]
            meant = {question.columns[source]: question.columns[k] for k, source in enumerate(order) if source != k}
            held = {column: meant[column] for column in question.columns if column in meant}
            return ColumnSwap(held, fraction, as_named, following, kind, places, following < fraction - AS_GOOD)
    return None


def _orders(n: int, kind: str) -> Iterator[tuple[tuple[int, ...], int]]:
    """Which column to read for each answer."""
    if kind == "shift":
        for places in range(1, n):
            yield tuple((i - places) % n for i in range(n)), min(places, n - places)
    else:
        for i in range(n):
            for j in range(i):
                order = list(range(n))
                order[i], order[j] = j, i
                yield tuple(order), 0


def _least_fraction(tree: Tree, counts: IntArray, totals: IntArray, questions: Sequence[int]) -> float:
    """The worst of some gates."""
    fractions: list[float] = []
    for i in questions:
        kept, judged = holds(counts, totals, i, tree.parents_of_question[i])
        if judged.sum() >= CERTAIN_ROWS:
            fractions.append(fraction_of(kept, judged))
    return min(fractions, default=1.0)
