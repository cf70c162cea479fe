"""How long scores of a catalogue as large as GZ Evo take, and how much memory: 800,000 galaxies, 194 answers.

    python benchmarks/score_speed.py [--n 800000] [--n-answers 194]

Galaxies are in one of the five parts of GZ Evo each, and are asked the questions of its tree, 5 to 40 people, deeper
ones fewer. Predictions are concentrations of the truth, off by noise. Timed is what `gzoo score` does once files are
read: log scores, errors and Brier scores of every question and answer, with intervals from 1,000 draws each.
Drawing galaxies and votes is not timed. Peak memory is that of the whole process, votes and predictions included, which
are in memory at once. Writes benchmarks/results/score_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gzoo.scoring.intervals import N_BOOTSTRAP
from gzoo.scoring.scores import compute
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import Tree
from gzoo.votes.votes import Votes

N_PARTS = 5


def cut(tree: Tree, n_answers: int) -> Tree:
    """The first carried questions of a tree, as many as have that many answers at most."""
    n, kept = 0, []
    for question in tree.questions:
        n += len(question.columns) * question.is_published
        kept.append(replace(question, is_published=question.is_published and n <= n_answers))
    return Tree(tree.name, tuple(kept)).published()


def draw(tree: Tree, n: int, seed: int = 0) -> tuple[Votes, npt.NDArray[np.float64]]:
    """Votes and the concentrations predicted for them; as if every question were asked of a part of the galaxies."""
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
    """Gigabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=800_000)
    parser.add_argument("--n-answers", type=int, default=194)
    asked = parser.parse_args()
    tree = cut(campaign("gz_evo").tree, asked.n_answers)
    votes, alpha = draw(tree, asked.n)
    before = peak()
    baseline = np.ones(len(tree.columns))
    began, cpu = time.perf_counter(), time.process_time()
    scores = compute(votes, alpha, baseline)
    result = {
        "galaxies": asked.n,
        "questions": len(tree.questions),
        "answers": len(tree.columns),
        "bootstrap_repetitions": N_BOOTSTRAP,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_gigabytes": round(peak(), 2),
        "gigabytes_before": round(before, 2),
        "log_likelihood_gain": scores["overall"]["log_likelihood_gain"],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("numpy", "scipy")}},
    }
    text = json.dumps(result, indent=2)
    (Path(__file__).parent / "results" / "score_speed.json").write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
