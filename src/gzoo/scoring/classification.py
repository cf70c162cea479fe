"""Classification: how often one word for a galaxy is the right one; and the protocols of published papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

from gzoo import files
from gzoo.dataset.open import Dataset, open_dataset
from gzoo.errors import InputError, TableError
from gzoo.scoring.intervals import Blocks, Value, blocks, ratio
from gzoo.scoring.predictions import (
    CLASS_ENDINGS,
    BoolArray,
    Matched,
    match,
    positions,
    read_class_predictions,
    read_predictions,
    refuse_other_scheme,
    refuse_seen,
)
from gzoo.trees.tree import FloatArray, IntArray
from gzoo.votes.summary import PUBLISHED, summary
from gzoo.votes.tables import read_table
from gzoo.votes.votes import Votes

SUMMARY = "summary"
NO_CLASS = ""
OPTION = "--include-trained-on"
WHOLE = 1_000_000  # imagined volunteers, whose votes are the predicted fractions
PROTOCOLS = ("gz-evo", "decals-confident")
GZ_EVO_VOTES = 20
DECALS_CLASSIFICATIONS, DECALS_PROPORTION_ASKED, DECALS_CONFIDENT = 34, 0.5, 0.8

Texts = npt.NDArray[np.str_]


class Cell(TypedDict):
    """Galaxies of one class that were called another, and their share of the class."""

    n: int
    fraction: Value


class Classification(TypedDict):
    """How well classes are told.

    derived_from: "probabilities", or "votes" where the tree was walked with predicted fractions.
    n_unlabelled: galaxies without a class in the dataset, which are left out. n_without_class: galaxies for which the walk
        ends in no class, which count as wrong; in `confusion` they are called "".
    accuracy: share of galaxies that are called what they are. majority_class_accuracy: that of naming the commonest class.
    balanced_accuracy: mean over classes of the share that is called right.
    cross_entropy: mean of -log of the probability given to the true class, in nats; null for a walk, which gives none,
        and where `n_zero_probability` galaxies' true class was given no chance. cross_entropy_of_frequencies: what naming the
        classes' own frequencies for each galaxy would have.
    confusion: true class -> called class -> how many.
    """

    label: str
    derived_from: str
    n_galaxies: int
    n_unlabelled: int
    n_without_class: int
    n_trained_on: int
    n_zero_probability: int
    classes: list[str]
    accuracy: Value
    majority_class_accuracy: Value
    balanced_accuracy: Value
    cross_entropy: Value
    cross_entropy_of_frequencies: Value
    confusion: dict[str, dict[str, Cell]]


class AnswerErrors(TypedDict):
    """Errors of one answer's fraction over the galaxies that count."""

    n_galaxies: int
    rmse: Value
    mae: Value


class GZEvo(TypedDict):
    """The regression protocol of the published GZ Evo baselines, and what it leaves out.

    rmse, mad: mean over answers of the root mean square and mean absolute error of its fraction, over galaxies with at
        least 20 votes on the question: the published numbers. An answer counts alike however few galaxies it has.
    noise_floor: the rmse of a perfect model, from the votes' own noise.
    rmse_noise_corrected: root of the mean over answers of squared error minus noise.
    """

    protocol: str
    min_votes: int
    n_answers: int
    n_trained_on: int
    rmse: Value
    mae: Value
    noise_floor: Value
    rmse_noise_corrected: Value
    answers: dict[str, AnswerErrors]


class Agreement(TypedDict):
    """Share of galaxies for which the likeliest answer is the one that most people gave."""

    n_galaxies: int
    accuracy: Value


class DecalsQuestion(TypedDict):
    """`relevant`: all galaxies for which the question is; `confident`: those with one answer above 0.8."""

    relevant: Agreement
    confident: Agreement


