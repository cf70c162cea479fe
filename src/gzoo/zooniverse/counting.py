"""Aggregation of an export of classifications to a table of votes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from gzoo import files
from gzoo.display import Sheet, Shown
from gzoo.errors import InputError, TableError
from gzoo.files import Progress
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import FloatArray
from gzoo.votes.votes import Votes
from gzoo.zooniverse import consistency
from gzoo.zooniverse.classifications import Classifications, Ingest
from gzoo.zooniverse.export_mapping import all_workflows, propose
from gzoo.zooniverse.reading import read_classifications
from gzoo.zooniverse.tasks import Tasks

VOTES, VOLUNTEERS = "vote table", "list of volunteers"
QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class ExportFiles:
    """The files of an export, and how to count them.

    Attributes:
        classifications: The classification export, CSV or JSON lines.
        workflows: The workflow export; not needed for JSON lines.
        mapping: The mapping file; if None, the proposed mapping is used, provided that nothing is left to confirm.
        weights: Whether volunteers are weighted.
    """

    classifications: Path
    workflows: Path | None = None
    mapping: Path | None = None
    weights: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class CountResult(Shown):
    """Result of `count`.

    Attributes:
        out: The table of votes.
        n_galaxies: Number of its rows.
        ingest: Summary of how every row of the export was counted or excluded.
    """

    out: Path
    n_galaxies: int
    ingest: Ingest

    def to_dict(self) -> dict[str, object]:
        """Return the entries of `ingest`, and the path of the table, as JSON values."""
        return {"out": str(self.out), **self.ingest.to_dict()}

    def sheet(self) -> Sheet:
        """Return what became of every row."""
        counted = self.ingest.sheet()
        return replace(counted, facts={"table": f"{self.out} ({self.n_galaxies:,} galaxies)", **counted.facts})


@dataclass(frozen=True)
class IngestResult:
    """Content of an export.

    Attributes:
        classifications: The classifications that are used.
        votes: Their vote counts.
        weights: Weight of each volunteer, or None.
        bots: Volunteers that are probably automated accounts.
        ingest: Summary of how every row was counted or excluded.
    """

    classifications: Classifications
    votes: Votes
    weights: FloatArray | None
    bots: consistency.Bots
    ingest: Ingest

    @property
    def is_simulated(self) -> bool:
        """Whether any galaxy is simulated."""
        return bool(self.classifications.galaxies["dataset_name"].str.ends_with(files.SIMULATED).any())


def count(
    campaign: Path | str | Campaign,
    *,
    classifications: Path | str,
    workflows: Path | str | None = None,
    out: Path | str,
    mapping: Path | str | None = None,
    weights: bool = False,
    report: Path | str | None = None,
    volunteers: Path | str | None = None,
    allow_bad_positions: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CountResult:
    """Aggregate a Zooniverse export of classifications to a vote table.

    Every row of the export, and every annotation, is either counted or listed under the rule that excluded it. Bots are
    reported but counted: which volunteers to exclude is a decision for the team.

    Args:
        campaign: Name of the campaign, or path of its TOML file.
        classifications: Zooniverse classification export as CSV, or JSON lines with one response per line.
        workflows: Zooniverse workflow export, CSV or JSON. Not needed for JSON lines.
        out: Parquet file to write, with `id_str`, `dataset_name`, the position, a vote count for each answer and, with
            `weights`, `{answer}_weighted_fraction` and `{question}_effective-votes`.
        mapping: Mapping file of tasks and answers (see `gzoo mapping`). Optional if their labels match the decision
            tree without doubt.
        weights: Add weighted vote fractions (Willett et al. 2013; see `gzoo.zooniverse.consistency`).
        report: HTML report to write. It contains no data about single volunteers.
        volunteers: CSV file to write with one row per volunteer. It contains names and must not be published.
        allow_bad_positions: Go on where more than 10% of the subjects' positions cannot be read or are out of range.
        overwrite: Replace earlier results.
        progress: Function called as (stage, done, total).

    Raises:
        NotFoundError: A file or the campaign does not exist.
        TableError: A file cannot be read, or no classification can be used.
        InputError: The proposed mapping must be confirmed, and no mapping file was passed.
        OutputExistsError: An output file already exists.
    """
    facts = campaign_of(campaign)
    target = Path(out)
    inputs = (classifications, workflows, mapping)
    files.refuse_file(target, VOTES, (".parquet",), overwrite=overwrite, inputs=inputs)
    files.refuse_report(report, inputs, overwrite)
    if volunteers is not None:
        files.refuse_file(
            Path(volunteers), VOLUNTEERS, (".csv",), overwrite=overwrite, inputs=inputs, option="--volunteers"
        )
    optional = [Path(one) if one else None for one in (workflows, mapping)]
    found = ingest(
        ExportFiles(Path(classifications), *optional, weights=weights),
        facts,
        allow_bad_positions=allow_bad_positions,
        progress=progress,
    )
    write_votes(target, found)
    if report is not None:
        files.write_bytes(Path(report), page(found))
    if volunteers is not None:
        files.write_bytes(Path(volunteers), volunteers_list(found).encode())
    return CountResult(target, len(found.votes), found.ingest)


def ingest(
    source: ExportFiles, campaign: Campaign, *, allow_bad_positions: bool = False, progress: Progress | None = None
) -> IngestResult:
    """Count the votes in an export.

    Args:
        source: The files of the export.
        campaign: The campaign that the classifications belong to.
        allow_bad_positions: Whether to go on where more than 10% of the positions cannot be used.
        progress: Function called as (stage, done, total).

    Raises:
        NotFoundError: A file does not exist.
        TableError: A file cannot be read, or no classification can be used.
        InputError: The proposed mapping must be confirmed, and no mapping file was passed.
    """
    workflows = all_workflows(source.classifications, source.workflows)
    tasks = _tasks(source, campaign)
    read, account = read_classifications(
        source.classifications, workflows, campaign, tasks, progress, allow_bad_positions=allow_bad_positions
    )
    if progress:
        progress("Detecting bots", 0, 1)
    votes, bots, weights = read.votes(), consistency.bots(read), None
    about_weights: dict[str, float] = {}
    if source.weights:
        weights = np.where(bots.any, 0.0, consistency.consistency_weights(read))
        about_weights = {
            "mean_weight": float(weights.mean()),
            "fraction_of_volunteers_at_full_weight": float((weights >= 1.0).mean()),
            "fraction_of_classifications_at_full_weight": float((weights[read.volunteer] >= 1.0).mean()),
        }
    if progress:
        progress("Detecting bots", 1, 1)
    n = read.n_of_volunteer
    n_top = max(1, round(len(n) / 10))
    names = [question.name for question in read.tree.questions]
    inputs = {"classifications": source.classifications, "workflows": source.workflows, "mapping": source.mapping}
    summary = Ingest(
        **account,
        n_used=len(read),
        n_galaxies=read.galaxies.height,
        n_votes_of=dict(zip(names, votes.totals.sum(axis=0).tolist(), strict=True)),
        n_galaxies_of=dict(zip(names, (votes.totals > 0).sum(axis=0).tolist(), strict=True)),
        n_volunteers=len(read.names),
        n_anonymous=int(read.is_anonymous.sum()),
        gini=round(consistency.gini(n), 4),
        fraction_by_top_decile=round(float(np.sort(n)[-n_top:].sum() / n.sum()), 4),
        classifications_per_volunteer={str(q): int(np.quantile(n, q, method="inverted_cdf")) for q in QUANTILES},
        n_suspicious={name: int(flag.sum()) for name, flag in bots.flags.items()} | {"any": int(bots.any.sum())},
        weights=about_weights,
        files={role: {"name": path.name, "sha256": files.sha256(path)} for role, path in inputs.items() if path},
    )
    return IngestResult(read, votes, weights, bots, summary)


def _tasks(source: ExportFiles, campaign: Campaign) -> Tasks:
    if source.mapping is not None:
        tasks = Tasks.read(source.mapping, campaign.tree)
        if not tasks.entries:
            raise TableError(
                f"Mapping file '{source.mapping}' maps no task.",
                "at least one [[task]] table.",
                "Recreate the file with `gzoo mapping`.",
            )
        return tasks
    tasks = propose(source.classifications, source.workflows, campaign)
    if not tasks.is_complete:
        given = f" --workflows {source.workflows}" if source.workflows else ""
        raise InputError(
            f"The proposed mapping of '{source.classifications}' must be confirmed: {'; '.join(tasks.doubts[:3])}"
            f"{' ...' if len(tasks.doubts) > 3 else ''}.",
            "a confirmed mapping file.",
            f"Run `gzoo mapping {source.classifications} {campaign.source}{given} --out mapping.toml`, review the "
            "file, and pass it with --mapping.",
        )
    return tasks


def votes_table(found: IngestResult) -> pa.Table:
    """Return one row per galaxy: identifiers, position, vote counts, and weighted fractions if there are weights."""
    read = found.classifications
    texts = {name: pa.array(read.galaxies[name].to_list(), pa.string()) for name in read.galaxies.columns[:4]}
    texts["filename"] = texts.pop("image")
    always = ("id_str", "dataset_name")
    columns = {name: text for name, text in texts.items() if name in always or any(text.to_pylist())}
    columns |= {name: pa.array(read.galaxies[name].to_numpy(), pa.float64()) for name in ("ra", "dec")}
    for i, column in enumerate(read.tree.columns):
        columns[column] = pa.array(found.votes.counts[:, i], pa.int32())
    for i, question in enumerate(read.tree.questions):
        if question.multiple:
            columns[question.total_column] = pa.array(found.votes.totals[:, i], pa.int32())
    return pa.table(columns | _weighted(found))


def _weighted(found: IngestResult) -> dict[str, pa.Array]:
    if found.weights is None:
        return {}
    tree = found.classifications.tree
    names = [f"{column}_weighted_fraction" for column in tree.columns]
    names += [f"{question.name}_effective-votes" for question in tree.questions]
    values = np.concatenate(found.classifications.weighted(found.weights), axis=1)
    return {name: pa.array(values[:, i], pa.float32()) for i, name in enumerate(names)}


def write_votes(path: Path, found: IngestResult) -> None:
    """Write the table of votes as Parquet."""
    table = votes_table(found)
    _write(path, table.replace_schema_metadata({"gzoo": json.dumps({"kind": VOTES})}))


def write_weighted(path: Path, found: IngestResult, galaxies: pl.DataFrame) -> None:
    """Write the weighted fractions of some galaxies as Parquet.

    Args:
        path: The file to write.
        found: The content of the export.
        galaxies: The galaxies and their order, columns `id_str` and `dataset_name`.
    """
    names = ["id_str", "dataset_name"]
    known = {name: pa.array(found.classifications.galaxies[name].to_list(), pa.string()) for name in names}
    table = galaxies.join(pl.DataFrame(pa.table(known | _weighted(found))), on=names, how="left", maintain_order="left")
    _write(path, table.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks())


def _write(path: Path, table: pa.Table) -> None:
    with files.write_parquet(path, table.schema) as writer:
        writer.write_table(table)


def page(found: IngestResult) -> bytes:
    """Return the report of an ingest as an HTML page, without data about single volunteers."""
    from gzoo.reports.ingest import ingest_page

    return ingest_page(found)


def volunteers_list(found: IngestResult) -> str:
    """Return one row per volunteer as CSV. It contains names, and is for the team only."""
    read = found.classifications
    pace = pl.DataFrame({"volunteer": read.volunteer, "pace": read.seconds_per_answer}).fill_nan(None)
    flags = list(found.bots.flags.items())
    frame = pl.DataFrame(
        {
            "volunteer": read.names,
            "n_classifications": read.n_of_volunteer,
            "is_anonymous": read.is_anonymous,
            "seconds_per_answer": pace.group_by("volunteer").median().sort("volunteer")["pace"].fill_null(np.nan),
            "consistency": consistency.consistency(read, read.weighted(np.ones(len(read.names)))[0]),
            "weight": found.weights if found.weights is not None else np.full(len(read.names), np.nan),
            "rules": ["; ".join(name for name, flag in flags if flag[i]) for i in range(len(read.names))],
        }
    )
    # Spreadsheets run names that begin with these characters as formulas.
    is_formula = pl.col("volunteer").str.contains(r"^[=+\-@\t\r]")
    safe = pl.when(is_formula).then("'" + pl.col("volunteer")).otherwise("volunteer")
    return frame.with_columns(volunteer=safe).sort("n_classifications", descending=True).write_csv(float_precision=4)
