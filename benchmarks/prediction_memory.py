"""Peak memory of reading a prediction file as large as GZ Evo: 800,000 galaxies with all its answers.

    python benchmarks/prediction_memory.py [--quick] [--n 800000] [--out FILE]

The file has a concentration and a fraction for each answer, as `gzoo predict` writes them. It is read in a new process,
whose peak memory counts; the bar is 4 GB.

Writes benchmarks/results/prediction_memory.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import arguments, write

from gzoo.trees.campaign import campaign

CAMPAIGN, PART, BAR_GB = "gz_evo", 20_000, 4.0
READ = """
import json, resource, sys, time
from gzoo.scoring.predictions import read_predictions
from gzoo.trees.campaign import campaign
began = time.perf_counter()
read = read_predictions(sys.argv[1], campaign(sys.argv[2]).published_tree)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"values": read.values.shape, "seconds": round(time.perf_counter() - began, 1), "peak GB": peak}))
"""


def main() -> None:
    parser = arguments(__doc__, "prediction_memory.json")
    parser.add_argument("--quick", action="store_true", help="use 20,000 galaxies, and write only to --out")
    parser.add_argument("--n", type=int, default=800_000, help="number of galaxies (default: 800,000)")
    options = parser.parse_args()
    columns, rng = campaign(CAMPAIGN).published_tree.columns, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.parquet"
        writer: pq.ParquetWriter | None = None
        for start in range(0, PART if options.quick else options.n, PART):
            part: dict[str, object] = {
                "dataset_name": ["x"] * PART,
                "id_str": [f"{start + i:08d}" for i in range(PART)],
            }
            for column in columns:
                part[f"{column}_concentration"], part[f"{column}_fraction"] = rng.gamma(2, 2, PART), rng.random(PART)
            table = pa.table(part)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
        if writer:
            writer.close()
        size = round(path.stat().st_size / 1e9, 3)
        done = subprocess.run(
            [sys.executable, "-c", READ, path, CAMPAIGN], capture_output=True, text=True, check=True
        ).stdout
    found = json.loads(done)
    write(options, {"file GB": size, **found, "bar": BAR_GB, "holds": found["peak GB"] <= BAR_GB})


if __name__ == "__main__":
    main()
