"""The loader: complete epochs, correct labels and pixels, reproducible batches, exact resuming, corrupt images."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loader_processes import read_epoch, run_together
from PIL import Image

import gzoo
from gzoo import files
from gzoo.dataset.open import open_dataset
from gzoo.errors import DatasetError, ImageError, InputError, NotFoundError
from gzoo.images.checks import Scratch
from gzoo.learn import inputs, stream_input
from gzoo.learn.buffers import BufferPool
from gzoo.learn.dealing import START, augmentation_seeds
from gzoo.learn.decoding import decode, decode_into, fast_size
from gzoo.learn.image_bytes import TableReader
from gzoo.learn.loader import Batch, Loader, loader

WAYS = ["folder", "table", "stream"]


def given_as(way: str, folder: Path) -> Any:
    if way == "folder":
        return folder
    # `datasets` distinguishes folders of the same name only by their cards
    kept = str(folder.parent / "arrow")
    return datasets.load_dataset(str(folder), split="train", streaming=way == "stream", cache_dir=kept)


def sequence(batches: Iterator[Batch] | Loader) -> list[tuple[list[str], list[int]]]:
    """Identifiers and augmentation seeds, batch by batch."""
    return [(batch["id_str"], batch["seed"].tolist()) for batch in batches]


def ids_of(batches: Loader) -> list[str]:
    return [id_str for batch in batches for id_str in batch["id_str"]]


@pytest.fixture(scope="module")
def shard_rows(dataset: Path) -> dict[str, dict[str, Any]]:
    return {row["id_str"]: row for path in files.shards(dataset, "train") for row in pl.read_parquet(path).to_dicts()}


# --- Epochs and labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_batches_have_the_votes_and_images_of_their_galaxies(
    dataset: Path, shard_rows: dict[str, dict[str, Any]], way: str
) -> None:
    tree = open_dataset(dataset).tree
    wanted = dict(shard_rows)
    for batch in loader(given_as(way, dataset), 7, 424, seed=3):
        assert batch["image"].dtype == torch.uint8
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        assert (batch["votes"].dtype, batch["totals"].dtype) == (torch.int32, torch.int32)
        for i, id_str in enumerate(batch["id_str"]):
            row = wanted.pop(id_str)
            assert batch["votes"][i].tolist() == [row[column] for column in tree.columns]
            assert batch["totals"][i].tolist() == [row[question.total_column] for question in tree.questions]
            # libjpeg-turbo decodes for both
            assert np.array_equal(batch["image"][i].permute(1, 2, 0), Image.open(io.BytesIO(row["image"]["bytes"])))
    assert not wanted


@pytest.mark.parametrize("way", WAYS)
def test_each_epoch_has_each_galaxy_once_in_a_new_order(dataset: Path, way: str) -> None:
    first_loader, same, other = (loader(given_as(way, dataset), 10, 8, seed=seed) for seed in (1, 1, 2))
    first, second = ids_of(first_loader), ids_of(first_loader)
    ids = open_dataset(dataset).read_votes("train")[0]["id_str"].to_list()
    assert sorted(first) == sorted(second) == sorted(ids)
    assert len({tuple(first), tuple(second), tuple(ids), tuple(ids_of(other))}) == 4
    assert (ids_of(same), ids_of(same)) == (first, second)
    assert ids_of(loader(given_as(way, dataset), 10, 8)) == ids


def test_datasets_reads_the_same_votes(dataset: Path) -> None:
    table = datasets.load_dataset(str(dataset), split="train").with_format("torch")  # type: ignore[union-attr]
    batches = loader(dataset, 16, 8, seed=0)
    for batch in batches:
        theirs = table[batch["index"].tolist()]
        assert theirs["id_str"] == batch["id_str"]
        for i, column in enumerate(batches.tree.columns):
            assert torch.equal(theirs[column].to(torch.int32), batch["votes"][:, i])


def test_labels_of_the_whole_split_without_images(dataset: Path, tmp_path: Path) -> None:
    keys, votes = open_dataset(dataset).read_votes("train")
    mine = loader(dataset, 16, 8, seed=0)
    assert mine.keys.equals(keys)
    assert np.array_equal(mine.votes.counts, votes.counts)
    assert np.array_equal(mine.votes.totals, votes.totals)
    some = loader(dataset, 16, 8, rows=np.array([5, 2]))
    assert some.keys["id_str"].to_list() == keys["id_str"][[5, 2]].to_list()
    assert np.array_equal(some.votes.counts, votes.counts[[5, 2]])
    assert ids_of(some) == some.keys["id_str"].to_list()


@pytest.mark.parametrize(("batch_size", "sizes"), [(46, {23, 24}), (47, {47}), (46 // 3, {11, 12}), (1000, {47})])
def test_batch_sizes_differ_by_at_most_one(dataset: Path, batch_size: int, sizes: set[int]) -> None:
    chosen = np.arange(47) % len(open_dataset(dataset).read_votes("train")[0])
    batches = loader(dataset, batch_size, 8, rows=chosen, seed=0)
    found = [len(batch["id_str"]) for batch in batches]
    assert set(found) == sizes
    assert len(found) == len(batches)


def test_images_in_compressed_shards_are_read(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    (folder / "data").mkdir(parents=True)
    for path in files.shards(dataset, "train"):
        pq.write_table(pq.read_table(path), folder / "data" / path.name, compression="zstd")
    batches = loader(folder, 8, 64, seed=0)
    assert isinstance(batches.input, inputs.SplitInput)
    assert isinstance(batches.input._images, TableReader)
    for mine, same in zip(batches, loader(dataset, 8, 64, seed=0), strict=True):
        assert mine["id_str"] == same["id_str"]
        assert torch.equal(mine["image"], same["image"])


def test_image_files_named_by_a_table_are_read(sky: Any, dataset: Path) -> None:
    whole = datasets.load_dataset(str(dataset), split="train")
    assert isinstance(whole, datasets.Dataset)
    named = whole.with_format("arrow")[:].to_pylist()
    for row in named:
        row["image"] = {"bytes": None, "path": str(sky.images / f"{row['id_str']}.jpg")}
    table = datasets.Dataset(pa.Table.from_pylist(named)).cast_column("image", datasets.Image())
    for mine, same in zip(loader(table, 8, 64), loader(dataset, 8, 64), strict=True):
        assert torch.equal(mine["image"], same["image"])


# --- Reproducibility --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [None, "train"])
def test_batches_do_not_depend_on_the_number_of_workers(dataset: Path, augment: str | None) -> None:
    several = [list(loader(dataset, 9, 32, seed=1, workers=workers, augment=augment)) for workers in (1, 2, 5)]
    for same in zip(*several, strict=True):
        for other in same[1:]:
            assert other["id_str"] == same[0]["id_str"]
            assert all(
                torch.equal(other[name], same[0][name]) for name in ("image", "votes", "totals", "index", "seed")
            )


@pytest.mark.parametrize("world_size", [1, 2, 7])
@pytest.mark.parametrize("way", ["folder", "stream"])
def test_processes_divide_an_epoch(dataset: Path, monkeypatch: pytest.MonkeyPatch, world_size: int, way: str) -> None:
    monkeypatch.setattr(stream_input, "WINDOW_ROWS", 13)
    ranks = [
        loader(given_as(way, dataset), 3, 8, seed=1, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    ids = sorted(open_dataset(dataset).read_votes("train")[0]["id_str"])
    for _ in range(2):
        parts = [list(one) for one in ranks]
        assert len({len(part) for part in parts}) == 1
        assert sorted(id_str for part in parts for batch in part for id_str in batch["id_str"]) == ids
        for same in zip(*parts, strict=True):  # at each step
            sizes = [len(batch["id_str"]) for batch in same]
            assert max(sizes) - min(sizes) <= 1
            assert min(sizes) > 0
    if way == "folder":
        sizes = [len(batch["id_str"]) for part in parts for batch in part]
        assert max(sizes) - min(sizes) <= 1


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 300), batch_size=st.integers(1, 40), world_size=st.integers(1, 6), seed=st.integers(0, 2**62))
def test_processes_partition_the_split(n: int, batch_size: int, world_size: int, seed: int) -> None:
    tree = gzoo.tree("gz_rings")
    zeros = np.zeros((n, len(tree.columns)), np.int32)
    keys = pl.DataFrame({"dataset_name": ["x"] * n, "id_str": [str(i) for i in range(n)]})
    split = inputs.SplitInput(tree, keys, zeros, zeros[:, : len(tree.questions)], None, "", None, seed)  # type: ignore[arg-type]
    if n < world_size:
        with pytest.raises(InputError, match=f"{n} galaxies among {world_size} processes"):
            next(split.requests(0, START, batch_size, 0, world_size))
        return
    parts = [list(split.requests(3, START, batch_size, rank, world_size)) for rank in range(world_size)]
    sizes = {len(request.index) for part in parts for request in part}
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= (1 if batch_size == 1 or n < 2 * world_size else 2)
    assert max(sizes) <= max(batch_size, 2 if batch_size == 1 else 4)
    assert {len(part) for part in parts} == {split.n_batches(batch_size, world_size)}
    assert sorted(int(row) for part in parts for request in part for row in request.index) == list(range(n))


def test_gloo_processes_read_each_galaxy_once(dataset: Path, tmp_path: Path) -> None:
    outs = [tmp_path / f"{rank}.json" for rank in range(4)]
    rendezvous = str(tmp_path / "rendezvous")
    run_together(read_epoch, [(str(dataset), rank, 4, rendezvous, str(out)) for rank, out in enumerate(outs)])
    found = [json.loads(out.read_text()) for out in outs]
    seen = [id_str for part in found for ids, _ in part for id_str in ids]
    assert sorted(seen) == sorted(open_dataset(dataset).read_votes("train")[0]["id_str"])
    assert sum(n for _, n in found[0]) == len(seen)


def test_seeds_differ_between_galaxies_epochs_and_seeds() -> None:
    rows = np.arange(10_000)
    found = [augmentation_seeds(seed, epoch, rows) for seed in (0, 1, 2**62) for epoch in (0, 1)]
    together = np.concatenate(found)
    assert len(np.unique(together)) == len(together)
    assert together.min() >= 0
    assert np.array_equal(augmentation_seeds(3, 2, rows[7:9]), augmentation_seeds(3, 2, rows)[7:9])
    assert np.array_equal(augmentation_seeds(None, 0, rows), augmentation_seeds(None, 5, rows))
    bits = (together[:, None] >> np.arange(63)) & 1
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.015


# --- Resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n_done", [0, 1, 3, 7, 8, 9])
def test_resuming_at_any_batch_gives_the_same_rest(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, way: str, n_done: int
) -> None:
    monkeypatch.setattr(stream_input, "WINDOW_ROWS", 13)

    def fresh(workers: int = 2) -> Loader:
        return loader(given_as(way, dataset), 5, 8, seed=9, workers=workers)

    undisturbed = fresh()
    wanted = sequence(undisturbed) + sequence(undisturbed) + sequence(undisturbed)
    stopped = fresh()
    found: list[tuple[list[str], list[int]]] = []
    while len(found) < n_done:
        for batch in stopped:
            found.append((batch["id_str"], batch["seed"].tolist()))
            if len(found) == n_done:
                break
    state = json.loads(json.dumps(stopped.state_dict()))
    resumed = fresh(workers=1)
    resumed.load_state_dict(state)
    while len(found) < len(wanted):
        found += sequence(resumed)
    assert found == wanted


def test_a_loop_after_an_unfinished_epoch_starts_the_next_epoch(dataset: Path) -> None:
    batches, other = loader(dataset, 5, 8, seed=9), loader(dataset, 5, 8, seed=9)
    next(iter(batches))
    sequence(other)
    assert sequence(batches) == sequence(other)


def test_the_state_of_another_loader_is_rejected(dataset: Path) -> None:
    state = loader(dataset, 5, 8, seed=9).state_dict()
    for other in (loader(dataset, 5, 8, seed=8), loader(dataset, 6, 8, seed=9), loader(dataset, 5, 8, split="test")):
        with pytest.raises(InputError, match="The state is of a loader with"):
            other.load_state_dict(state)


# --- Corrupt images and invalid input ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corrupt(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A dataset with one corrupt image, and the identifier of its galaxy."""
    folder = tmp_path_factory.mktemp("corrupt") / "dataset"
    shutil.copytree(dataset, folder)
    opened = open_dataset(folder)
    index = opened.image_index("train")
    assert index is not None
    with index.paths[index.shard[20]].open("r+b") as file:
        file.seek(int(index.offset[20]) + int(index.length[20]) // 2)
        file.write(b"\xff\xd9" * 20)
    return folder, opened.read_votes("train")[0]["id_str"][20]


@pytest.mark.parametrize("way", WAYS)
def test_a_corrupt_image_raises_an_error_with_galaxy_and_file(corrupt: tuple[Path, str], way: str) -> None:
    folder, culprit = corrupt
    with pytest.raises(ImageError, match=f"galaxy '{culprit}': The image is corrupt") as raised:
        ids_of(loader(given_as(way, folder), 4, 32, seed=0))
    if way == "folder":
        assert str(files.shards(folder, "train")[0]) in str(raised.value)


@pytest.mark.parametrize("augment", [None, "train"])
@pytest.mark.parametrize("way", WAYS)
def test_corrupt_images_may_be_skipped(corrupt: tuple[Path, str], way: str, augment: str | None) -> None:
    folder, culprit = corrupt
    batches = loader(given_as(way, folder), 4, 32, seed=0, errors="skip", augment=augment)
    for _ in range(2):
        seen = []
        for batch in batches:
            seen += batch["id_str"]
            assert len({len(batch[name]) for name in ("image", "votes", "totals", "index", "id_str", "seed")}) == 1  # type: ignore[literal-required]
            assert batch["image"].flatten(1).amax(1).min() > 0
        assert len(seen) == len(set(seen)) == len(open_dataset(folder).read_votes("train")[0]) - 1
        assert culprit not in seen
        assert list(batches.skipped) == [culprit]
        assert "corrupt" in batches.skipped[culprit]


def test_a_batch_without_valid_images_raises_an_error(corrupt: tuple[Path, str]) -> None:
    folder, culprit = corrupt
    with pytest.raises(ImageError, match=f"None of the 1 images of a batch.*'{culprit}'"):
        ids_of(loader(folder, 1, 32, errors="skip"))


@pytest.mark.parametrize("kind", ["stream", "pipe"])
def test_files_named_by_a_stream_and_pipes_are_not_opened(sky: Any, dataset: Path, tmp_path: Path, kind: str) -> None:
    whole = datasets.load_dataset(str(dataset), split="train")
    assert isinstance(whole, datasets.Dataset)
    rows = whole.with_format("arrow")[:].to_pylist()
    named = sky.images / f"{rows[0]['id_str']}.jpg"
    if kind == "pipe":
        named = tmp_path / "pipe"
        os.mkfifo(named)
    for row in rows:
        row["image"] = {"bytes": None, "path": str(named)}
    table = datasets.Dataset(pa.Table.from_pylist(rows)).cast_column("image", datasets.Image())
    given = table.to_iterable_dataset() if kind == "stream" else table
    with pytest.raises(ImageError, match=f"galaxy '{rows[0]['id_str']}': The image is missing"):
        ids_of(loader(given, 4, 32))


@pytest.mark.parametrize("way", ["table", "stream"])
def test_votes_that_are_not_integers_are_rejected(dataset: Path, way: str) -> None:
    whole = datasets.load_dataset(str(dataset), split="train")
    assert isinstance(whole, datasets.Dataset)
    column = "smooth-or-featured-gz2_smooth"
    table = whole.remove_columns([column]).add_column(column, [2.5] * len(whole))
    with pytest.raises(DatasetError, match="not integers"):
        ids_of(loader(table if way == "table" else table.to_iterable_dataset(), 4, 32))


def test_a_missing_image_raises_an_error(dataset: Path) -> None:
    whole = datasets.load_dataset(str(dataset), split="train")
    assert isinstance(whole, datasets.Dataset)
    rows = whole.with_format("arrow")[:].to_pylist()
    rows[3]["image"] = None
    table = datasets.Dataset(pa.Table.from_pylist(rows)).cast_column("image", datasets.Image())
    with pytest.raises(ImageError, match=f"galaxy '{rows[3]['id_str']}': The image is missing"):
        ids_of(loader(table, 4, 32))


def test_a_shard_that_is_truncated_during_an_epoch_raises_an_error(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(dataset, folder)
    batches = loader(folder, 1, 32, workers=1)
    steps = iter(batches)
    next(steps)
    path = files.shards(folder, "train")[0]
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DatasetError, match=f"{path}' is truncated"):
        list(steps)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"size": -1}, "size must be at least 1, got -1"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"seed": -1}, "seed must be from 0"),
        ({"errors": "ignore"}, "errors: 'ignore'"),
        ({"rank": 2, "world_size": 2}, "rank 2 does not match world_size 2"),
        ({"rank": 0}, "rank 0 does not match world_size None"),
        ({"augment": "wild"}, "'wild' not found"),
        ({"rows": np.array([10_000])}, "Row 10000 not found"),
        ({"streaming": True, "rows": np.array([1])}, "Rows of a stream"),
        ({"streaming": True, "cache_dir": "cache"}, "cannot be cached"),
    ],
)
def test_invalid_arguments_are_rejected(dataset: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        loader(dataset, **{"batch_size": 4, "size": 8, **settings})


def test_a_dataset_without_images_is_rejected(sky: Any, tmp_path: Path) -> None:
    gzoo.build("gz2", votes=sky.votes, no_images=True, out=tmp_path / "votes")
    with pytest.raises(DatasetError, match="contains no images"):
        loader(tmp_path / "votes", 4, 8)


def test_other_objects_and_unknown_columns_are_rejected(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="do not match any campaign: a"):
        loader(datasets.Dataset.from_dict({"a": [1]}), 4, 8)
    with pytest.raises(InputError, match="an object of type list"):
        loader([1], 4, 8)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="'trian' not found"):
        loader(datasets.load_dataset(str(dataset)), 4, 8, split="trian")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not known in advance"):
        _ = loader(dataset, 4, 8, streaming=True).votes


