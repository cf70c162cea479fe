"""Speed and memory of `gzoo predict`: beside loader and encoder alone, and for ten times as many images.

    python benchmarks/prediction_speed.py [--encoder resnet18] [--size 128] [--n 2000] [--rounds 3] [--quick]

- Speed: the loader alone, the encoder alone on a batch in memory, and `gzoo.predict` take turns in one process. If
  reading and computing were done one after the other, prediction would take the sum of their times; the ratio of that
  sum to the time of prediction is at least 0.9. CPU seconds are compared, which other programs disturb less, and
  seconds too.
- Memory: the peak of a process that predicts a folder of 10,000 images, and of one with 100,000, which are links to a
  few small files; at most 1.1 times as much.

Writes benchmarks/results/prediction_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from measuring import arguments, write
from PIL import Image

import gzoo
from gzoo.learn.model import open_run
from gzoo.learn.prediction import concentrations

BATCH, RATIO, MEMORY_RATIO = 64, 0.9, 1.1
PREDICT = """
import json, resource, sys
import gzoo
made = gzoo.predict(sys.argv[1], sys.argv[2], out=sys.argv[3], views=1)
print(json.dumps([made.n_galaxies, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]))
"""


def main() -> None:
    parser = arguments(__doc__, "prediction_speed.json")
    parser.add_argument("--quick", action="store_true", help="few small images, and write only to --out")
    parser.add_argument("--encoder", default="resnet18", help="timm encoder (default: resnet18)")
    parser.add_argument("--size", type=int, default=128, help="image size in pixels (default: 128)")
    parser.add_argument("--n", type=int, default=2_000, help="galaxies for the speed (default: 2,000)")
    parser.add_argument("--n-memory", type=int, default=10_000, help="images for the memory (default: 10,000)")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: 3)")
    options = parser.parse_args()
    if options.quick:
        options.encoder, options.size, options.n, options.n_memory, options.rounds = "resnet10t", 64, 130, 300, 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sky = gzoo.simulate("gz2", n_galaxies=64, seed=4, out=folder / "sky")
        gzoo.build("gz2", votes=sky.votes, images=sky.images, out=folder / "galaxies")
        settings = {"crop": 1, "epochs": 1, "probe": False}
        run = gzoo.train(
            folder / "galaxies", out=folder / "run", encoder=options.encoder, size=options.size, **settings
        ).run  # type: ignore[arg-type]
        small = gzoo.train(
            folder / "galaxies", out=folder / "small", encoder="mobilenetv3_small_050", size=32, **settings
        ).run  # type: ignore[arg-type]
        found = {"speed": speed(folder, run, sorted(sky.images.iterdir()), options)}
        found["memory"] = memory(folder, small, options)
    settings = {name: getattr(options, name) for name in ("encoder", "size", "n")}
    write(options, {**settings, "threads": torch.get_num_threads(), **found})


def linked(folder: Path, images: list[Path], n: int) -> Path:
    """Return a folder with many names of a few images."""
    folder.mkdir()
    for i in range(n):
        os.link(images[i % len(images)], folder / f"{i:06d}{images[0].suffix}")
    return folder


def speed(folder: Path, run: Path, images: list[Path], options: argparse.Namespace) -> dict[str, object]:
    """Measure prediction beside its two parts."""
    data = linked(folder / "many", images, options.n)
    model, metadata = open_run(run)
    from gzoo.learn.image_files import image_loader

    campaign = gzoo.campaign("gz2")
    assert metadata["format"]
    batch = next(iter(image_loader(data, campaign, BATCH, options.size, "raise")))
    out = folder / "p.parquet"

    def load() -> None:
        for _ in image_loader(data, campaign, BATCH, options.size, "raise"):
            pass

    def encode() -> None:
        for _ in range(-(-options.n // BATCH)):
            concentrations(model, batch, 1)

    def predict() -> None:
        gzoo.predict(run, data, out=out, batch_size=BATCH, views=1, overwrite=True)

    parts: dict[str, Callable[[], None]] = {"loader": load, "encoder": encode, "predict": predict}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    for part in parts.values():
        part()
    for _ in range(options.rounds):
        for name, part in parts.items():
            began = time.process_time(), time.perf_counter()
            part()
            times[name].append((time.process_time() - began[0], time.perf_counter() - began[1]))
    result: dict[str, object] = {}
    for i, what in enumerate(("CPU seconds", "seconds")):
        middle = {name: median(each[i] for each in values) for name, values in times.items()}
        ratio = (middle["loader"] + middle["encoder"]) / middle["predict"]
        result[what] = {name: round(value, 2) for name, value in middle.items()}
        result[f"loader and encoder, relative to predict ({what})"] = round(ratio, 3)
    return {**result, "bar": RATIO}


def memory(folder: Path, run: Path, options: argparse.Namespace) -> dict[str, object]:
    """Measure the peak memory for some images, and for ten times as many."""
    few = folder / "few"
    few.mkdir()
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(few / f"{i}.jpg")
    peaks: dict[int, float] = {}
    for n in (options.n_memory, 10 * options.n_memory):
        data = linked(folder / f"of-{n}", sorted(few.iterdir()), n)
        words = [sys.executable, "-c", PREDICT, run, data, folder / f"{n}.parquet"]
        done = subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, text=True).stdout
        n_predicted, peaks[n] = json.loads(done)
        assert n_predicted == n
        shutil.rmtree(data)
    first, second = peaks.values()
    return {
        "peak MB": {f"{n:,}": round(peak) for n, peak in peaks.items()},
        "ratio": round(second / first, 3),
        "bar": MEMORY_RATIO,
    }


if __name__ == "__main__":
    main()
