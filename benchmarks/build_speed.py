"""Speed of building a dataset from JPEG images, compared with hardware limits and with `datasets`.

    python benchmarks/build_speed.py [--n 100000] [--n-small 50000] [--rounds 2] [--folder FOLDER] [--quick]

Each step is a separate process, its start included, and reads the same files from the page cache. The steps take turns,
and the results are medians over rounds (`imagefolder` runs once, because it takes minutes).

- `decode`: the limit of a build that decodes images. The fastest decoder (libjpeg-turbo) decodes the files to RGB with
  as many threads as there are cores, into memory that is reused.
- `decode, small`: the same, to a small grey image, as the check of the build does: all data of a file are decoded, but
  few pixels are computed.
- `copy`: the limit of a build that does not decode. pyarrow writes the files and the columns of the vote table to one
  Parquet file, with its default settings and row groups of 100, without checks.
- `copy, checked`: the same on two threads, with what a dataset guarantees: page checksums, SHA-256 checksums of each
  image and of the file, and a flush to disk.
- `copy, checked, by two`: two processes, each with half of the images and its own file, without compression and
  dictionaries. This is close to the minimum for checked output.
- `build` and `build --headers-only`: `gzoo build`, including votes, splits, checksums, dataset card and manifest.
- `imagefolder`: `datasets.load_dataset("imagefolder")` with the votes as metadata, then `to_parquet`.

Core seconds are the CPU time of a step, summed over cores. Divided by the number of cores, they are the shortest
possible duration of the step.

The images are simulated: some at JPEG quality 97 (37 kB each, as in recent campaigns), some as the simulator writes
them (14 kB, as the real images of Galaxy Zoo 2). Memory is the peak resident memory of the build at `--n` images and at
10,000.

Writes benchmarks/results/build_speed.json.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
from measuring import arguments, write
from PIL import Image

from gzoo.simulator import simulate

DECODE = """
import sys, os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import simplejpeg
import numpy as np
how = {"colorspace": "GRAY", "min_height": 1, "min_width": 1, "min_factor": 8} if sys.argv[2] == "small" else {}
def work(names):
    pixels = np.empty(8_000_000, np.uint8)
    for name in names:
        with open(name, "rb") as file:
            data = file.read()
        simplejpeg.decode_jpeg(data, buffer=pixels, fastdct=True, fastupsample=True, strict=True, **how)
names = [os.path.join(sys.argv[1], name) for name in sorted(os.listdir(sys.argv[1]))]
with ThreadPoolExecutor(os.cpu_count()) as pool:
    list(pool.map(work, [names[i:i + 100] for i in range(0, len(names), 100)]))
"""
COPY = """
import sys, os
import pyarrow as pa, pyarrow.parquet as pq
votes = pq.read_table(sys.argv[3])
names = [name + ".jpg" for name in votes["id_str"].to_pylist()]
kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
with pq.ParquetWriter(sys.argv[2], pa.schema([*votes.schema, ("image", kind)])) as writer:
    for i in range(0, len(names), 100):
        rows = []
        for name in names[i:i + 100]:
            with open(os.path.join(sys.argv[1], name), "rb") as file:
                rows.append({"bytes": file.read(), "path": name})
        writer.write_table(votes.slice(i, 100).append_column("image", pa.array(rows, kind)))
"""
COPY_CHECKED = """
import hashlib, os, sys
from concurrent.futures import ThreadPoolExecutor
import pyarrow as pa, pyarrow.parquet as pq
def read(names):
    rows, checksums = [], []
    for name in names:
        with open(os.path.join(sys.argv[1], name), "rb") as file:
            data = file.read()
        rows.append({"bytes": data, "path": name})
        checksums.append(hashlib.sha256(data).hexdigest())
    return pa.array(rows, kind), checksums
votes = pq.read_table(sys.argv[3])
names = [name + ".jpg" for name in votes["id_str"].to_pylist()]
kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
groups = [names[i:i + 100] for i in range(0, len(names), 100)]
checksums = []
with ThreadPoolExecutor(1) as pool, pq.ParquetWriter(
    sys.argv[2], pa.schema([*votes.schema, ("image", kind)]), write_page_checksum=True
) as writer:
    ahead = [pool.submit(read, group) for group in groups[:8]]
    for i in range(len(groups)):
        rows, found = ahead.pop(0).result()
        if i + 8 < len(groups):
            ahead.append(pool.submit(read, groups[i + 8]))
        writer.write_table(votes.slice(i * 100, 100).append_column("image", rows))
        checksums += found
