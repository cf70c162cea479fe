"""Names of images that differ from names of files: the kind of difference is named."""

from __future__ import annotations

import polars as pl
import pytest

from gzoo.images.names import HINTS, differences, hint


@pytest.mark.parametrize(
    ("name", "is_path", "files", "kind"),
    [
        ("1", False, ["000001.jpg"], "zero padding"),
        ("0", False, ["000000.jpg"], "zero padding"),
        ("J00.92+1", False, ["J0/J00.92+1.jpg", "J1/x.jpg"], "sub-folder"),
        ("1", False, ["im/1.jpg", "im/2.jpg"], "top folder"),
        ("b/1.jpg", True, ["t/b/1.jpg"], "top folder"),
        ("17", False, ["a/0017.jpg", "b/0018.jpg"], "sub-folder and zero padding"),
        ("im/1.jpg", True, ["1.jpg"], "folder prefix"),
        ("a/b/1.jpg", True, ["c/b/1.jpg", "d/2.jpg"], "folder prefix"),
        ("/data/im/1.jpg", True, ["1.jpg"], "absolute path"),
        ("~/im/1.jpg", True, ["1.jpg"], "absolute path"),
        ("https://example.org/im/1.jpg", True, ["1.jpg"], "absolute path"),
        ("C:\\im\\1.jpg", True, ["1.jpg"], "backslash and absolute path"),
        ("x\\1.jpg", True, ["x/1.jpg"], "backslash"),
        ("a.JPG", True, ["a.jpg"], "upper and lower case"),
        ("A1", False, ["a1.png"], "upper and lower case"),
        ("a.jpg", True, ["a.png"], "file type"),
        ("a.fits", True, ["a.fits.gz"], "file type"),
        ("\u00e9", False, ["e\u0301.png"], "Unicode form"),
        (" 7", False, ["7.png"], "white space"),
        ("123", False, ["gz_000123_v2.jpg", "gz_000124_v2.jpg"], "prefix or suffix"),
    ],
)
def test_the_kind_of_difference_is_named(name: str, is_path: bool, files: list[str], kind: str) -> None:
    wanted = pl.DataFrame({"name": [name], "is_path": [is_path]})
    assert differences(wanted, pl.Series(files)).row(0) == (files[0], kind)
    assert hint(kind).endswith(".")


def test_unlike_names_have_no_partner() -> None:
    wanted = pl.DataFrame({"name": ["12", "abc", "1234"], "is_path": [False, True, False]})
    found = differences(wanted, pl.Series(["zz.jpg", "13.jpg", "1235_1.jpg"]))
    assert found.rows() == [(None, None)] * 3
    assert differences(wanted, pl.Series([], dtype=pl.String)).rows() == [(None, None)] * 3


def test_every_hint_is_an_instruction() -> None:
    assert all(one.split()[0] in {"Pass", "Write", "Remove", "Correct"} for one in HINTS.values())
