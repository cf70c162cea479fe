"""The stages of a build before shards are written: votes are read, galaxies matched with images, splits assigned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl

from gzoo import files, sky
from gzoo.dataset.finalize import Plan, ordered, write_frame, write_plan
from gzoo.dataset.shards import LABELS
from gzoo.files import Progress
from gzoo.images import names
from gzoo.images.checks import SUFFIXES
from gzoo.sky import identifier_split
from gzoo.trees.campaign import Campaign
from gzoo.trees.tree import IntArray
from gzoo.votes.label_tables import LabelTable
from gzoo.votes.reading import DROPPED_SCHEMA, RowTable, stream_votes

IMAGE_MISSING, IMAGE_UNUSED = "image missing", "no row for this image"
"""Reason for rows without an image; a known difference of names follows after a colon."""
WITHOUT_VALIDATION = "train,test"


@dataclass(frozen=True, slots=True)
class StoredVotes:
    """Summary of a vote table whose votes and rows were written to the folder of the work in progress.

    Attributes:
        n_rows: Number of rows.
        collected: Questions with votes.
        excluded: Columns that are not used.
        positions: How positions were read, as `gzoo.sky.Positions.to_dict` says; empty if the table has none.
        warnings: What is doubtful in the table, or was corrected.
    """

    n_rows: int
    collected: tuple[str, ...]
    excluded: tuple[str, ...]
    positions: Mapping[str, object]
    warnings: tuple[str, ...]


def store_votes(
    work: Path,
    path: Path,
    campaign: Campaign,
    mapping: Path | None,
    split_column: str,
    say: Progress,
    *,
    allow_bad_positions: bool,
) -> StoredVotes:
    """Read a vote table unless that was done before an interruption, and write votes, rows and unusable rows."""

    def read() -> RowTable:
        say("Reading votes", 0, 1)
        with (
            files.whole_file(work / "counts.int32") as counts_file,
            files.whole_file(work / "totals.int32") as totals_file,
        ):

            def keep(counts: IntArray, totals: IntArray) -> None:
                counts_file.write(np.ascontiguousarray(counts, np.int32).data)
                totals_file.write(np.ascontiguousarray(totals, np.int32).data)

            table = stream_votes(
                path, campaign, mapping, keep, split_column=split_column, allow_bad_positions=allow_bad_positions
            )
        say("Reading votes", 1, 1)
        return table

    return _stored(work, read)


def store_labels(work: Path, table: LabelTable) -> StoredVotes:
    """Write the labels, rows and unusable rows of a table of labels unless that was done before an interruption."""

    def read() -> RowTable:
        write_frame(work / LABELS, table.labels)
        return table

    return _stored(work, read)


def _stored(work: Path, read: Callable[[], RowTable]) -> StoredVotes:
    stored = work / "table.json"
    if not stored.is_file():
        table = read()
        write_frame(work / "rows.parquet", table.rows)
        write_frame(work / "unusable-rows.parquet", table.dropped)
        positions = table.positions.to_dict() if table.positions else {}
        found = StoredVotes(table.n_rows, table.collected, table.excluded, positions, table.warnings)
        files.write_json(stored, asdict(found))
    summary = files.read_json(stored)
    collected, excluded, doubts = (
        tuple(cast("list[str]", summary[name])) for name in ("collected", "excluded", "warnings")
    )
    positions = cast("dict[str, object]", summary["positions"])
    return StoredVotes(cast(int, summary["n_rows"]), collected, excluded, positions, doubts)


def plan_build(work: Path, listed: pl.DataFrame | None, refused: pl.DataFrame, splits: str | None) -> Plan:
    """Decide which galaxies are in the dataset, and in which order; see `write_plan`.

    Args:
        work: Folder of what `store_votes` wrote.
        listed: Columns `name`, `bytes` and `source` of all image files; None for a dataset without images.
        refused: Files that cannot be used, with the columns of `dropped.parquet`.
        splits: `WITHOUT_VALIDATION`, or None for all splits.
    """
    rows = pl.read_parquet(work / "rows.parquet", glob=False)
    unmatched = refused
    if listed is not None:
        rows, without_partner = _match(rows, listed)
        unmatched = pl.concat([without_partner, refused])
    write_frame(work / "unmatched.parquet", unmatched)
    rows, scheme, n_by_id = _with_splits(rows, splits)
    return write_plan(
        work,
        ordered(rows).drop("hash"),
        scheme=scheme,
        n_by_id=n_by_id,
        has_source_id=bool((rows["source_id"] != "").any()),
        dataset_names=sorted(rows["dataset_name"].unique()),
    )


def dropped_before_writing(work: Path) -> pl.DataFrame:
    """Return rows and images that were dropped before any image was read, with the columns of `dropped.parquet`."""
    parts = (pl.read_parquet(work / f"{name}.parquet", glob=False) for name in ("unusable-rows", "unmatched"))
    return pl.concat([pl.DataFrame(schema=DROPPED_SCHEMA), *parts])


def _match(rows: pl.DataFrame, listed: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return rows with their image, and rows and images without a partner, with the reason."""
    suffix = pl.col("name").str.to_lowercase().str.extract(r"(\.[^./]*(?:\.gz)?)$")
    images = listed.filter(suffix.is_in(SUFFIXES))
    by_name = listed.group_by("name", maintain_order=True).agg("bytes", "source", found="name")
    by_stem = (
        images.with_columns(stem=pl.col("name").str.replace(r"\.[^./]*(?i:\.gz)?$", ""))
        .group_by("stem", maintain_order=True)
        .agg("bytes", "source", found="name")
    )
    is_named = pl.col("image") != ""
    matched = pl.concat(
        [
            rows.filter(is_named).join(by_name, left_on="image", right_on="name", how="left"),
            rows.filter(~is_named).join(by_stem, left_on="id_str", right_on="stem", how="left"),
        ]
    ).with_columns(n=pl.col("found").list.len().fill_null(0))
    single = matched.filter(pl.col("n") == 1).with_columns(
        image=pl.col("found").list.first(), bytes=pl.col("bytes").list.first(), source=pl.col("source").list.first()
    )
    unused = images.join(single.select("source", name="image"), on=["name", "source"], how="anti").select(
        id_str=pl.lit(None, pl.String),
        row=pl.lit(None, pl.Int64),
        image="name",
        reason=pl.lit(IMAGE_UNUSED),
        detail=pl.lit("the table does not have a usable row for it"),
    )
    wanted = pl.when(is_named).then(pl.col("image")).otherwise(pl.col("id_str") + ".jpg, .jpeg, .png or .fits")
    missing = matched.filter(pl.col("n") == 0)
    meant = names.differences(
        missing.select(name=pl.when(is_named).then(pl.col("image")).otherwise(pl.col("id_str")), is_path=is_named),
        unused["image"],
    )
    unmatched = [
        missing.hstack(meant.rename({"found": "meant"})).select(
            "id_str",
            "row",
            image=pl.when(is_named).then(pl.col("image")),
            reason=pl.concat_str(pl.lit(IMAGE_MISSING), "kind", separator=": ", ignore_nulls=True),
            detail=pl.lit("no file ") + wanted + pl.concat_str(pl.lit("; found "), "meant").fill_null(""),
        ),
        matched.filter(pl.col("n") > 1).select(
            "id_str",
            "row",
            image=pl.when(is_named).then(pl.col("image")),
            reason=pl.lit("several images"),
            detail=pl.lit("several: ") + pl.col("found").list.join(", "),
        ),
    ]
    return single.drop("found", "n"), pl.concat([*unmatched, unused])


