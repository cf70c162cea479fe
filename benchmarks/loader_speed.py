"""Speed of gzoo's loader, compared with the limit of the decoder and with other loaders.

    make .venv-peers/ready
    python benchmarks/loader_speed.py [--corpus "57 kB"] [--rounds 5] [--peer-images 1536]
    python benchmarks/loader_speed.py --quick --without-peers    # a minute, without the other loaders

Each measurement is a separate process on the same galaxies (`corpora.py`), whose files are in the page cache. The speed
of the machine varies, so each measurement is compared with those next to it. The loader and the decoder take turns for
eleven rounds, of which the median is reported. The loader and each peer take turns for three rounds, and the medians
are compared, for the peer with its best number of workers. Ratios of later epochs, which exceed their targets by far,
are ratios of medians.

- `decode`: the limit. As many threads as there are cores decode images in memory to RGB at full size, into memory that
  is reused, with the fastest decoder (libjpeg-turbo), to the pixel values of Pillow, as the loader does.
- `decode, rough`: the same with the fastest settings, which differ by up to 28 grey levels.
- `gzoo`: the first epoch of `gzoo.loader` at 424 px, shuffled, with votes and total votes, including opening the
  dataset and reading the votes.
- `usual`: `set_format("torch")` and a `DataLoader`, all columns, shuffled; the best of 0, 2 and 4 workers.
- `galaxy-datasets`: its Hugging Face data module, with the crop and with its default augmentation, to 224 px; the best
  of 0, 2 and 4 workers. It reads the same dataset, and one with only images and vote counts (`counts alone`), which is
  faster.
- `later epochs`: the second to fifth epoch of the loader with a cache at 224 px, compared with `usual` with the same
  resize.
- `augmented`: the loader with the preset that equals the default augmentation of galaxy-datasets, on the CPU, in the
  first epoch and from the cache.

The peers are timed in a second pass over fewer images, when their workers are running. The conversion to Arrow by
`datasets` is not counted.

Writes benchmarks/results/loader_speed.json.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from statistics import median
from typing import Any

from corpora import LARGE, SMALL, Corpus, Made, made, quick
from measuring import asked, best, middle, options, peer_step, require_peers, step, write

FULL, SIZE, BATCH = 424, 224, 64
ROUNDS_OF_LIMIT = 11
ROUNDS_OF_PEERS = 3
WORKERS = (0, 2, 4)
Rates = dict[str, list[float]]
PEERS_PRESET = "galaxy-datasets"
MIN = {  # target of each ratio
    LARGE.name: {"decode": 0.85, "usual": 4, "crop": 3, "default": 5, "later": 30},
    SMALL.name: {"decode": 0.85, "usual": 8, "crop": 3, "default": 5, "later": 30},
}


def main() -> None:
    parser = options(__doc__, "loader_speed.json")
    parser.add_argument("--corpus", choices=(LARGE.name, SMALL.name), help="corpus (default: both)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of later epochs and augmentation (default: 5)")
    parser.add_argument("--peer-images", type=int, default=1536, help="images of the peers (default: 1536)")
    parser.add_argument("--without-peers", action="store_true", help="measure gzoo and the decoder only")
    given = parser.parse_args()
    peers: Path | None = None if given.without_peers else given.peers
    if peers:
        require_peers(peers)
    rounds, rounds_of_limit = (1, 1) if given.quick else (given.rounds, ROUNDS_OF_LIMIT)
    result: dict[str, object] = {}
    versions: dict[str, str] = {}
    for corpus in (LARGE, SMALL):
        if given.corpus in {None, corpus.name}:
            at = made(quick(corpus) if given.quick else corpus, given.folder)
            if peers:
                versions = peer_step(peers, "prepare", **_peer(at))["versions"]
            ours = our_rates(at, rounds, rounds_of_limit)
            theirs, beside = peer_rates(at, peers, given.peer_images) if peers else ({}, {})
            result[corpus.name] = summary(corpus, at, ours, theirs, beside)
    write(given, result, peers=versions)


def summary(corpus: Corpus, at: Made, ours: Rates, theirs: dict[str, Rates], beside: Rates) -> dict[str, object]:
    """Return medians and ratios of gzoo's rates, of the peers' by workers, and of gzoo's next to each peer."""
    least = MIN[corpus.name]
    middles = {name: middle(rates) for name, rates in ours.items()}
    bests = {name: best({w: median(all_of) for w, all_of in rates.items()}) for name, rates in theirs.items()}
    times = {name: median(beside[name]) / rate for name, (_, rate) in bests.items() if name in beside}
    ratios: dict[str, object] = {
        "gzoo, relative to decode": asked(_of(ours, "decode"), least["decode"]),
        "gzoo, relative to decode, rough": round(_of(ours, "decode, rough"), 3),
    }
    for name, ratio in times.items():
        kind = next(one for one in ("usual", "crop", "default") if one in name)
        ratios[f"gzoo, relative to {name}"] = asked(ratio, least[kind])
    for name, (_, rate) in bests.items():
        if name == "usual, resized":
            ratios[f"later epochs, relative to {name}"] = asked(middles["later epochs"] / rate, least["later"])
        if "default" in name:
            ratio = middles["augmented, later epochs"] / rate
            ratios[f"gzoo, augmented from the cache, relative to {name}"] = asked(ratio, least["default"])
    return {
        "images": at.n,
        "kilobytes per image": at.kilobytes,
        "images per second (median)": {
            **middles,
            **{f"{name}, {workers} workers": round(rate, 1) for name, (workers, rate) in bests.items()},
        },
        "ratios": ratios,
        "all rounds": {
            **{name: [round(one) for one in rates] for name, rates in ours.items()},
            **{
                name: {w: [round(one) for one in all_of] for w, all_of in rates.items()}
                for name, rates in theirs.items()
            },
            **{f"gzoo, next to {name}": [round(one) for one in rates] for name, rates in beside.items()},
        },
    }


