"""Contents of a dataset folder that is checked: files, manifest and shards. None of it is trusted."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

import pyarrow.parquet as pq

from gzoo import files, hub
from gzoo.dataset import card, schema
from gzoo.dataset.check_findings import CHECKING_FILES, FindingLog
from gzoo.dataset.open import match_campaign
from gzoo.errors import GZooError, reason
from gzoo.hub.client import is_safe_path
from gzoo.trees.campaign import Campaign, of_manifest

MAX_TEXT_BYTES = 64_000_000
"""Largest manifest or card that is read."""
_SHARD = re.compile(r"(data|tiny)/(train|validation|test|border)-(\d{5})-of-(\d{5})(-[0-9a-z]+)?\.parquet", re.ASCII)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Entries of a manifest that are compared with the data; the types are those of the JSON values."""

    campaign: str
    columns: list[str]
    dataset_names: list[str]
    is_simulated: bool
    has_images: bool
    split_scheme: str
    n_rows_breaking_tree: int
    splits: dict[str, dict[str, int]]
    image_bytes: dict[str, dict[str, int]]
    image_sizes: list[list[int]]
    questions: dict[str, dict[str, int]]
    not_collected: list[str]
    definition: Campaign | None = None  # what `campaign` names

    @classmethod
    def of(cls, manifest: Mapping[str, object], log: FindingLog) -> Metadata | None:
        """Return the entries, or None if one is missing or has another type."""
        hints = get_type_hints(cls)
        del hints["definition"]
        log.count("manifest", len(hints))
        wrong = {
            name: f"value is {manifest[name]}" if name in manifest else "missing"
            for name, hint in hints.items()
            if not has_type(manifest.get(name), hint)
        }
        if not wrong:
            found = cls(**{name: cast(Any, manifest[name]) for name in hints})
            splits = set(found.splits.get("default", ()))
            for key, of in (("splits", found.splits), ("image_bytes", found.image_bytes)):
                if {name: set(one) for name, one in of.items()} != {"default": splits, "tiny": splits}:
                    wrong[key] = "default and tiny have different splits"
            for name, figures in found.questions.items():
                if set(figures) != {"n_votes", "n_galaxies", "n_breaks", "n_well_voted", "median_votes"}:
                    wrong[f"questions.{name}"] = f"keys are {', '.join(figures)}"
            try:
                found = replace(found, definition=of_manifest(manifest, Path(files.MANIFEST)))
            except GZooError as error:
                wrong["campaign"] = error.message.rstrip(".")
            for split in splits - set(files.SPLITS):
                wrong["splits"] = f"unknown split '{split}'"
            if not wrong:
                return found
        for key, example in wrong.items():
            log.add("invalid metadata", files.MANIFEST, key, examples=[example])
        return None


