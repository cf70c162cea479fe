"""The cache of decoded images: the same pixels, limited size, shared by processes, missing pages detected."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from loader_processes import fill_cache, run_together

from gzoo.errors import InputError
from gzoo.learn import cache as cache_module
from gzoo.learn.cache import ImageCache
from gzoo.learn.loader import loader


@pytest.mark.parametrize("augment", [None, "train"])
def test_cached_images_are_the_same(dataset: Path, tmp_path: Path, augment: str | None) -> None:
    plain, kept = (loader(dataset, 7, 24, seed=2, cache_dir=one, augment=augment) for one in (None, tmp_path / "cache"))
    for _ in range(3):
        for mine, same in zip(plain, kept, strict=True):
            assert mine["id_str"] == same["id_str"]
            assert torch.equal(mine["image"], same["image"])


def test_later_epochs_do_not_read_images(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = loader(dataset, 7, 24, seed=2, cache_dir=tmp_path)
    wanted = {id_str: batch["image"][i].clone() for batch in first for i, id_str in enumerate(batch["id_str"])}

    def read(self: object, rows: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("gzoo.learn.image_bytes.ShardReader.read", read)
    for batches in (first, loader(dataset, 5, 24, seed=3, cache_dir=tmp_path)):  # as another process would find them
        for batch in batches:
            assert all(torch.equal(batch["image"][i], wanted[id_str]) for i, id_str in enumerate(batch["id_str"]))


def test_splits_and_sizes_have_separate_caches(dataset: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for size in (8, 9):
            plain, kept = (loader(dataset, 50, size, split=split, cache_dir=one) for one in (None, tmp_path))
            assert torch.equal(next(iter(plain))["image"], next(iter(kept))["image"])
    assert len(list(tmp_path.iterdir())) == 4


def test_the_size_of_a_cache_is_limited(dataset: Path, tmp_path: Path) -> None:
    each = 24 * 24 * 3 + 8
    for most in (0, 5 * each, 30 * each):
        plain, kept = (
            loader(dataset, 7, 24, seed=2, cache_dir=one, cache_size_bytes=most) for one in (None, tmp_path / f"{most}")
        )
        for _ in range(2):
            for mine, same in zip(plain, kept, strict=True):
                assert torch.equal(mine["image"], same["image"])
        assert sum(path.stat().st_size for path in (tmp_path / f"{most}").iterdir()) <= most


def test_least_recently_used_caches_are_removed_first(tmp_path: Path) -> None:
    each = 8 * 8 * 3 + 8
    made = [ImageCache(tmp_path, i, 10, 8, 25 * each) for i in range(2)]
    for i, one in enumerate(made):
        os.utime(one.path, (i, i))
    os.utime(made[0].path)  # just used
    third = ImageCache(tmp_path, 2, 10, 8, 25 * each)
    assert {path.name for path in tmp_path.iterdir()} == {made[0].path.name, third.path.name}
    pixels = np.full((8, 8, 3), 7, np.uint8)
    made[1].put(0, pixels)  # a process that has the file open can go on
    assert made[1].get(0, np.empty_like(pixels))


def test_missing_pages_of_a_cache_are_detected(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cache = ImageCache(tmp_path, "x", 3, 64)
    pixels = rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    for i in range(3):
        cache.put(i, pixels[i])
    cache._images[1, 20:40] = 0
    out = np.empty((64, 64, 3), np.uint8)
    assert [cache.get(i, out) for i in range(3)] == [True, False, True]
    assert np.array_equal(out, pixels[2])


def test_processes_may_share_a_cache(tmp_path: Path) -> None:
    run_together(fill_cache, [(str(tmp_path), seed) for seed in range(3)])
    fill_cache(str(tmp_path), 9)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_works_without_preallocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cache_module.os, "posix_fallocate")
    cache, pixels = ImageCache(tmp_path, "x", 3, 16), np.full((16, 16, 3), 7, np.uint8)
    cache.put(1, pixels)
    out = np.empty_like(pixels)
    assert [cache.get(row, out) for row in range(3)] == [False, True, False]


def test_a_cache_that_cannot_be_written_raises_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"Cannot write the image cache in .*file"):
        ImageCache(tmp_path / "file", "x", 3, 64)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "posix_fallocate", full)
    with pytest.raises(InputError, match="No space left on device"):
        ImageCache(tmp_path / "cache", "x", 3, 64)
    assert not list((tmp_path / "cache").iterdir())