def misnamed(dropped: pl.DataFrame) -> tuple[str, str, str]:
    """Return how names of images in the table and of files differ: message, what was expected and a hint.

    The message is "" unless rows were dropped because the name of their image differs from that of a file in a known
    way, and all are "" where no file is left that could be meant.
    """
    differing = dropped.filter(pl.col("reason").str.starts_with(f"{IMAGE_MISSING}: "))
    if differing.is_empty():
        missing, unused = (
            dropped.filter(reason=one).sort("row", "image", nulls_last=True) for one in (IMAGE_MISSING, IMAGE_UNUSED)
        )
        if missing.is_empty() or unused.is_empty():
            return "", "", ""
        wanted = missing["detail"][0].removeprefix("no file ")
        return "", f"for example {wanted}, found {unused['image'][0]}.", names.hint("")
    kind, n = differing["reason"].value_counts(sort=True).row(0)
    kind = kind.removeprefix(f"{IMAGE_MISSING}: ")
    first = differing.filter(pl.col("reason").str.ends_with(kind)).sort("row").row(0, named=True)
    wanted, _, found = first["detail"].removeprefix("no file ").partition("; found ")
    message = f"The images of {n:,} rows were not found, because names differ in {kind}"
    return message, f"for example {wanted}, found {found}.", names.hint(kind)


def _with_splits(rows: pl.DataFrame, wanted: str | None) -> tuple[pl.DataFrame, str, int]:
    """Assign splits.

    Returns:
        Rows with `hash`, `split`, `split_number` (index into `files.SPLITS`) and `vote_row` (row of their votes); the
        name of the scheme; the number of galaxies that are split by identifier because their position is unknown.
    """
    hashes = np.array([identifier_split.place(one) for one in rows["id_str"]])
    n_by_id = 0
    if (rows["split"] != "").any():
        split_names, scheme = rows["split"].to_numpy().astype(np.str_), identifier_split.PUBLISHED
    else:
        split_names, scheme = identifier_split.split_at(hashes), identifier_split.SCHEME
        ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
        is_known = sky.is_position(ra, dec)
        n_by_id = int((~is_known).sum())
        if is_known.any():
            scheme = sky.SCHEME.name
            split_names[is_known] = sky.split(ra[is_known], dec[is_known])
    if wanted == WITHOUT_VALIDATION and scheme != identifier_split.PUBLISHED:
        split_names[split_names == "validation"], scheme = "train", scheme + identifier_split.WITHOUT_VALIDATION
    split = pl.Series(split_names)
    split_number = split.replace_strict({name: i for i, name in enumerate(files.SPLITS)}, return_dtype=pl.UInt8)
    vote_row = pl.col("row") - 1
    rows = rows.with_columns(hash=pl.Series(hashes), split=split, split_number=split_number, vote_row=vote_row)
    return rows, scheme, n_by_id
