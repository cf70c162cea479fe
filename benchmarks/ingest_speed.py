"""Classifications counted per second by gzoo and by panoptes-aggregation, on rows of the same export.

    python benchmarks/ingest_speed.py [--n-galaxies 24600] [--peer /path/to/panoptes_aggregation] [--sample 2000 6000]
    python benchmarks/ingest_speed.py --n-galaxies 300 --without-peer --out FILE

About a million classifications of Galaxy Zoo 2 are simulated. `gzoo count` counts them in a separate process, its start
included. panoptes-aggregation 5.3.1, in its own environment, extracts and reduces the first rows of the same file with
two processes. Its duration for all rows is extrapolated from two samples, so that its start and set-up are counted
once: seconds(all) = start + all x seconds per row. Both have the input that they need: gzoo its mapping file, the peer
its configuration.

Writes benchmarks/results/ingest_speed.json.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import polars as pl
from measuring import arguments, write

from gzoo import mapping
from gzoo.simulator import simulate


def main() -> None:
    parser = arguments(__doc__, "ingest_speed.json")
    parser.add_argument("--n-galaxies", type=int, default=24_600, help="number of galaxies (default: 24,600)")
    parser.add_argument("--peer", default="panoptes_aggregation", help="command of panoptes-aggregation")
    parser.add_argument("--without-peer", action="store_true", help="measure gzoo only")
    parser.add_argument("--sample", type=int, nargs=2, default=(2000, 6000), help="rows of the peer's two samples")
    parser.add_argument("--folder", type=Path, help="where temporary files are kept")
    options = parser.parse_args()
    if not options.without_peer and shutil.which(options.peer) is None:
        raise SystemExit(f"Command not found: '{options.peer}'. Pass its path with --peer, or pass --without-peer.")
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
        peer: list[tuple[float, float]] = []
        if not options.without_peer:
            peer = [sample(options.peer, made.classifications, made.workflows, folder, n) for n in options.sample]
        n_bytes = made.classifications.stat().st_size
    seconds = ours[1][0]
    result: dict[str, object] = {
        "classifications": made.n_classifications,
        "megabytes": round(n_bytes / 1e6),
        "counts equal the simulated votes": is_equal,
        "gzoo, seconds (median of three)": round(seconds, 1),
        "gzoo, seconds, all rounds": [round(one[0], 1) for one in ours],
        "gzoo, seconds without a mapping file": round(proposed[0], 1),
        "gzoo, peak megabytes": round(ours[1][1]),
    }
    if peer:
        per_row = (peer[1][0] - peer[0][0]) / (options.sample[1] - options.sample[0])
        scaled = peer[0][0] + per_row * (made.n_classifications - options.sample[0])
        seconds_of_sample = (round(one[0], 1) for one in peer)
        result |= {
            "peer": "panoptes-aggregation 5.3.1, extract and reduce, 2 processes",
            "peer, seconds by sample": dict(zip(map(str, options.sample), seconds_of_sample, strict=True)),
            "peer, seconds, extrapolated to all rows": round(scaled),
            "peer, peak megabytes of the largest sample": round(peer[1][1]),
            "speed of gzoo relative to the peer": round(scaled / seconds),
        }
    write(options, result)


def count(export: Path, workflows: Path, folder: Path, i: int, is_mapped: bool) -> tuple[float, float]:
    """Return seconds and peak megabytes of `gzoo count`."""
    out = folder / f"votes{i}.parquet"
    command = [sys.executable, "-m", "gzoo", "count", "gz2", "--out", str(out)]
    command += ["--classifications", str(export), "--workflows", str(workflows)]
    return timed([*command, "--mapping", str(folder / "tasks.toml")] if is_mapped else command, folder)


def sample(peer: str, export: Path, workflows: Path, folder: Path, n: int) -> tuple[float, float]:
    """Return seconds and peak megabytes of the peer for the first rows."""
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
    """Return seconds and peak megabytes of a command."""
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
