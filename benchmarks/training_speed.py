"""Whether training waits for its data, on the CPU.

    make .venv-peers/ready
    python benchmarks/training_speed.py [--encoder resnet18] [--size 128] [--galaxies 768] [--rounds 3]

Training steps (images, model, loss, gradients, AdamW) on galaxies of the `57 kB` corpus (`corpora.py`), each a
process of its own, in turns; the figure is that of the second epoch.

- `encoder alone`: the same model and loss, fed with random images that lie ready.
- `gzoo`: fed by `gzoo.loader` with augmentation and a cache, votes and totals from the record.
- `peers`: the same encoder in zoobot's model with its loss, fed by galaxy-datasets' data module with its default
  augmentation and no more than images and counts; the best of 0 and 2 workers, once.

Writes benchmarks/results/training_speed.json.
"""

from __future__ import annotations

import shutil
from typing import Any

from corpora import LARGE, made
from measuring import asked, best, middle, options, peer_step, require_peers, step, write

BATCH = 64


def main() -> None:
    parser = options(__doc__ or "", "training_speed.json")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--galaxies", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    require_peers(given.peers)
    at = made(LARGE, given.folder)
    cache = at.record.parent / "cache"
    settings: dict[str, Any] = {"encoder": given.encoder, "batch": BATCH, "size": given.size, "n": given.galaxies}
    alone: list[float] = []
    gzoo: list[float] = []
    for _ in range(given.rounds):
        alone.append(step("train", record=at.record, source="random", **settings)["rates"][-1])
        shutil.rmtree(cache, ignore_errors=True)
        gzoo.append(step("train", record=at.record, source="loader", cache=cache, **settings)["rates"][-1])
    shutil.rmtree(cache)
    files = {"parquet": at.peer, "cache": at.peer.parent / "arrow"}
    versions = peer_step(given.peers, "prepare", **files)["versions"]
    peers = {str(w): peer_step(given.peers, "train", **files, **settings, workers=w)["rate"] for w in (0, 2)}
    workers, rate = best(peers)
    result = {
        **settings,
        "images a second (median)": {
            "encoder alone": middle(alone),
            "gzoo": middle(gzoo),
            f"peers, {workers} workers": round(rate, 1),
        },
        "ratios": {
            "gzoo, of the encoder alone": asked(middle(gzoo) / middle(alone), 0.9),
            "gzoo, times the peers' pipeline": round(middle(gzoo) / rate, 2),
        },
        "all": {
            "encoder alone": [round(one, 1) for one in alone],
            "gzoo": [round(one, 1) for one in gzoo],
            "peers by workers": {name: round(one, 1) for name, one in peers.items()},
        },
    }
    write(given.out, result, peers=versions)


if __name__ == "__main__":
    main()
