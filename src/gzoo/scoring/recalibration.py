"""Recalibration: two numbers a question, fitted on held-out galaxies, that make predictions as sure as they should be.

A factor on the total concentration widens or narrows what is believed around the expected shares; a temperature pulls
the expected shares together (above 1) or apart (below 1). Both are fitted by maximum likelihood, drawn towards 1 where
votes say little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import optimize

from gzoo.dataset.open import KEY, open_dataset
from gzoo.errors import DatasetError, InputError, TableError
from gzoo.scoring.likelihood import mixed, question_nll
from gzoo.scoring.prediction_files import prediction_table, refuse_occupied, write_predictions
from gzoo.scoring.predictions import Kind, match, read_predictions
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

MAX_GALAXIES = 50_000  # of a question: both numbers are then known to about 1 %
SPREAD_OF_FACTOR, SPREAD_OF_TEMPERATURE = 1.5, 0.25  # of the logs, before any votes are seen
MAX_FACTOR, MAX_TEMPERATURE = 1000.0, 4.0  # either way
USUAL_CONCENTRATION, SPREAD_OF_CONCENTRATION = 20.0, 2.0  # of shares that state none: before votes; of its log
NO_DOUBT = 1e6  # a concentration that no votes can tell from certainty
STEP = 1e-3  # of the logs, for derivatives
SMALLEST = 1e-9  # of a share, odds or a concentration


@dataclass(frozen=True, slots=True)
class QuestionRecalibration:
    """What is done to the predictions of one question.

    Attributes:
        factor: On the total concentration; of predicted shares, which have none, the total concentration itself.
            Always 1 where several answers are allowed, as they have no concentration.
        temperature: Expected shares become p^(1/temperature), scaled to add up to 1 (where several answers are
            allowed: odds^(1/temperature)).
        n_galaxies: It was fitted on.
        gain: In log score, nats a galaxy, on those very galaxies: what it gains on others is a little less.
    """

    factor: float
    temperature: float
    n_galaxies: int
    gain: float


@dataclass(frozen=True)
class Recalibration:
    """What is done to predictions, question by question.

    Attributes:
        kind: Of the predictions that it is for.
        questions: By name.
    """

    kind: Kind
    questions: Mapping[str, QuestionRecalibration]

    def apply(self, values: FloatArray, tree: Tree) -> FloatArray:
        """Recalibrated concentrations, shape (member, galaxy, answer).

        Args:
            values: Concentrations or fractions, as `kind` says, same shape.
            tree: The questions; those that it was not fitted on become NaN.
        """
        out = np.full(values.shape, np.nan)
        for name, one in self.questions.items():
            own, question = tree.slice(name), tree.question(name)
            out[..., own] = recalibrated(values[..., own], one.factor, one.temperature, question, self.kind)
        return out

    def to_dict(self) -> dict[str, object]:
        """As `run.json` holds it."""
        return {"kind": self.kind, "questions": {name: asdict(one) for name, one in self.questions.items()}}

    @staticmethod
    def from_json(found: object, source: Path) -> Recalibration:
        """What `to_json` wrote down.

        Raises:
            DatasetError: It is something else.
        """
        try:
            facts = cast("Mapping[str, object]", found)
            questions = cast("Mapping[str, Mapping[str, object]]", facts["questions"])
            read = {
                str(name): QuestionRecalibration(
                    factor=_positive(one["factor"]),
                    temperature=_positive(one["temperature"]),
                    n_galaxies=int(cast(int, one["n_galaxies"])),
                    gain=float(cast(float, one["gain"])),
                )
                for name, one in questions.items()
            }
            kind = facts["kind"]
            if kind not in ("concentrations", "fractions"):
                raise ValueError(f"kind is {kind!r}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(
                f"{source}: the recalibration cannot be read: {error}.", "What `gzoo train` wrote.", "Train again."
            ) from error
        return Recalibration(kind, read)


def _positive(number: object) -> float:
    found = float(cast(float, number))
    if not 0 < found < math.inf:
        raise ValueError(f"{found} is not a positive number")
    return found


def fit_recalibration(
    votes: Votes,
    values: FloatArray,
    kind: Kind = "concentrations",
    questions: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> Recalibration:
    """The recalibration that fits the votes best.

    Args:
        votes: Of held-out galaxies: those that a model was trained on would make it look surer than it is.
        values: Predicted for them, shape (member, galaxy, answer).
        kind: What they are. Fractions become concentrations.
        questions: Names of those that are predicted; by default all.
        seed: Of the choice of galaxies where they are very many.
    """
    tree = votes.tree
    fitted: dict[str, QuestionRecalibration] = {}
    for i, question in enumerate(tree.questions):
        if questions is not None and question.name not in questions:
            continue
        rows = np.flatnonzero(votes.totals[:, i] > 0)
        if len(rows) > MAX_GALAXIES:
            rows = np.sort(np.random.default_rng([seed, i]).choice(rows, MAX_GALAXIES, replace=False))
        own = tree.slice(question.name)
        fitted[question.name] = fit_question(
            votes.counts[rows, own], votes.totals[rows, i], values[:, rows, own], question, kind
        )
    return Recalibration(kind, fitted)


def fit_question(
    counts: IntArray, volunteers: IntArray, values: FloatArray, question: Question, kind: Kind
) -> QuestionRecalibration:
    """The recalibration of one question.

    Args:
        counts: Shape (galaxy, answer).
        volunteers: Asked, at least 1, shape (galaxy,).
        values: Predicted, shape (member, galaxy, answer).
        question: The question.
        kind: What `values` holds.
    """
    is_fractions = kind == "fractions" and not question.multiple
    unchanged = NO_DOUBT if is_fractions else 1.0
    n = len(volunteers)
    if not n:
        return QuestionRecalibration(factor=unchanged, temperature=1.0, n_galaxies=0, gain=0.0)

    def cost(logs: FloatArray) -> float:
        new = recalibrated(values, math.exp(logs[0]), math.exp(logs[1]), question, kind)
        return float(mixed([question_nll(counts, volunteers, one, is_multiple=question.multiple) for one in new]).sum())

    usual, spread = (
        (math.log(USUAL_CONCENTRATION), SPREAD_OF_CONCENTRATION) if is_fractions else (0.0, SPREAD_OF_FACTOR)
    )
    middle, scale = np.array([usual, 0.0]), np.array([spread, SPREAD_OF_TEMPERATURE])

    def penalised(logs: FloatArray) -> float:
        return (cost(logs) + 0.5 * float((((logs - middle) / scale) ** 2).sum())) / n

    def slope(logs: FloatArray) -> FloatArray:
        moves = STEP * np.eye(2)
        return np.array([(penalised(logs + move) - penalised(logs - move)) / (2 * STEP) for move in moves])

    most = math.log(NO_DOUBT) - usual if is_fractions else math.log(MAX_FACTOR)
    if question.multiple:
        most = 0.0
    bounds = [(usual - most, usual + most), (-math.log(MAX_TEMPERATURE), math.log(MAX_TEMPERATURE))]
    best = optimize.minimize(penalised, middle, jac=slope, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-10}).x
    before = cost(np.array([math.log(unchanged), 0.0]))
    factor, temperature = (_short(float(one)) for one in np.exp(best))
    gain = (before - cost(np.log([factor, temperature]))) / n
    return QuestionRecalibration(factor=factor, temperature=temperature, n_galaxies=n, gain=round(gain, 5))


def _short(number: float) -> float:
    """Four figures: more than is known, and the last digits of a machine's arithmetic are left behind."""
    return float(f"{number:.4g}")