# --- Pixels -----------------------------------------------------------------------------------------------------------


def image(height: int, width: int, *, kind: str = "JPEG", mode: str = "RGB", **how: Any) -> bytes:
    y, x = np.mgrid[:height, :width]
    glow = 220 * np.exp(-np.hypot((y - height / 2) / height, (x - width / 2) / width) * 6)
    grain = np.random.default_rng(height * width).normal(16, 6, (height, width, 3))
    pixels = np.clip(glow[..., None] * [1, 0.8, 0.6] + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **how)
    return file.getvalue()


def by_pillow(data: bytes, size: int | None = None) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        side = min(opened.size)
        left, top = ((n - side) // 2 for n in opened.size)
        rgb = opened.convert("RGB").crop((left, top, left + side, top + side))
        return np.asarray(rgb if size is None else rgb.resize((size, size), Image.Resampling.BILINEAR), np.int16)


@pytest.mark.parametrize("how", [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"quality": 30}])
def test_images_at_full_size_are_decoded_as_by_pillow(how: dict[str, Any]) -> None:
    data = image(60, 60, **how)
    assert np.abs(decode(data, 60) - by_pillow(data)).max() <= 2


def test_real_images_are_decoded_as_by_pillow(shared_data: Path) -> None:
    found = [path for path in sorted(shared_data.rglob("*.jpg"))[:40] if len(set(Image.open(path).size)) == 1]
    assert found
    for path in found:
        data = path.read_bytes()
        assert np.abs(decode(data, Image.open(path).size[0]) - by_pillow(data)).max() <= 2


