"""Uniting: several dataset folders become one, with the columns of all their campaigns.

Rows are merged, not sorted: a folder that gzoo built has its rows in the order of the hash already. A published copy
has not, and is first taken in as sorted runs. Of all rows at once only identifiers and places are in memory (the plan);
votes are read some thousand rows at a time, images a hundred. As in a build, what was done before a stop is not done
again: runs, plan and shards lie in the folder of the work in progress.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gzoo import files, sky
from gzoo.dataset import schema
from gzoo.dataset.finalize import (
    DROPPED_ARROW,
    DROPPED_OF_UNION,
    IMAGES_ARROW,
    SHARD_BYTES,
    Made,
    contiguous,
    cut,
    remove_work,
    seal,
    settle,
    write_frame,
)
from gzoo.dataset.index import Numbers, images_in, numbers_of, vote_columns, write_index
from gzoo.dataset.open import KEY, Dataset, open_dataset
from gzoo.dataset.shards import ROWS_IN_BLOCK, Layout, Shard, Tally, labels, made_with, write_facts
from gzoo.errors import DatasetError, ImageError, InputError
from gzoo.images.checks import check_image
from gzoo.sky import identifier_split
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.votes import DROPPED_SCHEMA, Votes

RUN_BYTES = 100_000_000
ROWS_OF_RUN = 10  # of which a batch is in memory, for each of many runs
CELLS = 1 << 24  # nside of the cells, 0.01 arcsec wide, that number galaxies
SAME_GALAXY = pa.schema(
    [("galaxy", pa.int64()), *((name, pa.string()) for name in (*KEY, "split")), ("separation_arcsec", pa.float64())]
)
_KEYS = {"id_str": pl.String, "dataset_name": pl.String, "source_id": pl.String, "ra": pl.Float64, "dec": pl.Float64}
_FOUND = ("image", "source", "sha256", "source_sha256", "bytes", "width", "height")

Progress = Callable[[str, int, int], None]
"""Called as (stage, done, total)."""


@dataclass(frozen=True, slots=True)
class UnionResult:
    """What a union made.

    Attributes:
        folder: The dataset folder.
        n_galaxies: Rows by split.
        n_of: Rows by dataset_name.
        n_shared: Galaxies with rows of several dataset names.
        n_repeated: Galaxies with several rows, all of one dataset name.
        n_across: Pairs of rows of one galaxy on two sides of the split; never any where the split is by place.
        n_dropped: What the datasets left out of their sources, by reason.
    """

    folder: Path
    n_galaxies: Mapping[str, int]
    n_of: Mapping[str, int]
    n_shared: int
    n_repeated: int
    n_across: int
    n_dropped: Mapping[str, int]


def union(
    campaign: str,
    folders: Sequence[Path | str],
    *,
    out: Path | str,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> UnionResult:
    """A dataset folder of the rows of several, with the columns of all campaigns of a union.

    A row stays a row, with its identifiers, votes, split and the bytes of its image. Questions that its campaign
    never asked have no votes. `summary` and fractions are computed anew. Rows that show the same galaxy (within
    2 arcsec) are listed in `crossmatch.parquet`. The order of the folders changes nothing.

    Args:
        campaign: The union: `gz_evo`, or one campaign whose parts are put together.
        folders: Dataset folders of the union's campaigns, all with the same split scheme: made by gzoo, or copies of
            published ones.
        out: The folder to make.
        overwrite: Replace an earlier dataset at `out`.
        progress: Called as the work goes on.

    Raises:
        NotFoundError: There is no such campaign or folder, or one is not finished.
        DatasetError: A folder is no dataset, or holds other bytes than its manifest says.
        InputError: The folders cannot be one dataset: mixed schemes, simulated and real galaxies, with and without
            images, a row twice, a campaign that is not of the union.
        OutputExistsError: `out` is taken.
        WriteError: The disk is full or does not let itself be written to. What was begun stays; the same call goes on.
    """
    facts, out, say = campaign_of(campaign), Path(out), progress or _silent
    _refuse_twice(folders, out)
    files.refuse_occupied(out.absolute(), kind="dataset", overwrite=overwrite)
    members = [_opened(Path(folder), facts) for folder in folders]
    _refuse_mixed(members)
    members = _verified(members, say)
    digests = [member.digest for member in members]
    begun = {"command": "union", "campaign": campaign, "inputs": digests, **made_with()}
    with files.told(out), files.work(out, kind="dataset", begun=begun, overwrite=overwrite) as partial:
        work = partial / files.WORK
        work.mkdir(exist_ok=True)
        if not (partial / files.MANIFEST).is_file():
            streams = [stream for i, member in enumerate(members) for stream in _streams(work, i, member, say)]
            shards, has_source_id = _planned(work, members, streams, say)
            job = _Job(
                folder=partial.absolute(),
                campaign=campaign,
                has_images=members[0].has_images,
                has_source_id=has_source_id,
                shards=shards,
                members=tuple(members),
                streams=tuple(streams),
            )
            say("writing shards", 0, shards[-1].stop)
            for number, shard in enumerate(shards):
                _write_shard(job, number)
                say("writing shards", shard.stop, shards[-1].stop)
            made = Made.of(job)
            manifest = _finish(job, made, facts)
            seal(made, manifest)
        remove_work(work)
        manifest = files.read_json(partial / files.MANIFEST)
    same = cast("dict[str, int]", manifest["same_galaxies"])
    n_galaxies = cast("dict[str, dict[str, int]]", manifest["splits"])["default"]
    return UnionResult(
        folder=out,
        n_galaxies={split: n_galaxies[split] for split in files.SPLITS if split in n_galaxies},
        n_of={name: sum(n.values()) for name, n in cast("dict[str, dict[str, int]]", manifest["datasets"]).items()},
        n_shared=same["n_shared"],
        n_repeated=same["n_repeated"],
        n_across=same["n_across"],
        n_dropped=cast("dict[str, int]", manifest["n_dropped"]),
    )


def _silent(stage: str, done: int, total: int) -> None:
    pass


# ---- what goes in ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Member:
    """A folder of the union.

    Attributes:
        dataset: Its shards.
        manifest: What its manifest says; None for a published copy.
        scheme: What decides its splits.
        has_images: Whether its rows hold images.
        n_by_id: Rows that are split by identifier.
        n_in_table: Rows of the table that it was built from; None of a published copy.
        files: Sha256 of each file that is read.
        digest: Of all of them, and the campaign: which member this is, wherever it lies.
    """

    dataset: Dataset
    manifest: Mapping[str, object] | None
    scheme: str
    has_images: bool
    n_by_id: int
    n_in_table: int | None
    files: Mapping[str, str]
    digest: str = ""

    @property
    def folder(self) -> Path:
        return self.dataset.folder

    @property
    def collected(self) -> tuple[str, ...]:
        """Questions whose votes it knows."""
        return tuple(one.name for one in self.dataset.tree.questions if one.name not in self.dataset.not_collected)


def _refuse_twice(folders: Sequence[Path | str], out: Path) -> None:
    if not folders:
        raise InputError("There is nothing to unite.", "One or more dataset folders.", "Name them.")
    places = [Path(folder).resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{folder} is named twice.", "Each folder once.", "Leave one of them out.")
        if out.resolve() == place or place in out.resolve().parents:
            raise InputError(
                f"The union shall be written to {out}, which is {folder} or lies in it.",
                "A place outside of the folders that are read.",
                "Choose another --out.",
            )


def _opened(folder: Path, campaign: Campaign) -> _Member:
    is_begun = (folder / files.BEGUN).exists() and not (folder / files.MANIFEST).is_file()
    if is_begun or folder.absolute().name.endswith(".gzoo-partial"):
        raise DatasetError(
            f"{folder} is not finished.", "A finished dataset.", "Run the command that began it again to resume."
        )
    dataset = open_dataset(folder)
    known = (campaign.name, *campaign.members)
    if dataset.campaign.name not in known:
        raise InputError(
            f"{folder} is a dataset of {dataset.campaign.name}, which {campaign.name} has no columns for.",
            f"Datasets of {', '.join(known)}.",
            "Leave it out, or unite under a campaign that knows it.",
        )
    paths = [path for split in dataset.splits for path in files.shards(folder, split)]
    names = [path.relative_to(folder).as_posix() for path in paths]
    if not (folder / files.MANIFEST).is_file():
        with _readable(paths[0]):
            has_images = "image" in pq.read_schema(paths[0]).names
        _refuse_lacking(paths, dataset.tree, has_images)
        return _Member(dataset, None, identifier_split.PUBLISHED, has_images, 0, None, dict.fromkeys(names, ""))
    manifest = files.open_folder(folder)
    try:
        listed = cast("dict[str, dict[str, str]]", manifest["files"])
        has_images, scheme = bool(manifest["has_images"]), str(manifest["split_scheme"])
        n_by_id, n_in_table = (int(cast(int, manifest[name])) for name in ("n_split_by_id", "n_rows_in_table"))
        names += ["dropped.parquet", *["images.parquet"] * has_images]
        digests = {name: str(listed[name]["sha256"]) for name in names}
        strangers = {name for name in listed if name.startswith("data/")}.difference(names)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DatasetError(
            f"{folder / files.MANIFEST} lacks something: {error}.", "What gzoo writes there.", "Build it again."
        ) from error
    if strangers:
        raise DatasetError(
            f"{folder} lacks {min(strangers)}, which its manifest lists.", "All shards.", "Copy or build it again."
        )
    _refuse_lacking(paths, dataset.tree, has_images)
    return _Member(dataset, manifest, scheme, has_images, n_by_id, n_in_table, digests)


def _refuse_lacking(paths: Sequence[Path], tree: Tree, has_images: bool) -> None:
    wanted = ["id_str", *vote_columns(tree), *["image"] * has_images]
    for path in paths:
        with _readable(path):
            known = set(pq.read_schema(path).names)
        for name in wanted:
            if name not in known:
                raise DatasetError(
                    f"{path} has no column {name}.", "The columns of its campaign's dataset.", "Build or copy it again."
                )


def _refuse_mixed(members: Sequence[_Member]) -> None:
    """Folders that cannot be one dataset."""
    first = members[0]
    for other in members[1:]:
        if other.scheme != first.scheme:
            raise InputError(
                f"{first.folder} is split by scheme '{first.scheme}' and {other.folder} by '{other.scheme}'.",
                "One scheme: otherwise the same galaxy could be in train and in test.",
                "Build all of them with the same one.",
            )
        if other.dataset.is_simulated != first.dataset.is_simulated:
            one, two = sorted((first, other), key=lambda member: member.dataset.is_simulated)
            raise InputError(
                f"{two.folder} holds simulated galaxies and {one.folder} real ones.",
                "All of them real, or all simulated.",
                "Leave the simulated ones out.",
            )
        if other.has_images != first.has_images:
            one, two = sorted((first, other), key=lambda member: member.has_images)
            raise InputError(
                f"{two.folder} has images and {one.folder} has none.",
                "All of them with images, or all without.",
                "Build them alike (--images, or --no-images).",
            )


def _verified(members: Sequence[_Member], say: Progress) -> list[_Member]:
    """Members whose files hold what their manifests say, in an order that does not depend on how they were named."""
    wanted = [(i, name) for i, member in enumerate(members) for name in member.files]
    found: list[dict[str, str]] = [{} for _ in members]

    def digest(task: tuple[int, str]) -> str:
        path = members[task[0]].folder / task[1]
        with _readable(path):
            return files.sha256(path)

    say("verifying", 0, len(wanted))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for n, ((i, name), sha256) in enumerate(zip(wanted, pool.map(digest, wanted), strict=True), 1):
            said = members[i].files[name]
            if said not in ("", sha256):
                raise DatasetError(
                    f"{members[i].folder / name} has the sha256 {sha256}, and the manifest says {said}.",
                    "The bytes that were written when the dataset was made.",
                    "Copy or build it again.",
                )
            found[i][name] = sha256
            say("verifying", n, len(wanted))
    verified = [
        replace(
            member,
            files=contents,
            digest=files.digest([member.dataset.campaign.name, contents, member.manifest and member.dataset.digest]),
        )
        for member, contents in zip(members, found, strict=True)
    ]
    verified.sort(key=lambda member: (member.dataset.campaign.name, member.digest))
    for one, other in itertools.pairwise(verified):
        if one.files == other.files:
            raise InputError(
                f"{one.folder} and {other.folder} are copies of one dataset.",
                "Each dataset once.",
                "Leave one of them out.",
            )
    return verified


@contextlib.contextmanager
def _readable(path: Path) -> Generator[None]:
    """Trouble with a file that is read, told apart from trouble with those that are written."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        said = (str(error).splitlines() or ["damaged"])[0]
        raise DatasetError(
            f"{path} cannot be read: {said}", "A file as gzoo or the Hub wrote it.", "Build or copy it again."
        ) from error


