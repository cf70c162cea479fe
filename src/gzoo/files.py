"""Files and folders that are complete or absent, resumable work in progress, and the layout of a dataset folder.

Work in progress is in a folder beside the final one, `.NAME.gzoo-partial`, which is renamed when the work is done. It
records what determines the result, so that the same command resumes it. Who works there holds the lock
`.NAME.gzoo-lock`. Finished parts of the work are deleted only by `overwrite`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from gzoo.errors import (
    BusyError,
    DatasetError,
    GZooError,
    GZooWarning,
    InputError,
    MissingExtraError,
    NotFoundError,
    OutputExistsError,
    ReadError,
    WriteError,
    reason,
)

Progress = Callable[[str, int, int], None]
"""What a verb calls as its work proceeds, with (stage, done, total)."""
BEGUN = "begun.json"
MANIFEST = "manifest.json"
OWN_DIGEST = "manifest_sha256"
"""Key of the manifest: the checksum of everything else in it, so that a flipped bit in it is detected too."""
INDEX = "index"
"""Folder of the identifiers, votes and image offsets of each shard."""
WORK = "work"
"""Folder of what a build needs only until it is finished."""
SPLITS = ("train", "validation", "test", "border")
ROWS_IN_GROUP = 100
"""Rows of a row group with images: small, so that one image can be read without many others."""
ROWS_IN_LARGE_GROUP = 10_000
"""Rows of a row group without images."""
MAX_SETTING_CHARACTERS = 20
"""Length of a setting that an error message quotes; longer ones are checksums, which help nobody."""
READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0)
"""How files are opened without Python's buffer; Windows otherwise translates line ends."""
_SEEKING = threading.Lock()
SIMULATED = "_simulated"
"""Suffix of `dataset_name` for simulated galaxies."""
MARKS = {"dataset": MANIFEST, "run": "run.json", "simulation": "simulation.json", "demo": "demo.json"}
"""The file that marks a folder as a finished result of each kind."""
SIGNS = {
    "dataset": ("format", "gzoo-dataset-2"),
    "run": ("format", "gzoo-run-2"),
    "simulation": ("kind", "simulation"),
    "demo": ("command", "demo"),
}
"""A key and value in that file, because other programs use the same file names."""
PARTS = {
    "dataset": (f"{WORK}/shard-*.json", MANIFEST),
    "run": ("last.ckpt", "previous.ckpt"),
    "simulation": ("images/*.jpg",),
    "demo": ("simulation/*",),
}
"""Patterns of the files that show that a part of the work is finished, which is then kept after every error."""
NOT_PASSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG, errno.ELOOP}
"""Errors of the system that are about the file or its name. All others may be gone at the next attempt."""
WITHOUT_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
"""Errors of file systems that do not know locks, such as some of computing clusters."""
LOCK_SUFFIX = ".gzoo-lock"
LOCK_SECONDS = 0.2
"""How often a waiting run looks whether the lock is free."""


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: object) -> str:
    """Return the SHA-256 checksum of a JSON value in hexadecimal; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _renamed(path: Path) -> Generator[Path]:
    """Yield a temporary name beside a file, which is renamed to it when the block ends without an error."""
    # the name is unique, because two processes may write the same file at once
    name = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.writing")
    try:
        yield name
        name.replace(path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def remove_left_overs(folder: Path) -> None:
    """Remove the temporary files and the locks of processes that were killed."""
    for left_over in folder.rglob(".*"):
        if left_over.suffix in {".writing", LOCK_SUFFIX}:
            left_over.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: Path, *, is_flushed: bool = True) -> Generator[BinaryIO]:
    """Open a file for writing that appears under its name only when it is complete.

    Args:
        path: The file.
        is_flushed: Whether to wait until the data are on the disk, so that a power failure cannot truncate the file.
    """
    with _renamed(path) as name, name.open("wb") as file:
        yield file
        if is_flushed:
            file.flush()
            os.fsync(file.fileno())


def write_bytes(path: Path, data: bytes, *, is_flushed: bool = True) -> None:
    """Write a file as `whole_file` does."""
    with whole_file(path, is_flushed=is_flushed) as file:
        file.write(data)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file as `whole_file` does; the same value gives the same bytes."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: object) -> bytes:
    """Return the text of a JSON file in the one format that gzoo writes."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_json(path: Path) -> dict[str, object]:
    """Return the object in a JSON file.

    Raises:
        DatasetError: The file does not exist or does not contain a JSON object.
        ReadError: The file cannot be read now.
    """
    try:
        value: object = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise_passing(path, error)
        raise DatasetError(
            f"Cannot read '{path}': {reason(error)}.", "a JSON file written by gzoo.", "Recreate the file with gzoo."
        ) from error
    if not isinstance(value, dict):
        raise DatasetError(
            f"'{path}' does not contain a JSON object.",
            "a JSON file written by gzoo.",
            "Recreate the file with gzoo.",
        )
    return cast("dict[str, object]", value)


