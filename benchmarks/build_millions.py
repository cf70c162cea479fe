"""Time and memory to simulate, build, check and summarise millions of galaxies on one machine, without images.

    python benchmarks/build_millions.py [--n 8700000] [--workers 2] [--simulation FOLDER] [--folder FOLDER]

Each step is a separate command: `gzoo simulate gz_desi --no-images --no-export` (omitted with `--simulation`, which
names an existing simulation), `gzoo build gz_desi --no-images`, `gzoo check`, and a count of the `summary` column with
polars, as a user would make it. Memory is the peak resident memory of the process that leads the step, and the part of
it that belongs to the process (RssAnon on Linux, sampled every half second). The remainder is cached pages of files,
which the system reclaims when other programs need memory.

Writes benchmarks/results/build_millions.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
from measuring import arguments, write

COUNT = """
import sys, json, polars as pl
counted = pl.scan_parquet(sys.argv[1] + "/data/train-*.parquet").group_by("summary").len().sort("len").collect()
print(json.dumps(dict(counted.iter_rows())))
"""


def main() -> None:
    parser = arguments(__doc__, "build_millions.json")
    parser.add_argument("--n", type=int, default=8_700_000, help="number of galaxies (default: 8,700,000)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that simulate")
    parser.add_argument("--simulation", type=Path, help="existing simulation to build from")
    parser.add_argument("--folder", type=Path, help="where temporary files are kept")
    options = parser.parse_args()
    gzoo = [sys.executable, "-m", "gzoo"]
    steps: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        sky, out = options.simulation or Path(name) / "sky", Path(name) / "gz_desi"
        if not options.simulation:
            command = ["simulate", "gz_desi", "--no-images", "--no-export", "--n-galaxies", options.n, "--out", sky]
            steps["simulate"], _ = run([*gzoo, *command, "--workers", options.workers])
        votes = sky / "votes.parquet"
        steps["build"], _ = run([*gzoo, "build", "gz_desi", "--votes", votes, "--no-images", "--out", out])
        steps["check"], said = run([*gzoo, "check", out, "--json"])
        checked = json.loads(said)
        steps["count summary labels"], said = run([sys.executable, "-c", COUNT, out])
        manifest = json.loads((out / "manifest.json").read_text())
        n_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        shards = sorted(path.name for path in (out / "data").iterdir())
        facts = pq.read_metadata(out / "data" / shards[0])
        result = {
            "vote rows": pq.read_metadata(votes).num_rows,
            "columns of the dataset": len(manifest["columns"]),
            "galaxies by split": manifest["splits"]["default"],
            "rows dropped": manifest["n_dropped"],
            "steps": steps,
            "megabytes of the vote table": round(votes.stat().st_size / 1e6),
            "megabytes of the dataset": round(n_bytes / 1e6),
            "shards": len(shards),
            "rows per row group": facts.row_group(0).num_rows,
            "is valid": checked["is_valid"],
            "checks": {one["name"]: one["verdict"] for one in checked["checks"]},
            "summary labels of the train split": json.loads(said),
        }
    write(options, result)


def run(command: list[object]) -> tuple[dict[str, float], str]:
    """Run a command; return its minutes and peak memory, and what it printed."""
    begun = time.perf_counter()
    process = subprocess.Popen([str(one) for one in command], stdout=subprocess.PIPE, text=True)
    own: list[int] = [0]

    def watch() -> None:
        while process.returncode is None:
            with contextlib.suppress(OSError, StopIteration):
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                own.append(int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024)
            time.sleep(0.5)

    threading.Thread(target=watch, daemon=True).start()
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit(f"{command} failed: {said[-2000:]}")
    minutes = (time.perf_counter() - begun) / 60
    return {
        "minutes": round(minutes, 2),
        "peak megabytes": round(usage.ru_maxrss * 1024 / 1e6),
        "peak megabytes of the process alone": round(max(own) / 1e6),
    }, said


if __name__ == "__main__":
    main()
