"""Speed of reading the votes of a split from its index and from its shards.

    python benchmarks/index_speed.py [--n 40000] [--rounds 5] [--folder FOLDER]

A dataset with the columns of gz_evo (224 answers in 527 columns, row groups of 100 rows) is built from simulated votes
of four campaigns, a quarter each, and copies of 500 simulated images (14 kB). The votes are read on one thread from the
page cache into one matrix of 32-bit vote counts in row-major order:

- `polars` and `pyarrow`: the identifiers and vote counts, read directly from the files;
- `gzoo`: `Dataset.vote_arrays`, which also computes total votes; with the index and without;
- `image offsets`: `Dataset.image_index`, which needs the index.

The readers take turns. The results are medians of CPU time over rounds, because other programs on the machine affect
CPU time little.

Writes benchmarks/results/index_speed.json.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import arguments, write

from gzoo import files
from gzoo.dataset.build import build
from gzoo.dataset.open import KEY, open_dataset
from gzoo.simulator import simulate
from gzoo.trees.campaign import campaign

CAMPAIGNS = ("gz2", "gz_candels", "gz_desi", "gz_hubble")
SPLIT = "train"
ONE_THREAD = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Matrix = npt.NDArray[np.int32]


def main() -> None:
    parser = arguments(__doc__, "index_speed.json")
    parser.add_argument("--n", type=int, default=40_000, help="number of galaxies (default: 40,000)")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: 5)")
    parser.add_argument("--folder", type=Path, help="where temporary files are kept")
    options = parser.parse_args()
    if any(os.environ.get(name) != "1" for name in ONE_THREAD):  # libraries read these when imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **dict.fromkeys(ONE_THREAD, "1")})
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        result = measured(made(Path(name), options.n), options.rounds)
    write(options, result)


def made(folder: Path, n: int) -> Path:
    """Build the dataset and return its folder."""
    parts = [
        pl.read_parquet(
            simulate(one, n_galaxies=n // len(CAMPAIGNS), images=False, export=False, out=folder / one).votes
        )
        for one in CAMPAIGNS
    ]
    votes = pl.concat(parts, how="diagonal").with_columns(pl.selectors.integer().fill_null(0))
    carried = [name for name in campaign("gz_evo").published_tree.columns if name in votes.columns]
    votes = votes.select(*(name for name in (*KEY, "ra", "dec") if name in votes.columns), *carried)
    votes.write_parquet(folder / "votes.parquet")
    sky = simulate("gz2", n_galaxies=500, export=False, workers=os.cpu_count() or 1, out=folder / "sky")
    images = [path.read_bytes() for path in sorted(sky.images.iterdir())]
    (folder / "images").mkdir()
    for i, name in enumerate(votes["id_str"]):
        (folder / "images" / f"{name}.jpg").write_bytes(images[i % len(images)])
    build("gz_evo", votes=folder / "votes.parquet", images=folder / "images", out=folder / "gz_evo", headers_only=True)
    shutil.rmtree(folder / "images")
    return folder / "gz_evo"


def measured(folder: Path, rounds: int) -> dict[str, object]:
    """Read the votes by each reader, in turns."""
    bare = folder.with_name("bare")
    bare.mkdir()
    for name in ("data", "tiny", "manifest.json"):
        (bare / name).symlink_to(folder / name)
    shards = files.shards(folder, SPLIT)
    indices = [folder / files.index_name(path.name) for path in shards]
    indexed, without = open_dataset(folder), open_dataset(bare)
    answers = list(indexed.tree.columns)
    ways: dict[str, Callable[[], object]] = {
        "polars, shards": lambda: by_polars(shards, answers),
        "polars, index": lambda: by_polars(indices, answers),
        "pyarrow, shards": lambda: by_pyarrow(shards, answers),
        "pyarrow, index": lambda: by_pyarrow(indices, answers),
        "gzoo, shards": lambda: without.vote_arrays(SPLIT)[1],
        "gzoo, index": lambda: indexed.vote_arrays(SPLIT)[1],
        "image offsets, index": lambda: indexed.image_index(SPLIT),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: list[Matrix] = []
    for _ in range(rounds):
        for name, read in ways.items():
            begun = time.process_time()
            one = read()
            seconds[name].append(time.process_time() - begun)
            if isinstance(one, np.ndarray):
                found = found or [one]
                assert np.array_equal(one, found[0]), name
    n = len(found[0])
    rate = {name: n / median(each) for name, each in seconds.items()}
    facts = pq.read_metadata(shards[0])
    return {
        "rows": n,
        "answers": len(answers),
        "columns of a shard": len(facts.schema.to_arrow_schema().names),
        "shards": len(shards),
        "rows per row group": {
            "shard": facts.row_group(0).num_rows,
            "index": pq.read_metadata(indices[0]).row_group(0).num_rows,
        },
        "bytes per row": {"shards": size(shards) // n, "index": size(indices) // n},
        "CPU seconds, all rounds": {name: [round(one, 4) for one in each] for name, each in seconds.items()},
        "rows per second (median)": {name: round(one) for name, one in rate.items()},
        "speed of the index relative to the shards": {
            way: round(rate[f"{way}, index"] / rate[f"{way}, shards"], 1) for way in ("polars", "pyarrow", "gzoo")
        },
    }


def size(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def by_polars(paths: list[Path], answers: list[str]) -> Matrix:
    tables = [pl.read_parquet(path, columns=[*KEY, *answers]) for path in paths]
    return np.concatenate([table.select(answers).to_numpy() for table in tables]).copy(order="C")


def by_pyarrow(paths: list[Path], answers: list[str]) -> Matrix:
    tables = [pq.ParquetFile(path).read([*KEY, *answers], use_threads=False) for path in paths]
    counts = np.empty((sum(table.num_rows for table in tables), len(answers)), np.int32)
    first = 0
    for table in tables:
        for i, name in enumerate(answers):
            counts[first : first + table.num_rows, i] = table.column(name).to_numpy()
        first += table.num_rows
    return counts


if __name__ == "__main__":
    main()
