"""Scores of predictions on galaxies that the model was not trained on, each with a confidence interval."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, overload

import numpy as np
import polars as pl

from gzoo.dataset.open import open_dataset
from gzoo.display import Sheet, Shown, interval, table_of
from gzoo.errors import GZooWarning, InputError
from gzoo.files import refuse_report
from gzoo.scoring.baseline import BaselineSource, baseline_of, in_words
from gzoo.scoring.calibration import Calibration, calibration_of
from gzoo.scoring.classification import Classification, DecalsConfident, GZEvo, classify, published
from gzoo.scoring.intervals import LEVEL, Blocks, Bootstrap, Value, as_value, blocks, growth, ratio, root
from gzoo.scoring.likelihood import (
    binomial_deviation,
    fit_baseline,
    question_fractions,
    question_log_coefficient,
    question_nll,
    sampling_noise,
)
from gzoo.scoring.matching import match_held_out
from gzoo.scoring.ordered import ordered_votes, ranked_probability_score
from gzoo.scoring.predictions import Kind, Predictions, read_predictions
from gzoo.scoring.slices import Slicing, slicings
from gzoo.scoring.targets import TargetScores, score_target, target_of
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

MIN_BALANCED = 30  # galaxies with votes that a question needs to be part of the balanced score
BOOTSTRAP_SEED = 0


class Errors(TypedDict):
    """Errors of predicted vote fractions, over galaxies with at least 2 votes on the question.

    rmse, mae: Root mean square error and mean absolute error against observed fractions, including sampling noise.
    noise_floor, mae_floor: The same for a perfect model: estimated from the votes; from the predicted fractions. The
        MAE has no noise-corrected value, because that depends on the unknown distribution of the errors.
    mse_noise_corrected, rmse_noise_corrected: Mean squared error minus sampling noise, which is unbiased and may
        therefore be negative; and its root.
    mse_weighted, rmse_weighted: The same as `mse_noise_corrected` and its root with the weight (N - 1) / (N + 1) for N
        votes on the question: the mean squared error over galaxies with these weights, so that galaxies with 2 votes
        count a third of those with many.
    exceeds_noise: Whether the interval of `mse_noise_corrected` is above 0; if not, only its upper end is known.
    """

    rmse: Value
    noise_floor: Value
    mse_noise_corrected: Value
    rmse_noise_corrected: Value
    mse_weighted: Value
    rmse_weighted: Value
    mae: Value
    mae_floor: Value
    exceeds_noise: bool | None


class AnswerScore(Errors):
    """Errors of one answer.

    bias: Mean of predicted minus observed fraction.
    """

    bias: Value


class Score(Errors):
    """Scores over a set of galaxies.

    Attributes:
        log_likelihood, baseline_log_likelihood: Mean log probability of the votes, in nats per galaxy with votes;
            higher is better. Null if `n_zero_probability` galaxies have votes for
            answers with a predicted fraction of 0.
        log_likelihood_per_vote: The same per vote.
        log_coefficient: The part of it that depends on the votes alone, which some programs omit.
        log_likelihood_gain: Paired difference, model minus baseline. It grows with the number of votes.
        log_likelihood_gain_per_vote: The same per vote.
        constant_gain: Gain over the baseline of a constant that was fitted to these votes themselves: what the baseline
            misses because it knows other votes, and no model needs an image for.
        brier: Mean squared distance of the predicted fractions from a single vote, per galaxy; lower is better.
        brier_gain: Paired difference, baseline minus model.
        n_galaxies, n_votes: Number of galaxies with votes, and of their votes.
        n_effective: Number of independent galaxies with the same information about `log_likelihood` (about `brier` if
            that is null).
    """

    log_likelihood: Value
    log_likelihood_per_vote: Value
    log_coefficient: Value
    baseline_log_likelihood: Value
    log_likelihood_gain: Value
    log_likelihood_gain_per_vote: Value
    constant_gain: Value
    brier: Value
    brier_gain: Value
    n_galaxies: int
    n_votes: int
    n_effective: float | None
    n_zero_probability: int


class QuestionScore(Score):
    """Scores of one question, and of each of its answers by column name.

    rps: Ranked probability score of the votes for ordered answers, per galaxy with such votes; lower is better. Null if
        the question has no ordered answers.
    rps_gain: Paired difference, baseline minus model.
    n_ordered: Galaxies with votes for ordered answers.
    """

    rps: Value
    rps_gain: Value
    n_ordered: int
    answers: dict[str, AnswerScore]


class Balanced(TypedDict):
    """Means over questions, weighted by the square root of the number of galaxies with votes.

    Weights equal to these numbers (`overall`) hide deep questions; equal weights let them dominate.

    n_questions: Questions with at least 30 galaxies with votes.
    """

    log_likelihood_gain: Value
    mse_noise_corrected: Value
    rmse_noise_corrected: Value
    n_questions: int


class SliceScore(TypedDict):
    """Scores over the galaxies of one slice."""

    column: str
    range: str
    n_galaxies: int
    score: Score


@dataclass(frozen=True, slots=True, repr=False)
class Scores(Shown):
    """Scores of predictions, with 95% confidence intervals.

    Attributes:
        n_galaxies: Scored galaxies.
        n_trained_on: Scored galaxies that the model was trained on.
        kind: What the predictions are: "concentrations" or "fractions".
        how_read: From which columns, and why they were read as this kind.
        level: Confidence level of all intervals.
        bootstrap: What the intervals resample.
        overall: Per galaxy, log-likelihoods are summed over its questions with votes. Errors are means over all answers
            to all questions with at least 2 votes; each answer of each galaxy has the same weight.
        balanced: Means over questions.
        campaigns: Scores over the galaxies of each `dataset_name`, if there are several.
        questions: Scores of each question by its name.
        slices: Scores over parts of the galaxies, the largest noise-corrected error first.
        questions_missing: Questions of the dataset that are not predicted, and not part of any score.
        calibration: Calibration of each question.
        baseline: Whose votes the baseline was fitted to.
    """

    n_galaxies: int
    n_trained_on: int
    kind: Kind
    how_read: str
    level: float
    bootstrap: Bootstrap
    overall: Score
    balanced: Balanced
    campaigns: dict[str, Score]
    questions: dict[str, QuestionScore]
    slices: list[SliceScore]
    questions_missing: list[str]
    calibration: Calibration | None = None
    baseline: BaselineSource | None = None

    def to_polars(self) -> pl.DataFrame:
        """Return the scores as a table.

        Returns:
            A row for all galaxies, each campaign, each question and each slice (column `kind`: "overall", "campaign",
            "question", "slice"; column `name`). The ends of the interval of `x` are in `x_low` and `x_high`.
        """
        parts: list[tuple[str, str, Mapping[str, Any]]] = [("overall", "overall", self.overall)]
        parts += [("campaign", name, one) for name, one in self.campaigns.items()]
        parts += [("question", name, one) for name, one in self.questions.items()]
        parts += [("slice", f"{one['column']}: {one['range']}", one["score"]) for one in self.slices]
        first = ("n_galaxies", "n_votes", "n_effective", "log_likelihood", "log_likelihood_gain")
        return table_of(
            {"kind": kind, "name": name, **{key: one[key] for key in first}, **one} for kind, name, one in parts
        )

    def sheet(self) -> Sheet:
        """Return the scores of each question, with the gain over the baseline and the noise-corrected error."""
        rows = [("overall", self.overall), *self.campaigns.items(), *self.questions.items()]
        return Sheet(
            f"Scores of {self.n_galaxies:,} galaxies",
            {
                "trained on": f"{self.n_trained_on:,} of these galaxies" if self.n_trained_on else None,
                "not predicted": self.questions_missing,
                "balanced gain": self.balanced["log_likelihood_gain"],
                "baseline": in_words(self.baseline) if self.baseline else None,
            },
            ("", "galaxies", "gain (nats)", "noise-corrected RMSE"),
            [
                (name, one["n_galaxies"], interval(one["log_likelihood_gain"]), interval(one["rmse_noise_corrected"]))
                for name, one in rows
            ],
            "Gain: in log-likelihood per galaxy, over a baseline that knows only the training votes. In brackets: "
            f"{self.level:.0%} confidence intervals. Every score: to_polars().",
        )


@overload
def score(
    predictions: Path | str,
    dataset: Path | str,
    *,
    mapping: Path | str | None = None,
    slices: Sequence[str] | None = None,
    table: Path | str | None = None,
    baseline: Path | str | None = None,
    label: None = None,
    protocol: None = None,
    include_trained_on: bool = False,
    report: Path | str | None = None,
    overwrite: bool = False,
) -> Scores: ...


@overload
def score(
    predictions: Path | str, dataset: Path | str, *, label: str, include_trained_on: bool = False
) -> Classification: ...


@overload
def score(
    predictions: Path | str, dataset: Path | str, *, protocol: str, include_trained_on: bool = False
) -> GZEvo | DecalsConfident: ...


@overload
def score(
    predictions: Path | str,
    dataset: Path | str,
    *,
    target: str,
    labels: Path | str | None = None,
    include_trained_on: bool = False,
    report: Path | str | None = None,
    overwrite: bool = False,
) -> TargetScores: ...


def score(
    predictions: Path | str,
    dataset: Path | str,
    *,
    mapping: Path | str | None = None,
    slices: Sequence[str] | None = None,
    table: Path | str | None = None,
    baseline: Path | str | None = None,
    label: str | None = None,
    protocol: str | None = None,
    target: str | None = None,
    labels: Path | str | None = None,
    include_trained_on: bool = False,
    report: Path | str | None = None,
    overwrite: bool = False,
) -> Scores | Classification | GZEvo | DecalsConfident | TargetScores:
    """Score predictions against the votes or labels of a dataset.

    Predictions of a run of `gzoo train --target` are scored against the labels of its target. With `label` or
    `protocol`, score predicted classes against labels, or follow the protocol of a paper.

    Args:
        predictions: Prediction file with concentrations or fractions: Parquet, CSV, FITS, VOTable or ECSV.
        dataset: Dataset with the votes.
        mapping: Mapping file for predictions with other column names.
        slices: Columns of the dataset or of `table` by whose values the galaxies are divided into slices, which are
            scored separately. Slices by total votes are always included.
        table: Table with more columns for slices (size, magnitude, redshift), with a column `id_str`.
        baseline: Dataset whose train split the baseline is fitted on. By default, it is `dataset` or, if that has no
            train split, the training galaxies of the model, whose baseline is kept with its predictions.
        label: Column of the dataset with classes to score instead of votes, or `summary`.
        protocol: Published protocol to follow: "gz-evo" or "decals-confident".
        target: Column of labels to score against predictions with the columns `{target}_{class}_probability`, or
            `{target}_mean` and `{target}_std`; by default the one that `gzoo predict` wrote into the file.
        labels: Table with the column of `target` and `id_str`, if the dataset does not have it.
        include_trained_on: Score galaxies that the model was trained on as well, and report their number.
        report: HTML page to write with the result.
        overwrite: Replace an earlier report.

    Returns:
        Scores, whose `to_dict()` is what `--json` prints. A question without votes has null values.

    Raises:
        NotFoundError: A file does not exist, or neither a train split nor a baseline was found.
        TableError: The file does not predict this dataset, or the model was trained on some of its galaxies or with
            another split scheme.
        InputError: Two arguments exclude each other.
        OutputExistsError: The report already exists.
    """
    is_target = label is None and protocol is None and (target or labels or target_of(Path(predictions)) is not None)
    if label is not None or protocol is not None or is_target:
        options = {"--target": target or (is_target and "that of the file"), "--label": label, "--protocol": protocol,
                   "--report": None if is_target else report, "--slices": slices, "--table": table,
                   "--mapping": mapping, "--baseline": baseline}  # fmt: skip
        first, *others = [name for name, value in options.items() if value] or [""]
        if others:
            raise InputError(f"{first} and {others[0]} exclude each other.", hint=f"Omit {others[0]}, or run twice.")
        if is_target:
            refuse_report(report, (predictions, dataset, labels), overwrite)
            opened = open_dataset(dataset)
            found = score_target(Path(predictions), opened, target, labels, include_trained_on=include_trained_on)
            if report is not None:
                from gzoo.reports.target import write_target_scores

                write_target_scores(Path(report), dataset=opened, predictions=Path(predictions), found=found)
            return found
        if label is not None:
            return classify(predictions, dataset, label=label, include_trained_on=include_trained_on)
        return published(predictions, dataset, protocol=str(protocol), include_trained_on=include_trained_on)
    refuse_report(report, (predictions, dataset, mapping, table, baseline), overwrite)
    opened, path = open_dataset(dataset), Path(predictions)
    read = read_predictions(path, opened.tree, mapping)
    matched, units = match_held_out(opened, read, path, include_trained_on=include_trained_on)
    known = baseline_of(opened, path, baseline)
    computed = compute(
        matched.votes,
        read,
        known.concentrations,
        galaxy_blocks=units,
        campaigns=matched.keys["dataset_name"],
        slices=slicings(opened, matched.keys, matched.votes, slices or (), Path(table) if table else None),
    )
    calibration = calibration_of(matched.votes, read, units)
    scores = replace(computed, n_trained_on=int(matched.is_seen.sum()), calibration=calibration, baseline=known.about)
    if report is not None:
        from gzoo.reports.score import write_report

        write_report(
            Path(report),
            dataset=Path(dataset),
            predictions=path,
            mapping=mapping,
            scores=scores,
            title=f"{opened.campaign.title}: scores",
            metadata={"Predictions": f"{path.name}, {len(read):,} galaxies"},
            overwrite=overwrite,
        )
    return scores


def compute(
    votes: Votes,
    predictions: Predictions | FloatArray,
    baseline: FloatArray,
    *,
    galaxy_blocks: Blocks | None = None,
    campaigns: pl.Series | None = None,
    slices: Sequence[Slicing] = (),
    seed: int = BOOTSTRAP_SEED,
) -> Scores:
    """Return scores of predictions with 95% confidence intervals (see `gzoo.scoring.intervals`).

    Args:
        votes: Votes of galaxies that the model was not trained on.
        predictions: Predictions in the same order; or concentrations of all questions, shape (galaxy, concentration).
        baseline: Concentrations of the baseline, shape (concentration,) or (galaxy, concentration).
        galaxy_blocks: Bootstrap units; by default galaxies.
        campaigns: `dataset_name` of each galaxy.
        slices: Ways to divide the galaxies into slices.
        seed: Seed of the bootstrap.
    """
    tree, n = votes.tree, len(votes)
    given = predictions
    predicted = given if isinstance(given, Predictions) else Predictions.of_concentrations(given, tree)
    units, constant = galaxy_blocks or blocks(n), fit_baseline(votes)
    total: _Sums = {name: np.zeros(n) for name in SUMS}
    questions: dict[str, QuestionScore] = {}
    balanced = {"log_likelihood_gain": _WeightedMean(n), "mse_noise_corrected": _WeightedMean(n)}
    n_balanced = 0
    for i, question in enumerate(tree.questions):
        if question.name not in predicted.questions:
            continue
        rows = np.flatnonzero(votes.totals[:, i] > 0)
        found, answers = _of_question(votes, predicted, baseline, constant, i, rows)
        own = units.take(rows)
        of_answers = _of_answers(question, answers, own, seed)
        questions[question.name] = QuestionScore(
            **_score(found, own, seed),
            **_of_order(votes, predicted, baseline, i, rows, own, seed),
            answers=of_answers,
        )
        for name, column in found.items():
            total[name][rows] += column
        total["galaxies"][rows] = 1
        if len(rows) >= MIN_BALANCED:
            n_balanced += 1
            balanced["log_likelihood_gain"].add(rows, found["model"] - found["baseline"], found["galaxies"])
            balanced["mse_noise_corrected"].add(rows, found["square"] - found["noise"], found["cells"])

    def part(rows: IntArray) -> Score:
        return _score({name: column[rows] for name, column in total.items()}, units.take(rows), seed)

    names = pl.Series([] if campaigns is None else campaigns, dtype=pl.String)
    rows_of = {name: np.flatnonzero(names == name) for name in names.unique().sort()}
    scored = [
        SliceScore(column=slicing.column, range=name, n_galaxies=len(rows), score=part(rows))
        for slicing in slices
        for name, rows in slicing.parts()
    ]
    gain, error = (mean.value(units, seed) for mean in balanced.values())
    _warn_of_growth(total, units)
    return Scores(
        n_galaxies=n,
        n_trained_on=0,
        kind=predicted.kind,
        how_read=predicted.how_read,
        level=LEVEL,
        bootstrap=units.to_dict(),
        overall=_score(total, units, seed),
        balanced=Balanced(
            log_likelihood_gain=gain,
            mse_noise_corrected=error,
            rmse_noise_corrected=root(error),
            n_questions=n_balanced,
        ),
        campaigns={name: part(rows) for name, rows in rows_of.items()} if len(rows_of) > 1 else {},
        questions=questions,
        slices=sorted(scored, key=_noise_corrected_error, reverse=True),
        questions_missing=[one.name for one in tree.questions if one.name not in predicted.questions],
    )


def _warn_of_growth(total: _Sums, units: Blocks) -> None:
    parts = {
        "the log-likelihood gain": (total["model"] - total["baseline"], total["galaxies"]),
        "the noise-corrected error": (total["square"] - total["noise"], total["cells"]),
    }
    for name, (numerator, denominator) in parts.items():
        if found := growth(numerator, denominator, units):
            warnings.warn(
                f"The standard error of {name} grows with the width of the sky cells up to the widest, of which there "
                f"are {found[0]} (there it is {found[1]:.1f} times as large as in smaller ones): intervals are for "
                "these parts of the sky, and may be too short for others.",
                GZooWarning,
                stacklevel=3,
            )


def _noise_corrected_error(one: SliceScore) -> float:
    value = one["score"]["mse_noise_corrected"]["value"]
    return -1.0 if value is None else value


# ----------------------------------------------------------------------------------------------------
# Galaxy by galaxy

# What scores are sums of, each of shape (galaxy,): 1 for galaxies with votes; votes; log-likelihoods of model,
# baseline and a constant fitted to these votes, and their multinomial coefficient; Brier scores of model and baseline;
# the number of answers to questions with at least 2 votes, and the sums over these answers of squared errors, absolute
# errors, both noise floors, the weights by votes, and the weighted noise-corrected squared errors.
SUMS = ("galaxies", "votes", "model", "baseline", "constant", "coefficient", "brier", "brier_baseline",
        "cells", "square", "noise", "absolute", "floor", "weight", "weighted")  # fmt: skip
_Sums = dict[str, FloatArray]


def _of_question(
    votes: Votes, predicted: Predictions, baseline: FloatArray, constant: FloatArray, i: int, rows: IntArray
) -> tuple[_Sums, _Sums]:
    """Return the sums of a question, shape (galaxy,), and the errors of its answers, shape (galaxy, answer)."""
    question = votes.tree.questions[i]
    where = votes.tree.slice(question.name)
    counts, totals = votes.counts[rows, where], votes.totals[rows, i]
    fractions = predicted.question_fractions(i, rows)
    voted = counts / np.maximum(totals, 1)[:, None]
    enough = (totals >= 2).astype(np.float64)[:, None]
    off = (fractions - voted) * enough
    weight = enough * ((totals - 1) / (totals + 1))[:, None]
    noise = enough * sampling_noise(voted, totals[:, None])
    answers: _Sums = {
        "cells": np.broadcast_to(enough, off.shape),
        "square": off**2,
        "noise": noise,
        "weight": np.broadcast_to(weight, off.shape),
        "weighted": weight * (off**2 - noise),
        "absolute": np.abs(off),
        "floor": enough * binomial_deviation(totals[:, None], fractions),
    }
    places = votes.tree.concentration_slice(question.name)
    known = baseline[places] if baseline.ndim == 1 else baseline[rows, places]
    same = _baseline_fractions(baseline, votes.tree, question, rows)
    sums: _Sums = {
        "galaxies": np.ones(len(rows)),
        "votes": totals.astype(np.float64),
        "model": predicted.log_likelihood(votes, i, rows),
        "baseline": -question_nll(counts, totals, known, is_multiple=question.multiple),
        "constant": -question_nll(counts, totals, constant[places], is_multiple=question.multiple),
        "coefficient": question_log_coefficient(counts, totals, is_multiple=question.multiple),
        "brier": _brier(fractions, voted, question),
        "brier_baseline": _brier(same, voted, question),
        **{name: column.sum(axis=1) for name, column in answers.items()},
    }
    return sums, {**answers, "bias": off}


def _baseline_fractions(baseline: FloatArray, tree: Tree, question: Question, rows: IntArray) -> FloatArray:
    places = tree.concentration_slice(question.name)
    known = baseline[places] if baseline.ndim == 1 else baseline[rows, places]
    same = question_fractions(known, is_multiple=question.multiple)
    return np.broadcast_to(same, (len(rows), len(question.columns)))


class _OfOrder(TypedDict):
    rps: Value
    rps_gain: Value
    n_ordered: int


def _of_order(
    votes: Votes, predicted: Predictions, baseline: FloatArray, i: int, rows: IntArray, units: Blocks, seed: int
) -> _OfOrder:
    """Return the ranked probability score of a question and its gain over the baseline."""
    question = votes.tree.questions[i]
    if not question.ordered:
        nothing = as_value(None, None, None)
        return _OfOrder(rps=nothing, rps_gain=nothing, n_ordered=0)
    counts = votes.counts[rows, votes.tree.slice(question.name)]
    own = ranked_probability_score(predicted.question_fractions(i, rows), counts, question)
    same = ranked_probability_score(_baseline_fractions(baseline, votes.tree, question, rows), counts, question)
    has_votes = ordered_votes(counts, question) > 0
    found = ratio(np.column_stack([own, same - own]), has_votes[:, None].astype(np.float64), units, seed=seed)
    return _OfOrder(rps=found.of(0), rps_gain=found.of(1), n_ordered=int(has_votes.sum()))


def _brier(fractions: FloatArray, voted: FloatArray, question: Question) -> FloatArray:
    """Return the mean over the votes of the squared distance of the predicted fractions from one vote."""
    ones = voted.sum(axis=1) if question.multiple else 1.0
    return (fractions**2).sum(axis=1) - 2 * (fractions * voted).sum(axis=1) + ones


class _WeightedMean:
    """Weighted mean over questions of ratios of sums over galaxies, and its linear response to each galaxy."""

    def __init__(self, n_galaxies: int) -> None:
        self.total = self.weight = 0.0
        self.response = np.zeros(n_galaxies)

    def add(self, rows: IntArray, numerator: FloatArray, denominator: FloatArray) -> None:
        """Add a question, with the square root of its number of galaxies as weight."""
        n = denominator.sum()
        if n and np.isfinite(numerator).all():
            weight, mean = np.sqrt(len(rows)), numerator.sum() / n
            self.weight += weight
            self.total += weight * mean
            self.response[rows] += weight * (numerator - mean * denominator) / n

    def value(self, units: Blocks, seed: int) -> Value:
        if not self.weight:
            return as_value(None, None, None)
        n = len(self.response)
        found = ratio((n * self.response / self.weight)[:, None], np.ones((n, 1)), units, seed=seed)
        mean = self.total / self.weight
        return as_value(mean, mean + found.low[0], mean + found.high[0])


# ----------------------------------------------------------------------------------------------------
# Sums to scores


def _score(sums: _Sums, units: Blocks, seed: int) -> Score:
    is_possible = np.isfinite(sums["model"])
    n_zero_probability = int((~is_possible).sum())
    model = np.where(is_possible, sums["model"], 0.0)
    galaxies, votes = sums["galaxies"], sums["votes"]
    columns = {
        "log_likelihood": model,
        "log_likelihood_per_vote": model,
        "log_coefficient": sums["coefficient"],
        "baseline_log_likelihood": sums["baseline"],
        "log_likelihood_gain": model - sums["baseline"],
        "log_likelihood_gain_per_vote": model - sums["baseline"],
        "constant_gain": sums["constant"] - sums["baseline"],
        "brier": sums["brier"],
        "brier_gain": sums["brier_baseline"] - sums["brier"],
    }
    denominators = [votes if name.endswith("_per_vote") else galaxies for name in columns]
    found = ratio(np.column_stack(list(columns.values())), np.column_stack(denominators), units, seed=seed)
    value = {name: found.of(i) for i, name in enumerate(columns)}
    n_effective = found.n_effective[list(columns).index("brier" if n_zero_probability else "log_likelihood")]
    if n_zero_probability:
        for name in [name for name in columns if name.startswith("log_likelihood")]:
            value[name] = as_value(None, None, None)
    return Score(
        **_errors(sums, units, seed),
        **value,  # type: ignore[typeddict-item]
        n_galaxies=int(galaxies.sum()),
        n_votes=int(votes.sum()),
        n_effective=float(n_effective) if np.isfinite(n_effective) else None,
        n_zero_probability=n_zero_probability,
    )


def _errors(sums: _Sums, units: Blocks, seed: int) -> Errors:
    """Return the errors from their sums, each of shape (galaxy,)."""
    square, noise, absolute, floor, cells = (sums[name] for name in ("square", "noise", "absolute", "floor", "cells"))
    columns = np.column_stack([square, noise, square - noise, absolute, floor, sums["weighted"]])
    denominators = np.column_stack([cells] * 5 + [sums["weight"]])
    found = ratio(columns, denominators, units, seed=seed)
    mse, of_noise, corrected, mae, mae_floor, weighted = (found.of(i) for i in range(6))
    return Errors(
        rmse=root(mse),
        noise_floor=root(of_noise),
        mse_noise_corrected=corrected,
        rmse_noise_corrected=root(corrected),
        mse_weighted=weighted,
        rmse_weighted=root(weighted),
        mae=mae,
        mae_floor=mae_floor,
        exceeds_noise=None if corrected["low"] is None else corrected["low"] > 0,
    )


def _of_answers(question: Question, answers: _Sums, units: Blocks, seed: int) -> dict[str, AnswerScore]:
    bias = ratio(answers["bias"], answers["cells"][:, :1], units, seed=seed)
    return {
        column: AnswerScore(**_errors({name: of[:, i] for name, of in answers.items()}, units, seed), bias=bias.of(i))
        for i, column in enumerate(question.columns)
    }
