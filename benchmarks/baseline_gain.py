"""Gain over the baseline of predictors that know only the training votes: it must be near 0 on every question.

    python benchmarks/baseline_gain.py [--quick] [--seeds 3] [--out FILE]

Votes of GZ FERENGI are simulated without images; one of its questions allows several answers. Half of the galaxies
train, the others are scored. The predictors see no image:

- "half": for each galaxy, the concentrations fitted to the votes of a random half of the training galaxies;
- "recalibrated": the training votes' mean fractions for every galaxy, with the spread that `gzoo recalibrate`'s fit
  finds in the training votes.

Gains are in nats per galaxy. The bar is 0.1 in both directions. For comparison, "without spread" is the gain of "half"
over a baseline whose several answers have no spread of their own.

Writes benchmarks/results/baseline_gain.json.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from measuring import arguments, write

from gzoo.scoring.likelihood import fit_baseline, question_fractions
from gzoo.scoring.predictions import Predictions
from gzoo.scoring.recalibration import fit_recalibration
from gzoo.scoring.scores import compute
from gzoo.simulator import simulate
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import FloatArray
from gzoo.votes.votes import Votes

CAMPAIGN, BAR = "gz_ferengi", 0.1


def main() -> None:
    parser = arguments(__doc__, "baseline_gain.json")
    parser.add_argument("--quick", action="store_true", help="use 2,000 galaxies and one seed, and write only to --out")
    parser.add_argument("--n", type=int, default=10_000, help="galaxies (default: 10,000)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    options = parser.parse_args()
    n, seeds = (2000, 1) if options.quick else (options.n, options.seeds)
    result: dict[str, object] = {"galaxies": n, "bar": BAR}
    found: list[dict[str, dict[str, float]]] = []
    for seed in range(seeds):
        votes = simulated(CAMPAIGN, n, seed)
        found.append(gains(votes.take(np.arange(n) % 2 == 0), votes.take(np.arange(n) % 2 == 1), seed))
        result[f"seed {seed}"] = found[-1]
    each = [one for gain in found for one in gain.values()]
    most = max(one["largest"] for one in each)
    least = min(one["smallest"] for gain in found for one in gain.values())
    write(options, {**result, "largest": most, "smallest": least, "holds": most <= BAR and least >= -BAR})


def simulated(name: str, n: int, seed: int) -> Votes:
    """Return simulated votes of a campaign."""
    tree = campaign(name).tree
    with tempfile.TemporaryDirectory() as folder:
        made = simulate(name, n_galaxies=n, seed=seed, images=False, out=Path(folder) / "sky")
        table = pl.read_parquet(made.votes)
    counts = table.select(tree.columns).to_numpy().astype(np.int64)
    totals = tree.totals(counts)
    for i, question in enumerate(tree.questions):
        if question.multiple:
            totals[:, i] = table[question.total_column].to_numpy()
    return Votes(tree, counts, totals)


def gains(train: Votes, test: Votes, seed: int) -> dict[str, dict[str, float]]:
    """Return the gains of each predictor over the baseline."""
    tree, rng = train.tree, np.random.default_rng(seed)
    several = next(question.name for question in tree.questions if question.multiple)
    baseline = fit_baseline(train)
    same = np.broadcast_to(mean_fractions(train), (1, len(train), len(tree.columns)))
    recalibrated = fit_recalibration(train, same, "fractions").apply(same[:, :1], tree)[0, 0]
    halves = [fit_baseline(train.take(rng.random(len(train)) < 0.5)) for _ in range(8)]
    predictors = {
        "recalibrated": np.broadcast_to(recalibrated, (len(test), len(baseline))),
        "half": np.stack(halves)[rng.integers(len(halves), size=len(test))],
    }
    found: dict[str, dict[str, float]] = {}
    for name, concentrations in predictors.items():
        questions = compute(test, Predictions.of_concentrations(concentrations, tree), baseline).questions
        each = {one: score["log_likelihood_gain"]["value"] for one, score in questions.items()}
        known = {one: value for one, value in each.items() if value is not None}
        worst = max(known, key=lambda one: abs(known[one]))
        found[name] = {"largest": round(max(known.values()), 4), "several answers": round(known[several], 4)}
        found[name]["smallest"] = round(min(known.values()), 4)
        print(f"{name}: largest {worst} {known[worst]:.4f}, {several} {known[several]:.4f}", flush=True)
    narrow, i = baseline.copy(), tree.concentration_slice(several)
    fractions = question_fractions(baseline[i], is_multiple=True)
    narrow[i] = 1e5 * np.concatenate([fractions, 1 - fractions])
    scored = compute(test, Predictions.of_concentrations(predictors["half"], tree), narrow).questions[several]
    found["half"]["without spread"] = round(scored["log_likelihood_gain"]["value"] or 0.0, 4)
    return found


def mean_fractions(votes: Votes) -> FloatArray:
    """Return the mean vote fraction of each answer, each vote with the same weight."""
    totals = votes.totals[:, list(votes.tree.question_of_answer)].sum(axis=0)
    return (votes.counts.sum(axis=0) + 0.01) / (totals + 0.02)


if __name__ == "__main__":
    main()
