"""Acquisition functions: which galaxies benefit most from another classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import psi, xlogy

from gzoo.dataset.open import KEY, open_dataset
from gzoo.display import Sheet, Shown, json_value
from gzoo.errors import InputError, choices, suggestion
from gzoo.files import Progress, refuse_file, write_table
from gzoo.scoring.posterior import HeldOut, Posterior, read_held_out
from gzoo.trees.tree import FloatArray

ENDINGS = (".parquet", ".csv")
# criterion -> column of the ranking
CRITERIA = {"information": "expected_information_gain", "error": "expected_error_reduction"}


def information_gain(found: Posterior) -> FloatArray:
    """Return the expected information gain of one more answer to each question, in nats, shape (galaxy, question).

    It is the mutual information of the answer and the vote fractions: the entropy of the answer, minus its expected
    entropy if the fractions were known. Disagreement between volunteers contributes little; missing votes contribute
    much. For questions that allow several answers, each answer is a separate yes or no.

    >>> import gzoo, numpy as np
    >>> from gzoo.scoring.posterior import posterior
    >>> votes = gzoo.Votes(gzoo.tree("gz_rings"), np.array([[0, 0], [20, 20], [40, 0]]))
    >>> information_gain(posterior(votes, np.ones((1, 3, 2)))).round(4)
    array([[0.1931],
           [0.0118],
           [0.0101]])
    """
    tree = found.tree
    fractions = found.fractions
    total = found.alpha + found.beta
    one = found.alpha / total
    entropy = -xlogy(fractions, fractions)
    known = -(found.weights * one * psi(found.alpha + 1)).sum(axis=0)  # expected entropy, given the fractions
    if any(question.multiple for question in tree.questions):
        binary = [i for i, of in enumerate(tree.question_of_answer) if tree.questions[of].multiple]
        rest = 1 - fractions[:, binary]
        entropy[:, binary] -= xlogy(rest, rest)
        beta, both, weights = found.beta[:, :, binary], total[:, :, binary], found.weights[:, :, binary]
        known[:, binary] += (weights * (psi(both + 1) - beta / both * psi(beta + 1))).sum(axis=0)
    gain = np.add.reduceat(entropy - known, list(tree.starts), axis=1)
    for i, question in enumerate(tree.questions):
        if not question.multiple:  # all answers have the same total
            first = tree.starts[i]
            gain[:, i] -= (found.weights[:, :, first] * psi(total[:, :, first] + 1)).sum(axis=0)
    return np.maximum(gain, 0.0)


def error_reduction(found: Posterior) -> FloatArray:
    """Return the expected reduction of the squared error of the vote fractions by one more answer to each question.

    It is summed over the answers, shape (galaxy, question), and equals the variance of the posterior mean after the
    answer: for a Dirichlet distribution, the variance of the fractions divided by 1 + the total concentration.

    >>> import gzoo, numpy as np
    >>> from gzoo.scoring.posterior import posterior
    >>> votes = gzoo.Votes(gzoo.tree("gz_rings"), np.array([[0, 0], [20, 20], [40, 0]]))
    >>> error_reduction(posterior(votes, np.ones((1, 3, 2)))).ravel().round(8)
    array([5.555556e-02, 2.704200e-04, 2.514000e-05])
    """
    tree, fractions = found.tree, found.fractions
    lowered = np.zeros((len(fractions), len(tree.questions)))
    for i, question in enumerate(tree.questions):
        own = range(tree.starts[i], tree.starts[i] + len(question.columns))
        for answer in own:
            p = fractions[:, answer]
            if question.multiple:  # a yes leaves the mean product, a no the rest of p
                yes = found.product(answer, answer)
                lowered[:, i] += yes**2 / p + (p - yes) ** 2 / (1 - p) - p**2
            else:
                lowered[:, i] += sum((found.product(one, answer) ** 2 for one in own), -(p**3)) / p
    return np.maximum(lowered, 0.0)


def expected_gain(found: Posterior, criterion: str = "information") -> FloatArray:
    """Return the expected gain of one more complete classification through each question, shape (galaxy, question).

    A volunteer answers a question with the probability of being asked it. Questions for which this proportion is
    unknown contribute 0.

    Args:
        found: The current posterior.
        criterion: "information": information gain in nats; its sum over the questions of one campaign is exactly the
            mutual information of the classification and all vote fractions. "error": reduction of the squared error
            of the fractions, where each question is weighted by its proportion of volunteers asked.
    """
    asked = np.nan_to_num(found.proportion_asked)
    return asked * information_gain(found) if criterion == "information" else asked**2 * error_reduction(found)


@dataclass(frozen=True, repr=False)
class Ranking(Shown):
    """Galaxies by the expected gain of one more classification, largest first.

    Attributes:
        table: `dataset_name`, `id_str`, `n_votes` (volunteers who classified the galaxy in the subtree),
            `expected_information_gain` or `expected_error_reduction` (see `expected_gain`), `question` that
            contributes most, and `subtree` of the classification.
        criterion: "information" or "error".
        excluded: Questions that contribute nothing, because their proportion of volunteers asked is unknown.
        is_simulated: Whether the dataset is simulated.
        n_listed: Number of galaxies that are shown, and part of `to_dict()`.
    """

    table: pl.DataFrame
    criterion: str
    excluded: tuple[str, ...]
    is_simulated: bool
    n_listed: int = 20

    def to_dict(self) -> dict[str, object]:
        """Return a JSON object with the first `n_listed` galaxies."""
        return {
            "n_galaxies": self.table.height,
            "criterion": self.criterion,
            "excluded": list(self.excluded),
            "is_simulated": self.is_simulated,
            "galaxies": json_value(self.table.head(self.n_listed).to_dicts()),
        }

    def to_polars(self) -> pl.DataFrame:
        """Return all galaxies: the attribute `table`."""
        return self.table

    def sheet(self) -> Sheet:
        """Return the first galaxies."""
        gain = CRITERIA[self.criterion]
        names = ("dataset_name", "id_str", "n_votes", gain, "subtree", "question")
        return Sheet(
            f"Ranking of {self.table.height:,} galaxies by {gain.replace('_', ' ')}",
            {"excluded": self.excluded, "simulated": self.is_simulated or None},
            ("", "dataset", "galaxy", "votes", "gain", "subtree", "main question"),
            [(i, *row) for i, row in enumerate(self.table.head(self.n_listed).select(names).iter_rows(), 1)],
            f"Unit of the gain: {'nats' if self.criterion == 'information' else 'squared vote fraction'}. "
            "All galaxies: to_polars().",
        )


def prioritize(
    predictions: Sequence[Path | str],
    dataset: Path | str,
    *,
    n: int = 20,
    criterion: str = "information",
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Ranking:
    """Rank galaxies by the expected gain of one more classification.

    The gain is computed from the same posterior as in `gzoo.catalog`. In a dataset of several campaigns, a galaxy is
    assumed to be classified in the campaign where most volunteers saw it or, without votes, where the gain is largest.

    Args:
        predictions: Prediction files, as for `gzoo catalog`.
        dataset: Dataset with the votes so far: a folder, a campaign's name or `owner/name` on the Hub.
        n: Number of galaxies to print; the table in `out` contains all.
        criterion: Expected gain to rank by: `information` (nats) or `error` (squared error of the vote fractions).
        out: Table to write: `.parquet` or `.csv`.
        overwrite: Replace an earlier ranking.
        progress: Called with (stage, galaxies done, galaxies in total).

    Raises:
        InputError: `n` is below 1, `criterion` is unknown, or `out` has another suffix.
        NotFoundError: A file or folder does not exist.
        TableError: A file contains no predictions that can be combined with votes; see `gzoo.catalog`.
        OutputExistsError: `out` already exists.
    """
    if n < 1:
        raise InputError(f"n must be a positive integer, got {n}.")
    if criterion not in CRITERIA:
        raise InputError(
            f"Unknown criterion '{criterion}'.", choices(CRITERIA, criterion), suggestion(CRITERIA, criterion)
        )
    if out is not None:
        refuse_file(Path(out), "ranking", ENDINGS, overwrite=overwrite, inputs=[*predictions, dataset])
    opened = open_dataset(dataset, progress=progress)
    held_out = read_held_out(predictions, opened)
    n_galaxies = sum(map(len, held_out))
    rows: list[pl.DataFrame] = []
    for one in held_out:
        for where, found in one.posteriors():
            rows.append(_ranked(one, where, found, criterion))
            if progress:
                progress("Ranking galaxies", sum(map(len, rows)), n_galaxies)
    table = pl.concat(rows).sort([CRITERIA[criterion], *KEY], descending=[True, False, False])
    if out is not None:
        write_table(Path(out), table, "ranking")
    return Ranking(table, criterion, held_out[0].votes.tree.unreachable, opened.is_simulated, n)


def _ranked(one: HeldOut, where: slice, found: Posterior, criterion: str) -> pl.DataFrame:
    tree = found.tree
    names = [question.name for question in tree.questions]
    gain = expected_gain(found, criterion)
    parts = {part: [names.index(question.name) for question in own] for part, own in tree.parts.items()}
    by_part = np.column_stack([gain[:, own].sum(axis=1) for own in parts.values()])
    volunteers = np.column_stack([one.votes.totals[where, own].max(axis=1) for own in parts.values()])
    is_seen_most = volunteers == volunteers.max(axis=1, keepdims=True)
    part = np.where(is_seen_most, by_part, -1.0).argmax(axis=1)
    galaxies = np.arange(len(part))
    is_in = np.zeros((len(parts), len(names)), bool)
    for i, own in enumerate(parts.values()):
        is_in[i, own] = True
    question = np.where(is_in[part], gain, -1.0).argmax(axis=1)
    return one.keys[where].select(
        *KEY,
        pl.Series("n_votes", volunteers[galaxies, part]),
        pl.Series(CRITERIA[criterion], by_part[galaxies, part]),
        pl.Series("question", np.array(names)[question]),
        pl.Series("subtree", np.array(list(parts))[part]),
    )
