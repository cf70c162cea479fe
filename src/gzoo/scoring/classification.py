"""Classification scores for summary labels and other classes, and the protocols of published papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.dataset.open import Dataset, open_dataset
from gzoo.display import Sheet, Shown, interval, table_of
from gzoo.errors import InputError, TableError, choices, suggestion
from gzoo.scoring.ceiling import possible_accuracy
from gzoo.scoring.intervals import LEVEL, Blocks, Value, as_value, mean_value, ratio, root, wilson_interval
from gzoo.scoring.likelihood import sampling_noise
from gzoo.scoring.matching import match_held_out
from gzoo.scoring.predictions import CLASS_ENDINGS, BoolArray, read_class_predictions, read_predictions
from gzoo.trees.tree import FloatArray
from gzoo.votes.summary import PUBLISHED, summary
from gzoo.votes.tables import read_table
from gzoo.votes.votes import Votes

SUMMARY = "summary"
NO_CLASS = ""
MANY = 1_000_000  # imagined volunteers, whose vote counts represent the predicted fractions
PROTOCOLS = ("gz-evo", "decals-confident")
GZ_EVO_VOTES = 20
DECALS_CLASSIFICATIONS, DECALS_PROPORTION_ASKED, DECALS_CONFIDENT = 34, 0.5, 0.8

Labels = npt.NDArray[np.str_]


class Cell(TypedDict):
    """Galaxies of one class with a given predicted class, and their fraction of the class."""

    n: int
    fraction: Value


@dataclass(frozen=True, slots=True, repr=False)
class Classification(Shown):
    """Scores of predicted classes.

    Attributes:
        label: Column of the labels, or `summary`.
        derived_from: "probabilities", or "votes" if the class follows from predicted vote fractions.
        n_galaxies: Galaxies with a label.
        level: Confidence level of all intervals.
        n_unlabelled: Galaxies without a label in the dataset, which are excluded.
        n_without_class: Galaxies whose predicted votes lead to no class, which count as wrong; "" in `confusion`.
        n_trained_on: Scored galaxies that the model was trained on.
        n_zero_probability: Galaxies whose true class has probability 0.
        classes: All classes.
        accuracy: Fraction of galaxies with the correct class.
        accuracy_if_calibrated: Expected accuracy of these predictions if their concentrations are right; below it, the
            model is to blame, not the votes. Null unless `summary` is derived from concentrations of all questions that
            have votes.
        accuracy_ceiling: The same for a perfect predictor, which knows the true vote fractions: labels made of few
            votes differ from its classes by chance. It depends on the predicted concentrations, and is too high where
            these are overconfident.
        majority_class_accuracy: Accuracy of always predicting the most frequent class.
        balanced_accuracy: Mean over classes of the fraction with the correct class.
        cross_entropy: Mean negative log probability of the true class, in nats; null without probabilities, and if the
            true class of `n_zero_probability` galaxies has probability 0.
        cross_entropy_of_frequencies: Cross-entropy of predicting the class frequencies for every galaxy.
        confusion: True class -> predicted class -> galaxies.
    """

    label: str
    derived_from: str
    n_galaxies: int
    level: float
    n_unlabelled: int
    n_without_class: int
    n_trained_on: int
    n_zero_probability: int
    classes: list[str]
    accuracy: Value
    accuracy_if_calibrated: Value
    accuracy_ceiling: Value
    majority_class_accuracy: Value
    balanced_accuracy: Value
    cross_entropy: Value
    cross_entropy_of_frequencies: Value
    confusion: dict[str, dict[str, Cell]]

    def to_polars(self) -> pl.DataFrame:
        """Return the confusion matrix: one row for each pair of `true_class` and `predicted_class`."""
        return table_of(
            {"true_class": true, "predicted_class": predicted, **cell}
            for true, row in self.confusion.items()
            for predicted, cell in row.items()
        )

    def sheet(self) -> Sheet:
        """Return the accuracy and the confusion matrix."""
        predicted = list(next(iter(self.confusion.values()), {}))
        return Sheet(
            f"Classification of {self.n_galaxies:,} galaxies by {self.label}",
            {
                "trained on": f"{self.n_trained_on:,} of these galaxies" if self.n_trained_on else None,
                "accuracy": self.accuracy,
                "accuracy if calibrated": _known(self.accuracy_if_calibrated),
                "accuracy of a perfect predictor": _known(self.accuracy_ceiling),
                "accuracy of the most common class": self.majority_class_accuracy,
                "balanced accuracy": self.balanced_accuracy,
                "cross-entropy (nats)": _known(self.cross_entropy),
                "derived from": self.derived_from,
                "unlabelled": f"{self.n_unlabelled:,} galaxies, excluded" if self.n_unlabelled else None,
            },
            ("true \\ predicted", *(one or "no class" for one in predicted)),
            [(name, *(cell["n"] for cell in row.values())) for name, row in self.confusion.items()],
        )


def _known(value: Value) -> Value | None:
    return None if value["value"] is None else value


class AnswerErrors(TypedDict):
    """Errors of the fraction of one answer, over galaxies with enough votes."""

    n_galaxies: int
    rmse: Value
    mae: Value


@dataclass(frozen=True, slots=True, repr=False)
class GZEvo(Shown):
    """Regression protocol of the published GZ Evo baselines, with the noise floor.

    Attributes:
        protocol: "gz-evo".
        min_votes: Votes on the question that a galaxy needs.
        n_answers: Number of answers.
        n_trained_on: Scored galaxies that the model was trained on.
        level: Confidence level of all intervals.
        rmse: Mean over answers of the root mean square error of the fraction, over galaxies with at least 20 votes on
            the question: the published number. Every answer has the same weight, however few galaxies it has.
        mae: The same of the mean absolute error (called MAD in the paper).
        noise_floor: RMSE of a perfect model, from binomial sampling noise.
        rmse_noise_corrected: Root of the mean over answers of squared error minus sampling noise.
        answers: Errors of each answer by its column.
    """

    protocol: str
    min_votes: int
    n_answers: int
    n_trained_on: int
    level: float
    rmse: Value
    mae: Value
    noise_floor: Value
    rmse_noise_corrected: Value
    answers: dict[str, AnswerErrors]

    def to_polars(self) -> pl.DataFrame:
        """Return a row for each answer."""
        return table_of({"answer": name, **one} for name, one in self.answers.items())

    def sheet(self) -> Sheet:
        """Return the mean errors and those of each answer."""
        names = {"rmse": "RMSE", "mae": "MAE", "noise_floor": "RMSE of a perfect model"}
        names["rmse_noise_corrected"] = "RMSE, noise-corrected"
        return Sheet(
            f"Errors by protocol {self.protocol}: means over {self.n_answers:,} answers",
            {
                "trained on": f"{self.n_trained_on:,} of these galaxies" if self.n_trained_on else None,
                **{name: getattr(self, key) for key, name in names.items()},
            },
            ("answer", "galaxies", "RMSE", "MAE"),
            [
                (name, one["n_galaxies"], interval(one["rmse"]), interval(one["mae"]))
                for name, one in self.answers.items()
            ],
            f"Over galaxies with at least {self.min_votes} votes on the question.",
        )


class Agreement(TypedDict):
    """Fraction of galaxies whose most probable answer is the one with the most votes."""

    n_galaxies: int
    accuracy: Value


class DecalsQuestion(TypedDict):
    """`relevant`: galaxies for which the question is relevant; `confident`: those with a vote fraction above 0.8."""

    relevant: Agreement
    confident: Agreement


@dataclass(frozen=True, slots=True, repr=False)
class DecalsConfident(Shown):
    """Table 1 of Walmsley et al. (2022, MNRAS 509, 3966).

    A question is relevant for galaxies with at least 34 classifications of which at least half reached the question;
    volunteers are confident if the vote fraction of one answer is above 0.8. Questions that allow several answers are
    excluded, as in the paper. The selection of confident galaxies leaves the easy ones.

    Attributes:
        protocol: "decals-confident".
        n_trained_on: Scored galaxies that the model was trained on.
        level: Confidence level of all intervals.
        questions: Accuracies on each question by its name.
    """

    protocol: str
    n_trained_on: int
    level: float
    questions: dict[str, DecalsQuestion]

    def to_polars(self) -> pl.DataFrame:
        """Return two rows for each question, with `galaxies` "relevant" and "confident"."""
        return table_of(
            {"question": name, "galaxies": kind, **one[kind]}
            for name, one in self.questions.items()
            for kind in ("relevant", "confident")
        )

    def sheet(self) -> Sheet:
        """Return the accuracies on each question."""
        return Sheet(
            f"Accuracy by protocol {self.protocol}",
            {"trained on": f"{self.n_trained_on:,} galaxies" if self.n_trained_on else None},
            ("question", "galaxies", "accuracy", "confident", "accuracy of these"),
            [
                (name, *(cell for each in (one["relevant"], one["confident"]) for cell in each.values()))
                for name, one in self.questions.items()
            ],
            "Confident: one answer has more than 0.8 of the votes.",
        )


def classify(
    predictions: Path | str, dataset: Path | str, *, label: str = SUMMARY, include_trained_on: bool = False
) -> Classification:
    """Score predicted classes against the labels of a dataset.

    Args:
        predictions: Prediction file with class probabilities (columns `{class}_probability`); or, for `summary`, with
            concentrations or fractions, from which the class follows by the same rules as from votes.
        dataset: Dataset with the labels.
        label: Column of the dataset, or `summary`, which is computed from the votes if the dataset does not contain it.
        include_trained_on: Score galaxies that the model was trained on as well, and report their number.

    Raises:
        NotFoundError: A file does not exist.
        TableError: The label is not found, no galaxy has one, the predictions do not fit the label, or the model was
            trained on some of the galaxies or with another split scheme.
    """
    opened, path = open_dataset(dataset), Path(predictions)
    labels = _labels(opened, label)
    known = labels.filter(pl.col("label") != NO_CLASS)["label"].unique().sort().to_list()
    classes = tuple(PUBLISHED) if label == SUMMARY and set(known) <= set(PUBLISHED) else tuple(known)
    probabilities, possible = None, None
    if label != SUMMARY or _has_class_columns(path, classes):
        read = read_class_predictions(path, classes)
        matched, units = match_held_out(opened, read, path, include_trained_on=include_trained_on)
        probabilities, called = read.probabilities, np.asarray(classes)[read.probabilities.argmax(axis=1)]
    else:
        votes = read_predictions(path, opened.tree)
        matched, units = match_held_out(opened, votes, path, include_trained_on=include_trained_on)
        called = predicted_summary(votes.fractions, matched.votes)
        asked = {one.name for one, n in zip(opened.tree.questions, matched.votes.totals.T, strict=True) if n.any()}
        if votes.kind == "concentrations" and asked <= set(votes.questions):
            possible = possible_accuracy(
                np.where(np.isnan(votes.concentrations), 1.0, votes.concentrations),  # of questions without votes
                matched.votes,
                called,
                units,
                label_of=summary,
                class_of=lambda fractions: predicted_summary(fractions, matched.votes),
            )
    found = matched.keys.join(labels, on=["dataset_name", "id_str"], how="left", maintain_order="left")
    true = found["label"].fill_null(NO_CLASS).to_numpy().astype(str)
    rows = np.flatnonzero(true != NO_CLASS)
    if not len(rows):
        raise TableError(
            f"None of the {len(true):,} galaxies of '{path}' has a value of '{label}' in '{dataset}'.",
            hint="Predict other galaxies, or choose another --label.",
        )
    out = compute_classification(
        true[rows], called[rows], classes, units.take(rows), None if probabilities is None else probabilities[rows]
    )
    if possible is not None:
        out = replace(out, accuracy_if_calibrated=possible.if_calibrated, accuracy_ceiling=possible.ceiling)
    n_unlabelled, n_trained_on = len(true) - len(rows), int(matched.is_seen.sum())
    return replace(out, label=label, n_unlabelled=n_unlabelled, n_trained_on=n_trained_on)


def published(
    predictions: Path | str, dataset: Path | str, *, protocol: str, include_trained_on: bool = False
) -> GZEvo | DecalsConfident:
    """Score predictions by the protocol of a paper, for comparison with its numbers.

    Args:
        predictions: Prediction file with concentrations or fractions.
        dataset: Dataset with the votes.
        protocol: "gz-evo" or "decals-confident".
        include_trained_on: Score galaxies that the model was trained on as well, and report their number.

    Raises:
        InputError: The protocol does not exist.
        NotFoundError: A file does not exist.
        TableError: The predictions are not valid, or the model was trained on some of the galaxies.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"Invalid value for --protocol: '{protocol}'.", choices(PROTOCOLS, protocol),
                         suggestion(PROTOCOLS, protocol))  # fmt: skip
    opened, path = open_dataset(dataset), Path(predictions)
    read = read_predictions(path, opened.tree)
    matched, units = match_held_out(opened, read, path, include_trained_on=include_trained_on)
    compute = gz_evo if protocol == "gz-evo" else decals_confident
    return replace(compute(read.fractions, matched.votes, units), n_trained_on=int(matched.is_seen.sum()))