# ---- rows in order ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stream:
    """Rows that stand in the order of the union already: of a folder that gzoo built, or a run of another one.

    Attributes:
        member: Whose rows they are.
        rows: Parquet files, one after the other, or an Arrow file: votes and images.
        found: Parquet file that says of each row what its image is; of a run, also what is in the plan.
    """

    member: int
    rows: tuple[Path, ...]
    found: Path


def _streams(work: Path, number: int, member: _Member, say: Progress) -> list[_Stream]:
    if member.manifest is None:
        return _taken_in(work, number, member, say)
    paths = tuple(path for split in member.dataset.splits for path in files.shards(member.folder, split))
    return [_Stream(number, paths, member.folder / "images.parquet")]


def _taken_in(work: Path, number: int, member: _Member, say: Progress) -> list[_Stream]:
    """Runs of a published copy, whose order and images are not known."""
    kept = _taken(work, number)
    tree = member.dataset.tree
    if not kept.is_file():
        lost = [pl.DataFrame(schema=DROPPED_SCHEMA)]
        n_runs = n_done = n_bytes = 0
        parts: list[tuple[pl.DataFrame, pa.Table]] = []
        for split in member.dataset.splits:
            for path in files.shards(member.folder, split):
                for table in _tables(path):
                    found, is_good = _found(table, path, split, member)
                    lost.append(_unusable(found.filter(~is_good)))
                    votes = pa.table(_plain(table.select(vote_columns(tree)), path))
                    if member.has_images:
                        votes = votes.append_column("image", _typed(table, "image", schema.IMAGE_TYPE, path))
                    parts.append((found.filter(is_good), votes.filter(is_good.to_arrow())))
                    n_bytes += parts[-1][1].nbytes
                    n_done += table.num_rows
                    say(f"taking in {member.folder.name}", n_done, n_done)
                    if n_bytes > RUN_BYTES:
                        _write_run(work, number, n_runs, parts)
                        parts, n_bytes, n_runs = [], 0, n_runs + 1
        if parts:
            _write_run(work, number, n_runs, parts)
            n_runs += 1
        write_frame(work / f"taken-{number}.dropped.parquet", pl.concat(lost))
        files.write_json(kept, {"n_runs": n_runs, "n_rows": n_done})
    return [
        _Stream(number, (_run_path(work, number, i),), _run_path(work, number, i).with_suffix(".parquet"))
        for i in range(cast(int, files.read_json(kept)["n_runs"]))
    ]


