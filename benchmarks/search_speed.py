"""Time and memory of searching among a million galaxies, and whether the search is exact.

    python benchmarks/search_speed.py [--quick] [--n 1000000] [--width 256] [--out FILE]

An embedding file of clustered random vectors is written as `gzoo embed` writes it. A new process opens it, prepares the
search (mean, scale and length of each vector, principal components of a sample), and searches for the 50 galaxies most
like one example, and for those that ten examples lead to; its CPU seconds and its peak memory count. The bars are 0.3 s
for a search and 1.5 GB. Recall is against sorting all galaxies by float64 arithmetic: found galaxies whose score is at
least the 50th best one's, so that ties count as found.

Writes benchmarks/results/search_speed.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
from measuring import arguments, write

from gzoo.embeddings.table import Source, embedding_table, write_embeddings

K, PART, N_CLUSTERS, N_SEARCHES = 50, 20_000, 200, 5
BAR_SECONDS, BAR_GB = 0.3, 1.5
SEARCH = """
import json, resource, sys, time
def used(): return time.process_time()
began = used(), time.perf_counter()
import gzoo
from gzoo.embeddings.examples import direction
from gzoo.embeddings.space import Space
import numpy as np
imported = used()
found = gzoo.open_embeddings(sys.argv[1])
opened = used()
space = Space(found.vectors)
space.lengths
space.principal_components
ready = used(), time.perf_counter()
k, rows = int(sys.argv[2]), np.linspace(3, len(found) - 4, int(sys.argv[3])).astype(int)
seconds = {"one example": [], "ten examples": []}
answers = []
for row in rows:
    start = used()
    best = space.most_alike(space.points(np.array([row])), k, np.array([row]))[0]
    seconds["one example"].append(used() - start)
    answers.append(["cosine", [int(row)], best.rows.tolist()])
    start = used()
    ten = np.unique(best.rows[:10])
    weights = direction(space, space.points(ten), space.points(ten[:0]), ten, 0)
    best = space.highest(weights, k, ten)
    seconds["ten examples"].append(used() - start)
    answers.append(["sum", ten.tolist(), best.rows.tolist(), weights.tolist()])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
print(json.dumps({"seconds": seconds, "import": imported - began[0], "open": opened - imported,
                  "prepare": ready[0] - opened, "peak GB": peak, "answers": answers}))
"""


def made(path: Path, n: int, width: int) -> None:
    """Write clustered vectors, with a common mean, as features of an encoder have one."""
    rng = np.random.default_rng(0)
    centres, offset = rng.normal(0, 1, (N_CLUSTERS, width)), rng.uniform(0, 3, width)
    source = Source("random", "0" * 64, "none", None, {}, "none", "0" * 64, (), True)

    def tables() -> object:
        for start in range(0, n, PART):
            m = min(PART, n - start)
            vectors = centres[rng.integers(0, N_CLUSTERS, m)] + rng.normal(0, 1, (m, width)) + offset
            keys = pl.DataFrame({"dataset_name": ["x"] * m, "id_str": [f"{start + i:08d}" for i in range(m)]})
            yield embedding_table(keys, vectors)

    write_embeddings(path, tables(), source)  # type: ignore[arg-type]


def recall(path: Path, answers: list[list[object]]) -> list[float]:
    """Return the fraction found of the best galaxies by float64, for each search."""
    import gzoo

    vectors = gzoo.open_embeddings(path).vectors
    n = len(vectors)
    blocks = [slice(start, start + PART) for start in range(0, n, PART)]
    mean = sum(vectors[block].astype(float).sum(axis=0) for block in blocks) / n
    std = np.sqrt(sum(((vectors[block].astype(float) - mean) ** 2).sum(axis=0) for block in blocks) / n)
    found: list[float] = []
    for by, known, rows, *weights in answers:
        query = np.array(weights[0]) if by == "sum" else (vectors[known[0]].astype(float) - mean) / std  # type: ignore[index]
        scores = np.empty(n)
        for block in blocks:
            points = (vectors[block].astype(float) - mean) / std
            scores[block] = points @ query
            if by == "cosine":
                scores[block] /= np.linalg.norm(points, axis=1) * np.linalg.norm(query)
        scores[np.array(known)] = -np.inf
        least = np.sort(scores)[-K]
        found.append(float((scores[np.array(rows)] >= least - 1e-12 * abs(least)).mean()))
    return found


def main() -> None:
    parser = arguments(__doc__, "search_speed.json")
    parser.add_argument("--quick", action="store_true", help="use 20,000 galaxies, and write only to --out")
    parser.add_argument("--n", type=int, default=1_000_000, help="number of galaxies (default: 1,000,000)")
    parser.add_argument("--width", type=int, default=256, help="number of features (default: 256)")
    options = parser.parse_args()
    n = 20_000 if options.quick else options.n
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embeddings.parquet"
        made(path, n, options.width)
        done = subprocess.run(
            [sys.executable, "-c", SEARCH, path, str(K), str(N_SEARCHES)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        found = json.loads(done.stdout)
        answers = found.pop("answers")
        seconds = {name: round(median(values), 3) for name, values in found.pop("seconds").items()}
        recalls = recall(path, answers)
        size = path.stat().st_size / 1e9
    worst, peak = max(seconds.values()), found.pop("peak GB")
    write(
        options,
        {
            "n_galaxies": n,
            "n_features": options.width,
            "file GB": round(size, 3),
            "CPU seconds of a search (median)": seconds,
            "CPU seconds before the first search": {name: round(value, 2) for name, value in found.items()},
            "peak GB": round(peak, 3),
            "recall": min(recalls),
            "bars": {"seconds": BAR_SECONDS, "GB": BAR_GB, "recall": 1},
            "holds": worst <= BAR_SECONDS and peak <= BAR_GB and min(recalls) == 1,
        },
    )


if __name__ == "__main__":
    main()
