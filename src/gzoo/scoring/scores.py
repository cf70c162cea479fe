"""Score: how good predictions are on galaxies that the model has not seen, each number with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypedDict, overload

import numpy as np
import polars as pl

from gzoo.dataset.open import Dataset, open_dataset
from gzoo.errors import InputError, NotFoundError, OutputExistsError
from gzoo.scoring.calibration import Calibration, calibration_of
from gzoo.scoring.classification import Classification, DecalsConfident, GZEvo, classify, published
from gzoo.scoring.intervals import Blocks, Kind, Value, blocks, ratio
from gzoo.scoring.likelihood import (
    fit_baseline,
    fraction_nll,
    log_factorial,
    mixed,
    question_log_coefficient,
    question_nll,
)
from gzoo.scoring.predictions import Predictions, match, positions, read_predictions, refuse_other_scheme, refuse_seen
from gzoo.scoring.slices import Slicing, slicings
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

OPTION = "--include-trained-on"
MIN_BALANCED = 30  # galaxies asked, for a question to count in the balanced score
BOOTSTRAP_SEED = 0


class Errors(TypedDict):
    """How far expected fractions are from those of volunteers, over galaxies with at least 2 votes on the question.

    rmse, mad: root mean square and mean absolute difference, with the votes' own noise in them.
    noise_floor, mae_floor: what they would be, had every prediction been right: from the votes themselves; from
        votes drawn with the predicted fractions.
    mse_noise_corrected, rmse_noise_corrected: the error with the noise removed: unbiased, so that it may be below 0; and its root.
    mae_noise_corrected: the root of the difference of the squares, right where errors are bell-shaped.
    exceeds_noise: Whether `mse_noise_corrected` is clear of 0; otherwise it is in [0, high] and no more can be said.
    """

    rmse: Value
    noise_floor: Value
    mse_noise_corrected: Value
    rmse_noise_corrected: Value
    mae: Value
    mae_floor: Value
    mae_noise_corrected: Value
    exceeds_noise: bool | None


class AnswerScore(Errors):
    """Errors of one answer.

    bias: mean of expected minus voted fraction.
    """

    bias: Value


class Score(Errors):
    """Scores over some galaxies.

    log_likelihood, baseline_log_likelihood: mean log probability of the votes, in nats per galaxy asked; higher is better. Null
        where fractions gave no chance at all to an answer with votes, in `n_zero_probability` galaxies.
    log_likelihood_per_vote: the same per answer given.
    log_coefficient: the part of it that depends on the votes alone (programs that leave it out have scores lower by
        this much).
    skill: the paired difference of log scores, model minus baseline.
    brier: mean squared distance of the expected fractions from one vote, per galaxy; lower is better.
    brier_gain: that of the baseline minus that of the model.
    n_asked, n_votes: galaxies asked, and answers they were given by.
    n_effective: as many independent galaxies would tell as much of the log score (of `brier`, where that is null).
    """

    log_likelihood: Value
    log_likelihood_per_vote: Value
    log_coefficient: Value
    baseline_log_likelihood: Value
    log_likelihood_gain: Value
    brier: Value
    brier_gain: Value
    n_asked: int
    n_votes: int
    n_effective: float | None
    n_zero_probability: int


class QuestionScore(Score):
    """Scores of one question, and of each of its answers by column name."""

    answers: dict[str, AnswerScore]


class Balanced(TypedDict):
    """Means over questions, each with the square root of its number of galaxies as weight.

    With weights as the numbers themselves (`overall`) deep questions drown; with equal ones they dominate.

    n_questions: those that at least 30 galaxies were asked.
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


class Drawn(TypedDict):
    """What intervals draw anew: galaxies or sky cells, how many there are, and how wide cells are (0 of galaxies)."""

    kind: Kind
    n: int
    cell_arcmin: float


