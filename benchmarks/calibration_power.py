"""Does calibration pass what holds, and catch what does not?

Concentrations are drawn, probabilities from them, votes from those; the concentrations themselves are the predictions.

False calls: all questions of all campaigns at once, with 1, 1 to 5, or 2 to 40 votes a galaxy, 30 to 400 galaxies. A
repetition fails if anything is said against any question (randomised PIT, central and highest-density coverage, or
dispersion), corrected for all of them at a family-wise 1 %.

Power: the stated concentrations are half or double the true ones. Beside the dispersion's own test stands the best
test there can be: the likelihood ratio of just these two hypotheses, which knows by which factor the concentrations
are off. It is two tests with half the level each for the two directions, as gzoo looks both ways; and, beyond what any
test that looks both ways can reach, one with the whole level.

    python benchmarks/calibration_power.py [--repetitions 250] [--power 1000]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import stats

from gzoo.scoring.calibration import FAMILYWISE_ERROR_RATE, TESTS, question_tests
from gzoo.scoring.dispersion import dispersion
from gzoo.scoring.intervals import Blocks, holm
from gzoo.scoring.likelihood import question_nll
from gzoo.scoring.pit import QuestionPrediction, draw_counts
from gzoo.trees.campaign import campaigns
from gzoo.trees.tree import FloatArray, IntArray, Question

RESULTS = Path(__file__).parent / "results" / "calibration_power.json"
LEVEL = 0.01
VOTES = ((1, 1), (1, 5), (2, 40))  # least and most votes a galaxy
SEEDS = (0, 1, 2, 3)
POWERS = (0.5, 0.7, 0.9)  # that the best test is to have, with the number of galaxies chosen for it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=250, help="of each seed")
    parser.add_argument("--power", type=int, default=2500, help="repetitions of each case")
    options = parser.parse_args()
    started = time.perf_counter()
    questions = list({question.name: question for one in campaigns() for question in one.tree.questions}.values())
    cases: list[dict[str, object]] = []
    calls: list[dict[str, object]] = []
    result: dict[str, object] = {
        "n_questions": len(questions),
        "familywise_error_rate": FAMILYWISE_ERROR_RATE,
        "level_of_power": LEVEL,
        "one_vote_a_galaxy": one_vote(),
        "false_calls": calls,
        "power": cases,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("numpy", "scipy")},
    }

    def keep() -> None:
        result["seconds"] = round(time.perf_counter() - started)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")

    for votes, n_answers, factor, wanted in itertools.product((2, 3, 5, 10, 20, 40), (2, 5), (0.5, 2.0), POWERS):
        cases.append(power(votes, n_answers, factor, wanted, options.power))
        keep()
    for name in ("ratio", "ratio_to_whole_level"):
        result[f"least_{name}"] = min(float(str(case[name])) for case in cases)
        print(f"least {name.replace('_', ' ')}: {result[f'least_{name}']}")
    for seed in SEEDS:
        calls.append(false_calls(questions, options.repetitions, seed))
        print(calls[-1], flush=True)
        keep()


def drawn(
    question: Question, n: int, votes: tuple[int, int], rng: np.random.Generator, factor: float = 1.0
) -> tuple[IntArray, IntArray, QuestionPrediction]:
    """Votes, people asked, and the prediction that they came from, but for the factor."""
    volunteers = rng.integers(votes[0], votes[1] + 1, n)
    alpha = np.exp(rng.normal(0.5, 1.2, (1, n, len(question.columns))))
    truth, stated = QuestionPrediction(alpha * factor, True, question), QuestionPrediction(alpha, True, question)
    return draw_counts(volunteers, truth, rng), volunteers, stated


def false_calls(questions: list[Question], repetitions: int, seed: int) -> dict[str, object]:
    n_failed = 0
    each: dict[str, int] = dict.fromkeys(TESTS, 0)
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, repetition])
        p_values: list[tuple[str, float]] = []
        for i, question in enumerate(questions):
            n = int(rng.integers(30, 400))
            counts, volunteers, prediction = drawn(question, n, VOTES[(i + repetition) % len(VOTES)], rng)
            tests = question_tests(counts, volunteers, prediction, Blocks(np.arange(n), n, "galaxies"), rng)
            p_values += [(str(test), p) for test in TESTS if (p := tests[test]) is not None]
        adjusted = holm([p for _, p in p_values])
        wrong = {test for (test, _), p in zip(p_values, adjusted, strict=True) if p <= FAMILYWISE_ERROR_RATE}
        n_failed += bool(wrong)
        for test in wrong:
            each[test] += 1
    low, high = stats.binomtest(n_failed, repetitions).proportion_ci(0.95)
    return {
        "seed": seed,
        "repetitions": repetitions,
        "failed": n_failed,
        "fraction": n_failed / repetitions,
        "interval": [round(float(low), 4), round(float(high), 4)],
        "by_test": each,
    }


def power(votes: int, n_answers: int, factor: float, wanted: float, repetitions: int) -> dict[str, object]:
    """How often a wrong factor is found, and how often the best test finds it."""
    names = tuple(f"answer-{i}" for i in range(n_answers))
    question = Question("question", names, names)
    rng = np.random.default_rng([votes, n_answers, round(10 * factor), round(10 * wanted)])

    def gains(n: int, true_factor: float) -> FloatArray:
        """Log likelihood ratio of each galaxy, of the factor over none."""
        counts, volunteers, prediction = drawn(question, n, (votes, votes), rng, true_factor)
        return question_nll(counts, volunteers, prediction.values[0]) - question_nll(
            counts, volunteers, factor * prediction.values[0]
        )

    held, off = gains(200_000, 1.0), gains(200_000, factor)
    shift = (off.mean() - held.mean()) / ((held.std() + off.std()) / 2)
    n = max(20, round(float((stats.norm.ppf(1 - LEVEL) + stats.norm.ppf(wanted)) / shift) ** 2))
    n_null = 4000
    sums = np.array([gains(n, 1.0).sum() for _ in range(n_null)])
    found, best = np.zeros(repetitions, bool), np.zeros(repetitions)
    for i in range(repetitions):
        counts, volunteers, prediction = drawn(question, n, (votes, votes), rng, factor)
        own = dispersion(counts, volunteers, prediction, Blocks(np.arange(n), n, "galaxies"))
        p, value = own["p_value"], own["dispersion_factor"]["value"]
        right_way = (value is None or value > 1) == (factor > 1)
        found[i] = p is not None and p <= LEVEL and right_way
        alpha = prediction.values[0]
        best[i] = (question_nll(counts, volunteers, alpha) - question_nll(counts, volunteers, factor * alpha)).sum()
    halved = float((best > np.quantile(sums, 1 - LEVEL / 2)).mean())
    whole = float((best > np.quantile(sums, 1 - LEVEL)).mean())
    case: dict[str, object] = {
        "votes": votes,
        "answers": n_answers,
        "true_factor": factor,
        "galaxies": n,
        "found": float(found.mean()),
        "best": halved,
        "best_with_whole_level": whole,
        "ratio": round(float(found.mean()) / halved, 3),
        "ratio_to_whole_level": round(float(found.mean()) / whole, 3),
    }
    print(case, flush=True)
    return case


def one_vote() -> str:
    names = ("yes", "no")
    rng = np.random.default_rng(0)
    counts, volunteers, prediction = drawn(Question("question", names, names), 5000, (1, 1), rng, 0.5)
    own = dispersion(counts, volunteers, prediction, Blocks(np.arange(5000), 5000, "galaxies"))
    return "insufficient data" if own["p_value"] is None and own["dispersion_factor"]["value"] is None else "judged"


if __name__ == "__main__":
    main()
