"""Recalibration: temperature and concentration scaling of predictions, fitted on held-out galaxies.

A factor on the total concentration widens or narrows the predictive distribution around the predicted vote fractions; a
temperature moves these fractions towards each other (above 1) or apart (below 1). Both are fitted by penalised maximum
likelihood, which keeps them near 1 where there are few votes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import optimize

from gzoo.dataset.open import open_dataset
from gzoo.dataset.schema import KEY
from gzoo.errors import DatasetError, InputError, TableError, reason
from gzoo.scoring.likelihood import giving, members_nll
from gzoo.scoring.matching import match, refuse_other_scheme
from gzoo.scoring.prediction_files import prediction_table, read_metadata, refuse_occupied, write_predictions
from gzoo.scoring.predictions import Kind, read_predictions
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

MAX_GALAXIES = 50_000  # per question: both parameters then have errors of about 1%
LOG_FACTOR_SD, LOG_TEMPERATURE_SD = 1.5, 0.25  # prior standard deviations
MAX_FACTOR, MAX_TEMPERATURE = 1000.0, 4.0  # and the inverse of these as minimum
PRIOR_CONCENTRATION, LOG_CONCENTRATION_SD = 20.0, 2.0  # for fractions, which do not have a concentration
CERTAIN = 1e6  # a concentration that no votes can distinguish from an infinite one
STEP = 1e-3  # of the logarithms, for derivatives
SMALLEST = 1e-9  # fraction, odds or concentration
PASSED_ON = ("run_sha256", "trained_by_scheme", "baseline", "hub", "split")
"""What a recalibrated file says of its origin as the file before it does."""


@dataclass(frozen=True, slots=True)
class QuestionRecalibration:
    """Recalibration of one question.

    Attributes:
        factor: Factor on the total concentration; for predicted fractions, the total concentration itself.
        temperature: Predicted fractions become p^(1/temperature), normalised to a sum of 1 (for questions that allow
            several answers: odds^(1/temperature)).
        n_galaxies: Number of galaxies that it was fitted on.
        gain: Gain in log-likelihood (nats per galaxy) on the same galaxies; the gain on others is slightly smaller.
    """

    factor: float
    temperature: float
    n_galaxies: int
    gain: float


@dataclass(frozen=True)
class Recalibration:
    """Recalibration of predictions, question by question.

    Attributes:
        kind: Kind of predictions that it applies to.
        questions: Recalibration of each question, by name.
    """

    kind: Kind
    questions: Mapping[str, QuestionRecalibration]

    def apply(self, values: FloatArray, tree: Tree) -> FloatArray:
        """Return recalibrated concentrations, shape (member, galaxy, concentration).

        Args:
            values: Concentrations of this shape or fractions, shape (member, galaxy, answer), according to `kind`.
            tree: Decision tree; questions without a recalibration become NaN.
        """
        out = np.full((*values.shape[:-1], len(tree.concentrations)), np.nan)
        for name, one in self.questions.items():
            to = tree.concentration_slice(name)
            own = values[..., tree.slice(name) if self.kind == "fractions" else to]
            out[..., to] = recalibrated(own, one.factor, one.temperature, tree.question(name), self.kind)
        return out

    def to_dict(self) -> dict[str, object]:
        """Return the `recalibration` part of `run.json`."""
        return {"kind": self.kind, "questions": {name: asdict(one) for name, one in self.questions.items()}}

    @staticmethod
    def from_dict(found: object, source: Path) -> Recalibration:
        """Return the recalibration that `to_dict` describes.

        Args:
            found: JSON value.
            source: File that contains it, for error messages.

        Raises:
            DatasetError: The value is not a recalibration.
        """
        metadata: Any = found
        try:
            kind: Kind = metadata["kind"]
            questions = {str(name): QuestionRecalibration(**one) for name, one in metadata["questions"].items()}
            numbers = [number for one in questions.values() for number in (one.factor, one.temperature)]
            if kind not in ("concentrations", "fractions") or not all(0 < number < math.inf for number in numbers):
                raise ValueError("a value is out of range")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(
                f"Cannot read the recalibration in '{source}': {reason(error)}.",
                "a recalibration written by `gzoo train`.",
                "Run `gzoo train` again.",
            ) from error
        return Recalibration(kind, questions)


def fit_recalibration(
    votes: Votes,
    values: FloatArray,
    kind: Kind = "concentrations",
    questions: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> Recalibration:
    """Return the recalibration that fits the votes best.

    Args:
        votes: Votes of held-out galaxies; galaxies of the training set would hide overconfidence.
        values: Predictions for them: concentrations, shape (member, galaxy, concentration), or fractions, shape
            (member, galaxy, answer).
        kind: Kind of predictions. Fractions become concentrations.
        questions: Names of the predicted questions; by default all.
        seed: Seed of the random subset that is used of more than 50,000 galaxies.
    """
    tree = votes.tree
    fitted: dict[str, QuestionRecalibration] = {}
    for i, question in enumerate(tree.questions):
        if questions is not None and question.name not in questions:
            continue
        rows = np.flatnonzero(votes.totals[:, i] > 0)
        if len(rows) > MAX_GALAXIES:
            rows = np.sort(np.random.default_rng([seed, i]).choice(rows, MAX_GALAXIES, replace=False))
        answers = tree.slice(question.name)
        own = answers if kind == "fractions" else tree.concentration_slice(question.name)
        fitted[question.name] = fit_question(
            votes.counts[rows, answers], votes.totals[rows, i], values[:, rows, own], question, kind
        )
    return Recalibration(kind, fitted)


def fit_question(
    counts: IntArray, totals: IntArray, values: FloatArray, question: Question, kind: Kind
) -> QuestionRecalibration:
    """Return the recalibration of one question.

    Args:
        counts: Vote counts, shape (galaxy, answer).
        totals: Total votes, at least 1, shape (galaxy,).
        values: Predictions, shape (member, galaxy, concentration), or (member, galaxy, answer) for fractions.
        question: Question.
        kind: Kind of predictions.
    """
    is_fractions = kind == "fractions"
    unchanged = CERTAIN if is_fractions else 1.0
    n = len(totals)
    if not n:
        return QuestionRecalibration(factor=unchanged, temperature=1.0, n_galaxies=0, gain=0.0)

    def cost(logs: FloatArray) -> float:
        new = recalibrated(values, math.exp(logs[0]), math.exp(logs[1]), question, kind)
        return float(members_nll(counts, totals, new, is_fraction=False, is_multiple=question.multiple).sum())

    usual, sd = (math.log(PRIOR_CONCENTRATION), LOG_CONCENTRATION_SD) if is_fractions else (0.0, LOG_FACTOR_SD)
    middle, scale = np.array([usual, 0.0]), np.array([sd, LOG_TEMPERATURE_SD])

    def penalised(logs: FloatArray) -> float:
        return (cost(logs) + 0.5 * float((((logs - middle) / scale) ** 2).sum())) / n

    def slope(logs: FloatArray) -> FloatArray:
        moves = STEP * np.eye(2)
        return np.array([(penalised(logs + move) - penalised(logs - move)) / (2 * STEP) for move in moves])

    most = math.log(CERTAIN if is_fractions else MAX_FACTOR) - usual
    bounds = [(usual - most, usual + most), (-math.log(MAX_TEMPERATURE), math.log(MAX_TEMPERATURE))]
    best = optimize.minimize(penalised, middle, jac=slope, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-10}).x
    before = cost(np.array([math.log(unchanged), 0.0]))
    # four figures are more than the data determine, and hide differences in the rounding of machines
    factor, temperature = (float(f"{one:.4g}") for one in np.exp(best))
    gain = (before - cost(np.log([factor, temperature]))) / n
    return QuestionRecalibration(factor=factor, temperature=temperature, n_galaxies=n, gain=round(gain, 5))


def recalibrated(values: FloatArray, factor: float, temperature: float, question: Question, kind: Kind) -> FloatArray:
    """Return the recalibrated concentrations of one question, shape (member, galaxy, concentration).

    >>> import gzoo, numpy as np
    >>> ring = gzoo.tree("gz_rings").questions[0]
    >>> recalibrated(np.array([[[1.0, 3.0]]]), 2.0, 1.0, ring, "concentrations")
    array([[[2., 6.]]])
    """
    if question.multiple:  # a distribution over yes and no for each answer
        pairs = np.stack((values, 1 - values) if kind == "fractions" else giving(values), axis=-1)
        new = _recalibrated(pairs, factor, temperature, kind)
        return np.concatenate([new[..., 0], new[..., 1]], axis=-1)
    return _recalibrated(values, factor, temperature, kind)


def _recalibrated(values: FloatArray, factor: float, temperature: float, kind: Kind) -> FloatArray:
    total = values.sum(axis=-1, keepdims=True)
    logs = np.log(np.maximum(values / total, SMALLEST)) / temperature
    fractions = np.exp(logs - logs.max(axis=-1, keepdims=True))
    fractions /= fractions.sum(axis=-1, keepdims=True)
    return np.maximum(factor * (total if kind == "concentrations" else 1.0) * fractions, SMALLEST)


# ----------------------------------------------------------------------------------------------------
# The verb


@dataclass(frozen=True, slots=True)
class RecalibrateResult:
    """Result of `recalibrate`.

    Attributes:
        path: Path of the recalibrated predictions.
        n_galaxies: Number of recalibrated galaxies.
        n_fitted: Number of galaxies that the recalibration was fitted on.
        recalibration: Fitted recalibration.
    """

    path: Path
    n_galaxies: int
    n_fitted: int
    recalibration: Recalibration


def recalibrate(
    predictions: Path | str,
    dataset: Path | str,
    *,
    validation: Path | str,
    out: Path | str,
    mapping: Path | str | None = None,
    overwrite: bool = False,
) -> RecalibrateResult:
    """Recalibrate predictions on held-out galaxies.

    Predicted fractions become concentrations. `gzoo predict` recalibrates by itself, with the parameters that `gzoo
    train` fitted on the validation split; this command is for predictions from other programs.

    Args:
        predictions: Prediction file to recalibrate.
        dataset: Dataset with the votes of the galaxies in `validation`.
        validation: Predictions of the same model for held-out galaxies. Galaxies that are in both files are marked in
            `out` as part of the training set, so that they are not scored.
        out: Prediction file to write (Parquet).
        mapping: Mapping file for prediction files with other column names.
        overwrite: Replace an earlier prediction file.

    Raises:
        NotFoundError: A file or the dataset does not exist.
        TableError: A file does not contain valid predictions, or `validation` contains galaxies of the train split, or
            the model was trained with another split scheme.
        InputError: The two files differ in kind or questions.
        OutputExistsError: `out` already exists.
    """
    out, validation = Path(out), Path(validation)
    refuse_occupied(out, overwrite)
    opened = open_dataset(dataset)
    tree = opened.tree
    held_out, wanted = (read_predictions(path, tree, mapping) for path in (validation, predictions))
    refuse_other_scheme(validation, opened)
    matched = match(opened, held_out.keys, validation)
    # a model marks its validation galaxies too, which may be used here; out-of-fold predictions are marked as unseen
    is_unseen = held_out.in_training_set.eq_missing(False)
    trained = matched.keys.filter((pl.col("split") == "train") & ~is_unseen)
    if trained.height:
        raise TableError(
            f"'{validation}' contains {trained.height:,} train-split galaxies (first: '{trained['id_str'][0]}').",
            "held-out galaxies, because predictions for other galaxies are overconfident.",
            "Predict the validation split.",
        )
    missing = [name for name in wanted.questions if name not in held_out.questions]
    if missing or wanted.kind != held_out.kind:
        what = f"question '{missing[0]}'" if missing else wanted.kind
        raise InputError(
            f"'{predictions}' predicts {what}, but '{validation}' does not.",
            "two prediction files of one model, with the same kind of predictions and the same questions.",
            "Predict the validation split with the model of the other file.",
        )
    fitted = fit_recalibration(matched.votes, held_out.values, held_out.kind, held_out.questions)
    table = prediction_table(wanted.keys, fitted.apply(wanted.values, tree), tree, wanted.questions)
    is_fitted_on = pl.Series(_is_in(wanted.keys, held_out.keys))
    is_seen = wanted.in_training_set.set(is_fitted_on, True)  # still null where the file does not say
    origin = read_metadata(Path(predictions))
    metadata: dict[str, object] = {
        **{key: origin[key] for key in PASSED_ON if key in origin},
        "kind": "predictions",
        "data_sha256": opened.digest,
        "is_simulated": opened.is_simulated,
        "recalibration": fitted.to_dict(),
    }
    write_predictions(out, table.with_columns(in_training_set=is_seen), metadata)
    return RecalibrateResult(out, table.height, len(held_out), fitted)


def _is_in(keys: pl.DataFrame, others: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Return which galaxies are among others, by both names if both files have them."""
    is_named = not keys["dataset_name"].null_count() and not others["dataset_name"].null_count()
    by = list(KEY) if is_named else ["id_str"]
    known = set(others.select(by).rows())
    return np.array([row in known for row in keys.select(by).rows()], bool)
