"""Whether the memory of a loader stays constant over epochs.

    python benchmarks/loader_memory.py [--epochs 20] [--workers 2] [--quick]

Runs epochs of `gzoo.loader` on the `57 kB` corpus (`corpora.py`), shuffled: at 424 px without a cache, with
augmentation to 224 px, and with a cache at 224 px. The result is the resident memory of the process and its children
after the last epoch, relative to that after the first.

Writes benchmarks/results/loader_memory.json.
"""

from __future__ import annotations

import shutil

from corpora import LARGE, made, quick
from measuring import options, step, write

MAX_PERCENT = 2.0
BATCH = 64


def main() -> None:
    parser = options(__doc__, "loader_memory.json")
    parser.add_argument("--epochs", type=int, default=20, help="number of epochs (default: 20)")
    parser.add_argument("--workers", type=int, default=2, help="threads of the loader (default: 2)")
    given = parser.parse_args()
    at = made(quick(LARGE) if given.quick else LARGE, given.folder)
    cache = at.record.parent / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    ways: dict[str, dict[str, object]] = {
        "424 px": {"size": 424},
        "augmented, 224 px": {"size": 224, "augment": "train"},
        "cached, 224 px": {"size": 224, "cache": cache},
    }
    result: dict[str, object] = {"images": at.n, "epochs": given.epochs, "workers": given.workers}
    for name, way in ways.items():
        found = step("epochs", record=at.record, batch=BATCH, n_epochs=given.epochs, workers=given.workers, **way)
        megabytes = found["resident megabytes"]
        percent = 100 * (megabytes[-1] / megabytes[0] - 1)
        result[name] = {
            "growth in percent": round(percent, 2),
            "asked": f"less than {MAX_PERCENT:g}",
            "holds": percent < MAX_PERCENT,
            "resident megabytes after each epoch": megabytes,
        }
    shutil.rmtree(cache)
    write(given, result)


if __name__ == "__main__":
    main()