with open(sys.argv[2], "rb") as file:
    os.fsync(file.fileno())
    checksums.append(hashlib.file_digest(file, "sha256").hexdigest())
"""
COPY_CHECKED_BY_TWO = """
import os, sys
os.mkdir(sys.argv[2])
half = int(os.fork() == 0)
import hashlib
import pyarrow as pa, pyarrow.parquet as pq
votes = pq.read_table(sys.argv[3])
names = [name + ".jpg" for name in votes["id_str"].to_pylist()]
kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
path, checksums = os.path.join(sys.argv[2], str(half)), []
schema = pa.schema([*votes.schema, ("image", kind)])
with pq.ParquetWriter(path, schema, write_page_checksum=True, compression="none", use_dictionary=False) as writer:
    for i in range(100 * half, len(names), 200):
        rows = []
        for name in names[i:i + 100]:
            with open(os.path.join(sys.argv[1], name), "rb") as file:
                data = file.read()
            rows.append({"bytes": data, "path": name})
            checksums.append(hashlib.sha256(data).hexdigest())
        writer.write_table(votes.slice(i, 100).append_column("image", pa.array(rows, kind)))
with open(path, "rb") as file:
    os.fsync(file.fileno())
    checksums.append(hashlib.file_digest(file, "sha256").hexdigest())
if half:
    os._exit(0)
if os.wait()[1]:
    sys.exit("the other process failed")
