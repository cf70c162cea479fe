"""Files and folders that are whole or not there; the layout of a dataset folder.

Work in progress lives beside its final name, as `.NAME.gzoo-partial`, and is renamed into place when it is done. It
remembers which command began it, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Generator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from gzoo.errors import (
    DatasetError,
    GZooError,
    InputError,
    MissingExtraError,
    NotFoundError,
    OutputExistsError,
    WriteError,
)

BEGUN = "begun.json"
MANIFEST = "manifest.json"
OWN_DIGEST = "manifest_sha256"  # of all else that the manifest says: a flipped byte in it is found too
INDEX = "index"  # folder of what is known of each shard's rows beside their images
WORK = "work"  # folder of what a build in progress needs and a dataset does not
SPLITS = ("train", "validation", "test", "border")
ROWS_IN_GROUP = 100  # with images, each of which must be found without reading many others
ROWS_IN_LARGE_GROUP = 10_000  # without
MAX_LETTERS = 20  # of a setting that is told in a message; a digest says nothing to people
SIMULATED = "_simulated"  # how each dataset_name ends whose galaxies never were
MARKS = {"dataset": MANIFEST, "run": "run.json", "simulation": "simulation.json", "demo": "demo.json"}
# what a mark holds, for others use such file names too
SIGNS = {
    "dataset": ("format", "gzoo-dataset-2"),
    "run": ("format", "gzoo-run-2"),
    "simulation": ("kind", "simulation"),
    "demo": ("command", "demo"),
}


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: object) -> str:
    """Hexadecimal sha256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def temporary(path: Path) -> Path:
    """A name beside a file to write it under; another for each writer, for two may make the same file at once."""
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.writing")


def remove_left_overs(folder: Path) -> None:
    """Remove what writers that were killed left under temporary names."""
    for left_over in folder.rglob(".*.writing"):
        left_over.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: Path, *, is_flushed: bool = True) -> Generator[BinaryIO]:
    """A file to write that is whole or not there.

    Args:
        path: The file.
        is_flushed: Wait until the disk has it, so that this holds through a loss of power too. Without, whoever
            writes many files flushes them all at the end.
    """
    name = temporary(path)
    try:
        with name.open("wb") as file:
            yield file
            if is_flushed:
                file.flush()
                os.fsync(file.fileno())
        name.replace(path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes, *, is_flushed: bool = True) -> None:
    """Write a file that is whole or not there; see `whole_file`."""
    with whole_file(path, is_flushed=is_flushed) as file:
        file.write(data)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file that is whole or not there; the same value gives the same bytes."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: object) -> bytes:
    """The one way in which gzoo writes a JSON value to a file."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file.

    Raises:
        DatasetError: The file is not there or holds no JSON object.
    """
    try:
        value: object = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} cannot be read: {error}.", "A JSON file that gzoo wrote.", "Make it again."
        ) from error
    if not isinstance(value, dict):
        raise DatasetError(f"{path} holds no JSON object.", "A JSON file that gzoo wrote.", "Make it again.")
    return cast("dict[str, object]", value)


@contextlib.contextmanager
def write_parquet(
    path: Path, schema: pa.Schema, *, is_flushed: bool = True, packing: str | None = None
) -> Generator[pq.ParquetWriter]:
    """A Parquet file that is whole or not there, with page checksums; the same batches give the same bytes.

    `is_flushed` as in `whole_file`. `packing` is how columns other than images are compressed, if not as follows.

    Images are compressed already: they are stored as they are, without dictionary or statistics. Votes beside them
    stand in groups so small that zstd takes its time and saves nothing.

    Yields:
        The writer. When the block has ended, its `writer.metadata` is what the file's footer says.
    """
    has_images = "image" in schema.names
    columns = [name for name in schema.names if name != "image"] + ["image.bytes", "image.path"] * has_images
    plain = [name for name in columns if name != "image.bytes"]
    method = packing or ("snappy" if has_images else "zstd")
    by_column: Any = {  # what pyarrow takes, and its stubs do not know
        "compression": {column: method if column in plain else "none" for column in columns},
        "use_dictionary": [column for column in plain if column not in {"id_str", "source_id", "image.path"}],
        "write_statistics": plain,
    }
    name = temporary(path)
    try:
        with pq.ParquetWriter(name, schema, write_page_checksum=True, **by_column) as writer:
            yield writer
        if is_flushed:
            flush(name)
        name.replace(path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Wait until the disk has a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def told(out: Path) -> Generator[None]:
    """Trouble with the disk that a dataset is written to, in plain words.

    Raises:
        WriteError: The disk is full or does not let itself be written to.
    """
    try:
        yield
    except GZooError:
        raise
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the quota is used up",
            errno.EROFS: "the disk can only be read",
            errno.EACCES: "it may not be written to",
            errno.EPERM: "it may not be written to",
        }
        known = reasons.get(error.errno or 0)
        if known is None and "No space left" in str(error):  # libraries hand over the words without the number
            known = reasons[errno.ENOSPC]
        raise WriteError(
            f"The dataset cannot be written to {out.parent.absolute()}: {known or error}.",
            "A folder that can be written to, with room for the dataset.",
            "Mend that, and give the same command again: it goes on where it was.",
        ) from error


