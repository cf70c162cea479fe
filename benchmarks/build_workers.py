"""Speed of builds with one and two workers of a Dask cluster, and the effect of a killed worker.

    python benchmarks/build_workers.py [--n 20000] [--rounds 3]

The same dataset (JPEG images, all decoded as a check) is built in four ways: by one worker, by two workers, by two
workers of which one receives SIGKILL when a third of the shards is written, and without workers by this process with a
thread for each core. Clusters are started before the measurement, each worker has one thread, and the builds take
turns.

Writes benchmarks/results/build_workers.json.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import polars as pl
from build_speed import copies
from distributed import LocalCluster
from measuring import arguments, write

from gzoo.dataset import build, finalize
from gzoo.simulator import simulate

Progress = Callable[[str, int, int], None]


def main() -> None:
    parser = arguments(__doc__, "build_workers.json")
    parser.add_argument("--n", type=int, default=20_000, help="images, at least 2,500 (default: 20,000)")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: 3)")
    options = parser.parse_args()
    if options.n < 2500:
        parser.error(f"--n must be at least 2,500, got {options.n:,}")
    finalize.SHARD_BYTES = 10_000_000
    seconds: dict[str, list[float]] = {
        "no workers": [],
        "one worker": [],
        "two workers": [],
        "two workers, one killed": [],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = simulate("gz2", n_galaxies=500, export=False, workers=os.cpu_count() or 1, out=folder / "sky")
        votes = copies(folder, made.images, pl.read_parquet(made.votes), options.n, "some")
        is_same = True
        expected: dict[str, str] = {}
        for _ in range(options.rounds):
            for kind, each in seconds.items():
                n_workers = {"no workers": 0, "one worker": 1}.get(kind, 2)
                took, found = built(votes, folder / "some", folder / "out", n_workers, is_killed="killed" in kind)
                each.append(took)
                expected = expected or found
                is_same = is_same and found == expected
    result = {
        "images": options.n,
        "shards": len([name for name in expected if name.startswith("data/")]),
        "same bytes in every build": is_same,
        "seconds (median)": {kind: round(median(each), 2) for kind, each in seconds.items()},
        "seconds, all rounds": {kind: [round(one, 2) for one in each] for kind, each in seconds.items()},
        "speed of two workers relative to one": round(
            median(seconds["one worker"]) / median(seconds["two workers"]), 2
        ),
    }
    write(options, result)


def built(votes: Path, images: Path, out: Path, n_workers: int, *, is_killed: bool) -> tuple[float, dict[str, str]]:
    """Build once; return the seconds and the SHA-256 checksum of each file."""
    cluster = None
    if n_workers:
        cluster = LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None, memory_limit=0)

    def kill(stage: str, done: int, total: int) -> None:
        if cluster and is_killed and stage == "Writing shards" and done > total / 3 and len(killed) == 0:
            killed.append(cluster.workers[0].pid)
            os.kill(cluster.workers[0].pid, signal.SIGKILL)

    killed: list[int] = []
    begun = time.perf_counter()
    scheduler = cluster.scheduler_address if cluster else None
    build.build("gz2", votes=votes, images=images, out=out, scheduler=scheduler, progress=kill)
    seconds = time.perf_counter() - begun
    assert bool(killed) == is_killed
    if cluster:
        cluster.close()
    checksums = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file()
    }
    shutil.rmtree(out)
    return seconds, checksums


if __name__ == "__main__":
    main()