@pytest.mark.parametrize(
    "shape", [(424, 424), (300, 424), (65, 64), (40, 30), (512, 512), (85, 85), (102, 102), (170, 170)]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_fast_decoding_is_close_to_resizing_all_pixels(shape: tuple[int, int], kind: str) -> None:
    data = image(*shape, kind=kind)
    difference = decode(data, 64) - by_pillow(data, 64)
    assert np.abs(difference).mean() < 1.5
    assert abs(difference.mean()) < 0.3


@pytest.mark.parametrize("side", [8, 9, 64, 85, 101])
def test_every_size_fills_exactly_its_array(side: int) -> None:
    data = image(side, side)
    for size in range(1, side + 2):
        out = np.full((size + 2, size, 3), 7, np.uint8)
        decode_into(data, out[1:-1], Scratch())
        assert (out[[0, -1]] == 7).all()
        assert (out[1:-1] != 7).any()


@pytest.mark.parametrize(
    ("shape", "kind", "wanted", "size"),
    [
        ((424, 424), "JPEG", (314, 345), 318),
        ((424, 424), "JPEG", (258, 283), 265),
        ((424, 424), "JPEG", (319, 350), 319),  # 371, seven eighths, is not fast
        ((424, 424), "JPEG", (400, 440), 424),
        ((424, 424), "JPEG", (448, 492), 448),
        ((424, 423), "JPEG", (314, 345), 314),
        ((424, 424), "PNG", (314, 345), 314),
    ],
)
def test_a_nearby_size_saves_a_resize(shape: tuple[int, int], kind: str, wanted: tuple[int, int], size: int) -> None:
    assert fast_size(image(*shape, kind=kind), *wanted) == size


def test_the_smallest_size_is_used_for_corrupt_images() -> None:
    data = image(424, 424)
    for bad in (b"", data[:10], data[:100], b"GIF89a" + data):
        assert fast_size(bad, 314, 345) == 314


@pytest.mark.parametrize("rows", [None, np.array([2, 1])])
def test_images_to_be_resampled_are_decoded_to_a_nearby_eighth(dataset: Path, rows: Any) -> None:
    """Images of 424 pixels, of which six eighths are 318."""
    assert loader(dataset, 4, 224, augment="galaxy-datasets", rows=rows).decoded_size == 318
    assert loader(dataset, 4, 224, augment="average", rows=rows).decoded_size == 224
    assert loader(dataset, 4, 224, rows=rows).decoded_size == 224
    assert loader(dataset, 4, 230, augment="galaxy-datasets", rows=rows).decoded_size == 322
    assert loader(datasets.load_dataset(str(dataset), split="train"), 4, 224, augment="train").decoded_size == 265
    assert loader(dataset, 4, 224, augment="train", streaming=True).decoded_size == 258


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "L"), ("PNG", "1"), ("PNG", "L"), ("PNG", "RGBA"), ("PNG", "P")])
def test_other_modes_are_converted_to_rgb(kind: str, mode: str) -> None:
    data = image(50, 50, kind=kind, mode=mode)
    assert np.abs(decode(data, 50) - by_pillow(data)).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_corrupt_data_raises_an_error(kind: str) -> None:
    data = image(80, 80, kind=kind)
    for bad in (b"", data[:10], data[: len(data) // 2], data[:-20] + bytes(20), b"GIF89a" + data):
        with pytest.raises(ImageError):
            decode(bad, 80)


@settings(deadline=None, max_examples=100)
@given(at=st.integers(0, 2000), garbage=st.binary(min_size=1, max_size=40))
def test_any_bytes_are_an_image_or_an_error(at: int, garbage: bytes) -> None:
    data = image(48, 48)
    out = np.empty((32, 32, 3), np.uint8)
    with contextlib.suppress(ImageError):
        decode_into(data[:at] + garbage + data[at + len(garbage) :], out, Scratch())


def test_huge_images_are_rejected_before_decoding() -> None:
    with pytest.raises(ImageError, match="9000 x 10 pixels"):
        decode(image(10, 9000), 32)
    with pytest.raises(ImageError, match="9000 x 10 pixels"):
        decode(image(10, 9000, kind="PNG"), 32)


def test_decoding_on_the_device_gives_almost_the_same_pixels(dataset: Path) -> None:
    """Test the code for nvJPEG with torchvision's CPU decoder in its place."""
    same = zip(loader(dataset, 6, 424, decode_on_device=True), loader(dataset, 6, 424), strict=True)
    for there, here in same:
        assert there["id_str"] == here["id_str"]
        assert (there["image"].int() - here["image"].int()).abs().max() <= 2


def test_decoding_on_the_device_detects_corrupt_images(corrupt: tuple[Path, str]) -> None:
    folder, culprit = corrupt
    with pytest.raises(ImageError, match=f"galaxy '{culprit}'"):
        ids_of(loader(folder, 4, 32, decode_on_device=True))
    batches = loader(folder, 4, 32, decode_on_device=True, errors="skip", augment="train")
    assert culprit not in ids_of(batches)
    assert list(batches.skipped) == [culprit]


# --- Buffers and threads ----------------------------------------------------------------------------------------------


def test_buffers_are_reused_only_when_unreferenced() -> None:
    pool = BufferPool()
    first = pool.take((4, 5), torch.float32)
    first.fill_(1)
    view = first.permute(1, 0)[2:]
    address = first.data_ptr()
    del first
    second = pool.take((4, 5), torch.float32)
    second.fill_(2)
    assert second.data_ptr() != address
    assert (view == 1).all()
    del view
    gc.collect()
    assert pool.take((20,), torch.uint8).data_ptr() == address


def test_earlier_batches_do_not_change(dataset: Path) -> None:
    batches = loader(dataset, 4, 32, seed=0)
    held = [(batch, batch["image"].clone()) for _ in range(3) for batch in batches]
    assert all(torch.equal(batch["image"], image) for batch, image in held)
    addresses = {batch["image"].data_ptr() for batch, _ in held}
    assert len(addresses) == len(held)


def test_the_number_of_torch_threads_outside_does_not_change(dataset: Path) -> None:
    n_before = torch.get_num_threads()
    batches = loader(dataset, 4, 32, seed=0, workers=3, augment="train")
    ids_of(batches)
    assert torch.get_num_threads() == n_before
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [n_before]


def test_each_thread_of_a_loader_uses_one_core(dataset: Path) -> None:
    n_before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        pool = loader(dataset, 4, 32, seed=0, workers=3)._pool  # pyright: ignore[reportPrivateUsage]
        assert {pool.submit(torch.get_num_threads).result() for _ in range(9)} == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(n_before)


def test_an_abandoned_loop_stops_its_threads(dataset: Path) -> None:
    before = set(threading.enumerate())
    batches = loader(dataset, 4, 32, seed=0, workers=2)
    steps = iter(batches)
    next(steps)
    assert len(set(threading.enumerate()) - before) == 2
    del steps, batches
    gc.collect()
    end = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < end:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


def test_a_cache_does_not_serve_the_pixels_of_a_file_replaced_at_equal_size(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gz2"
    shutil.copytree(published, folder)
    [shard] = files.shards(folder, "test")
    table = pq.read_table(shard)

    def written(rows: pa.Table) -> tuple[int, str, torch.Tensor, list[str]]:
        pq.write_table(rows, shard, compression="none", use_dictionary=False, write_statistics=False)
        galaxies = loader(folder, 8, 32, split="test", cache_dir=tmp_path / "cache")
        shown = [galaxies.take(np.arange(2))["image"] for _ in range(2)][1]  # the second time, from the cache
        return shard.stat().st_size, open_dataset(folder).digest, shown, galaxies.keys["id_str"].to_list()

    size, digest, before, ids = written(table)
    images = table["image"].combine_chunks()
    swapped = images.take(pa.array([1, 0, *range(2, len(images))]))
    again = written(table.set_column(table.column_names.index("image"), table.schema.field("image"), swapped))
    assert (again[0], again[3]) == (size, ids)
    assert again[1] != digest
    assert torch.equal(again[2], before.flip(0))
    assert not torch.equal(before[0], before[1])
