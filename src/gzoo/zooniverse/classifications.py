"""Classifications in memory, and the summary of how an export was counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.display import Sheet, Shown
from gzoo.trees.tree import FloatArray, IntArray, Tree
from gzoo.votes.votes import Votes

BoolArray = npt.NDArray[np.bool_]
GALAXY_SCHEMA = {
    "id_str": pl.String, "dataset_name": pl.String, "source_id": pl.String, "image": pl.String,
    "ra": pl.Float64, "dec": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class Classifications:
    """The classifications that are used, in order of time.

    Volunteers give few of all possible combinations of answers. Each combination (a pattern) is stored once, and the
    classifications refer to it.

    Attributes:
        tree: The decision tree.
        galaxies: One row per galaxy, columns `GALAXY_SCHEMA`.
        pattern_answers: Answers given in each pattern, shape (pattern, answer).
        pattern_questions: Questions answered in each pattern, shape (pattern, question). A question that allows several
            answers may have been answered with none.
        pattern: Index of the pattern, shape (classification,).
        galaxy: Row of `galaxies`, shape (classification,).
        volunteer: Index of the volunteer, in order of first classification, shape (classification,).
        seconds: Duration in seconds, shape (classification,); NaN if unknown.
        names: Name of each volunteer, shape (volunteer,). Written only to the list of volunteers.
        is_anonymous: Whether each volunteer was not logged in, shape (volunteer,).
    """

    tree: Tree
    galaxies: pl.DataFrame
    pattern_answers: BoolArray
    pattern_questions: BoolArray
    pattern: IntArray
    galaxy: IntArray
    volunteer: IntArray
    seconds: FloatArray
    names: tuple[str, ...]
    is_anonymous: BoolArray

    def __len__(self) -> int:
        return len(self.pattern)

    @property
    def seconds_per_answer(self) -> FloatArray:
        """Duration divided by the number of answers plus one (for looking at the image), shape (classification,)."""
        return self.seconds / (1.0 + self.pattern_answers.sum(axis=1)[self.pattern])

    @property
    def n_of_volunteer(self) -> IntArray:
        """Number of classifications of each volunteer, shape (volunteer,)."""
        return np.bincount(self.volunteer, minlength=len(self.names))

    def sum_by_volunteer(self, values: FloatArray) -> FloatArray:
        """Return the sum over each volunteer's classifications, shape (volunteer,).

        Args:
            values: Shape (classification,).
        """
        return np.bincount(self.volunteer, weights=values, minlength=len(self.names)).astype(np.float64)

    def sum_by_galaxy(self, of_pattern: BoolArray, weights: FloatArray | None = None) -> FloatArray:
        """Return the sum over each galaxy's classifications of a property of their patterns.

        Args:
            of_pattern: The property, shape (pattern, n).
            weights: Weight of each classification, 1 by default.

        Returns:
            Shape (galaxy, n).
        """
        from scipy import sparse

        shape = (self.galaxies.height, len(self.pattern_answers))
        given = np.ones(len(self)) if weights is None else weights
        n_times = sparse.csr_matrix((given, (self.galaxy, self.pattern)), shape=shape)
        return np.asarray(n_times @ of_pattern.astype(np.float64))

    def votes(self) -> Votes:
        """Return the vote counts of each galaxy."""
        counts, totals = (self.sum_by_galaxy(one) for one in (self.pattern_answers, self.pattern_questions))
        return Votes(self.tree, counts.astype(np.int64), totals.astype(np.int64))

    def weighted(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return vote fractions in which some volunteers count less.

        Args:
            weights: Weight of each volunteer, 0 or more, shape (volunteer,).

        Returns:
            The fractions, shape (galaxy, answer), NaN where the total weight is 0; and the effective number of votes
            on each question, shape (galaxy, question): (sum w)^2 / sum w^2 (Kish 1965, Survey Sampling, 8.2).
        """
        own = weights[self.volunteer]
        votes, totals = self.sum_by_galaxy(self.pattern_answers, own), self.sum_by_galaxy(self.pattern_questions, own)
        squares = self.sum_by_galaxy(self.pattern_questions, own**2)
        below = totals[:, list(self.tree.question_of_answer)]
        fractions = np.divide(votes, below, out=np.full(votes.shape, np.nan), where=below > 0)
        return fractions, np.divide(totals**2, squares, out=np.zeros(totals.shape), where=squares > 0)


@dataclass(frozen=True, slots=True, repr=False)
class Ingest(Shown):
    """Summary of how every row of an export was counted or excluded, without data about single volunteers.

    Attributes:
        campaign: Name of the campaign.
        n_rows: Rows of the export.
        n_used: Classifications that are counted.
        reasons: Rule -> rows that it excluded; with `n_used` they add up to `n_rows`.
        n_annotations: Annotations, that is answers to tasks, in the rows that could be read.
        n_annotations_used: Annotations that are counted as votes.
        annotation_reasons: Rule -> annotations that it excluded; with `n_annotations_used` they add up to
            `n_annotations`.
        notes: Irregularity that excluded nothing -> number of times.
        examples: Rule -> the first rows that it excluded (row 1 is the first after the header), each with its content.
        n_galaxies: Galaxies with a used classification.
        n_votes_of: Question -> total votes.
        n_galaxies_of: Question -> galaxies with votes.
        n_volunteers: Volunteers, as far as names and addresses distinguish them.
        n_anonymous: Volunteers who were not logged in.
        gini: Gini coefficient of the numbers of classifications: 0 if all volunteers made equally many.
        fraction_by_top_decile: Fraction of the classifications that the most active tenth of the volunteers made.
        classifications_per_volunteer: Quantile (as "0.5") -> classifications.
        n_suspicious: Rule -> volunteers that it flagged as bots.
        versions: Workflow and version ("6122 28.30") -> rows of that version.
        weights: Summary of the volunteers' weights: `mean_weight`, and how many have a weight of 1 or more
            (`fraction_of_volunteers_at_full_weight`, `fraction_of_classifications_at_full_weight`); empty without
            weights.
        files: Role -> name and SHA-256 of each file that was read.
        positions: How the subjects' positions were read; see `gzoo.sky.Positions.to_dict`.
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
    fraction_by_top_decile: float
    classifications_per_volunteer: Mapping[str, int]
    n_suspicious: Mapping[str, int] = field(default_factory=dict[str, int])
    versions: Mapping[str, int] = field(default_factory=dict[str, int])
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    positions: Mapping[str, object] = field(default_factory=dict[str, object])

    def sheet(self) -> Sheet:
        """Return what became of every row and annotation."""
        rows = [("rows", "counted", self.n_used), *(("rows", reason, n) for reason, n in self.reasons.items())]
        rows += [("annotations", "counted as votes", self.n_annotations_used)]
        rows += [("annotations", reason, n) for reason, n in self.annotation_reasons.items()]
        return Sheet(
            f"Classifications of {self.campaign}",
            {
                "galaxies": self.n_galaxies,
                "volunteers": f"{self.n_volunteers:,}, {self.n_anonymous:,} of them not logged in",
                "suspicious": f"{self.n_suspicious.get('any', 0):,} may be bots",
                "without effect": self.notes,
            },
            ("of", "what became of them", "number"),
            rows,
        )
