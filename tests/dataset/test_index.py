"""Where images lie in their shards: found without Parquet's help, in whatever way they were written."""

from __future__ import annotations

import contextlib
import gc
import io
import shutil
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gzoo import files
from gzoo.dataset import build as builder
from gzoo.dataset import merge, schema, shards
from gzoo.dataset.build import build
from gzoo.dataset.index import images_in
from gzoo.dataset.merge import union
from gzoo.dataset.open import open_dataset
from gzoo.errors import DatasetError
from gzoo.simulator import SimulateResult, simulate

IMAGES = st.lists(st.binary(max_size=300), max_size=60)
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


def table_of(images: Sequence[bytes | None], **fields: Any) -> pa.Table:
    rows = [{"bytes": data, "path": f"{i}.jpg"} for i, data in enumerate(images)]
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
@given(images=IMAGES, how=WRITING, is_nullable=st.booleans())
def test_plain_images_are_where_they_are_said_to_be(
    tmp_path: Path, images: list[bytes], how: dict[str, Any], is_nullable: bool
) -> None:
    path = written(
        tmp_path, table_of(images, nullable=is_nullable), compression="none", use_dictionary=["image.path"], **how
    )
    found = images_in(path)
    assert found is not None
    assert cut_out(path, found) == images
    assert (found[0].dtype, found[1].dtype) == (np.int64, np.int32)
    known = images_in(path, footer=pq.read_metadata(path), lengths=np.array([len(one) for one in images], int))
    assert known is not None
    np.testing.assert_array_equal(known, found)


def test_a_footer_goes_when_it_was_read(tmp_path: Path) -> None:
    path = written(tmp_path, table_of([b"abc", b"de"]), compression="none", use_dictionary=False)
    footer = pq.read_metadata(path)
    is_there = weakref.ref(footer)
    gc.disable()  # which knows nothing of how much a footer takes, and so does not hurry
    try:
        assert images_in(path, footer=footer, lengths=np.array([3, 2]))
        del footer
        assert is_there() is None
    finally:
        gc.enable()


@QUICK
@given(
    images=st.lists(st.none() | st.binary(max_size=40), min_size=1, max_size=40),
    how=WRITING,
    compression=st.sampled_from(["none", "snappy", "zstd", "gzip"]),
    has_dictionary=st.booleans(),
)
def test_what_is_not_plain_is_told_from_what_is(
    tmp_path: Path, images: list[bytes | None], how: dict[str, Any], compression: str, has_dictionary: bool
) -> None:
    path = written(tmp_path, table_of(images), compression=compression, use_dictionary=has_dictionary, **how)
    found = images_in(path)
    if compression != "none" or has_dictionary or None in images:
        assert found is None
    else:
        assert found is not None
        assert cut_out(path, found) == images


def test_missing_structures_are_no_images(tmp_path: Path) -> None:
    kind = schema.IMAGE_TYPE
    table = pa.table({"image": pa.array([{"bytes": b"a", "path": ""}, None], kind)})
    assert images_in(written(tmp_path, table, compression="none", use_dictionary=False)) is None


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
def test_other_columns_are_no_images(tmp_path: Path, table: pa.Table) -> None:
    assert images_in(written(tmp_path, table, compression="none", use_dictionary=False)) is None


