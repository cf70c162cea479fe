"""How often a search by example and a search for outliers find what they are for.

    python benchmarks/search_quality.py [--n 10000] [--pool 6000] [--epochs 12] [--work FOLDER] [--quick] [--out FILE]

An encoder is trained on the votes on simulated galaxies of two campaigns. Other simulated galaxies are embedded, in
which the truth of the simulation says what is to be found: galaxies with an artifact, mergers (`merger_strength` above
0.5) and disturbed galaxies (`disturbance` above 0.5).

- One example and ten examples: precision at 50, over draws of the examples, beside the base rate. The bar is 10 times
  the base rate for mergers and disturbed galaxies with ten examples.
- `unlike`: up to ten of the wrong galaxies among the first 50 are named as not wanted. The comparison is paired, with
  the same galaxies left out of both results, so that naming them does not pay by their absence alone. The interval is
  Student's t over the draws.
- Outliers: the fraction of galaxies of any of these kinds among the first 100, and of artifacts among the likely
  artifacts. The bar is 5 times the base rate.

Writes benchmarks/results/search_quality.json.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from adaptation import dataset, interval
from measuring import arguments, write

from gzoo import embed, open_embeddings, outliers, train, union
from gzoo.embeddings.examples import direction
from gzoo.embeddings.outliers import likely_artifacts, mahalanobis_distances
from gzoo.embeddings.space import Space

CAMPAIGNS = ("gz2", "gz_desi")
N_EXAMPLES, K, N_UNLIKE, SEED, SIZE = 10, 50, 10, 77, 64
BAR_TIMES, BAR_OUTLIERS = 10, 5
Truth = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


def searched(space: Space, like: Rows, unlike: Rows, draw: int, without: Rows | None = None) -> Rows:
    """Return the rows that `gzoo similar` finds."""
    known = np.concatenate([like, unlike])
    left_out = known if without is None else np.concatenate([known, without])
    if len(like) == 1 and not len(unlike):
        return space.most_alike(space.points(like), K, left_out)[0].rows
    weights = direction(space, space.points(like), space.points(unlike), known, draw)
    return space.highest(weights, K, left_out).rows


def judged(space: Space, is_wanted: Truth, draws: int) -> dict[str, Any]:
    """Return precision at 50 of all searches for one kind."""
    one, ten, without, with_unlike = ([] for _ in range(4))
    for draw in range(draws):
        rng = np.random.default_rng([SEED, draw])
        like = rng.permutation(np.flatnonzero(is_wanted))[:N_EXAMPLES]
        nothing = np.empty(0, np.int64)
        one.append(is_wanted[searched(space, like[:1], nothing, draw)].mean())
        found = searched(space, like, nothing, draw)
        ten.append(is_wanted[found].mean())
        wrong = found[~is_wanted[found]][:N_UNLIKE]
        without.append(is_wanted[searched(space, like, nothing, draw, wrong)].mean())
        with_unlike.append(is_wanted[searched(space, like, wrong, draw)].mean())
    base = float(is_wanted.mean())
    return {
        "base rate": round(base, 4),
        "one example": round(float(np.mean(one)), 3),
        "ten examples": round(float(np.mean(ten)), 3),
        "ten examples / base rate": round(float(np.mean(ten)) / base, 1),
        "ten examples, wrong ones left out": round(float(np.mean(without)), 3),
        "ten examples, wrong ones named unlike": round(float(np.mean(with_unlike)), 3),
        "unlike - left out": interval(np.array(with_unlike) - np.array(without)),
        "draws": draws,
    }


def odd(path: Path, space: Space, kinds: dict[str, Truth]) -> dict[str, Any]:
    """Return what the outliers are."""
    found = outliers(path, k=100)
    row_of = {id_str: i for i, id_str in enumerate(open_embeddings(path).keys["id_str"])}
    rows = np.array([row_of[one] for one in found.table["id_str"]])
    is_odd = np.any(list(kinds.values()), axis=0)
    marked = likely_artifacts(mahalanobis_distances(space))
    return {
        "base rate": round(float(is_odd.mean()), 4),
        "among the first 100": round(float(is_odd[rows].mean()), 3),
        "times the base rate": round(float(is_odd[rows].mean() / is_odd.mean()), 1),
        "each kind": {name: round(float(one[rows].mean()), 3) for name, one in kinds.items()},
        "likely artifacts": int(marked.sum()),
        "of them artifacts": round(float(kinds["artifact"][marked].mean()), 3) if marked.any() else None,
        "of all artifacts": round(float(marked[kinds["artifact"]].mean()), 3),
    }


def main() -> None:
    parser = arguments(__doc__, "search_quality.json")
    parser.add_argument("--n", type=int, default=10_000, help="simulated galaxies to train on (default: 10000)")
    parser.add_argument("--pool", type=int, default=6_000, help="galaxies to search among (default: 6000)")
    parser.add_argument("--epochs", type=int, default=12, help="epochs on the votes (default: 12)")
    parser.add_argument("--draws", type=int, default=8, help="draws of the examples (default: 8)")
    parser.add_argument("--encoder", default="mobilenetv4_conv_small_050", help="timm encoder")
    parser.add_argument("--work", type=Path, help="folder to keep datasets, the trained encoder and embeddings in")
    parser.add_argument("--quick", action="store_true", help="use few galaxies, and write only to --out")
    options = parser.parse_args()
    if options.quick:
        options.n, options.pool, options.epochs, options.draws = 200, 400, 1, 2
    work = options.work or Path(tempfile.mkdtemp(prefix="gzoo-search-"))
    work.mkdir(parents=True, exist_ok=True)
    run, path = work / "pretrained", work / "embeddings.parquet"
    if not run.exists():
        parts = [dataset(name, options.n // 2, SEED + i, work)[0] for i, name in enumerate(CAMPAIGNS)]
        if not (work / "union").exists():
            union(parts, out=work / "union")
        train(
            work / "union",
            out=run,
            encoder=options.encoder,
            size=SIZE,
            crop=1,
            epochs=options.epochs,
            batch_size=64,
            sampling="balanced",
            seed=SEED,
            cache_dir=work / "cache",
            probe=False,
        )
    pool, truth = dataset("gz2", options.pool, SEED + 100, work)
    started = time.process_time()
    if not path.exists():
        embed(run, pool, out=path)
    seconds = time.process_time() - started
    found = open_embeddings(path)
    table = found.keys.join(truth, on="id_str", how="left", maintain_order="left")
    kinds: dict[str, Truth] = {
        "artifact": (table["artifact"] != "").to_numpy(),
        "merger": (table["merger_strength"] > 0.5).to_numpy(),
        "disturbed": (table["disturbance"] > 0.5).to_numpy(),
    }
    space = Space(found.vectors)
    results = {name: judged(space, one, options.draws) for name, one in kinds.items()}
    unlike = odd(path, space, kinds)
    write(
        options,
        {
            "n_pretraining": options.n,
            "n_galaxies": len(found),
            "n_features": found.vectors.shape[1],
            "encoder": options.encoder,
            "epochs": options.epochs,
            "size_pixels": SIZE,
            "embedding_cpu_seconds": round(seconds, 1),
            "precision at 50": results,
            "outliers": unlike,
            "holds": all(results[name]["ten examples / base rate"] >= BAR_TIMES for name in ("merger", "disturbed"))
            and unlike["times the base rate"] >= BAR_OUTLIERS,
        },
    )


if __name__ == "__main__":
    main()