def _taken(work: Path, number: int) -> Path:
    """There when a published copy is taken in, with the numbers of its rows and runs."""
    return work / f"taken-{number}.json"


def _run_path(work: Path, number: int, i: int) -> Path:
    return work / f"run-{number}-{i:05d}.arrow"


def _write_run(work: Path, number: int, i: int, parts: Sequence[tuple[pl.DataFrame, pa.Table]]) -> None:
    path = _run_path(work, number, i)
    rows = pl.concat([found for found, _ in parts]).with_row_index("place")
    rows = _ordered(rows)
    table = pa.concat_tables([votes for _, votes in parts]).combine_chunks()
    each = ROWS_OF_RUN if "image" in table.column_names else ROWS_IN_BLOCK
    with files.whole_file(path, is_flushed=False) as file, pa.ipc.new_file(file, table.schema) as writer:
        for start in range(0, rows.height, each):
            writer.write_table(table.take(rows["place"][start : start + each].to_arrow()).combine_chunks())
    write_frame(path.with_suffix(".parquet"), rows.drop("place", "hash"))


def _found(table: pa.Table, path: Path, split: str, member: _Member) -> tuple[pl.DataFrame, pl.Series]:
    """What the plan and `images.parquet` say of some rows of a published copy; and which have a sound image."""
    rows = _keys(table, path, member).with_columns(side=pl.lit(files.SPLITS.index(split), pl.UInt8))
    found: list[tuple[str, str, str, str, int, int, int, str]] = []
    if member.has_images:
        images = _typed(table, "image", schema.IMAGE_TYPE, path).combine_chunks()
        for image in images.to_pylist():
            data, name = (image or {}).get("bytes") or b"", (image or {}).get("path") or ""
            sha256 = hashlib.sha256(data).hexdigest()
            try:
                size, problem = check_image(data, is_decoded=False), ""
                found.append((name, path.name, sha256, sha256, len(data), size.width, size.height, problem))
            except ImageError as error:
                found.append((name, path.name, sha256, sha256, len(data), 0, 0, str(error)))
    else:
        found = [("", "", "", "", 0, 0, 0, "")] * rows.height
    types = (pl.String, pl.String, pl.String, pl.String, pl.Int64, pl.Int32, pl.Int32, pl.String)
    names = (*_FOUND, "problem")
    rows = rows.hstack(pl.DataFrame(found, schema=dict(zip(names, types, strict=True)), orient="row"))
    return rows, rows["problem"] == ""


