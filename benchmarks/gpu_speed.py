"""Whether a GPU waits for its data during training, and which fraction of its peak speed it reaches.

    make .venv-peers/ready
    python benchmarks/gpu_speed.py [--galaxies 18000] [--batch 256] [--without-peers]
    python benchmarks/gpu_speed.py --device cpu --small --out FILE    # the same code on a few galaxies, without a GPU

Needs an NVIDIA GPU. It measures training steps (images, model, loss, gradients, AdamW) of a compiled ConvNeXt-Nano at
224 px in bfloat16, with weights channels last, on galaxies of the `13 kB` corpus (`corpora.py`). Each measurement is a
separate process.

- `gzoo`: `gzoo.loader` with a cache of decoded images, augmented on the GPU; the rate of the third epoch. Also without
  a cache, with images decoded by the CPU or by the GPU in each epoch.
- `encoder alone`: the same model and loss on random images in the memory of the GPU.
- `gz-evo's recipe`: Zoobot's model and loss in float16 with scaled gradients, and galaxy-datasets' data module with
  torchvision's augmentation, in as many workers as there are cores (at most 16).
- operations: those of the model (three times those of the forward pass, as counted by torch), as a fraction of the
  speed of large bfloat16 matrix products on this GPU.
- milliseconds per step of the loss (forward and backward) and of augmentation.
- `decode`: images per second of the GPU's own JPEG decoder, and its difference from Pillow.

Writes benchmarks/results/gpu_speed.json.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from typing import Any

from corpora import SMALL, made
from measuring import asked, options, peer_step, require_peers, step, write

SIZE, EPOCHS = 224, 3


def main() -> None:
    parser = options(__doc__, "gpu_speed.json")
    parser.add_argument("--galaxies", type=int, default=SMALL.n, help="galaxies of the corpus (default: 18,000)")
    parser.add_argument("--batch", type=int, default=256, help="galaxies per batch (default: 256)")
    parser.add_argument("--encoder", default="convnext_nano", help="timm encoder (default: convnext_nano)")
    parser.add_argument("--device", default="cuda", help="where to train (default: cuda)")
    parser.add_argument("--small", action="store_true", dest="quick", help="the same as --quick")
    parser.add_argument("--without-peers", action="store_true", help="omit the peers' recipe")
    given = parser.parse_args()
    gpu = step("gpu")
    if given.device == "cuda" and gpu["name"] is None:
        sys.exit(
            "torch finds no NVIDIA GPU on this machine. Run `make bench-gpu` where there is one; to test the code "
            "without a GPU, run: python benchmarks/gpu_speed.py --device cpu --small --without-peers"
        )
    if not given.without_peers:
        require_peers(given.peers)
    n, batch, size, encoder = given.galaxies, given.batch, SIZE, given.encoder
    if given.quick:
        n, batch, size, encoder = 64, 16, 64, "convnext_atto"
    at = made(replace(SMALL, n=n), given.folder)
    cache = at.record.parent / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    common: dict[str, Any] = {"encoder": encoder, "batch": batch, "size": size, "device": given.device}
    common["n"] = at.n // batch * batch  # with batches of one size, the model is compiled once
    ours = {**common, "record": at.record, "n_epochs": EPOCHS, "is_mixed": True, "is_compiled": not given.quick}
    alone = step("train", source="random", **ours)["rates"][-1]
    gzoo = step("train", source="loader", cache=cache, **ours)["rates"][-1]
    fresh = step("train", source="loader", **ours)["rates"][-1]
    fresh_there = step("train", source="loader", decode_on_device=True, **ours)["rates"][-1]
    shutil.rmtree(cache)
    found = step("parts", record=at.record, encoder=encoder, batch=batch, size=size, device=given.device)
    decoded = step("device_decode", record=at.record, batch=batch, n=min(at.n, 4096), device=given.device)
    fraction = found["operations an image"] / found["operations a second"]
    result: dict[str, Any] = {
        **common,
        "gpu": gpu,
        "images per second": {
            "encoder alone": round(alone, 1),
            "gzoo": round(gzoo, 1),
            "gzoo, decoded in each epoch": round(fresh, 1),
            "gzoo, decoded in each epoch by the device": round(fresh_there, 1),
        },
        "ratios": {
            "gzoo, relative to the encoder alone": asked(gzoo / alone, 0.95),
            "gzoo, decoded in each epoch, relative to the encoder alone": round(fresh / alone, 3),
            "gzoo, decoded in each epoch by the device, relative to the encoder alone": round(fresh_there / alone, 3),
        },
        "fraction of the measured peak of matrix products": {
            "encoder alone": round(alone * fraction, 4),
            "gzoo": round(gzoo * fraction, 4),
        },
        "gigaoperations per image, forward and backward": round(found["operations an image"] / 1e9, 2),
        "measured peak, teraoperations per second": round(found["operations a second"] / 1e12, 2),
        "milliseconds per step": {
            "loss": round(found["loss milliseconds"], 3),
            "augmentation": round(found["augmentation milliseconds"], 3),
        },
        "decode": {**decoded, "rate": round(decoded["rate"], 1)},
    }
    versions: dict[str, str] = {}
    if not given.without_peers:
        files = {"parquet": at.peer, "cache": at.peer.parent / "arrow"}
        versions = peer_step(given.peers, "prepare", **files)["versions"]
        workers = 2 if given.quick else min(16, len(os.sched_getaffinity(0)))
        theirs = {**common, "n": min(common["n"], 16 * batch), "workers": workers, "is_mixed": given.device != "cpu"}
        recipe = peer_step(given.peers, "train", **files, **theirs)["rate"]
        result["images per second"][f"gz-evo's recipe, {workers} workers"] = round(recipe, 1)
        result["ratios"]["gzoo, relative to gz-evo's recipe"] = round(gzoo / recipe, 2)
    write(given, result, peers=versions)


if __name__ == "__main__":
    main()
