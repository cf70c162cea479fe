"""Whether a GPU waits for its data, and how near training comes to what it can do.

    make .venv-peers/ready
    python benchmarks/gpu_speed.py [--galaxies 18000] [--batch 256] [--without-peers]
    python benchmarks/gpu_speed.py --device cpu --small    # the same code on a few galaxies, to see that it runs

Needs an NVIDIA GPU. Training steps (images, model, loss, gradients, AdamW) of a ConvNeXt-Nano at 224 px in bfloat16,
weights channels last, compiled, on galaxies of the `13 kB` corpus (`corpora.py`); each step is a process of its own.

- `gzoo`: fed by `gzoo.loader` with images from a cache, augmented on the GPU: the third epoch; the first epochs,
  without a cache, with images decoded by the processor or by the GPU, are told too (the model is compiled by then:
  these are second epochs without a cache, for which all is read and decoded again).
- `encoder alone`: the same model and loss on random images that lie ready on the GPU.
- `gz-evo's recipe`: zoobot's model and loss in float16 with scaled gradients, torchvision's augmentation in as many
  workers as there are cores (16 at most), fed by galaxy-datasets' data module.
- operations: those of the model (three times those of its forward pass, which torch counts), as a share of what the GPU
  reaches in large bfloat16 matrix products.
- milliseconds that the loss (forward and backward) and augmentation take in a step.
- `decode`: the GPU's own JPEG decoder, in images a second, and its difference from Pillow.

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
    parser = options(__doc__ or "", "gpu_speed.json")
    parser.add_argument("--galaxies", type=int, default=SMALL.n, help="of the corpus")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--encoder", default="convnext_nano")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="few galaxies, small images, not compiled")
    parser.add_argument("--without-peers", action="store_true", help="leave the peers' recipe out")
    given = parser.parse_args()
    gpu = step("gpu")
    if given.device == "cuda" and gpu["name"] is None:
        sys.exit(
            "There is no NVIDIA GPU here that torch can use. Run this where there is one (make bench-gpu); "
            "to see that it runs: python benchmarks/gpu_speed.py --device cpu --small --out FILE"
        )
    if not given.without_peers:
        require_peers(given.peers)
    n, batch, size, encoder = given.galaxies, given.batch, SIZE, given.encoder
    if given.small:
        n, batch, size, encoder = 64, 16, 64, "convnext_atto"
    at = made(replace(SMALL, n=n), given.folder)
    cache = at.record.parent / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    common: dict[str, Any] = {"encoder": encoder, "batch": batch, "size": size, "device": given.device}
    common["n"] = at.n // batch * batch  # batches of one size: none compiles the model anew
    ours = {**common, "record": at.record, "n_epochs": EPOCHS, "is_mixed": True, "is_compiled": not given.small}
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
        "images a second": {
            "encoder alone": round(alone, 1),
            "gzoo": round(gzoo, 1),
            "gzoo, decoded each epoch": round(fresh, 1),
            "gzoo, decoded each epoch by the device": round(fresh_there, 1),
        },
        "ratios": {
            "gzoo, of the encoder alone": asked(gzoo / alone, 0.95),
            "gzoo, decoded each epoch, of the encoder alone": round(fresh / alone, 3),
            "gzoo, decoded each epoch by the device, of the encoder alone": round(fresh_there / alone, 3),
        },
        "of the measured peak of matrix products": {
            "encoder alone": round(alone * fraction, 4),
            "gzoo": round(gzoo * fraction, 4),
        },
        "gigaoperations an image, forward and backward": round(found["operations an image"] / 1e9, 2),
        "measured peak, teraoperations a second": round(found["operations a second"] / 1e12, 2),
        "milliseconds a step": {
            "loss": round(found["loss milliseconds"], 3),
            "augmentation": round(found["augmentation milliseconds"], 3),
        },
        "decode": {**decoded, "rate": round(decoded["rate"], 1)},
    }
    versions: dict[str, str] = {}
    if not given.without_peers:
        files = {"parquet": at.peer, "cache": at.peer.parent / "arrow"}
        versions = peer_step(given.peers, "prepare", **files)["versions"]
        workers = 2 if given.small else min(16, len(os.sched_getaffinity(0)))
        theirs = {**common, "n": min(common["n"], 16 * batch), "workers": workers, "is_mixed": given.device != "cpu"}
        recipe = peer_step(given.peers, "train", **files, **theirs)["rate"]
        result["images a second"][f"gz-evo's recipe, {workers} workers"] = round(recipe, 1)
        result["ratios"]["gzoo, times gz-evo's recipe"] = round(gzoo / recipe, 2)
    write(given.out, result, peers=versions)


if __name__ == "__main__":
    main()
