"""The loader: each galaxy once, its own votes and pixels, the same whoever looks; resumed exactly; no silent damage."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import lightning as L
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import gzoo
from gzoo import files
from gzoo.dataset.open import open_dataset
from gzoo.errors import DatasetError, ImageError, InputError, NotFoundError
from gzoo.images.checks import Scratch
from gzoo.learn import cache as cache_module
from gzoo.learn import inputs
from gzoo.learn.buffers import Recycler
from gzoo.learn.cache import ImageCache
from gzoo.learn.decoding import decode, decode_into, quick_size
from gzoo.learn.image_bytes import TableImages
from gzoo.learn.inputs import seeds_of
from gzoo.learn.loader import Batch, Loader, loader

WAYS = ["folder", "table", "stream"]


def given_as(way: str, folder: Path) -> Any:
    if way == "folder":
        return folder
    # datasets tells folders of one name apart by their cards alone
    kept = str(folder.parent / "arrow")
    return datasets.load_dataset(str(folder), split="train", streaming=way == "stream", cache_dir=kept)


def sequence(batches: Iterator[Batch] | Loader) -> list[tuple[list[str], list[int]]]:
    """Identifiers and augmentation seeds, batch by batch."""
    return [(batch["id"], batch["seed"].tolist()) for batch in batches]


def ids_of(batches: Loader) -> list[str]:
    return [one for batch in batches for one in batch["id"]]


@pytest.fixture(scope="module")
def shard_rows(dataset: Path) -> dict[str, dict[str, Any]]:
    return {row["id_str"]: row for path in files.shards(dataset, "train") for row in pl.read_parquet(path).to_dicts()}


# --- Every galaxy, and what is its own --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_votes_and_images_of_a_batch_are_of_its_galaxies(
    dataset: Path, shard_rows: dict[str, dict[str, Any]], way: str
) -> None:
    tree = open_dataset(dataset).tree
    wanted = dict(shard_rows)
    for batch in loader(given_as(way, dataset), 7, 424, seed=3):
        assert batch["image"].dtype == torch.uint8
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        assert (batch["votes"].dtype, batch["totals"].dtype) == (torch.int32, torch.int32)
        for i, one in enumerate(batch["id"]):
            row = wanted.pop(one)
            assert batch["votes"][i].tolist() == [row[column] for column in tree.columns]
            assert batch["totals"][i].tolist() == [row[question.total_column] for question in tree.questions]
            # libjpeg-turbo decodes for both
            assert np.array_equal(batch["image"][i].permute(1, 2, 0), Image.open(io.BytesIO(row["image"]["bytes"])))
    assert not wanted


@pytest.mark.parametrize("way", WAYS)
def test_each_galaxy_comes_once_an_epoch_in_a_new_order(dataset: Path, way: str) -> None:
    first_loader, same, other = (loader(given_as(way, dataset), 10, 8, seed=seed) for seed in (1, 1, 2))
    first, second = ids_of(first_loader), ids_of(first_loader)
    ids = open_dataset(dataset).read_votes("train")[0]["id_str"].to_list()
    assert sorted(first) == sorted(second) == sorted(ids)
    assert len({tuple(first), tuple(second), tuple(ids), tuple(ids_of(other))}) == 4
    assert (ids_of(same), ids_of(same)) == (first, second)
    assert ids_of(loader(given_as(way, dataset), 10, 8)) == ids


def test_the_same_epoch_through_datasets_gives_the_same_votes(dataset: Path) -> None:
    table = datasets.load_dataset(str(dataset), split="train").with_format("torch")  # type: ignore[union-attr]
    batches = loader(dataset, 16, 8, seed=0)
    for batch in batches:
        theirs = table[batch["row"].tolist()]
        assert theirs["id_str"] == batch["id"]
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
def test_no_batch_is_left_with_a_single_galaxy(dataset: Path, batch_size: int, sizes: set[int]) -> None:
    chosen = np.arange(47) % len(open_dataset(dataset).read_votes("train")[0])
    batches = loader(dataset, batch_size, 8, rows=chosen, seed=0)
    found = [len(batch["id"]) for batch in batches]
    assert set(found) == sizes
    assert len(found) == len(batches)


def test_images_that_are_compressed_in_their_shards_are_read_too(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    (folder / "data").mkdir(parents=True)
    for path in files.shards(dataset, "train"):
        pq.write_table(pq.read_table(path), folder / "data" / path.name, compression="zstd")
    batches = loader(folder, 8, 64, seed=0)
    assert isinstance(batches.source, inputs.Split)
    assert isinstance(batches.source._images, TableImages)
    for mine, same in zip(batches, loader(dataset, 8, 64, seed=0), strict=True):
        assert mine["id"] == same["id"]
        assert torch.equal(mine["image"], same["image"])


def test_images_that_a_table_only_names_are_read_from_their_files(sky: Any, dataset: Path) -> None:
    whole = datasets.load_dataset(str(dataset), split="train")
    assert isinstance(whole, datasets.Dataset)
    named = whole.with_format("arrow")[:].to_pylist()
    for row in named:
        row["image"] = {"bytes": None, "path": str(sky.images / f"{row['id_str']}.jpg")}
    table = datasets.Dataset(pa.Table.from_pylist(named)).cast_column("image", datasets.Image())
    for mine, same in zip(loader(table, 8, 64), loader(dataset, 8, 64), strict=True):
        assert torch.equal(mine["image"], same["image"])


# --- The same whoever looks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [None, "train"])
def test_batches_do_not_depend_on_the_number_of_workers(dataset: Path, augment: str | None) -> None:
    several = [list(loader(dataset, 9, 32, seed=1, workers=workers, augment=augment)) for workers in (1, 2, 5)]
    for same in zip(*several, strict=True):
        for other in same[1:]:
            assert other["id"] == same[0]["id"]
            assert all(torch.equal(other[name], same[0][name]) for name in ("image", "votes", "totals", "row", "seed"))


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("way", ["folder", "stream"])
def test_ranks_share_an_epoch(dataset: Path, monkeypatch: pytest.MonkeyPatch, n_ranks: int, way: str) -> None:
    monkeypatch.setattr(inputs, "ROWS_OF_WINDOW", 13)
    ranks = [loader(given_as(way, dataset), 3, 8, seed=1, rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
    ids = sorted(open_dataset(dataset).read_votes("train")[0]["id_str"])
    for _ in range(2):
        parts = [list(one) for one in ranks]
        assert len({len(part) for part in parts}) == 1
        assert sorted(one for part in parts for batch in part for one in batch["id"]) == ids
        for same in zip(*parts, strict=True):  # at each step
            sizes = [len(batch["id"]) for batch in same]
            assert max(sizes) - min(sizes) <= 1
            assert min(sizes) > 0
    if way == "folder":
        sizes = [len(batch["id"]) for part in parts for batch in part]
        assert max(sizes) - min(sizes) <= 1


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 300), batch_size=st.integers(1, 40), n_ranks=st.integers(1, 6), seed=st.integers(0, 2**62))
def test_parts_of_ranks_are_a_partition(n: int, batch_size: int, n_ranks: int, seed: int) -> None:
    tree = gzoo.tree("gz_rings")
    zeros = np.zeros((n, len(tree.columns)), np.int32)
    keys = pl.DataFrame({"dataset_name": ["x"] * n, "id_str": [str(i) for i in range(n)]})
    split = inputs.Split(tree, keys, zeros, zeros[:, : len(tree.questions)], None, "", None, seed)  # type: ignore[arg-type]
    if n < n_ranks:
        with pytest.raises(InputError, match=f"{n} galaxies for {n_ranks} processes"):
            next(split.tasks(0, split.start, batch_size, 0, n_ranks))
        return
    parts = [list(split.tasks(3, split.start, batch_size, rank, n_ranks)) for rank in range(n_ranks)]
    sizes = {len(task.rows) for part in parts for task in part}
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size
    assert {len(part) for part in parts} == {split.n_batches(batch_size, n_ranks)}
    assert sorted(int(row) for part in parts for task in part for row in task.rows) == list(range(n))


def _of_a_rank(folder: str, rank: int, n_ranks: int, meeting: str, out: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=n_ranks)
    batches = loader(folder, 5, 16, seed=4, augment="train", workers=1)
    found = []
    for batch in batches:
        n = torch.tensor([len(batch["id"])])
        torch.distributed.all_reduce(n)  # hangs if a process has a batch more than another
        found.append((batch["id"], int(n)))
    Path(out).write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def test_four_gloo_processes_cover_each_galaxy_once(dataset: Path, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=_of_a_rank, args=(str(dataset), i, 4, str(tmp_path / "meeting"), str(tmp_path / f"{i}")))
        for i in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
        assert process.exitcode == 0
    found = [json.loads((tmp_path / f"{i}").read_text()) for i in range(4)]
    seen = [one for part in found for ids, _ in part for one in ids]
    assert sorted(seen) == sorted(open_dataset(dataset).read_votes("train")[0]["id_str"])
    assert sum(n for _, n in found[0]) == len(seen)


def test_seeds_differ_between_galaxies_epochs_and_seeds() -> None:
    rows = np.arange(10_000)
    found = [seeds_of(seed, epoch, rows) for seed in (0, 1, 2**62) for epoch in (0, 1)]
    together = np.concatenate(found)
    assert len(np.unique(together)) == len(together)
    assert together.min() >= 0
    assert np.array_equal(seeds_of(3, 2, rows[7:9]), seeds_of(3, 2, rows)[7:9])
    assert np.array_equal(seeds_of(None, 0, rows), seeds_of(None, 5, rows))
    bits = (together[:, None] >> np.arange(63)) & 1
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.015


# --- Stopped and resumed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n_done", [0, 1, 3, 7, 8, 9])
def test_resumed_at_any_step_the_rest_is_the_same(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, way: str, n_done: int
) -> None:
    monkeypatch.setattr(inputs, "ROWS_OF_WINDOW", 13)

    def fresh(workers: int = 2) -> Loader:
        return loader(given_as(way, dataset), 5, 8, seed=9, workers=workers)

    undisturbed = fresh()
    wanted = sequence(undisturbed) + sequence(undisturbed) + sequence(undisturbed)
    stopped = fresh()
    found: list[tuple[list[str], list[int]]] = []
    while len(found) < n_done:
        for batch in stopped:
            found.append((batch["id"], batch["seed"].tolist()))
            if len(found) == n_done:
                break
    state = json.loads(json.dumps(stopped.state_dict()))
    resumed = fresh(workers=1)
    resumed.load_state_dict(state)
    while len(found) < len(wanted):
        found += sequence(resumed)
    assert found == wanted


class _Sees(L.LightningModule):
    """Notes what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.seen: list[tuple[list[str], list[int]]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.seen.append((batch["id"], batch["seed"].tolist()))
        return self.layer(batch["image"].float().mean((2, 3))).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore:.*:Warning:lightning")
@pytest.mark.parametrize("n_done", [3, 9, 12])
def test_lightning_goes_on_at_the_batch_of_its_checkpoint(dataset: Path, tmp_path: Path, n_done: int) -> None:
    def fit(n_steps: int, checkpoint: Path | None = None) -> tuple[_Sees, L.Trainer]:
        model = _Sees()
        trainer = L.Trainer(
            max_steps=n_steps,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, loader(dataset, 5, 16, seed=3), ckpt_path=checkpoint, weights_only=True)
        return model, trainer

    undisturbed, _ = fit(20)
    stopped, trainer = fit(n_done)
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    resumed, _ = fit(20, tmp_path / "stopped.ckpt")
    assert stopped.seen + resumed.seen == undisturbed.seen


def test_an_epoch_that_was_left_is_not_begun_again_by_itself(dataset: Path) -> None:
    batches, other = loader(dataset, 5, 8, seed=9), loader(dataset, 5, 8, seed=9)
    next(iter(batches))
    sequence(other)
    assert sequence(batches) == sequence(other)


def test_a_state_of_other_data_is_refused(dataset: Path) -> None:
    state = loader(dataset, 5, 8, seed=9).state_dict()
    for other in (loader(dataset, 5, 8, seed=8), loader(dataset, 6, 8, seed=9), loader(dataset, 5, 8, split="test")):
        with pytest.raises(InputError, match="The state is of a loader with"):
            other.load_state_dict(state)


# --- Damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def damaged(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A dataset with one image whose middle was overwritten, and its identifier."""
    folder = tmp_path_factory.mktemp("damaged") / "dataset"
    shutil.copytree(dataset, folder)
    opened = open_dataset(folder)
    index = opened.image_index("train")
    assert index is not None
    with index.paths[index.shard[20]].open("r+b") as file:
        file.seek(int(index.offset[20]) + int(index.length[20]) // 2)
        file.write(b"\xff\xd9" * 20)
    return folder, opened.read_votes("train")[0]["id_str"][20]


@pytest.mark.parametrize("way", WAYS)
def test_a_corrupt_image_stops_with_its_galaxy_and_file(damaged: tuple[Path, str], way: str) -> None:
    folder, culprit = damaged
    with pytest.raises(ImageError, match=f"galaxy '{culprit}' in .* cannot be decoded. It is damaged") as raised:
        ids_of(loader(given_as(way, folder), 4, 32, seed=0))
    if way == "folder":
        assert str(files.shards(folder, "train")[0]) in str(raised.value)


@pytest.mark.parametrize("augment", [None, "train"])
@pytest.mark.parametrize("way", WAYS)
def test_or_is_skipped_and_counted(damaged: tuple[Path, str], way: str, augment: str | None) -> None:
    folder, culprit = damaged
    batches = loader(given_as(way, folder), 4, 32, seed=0, corrupt="skip", augment=augment)
    for _ in range(2):
        seen = []
        for batch in batches:
            seen += batch["id"]
            assert len({len(batch[name]) for name in ("image", "votes", "totals", "row", "id", "seed")}) == 1  # type: ignore[literal-required]
            assert batch["image"].flatten(1).amax(1).min() > 0
        assert len(seen) == len(set(seen)) == len(open_dataset(folder).read_votes("train")[0]) - 1
        assert culprit not in seen
        assert list(batches.skipped) == [culprit]
        assert "damaged" in batches.skipped[culprit]


def test_a_batch_of_corrupt_images_alone_stops(damaged: tuple[Path, str]) -> None:
    folder, culprit = damaged
    with pytest.raises(ImageError, match=f"None of the 1 images of a batch.*'{culprit}'"):
        ids_of(loader(folder, 1, 32, corrupt="skip"))


@pytest.mark.parametrize("kind", ["stream", "pipe"])
def test_files_that_a_stream_names_and_pipes_are_not_opened(sky: Any, dataset: Path, tmp_path: Path, kind: str) -> None:
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
    with pytest.raises(ImageError, match=f"galaxy '{rows[0]['id_str']}' .* There is none"):
        ids_of(loader(given, 4, 32))


@pytest.mark.parametrize("way", ["table", "stream"])
def test_votes_that_are_no_whole_numbers_are_refused(dataset: Path, way: str) -> None:
    whole = datasets.load_dataset(str(dataset), split="train")
    assert isinstance(whole, datasets.Dataset)
    column = "smooth-or-featured-gz2_smooth"
    table = whole.remove_columns([column]).add_column(column, [2.5] * len(whole))
    with pytest.raises(DatasetError, match="are no whole numbers"):
        ids_of(loader(table if way == "table" else table.to_iterable_dataset(), 4, 32))


def test_an_image_that_is_not_there_stops(dataset: Path) -> None:
    whole = datasets.load_dataset(str(dataset), split="train")
    assert isinstance(whole, datasets.Dataset)
    rows = whole.with_format("arrow")[:].to_pylist()
    rows[3]["image"] = None
    table = datasets.Dataset(pa.Table.from_pylist(rows)).cast_column("image", datasets.Image())
    with pytest.raises(ImageError, match=f"galaxy '{rows[3]['id_str']}' .* cannot be decoded. There is none"):
        ids_of(loader(table, 4, 32))


def test_a_shard_that_is_cut_off_under_way_stops(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(dataset, folder)
    batches = loader(folder, 1, 32, workers=1)
    steps = iter(batches)
    next(steps)
    path = files.shards(folder, "train")[0]
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DatasetError, match=f"{path} is cut off"):
        list(steps)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"size": -1}, "size is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"corrupt": "ignore"}, "corrupt is 'ignore'"),
        ({"rank": 2, "n_ranks": 2}, "rank is 2 of 2"),
        ({"rank": 0}, "rank is 0 of None"),
        ({"augment": "wild"}, "no augmentation 'wild'"),
        ({"rows": np.array([10_000])}, "Row 10000 of"),
        ({"streaming": True, "rows": np.array([1])}, "Rows of a stream"),
        ({"streaming": True, "cache": "cache"}, "not kept"),
    ],
)
def test_arguments_of_no_use_are_refused(dataset: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        loader(dataset, **{"batch_size": 4, "size": 8, **settings})


def test_a_dataset_of_votes_alone_is_refused(sky: Any, tmp_path: Path) -> None:
    gzoo.build("gz2", votes=sky.votes, no_images=True, out=tmp_path / "votes")
    with pytest.raises(DatasetError, match="has no images"):
        loader(tmp_path / "votes", 4, 8)


def test_what_is_no_dataset_is_refused(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="columns of the table are no campaign's: a"):
        loader(datasets.Dataset.from_dict({"a": [1]}), 4, 8)
    with pytest.raises(InputError, match="The dataset is a list"):
        loader([1], 4, 8)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="no split 'trian'"):
        loader(datasets.load_dataset(str(dataset)), 4, 8, split="trian")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nothing is known ahead"):
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
        rgb = opened.convert("RGB")
        return np.asarray(rgb if size is None else rgb.resize((size, size), Image.Resampling.BILINEAR), np.int16)


