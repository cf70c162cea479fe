"""Which gates are found from votes of which some are spoiled? All campaigns, several seeds.

    python benchmarks/audit_gates.py [--n 2000] [--spoiled 0.05] [--seeds 3] [CAMPAIGN ...]

Simulates each campaign without images and spoils a share of the rows: in each of those a third of the answers
(at least two) get a random number of votes, up to the most in that row. Then the gate of every question is searched
from the counts alone. A gate is found if the tree's own is the best or as good as the best (within half a point of
the share of rows). A gate is named falsely if it is called certain and the tree's is not in its class.

The same is done for tables with fewer rows and fewer votes. Writes benchmarks/results/audit_gates.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl

from gzoo.simulator import simulate
from gzoo.trees.campaign import campaigns, tree
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.parents import infer_parents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaigns", nargs="*", default=[one.name for one in campaigns() if not one.members])
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--spoiled", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    result: dict[str, object] = {}
    sums = np.zeros(3, int)
    seconds = 0.0
    for name in options.campaigns:
        n_found = n_all = n_false = 0
        missed: list[str] = []
        for seed in range(options.seeds):
            counts, totals = table(name, options.n, seed, options.spoiled)
            begun = time.perf_counter()
            found, wrong, all_gates = judged(tree(name), counts, totals)
            seconds += time.perf_counter() - begun
            n_found, n_all, n_false = n_found + all_gates - len(found), n_all + all_gates, n_false + len(wrong)
            missed += [f"seed {seed}: {one}" for one in found]
        sums += (n_found, n_all, n_false)
        result[name] = {"found": n_found, "of": n_all, "named falsely": n_false, "missed": missed}
        print(f"{name:<16} {n_found} of {n_all} found, {n_false} named falsely  {missed[:4]}")
    found, every, false = sums.tolist()
    print(f"all              {found} of {every} found ({found / every:.2%}), {false} named falsely, {seconds:.0f} s")
    facts = {
        "rows": options.n,
        "spoiled": options.spoiled,
        "seeds": options.seeds,
        "found": found,
        "of": every,
        "fraction": round(found / every, 4),
        "named falsely": false,
        "seconds": round(seconds, 1),
        "campaigns": result,
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {name: version(name) for name in ("scipy", "numpy")} | {"python": platform.python_version()},
    }
    path = Path(__file__).parent / "results" / "audit_gates.json"
    path.write_text(json.dumps(facts, indent=2) + "\n")


def table(name: str, n: int, seed: int, fraction: float) -> tuple[IntArray, IntArray]:
    """Votes and people asked, a share of the rows spoiled."""
    with tempfile.TemporaryDirectory() as folder:
        made = simulate(name, n_galaxies=n, seed=seed, images=False, export=False, out=Path(folder) / "sky")
        votes = pl.read_parquet(made.votes)
    asked = tree(name)
    counts = votes.select(asked.columns).to_numpy().astype(np.int64)
    rng = np.random.default_rng([seed, n])
    spoiled = rng.permutation(n)[: round(fraction * n)]
    for row in spoiled:
        answers = rng.permutation(counts.shape[1])[: max(2, counts.shape[1] // 3)]
        counts[row, answers] = rng.integers(0, max(int(counts[row].max()), 1) + 1, len(answers))
    return counts, asked.totals(counts)


def judged(asked: Tree, counts: IntArray, totals: IntArray) -> tuple[Sequence[str], Sequence[str], int]:
    """Questions whose gate was not found, those with a false gate called certain, and how many have votes."""
    places = [i for i in range(len(asked.questions)) if totals[:, i].any()]
    questions = [(asked.questions[i].name, asked.questions[i].columns) for i in places]
    missed: list[str] = []
    false: list[str] = []
    for i, gate in zip(places, infer_parents(counts, asked.columns, questions, totals[:, places]), strict=True):
        wanted = set(asked.questions[i].parents)
        if wanted in [set(gate.answers), *map(set, gate.equivalents)]:
            continue
        missed.append(asked.questions[i].name)
        if gate.is_certain:
            false.append(asked.questions[i].name)
    return missed, false, len(places)


if __name__ == "__main__":
    main()