# ----------------------------------------------------------------------------------------------------
# Classes


def predicted_summary(fractions: FloatArray, votes: Votes) -> Labels:
    """Return the summary label that follows from predicted vote fractions, shape (galaxy,).

    If the tree has several versions, each galaxy uses the version with the most votes on it.

    Args:
        fractions: Predicted vote fractions, shape (galaxy, answer); NaN for questions that are not predicted.
        votes: Votes of the same galaxies, which determine only the version of the tree.
    """
    tree = votes.tree
    expected = np.nan_to_num(tree.proportion_asked(fractions)[:, list(tree.question_of_answer)] * fractions)
    own = _totals_of_parts(votes).argmax(axis=1)
    for i, part in enumerate(tree.parts.values()):
        for question in part:
            expected[own != i, tree.slice(question.name)] = 0
    return summary(Votes(tree, np.rint(expected * MANY).astype(np.int64)))


def _totals_of_parts(votes: Votes) -> FloatArray:
    """Return the number of classifications of each galaxy in each version of the tree, shape (galaxy, version)."""
    number, parts = votes.tree.questions.index, votes.tree.parts.values()
    return np.column_stack([votes.totals[:, list(map(number, part))].max(axis=1) for part in parts])


def compute_classification(
    true: Labels, called: Labels, classes: Sequence[str], units: Blocks, probabilities: FloatArray | None = None
) -> Classification:
    """Return scores of predicted classes, with 95% confidence intervals.

    Args:
        true: True class of each galaxy.
        called: Predicted class of each galaxy, or "".
        classes: All classes.
        units: Bootstrap units.
        probabilities: Class probabilities, shape (galaxy, class), or None.
    """
    is_class = true[:, None] == np.asarray(classes)[None, :]
    names = [*classes, NO_CLASS] if (called == NO_CLASS).any() else list(classes)
    is_called = called[:, None] == np.asarray(names)[None, :]
    n = is_class.sum(axis=0)
    pairs = (is_class[:, :, None] & is_called[:, None, :]).reshape(len(true), -1)
    fractions = _fractions(pairs, np.repeat(is_class, len(names), axis=1), units)
    counted = pairs.sum(axis=0).reshape(len(classes), len(names))
    confusion = {
        one: {name: Cell(n=int(counted[i, j]), fraction=fractions[i * len(names) + j]) for j, name in enumerate(names)}
        for i, one in enumerate(classes)
    }
    is_right = true == called
    everyone = np.ones((len(true), 1), bool)
    present = n > 0
    recall = np.divide(np.diagonal(counted), n, out=np.zeros(len(classes)), where=present)
    own = is_class.argmax(axis=1)
    # the mean of the fractions of the classes, and its linear response to each galaxy
    balanced = recall[present].mean() + (is_right - recall[own]) * len(true) / (n[own] * present.sum())
    entropy, n_zero_probability = as_value(None, None, None), 0
    if probabilities is not None:
        given = probabilities[np.arange(len(true)), own]
        n_zero_probability = int((given <= 0).sum())
        if not n_zero_probability:
            entropy = mean_value(-np.log(given), units)
    return Classification(
        label="",
        derived_from="votes" if probabilities is None else "probabilities",
        n_galaxies=len(true),
        level=LEVEL,
        n_unlabelled=0,
        n_without_class=int((called == NO_CLASS).sum()),
        n_trained_on=0,
        n_zero_probability=n_zero_probability,
        classes=list(classes),
        accuracy=_fractions(is_right[:, None], everyone, units)[0],
        accuracy_if_calibrated=as_value(None, None, None),
        accuracy_ceiling=as_value(None, None, None),
        majority_class_accuracy=_fractions(is_class[:, [int(n.argmax())]], everyone, units)[0],
        balanced_accuracy=mean_value(balanced, units),
        cross_entropy=entropy,
        cross_entropy_of_frequencies=mean_value(-np.log(n[own] / len(true)), units),
        confusion=confusion,
    )


