"""Sums over the votes of a dataset, counted while its shards are written or checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.votes import WELL_VOTED, Votes


class Spread:
    """The number of galaxies with each number of votes, for each question."""

    def __init__(self, n_questions: int) -> None:
        self._galaxies: list[Counter[int]] = [Counter() for _ in range(n_questions)]

    def add(self, totals: IntArray) -> None:
        """Add some rows: total votes, shape (galaxy, question)."""
        for counter, column in zip(self._galaxies, totals.T, strict=True):
            values, galaxies = np.unique(column[column > 0], return_counts=True)
            counter.update(dict(zip(values.tolist(), galaxies.tolist(), strict=True)))

    def merge(self, question: int, pairs: Sequence[Sequence[int]]) -> None:
        """Add the result of `pairs`."""
        for n_votes, galaxies in pairs:
            self._galaxies[question][n_votes] += galaxies

    def pairs(self, question: int) -> list[list[int]]:
        """Return each number of votes, in order, and the number of galaxies with it."""
        return [[n_votes, galaxies] for n_votes, galaxies in sorted(self._galaxies[question].items())]

    def figures(self, question: int) -> tuple[int, int]:
        """Return the number of galaxies with at least `WELL_VOTED` votes on a question, and the median total votes.

        The median is over galaxies with votes; it is the lower of the two in the middle, and 0 without such galaxies.

        >>> spread = Spread(1)
        >>> spread.add(np.array([[0], [4], [1], [9]]))
        >>> spread.figures(0)
        (1, 4)
        """
        pairs = self.pairs(question)
        n_votes, galaxies = np.array(pairs or [[0, 0]]).T
        cumulative = np.cumsum(galaxies)
        median = n_votes[np.searchsorted(cumulative, (cumulative[-1] + 1) // 2)]
        return int(galaxies[n_votes >= WELL_VOTED].sum()), int(median)


class Tally:
    """Votes for each question, summed over rows."""

    def __init__(self, tree: Tree) -> None:
        self.n_rows = self.n_breaking = 0
        self._tree = tree
        self._sums = np.zeros((3, len(tree.questions)), np.int64)
        self._spread = Spread(len(tree.questions))

    def add(self, votes: Votes) -> None:
        """Add some rows."""
        breaks = votes.breaks
        self.n_rows += len(votes)
        self.n_breaking += int(breaks.any(axis=1).sum())
        self._sums += [votes.totals.sum(axis=0), (votes.totals > 0).sum(axis=0), breaks.sum(axis=0)]
        self._spread.add(votes.totals)

    def questions(self) -> dict[str, list[int]]:
        """Return question -> votes, galaxies with votes, galaxies with more votes than its parent answers have."""
        return {one.name: self._sums[:, i].tolist() for i, one in enumerate(self._tree.questions)}

    def spread(self) -> dict[str, list[list[int]]]:
        """Return question -> `Spread.pairs`."""
        return {one.name: self._spread.pairs(i) for i, one in enumerate(self._tree.questions)}