def recalibrated(values: FloatArray, factor: float, temperature: float, question: Question, kind: Kind) -> FloatArray:
    """Recalibrated concentrations of one question, shape (member, galaxy, answer).

    >>> import gzoo, numpy as np
    >>> ring = gzoo.tree("gz_rings").questions[0]
    >>> recalibrated(np.array([[[1.0, 3.0]]]), 2.0, 1.0, ring, "concentrations")
    array([[[2., 6.]]])
    """
    if question.multiple:
        odds = values / (1 - values) if kind == "fractions" else values
        return np.clip(odds, SMALLEST, 1 / SMALLEST) ** (1 / temperature)
    total = values.sum(axis=-1, keepdims=True)
    logs = np.log(np.maximum(values / total, SMALLEST)) / temperature
    fractions = np.exp(logs - logs.max(axis=-1, keepdims=True))
    fractions /= fractions.sum(axis=-1, keepdims=True)
    return np.maximum(factor * (total if kind == "concentrations" else 1.0) * fractions, SMALLEST)


# ----------------------------------------------------------------------------------------------------
# The verb


@dataclass(frozen=True, slots=True)
class RecalibrateResult:
    """What recalibration made.

    Attributes:
        path: The file of recalibrated predictions.
        n_galaxies: Its rows.
        n_fitted: Galaxies that the recalibration was fitted on.
        recalibration: What was done.
    """

    path: Path
    n_galaxies: int
    n_fitted: int
    recalibration: Recalibration


