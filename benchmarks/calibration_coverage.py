"""Whether the intervals of coverage curves and of the dispersion factor cover the population's value.

    python benchmarks/calibration_coverage.py [--repetitions 2000] [--population 2000000]

The predictions are wrong: overconfident for some galaxies, underconfident for others, with biased vote fractions. So no
assumption of the intervals holds exactly. The population's value is computed from 2 million galaxies. Then new galaxies
are drawn repeatedly, and the fraction of intervals that cover the population's value is counted.

There are three cases: two answers and four answers, each with 500 and 5,000 galaxies of 2 to 40 votes; and 5,000
galaxies in 250 sky cells with shared errors. In the last case, intervals over cells are compared with intervals over
galaxies, which ignore the shared errors.

Writes benchmarks/results/calibration_coverage.json.
"""

from __future__ import annotations

import time

import numpy as np
from measuring import arguments, save

from gzoo.scoring.bands import LEVELS, Curve, coverage_curve
from gzoo.scoring.dispersion import dispersion
from gzoo.scoring.intervals import Blocks
from gzoo.scoring.pit import QuestionPrediction, answer_ranks, draw_counts
from gzoo.trees.tree import FloatArray, IntArray, Question

SEEDS = (0, 1, 2, 3)  # repetition i of seed s uses the seed 1,000,000 s + i
N_CELLS = 250
PART = 100_000  # galaxies of the population that are in memory at once


def main() -> None:
    parser = arguments(__doc__, "calibration_coverage.json")
    parser.add_argument("--repetitions", type=int, default=2000, help="repetitions per case and seed (default: 2000)")
    parser.add_argument("--population", type=int, default=2_000_000, help="galaxies of the population")
    options = parser.parse_args()
    started = time.perf_counter()
    rows: list[dict[str, object]] = []
    for n_answers, per_cell in ((2, 0), (4, 0), (2, 5000 // N_CELLS)):
        truth = population(n_answers, per_cell, options.population)
        for n in (5000,) if per_cell else (500, 5000):
            for seed in SEEDS:
                for row in repeat(truth, n_answers, per_cell, n, seed, options.repetitions):
                    print(row, flush=True)
                    rows.append(row)
                result = {
                    "repetitions": options.repetitions,
                    "population": options.population,
                    "cases": rows,
                    "seconds": round(time.perf_counter() - started),
                }
                save(options, result)


def drawn(
    n_answers: int, per_cell: int, n: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray, QuestionPrediction]:
    """Return vote counts, total votes, and a prediction with wrong vote fractions and concentrations.

    Args:
        n_answers: Number of answers of the question.
        per_cell: Number of consecutive galaxies that share an error; 0 for none.
        n: Number of galaxies.
        rng: Random numbers.
    """
    names = tuple(f"answer-{i}" for i in range(n_answers))
    question = Question("question", names, names)
    volunteers = rng.integers(2, 41, n)
    stated = np.exp(rng.normal(0.8, 1.0, (n, n_answers)))
    if per_cell:
        shift = np.repeat(rng.normal(0, 0.5, (n // per_cell, n_answers)), per_cell, axis=0)
        true = stated * np.exp(shift)
    else:
        true = stated * np.exp(rng.normal(-0.3, 0.5, (n, 1)) + rng.normal(0.1, 0.3, (n, n_answers)))
    counts = draw_counts(volunteers, QuestionPrediction(true[None], True, question), rng)
    return counts, volunteers, QuestionPrediction(stated[None], True, question)


def population(n_answers: int, per_cell: int, n: int) -> dict[str, FloatArray]:
    """Return both coverage curves and the dispersion factor of the population."""
    rng = np.random.default_rng([n_answers, per_cell, 99])
    parts = [drawn(n_answers, per_cell, PART, rng) for _ in range(max(1, n // PART))]
    curves: dict[str, list[FloatArray]] = {"central": [], "highest_density": []}
    for counts, volunteers, prediction in parts:
        ranks = answer_ranks(counts, volunteers, prediction, rng)
        for kind, one in (("central", np.abs(2 * ranks.pit - 1)), ("highest_density", ranks.density)):
            curves[kind].append(np.array([(one <= level).mean() for level in LEVELS.tolist()]))
    counts, volunteers = np.concatenate([one[0] for one in parts]), np.concatenate([one[1] for one in parts])
    prediction = QuestionPrediction(
        np.concatenate([one[2].values for one in parts], axis=1), True, parts[0][2].question
    )
    factor = dispersion(
        counts, volunteers, prediction, Blocks(np.arange(len(volunteers)), len(volunteers), "galaxies")
    )["dispersion_factor"]
    return {
        **{kind: np.mean(found, axis=0) for kind, found in curves.items()},
        "factor": np.array([factor["value"]], np.float64),
    }


def repeat(
    truth: dict[str, FloatArray], n_answers: int, per_cell: int, n: int, seed: int, repetitions: int
) -> list[dict[str, object]]:
    """Return how often the intervals and bands cover the population's value."""
    galaxies = Blocks(np.arange(n), n, "galaxies")
    ways = [galaxies]
    if per_cell:
        ways.insert(0, Blocks(np.arange(n) // per_cell, n // per_cell, "sky cells"))
    kinds = ("central", "highest_density")
    held = {(way.kind, kind): np.zeros((repetitions, len(LEVELS) + 1), bool) for way in ways for kind in kinds}
    factors = {way.kind: np.zeros(repetitions, bool) for way in ways}
    for i in range(repetitions):
        rng = np.random.default_rng(seed * 1_000_000 + i)
        counts, volunteers, prediction = drawn(n_answers, per_cell, n, rng)
        ranks = answer_ranks(counts, volunteers, prediction, rng)
        for way in ways:
            for kind, one in (("central", np.abs(2 * ranks.pit - 1)), ("highest_density", ranks.density)):
                curve = coverage_curve(one, way, rng)
                held[way.kind, kind][i] = holds(curve, truth[kind])
            factor = dispersion(counts, volunteers, prediction, way)["dispersion_factor"]
            low, high = factor["low"] or 0.0, factor["high"] or np.inf
            factors[way.kind][i] = low <= truth["factor"][0] <= high
    about: dict[str, object] = {
        "answers": n_answers,
        "galaxies": n,
        "cells": n // per_cell if per_cell else None,
        "seed": seed,
    }
    rows: list[dict[str, object]] = []
    for (over, kind), found in held.items():
        fraction = found.mean(axis=0)
        rows.append(
            {
                **about,
                "intervals_over": over,
                "quantity": f"coverage, {kind.replace('_', ' ')}",
                "pointwise": round(float(fraction[:-1].mean()), 4),
                "pointwise_min": round(float(fraction[:-1].min()), 4),
                "pointwise_max": round(float(fraction[:-1].max()), 4),
                "whole_curve": round(float(fraction[-1]), 4),
            }
        )
    rows += [
        {**about, "intervals_over": over, "quantity": "dispersion factor", "pointwise": round(float(found.mean()), 4)}
        for over, found in factors.items()
    ]
    return rows


def holds(curve: Curve, truth: FloatArray) -> list[bool]:
    """Return whether the interval of each level covers the truth, and, last, whether the band does."""

    def inside(low: list[float | None], high: list[float | None]) -> list[bool]:
        ends = zip(low, high, truth.tolist(), strict=True)
        return [a is not None and b is not None and a - 1e-6 <= value <= b + 1e-6 for a, b, value in ends]

    return [*inside(curve["low"], curve["high"]), all(inside(curve["band_low"], curve["band_high"]))]


if __name__ == "__main__":
    main()
