"""Sources: where image files come from, a folder, a tar or a zip archive, each file at hand without unpacking.

Archives are read where they lie: what stands in them is listed once, with its place, and an image is then one read at
that place. Nothing is ever extracted to disk. What an archive may hold but no image file is (links, devices, paths
that lead out of it, encrypted files, bombs) is refused with a reason, file by file.

Compressed tar archives are refused: they can only be read from their beginning, and the rows of a dataset stand in
another order than the files of an archive. JPEG images do not get smaller by it anyway.
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

from gzoo.errors import ImageError, NotFoundError

MAX_FILE_BYTES = 256_000_000
MAX_RATIO = 200  # of a zip member's size to what is stored of it; FITS images reach 5, bombs begin at 1,000
COMPRESSED_TAR = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz)$")
EXPECTED = "A folder, a .tar or a .zip archive of images."

_MAX_TAR_HEADER = 1 << 16
_LOCAL_HEADER_BYTES = 30
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_PLACE = np.dtype([("at", "<i8"), ("stored", "<i8"), ("size", "<i8"), ("crc", "<u4"), ("method", "u1")])
_PACKED_PLACE = struct.Struct("<qqqIB")  # the same, for one file


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Where the files of an archive stand, 37 bytes each.

    Attributes:
        keys: Hashes of their names, sorted, shape (file,).
        places: First byte, bytes as stored, bytes, CRC-32, and how they are packed, shape (file,).
    """

    keys: npt.NDArray[np.uint64]
    places: npt.NDArray[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A folder or an archive of image files; opened anew for each read, so any thread or process may read.

    Attributes:
        path: The folder or archive.
        index: Where the files of an archive stand; None for a folder.
    """

    path: Path
    index: Index | None = field(default=None, repr=False)

    def read(self, name: str) -> bytes:
        """The content of the file of that name, as the listing has it.

        Raises:
            ImageError: There is none in the archive, it is damaged there, or the name leads out of the folder.
            OSError: It cannot be read.
        """
        if self.index is None:
            return self._of_folder(name)
        key = _key(name)
        i = int(np.searchsorted(self.index.keys, key))
        if i == len(self.index.keys) or self.index.keys[i] != key:
            raise ImageError(f"{self.path} has no file {name!r}.", "A file of the archive.", "Check the name.")
        at, stored, size, crc, method = self.index.places[i].item()
        is_zip = _kind(self.path) == "zip"
        with self.path.open("rb") as file:
            file.seek(at)
            if is_zip:
                header = file.read(_LOCAL_HEADER_BYTES)
                if header[:4] != b"PK\3\4" or len(header) < _LOCAL_HEADER_BYTES:
                    raise self._damaged(name, "nothing begins where it should stand")
                file.seek(sum(struct.unpack_from("<HH", header, 26)), os.SEEK_CUR)
            data = file.read(stored)
        if len(data) != stored:
            raise self._damaged(name, f"{stored - len(data):,} bytes of it are missing")
        if method == _DEFLATED:
            data = self._inflated(name, data, size)
        if is_zip and (len(data) != size or zlib.crc32(data) != crc):
            raise self._damaged(name, "its checksum is another")
        return data

    def only(self, names: Iterable[str]) -> Source:
        """The same source with no more than these files, small enough to send along with a task."""
        if self.index is None:
            return self
        is_wanted = np.isin(self.index.keys, _keys(names))
        return Source(self.path, Index(self.index.keys[is_wanted], self.index.places[is_wanted]))

    def _of_folder(self, name: str) -> bytes:
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise ImageError(f"{name!r} leads out of {self.path}.", "A file in it.", "Check the name.")
        descriptor = os.open(f"{self.path}/{name}", os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            if size > MAX_FILE_BYTES:  # it has grown since it was listed
                raise ImageError(f"{self.path / name} is {_too_large(size)}.", "An image.", "Cut out the galaxy.")
            return os.read(descriptor, size)
        finally:
            os.close(descriptor)

    def _inflated(self, name: str, data: bytes, size: int) -> bytes:
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
        except zlib.error as error:
            raise self._damaged(name, str(error)) from error

    def _damaged(self, name: str, how: str) -> ImageError:
        return ImageError(
            f"{name!r} in {self.path} is damaged: {how}.", "A whole archive, left as it is.", "Get it again."
        )


def open_source(path: Path) -> tuple[Source, dict[str, int], dict[str, str]]:
    """A folder or archive of images, listed.

    Args:
        path: A folder, a `.tar` or a `.zip` archive.

    Returns:
        The source; its files, {name: bytes}, named from the root of folder or archive with `/` between; and those that
        are refused, {name: reason}. In a folder, links to files are followed and links to folders are not; in an
        archive no links are.

    Raises:
        NotFoundError: There is no such folder or file.
        ImageError: The archive is cut off, is none, or is of another kind.
    """
    if path.is_dir():
        listing, refused = _folder(path)
        return Source(path), listing, refused
    if not path.exists():
        raise NotFoundError(f"There is no folder or archive {path}.", EXPECTED, "Check --images.")
    if COMPRESSED_TAR.search(path.name.lower()) and path.is_file():
        raise ImageError(
            f"{path} is a compressed tar archive, which can only be read from its beginning.",
            EXPECTED,
            "Uncompress it to .tar (JPEG images stay as small), or unpack it.",
        )
    kind = _kind(path)
    if kind not in ("tar", "zip") or not path.is_file():
        raise ImageError(f"{path} is no folder and no archive.", EXPECTED, "Check --images.")
    try:
        index, listing, refused = _indexed(_zip(path) if kind == "zip" else _tar(path))
    except PermissionError:
        raise
    except Exception as error:  # whatever a damaged file brings a reader to raise: the file is at fault, and is named
        raise ImageError(
            f"{path} cannot be read as a {kind} archive: {str(error).rstrip('.') or 'it is damaged'}.",
            f"A whole .{kind} archive.",
            "Get it again from where it came, or pack it again.",
        ) from error
    return Source(path, index), listing, refused


def _kind(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _key(name: str) -> np.uint64:  # not an int, which NumPy would compare as a float
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest(), "little"))


def _keys(names: Iterable[str]) -> npt.NDArray[np.uint64]:
    return np.fromiter(map(_key, names), np.uint64)


def _unsafe(name: str) -> str:
    """Why no file of an archive may bear this name, or ''."""
    path = PurePosixPath(name)
    wrongs = {
        "its name is none": not name or "\0" in name,
        "its path is absolute": path.is_absolute() or re.match(r"[A-Za-z]:", name),
        "its path leads out of the archive": ".." in path.parts,
        "its path has a backslash, which some systems take as the border of a folder": "\\" in name,
        "its path is not in its shortest form": path.as_posix() != name,
        "its name is not UTF-8 text": not _is_text(name),
    }
    return next((wrong for wrong, is_so in wrongs.items() if is_so), "")


def _is_text(name: str) -> bool:
    """Whether the name's bytes were UTF-8; what was not stands in it as lone surrogates."""
    return name.isascii() or not any(0xD800 <= ord(letter) <= 0xDFFF for letter in name)


def _as_text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _too_large(size: int) -> str:
    return f"too large: {size:,} bytes, of at most {MAX_FILE_BYTES:,}"


def _folder(root: Path) -> tuple[dict[str, int], dict[str, str]]:
    listing: dict[str, int] = {}
    refused: dict[str, str] = {}
    todo = [""]
    while todo:
        folder = todo.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:  # all of them at once, with what is known of each, take a kilobyte a file
                    name = f"{folder}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(f"{name}/")
                    elif reason := _unfit(entry, name):
                        refused[_as_text(name)] = reason
                    else:
                        listing[name] = entry.stat().st_size
        except OSError as error:
            if not folder:
                raise
            refused[_as_text(folder.rstrip("/"))] = f"cannot be read: {error.strerror}"
    return listing, refused


def _unfit(entry: os.DirEntry[str], name: str) -> str:
    """Why what stands in a folder is no file to take, or ''."""
    try:
        if not entry.is_file():
            if not entry.is_symlink():
                return "a device or pipe, no file"
            return "a link to a folder" if entry.is_dir() else "a link to nothing"
        size = entry.stat().st_size
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not _is_text(name):
        return "its name is not UTF-8 text"
    return _too_large(size) if size > MAX_FILE_BYTES else ""


# --- archives -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Member:
    """A file of an archive: its name there, where it stands, and why it is refused."""

    name: str
    at: int
    stored: int
    size: int
    crc: int = 0
    method: int = _STORED
    reason: str = ""


def _indexed(members: Iterable[_Member]) -> tuple[Index, dict[str, int], dict[str, str]]:
    """The index of a source, its listing and what is refused; of a million files 37 MB and their names."""
    keys = array("Q")
    packed = bytearray()
    listing: dict[str, int] = {}
    refused: dict[str, str] = {}
    for one in members:
        name = one.name.removeprefix("./")
        reason = _unsafe(name) or one.reason
        if not reason and one.size > MAX_FILE_BYTES:
            reason = _too_large(one.size)
        text = _as_text(name)
        if text in listing or text in refused:
            reason = "stands more than once in the archive, and which one is meant cannot be known"
            listing.pop(text, None)
        if reason:
            refused[text] = reason
        else:
            listing[text] = one.size
            keys.append(int(_key(text)))
            packed += _PACKED_PLACE.pack(one.at, one.stored, one.size, one.crc, one.method)
    order = np.argsort(keys)
    order = order[~np.isin(keys, _keys(refused))[order]]  # without those that turned out to be there twice
    index = Index(np.array(keys, np.uint64)[order], np.frombuffer(packed, _PLACE)[order])
    return index, listing, refused


class _Headers(io.FileIO):
    """A tar archive of which no more than headers are read, whatever size they declare."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_TAR_HEADER:
            raise tarfile.ReadError("a header is too long")
        return super().read(size) or b""


def _tar(path: Path) -> Iterator[_Member]:
    n_bytes = path.stat().st_size
    at = -1
    with _Headers(path) as file, tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as archive:
        while (one := archive.next()) is not None:
            archive.members = []  # pyright: ignore[reportAttributeAccessIssue]  # else every header of a million stays in memory
            if archive.offset <= at:
                raise tarfile.ReadError(f"{one.name!r} has a size below 0")
            at = archive.offset
            reason = ""
            if one.isdir():
                continue
            if one.islnk() or one.issym():
                reason = f"a link to {one.linkname[:100]!r}"
            elif not one.isreg():
                reason = "a device or pipe, no file"
            elif one.issparse():
                reason = "a file with holes"
            elif one.offset_data + one.size > n_bytes:
                raise tarfile.ReadError(f"it is cut off inside {one.name!r}")
            yield _Member(one.name, one.offset_data, one.size, one.size, reason=reason)
        file.seek(archive.offset)
        # without the mark of its end there may have been more
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"it is cut off or damaged at byte {archive.offset:,}")


def _zip(path: Path) -> Iterator[_Member]:
    n_bytes = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        listed = archive.infolist()
        overlapping = _overlapping(listed)
        for one in listed:
            if one.is_dir():
                continue
            mode = one.external_attr >> 16
            reason = ""
            if stat.S_ISLNK(mode):
                reason = "a link"
            elif stat.S_IFMT(mode) and not stat.S_ISREG(mode):
                reason = "a device or pipe, no file"
            elif one.flag_bits & 0x41:
                reason = "encrypted"
            elif one.compress_type not in (_STORED, _DEFLATED):
                reason = "packed by a method other than deflate"
            elif one.file_size > MAX_RATIO * (one.compress_size + 100):
                reason = f"{one.file_size:,} bytes out of {one.compress_size:,}: a bomb"
            elif one.compress_type == _STORED and one.file_size != one.compress_size:
                reason = "its two sizes contradict each other"
            elif not 0 <= one.header_offset < n_bytes:
                reason = "stands outside the archive"
            elif one.header_offset in overlapping:
                reason = "shares its bytes with another file of the archive: a bomb"
            stored = min(one.compress_size, MAX_FILE_BYTES)
            yield _Member(
                one.orig_filename, one.header_offset, stored, one.file_size, one.CRC, one.compress_type, reason
            )


def _overlapping(listed: Sequence[zipfile.ZipInfo]) -> set[int]:
    """Places of files that begin before an earlier one ends, and of that earlier one."""
    found: set[int] = set()
    longest, end = -1, -1
    for start, stop in sorted((one.header_offset, one.header_offset + one.compress_size) for one in listed):
        if start < end or start == longest:
            found |= {longest, start}
        if stop >= end:
            longest, end = start, stop
    return found
