"""Rows with the same image: one file under two names, or the tile that a survey serves where it has no data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import files, sky
from gzoo.dataset.open import Dataset, reading
from gzoo.dataset.schema import KEY

MIN_SEPARATION_ARCSEC = 2.0
"""Rows closer to each other are the same galaxy, which may well have the same image."""
_ROWS_AT_ONCE = 100


def digest(data: bytes) -> int:
    """Return 64 bits of the SHA-256 of an image; in a million images two different ones never have the same."""
    return digest_of(hashlib.sha256(data).hexdigest())


def digest_of(sha256: str) -> int:
    """Return the same of a SHA-256 as a hexadecimal string."""
    return int(sha256[:16] or "0", 16)


def digests(dataset: Dataset, split: str) -> pl.Series:
    """Return the digest of each row's image in the order of the split; null where it has no image.

    They are those listed in `images.parquet`. Folders without that table, such as published copies, are read.

    Raises:
        DatasetError: A file cannot be read.
    """
    listed = dataset.folder / "images.parquet"
    if listed.is_file():
        with reading(listed):
            images = pl.read_parquet(listed, columns=[*KEY, "sha256"], glob=False).unique(KEY, keep="first")
            keys = dataset.positions(split).select(KEY)
            found = keys.join(images, on=KEY, how="left", maintain_order="left")["sha256"]
        return pl.Series("digest", [None if one is None else digest_of(one) for one in found], pl.UInt64)
    values: list[int | None] = []
    for shard in files.shards(dataset.folder, split):
        with reading(shard), pq.ParquetFile(shard) as file:
            kind = file.schema_arrow.field("image").type if "image" in file.schema_arrow.names else pa.null()
            if not pa.types.is_struct(kind) or "bytes" not in [kind.field(i).name for i in range(kind.num_fields)]:
                values += [None] * file.metadata.num_rows
                continue
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=["image"], use_threads=False):
                stored = batch.column("image").field("bytes").to_pylist()
                values += [digest(one) if one else None for one in stored]
    return pl.Series("digest", values, pl.UInt64)


def repeated(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows that have the image of another row elsewhere on the sky, those with the same image together.

    Args:
        rows: Columns `digest`, `dataset_name`, `id_str`, `ra` and `dec`, and any others.
    """
    several = rows.filter(pl.col("digest").is_not_null() & (pl.len().over("digest") > 1))
    first = several.select(pl.col("ra", "dec", *KEY).first().over("digest"))
    own, other = ((one["ra"].to_numpy(), one["dec"].to_numpy()) for one in (several, first))
    is_known = sky.is_position(*own) & sky.is_position(*other)
    is_elsewhere = (several.select(KEY) != first.select(KEY)).select(pl.any_horizontal(pl.all())).to_series().to_numpy()
    is_elsewhere = is_elsewhere.copy()
    ends = (one[is_known] for one in (*own, *other))
    is_elsewhere[is_known] &= sky.separation_arcsec(*ends) > MIN_SEPARATION_ARCSEC
    several = several.with_columns(is_elsewhere=pl.Series(is_elsewhere, dtype=pl.Boolean))
    return several.filter(pl.col("is_elsewhere").any().over("digest")).drop("is_elsewhere").sort("digest", *KEY)


def description(rows: pl.DataFrame) -> str:
    """Return a sentence about the result of `repeated`; "" if there are none."""
    if rows.is_empty():
        return ""
    same = rows.filter(pl.col("digest") == rows["digest"].mode().min())
    names = " and ".join(f"'{one}'" for one in same["id_str"][:2])
    more = f" ({same.height:,} galaxies have it)" if same.height > 2 else ""
    return (
        f"{rows.height:,} galaxies have the image of another galaxy elsewhere on the sky, such as {names}{more}. "
        "Check the names of the image files."
    )


def pairs_across(numbers: Iterable[int], values: pl.Series, groups: pl.DataFrame) -> pl.DataFrame:
    """Return pairs of row numbers with equal digests, one row for each digest and group of rows.

    Args:
        numbers: Numbers of the rows.
        values: Their digests.
        groups: Columns by which rows are grouped, such as folder and split: a million rows with one image would
            otherwise be 10^12 pairs.
    """
    rows = groups.with_columns(digest=values, row=pl.Series(numbers, dtype=pl.Int64))
    rows = rows.filter(pl.col("digest").is_not_null() & (pl.len().over("digest") > 1))
    rows = rows.unique(["digest", *groups.columns], keep="first", maintain_order=True).select("digest", "row")
    return rows.join(rows, on="digest", suffix="_other").filter(pl.col("row") < pl.col("row_other"))
