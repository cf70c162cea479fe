"""Streams of `datasets` that were cut, changed, shuffled or divided, and rows of splits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from gzoo.dataset import finalize
from gzoo.dataset.build import build
from gzoo.errors import DatasetError, GZooWarning, InputError
from gzoo.learn.loader import Loader, loader
from gzoo.simulator import SimulateResult


@pytest.fixture(scope="module")
def stream(sky: SimulateResult, tmp_path_factory: pytest.TempPathFactory) -> datasets.IterableDataset:
    """The train split of `sky` as a stream of several shards."""
    folder = tmp_path_factory.mktemp("sharded") / "dataset"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finalize, "SHARD_BYTES", 100_000)
        build("gz2", votes=sky.votes, images=sky.images, out=folder)
    found = datasets.load_dataset(str(folder), split="train", streaming=True, cache_dir=str(folder / "arrow"))
    assert isinstance(found, datasets.IterableDataset)
    assert found.num_shards > 2
    return found


def raw(stream: datasets.IterableDataset) -> datasets.IterableDataset:
    return stream.cast_column("image", datasets.Image(decode=False))


def ids_of(batches: Loader) -> list[str]:
    return [id_str for batch in batches for id_str in batch["id_str"]]


def rows_of(stream: datasets.IterableDataset) -> list[str]:
    return [row["id_str"] for row in stream]


def test_galaxies_that_are_held_out_of_a_stream_are_not_trained_on(stream: datasets.IterableDataset) -> None:
    ids = rows_of(stream)
    train, held_out = (set(ids_of(loader(part, 8, 8, seed=3))) for part in (stream.skip(12), stream.take(12)))
    assert held_out == set(ids[:12])
    assert train == set(ids[12:])


@pytest.mark.parametrize(
    "how",
    [
        lambda stream: stream.skip(5).take(20),
        # `datasets` waits for five seconds at the end of these
        pytest.param(lambda stream: stream.shuffle(seed=4, buffer_size=7), marks=pytest.mark.slow),
        pytest.param(
            lambda stream: datasets.interleave_datasets([stream.take(6), stream.skip(20)]), marks=pytest.mark.slow
        ),
        lambda stream: datasets.concatenate_datasets([stream.skip(30), stream.take(6)]),
        lambda stream: raw(stream).filter(lambda row, i: i % 2 == 0, with_indices=True),
        lambda stream: raw(stream).map(lambda row: {"more": 1}),
        lambda stream: raw(stream).rename_column("ra", "longitude"),
    ],
)
def test_a_stream_has_its_own_rows_whatever_was_done_to_it(stream: datasets.IterableDataset, how: Any) -> None:
    made = how(stream)
    wanted = rows_of(made)
    assert ids_of(loader(made, 8, 8)) == wanted
    batches = loader(made, 8, 8, seed=3)
    for _ in range(2):
        assert sorted(ids_of(batches)) == sorted(wanted)


def test_images_that_map_compresses_again_are_told(stream: datasets.IterableDataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = next(iter(loader(raw(stream).map(lambda row: row), 4, 424)))
        first = next(iter(loader(stream, 4, 424)))
    assert torch.equal(same["image"], first["image"])
    with pytest.warns(GZooWarning, match="compresses them again.*decode=False"):
        changed = next(iter(loader(stream.rename_column("ra", "longitude"), 4, 424)))
    assert changed["id_str"] == first["id_str"]
    assert not torch.equal(changed["image"], first["image"])


def test_streams_that_cannot_be_used_are_refused(stream: datasets.IterableDataset) -> None:
    from datasets.distributed import split_dataset_by_node

    with pytest.raises(InputError, match="divided among processes"):
        loader(split_dataset_by_node(stream, 0, 2), 8, 8)
    with pytest.raises(DatasetError, match="images that `map` decodes"):
        loader(stream.map(lambda row: row), 8, 8)
    with pytest.raises(DatasetError, match="Cannot read the first row of the stream"):
        loader(raw(stream).map(lambda row: {**row, "more": object()}), 8, 8)
    with pytest.raises(DatasetError, match="Column 'image' of the stream has type"):
        ids_of(loader(raw(stream).map(lambda row: {"image": [1.0]}), 8, 8))


def test_no_batch_of_a_stream_has_a_single_galaxy(stream: datasets.IterableDataset) -> None:
    for n, batch_size in ((9, 4), (9, 8), (5, 2), (8, 4), (3, 4)):
        sizes = [len(batch["id_str"]) for batch in loader(stream.take(n), batch_size, 8)]
        assert sum(sizes) == n
        assert min(sizes) >= 2
        assert max(sizes) <= batch_size + (batch_size == 2)


def test_the_state_of_another_stream_is_rejected(stream: datasets.IterableDataset) -> None:
    state = loader(stream.take(20), 4, 8, seed=1).state_dict()
    for other in (stream, stream.take(21), stream.take(20).shuffle(seed=1)):
        with pytest.raises(InputError, match="The state is of a loader with data"):
            loader(other, 4, 8, seed=1).load_state_dict(state)
    loader(stream.take(20), 4, 8, seed=1).load_state_dict(state)


# --- Rows -------------------------------------------------------------------------------------------------------------


def test_rows_may_be_numbers_or_a_mask(dataset: Path) -> None:
    everything = loader(dataset, 8, 8)
    n = len(everything.rows)
    mask = np.arange(n) % 3 == 1
    for rows in (mask, mask.tolist(), np.flatnonzero(mask), np.flatnonzero(mask).tolist()):
        chosen = loader(dataset, 8, 8, rows=rows)  # type: ignore[arg-type]
        assert chosen.rows.tolist() == np.flatnonzero(mask).tolist()
        assert ids_of(chosen) == everything.keys["id_str"].filter(mask).to_list()
    assert everything.take(mask)["id_str"] == everything.keys["id_str"].filter(mask).to_list()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.array([True, False]), r"mask `rows` has shape \(2,\)"),
        (np.array([0.0, 1.0]), "type float64"),
        (np.array([[0, 1]]), r"shape \(1, 2\)"),
        (np.array(["0"]), "an array of type <U1"),
        (np.array([-1]), "Row -1 not found"),
    ],
)
def test_other_rows_are_refused(dataset: Path, rows: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        loader(dataset, 8, 8, rows=rows)
    with pytest.raises(InputError):
        loader(dataset, 8, 8).take(rows)