class Scores(TypedDict):
    """What `gzoo score --json` prints.

    overall: per galaxy, the log scores summed over the questions it was asked; errors over all answers of all
        questions with at least 2 votes, each answer of each galaxy weighing the same.
    campaigns: the same over the galaxies of each `dataset_name`, where there are several.
    slices: over parts of the galaxies, those with the largest corrected error first.
    questions_missing: questions of the dataset that are not predicted, and in no score.
    """

    n_galaxies: int
    n_trained_on: int
    drawn: Drawn
    overall: Score
    balanced: Balanced
    campaigns: dict[str, Score]
    questions: dict[str, QuestionScore]
    slices: list[SliceScore]
    questions_missing: list[str]
    calibration: Calibration | None


@overload
def score(
    predictions: Path | str,
    folder: Path | str,
    *,
    columns: Path | str | None = None,
    slices: Sequence[str] | None = None,
    table: Path | str | None = None,
    label: None = None,
    protocol: None = None,
    include_trained_on: bool = False,
    report: Path | str | None = None,
    overwrite: bool = False,
) -> Scores: ...


@overload
def score(
    predictions: Path | str, folder: Path | str, *, label: str, include_trained_on: bool = False
) -> Classification: ...


@overload
def score(
    predictions: Path | str, folder: Path | str, *, protocol: str, include_trained_on: bool = False
) -> GZEvo | DecalsConfident: ...


def score(
    predictions: Path | str,
    folder: Path | str,
    *,
    columns: Path | str | None = None,
    slices: Sequence[str] | None = None,
    table: Path | str | None = None,
    label: str | None = None,
    protocol: str | None = None,
    include_trained_on: bool = False,
    report: Path | str | None = None,
    overwrite: bool = False,
) -> Scores | Classification | GZEvo | DecalsConfident:
    """Scores of predictions against a dataset's votes; or of classes against its labels, or as a paper defines them.

    Args:
        predictions: Anyone's: concentrations or fractions, Parquet, CSV or FITS (see `read_predictions`).
        folder: The dataset with the votes. The baseline is fitted on its train split.
        columns: Mapping file, for predictions with column names of their own.
        slices: Columns whose values cut the galaxies into slices, scored apart: of the dataset or of `table`. Always
            there are slices by number of votes.
        table: Table of more columns for slices (size, brightness, redshift, ...), keyed by `id_str`.
        label: Score classes instead, against this column or `summary`; see `gzoo.scoring.classify`.
        protocol: Score by a published protocol instead, "gz-evo" or "decals-confident"; see `gzoo.scoring.published`.
        include_trained_on: Score galaxies that the model was trained on too, rather than refuse; they are counted
            in `n_trained_on`.
        report: Also write a page that shows the result.
        overwrite: Replace an earlier report.

    Returns:
        The object that `--json` prints. A question with no votes has null values.

    Raises:
        NotFoundError: A file is not there, or the dataset has no train split for the baseline.
        TableError: The file is not a prediction file for this dataset's questions, or is for other galaxies; or the
            model was trained on galaxies split by another scheme.
        InputError: Arguments contradict each other.
        OutputExistsError: There is a report already.
    """
    if label is not None or protocol is not None:
        refuse_both(
            {
                "--label": label,
                "--protocol": protocol,
                "--report": report,
                "--slice": slices,
                "--table": table,
                "--columns": columns,
            }
        )
        if label is not None:
            return classify(predictions, folder, label=label, include_trained_on=include_trained_on)
        return published(predictions, folder, protocol=str(protocol), include_trained_on=include_trained_on)
    if report is not None and Path(report).exists() and not overwrite:  # told before the work, not after
        raise OutputExistsError(
            f"{report} exists.", "A new name.", "Choose another, or pass --overwrite to replace it."
        )
    dataset, path = open_dataset(folder), Path(predictions)
    read = read_predictions(path, dataset.tree, columns)
    matched = match(dataset, read.keys, path, read.in_training_set)
    if not include_trained_on:
        refuse_other_scheme(path, dataset, OPTION)
        refuse_seen(matched, path, OPTION)
    baseline = training_baseline(dataset)
    ra, dec = positions(dataset, matched.keys)
    galaxy_blocks = blocks(len(matched.votes), ra, dec)
    scores = compute(
        matched.votes,
        read,
        baseline,
        galaxy_blocks=galaxy_blocks,
        campaigns=matched.keys["dataset_name"],
        slices=slicings(dataset, matched.keys, matched.votes, slices or (), Path(table) if table else None),
    )
    scores["n_trained_on"] = int(matched.is_seen.sum())
    scores["calibration"] = calibration_of(matched.votes, read, galaxy_blocks)
    if report is not None:
        from gzoo.reports.score import write_report

        write_report(
            Path(report),
            folder=Path(folder),
            predictions=path,
            columns=columns,
            scores=scores,
            title=f"{dataset.campaign.title}: scores",
            facts={"Predictions": path.name, "Galaxies": f"{len(read):,}"},
            overwrite=overwrite,
        )
    return scores


