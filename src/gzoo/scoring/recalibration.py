"""Recalibration: a factor, a temperature and a bias of each answer, fitted to the votes of held-out galaxies.

A factor on the total concentration widens or narrows the predictive distribution around the predicted vote fractions; a
temperature moves these fractions towards each other (above 1) or apart (below 1); a bias raises or lowers the fraction
of one answer in all galaxies.

The factor has a prior: a mixture of a normal distribution around 1 and of one around usual concentrations of votes,
however large or small the predicted concentration is. Temperature and biases are costly where there are few votes, so
the result is an average over fits with and without them, weighted by the Bayesian information criterion. Below 50
galaxies the factor is averaged over too: a model is selected on the same galaxies, and so few of them would make it
overconfident. An answer is given a bias only where the scatter between galaxies shows one.

Where a question allows several answers, each of them is recalibrated as if it were a question of its own, which
volunteers answer by giving it or not: some answers scatter more than others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.dataset.open import open_dataset
from gzoo.dataset.schema import KEY
from gzoo.display import Sheet, Shown, field_values, table_of
from gzoo.errors import DatasetError, InputError, TableError, reason
from gzoo.scoring.likelihood import giving
from gzoo.scoring.matching import match, refuse_other_scheme
from gzoo.scoring.prediction_files import prediction_table, read_metadata, refuse_predictions, write_prediction_table
from gzoo.scoring.predictions import Kind, read_predictions
from gzoo.scoring.scaling import CERTAIN, Penalty, Scaling, scaled
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

MAX_GALAXIES = 50_000  # per question: all parameters then have errors of about 1%
LOG_FACTOR_SD, LOG_TEMPERATURE_SD, BIAS_SD = 1.0, 0.25, 1.0  # prior standard deviations
USUAL_CONCENTRATION, LOG_CONCENTRATION_SD = 20.0, 2.0  # prior of the resulting concentration
P_UNCHANGED = 0.25  # prior weight of a factor near 1
MIN_GALAXIES = 10  # the fewest for temperature, biases and a gain
FEW_GALAXIES = 50  # fewer have to show that a factor is needed
N_FOLDS, MAX_FOR_GAIN = 5, 10_000  # of the galaxies that measure the gain
PARAMETERS = ("factor", "temperature", "bias")
PASSED_ON = ("run_sha256", "trained_by_scheme", "baseline", "hub", "split")
"""What a recalibrated file says of its origin as the file before it does."""


@dataclass(frozen=True, slots=True)
class QuestionRecalibration:
    """Recalibration of one question.

    Attributes:
        factor: Factor on the total concentration; for predicted fractions, the total concentration itself. One number,
            or one for each answer where the question allows several.
        temperature: Predicted fractions become p^(1/temperature) exp(bias), normalised to a sum of 1 (for questions
            that allow several answers: odds^(1/temperature) exp(bias)). As many numbers as factors.
        bias: One number for each answer, in their order; 0 where the votes show no bias.
        n_galaxies: Number of galaxies that it was fitted on.
        gain: Gain in log-likelihood (nats per galaxy), cross-fitted: every fifth of the galaxies with the parameters
            that fit the others best. Null below 10 galaxies.
    """

    factor: tuple[float, ...]
    temperature: tuple[float, ...]
    bias: tuple[float, ...]
    n_galaxies: int
    gain: float | None

    def apply(self, values: FloatArray, question: Question, kind: Kind) -> FloatArray:
        """Return recalibrated concentrations, shape (member, galaxy, concentration).

        Args:
            values: Concentrations of this shape, or fractions, shape (member, galaxy, answer).
            question: Question.
            kind: Kind of values.
        """
        is_fraction = kind == "fractions"
        if not question.multiple:
            return scaled(values, self._parameters(0, self.bias), is_fraction=is_fraction)
        each = [
            scaled(one, self._parameters(i, (self.bias[i] / 2, -self.bias[i] / 2)), is_fraction=is_fraction)
            for i, one in enumerate(_choices(values, question, is_fraction=is_fraction))
        ]
        return np.concatenate([[one[..., i] for one in each] for i in range(2)]).transpose(1, 2, 0)

    def _parameters(self, choice: int, bias: tuple[float, ...]) -> FloatArray:
        """Return parameters of `gzoo.scoring.scaling`."""
        return np.array([math.log(self.factor[choice]), math.log(self.temperature[choice]), *bias])


@dataclass(frozen=True, repr=False)
class Recalibration(Shown):
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
            to, is_fraction = tree.concentration_slice(name), self.kind == "fractions"
            own = values[..., tree.slice(name) if is_fraction else to]
            out[..., to] = one.apply(own, tree.question(name), self.kind)
        return out

    def to_dict(self) -> dict[str, object]:
        """Return the `recalibration` part of `run.json`."""
        return {"kind": self.kind, "questions": {name: field_values(one) for name, one in self.questions.items()}}

    def to_polars(self) -> pl.DataFrame:
        """Return a row for each question."""
        return table_of({"question": name, **asdict(one)} for name, one in self.questions.items())

    def sheet(self) -> Sheet:
        """Return what was fitted for each question."""
        return Sheet(
            f"Recalibration of {self.kind}",
            {},
            ("question", "galaxies", "factor", "temperature", "bias", "gain (nats)"),
            [
                (
                    name,
                    one.n_galaxies,
                    " ".join(f"{each:.3g}" for each in one.factor),
                    " ".join(f"{each:.3f}" for each in one.temperature),
                    " ".join(f"{each:+.2f}" for each in one.bias) if any(one.bias) else None,
                    None if one.gain is None else f"{one.gain:.4f}",
                )
                for name, one in self.questions.items()
            ],
            "Factor: of the total concentration (for fractions: the concentration). Bias: added to the logarithm of "
            "the fraction of each answer. Gain: in log-likelihood per galaxy, cross-fitted.",
        )

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
            questions = {
                str(name): QuestionRecalibration(
                    **dict(one, **{key: tuple(map(float, one[key])) for key in PARAMETERS})
                )
                for name, one in metadata["questions"].items()
            }
            numbers = [number for one in questions.values() for key in PARAMETERS for number in getattr(one, key)]
            positive = [number for one in questions.values() for number in (*one.factor, *one.temperature)]
            if (
                kind not in ("concentrations", "fractions")
                or not all(map(math.isfinite, numbers))
                or min(positive, default=1) <= 0
            ):
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
    is_fraction = kind == "fractions"
    n, gain = len(totals), 0.0
    factors, temperatures, biases = [], [], []
    for i, own in enumerate(_choices(values, question, is_fraction=is_fraction)):
        chosen = np.column_stack([counts[:, i], totals - counts[:, i]]) if question.multiple else counts
        parameters = np.zeros(2 + chosen.shape[1])
        parameters[0] = math.log(CERTAIN) if is_fraction else 0.0
        if n:
            votes = Scaling.of(chosen, totals, own, is_fraction=is_fraction)
            gain += _gain(votes, parameters, is_fraction=is_fraction) if n >= MIN_GALAXIES else 0.0
            parameters = best_parameters(votes, is_fraction=is_fraction)
        factors.append(parameters[0])
        temperatures.append(parameters[1])
        biases += [parameters[2] - parameters[3]] if question.multiple else parameters[2:].tolist()
    # four figures are more than the data determine, and hide differences in the rounding of machines
    factor, temperature = (tuple(float(f"{math.exp(one):.4g}") for one in each) for each in (factors, temperatures))
    return QuestionRecalibration(
        factor=factor,
        temperature=temperature,
        bias=tuple(round(float(one), 4) for one in biases),
        n_galaxies=n,
        gain=round(gain, 5) if n >= MIN_GALAXIES else None,
    )


def _choices(values: FloatArray, question: Question, *, is_fraction: bool) -> list[FloatArray]:
    """Return the predictions of each choice that volunteers make, shape (member, galaxy, alternative)."""
    if not question.multiple:
        return [values]
    given, not_given = (values, 1 - values) if is_fraction else giving(values)
    return list(np.moveaxis(np.stack([given, not_given], axis=-1), 2, 0))


def best_parameters(votes: Scaling, *, is_fraction: bool = False) -> FloatArray:
    """Return the parameters of `gzoo.scoring.scaling`, averaged over fits with and without temperature and biases."""
    penalty, cost_of_one = _penalty(votes, is_fraction=is_fraction), 0.5 * math.log(int(votes.totals.sum()))
    free = np.zeros(votes.n_parameters, bool)
    free[0] = is_fraction or bool((votes.totals > 1).any())
    first, least = votes.fit(free, penalty=penalty)
    fits, costs = [first], [least]
    if len(votes) < FEW_GALAXIES and free[0] and not is_fraction:  # fractions have no concentration of their own
        unchanged, cost = votes.fit(np.zeros_like(free), penalty=penalty)
        fits, costs = [*fits, unchanged], [*costs, cost - cost_of_one]
    shows_bias = _shows_bias(votes, first)
    choices = [(True, False)] if not shows_bias.any() else [(True, False), (False, True), (True, True)]
    if len(votes) < MIN_GALAXIES:
        choices = []
    for has_temperature, has_bias in choices:
        freed = free.copy()
        freed[1] = has_temperature
        freed[2:] = shows_bias & has_bias
        fit, cost = votes.fit(freed, penalty=penalty, start=first)
        n_biases = int(freed[2:].sum())
        n_biases = min(n_biases, len(shows_bias) - 1)  # fractions sum to 1
        fit[2:] -= fit[2:].mean()
        fits.append(fit)
        costs.append(cost + cost_of_one * (has_temperature + n_biases))
    weights = np.exp(min(costs) - np.array(costs))
    return weights @ np.array(fits) / weights.sum()


def _shows_bias(votes: Scaling, parameters: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which answers have a bias that the scatter between galaxies does not explain, shape (answer,)."""
    residuals = votes.residuals(parameters)
    squares = (residuals**2).sum(axis=0)
    z2 = np.divide(residuals.sum(axis=0) ** 2, squares, out=np.zeros(len(squares)), where=squares > 0)
    return z2 > math.log(len(votes)) + 2 * math.log(len(squares))


