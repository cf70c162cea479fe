"""Effect of volunteer weights on the error of vote fractions, and detection of bots.

    python benchmarks/volunteers.py [--n 3000] [--seeds 3] [--coadd ../shared/data/gz2_coadd/counts.csv] [CAMPAIGN ...]

Simulated volunteers have a known care, and simulated galaxies have known probabilities of a careful volunteer's
answers. For each campaign, starting from the classification export:

- mean squared error of the vote fractions, unweighted and weighted, relative to the careful volunteer's probabilities;
  their difference over galaxies, with a 95% confidence interval (normal, galaxies independent); the same with
  consistency weights alone, without the rules for bots;
- fraction of flagged bots and of flagged humans, among volunteers with enough classifications for the rules; also for
  an export without durations;
- mean weight of careful volunteers (care of at least 0.9).

For real votes of Galaxy Zoo 2 (Stripe 82, if available): the consistency and weight of a volunteer who answers at
random.

Writes benchmarks/results/volunteers.json.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from measuring import arguments, save

from gzoo import mapping, read_votes
from gzoo.simulator import SimulateResult, simulate
from gzoo.trees.campaign import campaign, tree
from gzoo.trees.tree import FloatArray
from gzoo.zooniverse import ExportFiles, consistency, ingest
from gzoo.zooniverse.classifications import Classifications


def main() -> None:
    parser = arguments(__doc__, "volunteers.json")
    names, coadd = ["gz2", "gz_hubble", "gz_desi"], Path("../shared/data/gz2_coadd/counts.csv")
    parser.add_argument("campaigns", nargs="*", default=names, metavar="CAMPAIGN", help=f"default: {' '.join(names)}")
    parser.add_argument("--n", type=int, default=3000, help="galaxies of each campaign (default: 3000)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    parser.add_argument("--coadd", type=Path, default=coadd, help=f"votes of Stripe 82 (default: {coadd})")
    options = parser.parse_args()
    result: dict[str, object] = {}
    for name in options.campaigns:
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                made = simulate(name, n_galaxies=options.n, seed=seed, images=False, out=Path(folder) / "sky")
                found = judged(made)
            result[f"{name}, seed {seed}"] = found
            print(name, seed, json.dumps(found, indent=2))
    if options.coadd.is_file():
        result["a volunteer with random answers among real votes of GZ2"] = found = random_volunteer(options.coadd)
        print("volunteer with random answers", json.dumps(found, indent=2))
    result["galaxies"] = options.n
    save(options, result)


def judged(made: SimulateResult) -> dict[str, object]:
    """Return errors with and without weights, and the flagged bots and humans."""
    read = ingest(ExportFiles(made.classifications, made.workflows), campaign(made.campaign)).classifications
    volunteers = pl.DataFrame({"name": read.names}).join(pl.read_parquet(made.volunteers), on="name", how="left")
    care, is_bot = volunteers["care"].to_numpy(), volunteers["is_bot"].to_numpy()
    consistent = consistency.consistency_weights(read)
    plain = np.ones(len(consistent))
    weights = np.where(consistency.bots(read).any, 0.0, consistent)
    truth = read.galaxies.select("id_str").join(pl.read_parquet(made.truth), on="id_str", how="left")
    careful = truth.select(f"{one}_probability_careful" for one in read.tree.columns).to_numpy()
    found: dict[str, object] = {
        "classifications": len(read),
        "mean squared error, unweighted": errors(read, plain, careful)[0].mean().round(6).item(),
        "gain by weights and rules": gain(read, plain, weights, careful),
        "gain by consistency weights alone": gain(read, plain, consistent, careful),
        "mean weight of careful volunteers": round(float(weights[care >= 0.9].mean()), 4),
        "mean consistency weight of tested bots": round(float(consistent[is_bot & (busy(read))].mean()), 4),
    }
    slow = replace(read, seconds=np.full(len(read), np.nan))
    for what, one in (("as exported", read), ("without durations", slow)):
        bots = consistency.bots(one)
        honest, machines = ~is_bot & bots.is_judged, is_bot & bots.is_judged
        found[f"flags, {what}"] = {
            rule: {
                "bots flagged": f"{int((flag & machines).sum())} of {int(machines.sum())}",
                "humans flagged": f"{int((flag & honest).sum())} of {int(honest.sum())}",
                "fraction of bots flagged": round(float(flag[machines].mean()), 4),
                "fraction of humans flagged": round(float(flag[honest].mean()), 4),
            }
            for rule, flag in {**bots.flags, "any": bots.any}.items()
        }
    return found


def busy(read: Classifications) -> np.ndarray:
    """Return which volunteers have enough classifications for the rules."""
    return np.bincount(read.volunteer, minlength=len(read.names)) >= consistency.MIN_CLASSIFICATIONS


def errors(read: Classifications, weights: FloatArray, careful: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return each galaxy's squared error and number of answers.

    The error is the mean over the answers of questions with at least five votes.
    """
    fractions, _ = read.weighted(weights)
    totals = read.sum_by_galaxy(read.pattern_questions)[:, list(read.tree.question_of_answer)]
    is_used = (totals >= 5) & np.isfinite(fractions) & np.isfinite(careful)
    squares = np.where(is_used, (np.nan_to_num(fractions) - np.nan_to_num(careful)) ** 2, 0.0)
    n = is_used.sum(axis=1)
    return squares.sum(axis=1)[n > 0] / n[n > 0], n


def gain(read: Classifications, one: FloatArray, other: FloatArray, careful: FloatArray) -> dict[str, float]:
    """Return the mean difference of squared errors, with its 95% confidence interval."""
    difference = errors(read, one, careful)[0] - errors(read, other, careful)[0]
    mean, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return {"mean": round(mean, 8), "low": round(mean - 1.96 * error, 8), "high": round(mean + 1.96 * error, 8)}


def random_volunteer(path: Path) -> dict[str, float]:
    """Return the consistency of a volunteer who answers the questions of each galaxy at random."""
    asked = tree("gz2")
    with tempfile.TemporaryDirectory() as folder:
        mapping(path, "gz2", out=Path(folder) / "columns.toml")
        votes = read_votes(path, campaign("gz2"), Path(folder) / "columns.toml").votes
    counts = votes.counts
    rng = np.random.default_rng(0)
    given = np.zeros(counts.shape, bool)
    was_asked = np.zeros((len(counts), len(asked.questions)), bool)
    for question in asked.ordered:
        i = asked.questions.index(question)
        parents = list(asked.parents_of_question[i])
        meets = given[:, parents].any(axis=1) if parents else np.ones(len(counts), bool)
        was_asked[:, i] = meets
        choice = rng.integers(len(question.columns), size=len(counts))
        given[np.flatnonzero(meets), asked.slice(question.name).start + choice[meets]] = True
    n = len(counts)
    zeros = np.zeros(n, np.int64)
    read = Classifications(
        asked, pl.DataFrame({"id_str": [str(i) for i in range(n)]}), given, was_asked, np.arange(n), np.arange(n),
        zeros, np.full(n, np.nan), ("random",), np.array([True]),
    )  # fmt: skip
    kappa = float(consistency.consistency(read, votes.fractions)[0])
    weight = min(1.0, (kappa / consistency.CONSISTENT) ** consistency.STEEPNESS)
    return {"galaxies": n, "consistency": round(kappa, 4), "weight": round(weight, 4)}


if __name__ == "__main__":
    main()
