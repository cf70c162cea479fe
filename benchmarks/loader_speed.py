"""How fast gzoo's loader is, against what the decoder allows and against the usual ways.

    make .venv-peers/ready
    python benchmarks/loader_speed.py [--corpus "57 kB"] [--rounds 5] [--peer-images 1536]

Every step is a process of its own, on the same galaxies (`corpora.py`), whose bytes are in the page cache. The steps of
gzoo and of the decoder take turns. The machine is now faster and now slower, so steps are compared with those next to
them: the loader with the decoder in eleven rounds, of which the median counts, and with each peer in three, its median
against that of the peer's best setting. Ratios of later epochs, far from what is asked, are of medians.

- `decode`: the limit. As many threads as there are cores decode images that lie in memory to all colours at full
  size, into memory that is used again, nothing kept, by the fastest decoder (libjpeg-turbo) to the pixels that Pillow
  gives, as the loader does; and `decode, rough`: the same with its fastest settings, up to 28 grey levels off.
- `gzoo`: the first epoch of `gzoo.loader` at 424 px, shuffled, with votes and totals. Opening the dataset and reading
  the votes are timed too.
- `usual`: `set_format("torch")` and a `DataLoader`, all columns, shuffled; the best of 0, 2 and 4 workers.
- `galaxy-datasets`: its Hugging Face data module, with the plain crop and with its default augmentation, to 224 px, on
  the same record, and on one from which all columns but images and counts were taken away (`counts alone`), which is
  faster; the best of 0, 2 and 4 workers.
- `later epochs`: the second to fifth epoch of the loader with a cache at 224 px, against `usual` with the same resize.
- `augmented`: the loader with the preset that equals the default augmentation of galaxy-datasets, on the CPU, in the
  first epoch and from the cache.

The peers are timed in a second pass over fewer images, when their workers run and their files are known; the
conversion to Arrow by `datasets` is not counted. Writes benchmarks/results/loader_speed.json.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from statistics import median
from typing import Any

from corpora import LARGE, SMALL, Corpus, Made, made
from measuring import asked, best, middle, options, peer_step, require_peers, step, write

FULL, SIZE, BATCH = 424, 224, 64
ROUNDS_OF_LIMIT = 11
ROUNDS_OF_PEERS = 3
WORKERS = (0, 2, 4)
PEERS_PRESET = "galaxy-datasets"
MIN = {  # what is asked of each ratio
    LARGE.name: {"decode": 0.85, "usual": 4, "crop": 3, "default": 5, "later": 30},
    SMALL.name: {"decode": 0.85, "usual": 8, "crop": 3, "default": 5, "later": 30},
}


def main() -> None:
    parser = options(__doc__ or "", "loader_speed.json")
    parser.add_argument("--corpus", choices=(LARGE.name, SMALL.name), help="only this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-images", type=int, default=1536)
    given = parser.parse_args()
    require_peers(given.peers)
    result: dict[str, object] = {}
    versions: dict[str, str] = {}
    for corpus in (LARGE, SMALL):
        if given.corpus in {None, corpus.name}:
            at = made(corpus, given.folder)
            versions = peer_step(given.peers, "prepare", **_peer(at))["versions"]
            result[corpus.name] = measured(corpus, at, given.peers, given.rounds, given.peer_images)
    write(given.out, result, peers=versions)


def measured(corpus: Corpus, at: Made, peers: Path, rounds: int, n: int) -> dict[str, object]:
    ours = our_rates(at, rounds)
    theirs, beside = peer_rates(at, peers, n)
    least = MIN[corpus.name]
    middles = {name: middle(rates) for name, rates in ours.items()}
    bests = {name: best({w: median(all_of) for w, all_of in rates.items()}) for name, rates in theirs.items()}
    times = {name: median(beside[name]) / rate for name, (_, rate) in bests.items() if name in beside}
    return {
        "images": at.n,
        "kilobytes an image": at.kilobytes,
        "images a second (median)": {
            **middles,
            **{f"{name}, {workers} workers": round(rate, 1) for name, (workers, rate) in bests.items()},
        },
        "ratios": {
            "gzoo, of the decode-only limit": asked(_of(ours, "decode"), least["decode"]),
            "gzoo, of the limit of rough decoding": round(_of(ours, "decode, rough"), 3),
            "gzoo, times the usual way": asked(times["usual"], least["usual"]),
            **{
                f"gzoo, times {name}": asked(times[name], least["crop" if "crop" in name else "default"])
                for name in times
                if name != "usual"
            },
            "later epochs, times the usual way with the same resize": asked(
                middles["later epochs"] / bests["usual, resized"][1], least["later"]
            ),
            **{
                f"gzoo, augmented from the cache, times {name}": asked(
                    middles["augmented, later epochs"] / bests[name][1], least["default"]
                )
                for name in times
                if "default" in name
            },
        },
        "all": {
            **{name: [round(one) for one in rates] for name, rates in ours.items()},
            **{
                name: {w: [round(one) for one in all_of] for w, all_of in rates.items()}
                for name, rates in theirs.items()
            },
            **{f"gzoo, beside {name}": [round(one) for one in rates] for name, rates in beside.items()},
        },
    }


def _of(rates: dict[str, list[float]], limit: str) -> float:
    """The median over rounds of gzoo's rate as a share of a limit's."""
    return median(one / most for one, most in zip(rates["gzoo"], rates[limit], strict=True))


def our_rates(at: Made, rounds: int) -> dict[str, list[float]]:
    """Images a second of each of gzoo's steps and of the decoder, round by round."""
    cores = len(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = {}

    def note(name: str, *values: float) -> None:
        rates.setdefault(name, []).extend(values)

    for _ in range(ROUNDS_OF_LIMIT):
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


def peer_rates(at: Made, python: Path, n: int) -> tuple[dict[str, dict[str, list[float]]], dict[str, list[float]]]:
    """Images a second of each peer by number of workers, round by round, and of gzoo's first epoch between them."""
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
    theirs: dict[str, dict[str, list[float]]] = {}
    beside: dict[str, list[float]] = {}
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
