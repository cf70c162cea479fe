"""The usage on the cards of published datasets, word by word, on a copy that this machine serves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopback_hub import LoopbackHub, environment

USAGE = """
from datasets import load_dataset

dataset = load_dataset("mwalmsley/gz2", split="train")
tiny = load_dataset("mwalmsley/gz2", name="tiny", split="train")
assert 0 < len(tiny) < len(dataset), (len(tiny), len(dataset))
column = "smooth-or-featured-gz2_smooth"
expected = dataset[column][:]

for name in ("torch", "numpy", "jax"):
    dataset.set_format(name)
    assert [int(one) for one in dataset[:][column]] == expected, name

from torch.utils.data import DataLoader

if __name__ == "__main__":
    dataset.set_format("torch")
    loader = DataLoader(dataset, batch_size=4, num_workers=1)
    found = [int(one) for batch in loader for one in batch[column]]
    assert found == expected
    assert tuple(next(iter(loader))["image"].shape) == (4, 3, 424, 424)

    stream = load_dataset("mwalmsley/gz2", split="train", streaming=True)
    assert next(iter(stream))[column] == expected[0]

    import pandas

    shard = "hf://datasets/mwalmsley/gz2/data/train-00000-of-00001.parquet"
    assert pandas.read_parquet(shard, columns=[column])[column].tolist() == expected

    # the readers of polars and DuckDB have the Hub's own address, but read what the client opens
    import duckdb, fsspec, polars

    with fsspec.open(shard) as file:
        rows = polars.read_parquet(file)
    assert rows[column].to_list() == expected
    assert duckdb.sql(f'select "{column}" from rows').pl()[column].to_list() == expected
    print("done")
"""


@pytest.mark.slow
def test_usage_of_the_published_cards(hub: LoopbackHub, dataset: Path, tmp_path: Path) -> None:
    hub.add_repo("mwalmsley/gz2", dataset)
    script = tmp_path / "use.py"
    script.write_text(USAGE)
    settings = {**os.environ, **environment(hub, tmp_path / "home")}
    done = subprocess.run([sys.executable, str(script)], env=settings, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("done\n"), done.stderr
    assert done.returncode == 0
