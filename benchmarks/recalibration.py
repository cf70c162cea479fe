"""Whether recalibration corrects an overconfident or underconfident model on galaxies that it was not fitted to.

    python benchmarks/recalibration.py [--n 6000] [CAMPAIGN ...]

Simulated volunteers classify simulated galaxies, without images. Two models predict the ground truth with errors; one
is overconfident, the other underconfident. The recalibration is fitted to half of the galaxies and evaluated on the
other half: log-likelihood gain, dispersion factor, coverage of 90% prediction intervals, and verdicts at a family-wise
error rate of 1%.

Writes benchmarks/results/recalibration.json.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from measuring import arguments, save

from gzoo.scoring.calibration import Calibration, calibration_of
from gzoo.scoring.intervals import Blocks
from gzoo.scoring.likelihood import dirichlet_multinomial_nll
from gzoo.scoring.predictions import Predictions
from gzoo.scoring.recalibration import fit_recalibration
from gzoo.simulator import simulate
from gzoo.trees.campaign import tree
from gzoo.trees.tree import FloatArray, Tree
from gzoo.votes.votes import Votes

# standard deviation of the errors of log vote fractions, and predicted concentration
MODELS = {"overconfident": (0.5, 150.0), "underconfident": (0.2, 4.0)}


def main() -> None:
    parser = arguments(__doc__, "recalibration.json")
    names = ["gz2", "gz_hubble"]
    parser.add_argument("campaigns", nargs="*", default=names, metavar="CAMPAIGN", help="default: gz2 gz_hubble")
    parser.add_argument("--n", type=int, default=6000, help="galaxies of each campaign (default: 6000)")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for name in options.campaigns:
        for seed in range(2):
            votes, truth = simulated(name, options.n, seed)
            for model, (error, concentration) in MODELS.items():
                rng = np.random.default_rng(seed)
                predicted = concentration * with_error(truth, votes.tree, error, rng)
                rows.append({"campaign": name, "seed": seed, "model": model, **judge(votes, predicted)})
                print(json.dumps(rows[-1], indent=1), flush=True)
    save(options, {"galaxies": options.n, "cases": rows})


def simulated(name: str, n: int, seed: int) -> tuple[Votes, FloatArray]:
    """Return the votes, and the true probability of each answer."""
    questions = tree(name).published()
    single = Tree(name, tuple(one for one in questions.questions if not one.multiple), questions.unavailable)
    with tempfile.TemporaryDirectory() as folder:
        made = simulate(name, n_galaxies=n, seed=seed, images=False, out=Path(folder) / "sky")
        table = pl.read_parquet(made.votes)
        known = pl.read_parquet(made.folder / "truth.parquet")
    truth = table.select("id_str").join(known, on="id_str", how="left", maintain_order="left")
    counts = table.select(single.columns).to_numpy().astype(np.int64)
    return Votes(single, counts), truth.select(f"{column}_probability" for column in single.columns).to_numpy()


def with_error(truth: FloatArray, questions: Tree, error: float, rng: np.random.Generator) -> FloatArray:
    """Return vote fractions with errors of their logarithms."""
    fractions = np.clip(truth, 1e-3, None) * np.exp(rng.normal(0, error, truth.shape))
    for question in questions.questions:
        own = questions.slice(question.name)
        fractions[:, own] /= fractions[:, own].sum(axis=1, keepdims=True)
    return fractions


def judge(votes: Votes, predicted: FloatArray) -> dict[str, object]:
    """Evaluate before and after recalibration, on the half that it was not fitted to."""
    fitted_on, judged_on = np.arange(0, len(votes), 2), np.arange(1, len(votes), 2)
    recalibration = fit_recalibration(votes.take(fitted_on), predicted[None, fitted_on])
    unseen = votes.take(judged_on)
    before = predicted[None, judged_on]
    after = recalibration.apply(before, votes.tree)
    cost = [dirichlet_multinomial_nll(unseen.counts, one[0], votes.tree).sum() / len(unseen) for one in (before, after)]
    return {
        "gain_nats_per_galaxy": round(float(cost[0] - cost[1]), 4),
        "before": summary(calibrated(unseen, before)),
        "after": summary(calibrated(unseen, after)),
    }


def calibrated(votes: Votes, values: FloatArray) -> Calibration:
    n = len(votes)
    keys = pl.DataFrame({"dataset_name": ["simulated"] * n, "id_str": [str(i) for i in range(n)]})
    names = tuple(question.name for question in votes.tree.questions)
    predictions = Predictions(votes.tree, keys, "concentrations", values, names, np.zeros(n, bool), Path("simulated"))
    return calibration_of(votes, predictions, Blocks(np.arange(n), n, "galaxies"))


def summary(found: Calibration) -> dict[str, object]:
    asked = [one for one in found["questions"].values() if one["n_used"] >= 30]
    verdicts = [one["verdict"] for one in asked]
    factors = [one["dispersion"]["dispersion_factor"] for one in asked]
    known = [one["value"] for one in factors if one["value"] is not None]
    ends = [(one["low"] or 0.0, one["high"] or np.inf) for one in factors]
    held = [one["central"]["coverage"][one["central"]["levels"].index(0.9)] for one in asked if one["central"]]
    return {
        "verdicts": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
        "median_dispersion_factor": round(float(np.median(known)), 3),
        "fraction_of_factor_intervals_with_1": round(float(np.mean([low <= 1 <= high for low, high in ends])), 3),
        "coverage_of_90_percent_intervals_min_median_max": [
            round(min(held), 3),
            round(float(np.median(held)), 3),
            round(max(held), 3),
        ],
    }


if __name__ == "__main__":
    main()