class DecalsConfident(TypedDict):
    """Table 1 of Walmsley et al. (2022, MNRAS 509, 3966).

    Over galaxies with at least 34 classifications of which at least half came to the question; and of these over those
    on which the volunteers are confident, with a fraction above 0.8 for one answer. Questions that allow several
    answers at once are left out, as there. Mind what the choice of confident galaxies does: it leaves the easy ones.
    """

    protocol: str
    n_trained_on: int
    questions: dict[str, DecalsQuestion]


def classify(
    predictions: Path | str, folder: Path | str, *, label: str = SUMMARY, include_trained_on: bool = False
) -> Classification:
    """Scores of predicted classes against a dataset's labels.

    Args:
        predictions: Class probabilities (a column a class, `{class}_probability`); or, for `summary`, concentrations
            or fractions, with which the tree is then walked as with votes.
        folder: The dataset with the labels.
        label: A column of the dataset, or `summary`, which is made from the votes where there is no such column.
        include_trained_on: Use galaxies that the model was trained on too, rather than refuse; they are counted.

    Raises:
        NotFoundError: A file is not there.
        TableError: There is no such label, no galaxy has one, the predictions are of something else, or the model was
            trained on some of the galaxies, or on galaxies split by another scheme.
    """
    dataset, path = open_dataset(folder), Path(predictions)
    labels = _labels(dataset, label)
    known = labels.filter(pl.col("label") != NO_CLASS)["label"].unique().sort().to_list()
    classes = tuple(PUBLISHED) if label == SUMMARY and set(known) <= set(PUBLISHED) else tuple(known)
    given = _class_columns(path, classes)
    if given or label != SUMMARY:
        told = read_class_predictions(path, classes)
        matched = _matched(dataset, path, told.keys, told.in_training_set, include_trained_on)
        probabilities, called = told.probabilities, np.asarray(classes)[told.probabilities.argmax(axis=1)]
    else:
        expected = read_predictions(path, dataset.tree)
        matched = _matched(dataset, path, expected.keys, expected.in_training_set, include_trained_on)
        probabilities, called = None, walk(expected.fractions, matched.votes)
    found = matched.keys.join(labels, on=["dataset_name", "id_str"], how="left", maintain_order="left")
    true = found["label"].fill_null(NO_CLASS).to_numpy().astype(str)
    is_labelled = true != NO_CLASS
    if not is_labelled.any():
        raise TableError(
            f"None of the {len(true)} galaxies of {path} has a {label}.",
            f"Galaxies with a {label} in {folder}.",
            "Predict other galaxies, or choose another label.",
        )
    ra, dec = positions(dataset, matched.keys)
    out = compute_classification(
        true[is_labelled],
        called[is_labelled],
        classes,
        blocks(int(is_labelled.sum()), ra[is_labelled], dec[is_labelled]),
        None if probabilities is None else probabilities[is_labelled],
    )
    out["label"], out["n_unlabelled"] = label, int((~is_labelled).sum())
    out["n_trained_on"] = int(matched.is_seen.sum())
    return out


