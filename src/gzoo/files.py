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
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import locks
from gzoo.errors import (
    DatasetError,
    GZooError,
    InputError,
    NotFoundError,
    OutputExistsError,
    WriteError,
    raise_passing,
    reason,
)

if TYPE_CHECKING:
    from polars import DataFrame

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
MARKS = {
    "catalogue": "catalogue.json",
    "dataset": MANIFEST,
    "run": "run.json",
    "simulation": "simulation.json",
    "demo": "demo.json",
    "encoder": "config.json",
    "site": "site.json",
}
"""The file that marks a folder as a finished result of each kind."""
SIGNS = {
    "catalogue": ("kind", "catalogue"),
    "dataset": ("format", "gzoo-dataset-2"),
    "run": ("format", "gzoo-run-2"),
    "simulation": ("kind", "simulation"),
    "demo": ("command", "demo"),
    "encoder": ("exported_by", "gzoo"),
    "site": ("kind", "site"),
}
"""A key and value in that file, because other programs use the same file names."""
PARTS = {
    "dataset": (f"{WORK}/shard-*.json", MANIFEST),
    "run": ("last.ckpt", "previous.ckpt"),
    "simulation": ("images/*.jpg",),
    "demo": ("simulation/*",),
    "encoder": (),
}
"""Patterns of the files that show that a part of the work is finished, which is then kept after every error."""
FIRST_LINES = {
    "catalogue": r"dataset_name,id_str,ra,dec,source_id,.*_posterior_mean",
    "list of outliers": r"dataset_name,id_str,.*distance,mahalanobis,",
    "list of similar galaxies": r"dataset_name,id_str,score(,|$)",
    "list of volunteers": r"volunteer,n_classifications,is_anonymous,",
    "mapping": r"# Mapping file for gzoo",
    "ranking": r"dataset_name,id_str,n_votes,\w+,question,subtree$",
    "selection": r"dataset_name,id_str,split(,|$)",
    "table of leaks": r"what,.*other_id_str",
    "table of matches": r"fate,matched_by,separation_arcsec,",
}
"""What the first line of a text file of each kind begins with, because text files have no place for a mark."""


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
        if left_over.suffix in {".writing", locks.SUFFIX}:
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


@contextlib.contextmanager
def write_parquet(
    path: Path, schema: pa.Schema, *, is_flushed: bool = True, compression: str | None = None
) -> Generator[pq.ParquetWriter]:
    """Write a Parquet file with page checksums and page index as `whole_file` does; the same batches, the same bytes.

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
        with pq.ParquetWriter(name, schema, write_page_checksum=True, write_page_index=True, **by_column) as writer:
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
def disk_errors(out: Path, kind: str = "dataset") -> Generator[None]:
    """Explain errors of the disk that a result is written to.

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
            f"Cannot write the {kind} to '{out.parent.absolute()}': {known or reason(error)}.",
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
    with locks.locked(out, str(begun.get("command", kind)), wait, progress):
        if old.exists() and not out.exists():  # the process was killed while it replaced an earlier result
            old.replace(out)
        refuse_occupied(out, kind=kind, overwrite=overwrite)  # again, because another run may have ended by now
        is_new = _begin(partial, {"kind": kind, "digest": digest(begun), "begun": dict(begun)}, overwrite)
        try:
            yield partial
        except Exception as error:
            parts = PARTS.get(kind, ()) if isinstance(error, InputError) else ("*",)
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


