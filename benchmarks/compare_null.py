"""Coverage, false positive rate and power of `gzoo compare`, compared with the true difference of two models.

    python benchmarks/compare_null.py [--n-repetitions 2000] [--quick]

Galaxies have underlying vote fractions of K answers (from a Dirichlet distribution) and 2 to 40 volunteers. Two models
predict vote fractions with Gaussian errors of the logarithm, and a concentration. The size of the error and the
concentration determine the quality of a model. The true difference is computed from 2 million galaxies.

- coverage: of 95% intervals of the paired difference of log-likelihoods, with new galaxies in each repetition.
- null: two models of equal quality, and the fraction of repetitions with a significant difference. The models are
  either alike (the same size of errors, drawn independently) or unlike (one overconfident, the other underconfident,
  its errors tuned until the log-likelihoods are equal; the remaining difference is subtracted).
- 60 questions: twelve kinds of questions, each with votes for all, half, a fifth, a twentieth or a fiftieth of the
  galaxies, all null; the fraction of repetitions with any significant difference after Holm's correction.
- power: the fraction of significant differences as a function of the true difference, with the prediction of normal
  theory; and at the number of galaxies that `gzoo compare` recommends, where it should be 0.8.

Except for coverage, galaxies are drawn from pools: of 2 million, and for power and the twelve kinds of 400,000.
Repetition r has seed r; three further sets have the seeds (1, r), (2, r) and (3, r).

Writes benchmarks/results/compare_null.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from measuring import arguments, save
from scipy import optimize, stats

from gzoo.scoring.differences import LEVEL, MIN_GALAXIES, POWER
from gzoo.scoring.intervals import N_BOOTSTRAP, blocks, holm, ratio
from gzoo.scoring.likelihood import question_nll

Numbers = npt.NDArray[np.float64]
POPULATION, POOL, TUNING = 2_000_000, 400_000, 200_000
SIZES = (500, 5000)
FRACTIONS = (1.0, 0.5, 0.2, 0.05, 0.02)
COLUMNS_AT_ONCE = 400


@dataclass(frozen=True)
class Model:
    """Errors with standard deviation `noise` in the logarithm of vote fractions, and a concentration in votes."""

    noise: float
    concentration: float


@dataclass(frozen=True)
class World:
    """A kind of question, and two models of it."""

    fractions: tuple[float, ...]
    first: Model
    second: Model
    votes: tuple[int, int] = (2, 40)

    def differences(self, rng: np.random.Generator, n: int) -> Numbers:
        """Return the log-likelihoods of the first model minus those of the second, for n new galaxies."""
        true = rng.dirichlet(self.fractions, n)
        true = np.maximum(true, 1e-12)
        volunteers = rng.integers(self.votes[0], self.votes[1] + 1, n)
        counts = rng.multinomial(volunteers, true / true.sum(axis=1, keepdims=True))
        scores: list[Numbers] = []
        for model in (self.first, self.second):
            away = np.log(true) + model.noise * rng.standard_normal(true.shape)
            expected = np.exp(away - away.max(axis=1, keepdims=True))
            alpha = np.maximum(model.concentration * expected / expected.sum(axis=1, keepdims=True), 1e-3)
            scores.append(-question_nll(counts, volunteers, alpha))
        return scores[0] - scores[1]

    def population(self, n: int = POPULATION) -> Numbers:
        """Return the differences of the population."""
        rng = np.random.default_rng([9, 9])
        return np.concatenate([self.differences(rng, 200_000) for _ in range(n // 200_000)])


CLOSE = World((0.9, 0.6, 0.2), Model(0.45, 20), Model(0.55, 20))
OVERCONFIDENT = World((0.9, 0.6, 0.2), Model(0.35, 300), Model(0.5, 15))
ALIKE = World((0.9, 0.6, 0.2), Model(0.5, 20), Model(0.5, 20))
KINDS: tuple[tuple[float, ...], ...] = (
    (0.5, 0.5),
    (0.3, 2.0),
    (3.0, 3.0),
    (0.9, 0.6, 0.2),
    (2.0, 2.0, 2.0),
    (0.2, 0.2, 3.0),
    (1.0, 1.0, 1.0, 1.0),
    (0.3, 0.3, 0.3, 2.0),
    (3.0, 2.0, 1.0, 0.5),
    (0.5, 0.5, 0.5, 0.5, 0.5),
    (2.0, 0.2, 0.2, 0.2, 0.2),
    (1.0, 2.0, 3.0, 2.0, 1.0),
)


def equal(world: World) -> World:
    """Return the world with the errors of the second model tuned to nearly the same mean log-likelihood."""

    def mean(noise: float) -> float:
        return float(replace(world, second=replace(world.second, noise=noise)).population(TUNING).mean())

    noise = optimize.brentq(mean, 0.05, 3.0, xtol=1e-4)
    return replace(world, second=replace(world.second, noise=float(noise)))


def repetitions(
    draw: Callable[[np.random.Generator], Numbers], n_repetitions: int, seed: int, n_bootstrap: int
) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield interval ends and p-values of the repetitions, in chunks."""
    for start in range(0, n_repetitions, COLUMNS_AT_ONCE):
        numbers = range(start, min(start + COLUMNS_AT_ONCE, n_repetitions))
        rows = np.column_stack([draw(np.random.default_rng([seed, r] if seed else r)) for r in numbers])
        found = ratio(rows, np.ones((len(rows), 1)), blocks(len(rows)), n_bootstrap=n_bootstrap)
        yield np.stack([found.low, found.high]), found.p_values()


