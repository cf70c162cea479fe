"""Whether an encoder that was trained on votes helps with a new question and few labels.

    python benchmarks/adaptation.py [--n 21000] [--draws 8] [--minutes M] [--work FOLDER] [--quick]

Three campaigns are simulated and merged, and a model is trained on the votes of all of them. Its encoder is then
adapted, with 100, 300 and 1,000 labels of other simulated galaxies (a fifth of the labels are for validation), to two
questions that no volunteer answered in these words: whether the bulge fraction is above the median, and whether the
disturbance is in the upper quarter. Three ways are compared on the same test galaxies:

- probe: `gzoo train --from PRETRAINED --learn head`;
- fine-tuned: `gzoo train --from PRETRAINED --learn all`;
- scratch: `gzoo train` of the same encoder from random weights, with as many epochs.

The numbers are means of the ROC AUC over draws of the labelled galaxies, and differences with Student's t intervals
over the draws. Redshift, of which volunteers see little, is the honest failure: R2 for 300 labels and three draws.

Every draw that is finished is kept in --work and not computed again. --minutes ends the work after that time, and the
result is then of the draws that are finished. Writes benchmarks/results/adaptation.json.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from measuring import arguments, write
from PIL import Image
from scipy import stats
from sklearn.metrics import r2_score, roc_auc_score

from gzoo import build, open_dataset, predict, train, union
from gzoo.simulator import simulate

CAMPAIGNS = ("gz2", "gz_desi", "gz_hubble")
COUNTS, CLASSES, VALUE = (100, 300, 1000), ("bulge", "disturbed"), "redshift"
N_VALUE_LABELS, N_VALUE_DRAWS = 300, 3
WAYS = ("probe", "fine-tuned", "scratch")
CROP_PIXELS = 240  # the galaxy fills the middle third of an image
ENCODER, SIZE, SEED = "resnet10t", 64, 77


def crop(folder: Path, out: Path) -> None:
    """Write the middle of each image of a folder."""
    out.mkdir(exist_ok=True)

    def one(path: Path) -> None:
        image = Image.open(path)
        low, high = (image.width - CROP_PIXELS) // 2, (image.width + CROP_PIXELS) // 2
        buffer = io.BytesIO()
        image.crop((low, low, high, high)).save(buffer, "JPEG", quality=90)
        (out / path.name).write_bytes(buffer.getvalue())

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, folder.iterdir()))


def dataset(campaign: str, n: int, seed: int, work: Path) -> tuple[Path, pl.DataFrame]:
    """Return a simulated dataset, and the truth of its galaxies."""
    folder, truth = work / f"data-{campaign}-{seed}", work / f"truth-{campaign}-{seed}.parquet"
    if not folder.exists():
        sky = simulate(campaign, n_galaxies=n, seed=seed, workers=1, out=work / "sky", export=False, overwrite=True)
        crop(sky.images, work / "cropped")
        build(campaign, votes=sky.votes, images=work / "cropped", out=folder)
        shutil.copy(sky.truth, truth)
        shutil.rmtree(work / "sky")
        shutil.rmtree(work / "cropped")
    return folder, pl.read_parquet(truth)


def label_table(truth: pl.DataFrame) -> pl.DataFrame:
    """Return the labels of all galaxies."""
    is_true = {
        "bulge": pl.col("bulge_fraction") > pl.col("bulge_fraction").median(),
        "disturbed": pl.col("disturbance") > pl.col("disturbance").quantile(0.75),
    }
    named = {name: pl.when(one).then(pl.lit("yes")).otherwise(pl.lit("no")) for name, one in is_true.items()}
    return truth.select("id_str", VALUE, **named)


def drawn(labels: pl.DataFrame, pool: Path, n: int, draw: int, out: Path) -> Path:
    """Write the labels of n galaxies, a fifth of which are in the validation split."""
    rng = np.random.default_rng([SEED, draw])
    opened = open_dataset(pool)
    chosen: list[str] = []
    for split, wanted in (("train", n - n // 5), ("validation", n // 5)):
        ids = opened.read_votes(split)[0]["id_str"].to_numpy()
        if len(ids) < wanted:
            raise SystemExit(f"Split {split} has {len(ids)} galaxies, not {wanted}: pass a larger --pool.")
        chosen += rng.permutation(ids)[:wanted].tolist()
    labels.filter(pl.col("id_str").is_in(chosen)).write_csv(out)
    return out


def score(way: str, target: str, n: int, draw: int, given: Mapping[str, Any]) -> float:
    """Return the ROC AUC of one model on the test galaxies, or R2 for the value."""
    work: Path = given["work"]
    table = drawn(given["labels"].select("id_str", target), given["pool"], n, draw, work / "labels.csv")
    start = {"encoder": given["encoder"]} if way == "scratch" else {"from_": given["pretrained"]}
    run, out = work / "run", work / "predictions.parquet"
    train(
        given["pool"],
        out=run,
        target=target,
        labels=table,
        size=SIZE,
        crop=1,
        learn="head" if way == "probe" else "all",
        epochs=max(15, min(100, 12_000 // n)),
        probe=False,
        seed=draw,
        cache_dir=work / "cache",
        overwrite=True,
        **start,  # type: ignore[arg-type]
    )
    predict(run, given["pool"], out=out, overwrite=True, cache_dir=work / "cache")
    found = pl.read_parquet(out).join(given["labels"], on="id_str", how="left")
    if target == VALUE:
        return float(r2_score(found[VALUE], found[f"{VALUE}_mean"]))
    return float(roc_auc_score(found[target] == "yes", found[f"{target}_yes_probability"]))


def interval(differences: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Return the mean of paired differences with a 95% interval of Student's t over draws."""
    n = len(differences)
    half = float(stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / n**0.5) if n > 1 else None
    mean = float(differences.mean())
    return {"mean": mean, "low": None if half is None else mean - half, "high": None if half is None else mean + half}


