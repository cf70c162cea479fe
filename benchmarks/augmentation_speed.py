"""Speed of image augmentation, and agreement of the preset `galaxy-datasets` with the package of that name.

    python benchmarks/augmentation_speed.py [--peers PYTHON] [--rounds 5]
    python benchmarks/augmentation_speed.py --device cuda [--batch 256]

On a CPU: simulated images of 424 px (with added noise, JPEG quality 95, 57 kB each) are read from memory and augmented
to 224 px, in chunks of 16 images, by as many threads as there are cores, into memory that is reused.

- `decoded`: decoding only, in colour and at full size.
- `decoded and augmented`: decoding, then the preset `galaxy-datasets`.
- `augmented, stored at 224 px`: the same preset on images that were decoded and resized before, as from a cache.
- `galaxy-datasets`: the default transform of that package (0.0.25) as its data module applies it, image by image,
  decoding included, in as many processes as there are cores. This needs `--peers`, a Python that has the package. The
  data module itself also reads, collates and transfers, and is slower; `loader_speed.py` measures it.

The measurements take turns, and the results are medians. CPU time is also reported, because other programs on the
machine affect it less than they affect rates. `milliseconds per image` is the time of one thread; `16 images at once`
is the code that augments batches on a GPU, run on the CPU.

With `--peers`, both packages augment one image 2,000 times, and the means and standard deviations are compared pixel by
pixel. A comparison of gzoo with itself under other seeds shows the differences due to chance. The package augments
8-bit images, and Pillow truncates fractions of a grey level, so its images are darker by half a grey level.

On a GPU: milliseconds per batch, eager and compiled.

Writes benchmarks/results/augmentation_speed.json, or augmentation_speed_cuda.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import simplejpeg
import torch
from measuring import arguments, write
from PIL import Image

from gzoo import simulate
from gzoo.learn.augmentation import PRESETS, augmentation

FULL, SIZE, PART, N_IMAGES, N_DRAWS = 424, 224, 16, 128, 2_000
PRESET = "galaxy-datasets"

PEER = """
import io, json, logging, multiprocessing, os, sys, time, warnings
logging.disable(logging.WARNING)
warnings.filterwarnings("ignore")
from pathlib import Path
import numpy, torch
from PIL import Image
from galaxy_datasets import transforms

def made(seconds):
    torch.set_num_threads(1)
    transform = transforms.get_galaxy_transform(transforms.default_view_config())
    n, begun, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        transform(Image.open(io.BytesIO(held[n % len(held)])))
        n += 1
    return n / (time.perf_counter() - begun), (time.process_time() - used) / n * 1e3

def drawn(n):
    torch.set_num_threads(1)
    torch.manual_seed(n)
    transform = transforms.get_galaxy_transform(transforms.default_view_config())
    total = torch.zeros(2, 3, 224, 224, dtype=torch.float64)
    image = Image.open(io.BytesIO(held[0]))
    for _ in range(n):
        seen = transform(image).to(torch.float64)
        total += torch.stack([seen, seen**2])
    return total

held = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
cores = len(os.sched_getaffinity(0))
if __name__ == "__main__":
    with multiprocessing.Pool(cores) as pool:
        if sys.argv[2] == "rate":
            pool.map(made, [0.5] * cores, chunksize=1)
            rates, used = zip(*pool.map(made, [4.0] * cores, chunksize=1))
            print(json.dumps([sum(rates), sum(used) / cores]))
        else:
            half = int(sys.argv[2]) // 2
            totals = sum(pool.map(drawn, [half, half + 1], chunksize=1)) / (2 * half + 1)
            numpy.save(sys.argv[3], totals.numpy())
            from importlib.metadata import version
            print(json.dumps({name: version(name) for name in ("galaxy-datasets", "torch", "torchvision", "pillow")}))
