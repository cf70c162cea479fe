"""Coverage of the intervals of purity and completeness, and how far off they are if votes are taken for the truth.

    python benchmarks/selection_coverage.py [--repetitions 400] [--n 4000] [--quick]

Galaxies of Galaxy Zoo 2 are simulated; the probabilities of their answers are the predictions, each with a total
concentration around 25. In each repetition, the underlying vote fractions are drawn from the predictions (so that the
model is calibrated), and 5 or 40 volunteers walk down the tree. Galaxies are selected by five conditions, from common
to rare, on predictions, posteriors and votes. Then the purity and completeness of these galaxies are known, and are
inside the 90% intervals of `gzoo select` or not.

Given are the median number of selected galaxies, the mean of the truth, of the expected value and of the naive value
(against the voted fractions), and the coverage of both intervals. Writes benchmarks/results/selection_coverage.json.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from measuring import arguments, save
from posterior_coverage import drawn, walked

import gzoo
from gzoo.dataset.expression import Not, parse
from gzoo.dataset.names import Names, bind
from gzoo.scoring.posterior import posterior
from gzoo.scoring.selection import Truth, against_votes, on_votes, quality
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import FloatArray, Tree
from gzoo.votes.votes import Votes

LEVEL = 0.9
N_VOTES = (5, 40)
CONDITIONS = {
    "smooth": "smooth-or-featured.smooth.model > 0.5",
    "face-on disk": "smooth-or-featured.featured-or-disk.posterior > 0.5 and disk-edge-on.no.posterior > 0.7",
    "barred, by votes": "bar.yes > 0.5",
    "spiral with a bar": "has-spiral-arms.yes.model > 0.5 and bar.yes.model > 0.5",
    "barred, and odd or a dominant bulge": (
        "(something-odd.yes.posterior > 0.6 or bulge-size.dominant.posterior > 0.6) and bar.yes.model > 0.5"
    ),
}


def main() -> None:
    parser = arguments(__doc__, "selection_coverage.json")
    parser.add_argument("--repetitions", type=int, default=400, help="repetitions of each case (default: 400)")
    parser.add_argument("--n", type=int, default=4000, help="galaxies in a repetition (default: 4,000)")
    parser.add_argument("--quick", action="store_true", help="20 repetitions of 500 galaxies")
    options = parser.parse_args()
    n, repetitions = (500, 20) if options.quick else (options.n, options.repetitions)
    tree = campaign("gz2").published_tree
    with tempfile.TemporaryDirectory() as folder:
        made = gzoo.simulate("gz2", n_galaxies=n, seed=28, out=Path(folder) / "s", images=False, export=False)
        truth = pl.read_parquet(made.truth)
    means = truth.select([f"{column}_probability" for column in tree.columns]).to_numpy().astype(np.float64).clip(0.005)
    result: dict[str, object] = {"galaxies": n, "repetitions": repetitions, "level": LEVEL}
    coverages: list[float] = []
    for n_votes in N_VOTES:
        rows = {name: list[dict[str, float]]() for name in CONDITIONS}
        for repetition in range(repetitions):
            for name, one in judged(tree, means, n_votes, np.random.default_rng([n_votes, repetition])).items():
                rows[name].append(one)
        for name, some in rows.items():
            found = summary(some)
            result[f"{n_votes} votes, {name}"] = found
            coverages += [found["purity: coverage"], found["completeness: coverage"]]
            print(f"{n_votes:>2} votes  {name:<34}", *(f"{key}={value}" for key, value in found.items()), flush=True)
    result["coverage: smallest"], result["coverage: largest"] = min(coverages), max(coverages)
    result["coverage: mean"] = round(float(np.mean(coverages)), 4)
    print({name: value for name, value in result.items() if name.startswith("coverage")})
    save(options, result)


def judged(tree: Tree, means: FloatArray, n_votes: int, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Return true, expected and naive purity and completeness for each condition."""
    concentrations, fractions = np.empty_like(means), np.empty_like(means)
    for question in tree.questions:
        own = tree.slice(question.name)
        total = 25 * np.exp(rng.normal(0, 0.5, (len(means), 1)))
        concentrations[:, own] = total * means[:, own] / means[:, own].sum(axis=1, keepdims=True)
        fractions[:, own] = drawn(concentrations[:, own], rng)
    votes = Votes(tree, walked(tree, fractions, np.full(len(means), n_votes), rng))
    believed = posterior(votes, concentrations[None])
    predicted = posterior(Votes(tree, np.zeros_like(votes.counts)), concentrations[None]).fractions
    table = votes.to_polars().with_columns(
        pl.Series(f"{question.name}.{answer}.{end}", values[:, tree.columns.index(column)])
        for end, values in (("model", predicted), ("posterior", believed.fractions))
        for question in tree.questions
        for answer, column in zip(question.answers, question.columns, strict=True)
    )
    names = Names(tree, table.schema)
    true = pl.DataFrame({
        f"{question.name}.{answer}": fractions[:, tree.columns.index(column)]
        for question in tree.questions
        for answer, column in zip(question.answers, question.columns, strict=True)
    })  # fmt: skip
    found: dict[str, dict[str, float]] = {}
    for name, text in CONDITIONS.items():
        condition = bind(parse(text), names)
        selected = condition.mask(table).to_numpy()
        of_fractions = on_votes(condition.node, condition.quantities)
        is_true = bind(of_fractions, Names(tree, true.schema)).mask(true).to_numpy()
        probability = Truth(condition.node, condition.quantities, believed, lambda node: np.ones(0, bool)).probability
        got = quality(probability, selected, level=LEVEL)
        by_votes = bind(of_fractions, names)
        met = by_votes.mask(table).to_numpy()
        known = met | bind(Not(by_votes.node), names).mask(table).to_numpy()
        naive = against_votes(met, known, selected)
        n_both = (is_true & selected).sum()
        row: dict[str, float] = {"selected": float(selected.sum())}
        for i, (what, one, value) in enumerate((
            ("purity", got.purity, n_both / max(selected.sum(), 1)),
            ("completeness", got.completeness, n_both / max(is_true.sum(), 1)),
        )):  # fmt: skip
            low, high = one["low"] or 0.0, one["high"] or 0.0
            row |= {f"{what}: truth": float(value), f"{what}: expected": one["value"] or 0.0}
            row |= {f"{what}: naive": naive[i] or 0.0, f"{what}: width": high - low}
            row[f"{what}: coverage"] = float(low - 1e-12 <= value <= high + 1e-12)
        found[name] = row
    return found


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the median number of selected galaxies, and means of all other numbers."""
    found = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
    return found | {"selected": float(np.median([row["selected"] for row in rows]))}


if __name__ == "__main__":
    main()