def _of(rates: Rates, limit: str) -> float:
    """Return the median over rounds of gzoo's rate as a fraction of a limit."""
    return median(one / most for one, most in zip(rates["gzoo"], rates[limit], strict=True))


def our_rates(at: Made, rounds: int, rounds_of_limit: int) -> Rates:
    """Return images per second of gzoo's steps and of the decoder, by round."""
    cores = len(os.sched_getaffinity(0))
    rates: Rates = {}

    def note(name: str, *values: float) -> None:
        rates.setdefault(name, []).extend(values)

    for _ in range(rounds_of_limit):
        note("decode", step("decode", record=at.record, threads=cores, is_exact=True)["rate"])
        note("gzoo", *step("epochs", record=at.record, batch=BATCH, size=FULL)["rates"])
        note("decode, rough", step("decode", record=at.record, threads=cores, is_exact=False)["rate"])
    small: dict[str, Any] = {"record": at.record, "batch": BATCH, "size": SIZE}
    cache = at.record.parent / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    for _ in range(rounds):
        first, *later = step("epochs", **small, cache=cache, n_epochs=5)["rates"]
        shutil.rmtree(cache)
        note("first epoch at 224 px, filling the cache", first)
        note("later epochs", *later)
        note("augmented", *step("epochs", **small, augment=PEERS_PRESET)["rates"])
        _, *later = step("epochs", **small, augment=PEERS_PRESET, cache=cache, n_epochs=3)["rates"]
        shutil.rmtree(cache)
        note("augmented, later epochs", *later)
    return rates


def peer_rates(at: Made, python: Path, n: int) -> tuple[dict[str, Rates], Rates]:
    """Return images per second of each peer by number of workers, by round, and of gzoo's first epoch next to it."""
    settings = {**_peer(at), "n": n, "batch": BATCH}
    whole: dict[str, Any] = {"record": at.record, "batch": BATCH, "size": FULL}
    augmented = {**whole, "size": SIZE, "augment": PEERS_PRESET}
    ways: dict[str, tuple[str, dict[str, object], dict[str, Any] | None]] = {
        "usual": ("usual", {}, whole),
        "usual, resized": ("usual", {"size": SIZE}, None),
        "galaxy-datasets, crop": ("module", {"view": "crop"}, whole),
        "galaxy-datasets, crop, counts alone": ("module", {"view": "crop", "columns": "counts"}, whole),
        "galaxy-datasets, default": ("module", {"view": "default"}, augmented),
        "galaxy-datasets, default, counts alone": ("module", {"view": "default", "columns": "counts"}, augmented),
    }
    theirs: dict[str, Rates] = {}
    beside: Rates = {}
    for name, (one, more, mine) in ways.items():
        rates = theirs.setdefault(name, {str(workers): [] for workers in WORKERS})
        for _ in range(ROUNDS_OF_PEERS):
            if mine:
                beside.setdefault(name, []).extend(step("epochs", **mine)["rates"])
            for workers in WORKERS:
                rates[str(workers)].append(peer_step(python, one, **settings, **more, workers=workers)["rate"])
    return theirs, beside


def _peer(at: Made) -> dict[str, object]:
    return {"parquet": at.peer, "cache": at.peer.parent / "arrow"}


if __name__ == "__main__":
    main()