@contextlib.contextmanager
def work_on_file(
    out: Path,
    *,
    begun: Mapping[str, object],
    overwrite: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
) -> Generator[Path]:
    """Create a folder for the parts of a file, which the block itself writes at its end; see `work`.

    Yields:
        The folder, which is removed when the block ends without an error, and otherwise kept for the same work.

    Raises:
        OutputExistsError: There is unfinished work of another command.
        BusyError: Another run writes `out`, and `wait` is False.
    """
    partial = partial_name(out.absolute())
    with locks.locked(out.absolute(), str(begun.get("command", "")), wait, progress):
        is_new = _begin(partial, {"kind": "file", "digest": digest(begun), "begun": dict(begun)}, overwrite)
        try:
            yield partial
        except Exception:
            if is_new and not _has_part(partial, ("*",)):
                _remove(partial)
            raise
        _remove(partial)


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
        InputError: It is inside a dataset folder.
        OutputExistsError: It is another result, or one that must not be replaced.
    """
    for one in out.resolve().parents:
        if _is_finished(one, "dataset"):
            _refuse_inside(out, one, "--out")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    is_own = _is_finished(out, kind)
    if not is_own and not out.exists():  # another run is replacing it right now
        return
    if is_own:
        (out / BEGUN).unlink(missing_ok=True)  # left if the process was killed between renaming and removing
        if not overwrite:
            _tidy(out)
    _refuse_taken(out, kind, is_own, overwrite, f"a new name, an empty folder, or an earlier {kind}.", "--out")


def _refuse_inside(out: Path, folder: Path, option: str) -> NoReturn:
    raise InputError(
        f"'{out}' is inside the dataset folder '{folder}'.",
        "a name outside it, because its manifest lists every file.",
        f"Choose another {option}.",
    )


def _refuse_taken(out: Path, kind: str, is_own: bool, overwrite: bool, expected: str, option: str) -> None:
    """Refuse to replace what gzoo did not make, and to replace an earlier result without `overwrite`."""
    if not is_own:
        raise OutputExistsError(f"'{out}' is not a {kind} that gzoo made.", expected, f"Choose another {option}.")
    if not overwrite:
        raise OutputExistsError(
            f"'{out}' already contains a finished {kind}.",
            hint=f"Choose another {option}, or pass --overwrite to replace it.",
        )


def refuse_file(
    path: Path,
    kind: str,
    endings: Collection[str],
    *,
    overwrite: bool,
    inputs: Iterable[Path | str | None] = (),
    option: str = "--out",
) -> None:
    """Check, before any work, that a file may be written.

    Args:
        path: The file.
        kind: What it is to contain, such as "catalogue". An earlier file of this kind is known by its mark, see `mark`.
        endings: Allowed suffixes of its name.
        overwrite: Whether an earlier file of this kind may be replaced. Other files never are.
        inputs: Files that are read, and dataset folders, in which every file is listed; None is ignored.
        option: The option that names the file, for messages.

    Raises:
        InputError: The name has another suffix, or the file is an input or inside a dataset folder.
        NotFoundError: Its folder does not exist.
        OutputExistsError: The file exists and must not be replaced.
    """
    if path.suffix not in endings:
        raise InputError(
            f"Cannot write a {kind} to '{path}': unknown file type.",
            f"a name that ends in {', '.join(endings)}.",
            f"Choose another {option}.",
        )
    place = path.resolve()
    for one in map(Path, filter(None, inputs)):
        if place == one.resolve():
            raise InputError(f"'{path}' is also an input.", "a new name.", f"Choose another {option}.")
        if place.is_relative_to(one.resolve()):
            _refuse_inside(path, one, option)
    if not path.absolute().parent.is_dir():
        raise NotFoundError(
            f"Output folder not found: '{path.parent}'.", hint=f"Create the folder, or choose another {option}."
        )
    if path.exists():
        _refuse_taken(path, kind, _has_mark(path, kind), overwrite, f"a new name, or an earlier {kind}.", option)


def refuse_report(path: Path | str | None, inputs: Iterable[Path | str | None], overwrite: bool) -> None:
    """Check that an HTML page may be written, if one is asked for; see `refuse_file`."""
    if path is not None:
        refuse_file(Path(path), "report", (".html",), overwrite=overwrite, inputs=inputs, option="--report")


def mark(kind: str) -> str:
    """Return the text by which a file of a kind is known: HTML, images and FITS contain it.

    Parquet has the kind in its metadata (see `write_table`); CSV and TOML begin with one of `FIRST_LINES`.

    >>> mark("report")
    'gzoo: report'
    """
    return f"gzoo: {kind}"


def _has_mark(path: Path, kind: str) -> bool:
    try:
        if path.suffix == ".parquet":
            metadata: object = json.loads((pq.read_schema(path).metadata or {}).get(b"gzoo", b"{}"))
            return isinstance(metadata, dict) and cast("dict[str, object]", metadata).get("kind") == kind
        with path.open("rb") as file:
            start = file.read(1 << 16)
    except (OSError, ValueError) as error:  # a folder, or not a Parquet file
        raise_passing(path, error)
        return False
    if path.suffix in {".csv", ".toml"}:
        return bool(re.match(FIRST_LINES[kind], start.partition(b"\n")[0].decode("utf-8", "replace")))
    return mark(kind).encode() in start


def write_table(path: Path, table: DataFrame, kind: str, metadata: Mapping[str, object] | None = None) -> None:
    """Write a table as Parquet with metadata or, if the name ends in `.csv`, as CSV.

    Args:
        path: The file.
        table: Its content.
        kind: What it contains; see `refuse_file`.
        metadata: What else its schema says, under the key `gzoo`.
    """
    if path.suffix == ".csv":
        with whole_file(path) as file:
            table.write_csv(file)
        return
    write_tables(path, table.iter_slices(1 << 20) if table.height else [table], kind, metadata)


def write_tables(
    path: Path, tables: Iterable[DataFrame], kind: str, metadata: Mapping[str, object] | None = None
) -> None:
    """Write tables with the same columns as one Parquet file with a row group for each; see `write_table`."""
    about = json.dumps({**(metadata or {}), "kind": kind}, sort_keys=True)
    with contextlib.ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for table in tables:
            arrow = table.to_arrow()
            schema = pa.schema([(one.name, _plain(one.type)) for one in arrow.schema], {"gzoo": about})
            writer = writer or stack.enter_context(write_parquet(path, schema))
            writer.write_table(arrow.cast(schema))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return a type of Arrow without 64-bit offsets and dictionaries, which not all readers know."""
    if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind):
        return pa.string()
    return pa.list_(_plain(kind.value_type)) if pa.types.is_large_list(kind) else kind


def _tidy(out: Path) -> None:
    """Remove what a run left beside its result if it was killed at the very end."""
    lock, old = locks.lock_name(out), _old_name(out)
    if lock.exists() or old.exists():
        with contextlib.suppress(OSError), locks.held(lock, timeout=0):  # held by others: it is not left
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