def raise_passing(path: Path | str, error: BaseException) -> None:
    """Raise an error of reading a file unless it may be about the content of the file.

    Readers report damaged content as `OSError` too, but without the number of an error of the system.

    Raises:
        ReadError: The system failed: too many open files, no permission, an error of the disk.
        MemoryError: There is not enough memory.
    """
    if isinstance(error, MemoryError):
        raise error
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"\(os error (\d+)\)", str(error))):  # polars writes it into the text
        number = int(found[1])
    if isinstance(number, int) and number not in NOT_PASSING:
        raise ReadError(
            f"Cannot read '{path}': {os.strerror(number)}.", hint="Fix the cause, then rerun the same command."
        ) from error


@contextlib.contextmanager
def write_parquet(
    path: Path, schema: pa.Schema, *, is_flushed: bool = True, compression: str | None = None
) -> Generator[pq.ParquetWriter]:
    """Write a Parquet file with page checksums as `whole_file` does; the same batches give the same bytes.

    Images are compressed already, so they are stored as they are, without dictionary or statistics. Other columns
    beside images are in row groups so small that zstd would take time and save nothing.

    Args:
        path: The file.
        schema: Its columns.
        is_flushed: See `whole_file`.
        compression: Compression of all columns but images; by default snappy beside images, otherwise zstd.

    Yields:
        The writer. After the block, its `writer.metadata` is the footer of the file.
    """
    has_images = "image" in schema.names
    columns = [name for name in schema.names if name != "image"] + ["image.bytes", "image.path"] * has_images
    plain = [name for name in columns if name != "image.bytes"]
    method = compression or ("snappy" if has_images else "zstd")
    by_column: Any = {  # pyarrow accepts these per column, but its type stubs do not
        "compression": {column: method if column in plain else "none" for column in columns},
        "use_dictionary": [column for column in plain if column not in {"id_str", "source_id", "image.path"}],
        "write_statistics": plain,
    }
    with _renamed(path) as name:
        with pq.ParquetWriter(name, schema, write_page_checksum=True, **by_column) as writer:
            yield writer
        if is_flushed:
            flush(name)


