"""Clicks: one volunteer's walk through the tree about one galaxy, many times; and what was counted of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.trees.tree import FloatArray, IntArray, Tree
from gzoo.votes.votes import Votes

BoolArray = npt.NDArray[np.bool_]
GALAXY_SCHEMA = {
    "id_str": pl.String, "dataset_name": pl.String, "source_id": pl.String, "image": pl.String,
    "ra": pl.Float64, "dec": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class Clicks:
    """Classifications that are used, in the order of time.

    Few of all walks through a tree are ever taken, so each is kept once and clicks refer to it.

    Attributes:
        tree: The questions.
        galaxies: One row each, columns `GALAXY_SCHEMA`.
        walks: Answers given on each walk, shape (walk, answer).
        asked: Questions answered on each walk, shape (walk, question). A question that allows several answers may
            have been answered with none.
        walk: Which walk, shape (click,).
        galaxy: Row of `galaxies`, shape (click,).
        volunteer: Who, numbered in the order of their first click, shape (click,).
        milliseconds: When, since 1970, shape (click,); the smallest integer where it is not known.
        seconds: How long it took, shape (click,); NaN where it is not known.
        names: Name of each volunteer, shape (volunteer,). It goes into no file but the list of people.
        is_anonymous: Whether they were not logged in, shape (volunteer,).
    """

    tree: Tree
    galaxies: pl.DataFrame
    walks: BoolArray
    asked: BoolArray
    walk: IntArray
    galaxy: IntArray
    volunteer: IntArray
    milliseconds: IntArray
    seconds: FloatArray
    names: tuple[str, ...]
    is_anonymous: BoolArray

    def __len__(self) -> int:
        return len(self.walk)

    def sums(self, what: BoolArray, weights: FloatArray | None = None) -> FloatArray:
        """For each galaxy the sum over its clicks of something that a walk has.

        Args:
            what: Shape (walk, thing).
            weights: Of each click; by default 1.

        Returns:
            Shape (galaxy, thing).
        """
        from scipy import sparse

        shape = (self.galaxies.height, len(self.walks))
        given = np.ones(len(self)) if weights is None else weights
        times = sparse.csr_matrix((given, (self.galaxy, self.walk)), shape=shape)
        return np.asarray(times @ what.astype(np.float64))

    def votes(self) -> Votes:
        """Whole counts of people, for each galaxy."""
        counts, totals = self.sums(self.walks).astype(np.int64), self.sums(self.asked).astype(np.int64)
        return Votes(self.tree, counts, totals)

    def weighted(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Vote fractions in which some volunteers count less.

        Args:
            weights: Of each volunteer, 0 or more, shape (volunteer,).

        Returns:
            The fractions, shape (galaxy, answer), NaN where nobody of weight was asked; and the effective number of
            votes on each question, shape (galaxy, question): (sum w)^2 / sum w^2 (Kish 1965, Survey Sampling, 8.2).
        """
        of_click = weights[self.volunteer]
        votes, asked = self.sums(self.walks, of_click), self.sums(self.asked, of_click)
        squares = self.sums(self.asked, of_click**2)
        below = asked[:, list(self.tree.question_of_answer)]
        fractions = np.divide(votes, below, out=np.full(votes.shape, np.nan), where=below > 0)
        return fractions, np.divide(asked**2, squares, out=np.zeros(asked.shape), where=squares > 0)


@dataclass(frozen=True, slots=True)
class Ingest:
    """What became of every row of an export, without a word about any single person.

    Attributes:
        campaign: The campaign.
        n_rows: Rows of the export.
        n_used: Classifications that are counted.
        reasons: Rule -> rows it took; with `n_used` they add up to `n_rows`.
        n_annotations: Annotations, that is answers to tasks, in rows that could be read.
        n_annotations_used: Those that are counted as votes.
        annotation_reasons: Rule -> annotations it took; with `n_annotations_used` they add up to `n_annotations`.
        notes: What was met and cost nothing -> how often.
        examples: Rule -> the first rows it took (row 1 is the first after the header), each with what stood there.
        n_galaxies: Galaxies with a used classification.
        n_votes_of: Question -> people who answered it.
        n_galaxies_of: Question -> galaxies on which somebody answered it.
        n_volunteers: People, as far as names and addresses tell them apart.
        n_anonymous: Those who were not logged in.
        gini: How unequal they are in numbers of classifications: 0 all alike, 1 one did everything.
        fraction_of_top: Share of classifications that the busiest tenth made.
        clicks_per_volunteer: Quantile (as "0.5") -> classifications.
        n_suspicious: Rule -> volunteers it flagged.
        versions: Workflow and version ("6122 28.30") -> rows of that version.
        weights: What is to be said of volunteer weights; empty where none were asked for.
        files: Role -> name and sha256 of each file that was read.
    """

    campaign: str
    n_rows: int
    n_used: int
    reasons: Mapping[str, int]
    n_annotations: int
    n_annotations_used: int
    annotation_reasons: Mapping[str, int]
    notes: Mapping[str, int]
    examples: Mapping[str, tuple[tuple[int, str], ...]]
    n_galaxies: int
    n_votes_of: Mapping[str, int]
    n_galaxies_of: Mapping[str, int]
    n_volunteers: int
    n_anonymous: int
    gini: float
    fraction_of_top: float
    clicks_per_volunteer: Mapping[str, int]
    n_suspicious: Mapping[str, int] = field(default_factory=dict[str, int])
    versions: Mapping[str, int] = field(default_factory=dict[str, int])
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])

    def to_dict(self) -> dict[str, object]:
        """As JSON would have it."""
        return asdict(self)
