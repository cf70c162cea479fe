"""Choosing: which galaxies are worth another classification."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import psi, xlogy

from gzoo import files
from gzoo.dataset.open import KEY, open_dataset
from gzoo.errors import InputError
from gzoo.files import refuse_out
from gzoo.scoring.posterior import Posterior, Progress, Unseen, read_unseen
from gzoo.trees.tree import FloatArray

ENDINGS = (".parquet", ".csv")
BY = ("information", "error")


def information(found: Posterior) -> FloatArray:
    """What one more answer to each question would tell of its shares, in nats, shape (galaxy, question).

    The mutual information of the answer and the shares: how uncertain the answer is, less how uncertain it would be
    if the shares were known. An answer that is open because people differ tells little; one that is open because
    nobody has been asked tells much. Of a question that allows several answers, each is a yes or no by itself.

    >>> import gzoo, numpy as np
    >>> from gzoo.scoring.posterior import posterior
    >>> votes = gzoo.Votes(gzoo.tree("gz_rings"), np.array([[0, 0], [20, 20], [40, 0]]))
    >>> information(posterior(votes, np.ones((1, 3, 2)))).round(4)
    array([[0.1931],
           [0.0118],
           [0.0101]])
    """
    tree = found.tree
    fractions = found.fractions
    total = found.alpha + found.beta
    one = found.alpha / total
    open_now = -xlogy(fractions, fractions)
    open_then = -(found.weights * one * psi(found.alpha + 1)).sum(axis=0)
    if any(question.multiple for question in tree.questions):
        yes_or_no = [i for i, of in enumerate(tree.question_of_answer) if tree.questions[of].multiple]
        rest = 1 - fractions[:, yes_or_no]
        open_now[:, yes_or_no] -= xlogy(rest, rest)
        beta, all_ = found.beta[:, :, yes_or_no], total[:, :, yes_or_no]
        weights = found.weights[:, :, yes_or_no]
        open_then[:, yes_or_no] += (weights * (psi(all_ + 1) - beta / all_ * psi(beta + 1))).sum(axis=0)
    told = np.add.reduceat(open_now - open_then, list(tree.starts), axis=1)
    for i, question in enumerate(tree.questions):
        if not question.multiple:  # of which all answers share one sum
            first = tree.starts[i]
            told[:, i] -= (found.weights[:, :, first] * psi(total[:, :, first] + 1)).sum(axis=0)
    return np.maximum(told, 0.0)


def error_reduction(found: Posterior) -> FloatArray:
    """By how much one more answer to each question is expected to lower the squared error of its shares.

    Summed over the answers; shape (galaxy, question). It is the variance of what will be expected once the answer is
    known; of a Dirichlet distribution, the variance of the shares over 1 + the sum of its concentrations.

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
            if question.multiple:  # a yes or no, and of a no the rest of the product is left
                yes = found.product(answer, answer)
                lowered[:, i] += yes**2 / p + (p - yes) ** 2 / (1 - p) - p**2
            else:
                lowered[:, i] += sum((found.product(one, answer) ** 2 for one in own), -(p**3)) / p
    return np.maximum(lowered, 0.0)


def gain(found: Posterior, criterion: str = "information") -> FloatArray:
    """What one more whole classification is expected to bring through each question, shape (galaxy, question).

    A volunteer walks down the tree and comes to a question with the probability of being asked it. Questions for
    which that cannot be known count 0.

    Args:
        found: What is known now.
        criterion: "information": nats; the sum over the questions of one campaign is exactly the mutual information of the
            walk and all shares. "error": how much the squared error of the shares falls, each question weighted by
            its probability of being asked.
    """
    proportion_asked = np.nan_to_num(found.proportion_asked)
    return (
        proportion_asked * information(found)
        if criterion == "information"
        else proportion_asked**2 * error_reduction(found)
    )


