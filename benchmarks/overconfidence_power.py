"""Whether overconfidence of any size is found, a calibrated model is left alone, and a bias is called a bias.

    python benchmarks/overconfidence_power.py [--repetitions 300] [--quick]

Votes of 500 galaxies, 10 each, are drawn for a question of three answers, with total concentrations of 2 to 50. The
predicted ones are 3 to a billion times as large. All tests of the question together have an error rate of 1%.

- `overconfident`: proportion of repetitions with the verdict "overconfident".
- `best_two_sided`: the same for the likelihood ratio of the true and the predicted concentration, which knows the
  factor but not the direction: it has half of the level on each side. `best_told_everything` knows the direction too.
  Both test nothing but the concentration.
- `accused`: of calibrated predictions, the number of repetitions with any adverse verdict.
- `bias`: predicted fractions of one answer that are 0.04 too large in 8,000 galaxies with 40 votes each: verdicts.

Writes benchmarks/results/overconfidence_power.json.
"""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
from measuring import arguments, save

from gzoo.scoring.calibration import FAMILYWISE_ERROR_RATE, MAX_SHIFT, TESTS, Test, question_tests
from gzoo.scoring.dispersion import dispersion
from gzoo.scoring.intervals import Blocks, holm
from gzoo.scoring.likelihood import question_nll
from gzoo.scoring.pit import QuestionPrediction, draw_counts
from gzoo.trees.tree import FloatArray, IntArray, Question

QUESTION = Question("question", ("a", "b", "c"), ("a", "b", "c"))
N, N_VOTES = 500, 10
CONCENTRATIONS, FACTORS = (2, 5, 20, 50), (3.0, 10.0, 1e3, 1e6, 1e9)
N_NULL = 2000


def main() -> None:
    parser = arguments(__doc__, "overconfidence_power.json")
    parser.add_argument("--repetitions", type=int, default=300, help="repetitions of each case (default: 300)")
    parser.add_argument("--quick", action="store_true", help="few cases and repetitions, and write only to --out")
    options = parser.parse_args()
    started, repetitions = time.perf_counter(), 20 if options.quick else options.repetitions
    factors = (3.0, 1e9) if options.quick else FACTORS
    cases = [case(true, factor, repetitions) for true in CONCENTRATIONS for factor in factors]
    accused: dict[str, int] = {}
    for true in CONCENTRATIONS:
        verdicts = [verdict(*drawn(true, 1.0, rng), rng) for rng in generators(repetitions, true)]
        accused[f"concentration {true}"] = sum(one != "consistent" for one in verdicts)
        print("accused", true, accused[f"concentration {true}"], "of", repetitions, flush=True)
    bias = {
        str(true): dict(Counter(biased(true, rng) for rng in generators(5 if options.quick else 60, true)))
        for true in (5, 20, 100)
    }
    print("bias", bias)
    clear = [one["overconfident"] for one in cases if one["concentration"] <= 5]
    weak = [one["overconfident"] / one["best_two_sided"] for one in cases if one["concentration"] > 5]
    result = {
        "repetitions": repetitions,
        "min_overconfident_at_2_to_5": min(clear),
        "min_ratio_to_best_at_20_to_50": round(min(weak), 3),
        "max_accused": max(accused.values()),
        "accused": accused,
        "bias": bias,
        "cases": cases,
        "seconds": round(time.perf_counter() - started),
    }
    print({name: value for name, value in result.items() if name != "cases"})
    save(options, result)


def generators(n: int, *key: int) -> list[np.random.Generator]:
    return [np.random.default_rng([*key, i]) for i in range(n)]


def drawn(true: float, factor: float, rng: np.random.Generator, n: int = N) -> tuple[IntArray, FloatArray]:
    """Return vote counts, and predicted concentrations that are wrong by a factor."""
    fractions = rng.dirichlet([1.5] * len(QUESTION.columns), n)[None]
    counts = draw_counts(np.full(n, N_VOTES), QuestionPrediction(true * fractions, True, QUESTION), rng)
    return counts, factor * true * fractions


def verdict(counts: IntArray, values: FloatArray, rng: np.random.Generator) -> str:
    """Return the verdict, as `calibration_of` gives it for one question."""
    volunteers, prediction = counts.sum(axis=1), QuestionPrediction(values, True, QUESTION)
    blocks = Blocks(np.arange(len(counts)), len(counts), "galaxies")
    found = question_tests(counts, volunteers, prediction, blocks, rng)
    known: dict[Test, float] = {test: p for test in TESTS if (p := found[test]) is not None}
    adjusted = holm(list(known.values()), [TESTS[test] for test in known])
    rejected = [test for test, p in zip(known, adjusted.tolist(), strict=True) if p <= FAMILYWISE_ERROR_RATE]
    if "dispersion" in rejected:
        is_biased = found["bias"] is not None and found["bias"] <= MAX_SHIFT
        judged = dispersion(counts, volunteers, prediction, blocks, is_biased=is_biased)
        factor = judged["dispersion_factor"]["value"]
        return "overconfident" if factor is not None and factor < 1 else "underconfident"
    return "biased" if "bias" in rejected else "miscalibrated" if rejected else "consistent"


def case(true: int, factor: float, repetitions: int) -> dict[str, float]:
    """Return the power of the verdict and of the best tests."""
    rngs = generators(repetitions, true, round(factor))
    samples = [drawn(true, factor, rng) for rng in rngs]
    found = [verdict(*sample, rng) for sample, rng in zip(samples, rngs, strict=True)]

    def ratio(counts: IntArray, values: FloatArray) -> float:
        volunteers = counts.sum(axis=1)
        return float(
            (question_nll(counts, volunteers, values[0]) - question_nll(counts, volunteers, values[0] / factor)).sum()
        )

    rng = np.random.default_rng([true, round(factor)])
    null: list[float] = []
    for _ in range(N_NULL // 10):  # votes as predicted, ten samples at once
        counts, values = drawn(true * factor, 1.0, rng, 10 * N)
        volunteers = counts.sum(axis=1)
        cost, other = (question_nll(counts, volunteers, one) for one in (values[0], values[0] / factor))
        null += (cost - other).reshape(10, N).sum(axis=1).tolist()
    best = np.array([ratio(*sample) for sample in samples])
    result = {
        "concentration": true,
        "factor": factor,
        "overconfident": round(found.count("overconfident") / repetitions, 4),
        "any_adverse_verdict": round(1 - found.count("consistent") / repetitions, 4),
        "best_two_sided": round(float((best > np.quantile(null, 1 - FAMILYWISE_ERROR_RATE / 2)).mean()), 4),
        "best_told_everything": round(float((best > np.quantile(null, 1 - FAMILYWISE_ERROR_RATE)).mean()), 4),
    }
    print(result, flush=True)
    return result


def biased(true: float, rng: np.random.Generator) -> str:
    """Return the verdict on predicted fractions of the first answer that are 0.04 too large."""
    n = 8000
    fractions = rng.dirichlet([1.5] * len(QUESTION.columns), n)
    counts = draw_counts(np.full(n, 40), QuestionPrediction(true * fractions[None], True, QUESTION), rng)
    more = np.minimum(0.04, 0.9 * (1 - fractions[:, 0]))
    stated = fractions * ((1 - fractions[:, 0] - more) / (1 - fractions[:, 0]))[:, None]
    stated[:, 0] = fractions[:, 0] + more
    return verdict(counts, true * stated[None], rng)


if __name__ == "__main__":
    main()