def refuse_both(given: Mapping[str, object]) -> None:
    """Check that of some options no more than one is given.

    Args:
        given: Option -> what was given for it; what is empty was not given.

    Raises:
        InputError: Two are.
    """
    both = [name for name, value in given.items() if value]
    if len(both) > 1:
        raise InputError(
            f"{both[0]} and {both[1]} are both given.", "One: they are scores of different things.", "Ask apart."
        )


def training_baseline(dataset: Dataset) -> FloatArray:
    """What knows only how often each answer was given in the train split: concentrations, shape (answer,).

    Raises:
        NotFoundError: There is no train split.
    """
    if "train" not in dataset.splits:
        raise NotFoundError(
            f"{dataset.folder} has no train split.", "One to fit the baseline on.", "Score against the whole dataset."
        )
    return fit_baseline(dataset.read_votes("train")[1])


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
    """Scores of predictions against votes, with 95 % intervals (see `gzoo.scoring.intervals`).

    Args:
        votes: Of galaxies that the model has not seen.
        predictions: In the same order; or concentrations of all questions, shape (galaxy, answer).
        baseline: Concentrations of the baseline, shape (answer,) or (galaxy, answer).
        galaxy_blocks: What intervals draw; by default galaxies.
        campaigns: `dataset_name` of each galaxy.
        slices: How galaxies are cut into slices.
        seed: Of the draws.
    """
    tree, n = votes.tree, len(votes)
    believed = _Believed.of(predictions, tree)
    each = galaxy_blocks or blocks(n)
    total = _Columns.empty(n)
    questions: dict[str, QuestionScore] = {}
    fractions = np.zeros((2, n))  # of each galaxy in the balanced skill and error
    weights = np.zeros(2)
    balanced = np.zeros(2)
    n_balanced = 0
    for i, question in enumerate(tree.questions):
        if question.name not in believed.questions:
            continue
        rows = np.flatnonzero(votes.totals[:, i] > 0)
        found, answers = _of_question(votes, believed, baseline, i, rows)
        own = _take(each, rows)
        questions[question.name] = QuestionScore(
            **_score(found, own, seed), answers=_of_answers(question, answers, found.cells, own, seed)
        )
        total.add(rows, found)
        if len(rows) >= MIN_BALANCED:
            n_balanced += 1
            weight = np.sqrt(len(rows))
            for k, (x, w) in enumerate(
                ((found.model - found.base, found.asked), (found.error - found.noise, found.cells))
            ):
                if w.sum() and np.isfinite(x).all():
                    mean = x.sum() / w.sum()
                    weights[k] += weight
                    balanced[k] += weight * mean
                    fractions[k, rows] += weight * (x - mean * w) / w.sum()
    names = [] if campaigns is None else campaigns.unique().sort().to_list()
    parts = {name: np.flatnonzero((campaigns == name).to_numpy()) for name in names} if len(names) > 1 else {}
    scored = [
        SliceScore(
            column=slicing.column,
            range=one,
            n_galaxies=len(rows),
            score=_score(total.take(rows), _take(each, rows), seed),
        )
        for slicing in slices
        for one, rows in slicing.parts()
    ]
    log_likelihood_gain, error = (_mean(balanced[k], fractions[k], weights[k], each, seed) for k in (0, 1))
    return Scores(
        n_galaxies=n,
        n_trained_on=0,
        drawn=Drawn(kind=each.kind, n=each.n_blocks, cell_arcmin=each.cell_arcmin),
        overall=_score(total, each, seed),
        balanced=Balanced(
            log_likelihood_gain=log_likelihood_gain,
            mse_noise_corrected=error,
            rmse_noise_corrected=_root(error),
            n_questions=n_balanced,
        ),
        campaigns={name: _score(total.take(rows), _take(each, rows), seed) for name, rows in parts.items()},
        questions=questions,
        slices=sorted(scored, key=_by_error, reverse=True),
        questions_missing=[one.name for one in tree.questions if one.name not in believed.questions],
        calibration=None,
    )


