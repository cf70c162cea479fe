"""Search by example on real galaxies, by an encoder that was trained on simulated ones.

    python benchmarks/real_search.py --run RUN [--data ../shared/data/gz2_sample] [--draws 20] [--sheets FOLDER]

The 682 galaxies of Galaxy Zoo 2 in `shared/data/gz2_sample` are embedded by a run that has seen simulated ones only,
such as the one that `search_quality.py --work FOLDER` leaves in FOLDER/pretrained. As there, the middle of each image
is what the encoder sees. Ten galaxies of a kind (spiral,
edge-on, merger; `derived_label` in votes.csv, which rests on votes) are the examples, drawn again 20 times: precision
at 20 among the others beside the base rate there, with Student's t interval over the draws. `--sheets` also writes the
page of the first draw of each kind, and that of the outliers.

Writes benchmarks/results/real_search.json.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from adaptation import crop, interval
from measuring import arguments, write
from search_quality import searched

from gzoo import embed, open_embeddings, outliers, similar
from gzoo.embeddings.space import Space

KINDS, N_EXAMPLES, K, SEED = ("spiral", "edge-on", "merger"), 10, 20, 77
DATA = Path(__file__).parents[2] / "shared" / "data" / "gz2_sample"


def main() -> None:
    parser = arguments(__doc__, "real_search.json")
    parser.add_argument("--run", type=Path, required=True, help="run of an encoder")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with images/ and votes.csv")
    parser.add_argument("--draws", type=int, default=20, help="draws of the examples (default: 20)")
    parser.add_argument("--sheets", type=Path, help="folder for the pages of the first draws")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="gzoo-real-search-"))
    path = work / "embeddings.parquet"
    crop(options.data / "images", work / "images")
    embed(options.run, work / "images", out=path)
    found = open_embeddings(path)
    labels = pl.read_csv(options.data / "votes.csv", infer_schema=False).select(
        id_str=pl.col("filename").str.replace(r"\.jpg$", ""), label="derived_label"
    )
    label = found.keys.join(labels, on="id_str", how="left", maintain_order="left")["label"]
    space = Space(found.vectors)
    results: dict[str, Any] = {}
    for kind in KINDS:
        is_kind = (label == kind).fill_null(False).to_numpy()
        members = np.flatnonzero(is_kind)
        precisions, base = [], (is_kind.sum() - N_EXAMPLES) / (len(found) - N_EXAMPLES)
        for draw in range(options.draws):
            like = np.random.default_rng([SEED, draw]).permutation(members)[:N_EXAMPLES]
            rows = searched(space, like, np.empty(0, np.int64), draw)[:K]
            precisions.append(is_kind[rows].mean())
            if draw == 0 and options.sheets:
                options.sheets.mkdir(exist_ok=True)
                ids = found.keys["id_str"][like].to_list()
                similar(path, ids, k=K, sheet=options.sheets / f"{kind}.html", overwrite=True)
        results[kind] = {"base rate": round(float(base), 3), "precision at 20": interval(np.array(precisions))}
    if options.sheets:
        outliers(path, k=40, sheet=options.sheets / "outliers.html", overwrite=True)
    shutil.rmtree(work)
    about = json.loads((options.run / "run.json").read_text("utf-8"))
    write(
        options,
        {
            "n_galaxies": len(found),
            "encoder": about["design"]["encoder"],
            "trained_on": {"n_galaxies": about["n_train"], "of": about["data"]["dataset_names"]},
            "labels": dict(label.value_counts(sort=True).iter_rows()),
            "draws": options.draws,
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
