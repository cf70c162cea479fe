"""Time and memory of `gzoo select` on many galaxies.

    python benchmarks/selection_speed.py [--n 800000] [--quick]

A dataset of Galaxy Zoo: Hubble (40 answers) without images is made from random votes, and predictions for its galaxies.
`gzoo select` runs in a new process, with a table to write. Given are seconds on the clock, seconds of the processor and
the largest resident memory. Writes benchmarks/results/selection_speed.json.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from measuring import arguments, save

import gzoo
from gzoo.dataset.open import open_dataset
from gzoo.scoring.prediction_files import prediction_table, write_prediction_table

CAMPAIGN = "gz_hubble"
WHERE = "smooth-or-featured.features.model > 0.4 and bar.yes.posterior > 0.3 and bar.asked > 2"


def main() -> None:
    parser = arguments(__doc__, "selection_speed.json")
    parser.add_argument("--n", type=int, default=800_000, help="galaxies (default: 800,000)")
    parser.add_argument("--campaign", default=CAMPAIGN, help=f"campaign (default: {CAMPAIGN})")
    parser.add_argument("--where", default=WHERE, help="condition")
    parser.add_argument("--quick", action="store_true", help="20,000 galaxies")
    options = parser.parse_args()
    n = 20_000 if options.quick else options.n
    with tempfile.TemporaryDirectory() as folder:
        dataset, predictions = made(Path(folder), options.campaign, n)
        words = [sys.executable, "-m", "gzoo", "select", str(predictions), str(dataset), "--where", options.where]
        began = time.perf_counter()
        done = subprocess.run([*words, "--out", f"{folder}/s.parquet", "--json"], capture_output=True, check=True)
        seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)
    result: dict[str, object] = {
        "galaxies": n,
        "selected": found["n_selected"],
        "seconds": round(seconds, 2),
        "processor seconds": round(used.ru_utime + used.ru_stime, 2),
        "resident MB": round(used.ru_maxrss / 1024),
    }
    print(result)
    save(options, result)


def made(folder: Path, campaign: str, n: int) -> tuple[Path, Path]:
    """Return a dataset without images and predictions for all of its galaxies."""
    rng, tree = np.random.default_rng(0), gzoo.campaign(campaign).published_tree
    counts: dict[str, np.ndarray] = {}
    for question in tree.ordered:
        parents = [counts[parent] for parent in question.parents if parent in counts]
        asked = np.sum(parents, axis=0) if parents else np.full(n, 20)
        drawn = rng.multinomial(asked, rng.dirichlet(np.ones(len(question.columns)), n))
        counts |= dict(zip(question.columns, drawn.astype(np.int32).T, strict=True))
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    table = pl.DataFrame({"id_str": [f"g{i}" for i in range(n)], "ra": ra, "dec": dec} | counts)
    table.write_parquet(folder / "votes.parquet")
    gzoo.build(campaign, votes=folder / "votes.parquet", out=folder / "dataset", no_images=True)
    opened = open_dataset(folder / "dataset")
    keys = pl.concat([opened.read_votes(split)[0] for split in opened.splits])
    values = np.exp(rng.normal(0.5, 1, (keys.height, len(opened.tree.columns))))
    marked = prediction_table(keys, values, opened.tree).with_columns(in_training_set=pl.lit(False))
    write_prediction_table(folder / "predictions.parquet", marked, {"trained_by_scheme": opened.split_scheme})
    return folder / "dataset", folder / "predictions.parquet"


if __name__ == "__main__":
    main()
