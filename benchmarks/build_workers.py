"""Shards written by the workers of a Dask cluster: how much faster are two than one, and what if one is killed?

    python benchmarks/build_workers.py [--n 20000] [--rounds 3]

The same dataset (JPEG images, all decoded as a check) is built by one worker, by two, by two of which one gets
SIGKILL when a third of the shards is written, and by this process alone with a thread for each core. Clusters are
started beforehand, each worker has one thread, and the builds take turns. Writes benchmarks/results/build_workers.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import polars as pl
from build_speed import copies
from distributed import LocalCluster

from gzoo.dataset import build, finalize
from gzoo.simulator import simulate

Progress = Callable[[str, int, int], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    finalize.SHARD_BYTES = 10_000_000
    seconds: dict[str, list[float]] = {"alone": [], "one worker": [], "two workers": [], "two, one of them killed": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = simulate("gz2", n_galaxies=500, export=False, workers=os.cpu_count() or 1, out=folder / "sky")
        votes = copies(folder, made.images, pl.read_parquet(made.votes), options.n, "some")
        is_same = True
        expected: dict[str, str] = {}
        for _ in range(options.rounds):
            for kind, each in seconds.items():
                n_workers = {"alone": 0, "one worker": 1}.get(kind, 2)
                took, found = built(votes, folder / "some", folder / "out", n_workers, is_killed="killed" in kind)
                each.append(took)
                expected = expected or found
                is_same = is_same and found == expected
    result = {
        "images": options.n,
        "shards": len([name for name in expected if name.startswith("data/")]),
        "same bytes in every build": is_same,
        "seconds (median)": {kind: round(median(each), 2) for kind, each in seconds.items()},
        "seconds, all": {kind: [round(one, 2) for one in each] for kind, each in seconds.items()},
        "two workers, times as fast as one": round(median(seconds["one worker"]) / median(seconds["two workers"]), 2),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "versions": {
            **{name: version(name) for name in ("gzoo", "distributed", "pyarrow", "simplejpeg")},
            "python": platform.python_version(),
        },
    }
    path = Path(__file__).parent / "results" / "build_workers.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def built(votes: Path, images: Path, out: Path, n_workers: int, *, is_killed: bool) -> tuple[float, dict[str, str]]:
    """Seconds, and the digest of each file."""
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
    digests = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file()
    }
    shutil.rmtree(out)
    return seconds, digests


if __name__ == "__main__":
    main()
