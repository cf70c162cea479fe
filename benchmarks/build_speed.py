"""How fast a dataset is built from JPEG images, against what the hardware allows and against `datasets`.

    python benchmarks/build_speed.py [--n 100000] [--n-small 50000] [--rounds 2] [--folder FOLDER]

Every step is a process of its own, start included, on the same files, whose bytes are in the page cache; the steps take
turns, and the median of the rounds counts (`imagefolder` has one round, for it takes minutes):

- `decode`: the limit of a build that decodes: files read and decoded to colour pixels by the fastest decoder here
  (libjpeg-turbo), on as many threads as there are cores, into memory that is used again, nothing kept.
- `decode, small`: the same, to a small grey image, as the build's check has it: all that a file holds is decoded, but
  few pixels are made of it.
- `copy`: the limit of a build that does not: files read and written, with the columns of the vote table, into one
  Parquet file by pyarrow with its own settings, row groups of 100, nothing checked.
- `copy, checked`: the same on two threads, with what a dataset promises beside: checksums of pages, sha256 of each
  image and of the file, the file on the disk and not only on its way there.
- `copy, checked, by two`: about as little as that can take: two processes, each with half of the images and a file
  of its own, without compression and dictionaries.
- `build` and `build --headers-only`: `gzoo build`, votes, splits, digests, card and manifest included.
- `imagefolder`: `datasets.load_dataset("imagefolder")` with the votes as metadata, then `to_parquet`.

Core seconds are what a step computed for, on all cores together: divided by the number of cores, the least time that it
could take if no core ever waited.

Images are the simulator's, at JPEG quality 97 (37 kB each, as in later campaigns), and some as it writes them (14
kB, as the real ones of Galaxy Zoo 2). Memory is the peak of the build's process (resident set) at `--n` images and at
10,000. Writes benchmarks/results/build_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
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
    rows, digests = [], []
    for name in names:
        with open(os.path.join(sys.argv[1], name), "rb") as file:
            data = file.read()
        rows.append({"bytes": data, "path": name})
        digests.append(hashlib.sha256(data).hexdigest())
    return pa.array(rows, kind), digests
votes = pq.read_table(sys.argv[3])
names = [name + ".jpg" for name in votes["id_str"].to_pylist()]
kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
groups = [names[i:i + 100] for i in range(0, len(names), 100)]
digests = []
with ThreadPoolExecutor(1) as pool, pq.ParquetWriter(
    sys.argv[2], pa.schema([*votes.schema, ("image", kind)]), write_page_checksum=True
) as writer:
    ahead = [pool.submit(read, group) for group in groups[:8]]
    for i in range(len(groups)):
        rows, found = ahead.pop(0).result()
        if i + 8 < len(groups):
            ahead.append(pool.submit(read, groups[i + 8]))
        writer.write_table(votes.slice(i * 100, 100).append_column("image", rows))
        digests += found
with open(sys.argv[2], "rb") as file:
    os.fsync(file.fileno())
    digests.append(hashlib.file_digest(file, "sha256").hexdigest())
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
path, digests = os.path.join(sys.argv[2], str(half)), []
schema = pa.schema([*votes.schema, ("image", kind)])
with pq.ParquetWriter(path, schema, write_page_checksum=True, compression="none", use_dictionary=False) as writer:
    for i in range(100 * half, len(names), 200):
        rows = []
        for name in names[i:i + 100]:
            with open(os.path.join(sys.argv[1], name), "rb") as file:
                data = file.read()
            rows.append({"bytes": data, "path": name})
            digests.append(hashlib.sha256(data).hexdigest())
        writer.write_table(votes.slice(i, 100).append_column("image", pa.array(rows, kind)))
with open(path, "rb") as file:
    os.fsync(file.fileno())
    digests.append(hashlib.file_digest(file, "sha256").hexdigest())
if half:
    os._exit(0)
if os.wait()[1]:
    sys.exit("the other half failed")
"""
IMAGEFOLDER = """
import sys, datasets
datasets.disable_progress_bars()
loaded = datasets.load_dataset("imagefolder", data_dir=sys.argv[1], split="train", cache_dir=sys.argv[2])
loaded.to_parquet(sys.argv[2] + "/out.parquet")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--n-small", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        result = measured(Path(name), options.n, options.n_small, options.rounds)
    path = Path(__file__).parent / "results" / "build_speed.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measured(folder: Path, n: int, n_small: int, rounds: int) -> dict[str, object]:
    made = simulate("gz2", n_galaxies=500, export=False, workers=os.cpu_count() or 1, out=folder / "sky")
    table = pl.read_parquet(made.votes)
    rich = folder / "rich"
    rich.mkdir()
    for path in made.images.iterdir():
        Image.open(path).save(rich / path.name, quality=97, subsampling=0)
    votes = copies(folder, rich, table, 10_000, "ten")
    build_of_ten = build(votes, folder / "ten", folder / "out")
    memory = median(run(build_of_ten)[2] for _ in range(3) if not shutil.rmtree(folder / "out", ignore_errors=True))
    shutil.rmtree(folder / "out")
    shutil.rmtree(folder / "ten")
    large = speed(folder, rich, table, n, rounds)
    return {
        "at JPEG quality 97": large,
        "as simulated": speed(folder, made.images, table, n_small, rounds),
        "peak megabytes of 10,000 images": round(memory / 1e6),
        "peak memory, large over small": round(large["peak megabytes"] / memory * 1e6, 3),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "versions": {
            **{name: version(name) for name in ("gzoo", "pyarrow", "simplejpeg", "datasets", "polars", "numpy")},
            "python": platform.python_version(),
        },
    }


def speed(folder: Path, images: Path, table: pl.DataFrame, n: int, rounds: int) -> dict[str, Any]:
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
        "kilobytes an image": round(n_bytes / n / 1e3, 1),
        "seconds (median)": {name: round(one, 2) for name, one in middle.items()},
        "seconds, all": {name: [round(one, 2) for one in each] for name, each in seconds.items()},
        "core seconds (median)": {name: round(median(each), 2) for name, each in core_seconds.items()},
        "images a second": {name: round(n / one) for name, one in middle.items()},
        "peak megabytes": round(median(memory) / 1e6),
        "build, of the decode-only limit": round(middle["decode"] / middle["build"], 3),
        "build, of the limit of its check": round(middle["decode, small"] / middle["build"], 3),
        "build --headers-only, of the plain writer": round(middle["copy"] / middle["build --headers-only"], 3),
        "build --headers-only, of the writer with checksums and digests": round(
            middle["copy, checked"] / middle["build --headers-only"], 3
        ),
        "writer with checksums and digests by two, of the plain writer": round(
            middle["copy"] / middle["copy, checked, by two"], 3
        ),
        "build, times as fast as imagefolder": round(middle["imagefolder"] / middle["build"], 2),
        "build --headers-only, times as fast as imagefolder": round(
            middle["imagefolder"] / middle["build --headers-only"], 2
        ),
    }


def copies(folder: Path, images: Path, votes: pl.DataFrame, n: int, name: str) -> Path:
    """A folder with n images, each a file of its own, and their vote table."""
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
    target = folder / "as-imagefolder"
    target.mkdir()
    for path in (folder / "some").iterdir():
        (target / path.name).hardlink_to(path)
    table = pl.read_parquet(votes)
    table.select(pl.format("{}.jpg", "id_str").alias("file_name"), pl.all()).write_csv(target / "metadata.csv")


def build(votes: Path, images: Path, out: Path) -> list[str | Path]:
    return [sys.executable, "-m", "gzoo.cli", "build", "gz2", "--votes", votes, "--images", images, "--out", out]


def run(command: list[str | Path]) -> tuple[float, float, int]:
    """Seconds, core seconds, and the largest resident set in bytes."""
    begun = time.perf_counter()
    # compiled modules are kept from one run to the next, as in any installation
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