def _unusable(rows: pl.DataFrame) -> pl.DataFrame:
    row, reason = pl.lit(None, pl.Int64), pl.lit("image unusable")
    return rows.select("id_str", "image", row=row, reason=reason, detail="problem").select(*DROPPED_SCHEMA)


def _tables(path: Path) -> Iterator[pa.Table]:
    """The rows of a file of anyone's, a hundred or so at a time."""
    with _readable(path):
        file = pq.ParquetFile(path, buffer_size=1 << 20, page_checksum_verification=True)
    each = files.ROWS_IN_GROUP if "image" in file.schema_arrow.names else files.ROWS_IN_LARGE_GROUP
    with file:
        for i in range(file.num_row_groups):  # one by one, for a reader of several keeps what it has read
            with _readable(path):
                batches = file.iter_batches(each, row_groups=[i])
            while True:
                with _readable(path):
                    batch = next(batches, None)
                if batch is None:
                    break
                yield pa.Table.from_batches([batch])


def _keys(table: pa.Table, path: Path, member: _Member) -> pl.DataFrame:
    """Identifiers and places, columns `_KEYS`, as the union has them where the table has none."""
    missing = {"dataset_name": member.dataset.campaign.name, "source_id": "", "id_str": ""}
    columns: dict[str, pl.Series] = {}
    for name, dtype in _KEYS.items():
        blank = missing.get(name, float("nan"))
        if name not in table.column_names:
            columns[name] = pl.Series([blank], dtype=dtype).new_from_index(0, table.num_rows)
            continue
        arrow = pa.string() if dtype == pl.String else pa.float64()
        columns[name] = cast(pl.Series, pl.from_arrow(_typed(table, name, arrow, path))).cast(dtype).fill_null(blank)
    return pl.DataFrame(columns)


