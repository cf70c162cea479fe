"""Why the names of images in a table and of files differ: the kind of difference, for a message that helps."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

TOP_FOLDER, SUB_FOLDER, FOLDER, ABSOLUTE = "top folder", "sub-folder", "folder prefix", "absolute path"
UNICODE, CASE, SPACE, ZEROS = "Unicode form", "upper and lower case", "white space", "zero padding"
FILE_TYPE, AFFIX, BACKSLASH = "file type", "prefix or suffix", "backslash"

_WRITE = 'Write the names of the files in a column of the table, and add `image = "COLUMN"` to the mapping file.'
HINTS = {
    TOP_FOLDER: "Pass that folder as --images, or create the archive inside it (`tar -cf images.tar -C FOLDER .`).",
    SUB_FOLDER: "Write the paths inside --images in a column of the table, and add `image = \"COLUMN\"` to the mapping "
    "file; or pass each sub-folder as --images.",
    FOLDER: "Pass the folder that these paths start from as --images, or remove the folders from the column.",
    ABSOLUTE: "Remove everything up to the folder passed as --images from the paths in the column.",
    BACKSLASH: "Write / between folders in the column.",
    FILE_TYPE: "Correct the extension in the column.",
}  # fmt: skip
"""What to do about a kind of difference, where it is not to write the names in a column."""

_SUFFIX = r"\.[A-Za-z]{2,4}(?i:\.gz)?$"
_ABSOLUTE = r"^(?:/|~|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://)"


def differences(wanted: pl.DataFrame, files: pl.Series) -> pl.DataFrame:
    """Return the file that is most likely meant by each name without a file, and how the two differ.

    Args:
        wanted: Columns `name` (a path, or an identifier, to which an extension is added) and `is_path`.
        files: Names of files.

    Returns:
        Columns `found` (null where no file is similar) and `kind`, one row for each name; several kinds are joined by
        "and".

    >>> differences(pl.DataFrame({"name": ["17"], "is_path": [False]}), pl.Series(["J0/0017.jpg"])).row(0)
    ('J0/0017.jpg', 'top folder and zero padding')
    """
    name = pl.col("name").str.replace_all("\\", "/", literal=True)
    stem = pl.when("is_path").then(name.str.replace(_SUFFIX, "")).otherwise(name)
    left = wanted.with_columns(stem=stem).with_columns(key=_key("stem"), number=_number(stem))
    right = pl.DataFrame({"found": files}, schema={"found": pl.String}).sort("found")
    right = right.with_columns(found_stem=pl.col("found").str.replace(_SUFFIX, ""))
    right = right.with_columns(key=_key("found_stem"))
    keyed = left.join(right.unique("key", keep="first"), on="key", how="left", maintain_order="left")
    numbered = right.with_columns(number=pl.col("found_stem").str.extract_all(r"\d{3,}").list.last())
    numbered = numbered.with_columns(pl.col("number").str.strip_chars_start("0")).drop_nulls("number")
    numbered = numbered.unique("number", keep="first").select("number", affixed="found")
    both = keyed.join(numbered, on="number", how="left", maintain_order="left")
    is_affixed = pl.col("found").is_null() & pl.col("affixed").is_not_null()
    tops = files.str.extract(r"^([^/]+)/")
    has_top_folder = not tops.has_nulls() and tops.n_unique() == 1
    kinds = pl.concat_str(list(_kinds(has_top_folder)), separator=" and ", ignore_nulls=True)
    return both.select(
        found=pl.coalesce("found", "affixed"),
        kind=pl.when(is_affixed).then(pl.lit(AFFIX)).when(pl.col("found").is_not_null()).then(kinds),
    )


def _base(column: str) -> pl.Expr:
    return pl.col(column).str.extract(r"([^/]*)$")


def _key(column: str) -> pl.Expr:
    """Return what two names must have in common to be taken for one."""
    return _without_zeros(_base(column).str.normalize("NFC").str.to_lowercase().str.strip_chars())


def _without_zeros(name: pl.Expr) -> pl.Expr:
    return name.str.replace(r"^0+([0-9A-Za-z])", "$1")


def _number(name: pl.Expr) -> pl.Expr:
    return pl.when(name.str.contains(r"^\d{3,}$")).then(name.str.strip_chars_start("0"))


def _kinds(has_top_folder: bool) -> Iterator[pl.Expr]:
    """Yield each kind of difference between `stem` and `found_stem`, null where the two do not differ so."""
    yield pl.when(pl.col("name").str.contains("\\", literal=True)).then(pl.lit(BACKSLASH))
    folder, found_folder = (pl.col(one).str.extract(r"^(.*/)[^/]*$").fill_null("") for one in ("stem", "found_stem"))
    is_below_top = (found_folder != "") & (found_folder.str.replace(r"^[^/]+/", "") == folder)
    yield (
        pl.when(folder == found_folder)
        .then(None)
        .when(pl.col("name").str.contains(_ABSOLUTE))
        .then(pl.lit(ABSOLUTE))
        .when(is_below_top & has_top_folder)
        .then(pl.lit(TOP_FOLDER))
        .when(folder == "")
        .then(pl.lit(SUB_FOLDER))
        .otherwise(pl.lit(FOLDER))
    )
    own, other = _base("stem"), _base("found_stem")
    own_form, other_form = own.str.normalize("NFC"), other.str.normalize("NFC")
    yield pl.when((own != own_form).xor(other != other_form)).then(pl.lit(UNICODE))
    own, other = own_form.str.strip_chars(), other_form.str.strip_chars()
    yield pl.when((own != own_form).xor(other != other_form)).then(pl.lit(SPACE))
    yield pl.when(own.str.to_lowercase() != other.str.to_lowercase()).then(pl.lit(ZEROS))
    suffix, found_suffix = (pl.col(one).str.extract(f"({_SUFFIX})").fill_null("") for one in ("name", "found"))
    is_same_type = suffix.str.to_lowercase() == found_suffix.str.to_lowercase()
    is_other_case = _without_zeros(own) != _without_zeros(other)
    yield pl.when(is_other_case | (pl.col("is_path") & is_same_type & (suffix != found_suffix))).then(pl.lit(CASE))
    yield pl.when(pl.col("is_path") & ~is_same_type).then(pl.lit(FILE_TYPE))


def hint(kind: str) -> str:
    """Return what to do about a kind of difference, as `differences` returns it."""
    return HINTS.get(kind, _WRITE)
