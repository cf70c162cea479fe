"""Scores of predicted classes and values against labels, on galaxies that the model was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import polars as pl
from scipy import stats

from gzoo.dataset.open import KEY, Dataset
from gzoo.dataset.targets import Labels, Target, read_labels
from gzoo.display import Sheet, Shown, interval, table_of
from gzoo.errors import InputError, NotFoundError, TableError
from gzoo.scoring.baseline import BaselineSource, in_words
from gzoo.scoring.classification import Cell, compute_classification
from gzoo.scoring.intervals import LEVEL, Blocks, Bootstrap, Value, as_value, ratio, root
from gzoo.scoring.matching import match_held_out
from gzoo.scoring.prediction_files import read_metadata
from gzoo.scoring.predictions import ClassPredictions, read_class_predictions, read_value_predictions
from gzoo.scoring.target_likelihood import fit_target_baseline, target_log_likelihood
from gzoo.trees.tree import FloatArray, IntArray

LEVELS = (0.68, 0.9, 0.95)
"""Probabilities of the central prediction intervals whose coverage is reported."""


class ClassScores(TypedDict):
    """Scores of predicted classes.

    accuracy: Fraction of galaxies whose most probable class is the true one.
    majority_class_accuracy: Accuracy of always predicting the most frequent class.
    balanced_accuracy: Mean over classes of the fraction with the correct class.
    auc: Area under the ROC curve of each class against the others: the probability that a galaxy of the class has a
        higher predicted probability of it than another galaxy. With two classes, both have the same.
    mean_auc: Mean over classes.
    brier: Mean squared distance of the probabilities from the true class; lower is better.
    brier_gain: Paired difference, baseline minus model.
    confusion: True class -> predicted class -> galaxies.
    """

    accuracy: Value
    majority_class_accuracy: Value
    balanced_accuracy: Value
    auc: dict[str, Value]
    mean_auc: Value
    brier: Value
    brier_gain: Value
    confusion: dict[str, dict[str, Cell]]


class Coverage(TypedDict):
    """Fraction of galaxies within the central prediction interval of probability `level`."""

    level: float
    coverage: Value


class ValueScores(TypedDict):
    """Scores of predicted values.

    rmse, mae, bias: Root mean square and mean absolute error, and mean of predicted minus true value, in the units of
        the labels.
    baseline_rmse: The same of the baseline, which predicts the mean of the training labels.
    r2: 1 - mean squared error / mean squared error of the baseline.
    spread_ratio: Root mean square of (true - mean) / std: above 1 the predictions are overconfident, below 1
        underconfident.
    coverage: Fractions of galaxies within prediction intervals.
    """

    rmse: Value
    baseline_rmse: Value
    mae: Value
    bias: Value
    r2: Value
    spread_ratio: Value
    coverage: list[Coverage]


@dataclass(frozen=True, slots=True, repr=False)
class TargetScores(Shown):
    """Scores of a predicted target, with 95% confidence intervals.

    Attributes:
        target: Column of the labels.
        kind: "classes" or "value".
        n_galaxies: Scored galaxies.
        n_unlabelled: Predicted galaxies without a label, which are excluded.
        n_trained_on: Scored galaxies that the model was trained on.
        n_zero_probability: Galaxies whose true class has probability 0; the log-likelihood is then null.
        level: Confidence level of all intervals.
        bootstrap: What the intervals resample.
        baseline: Whose labels the baseline was fitted to.
        log_likelihood: Mean log probability (of values: density) of the labels, in nats per galaxy; higher is better.
        baseline_log_likelihood: The same of the baseline, which knows only the frequencies of the classes, or mean and
            standard deviation of the values, of the training galaxies.
        log_likelihood_gain: Paired difference, model minus baseline.
        classes: Scores of classes; None for a value.
        value: Scores of values; None for classes.
    """

    target: str
    kind: str
    n_galaxies: int
    n_unlabelled: int
    n_trained_on: int
    n_zero_probability: int
    level: float
    bootstrap: Bootstrap
    baseline: BaselineSource | None
    log_likelihood: Value
    baseline_log_likelihood: Value
    log_likelihood_gain: Value
    classes: ClassScores | None = None
    value: ValueScores | None = None

    def values(self) -> dict[str, Value]:
        """Return every score that is one number, by its name."""
        parts = [self.log_likelihood, self.baseline_log_likelihood, self.log_likelihood_gain]
        names = ("log_likelihood", "baseline_log_likelihood", "log_likelihood_gain")
        found: dict[str, Value] = dict(zip(names, parts, strict=True))
        for name, one in (self.classes or self.value or {}).items():
            if isinstance(one, dict) and set(cast("dict[str, object]", one)) == {"value", "low", "high"}:
                found[name] = cast(Value, one)
        if self.classes:
            found |= {f"auc_{name}": one for name, one in self.classes["auc"].items()}
        for one in self.value["coverage"] if self.value else ():
            found[f"coverage_{one['level']:g}"] = one["coverage"]
        return found

    def to_polars(self) -> pl.DataFrame:
        """Return a row for each score: `score`, `value`, `low`, `high`."""
        return table_of({"score": name, **one} for name, one in self.values().items())

    def sheet(self) -> Sheet:
        """Return the scores and, for classes, the confusion matrix."""
        confusion = self.classes["confusion"] if self.classes else {}
        predicted = list(next(iter(confusion.values()), {}))
        scores = {name.replace("_", " "): interval(one) for name, one in self.values().items()}
        return Sheet(
            f"Scores of {self.n_galaxies:,} galaxies by {self.target}",
            {
                "trained on": f"{self.n_trained_on:,} of these galaxies" if self.n_trained_on else None,
                "unlabelled": f"{self.n_unlabelled:,} galaxies, excluded" if self.n_unlabelled else None,
                "baseline": in_words(self.baseline) if self.baseline else None,
                **scores,
            },
            ("true \\ predicted", *predicted) if confusion else (),
            [(name, *(cell["n"] for cell in row.values())) for name, row in confusion.items()],
            f"In brackets: {self.level:.0%} confidence intervals. Log-likelihood in nats per galaxy.",
        )


@dataclass(frozen=True)
class LabelledPredictions:
    """Predictions of a target, and the labels of the same galaxies.

    Attributes:
        target: What is predicted.
        prediction: Probabilities of the classes, shape (galaxy, class), or mean and standard deviation.
        labels: Number of the class, or value, shape (galaxy,).
        keys: `dataset_name` and `id_str` of each galaxy.
        units: Bootstrap units.
        n_unlabelled: Predicted galaxies without a label.
        is_seen: Whether the model was trained on each galaxy.
    """

    target: Target
    prediction: FloatArray
    labels: FloatArray
    keys: pl.DataFrame
    units: Blocks
    n_unlabelled: int
    is_seen: np.ndarray

    def take(self, rows: IntArray) -> LabelledPredictions:
        """Return the predictions and labels of some galaxies."""
        return replace(
            self,
            prediction=self.prediction[rows],
            labels=self.labels[rows],
            keys=self.keys[rows],
            units=self.units.take(rows),
            is_seen=self.is_seen[rows],
        )


def target_of(path: Path) -> Target | None:
    """Return the target that a prediction file of `gzoo predict` contains, None for votes and other files."""
    entry = read_metadata(path).get("target")
    return Target.from_dict(entry, path) if entry else None


def score_target(
    path: Path, dataset: Dataset, target: str | None, table: Path | str | None, *, include_trained_on: bool
) -> TargetScores:
    """Score predictions of a target.

    Args:
        path: Prediction file.
        dataset: Dataset with the labels, or with the galaxies that `table` labels.
        target: Column of the labels; by default the one that the file says it predicts.
        table: Table with the labels, if they are not in the dataset.
        include_trained_on: Score galaxies that the model was trained on as well.

    Raises:
        NotFoundError: The file or the column does not exist.
        TableError: The predictions do not fit the labels, no galaxy has a label, or the model was trained on some.
    """
    labels = labels_for([path], dataset, target, table)
    one = labelled(path, dataset, labels, include_trained_on=include_trained_on)
    baseline, about = baseline_for(path, dataset, one.target, labels)
    found = compute(one, baseline)
    n_seen = int(one.is_seen.sum())
    return replace(found, n_unlabelled=one.n_unlabelled, n_trained_on=n_seen, baseline=about)


def labels_for(paths: Sequence[Path], dataset: Dataset, target: str | None, table: Path | str | None) -> Labels:
    """Return the labels that prediction files are scored against.

    Raises:
        InputError: The files predict different targets.
    """
    said = {path: one for path in paths if (one := target_of(path))}
    names = list(dict.fromkeys(one.name for one in said.values()))
    if len(names) > 1:
        raise InputError(
            f"The prediction files have different targets: {', '.join(names)}.", hint="Compare models of one target."
        )
    if target is None and not names:
        raise InputError(
            f"'{paths[0]}' does not say which column it predicts.", "a file of `gzoo predict`.", "Pass --target COLUMN."
        )
    wanted = target or names[0]
    if said and target is None:  # as the model was asked
        kind = next(iter(said.values())).kind
        try:
            return read_labels(dataset, wanted, table)
        except InputError:
            return read_labels(dataset, f"{wanted}:{kind}", table)
    return read_labels(dataset, wanted, table)


def labelled(path: Path, dataset: Dataset, labels: Labels, *, include_trained_on: bool) -> LabelledPredictions:
    """Return the predictions of a file with the labels of the same galaxies.

    Raises:
        TableError: The predictions do not fit the labels, no galaxy has a label, or the model was trained on some.
    """
    target = target_of(path) or labels.target
    if target.kind != labels.target.kind:
        raise TableError(
            f"'{path}' predicts {target.name} as {target.kind}, but {labels.source} contains {labels.target.kind}.",
            "predictions and labels of one kind.",
            "Choose other labels, or append :classes or :value to --target.",
        )
    read = _read(path, target)
    matched, units = match_held_out(dataset, read, path, include_trained_on=include_trained_on)
    keys = pl.concat([dataset.positions(split).select(KEY) for split in labels.values])
    given = keys.with_columns(label=pl.Series(np.concatenate(list(labels.values.values()))))
    own = matched.keys.join(given, on=KEY, how="left", maintain_order="left")["label"].fill_null(np.nan).to_numpy()
    rows = np.flatnonzero(~np.isnan(own))
    if not len(rows):
        raise TableError(
            f"None of the {len(own):,} galaxies of '{path}' has a label in {labels.source}.",
            hint="Predict other galaxies, or choose another --target.",
        )
    known = own[rows]
    if target.kind == "classes":
        places = {name: i for i, name in enumerate(target.classes)}
        numbers = np.array([places.get(name, -1) for name in labels.target.classes])
        unknown = numbers[known.astype(np.int64)] < 0
        if unknown.any():
            name = labels.target.classes[int(known[unknown][0])]
            raise TableError(
                f"{int(unknown.sum()):,} galaxies have the class '{name}' in {labels.source}, which '{path}' does not "
                "predict.",
                f"classes {', '.join(target.classes)}.",
                "Score galaxies of these classes, or train with galaxies of the other class.",
            )
        known = numbers[known.astype(np.int64)].astype(np.float64)
    n_unlabelled = len(own) - len(rows)
    return LabelledPredictions(
        target,
        read.probabilities[rows],
        known,
        matched.keys[rows].select(KEY),
        units.take(rows),
        n_unlabelled,
        matched.is_seen[rows],
    )


def _read(path: Path, target: Target) -> ClassPredictions:
    if target.kind == "value":
        return read_value_predictions(path, target.name)
    return read_class_predictions(path, [f"{target.name}_{one}" for one in target.classes])


def baseline_for(path: Path, dataset: Dataset, target: Target, labels: Labels) -> tuple[FloatArray, BaselineSource]:
    """Return the baseline: of the training labels of the dataset, otherwise the one kept with the predictions."""
    train = labels.values.get("train", np.empty(0))
    train = train[~np.isnan(train)]
    name = dataset.origin["repository"] if dataset.origin else dataset.folder.resolve().name
    if len(train):
        about = BaselineSource(fitted_on="train split", source=name, n_galaxies=len(train))
        if target.kind == "classes":
            places = [
                labels.target.classes.index(one) if one in labels.target.classes else -1 for one in target.classes
            ]
            counts = np.array([(train == i).sum() for i in places], np.float64)
            if counts.all():
                return counts / counts.sum(), about
        elif np.ptp(train) > 0:
            return fit_target_baseline(target, train), about
    kept = cast("Mapping[str, Any]", read_metadata(path).get("baseline") or {})
    try:
        values = np.array([float(kept["prediction"][column]) for column in target.columns])
        n_galaxies = int(kept["n_galaxies"])
    except (KeyError, TypeError, ValueError) as error:
        raise NotFoundError(
            f"No baseline found: neither training galaxies of '{dataset.folder}' with labels of each class, nor a "
            f"baseline in '{path}'.",
            "a train split with labels, or predictions of `gzoo predict`.",
            "Add labels of training galaxies.",
        ) from error
    return values, BaselineSource(fitted_on="training galaxies", source=path.name, n_galaxies=n_galaxies)


# ----------------------------------------------------------------------------------------------------
# Scores


def compute(one: LabelledPredictions, baseline: FloatArray) -> TargetScores:
    """Return scores with 95% confidence intervals (see `gzoo.scoring.intervals`).

    Args:
        one: Predictions and labels.
        baseline: Prediction of the baseline, the same for every galaxy, shape (column,).
    """
    target, labels = one.target, one.labels
    n = len(labels)
    same = np.broadcast_to(baseline, (n, len(baseline)))
    model, base = (target_log_likelihood(target, each, labels) for each in (one.prediction, same))
    n_zero = int(np.isinf(model).sum())
    found = _means(one.units, np.where(np.isinf(model), 0.0, model), base, np.where(np.isinf(model), 0.0, model) - base)
    nothing = as_value(None, None, None)
    return TargetScores(
        target=target.name,
        kind=target.kind,
        n_galaxies=n,
        n_unlabelled=0,
        n_trained_on=0,
        n_zero_probability=n_zero,
        level=LEVEL,
        bootstrap=one.units.to_dict(),
        baseline=None,
        log_likelihood=nothing if n_zero else found[0],
        baseline_log_likelihood=found[1],
        log_likelihood_gain=nothing if n_zero else found[2],
        classes=_of_classes(one, same) if target.kind == "classes" else None,
        value=_of_value(one, same) if target.kind == "value" else None,
    )


def _means(units: Blocks, *columns: FloatArray) -> list[Value]:
    """Return the mean of each column with its interval."""
    n = len(units.labels)
    found = ratio(np.column_stack(columns), np.ones((n, 1)), units)
    return [found.of(i) for i in range(len(columns))]


def squared_errors(target: Target, prediction: FloatArray, labels: FloatArray) -> FloatArray:
    """Return squared distances of predictions from labels (of classes: Brier scores), shape (galaxy,)."""
    if target.kind == "value":
        return (prediction[:, 0] - labels) ** 2
    is_class = labels[:, None] == np.arange(len(target.classes))
    return ((prediction - is_class) ** 2).sum(axis=1)


def _of_classes(one: LabelledPredictions, same: FloatArray) -> ClassScores:
    target = one.target
    names = np.asarray(target.classes)
    called = names[one.prediction.argmax(axis=1)]
    known = compute_classification(
        names[one.labels.astype(np.int64)], called, target.classes, one.units, one.prediction
    )
    own, base = (squared_errors(target, each, one.labels) for each in (one.prediction, same))
    brier, gain = _means(one.units, own, base - own)
    responses = [auc_responses(one.labels == i, one.prediction[:, i]) for i in range(len(names))]
    possible = [each for each in responses if each is not None]
    areas = [as_value(None, None, None) if each is None else _area(one.units, each) for each in responses]
    mean = _area(one.units, np.mean(possible, axis=0)) if possible else as_value(None, None, None)
    return ClassScores(
        accuracy=known.accuracy,
        majority_class_accuracy=known.majority_class_accuracy,
        balanced_accuracy=known.balanced_accuracy,
        auc=dict(zip(target.classes, areas, strict=True)),
        mean_auc=mean,
        brier=brier,
        brier_gain=gain,
        confusion=known.confusion,
    )


def auc_responses(is_class: np.ndarray, probability: FloatArray) -> FloatArray | None:
    """Return values of the galaxies whose mean is the AUC, and whose scatter is its own; None for a single class.

    The AUC is a mean over pairs of a galaxy of the class and another one. The response of each galaxy is its mean over
    the others (DeLong et al. 1988, Biometrics 44, 837), so that galaxies of one sky cell can be resampled together.
    """
    n, n_class = len(is_class), int(is_class.sum())
    if n_class in (0, n):
        return None
    ranks = stats.rankdata(probability)
    placements = np.empty(n)
    placements[is_class] = (ranks[is_class] - stats.rankdata(probability[is_class])) / (n - n_class)
    placements[~is_class] = 1 - (ranks[~is_class] - stats.rankdata(probability[~is_class])) / n_class
    area = placements[is_class].mean()
    return area + (placements - area) * n / np.where(is_class, n_class, n - n_class)


def _area(units: Blocks, responses: FloatArray) -> Value:
    found = _means(units, responses)[0]
    if found["low"] is None or found["high"] is None:
        return found
    return as_value(found["value"], max(found["low"], 0.0), min(found["high"], 1.0))


def _of_value(one: LabelledPredictions, same: FloatArray) -> ValueScores:
    mean, std = one.prediction.T
    off = mean - one.labels
    scaled = off / std
    base = (same[:, 0] - one.labels) ** 2
    inside = [np.abs(scaled) <= stats.norm.isf((1 - level) / 2) for level in LEVELS]
    square, of_base, absolute, bias, spread, *covered = _means(
        one.units, off**2, base, np.abs(off), off, scaled**2, *(each.astype(np.float64) for each in inside)
    )
    explained = ratio((base - off**2)[:, None], base[:, None], one.units).of(0)
    return ValueScores(
        rmse=root(square),
        baseline_rmse=root(of_base),
        mae=absolute,
        bias=bias,
        r2=explained,
        spread_ratio=root(spread),
        coverage=[Coverage(level=level, coverage=each) for level, each in zip(LEVELS, covered, strict=True)],
    )