def _labels(dataset: Dataset, label: str) -> pl.DataFrame:
    """Return key and label of each galaxy of a dataset, "" if it has none."""
    parts: list[pl.DataFrame] = []
    for split in dataset.splits:
        keys, votes = dataset.read_votes(split)
        column = dataset.column(split, label)
        values = None if column is None else column["value"]
        if values is not None and (isinstance(values.dtype, pl.String | pl.Boolean) or values.dtype.is_integer()):
            found = values.cast(pl.String).fill_null(NO_CLASS)
        elif label == SUMMARY:
            found = pl.Series(summary(votes).tolist(), dtype=pl.String)
        else:
            what = "not found" if values is None else f"has type {values.dtype}"
            raise TableError(
                f"Column '{label}' {what} in '{dataset.folder}'.",
                "a column of strings, integers or booleans with the class of each galaxy.",
                f"Pass '{SUMMARY}', which is computed from the votes, or another column.",
            )
        parts.append(keys.with_columns(label=found))
    return pl.concat(parts)


def _has_class_columns(path: Path, classes: Sequence[str]) -> bool:
    if not path.is_file():
        return False  # reported by the reader of the file
    have = set(read_table(path).columns)
    return any(f"{one}{ending}" in have for one in classes for ending in CLASS_ENDINGS)


