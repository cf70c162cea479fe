"""Building a dataset folder from images and a vote table or raw classifications.

A build has stages that each leave their result in the folder of the work in progress, so that an interrupted build
resumes with the stage it was in: votes are read, the plan is made (`gzoo.dataset.plan`), shards are written
(`gzoo.dataset.shards`), and they become a dataset folder (`gzoo.dataset.finalize`).
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import polars as pl
import pyarrow as pa

from gzoo import cluster, files, zooniverse
from gzoo.dataset import equal_images
from gzoo.dataset.finalize import (
    WrittenShards,
    assemble,
    count_reasons,
    dataset_work,
    galaxies_by_question,
    read_plan,
    silent,
    write_documents,
    write_dropped,
    write_images,
)
from gzoo.dataset.label_summary import summaries
from gzoo.dataset.plan import (
    WITHOUT_VALIDATION,
    StoredVotes,
    dropped_before_writing,
    misnamed,
    plan_build,
    store_labels,
    store_votes,
)
from gzoo.dataset.shards import Job, versions, write_rows, write_shard
from gzoo.display import Shown
from gzoo.errors import GZooWarning, InputError, NotFoundError, TableError
from gzoo.files import Progress
from gzoo.images.archives import Source, open_source
from gzoo.images.checks import FLAT
from gzoo.images.fits import is_fits
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.votes.audit import audit_votes
from gzoo.votes.label_tables import read_labels
from gzoo.votes.parents import load_solver
from gzoo.votes.reading import DROPPED_SCHEMA
from gzoo.zooniverse.classifications import Ingest

N_AUDITED = 10_000
_LISTED_SCHEMA = {"name": pl.String, "bytes": pl.Int64, "source": pl.UInt8}


@dataclass(frozen=True, slots=True, repr=False)
class BuildResult(Shown):
    """Summary of a new dataset.

    Attributes:
        folder: The dataset folder.
        n_galaxies: Number of rows by split.
        n_dropped: Number of dropped rows and images by reason.
        n_breaks: Number of rows in which a question has more votes than its parent answers.
        n_split_by_id: Number of galaxies without a known position, whose split depends on their identifier.
        doubts: Question -> how its votes contradict the tree or the column names (see `gzoo.audit`).
        excluded: Columns of the table that are not used.
        positions: How positions were read, with what is doubtful; see `gzoo.sky.Positions.to_dict`.
        n_galaxies_by_question: Number of galaxies with votes on each question.
        image_doubts: What is unusual about the images: equal ones, not square, not RGB.
        labels: Column of labels -> number of galaxies of each class, or range of its values; see the manifest.
        ingest: What happened to each classification, if votes were counted from an export.
    """

    folder: Path
    n_galaxies: Mapping[str, int]
    n_dropped: Mapping[str, int]
    n_breaks: int
    n_split_by_id: int
    doubts: Mapping[str, str]
    excluded: tuple[str, ...]
    positions: Mapping[str, object]
    n_galaxies_by_question: Mapping[str, int]
    image_doubts: tuple[str, ...]
    labels: Mapping[str, Mapping[str, object]] = field(default_factory=dict[str, Mapping[str, object]])
    ingest: Ingest | None = None


def build(
    campaign: Path | str | Campaign | None = None,
    *,
    votes: Path | str | None = None,
    labels: Path | str | None = None,
    images: Path | str | Sequence[Path | str] | None = None,
    out: Path | str,
    no_images: bool = False,
    mapping: Path | str | None = None,
    classifications: Path | str | None = None,
    workflows: Path | str | None = None,
    weights: bool = False,
    report: Path | str | None = None,
    split_column: str | None = None,
    splits: str | None = None,
    headers_only: bool = False,
    allow_bad_positions: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    overwrite: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
) -> BuildResult:
    """Build a dataset folder from images and votes or labels.

    The split of a galaxy depends only on its sky position (see `gzoo.sky`), or on its identifier if the position is
    unknown. Rows are in the order of a hash of their identifier. The same inputs give the same bytes, regardless of the
    number of workers and of interruptions. JPEG and PNG images keep the bytes of their source files.

    Args:
        campaign: Name of the campaign, or path of its TOML file, which determines the decision tree and the columns.
            Labels need none.
        votes: Table of vote counts: CSV, Parquet, FITS, VOTable or ECSV.
        labels: Table with the columns `file` and one or more labels, such as `label`, instead of a campaign and votes.
            Text is stored as classes, numbers as numbers.
        images: Folder, tar or zip archive of JPEG, PNG or FITS images; may be a list.
        out: Dataset folder to create.
        no_images: Build a dataset of votes without images.
        mapping: Mapping file: which column of the vote table, or which task of the export, is which question.
        classifications: Zooniverse classification export, instead of a vote table (see `gzoo.count`).
        workflows: Zooniverse workflow export of the same project.
        weights: Also write vote fractions weighted by volunteer, as `weighted.parquet`.
        report: HTML page to write about what happened to each classification.
        split_column: Column of the vote table with the split of each galaxy, to keep a published split.
        splits: `train,test` to merge the validation split into train; by default all splits.
        headers_only: Check only the headers of images instead of decoding them.
        allow_bad_positions: Go on where more than 10% of the positions cannot be read or are out of range.
        workers: Number of processes that write shards. The default, 1, uses threads of this process.
        scheduler: Address of a Dask scheduler whose workers write shards; they must be able to read the same files.
        overwrite: Replace an earlier dataset.
        wait: Wait for another run that writes the same output to end, instead of stopping.
        progress: Function that is called as (stage, done, total).

    Raises:
        NotFoundError: The campaign, a table or a folder does not exist.
        MissingExtraError: Several workers need Dask.
        TableError: The vote table cannot be used, or none of its rows is usable.
        InputError: Arguments contradict each other.
        OutputExistsError: The output folder already exists.
        BusyError: Another run writes the same output, and `wait` is False.
        WriteError: The disk is full or not writable. The same call resumes the build.
    """
    out = Path(out)
    mapping, page = (Path(one) if one else None for one in (mapping, report))
    facts = _campaign(campaign, labels)
    source = _source(votes, labels, mapping, classifications, workflows, weights, page, split_column)
    paths = _image_paths(images, no_images)
    if splits not in (None, WITHOUT_VALIDATION):
        raise InputError(
            f"Invalid value for --splits: '{splits}'.",
            f"'{WITHOUT_VALIDATION}'.",
            "Omit --splits to write train, validation and test.",
        )
    if splits and split_column:
        raise InputError(
            "--splits and --split-column are mutually exclusive, because a published split is not changed.",
            hint="Omit one of the two options.",
        )
    if workers < 1:
        raise InputError(f"workers must be a positive integer, got {workers}.", hint="Pass --workers 1 or more.")
    say = progress or silent
    files.refuse_report(page, (out, votes, classifications, workflows, mapping), overwrite)
    files.refuse_occupied(out.absolute(), kind="dataset", overwrite=overwrite)
    labelled = None
    if labels:
        labelled = read_labels(
            labels, mapping, split_column=split_column or "", allow_bad_positions=allow_bad_positions
        )
        facts = labelled.campaign
    assert facts
    say("Listing images", 0, 1)
    sources, listed, refused = _listing(paths)
    _require_stretch(facts, listed)
    say("Listing images", 1, 1)
    inputs = _inputs(source, mapping, "labels" if labels else "votes")
    begun = {
        "command": "build",
        **facts.to_manifest(),
        **{role: one["sha256"] if one else None for role, one in inputs.items()},
        "weights": weights,
        "images": hashlib.sha256(listed.write_csv().encode()).hexdigest() if sources else None,
        "split_column": split_column,
        "splits": splits,
        "headers_only": headers_only,
        "allow_bad_positions": allow_bad_positions,
        **versions(),
    }
    image_doubts: tuple[str, ...] = ()
    with dataset_work(out, begun, overwrite, wait, say) as partial:
        work = partial / files.WORK
        counted = None
        table_path = source
        if not isinstance(source, Path):
            counted = zooniverse.ingest(source, facts, allow_bad_positions=allow_bad_positions, progress=say)
            table_path = work / "counted.parquet"
            zooniverse.write_votes(table_path, counted)
        if not (partial / files.MANIFEST).is_file():
            if labelled:
                table = store_labels(work, labelled)
            else:
                table = store_votes(
                    work,
                    cast(Path, table_path),
                    facts,
                    None if counted else mapping,
                    split_column or "",
                    say,
                    allow_bad_positions=allow_bad_positions,
                )
            if not counted:  # whose identifiers and positions were read and judged when they were counted
                for text in table.warnings:
                    warnings.warn(text, GZooWarning, stacklevel=2)
            planned = read_plan(work)
            if planned is None:
                say("Planning shards", 0, 1)
                planned = plan_build(work, listed if sources else None, refused, splits)
                say("Planning shards", 1, 1)
            del listed, refused  # they are large if there are millions of images
            shards, plan = planned
            job = Job(
                folder=partial.absolute(),
                campaign=facts,
                has_images=bool(sources),
                sources=sources,
                has_source_id=bool(plan["has_source_id"]),
                is_decoded=not headers_only,
                collected=table.collected,
                versions=versions(),
                shards=shards,
            )
            _write_shards(job, workers, scheduler or "", say)
            written = _BuiltShards.of(job)
            dropped = pl.concat([dropped_before_writing(work), written.unusable()])
            if not written.n_rows:
                for number in range(len(shards)):  # there is nothing in them, and images may be fixed
                    job.result_path(number).unlink()
                reasons = ", ".join(f"{n} x {reason}" for reason, n in count_reasons(dropped).items())
                _, example, hint = misnamed(dropped)
                raise TableError(
                    f"None of the rows of '{votes or labels or classifications}' is usable: {reasons}.",
                    example
                    or f"at least one row with valid {'labels' if labels else 'vote counts'} and a valid image.",
                    hint or "Check that --images names the right folder, and that image names match the table.",
                )
            manifest = _finish(written, table, plan, dropped, inputs, say)
            if counted:
                manifest["ingest"] = counted.ingest.to_dict()
                manifest["positions"] = dict(counted.ingest.positions)
                if weights:
                    zooniverse.write_weighted(partial / "weighted.parquet", counted, written.keys())
            write_documents(written, manifest)
            image_doubts = (*_misnamed(dropped), *written.image_doubts())
    for doubt in image_doubts:
        warnings.warn(GZooWarning(doubt), stacklevel=2)
    if counted and page:
        files.write_bytes(page, zooniverse.page(counted))
    manifest = files.read_json(out / files.MANIFEST)
    audit = cast("dict[str, dict[str, object]]", manifest["audit"])
    return BuildResult(
        folder=out,
        n_galaxies=cast("dict[str, dict[str, int]]", manifest["splits"])["default"],
        n_dropped=cast("dict[str, int]", manifest["n_dropped"]),
        n_breaks=cast(int, manifest["n_rows_breaking_tree"]),
        n_split_by_id=cast(int, manifest["n_split_by_id"]),
        doubts={name: str(one["description"]) for name, one in audit.items() if not one["is_consistent"]},
        excluded=tuple(cast("list[str]", manifest["columns_left_out"])),
        positions=cast("dict[str, object]", manifest["positions"]),
        n_galaxies_by_question=galaxies_by_question(manifest),
        image_doubts=image_doubts,
        labels=cast("dict[str, dict[str, object]]", manifest.get("labels", {})),
        ingest=counted.ingest if counted else None,
    )


# ---- inputs ----------------------------------------------------------------------------------------------------------


def _image_paths(images: Path | str | Sequence[Path | str] | None, no_images: bool) -> list[Path]:
    paths = [Path(images)] if isinstance(images, Path | str) else [Path(one) for one in images or ()]
    if no_images and paths:
        raise InputError("--images and --no-images are mutually exclusive.", hint="Omit one of the two options.")
    if not no_images and not paths:
        raise InputError(
            "Images are missing.", hint="Pass --images, or --no-images to build a dataset of votes without images."
        )
    return paths


def _listing(paths: Sequence[Path]) -> tuple[tuple[Source, ...], pl.DataFrame, pl.DataFrame]:
    """Return the sources of images, their files (columns `_LISTED_SCHEMA`), and files that cannot be used."""
    sources: list[Source] = []
    parts = [pl.DataFrame(schema=_LISTED_SCHEMA)]
    lost: list[dict[str, str]] = []
    for i, path in enumerate(paths):
        source, found, refused = open_source(path)
        sources.append(source)
        columns = {"name": list(found), "bytes": list(found.values()), "source": [i] * len(found)}
        parts.append(pl.DataFrame(columns, schema=_LISTED_SCHEMA))
        lost += [{"image": name, "reason": "image refused", "detail": detail} for name, detail in refused.items()]
    listed = pl.concat(parts).sort("name", "source")
    return tuple(sources), listed, pl.DataFrame(lost, schema=DROPPED_SCHEMA)


def _require_stretch(campaign: Campaign, listed: pl.DataFrame) -> None:
    """Check that FITS images can be shown in colour."""
    first = None if campaign.stretch else next(filter(is_fits, listed["name"]), None)
    if first and campaign.labels:
        raise InputError(
            f"FITS images such as '{first}' need a campaign that defines how they are shown in colour.",
            "JPEG or PNG images for a dataset of labels.",
            "Convert the images, for example with astropy.visualization.make_lupton_rgb.",
        )
    if first:
        raise InputError(
            f"Campaign '{campaign.name}' does not define how FITS images such as '{first}' are shown in colour.",
            "a table [surveys.stretch] in its TOML file.",
            "Add the table, or pass JPEG or PNG images.",
        )


def _campaign(campaign: Path | str | Campaign | None, labels: Path | str | None) -> Campaign | None:
    """Return the campaign of votes; None for labels."""
    if labels is not None and campaign is not None:
        raise InputError(
            f"Campaign '{campaign}' and --labels exclude each other: a dataset of labels has no decision tree.",
            hint="Omit the campaign, or pass its votes with --votes.",
        )
    if campaign is None and labels is None:
        raise InputError(
            "The campaign is missing.",
            "a campaign and its votes, or --labels with a table of labels.",
            "Run `gzoo campaigns` to list the campaigns.",
        )
    return None if campaign is None else campaign_of(campaign)


def _source(
    votes: Path | str | None,
    labels: Path | str | None,
    mapping: Path | None,
    classifications: Path | str | None,
    workflows: Path | str | None,
    weights: bool,
    report: Path | None,
    split_column: str | None,
) -> Path | zooniverse.ExportFiles:
    """Return where votes or labels come from: a table, or an export of classifications."""
    options = {"--votes": votes, "--labels": labels, "--classifications": classifications}
    chosen = [name for name, value in options.items() if value is not None]
    if len(chosen) != 1:
        raise InputError(
            f"{chosen[0]} and {chosen[1]} are mutually exclusive." if chosen else "Votes are missing.",
            hint=f"Omit one of them, such as {chosen[1]}."
            if chosen
            else "Pass --votes TABLE or --classifications EXPORT.",
        )
    for name, value, other, given in (
        ("workflows", workflows, "--classifications", classifications),
        ("weights", weights, "--classifications", classifications),
        ("report", report, "--classifications", classifications),
        ("split-column", split_column, "--votes or --labels", votes or labels),
    ):
        if value and given is None:
            raise InputError(f"--{name} requires {other}.", hint=f"Pass {other}, or omit --{name}.")
    table = votes if votes is not None else labels
    if table is not None:
        return Path(table)
    assert classifications is not None
    return zooniverse.ExportFiles(Path(classifications), Path(workflows) if workflows else None, mapping, weights)


def _inputs(source: Path | zooniverse.ExportFiles, mapping: Path | None, kind: str) -> dict[str, dict[str, str] | None]:
    """Return role -> name and checksum of each file that votes or labels come from; `kind` is that of a table."""
    contents: dict[str, tuple[str, Path | None]]
    if isinstance(source, Path):
        contents = {kind: ("Vote table" if kind == "votes" else "Table of labels", source)}
    else:
        contents = {
            "classifications": ("Classification export", source.classifications),
            "workflows": ("Workflow export", source.workflows),
        }
    contents["mapping"] = ("Mapping file", mapping)
    for role, (title, path) in contents.items():
        if path is not None and not path.is_file():
            raise NotFoundError(f"{title} not found: '{path}'.", hint=f"Check the path passed to --{role}.")
    return {
        role: {"name": path.name, "sha256": files.sha256(path)} if path else None
        for role, (_, path) in contents.items()
    }


def _misnamed(dropped: pl.DataFrame) -> list[str]:
    """Return a sentence about images whose names differ from those in the table."""
    message, example, hint = misnamed(dropped)
    return [f"{message}: expected {example.removeprefix('for example ')} {hint}"] if message else []


# ---- writing ---------------------------------------------------------------------------------------------------------


def _write_shards(job: Job, workers: int, scheduler: str, say: Progress) -> None:
    sizes = [shard.stop - shard.start for shard in job.shards]
    missing = [number for number in range(len(sizes)) if not job.result_path(number).is_file()]
    total = sum(sizes)
    done = total - sum(sizes[number] for number in missing)

    def report(n: int) -> None:
        nonlocal done
        done += n
        say("Writing shards", done, total)

    if not missing:
        return
    report(0)
    if scheduler or workers > 1:
        cluster.run_on_workers(
            write_shard,
            {number: (_for(job, number), number) for number in missing},
            scheduler=scheduler,
            workers=workers,
            done=lambda number: report(sizes[number]),
        )
        return
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(1) as closer:
        closer.submit(load_solver)  # loaded early, for the audit at the end
        closing: Future[None] | None = None
        for number in missing:
            pa.default_memory_pool().release_unused()  # memory of the stage or shard before
            close = write_rows(job, number, readers, threads, report)
            if closing:
                closing.result()
            closing = closer.submit(close)
        if closing:
            closing.result()


def _for(job: Job, number: int) -> Job:
    """Return a job that locates only the images of one shard, because archives may list millions."""
    names: dict[int, list[str]] = {}
    if job.sources:
        for source, name in job.plan(number).select("source", "image").iter_rows():
            names.setdefault(source, []).append(name)
    return replace(job, sources=tuple(one.only(names.get(i, [])) for i, one in enumerate(job.sources)))


@dataclass(frozen=True)
class _BuiltShards(WrittenShards):
    """The shards of a build after all of them were written."""

    job: Job

    def images(self, number: int) -> pl.DataFrame:
        """Return the plan of a shard with what was found out about each image."""
        found = pl.read_parquet(self.job.images_path(number), glob=False)
        names = {i: source.path.name for i, source in enumerate(self.job.sources)}
        source = pl.col("source").replace_strict(names, return_dtype=pl.String)
        return self.job.plan(number).drop("bytes").hstack(found).with_columns(source)

    def rows(self, number: int) -> pl.DataFrame:
        """Return the plan of a shard without rows whose image is not valid."""
        if not self.n_unusable(number):
            return self.job.plan(number)
        return self.images(number).filter(pl.col("problem") == "")

    def n_unusable(self, number: int) -> int:
        """Return the number of rows of a shard whose image is not valid."""
        shard = self.job.shards[number]
        return shard.stop - shard.start - self.n_of(number)

    def unusable(self) -> pl.DataFrame:
        """Return rows whose image is not valid, with the columns of `dropped.parquet`."""
        parts = [pl.DataFrame(schema=DROPPED_SCHEMA)]
        for number in filter(self.n_unusable, range(len(self.results))):
            bad = self.images(number).filter(pl.col("problem") != "")
            is_flat = pl.col("problem").str.starts_with(FLAT)
            reason = pl.when(is_flat).then(pl.lit("image of one colour")).otherwise(pl.lit("image unusable"))
            parts.append(bad.select("id_str", "row", "image", reason=reason, detail="problem"))
        return pl.concat(parts)

    def image_doubts(self) -> tuple[str, ...]:
        """Return what is unusual about the images, in sentences."""
        if not self.job.sources:
            return ()
        parts = [pl.DataFrame(schema={"digest": pl.UInt64})]
        n_wide = n_not_rgb = 0
        for number in self.names():
            images = self.images(number).filter(pl.col("problem") == "")
            n_wide += images.filter(pl.col("width") != pl.col("height")).height
            n_not_rgb += images.filter(~pl.col("is_rgb")).height
            digests = pl.Series("digest", map(equal_images.digest_of, images["sha256"]), pl.UInt64)
            parts.append(images.select("id_str", "dataset_name", "ra", "dec").with_columns(digests))
        found = (
            equal_images.description(equal_images.repeated(pl.concat(parts, how="diagonal"))),
            f"{n_wide:,} images are not square. Models see their central square." if n_wide else "",
            f"{n_not_rgb:,} images are not RGB but grey or with a palette. Models see them as RGB; `datasets` returns "
            "them as they are stored." if n_not_rgb else "",
        )  # fmt: skip
        return tuple(filter(None, found))

    def keys(self, every: int = 1) -> pl.DataFrame:
        """Return identifiers and `vote_row` of each row, or of each `every`-th row, of the dataset in order."""
        parts: list[pl.DataFrame] = []
        n_before = 0
        for number in self.names():
            rows = self.rows(number)
            parts.append(rows.select("id_str", "dataset_name", "vote_row").gather_every(every, -n_before % every))
            n_before += rows.height
        return pl.concat(parts)


def _finish(
    written: _BuiltShards,
    table: StoredVotes,
    plan: Mapping[str, object],
    dropped: pl.DataFrame,
    inputs: Mapping[str, dict[str, str] | None],
    say: Progress,
) -> dict[str, object]:
    """Write all tables except the shards; return the manifest without its list of files."""
    job = written.job
    campaign = job.campaign
    names = cast("list[str]", plan["dataset_names"])
    rows = assemble(written)
    if campaign.labels:
        rows["labels"] = summaries(campaign.labels, [job.folder / name for name in written.names().values()])
    dropped = dropped.sort("row", "image", "reason", "detail", nulls_last=True)
    n_dropped, image_sizes = write_dropped(job.folder, dropped), write_images(written)
    audit: dict[str, object] = {}
    if campaign.tree.questions:
        say("Auditing votes", 0, 1)
        audit = _audit(written)
        say("Auditing votes", 1, 1)
    return {
        **rows,
        "dataset_names": names,
        "is_simulated": any(name.endswith(files.SIMULATED) for name in names),
        "are_images_decoded": job.is_decoded if job.sources else None,
        "split_scheme": plan["scheme"],
        "n_split_by_id": plan["n_by_id"],
        "n_rows_in_table": table.n_rows,
        "n_dropped": n_dropped,
        "image_sizes": image_sizes,
        "not_asked": [],
        "not_collected": [q.name for q in campaign.published_tree.questions if q.name not in table.collected],
        "columns_left_out": list(table.excluded),
        "answers_left_out": [
            column
            for q in campaign.tree.questions
            if not q.is_published and q.name in table.collected
            for column in q.columns
        ],
        "positions": dict(table.positions),
        "inputs": dict(inputs),
        "audit": audit,
    }


def _audit(written: _BuiltShards) -> dict[str, object]:
    """Compare the votes with the tree; of many galaxies, a sample is used that is spread evenly over the splits."""
    keys = written.keys(every=-(-written.n_rows // N_AUDITED)).sort("vote_row")
    votes = written.job.votes.take(keys["vote_row"].to_numpy())
    audits, _ = audit_votes(votes, keys["id_str"])
    return {one.question: one.to_dict() for one in audits}
