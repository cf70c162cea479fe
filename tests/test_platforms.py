"""Nothing that only Linux has is needed to import gzoo, and where a call is missing a portable one gives the same."""

from __future__ import annotations

import errno
import importlib
import mmap
import os
import pkgutil
import signal
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

import gzoo
from gzoo import files
from gzoo.dataset.shards import VoteStore

# what Windows or macOS lacks
ABSENT = {
    os: (
        *("sched_getaffinity", "memfd_create", "pread", "preadv", "posix_fallocate", "posix_fadvise", "sync", "fork"),
        *("sendfile", "splice", "copy_file_range", "getuid", "geteuid", "getpgid", "killpg", "statvfs", "fdatasync"),
        *("O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_DIRECT", "O_TMPFILE", "mkfifo", "register_at_fork"),
    ),
    mmap: tuple(name for name in dir(mmap) if name.startswith(("MADV_", "MAP_", "PROT_"))),
    signal: ("SIGKILL", "SIGHUP", "SIGPIPE", "SIGUSR1", "SIGUSR2", "SIGALRM", "pthread_sigmask", "setitimer", "alarm"),
    errno: ("EDEADLOCK", "EKEYREJECTED", "ENOKEY"),
}
MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "readline")
NAMES = [one.name for one in pkgutil.walk_packages(gzoo.__path__, "gzoo.") if one.name != "gzoo.__main__"]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system, as far as gzoo's own modules can tell; what it depends on is imported already."""
    for name in NAMES:
        importlib.import_module(name)
    for module, names in ABSENT.items():
        for name in names:
            monkeypatch.delattr(module, name, raising=False)
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("elsewhere")
def test_every_module_is_imported_without_what_only_linux_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(NAMES) > 100
    for name in NAMES:
        source = importlib.import_module(name).__file__
        assert source
        spec = spec_from_file_location(f"{name}__elsewhere", source)
        assert spec
        assert spec.loader
        again = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, again)  # dataclasses look their module up
        spec.loader.exec_module(again)


def test_the_test_would_find_an_import(tmp_path: Path, elsewhere: None) -> None:
    for line in ("import fcntl", "from os import sched_getaffinity", "from mmap import MADV_DONTNEED"):
        with pytest.raises(ImportError):
            exec(line, {})


def test_images_are_read_alike_without_pread(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def batches() -> list[np.ndarray]:
        return [batch["image"].numpy() for batch in gzoo.loader(dataset, 16, 64, split="train")]

    expected = batches()
    monkeypatch.delattr(os, "pread")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for one, other in zip(batches(), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_part_of_a_file_is_read_without_pread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(bytes(range(100)))
    descriptor = os.open(tmp_path / "x", files.READ_ONLY)
    wanted = [(10, 0), (5, 7), (10, 95), (1, 100), (4, 3)]
    expected = [files.read_at(descriptor, *one) for one in wanted]
    monkeypatch.delattr(os, "pread")
    assert [files.read_at(descriptor, *one) for one in wanted] == expected
    assert expected[2] == bytes(range(95, 100))
    os.close(descriptor)


@pytest.mark.usefixtures("elsewhere")
def test_votes_are_read_without_madvise(tmp_path: Path) -> None:
    tree = gzoo.tree("gz_rings")
    counts = np.arange(20, dtype=np.int32).reshape(10, 2)
    counts.tofile(tmp_path / "counts.int32")
    counts.sum(axis=1, dtype=np.int32).tofile(tmp_path / "totals.int32")
    taken = VoteStore(tmp_path, tree, ("ring",)).take(np.array([7, 0, 3]))
    assert taken.counts.tolist() == counts[[7, 0, 3]].tolist()