# ----------------------------------------------------------------------------------------------------
# Protocols


def gz_evo(fractions: FloatArray, votes: Votes, units: Blocks) -> GZEvo:
    """Return the regression errors of the published GZ Evo baselines.

    Args:
        fractions: Predicted vote fractions, shape (galaxy, answer); NaN for questions that are not predicted.
        votes: Votes of the same galaxies.
        units: Bootstrap units.
    """
    totals = votes.totals[:, list(votes.tree.question_of_answer)]
    counts = (totals >= GZ_EVO_VOTES) & np.isfinite(fractions)
    kept = np.flatnonzero(counts.any(axis=0))
    is_in = counts[:, kept].astype(np.float64)
    voted, predicted = np.nan_to_num(votes.fractions[:, kept]), np.nan_to_num(fractions[:, kept])
    off = (predicted - voted) * is_in
    noise = sampling_noise(voted, totals[:, kept]) * is_in
    square, absolute = off**2, np.abs(off)
    of_square, of_absolute = ratio(square, is_in, units), ratio(absolute, is_in, units)
    return GZEvo(
        protocol="gz-evo",
        min_votes=GZ_EVO_VOTES,
        n_answers=len(kept),
        n_trained_on=0,
        level=LEVEL,
        rmse=mean_value(_mean_over_columns(square, is_in, 0.5), units),
        mae=mean_value(_mean_over_columns(absolute, is_in, 1.0), units),
        noise_floor=mean_value(_mean_over_columns(noise, is_in, 0.5), units),
        rmse_noise_corrected=root(mean_value(_mean_over_columns(square - noise, is_in, 1.0), units)),
        answers={
            votes.tree.columns[column]: AnswerErrors(
                n_galaxies=int(is_in[:, i].sum()), rmse=root(of_square.of(i)), mae=of_absolute.of(i)
            )
            for i, column in enumerate(kept)
        },
    )


