"""False positive rate and power of the calibration tests.

    python benchmarks/calibration_power.py [--repetitions 250] [--power 2500] [--quick]

Concentrations are drawn, then probabilities from them, then votes. The concentrations are the predictions.

- False positives: all questions of all campaigns are tested together, with 1, 1 to 5, or 2 to 40 votes per galaxy and
  30 to 400 galaxies. A repetition fails if any test of any question rejects (bias, randomised PIT, central coverage,
  highest-density coverage or dispersion), with p-values adjusted for all tests, at a family-wise error rate of 1%.
- Power: the predicted concentrations are half or double the true ones. The dispersion test is compared with the most
  powerful test, the likelihood ratio of these two hypotheses, which knows the factor. gzoo's test is two-sided, so the
  likelihood ratio has half the level for each direction. A one-sided likelihood ratio with the whole level is also
  given; no two-sided test can reach it.

Writes benchmarks/results/calibration_power.json.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
from measuring import arguments, save
from scipy import stats

from gzoo.scoring.calibration import FAMILYWISE_ERROR_RATE, TESTS, Test, question_tests
from gzoo.scoring.dispersion import dispersion
from gzoo.scoring.intervals import Blocks, holm
from gzoo.scoring.likelihood import question_nll
from gzoo.scoring.pit import QuestionPrediction, draw_counts
from gzoo.trees.campaign import campaigns
from gzoo.trees.tree import FloatArray, IntArray, Question

LEVEL = 0.01
VOTES = ((1, 1), (1, 5), (2, 40))  # minimum and maximum of the votes per galaxy
SEEDS = (0, 1, 2, 3)
POWERS = (0.5, 0.7, 0.9)  # of the most powerful test; they determine the number of galaxies


def main() -> None:
    parser = arguments(__doc__, "calibration_power.json")
    parser.add_argument("--repetitions", type=int, default=250, help="repetitions per seed (default: 250)")
    parser.add_argument("--power", type=int, default=2500, help="repetitions per case of the power (default: 2500)")
    parser.add_argument("--quick", action="store_true", help="few cases and repetitions, and write only to --out")
    options = parser.parse_args()
    n_votes, seeds = ((5,), (0,)) if options.quick else ((2, 3, 5, 10, 20, 40), SEEDS)
    n_calls, n_power = (5, 50) if options.quick else (options.repetitions, options.power)
    started = time.perf_counter()
    questions = list({question.name: question for one in campaigns() for question in one.tree.questions}.values())
    cases: list[dict[str, object]] = []
    calls: list[dict[str, object]] = []
    result: dict[str, object] = {
        "n_questions": len(questions),
        "familywise_error_rate": FAMILYWISE_ERROR_RATE,
        "level_of_power": LEVEL,
        "one_vote_per_galaxy": one_vote(),
        "false_positives": calls,
        "power": cases,
    }

    def keep() -> None:
        result["seconds"] = round(time.perf_counter() - started)
        save(options, result)

    for votes, n_answers, factor, wanted in itertools.product(n_votes, (2, 5), (0.5, 2.0), POWERS):
        cases.append(power(votes, n_answers, factor, wanted, n_power))
        keep()
    for name in ("ratio", "ratio_to_one_sided"):
        result[f"min_{name}"] = min(float(str(case[name])) for case in cases)
        print(f"minimum {name.replace('_', ' ')}: {result[f'min_{name}']}")
    for seed in seeds:
        calls.append(false_calls(questions, n_calls, seed))
        print(calls[-1], flush=True)
        keep()


def drawn(
    question: Question, n: int, votes: tuple[int, int], rng: np.random.Generator, factor: float = 1.0
) -> tuple[IntArray, IntArray, QuestionPrediction]:
    """Return vote counts, total votes, and the prediction, whose concentrations are wrong by the factor."""
    volunteers = rng.integers(votes[0], votes[1] + 1, n)
    alpha = np.exp(rng.normal(0.5, 1.2, (1, n, len(question.columns) * (1 + question.multiple))))
    truth, stated = QuestionPrediction(alpha * factor, True, question), QuestionPrediction(alpha, True, question)
    return draw_counts(volunteers, truth, rng), volunteers, stated


def false_calls(questions: list[Question], repetitions: int, seed: int) -> dict[str, object]:
    """Return how many repetitions reject a correct prediction."""
    n_failed = 0
    each: dict[Test, int] = dict.fromkeys(TESTS, 0)
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, repetition])
        p_values: list[tuple[Test, float]] = []
        for i, question in enumerate(questions):
            n = int(rng.integers(30, 400))
            counts, volunteers, prediction = drawn(question, n, VOTES[(i + repetition) % len(VOTES)], rng)
            tests = question_tests(counts, volunteers, prediction, Blocks(np.arange(n), n, "galaxies"), rng)
            known: list[tuple[Test, float]] = [(test, p) for test in TESTS if (p := tests[test]) is not None]
            p_values += known
        adjusted = holm([p for _, p in p_values], [TESTS[test] for test, _ in p_values])
        wrong: set[Test] = {test for (test, _), p in zip(p_values, adjusted, strict=True) if p <= FAMILYWISE_ERROR_RATE}
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
    """Return the power of the dispersion test and of the most powerful test."""
    names = tuple(f"answer-{i}" for i in range(n_answers))
    question = Question("question", names, names)
    rng = np.random.default_rng([votes, n_answers, round(10 * factor), round(10 * wanted)])

    def gains(n: int, true_factor: float) -> FloatArray:
        """Return the log-likelihood ratio of each galaxy: the factor compared with no factor."""
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
        "best_two_sided": halved,
        "best_one_sided": whole,
        "ratio": round(float(found.mean()) / halved, 3),
        "ratio_to_one_sided": round(float(found.mean()) / whole, 3),
    }
    print(case, flush=True)
    return case


def one_vote() -> str:
    """Return what the dispersion test reports for galaxies with one vote each."""
    names = ("yes", "no")
    rng = np.random.default_rng(0)
    counts, volunteers, prediction = drawn(Question("question", names, names), 5000, (1, 1), rng, 0.5)
    own = dispersion(counts, volunteers, prediction, Blocks(np.arange(5000), 5000, "galaxies"))
    return "insufficient data" if own["p_value"] is None and own["dispersion_factor"]["value"] is None else "tested"


if __name__ == "__main__":
    main()
