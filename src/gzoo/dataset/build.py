"""Build: votes (or raw classifications) and images become a dataset folder; nothing is lost without a reason.

A build goes through stages, each of which leaves its result in the folder of the work in progress, so that a build
that was stopped goes on with the stage it was in: votes are read, galaxies matched with their images and put in
order (the plan), shards written (`gzoo.dataset.shards`), and the rest made of what was found on the way.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa

from gzoo import files, sky, zooniverse
from gzoo.dataset import cluster
from gzoo.dataset.finalize import (
    IMAGES_ARROW,
    SHARD_BYTES,
    Made,
    cut,
    remove_work,
    seal,
    settle,
    write_dropped,
    write_frame,
)
from gzoo.dataset.shards import Job, Shard, made_with, write_rows
from gzoo.errors import InputError, NotFoundError, TableError
from gzoo.images.archives import Source, open_source
from gzoo.images.checks import SUFFIXES
from gzoo.sky import identifier_split
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import IntArray
from gzoo.votes.audit import audit_votes
from gzoo.votes.parents import load_solver
from gzoo.votes.votes import DROPPED_SCHEMA, stream_votes
from gzoo.zooniverse.classifications import Ingest

N_AUDITED = 10_000
WITHOUT_VALIDATION = "train,test"
_LISTED_SCHEMA = {"name": pl.String, "bytes": pl.Int64, "source": pl.UInt8}

Progress = Callable[[str, int, int], None]
"""Called as (stage, done, total)."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made.

    Attributes:
        folder: The dataset folder.
        n_galaxies: Rows by split.
        n_dropped: Rows and images left out, by reason.
        n_breaks: Rows in which some question has more votes than the answers that lead to it.
        n_split_by_id: Galaxies whose position is not known, so that their identifier decides their split.
        doubts: What the votes say against the tree or the names of columns (see `gzoo.audit`), by question.
        excluded: Columns of the table that play no part in the dataset.
        ingest: What became of every classification, where votes were counted from an export.
    """

    folder: Path
    n_galaxies: Mapping[str, int]
    n_dropped: Mapping[str, int]
    n_breaks: int
    n_split_by_id: int
    doubts: Mapping[str, str]
    excluded: tuple[str, ...]
    ingest: Ingest | None = None


def build(
    campaign: str,
    *,
    votes: Path | str | None = None,
    images: Path | str | Sequence[Path | str] | None = None,
    out: Path | str,
    no_images: bool = False,
    columns: Path | str | None = None,
    classifications: Path | str | None = None,
    workflows: Path | str | None = None,
    tasks: Path | str | None = None,
    weights: bool = False,
    report: Path | str | None = None,
    split_column: str | None = None,
    splits: str | None = None,
    headers_only: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BuildResult:
    """A dataset folder from votes, or from raw classifications, and images.

    A galaxy's split follows from its place on the sky (`gzoo.sky`), without one from its identifier.
    Rows stand in the order of a hash of their identifier. The same inputs give the same bytes, however many workers
    there are and however often the build was stopped and begun again. JPEG and PNG bytes are those of the source
    files.

    Args:
        campaign: Name of the campaign, whose tree and record the dataset follows.
        votes: Table of whole counts: CSV, Parquet, FITS, VOTable or ECSV.
        images: Folders, tar or zip archives of JPEG, PNG or FITS images.
        out: The folder to make.
        no_images: Make a dataset of votes alone.
        columns: Mapping file, for a table with column names of its own (see GUIDE.md).
        classifications: Zooniverse classification export to count, in place of `votes` (see `gzoo.count`).
        workflows: The workflow export that goes with it.
        tasks: Mapping file of its tasks and answers.
        weights: Whether to write weighted fractions beside the counts, as `weighted.parquet`.
        report: HTML page of what became of every classification, to write.
        split_column: Column of the table that names each galaxy's split, to keep a published one.
        splits: "train,test" for a layout without validation, whose galaxies then join train.
        headers_only: Check only the headers of images, and do not decode them.
        workers: Processes that write shards; 1 for threads of this one.
        scheduler: Address of a Dask scheduler whose workers write shards, all of which reach the same files.
        overwrite: Replace an earlier dataset at `out`.
        progress: Called as the work goes on.

    Raises:
        NotFoundError: The campaign, table or folder is not there.
        MissingExtraError: Workers need Dask.
        TableError: The table cannot be used, or no row is left.
        InputError: Arguments contradict each other.
        OutputExistsError: `out` is taken.
        WriteError: The disk is full or does not let itself be written to. What was begun stays; the same call goes on.
    """
    facts = campaign_of(campaign)
    out = Path(out)
    columns, page = (Path(one) if one else None for one in (columns, report))
    source = _source(votes, columns, classifications, workflows, tasks, weights, page, split_column)
    paths = _image_paths(images, no_images)
    if splits not in (None, WITHOUT_VALIDATION):
        raise InputError(
            f"--splits is '{splits}'.", f"{WITHOUT_VALIDATION}, or nothing for all of them.", "Leave it out."
        )
    if splits and split_column:
        raise InputError(
            "--splits and --split-column are both given.",
            "One of them: a published split stays as it is.",
            "Leave one of them out.",
        )
    if workers < 1:
        raise InputError(f"workers is {workers}.", "A whole number of at least 1.", "Pass a larger one.")
    say = progress or _silent
    if page:
        zooniverse.refuse_occupied(page, overwrite=overwrite)
    files.refuse_occupied(out.absolute(), kind="dataset", overwrite=overwrite)
    say("listing images", 0, 1)
    sources, listed, refused = _listing(paths)
    say("listing images", 1, 1)
    inputs = _inputs(source, columns)
    begun = {
        "command": "build",
        "campaign": campaign,
        **{role: one["sha256"] if one else None for role, one in inputs.items()},
        "weights": weights,
        "images": _digest_of_listing(listed) if sources else None,
        "split_column": split_column,
        "splits": splits,
        "headers_only": headers_only,
        **made_with(),
    }
    with files.told(out), files.work(out, kind="dataset", begun=begun, overwrite=overwrite) as partial:
        work = partial / files.WORK
        work.mkdir(exist_ok=True)
        read = None
        if not isinstance(source, Path):
            read = zooniverse.ingest(source, facts, progress=say)
            zooniverse.write_votes(work / "counted.parquet", read)
        if not (partial / files.MANIFEST).is_file():
            table = _Table.of(
                work,
                source if isinstance(source, Path) else work / "counted.parquet",
                facts,
                columns,
                split_column or "",
                say,
            )
            plan = _Plan.of(work, table, listed if sources else None, refused, splits, say)
            del listed, refused  # of millions of images they are large
            if not plan.shards:
                raise TableError(
                    f"No row of {votes or classifications} is left: {_reasons(_lost(work))}.",
                    "At least one row with whole counts and an image.",
                    "Check that --images is the right folder and that image names fit the table.",
                )
            job = Job(
                folder=partial.absolute(),
                campaign=campaign,
                has_images=bool(sources),
                sources=sources,
                has_source_id=plan.has_source_id,
                is_decoded=not headers_only,
                collected=table.collected,
                made_with=made_with(),
                shards=plan.shards,
            )
            _write_shards(job, workers, scheduler or "", say)
            made = _Made.of(job)
            if not made.n_rows:
                lost = pl.concat([_lost(work), made.unusable()])
                raise TableError(
                    f"No row of {votes or classifications} is left: {_reasons(lost)}.",
                    "At least one row with whole counts and a sound image.",
                    "Check that --images is the right folder and that image names fit the table.",
                )
            manifest = _finish(partial, made, table, plan, inputs, say)
            if read:
                manifest["ingest"] = read.ingest.to_dict()
                if weights:
                    zooniverse.write_weighted(partial / "weighted.parquet", read, made.keys())
            seal(made, manifest)
        remove_work(work)
        manifest = files.read_json(partial / files.MANIFEST)
    if read and page:
        files.write_bytes(page, zooniverse.page(read))
    audit = cast("dict[str, dict[str, object]]", manifest["audit"])
    return BuildResult(
        folder=out,
        n_galaxies=cast("dict[str, dict[str, int]]", manifest["splits"])["default"],
        n_dropped=cast("dict[str, int]", manifest["n_dropped"]),
        n_breaks=cast(int, manifest["n_rows_breaking_tree"]),
        n_split_by_id=cast(int, manifest["n_split_by_id"]),
        doubts={name: str(one["says"]) for name, one in audit.items() if one["is_doubtful"]},
        excluded=tuple(cast("list[str]", manifest["columns_left_out"])),
        ingest=read.ingest if read else None,
    )


# ---- what goes in ----------------------------------------------------------------------------------------------------


def _image_paths(images: Path | str | Sequence[Path | str] | None, no_images: bool) -> list[Path]:
    paths = [Path(images)] if isinstance(images, Path | str) else [Path(one) for one in images or ()]
    if no_images == bool(paths):
        raise InputError(
            "Images are given with --images, and none are wanted." if paths else "There are no images.",
            "--images, or --no-images for a dataset of votes alone.",
            "Leave one of them out." if paths else "Give one of them.",
        )
    return paths


def _listing(paths: Sequence[Path]) -> tuple[tuple[Source, ...], pl.DataFrame, pl.DataFrame]:
    """The sources of images, the files in them (columns `_LISTED_SCHEMA`), and those that are refused."""
    sources: list[Source] = []
    parts = [pl.DataFrame(schema=_LISTED_SCHEMA)]
    lost: list[dict[str, object]] = []
    for i, path in enumerate(paths):
        source, found, refused = open_source(path)
        sources.append(source)
        columns = {"name": list(found), "bytes": list(found.values()), "source": [i] * len(found)}
        parts.append(pl.DataFrame(columns, schema=_LISTED_SCHEMA))
        for name, reason in refused.items():
            row: dict[str, object] = {"id_str": None, "row": None, "image": name, "reason": "image refused"}
            lost.append({**row, "detail": reason})
    listed = pl.concat(parts).sort("name", "source")
    return tuple(sources), listed, pl.DataFrame(lost, schema=DROPPED_SCHEMA)


def _digest_of_listing(listed: pl.DataFrame) -> str:
    digest = hashlib.sha256()
    for row in listed.iter_rows():
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _source(
    votes: Path | str | None,
    columns: Path | None,
    classifications: Path | str | None,
    workflows: Path | str | None,
    tasks: Path | str | None,
    weights: bool,
    report: Path | None,
    split_column: str | None,
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
    if split_column:
        raise InputError(
            "--split-column names a column of a table of votes, and votes are counted from classifications.",
            "--split-column only beside --votes.",
            "Leave it out.",
        )
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


_ROLES = {
    "votes": "vote table",
    "columns": "mapping file",
    "classifications": "classification export",
    "workflows": "workflow export",
    "tasks": "mapping file",
}


def _inputs(source: Path | zooniverse.Source, columns: Path | None) -> dict[str, dict[str, str] | None]:
    """Role -> name and digest of each file that votes come from."""
    if isinstance(source, Path):
        contents = {"votes": source, "columns": columns}
    else:
        contents = {"classifications": source.classifications, "workflows": source.workflows, "tasks": source.tasks}
    for role, path in contents.items():
        if path is not None and not path.is_file():
            raise NotFoundError(f"There is no {_ROLES[role]} {path}.", "A file.", "Check the path.")
    return {
        role: {"name": path.name, "sha256": files.sha256(path)} if path else None for role, path in contents.items()
    }


def _silent(stage: str, done: int, total: int) -> None:
    pass


# ---- stages ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """The vote table, read and cleaned: its votes and rows lie in the folder of the work."""

    n_rows: int
    collected: tuple[str, ...]
    excluded: tuple[str, ...]

    @classmethod
    def of(
        cls, work: Path, path: Path, campaign: Campaign, columns: Path | None, split_column: str, say: Progress
    ) -> _Table:
        kept = work / "table.json"
        if not kept.is_file():
            say("reading votes", 0, 1)
            with (
                files.whole_file(work / "counts.int32") as counts_file,
                files.whole_file(work / "totals.int32") as totals_file,
            ):

                def keep(counts: IntArray, totals: IntArray) -> None:
                    counts_file.write(np.ascontiguousarray(counts, np.int32).data)
                    totals_file.write(np.ascontiguousarray(totals, np.int32).data)

                read = stream_votes(path, campaign, columns, keep, split_column=split_column)
            write_frame(work / "rows.parquet", read.rows)
            write_frame(work / "unusable-rows.parquet", read.dropped)
            files.write_json(kept, asdict(cls(read.n_rows, read.collected, read.excluded)))
            say("reading votes", 1, 1)
        facts = files.read_json(kept)
        texts = (tuple(cast("list[str]", facts[name])) for name in ("collected", "excluded"))
        return cls(cast(int, facts["n_rows"]), *texts)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which galaxies go where: `plan.parquet`, in the order of splits and, within each, of the hash."""

    shards: tuple[Shard, ...]
    scheme: str
    n_by_id: int
    has_source_id: bool
    dataset_names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        work: Path,
        table: _Table,
        listed: pl.DataFrame | None,
        refused: pl.DataFrame,
        sides: str | None,
        say: Progress,
    ) -> _Plan:
        kept = work / "plan.json"
        if not kept.is_file():
            say("planning", 0, 1)
            rows = pl.read_parquet(work / "rows.parquet", glob=False)
            rows, unmatched = _match(rows, listed) if listed is not None else (rows, refused)
            write_frame(work / "unmatched.parquet", pl.concat([unmatched, refused]) if listed is not None else refused)
            rows, scheme, n_by_id = _sided(rows, sides)
            rows = rows.sort("side", "hash", "dataset_name", "id_str").drop("hash")
            write_frame(work / "plan.parquet", rows)
            names = tuple(sorted(rows["dataset_name"].unique().to_list()))
            plan = cls(cut(rows, SHARD_BYTES), scheme, n_by_id, bool((rows["source_id"] != "").any()), names)
            files.write_json(kept, asdict(plan))
            say("planning", 1, 1)
        facts = files.read_json(kept)
        shards = tuple(Shard(**one) for one in cast("list[dict[str, object]]", facts.pop("shards")))  # type: ignore[arg-type]
        names = tuple(cast("list[str]", facts.pop("dataset_names")))
        return cls(shards=shards, dataset_names=names, **facts)  # type: ignore[arg-type]