def published(
    predictions: Path | str, folder: Path | str, *, protocol: str, include_trained_on: bool = False
) -> GZEvo | DecalsConfident:
    """Scores as a paper defines them, to be put beside its numbers.

    Args:
        predictions: Concentrations or fractions.
        folder: The dataset with the votes.
        protocol: "gz-evo" or "decals-confident".
        include_trained_on: As of `classify`.

    Raises:
        InputError: There is no such protocol.
        NotFoundError: A file is not there.
        TableError: The predictions cannot be used, or are of galaxies that the model was trained on.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"There is no protocol '{protocol}'.", f"One of {', '.join(PROTOCOLS)}.", "Choose one.")
    dataset, path = open_dataset(folder), Path(predictions)
    expected = read_predictions(path, dataset.tree)
    matched = _matched(dataset, path, expected.keys, expected.in_training_set, include_trained_on)
    galaxy_blocks = blocks(len(matched.votes), *positions(dataset, matched.keys))
    compute = gz_evo if protocol == "gz-evo" else decals_confident
    out = compute(expected.fractions, matched.votes, galaxy_blocks)
    out["n_trained_on"] = int(matched.is_seen.sum())
    return out


# ----------------------------------------------------------------------------------------------------
# Classes


def walk(fractions: FloatArray, votes: Votes) -> Texts:
    """The `summary` that volunteers would come to who vote as predicted, shape (galaxy,).

    Of several versions of the tree, that one is walked which most of the galaxy's own volunteers were asked.

    Args:
        fractions: Predicted, shape (galaxy, answer); NaN for questions that are not predicted.
        votes: Of the same galaxies, for their version of the tree only.
    """
    tree = votes.tree
    proportion_asked = tree.proportion_asked(fractions)
    expected = np.nan_to_num(proportion_asked[:, list(tree.question_of_answer)] * fractions)
    numbers = {question.name: i for i, question in enumerate(tree.questions)}
    volunteers = np.column_stack(
        [votes.totals[:, [numbers[question.name] for question in part]].max(axis=1) for part in tree.parts.values()]
    )
    own = volunteers.argmax(axis=1)
    for i, part in enumerate(tree.parts.values()):
        for question in part:
            expected[own != i, tree.slice(question.name)] = 0
    counts = np.rint(expected * WHOLE).astype(np.int64)
    return summary(Votes(tree, counts))


def compute_classification(
    true: Texts, called: Texts, classes: Sequence[str], galaxy_blocks: Blocks, probabilities: FloatArray | None = None
) -> Classification:
    """Scores of called classes, with 95 % intervals.

    Args:
        true: Of each galaxy, one of `classes`.
        called: What it was called, or "".
        classes: All there are.
        galaxy_blocks: What is resampled.
        probabilities: Shape (galaxy, class), where there are some.
    """
    is_class = true[:, None] == np.asarray(classes)[None, :]
    names = [*classes, NO_CLASS] if (called == NO_CLASS).any() else list(classes)
    is_called = called[:, None] == np.asarray(names)[None, :]
    n = is_class.sum(axis=0)
    pairs = (is_class[:, :, None] & is_called[:, None, :]).reshape(len(true), -1)
    of = np.repeat(is_class, len(names), axis=1)
    fractions = _fractions(pairs, of, galaxy_blocks)
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
    # the mean of the classes' shares, and its linear response to each galaxy
    balanced = recall[present].mean() + (is_right - recall[own]) * len(true) / (n[own] * present.sum())
    frequencies = -np.log(n[own] / len(true))
    entropy, n_zero_probability = Value(value=None, low=None, high=None), 0
    if probabilities is not None:
        given = probabilities[np.arange(len(true)), own]
        n_zero_probability = int((given <= 0).sum())
        if not n_zero_probability:
            entropy = _mean(-np.log(given), galaxy_blocks)
    return Classification(
        label="",
        derived_from="votes" if probabilities is None else "probabilities",
        n_galaxies=len(true),
        n_unlabelled=0,
        n_without_class=int((called == NO_CLASS).sum()),
        n_trained_on=0,
        n_zero_probability=n_zero_probability,
        classes=list(classes),
        accuracy=_fractions(is_right[:, None], everyone, galaxy_blocks)[0],
        majority_class_accuracy=_fractions(is_class[:, [int(n.argmax())]], everyone, galaxy_blocks)[0],
        balanced_accuracy=_mean(balanced, galaxy_blocks),
        cross_entropy=entropy,
        cross_entropy_of_frequencies=_mean(frequencies, galaxy_blocks),
        confusion=confusion,
    )


def _labels(dataset: Dataset, label: str) -> pl.DataFrame:
    """Key and label of each galaxy of a dataset, "" where there is none."""
    parts: list[pl.DataFrame] = []
    for split in dataset.splits:
        keys, votes = dataset.read_votes(split)
        shards = files.shards(dataset.folder, split)
        columns = pl.scan_parquet(shards[0], glob=False).collect_schema()
        if label in columns and (
            columns[label] == pl.String or columns[label].is_integer() or columns[label] == pl.Boolean
        ):
            read = pl.concat([pl.read_parquet(shard, columns=[label], glob=False) for shard in shards])
            found = read[label].cast(pl.String).fill_null(NO_CLASS)
        elif label == SUMMARY:
            found = pl.Series(summary(votes).tolist(), dtype=pl.String)
        else:
            what = f"holds {columns[label]}" if label in columns else "is not there"
            raise TableError(
                f"{dataset.folder}: column '{label}' {what}.",
                "A column of texts, whole numbers or truth values: the class of each galaxy.",
                f"Choose '{SUMMARY}', which is made from the votes, or another column.",
            )
        parts.append(keys.with_columns(label=found))
    return pl.concat(parts)


def _class_columns(path: Path, classes: Sequence[str]) -> bool:
    """Whether a file has a column of any of the classes."""
    if not path.is_file():
        return False  # told where it is read
    have = set(read_table(path).columns)
    return any(f"{one}{ending}" in have for one in classes for ending in CLASS_ENDINGS)


def _matched(
    dataset: Dataset, path: Path, keys: pl.DataFrame, in_training_set: BoolArray, include_trained_on: bool
) -> Matched:
    matched = match(dataset, keys, path, in_training_set)
    if not include_trained_on:
        refuse_other_scheme(path, dataset, OPTION)
        refuse_seen(matched, path, OPTION)
    return matched


# ----------------------------------------------------------------------------------------------------
# Protocols


def gz_evo(fractions: FloatArray, votes: Votes, galaxy_blocks: Blocks) -> GZEvo:
    """The regression errors of the published GZ Evo baselines.

    Args:
        fractions: Predicted, shape (galaxy, answer); NaN for questions that are not predicted.
        votes: Of the same galaxies.
        galaxy_blocks: What is resampled.
    """
    volunteers = votes.totals[:, list(votes.tree.question_of_answer)]
    counts = (volunteers >= GZ_EVO_VOTES) & np.isfinite(fractions)
    kept = np.flatnonzero(counts.any(axis=0))
    names = [votes.tree.columns[i] for i in kept]
    is_in = counts[:, kept].astype(np.float64)
    voted, expected = np.nan_to_num(votes.fractions[:, kept]), np.nan_to_num(fractions[:, kept])
    away = (expected - voted) * is_in
    noise = voted * (1 - voted) / np.maximum(volunteers[:, kept] - 1, 1) * is_in
    square, absolute = away**2, np.abs(away)
    of_square, of_absolute = ratio(square, is_in, galaxy_blocks), ratio(absolute, is_in, galaxy_blocks)
    answers = {
        name: AnswerErrors(
            n_galaxies=int(is_in[:, i].sum()),
            rmse=_value(*(max(float(end[i]), 0.0) ** 0.5 for end in (of_square.value, of_square.low, of_square.high))),
            mae=_value(of_absolute.value[i], of_absolute.low[i], of_absolute.high[i]),
        )
        for i, name in enumerate(names)
    }
    corrected = _mean(_mean_over_columns(square - noise, is_in, 1.0), galaxy_blocks)
    ends = [corrected["value"], corrected["low"], corrected["high"]]
    return GZEvo(
        protocol="gz-evo",
        min_votes=GZ_EVO_VOTES,
        n_answers=len(names),
        n_trained_on=0,
        rmse=_mean(_mean_over_columns(square, is_in, 0.5), galaxy_blocks),
        mae=_mean(_mean_over_columns(absolute, is_in, 1.0), galaxy_blocks),
        noise_floor=_mean(_mean_over_columns(noise, is_in, 0.5), galaxy_blocks),
        rmse_noise_corrected=_value(*(np.nan if end is None else max(end, 0.0) ** 0.5 for end in ends)),
        answers=answers,
    )


def decals_confident(fractions: FloatArray, votes: Votes, galaxy_blocks: Blocks) -> DecalsConfident:
    """Accuracy question by question, as the GZ DECaLS paper has it.

    Args:
        fractions: Predicted, shape (galaxy, answer); NaN for questions that are not predicted.
        votes: Of the same galaxies.
        galaxy_blocks: What is resampled.
    """
    tree = votes.tree
    numbers = {question.name: i for i, question in enumerate(tree.questions)}
    questions: dict[str, DecalsQuestion] = {}
    for part in tree.parts.values():
        everyone = votes.totals[:, [numbers[question.name] for question in part]].max(axis=1)
        for question in part:
            own, volunteers = tree.slice(question.name), votes.totals[:, numbers[question.name]]
            if question.multiple or np.isnan(fractions[:, own]).any():
                continue
            is_relevant = (everyone >= DECALS_CLASSIFICATIONS) & (volunteers >= DECALS_PROPORTION_ASKED * everyone)
            is_right = fractions[:, own].argmax(axis=1) == votes.counts[:, own].argmax(axis=1)
            most: IntArray = votes.counts[:, own].max(axis=1)
            is_confident = is_relevant & (most > DECALS_CONFIDENT * volunteers)
            of = np.column_stack([is_relevant, is_confident])
            accuracies = _fractions(of & is_right[:, None], of, galaxy_blocks)
            questions[question.name] = DecalsQuestion(
                relevant=Agreement(n_galaxies=int(is_relevant.sum()), accuracy=accuracies[0]),
                confident=Agreement(n_galaxies=int(is_confident.sum()), accuracy=accuracies[1]),
            )
    return DecalsConfident(protocol="decals-confident", n_trained_on=0, questions=questions)


# ----------------------------------------------------------------------------------------------------
# Intervals of what is no plain ratio


def _wilson(fraction: FloatArray, n: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Wilson's 95 % interval of a share (1927), which has a width where all or none are counted."""
    z = float(stats.norm.isf(0.025))
    stretch = 1 + z * z / n
    centre = (fraction + z * z / (2 * n)) / stretch
    half = z / stretch * np.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    # the ends of 0 and 1 are those numbers themselves, but for rounding
    return np.clip(centre - half, 0.0, fraction), np.clip(centre + half, fraction, 1.0)