def _penalty(votes: Scaling, *, is_fraction: bool) -> Penalty:
    """Return the negative logarithm of the prior, up to a constant, and its gradient, as a function of parameters."""
    sd = np.array([1.0, LOG_TEMPERATURE_SD, *[BIAS_SD] * (votes.n_parameters - 2)])
    usual = math.log(USUAL_CONCENTRATION) - votes.mean_log_total
    weight = 0.0 if is_fraction else P_UNCHANGED

    def penalty(parameters: FloatArray) -> tuple[float, FloatArray]:
        slope = parameters / sd**2
        others = 0.5 * float(parameters[1:] @ slope[1:])
        near, far = parameters[0] / LOG_FACTOR_SD, (parameters[0] - usual) / LOG_CONCENTRATION_SD
        densities = np.array(
            [
                weight * math.exp(-0.5 * near**2) / LOG_FACTOR_SD,
                (1 - weight) * math.exp(-0.5 * far**2) / LOG_CONCENTRATION_SD,
            ]
        )
        both = max(float(densities.sum()), 1e-300)
        slope[0] = float(densities @ [near / LOG_FACTOR_SD, far / LOG_CONCENTRATION_SD]) / both
        return others - math.log(both), slope

    return penalty


def _gain(votes: Scaling, unchanged: FloatArray, *, is_fraction: bool) -> float:
    """Return the gain on galaxies that the parameters were not fitted on."""
    some = votes.take(slice(None, None, -(-len(votes) // MAX_FOR_GAIN)))
    fold = np.arange(len(some)) % N_FOLDS
    total = 0.0
    for i in range(N_FOLDS):
        fitted = best_parameters(some.take(np.flatnonzero(fold != i)), is_fraction=is_fraction)
        others = some.take(np.flatnonzero(fold == i))
        total += float((others.cost(unchanged)[0] - others.cost(fitted)[0]).sum())
    return total / len(some)


# ----------------------------------------------------------------------------------------------------
# The verb


@dataclass(frozen=True, slots=True, repr=False)
class RecalibrateResult(Shown):
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

    def to_dict(self) -> dict[str, object]:
        """Return the entries of `recalibration`, and those of the file, as JSON values."""
        about = {"path": str(self.path), "n_galaxies": self.n_galaxies, "n_fitted": self.n_fitted}
        return {**about, **self.recalibration.to_dict()}

    def to_polars(self) -> pl.DataFrame:
        """Return a row for each question."""
        return self.recalibration.to_polars()

    def sheet(self) -> Sheet:
        """Return what was fitted for each question."""
        galaxies = f"{self.n_galaxies:,}, fitted on {self.n_fitted:,} held-out ones"
        return replace(self.recalibration.sheet(), facts={"file": self.path, "galaxies": galaxies})


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
        InputError: The two files differ in kind or questions, or `out` is one of them.
        OutputExistsError: `out` already exists.
    """
    out, validation = Path(out), Path(validation)
    refuse_predictions(out, overwrite, (predictions, validation, dataset, mapping))
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
        "data_sha256": opened.digest,
        "is_simulated": opened.is_simulated,
        "recalibration": fitted.to_dict(),
    }
    write_prediction_table(out, table.with_columns(in_training_set=is_seen), metadata)
    return RecalibrateResult(out, table.height, len(held_out), fitted)


def _is_in(keys: pl.DataFrame, others: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Return which galaxies are among others, by both names if both files have them."""
    is_named = not keys["dataset_name"].null_count() and not others["dataset_name"].null_count()
    by = list(KEY) if is_named else ["id_str"]
    known = set(others.select(by).rows())
    return np.array([row in known for row in keys.select(by).rows()], bool)
