"""Where pictures lie in their shards: found without Parquet's help, in whatever way they were written."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gzoo import schema, store
from gzoo.dataset import open_dataset
from gzoo.errors import DatasetError
from gzoo.indexing import pictures_in

PICTURES = st.lists(st.binary(max_size=300), max_size=60)
WRITING = st.fixed_dictionaries(
    {
        "row_group_size": st.integers(1, 70),
        "data_page_size": st.sampled_from([1, 100, 1 << 20]),
        "write_batch_size": st.sampled_from([1, 3, 1024]),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "write_statistics": st.booleans(),
        "write_page_index": st.booleans(),
        "write_page_checksum": st.booleans(),
        "store_schema": st.booleans(),
    }
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def table_of(pictures: list[bytes | None], **fields: Any) -> pa.Table:
    rows = [{"bytes": data, "path": f"{i}.jpg"} for i, data in enumerate(pictures)]
    kind = pa.struct([pa.field("bytes", pa.binary(), **fields), pa.field("path", pa.string())])
    return pa.table(
        {"number": pa.array(range(len(rows)), pa.int64()), "image": pa.array(rows, kind)},
        schema=pa.schema([pa.field("number", pa.int64()), pa.field("image", kind, **fields)]),
    )


def written(folder: Path, table: pa.Table, **how: Any) -> Path:
    path = folder / "written.parquet"
    pq.write_table(table, path, **how)
    return path


def cut_out(path: Path, found: tuple[np.ndarray, np.ndarray]) -> list[bytes]:
    data = path.read_bytes()
    return [data[offset : offset + length] for offset, length in zip(*found, strict=True)]


@QUICK
@given(pictures=PICTURES, how=WRITING, is_nullable=st.booleans())
def test_plain_pictures_are_where_they_are_said_to_be(
    tmp_path: Path, pictures: list[bytes], how: dict[str, Any], is_nullable: bool
) -> None:
    path = written(
        tmp_path, table_of(pictures, nullable=is_nullable), compression="none", use_dictionary=["image.path"], **how
    )
    found = pictures_in(path)
    assert found is not None
    assert cut_out(path, found) == pictures
    assert (found[0].dtype, found[1].dtype) == (np.int64, np.int32)
    known = pictures_in(path, footer=pq.read_metadata(path), lengths=np.array([len(one) for one in pictures], int))
    assert known is not None
    np.testing.assert_array_equal(known, found)


@QUICK
@given(
    pictures=st.lists(st.none() | st.binary(max_size=40), min_size=1, max_size=40),
    how=WRITING,
    compression=st.sampled_from(["none", "snappy", "zstd", "gzip"]),
    has_dictionary=st.booleans(),
)
def test_what_is_not_plain_is_told_from_what_is(
    tmp_path: Path, pictures: list[bytes | None], how: dict[str, Any], compression: str, has_dictionary: bool
) -> None:
    path = written(tmp_path, table_of(pictures), compression=compression, use_dictionary=has_dictionary, **how)
    found = pictures_in(path)
    if compression != "none" or has_dictionary or None in pictures:
        assert found is None
    else:
        assert found is not None
        assert cut_out(path, found) == pictures


def test_missing_structures_are_no_pictures(tmp_path: Path) -> None:
    kind = schema.IMAGE_TYPE
    table = pa.table({"image": pa.array([{"bytes": b"a", "path": ""}, None], kind)})
    assert pictures_in(written(tmp_path, table, compression="none", use_dictionary=False)) is None


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"number": [1, 2]}),
        pa.table({"image": [1, 2]}),
        pa.table({"image": pa.array([["a"], ["b"]])}),
        pa.table({"image": pa.array([[{"bytes": b"a"}], [{"bytes": b"b"}]])}),
    ],
    ids=["no image", "a number", "a list", "a list of structures"],
)
def test_other_columns_are_no_pictures(tmp_path: Path, table: pa.Table) -> None:
    assert pictures_in(written(tmp_path, table, compression="none", use_dictionary=False)) is None


def test_known_lengths_must_fit(tmp_path: Path) -> None:
    path = written(tmp_path, table_of([b"abc", b"de"]), compression="none", use_dictionary=False)
    with pytest.raises(DatasetError, match="pictures of other sizes"):
        pictures_in(path, lengths=np.array([3, 3]))
    with pytest.raises(DatasetError, match="holds 2 rows, and 1 pictures are known"):
        pictures_in(path, lengths=np.array([5]))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(version=st.sampled_from(["1.0", "2.0"]), seed=st.integers(0, 2**32), n_flips=st.integers(1, 8))
def test_damage_is_an_error_and_never_a_picture_from_elsewhere(
    tmp_path: Path, version: str, seed: int, n_flips: int
) -> None:
    """Bytes flipped anywhere: what is found lies in the file, or it is said that the file is damaged."""
    buffer = io.BytesIO()
    table = table_of([bytes([i]) * (7 * i) for i in range(20)])
    pq.write_table(
        table, buffer, compression="none", use_dictionary=False, row_group_size=6, data_page_version=version,
        data_page_size=1, write_batch_size=2,
    )  # fmt: skip
    data = bytearray(buffer.getvalue())
    chance = np.random.default_rng(seed)
    for place in chance.integers(0, len(data), n_flips):
        data[place] ^= 1 << int(chance.integers(8))
    path = tmp_path / "damaged.parquet"
    path.write_bytes(data)
    with contextlib.suppress(DatasetError):
        found = pictures_in(path)
        if found is not None:
            assert (found[0] >= 4).all()
            assert (found[1] >= 0).all()
            assert (found[0] + found[1] <= len(data)).all()


@pytest.mark.parametrize("keep", [0, 3, 8, 200, 0.5, 0.99])
def test_files_that_are_cut_off(tmp_path: Path, keep: float) -> None:
    path = written(tmp_path, table_of([b"abc" * 50] * 20), compression="none", use_dictionary=False)
    footer, data = pq.read_metadata(path), path.read_bytes()
    path.write_bytes(data[: int(keep if keep >= 1 or not keep else keep * len(data))])
    with pytest.raises(DatasetError, match=r"written\.parquet"):
        pictures_in(path)
    if keep in (0, 3, 8, 200):
        with pytest.raises(DatasetError, match=r"written\.parquet"):
            pictures_in(path, footer=footer)


def test_there_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing\.parquet cannot be read"):
        pictures_in(tmp_path / "nothing.parquet")


def test_pictures_of_a_dataset_are_found(dataset: Path) -> None:
    opened = open_dataset(dataset)
    for split in opened.splits:
        index = opened.picture_index(split)
        assert index is not None
        assert list(index.paths) == store.shards(dataset, split)
        pictures = [
            row["bytes"] for path in index.paths for row in pq.read_table(path, columns=["image"])["image"].to_pylist()
        ]
        files = [path.read_bytes() for path in index.paths]
        found = [
            files[shard][offset : offset + length]
            for shard, offset, length in zip(index.shard, index.offset, index.length, strict=True)
        ]
        assert found == pictures
        assert len(index) == len(pictures)


def test_packed_pictures_of_a_published_copy_have_no_index(published: Path, tmp_path: Path) -> None:
    """Polars packs them; shards of both kinds in one split do not mix."""
    assert open_dataset(published).picture_index("train") is None
    mixed = tmp_path / "mixed"
    shutil.copytree(published, mixed)
    table = pq.read_table(mixed / "data/train-00000-of-00001.parquet")
    (mixed / "data/train-00000-of-00001.parquet").rename(mixed / "data/train-00000-of-00002.parquet")
    pq.write_table(table, mixed / "data/train-00001-of-00002.parquet", compression="none", use_dictionary=False)
    assert pictures_in(mixed / "data/train-00001-of-00002.parquet") is not None
    assert open_dataset(mixed).picture_index("train") is None