@pytest.mark.parametrize("how", [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"quality": 30}])
def test_at_full_size_pixels_are_pillows(how: dict[str, Any]) -> None:
    data = image(60, 60, **how)
    assert np.abs(decode(data, 60) - by_pillow(data)).max() <= 2


def test_real_images_are_pillows(shared_data: Path) -> None:
    found = [path for path in sorted(shared_data.rglob("*.jpg"))[:40] if len(set(Image.open(path).size)) == 1]
    assert found
    for path in found:
        data = path.read_bytes()
        assert np.abs(decode(data, Image.open(path).size[0]) - by_pillow(data)).max() <= 2


@pytest.mark.parametrize(
    "shape", [(424, 424), (300, 424), (65, 64), (40, 30), (512, 512), (85, 85), (102, 102), (170, 170)]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_resized_pixels_are_close_to_those_of_all_pixels_resized(shape: tuple[int, int], kind: str) -> None:
    data = image(*shape, kind=kind)
    difference = decode(data, 64) - by_pillow(data, 64)
    assert np.abs(difference).mean() < 1.5
    assert abs(difference.mean()) < 0.3


@pytest.mark.parametrize("side", [1, 9, 64, 85, 101])
def test_every_size_fills_its_own_memory_and_no_other(side: int) -> None:
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
        ((424, 424), "JPEG", (319, 350), 319),  # 371, seven eighths, is no quick one
        ((424, 424), "JPEG", (400, 440), 424),
        ((424, 424), "JPEG", (448, 492), 448),
        ((424, 423), "JPEG", (314, 345), 314),
        ((424, 424), "PNG", (314, 345), 314),
    ],
)
def test_a_size_near_the_wanted_one_saves_a_resize(
    shape: tuple[int, int], kind: str, wanted: tuple[int, int], size: int
) -> None:
    assert quick_size(image(*shape, kind=kind), *wanted) == size


