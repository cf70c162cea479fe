"""How often the audit finds the parent answers of a question when some votes are corrupted.

    python benchmarks/audit_gates.py [--n 2000] [--spoiled 0.05] [--seeds 3] [CAMPAIGN ...]

Each campaign is simulated without images, and a fraction of the rows is corrupted: in each of these rows, a third of
the answers (at least two) get a random vote count, up to the largest count of the row. Then the parent answers of each
question are inferred from the vote counts alone.

- found: the parent answers of the tree are the best ones, or equivalent to them (within half a percentage point of the
  rows);
- false: the inferred parent answers are reported as certain, and those of the tree are not equivalent to them.

Writes benchmarks/results/audit_gates.json.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from measuring import arguments, save

from gzoo.simulator import simulate
from gzoo.trees.campaign import campaigns, tree
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.parents import infer_parents


def main() -> None:
    parser = arguments(__doc__, "audit_gates.json")
    names = [one.name for one in campaigns() if not one.members]
    parser.add_argument("campaigns", nargs="*", default=names, metavar="CAMPAIGN", help="campaigns (default: all)")
    parser.add_argument("--n", type=int, default=2000, help="galaxies of each campaign (default: 2000)")
    parser.add_argument("--spoiled", type=float, default=0.05, help="fraction of corrupted rows (default: 0.05)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
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
            missed_here, wrong, n_questions = judged(tree(name), counts, totals)
            seconds += time.perf_counter() - begun
            n_found, n_all, n_false = (
                n_found + n_questions - len(missed_here),
                n_all + n_questions,
                n_false + len(wrong),
            )
            missed += [f"seed {seed}: {one}" for one in missed_here]
        sums += (n_found, n_all, n_false)
        result[name] = {"found": n_found, "of": n_all, "false": n_false, "missed": missed}
        print(f"{name:<16} found {n_found} of {n_all}, {n_false} false  {missed[:4]}")
    found, every, false = sums.tolist()
    print(f"{'all':<16} found {found} of {every} ({found / every:.2%}), {false} false, {seconds:.0f} s")
    save(
        options,
        {
            "rows": options.n,
            "fraction of corrupted rows": options.spoiled,
            "seeds": options.seeds,
            "found": found,
            "of": every,
            "fraction found": round(found / every, 4),
            "false": false,
            "seconds": round(seconds, 1),
            "campaigns": result,
        },
    )


def table(name: str, n: int, seed: int, fraction: float) -> tuple[IntArray, IntArray]:
    """Return vote counts and total votes, with a fraction of the rows corrupted."""
    with tempfile.TemporaryDirectory() as folder:
        made = simulate(name, n_galaxies=n, seed=seed, images=False, export=False, out=Path(folder) / "sky")
        votes = pl.read_parquet(made.votes)
    questions = tree(name)
    counts = votes.select(questions.columns).to_numpy().astype(np.int64)
    rng = np.random.default_rng([seed, n])
    for row in rng.permutation(n)[: round(fraction * n)]:
        answers = rng.permutation(counts.shape[1])[: max(2, counts.shape[1] // 3)]
        counts[row, answers] = rng.integers(0, max(int(counts[row].max()), 1) + 1, len(answers))
    return counts, questions.totals(counts)


def judged(asked: Tree, counts: IntArray, totals: IntArray) -> tuple[Sequence[str], Sequence[str], int]:
    """Return the questions whose parent answers were not found, those with false ones, and how many have votes."""
    places = [i for i in range(len(asked.questions)) if totals[:, i].any()]
    questions = [(asked.questions[i].name, asked.questions[i].columns) for i in places]
    missed: list[str] = []
    false: list[str] = []
    for i, inferred in zip(places, infer_parents(counts, asked.columns, questions, totals[:, places]), strict=True):
        wanted = set(asked.questions[i].parents)
        if wanted in [set(inferred.answers), *map(set, inferred.equivalents)]:
            continue
        missed.append(asked.questions[i].name)
        if inferred.is_certain:
            false.append(asked.questions[i].name)
    return missed, false, len(places)


if __name__ == "__main__":
    main()
