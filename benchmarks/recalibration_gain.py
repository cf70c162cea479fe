"""How much of the best possible gain a recalibration reaches on fresh galaxies, however wrong the concentration was.

    python benchmarks/recalibration_gain.py [--quick]

Votes are drawn with total concentrations of 2 to 200; the predicted ones are 0.01 to 10 million times as large. The
recalibration is fitted to 50 to 5,000 galaxies with 1 to 40 votes each, for a question of three answers, and evaluated
on 20,000 fresh galaxies. The best factor is the true one.

- Where 300 or more galaxies calibrate and the best factor gains more than 0.01 nats per galaxy, the recalibration
  should reach 90% of its gain. One number fitted to n galaxies costs 0.5 / n nats on average, whatever the method,
  which is 17% of 0.01 nats at 300 galaxies. Therefore `ratio_of_estimable` compares with the best factor less this
  cost.
- For calibrated models and 50 galaxies, it should cost less than 0.05 nats on average.
- A bias of one answer should be corrected.

Writes benchmarks/results/recalibration_gain.json.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
from measuring import arguments, save

from gzoo.scoring.pit import QuestionPrediction, draw_counts
from gzoo.scoring.recalibration import best_parameters
from gzoo.scoring.scaling import Scaling
from gzoo.trees.tree import FloatArray, IntArray, Question

QUESTION = Question("question", ("a", "b", "c"), ("a", "b", "c"))
N_FRESH = 20_000
CONCENTRATIONS, VOTES = (2, 5, 20, 50, 200), (1, 2, 5, 10, 40)
WRONG_BY = (1e-2, 0.1, 1.0, 10.0, 1e3, 1e5, 1e7)
REPETITIONS = {50: 40, 300: 40, 1000: 12, 5000: 3}  # of each number of galaxies


def main() -> None:
    parser = arguments(__doc__, "recalibration_gain.json")
    parser.add_argument("--quick", action="store_true", help="few cases and repetitions, and write only to --out")
    options = parser.parse_args()
    started = time.perf_counter()
    concentrations, votes = ((5, 50), (2, 10)) if options.quick else (CONCENTRATIONS, VOTES)
    wrong_by = (1e-2, 1.0, 1e7) if options.quick else WRONG_BY
    repetitions = {50: 10, 300: 10} if options.quick else REPETITIONS
    cases = [
        case(true, n_votes, factor, n, repeat)
        for true, n_votes, factor in itertools.product(concentrations, votes, wrong_by)
        for n, repeat in repetitions.items()
    ]
    judged = [one for one in cases if one["galaxies"] >= 300 and one["best_gain"] > 0.01]
    calibrated = [one for one in cases if one["galaxies"] == 50 and one["predicted_times"] == 1.0]
    ratios = [one["ratio"] for one in judged]
    estimable = [one["ratio_of_estimable"] for one in judged]
    result = {
        "judged_cases": len(judged),
        "min_ratio": min(ratios),
        "fraction_of_cases_with_ratio_0.9": round(float(np.mean([one >= 0.9 for one in ratios])), 4),
        "cases_below_0.9": [one for one in judged if one["ratio"] < 0.9],
        "min_ratio_of_estimable": min(estimable),
        "mean_cost_of_calibrated_models_at_50": round(float(np.mean([-one["gain"] for one in calibrated])), 5),
        "largest_cost_of_calibrated_models_at_50": max(-one["gain"] for one in calibrated),
        "bias": biased(10 if options.quick else 40),
        "cases": cases,
        "seconds": round(time.perf_counter() - started),
    }
    for name, value in result.items():
        if name != "cases":
            print(f"{name}: {value}")
    save(options, result)


def drawn(true: float, n_votes: int, n: int, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Return vote counts and true fractions, with a member axis."""
    fractions = rng.dirichlet([1.5] * len(QUESTION.columns), n)[None]
    counts = draw_counts(np.full(n, n_votes), QuestionPrediction(true * fractions, True, QUESTION), rng)
    return counts, fractions


def case(true: int, n_votes: int, wrong_by: float, n: int, repetitions: int) -> dict[str, float]:
    """Return the gain on fresh galaxies, in nats per galaxy, of the recalibration and of the best factor."""
    rng = np.random.default_rng([true, n_votes, round(1000 * wrong_by), n])

    def scaling(n: int) -> Scaling:
        counts, fractions = drawn(true, n_votes, n, rng)
        return Scaling.of(counts, np.full(n, n_votes), true * wrong_by * fractions, is_fraction=False)

    fresh, unchanged = scaling(N_FRESH), np.zeros(2 + len(QUESTION.columns))
    best = unchanged.copy()
    best[0] = -np.log(wrong_by)
    before, after = (fresh.cost(one)[0].mean() for one in (unchanged, best))
    best_gain = before - after
    gains = [before - fresh.cost(best_parameters(scaling(n)))[0].mean() for _ in range(repetitions)]
    gain = float(np.mean(gains))
    return {
        "true_concentration": true,
        "votes": n_votes,
        "predicted_times": wrong_by,
        "galaxies": n,
        "best_gain": round(float(best_gain), 5),
        "gain": round(gain, 5),
        "ratio": round(gain / float(best_gain), 3) if best_gain > 1e-6 else 0.0,
        "ratio_of_estimable": round(gain / float(best_gain - 0.5 / n), 3) if best_gain > 0.5 / n + 1e-6 else 0.0,
    }


def biased(repetitions: int) -> dict[str, float]:
    """Return the bias of one answer before and after recalibration, and the gain reached and possible."""
    rng = np.random.default_rng(0)
    shift = np.array([0.0, 0.0, 0.4, 0.0, 0.0])
    rows: list[tuple[float, ...]] = []
    for _ in range(repetitions):
        both: list[Scaling] = []
        for n in (1000, N_FRESH):
            counts, fractions = drawn(20.0, 10, n, rng)
            moved = fractions * np.exp(shift[2:])
            stated = 20.0 * moved / moved.sum(axis=-1, keepdims=True)
            both.append(Scaling.of(counts, np.full(n, 10), stated, is_fraction=False))
        fitted = best_parameters(both[0])
        costs = [both[1].cost(one)[0].mean() for one in (0 * shift, fitted, -shift)]
        biases = [-both[1].residuals(one)[:, 0].mean() for one in (0 * shift, fitted)]
        rows.append((*biases, costs[0] - costs[1], costs[0] - costs[2]))
    names = ("bias_before", "bias_after", "gain", "best_gain")
    return dict(zip(names, np.round(np.mean(rows, axis=0), 4).tolist(), strict=True))


if __name__ == "__main__":
    main()