def has_type(value: object, hint: object) -> bool:
    """Return whether a JSON value has a type such as `dict[str, list[int]]`."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if not isinstance(value, cast(type, kind)) or (kind is int and isinstance(value, bool)):
        return False
    if isinstance(value, dict) and inner:
        return all(has_type(one, inner[1]) for one in cast("dict[str, object]", value).values())
    return not isinstance(value, list) or all(has_type(one, inner[0]) for one in cast("list[object]", value))


@dataclass(frozen=True, slots=True)
class Shard:
    """A Parquet file with rows of one split."""

    name: str
    path: Path
    config: str
    split: str


@dataclass(frozen=True)
class Folder:
    """A dataset folder that is checked.

    Attributes:
        root: The folder.
        files: Every regular file by its name inside the folder.
        has_manifest: Whether there is a manifest, valid or not.
        listed: Size and checksum of the files that the manifest lists; None if the list is missing.
        metadata: The other entries of the manifest; None if they are missing or invalid.
        shards: The shards in order: those in the list, or without a list all that are there.
    """

    root: Path
    files: Mapping[str, Path]
    has_manifest: bool
    listed: Mapping[str, Mapping[str, object]] | None
    metadata: Metadata | None
    shards: tuple[Shard, ...]

    @classmethod
    def of(cls, root: Path, log: FindingLog) -> Folder:
        """Read the contents of a folder."""
        contents = _regular_files(root, log)
        has_manifest = files.MANIFEST in contents
        manifest = _read_manifest(contents[files.MANIFEST], log) if has_manifest else None
        listed = _read_listed(manifest, log) if manifest is not None else None
        metadata = Metadata.of(manifest, log) if manifest is not None else None
        shards = _find_shards(contents if listed is None else listed, contents, metadata, log)
        if files.BEGUN in contents and not has_manifest:
            log.add("unfinished build", files.BEGUN)
        elif not has_manifest:
            log.skip("manifest", "manifest.json is missing, because gzoo did not build the folder")
        if not shards and not log.has("unfinished build", "missing file"):
            log.add("not a dataset")
        return cls(root, contents, has_manifest, listed, metadata, shards)

    @cached_property
    def campaign(self) -> Campaign | None:
        """Campaign that the manifest names, otherwise the one that the columns belong to."""
        if self.metadata:
            return self.metadata.definition
        found = match_campaign(set(self.columns))
        return found.campaign if found and "id_str" in self.columns and not found.not_collected else None

    @cached_property
    def columns(self) -> list[str]:
        """Columns of the first readable shard."""
        for shard in self.shards:
            try:
                return pq.read_schema(shard.path).names
            except Exception:  # readers raise arbitrary exceptions on corrupt files, which are reported later
                continue
        return []

    @cached_property
    def record(self) -> schema.Record | None:
        """Columns that each row is expected to have."""
        names = self.metadata.columns if self.metadata else self.columns
        if self.campaign is None:
            return None
        return schema.record(self.campaign, image="image" in names, source_id="source_id" in names)

    @property
    def default_shards(self) -> list[Shard]:
        """Shards of config `default`."""
        return [shard for shard in self.shards if shard.config == "default"]


def _regular_files(root: Path, log: FindingLog) -> dict[str, Path]:
    """Return every regular file of a folder by its name there, without following links."""
    found: dict[str, Path] = {}
    waiting = [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            log.add("unreadable file", prefix.rstrip("/"), examples=[error.strerror or reason(error)])
            continue
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append((folder / entry.name, f"{name}/"))
            elif entry.is_file(follow_symlinks=False):
                found[name] = folder / entry.name
            else:
                log.add("not a regular file", name, examples=["link" if entry.is_symlink() else "special file"])
    return dict(sorted(found.items()))


def read_text(path: Path) -> bytes:
    """Return the content of a manifest or card.

    Raises:
        ValueError: The file is too large.
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    if size > MAX_TEXT_BYTES:
        raise ValueError(f"the file has {size:,} bytes")
    return path.read_bytes()


def _read_manifest(path: Path, log: FindingLog) -> dict[str, object] | None:
    try:
        data = read_text(path)
        read: object = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        log.add("unreadable manifest", files.MANIFEST, examples=[reason(error)])
        return None
    manifest = cast("dict[str, object]", read if isinstance(read, dict) else {})
    key, value = files.SIGNS["dataset"]
    if manifest.get(key) != value:
        log.add("unreadable manifest", files.MANIFEST, examples=[f"its {key} is not {value}"])
        return None
    own_digest = manifest.pop(files.OWN_DIGEST, None)
    try:
        is_same = files.json_bytes({**manifest, files.OWN_DIGEST: own_digest}) == data
        is_same = is_same and files.digest(manifest) == own_digest
    except (ValueError, RecursionError):  # JSON may contain lone surrogates and infinite numbers
        is_same = False
    if not is_same:
        log.add("changed manifest", files.MANIFEST)
    return manifest


