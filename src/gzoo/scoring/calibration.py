"""Calibration: whether votes fall where predictions say, as often as they say, for every question."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, TypedDict

import numpy as np
from scipy import stats
from scipy.special import kolmogorov

from gzoo.errors import InputError
from gzoo.scoring.bands import (
    CONFIDENCE,
    LEVELS,
    MIN_BLOCKS,
    Curve,
    covariance,
    coverage_curve,
    rounded,
    t_quantile,
    wilson,
)
from gzoo.scoring.dispersion import Dispersion, dispersion, no_dispersion
from gzoo.scoring.intervals import Blocks, Value, holm
from gzoo.scoring.pit import Belief, Places, answer_places, sequential_pit
from gzoo.scoring.predictions import Predictions
from gzoo.trees.tree import FloatArray, IntArray
from gzoo.votes.votes import Votes

N_BINS = 20  # of a histogram; half of it where there are few counts
FEW = 1000
N_GROUPS, GALAXIES_PER_GROUP = 10, 40  # of a reliability diagram
MAX_GALAXIES = 20_000  # of a question: coverage is then known to 0.7 points, and a factor to 3 %
MANY_PLACES = 5000  # from here on the exact distribution takes long, and its limit is as good
FAMILYWISE_ERROR_RATE = 0.01  # chance that anything at all is said against predictions that hold

Verdict = Literal["nothing against it", "too sure", "not sure enough", "off", "cannot be judged", "no votes"]


class Histogram(TypedDict):
    """Places of the counts in their predicted distributions (randomised PIT), one answer after the other.

    density: Of equal bins from 0 to 1; 1 everywhere where predictions hold.
    low, high: Where predictions hold, all bins together lie within with 95 %.
    n: Number of places.
    """

    density: list[float]
    low: float
    high: float
    n: int


class Group(TypedDict):
    """Galaxies with similar predicted shares of an answer: their mean prediction, and the mean of their votes."""

    predicted: float
    voted: float
    low: float
    high: float
    n_galaxies: int


class Reliability(TypedDict):
    """Voted against predicted shares of one answer.

    groups: By predicted share.
    spread: Number of galaxies in 20 equal bins of the predicted share.
    mse: Mean over groups of (voted - predicted)^2, with the noise of votes and of the choice of galaxies.
    mse_noise_corrected: The same with that noise taken off without bias; its sign is kept.
    """

    groups: list[Group]
    spread: list[int]
    mse: float
    mse_noise_corrected: Value


class Tests(TypedDict):
    """P values of "this prediction holds", each for one way in which it may not; null where there is nothing.

    pit, central, highest_density: Kolmogorov-Smirnov, exact for any number of galaxies. Of several answers the
        smallest, times their number.
    dispersion: As there.
    """

    pit: float | None
    central: float | None
    highest_density: float | None
    dispersion: float | None


class QuestionCalibration(TypedDict):
    """Calibration of one question.

    n_asked: Galaxies with votes on it.
    n_used: Of them, drawn at random where they are very many.
    n_blocks: Galaxies or sky cells, which intervals are over.
    verdict: In a word, at a chance of 1 % that any question is called wrong though all hold.
    sentence: In a sentence.
    tests_adjusted: Tests corrected for all tests of all questions (Holm).
    pit, central, highest_density: None without votes.
    reliability: By answer; of two answers only the first, as the other mirrors it.
    """

    n_asked: int
    n_used: int
    n_blocks: int
    verdict: Verdict
    sentence: str
    tests: Tests
    tests_adjusted: Tests
    pit: Histogram | None
    central: Curve | None
    highest_density: Curve | None
    reliability: dict[str, Reliability]
    dispersion: Dispersion


class Calibration(TypedDict):
    """The calibration part of `gzoo score --json`.

    blocks: What intervals and bands take as independent: "galaxies" or "sky cells".
    seed: Of the draws that make counts continuous.
    familywise_error_rate: See `verdict`.
    """

    blocks: str
    seed: int
    familywise_error_rate: float
    questions: dict[str, QuestionCalibration]


def calibration_of(votes: Votes, predictions: Predictions, blocks: Blocks, *, seed: int = 0) -> Calibration:
    """Calibration of predictions on every question that they answer.

    Args:
        votes: Of galaxies that the model has not seen, in the order of the predictions.
        predictions: Concentrations (one Dirichlet a question or a mixture of them) or fractions.
        blocks: What is independent of what.
        seed: Of the draws that make counts continuous, and of the choice of galaxies where they are very many.

    Raises:
        InputError: Votes, predictions and blocks are of different numbers of galaxies.
    """
    if not len(votes) == len(predictions) == len(blocks.labels):
        raise InputError(
            f"Votes of {len(votes)} galaxies, predictions of {len(predictions)}, blocks of {len(blocks.labels)}.",
            "The same galaxies in the same order.",
            "Match them first.",
        )
    tree = votes.tree
    place = {question.name: i for i, question in enumerate(tree.questions)}
    found: dict[str, QuestionCalibration] = {}
    for name in predictions.questions:
        i = place[name]
        rng = np.random.default_rng([seed, i])
        asked = np.flatnonzero(votes.totals[:, i] > 0)
        rows = asked if len(asked) <= MAX_GALAXIES else np.sort(rng.choice(asked, MAX_GALAXIES, replace=False))
        own = tree.slice(name)
        belief = Belief(predictions.values[:, rows, own], predictions.kind == "concentrations", tree.questions[i])
        labels = np.unique(blocks.labels[rows], return_inverse=True)[1]
        kept = Blocks(labels, int(labels.max()) + 1 if len(labels) else 0, blocks.kind)
        one = question_calibration(votes.counts[rows, own], votes.totals[rows, i], belief, kept, rng)
        one["n_asked"] = len(asked)
        found[name] = one
    _correct_for_many(found.values())
    for one in found.values():
        one["verdict"] = _verdict(one)
        one["sentence"] = _sentence(one)
    return Calibration(blocks=blocks.kind, seed=seed, familywise_error_rate=FAMILYWISE_ERROR_RATE, questions=found)


def question_calibration(
    counts: IntArray, volunteers: IntArray, belief: Belief, blocks: Blocks, rng: np.random.Generator
) -> QuestionCalibration:
    """Calibration of one question, of galaxies that were asked it; verdict and sentence are left open.

    Args:
        counts: Shape (galaxy, answer).
        volunteers: Asked, at least 1, shape (galaxy,).
        belief: What was predicted.
        blocks: What is independent of what.
        rng: For the draws that make counts continuous.
    """
    n = len(volunteers)
    nothing = Tests(pit=None, central=None, highest_density=None, dispersion=None)
    result = QuestionCalibration(
        n_asked=n,
        n_used=n,
        n_blocks=blocks.n_blocks,
        verdict="no votes",
        sentence="",
        tests=nothing,
        tests_adjusted=nothing.copy(),
        pit=None,
        central=None,
        highest_density=None,
        reliability={},
        dispersion=no_dispersion(0, belief.has_uncertainty),
    )
    if not n:
        return result
    places = answer_places(counts, volunteers, belief, rng)
    sequence = sequential_pit(counts, volunteers, belief, rng, first=places.pit[:, 0])
    result["pit"] = _histogram(sequence, blocks)
    result["central"] = coverage_curve(_centrality(places.pit), blocks, rng)
    result["highest_density"] = coverage_curve(places.density, blocks, rng)
    result["reliability"] = _reliability(counts, volunteers, belief, blocks)
    result["dispersion"] = dispersion(counts, volunteers, belief, blocks)
    result["tests"] = _tests(places, sequence, result["dispersion"], blocks)
    return result


def question_tests(
    counts: IntArray, volunteers: IntArray, belief: Belief, blocks: Blocks, rng: np.random.Generator
) -> Tests:
    """The tests of `question_calibration`, without its curves."""
    places = answer_places(counts, volunteers, belief, rng)
    sequence = sequential_pit(counts, volunteers, belief, rng, first=places.pit[:, 0])
    return _tests(places, sequence, dispersion(counts, volunteers, belief, blocks), blocks)


def _tests(places: Places, sequence: FloatArray, spread: Dispersion, blocks: Blocks) -> Tests:
    return Tests(
        pit=_uniform_p(sequence, blocks, 1),
        central=_uniform_p(_centrality(places.pit), blocks, places.pit.shape[1]),
        highest_density=_uniform_p(places.density, blocks, places.pit.shape[1]),
        dispersion=spread["p_value"],
    )


def _centrality(pit: FloatArray) -> FloatArray:
    """Level of the smallest central interval that holds a count."""
    return np.abs(2 * pit - 1)


# ----------------------------------------------------------------------------------------------------
# Curves and histograms


def _histogram(places: FloatArray, blocks: Blocks) -> Histogram | None:
    known = np.isfinite(places)
    n = int(known.sum())
    if not n:
        return None
    n_bins = N_BINS if n >= FEW else N_BINS // 2
    bins = np.where(known, np.minimum(np.nan_to_num(places) * n_bins, n_bins - 1), -1).astype(np.int64)
    density = np.bincount(bins[known], minlength=n_bins) / n * n_bins
    inflation = 1.0
    if blocks.kind == "sky cells":
        expected = known.sum(axis=1) / n_bins
        deviations = np.column_stack([(bins == b).sum(axis=1) - expected for b in range(n_bins)])
        inflation = covariance(deviations, blocks)[1]
    tail = (1 - CONFIDENCE) / 2 / n_bins
    cases = max(1, round(n / inflation))
    low, high = (float(end) / cases * n_bins for end in stats.binom.ppf([tail, 1 - tail], cases, 1 / n_bins))
    return Histogram(density=rounded(density), low=low, high=high, n=n)


def _uniform_p(places: FloatArray, blocks: Blocks, n_tests: int) -> float | None:
    """Chance that uniform places would lie further from uniform, by Kolmogorov and Smirnov.

    Args:
        places: Shape (galaxy, answer), independent in each column; NaN is left out.
        blocks: Sky cells lessen the number of places to that of as many independent ones.
        n_tests: 1 where all places are independent; or the number of columns, which are then tested one by one: the
            smallest p, times their number, is right however they hang together.
    """
    each = [places[np.isfinite(places)]] if n_tests == 1 else list(places.T)
    if not each[0].size:
        return None
    inflation = 1.0
    if blocks.kind == "sky cells":
        within = [
            np.nan_to_num((places <= level) - level * np.isfinite(places)).sum(axis=1) for level in LEVELS.tolist()
        ]
        inflation = covariance(np.column_stack(within), blocks)[1]
    return min(1.0, n_tests * min(_kolmogorov_smirnov(column, inflation) for column in each))


def _kolmogorov_smirnov(places: FloatArray, inflation: float) -> float:
    n = len(places)
    ordered = np.sort(places)
    steps = np.arange(1, n + 1) / n
    distance = float(max((steps - ordered).max(), (ordered - steps).max() + 1 / n))
    cases = max(1, round(n / inflation))
    if cases < MANY_PLACES:
        return float(stats.kstwo.sf(distance, cases))
    return float(kolmogorov(distance * math.sqrt(cases) + 1 / (6 * math.sqrt(cases))))  # off by 1 / cases at most


# ----------------------------------------------------------------------------------------------------
# Reliability of fractions


def _reliability(counts: IntArray, volunteers: IntArray, belief: Belief, blocks: Blocks) -> dict[str, Reliability]:
    fractions = belief.fractions.mean(axis=0)
    n_answers = 1 if belief.is_mirrored else counts.shape[1]
    return {
        belief.question.columns[j]: reliability(counts[:, j] / volunteers, fractions[:, j], blocks)
        for j in range(n_answers)
    }


def reliability(voted: FloatArray, predicted: FloatArray, blocks: Blocks) -> Reliability:
    """Voted against predicted shares of one answer, in groups of similar predictions.

    The mean of votes is right on average however few they are; squared deviations are not, and are corrected by the
    scatter within each group, which holds the noise of the votes.

    Args:
        voted: Shape (galaxy,).
        predicted: Same shape.
        blocks: What is independent of what.
    """
    n = len(voted)
    n_groups = max(1, min(N_GROUPS, n // GALAXIES_PER_GROUP))
    groups: list[Group] = []
    plain = corrected = variance = 0.0
    for rows in np.array_split(np.argsort(predicted, kind="stable"), n_groups):
        difference = voted[rows] - predicted[rows]
        offset = float(difference.mean())
        labels = np.unique(blocks.labels[rows], return_inverse=True)[1]
        own = Blocks(labels, int(labels.max()) + 1, blocks.kind)
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
    is_known = blocks.n_blocks >= MIN_BLOCKS
    return Reliability(
        groups=groups,
        spread=np.histogram(predicted, bins=20, range=(0.0, 1.0))[0].tolist(),
        mse=plain,
        mse_noise_corrected=Value(
            value=corrected,
            low=max(0.0, corrected - half) if is_known else None,
            high=max(0.0, corrected + half) if is_known else None,
        ),
    )


# ----------------------------------------------------------------------------------------------------
# In words


TESTS: tuple[Literal["pit", "central", "highest_density", "dispersion"], ...] = (
    "pit",
    "central",
    "highest_density",
    "dispersion",
)


def _correct_for_many(questions: Collection[QuestionCalibration]) -> None:
    made = [(one, test, one["tests"][test]) for one in questions for test in TESTS]
    known = [(one, test, p) for one, test, p in made if p is not None]
    for (one, test, _), adjusted in zip(known, holm([p for _, _, p in known]).tolist(), strict=True):
        one["tests_adjusted"][test] = adjusted


def _verdict(one: QuestionCalibration) -> Verdict:
    speaks = _speaking(one)
    if not one["n_used"]:
        return "no votes"
    if "dispersion" in speaks:
        value = one["dispersion"]["factor"]["value"]
        is_too_sure = not one["dispersion"]["has_uncertainty"] or (value is not None and value < 1)
        return "too sure" if is_too_sure else "not sure enough"
    if speaks:
        return "off"
    return "nothing against it" if one["dispersion"]["n_galaxies"] else "cannot be judged"


def _speaking(one: QuestionCalibration) -> list[str]:
    """Tests that speak against the prediction."""
    p_values = {test: one["tests_adjusted"][test] for test in TESTS}
    return [test for test, p in p_values.items() if p is not None and p <= FAMILYWISE_ERROR_RATE]


def _sentence(one: QuestionCalibration) -> str:
    """The verdict in plain words, with the numbers behind it."""
    found, verdict = one["dispersion"], one["verdict"]
    if one["central"] is None:
        return "No votes."
    nine = one["central"]["levels"].index(0.9)
    held = f"90% intervals hold {100 * one['central']['covered'][nine]:.1f}% of the counts"
    if not found["n_galaxies"]:
        fractions = "expected shares are off" if verdict == "off" else "nothing speaks against the expected shares"
        return f"Every galaxy has one vote on it, so concentration cannot be judged; {fractions}."
    if not found["has_uncertainty"]:
        scale = found["concentration"]
        numbers = f"as if their concentration were {_times(scale)} ({_between(scale)})"
        said = {
            "too sure": f"Too sure: shares are stated without doubt, and votes are spread {numbers}",
            "off": "Off: expected shares are wrong for many galaxies",
        }.get(verdict, "Nothing speaks against it: shares are stated without doubt, and the votes ask for none")
        return f"{said}; {held}."
    factor = found["factor"]
    numbers = f"concentration \N{MULTIPLICATION SIGN} {_times(factor)}, {_between(factor)}"
    low, high = factor["low"], factor["high"]
    if verdict == "nothing against it" and (low is None or high is None or high > 4 * low):
        return f"Nothing speaks against it, but votes are too few to judge concentration ({numbers})."
    if verdict == "nothing against it" and low is not None and high is not None and not low <= 1 <= high:
        way = "wider" if high < 1 else "narrower"
        return (
            f"Nothing speaks against it once all questions are counted, though alone it would: votes look spread {way} "
            f"than predicted ({numbers}); {held}."
        )
    said = {
        "too sure": "Too sure: votes are spread wider than predicted",
        "not sure enough": "Not sure enough: votes are spread narrower than predicted",
        "off": "Off: votes are not where they are expected, though not clearly wider or narrower",
    }.get(verdict, "Nothing speaks against it: votes are spread as predicted")
    return f"{said} ({numbers}); {held}."


def _times(value: Value) -> str:
    return "any large number" if value["value"] is None else _figure(value["value"])


def _between(value: Value) -> str:
    low, high = value["low"], value["high"]
    if low is None:
        return "no interval" if high is None else f"95%: at most {_figure(high)}"
    return f"95%: at least {_figure(low)}" if high is None else f"95%: {_figure(low)} to {_figure(high)}"


def _figure(number: float) -> str:
    return f"{number:.2f}" if number < 10 else f"{number:,.0f}"
