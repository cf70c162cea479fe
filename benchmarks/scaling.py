"""How the loss falls with the number of galaxies trained on, and what more of them would be expected to bring.

    python benchmarks/scaling.py [--encoders A B] [--galaxies 2048] [--fractions ...] [--seeds 3] [--images-seen N]
        [--epochs LEAST MOST] [--work FOLDER] [--minutes M] [--quick]

Galaxies of Galaxy Zoo 2 are simulated. Each encoder is trained on each fraction of them, once for each seed: another
draw of the galaxies, other initial weights. A training sees about --images-seen images, as far as --epochs allow it.
The excess loss of a model is its loss on the test galaxies minus that of the truth, which is known here: the
probabilities that the votes were drawn from. The excess loss is fitted by scale * n^-exponent
(`gzoo.scoring.learning_curve`).

To judge the method, the curve is also fitted without the largest fraction, and its prediction interval for one more
training there is compared with the losses that were reached: every seed is one case.

Every training that is finished is kept in --work and not repeated: run the same command again after an interruption.
--minutes ends the work after that time. Writes benchmarks/results/scaling.json, from which docs/figures.py
draws the curves.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measuring import arguments, write
from PIL import Image

from gzoo import build, loader, open_dataset, train
from gzoo.learn.model import open_run
from gzoo.learn.prediction import predict_concentrations
from gzoo.scoring.learning_curve import fit_learning_curve
from gzoo.scoring.likelihood import dirichlet_multinomial_nll, multinomial_nll
from gzoo.simulator import simulate

CAMPAIGN, SEED = "gz2", 31
ENCODERS = ("test_resnet", "test_convnext")
FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1.0)
CROP_PIXELS, SIZE = 200, 48  # the galaxy fills the middle half of a simulated image
N_HELD_OUT = (300, 2000)  # galaxies for validation and for the test
IMAGES_SEEN, EPOCHS = 60_000, (30, 60)


def simulated(n: int, work: Path) -> Path:
    """Return a folder with the images of n galaxies, small and cropped, their votes and their truth."""
    folder = work / f"galaxies-{n}"
    if folder.exists():
        return folder
    began = cpu_seconds()
    sky = simulate(CAMPAIGN, n_galaxies=n, seed=SEED, workers=2, out=work / "sky", export=False)
    partial = work / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "images").mkdir(parents=True)

    def small(path: Path) -> None:
        image = Image.open(path)
        low, high = (image.width - CROP_PIXELS) // 2, (image.width + CROP_PIXELS) // 2
        part = image.crop((low, low, high, high)).resize((SIZE, SIZE), Image.Resampling.BOX)
        part.save(partial / "images" / path.name, quality=95)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(small, sky.images.iterdir()))
    shutil.copy(sky.votes, partial / "votes.parquet")
    shutil.copy(sky.truth, partial / "truth.parquet")
    (partial / "cost.json").write_text(json.dumps(round(cpu_seconds() - began, 1)))
    partial.rename(folder)
    shutil.rmtree(work / "sky")
    return folder


def drawn(galaxies: Path, n: int, seed: int, held_out: tuple[int, int], out: Path) -> Path:
    """Return a dataset with n galaxies to train on; those of a smaller n with the same seed are among them."""
    votes = pl.read_parquet(galaxies / "votes.parquet")
    order = np.random.default_rng([SEED, seed]).permutation(np.arange(sum(held_out), votes.height))[:n]
    split = np.full(votes.height, "", dtype=object)
    split[: held_out[0]], split[held_out[0] : sum(held_out)], split[order] = "validation", "test", "train"
    table = votes.with_columns(split=pl.Series(split.tolist())).filter(pl.col("split") != "")
    table.write_parquet(out.with_suffix(".parquet"))
    return build(
        CAMPAIGN,
        votes=out.with_suffix(".parquet"),
        images=galaxies / "images",
        out=out,
        split_column="split",
        overwrite=True,
    ).folder


def true_loss(galaxies: Path, dataset: Path) -> float:
    """Return the loss of the truth on the test galaxies, in nats per galaxy."""
    opened = open_dataset(dataset)
    tree = opened.tree
    keys, votes = opened.read_votes("test")
    truth = pl.read_parquet(galaxies / "truth.parquet")
    known = keys.select("id_str").join(truth, on="id_str", how="left", maintain_order="left")
    fractions = known.select(f"{column}_probability" for column in tree.columns).to_numpy()
    return float(multinomial_nll(votes.counts, fractions, tree, votes.totals).sum(axis=1).mean())


def test_loss(run: Path, dataset: Path) -> float:
    """Return the loss of a model on the test galaxies, in nats per galaxy: of all questions, not recalibrated."""
    model, _ = open_run(run)
    galaxies = loader(dataset, 128, model.design.image_size, split="test")
    votes, tree = galaxies.votes, galaxies.tree
    found = predict_concentrations(model, galaxies)
    return float(dirichlet_multinomial_nll(votes.counts, found, tree, votes.totals).sum(axis=1).mean())


def cell(
    encoder: str, n: int, epochs: int, seed: int, galaxies: Path, held_out: tuple[int, int], work: Path
) -> dict[str, Any]:
    """Train one encoder once, and return its loss, that of the truth, and what it cost."""
    began = cpu_seconds()
    data, run = work / f"dataset-{encoder}", work / f"run-{encoder}"  # several processes may train one encoder each
    drawn(galaxies, n, seed, held_out, data)
    made = train(
        data, out=run, encoder=encoder, size=SIZE, crop=1, epochs=epochs, seed=seed, probe=False, overwrite=True
    )
    return {
        "loss": test_loss(run, data),
        "true_loss": true_loss(galaxies, data),
        "n_train": made.n_train,
        "n_epochs": made.n_epochs,
        "best_epoch": made.best_epoch,
        "cpu_seconds": round(cpu_seconds() - began, 1),
    }


def cpu_seconds() -> float:
    """Return the seconds of processor time of this process and its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def finished(encoder: str, n: int, seed: int, work: Path) -> Path:
    """Return the file of a finished training."""
    return work / "trainings" / f"{encoder}-{n}-{seed}.json"


