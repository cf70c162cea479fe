"""Build: votes (or raw classifications) and pictures become a dataset folder; nothing is lost without a reason."""

from __future__ import annotations

import hashlib
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
from PIL import Image

from gzoo import card, schema, splits, store, zooniverse
from gzoo.auditing import audit_votes
from gzoo.campaign import Campaign
from gzoo.campaign import campaign as campaign_of
from gzoo.clicks import Ingest
from gzoo.errors import InputError, MissingError, PictureError, TableError
from gzoo.images import SUFFIXES, check_picture
from gzoo.votes import DROPPED_SCHEMA, VoteTable, read_votes

SHARD_BYTES = 450_000_000
TINY_SHARE, TINY_LEAST = 0.01, 16
CHECKED_SCHEMA = {"sha256": pl.String, "bytes": pl.Int64, "width": pl.Int64, "height": pl.Int64, "problem": pl.String}

Progress = Callable[[str, int, int], None]
"""Called as (stage, done, total)."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build made.

    Attributes:
        folder: The dataset folder.
        n_galaxies: Rows by split.
        n_dropped: Rows and pictures left out, by reason.
        n_breaks: Rows in which some question has more votes than the answers that lead to it.
        doubts: What the votes say against the tree or the names of columns (see `gzoo.audit`), by question.
        left_out: Columns of the table that play no part in the dataset.
        ingest: What became of every classification, where votes were counted from an export.
    """

    folder: Path
    n_galaxies: Mapping[str, int]
    n_dropped: Mapping[str, int]
    n_breaks: int
    doubts: Mapping[str, str]
    left_out: tuple[str, ...]
    ingest: Ingest | None = None


