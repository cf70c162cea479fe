"""Datasets of gzoo open in `datasets`, with and without gzoo, in every format that users train with."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import gzoo
from gzoo.dataset.open import load, open_dataset
from gzoo.errors import DatasetError, HubError, NotFoundError
from gzoo.trees.campaign import campaign

SMOOTH = "smooth-or-featured-gz2_smooth"

WITHOUT_GZOO = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "gzoo":
            raise ImportError("gzoo is not here")

sys.meta_path.insert(0, Refuse())
try:
    import gzoo
except ImportError:
    pass
else:
    raise SystemExit("gzoo could be imported")
"""
WITH_DATASETS = f"""
import sys

from datasets import load_dataset
from torch import uint8
from torch.utils.data import DataLoader

dataset = load_dataset(sys.argv[1], split="train")
dataset.set_format("torch")
image = dataset[0]["image"]
assert (tuple(image.shape), image.dtype) == ((3, 424, 424), uint8), image.shape
n = 0
for batch in DataLoader(dataset, batch_size=4):
    assert tuple(batch["image"].shape) == (4, 3, 424, 424)
    assert batch["image"].dtype == uint8
    assert tuple(batch["{SMOOTH}"].shape) == (4,)
    n += 1
    if n == 3:
        break
assert n == 3
tiny = load_dataset(sys.argv[1], name="tiny", split="train")
assert 0 < len(tiny) < len(dataset)
stream = load_dataset(sys.argv[1], split="train", streaming=True)
assert next(iter(stream))["id_str"] == dataset[0]["id_str"]
print(len(dataset), dataset[0]["id_str"])
"""


def train_of(folder: Path) -> datasets.Dataset:
    return cast(datasets.Dataset, load(folder, split="train"))


def test_torch_users_call_only_datasets(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["", str(dataset)])
        exec(WITH_DATASETS, {})
    rows = pl.read_parquet(dataset / "data" / "train-00000-of-00001.parquet")
    assert capsys.readouterr().out.split() == [str(rows.height), rows["id_str"][0]]


