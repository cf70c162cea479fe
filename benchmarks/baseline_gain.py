"""Gain over the baseline of predictors that know only the training votes: it must be near 0 on every question.

    python benchmarks/baseline_gain.py [--quick] [--seeds 3] [--out FILE]

Votes of GZ FERENGI are simulated without images; one of its questions allows several answers. Half of the galaxies
train, the others are scored. The predictors see no image:

- "recalibrated": the training votes' mean fractions for every galaxy, with a spread that `gzoo recalibrate`'s fit finds
  in the training votes, one number per question;
- "half": for each galaxy, the concentrations fitted to the votes of a random half of the training galaxies;
- "moments": mean fractions and the spread of the training votes, by the method of moments.

The largest gain of any question, and that of the question with several answers, are given in nats per galaxy; the bar
is 0.1. For comparison, "binomial" is the gain of "moments" over a baseline without spread for these answers.

Writes benchmarks/results/baseline_gain.json.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from measuring import arguments, write

from gzoo.scoring.likelihood import fit_baseline, sampling_noise
from gzoo.scoring.predictions import Predictions
from gzoo.scoring.recalibration import fit_recalibration
from gzoo.scoring.scores import compute
from gzoo.simulator import simulate
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import FloatArray, IntArray
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
    for seed in range(seeds):
        votes = simulated(CAMPAIGN, n, seed)
        result[f"seed {seed}"] = gains(votes.take(np.arange(n) % 2 == 0), votes.take(np.arange(n) % 2 == 1), seed)
    largest = [one["largest"] for each in result.values() if isinstance(each, dict) for one in each["gain"].values()]
    write(options, {**result, "largest": max(largest), "holds": max(largest) <= BAR})


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


def gains(train: Votes, test: Votes, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return the largest gain of each predictor over the baseline."""
    tree, rng = train.tree, np.random.default_rng(seed)
    several = next(question.name for question in tree.questions if question.multiple)
    baseline, moments = fit_baseline(train), by_moments(train)
    same = np.broadcast_to(mean_fractions(train), (1, len(train), len(tree.columns)))
    recalibrated = fit_recalibration(train, same, "fractions").apply(same[:, :1], tree)[0, 0]
    halves = [fit_baseline(train.take(rng.random(len(train)) < 0.5)) for _ in range(8)]
    predictors = {
        "recalibrated": np.broadcast_to(recalibrated, (len(test), len(baseline))),
        "half": np.stack(halves)[rng.integers(len(halves), size=len(test))],
        "moments": np.broadcast_to(moments, (len(test), len(baseline))),
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
    return {"gain": found}


def mean_fractions(votes: Votes) -> FloatArray:
    """Return the mean vote fraction of each answer, each vote with the same weight."""
    totals = votes.totals[:, list(votes.tree.question_of_answer)].sum(axis=0)
    return (votes.counts.sum(axis=0) + 0.01) / (totals + 0.02)


def by_moments(votes: Votes) -> FloatArray:
    """Return concentrations with the mean and the variance of the vote fractions of galaxies with votes."""
    tree, found = votes.tree, np.ones(len(votes.tree.concentrations))
    mean = mean_fractions(votes)
    for i, question in enumerate(tree.questions):
        rows: IntArray = np.flatnonzero(votes.totals[:, i] > 1)
        own, to = tree.slice(question.name), tree.concentration_slice(question.name)
        if not len(rows):
            continue
        fraction = votes.counts[rows, own] / votes.totals[rows, i, None]
        noise = sampling_noise(fraction, votes.totals[rows, i, None]).mean(axis=0)
        p = mean[own] if question.multiple else mean[own] / mean[own].sum()
        variance = np.maximum(((fraction - p) ** 2).mean(axis=0) - noise, 1e-4)
        if question.multiple:
            total = np.maximum(p * (1 - p) / variance - 1, 0.05)
            found[to] = np.concatenate([total * p, total * (1 - p)])
        else:
            found[to] = max(float((p * (1 - p)).sum() / variance.sum()) - 1, 0.05) * p
    return found


if __name__ == "__main__":
    main()
