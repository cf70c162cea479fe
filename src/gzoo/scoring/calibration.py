"""Calibration: whether observed vote counts follow their predictive distributions, for every question."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, TypedDict

import numpy as np
from scipy import stats
from scipy.special import kolmogorov

from gzoo.display import format_p
from gzoo.errors import InputError
from gzoo.scoring.bands import (
    CONFIDENCE,
    LEVELS,
    MIN_BLOCKS,
    Curve,
    covariance,
    coverage_curve,
    rounded,
    subset,
    t_quantile,
    wilson,
)
from gzoo.scoring.bias import AnswerBias, answer_biases
from gzoo.scoring.dispersion import Dispersion, dispersion, no_dispersion
from gzoo.scoring.intervals import Blocks, Value, as_value, holm
from gzoo.scoring.pit import QuestionPrediction, Ranks, answer_ranks, sequential_pit
from gzoo.scoring.predictions import Predictions
from gzoo.trees.tree import FloatArray, IntArray
from gzoo.votes.votes import Votes

N_BINS = 20  # of a histogram; half as many for few counts
FEW = 1000
N_GROUPS, GALAXIES_PER_GROUP = 10, 40  # of a reliability diagram
MAX_GALAXIES = 20_000  # per question; coverage is then known to 0.7 points, and a dispersion factor to 3%
MANY_RANKS = 5000  # the exact distribution is slow from here on, and its limit is equally good
FAMILYWISE_ERROR_RATE = 0.01  # probability that any question of a calibrated prediction gets an adverse verdict

MAX_SHIFT = 0.01  # p-value of a bias from which the dispersion is judged after removing it

Verdict = Literal["overconfident", "underconfident", "biased", "miscalibrated", "consistent", "insufficient data"]
Test = Literal["pit", "central", "highest_density", "dispersion", "bias"]
# Parts of the allowed error. Wrong concentrations are most common, and their test loses most by a stricter level.
TESTS: dict[Test, float] = {"dispersion": 0.8, "bias": 0.08, "pit": 0.04, "central": 0.04, "highest_density": 0.04}


class Histogram(TypedDict):
    """Histogram of the randomised PIT values of all answers, each given the answers before it.

    Where a question allows several answers, each answer is by itself.

    density: Density in equal bins from 0 to 1; 1 everywhere for a calibrated prediction.
    low, high: For a calibrated prediction, all bins together lie between these with a probability of 95%. The scatter
        between galaxies decides where values of one galaxy may depend on each other.
    n: Number of values.
    """

    density: list[float]
    low: float
    high: float
    n: int


class Group(TypedDict):
    """Galaxies with similar predicted vote fractions of an answer: the means of their predictions and votes."""

    predicted: float
    voted: float
    low: float
    high: float
    n_galaxies: int


class Reliability(TypedDict):
    """Reliability diagram: voted against predicted fractions of one answer.

    groups: Groups of galaxies, by predicted fraction.
    histogram: Number of galaxies in 20 equal bins of the predicted fraction.
    mse: Mean over groups of (voted - predicted)^2, including the sampling noise of votes and galaxies.
    mse_noise_corrected: The same with that noise removed without bias; it may be negative.
    """

    groups: list[Group]
    histogram: list[int]
    mse: float
    mse_noise_corrected: Value


class Tests(TypedDict):
    """P-values of the hypothesis that the prediction is calibrated; null without data.

    pit, central, highest_density: Kolmogorov-Smirnov tests, exact for any number of galaxies; for several answers,
        the smallest p-value times their number, which is valid however they depend on each other.
    dispersion: Likelihood ratio test, see `Dispersion`.
    bias: Test of the mean fraction of each answer, see `AnswerBias`; the smallest p-value times their number.
    """

    pit: float | None
    central: float | None
    highest_density: float | None
    dispersion: float | None
    bias: float | None


class QuestionCalibration(TypedDict):
    """Calibration of one question.

    n_galaxies: Galaxies with votes on it.
    n_used: How many of them were used: a random sample if there are very many.
    n_units: Galaxies or sky cells, the independent units of the intervals.
    verdict: One of the values of `Verdict`, at `familywise_error_rate` for all questions together.
    description: The verdict as a sentence, with the numbers behind it.
    tests_adjusted: P-values of `tests`, adjusted for all tests of all questions (Holm, with weights: four fifths of
        the allowed error for the dispersion).
    bias: Bias of each answer; of two answers only the first, because the other mirrors it.
    pit, central, highest_density: PIT histogram, and coverage of central and highest-density intervals; null without
        votes.
    reliability: Reliability diagram of each answer; of two answers only the first, because the other mirrors it.
    """

    n_galaxies: int
    n_used: int
    n_units: int
    verdict: Verdict
    description: str
    tests: Tests
    tests_adjusted: Tests
    pit: Histogram | None
    central: Curve | None
    highest_density: Curve | None
    reliability: dict[str, Reliability]
    dispersion: Dispersion
    bias: dict[str, AnswerBias]


class Calibration(TypedDict):
    """The calibration part of `gzoo score --json`.

    unit: What intervals and bands treat as independent: "galaxies" or "sky cells".
    seed: Seed of the randomised PIT.
    familywise_error_rate: See `QuestionCalibration`.
    """

    unit: str
    seed: int
    familywise_error_rate: float
    questions: dict[str, QuestionCalibration]


def calibration_of(votes: Votes, predictions: Predictions, blocks: Blocks, *, seed: int = 0) -> Calibration:
    """Return the calibration of predictions on every predicted question.

    Args:
        votes: Votes for held-out galaxies, in the order of the predictions.
        predictions: Concentrations (one Dirichlet per question or a mixture of them) or fractions.
        blocks: The independent units: galaxies or sky cells.
        seed: Seed of the randomised PIT, and of the sample of galaxies if there are very many.

    Raises:
        InputError: Votes, predictions and blocks contain different numbers of galaxies.
    """
    if not len(votes) == len(predictions) == len(blocks.labels):
        raise InputError(
            f"Numbers of galaxies differ: {len(votes)} in the votes, {len(predictions)} in the predictions, "
            f"{len(blocks.labels)} in the blocks.",
            "the same galaxies in the same order.",
        )
    tree = votes.tree
    found: dict[str, QuestionCalibration] = {}
    for i, question in enumerate(tree.questions):
        if question.name not in predictions.questions:
            continue
        rng = np.random.default_rng([seed, i])
        asked = np.flatnonzero(votes.totals[:, i] > 0)
        rows = asked if len(asked) <= MAX_GALAXIES else np.sort(rng.choice(asked, MAX_GALAXIES, replace=False))
        prediction = QuestionPrediction(
            predictions.of_question(i, rows), predictions.kind == "concentrations", question
        )
        one = question_calibration(
            votes.counts[rows, tree.slice(question.name)], votes.totals[rows, i], prediction, subset(blocks, rows), rng
        )
        one["n_galaxies"] = len(asked)
        found[question.name] = one
    _adjust(found.values())
    for one in found.values():
        one["verdict"] = _verdict(one)
        one["description"] = describe(one)
    return Calibration(unit=blocks.kind, seed=seed, familywise_error_rate=FAMILYWISE_ERROR_RATE, questions=found)


def question_calibration(
    counts: IntArray, volunteers: IntArray, prediction: QuestionPrediction, blocks: Blocks, rng: np.random.Generator
) -> QuestionCalibration:
    """Return the calibration of one question, without verdict and description.

    Args:
        counts: Vote counts of galaxies with votes on the question, shape (galaxy, answer).
        volunteers: Total votes, at least 1, shape (galaxy,).
        prediction: The prediction for these galaxies.
        blocks: The independent units.
        rng: Random generator for the randomised PIT.
    """
    n = len(volunteers)
    no_tests = Tests(pit=None, central=None, highest_density=None, dispersion=None, bias=None)
    result = QuestionCalibration(
        n_galaxies=n,
        n_used=n,
        n_units=blocks.n_blocks,
        verdict="insufficient data",
        description="",
        tests=no_tests,
        tests_adjusted=no_tests.copy(),
        pit=None,
        central=None,
        highest_density=None,
        reliability={},
        dispersion=no_dispersion(0, prediction.has_uncertainty),
        bias={},
    )
    if not n:
        return result
    ranks = answer_ranks(counts, volunteers, prediction, rng)
    sequence = sequential_pit(counts, volunteers, prediction, rng, ranks)
    result["pit"] = _histogram(sequence, blocks, is_dependent=prediction.question.multiple)
    result["central"] = coverage_curve(_central_level(ranks), blocks, rng)
    result["highest_density"] = coverage_curve(ranks.density, blocks, rng)
    fractions = prediction.fractions.mean(axis=0)
    result["reliability"] = {
        column: reliability(counts[:, j] / volunteers, fractions[:, j], blocks)
        for j, column in enumerate(prediction.question.columns[: 1 if prediction.is_mirrored else None])
    }
    result["bias"], result["dispersion"] = _moments(counts, volunteers, prediction, blocks)
    result["tests"] = _tests(ranks, sequence, result["bias"], result["dispersion"], prediction, blocks)
    return result


def question_tests(
    counts: IntArray, volunteers: IntArray, prediction: QuestionPrediction, blocks: Blocks, rng: np.random.Generator
) -> Tests:
    """Return the tests of `question_calibration` without computing its curves."""
    ranks = answer_ranks(counts, volunteers, prediction, rng)
    sequence = sequential_pit(counts, volunteers, prediction, rng, ranks)
    return _tests(ranks, sequence, *_moments(counts, volunteers, prediction, blocks), prediction, blocks)


def _moments(
    counts: IntArray, volunteers: IntArray, prediction: QuestionPrediction, blocks: Blocks
) -> tuple[dict[str, AnswerBias], Dispersion]:
    """Return the bias of each answer, and the dispersion: around the predicted fractions, or the unbiased ones."""
    biases = answer_biases(counts, volunteers, prediction, blocks)
    p = _bias_p(biases)
    return biases, dispersion(counts, volunteers, prediction, blocks, is_biased=p is not None and p <= MAX_SHIFT)


def _bias_p(biases: dict[str, AnswerBias]) -> float | None:
    known = [p for one in biases.values() if (p := one["p_value"]) is not None]
    return min(1.0, len(known) * min(known)) if known else None


def _tests(
    ranks: Ranks,
    sequence: FloatArray,
    biases: dict[str, AnswerBias],
    found: Dispersion,
    prediction: QuestionPrediction,
    blocks: Blocks,
) -> Tests:
    n_answers = ranks.pit.shape[1]
    return Tests(
        pit=_uniformity_p(sequence, blocks, n_answers if prediction.question.multiple else 1),
        central=_uniformity_p(_central_level(ranks), blocks, n_answers),
        highest_density=_uniformity_p(ranks.density, blocks, n_answers),
        dispersion=found["p_value"],
        bias=_bias_p(biases),
    )


def _central_level(ranks: Ranks) -> FloatArray:
    """Return the level of the smallest central interval that contains each count."""
    return np.abs(2 * ranks.pit - 1)


# ----------------------------------------------------------------------------------------------------
# Histogram and tests of the PIT


def _histogram(values: FloatArray, blocks: Blocks, *, is_dependent: bool) -> Histogram | None:
    known = np.isfinite(values)
    n = int(known.sum())
    if not n:
        return None
    n_bins = N_BINS if n >= FEW else N_BINS // 2
    bins = np.where(known, np.minimum(np.nan_to_num(values) * n_bins, n_bins - 1), -1).astype(np.int64)
    density = np.bincount(bins[known], minlength=n_bins) / n * n_bins
    inflation = 1.0
    if blocks.kind == "sky cells" or is_dependent:
        expected = known.sum(axis=1) / n_bins
        deviations = np.column_stack([(bins == b).sum(axis=1) - expected for b in range(n_bins)])
        together, inflation = covariance(deviations, blocks)
        if is_dependent:  # relative to independent values, not to independent galaxies
            variance = float(np.diag(together).mean()) * len(values) ** 2
            inflation = max(1.0, variance / (n * (1 - 1 / n_bins) / n_bins))
    tail = (1 - CONFIDENCE) / 2 / n_bins
    cases = max(1, round(n / inflation))
    low, high = (float(end) / cases * n_bins for end in stats.binom.ppf([tail, 1 - tail], cases, 1 / n_bins))
    return Histogram(density=rounded(density), low=low, high=high, n=n)


def _uniformity_p(values: FloatArray, blocks: Blocks, n_tests: int) -> float | None:
    """Return the p-value of the Kolmogorov-Smirnov test of a uniform distribution.

    Args:
        values: Shape (galaxy, answer), independent within each column; NaN are ignored.
        blocks: The independent units. Sky cells reduce the number of values to an effective number.
        n_tests: 1 if all values are independent, else the number of columns. Columns are then tested separately; the
            smallest p-value times their number is valid for any dependence between them.
    """
    columns = [values[np.isfinite(values)]] if n_tests == 1 else list(values.T)
    if not columns[0].size:
        return None
    inflation = 1.0
    if blocks.kind == "sky cells":
        within = [
            np.nan_to_num((values <= level) - level * np.isfinite(values)).sum(axis=1) for level in LEVELS.tolist()
        ]
        inflation = covariance(np.column_stack(within), blocks)[1]
    return min(1.0, n_tests * min(_kolmogorov_smirnov(column, inflation) for column in columns))


def _kolmogorov_smirnov(values: FloatArray, inflation: float) -> float:
    n = len(values)
    ordered = np.sort(values)
    steps = np.arange(1, n + 1) / n
    distance = float(max((steps - ordered).max(), (ordered - steps).max() + 1 / n))
    cases = max(1, round(n / inflation))
    if cases < MANY_RANKS:
        return float(stats.kstwo.sf(distance, cases))
    return float(kolmogorov(distance * math.sqrt(cases) + 1 / (6 * math.sqrt(cases))))  # accurate to 1 / cases


# ----------------------------------------------------------------------------------------------------
# Reliability of fractions


def reliability(voted: FloatArray, predicted: FloatArray, blocks: Blocks) -> Reliability:
    """Return voted against predicted fractions of one answer, in groups of similar predictions.

    The mean of voted fractions is unbiased for any number of votes. Squared deviations are not; they are corrected
    by the scatter within each group, which includes the sampling noise of the votes.

    Args:
        voted: Voted fractions, shape (galaxy,).
        predicted: Predicted vote fractions, same shape.
        blocks: The independent units.
    """
    n = len(voted)
    n_groups = max(1, min(N_GROUPS, n // GALAXIES_PER_GROUP))
    groups: list[Group] = []
    plain = corrected = variance = 0.0
    for rows in np.array_split(np.argsort(predicted, kind="stable"), n_groups):
        difference = voted[rows] - predicted[rows]
        offset = float(difference.mean())
        own = subset(blocks, rows)
        error2 = float(covariance((difference - offset)[:, None], own)[0][0, 0])
        factor = t_quantile(max(own.n_blocks - 1, 1))
        mean = float(voted[rows].mean())
        low, high = wilson(np.array([mean]), np.array([math.sqrt(error2)]), factor, own.n_blocks)
        groups.append(
            Group(
                predicted=round(float(predicted[rows].mean()), 6),
                voted=round(mean, 6),
                low=round(float(low[0]), 6),
                high=round(float(high[0]), 6),
                n_galaxies=len(rows),
            )
        )
        weight = len(rows) / n
        plain += weight * offset**2
        corrected += weight * (offset**2 - error2)
        variance += weight**2 * (4 * max(offset**2 - error2, 0.0) * error2 + 2 * error2**2)
    half = t_quantile(max(blocks.n_blocks - 1, 1)) * math.sqrt(variance)
    ends = [max(0.0, corrected + sign * half) if blocks.n_blocks >= MIN_BLOCKS else None for sign in (-1, 1)]
    return Reliability(
        groups=groups,
        histogram=np.histogram(predicted, bins=20, range=(0.0, 1.0))[0].tolist(),
        mse=plain,
        mse_noise_corrected=as_value(corrected, *ends),
    )


# ----------------------------------------------------------------------------------------------------
# Verdicts and descriptions


def _adjust(questions: Collection[QuestionCalibration]) -> None:
    known: list[tuple[QuestionCalibration, Test, float]] = [
        (one, test, p) for one in questions for test in TESTS if (p := one["tests"][test]) is not None
    ]
    weights = [TESTS[test] for _, test, _ in known]
    all_adjusted = holm([p for _, _, p in known], weights).tolist()
    for (one, test, _), adjusted in zip(known, all_adjusted, strict=True):
        one["tests_adjusted"][test] = adjusted


def _is_rejected(one: QuestionCalibration, test: Test) -> bool:
    p = one["tests_adjusted"][test]
    return p is not None and p <= FAMILYWISE_ERROR_RATE


def _verdict(one: QuestionCalibration) -> Verdict:
    if _is_rejected(one, "dispersion"):
        factor = one["dispersion"]["dispersion_factor"]["value"]
        is_overconfident = not one["dispersion"]["has_uncertainty"] or (factor is not None and factor < 1)
        return "overconfident" if is_overconfident else "underconfident"
    if _is_rejected(one, "bias"):
        return "biased"
    if any(_is_rejected(one, test) for test in TESTS):
        return "miscalibrated"
    return "consistent" if one["dispersion"]["n_galaxies"] else "insufficient data"


def describe(one: QuestionCalibration) -> str:
    """Return the verdict of a question as sentences, with the numbers behind it."""
    found, verdict = one["dispersion"], one["verdict"]
    if one["central"] is None:
        return "No votes."
    coverage = one["central"]["coverage"][one["central"]["levels"].index(0.9)]
    covered = f"90% prediction intervals cover {coverage:.1%} of counts."
    bias = f"Biased: {_largest_bias(one['bias'])}."
    if not found["n_galaxies"]:
        return {
            "biased": f"{bias} Single votes do not constrain dispersion.",
            "miscalibrated": "Miscalibrated: votes differ from the predicted vote fractions. Single votes do not "
            "constrain dispersion.",
        }.get(
            verdict,
            "Insufficient data: every galaxy has only one vote, which does not constrain dispersion. The votes are "
            "consistent with the predicted vote fractions.",
        )
    is_certain = not found["has_uncertainty"]
    numbers = f"concentration {_interval(found['concentration'])}" if is_certain else _factor_of(found)
    point = "point predictions carry no uncertainty, and the votes "
    said = {
        "overconfident": f"Overconfident: {point if is_certain else 'votes '}are overdispersed ({numbers}).",
        "underconfident": f"Underconfident: votes are underdispersed ({numbers}).",
        "biased": f"{bias} Around the unbiased fractions, votes do not clearly vary more or less than predicted "
        f"({numbers}).",
        "miscalibrated": "Miscalibrated: votes do not follow the predictive distributions, without a clear bias of an "
        f"answer, over- or underdispersion ({numbers}).",
    }.get(verdict)
    if said is None:
        said = f"Consistent: {point}require none." if is_certain else _consistent(found["dispersion_factor"], numbers)
        if p := _alone(one):
            said += f" In isolation, one answer looks biased: {_largest_bias(one['bias'])} (p = {format_p(p)})."
    elif verdict in ("overconfident", "underconfident") and _is_rejected(one, "bias"):
        said += f" {bias}"
    return f"{said} {covered}"


def _consistent(factor: Value, numbers: str) -> str:
    low, high = factor["low"], factor["high"]
    if (high is not None and high < 1) or (low is not None and low > 1):
        way = "over" if high is not None and high < 1 else "under"
        return f"Consistent after adjustment for all tests; in isolation, votes look {way}dispersed ({numbers})."
    if low is None or high is None or high > 4 * low:
        return f"Consistent, but the votes hardly constrain the dispersion ({numbers})."
    return f"Consistent: votes vary as predicted ({numbers})."


def _alone(one: QuestionCalibration) -> float | None:
    """Return the p-value of the bias if it is below 1% before the adjustment."""
    p = one["tests"]["bias"]
    return p if p is not None and p < FAMILYWISE_ERROR_RATE else None


def _factor_of(found: Dispersion) -> str:
    return f"dispersion factor {_interval(found['dispersion_factor'])}"


def _largest_bias(biases: dict[str, AnswerBias]) -> str:
    """Return the clearest bias: "predicted minus voted fraction of x_a is +0.040, 95% CI +0.037 to +0.043"."""
    column, one = min(biases.items(), key=lambda item: (item[1]["p_value"] or 0.0, -abs(item[1]["value"])))
    ends = "" if one["low"] is None or one["high"] is None else f", 95% CI {one['low']:+.3f} to {one['high']:+.3f}"
    numbers = f"{one['value']:+.3f}{ends}".replace("-", "\N{MINUS SIGN}")
    return f"predicted minus voted fraction of {column} is {numbers}"


def _interval(value: Value) -> str:
    """Return a factor with its interval: "0.62, 95% CI 0.45 to 0.86"."""
    number = "arbitrarily large" if value["value"] is None else format_factor(value["value"])
    low, high = (None if end is None else format_factor(end) for end in (value["low"], value["high"]))
    if low is None:
        return f"{number}, no CI" if high is None else f"{number}, 95% CI up to {high}"
    return f"{number}, 95% CI from {low}" if high is None else f"{number}, 95% CI {low} to {high}"


def format_factor(number: float) -> str:
    """Return a factor or a concentration with two decimals, or none from 10 on."""
    return f"{number:.2f}" if number < 10 else f"{number:,.0f}"
