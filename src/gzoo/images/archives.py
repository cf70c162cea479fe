"""Sources of image files: folders, tar archives and zip archives, read without unpacking.

The files of an archive are listed once with their offsets, and each image is then a single read at its offset. Nothing
is ever extracted to disk. Entries that are not plain files (links, devices, paths that lead out of the archive,
encrypted files, decompression bombs) are rejected one by one, each with a reason.

Compressed tar archives are not supported: they can only be read from the start, and the rows of a dataset are in
another order than the files of an archive. Compression does not make JPEG images smaller anyway.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from gzoo import files
from gzoo.errors import ImageError, NotFoundError, reason

MAX_FILE_BYTES = 256_000_000
MAX_RATIO = 200  # uncompressed to compressed size of a zip member; FITS images reach 5, bombs start at 1,000
COMPRESSED_TAR = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz)$")
EXPECTED = "a folder, a .tar or a .zip archive of images."

_MAX_TAR_HEADER = 1 << 16
_LOCAL_HEADER_BYTES = 30
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_ENTRY = np.dtype([("at", "<i8"), ("stored", "<i8"), ("size", "<i8"), ("crc", "<u4"), ("method", "u1")])
_PACKED = struct.Struct("<qqqIB")  # the same for one file


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Offsets of the files of an archive, 37 bytes each.

    Attributes:
        keys: Hashes of their names, sorted, shape (file,).
        entries: Offset, stored size, size, CRC-32 and compression method, shape (file,).
    """

    keys: npt.NDArray[np.uint64]
    entries: npt.NDArray[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Folder or archive of image files; opened for each read, so that any thread or process may read.

    Attributes:
        path: The folder or archive.
        index: Offsets of the files of an archive; None for a folder.
    """

    path: Path
    index: Index | None = field(default=None, repr=False)

    def read(self, name: str) -> bytes:
        """Return the content of a listed file.

        Raises:
            ImageError: The archive does not contain it, it is corrupt there, or the name leads out of the folder.
            OSError: It cannot be read.
        """
        if self.index is None:
            return self._read_in_folder(name)
        key = _key(name)
        i = int(np.searchsorted(self.index.keys, key))
        if i == len(self.index.keys) or self.index.keys[i] != key:
            raise ImageError(f"File {name!r} not found in '{self.path}'.")
        at, stored, size, crc, method = self.index.entries[i].item()
        is_zip = _kind(self.path) == "zip"
        with self.path.open("rb") as file:
            file.seek(at)
            if is_zip:
                header = file.read(_LOCAL_HEADER_BYTES)
                if header[:4] != b"PK\3\4" or len(header) < _LOCAL_HEADER_BYTES:
                    raise self._corrupt(name, "no file starts at its offset")
                file.seek(sum(struct.unpack_from("<HH", header, 26)), os.SEEK_CUR)
            data = file.read(stored)
        if len(data) != stored:
            raise self._corrupt(name, f"{stored - len(data):,} bytes are missing")
        if method == _DEFLATED:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
            except zlib.error as error:
                raise self._corrupt(name, reason(error)) from error
        if is_zip and (len(data) != size or zlib.crc32(data) != crc):
            raise self._corrupt(name, "its checksum does not match")
        return data

    def only(self, names: Iterable[str]) -> Source:
        """Return the same source with only these files, small enough to send to a worker."""
        if self.index is None:
            return self
        is_wanted = np.isin(self.index.keys, _keys(names))
        return Source(self.path, Index(self.index.keys[is_wanted], self.index.entries[is_wanted]))

    def _read_in_folder(self, name: str) -> bytes:
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise ImageError(f"{name!r} leads out of '{self.path}'.", "a path inside the folder.")
        descriptor = os.open(f"{self.path}/{name}", files.READ_ONLY)
        try:
            size = os.fstat(descriptor).st_size
            if size > MAX_FILE_BYTES:  # it has grown since it was listed
                raise ImageError(f"'{self.path / name}' is {_too_large(size)}.", "", "Make a cutout around the galaxy.")
            return os.read(descriptor, size)
        finally:
            os.close(descriptor)

    def _corrupt(self, name: str, how: str) -> ImageError:
        return ImageError(
            f"{name!r} in '{self.path}' is corrupt: {how}.",
            "a complete archive that does not change while it is read.",
            "Download the archive again.",
        )


def open_source(path: Path) -> tuple[Source, dict[str, int], dict[str, str]]:
    """List a folder or archive of images.

    Args:
        path: A folder, a `.tar` or a `.zip` archive.

    Returns:
        The source; its files as {path: size in bytes}, with paths relative to the root of the folder or archive and
        `/` as separator; and the rejected files as {path: reason}. In a folder, links to files are followed and links
        to folders are not; in an archive links are never followed.

    Raises:
        NotFoundError: The folder or file does not exist.
        ImageError: The file is not an archive, is truncated, or has an unsupported format.
    """
    if path.is_dir():
        listing, refused = _folder(path)
        return Source(path), listing, refused
    if not path.exists():
        raise NotFoundError(f"Folder or archive not found: '{path}'.", EXPECTED, "Check the path passed to `--images`.")
    if COMPRESSED_TAR.search(path.name.lower()) and path.is_file():
        raise ImageError(
            f"'{path}' is a compressed tar archive, which can only be read from its start.",
            EXPECTED,
            "Convert it to an uncompressed .tar (JPEG images are equally small there), or unpack it.",
        )
    kind = _kind(path)
    if kind not in ("tar", "zip") or not path.is_file():
        raise ImageError(f"'{path}' is not a folder or an archive.", EXPECTED, "Check the path passed to `--images`.")
    try:
        index, listing, refused = _indexed(_zip(path) if kind == "zip" else _tar(path))
    except PermissionError:
        raise
    except Exception as error:  # readers raise arbitrary exceptions on corrupt files
        raise ImageError(
            f"Cannot read '{path}' as a {kind} archive: {reason(error)}.",
            f"a complete .{kind} archive.",
            "Download it again, or create it again.",
        ) from error
    return Source(path, index), listing, refused


def _kind(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _key(name: str) -> np.uint64:  # not an int, which NumPy would compare as a float
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest(), "little"))


def _keys(names: Iterable[str]) -> npt.NDArray[np.uint64]:
    return np.fromiter(map(_key, names), np.uint64)


def _unsafe(name: str) -> str:
    """Return why a name is not allowed in an archive, or ''."""
    path = PurePosixPath(name)
    faults = {
        "its name is empty or contains a NUL": not name or "\0" in name,
        "its path is absolute": path.is_absolute() or re.match(r"[A-Za-z]:", name),
        "its path leads out of the archive": ".." in path.parts,
        "its path contains a backslash, which is a separator on some systems": "\\" in name,
        "its path is not normalised": path.as_posix() != name,
        "its name is not UTF-8 text": not _is_text(name),
    }
    return next((fault for fault, is_so in faults.items() if is_so), "")


def _is_text(name: str) -> bool:
    """Return whether the bytes of the name were UTF-8; invalid bytes appear in it as lone surrogates."""
    return name.isascii() or not any(0xD800 <= ord(letter) <= 0xDFFF for letter in name)


def _as_text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _too_large(size: int) -> str:
    return f"too large: {size:,} bytes (at most {MAX_FILE_BYTES:,})"


def _folder(root: Path) -> tuple[dict[str, int], dict[str, str]]:
    listing: dict[str, int] = {}
    refused: dict[str, str] = {}
    todo = [""]
    while todo:
        folder = todo.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:  # one at a time, because a list of all entries takes a kilobyte per file
                    name = f"{folder}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(f"{name}/")
                    elif fault := _fault(entry, name):
                        refused[_as_text(name)] = fault
                    else:
                        listing[name] = entry.stat().st_size
        except OSError as error:
            if not folder:
                raise
            refused[_as_text(folder.rstrip("/"))] = f"cannot be read: {error.strerror}"
    return listing, refused


def _fault(entry: os.DirEntry[str], name: str) -> str:
    """Return why an entry of a folder cannot be used, or ''."""
    try:
        if not entry.is_file():
            if not entry.is_symlink():
                return "not a regular file"
            return "a link to a folder" if entry.is_dir() else "a broken link"
        size = entry.stat().st_size
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not _is_text(name):
        return "its name is not UTF-8 text"
    return _too_large(size) if size > MAX_FILE_BYTES else ""


# --- archives -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Member:
    """File of an archive: its name and location there, and why it is rejected, if it is."""

    name: str
    at: int
    stored: int
    size: int
    crc: int = 0
    method: int = _STORED
    fault: str = ""


def _indexed(members: Iterable[_Member]) -> tuple[Index, dict[str, int], dict[str, str]]:
    """Return the index, the listing and the rejected files of an archive (37 MB and the names for a million files)."""
    keys = array("Q")
    packed = bytearray()
    listing: dict[str, int] = {}
    refused: dict[str, str] = {}
    for one in members:
        name = one.name.removeprefix("./")
        fault = _unsafe(name) or one.fault
        if not fault and one.size > MAX_FILE_BYTES:
            fault = _too_large(one.size)
        text = _as_text(name)
        if text in listing or text in refused:
            fault = "occurs more than once in the archive"
            listing.pop(text, None)
        if fault:
            refused[text] = fault
        else:
            listing[text] = one.size
            keys.append(int(_key(text)))
            packed += _PACKED.pack(one.at, one.stored, one.size, one.crc, one.method)
    order = np.argsort(keys)
    order = order[~np.isin(keys, _keys(refused))[order]]  # without names that occurred again later
    index = Index(np.array(keys, np.uint64)[order], np.frombuffer(packed, _ENTRY)[order])
    return index, listing, refused


class _Headers(io.FileIO):
    """Tar archive of which only headers are read, whatever size they declare."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_TAR_HEADER:
            raise tarfile.ReadError("a header is too long")
        return super().read(size) or b""


def _tar(path: Path) -> Iterator[_Member]:
    n_bytes = path.stat().st_size
    at = -1
    with _Headers(path) as file, tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as archive:
        while (one := archive.next()) is not None:
            archive.members = []  # pyright: ignore[reportAttributeAccessIssue]  # otherwise it keeps every header in memory
            if archive.offset <= at:
                raise tarfile.ReadError(f"{one.name!r} has a negative size")
            at = archive.offset
            fault = ""
            if one.isdir():
                continue
            if one.islnk() or one.issym():
                fault = f"a link to {one.linkname[:100]!r}"
            elif not one.isreg():
                fault = "not a regular file"
            elif one.issparse():
                fault = "a sparse file"
            elif one.offset_data + one.size > n_bytes:
                raise tarfile.ReadError(f"it is truncated inside {one.name!r}")
            yield _Member(one.name, one.offset_data, one.size, one.size, fault=fault)
        file.seek(archive.offset)
        # without its end marker the archive may have had more files
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"it is truncated or corrupt at byte {archive.offset:,}")


