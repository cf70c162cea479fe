"""Vote counts of galaxies, bound to a decision tree."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gzoo.display import Sheet, Shown
from gzoo.errors import InputError
from gzoo.trees.tree import FloatArray, IntArray, Tree

if TYPE_CHECKING:
    import polars as pl

WELL_VOTED = 5
"""Number of votes from which the votes on a question are informative for a single galaxy."""


@dataclass(frozen=True, repr=False)
class Votes(Shown):
    """Vote counts per galaxy and answer.

    Attributes:
        tree: Decision tree that defines the columns.
        counts: Vote counts, shape (galaxy, answer), columns as in `tree.columns`.
        totals: Total votes, shape (galaxy, question); by default `tree.totals(counts)`.
        collected_questions: Names of the questions whose votes are known; by default all.

    Raises:
        InputError: The shapes do not match the tree, counts are negative or not integers, or totals are not the sum of
            the votes (if several answers are allowed: below the votes for one answer).

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
                f"Vote counts have shape {counts.shape}.",
                f"(galaxy, {len(self.tree.columns)}), one column for each answer of tree '{self.tree.name}'.",
                "Sort the columns as in `tree.columns`.",
            )
        if not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
            problem = "contain negative numbers" if (counts < 0).any() else f"have type {counts.dtype}"
            raise InputError(f"Vote counts {problem}.", "integers of at least 0.", "Use the unweighted counts.")
        summed = self.tree.totals(counts)
        totals = np.asarray(self.totals) if np.size(self.totals) else summed
        if (
            totals.shape != summed.shape
            or not np.issubdtype(totals.dtype, np.integer)
            or not self._are_consistent(totals, counts, summed)
        ):
            raise InputError(
                "Total votes do not match the vote counts.",
                "one integer per galaxy and question: the sum of its votes or, if several answers are allowed, at "
                "least the votes for each answer.",
                "Omit the totals to have them computed.",
            )
        for name, numbers in (("counts", counts), ("totals", totals)):  # 32 bits stay, so that millions fit into memory
            object.__setattr__(
                self, name, numbers if numbers.dtype == np.int32 else numbers.astype(np.int64, copy=False)
            )

    def _are_consistent(self, totals: IntArray, counts: IntArray, summed: IntArray) -> bool:
        return all(
            bool((totals[:, i, None] >= counts[:, self.tree.slice(question.name)]).all())
            if question.multiple
            else bool((totals[:, i] == summed[:, i]).all())
            for i, question in enumerate(self.tree.questions)
        )

    def __len__(self) -> int:
        return len(self.counts)

    def to_dict(self) -> dict[str, object]:
        """Return numbers of galaxies and votes on each question as JSON values."""
        n_galaxies, n_votes = (self.totals > 0).sum(axis=0), self.totals.sum(axis=0)
        per_answer = dict(zip(self.tree.columns, self.counts.sum(axis=0).tolist(), strict=True))
        questions = [
            {
                "question": question.name,
                "n_galaxies": int(n_galaxies[i]),
                "n_votes": int(n_votes[i]),
                "answers": {column: per_answer[column] for column in question.columns},
            }
            for i, question in enumerate(self.tree.questions)
        ]
        collected = None if self.collected_questions is None else list(self.collected_questions)
        return {
            "tree": self.tree.name,
            "n_galaxies": len(self),
            "collected_questions": collected,
            "questions": questions,
        }

    def to_polars(self) -> pl.DataFrame:
        """Return the counts and total votes of each galaxy, in columns named as in a dataset."""
        import polars as pl

        columns: dict[str, IntArray] = {}
        for i, question in enumerate(self.tree.questions):
            columns |= {column: self.counts[:, self.tree.columns.index(column)] for column in question.columns}
            columns[question.total_column] = self.totals[:, i]
        return pl.DataFrame(columns)

    def sheet(self) -> Sheet:
        """Return the numbers of galaxies and votes on each question, and the fractions of its answers."""
        n_galaxies, n_votes, counts = (self.totals > 0).sum(axis=0), self.totals.sum(axis=0), self.counts.sum(axis=0)
        rows: list[tuple[object, ...]] = []
        for i, question in enumerate(self.tree.questions):
            answers = zip(question.answers, counts[self.tree.slice(question.name)], strict=True)
            fractions = ", ".join(f"{name} {n / n_votes[i]:.2f}" for name, n in answers) if n_votes[i] else ""
            rows.append((question.name, int(n_galaxies[i]), int(n_votes[i]), fractions))
        return Sheet(
            f"Votes on {len(self):,} galaxies (tree {self.tree.name})",
            {"questions without votes": sum(not n for n in n_galaxies) or None},
            ("question", "galaxies", "votes", "fractions of all votes"),
            rows,
        )

    @cached_property
    def fractions(self) -> FloatArray:
        """Vote fractions, shape (galaxy, answer); NaN for questions without votes."""
        totals = self.totals[:, list(self.tree.question_of_answer)]
        return np.divide(self.counts, totals, out=np.full(self.counts.shape, np.nan), where=totals > 0)

    @cached_property
    def breaks(self) -> npt.NDArray[np.bool_]:
        """Whether a question has more votes than its parent answers, shape (galaxy, question).

        False if the votes for a parent answer are not known. A few rows of raw counts break this rule (lost
        classifications, changed trees); a table in which many rows break it has misnamed columns or another tree.
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
        """Return the votes of some galaxies."""
        return Votes(self.tree, self.counts[rows], self.totals[rows], self.collected_questions)

    def on(self, tree: Tree) -> Votes:
        """Return the votes on the questions of another tree, which must be a part of this one."""
        answers = [self.tree.columns.index(column) for column in tree.columns]
        names = [question.name for question in self.tree.questions]
        kept = [names.index(question.name) for question in tree.questions]
        return Votes(tree, self.counts[:, answers], self.totals[:, kept], self.collected_questions)
