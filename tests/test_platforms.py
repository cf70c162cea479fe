"""Nothing that only Linux has is needed to import gzoo, and where a call is missing a portable one gives the same."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
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


# executes the modules once more, after what they depend on is imported and the names are gone
SCRIPT = """
import errno, importlib, mmap, os, pkgutil, signal, sys
from importlib.util import module_from_spec, spec_from_file_location
import gzoo
names = [one.name for one in pkgutil.walk_packages(gzoo.__path__, "gzoo.") if one.name != "gzoo.__main__"]
sources = {name: importlib.import_module(name).__file__ for name in names}
assert len(names) > 100
for module, absent in ABSENT.items():
    for name in absent:
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
for name in MODULES:
    sys.modules[name] = None
for line in ("import fcntl", "from os import sched_getaffinity", "from mmap import MADV_DONTNEED"):
    try:
        exec(line, {})
    except ImportError:
        continue
    raise AssertionError(f"the test would not find '{line}'")
for name, source in sources.items():
    spec = spec_from_file_location(f"{name}__elsewhere", source)
    again = module_from_spec(spec)
    sys.modules[spec.name] = again  # dataclasses look their module up
    spec.loader.exec_module(again)
"""


@pytest.mark.slow
def test_every_module_is_imported_without_what_only_linux_has() -> None:
    names = {module.__name__: absent for module, absent in ABSENT.items()}
    script = f"ABSENT, MODULES = {names!r}, {MODULES!r}\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


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


def test_votes_are_read_without_madvise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ABSENT[mmap]:
        monkeypatch.delattr(mmap, name, raising=False)
    tree = gzoo.tree("gz_rings")
    counts = np.arange(20, dtype=np.int32).reshape(10, 2)
    counts.tofile(tmp_path / "counts.int32")
    counts.sum(axis=1, dtype=np.int32).tofile(tmp_path / "totals.int32")
    taken = VoteStore(tmp_path, tree, ("ring",)).take(np.array([7, 0, 3]))
    assert taken.counts.tolist() == counts[[7, 0, 3]].tolist()