def read_at(descriptor: int, n_bytes: int, offset: int) -> bytes:
    """Return up to `n_bytes` of an open file from an offset on; several threads may do so at once."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, n_bytes, offset)
    with _SEEKING:  # Windows
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, n_bytes)


def flush(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with path.open("r+b") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())


@contextlib.contextmanager
def disk_errors(out: Path) -> Generator[None]:
    """Explain errors of the disk that a dataset is written to.

    Raises:
        WriteError: The disk is full or not writable.
    """
    try:
        yield
    except GZooError:
        raise
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the quota is used up",
            errno.EROFS: "the disk is read-only",
            errno.EACCES: "permission denied",
            errno.EPERM: "permission denied",
        }
        known = reasons.get(error.errno or 0)
        if known is None and "No space left" in str(error):  # some libraries pass on the text without the number
            known = reasons[errno.ENOSPC]
        raise WriteError(
            f"Cannot write the dataset to '{out.parent.absolute()}': {known or reason(error)}.",
            "a writable folder with enough free space.",
            "Fix the cause, then rerun the same command to resume.",
        ) from error


@contextlib.contextmanager
def work(
    out: Path,
    *,
    kind: str,
    begun: Mapping[str, object],
    overwrite: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
) -> Generator[Path]:
    """Create a folder for work in progress, which becomes `out` when the block ends without an error.

    After an error the folder stays, and the same work resumes in it. A folder that this call created is removed if
    there is nothing in it, or if the error is an `InputError` and no part of the work is finished (see `PARTS`). Until
    the result has its final name, other calls for the same `out` are refused, or wait.

    Args:
        out: The folder of the result.
        kind: Kind of the result, a key of `MARKS`.
        begun: What determines the result: command, settings, checksums of inputs. Work with other values is not
            resumed.
        overwrite: Whether to replace a finished result, or unfinished work of another command.
        wait: Whether to wait for another run that writes `out` to end.
        progress: Function that is called with (stage, 0, 1) before waiting.

    Yields:
        The folder of the work in progress.

    Raises:
        OutputExistsError: `out` contains a finished result and `overwrite` is False, `out` contains something else,
            or there is unfinished work of another command.
        BusyError: Another run writes `out`, and `wait` is False.
    """
    out = out.absolute()
    refuse_occupied(out, kind=kind, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial, old = partial_name(out), _old_name(out)
    with _locked(out, str(begun.get("command", kind)), wait, progress):
        if old.exists() and not out.exists():  # the process was killed while it replaced an earlier result
            old.replace(out)
        refuse_occupied(out, kind=kind, overwrite=overwrite)  # again, because another run may have ended by now
        is_new = _begin(partial, {"kind": kind, "digest": digest(begun), "begun": dict(begun)}, overwrite)
        try:
            yield partial
        except Exception as error:
            parts = PARTS[kind] if isinstance(error, InputError) else ("*",)
            if is_new and not _has_part(partial, parts):
                _remove(partial)
            raise
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.replace(old)
        try:
            partial.replace(out)
        except OSError:
            if old.exists():
                old.replace(out)
            raise
        (out / BEGUN).unlink(missing_ok=True)  # another run may have removed it; see `refuse_occupied`
        shutil.rmtree(old, ignore_errors=True)


def _begin(partial: Path, marker: Mapping[str, object], overwrite: bool) -> bool:
    """Make the folder of the work in progress unless the same work is in it; return whether it is new."""
    if partial.exists():
        if not (partial / BEGUN).is_file():
            raise OutputExistsError(
                f"'{partial}' is not unfinished work of gzoo.", "no file or folder of that name.", "Move it elsewhere."
            )
        was = read_json(partial / BEGUN)
        if was.get("digest") == marker["digest"]:
            remove_left_overs(partial)
            return False
        if not overwrite:
            begun = cast("Mapping[str, object]", marker["begun"])
            raise OutputExistsError(
                f"'{partial}' contains unfinished work of another command{_changes(was.get('begun'), begun)}.",
                "the same command with the same inputs, which would be resumed.",
                "Finish that command, delete the folder, or pass --overwrite.",
            )
        _remove(partial)
    fresh = _fresh_name(partial)  # so that a folder never exists without its marker
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        write_json(fresh / BEGUN, marker)
        fresh.replace(partial)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return True


def _remove(partial: Path) -> None:
    """Remove the folder of the work in progress; renamed first, so that it never exists without its marker."""
    fresh = _fresh_name(partial)
    shutil.rmtree(fresh, ignore_errors=True)
    partial.replace(fresh)
    shutil.rmtree(fresh, ignore_errors=True)


def _fresh_name(partial: Path) -> Path:
    return partial.with_name(partial.name + ".new")


def _old_name(out: Path) -> Path:
    return out.with_name(f".{out.name}.gzoo-old")


def _lock_name(out: Path) -> Path:
    return out.with_name(f".{out.name}{LOCK_SUFFIX}")


def _has_part(partial: Path, patterns: Collection[str]) -> bool:
    """Return whether a file other than the marker matches a pattern; True if that cannot be found out."""

    def stop(error: OSError) -> None:
        raise error

    try:
        for folder, _, names in os.walk(partial, onerror=stop):
            for name in names:
                path = (Path(folder) / name).relative_to(partial).as_posix()
                if path != BEGUN and any(fnmatchcase(path, pattern) for pattern in patterns):
                    return True
    except OSError:
        return True
    return False


@contextlib.contextmanager
def _locked(out: Path, command: str, wait: bool, progress: Progress | None) -> Generator[None]:
    """Hold the lock of a result, which the system releases if this process dies."""
    path = _lock_name(out)
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
                path.write_bytes(json_bytes(facts))  # in place, because another file would be another lock
        yield


def _acquire(stack: contextlib.ExitStack, out: Path, wait: bool, progress: Progress | None) -> None:
    path = _lock_name(out)
    with contextlib.suppress(Timeout):
        stack.enter_context(_held(path, timeout=LOCK_SECONDS))  # its holder may be removing it right now
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
    stack.enter_context(_held(path, timeout=-1))


@contextlib.contextmanager
def _held(path: Path, *, timeout: float) -> Generator[None]:
    """Hold a lock, and remove its file."""
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    lock.acquire(timeout=timeout, poll_interval=LOCK_SECONDS / 4)
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
            time.sleep(LOCK_SECONDS / 10)
    return "a process that did not leave its name"


def _changes(was: object, now: Mapping[str, object]) -> str:
    """Return which settings or inputs differ, to be added to a message."""
    before = cast("dict[str, object]", was) if isinstance(was, dict) else {}
    values = {name: str(before.get(name)) for name in before | dict(now) if before.get(name) != now.get(name)}
    said = [f"{name} (then {one})" if len(one) <= MAX_SETTING_CHARACTERS else name for name, one in values.items()]
    return f" that differs in {', '.join(said)}" if before and said else ""


def partial_name(out: Path) -> Path:
    """Return the folder of the work in progress for `out`."""
    return out.with_name(f".{out.name}.gzoo-partial")


def refuse_occupied(out: Path, *, kind: str, overwrite: bool) -> None:
    """Check that a folder may become the result; see `work`.

    Raises:
        OutputExistsError: It may not.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not _is_finished(out, kind):
        if not out.exists():  # another run is replacing it right now
            return
        raise OutputExistsError(
            f"'{out}' contains something that gzoo did not make.",
            "a new name, an empty folder, or an earlier result.",
            "Choose another --out.",
        )
    (out / BEGUN).unlink(missing_ok=True)  # left if the process was killed between renaming and removing
    if not overwrite:
        _tidy(out)
        raise OutputExistsError(
            f"'{out}' already contains a finished {kind}.",
            hint="Choose another --out, or pass --overwrite to replace it.",
        )


