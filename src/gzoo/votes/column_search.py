"""Search for the question that each group of columns belongs to, by names and votes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gzoo.trees.tree import IntArray, Question, Tree
from gzoo.votes.audit import ColumnSwap, column_orders, column_swaps
from gzoo.votes.column_groups import Group, matched

MIN_ROWS = 5  # for a comparison of totals with the votes for parent answers
N_SAMPLED = 2_000  # rows of these comparisons


@dataclass(frozen=True, slots=True)
class Placement:
    """Columns of a question: a group, in the order of the question's answers."""

    group: Group
    order: tuple[int, ...]


State = dict[str, Placement]
"""Question -> its columns."""


class Search:
    """Assignment of groups to questions.

    It starts from the names, and is improved as long as more total votes equal the votes for the parent answers.
    Finally, the audit finds columns whose names are shifted or exchanged.

    Attributes:
        state: The result.
        swaps: Question -> the swap of its column names.
    """

    def __init__(self, groups: Sequence[Group], tree: Tree) -> None:
        self.tree = tree
        self.groups = list(groups)
        self.scores = {(id(group), question.name): group.name_score(question, tree)
                       for group in groups for question in tree.questions}  # fmt: skip
        self._names = dict(self.scores)
        for group in groups:
            for question in tree.questions:
                if self.scores[id(group), question.name] >= 0:
                    alike = matched(group.labels, question, tree)[1]
                    self._names[id(group), question.name] += 0.3 * float(np.mean(alike))
        n = len(groups[0].counts) if groups else 0
        rows = np.sort(np.random.default_rng(0).permutation(n)[:N_SAMPLED])
        self._counts = {id(group): group.counts[rows] for group in groups}
        self._n_rows = len(rows)
        self._owner = {column: (one.name, k) for one in tree.questions for k, column in enumerate(one.columns)}
        self._n_roots = sum(not one.parents for one in tree.questions)
        self.state = self._improved(self._by_name()) if groups else {}
        self.swaps = self._swap_columns()

    def _votes(self, state: State, name: str) -> IntArray:
        placed = state[name]
        return self._counts[id(placed.group)][:, list(placed.order)]

    def _total(self, state: State, name: str) -> IntArray:
        votes = self._votes(state, name)
        return votes.max(axis=1) if self.tree.question(name).multiple else votes.sum(axis=1)

    def consistency(self, question: Question, state: State | None = None) -> float | None:
        """Return the fraction of rows whose total equals the votes for the parent answers; None if not known."""
        state = self.state if state is None else state
        if question.name not in state or self._n_rows < MIN_ROWS:
            return None
        total = self._total(state, question.name)
        if question.parents:
            expected = np.zeros(self._n_rows, np.int64)
            for parent in question.parents:
                owner, k = self._owner.get(parent, ("", 0))
                if owner not in state:
                    return None
                placed = state[owner]
                expected += self._counts[id(placed.group)][:, placed.order[k]]
        elif self._n_roots > 1:
            return None  # several campaigns side by side: no volunteer answered all of their first questions
        else:
            expected = np.max([self._total(state, name) for name in state], axis=0)
        checked, agrees = (total > 0) | (expected > 0), total == expected
        if question.multiple:
            checked, agrees = total > 0, total <= expected
        return float(agrees[checked].mean()) if checked.any() else None

    def _worth(self, state: State) -> float:
        """Return the agreement of names and votes."""
        names = sum(self._names[id(placed.group), name] for name, placed in state.items())
        found = (self.consistency(self.tree.question(name), state) for name in state)
        return names + sum(1.5 * (fraction - 0.5) for fraction in found if fraction is not None)

    def _place(self, group: Group, question: Question) -> Placement:
        """Return the group's columns in the order that the names suggest, without a superfluous column."""
        k = len(question.columns)
        if len(group.columns) == k:
            return Placement(group, matched(group.labels, question, self.tree)[0])
        spare = [i for i in range(len(group.columns)) if i not in group.with_votes]
        # the names may be shifted, so keep the order of the table
        return Placement(group, tuple(sorted(group.with_votes + spare[: k - len(group.with_votes)])))

    def _by_name(self) -> State:
        from scipy.optimize import linear_sum_assignment

        questions = self.tree.questions
        table = np.array([[self.scores[id(group), one.name] for one in questions] for group in self.groups])
        pairs = zip(*linear_sum_assignment(-table), strict=True)
        return {questions[j].name: self._place(self.groups[i], questions[j]) for i, j in pairs if table[i, j] >= 0.0}

    def _improved(self, state: State) -> State:
        worth = self._worth(state)
        while True:
            better = max(((self._worth(one), n, one) for n, one in enumerate(self._moves(state))), default=None)
            if better is None or better[0] < worth + 1e-6:
                return state
            worth, _, state = better

    def _moves(self, state: State) -> Iterator[State]:
        """Yield states one step away: a question takes a free group, or two questions exchange their groups."""
        questions = self.tree.questions
        used = {id(placed.group) for placed in state.values()}
        for i, one in enumerate(questions):
            for group in self.groups:
                if id(group) not in used and self.scores[id(group), one.name] >= 0:
                    yield {**state, one.name: self._place(group, one)}
            for other in questions[i + 1 :]:
                moved = [(state[a.name].group, b) for a, b in ((one, other), (other, one)) if a.name in state]
                if moved and all(self.scores[id(group), target.name] >= 0 for group, target in moved):
                    rest = {name: placed for name, placed in state.items() if name not in (one.name, other.name)}
                    yield rest | {target.name: self._place(group, target) for group, target in moved}

    def _swap_columns(self) -> dict[str, ColumnSwap]:
        """Apply the swaps of column names that the audit finds."""
        counts = np.zeros((self._n_rows, len(self.tree.columns)), np.int64)
        for name in self.state:
            counts[:, self.tree.slice(name)] = self._votes(self.state, name)
        known = {column for name in self.state for column in self.tree.question(name).columns}
        # the total votes on a multiple-choice question are not known
        voted = [
            one.name
            for one in self.tree.questions
            if one.name in self.state and not one.multiple and known.issuperset(one.parents)
        ]
        swaps = column_swaps(self.tree, counts, self.tree.totals(counts), voted, {})
        for name, swap in swaps.items():
            columns, group, order = self.tree.question(name).columns, self.state[name].group, self.state[name].order
            source = {answer: columns.index(column) for column, answer in swap.answers.items()}
            self.state[name] = Placement(group, tuple(order[source.get(one, k)] for k, one in enumerate(columns)))
        return swaps

    def lead(self, question: Question) -> float:
        """Return by how much the votes agree better with a question's columns than with any alternative."""
        placed = self.state[question.name]
        alternatives = [
            {**self.state, question.name: Placement(placed.group, tuple(placed.order[i] for i in order))}
            for kind in ("shift", "exchange")
            for order, _ in column_orders(len(placed.order), kind)
        ]
        for moved in self._moves(self.state):
            if moved.keys() == self.state.keys() and moved[question.name].group is not placed.group:
                alternatives.append(moved)
        own = self._sum_of_consistencies(self.state)
        return min((own - self._sum_of_consistencies(one) for one in alternatives), default=0.0)

    def _sum_of_consistencies(self, state: State) -> float:
        return sum(self.consistency(question, state) or 0.0 for question in self.tree.questions)