@pytest.mark.slow
def test_torch_users_need_no_gzoo(dataset: Path, tmp_path: Path) -> None:
    script = [sys.executable, "-c", WITHOUT_GZOO + WITH_DATASETS, str(dataset)]
    environment = {**os.environ, "HF_HOME": str(tmp_path)}
    done = subprocess.run(script, capture_output=True, text=True, check=False, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    rows = pl.read_parquet(dataset / "data" / "train-00000-of-00001.parquet")
    assert done.stdout.split() == [str(rows.height), rows["id_str"][0]]


def test_gzoo_loads_what_datasets_loads(dataset: Path) -> None:
    ours, theirs = train_of(dataset), datasets.load_dataset(str(dataset), split="train")
    assert ours.features == theirs.features
    tables = [pl.DataFrame(one.with_format("arrow")[:]) for one in (ours, theirs)]
    assert tables[0].equals(tables[1])
    assert set(cast(datasets.DatasetDict, load(dataset))) == set(open_dataset(dataset).splits)


@pytest.mark.parametrize("kind", ["numpy", "jax", "pandas", "arrow", "tensorflow"])
def test_every_format_gives_the_votes(dataset: Path, kind: str) -> None:
    needs = {"jax": "jax", "pandas": "pandas", "tensorflow": "tensorflow"}.get(kind)
    if needs and importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    opened = train_of(dataset)
    expected = pl.read_parquet(dataset / "data" / "train-00000-of-00001.parquet")[SMOOTH][:5].to_list()
    column = {"tensorflow": "tf"}.get(kind, kind)
    formatted = opened.with_format(column)
    votes = formatted[:5][SMOOTH]
    assert [int(one) for one in (votes.to_pylist() if isinstance(votes, pa.ChunkedArray) else votes)] == expected
    if kind in {"numpy", "jax", "tensorflow"}:
        image = formatted[0]["image"]
        assert tuple(image.shape) == (424, 424, 3)
        assert "uint8" in str(image.dtype)


def test_tiny_and_streaming(dataset: Path) -> None:
    tiny = cast(datasets.Dataset, load(dataset, "tiny", split="train"))
    whole = train_of(dataset)
    assert tiny["id_str"][:] == whole["id_str"][:16]
    stream = cast(datasets.IterableDataset, load(dataset, split="test", streaming=True))
    assert [row["id_str"] for row in stream] == cast(datasets.Dataset, load(dataset, split="test"))["id_str"][:]
    assert len(cast(datasets.Dataset, load(dataset, split="train[:3]+test[:2]"))) == 5


def test_no_value_is_null_and_fractions_without_votes_are_nan(dataset: Path) -> None:
    table = cast(pa.Table, train_of(dataset).with_format("arrow")[:])
    assert all(column.null_count == 0 for column in table.columns)
    asked = np.asarray(table["bulge-shape-gz2_total-votes"])
    fraction = np.asarray(table["bulge-shape-gz2_boxy_fraction"])
    assert 0 < (asked == 0).sum() < len(asked)
    assert (np.isnan(fraction) == (asked == 0)).all()


def test_an_unknown_config_split_or_folder_is_an_error_that_lists_the_known_ones(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="one of: default, tiny"):
        load(dataset, "huge")
    with pytest.raises(NotFoundError, match="Split 'dev' not found"):
        load(dataset, split="dev")
    with pytest.raises(DatasetError, match="not a dataset folder"):
        load(tmp_path)
    with pytest.raises(NotFoundError, match="not found: 'gz9'"):
        load("gz9")
    (tmp_path / ".half.gzoo-partial").mkdir()
    with pytest.raises(NotFoundError, match="not finished"):
        load(tmp_path / "half")


@pytest.mark.parametrize("name", ["gz2", "mwalmsley/gz2"])
def test_without_a_network_the_hub_is_an_error(name: str) -> None:
    with pytest.raises(HubError, match="mwalmsley/gz2") as caught:
        gzoo.load(name)
    assert "\n" not in caught.value.message


def test_published_folders_are_recognised_by_their_columns(published: Path, dataset: Path) -> None:
    opened = open_dataset(published)
    assert opened.campaign.name == "gz2"
    assert opened.splits == ("train", "test")
    assert opened.is_simulated
    keys, votes = opened.read_votes("test")
    own_keys, own_votes = open_dataset(dataset).read_votes("test")
    assert keys.equals(own_keys)
    assert (votes.counts == own_votes.counts).all()
    assert (votes.totals == own_votes.totals).all()


def test_null_counts_of_published_folders_are_zero(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "gz2")
    path = tmp_path / "gz2" / "data" / "test-00000-of-00001.parquet"
    bar = campaign("gz2").tree.question("bar-gz2").columns
    pl.read_parquet(path).with_columns(pl.lit(None, pl.Int32).alias(one) for one in bar).write_parquet(path)
    _, votes = open_dataset(tmp_path / "gz2").read_votes("test")
    assert (votes.counts[:, votes.tree.slice("bar-gz2")] == 0).all()
    assert (votes.counts[:, votes.tree.slice("smooth-or-featured-gz2")] > 0).any()


def test_folders_with_glob_characters_in_their_path(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gz2 [a-b]"
    shutil.copytree(dataset, folder)
    keys, _ = open_dataset(folder).read_votes("test")
    assert keys.height > 0
    with pytest.raises(DatasetError, match="takes for a pattern"):  # `datasets` would not find any file
        load(folder, split="test")


def test_corrupt_folders_are_errors(dataset: Path, published: Path, tmp_path: Path) -> None:
    for i, source in enumerate((dataset, published)):
        folder = tmp_path / str(i)
        shutil.copytree(source, folder)
        for shard in (folder / "data").iterdir():
            shard.write_bytes(shard.read_bytes()[:1000])
        with pytest.raises(DatasetError, match=r"Cannot read|index of a shard of \d+ bytes, but .* has 1000"):
            open_dataset(folder).read_votes("train")
    shutil.copytree(dataset, tmp_path / "c")
    (tmp_path / "c" / "manifest.json").write_text('{"format": "gzoo-dataset-2"}')
    with pytest.raises(DatasetError, match="'campaign'"):
        open_dataset(tmp_path / "c")
    shutil.rmtree(tmp_path / "c" / "data")
    with pytest.raises(DatasetError, match="does not contain any shards"):
        open_dataset(tmp_path / "c")


def test_a_table_without_votes_is_not_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pl.DataFrame({"id_str": ["1"], "price": [3]}).write_parquet(tmp_path / "data" / "train-0.parquet")
    with pytest.raises(DatasetError, match="neither a manifest nor the columns"):
        open_dataset(tmp_path)