def _tidy(out: Path) -> None:
    """Remove what a run left beside its result if it was killed at the very end."""
    lock, old = _lock_name(out), _old_name(out)
    if lock.exists() or old.exists():
        with contextlib.suppress(OSError), _held(lock, timeout=0):  # held by others: it is not left
            shutil.rmtree(old, ignore_errors=True)


def _is_finished(out: Path, kind: str) -> bool:
    key, value = SIGNS[kind]
    try:
        return read_json(out / MARKS[kind]).get(key) == value
    except DatasetError:
        return False


def shards(folder: Path, split: str, config: str = "default") -> list[Path]:
    """Return the Parquet files of one split of a dataset folder, in order."""
    return sorted(folder.glob(f"{shard_start(split, config)}*.parquet"))


def shard_name(split: str, i: int, n: int, config: str = "default") -> str:
    """Return the name of a shard inside a dataset folder."""
    return f"{shard_start(split, config)}{i:05d}-of-{n:05d}.parquet"


def index_name(shard: str) -> str:
    """Return the name of a shard's index, a file that may be absent.

    >>> index_name("data/train-00000-of-00002.parquet")
    'index/train-00000-of-00002.parquet'
    """
    return f"{INDEX}/{shard.rpartition('/')[2]}"


def shard_start(split: str, config: str = "default") -> str:
    """Return the first part of the names of a split's shards."""
    return f"{'data' if config == 'default' else config}/{split}-"


