"""Time and memory of scores for a catalogue as large as GZ Evo: 800,000 galaxies and 194 answers.

    python benchmarks/score_speed.py [--n 800000] [--n-answers 194]

Each galaxy belongs to one of the five parts of GZ Evo and has votes of 5 to 40 volunteers on the questions of its tree,
with fewer volunteers for questions further down. The predictions are concentrations of the ground truth, with errors.
The time is that of `gzoo score` after reading files: log-likelihoods, errors and Brier scores of each question and
answer, with intervals from 1,000 bootstrap draws each. It excludes the simulation of galaxies and votes. Peak memory is
that of the whole process, with votes and predictions, which are all in memory.

Writes benchmarks/results/score_speed.json.
"""

from __future__ import annotations

import resource
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from measuring import arguments, write

from gzoo.scoring.intervals import N_BOOTSTRAP
from gzoo.scoring.scores import compute
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import Tree
from gzoo.votes.votes import Votes

N_PARTS = 5


def cut(tree: Tree, n_answers: int) -> Tree:
    """Return the first published questions of a tree, with at most `n_answers` answers in total."""
    n, kept = 0, []
    for question in tree.questions:
        n += len(question.columns) * question.is_published
        kept.append(replace(question, is_published=question.is_published and n <= n_answers))
    return Tree(tree.name, tuple(kept)).published()


def draw(tree: Tree, n: int, seed: int = 0) -> tuple[Votes, npt.NDArray[np.float64]]:
    """Return votes and the concentrations predicted for them; each question has votes for some of the galaxies."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((n, len(tree.columns)), np.int64)
    alpha = np.empty((n, len(tree.columns)))
    part = rng.integers(0, N_PARTS, n)
    for i, question in enumerate(tree.questions):
        where = tree.slice(question.name)
        width = where.stop - where.start
        alpha[:, where] = rng.gamma(1.5, 2.0, (n, width)) + 0.05
        depth = rng.uniform(0.05, 1.0)
        asked = np.flatnonzero((part == i * N_PARTS // len(tree.questions)) & (rng.random(n) < depth))
        fractions = rng.gamma(alpha[asked, where])
        fractions /= fractions.sum(axis=1, keepdims=True)
        volunteers = np.maximum(rng.integers(5, 41, len(asked)) * depth, 1).astype(np.int64)
        counts[asked, where] = rng.multinomial(volunteers, fractions)
        alpha[:, where] *= np.exp(rng.normal(0, 0.3, (n, width)))
    totals = np.add.reduceat(counts, list(tree.starts), axis=1)
    return Votes(tree, counts, totals), alpha


def peak() -> float:
    """Return the peak memory in gigabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = arguments(__doc__, "score_speed.json")
    parser.add_argument("--n", type=int, default=800_000, help="number of galaxies (default: 800,000)")
    parser.add_argument("--n-answers", type=int, default=194, help="maximum number of answers (default: 194)")
    options = parser.parse_args()
    tree = cut(campaign("gz_evo").tree, options.n_answers)
    votes, alpha = draw(tree, options.n)
    before = peak()
    baseline = np.ones(len(tree.columns))
    began, cpu = time.perf_counter(), time.process_time()
    scores = compute(votes, alpha, baseline)
    result = {
        "galaxies": options.n,
        "questions": len(tree.questions),
        "answers": len(tree.columns),
        "bootstrap_repetitions": N_BOOTSTRAP,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_gigabytes": round(peak(), 2),
        "gigabytes_before": round(before, 2),
        "log_likelihood_gain": scores.overall["log_likelihood_gain"],
    }
    write(options, result)


if __name__ == "__main__":
    main()