def recalibrate(
    predictions: Path | str,
    folder: Path | str,
    *,
    validation: Path | str,
    out: Path | str,
    columns: Path | str | None = None,
    overwrite: bool = False,
) -> RecalibrateResult:
    """Predictions made as sure as they should be, by what the same model says of galaxies that it was not trained on.

    Predicted fractions become concentrations. `gzoo predict` does the same by itself, with the numbers that `gzoo
    train` fitted on the validation split; this is for runs from before, and for predictions from anywhere else.

    Args:
        predictions: The file to recalibrate.
        folder: The dataset with the votes of the galaxies in `validation`.
        validation: Predictions of the same model for galaxies held out of its training. Those that are in both files
            are marked as trained on in `out`, so that nobody scores them.
        out: The prediction file to write (Parquet).
        columns: Mapping file for prediction files with column names of their own.
        overwrite: Replace an earlier prediction file.

    Raises:
        NotFoundError: A file or the dataset is not there.
        TableError: A file is not one of predictions, or `validation` holds galaxies of the train split.
        InputError: The two files are of different kinds, or predict different questions.
        OutputExistsError: `out` is taken.
    """
    out, validation = Path(out), Path(validation)
    refuse_occupied(out, overwrite)
    dataset = open_dataset(folder)
    held_out = read_predictions(validation, dataset.tree, columns)
    wanted = read_predictions(predictions, dataset.tree, columns)
    matched = match(dataset, held_out.keys, validation)
    trained = matched.keys.filter(pl.col("split") == "train")
    if trained.height:
        raise TableError(
            f"{validation} holds {trained.height} galaxies of the train split, such as '{trained['id_str'][0]}'.",
            "Galaxies that the model was not trained on: of others it is surer than it may be.",
            "Predict the validation split.",
        )
    missing = [name for name in wanted.questions if name not in held_out.questions]
    if missing or wanted.kind != held_out.kind:
        what = f"question '{missing[0]}'" if missing else wanted.kind
        raise InputError(
            f"{predictions} predicts {what}, and {validation} does not.",
            "Two files of one model: of one kind, with the same questions.",
            "Predict the validation split with the model that the other file is of.",
        )
    fitted = fit_recalibration(matched.votes, held_out.values, held_out.kind, held_out.questions)
    is_seen = wanted.in_training_set | _in(wanted.keys, held_out.keys)
    table = prediction_table(wanted.keys, fitted.apply(wanted.values, dataset.tree), dataset.tree, wanted.questions)
    about: dict[str, object] = {
        "kind": "predictions",
        "data_sha256": dataset.digest,
        "is_simulated": dataset.is_simulated,
        "recalibration": fitted.to_dict(),
    }
    write_predictions(out, table.with_columns(in_training_set=pl.Series(is_seen)), about)
    return RecalibrateResult(out, table.height, len(held_out), fitted)


def _in(keys: pl.DataFrame, others: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Which galaxies are among others, by both names where both files have them."""
    is_named = not keys["dataset_name"].null_count() and not others["dataset_name"].null_count()
    by = list(KEY) if is_named else ["id_str"]
    found = others.select(by).unique().with_columns(is_in=pl.lit(True))
    joined = keys.select(by).join(found, on=by, how="left", maintain_order="left")
    return joined["is_in"].fill_null(False).to_numpy()
