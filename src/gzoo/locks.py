"""The lock of a result: one run at a time writes it, and others say who does.

The lock is a file beside the result, `.NAME.gzoo-lock`, that names its holder. The system releases it if the process
dies.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from gzoo.errors import BusyError, GZooWarning

Progress = Callable[[str, int, int], None]
WITHOUT_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
"""Errors of file systems that do not know locks, such as some of computing clusters."""
SUFFIX = ".gzoo-lock"
SECONDS = 0.2
"""How often a waiting run looks whether the lock is free."""


def lock_name(out: Path) -> Path:
    """Return the file that is the lock of a result."""
    return out.with_name(f".{out.name}{SUFFIX}")


@contextlib.contextmanager
def locked(out: Path, command: str, wait: bool, progress: Progress | None) -> Generator[None]:
    """Hold the lock of a result, which the system releases if this process dies."""
    path = lock_name(out)
    with contextlib.ExitStack() as stack:
        try:
            _acquire(stack, out, wait, progress)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            message = f"The file system of '{out.parent}' does not have locks: do not start two runs with one --out."
            warnings.warn(GZooWarning(message), stacklevel=2)
        else:
            facts = {
                "host": platform.node(),
                "process": os.getpid(),
                "command": command,
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            with contextlib.suppress(OSError):  # they are for messages only
                path.write_text(json.dumps(facts, indent=2))  # in place, because another file would be another lock
        yield


def _acquire(stack: contextlib.ExitStack, out: Path, wait: bool, progress: Progress | None) -> None:
    path = lock_name(out)
    with contextlib.suppress(Timeout):
        stack.enter_context(held(path, timeout=SECONDS))  # its holder may be removing it right now
        return
    holder = _holder(path)
    if not wait:
        raise BusyError(
            f"Another run writes '{out}': {holder}.",
            "one run at a time for each output.",
            "Wait until it has ended, or pass --wait.",
        )
    if progress:
        progress(f"Waiting for {holder}", 0, 1)
    stack.enter_context(held(path, timeout=-1))


@contextlib.contextmanager
def held(path: Path, *, timeout: float) -> Generator[None]:
    """Hold a lock, and remove its file."""
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    lock.acquire(timeout=timeout, poll_interval=SECONDS / 4)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # while it is held: whoever gets the lock of a removed file notices that
            path.unlink()
        lock.release()


def _holder(path: Path) -> str:
    """Return who holds a lock, in words."""
    for _ in range(10):  # the holder may be about to write it
        try:
            facts: dict[str, object] = json.loads(path.read_text("utf-8"))
            return "process {process} on {host} (command: {command}, since {since})".format(**facts)
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(SECONDS / 10)
    return "a process that did not leave its name"