def decals_confident(fractions: FloatArray, votes: Votes, units: Blocks) -> DecalsConfident:
    """Return the accuracy on each question, as defined in the GZ DECaLS paper.

    Args:
        fractions: Predicted vote fractions, shape (galaxy, answer); NaN for questions that are not predicted.
        votes: Votes of the same galaxies.
        units: Bootstrap units.
    """
    tree = votes.tree
    questions: dict[str, DecalsQuestion] = {}
    for part, everyone in zip(tree.parts.values(), _totals_of_parts(votes).T, strict=True):
        for question in part:
            own, totals = tree.slice(question.name), votes.totals[:, tree.questions.index(question)]
            if question.multiple or np.isnan(fractions[:, own]).any():
                continue
            is_relevant = (everyone >= DECALS_CLASSIFICATIONS) & (totals >= DECALS_PROPORTION_ASKED * everyone)
            is_confident = is_relevant & (votes.counts[:, own].max(axis=1) > DECALS_CONFIDENT * totals)
            is_right = fractions[:, own].argmax(axis=1) == votes.counts[:, own].argmax(axis=1)
            of = np.column_stack([is_relevant, is_confident])
            accuracies = _fractions(of & is_right[:, None], of, units)
            relevant, confident = (
                Agreement(n_galaxies=int(n), accuracy=accuracy)
                for n, accuracy in zip(of.sum(axis=0), accuracies, strict=True)
            )
            questions[question.name] = DecalsQuestion(relevant=relevant, confident=confident)
    return DecalsConfident(protocol="decals-confident", n_trained_on=0, level=LEVEL, questions=questions)