@dataclass(frozen=True)
class Ranking:
    """Galaxies by what one more classification is expected to bring, most first.

    Attributes:
        table: `dataset_name`, `id_str`, `n_votes` (people who have answered the first question), `gain` (see `gain`),
            `question` that most of it comes through, and `part` of the tree that the classification is in.
        criterion: What the gain is of.
        excluded: Questions that count nothing, for their probability of being asked cannot be known.
        is_simulated: Whether no telescope and no person was involved.
    """

    table: pl.DataFrame
    criterion: str
    excluded: tuple[str, ...]
    is_simulated: bool

    def to_dict(self, n: int) -> dict[str, object]:
        """As one JSON object, with the first `n` galaxies."""
        return {
            "n_galaxies": self.table.height,
            "criterion": self.criterion,
            "excluded": list(self.excluded),
            "is_simulated": self.is_simulated,
            "galaxies": self.table.head(n).to_dicts(),
        }


def prioritize(
    predictions: Sequence[Path | str],
    folder: Path | str,
    *,
    n: int = 20,
    criterion: str = "information",
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Ranking:
    """Galaxies ranked by what one more whole classification is expected to bring: information, by default.

    What is known is the posterior, as `combine` makes it. In a dataset of several campaigns a galaxy is taken to be
    shown in the one in which most people saw it or, if nobody did, in the one that would bring most.

    Args:
        predictions: Prediction files, as `combine` takes them.
        folder: The dataset with the votes so far.
        n: How many galaxies are wanted; the ranking that is returned and the table in `out` hold all.
        criterion: "information", in nats, or "error", squared: what falls fastest when those first in the ranking are
            classified. See `gain`.
        out: Table to write: `.parquet` or `.csv`.
        overwrite: Replace an earlier ranking.
        progress: Called as (stage, galaxies done, galaxies).

    Raises:
        InputError: `n` is below 1, `criterion` is something else, or `out` has another ending.
        NotFoundError: A file or folder is not there.
        TableError: A file holds no predictions that can be combined with votes; see `gzoo.combine`.
        OutputExistsError: `out` is taken.
    """
    if n < 1:
        raise InputError(f"n is {n}.", "At least 1.", "Choose another --n.")
    if criterion not in BY:
        raise InputError(
            f"There is no ranking by '{criterion}'.", f"One of {', '.join(BY)}.", "Choose another --criterion."
        )
    if out is not None:
        refuse_out(Path(out), "ranking", ENDINGS, "gain", overwrite)
    dataset = open_dataset(folder, progress=progress)
    united = read_unseen(predictions, dataset)
    n_galaxies = sum(len(one) for one in united)
    rows: list[pl.DataFrame] = []
    for one in united:
        for where, found in one.posteriors():
            rows.append(_ranked(one, where, found, criterion))
            if progress:
                progress("ranking", sum(map(len, rows)), n_galaxies)
    table = pl.concat(rows).sort(["gain", *KEY], descending=[True, False, False])
    if out is not None:
        data = io.BytesIO()
        if Path(out).suffix == ".csv":
            table.write_csv(data)
        else:
            table.write_parquet(data)
        files.write_bytes(Path(out), data.getvalue())
    return Ranking(table, criterion, united[0].votes.tree.unreachable, dataset.is_simulated)


def _ranked(one: Unseen, where: slice, found: Posterior, criterion: str) -> pl.DataFrame:
    tree = found.tree
    names = [question.name for question in tree.questions]
    brought = gain(found, criterion)
    parts = {part: [names.index(question.name) for question in own] for part, own in tree.parts.items()}
    by_part = np.column_stack([brought[:, own].sum(axis=1) for own in parts.values()])
    volunteers = np.column_stack([one.votes.totals[where, own].max(axis=1) for own in map(list, parts.values())])
    seen_in = volunteers.max(axis=1, keepdims=True)
    part = np.where(volunteers == seen_in, by_part, -1.0).argmax(axis=1)
    every = np.arange(len(part))
    is_in = np.zeros((len(parts), len(names)), bool)
    for i, own in enumerate(parts.values()):
        is_in[i, own] = True
    question = np.where(is_in[part], brought, -1.0).argmax(axis=1)
    return one.keys[where].select(
        *KEY,
        n_votes=pl.Series(volunteers[every, part]),
        gain=pl.Series(by_part[every, part]),
        question=pl.Series(np.array(names)[question]),
        part=pl.Series(np.array(list(parts))[part]),
    )