def _read_listed(manifest: Mapping[str, object], log: FindingLog) -> dict[str, Mapping[str, object]] | None:
    """Return the files that the manifest lists, without names that might lead outside the folder."""
    listed = manifest.get("files")
    if not has_type(listed, dict[str, dict[str, object]]):
        log.add("invalid metadata", files.MANIFEST, "files", examples=["not a mapping of files"])
        return None
    kept: dict[str, Mapping[str, object]] = {}
    for name, entry in cast("dict[str, dict[str, object]]", listed).items():
        if not is_safe_path(name) or name == files.MANIFEST:
            log.add("unsafe path", files.MANIFEST, f"files.{name}")
        elif not has_type(entry.get("sha256"), str) or not has_type(entry.get("bytes"), int):
            log.add("invalid metadata", files.MANIFEST, f"files.{name}", examples=["sha256 or bytes missing"])
        else:
            kept[name] = entry
    return kept


def _find_shards(
    known: Iterable[str], contents: Mapping[str, Path], metadata: Metadata | None, log: FindingLog
) -> tuple[Shard, ...]:
    """Return the shards that are there in order, and report those that are missing by their numbers."""
    found: dict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
    for name in known:
        if match := _SHARD.fullmatch(name):
            folder, split, number, n = match.group(1, 2, 3, 4)
            found[folder, split].append((int(number), int(n), name))
        elif name.startswith(("data/", "tiny/")) and name.endswith(".parquet"):
            log.add("invalid shard name", name)
    ordered: list[Shard] = []
    for folder, config in (("data", "default"), ("tiny", "tiny")):
        for split in files.SPLITS:
            of_split = sorted(found[folder, split])
            numbers = {number for number, _, _ in of_split}
            is_expected = metadata is not None and split in metadata.splits[config]
            n = max((n for _, n, _ in of_split), default=int(is_expected))
            for number in sorted(set(range(n)) - numbers):
                log.add("missing shard", files.shard_name(split, number, n, config))
            if len(numbers) < len(of_split) or any(one != n or number >= n for number, one, _ in of_split):
                log.add("invalid shard name", of_split[-1][2], examples=["inconsistent numbers"])
            ordered += [Shard(name, contents[name], config, split) for _, _, name in of_split if name in contents]
    return tuple(ordered)


def check_files(folder: Folder, log: FindingLog) -> None:
    """Compare size and checksum of every listed file, and report files that are not listed."""
    if folder.listed is None:
        state = " does not list files" if folder.has_manifest else ", which lists files, is missing"
        log.skip("files", f"the manifest{state}")
        return
    n_bytes = sum(path.stat().st_size for name, path in folder.files.items() if name in folder.listed)
    done = 0
    for name, entry in folder.listed.items():
        log.report(CHECKING_FILES, done, n_bytes)
        log.count("files")
        path = folder.files.get(name)
        if path is None:
            log.add("missing file", name)
            continue
        size = path.stat().st_size
        done += size
        if name == hub.CARD and _is_extended(path, str(entry["sha256"]), folder):
            continue
        if size != entry["bytes"]:
            log.add("size mismatch", name, examples=[f"{size:,} bytes, not {cast(int, entry['bytes']):,}"])
            continue
        try:
            found = files.sha256(path)
        except OSError as error:
            log.add("unreadable file", name, examples=[error.strerror or reason(error)])
            continue
        if found != entry["sha256"]:
            log.add("checksum mismatch", name, examples=[f"{found[:16]}..., not {str(entry['sha256'])[:16]}..."])
    for name in folder.files:
        if name not in folder.listed and name != files.MANIFEST:
            is_left = name == files.BEGUN or name.startswith(f"{files.WORK}/") or name.endswith(".writing")
            log.add("unlisted file", name, examples=["left over from an interrupted command"] * is_left)
    log.report(CHECKING_FILES, n_bytes, n_bytes)


def _is_extended(path: Path, checksum: str, folder: Folder) -> bool:
    """Return whether a card differs from the one in the manifest only by what owners add on the Hub."""
    if not folder.campaign or not folder.metadata:
        return False
    try:
        text = read_text(path).decode()
        header = card.header(folder.campaign, asdict(folder.metadata), dict.fromkeys(folder.metadata.splits, 0))
        own, _ = hub.split_card(text, header, card.headings())
    except (OSError, ValueError):
        return False
    return hashlib.sha256(own.encode()).hexdigest() == checksum