"""
IMAGEFOLDER = """
import sys, datasets
datasets.disable_progress_bars()
loaded = datasets.load_dataset("imagefolder", data_dir=sys.argv[1], split="train", cache_dir=sys.argv[2])
loaded.to_parquet(sys.argv[2] + "/out.parquet")
"""


N_MEMORY, N_QUICK = 10_000, 500  # images of the small build whose memory is measured


def main() -> None:
    parser = arguments(__doc__, "build_speed.json")
    parser.add_argument("--n", type=int, default=100_000, help="images at JPEG quality 97 (default: 100,000)")
    parser.add_argument("--n-small", type=int, default=50_000, help="images as simulated (default: 50,000)")
    parser.add_argument("--rounds", type=int, default=2, help="number of rounds (default: 2)")
    parser.add_argument("--folder", type=Path, help="where temporary files are kept")
    parser.add_argument("--quick", action="store_true", help="use a few hundred images, and write only to --out")
    options = parser.parse_args()
    n, n_small, rounds = (300, 200, 1) if options.quick else (options.n, options.n_small, options.rounds)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        result = measured(Path(name), n, n_small, rounds, N_QUICK if options.quick else N_MEMORY)
    write(options, result)


def measured(folder: Path, n: int, n_small: int, rounds: int, n_memory: int) -> dict[str, object]:
    """Measure speed for both kinds of images, and memory."""
    made = simulate("gz2", n_galaxies=min(500, n), export=False, workers=os.cpu_count() or 1, out=folder / "sky")
    table = pl.read_parquet(made.votes)
    rich = folder / "rich"
    rich.mkdir()
    for path in made.images.iterdir():
        Image.open(path).save(rich / path.name, quality=97, subsampling=0)
    votes = copies(folder, rich, table, n_memory, "few")
    build_of_few = build(votes, folder / "few", folder / "out")
    memory = median(run(build_of_few)[2] for _ in range(3) if not shutil.rmtree(folder / "out", ignore_errors=True))
    shutil.rmtree(folder / "out")
    shutil.rmtree(folder / "few")
    large = speed(folder, rich, table, n, rounds)
    return {
        "at JPEG quality 97": large,
        "as simulated": speed(folder, made.images, table, n_small, rounds),
        f"peak megabytes at {n_memory:,} images": round(memory / 1e6),
        "ratio of the peak memories": round(large["peak megabytes of the build"] / memory * 1e6, 3),
    }


def speed(folder: Path, images: Path, table: pl.DataFrame, n: int, rounds: int) -> dict[str, Any]:
    """Run all steps on n images, in turns."""
    some, ones = folder / "some", folder / "as-imagefolder"
    votes = copies(folder, images, table, n, "some")
    steps = {
        "decode": lambda out: [sys.executable, "-c", DECODE, some, "whole"],
        "decode, small": lambda out: [sys.executable, "-c", DECODE, some, "small"],
        "build": lambda out: build(votes, some, out),
        "copy": lambda out: [sys.executable, "-c", COPY, some, out, votes],
        "copy, checked": lambda out: [sys.executable, "-c", COPY_CHECKED, some, out, votes],
        "copy, checked, by two": lambda out: [sys.executable, "-c", COPY_CHECKED_BY_TWO, some, out, votes],
        "build --headers-only": lambda out: [*build(votes, some, out), "--headers-only"],
        "imagefolder": lambda out: [sys.executable, "-c", IMAGEFOLDER, ones, out],
    }
    as_imagefolder(folder, votes)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    core_seconds: dict[str, list[float]] = {name: [] for name in steps}
    memory: list[int] = []
    for i in range(rounds):
        for name, command in steps.items():
            out = folder / "out"
            if name == "imagefolder":
                if i:
                    continue
                out.mkdir()
            took, computed, peak = run(command(out))
            seconds[name].append(took)
            core_seconds[name].append(computed)
            memory += [peak] if name == "build" else []
            shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
    n_bytes = sum(path.stat().st_size for path in some.iterdir())
    shutil.rmtree(ones)
    shutil.rmtree(some)
    middle = {name: median(each) for name, each in seconds.items()}
    return {
        "images": n,
        "kilobytes per image": round(n_bytes / n / 1e3, 1),
        "seconds (median)": {name: round(one, 2) for name, one in middle.items()},
        "seconds, all rounds": {name: [round(one, 2) for one in each] for name, each in seconds.items()},
        "core seconds (median)": {name: round(median(each), 2) for name, each in core_seconds.items()},
        "images per second": {name: round(n / one) for name, one in middle.items()},
        "peak megabytes of the build": round(median(memory) / 1e6),
        "build, relative to decode": round(middle["decode"] / middle["build"], 3),
        "build, relative to decode, small": round(middle["decode, small"] / middle["build"], 3),
        "build --headers-only, relative to copy": round(middle["copy"] / middle["build --headers-only"], 3),
        "build --headers-only, relative to copy, checked": round(
            middle["copy, checked"] / middle["build --headers-only"], 3
        ),
        "copy, checked, by two, relative to copy": round(middle["copy"] / middle["copy, checked, by two"], 3),
        "build, relative to imagefolder": round(middle["imagefolder"] / middle["build"], 2),
        "build --headers-only, relative to imagefolder": round(
            middle["imagefolder"] / middle["build --headers-only"], 2
        ),
    }


def copies(folder: Path, images: Path, votes: pl.DataFrame, n: int, name: str) -> Path:
    """Write n copies of the images, each to its own file, and return the path of their vote table."""
    (folder / name).mkdir()
    sources = [(images / one).read_bytes() for one in (f"{id_str}.jpg" for id_str in votes["id_str"])]
    for i in range(n):
        (folder / name / f"g{i:07d}.jpg").write_bytes(sources[i % len(sources)])
    table = pl.concat([votes.drop("filename")] * -(-n // votes.height)).head(n)
    table = table.with_columns(
        id_str=pl.Series([f"g{i:07d}" for i in range(n)]),
        ra=pl.Series([i * 360 / n for i in range(n)]),
        dec=pl.Series([(i * 7919 % n) * 120 / n - 60 for i in range(n)]),
    )
    table.write_parquet(folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


def as_imagefolder(folder: Path, votes: Path) -> None:
    """Write the images and votes in the layout of `imagefolder`."""
    target = folder / "as-imagefolder"
    target.mkdir()
    for path in (folder / "some").iterdir():
        (target / path.name).hardlink_to(path)
    table = pl.read_parquet(votes)
    table.select(pl.format("{}.jpg", "id_str").alias("file_name"), pl.all()).write_csv(target / "metadata.csv")


def build(votes: Path, images: Path, out: Path) -> list[str | Path]:
    """Return the command of a build."""
    return [sys.executable, "-m", "gzoo", "build", "gz2", "--votes", votes, "--images", images, "--out", out]


def run(command: list[str | Path]) -> tuple[float, float, int]:
    """Run a command; return its seconds, core seconds and peak resident memory in bytes."""
    begun = time.perf_counter()
    # as in any installation, compiled modules are kept from one run to the next
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        [str(one) for one in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed:\n{said}")
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