def _typed(table: pa.Table, name: str, dtype: pa.DataType, path: Path) -> pa.ChunkedArray:
    try:
        return table.column(name).cast(dtype)
    except (pa.ArrowException, KeyError) as error:
        kind = table.schema.field(name).type if name in table.column_names else "nothing"
        raise DatasetError(
            f"Column {name} of {path} holds {kind}, which is not {dtype}.",
            "The columns of its campaign's dataset.",
            "Build or copy it again.",
        ) from error


def _plain(table: pa.Table, path: Path) -> dict[str, pa.ChunkedArray]:
    """Whole counts that are 0 or more, by column."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        columns[name] = pc.fill_null(_typed(table, name, pa.int32(), path), 0)
        if table.num_rows and columns[name].to_numpy().min() < 0:
            raise DatasetError(
                f"Column {name} of {path} holds a negative count.", "Numbers of people.", "Build or copy it again."
            )
    return columns


# ---- the plan --------------------------------------------------------------------------------------------------------


def _ordered(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in the order of every dataset folder: by split, and within each by hash; with the hash."""
    places = pl.Series("hash", [identifier_split.place(one) for one in rows["id_str"]], pl.Float64)
    return rows.with_columns(places).sort("side", "hash", "dataset_name", "id_str")


def _planned(
    work: Path, members: Sequence[_Member], streams: Sequence[_Stream], say: Progress
) -> tuple[tuple[Shard, ...], bool]:
    """The shards, and whether any row has a survey's own identifier.

    `plan.parquet` says of each row, in order, which is the next of which stream; `same.parquet` which are one galaxy.
    """
    kept = work / "plan.json"
    if not kept.is_file():
        say("planning", 0, 1)
        rows = pl.concat([_stream_rows(i, stream, members[stream.member]) for i, stream in enumerate(streams)])
        rows = _ordered(rows).drop("hash")
        _refuse_disorder(rows, members, streams)
        _refuse_same_rows(rows, members, streams)
        if rows.is_empty():
            raise DatasetError("No row of the folders has a sound image.", "Images in JPEG or PNG.", "Copy them again.")
        has_source_id = any(
            "source_id" in pq.read_schema(path).names for member in members for path in _first_shard(member)
        )
        same, n_across = _same_galaxies(rows)
        write_frame(work / "same.parquet", same)
        write_frame(work / "plan.parquet", rows.drop("row"))
        shards = cut(rows, SHARD_BYTES)
        files.write_json(
            kept, {"shards": [asdict(one) for one in shards], "has_source_id": has_source_id, "n_across": n_across}
        )
        say("planning", 1, 1)
    facts = files.read_json(kept)
    return (
        tuple(Shard(**one) for one in cast("list[dict[str, object]]", facts["shards"])),  # type: ignore[arg-type]
        bool(facts["has_source_id"]),
    )


def _first_shard(member: _Member) -> list[Path]:
    return files.shards(member.folder, member.dataset.splits[0])[:1]


def _stream_rows(number: int, stream: _Stream, member: _Member) -> pl.DataFrame:
    """Of each row of a stream what the plan says: `side`, `_KEYS`, `bytes` of its image, `stream` and `row`."""
    if member.manifest is None:
        rows = pl.read_parquet(stream.found, columns=["side", *_KEYS, "bytes"], glob=False)
    else:
        parts: list[pl.DataFrame] = []
        for split in member.dataset.splits:
            for path in files.shards(member.folder, split):
                with _readable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
                    table = file.read([name for name in _KEYS if name in file.schema_arrow.names])
                side = pl.lit(files.SPLITS.index(split), pl.UInt8).alias("side")
                parts.append(_keys(table, path, member).select(side, pl.all()))
        rows = pl.concat(parts)
        sizes = pl.repeat(0, rows.height, dtype=pl.Int64, eager=True)
        if member.has_images:
            with _readable(stream.found):
                known = pq.read_schema(stream.found).names
                found = pl.from_arrow(pq.read_table(stream.found, columns=["id_str", "bytes"]))
            assert isinstance(found, pl.DataFrame)
            if not set(IMAGES_ARROW.names) <= set(known) or not found["id_str"].equals(rows["id_str"]):
                raise DatasetError(
                    f"{stream.found} lists other images than the shards hold.",
                    "A line for each row, in the order of the rows.",
                    "Build it again.",
                )
            sizes = found["bytes"]
        rows = rows.with_columns(bytes=sizes)
    return rows.with_columns(stream=pl.lit(number, pl.UInt32)).with_row_index("row")


def _refuse_disorder(rows: pl.DataFrame, members: Sequence[_Member], streams: Sequence[_Stream]) -> None:
    is_sorted = rows.group_by("stream").agg((pl.col("row").diff().fill_null(1) == 1).all()).sort("stream")
    for number, good in is_sorted.iter_rows():
        if not good:
            raise DatasetError(
                f"The rows of {members[streams[number].member].folder} are not in the order of their hash.",
                "Rows as gzoo puts them.",
                "Build it again.",
            )