def open_folder(folder: Path) -> dict[str, object]:
    """Return the manifest of a dataset folder.

    Raises:
        NotFoundError: The folder does not exist.
        DatasetError: It is not a dataset that gzoo finished.
    """
    if not folder.exists():
        if partial_name(folder.absolute()).exists():
            raise NotFoundError(f"Dataset '{folder}' is not finished.", hint="Rerun the command that started it.")
        raise NotFoundError(f"Dataset folder not found: '{folder}'.", hint="Check the path, or run `gzoo build`.")
    if not (folder / MANIFEST).is_file():
        raise DatasetError(
            f"'{folder}' is not a dataset folder: {MANIFEST} not found in it.",
            "a folder made by `gzoo build`.",
            "Check the path, or run `gzoo build`.",
        )
    manifest = read_json(folder / MANIFEST)
    key, value = SIGNS["dataset"]
    if manifest.get(key) != value:
        raise DatasetError(
            f"Unknown {key} {manifest.get(key)!r} in '{folder / MANIFEST}'.",
            f"'{value}'.",
            "Rebuild the dataset, or use the version of gzoo that made it.",
        )
    return manifest


def listing(
    folder: Path, known: Mapping[str, Mapping[str, object]], without: Collection[str] = ()
) -> dict[str, Mapping[str, object]]:
    """Return checksum and size of every file of a dataset folder except the manifest and temporary files.

    Args:
        folder: The dataset folder.
        known: Checksums and sizes that are known already, by name.
        without: Names to omit.
    """
    named = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: known.get(name) or {"sha256": sha256(path), "bytes": path.stat().st_size}
        for name, path in named.items()
        if name not in {BEGUN, MANIFEST, *without} and not name.startswith(f"{WORK}/")
    }


def write_manifest(
    folder: Path, metadata: Mapping[str, object], known: Mapping[str, Mapping[str, object]] | None = None
) -> None:
    """Write `manifest.json`: metadata, checksum and size of every file of the folder, and its own checksum.

    Args:
        folder: The dataset folder.
        metadata: The other keys of the manifest.
        known: Checksums and sizes that are known already, by name.
    """
    key, value = SIGNS["dataset"]
    manifest = {key: value, **metadata, "files": listing(folder, known or {})}
    write_json(folder / MANIFEST, {**manifest, OWN_DIGEST: digest(manifest)})


def refuse_out(out: Path, what: str, endings: Sequence[str], column: str, overwrite: bool) -> None:
    """Check that a table may be written.

    Args:
        out: The file.
        what: What it is to contain, such as "catalogue".
        endings: Allowed suffixes of its name.
        column: Suffix of a column that only such tables have.
        overwrite: Whether an earlier table may be replaced.

    Raises:
        InputError: The name has another suffix.
        NotFoundError: Its folder does not exist.
        MissingExtraError: FITS needs astropy.
        OutputExistsError: The file exists and must not be replaced.
    """
    if out.suffix not in endings:
        raise InputError(
            f"Cannot write a {what} to '{out}': unknown file type.",
            f"a name that ends in {', '.join(endings)}.",
            "Choose another --out.",
        )
    if out.suffix == ".fits":
        try:
            import_module("astropy")
        except ImportError as error:
            raise MissingExtraError(
                f"Cannot write '{out}': FITS needs astropy, which is not installed.",
                "the extra 'tables'.",
                "Run `pip install 'gzoo[tables]'`.",
            ) from error
    if not out.absolute().parent.is_dir():
        raise NotFoundError(f"Output folder not found: '{out.parent}'.", hint="Create the folder first.")
    if not out.exists():
        return
    if not _has_column(out, column):
        raise OutputExistsError(
            f"'{out}' contains something that gzoo did not make.", "a new name.", "Choose another --out."
        )
    if not overwrite:
        raise OutputExistsError(
            f"'{out}' already contains a finished {what}.",
            hint="Choose another --out, or pass --overwrite to replace it.",
        )


def _has_column(path: Path, suffix: str) -> bool:
    if not path.is_file():
        return False
    if path.suffix == ".parquet":
        try:
            return any(name.endswith(suffix) for name in pq.read_schema(path).names)
        except (OSError, pa.ArrowException):
            return False
    with path.open("rb") as file:
        return suffix.encode() in file.read(1 << 18)
