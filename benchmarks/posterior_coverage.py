"""Do posterior intervals hold as often as they say?

Truth is drawn from the prediction, votes from the truth, and the 90 % interval of `combine` either holds the truth or
not. One answer of one question of a galaxy counts, so that all intervals are independent. Kinds: two answers, many
answers (3 to 6), several answers allowed at once (odds whose worth in votes is to be found out: truly 1, 5 or 30),
mixtures (3 members: truth is drawn from one of them), the probability of being asked (whole trees of GZ2), all with 0
to 40 votes, and concentrations from 0.02 to 1,000; and two and four answers with concentrations from 1 on, whose
beliefs are not U-shaped. Tails are to be equal, so the shares of truths below and above the
interval are given too.

An interval that begins at 0 or ends at 1, to a millionth, cannot miss on that side: where U-shaped beliefs have few
votes, intervals hold more often than they say. So all intervals are counted, and apart from them those with both ends
inside; which these are is known from predictions and votes alone.

    python benchmarks/posterior_coverage.py [--n 20000] [--seeds 4]

Seed 0 was fixed beforehand; three further seeds are reported. Writes benchmarks/results/posterior_coverage.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

from gzoo.scoring.posterior import Posterior, fit_total_concentration, posterior
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

LEVEL = 0.9
MIN = 1e-6  # what is nearer to 0 or 1 cannot be told from it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20_000, help="Intervals of each kind.")
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    result: dict[str, object] = {"intervals of each kind": options.n, "level": LEVEL}
    for seed in range(options.seeds):
        found = {
            "two answers, concentrations from 1": dirichlet(options.n, 2, 1, seed, least=1.0),
            "4 answers, concentrations from 1": dirichlet(options.n, 4, 1, seed, least=1.0),
            "two answers": dirichlet(options.n, 2, 1, seed),
            **{f"{k} answers": dirichlet(options.n, k, 1, seed) for k in (3, 4, 6)},
            **{f"several at once, worth {s}": odds(options.n, s, seed) for s in (1, 5, 30)},
            "mixture, two answers": dirichlet(options.n, 2, 3, seed),
            "mixture, 4 answers": dirichlet(options.n, 4, 3, seed),
            "probability of being asked": proportion_asked(options.n, 1, seed),
            "the same, mixture": proportion_asked(options.n, 3, seed),
        }
        result[f"seed {seed}"] = found
        for kind, one in found.items():
            print(seed, f"{kind:<28}", json.dumps(one), flush=True)
    result["machine"] = {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    result["versions"] = {name: version(name) for name in ("numpy", "scipy")} | {"python": platform.python_version()}
    path = Path(__file__).parent / "results" / "posterior_coverage.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


def one_question(n_answers: int, *, multiple: bool = False) -> Tree:
    names = tuple("abcdefghij"[:n_answers])
    return Tree("one", (Question("q", names, tuple(f"q_{name}" for name in names), multiple=multiple),))


def volunteers(n: int, rng: np.random.Generator) -> IntArray:
    return rng.integers(0, 41, n)


def dirichlet(n: int, n_answers: int, n_members: int, seed: int, least: float = 0.02) -> dict[str, float]:
    rng = np.random.default_rng([n_answers, n_members, seed])
    predicted = np.exp(rng.uniform(np.log(least), np.log(1000), (n_members, n, n_answers)))
    member = rng.integers(n_members, size=n)
    truth = drawn(predicted[member, np.arange(n)], rng)
    counts = rng.multinomial(volunteers(n, rng), truth).astype(np.int64)
    found = posterior(Votes(one_question(n_answers), counts), predicted)
    return held(*found.interval(LEVEL), truth, rng)


def odds(n: int, worth: float, seed: int) -> dict[str, float]:
    rng = np.random.default_rng([100, int(worth), seed])
    tree = one_question(3, multiple=True)
    fraction = rng.beta(0.7, 1.5, (n, 3)).clip(1e-4, 1 - 1e-4)
    truth = rng.beta(worth * fraction, worth * (1 - fraction))
    asked = volunteers(n, rng)
    votes = Votes(tree, rng.binomial(asked[:, None], truth), asked[:, None])
    predicted = (fraction / (1 - fraction))[None]
    fitted = fit_total_concentration(votes, predicted)
    found = posterior(votes, predicted, fitted)
    return {**held(*found.interval(LEVEL), truth, rng), "worth found, mean": round(float(fitted.mean()), 3)}


def proportion_asked(n: int, n_members: int, seed: int) -> dict[str, float]:
    """Of one question of GZ2 a galaxy, not the first, drawn among those of which anything is open."""
    rng = np.random.default_rng([200, n_members, seed])
    tree = campaign("gz2").published_tree
    predicted = np.exp(rng.uniform(np.log(0.1), np.log(100), (n_members, n, len(tree.columns))))
    truth = np.empty(predicted.shape[1:])
    for question in tree.questions:
        own, member = tree.slice(question.name), rng.integers(n_members, size=n)
        truth[:, own] = drawn(predicted[member, np.arange(n), own], rng)
    counts = walked(tree, truth, volunteers(n, rng), rng)
    found: Posterior = posterior(Votes(tree, counts), predicted)
    low, high = found.proportion_asked_interval(LEVEL)
    below = [i for i, question in enumerate(tree.questions) if question.parents]
    return held(low[:, below], high[:, below], tree.proportion_asked(truth)[:, below], rng)


def walked(tree: Tree, truth: FloatArray, n: IntArray, rng: np.random.Generator) -> IntArray:
    """Votes of people who walk down the tree."""
    counts = np.zeros(truth.shape, np.int64)
    for question in tree.ordered:
        parents = list(tree.parents_of_question[tree.questions.index(question)])
        asked = counts[:, parents].sum(axis=1) if question.parents else n
        counts[:, tree.slice(question.name)] = rng.multinomial(asked, truth[:, tree.slice(question.name)])
    return counts


def drawn(concentrations: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Shares from Dirichlet distributions, in logarithms, for small concentrations give small numbers."""
    log = np.log(rng.gamma(concentrations + 1)) + np.log(rng.random(concentrations.shape)) / concentrations
    fractions = np.exp(log - log.max(axis=1, keepdims=True))
    return fractions / fractions.sum(axis=1, keepdims=True)


def held(low: FloatArray, high: FloatArray, truth: FloatArray, rng: np.random.Generator) -> dict[str, float]:
    """How often one column, drawn for each row, holds the truth."""
    rows, column = np.arange(len(truth)), rng.integers(truth.shape[1], size=len(truth))
    low, high, truth = (one[rows, column] for one in (low, high, truth))
    below, above = truth < low - MIN, truth > high + MIN
    inside = (low > 10 * MIN) & (high < 1 - 10 * MIN)
    found: dict[str, float] = {}
    for what, some in (("all", np.ones_like(inside)), ("inside", inside)):
        fraction, n = float((~below & ~above)[some].mean()), int(some.sum())
        found |= {
            f"{what}: intervals": n,
            f"{what}: held": round(fraction, 4),
            f"{what}: standard error": round(float(np.sqrt(fraction * (1 - fraction) / n)), 4),
            f"{what}: truth below": round(float(below[some].mean()), 4),
            f"{what}: truth above": round(float(above[some].mean()), 4),
        }
    return found


if __name__ == "__main__":
    main()
