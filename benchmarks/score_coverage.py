"""Coverage of the 95% confidence intervals of scores: noise-corrected errors, and errors that neighbours share.

    python benchmarks/score_coverage.py [--n-repetitions 2000]

Galaxies have underlying vote fractions of two answers and 2 to 40 volunteers (small numbers are more frequent), and a
model predicts the vote fractions with errors. `mse_noise_corrected` is the mean of
(predicted - observed)^2 - f (1 - f) / (N - 1). Its true value is computed from 2 million galaxies of the same kind. For
comparison, the interval of the plain mean squared error is also checked against the model's error, which it
overestimates.

- usual: errors of 0.5 in the log-odds.
- long tails: the predictions of 5% of the galaxies are random, the others nearly correct.
- rare answer: most vote fractions are near 0, and the prediction for half of the galaxies is 0.03.
- none: the prediction is the ground truth, and the error is 0.

Each repetition has new galaxies. gzoo's intervals are compared with bootstrap percentiles, bootstrap t and Student's t.

Sky cells: neighbours within 1 degree share part of their error, and galaxies lie in strips of the sky that contain the
given number of cells. Intervals over cells are compared with intervals over galaxies. Below 50 cells they use Student's
t, and below 10 cells they are omitted.

Repetition r has seed r; three further sets have the seeds (1, r), (2, r) and (3, r).

Writes benchmarks/results/score_coverage.json.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from measuring import arguments, write
from scipy import stats

from gzoo.scoring.intervals import Blocks, blocks, ratio

Numbers = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], tuple[Numbers, Numbers]]
POPULATION, PART = 2_000_000, 200_000
SIZES = (500, 5000)
SEEDS = ((), (1,), (2,), (3,))
AT_ONCE = 100
N_BOOTSTRAP = 1000
CELLS = (8, 12, 30, 60, 200)
PER_CELL = 20


def usual(rng: np.random.Generator, n: int, noise: float = 0.5) -> tuple[Numbers, Numbers]:
    true = rng.beta(0.6, 1.2, n)
    odds = np.log((true + 1e-3) / (1 - true + 1e-3))
    return true, 1 / (1 + np.exp(-(odds + rng.normal(0, noise, n))))


def long_tails(rng: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
    true = rng.beta(0.6, 1.2, n)
    near = np.clip(true + rng.normal(0, 0.02, n), 0, 1)
    return true, np.where(rng.random(n) < 0.05, rng.random(n), near)


def rare_answer(rng: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
    true = np.where(rng.random(n) < 0.05, rng.beta(3, 3, n), rng.beta(0.5, 20, n))
    return true, np.where(rng.random(n) < 0.5, true, 0.03)


def none(rng: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
    true = rng.beta(0.6, 1.2, n)
    return true, true


WORLDS: Mapping[str, Draw] = {"usual": usual, "long tails": long_tails, "rare answer": rare_answer, "none": none}


def galaxies(world: Draw, rng: np.random.Generator, n: int) -> tuple[Numbers, Numbers, Numbers]:
    """Return each galaxy's noise-corrected squared error, plain squared error, and squared error against the truth."""
    volunteers = np.clip(np.exp(rng.normal(2.2, 0.9, n)).astype(np.int64), 2, 40)
    true, expected = world(rng, n)
    voted = rng.binomial(volunteers, true) / volunteers
    raw = (expected - voted) ** 2
    return raw - voted * (1 - voted) / (volunteers - 1), raw, (expected - true) ** 2


def population(world: Draw, name: str) -> float:
    """Return the error for infinitely many votes."""
    parts = [
        galaxies(world, np.random.default_rng((99, i, len(name))), PART)[2].mean() for i in range(POPULATION // PART)
    ]
    return float(np.mean(parts))


def plainly(columns: Numbers, seed: int) -> dict[str, tuple[Numbers, Numbers]]:
    """Return the intervals of common methods."""
    n = len(columns)
    rng = np.random.default_rng(seed)
    times = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(N_BOOTSTRAP)]).astype(np.float32)
    mean, spread = columns.mean(axis=0), columns.std(axis=0, ddof=1)
    error = spread / np.sqrt(n)
    unit = ((columns - mean) / spread).astype(np.float32)
    first, second = (times @ unit / n).astype(np.float64), (times @ unit**2 / n).astype(np.float64)
    low, high = np.quantile(first, [0.025, 0.975], axis=0)
    t = first / np.sqrt(second - first**2) * np.sqrt(n)
    t_low, t_high = np.quantile(t, [0.025, 0.975], axis=0)
    student = stats.t.ppf(0.975, n - 1)
    return {
        "bootstrap percentiles": (mean + low * spread, mean + high * spread),
        "bootstrap t": (mean - t_high * error, mean - t_low * error),
        "Student's t": (mean - student * error, mean + student * error),
    }