def coverage(world: World, n: int, n_repetitions: int, seed: int, truth: float) -> float:
    """Return the fraction of repetitions whose interval covers the true difference."""
    held = [
        (ends[0] <= truth) & (truth <= ends[1])
        for ends, _ in repetitions(lambda rng: world.differences(rng, n), n_repetitions, seed, N_BOOTSTRAP)
    ]
    return float(np.concatenate(held).mean())


def called(pool: Numbers, n: int, n_repetitions: int, seed: int) -> float:
    # p-values do not depend on bootstrap draws, of which 1 is the minimum
    """Return the fraction of repetitions with a significant difference."""
    draws = repetitions(lambda rng: pool[rng.integers(0, len(pool), n)], n_repetitions, seed, 1)
    return float(np.mean(np.concatenate([p for _, p in draws]) < LEVEL))


def any_called(pools: Sequence[Numbers], n: int, n_repetitions: int, seed: int) -> dict[str, float]:
    """Return the fraction of repetitions with a significant difference among 60 questions, with and without Holm."""
    n_columns = len(pools) * len(FRACTIONS)
    at_once = max(1, COLUMNS_AT_ONCE // n_columns)
    any_holm, any_plain, single = 0, 0, 0
    for start in range(0, n_repetitions, at_once):
        rows, weights = [], []
        for r in range(start, min(start + at_once, n_repetitions)):
            rng = np.random.default_rng([seed, r] if seed else r)
            for pool in pools:
                for fraction in FRACTIONS:
                    # the first galaxies have votes: their order is random
                    weight = (np.arange(n) < round(fraction * n)).astype(np.float64)
                    rows.append(pool[rng.integers(0, len(pool), n)] * weight)
                    weights.append(weight)
        numerator, denominator = np.column_stack(rows), np.column_stack(weights)
        p = ratio(numerator, denominator, blocks(n), n_bootstrap=1).p_values()
        p[denominator.sum(axis=0) < MIN_GALAXIES] = np.nan
        for one in p.reshape(-1, n_columns):
            any_holm += bool(np.nanmin(holm(one)) < LEVEL)
            any_plain += bool(np.nanmin(one) < LEVEL)
            single += int(np.nansum(one < LEVEL))
    return {
        "any significant, Holm": any_holm / n_repetitions,
        "any significant, not adjusted": any_plain / n_repetitions,
        "single significant, not adjusted": single / n_repetitions / n_columns,
    }


def power(n_repetitions: int) -> list[dict[str, float]]:
    """Return the fraction of significant differences for several true differences."""
    out: list[dict[str, float]] = []
    for noise in (0.5, 0.51, 0.52, 0.54, 0.56, 0.6, 0.65, 0.7):
        world = replace(ALIKE, second=Model(noise, 20))
        population = world.population(POOL)
        truth, spread = float(population.mean()), float(population.std())
        one: dict[str, float] = {"difference": round(truth, 6), "standard deviation": round(spread, 4)}
        for n in SIZES:
            t = truth / spread * np.sqrt(n)
            z = stats.norm.isf(LEVEL / 2)
            one[f"significant, n={n}"] = called(population, n, n_repetitions, 0)
            one[f"theory, n={n}"] = round(float(stats.norm.sf(z - t) + stats.norm.cdf(-z - t)), 4)
        out.append(one)
    return out


def asked_for(n_repetitions: int) -> dict[str, float]:
    """Return the fraction of significant differences at the number of galaxies that `gzoo compare` recommends."""
    world = replace(ALIKE, second=Model(0.65, 20))
    population = world.population(POOL)
    z = stats.norm.isf(LEVEL / 2) + stats.norm.isf(1 - POWER)
    n = int(np.ceil((z * population.std() / population.mean()) ** 2))
    return {"galaxies": n, "significant": called(population, n, n_repetitions, 0)}


def main() -> None:
    parser = arguments(__doc__, "compare_null.json")
    parser.add_argument("--n-repetitions", type=int, default=2000, help="repetitions (default: 2000)")
    parser.add_argument("--quick", action="store_true", help="one set of seeds, small pools, and write only to --out")
    given = parser.parse_args()
    n_repetitions, seeds = given.n_repetitions, (0,) if given.quick else (0, 1, 2, 3)
    n_population = 400_000 if given.quick else POPULATION
    begun = time.perf_counter()
    result: dict[str, object] = {"repetitions": n_repetitions, "seeds": ["r", "(1, r)", "(2, r)", "(3, r)"]}

    def report(name: str, value: object) -> None:
        result[name] = value
        print(f"{time.perf_counter() - begun:7.0f} s  {name}: {json.dumps(value)}", flush=True)

    unlike = equal(World((0.9, 0.6, 0.2), Model(0.35, 100), Model(0.5, 15)))
    report("unlike models", {"overconfident": vars(unlike.first), "underconfident": vars(unlike.second)})
    for name, world in (("alike", ALIKE), ("unlike", unlike)):
        pool = world.population(n_population)
        pool -= pool.mean()  # the pool is the population, so the difference is exactly zero
        for n in SIZES:
            report(f"null, significant, {name}, n={n}", [called(pool, n, n_repetitions, seed) for seed in seeds])
    for name, first, second in (
        ("alike", Model(0.5, 20), Model(0.5, 20)),
        ("unlike", Model(0.35, 100), Model(0.5, 15)),
    ):
        pools = []
        for fractions in KINDS:
            world = World(fractions, first, second)
            pool = (world if name == "alike" else equal(world)).population(POOL)
            pools.append(pool - pool.mean())
        for n in SIZES:
            report(f"60 questions, {name}, n={n}", [any_called(pools, n, n_repetitions, seed) for seed in seeds])
    report("power", power(n_repetitions))
    report("recommended number of galaxies", asked_for(n_repetitions))
    for name, world in (("close", CLOSE), ("one overconfident", OVERCONFIDENT)):
        truth = float(world.population(n_population).mean())
        for n in SIZES:
            report(f"coverage, {name}, n={n}", [coverage(world, n, n_repetitions, seed, truth) for seed in seeds])
    result["seconds"] = round(time.perf_counter() - begun)
    save(given, result)


if __name__ == "__main__":
    main()