def summary(cells: Mapping[str, float], counts: Iterable[int]) -> dict[str, Any]:
    """Return means and differences for each question and number of labels, of draws with all three ways."""
    result: dict[str, Any] = {}
    for target, n in [*((target, n) for target in CLASSES for n in counts), (VALUE, N_VALUE_LABELS)]:
        by_way = {way: {draw: cells.get(f"{target}/{n}/{draw}/{way}") for draw in range(100)} for way in WAYS}
        whole = [draw for draw in range(100) if all(by_way[way][draw] is not None for way in WAYS)]
        if not whole:
            continue
        values = {way: np.array([by_way[way][draw] for draw in whole], float) for way in WAYS}
        result[f"{target}, {n} labels"] = {
            "measure": "R2" if target == VALUE else "ROC AUC",
            "n_draws": len(whole),
            **{way: round(float(each.mean()), 4) for way, each in values.items()},
            "probe - scratch": interval(values["probe"] - values["scratch"]),
            "fine-tuned - scratch": interval(values["fine-tuned"] - values["scratch"]),
            "fine-tuned - probe": interval(values["fine-tuned"] - values["probe"]),
            "draws with fine-tuned above scratch": int((values["fine-tuned"] > values["scratch"]).sum()),
            "of each draw": {way: each.round(4).tolist() for way, each in values.items()},
        }
    return result


def main() -> None:
    parser = arguments(__doc__, "adaptation.json")
    parser.add_argument("--n", type=int, default=21_000, help="simulated galaxies to train on first (default: 21000)")
    parser.add_argument("--pool", type=int, default=5_000, help="galaxies with labels, test included (default: 5000)")
    parser.add_argument("--epochs", type=int, default=10, help="epochs on the votes (default: 10)")
    parser.add_argument("--draws", type=int, default=8, help="draws of the labelled galaxies (default: 8)")
    parser.add_argument("--labels", type=int, nargs="+", default=COUNTS, help="numbers of labels")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="time after which no draw is begun")
    parser.add_argument("--encoder", default=ENCODER, help="timm encoder")
    parser.add_argument("--work", type=Path, help="folder to keep datasets, the trained encoder and finished draws in")
    parser.add_argument("--quick", action="store_true", help="use few galaxies, and write only to --out")
    options = parser.parse_args()
    started = time.monotonic()
    if options.quick:
        options.n, options.pool, options.epochs, options.draws, options.labels = 240, 400, 1, 1, [100]
    work = options.work or Path(tempfile.mkdtemp(prefix="gzoo-adaptation-"))
    work.mkdir(parents=True, exist_ok=True)

    if not (work / "pretrained").exists():
        parts = [dataset(name, options.n // 3, SEED + i, work)[0] for i, name in enumerate(CAMPAIGNS)]
        if not (work / "union").exists():
            union(parts, out=work / "union")
        before = time.process_time(), time.monotonic()
        made = train(
            work / "union",
            out=work / "pretrained",
            encoder=options.encoder,
            size=SIZE,
            crop=1,
            epochs=options.epochs,
            batch_size=64,
            sampling="balanced",
            seed=SEED,
            cache_dir=work / "cache",
        )
        about = {
            "n_train": made.n_train,
            "seconds": time.monotonic() - before[1],
            "cpu_seconds": time.process_time() - before[0],
            "floors": made.floors.description,
        }
        (work / "pretrained.json").write_text(json.dumps(about))
        print(made.floors.description, flush=True)
    pool, truth = dataset("gz2", options.pool, SEED + 100, work)
    given = {
        "work": work,
        "pool": pool,
        "labels": label_table(truth),
        "pretrained": work / "pretrained",
        "encoder": options.encoder,
    }
    finished = work / "cells.json"
    cells: dict[str, float] = json.loads(finished.read_text()) if finished.exists() else {}
    todo = [(draw, target, n) for draw in range(options.draws) for n in options.labels for target in CLASSES]
    todo += [
        (draw, VALUE, min(N_VALUE_LABELS, max(options.labels))) for draw in range(min(N_VALUE_DRAWS, options.draws))
    ]
    todo.sort(key=lambda one: one[0])
    for draw, target, n in todo:
        for way in WAYS:
            key = f"{target}/{n}/{draw}/{way}"
            if key in cells or (time.monotonic() - started) / 60 > options.minutes:
                continue
            cells[key] = score(way, target, n, draw, given)
            finished.write_text(json.dumps(cells))
            print(f"{(time.monotonic() - started) / 60:5.1f} min  {key}: {cells[key]:.3f}", flush=True)
    truths = [work / f"truth-{name}-{SEED + i}.parquet" for i, name in enumerate(CAMPAIGNS)]
    heights = [pl.scan_parquet(path).select(pl.len()).collect().item() for path in truths]
    record = {
        "n_simulated": {name: heights[i] for i, name in enumerate(CAMPAIGNS)},
        "n_pool": options.pool,
        "n_draws_asked": options.draws,
        "encoder": options.encoder,
        "epochs": options.epochs,
        "size_pixels": SIZE,
        "pretraining": json.loads((work / "pretrained.json").read_text()),
        "results": summary(cells, options.labels),
    }
    write(options, record)


if __name__ == "__main__":
    main()
