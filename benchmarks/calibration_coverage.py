"""Do the bands of coverage curves, and the intervals of the concentration's factor, hold the population's value?

The predictor is wrong on purpose: overconfident for some galaxies, underconfident for others, its fractions biased, so
that nothing in the intervals' own arithmetic is true of it. What the whole population would give comes from 2 million
galaxies. Then fresh galaxies are drawn, again and again, and it is counted how often the interval holds it.

Three kinds: two answers and four answers with 500 and 5,000 galaxies of 2 to 40 votes; and 5,000 galaxies in 250 cells
of the sky that share errors, with intervals over cells and, to show what that is for, over galaxies.

    python benchmarks/calibration_coverage.py [--repetitions 2000] [--population 2000000]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from gzoo.scoring.bands import LEVELS, Curve, coverage_curve
from gzoo.scoring.dispersion import dispersion
from gzoo.scoring.intervals import Blocks
from gzoo.scoring.pit import QuestionPrediction, answer_ranks, draw_counts
from gzoo.trees.tree import FloatArray, IntArray, Question

RESULTS = Path(__file__).parent / "results" / "calibration_coverage.json"
SEEDS = (0, 1, 2, 3)  # the number of a repetition is added to a multiple of a million
N_CELLS = 250
PART = 100_000  # galaxies of the population at once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2000, help="of each case and seed")
    parser.add_argument("--population", type=int, default=2_000_000)
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
                    "machine": {
                        "processor": platform.machine(),
                        "cores": os.cpu_count(),
                        "python": platform.python_version(),
                    },
                    "versions": {name: version(name) for name in ("numpy", "scipy")},
                }
                RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def drawn(
    n_answers: int, per_cell: int, n: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray, QuestionPrediction]:
    """Votes and people asked, and a prediction that is wrong in shares and in concentration.

    Args:
        n_answers: Of the question.
        per_cell: Galaxies that share an error, one after the other; 0 for none.
        n: Galaxies.
        rng: For all of it.
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
    """What all galaxies of this kind would give: both curves, and the factor."""
    rng = np.random.default_rng([n_answers, per_cell, 99])
    parts = [drawn(n_answers, per_cell, PART, rng) for _ in range(max(1, n // PART))]
    curves: dict[str, list[FloatArray]] = {"central": [], "highest_density": []}
    for counts, volunteers, prediction in parts:
        places = answer_ranks(counts, volunteers, prediction, rng)
        for kind, one in (("central", np.abs(2 * places.pit - 1)), ("highest_density", places.density)):
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
    """How often intervals and bands hold the population's value."""
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
        places = answer_ranks(counts, volunteers, prediction, rng)
        for way in ways:
            for kind, one in (("central", np.abs(2 * places.pit - 1)), ("highest_density", places.density)):
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
                "what": f"coverage, {kind.replace('_', ' ')}",
                "pointwise": round(float(fraction[:-1].mean()), 4),
                "pointwise_least": round(float(fraction[:-1].min()), 4),
                "pointwise_most": round(float(fraction[:-1].max()), 4),
                "whole_curve": round(float(fraction[-1]), 4),
            }
        )
    rows += [
        {**about, "intervals_over": over, "what": "factor", "pointwise": round(float(found.mean()), 4)}
        for over, found in factors.items()
    ]
    return rows


def holds(curve: Curve, truth: FloatArray) -> list[bool]:
    """Whether the interval of each level, and last whether the band, holds the truth."""

    def inside(low: list[float | None], high: list[float | None]) -> list[bool]:
        ends = zip(low, high, truth.tolist(), strict=True)
        return [a is not None and b is not None and a - 1e-6 <= value <= b + 1e-6 for a, b, value in ends]

    return [*inside(curve["low"], curve["high"]), all(inside(curve["band_low"], curve["band_high"]))]


if __name__ == "__main__":
    main()