def _fractions(hits: BoolArray, of: BoolArray, galaxy_blocks: Blocks) -> list[Value]:
    """Share of each column's galaxies that are hits; of as many independent ones as the blocks' errors speak for."""
    found = ratio(hits.astype(np.float64), of.astype(np.float64), galaxy_blocks)
    n = of.sum(axis=0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = found.value * (1 - found.value) / found.standard_error**2
        n = np.where(np.isfinite(apart) & (apart > 0), np.minimum(apart, n), n)
        low, high = _wilson(found.value, n)
    return [_value(*ends) for ends in zip(found.value, low, high, strict=True)]


def _mean(column: FloatArray, galaxy_blocks: Blocks) -> Value:
    found = ratio(column[:, None], np.ones((len(column), 1)), galaxy_blocks)
    return _value(found.value[0], found.low[0], found.high[0])


def _mean_over_columns(values: FloatArray, is_in: FloatArray, power: float) -> FloatArray:
    """A number for each galaxy, with the mean of (column mean ** power) over columns as its mean, and its error.

    The error to first order: each galaxy's part in each column's mean, times how the result responds to that.
    """
    n = is_in.sum(axis=0)
    mean = values.sum(axis=0) / n
    with np.errstate(divide="ignore"):
        slope = np.where(mean > 0, power * np.maximum(mean, 1e-300) ** (power - 1), 0.0) if power != 1 else 1.0
    level = float((mean**power if power != 1 else mean).mean())
    return level + ((values - mean * is_in) * (slope * len(values) / n)).mean(axis=1)


def _value(value: float | np.floating, low: float | np.floating, high: float | np.floating) -> Value:
    return Value(value=_number(value), low=_number(low), high=_number(high))


def _number(value: float | np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