def errors(world: Draw, truth: float, n: int, seeds: tuple[int, ...], repetitions: int) -> dict[str, object]:
    """Return the fraction of repetitions whose interval covers the truth, or lies below or above it."""
    held: dict[str, list[Numbers]] = {}
    for start in range(0, repetitions, AT_ONCE):
        drawn = [
            galaxies(world, np.random.default_rng((*seeds, r) if seeds else r), n)[:2]
            for r in range(start, min(start + AT_ONCE, repetitions))
        ]
        corrected, raw = (np.column_stack(each) for each in zip(*drawn, strict=True))
        one, each = np.ones((n, 1)), blocks(n)
        ours, uncorrected = ratio(corrected, one, each), ratio(raw, one, each)
        ways = {"gzoo": (ours.low, ours.high), "uncorrected": (uncorrected.low, uncorrected.high)}
        if not seeds:
            ways |= plainly(corrected, start)
        for name, (low, high) in ways.items():
            held.setdefault(name, []).append(np.stack([truth < low, truth > high]))
        if truth == 0.0:
            held.setdefault("not distinguishable from 0", []).append(np.stack([ours.low <= 0, ours.low <= 0]))
    out: dict[str, object] = {}
    for name, parts in held.items():
        below, above = np.concatenate(parts, axis=1).mean(axis=1).tolist()
        if name == "not distinguishable from 0":
            out[name] = below
        else:
            out[name] = {
                "coverage": round(1 - below - above, 4),
                "truth below interval": below,
                "truth above interval": above,
            }
    return out


def strip(rng: np.random.Generator, n_cells: int) -> tuple[Numbers, Numbers, Blocks, Blocks]:
    """Return errors that neighbours share, weights, and blocks by sky cell and by galaxy; the true mean is 1."""
    n = n_cells * PER_CELL
    place = rng.integers(0, n_cells, n)
    shared = rng.exponential(1.0, n_cells)[place]
    x = 0.5 * shared + 0.5 * rng.exponential(1.0, n)
    weight = rng.integers(2, 41, n).astype(np.float64)
    return x * weight, weight, Blocks(place, n_cells, "sky cells"), blocks(n)


def neighbours(n_cells: int, seeds: tuple[int, ...], repetitions: int) -> dict[str, object]:
    """Return the coverage of intervals over sky cells, and over galaxies."""
    held = {"cells": 0, "galaxies": 0}
    methods: set[str] = set()
    worth: list[float] = []
    for r in range(repetitions):
        rng = np.random.default_rng((*seeds, r) if seeds else r)
        x, weight, by_cell, by_galaxy = strip(rng, n_cells)
        found = ratio(x[:, None], weight[:, None], by_cell)
        methods |= set(found.method)
        worth.append(float(found.n_effective[0]))
        held["cells"] += bool(found.low[0] <= 1 <= found.high[0])
        if not seeds:
            other = ratio(x[:, None], weight[:, None], by_galaxy)
            held["galaxies"] += bool(other.low[0] <= 1 <= other.high[0])
    out: dict[str, object] = {"galaxies": n_cells * PER_CELL, "n_effective": round(float(np.mean(worth)))}
    out["method"] = sorted(one or "no interval" for one in methods)
    if methods != {""}:
        out["coverage"] = round(held["cells"] / repetitions, 4)
    if not seeds:
        out["coverage over galaxies"] = round(held["galaxies"] / repetitions, 4)
    return out


def main() -> None:
    parser = arguments(__doc__, "score_coverage.json")
    parser.add_argument("--n-repetitions", type=int, default=2000, help="repetitions (default: 2000)")
    options = parser.parse_args()
    repetitions = options.n_repetitions
    began = time.perf_counter()
    result: dict[str, object] = {"repetitions": repetitions}
    for name, world in WORLDS.items():
        truth = 0.0 if world is none else population(world, name)
        for n in SIZES:
            found = {f"seeds {seeds}": errors(world, truth, n, seeds, repetitions) for seeds in SEEDS}
            result[f"{name}, {n} galaxies"] = {"truth": truth, **found}
            print(name, n, json.dumps(found), file=sys.stderr, flush=True)
    for n_cells in CELLS:
        found = {f"seeds {seeds}": neighbours(n_cells, seeds, repetitions) for seeds in SEEDS}
        result[f"{n_cells} sky cells"] = found
        print(n_cells, "cells", json.dumps(found), file=sys.stderr, flush=True)
    result["seconds"] = round(time.perf_counter() - began)
    write(options, result)


if __name__ == "__main__":
    main()
