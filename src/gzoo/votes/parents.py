"""Inference of parent answers from vote counts alone.

Everyone who gives a parent answer of a question is asked it, so the total votes on a question are the sum of the votes
for some answers. Which ones follows from the rows of a table, without knowing the tree: for each question a small
integer program finds the closest sum in a few hundred rows, and exact agreement in all rows evaluates it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError
from gzoo.trees.tree import IntArray

AS_GOOD = 0.005  # smaller differences of fractions are ignored
CERTAIN_ROWS = 30
CERTAIN_FRACTION = 0.8
CERTAIN_DEVIATIONS = 3.0  # by which parent answers must beat any others, row by row
N_SEARCHED = 20_000  # rows of the search; fractions are of all rows
N_SOLVED = 300  # rows of an integer program
N_COMPARED = 500  # rows in which two answers are compared
MAX_EXCESS_UNDER = 0.1
MAX_EXCESS = 0.25  # an answer with more votes than the question in more of its rows is not a parent answer

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ParentAnswers:
    """Parent answers of a question, inferred from votes.

    Attributes:
        question: Name of the question.
        answers: Columns of the parent answers; () if everyone is asked. Their votes add up to the total votes on the
            question in most rows.
        fraction: Fraction of the checked rows in which they do.
        n_checked: Number of checked rows: those with votes on the question or for its parent answers.
        equivalents: Other answers with the same fraction, to within half a percentage point.
        is_certain: Whether there are enough rows, and enough agreement, to exclude all answers other than `answers` and
            `equivalents`.
    """

    question: str
    answers: tuple[str, ...]
    fraction: float
    n_checked: int
    equivalents: tuple[tuple[str, ...], ...]
    is_certain: bool


def infer_parents(
    counts: IntArray,
    columns: Sequence[str],
    questions: Sequence[tuple[str, Sequence[str]]],
    totals: IntArray,
) -> tuple[ParentAnswers, ...]:
    """Infer the parent answers of each question from the votes, without knowing the tree or the order of questions.

    All answers of a question are never parent answers together, because they are equivalent to the parent answers of
    that question. If several sums of answers agree equally well, the one nearest to the first question is returned, and
    the others are listed as equivalents.

    Args:
        counts: Vote counts, shape (galaxy, answer).
        columns: Name of each answer.
        questions: Name of each question, and the columns of its answers.
        totals: Total votes, shape (galaxy, question).

    Returns:
        The parent answers of each question, in the order of `questions`.

    Raises:
        InputError: Shapes and names do not match.

    >>> counts = np.random.default_rng(0).multinomial(40, [0.5, 0.4, 0.1], 200)
    >>> bar = np.random.default_rng(1).binomial(counts[:, 1], 0.3)
    >>> counts = np.column_stack([counts, bar, counts[:, 1] - bar])
    >>> questions = [("shape", ["smooth", "disk", "star"]), ("bar", ["yes", "no"])]
    >>> totals = np.column_stack([counts[:, :3].sum(axis=1), counts[:, 3:].sum(axis=1)])
    >>> parents = infer_parents(counts, ["smooth", "disk", "star", "yes", "no"], questions, totals)
    >>> [(one.answers, one.fraction, one.is_certain) for one in parents]
    [((), 1.0, True), (('disk',), 1.0, True)]
    """
    place = {name: i for i, name in enumerate(columns)}
    own = [[place[name] for name in answers if name in place] for _, answers in questions]
    if (
        counts.shape != (len(totals), len(columns))
        or totals.shape[1:] != (len(questions),)
        or any(len(found) != len(answers) for found, (_, answers) in zip(own, questions, strict=True))
    ):
        raise InputError(
            f"Counts of shape {counts.shape}, totals of shape {totals.shape}, {len(columns)} answers and "
            f"{len(questions)} questions do not match.",
            "counts (galaxy, answer), totals (galaxy, question), and each question's answers among the columns.",
            "Check the order of the columns.",
        )
    search = _Search(counts, own, totals)
    return tuple(search.parents(i, name, columns) for i, (name, _) in enumerate(questions))


def load_solver() -> None:
    """Import the solver, which takes half a second, so that an idle thread can do it in advance."""
    import scipy.optimize  # pyright: ignore[reportUnusedImport]  # noqa: F401


def agreement(counts: IntArray, totals: IntArray, question: int, answers: Sequence[int]) -> tuple[BoolArray, BoolArray]:
    """Return where the votes for some answers add up to a question's total, and in which rows that is informative.

    Args:
        counts: Vote counts, shape (galaxy, answer).
        totals: Total votes, shape (galaxy, question).
        question: Index of the question.
        answers: Indices of the answers; none for a question that everyone is asked, whose total is the largest.

    Returns:
        Two boolean arrays of shape (galaxy,).
    """
    total = totals[:, question]
    if not len(answers):
        return total == totals.max(axis=1, initial=0), total > 0
    led = counts[:, list(answers)].sum(axis=1)
    return total == led, (total > 0) | (led > 0)


def fraction_of(is_kept: BoolArray, is_checked: BoolArray) -> float:
    """Return the fraction of the checked rows that agree; 0 if there are none."""
    n = int(is_checked.sum())
    return float((is_kept & is_checked).sum() / n) if n else 0.0


def is_clearly_better(one: BoolArray, other: BoolArray) -> bool:
    """Return whether one rule agrees with significantly more rows than another (sign test)."""
    n_one, n_other = int((one & ~other).sum()), int((other & ~one).sum())
    return n_one - n_other >= CERTAIN_DEVIATIONS * max(n_one + n_other, 1) ** 0.5


_Set = tuple[int, ...]


class _Search:
    """Search for parent answers in a sample of rows."""

    def __init__(self, counts: IntArray, own: Sequence[Sequence[int]], totals: IntArray) -> None:
        self.all_counts, self.all_totals = counts, totals
        self.own = own
        rng = np.random.default_rng(0)
        rows = np.sort(rng.permutation(len(counts))[:N_SEARCHED])
        self.counts = np.asfortranarray(counts[rows])
        self.totals = totals[rows]
        self.lies_under = self.under()

    def under(self) -> BoolArray:
        """Return whether one answer rarely has more votes than another, shape (answer, answer)."""
        n = self.counts.shape[1]
        found = np.zeros((n, n), bool)
        for i in range(n):
            rows = np.flatnonzero(self.counts[:, i])[:N_COMPARED]
            if len(rows):
                found[i] = (self.counts[rows, i, None] > self.counts[rows]).mean(axis=0) <= MAX_EXCESS_UNDER
        return found

    def parents(self, question: int, name: str, columns: Sequence[str]) -> ParentAnswers:
        total = self.totals[:, question]
        if not total.any():
            return ParentAnswers(name, (), 0.0, 0, (), is_certain=False)
        found = self.sets(question)
        checked = {answers: agreement(self.all_counts, self.all_totals, question, answers) for answers in found}
        fractions = {answers: fraction_of(*one) for answers, one in checked.items()}
        most = max(fractions.values())
        best = [answers for answers in found if fractions[answers] >= most - AS_GOOD]
        best.sort(key=lambda answers: (*self.depth(answers), -fractions[answers], answers))
        chosen = best[0]
        kept, rows = checked[chosen]
        others = [checked[answers][0] | ~checked[answers][1] for answers in found if answers not in best]
        kept_or_silent = kept | ~rows
        is_certain = (
            int(rows.sum()) >= CERTAIN_ROWS
            and fractions[chosen] >= CERTAIN_FRACTION
            and is_clearly_better(kept_or_silent, ~rows)
            and all(is_clearly_better(kept_or_silent, other) for other in others)
            and not self.lies_elsewhere(question, chosen, kept_or_silent)
        )

        def named(answers: _Set) -> tuple[str, ...]:
            return tuple(columns[i] for i in sorted(answers))

        return ParentAnswers(
            name, named(chosen), fractions[chosen], int(rows.sum()), tuple(map(named, best[1:])), is_certain
        )

    def depth(self, answers: _Set) -> tuple[float, int]:
        """Return the distance of answers from the first question, by the smallest mean total of their questions."""
        asked = [float(self.totals[:, i].mean()) for i, own in enumerate(self.own) if not set(own).isdisjoint(answers)]
        return -round(min(asked, default=np.inf), 9), len(answers)

    def candidates(self, question: int) -> list[int]:
        """Return possible parent answers of a question: they rarely have more votes than it."""
        total = self.totals[:, question]
        n_above = (self.counts > total[:, None]).sum(axis=0)
        n_voted = (self.counts > 0).sum(axis=0)
        is_possible = (n_voted > 0) & (n_above <= MAX_EXCESS * n_voted)
        return [int(i) for i in np.flatnonzero(is_possible) if i not in self.own[question]]

    def sets(self, question: int) -> list[_Set]:
        """Return the sets of answers to evaluate: the best and its neighbours; () for everyone."""
        candidates = self.candidates(question)
        seen: dict[_Set, None] = {(): None}
        starts = {self.solve(question, pool, seed) for pool in self.pools(question, candidates) for seed in range(2)}
        starts.add(self.best_pair(question, candidates))
        for start in sorted(starts):
            seen[start] = seen[self.polish(question, candidates, start)] = None
        best = max(seen, key=lambda answers: self.fraction(question, answers))
        for answers in self.neighbours(question, candidates, best):
            seen[answers] = None
        return [answers for answers in seen if not answers or self.is_allowed(answers)]

    def pools(self, question: int, candidates: Sequence[int]) -> list[list[int]]:
        """Return the candidates, and subsets without the answers of questions with nearly the same totals.

        The linear program could otherwise mix all answers of such questions.
        """
        total = self.totals[:, question]
        checked = (self.totals > 0) | (total > 0)[:, None]
        same = ((self.totals == total[:, None]) & checked).sum(axis=0) / np.maximum(checked.sum(axis=0), 1)
        same[question] = 0.0
        pools: dict[_Set, None] = {}
        for least in (np.inf, float(same.max()) - 0.02, 0.9, 0.5):
            excluded = {answer for i, own in enumerate(self.own) if same[i] >= least for answer in own}
            pools[tuple(answer for answer in candidates if answer not in excluded)] = None
        return [list(pool) for pool in pools]

    def fraction(self, question: int, answers: _Set) -> float:
        return fraction_of(*agreement(self.counts, self.totals, question, answers)) if answers else 0.0

    def is_allowed(self, answers: Iterable[int]) -> bool:
        """Return whether no question is included with all its answers."""
        chosen = set(answers)
        return not any(own and chosen.issuperset(own) for own in self.own)

    def solve(self, question: int, candidates: Sequence[int], seed: int) -> _Set:
        """Return the sum of answers closest to the total in some hundred rows: a linear program, rounded."""
        from scipy import sparse
        from scipy.optimize import linprog

        if not candidates:
            return ()
        total = self.totals[:, question]
        led = self.counts[:, candidates].any(axis=1)
        rng = np.random.default_rng(seed)
        asked, others = rng.permutation(np.flatnonzero(total > 0)), rng.permutation(np.flatnonzero((total == 0) & led))
        n_others = min(len(others), max(N_SOLVED // 4, N_SOLVED - len(asked)))
        rows = np.concatenate([asked[: N_SOLVED - n_others], others[:n_others]])
        votes = sparse.csr_matrix(self.counts[rows][:, candidates].astype(float))
        n, k = len(rows), len(candidates)
        distance = sparse.identity(n)
        whole: list[list[float]] = [
            [float(i in own) for i in candidates] for own in self.own if own and set(own) <= set(candidates)
        ]
        limits = np.hstack([np.array(whole).reshape(-1, k), np.zeros((len(whole), n))])
        solved = linprog(
            np.concatenate([np.full(k, 1e-3), np.ones(n)]),  # among equally close sums, the one with fewer answers
            A_ub=sparse.vstack([sparse.hstack([votes, -distance]), sparse.hstack([-votes, -distance]), limits], "csc"),
            b_ub=np.concatenate([total[rows], -total[rows], [sum(row) - 1.0 for row in whole]]),
            bounds=[(0, 1)] * k + [(0, None)] * n,
        )
        if solved.x is None:
            return ()
        chosen = tuple(one for one, fraction in zip(candidates, solved.x[:k].tolist(), strict=True) if fraction > 0.5)
        return chosen if self.is_allowed(chosen) else ()

    def best_pair(self, question: int, candidates: Sequence[int]) -> _Set:
        """Return the two answers whose sum most often equals the total."""
        total = self.totals[:, question]
        rows = np.random.default_rng(0).permutation(np.flatnonzero(total > 0))[:N_SOLVED]
        votes, missing = self.counts[rows][:, candidates], total[rows]
        if len(candidates) < 2:
            return ()
        n_kept = np.array([((votes + votes[:, [i]]) == missing[:, None]).sum(axis=0) for i in range(len(candidates))])
        np.fill_diagonal(n_kept, -1)
        pair = divmod(int(n_kept.argmax()), len(candidates))
        chosen = tuple(sorted(candidates[i] for i in pair))
        return chosen if self.is_allowed(chosen) else ()

    def polish(self, question: int, candidates: Sequence[int], answers: _Set) -> _Set:
        """Add, remove and exchange answers as long as the sum equals the total in more rows."""
        fraction = self.fraction(question, answers)
        while scored := self.scored(question, candidates, answers):
            better = max(scored, key=lambda one: (scored[one], one))
            if scored[better] <= fraction + 1e-12:
                break
            fraction, answers = scored[better], better
        return answers

    def neighbours(self, question: int, candidates: Sequence[int], answers: _Set) -> list[_Set]:
        """Return the sets one step away that are equally good, and the best of the others."""
        scored = self.scored(question, candidates, answers)
        top = max([self.fraction(question, answers), *scored.values()])
        as_good = [one for one, value in scored.items() if value >= top - 2 * AS_GOOD]
        rest = sorted((one for one in scored if one not in as_good), key=lambda one: -scored[one])
        return as_good + rest[:5]

    def scored(self, question: int, candidates: Sequence[int], answers: _Set) -> dict[_Set, float]:
        """Return the fraction of each allowed set with one answer added, removed or exchanged, or one for several."""
        total = self.totals[:, question]
        has_votes = total > 0
        votes = self.counts[:, candidates]
        scored: dict[_Set, float] = {}

        def add_each(rest: _Set) -> None:
            led = self.counts[:, list(rest)].sum(axis=1)
            missing = total - led
            n_kept = ((votes == missing[:, None]) & has_votes[:, None]).sum(axis=0)
            n_checked = has_votes.sum() + ((votes + led[:, None] > 0) & ~has_votes[:, None]).sum(axis=0)
            for i, one in enumerate(candidates):
                if one not in answers:
                    scored[tuple(sorted((*rest, one)))] = float(n_kept[i] / max(1, n_checked[i]))

        for one in candidates:  # one answer in place of all answers under it
            if one not in answers:
                raised = tuple(sorted((one, *(other for other in answers if not self.lies_under[other, one]))))
                scored[raised] = self.fraction(question, raised)
        add_each(answers)
        for out in answers:
            rest = tuple(one for one in answers if one != out)
            add_each(rest)
            if rest:
                scored[rest] = self.fraction(question, rest)
        return {one: value for one, value in scored.items() if self.is_allowed(one)}

    def lies_elsewhere(self, question: int, answers: _Set, kept_or_silent: BoolArray) -> bool:
        """Return whether all answers of some question are clearly better than the chosen ones among them.

        Then both questions are asked of the same volunteers, and their parent answers are not in the table.
        """
        for i, own in enumerate(self.own):
            part = set(own) & set(answers)
            if part and i != question and not part.issuperset(own):
                kept, rows = agreement(self.all_counts, self.all_totals, question, tuple(set(answers) | set(own)))
                if is_clearly_better(kept | ~rows, kept_or_silent):
                    return True
        return False