def _match(rows: pl.DataFrame, listed: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Each row with its image; and everything that has no partner, with the reason."""
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
    lone = matched.filter(pl.col("n") == 1).with_columns(
        image=pl.col("found").list.first(), bytes=pl.col("bytes").list.first(), source=pl.col("source").list.first()
    )
    lost = matched.filter(pl.col("n") != 1)
    wanted = pl.when(is_named).then(pl.col("image")).otherwise(pl.col("id_str") + ".jpg, .jpeg, .png or .fits")
    unmatched = lost.select(
        "id_str",
        "row",
        image=pl.when(is_named).then(pl.col("image")),
        reason=pl.when(pl.col("n") == 0).then(pl.lit("image missing")).otherwise(pl.lit("several images")),
        detail=pl.when(pl.col("n") == 0)
        .then(pl.lit("no file ") + wanted)
        .otherwise(pl.lit("several: ") + pl.col("found").list.join(", ")),
    )
    taken = lone.select("source", name="image")
    alone = images.join(taken, on=["name", "source"], how="anti").select(
        id_str=pl.lit(None, pl.String),
        row=pl.lit(None, pl.Int64),
        image="name",
        reason=pl.lit("no row for this image"),
        detail=pl.lit("the vote table has no usable row for it"),
    )
    return lone.drop("found", "n"), pl.concat([unmatched, alone])


def _sided(rows: pl.DataFrame, wanted: str | None) -> tuple[pl.DataFrame, str, int]:
    """Rows with `hash`, `split` and `side` (the split's place in `files.SPLITS`); the scheme; how many went by id."""
    places = np.array([identifier_split.place(one) for one in rows["id_str"]])
    n_by_id = 0
    if (rows["split"] != "").any():
        sides, scheme = rows["split"].to_numpy().astype(np.str_), identifier_split.PUBLISHED
    else:
        sides, scheme = identifier_split.split_at(places), identifier_split.SCHEME
        ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
        is_known = sky.is_position(ra, dec)
        n_by_id = int((~is_known).sum())
        if is_known.any():
            scheme = sky.SCHEME.name
            sides[is_known] = sky.split(ra[is_known], dec[is_known])
    if wanted == WITHOUT_VALIDATION and scheme != identifier_split.PUBLISHED:
        sides[sides == "validation"], scheme = "train", scheme + identifier_split.WITHOUT_VALIDATION
    order = {name: i for i, name in enumerate(files.SPLITS)}
    split = pl.Series(sides)
    side = split.replace_strict(order, return_dtype=pl.UInt8)
    place = pl.col("row") - 1  # of its votes
    return rows.with_columns(hash=pl.Series(places), split=split, side=side, place=place), scheme, n_by_id


def _write_shards(job: Job, workers: int, scheduler: str, say: Progress) -> None:
    sizes = [shard.stop - shard.start for shard in job.shards]
    missing = [number for number in range(len(sizes)) if not job.facts_path(number).is_file()]
    total = sum(sizes)
    done = total - sum(sizes[number] for number in missing)

    def report(n: int) -> None:
        nonlocal done
        done += n
        say("writing shards", done, total)

    if not missing:
        return
    report(0)
    if scheduler or workers > 1:
        cluster.write_shards(
            job, missing, scheduler=scheduler, workers=workers, done=lambda number: report(sizes[number])
        )
        return
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(1) as closer:
        closer.submit(load_solver)  # for the audit of the votes, which comes last
        closing: Future[None] | None = None
        for number in missing:
            pa.default_memory_pool().release_unused()  # of what went before, to the system
            close = write_rows(job, number, readers, threads, report)
            if closing:
                closing.result()
            closing = closer.submit(close)
        if closing:
            closing.result()


@dataclass(frozen=True)
class _Made(Made):
    """What was found in writing the shards of a build."""

    job: Job

    def images(self, number: int) -> pl.DataFrame:
        """The plan of a shard, with what was found of each image."""
        found = pl.read_parquet(self.job.images_path(number), glob=False)
        return self.job.plan(number).drop("bytes").hstack(found)

    def rows(self, number: int) -> pl.DataFrame:
        """The plan of a shard, of the rows that it holds."""
        is_used = pl.col("problem") == ""
        return self.images(number).filter(is_used) if self.n_unusable(number) else self.job.plan(number)

    def n_unusable(self, number: int) -> int:
        """How many rows were left out of a shard because their image is of no use."""
        shard = self.job.shards[number]
        return shard.stop - shard.start - self.n_of(number)

    def unusable(self) -> pl.DataFrame:
        """Rows left out because their image is of no use, as in `dropped.parquet`."""
        parts = [pl.DataFrame(schema=DROPPED_SCHEMA)]
        for number in filter(self.n_unusable, range(len(self.facts))):
            bad = self.images(number).filter(pl.col("problem") != "")
            reason = pl.lit("image unusable")
            parts.append(bad.select("id_str", "row", image="image", reason=reason, detail="problem"))
        return pl.concat(parts)

    def keys(self, every: int = 1) -> pl.DataFrame:
        """Identifiers of the rows of the dataset, in order: of all, or of one in so many."""
        parts: list[pl.DataFrame] = []
        n_before = 0
        for number in self.names():
            rows = self.rows(number)
            parts.append(rows.select("id_str", "dataset_name", "place").gather_every(every, -n_before % every))
            n_before += rows.height
        return pl.concat(parts)


def _finish(
    partial: Path,
    made: _Made,
    table: _Table,
    plan: _Plan,
    inputs: Mapping[str, dict[str, str] | None],
    say: Progress,
) -> dict[str, object]:
    """Everything but the shards; the manifest, but for the list of files."""
    job = made.job
    campaign = campaign_of(job.campaign)
    facts = settle(made, SHARD_BYTES)
    dropped = pl.concat([_lost(partial / files.WORK), made.unusable()])
    dropped = dropped.sort("row", "image", "reason", "detail", nulls_last=True)
    write_dropped(partial / "dropped.parquet", dropped)
    sizes: set[tuple[int, int]] = set()
    if job.sources:
        sizes = _write_images(partial / "images.parquet", made)
    say("auditing", 0, 1)
    audit = _audit(made)
    say("auditing", 1, 1)
    return {
        **facts,
        "dataset_names": list(plan.dataset_names),
        "is_simulated": any(name.endswith(files.SIMULATED) for name in plan.dataset_names),
        "are_images_decoded": job.is_decoded if job.sources else None,
        "split_scheme": plan.scheme,
        "n_split_by_id": plan.n_by_id,
        "n_rows_in_table": table.n_rows,
        "n_dropped": _counted(dropped["reason"]),
        "image_sizes": sorted([int(w), int(h)] for w, h in sizes),
        "not_asked": [],
        "not_collected": [q.name for q in campaign.published_tree.questions if q.name not in table.collected],
        "columns_left_out": list(table.excluded),
        "answers_left_out": [
            column
            for q in campaign.tree.questions
            if not q.is_published and q.name in table.collected
            for column in q.columns
        ],
        "inputs": dict(inputs),
        "audit": audit,
    }


def _write_images(path: Path, made: _Made) -> set[tuple[int, int]]:
    """What each image is and which file it came from, in the order of the rows; the sizes that occur."""
    sizes: set[tuple[int, int]] = set()
    sources = {i: source.path.name for i, source in enumerate(made.job.sources)}
    with files.write_parquet(path, IMAGES_ARROW) as writer:
        for number in made.names():
            good = made.images(number).filter(pl.col("problem") == "")
            good = good.with_columns(
                image="image", source=pl.col("source").replace_strict(sources, return_dtype=pl.String)
            )
            sizes.update(good.select("width", "height").unique().iter_rows())
            table = good.select(IMAGES_ARROW.names).to_arrow(compat_level=pl.CompatLevel.oldest())
            writer.write_table(table.cast(IMAGES_ARROW).combine_chunks())
    return sizes


def _audit(made: _Made) -> dict[str, object]:
    """What the votes say of the tree; of many galaxies a part is asked, spread evenly over the splits."""
    keys = made.keys(every=-(-made.n_rows // N_AUDITED)).sort("place")
    votes = made.job.votes.take(keys["place"].to_numpy())
    judgements, _ = audit_votes(votes, keys["id_str"])
    return {one.question: one.to_dict() for one in judgements}


def _lost(work: Path) -> pl.DataFrame:
    """Rows and images left out before any image was read, as in `dropped.parquet`."""
    parts = (pl.read_parquet(work / f"{name}.parquet", glob=False) for name in ("unusable-rows", "unmatched"))
    return pl.concat([pl.DataFrame(schema=DROPPED_SCHEMA), *parts])


def _counted(series: pl.Series) -> dict[str, int]:
    counted = series.value_counts(sort=False).sort(series.name)
    return dict(counted.iter_rows())


def _reasons(dropped: pl.DataFrame) -> str:
    return ", ".join(f"{n} x {reason}" for reason, n in _counted(dropped["reason"]).items())