def _by_error(one: SliceScore) -> float:
    value = one["score"]["mse_noise_corrected"]["value"]
    return -1.0 if value is None else value


def _take(each: Blocks, rows: IntArray) -> Blocks:
    """Blocks of some galaxies; the number of cells need not shrink with them, for empty ones take no part."""
    if each.kind == "galaxies":
        return Blocks(np.arange(len(rows)), len(rows), "galaxies")
    return Blocks(each.labels[rows], each.n_blocks, each.kind)


# ----------------------------------------------------------------------------------------------------
# Galaxy by galaxy


@dataclass(frozen=True, slots=True)
class _Believed:
    """Predictions, whatever they were given as."""

    values: FloatArray  # (member, galaxy, answer)
    is_fraction: bool
    questions: frozenset[str]

    @classmethod
    def of(cls, given: Predictions | FloatArray, tree: Tree) -> _Believed:
        if isinstance(given, Predictions):
            return cls(given.values, given.kind == "fractions", frozenset(given.questions))
        values = np.asarray(given, np.float64)
        return cls(values if values.ndim == 3 else values[None], False, frozenset(one.name for one in tree.questions))

    def nll(
        self, rows: IntArray, where: slice, counts: IntArray, volunteers: IntArray, question: Question
    ) -> FloatArray:
        cost = fraction_nll if self.is_fraction else question_nll
        each = [cost(counts, volunteers, one[rows, where], is_multiple=question.multiple) for one in self.values]
        return mixed(each)

    def fractions(self, rows: IntArray, where: slice, question: Question) -> FloatArray:
        """Expected fractions of one question, shape (galaxy, answer)."""
        parts = (
            one[rows, where] if self.is_fraction else _fractions(one[rows, where], question) for one in self.values
        )
        return sum(parts) / len(self.values)  # pyright: ignore[reportReturnType]


def _fractions(alpha: FloatArray, question: Question) -> FloatArray:
    return alpha / (1 + alpha if question.multiple else alpha.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True)
class _Columns:
    """What scores are sums of, each of shape (galaxy,)."""

    asked: FloatArray  # 1 where it was asked
    votes: FloatArray
    model: FloatArray  # log score
    base: FloatArray
    coefficient: FloatArray
    brier: FloatArray
    brier_base: FloatArray
    cells: FloatArray  # answers with at least 2 votes on their question
    error: FloatArray  # squared differences, summed over the cells
    noise: FloatArray
    absolute: FloatArray
    floor: FloatArray

    @classmethod
    def empty(cls, n: int) -> _Columns:
        return cls(*(np.zeros(n) for _ in fields(cls)))

    def add(self, rows: IntArray, other: _Columns) -> None:
        """Add those of some galaxies."""
        for one in fields(self):
            if one.name != "asked":
                getattr(self, one.name)[rows] += getattr(other, one.name)
        self.asked[rows] = 1

    def take(self, rows: IntArray) -> _Columns:
        """Those of some galaxies."""
        return _Columns(*(getattr(self, one.name)[rows] for one in fields(self)))


@dataclass(frozen=True, slots=True)
class _Cells:
    """Differences of fractions, shape (galaxy, answer); 0 where fewer than 2 voted."""

    error: FloatArray
    noise: FloatArray
    absolute: FloatArray
    floor: FloatArray
    bias: FloatArray