# ----------------------------------------------------------------------------------------------------
# Intervals


def _fractions(hits: BoolArray, of: BoolArray, units: Blocks) -> list[Value]:
    """Return the fraction of hits in each column, with Wilson's interval for the effective number of galaxies."""
    found = ratio(hits.astype(np.float64), of.astype(np.float64), units)
    n = of.sum(axis=0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = found.value * (1 - found.value) / found.standard_error**2
        n = np.where(np.isfinite(effective) & (effective > 0), np.minimum(effective, n), n)
        low, high = wilson_interval(found.value, n)
    return [as_value(*ends) for ends in zip(found.value, low, high, strict=True)]


def _mean_over_columns(values: FloatArray, is_in: FloatArray, power: float) -> FloatArray:
    """Return a number for each galaxy whose mean is the mean of (column mean ** power) over columns.

    The numbers vary as the result responds to each galaxy, to first order, so that their interval is its interval.
    """
    n = is_in.sum(axis=0)
    mean = values.sum(axis=0) / n
    with np.errstate(divide="ignore"):
        slope = np.where(mean > 0, power * np.maximum(mean, 1e-300) ** (power - 1), 0.0) if power != 1 else 1.0
    level = float((mean**power if power != 1 else mean).mean())
    return level + ((values - mean * is_in) * (slope * len(values) / n)).mean(axis=1)
