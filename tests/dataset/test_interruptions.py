"""Work in progress is never lost when a read fails once, and never shared by two runs of one command."""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from gzoo import files
from gzoo.dataset import finalize
from gzoo.dataset.build import build
from gzoo.dataset.merge import union
from gzoo.errors import InputError
from gzoo.learn import checkpoints, fitting, training
from gzoo.simulator import simulate

N = 40
FAULTS = (errno.EMFILE, errno.EIO, errno.EACCES)
FILE_READERS = [
    (Path, "open"),
    (pa, "OSFile"),
    (pl, "read_csv"),
    (pl, "read_parquet"),
    (pl, "scan_parquet"),
    (pq, "ParquetFile"),
    (pq, "read_metadata"),
    (pq, "read_schema"),
    (pq, "read_table"),
    (torch, "load"),
    (training, "load_file"),
]
STRIDES = [23, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Votes of simulated galaxies, with images of noise, which are small."""
    folder = simulate("gz2", n_galaxies=N, out=tmp_path_factory.mktemp("inputs") / "sky", images=False).folder
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in pl.read_parquet(folder / "votes.parquet")["filename"]:
        data = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(data, "JPEG")
        (folder / "images" / name).write_bytes(data.getvalue())
    return folder


@pytest.fixture(scope="module")
def small(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of these galaxies."""
    folder = tmp_path_factory.mktemp("small") / "dataset"
    build("gz2", votes=inputs / "votes.parquet", images=inputs / "images", out=folder)
    return folder


@pytest.fixture(scope="module")
def copy(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as others publish it."""
    folder = tmp_path_factory.mktemp("copy") / "gz2"
    (folder / "data").mkdir(parents=True)
    for split in ("train", "test"):
        shutil.copy(small / "data" / f"{split}-00000-of-00001.parquet", folder / "data")
    return folder


# ----------------------------------------------------------------------------------------------------
# A read fails once


class Failing:
    """The n-th read of a file inside a folder fails, as the library that reads it reports that."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, fail_at: int, number: int) -> None:
        self.n, self._fail_at, self._number, self._folder = 0, fail_at, number, str(folder)
        self.parts: set[str] = set()
        for owner, name in FILE_READERS:
            patch.setattr(owner, name, self._wrapped(owner, getattr(owner, name)))

    def _wrapped(self, owner: object, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def read(*arguments: Any, **options: Any) -> Any:
            path = str(arguments[0]) if isinstance(arguments[0], Path | str) else ""
            mode = [*arguments[1:2], options.get("mode", "r")][0] if owner is Path else "r"
            if path.startswith(self._folder) and "r" in mode:
                self.n += 1
                if self.n == self._fail_at:
                    self.parts = finished(Path(self._folder))
                    if owner is pl:
                        raise OSError(f"{os.strerror(self._number)} (os error {self._number}): {path}")
                    raise OSError(self._number, os.strerror(self._number), path)
            return function(*arguments, **options)

        return read


def finished(folder: Path) -> set[str]:
    """The finished parts of the work in progress."""
    patterns = {one for kind in ("dataset", "run") for one in files.PARTS[kind]}
    return {path.name for one in patterns for path in folder.glob(f".*.gzoo-partial/{one}")}


def error_of(verb: Callable[[Path], object], out: Path) -> Exception | None:
    try:
        verb(out)
    except Exception as error:
        return error
    return None


def fail_at_each_read(
    verb: Callable[[Path], object], expected: dict[str, bytes], folder: Path, stride: int, begun: Path | None = None
) -> None:
    """Run a verb that fails at one read, then again; then at the next read, until there is no other."""
    ended = False
    fail_at = n_failed = n_with_parts = 0
    while not ended:
        fail_at += 1
        for number in FAULTS if stride == 1 else FAULTS[n_failed % 3 : n_failed % 3 + 1]:
            work = folder / f"failed{fail_at}-{number}"
            work.mkdir()
            if begun:
                shutil.copytree(begun, work / begun.name)
            with pytest.MonkeyPatch.context() as patch:
                failing = Failing(patch, work, fail_at, number)
                error = error_of(verb, work / "out")
            assert not isinstance(error, InputError), f"{fail_at}: {error!r}"
            assert failing.n >= fail_at or error is None, f"another error: {error!r}"
            if failing.n < fail_at:
                ended = True
            n_failed += 1
            n_with_parts += bool(failing.parts)
            if not (work / "out").exists():
                assert failing.parts <= finished(work), f"{fail_at}: finished parts were deleted"
                verb(work / "out")
            assert contents(work / "out") == expected, f"{fail_at}"
            assert [path.name for path in work.iterdir()] == ["out"], f"{fail_at}"
            shutil.rmtree(work)
        fail_at += stride - 1
    assert n_failed > 1
    assert n_with_parts > 0


@pytest.mark.parametrize("stride", STRIDES)
def test_a_build_keeps_its_work_when_a_read_fails(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    monkeypatch.setattr(finalize, "SHARD_BYTES", 12_000)

    def verb(out: Path) -> None:
        build("gz2", votes=inputs / "votes.parquet", images=inputs / "images", out=out)

    verb(tmp_path / "whole")
    assert len(files.shards(tmp_path / "whole", "train")) > 1
    fail_at_each_read(verb, contents(tmp_path / "whole"), tmp_path, stride)


@pytest.mark.parametrize("stride", STRIDES)
def test_a_union_keeps_its_work_when_a_read_fails(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    monkeypatch.setattr(finalize, "SHARD_BYTES", 12_000)

    def verb(out: Path) -> None:
        union([copy], out=out)

    verb(tmp_path / "whole")
    fail_at_each_read(verb, contents(tmp_path / "whole"), tmp_path, 2 * stride if stride > 1 else 1)


def quick(dataset: Path, out: Path, **settings: Any) -> None:
    training.train(dataset, out=out, encoder="mobilenetv3_small_050", size=32, epochs=2, **settings)


@pytest.mark.parametrize("stride", [13, STRIDES[1]])
def test_a_training_keeps_its_checkpoint_when_a_read_fails(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    def stop(stage: str, *_: object) -> None:
        if "epoch 2" in stage:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "clock", lambda: 0.0)  # the metrics say how long it took
    quick(small, tmp_path / "whole")
    (tmp_path / "begun").mkdir()
    with pytest.raises(KeyboardInterrupt):
        quick(small, tmp_path / "begun" / "out", progress=stop)
    begun = files.partial_name(tmp_path / "begun" / "out")
    assert (begun / checkpoints.LAST).exists()
    fail_at_each_read(lambda out: quick(small, out), contents(tmp_path / "whole"), tmp_path, stride, begun)


# ----------------------------------------------------------------------------------------------------
# Two runs at once

RACE = """
import json, os, sys
from pathlib import Path
from gzoo.dataset.build import build
from gzoo.dataset.merge import union
from gzoo.errors import BusyError, OutputExistsError
verb, n, folder, *inputs = sys.argv[1:]
if verb == "train":
    import torch
    from gzoo.learn.training import train
    torch.set_num_threads(1)

def run(out):
    if verb == "build":
        build("gz2", votes=inputs[0], images=inputs[1], out=out)
    elif verb == "union":
        union(inputs, out=out)
    else:
        train(inputs[0], out=out, encoder="mobilenetv3_small_050", size=32, epochs=2, probe=False)

def fork(out, go):
    child = os.fork()
    if not child:
        code = 9
        try:
            os.read(go, 1)
            run(out)
            code = 0
        except OutputExistsError as error:
            code = 3 if "already contains" in str(error) else 8
        except BusyError as error:
            code = 4 if "Another run writes" in str(error) and "process" in str(error) else 7
        finally:
            os._exit(code)
    return child

for i in range(int(n)):
    out = Path(folder) / f"{verb}{i}"
    go, start = os.pipe()
    children = [fork(out, go) for _ in range(2)]
    os.write(start, b"12")
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
"""


SLOW = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("verb", "n"),
    [("build", 1), ("union", 1), *(pytest.param(verb, 10, marks=SLOW) for verb in ("build", "union", "train"))],
)
def test_of_two_runs_at_once_one_gives_the_result(
    inputs: Path, small: Path, copy: Path, tmp_path: Path, verb: str, n: int
) -> None:
    given = {"build": [inputs / "votes.parquet", inputs / "images"], "union": [copy], "train": [small]}[verb]
    expected = tmp_path / "whole"
    if verb == "build":
        expected = small
    elif verb == "union":
        union([copy], out=expected)
    else:
        quick(small, expected)
    both = tmp_path / "both"
    both.mkdir()
    script = [sys.executable, "-c", RACE, verb, str(n), str(both), *map(str, given)]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stderr
    codes = [sorted(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(codes) == n
    assert all(one in ([0, 3], [0, 4]) for one in codes), f"{codes}\n{done.stderr}"
    assert sorted(path.name for path in both.iterdir()) == [f"{verb}{i}" for i in range(n)]
    for folder in both.iterdir():
        assert contents(folder) == contents(expected)
