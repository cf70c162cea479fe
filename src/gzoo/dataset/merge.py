"""Merging several dataset folders into one with the columns of all their campaigns.

Rows are merged, not sorted (see `gzoo.dataset.streams`). Only identifiers and positions of all rows are in memory at
once (the plan); votes are read some thousand rows at a time, images a hundred. As in a build, finished stages are not
repeated after an interruption: runs, plan and shards are in the folder of the work in progress.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    Plan,
    WrittenShards,
    assemble,
    contiguous,
    dataset_work,
    galaxies_by_question,
    ordered,
    read_plan,
    silent,
    write_documents,
    write_dropped,
    write_frame,
    write_images,
    write_plan,
)
from gzoo.dataset.index import Numbers, locate_images, numbers_of, vote_columns, write_index
from gzoo.dataset.members import Member, open_members, verify_members
from gzoo.dataset.open import reading
from gzoo.dataset.schema import KEY
from gzoo.dataset.shards import ROWS_IN_BLOCK, Layout, labels, versions, write_result
from gzoo.dataset.streams import (
    IMAGE_COLUMNS,
    Merger,
    Stream,
    counts_of,
    n_rows_read,
    planned_rows,
    runs_dropped_path,
    streams_of,
)
from gzoo.dataset.tally import Tally
from gzoo.display import Shown
from gzoo.errors import DatasetError, GZooWarning, InputError
from gzoo.files import Progress
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.reading import DROPPED_SCHEMA
from gzoo.votes.votes import Votes

CELLS = 1 << 24
"""HEALPix nside of the cells, 0.01 arcsec wide, that give matched galaxies a number."""
SAME_GALAXY = pa.schema(
    [("galaxy", pa.int64()), *((name, pa.string()) for name in (*KEY, "split")), ("separation_arcsec", pa.float64())]
)


@dataclass(frozen=True, slots=True, repr=False)
class UnionResult(Shown):
    """Summary of a merged dataset.

    Attributes:
        folder: The dataset folder.
        n_galaxies: Number of rows by split.
        n_of: Number of rows by dataset_name.
        n_shared: Number of galaxies with rows of several dataset names.
        n_repeated: Number of galaxies with several rows, all of one dataset name.
        n_across: Number of pairs of matched rows in different splits; 0 if splits depend on sky position.
        n_dropped: Number of rows that the datasets had dropped, by reason.
        n_galaxies_by_question: Number of galaxies with votes on each question.
        warnings: What is doubtful about the positions, so that matches may have been missed.
    """

    folder: Path
    n_galaxies: Mapping[str, int]
    n_of: Mapping[str, int]
    n_shared: int
    n_repeated: int
    n_across: int
    n_dropped: Mapping[str, int]
    n_galaxies_by_question: Mapping[str, int]
    warnings: tuple[str, ...] = ()


def union(
    datasets: Sequence[Path | str],
    *,
    out: Path | str,
    campaign: Path | str | Campaign | None = None,
    allow_bad_positions: bool = False,
    overwrite: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
) -> UnionResult:
    """Merge datasets into one with the columns of all their campaigns.

    Rows keep their identifiers, votes, split and the bytes of their image. Questions that a campaign does not ask have
    no votes. Summary labels and vote fractions are computed again. Rows of the same galaxy (matched within 2 arcsec)
    are listed in `crossmatch.parquet`. The order of the datasets does not matter.

    Args:
        datasets: Dataset folders to merge, all with the same split scheme: made by gzoo, or copies of published ones.
        out: Dataset folder to create.
        campaign: Campaign of the result, or path of its TOML file: a campaign that merges others, or one whose parts
            are merged. By default `gz_evo`, or the datasets' own campaign if that is defined by a TOML file.
        allow_bad_positions: Go on where more than 10% of a dataset's positions are out of range.
        overwrite: Replace an earlier dataset.
        wait: Wait for another run that writes the same output to end, instead of stopping.
        progress: Function that is called as (stage, done, total).

    Raises:
        NotFoundError: The campaign or a folder does not exist, or a dataset is not finished.
        DatasetError: A folder is not a dataset, or its files differ from its manifest.
        InputError: The datasets do not fit together: different split schemes, simulated and real galaxies, with and
            without images, a repeated row, or a campaign that is not part of the result.
        OutputExistsError: The output folder already exists.
        BusyError: Another run writes the same output, and `wait` is False.
        WriteError: The disk is full or not writable. The same call resumes the merge.
    """
    out, say = Path(out), progress or silent
    warned: list[str] = []
    members, facts = open_members(datasets, out, campaign_of(campaign) if campaign else None)
    files.refuse_occupied(out.absolute(), kind="dataset", overwrite=overwrite)
    members = verify_members(members, say)
    begun = {"command": "union", **facts.to_manifest(), "inputs": [one.digest for one in members], **versions()}
    with dataset_work(out, begun, overwrite, wait, say) as partial:
        work = partial / files.WORK
        if not (partial / files.MANIFEST).is_file():
            streams = [stream for i, member in enumerate(members) for stream in streams_of(work, i, member, say)]
            planned = read_plan(work)
            if planned is None:
                say("Planning shards", 0, 1)
                planned = _plan(work, members, streams, allow_bad_positions)
                say("Planning shards", 1, 1)
            shards, plan = planned
            warned = cast("list[str]", plan["warnings"])
            for text in warned:
                warnings.warn(text, GZooWarning, stacklevel=2)
            job = _Job(
                folder=partial.absolute(),
                campaign=facts,
                has_images=members[0].has_images,
                has_source_id=bool(plan["has_source_id"]),
                shards=shards,
                members=tuple(members),
                streams=tuple(streams),
            )
            say("Writing shards", 0, shards[-1].stop)
            for number, shard in enumerate(shards):
                if not job.result_path(number).is_file():
                    _write_shard(job, number)
                say("Writing shards", shard.stop, shards[-1].stop)
            written = WrittenShards.of(job)
            write_documents(written, _finish(job, written, cast(int, plan["n_across"])))
    manifest = files.read_json(out / files.MANIFEST)
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
        n_galaxies_by_question=galaxies_by_question(manifest),
        warnings=tuple(warned),
    )


# ---- plan ------------------------------------------------------------------------------------------------------------


def _plan(work: Path, members: Sequence[Member], streams: Sequence[Stream], allow_bad: bool) -> Plan:
    """Write the plan, which names the stream of each row, and `same.parquet`, which lists rows of the same galaxy."""
    rows = ordered(pl.concat([planned_rows(i, one, members[one.member]) for i, one in enumerate(streams)])).drop("hash")
    folders = [members[stream.member].folder for stream in streams]
    is_sorted = rows.group_by("stream").agg((pl.col("row").diff().fill_null(1) == 1).all()).sort("stream")
    for number, is_good in is_sorted.iter_rows():
        if not is_good:
            raise DatasetError(
                f"The rows of '{folders[number]}' are not in the order of the hash of their identifiers.",
                "rows in the order in which gzoo writes them.",
                "Rebuild the dataset or copy it again.",
            )
    repeated = rows.filter(rows.select(KEY).is_duplicated()).sort(*KEY, "stream")
    if repeated.height:
        name, id_str = repeated.select(KEY).row(0)
        where = sorted({f"'{folders[number]}'" for number in repeated["stream"][:2]})
        raise InputError(
            f"Row '{id_str}' of {name} occurs twice, in {' and '.join(where)} "
            f"(repeated rows: {repeated.select(KEY).n_unique():,}).",
            "each pair of dataset_name and id_str once.",
            "Omit the dataset that repeats rows of another.",
        )
    if rows.is_empty():
        raise DatasetError(
            "None of the rows has a valid image.", "images in JPEG or PNG format.", "Copy the datasets again."
        )
    number = np.array([stream.member for stream in streams])[rows["stream"].to_numpy()]
    names = [str(member.folder) for member in members]
    ra, dec, warned = sky.read_datasets(
        names, number, rows["ra"].to_numpy(), rows["dec"].to_numpy(), rows["dataset_name"], allow_bad=allow_bad
    )
    same, n_across = _crossmatch(rows.with_columns(ra=pl.Series(ra), dec=pl.Series(dec)))
    write_frame(work / "same.parquet", same)
    has_source_id = bool((rows["source_id"] != "").any())
    return write_plan(work, rows.drop("row"), has_source_id=has_source_id, n_across=n_across, warnings=list(warned))


def _crossmatch(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return rows of the same galaxy as in `crossmatch.parquet`, and the number of pairs in different splits."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    placed = rows.filter(pl.Series(sky.is_position(rows["ra"].to_numpy(), rows["dec"].to_numpy())))
    ra, dec, split = (placed[name].to_numpy() for name in ("ra", "dec", "split_number"))
    pairs = sky.same_galaxies(ra, dec)
    first, second = split[pairs.first], split[pairs.second]
    n_across = int(((first != second) & (np.maximum(first, second) < len(sky.SPLITS))).sum())  # without border
    members, ends = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
    links = coo_array((np.ones(len(pairs)), np.split(ends, 2)), shape=(len(members), len(members)))
    group = connected_components(links, directed=False)[1] if len(members) else members
    names = pl.Series(files.SPLITS).gather(placed["split_number"].cast(pl.UInt32))
    seen = placed.select(*KEY, "ra", "dec", split=names)[members]
    seen = seen.with_columns(group=pl.Series(group, dtype=pl.Int64)).sort("group", *KEY)
    head = seen.select(pl.col("ra", "dec").first().over("group"))
    positions = [frame[name].to_numpy() for frame in (head, seen) for name in ("ra", "dec")]
    seen = seen.with_columns(
        galaxy=pl.Series(sky.cells(positions[0], positions[1], CELLS), dtype=pl.Int64),
        separation_arcsec=pl.Series(sky.separation_arcsec(*positions), dtype=pl.Float64),
    )
    return seen.select(SAME_GALAXY.names).sort("galaxy", *KEY), n_across


# ---- writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Job(Layout):
    members: tuple[Member, ...]
    streams: tuple[Stream, ...]

    def n_before(self, number: int) -> IntArray:
        """Return the number of rows of each stream in earlier shards, shape (stream,)."""
        plan = pl.scan_parquet(self.folder / files.WORK / "plan.parquet", glob=False).select("stream")
        before = plan.slice(0, self.shards[number].start).collect()["stream"].to_numpy()
        return np.bincount(before, minlength=len(self.streams))


def _write_shard(job: _Job, number: int) -> None:
    campaign, record, rows = job.campaign, job.record, job.plan(number)
    tree = campaign.published_tree
    before = job.n_before(number)
    tally = Tally(tree)
    votes = Merger(job.streams, before, lambda one: (one.rows, vote_columns(job.members[one.member].dataset.tree)))
    images = Merger(job.streams, before, lambda one: (one.rows, ["image"]))
    image = pa.schema([("image", schema.IMAGE_TYPE)])
    streams = rows["stream"].to_numpy()
    each = files.ROWS_IN_GROUP if job.has_images else files.ROWS_IN_LARGE_GROUP
    in_block = -(-ROWS_IN_BLOCK // each) * each
    numbers: list[Numbers] = []
    lengths: list[IntArray] = []
    with files.write_parquet(job.shard_path(number), record.arrow()) as writer:
        for first in range(0, rows.height, in_block):
            block = slice(first, first + in_block)
            counted = _next_votes(job, votes, streams[block], tree, tally)
            columns = labels(campaign, record, rows[block], counted)
            if job.has_images:
                numbers.append(numbers_of(tree, counted))
            for start in range(0, columns.num_rows, each):
                part = columns.slice(start, each)
                arrays = list(part.columns)
                if job.has_images:
                    group = streams[first + start : first + start + part.num_rows]
                    arrays.insert(0, contiguous(images.table(group, image).column(0)))
                    lengths.append(pc.call_function("binary_length", [arrays[0].field("bytes")]).to_numpy())
                writer.write_batch(pa.record_batch(arrays, schema=record.arrow()))
    image_bytes = 0
    if job.has_images:
        image_bytes = _write_image_list(job, number, rows, before)
        path = job.shard_path(number)
        locations = locate_images(path, writer.writer.metadata, np.concatenate(lengths))
        write_index(job.index_path(number), path, record, tree, locations, rows, numbers)
    write_result(job, number, tally, image_bytes)


def _next_votes(job: _Job, merger: Merger, streams: IntArray, tree: Tree, tally: Tally) -> Votes:
    """Return the next votes on the questions of the merged dataset, and add what each dataset has to the tally."""
    counts = np.zeros((len(streams), len(tree.columns)), np.int64)
    given: list[tuple[IntArray, int, IntArray]] = []
    rows_of: dict[int, list[IntArray]] = {}
    index = {column: i for i, column in enumerate(tree.columns)}
    index_of_total = {question.total_column: i for i, question in enumerate(tree.questions) if question.multiple}
    for where, number, table in merger.take(streams):
        member = job.streams[number].member
        rows_of.setdefault(member, []).append(where)
        for name, column in counts_of(table, job.members[member].folder).items():
            if name in index:
                counts[where, index[name]] = column.to_numpy()
            elif name in index_of_total:
                given.append((where, index_of_total[name], column.to_numpy()))
    totals = tree.totals(counts)
    for where, i, values in given:
        totals[where, i] = values
    votes = Votes(tree, counts, totals)
    for member, parts in rows_of.items():
        tally.add(replace(votes.take(np.concatenate(parts)), collected_questions=job.members[member].collected))
    return votes


def _write_image_list(job: _Job, number: int, rows: pl.DataFrame, before: IntArray) -> int:
    """Write what the datasets list about the images of a shard; return the total size in bytes."""
    names = tuple(map(str, IMAGE_COLUMNS.names))
    merger = Merger(job.streams, before, lambda stream: ((stream.images,), names))
    found = cast(pl.DataFrame, pl.from_arrow(merger.table(rows["stream"].to_numpy(), IMAGE_COLUMNS)))
    found = rows.select("id_str", "dataset_name").hstack(found).with_columns(problem=pl.lit(""))
    with files.whole_file(job.images_path(number)) as file:
        found.write_parquet(file)
    return int(found["bytes"].sum())


def _finish(job: _Job, written: WrittenShards, n_across: int) -> dict[str, object]:
    """Write all tables except the shards; return the manifest without its list of files."""
    folder, work = job.folder, job.folder / files.WORK
    tree, members = job.campaign.published_tree, job.members
    rows = assemble(written)
    plan = pl.scan_parquet(work / "plan.parquet", glob=False)
    counted = plan.group_by("dataset_name", "split_number", "stream").len().sort("dataset_name", "split_number")
    n_of: dict[str, Counter[str]] = {}
    names_of: list[set[str]] = [set() for _ in members]
    for name, split_number, stream, n in counted.collect().iter_rows():
        n_of.setdefault(name, Counter())[files.SPLITS[split_number]] += n
        names_of[job.streams[stream].member].add(name)
    same = pl.read_parquet(work / "same.parquet", glob=False)
    with files.write_parquet(folder / "crossmatch.parquet", SAME_GALAXY) as writer:
        writer.write_table(same.to_arrow().cast(SAME_GALAXY))
    n_names = same.group_by("galaxy").agg(pl.col("dataset_name").n_unique())["dataset_name"]
    questions = [question.name for question in tree.questions]
    collected = _all(member.collected for member in members)
    asked = _all([one.name for one in member.dataset.tree.questions] for member in members)
    columns = _all(member.dataset.tree.columns for member in members)
    is_decoded = all(bool((member.manifest or {}).get("are_images_decoded")) for member in members)
    return {
        **rows,
        "dataset_names": sorted(n_of),
        "datasets": {name: dict(n) for name, n in sorted(n_of.items())},
        "is_simulated": members[0].dataset.is_simulated,
        "are_images_decoded": is_decoded if job.has_images else None,
        "split_scheme": members[0].scheme,
        "n_split_by_id": sum(member.n_by_id for member in members),
        "n_rows_in_table": sum(
            n_rows_read(work, i) if member.n_in_table is None else member.n_in_table for i, member in enumerate(members)
        ),
        "n_dropped": write_dropped(folder, _dropped(job, names_of), DROPPED_OF_UNION),
        "image_sizes": write_images(written),
        "not_collected": [name for name in questions if name not in collected],
        "not_asked": [name for name in questions if name not in asked],
        "columns_left_out": [],
        "answers_left_out": sorted(columns.difference(tree.columns)),
        "same_galaxies": {
            "n_rows": same.height,
            "n_shared": int((n_names > 1).sum()),
            "n_repeated": int((n_names == 1).sum()),
            "n_across": n_across,
        },
        "inputs": [
            {
                "campaign": member.dataset.campaign.name,
                "dataset_names": sorted(names),
                "manifest": member.dataset.digest if member.manifest else None,
                "files": dict(member.files),
                "not_collected": list(member.dataset.not_collected),
            }
            for member, names in zip(members, names_of, strict=True)
        ],
    }


def _all(parts: Iterable[Iterable[str]]) -> set[str]:
    return {name for part in parts for name in part}


def _dropped(job: _Job, names_of: Sequence[set[str]]) -> pl.DataFrame:
    """Return the rows that the datasets dropped, with the names of each dataset."""
    parts = [pl.DataFrame(schema={**DROPPED_SCHEMA, "dataset_name": pl.String})]
    for number, member in enumerate(job.members):
        path = member.folder / "dropped.parquet"
        if member.manifest is None:
            path = runs_dropped_path(job.folder / files.WORK, number)
        with reading(path):
            table = pq.read_table(path, columns=list(DROPPED_SCHEMA)).cast(DROPPED_ARROW)
        names = pl.lit(", ".join(sorted(names_of[number])))
        parts.append(cast(pl.DataFrame, pl.from_arrow(table)).with_columns(dataset_name=names))
    return pl.concat(parts).sort("dataset_name", "row", "image", "id_str", "reason", "detail", nulls_last=True)