def _of_question(
    votes: Votes, believed: _Believed, baseline: FloatArray, i: int, rows: IntArray
) -> tuple[_Columns, _Cells]:
    """What the scores of a question are sums of, over the galaxies that were asked it."""
    question = votes.tree.questions[i]
    where = votes.tree.slice(question.name)
    counts, volunteers = votes.counts[rows, where], votes.totals[rows, i]
    expected = believed.fractions(rows, where, question)
    voted = counts / np.maximum(volunteers, 1)[:, None]
    enough = (volunteers >= 2).astype(np.float64)[:, None]
    off = (expected - voted) * enough
    cells = _Cells(
        error=off**2,
        noise=enough * voted * (1 - voted) / np.maximum(volunteers - 1, 1)[:, None],
        absolute=np.abs(off),
        floor=enough * binomial_deviation(volunteers[:, None], expected),
        bias=off,
    )
    known = baseline[where] if baseline.ndim == 1 else baseline[rows, where]
    base = np.broadcast_to(_fractions(known, question), expected.shape)
    found = _Columns(
        asked=np.ones(len(rows)),
        votes=volunteers.astype(np.float64),
        model=-believed.nll(rows, where, counts, volunteers, question),
        base=-question_nll(counts, volunteers, known, is_multiple=question.multiple),
        coefficient=question_log_coefficient(counts, volunteers, is_multiple=question.multiple),
        brier=_brier(expected, voted, question),
        brier_base=_brier(base, voted, question),
        cells=enough[:, 0] * len(question.columns),
        error=cells.error.sum(axis=1),
        noise=cells.noise.sum(axis=1),
        absolute=cells.absolute.sum(axis=1),
        floor=cells.floor.sum(axis=1),
    )
    return found, cells


def _brier(expected: FloatArray, voted: FloatArray, question: Question) -> FloatArray:
    """Mean over the people asked of the squared distance of the expected fractions from one person's answer."""
    ones = voted.sum(axis=1) if question.multiple else 1.0
    return (expected**2).sum(axis=1) - 2 * (expected * voted).sum(axis=1) + ones


def binomial_deviation(volunteers: IntArray, fraction: FloatArray) -> FloatArray:
    """Mean absolute difference of a voted fraction from the true one (De Moivre 1730), shape as the arguments'.

    Args:
        volunteers: Who answer, at least 1.
        fraction: The true fraction.

    >>> binomial_deviation(np.array([1, 2]), np.array([0.5, 0.5]))
    array([0.5 , 0.25])
    """
    n, p = np.broadcast_arrays(volunteers, np.clip(fraction, 0.0, 1.0))
    mode = np.minimum(np.floor(n * p).astype(np.int64), n - 1) + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        log = log_factorial(n) - log_factorial(mode) - log_factorial(n - mode)
        log = log + mode * np.log(p) + (n - mode + 1) * np.log1p(-p)
    return np.where((p <= 0) | (p >= 1), 0.0, 2 * mode / n * np.exp(log))


# ----------------------------------------------------------------------------------------------------
# Sums to scores


def _score(columns: _Columns, each: Blocks, seed: int) -> Score:
    is_possible = np.isfinite(columns.model)
    n_zero_probability = int((~is_possible).sum())
    model = np.where(is_possible, columns.model, 0.0)
    asked, votes = columns.asked, columns.votes
    names = ("log_likelihood", "per_vote", "coefficient", "base", "log_likelihood_gain", "brier", "brier_gain")
    over = (model, model, columns.coefficient, columns.base, model - columns.base, columns.brier,
            columns.brier_base - columns.brier)  # fmt: skip
    under = (asked, votes, asked, asked, asked, asked, asked)
    found = ratio(np.column_stack(over), np.column_stack(under), each, seed=seed)
    value = {name: found.of(i) for i, name in enumerate(names)}
    n_effective = found.n_effective[names.index("brier" if n_zero_probability else "log_likelihood")]
    if n_zero_probability:
        value |= dict.fromkeys(("log_likelihood", "per_vote", "log_likelihood_gain"), _NOTHING)
    return Score(
        **_errors(columns.error, columns.noise, columns.absolute, columns.floor, columns.cells, each, seed),
        log_likelihood=value["log_likelihood"],
        log_likelihood_per_vote=value["per_vote"],
        log_coefficient=value["coefficient"],
        baseline_log_likelihood=value["base"],
        log_likelihood_gain=value["log_likelihood_gain"],
        brier=value["brier"],
        brier_gain=value["brier_gain"],
        n_asked=int(asked.sum()),
        n_votes=int(votes.sum()),
        n_effective=float(n_effective) if np.isfinite(n_effective) else None,
        n_zero_probability=n_zero_probability,
    )


