"""The index of a shard has its votes, and the offset and length of each image."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gzoo import files
from gzoo.dataset import finalize, schema, shards
from gzoo.dataset.build import build
from gzoo.dataset.index import locate_images
from gzoo.dataset.merge import union
from gzoo.dataset.open import open_dataset
from gzoo.errors import DatasetError
from gzoo.simulator import SimulateResult, simulate

SIZES = st.lists(st.integers(0, 400) | st.integers(0, 2_000_000), max_size=12)
"""Sizes of images in bytes; a page of a shard ends after about a million."""


def write_shard(path: Path, images: Sequence[bytes], rows_in_group: int = 100) -> pq.FileMetaData:
    columns = pa.schema([("id_str", pa.string()), ("image", schema.IMAGE_TYPE)])
    rows = [{"id_str": f"g{i}", "image": {"bytes": data, "path": f"{i}.jpg"}} for i, data in enumerate(images)]
    with files.write_parquet(path, columns) as writer:
        for start in range(0, len(rows), rows_in_group):
            writer.write_batch(pa.RecordBatch.from_pylist(rows[start : start + rows_in_group], columns))
    return writer.writer.metadata


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=SIZES, rows_in_group=st.integers(1, 12), seed=st.integers(0, 9))
def test_images_are_located_whatever_their_sizes(
    tmp_path: Path, sizes: list[int], rows_in_group: int, seed: int
) -> None:
    images = [np.random.default_rng(seed + i).bytes(size) for i, size in enumerate(sizes)]
    path = tmp_path / "shard.parquet"
    footer = write_shard(path, images, rows_in_group)
    offsets, lengths = locate_images(path, footer, np.array(sizes, np.int64))
    assert (offsets.dtype, lengths.dtype) == (np.int64, np.int32)
    data = path.read_bytes()
    assert [data[start : start + n] for start, n in zip(offsets, lengths, strict=True)] == images


def test_images_in_several_pages_of_many_images_are_located(tmp_path: Path) -> None:
    images = [np.random.default_rng(i).bytes(12_000 + 100 * i) for i in range(250)]
    footer = write_shard(tmp_path / "shard.parquet", images)
    offsets, lengths = locate_images(tmp_path / "shard.parquet", footer, np.array([len(one) for one in images]))
    data = (tmp_path / "shard.parquet").read_bytes()
    assert [data[start : start + n] for start, n in zip(offsets, lengths, strict=True)] == images


def test_the_memory_of_a_footer_is_freed(tmp_path: Path) -> None:
    footer = write_shard(tmp_path / "shard.parquet", [b"abc", b"de"])
    is_there = weakref.ref(footer)
    gc.disable()  # the garbage collector does not know how much memory a footer needs, so it may run late
    try:
        locate_images(tmp_path / "shard.parquet", footer, np.array([3, 2]))
        del footer
        assert is_there() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("lengths", [[3, 3], [2, 2], [5, 0]])
def test_images_of_other_lengths_are_an_error(tmp_path: Path, lengths: list[int]) -> None:
    footer = write_shard(tmp_path / "shard.parquet", [b"abc", b"de"])
    with pytest.raises(DatasetError, match="Cannot locate the images"):
        locate_images(tmp_path / "shard.parquet", footer, np.array(lengths))


def images_at(folder: Path, split: str) -> list[bytes]:
    """Return the images of a split, read by offset."""
    index = open_dataset(folder).image_index(split)
    assert index is not None
    assert list(index.paths) == files.shards(folder, split)
    contents = [path.read_bytes() for path in index.paths]
    return [
        contents[shard][offset : offset + length]
        for shard, offset, length in zip(index.shard, index.offset, index.length, strict=True)
    ]


def assert_index_agrees_with_shards(folder: Path, without: Path) -> None:
    """Check that votes and images are the same with the index and without it, for which a copy is made."""
    shutil.copytree(folder, without, ignore=shutil.ignore_patterns(files.INDEX))
    indexed, bare = open_dataset(folder), open_dataset(without)
    for split in indexed.splits:
        assert bare.image_index(split) is None
        (keys, votes), (other_keys, other_votes) = indexed.read_votes(split), bare.read_votes(split)
        assert keys.equals(other_keys)
        np.testing.assert_array_equal(votes.counts, other_votes.counts)
        np.testing.assert_array_equal(votes.totals, other_votes.totals)
        images = [
            row["bytes"]
            for path in files.shards(folder, split)
            for row in pq.read_table(path, columns=["image"])["image"].to_pylist()
        ]
        assert images_at(folder, split) == images


def test_the_index_agrees_with_the_shards(sky: SimulateResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in several shards, with dropped images, and with many row groups in the index."""
    monkeypatch.setattr(finalize, "SHARD_BYTES", 150_000)
    monkeypatch.setattr(files, "ROWS_IN_LARGE_GROUP", 4)
    monkeypatch.setattr(shards, "ROWS_IN_BLOCK", 3)
    images = Path(shutil.copytree(sky.images, tmp_path / "images"))
    for path in sorted(images.iterdir())[::7]:
        path.write_bytes(path.read_bytes()[:500])
    build("gz2", votes=sky.votes, images=images, out=tmp_path / "out")
    assert len(files.shards(tmp_path / "out", "train")) > 2
    names = {path.name for path in (tmp_path / "out" / "data").iterdir()}
    assert {path.name for path in (tmp_path / "out" / "index").iterdir()} == names
    assert_index_agrees_with_shards(tmp_path / "out", tmp_path / "without")