def build(
    campaign: str,
    *,
    votes: Path | str | None = None,
    images: Path | str,
    out: Path | str,
    columns: Path | str | None = None,
    classifications: Path | str | None = None,
    workflows: Path | str | None = None,
    tasks: Path | str | None = None,
    weights: bool = False,
    report: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Built:
    """A dataset folder from votes, or from raw classifications, and a folder of pictures.

    Rows stand in the order of a hash of their identifier, which also decides their split (`gzoo.splits`). The same
    inputs give the same bytes. Picture bytes are those of the source files.

    Args:
        campaign: Name of the campaign, whose tree and record the dataset follows.
        votes: Table of whole counts: CSV, Parquet, FITS, VOTable or ECSV.
        images: Folder of JPEG or PNG pictures.
        out: The folder to make.
        columns: Mapping file, for a table with column names of its own (see GUIDE.md).
        classifications: Zooniverse classification export to count, in place of `votes` (see `gzoo.count`).
        workflows: The workflow export that goes with it.
        tasks: Mapping file of its tasks and answers.
        weights: Whether to write weighted fractions beside the counts, as `weighted.parquet`.
        report: HTML page of what became of every classification, to write.
        overwrite: Replace an earlier dataset at `out`.
        progress: Called as the work goes on.

    Raises:
        MissingError: The campaign, table or folder is not there.
        TableError: The table cannot be used, or no row is left.
        InputError: Neither votes nor classifications are given, or both.
        OccupiedError: `out` is taken.
    """
    facts = campaign_of(campaign)
    images, out = Path(images), Path(out)
    columns, page = (Path(one) if one else None for one in (columns, report))
    source = _source(votes, columns, classifications, workflows, tasks, weights, page)
    say = progress or _silent
    if page:
        zooniverse.refuse_occupied(page, overwrite=overwrite)
    store.refuse_occupied(out.absolute(), kind="dataset", overwrite=overwrite)
    if not images.is_dir():
        raise MissingError(f"There is no folder {images}.", "A folder of pictures.", "Check --images.")
    table = None
    if isinstance(source, Path):
        say("reading votes", 0, 1)
        table = read_votes(source, facts, columns)
        say("reading votes", 1, 1)
    listing = _listing(images)
    inputs = _inputs(source, columns)
    begun = {
        "command": "build",
        "campaign": campaign,
        **{role: one["sha256"] if one else None for role, one in inputs.items()},
        "weights": weights,
        "images": store.digest([[name, size] for name, size in sorted(listing.items())]),
    }
    with store.work(out, kind="dataset", begun=begun, overwrite=overwrite) as partial:
        read = None
        if table is None:
            assert not isinstance(source, Path)
            read = zooniverse.ingest(source, facts, progress=say)
            zooniverse.write_votes(partial / "counted.parquet", read)
            table = read_votes(partial / "counted.parquet", facts)
        rows, dropped = _match(table, listing)
        checked = _checked(partial, images, rows["image"].to_list(), say)
        rows = rows.with_columns(checked).with_row_index("place")
        dropped = pl.concat([dropped, _pictures_dropped(rows)])
        rows = rows.filter(pl.col("problem") == "")
        if rows.height == 0:
            raise TableError(
                f"No row of {votes or classifications} is left: {_reasons(dropped)}.",
                "At least one row with whole counts and a sound picture.",
                "Check that --images is the right folder and that picture names fit the table.",
            )
        rows = rows.with_columns(
            hash=pl.Series([splits.place(one) for one in rows["id_str"]]),
            split=pl.Series([splits.split_of(one) for one in rows["id_str"]]),
        ).sort("hash", "dataset_name", "id_str")
        parts = _parts(rows)
        _write_shards(partial, facts, table, parts, images, say)
        dropped = dropped.sort("row", "picture", nulls_last=True)
        with store.write_parquet(partial / "dropped.parquet", _dropped_arrow()) as writer:
            writer.write_table(dropped.to_arrow().cast(_dropped_arrow()))
        manifest = _facts(facts, table, rows, parts, dropped, inputs)
        say("auditing", 0, 1)
        used = rows["place_in_votes"].sort().to_numpy()
        judgements, _ = audit_votes(table.votes.take(used), table.rows["id_str"].gather(used))
        manifest["audit"] = {one.question: one.facts() for one in judgements}
        say("auditing", 1, 1)
        if read:
            manifest["ingest"] = read.ingest.facts()
            if weights:
                zooniverse.write_weighted(partial / "weighted.parquet", read, rows.select("id_str", "dataset_name"))
            (partial / "counted.parquet").unlink()
        store.write_bytes(partial / "README.md", card.text(facts, manifest, partial).encode())
        (partial / "checked.parquet").unlink()
        store.write_manifest(partial, manifest)
    if read and page:
        store.write_bytes(page, zooniverse.page(read))
    n_dropped = {str(reason): int(n) for reason, n in _counted(dropped["reason"]).items()}
    n_galaxies = {split: part.height for (config, split), part in parts.items() if config == "default"}
    n_breaks = cast(int, manifest["n_rows_breaking_tree"])
    doubts = {one.question: one.says for one in judgements if one.is_doubtful}
    return Built(out, n_galaxies, n_dropped, n_breaks, doubts, table.left_out, read.ingest if read else None)


def _source(
    votes: Path | str | None,
    columns: Path | None,
    classifications: Path | str | None,
    workflows: Path | str | None,
    tasks: Path | str | None,
    weights: bool,
    report: Path | None,
) -> Path | zooniverse.Source:
    """Where votes come from: a table of them, or an export of classifications."""
    if (votes is None) == (classifications is None):
        raise InputError(
            "Both --votes and --classifications are given." if votes else "There is nothing to take votes from.",
            "One of --votes TABLE and --classifications EXPORT.",
            "Leave one of them out." if votes else "Give one of them.",
        )
    if votes is not None:
        for name, value in (("workflows", workflows), ("tasks", tasks), ("weights", weights), ("report", report)):
            if value:
                raise InputError(
                    f"--{name} says something of classifications, and votes come from {votes}.",
                    f"--{name} only beside --classifications.",
                    "Leave it out.",
                )
        return Path(votes)
    if columns is not None:
        raise InputError(
            "--columns says something of a table of votes, and votes are counted from classifications.",
            "--tasks beside --classifications.",
            "Leave it out.",
        )
    assert classifications is not None
    return zooniverse.Source(
        Path(classifications), Path(workflows) if workflows else None, Path(tasks) if tasks else None, weights
    )


def _inputs(source: Path | zooniverse.Source, columns: Path | None) -> dict[str, dict[str, str] | None]:
    """Role -> name and digest of each file that votes come from."""
    if isinstance(source, Path):
        files = {"votes": source, "columns": columns}
    else:
        files = {"classifications": source.classifications, "workflows": source.workflows, "tasks": source.tasks}
    for path in files.values():
        if path is not None and not path.is_file():
            raise MissingError(f"There is no file {path}.", "A file.", "Check the path.")
    return {role: {"name": path.name, "sha256": store.sha256(path)} if path else None for role, path in files.items()}


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _listing(images: Path) -> dict[str, int]:
    """Files in the folder and those below it: path from the folder -> bytes. Links to folders are not followed."""
    found: dict[str, int] = {}
    for folder, _, names in os.walk(images):
        for name in names:
            path = Path(folder) / name
            if path.is_file():
                # a name that is no text can be told in dropped.parquet, but no table can name it
                text = os.fsencode(path.relative_to(images).as_posix()).decode("utf-8", "replace")
                found[text] = path.stat().st_size
    return found


def _match(table: VoteTable, listing: Mapping[str, int]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Each row with its picture; and everything that has no partner, with the reason."""
    by_stem: dict[str, list[str]] = {}
    for name in sorted(listing):
        path = PurePosixPath(name)
        if path.suffix.lower() in SUFFIXES:
            by_stem.setdefault(path.with_suffix("").as_posix(), []).append(name)
    names: list[str | None] = []
    lost: list[dict[str, object]] = []
    for row, id_str, image in table.rows.select("row", "id_str", "image").iter_rows():
        found = [image] if image in listing else [] if image else by_stem.get(id_str, [])
        names.append(found[0] if len(found) == 1 else None)
        if len(found) != 1:
            what = f"no file {image or id_str + '.jpg, .jpeg or .png'}" if not found else f"several: {', '.join(found)}"
            reason = "picture missing" if not found else "several pictures"
            lost.append({"id_str": id_str, "row": row, "picture": image or None, "reason": reason, "detail": what})
    rows = table.rows.with_columns(image=pl.Series(names, dtype=pl.String), place_in_votes=pl.int_range(pl.len()))
    taken = {name for name in names if name}
    for name in sorted(set(listing) - taken):
        if name.lower().endswith(SUFFIXES):
            reason, detail = "no row for this picture", "the vote table has no usable row for it"
            lost.append({"id_str": None, "row": None, "picture": name, "reason": reason, "detail": detail})
    dropped = pl.concat([table.dropped, pl.DataFrame(lost, schema=DROPPED_SCHEMA)])
    return rows.filter(pl.col("image").is_not_null()), dropped


def _checked(partial: Path, images: Path, names: Sequence[str], say: Progress) -> pl.DataFrame:
    """What each picture is, shape (picture,) with columns `CHECKED_SCHEMA`; kept for a resumed build."""
    kept = partial / "checked.parquet"
    if kept.is_file():
        return pl.read_parquet(kept, glob=False)

    def check(name: str) -> tuple[str, int, int, int, str]:
        try:
            data = (images / name).read_bytes()
        except OSError as error:
            return "", 0, 0, 0, f"cannot be read: {error.strerror}"
        try:
            facts = check_picture(data)
        except PictureError as error:
            return "", len(data), 0, 0, str(error)
        return hashlib.sha256(data).hexdigest(), len(data), facts.width, facts.height, ""

    found: list[tuple[str, int, int, int, str]] = []
    # Pillow's warning of large pictures is an error of ours; the filter is set here, for it is of all threads
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for i in range(0, len(names), 1000):
            found += pool.map(check, names[i : i + 1000])
            say("checking pictures", len(found), len(names))
    checked = pl.DataFrame(found, schema=CHECKED_SCHEMA, orient="row")
    temporary = partial / ".checked.parquet.writing"
    checked.write_parquet(temporary)
    temporary.replace(kept)
    return checked


def _pictures_dropped(rows: pl.DataFrame) -> pl.DataFrame:
    bad = rows.filter(pl.col("problem") != "")
    return bad.select(
        "id_str",
        "row",
        picture="image",
        reason=pl.lit("picture unusable"),
        detail="problem",
    ).cast(dict(DROPPED_SCHEMA.items()))


def _parts(rows: pl.DataFrame) -> dict[tuple[str, str], pl.DataFrame]:
    """(config, split) -> its rows; splits without rows are left out."""
    parts: dict[tuple[str, str], pl.DataFrame] = {}
    for split in store.SPLITS:
        part = rows.filter(pl.col("split") == split)
        if part.height:
            parts["default", split] = part
            n_tiny = max(TINY_LEAST, round(part.height * TINY_SHARE))
            parts["tiny", split] = part.head(n_tiny)  # rows stand in the order of a hash: the first are a fair sample
    return parts


def _write_shards(
    partial: Path,
    campaign: Campaign,
    table: VoteTable,
    parts: Mapping[tuple[str, str], pl.DataFrame],
    images: Path,
    say: Progress,
) -> None:
    record = schema.record(campaign)
    total, done = sum(part.height for part in parts.values()), 0
    for (config, split), part in parts.items():
        pieces = _pieces(part["bytes"].to_list())
        for i, (start, stop) in enumerate(pieces):
            path = partial / store.shard_name(split, i, len(pieces), config)
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                with store.write_parquet(path, record.arrow()) as writer:
                    for group in _groups(part[start:stop], campaign, table, images, record):
                        writer.write_batch(group)
                        say("writing shards", done + group.num_rows, total)
            done += stop - start
            say("writing shards", done, total)


def _pieces(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Row ranges whose pictures fill a shard each."""
    n = max(1, -(-sum(sizes) // SHARD_BYTES))
    ends = np.searchsorted(np.cumsum(sizes), np.linspace(0, sum(sizes), n + 1)[1:-1]) + 1
    borders = [0, *sorted({int(end) for end in ends} - {len(sizes)}), len(sizes)]
    return list(itertools.pairwise(borders))


def _groups(
    part: pl.DataFrame, campaign: Campaign, table: VoteTable, images: Path, record: schema.Record
) -> Iterator[pa.RecordBatch]:
    """Row groups, each one contiguous batch, so that the same rows always give the same bytes."""
    votes = table.votes
    questions = {column: q for q in campaign.tree.questions for column in (*q.columns, q.total_column)}
    index = {column: i for i, column in enumerate(votes.tree.columns)}
    index_of_total = {question.total_column: i for i, question in enumerate(votes.tree.questions)}
    for start in range(0, part.height, store.ROWS_IN_GROUP):
        rows = part[start : start + store.ROWS_IN_GROUP]
        where = rows["place_in_votes"].to_numpy()
        arrays: list[pa.Array] = []
        for field in record.fields:
            arrow_type = schema.ARROW_TYPES[field.dtype]
            if field.name == "image":
                values = [_picture(images, name, digest) for name, digest in rows.select("image", "sha256").iter_rows()]
            elif field.name in ("id_str", "dataset_name", "ra", "dec"):
                values = rows[field.name].to_list()
            elif field.name == "summary":
                values = [""] * rows.height
            elif field.name in index:
                values = votes.counts[where, index[field.name]]
            elif field.name in index_of_total:
                values = votes.totals[where, index_of_total[field.name]]
            else:
                column = field.name.removesuffix("_fraction")
                assert column in questions
                values = votes.fractions[where, index[column]]
            arrays.append(pa.array(values, arrow_type, from_pandas=False))
        yield pa.record_batch(arrays, schema=record.arrow())


def _picture(images: Path, name: str, digest: str) -> dict[str, object]:
    data = (images / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise PictureError(
            f"{images / name} changed while the dataset was built.", "Pictures that stay as they are.", "Build again."
        )
    return {"bytes": data, "path": Path(name).name}


def _dropped_arrow() -> pa.Schema:
    return pa.schema([(name, pa.int64() if name == "row" else pa.string()) for name in DROPPED_SCHEMA])


def _counted(series: pl.Series) -> dict[str, int]:
    counted = series.value_counts(sort=False).sort(series.name)
    return dict(counted.iter_rows())


def _reasons(dropped: pl.DataFrame) -> str:
    return ", ".join(f"{n} x {reason}" for reason, n in _counted(dropped["reason"]).items())


def _facts(
    campaign: Campaign,
    table: VoteTable,
    rows: pl.DataFrame,
    parts: Mapping[tuple[str, str], pl.DataFrame],
    dropped: pl.DataFrame,
    inputs: Mapping[str, dict[str, str] | None],
) -> dict[str, object]:
    """The manifest, but for the list of files."""
    carried = campaign.carried
    used = table.votes.take(rows["place_in_votes"].to_numpy())
    breaks = used.breaks
    carried_names = {question.name for question in carried.questions}
    per_question = {
        question.name: {
            "n_votes": int(used.totals[:, i].sum()),
            "n_galaxies": int((used.totals[:, i] > 0).sum()),
            "n_breaks": int(breaks[:, i].sum()),
        }
        for i, question in enumerate(used.tree.questions)
        if question.name in carried_names
    }
    dataset_names = sorted(rows["dataset_name"].unique().to_list())
    return {
        "campaign": campaign.name,
        "dataset_names": dataset_names,
        "is_simulated": any(name.endswith(store.SIMULATED) for name in dataset_names),
        "split_scheme": splits.SCHEME,
        "n_rows_in_table": table.n_rows,
        "n_dropped": _counted(dropped["reason"]),
        "n_rows_breaking_tree": int(breaks.any(axis=1).sum()),
        "splits": {
            config: {split: part.height for (one, split), part in parts.items() if one == config}
            for config in ("default", "tiny")
        },
        "picture_bytes": {
            config: {split: int(part["bytes"].sum()) for (one, split), part in parts.items() if one == config}
            for config in ("default", "tiny")
        },
        "picture_sizes": sorted([int(w), int(h)] for w, h in rows.select("width", "height").unique().iter_rows()),
        "questions": per_question,
        "not_collected": [q.name for q in carried.questions if q.name not in table.collected],
        "reach_not_known": list(carried.unreachable),
        "columns_left_out": list(table.left_out)
        + [
            column
            for q in campaign.tree.questions
            if not q.carried and q.name in table.collected
            for column in q.columns
        ],
        "columns": list(schema.record(campaign).names),
        "pyarrow": pa.__version__,
        "inputs": {**inputs, "images": dict(rows.select("image", "sha256").sort("image").iter_rows())},
    }
