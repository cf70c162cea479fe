"""Whether a loss that knows the number of votes pays, against two that do not, after recalibration of all.

    python benchmarks/vote_loss.py [--n 4000] [--test 4000] [--epochs 12] [--work FOLDER] [--quick]

Galaxy Zoo 2 is simulated. Of the classifications of training and validation galaxies a part is kept, which differs from
galaxy to galaxy: from 3% to all. The same encoder, start, batches and schedule are then trained with three losses:

- Dirichlet-multinomial: that of `gzoo train`;
- multinomial: the log probability of the votes given the predicted fractions, as if nothing else scattered;
- cross-entropy: the log probability of the answer with the most votes, whatever their number.

Predictions of all three are recalibrated on the validation galaxies (`fit_recalibration`: spread, temperature and
biases of each question), and scored on all votes of other simulated galaxies: log-likelihood in nats per galaxy, summed
over the questions that allow one answer. Test galaxies only cost a prediction, so there are many of them, and intervals
are narrow. Differences are paired, with 95% confidence intervals over galaxies, for each of three seeds of the
training; the simulated galaxies are the same. Positive: the Dirichlet-multinomial loss is better.

An interrupted benchmark continues with `--work`. Writes benchmarks/results/vote_loss.json.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from measuring import arguments, save
from safetensors.torch import load_file

from gzoo import build, open_dataset, simulate
from gzoo.dataset.open import Dataset
from gzoo.learn.adaptation import parts_of
from gzoo.learn.by_campaign import CampaignLosses
from gzoo.learn.encoders import Design
from gzoo.learn.fitting import WEIGHTS, Recipe, fit
from gzoo.learn.loader import Loader, loader
from gzoo.learn.losses import dirichlet_multinomial_nll
from gzoo.learn.model import Model
from gzoo.learn.prediction import predict_concentrations
from gzoo.scoring.intervals import blocks, ratio
from gzoo.scoring.likelihood import dirichlet_multinomial_nll as nll_of
from gzoo.scoring.likelihood import expected_fractions, fit_baseline
from gzoo.scoring.recalibration import fit_recalibration
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import FloatArray, Tree
from gzoo.votes.votes import Votes

SEEDS = (0, 1, 2)
LOSSES = ("Dirichlet-multinomial", "multinomial", "cross-entropy")
ENCODER, SIZE, BATCH = "lcnet_050", 48, 32
KEPT = (0.03, 1.0)  # least and largest part of a galaxy's classifications
PEAK = 2e-3


class Loss:
    """One of the three losses, over the questions that allow one answer."""

    def __init__(self, name: str, tree: Tree) -> None:
        self.name, self.tree = name, tree
        self.single = [i for i, one in enumerate(tree.questions) if not one.multiple]

    def __call__(self, prediction: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        votes, totals = batch["votes"], batch["totals"]
        if self.name == LOSSES[0]:
            return dirichlet_multinomial_nll(votes, prediction, self.tree, totals)[:, self.single].sum(dim=1)
        total = torch.zeros(len(prediction), device=prediction.device)
        for i in self.single:
            question = self.tree.questions[i].name
            own = prediction[:, self.tree.concentration_slice(question)]
            log_fractions = (own / own.sum(dim=1, keepdim=True)).log()
            counts = votes[:, self.tree.slice(question)]
            if self.name == "multinomial":
                total = total - (counts * log_fractions).sum(dim=1)
            else:
                modal = log_fractions.gather(1, counts.argmax(dim=1, keepdim=True))[:, 0]
                total = total - torch.where(totals[:, i] > 0, modal, 0.0)
        return total


def thinned(votes: Path, out: Path, tree: Tree) -> Path:
    """Write the votes of a part of the classifications of each galaxy, and return the table."""
    rng = np.random.default_rng(5)
    table = pl.read_parquet(votes)
    kept = np.exp(rng.uniform(*np.log(KEPT), table.height))
    columns = {name: rng.binomial(table[name].to_numpy(), kept) for name in tree.columns}
    totals = {one.total_column: None for one in tree.questions if one.total_column in table.columns}
    table.drop(list(totals)).with_columns(**columns).write_parquet(out)
    return out


def single_questions(values: FloatArray, tree: Tree) -> FloatArray:
    """Return the columns of the questions that allow one answer."""
    return values[:, [i for i, one in enumerate(tree.questions) if not one.multiple]]


def main() -> None:
    parser = arguments(__doc__, "vote_loss.json")
    parser.add_argument("--n", type=int, default=4000, help="simulated galaxies to train and validate (default: 4000)")
    parser.add_argument("--test", type=int, default=4000, help="simulated galaxies to test with (default: 4000)")
    parser.add_argument("--epochs", type=int, default=12, help="epochs of each training (default: 12)")
    parser.add_argument("--work", type=Path, help="folder to keep datasets and finished trainings in")
    parser.add_argument("--quick", action="store_true", help="use few galaxies and epochs, and write only to --out")
    options = parser.parse_args()
    if options.quick:
        options.n, options.test, options.epochs = 150, 50, 1
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) if options.work is None else options.work
        data = built("thinned", options.n, 31, work)
        test = built("test", options.test, 32, work)
        result = measured(data, test, work, options.epochs)
    said = save(options, {"galaxies": options.n, "epochs": options.epochs, "encoder": ENCODER, "pixels": SIZE, **result,
                          "cpu_seconds": round(time.process_time() - started)})  # fmt: skip
    for one in said["differences"]:  # type: ignore[attr-defined]
        value, low, high = (one[key] for key in ("value", "low", "high"))
        print(f"seed {one['seed']}: Dirichlet-multinomial minus {one['loss']}: {value:+.3f} [{low:+.3f}, {high:+.3f}]")


def built(name: str, n: int, seed: int, work: Path) -> Dataset:
    """Simulate a dataset, or open it; "thinned" has the votes of a part of the classifications."""
    simulated, out = work / f"{name}-simulated", work / name
    if not out.is_dir():
        simulate("gz2", n_galaxies=n, seed=seed, out=simulated, export=False, workers=1)
        votes = simulated / "votes.parquet"
        if name == "thinned":
            votes = thinned(votes, work / "thinned.parquet", campaign("gz2").published_tree)
        build("gz2", votes=votes, images=simulated / "images", out=out)
    return open_dataset(out)


def of_all_splits(data: Dataset, cache: Path) -> list[Loader]:
    """Return the loaders of all splits of a dataset."""
    return [loader(data, 64, SIZE, split=split, cache_dir=cache) for split in data.splits]


def measured(data: Dataset, test: Dataset, work: Path, epochs: int) -> dict[str, object]:
    cache, tree = work / "cache", data.tree
    train = loader(data, BATCH, SIZE, augment="average", seed=0, cache_dir=cache)
    validation = loader(data, 64, SIZE, split="validation", cache_dir=cache)
    tests = of_all_splits(test, cache)
    counts, totals = (np.concatenate([getattr(each.votes, kind) for each in tests]) for kind in ("counts", "totals"))
    votes = Votes(tree, counts, totals)
    baseline = fit_baseline(train.votes)
    by_campaign = CampaignLosses(validation, np.zeros(len(validation.rows)))
    images = train.take(np.arange(min(256, len(train.rows))))["image"].double() / 255
    mean, std = (tuple(one.tolist()) for one in (images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))))
    scores: dict[tuple[int, str], FloatArray] = {}
    for seed in SEEDS:
        for name in LOSSES:
            finished = work / f"scores-{seed}-{name}.npy"
            if not finished.exists():
                recipe = Recipe(encoder=ENCODER, size=SIZE, crop=1.0, pretrained=False, learn="all", warm_up=0.2,
                                epochs=epochs, batch_size=BATCH, accumulate=1, devices=1, learning_rate=PEAK,
                                augment="average", sampling="proportional", views=1,
                                seed=seed)  # fmt: skip
                torch.manual_seed(seed)
                model = Model(Design(ENCODER, SIZE, tree.concentrations, mean, std), baseline)
                ordered = loader(data, BATCH, SIZE, augment="average", seed=seed, cache_dir=cache)
                parts = parts_of(model, "all", PEAK, is_trained=False)
                with tempfile.TemporaryDirectory() as folder:
                    loss = Loss(name, tree)
                    fit(model, loss, ordered, validation, Path(folder), recipe, parts, 0.0, by_campaign=by_campaign)
                    model.load_state_dict(load_file(Path(folder) / WEIGHTS))
                held_out = predict_concentrations(model, validation)
                predicted = np.concatenate([predict_concentrations(model, each) for each in tests])
                kind = "concentrations" if name == LOSSES[0] else "fractions"
                if kind == "fractions":
                    predicted, held_out = (expected_fractions(one, tree) for one in (predicted, held_out))
                final = fit_recalibration(validation.votes, held_out[None], kind).apply(predicted[None], tree)[0]
                losses = single_questions(nll_of(votes.counts, final, tree, votes.totals), tree)
                np.save(finished, -losses.sum(axis=1))
            scores[seed, name] = np.load(finished)
            print(f"seed {seed}, {name}: {scores[seed, name].mean():.3f} nats per galaxy", flush=True)
    means = np.broadcast_to(baseline, (len(votes), len(baseline)))
    of_baseline = -single_questions(nll_of(votes.counts, means, tree, votes.totals), tree).sum(axis=1)
    differences = [
        {"seed": seed, "loss": name, **difference(scores[seed, LOSSES[0]] - scores[seed, name])}
        for seed in SEEDS
        for name in LOSSES[1:]
    ]
    gains = [
        {"seed": seed, "loss": name, **difference(scores[seed, name] - of_baseline)}
        for seed in SEEDS
        for name in LOSSES
    ]
    return {
        "test_galaxies": len(votes),
        "training_galaxies": len(train.rows),
        "validation_galaxies": len(validation.rows),
        "median_training_votes": float(np.median(train.votes.totals[:, 0])),
        "differences": differences,
        "all_exclude_0": all(one["low"] > 0 for one in differences),
        "gains_over_baseline": gains,
    }


def difference(values: FloatArray) -> dict[str, float]:
    """Return a mean over galaxies with its 95% confidence interval."""
    found = ratio(values[:, None], np.ones((len(values), 1)), blocks(len(values))).of(0)
    return {key: round(float(found[key] or 0.0), 4) for key in ("value", "low", "high")}


if __name__ == "__main__":
    main()