@pytest.mark.filterwarnings("ignore:The positions of:gzoo.errors.GZooWarning")  # different parts of the sky
def test_a_merged_dataset_has_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finalize, "SHARD_BYTES", 150_000)
    folders: list[Path] = []
    for seed, name in enumerate(("gz2", "gz_candels")):
        made = simulate(name, n_galaxies=25, seed=seed, workers=1, export=False, out=tmp_path / name)
        folders.append(tmp_path / f"{name}-built")
        build(name, votes=made.votes, images=made.images, out=folders[-1])
    union(folders, out=tmp_path / "merged")
    assert len(files.shards(tmp_path / "merged", "train")) > 1
    assert_index_agrees_with_shards(tmp_path / "merged", tmp_path / "without")


def test_a_published_copy_has_no_index(published: Path) -> None:
    assert open_dataset(published).image_index("train") is None


def test_a_dataset_without_images_has_no_index(sky: SimulateResult, tmp_path: Path) -> None:
    build("gz2", votes=sky.votes, no_images=True, out=tmp_path / "out")
    assert not (tmp_path / "out" / "index").exists()
    assert open_dataset(tmp_path / "out").image_index("train") is None


def test_vote_arrays_are_the_votes_in_32_bits(dataset: Path, published: Path) -> None:
    for folder in (dataset, published):
        opened = open_dataset(folder)
        keys, counts, totals = opened.vote_arrays("train")
        expected, votes = opened.read_votes("train")
        assert keys.equals(expected)
        np.testing.assert_array_equal(counts, votes.counts)
        np.testing.assert_array_equal(totals, votes.totals)
        assert (counts.dtype, totals.dtype) == (np.int32, np.int32)
        assert counts.flags.c_contiguous


@pytest.mark.parametrize(("dtype", "shift"), [(pl.Float64, 0.5), (pl.Int64, 2**32), (pl.String, None)])
def test_votes_that_are_not_integers_are_an_error(
    published: Path, tmp_path: Path, dtype: pl.DataType, shift: float | None
) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "copy"))
    path = folder / "data/train-00000-of-00001.parquet"
    column = open_dataset(folder).tree.columns[0]
    changed = pl.read_parquet(path).with_columns(pl.col(column).cast(dtype))
    if shift is not None:
        changed = changed.with_columns(pl.col(column) + shift)
    changed.write_parquet(path)
    with pytest.raises(DatasetError, match="not integers"):
        open_dataset(folder).read_votes("train")


def test_an_index_of_another_shard_is_an_error(dataset: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "copy"))
    names = [f"index/{split}-00000-of-00001.parquet" for split in ("train", "test")]
    shutil.copy(folder / names[1], folder / names[0])
    for read in (open_dataset(folder).read_votes, open_dataset(folder).image_index):
        with pytest.raises(
            DatasetError, match=r"index of a shard of \d+ bytes, but .*train-00000-of-00001.parquet' has \d+"
        ):
            read("train")


@pytest.mark.parametrize(("column", "value"), [("offset", 1 << 40), ("offset", -5), ("length", -1), ("offset", None)])
def test_an_index_with_offsets_outside_of_the_shard_is_an_error(
    dataset: Path, tmp_path: Path, column: str, value: int | None
) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "copy"))
    path = folder / "index/train-00000-of-00001.parquet"
    table = pq.read_table(path)
    i = table.schema.get_field_index(column)
    values = [value, *table.column(i).to_pylist()[1:]]
    table = table.set_column(i, table.schema.field(i), pa.array(values, table.schema.field(i).type))
    pq.write_table(table, path)
    with pytest.raises(DatasetError, match="locates images outside of"):
        open_dataset(folder).image_index("train")


def test_a_truncated_index_is_an_error(dataset: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "copy"))
    path = folder / "index/train-00000-of-00001.parquet"
    for keep in (100, path.stat().st_size - 100):
        path.write_bytes((dataset / "index" / path.name).read_bytes()[:keep])
        with pytest.raises(DatasetError, match=r"Cannot read '.*index/train"):
            open_dataset(folder).read_votes("train")
        with pytest.raises(DatasetError, match=r"Cannot read '.*index/train"):
            open_dataset(folder).image_index("train")


def test_reading_an_index_does_not_import_pandas(dataset: Path) -> None:
    code = f"""
import sys
from gzoo import open_dataset
opened = open_dataset({str(dataset)!r})
opened.vote_arrays("train"), opened.image_index("train")
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
