"""Classifications counted a second, against panoptes-aggregation on rows of the same export.

    python benchmarks/ingest_speed.py [--n-galaxies 24600] [--peer /path/to/panoptes_aggregation] [--sample 2000 6000]

Simulates about a million classifications of Galaxy Zoo 2, counts them with `gzoo count` in a process of its own (start
included), and lets panoptes-aggregation 5.3.1, from an environment of its own, extract and reduce the first rows of the
same file with two processes. Its time for all rows is extrapolated from two samples, so that its start and its
set-up are counted once: seconds(all) = start + all x seconds a row. Both are given what they ask for beforehand, gzoo
its mapping file, the peer its configuration. Writes benchmarks/results/ingest_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import polars as pl

from gzoo import mapping
from gzoo.simulator import simulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-galaxies", type=int, default=24_600)
    parser.add_argument("--peer", default="panoptes_aggregation")
    parser.add_argument("--sample", type=int, nargs=2, default=(2000, 6000))
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        made = simulate("gz2", n_galaxies=options.n_galaxies, images=False, out=folder / "sky")
        mapping(made.classifications, "gz2", workflows=made.workflows, out=folder / "tasks.toml")
        ours = [count(made.classifications, made.workflows, folder, i, True) for i in range(3)]
        proposed = count(made.classifications, made.workflows, folder, 9, False)
        ours.sort()
        votes, truth = pl.read_parquet(folder / "votes0.parquet"), pl.read_parquet(made.votes)
        names = [one for one in truth.columns if one not in ("ra", "dec")]
        is_equal = votes.sort("id_str").select(names).equals(truth.sort("id_str").select(names))
        peer = [sample(options.peer, made.classifications, made.workflows, folder, n) for n in options.sample]
        n_bytes = made.classifications.stat().st_size
    a_row = (peer[1][0] - peer[0][0]) / (options.sample[1] - options.sample[0])
    scaled = peer[0][0] + a_row * (made.n_classifications - options.sample[0])
    seconds = ours[1][0]
    result = {
        "classifications": made.n_classifications,
        "megabytes": round(n_bytes / 1e6),
        "counts equal the truth table": is_equal,
        "gzoo seconds (median of three)": round(seconds, 1),
        "gzoo seconds, all": [round(one[0], 1) for one in ours],
        "gzoo seconds without a mapping file": round(proposed[0], 1),
        "gzoo peak memory, MB": round(ours[1][1]),
        "peer": "panoptes-aggregation 5.3.1, extract and reduce, 2 processes",
        "peer seconds by sample": dict(zip(map(str, options.sample), (round(one[0], 1) for one in peer), strict=True)),
        "peer seconds, scaled to all": round(scaled),
        "peer peak memory of the largest sample, MB": round(peer[1][1]),
        "ratio": round(scaled / seconds),
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {name: version(name) for name in ("polars", "numpy")} | {"python": platform.python_version()},
    }
    print(json.dumps(result, indent=2))
    path = Path(__file__).parent / "results" / "ingest_speed.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


def count(export: Path, workflows: Path, folder: Path, i: int, is_mapped: bool) -> tuple[float, float]:
    """Seconds and peak megabytes of `gzoo count`."""
    out = folder / f"votes{i}.parquet"
    command = [sys.executable, "-c", "from gzoo.cli import main; main()", "count", "gz2", "--out", str(out)]
    command += ["--classifications", str(export), "--workflows", str(workflows)]
    return timed([*command, "--tasks", str(folder / "tasks.toml")] if is_mapped else command, folder)


def sample(peer: str, export: Path, workflows: Path, folder: Path, n: int) -> tuple[float, float]:
    """Seconds and peak megabytes of the peer for the first rows."""
    small = folder / f"first{n}.csv"
    with export.open("rb") as file:
        small.write_bytes(b"".join(islice(file, n + 1)))
    number = pl.read_csv(workflows, infer_schema=False)["workflow_id"][0]
    stem = f"workflow_{number}_V2.10"
    subprocess.run([peer, "config", workflows, number, "-v", "2.10", "-d", folder], check=True, capture_output=True)
    extract = [peer, "extract", str(small), f"{folder}/Extractor_config_{stem}.yaml"]
    first = timed([*extract, "-d", str(folder), "-o", str(n), "-c", "2", "-hb"], folder)
    reduce = [peer, "reduce", f"{folder}/question_extractor_{n}.csv"]
    reduce += [f"{folder}/Reducer_config_{stem}_question_extractor.yaml"]
    second = timed([*reduce, "-d", str(folder), "-o", str(n), "-c", "2", "-F", "first", "-hb"], folder)
    return first[0] + second[0], max(first[1], second[1])


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of a process."""
    begun = time.perf_counter()
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{command} failed:\n{said.decode(errors='replace')[-2000:]}")
    return time.perf_counter() - begun, used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
