"""Throughput and memory of `gzoo embed`, and whether kills and workers change its bytes.

    python benchmarks/embedding_speed.py [--n 10000] [--large 100000] [--quick] [--out FILE]

- Throughput: galaxies per CPU second and per second of the loader alone, of the encoder alone (8 orientations of images
  that are in memory), and of `gzoo embed`, in turn and three times. The bar is 0.9 of 1 / (1 / loader + 1 / encoder),
  by CPU time, which a busy machine does not change; the ratio by the clock is beside it.
- Memory: peak memory of embedding 100,000 images (200 images, linked many times) and of 10,000, each in a new process.
  The bar is a ratio of 1.1.
- Same bytes: 10,000 images embedded by a process that is killed twice and started again, and by two Dask workers, all
  with one thread.

The encoder has random weights: what it sees does not matter here. Writes benchmarks/results/embedding_speed.json.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from measuring import arguments, write
from PIL import Image
from safetensors.torch import save_file

from gzoo import embed
from gzoo.files import sha256
from gzoo.learn.encoders import create_encoder
from gzoo.learn.image_files import image_loader
from gzoo.learn.orientations import orientations
from gzoo.learn.starting import open_encoder

ENCODER, SIZE, IMAGE_PIXELS, N_IMAGES, N_TIMED, BATCH = "mobilenetv3_small_050", 64, 256, 200, 1024, 64
BAR_THROUGHPUT, BAR_MEMORY = 0.9, 1.1
EMBED = """
import json, resource, sys
from gzoo import embed
run, data, out, views, scheduler = sys.argv[1:]
embed(run, data, out=out, views=int(views), scheduler=scheduler or None)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6))
"""


def images(folder: Path, n: int) -> Path:
    """Make a folder of n images, of which only a few are different."""
    originals = folder / "originals"
    if not originals.exists():
        originals.mkdir()
        rng = np.random.default_rng(0)
        y, x = np.mgrid[-1 : 1 : IMAGE_PIXELS * 1j, -1 : 1 : IMAGE_PIXELS * 1j]
        for i in range(N_IMAGES):
            light = np.exp(-((x / rng.uniform(0.1, 0.4)) ** 2 + (y / rng.uniform(0.1, 0.4)) ** 2))
            pixels = 200 * light[..., None] * rng.uniform(0.5, 1, 3) + rng.normal(20, 5, (*light.shape, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(originals / f"{i}.jpg", quality=90)
    made = folder / f"images-{n}"
    made.mkdir()
    for i in range(n):
        os.link(originals / f"{i % N_IMAGES}.jpg", made / f"{i:06d}.jpg")
    return made


def encoder(folder: Path) -> Path:
    """Write an encoder with random weights in timm's layout."""
    torch.manual_seed(0)
    made = folder / "encoder"
    made.mkdir()
    save_file(create_encoder(ENCODER).state_dict(), made / "model.safetensors")
    cfg = {"input_size": [3, SIZE, SIZE], "mean": [0.1] * 3, "std": [0.2] * 3}
    (made / "config.json").write_text(json.dumps({"architecture": ENCODER, "pretrained_cfg": cfg}))
    return made


def throughput(run: Path, data: Path, n: int, folder: Path) -> dict[str, Any]:
    """Return galaxies per second of each part and of the whole."""
    model = open_encoder(run).feature_extractor()
    galaxies = image_loader(data, None, BATCH, SIZE, "raise")
    batch = galaxies.take(np.arange(BATCH))
    rows = np.array_split(np.arange(n), n // BATCH)

    def load() -> None:
        for _ in galaxies.batches_of(rows):
            pass

    def encode() -> None:
        with torch.inference_mode():
            for _ in rows:
                for view in orientations(batch["image"], batch["id_str"], 8):
                    model.features(view)

    def whole() -> None:
        embed(run, data, out=folder / "e.parquet", overwrite=True)

    def timed(work: Callable[[], None]) -> tuple[float, float]:
        start = time.process_time(), time.perf_counter()
        work()
        return n / (time.process_time() - start[0]), n / (time.perf_counter() - start[1])

    encode()
    turns = [[timed(one) for one in (load, encode, whole)] for _ in range(3)]
    rates = np.array([[[rate[i] for rate in turn] for turn in turns] for i in range(2)])
    ratios = rates[:, :, 2] * (1 / rates[:, :, 0] + 1 / rates[:, :, 1])
    names = ("loader", "encoder", "embed")
    return {
        "galaxies per CPU second": {name: round(median(rates[0, :, i]), 1) for i, name in enumerate(names)},
        "galaxies per second": {name: round(median(rates[1, :, i]), 1) for i, name in enumerate(names)},
        "ratio by CPU time": round(median(ratios[0]), 3),
        "ratio by the clock": round(median(ratios[1]), 3),
    }


def started(run: Path, data: Path, out: Path, views: int, scheduler: str = "") -> subprocess.Popen[str]:
    words = [sys.executable, "-c", EMBED, run, data, out, str(views), scheduler]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def peak_mb(run: Path, data: Path, out: Path) -> float:
    process = started(run, data, out, 1)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(said)
    return json.loads(said.splitlines()[-1])


def killed_and_resumed(run: Path, data: Path, out: Path) -> list[int]:
    """Embed with kills; return how many parts there were at each."""
    work, parts = out.with_name(f".{out.name}.gzoo-partial"), []
    for n_parts in (1, 2):
        process = started(run, data, out, 1)
        while process.poll() is None and len(list(work.glob("part-*.parquet"))) < n_parts:
            time.sleep(0.02)
        parts.append(len(list(work.glob("part-*.parquet"))))
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = started(run, data, out, 1)
    process.communicate()
    return parts


def by_workers(run: Path, data: Path, out: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
    ) as cluster:
        process = started(run, data, out, 1, cluster.scheduler_address)
        process.communicate()


def main() -> None:
    parser = arguments(__doc__, "embedding_speed.json")
    parser.add_argument("--n", type=int, default=10_000, help="number of images (default: 10,000)")
    parser.add_argument("--large", type=int, default=100_000, help="number of images of the large run")
    parser.add_argument("--quick", action="store_true", help="use few images, and write only to --out")
    options = parser.parse_args()
    if options.quick:
        options.n, options.large = 4_500, 9_000
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, few = encoder(folder), images(folder, options.n)
        speed = throughput(run, images(folder, N_TIMED), N_TIMED, folder)
        once = folder / "once.parquet"
        memory = [peak_mb(run, few, once), peak_mb(run, images(folder, options.large), folder / "large.parquet")]
        parts = killed_and_resumed(run, few, folder / "killed.parquet")
        by_workers(run, few, folder / "workers.parquet")
        n_bytes = once.stat().st_size / options.n
        same = {name: sha256(folder / f"{name}.parquet") == sha256(once) for name in ("killed", "workers")}
    ratio = memory[1] / memory[0]
    write(
        options,
        {
            "encoder": ENCODER,
            "size": SIZE,
            "images": N_TIMED,
            "throughput": speed,
            "bytes a galaxy": round(n_bytes),
            "peak MB": {f"{options.n:,} images": round(memory[0]), f"{options.large:,} images": round(memory[1])},
            "ratio of peak memory": round(ratio, 3),
            "parts when killed": parts,
            "same bytes": same,
            "bars": {"throughput": BAR_THROUGHPUT, "memory": BAR_MEMORY},
            "holds": speed["ratio by CPU time"] >= BAR_THROUGHPUT and ratio <= BAR_MEMORY and all(same.values()),
        },
    )


if __name__ == "__main__":
    main()
