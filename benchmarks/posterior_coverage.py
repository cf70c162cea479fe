"""Coverage of the posterior's 90% credible intervals.

    python benchmarks/posterior_coverage.py [--n 20000] [--seeds 4]

The ground truth is drawn from the prediction and the votes from the ground truth. Then the 90% credible interval of
`gzoo catalog` either covers the ground truth or not. One answer of one question of each galaxy counts, so that all
intervals are independent. The kinds are:

- two answers, and more answers (3 to 6);
- questions with several answers at once, with total concentrations of 1, 5 or 30;
- mixtures of 3 members: the ground truth is drawn from one of them;
- the proportion of volunteers asked, with the whole tree of Galaxy Zoo 2;
- two and four answers with concentrations of at least 1, whose distributions are not U-shaped.

Galaxies have 0 to 40 votes, and concentrations are 0.02 to 1,000. The fractions of ground truths below and above the
interval are also given; they should be equal.

An interval that begins at 0 or ends at 1 (within a millionth) cannot miss the ground truth on that side. So intervals
of U-shaped distributions with few votes cover more often than their level. The coverage is given for all intervals, and
for those with both ends inside, which predictions and votes alone determine.

Seed 0 was fixed in advance, and three further seeds are reported. Writes benchmarks/results/posterior_coverage.json.
"""

from __future__ import annotations

import json

import numpy as np
from measuring import arguments, save

from gzoo.scoring.posterior import Posterior, posterior
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

LEVEL = 0.9
MIN = 1e-6  # values nearer to 0 or 1 count as 0 or 1


def main() -> None:
    parser = arguments(__doc__, "posterior_coverage.json")
    parser.add_argument("--n", type=int, default=20_000, help="intervals of each kind (default: 20,000)")
    parser.add_argument("--seeds", type=int, default=4, help="number of seeds (default: 4)")
    options = parser.parse_args()
    result: dict[str, object] = {"intervals of each kind": options.n, "level": LEVEL}
    for seed in range(options.seeds):
        found = {
            "two answers, concentrations of at least 1": dirichlet(options.n, 2, 1, seed, least=1.0),
            "4 answers, concentrations of at least 1": dirichlet(options.n, 4, 1, seed, least=1.0),
            "two answers": dirichlet(options.n, 2, 1, seed),
            **{f"{k} answers": dirichlet(options.n, k, 1, seed) for k in (3, 4, 6)},
            **{f"several answers at once, total concentration {s}": several(options.n, s, seed) for s in (1, 5, 30)},
            "mixture, two answers": dirichlet(options.n, 2, 3, seed),
            "mixture, 4 answers": dirichlet(options.n, 4, 3, seed),
            "proportion of volunteers asked": proportion_asked(options.n, 1, seed),
            "proportion of volunteers asked, mixture": proportion_asked(options.n, 3, seed),
        }
        result[f"seed {seed}"] = found
        for kind, one in found.items():
            print(seed, f"{kind:<48}", json.dumps(one), flush=True)
    save(options, result)


def one_question(n_answers: int, *, multiple: bool = False) -> Tree:
    names = tuple("abcdefghij"[:n_answers])
    return Tree("one", (Question("q", names, tuple(f"q_{name}" for name in names), multiple=multiple),))


def volunteers(n: int, rng: np.random.Generator) -> IntArray:
    return rng.integers(0, 41, n)


def dirichlet(n: int, n_answers: int, n_members: int, seed: int, least: float = 0.02) -> dict[str, float]:
    """Return the coverage for a question with one answer per volunteer."""
    rng = np.random.default_rng([n_answers, n_members, seed])
    predicted = np.exp(rng.uniform(np.log(least), np.log(1000), (n_members, n, n_answers)))
    member = rng.integers(n_members, size=n)
    truth = drawn(predicted[member, np.arange(n)], rng)
    counts = rng.multinomial(volunteers(n, rng), truth).astype(np.int64)
    found = posterior(Votes(one_question(n_answers), counts), predicted)
    return held(*found.interval(LEVEL), truth, rng)


def several(n: int, total_concentration: float, seed: int) -> dict[str, float]:
    """Return the coverage for a question with several answers at once."""
    rng = np.random.default_rng([100, int(total_concentration), seed])
    tree = one_question(3, multiple=True)
    fraction = rng.beta(0.7, 1.5, (n, 3)).clip(1e-4, 1 - 1e-4)
    truth = rng.beta(total_concentration * fraction, total_concentration * (1 - fraction))
    asked = volunteers(n, rng)
    votes = Votes(tree, rng.binomial(asked[:, None], truth), asked[:, None])
    predicted = total_concentration * np.concatenate([fraction, 1 - fraction], axis=1)[None]
    return held(*posterior(votes, predicted).interval(LEVEL), truth, rng)


def proportion_asked(n: int, n_members: int, seed: int) -> dict[str, float]:
    """Return the coverage of the proportion of volunteers asked, for a random question of GZ2 with parent answers."""
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
    """Return the votes of volunteers who answer the questions of the tree."""
    counts = np.zeros(truth.shape, np.int64)
    for question in tree.ordered:
        parents = list(tree.parents_of_question[tree.questions.index(question)])
        asked = counts[:, parents].sum(axis=1) if question.parents else n
        counts[:, tree.slice(question.name)] = rng.multinomial(asked, truth[:, tree.slice(question.name)])
    return counts


def drawn(concentrations: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw vote fractions from Dirichlet distributions, in logarithms because small concentrations give tiny values."""
    log = np.log(rng.gamma(concentrations + 1)) + np.log(rng.random(concentrations.shape)) / concentrations
    fractions = np.exp(log - log.max(axis=1, keepdims=True))
    return fractions / fractions.sum(axis=1, keepdims=True)


def held(low: FloatArray, high: FloatArray, truth: FloatArray, rng: np.random.Generator) -> dict[str, float]:
    """Return how often one column, drawn for each row, covers the truth."""
    rows, column = np.arange(len(truth)), rng.integers(truth.shape[1], size=len(truth))
    low, high, truth = (one[rows, column] for one in (low, high, truth))
    below, above = truth < low - MIN, truth > high + MIN
    inside = (low > 10 * MIN) & (high < 1 - 10 * MIN)
    found: dict[str, float] = {}
    for what, some in (("all", np.ones_like(inside)), ("both ends inside", inside)):
        fraction, n = float((~below & ~above)[some].mean()), int(some.sum())
        found |= {
            f"{what}: intervals": n,
            f"{what}: coverage": round(fraction, 4),
            f"{what}: standard error": round(float(np.sqrt(fraction * (1 - fraction) / n)), 4),
            f"{what}: truth below interval": round(float(below[some].mean()), 4),
            f"{what}: truth above interval": round(float(above[some].mean()), 4),
        }
    return found


if __name__ == "__main__":
    main()