def studied(found: Sequence[dict[str, Any]], encoder: str, floor: float) -> dict[str, Any]:
    """Return the learning curve of an encoder, and how well it was predicted without the largest fraction."""
    own = sorted((one for one in found if one["encoder"] == encoder), key=lambda one: (one["n_train"], one["seed"]))
    numbers = sorted({one["n_train"] for one in own})
    if len(numbers) < 3:
        return {}
    known = [one for one in own if one["n_train"] < numbers[-1]]
    reached = [one for one in own if one["n_train"] == numbers[-1]]
    sparse, whole = (
        fit_learning_curve([one["n_train"] for one in some], [one["loss"] for one in some], floor=floor)
        for some in (known, own)
    )
    foretold = sparse.training(numbers[-1])
    inside = [foretold["low"] <= one["loss"] <= foretold["high"] for one in reached]
    return {
        "curve": whole.to_dict(),
        "curve_without_the_largest": sparse.to_dict(),
        "predicted_loss": foretold,
        "at_n_galaxies": numbers[-1],
        "times_the_largest_fitted": numbers[-1] / numbers[-2],
        "reached_losses": [one["loss"] for one in reached],
        "inside": f"{sum(inside)} of {len(inside)}",
        "expected_loss_with_ten_times_the_galaxies": whole.expected(10 * numbers[-1]),
        "expected_gain_of_ten_times_the_galaxies": whole.gain(numbers[-1]),
    }


def main() -> None:
    parser = arguments(__doc__, "scaling.json")
    parser.add_argument("--encoders", nargs="+", default=ENCODERS, help="timm encoders")
    parser.add_argument("--galaxies", type=int, default=2048, help="galaxies of the largest training (default: 2048)")
    parser.add_argument("--fractions", type=float, nargs="+", default=FRACTIONS, help="fractions of them")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each encoder and fraction (default: 3)")
    parser.add_argument("--images-seen", type=int, default=IMAGES_SEEN, help="of a training, if --epochs allow it")
    parser.add_argument("--epochs", type=int, nargs=2, default=EPOCHS, help="least and most epochs (default: 30 60)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="time after which no training is begun")
    parser.add_argument("--work", type=Path, help="folder to keep galaxies and finished trainings in")
    parser.add_argument("--quick", action="store_true", help="use few galaxies, and write only to --out")
    options = parser.parse_args()
    started, held_out = time.monotonic(), N_HELD_OUT
    if options.quick:
        held_out = (30, 60)
        options.encoders, options.galaxies, options.seeds = options.encoders[:1], 128, 2
        options.fractions = [0.25, 0.5, 1.0]
    work = options.work or Path(tempfile.mkdtemp(prefix="gzoo-scaling-"))
    (work / "trainings").mkdir(parents=True, exist_ok=True)
    galaxies = simulated(sum(held_out) + options.galaxies, work)
    simulation = json.loads((galaxies / "cost.json").read_text())

    grid = [
        (encoder, round(fraction * options.galaxies), seed)
        for fraction in sorted(options.fractions)
        for encoder in options.encoders
        for seed in range(options.seeds)
    ]
    for encoder, n, seed in grid:
        path = finished(encoder, n, seed, work)
        if path.exists():
            continue
        if time.monotonic() - started > 60 * options.minutes:
            break
        epochs = min(options.epochs[1], max(options.epochs[0], options.images_seen // n))
        made = {"encoder": encoder, "seed": seed, **cell(encoder, n, epochs, seed, galaxies, held_out, work)}
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(made))
        partial.rename(path)
        print(f"{encoder}, {n:,} galaxies, seed {seed}: loss {made['loss']:.4f} ({made['cpu_seconds']} s)", flush=True)

    cells = [json.loads(path.read_text()) for one in grid if (path := finished(*one, work)).exists()]
    floor = cells[0]["true_loss"]
    studies = {encoder: studied(cells, encoder, floor) for encoder in options.encoders}
    result = {
        "n_trainings": f"{len(cells)} of {len(grid)}",
        "n_galaxies": dict(zip(("validation", "test"), held_out, strict=True)),
        "image_size": SIZE,
        "images_seen": options.images_seen,
        "epochs": list(options.epochs),
        "floor": floor,
        "cpu_seconds": {"simulation": simulation, "trainings": round(sum(one["cpu_seconds"] for one in cells), 1)},
        "encoders": studies,
        "trainings": cells,
    }
    write(options, result)


if __name__ == "__main__":
    main()