def _zip(path: Path) -> Iterator[_Member]:
    n_bytes = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        listed = archive.infolist()
        overlapping = _overlapping(listed)
        for one in listed:
            if one.is_dir():
                continue
            mode = one.external_attr >> 16
            fault = ""
            if stat.S_ISLNK(mode):
                fault = "a link"
            elif stat.S_IFMT(mode) and not stat.S_ISREG(mode):
                fault = "not a regular file"
            elif one.flag_bits & 0x41:
                fault = "encrypted"
            elif one.compress_type not in (_STORED, _DEFLATED):
                fault = "compressed by a method other than deflate"
            elif one.file_size > MAX_RATIO * (one.compress_size + 100):
                fault = f"a decompression bomb: {one.file_size:,} bytes from {one.compress_size:,}"
            elif one.compress_type == _STORED and one.file_size != one.compress_size:
                fault = "its two sizes differ"
            elif not 0 <= one.header_offset < n_bytes:
                fault = "its offset is outside the archive"
            elif one.header_offset in overlapping:
                fault = "overlaps with another file of the archive"
            stored = min(one.compress_size, MAX_FILE_BYTES)
            yield _Member(
                one.orig_filename, one.header_offset, stored, one.file_size, one.CRC, one.compress_type, fault
            )


def _overlapping(listed: Sequence[zipfile.ZipInfo]) -> set[int]:
    """Return the offsets of files that start before an earlier one ends, and of that earlier one."""
    found: set[int] = set()
    longest, end = -1, -1
    for start, stop in sorted((one.header_offset, one.header_offset + one.compress_size) for one in listed):
        if start < end or start == longest:
            found |= {longest, start}
        if stop >= end:
            longest, end = start, stop
    return found
