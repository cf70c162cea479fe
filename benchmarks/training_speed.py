"""Whether training on the CPU waits for its data.

    make .venv-peers/ready
    python benchmarks/training_speed.py [--encoder resnet18] [--size 128] [--galaxies 768] [--rounds 3]
    python benchmarks/training_speed.py --quick --without-peers    # about a minute, gzoo only

Measures training steps (images, model, loss, gradients, AdamW) on galaxies of the `57 kB` corpus (`corpora.py`), each
measurement in its own process and in turns. The rates are those of the second epoch.

- `encoder alone`: the same model and loss on random images in memory.
- `gzoo`: `gzoo.loader` with augmentation and a cache, with votes and total votes from the dataset.
- `peers`: the same encoder in Zoobot's model with its loss, and galaxy-datasets' data module with its default
  augmentation and only images and vote counts; the better of 0 and 2 workers, measured once.

Writes benchmarks/results/training_speed.json.
"""

from __future__ import annotations

import shutil
from typing import Any

from corpora import LARGE, made, quick
from measuring import asked, best, middle, options, peer_step, require_peers, step, write

BATCH = 64


def main() -> None:
    parser = options(__doc__, "training_speed.json")
    parser.add_argument("--encoder", default="resnet18", help="timm encoder (default: resnet18)")
    parser.add_argument("--size", type=int, default=128, help="image size in pixels (default: 128)")
    parser.add_argument("--galaxies", type=int, default=768, help="galaxies to train on (default: 768)")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: 3)")
    parser.add_argument("--without-peers", action="store_true", help="measure gzoo only")
    given = parser.parse_args()
    if not given.without_peers:
        require_peers(given.peers)
    if given.quick:
        given.size, given.galaxies, given.rounds = 64, 2 * BATCH, 1
    at = made(quick(LARGE) if given.quick else LARGE, given.folder)
    cache = at.record.parent / "cache"
    settings: dict[str, Any] = {"encoder": given.encoder, "batch": BATCH, "size": given.size, "n": given.galaxies}
    alone: list[float] = []
    gzoo: list[float] = []
    for _ in range(given.rounds):
        alone.append(step("train", record=at.record, source="random", **settings)["rates"][-1])
        shutil.rmtree(cache, ignore_errors=True)
        gzoo.append(step("train", record=at.record, source="loader", cache=cache, **settings)["rates"][-1])
    shutil.rmtree(cache)
    rates = {"encoder alone": middle(alone), "gzoo": middle(gzoo)}
    ratios: dict[str, object] = {
        "gzoo, relative to the encoder alone": asked(middle(gzoo) / middle(alone), 0.9),
    }
    rounds: dict[str, object] = {
        "encoder alone": [round(one, 1) for one in alone],
        "gzoo": [round(one, 1) for one in gzoo],
    }
    versions: dict[str, str] = {}
    if not given.without_peers:
        files = {"parquet": at.peer, "cache": at.peer.parent / "arrow"}
        versions = peer_step(given.peers, "prepare", **files)["versions"]
        peers = {str(w): peer_step(given.peers, "train", **files, **settings, workers=w)["rate"] for w in (0, 2)}
        workers, rate = best(peers)
        rates[f"peers, {workers} workers"] = round(rate, 1)
        ratios["gzoo, relative to the peers"] = round(middle(gzoo) / rate, 2)
        rounds["peers by workers"] = {name: round(one, 1) for name, one in peers.items()}
    result = {**settings, "images per second (median)": rates, "ratios": ratios, "all rounds": rounds}
    write(given, result, peers=versions)


if __name__ == "__main__":
    main()
