"""The cache of the Hub's client, and gzoo's record of the files in it that were verified."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from gzoo import files
from gzoo.errors import DatasetError, HubError, NotFoundError
from gzoo.hub.card import CARD, files_of_config, unmatched_patterns
from gzoo.hub.client import is_safe_path

MODEL_FILES = ("model.safetensors", "config.json", "run.json")
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


@dataclass(frozen=True, slots=True)
class CachedCopy:
    """What the cache contains of a revision.

    Attributes:
        commit: The commit of the copy, or "".
        config: The config that the copy is of; None is the default one.
        missing: What the copy lacks, as a noun phrase, or "" if it is complete.
    """

    commit: str = ""
    config: str | None = None
    missing: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether there is a complete copy."""
        return bool(self.commit) and not self.missing


def find_copy(repository: str, revision: str, kind: str, *configs: str | None) -> CachedCopy:
    """Return the newest complete copy of a revision in the cache.

    Each config has a copy of its own: a newer commit of a small config does not replace the older one of a large
    config, whose files are still there.

    Args:
        repository: `owner/name`.
        revision: Branch, tag or commit.
        kind: "dataset" or "model".
        configs: Configs of which a copy is looked for; any if there are none, the default one first.

    Returns:
        If no copy is complete, one that is not.
    """
    recorded = _read_copies(repository, kind).get(revision, {})
    if COMMIT.fullmatch(revision):
        referenced = revision
    else:
        reference = _storage(repository, kind) / "refs" / revision
        referenced = _read_reference(reference) if is_safe_path(revision) else ""
    found = CachedCopy()
    for config in configs or dict.fromkeys([None, *(name or None for name in recorded)]):
        for commit in dict.fromkeys([referenced, recorded.get(config or "", "")]):
            if not commit or not cached_files(repository, commit, kind):
                continue
            copy = CachedCopy(commit, config, _missing(repository, commit, config, kind))
            if copy.is_whole:
                return copy
            found = found if found.commit else copy
    return found


def _missing(repository: str, commit: str, config: str | None, kind: str) -> str:
    """Return what a commit in the cache lacks of a config, or ""."""
    folder, record = snapshot_folder(repository, commit, kind), read_record(repository, commit, kind)
    listed = list(record) or cached_files(repository, commit, kind)
    if kind == "model":
        wanted = [name for name in MODEL_FILES if name in listed] or [MODEL_FILES[0]]
    else:
        try:
            wanted = files_of_config(listed, folder, config, repository)
            patterns = unmatched_patterns(wanted, folder, config, repository)
        except (HubError, NotFoundError):
            return f"config '{config}'"
        if not record and CARD not in listed:
            return f"'{CARD}'"  # only the card says which files there are
        missing = missing_shards(wanted) or patterns
        if missing:
            return f"'{missing[0]}'"
    for name in wanted:
        found = stamp(folder / name)
        if not found or (record.get(name) or found) != found:
            return f"'{name}'"
    return ""


def cached_files(repository: str, commit: str, kind: str = "dataset") -> list[str]:
    """Return the names of a commit's files in the cache."""
    folder = snapshot_folder(repository, commit, kind)
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file()]


def record_copy(repository: str, revision: str, config: str | None, commit: str, kind: str = "dataset") -> None:
    """Record that the copy of a config of a revision is complete."""
    if COMMIT.fullmatch(revision):
        return
    copies = _read_copies(repository, kind)
    copies = {**copies, revision: {**copies.get(revision, {}), config or "": commit}}
    _write(_copies_path(repository, kind), files.json_bytes({"commits": copies}))
    _write(_storage(repository, kind) / "refs" / revision, commit.encode())


def _copies_path(repository: str, kind: str) -> Path:
    return _storage(repository, kind) / "gzoo" / "copies.json"


def _read_copies(repository: str, kind: str) -> dict[str, dict[str, str]]:
    """Return revision -> config ("" is the default one) -> commit of the last complete copy."""
    try:
        found = cast("dict[str, dict[str, str]]", files.read_json(_copies_path(repository, kind))["commits"])
        return {
            revision: {config: commit for config, commit in copies.items() if COMMIT.fullmatch(commit)}
            for revision, copies in found.items()
        }
    except (DatasetError, NotFoundError, KeyError, AttributeError, TypeError):
        return {}


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