@contextlib.contextmanager
def work(out: Path, *, kind: str, begun: Mapping[str, object], overwrite: bool = False) -> Generator[Path]:
    """A folder to make a result in, which becomes `out` when the block ends well.

    When the block ends badly the folder stays, and the same work begun again goes on in it; but not when it ends
    with an `InputError`, for then the same inputs would never do.

    Args:
        out: Where the result shall be.
        kind: What it is: a key of `MARKS`.
        begun: What determines the result (command, settings, digests of inputs). Work begun with other values is
            not resumed.
        overwrite: Replace a finished result, or unfinished work of another command.

    Yields:
        The folder of the work in progress.

    Raises:
        OutputExistsError: `out` holds a finished result and `overwrite` is False, or something gzoo did not make; or
            unfinished work of another command stands beside it.
    """
    out = out.absolute()
    refuse_occupied(out, kind=kind, overwrite=overwrite)
    partial = partial_name(out)
    marker = {"kind": kind, "digest": digest(begun), "begun": dict(begun)}
    if partial.exists():
        if not (partial / BEGUN).is_file():
            raise OutputExistsError(f"{partial} is in the way.", "No such file or folder.", "Move it away.")
        was = read_json(partial / BEGUN)
        if was.get("digest") != marker["digest"]:
            if not overwrite:
                raise OutputExistsError(
                    f"{partial} holds unfinished work of another command{_differing(was.get('begun'), begun)}.",
                    "Work begun by the same command with the same inputs, which would be resumed.",
                    "Finish that command, remove the folder, or pass --overwrite.",
                )
            shutil.rmtree(partial)
    if not partial.exists():
        fresh = partial.with_name(partial.name + ".new")  # so that a folder without its marker is never left
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        write_json(fresh / BEGUN, marker)
        fresh.replace(partial)
    remove_left_overs(partial)
    try:
        yield partial
    except InputError:
        shutil.rmtree(partial)
        raise
    old = out.with_name(f".{out.name}.gzoo-old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.replace(old)
    partial.replace(out)
    (out / BEGUN).unlink()
    shutil.rmtree(old, ignore_errors=True)


def _differing(was: object, now: Mapping[str, object]) -> str:
    """Which settings or inputs are not the same, in words."""
    if not isinstance(was, dict):
        return ""
    before = cast("dict[str, object]", was)
    names = [name for name in before | dict(now) if before.get(name) != now.get(name)]
    values = {name: str(before.get(name)) for name in names}
    told = [f"{name} ({value} then)" if len(value) <= MAX_LETTERS else name for name, value in values.items()]
    return f", with other {', '.join(told)}" if told else ""


def partial_name(out: Path) -> Path:
    """Where work in progress for `out` lives."""
    return out.with_name(f".{out.name}.gzoo-partial")


def refuse_occupied(out: Path, *, kind: str, overwrite: bool) -> None:
    """See `work`.

    Raises:
        OutputExistsError: As there.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not _is_finished(out, kind):
        raise OutputExistsError(
            f"{out} holds something that gzoo did not make as a {kind}.",
            "A new name, an empty folder, or an earlier result.",
            "Choose another --out.",
        )
    (out / BEGUN).unlink(missing_ok=True)  # whoever made it was killed between renaming and this
    if not overwrite:
        raise OutputExistsError(
            f"{out} holds a finished {kind}.", "A new name.", "Choose another --out, or pass --overwrite to replace it."
        )


def _is_finished(out: Path, kind: str) -> bool:
    """Whether a folder is a result of gzoo, of this kind."""
    key, value = SIGNS[kind]
    try:
        return read_json(out / MARKS[kind]).get(key) == value
    except DatasetError:
        return False


def shards(folder: Path, split: str, config: str = "default") -> list[Path]:
    """Parquet files of one split of a dataset folder, in order."""
    return sorted((folder / {"default": "data"}.get(config, config)).glob(f"{split}-*.parquet"))


def shard_name(split: str, i: int, n: int, config: str = "default") -> str:
    """Name of a shard inside a dataset folder."""
    return f"{shard_start(split, config)}{i:05d}-of-{n:05d}.parquet"


def index_name(shard: str) -> str:
    """Name inside a dataset folder of what lists the rows of a shard, which need not be there.

    >>> index_name("data/train-00000-of-00002.parquet")
    'index/train-00000-of-00002.parquet'
    """
    return f"{INDEX}/{shard.rpartition('/')[2]}"


def shard_start(split: str, config: str = "default") -> str:
    """How the names of a split's shards begin."""
    return f"{ {'default': 'data'}.get(config, config) }/{split}-"


def open_folder(folder: Path) -> dict[str, object]:
    """The manifest of a dataset folder.

    Raises:
        NotFoundError: There is no such folder.
        DatasetError: It is not one that gzoo finished.
    """
    if not folder.exists():
        if partial_name(folder.absolute()).exists():
            raise NotFoundError(
                f"{folder} is not finished.", "A finished dataset.", "Run the command that began it again to resume."
            )
        raise NotFoundError(f"There is no folder {folder}.", "A dataset folder.", "Make one with `gzoo build`.")
    if not (folder / MANIFEST).is_file():
        raise DatasetError(
            f"{folder} is not a dataset folder: it has no {MANIFEST}.",
            "A folder made by `gzoo build`.",
            "Check the path, or make one with `gzoo build`.",
        )
    manifest = read_json(folder / MANIFEST)
    key, value = SIGNS["dataset"]
    if manifest.get(key) != value:
        raise DatasetError(
            f"{folder / MANIFEST} says {key} {manifest.get(key)!r}.",
            f"{value}.",
            "Build it again, or use the version of gzoo that made it.",
        )
    return manifest


def listing(
    folder: Path, known: Mapping[str, Mapping[str, object]], without: Collection[str] = ()
) -> dict[str, Mapping[str, object]]:
    """Sha256 and size of every file of a dataset folder, by name; the manifest and work in progress are not listed.

    Args:
        folder: The dataset folder.
        known: Sha256 and size of files whose content was digested before, by name.
        without: Names to pass over.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in files}
    return {
        name: known.get(name) or {"sha256": sha256(path), "bytes": path.stat().st_size}
        for name, path in named.items()
        if name not in {BEGUN, MANIFEST, *without} and not name.startswith(f"{WORK}/")
    }


def write_manifest(
    folder: Path, facts: Mapping[str, object], known: Mapping[str, Mapping[str, object]] | None = None
) -> None:
    """Write `manifest.json`: the facts given, sha256 and size of every file of the folder, and its own digest.

    Args:
        folder: The dataset folder.
        facts: What the manifest says besides.
        known: Sha256 and size of files whose content was digested before, by name.
    """
    listed = listing(folder, known or {})
    key, value = SIGNS["dataset"]
    manifest = {key: value, **facts, "files": listed}
    write_json(folder / MANIFEST, {**manifest, OWN_DIGEST: digest(manifest)})


def refuse_out(out: Path, what: str, endings: Sequence[str], column: str, overwrite: bool) -> None:
    """Check that a table may be written.

    Args:
        out: The file.
        what: What it is to hold, such as "catalogue".
        endings: How its name may end.
        column: How a column's name ends that only such tables have.
        overwrite: Whether an earlier one may be replaced.

    Raises:
        InputError: The name has another ending.
        NotFoundError: There is no folder for it.
        MissingExtraError: FITS needs astropy.
        OutputExistsError: It is there, and not to be replaced.
    """
    if out.suffix not in endings:
        raise InputError(
            f"{out} is no table that gzoo writes.",
            f"A name that ends in {', '.join(endings)}.",
            "Choose another --out.",
        )
    if out.suffix == ".fits":
        try:
            import_module("astropy")
        except ImportError as error:
            raise MissingExtraError(
                f"{out} is a FITS file, and astropy, which writes it, is not installed.",
                "The extra 'tables'.",
                "Type: pip install 'gzoo[tables]'",
            ) from error
    if not out.absolute().parent.is_dir():
        raise NotFoundError(f"There is no folder {out.parent}.", "A folder for the file.", "Make it first.")
    if not out.exists():
        return
    if not _has_column(out, column):
        raise OutputExistsError(f"{out} is something that gzoo did not make.", "A new name.", "Choose another --out.")
    if not overwrite:
        raise OutputExistsError(
            f"{out} holds a finished {what}.", "A new name.", "Choose another --out, or pass --overwrite."
        )


def _has_column(path: Path, end: str) -> bool:
    if not path.is_file():
        return False
    if path.suffix == ".parquet":
        try:
            return any(name.endswith(end) for name in pq.read_schema(path).names)
        except (OSError, pa.ArrowException):
            return False
    with path.open("rb") as file:
        return end.encode() in file.read(1 << 18)