def test_of_what_is_no_image_the_least_size_is_taken() -> None:
    data = image(424, 424)
    for bad in (b"", data[:10], data[:100], b"GIF89a" + data):
        assert quick_size(bad, 314, 345) == 314


@pytest.mark.parametrize("rows", [None, np.array([2, 1])])
def test_images_to_be_resampled_are_decoded_to_an_eighth_that_is_near(dataset: Path, rows: Any) -> None:
    """Images of 424 pixels, of which six eighths are 318."""
    assert loader(dataset, 4, 224, augment="galaxy-datasets", rows=rows).decoded_size == 318
    assert loader(dataset, 4, 224, augment="average", rows=rows).decoded_size == 224
    assert loader(dataset, 4, 224, rows=rows).decoded_size == 224
    assert loader(dataset, 4, 230, augment="galaxy-datasets", rows=rows).decoded_size == 322
    assert loader(datasets.load_dataset(str(dataset), split="train"), 4, 224, augment="train").decoded_size == 265
    assert loader(dataset, 4, 224, augment="train", streaming=True).decoded_size == 258


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "L"), ("PNG", "RGBA"), ("PNG", "P")]
)
def test_other_modes_are_shown_in_colour(kind: str, mode: str) -> None:
    data = image(50, 50, kind=kind, mode=mode)
    assert np.abs(decode(data, 50) - by_pillow(data)).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damage_is_told(kind: str) -> None:
    data = image(80, 80, kind=kind)
    for bad in (b"", data[:10], data[: len(data) // 2], data[:-20] + bytes(20), b"GIF89a" + data):
        with pytest.raises(ImageError):
            decode(bad, 80)


@settings(deadline=None, max_examples=200)
@given(at=st.integers(0, 2000), garbage=st.binary(min_size=1, max_size=40))
def test_whatever_the_bytes_it_is_an_image_or_an_error(at: int, garbage: bytes) -> None:
    data = image(48, 48)
    out = np.empty((32, 32, 3), np.uint8)
    with contextlib.suppress(ImageError):
        decode_into(data[:at] + garbage + data[at + len(garbage) :], out, Scratch())


def test_bombs_are_refused_unread() -> None:
    with pytest.raises(ImageError, match="9000 x 10 pixels"):
        decode(image(10, 9000), 32)
    with pytest.raises(ImageError, match="9000 x 10 pixels"):
        decode(image(10, 9000, kind="PNG"), 32)


def test_decoding_on_the_device_gives_the_same_within_what_scaling_allows(dataset: Path) -> None:
    """The path of nvJPEG, with torchvision's decoder of the CPU in its place."""
    same = zip(loader(dataset, 6, 424, decode_on_device=True), loader(dataset, 6, 424), strict=True)
    for there, here in same:
        assert there["id"] == here["id"]
        assert (there["image"].int() - here["image"].int()).abs().max() <= 2


def test_decoding_on_the_device_tells_damage_too(damaged: tuple[Path, str]) -> None:
    folder, culprit = damaged
    with pytest.raises(ImageError, match=f"galaxy '{culprit}'"):
        ids_of(loader(folder, 4, 32, decode_on_device=True))
    batches = loader(folder, 4, 32, decode_on_device=True, corrupt="skip", augment="train")
    assert culprit not in ids_of(batches)
    assert list(batches.skipped) == [culprit]


# --- Kept images ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [None, "train"])
def test_kept_images_are_the_same(dataset: Path, tmp_path: Path, augment: str | None) -> None:
    plain, kept = (loader(dataset, 7, 24, seed=2, cache=one, augment=augment) for one in (None, tmp_path / "cache"))
    for _ in range(3):
        for mine, same in zip(plain, kept, strict=True):
            assert mine["id"] == same["id"]
            assert torch.equal(mine["image"], same["image"])


def test_later_epochs_do_not_read_images(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = loader(dataset, 7, 24, seed=2, cache=tmp_path)
    wanted = {one: batch["image"][i].clone() for batch in first for i, one in enumerate(batch["id"])}

    def read(self: object, rows: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("gzoo.learn.image_bytes.ShardImages.read", read)
    for batches in (first, loader(dataset, 5, 24, seed=3, cache=tmp_path)):  # another process would find them too
        for batch in batches:
            assert all(torch.equal(batch["image"][i], wanted[one]) for i, one in enumerate(batch["id"]))


def test_splits_sizes_and_datasets_are_kept_apart(dataset: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for size in (8, 9):
            plain, kept = (loader(dataset, 50, size, split=split, cache=one) for one in (None, tmp_path))
            assert torch.equal(next(iter(plain))["image"], next(iter(kept))["image"])
    assert len(list(tmp_path.iterdir())) == 4


def test_a_cache_is_bounded(dataset: Path, tmp_path: Path) -> None:
    each = 24 * 24 * 3 + 8
    for most in (0, 5 * each, 30 * each):
        plain, kept = (
            loader(dataset, 7, 24, seed=2, cache=one, cache_bytes=most) for one in (None, tmp_path / f"{most}")
        )
        for _ in range(2):
            for mine, same in zip(plain, kept, strict=True):
                assert torch.equal(mine["image"], same["image"])
        assert sum(path.stat().st_size for path in (tmp_path / f"{most}").iterdir()) <= most


def test_caches_longest_unused_go_first(tmp_path: Path) -> None:
    each = 8 * 8 * 3 + 8
    made = [ImageCache(tmp_path, i, 10, 8, 25 * each) for i in range(2)]
    for i, one in enumerate(made):
        os.utime(one.path, (i, i))
    os.utime(made[0].path)  # just used
    third = ImageCache(tmp_path, 2, 10, 8, 25 * each)
    assert {path.name for path in tmp_path.iterdir()} == {made[0].path.name, third.path.name}
    pixels = np.full((8, 8, 3), 7, np.uint8)
    made[1].put(0, pixels)  # a process that has it open is not disturbed
    assert made[1].get(0, np.empty_like(pixels))


def test_a_page_that_did_not_reach_the_disk_is_noticed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cache = ImageCache(tmp_path, "x", 3, 64)
    pixels = rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    for i in range(3):
        cache.put(i, pixels[i])
    cache._images[1, 20:40] = 0
    out = np.empty((64, 64, 3), np.uint8)
    assert [cache.get(i, out) for i in range(3)] == [True, False, True]
    assert np.array_equal(out, pixels[2])


def _fill(folder: str, seed: int) -> None:
    cache = ImageCache(Path(folder), "x", 200, 16)
    out = np.empty((16, 16, 3), np.uint8)
    for row in np.random.default_rng(seed).permutation(200):
        wanted = np.full((16, 16, 3), row, np.uint8)
        if cache.get(int(row), out):
            assert np.array_equal(out, wanted)
        else:
            cache.put(int(row), wanted)


def test_several_processes_may_share_a_cache(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_fill, args=(str(tmp_path), seed)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        assert process.exitcode == 0
    _fill(str(tmp_path), 9)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_is_kept_where_room_cannot_be_taken_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cache_module.os, "posix_fallocate")
    cache, pixels = ImageCache(tmp_path, "x", 3, 16), np.full((16, 16, 3), 7, np.uint8)
    cache.put(1, pixels)
    out = np.empty_like(pixels)
    assert [cache.get(row, out) for row in range(3)] == [False, True, False]


def test_a_cache_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"cannot be kept in .*file"):
        ImageCache(tmp_path / "file", "x", 3, 64)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "posix_fallocate", full)
    with pytest.raises(InputError, match="No space left on device"):
        ImageCache(tmp_path / "cache", "x", 3, 64)
    assert not list((tmp_path / "cache").iterdir())


# --- Memory and threads -----------------------------------------------------------------------------------------------


def test_memory_is_used_again_only_when_nobody_holds_it() -> None:
    memory = Recycler()
    first = memory.take((4, 5), torch.float32)
    first.fill_(1)
    view = first.permute(1, 0)[2:]
    address = first.data_ptr()
    del first
    second = memory.take((4, 5), torch.float32)
    second.fill_(2)
    assert second.data_ptr() != address
    assert (view == 1).all()
    del view
    gc.collect()
    assert memory.take((20,), torch.uint8).data_ptr() == address


def test_batches_that_are_held_do_not_change(dataset: Path) -> None:
    batches = loader(dataset, 4, 32, seed=0)
    held = [(batch, batch["image"].clone()) for _ in range(3) for batch in batches]
    assert all(torch.equal(batch["image"], image) for batch, image in held)
    addresses = {batch["image"].data_ptr() for batch, _ in held}
    assert len(addresses) == len(held)


def test_torch_keeps_its_threads_outside(dataset: Path) -> None:
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


def test_a_loop_that_is_left_leaves_no_thread_at_work(dataset: Path) -> None:
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
