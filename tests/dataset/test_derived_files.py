"""Files that follow from the rows of a dataset, derived again from the shards: slow, and independent of the builder.

`gzoo check` compares the checksums of these files, and does not derive them.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gzoo import files
from gzoo.dataset.merge import union
from gzoo.sky import identifier_split
from gzoo.trees.campaign import campaign

KEY = ["dataset_name", "id_str"]


def rows_of(folder: Path, split: str, config: str = "default") -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in files.shards(folder, split, config)])


def derive(folder: Path) -> None:
    """Derive order, `tiny`, indices, `images.parquet`, `dropped.parquet` and the manifest's counts from the shards."""
    manifest = cast("dict[str, Any]", files.read_json(folder / "manifest.json"))
    tree = campaign(manifest["campaign"]).published_tree
    splits = [split for split in files.SPLITS if split in manifest["splits"]["default"]]
    rows = {split: rows_of(folder, split) for split in splits}
    everything = pl.concat(rows.values())
    for split, part in rows.items():
        keys = list(zip(map(identifier_split.place, part["id_str"]), part["dataset_name"], part["id_str"], strict=True))
        assert keys == sorted(keys), "rows are sorted by the hash of their identifier"
        n_tiny = min(part.height, max(16, round(part.height * 0.01)))
        assert rows_of(folder, split, "tiny").equals(part.head(n_tiny)), "tiny is the first rows of a split"
        for path in files.shards(folder, split):
            derive_index(folder, path, tree.columns)
        if manifest["has_images"]:
            n_bytes = sum(map(len, part["image"].struct.field("bytes")))
            assert manifest["image_bytes"]["default"][split] == n_bytes
    if manifest["has_images"]:
        derive_images(folder, everything)
    dropped = pl.read_parquet(folder / "dropped.parquet")
    assert dict(dropped["reason"].value_counts().iter_rows()) == manifest["n_dropped"]
    source = [name for name in ("dataset_name", "row") if name in dropped.columns]
    n_rows = dropped.filter(pl.col("row").is_not_null()).select(source).unique().height
    assert manifest["n_rows_in_table"] == everything.height + n_rows
    n_by_id = int(everything.select((pl.col("ra").is_nan() | pl.col("dec").is_nan()).sum()).item())
    assert 0 <= manifest["n_split_by_id"] - n_by_id <= manifest["n_dropped"].get("image unusable", 0)
    assert manifest["proportion_asked_not_known"] == list(tree.unreachable)


def derive_index(folder: Path, path: Path, columns: tuple[str, ...]) -> None:
    shard = pl.read_parquet(path)
    n_rows = 100 if "image" in shard.columns else 10_000
    footer = pq.read_metadata(path)
    groups = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    assert groups == [min(n_rows, shard.height - start) for start in range(0, shard.height, n_rows)]
    index = folder / files.index_name(path.relative_to(folder).as_posix())
    assert index.exists() == ("image" in shard.columns)
    if not index.exists():
        return
    assert pq.read_schema(index).metadata[b"shard_bytes"] == str(path.stat().st_size).encode()
    found = pl.read_parquet(index)
    shared = [*KEY, *columns]
    assert found.select(shared).equals(shard.select(shared))
    assert set(found.columns) - {"offset", "length"} <= set(shard.columns)
    data = path.read_bytes()
    images = [data[at : at + n] for at, n in found.select("offset", "length").iter_rows()]
    assert images == shard["image"].struct.field("bytes").to_list()


def derive_images(folder: Path, rows: pl.DataFrame) -> None:
    listed = pl.read_parquet(folder / "images.parquet")
    assert listed.select(KEY).equals(rows.select(KEY))
    data = rows["image"].struct.field("bytes").to_list()
    assert listed["sha256"].to_list() == [hashlib.sha256(one).hexdigest() for one in data]
    assert listed["bytes"].to_list() == [len(one) for one in data]
    sizes = [Image.open(io.BytesIO(one)).size for one in data]
    assert list(listed.select("width", "height").iter_rows()) == sizes
    names = [Path(name).name for name in listed["image"]]
    assert names == rows["image"].struct.field("path").to_list()


@pytest.mark.parametrize("kind", ["dataset", "sharded"])
def test_built_datasets(kind: str, request: pytest.FixtureRequest) -> None:
    derive(cast(Path, request.getfixturevalue(kind)))


def test_merged_dataset(dataset: Path, tmp_path: Path) -> None:
    union([dataset], out=tmp_path / "evo")
    derive(tmp_path / "evo")


def test_derivation_finds_changes(dataset: Path, tmp_path: Path) -> None:
    """The derivation itself compares what it should: one changed vote in an index is an error."""
    index = dataset / files.index_name("data/train-00000-of-00001.parquet")
    (tmp_path / "data").mkdir()
    (tmp_path / "index").mkdir()
    shard = tmp_path / "data/train-00000-of-00001.parquet"
    shard.write_bytes((dataset / "data/train-00000-of-00001.parquet").read_bytes())
    column = campaign("gz2").published_tree.columns[0]
    table = pq.read_table(index)
    votes = np.array(table[column]).copy()
    votes[0] += 1
    i = table.schema.get_field_index(column)
    changed = table.set_column(i, table.schema.field(i), pl.Series(votes).to_arrow())
    pq.write_table(changed, tmp_path / "index" / index.name)
    with pytest.raises(AssertionError):
        derive_index(tmp_path, shard, campaign("gz2").published_tree.columns)