"""


def main() -> None:
    parser = arguments(__doc__, "augmentation_speed.json")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where to augment (default: cpu)")
    parser.add_argument("--peers", type=Path, help="Python that has galaxy-datasets (default: gzoo only)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds on the CPU (default: 5)")
    parser.add_argument("--batch", type=int, default=256, help="images per batch on the GPU (default: 256)")
    options = parser.parse_args()
    if options.device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("torch finds no NVIDIA GPU on this machine. Run this benchmark where there is one.")
        options.result = options.result.with_name("augmentation_speed_cuda.json")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        held = images(folder)
        if options.device == "cpu":
            result = on_cpu(folder, held, options.peers, options.rounds)
        else:
            result = on_gpu(held, options.batch)
            result["gpu"] = torch.cuda.get_device_name()
    write(options, result)


def cores() -> int:
    return len(os.sched_getaffinity(0))


def images(folder: Path) -> list[bytes]:
    """Return JPEG files of about 57 kB, and write them to a folder."""
    sky = simulate("gz2", n_galaxies=N_IMAGES, export=False, workers=cores(), out=folder / "sky")
    chance = np.random.default_rng(0)
    (folder / "images").mkdir()
    for path in sorted(sky.images.iterdir()):
        pixels = np.asarray(Image.open(path)).astype(np.float32)
        noisy = (pixels + chance.normal(0, 5, pixels.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "images" / path.name, "JPEG", quality=95)
    return [path.read_bytes() for path in sorted((folder / "images").iterdir())]


def decoded(held: list[bytes]) -> torch.Tensor:
    """Return images of shape (image, 3, 424, 424), in memory channels last."""
    return torch.from_numpy(np.stack([simplejpeg.decode_jpeg(one, "RGB") for one in held])).permute(0, 3, 1, 2)


def smaller(stored: torch.Tensor) -> torch.Tensor:
    """Return the images resized to the size of the results, as from a cache."""
    small = augmentation("test")(stored, torch.zeros(len(stored), dtype=torch.int64), SIZE)
    return (small * 255).round().to(torch.uint8).contiguous(memory_format=torch.channels_last)


def on_cpu(folder: Path, held: list[bytes], peers: Path | None, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    stored = decoded(held)
    small = smaller(stored)
    runs: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for name, given in (("decoded", None), ("decoded and augmented", None), ("augmented, stored at 224 px", small)):
            runs.setdefault(name, []).append(rate(held, given, is_augmented=name != "decoded"))
        if peers:
            runs.setdefault(PRESET, []).append(tuple(peer(peers, folder, "rate")))
    middle = {name: round(median(one for one, _ in each), 1) for name, each in runs.items()}
    used = {name: round(median(one for _, one in each), 3) for name, each in runs.items()}
    result: dict[str, Any] = {
        "images": len(held),
        "kilobytes per image": round(sum(map(len, held)) / len(held) / 1e3, 1),
        "images per second (median)": middle,
        "images per second, all rounds": {name: [round(one, 1) for one, _ in each] for name, each in runs.items()},
        "CPU milliseconds per image (median)": used,
        "milliseconds per image": {
            f"{side} to {SIZE} px": {name: one_by_one(name, given) for name in PRESETS}
            for side, given in ((FULL, stored), (SIZE, small))
        },
        "milliseconds per image, 16 images at once": {name: at_once(name, stored) for name in PRESETS},
    }
    if peers:
        result["ratios"] = {
            f"{name}, times {PRESET}": {
                "images per second": round(middle[name] / middle[PRESET], 2),
                "CPU time": round(used[PRESET] / used[name], 2),
            }
            for name in ("decoded and augmented", "augmented, stored at 224 px")
        }
        result["agreement"] = agreement(folder, stored[:1], peers)
    return result


def rate(held: list[bytes], stored: torch.Tensor | None, *, is_augmented: bool) -> tuple[float, float]:
    """Return images per second of as many threads as there are cores, and CPU milliseconds per image."""
    preset = augmentation(PRESET)
    out = torch.zeros(len(held), 3, SIZE, SIZE)
    parts = [slice(i, i + PART) for i in range(0, len(held), PART)]
    memory = [np.empty((PART, FULL, FULL, 3), np.uint8) for _ in parts]

    def work(number: int) -> None:
        part = parts[number]
        if stored is None:
            for one, pixels in zip(held[part], memory[number], strict=True):
                simplejpeg.decode_jpeg(one, "RGB", fastdct=True, fastupsample=True, buffer=pixels)
        if is_augmented:
            seen = torch.from_numpy(memory[number]).permute(0, 3, 1, 2) if stored is None else stored[part]
            preset(seen, torch.arange(part.start, part.stop), SIZE, out=out[part])

    with ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for n_epochs in (1, 8):
            begun, used = time.perf_counter(), time.process_time()
            list(pool.map(work, list(range(len(parts))) * n_epochs))
            seconds, used = time.perf_counter() - begun, time.process_time() - used
    return 8 * len(held) / seconds, used / 8 / len(held) * 1e3


def milliseconds(work: Callable[[], object], n: int) -> float:
    """Return CPU milliseconds of this thread per image."""
    took: list[float] = []
    for _ in range(7):
        begun = time.thread_time()
        work()
        took.append(time.thread_time() - begun)
    return round(median(took[2:]) / n * 1e3, 3)


def one_by_one(name: str, stored: torch.Tensor) -> float:
    some, seeds, out = stored[:PART], torch.arange(PART), torch.zeros(PART, 3, SIZE, SIZE)
    return milliseconds(lambda: augmentation(name)(some, seeds, SIZE, out=out), PART)


def at_once(name: str, stored: torch.Tensor) -> float:
    with mock.patch.object(torch.compiler, "is_compiling", return_value=True):
        return one_by_one(name, stored)


def peer(python: Path, folder: Path, *words: object) -> Any:
    done = subprocess.run(
        [python, "-c", PEER, folder / "images", *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def agreement(folder: Path, image: torch.Tensor, peers: Path) -> dict[str, object]:
    """Compare means and standard deviations of many augmentations of one image."""
    versions = peer(peers, folder, N_DRAWS, folder / "theirs.npy")
    theirs = np.load(folder / "theirs.npy")
    total = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.float64)
    # twice by gzoo, with different seeds: the difference of the two is due to chance
    means: list[np.ndarray] = []
    for start in (0, N_DRAWS):
        total.zero_()
        for i in range(start, start + N_DRAWS, 50):
            seen = augmentation(PRESET)(image.expand(50, -1, -1, -1), torch.arange(i, i + 50), SIZE).double()
            total += torch.stack([seen, seen**2]).sum(1)
        means.append(total.numpy() / N_DRAWS)
    found: dict[str, object] = {"draws": N_DRAWS, "versions": versions}
    for name, one in {PRESET: theirs, "gzoo with other seeds": means[1]}.items():
        spread, ours = (np.sqrt(np.maximum(each[1] - each[0] ** 2, 0)) for each in (one, means[0]))
        found[f"compared with {name}"] = {
            "mean difference in grey levels": round(float(255 * (means[0][0] - one[0]).mean()), 3),
            "ratio of mean standard deviations": round(float(ours.mean() / spread.mean()), 4),
            "correlation of means": round(float(np.corrcoef(means[0][0].ravel(), one[0].ravel())[0, 1]), 5),
            "correlation of standard deviations": round(float(np.corrcoef(ours.ravel(), spread.ravel())[0, 1]), 5),
            "standard deviation of the difference in grey levels": round(float(255 * (means[0][0] - one[0]).std()), 3),
        }
    return found


def on_gpu(held: list[bytes], batch: int) -> dict[str, Any]:
    stored = decoded(held)[torch.arange(batch) % len(held)].contiguous(memory_format=torch.channels_last)
    return {
        "batch": batch,
        f"{FULL} to {SIZE} px": {name: on_gpu_by(name, stored) for name in PRESETS},
        f"{SIZE} to {SIZE} px": {name: on_gpu_by(name, smaller(stored)) for name in PRESETS},
    }


def on_gpu_by(name: str, stored: torch.Tensor) -> dict[str, float]:
    preset, seeds = augmentation(name), torch.arange(len(stored))
    compiled = torch.compile(preset)
    there, seeds_there = stored.cuda(), seeds.cuda()
    made = preset(there, seeds_there, SIZE)
    torch.cuda.set_sync_debug_mode("error")  # an operation that waits for the GPU raises an error
    preset(there, seeds_there, SIZE)
    torch.cuda.set_sync_debug_mode("default")
    return {
        "milliseconds per batch": gpu_milliseconds(lambda: preset(there, seeds_there, SIZE)),
        "compiled": gpu_milliseconds(lambda: compiled(there, seeds_there, SIZE)),
        "largest difference from the CPU": round(float((made.cpu() - preset(stored, seeds, SIZE)).abs().max()), 5),
    }


def gpu_milliseconds(work: Callable[[], object]) -> float:
    for _ in range(5):
        work()
    took: list[float] = []
    for _ in range(20):
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        work()
        ended.record()
        torch.cuda.synchronize()
        took.append(begun.elapsed_time(ended))
    return round(median(took), 3)


if __name__ == "__main__":
    main()
