"""Time and memory of `gzoo catalog` and `gzoo prioritize` for 800,000 galaxies and 194 answers.

    python benchmarks/posterior_speed.py [--n 800000] [--members 1]

The questions are those of gz_evo without those of UKIDSS: 63 questions with 194 answers. Votes and predictions are
random. Each command runs in its own process, from reading the files to the finished table.

Writes benchmarks/results/posterior_speed.json, and keeps the results for other numbers of galaxies there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import arguments, write

from gzoo.trees.campaign import campaign

RUN = """
import resource, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import gzoo
what, predictions, folder, out = sys.argv[1:]
if what == "catalog":
    made = gzoo.catalog([predictions], folder, out=out)
    assert made.n_galaxies
else:
    assert gzoo.prioritize([predictions], folder, criterion=what.split()[-1], out=out).table.height
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_maxrss / 1e6, used.ru_utime + used.ru_stime)
"""


def main() -> None:
    parser = arguments(__doc__, "posterior_speed.json")
    parser.add_argument("--n", type=int, default=800_000, help="number of galaxies (default: 800,000)")
    parser.add_argument("--members", type=int, default=1, help="members of the predicted mixture (default: 1)")
    options = parser.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        predictions = made_up(folder, options.n, options.members)
        for what in ("catalog", "prioritize by information", "prioritize by error"):
            out = folder / f"{what.split()[-1]}.parquet"
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", RUN, what, str(predictions), str(folder / "dataset"), str(out)],
                capture_output=True,
                text=True,
                check=True,
            )
            memory, processor = map(float, done.stdout.split())
            found[what] = {
                "seconds": round(time.monotonic() - began, 1),
                "CPU seconds": round(processor, 1),
                "GB of memory at peak": round(memory, 2),
                "GB written": round(out.stat().st_size / 1e9, 2),
            }
            print(what, found[what], flush=True)
    key = f"{options.n} galaxies, 194 answers" + (f", {options.members} members" if options.members > 1 else "")
    path = options.out or options.result
    known = json.loads(path.read_text()) if path.is_file() else {}
    write(options, {**{name: one for name, one in known.items() if name not in ("machine", "versions")}, key: found})


def made_up(folder: Path, n: int, n_members: int) -> Path:
    """Write a dataset folder without images, and predictions for all of its galaxies."""
    tree = campaign("gz_evo").published_tree
    columns = [
        column for question in tree.questions if not question.name.endswith("-ukidss") for column in question.columns
    ]
    (folder / "dataset" / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    votes: pq.ParquetWriter | None = None
    guesses: pq.ParquetWriter | None = None
    for start in range(0, n, 20_000):
        size = min(20_000, n - start)
        key = {"id_str": [f"galaxy-{start + i:08d}" for i in range(size)], "dataset_name": ["made_up"] * size}
        counts = rng.poisson(rng.exponential(3.0, (size, len(tree.columns)))).astype(np.int32)
        place = {"ra": rng.uniform(0, 360, size), "dec": rng.uniform(-90, 90, size)}
        table = pa.table(key | place | {column: counts[:, i] for i, column in enumerate(tree.columns)})
        votes = votes or pq.ParquetWriter(folder / "dataset" / "data" / "test-00000-of-00001.parquet", table.schema)
        votes.write_table(table)
        values_of: dict[str, object] = {}
        for column in columns:
            values = np.exp(rng.normal(0.5, 1.5, (size, n_members)))
            one_list = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), n_members)
            values_of[f"{column}_concentration"] = pa.array(values[:, 0]) if n_members == 1 else one_list
        table = pa.table(key | values_of | {"in_training_set": np.zeros(size, bool)})
        guesses = guesses or pq.ParquetWriter(folder / "predictions.parquet", table.schema)
        guesses.write_table(table)
    assert votes is not None
    assert guesses is not None
    votes.close()
    guesses.close()
    return folder / "predictions.parquet"


if __name__ == "__main__":
    main()