def test_known_lengths_must_fit(tmp_path: Path) -> None:
    path = written(tmp_path, table_of([b"abc", b"de"]), compression="none", use_dictionary=False)
    with pytest.raises(DatasetError, match="images of other sizes"):
        images_in(path, lengths=np.array([3, 3]))
    with pytest.raises(
        DatasetError, match=r"holds images of other sizes than are known|holds 2 images, and 1 are known"
    ):
        images_in(path, lengths=np.array([5]))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    version=st.sampled_from(["1.0", "2.0"]),
    seed=st.integers(0, 2**32),
    n_flips=st.integers(1, 8),
    is_in_header=st.booleans(),
)
def test_damage_is_an_error_and_never_an_image_from_elsewhere(
    tmp_path: Path, version: str, seed: int, n_flips: int, is_in_header: bool
) -> None:
    """Bytes changed anywhere, or where pages begin: what is found lies in the file, or it is said that it does not."""
    buffer = io.BytesIO()
    table = table_of([bytes([i]) * (7 * i) for i in range(20)])
    pq.write_table(
        table, buffer, compression="none", use_dictionary=False, row_group_size=6, data_page_version=version,
        data_page_size=1, write_batch_size=2,
    )  # fmt: skip
    data = bytearray(buffer.getvalue())
    chance = np.random.default_rng(seed)
    low, high = 0, len(data)
    if is_in_header:
        low = pq.read_metadata(buffer).row_group(int(chance.integers(4))).column(1).data_page_offset
        high = low + 50
    for place in chance.integers(low, high, n_flips):
        data[place] ^= int(chance.integers(1, 256))
    path = tmp_path / "damaged.parquet"
    path.write_bytes(data)
    with contextlib.suppress(DatasetError):
        found = images_in(path)
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
        images_in(path)
    if keep in (0, 3, 8, 200):
        with pytest.raises(DatasetError, match=r"written\.parquet"):
            images_in(path, footer=footer)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"\x19\xf1" + b"\xff" * 6 + b"\x01", "holds values without end"),  # a list of very many truths
        (b"\x19\x19" * 20, "holds values without end"),  # lists in lists
        (b"\x1c" * 40, "holds values without end"),  # structures in structures
        (b"\x15" + b"\xff" * 30, "a number without end"),
        (b"\x18" + b"\xff" * 6 + b"\x01", "leads out of its row group"),  # a text that goes on and on
        (b"\x1d", "a field of kind 13"),
    ],
)
def test_headers_without_end_are_told(tmp_path: Path, header: bytes, says: str) -> None:
    path = written(tmp_path, table_of([b"abc" * 50] * 20), compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(0).column(1).data_page_offset
    data[start : start + len(header)] = header
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=f"is damaged: the header of a page .*{says}|{says}"):
        images_in(path)


def test_many_missing_images_in_few_bytes(tmp_path: Path) -> None:
    """Rows that take less than a length each are no damage."""
    table = pa.table({"image": pa.nulls(50_000, schema.IMAGE_TYPE)})
    path = written(tmp_path, table, compression="none", use_dictionary=False)
    assert path.stat().st_size < 50_000
    assert images_in(path) is None


def test_there_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing\.parquet cannot be read"):
        images_in(tmp_path / "nothing.parquet")


def test_images_of_a_dataset_are_found(dataset: Path) -> None:
    opened = open_dataset(dataset)
    for split in opened.splits:
        index = opened.image_index(split)
        assert index is not None
        assert list(index.paths) == files.shards(dataset, split)
        images = [
            row["bytes"] for path in index.paths for row in pq.read_table(path, columns=["image"])["image"].to_pylist()
        ]
        contents = [path.read_bytes() for path in index.paths]
        found = [
            contents[shard][offset : offset + length]
            for shard, offset, length in zip(index.shard, index.offset, index.length, strict=True)
        ]
        assert found == images
        assert len(index) == len(images)


def test_packed_images_of_a_published_copy_have_no_index(published: Path, tmp_path: Path) -> None:
    """Polars packs them; shards of both kinds in one split do not mix."""
    assert open_dataset(published).image_index("train") is None
    mixed = tmp_path / "mixed"
    shutil.copytree(published, mixed)
    table = pq.read_table(mixed / "data/train-00000-of-00001.parquet")
    (mixed / "data/train-00000-of-00001.parquet").rename(mixed / "data/train-00000-of-00002.parquet")
    pq.write_table(table, mixed / "data/train-00001-of-00002.parquet", compression="none", use_dictionary=False)
    assert images_in(mixed / "data/train-00001-of-00002.parquet") is not None
    assert open_dataset(mixed).image_index("train") is None


# ----------------------------------------------------------------------------------------------------
# The index of a dataset folder


def stripped(folder: Path, to: Path) -> Path:
    """A copy without index, as earlier versions built them."""
    return Path(shutil.copytree(folder, to, ignore=shutil.ignore_patterns(files.INDEX)))


def assert_the_same(one: Path, other: Path) -> None:
    """That two folders have the same votes, and images at the same places."""
    a, b = open_dataset(one), open_dataset(other)
    assert a.splits == b.splits
    for split in a.splits:
        (keys, votes), (other_keys, other_votes) = a.read_votes(split), b.read_votes(split)
        assert keys.equals(other_keys)
        np.testing.assert_array_equal(votes.counts, other_votes.counts)
        np.testing.assert_array_equal(votes.totals, other_votes.totals)
        found, expected = a.image_index(split), b.image_index(split)
        assert found is not None
        assert expected is not None
        assert [path.name for path in found.paths] == [path.name for path in expected.paths]
        for name in ("shard", "offset", "length"):
            mine, others = getattr(found, name), getattr(expected, name)
            assert mine.dtype == others.dtype
            np.testing.assert_array_equal(mine, others)