def _refuse_same_rows(rows: pl.DataFrame, members: Sequence[_Member], streams: Sequence[_Stream]) -> None:
    twice = rows.filter(rows.select(KEY).is_duplicated()).sort(*KEY, "stream")
    if twice.height:
        name, id_str = twice.select(KEY).row(0)
        where = sorted({str(members[streams[number].member].folder) for number in twice["stream"][:2]})
        n = twice.select(KEY).n_unique()
        raise InputError(
            f"Row {id_str} of {name} is there twice, in {' and '.join(where)}; so are {n - 1:,} others.",
            "Each dataset_name and id_str once.",
            "Leave out the folder that repeats the other.",
        )


def _same_galaxies(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Rows that show one galaxy, as in `crossmatch.parquet`; and how many pairs of them are on two sides."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names = pl.Series(files.SPLITS)
    placed = rows.with_row_index("at").filter(pl.Series(sky.is_position(rows["ra"].to_numpy(), rows["dec"].to_numpy())))
    ra, dec, side = (placed[name].to_numpy() for name in ("ra", "dec", "side"))
    pairs = sky.same_galaxies(ra, dec)
    on_side = len(sky.SPLITS)  # border, which comes last, is none
    n_across = int(
        (
            (side[pairs.first] != side[pairs.second]) & (side[pairs.first] < on_side) & (side[pairs.second] < on_side)
        ).sum()
    )
    members, places = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
    links = coo_array((np.ones(len(pairs)), np.split(places, 2)), shape=(len(members), len(members)))
    group = connected_components(links, directed=False)[1] if len(members) else members
    seen = placed.select(*KEY, "ra", "dec", split=names.gather(placed["side"].cast(pl.UInt32)))[members]
    seen = seen.with_columns(group=pl.Series(group, dtype=pl.Int64)).sort("group", *KEY)
    head = seen.select(pl.col("ra", "dec").first().over("group"))
    ends = [frame[name].to_numpy() for frame in (head, seen) for name in ("ra", "dec")]
    seen = seen.with_columns(
        galaxy=pl.Series(sky.cells(ends[0], ends[1], CELLS), dtype=pl.Int64),
        separation_arcsec=pl.Series(sky.separation_arcsec(*ends), dtype=pl.Float64),
    )
    return seen.select(SAME_GALAXY.names).sort("galaxy", *KEY), n_across


# ---- writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Job(Layout):
    members: tuple[_Member, ...]
    streams: tuple[_Stream, ...]

    def numbers_path(self, number: int) -> Path:
        """Votes of a shard that is being written, for its index, which comes when all images have their place."""
        return self.folder / files.WORK / f"shard-{number:05d}.int32"

    def n_before(self, number: int) -> IntArray:
        """How many rows of each stream are in earlier shards."""
        plan = pl.scan_parquet(self.folder / files.WORK / "plan.parquet", glob=False).select("stream")
        before = plan.slice(0, self.shards[number].start).collect()["stream"].to_numpy()
        return np.bincount(before, minlength=len(self.streams))


class _Cursor:
    """Some columns of a stream's rows, one after the other."""

    def __init__(self, paths: Sequence[Path], columns: Sequence[str], n_skipped: int) -> None:
        self._tables = _groups(paths, columns, n_skipped)
        self._rest: list[pa.Table] = []

    def take(self, n: int) -> pa.Table:
        """The next rows."""
        taken: list[pa.Table] = []
        while n:
            table = self._rest.pop() if self._rest else next(self._tables)
            if table.num_rows > n:
                self._rest.append(table.slice(n))
                table = table.slice(0, n)
            taken.append(table)
            n -= table.num_rows
        return pa.concat_tables(taken)


def _groups(paths: Sequence[Path], columns: Sequence[str], n_skipped: int) -> Iterator[pa.Table]:
    """Row group after row group, without the first rows.

    Files are open only while one is read, for there may be more streams than a process may open files.
    """
    for path in paths:
        if path.suffix == ".arrow":  # a run is but one file
            yield from _groups_of_run(path, columns, n_skipped)
            return
        with _readable(path):
            facts = pq.read_metadata(path)
        for i in range(facts.num_row_groups):
            n_rows = facts.row_group(i).num_rows
            if n_rows > n_skipped:
                with _readable(path), pq.ParquetFile(path, metadata=facts, page_checksum_verification=True) as file:
                    table = file.read_row_group(i, columns)
                yield table.slice(n_skipped)
            n_skipped = max(0, n_skipped - n_rows)


def _groups_of_run(path: Path, columns: Sequence[str], n_skipped: int) -> Iterator[pa.Table]:
    i, n = 0, 1
    while i < n:
        with _readable(path), pa.OSFile(str(path)) as source:
            file = pa.ipc.open_file(source)
            n = file.num_record_batches
            if n_skipped:  # all batches but the last have as many rows as the first
                n_rows = file.get_batch(0).num_rows
                i, n_skipped = n_skipped // n_rows, n_skipped % n_rows
            table = pa.Table.from_batches([file.get_batch(i)] if i < n else [], file.schema).select(columns)
        yield table.slice(n_skipped)
        i, n_skipped = i + 1, 0


class _Merge:
    """Rows of all streams in the order of the plan, some columns of them."""

    def __init__(self, job: _Job, before: IntArray, columns: Callable[[_Stream], tuple[Sequence[Path], Sequence[str]]]):
        self._cursors = [_Cursor(*columns(stream), int(n)) for stream, n in zip(job.streams, before, strict=True)]

    def take(self, streams: IntArray) -> Iterator[tuple[IntArray, int, pa.Table]]:
        """The next rows, of which the stream of each is given: where they go, the stream, and what it has of them."""
        for number in np.unique(streams):
            where = np.flatnonzero(streams == number)
            yield where, int(number), self._cursors[number].take(len(where))

    def column(self, streams: IntArray, name: str) -> pa.Array:
        """The next rows of one column, in order."""
        wheres, parts = [], []
        for where, _, table in self.take(streams):
            wheres.append(where)
            parts.append(contiguous(table.column(name)))
        return pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate(wheres))))


