"""The cache of the Hub's client, and gzoo's record of the files in it that were verified."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from gzoo import files
from gzoo.errors import DatasetError
from gzoo.hub.client import is_safe_path

COMMIT = re.compile(r"[0-9a-f]{40}")
Record = dict[str, list[int] | None]
"""Name of each file of a commit -> its size and modification time when it was verified, None if it was not."""


def _storage(repository: str, kind: str) -> Path:
    """Return the folder of a repository in the cache; `kind` is "dataset" or "model"."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"{kind}s--{repository.replace('/', '--')}"


def snapshot_folder(repository: str, commit: str, kind: str = "dataset") -> Path:
    """Return the folder of a commit's files."""
    return _storage(repository, kind) / "snapshots" / commit


def cached_commit(repository: str, revision: str, kind: str = "dataset") -> str:
    """Return the commit of the cached copy, or "" if there is none or its download was not finished."""
    references = _storage(repository, kind) / "refs"
    if COMMIT.fullmatch(revision):
        commit = revision
        is_referenced = any(_read_reference(path) == commit for path in references.rglob("*"))
        if not is_referenced and _record_path(repository, commit, kind).exists():
            return ""
    else:
        commit = _read_reference(references / revision) if is_safe_path(revision) else ""
    return commit if commit and cached_files(repository, commit, kind) else ""


def cached_files(repository: str, commit: str, kind: str = "dataset") -> list[str]:
    """Return the names of a commit's files in the cache."""
    folder = snapshot_folder(repository, commit, kind)
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file()]


def write_reference(repository: str, revision: str, commit: str, kind: str = "dataset") -> None:
    """Record that the copy of a revision is complete."""
    _write(_storage(repository, kind) / "refs" / revision, commit.encode())


def _write(path: Path, data: bytes) -> None:
    """Write a record, unless the cache is read-only, as shared ones are: records only save work."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, data)
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise


def _read_reference(path: Path) -> str:
    try:
        commit = path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
    return commit if COMMIT.fullmatch(commit) else ""


def _record_path(repository: str, commit: str, kind: str) -> Path:
    return _storage(repository, kind) / "gzoo" / f"{commit}.json"


def read_record(repository: str, commit: str, kind: str = "dataset") -> Record:
    """Return the record of a commit, empty if there is none."""
    return _verified(_record_path(repository, commit, kind))


def _verified(path: Path) -> Record:
    try:
        return cast("Record", files.read_json(path)["files"])
    except (DatasetError, KeyError):
        return {}


def write_record(repository: str, commit: str, record: Mapping[str, list[int] | None], kind: str = "dataset") -> None:
    """Replace the record of a commit."""
    _write(_record_path(repository, commit, kind), files.json_bytes({"commit": commit, "files": record}))


def missing_shards(names: Iterable[str]) -> list[str]:
    """Return the shards missing from a list of names, which state how many there are.

    >>> missing_shards(["data/train-00000-of-00002.parquet"])
    ['data/train-00001-of-00002.parquet']
    """
    present = set(names)
    found = [re.fullmatch(r"(.*-)\d{5}(-of-(\d{5})\.\w+)", name) for name in present]
    expected = {f"{one[1]}{i:05d}{one[2]}" for one in found if one for i in range(min(int(one[3]), 10_000))}
    return sorted(expected - present)


def stamp(path: Path) -> list[int]:
    """Return the size and modification time of a file, which change when it is written; empty if it is missing."""
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else []


def identity_of(path: Path) -> list[str | int]:
    """Return values that change with the content of a file, without reading it.

    Returns:
        For a file of the cache that was verified and not changed since, the checksum that the Hub lists, which is the
        same on every machine. For any other file: size, modification time and inode.
    """
    target, commit = path.resolve(), path.parent.parent
    if target.parent.name == "blobs" and commit.parent.name == "snapshots" and COMMIT.fullmatch(commit.name):
        record = _verified(target.parent.parent / "gzoo" / f"{commit.name}.json")
        if record.get(path.relative_to(commit).as_posix()) == stamp(target):
            return [target.name]  # files of the cache are named by their checksum
    status = target.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]