_NOTHING = Value(value=None, low=None, high=None)


def _errors(
    error: FloatArray,
    noise: FloatArray,
    absolute: FloatArray,
    floor: FloatArray,
    cells: FloatArray,
    each: Blocks,
    seed: int,
) -> Errors:
    """Errors from what they are sums of, each of shape (galaxy,)."""
    found = ratio(np.column_stack([error, noise, error - noise, absolute, floor]), cells[:, None], each, seed=seed)
    mse, of_noise, corrected, mae, mae_floor = (found.of(i) for i in range(5))
    return Errors(
        rmse=_root(mse),
        noise_floor=_root(of_noise),
        mse_noise_corrected=corrected,
        rmse_noise_corrected=_root(corrected),
        mae=mae,
        mae_floor=mae_floor,
        mae_noise_corrected=_mae_corrected(absolute, floor, cells, mae["value"], mae_floor["value"], each, seed),
        exceeds_noise=None if corrected["low"] is None else corrected["low"] > 0,
    )


def _mae_corrected(
    absolute: FloatArray,
    floor: FloatArray,
    cells: FloatArray,
    mae: float | None,
    mae_floor: float | None,
    each: Blocks,
    seed: int,
) -> Value:
    """Root of mad^2 - mae_floor^2; its interval from how galaxies bear on that difference, to first order."""
    if mae is None or mae_floor is None:
        return _NOTHING
    # the ratio of these sums is twice the difference, and leans on each galaxy as the difference does
    slope = ratio((2 * mae * absolute - 2 * mae_floor * floor)[:, None], cells[:, None], each, seed=seed).of(0)
    less = mae**2 - mae_floor**2
    return _root({end: None if one is None else one - less for end, one in slope.items()})  # type: ignore[arg-type]


def _of_answers(
    question: Question, found: _Cells, cells: FloatArray, each: Blocks, seed: int
) -> dict[str, AnswerScore]:
    enough = (cells > 0).astype(np.float64)
    bias = ratio(found.bias, enough[:, None], each, seed=seed)
    scores: dict[str, AnswerScore] = {}
    for i, column in enumerate(question.columns):
        own = (found.error[:, i], found.noise[:, i], found.absolute[:, i], found.floor[:, i])
        scores[column] = AnswerScore(**_errors(*own, enough, each, seed), bias=bias.of(i))
    return scores


def _mean(value: float, fractions: FloatArray, weight: float, each: Blocks, seed: int) -> Value:
    """A weighted mean over questions, with the interval that galaxies' shares in it give."""
    if not weight:
        return _NOTHING
    n = len(fractions)
    found = ratio((n * fractions / weight)[:, None], np.ones((n, 1)), each, seed=seed).of(0)
    middle = value / weight
    return Value(
        value=float(middle),
        low=None if found["low"] is None else float(middle + found["low"]),
        high=None if found["high"] is None else float(middle + found["high"]),
    )


def _root(square: Value) -> Value:
    """The root of a mean square and of the ends of its interval; below 0 it is 0."""
    ends = {end: None if one is None else float(np.sqrt(max(float(one), 0.0))) for end, one in square.items()}  # type: ignore[arg-type]
    return Value(value=ends["value"], low=ends["low"], high=ends["high"])