def _write_shard(job: _Job, number: int) -> None:
    if job.facts_path(number).is_file():
        return
    campaign, record, rows = campaign_of(job.campaign), job.record, job.plan(number)
    before = job.n_before(number)
    tally = Tally(campaign.published_tree)
    votes = _Merge(job, before, lambda stream: (stream.rows, vote_columns(job.members[stream.member].dataset.tree)))
    images = _Merge(job, before, lambda stream: (stream.rows, ["image"]))
    streams = rows["stream"].to_numpy()
    each = files.ROWS_IN_GROUP if job.has_images else files.ROWS_IN_LARGE_GROUP
    in_block = -(-ROWS_IN_BLOCK // each) * each
    with (
        files.write_parquet(job.shard_path(number), record.arrow()) as writer,
        job.numbers_path(number).open("wb") as numbers,
    ):
        for first in range(0, rows.height, in_block):
            block = slice(first, min(first + in_block, rows.height))
            counted = _votes(job, votes, streams[block], campaign.published_tree, tally)
            said = labels(campaign, record, rows[block], counted)
            if job.has_images:
                numbers_of(campaign.published_tree, counted).tofile(numbers)
            for start in range(block.start, block.stop, each):
                group = slice(start, min(start + each, block.stop))
                part = said.slice(start - first, group.stop - start)
                shown = [images.column(streams[group], "image")] if job.has_images else []
                writer.write_batch(pa.record_batch([*shown, *part.columns], schema=record.arrow()))
    image_bytes = 0
    if job.has_images:
        found = _Merge(job, before, lambda stream: ((stream.found,), _FOUND))
        image_bytes = _write_found(job, number, rows, found)
        shard = job.shard_path(number)
        places = images_in(shard, footer=writer.writer.metadata)
        assert places
        counts = _numbers(job.numbers_path(number), len(vote_columns(campaign.published_tree)))
        write_index(job.index_path(number), shard, record, campaign.published_tree, places, rows, counts)
    job.numbers_path(number).unlink()
    write_facts(job, number, tally, image_bytes)


def _numbers(path: Path, n_columns: int) -> Iterator[Numbers]:
    """Votes that were put aside, some rows at a time."""
    with path.open("rb") as file:
        while len(some := np.fromfile(file, np.int32, ROWS_IN_BLOCK * n_columns)):
            yield some.reshape(-1, n_columns)


def _votes(job: _Job, merge: _Merge, streams: IntArray, tree: Tree, tally: Tally) -> Votes:
    """The next votes, on the questions of the union; counted too, by what each dataset knows."""
    counts = np.zeros((len(streams), len(tree.columns)), np.int64)
    volunteers: list[tuple[IntArray, int, IntArray]] = []
    rows_of: dict[int, list[IntArray]] = {}
    place = {column: i for i, column in enumerate(tree.columns)}
    totals_of = {question.total_column: i for i, question in enumerate(tree.questions) if question.multiple}
    for where, number, table in merge.take(streams):
        member = job.streams[number].member
        rows_of.setdefault(member, []).append(where)
        for name, column in _plain(table, job.members[member].folder).items():
            values = column.to_numpy()
            if name in place:
                counts[where, place[name]] = values
            elif name in totals_of:
                volunteers.append((where, totals_of[name], values))
    totals = tree.totals(counts)
    for where, i, values in volunteers:
        totals[where, i] = values
    votes = Votes(tree, counts, totals)
    for member, parts in rows_of.items():
        tally.add(replace(votes.take(np.concatenate(parts)), collected_questions=job.members[member].collected))
    return votes


def _write_found(job: _Job, number: int, rows: pl.DataFrame, merge: _Merge) -> int:
    """Write what each image of a shard is, as its dataset says; their bytes, together."""
    streams = rows["stream"].to_numpy()
    wheres, parts = [], []
    for where, _, table in merge.take(streams):
        wheres.append(where)
        parts.append(pl.from_arrow(table.select(_FOUND)))
    found = pl.concat(parts, how="vertical_relaxed")[np.argsort(np.concatenate(wheres))]
    found = rows.select("id_str", "dataset_name").hstack(found).with_columns(problem=pl.lit(""))
    with files.whole_file(job.images_path(number)) as file:
        found.write_parquet(file)
    return int(found["bytes"].sum())


def _finish(job: _Job, made: Made, campaign: Campaign) -> dict[str, object]:
    """Everything but the shards; the manifest, but for the list of files."""
    folder, work = job.folder, job.folder / files.WORK
    facts = settle(made, SHARD_BYTES)
    sizes: set[tuple[int, int]] = set()
    if job.has_images:
        with files.write_parquet(folder / "images.parquet", IMAGES_ARROW) as writer:
            for number in made.names():
                found = pl.read_parquet(job.images_path(number), glob=False)
                sizes.update(found.select("width", "height").unique().iter_rows())
                table = found.select(IMAGES_ARROW.names).to_arrow(compat_level=pl.CompatLevel.oldest())
                writer.write_table(table.cast(IMAGES_ARROW).combine_chunks())
    plan = pl.scan_parquet(work / "plan.parquet", glob=False)
    counted = plan.group_by("dataset_name", "side", "stream").len().sort("dataset_name", "side").collect()
    n_of: dict[str, Counter[str]] = {}
    names_of: list[set[str]] = [set() for _ in job.members]
    for name, side, stream, n in counted.iter_rows():
        n_of.setdefault(name, Counter())[files.SPLITS[side]] += n
        names_of[job.streams[stream].member].add(name)
    dropped = _dropped(job, names_of)
    with files.write_parquet(folder / "dropped.parquet", DROPPED_OF_UNION) as writer:
        writer.write_table(dropped.to_arrow().cast(DROPPED_OF_UNION))
    same = pl.read_parquet(work / "same.parquet", glob=False)
    with files.write_parquet(folder / "crossmatch.parquet", SAME_GALAXY) as writer:
        writer.write_table(same.to_arrow().cast(SAME_GALAXY))
    n_names = same.group_by("galaxy").agg(pl.col("dataset_name").n_unique())["dataset_name"]
    collected = {name for member in job.members for name in member.collected}
    asked = {one.name for member in job.members for one in member.dataset.tree.questions}
    carried = [question.name for question in campaign.published_tree.questions]
    columns = {column for member in job.members for column in member.dataset.tree.columns}
    return {
        **facts,
        "dataset_names": sorted(n_of),
        "datasets": {name: dict(n) for name, n in sorted(n_of.items())},
        "is_simulated": job.members[0].dataset.is_simulated,
        "are_images_decoded": all(bool((member.manifest or {}).get("are_images_decoded")) for member in job.members)
        if job.has_images
        else None,
        "split_scheme": job.members[0].scheme,
        "n_split_by_id": sum(member.n_by_id for member in job.members),
        "n_rows_in_table": sum(
            cast(int, files.read_json(_taken(work, i))["n_rows"]) if member.n_in_table is None else member.n_in_table
            for i, member in enumerate(job.members)
        ),
        "n_dropped": dict(dropped["reason"].value_counts(sort=False).sort("reason").iter_rows()),
        "image_sizes": sorted([int(w), int(h)] for w, h in sizes),
        "not_collected": [name for name in carried if name not in collected],
        "not_asked": [name for name in carried if name not in asked],
        "columns_left_out": [],
        "answers_left_out": sorted(columns.difference(campaign.published_tree.columns)),
        "same_galaxies": {
            "n_rows": same.height,
            "n_shared": int((n_names > 1).sum()),
            "n_repeated": int((n_names == 1).sum()),
            "n_across": cast(int, files.read_json(work / "plan.json")["n_across"]),
        },
        "inputs": [
            {
                "campaign": member.dataset.campaign.name,
                "dataset_names": sorted(names),
                "manifest": member.dataset.digest if member.manifest else None,
                "files": dict(member.files),
                "not_collected": list(member.dataset.not_collected),
            }
            for member, names in zip(job.members, names_of, strict=True)
        ],
    }


def _dropped(job: _Job, names_of: Sequence[set[str]]) -> pl.DataFrame:
    """What the datasets left out, as they say, and which of them."""
    parts = [pl.DataFrame(schema={**DROPPED_SCHEMA, "dataset_name": pl.String})]
    for number, member in enumerate(job.members):
        path = member.folder / "dropped.parquet"
        if member.manifest is None:
            path = job.folder / files.WORK / f"taken-{number}.dropped.parquet"
        with _readable(path):
            found = pl.from_arrow(pq.read_table(path, columns=list(DROPPED_SCHEMA)).cast(DROPPED_ARROW))
        assert isinstance(found, pl.DataFrame)
        parts.append(found.with_columns(dataset_name=pl.lit(", ".join(sorted(names_of[number])))))
    return pl.concat(parts).sort("dataset_name", "row", "image", "id_str", "reason", "detail", nulls_last=True)