def test_the_index_says_what_the_shards_say(
    sky: SimulateResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several shards too, where images are left out, and with many row groups in the index."""
    monkeypatch.setattr(builder, "SHARD_BYTES", 150_000)
    monkeypatch.setattr(files, "ROWS_IN_LARGE_GROUP", 4)
    monkeypatch.setattr(shards, "ROWS_IN_BLOCK", 3)
    images = Path(shutil.copytree(sky.images, tmp_path / "images"))
    for path in sorted(images.iterdir())[::7]:
        path.write_bytes(path.read_bytes()[:500])
    build("gz2", votes=sky.votes, images=images, out=tmp_path / "out")
    assert len(files.shards(tmp_path / "out", "train")) > 2
    names = {path.name for path in (tmp_path / "out" / "data").iterdir()}
    assert {path.name for path in (tmp_path / "out" / "index").iterdir()} == names
    assert_the_same(tmp_path / "out", stripped(tmp_path / "out", tmp_path / "stripped"))


def test_a_union_has_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "SHARD_BYTES", 150_000)
    folders: list[Path] = []
    for seed, name in enumerate(("gz2", "gz_candels")):
        made = simulate(name, n_galaxies=25, seed=seed, workers=1, export=False, out=tmp_path / name)
        folders.append(tmp_path / f"{name}-built")
        build(name, votes=made.votes, images=made.images, out=folders[-1])
    union("gz_evo", folders, out=tmp_path / "united")
    assert len(files.shards(tmp_path / "united", "train")) > 1
    assert_the_same(tmp_path / "united", stripped(tmp_path / "united", tmp_path / "stripped"))


def test_votes_alone_need_no_index(sky: SimulateResult, tmp_path: Path) -> None:
    """Their shards have large groups already."""
    build("gz2", votes=sky.votes, no_images=True, out=tmp_path / "out")
    assert not (tmp_path / "out" / "index").exists()
    assert open_dataset(tmp_path / "out").image_index("train") is None


def test_matrices_are_votes_in_less_memory(dataset: Path, published: Path) -> None:
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
def test_votes_that_are_no_whole_numbers_are_refused(
    published: Path, tmp_path: Path, dtype: pl.DataType, shift: float | None
) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "copy"))
    path = folder / "data/train-00000-of-00001.parquet"
    column = open_dataset(folder).tree.columns[0]
    changed = pl.read_parquet(path).with_columns(pl.col(column).cast(dtype))
    if shift is not None:
        changed = changed.with_columns(pl.col(column) + shift)
    changed.write_parquet(path)
    with pytest.raises(DatasetError, match="are no whole numbers"):
        open_dataset(folder).read_votes("train")


def test_an_index_of_other_shards_is_refused(dataset: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "copy"))
    names = [f"index/{split}-00000-of-00001.parquet" for split in ("train", "test")]
    shutil.copy(folder / names[1], folder / names[0])
    for read in (open_dataset(folder).read_votes, open_dataset(folder).image_index):
        with pytest.raises(
            DatasetError, match=r"is of a shard of \d+ bytes, and .*train-00000-of-00001.parquet has \d+"
        ):
            read("train")


@pytest.mark.parametrize(("column", "value"), [("offset", 1 << 40), ("offset", -5), ("length", -1), ("offset", None)])
def test_an_index_that_leads_elsewhere_is_refused(
    dataset: Path, tmp_path: Path, column: str, value: int | None
) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "copy"))
    path = folder / "index/train-00000-of-00001.parquet"
    table = pq.read_table(path)
    i = table.schema.get_field_index(column)
    values = [value, *table.column(i).to_pylist()[1:]]
    table = table.set_column(i, table.schema.field(i), pa.array(values, table.schema.field(i).type))
    pq.write_table(table, path)
    with pytest.raises(DatasetError, match="has images outside of"):
        open_dataset(folder).image_index("train")


def test_a_damaged_index_is_told(dataset: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "copy"))
    path = folder / "index/train-00000-of-00001.parquet"
    for keep in (100, path.stat().st_size - 100):
        path.write_bytes((dataset / "index" / path.name).read_bytes()[:keep])
        with pytest.raises(DatasetError, match=r"index/train.* cannot be read"):
            open_dataset(folder).read_votes("train")
        with pytest.raises(DatasetError, match=r"index/train.* cannot be read"):
            open_dataset(folder).image_index("train")


def test_reading_an_index_does_not_wait_for_pandas(dataset: Path) -> None:
    code = f"""
import sys
from gzoo import open_dataset
opened = open_dataset({str(dataset)!r})
opened.matrices("train"), opened.image_index("train")
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
