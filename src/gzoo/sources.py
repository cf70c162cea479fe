"""Sources: where picture files come from, a folder, a tar or a zip archive, each file at hand without unpacking.

Archives are read where they lie: what stands in them is listed once, with its place, and a picture is then one read at
that place. Nothing is ever extracted to disk. What an archive may hold but no picture file is (links, devices, paths
that lead out of it, encrypted files, bombs) is refused with a reason, file by file.

Compressed tar archives are refused: they can only be read from their beginning, and the rows of a dataset stand in
another order than the files of an archive. JPEG pictures do not get smaller by it anyway.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from gzoo.errors import MissingError, PictureError

LARGEST_FILE_BYTES = 256_000_000
LARGEST_RATIO = 200  # of a zip member's size to what is stored of it; FITS pictures reach 5, bombs begin at 1,000
COMPRESSED_TAR = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz)$")
EXPECTED = "A folder, a .tar or a .zip archive of pictures."

_LARGEST_TAR_HEADER = 1 << 20
_LOCAL_HEADER_BYTES = 30
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_MEMBER = np.dtype(
    [("key", "u8"), ("at", "i8"), ("stored", "i8"), ("size", "i8"), ("crc", "u4"), ("method", "u1"), ("is_zip", "?")]
)

_Index = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A folder or an archive of picture files; opened anew for each read, so any thread or process may read.

    Attributes:
        path: The folder or archive.
        index: Places of an archive's files, 38 bytes each, sorted by a hash of the name; None for a folder.
    """

    path: Path
    index: _Index | None = field(default=None, repr=False)

    def read(self, name: str) -> bytes:
        """The content of the file of that name, as the listing has it.

        Raises:
            PictureError: There is none, or what stands in the archive is damaged or encrypted.
            OSError: It cannot be read.
        """
        if self.index is None:
            return self._of_folder(name)
        key = _key(name)
        i = int(np.searchsorted(self.index["key"], key))
        if i == len(self.index) or self.index["key"][i] != key:
            raise PictureError(f"{self.path} has no file {name!r}.", "A file of the archive.", "Check the name.")
        _, at, stored, size, crc, method, is_zip = self.index[i].item()
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            if is_zip:
                header = os.pread(descriptor, _LOCAL_HEADER_BYTES, at)
                if header[:4] != b"PK\3\4" or len(header) < _LOCAL_HEADER_BYTES:
                    raise self._damaged(name, "nothing begins where it should stand")
                at += len(header) + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            data = os.pread(descriptor, stored, at)
        finally:
            os.close(descriptor)
        if len(data) != stored:
            raise self._damaged(name, f"{stored - len(data):,} bytes of it are missing")
        if not is_zip:
            return data
        if method == _DEFLATED:
            data = self._inflated(name, data, size)
        if len(data) != size or zlib.crc32(data) != crc:
            raise self._damaged(name, "its checksum is another")
        return data

    def only(self, names: Iterable[str]) -> Source:
        """The same source with no more than these files, small enough to send along with a task."""
        if self.index is None:
            return self
        keys = np.unique(np.array([_key(name) for name in names], "u8"))
        places = np.searchsorted(self.index["key"], keys)
        is_there = places < len(self.index)
        places, keys = places[is_there], keys[is_there]
        return Source(self.path, self.index[places[self.index["key"][places] == keys]])

    def _of_folder(self, name: str) -> bytes:
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise PictureError(f"{name!r} leads out of {self.path}.", "A file in it.", "Check the name.")
        descriptor = os.open(f"{self.path}/{name}", os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            if size > LARGEST_FILE_BYTES:  # it has grown since it was listed
                raise PictureError(
                    f"{self.path / name} is {_too_large(size)}.", "A picture of one galaxy.", "Cut it out."
                )
            return os.read(descriptor, size)
        finally:
            os.close(descriptor)

    def _inflated(self, name: str, data: bytes, size: int) -> bytes:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            return inflater.decompress(data, size + 1)
        except zlib.error as error:
            raise self._damaged(name, str(error)) from error

    def _damaged(self, name: str, how: str) -> PictureError:
        return PictureError(
            f"{name!r} in {self.path} is damaged: {how}.", "A whole archive, left as it is.", "Get it again."
        )


def open_source(path: Path) -> tuple[Source, dict[str, int], dict[str, str]]:
    """A folder or archive of pictures, listed.

    Args:
        path: A folder, a `.tar` or a `.zip` archive.

    Returns:
        The source; its files, {name: bytes}, named from the root of folder or archive with `/` between; and those that
        are refused, {name: reason}. Links to folders are not followed in a folder, and no links at all in an archive.

    Raises:
        MissingError: There is no such folder or file.
        PictureError: The archive is cut off, is none, or is of another kind.
    """
    if path.is_dir():
        listing, refused = _folder(path)
        return Source(path), listing, refused
    if not path.exists():
        raise MissingError(f"There is no folder or archive {path}.", EXPECTED, "Check --images.")
    name = path.name.lower()
    if COMPRESSED_TAR.search(name) and path.is_file():
        raise PictureError(
            f"{path} is a compressed tar archive, which can only be read from its beginning.",
            EXPECTED,
            "Uncompress it to .tar (JPEG pictures stay as small), or unpack it.",
        )
    if not name.endswith((".tar", ".zip")) or not path.is_file():
        raise PictureError(f"{path} is no folder and no archive.", EXPECTED, "Check --images.")
    kind = name[-3:]
    try:
        members = _Members()
        for one in _zip(path) if kind == "zip" else _tar(path):
            members.add(one)
        index, listing = members.index()
    except OSError:
        raise
    except Exception as error:  # whatever a damaged file brings a reader to raise: the file is at fault, and is named
        raise _broken(path, kind, str(error)) from error
    return Source(path, index), listing, members.refused


@dataclass(frozen=True, slots=True)
class _Member:
    """A file of an archive: its name there, where it stands, and why it is refused."""

    name: str
    at: int = 0
    stored: int = 0
    size: int = 0
    crc: int = 0
    method: int = _STORED
    is_zip: bool = False
    reason: str = ""


class _Members:
    """The files of an archive that are taken, and those that are refused."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self._listing: dict[str, int] = {}
        self._blocks: list[_Index] = []
        self._rows: list[tuple[int, ...]] = []
        self._gone: set[int] = set()

    def add(self, one: _Member) -> None:
        name = one.name.removeprefix("./")
        text = name.encode("utf-8", "replace").decode()
        reason = _unsafe(name) or one.reason
        if one.size > LARGEST_FILE_BYTES:
            reason = reason or _too_large(one.size)
        if text in self._listing or text in self.refused:
            reason = "stands more than once in the archive, and which one is meant cannot be known"
        if reason:
            self.refused[text] = reason
            if self._listing.pop(text, None) is not None:
                self._gone.add(_key(text))
        else:
            self._listing[text] = one.size
            self._rows.append((_key(text), one.at, one.stored, one.size, one.crc, one.method, one.is_zip))
            if len(self._rows) == 10_000:  # as tuples they take ten times the memory
                self._pack()

    def index(self) -> tuple[_Index, dict[str, int]]:
        self._pack()
        index = np.concatenate(self._blocks)
        index = index[~np.isin(index["key"], np.array(list(self._gone), "u8"))]
        return index[np.argsort(index["key"])], self._listing

    def _pack(self) -> None:
        self._blocks.append(np.array(self._rows, _MEMBER))
        self._rows.clear()


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _unsafe(name: str) -> str:
    """Why no file may bear this name, or ''."""
    path = PurePosixPath(name)
    wrongs = {
        "its name is none": not name or "\0" in name,
        "its path is absolute": path.is_absolute() or re.match(r"[A-Za-z]:", name),
        "its path leads out of the archive": ".." in path.parts,
        "its path has a backslash, which some systems take as the border of a folder": "\\" in name,
        "its path is not in its shortest form": path.as_posix() != name,
        "its name is not UTF-8 text": any(0xD800 <= ord(letter) <= 0xDFFF for letter in name),
    }
    return next((wrong for wrong, is_so in wrongs.items() if is_so), "")


def _too_large(size: int) -> str:
    return f"too large: {size:,} bytes, of at most {LARGEST_FILE_BYTES:,}"


def _broken(path: Path, kind: str, said: str) -> PictureError:
    return PictureError(
        f"{path} cannot be read as a {kind} archive: {said.rstrip('.') or 'it is damaged'}.",
        f"A whole .{kind} archive.",
        "Get it again from where it came, or pack it again.",
    )


def _folder(root: Path) -> tuple[dict[str, int], dict[str, str]]:
    listing: dict[str, int] = {}
    refused: dict[str, str] = {}
    todo = [""]
    while todo:
        folder = todo.pop()
        try:
            entries = list(os.scandir(root / folder))
        except OSError as error:
            if not folder:
                raise
            refused[os.fsencode(folder).decode("utf-8", "replace")] = f"cannot be read: {error.strerror}"
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                todo.append(f"{folder}{entry.name}/")
            elif entry.is_file():
                # a name that is no text can be told in dropped.parquet, but no table can name it
                name = os.fsencode(f"{folder}{entry.name}").decode("utf-8", "replace")
                size = entry.stat().st_size
                if size > LARGEST_FILE_BYTES:
                    refused[name] = _too_large(size)
                else:
                    listing[name] = size
    return listing, refused


# --- tar ----------------------------------------------------------------------------------------------------------


class _Headers(io.FileIO):
    """A tar archive of which no more than headers are read, whatever size they declare."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LARGEST_TAR_HEADER:
            raise tarfile.ReadError("a header is too long")
        return super().read(size) or b""


def _tar(path: Path) -> Iterator[_Member]:
    n_bytes = path.stat().st_size
    with _Headers(path) as file, tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as archive:
        while (one := archive.next()) is not None:
            archive.members = []  # pyright: ignore[reportAttributeAccessIssue]  # else every header of a million stays in memory
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


# --- zip ----------------------------------------------------------------------------------------------------------


def _zip(path: Path) -> Iterator[_Member]:
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
            elif one.file_size > LARGEST_RATIO * (one.compress_size + 100):
                reason = f"{one.file_size:,} bytes out of {one.compress_size:,}: a bomb"
            elif one.compress_type == _STORED and one.file_size != one.compress_size:
                reason = "its two sizes contradict each other"
            elif one.orig_filename != one.filename:
                reason = "its name has a zero byte"
            elif one.header_offset in overlapping:
                reason = "shares its bytes with another file of the archive: a bomb"
            stored = min(one.compress_size, LARGEST_FILE_BYTES)
            yield _Member(
                one.orig_filename, one.header_offset, stored, one.file_size, one.CRC, one.compress_type, True, reason
            )


def _overlapping(listed: Sequence[zipfile.ZipInfo]) -> set[int]:
    """Places of files that begin before another one ends, and of that other one."""
    spans = sorted((one.header_offset, one.header_offset + one.compress_size) for one in listed)
    found: set[int] = set()
    for (start, stop), (later, _) in zip(spans, islice(spans, 1, None), strict=False):
        if later < stop or later == start:
            found |= {start, later}
    return found
