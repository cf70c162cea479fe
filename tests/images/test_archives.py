"""Folders, tar and zip archives return the bytes of their files, and reject hostile entries with a reason."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
import socket
import stat
import struct
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gzoo.errors import ImageError, NotFoundError
from gzoo.images import archives
from gzoo.images.archives import open_source

KINDS = ("folder", "gnu.tar", "pax.tar", "stored.zip", "deflated.zip")
Files = dict[str, bytes]


def packed(path: Path, files: Mapping[str, bytes]) -> Path:
    """A folder or archive of these files, of the kind that its suffix says."""
    if path.suffix == ".zip":
        method = zipfile.ZIP_DEFLATED if "deflated" in path.name else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    elif path.suffix == ".tar":
        format = tarfile.PAX_FORMAT if "pax" in path.name else tarfile.GNU_FORMAT
        with tarfile.open(path, "w", format=format) as archive:
            for name, data in files.items():
                add(archive, name, data)
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        path.mkdir(exist_ok=True)
    return path


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **facts: object) -> None:
    one = tarfile.TarInfo(name)
    one.size = len(data)
    for key, value in facts.items():
        setattr(one, key, value)
    archive.addfile(one, io.BytesIO(data))


def tarred(path: Path, *members: tuple[str, bytes, dict[str, object]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data, facts in members:
            add(archive, name, data, **facts)
    return path


def zipped(path: Path, *names: str, data: bytes = b"x" * 50, **facts: object) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # of names that stand twice
        for name in names:
            one = zipfile.ZipInfo(name)
            for key, value in facts.items():
                setattr(one, key, value)
            archive.writestr(one, data)
    return path


def in_directory(path: Path, at: int, format: str, value: int, entry: int = 0) -> Path:
    """The zip archive with a number of an entry of its central directory changed."""
    data = bytearray(path.read_bytes())
    start = -1
    for _ in range(entry + 1):
        start = data.index(b"PK\1\2", start + 1)
    struct.pack_into(format, data, start + at, value)
    path.write_bytes(data)
    return path


def rejected(path: Path) -> dict[str, str]:
    """The rejected files, where there are no others."""
    _, listing, reasons = open_source(path)
    assert listing == {}
    return reasons


def why_none(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        open_source(path)
    return str(caught.value)


# --- what is held is given ----------------------------------------------------------------------------------------

parts_of_names = st.text(st.characters(exclude_characters="/\\\0:", exclude_categories=["Cs"]), min_size=1, max_size=30)
names = (
    st.lists(parts_of_names, min_size=1, max_size=3)
    .filter(lambda parts: not {".", ".."} & set(parts) and all(len(part.encode()) < 200 for part in parts))
    .map("/".join)
)


def without_clash(files: Files) -> bool:
    """Whether no file is where another one needs a folder."""
    return not any(other.startswith(f"{name}/") for name in files for other in files)


@given(st.dictionaries(names, st.binary(max_size=2000), max_size=8).filter(without_clash), st.sampled_from(KINDS))
@settings(deadline=None)
def test_any_source_returns_the_bytes_of_its_files(files: Files, kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, listing, reasons = open_source(packed(Path(folder) / kind, files))
        assert listing == {name: len(data) for name, data in files.items()}
        assert reasons == {}
        assert {name: source.read(name) for name in listing} == files
        across: archives.Source = pickle.loads(pickle.dumps(source.only(list(files)[::2])))
        assert [across.read(name) for name in list(files)[::2]] == list(files.values())[::2]


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_name_is_an_error(kind: str, tmp_path: Path) -> None:
    source, _, _ = open_source(packed(tmp_path / kind, {"a.jpg": b"a", "b.jpg": b"b"}))
    for one in (source, source.only(["b.jpg", "c.jpg"]), source.only([])):
        with pytest.raises((ImageError, FileNotFoundError)):
            one.read("c.jpg")
    if kind != "folder":
        with pytest.raises(ImageError, match=r"'a\.jpg' not found"):
            source.only(["b.jpg"]).read("a.jpg")


@pytest.mark.parametrize("kind", KINDS)
def test_many_files_with_long_names_are_found(kind: str, tmp_path: Path) -> None:
    files = {f"{'folder' * 20}/{i:05d}{'é' * 40}.jpg": f"{i}".encode() * (i % 50) for i in range(3000)}
    source, listing, _ = open_source(packed(tmp_path / kind, files))
    assert len(listing) == 3000
    for name in random.Random(0).sample(list(files), 200):
        assert source.read(name) == files[name]


def test_leading_dots_of_tar_names_are_removed(tmp_path: Path) -> None:
    source, listing, _ = open_source(packed(tmp_path / "a.tar", {"./a/b.jpg": b"b"}))
    assert listing == {"a/b.jpg": 1}
    assert source.read("a/b.jpg") == b"b"


def test_folders_in_archives_are_not_listed(tmp_path: Path) -> None:
    assert rejected(tarred(tmp_path / "a.tar", ("d", b"", {"type": tarfile.DIRTYPE}))) == {}
    assert rejected(zipped(tmp_path / "a.zip", "d/", data=b"")) == {}


def test_a_zip_archive_may_follow_a_program(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", {"a.jpg": b"data"})
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    source, _, _ = open_source(path)
    assert source.read("a.jpg") == b"data"


def test_a_zip_archive_written_to_a_pipe_is_read(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def tell(self) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", b"a" * 1000)
    (tmp_path / "a.zip").write_bytes(pipe.getvalue())
    source, _, _ = open_source(tmp_path / "a.zip")
    assert source.read("a.jpg") == b"a" * 1000


# --- hostile names ------------------------------------------------------------------------------------------------

BAD_NAMES = {
    "../a.jpg": "its path leads out of the archive",
    "a/../../b.jpg": "its path leads out of the archive",
    "a/..": "its path leads out of the archive",
    "/etc/passwd": "its path is absolute",
    "C:/a.jpg": "its path is absolute",
    "..\\a.jpg": "its path contains a backslash, which is a separator on some systems",
    "a//b.jpg": "its path is not normalised",
    "a/./b.jpg": "its path is not normalised",
}


@pytest.mark.parametrize("kind", ["a.tar", "pax.tar", "a.zip"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_paths_out_of_an_archive_are_rejected(name: str, kind: str, tmp_path: Path) -> None:
    path = packed(tmp_path / kind, {name: b"bad", "good.jpg": b"good"})
    source, listing, reasons = open_source(path)
    assert listing == {"good.jpg": 4}
    assert reasons == {name: BAD_NAMES[name]}
    with pytest.raises(ImageError):
        source.read(name)
    assert sorted(tmp_path.iterdir()) == [path]  # nothing was unpacked


def test_names_that_are_not_text_are_rejected(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_bytes(b"data")
    for path in (tmp_path / "folder", tarred(tmp_path / "a.tar", (name, b"data", {}))):
        assert list(rejected(path).values()) == ["its name is not UTF-8 text"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside.jpg", "a/../../outside.jpg", "a\0b"])
def test_nothing_beside_a_folder_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "outside.jpg").write_bytes(b"secret")
    source, _, _ = open_source(packed(tmp_path / "folder", {"a/b.jpg": b"b"}))
    with pytest.raises(ImageError, match="leads out of"):
        source.read(name)


@pytest.mark.parametrize("kind", ["a.tar", "a.zip"])
@pytest.mark.parametrize(
    "names", [("a.jpg", "b.jpg", "a.jpg"), ("a.jpg", "./a.jpg", "b.jpg"), ("a.jpg",) * 3 + ("b.jpg",)]
)
def test_a_duplicate_name_is_rejected(names: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    if kind == "a.tar":
        tarred(path, *((name, b"data", {}) for name in names))
    else:
        zipped(path, *names)
    source, listing, reasons = open_source(path)
    assert set(listing) == {"b.jpg"}
    assert list(reasons) == ["a.jpg"]
    assert "occurs more than once" in reasons["a.jpg"]
    source.read("b.jpg")
    with pytest.raises(ImageError):
        source.read("a.jpg")


# --- special files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a link to '/etc/passwd'"),
        ({"type": tarfile.LNKTYPE, "linkname": "b.jpg"}, "a link to 'b.jpg'"),
        ({"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5}, "not a regular file"),
        ({"type": tarfile.BLKTYPE}, "not a regular file"),
        ({"type": tarfile.FIFOTYPE}, "not a regular file"),
        ({"type": b"Z"}, "not a regular file"),
        ({"pax_headers": {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1000000000000"}}, "a sparse file"),
    ],
)
def test_special_files_are_rejected_in_a_tar_archive(facts: dict[str, object], reason: str, tmp_path: Path) -> None:
    assert rejected(tarred(tmp_path / "a.tar", ("a.jpg", b"", facts))) == {"a.jpg": reason}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(stat.S_IFLNK, "a link")] + [(kind, "not a regular file") for kind in (stat.S_IFCHR, stat.S_IFIFO)],
)
def test_special_files_are_rejected_in_a_zip_archive(kind: int, reason: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", "a.jpg", external_attr=(kind | 0o777) << 16)
    assert rejected(path) == {"a.jpg": reason}


def test_special_files_are_rejected_in_a_folder(tmp_path: Path) -> None:
    root = packed(tmp_path / "folder", {"real/a.jpg": b"data"})
    (root / "linked").symlink_to(root / "real")
    (root / "around").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "nothing.jpg").symlink_to(root / "gone.jpg")
    (root / "linked.jpg").symlink_to("real/a.jpg")
    os.mkfifo(root / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(root / "s"))
        source, listing, reasons = open_source(root)
    assert listing == {"real/a.jpg": 4, "linked.jpg": 4}
    assert source.read("linked.jpg") == b"data"
    assert reasons.pop("self") in ("a broken link", "cannot be read: Too many levels of symbolic links")
    assert reasons == {
        "linked": "a link to a folder",
        "around": "a link to a folder",
        "nothing.jpg": "a broken link",
        "pipe.jpg": "not a regular file",
        "s": "not a regular file",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_reported(tmp_path: Path) -> None:
    root = packed(tmp_path / "folder", {"a.jpg": b"a", "closed/b.jpg": b"b"})
    (root / "closed").chmod(0)
    _, listing, reasons = open_source(root)
    (root / "closed").chmod(0o700)
    assert listing == {"a.jpg": 1}
    assert reasons == {"closed": "cannot be read: Permission denied"}


# --- bombs --------------------------------------------------------------------------------------------------------


def test_a_zip_bomb_is_rejected(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.jpg", bytes(20_000_000))
        archive.writestr("good.jpg", bytes(range(256)) * 40)
    _, listing, reasons = open_source(tmp_path / "a.zip")
    assert list(listing) == ["good.jpg"]
    assert "20,000,000 bytes from 19," in reasons["bomb.jpg"]
    assert reasons["bomb.jpg"].startswith("a decompression bomb")


def test_a_zip_bomb_with_a_false_size_is_found_when_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.jpg", bytes(50_000_000))
    source, listing, _ = open_source(in_directory(tmp_path / "a.zip", 24, "<I", 1000))
    assert listing == {"bomb.jpg": 1000}
    with pytest.raises(ImageError, match=r"'bomb.jpg' in .* is corrupt: its checksum does not match"):
        source.read("bomb.jpg")


def test_overlapping_files_are_rejected(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", "a.jpg", "b.jpg", "c.jpg", "d.jpg", data=bytes(range(100)))
    in_directory(path, 42, "<I", 0, entry=1)  # b stands where a does
    _, listing, reasons = open_source(path)
    assert set(listing) == {"c.jpg", "d.jpg"}
    assert set(reasons) == {"a.jpg", "b.jpg"}
    for size in (20, 24):
        in_directory(path, size, "<I", 400)  # and a goes on over c, which is not its neighbour in order
    _, listing, reasons = open_source(path)
    assert "overlaps with another file" in reasons["c.jpg"]
    assert set(listing) <= {"d.jpg"}


def test_too_large_files_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1000)
    for kind in KINDS:
        path = packed(tmp_path / kind, {"large.jpg": os.urandom(1001), "good.jpg": os.urandom(1000)})
        _, listing, reasons = open_source(path)
        assert listing == {"good.jpg": 1000}
        assert reasons == {"large.jpg": "too large: 1,001 bytes (at most 1,000)"}
    source, _, _ = open_source(tmp_path / "folder")
    (tmp_path / "folder" / "good.jpg").write_bytes(bytes(2000))
    with pytest.raises(ImageError, match="too large"):
        source.read("good.jpg")


@pytest.mark.parametrize(
    ("at", "format", "value", "reason"),
    [
        (8, "<H", 1, "encrypted"),
        (8, "<H", 0x40, "encrypted"),
        (10, "<H", 12, "compressed by a method other than deflate"),
        (10, "<H", 99, "compressed by a method other than deflate"),
        (24, "<I", 49, "its two sizes differ"),
        (24, "<I", 4_000_000_000, "a decompression bomb: 4,000,000,000 bytes from 50"),
        (42, "<I", 4_000_000_000, "its offset is outside the archive"),
    ],
)
def test_unreadable_zip_members_are_rejected(at: int, format: str, value: int, reason: str, tmp_path: Path) -> None:
    path = in_directory(zipped(tmp_path / "a.zip", "a.jpg"), at, format, value)
    assert rejected(path) == {"a.jpg": reason}


# --- damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["a.tar", "pax.tar", "stored.zip", "deflated.zip"])
def test_a_truncated_archive_is_rejected(kind: str, tmp_path: Path) -> None:
    path = packed(tmp_path / kind, {f"{i}.jpg": os.urandom(700) for i in range(3)})
    data = path.read_bytes()
    end = len(data.rstrip(b"\0")) if path.suffix == ".tar" else len(data) - 1
    cuts = {0, 1, 511, 512, 513, 1024, 1535, 1536, 2048, end // 2, end - 600, end - 1, end}
    for length in sorted(cut for cut in cuts if 0 <= cut <= end):
        path.write_bytes(data[:length])
        assert f"as a {path.suffix[1:]} archive" in why_none(path), length


@pytest.mark.parametrize("kind", ["a.tar", "deflated.zip"])
def test_an_archive_that_changed_after_it_was_listed_is_found(kind: str, tmp_path: Path) -> None:
    path = packed(tmp_path / kind, {"a.jpg": os.urandom(700), "b.jpg": os.urandom(700)})
    source, _, _ = open_source(path)
    data = path.read_bytes()
    path.write_bytes(data[:900])
    with pytest.raises(ImageError, match=r"'b.jpg' in .* is corrupt"):
        source.read("b.jpg")


@pytest.mark.parametrize("kind", ["stored.zip", "deflated.zip"])
def test_corrupt_zip_members_are_found_and_the_others_are_read(kind: str, tmp_path: Path) -> None:
    files = {"a.jpg": os.urandom(700), "b.jpg": os.urandom(700)}
    path = packed(tmp_path / kind, files)
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)
    source, _, _ = open_source(path)
    with pytest.raises(ImageError, match=r"'a.jpg' in .* is corrupt"):
        source.read("a.jpg")
    assert source.read("b.jpg") == files["b.jpg"]


def test_a_zip_member_at_another_offset_is_found(tmp_path: Path) -> None:
    path = in_directory(zipped(tmp_path / "a.zip", "a.jpg", "b.jpg"), 42, "<I", 7)
    source, listing, _ = open_source(path)
    assert "a.jpg" in listing
    with pytest.raises(ImageError, match="no file starts at its offset"):
        source.read("a.jpg")


def test_a_tar_archive_with_a_corrupt_header_is_rejected(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", {"a.jpg": bytes(512), "b.jpg": bytes(512)})
    data = bytearray(path.read_bytes())
    data[1024 + 3] ^= 1
    path.write_bytes(data)
    assert "truncated or corrupt at byte 1,024" in why_none(path)


@pytest.mark.parametrize("type", [tarfile.REGTYPE, tarfile.DIRTYPE, b"Z", tarfile.GNUTYPE_LONGNAME])
def test_a_tar_member_with_a_negative_size_does_not_cause_a_loop(type: bytes, tmp_path: Path) -> None:
    one = tarfile.TarInfo("a.jpg")
    one.type = type
    header = bytearray(one.tobuf())
    header[124:136] = b"\xff" * 10 + struct.pack(">h", -512)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    if type == tarfile.DIRTYPE:
        open_source(tmp_path / "a.tar")  # a folder has no bytes, whatever it says
    else:
        assert "as a tar archive" in why_none(tmp_path / "a.tar")


def test_a_tar_header_that_declares_a_terabyte_is_rejected(tmp_path: Path) -> None:
    one = tarfile.TarInfo("a.jpg")
    one.type, one.size = tarfile.XHDTYPE, 1 << 40
    (tmp_path / "a.tar").write_bytes(one.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert "a header is too long" in why_none(tmp_path / "a.tar")


@given(st.data(), st.sampled_from(["a.tar", "pax.tar", "stored.zip", "deflated.zip"]))
@settings(deadline=None)
def test_any_bytes_are_read_or_raise_an_image_error(data: st.DataObject, kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = packed(Path(folder) / kind, {"a.jpg": b"a" * 40, f"{'long' * 40}.jpg": b"b" * 40})
        content = bytearray(path.read_bytes().rstrip(b"\0") + bytes(1024))
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(0, len(content) - 1))
            content[at] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(list(b"01237LKxgS\0"))))
        path.write_bytes(content[: data.draw(st.integers(len(content) - 30, len(content)))])
        try:
            source, listing, _ = open_source(path)
        except ImageError:
            return
        for name, size in listing.items():
            with contextlib.suppress(ImageError):
                assert len(source.read(name)) == size


# --- what is no source --------------------------------------------------------------------------------------------


def test_a_missing_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="Folder or archive not found"):
        open_source(tmp_path / "gone.zip")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.TAR.XZ", "a.tar.zst", "a.tbz2"])
def test_compressed_tar_archives_are_rejected_with_a_hint(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    assert "can only be read from its start" in why_none(tmp_path / name)


@pytest.mark.parametrize("name", ["a.rar", "a.7z", "a", "a.jpg", ".zip"])
def test_other_files_are_rejected(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"data")
    assert "is not a folder or an archive" in why_none(tmp_path / name)


@pytest.mark.parametrize("name", ["a.tar", "A.ZIP"])
def test_files_that_only_have_the_suffix_of_an_archive_are_rejected(name: str, tmp_path: Path) -> None:
    for data in (b"", b"\x1f\x8b\x08" + bytes(600), os.urandom(2000)):
        (tmp_path / name).write_bytes(data)
        assert f"as a {name[-3:].lower()} archive" in why_none(tmp_path / name)


def test_an_empty_archive_lists_nothing(tmp_path: Path) -> None:
    for kind in KINDS:
        assert rejected(packed(tmp_path / kind, {})) == {}
