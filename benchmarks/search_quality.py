"""How often a search by example and a search for outliers find what they are for.

    python benchmarks/search_quality.py [--run RUN | --n 10000 --epochs 12] [--pool 6000] [--work FOLDER] [--quick]
        [--out FILE]

An encoder is trained on the votes on simulated galaxies of two campaigns, or is that of `--run`, such as the one that
`adaptation.py --work FOLDER` leaves in FOLDER/pretrained. Other simulated galaxies are embedded, in which the truth of
the simulation says what is to be found: galaxies with an artifact, mergers (`merger_strength` above 0.5) and disturbed
galaxies (`disturbance` above 0.5).

- One example and ten examples: precision at 50, over draws of the examples, beside the base rate. The bar is 10 times
  the base rate for mergers and disturbed galaxies with ten examples.
- `unlike`: a user looks at the first 50 galaxies, gives the right ones as further examples and the wrong ones as not
  wanted, and searches again, three times. Precision at 50 is then that of galaxies that the user has not seen: with all
  that were given, with the examples but without those that are not wanted, and with the ten first examples alone. The
  same galaxies are left out of all three, so that naming them does not pay by their absence alone. One round with
  nothing but the wrong ones, at most ten, is beside it. Intervals are Student's t over the draws, which are paired.
- Outliers: the fraction of galaxies of any of these kinds among the first 100, and of artifacts among the likely
  artifacts. The bar is 5 times the base rate.

Writes benchmarks/results/search_quality.json.
"""

from __future__ import annotations

import json
import tempfile
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
N_EXAMPLES, K, N_UNLIKE, N_ROUNDS, SEED, SIZE = 10, 50, 10, 3, 77, 64
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
    found: dict[str, list[float]] = {}
    nothing = np.empty(0, np.int64)
    for draw in range(draws):

        def note(name: str, rows: Rows) -> Rows:
            found.setdefault(name, []).append(float(is_wanted[rows].mean()))
            return rows

        first = np.random.default_rng([SEED, draw]).permutation(np.flatnonzero(is_wanted))[:N_EXAMPLES]
        note("one example", searched(space, first[:1], nothing, draw))
        rows = note("ten examples", searched(space, first, nothing, draw))
        wrong = rows[~is_wanted[rows]][:N_UNLIKE]
        note("one round, wrong ones left out", searched(space, first, nothing, draw, wrong))
        note("one round, wrong ones unlike", searched(space, first, wrong, draw))
        like, unlike = first, nothing
        for _ in range(N_ROUNDS):
            rows = searched(space, like, unlike, draw)
            like = np.concatenate([like, rows[is_wanted[rows]]])
            unlike = np.concatenate([unlike, rows[~is_wanted[rows]]])
        seen = np.concatenate([like, unlike])
        note("rounds, ten examples", searched(space, first, nothing, draw, seen))
        note("rounds, all examples", searched(space, like, nothing, draw, seen))
        note("rounds, all examples and unlike", searched(space, like, unlike, draw))
        found.setdefault("rounds, wanted galaxies found", []).append(len(like) - N_EXAMPLES)
    base = float(is_wanted.mean())
    of = {name: np.array(values) for name, values in found.items()}
    return {
        "base rate": round(base, 4),
        **{name: round(float(values.mean()), 3) for name, values in of.items()},
        "ten examples / base rate": round(float(of["ten examples"].mean()) / base, 1),
        "one round: unlike - left out": interval(
            of["one round, wrong ones unlike"] - of["one round, wrong ones left out"]
        ),
        "rounds: unlike - without": interval(of["rounds, all examples and unlike"] - of["rounds, all examples"]),
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
    parser.add_argument("--run", type=Path, help="run of an encoder, instead of training one")
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
    run, path = options.run or work / "pretrained", work / "embeddings.parquet"
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
    if not path.exists():
        embed(run, pool, out=path)
    found = open_embeddings(path)
    table = found.keys.join(truth, on="id_str", how="left", maintain_order="left")
    kinds: dict[str, Truth] = {
        "artifact": (table["artifact"] != "").to_numpy(),
        "merger": (table["merger_strength"] > 0.5).to_numpy(),
        "disturbed": (table["disturbance"] > 0.5).to_numpy(),
    }
    space = Space(found.vectors)
    results = {name: judged(space, one, options.draws) for name, one in kinds.items()}
    odd_ones = odd(path, space, kinds)
    about = json.loads((run / "run.json").read_text("utf-8"))
    write(
        options,
        {
            "n_galaxies": len(found),
            "n_features": found.vectors.shape[1],
            "encoder": about["design"]["encoder"],
            "trained_on": {"n_galaxies": about["n_train"], "of": about["data"]["dataset_names"]},
            "n_epochs": about["n_epochs"],
            "size_pixels": about["design"]["size"],
            "precision at 50": results,
            "outliers": odd_ones,
            "holds": all(
                results[name]["ten examples / base rate"] >= BAR_TIMES
                and results[name]["rounds: unlike - without"]["low"] > 0
                for name in ("merger", "disturbed")
            )
            and odd_ones["times the base rate"] >= BAR_OUTLIERS,
        },
    )


if __name__ == "__main__":
    main()
